--- Going back to a backup: undoing a completed upgrade, or restoring an installation as a whole.
--
-- Either is a session of its own with a transaction of its own, so that it, too, can be resumed and
-- undone. Undoing an upgrade touches only what that upgrade changed, and nothing that somebody
-- changed since; restoring a backup brings everything in its scope back.
local backup = require("praxlua.backup")
local base = require("praxlua.base")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local environment = require("praxlua.environment")
local originals = require("praxlua.originals")
local rollback = require("praxlua.rollback")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")
local undo_commands = require("praxlua.undo_commands")
local validation = require("praxlua.validation")

local restore = {}

local KIND = "restore"
local SNAPSHOT = "requirements-snapshot.txt"

--- Whether a session is one of these.
---@param session table
---@return boolean
function restore.is_restore(session) return session.metadata.kind == KIND end

-- The hash of the record of what was shipped; false where there is none, nil when it is not to be
-- read.
local function shipped_record(target)
  local found, _, code = core.hash.file(target .. "/" .. base.MANIFEST)
  if found or code == "ENOENT" then return found or false end
  return nil
end

-- Whether that record is still the one that a completed upgrade wrote; nil when that cannot be
-- told. Each upgrade writes another one, and a restore brings an older one back.
local function is_as_left(session, target, record)
  local _, name = run.split(target)
  local left
  for _, change in ipairs(session.metadata.changes or {}) do
    if change.path == name .. "/" .. base.MANIFEST then left = change.after end
  end
  if left == nil or record == nil then return nil end
  return record == left
end

-- Times have whole seconds, and clocks are set back: the installation tells better.
local function is_later(session, than, target, record)
  if not than then return true end
  local as_left = is_as_left(session, target, record) == true
  if as_left ~= (is_as_left(than, target, record) == true) then return as_left end
  return session.updated_at > than.updated_at
end

--- The session of the last upgrade that completed and was not rolled back since.
---@param target string
---@return string|nil session_id
---@return string? problem when a session cannot be read: it may be that one
function restore.last_completed(target)
  local newest
  local ids, problem = state.list_ids(target)
  if not ids then return nil, problem end
  local record = shipped_record(target)
  for _, id in ipairs(ids) do
    local session, message, code = state.load_state(target, id)
    if not session and code ~= "ESTATENOTFOUND" then return nil, message end
    if session and session.status == "completed" and not session.metadata.kind
      and is_later(session, newest, target, record) then
      newest = session
    end
  end
  return newest and newest.session_id
end

-- ---------------------------------------------------------------------------------------------

