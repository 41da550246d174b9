--- What `phase check` has found in one script: mistakes, which stop an upgrade or the phase, and
--- hints.
local text = require("praxlua.text")

local findings = {}

local MOST = 100 -- that are shown of one script; who has more begins at the top anyway
local KEPT = 300 -- further ones are only counted

local Findings = {}
Findings.__index = Findings

--- A word of the script as it may be shown.
---@param word any
---@return string
function findings.shown(word) return text.shorten(text.visible(tostring(word)), 60) end

--- Begins a list.
---@param file string the script's path, as it was given
---@return table list
function findings.new(file)
  return setmetatable({ file = text.visible(file), mistakes = 0, rows = {}, count = 0,
    lines = {} }, Findings)
end

local function add(list, kind, line, message, mend)
  list.count = list.count + 1
  if kind == "mistake" then list.lines[line] = true end
  if #list.rows == KEPT then return end
  if type(mend) == "function" then mend = mend() end
  list.rows[#list.rows + 1] = {
    file = list.file, line = line, kind = kind, order = #list.rows,
    message = text.visible(message), mend = mend and text.visible(mend) or nil,
  }
end

--- Something that has to be mended.
---@param line integer
---@param message string what is wrong
---@param mend string|function|nil how to mend it; a function is called only when it is to be shown
function Findings:mistake(line, message, mend)
  self.mistakes = self.mistakes + 1
  add(self, "mistake", line, message, mend)
end

--- Something to think about.
function Findings:hint(line, message, mend) add(self, "hint", line, message, mend) end

--- Whether there is a mistake on a line.
---@param line integer
---@return boolean
function Findings:has_mistake(line) return self.lines[line] == true end

--- The findings by line, mistakes first; beyond a hundred only their number.
---@return { file: string, line: integer, kind: "mistake"|"hint", message: string, mend: string? }[]
function Findings:sorted()
  local rows = table.move(self.rows, 1, #self.rows, 1, {})
  table.sort(rows, function(a, b)
    if a.line ~= b.line then return a.line < b.line end
    if a.kind ~= b.kind then return a.kind == "mistake" end
    return a.order < b.order
  end)
  local shown = {}
  for i = 1, math.min(#rows, MOST) do
    local row = rows[i]
    shown[i] = { file = row.file, line = row.line, kind = row.kind, message = row.message,
      mend = row.mend }
  end
  if self.count > #shown then
    local rest = string.format("there are %d more findings", self.count - #shown)
    shown[#shown + 1] = { file = self.file, line = shown[#shown].line, kind = "hint",
      message = rest, mend = "mend those above and check again" }
  end
  return shown
end

return findings
