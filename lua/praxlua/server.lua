--- The MCP server of an installation: asked, stopped, started, proven.
--
-- A server that speaks HTTP is asked where it listens. One that speaks stdio belongs to the editor
-- that started it: nobody else can speak to it or start it again, so the installed code is proven
-- by a private server over stdio instead, as it is when no server runs.
--
-- `dual` is stdio for an editor and HTTP for others, and ends when its stdin does. Started again by
-- us it has no editor, so it is started as `http`: the same kind of endpoint, and it stays.
local ask = require("praxlua.server.ask")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local log = require("praxlua.server.log")
local owned = require("praxlua.server.owned")
local smoke = require("praxlua.server.smoke")
local state_file = require("praxlua.server.state_file")
local text = require("praxlua.text")
local watch = require("praxlua.server.watch")

local system = core.system

local server = {}

local POLL_FIRST, POLL_LONGEST = 0.02, 0.05
local PATIENCE = 1 -- seconds before it is told what is waited for

server.find = owned.find

local function warn(ctx, message)
  if ctx.warn then ctx.warn(message) end
end

--- The lines of the server's log that tell of errors, since it was last started.
---@param ctx table
---@param offset integer? bytes, `log_offset` of restart_server; the last start by us when nil
---@return string[] lines printable, the first hundred
function server.log_errors_since(ctx, offset)
  assert(offset == nil or math.type(offset) == "integer" and offset >= 0, "offset: bytes")
  return log.errors_since(ctx, offset or log.marked(ctx) or log.offset(ctx))
end

-- ---- health ------------------------------------------------------------------------------------

local function warn_when_shadowed(ctx, code)
  local path, ours = ask.module_path(ctx, code)
  if path and not ours then
    local message = "%s is run instead of %s/%s: the working directory comes first. "
      .. "What is proven is that copy; rename or move it to prove the installed one"
    warn(ctx, message:format(text.visible(path), code, layout.server_of(ctx).module))
  end
  return path
end

local function as_health(answer, via, began)
  answer.responding = true
  answer.via = via
  answer.seconds = system.monotonic() - began
  return answer
end

--- Starts the installed code privately over stdio, shakes hands, lists its tools and ends it again.
--- The live state file is the same afterwards, to the byte and the nanosecond.
---@param ctx table
---@param options { code: string?, timeout: number? }? code: directory that holds the module (a
---  staged copy), the target when nil · timeout: seconds, options.health_timeout or 30
---@return table|nil health as of server.health, with module_path
---@return string? message
---@return string? code of praxlua.mcp, or errno
function server.probe(ctx, options)
  local began = system.monotonic()
  local code = options and options.code or ctx.target
  local seconds = ask.seconds(ctx, options and options.timeout)
  local answer, problem, kind = ask.privately(ctx, code, seconds, ask.examine)
  if not answer then
    local message = "the server does not answer when it is started privately: %s. "
      .. "Try it: cd %s && PYTHONPATH=%s %s"
    local command = table.concat(ask.command(ctx, "stdio", code).argv, " ")
    return nil, message:format(problem, ctx.project, code, command), kind
  end
  answer.module_path = warn_when_shadowed(ctx, code)
  return as_health(answer, "probe", began)
end

--- How the server is: the running one if it speaks HTTP, else the installed code by a probe.
---@param ctx table
---@param seconds number? deadline, options.health_timeout or 30
---@return table health { responding, tools = sorted names, tools_registered, server_version?,
---  protocol_version?, seconds, via = "http"|"probe", error?, code? }
function server.health(ctx, seconds)
  local began = system.monotonic()
  seconds = ask.seconds(ctx, seconds)
  local found = server.find(ctx)
  local via = found and found.url and "http" or "probe"
  local answer, problem, code
  if via == "http" then
    answer, problem, code = ask.over_http(found, seconds, ask.examine)
  else
    answer, problem, code = server.probe(ctx, { timeout = seconds })
  end
  if answer then return as_health(answer, via, began) end
  return {
    responding = false,
    tools = {},
    tools_registered = 0,
    error = problem,
    code = code,
    via = via,
    seconds = system.monotonic() - began,
  }
end

-- Whether the session started the server anew.
local function was_restarted(ctx)
  local upgraded = ctx.session.phase_artifacts["3"]
  return upgraded ~= nil and upgraded.server_restarted == true
