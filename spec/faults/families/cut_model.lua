--- Power cuts by the model (model.lua): a command runs once, all its changes to the disk are
-- recorded, and from these the states are made that any file system may leave behind, however
-- loosely it orders what was not synced. Each state is made for real: a copy of the disk at the
-- last full sync, with the changes that arrived; then resume or rollback, and the judge.
--
-- The model has to explain the disk first: at each full sync the tree it has in mind must be the
-- tree on the device, or the record is incomplete and the unit fails.
--
-- A case is SCENARIO:SYNC:CUT:KIND:NUMBER:VERB: after the SYNC-th full sync and CUT calls, the
-- state of that kind (model.states), for the change of that number.
local lfs = require("lfs")
local model = require("spec.faults.model")
local power = require("spec.faults.power")
local scenarios = require("spec.faults.scenarios")
local volume = require("spec.faults.volume")

local family = {
  name = "cut_model", needs = { "root", "loop" },
  floor = { full = { cases = 1700, states = 1700 }, sample = { cases = 36, states = 36 } },
}

local KIND = "ext4" -- of the volume; the model does not know
local HALF = true -- rule 6 of the model in its weaker form, too

-- How many states of each scenario.
local SHARES = {
  full = { scenarios = scenarios.NAMES, states = 220 },
  sample = { scenarios = { "upgrade", "undo" }, states = 20 },
}

-- The kinds in the order in which they are taken, again and again.
local TURNS = {
  "lost", "alone", "random", "none", "lost", "alone", "torn", "names", "lost", "alone", "zeros",
  "content", "both", "random", "neither", "alone-zeros", "alone-both", "all",
  "alone-neither",
}

