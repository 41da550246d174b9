--- core.transaction: histories made by chance, with a fault in the middle and another one in the
-- recovery: a rewind ends exactly at the last checkpoint, a rollback where it all began.
local child = require("spec.support.child")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")

local HISTORIES = 30

-- Changes a tree in batches and writes down, at each checkpoint, how it is then.
local HISTORY = [[
  math.randomseed(%d)
  local t = assert(kit.open(root, true))
  local c = require("praxlua.change").new(t, root, root .. "/" .. kit.PATH)
  local helper = require("spec.support.helper")
  local PATHS = { "a", "b", "d/x", "d", "e/z" }
  local ACTIONS = {
    function(path) c.put(path, { data = tostring(math.random(3)) }) end,
    function(path) c.put(path, { data = "x" }, { mode = 384 }) end,
    function(path) c.put(path, { data = tostring(math.random(99)) }) end,
    function(path) c.symlink(path, "to" .. math.random(2)) end,
    function(path) c.remove(path) end,
    function(path) c.mkdir(path, { mode = 448 }) end,
    function(path) c.rmdir(path) end,
  }
  for number = 1, math.random(3, 8) do
    for _ = 1, math.random(4) do ACTIONS[math.random(#ACTIONS)](PATHS[math.random(#PATHS)]) end
    c.apply()
    if math.random(3) == 1 then
      helper.write(("%%s/../%%d"):format(root, number), kit.portrait(root))
      assert(t:checkpoint(tostring(number)))
    end
  end
]]

local RECOVERY = [[
  local t = kit.open(root)
  if t and t:last_checkpoint() and t:status() == "open" then t:rewind() end
  if t and %s then t:rollback() end
]]

local CALLS = { "renameat2", "renameat", "linkat", "unlinkat", "mkdirat", "write", "fsync",
  "syncfs", "symlinkat", "fchmod" }

-- For child.run: one of the calls fails, or ends the process.
local function fault(most)
  local call = CALLS[math.random(#CALLS)]
  local how = math.random(3) == 1 and "error=EIO" or "signal=KILL"
  local at = math.random(call == "write" and 3 * most or most)
  local what = ("%s:%s:when=%d"):format(call, how, at)
  -- Now and then on a file system that can only rename.
  if call ~= "renameat2" and math.random(4) == 1 then
    what = what .. " -e inject=renameat2:error=EINVAL -e trace=" .. call .. ",renameat2"
  end
  return what
end

describe("core.transaction", function()
  after_each(helper.clean)

  it("comes back from histories made by chance #uncounted", function()
    local random = math.random(2 ^ 40)
    for seed = 1, HISTORIES do
      math.randomseed(seed)
      local base = kit.directory()
      local root = base .. "/root"
      helper.tree(root, { a = "old a", ["d/x"] = "old x", ["e/z"] = "old z" })
      kit.sh("ln -s old %s/b && chmod 750 %s/e", root, root)
      local before = kit.portrait(root)
      local faults = { fault(40), fault(16) }
      local what = ("history %d, %s, then %s"):format(seed, faults[1], faults[2])
      kit.run(HISTORY:format(seed), root, child.injected(faults[1]))
      kit.run(RECOVERY:format(math.random(2) == 1), root, child.injected(faults[2]))

      local t <close>, message, code = kit.open(root)
      if t and t:last_checkpoint() and t:status() == "open" then
        assert.same({}, t:rewind(), what)
        assert.equal(helper.read(base .. "/" .. t:last_checkpoint()), kit.portrait(root), what)
      end
      if t then
        assert.same({}, t:rollback(), what)
        assert.same({}, t:rescue(), what)
      else
        assert.equal("ENOENT", code, what .. ": " .. tostring(message))
      end
      assert.equal(before, kit.portrait(root), what)
    end
    math.randomseed(random)
  end)
end)
