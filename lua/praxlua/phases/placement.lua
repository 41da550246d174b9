--- Checks where phases want to be, among the built-in ones and their neighbours.
local findings = require("praxlua.phases.findings")
local lists = require("praxlua.lists")
local outline = require("praxlua.phases.outline")
local phases = require("praxlua.phases")
local reference = require("praxlua.verbs.reference")
local text = require("praxlua.text")

local placement = {}

local shown = findings.shown

-- The ids a phase may be placed by.
local function ids_of(built_in, all)
  local ids = {}
  for _, phase in ipairs(built_in) do ids[phase.id] = true end
  for _, phase in ipairs(all) do ids[phase.id] = true end
  return ids
end

local function references(phase)
  local list = {}
  for _, field in ipairs({ "after", "before" }) do
    if type(phase[field]) == "string" then list[#list + 1] = phase[field] end
  end
  return list
end

-- The way from a phase back to itself over what it is placed by; nil when there is none.
local function circle_from(start, by_id)
  local seen = {}
  local function visit(id, way)
    local phase = by_id[id]
    if not phase or seen[id] and id ~= start then return nil end
    seen[id] = true
    for _, next_id in ipairs(references(phase)) do
      if next_id == start then return way .. " → " .. next_id end
      local found = #way < 2000 and visit(next_id, way .. " → " .. next_id)
      if found then return found end
    end
  end
  return visit(start, start)
end

local function check_references(item, ids)
  local good = true
  for _, field in ipairs({ "after", "before" }) do
    local id = item.found[field]
    if id and not ids[id] then
      good = false
      local others = {}
      for name in pairs(ids) do others[name] = name ~= item.id or nil end
      local near = text.nearest(id, lists.sorted_keys(others))
      item.list:mistake(outline.line(item.lines, field), string.format(
        "%s = \"%s\": there is no such phase", field, shown(id)),
        near and string.format('did you mean "%s"?', near)
          or "take one that praxlua phase list shows, or name its script beside this one")
    end
  end
  return good
end

-- Two scripts of one folder with one id.
local function check_twins(item, items)
  for _, other in ipairs(items) do
    if other ~= item and other.id == item.id and other.folder == item.folder then
      item.list:mistake(1, string.format("%s has the same id, '%s'", text.visible(other.name),
        shown(item.id)), "rename one of the two files")
      return false
    end
  end
  return true
end

local function phase_of(item)
  return { id = item.id, file = item.name, after = item.found.after, before = item.found.before,
    from = item.folder, item = item }
end

-- Whether the phase changes something, by its grants.
local function changes(item)
  local grants = type(item.found.grants) == "table" and item.found.grants or {}
  return grants.target == "write" or grants.project == "write"
    or type(grants.tools) == "table" and #grants.tools > 0
end

-- Where a phase ends up that may change files only after the backup and before the clean-up is
-- done.
local function check_time(item, order)
  local at, backup, last
  for i, phase in ipairs(order) do
    if phase.id == "backup-preparation" then backup = i end
    if phase.id == "cleanup-documentation" then last = i end
    if phase.item == item then at = i end
  end
  if at and backup and last and changes(item) and (at < backup or at > last) then
    item.list:mistake(outline.line(item.lines, at < backup and "before" or "after"),
      "it would change something " .. (at < backup and "before the backup" or "after the end")
      .. ", where nothing may be changed", "a phase with such grants runs "
      .. reference.WHEN.changing:gsub("`", ""))
  end
end

local function usable(item)
  local after, before = item.found.after, item.found.before
  local function is_right(id) return id == nil or type(id) == "string" and id ~= "" end
  return (after ~= nil or before ~= nil) and is_right(after) and is_right(before)
end

-- Places everything that can be placed; what stands in its own way is told by its message.
local function check_order(item, built_in, others)
  local added = { phase_of(item) }
  for _, other in ipairs(others) do
    if other.id ~= item.id and other.found and usable(other) then
      added[#added + 1] = phase_of(other)
    end
  end
  local list = table.move(built_in, 1, #built_in, 1, {})
  local order, message = phases.place_all(list, added)
  if order then return check_time(item, order) end
  if message:find(item.name .. ":", 1, true) == 1 then
    item.list:mistake(outline.line(item.lines, "after"), message:sub(#item.name + 3),
      "see the order with: praxlua phase list")
  end
end

local function check_one(item, items, built_in, ids)
  local built_in_ids = ids_of(built_in, {})
  if not check_twins(item, items) or built_in_ids[item.id] or not usable(item)
    or not check_references(item, ids) then
    return
  end
  local by_id = {}
  for _, other in ipairs(items) do by_id[other.id] = other.found end
  by_id[item.id] = item.found
  local circle = circle_from(item.id, by_id)
  if circle then
    item.list:mistake(outline.line(item.lines, item.found.after and "after" or "before"),
      "it is placed by itself, in a circle: " .. text.shorten(text.visible(circle), 300),
      "place one of these by a built-in phase")
  else
    check_order(item, built_in, items)
  end
end

--- Checks the places of scripts.
---@param items table[] { id, name (of the file), folder, found, lines, list }: those to be checked
---  have a list of findings; found is their description, lines of outline.of
---@return true|nil
---@return string? message when the built-in phases cannot be read
function placement.check(items)
  local built_in, message = phases.built_in()
  if not built_in then return nil, message end
  local ids = ids_of(built_in, items)
  for _, item in ipairs(items) do
    if item.list and item.found then check_one(item, items, built_in, ids) end
  end
  return true
end

return placement
