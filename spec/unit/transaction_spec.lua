--- core.transaction: queueing and applying. What comes after is in undo_spec, journal_spec and
-- crash_spec.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")

local fails, sha256 = helper.fails, core.hash.sha256

describe("core.transaction", function()
  local directory, root, descriptors
  before_each(function()
    directory = helper.tempdir()
    root = directory .. "/root"
    assert(core.file.mkdir(root))
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  local function mode_of(path) return assert(core.file.stat(root .. "/" .. path)).mode end

  -- Runs `body` with a transaction that is closed afterwards.
  local function with(body)
    local t <close> = assert(kit.open(root, true))
    body(t)
  end

  describe("open", function()
    it("makes a folder of its own, once", function()
      with(function(t)
        assert.equal("open", t:status())
        assert.same({}, t:changes())
        assert.is_nil(t:last_checkpoint())
      end)
      fails("EEXIST", kit.open(root, true))
      local again <close> = assert(kit.open(root))
      assert.equal("open", again:status())
    end)

    it("says what is missing", function()
      fails("ENOENT", kit.open(root))
      fails("ENOENT", kit.open(directory .. "/none", true))
      helper.write(root .. "/file", "")
      fails("ENOTDIR", core.transaction.open(root .. "/file", "x", { create = true }))
      fails("EINVAL", core.transaction.open(root, "../x", { create = true }))
      fails("EINVAL", core.transaction.open(root, "/x", { create = true }))
    end)

    it("does not follow a link out of the tree", function()
      kit.sh("mkdir %s/outside && ln -s ../outside %s/.px", directory, root)
      fails("ELOOP", kit.open(root, true))
      assert.same({}, core.tree.list(directory .. "/outside"))
    end)

    it("of one that was killed while it was made finds nothing", function()
      local folder = root .. "/" .. kit.PATH
      assert(core.file.mkdir(folder))
      fails("ENOENT", kit.open(root))
      assert(core.file.mkdir(folder .. "/stage"))
      assert(core.file.mkdir(folder .. "/undo"))
      fails("ENOENT", kit.open(root))
      helper.write(folder .. "/journal", "")
      fails("ENOENT", kit.open(root))
    end)

    it("takes a transaction and its methods only while it is open", function()
      local t = assert(kit.open(root, true))
      t:close()
      t:close()
      for _, method in ipairs({ "status", "apply", "changes", "rollback", "rewind", "stage" }) do
        assert.error_matches(function() t[method](t) end, "the transaction is closed")
      end
      assert.error(function() core.transaction.open(root) end)
      assert.error(function() core.transaction.open("", "x") end)
    end)
  end)

  describe("apply", function()
    it("switches every kind of change in", function()
      kit.make_tree(root)
      with(function(t)
        local count = kit.queue_all(t, root)
        local old_environment = assert(core.file.stat(root .. "/venv")).inode
        assert.equal("old", helper.read(root .. "/changed.txt"))
        assert.is_false(core.file.exists(root .. "/made"))

        assert.equal(count, t:apply())

        assert.equal("new", helper.read(root .. "/changed.txt"))
        assert.equal(tonumber("4751", 8), mode_of("changed.txt"))
        assert.equal("", helper.read(root .. "/made/deep/new.txt"))
        assert.equal(tonumber("600", 8), mode_of("made/deep/new.txt"))
        assert.equal(tonumber("750", 8), mode_of("made"))
        assert.equal("deep/new.txt", core.file.readlink(root .. "/made/link"))
        assert.equal("there", core.file.readlink(root .. "/link"))
        assert.equal("\255 target", core.file.readlink(root .. "/to-link"))
        assert.equal("a file now", helper.read(root .. "/to-file"))
        assert.equal(tonumber("644", 8), mode_of("to-file"))
        for _, path in ipairs({ "gone.txt", "gone-link", "emptied", "empty" }) do
          assert.is_false(core.file.exists(root .. "/" .. path), path)
        end
        assert.equal("theirs", helper.read(root .. "/mixed/theirs"))
        assert.equal(tonumber("700", 8), mode_of("moded"))
        assert.equal("new tool", helper.read(root .. "/venv/bin/tool"))
        assert.not_equal(old_environment, assert(core.file.stat(root .. "/venv")).inode)
        for i, name in ipairs(kit.NAMES) do
          local path = root .. "/names/" .. name
          if i % 3 == 0 then
            assert.is_false(core.file.exists(path))
          elseif i % 3 == 1 then
            assert.equal("new " .. name, helper.read(path))
          else
            assert.equal(name, core.file.readlink(path))
          end
        end
        assert.equal(0, t:apply())
      end)
    end)

    it("leaves alone what is as it should be", function()
      kit.make_tree(root)
      local before = kit.seen(root)
      with(function(t)
        for _, nothing in ipairs({
          { t:put("same.txt", { data = "same" }) },
          { t:put("same.txt", { data = "same", mode = 420 }) },
          { t:symlink("link", "here") },
          { t:remove("not there") },
          { t:remove("not/there/either") },
          { t:mkdir("mixed") },
          { t:rmdir("not there") },
          { t:mode("moded", mode_of("moded")) },
        }) do
          assert.same({ true, false }, nothing)
        end
        assert.equal(0, t:apply())
        assert.same({}, t:changes())
      end)
      assert.same(before, kit.seen(root))
    end)

    it("changes a mode alone", function()
      helper.write(root .. "/script", "run")
      with(function(t)
        assert.same({ true, true }, { t:put("script", { data = "run", mode = 493 }) })
        assert.equal(1, t:apply())
        assert.equal(493, mode_of("script"))
      end)
    end)

    it("takes content from a file as well as from a string", function()
      local big = ("0123456789abcdef"):rep(20000)
      helper.write(directory .. "/big", big)
      with(function(t)
        assert(t:put("from", { from = directory .. "/big", sha256 = sha256(big) }))
        assert(t:put("bytes", { data = "\0\1\255" }))
        assert.equal(2, t:apply())
        assert.equal(big, helper.read(root .. "/from"))
        assert.equal("\0\1\255", helper.read(root .. "/bytes"))
      end)
    end)

    it("takes content from nothing but a regular file", function()
      kit.sh("cd %s && mkfifo fifo && mkdir folder && ln -s big link", directory)
      with(function(t)
        fails("ENOTREG", t:put("x", { from = directory .. "/fifo" }))
        fails("ENOTREG", t:put("x", { from = directory .. "/folder" }))
        fails("ENOTREG", t:put("x", { from = directory .. "/link" }))
        fails("ENOENT", t:put("x", { from = directory .. "/none" }))
        assert.equal(0, t:apply())
      end)
    end)

    it("tells its changes, in the order of the batches", function()
      kit.make_tree(root)
      with(function(t)
        assert(t:put("changed.txt", { data = "new" }))
        assert(t:apply())
        assert(t:symlink("link", "there"))
        assert(t:mkdir("made"))
        local number, place = t:stage()
        helper.write(root .. "/" .. kit.PATH .. "/" .. place .. "/x", "")
        assert(t:exchange("venv", number))
        assert(t:apply())
        local changes = t:changes()
        local original = changes[4].original
        changes[4].original = nil
        assert.same({
          { path = "changed.txt", kind = "put", after = sha256("new") },
          { path = "link", kind = "symlink", after = "link:there" },
          { path = "made", kind = "mkdir", after = false },
          { path = "venv", kind = "exchange", after = false },
        }, changes)
        local folder = root .. "/" .. kit.PATH .. "/" .. original
        assert.equal("old tool", helper.read(folder .. "/bin/tool"))
      end)
    end)

    it("makes a new directory with the mode the umask leaves", function()
      local output = child.run(([[
        package.path = "./?.lua;" .. package.path
        local kit = require("spec.support.transaction_kit")
        local t <close> = assert(kit.open(%q, true))
        assert(t:mkdir("a"))
        assert(t:mkdir("b", { mode = 511 }))
        assert(t:apply())
      ]]):format(root), "umask 027; exec")
      assert.equal("", output)
      assert.equal(tonumber("750", 8), mode_of("a"))
      assert.equal(tonumber("777", 8), mode_of("b"))
    end)

    it("gives new files the owner of what they replace, or of their folder", function()
      if core.system.euid() ~= 0 then return end
      helper.write(root .. "/theirs", "old")
      kit.sh("mkdir %s/home && chown 1234:2345 %s/home && chown 3456:4567 %s/theirs", root, root,
        root)
      with(function(t)
        assert(t:put("theirs", { data = "new", mode = 2541 })) -- 04755
        assert(t:put("home/new", { data = "new" }))
        assert(t:mkdir("home/folder"))
        assert(t:put("home/folder/new", { data = "new" }))
        assert(t:apply())
      end)
      local function owner(path)
        local stat = assert(core.file.stat(root .. "/" .. path))
        return { stat.uid, stat.gid }
      end
      assert.same({ 3456, 4567 }, owner("theirs"))
      assert.equal(2541, mode_of("theirs"))
      assert.same({ 1234, 2345 }, owner("home/new"))
      assert.same({ 1234, 2345 }, owner("home/folder"))
    end)

    it("removes a directory that holds nothing but caches, and no other", function()
      helper.tree(root, {
        ["a/__pycache__/x.pyc"] = "", ["b/__pycache__/x.pyc"] = "", ["b/mine"] = "mine",
        ["c/__pycache__"] = "a file",
      })
      kit.sh("ln -s a %s/d", root)
      with(function(t)
        for _, name in ipairs({ "a", "b", "c" }) do assert(t:rmdir(name)) end
        fails("ENOTDIR", t:rmdir("d"))
        assert(t:apply())
      end)
      assert.is_false(core.file.exists(root .. "/a"))
      assert.equal("mine", helper.read(root .. "/b/mine"))
    end)

    it("puts a prepared directory where none is", function()
      with(function(t)
        local number, place = t:stage()
        helper.write(root .. "/" .. kit.PATH .. "/" .. place .. "/tool", "prepared")
        assert(t:exchange("venv", number))
        assert.equal(1, t:apply())
        assert.equal("prepared", helper.read(root .. "/venv/tool"))
        assert.same({}, t:rollback())
        assert.is_false(core.file.exists(root .. "/venv"))
      end)
    end)
  end)

  describe("refuses", function()
    it("paths that could leave the tree", function()
      helper.write(directory .. "/outside/file", "outside")
      kit.sh("ln -s ../outside %s/out", root)
      with(function(t)
        local paths = { "../outside/file", "/etc/x", "a//b", "./a", "a/", "a/../b", "." }
        for _, path in ipairs(paths) do
          fails("EINVAL", t:put(path, { data = "x" }))
          fails("EINVAL", t:remove(path))
          fails("EINVAL", t:mkdir(path))
        end
        fails("ELOOP", t:put("out/file", { data = "x" }))
        fails("ELOOP", t:remove("out/file"))
        fails("ELOOP", t:symlink("out/file", "x"))
        fails("ELOOP", t:rmdir("out/file"))
        for _, path in ipairs({ "", "a\0b" }) do
          assert.error_matches(function() t:put(path, { data = "x" }) end, "path is empty or holds")
        end
        assert.equal(0, t:apply())
      end)
      assert.equal("outside", helper.read(directory .. "/outside/file"))
    end)

    it("a file where a folder is, and the other way round", function()
      kit.make_tree(root)
      kit.sh("mkfifo %s/fifo", root)
      with(function(t)
        assert.matches("stage mixed", fails("EISDIR", t:put("mixed", { data = "x" })))
        assert.matches("stage mixed", fails("EISDIR", t:symlink("mixed", "x")))
        assert.matches("remove mixed", fails("EISDIR", t:remove("mixed")))
        fails("ENOTREG", t:put("fifo", { data = "x" }))
        fails("ENOTREG", t:remove("fifo"))
        fails("ENOTREG", t:symlink("fifo", "x"))
        fails("ENOTDIR", t:mkdir("same.txt"))
        fails("ENOTDIR", t:rmdir("same.txt"))
        fails("ENOTDIR", t:mode("same.txt", 448))
        fails("ENOENT", t:mode("not there", 448))
        fails("ENOTDIR", t:exchange("same.txt", 1))
        fails("ENOENT", t:exchange("venv", 12345))
        assert.equal(0, t:apply())
      end)
    end)

    it("modes and expectations that are none", function()
      with(function(t)
        for _, mode in ipairs({ -1, 4096, "x", 1.5 }) do
          assert.error(function() t:put("x", { data = "", mode = mode }) end)
          assert.error(function() t:mkdir("x", { mode = mode }) end)
          assert.error(function() t:mode("x", mode) end)
        end
        assert.error_matches(function() t:put("x", { data = "", old = true }) end, "old")
        assert.error_matches(function() t:put("x", { data = "", old = 7 }) end, "old")
        assert.error(function() t:put("x", { data = "", sha256 = 7 }) end)
        assert.error(function() t:put("x", {}) end)
        assert.error(function() t:put("x", "data") end)
        assert.error(function() t:remove("x", "old") end)
        assert.error(function() t:exchange("x", -1) end)
        assert.equal(0, t:apply())
      end)
    end)
  end)

  describe("says ECHANGED", function()
    local function write_old() helper.write(root .. "/file", "old") end

    it("when a path is not what the caller expects", function()
      write_old()
      kit.sh("ln -s there %s/link", root)
      with(function(t)
        local other = sha256("other")
        fails("ECHANGED", t:put("file", { data = "new", old = other }))
        fails("ECHANGED", t:put("file", { data = "new", old = false }))
        fails("ECHANGED", t:put("file", { data = "new", old = "link:there" }))
        fails("ECHANGED", t:put("none", { data = "new", old = other }))
        fails("ECHANGED", t:remove("file", { old = other }))
        fails("ECHANGED", t:remove("link", { old = "link:elsewhere" }))
        fails("ECHANGED", t:symlink("link", "new", { old = other }))
        local message = fails("ECHANGED", t:put("file", { data = "new", sha256 = other }))
        assert.matches("change file: its new content", message)
        assert.equal(0, t:apply())
        assert(t:put("file", { data = "new", old = sha256("old"), sha256 = sha256("new") }))
        assert(t:put("none", { data = "new", old = false }))
        assert(t:symlink("link", "new", { old = "link:there" }))
        assert.equal(3, t:apply())
      end)
    end)

    it("and forgets what was queued before", function()
      write_old()
      with(function(t)
        assert(t:put("another", { data = "x" }))
        fails("ECHANGED", t:put("file", { data = "new", old = false }))
        assert.equal(0, t:apply())
        assert.is_false(core.file.exists(root .. "/another"))
      end)
    end)

    -- What somebody does between queueing and applying, and what the tree must then be.
    local meddling = {
      { "rewrote a file in place", "put", "file", { data = "new" }, "echo theirs > file" },
      { "replaced a file", "put", "file", { data = "new" }, "echo theirs > t && mv t file" },
      { "wrote the same size at the same time", "put", "file", { data = "new" },
        "cp -p file t && printf 'old' | tr old OLD > file && touch -r t file && rm t" },
      { "removed a file", "put", "file", { data = "new" }, "rm file" },
      { "made a file executable", "put", "file", { data = "new" }, "chmod +x file" },
      { "made a folder of a file", "put", "file", { data = "new" }, "rm file && mkdir file" },
      { "made the new file", "put", "new", { data = "new" }, "echo theirs > new" },
      { "made a link of the new name", "symlink", "new", "there", "ln -s theirs new" },
      { "rewrote a file that should go", "remove", "file", nil, "echo theirs > file" },
      { "replaced a file that should go", "remove", "file", nil, "echo theirs > t && mv t file" },
      { "removed a file that should go", "remove", "file", nil, "rm file" },
      { "changed a link", "symlink", "link", "new", "ln -sfn theirs link" },
      { "removed a link that should go", "remove", "link", nil, "rm link" },
      { "made the new folder", "mkdir", "new", nil, "mkdir new" },
      { "made a file of the new folder", "mkdir", "new", nil, "echo theirs > new" },
      { "gave the folder another mode", "mode", "folder", 448, "chmod 711 folder" },
      { "replaced the folder", "mode", "folder", 448, "mv folder f && mkdir folder" },
    }
    for _, case in ipairs(meddling) do
      local what, method, path, argument, script = table.unpack(case, 1, 5)
      it("when somebody " .. what .. " meanwhile, and keeps their work", function()
        write_old()
        helper.write(root .. "/a", "a")
        kit.sh("cd %s && ln -s there link && mkdir folder", root)
        with(function(t)
          assert(t:put("a", { data = "changed" }))
          assert(t[method](t, path, argument))
          assert(t:remove("link"))
          kit.sh("cd %s && %s", root, script)
          local theirs = kit.seen(root)

          local message = fails("ECHANGED", t:apply())

          assert.equal("switch " .. path .. ": it was changed meanwhile", message)
          assert.same(theirs, kit.seen(root))
          assert.same({}, t:changes())
          assert.same({}, t:rollback())
          assert.same(theirs, kit.seen(root))
        end)
      end)
    end

    it("when the folder to be exchanged is another one by then", function()
      kit.make_tree(root)
      with(function(t)
        for _, script in ipairs({ "mv venv v && mkdir venv", "rm -r venv", ": > venv" }) do
          local number, place = t:stage()
          assert(core.file.mkdir(root .. "/" .. kit.PATH .. "/" .. place))
          assert(t:exchange("venv", number))
          kit.sh("cd %s && %s", root, script:gsub("^:", "rm -r venv && :"))
          local theirs = kit.seen(root)
          fails("ECHANGED", t:apply())
          assert.same(theirs, kit.seen(root))
          assert.same({}, t:rollback())
          assert.same(theirs, kit.seen(root))
          kit.sh("cd %s && rm -rf venv && mkdir venv", root)
        end
      end)
    end)

    it("when somebody made the folder that a tool was to make", function()
      with(function(t)
        assert(t:exchange("venv", (t:stage())))
        helper.write(root .. "/venv/mine", "mine")
        fails("ECHANGED", t:apply())
        assert.same({}, t:rollback())
        assert.equal("mine", helper.read(root .. "/venv/mine"))
      end)
    end)

    it("but not when somebody only touched the file", function()
      write_old()
      with(function(t)
        assert(t:put("file", { data = "new" }))
        kit.sh("cd %s && touch file && cp -p file t && mv t file", root)
        assert.equal(1, t:apply())
        assert.equal("new", helper.read(root .. "/file"))
      end)
    end)

    it("when the file was written to while it was queued #uncounted", function()
      write_old()
      -- Half a second between looking at the old file and linking it.
      local running = child.start(([[
        package.path = "./?.lua;" .. package.path
        local kit = require("spec.support.transaction_kit")
        print(core.system.pid())
        local t <close> = assert(kit.open(%q, true))
        print("queueing")
        local ok, message, code = t:put("file", { data = "new" })
        if ok then ok, message, code = t:apply() end
        print(ok, code, message)
      ]]):format(root), child.injected("linkat:delay_enter=700000:when=1"))
      assert.equal("queueing", running.line())
      assert(command.until_true(function() -- the staged file is there: the link comes next
        return #assert(core.tree.list(root .. "/" .. kit.PATH .. "/stage")) == 1
      end, 20))
      kit.sh("echo theirs > %s/file", root)
      assert.matches("^nil\tECHANGED\t", running.line())
      running.finish()
      assert.equal("theirs\n", helper.read(root .. "/file"))
    end)
  end)

  it("is open to new changes after a kill while others were queued", function()
    helper.write(root .. "/file", "old")
    do
      local killed <close> = assert(kit.open(root, true))
      assert(killed:put("file", { data = "never applied" }))
      assert(killed:symlink("link", "never applied"))
    end
    local t <close> = assert(kit.open(root))
    assert(t:put("file", { data = "new" }))
    assert(t:symlink("link", "new"))
    assert.equal(2, t:apply())
    assert.equal("new", helper.read(root .. "/file"))
    assert.equal("new", core.file.readlink(root .. "/link"))
  end)

  it("leaves a folder into which a file comes just as it is to go #uncounted", function()
    assert(core.file.mkdir(root .. "/folder"))
    local journal = root .. "/" .. kit.PATH .. "/journal"
    -- Most of a second between finding the folder empty and taking it away.
    local running = child.start(([[
      package.path = "./?.lua;" .. package.path
      local kit = require("spec.support.transaction_kit")
      print(core.system.pid())
      local t <close> = assert(kit.open(%q, true))
      assert(t:rmdir("folder"))
      print(#core.file.read(%q))
      print(t:apply())
    ]]):format(root, journal), child.injected("renameat:delay_enter=700000:when=1"))
    local before = tonumber(running.line())
    assert(command.until_true(function() return #helper.read(journal) > before end, 20))
    core.system.sleep(0.1)
    helper.write(root .. "/folder/theirs", "theirs")
    assert.equal("1", running.line())
    running.finish()
    assert.equal("theirs", helper.read(root .. "/folder/theirs"))
    local t <close> = assert(kit.open(root))
    assert.same({}, t:rollback())
    assert.equal("theirs", helper.read(root .. "/folder/theirs"))
  end)

  describe("a batch that fails", function()
    it("in its middle leaves everything as it was", function()
      kit.make_tree(root)
      local before = kit.seen(root)
      with(function(t)
        kit.queue_all(t, root)
        assert(t:put("no/such/folder", { data = "x" }))
        local message = fails("ENOENT", t:apply())
        assert.matches("^switch no/such/folder: ", message)
        assert.same(before, kit.seen(root))
        assert.same({}, t:changes())
        assert.equal("open", t:status())
        assert.equal(0, t:apply())
      end)
    end)

    it("does not undo the batches before it", function()
      with(function(t)
        assert(t:put("first", { data = "1" }))
        assert(t:apply())
        assert(t:put("second", { data = "2" }))
        assert(t:put("no/folder", { data = "x" }))
        fails("ENOENT", t:apply())
        assert.equal("1", helper.read(root .. "/first"))
        assert.is_false(core.file.exists(root .. "/second"))
        assert.equal(1, #t:changes())
      end)
    end)

    it("can be forgotten before it is applied", function()
      with(function(t)
        assert(t:put("x", { data = "x" }))
        t:clear()
        assert.equal(0, t:apply())
        assert.is_false(core.file.exists(root .. "/x"))
      end)
    end)
  end)

  -- Shell words that run what follows on a file system of its own, of a few pages.
  local function on_tiny_disk(size)
    local mount = ("mount -t tmpfs -o size=%s,nr_inodes=150 none %s"):format(size, root)
    return ("exec unshare -m sh -c '%s && exec \"$@\"' sh"):format(mount)
  end

  local FULL_DISK = [[
    package.path = "./?.lua;" .. package.path
    local kit = require("spec.support.transaction_kit")
    local helper = require("spec.support.helper")
    local root = %q
    kit.make_tree(root)
    local before = kit.seen(root)
    local function check(what)
      for path, is in pairs(kit.seen(root)) do
        if before[path] ~= is then print(what, path, is, before[path]) end
      end
      for path in pairs(before) do
        if not core.file.exists(root .. "/" .. path) then print(what, path, "gone") end
      end
    end
    -- Until nothing more goes in, inodes included.
    local function fill()
      for i = 1, 1000 do
        local out = io.open(root .. "/.px/filler" .. i, "w")
        if not out then break end
        out:setvbuf("no")
        repeat until not out:write(("x"):rep(4096))
        repeat until not out:write("x")
        out:close()
      end
    end
    local t <close> = assert(kit.open(root, true))
  ]]

  it("on a full disk is not applied, and can be undone #uncounted", function()
    if core.system.euid() ~= 0 then return end
    local output = child.run(FULL_DISK:format(root) .. [[
      local ok, message, code = t:put("changed.txt", { data = ("x"):rep(10000000) })
      print(ok, code)
      t:clear()
      kit.queue_all(t, root)
      fill()
      ok, message, code = t:apply()
      print(ok, code, message)
      check("after apply")
      os.remove(root .. "/.px/filler1")
      local kept
      kept, message = t:rollback()
      print(type(kept), message)
      check("after rollback")
      print(#t:changes())
    ]], on_tiny_disk("4m"))
    assert.matches("^nil\tENOSPC\nnil\tENOSPC\tswitch [%w/]+: No space left on device\n"
      .. "table\tnil\n0\n$", output)
  end)

  -- How long the journal is after an empty checkpoint and all changes.
  local function journal_size()
    local measured = kit.directory()
    kit.make_tree(measured)
    local t <close> = assert(kit.open(measured, true))
    assert(t:checkpoint(""))
    kit.queue_all(t, measured)
    assert(t:apply())
    return #helper.read(measured .. "/" .. kit.PATH .. "/journal")
  end

  it("that was applied can be undone on a disk that is full by then #uncounted", function()
    if core.system.euid() ~= 0 then return end
    local page = 4096
    local output = child.run(FULL_DISK:format(root) .. ([[
      assert(t:checkpoint(("x"):rep(%d))) -- the next record needs another page
      kit.queue_all(t, root)
      assert(t:apply())
      fill()
      local kept, message = t:rollback()
      print(type(kept), message)
      check("after rollback")
      print(#t:changes())
    ]]):format(-(journal_size() + 10) % page), on_tiny_disk("4m"))
    assert.equal("table\tnil\n0\n", output)
  end)
end)
