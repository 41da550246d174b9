--- The UpgradeReport of a session: what the session and its plan know, in the report's form.
local evidence = require("praxlua.evidence")
local json = require("praxlua.json")
local report = require("praxlua.report")

local summary = {}

local function phases_of(session)
  local list, summaries = json.array(), {}
  for i, phase in ipairs(session.metadata.phases or {}) do
    list[i] = {
      id = phase.id, number = phase.number, title = phase.title, verdict = phase.verdict,
      seconds = phase.seconds, limit = phase.limit, used = phase.used, peak = phase.peak,
      isolation = phase.isolation,
    }
    local key = tostring(phase.number or phase.id)
    local found = session.phase_artifacts[key]
    summaries[key] = found and evidence.summary(phase.number, found) or phase.verdict
  end
  return list, summaries
end

local function server_of(session)
  local validation = session.phase_artifacts["4"]
  if not validation or math.type(validation.tools_registered) ~= "integer" then return nil end
  local version = validation.server_version
  local remembered = session.metadata.server or {}
  return {
    answered = true, version = type(version) == "string" and version or nil,
    transport = remembered.transport, tools = validation.tools_registered,
  }
end

--- Makes the report of a session.
---@param r table the run
---@param facts { success: boolean, rollback_performed: boolean?, failure: table? } failure:
---  { what, where?, next? }
---@return table report
function summary.of(r, facts)
  local session = r.session
  local artifacts, metadata = session.phase_artifacts, session.metadata
  local pre_flight, backup = artifacts["0"] or {}, artifacts["1"] or {}
  local phases, summaries = phases_of(session)
  return report.new({
    session_id = session.session_id, workflow_type = session.workflow_type,
    started_at = session.started_at,
    from_version = metadata.from_version or "", to_version = metadata.to_version or "",
    phases_completed = session.completed_phases, phase_summaries = summaries, phases = phases,
    issues_encountered = metadata.warnings, warnings = metadata.warnings,
    rollback_performed = facts.rollback_performed or false, success = facts.success,
    source = metadata.source_path, commit = pre_flight.source_commit, target = r.target,
    plan = facts.success and r.ctx.memory.plan or nil,
    base_from = facts.success and r.ctx.memory.plan and r.ctx.memory.plan.base_from or nil,
    backup_path = backup.backup_path, server = server_of(session), failure = facts.failure,
  })
end

return summary
