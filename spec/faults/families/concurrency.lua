--- More than one at a time: many starters, an owner that stands still or is dead, tools that
-- outlive it, numbers of processes that mean another one, and a person who saves files all the
-- while.
--
-- A case is one of
--   starters:NUMBER              so many upgrades at the same moment
--   mixed:SEED                   all kinds of commands at the same moment
--   frozen:SCENARIO:STRIDE:OFFSET  others come while praxlua stands still, at each call of a class
--   taken:SCENARIO:N:MODE:WHO    killed at a call, and somebody takes over at once
--   orphan:TOOL:SHAPE:KILLER:WHEN  killed while a tool works
--   reused:WHAT                  the same number, another process
--   edit:SCENE:N                 a person saves every file exactly at a call
--   person:STORY:SEED            a person saves all the time
--   stopped:SEED                 the owner is stopped for a while and goes on
local core = require("praxlua.core")
local edits = require("spec.faults.edits")
local frozen = require("spec.faults.frozen")
local nemesis = require("spec.faults.nemesis")
local orphans = require("spec.faults.orphans")
local person = require("spec.faults.person")
local reused = require("spec.faults.reused")
local stopped = require("spec.faults.stopped")
local storm = require("spec.faults.storm")

local concurrency = {
  name = "concurrency",
  floor = { full = { cases = 880 }, sample = { cases = 25 } },
}

-- ---------------------------------------------------------------------------------------------
-- One case

local kinds = {}

function kinds.starters(_, number) return storm.starters(tonumber(number)) end

function kinds.mixed(c) return storm.mixed(c.random, 16, 3) end

-- Counts how often somebody came.
function kinds.frozen(c, scenario, stride, offset)
  return frozen.others_come(c.scenario(scenario), c.directory, math.tointeger(stride),
    math.tointeger(offset))
end

function kinds.taken(c, scenario, n, mode, who)
  return frozen.taken_over(c.scenario(scenario), math.tointeger(n), mode, who == "leader")
end

function kinds.orphan(_, tool, shape, killer, when)
  return orphans.one({ tool = tool, shape = shape, killer = killer ~= "none" and killer or nil,
    late = when == "late" })
end

function kinds.reused(_, what) return reused.run(what) end

function kinds.edit(c, scene, n) return edits.at(c.memory, scene, math.tointeger(n)) end

function kinds.person(c, story, seed)
  return person.story(story, c.random, math.tointeger(seed))
end

function kinds.stopped(c) return stopped.one(c.random) end

