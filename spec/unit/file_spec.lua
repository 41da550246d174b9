--- core.file: single files: read whole, replaced in one step, renamed and removed.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local fails, output_of = helper.fails, helper.output_of

local file = core.file

local function sh(line, ...)
  assert(os.execute(line:format(...)))
end

-- The names in a directory, hidden ones too.
local function names(path)
  return output_of("ls -A '%s'", path)
end

describe("core.file", function()
  local directory, path, descriptors
  before_each(function()
    directory = helper.tempdir()
    path = directory .. "/file"
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  describe("read", function()
    it("gives all bytes", function()
      for _, data in ipairs({ "", "a\0b\r\n\255", ("0123456789"):rep(30000) }) do
        helper.write(path, data)
        assert.equal(data, file.read(path))
      end
    end)

    it("reads files of /proc, whose size is said to be 0", function()
      assert.truthy(file.read("/proc/version"):find("^Linux"))
    end)

    it("stops at the limit", function()
      helper.write(path, "12345")
      assert.equal("12345", file.read(path, 5))
      local message = fails("EFBIG", file.read(path, 4))
      assert.truthy(message:find(path, 1, true))
      fails("EFBIG", file.read("/proc/version", 4))
      assert.has_error(function() file.read(path, -1) end)
    end)

    it("has a limit of 64 MiB of its own", function()
      sh("truncate -s 67108864 %s", path)
      assert.equal(67108864, #file.read(path))
      sh("truncate -s 67108865 %s", path)
      fails("EFBIG", file.read(path))
    end)

    it("refuses links and special files, and does not wait for a writer", function()
      helper.write(directory .. "/real", "x")
      sh("ln -s real %s/link; mkfifo %s/fifo", directory, directory)
      for _, name in ipairs({ "link", "fifo", "." }) do
        fails("ENOTREG", file.read(directory .. "/" .. name))
      end
      fails("ENOENT", file.read(directory .. "/none"))
    end)
  end)

  describe("write_new", function()
    it("makes a file for its owner alone, of any bytes, and no second one", function()
      assert.is_true(file.write_new(path, "a\0b"))
      assert.equal("a\0b", file.read(path))
      assert.equal(384, file.stat(path).mode) -- 0600
      fails("EEXIST", file.write_new(path, "other"))
      assert.equal("a\0b", file.read(path))
    end)

    it("leaves nothing when it cannot be written to its end", function()
      local code = ("print(select(3, core.file.write_new(%q, 'abc')))"):format(path)
      local output, ok = child.run(code, child.injected("write:error=ENOSPC", path))
      assert.is_true(ok, output)
      assert.truthy(output:find("ENOSPC", 1, true), output)
      assert.is_false(file.exists(path))
    end)
  end)

  describe("write_atomic", function()
    it("makes a file with mode 0644, whatever the umask", function()
      assert.is_true(file.write_atomic(path, "a\0b"))
      assert.equal("a\0b", helper.read(path))
      assert.equal("644", output_of("stat -c %%a %s", path))
      local code = ("assert(core.file.write_atomic(%q, ''))"):format(path .. "2")
      assert.equal("", (child.run(code, "umask 077; exec")))
      assert.equal("644", output_of("stat -c %%a %s", path .. "2"))
      assert.equal("file\nfile2", names(directory))
    end)

    it("keeps the mode of the file it replaces, unless it is given one", function()
      helper.write(path, "old")
      sh("chmod 4751 %s", path)
      assert.is_true(file.write_atomic(path, "new"))
      assert.equal("4751", output_of("stat -c %%a %s", path))
      assert.is_true(file.write_atomic(path, "newer", 384)) -- 0600
      assert.equal("600", output_of("stat -c %%a %s", path))
      assert.equal("newer", helper.read(path))
    end)

    it("keeps the owner where it may", function()
      helper.write(path, "old")
      if core.system.euid() == 0 then sh("chown 1234:4321 %s", path) end
      local owner = output_of("stat -c %%u:%%g %s", path)
      assert.is_true(file.write_atomic(path, "new"))
      assert.equal(owner, output_of("stat -c %%u:%%g %s", path))
    end)

    it("replaces the file: who has the old one open keeps it", function()
      helper.write(path, "old")
      local open <close> = assert(io.open(path))
      sh("ln %s %s/second", path, directory)
      assert.is_true(file.write_atomic(path, "new"))
      assert.equal("old", open:read("a"))
      assert.equal("old", helper.read(directory .. "/second"))
      assert.equal("new", helper.read(path))
    end)

    it("replaces a link and does not write through it", function()
      helper.write(directory .. "/victim", "safe")
      sh("ln -s victim %s", path)
      assert.is_true(file.write_atomic(path, "new"))
      assert.equal("safe", helper.read(directory .. "/victim"))
      assert.equal("regular file 644", output_of("stat -c '%%F %%a' %s", path))
      sh("ln -sf nowhere %s", path)
      assert.is_true(file.write_atomic(path, "newer"))
      assert.equal("newer", helper.read(path))
      assert.equal("file\nvictim", names(directory))
    end)

    it("leaves the old file, and no other, when writing fails half-way #uncounted", function()
      helper.write(path, "old")
      -- A file may grow to 1 KiB here: the write stops short, then fails with EFBIG.
      local output = child.run(([[
        print(core.file.write_atomic(%q, ("x"):rep(100000)))
      ]]):format(path), "trap '' XFSZ; ulimit -f 1; exec")
      assert.equal("nil\twrite " .. path .. ": File too large\tEFBIG\n", output)
      assert.equal("old", helper.read(path))
      assert.equal("file", names(directory))
    end)

    it("leaves everything as it was in a directory it may not write to", function()
      helper.write(path, "old")
      sh("chmod 555 %s", directory)
      local output = child.run(("print(core.file.write_atomic(%q, 'new'))"):format(path),
        child.powerless())
      assert.equal("EACCES", output:match("(%u+)\n$"))
      assert.truthy(output:find(path, 1, true))
      assert.equal("old", helper.read(path))
      assert.equal("file", names(directory))
    end)

    it("does not take the place of a directory", function()
      fails("EISDIR", file.write_atomic(directory, "x"))
      fails("ENOENT", file.write_atomic(directory .. "/none/file", "x"))
      helper.write(path, "x")
      fails("ENOTDIR", file.write_atomic(path .. "/file", "x"))
      assert.equal("file", names(directory))
    end)

    it("refuses a path without a name at its end", function()
      for _, last in ipairs({ ".", "..", "a/.." }) do
        fails("EINVAL", file.write_atomic(directory .. "/" .. last, "x"))
      end
      fails("EINVAL", file.write_atomic("/", "x"))
      assert.has_error(function() file.write_atomic(path .. "\0x", "x") end)
      assert.has_error(function() file.write_atomic(path, "x", 65536) end)
      assert.equal("", names(directory))
    end)

    it("takes names of any bytes and of full length", function()
      for _, name in ipairs({ ("n"):rep(255), "a b\nc", "\255\254", "-rf", "%s%n" }) do
        assert.is_true(file.write_atomic(directory .. "/" .. name, name))
        assert.equal(name, helper.read(directory .. "/" .. name))
      end
      fails("ENAMETOOLONG", file.write_atomic(directory .. "/" .. ("n"):rep(256), "x"))
      assert.equal(5, #core.tree.list(directory))
    end)

    -- With a file system that exchanges names, and without.
    for road, prefix in pairs({
      exchanging = "",
      renaming = "exec strace -qq -o /dev/null -e inject=renameat2:error=EINVAL "
        .. "env ASAN_OPTIONS=detect_leaks=0",
    }) do
      local function write(data, previous)
        return (child.run(("print(core.file.write_atomic(%q, %q, nil, %q))"):format(path, data,
          previous), prefix))
      end

      it("gives the file it replaces another name, by " .. road, function()
        for _, data in ipairs({ "one", "two", "three" }) do
          assert.equal("true\n", write(data, "before"))
        end
        assert.equal("three", helper.read(path))
        assert.equal("two", helper.read(directory .. "/before"))
        assert.equal("before\nfile", names(directory))
      end)

      it("leaves all as it was when that name cannot be given, by " .. road, function()
        helper.write(path, "old")
        helper.write(directory .. "/before/x", "in the way")
        assert.equal("EISDIR", write("new", "before"):match("(%u+)\n$"))
        assert.equal("old", helper.read(path))
        assert.equal("before\nfile", names(directory))
      end)
    end

    it("takes a name only for the file it replaces", function()
      for _, name in ipairs({ "", ".", "..", "a/b", "/x" }) do
        assert.has_error(function() file.write_atomic(path, "x", nil, name) end)
      end
      assert.equal("", names(directory))
    end)

    it("never shows a reader a mixture", function()
      local old, new = ("a"):rep(200000), ("b"):rep(200000)
      helper.write(path, old)
      local writer = child.start(([[
        print(core.system.pid())
        for i = 1, 40 do
          assert(core.file.write_atomic(%q, (i %% 2 == 1 and "b" or "a"):rep(200000)))
        end
        print("done")
      ]]):format(path))
      local seen = { [old] = 0, [new] = 0 }
      while seen[old] + seen[new] < 300 or seen[new] == 0 do
        local data = assert(file.read(path))
        assert.is_not_nil(seen[data], "a mixture was seen")
        seen[data] = seen[data] + 1
      end
      assert.equal("done", writer.line())
      writer.finish()
      assert.equal("file", names(directory))
    end)
  end)

  describe("stat", function()
    it("says what stat(1) says", function()
      helper.write(path, "12345")
      sh("chmod 2640 %s; touch -d '2001-02-03 04:05:06.123456789 UTC' %s", path, path)
      local st = assert(file.stat(path))
      assert.equal("file", st.type)
      assert.equal(981173106123456789, st.mtime)
      assert.equal(output_of("stat -c '%%a %%s %%i %%d %%h %%u %%g' %s", path),
        ("%o %d %d %d %d %d %d"):format(st.mode, st.size, st.inode, st.device, st.links, st.uid,
          st.gid))
      assert.is_nil(st.target)
    end)

    it("describes links themselves, and knows the other types", function()
      sh("ln -s 'no where' %s/link; mkfifo %s/fifo", directory, directory)
      local st = file.stat(directory .. "/link")
      assert.equal("link", st.type)
      assert.equal("no where", st.target)
      assert.equal("directory", file.stat(directory).type)
      assert.equal("other", file.stat(directory .. "/fifo").type)
      fails("ENOENT", file.stat(directory .. "/none"))
    end)

    it("reads times before 1970", function()
      helper.write(path, "")
      sh("touch -d '1969-12-31 23:59:58.5 UTC' %s", path)
      assert.equal(-1500000000, file.stat(path).mtime)
    end)
  end)

  it("exists sees an entry, be it a link that leads nowhere", function()
    sh("ln -s nowhere %s", path)
    assert.is_true(file.exists(path))
    assert.is_true(file.exists(directory))
    assert.is_false(file.exists(directory .. "/none"))
  end)

  describe("mkdir", function()
    it("makes what is missing, and is content with what is there", function()
      assert.is_true(file.mkdir(directory .. "/a/b//c/"))
      assert.is_true(file.mkdir(directory .. "/a/b/c"))
      assert.equal("directory", file.stat(directory .. "/a/b/c").type)
      sh("ln -s a/b %s/link", directory)
      assert.is_true(file.mkdir(directory .. "/link/d"))
      assert.equal("directory", file.stat(directory .. "/a/b/d").type)
      assert.is_true(file.mkdir("/"))
    end)

    it("gives the mode to the last one alone, when it makes it", function()
      local code = ("assert(core.file.mkdir(%q, 448))"):format(directory .. "/a/b")
      assert.equal("", (child.run(code, "umask 022; exec")))
      assert.equal("755 700", output_of("stat -c %%a %s/a %s/a/b | xargs", directory, directory))
      assert.is_true(file.mkdir(directory .. "/a", 448))
      assert.equal("755", output_of("stat -c %%a %s/a", directory))
    end)

    it("fails where something else is in the way", function()
      helper.write(path, "")
      fails("EEXIST", file.mkdir(path))
      fails("ENOTDIR", file.mkdir(path .. "/below"))
      sh("ln -s nowhere %s/link", directory)
      fails("EEXIST", file.mkdir(directory .. "/link"))
    end)
  end)

  describe("remove", function()
    it("takes a file, an empty directory, and a link but not its target", function()
      helper.tree(directory, { file = "x", target = "x" })
      sh("mkdir %s/empty; ln -s target %s/link; ln -s empty %s/up", directory, directory, directory)
      for _, name in ipairs({ "file", "link", "up", "empty/" }) do
        assert.is_true(file.remove(directory .. "/" .. name))
      end
      assert.equal("target", names(directory))
    end)

    it("refuses a directory that is not empty, and what is not there", function()
      helper.write(directory .. "/d/file", "x")
      fails("ENOTEMPTY", file.remove(directory .. "/d"))
      fails("ENOENT", file.remove(directory .. "/none"))
      fails("EINVAL", file.remove(directory .. "/d/."))
      assert.equal("x", helper.read(directory .. "/d/file"))
    end)
  end)

  describe("rename", function()
    it("moves across directories and replaces", function()
      helper.tree(directory, { ["a/file"] = "new", ["b/file"] = "old" })
      assert.is_true(file.rename(directory .. "/a/file", directory .. "/b/file"))
      assert.equal("new", helper.read(directory .. "/b/file"))
      assert.equal("", names(directory .. "/a"))
      assert.is_true(file.rename(directory .. "/a/", directory .. "/c/"))
      assert.equal("b\nc", names(directory))
    end)

    it("replaces no file, no link and no empty directory when it must not", function()
      helper.tree(directory, { ["a/file"] = "new", ["b/file"] = "old" })
      sh("mkdir %s/empty; ln -s nowhere %s/link", directory, directory)
      for _, name in ipairs({ "b/file", "empty", "link" }) do
        fails("EEXIST", file.rename(directory .. "/a", directory .. "/" .. name, true))
      end
      assert.equal("old", helper.read(directory .. "/b/file"))
      assert.is_true(file.rename(directory .. "/a", directory .. "/c", true))
      assert.equal("new", helper.read(directory .. "/c/file"))
    end)

    it("names both paths when it fails", function()
      local message = fails("ENOENT", file.rename(directory .. "/none", path))
      assert.truthy(message:find(directory .. "/none to " .. path, 1, true))
      fails("ENOENT", file.rename(directory .. "/no/where", path))
    end)
  end)

  describe("link", function()
    it("gives a file a second name, and never takes one that is there", function()
      helper.write(path, "x")
      assert.is_true(file.link(path, directory .. "/other"))
      assert.equal(file.stat(path).inode, file.stat(directory .. "/other").inode)
      local message = fails("EEXIST", file.link(path, directory .. "/other"))
      assert.truthy(message:find(path .. " to " .. directory .. "/other", 1, true))
      fails("ENOENT", file.link(directory .. "/none", directory .. "/a"))
      fails("ENOENT", file.link(path, directory .. "/no/where"))
      fails("EPERM", file.link(directory, directory .. "/a"))
    end)
  end)

  describe("rewrite", function()
    it("puts a new file in the place of the old one, and syncs nothing", function()
      helper.write(path, "old")
      assert(file.link(path, directory .. "/other"))
      assert(os.execute("chmod 751 " .. path))
      local output = child.run(("print(core.file.rewrite(%q, 'new'))"):format(path),
        child.injected("fsync,fdatasync,syncfs:error=EIO"))
      assert.equal("true\n", output)
      assert.equal("new", helper.read(path))
      assert.equal("old", helper.read(directory .. "/other"))
      assert.equal(tonumber("751", 8), file.stat(path).mode)
      fails("EISDIR", file.rewrite(directory, "x"))
      assert.has_error(function() file.rewrite(path, "x", -1) end)
    end)
  end)

  describe("symlink", function()
    it("makes a link, and never takes a name that is there", function()
      assert.is_true(file.symlink("nowhere/at all", path))
      assert.equal("nowhere/at all", file.readlink(path))
      local message = fails("EEXIST", file.symlink("other", path))
      assert.truthy(message:find(path, 1, true))
      fails("ENOENT", file.symlink("x", directory .. "/no/where"))
    end)
  end)

  it("makes each change durable before it says that it is done", function()
    local trace = directory .. "/trace"
    local function calls(code)
      local output, ok = child.run(("local d = %q assert(%s)"):format(directory, code),
        "exec strace -qq -o " .. trace .. " -e trace=fsync,renameat,renameat2,linkat,symlinkat,"
        .. "unlinkat,mkdirat,fchmod "
        .. "env ASAN_OPTIONS=detect_leaks=0")
      assert.equal("", output)
      assert.is_true(ok)
      local names_of_calls = {}
      for name in io.lines(trace) do table.insert(names_of_calls, name:match("^%w+")) end
      return table.concat(names_of_calls, " ")
    end
    assert.equal("fchmod fsync renameat fsync", calls("core.file.write_atomic(d .. '/x', 'y')"))
    assert.equal("linkat fsync", calls("core.file.link(d .. '/x', d .. '/z')"))
    assert.equal("symlinkat fsync", calls("core.file.symlink('x', d .. '/l')"))
    assert.equal("fchmod fsync renameat2 renameat fsync",
      calls("core.file.write_atomic(d .. '/x', 'z', nil, 'p')"))
    assert.equal("renameat fsync fsync", calls("core.file.rename(d .. '/x', d .. '/y')"))
    assert.equal("renameat2 fsync fsync", calls("core.file.rename(d .. '/y', d .. '/x', true)"))
    assert.equal("renameat2 fsync fsync", calls("core.file.rename(d .. '/x', d .. '/y', true)"))
    assert.equal("unlinkat fsync", calls("core.file.remove(d .. '/y')"))
    assert.equal("mkdirat fsync mkdirat fsync", calls("core.file.mkdir(d .. '/a/b')"))
    assert.equal("unlinkat fsync", calls("core.file.remove(d .. '/a/b')"))
  end)

  it("sets the time of a file, and of a link itself, to the nanosecond", function()
    helper.write(directory .. "/file", "x")
    sh("ln -s file %s/link", directory)
    for _, mtime in ipairs({ 1234567890123456789, 0, -1500000001 }) do
      assert.is_true(file.set_mtime(directory .. "/link", mtime))
      assert.equal(mtime, file.stat(directory .. "/link").mtime)
      assert.is_true(file.stat(directory .. "/file").mtime > 1500000000 * 10^9)
    end
    fails("ENOENT", file.set_mtime(directory .. "/none", 0))
  end)

  it("readlink and realpath", function()
    helper.write(directory .. "/d/file", "x")
    sh("ln -s ../d %s/d/link; ln -s loop %s/loop", directory, directory)
    assert.equal("../d", file.readlink(directory .. "/d/link"))
    fails("EINVAL", file.readlink(directory .. "/d/file"))
    local real = output_of("realpath %s", directory)
    assert.equal(real .. "/d/file", file.realpath(directory .. "/d/link/./link/file"))
    fails("ELOOP", file.realpath(directory .. "/loop"))
    fails("ENOENT", file.realpath(directory .. "/none"))
  end)
end)
