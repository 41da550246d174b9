--- core.tree: whole trees, whatever is in them, against find, du and diff.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local fails = helper.fails

-- With every byte as it comes: some of the names end in a newline.
local function output_of(line, ...)
  local pipe = assert(io.popen(line:format(...)))
  local output = pipe:read("a")
  assert(pipe:close(), line)
  return output
end

local tree = core.tree

local function sh(line, ...)
  assert(os.execute(line:format(...)))
end

-- Makes a chain of `depth` directories of one name, with a file at its end. No single call could
-- name the last one.
local function deep_chain(root, name, depth)
  local script = command.quote(table.concat({
    "import os, sys",
    "os.chdir(sys.argv[1])",
    "for _ in range(int(sys.argv[3])):",
    "    os.mkdir(sys.argv[2]); os.chdir(sys.argv[2])",
    "open('end', 'w').write('the end')",
  }, "\n"))
  sh("python3 -c %s %s %s %d", script, root, name, depth)
end

-- What find sees beneath a directory, but the sizes of directories: everything a copy must keep.
local function seen(root)
  return output_of("cd %s && find . -printf '%%P %%y %%m %%T@ %%l %%n %%U:%%G ' "
    .. "\\( -type d -o -printf %%s \\) -printf '\\0' | LC_ALL=C sort -z", root)
end

local NAMES = {
  "with space", " ", "new\nline", "tab\tand\rreturn", "\255\254 not UTF-8", "\27[31mred",
  "-rf", "*", "$(x)", "'", "\"", "\\", "%s%n", "...", "..x", ".hidden", "ünïcode", ("n"):rep(255),
}

