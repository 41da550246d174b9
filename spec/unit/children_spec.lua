--- The records of tools, and what the next run makes of them: it refuses while something of a tool
-- lives, and minds neither another boot nor a number that was given to somebody else.
local children = require("praxlua.children")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local process = require("praxlua.process")
local tiny = require("spec.support.tiny")

local LONG = 30 -- seconds no test takes unless something is wrong
local SESSION = "2f1a9c7e-0000-4000-8000-000000000001"

local target, started

-- A process that nobody looks after, in a session of its own.
local function sleeper(script, environment)
  local child = assert(core.spawn.start({
    argv = { "/bin/sh", "-c", script or "exec sleep 60" }, stdout = "pipe", detach = true,
    environment = environment or { PATH = "/usr/bin:/bin" },
  }))
  started[#started + 1] = child
  return child
end

local function line_of(child)
  local stream, chunk = child:read(LONG)
  assert.equal("stdout", stream)
  return chunk:match("^[^\n]*")
end

-- Makes a record by hand. `of` may hold pid, start, watcher, watcher_start, boot.
local function record(of, folder)
  local path = ("%s/%s/child-%d"):format(target, folder or ".cache", of.pid)
  os.remove(path)
  assert(lfs.link(("%d %d %d %s"):format(of.start or process.identity(of.pid).start_time,
    of.watcher or 4194303, of.watcher_start or 1, of.boot or core.system.boot_id()), path, true))
  return path
end

local function setup_target()
  target, started = helper.tempdir() .. "/.praxis-os", {}
  lfs.mkdir(target)
  for _, name in ipairs({ ".cache", ".upgrade", ".upgrade/" .. SESSION }) do
    lfs.mkdir(target .. "/" .. name)
  end
end

local function clean()
  process.record_in(nil)
  for _, child in ipairs(started) do child:stop(0) end
  helper.clean()
end

local function pids(left)
  local found = {}
  for i, child in ipairs(left) do found[i] = child.pid end
  return found
end

describe("children", function()
  before_each(setup_target)
  after_each(clean)

  it("are none where nothing is recorded", function()
    assert.same({}, children.left(target))
    assert.same({}, children.left(target .. "/absent"))
    children.sweep(target)
  end)

  it("are found in .cache and in every session's folder, and nothing else is", function()
    local one, two = sleeper():pid(), sleeper():pid()
    record({ pid = one })
    record({ pid = two }, ".upgrade/" .. SESSION)
    helper.write(target .. "/.cache/child-1", "a file")
    assert(lfs.link("no record", target .. "/.cache/child-2", true))
    assert(lfs.link("1 2 3 4", target .. "/.cache/child-x", true))
    local found = children.records(target)
    assert.equal(2, #found)
    assert.equal(process.identity(two).start_time, found[2].start_time)
    assert.equal(core.system.boot_id(), found[2].boot_id)
    assert.same({ one, two }, pids(children.left(target)))
  end)

  it("of another boot are dead, and so is one whose number belongs to another process", function()
    local pid = sleeper():pid()
    local start = process.identity(pid).start_time
    local path = record({ pid = pid, boot = "00000000-0000-4000-8000-000000000000" })
    assert.same({}, children.left(target))
    children.sweep(target)
    assert.is_nil(lfs.symlinkattributes(path))
    record({ pid = pid, start = start - 1 })
    assert.same({}, children.left(target))
    children.sweep(target)
    assert.is_nil(lfs.symlinkattributes(path))
    record({ pid = pid })
    assert.same({ pid }, pids(children.left(target)))
    children.sweep(target)
    assert.is_table(lfs.symlinkattributes(path))
  end)

  it("that have ended and were not waited for are dead", function()
    local pid = sleeper():pid()
    record({ pid = pid })
    assert.same({ pid }, pids(children.left(target)))
    assert(core.system.signal(pid, "KILL"))
    assert(command.until_true(function() return core.system.process(pid).state == "Z" end, LONG))
    assert.same({}, children.left(target))
  end)

  it("count as long as one of their session lives", function()
    local child = sleeper("sleep 60 & echo $!; wait")
    local member = tonumber(line_of(child))
    record({ pid = child:pid() })
    assert(core.system.signal(child:pid(), "KILL"))
    assert(command.until_true(function()
      local left = children.left(target)
      return left[1] and left[1].pid == member
    end, LONG))
    assert(core.system.signal(member, "KILL"))
    assert(command.until_true(function() return #children.left(target) == 0 end, LONG))
  end)

  it("count as long as one with the installation's mark lives, wherever it went", function()
    local gone = sleeper()
    local path = record({ pid = gone:pid() })
    gone:stop(0)
    assert.same({}, children.left(target))
    local other = { PATH = "/usr/bin:/bin", [process.MARK] = target .. "-other" }
    sleeper(nil, other)
    assert.same({}, children.left(target))
    local mine = sleeper(nil, { PATH = "/usr/bin:/bin", [process.MARK] = target })
    assert.same({ mine:pid() }, pids(children.left(target)))
    children.sweep(target)
    assert.is_table(lfs.symlinkattributes(path))
    mine:stop(0)
    assert.same({}, children.left(target))
  end)

  it("are waited for while their watcher lives, and count when it goes on living", function()
    local gone = sleeper()
    local pid, start = gone:pid(), process.identity(gone:pid()).start_time
    gone:stop(0)
    local watcher = sleeper("sleep 0.3"):pid()
    record({ pid = pid, start = start, watcher = watcher,
      watcher_start = process.identity(watcher).start_time })
    local began = core.system.monotonic()
    assert.same({}, children.left(target))
    assert.is_true(core.system.monotonic() - began < 2.5)
    children.sweep(target)
    watcher = sleeper():pid()
    record({ pid = pid, start = start, watcher = watcher,
      watcher_start = process.identity(watcher).start_time })
    assert.same({ watcher }, pids(children.left(target)))
  end)

  it("are explained by number and name, with what to do", function()
    local pid = sleeper("exec sleep 60"):pid()
    record({ pid = pid })
    assert(command.until_true(function()
      return core.system.process(pid).argv[1] == "sleep"
    end, LONG))
    local message, next_step = children.explain(children.left(target))
    assert.truthy(message:find(("process %d (sleep 60)"):format(pid), 1, true), message)
    assert.truthy(next_step:find("kill " .. pid, 1, true), next_step)
  end)

  it("are recorded and marked by process.start, and by process.run", function()
    process.record_in(target .. "/.cache", target)
    local child <close> = assert(process.start({
      argv = { "/bin/sh", "-c", "echo $PRAXLUA_TARGET; read x" }, stdin = "pipe", stdout = "pipe",
      environment = {},
    }))
    assert.equal(target, line_of(child))
    local found = children.records(target)
    assert.equal(child:pid(), found[1].pid)
    assert.equal(child:pid(), children.alive(found[1], target))
    assert.equal(core.system.process(child:pid()).ppid, found[1].watcher.pid)
    child:stop(0)
    assert.same({}, children.records(target))
    local result = assert(process.run({ argv = { "sh", "-c", "ls " .. target .. "/.cache" } }))
    assert.truthy(result.stdout:find("^child%-%d+\n$"), result.stdout)
    process.record_in(nil)
    assert.equal("", assert(process.run({ argv = { "ls", target .. "/.cache" } })).stdout)
    assert.has_error(function()
      process.start({ argv = { "/bin/true" }, detach = true })
    end)
  end)
end)

describe("A tool that outlived its praxlua", function()
  local s, before

  setup(function()
    started = {}
    s = tiny.new({ second = { ["mcp_server/requirements.txt"] = "tool==1\n" } })
    before = tiny.snapshot(s)
    tiny.save(s)
  end)
  before_each(function()
    started = {}
    tiny.reset(s)
    target = s.target
  end)
  after_each(function() for _, child in ipairs(started) do child:stop(0) end end)
  teardown(helper.clean)

  local COMMANDS = { { "upgrade", "--source", "source" }, { "resume" }, { "rollback" },
    { "upgrade", "--dry-run", "--source", "source" }, { "upgrade", "--yes", "--source", "source" },
    { "backup", "create" }, { "backup", "prune" } }

  local function refuses(pid)
    for _, argv in ipairs(COMMANDS) do
      for i, word in ipairs(argv) do argv[i] = word == "source" and s.source or word end
      local exact = tiny.exact(s)
      local result = tiny.json(s, argv)
      assert.equal(3, result.code, table.concat(argv, " ") .. ": " .. result.stderr)
      assert.truthy(result.last.message:find(tostring(pid), 1, true), result.last.message)
      assert.truthy(result.last.next:find("kill " .. pid, 1, true), result.last.next)
      assert.same(exact, tiny.exact(s))
    end
  end

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  it("hinders every command until it is gone, and then its record goes", function()
    local result = tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die')
    assert.equal(137, result.code)
    local id = tiny.event(result, "session_started").session_id
    local orphan = sleeper()
    record({ pid = orphan:pid() }, ".upgrade/" .. id)
    refuses(orphan:pid())
    orphan:stop(0)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
  end)

  it("is none when its number belongs to somebody else, or to an earlier boot", function()
    lfs.mkdir(target .. "/.cache")
    local pid = sleeper():pid()
    local stranger = record({ pid = pid, start = 1 })
    local second = sleeper():pid()
    local earlier = record({ pid = second, boot = "00000000-0000-4000-8000-000000000000" })
    assert.equal(0, tiny.upgrade(s).code)
    assert.is_nil(lfs.symlinkattributes(stranger))
    assert.is_nil(lfs.symlinkattributes(earlier))
    assert.truthy(process.identity(pid) and process.identity(second))
  end)

  -- Starts an upgrade whose pip sleeps; returns the run, and pip's number once it does.
  local function at_a_sleeping_pip(script)
    local python = tiny.read(s, "venv/bin/python")
    tiny.write(s, "venv/bin/python", (python:gsub('"%-m pip install"%*%)\n', function(line)
      return line .. ("    echo $$ > '%s/pip'\n%s\n"):format(s.cache, script)
    end)))
    os.remove(s.cache .. "/pip")
    local run = tiny.start(s)
    local pip = command.until_true(function()
      return tonumber(helper.read(s.cache .. "/pip") or "")
    end, LONG)
    assert(pip, "pip was not started")
    return run, pip
  end

  local function goes(pid)
    assert(command.until_true(function()
      local found = core.system.process(pid)
      return not found or found.state == "Z"
    end, LONG), "process " .. pid .. " lives on")
  end

  it("is ended by its watcher when praxlua is killed", function()
    local run, pip = at_a_sleeping_pip("sleep 60")
    assert.equal(pip, children.records(target)[1].pid)
    assert.truthy(children.records(target)[1].path:find("/.upgrade/[^/]+/child%-%d+$"))
    command.kill(run, "KILL")
    command.wait(run)
    goes(pip)
    local result = tiny.json(s, { "rollback" })
    assert.equal(0, result.code, result.stderr)
    assert.same({}, children.records(target))
  end)

  it("is told about when its watcher could not end it", function()
    local run, pip = at_a_sleeping_pip("sleep 60")
    local watcher = children.records(target)[1].watcher.pid
    os.execute("kill -STOP " .. watcher)
    command.kill(run, "KILL")
    command.wait(run)
    local result = tiny.json(s, { "resume" })
    os.execute("kill -CONT " .. watcher)
    assert.equal(3, result.code, result.stderr)
    assert.truthy(result.last.message:find(tostring(pip), 1, true), result.last.message)
    goes(pip)
    result = tiny.json(s, { "rollback" })
    assert.equal(0, result.code, result.stderr)
  end)
end)
