-- The primitives that write, under the tracer: what they make durable, and in which order. Order is
-- all there is to see of it without a power cut.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local tracer = require("spec.faults.tracer")

local PRELUDE = "package.path, package.cpath = %q, %q\nlocal core = require('praxlua.core')\n"

describe("what is written is durable:", function()
  local root, base

  before_each(function()
    base = helper.tempdir()
    root = base .. "/root"
    lfs.mkdir(root)
  end)
  after_each(helper.clean)

  -- Runs Lua code in the root, under the tracer.
  local function traced(code, options)
    local script = base .. "/script.lua"
    helper.write(script, PRELUDE:format(package.path, package.cpath) .. code)
    local o = { argv = { os.getenv("LUA") or "lua5.4", script }, root = root, directory = root,
      environment = core.system.environment(), log = true }
    o.environment.ASAN_OPTIONS = "detect_leaks=0" -- no leak checker works in what is traced
    for name, value in pairs(options or {}) do o[name] = value end
    local result = tracer.run(o)
    assert.equal(0, result.code, result.stderr)
    return result
  end

  -- What it did to the disk, as "call path path2".
  local function told(result)
    local all = {}
    for i, call in ipairs(result.calls) do
      local words = { (call.name:gsub("at2?$", "")) }
      for _, field in ipairs({ "path", "path2", "fd_path" }) do
        local path = call[field] and call[field]:sub(#root + 2):gsub("px%-%d+%-%d+", "temp")
        if path then words[#words + 1] = path == "" and "." or path end
      end
      all[i] = table.concat(words, " ") .. (call.result < 0 and " failed" or "")
    end
    return all
  end

  -- Paths are relative to the work directory of the script, which is not the tests'.
  local function done(code, options)
    return told(traced("local function done(...) assert(...) end\n" .. code, options))
  end

  it("a new file, then its name", function()
    assert.same({
      "open .a.temp", "write .a.temp", "fchmod .a.temp", "fsync .a.temp", "rename .a.temp a",
      "fsync .",
    }, done("done(core.file.write_atomic('a', 'new'))"))
  end)

  it("a replaced file, and the one before under its new name", function()
    helper.write(root .. "/d/a", "old")
    local calls = done("done(core.file.write_atomic('d/a', 'new', nil, 'a.previous'))")
    assert.equal("fsync d/.a.temp", calls[4])
    assert.equal("rename d/.a.temp d/a", calls[5])
    assert.equal("rename d/.a.temp d/a.previous", calls[6])
    assert.equal("fsync d", calls[#calls])
  end)

  it("each new folder, in the one above it", function()
    assert.same({ "mkdir a", "fsync .", "mkdir a/b", "fsync a" },
      (function()
        local calls = done("done(core.file.mkdir('a/b'))")
        return { calls[1], calls[2], calls[3], calls[4] }
      end)())
  end)

  it("what is removed", function()
    helper.write(root .. "/d/a", "1")
    lfs.mkdir(root .. "/d/e")
    assert.same({ "unlink d/a", "fsync d", "unlink d/e", "fsync d" },
      done("done(core.file.remove('d/a')) done(core.file.remove('d/e'))"))
  end)

  it("a rename, in both folders", function()
    helper.write(root .. "/d/a", "1")
    lfs.mkdir(root .. "/e")
    assert.same({ "rename d/a e/b", "fsync e", "fsync d" },
      done("done(core.file.rename('d/a', 'e/b'))"))
  end)

  it("a second name", function()
    helper.write(root .. "/d/a", "1")
    lfs.mkdir(root .. "/e")
    assert.same({ "link d/a e/b", "fsync e" }, done("done(core.file.link('d/a', 'e/b'))"))
    assert.same({ "symlink d/l", "fsync d" }, done("done(core.file.symlink('x', 'd/l'))"))
  end)

  it("an archive, then its name", function()
    helper.write(root .. "/d/a", "1")
    local calls = done("done(core.archive.create('out.tar.zst', 'd', { 'a' }))")
    assert.equal("open out.tar.zst", calls[1])
    assert.same({ "fsync out.tar.zst", "fsync ." }, { calls[#calls - 1], calls[#calls] })
  end)

  it("a whole tree, when that is asked for", function()
    assert.same({ "syncfs ." }, done("done(core.tree.sync('.'))"))
  end)

  it("a lock is given back at once, even where somebody has a copy of its descriptor", function()
    local result = traced("local lock = assert(core.lock.acquire('.')) lock:release()")
    local LOCK_UN = 8
    assert.equal(LOCK_UN, result.calls[2].flags)
  end)

  describe("in a transaction", function()
    local OPEN = "local function done(...) assert(...) end\n"
      .. "local root = assert(core.file.realpath('.'))\n"
      .. "local t = assert(core.transaction.open(root, '.upgrade/s', { create = true }))\n"
    local PUT = "done(t:put('a', { data = 'new' })) done(t:apply())\n"

    local function transacted(code, options)
      assert(os.execute("rm -rf " .. root .. "/.upgrade"))
      helper.write(root .. "/a", "old")
      local result = traced(OPEN .. code, options)
      return told(result), result
    end

    -- The number of the first call that is like this, from one on.
    local function index_of(calls, wanted, from)
      for i = from or 1, #calls do
        if calls[i]:find(wanted) then return i end
      end
      error(wanted .. " is not there:\n" .. table.concat(calls, "\n"))
    end

    it("each record, before the next one is written", function()
      helper.write(root .. "/b", "old")
      local calls = transacted(PUT .. [[
        done(t:put("b", { data = "new" }))
        local file = assert(io.open("b", "w"))
        file:write("mine"):close()
        assert(select(3, t:apply()) == "ECHANGED")
        local theirs = assert(io.open("a", "w"))
        theirs:write("mine"):close()
        done(t:rollback())
      ]])
      local pending, records = {}, 0
      for _, call in ipairs(calls) do
        local name, path = call:match("^(%S+) (%S+)$")
        if name == "write" and (path or ""):find("/journal") then
          assert.is_nil(pending[path], table.concat(calls, "\n"))
          pending[path], records = true, records + 1
        elseif name == "fsync" then
          pending[path] = nil
        elseif name == "syncfs" then
          pending = {}
        end
      end
      assert.is_true(records >= 2 * 6)
    end)

    it("what is supplied to an undo, before it is its undo data", function()
      local calls = transacted(PUT .. [[
        for _, folder in ipairs({ "undo", "stage" }) do
          os.remove(root .. "/.upgrade/s/" .. folder .. "/1")
        end
        assert(select(3, t:rollback()) == "ELOST")
        local file = assert(io.open(root .. "/../backup", "w"))
        file:write("old"):close()
        done(t:supply("a", root .. "/../backup"))
      ]])
      local moved = index_of(calls, "^rename .upgrade/s/stage/f%d+ .upgrade/s/undo/1$")
      assert.matches("^fsync .upgrade/s/stage/f%d+$", calls[moved - 1])
    end)

    it("the new content and the undo's, then the record of it, before the switch", function()
      local calls = transacted(PUT)
      local linked = index_of(calls, "^link a .upgrade/s/undo/")
      local sync = index_of(calls, "^syncfs")
      local record = index_of(calls, "^write .upgrade/s/journal$", linked)
      assert.is_true(linked < sync and sync < record)
      assert.is_true(index_of(calls, "^fsync .upgrade/s/journal.copy$", record)
        < index_of(calls, "^rename .upgrade/s/stage/%d+ a$"))
    end)

    it("room for an undo before the first switch", function()
      local calls = transacted(PUT)
      local record = index_of(calls, "^write .upgrade/s/journal$", index_of(calls, "^link a "))
      assert.is_true(index_of(calls, "^fallocate .upgrade/s/reserve/blocks") < record)
    end)

    it("room from the start, before there is anything to undo", function()
      index_of(transacted(""), "^fallocate .upgrade/s/reserve/blocks")
    end)

    it("new room when an undo has given it back, or the journal has grown", function()
      local calls = transacted(PUT .. "done(t:rollback())" .. PUT)
      local undone = index_of(calls, "^unlink .upgrade/s/reserve/blocks")
      assert.is_true(index_of(calls, "^fallocate .upgrade/s/reserve/blocks", undone)
        < index_of(calls, "^write .upgrade/s/journal$", index_of(calls, "^link a ", undone)))
      calls = transacted("done(t:checkpoint(('x'):rep(3 << 20)))")
      index_of(calls, "^fallocate .upgrade/s/reserve/blocks",
        index_of(calls, "^fsync .upgrade/s/journal$"))
    end)

    it("room in the journal for each record and for those of an undo", function()
      local names = {}
      for i = 1, 50 do
        names[i] = ("done(t:put(('n'):rep(200) .. %d, { data = '' }))\n"):format(i)
      end
      local _, result = transacted(table.concat(names) .. "done(t:apply())" .. PUT)
      for _, copy in ipairs({ "journal", "journal.copy" }) do
        local room, records = 0, 0
        for _, call in ipairs(result.calls) do
          local here = call.fd_path == root .. "/.upgrade/s/" .. copy
          if here and call.name == "fallocate" then
            room = math.max(room, call.offset + call.size)
          elseif here and call.name == "write" and call.offset > 0 then
            records = records + 1
            assert.is_true(call.offset + call.size + 100 <= room, "no room for a record")
          end
        end
        assert.equal(2, records)
      end
    end)

    it("room in the journal for an undo after a checkpoint", function()
      local _, result = transacted("done(t:checkpoint(('x'):rep(10000)))")
      local stop, room = 0, 0
      for _, call in ipairs(result.calls) do
        if call.fd_path == root .. "/.upgrade/s/journal" then
          if call.name == "fallocate" then room = math.max(room, call.offset + call.size) end
          if call.name == "write" then stop = call.offset + call.size end
        end
      end
      assert.is_true(stop > 10000 and room >= stop + 200)
    end)

    it("nothing of a folder that has files in it: it is not even moved", function()
      helper.write(root .. "/d/a", "1")
      local calls = transacted("done(t:rmdir('d')) done(t:apply())")
      for _, call in ipairs(calls) do assert.not_matches("^rename d ", call) end
    end)

    it("nothing more once a sync has failed", function()
      local code = "done(t:put('a', { data = 'new' }))\n"
        .. "local ok, message, code = t:checkpoint('x')\nprint(code)\n"
        .. "ok, message, code = t:apply()\nprint(code)\n"
        .. "ok, message, code = t:put('b', { data = 'new' })\nprint(code)\n"
        .. "ok, message, code = t:checkpoint('x')\nprint(code)\n"
        .. "ok, message, code = t:commit('x')\nprint(code)\n"
      local calls = transacted(code)
      local at = index_of(calls, "^syncfs")
      local again, result = transacted(code, { mode = "error", errno = "EIO", at = at })
      assert.equal(("EIO\n"):rep(5), result.stdout)
      assert.equal("old", helper.read(root .. "/a"))
      for i = at + 1, #again do assert.matches("^unlink .upgrade/s/stage/", again[i]) end
    end)

    it("a note of somebody's file before it is moved aside", function()
      local calls = transacted(PUT .. "local f = io.open('a', 'w') f:write('mine') f:close()\n"
        .. "done(t:rollback())")
      local moved = index_of(calls, "^rename a a.kept%-s")
      assert.equal("fsync .upgrade/s/journal", calls[moved - 2])
      assert.equal("fsync .upgrade/s/journal.copy", calls[moved - 1])
    end)

    it("somebody's file that was kept, before the folder may go", function()
      local calls = transacted("local f = io.open('a', 'a')\n" .. PUT .. "done(t:commit())\n"
        .. "f:write('mine') f:close() done(t:rescue())")
      local kept = index_of(calls, "^link .upgrade/s/[a-z]+/%d+ a.kept%-s")
      index_of(calls, "^syncfs", kept)
    end)

    it("that a copy of the journal which cannot be synced is gone", function()
      local code = "done(t:checkpoint('x'))"
      local calls = transacted(code)
      local at = index_of(calls, "^fsync .upgrade/s/journal.copy$")
      calls = transacted(code, { mode = "error", errno = "EIO", at = at })
      assert.same({ "unlink .upgrade/s/journal.copy", "fsync .upgrade/s" },
        { calls[at + 1], calls[at + 2] })
    end)

    it("a journal that goes on in its old files, where there is no room for new ones", function()
      transacted(PUT)
      local calls = done("local root = assert(core.file.realpath('.'))\n"
        .. "local t = assert(core.transaction.open(root, '.upgrade/s'))\n",
        { deny = { "openat:ENOSPC:655553" } })
      local cut = index_of(calls, "^ftruncate .upgrade/s/journal$")
      assert.is_true(index_of(calls, "^fsync .upgrade/s/journal$") > cut)
    end)
  end)
end)
