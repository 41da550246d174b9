--- The layout of an installation with what its project file adds: components, ownership of single
-- paths, and what is left out of every upgrade. The recognised layout stays as it is.
--
-- Paths that are left out count as the user's: they are never written, and the record of what was
-- shipped to them stays what it was, so that they can be taken in again later.
local base = require("praxlua.base")
local confinement = require("praxlua.confinement")
local glob = require("praxlua.glob")
local layout = require("praxlua.layout")
local text = require("praxlua.text")

local extend = {}

-- What praxlua itself writes into an installation, beside the layout's own ephemeral names.
local RECORDS = { [".installed-manifest.json"] = true, ["version.txt"] = true,
  ["update_log.txt"] = true, ["installation_summary.md"] = true }
local NEVER = { [".git"] = true, ["__pycache__"] = true }

local function beneath(path, folder)
  return path == folder or path:sub(1, #folder + 1) == folder .. "/"
end

local function overlap(a, b) return beneath(a, b) or beneath(b, a) end

-- Why nothing may land on a path; nil when it may. Names count without regard to case: there are
-- file systems on which ".GIT" is ".git".
local function reserved(recognised, path)
  local lower = path:lower()
  local first = lower:match("^[^/]+")
  if confinement.OURS[first] or RECORDS[first] or recognised.ephemeral.paths[first] then
    return "'" .. text.visible(path:match("^[^/]+")) .. "' is praxlua's own, or no content"
  end
  for name in lower:gmatch("[^/]+") do
    if NEVER[name] or recognised.ephemeral.names[name] then
      return "'" .. name .. "' is never shipped"
    end
  end
  for _, folder in ipairs(recognised.user or {}) do
    if overlap(lower, folder) then return "'" .. folder .. "' is the user's" end
  end
  for _, config in ipairs(recognised.config or {}) do
    if overlap(lower, config) then return "'" .. config .. "' is the user's configuration" end
  end
end

local function unshipped(recognised, path)
  for name in path:gmatch("[^/]+") do
    if NEVER[name:lower()] or recognised.unshipped.names[name] then
      return "'" .. text.visible(name) .. "' is never shipped"
    end
  end
end

local IS_NO_PATH = "'%s' is no path beneath %s (no '/' at its beginning or end, no '.' or '..' in "
  .. "it)"

-- What is wrong with one component, and which of its fields.
local function component_problem(recognised, component, others)
  if not component.name:find("^[%w_-]+$") then
    return "'" .. text.visible(component.name) .. "' is no name: take letters, digits, _ and -",
      "name"
  end
  for field, root in pairs({ from = "the source", to = "the installation" }) do
    if not base.is_normal(component[field]) then
      return IS_NO_PATH:format(text.visible(component[field]), root), field
    end
  end
  local why = reserved(recognised, component.to)
  if why then return why .. "; name another folder", "to" end
  why = unshipped(recognised, component.from)
  if why then return why .. "; name another folder", "from" end
  for _, other in ipairs(others) do
    if other.name == component.name then
      return "there is a component '" .. component.name .. "' already; take another name", "name"
    end
    for _, field in ipairs({ "to", "from" }) do
      if overlap(other[field]:lower(), component[field]:lower()) then
        return ("'%s' and '%s' of the component '%s' overlap; two components share no files")
          :format(text.visible(component[field]), other[field], other.name), field
      end
    end
  end
end

local function add_components(derived, declared)
  for i, component in ipairs(declared or {}) do
    local problem, field = component_problem(derived, component, derived.components)
    if problem then return nil, problem, ("components[%d].%s"):format(i, field) end
    table.insert(derived.components, {
      name = component.name, from = component.from, to = component.to, declared = true,
      ownership = component.ownership, scope = component.scope or "content", when = component.when,
    })
  end
  return true
end

-- Whether ownership can be said of a path: something is shipped to it, or it is configuration.
local function concerns(derived, path)
  for _, component in ipairs(derived.components) do
    if overlap(path, component.to) then return true end
  end
  for _, config in ipairs(derived.config or {}) do
    if path == config then return true end
  end
  return false
end

local function check_ownership(derived, ownership)
  for path in pairs(ownership or {}) do
    if not concerns(derived, path) then
      local places = {}
      for i, component in ipairs(derived.components) do places[i] = component.to end
      return nil, ("nothing is shipped to it; what is shipped lands in %s"):format(
        table.concat(places, ", ")), ('ownership["%s"]'):format(text.visible(path))
    end
  end
  return true
end

-- What was said of a path, or of the nearest folder around it.
local function said_of(ownership, path)
  local at = path
  while at do
    if ownership[at] then return ownership[at] end
    at = at:match("^(.*)/[^/]*$")
  end
end

local function owner(derived, declared)
  local patterns, ownership = {}, declared.ownership or {}
  for i, pattern in ipairs(declared.excludes or {}) do
    patterns[i] = { pattern = pattern, answer = true }
  end
  local is_excluded = glob.lookup(patterns)
  return function(path)
    if is_excluded(path) then return "user", "left out by upgrade.lua" end
    local said = said_of(ownership, path)
    if said then return said, said == "user" and "yours by upgrade.lua" or nil end
    local component = layout.component_of(derived, path)
    return component and component.ownership or "user"
  end
end

--- A layout with what a project file declares.
---@param recognised table layout
---@param declared { components: table[]?, ownership: table<string, string>?, excludes: string[]? }
---@return table|nil derived layout of the same name, with ownership_of(path) -> ownership, reason?
---@return string? problem
---@return string? code "ESETTINGS"
---@return string? field which setting is meant: `components[1].to`
function extend.layout(recognised, declared)
  local derived = {}
  for key, value in pairs(recognised) do derived[key] = value end
  derived.components = table.move(recognised.components, 1, #recognised.components, 1, {})
  local ok, problem, field = add_components(derived, declared.components)
  if ok then ok, problem, field = check_ownership(derived, declared.ownership) end
  if not ok then return nil, problem, "ESETTINGS", field end
  derived.ownership_of = owner(derived, declared)
  return derived
end

--- The layout of a run: a recognised one, with what the settings that the run began with add.
---@param ctx table options.project?
---@param recognised table|nil
---@return table|nil layout nil where nothing was recognised, too
---@return string? message
---@return string? code "ESETTINGS"
function extend.of(ctx, recognised)
  local declared = ctx.options and ctx.options.project
  if not recognised or not declared then return recognised end
  local derived, problem, code, field = extend.layout(recognised, declared)
  if derived then return derived end
  return nil, ("the settings of upgrade.lua do not fit the installation: %s: %s"):format(field,
    problem), code
end

return extend
