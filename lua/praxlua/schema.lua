--- Closed, typed schemas as plain data, and the one function that checks a value against them.
--
-- A schema is a table with a `kind`, made by the constructors below; it holds no functions, so it
-- crosses the channel to the worker and comes from a phase script as data. Objects are closed: a
-- field that is not declared is refused, with its name.
local json = require("praxlua.json")
local lists = require("praxlua.lists")

local schema = {}

--- The kinds of schema and the parameters each takes, for schema.valid and the documentation.
---@type table<string, table<string, string>>
schema.PARAMETERS = {
  any = {},
  boolean = { equals = "boolean" },
  integer = { min = "number", max = "number" },
  number = { min = "number", max = "number" },
  string = {
    pattern = "string", one_of = "table", min_length = "number", max_length = "number",
  },
  array = { of = "schema", max = "number" },
  map = { of = "schema", max = "number" },
  object = { fields = "fields" },
  optional = { of = "schema" },
  nullable = { of = "schema" },
  receipts = { verb = "string" },
  answer = { verb = "string", field = "string" },
}

local PARAMETERS = schema.PARAMETERS
-- The kinds that the host attests, for a phase's evidence only: it fills them from its receipts.
local ATTESTED = { receipts = true, answer = true }

local function make(kind, parameters)
  local made = { kind = kind }
  for name, value in pairs(parameters or {}) do
    if PARAMETERS[kind][name] == nil then
      error(string.format("schema.%s: no parameter '%s'", kind, tostring(name)), 3)
    end
    made[name] = value
  end
  return made
end

--- Whole numbers, min..max inclusive.
---@param parameters { min: integer?, max: integer? }?
---@return table schema
function schema.integer(parameters) return make("integer", parameters) end

--- Finite numbers, min..max inclusive.
---@param parameters { min: number?, max: number? }?
---@return table schema
function schema.number(parameters) return make("number", parameters) end

--- Strings. pattern: a Lua pattern; one_of: the array of allowed values; lengths in bytes.
---@param parameters { pattern: string?, one_of: string[]?, min_length: integer?,
---  max_length: integer? }?
---@return table schema
function schema.string(parameters) return make("string", parameters) end

--- true or false; with `equals`, only that one.
---@param parameters { equals: boolean? }?
---@return table schema
function schema.boolean(parameters) return make("boolean", parameters) end

--- Sequences whose elements all match `of`.
---@param of table schema
---@param max integer? the longest accepted
---@return table schema
function schema.array(of, max) return make("array", { of = of, max = max }) end

--- String keys to values that all match `of`.
---@param of table schema
---@param max integer? the most keys accepted
---@return table schema
function schema.map(of, max) return make("map", { of = of, max = max }) end

--- A closed record: exactly these fields (less the optional ones).
---@param fields table<string, table> field to schema
---@return table schema
function schema.object(fields) return make("object", { fields = fields }) end

--- A field that may be absent.
---@param of table schema
---@return table schema
function schema.optional(of) return make("optional", { of = of }) end

--- A field that may be null (absent counts as null) when `<field>_reason` beside it, in the same
--- object, says why: "not_run", "not_reported", ... (lower case words joined by _).
---@param of table schema
---@return table schema
function schema.nullable(of) return make("nullable", { of = of }) end

--- Anything that has a JSON form.
---@return table schema
function schema.any() return make("any") end

--- A field of a phase's evidence that the host fills with how often it did a verb for the phase.
---@param verb string "target.write"
---@return table schema
function schema.receipts_of(verb) return make("receipts", { verb = verb }) end

--- A field of a phase's evidence that the host fills with what it last answered to a verb, or with
--- one field of that; null when the verb was never called, or its last call failed.
---@param verb string "backup.verify_backup_integrity"
---@param field string?
---@return table schema
function schema.answer_of(verb, field) return make("answer", { verb = verb, field = field }) end

--- Whether a schema is one of those two.
---@param s table
---@return boolean
function schema.is_attested(s) return ATTESTED[s.kind] or false end

