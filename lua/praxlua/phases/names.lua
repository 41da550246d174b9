--- Checks the names a script uses without having made them: globals, and fields of the libraries.
local calls = require("praxlua.phases.calls")
local findings = require("praxlua.phases.findings")
local globals = require("praxlua.phases.globals")
local lists = require("praxlua.lists")
local reference = require("praxlua.verbs.reference")
local text = require("praxlua.text")

local names = {}

local shown = findings.shown

local function mend_read(name, known)
  if reference.ABSENT[name] then return reference.ABSENT[name] end
  local near = text.nearest(name, known)
  return near and "did you mean " .. near .. "?" or "make it with local, or take it out"
end

-- Which of the accesses are wrong, each name once: where it is first read and first set.
local function wrong_accesses(found, known)
  local set, order, by_name = {}, {}, {}
  for _, access in ipairs(found) do
    if access.sets then set[access.name] = true end
  end
  for _, access in ipairs(found) do
    local name = access.name
    local wrong = access.sets or not known[name] and not set[name]
    if wrong and not by_name[name] then
      by_name[name] = access
      order[#order + 1] = access
    end
  end
  return order
end

local function has_field(library, field)
  for _, name in ipairs(reference.LIBRARIES[library]) do
    if name == field then return true end
  end
  return false
end

local function check_library(list, of)
  local whole = of.library .. "." .. of.field
  local old = of.library == "math" and reference.OLD[of.field]
  if old then return list:hint(of.line, whole .. " is in some builds of Lua 5.4 only", old) end
  list:mistake(of.line, string.format("%s does not exist in a phase", shown(whole)), function()
    local near = text.nearest(of.field, reference.LIBRARIES[of.library])
    return reference.ABSENT[whole]
      or near and string.format("did you mean %s.%s?", of.library, near) or "leave it out"
  end)
end

-- The fields of the libraries that are not there, each once. `read_at`: where globals are read.
local function check_libraries(list, words, read_at)
  local told = {}
  for _, of in ipairs(calls.of_libraries(words)) do
    local whole = of.library .. "." .. of.field
    local is_library = read_at[of.library .. ":" .. of.line]
    if is_library and not told[whole] and not has_field(of.library, of.field) then
      told[whole] = true
      check_library(list, of)
    end
  end
end

--- Checks a compiled script.
---@param list table of findings.new
---@param chunk function
---@param words table of lexer.words
---@return string[] unknown the names that are read and are not there
function names.check(list, chunk, words)
  local found, message = globals.read(string.dump(chunk))
  if not found then
    list:hint(1, "the names of globals were not looked at: " .. message)
    return {}
  end
  local known, unknown, read_at = reference.globals(), {}, {}
  local candidates = lists.sorted_keys(known)
  for _, access in ipairs(wrong_accesses(found, known)) do
    local name = access.name
    if access.sets then
      list:mistake(access.line, string.format("it assigns to the global '%s'", shown(name)),
        "put local in front of it, or make it with local further up")
    else
      unknown[#unknown + 1] = name
      list:mistake(access.line, string.format("'%s' does not exist in a phase", shown(name)),
        function() return mend_read(name, candidates) end)
    end
  end
  for _, access in ipairs(found) do
    if not access.sets then read_at[access.name .. ":" .. access.line] = true end
  end
  check_libraries(list, words, read_at)
  return unknown
end

return names
