--- Small helpers for lists and sets.
local lists = {}

--- Whether a value is in a list.
---@param list any[]|nil nil: an empty one
---@param wanted any
---@return boolean
function lists.has(list, wanted)
  for _, value in ipairs(list or {}) do
    if value == wanted then return true end
  end
  return false
end

--- The keys of a table, in the order of their texts; metamethods are not asked.
---@param of table
---@return any[]
function lists.sorted_keys(of)
  local keys, are_strings = {}, true
  for key in next, of do
    keys[#keys + 1] = key
    are_strings = are_strings and type(key) == "string"
  end
  if are_strings then -- nearly always, and several times as fast
    table.sort(keys)
  else
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  end
  return keys
end

return lists