-- ---------------------------------------------------------------------------------------------

local function described(value)
  if value == nil then return "nothing" end
  if value == json.null then return "null" end
  if type(value) == "number" then return math.type(value) == "integer" and "integer" or "number" end
  return type(value)
end

local function refuse(path, what)
  return nil, string.format("%s: %s", path ~= "" and path or "value", what), "ESCHEMA"
end

local function expected(path, what, value)
  return refuse(path, string.format("expected %s, got %s", what, described(value)))
end

-- A field's name as it may be shown in a message.
local function joined(path, key)
  if type(key) == "number" then return string.format("%s[%d]", path, key) end
  local shown = tostring(key):sub(1, 81):gsub("[^%w_%-]", function(c)
    return string.format("\\x%02X", c:byte())
  end)
  if #shown > 80 then shown = shown:sub(1, 77) .. "..." end
  return path == "" and shown or path .. "." .. shown
end

local check
local checks = {}

local function in_range(s, value, path)
  if s.min and value < s.min then
    return refuse(path, string.format("%s is less than %s", value, s.min))
  end
  if s.max and value > s.max then
    return refuse(path, string.format("%s is more than %s", value, s.max))
  end
  return true
end

function checks.integer(s, value, path)
  if math.type(value) ~= "integer" then return expected(path, "integer", value) end
  return in_range(s, value, path)
end

function checks.number(s, value, path)
  if type(value) ~= "number" then return expected(path, "number", value) end
  if value ~= value or value == math.huge or value == -math.huge then
    return refuse(path, "expected a finite number")
  end
  return in_range(s, value, path)
end

function checks.boolean(s, value, path)
  if type(value) ~= "boolean" then return expected(path, "boolean", value) end
  if s.equals ~= nil and value ~= s.equals then
    return refuse(path, "expected " .. tostring(s.equals))
  end
  return true
end

function checks.string(s, value, path)
  if type(value) ~= "string" then return expected(path, "string", value) end
  if s.min_length and #value < s.min_length then
    return refuse(path, s.min_length == 1 and "must not be empty"
      or string.format("shorter than %d bytes", s.min_length))
  end
  if s.max_length and #value > s.max_length then
    return refuse(path, string.format("longer than %d bytes", s.max_length))
  end
  if s.pattern and not value:find(s.pattern) then
    return refuse(path, "does not match " .. s.pattern)
  end
  if not s.one_of then return true end
  for _, allowed in ipairs(s.one_of) do
    if value == allowed then return true end
  end
  return refuse(path, "expected one of: " .. table.concat(s.one_of, ", "))
end

function checks.array(s, value, path)
  if type(value) ~= "table" then return expected(path, "array", value) end
  local count = 0
  for key in next, value do
    if math.type(key) ~= "integer" then return refuse(path, "expected array, got object") end
    count = count + 1
  end
  if s.max and count > s.max then
    return refuse(path, string.format("more than %d elements", s.max))
  end
  for i = 1, count do
    if value[i] == nil then return refuse(path, "an array with holes") end
    local ok, message, code = check(s.of, value[i], joined(path, i))
    if not ok then return nil, message, code end
  end
  return true
end

function checks.map(s, value, path)
  if type(value) ~= "table" then return expected(path, "map", value) end
  local keys = lists.sorted_keys(value)
  if s.max and #keys > s.max then
    return refuse(path, string.format("more than %d keys", s.max))
  end
  for _, key in ipairs(keys) do
    if type(key) ~= "string" then return refuse(path, "a key is not a string") end
    local ok, message, code = check(s.of, value[key], joined(path, key))
    if not ok then return nil, message, code end
  end
  return true
end

