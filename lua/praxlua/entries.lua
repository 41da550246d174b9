--- What the entries of a plan mean to all who read them: which write, what stands there afterwards,
-- and how they are counted. Pure.
local entries = {}

local COUNTED = {
  add = "new_files", update = "updated_files", merge = "merged_files",
  remove = "removed_files", keep = "local_only",
  unchanged = "unchanged_files", adopt = "unchanged_files", conflict = "conflicts",
}

--- Whether an entry of a plan writes its path.
---@param entry table
---@return boolean
function entries.writes(entry)
  return entry.action == "add" or entry.action == "update" or entry.action == "merge"
end

--- Whether an entry concerns the plan: files that are the user's own are in it, too.
---@param entry table
---@return boolean
function entries.concern(entry)
  return entry.action ~= "keep" or (entry.new or entry.base or entry.moved_from) ~= nil
end

--- What stands at a written path afterwards.
---@param entry table
---@return string id a SHA-256, or "link:TARGET"
function entries.result_of(entry) return entry.result or entry.new end

--- How many entries there are of each kind.
---@param list table[]
---@return table<string, integer> counts new_files, updated_files, merged_files, removed_files,
---  unchanged_files, local_only, conflicts
function entries.counts(list)
  local counts = {}
  for _, name in pairs(COUNTED) do counts[name] = 0 end
  for _, entry in ipairs(list) do
    local name = COUNTED[entry.action]
    counts[name] = counts[name] + 1
  end
  return counts
end

return entries
