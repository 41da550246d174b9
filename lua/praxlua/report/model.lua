--- The UpgradeReport (specs.md 3.4): what a run was and did, as checked data.
local clock = require("praxlua.clock")
local entries = require("praxlua.entries")
local evidence = require("praxlua.evidence")
local json = require("praxlua.json")
local schema = require("praxlua.schema")

local model = {}

model.FORMAT_VERSION = 1

local object, array, map, optional = schema.object, schema.array, schema.map, schema.optional
local filled = schema.string({ min_length = 1 })
local words = schema.string()
local amount = schema.number({ min = 0 })
local seconds = schema.number({ min = 0 })
local number = schema.integer({ min = 0, max = 5 })
local named = array(object({
  path = filled, reason = optional(words),
  resolution = optional(schema.string({ one_of = { "ours", "theirs", "merged" } })),
  decided_by = optional(schema.string({ one_of = { "answer", "remembered", "policy" } })),
}))

--- The kinds of change.
local CHANGES = { "added", "updated", "merged", "removed", "kept", "conflicts" }

local change_fields = {}
for _, kind in ipairs(CHANGES) do change_fields[kind] = optional(named) end

--- The first thirteen fields are those of specs.md 3.4; the rest is what the markdown shows beside.
local FORM = object({
  session_id = filled,
  workflow_type = filled,
  started_at = filled,
  completed_at = filled,
  duration_seconds = seconds,
  from_version = words,
  to_version = words,
  phases_completed = array(number),
  phase_summaries = map(words), -- by number ("0".."5") or id of a custom phase
  issues_encountered = array(words),
  rollback_performed = schema.boolean(),
  success = schema.boolean(),

  format_version = schema.integer({ min = 1 }),
  source = optional(words),
  commit = optional(words),
  target = optional(words),
  phases = optional(array(object({
    id = filled, number = optional(number), title = words, verdict = filled, seconds = seconds,
    limit = optional(amount), used = optional(amount), peak = optional(amount),
    isolation = optional(words),
  }))),
  changes = optional(object(change_fields)),
  base_from = optional(map(schema.integer({ min = 0 }))),
  backup_path = optional(words),
  server = optional(object({
    answered = schema.boolean(), version = optional(words), transport = optional(words),
    tools = optional(schema.integer({ min = 0 })), detail = optional(words),
  })),
  warnings = optional(array(words)),
  failure = optional(object({
    what = filled, where = optional(words), next = optional(words),
  })),
  next_steps = optional(array(words)),
})

-- A copy by the schema: arrays marked, numeric keys of maps as strings.
local function copied(s, value)
  if type(value) ~= "table" then return value end
  if s.kind == "optional" then return copied(s.of, value) end
  local copy = s.kind == "array" and json.array() or {}
  for key, of in pairs(value) do
    local inner = s.of or s.fields and s.fields[key]
    if s.kind == "map" and math.type(key) == "integer" then key = tostring(key) end
    copy[key] = inner and copied(inner, of) or of
  end
  return copy
end

local function checked(dict)
  if type(dict) ~= "table" then return nil, "report: not an object", "ESCHEMA" end
  local version = dict.format_version
  if math.type(version) == "integer" and version > model.FORMAT_VERSION then
    return nil, string.format("report: format %d; this praxlua reads up to %d", version,
      model.FORMAT_VERSION), "EFORMAT"
  end
  local ok, message, code = schema.check(FORM, dict, "report")
  if not ok then return nil, message, code end
  for _, field in ipairs({ "started_at", "completed_at" }) do
    if not clock.parse(dict[field]) then
      return nil, "report." .. field .. ": not an ISO 8601 time", "ESCHEMA"
    end
  end
  return true
end

-- What the report calls each action of a plan.
local ACTIONS = {
  add = "added", update = "updated", merge = "merged", remove = "removed", keep = "kept",
  conflict = "conflicts",
}

-- What the report says of one file: of a conflict also how it was decided.
local function change_of(entry)
  return { path = entry.path, reason = entry.reason, resolution = entry.resolved,
    decided_by = entry.decided_by }