local function check_nullable(s, object, field, path)
  local reason, reason_path = object[field .. "_reason"], joined(path, field .. "_reason")
  local value = object[field]
  if value ~= nil and value ~= json.null then
    if reason ~= nil then return refuse(reason_path, "a reason beside a value that is not null") end
    return check(s.of, value, joined(path, field))
  end
  if reason == nil then
    return refuse(joined(path, field),
      string.format("null without %s_reason beside it", field))
  end
  if type(reason) ~= "string" then return expected(reason_path, "string", reason) end
  if not reason:find("^[a-z][a-z0-9_]*$") or #reason > 80 then
    return refuse(reason_path, "expected a word such as not_run or not_reported")
  end
  return true
end

local function check_field(s, object, field, path)
  local value = object[field]
  if s.kind == "optional" then
    if value == nil then return true end
    s = s.of
  end
  if s.kind == "nullable" then return check_nullable(s, object, field, path) end
  if s.kind == "answer" and value == nil then return true end
  if value == nil then return refuse(joined(path, field), "missing") end
  return check(s, value, joined(path, field))
end

local function is_declared(fields, key)
  if type(key) ~= "string" then return false end
  if fields[key] then return true end
  local base = key:match("^(.+)_reason$")
  local s = base and fields[base]
  if s and s.kind == "optional" then s = s.of end
  return s ~= nil and s.kind == "nullable"
end

function checks.object(s, value, path)
  if type(value) ~= "table" then return expected(path, "object", value) end
  for _, key in ipairs(lists.sorted_keys(value)) do
    if not is_declared(s.fields, key) then
      return refuse(joined(path, key), "not a field of this object")
    end
  end
  for _, field in ipairs(lists.sorted_keys(s.fields)) do
    local ok, message, code = check_field(s.fields[field], value, field, path)
    if not ok then return nil, message, code end
  end
  return true
end

-- Whatever is recorded has a place some levels deep in a session's file.
local ANY_DEPTH = json.MAX_DEPTH - 6

function checks.any(_, value, path)
  if value == nil then return refuse(path, "missing") end
  local ok, problem = pcall(json.encode, value, { max_depth = ANY_DEPTH })
  if ok then return true end
  return refuse(path, "expected a value with a JSON form: " .. tostring(problem):gsub("^[%w.]+: ",
    ""))
end

function checks.receipts(_, value, path) return checks.integer({ min = 0 }, value, path) end

checks.answer = checks.any

function checks.optional(s, value, path)
  if value == nil then return true end
  return check(s.of, value, path)
end

-- Outside an object there is no place for a reason, so null alone will do.
function checks.nullable(s, value, path)
  if value == nil or value == json.null then return true end
  return check(s.of, value, path)
end

function check(s, value, path)
  local by_kind = checks[s.kind] or error("schema.check: no kind '" .. tostring(s.kind) .. "'", 0)
  return by_kind(s, value, path)
end

--- Checks a value. The message names the field: "changes.added: expected integer, got string".
---@param s table schema
---@param value any
---@param path string? what the value is called in messages
---@return true|nil
---@return string? message
---@return string? code "ESCHEMA"
function schema.check(s, value, path)
  assert(type(s) == "table", "schema.check: the schema must be a table")
  return check(s, value, path or "")
end

-- ---------------------------------------------------------------------------------------------
-- Schemas that come from outside

local valid

local function valid_parameter(s, name, wanted, path, depth)
  local value = s[name]
  if wanted == "schema" then return valid(value, joined(path, "of"), depth) end
  if wanted == "fields" then
    if type(value) ~= "table" then return expected(path, "a table of fields", value) end
    for _, key in ipairs(lists.sorted_keys(value)) do
      if type(key) ~= "string" or not key:find("^[%a_][%w_]*$") or #key > 64 then
        return refuse(joined(path, key), "not a field name (letters, digits and _)")
      end
      local ok, message, code = valid(value[key], joined(path, key), depth)
      if not ok then return nil, message, code end
    end
    return true
  end
  if value == nil then return true end
  if type(value) ~= wanted then return expected(joined(path, name), wanted, value) end
  if name == "pattern" then
    return refuse(joined(path, name), "patterns are only for the host's own schemas (use one_of)")
  end
  if name == "one_of" then
    return checks.array({ of = schema.string(), max = 256 }, value, joined(path, name))
  end
  return true
