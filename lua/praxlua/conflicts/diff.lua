--- What differs between two sides of a conflict, as a unified diff.
local conflicts = require("praxlua.conflicts")
local git = require("praxlua.git")
local text = require("praxlua.text")

local diff = {}

local TOLD_BY = 8000 -- bytes by which git tells text from binary
local CAP = 16 * 1024 * 1024 -- bytes of a diff

--- What the sides are called.
diff.NAMES = {
  base = "shipped before", ours = "yours", theirs = "shipped now",
}

-- The file of a side, and whether it is text; /dev/null where there is nothing.
local function file_of(doc, conflict, which)
  local side = conflict[which]
  if not side then return "/dev/null", true end
  if not side.file then return nil, nil, "it is a folder" end
  local data, message = conflicts.side(doc, conflict, which)
  if not data then return nil, nil, message end
  return conflicts.path_of(doc, conflict, which), not data:sub(1, TOLD_BY):find("\0", 1, true)
end

-- The lines behind the header, which names files that mean nothing to anybody.
local function body(out)
  local lines, inside = {}, false
  for line in out:gmatch("([^\n]*)\n?") do
    inside = inside or line:sub(1, 2) == "@@"
    if inside then lines[#lines + 1] = line end
  end
  while lines[#lines] == "" do lines[#lines] = nil end
  return lines
end

local function size_of(side) return side and side.size and text.bytes(side.size) or "nothing" end

--- The lines of a diff, with two lines in front that name the sides.
---@param doc table from conflicts.read
---@param conflict table
---@param from "base"|"ours"|"theirs"
---@param to "base"|"ours"|"theirs"
---@return string[]|nil lines
---@return string? message
---@return string? code
function diff.lines(doc, conflict, from, to)
  local a, a_is_text, problem = file_of(doc, conflict, from)
  local b, b_is_text, other = file_of(doc, conflict, to)
  local lines = { "--- " .. diff.NAMES[from], "+++ " .. diff.NAMES[to] }
  if not a or not b then
    lines[3] = problem or other
  elseif not (a_is_text and b_is_text) then
    lines[3] = ("they are no text: %s and %s"):format(size_of(conflict[from]),
      size_of(conflict[to]))
  else
    local out, message, code = git.run(doc.folder, { "diff", "--no-index", "--no-color",
      "--no-ext-diff", "--no-textconv", "--text", "--", a, b },
      { accept = { [1] = true }, cap = CAP })
    if not out then return nil, message, code end
    local rest = body(out)
    table.move(rest, 1, #rest, 3, lines)
    if #rest == 0 then lines[3] = "(no difference in the content)" end
  end
  return lines
end

return diff
