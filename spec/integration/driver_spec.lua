--- Whole upgrades with the driver safe-upgrade.py, played by a stand-in.
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

local SCRIPT = helper.read("spec/fixtures/safe_upgrade/safe-upgrade.py")
local DRIVER = { "--driver", "safe-upgrade.py" }

describe("An upgrade with the driver safe-upgrade.py", function()
  local s

  before_each(function()
    s = tiny.new({ second = { ["scripts/safe-upgrade.py"] = SCRIPT } })
  end)
  after_each(helper.clean)

  local function upgrade(...) return tiny.upgrade(s, { DRIVER[1], DRIVER[2], ... }) end

  it("does what its dry run announced, and can be rolled back", function()
    local before = tiny.snapshot(s)
    local dry = upgrade("--dry-run")
    assert.equal(0, dry.code, dry.stderr)
    assert.same(before, tiny.snapshot(s))
    local planned = tiny.event(dry, "plan")
    assert.equal("safe-upgrade.py", planned.driver)
    local done = upgrade("--plan", planned.hash)
    assert.equal(0, done.code, done.last.message)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("phase 2\n", tiny.read(s, "workflows/flow/phase.md"))
    assert.equal("retired\n", tiny.read(s, "standards/universal/testing/retired.md"))
    assert.is_nil(require("lfs").attributes(s.target .. "/UPGRADE_LOG.txt"))
    assert.equal("nothing_to_do", upgrade().last.status)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    assert.same(before, tiny.snapshot(s))
  end)

  it("applies nothing while a conflict is open, and then what was decided", function()
    tiny.write(s, tiny.GUIDE, "guide, mine\n")
    local before = tiny.snapshot(s)
    local open = upgrade("--yes")
    assert.equal(4, open.code)
    assert.equal(tiny.GUIDE, tiny.event(open, "conflict").path)
    assert.same(before, tiny.snapshot(s))
    assert.equal(0, upgrade("--on-conflict", "theirs").code)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
  end)

  it("is refused, and has changed nothing, when the script crashes", function()
    tiny.commit(s, { ["VERSION.txt"] = "Current Version: 2.0.0+crash\n" })
    local before = tiny.snapshot(s)
    local result = upgrade()
    assert.equal(3, result.code)
    assert.matches("cannot drive this upgrade: its run crashed: .*as it was told",
      result.last.message)
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
    assert.same({}, tiny.sessions(s))
    assert.equal(0, tiny.upgrade(s).code) -- the built-in driver does not need it
  end)
end)
