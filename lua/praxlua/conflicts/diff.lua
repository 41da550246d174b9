--- What differs between two sides of a conflict, as a unified diff.
local conflicts = require("praxlua.conflicts")
local difference = require("praxlua.difference")

local diff = {}

--- What the sides are called.
diff.NAMES = {
  base = "shipped before", ours = "yours", theirs = "shipped now",
}

-- A side as it is compared; false where there is nothing.
local function side_of(doc, conflict, which)
  local side = conflict[which]
  if not side then return false end
  if not side.file then return nil, "it is a folder", "EISDIR" end
  local data, message, code = conflicts.side(doc, conflict, which)
  if not data then return nil, message, code end
  return { data = data }
end

--- The lines of a diff, with two lines in front that name the sides, and remarks in brackets.
---@param doc table from conflicts.read
---@param conflict table
---@param from "base"|"ours"|"theirs"
---@param to "base"|"ours"|"theirs"
---@return string[]|nil lines
---@return string? message
---@return string? code
function diff.lines(doc, conflict, from, to)
  local old, new, results, message, code
  old, message, code = side_of(doc, conflict, from)
  if old ~= nil then new, message, code = side_of(doc, conflict, to) end
  if new == nil then return nil, message, code end
  results, message, code = difference.unified({
    { path = conflict.path, old = old or nil, new = new or nil },
  })
  if not results then return nil, message, code end
  local lines = { "--- " .. diff.NAMES[from], "+++ " .. diff.NAMES[to] }
  for _, note in ipairs(results[1].notes) do lines[#lines + 1] = "(" .. note .. ")" end
  local number = 0
  for line in results[1].diff:gmatch("([^\n]*)\n") do
    number = number + 1
    if number > 2 then lines[#lines + 1] = line end -- the header names a path
  end
  if #lines == 2 then lines[3] = "(no difference in the content)" end
  return lines
end

return diff
