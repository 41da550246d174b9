--- The engine: runs the phases of a workflow in order, checks each checkpoint, and sees to it that
-- every run ends as one of: done, refused before any change, rolled back, waiting, or resumable.
--
-- A result is a table { exit_code, status, message?, next?, session_id? }; the exit codes are those
-- of the command line.
local broker = require("praxlua.broker")
local content = require("praxlua.content")
local core = require("praxlua.core")
local environment = require("praxlua.environment")
local evidence = require("praxlua.evidence")
local json = require("praxlua.json")
local phases = require("praxlua.phases")
local receipts = require("praxlua.receipts")
local report = require("praxlua.report")
local restore = require("praxlua.restore")
local rollback = require("praxlua.rollback")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")
local summary = require("praxlua.summary")

local engine = {}

local SIGNAL_EXITS = { SIGHUP = 129, SIGINT = 130, SIGTERM = 143 }

-- ---------------------------------------------------------------------------------------------
-- Results

local function finish(r, result)
  result.session_id = result.session_id or (r.session and r.session.session_id)
  r.emit({ event = "finished", exit_code = result.exit_code, status = result.status,
    message = result.message, next = result.next, session_id = result.session_id })
  return result
end

-- The exit code of an interrupted run tells the signal.
local function interrupted_exit(signal, otherwise) return SIGNAL_EXITS[signal] or otherwise end

-- ---------------------------------------------------------------------------------------------
-- Reports

local function emit_report(r, made, path)
  path = path or report.generate_upgrade_summary(r.ctx, made)
  if path then r.ctx.emit({ event = "report", path = path, report = report.to_dict(made) }) end
end

-- The report of a run that was rolled back; phase 5 writes the one of a run that went well.
local function write_failure_report(r, failure)
  emit_report(r, summary.of(r, {
    success = false, rollback_performed = true, failure = failure,
  }))
end

-- ---------------------------------------------------------------------------------------------
-- One phase

local function note_phase(r, phase, outcome)
  local all = r.session.metadata.phases or json.array()
  r.session.metadata.phases = all
  for i, entry in ipairs(all) do
    if entry.id == phase.id then table.remove(all, i) break end
  end
  all[#all + 1] = {
    id = phase.id, number = phase.number, title = phase.title, verdict = outcome.verdict,
    seconds = outcome.seconds, limit = outcome.limit, used = outcome.used, peak = outcome.peak,
  }
end

-- Whether what a phase returned lets the run go on.
local function check(phase, outcome)
  local found = outcome.evidence
  if type(found) ~= "table" then
    if phase.number == nil and found == nil then
      found = {}
    else
      return nil, string.format("phase %s returned %s instead of evidence", phase.id, type(found)),
        "evidence:schema"
    end
  end
  local ok, message, code = evidence.checkpoint(phase.model, found)
  if not ok then
    return nil, message, code == "ESCHEMA" and "evidence:schema" or "evidence:checkpoint"
  end
  if phase.number then
    ok, message = receipts.check(phase.number, found, outcome.receipts)
    if not ok then return nil, message, "evidence:receipt" end
  end
  return evidence.to_dict(phase.model, found)
end

local function record(r, phase, dict)
  if r.dry_run then
    r.session.phase_artifacts[tostring(phase.number or phase.id)] = dict
    return true
  end
  local session, message, code = state.update_phase(r.target, r.session, phase.number or phase.id,
    dict, phase.id)
  if not session then return nil, message, code end
  r.ctx.artifacts = session.phase_artifacts
  if not r.transaction then return true end
  return r.transaction:checkpoint(json.encode(state.session.to_dict(session)))
end

local function run_phase(r, phase, index, total)
  r.phase = phase.id
  r.ctx.emit({ event = "phase_started", phase = phase.id, number = phase.number,
    title = phase.title, index = index, total = total })
  local outcome = broker.run(phase, r.ctx)
  local dict
  if outcome.verdict == "ok" then
    local message, verdict
    dict, message, verdict = check(phase, outcome)
    if not dict then outcome.verdict, outcome.message = verdict, message end
  end
  note_phase(r, phase, outcome)
  if dict then
    local ok, message = record(r, phase, dict)
    if not ok then
      dict, outcome.verdict = nil, "error"
      outcome.message = "recording the checkpoint: " .. tostring(message)
    end
  end
  if dict then
    r.ctx.emit({ event = "phase_completed", phase = phase.id, number = phase.number,
      seconds = outcome.seconds, evidence = dict,
      summary = phase.number and evidence.summary(phase.number, dict) or nil })
    return true
  end
  r.ctx.emit({ event = "phase_failed", phase = phase.id, number = phase.number,
    seconds = outcome.seconds, verdict = outcome.verdict, message = outcome.message })
  return nil, outcome
