--- JSON in one place: a canonical writer of our own, and a reader that has lua-cjson behind a scan.
--
-- Writing: keys sorted bytewise, integers exact, floats finite and in their shortest form, control
-- and direction-changing characters escaped, so equal values give equal bytes and no string can
-- forge a line. Reading: size, depth, number grammar and duplicate keys are checked before
-- lua-cjson sees the text, and what it would lose (integers over 2^53, empty arrays) is carried
-- through it in marked strings.
--
-- Names that are not UTF-8: each bad byte 0xHH is written as \udbff\udfHH (U+10FFHH) and comes
-- back as that byte. A real U+10FF80..U+10FFFF in a string is written as its four bytes.
local cjson = require("cjson")

local json = {}

--- JSON's null. It is a light userdata and therefore true in a condition: compare with ==.
json.null = cjson.null

--- Bytes, and levels of nesting, that encode and decode accept unless told otherwise.
json.MAX_BYTES = 16 * 1024 * 1024
json.MAX_DEPTH = 32

local reader = cjson.new()
reader.decode_invalid_numbers(false)
reader.decode_max_depth(1000)

local ARRAY = { __name = "praxlua.json.array" }

--- Marks a table as an array, so that an empty one is written as [] and not as {}.
---@param t table? a sequence; nil makes a new one
---@return table t the same table
function json.array(t)
  return setmetatable(t or {}, ARRAY)
end

--- Whether a table carries the mark of json.array.
---@param t any
---@return boolean
function json.is_array(t)
  return type(t) == "table" and getmetatable(t) == ARRAY
end

-- ---------------------------------------------------------------------------------------------
-- Writing

local SHORT = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t",
}

local function escape_ascii(c)
  return SHORT[c] or string.format("\\u%04x", c:byte())
end

-- C1 controls and the characters that reorder or hide what a person reads.
local function is_deceptive(code)
  return code >= 0x80 and code <= 0x9f or code == 0x061c or code == 0xfeff
    or code >= 0x200b and code <= 0x200f or code >= 0x2028 and code <= 0x202e
    or code >= 0x2060 and code <= 0x2069
end

local function escape_bytes(bytes)
  return (bytes:gsub(".", function(c) return string.format("\\udbff\\udf%02x", c:byte()) end))
end

-- A run that is valid UTF-8 but not ASCII.
local function escape_run(run)
  return (run:gsub(utf8.charpattern, function(c)
    local code = utf8.codepoint(c)
    if code < 0x80 then return nil end
    if code >= 0x10ff80 then return escape_bytes(c) end
    if is_deceptive(code) then return string.format("\\u%04x", code) end
    return nil
  end))
end

