--- core.transaction backwards: rollback and rewind, whatever stands in the way, and after a kill at
-- every call that changes the disk.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")

local fails = helper.fails

-- The calls by which praxlua changes the disk.
local CALLS = {
  "write", "fsync", "syncfs", "linkat", "unlinkat", "renameat", "renameat2", "mkdirat", "symlinkat",
  "fchmod", "chmod", "fallocate",
}
-- Most of these are many calls alike, while changes are queued: some are enough.
local STEPS = { write = 6, linkat = 6, fchmod = 5, symlinkat = 4 }

describe("core.transaction", function()
  local root, descriptors
  before_each(function()
    root = kit.directory() .. "/root"
    assert(core.file.mkdir(root))
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  local function read(path) return helper.read(root .. "/" .. path) end
  local function write(path, data) helper.write(root .. "/" .. path, data) end
  local function exists(path) return core.file.exists(root .. "/" .. path) end
  local function stat(path) return assert(core.file.stat(root .. "/" .. path)) end

  local function with(body)
    local t <close> = assert(kit.open(root, true))
    return body(t)
  end

  -- A tree that was changed in two batches, and how it was before.
  local function changed_tree()
    kit.make_tree(root)
    local before = kit.seen(root)
    local inodes = {}
    for _, path in ipairs({ "venv", "emptied", "empty" }) do inodes[path] = stat(path).inode end
    with(function(t)
      kit.queue_all(t, root)
      assert(t:apply())
      assert(t:put("changed.txt", { data = "newer" }))
      assert(t:remove("made/deep/new.txt"))
      assert(t:apply())
    end)
    return before, inodes
  end

  describe("rollback", function()
    it("brings back every kind of change, the same files and folders", function()
      local before, inodes = changed_tree()
      local t <close> = assert(kit.open(root))
      assert.is_true(#t:changes() > 10)
      assert.same({}, t:rollback())
      assert.same(before, kit.seen(root))
      for path, inode in pairs(inodes) do assert.equal(inode, stat(path).inode, path) end
      assert.same({}, t:changes())
      assert.equal("open", t:status())
    end)

    it("takes new files out of the way that cannot be read any more", function()
      for _, name in ipairs({ "a", "b", "c" }) do write(name, "old " .. name) end
      with(function(t)
        for _, name in ipairs({ "a", "b", "c", "new" }) do assert(t:put(name, { data = "new" })) end
        assert(t:apply())
      end)
      kit.sh("chmod 0 %s/c", root)
      local output = kit.run([[
        local t <close> = assert(kit.open(root))
        print(table.concat(assert(t:rollback()), " "))
      ]], root, child.injected("pread64,read:error=EIO", root .. "/b"))
      assert.equal("c.kept-0123abcd b.kept-0123abcd\n", output)
      for _, name in ipairs({ "a", "b", "c" }) do assert.equal("old " .. name, read(name)) end
      assert.is_false(exists("new"))
    end)

    it("brings back the mode of a folder that got another one twice", function()
      kit.sh("mkdir -m 755 %s/d", root)
      with(function(t)
        for _, mode in ipairs({ 448, 488 }) do
          assert(t:mode("d", mode))
          assert(t:apply())
        end
        for _ = 1, 2 do
          assert(t:rollback())
          assert.equal(493, stat("d").mode)
        end
      end)
    end)

    it("may be repeated, by this process and the next", function()
      local before = changed_tree()
      do
        local t <close> = assert(kit.open(root))
        assert.same({}, t:rollback())
        assert.same({}, t:rollback())
      end
      local t <close> = assert(kit.open(root))
      assert.same({}, t:changes())
      assert.same({}, t:rollback())
      assert.same(before, kit.seen(root))
    end)

    it("forgets what was queued", function()
      with(function(t)
        assert(t:put("x", { data = "x" }))
        assert.same({}, t:rollback())
        assert.equal(0, t:apply())
        assert.same({}, core.tree.list(root .. "/" .. kit.PATH .. "/stage"))
      end)
    end)

    it("is followed by new changes as if nothing had been", function()
      local before = changed_tree()
      local t <close> = assert(kit.open(root))
      assert(t:rollback())
      assert(t:put("changed.txt", { data = "once more" }))
      assert.equal(1, t:apply())
      assert.equal("once more", read("changed.txt"))
      assert.same({}, t:rollback())
      assert.same(before, kit.seen(root))
    end)

    it("takes away what tools made in a folder that was to be theirs", function()
      with(function(t)
        assert(t:exchange("venv", (t:stage())))
        assert.equal(1, t:apply())
        assert.is_false(exists("venv"))
        write("venv/bin/python", "made by a tool")
        assert.same({}, t:rollback())
        assert.is_false(exists("venv"))
      end)
    end)

    it("takes away the caches in folders it made", function()
      with(function(t)
        assert(t:mkdir("made"))
        assert(t:put("made/module.py", { data = "" }))
        assert(t:apply())
        write("made/__pycache__/module.pyc", "cache")
        assert.same({}, t:rollback())
        assert.is_false(exists("made"))
      end)
    end)

    it("knows no caches where none were named", function()
      local t <close> = assert(core.transaction.open(root, kit.PATH, { create = true }))
      assert(t:mkdir("made"))
      assert(t:apply())
      write("made/__pycache__/module.pyc", "cache")
      assert.same({}, t:rollback())
      assert.equal("cache", read("made/__pycache__/module.pyc"))
    end)

    it("leaves nothing to be rescued", function()
      write("f", "old")
      local f = assert(io.open(root .. "/f", "a"))
      with(function(t)
        assert(t:put("f", { data = "new" }))
        assert(t:apply())
        assert(t:rollback())
        f:write(" and theirs")
        f:close()
        assert.same({}, t:rescue())
        assert.equal("old and theirs", read("f"))
      end)
    end)

    it("makes the folders that somebody removed meanwhile", function()
      write("a/b/file", "old")
      with(function(t)
        assert(t:put("a/b/file", { data = "new" }))
        assert(t:apply())
        kit.sh("rm -r %s/a", root)
        assert.same({}, t:rollback())
        assert.equal("old", read("a/b/file"))
      end)
    end)
  end)

  describe("what somebody changed meanwhile", function()
    -- What the transaction does, what somebody does then, and what is found after the rollback.
    local cases = {
      { "a replaced file, rewritten in place", { "put", "f", { data = "new" } },
        "echo theirs > f", { f = "old", ["f.kept-0123abcd"] = "theirs\n" } },
      { "a replaced file, replaced again", { "put", "f", { data = "new" } },
        "echo theirs > t; mv t f", { f = "old", ["f.kept-0123abcd"] = "theirs\n" } },
      { "a replaced file, of another mode now", { "put", "f", { data = "new" } },
        "chmod 700 f", { f = "old", ["f.kept-0123abcd"] = "new" } },
      { "a replaced file, a folder now", { "put", "f", { data = "new" } },
        "rm f; mkdir f; echo theirs > f/g", { f = "old", ["f.kept-0123abcd/g"] = "theirs\n" } },
      { "a replaced file that is gone", { "put", "f", { data = "new" } }, "rm f", { f = "old" } },
      { "a replaced file that is the old one again", { "put", "f", { data = "new" } },
        "printf old > f", { f = "old" } },
      { "a new file, rewritten", { "put", "n", { data = "new" } },
        "echo theirs > n", { n = false, ["n.kept-0123abcd"] = "theirs\n" } },
      { "a new file that is gone", { "put", "n", { data = "new" } }, "rm n", { n = false } },
      { "a removed file that is there again", { "remove", "f" },
        "echo theirs > f", { f = "old", ["f.kept-0123abcd"] = "theirs\n" } },
      { "a removed file, a folder now", { "remove", "f" },
        "mkdir f", { f = "old", ["f.kept-0123abcd"] = "folder" } },
      { "a changed link", { "symlink", "l", "new" },
        "ln -sfn theirs l", { l = "-> old", ["l.kept-0123abcd"] = "-> theirs" } },
      { "a changed link, a file now", { "symlink", "l", "new" },
        "rm l; echo theirs > l", { l = "-> old", ["l.kept-0123abcd"] = "theirs\n" } },
      { "a new folder with a file in it", { "mkdir", "d" },
        "echo theirs > d/theirs", { ["d/theirs"] = "theirs\n" } },
      { "a new folder that is a file now", { "mkdir", "d" },
        "rmdir d; echo theirs > d", { d = "theirs\n" } },
      { "a new folder that is gone", { "mkdir", "d" }, "rmdir d", { d = false } },
      { "a removed folder that is there again", { "rmdir", "e" }, "mkdir -m 711 e",
        { e = "folder" } },
      { "a removed folder, with a file now", { "rmdir", "e" },
        "mkdir e; echo theirs > e/theirs", { ["e/theirs"] = "theirs\n" } },
      { "a removed folder, with a cache now", { "rmdir", "e" },
        "mkdir -p e/__pycache__; echo > e/__pycache__/x", { ["e/__pycache__"] = false } },
      { "a removed folder that is a file now", { "rmdir", "e" },
        "echo theirs > e", { e = "folder", ["e.kept-0123abcd"] = "theirs\n" } },
      { "a folder of another mode by now", { "mode", "e", 448 }, "chmod 711 e",
        { e = "folder 711" } },
      { "a folder that got a mode and is gone", { "mode", "e", 448 }, "rmdir e", { e = false } },
      { "the folder above, a link now", { "put", "e/f", { data = "new" } },
        "mv e e2; ln -s e2 e", "ELOOP" },
      { "the folder above, a file now", { "put", "e/f", { data = "new" } },
        "rm -r e; : > e", { e = "" } },
    }

    local function found(path)
      local is = core.file.stat(root .. "/" .. path)
      if not is then return false end
      if is.type == "link" then return "-> " .. is.target end
      if is.type == "directory" then return "folder" end
      return read(path)
    end

    for _, case in ipairs(cases) do
      local what, act, script, expected = table.unpack(case)
      it("is never overwritten: " .. what, function()
        write("f", "old")
        kit.sh("cd %s && ln -s old l && mkdir -m 750 e", root)
        with(function(t)
          local method, path, argument = table.unpack(act)
          assert(t[method](t, path, argument))
          assert.equal(1, t:apply())
          kit.sh("cd %s && { %s; }", root, script)
          if type(expected) == "string" then
            fails(expected, t:rollback())
            assert.equal("undoing", t:status())
            return
          end
          local kept = assert(t:rollback())
          local told = {}
          for where, is in pairs(expected) do
            local mode = tostring(is):match("^folder (%d+)$")
            if mode then
              assert.equal(tonumber(mode, 8), stat(where).mode)
            else
              assert.equal(is, found(where))
            end
            if where:find("%.kept") then told[#told + 1] = where:match("^[^/]+") end
          end
          assert.same(told, kept)
          assert.same({}, t:changes())
        end)
      end)
    end

    it("gets a name that is free, however long the old one is", function()
      local long = ("n"):rep(255)
      write("folder/" .. long, "old")
      write("folder/a", "old")
      for i = 0, 2 do write("folder/a.kept-0123abcd" .. (i > 0 and "-" .. i or ""), "older") end
      with(function(t)
        assert(t:put("folder/" .. long, { data = "new" }))
        assert(t:put("folder/a", { data = "new" }))
        assert(t:apply())
        write("folder/" .. long, "theirs")
        write("folder/a", "theirs")
        local kept = assert(t:rollback())
        assert.same({ "folder/a.kept-0123abcd-3", "folder/" .. long:sub(15) .. ".kept-0123abcd" },
          kept)
        for _, path in ipairs(kept) do assert.equal("theirs", read(path)) end
        assert.equal("old", read("folder/a"))
        assert.equal("old", read("folder/" .. long))
      end)
    end)

    it("after a kill before it was switched in stays where it is", function()
      write("f", "old")
      write("g", "old")
      local output = kit.run([[
        local t = assert(kit.open(root, true))
        assert(t:put("f", { data = "new" }))
        assert(t:put("n", { data = "new" }))
        assert(t:remove("g"))
        print("queued")
        t:apply()
      ]], root, child.injected("renameat2:signal=KILL:when=1"))
      assert.equal("queued\n", output)
      kit.sh("cd %s && echo theirs > t && mv t f && echo theirs > n && echo theirs >> g", root)
      local before = kit.seen(root)
      local t <close> = assert(kit.open(root))
      assert.equal(3, #t:changes())
      assert.same({}, t:rollback())
      assert.same(before, kit.seen(root))
    end)

    it("in an old file through an open descriptor is rescued before the old file goes", function()
      write("folder/f", "old")
      write("g", "old")
      local f = assert(io.open(root .. "/folder/f", "a"))
      local g = assert(io.open(root .. "/g", "a"))
      with(function(t)
        assert(t:put("folder/f", { data = "new" }))
        assert(t:remove("g"))
        assert(t:apply())
        f:write(" and theirs")
        f:close()
        g:write(" and theirs")
        g:close()
        assert(t:commit())
        local kept = { "folder/f.kept-0123abcd", "g.kept-0123abcd" }
        assert.same(kept, t:rescue())
        for _, path in ipairs(kept) do assert.equal("old and theirs", read(path)) end
        assert.equal("new", read("folder/f"))
        assert.is_false(exists("g"))
      end)
      local t <close> = assert(kit.open(root))
      assert.same({ "folder/f.kept-0123abcd", "g.kept-0123abcd" }, t:rescue())
      assert.is_false(exists("g.kept-0123abcd-1"))
    end)
  end)

  describe("checkpoint", function()
    it("keeps a note, whatever bytes it has, for the next process", function()
      local note = "\0\1\255" .. ("x"):rep(100000)
      with(function(t)
        assert.is_true(t:checkpoint("first"))
        assert.equal("first", t:last_checkpoint())
        assert.is_true(t:checkpoint(note))
        assert.is_true(t:checkpoint(note))
        assert.equal(4, t:sequence())
      end)
      local t <close> = assert(kit.open(root))
      assert.equal(note, t:last_checkpoint())
      assert.equal(4, t:sequence())
      assert.is_true(t:checkpoint(""))
      assert.equal("", t:last_checkpoint())
    end)

    it("is where rewind goes back to, as often as asked", function()
      with(function(t)
        assert(t:put("a", { data = "1" }))
        assert(t:apply())
        assert(t:checkpoint("one"))
        for _ = 1, 2 do
          assert(t:put("a", { data = "2" }))
          assert(t:put("b", { data = "2" }))
          assert(t:apply())
          assert.same({}, t:rewind())
          assert.equal("1", read("a"))
          assert.is_false(exists("b"))
          assert.equal("one", t:last_checkpoint())
        end
        assert(t:put("a", { data = "3" }))
        assert(t:apply())
        assert(t:checkpoint("two"))
        assert(t:put("a", { data = "4" }))
        assert(t:apply())
      end)
      local t <close> = assert(kit.open(root))
      assert.same({}, t:rewind())
      assert.equal("3", read("a"))
      assert.equal("two", t:last_checkpoint())
      assert.same({}, t:rollback())
      assert.is_false(exists("a"))
      assert.is_nil(t:last_checkpoint())
    end)

    it("survives a batch that failed after it", function()
      with(function(t)
        assert(t:checkpoint("one"))
        assert(t:put("no/folder", { data = "x" }))
        fails("ENOENT", t:apply())
        assert.equal("one", t:last_checkpoint())
      end)
      local t <close> = assert(kit.open(root))
      assert.equal("one", t:last_checkpoint())
      assert.same({}, t:changes())
    end)
  end)

  describe("commit", function()
    it("is remembered", function()
      write("a", "old")
      with(function(t)
        assert(t:put("a", { data = "new" }))
        assert(t:apply())
        assert.is_true(t:commit())
        assert.equal("committed", t:status())
      end)
      local t <close> = assert(kit.open(root))
      assert.equal("committed", t:status())
      assert.equal(1, #t:changes())
      assert.equal("new", read("a"))
    end)

    it("that is rolled back is none any more", function()
      write("f", "old")
      with(function(t)
        assert(t:put("f", { data = "new" }))
        assert(t:apply())
        assert(t:commit())
        assert.same({}, t:rollback())
        assert.equal("open", t:status())
      end)
      local t <close> = assert(kit.open(root))
      assert.equal("open", t:status())
      assert.equal("old", read("f"))
    end)

    it("that was taken back is a rollback that has to be ended", function()
      write("f", "old")
      local output = kit.run([[
        local t = assert(kit.open(root, true))
        assert(t:put("f", { data = "new" }))
        assert(t:apply())
        print(select(3, t:commit()))
        t:rollback()
      ]], root, child.injected("fsync:error=EIO:when=3..4 -e trace=fsync,renameat2"
        .. " -e inject=renameat2:signal=KILL:when=2"))
      assert.equal("EIO\n", output)
      local t <close> = assert(kit.open(root))
      assert.equal("undoing", t:status())
      assert.same({}, t:rewind())
      assert.equal("old", read("f"))
      assert.same({}, t:changes())
    end)
  end)

  describe("where the kernel cannot exchange or refuse names", function()
    local function without(error)
      return child.injected("renameat2:error=" .. error)
    end

    for _, error in ipairs({ "EINVAL", "ENOSYS" }) do
      it(("does it in two steps (%s)"):format(error), function()
        kit.make_tree(root)
        local before = kit.seen(root)
        local output = kit.run([[
          local t <close> = assert(kit.open(root, true))
          kit.queue_all(t, root)
          print(t:apply() > 20)
          local changes = t:changes()
          local original = changes[#changes].original
          print(core.file.read(root .. "/" .. kit.PATH .. "/" .. original .. "/bin/tool"))
          print(core.file.read(root .. "/venv/bin/tool"))
          io.open(root .. "/changed.txt", "w"):write("theirs"):close()
          print(core.file.read(root .. "/changed.txt"))
          io.open(root .. "/changed.txt.kept-0123abcd", "w"):write("older"):close()
          print(table.concat(assert(t:rollback()), " "))
        ]], root, without(error))
        assert.equal("true\nold tool\nnew tool\ntheirs\nchanged.txt.kept-0123abcd-1\n", output)
        assert.equal("older", read("changed.txt.kept-0123abcd"))
        kit.sh("rm %s/changed.txt.kept-*", root)
        assert.same(before, kit.seen(root))
      end)
    end

    it("brings a file back that was out, and the new one not in yet, when it was killed", function()
      write("f", "old")
      local output = kit.run([[
        local t <close> = assert(kit.open(root, true))
        assert(t:put("f", { data = "new" }))
        t:apply()
        print("applied")
      ]], root, child.injected("renameat2:error=EINVAL -e inject=linkat:signal=KILL:when=2"
        .. " -e trace=renameat2,linkat"))
      assert.equal("", output)
      assert.is_false(exists("f"))
      local t <close> = assert(kit.open(root))
      assert.same({}, t:rollback())
      assert.equal("old", read("f"))
    end)

    it("still does not overwrite what came meanwhile", function()
      local output = kit.run([[
        local t <close> = assert(kit.open(root, true))
        assert(t:put("new", { data = "new" }))
        io.open(root .. "/new", "w"):write("theirs"):close()
        print(select(3, t:apply()))
      ]], root, without("EINVAL"))
      assert.equal("ECHANGED\n", output)
      assert.equal("theirs", read("new"))
    end)
  end)

  it("without room for a link moves the old file back itself", function()
    write("f", "old")
    local inode = stat("f").inode
    local output = kit.run([[
      local t <close> = assert(kit.open(root, true))
      assert(t:put("f", { data = "new" }))
      assert(t:apply())
      print(#assert(t:rollback()))
      print(#assert(t:rollback()))
    ]], root, child.injected("linkat:error=ENOSPC:when=2"))
    assert.equal("0\n0\n", output)
    assert.equal("old", read("f"))
    assert.equal(inode, stat("f").inode)
  end)

  -- Lets every call that changes the disk go wrong once, each time on a new tree. `body` gets shell
  -- words that make the n-th call do so, and returns whether the process came to its end.
  local function at_every_call(fault, steps, body)
    local faults = 0
    for _, call in ipairs(CALLS) do
      local n = 0
      repeat
        n = n + (steps[call] or 1)
        assert.is_true(n < 200, call .. ": no end in sight")
        local ended = body(child.injected(("%s:%s:when=%d"):format(call, fault, n)),
          call .. " " .. n)
        kit.sh("rm -rf %s && mkdir %s", root, root)
        if not ended then faults = faults + 1 end
      until ended
    end
    return faults
  end

  it("after an I/O error in any call is applied or not, and can be undone", function()
    local faults = at_every_call("error=EIO", STEPS, function(before_it, what)
      kit.make_tree(root)
      local before = kit.seen(root)
      local output = kit.run([[
        local t <close> = assert(kit.open(root, true))
        kit.queue_all(t, root)
        local before = kit.seen(root)
        local ok = t:apply()
        local same = true
        for path, is in pairs(kit.seen(root)) do same = same and before[path] == is end
        print(ok and "applied" or same and "not applied" or "half applied")
      ]], root, before_it)
      local t <close> = kit.open(root)
      if t then assert.same({}, t:rollback(), what) end
      assert.same(before, kit.seen(root), what)
      assert.not_matches("half", output, what)
      return output:find("^applied") ~= nil
    end)
    assert.is_true(faults > 25, faults .. " faults")
  end)

  describe("killed at any call that changes the disk", function()
    it("while it queues and applies, can be undone #uncounted", function()
      local kills = at_every_call("signal=KILL", STEPS, function(before_it, what)
        kit.make_tree(root)
        local before = kit.seen(root)
        local output = kit.run([[
          local t <close> = assert(kit.open(root, true))
          kit.queue_all(t, root)
          t:apply()
          print("applied")
        ]], root, before_it)
        local t <close>, message, code = kit.open(root)
        if t then assert.same({}, t:rollback(), what) else assert.equal("ENOENT", code, message) end
        assert.same(before, kit.seen(root), what)
        return output == "applied\n"
      end)
      assert.is_true(kills > 25, kills .. " kills")
    end)

    it("while it undoes, can be undone #uncounted", function()
      local kills = at_every_call("signal=KILL", {}, function(before_it, what)
        local before, inodes = changed_tree()
        local changed = kit.seen(root)
        local output = kit.run([[
          local t <close> = assert(kit.open(root))
          local kept = assert(t:rollback())
          print("undone")
        ]], root, before_it)
        local t <close> = assert(kit.open(root))
        -- Not begun, begun, or done.
        if t:status() == "open" and #t:changes() > 0 then
          assert.same(changed, kit.seen(root), what)
        else
          assert.same({}, t:rewind(), what)
          assert.same({}, t:changes())
        end
        assert.equal("open", t:status())
        assert.same({}, t:rollback(), what)
        assert.same(before, kit.seen(root), what)
        for path, inode in pairs(inodes) do assert.equal(inode, stat(path).inode, path) end
        return output == "undone\n"
      end)
      assert.is_true(kills > 25, kills .. " kills")
    end)

    it("and again while the undo is repeated, ends as before #uncounted", function()
      local before = changed_tree()
      local n = 0
      repeat
        n = n + 1
        assert.is_true(n < 100, "no end in sight")
        local output = kit.run([[
          local t <close> = assert(kit.open(root))
          assert(t:rewind())
          assert(t:rollback())
          print("undone")
        ]], root, child.injected(("renameat2:signal=KILL:when=%d"):format(1 + n % 2)))
      until output == "undone\n"
      assert.is_true(n > 5, n .. " kills")
      assert.same(before, kit.seen(root))
    end)
  end)
end)
