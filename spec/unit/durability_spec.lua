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

  -- Runs Lua code in the root and says what it did to the disk, as "call path path2".
  local function does(code)
    local script = base .. "/script.lua"
    helper.write(script, PRELUDE:format(package.path, package.cpath) .. code)
    local environment = core.system.environment()
    environment.ASAN_OPTIONS = "detect_leaks=0" -- no leak checker works in what is traced
    local result = tracer.run({ argv = { os.getenv("LUA") or "lua5.4", script }, root = root,
      directory = root, environment = environment, log = true })
    assert.equal(0, result.code, result.stderr)
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
  local function done(code) return does("local function done(...) assert(...) end\n" .. code) end

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

  describe("in a transaction", function()
    local OPEN = "local t = assert(core.transaction.open(root, '.upgrade/s', "
      .. "{ create = true }))\n"

    local function transacted(code)
      return done("local root = assert(core.file.realpath('.'))\n" .. OPEN .. code)
    end

    local function index_of(calls, wanted, from)
      for i = from or 1, #calls do
        if calls[i]:find(wanted) then return i end
      end
      error(wanted .. " is not there:\n" .. table.concat(calls, "\n"))
    end

    it("the intention and the new content before the switch", function()
      helper.write(root .. "/a", "old")
      local calls = transacted("done(t:put('a', { data = 'new' })) done(t:apply())")
      local switch = index_of(calls, "^rename .upgrade/s/stage/%d+ a$")
      local sync = index_of(calls, "^syncfs")
      assert.is_true(sync < switch)
      assert.is_true(index_of(calls, "^write .upgrade/s/journal$", 5) < sync)
      assert.is_true(index_of(calls, "^link a .upgrade/s/undo/") < sync)
    end)

    it("room for an undo before the first switch, in the journal too", function()
      helper.write(root .. "/a", "old")
      local calls = transacted("done(t:put('a', { data = 'new' })) done(t:apply())")
      local record = index_of(calls, "^write .upgrade/s/journal$",
        index_of(calls, "^link a .upgrade/s/undo/"))
      assert.is_true(index_of(calls, "^fallocate .upgrade/s/reserve/blocks") < record)
      for _, name in ipairs({ "journal", "journal.copy" }) do
        assert.is_true(index_of(calls, "^fallocate .upgrade/s/" .. name .. "$") < record)
      end
    end)

    it("new room, when the journal has grown", function()
      helper.write(root .. "/a", "old")
      local calls = transacted("done(t:checkpoint(('x'):rep(3 << 20)))")
      local checkpoint = index_of(calls, "^fsync .upgrade/s/journal$")
      index_of(calls, "^fallocate .upgrade/s/reserve/blocks", checkpoint)
    end)

    it("nothing of a folder that has files in it: it is not even moved", function()
      helper.write(root .. "/d/a", "1")
      local calls = transacted("done(t:rmdir('d')) done(t:apply())")
      for _, call in ipairs(calls) do assert.not_matches("^rename d ", call) end
    end)
  end)
end)
