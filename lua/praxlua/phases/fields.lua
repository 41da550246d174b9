--- Checks the table of a phase script, field by field, so that every mistake in it is told at once.
--
-- What may be in it is phases.DESCRIPTION, the schema an upgrade goes by; this module adds where a
-- field stands and how to mend it.
local evidence = require("praxlua.evidence")
local findings = require("praxlua.phases.findings")
local lists = require("praxlua.lists")
local outline = require("praxlua.phases.outline")
local phases = require("praxlua.phases")
local schema = require("praxlua.schema")
local text = require("praxlua.text")

local fields = {}

local shown = findings.shown

-- How to mend a field that is not there, or not right; by path, without the position in a list.
local MENDS = {
  title = 'say in a few words what it does: title = "Rename the theme key"',
  after = 'name the phase it follows: after = "content-upgrade"',
  before = 'name the phase it precedes: before = "cleanup-documentation"',
  manual = "say what a person has to do, in one sentence",
  grants = 'it is a table: grants = { target = "write" }',
  ["grants.source"] = 'the source can only be read: source = "read"',
  ["grants.target"] = 'write target = "read" or target = "write"',
  ["grants.project"] = 'write project = "read" or project = "write"',
  ["grants.services"] = 'it is a list of names: services = { "validation" }',
  ["grants.tools"] = 'it is a list of programs\' names: tools = { "git" }',
  ["grants.network"] = "write network = true, or leave it out",
  limits = "it is a table: limits = { wall = 30 }",
  ["limits.wall"] = "it is in seconds: wall = 30",
  ["limits.cpu"] = "it is in whole seconds: cpu = 5",
  ["limits.memory"] = "it is in bytes: memory = 64 * MiB",
  ["limits.instructions"] = "it is a number of instructions: instructions = 50e6",
  ["limits.output"] = "it is in bytes: output = 256 * KiB",
  ["limits.messages"] = "it is a number of calls: messages = 1000",
  evidence = "it is a table of fields: evidence = { keys_renamed = integer{ min = 0 } }",
}

local LIMITS_HINT = {
  instructions = { 10000, "hardly enough for anything; the default is 50 million" },
  wall = { 0.05, "less than a single call of the host may take; it is in seconds" },
}

local function joined(path, key)
  if math.type(key) == "integer" then return string.format("%s[%d]", path, key) end
  return path == "" and tostring(key) or path .. "." .. tostring(key)
end

local function mend_of(path) return MENDS[path] or MENDS[(path:gsub("%[%d+%]$", ""))] end

-- A value that is not one of a list, with the word that was probably meant.
local function not_one_of(c, s, value, path)
  local near = type(value) == "string" and text.nearest(value, s.one_of)
  c.list:mistake(outline.line(c.lines, path), string.format("%s: there is no '%s'", path,
    shown(value)), near and string.format('did you mean "%s"?', near)
      or mend_of(path) or "one of: " .. table.concat(s.one_of, ", "))
end

local walk

-- The fields as they are written; a worker tells of `run` only whether it is there.
local function names_of(s)
  local names = lists.sorted_keys(s.fields)
  for i, name in ipairs(names) do
    if name == "runs" then names[i] = "run" end
  end
  return names
end

local function unknown_field(c, s, key, path)
  local names = names_of(s)
  local function mend()
    local near = text.nearest(tostring(key), names)
    return near and string.format("did you mean '%s'?", near)
      or "the fields are: " .. table.concat(names, ", ")
  end
  c.list:mistake(outline.line(c.lines, joined(path, key)), string.format(
    "'%s' is no field of %s", shown(key), path == "" and "a phase" or path), mend)
end

local function walk_object(c, s, value, path)
  for _, key in ipairs(lists.sorted_keys(value)) do
    if not s.fields[key] then unknown_field(c, s, key, path) end
  end
  for _, key in ipairs(lists.sorted_keys(s.fields)) do
    local of, at = s.fields[key], joined(path, key)
    if value[key] ~= nil then
      walk(c, of, value[key], at)
    elseif of.kind ~= "optional" then
      c.list:mistake(outline.line(c.lines, at), string.format("the phase has no %s", at),
        mend_of(at))
    end
  end
