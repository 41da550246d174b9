local clock = require("praxlua.clock")

local SECOND = 1000000000

describe("clock", function()
  it("writes an instant in UTC, to the second", function()
    local ns = 1759919400 * SECOND + 999999999
    assert.equal("2025-10-08T10:30:00Z", clock.iso(ns))
    assert.equal("2025-10-08-103000", clock.stamp(ns))
    assert.equal("2025-10-08 10:30:00", clock.log(ns))
    assert.equal("2025-10-08", clock.date(ns))
  end)

  it("reads what it wrote", function()
    for _, seconds in ipairs({ 0, 951782400, 1709164800, 1735689599, 4102444800, -86400 }) do
      assert.equal(seconds * SECOND, clock.parse(clock.iso(seconds * SECOND)))
    end
  end)

  it("reads fractions and offsets", function()
    local base = 1759919400 * SECOND
    assert.equal(base + 123456000, clock.parse("2025-10-08T10:30:00.123456Z"))
    assert.equal(base, clock.parse("2025-10-08T12:30:00+02:00"))
    assert.equal(base, clock.parse("2025-10-08T05:00:00-0530"))
    assert.equal(base + 1, clock.parse("2025-10-08T10:30:00.000000001+00:00"))
  end)

  it("refuses what names no instant", function()
    for _, text in ipairs({
      "", "2025-10-08", "2025-10-08T10:30:00", "2025-13-01T00:00:00Z", "2025-02-29T00:00:00Z",
      "2025-04-31T00:00:00Z", "2025-01-01T24:00:00Z", "2025-01-01T00:60:00Z",
      "2025-00-01T00:00:00Z", "2025-01-01T00:00:00+25:00", "2025-01-01T00:00:00.Z",
      "2025-01-01T00:00:00.1234567890Z",
      "2025-01-01T00:00:00Zx",
    }) do
      local ns, message, code = clock.parse(text)
      assert.is_nil(ns, text)
      assert.equal("EINVAL", code)
      assert.truthy(message:find("ISO 8601", 1, true))
    end
    assert.is_nil((clock.parse(nil)))
    assert.truthy(clock.parse("2024-02-29T00:00:00Z"))
    assert.is_nil((clock.parse("1900-02-29T00:00:00Z")))
  end)

  it("writes durations for people", function()
    for seconds, want in pairs({
      [0] = "0 ms", [0.034] = "34 ms", [1.24] = "1.2 s", [59.94] = "59.9 s", [59.96] = "1 min 0 s",
      [75] = "1 min 15 s", [3599.4] = "59 min 59 s", [3600] = "1 h 0 min", [7380] = "2 h 3 min",
      [-1] = "0 ms", [0.9999] = "1.0 s",
    }) do
      assert.equal(want, clock.seconds(seconds))
    end
  end)
end)
