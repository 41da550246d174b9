--- Takes the defences out one at a time, each in a copy of the sources, and wants that one of its
--- hostile phases turns red. Each phase has to be green with all defences in place.
local command = require("spec.support.command")
local cases = require("spec.sandbox.cases")
local defences = require("spec.sandbox.defences")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local mutant_tree = require("spec.support.mutant_tree")
local pool = require("spec.sandbox.pool")

local defending = {}

local quote = command.quote
local SAMPLE = 3 -- defences
local LUA = os.getenv("LUA") or "lua5.4"

local function named(name)
  for _, defence in ipairs(defences.list) do
    if defence.name == name then return defence end
  end
  error("there is no defence " .. name, 0)
end

--- The text of a file without a defence.
---@param defence table
---@return string|nil changed
---@return string? why not
function defending.without(defence)
  local text = assert(helper.read(defence.file), defence.file)
  local from, to = text:find(defence.find, 1, true)
  if not from then return nil, "what it is made of is not in " .. defence.file end
  if text:find(defence.find, to + 1, true) then
    return nil, "what it is made of is twice in " .. defence.file
  end
  return text:sub(1, from - 1) .. defence.becomes .. text:sub(to + 1)
end

-- What is red with all defences in place, as text; nil when nothing is.
local function red_before(defence, options)
  for _, id in ipairs(defence.cases) do
    for _, level in ipairs(pool.LEVELS) do
      if pool.applies(cases.named(id), level) and options.executables[level] then
        local result = pool.run(cases.named(id), level, options.executables[level], options.base)
        if result.problems then return ("%s (%s): %s"):format(id, level, result.problems[1]) end
      end
    end
  end
end

-- The first case that turns red in a tree.
local function caught_by(w, defence)
  for _, id in ipairs(defence.cases) do
    local green = mutant_tree.run(("cd %s && env -u PRAXLUA_PATH PRAXLUA_HOST=%s B=%s CASE=%s "
      .. "JOBS=1 LUA_PATH='./?.lua;lua/?.lua;lua/?/init.lua;;' LUA_CPATH='%s/lib/?.so;;' "
      .. "timeout --kill-after=5 240 %s spec/sandbox/main.lua"):format(w.tree, w.host, w.build, id,
      w.build, quote(LUA)))
    if not green then return id end
  end
end

local function try(w, defence)
  local made, output = mutant_tree.make(w, "sandbox-tools")
  if not made then return { problems = { "does not build without it: " .. output } } end
  local id = caught_by(w, defence)
  if id then return { caught_by = id } end
  return { problems = { "is not missed by " .. table.concat(defence.cases, ", ") } }
end

--- One defence.
---@param item { name: string }
---@param options table of the run, with the number of this process
---@return { caught_by: string?, problems: string[]? } result
function defending.one(item, options)
  local defence = named(item.name)
  local changed, why = defending.without(defence)
  if not changed then return { problems = { why } } end
  local red = red_before(defence, options)
  if red then return { problems = { "red with all defences in place: " .. red } } end
  local directory = ("%s/tree-%s"):format(options.base, options.number)
  lfs.mkdir(directory)
  local w = mutant_tree.open(directory)
  local made, output = mutant_tree.make(w)
  if not made then return { problems = { "does not build: " .. output } } end
  local ok, result = mutant_tree.with(w, defence.file, changed, function()
    return try(w, defence)
  end)
  return ok and result or { problems = { result } }
end

--- The defences of a run.
---@param options table
---@param some function
---@return table[] items
---@return string? why there are none
function defending.items(options, some)
  if not options.executables.raw or not options.executables.unconfined then
    return {}, options.missing.raw or options.missing.unconfined
  end
  local chosen = defences.list
  if options.defence then
    chosen = { named(options.defence) }
  elseif options.share == "sample" then
    chosen = some(chosen, SAMPLE)
  end
  local items = {}
  for i, defence in ipairs(chosen) do
    items[i] = { kind = "defending", name = defence.name,
      again = ("make sandbox DEFENCE=%s"):format(quote(defence.name)) }
  end
  return items
end

--- Prints the table: defence, and who missed it.
---@param items table[]
---@param results table[]
---@param say function
---@return table data
function defending.tell(items, results, say)
  local width, data = 0, {}
  for _, item in ipairs(items) do width = math.max(width, #item.name) end
  say("  %-" .. width .. "s  %s", "defence", "missed by")
  for i, item in ipairs(items) do
    local caught = results[i] and results[i].caught_by
    say("  %-" .. width .. "s  %s", item.name, caught or "nobody")
    data[item.name] = caught or false
  end
  return data
end

return defending
