--- The words of a Lua script with their lines: enough to find a field of a table, or a chain such
--- as host.target.write, outside strings and comments.
--
-- For a script that load() has accepted. It never fails on another: what it does not know is passed
-- over, byte by byte. The grammar is that of the Lua 5.4 reference manual, section 3.1.
local lexer = {}

local ESCAPES = { n = "\n", t = "\t", r = "\r", a = "\a", b = "\b", f = "\f", v = "\v" }

-- Where a long bracket that opens at `at` ends, and its level; nil when none opens there.
local function long_bracket(source, at)
  local level = source:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, stop = source:find("]" .. level .. "]", at + #level + 2, true)
  return stop or #source, #level
end

local function quoted(source, at)
  local quote, i = source:sub(at, at), at + 1
  while i <= #source do
    local next_at = source:find('[\\"\'\n]', i)
    if not next_at then return #source end
    local c = source:sub(next_at, next_at)
    if c == quote or c == "\n" then return next_at end
    i = next_at + (c == "\\" and 2 or 1)
  end
  return #source
end

-- The value of a quoted string, as far as names and paths need it.
local function value_of(word)
  if word:sub(1, 1) == "[" then return (word:gsub("^%[=*%[\r?\n?", ""):gsub("%]=*%]$", "")) end
  return (word:sub(2, -2):gsub("\\(.)", function(c) return ESCAPES[c] or c end))
end

-- The kind of what begins at `at`, and where it ends.
local function word_at(source, at)
  local c = source:sub(at, at)
  if c:find("[%a_]") then return "name", select(2, source:find("^[%w_]+", at)) end
  if c:find("%d") or c == "." and source:find("^%.%d", at) then
    return "number", select(2, source:find("^[%w%.]*", at))
  end
  if c == '"' or c == "'" then return "string", quoted(source, at) end
  local stop = c == "[" and long_bracket(source, at)
  if stop then return "string", stop end
  return "symbol", select(2, source:find("^%.%.%.", at)) or select(2, source:find("^%.%.", at))
    or select(2, source:find("^[=~<>]=", at)) or select(2, source:find("^::", at)) or at
end

local function after_comment(source, at)
  local stop = long_bracket(source, at + 2)
  return (stop or (source:find("\n", at, true) or #source + 1) - 1) + 1
end

--- Takes a script apart.
---@param source string
---@return { kinds: string[], texts: string[], lines: integer[], last_line: integer } words parallel
---  arrays: "name" (keywords too), "string", "number" or "symbol"; the word, of a string its value;
---  its line
function lexer.words(source)
  local kinds, texts, lines, count = {}, {}, {}, 0
  local at, line = 1, 1
  local break_at = source:find("\n", 1, true) or math.huge -- the end of that line
  local function line_of(position)
    while break_at < position do
      line = line + 1
      break_at = source:find("\n", break_at + 1, true) or math.huge
    end
    return line
  end
  while true do
    at = source:find("[^%s]", at)
    if not at then break end
    if source:find("^%-%-", at) then
      at = after_comment(source, at)
    else
      local kind, stop = word_at(source, at)
      local word = source:sub(at, stop)
      count = count + 1
      kinds[count], lines[count] = kind, line_of(at)
      texts[count] = kind == "string" and value_of(word) or word
      at = stop + 1
    end
  end
  return { kinds = kinds, texts = texts, lines = lines, last_line = lines[count] or 1 }
end

return lexer
