--- The engine: begins workflows, goes on with unfinished ones and undoes them, under the target's
-- lock. Every run ends as one of: done, refused before any change, rolled back, waiting, resumable.
--
-- A result is a table { exit_code, status, message?, next?, session_id? }; the exit codes are those
-- of the command line.
local ask = require("praxlua.server.ask")
local checkpoint = require("praxlua.checkpoint")
local core = require("praxlua.core")
local decisions = require("praxlua.decisions")
local execution = require("praxlua.execution")
local isolation = require("praxlua.isolation")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local migrate = require("praxlua.migrate")
local phases = require("praxlua.phases")
local project_options = require("praxlua.project_options")
local restore = require("praxlua.restore")
local rollback = require("praxlua.rollback")
local run = require("praxlua.run")
local script = require("praxlua.script")
local server = require("praxlua.server")
local source_phases = require("praxlua.source_phases")
local state = require("praxlua.state")
local undo_commands = require("praxlua.undo_commands")
local unfinished = require("praxlua.unfinished")

local engine = {}

-- ---------------------------------------------------------------------------------------------
-- Results

-- What to do next, where the message itself says what to mend.
local NEXT = {
  [1] = "mend the cause and run the same command again",
  [3] = "mend what the message names and run the same command again",
  [5] = "mend the cause and run the same command again",
}

local function finish(r, result)
  result.next = result.next or NEXT[result.exit_code]
  result.session_id = result.session_id or (r.session and r.session.session_id)
  r.emit({ event = "finished", exit_code = result.exit_code, status = result.status,
    message = result.message, next = result.next, session_id = result.session_id })
  return result
end

-- ---------------------------------------------------------------------------------------------
-- Unfinished sessions

-- What to do with sessions that were cut short, or wait for what a person does: true to go on, or
-- nil and the result that ends the run.
local function settle_others(r, ui, found, typed)
  if #found == 0 then return true end
  local waiting = unfinished.first_waiting(found)
  local answer = r.options.yes and not waiting and "rollback" or nil
  if not answer and not r.options.dry_run and ui.unfinished then answer = ui.unfinished(found) end
  if not answer or answer == "leave" or r.options.dry_run then
    return nil, waiting and unfinished.refuse_waiting(waiting) or unfinished.refuse(found)
  end
  local options = r.options
  for _, entry in ipairs(found) do
    if answer == "resume" then
      r.options = typed -- what the project file says now is not what that session goes by
      return nil, engine.resume_with(r, entry.session_id)
    end
    r.emit({ event = "warning", message = "rolling back the unfinished session "
      .. entry.session_id .. " first" })
    local result = engine.rollback_with(r, entry.session_id, "a new upgrade was started")
    if not result.success then return nil, result end
    run.detach(r)
    r.options = options
    core.system.catch_signals() -- the rollback ignored them
  end
  return true
end

-- What to do with sessions whose owner is gone. Those that wait for answers to conflicts have
-- changed nothing, and give way.
local function settle_unfinished(r, ui, typed)
  local waiting, others = unfinished.split_waiting(unfinished.sessions(r))
  local clear, result = settle_others(r, ui, others, typed)
  if clear and not r.options.dry_run then decisions.supersede(r, waiting) end
  return clear, result
end

-- ---------------------------------------------------------------------------------------------
-- The workflow interface (specs.md 2.1)

local KEPT_OPTIONS = {
  "on_conflict", "allow_downgrade", "keep_backups", "restart", "run_tests", "git_commit",
  "phases", "health_timeout", "watch", "min_isolation", "allow_source_phases", "conflict_policy",
  "driver", "project",
}

-- What the user's options are where nothing was said.
local DEFAULTS = { on_conflict = "stop", keep_backups = 3 }

local function with_defaults(options)
  local all = {}
  for name, value in pairs(DEFAULTS) do all[name] = value end
  for name, value in pairs(options) do all[name] = value end
  all.health_timeout = ask.seconds({ options = options })
  return all
end

local function metadata_of(options)
  local kept = {}
  for _, name in ipairs(KEPT_OPTIONS) do kept[name] = options[name] end
  kept.phases = json.array(kept.phases or {})
  return {
    source_path = core.file.realpath(options.source) or options.source, options = kept,
    dry_run = options.dry_run or false, auto_restart = options.restart ~= false,
    owner = run.owner(),
  }
