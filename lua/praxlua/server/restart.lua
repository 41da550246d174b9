--- The server restarted with other code: what has to be remembered of the old one, the new one in
-- its place, and the old one back for a rollback.
local ask = require("praxlua.server.ask")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local health = require("praxlua.server.health")
local layout = require("praxlua.layout")
local lifecycle = require("praxlua.server.lifecycle")
local owned = require("praxlua.server.owned")
local state_file = require("praxlua.server.state_file")
local text = require("praxlua.text")

local system = core.system

local restart = {}

local function warn(ctx, message)
  if ctx.warn then ctx.warn(message) end
end

-- How the old server is; where the running one does not answer, what its code tells.
local function health_of_old(ctx)
  local running = health.of(ctx)
  if running.responding or running.via == "probe" then return running end
  local answer = health.probe(ctx)
  if not answer then return running end
  warn(ctx, ("the running server does not answer (%s); its tools are those of the installed code")
    :format(text.visible(running.error)))
  return answer
end

--- What has to be known to bring this server back and to judge its successor. To be called while
--- the old code is in place. Plain data.
---@param ctx table
---@param unasked boolean? it is not asked for its tools: it will have no successor to be judged
---@return table remembered { was_running, reason?, pid?, start_time?, transport?, url?,
---  tools? (names), tools_reason?, server_version? }
function restart.remember(ctx, unasked)
  state_file.put_back(ctx)
  local found, reason = owned.find(ctx)
  local old = unasked and {} or health_of_old(ctx)
  local remembered = {
    was_running = found ~= nil,
    reason = reason,
    tools = old.responding and old.tools or nil,
    tools_reason = old.error,
    server_version = old.server_version,
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
  local answer, problem, code = ctx.memory.proof, nil, nil
  if answer then
    ask.as_health(answer, "probe", began)
  else
    answer, problem, code = health.probe(ctx)
  end
  if not answer then return nil, problem, code end
  return {
    stopped = false,
    started = false,
    reason = reason,
    restart_time = restart_time,
    seconds = system.monotonic() - began,
    health = answer,
  }
end

-- A server takes the next free port where its own is not free yet: whoever has its address in their
-- settings has to know.
local function tell_address(ctx, before)
  local now = before and before.url and owned.find(ctx)
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
function restart.restart_server(ctx, options)
  local began = system.monotonic()
  state_file.put_back(ctx)
  local found, reason = owned.find(ctx)
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
  local stopped, problem, code = lifecycle.stop(ctx)
  if not stopped then return nil, problem, code end
  local run
  run, problem, code = lifecycle.start(ctx, {
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

--- Brings the server back to what it was, for a rollback: call it when the old code is in place.
--- The old process, if it still runs, is left alone; a later one is stopped, for it runs the new
--- code.
---@param ctx table
---@param remembered table of server.remember
---@return table|nil { started: boolean, pid?, transport?, health?,
---  reason? = "not_running"|"stdio"|"still_running" }
---@return string? message
---@return string? code
function restart.restore(ctx, remembered)
  state_file.put_back(ctx)
  if not remembered.was_running then return { started = false, reason = owned.NOT_RUNNING } end
  if remembered.transport == "stdio" then return { started = false, reason = "stdio" } end
  local found = owned.find(ctx)
  if found and found.pid == remembered.pid
    and found.identity.start_time == remembered.start_time then
    return {
      started = false,
      reason = "still_running",
      pid = found.pid,
      transport = found.transport,
      health = found.url and health.of(ctx) or nil,
    }
  end
  if found then
    local stopped, problem, code = lifecycle.stop(ctx)
    if not stopped then return nil, problem, code end
  end
  drop_bytecode(ctx)
  return lifecycle.start(ctx, { transport = remembered.transport })
end

return restart
