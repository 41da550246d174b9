local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local trace = require("praxlua.trace")

local OLD = 1234567890123456789 -- ns

describe("trace", function()
  local target

  before_each(function() target = helper.tempdir() .. "/target" end)
  after_each(helper.clean)

  local function times()
    local found = {}
    for _, name in ipairs({ "", "/.cache", "/.cache/state", "/.backups" }) do
      local stat = core.file.stat(target .. name)
      found[name] = stat and stat.mtime or false
    end
    return found
  end

  local function make(...)
    for _, name in ipairs({ "", ... }) do
      helper.write(target .. name .. "/x", "x")
      assert(core.file.set_mtime(target .. name, OLD))
    end
    assert(core.file.set_mtime(target, OLD))
  end

  -- As a session does that turns out to have nothing to do.
  local function come_and_go()
    helper.write(target .. "/.cache/state/session.json", "{}")
    helper.write(target .. "/.backups/.partial/x", "x")
    assert(os.remove(target .. "/.backups/.partial/x"))
    assert(lfs.rmdir(target .. "/.backups/.partial"))
    assert(os.remove(target .. "/.cache/state/session.json"))
  end

  it("removes the folders that were not there", function()
    make()
    local noted = trace.note(target)
    come_and_go()
    trace.erase(noted)
    assert.same({
      [""] = OLD, ["/.cache"] = false, ["/.cache/state"] = false, ["/.backups"] = false,
    }, times())
  end)

  it("gives the ones that were there their times back, to the nanosecond", function()
    make("/.cache", "/.cache/state", "/.backups")
    assert(core.file.set_mtime(target .. "/.cache", OLD))
    local before = times()
    local noted = trace.note(target)
    come_and_go()
    assert.not_same(before, times())
    trace.erase(noted)
    assert.same(before, times())
  end)

  it("leaves a folder alone in which somebody else made or removed something", function()
    make("/.cache", "/.backups")
    assert(core.file.set_mtime(target, OLD))
    local noted = trace.note(target)
    come_and_go()
    helper.write(target .. "/.cache/state/other.json", "{}")
    helper.write(target .. "/.cache/other", "")
    assert(os.remove(target .. "/.backups/x"))
    local before = times()
    trace.erase(noted)
    local after = times()
    assert.equal("{}", helper.read(target .. "/.cache/state/other.json"))
    assert.equal(before["/.cache"], after["/.cache"])
    assert.equal(before["/.backups"], after["/.backups"])
  end)

  it("does not mind what is gone, and never removes what is no folder of its own", function()
    make("/.cache")
    helper.write(target .. "/.backups", "somebody's file\n")
    local noted = trace.note(target)
    assert(core.tree.remove(target .. "/.cache"))
    trace.erase(noted)
    assert.equal("somebody's file\n", helper.read(target .. "/.backups"))
    assert.is_nil(core.file.stat(target .. "/.cache"))
  end)
end)