end

-- A script that is wrong, or a machine that confines none as far as the user demands.
local function cannot_read_phases(message, code, next_step)
  return { exit_code = 3, status = "refused", message = message,
    next = code == "EISOLATION" and "see what holds with: praxlua doctor; and what would do, say "
      .. "with --min-isolation LEVEL" or next_step
      or "mend the script, or move it out of the folder" }
end

local function overview_of(list)
  local overview = json.array()
  for i, phase in ipairs(list) do
    overview[i] = { id = phase.id, title = phase.title, number = phase.number }
  end
  return overview
end

--- Begins a session on an open run: session file, context, phases. Nothing else is touched.
---@param r table from run.open
---@param workflow_type string state.WORKFLOW_TYPE
---@param target_file string "mcp_server"
---@param options table the user's
---@return table|nil overview { session_id, current_phase, phases = { {id, title, number?} } }
---@return table? result when refused
function engine.start_workflow(r, workflow_type, target_file, options)
  r.dry_run = options.dry_run or false
  isolation.demand(options.min_isolation)
  local list, next_step
  local sourced, message, code = source_phases.read(options.source)
  if sourced ~= nil then
    list, message, code, next_step = phases.all(r.target, options.phases, sourced)
  end
  if not list then return nil, cannot_read_phases(message, code, next_step) end
  r.phases, r.source_phases = list, sourced or nil
  local recognised
  recognised, message = layout.recognise_target(r.target)
  if not recognised then
    return nil, { exit_code = 3, status = "refused", message = message }
  end
  local session, problem
  local metadata, overview = metadata_of(options), overview_of(list)
  metadata.order = overview
  metadata.source_phases = sourced and { commit = sourced.commit, sha256 = sourced.sha256 } or nil
  if r.dry_run then
    session = state.session.new({ workflow_type = workflow_type, target_file = target_file,
      metadata = metadata })
  else
    session, problem = state.create_session(r.target, workflow_type, target_file, metadata)
  end
  if not session then
    return nil, { exit_code = 3, status = "refused", message = problem,
      next = "check the permissions and the space of the target" }
  end
  run.attach(r, session)
  return { session_id = session.session_id, current_phase = 0, phases = overview }
end

--- A session's state, from disk (the state survives the restart of the server it upgrades).
---@param target string
---@param session_id string
---@return table|nil state session_id, current_phase, completed_phases, phase_artifacts, metadata,
---  status
---@return string? message
---@return string? code
function engine.get_workflow_state(target, session_id)
  local session, message, code = state.load_state(target, session_id)
  if not session then return nil, message, code end
  return state.session.to_dict(session)
end

--- The phase a session stands at.
---@param target string
---@param session_id string
---@return { current_phase: integer, id: string, title: string }|nil
---@return string? message
---@return string? code
function engine.get_current_phase(target, session_id)
  local session, message, code = state.load_state(target, session_id)
  if not session then return nil, message, code end
  local list = session.metadata.order
  local options = session.metadata.options or {}
  if not list then list, message, code = phases.all(target, options.phases) end
  if not list then return nil, message, code end
  for _, phase in ipairs(list) do
    if not execution.is_done(session, phase) then
      return { current_phase = session.current_phase, id = phase.id, title = phase.title }
    end
  end
  return nil, "every phase of the session is complete", "EDONE"
end

--- Checks evidence for a phase of an open run and, when it passes, records the checkpoint.
---@param r table
---@param phase table from praxlua.phases
---@param found table the evidence
---@return { checkpoint_passed: boolean, message: string? }
function engine.complete_phase(r, phase, found)
  local dict, message = checkpoint.check(phase, { evidence = found, receipts = {} })
  if dict then
    local ok
    ok, message = checkpoint.record(r, phase, dict)
    if ok then return { checkpoint_passed = true } end
  end
  return { checkpoint_passed = false, message = message }
end

-- ---------------------------------------------------------------------------------------------
-- What the commands do

local function announce(r, resumed)
  local metadata, listed = r.session.metadata, json.array()
  r.ctx.emit({ event = "session_started", source = metadata.source_path, target = r.target,
    from_version = metadata.from_version, to_version = metadata.to_version, dry_run = r.dry_run,
    resumed = resumed or nil })
  for i, phase in ipairs(r.phases) do
    listed[i] = { id = phase.id, number = phase.number, title = phase.title, from = phase.from,
      grants = phase.grants, manual = phase.manual }
  end
  r.ctx.emit({ event = "phases", phases = listed })
