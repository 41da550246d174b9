--- Grants as people read and type them: "target: write; tools: git" and `--grant target=write`.
local lists = require("praxlua.lists")

local grants = {}

local ROOTS = { "source", "target", "project" }
local LISTS = { "services", "tools" }
local RANK = { read = 1, write = 2 }

--- What a phase may use, on one line.
---@param given table grants of a phase
---@return string
function grants.describe(given)
  local parts = {}
  for _, name in ipairs(ROOTS) do
    if given[name] then parts[#parts + 1] = name .. ": " .. given[name] end
  end
  for _, name in ipairs(LISTS) do
    if given[name] and #given[name] > 0 then
      parts[#parts + 1] = name .. ": " .. table.concat(given[name], ", ")
    end
  end
  if given.network then parts[#parts + 1] = "network" end
  return #parts > 0 and table.concat(parts, "; ") or "nothing"
end

local function add_words(list, value)
  for word in (value .. ","):gmatch("([^,]*),") do
    if word == "" then return nil end
    list[#list + 1] = word
  end
  return true
end

-- One flag's value, added to what the others gave; nil when it means nothing.
local function add(into, text)
  if text == "network" then
    into.network = true
    return true
  end
  local name, value = text:match("^(%l+)=(.+)$")
  for _, root in ipairs(ROOTS) do
    if name == root and RANK[value] and (root ~= "source" or value == "read") then
      into[root] = RANK[into[root]] == 2 and into[root] or value
      return true
    end
  end
  for _, list in ipairs(LISTS) do
    if name == list then
      into[list] = into[list] or {}
      return add_words(into[list], value)
    end
  end
end

--- The grants that the values of `--grant` name.
---@param texts string[] "target=write", "tools=git,make", "services=validation", "network"
---@return table|nil grants
---@return string? message
---@return string? code "EINVAL"
function grants.parse(texts)
  local given = {}
  for _, text in ipairs(texts) do
    if not add(given, text) then
      return nil, string.format("'%s' is no grant; there are source=read, target=read, "
        .. "target=write, project=read, project=write, tools=NAME,…, services=NAME,… and network",
        text), "EINVAL"
    end
  end
  return given
end

--- What a phase asks for beyond what it is given, as the flags that would give it.
---@param asked table
---@param given table
---@return string[] flags "--grant target=write"; empty when all of it is given
function grants.missing(asked, given)
  local flags = {}
  local function lacks(value) flags[#flags + 1] = "--grant " .. value end
  for _, root in ipairs(ROOTS) do
    if asked[root] and RANK[asked[root]] > (RANK[given[root]] or 0) then
      lacks(root .. "=" .. asked[root])
    end
  end
  for _, list in ipairs(LISTS) do
    local names = {}
    for _, name in ipairs(asked[list] or {}) do
      if not lists.has(given[list], name) then names[#names + 1] = name end
    end
    if #names > 0 then lacks(list .. "=" .. table.concat(names, ",")) end
  end
  if asked.network and not given.network then lacks("network") end
  return flags
end

return grants
