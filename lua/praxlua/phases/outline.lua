--- On which line each field of a phase table stands: "limits.memory", "grants.tools[2]".
--
-- From the words of the script (phases/lexer.lua): the table that it returns, by name or at once,
-- what is nested in it, and what is assigned to its fields later. What is computed has no line of
-- its own; then the nearest field around it does.
local outline = {}

-- The words that open a block which `end` or `until` closes; while and for have a `do`.
local OPENS = { ["function"] = true, ["if"] = true, ["do"] = true, ["repeat"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }

-- The name of the variable that is returned, or the index of the brace that opens what is.
local function find_root(words)
  local kinds, texts = words.kinds, words.texts
  local last = #texts
  while texts[last] == ";" do last = last - 1 end
  if kinds[last] == "name" and texts[last - 1] == "return" then
    return texts[last], nil, last - 1
  end
  local depth = 0
  for i = last, 1, -1 do
    local symbol = kinds[i] == "symbol" and texts[i]
    if symbol == "}" then depth = depth + 1 end
    if symbol == "{" then depth = depth - 1 end
    if depth == 0 then
      local returned = kinds[i] == "symbol" and texts[i - 1] == "return"
      return nil, returned and i or nil, i
    end
  end
end

local function joined(path, key)
  if type(key) == "number" then return string.format("%s[%d]", path, key) end
  return path == "" and key or path .. "." .. key
end

-- The path of the fields in front of the word at `i`, when they are the root's:
-- `phase.limits.memory` gives "limits.memory", `phase` itself "".
local function path_before(words, i, root)
  local kinds, texts = words.kinds, words.texts
  local parts = {}
  while kinds[i] == "name" and (texts[i - 1] == "." or texts[i - 1] == ":") do
    table.insert(parts, 1, texts[i])
    i = i - 2
  end
  if not root or texts[i] ~= root or kinds[i] ~= "name" then return nil end
  return table.concat(parts, ".")
end

local Pass = {}
Pass.__index = Pass

function Pass:note(path, i)
  if path and not self.lines[path] then self.lines[path] = self.words.lines[i] end
end

-- The path of the value that begins at the word `i`.
function Pass:path_of_value(i)
  local top = self.stack[#self.stack]
  if top.kind == "table" then return top.path and joined(top.path, top.key or top.index) end
  if top.kind == "parentheses" then return top.path end
  if self.words.texts[i - 1] ~= "=" then return nil end
  return path_before(self.words, i - 2, self.root)
end

-- The beginning of an item of a table: its key, or its position.
function Pass:begin_item(top, i)
  local kinds, texts = self.words.kinds, self.words.texts
  top.key = kinds[i] == "name" and texts[i + 1] == "=" and texts[i]
    or texts[i] == "[" and kinds[i + 1] == "string" and texts[i + 3] == "=" and texts[i + 1] or nil
  if not top.key then top.index = top.index + 1 end
  top.begins = false
  self:note(top.path and joined(top.path, top.key or top.index), i)
end

function Pass:open(i, symbol)
  local path = self:path_of_value(i)
  if i == self.root_brace then path = "" end
  if symbol == "{" then self:note(path, i) end
  self.stack[#self.stack + 1] = symbol == "{" and
    { kind = "table", path = path, index = 0, begins = true } or
    { kind = "parentheses", path = path }
end

function Pass:close()
  if #self.stack > 1 then self.stack[#self.stack] = nil end
end

function Pass:symbol(i, symbol)
  local top = self.stack[#self.stack]
  if symbol == "{" or symbol == "(" then
    self:open(i, symbol)
  elseif symbol == "}" or symbol == ")" then
    self:close()
  elseif top.kind == "table" and (symbol == "," or symbol == ";") then
    top.begins = true
  elseif top.kind == "block" and symbol == "=" then
    self:note(path_before(self.words, i - 1, self.root), i - 1)
  end
end

function Pass:word(i)
  local text = self.words.texts[i]
  if OPENS[text] then
    if text == "function" then
      local at = i + 1
      while self.words.texts[at + 1] == "." or self.words.texts[at + 1] == ":" do at = at + 2 end
      self:note(path_before(self.words, at, self.root), i)
    end
    self.stack[#self.stack + 1] = { kind = "block" }
  elseif CLOSES[text] then
    self:close()
  end
end

--- The lines of a script's phase table.
---@param words table of lexer.words
---@return table made for outline.line
function outline.of(words)
  local root, brace, root_at = find_root(words)
  local pass = setmetatable({
    words = words, root = root, root_brace = brace, lines = {}, stack = { { kind = "block" } },
  }, Pass)
  for i, kind in ipairs(words.kinds) do
    local text, top = words.texts[i], pass.stack[#pass.stack]
    local closing = kind == "symbol" and text == "}"
    if top.kind == "table" and top.begins and not closing then pass:begin_item(top, i) end
    if kind == "symbol" then pass:symbol(i, text) elseif kind == "name" then pass:word(i) end
  end
  pass.lines[""] = pass.lines[""] or root_at and words.lines[root_at] or words.last_line
  return pass.lines
end

--- The line of a field, or of the nearest one around it.
---@param lines table of outline.of
---@param path string
---@return integer
function outline.line(lines, path)
  while not lines[path] do path = path:match("^(.*)[%.%[]") or "" end
  return lines[path]
end

return outline
