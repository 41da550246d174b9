--- core.archive against the tar of the system, against changing files and against hostile archives.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local archive = core.archive

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

-- Runs a shell command; what it printed.
local function sh(command)
  local pipe = assert(io.popen("( " .. command .. " ) 2>&1", "r"))
  local output = pipe:read("a")
  local ok, _, code = pipe:close()
  return output, ok and 0 or code
end

local function must(command)
  local output, code = sh(command)
  assert(code == 0, command .. ": " .. output)
  return output
end

local function paths_of(root)
  local paths = {}
  for _, entry in ipairs(assert(core.tree.list(root))) do paths[#paths + 1] = entry.path end
  return paths
end

-- A tree as a table: every path (a long one by its hash) with type, mode, time, target and content.
local function portrait(root)
  local all = {}
  for _, e in ipairs(assert(core.tree.list(root, { hash = true }))) do
    local path = #e.path > 100 and core.hash.sha256(e.path) or e.path
    all[path] = string.format("%s %04o %d %s", e.type, e.mode, e.mtime, e.sha256 or e.target or "")
  end
  return all
end

local function long_path()
  local parts = {}
  for i = 1, 15 do parts[i] = string.rep(string.char(96 + i), 200) end
  return table.concat(parts, "/")
end

-- Everything a file system lets a user make, as far as we back it up.
local function make_odd_tree(root)
  helper.tree(root, {
    ["plain.md"] = "# text\n", ["with space/a b.txt"] = "space\n", ["new\nline"] = "line\n",
    ["latin-\xe9\xff.txt"] = "not UTF-8\n", ["composed-\u{e4}"] = "one letter\n",
    ["decomposed-a\u{308}"] = "two letters\n", [string.rep("n", 255)] = "long name\n",
    [long_path() .. "/deep.txt"] = "deep\n", ["empty"] = "", ["private"] = "0600\n",
    ["script"] = "#!/bin/sh\n", ["read-only/file"] = "0444\n", ["-dash"] = "dash\n",
    ["back\\slash"] = "\\\n", ["binary"] = string.rep("\0\255\n", 100000),
  })
  must(([[cd %s && chmod 600 private && chmod 755 script && chmod 444 read-only/file &&
    chmod 2755 'with space' && mkdir -p no/thing/inside && ln -s ../plain.md 'with space/link' &&
    ln -s /nowhere/at/all dangling && ln -s . here && ln -s "$(printf 'to\377')" odd-link &&
    ln plain.md hard-link && truncate -s 3M sparse && printf end >> sparse &&
    touch -h -d '2001-02-03 04:05:06.123456789' dangling plain.md no/thing &&
    touch -d '1965-01-01' empty && chmod 555 read-only]]):format(quote(root)))
end

describe("core.archive", function()
  local dir
  before_each(function() dir = helper.tempdir() end)
  after_each(helper.clean)

  describe("with a tree of odd names, modes and links", function()
    local root, out, made
    before_each(function()
      root, out = dir .. "/tree", dir .. "/out.tar.zst"
      make_odd_tree(root)
      made = assert(archive.create(out, root, paths_of(root)))
    end)

    it("is listed by tar with the same names", function()
      local listed = must("tar --zstd --quoting-style=literal --show-transformed-names -tf "
        .. quote(out) .. " 2>/dev/null | sed 's:/$::' | LC_ALL=C sort")
      local names = paths_of(root)
      local wanted = dir .. "/names"
      helper.write(wanted, table.concat(names, "\n") .. "\n")
      assert.equal(must("LC_ALL=C sort " .. quote(wanted)), listed)
    end)

    it("is unpacked by tar into the same tree", function()
      must("mkdir " .. quote(dir .. "/untarred") .. " && tar --zstd -xpf " .. quote(out) .. " -C "
        .. quote(dir .. "/untarred"))
      assert.same(portrait(root), portrait(dir .. "/untarred"))
      must("diff -r --no-dereference " .. quote(root) .. " " .. quote(dir .. "/untarred"))
    end)

    it("makes tar complain of nothing but the names that are not UTF-8", function()
      local said = must("tar --zstd -tf " .. quote(out) .. " 2>&1 >/dev/null")
      local lines = 0
      for line in said:gmatch("[^\n]+") do
        assert.truthy(line:find("hdrcharset", 1, true), line)
        lines = lines + 1
      end
      assert.equal(2, lines)
    end)

    it("is extracted into the same tree, but for set-id bits", function()
      assert(core.file.mkdir(dir .. "/extracted"))
      local result = assert(archive.extract(out, dir .. "/extracted"))
      must("chmod g-s " .. quote(root .. "/with space"))
      assert.same(portrait(root), portrait(dir .. "/extracted"))
      assert.equal(made.bytes, result.bytes)
      assert.equal(made.archive_sha256, result.archive_sha256)
    end)

    it("is read back with what create reported and the tree holds", function()
      local read = assert(archive.read(out))
      assert.equal(made.archive_sha256, read.archive_sha256)
      assert.equal(made.archive_bytes, read.archive_bytes)
      local live = assert(core.tree.list(root, { hash = true }))
      assert.equal(#live, #read.entries)
      local directories = 0
      for i, entry in ipairs(read.entries) do
        local there = live[i]
        assert.equal(there.path, entry.path)
        assert.equal(there.type, entry.type)
        assert.equal(there.mtime, entry.mtime)
        assert.equal(there.target, entry.target)
        assert.equal(there.sha256, entry.sha256)
        assert.equal(made.files[entry.path], entry.sha256)
        assert.equal(made.links[entry.path], entry.target)
        if entry.type ~= "link" then assert.equal(there.mode, entry.mode) end
        if entry.type == "directory" then directories = directories + 1 end
      end
      assert.equal(directories, made.directories)
    end)

    it("reports the hashes that sha256sum finds", function()
      local said = must("cd " .. quote(root) .. " && sha256sum binary sparse empty")
      for hash, name in said:gmatch("(%x+)  ([^\n]+)") do assert.equal(hash, made.files[name]) end
      assert.equal(must("sha256sum " .. quote(out)):match("%x+"), made.archive_sha256)
      assert.equal(core.file.stat(out).size, made.archive_bytes)
      assert.equal(tonumber("600", 8), core.file.stat(out).mode)
    end)
  end)

  describe("create", function()
    local root, out
    before_each(function()
      root, out = dir .. "/tree", dir .. "/out.tar.zst"
      helper.tree(root, { ["a.txt"] = "a\n", ["b/c.txt"] = "c\n" })
    end)

    local function refused(entries, code, options)
      local before = helper.descriptors()
      local result, message, got = archive.create(out, root, entries, options)
      assert.is_nil(result)
      assert.equal(code, got, message)
      assert.is_false(core.file.exists(out))
      assert.equal(before, helper.descriptors())
      return message
    end

    it("refuses paths that are not normal or lead through a link", function()
      must("ln -s /etc " .. quote(root .. "/out") .. "; ln -s b " .. quote(root .. "/in"))
      for _, path in ipairs({ "../tree/a.txt", "/etc/passwd", "", ".", "b/../a.txt", "b//c.txt",
        "./a.txt", "b/", "a.txt\0" }) do
        refused({ path }, "EINVAL")
      end
      local result, _, code = archive.create(out, root, { "out/passwd" })
      assert.is_nil(result)
      assert.is_true(code == "ELOOP" or code == "EXDEV" or code == "ENOTDIR", code)
      assert.is_nil((archive.create(out, root, { "in/c.txt" })))
      assert.is_false(core.file.exists(out))
    end)

    it("names the special file it refuses", function()
      must("mkfifo " .. quote(root .. "/b/pipe"))
      assert.truthy(refused({ "a.txt", "b/pipe" }, "ENOTREG"):find("b/pipe", 1, true))
    end)

    it("leaves nothing behind when a file is missing", function()
      assert.truthy(refused({ "a.txt", "gone" }, "ENOENT"):find("gone", 1, true))
    end)

    it("never replaces a file that is there", function()
      helper.write(out, "precious")
      local result, _, code = archive.create(out, root, { "a.txt" })
      assert.is_nil(result)
      assert.equal("EEXIST", code)
      assert.equal("precious", helper.read(out))
    end)

    it("raises what the progress function raises, and removes the archive", function()
      local before = helper.descriptors()
      assert.has_error(function()
        archive.create(out, root, { "a.txt" }, { progress = function() error("enough", 0) end })
      end, "enough")
      assert.is_false(core.file.exists(out))
      assert.equal(before, helper.descriptors())
    end)

    it("stops when the progress function returns false", function()
      refused({ "a.txt" }, "ECANCELED", { progress = function() return false end })
    end)

    it("raises for arguments of the wrong kind", function()
      assert.has_error(function() archive.create(out, root, "a.txt") end)
      assert.has_error(function() archive.create(out, root, { 12 }) end)
      assert.has_error(function() archive.create(out, root, {}, { progress = 1 }) end)
      assert.is_false(core.file.exists(out))
    end)

    it("tells the bytes that are done, at the most ten times a second", function()
      helper.write(root .. "/big", string.rep("x", 20 * 1024 * 1024))
      local told = {}
      local started = core.system.monotonic()
      local function progress(bytes) told[#told + 1] = bytes end
      assert(archive.create(out, root, { "big" }, { progress = progress }))
      local seconds = core.system.monotonic() - started
      assert.is_true(#told >= 1 and #told <= 2 + seconds * 10, #told .. " calls")
      for i = 2, #told do assert.is_true(told[i] > told[i - 1]) end
    end)

    it("makes a valid archive of nothing", function()
      assert(archive.create(out, root, {}))
      assert.same({}, assert(archive.read(out)).entries)
      assert.equal("", must("tar --zstd -tf " .. quote(out)))
    end)

    -- The progress function runs between two reads of the big file: what it does to the file really
    -- happens while that is being read.
    describe("of a file that changes while it is read", function()
      local big
      before_each(function()
        big = root .. "/big"
        helper.write(big, string.rep("0123456789abcdef", 256 * 1024))
      end)

      local function changing(action)
        local done = false
        local message = refused({ "a.txt", "big" }, "ECHANGED", {
          progress = function(bytes)
            if done or bytes < 1000 then return end
            done = true
            action()
          end,
        })
        assert.is_true(done)
        assert.truthy(message:find("big", 1, true))
      end

      -- a.txt alone is told first; the next call must not wait for a tenth of a second.
      before_each(function() os.remove(root .. "/a.txt") helper.write(root .. "/a.txt", "") end)

      it("notices that it grows", function()
        changing(function()
          local f = assert(io.open(big, "ab"))
          f:write("more")
          f:close()
        end)
      end)

      it("notices that it is cut", function()
        changing(function() must("truncate -s 1000 " .. quote(big)) end)
      end)

      it("notices that it is rewritten with the same size", function()
        changing(function()
          core.system.sleep(0.02)
          local f = assert(io.open(big, "r+b"))
          f:seek("set", 0)
          f:write("FEDCBA")
          f:close()
        end)
      end)
    end)

    it("keeps the old content of a file that is replaced while it is read", function()
      local big = root .. "/big"
      helper.write(big, string.rep("old!", 1024 * 1024))
      local old = core.hash.file(big)
      local made = assert(archive.create(out, root, { "big" }, {
        progress = function()
          helper.write(root .. "/new", "new")
          os.rename(root .. "/new", big)
        end,
      }))
      assert.equal("new", helper.read(big))
      assert.equal(old, made.files.big)
      assert.equal(old, archive.read(out).entries[1].sha256)
    end)
  end)

  describe("of a damaged file", function()
    local out, made
    before_each(function()
      local root = dir .. "/tree"
      out = dir .. "/out.tar.zst"
      helper.tree(root, { ["a.txt"] = "content of a\n", ["d/b.txt"] = string.rep("b", 5000) })
      made = assert(archive.create(out, root, paths_of(root)))
    end)

    it("notices every truncation", function()
      local data = helper.read(out)
      for length = 0, #data - 1 do
        helper.write(out, data:sub(1, length))
        local read, _, code = archive.read(out)
        assert.is_nil(read, "cut to " .. length)
        assert.equal("EBADARCHIVE", code)
      end
    end)

    it("notices every flipped bit, by refusing it or by the hash of the archive", function()
      local data = helper.read(out)
      for at = 1, #data do
        for bit = 0, 7 do
          local flipped = string.char(data:byte(at) ~ (1 << bit))
          helper.write(out, data:sub(1, at - 1) .. flipped .. data:sub(at + 1))
          local read = archive.read(out)
          assert.is_true(not read or read.archive_sha256 ~= made.archive_sha256,
            "byte " .. at .. " bit " .. bit)
        end
      end
    end)

    it("notices what is appended", function()
      local data = helper.read(out)
      for _, more in ipairs({ "x", "\0", data, string.rep("\0", 10240) }) do
        helper.write(out, data .. more)
        assert.is_nil((archive.read(out)))
      end
    end)

    it("refuses what is no regular file", function()
      must("mkfifo " .. quote(dir .. "/pipe") .. "; ln -s out.tar.zst " .. quote(dir .. "/link"))
      assert.equal("ENOTREG", select(3, archive.read(dir .. "/pipe")))
      assert.equal("ELOOP", select(3, archive.read(dir .. "/link")))
      assert.equal("ENOENT", select(3, archive.read(dir .. "/none")))
      helper.write(dir .. "/text", "no archive")
      assert.equal("EBADARCHIVE", select(3, archive.read(dir .. "/text")))
      helper.write(dir .. "/nothing", "")
      assert.equal("EBADARCHIVE", select(3, archive.read(dir .. "/nothing")))
    end)

    it("stops at the limits it was given", function()
      assert.equal("EFBIG", select(3, archive.read(out, { max_bytes = made.bytes - 1 })))
      assert.equal("EFBIG", select(3, archive.read(out, { max_entries = 2 })))
      assert(archive.read(out, { max_bytes = made.bytes, max_entries = 3 }))
    end)
  end)

  describe("extract", function()
    local root, out, to
    before_each(function()
      root, out, to = dir .. "/tree", dir .. "/out.tar.zst", dir .. "/to"
      helper.tree(root, { ["a.txt"] = "a\n" })
      assert(core.file.mkdir(to))
      assert(archive.create(out, root, { "a.txt" }))
    end)

    it("wants an empty directory that is no link", function()
      must("ln -s to " .. quote(dir .. "/link"))
      assert.is_nil((archive.extract(out, dir .. "/link")))
      assert.equal("ENOENT", select(3, archive.extract(out, dir .. "/none")))
      helper.write(to .. "/there", "precious")
      assert.equal("ENOTEMPTY", select(3, archive.extract(out, to)))
      assert.equal("precious", helper.read(to .. "/there"))
    end)

    it("leaves set-id bits out", function()
      must("chmod 6755 " .. quote(root .. "/a.txt"))
      os.remove(out)
      assert(archive.create(out, root, { "a.txt" }))
      assert.equal(tonumber("6755", 8), archive.read(out).entries[1].mode)
      assert(archive.extract(out, to))
      assert.equal(tonumber("755", 8), core.file.stat(to .. "/a.txt").mode)
    end)

    it("closes what it opened", function()
      local before = helper.descriptors()
      assert(archive.extract(out, to))
      archive.extract(out, to)
      archive.read(dir .. "/none")
      assert.equal(before, helper.descriptors())
    end)
  end)

  -- Archives as no create writes them, made with Python's tarfile and the zstd tool. CANARY stands
  -- for a file outside of the directory that is extracted into.
  describe("of a hostile archive", function()
    local canary, to
    before_each(function()
      canary, to = dir .. "/canary", dir .. "/prison/to"
      helper.write(canary .. "/file", "untouched")
      helper.write(dir .. "/prison/neighbour", "untouched")
      assert(core.file.mkdir(to))
    end)

    local PRELUDE = [[
import io, sys, tarfile
out, canary = sys.argv[1], sys.argv[2]
t = tarfile.open(out, "w", format=tarfile.PAX_FORMAT)
def add(name, data=b"evil", **fields):
    i = tarfile.TarInfo(name)
    i.size = len(data)
    for key, value in fields.items():
        setattr(i, key, value)
    t.addfile(i, io.BytesIO(data) if i.size and i.type == tarfile.REGTYPE else None)
def link(name, target, kind=tarfile.SYMTYPE):
    add(name, b"", type=kind, linkname=target)
def directory(name):
    add(name, b"", type=tarfile.DIRTYPE, mode=0o755)
]]

    local function hostile(body)
      helper.write(dir .. "/make.py", PRELUDE .. body .. "\nt.close()\n")
      local tar = dir .. "/hostile.tar"
      must("cd " .. quote(dir) .. " && python3 make.py " .. quote(tar) .. " " .. quote(canary)
        .. " && zstd -q -f --rm " .. quote(tar))
      return tar .. ".zst"
    end

    -- What is in it, what makes it, why it is refused.
    local cases = {
      { "that climbs out with ..", [[add("ok"); add("../neighbour")]], "not a normal path" },
      { "that climbs out in the middle", [[add("a/../../neighbour")]], "not a normal path" },
      { "with an absolute name", [[add(canary + "/file")]], "not a normal path" },
      { "with a name of dots", [[add("./x")]], "not a normal path" },
      { "with an empty component", [[add("a//b")]], "not a normal path" },
      { "with an endless path", [[add("/".join(["d"] * 3000))]], "not a normal path" },
      { "that writes through a link", [[link("dir", canary); add("dir/file")]], "lies beneath" },
      { "that writes through a link which comes later", [[add("dir/file"); link("dir", canary)]],
        "is also a directory" },
      { "that writes over a link", [[link("x", canary + "/file"); add("x")]], "there twice" },
      { "that writes beneath a file", [[add("x"); add("x/y")]], "lies beneath" },
      { "that makes a directory of a link", [[link("dir", canary); directory("dir")]],
        "there twice" },
      { "with a hard link out", [[link("x", canary + "/file", tarfile.LNKTYPE); add("x")]],
        "hard link" },
      { "with a hard link inside", [[add("x"); link("y", "x", tarfile.LNKTYPE)]], "hard link" },
      { "with a device", [[add("n", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)]],
        "neither a file" },
      { "with a block device", [[add("d", b"", type=tarfile.BLKTYPE, devmajor=8, devminor=0)]],
        "neither a file" },
      { "with a FIFO", [[add("pipe", b"", type=tarfile.FIFOTYPE)]], "neither a file" },
      { "with a file twice", [[add("x", b"first"); add("x", b"second")]], "there twice" },
      { "with a directory twice", [[directory("d"); directory("d")]], "there twice" },
      { "with a file that is a directory too", [[add("d/x"); add("d")]], "is also a directory" },
      { "with a link to nothing", [[link("x", "")]], "without a usable target" },
      { "with a time beyond all", [[add("x", mtime=10**18)]], "time out of range" },
      { "of another dialect", [[
t.close(); t = tarfile.open(out, "w", format=tarfile.GNU_FORMAT); add("n" * 150)]],
        "not in the pax format" },
      { "with a sparse file", [[
import os, subprocess
os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 1 << 40)
t.close(); subprocess.check_call(["tar", "-S", "--format=posix", "-cf", out, "sparse"])
os.remove("sparse")]], "sparse file" },
    }

    for _, case in ipairs(cases) do
      local title, body, reason = table.unpack(case)
      it(title .. " makes nothing and leaves the canary alone", function()
        local path = hostile(body)
        local before = portrait(dir)
        for _, attempt in ipairs({ archive.read, archive.extract }) do
          local result, message, code = attempt(path, attempt == archive.extract and to or nil)
          assert.is_nil(result)
          assert.equal("EBADARCHIVE", code, message)
          assert.truthy(message:find(reason, 1, true), message)
          assert.same(before, portrait(dir))
        end
      end)
    end

    it("with names in Unicode is read byte for byte, composed or not", function()
      local path = hostile([[add("e\u0301"); add("\u00e9"); link("\u00fc", "u\u0308")]])
      local entries = assert(archive.read(path)).entries
      assert.equal("e\u{301}", entries[1].path)
      assert.equal("\u{e9}", entries[2].path)
      assert.equal("\u{fc}", entries[3].path)
      assert.equal("u\u{308}", entries[3].target)
      assert(archive.extract(path, to))
      assert.equal(3, #core.tree.list(to))
    end)

    it("that is not compressed, or compressed twice, is refused", function()
      local path = hostile([[add("x")]])
      assert(archive.read(path))
      must("zstd -q -d -f " .. quote(path) .. " && zstd -q -f " .. quote(path))
      assert.equal("EBADARCHIVE", select(3, archive.read(dir .. "/hostile.tar")))
      assert.equal("EBADARCHIVE", select(3, archive.read(path .. ".zst")))
    end)

    it("with a second archive behind its end is not half read", function()
      local path = hostile([[add("x")]])
      must("zstd -q -d -f " .. quote(path))
      local tar = helper.read(dir .. "/hostile.tar")
      helper.write(dir .. "/two.tar", tar .. tar)
      must("zstd -q -f --rm " .. quote(dir .. "/two.tar"))
      assert.equal("EBADARCHIVE", select(3, archive.read(dir .. "/two.tar.zst")))
    end)

    it("that unpacks to too much stops at the limit before it is written", function()
      local path = hostile([[
for i in range(64): add("bomb%d" % i, bytes(1 << 20))]])
      assert.is_true(core.file.stat(path).size < 100000)
      assert.equal("EFBIG", select(3, archive.extract(path, to, { max_bytes = 1 << 20 })))
      assert.same({}, core.tree.list(to))
    end)

    -- A frame of `count` blocks, each of which is 128 KiB of zeros in four bytes.
    local function zeros(count)
      local function block(last) return string.pack("<I3", 131072 << 3 | 1 << 1 | last) .. "\0" end
      return "\x28\xb5\x2f\xfd\0\x58" .. block(0):rep(count - 1) .. block(1)
    end

    it("with more zeros behind its end than it may hold is not read through", function()
      local path = hostile([[add("x")]])
      helper.write(path, helper.read(path) .. zeros(1 << 18)) -- 32 GiB
      local began = core.system.monotonic()
      local limits = { max_bytes = 1 << 20, max_entries = 10 }
      local message = helper.fails("EFBIG", archive.read(path, limits))
      assert.matches("unpacks to more than its limit", message, 1, true)
      helper.fails("EFBIG", archive.extract(path, to, limits))
      assert.same({}, core.tree.list(to))
      assert.is_true(core.system.monotonic() - began < 10)
    end)

    it("with a link that leads out is made without following it", function()
      local path = hostile([[link("dir", canary); link("abs", "/etc/passwd"); add("a/file")]])
      assert(archive.extract(path, to))
      assert.equal(canary, core.file.readlink(to .. "/dir"))
      assert.equal("untouched", helper.read(canary .. "/file"))
      assert.equal("evil", helper.read(to .. "/a/file"))
    end)
  end)
end)