end

-- A mistake in praxlua itself is a failed run like any other: it is rolled back. What was committed
-- before it stays done.
local function after_internal_error(r, trace)
  r.emit({ event = "log", level = "critical", message = "internal error: " .. trace })
  if r.done then return r.done end
  local result = { exit_code = 1, status = "rolled_back",
    message = "an internal error of praxlua ended the run; the installation is as before",
    next = "report it with the lines above" }
  if not r.transaction then
    result.exit_code, result.status = 3, "refused"
    return result
  end
  local ok, undone = xpcall(rollback.open_session, debug.traceback, r, "internal error")
  if ok then return undone.success and result or undone end
  r.emit({ event = "log", level = "critical", message = "internal error: " .. undone })
  return { exit_code = 5, status = "rollback_failed",
    message = "an internal error of praxlua ended the run, and another one its rollback",
    next = "run: praxlua rollback " .. r.session.session_id .. "\nand report the lines above" }
end

local function with_run(options, ui, action)
  core.system.catch_signals()
  local opened, r, result = xpcall(run.open, debug.traceback, options, ui)
  if not opened then result, r = after_internal_error({ emit = ui.emit }, r), nil end
  if not r then return finish({ emit = ui.emit }, result) end
  local ok, outcome = xpcall(action, debug.traceback, r)
  if not ok then outcome = after_internal_error(r, outcome) end
  local signal = core.system.interrupted()
  local still_waits = r.session and r.session.status == "waiting"
  if signal and (outcome.exit_code == 3 or outcome.exit_code == 4 and not still_waits) then -- why
    outcome.exit_code, outcome.status = run.SIGNAL_EXITS[signal], "interrupted"
  end
  run.close(r)
  return finish(r, outcome)
end

--- Upgrades an installation.
---@param typed table what was asked for: source?, target?, dry_run?, plan_hash?, yes?,
---  on_conflict?, interactive? (a person can be asked), allow_downgrade?, keep_backups?, restart?,
---  run_tests?, git_commit?, phases?, health_timeout?, watch?, min_isolation?,
---  allow_source_phases?; the rest is as the project file says
---@param ui { emit: fun(event: table), ask: function?, unfinished: function?, prompt: function? }
---@return table result
function engine.upgrade(typed, ui)
  local options, refusal = project_options.resolve(typed, ui.emit)
  if not options then return finish({ emit = ui.emit }, refusal) end
  options = with_defaults(options)
  return with_run(options, ui, function(r)
    local clear, result = settle_unfinished(r, ui, typed)
    if not clear then return result end
    local started
    started, result = engine.start_workflow(r, state.WORKFLOW_TYPE, state.TARGET_FILE, options)
    if not started then return result end
    announce(r)
    return execution.run(r)
  end)
end

-- What load says of a session whose undo data is gone or damaged: only a backup helps.
local LOST = { EBADJOURNAL = true, ELOST = true }

-- The options a session began with, where this command names no others.
local function use_kept_options(r)
  local kept, options = r.session.metadata.options or {}, {}
  r.told_on_conflict = r.options.on_conflict
  for name, value in pairs(r.options) do options[name] = value end
  for _, name in ipairs(KEPT_OPTIONS) do
    if options[name] == nil then options[name] = kept[name] end
  end
  if r.options.on_conflict then options.conflict_policy = nil end -- what is typed goes before it
  r.options, r.ctx.options = options, options
end

-- A session that is not there at all, or that changes nothing now, is a refusal; one whose changes
-- are there leaves something to be mended.
local function cannot_load(r, session_id, what, exit_code, message, code)
  local unknown = code == "ESTATENOTFOUND" or code == "EINVAL"
  local has_changes = not unknown and (LOST[code] or run.has_folder(r.target, session_id))
  local next_step = "see the sessions with: praxlua status"
  if LOST[code] or not unknown and not has_changes then
    next_step = "bring the installation back with: " .. rollback.backup_command(r, session_id)
  elseif not unknown and what == "resumed" then
    next_step = "undo it with: praxlua rollback " .. session_id
  end
  if not has_changes then exit_code = 3 end
  return {
    exit_code = exit_code, next = next_step,
    status = exit_code == 3 and "refused" or "rollback_failed",
    message = string.format("session %s cannot be %s: %s", session_id, what, tostring(message)),
  }
