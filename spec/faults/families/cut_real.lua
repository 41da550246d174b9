--- Real power cuts: a command runs on a volume of ext4 or XFS, and at each of its mutating calls
-- the device is taken as it is. What was not written to it by then is lost: all data and names
-- that no sync asked for, and the journal of the file system replays what it has. A sample is done
-- again with FS_IOC_SHUTDOWN, by which the file system itself stops at that moment, and has to
-- give the same tree.
--
-- A case is SCENARIO:FILESYSTEM:N:VERB, the cut after N calls of praxlua (N+M: and M of its tools
-- since then), with the verbs resume and rollback, or shutdown for the comparison. Cuts that give
-- the same image are one case, named after the last of them.
local judge = require("spec.faults.judge")
local power = require("spec.faults.power")
local scenarios = require("spec.faults.scenarios")
local volume = require("spec.faults.volume")

local family = {
  name = "cut_real", on_disk = true, needs = { "root", "loop" },
  floor = { full = { cases = 1800, states = 900 }, sample = { cases = 20 } },
}

local VERBS = { "resume", "rollback" }

-- How many cuts of a unit are looked at (nil: all), and how many are done again by a shutdown.
local SHARES = {
  full = { scenarios = scenarios.NAMES, shutdowns = 8 },
  sample = { scenarios = { "upgrade", "undo" }, cuts = 5, shutdowns = 1 },
}

function family.run(c)
  local reason = power.unable(c)
  if reason then return { cases = 0, bad = {}, skipped = reason } end
  local kinds, reasons = power.file_systems(c)
  local jobs = {}
  for _, scenario in ipairs(SHARES[c.share].scenarios) do
    for _, kind in ipairs(kinds) do
      local name = scenario .. ":" .. kind
      if not c.only or c.only:find(name .. ":", 1, true) == 1 then
        jobs[#jobs + 1] = { name = name, scenario = scenario, kind = kind }
      end
    end
  end
  local result = power.run(c, jobs)
  result.details.skipped = next(reasons) and reasons or nil
  return result
end

-- ---------------------------------------------------------------------------------------------
-- One scenario on one file system

-- What the cuts are called: the numbers of the tools' calls are not the same in each run.
local function name_cuts(cuts, calls)
  local host, tools = 0, 0
  for i, cut in ipairs(cuts) do
    cut.label = tools > 0 and host .. "+" .. tools or tostring(host)
    local by_host = calls[i] and calls[i].role == "host"
    host, tools = by_host and host + 1 or host, by_host and 0 or tools + 1
  end
end

local function note(found, case, problems)
  found.cases = found.cases + 1
  if #problems > 0 then
    found.bad[#found.bad + 1] = { case = case, why = table.concat(problems, "\n") }
  end
end

-- One cut for each image, in order; the last one, after the end of the command, is always among
-- them.
local function distinct(cuts)
  local list, seen = {}, {}
  for i = #cuts, 1, -1 do
    if not seen[cuts[i].digest] then
      seen[cuts[i].digest] = true
      table.insert(list, 1, cuts[i])
    end
  end
  return list
end

local function sample(list, count, random)
  if not count or #list <= count then return list end
  local chosen = { list[#list] }
  local rest = power.shuffle({ table.unpack(list, 1, #list - 1) }, random)
  return table.move(rest, 1, count - 1, 2, chosen)
end

local function recover(u, found, cut, verb)
  local case = ("%s:%s:%s"):format(u.job.name, cut.label, verb)
  if u.job.only and u.job.only ~= case then return end
  power.mount(u, cut.image)
  local problems = cut.name == "end" and power.survived(u) or {}
  local state = volume.digest(u.point)
  found.states[#found.states + 1] = state
  local more, outcome = power.recover(u, verb)
  table.move(more, 1, #more, #problems + 1, problems)
  found.details.outcomes[outcome] = (found.details.outcomes[outcome] or 0) + 1
  note(found, case, problems)
end

-- The command once more, with the file system stopped at a cut; the disk as it is then and the copy
-- of the device made just before have to be the same tree.
local function shut_down(u, found, cut)
  local case, n = ("%s:%s:shutdown"):format(u.job.name, cut.label), cut.n
  if u.job.only and u.job.only ~= case then return end
  local copies = u.ram .. "/shutdown"
  os.execute("rm -rf " .. copies .. " && mkdir " .. copies)
  power.mount(u, u.start)
  local program = volume.program()
  local result = power.traced(u, { mode = "pause", at = n, hook = { "sh", "-c",
    ("%s cut %s %s \"$0\" \"$1\" && %s shutdown %s"):format(program, u.work, copies, program,
      u.point) } })
  local problems = {}
  if not result.hit or result.hooks[1].code ~= 0 then
    problems[1] = "the file system was not shut down: " .. result.hook_output
  end
  power.unmount(u)
  volume.mount(u.kind, u.work, u.point)
  if result.code == 0 then -- what was durable by then may end well without the disk
    local version, difference = judge.version(u.s)
    if version ~= (u.s.goes_back and "old" or "new") then
      problems[#problems + 1] = "exit 0 on a file system that was gone: " .. (difference or version)
    end
  end
  local stopped = volume.digest(u.point)
  power.unmount(u)
  power.mount(u, copies .. "/" .. power.read(copies .. "/cuts"):match("(%x+)\n"))
  local copied = volume.digest(u.point)
  if stopped ~= copied then
    problems[#problems + 1] = "the copy of the device is another state than a shutdown leaves"
  end
  found.states[#found.states + 1] = stopped
  local more = power.recover(u, VERBS[n % 2 + 1])
  table.move(more, 1, #more, #problems + 1, problems)
  note(found, case, problems)
end

--- The work of one unit (see power.lua).
---@param u table
---@param job { scenario: string, kind: string }
---@return table found
function family.unit(u, job)
  local share = SHARES[job.share]
  power.open(u, job.scenario, job.kind)
  local cuts, result = power.record(u)
  name_cuts(cuts, result.calls)
  u.another_boot()
  local random = power.random(job.seed, job.name)
  local all = distinct(cuts)
  local found = {
    cases = 0, bad = power.array({}), states = power.array({}),
    details = { calls = #cuts - 1, images = #all, outcomes = {} },
  }
  for _, cut in ipairs(job.only and all or sample(all, share.cuts, random)) do
    for _, verb in ipairs(VERBS) do recover(u, found, cut, verb) end
  end
  table.remove(cuts) -- after the last call there is nothing to stop at
  power.shuffle(cuts, random)
  for i = 1, job.only and #cuts or share.shutdowns do shut_down(u, found, cuts[i]) end
  return found
end

return family
