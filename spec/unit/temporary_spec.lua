--- praxlua.temporary: private folders, and those that killed runs have left.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local USES = [[
local temporary = require("praxlua.temporary")
print(core.system.pid())
]]

local HOLDS = USES .. [[
temporary.within(function(folder)
  assert(core.file.write_new(folder .. "/mine", "x"))
  print(folder)
  core.system.sleep(60)
end)
]]

describe("temporary", function()
  local place, before

  before_each(function()
    place = helper.tempdir()
    before = "exec env TMPDIR=" .. command.quote(place)
  end)
  after_each(helper.clean)

  local function names()
    local found = {}
    for name in lfs.dir(place) do
      if not name:find("^%.%.?$") then found[#found + 1] = name end
    end
    table.sort(found)
    return found
  end

  local function sweep()
    local output, ok = child.run(USES .. "temporary.sweep()", before)
    assert.is_true(ok, output)
  end

  it("is a folder of our own that goes afterwards, after an error too", function()
    local output, ok = child.run(USES .. [[
      local function use(folder)
        local stat = core.file.stat(folder)
        print(("%o"):format(stat.mode), stat.uid == core.system.euid())
        core.file.write_new(folder .. "/file", "x")
        return 1, nil, 3
      end
      print(temporary.within(use))
      print(pcall(temporary.within, function(folder) use(folder) error("mine", 0) end))
    ]], before)
    assert.is_true(ok, output)
    assert.equal("700\ttrue\n1\tnil\t3\n700\ttrue\nfalse\tmine\n", output:match("^%d+\n(.*)$"))
    assert.same({}, names())
  end)

  it("of a killed run is swept, and that of one that works is not", function()
    local running = child.start(HOLDS, before)
    local folder = running.line()
    sweep()
    assert.equal("x", helper.read(folder .. "/mine"))
    running.kill()
    assert.equal("x", helper.read(folder .. "/mine"))
    sweep()
    assert.same({}, names())
  end)

  it("is all that is swept", function()
    local outside = helper.tempdir()
    helper.write(outside .. "/file", "x")
    local id = core.system.uuid()
    helper.write(place .. "/praxlua-work-" .. id .. ".txt", "x")
    helper.write(place .. "/praxlua-other-" .. id .. "/file", "x")
    helper.write(place .. "/praxlua-work-" .. core.system.uuid(), "x")
    assert(lfs.link(outside, place .. "/praxlua-work-" .. core.system.uuid(), true))
    local there = names()
    sweep()
    assert.same(there, names())
    assert.equal("x", helper.read(outside .. "/file"))
  end)

  it("is another one where somebody sweeps just when it was made", function()
    local output, ok = child.run(USES .. [[
      local acquire, taken = core.lock.acquire, {}
      core.lock.acquire = function(folder)
        if #taken == 2 then return acquire(folder) end
        taken[#taken + 1] = folder
        core.tree.remove(folder)
        return acquire(folder)
      end
      print(temporary.within(function(folder)
        return folder ~= taken[1] and folder ~= taken[2] and core.file.exists(folder)
      end), #taken)
    ]], before)
    assert.is_true(ok, output)
    assert.equal("true\t2\n", output:match("^%d+\n(.*)$"))
    assert.same({}, names())
  end)
end)
