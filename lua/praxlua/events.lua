--- Everything an upgrade tells the outside, as events: tables with a name and the fields their
-- schema lists. Engine and services only emit them; a sink decides what becomes of them: one JSON
-- object a line for tools (events.json), or text for people (events.people, events/people.lua).
--
-- The list of events is data. docs/events.schema.json is made from it (events.json_schema), and
-- docs/events.md describes each with an example; specs keep the three together.
local clock = require("praxlua.clock")
local isolation = require("praxlua.isolation")
local json = require("praxlua.json")
local people = require("praxlua.events.people")
local schema = require("praxlua.schema")
local text = require("praxlua.text")

local events = {}

local object, array, map = schema.object, schema.array, schema.map
local optional, boolean, any = schema.optional, schema.boolean, schema.any
local filled = schema.string({ min_length = 1 })
local words = schema.string()
local count = schema.integer({ min = 0 })
local seconds = schema.number({ min = 0 })
local amount = schema.number({ min = 0 })
local number = schema.integer({ min = 0, max = 5 })
local level = schema.string({ one_of = isolation.LEVELS })
local digest = schema.string({ pattern = "^%x+$" })

--- How a run can end; `finished` says which, beside the exit code.
events.STATUSES = {
  "completed", "nothing_to_do", "dry_run", "refused", "waiting", "rolled_back", "failed",
  "rollback_failed", "busy", "usage", "interrupted",
}

--- What is done to one file; a plan lists these.
events.ACTIONS = {
  "add", "update", "merge", "remove", "keep", "unchanged", "conflict",
}

--- The fields of each event beside event, time and session_id.
---@type table<string, table<string, table>>
events.fields = {
  session_started = {
    source = optional(filled), target = filled, from_version = optional(words),
    to_version = optional(words), dry_run = boolean(), resumed = optional(boolean()),
  },
  phases = {
    phases = array(object({
      id = filled, number = optional(number), title = filled, from = optional(filled),
      grants = map(any()), manual = optional(filled),
    })),
  },
  waiting = {
    phase = filled, title = filled, text = filled, command = optional(filled),
    problem = optional(words),
    fields = array(object({ name = filled, type = filled, optional = boolean() })),
  },
  phase_started = {
    phase = filled, number = optional(number), title = filled,
    index = optional(schema.integer({ min = 1 })), total = optional(schema.integer({ min = 1 })),
  },
  phase_progress = {
    phase = filled, text = words, fraction = optional(schema.number({ min = 0, max = 1 })),
  },
  phase_completed = {
    phase = filled, number = optional(number), seconds = seconds, summary = optional(words),
    evidence = optional(map(any())), isolation = optional(level),
    used = optional(amount), peak = optional(count),
  },
  phase_failed = {
    phase = filled, number = optional(number), seconds = seconds, verdict = filled,
    message = filled, where = optional(words), next = optional(words), code = optional(words),
    isolation = optional(level), limit = optional(amount), used = optional(amount),
    peak = optional(count),
  },
  plan = {
    hash = digest, driver = optional(filled),
    counts = object({
      new_files = count, updated_files = count, merged_files = count,
      unchanged_files = count, removed_files = count, conflicts = count, local_only = count,
    }),
    base_from = optional(map(count)),
    actions = optional(array(object({
      path = filled, action = schema.string({ one_of = events.ACTIONS }), reason = optional(words),
      base_from = optional(filled), moved_from = optional(filled), phase = optional(filled),
    }))),
  },
  not_run = { phase = filled, verb = filled, what = filled },
  difference = {
    path = filled, action = schema.string({ one_of = events.ACTIONS }), reason = optional(words),
    diff = words, added = count, removed = count, binary = boolean(),
    moved_from = optional(filled), notes = array(words),
  },
  conflict = {
    id = schema.string({ pattern = "^%x+$", min_length = 12, max_length = 12 }), path = filled,
    reason = filled, base_from = optional(filled),
    files = optional(object({
      base = optional(filled), ours = optional(filled), theirs = optional(filled),
      merged = optional(filled),
    })),
    resolution = optional(schema.string({ one_of = { "ours", "theirs", "merged" } })),
    decided_by = optional(schema.string({ one_of = { "answer", "remembered", "policy" } })),
  },
  question = {
    question = filled, choices = array(filled), default = filled, answer = optional(words),
  },
  warning = { message = filled, phase = optional(words), code = optional(words) },
  log = {
    level = schema.string({ one_of = { "debug", "info", "warning", "error", "critical" } }),
    message = words, phase = optional(words),
  },
  server_log = { line = words },
  rollback_started = { reason = filled },
  undo_command = {
    phase = filled, command = filled, success = boolean(), message = optional(words),
  },
  rollback_completed = {
    success = boolean(), seconds = seconds, server_healthy = optional(boolean()),
    message = optional(words), steps = optional(map(seconds)),
  },
  report = { path = optional(words), report = map(any()) },
  result = { command = filled, data = any() },
  finished = {
    exit_code = schema.integer({ min = 0, max = 255 }),
    status = schema.string({ one_of = events.STATUSES }),
    message = optional(words), where = optional(words), next = optional(words),
  },
}

