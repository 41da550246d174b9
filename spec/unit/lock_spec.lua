--- core.lock: one holder, whoever it is and however it ends.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local lock = core.lock

-- Takes the lock, says so, and waits to be killed.
local HOLDER = [[
local held = assert(core.lock.acquire(%q))
print(core.system.pid())
core.system.sleep(60)
held:release()
]]

describe("core.lock", function()
  local directory, descriptors
  before_each(function()
    directory = helper.tempdir()
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  it("is held until it is released, and can be taken again", function()
    local first = assert(lock.acquire(directory))
    assert.is_true(first:held())
    first:release()
    assert.is_false(first:held())
    first:release()
    local second = assert(lock.acquire(directory))
    assert.is_true(second:held())
    second:release()
  end)

  it("excludes a second handle of the same process", function()
    local first <close> = assert(lock.acquire(directory))
    local second, message, code = lock.acquire(directory)
    assert.is_nil(second)
    assert.equal("EBUSY", code)
    assert.truthy(message:find(directory, 1, true))
    assert.is_true(first:held())
  end)

  it("names the process that holds it, and nobody when it is free", function()
    helper.fails("ESRCH", lock.holder(directory))
    local running = child.start(HOLDER:format(directory))
    assert.equal(running.pid, lock.holder(directory))
    helper.fails("ESRCH", lock.holder(helper.tempdir()))
    running.kill()
    helper.fails("ESRCH", lock.holder(directory))
    local own <close> = assert(lock.acquire(directory))
    assert.is_true(own:held())
    assert.equal(core.system.pid(), lock.holder(directory))
    helper.fails("ENOENT", lock.holder(directory .. "/missing"))
  end)

  it("gives a second process EBUSY", function()
    local held <close> = assert(lock.acquire(directory))
    local ask = ("print((select(3, core.lock.acquire(%q))))"):format(directory)
    assert.equal("EBUSY\n", (child.run(ask)))
    held:release()
    assert.equal("nil\n", (child.run(ask)))
  end)

  it("is free as soon as its holder was killed", function()
    local holder = child.start(HOLDER:format(directory))
    assert.equal("EBUSY", select(3, lock.acquire(directory)))
    holder.kill("KILL")
    local held <close> = assert(lock.acquire(directory))
    assert.is_true(held:held())
  end)

  it("is not inherited by a child that outlives its holder", function()
    local holder = child.start([[
      local held = assert(core.lock.acquire("]] .. directory .. [["))
      print(core.system.pid())
      os.execute("sleep 60 >/dev/null 2>&1 & echo $!")
      core.system.sleep(60)
      held:release()
    ]])
    local orphan = tonumber(holder.line())
    holder.kill("KILL")
    assert.is_not_nil(core.system.process(orphan))
    local held = lock.acquire(directory)
    os.execute("kill -KILL " .. orphan)
    assert.is_not_nil(held)
    held:release()
    assert(command.until_true(function() return not core.system.process(orphan) end, 10))
  end)

  it("is released at the end of a <close> variable and by collection", function()
    do
      local first <close> = assert(lock.acquire(directory))
      assert.is_true(first:held())
    end
    assert(lock.acquire(directory))
    collectgarbage()
    local third <close> = assert(lock.acquire(directory))
    assert.is_true(third:held())
  end)

  it("is the directory's, whatever path leads to it", function()
    assert(os.execute(("ln -s . %s/link"):format(directory)))
    local held <close> = assert(lock.acquire(directory .. "/link"))
    assert.is_true(held:held())
    assert.equal("EBUSY", select(3, lock.acquire(directory .. "/.")))
  end)

  it("of a directory that was moved away does not hold for its successor", function()
    local place = directory .. "/target"
    assert(os.execute("mkdir " .. place))
    local old <close> = assert(lock.acquire(place))
    assert(os.execute(("mv %s %s.old && mkdir %s"):format(place, place, place)))
    local new <close> = assert(lock.acquire(place))
    assert.equal("EBUSY", select(3, lock.acquire(place .. ".old")))
    assert.is_true(old:held() and new:held())
  end)

  it("is that of the directory that has the name, if that is exchanged just then", function()
    local place = directory .. "/target"
    assert(os.execute("mkdir " .. place))
    -- Half a second between opening the directory and locking it.
    local holder = child.start(([[
      print(core.system.pid())
      local held = assert(core.lock.acquire(%q))
      print("held")
      core.system.sleep(60)
      held:release()
    ]]):format(place), child.injected("flock:delay_enter=500000:when=1"))
    local opened = holder.has_opened(place)
    assert(os.execute(("mv %s %s.old && mkdir %s"):format(place, place, place)))
    assert.equal("held", holder.line())
    local first, second = lock.test(place .. ".old"), lock.test(place)
    core.system.signal(holder.pid, "KILL")
    holder.finish()
    assert.is_true(opened)
    assert.is_false(first)
    assert.is_true(second)
  end)

  it("needs a directory that is there", function()
    helper.write(directory .. "/file", "")
    assert.equal("ENOENT", select(3, lock.acquire(directory .. "/none")))
    assert.equal("ENOTDIR", select(3, lock.acquire(directory .. "/file")))
    assert.equal("ENOENT", select(3, lock.test(directory .. "/none")))
  end)

  it("leaves nothing in the directory", function()
    local held <close> = assert(lock.acquire(directory))
    assert.is_true(held:held())
    assert.same({}, core.tree.list(directory))
  end)

  describe("test", function()
    it("tells whether somebody holds it, without taking it", function()
      assert.is_false(lock.test(directory))
      assert.is_false(lock.test(directory))
      local held = assert(lock.acquire(directory))
      assert.is_true(lock.test(directory))
      held:release()
      local holder = child.start(HOLDER:format(directory))
      assert.is_true(lock.test(directory))
      holder.kill("KILL")
      assert.is_false(lock.test(directory))
    end)

    it("is taken for a holder neither by acquire nor by another test", function()
      local tester = child.start(([[
        print(core.system.pid())
        while true do core.lock.test(%q) end
      ]]):format(directory))
      local busy, seen, rounds = 0, 0, 0
      local deadline = core.system.monotonic() + 0.5
      repeat
        local held = lock.acquire(directory)
        if held then held:release() else busy = busy + 1 end
        if lock.test(directory) then seen = seen + 1 end
        rounds = rounds + 1
      until core.system.monotonic() > deadline and rounds > 1000
      tester.kill("KILL")
      assert.same({ 0, 0 }, { busy, seen })
    end)
  end)
end)
