--- `praxlua server`: what each of its commands does and says, with a real server.
local clock = require("praxlua.clock")
local command = require("spec.support.command")
local core = require("praxlua.core")
local follow = require("praxlua.server.follow")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local kit = require("spec.support.server_kit")
local lfs = require("lfs")
local log = require("praxlua.server.log")
local owned = require("praxlua.server.owned")
local tiny = require("spec.support.tiny")
local typist = require("spec.support.typist")

-- A stranger on a port, which it writes into a file.
local LISTENER = [[
import os, socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
open(sys.argv[1] + ".new", "w").write(str(s.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
]]

local TOOLS = { "get_server_info", "list_workflows", "search_standards" }

describe("praxlua server", function()
  local made, running, runs = {}, {}, {}

  -- An installation, and how praxlua is run in its project.
  local function install(options)
    local ctx = kit.install(options)
    made[#made + 1] = ctx
    local s = { root = ctx.project, project = ctx.project, target = ctx.target, ctx = ctx,
      scratch = helper.tempdir(), executable = tiny.executable(),
      environment = core.system.environment() }
    s.environment.LC_ALL = "C.UTF-8"
    return s
  end

  local function keep(child)
    running[#running + 1] = child
    return child
  end

  local function server(s, ...) return tiny.json(s, { "server", ... }) end

  local function data(result) return tiny.event(result, "result").data end

  local function said(result)
    return tiny.said({ stderr = result.stderr, stdout = "" })
  end

  local function ends(code, result)
    assert.equal(code, result.code, result.stderr)
    return said(result)
  end

  local function has(words, text) assert.truthy(text:find(words, 1, true), text) end

  local function start(s)
    local result = server(s, "start")
    ends(0, result)
    return data(result)
  end

  local function begin(s, ...)
    local run = command.start({ s.executable, "server", ... }, { scratch = s.scratch,
      directory = s.project, environment = s.environment, seconds = 30 })
    runs[#runs + 1] = run
    return run
  end

  -- As somebody who is not root, whoever runs the tests.
  local function powerless(s, ...)
    return tiny.json(s, { "server", ... }, { wrap = core.system.euid() == 0
      and { "setpriv", "--bounding-set=-all", "--inh-caps=-all" } or {} })
  end

  local function chmod(path, mode)
    command.succeed({ "chmod", mode, path }, { scratch = helper.tempdir() })
  end

  local function write_state(s, fields)
    fields.started_at = fields.started_at or clock.iso()
    fields.transport = fields.transport or "http"
    helper.write(kit.state_path(s.ctx), json.encode(fields))
  end

  after_each(function()
    for _, run in ipairs(runs) do
      command.kill(run, "KILL")
      command.wait(run)
    end
    for _, child in ipairs(running) do child:stop(1) end
    for _, ctx in ipairs(made) do
      for _, found in ipairs({ owned.find(ctx) or owned.starting(ctx)[1] }) do
        owned.stop(ctx, found, 1)
      end
    end
    made, running, runs = {}, {}, {}
    helper.clean()
  end)

  teardown(kit.finish)

  -- ---- the way of a server ---------------------------------------------------------------------

  it("starts it, tells how it stands, restarts and stops it", function()
    local s = install()
    local none = server(s, "status")
    has("the server does not run: there is no state file", ends(1, none))
    assert.same({ "stopped", false }, { data(none).state, data(none).running })

    local begun = start(s)
    assert.same(TOOLS, begun.tools)
    assert.equal(kit.state(s.ctx).pid, begun.pid)
    assert.equal(kit.state(s.ctx).url, begun.url)
    assert.equal(log.path(s.ctx), begun.log)

    local now = server(s, "status")
    ends(0, now)
    now = data(now)
    assert.same({ "running", true, begun.pid, "http", begun.url, 3, "1.0.0", true },
      { now.state, now.answers, now.pid, now.transport, now.url, now.tools_registered,
        now.server_version, now.running })
    assert.equal(s.target .. "/mcp_server", now.code)
    assert.is_true(now.seconds > 0 and now.seconds < 60)
    assert.is_nil(now.newer_code)

    local again = data(server(s, "restart"))
    assert.is_false(kit.is_alive(begun.pid))
    assert.is_true(kit.is_alive(again.pid))
    assert.same(TOOLS, again.tools)

    local stopped = server(s, "stop")
    has("Stopped the server (process " .. again.pid .. ")", ends(0, stopped))
    assert.equal("TERM", data(stopped).signal)
    assert.is_false(kit.is_alive(again.pid))
    local nothing = server(s, "stop")
    assert.equal("nothing_to_do", nothing.last.status)
    has("No server runs", ends(0, nothing))
  end)

  it("tells it in a table, and which command comes next, for the target named", function()
    local s = install()
    local none = tiny.run(s, { "server", "status", "--target", ".praxis-os" })
    has("praxlua server start --target .praxis-os", none.stderr .. none.stdout)
    local begun = start(s)
    local result = tiny.run(s, { "server", "status" })
    assert.equal(0, result.code)
    for _, line in ipairs({ "server     running", "process    " .. begun.pid,
      "url        " .. begun.url, "tools      3", "transport  http" }) do
      has(line, result.stdout)
    end
  end)

  it("refuses to start a second one", function()
    local s = install()
    local begun = start(s)
    has("the server runs already: process " .. begun.pid, ends(3, server(s, "start")))
    assert.is_true(kit.is_alive(begun.pid))
  end)

  it("starts one where none runs to restart", function()
    local s = install()
    assert.same(TOOLS, data(server(s, "restart")).tools)
  end)

  it("kills one that does not end by itself, after the grace", function()
    local s = install({ faults = { ignore_sigterm = true } })
    local begun = start(s)
    local result = server(s, "stop", "--grace", "0.2")
    has("by SIGKILL", ends(0, result))
    assert.equal("KILL", data(result).signal)
    assert.is_false(kit.is_alive(begun.pid))
    assert.is_nil(kit.state(s.ctx))
  end)

  it("warns of a server that runs older code than what is installed", function()
    local s = install()
    start(s)
    command.succeed({ "touch", "-d", "+1 minute", s.target .. "/mcp_server/tools.py" },
      { scratch = s.scratch })
    local result = server(s, "status")
    has("older code than what is installed: mcp_server/tools.py changed at", ends(0, result))
    assert.equal("mcp_server/tools.py", data(result).newer_code.path)
  end)

  it("says that a running server does not answer, with exit 1", function()
    local s = install()
    local begun = start(s)
    local state = kit.state(s.ctx)
    local listens = s.scratch .. "/port"
    keep(assert(core.spawn.start({ host = false, directory = s.scratch,
      argv = { "/usr/bin/python3", "-c", LISTENER, listens } })))
    local port = kit.wait(function() return tonumber(helper.read(listens) or "") end)
    state.port, state.url = port, ("http://127.0.0.1:%d/mcp"):format(port)
    helper.write(kit.state_path(s.ctx), json.encode(state))
    local result = server(s, "status")
    has(("port %d is not held by the server (process %d)"):format(port, begun.pid),
      ends(1, result))
    assert.same({ "running", false }, { data(result).state, data(result).answers })
  end)

  -- ---- what does not work ----------------------------------------------------------------------

  it("shows the end of the log when a start fails, and leaves nothing running", function()
    local s = install({ faults = { import_error = true } })
    local result = server(s, "start")
    local text = ends(1, result)
    has("No module named 'a_module_that_was_never_installed'", text)
    has("praxlua server probe", result.last.next)
    has("there is no state file", ends(1, server(s, "status")))
  end)

  it("leaves the running server alone when the installed code does not work", function()
    local s = install()
    local begun = start(s)
    for _, faults in ipairs({ { exit_at_start = 3 }, { hang_on_initialize = true } }) do
      kit.set_faults(s.ctx, faults)
      local result = server(s, "restart", "--health-timeout", "1")
      has(("the running server (process %d) was left alone"):format(begun.pid), ends(1, result))
      assert.equal(begun.pid, data(server(s, "status")).pid)
      assert.same(TOOLS, data(server(s, "status")).tools)
    end
  end)

  it("says what is missing where there is no environment, or no module", function()
    local s = install({ venv = false })
    for _, action in ipairs({ "start", "restart", "probe" }) do
      has("venv/bin/python is missing or not executable", ends(1, server(s, action)))
    end
    ends(0, server(s, "stop"))
    ends(1, server(s, "status"))
  end)

  it("refuses where there is no installation, and where upgrade.lua is wrong", function()
    local s = install()
    local empty = helper.tempdir() .. "/.praxis-os"
    lfs.mkdir(empty)
    for _, action in ipairs({ "start", "restart", "probe" }) do
      ends(3, server(s, action, "--target", empty))
      ends(3, server(s, action, "--target", empty .. "/nowhere"))
    end
    helper.write(s.target .. "/upgrade.lua", "return { server = { comand = {} } }")
    for _, action in ipairs({ "start", "stop", "restart", "probe" }) do
      has("did you mean 'command'", ends(3, server(s, action)))
    end
    has("its settings are not used", ends(1, server(s, "status")))
  end)

  it("takes wrong words for usage errors", function()
    local s = install({ venv = false })
    for _, words in ipairs({ {}, { "begin" }, { "start", "now" }, { "start", "--grace", "1" },
      { "stop", "--grace", "0" }, { "stop", "--grace", "x" }, { "logs", "-n", "-1" },
      { "logs", "-n", "1.5" }, { "probe", "--health-timeout", "-3" }, { "status", "--smoke" },
      { "start", "--target", "" } }) do
      ends(2, server(s, table.unpack(words)))
    end
  end)

  -- ---- whose it is -----------------------------------------------------------------------------

  describe("with a state file that tells nothing good", function()
    local s
    before_each(function() s = install() end)

    it("takes a dead process for no server", function()
      write_state(s, { pid = 4194301 })
      has("the process that its state file names, 4194301, is gone", ends(1, server(s, "status")))
      ends(0, server(s, "stop"))
      assert.is_true(kit.is_alive(start(s).pid))
    end)

    it("takes a process younger than the file for no server, and leaves it alone", function()
      local other = keep(kit.sleeper(s.project))
      write_state(s, { pid = other:pid(), started_at = "2020-01-01T00:00:00Z" })
      has("the state file was left behind", ends(1, server(s, "status")))
      has("the state file was left behind", ends(0, server(s, "stop")))
      assert.is_true(kit.is_alive(start(s).pid))
      assert.is_true(kit.is_alive(other:pid()))
    end)

    it("touches no process that is not proven to be the server, and says what to do", function()
      local other = keep(kit.sleeper(s.project))
      write_state(s, { pid = other:pid() })
      for _, action in ipairs({ "start", "stop", "restart" }) do
        local result = server(s, action)
        has("it does not run mcp_server", ends(3, result))
        has("if not, remove " .. kit.state_path(s.ctx), result.last.next)
      end
      has("it does not run mcp_server", ends(1, server(s, "status")))
      assert.is_true(kit.is_alive(other:pid()))
    end)

    it("tells a server of another project apart", function()
      local other = install({ name = "other" })
      local begun = start(other)
      helper.write(kit.state_path(s.ctx), helper.read(kit.state_path(other.ctx)))
      for _, action in ipairs({ "start", "stop", "restart" }) do
        has("it works in " .. other.project, ends(3, server(s, action)))
      end
      assert.equal(begun.pid, data(server(other, "status")).pid)
    end)

    it("refuses to guess where it cannot be read", function()
      for _, text in ipairs({ "{ not json", "[]", '{"pid": "1"}', "" }) do
        helper.write(kit.state_path(s.ctx), text)
        for _, action in ipairs({ "start", "stop", "restart" }) do
          has("the state file cannot be used", ends(3, server(s, action)))
        end
        has("the state file cannot be used", ends(1, server(s, "status")))
      end
      os.remove(kit.state_path(s.ctx))
      lfs.mkdir(kit.state_path(s.ctx))
      has("the state file cannot be used", ends(3, server(s, "start")))
    end)
  end)

  it("leaves a server over stdio to its editor, and says so", function()
    local s = install()
    local child = keep(kit.start(s.ctx, "stdio"))
    for _, action in ipairs({ "start", "stop", "restart" }) do
      has("belongs to the editor that started it", ends(3, server(s, action)))
    end
    assert.equal("stdio", data(server(s, "status")).transport)
    assert.is_true(kit.is_alive(child:pid()))
  end)

  it("stops a dual server, and says that an editor has lost it", function()
    local s = install()
    local child = keep(kit.start(s.ctx, "dual"))
    has("reload the MCP server there", ends(0, server(s, "stop")))
    assert.is_false(kit.is_alive(child:pid()))
  end)

  it("names the settings with which an editor starts a server of its own", function()
    local s = install()
    helper.write(s.project .. "/.cursor/mcp.json", json.encode({ mcpServers = { ["praxis-os"] = {
      command = "python", args = { "-m", "mcp_server", "--transport", "dual" } } } }))
    helper.write(s.project .. "/.vscode/mcp.json", "// { not json")
    helper.write(s.project .. "/.mcp.json", json.encode({ mcpServers = { other = {
      command = "node", args = { "x" } } } }))
    local text = ends(0, server(s, "start"))
    has(".cursor/mcp.json lets the editor start a server of its own (dual)", text)
    assert.is_nil(text:find(".vscode", 1, true))
    assert.is_nil(text:find(" .mcp.json", 1, true))
  end)

  -- ---- at the same time ------------------------------------------------------------------------

  it("waits for nobody: while an upgrade holds the installation, exit 6", function()
    local s = install()
    local begun = start(s)
    local lock <close> = assert(core.lock.acquire(s.target))
    for _, action in ipairs({ "start", "stop", "restart", "probe" }) do
      has("another command works on this installation: process ", ends(6, server(s, action)))
    end
    assert.equal(begun.pid, data(server(s, "status")).pid)
    assert.is_true(lock:held())
  end)

  it("is refused where an upgrade was cut short, except to stop and to look", function()
    local s = install()
    local begun = start(s)
    lfs.mkdir(s.target .. "/.upgrade")
    lfs.mkdir(s.target .. "/.upgrade/12345678-1234-4234-8234-123456789abc")
    for _, action in ipairs({ "start", "restart", "probe" }) do
      has("did not finish", ends(3, server(s, action)))
    end
    assert.equal(begun.pid, data(server(s, "status")).pid)
    ends(0, server(s, "stop"))
  end)

  it("goes on from a start that was killed on the way", function()
    local s = install({ faults = { slow_start = 2 } })
    local run = begin(s, "start")
    local pid = kit.wait(function()
      local mark = json.decode(helper.read(log.mark_path(s.ctx)) or "null")
      return type(mark) == "table" and mark.pid
    end)
    command.kill(run, "KILL")
    command.wait(run)
    local result = server(s, "status")
    has(("process %d was started by praxlua"):format(pid), ends(1, result))
    assert.equal("starting", data(result).state)
    has("a server is being started already", ends(3, server(s, "start")))
    kit.wait(function() return kit.state(s.ctx) end)
    assert.equal(pid, data(server(s, "status")).pid)
    ends(0, server(s, "stop"))
    assert.is_false(kit.is_alive(pid))
  end)

  it("ends what a killed start left hanging", function()
    local s = install({ faults = { hang_at_start = true } })
    local run = begin(s, "start")
    local pid = kit.wait(function()
      local mark = json.decode(helper.read(log.mark_path(s.ctx)) or "null")
      return type(mark) == "table" and mark.pid
    end)
    command.kill(run, "KILL")
    command.wait(run)
    ends(0, server(s, "stop"))
    assert.is_false(kit.is_alive(pid))
    kit.set_faults(s.ctx, {})
    assert.is_true(kit.is_alive(start(s).pid))
  end)

  it("tells after a second what it waits for, and ends what it started when interrupted", function()
    local s = install({ faults = { hang_at_start = true } })
    local run = begin(s, "start", "--json")
    assert.is_table(command.await(run, function(event)
      return event.event == "phase_progress" and event.text:find("waiting for the server", 1, true)
    end))
    local pid = json.decode(helper.read(log.mark_path(s.ctx))).pid
    assert.is_true(kit.is_alive(pid))
    command.kill(run, "INT")
    local result = command.wait(run)
    has("what was started has been ended again", ends(130, result))
    assert.is_false(kit.is_alive(pid))
  end)

  it("can be interrupted while it waits for a server to end", function()
    local s = install({ faults = { ignore_sigterm = true } })
    local begun = start(s)
    local run = begin(s, "stop", "--grace", "60", "--json")
    assert.is_table(command.await(run, function(event) return event.event == "phase_progress" end))
    local began = core.system.monotonic()
    command.kill(run, "TERM")
    local result = command.wait(run)
    has("was asked to end, and may yet do so", ends(143, result))
    assert.is_true(core.system.monotonic() - began < 8)
    assert.is_true(kit.is_alive(begun.pid))
  end)

  it("starts one server where two are started in the same instant", function()
    local s = install()
    local first, second = begin(s, "start", "--json"), begin(s, "start", "--json")
    local codes = { command.wait(first).code, command.wait(second).code }
    table.sort(codes)
    assert.equal(0, codes[1])
    assert.is_true(codes[2] == 6 or codes[2] == 3, "the second ended with " .. codes[2])
    assert.same(TOOLS, data(server(s, "status")).tools)
  end)

  it("says that the installation is another user's", function()
    local s = install()
    local begun = start(s)
    for _, path in ipairs({ kit.state_path(s.ctx), log.path(s.ctx), s.target }) do
      chmod(path, "u=,go=")
    end
    chmod(s.target, "u=rx,go=")
    for _, action in ipairs({ "start", "stop", "restart", "probe" }) do
      has("cannot be written", ends(3, powerless(s, action)))
    end
    has("cannot be read", ends(1, powerless(s, "logs")))
    local result = powerless(s, "status")
    has("Permission denied", ends(1, result))
    has("run this as the user whom that file belongs to", result.last.next)
    chmod(s.target, "u=rwx")
    assert.is_true(kit.is_alive(begun.pid))
    chmod(kit.state_path(s.ctx), "u=rw")
  end)

  -- ---- probe -----------------------------------------------------------------------------------

  it("proves the installed code, and leaves the running server as it is", function()
    local s = install()
    local begun = start(s)
    local before = core.file.stat(kit.state_path(s.ctx))
    local result = server(s, "probe")
    has("The installed code works: version 1.0.0, 3 tools", ends(0, result))
    local found = data(result)
    assert.same(TOOLS, { found.tools[1].name, found.tools[2].name, found.tools[3].name })
    assert.equal("Search the standards.", found.tools[3].description)
    assert.is_nil(found.calls)
    local after = core.file.stat(kit.state_path(s.ctx))
    assert.same({ before.inode, before.mtime }, { after.inode, after.mtime })
    assert.equal(begun.pid, data(server(s, "status")).pid)
  end)

  it("makes the smoke calls, and fails where one of them does", function()
    local s = install()
    local result = server(s, "probe", "--smoke")
    ends(0, result)
    local status = {}
    for _, call in ipairs(data(result).calls) do status[call.id] = call.status end
    assert.equal("passed", status.rag_search_test)
    assert.equal("not_run", status.browser_smoke_test)
    helper.write(s.target .. "/upgrade.lua",
      'return { smoke = { { tool = "list_workflows", expect = "no such words" } } }')
    has("1 call failed", ends(1, server(s, "probe", "--smoke")))
  end)

  it("says how to try by hand what does not answer", function()
    local s = install({ name = "a project" })
    kit.set_faults(s.ctx, { exit_at_start = 4 })
    local result = server(s, "probe")
    ends(1, result)
    has("cd '" .. s.project .. "' && PYTHONPATH='" .. s.target .. "'", result.last.next)
  end)

  it("cuts descriptions to the width of the terminal", function()
    local s = install()
    local path = s.target .. "/mcp_server/tools.py"
    helper.write(path, (helper.read(path):gsub("Search the standards%.", "Search " .. ("x"):rep(200)
      .. "\\nsecond line")))
    local result = typist.run(s, { "server", "probe" }, {})
    assert.equal(0, result.code, result.output)
    local line = result.output:match("search_standards[^\r\n]*")
    has("xxx\u{2026}", line)
    assert.is_nil(result.output:find("second line", 1, true))
  end)

  -- ---- names -----------------------------------------------------------------------------------

  it("works in a project whose name has blanks, quotes and line ends", function()
    local s = install({ name = "it's a\nproject \27[31m" })
    local begun = start(s)
    local result = server(s, "status")
    ends(0, result)
    assert.equal(begun.pid, data(result).pid)
    local shown = tiny.run(s, { "server", "status" })
    has("it's a\\nproject \\e[31m", shown.stdout)
    assert.is_nil(shown.stdout:find("\27", 1, true))
    ends(0, server(s, "restart"))
    ends(0, server(s, "stop"))
  end)

  -- ---- logs ------------------------------------------------------------------------------------

  describe("logs", function()
    local s, path
    before_each(function()
      s = install({ venv = false })
      path = log.path(s.ctx)
    end)

    local function lines(result)
      local found = {}
      for _, event in ipairs(result.events or command.events(result.stdout)) do
        if event.event == "server_log" then found[#found + 1] = event.line end
      end
      return found
    end

    local function append(text)
      local out = assert(io.open(path, "ab"))
      assert(out:write(text))
      assert(out:close())
    end

    it("shows the last lines, printable", function()
      local all = {}
      for i = 1, 30 do all[i] = "line " .. i end
      helper.write(path, table.concat(all, "\n") .. "\n\27[2Jend")
      assert.same({ "line 30", "\\e[2Jend" }, lines(server(s, "logs", "-n", "1")))
      assert.equal(21, #lines(server(s, "logs")))
      assert.same({}, lines(server(s, "logs", "-n", "0")))
      local shown = tiny.run(s, { "server", "logs", "-n", "1", "--quiet" })
      assert.equal("line 30\n\\e[2Jend\n", shown.stdout)
      assert.equal("", shown.stderr)
    end)

    it("shows the errors since the last start, tracebacks as a whole", function()
      helper.write(path, "[ERROR] of an earlier run\n")
      assert(log.mark(s.ctx, 4242, log.offset(s.ctx)))
      append("[INFO] one\n[ERROR] two\nTraceback (most recent call last):\n  File x\n    y\n"
        .. "ValueError: no\n[INFO] three\n")
      assert.same({ "[ERROR] two", "Traceback (most recent call last):", "  File x", "    y",
        "ValueError: no" }, lines(server(s, "logs", "--errors")))
      assert.same({ "ValueError: no" }, lines(server(s, "logs", "--errors", "-n", "1")))
      helper.write(path, "[ERROR] after rotation\n") -- shorter than where the last start was
      assert.same({ "[ERROR] after rotation" }, lines(server(s, "logs", "--errors")))
    end)

    it("says where there is none, and of what is none", function()
      has("there is no log at", ends(1, server(s, "logs")))
      lfs.mkdir(s.target .. "/.cache")
      assert.is_true(os.execute("mkfifo " .. command.quote(path)))
      has("is no regular file", ends(1, server(s, "logs")))
    end)

    local function awaits(run, line)
      assert.is_table(command.await(run, function(event) return event.line == line end), line)
    end

    it("follows it through truncation and rotation until Ctrl-C, as tail does", function()
      helper.write(path, "zero\none\n")
      local run = begin(s, "logs", "--follow", "-n", "1", "--json")
      awaits(run, "one")
      append("two, half")
      append(" and half\n")
      awaits(run, "two, half and half")
      helper.write(path, "cut\n")
      awaits(run, "cut")
      assert(os.rename(path, path .. ".1"))
      helper.write(path, "begun anew, longer than before\n")
      awaits(run, "begun anew, longer than before")
      append("and on\n")
      awaits(run, "and on")
      command.kill(run, "INT")
      local result = command.wait(run)
      assert.equal(130, result.code)
      assert.same({ "one", "two, half and half", "cut", "begun anew, longer than before",
        "and on" }, lines(result))
    end)

    it("ends when nobody reads it any more", function()
      helper.write(path, "one\n")
      local writer = ("i=0; while [ $i -lt 100 ]; do echo more >> %s; sleep 0.05; i=$((i+1)); done")
        :format(command.quote(path))
      local script = ("( %s ) & writer=$!; %s server logs -f %s | head -n 1; kill $writer")
      for _, flag in ipairs({ "", "--json" }) do
        command.succeed({ "sh", "-c", script:format(writer, command.quote(s.executable), flag) },
          { scratch = s.scratch, directory = s.project, seconds = 20 })
      end
    end)

    it("splits what has no line ends, and loses nothing while files are exchanged", function()
      helper.write(path, ("x"):rep(100000))
      local reader = follow.open(path, 0)
      assert.equal(100000, #table.concat(follow.more(reader)))
      append("tail of the old file")
      assert(os.rename(path, path .. ".1"))
      helper.write(path, "new\n")
      assert.same({ "tail of the old file", "new" }, follow.more(reader))
      assert.same({}, follow.more(reader))
      append("rest")
      assert.same({}, follow.more(reader))
      assert.equal("rest", follow.close(reader))
    end)
  end)
end)
