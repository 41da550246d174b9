--- What a script asks of the host, as far as its words tell: the chains host.NAME.NAME, and the
--- tools that calls name.
local reference = require("praxlua.verbs.reference")

local calls = {}

local function is_symbol(words, i, symbol)
  return words.kinds[i] == "symbol" and words.texts[i] == symbol
end

-- Whether the word stands alone: no field of something else.
local function is_own(words, i)
  return not is_symbol(words, i - 1, ".") and not is_symbol(words, i - 1, ":")
end

-- The names the host goes by: `host`, and what phase.run calls its parameter. Not the one that is
-- made a variable of the script's own.
local function names_of_host(words)
  local kinds, texts = words.kinds, words.texts
  local names = { host = true }
  for i, kind in ipairs(kinds) do
    local named = kind == "name" and texts[i] == "run" and (
      is_symbol(words, i + 1, "=") and texts[i + 2] == "function" and i + 3
      or texts[i - 3] == "function" and i + 1)
    if named and is_symbol(words, named, "(") and kinds[named + 1] == "name" then
      names[texts[named + 1]] = true
    end
  end
  for i, kind in ipairs(kinds) do
    if kind == "name" and names[texts[i]] and kinds[i - 1] == "name"
      and (texts[i - 1] == "local" or texts[i - 1] == "for") then
      names[texts[i]] = nil
    end
  end
  return names
end

-- The first word of the command in host.spawn{ "tool", … }; nil when it is not written there.
local function tool_at(words, i)
  if is_symbol(words, i, "(") then i = i + 1 end
  if is_symbol(words, i, "{") and words.kinds[i + 1] == "string" then return words.texts[i + 1] end
end

local function chain_at(words, i, groups)
  local kinds, texts = words.kinds, words.texts
  local first = texts[i + 2]
  local use = { line = words.lines[i], name = first, after = i + 3 }
  if groups[first] then
    use.group, use.name = first, nil
    if is_symbol(words, i + 3, ".") and kinds[i + 4] == "name" then
      use.name, use.after = first .. "." .. texts[i + 4], i + 5
    end
  end
  return use
end

--- The uses of the host in a script.
---@param words table of lexer.words
---@return { uses: table[], indirect: boolean } found uses: { line, name?, group?, tool? }: name of
---  the verb or the data, nil where a group of verbs is taken as a whole; or { line, method } for
---  host:NAME. indirect: the host is also used in a way that does not tell what for
function calls.of(words)
  local kinds, texts = words.kinds, words.texts
  local hosts, groups = names_of_host(words), reference.groups()
  local found = { uses = {}, indirect = not hosts.host }
  for i, kind in ipairs(kinds) do
    if kind == "name" and hosts[texts[i]] and is_own(words, i) then
      local use
      if is_symbol(words, i + 1, ".") and kinds[i + 2] == "name" then
        use = chain_at(words, i, groups)
        use.tool = (use.name == "spawn" or use.name == "undo") and tool_at(words, use.after) or nil
      elseif is_symbol(words, i + 1, ":") and kinds[i + 2] == "name" then
        use = { line = words.lines[i], method = texts[i + 2] }
      elseif is_symbol(words, i + 1, "[") or is_symbol(words, i - 1, "=") then
        found.indirect = true
      end
      found.uses[#found.uses + 1] = use
    end
  end
  return found
end

--- The verbs that receipts_of("…") and answer_of("…") name.
---@param words table of lexer.words
---@return { line: integer, verb: string }[]
function calls.attested(words)
  local kinds, texts, found = words.kinds, words.texts, {}
  for i, kind in ipairs(kinds) do
    if kind == "name" and (texts[i] == "receipts_of" or texts[i] == "answer_of") then
      local at = is_symbol(words, i + 1, "(") and i + 2 or i + 1
      if kinds[at] == "string" then
        found[#found + 1] = { line = words.lines[i], verb = texts[at] }
      end
    end
  end
  return found
end

--- The fields of the standard libraries that a script names: string.rep, math.pow.
---@param words table of lexer.words
---@return { line: integer, library: string, field: string }[]
function calls.of_libraries(words)
  local kinds, texts, found = words.kinds, words.texts, {}
  for i, kind in ipairs(kinds) do
    if kind == "name" and reference.LIBRARIES[texts[i]] and is_own(words, i)
      and is_symbol(words, i + 1, ".") and kinds[i + 2] == "name" then
      found[#found + 1] = { line = words.lines[i], library = texts[i], field = texts[i + 2] }
    end
  end
  return found
end

return calls
