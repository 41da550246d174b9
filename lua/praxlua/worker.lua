--- The prelude of a phase worker: what a phase script finds around it.
--
-- This chunk runs inside the sandbox (runtime/sandbox.c) with the arguments
--   call     function(verb, ...): asks the host; the only way out
--   mode     "describe": what the script is; "describe_all": what each of some is; "run": its
--            phase.run(host); "settings": what it returns, which is no phase
--   name     the script's file name, for messages
--   source   its text; for some, an array of { name, text }
--   context  { known = names of all verbs, artifacts = evidence by phase, options = the user's }
-- and returns the description, the evidence or the settings.
local call, mode, name, source, context = ...

KiB, MiB, GiB = 1024, 1024 * 1024, 1024 * 1024 * 1024

local function constructor(kind)
  return function(parameters)
    local made = { kind = kind }
    for key, value in pairs(parameters or {}) do made[key] = value end
    return made
  end
end

integer, number, string_of = constructor("integer"), constructor("number"), constructor("string")
boolean, any = constructor("boolean"), constructor("any")

local function wrapper(kind)
  return function(of, max)
    if type(of) ~= "table" then error(kind .. " takes the type it is made of", 2) end
    return { kind = kind, of = of, max = max }
  end
end

array_of, map_of = wrapper("array"), wrapper("map")
optional, nullable = wrapper("optional"), wrapper("nullable")

-- What the host fills in by itself: how often it did a verb for this phase, and what it answered
-- to it last.
function receipts_of(verb) return { kind = "receipts", verb = verb } end
function answer_of(verb, field) return { kind = "answer", verb = verb, field = field } end

function object(fields) return { kind = "object", fields = fields } end

-- What a host call returned, or the end of the phase with the host's message as it is (assert would
-- put a line number in front of what a person is to read).
function need(value, message, ...)
  if value == nil or value == false then error(message or "the host refused", 0) end
  return value, message, ...
end

-- A table of verbs, in which a wrong name is an error that says so.
local function group_of(prefix)
  return setmetatable({}, {
    __index = function(_, missing)
      error("there is no host." .. prefix .. tostring(missing), 2)
    end,
  })
end

-- host.backup.create_backup(...) asks for the verb "backup.create_backup". All verbs are there; one
-- that was not granted ends the phase.
local function make_host(known)
  local host = group_of("")
  rawset(host, "artifacts", context.artifacts)
  rawset(host, "options", context.options)
  for _, verb in ipairs(known) do
    local function ask(...) return call(verb, ...) end
    local group, last = verb:match("^(.-)%.(.+)$")
    if group then
      if not rawget(host, group) then rawset(host, group, group_of(group .. ".")) end
      rawset(host[group], last, ask)
    else
      rawset(host, verb, ask)
    end
  end
  return host
end

-- The data of a phase table: everything but its functions, which cannot leave this process.
local function data_of(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, of in pairs(value) do
    if type(of) ~= "function" then copy[key] = data_of(of) end
  end
  return copy
end

local DEEPEST = 16 -- levels of settings

-- Settings are values: what could not leave this process is named, and not left out.
local function check_values(value, path, depth)
  local kind = type(value)
  if kind ~= "table" then
    if kind == "string" or kind == "boolean" or kind == "number" then return end
    error(name .. ": " .. path .. " is a " .. kind .. "; settings are values", 0)
  end
  if depth > DEEPEST then
    error(name .. ": " .. path .. " is nested deeper than any setting, or holds itself", 0)
  end
  for key, of in next, value do
    if type(key) ~= "string" and math.type(key) ~= "integer" then
      error(name .. ": " .. path .. " has a key that is a " .. type(key), 0)
    end
    check_values(of, path == "settings" and tostring(key) or path .. "." .. tostring(key),
      depth + 1)
  end
end

local function value_of(file, text)
  local chunk, message = load(text, "@" .. file, "t")
  if not chunk then error(message, 0) end
  return chunk()
end

local function phase_of(file, text)
  local phase = value_of(file, text)
  if type(phase) ~= "table" then
    error(file .. ": a phase script must end with `return phase`, a table; it returned "
      .. type(phase), 0)
  end
  return phase
end

local function description_of(file, text)
  local phase = phase_of(file, text)
  local described = data_of(phase)
  described.run, described.runs = nil, type(phase.run) == "function"
  return described
end

if mode == "settings" then
  local settings = value_of(name, source)
  if type(settings) ~= "table" then
    error(name .. ": it must end with `return settings`, a table; it returned "
      .. type(settings), 0)
  end
  check_values(settings, "settings", 1)
  return settings
end
if mode == "describe" then return description_of(name, source) end
if mode == "describe_all" then
  local all = {}
  for i, script in ipairs(source) do all[i] = description_of(script[1], script[2]) end
  return all
end
local phase = phase_of(name, source)
if type(phase.run) ~= "function" then
  error(name .. ": the phase has no function phase.run(host)", 0)
end
return phase.run(make_host(context.known))