end

local function runs_no_more(ctx, reason)
  return nil, string.format("the upgraded server answered once and runs no more (%s); %s",
    tostring(reason), log.tail(ctx, log.marked(ctx) or 0)), "ECLOSED"
end

--- Whether the server that this session started still runs. A session that started none passes.
---@param ctx table
---@return true|nil
---@return string? message with the end of the server's log
---@return string? code "ECLOSED"
function server.check_running(ctx)
  if not was_restarted(ctx) then return true end
  local found, reason = server.find(ctx)
  if found then return true end
  return runs_no_more(ctx, reason)
end

--- Waits until the server that this session started has stayed for its time, which counts from its
--- first answer. A session that started none has nothing to wait for.
---@param ctx table options.watch, else the project file's server.watch: seconds, 3
---@return { watched: boolean, seconds: number }|nil
---@return string? message with the end of the server's log
---@return string? code "ECLOSED" it ended · "EINTR" · "ETIMEDOUT"
function server.watch(ctx)
  if not was_restarted(ctx) then return { watched = false, seconds = 0 } end
  local seconds, why, code = watch.wait(ctx)
  if seconds then return { watched = true, seconds = seconds } end
  if code == "ECLOSED" then return runs_no_more(ctx, why) end
  return nil, "watching the new server: " .. why, code
end

-- The running server where it can be asked, and where it is the one to be judged: one that was left
-- alone when its code was upgraded has the old code in it.
local function to_be_judged(ctx)
  local found = server.find(ctx)
  if not found or not found.url then return nil end
  if ctx.session and ctx.session.phase_artifacts["3"] and not was_restarted(ctx) then return nil end
  return found
end

--- Calls the tools that show that the server works, on the running server or a private one.
---@param ctx table
---@return table|nil results of smoke.run: a status per evidence field, and the calls; and via =
---  "http"|"probe"
---@return string? message
---@return string? code
function server.run_smoke(ctx)
  local declared = ctx.options.project and ctx.options.project.smoke
  local seconds = smoke.seconds(declared)
  local found = to_be_judged(ctx)
  local function use(client, deadline)
    local answer, problem, code = ask.examine(client, deadline)
    if not answer then return nil, problem, code end
    local results = smoke.run(client, answer.tools, deadline, declared)
    results.via = found and "http" or "probe"
    return results
  end
  if found then return ask.over_http(found, seconds, use) end
  return ask.privately(ctx, ctx.target, seconds, use)
end

-- ---- stopping and starting ---------------------------------------------------------------------

--- Stops the server of this installation, and nothing else.
---@param ctx table options.stop_grace: seconds before SIGKILL, 10
---@return table|nil { stopped: boolean, pid?, transport?, signal?, seconds?, reason? }
---@return string? message
---@return string? code "ENOTOURS" when the state file names a process that is not ours
function server.stop(ctx)
  local found, reason = server.find(ctx)
  if found then return owned.stop(ctx, found, ctx.options.stop_grace) end
  if reason == owned.NOT_RUNNING then return { stopped = false, reason = reason } end
  local message = "no server was stopped: %s. If that is the server, stop it yourself; "
    .. "if not, remove %s"
  return nil, message:format(reason, state_file.path(ctx)), "ENOTOURS"
end

-- Why the process that was started has ended, or nil while it runs.
local function ended(run)
  local status = run.child and run.child:wait(0)
  if not status then return nil end
  if status.signal ~= 0 then return "the server was ended by signal " .. status.signal end
  return ("the server exited with code %d before it was ready"):format(status.code)
end

-- Codes of a server that is not reachable yet, or going; the next look tells which.
local PASSING = { ECLOSED = true, ECONNREFUSED = true }

-- Whether a process is what was started, or was started by that: a script may stand in front.
local function belongs(run, pid)
  if pid == run.pid then return true end
  for _, identity in ipairs(owned.descendants(run.pid)) do
    if identity.pid == pid then return true end
  end
  return false
end

