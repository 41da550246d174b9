--- The Lua files of praxlua as text, by their path in the source tree ("phases/0-….lua").
--
-- The executable carries them inside (module praxlua.embedded). Under a stock Lua they are looked
-- for around the places package.path names: a work tree (DIR/lua/?.lua) or an installed tree
-- (DIR/praxlua/phases/…).
local resources = {}

local has_embedded, embedded = pcall(require, "praxlua.embedded")

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

local function find_on_path(name)
  for template in package.path:gmatch("[^;]+") do
    local root = template:match("^(.-)/?%?%.lua$")
    if root then
      if root == "" then root = "." end
      local text = read(root .. "/praxlua/" .. name) or read(root .. "/../" .. name)
        or read(root .. "/" .. name:gsub("^lua/", ""))
      if text then return text end
    end
  end
end

--- The text of a file of ours.
---@param name string its path in the source tree
---@return string|nil text
---@return string? message
---@return string? code "ENOENT"
function resources.source(name)
  local text
  if has_embedded then text = embedded.source(name) else text = find_on_path(name) end
  if text then return text end
  return nil, "find " .. name .. ": it is not part of this praxlua", "ENOENT"
end

return resources