local SCHEMAS = {}
for name, fields in pairs(events.fields) do
  local all = {
    event = schema.string({ one_of = { name } }),
    time = schema.string({ min_length = 20 }),
    session_id = optional(filled),
  }
  for field, of in pairs(fields) do all[field] = of end
  SCHEMAS[name] = object(all)
end

--- The names of all events, sorted.
---@return string[]
function events.names()
  local names = {}
  for name in pairs(events.fields) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- Checks an event as it is written: its name is known, every field is there and of its type.
---@param event any
---@return true|nil
---@return string? message
---@return string? code "ESCHEMA"
function events.check(event)
  if type(event) ~= "table" then return nil, "event: not a table", "ESCHEMA" end
  local of = SCHEMAS[event.event]
  if not of then
    return nil, "event: there is no '" .. text.visible(event.event) .. "'", "ESCHEMA"
  end
  local ok, message, code = schema.check(of, event)
  if not ok then return nil, "event " .. event.event .. ": " .. message, code end
  if not clock.parse(event.time) then
    return nil, "event " .. event.event .. ": time: not an ISO 8601 time", "ESCHEMA"
  end
  return true
end

--- The schema of a line of --json output, in JSON Schema (draft 2020-12): the text of
--- docs/events.schema.json.
---@return string
function events.json_schema()
  local definitions, references = {}, json.array()
  for _, name in ipairs(events.names()) do
    local definition = schema.json_schema(SCHEMAS[name])
    definition.properties.event = { const = name }
    definition.properties.time = { type = "string", format = "date-time" }
    definitions[name] = definition
    references[#references + 1] = { ["$ref"] = "#/$defs/" .. name }
  end
  return json.encode({
    ["$schema"] = "https://json-schema.org/draft/2020-12/schema",
    title = "An event of praxlua: one line of the output of --json",
    oneOf = references,
    ["$defs"] = definitions,
  }, { pretty = true }) .. "\n"
end

-- ---------------------------------------------------------------------------------------------
-- For tools

-- The event with what every event has. A malformed one must not stop an upgrade or a rollback, so
-- it becomes a log event that says so.
local function completed(event, options)
  local whole = {}
  for key, value in pairs(event) do whole[key] = value end
  whole.time = whole.time or clock.iso()
  local session = options and options.session_id
  if whole.session_id == nil and session then
    whole.session_id = type(session) == "function" and session() or session
  end
  local ok, message = events.check(whole)
  if ok then return whole end
  return {
    event = "log", time = clock.iso(), level = "error",
    message = "malformed event: " .. message,
  }
end

--- A sink that writes one JSON object a line.
---@param write fun(line: string) receives the line with its end
---@param options { session_id: string|fun(): string? }? put into events that have none
---@return fun(event: table) emit
function events.json(write, options)
  return function(event)
    local whole = completed(event, options)
    local ok, encoded = pcall(json.encode, whole)
    if not ok then
      encoded = json.encode({
        event = "log", time = clock.iso(), level = "error",
        message = "event " .. text.visible(event.event) .. " has no JSON form: " .. encoded,
      })
    end
    write(encoded .. "\n")
  end
end

-- ---------------------------------------------------------------------------------------------
-- For people

-- With --quiet people see only what they must act on.
local ALWAYS = {
  phase_failed = true, conflict = true, waiting = true, warning = true, log = true,
  rollback_started = true, rollback_completed = true, finished = true, server_log = true,
}

--- A sink that writes the events as text for people.
---@param terminal table from terminal.new
---@param options { quiet: boolean?, verbose: boolean? }? quiet: only failures, warnings,
---  conflicts, rollbacks and an end that is not success; verbose: log lines of every level
---@return fun(event: table) emit
function events.people(terminal, options)
  options = options or {}
  local view = { terminal = terminal, titles = {}, verbose = options.verbose }
  return function(event)
    local whole = completed(event)
    local name = whole.event
    if options.quiet then
      if name == "phase_started" then view.titles[whole.phase] = whole.title end
      if not ALWAYS[name] or name == "finished" and people.GOOD[whole.status] then return end
    end
    people.show(view, whole)
  end
end

--- A sink that hands each event to several.
---@param ... fun(event: table)
---@return fun(event: table) emit
function events.all(...)
  local sinks = { ... }
  return function(event)
    for _, emit in ipairs(sinks) do emit(event) end
  end
end

return events
