--- Checkpoints: what a phase returned, checked and recorded before the next phase may begin.
local evidence = require("praxlua.evidence")
local json = require("praxlua.json")
local receipts = require("praxlua.receipts")
local run = require("praxlua.run")
local state = require("praxlua.state")
local text = require("praxlua.text")

local checkpoint = {}

--- Bytes that the evidence of a phase may take as JSON: it is in the session's file and journal.
checkpoint.MAX_BYTES = 256 * 1024

--- Notes in the session how a phase ended; a repeated phase replaces its earlier entry.
---@param r table run
---@param phase table
---@param outcome table from broker.run
function checkpoint.note(r, phase, outcome)
  local all = r.session.metadata.phases or json.array()
  r.session.metadata.phases = all
  for i, entry in ipairs(all) do
    if entry.id == phase.id then table.remove(all, i) break end
  end
  all[#all + 1] = {
    id = phase.id, number = phase.number, title = phase.title, verdict = outcome.verdict,
    seconds = outcome.seconds, limit = outcome.limit, used = outcome.used, peak = outcome.peak,
    isolation = outcome.isolation,
  }
end

--- Tells how a phase ended.
---@param r table run
---@param phase table
---@param outcome table from broker.run
---@param dict table|nil its evidence, when the checkpoint passed
function checkpoint.tell(r, phase, outcome, dict)
  local event = { event = dict and "phase_completed" or "phase_failed", phase = phase.id,
    number = phase.number, seconds = outcome.seconds, isolation = outcome.isolation,
    used = outcome.used, peak = outcome.peak }
  if dict then
    event.evidence = dict
    event.summary = evidence.summary(phase.number or phase.model, dict,
      r.overlay ~= nil)
  else
    event.verdict, event.message, event.limit = outcome.verdict, outcome.message, outcome.limit
  end
  r.ctx.emit(event)
end

--- Whether what a phase returned lets the run go on: of the right form, with the values the
--- checkpoint demands, and with the host's receipt for every claim.
---@param phase table
---@param outcome { evidence: any, receipts: table[] }
---@param dry boolean? in a dry run, what it only foretells may be missing
---@return table|nil dict the evidence in its JSON form
---@return string? message
---@return string? verdict "evidence:schema", "evidence:checkpoint" or "evidence:receipt"
function checkpoint.check(phase, outcome, dry)
  local found = outcome.evidence
  if type(found) ~= "table" then
    if phase.number == nil and found == nil then
      found = {}
    else
      return nil, string.format("phase %s returned %s instead of evidence", phase.id, type(found)),
        "evidence:schema"
    end
  end
  local ok, message, code
  if type(phase.model) == "table" then
    found, message = receipts.attest(evidence.attested(phase.model), found, outcome.receipts)
    if not found then return nil, message, "evidence:receipt" end
  end
  ok, message, code = evidence.checkpoint(phase.model, found, dry)
  if not ok then
    return nil, message, code == "ESCHEMA" and "evidence:schema" or "evidence:checkpoint"
  end
  if phase.number then
    ok, message = receipts.check(phase.number, found, outcome.receipts)
    if not ok then return nil, message, "evidence:receipt" end
  end
  local dict
  dict, message = evidence.to_dict(phase.model, found, dry)
  if not dict then return nil, message, "evidence:schema" end
  local size = #json.encode(dict)
  if size <= checkpoint.MAX_BYTES then return dict end
  return nil, ("evidence: it takes %s, more than %s; write what is long into a file"):format(
    text.bytes(size), text.bytes(checkpoint.MAX_BYTES)), "evidence:schema"
end

--- Records a passed checkpoint in the transaction's journal and in the session's file. The session
--- in memory changes only when both have it.
---@param r table run
---@param phase table
---@param dict table evidence
---@return true|nil
---@return string? message
---@return string? code
function checkpoint.record(r, phase, dict)
  if r.dry_run then
    r.session.phase_artifacts[tostring(phase.number or phase.id)] = dict
    return true
  end
  local updated, ok, message, code
  updated, message, code = state.with_phase(r.session, phase.number or phase.id, dict, phase.id)
  if not updated then return nil, message, code end
  if r.transaction then
    ok, message, code = run.checkpoint(r, updated)
    if not ok then return nil, message, code end
    -- A journal that is shorter than this later on was cut by something other than a crash.
    updated.metadata.journal_records = r.transaction:sequence()
  end
  ok, message, code = state.save_state(r.target, updated)
  if not ok then return nil, message, code end
  for key, value in pairs(updated) do r.session[key] = value end
  r.ctx.artifacts = r.session.phase_artifacts
  return true
end

return checkpoint
