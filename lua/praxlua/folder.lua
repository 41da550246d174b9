--- Looking into a folder.
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

return folder