end

local function nothing_to_resume(r)
  local status = r.session.status
  if status == "completed" then
    return { exit_code = 0, status = "nothing_to_do", message = "The session is complete already." }
  end
  return { exit_code = 3, status = "refused",
    message = string.format("session %s cannot be resumed: it %s", r.session.session_id,
      status == "rolled_back" and "was rolled back" or "failed"),
    next = "begin a new one with: praxlua upgrade" }
end

local function awaits_nothing(session_id)
  return { exit_code = 3, status = "refused",
    message = "session " .. session_id .. " awaits no evidence; only a manual phase takes it",
    next = "go on with it by: praxlua resume " .. session_id }
end

-- Loads a session, unless it is loaded: doing that clears up what was never begun.
local function load(r, session_id)
  if r.loaded and r.loaded == state.typed_id(session_id) then return true end
  return run.load(r, session_id)
end

-- The phases of a session that goes on: those of the source are the ones it began with, or none.
local function find_phases(r)
  local known = r.session.metadata.source_phases
  local sourced, message, code, next_step
  isolation.demand(r.options.min_isolation)
  if known then
    sourced, message, code = source_phases.read(r.session.metadata.source_path)
    if sourced ~= nil and (not sourced or sourced.sha256 ~= known.sha256) then
      return { exit_code = 3, status = "refused",
        message = "the phases that the source brings are not those this upgrade began with",
        next = "check out " .. known.commit .. " in the source and resume\nor undo the upgrade "
          .. "with: praxlua rollback " .. r.session.session_id }
    end
    if sourced then sourced.allowed = r.transaction ~= nil end
  end
  if sourced ~= nil or not known then
    r.phases, message, code, next_step = phases.all(r.target, r.options.phases, sourced)
  end
  if not r.phases then return cannot_read_phases(message, code, next_step) end
  r.source_phases = sourced
  local awaits = r.session.status == "waiting" and r.session.metadata.awaits
  if awaits and awaits.phase and not phases.find(r.phases, awaits.phase) then
    return { exit_code = 3, status = "refused",
      message = "the phase " .. awaits.phase .. " that this upgrade waits for is not there any "
        .. "more",
      next = "put its script back and resume\nor undo the upgrade with: praxlua rollback "
        .. r.session.session_id }
  end
end

-- Takes back what came after the last complete phase; the result that ends the run when it fails.
local function take_back(r)
  local id = r.session.session_id
  local ok, message = rollback.run_commands(r, true)
  local next_step = rollback.after_failed_command(id)
  if ok then
    local code
    ok, message, code = rollback.undo(r, "rewind")
    next_step = code == "ELOST" and "undo the rest with: praxlua rollback " .. id
      or "mend the cause and run again: praxlua rollback " .. id
  end
  if ok then return nil end
  return { exit_code = 5, status = "rollback_failed", message = message, next = next_step }
end

--- Goes on with a session on an open run.
---@param r table
---@param session_id string
---@return table result
function engine.resume_with(r, session_id)
  local ok, message, code = load(r, session_id)
  if not ok then return cannot_load(r, session_id, "resumed", 3, message, code) end
  local over = not r.transaction and not state.is_active(r.session)
  if over then return nothing_to_resume(r) end
  if r.evidence and (r.session.status ~= "waiting" or decisions.is_awaited(r.session)) then
    return awaits_nothing(session_id)
  end
  r.dry_run = false
  use_kept_options(r)
  local status = r.transaction and r.transaction:status()
  local is_restore = restore.is_restore(r.session)
  if status == "committed" then return unfinished.settle(r) end
  if script.is_script(r.session) then
    return engine.rollback_result(rollback.open_session(r, "a script is not gone on with"))
  end
  -- The first checkpoint is the first entry of a transaction; without one all of it was undone.
  if status == "undoing" or undo_commands.is_rolling_back(r.folder)
    or r.transaction and not r.transaction:last_checkpoint() then
    return engine.rollback_result(rollback.open_session(r, "its rollback was cut short"))
  end
  if not r.session.metadata.source_path and not is_restore then
    return { exit_code = 3, status = "refused", session_id = session_id,
      message = string.format("session %s cannot be resumed: its state file is gone or damaged; "
        .. "it had changed nothing yet", session_id),
      next = "begin a new one with: praxlua upgrade" }
  end
  local result = r.transaction and take_back(r)
  if result then return result end
  if is_restore then return restore.go_on(r) end
  if r.transaction then
    ok, message = execution.restore_plan(r)
    if not ok then return cannot_load(r, session_id, "resumed", 3, message) end
  end
  project_options.note_change(r)
  r.options.from_version = r.session.metadata.from_version
  result = find_phases(r)
  if result then return result end
  r.session.metadata.owner = run.owner()
  announce(r, true)
  ok, message = server.revive(r.ctx)
  if not ok then r.ctx.warn("the upgraded server could not be started again: " .. message) end
  return execution.run(r)
