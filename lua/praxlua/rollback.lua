--- Rolling back: the files from the transaction's undo, the server as it was, the session marked.
--
-- Every step may be repeated; a rollback that was cut short is done again from the start.
local backup = require("praxlua.backup")
local clock = require("praxlua.clock")
local commit = require("praxlua.report.commit")
local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local lock_text = require("praxlua.lock_text")
local lost = require("praxlua.lost")
local originals = require("praxlua.originals")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")
local undo_commands = require("praxlua.undo_commands")

local rollback = {}

-- A server started from the new code must go before the old code comes back. The server that ran
-- before the upgrade keeps running: it never loaded anything else.
local function stop_new_server(r)
  local remembered = r.session.metadata.server
  local ended, message = server.end_starting(r.ctx)
  if not ended then return nil, message end
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

-- The undo did everything but for what it lost.
local function incomplete(r, began, message)
  local result = failed(r, began, "restoring the files", message)
  result.message = result.message .. ". Everything else is as before"
  result.lost = true
  result.next = "bring it back with: " .. rollback.backup_command(r, r.session.session_id)
  return result
end

--- Undoes changes of the open transaction, and tells what of others it kept. What its undo data
--- lost comes from a backup, where one has it.
---@param r table
---@param method string "rollback": all of them; "rewind": those since the last checkpoint
---@return true|nil
---@return string? message
---@return string? code "ELOST": everything else is undone
function rollback.undo(r, method)
  local transaction = r.transaction
  local kept, message, code = transaction[method](transaction)
  if code == "ELOST" and lost.recover(r) then
    run.tell_kept(r, transaction:kept())
    kept, message, code = transaction[method](transaction)
  end
  run.tell_kept(r, kept or transaction:kept())
  if not kept then return nil, message, code end
  return true
end

--- Runs the undo commands of a session: all of them, or those of phases that are not complete.
---@param r table
---@param of_open_phases boolean?
---@return true|nil
---@return string? message
---@return string? code
function rollback.run_commands(r, of_open_phases)
  local complete, is_open = {}, nil
  if of_open_phases then
    for _, id in ipairs(r.session.completed) do complete[id] = true end
    is_open = function(command) return not complete[command.phase] end
  end
  return undo_commands.run_registered(r.ctx, is_open, r.options.skip_undo)
end

--- What to do about an undo command that fails.
---@param session_id string
---@return string next
function rollback.after_failed_command(session_id)
  return "mend the cause and run again: praxlua rollback " .. session_id
    .. "\nor go on without it: praxlua rollback " .. session_id .. " --skip-undo"
end

-- The installation is as before. What keeps the session from being marked as over, or its data
-- from being deleted, is a matter for the next command.
local function clear_up(r, reason)
  lock_text.remove(r.ctx)
  core.tree.remove(r.target .. "/.backups/.partial-" .. r.session.session_id)
  originals.drop(r.target, r.session.session_id)
  r.session.status = "rolled_back"
  r.session.metadata.rollback_reason = reason
  local ok, message = run.end_session(r)
  if ok then return end
  r.ctx.warn(string.format("the installation is as before, but clearing up failed: %s; mend the "
    .. "cause and run: praxlua rollback %s", tostring(message), r.session.session_id))
end

-- The backup of what was there before a session, as far as anything tells.
local function backup_of(r, session_id)
  local session = r.session
  if session and session.session_id == session_id then
    local made = session.phase_artifacts["1"]
    local name = session.metadata.present or session.metadata.backup
      or backup.name_of(made)
    if name and core.file.exists(r.target .. "/.backups/" .. name) then return name end
  end
  for _, made in ipairs(backup.list_backups({ target = r.target }) or {}) do
    if made.session_id == session_id then return made.name end
  end
end

--- The command that brings an installation back to what it was before a session.
---@param r table
---@param session_id string
---@return string command
function rollback.backup_command(r, session_id)
  local name = backup_of(r, session_id)
  return name and "praxlua backup restore " .. name
    or "praxlua backup restore NAME (praxlua backup list shows them)"
end

--- Rolls an open session back.
---@param r table with its transaction open (or none: then nothing was changed)
---@param reason string
---@return { success: boolean, rollback_time_seconds: number, server_healthy: boolean|nil,
---  exit_code: integer?, message: string?, lost: boolean? } result lost: the undo data is; all else
---  was undone
function rollback.open_session(r, reason)
  local began = core.system.monotonic()
  core.system.ignore_signals() -- a second Ctrl-C must not stop what the first one asked for
  r.ctx.emit({ event = "rollback_started", reason = reason })
  local steps, timed = clock.stopwatch()
  local ok, message = timed("stop_server", stop_new_server, r)
  if not ok then return failed(r, began, "stopping the new server", message) end
  ok, message = timed("undo_commands", rollback.run_commands, r)
  if not ok then
    local result = failed(r, began, "what a phase did beside the files", message)
    result.next = rollback.after_failed_command(r.session.session_id)
    return result
  end
  dependencies.drop(r.ctx) -- before the undo, which may need the room
  local undo_commit = r.options.git_commit and r.transaction and commit.undo(r.ctx)
  local code, missing
  if r.transaction then
    ok, message, code = timed("files", rollback.undo, r, "rollback")
    if not ok and code ~= "ELOST" then return failed(r, began, "restoring the files", message) end
    missing = not ok and message
  end
  local brought
  brought, message = timed("start_server", bring_server_back, r)
  if missing then return incomplete(r, began, missing) end
  if not brought then return failed(r, began, "starting the old server", message) end
  clear_up(r, reason)
  if undo_commit then undo_commit() end -- there is room now that the undo data is gone
  local healthy
  if brought.health then healthy = brought.health.responding end
  local seconds = core.system.monotonic() - began
  r.ctx.emit({ event = "rollback_completed", success = true, server_healthy = healthy,
    seconds = seconds, steps = steps })
  return { success = true, rollback_time_seconds = seconds, server_healthy = healthy }
end

return rollback
