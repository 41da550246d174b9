--- The gate between pre-flight and backup: is there anything to do, may it be done, and was it what
-- the user approved? Up to here nothing was changed, so every way out but the one ahead leaves no
-- trace.
local approval = require("praxlua.approval")
local comparison = require("praxlua.comparison")
local content = require("praxlua.content")
local decisions = require("praxlua.decisions")
local json = require("praxlua.json")
local overlay = require("praxlua.overlay")
local run = require("praxlua.run")
local source_phases = require("praxlua.source_phases")
local text = require("praxlua.text")

local gate = {}

local ACTIONS = { adopt = "unchanged" }

-- Beside the actions of the plan stand those of phases that are added, as a dry run saw them.
local function emit_plan(r, planned, more)
  local actions = json.array()
  for _, entry in ipairs(planned.entries) do
    local action = ACTIONS[entry.action] or entry.action
    if action ~= "unchanged" then
      actions[#actions + 1] = { path = entry.path, action = action, reason = entry.reason,
        base_from = entry.base_from, moved_from = entry.moved_from }
    end
  end
  table.move(more, 1, #more, #actions + 1, actions)
  r.ctx.emit({ event = "plan", hash = planned.hash, counts = planned.counts,
    base_from = planned.base_from, driver = planned.driver, actions = actions })
end

-- Beneath the plan, for whoever wants to see the lines.
local function emit_differences(r, planned)
  local files, message = comparison.of(r.ctx, planned)
  if not files then return r.ctx.warn("the differences cannot be shown: " .. message) end
  for _, file in ipairs(files) do
    file.event = "difference"
    r.ctx.emit(file)
  end
end

local function refused(message, next_step)
  return { exit_code = 3, status = "refused", message = message, next = next_step }
end

-- What stands in the way may be mended: a session that waits goes on waiting, another is forgotten.
local function turn_back(r, message, next_step)
  if decisions.is_awaited(r.session) then
    local id = r.session.session_id
    return refused(message, ("%s; then go on with: praxlua resume %s\nor forget the upgrade: "
      .. "praxlua rollback %s"):format(next_step, id, id))
  end
  run.forget(r)
  return refused(message, next_step .. " and run the upgrade again")
end

-- Time passes between the two where a phase or a person comes first, and the checks say nothing
-- about another commit.
local function moved_source(r, planned)
  local checked = r.session.phase_artifacts["0"].source_commit
  if planned.source_commit == checked then return nil end
  return turn_back(r, string.format("the source %s is at commit %s now, and what was checked "
    .. "before is %s; nothing was changed", text.visible(r.ctx.source),
    planned.source_commit:sub(1, 12), checked:sub(1, 12)),
    "check out " .. checked .. " in the source")
end

-- What changed since the dry run is named: who approved a plan is to see whether it matters.
local function other_plan(r, planned)
  return { exit_code = 3, status = "refused",
    message = ("the plan is not the one you approved: %s instead of %s\n%s"):format(planned.hash,
      text.visible(r.options.plan_hash),
      approval.explain(r.ctx, planned, r.options.plan_hash)),
    next = "look at it again with --dry-run" }
end

local function show(r, planned, more)
  emit_plan(r, planned, more or {})
  if r.options.diff then emit_differences(r, planned) end
end

-- A dry run shows the plan when it has seen what the other phases add to it.
local function foresee(r, planned, following)
  source_phases.foretell(r)
  local seen = overlay.follow(r, following)
  show(r, planned, seen.actions)
  return seen.result or { exit_code = 0, status = "dry_run" }
end

-- The plan, with what was decided about conflicts, and its hash before anybody was asked. Nil and
-- the result that ends the run.
local function plan_of(r)
  local doc, result = decisions.take(r)
  if result then return nil, result end
  local planned, message = content.plan(r.ctx)
  if not planned then return nil, turn_back(r, message, "mend what the message names") end
  local moved = moved_source(r, planned)
  if moved then return nil, moved end
  local proposed = planned.hash
  planned, result = decisions.ask(r, planned, doc)
  if not planned then return nil, result end
  decisions.note(r, planned)
  return planned, proposed
end

-- The ends that need no more than the plan; nil to go on. Who approved a plan with open conflicts
-- approved what answers make of it, too.
local function judge(r, planned, proposed, preview)
  local approved = r.options.plan_hash
  if approved and approved ~= planned.hash and approved ~= proposed then
    return other_plan(r, planned)
  end
  if r.dry_run then approval.keep(r.ctx, planned) end
  if preview.nothing_to_do then return { exit_code = 0, status = "nothing_to_do" } end
end

--- What pre-flight leads to.
---@param r table run
---@param following { begin: function, run: function } how the phases behind it are carried out
---@return table|nil result that ends the run here; nil to go on
function gate.pass(r, following)
  local planned, proposed = plan_of(r)
  if not planned then return proposed end
  local preview, message = content.preview(r.ctx)
  if not preview then return turn_back(r, message, "mend what the message names") end
  local result = judge(r, planned, proposed, preview)
  if r.dry_run and not result and not decisions.is_open(planned) then
    decisions.settle(r, planned)
    return foresee(r, planned, following)
  end
  show(r, planned)
  if result then
    run.forget(r)
    return result
  end
  result = decisions.settle(r, planned)
  if result then return result end
  local allowed
  allowed, result = source_phases.permit(r)
  if not allowed then run.forget(r) end
  return result
end

return gate
