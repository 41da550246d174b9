--- Manual phases: steps of an upgrade that a person does, who says so with evidence.
--
-- Such a phase has no script to run, only a text that tells what has to be done, and a model of
-- what has to be told afterwards. The upgrade waits there until `praxlua resume --evidence` brings
-- that, or somebody at a terminal types it.
local json = require("praxlua.json")
local lists = require("praxlua.lists")
local schema = require("praxlua.schema")
local text = require("praxlua.text")

local manual = {}

local TRIES = 5 -- how often a field is asked for again

-- The type that is asked for, and whether it may be left out, and be null.
local function inner(of)
  local is_optional, is_nullable = false, false
  while of.kind == "optional" or of.kind == "nullable" do
    is_optional = is_optional or of.kind == "optional"
    is_nullable = is_nullable or of.kind == "nullable"
    of = of.of
  end
  return of, is_optional, is_nullable
end

local WORDS = {
  integer = "a whole number", number = "a number", boolean = "true or false", string = "text",
}

local function described(of)
  local words = WORDS[of.kind] or "JSON (" .. of.kind .. ")"
  if of.equals ~= nil then words = tostring(of.equals) end
  if of.one_of then words = "one of " .. table.concat(of.one_of, ", ") end
  if of.min then words = words .. string.format(", at least %s", of.min) end
  if of.max and of.kind ~= "array" then words = words .. string.format(", at most %s", of.max) end
  return text.visible(words)
end

--- What a manual phase wants to know.
---@param model table from evidence.custom
---@return { name: string, type: string, optional: boolean }[] fields sorted by name
function manual.fields(model)
  local list = json.array()
  for i, name in ipairs(lists.sorted_keys(model.fields)) do
    local of, is_optional, is_nullable = inner(model.fields[name])
    list[i] = {
      name = name, optional = is_optional,
      type = described(of) .. (is_nullable and ", or null with " .. name .. "_reason" or ""),
    }
  end
  return list
end

--- The command that brings the evidence.
---@param session_id string
---@param fields table[] from manual.fields
---@return string
function manual.command(session_id, fields)
  local words = { "praxlua resume " .. session_id }
  for _, field in ipairs(fields) do
    if not field.optional then words[#words + 1] = "--evidence " .. field.name .. "=VALUE" end
  end
  if #words == 1 then words[2] = "--evidence NAME=VALUE" end
  return table.concat(words, " ")
end

-- A typed word as a value of a type. What it cannot be stays a string, which the check refuses.
local function value_of(field, word)
  local of, _, is_nullable = inner(field)
  if is_nullable and word == "null" then return json.null end
  if of.kind == "string" then return word end
  if of.kind == "integer" then return math.tointeger(tonumber(word)) or word end
  if of.kind == "number" then return tonumber(word) or word end
  if of.kind == "boolean" then
    if word == "true" or word == "false" then return word == "true" end
    return word
  end
  local value = json.decode(word)
  if value == nil then return word end
  return value
end

--- The evidence that was given on the command line. A later entry counts more than an earlier one.
---@param model table
---@param given { name: string?, word: string?, values: table? }[] one field as it was typed, or
---  several as data
---@return table evidence to be checked against the model
function manual.evidence(model, given)
  local found = {}
  for _, entry in ipairs(given) do
    for name, value in pairs(entry.values or {}) do found[name] = value end
    if entry.name then
      local of = model.fields[entry.name]
      found[entry.name] = entry.word
      if of then found[entry.name] = value_of(of, entry.word) end
    end
  end
  return found
end

-- Asks for one field until the answer fits. false: it is left out; nil: it is left for later.
local function ask_field(prompt, field, of)
  local question = string.format("%s (%s)", field.name, field.type)
  for _ = 1, TRIES do
    local word = prompt(question)
    if word == nil then return nil end
    if word == "" then
      if field.optional then return false end
      return nil
    end
    local value = value_of(of, word)
    local ok, message = true, nil
    if value ~= json.null then ok, message = schema.check(inner(of), value, field.name) end
    if ok then return { value = value } end
    question = message .. "; " .. field.name
  end
  return nil
end

--- Asks a person at a terminal for the evidence, field by field.
---@param model table
---@param prompt fun(question: string): string|nil the typed line; nil at the end of the input
---@return table|nil evidence nil when a field that has to be there was left open
function manual.ask(model, prompt)
  local found = {}
  for _, field in ipairs(manual.fields(model)) do
    local of = model.fields[field.name]
    local answer = ask_field(prompt, field, of)
    if answer == nil then return nil end
    if answer then found[field.name] = answer.value end
    if answer and answer.value == json.null then
      local reason = prompt(field.name .. "_reason (a word such as not_run)")
      if not reason or reason == "" then return nil end
      found[field.name .. "_reason"] = reason
    end
  end
  return found
end

return manual
