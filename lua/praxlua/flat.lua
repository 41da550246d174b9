--- Which files of the flat layout (layout/flat.lua) were shipped: told by the source's history.
--
-- There shipped files and the project's own lie in the same folders. One that has the content of a
-- version the source once had at its path was shipped, and nobody changed it. One whose path no
-- version ever had is the project's own. One of which it is known what was shipped at its path was
-- edited; what was edited goes along to the right place. For the others nothing tells whether they
-- are edited ones or the project's own under a shipped name.
local base = require("praxlua.base")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local survey = require("praxlua.survey")
local text = require("praxlua.text")

local flat = {}

local SHOWN = 20 -- files that are named

local function component_of(recognised)
  for _, component in ipairs(recognised.components) do
    if component.retired then return component end
  end
end

local function kind_of(known, path, state)
  local versions = known.versions[layout.source_path(known.layout, path)]
  if not versions then return "own" end
  local key, message, code = base.key_of(known, path, state)
  if not key then return nil, message, code end
  if versions[key] then return "shipped" end
  local before, from
  before, from, message, code = base.find(known, path, state)
  if not from then return nil, message, code end
  return type(before) == "table" and "edited" or "unclear"
end

--- Sorts the files of a flat installation.
---@param ctx table source, target, layout (the flat one)
---@return { shipped: string[], edited: string[], own: string[], unclear: string[],
--- shallow: boolean }|nil sorted paths relative to the target
---@return string|nil message
---@return string|nil code
function flat.sort(ctx)
  local component = component_of(ctx.layout)
  local here, message, code = survey.target(ctx, { component })
  if not here then return nil, message, code end
  local known
  known, message, code = base.open(ctx)
  if not known then return nil, message, code end
  local sorted = { shipped = {}, edited = {}, own = {}, unclear = {}, shallow = known.shallow }
  for _, path in ipairs(lists.sorted_keys(here)) do
    local kind
    kind, message, code = kind_of(known, path, here[path])
    if not kind then return nil, message, code end
    table.insert(sorted[kind], path)
  end
  return sorted
end

local function named(paths)
  local shown = {}
  for i = 1, math.min(#paths, SHOWN) do shown[i] = text.visible(paths[i]) end
  local list = table.concat(shown, ", ")
  return #paths > SHOWN and ("%s and %d more"):format(list, #paths - SHOWN) or list
end

--- Why a flat installation cannot be put right; nil when it can.
---@param ctx table source, target
---@param sorted table of flat.sort
---@return string|nil message
function flat.objection(ctx, sorted)
  local what = ctx.target .. " has the flat layout that safe-upgrade.py leaves: shipped files lie "
    .. "directly in standards/, among the project's own"
  if sorted.shallow then
    return ("%s. Which are which is told by the source's history, and that of %s is cut off; "
      .. "complete it with: git fetch --unshallow"):format(what, ctx.source)
  elseif #sorted.unclear > 0 then
    return ("%s. These (%s) are unlike everything that was ever shipped under their names, so each "
      .. "may be an edited one or your own: %s. Move each to standards/development/, where it "
      .. "stays as it is, or put the shipped text back; then run this again"):format(what,
      text.plural(#sorted.unclear, "file"), named(sorted.unclear))
  elseif #sorted.shipped + #sorted.edited == 0 then
    return ("%s is not an installation of %s: not one file in its standards/ was ever shipped by "
      .. "it; name the source it comes from with --source"):format(ctx.target, ctx.source)
  end
  return nil
end

return flat
