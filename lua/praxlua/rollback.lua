--- Rolling back: the files from the transaction's undo, the server as it was, the session marked.
--
-- Every step may be repeated; a rollback that was cut short is done again from the start.
local commit = require("praxlua.report.commit")
local core = require("praxlua.core")
local lock_text = require("praxlua.lock_text")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")

local rollback = {}

-- A server started from the new code must go before the old code comes back. The server that ran
-- before the upgrade keeps running: it never loaded anything else.
local function stop_new_server(r)
  local remembered = r.session.metadata.server
  local found = server.find(r.ctx)
  if not found or not remembered then return true end
  if found.pid == remembered.pid and found.identity.start_time == remembered.start_time then
    return true
  end
  if found.transport == "stdio" then return true end
  return server.stop(r.ctx)
end

local function bring_server_back(r)
  local remembered = r.session.metadata.server
  if not remembered then return { started = false, reason = "not_known" } end
  return server.restore(r.ctx, remembered)
end

local function failed(r, began, what, message)
  r.session.status = "rollback_failed"
  state.save_state(r.target, r.session)
  local next_step = "mend the cause and run again: praxlua rollback " .. r.session.session_id
  r.ctx.emit({ event = "rollback_completed", success = false,
    seconds = core.system.monotonic() - began, message = what .. ": " .. tostring(message) })
  return { success = false, exit_code = 5, status = "rollback_failed", next = next_step,
    message = string.format("the rollback did not complete: %s: %s", what, tostring(message)) }
end

local function tell_kept(r, kept)
  for _, path in ipairs(kept) do
    r.ctx.warn(path .. " holds what somebody changed while the upgrade ran; it was kept beside "
      .. "the file it belongs to")
  end
end

--- Rolls an open session back.
---@param r table with its transaction open (or none: then nothing was changed)
---@param reason string
---@return { success: boolean, rollback_time_seconds: number, server_healthy: boolean|nil,
---  exit_code: integer?, message: string? } result
function rollback.open_session(r, reason)
  local began = core.system.monotonic()
  core.system.ignore_signals() -- a second Ctrl-C must not stop what the first one asked for
  r.ctx.emit({ event = "rollback_started", reason = reason })
  local ok, message = stop_new_server(r)
  if not ok then return failed(r, began, "stopping the new server", message) end
  if r.options.git_commit and r.transaction then commit.undo(r.ctx) end
  if r.transaction then
    local kept
    kept, message = r.transaction:rollback()
    if not kept then return failed(r, began, "restoring the files", message) end
    tell_kept(r, kept)
  end
  local brought
  brought, message = bring_server_back(r)
  if not brought then return failed(r, began, "starting the old server", message) end
  lock_text.remove(r.ctx)
  core.tree.remove(r.target .. "/.backups/.partial-" .. r.session.session_id)
  r.session.status = "rolled_back"
  r.session.metadata.rollback_reason = reason
  ok, message = state.save_state(r.target, r.session)
  if not ok then return failed(r, began, "saving the session", message) end
  ok, message = run.discard(r)
  if not ok then return failed(r, began, "deleting the undo data", message) end
  local healthy
  if brought.health then healthy = brought.health.responding end
  local seconds = core.system.monotonic() - began
  r.ctx.emit({ event = "rollback_completed", success = true, server_healthy = healthy,
    seconds = seconds })
  return { success = true, rollback_time_seconds = seconds, server_healthy = healthy }
end

return rollback