end

function walk(c, s, value, path)
  if s.kind == "optional" then s = s.of end
  if s.kind == "object" and type(value) == "table" then return walk_object(c, s, value, path) end
  if s.kind == "array" and schema.check(schema.array(schema.any()), value) then
    for i, of in ipairs(value) do walk(c, s.of, of, joined(path, i)) end
    return
  end
  if s.one_of and type(value) == "string" then
    if not schema.check(s, value) then not_one_of(c, s, value, path) end
    return
  end
  local ok, message = schema.check(s, value, path)
  local told_later = s == phases.TOOL and type(value) == "string" and value ~= "" -- check_tools
  if ok or told_later then return end
  c.list:mistake(outline.line(c.lines, path), message, mend_of(path))
end

-- Each field of the evidence on its own, as evidence.custom sees it.
local function check_evidence(c, of)
  if type(of) ~= "table" then return end
  for _, key in ipairs(lists.sorted_keys(of)) do
    local ok, message = evidence.custom({ [key] = of[key] })
    if not ok then
      c.list:mistake(outline.line(c.lines, joined("evidence", key)), message,
        "declare it with a type of the prelude: integer{ min = 0 }, string_of{}, boolean{}, "
          .. "array_of(string_of{})")
    end
  end
end

local function check_id(c, found)
  local stem = phases.stem(c.name)
  if type(found.id) ~= "string" or found.id == stem then return end
  c.list:mistake(outline.line(c.lines, "id"), string.format("its id is '%s', but the file name "
    .. "says '%s'", shown(found.id), shown(stem)), "leave id out, or give the file the id's name")
end

local function check_runs(c, found)
  local line = outline.line(c.lines, "run")
  if found.manual ~= nil and found.runs then
    c.list:mistake(line, "a manual phase is done by a person and has no function phase.run",
      "leave out manual, or phase.run")
  elseif found.manual == nil and not found.runs then
    c.list:mistake(line, "the phase has no function phase.run(host)",
      "add function phase.run(host) … end in front of the last line")
  end
end

local function check_placed(c, found)
  local stem = phases.stem(c.name)
  for _, file in pairs(phases.BUILT_IN) do
    if phases.stem(file) == stem then
      return c.list:hint(outline.line(c.lines, ""), string.format("it replaces the built-in phase "
        .. "'%s'", stem), "it must return that phase's evidence; see docs/phases.md")
    end
  end
  if found.after == nil and found.before == nil then
    c.list:mistake(outline.line(c.lines, ""), "nothing says when it runs",
      'add after = "content-upgrade", or before = with the id of a phase')
  end
end

local function check_tools(c, grants)
  local tools = type(grants) == "table" and grants.tools
  for i, tool in ipairs(type(tools) == "table" and tools or {}) do
    if type(tool) == "string" and tool:find("/", 1, true) then
      c.list:mistake(outline.line(c.lines, joined("grants.tools", i)), string.format(
        "the tool '%s' is named with a folder", shown(tool)),
        "name the program alone; it is looked for on PATH")
    end
  end
end

local function hint_at_limits(c, limits)
  for name, rule in pairs(LIMITS_HINT) do
    local value = type(limits) == "table" and limits[name]
    if type(value) == "number" and value > 0 and value < rule[1] then
      c.list:hint(outline.line(c.lines, "limits." .. name), string.format("limits.%s = %g is %s",
        name, value, rule[2]))
    end
  end
end

--- Checks the description of a phase.
---@param list table of findings.new
---@param name string the script's file name
---@param lines table of outline.of
---@param found table as a worker described it
function fields.check(list, name, lines, found)
  local c = { list = list, name = name, lines = lines }
  walk(c, phases.DESCRIPTION, found, "")
  check_evidence(c, found.evidence)
  check_id(c, found)
  check_runs(c, found)
  check_placed(c, found)
  check_tools(c, found.grants)
  hint_at_limits(c, found.limits)
end

return fields