-- Which of the differences from the backup are this upgrade's doing: those to bring back, and the
-- paths that somebody touched since, which stay unless `choice` is "theirs".
local function select_items(items, changes, choice)
  local after = {}
  for _, change in ipairs(changes) do after[change.path] = change.after or false end
  local selected, touched = {}, {}
  for _, item in ipairs(items) do
    local left = after[item.path]
    if left ~= nil then
      local is_touched = item.type ~= "directory" and item.old ~= left
      if is_touched and choice ~= "theirs" then
        touched[#touched + 1] = item.path
      else
        selected[#selected + 1] = item
      end
    end
  end
  return selected, touched
end

-- What undoing an upgrade brings back, where the backup reaches and outside of that, and the paths
-- it leaves as somebody changed them.
local function select_files(r, metadata)
  local ctx = r.ctx
  core.tree.remove(ctx.scratch)
  local ok, message, code = core.file.mkdir(ctx.scratch, 448) -- 0700
  if not ok then return nil, message, code end
  local items, others
  others, message, code = originals.instead_of_backup(ctx, metadata)
  if not others then return nil, message, code end
  items, message, code = backup.restore_plan(ctx, metadata.backup, others)
  if not items then return nil, message, code end
  local choice = r.options.on_conflict
  if choice ~= "ours" and choice ~= "theirs" then choice = nil end
  local selected, touched = select_items(items, metadata.changes, choice)
  local outside, more
  outside, more, code = originals.plan(ctx, metadata, choice)
  if not outside then return nil, more, code end
  table.move(more, 1, #more, #touched + 1, touched)
  if #touched > 0 and not choice then return nil, touched, "ECONFLICT" end
  return { selected, outside }, touched
end

-- What phases did beside the files is undone first, as their tools find the files of the upgrade,
-- and only when no conflict stands against the rest.
local function run_undo_commands(r, metadata)
  local commands = metadata.undo_commands
  if not commands then return true end
  local selected, touched, code = select_files(r, metadata)
  if not selected then return nil, touched, code end
  return undo_commands.run(r.ctx, commands, { skip = r.options.skip_undo })
end

local function restore_files(r, metadata)
  local ctx = r.ctx
  local ok, message, code = run_undo_commands(r, metadata)
  if not ok then return nil, message, code end
  if not metadata.undoes then
    core.tree.remove(ctx.scratch)
    ok, message, code = core.file.mkdir(ctx.scratch, 448) -- 0700
    if not ok then return nil, message, code end
    return backup.restore_from_backup(ctx, metadata.backup)
  end
  local selected, touched
  selected, touched, code = select_files(r, metadata)
  if not selected then return nil, touched, code end
  for _, path in ipairs(touched) do
    ctx.warn(path .. " was changed after the upgrade, and was kept as it is")
  end
  for _, plan in ipairs(selected) do
    ok, message, code = backup.apply_plan(ctx, plan)
    if not ok then return nil, message, code end
  end
  return true
end

-- How an upgrade exchanged the environment; nil: not at all.
local function exchanged_environment(r, changes)
  for _, change in ipairs(changes) do
    if change.kind == "exchange" and change.path == r.target_name .. "/venv" then return change end
  end
end

-- Whether the upgrade made the environment: what its exchange replaced was nothing.
local function made_environment(r, changes)
  local change = exchanged_environment(r, changes)
  return change ~= nil and change.made == true
end

-- It goes as a whole: an empty folder takes its place first.
local function remove_environment(r)
  local path, change = r.target_name .. "/venv", r.ctx.change
  local empty = r.ctx.scratch .. "/no-environment"
  local ok, message, code = core.file.mkdir(empty)
  if ok then ok, message, code = change.replace(path, empty) end
  if ok then ok, message, code = change.rmdir(path) end
  if ok then ok, message, code = change.apply() end
  return ok, message, code
end

local function snapshot_of(r, name) return r.target .. "/.backups/" .. name .. "/" .. SNAPSHOT end

-- Whether the environment may differ from the one the backup was made beside.
local function environment_differs(r, metadata)
  if metadata.undoes then return metadata.environment end
  local wanted = core.file.read(snapshot_of(r, metadata.backup))
  return wanted ~= nil and wanted ~= core.file.read(snapshot_of(r, metadata.present))
end

local function restore_environment(r, metadata)
  if not environment_differs(r, metadata) then return true end
  if metadata.undoes and made_environment(r, metadata.changes) then return remove_environment(r) end
  local kept = environment.path(r.target, metadata.undoes or metadata.made_by)
  if core.file.exists(kept) then return environment.bring_back(r.ctx, kept) end
  local path = snapshot_of(r, metadata.backup)
  if not core.file.exists(path) then
    r.ctx.warn("the backup holds no " .. SNAPSHOT .. "; the server's packages stay as they are")
    return true
  end
  local result, message, code = dependencies.install_dependencies(r.ctx, { requirements = path })
  if not result then return nil, message, code end
  if result.success then return true end
  local first = (result.errors or {})[1] or { message = "pip failed" }
  return nil, first.message, "EPIP"
end

local function stop_server(r)
  local found = server.find(r.ctx)
  if not found or found.transport == "stdio" or r.options.restart == false then return true end
  return server.stop(r.ctx)
end

-- Undoes the restore itself: the installation stays as it was before it was asked for.
local function give_up(r, result)
  core.system.ignore_signals() -- what the first one asked for comes to its end
  local undone, message, code = rollback.undo(r, "rollback")
  if not undone then
    local id = r.session.session_id
    return { exit_code = 5, status = "rollback_failed", success = false,
      message = "undoing the restore failed: " .. tostring(message),
      next = code == "ELOST" and "bring it back with: " .. rollback.backup_command(r, id)
        or "mend the cause and run again: praxlua rollback " .. id }
  end
  local ok, problem = server.restore(r.ctx, r.session.metadata.server or {})
  if not ok then r.ctx.warn("the server was not started again: " .. tostring(problem)) end
  if r.session.metadata.present then backup.discard(r.ctx, r.session.metadata.present) end
  run.forget(r)
  return result
end

-- What undo commands did stays done; they run again with the next rollback of that upgrade.
local function after_undo_commands(r)
  if not r.session.metadata.undo_commands then return "" end
  return " But what phases did beside the files may be undone already."
end

--- Warns, when the undoing of an upgrade is itself taken back, of what that does not bring back.
---@param r table
function restore.warn_of_commands(r)
  local metadata = r.session.metadata
  if not metadata.undo_commands then return end
  r.ctx.warn("what phases of the upgrade " .. metadata.undoes .. " did beside the files may be "
    .. "undone already; roll that upgrade back, or do it again by hand")
end

local function failed(r, what, message)
  local signal = core.system.interrupted()
  return give_up(r, { exit_code = run.SIGNAL_EXITS[signal] or 5, success = false,
    status = signal and "interrupted" or "rollback_failed",
    message = string.format("%s: %s. The installation is as it was before this command.", what,
      tostring(message)) .. after_undo_commands(r),
    next = "mend the cause and run the same command again" })
end

local function conflict_result(r, paths)
  for _, path in ipairs(paths) do
    r.ctx.emit({ event = "conflict", id = core.hash.sha256(path):sub(1, 12), path = path,
      reason = "you changed it after the upgrade" })
  end
  return give_up(r, { exit_code = 4, status = "waiting", success = false,
    message = string.format("%d files were changed after the upgrade; nothing was undone", #paths),
    next = "keep them with --on-conflict ours, or go back all the same with --on-conflict theirs" })
end

local function mark_undone(r, metadata)
  local undone = metadata.undoes and state.load_state(r.target, metadata.undoes)
  if not undone then return true end
  undone.status = "rolled_back"
  undone.metadata.rollback_reason = metadata.reason
  return state.save_state(r.target, undone)
end

--- Does the work of a restore session, from the start or again after a kill.
---@param r table with session and transaction
---@return table result
function restore.execute(r)
  local metadata = r.session.metadata
  local began = core.system.monotonic()
  r.ctx.emit({ event = "rollback_started", reason = metadata.reason })
  local steps, timed = clock.stopwatch()
  local ok, message = timed("stop_server", stop_server, r)
  if not ok then return failed(r, "stopping the server", message) end
  local code
  ok, message, code = timed("files", core.cancel.within, math.huge, restore_files, r, metadata)
  if not ok and code == "ECONFLICT" then return conflict_result(r, message) end
  if not ok then
    local result = failed(r, "restoring the files", message)
    if code == "EUNDO" then result.next = rollback.after_failed_command(metadata.undoes) end
    return result
  end
  ok, message = timed("environment", core.cancel.within, math.huge, restore_environment, r,
    metadata)
  if not ok then return failed(r, "restoring the server's packages", message) end
  if core.system.interrupted() then return failed(r, "restoring", "it was interrupted") end
  local brought = { started = false }
  if r.options.restart ~= false then
    brought, message = timed("start_server", server.restore, r.ctx, metadata.server)
    if not brought then return failed(r, "starting the server", message) end
  end
  ok, message = r.transaction:commit()
  if not ok then return failed(r, "ending the transaction", message) end
  return restore.settle(r, brought, core.system.monotonic() - began, steps)
end

--- After the commit: both sessions are marked, the undo data goes.
---@param r table
---@param brought table|nil what became of the server
---@param seconds number|nil it took
---@param steps table<string, number>|nil and each of its steps
---@return table result
function restore.settle(r, brought, seconds, steps)
  local metadata = r.session.metadata
  r.done = { exit_code = 0, status = "rolled_back", success = true,
    message = string.format("Restored %s from the backup %s.", r.target_name, metadata.backup)
      .. (metadata.present and " What was there before is in the backup " .. metadata.present .. "."
        or "") }
  core.system.ignore_signals() -- there is no way back, only clearing up
  r.session.status = "completed"
  local ok, message = mark_undone(r, metadata)
  if ok then ok, message = run.end_session(r) end
  if not ok then
    r.ctx.warn("the restore is done, but clearing up after it failed: " .. tostring(message))
  end
  local healthy
  if brought and brought.health then healthy = brought.health.responding end
  r.ctx.emit({ event = "rollback_completed", success = true, seconds = seconds or 0,
    server_healthy = healthy, steps = steps })
  return r.done
end

local function open_transaction(r)
  local ok, message = run.open_transaction(r, true)
  if not ok then return nil, message end
  return run.checkpoint(r, r.session)
end

-- What is known of the server: as it is now, and where none runs, as it was before the upgrade that
-- is undone (its successor may have died since).
local function remember_server(r, before)
  local now = server.remember(r.ctx, true)
  if not now.was_running and before and before.was_running then
    now.was_running, now.transport = true, before.transport
  end
  return now
end

local function refused(message, next_step)
  return { exit_code = 3, status = "refused", success = false, message = message, next = next_step }
end

-- Whether what a person did since may be replaced: then the present state is backed up first.
local function may_replace(r, metadata)
  return not metadata.undoes or r.options.on_conflict == "theirs"
end

-- Why a restore should not even begin; nil when nothing speaks against it.
local function obstacle(r, metadata)
  local ctx = { target = r.target, project = r.project, target_name = r.target_name }
  local held, space
  local ok, message, code = backup.verify_backup_integrity(ctx, metadata.backup)
  if ok then held, message, code = backup.measure(ctx, metadata.backup) end
  if not held then
    return refused(message, backup.could_not_read(code)
      and "mend the cause and run the same command again"
      or "choose another one of: praxlua backup list")
  end
  space, message = validation.check_restore_space(ctx, held, may_replace(r, metadata))
  if not space or not space.sufficient then return refused(space and space.problem or message) end
end

local function begin(r, metadata, server_before)
  local result = obstacle(r, metadata)
  if result then return result end
  metadata.kind = KIND
  metadata.owner = run.owner()
  metadata.options = { on_conflict = r.options.on_conflict, restart = r.options.restart }
  local session = state.session.new({ metadata = metadata })
  run.attach(r, session)
  if may_replace(r, metadata) then
    local made, problem = core.cancel.within(math.huge, backup.create_backup, r.ctx)
    if not made then
      run.forget(r)
      return refused("the present state could not be backed up first: " .. problem)
    end
    metadata.present = backup.name_of(made)
  end
  metadata.server = remember_server(r, server_before)
  local ok, message = state.save_state(r.target, session)
  if ok then ok, message = open_transaction(r) end
  if not ok then
    run.forget(r)
    return refused(message)
  end
  return restore.execute(r)
end

--- Goes on with a restore that was cut short, from its start: what it had done was taken back.
---@param r table
---@return table result
function restore.go_on(r)
  local ok, message = true, nil
  if not r.transaction then ok, message = open_transaction(r) end
  if ok then return restore.execute(r) end
  return refused(message)
end

local function cannot_go_back(done)
  local present = done.metadata.present
  return refused("session " .. done.session_id .. " is a restore and not an upgrade",
    present and "bring back what was there before it with: praxlua backup restore " .. present
      or "choose one of: praxlua backup list")
end

-- Its backup is from before several changes, of which this session knows only its own.
local function is_not_the_last(r, done)
  local last = restore.last_completed(r.target)
  local name = backup.name_of(done.phase_artifacts["1"]) or "NAME"
  local way = "go back to the backup from before it with: praxlua backup restore " .. name
  if last and last ~= done.session_id then
    way = "roll that back first with: praxlua rollback " .. last .. "\nor " .. way
  end
  return refused("session " .. done.session_id .. " cannot be rolled back: the installation is not "
    .. "what that upgrade led to; a later upgrade or a restore has changed it, or its "
    .. base.MANIFEST .. " is gone", way)
end

--- Undoes a completed upgrade.
---@param r table run with the completed session attached
---@param reason string
---@return table result
function restore.session(r, reason)
  local done = r.session
  if restore.is_restore(done) then return cannot_go_back(done) end
  if done.metadata.kind then
    return refused("session " .. done.session_id
      .. " is a script that went well, and not an upgrade", "choose one of: praxlua backup list")
  end
  if is_as_left(done, r.target, shipped_record(r.target)) == false then
    return is_not_the_last(r, done)
  end
  local name = backup.name_of(done.phase_artifacts["1"])
  if not name or not done.metadata.changes then
    return { exit_code = 5, status = "rollback_failed", success = false,
      message = "the session " .. done.session_id .. " does not tell what it changed",
      next = "choose one of: praxlua backup list" }
  end
  return begin(r, {
    backup = name, undoes = done.session_id, reason = reason,
    changes = done.metadata.changes, originals = done.metadata.originals,
    undo_commands = done.metadata.undo_commands,
    environment = exchanged_environment(r, done.metadata.changes) ~= nil,
  }, done.metadata.server)
end

-- The session that made a backup: the environment from before it may still be kept.
local function maker_of(ctx, name)
  for _, entry in ipairs(backup.list_backups(ctx) or {}) do
    if entry.name == name then return entry.session_id end
  end
end

--- Restores a backup as a whole. The backup is verified and the present state backed up first.
---@param r table run
---@param name string
---@param reason string|nil
---@return table result
function restore.backup(r, name, reason)
  local ctx = { target = r.target, project = r.project, target_name = r.target_name }
  return begin(r, {
    backup = name, reason = reason or "restore of " .. name, made_by = maker_of(ctx, name),
  })
end

return restore
