--- The server of an installation stopped, started, and waited for.
--
-- `dual` is stdio for an editor and HTTP for others, and ends when its stdin does. Started again by
-- us it has no editor, so it is started as `http`: the same kind of endpoint, and it stays.
local ask = require("praxlua.server.ask")
local core = require("praxlua.core")
local log = require("praxlua.server.log")
local owned = require("praxlua.server.owned")
local state_file = require("praxlua.server.state_file")

local system = core.system

local lifecycle = {}

local POLL_FIRST, POLL_LONGEST = 0.02, 0.05
local PATIENCE = 1 -- seconds before it is told what is waited for

--- Stops the server of this installation, and nothing else.
---@param ctx table options.stop_grace: seconds before SIGKILL, 10
---@return table|nil { stopped: boolean, pid?, transport?, signal?, seconds?, reason? }
---@return string? message
---@return string? code "ENOTOURS" when the state file names a process that is not ours
function lifecycle.stop(ctx)
  local found, reason = owned.find(ctx)
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
  local found, reason = owned.find(ctx)
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
  local found, reason = owned.find(ctx)
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
function lifecycle.wait_for_server_ready(ctx, timeout)
  local began = system.monotonic()
  local run, missing, kind = awaited(ctx)
  if not run then return nil, missing, kind end
  timeout = ask.seconds(ctx, timeout)
  local deadline = began + timeout
  local pause, seen = POLL_FIRST, nil
  local tell = teller(ctx, began)
  while true do
    local answer, problem, what = look(ctx, run, deadline)
    if answer then return ask.as_health(answer, "http", began) end
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
function lifecycle.end_starting(ctx, since)
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
  if fine then fine, problem, code = lifecycle.end_starting(ctx) end
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
function lifecycle.start(ctx, options)
  local transport = options and options.transport or "http"
  assert(transport == "http" or transport == "dual", "server.start: stdio is an editor's to start")
  local began = system.monotonic()
  local run, problem, code = launch(ctx)
  if not run then return nil, problem, code end
  ctx.memory.server = run
  local health
  health, problem, code = lifecycle.wait_for_server_ready(ctx, options and options.timeout)
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

return lifecycle
