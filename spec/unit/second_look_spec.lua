-- Second looks that matter only when something changes in the very moment between two steps: each
-- test makes that moment.
local backup = require("praxlua.backup")
local children = require("praxlua.children")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local injected = require("spec.support.child").injected
local json = require("praxlua.json")
local kit = require("spec.support.transaction_kit")
local lfs = require("lfs")
local owned = require("praxlua.server.owned")
local process = require("praxlua.process")
local tiny = require("spec.support.tiny")

local LEASES = [[
import fcntl, os, sys
writer = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
reader = os.open(sys.argv[1], os.O_RDONLY)
try:
    fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
except BlockingIOError:
    print("yes")
except OSError:
    print("no")
]]

local directory, started

-- A process of this test's.
local function sleeper(script)
  local child = assert(core.spawn.start({ argv = { "/bin/sh", "-c", script or "exec sleep 60" },
    stdout = "pipe", detach = true }))
  started[#started + 1] = child
  return child
end

local function setup()
  directory, started = helper.tempdir(), {}
end

local function clean()
  for _, child in ipairs(started) do child:stop(0) end
  helper.clean()
end

describe("a second look", function()
  before_each(setup)
  after_each(clean)

  -- What a program says that works on a tree with the file f, a call of it made to fail.
  local function said(code, what, path)
    helper.write(directory .. "/tree/f", "old")
    return kit.run(code, directory .. "/tree", injected(what, path))
  end

  it("is taken when a file is replaced in the moment in which it is looked at", function()
    for _, error in ipairs({ "ENOENT", "ELOOP" }) do
      assert.equal("true\n", said([[
        local t <close> = assert(kit.open(root, not core.file.exists(root .. "/.px")))
        print((assert(t:put("f", { data = "new" }))))
      ]], "openat:when=1:error=" .. error, directory .. "/tree/f"))
      core.tree.remove(directory .. "/tree")
    end
    assert.equal("nil\tECHANGED\n", said([[
      local t <close> = assert(kit.open(root, true))
      local ok, _, code = t:put("f", { data = "new" })
      print(ok, code)
    ]], "linkat:error=ENOENT"))
  end)

  it("is taken by an undo when a file that stands in the way goes just then", function()
    assert.equal("old\n", said([[
      local helper = require("spec.support.helper")
      local t <close> = assert(kit.open(root, true))
      assert(t:put("f", { data = "new" }))
      assert(t:apply())
      helper.write(root .. "/f", "mine")
      assert(t:rollback())
      print(helper.read(root .. "/f"))
    ]], "renameat2:error=ENOENT:when=2"))
  end)

  -- Through everything: the engine has to take the look, not only the primitive to offer it.
  it("is taken at what an upgrade took out, before its undo data goes", function()
    local s = tiny.new()
    local folder = tiny.phase(s, "writes", [[
local phase = { title = "Late", after = "content-upgrade", grants = { tools = { "late" } } }
function phase.run(host) need(host.spawn{ "late" }) return {} end
return phase
]])
    local place = s.target .. "/" .. tiny.GUIDE
    local writer = assert(io.open(place, "a")) -- an editor that had it open before the upgrade
    helper.write(s.root .. "/bin/late", "#!/bin/sh\n: > " .. s.cache .. "/reached\n")
    assert(os.execute("chmod +x " .. s.root .. "/bin/late"))
    local run = tiny.start(s, { "--phases", folder },
      { environment = { PATH = s.root .. "/bin:" .. os.getenv("PATH") } })
    assert(command.until_true(function() return helper.read(s.cache .. "/reached") end, 30))
    writer:write("typed late\n"):close()
    local result = tiny.finish(run)
    assert.equal(0, result.code, result.stderr)
    local kept = assert(tiny.event(result, "warning").message:match("^(%S+) holds"))
    assert.equal("guide 1\ntyped late\n", helper.read(s.project .. "/" .. kept))
  end)

  it("at a folder that cannot be listed takes it for no empty one", function()
    for _, place in ipairs({ "/tree/d", "/tree/" .. kit.PATH .. "/stage/1" }) do
      helper.write(directory .. "/tree/d/mine", "mine")
      if place:find("stage") then os.remove(directory .. "/tree/d/mine") end
      assert.equal("nil\tEIO\n", said([[
        local t <close> = assert(kit.open(root, true))
        assert(t:rmdir("d"))
        local ok, _, code = t:apply()
        print(ok, code)
      ]], "getdents64:error=EIO", directory .. place), place)
      assert.is_true(core.file.exists(directory .. "/tree/d"))
      core.tree.remove(directory .. "/tree")
    end
  end)

  it("finds who has an old file open for writing, wherever the kernel tells", function()
    local script = directory .. "/leases.py"
    helper.write(script, LEASES)
    local told = helper.output_of("python3 -B %s %s/probe", script, directory)
    helper.write(directory .. "/tree/f", "old")
    local t <close> = assert(kit.open(directory .. "/tree", true))
    assert(t:put("f", { data = "new" }))
    local writer = assert(io.open(directory .. "/tree/f", "a"))
    assert(t:apply())
    assert(t:commit())
    assert.equal(told == "yes" and 1 or 0, #assert(t:rescue()))
    writer:close()
  end)

  it("takes no other content for the old one, wherever it lies", function()
    local root = directory .. "/tree"
    helper.write(root .. "/f", "old")
    local t <close> = assert(kit.open(root, true))
    assert(t:put("f", { data = "new" }))
    assert(t:apply())
    local folder = root .. "/" .. kit.PATH
    local number = core.tree.list(folder .. "/undo")[1].path
    os.remove(folder .. "/undo/" .. number)
    local old = folder .. "/stage/" .. number
    local stat = core.file.stat(old)
    helper.write(old, "bad")
    assert(core.file.set_mtime(old, stat.mtime))
    helper.fails("ELOST", t:rollback())
    assert.equal("new", helper.read(root .. "/f"))
  end)

  it("reads a new backup back before it counts", function()
    local project = directory .. "/project"
    helper.tree(project, { [".praxis-os/VERSION.txt"] = "1.0.0\n", [".praxis-os/a"] = "a" })
    local create = core.archive.create
    finally(function() core.archive.create = create end)
    function core.archive.create(path, ...)
      local packed, message, code = create(path, ...)
      local data = helper.read(path)
      helper.write(path, data:sub(1, -2) .. string.char(data:byte(-1) ~ 1))
      return packed, message, code
    end
    local ctx = { project = project, target = project .. "/.praxis-os",
      target_name = ".praxis-os", session = { session_id = core.system.uuid() }, memory = {},
      warn = function() end }
    helper.fails("EBADBACKUP", backup.create_backup(ctx))
    assert.same({}, backup.list_backups(ctx))
  end)

  describe("at a process", function()
    local other

    -- An identity of a living process, as if the number had belonged to another one before.
    before_each(function()
      other = process.identity(sleeper():pid())
      other.start_time = other.start_time - 1
    end)

    local function lives()
      core.system.sleep(0.2) -- a signal would have been delivered by then
      local found = core.system.process(other.pid)
      return found ~= nil and found.state ~= "Z"
    end

    it("before a signal finds that its number was given to somebody else", function()
      local gone = owned.stop({ target = directory }, { pid = other.pid, transport = "http",
        identity = other, leads_group = false }, 0.2)
      assert.is_table(gone)
      assert.is_true(lives())
    end)

    it("that a server had started, too", function()
      local descendants, server = owned.descendants, sleeper()
      finally(function() owned.descendants = descendants end)
      function owned.descendants() return { other } end
      assert(owned.stop({ target = directory }, { pid = server:pid(), transport = "http",
        identity = process.identity(server:pid()), leads_group = false }, 5))
      assert.is_true(lives())
    end)

    it("finds that a server has ended and only waits for its parent", function()
      local child = sleeper("sleep 0 & echo $!; exec sleep 60")
      local _, text = child:read(10)
      local pid = math.tointeger(tonumber(text:match("%d+")))
      while (core.system.process(pid) or { state = "Z" }).state ~= "Z" do
        core.system.sleep(0.01)
      end
      helper.write(directory .. "/.praxis-os/.mcp_server_state.json", json.encode({
        version = "1.0.0", transport = "http", port = 1, url = "http://127.0.0.1:1/mcp", pid = pid,
        started_at = "2026-01-01T00:00:00Z",
      }))
      local found, reason = owned.find({ target = directory .. "/.praxis-os", project = directory })
      assert.is_nil(found)
      assert.equal(owned.NOT_RUNNING, reason)
    end)

    it("does not wait for somebody who has the number of a watcher", function()
      local tool = process.identity(sleeper():pid())
      local target = directory .. "/.praxis-os"
      helper.write(target .. "/.cache/x", "")
      assert(lfs.link(("%d %d %d %s"):format(tool.start_time, other.pid, other.start_time,
        core.system.boot_id()), target .. "/.cache/child-" .. tool.pid, true))
      local began = core.system.monotonic()
      local left = children.left(target)
      assert.equal(tool.pid, left[1].pid)
      assert.is_false(left[1].watched)
      assert.is_true(core.system.monotonic() - began < 1)
    end)
  end)
end)