-- One look at a server that is coming up: its health; or nil, message, code when there is no point
-- in looking again; or nil, nil and what it is waiting for.
local function look(ctx, run, deadline)
  local why = ended(run)
  if why then return nil, why, "ECLOSED" end
  local found, reason = server.find(ctx)
  if not found then
    return nil, nil, reason == owned.NOT_RUNNING and "it has written no state file" or reason
  end
  if not belongs(run, found.pid) then
    return nil, nil, ("the state file is of another server, process %d"):format(found.pid)
  end
  if not found.url then return nil, "the server speaks no HTTP", "EPROTOCOL" end
  local left = math.max(deadline - system.monotonic(), 0)
  local answer, problem, code = ask.over_http(found, left, ask.examine)
  run.serving = found.pid
  if answer then return answer end
  if PASSING[code] then return nil, nil, problem end
  return nil, problem, code
end

local function not_ready(ctx, run, problem, code)
  local message = "the server is not ready: %s; %s\n  The whole log: %s"
  return nil, message:format(problem, log.tail(ctx, run.log_offset), log.path(ctx)), code
end

-- The server this run started, else the one that runs.
local function awaited(ctx)
  if ctx.memory.server then return ctx.memory.server end
  local found, reason = server.find(ctx)
  if not found then return nil, "there is no server to wait for: " .. reason, "ENOENT" end
  return { pid = found.pid, log_offset = log.offset(ctx) }
end

-- Tells what a server is waited for, once that takes long, and again when it is something else.
local function teller(ctx, began)
  local told
  return function(what)
    if not ctx.progress or what == told or system.monotonic() - began < PATIENCE then return end
    told = what
    ctx.progress("waiting for the server: " .. tostring(what))
  end
end

--- Waits until the server that was started answers. There is no fixed delay: it looks often at
--- first, less often later, and sees at once that the server has ended.
---@param ctx table
---@param timeout number? seconds, options.health_timeout or 30
---@return table|nil health
---@return string? message with the end of the log
---@return string? code "ECLOSED" it ended · "ETIMEDOUT" · "EPROTOCOL" · "EINTR" · "ENOENT"
function server.wait_for_server_ready(ctx, timeout)
  local began = system.monotonic()
  local run, missing, kind = awaited(ctx)
  if not run then return nil, missing, kind end
  timeout = ask.seconds(ctx, timeout)
  local deadline = began + timeout
  local pause, seen = POLL_FIRST, nil
  local tell = teller(ctx, began)
  while true do
    local answer, problem, what = look(ctx, run, deadline)
    if answer then return as_health(answer, "http", began) end
    if problem then return not_ready(ctx, run, problem, what) end
    seen = what or seen
    tell(seen)
    local left = deadline - system.monotonic()
    if left <= 0 then
      problem = ("no answer within %.1f s (%s)"):format(timeout, seen)
      return not_ready(ctx, run, problem, "ETIMEDOUT")
    end
    system.sleep(math.min(pause, left))
    if system.interrupted() then return not_ready(ctx, run, "interrupted", "EINTR") end
    if core.cancel.asked() then
      return not_ready(ctx, run, "the time of the phase is over", "ETIMEDOUT")
    end
    pause = math.min(pause * 1.3, POLL_LONGEST)
  end
end

--- Ends servers of this installation that a praxlua has started which is gone, and which have not
--- come up: nobody waits for them any more.
---@param ctx table
---@param since integer? ns; one that has run for longer is left alone
---@return true|nil
---@return string? message
---@return string? code
function server.end_starting(ctx, since)
  for _, found in ipairs(owned.starting(ctx)) do
    local stopped, problem, code = true, nil, nil
    if not since or owned.started_at(found.identity) + owned.CLOCK_SLACK >= since then
      stopped, problem, code = owned.stop(ctx, found, ctx.options.stop_grace)
    end
    if not stopped then return nil, problem, code end
  end
  return true
end

local function launch(ctx)
  local fine, problem, code = ask.check_program(ctx)
  if fine then fine, problem, code = server.end_starting(ctx) end
  if not fine then return nil, problem, code end
  fine, problem, code = core.file.mkdir(ctx.target .. "/.cache")
  if not fine then return nil, problem, code end
  local options = ask.command(ctx, "http", ctx.target)
  options.stdin, options.stdout, options.stderr = "null", { file = log.path(ctx) }, "stdout"
  options.detach = true
  local offset = log.offset(ctx)
  local child
  child, problem, code = core.spawn.start(options)
  if not child then return nil, "the server cannot be started: " .. problem, code end
  log.mark(ctx, child:pid(), offset)
  local claimed
  claimed, problem, code = state_file.claim(ctx, child:pid())
  if claimed == nil then
    child:stop(2)
    return nil, "the state file cannot be written: " .. problem, code
  end
  return { child = child, pid = child:pid(), log_offset = offset }
