--- Executing a session: its phases one after the other, and its end: done, refused, or rolled back.
local broker = require("praxlua.broker")
local checkpoint = require("praxlua.checkpoint")
local core = require("praxlua.core")
local environment = require("praxlua.environment")
local originals = require("praxlua.originals")
local gate = require("praxlua.gate")
local json = require("praxlua.json")
local manual = require("praxlua.manual")
local records = require("praxlua.records")
local report = require("praxlua.report")
local rollback = require("praxlua.rollback")
local run = require("praxlua.run")
local server = require("praxlua.server")
local source_phases = require("praxlua.source_phases")
local state = require("praxlua.state")
local summary = require("praxlua.summary")
local text = require("praxlua.text")
local undo_commands = require("praxlua.undo_commands")

local execution = {}

local function emit_report(r, made, path)
  r.ctx.emit({ event = "report", path = path, report = report.to_dict(made) })
end

-- The report of a run that was rolled back; phase 5 writes the one of a run that went well.
local function write_failure_report(r, failure)
  local made = summary.of(r, { success = false, rollback_performed = true, failure = failure })
  local path, message = report.generate_upgrade_summary(r.ctx, made)
  if path then return emit_report(r, made, path) end
  r.ctx.warn("the report could not be written: " .. message)
end

local function begin_phase(r, phase, index, total)
  r.phase, r.ctx.phase = phase.id, phase.id
  r.ctx.emit({ event = "phase_started", phase = phase.id, number = phase.number,
    title = phase.title, index = index, total = total })
end

-- Checks what a phase returned and records it. true, or nil and the outcome with its verdict.
local function end_phase(r, phase, outcome)
  local dict
  if outcome.verdict == "ok" then
    local message, verdict
    dict, message, verdict = checkpoint.check(phase, outcome, r.overlay ~= nil)
    if not dict then outcome.verdict, outcome.message = verdict, message end
  end
  checkpoint.note(r, phase, outcome)
  if dict then
    local ok, message = checkpoint.record(r, phase, dict)
    if not ok then
      dict, outcome.verdict = nil, "error"
      outcome.message = "recording the checkpoint: " .. tostring(message)
    end
  end
  checkpoint.tell(r, phase, outcome, dict)
  if dict then return true end
  return nil, outcome
end

local function run_phase(r, phase, index, total)
  begin_phase(r, phase, index, total)
  return end_phase(r, phase, broker.run(phase, r.ctx))
end

-- The session stays open until the evidence comes: the journal says so first, as it is the truth.
local function wait_for_evidence(r, phase, problem)
  local session, fields = r.session, manual.fields(phase.model)
  session.status = "waiting"
  session.metadata.awaits = {
    phase = phase.id, title = phase.title, text = phase.manual, fields = fields,
  }
  local ok, message = true, nil
  if r.transaction then ok, message = run.checkpoint(r, session) end
  if ok then ok, message = state.save_state(r.target, session) end
  if not ok then return nil, { message = "the session cannot wait: " .. tostring(message) } end
  local command = manual.command(session.session_id, fields)
  r.ctx.emit({ event = "waiting", phase = phase.id, title = phase.title, text = phase.manual,
    fields = fields, command = command, problem = problem })
  return nil, nil, {
    exit_code = 4, status = "waiting",
    message = problem or "the upgrade waits for what phase " .. phase.id .. " asks a person to do",
    next = "when it is done: " .. command .. "\nor undo the upgrade with: praxlua rollback "
      .. session.session_id,
  }
end

-- What was given for this phase: with the command, or at the terminal.
local function evidence_from_outside(r, phase)
  local awaits, given = r.session.metadata.awaits, r.evidence
  if given and awaits and awaits.phase == phase.id then
    r.evidence = nil
    return manual.evidence(phase.model, given)
  end
  if not r.prompt then return nil end
  r.ctx.emit({ event = "waiting", phase = phase.id, title = phase.title, text = phase.manual,
    fields = manual.fields(phase.model) })
  return manual.ask(phase.model, r.prompt)
end