function family.run(c)
  local reason = power.unable(c)
  if reason then return { cases = 0, bad = {}, skipped = reason } end
  local jobs = {}
  for _, scenario in ipairs(SHARES[c.share].scenarios) do
    if not c.only or c.only:find(scenario .. ":", 1, true) == 1 then
      jobs[#jobs + 1] = { name = scenario, scenario = scenario }
    end
  end
  return power.run(c, jobs)
end

-- ---------------------------------------------------------------------------------------------
-- From the log to models

-- A call of the tracer's log as the model wants it; nil for one outside the volume.
local function translated(call, point)
  local function inside(path)
    return path and path:sub(1, #point + 1) == point .. "/" and path:sub(#point + 2)
      or path == point and "" or nil
  end
  local path = inside(call.path or call.fd_path)
  if not path then return nil end
  return {
    n = call.n, name = call.name, path = path, path2 = inside(call.path2), flags = call.flags,
    mode = call.mode, size = call.size,
    offset = call.offset and call.offset >= 0 and call.offset or nil, data = call.data,
    target = call.text, inode = call.inode, result = call.result,
  }
end

-- The stretches between the full syncs: each with the image it begins with and its calls.
local function stretches(u, cuts, calls)
  local list = { { image = u.start, calls = {} } }
  for i, call in ipairs(calls) do
    assert(call.n == i, "a call is missing in the log")
    local last = list[#list]
    last.calls[#last.calls + 1] = assert(translated(call, u.point), "a call outside of the volume")
    if call.name == "syncfs" and call.result == 0 then
      list[#list + 1] = { image = cuts[i + 1].image, calls = {} }
    end
  end
  return list
end

-- Where the tree the model has in mind is not the one on the device.
local function unexplained(m, s, entries)
  local tree, wrong = model.tree(m, s), {}
  for _, entry in ipairs(entries) do
    local mine = tree[entry.path]
    tree[entry.path] = nil
    local digest = mine and not mine.content and m.inodes[mine.id].digest
    local content = entry.type == "file" and (digest and entry.digest or entry.read())
    if not mine then
      wrong[#wrong + 1] = "not in the model: " .. entry.path
    elseif mine.type ~= entry.type or mine.target ~= entry.target
      or entry.type ~= "link" and mine.mode ~= entry.mode
      or content and content ~= (digest or mine.content)
    then
      wrong[#wrong + 1] = "other in the model: " .. entry.path
    end
  end
  for path in pairs(tree) do wrong[#wrong + 1] = "only in the model: " .. path end
  return wrong
end

-- The tree of a base image, read through a mount that stays for as long as its model is used. It is
-- not mounted on the tmpfs of the images: if that went first, it and the loop devices would keep
-- each other for ever.
local function open_base(u, stretch, i)
  local name = "/base-" .. i
  local image, point = u.ram .. name, u.job.directory .. name
  assert(lfs.mkdir(point))
  volume.copy(stretch.image, image)
  volume.mount(KIND, image, point)
  u.bases[#u.bases + 1] = point
  return volume.list(point)
end

-- The models of all stretches, each proven by the base of the next one.
local function models(u, list)
  for i, stretch in ipairs(list) do
    local entries = open_base(u, stretch, i)
    local before = list[i - 1]
    if before then
      local m = before.m
      local wrong = unexplained(m, model.state(m, m.calls, {}), entries)
      if #wrong > 0 then
        error(("the model does not explain sync %d:\n%s"):format(i - 1,
          table.concat(wrong, "\n", 1, math.min(#wrong, 10))), 0)
      end
    end
    stretch.m = model.new(model.base(entries), stretch.calls)
  end
end

-- ---------------------------------------------------------------------------------------------
-- States

-- Every state worth looking at, by its kind.
local function candidates(list)
  local by_kind = {}
  for _, kind in ipairs(model.KINDS) do by_kind[kind] = {} end
  for i, stretch in ipairs(list) do
    local calls = stretch.m.calls
    local last = i < #list and calls - 1 or calls -- with its sync it is the next one's beginning
    for cut = 0, last do
      for _, one in ipairs(model.states(stretch.m, cut, HALF)) do
        table.insert(by_kind[one.kind], { sync = i - 1, cut = cut, kind = one.kind,
          number = one.number })
      end
    end
  end
  return by_kind
end

local function name_of(u, one)
  return ("%s:%d:%d:%s:%d"):format(u.job.name, one.sync, one.cut, one.kind, one.number)
end

local function state_of(u, list, one)
  local m = list[one.sync + 1].m
  local chosen = model.chosen(m, one.cut, one.kind, one.number,
    power.random(u.job.seed, name_of(u, one)))
  return m, model.state(m, one.cut, chosen)
end

-- Up to `count` states that differ, by turns of the kinds.
local function choose(u, list, count)
  local by_kind, seen, chosen = candidates(list), {}, {}
  for kind, all in pairs(by_kind) do
    power.shuffle(all, power.random(u.job.seed, u.job.name, kind))
  end
  local took = true
  while took and #chosen < count do
    took = false
    for _, kind in ipairs(TURNS) do
      local one = table.remove(by_kind[kind])
      if one and #chosen < count then
        took = true
        local m, s = state_of(u, list, one)
        local key = one.sync .. "\n" .. model.key(m, s)
        if not seen[key] then
          seen[key] = true
          chosen[#chosen + 1] = one
        end
      end
    end
  end
  return chosen
end

-- The case of CASE, whatever its verb.
local function chosen_by_name(only)
  local sync, cut, kind, number = only:match("^[^:]+:(%d+):(%d+):([%l-]+):(%d+)")
  assert(sync, "no such case")
  return { { sync = math.tointeger(sync), cut = math.tointeger(cut), kind = kind,
    number = math.tointeger(number) } }
end

local VERBS = { "resume", "rollback" }

local function try(u, found, list, one, seen)
  local name = name_of(u, one)
  local verb = u.job.only and u.job.only:match("%l+$") or VERBS[power.random(u.job.seed, name)(2)]
  local m, s = state_of(u, list, one)
  local plan = u.ram .. "/plan"
  local file = assert(io.open(plan, "wb"))
  assert(file:write(model.plan(m, s)))
  assert(file:close())
  power.mount(u, list[one.sync + 1].image)
  volume.run("replay", u.point, plan)
  local state = volume.digest(u.point)
  if seen[state] then return power.unmount(u) end
  seen[state] = true
  found.states[#found.states + 1] = state
  local problems = {}
  if one.sync == #list - 1 and one.cut == m.calls then problems = power.survived(u) end
  local more, outcome = power.recover(u, verb)
  table.move(more, 1, #more, #problems + 1, problems)
  found.cases = found.cases + 1
  found.details.outcomes[outcome] = (found.details.outcomes[outcome] or 0) + 1
  found.details.kinds[one.kind] = (found.details.kinds[one.kind] or 0) + 1
  if #problems > 0 then
    found.bad[#found.bad + 1] = { case = name .. ":" .. verb, why = table.concat(problems, "\n") }
  end
end

--- The work of one unit (see power.lua).
---@param u table
---@param job { scenario: string }
---@return table found
function family.unit(u, job)
  power.open(u, job.scenario, KIND)
  local cuts, result = power.record(u)
  u.another_boot()
  local list = stretches(u, cuts, result.calls)
  u.bases = {}
  models(u, list)
  local found = {
    cases = 0, bad = power.array({}), states = power.array({}),
    details = { calls = #result.calls, syncs = #list - 1, outcomes = {}, kinds = {} },
  }
  local count = SHARES[job.share].states
  -- States that the model tells apart may be one on the disk, so more are made than are wanted.
  local chosen = job.only and chosen_by_name(job.only) or choose(u, list, 2 * count)
  local seen = {}
  for _, one in ipairs(chosen) do
    if found.cases < count then try(u, found, list, one, seen) end
  end
  for _, point in ipairs(u.bases) do volume.unmount(point) end
  return found
end

return family