end

-- The session a command is about: the one named, or the only unfinished one.
local function choose(r, session_id)
  if session_id then return session_id end
  local found = run.unfinished(r.target)
  if #found == 1 then return found[1].session_id end
  if #found == 0 then return nil end
  return nil, { exit_code = 2, status = "usage",
    message = "there is more than one unfinished session: " .. unfinished.ids(found),
    next = "name the one you mean" }
end

--- Resumes an unfinished session.
---@param options { target: string?, session_id: string?, min_isolation: string?,
---  on_conflict: string?, evidence: table[]? } evidence: for the manual phase at which it waits, as
---  of manual.evidence
---@param ui table
---@return table result
function engine.resume(options, ui)
  return with_run(options, ui, function(r)
    r.evidence = options.evidence
    local id, result = choose(r, options.session_id)
    if result then return result end
    if not id then
      return { exit_code = 0, status = "nothing_to_do", message = "No unfinished session." }
    end
    return engine.resume_with(r, id)
  end)
end

--- A rollback that was asked for succeeded: exit 0; one that did not complete: 5.
---@param undone table from rollback.open_session
---@return table result
function engine.rollback_result(undone)
  if not undone.success then return undone end
  return { exit_code = 0, status = "rolled_back", success = true,
    rollback_time_seconds = undone.rollback_time_seconds, server_healthy = undone.server_healthy,
    message = "Rolled back; the installation is as before." }
end

--- Rolls a session back on an open run.
---@param r table
---@param session_id string
---@param reason string
---@return table result
function engine.rollback_with(r, session_id, reason)
  local ok, message, code = load(r, session_id)
  if not ok then return cannot_load(r, session_id, "rolled back", 5, message, code) end
  local on_conflict = r.options.on_conflict
  use_kept_options(r)
  r.options.on_conflict = on_conflict -- what the upgrade was allowed says nothing about its undo
  if decisions.is_awaited(r.session) and not r.transaction then return decisions.forget(r) end
  if r.session.status == "rolled_back" and not r.transaction then
    return { exit_code = 0, status = "nothing_to_do", success = true,
      message = "The session is rolled back already." }
  end
  if r.transaction and r.transaction:status() == "committed" then
    local settled = unfinished.settle(r)
    if restore.is_restore(r.session) then return settled end
    core.system.catch_signals() -- it has ignored them
  end
  if r.session.status == "completed" then
    return restore.session(r, reason)
  end
  if restore.is_restore(r.session) then restore.warn_of_commands(r) end
  return engine.rollback_result(rollback.open_session(r, reason))
end

-- What is left of an unfinished session: "usable" when it can still be resumed or rolled back,
-- "lost" when its undo data is, nil for nothing. A rollback that did not complete is tried once
-- more: what it needed may be mended, or it may be lost.
local function judge_unfinished(r, session_id)
  local ok, _, code = run.load(r, session_id)
  if not ok then return LOST[code] and "lost" or "usable" end
  if not r.transaction or r.transaction:status() ~= "undoing" then return "usable" end
  local undone = rollback.open_session(r, "a backup is restored")
  core.system.catch_signals() -- the rollback ignored them
  if undone.success then return nil end
  return undone.lost and "lost" or "usable"
end

-- Splits the unfinished sessions into those that can still be resumed or rolled back, and those
-- whose undo data is lost.
local function split_unfinished(r)
  local found = { usable = {}, lost = {} }
  for _, entry in ipairs(unfinished.sessions(r)) do
    local verdict = judge_unfinished(r, entry.session_id)
    if verdict then table.insert(found[verdict], entry) end
    run.detach(r)
  end
  return found.usable, found.lost