-- true; nil and an outcome when the run failed; nil, nil and a result when it waits.
local function run_manual(r, phase, index, total)
  begin_phase(r, phase, index, total)
  local began = core.system.monotonic()
  local found = evidence_from_outside(r, phase)
  if not found then return wait_for_evidence(r, phase) end
  local outcome = { verdict = "ok", evidence = found, receipts = {} }
  local dict, message = checkpoint.check(phase, outcome)
  if not dict then return wait_for_evidence(r, phase, message) end
  r.session.status, r.session.metadata.awaits = "in_progress", nil
  outcome.seconds = core.system.monotonic() - began
  return end_phase(r, phase, outcome)
end

local PLAN_FILE, PLAN_LIMIT = "plan.json", 256 * 1024 * 1024 -- bytes

-- For the backup's manifest.
local function note_versions(r, planned)
  r.ctx.memory.installed_version = planned.installed_version
  r.ctx.memory.source_version = planned.source_version
end

-- Without the old server's tools nobody sees that the new one lacks some of them.
local function remember_server(r)
  local remembered = server.remember(r.ctx)
  if not remembered.tools then
    r.ctx.warn(("what tools the old server has is not known (%s): one that the new server lacks "
      .. "will not be noticed"):format(text.visible(tostring(remembered.tools_reason))))
  end
  return remembered
end

