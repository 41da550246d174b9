--- How far workers are confined, and what is demanded.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local isolation = require("praxlua.isolation")
local tiny = require("spec.support.tiny")

describe("isolation", function()
  after_each(function()
    isolation.demand(nil)
    helper.clean()
  end)

  it("has four levels, and says why it is not full", function()
    assert.same({ "full" }, { isolation.level(nil, nil) })
    local level, why = isolation.level(nil, "EOPNOTSUPP")
    assert.equal("seccomp", level)
    assert.equal("Landlock does not hold: it is switched off in the kernel (its boot parameter "
      .. "lsm=)", why)
    level, why = isolation.level("EPERM", nil)
    assert.equal("landlock", level)
    assert.matches("^seccomp does not hold: whoever started praxlua", why)
    level, why = isolation.level("EINVAL", "EBADF")
    assert.equal("process", level)
    assert.equal("seccomp does not hold: the kernel does not know it; Landlock does not hold: "
      .. "the kernel says EBADF", why)
  end)

  -- A worker whose layers came to this.
  local function with_layers(seccomp, landlock)
    local start = core.worker.start
    finally(function() core.worker.start = start end)
    core.worker.start = function(...)
      local worker, message, code = start(...)
      if not worker then return nil, message, code end
      return worker, seccomp, landlock
    end
  end

  it("refuses a worker below what is demanded", function()
    with_layers("EPERM", nil)
    for demanded, ok in pairs({ process = true, landlock = true, seccomp = false, full = false }) do
      isolation.demand(demanded)
      local worker, level, code = isolation.start({})
      assert.equal(ok, worker ~= nil, demanded)
      if ok then
        assert.equal("landlock", level)
        worker:stop()
      else
        assert.equal("EISOLATION", code)
        assert.matches("confined only as far as 'landlock' here, and at least '" .. demanded
          .. "' is demanded: seccomp does not hold", level)
      end
    end
    assert.has_error(function() isolation.demand("much") end)
    assert.equal("landlock", (isolation.measure()))
  end)

  describe("of an upgrade", function()
    local s
    before_each(function() s = tiny.new() end)

    it("is in the session, the events and the report", function()
      local level = assert(isolation.measure())
      local result = tiny.upgrade(s, {})
      assert.equal(0, result.code, result.stderr)
      assert.equal(level, tiny.event(result, "phase_completed", "content-upgrade").isolation)
      local _, session = next(tiny.sessions(s))
      assert.equal(6, #session.metadata.phases)
      for _, phase in ipairs(session.metadata.phases) do assert.equal(level, phase.isolation) end
      assert.equal(level, tiny.event(result, "report").report.phases[3].isolation)
    end)

    it("is refused below --min-isolation, without a trace", function()
      local exact = tiny.exact(s)
      s.executable = s.executable:gsub("praxlua$", "sandbox/praxlua-unconfined")
      local result = tiny.upgrade(s, { "--min-isolation", "landlock" })
      assert.equal(3, result.code)
      assert.matches("confined only as far as 'process' here", result.last.message)
      assert.matches("praxlua doctor", result.last.next)
      assert.same(exact, tiny.exact(s))
      local doctor = tiny.json(s, { "doctor" })
      assert.equal(0, doctor.code)
      assert.truthy(doctor.stdout:find("process: seccomp does not hold: this build is one for "
        .. "tests", 1, true), doctor.stdout)
      helper.write(s.root .. "/looks.lua",
        "local p = { title = 'x' } function p.run() end return p")
      for _, words in ipairs({ { "rehearse", "--source", s.source },
        { "run", s.root .. "/looks.lua" } }) do
        assert.equal(0, tiny.json(s, words).code)
        words[#words + 1], words[#words + 2] = "--min-isolation", "landlock"
        local other = tiny.json(s, words)
        assert.truthy(other.code ~= 0, other.stdout)
        assert.matches("confined only as far as 'process' here", other.last.message)
        assert.matches("praxlua doctor", other.last.next)
      end
      assert.equal(2, tiny.upgrade(s, { "--min-isolation", "some" }).code)
      assert.equal(0, tiny.upgrade(s, {}).code)
    end)

    it("is refused below it by praxlua run, too", function()
      local file = tiny.phase(s, "noop", "return { title = 'x', run = function() end }")
        .. "/noop.lua"
      s.executable = s.executable:gsub("praxlua$", "sandbox/praxlua-unconfined")
      local result = tiny.json(s, { "run", file, "--min-isolation", "full" })
      assert.equal(3, result.code)
      assert.matches("confined only as far as 'process' here", result.last.message)
      assert.matches("praxlua doctor", result.last.next)
      assert.equal(0, tiny.json(s, { "run", file, "--min-isolation", "process" }).code)
    end)
  end)
end)
