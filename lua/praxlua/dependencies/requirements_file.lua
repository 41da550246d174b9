--- Reading a requirements file, as pip does, as far as we have to know what it asks for.
local text = require("praxlua.text")

local requirements_file = {}

--- The name of a distribution as it is compared (PEP 503).
---@param name string
---@return string
function requirements_file.normalised(name) return (name:lower():gsub("[-_.]+", "-")) end

local normalised = requirements_file.normalised

local BYTE_ORDER_MARK = "^\xef\xbb\xbf"

-- Continued lines joined, comments gone (a # in the middle of a word, as in #egg=name, is none). A
-- line that is nothing but a comment ends there, whatever it ends in (pip's req_file.join_lines).
local function lines_of(source)
  local lines, begun = {}, ""
  source = source:gsub(BYTE_ORDER_MARK, ""):gsub("\r\n?", "\n")
  for line in (source .. "\n"):gmatch("(.-)\n") do
    local comment = line:find("^%s*#")
    local continued = not comment and line:match("^(.*)\\$")
    begun = begun .. (comment and " " or "") .. (continued or line)
    if not continued then
      local whole = text.trim(((" " .. begun):gsub("%s#.*$", "")))
      if whole ~= "" then lines[#lines + 1] = whole end
      begun = ""
    end
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

-- A name that pip takes for a file, where there is one.
local function is_archive(line)
  for _, ending in ipairs({ "whl", "zip", "tar", "tgz", "tbz", "txz", "tlz", "tar%.%w+" }) do
    if line:lower():find("^%S+%." .. ending .. "%f[^%w]") then return true end
  end
  return false
end

--- Whether what is installed depends on more than the words of the file: on other files (-r, -c,
--- -e, a path), on a variable, or on a place whose content may change without them.
---@param source string its content
---@return boolean
function requirements_file.refers(source)
  for _, line in ipairs(lines_of(source)) do
    if line:find("^%-") or line:find("@", 1, true) or line:find("://", 1, true)
      or line:find("${", 1, true) or is_archive(line) or not package_of(line) then
      return true
    end
  end
  return false
end

return requirements_file