end

-- What a plan did to the files. The user's own files, which it does not concern, are not listed.
local function changes_of(planned)
  local changes = {}
  for _, entry in ipairs(planned.entries) do
    local kind = entry.resolved and "conflicts" or ACTIONS[entry.action]
    if kind and entries.concern(entry) then
      changes[kind] = changes[kind] or {}
      table.insert(changes[kind], change_of(entry))
    end
  end
  return changes
end

local function not_null(value)
  if value ~= json.null then return value end
  return nil
end

-- What the server answered, from the evidence of phases 3 and 4.
local function server_of(artifacts)
  local restart, validation = artifacts["3"], artifacts["4"]
  if validation then
    return {
      answered = true, version = not_null(validation.server_version),
      tools = validation.tools_registered,
    }
  end
  local health = restart and not_null(restart.server_health_check)
  return health and { answered = health == "passed" } or nil
end

local function phases_of(noted)
  local phases = {}
  for _, phase in ipairs(noted) do
    phases[#phases + 1] = {
      id = phase.id, number = phase.number, title = phase.title, verdict = phase.verdict,
      seconds = phase.seconds, limit = phase.limit, used = phase.used, peak = phase.peak,
      isolation = phase.isolation,
    }
  end
  return phases
end

local function summaries_of(artifacts)
  local summaries = {}
  for key, found in pairs(artifacts) do
    local phase = math.tointeger(tonumber(key))
    summaries[key] = phase and evidence.summary(phase, found) or nil
  end
  return summaries
end

-- What follows from the evidence of the phases where the caller has not said it.
local function add_artifacts(made, artifacts)
  local source, backup = artifacts["0"] or {}, artifacts["1"] or {}
  made.commit = made.commit or source.source_commit
  made.backup_path = made.backup_path or backup.backup_path
  made.server = made.server or server_of(artifacts)
  made.phase_summaries = made.phase_summaries or summaries_of(artifacts)
end

--- An UpgradeReport from the fields that are known; the others get their natural empty value, and
--- duration_seconds follows from the two times. Beside the report's own fields it takes what they
--- can be worked out from: `plan` (changes), `artifacts` (the evidence by phase: summaries,
--- commit, backup, server), `source_path`, and `failure` as a sentence.
---@param fields table at least session_id and started_at
---@return table report
function model.new(fields)
  local made = {
    format_version = model.FORMAT_VERSION, workflow_type = "praxis_os_upgrade_v1",
    from_version = "", to_version = "", phases_completed = {},
    issues_encountered = {}, rollback_performed = false, success = false,
  }
  for key, value in pairs(fields) do made[key] = value end
  made.plan, made.artifacts, made.source_path = nil, nil, nil
  made.source = made.source or fields.source_path
  if fields.plan then made.changes = made.changes or changes_of(fields.plan) end
  if fields.artifacts then add_artifacts(made, fields.artifacts) end
  if fields.phases then made.phases = phases_of(fields.phases) end
  if type(made.failure) == "string" then made.failure = { what = made.failure } end
  made.phase_summaries = made.phase_summaries or {}
  made.completed_at = made.completed_at or clock.iso()
  if not made.duration_seconds then
    local from, to = clock.parse(made.started_at), clock.parse(made.completed_at)
    made.duration_seconds = from and to and math.max(0, (to - from) / 1e9) or 0
  end
  return made
end

--- The report as a table for json.encode: a deep copy, checked.
---@param r table
---@return table|nil dict
---@return string? message
---@return string? code "ESCHEMA" | "EFORMAT"
function model.to_dict(r)
  local dict = type(r) == "table" and copied(FORM, r) or r
  local ok, message, code = checked(dict)
  if not ok then return nil, message, code end
  return dict
end

--- The inverse: a report from a decoded JSON table, checked.
---@param dict any
---@return table|nil report
---@return string? message
---@return string? code "ESCHEMA" | "EFORMAT"
function model.from_dict(dict) return model.to_dict(dict) end

return model