local function escape_wide(s)
  local out, at = {}, 1
  while at <= #s do
    local valid, bad = utf8.len(s, at)
    local stop = valid and #s or bad - 1
    if stop >= at then out[#out + 1] = escape_run(s:sub(at, stop)) end
    if not valid then out[#out + 1] = escape_bytes(s:sub(bad, bad)) end
    at = stop + (valid and 1 or 2)
  end
  return table.concat(out)
end

local function encode_string(s)
  if not s:find('[%c"\\\x80-\xff]') then return '"' .. s .. '"' end
  s = s:gsub('[%c"\\]', escape_ascii)
  if s:find("[\x80-\xff]") then s = escape_wide(s) end
  return '"' .. s .. '"'
end

local function encode_number(n)
  local integer = math.tointeger(n)
  if integer then return string.format("%d", integer) end
  if n ~= n or n == math.huge or n == -math.huge then
    error("json.encode: not a finite number", 0)
  end
  for digits = 14, 17 do
    local written = string.format("%." .. digits .. "g", n):gsub(",", ".")
    if digits == 17 or tonumber(written) == n then return written end
  end
end

-- The number of elements of an array; nil for an object. Raises for what is neither.
local function array_length(t)
  local count, strings = 0, 0
  for key in next, t do
    if math.type(key) == "integer" then
      count = count + 1
    elseif type(key) == "string" then
      strings = strings + 1
    else
      error("json.encode: a key is a " .. type(key), 0)
    end
  end
  if count == 0 and not (strings == 0 and json.is_array(t)) then
    if json.is_array(t) then error("json.encode: an array has string keys", 0) end
    return nil
  end
  if strings > 0 then error("json.encode: a table has both integer and string keys", 0) end
  for i = 1, count do
    if rawget(t, i) == nil then error("json.encode: an array has holes", 0) end
  end
  return count
end

local write

local function write_members(out, t, length, state, depth)
  local pretty = state.pretty
  local break_line = pretty and "\n" .. string.rep("  ", depth) or ""
  if length then
    for i = 1, length do
      out[#out + 1] = (i > 1 and "," or "") .. break_line
      write(out, t[i], state, depth)
    end
    return
  end
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do
    out[#out + 1] = (i > 1 and "," or "") .. break_line .. encode_string(key)
      .. (pretty and ": " or ":")
    write(out, t[key], state, depth)
  end
end

local function write_table(out, t, state, depth)
  if depth >= state.max_depth then
    error("json.encode: nested deeper than " .. state.max_depth .. " levels (or in a cycle)", 0)
  end
  local length = array_length(t)
  out[#out + 1] = length and "[" or "{"
  if next(t) ~= nil then
    write_members(out, t, length, state, depth + 1)
    if state.pretty then out[#out + 1] = "\n" .. string.rep("  ", depth) end
  end
  out[#out + 1] = length and "]" or "}"
end

function write(out, value, state, depth)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = encode_string(value)
  elseif kind == "number" then
    out[#out + 1] = encode_number(value)
  elseif kind == "boolean" then
    out[#out + 1] = tostring(value)
  elseif value == json.null then
    out[#out + 1] = "null"
  elseif kind == "table" then
    write_table(out, value, state, depth)
  else
    error("json.encode: a " .. kind .. " has no JSON form", 0)
  end
end

--- The canonical text of a value. Raises for what has no JSON form: functions, holes, mixed keys,
--- numbers that are not finite, nesting beyond max_depth (which catches cycles).
---@param value any nil is not a value; use json.null
---@param options { pretty: boolean?, max_depth: integer? }? pretty: two spaces a level
---@return string text without a final newline
function json.encode(value, options)
  local state = {
    pretty = options and options.pretty,
    max_depth = options and options.max_depth or json.MAX_DEPTH,
  }
  local out = {}
  write(out, value, state, 0)
  return table.concat(out)
end

-- ---------------------------------------------------------------------------------------------
-- Reading

-- What lua-cjson would lose travels through it as a string that begins with U+10FF00: then "i" and
-- an integer's digits, "a" for an empty array, "s" and a string that began with the mark itself.
local MARK = "\u{10ff00}"
local ESCAPED_MARK = "^\\u[dD][bB][fF][fF]\\u[dD][fF]00"

local function restore_bytes(s)
  if not s:find("\xf4\x8f[\xbe\xbf]") then return s end
  return (s:gsub("\xf4\x8f([\xbe\xbf])([\x80-\xbf])", function(high, low)
    return string.char(low:byte() | (high == "\xbf" and 0x40 or 0))
  end))
end

local function fail(state, at, what)
  state.message = string.format("%s at byte %d", what, at)
  state.code = state.code or "EJSON"
  return nil
end

local function replace(state, from, to, with)
  local out = state.out
  out[#out + 1] = state.text:sub(state.copied, from - 1)
  out[#out + 1] = with
  state.copied = to + 1
end

-- The position of the quote that ends the string opened at `at`.
local function string_end(state, at)
  local text, from = state.text, at + 1
  while true do
    local stop = text:find('[%z\1-\31"\\]', from)
    if not stop then return fail(state, at, "a string without an end") end
    local c = text:sub(stop, stop)
    if c == '"' then return stop end
    if c ~= "\\" then return fail(state, stop, "a control character in a string") end
    from = stop + 2
  end
end

local function decoded_key(raw)
  if raw:find("\\", 1, true) then
    local ok, value = pcall(reader.decode, '["' .. raw .. '"]')
    if not ok then return nil end
    raw = value[1]
  end
  return restore_bytes(raw)
end

local function scan_string(state, at, keys)
  local text = state.text
  local stop = string_end(state, at)
  if not stop then return nil end
  if keys and text:find("^[ \t\r\n]*:", stop + 1) then
    local key = decoded_key(text:sub(at + 1, stop - 1))
    if not key then return fail(state, at, "a key with a bad escape") end
    if keys[key] then return fail(state, at, "a key that is there twice") end
    keys[key] = true
  elseif text:find("^" .. MARK, at + 1) or text:find(ESCAPED_MARK, at + 1) then
    replace(state, at, at, '"' .. MARK .. "s")
  end
  return stop + 1
end

local function scan_number(state, at)
  local text = state.text
  local _, stop = text:find("^[%d%.eE+-]+", at)
  local token = text:sub(at, stop)
  local whole, rest = token:match("^%-?(%d+)(.*)$")
  if not whole or #whole > 1 and whole:sub(1, 1) == "0" then
    return fail(state, at, "a malformed number")
  end
  if rest ~= "" then
    local exponent = rest:gsub("^%.%d+", "", 1)
    if exponent ~= "" and not exponent:find("^[eE][+-]?%d+$") then
      return fail(state, at, "a malformed number")
    end
  end
  local value = tonumber(token)
  if value == math.huge or value == -math.huge then
    return fail(state, at, "a number that is out of range")
  end
  if rest == "" and #whole > 15 then
    replace(state, at, stop, '"' .. MARK .. "i" .. token .. '"')
  end
  return stop + 1
end

local function scan_open(state, at, stack)
  local text = state.text
  if #stack >= state.max_depth then
    state.code = "EDEPTH"
    return fail(state, at, "nesting deeper than " .. state.max_depth .. " levels")
  end
  if text:sub(at, at) == "[" then
    local _, close = text:find("^[ \t\r\n]*%]", at + 1)
    if close then
      replace(state, at, close, '"' .. MARK .. 'a"')
      return close + 1
    end
    stack[#stack + 1] = false
  else
    stack[#stack + 1] = {}
  end
  return at + 1
end

-- Walks the tokens once. The grammar as a whole is lua-cjson's to judge; this looks only at what
-- it would accept, lose or die of.
local function scan(state)
  local text, at, stack = state.text, 1, {}
  while true do
    at = text:find('["%[%]{}%d%-]', at)
    if not at then break end
    local c = text:sub(at, at)
    if state.max_values and c ~= "]" and c ~= "}" then
      state.values = state.values + 1
      if state.values > state.max_values then
        state.code = "EFBIG"
        return fail(state, at, "more than " .. state.max_values .. " values")
      end
    end
    if c == '"' then
      at = scan_string(state, at, stack[#stack])
    elseif c == "[" or c == "{" then
      at = scan_open(state, at, stack)
    elseif c == "]" or c == "}" then
      stack[#stack] = nil
      at = at + 1
    else
      at = scan_number(state, at)
    end
    if not at then return nil end
  end
  if state.copied == 1 then return text end
  state.out[#state.out + 1] = text:sub(state.copied)
  return table.concat(state.out)
end

local restore

local function restore_table(t)
  local renamed
  for key, value in next, t do
    t[key] = restore(value)
    if type(key) == "string" and restore_bytes(key) ~= key then
      renamed = renamed or {}
      renamed[#renamed + 1] = key
    end
  end
  for _, key in ipairs(renamed or {}) do
    local value = t[key]
    t[key] = nil
    t[restore_bytes(key)] = value
  end
  return t
end

function restore(value)
  local kind = type(value)
  if kind == "table" then return restore_table(value) end
  if kind == "number" then return math.tointeger(value) or value end
  if kind ~= "string" then return value end
  if value:sub(1, #MARK) == MARK then
    local tag, rest = value:sub(#MARK + 1, #MARK + 1), value:sub(#MARK + 2)
    if tag == "a" then return json.array() end
    if tag == "i" then return math.tointeger(tonumber(rest)) or tonumber(rest) end
    value = rest
  end
  return restore_bytes(value)
end

--- The value of a JSON text. Integral numbers are integers, null is json.null, an empty array
--- carries the mark of json.array.
---@param text string UTF-8
---@param options { max_bytes: integer?, max_depth: integer?, max_values: integer? }? max_values:
---  tables, keys, strings and numbers together; a short text can hold very many
---@return any|nil value
---@return string? message what is wrong and at which byte
---@return string? code "EJSON" | "EFBIG" | "EDEPTH"
function json.decode(text, options)
  assert(type(text) == "string", "json.decode: text must be a string")
  local max_bytes = options and options.max_bytes or json.MAX_BYTES
  if #text > max_bytes then
    return nil, string.format("JSON: %d bytes, the limit is %d", #text, max_bytes), "EFBIG"
  end
  local valid, bad = utf8.len(text)
  if not valid then return nil, "JSON: not UTF-8 at byte " .. bad, "EJSON" end
  -- lua-cjson takes a NUL for the end of the text and would ignore what follows.
  local nul = text:find("\0", 1, true)
  if nul then return nil, "JSON: a NUL at byte " .. nul, "EJSON" end
  local state = {
    text = text, copied = 1, out = {}, values = 0,
    max_depth = options and options.max_depth or json.MAX_DEPTH,
    max_values = options and options.max_values,
  }
  local prepared = scan(state)
  if not prepared then return nil, "JSON: " .. state.message, state.code end
  local ok, value = pcall(reader.decode, prepared)
  if not ok then
    -- Once more on the text as it came, so that the position in the message is the reader's.
    local original_ok, original = pcall(reader.decode, text)
    return nil, "JSON: " .. tostring(original_ok and value or original), "EJSON"
  end
  return restore(value)
end

return json