end

-- Ends what was started and does not answer, with all that it has started itself.
local function give_up(ctx, run)
  local leftovers = owned.descendants(run.pid)
  run.child:stop(2)
  owned.end_leftovers(leftovers)
  state_file.forget(ctx, run.pid)
  for _, identity in ipairs(leftovers) do state_file.forget(ctx, identity.pid) end
end

--- Starts the installed server, detached, its log appended to .cache/mcp_server.log, and waits
--- until it answers. One that does not is stopped again.
---@param ctx table
---@param options { transport: string?, timeout: number? }? transport: "http" or "dual" (started as
---  http, see the head of this file)
---@return table|nil { started = true, pid, transport = "http", log, log_offset, health, seconds }
---@return string? message
---@return string? code
function server.start(ctx, options)
  local transport = options and options.transport or "http"
  assert(transport == "http" or transport == "dual", "server.start: stdio is an editor's to start")
  local began = system.monotonic()
  local run, problem, code = launch(ctx)
  if not run then return nil, problem, code end
  ctx.memory.server = run
  local health
  health, problem, code = server.wait_for_server_ready(ctx, options and options.timeout)
  if health then run.child:release() else give_up(ctx, run) end
  run.child = nil
  if not health then return nil, problem, code end
  return {
    started = true,
    pid = run.serving,
    transport = "http",
    log = log.path(ctx),
    log_offset = run.log_offset,
    health = health,
    seconds = system.monotonic() - began,
  }
end

-- ---- remembering and restarting ----------------------------------------------------------------

-- How the old server is; where the running one does not answer, what its code tells.
local function health_of_old(ctx)
  local health = server.health(ctx)
  if health.responding or health.via == "probe" then return health end
  local answer = server.probe(ctx)
  if not answer then return health end
  warn(ctx, ("the running server does not answer (%s); its tools are those of the installed code")
    :format(text.visible(health.error)))
  return answer
end

--- What has to be known to bring this server back and to judge its successor. To be called while
--- the old code is in place. Plain data.
---@param ctx table
---@param unasked boolean? it is not asked for its tools: it will have no successor to be judged
---@return table remembered { was_running, reason?, pid?, start_time?, transport?, url?,
---  tools? (names), tools_reason?, server_version? }
function server.remember(ctx, unasked)
  state_file.put_back(ctx)
  local found, reason = server.find(ctx)
  local health = unasked and {} or health_of_old(ctx)
  local remembered = {
    was_running = found ~= nil,
    reason = reason,
    tools = health.responding and health.tools or nil,
    tools_reason = health.error,
    server_version = health.server_version,
  }
  if found then
    remembered.pid, remembered.start_time = found.pid, found.identity.start_time
    remembered.transport, remembered.url = found.transport, found.url
  end
  ctx.memory.server_remembered = remembered
  return remembered
end

-- The server ran before this upgrade and does not now: an earlier try was killed between stopping
-- the old one and starting the new one.
local function is_missing(ctx, found, options)
  local remembered = options and options.remembered or ctx.memory.server_remembered
  return not found and remembered ~= nil and remembered.was_running
    and remembered.transport ~= "stdio" and remembered.transport
end

-- Why nothing is to be stopped and started, or nil.
local function no_restart(ctx, found, reason, missing)
  if ctx.options.restart == false then return "not_asked_for" end
  if missing then return nil end
  if not found then
    if reason ~= owned.NOT_RUNNING then warn(ctx, "no server is restarted: " .. reason) end
    return reason
  end
  if found.transport ~= "stdio" then return nil end
  local message = "the server (process %d) belongs to an editor, which alone can restart it: "
    .. "reload the MCP server there to get the new version"
  warn(ctx, message:format(found.pid))
  return "stdio"
end

-- Python takes compiled code for current when the source has the size and the second of before,
-- which a file of another version may well have. Code that was exchanged starts without any.
local function drop_bytecode(ctx)
  local code = ctx.target .. "/" .. layout.server_of(ctx).module
  for _, entry in ipairs(core.tree.list(code) or {}) do
    if entry.type == "directory" and entry.path:match("[^/]+$") == "__pycache__" then
      core.tree.remove(code .. "/" .. entry.path)
    end
  end
