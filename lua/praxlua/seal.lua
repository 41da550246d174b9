--- Sealed documents: JSON files that tell whether they are what was written.
--
-- The text is one JSON object for people and tools, like any other. Its last members are
--   "sequence"  where a file has generations: each is one more than the one before
--   "length"    bytes of the whole file
--   "sha256"    of every byte before the line of this member
-- and nothing but the end of the object follows, byte for byte. So a bit that flips anywhere, or an
-- end that is missing, is seen; whoever edits such a file by hand damages it.
local core = require("praxlua.core")
local json = require("praxlua.json")

local seal = {}

local BEFORE, AFTER = '  "sha256": "', '"\n}\n'
local DIGITS = 64 -- of a SHA-256 in hex
local TAIL = #BEFORE + DIGITS + #AFTER

-- The names that a document cannot use for itself.
local OWN = { "sequence", "length", "sha256" }

-- The text up to the seal, with the length that the whole will have: as many digits as that needs.
local function with_length(text)
  local length = 0
  while true do
    local head = string.format('%s,\n  "length": %d,\n', text, length)
    if #head + TAIL == length then return head end
    length = #head + TAIL
  end
end

--- The text of a document, sealed. Raises for what has no JSON form, and for a member with a name
--- of the seal.
---@param dict table<string, any> not empty
---@param sequence integer? of this generation, at least 1
---@return string text
function seal.encode(dict, sequence)
  assert(next(dict) ~= nil, "seal.encode: an empty document")
  for _, name in ipairs(OWN) do
    assert(dict[name] == nil, "seal.encode: a member is called " .. name)
  end
  local text = json.encode(dict, { pretty = true }):gsub("\n}$", "")
  if sequence then text = string.format('%s,\n  "sequence": %d', text, sequence) end
  local head = with_length(text)
  return head .. BEFORE .. core.hash.sha256(head) .. AFTER
end

--- Whether a text is sealed and still what was written.
---@param text string
---@return integer|false|nil sequence false for a document without one, nil when it is damaged
---@return string? problem
function seal.check(text)
  local tail = text:sub(-TAIL)
  local hash = tail:sub(#BEFORE + 1, #BEFORE + DIGITS)
  if tail ~= BEFORE .. hash .. AFTER or #hash ~= DIGITS then
    return nil, "its end is not that of a whole file"
  end
  local head = text:sub(1, -TAIL - 1)
  if core.hash.sha256(head) ~= hash then return nil, "its sha256 is not that of its content" end
  local last = head:sub(-128) -- more than both members take
  if math.tointeger(tonumber(last:match('\n  "length": (%d+),\n$'))) ~= #text then
    return nil, "its length is not the one it names"
  end
  local sequence = last:match('\n  "sequence": (%d+),\n  "length": %d+,\n$')
  return math.tointeger(tonumber(sequence)) or false
end

--- Whether a decoded document is one from before there were seals, and not a damaged sealed one: no
--- bit that flips turns the one into the other.
---@param dict any
---@return boolean
function seal.is_older(dict)
  return type(dict) == "table" and dict.format_version == 1 and dict.length == nil
    and dict.sha256 == nil
end

--- The document in a text: one whose seal is whole, or one from before there were seals.
---@param text string
---@param options { max_bytes: integer?, max_depth: integer? }? as of json.decode
---@return table|nil dict without the members of the seal
---@return integer|string|false sequence false where there is none; the problem, when nil
function seal.open(text, options)
  local sequence, problem = seal.check(text)
  local dict, message = json.decode(text, options)
  if sequence == nil then
    if seal.is_older(dict) then return dict, false end
    return nil, dict == nil and message or problem
  end
  if type(dict) ~= "table" then return nil, message or "not an object" end
  for _, name in ipairs(OWN) do dict[name] = nil end
  return dict, sequence
end

return seal
