--- `praxlua server start|stop|restart`. The caller holds the lock.
--
-- Each notes in ctx.if_interrupted how things stand if somebody interrupts just then, and what to
-- do about it.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local editors = require("praxlua.server.editors")
local ends = require("praxlua.cli.server.ends")
local json = require("praxlua.json")
local owned = require("praxlua.server.owned")
local server = require("praxlua.server")
local standing = require("praxlua.server.standing")
local text = require("praxlua.text")
local view = require("praxlua.cli.server.view")

local system = core.system

local switch = {}

-- Editors that start the server by themselves: theirs is another one.
local function tell_of_editors(ctx)
  for _, found in ipairs(editors.of(ctx)) do
    ctx.warn(("%s lets the editor start a server of its own (%s); the one that is started here "
      .. "speaks http, and is not the editor's"):format(found.path, text.visible(found.transport)))
  end
end

local function start_anew(ctx, v, command)
  ctx.if_interrupted = { "Interrupted; what was started has been ended again, and no server runs.",
    "start it with: praxlua server start" }
  local started, message = server.start(ctx)
  if not started then
    return ends.failed(message, "mend that; all of the log: praxlua server logs -n 200\n"
      .. "try the code by itself with: praxlua server probe\nthen: praxlua server start")
  end
  local found = owned.find(ctx) or {}
  local data = {
    pid = started.pid, transport = started.transport, url = found.url,
    tools = json.array(started.health.tools), tools_registered = started.health.tools_registered,
    server_version = started.health.server_version, seconds = started.seconds, log = started.log,
  }
  v.result(command, data, v.quiet and function() end or view.started(data))
  return { exit_code = 0,
    message = "The server runs; it answered after " .. clock.seconds(started.seconds) .. "." }
end

--- Starts the server and waits until it answers.
---@param ctx table
---@param v table of view.new
---@return table result for view.finish
function switch.start(ctx, v)
  local now = standing.of(ctx)
  if now.state == "running" and now.found.transport ~= "stdio" then
    return ends.refused(("the server runs already: process %d%s"):format(now.found.pid,
      now.found.url and " at " .. now.found.url or ""),
      "look at it with: praxlua server status\nor start it anew with: praxlua server restart")
  elseif now.state == "starting" then
    return ends.refused(("a server is being started already: process %d"):format(now.found.pid),
      "look at it with: praxlua server status\nor end it with: praxlua server stop")
  end
  local message, next_step = standing.obstacle(ctx, now)
  if message then return ends.refused(message, next_step) end
  tell_of_editors(ctx)
  return start_anew(ctx, v, "server start")
end

local function stop(ctx, found)
  ctx.progress(("stopping the server (process %d)"):format(found.pid))
  ctx.if_interrupted = {
    ("Interrupted; the server (process %d) was asked to end, and may yet do so."):format(found.pid),
    "see whether it has: praxlua server status",
  }
  local stopped, message = owned.stop(ctx, found, ctx.options.stop_grace, true)
  if not stopped then
    return nil, ends.failed(message, "see whether it is there: praxlua server status")
  end
  if found.transport == "dual" then
    ctx.warn("the server also spoke stdio to the editor that started it; reload the MCP server "
      .. "there")
  end
  return stopped
end

--- Stops the server; none is fine, too.
---@param ctx table
---@param v table of view.new
---@return table result for view.finish
function switch.stop(ctx, v)
  local now = standing.of(ctx)
  local message, next_step = standing.obstacle(ctx, now)
  if message then return ends.refused(message, next_step) end
  if not now.found then
    v.result("server stop", { stopped = false, reason = now.reason }, function() end)
    return { exit_code = 0, status = "nothing_to_do",
      message = "No server runs: " .. now.reason .. "." }
  end
  local stopped, result = stop(ctx, now.found)
  if not stopped then return result end
  v.result("server stop", stopped, function() end)
  local how = stopped.signal == "KILL" and ", by SIGKILL: it did not end by itself" or ""
  return { exit_code = 0, message = ("Stopped the server (process %d) after %s%s."):format(
    stopped.pid, clock.seconds(stopped.seconds), how) }
end

-- Whether the installed code works, before anything is stopped for it.
local function prove(ctx, found)
  ctx.progress("proving the installed code")
  ctx.if_interrupted = {
    ("Interrupted; the running server (process %d) was left alone."):format(found.pid),
  }
  local proven, problem = server.probe(ctx)
  if proven and not system.interrupted() then return true end
  local message = "the installed code does not work, so the running server (process %d) was left "
    .. "alone: %s"
  return nil, ends.failed(message:format(found.pid, tostring(problem)),
    "mend that, then: praxlua server restart")
end

--- Proves the installed code, stops the server, and starts it again. Where none runs, one is
--- started.
---@param ctx table
---@param v table of view.new
---@return table result for view.finish
function switch.restart(ctx, v)
  local now = standing.of(ctx)
  local message, next_step = standing.obstacle(ctx, now)
  if message then return ends.refused(message, next_step) end
  if now.found then
    local proven, result = prove(ctx, now.found)
    if not proven then return result end
    local stopped
    stopped, result = stop(ctx, now.found)
    if not stopped then return result end
  else
    tell_of_editors(ctx)
  end
  return start_anew(ctx, v, "server restart")
end

return switch