end

-- What was proven before the switch need not be proven again.
local function prove_only(ctx, began, reason)
  local restart_time = clock.iso()
  local health, problem, code = ctx.memory.proof, nil, nil
  if health then
    health = as_health(health, "probe", began)
  else
    health, problem, code = server.probe(ctx)
  end
  if not health then return nil, problem, code end
  return {
    stopped = false,
    started = false,
    reason = reason,
    restart_time = restart_time,
    seconds = system.monotonic() - began,
    health = health,
  }
end

-- A server takes the next free port where its own is not free yet: whoever has its address in their
-- settings has to know.
local function tell_address(ctx, before)
  local now = before and before.url and server.find(ctx)
  if not now or now.url == before.url then return end
  warn(ctx, ("the server listens at %s now, and no longer at %s: change it where the old address "
    .. "is written down"):format(text.visible(tostring(now.url)), text.visible(before.url)))
end

--- Stops the running server and starts the installed code in its place. Where there is nothing to
--- restart (no server runs, an editor owns it, options.restart is false) the installed code is
--- proven by a probe.
---@param ctx table
---@param options { remembered: table?, timeout: number? }? remembered: of server.remember
---@return table|nil { stopped, started, restart_time (ISO 8601), seconds, pid?, transport?, health,
---  log_offset?, reason? = "not_running"|"not_ours: …"|"stdio"|
---  "not_asked_for" }
---@return string? message
---@return string? code
function server.restart_server(ctx, options)
  local began = system.monotonic()
  state_file.put_back(ctx)
  local found, reason = server.find(ctx)
  local missing = is_missing(ctx, found, options)
  drop_bytecode(ctx)
  reason = no_restart(ctx, found, reason, missing)
  if reason then return prove_only(ctx, began, reason) end

  local transport = missing or found.transport
  if transport == "dual" then
    warn(ctx, "the server also spoke stdio to the editor that started it; it is started with http "
      .. "alone. Reload the MCP server in the editor to connect it again")
  end
  local restart_time = clock.iso()
  local stopped, problem, code = server.stop(ctx)
  if not stopped then return nil, problem, code end
  local run
  run, problem, code = server.start(ctx, {
    transport = transport,
    timeout = options and options.timeout,
  })
  if not run then return nil, problem, code end
  tell_address(ctx, found)
  return {
    stopped = stopped.stopped,
    started = true,
    restart_time = restart_time,
    seconds = system.monotonic() - began,
    pid = run.pid,
    transport = run.transport,
    health = run.health,
    log_offset = run.log_offset,
  }
end

--- For a run that goes on after a kill: the upgraded server, which the session started and which is
--- gone since (the machine, or somebody, ended everything), is started again.
---@param ctx table
---@return true|nil
---@return string? message
---@return string? code
function server.revive(ctx)
  if not was_restarted(ctx) then return true end
  state_file.put_back(ctx)
  local found, reason = server.find(ctx)
  if found or reason ~= owned.NOT_RUNNING then return true end
  local started, problem, code = server.start(ctx, {
    transport = (ctx.session.metadata.server or {}).transport,
  })
  if not started then return nil, problem, code end
  watch.begin(ctx)
  return true
end

--- Brings the server back to what it was, for a rollback: call it when the old code is in place.
--- The old process, if it still runs, is left alone; a later one is stopped, for it runs the new
--- code.
---@param ctx table
---@param remembered table of server.remember
---@return table|nil { started: boolean, pid?, transport?, health?,
---  reason? = "not_running"|"stdio"|"still_running" }
---@return string? message
---@return string? code
function server.restore(ctx, remembered)
  state_file.put_back(ctx)
  if not remembered.was_running then return { started = false, reason = owned.NOT_RUNNING } end
  if remembered.transport == "stdio" then return { started = false, reason = "stdio" } end
  local found = server.find(ctx)
  if found and found.pid == remembered.pid
    and found.identity.start_time == remembered.start_time then
    return {
      started = false,
      reason = "still_running",
      pid = found.pid,
      transport = found.transport,
      health = found.url and server.health(ctx) or nil,
    }
  end
  if found then
    local stopped, problem, code = server.stop(ctx)
    if not stopped then return nil, problem, code end
  end
  drop_bytecode(ctx)
  return server.start(ctx, { transport = remembered.transport })
end

return server