end

-- ---------------------------------------------------------------------------------------------
-- Between pre-flight and backup

local ACTIONS = { adopt = "unchanged", merge = "update" }

local function emit_plan(r, planned)
  local actions = json.array()
  for _, entry in ipairs(planned.entries) do
    local action = ACTIONS[entry.action] or entry.action
    if action ~= "unchanged" then
      actions[#actions + 1] = { path = entry.path, action = action, reason = entry.reason }
    end
  end
  r.ctx.emit({ event = "plan", hash = planned.hash, counts = planned.counts, actions = actions })
end

local function conflicts_of(planned)
  local found = {}
  for _, entry in ipairs(planned.entries) do
    if entry.action == "conflict" then found[#found + 1] = entry end
  end
  return found
end

local function wait_for_answer(r, found)
  for _, entry in ipairs(found) do
    r.ctx.emit({ event = "conflict", id = entry.path, path = entry.path, reason = entry.reason })
  end
  run.forget(r)
  return {
    exit_code = 4, status = "waiting",
    message = string.format("%d of your files changed on both sides; nothing was applied", #found),
    next = "keep yours with --on-conflict ours, or take the new ones with --on-conflict theirs "
      .. "(yours stay in the backup)",
  }
end

-- On a terminal each conflict is a question; an answer that is not ours or theirs ends the run.
local function ask_conflicts(r, planned)
  if r.options.on_conflict ~= "ask" then return planned end
  local answers = {}
  for _, entry in ipairs(conflicts_of(planned)) do
    local answer = r.ctx.ask(string.format("%s: %s. Keep yours, or take theirs?", entry.path,
      entry.reason), { "ours", "theirs", "stop" }, "stop")
    if answer ~= "ours" and answer ~= "theirs" then return planned end
    answers[entry.path] = answer
  end
  if not next(answers) then return planned end
  r.options.resolutions = answers
  r.ctx.memory.plan = nil
  return content.plan(r.ctx)
end

--- What pre-flight leads to: nil to go on, or the result that ends the run here.
local function after_pre_flight(r)
  local planned, message = content.plan(r.ctx)
  if planned then planned, message = ask_conflicts(r, planned) end
  if not planned then
    run.forget(r)
    return { exit_code = 3, status = "refused", message = message,
      next = "mend what the message names and run the command again" }
  end
  emit_plan(r, planned)
  if r.options.plan_hash and r.options.plan_hash ~= planned.hash then
    run.forget(r)
    return { exit_code = 3, status = "refused",
      message = "the plan is not the one you approved: " .. planned.hash .. " instead of "
        .. r.options.plan_hash,
      next = "look at it again with --dry-run" }
  end
  local preview
  preview, message = content.preview(r.ctx)
  if not preview then
    run.forget(r)
    return { exit_code = 3, status = "refused", message = message }
  end
  if preview.nothing_to_do then
    run.forget(r)
    return { exit_code = 0, status = "nothing_to_do" }
  end
  local open = conflicts_of(planned)
  if #open > 0 then return wait_for_answer(r, open) end
  if r.dry_run then return { exit_code = 0, status = "dry_run" } end
end

-- ---------------------------------------------------------------------------------------------
-- The run

local PLAN_FILE = "plan.json"

-- The transaction begins with phase 1: from here on a kill leaves something to resume.
local function begin_changes(r)
  r.session.metadata.server = server.remember(r.ctx)
  local planned = r.ctx.memory.plan
  r.session.metadata.from_version = planned.installed_version
  r.session.metadata.to_version = planned.source_version
  r.session.metadata.plan_hash = planned.hash
  r.options.from_version = planned.installed_version
  local ok, message, code = state.save_state(r.target, r.session)
  if ok then ok, message, code = run.open_transaction(r, true) end
  if ok then
    ok, message, code = core.file.write_atomic(r.folder .. "/" .. PLAN_FILE, json.encode(planned))
  end
  if ok then
    ok, message, code = r.transaction:checkpoint(json.encode(state.session.to_dict(r.session)))
  end
  if not ok then return nil, message, code end
  return true
end

-- A run that goes on takes the plan it began with; without one it had changed nothing yet.
local function restore_plan(r)
  local data = core.file.read(r.folder .. "/" .. PLAN_FILE)
  r.ctx.memory.plan = data and json.decode(data, { max_bytes = 256 * 1024 * 1024 }) or nil
end

local function complete(r)
  r.session.metadata.changes = json.array(r.transaction:changes())
  local ok, message = r.transaction:commit()
  if not ok then return nil, message end
  return engine.settle(r)
end

--- After the commit: the session is marked, the undo data goes. Repeated when it was cut short.
---@param r table
---@return table result
function engine.settle(r)
  environment.keep(r)
  r.session.status = "completed"
  local ok, message = state.save_state(r.target, r.session)
  if ok then ok, message = run.discard(r) end
  if not ok then
    r.ctx.warn("the upgrade is done, but clearing up after it failed: " .. tostring(message))
  end
  return { exit_code = 0, status = "completed",
    message = string.format("Upgraded %s from %s to %s.", r.target_name,
      tostring(r.session.metadata.from_version), tostring(r.session.metadata.to_version)) }
end

local function fail(r, phase, outcome)
  local signal = core.system.interrupted()
  local cause = tostring(outcome.message)
  local what = string.format("phase %s failed: %s", phase.id, cause:match("[^\n]*"))
  local changed = r.transaction and #r.transaction:changes() > 0
  if not r.transaction or phase.number and phase.number < 2 then
    if r.transaction and changed then
      local undone = rollback.open_session(r, what)
      if not undone.success then return undone end
    end
    run.forget(r)
    return { exit_code = interrupted_exit(signal, 3),
      status = signal and "interrupted" or "refused", message = outcome.message }
  end
  local undone = rollback.open_session(r, "phase " .. phase.id .. " failed")
  if not undone.success then return undone end
  write_failure_report(r, { what = cause, where = "phase " .. phase.title })
  return { exit_code = interrupted_exit(signal, 1),
    status = signal and "interrupted" or "rolled_back",
    message = what .. "\nThe installation is as before.",
    next = "mend the cause and run the upgrade again" }
end

local function is_done(session, phase)
  for _, id in ipairs(session.completed) do
    if id == phase.id then return true end
  end
  return false
end

-- Runs what is left of the phases. The caller has attached the session.
local function execute(r)
  local list = r.phases
  r.ctx.report = function() return summary.of(r, { success = true }) end
  for index, phase in ipairs(list) do
    if not is_done(r.session, phase) then
      if phase.number == 1 and not r.transaction then
        local ok, message, code = begin_changes(r)
        if not ok then
          return fail(r, phase, { message = message, code = code })
        end
      end
      local ok, outcome = run_phase(r, phase, index, #list)
      if not ok then return fail(r, phase, outcome) end
      if phase.number == 0 then
        local result = after_pre_flight(r)
        if result then return result end
      end
    end
  end
  local result, message = complete(r)
  if result then return result end
  return fail(r, list[#list], { message = message })
end

-- ---------------------------------------------------------------------------------------------
-- Unfinished sessions

local function list_unfinished(found)
  local ids = {}
  for _, entry in ipairs(found) do ids[#ids + 1] = entry.session_id end
  return table.concat(ids, ", ")
end

local function refuse_unfinished(found)
  local id = found[1].session_id
  return { exit_code = 3, status = "refused",
    message = "an earlier upgrade did not finish: session " .. list_unfinished(found),
    next = "finish it with: praxlua resume " .. id .. "\nor undo it with: praxlua rollback " .. id }
end

-- What to do with sessions whose owner is gone: true to go on, or the result that ends the run.
local function settle_unfinished(r, ui)
  local found = run.unfinished(r.target)
  if #found == 0 then return true end
  local answer = r.options.yes and "rollback" or nil
  if not answer and ui.unfinished then answer = ui.unfinished(found) end
  if r.options.dry_run or not answer or answer == "leave" then
    return nil, refuse_unfinished(found)
  end
  for _, entry in ipairs(found) do
    if answer == "resume" then return nil, engine.resume_with(r, entry.session_id) end
    r.emit({ event = "warning", message = "rolling back the unfinished session "
      .. entry.session_id .. " first" })
    local result = engine.rollback_with(r, entry.session_id, "a new upgrade was started")
    if not result.success then return nil, result end
    r.session, r.ctx, r.transaction = nil, nil, nil
  end
  return true
end

-- ---------------------------------------------------------------------------------------------
-- The workflow interface (specs.md 2.1)

local KEPT_OPTIONS = {
  "on_conflict", "allow_downgrade", "keep_backups", "restart", "run_tests", "git_commit",
  "phases", "health_timeout",
}

local function metadata_of(options)
  local kept = {}
  for _, name in ipairs(KEPT_OPTIONS) do kept[name] = options[name] end
  return {
    source_path = core.file.realpath(options.source) or options.source, options = kept,
    dry_run = options.dry_run or false, auto_restart = options.restart ~= false,
    owner = run.owner(),
  }
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
  local list, message = phases.all(r.target, options.phases)
  if not list then
    return nil, { exit_code = 3, status = "refused", message = message,
      next = "mend the script, or move it out of the folder" }
  end
  r.phases = list
  local session = state.session.new({ workflow_type = workflow_type, target_file = target_file,
    metadata = metadata_of(options) })
  if not r.dry_run then
    local ok, problem = state.save_state(r.target, session)
    if not ok then
      return nil, { exit_code = 3, status = "refused", message = problem,
        next = "check the permissions and the space of the target" }
    end
  end
  run.attach(r, session)
  local overview = {}
  for i, phase in ipairs(list) do
    overview[i] = { id = phase.id, title = phase.title, number = phase.number }
  end
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
  local list
  local options = session.metadata.options or {}
  list, message, code = phases.all(target, options.phases)
  if not list then return nil, message, code end
  for _, phase in ipairs(list) do
    if not is_done(session, phase) then
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
  local dict, message = check(phase, { evidence = found, receipts = {} })
  if dict then
    local ok
    ok, message = record(r, phase, dict)
    if ok then return { checkpoint_passed = true } end
  end
  return { checkpoint_passed = false, message = message }
end

-- ---------------------------------------------------------------------------------------------
-- What the commands do

local function announce(r, resumed)
  local metadata = r.session.metadata
  r.ctx.emit({ event = "session_started", source = metadata.source_path, target = r.target,
    from_version = metadata.from_version, to_version = metadata.to_version, dry_run = r.dry_run,
    resumed = resumed or nil })
end

-- A mistake in praxlua itself is a failed run like any other: it is rolled back.
local function after_internal_error(r, trace)
  r.emit({ event = "log", level = "critical", message = "internal error: " .. trace })
  local result = { exit_code = 1, status = "rolled_back",
    message = "an internal error of praxlua ended the run; the installation is as before",
    next = "report it with the lines above" }
  if not r.session then
    result.exit_code, result.status = 3, "refused"
    return result
  end
  local undone = rollback.open_session(r, "internal error")
  return undone.success and result or undone
end

local function with_run(options, ui, action)
  core.system.catch_signals()
  local r, result = run.open(options, ui)
  if not r then return finish({ emit = ui.emit }, result) end
  local ok, outcome = xpcall(action, debug.traceback, r)
  if not ok then outcome = after_internal_error(r, outcome) end
  run.close(r)
  return finish(r, outcome)
end

--- Upgrades an installation.
---@param options table source, target?, dry_run?, plan_hash?, yes?, on_conflict?, allow_downgrade?,
---  keep_backups?, restart?, run_tests?, git_commit?, phases?, health_timeout?
---@param ui { emit: fun(event: table), ask: function?, unfinished: function? }
---@return table result
function engine.upgrade(options, ui)
  return with_run(options, ui, function(r)
    local clear, result = settle_unfinished(r, ui)
    if not clear then return result end
    local started
    started, result = engine.start_workflow(r, state.WORKFLOW_TYPE, state.TARGET_FILE, options)
    if not started then return result end
    announce(r)
    return execute(r)
  end)
end

local function use_kept_options(r)
  local kept = r.session.metadata.options or {}
  for _, name in ipairs(KEPT_OPTIONS) do
    if r.options[name] == nil then r.options[name] = kept[name] end
  end
end

--- Goes on with a session on an open run.
---@param r table
---@param session_id string
---@return table result
function engine.resume_with(r, session_id)
  local ok, message, code = run.load(r, session_id)
  if not ok then
    return { exit_code = 3, status = "refused", session_id = session_id,
      message = "session " .. session_id .. " cannot be resumed: " .. tostring(message),
      next = code == "EBADJOURNAL" and "restore the last backup with: praxlua backup restore"
        or "undo it with: praxlua rollback " .. session_id }
  end
  r.dry_run = false
  use_kept_options(r)
  local status = r.transaction and r.transaction:status()
  local is_restore = restore.is_restore(r.session)
  if status == "committed" then return (is_restore and restore or engine).settle(r) end
  if status == "undoing" then
    return engine.rollback_result(rollback.open_session(r, "its rollback was cut short"))
  end
  if r.transaction then
    ok, message = r.transaction:rewind()
    if not ok then
      return { exit_code = 5, status = "rollback_failed", message = message,
        next = "mend the cause and run again: praxlua rollback " .. session_id }
    end
    restore_plan(r)
  end
  if is_restore then return restore.execute(r) end
  r.options.from_version = r.session.metadata.from_version
  r.phases, message = phases.all(r.target, r.options.phases)
  if not r.phases then return { exit_code = 3, status = "refused", message = message } end
  r.session.metadata.owner = run.owner()
  announce(r, true)
  return execute(r)
end

-- The session a command is about: the one named, or the only unfinished one.
local function choose(r, session_id)
  if session_id then return session_id end
  local found = run.unfinished(r.target)
  if #found == 1 then return found[1].session_id end
  if #found == 0 then return nil end
  return nil, { exit_code = 2, status = "usage",
    message = "there is more than one unfinished session: " .. list_unfinished(found),
    next = "name the one you mean" }
end

--- Resumes an unfinished session.
---@param options { target: string?, session_id: string? }
---@param ui table
---@return table result
function engine.resume(options, ui)
  return with_run(options, ui, function(r)
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
  local ok, message, code = run.load(r, session_id)
  if not ok then
    return { exit_code = 5, status = "rollback_failed", session_id = session_id,
      message = "session " .. session_id .. " cannot be rolled back: " .. tostring(message),
      next = code == "EBADJOURNAL" and "restore the last backup with: praxlua backup restore"
        or "look at it with: praxlua status" }
  end
  use_kept_options(r)
  if r.session.status == "rolled_back" then
    return { exit_code = 0, status = "nothing_to_do", success = true,
      message = "The session is rolled back already." }
  end
  if r.transaction and r.transaction:status() == "committed" then
    (restore.is_restore(r.session) and restore or engine).settle(r)
  end
  if r.session.status == "completed" then
    return restore.session(r, reason)
  end
  return engine.rollback_result(rollback.open_session(r, reason))
end

--- Undoes an upgrade (specs.md 7.3, rollback_upgrade): an unfinished one by its transaction, a
--- completed one from its backup.
---@param options { target: string?, session_id: string?, reason: string?, backup: string? }
---@param ui table
---@return table result
function engine.rollback_upgrade(options, ui)
  return with_run(options, ui, function(r)
    local id, result = choose(r, options.session_id)
    if result then return result end
    if options.backup then
      if id then return refuse_unfinished(run.unfinished(r.target)) end
      return restore.backup(r, options.backup, options.reason)
    end
    id = id or restore.last_completed(r.target)
    if not id then
      return { exit_code = 0, status = "nothing_to_do", message = "There is nothing to roll back." }
    end
    return engine.rollback_with(r, id, options.reason or "asked for")
  end)
end

--- Brings an installation back to a backup as a whole.
---@param options { target: string, backup: string, restart: boolean? }
---@param ui table
---@return table result
function engine.restore_backup(options, ui)
  return with_run(options, ui, function(r)
    local found = run.unfinished(r.target)
    if #found > 0 then return refuse_unfinished(found) end
    return restore.backup(r, options.backup, options.reason)
  end)
end

return engine
