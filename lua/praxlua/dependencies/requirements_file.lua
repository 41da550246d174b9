--- Reading a requirements file, as pip does, as far as we have to know what it asks for.
local text = require("praxlua.text")

local requirements_file = {}

--- The name of a distribution as it is compared (PEP 503).
---@param name string
---@return string
function requirements_file.normalised(name) return (name:lower():gsub("[-_.]+", "-")) end

local normalised = requirements_file.normalised

-- Continued lines joined, comments gone (a # in the middle of a word, as in #egg=name, is none).
local function lines_of(source)
  local joined = source:gsub("\r\n", "\n"):gsub("\\\n", "")
  local lines = {}
  for line in joined:gmatch("[^\n]+") do
    line = text.trim(((" " .. line):gsub("%s#.*$", "")))
    if line ~= "" then lines[#lines + 1] = line end
  end
  return lines
end

-- The package a line requires, normalised; nil when it is an option or names none.
local function package_of(line)
  local egg = line:match("#egg=([%w._-]+)")
  if egg then return normalised(egg) end
  local name, rest = line:match("^(%w[%w._-]*)%s*(.*)$")
  if not name or not (rest == "" or rest:find("^[%[=<>!~;@(]")) then return nil end
  return normalised(name)
end

--- The packages that a file requires. Comments and options require none.
---@param source string its content
---@return string[] names normalised, each once
function requirements_file.packages(source)
  local names, seen = {}, {}
  for _, line in ipairs(lines_of(source)) do
    local name = package_of(line)
    if name and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

--- Whether what is installed depends on more than the words of the file: on other files (-r, -c,
--- -e, a path), or on a place whose content may change without them.
---@param source string its content
---@return boolean
function requirements_file.refers(source)
  for _, line in ipairs(lines_of(source)) do
    if line:find("^%-") or line:find("@", 1, true) or line:find("://", 1, true)
      or not package_of(line) then
      return true
    end
  end
  return false
end

return requirements_file
