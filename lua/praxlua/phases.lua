--- The phases of an upgrade: the six built-in ones and those a project adds, in order.
--
-- A phase script is described by running it in a worker without any grant. Its id is its file name
-- without number and ending; `after` and `before` place it among the others.
local core = require("praxlua.core")
local evidence = require("praxlua.evidence")
local isolation = require("praxlua.isolation")
local resources = require("praxlua.resources")
local schema = require("praxlua.schema")
local text = require("praxlua.text")
local verbs = require("praxlua.verbs")

local phases = {}

--- The built-in scripts, in order; the number is the phase's number everywhere.
phases.BUILT_IN = {
  [0] = "0-pre-flight-checks.lua", "1-backup-preparation.lua", "2-content-upgrade.lua",
  "3-mcp-server-upgrade.lua", "4-post-upgrade-validation.lua", "5-cleanup-documentation.lua",
}

--- What a phase may use unless it says otherwise, and at most. wall and cpu in seconds (wall with
--- the host's work for it, but not while it waits for a person), memory in bytes, instructions of
--- the Lua machine, output in bytes of text for people, messages in calls of the host.
phases.LIMITS = {
  wall = 60, cpu = 10, memory = 64 * 1024 * 1024, instructions = 50000000, output = 256 * 1024,
  messages = 100000,
}
phases.CEILINGS = {
  wall = 24 * 3600, cpu = 600, memory = 1024 * 1024 * 1024, instructions = 10000000000,
  output = 16 * 1024 * 1024, messages = 10000000,
}

local access = schema.optional(schema.string({ one_of = { "read", "write" } }))
local filled = schema.string({ min_length = 1 })
--- The name of a tool, which is looked for on PATH; no path.
phases.TOOL = schema.string({ min_length = 1, pattern = "^[^/%z]+$" })

local services = schema.string({ one_of = verbs.services() })

local DESCRIPTION = schema.object({
  id = schema.optional(filled),
  title = filled,
  after = schema.optional(filled),
  before = schema.optional(filled),
  runs = schema.boolean(),
  manual = schema.optional(filled),
  grants = schema.optional(schema.object({
    source = schema.optional(schema.string({ one_of = { "read" } })),
    target = access,
    project = access,
    services = schema.optional(schema.array(services)),
    tools = schema.optional(schema.array(phases.TOOL)),
    network = schema.optional(schema.boolean()),
  })),
  limits = schema.optional(schema.object({
    wall = schema.optional(schema.number({ min = 0.001, max = phases.CEILINGS.wall })),
    cpu = schema.optional(schema.integer({ min = 1, max = phases.CEILINGS.cpu })),
    memory = schema.optional(schema.number({ min = 1024 * 1024, max = phases.CEILINGS.memory })),
    instructions = schema.optional(schema.number({ min = 1, max = phases.CEILINGS.instructions })),
    output = schema.optional(schema.number({ min = 0, max = phases.CEILINGS.output })),
    messages = schema.optional(schema.number({ min = 0, max = phases.CEILINGS.messages })),
  })),
  evidence = schema.optional(schema.map(schema.any())),
})

-- The end of a message about a name that is none.
local function did_you_mean(name, known)
  local near = text.nearest(name, known)
  return near and ("; did you mean '%s'?"):format(near) or ""
end

local function stem(file) return (file:gsub("^%d+%-", ""):gsub("%.lua$", "")) end

-- What a worker says that a script is, or some of them are (see worker.lua).
local function ask(mode, file, source, before)
  local worker, message, code = isolation.start(phases.LIMITS)
  if not worker then return nil, message, code end
  isolation.tell(worker, mode, file, source, {}, before)
  local kind, value = worker:receive(phases.LIMITS.cpu + 1)
  worker:stop()
  if kind == "result" then return value end
  if kind == "error" then
    local problem = tostring(value)
    local is_named = problem:sub(1, #file + 1) == file .. ":"
    return nil, is_named and problem or file .. ": " .. problem, "EPHASE"
  end
  return nil, string.format("%s: describing it ended with %s", file, tostring(value)), "EPHASE"
end

--- Runs a script in a worker to learn what it is.
---@param file string name for messages
---@param source string its text
---@param before string|nil Lua of ours that the worker runs in front of its prelude
---@return table|nil description
---@return string? message
---@return string? code "EPHASE", or one of isolation.start
local function describe(file, source, before) return ask("describe", file, source, before) end

local function number_limits(limits)
  local all = {}
  for name, otherwise in pairs(phases.LIMITS) do
    local value = limits and limits[name] or otherwise
    all[name] = name == "wall" and value or math.ceil(value)
  end
  return all
end

-- The host can only attest what the phase may ask it for.
local function attestable(model, grants)
  local attested = evidence.attested(model)
  if not next(attested) then return true end
  local given, names = verbs.names(grants), {}
  for name in pairs(given) do names[#names + 1] = name end
  table.sort(names)
  for field, of in pairs(attested) do
    if not given[of.verb] then
      return nil, string.format("evidence.%s: the phase has no grant for host.%s, so there can be "
        .. "no receipt of it%s", field, text.visible(of.verb), did_you_mean(of.verb, names))
    end
  end
  return true
end

-- Whether a phase that a person does is one: it does nothing by itself, and asks for something.
local function is_manual(found)
  if found.runs then
    return nil, "a manual phase has no phase.run(host): leave out one of the two"
  end
  if found.grants and next(found.grants) then
    return nil, "a manual phase does nothing by itself, so it has no grants"
  end
  if not found.evidence or not next(found.evidence) then
    return nil, "a manual phase needs evidence, such as "
      .. "evidence = { done = boolean{ equals = true } }"
  end
  return true
end

-- The phase of a script that was described.
local function phase_of(found, file, source, number)
  local ok, message = schema.check(DESCRIPTION, found)
  if not ok then return nil, string.format("%s: %s", file, message), "EPHASE" end
  if not found.runs and not found.manual then
    return nil, file .. ": the phase has no function phase.run(host)", "EPHASE"
  end
  if found.manual then
    ok, message = is_manual(found)
    if not ok then return nil, string.format("%s: %s", file, message), "EPHASE" end
  end
  if found.id and found.id ~= stem(file) then
    return nil, string.format("%s: its id is '%s', but the file name says '%s'", file,
      text.visible(found.id), stem(file)), "EPHASE"
  end
  if stem(file):find("^%d*$") then -- what the built-in ones left is kept under their numbers
    return nil, file .. ": its name has nothing but a number: rename it to NAME.lua", "EPHASE"
  end
  local model = number
  if not number then
    model, message = evidence.custom(found.evidence)
    ok = model and true
    if ok then ok, message = attestable(model, found.grants or {}) end
    if not ok then return nil, string.format("%s: %s", file, message), "EPHASE" end
  end
  return {
    id = stem(file), title = found.title, number = number, file = file, source = source,
    after = found.after, before = found.before, grants = found.grants or {},
    limits = number_limits(found.limits), model = model, manual = found.manual,
  }
end

--- Reads one script into a phase.
---@param file string base name
---@param source string
---@param number integer|nil of a built-in phase
---@return table|nil phase { id, title, number?, file, source, after?, before?, grants, limits,
---  model, manual? }
---@return string? message
---@return string? code "EPHASE"
function phases.read(file, source, number)
  local found, message, code = describe(file, source)
  if not found then return nil, message, code end
  return phase_of(found, file, source, number)
end

-- They are ours and leave nothing behind, so that one worker does for all.
local function read_built_in()
  local scripts, list = {}, {}
  for number = 0, #phases.BUILT_IN do
    local file = phases.BUILT_IN[number]
    local source, message, code = resources.source("phases/" .. file)
    if not source then return nil, message, code end
    scripts[#scripts + 1] = { file, source }
  end
  local found, message, code = ask("describe_all", "the built-in phases", scripts)
  if not found then return nil, message, code end
  for i, script in ipairs(scripts) do
    list[i], message, code = phase_of(found[i], script[1], script[2], i - 1)
    if not list[i] then return nil, message, code end
  end
  return list
end

local MAKE_READABLE = "make it readable, or name another folder"

local function read_directory(directory)
  local list = {}
  local entries, message, code = core.tree.list(directory)
  if not entries then return nil, message, code, MAKE_READABLE end
  for _, entry in ipairs(entries) do
    if entry.type == "file" and entry.path:find("^[^/]+%.lua$") then
      local path = directory .. "/" .. entry.path
      local source
      source, message, code = core.file.read(path, 1024 * 1024)
      if not source then return nil, message, code, MAKE_READABLE end
      local phase
      phase, message, code = phases.read(entry.path, source)
      if not phase then
        return nil, message, code, "see all that is wrong with it: praxlua phase check "
          .. text.quoted(path)
      end
      phase.from = directory
      list[#list + 1] = phase
    end
  end
  return list
end

local function position(list, id)
  for i, phase in ipairs(list) do
    if phase.id == id then return i end
  end
end

-- Puts one phase where it wants to be. true; nil while what it refers to is not placed yet; false
-- and a message when it cannot be.
local function place(list, phase)
  local present = position(list, phase.id)
  if present then
    if list[present].from then
      return false, string.format("two phases have the id '%s'", phase.id)
    end
    if phase.of_source then
      return false, string.format("%s: a phase that the source brings cannot take the place of "
        .. "'%s'", phase.file, phase.id)
    end
    if phase.manual then
      return false, phase.file .. ": a built-in phase cannot be replaced by a manual one"
    end
    phase.number, phase.model = list[present].number, list[present].number
    list[present] = phase
    return true
  end
  if not phase.after and not phase.before then
    return false, string.format(
      "%s: say where it belongs, with after = \"content-upgrade\" or before = …", phase.file)
  end
  local low = phase.after and position(list, phase.after)
  local high = phase.before and position(list, phase.before)
  if phase.after and not low or phase.before and not high then return nil end
  if low and high and low >= high then
    return false, string.format("%s: '%s' does not come before '%s'", phase.file, phase.after,
      phase.before)
  end
  local at = low and low + 1 or high
  -- Behind those that follow the same phase, so that file names decide among them.
  while low and at ~= high and list[at] and list[at].after == phase.after do at = at + 1 end
  table.insert(list, at, phase)
  return true
end

-- What the first of the phases that cannot be placed refers to although no phase is called so.
local function unknown_name(list, waiting)
  local names, known = {}, {}
  for _, phase in ipairs(list) do names[#names + 1] = phase.id end
  for _, phase in ipairs(waiting) do names[#names + 1] = phase.id end
  for _, name in ipairs(names) do known[name] = true end
  for _, phase in ipairs(waiting) do
    for _, wanted in ipairs({ phase.after or phase.before, phase.before }) do
      if not known[wanted] then
        return string.format("%s: there is no phase '%s' to be placed by%s", phase.file,
          text.visible(wanted), did_you_mean(wanted, names))
      end
    end
  end
end

-- Phases that only refer to each other: following what each waits for comes back to one of them.
local function circle(list, waiting)
  local by_id, seen, path = {}, {}, {}
  for _, phase in ipairs(waiting) do by_id[phase.id] = phase end
  local phase = waiting[1]
  while not seen[phase.id] do
    path[#path + 1] = phase.id
    seen[phase.id] = #path
    local waits_for = phase.after and not position(list, phase.after) and phase.after
      or phase.before
    phase = by_id[waits_for]
  end
  path[#path + 1] = phase.id
  return string.format("%s: a circle of phases, each placed by the next: %s; place one of them by "
    .. "another phase", phase.file, table.concat(path, ", ", seen[phase.id]))
end

local function place_all(list, added)
  while #added > 0 do
    local waiting = {}
    for _, phase in ipairs(added) do
      local placed, message = place(list, phase)
      if placed == false then return nil, message, "EPHASE" end
      if not placed then waiting[#waiting + 1] = phase end
    end
    if #waiting == #added then
      return nil, unknown_name(list, waiting) or circle(list, waiting), "EPHASE"
    end
    added = waiting
  end
  return list
end

--- All phases of an upgrade, in the order they run.
---@param target string|nil an installation; its phases/*.lua are a project's own
---@param directories string[]|nil further folders with phase scripts
---@param sourced { from: string, scripts: { file: string, data: string }[] }|false|nil those that
---  the source brings
---@return table[]|nil phases
---@return string? message
---@return string? code
---@return string? next what to do
function phases.all(target, directories, sourced)
  local list, message, code = read_built_in()
  if not list then return nil, message, code end
  local folders = {}
  if target and core.file.exists(target .. "/phases") then folders[1] = target .. "/phases" end
  for _, directory in ipairs(directories or {}) do folders[#folders + 1] = directory end
  local added = {}
  for _, folder in ipairs(folders) do
    local more, next_step
    more, message, code, next_step = read_directory(folder)
    if not more then return nil, message, code, next_step end
    table.move(more, 1, #more, #added + 1, added)
  end
  for _, script in ipairs(sourced and sourced.scripts or {}) do
    local phase
    phase, message, code = phases.read(script.file, script.data)
    if not phase then
      return nil, message, code, "the source brings this script, in " .. text.visible(sourced.from)
        .. "; take another commit of it, or tell those who ship it"
    end
    phase.from, phase.of_source = sourced.from, true
    added[#added + 1] = phase
  end
  return place_all(list, added)
end

--- The phase with an id, or a built-in one by number.
---@param list table[]
---@param key string|integer
---@return table|nil phase
---@return integer? index
function phases.find(list, key)
  for i, phase in ipairs(list) do
    if phase.id == key or phase.number == key then return phase, i end
  end
end

-- For `phase check`, which looks at the parts of a script on their own.
phases.DESCRIPTION, phases.describe, phases.stem = DESCRIPTION, describe, stem
phases.built_in, phases.place_all = read_built_in, place_all

return phases
