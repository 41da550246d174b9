--- core.transaction and a person who saves files while it works: at the very moment of a switch,
-- and into files that are in its folder by then. Nothing they wrote is lost, and they are told.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")

local KEPT = ".kept-0123abcd"

describe("core.transaction, while somebody saves files,", function()
  local root, folder, descriptors
  before_each(function()
    root = kit.directory() .. "/root"
    folder = root .. "/" .. kit.PATH
    assert(core.file.mkdir(root))
    helper.write(root .. "/f", "old")
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  local function read(path) return helper.read(root .. "/" .. path) end
  local function exists(path) return core.file.exists(root .. "/" .. path) end
  local function sh(line) kit.sh("cd %s && { %s; }", root, line) end

  -- Everything in the tree but the transaction: path=content, in order.
  local function listing()
    local all = {}
    for _, entry in ipairs(assert(core.tree.list(root, { skip = { [".px"] = true } }))) do
      local content = entry.type == "file" and read(entry.path) or entry.target or entry.type
      all[#all + 1] = entry.path .. "=" .. content
    end
    table.sort(all)
    return table.concat(all, " ")
  end

  -- Runs `code` with one system call (its name and the number of the time) held back for a while
  -- at its beginning, and a shell script just then. `reached` tells when the code has come there.
  local function meanwhile(code, call, script, reached)
    local running = child.start(([[
      package.path = "./?.lua;" .. package.path
      local kit = require("spec.support.transaction_kit")
      print(core.system.pid())
      local root = %q
    ]]):format(root) .. code, child.injected((call:gsub(" (%d)$", ":delay_enter=600000:when=%1"))))
    assert(command.until_true(reached, 20))
    core.system.sleep(0.15)
    sh(script)
    local output = running.line()
    running.finish()
    return output
  end

  local function journal_size() return #(helper.read(folder .. "/journal") or "") end

  describe("just as they are switched in,", function()
    local APPLY = [[
      local t <close> = assert(kit.open(root, true))
      %s
      local ok, _, code = t:apply()
      print(ok or code)
    ]]
    -- The first two renameat(2) note how far the transaction has come (runtime/reached.c).
    -- What is queued, the call that does it, what somebody does just then, and what is there.
    local cases = {
      ["a file saved by a rename"] = { [[assert(t:put("f", { data = "new" }))]], "renameat2 1",
        "printf theirs > t; mv t f", "f=theirs" },
      ["a file saved by way of a backup"] = { [[assert(t:put("f", { data = "new" }))]],
        "renameat2 1", "mv f f~; printf theirs > f", "f=theirs f~=old" },
      ["a file that is a folder now"] = { [[assert(t:put("f", { data = "new" }))]], "renameat2 1",
        "rm f; mkdir f; printf theirs > f/g", "f/g=theirs f=directory" },
      ["a file that is gone"] = { [[assert(t:put("f", { data = "new" }))]], "renameat2 1",
        "mv f elsewhere", "elsewhere=old" },
      ["a file to be removed"] = { [[assert(t:remove("f"))]], "renameat 3",
        "printf theirs > t; mv t f", "f=theirs" },
      ["a file to be removed that is gone"] = { [[assert(t:remove("f"))]], "renameat 3",
        "mv f elsewhere", "elsewhere=old" },
      ["a file to be a link"] = { [[assert(t:symlink("f", "new"))]], "renameat2 1",
        "printf theirs > t; mv t f", "f=theirs" },
      ["a new file"] = { [[assert(t:put("n", { data = "new" }))]], "renameat2 1",
        "printf theirs > n", "f=old n=theirs" },
    }
    local function is_noted() -- the batch is: the switch is next
      return journal_size() > 32 + 4 + 4 + #"__pycache__" -- bytes of the journal's first record
    end
    for what, case in pairs(cases) do
      it("finds " .. what .. ", and leaves it #uncounted", function()
        local queue, call, script, expected = table.unpack(case)
        assert.equal("ECHANGED", meanwhile(APPLY:format(queue), call, script, is_noted))
        assert.equal(expected, listing())
        local t <close> = assert(kit.open(root))
        assert.same({}, t:rollback())
        assert.same({}, t:rescue())
        assert.equal(expected, listing())
      end)
    end

    it("finds a file in a folder that is to go, which stays then #uncounted", function()
      assert(core.file.mkdir(root .. "/d"))
      local code = meanwhile(APPLY:format([[assert(t:rmdir("d"))]]), "renameat 3",
        "printf theirs > d/g", is_noted)
      assert.equal("1", code)
      assert.equal("d/g=theirs d=directory f=old", listing())
      local t <close> = assert(kit.open(root))
      assert.same({}, t:rollback())
      assert.equal("d/g=theirs d=directory f=old", listing())
    end)
  end)

  describe("just as they are brought back,", function()
    -- What was done, the call that undoes it, what somebody does just then, what is there after it.
    local cases = {
      ["a replaced file"] = { { "put", "f", { data = "new" } }, "renameat2 1",
        "printf theirs > t; mv t f", "f" .. KEPT .. "=theirs f=old" },
      ["a replaced file that is gone"] = { { "put", "f", { data = "new" } }, "renameat2 1",
        "mv f elsewhere", "elsewhere=new f=old" },
      ["a new file"] = { { "put", "n", { data = "new" } }, "renameat 3",
        "printf theirs > t; mv t n", "f=old n" .. KEPT .. "=theirs" },
      ["a removed file"] = { { "remove", "f" }, "linkat 1",
        "printf theirs > f", "f" .. KEPT .. "=theirs f=old" },
    }
    for what, case in pairs(cases) do
      it("finds " .. what .. ", and keeps what came #uncounted", function()
        local queue, call, script, expected = table.unpack(case)
        do
          local t <close> = assert(kit.open(root, true))
          local method, path, argument = table.unpack(queue)
          assert(t[method](t, path, argument))
          assert(t:apply())
        end
        local records = journal_size()
        local output = meanwhile([[
          local t <close> = assert(kit.open(root))
          print(table.concat(assert(t:rollback()), " "))
        ]], call, script, function() return journal_size() > records end)
        assert.equal(expected:match("%S+%.kept%-0123abcd") or "", output)
        assert.equal(expected, listing())
      end)
    end
  end)

  describe("into a file that was replaced or removed,", function()
    local function applied()
      helper.write(root .. "/g", "old g")
      local t = assert(kit.open(root, true))
      assert(t:put("f", { data = "new" }))
      assert(t:remove("g"))
      return t
    end

    it("keeps it beside before the undo data goes", function()
      local t <close> = applied()
      local f, g = assert(io.open(root .. "/f", "a")), assert(io.open(root .. "/g", "a"))
      assert(t:apply())
      f:write(" and theirs"):close()
      g:write(" and theirs"):close()
      assert(t:commit())
      local kept = { "f" .. KEPT, "g" .. KEPT }
      assert.same(kept, t:rescue())
      assert.equal(("f%s=old and theirs f=new g%s=old g and theirs"):format(KEPT, KEPT), listing())
      assert.same({}, t:rescue(), "is told once")
      t:close()
      local again <close> = assert(kit.open(root))
      assert.same(kept, again:rescue(), "also by one that goes on after a kill")
      assert.is_false(exists("f" .. KEPT .. "-1"))
    end)

    it("keeps it as long as they have it open for writing, for they may write later", function()
      local t <close> = applied()
      local f = assert(io.open(root .. "/f", "a"))
      assert(t:apply())
      assert(t:commit())
      local kept = assert(t:rescue())
      if #kept > 0 then -- the kernel told us
        f:write(" and theirs"):close()
        assert.same({ "f" .. KEPT }, kept)
        assert.equal("old and theirs", read("f" .. KEPT))
      else
        f:close()
      end
    end)

    it("does not mind who only reads it", function()
      local t <close> = applied()
      local reader <close> = assert(io.open(root .. "/f"))
      assert.equal("o", reader:read(1))
      assert(t:apply())
      assert(t:commit())
      assert.same({}, t:rescue())
    end)

    it("keeps a file that cannot be read any more", function()
      local t <close> = applied()
      assert(t:apply())
      assert(t:commit())
      t:close()
      local output = kit.run([[
        local t <close> = assert(kit.open(root))
        print(table.concat(assert(t:rescue()), " "))
      ]], root, child.injected("pread64,read:error=EIO", folder .. "/undo/1"))
      assert.equal("f" .. KEPT .. "\n", output)
      assert.equal("old", read("f" .. KEPT))
    end)
  end)

  it("into a file that the rollback took away, keeps it beside", function()
    local t <close> = assert(kit.open(root, true))
    assert(t:put("f", { data = "new" }))
    assert(t:put("n", { data = "new" }))
    assert(t:apply())
    local f, n = assert(io.open(root .. "/f", "a")), assert(io.open(root .. "/n", "a"))
    assert.same({}, t:rollback())
    f:write(" and theirs"):close()
    n:write(" and theirs"):close()
    assert.same({ "f" .. KEPT, "n" .. KEPT }, t:rescue())
    assert.equal(("f%s=new and theirs f=old n%s=new and theirs"):format(KEPT, KEPT), listing())
  end)

  it("into a folder that was removed, brings it back", function()
    assert(core.file.mkdir(root .. "/e"))
    assert(core.file.mkdir(root .. "/d"))
    local t <close> = assert(kit.open(root, true))
    for _, path in ipairs({ "d", "e" }) do assert(t:rmdir(path)) end
    assert(t:apply())
    -- By a process that works in it.
    for _, number in ipairs({ 1, 2 }) do
      helper.write(("%s/stage/%d/theirs"):format(folder, number), "theirs")
    end
    helper.write(root .. "/e/new", "new")
    assert(t:commit())
    assert.same({ "d", "e" .. KEPT }, t:rescue())
    assert.equal(("d/theirs=theirs d=directory e%s/theirs=theirs e%s=directory e/new=new "
      .. "e=directory f=old"):format(KEPT, KEPT), listing())
  end)

  it("into a folder that was removed, is not possible any more afterwards", function()
    for _, path in ipairs({ "d", "e/__pycache__" }) do kit.sh("mkdir -p %s/%s", root, path) end
    local t <close> = assert(kit.open(root, true))
    for _, path in ipairs({ "d", "e" }) do assert(t:rmdir(path)) end
    assert(t:apply())
    assert(t:commit())
    local inside = assert(io.popen(("cd %s/stage/1 && : > %s/ready && cat && : 2>&- > mine"):format(
      folder, folder), "w"))
    assert(command.until_true(function() return core.file.exists(folder .. "/ready") end, 20))
    assert.same({}, t:rescue())
    for _, number in ipairs({ 1, 2 }) do
      assert.is_false(core.file.exists(("%s/stage/%d"):format(folder, number)))
    end
    assert.is_nil(inside:close())
    assert.same({}, t:rescue())
  end)

  it("fails where it cannot tell whether a removed folder is empty", function()
    assert(core.file.mkdir(root .. "/d"))
    local t <close> = assert(kit.open(root, true))
    assert(t:rmdir("d"))
    assert(t:apply())
    assert(t:commit())
    helper.write(folder .. "/stage/1/theirs", "theirs")
    t:close()
    local output = kit.run([[
      local t <close> = assert(kit.open(root))
      print(select(3, t:rescue()))
    ]], root, child.injected("getdents64:error=EIO", folder .. "/stage/1"))
    assert.equal("EIO\n", output)
  end)

  it("tells after a kill in the middle what was kept before it", function()
    do
      local t <close> = assert(kit.open(root, true))
      for _, path in ipairs({ "a", "b", "c" }) do
        assert(t:put(path, { data = "new" }))
      end
      assert(t:apply())
    end
    for _, path in ipairs({ "a", "b", "c" }) do helper.write(root .. "/" .. path, "theirs") end
    local output = kit.run([[
      local t <close> = assert(kit.open(root))
      print(#t:rollback())
    ]], root, child.injected("renameat2:signal=KILL:when=3"))
    assert.equal("", output)
    assert.is_true(exists("c" .. KEPT) and exists("b" .. KEPT) and exists("a"))
    local t <close> = assert(kit.open(root))
    assert.same({ "c" .. KEPT, "b" .. KEPT, "a" .. KEPT }, t:rollback())
    assert.same({}, t:rollback())
  end)
end)