--- Runs one case.
---@param c table
---@param item { case: string }
---@return { problems: string[], count: integer, seconds: number } count: of looks or saves, where
---  there are any
function concurrency.one(c, item)
  local words = {}
  for word in item.case:gmatch("[^:]+") do words[#words + 1] = word end
  nemesis.stay_in(c.directory)
  local began = core.system.monotonic()
  local ok, problems, count = xpcall(kinds[words[1]], debug.traceback, c, table.unpack(words, 2))
  if not ok then problems = { problems } end
  if words[1] ~= "edit" then
    nemesis.clean()
    c.memory.upgrade, c.memory.failing, c.memory.undo = nil, nil, nil -- the scenes of edits.lua
  end
  return { problems = problems, count = count or 0, seconds = core.system.monotonic() - began }
end

-- ---------------------------------------------------------------------------------------------
-- Which cases

--- The calls of one scene or scenario.
---@param c table
---@param item { what: "scene"|"scenario", name: string }
---@return table calls for a scene: true for those at the installation's own files; for a scenario
---  their number
function concurrency.count(c, item)
  if item.what == "scenario" then return { count = frozen.calls(c.scenario(item.name)) } end
  nemesis.stay_in(c.directory)
  local near = {}
  for i, call in ipairs(edits.calls(c.memory, item.name)) do near[i] = edits.is_near(call) end
  return { near = near }
end

local function add(items, ...) items[#items + 1] = { case = table.concat({ ... }, ":") } end

-- Every call near the files of the installation, and some of the others.
local function add_edits(items, c, counted)
  for i, scene in ipairs(edits.SCENES) do
    for n, near in ipairs(counted[i].near) do
      local chosen = c.share == "full" and (near or n % 16 == 0)
      if chosen or c.share == "sample" and near and c.random(40) == 1 then
        add(items, "edit", scene, n)
      end
    end
  end
end

local TAKEN = { "upgrade", "custom", "first" }

local function add_taken(items, c, counted)
  for i, scenario in ipairs(TAKEN) do
    local count = counted[#edits.SCENES + i] and counted[#edits.SCENES + i].count
    for _ = 1, not count and 0 or c.share == "full" and 10 or 2 do
      add(items, "taken", scenario, c.random(count), c.random(2) == 1 and "before" or "after",
        c.random(2) == 1 and "leader" or "all")
    end
  end
end

-- A descendant that left session, parent and environment behind cannot be told from anybody's
-- process once praxlua and the watcher are both dead (as they are when this test ends a watcher
-- that was asleep).
local HOPELESS = { ["stranger:all"] = true, ["stranger:asleep"] = true }

-- pip in every way; the other tools are started by the same means.
local function add_orphans(items, c)
  for _, shape in ipairs(orphans.SHAPES) do
    for _, tool in ipairs(orphans.TOOLS) do
      -- Only a tool that leaves somebody behind comes to its end by itself.
      if shape == "leaves" then add(items, "orphan", tool, shape, "none", "now") end
      if tool ~= "pip" then add(items, "orphan", tool, shape, "main", "now") end
    end
    for _, killer in ipairs(orphans.KILLERS) do
      for _, when in ipairs({ "now", "late" }) do
        if not HOPELESS[shape .. ":" .. killer] then
          add(items, "orphan", "pip", shape, killer, when)
        end
      end
    end
  end
  if c.share == "full" then return end
  while #items > 4 do table.remove(items, c.random(#items)) end
end

local function add_all(items, more) table.move(more, 1, #more, #items + 1, items) end

local FROZEN = {
  full = { upgrade = 2, custom = 6, failing = 6, resume = 6, rollback = 6, undo = 6, restore = 6 },
  sample = { upgrade = 24 },
}

local function add_frozen(items, c)
  for scenario, stride in pairs(FROZEN[c.share]) do
    -- All of one scenario's calls where the stride is short, one class of them elsewhere.
    local offsets = stride == 2 and { 0, 1 } or { c.random(stride) - 1 }
    for _, offset in ipairs(offsets) do add(items, "frozen", scenario, stride, offset) end
  end
end

local function cases_of(c, counted)
  local items, some = {}, {}
  local full = c.share == "full"
  add(items, "starters", 50)
  add_frozen(items, c)
  for _ = 1, full and 6 or 1 do add(items, "mixed", c.random(1 << 20)) end
  add_edits(items, c, counted)
  add_taken(items, c, counted)
  add_orphans(some, c)
  add_all(items, some)
  for _ = 1, full and 8 or 1 do
    for _, story in ipairs(full and person.STORIES or { person.STORIES[c.random(3)], "undo" }) do
      add(items, "person", story, c.random(1 << 20))
    end
  end
  for _ = 1, full and 6 or 1 do add(items, "stopped", c.random(1 << 20)) end
  if reused.is_possible() then
    for _, what in ipairs(full and reused.CASES or { reused.CASES[c.random(3)] }) do
      add(items, "reused", what)
    end
  end
  return items
end

-- Problems as one text: the same one only once, and not more than a screen.
local function text_of(problems)
  local lines, seen, times = {}, {}, {}
  for _, problem in ipairs(problems) do
    local form = problem:gsub("%x%x%x%x+", "x"):gsub("%d+", "0")
    times[form] = (times[form] or 0) + 1
    if not seen[form] and #lines < 16 then lines[#lines + 1], seen[form] = problem, #lines + 1 end
  end
  for form, at in pairs(seen) do
    if times[form] > 1 then lines[at] = ("%s (%d times)"):format(lines[at], times[form]) end
  end
  return table.concat(lines, "\n")
end

local function counted_calls(c)
  local wanted = {}
  for i, name in ipairs(edits.SCENES) do wanted[i] = { what = "scene", name = name } end
  for i, name in ipairs(TAKEN) do
    -- A scenario takes its time to be made; the sample has one.
    if c.share == "full" or i == 1 then
      wanted[#wanted + 1] = { what = "scenario", name = name }
    end
  end
  local only = c.only
  c.only = nil
  local counted = c.map(wanted, "count")
  c.only = only
  return counted
end

--- The family.
---@param c table
---@return table result
function concurrency.run(c)
  local items
  if c.only then
    items = { { case = c.only } }
  else
    local counted = counted_calls(c)
    for _, one in ipairs(counted) do assert(not one.crashed, one.crashed) end
    items = cases_of(c, counted)
  end
  local bad, sums = {}, {}
  for i, result in pairs(c.map(items, "one")) do
    local case = items[i].case
    local problems = result.problems or { result.crashed }
    if #problems > 0 then bad[#bad + 1] = { case = case, why = text_of(problems) } end
    local kind = case:match("^%a+")
    local sum = sums[kind] or { cases = 0, count = 0, seconds = 0 }
    sum.cases, sum.count = sum.cases + 1, sum.count + math.tointeger(result.count or 0)
    sum.seconds, sums[kind] = sum.seconds + (result.seconds or 0), sum
  end
  table.sort(bad, function(a, b) return a.case < b.case end)
  local looks = sums.frozen and sums.frozen.count or 0
  return { cases = #items + looks, bad = bad, details = { by_kind = sums,
    not_tried = not reused.is_possible() and "no namespaces of our own: reused numbers" or nil } }
end

return concurrency