-- The transaction begins with phase 1: from here on a kill leaves something to resume.
local function begin_changes(r)
  local planned, metadata = r.ctx.memory.plan, r.session.metadata
  local data = json.encode(planned)
  if #data > PLAN_LIMIT then
    return nil, "the plan takes " .. text.bytes(#data) .. ", more than can be read again"
  end
  metadata.server = not r.overlay and remember_server(r) or nil
  metadata.from_version = planned.installed_version
  metadata.to_version = planned.source_version
  metadata.plan_hash, metadata.plan_sha256 = planned.hash, core.hash.sha256(data)
  r.options.from_version = planned.installed_version
  note_versions(r, planned)
  local ok, message, code = run.open_transaction(r, true)
  if ok then
    ok, message, code = core.file.write_atomic(r.folder .. "/" .. PLAN_FILE, data)
  end
  if ok then ok, message, code = run.checkpoint(r, r.session) end
  if not ok then return nil, message, code end
  return true
end

--- Gives a run that goes on the plan it began with. A half-upgraded target is never planned anew.
---@param r table
---@return true|nil
---@return string? message
function execution.restore_plan(r)
  local path = r.folder .. "/" .. PLAN_FILE
  local data, message = core.file.read(path, PLAN_LIMIT)
  local planned
  if data and core.hash.sha256(data) ~= r.session.metadata.plan_sha256 then
    return nil, path .. " is not the plan this session began with"
  end
  if data then planned, message = json.decode(data, { max_bytes = PLAN_LIMIT }) end
  if type(planned) ~= "table" then
    return nil, "the plan cannot be read: " .. tostring(message or path)
  end
  r.ctx.memory.plan = planned
  note_versions(r, planned)
  return true
end

local function complete(r)
  local ok, message = server.check_running(r.ctx) -- one last look before there is no way back
  if not ok then return nil, message end
  if core.system.interrupted() then return nil, "it was interrupted" end
  local metadata = r.session.metadata
  metadata.changes = json.array(r.transaction:changes()) -- what its undo will be about
  local commands, problem = undo_commands.list(r.folder)
  if not commands then return nil, problem end
  metadata.undo_commands = #commands > 0 and json.array(commands) or nil
  ok, message = run.checkpoint(r, r.session)
  if ok then ok, message = r.transaction:commit() end
  if not ok then return nil, message end
  local result = execution.settle(r)
  emit_report(r, summary.of(r, { success = true }), r.session.phase_artifacts["5"].upgrade_summary)
  return result
end

-- A later upgrade merges with what was shipped now; without it, with the source's history.
local function keep_objects(r)
  local kept, message = records.keep_objects(r.ctx)
  if not kept then
    r.ctx.warn("the content of what was shipped could not be kept: " .. tostring(message))
  end
end

--- After the commit: the session is marked, the undo data goes. Repeated when it was cut short.
---@param r table
---@return table result
function execution.settle(r)
  r.done = { exit_code = 0, status = "completed",
    message = string.format("Upgraded %s from %s to %s.", r.target_name,
      tostring(r.session.metadata.from_version), tostring(r.session.metadata.to_version)) }
  core.system.ignore_signals() -- there is no way back, only clearing up
  environment.keep(r)
  originals.forget(r.target, r.session.session_id)
  keep_objects(r)
  r.session.status = "completed"
  local ok, message = run.end_session(r)
  if not ok then
    r.ctx.warn("the upgrade is done, but clearing up after it failed: " .. tostring(message))
  end
  return r.done
end

local function fail(r, phase, outcome)
  local signal = core.system.interrupted()
  core.system.ignore_signals() -- a second one must not stop what the first one asked for
  local cause = tostring(outcome.message)
  local what = string.format("phase %s failed: %s", phase.id, cause:match("[^\n]*"))
  local changed = r.transaction and #r.transaction:changes() > 0
  if not r.transaction or phase.number and phase.number < 2 then
    if r.transaction and changed then
      local undone = rollback.open_session(r, what)
      if not undone.success then return undone end
    end
    run.forget(r)
    local next_step = signal and "run the upgrade again" -- a resume would find nothing any more
      or r.loaded and "mend what the message names and begin a new one with: praxlua upgrade" or nil
    return { exit_code = run.SIGNAL_EXITS[signal] or 3,
      status = signal and "interrupted" or "refused", message = outcome.message, next = next_step }
  end
  local undone = rollback.open_session(r, "phase " .. phase.id .. " failed")
  if not undone.success then return undone end
  write_failure_report(r, { what = cause, where = "phase " .. phase.title })
  return { exit_code = run.SIGNAL_EXITS[signal] or 1,
    status = signal and "interrupted" or "rolled_back",
    message = what .. "\nThe installation is as before.",
    next = signal and "run the upgrade again" or "mend the cause and run the upgrade again" }
end

--- Whether a phase of a session is complete.
---@param session table
---@param phase table
---@return boolean
function execution.is_done(session, phase)
  for _, id in ipairs(session.completed) do
    if id == phase.id then return true end
  end
  return false
end

-- Nobody does anything for a dry run, and nobody is asked in it. A source's phase that comes before
-- the backup has nothing behind it that would have to be undone.
local function run_next(r, phase, index, total)
  if phase.of_source and r.dry_run and not source_phases.are_allowed(r) then return true end
  local allowed, refusal = true, nil
  if phase.of_source then allowed, refusal = source_phases.permit(r) end
  if not allowed then
    run.forget(r)
    return nil, nil, refusal
  end
  if not phase.manual then return run_phase(r, phase, index, total) end
  if r.dry_run then return true end
  return run_manual(r, phase, index, total)
end

-- What phases find of the whole run, for their report on it.
local function give_report(r)
  r.ctx.report = function() return summary.of(r, { success = true }) end
end

-- How a dry run carries out the phases behind the gate, on its copy.
local FOLLOWING = {
  begin = function(r)
    give_report(r)
    return begin_changes(r)
  end,
  run = run_phase,
}

--- Runs what is left of a session's phases.
---@param r table run with its session attached and its phases set
---@return table result
function execution.run(r)
  local list = r.phases
  give_report(r)
  for index, phase in ipairs(list) do
    if not execution.is_done(r.session, phase) then
      if phase.number == 1 and not r.transaction then
        local result = gate.pass(r, FOLLOWING)
        if result then return result end
        local ok, message = begin_changes(r)
        if not ok then return fail(r, phase, { message = message }) end
      end
      local ok, outcome, result = run_next(r, phase, index, #list)
      if result then return result end
      if not ok then return fail(r, phase, outcome) end
    end
  end
  local result, message = complete(r)
  if result then return result end
  return fail(r, list[#list], { message = message })
end

return execution