describe("core.tree", function()
  local directory, root, descriptors
  before_each(function()
    directory = helper.tempdir()
    root = directory .. "/root"
    sh("mkdir %s", root)
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  -- One of everything that can be copied.
  local function make_all_kinds()
    for _, name in ipairs(NAMES) do helper.write(root .. "/names/" .. name, name) end
    sh([[
      cd %s && mkdir -p a/b/c empty 'read only' && echo x > a/b/c/file && : > a/nothing
      echo 1 > 'read only/file' && chmod 4751 a/b/c/file && chmod 600 a/nothing
      ln a/b/c/file hard && ln a/b/c/file a/hard && ln -s a/b link && ln -s nowhere dangling
      ln -s loop2 loop1 && ln -s loop1 loop2 && ln -s .. a/up && ln -s . a/self
      ln dangling hard-link-to-link && truncate -s 3000000 a/sparse
      head -c 300000 /dev/urandom > a/big
      touch -d '2001-02-03 04:05:06.123456789 UTC' a/big a/b empty
      touch -hd '2002-02-03 04:05:06.987654321 UTC' link
      chmod 1777 empty && chmod 555 'read only' && chmod 750 a
    ]], root)
  end

  describe("list", function()
    it("gives every entry once, of any name, in the order of the bytes", function()
      make_all_kinds()
      local expected = output_of(
        "cd %s && find . -mindepth 1 -printf '%%P\\0' | LC_ALL=C sort -z", root)
      local paths = {}
      for i, entry in ipairs(assert(tree.list(root))) do paths[i] = entry.path .. "\0" end
      assert.is_true(#paths > 30)
      assert.equal(expected, table.concat(paths))
    end)

    it("sorts by the whole path, not by directory", function()
      helper.tree(root, { ["a/x"] = "", ["a-b"] = "", ["a.b"] = "", ["a0"] = "", ["a/y"] = "" })
      local paths = {}
      for i, entry in ipairs(tree.list(root)) do paths[i] = entry.path end
      assert.same({ "a", "a-b", "a.b", "a/x", "a/y", "a0" }, paths)
    end)

    it("says of each what stat(1) says", function()
      make_all_kinds()
      sh("mkfifo %s/fifo", root)
      local types = { file = "regular file", directory = "directory", link = "symbolic link" }
      for _, entry in ipairs(tree.list(root)) do
        local path = root .. "/" .. entry.path
        local said = output_of("LC_ALL=C stat -c '%%F|%%a|%%s|%%i|%%.9Y' %s", command.quote(path))
        local size = entry.type == "directory" and said:match("|(%d+)|%d+|[%d.]+\n") or entry.size
        local expected = ("%s|%o|%d|%d|%d.%09d\n"):format(
          entry.type == "other" and "fifo" or types[entry.type], entry.mode, size, entry.inode,
          entry.mtime // 1000000000, entry.mtime % 1000000000)
        assert.equal(said:gsub("regular empty file", "regular file"), expected, path)
        assert.equal(entry.type == "link", entry.target ~= nil)
        if entry.type == "directory" then assert.equal(0, entry.size) end
      end
    end)

    it("never follows links", function()
      make_all_kinds()
      local by_path = {}
      for _, entry in ipairs(tree.list(root)) do by_path[entry.path] = entry end
      assert.equal("a/b", by_path.link.target)
      assert.equal("nowhere", by_path.dangling.target)
      assert.equal("loop2", by_path.loop1.target)
      assert.equal("..", by_path["a/up"].target)
      assert.is_nil(by_path["link/c"])
    end)

    it("hashes regular files when asked to, and nothing else", function()
      make_all_kinds()
      sh("mkfifo %s/fifo", root)
      for _, entry in ipairs(tree.list(root, { hash = true })) do
        if entry.type == "file" then
          assert.equal(core.hash.sha256(helper.read(root .. "/" .. entry.path)), entry.sha256)
        else
          assert.is_nil(entry.sha256)
        end
      end
      for _, entry in ipairs(tree.list(root)) do assert.is_nil(entry.sha256) end
    end)

    it("leaves out what is skipped, and does not enter it", function()
      helper.tree(root, {
        ["keep/x"] = "", ["keep/__pycache__/x"] = "", ["__pycache__/y"] = "", ["a/b/c"] = "",
        ["a/b2"] = "", ["b/x"] = "",
      })
      local paths = {}
      local entries = assert(tree.list(root, {
        skip = { ["a/b"] = true, b = true, ["keep/x"] = false },
        skip_names = { __pycache__ = true },
      }))
      for i, entry in ipairs(entries) do paths[i] = entry.path end
      assert.same({ "a", "a/b2", "keep", "keep/x" }, paths)
    end)

    it("takes an empty directory, and says when there is none", function()
      assert.same({}, tree.list(root))
      helper.write(root .. "/file", "")
      sh("ln -s root %s/link", directory)
      fails("ENOENT", tree.list(root .. "/none"))
      fails("ENOTDIR", tree.list(root .. "/file"))
      fails("ENOTDIR", tree.list(directory .. "/link"))
      assert.equal(1, #tree.list(directory .. "/link/"))
    end)

    it("names what it may not read", function()
      helper.write(root .. "/closed/file", "")
      sh("chmod 0 %s/closed", root)
      local output = child.run(("print(core.tree.list(%q))"):format(root), child.powerless())
      assert.equal("nil\topen " .. root .. "/closed: Permission denied\tEACCES\n", output)
    end)

    it("raises for options of the wrong type", function()
      assert.has_error(function() tree.list(root, { skip = "a" }) end)
      assert.has_error(function() tree.list(root, { hash = 1 }) end)
      assert.has_error(function() tree.list(root, 1) end)
    end)

    it("lives with a tree that changes while it is read", function()
      local writer = child.start(([[
        local lfs, root = require("lfs"), %q
        print(core.system.pid())
        while true do
          for i = 1, 50 do
            lfs.mkdir(root .. "/d" .. i)
            io.open(root .. "/d" .. i .. "/file", "w"):close()
          end
          for i = 1, 50 do
            os.remove(root .. "/d" .. i .. "/file")
            lfs.rmdir(root .. "/d" .. i)
          end
        end
      ]]):format(root))
      local most, failure, rounds = 0, nil, 0
      local deadline = core.system.monotonic() + 20
      while rounds < 2000 or (most == 0 and core.system.monotonic() < deadline) do
        local entries, message = tree.list(root, { hash = true })
        failure = failure or message
        most = math.max(most, entries and #entries or 0)
        rounds = rounds + 1
      end
      writer.kill("KILL")
      assert.is_nil(failure)
      assert.is_true(most > 0)
    end)
  end)

  describe("size", function()
    it("is what du says", function()
      make_all_kinds()
      local size = assert(tree.size(root))
      assert.equal(output_of("du -s -B1 %s", root):match("^%d+"), tostring(size.allocated))
      assert.equal(output_of("du -s --inodes %s", root):match("^%d+"), tostring(size.inodes))
      local files = output_of("find %s -type f -printf '%%i %%s\\n' | sort -u", root)
      local bytes = 0
      for length in files:gmatch("%d+ (%d+)") do bytes = bytes + tonumber(length) end
      assert.equal(bytes, size.bytes)
    end)

    it("of nothing is zero; of a file it is the file's", function()
      assert.same({ bytes = 0, allocated = 0, inodes = 0 }, tree.size(root .. "/none"))
      helper.write(root .. "/file", "12345")
      assert.equal(5, tree.size(root .. "/file").bytes)
      assert.equal(1, tree.size(root .. "/file").inodes)
      assert.equal(1, tree.size(root, { skip_names = { file = true } }).inodes)
    end)
  end)

  describe("copy", function()
    it("keeps everything", function()
      make_all_kinds()
      local count = assert(tree.copy(root, directory .. "/copy"))
      assert.equal(seen(root), seen(directory .. "/copy"))
      sh("diff -r --no-dereference %s %s/copy", root, directory)
      assert.equal(tree.size(root).bytes, count.bytes)
      assert.equal(tonumber(output_of("find %s -type f -printf x | wc -c", root)), count.files)
    end)

    it("keeps hard links within the tree, and shares nothing with the original", function()
      make_all_kinds()
      assert(tree.copy(root, directory .. "/copy"))
      local copied, original = {}, {}
      for _, entry in ipairs(tree.list(root)) do original[entry.inode] = true end
      for _, entry in ipairs(tree.list(directory .. "/copy")) do
        copied[entry.path] = entry.inode
        assert.is_nil(original[entry.inode])
      end
      assert.equal(copied.hard, copied["a/b/c/file"])
      assert.equal(copied.hard, copied["a/hard"])
      assert.equal(copied.dangling, copied["hard-link-to-link"])
    end)

    it("copies where the kernel cannot", function()
      make_all_kinds()
      local output = child.run(([[
        local from, to = %q, %q
        print(core.tree.copy(from, to).files > 20)
      ]]):format(root, directory .. "/copy"),
        child.injected("copy_file_range:error=EXDEV"))
      assert.equal("true\n", output)
      assert.equal(seen(root), seen(directory .. "/copy"))
      sh("diff -r --no-dereference %s %s/copy", root, directory)
    end)

    it("keeps owners, as root", function()
      helper.tree(root, { ["d/file"] = "x" })
      if core.system.euid() == 0 then sh("chown -R 1234:4321 %s", root) end
      sh("chmod 6755 %s/d/file", root)
      assert(tree.copy(root, directory .. "/copy"))
      assert.equal(seen(root), seen(directory .. "/copy"))
    end)

    it("takes a single file or link as well", function()
      helper.write(root .. "/file", "x")
      sh("ln -s file %s/link", root)
      assert.same({ files = 1, bytes = 1 }, tree.copy(root .. "/file", directory .. "/copy"))
      assert.equal("x", helper.read(directory .. "/copy"))
      assert.same({ files = 0, bytes = 0 }, tree.copy(root .. "/link", directory .. "/copied"))
      assert.equal("file", core.file.readlink(directory .. "/copied"))
    end)

    it("leaves out what is skipped", function()
      helper.tree(root, { ["a/__pycache__/x"] = "", ["a/b"] = "", c = "" })
      assert(tree.copy(root, directory .. "/copy", {
        skip_names = { __pycache__ = true }, skip = { c = true },
      }))
      assert.equal("\na\na/b\n",
        output_of("cd %s/copy && find . -printf '%%P\\n' | sort", directory))
    end)

    describe("with a set of what to link", function()
      local function inode(path) return assert(core.file.stat(path)).inode end

      it("gives those files a second name, and copies everything else", function()
        helper.tree(root, { ["a/code.py"] = "code", ["a/data"] = "data", top = "top" })
        sh("ln -s code.py %s/a/link", root)
        assert.same({ files = 3, bytes = 7, linked = 1 }, tree.copy(root, directory .. "/copy", {
          link = { ["a/code.py"] = true, ["a/link"] = true, a = true, none = true } }))
        assert.equal(inode(root .. "/a/code.py"), inode(directory .. "/copy/a/code.py"))
        for _, path in ipairs({ "/a/data", "/top", "/a", "/a/link" }) do
          assert.not_equal(inode(root .. path), inode(directory .. "/copy" .. path))
        end
        assert.equal(seen(root), seen(directory .. "/copy"))
      end)

      it("makes no other name of what it is to copy", function()
        helper.tree(root, { ["code.py"] = "code" })
        sh("cd %s && ln code.py data && ln code.py data2", root)
        assert.equal(1, tree.copy(root, directory .. "/copy", { link = { ["code.py"] = true } })
          .linked)
        helper.write(directory .. "/copy/data", "written in place")
        assert.equal("code", helper.read(root .. "/code.py"))
        assert.equal("code", helper.read(directory .. "/copy/code.py"))
      end)

      it("copies what cannot be linked", function()
        for _, problem in ipairs({ "EXDEV", "EPERM", "EMLINK", "EOPNOTSUPP" }) do
          helper.tree(root, { ["code.py"] = "code" })
          local output = child.run(([[
            local counts = core.tree.copy(%q, %q, { link = { ["code.py"] = true } })
            print(counts.files, counts.bytes, counts.linked)
          ]]):format(root, directory .. "/" .. problem), child.injected("linkat:error=" .. problem))
          assert.equal("1\t4\t0\n", output)
          assert.equal("code", helper.read(directory .. "/" .. problem .. "/code.py"))
        end
      end)

      it("fails when linking does, and removes what it made", function()
        helper.tree(root, { ["code.py"] = "code" })
        local options = '{ link = { ["code.py"] = true } }'
        local output = child.run(("print(core.tree.copy(%q, %q, " .. options .. "))")
          :format(root, directory .. "/copy"), child.injected("linkat:error=EIO"))
        assert.matches("code.py: Input/output error\tEIO\n$", output)
        assert.is_false(core.file.exists(directory .. "/copy"))
      end)
    end)

    it("does not copy into itself for ever", function()
      helper.tree(root, { ["a/b"] = "x" })
      assert(tree.copy(root, root .. "/a/copy"))
      assert.equal("x", helper.read(root .. "/a/copy/a/b"))
      assert.is_nil(helper.read(root .. "/a/copy/a/copy/a/b"))
    end)

    it("refuses a place that is taken, and touches nothing there", function()
      helper.tree(root, { file = "x" })
      helper.write(directory .. "/file", "old")
      sh("mkdir %s/directory; ln -s nowhere %s/link", directory, directory)
      for _, name in ipairs({ "file", "directory", "link" }) do
        local message = fails("EEXIST", tree.copy(root, directory .. "/" .. name))
        assert.truthy(message:find(directory .. "/" .. name, 1, true), message)
      end
      assert.equal("old", helper.read(directory .. "/file"))
      assert.same({}, tree.list(directory .. "/directory"))
      fails("EINVAL", tree.copy(root, directory .. "/x/.."))
    end)

    it("refuses special files by name, before it makes anything", function()
      helper.tree(root, { ["a/b"] = "x" })
      sh("mkfifo %s/a/pipe", root)
      local message = fails("ENOTREG", tree.copy(root, directory .. "/copy"))
      assert.equal("copy " .. root .. "/a/pipe: not a regular file", message)
      assert.is_false(core.file.exists(directory .. "/copy"))
    end)

    it("removes what it made when it fails", function()
      helper.tree(root, { ["a/small"] = "x", ["b/big"] = ("x"):rep(100000), ["c/d"] = "y" })
      sh("chmod 500 %s/a", root)
      local output = child.run(("print(core.tree.copy(%q, %q))"):format(root, directory .. "/copy"),
        "trap '' XFSZ; ulimit -f 8; exec")
      assert.equal("nil\tcopy " .. root .. "/b/big: File too large\tEFBIG\n", output)
      assert.is_false(core.file.exists(directory .. "/copy"))
      fails("ENOENT", tree.copy(root .. "/none", directory .. "/copy"))
      fails("ENOENT", tree.copy(root, directory .. "/no/copy"))
      assert.is_false(core.file.exists(directory .. "/copy"))
    end)
  end)

  describe("remove", function()
    it("takes everything away and counts it", function()
      make_all_kinds()
      sh("mkfifo %s/fifo", root)
      local count = tonumber(output_of("find %s -printf x | wc -c", root))
      assert.equal(count, tree.remove(root))
      assert.equal("", output_of("ls -A %s", directory))
    end)

    it("of nothing is 0", function()
      assert.equal(0, tree.remove(root .. "/none"))
      assert.equal(0, tree.remove(root .. "/none/below"))
    end)

    it("takes a file or a link, never what the link leads to", function()
      helper.tree(directory, { ["keep/file"] = "x", ["root/file"] = "x" })
      sh("cd %s && ln -s ../keep root/link && ln -s ../keep/file root/flink && ln -s keep top",
        directory)
      assert.equal(1, tree.remove(directory .. "/top/"))
      assert.equal(1, tree.remove(root .. "/flink"))
      assert.equal(3, tree.remove(root .. "/"))
      assert.equal("keep\n", output_of("ls -A %s", directory))
      assert.equal("x", helper.read(directory .. "/keep/file"))
    end)

    it("does not empty what a link leads to that takes the tree's place just then", function()
      helper.tree(directory, { ["keep/file"] = "x", ["root/file"] = "x" })
      local remover = child.start(("print(core.system.pid()) core.tree.remove(%q)"):format(root),
        child.injected("openat:delay_enter=500000", root))
      core.system.sleep(0.2)
      sh("mv %s %s/moved && ln -s keep %s", root, directory, root)
      remover.finish()
      assert.equal("x", helper.read(directory .. "/keep/file"))
    end)

    it("gives back the permissions it needs", function()
      helper.tree(root, { ["a/b/file"] = "x", ["c/file"] = "x" })
      sh("chmod 0 %s/a/b; chmod 500 %s/a; chmod 0 %s/c; chmod 100 %s", root, root, root, root)
      local output = child.run(("print(core.tree.remove(%q))"):format(root), child.powerless())
      assert.equal("6\n", output)
    end)

    it("refuses paths without a name, and removes nothing then", function()
      helper.tree(root, { file = "x" })
      for _, last in ipairs({ "/.", "/..", "/../", "/./", "/x/.." }) do
        fails("EINVAL", tree.remove(root .. last))
      end
      fails("EINVAL", tree.remove("/"))
      fails("EINVAL", tree.remove("//"))
      assert.equal("x", helper.read(root .. "/file"))
    end)

    it("says what it could not remove", function()
      helper.tree(root, { ["a/file"] = "x" })
      sh("chmod 555 %s", directory)
      local output = child.run(("print(core.tree.remove(%q))"):format(root), child.powerless())
      assert.equal("nil\tremove " .. root .. ": Permission denied\tEACCES\n", output)
      sh("chmod 755 %s", directory)
    end)

    it("manages while somebody still writes into the tree", function()
      helper.tree(root, { ["a/b"] = "x" })
      local writer = child.start(([[
        print(core.system.pid())
        local deadline = core.system.monotonic() + 20
        while core.system.monotonic() < deadline do
          local out = io.open(%q .. "/a/" .. core.system.uuid(), "w")
          if not out then return end
          out:close()
        end
      ]]):format(root))
      local count, message = tree.remove(root)
      writer.kill("KILL")
      -- A writer that is quick enough may win; it must then be told apart from other failures.
      assert.truthy(count or message:find("Directory not empty", 1, true), message)
      assert(tree.remove(root))
      assert.is_false(core.file.exists(root))
    end)
  end)

  describe("of 2000 levels", function()
    it("is listed, measured, copied and removed", function()
      deep_chain(root, "d", 2000)
      local entries = assert(tree.list(root, { hash = true }))
      assert.equal(2001, #entries)
      local last = entries[2001]
      assert.equal(("d/"):rep(2000) .. "end", last.path)
      assert.equal(core.hash.sha256("the end"), last.sha256)
      assert.equal(2002, tree.size(root).inodes)
      assert.same({ files = 1, bytes = 7 }, tree.copy(root, directory .. "/copy"))
      local copied = assert(tree.list(directory .. "/copy", { hash = true }))
      for i, entry in ipairs(entries) do
        assert.equal(entry.path, copied[i].path)
        assert.equal(entry.mtime, copied[i].mtime)
        assert.equal(entry.sha256, copied[i].sha256)
      end
      assert.equal(2002, tree.remove(root))
      assert.equal(2002, tree.remove(directory .. "/copy"))
      assert.equal("", output_of("ls -A %s", directory))
    end)

    it("may have long names", function()
      local name = ("n"):rep(255)
      deep_chain(root, name, 100)
      assert.equal(100 * 256 + 3, #tree.list(root)[101].path)
      assert.equal(1, tree.copy(root, directory .. "/copy").files)
      assert.equal(102, tree.remove(root))
      assert.equal(102, tree.remove(directory .. "/copy"))
    end)

    it("is walked with a handful of descriptors", function()
      deep_chain(root, "d", 300)
      local output = child.run(("print(#core.tree.list(%q))"):format(root), "ulimit -n 16; exec")
      assert.equal("301\n", output)
    end)
  end)

  it("sync makes the file system of a path durable", function()
    assert.is_true(tree.sync(root))
    helper.write(root .. "/file", "x")
    assert.is_true(tree.sync(root .. "/file"))
    fails("ENOENT", tree.sync(root .. "/none"))
  end)
end)
