--- Looking into a folder, and clearing up in it.
local core = require("praxlua.core")

local folder = {}

--- Every name in a directory, sorted, without "." and "..".
---@param path string
---@return string[]|nil names
---@return string? message
---@return string? code an errno; "ENOENT": there is no such directory
function folder.names(path)
  local root, message, code = core.root.open(path)
  if not root then return nil, message, code end
  local entries
  entries, message, code = root:list(".")
  root:close()
  if not entries then return nil, message, code end
  local names = {}
  for i, entry in ipairs(entries) do names[i] = entry.name end
  table.sort(names)
  return names
end

-- How runtime/file.c calls a file while it writes it.
local TEMPORARY = "^%.(.+)%.px%-%d+%-%d+$"

--- Deletes the files that were not written to their end because their writer was killed.
---@param path string
---@param of string? only those of the file of this name; nil: all
function folder.sweep(path, of)
  for _, name in ipairs(folder.names(path) or {}) do
    local whole = name:match(TEMPORARY)
    if whole and (not of or whole == of) then core.file.remove(path .. "/" .. name) end
  end
end

return folder