end

-- A whole backup is the way out for sessions whose undo data is lost; any other one comes first.
local function restore_backup(r, options)
  local usable, lost = split_unfinished(r)
  if #usable > 0 then return unfinished.refuse(usable) end
  local result = restore.backup(r, options.backup, options.reason)
  for _, entry in ipairs(result.success and lost or {}) do
    local kept = run.abandon(r, entry.session_id)
    for _, command in ipairs(kept and undo_commands.list(kept) or {}) do
      r.emit({ event = "warning", message = string.format("the undo command '%s' of phase %s was "
        .. "not run; run it by hand", undo_commands.describe(command), command.phase) })
    end
    if kept then
      r.emit({ event = "warning", message = "what is left of session " .. entry.session_id
        .. " was kept in " .. kept .. "; delete it when you need nothing of it" })
    end
  end
  return result
end

-- Whether a session is the undoing of a completed upgrade.
local function undoes_upgrade(r, session_id)
  return load(r, session_id) and restore.is_restore(r.session)
    and r.session.metadata.undoes ~= nil
end

-- A session that cannot be read may be the one that is meant.
local function which_completed(problem)
  return { exit_code = 3, status = "refused",
    message = "which upgrade was the last one cannot be told: " .. problem,
    next = "name the session to roll back (praxlua status shows them), or go back to a backup "
      .. "with: praxlua backup restore NAME (praxlua backup list shows them)" }
end

--- Undoes an upgrade (specs.md 7.3, rollback_upgrade): an unfinished one by its transaction, a
--- completed one from its backup.
---@param options { target: string?, session_id: string?, reason: string?, backup: string? }
---@param ui table
---@return table result
function engine.rollback_upgrade(options, ui)
  if options.backup then project_options.add(options, ui.emit) end
  return with_run(options, ui, function(r)
    if options.backup and options.session_id then
      return { exit_code = 2, status = "usage",
        message = "a session and a backup cannot both be gone back to", next = "name one of them" }
    end
    if options.backup then return restore_backup(r, options) end
    local id, result = choose(r, options.session_id)
    if result then return result end
    -- This very command, cut short: it goes on. Its own session named, it is taken back.
    if id and not options.session_id and undoes_upgrade(r, id) then
      return engine.resume_with(r, id)
    end
    local problem
    if not id then id, problem = restore.last_completed(r.target) end
    if problem then return which_completed(problem) end
    if not id then
      return { exit_code = 0, status = "nothing_to_do", message = "There is nothing to roll back." }
    end
    return engine.rollback_with(r, id, options.reason or "asked for")
  end)
end

--- Runs a script that is no part of an upgrade.
---@param options { file: string, arguments: string[], grants: table, target: string?,
---  source: string?, min_isolation: string? }
---@param ui { emit: function, ask: function?, show: fun(evidence: table)? }
---@return table result
function engine.run_script(options, ui)
  core.system.catch_signals()
  isolation.demand(options.min_isolation)
  local phase, result = script.read(options)
  if not phase then return finish({ emit = ui.emit }, result) end
  if not script.acts(phase) then
    return finish({ emit = ui.emit }, script.look(phase, options, ui))
  end
  project_options.add(options, ui.emit)
  return with_run({ target = options.target, on_conflict = "stop" }, ui, function(r)
    local found = unfinished.sessions(r)
    if #found > 0 then return unfinished.refuse(found) end
    return script.act(r, phase, options, ui)
  end)
end

--- Gives an installation another folder name in its project.
---@param options { target: string?, to: string, dry_run: boolean? }
---@param ui { emit: function, show: fun(data: table)? }
---@return table result
function engine.migrate(options, ui)
  project_options.add(options, ui.emit)
  return with_run(options, ui, function(r)
    local found = unfinished.sessions(r)
    if #found > 0 then return unfinished.refuse(found) end
    return core.cancel.within(math.huge, migrate.run, r, options, ui)
  end)
end

--- Brings an installation back to a backup as a whole.
---@param options { target: string, backup: string, restart: boolean? }
---@param ui table
---@return table result
function engine.restore_backup(options, ui)
  project_options.add(options, ui.emit)
  return with_run(options, ui, function(r) return restore_backup(r, options) end)
end

return engine
