local clock = require("praxlua.clock")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local kit = require("spec.support.server_kit")
local owned = require("praxlua.server.owned")
local process = require("praxlua.process")
local server = require("praxlua.server")
local state_file = require("praxlua.server.state_file")

local TOOLS = { "get_server_info", "list_workflows", "search_standards" }

describe("server", function()
  local running, contexts = {}, {}

  local function install(options)
    local ctx = kit.install(options)
    contexts[#contexts + 1] = ctx
    return ctx
  end

  local function keep(child)
    running[#running + 1] = child
    return child
  end

  local function start(ctx, transport, options) return keep(kit.start(ctx, transport, options)) end

  local function write_state(ctx, fields)
    local state = {
      version = "1.0.0", transport = "http", port = 1, url = "http://127.0.0.1:1/mcp",
      started_at = clock.iso(),
    }
    for name, value in pairs(fields) do state[name] = value end
    helper.write(kit.state_path(ctx), json.encode(state))
  end

  -- Has the server start a program in a session of its own, as browsers are.
  local function let_start_a_helper(ctx)
    local place = ctx.project .. "/helper.pid"
    local path = ctx.target .. "/mcp_server/faults.py"
    helper.write(path, helper.read(path):gsub("def after_start%(self%):", ([[%%0
        import subprocess, sys
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                                  start_new_session=True)
        Path("%s").write_text(str(helper.pid))]]):format(place)))
    return place
  end

  -- A second round, so that a test that fails half-way leaves nothing behind either.
  after_each(function()
    for _, child in ipairs(running) do child:stop(1) end
    for _, ctx in ipairs(contexts) do
      ctx.options.stop_grace = 0.2
      local found = owned.find(ctx)
      if found then owned.stop(ctx, found, 0.2) end
    end
    running, contexts = {}, {}
    helper.clean()
  end)

  teardown(kit.finish)

  -- ---- whose process it is ---------------------------------------------------------------------

  describe("find", function()
    it("finds the server of this installation", function()
      local ctx = install()
      local child = start(ctx, "http")
      local found = assert(server.find(ctx))
      assert.equal(child:pid(), found.pid)
      assert.equal("http", found.transport)
      assert.equal(kit.state(ctx).url, found.url)
      assert.equal("1.0.0", found.version)
      assert.is_true(process.same(found.identity))
    end)

    it("finds one that works in the target, and one called through python3", function()
      local ctx = install()
      start(ctx, "http", {
        directory = ctx.target,
        python = ctx.target .. "/venv/bin/python3",
      })
      assert.truthy(server.find(ctx))
    end)

    it("finds nothing without a state file", function()
      local found, reason = server.find(install())
      assert.is_nil(found)
      assert.equal("not_running", reason)
    end)

    it("takes the state file of a dead process for what it is", function()
      local ctx = install()
      local child = start(ctx, "http")
      core.system.signal(child:pid(), "KILL")
      child:wait(5)
      assert.is_not_nil(kit.state(ctx))
      local found, reason = server.find(ctx)
      assert.is_nil(found)
      assert.equal("not_running", reason)
    end)

    it("takes a process that is just ending for one that is gone", function()
      local ctx = install()
      local pid, look = start(ctx, "http"):pid(), core.system.process
      finally(function() core.system.process = look end)
      function core.system.process(of)
        local info = look(of)
        if info and of == pid then info.argv, info.executable, info.directory = nil, nil, nil end
        return info
      end
      assert.same({ nil, owned.NOT_RUNNING }, { server.find(ctx) })
    end)

    it("does not take another process that has got the pid", function()
      local ctx = install()
      local sleeper = keep(kit.sleeper(ctx.project))
      write_state(ctx, { pid = sleeper:pid() })
      local found, reason = server.find(ctx)
      assert.is_nil(found)
      local wanted = "not_ours: process %d: it does not run mcp_server"
      assert.equal(wanted:format(sleeper:pid()), reason)
    end)

    it("does not take a process that only mentions the server", function()
      local ctx = install()
      local sleeper = keep(kit.sleeper(ctx.project, { "notes on -m mcp_server.txt" }))
      write_state(ctx, { pid = sleeper:pid() })
      assert.matches("^not_ours: .*does not run mcp_server", select(2, server.find(ctx)))
    end)

    it("does not take a process that is younger than the claim", function()
      local ctx = install()
      local child = start(ctx, "http")
      write_state(ctx, { pid = child:pid(), started_at = "2020-01-01T00:00:00+00:00" })
      local found, reason = server.find(ctx)
      assert.is_nil(found)
      assert.matches("it started .*, the state file is of 2020%-01%-01T00:00:00Z", reason)
    end)

    it("does not take a state file that is older than the process", function()
      local ctx = install()
      local child = start(ctx, "http")
      kit.run({ "touch", "-d", "2020-01-01T00:00:00Z", kit.state_path(ctx) })
      assert.matches("^not_ours: process " .. child:pid() .. ": it started",
        select(2, server.find(ctx)))
    end)

    it("tells two projects with the same command line apart", function()
      local ours, theirs = install({ name = "a" }), install({ name = "b" })
      local child = start(theirs, "http", { python = ours.target .. "/venv/bin/python" })
      helper.write(kit.state_path(ours), helper.read(kit.state_path(theirs)))
      local found, reason = server.find(ours)
      assert.is_nil(found)
      assert.equal(("not_ours: process %d: it works in %s"):format(child:pid(), theirs.project),
        reason)
    end)

    it("does not take a server that another environment runs", function()
      local ours, theirs = install({ name = "a" }), install({ name = "b" })
      -- An interpreter of its own, as `venv --copies` makes it.
      local python = theirs.target .. "/venv/bin/python"
      local real = core.file.realpath(python)
      assert(core.file.remove(python))
      kit.run({ "cp", real, python })
      start(ours, "http", { python = python })
      local _, reason = server.find(ours)
      assert.matches("it runs another interpreter: " .. python, reason, 1, true)
    end)

    it("does not take a server whose state file belongs to another user", function()
      if core.system.euid() ~= 0 then return end
      local ctx = install()
      start(ctx, "http")
      kit.run({ "chown", "12345", kit.state_path(ctx) })
      assert.matches("it belongs to user 0, the state file to user 12345",
        select(2, server.find(ctx)))
    end)

    for what, content in pairs({
      ["is not JSON"] = "{", ["holds no object"] = "[1]", ["names no process"] = '{"pid": "7"}',
      ["names process 1"] = '{"pid": 1}', ["names a group"] = '{"pid": -1}',
    }) do
      it("cannot use a state file that " .. what, function()
        local ctx = install()
        helper.write(kit.state_path(ctx), content)
        local found, reason = server.find(ctx)
        assert.is_nil(found)
        assert.matches("^not_ours: the state file cannot be used: ", reason)
      end)
    end
  end)

  -- ---- stopping --------------------------------------------------------------------------------

  describe("stop", function()
    it("stops the server and its state file is gone", function()
      local ctx = install()
      local child = start(ctx, "http")
      local result = assert(server.stop(ctx))
      assert.is_true(result.stopped)
      assert.equal("TERM", result.signal)
      assert.equal(child:pid(), result.pid)
      assert.is_false(kit.is_alive(child:pid()))
      assert.is_nil(kit.state(ctx))
    end)

    it("kills a server that does not listen to SIGTERM", function()
      local ctx = install({ faults = { ignore_sigterm = true } })
      local child = start(ctx, "http")
      ctx.options.stop_grace = 0.3
      local result = assert(server.stop(ctx))
      assert.equal("KILL", result.signal)
      assert.is_false(kit.is_alive(child:pid()))
      assert.is_nil(kit.state(ctx))
    end)

    it("has nothing to do when no server runs", function()
      assert.same({ stopped = false, reason = "not_running" }, server.stop(install()))
    end)

    it("never touches a process that is not proven ours", function()
      local ctx = install()
      local sleeper = keep(kit.sleeper(ctx.project))
      write_state(ctx, { pid = sleeper:pid() })
      local result, message, code = server.stop(ctx)
      assert.is_nil(result)
      assert.equal("ENOTOURS", code)
      assert.matches("no server was stopped: not_ours: process " .. sleeper:pid(), message, 1, true)
      assert.is_true(kit.is_alive(sleeper:pid()))
      assert.is_not_nil(kit.state(ctx))
    end)

    it("leaves the server of another project alone", function()
      local ours, theirs = install({ name = "a" }), install({ name = "b" })
      start(ours, "http")
      local other = start(theirs, "http")
      assert.is_true(assert(server.stop(ours)).stopped)
      assert.is_true(kit.is_alive(other:pid()))
      assert.truthy(server.health(theirs).responding)
    end)

    it("does not signal the group of a server that leads none", function()
      local ctx = install()
      local pid_file = ctx.project .. "/pid"
      -- One group of two: a shell, and the server it started.
      local shell = keep(assert(core.spawn.start({
        argv = { "/bin/sh", "-c",
          '"$0" -m mcp_server --transport http & echo $! > ' .. pid_file .. "; wait; sleep 60",
          ctx.target .. "/venv/bin/python" },
        directory = ctx.project,
        environment = process.environment({ PYTHONPATH = ctx.target, PROJECT_ROOT = ctx.project }),
        host = false,
      })))
      kit.wait(function() return kit.state(ctx) end)
      local found = assert(server.find(ctx))
      assert.is_false(found.leads_group)
      assert.is_true(assert(server.stop(ctx)).stopped)
      assert.is_false(kit.is_alive(found.pid))
      assert.is_true(kit.is_alive(shell:pid()))
    end)

    it("ends what the server had started and left behind", function()
      local ctx = install()
      let_start_a_helper(ctx)
      local child = start(ctx, "http")
      local browser = kit.wait(function() return core.system.children(child:pid())[1] end)
      assert(server.stop(ctx))
      assert.is_false(kit.is_alive(browser))
    end)
  end)

  -- ---- starting --------------------------------------------------------------------------------

  describe("end_starting", function()
    -- As launch starts one, with what is not ready yet.
    local function starting(ctx)
      assert(core.file.mkdir(ctx.target .. "/.cache"))
      return keep(assert(core.spawn.start({
        argv = { ctx.target .. "/venv/bin/python", "-m", "mcp_server", "--transport", "http" },
        directory = ctx.project, stdin = "null",
        environment = process.environment({ PYTHONPATH = ctx.target, PROJECT_ROOT = ctx.project }),
        stdout = { file = ctx.target .. "/.cache/mcp_server.log" }, stderr = "stdout",
        host = false,
      })))
    end

    it("ends a server that a praxlua started which is gone, and one of no other project", function()
      local faults = { slow_start = 60 }
      local ours, theirs = install({ name = "a", faults = faults }), install({ name = "b",
        faults = faults })
      local mine, other = starting(ours), starting(theirs)
      kit.wait(function() return #owned.starting(ours) == 1 end)
      assert.equal(mine:pid(), owned.starting(ours)[1].pid)
      assert(server.end_starting(ours))
      assert.is_false(kit.is_alive(mine:pid()))
      assert.is_true(kit.is_alive(other:pid()))
    end)

    it("leaves one alone that has run for longer than the run that ends them", function()
      local ctx = install({ faults = { slow_start = 60 } })
      local child = starting(ctx)
      kit.wait(function() return #owned.starting(ctx) == 1 end)
      assert(server.end_starting(ctx, core.system.now() + 10000000000))
      assert.is_true(kit.is_alive(child:pid()))
      assert(server.end_starting(ctx, core.system.now() - 10000000000))
      assert.is_false(kit.is_alive(child:pid()))
    end)

    it("leaves one alone that has said where it listens", function()
      local ctx = install()
      local child = starting(ctx)
      kit.wait(function() return server.find(ctx) end)
      assert.same({}, owned.starting(ctx))
      assert(server.end_starting(ctx))
      assert.is_true(kit.is_alive(child:pid()))
    end)

    it("leaves alone what only writes into the same log, or works elsewhere", function()
      local ctx = install()
      assert(core.file.mkdir(ctx.target .. "/.cache"))
      local log = { file = ctx.target .. "/.cache/mcp_server.log" }
      local sleeper = keep(assert(core.spawn.start({ argv = { "/bin/sleep", "60" },
        directory = ctx.project, stdin = "null", stdout = log, stderr = "stdout", host = false })))
      local elsewhere = keep(assert(core.spawn.start({
        argv = { ctx.target .. "/venv/bin/python", "-m", "mcp_server", "--transport", "http" },
        directory = ctx.target .. "/workflows", stdin = "null", stdout = log, stderr = "stdout",
        host = false })))
      assert.same({}, owned.starting(ctx))
      assert(server.end_starting(ctx))
      assert.is_true(kit.is_alive(sleeper:pid()))
      elsewhere:stop(0)
    end)
  end)

  describe("start", function()
    it("starts the server detached, with its log, and waits until it answers", function()
      local ctx = install()
      local run = assert(server.start(ctx, { transport = "http" }))
      assert.is_true(run.started)
      assert.equal(run.pid, kit.state(ctx).pid)
      assert.same(TOOLS, run.health.tools)
      assert.equal("1.0.0", run.health.server_version)
      assert.equal(ctx.target .. "/.cache/mcp_server.log", run.log)
      local info = core.system.process(run.pid)
      assert.equal(run.pid, info.pgid)
      assert.equal(ctx.project, info.directory)
      assert.equal("600", ("%o"):format(core.file.stat(kit.state_path(ctx)).mode))
    end)

    it("starts one behind a script, which stays in front of it", function()
      local ctx = install()
      local script = ctx.project .. "/serve.sh"
      helper.write(script, ("#!/bin/sh\n'%s/venv/bin/python' -m mcp_server --transport $1\n")
        :format(ctx.target))
      kit.run({ "chmod", "+x", script })
      ctx.options.project = { server = { command = { "{project}/serve.sh", "{transport}" } } }
      local started = assert(server.start(ctx, { timeout = 5 }))
      assert.equal(kit.state(ctx).pid, started.pid)
      local shell = core.system.process(started.pid).ppid
      assert(server.stop(ctx))
      kit.wait(function() return not kit.is_alive(shell) end)
      kit.set_faults(ctx, { hang_on_initialize = true })
      assert.is_nil((server.start(ctx, { timeout = 1 })))
      assert.is_nil(kit.state(ctx))
    end)

    it("tells the server where its libraries keep their data, and what is passed on", function()
      local ctx = install()
      ctx.options.project = { server = { variables = { "OPENAI_*" } } }
      local original = core.system.environment
      finally(function() core.system.environment = original end)
      core.system.environment = function()
        local all = original()
        all.HF_HUB_OFFLINE, all.XDG_CACHE_HOME, all.OPENAI_API_KEY = "1", "/caches", "key"
        all.SOME_SECRET = "s"
        return all
      end
      local run = assert(server.start(ctx, { transport = "http" }))
      local given = {}
      local environ = helper.read(("/proc/%d/environ"):format(run.pid))
      for name, value in environ:gmatch("([^=%z]+)=(%Z*)") do given[name] = value end
      assert.same({ "1", "/caches", "key", ctx.target }, { given.HF_HUB_OFFLINE,
        given.XDG_CACHE_HOME, given.OPENAI_API_KEY, given.PYTHONPATH })
      assert.is_nil(given.SOME_SECRET)
    end)

    it("appends to the log and remembers where this run begins", function()
      local ctx = install()
      helper.write(ctx.target .. "/.cache/mcp_server.log", "2025 [ERROR] of an earlier run\n")
      local run = assert(server.start(ctx))
      assert.equal(31, run.log_offset)
      assert.same({}, server.log_errors_since(ctx))
      assert.same({ "2025 [ERROR] of an earlier run" }, server.log_errors_since(ctx, 0))
      assert.matches("^2025 %[ERROR%] of an earlier run\n.*%[INFO%]", helper.read(run.log))
    end)

    it("waits for a slow server, no longer than it takes", function()
      local ctx = install({ faults = { slow_start = 0.6 } })
      local run = assert(server.start(ctx))
      assert.is_true(run.seconds >= 0.6 and run.seconds < 10, tostring(run.seconds))
    end)

    it("does not mind a foreign process on the usual port", function()
      local ctx = install()
      local squatter = keep(assert(core.spawn.start({
        argv = { "/usr/bin/python3", "-u", "-c", [[
import socket, time
held = []
for port in range(4242, 4252):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while s not in held: # a server of another test has it for a moment
        try: s.bind(("127.0.0.1", port)); s.listen(); held.append(s)
        except OSError: time.sleep(0.02)
print("ready"); time.sleep(60)]] },
        stdout = "pipe", host = false,
      })))
      assert(squatter:read(60))
      local run = assert(server.start(ctx))
      assert.is_true(kit.state(ctx).port > 4251)
      assert.is_true(run.health.responding)
    end)

    local function fails(faults, timeout)
      local ctx = install({ faults = faults })
      local began = core.system.monotonic()
      local run, message, code = server.start(ctx, { timeout = timeout })
      assert.is_nil(run)
      assert.matches("^the server is not ready: ", message)
      assert.matches("The whole log: " .. ctx.target, message, 1, true)
      -- Nothing of it is left.
      assert.is_nil(kit.state(ctx))
      for _, child in ipairs(core.system.children(core.system.pid())) do
        assert.is_not.equal(ctx.project, (core.system.process(child) or {}).directory)
      end
      return message, code, core.system.monotonic() - began
    end

    it("sees at once that a server has ended, and quotes its log", function()
      local message, code, seconds = fails({ exit_at_start = 3 })
      assert.equal("ECLOSED", code)
      assert.matches("exited with code 3 before it was ready", message)
      assert.matches("%[ERROR%] mcp_server%.faults: fault: exit at start", message)
      assert.is_true(seconds < 4, tostring(seconds))
    end)

    it("quotes the exception of an import that fails", function()
      local message, code = fails({ import_error = true })
      assert.equal("ECLOSED", code)
      assert.matches("ModuleNotFoundError: No module named 'a_module_that_was_never_installed'",
        message)
    end)

    it("gives up a server that hangs before it has a state file", function()
      local message, code, seconds = fails({ hang_at_start = true }, 0.7)
      assert.equal("ETIMEDOUT", code)
      assert.matches("no answer within 0.7 s (it has written no state file)", message, 1, true)
      assert.is_true(seconds < 5)
    end)

    it("gives up a server that hangs in the handshake", function()
      local message, code, seconds = fails({ hang_on_initialize = true }, 3)
      assert.equal("ETIMEDOUT", code)
      assert.matches("initialize: no answer", message)
      assert.is_true(seconds < 8)
    end)

    it("ends what a server that never answered had started in a session of its own", function()
      local ctx = install({ faults = { hang_on_initialize = true } })
      local helpers = let_start_a_helper(ctx)
      assert.is_nil((server.start(ctx, { timeout = 1 })))
      local helper_pid = assert(tonumber(helper.read(helpers)))
      finally(function() core.system.signal(helper_pid, "KILL") end)
      assert.is_false(kit.is_alive(helper_pid))
    end)

    it("gives up a server that speaks another protocol", function()
      local _, code = fails({ bad_protocol = "1999" })
      assert.equal("EPROTOCOL", code)
    end)

    it("notices a server that ends while it is being asked", function()
      local message, code = fails({ hang_on_initialize = true, exit_after = 0.6 })
      assert.equal("ECLOSED", code)
      assert.matches("exited with code 9", message)
    end)

    it("says what is missing when there is no environment", function()
      local ctx = install({ venv = false })
      local run, message, code = server.start(ctx)
      assert.is_nil(run)
      assert.equal("ENOENT", code)
      assert.matches(ctx.target .. "/venv/bin/python is missing", message, 1, true)
    end)

    it("is misused with stdio, which is an editor's", function()
      assert.has_error(function() server.start(install(), { transport = "stdio" }) end)
    end)

    it("stops waiting for a server that nobody started", function()
      local result, message, code = server.wait_for_server_ready(install())
      assert.is_nil(result)
      assert.equal("ENOENT", code)
      assert.equal("there is no server to wait for: not_running", message)
    end)

    it("waits for a server that somebody else started", function()
      local ctx = install()
      start(ctx, "http")
      assert.same(TOOLS, assert(server.wait_for_server_ready(ctx, 5)).tools)
    end)
  end)

  -- ---- health ----------------------------------------------------------------------------------

  describe("health", function()
    it("asks a running server over HTTP", function()
      local ctx = install()
      start(ctx, "http")
      local health = server.health(ctx)
      assert.is_true(health.responding)
      assert.equal("http", health.via)
      assert.equal(3, health.tools_registered)
      assert.equal("2025-06-18", health.protocol_version)
    end)

    it("asks the HTTP side of a dual server", function()
      local ctx = install()
      start(ctx, "dual")
      assert.equal("http", server.health(ctx).via)
    end)

    it("probes the installed code when the server speaks stdio, or none runs", function()
      local ctx = install()
      assert.equal("probe", server.health(ctx).via)
      local child = start(ctx, "stdio")
      local health = server.health(ctx)
      assert.is_true(health.responding)
      assert.equal("probe", health.via)
      assert.is_true(kit.is_alive(child:pid()))
      assert.equal(child:pid(), kit.state(ctx).pid)
    end)

    it("does not believe a foreign process that answers on the server's port", function()
      local ours, theirs = install({ name = "a" }), install({ name = "b" })
      local child = start(ours, "stdio")
      start(theirs, "http")
      local other = kit.state(theirs)
      write_state(ours, { pid = child:pid(), port = other.port, url = other.url })
      local health = server.health(ours)
      assert.is_false(health.responding)
      assert.equal("ECONNREFUSED", health.code)
      assert.matches("is not held by the server", health.error)
    end)

    it("reports a server that hangs, within its time", function()
      local ctx = install({ faults = { hang_on_initialize = true } })
      start(ctx, "http")
      local health = server.health(ctx, 0.5)
      assert.is_false(health.responding)
      assert.equal("ETIMEDOUT", health.code)
      assert.equal(0, health.tools_registered)
      assert.is_true(health.seconds < 3)
    end)

    it("sees that a tool is missing", function()
      local ctx = install({ faults = { lose_tool = "list_workflows" } })
      assert.same({ "get_server_info", "search_standards" }, server.health(ctx).tools)
    end)
  end)

  -- ---- probe -----------------------------------------------------------------------------------

  describe("probe", function()
    it("leaves the live state file as it was, to the nanosecond", function()
      local ctx = install()
      local child = start(ctx, "http")
      local path = kit.state_path(ctx)
      local content, before = helper.read(path), core.file.stat(path)
      kit.set_version(ctx, "2.0.0")
      assert.equal("2.0.0", assert(server.probe(ctx)).server_version)
      assert.equal(content, helper.read(path))
      assert.same(before, core.file.stat(path))
      assert.equal(child:pid(), assert(server.find(ctx)).pid)
      assert.equal("1.0.0", server.health(ctx).server_version)
    end)

    it("leaves the live state file when the installed code is broken", function()
      local ctx = install()
      start(ctx, "http")
      local before = core.file.stat(kit.state_path(ctx))
      for _, faults in ipairs({ { exit_at_start = 1 }, { hang_at_start = true } }) do
        kit.set_faults(ctx, faults)
        assert.is_nil(server.probe(ctx, { timeout = 0.5 }))
        assert.same(before, core.file.stat(kit.state_path(ctx)))
      end
    end)

    it("leaves no state file where there was none, no process and no bytecode", function()
      local ctx = install()
      assert(server.probe(ctx))
      assert.is_nil(kit.state(ctx))
      assert.is_false(core.file.exists(ctx.target .. "/mcp_server/__pycache__"))
      kit.set_faults(ctx, { ignore_sigterm = true, hang_on_initialize = true })
      assert.is_nil(server.probe(ctx, { timeout = 1 }))
      assert.is_nil(kit.state(ctx))
    end)

    it("runs the code of another directory, a staged copy", function()
      local ctx = install()
      local staged = helper.tempdir()
      assert(core.tree.copy(ctx.target .. "/mcp_server", staged .. "/mcp_server"))
      helper.write(staged .. "/mcp_server/__init__.py", 'VERSION = "3.0.0"\n')
      local health = assert(server.probe(ctx, { code = staged }))
      assert.equal("3.0.0", health.server_version)
      assert.equal(staged .. "/mcp_server/__init__.py", health.module_path)
      assert.same({}, ctx.warnings)
    end)

    it("warns when the working directory shadows the installed code", function()
      local ctx = install()
      assert(core.tree.copy(ctx.target .. "/mcp_server", ctx.project .. "/mcp_server"))
      assert(server.probe(ctx))
      assert.equal(1, #ctx.warnings)
      assert.matches(ctx.project .. "/mcp_server/__init__.py is run instead of " .. ctx.target,
        ctx.warnings[1], 1, true)
    end)

    it("tells what the server said, and the command to try", function()
      local ctx = install({ faults = { import_error = true } })
      local health, message, code = server.probe(ctx)
      assert.is_nil(health)
      assert.equal("ECLOSED", code)
      assert.matches("a_module_that_was_never_installed", message)
      assert.matches(("Try it: cd %s && PYTHONPATH=%s %s/venv/bin/python -m mcp_server"):format(
        ctx.project, ctx.target, ctx.target), message, 1, true)
    end)

    it("puts the state file back that a killed praxlua had set aside", function()
      local ctx = install()
      local child = start(ctx, "http")
      assert(core.file.mkdir(ctx.target .. "/.cache"))
      local aside = ctx.target .. "/.cache/mcp_server_state.live"
      assert(core.file.rename(kit.state_path(ctx), aside))
      -- Found where it is; a look changes nothing.
      assert.equal(child:pid(), assert(server.find(ctx)).pid)
      assert.is_nil(kit.state(ctx))
      assert.is_true(server.remember(ctx).was_running)
      assert.equal(child:pid(), kit.state(ctx).pid)
      assert.is_false(core.file.exists(aside))
    end)

    it("tells the running server from the private one that has its place meanwhile", function()
      local ctx = install()
      local child = start(ctx, "http")
      assert(state_file.set_aside(ctx))
      local private = start(ctx, "stdio")
      assert.equal(private:pid(), kit.state(ctx).pid)
      assert.equal(child:pid(), assert(server.find(ctx)).pid)
      private:stop(1)
      assert(server.stop(ctx)) -- as after a praxlua that was killed
      assert.is_false(kit.is_alive(child:pid()))
      for _, place in ipairs(state_file.places(ctx)) do
        assert.is_false(core.file.exists(place), place)
      end
    end)

    it("lets a newer server's state file stand", function()
      local ctx = install()
      local child = start(ctx, "http")
      local aside = ctx.target .. "/.cache/mcp_server_state.live"
      helper.write(aside, json.encode({ pid = 4194304, transport = "http" }))
      server.remember(ctx)
      assert.equal(child:pid(), kit.state(ctx).pid)
      assert.is_false(core.file.exists(aside))
    end)
  end)

  -- ---- restart ---------------------------------------------------------------------------------

  describe("restart_server", function()
    it("stops the old server, starts the new code and knows the new tool list", function()
      local ctx = install()
      local old = start(ctx, "http")
      kit.set_version(ctx, "2.0.0")
      kit.set_faults(ctx, { lose_tool = "list_workflows" })
      local result = assert(server.restart_server(ctx))
      assert.is_true(result.stopped)
      assert.is_true(result.started)
      assert.is_false(kit.is_alive(old:pid()))
      assert.equal(kit.state(ctx).pid, result.pid)
      assert.equal("2.0.0", result.health.server_version)
      assert.same({ "get_server_info", "search_standards" }, result.health.tools)
      assert.is_number(clock.parse(result.restart_time))
      -- Its port may not be free again yet.
      for _, said in ipairs(ctx.warnings) do assert.matches("listens at", said, 1, true) end
    end)

    it("starts a dual server as http and says so", function()
      local ctx = install()
      start(ctx, "dual")
      local result = assert(server.restart_server(ctx))
      assert.equal("http", result.transport)
      assert.is_true(result.health.responding)
      assert.matches("Reload the MCP server in the editor", ctx.warnings[1])
    end)

    it("leaves an editor's server alone and proves the new code beside it", function()
      local ctx = install()
      local child = start(ctx, "stdio")
      server.remember(ctx)
      kit.set_version(ctx, "2.0.0")
      kit.set_faults(ctx, { lose_tool = "list_workflows" })
      local result = assert(server.restart_server(ctx))
      assert.is_false(result.stopped)
      assert.is_false(result.started)
      assert.equal("stdio", result.reason)
      assert.equal("2.0.0", result.health.server_version)
      assert.is_true(kit.is_alive(child:pid()))
      assert.matches("belongs to an editor", ctx.warnings[1])
    end)

    it("proves the code when no server runs, and starts none", function()
      local ctx = install()
      local result = assert(server.restart_server(ctx))
      assert.equal("not_running", result.reason)
      assert.is_false(result.started)
      assert.is_true(result.health.responding)
      assert.is_nil(kit.state(ctx))
    end)

    it("starts the server that an earlier restart, killed half-way, left stopped", function()
      local ctx = install()
      start(ctx, "http")
      local remembered = server.remember(ctx)
      assert(server.stop(ctx))
      kit.set_version(ctx, "2.0.0")
      local result = assert(server.restart_server(ctx, { remembered = remembered }))
      assert.is_true(result.started)
      assert.is_false(result.stopped)
      assert.equal(kit.state(ctx).pid, result.pid)
      assert.equal("2.0.0", result.health.server_version)
    end)

    it("says when the server listens somewhere else than before", function()
      local ctx = install()
      start(ctx, "http")
      local before = kit.state(ctx)
      assert(server.restart_server(ctx))
      local moved = kit.state(ctx).port ~= before.port -- its port may not be free again yet
      assert.equal(moved and 1 or 0, #ctx.warnings)
      kit.set_faults(ctx, { port = kit.free_port() })
      before, ctx.warnings = kit.state(ctx), {}
      assert(server.restart_server(ctx))
      local wanted = "listens at %s now, and no longer at %s"
      assert.matches(wanted:format(kit.state(ctx).url, before.url), ctx.warnings[1], 1, true)
    end)

    it("does not run compiled code of the old version", function()
      local ctx = install()
      start(ctx, "http")
      local path = ctx.target .. "/mcp_server/__init__.py"
      local old, cache = helper.read(path), ctx.target .. "/mcp_server/__pycache__"
      assert.is_true(core.file.exists(cache))
      -- The same size and the same time: what Python goes by.
      kit.run({ "cp", "-p", path, ctx.project .. "/time" })
      helper.write(path, (old:gsub("1%.0%.0", "2.0.0")))
      kit.run({ "touch", "-r", ctx.project .. "/time", path })
      assert.equal("2.0.0", assert(server.restart_server(ctx)).health.server_version)
    end)

    it("does not restart when it is told not to", function()
      local ctx = install()
      local child = start(ctx, "http")
      ctx.options.restart = false
      local result = assert(server.restart_server(ctx))
      assert.equal("not_asked_for", result.reason)
      assert.is_true(kit.is_alive(child:pid()))
    end)

    it("does not stop a stranger who has the pid, and says so", function()
      local ctx = install()
      local sleeper = keep(kit.sleeper(ctx.project))
      write_state(ctx, { pid = sleeper:pid() })
      local result = assert(server.restart_server(ctx))
      assert.matches("^not_ours: ", result.reason)
      assert.is_true(kit.is_alive(sleeper:pid()))
      assert.matches("no server is restarted: not_ours", ctx.warnings[1])
    end)

    it("fails when the new server does not start, with the old one stopped", function()
      local ctx = install()
      local old = start(ctx, "http")
      kit.set_faults(ctx, { exit_at_start = 1 })
      local result, _, code = server.restart_server(ctx)
      assert.is_nil(result)
      assert.equal("ECLOSED", code)
      assert.is_false(kit.is_alive(old:pid()))
    end)

    it("fails when the code cannot even be probed", function()
      local ctx = install({ faults = { exit_at_start = 1 } })
      assert.is_nil(server.restart_server(ctx))
    end)
  end)

  describe("restore", function()
    it("brings the old server back after a failed restart", function()
      local ctx = install()
      start(ctx, "dual")
      local remembered = json.decode(json.encode(server.remember(ctx)))
      assert.equal("dual", remembered.transport)
      kit.set_faults(ctx, { exit_at_start = 1 })
      assert.is_nil(server.restart_server(ctx))
      kit.set_faults(ctx, {})
      local back = assert(server.restore(ctx, remembered))
      assert.is_true(back.started)
      assert.same(TOOLS, server.health(ctx).tools)
    end)

    it("replaces a server that runs the new code", function()
      local ctx = install()
      start(ctx, "http")
      local remembered = server.remember(ctx)
      kit.set_version(ctx, "2.0.0")
      local new = assert(server.restart_server(ctx, { remembered = remembered }))
      kit.set_version(ctx, "1.0.0")
      assert.is_true(assert(server.restore(ctx, remembered)).started)
      assert.is_false(kit.is_alive(new.pid))
      assert.equal("1.0.0", server.health(ctx).server_version)
    end)

    it("leaves the old server alone if it was never stopped", function()
      local ctx = install()
      local child = start(ctx, "http")
      local back = assert(server.restore(ctx, server.remember(ctx)))
      assert.is_true(back.health.responding)
      back.health = nil
      assert.same({
        started = false, reason = "still_running", pid = child:pid(), transport = "http",
      }, back)
      assert.is_true(kit.is_alive(child:pid()))
    end)

    it("starts nothing where nothing ran, nor what an editor has to start", function()
      local ctx = install()
      local remembered = server.remember(ctx)
      assert.is_false(remembered.was_running)
      assert.equal("not_running", remembered.reason)
      assert.same(TOOLS, remembered.tools)
      assert.is_false(assert(server.restore(ctx, remembered)).started)
      start(ctx, "stdio")
      assert.equal("stdio", assert(server.restore(ctx, server.remember(ctx))).reason)
    end)

    it("starts the upgraded server again for a run that goes on, and watches it anew", function()
      local ctx = install()
      ctx.session = { phase_artifacts = { ["3"] = { server_restarted = true } },
        metadata = { server = { transport = "http" }, server_answered = 0 } }
      local began = core.system.monotonic()
      assert(server.revive(ctx))
      assert.is_table(server.find(ctx))
      assert.is_true(ctx.session.metadata.server_answered > began)
    end)

    it("knows the tools of a running server that hangs by its code", function()
      local ctx = install({ faults = { hang_on_initialize = true, only_over = "http" } })
      start(ctx, "http")
      ctx.options.health_timeout = 1
      local remembered = server.remember(ctx)
      assert.is_true(remembered.was_running)
      assert.same(TOOLS, remembered.tools)
      assert.matches("the running server does not answer", ctx.warnings[1], 1, true)
    end)

    it("remembers why the tools of a broken server are not known", function()
      local ctx = install({ faults = { exit_at_start = 1 } })
      local remembered = server.remember(ctx)
      assert.is_nil(remembered.tools)
      assert.matches("does not answer", remembered.tools_reason)
    end)
  end)

  -- ---- smoke calls and log ---------------------------------------------------------------------

  describe("run_smoke", function()
    local function check(ctx)
      local results = assert(server.run_smoke(ctx))
      assert.equal("passed", results.rag_search_test)
      assert.equal("passed", results.workflow_engine_test)
      assert.equal("passed", results.server_info_test)
      assert.equal("not_run", results.browser_smoke_test)
      assert.is_false(results.browser_tools_enabled)
      assert.equal("1.0.0", results.server_version)
      assert.equal("1.0.0", results.info.server.version)
      assert.equal(3, results.tools_registered)
      assert.equal(4, #results.calls)
    end

    it("calls the tools of a running server", function()
      local ctx = install()
      start(ctx, "http")
      check(ctx)
    end)

    it("calls the tools of a private server when none runs", function() check(install()) end)

    it("judges no server that was left alone when its code was upgraded", function()
      local ctx = install()
      start(ctx, "http")
      kit.set_version(ctx, "2.0.0")
      ctx.session = { phase_artifacts = {} }
      local results = assert(server.run_smoke(ctx))
      assert.same({ "1.0.0", "http" }, { results.server_version, results.via })
      ctx.session.phase_artifacts["3"] = { server_restarted = false }
      results = assert(server.run_smoke(ctx))
      assert.same({ "2.0.0", "probe" }, { results.server_version, results.via })
    end)

    it("reports a tool that is gone as not run", function()
      local results = assert(server.run_smoke(install({
        faults = { lose_tool = { "search_standards", "list_workflows" } },
      })))
      assert.equal("not_run", results.rag_search_test)
      assert.equal("not_run", results.workflow_engine_test)
    end)

    -- The fixture with a tool changed: what it answers, and under which name.
    local function with_tool(name, answer)
      local ctx = install()
      local path = ctx.target .. "/mcp_server/tools.py"
      local code = helper.read(path):gsub('"list_workflows": %(', ('"%s": ('):format(name))
        :gsub("(def list_workflows.-\n)", "%1        " .. answer .. "\n")
      helper.write(path, code)
      return assert(server.run_smoke(ctx))
    end

    it("fails a tool that answers with an error", function()
      local results = with_tool("list_workflows", 'raise ToolError("index\\x1b is corrupt")')
      assert.equal("failed", results.workflow_engine_test)
      assert.matches("index\\u001b is corrupt", results.calls[3].reason, 1, true)
      assert.equal("list_workflows", results.calls[3].tool)
    end)

    it("fails a tool that reports its error as an ordinary result", function()
      local results = with_tool("pos_workflow", 'return {"status": "error", "error": "no session"}')
      assert.equal("failed", results.workflow_engine_test)
      assert.equal("it reports: no session", results.calls[3].reason)
      assert.equal("pos_workflow", results.calls[3].tool)
    end)

    it("fails a tool that breaks the connection", function()
      local results = with_tool("list_workflows", "os._exit(4)")
      assert.equal("failed", results.workflow_engine_test)
      assert.matches("ended with exit code 4", results.calls[3].reason)
    end)

    it("fails a search without results, and an empty list of workflows", function()
      local ctx = install()
      assert(core.tree.remove(ctx.target .. "/standards"))
      assert(core.tree.remove(ctx.target .. "/workflows"))
      local results = assert(server.run_smoke(ctx))
      assert.equal("failed", results.rag_search_test)
      assert.equal("its answer has nothing in 'results'", results.calls[2].reason)
      assert.equal("failed", results.workflow_engine_test)
      assert.equal("its answer has nothing in 'workflows'", results.calls[3].reason)
    end)

    describe("judges an answer", function()
      local smoke = require("praxlua.server.smoke")
      local mcp = require("praxlua.mcp")
      local call_tool = mcp.call_tool
      after_each(function() mcp.call_tool = call_tool end)

      local function judged(result, expected)
        mcp.call_tool = function() return json.decode(result) end
        expected = expected or {}
        expected.tool = "own"
        local calls = smoke.run({ server = {} }, { "own" }, core.system.monotonic() + 60,
          { expected }).calls
        return calls[#calls].status
      end

      for what, case in pairs({
        ["an image"] = { "passed", '{"content": [{"type": "image", "data": "aGk="}]}' },
        ["data alone"] = { "passed", '{"structuredContent": {"a": 1}}' },
        ["nothing"] = { "failed", '{}' },
        ["empty words and no data"] = { "failed",
          '{"content": [{"type": "text", "text": " "}], "structuredContent": {}}' },
        ["words in data, as an answer of str is"] = { "passed",
          [[{"content": [{"type": "text", "text": "{\"list\": [1]}"}],
             "structuredContent": {"result": "{\"list\": [1]}"}}]], { not_empty = "list" } },
        ["an error in the words of data"] = { "failed",
          [[{"content": [{"type": "text", "text": "{\"error\": \"no\"}"}],
             "structuredContent": {"result": "{\"error\": \"no\"}"}}]] },
      }) do
        it("that is " .. what, function() assert.equal(case[1], judged(case[2], case[3])) end)
      end

      it("and makes no tables without end of its words", function()
        local words = "[" .. ("[],"):rep(1000000) .. "[]]"
        collectgarbage()
        local before = collectgarbage("count")
        local largest = 0
        mcp.call_tool = function() return { content = { { type = "text", text = words } } } end
        local decode = json.decode
        finally(function() json.decode = decode end)
        json.decode = function(...)
          local results = table.pack(decode(...))
          largest = math.max(largest, collectgarbage("count") - before)
          return table.unpack(results, 1, results.n)
        end
        smoke.run({ server = {} }, { "own" }, core.system.monotonic() + 60, { { tool = "own" } })
        assert.is_true(largest < 40 * 1024, largest .. " KiB")
      end)
    end)

    it("gives the project's own calls the time that they are said to take", function()
      local smoke = require("praxlua.server.smoke")
      assert.equal(smoke.seconds() + 3600 + 20,
        smoke.seconds({ { tool = "a", seconds = 3600 }, { tool = "b" } }))
    end)

    for _, name in ipairs({ "pos_browser", "aos_browser" }) do
      it("opens a page, reads it and closes it again with " .. name, function()
        local results = assert(server.run_smoke(install({ faults = { browser = name } })))
        assert.equal("passed", results.browser_smoke_test)
        assert.is_true(results.browser_tools_enabled)
      end)
    end

    it("fails a browser that shows nothing, and closes it all the same", function()
      local ctx = install({ faults = { browser = "pos_browser", browser_fails = "blank" } })
      start(ctx, "http")
      local results = assert(server.run_smoke(ctx))
      assert.equal("failed", results.browser_smoke_test)
      assert.equal("step 2, pos_browser: its answer does not hold 'read by praxlua'",
        results.calls[4].reason)
      assert.equal(0, assert(server.run_smoke(ctx)).info.capabilities.browser_sessions)
    end)

    it("does not hold against the server that no browser is installed", function()
      local results = assert(server.run_smoke(install({
        faults = { browser = "pos_browser", browser_fails = "missing" },
      })))
      assert.equal("not_run", results.browser_smoke_test)
      assert.matches("Executable doesn't exist", results.calls[4].reason, 1, true)
      assert.equal("pos_browser", results.calls[4].tool)
    end)

    it("fails a browser that opens nothing or does not close", function()
      for action, step in pairs({ navigate = 1, close = 3 }) do
        local results = assert(server.run_smoke(install({
          faults = { browser = "pos_browser", browser_fails = action },
        })))
        assert.equal("failed", results.browser_smoke_test)
        local wanted = "step %d, pos_browser: it reports: %s failed: no browser"
        assert.equal(wanted:format(step, action), results.calls[4].reason)
      end
    end)

    it("tells what the server reports of its watchers and its index", function()
      assert.same({}, assert(server.run_smoke(install())).reported)
      local results = assert(server.run_smoke(install({
        faults = { reports = { file_watchers_active = false, rag_index_current = true } },
      })))
      assert.same({ file_watchers_active = false, rag_index_current = true }, results.reported)
    end)

    it("gives an index time to become current, but not for ever", function()
      local results = assert(server.run_smoke(install({ faults = { index_current_after = 1.5 } })))
      assert.is_true(results.reported.rag_index_current)
      local reported = require("praxlua.server.reported")
      local seconds = reported.settle_seconds
      reported.settle_seconds = 0.5
      local began = core.system.monotonic()
      results = assert(server.run_smoke(install({
        faults = { reports = { rag_index_current = false } },
      })))
      reported.settle_seconds = seconds
      assert.is_false(results.reported.rag_index_current)
      assert.is_true(core.system.monotonic() - began < 10)
    end)

    it("says why it could not ask", function()
      local results, message = server.run_smoke(install({ faults = { exit_at_start = 1 } }))
      assert.is_nil(results)
      assert.matches("exit code 1", message)
    end)
  end)

  describe("log_errors_since", function()
    it("finds what the new server logged as an error", function()
      local ctx = install({ faults = { log_error = "watcher\27[2J died" } })
      assert(server.start(ctx))
      local lines = server.log_errors_since(ctx)
      assert.equal(1, #lines)
      -- A praxlua that resumes knows where to begin, too.
      assert.same(lines, server.log_errors_since(kit.context(ctx.project)))
      assert.matches("%[ERROR%] mcp_server%.faults: watcher\\e%[2J died$", lines[1])
    end)

    it("knows errors from words that contain one", function()
      local ctx = install()
      helper.write(ctx.target .. "/.cache/mcp_server.log", table.concat({
        "x [INFO] ERRORS=0 no ERROR_COUNT", "[CRITICAL] a", "Traceback (most recent call last):",
        "  line", "ERROR: b",
      }, "\n"))
      assert.same({ "[CRITICAL] a", "Traceback (most recent call last):", "ERROR: b" },
        server.log_errors_since(ctx, 0))
      assert.same({}, server.log_errors_since(ctx))
      assert.equal(3, #server.log_errors_since(ctx, 1000000))
    end)
  end)
end)
