--- What somebody wrote into a folder of conflicts and what is nowhere else: a merge that was too
-- large to be remembered, a side that was edited, a file of notes. Such a folder is never deleted.
local answers = require("praxlua.conflicts.answers")
local core = require("praxlua.core")

local strays = {}

-- The contents that praxlua wrote there, or remembers, by their SHA-256.
local function known_contents(doc)
  local known = answers.contents(doc.target)
  for _, conflict in ipairs(doc.dict.conflicts) do
    for _, which in ipairs({ "base", "ours", "theirs" }) do
      local id = conflict[which] and conflict[which].id
      if id then known[id], known[core.hash.sha256(id)] = true, true end -- a link is its id
    end
    if conflict.merged then known[conflict.merged.sha256] = true end
  end
  return known
end

-- The list itself, and what a kill left while a file was written.
local function is_ours(path)
  return path == "conflicts.json" or path:find("%f[^/\0]%.[^/]+%.px%-%d+%-%d+$") ~= nil
end

--- The files of a folder of conflicts whose content is nowhere else.
---@param doc { target: string, folder: string, dict: { conflicts: table[] } } from conflicts.read
---@return string[]|nil paths relative to the folder
---@return string? message
---@return string? code
function strays.find(doc)
  local entries, message, code = core.tree.list(doc.folder, { hash = true })
  if not entries then return nil, message, code end
  local known, found = known_contents(doc), {}
  for _, entry in ipairs(entries) do
    local is_content = entry.type ~= "directory" and not (entry.type == "file" and entry.size == 0)
    if is_content and not known[entry.sha256 or ""] and not is_ours(entry.path) then
      found[#found + 1] = entry.path
    end
  end
  return found
end

return strays
