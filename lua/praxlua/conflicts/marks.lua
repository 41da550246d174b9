--- The lines with which git marks a conflict in a text.
local marks = {}

local WORDS = { "<<<<<<<", "|||||||", "=======", ">>>>>>>" }

--- Counts them.
---@param data string
---@return table<string, integer> counts by the seven characters a line begins with; none: no key
---@return table<string, integer> first the line of the first of each, from 1
function marks.count(data)
  local counts, first, number = {}, {}, 0
  for line in (data .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    for _, mark in ipairs(WORDS) do
      if line == mark or line:sub(1, 8) == mark .. " " then
        counts[mark], first[mark] = (counts[mark] or 0) + 1, first[mark] or number
      end
    end
  end
  return counts, first
end

return marks