end

function valid(s, path, depth)
  if depth > 8 then return refuse(path, "a schema nested deeper than 8 levels") end
  if type(s) ~= "table" then return expected(path, "a schema such as integer{min=0}", s) end
  local parameters = PARAMETERS[s.kind]
  if type(s.kind) ~= "string" or not parameters then
    return refuse(path, "not a schema: no known kind")
  end
  for _, key in ipairs(lists.sorted_keys(s)) do
    if key ~= "kind" and parameters[key] == nil then
      return refuse(joined(path, key), "not a parameter of " .. s.kind)
    end
  end
  if ATTESTED[s.kind] then
    if depth ~= 2 then return refuse(path, "what the host attests is a field of the evidence") end
    if type(s.verb) ~= "string" then return expected(joined(path, "verb"), "string", s.verb) end
  end
  for name, wanted in pairs(parameters) do
    local ok, message, code = valid_parameter(s, name, wanted, path, depth + 1)
    if not ok then return nil, message, code end
  end
  return true
end

--- Checks that a schema which came from outside (a phase script) is one: known kinds, known
--- parameters, bounded depth, and no Lua patterns, which could stall the host.
---@param s any
---@param path string? what it is called in messages
---@return true|nil
---@return string? message
---@return string? code "ESCHEMA"
function schema.valid(s, path)
  return valid(s, path or "schema", 1)
end

--- The constructors under the names a phase script knows them by.
schema.prelude = {
  integer = schema.integer, number = schema.number, string_of = schema.string,
  boolean = schema.boolean, array_of = schema.array, map_of = schema.map,
  object = schema.object, optional = schema.optional, nullable = schema.nullable,
  any = schema.any, receipts_of = schema.receipts_of, answer_of = schema.answer_of,
}

-- ---------------------------------------------------------------------------------------------
-- JSON Schema

local translate = {}

local function json_schema(s) return translate[s.kind](s) end

function translate.any() return {} end
function translate.answer() return {} end
function translate.receipts() return { type = "integer", minimum = 0 } end
function translate.boolean(s) return { type = "boolean", const = s.equals } end
function translate.integer(s) return { type = "integer", minimum = s.min, maximum = s.max } end
function translate.number(s) return { type = "number", minimum = s.min, maximum = s.max } end
function translate.optional(s) return json_schema(s.of) end

-- Lengths are in bytes here and in characters there, so only "not empty" carries over exactly.
-- A Lua pattern has no counterpart and is left out.
function translate.string(s)
  return {
    type = "string",
    enum = s.one_of and json.array({ table.unpack(s.one_of) }),
    minLength = (s.min_length or 0) > 0 and 1 or nil,
    maxLength = s.max_length,
  }
end

function translate.array(s)
  return { type = "array", items = json_schema(s.of), maxItems = s.max }
end

function translate.map(s)
  return { type = "object", additionalProperties = json_schema(s.of), maxProperties = s.max }
end

function translate.nullable(s)
  return { anyOf = { json_schema(s.of), { type = "null" } } }
end

function translate.object(s)
  local required, properties = json.array(), {}
  for _, field in ipairs(lists.sorted_keys(s.fields)) do
    local of = s.fields[field]
    local is_optional = of.kind == "optional"
    if is_optional then of = of.of end
    properties[field] = json_schema(of)
    if of.kind == "nullable" then properties[field .. "_reason"] = { type = "string" } end
    local may_be_null = of.kind == "nullable" or of.kind == "answer"
    if not is_optional and not may_be_null then required[#required + 1] = field end
  end
  return {
    type = "object", properties = properties, required = required, additionalProperties = false,
  }
end

--- The same schema in the vocabulary of JSON Schema (draft 2020-12), as a table for json.encode.
---@param s table schema
---@return table
function schema.json_schema(s) return json_schema(s) end

return schema
