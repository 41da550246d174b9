--- Two kills: the first one in a command, the second one at each mutating call of the resume or
-- the rollback that follows. A third, clean recovery is judged.
--
-- A case is SCENARIO:N:VERB:M:MODE:VERB: killed before call N, recovered by the first verb, killed
-- at call M of that, recovered by the second verb.
local judge = require("spec.faults.judge")
local moments = require("spec.faults.families.kill").moments
local scenarios = require("spec.faults.scenarios")

local double = {
  name = "double", has_all = true, on_disk = true,
  floor = { full = { cases = 300, states = 150 }, sample = { cases = 10 } },
}

local VERBS = { "resume", "rollback" }
-- First kills whose recovery is killed at every call, and kills of pairs taken at random.
local SHARES = {
  full = { firsts = 6, pairs = 150 }, sample = { firsts = 0, pairs = 18 },
  all = { firsts = 40, pairs = 2000 },
}

--- How many calls a scenario's command makes.
function double.count(c, item)
  local s = c.scenario(item.scenario)
  s.reset()
  return { calls = scenarios.trace(s, s.argv, { mode = "count" }).count }
end

-- Kills the scenario's command before its call n. Returns the command that a person runs then; nil
-- where nothing is open yet.
local function first_kill(s, item)
  s.reset()
  local killed = scenarios.trace(s, s.argv, { mode = "before", at = math.tointeger(item.n) })
  assert(killed.hit, "the first kill did not happen")
  return judge.command(s, item.first)
end

--- The moments of the recovery after a first kill.
function double.recovery(c, item)
  local s = c.scenario(item.scenario)
  local argv = first_kill(s, item)
  if not argv then return { moments = {} } end
  local counted = scenarios.trace(s, argv, { mode = "count", log = true })
  return { moments = (moments(counted.calls, {})) }
end

--- Two kills and a clean recovery. The second kill of a pair is at a call that is chosen here.
function double.one(c, item)
  local s = c.scenario(item.scenario)
  local argv = first_kill(s, item)
  if not argv then return { problems = {}, outcome = "nothing" } end
  local killed = scenarios.trace(s, argv, { mode = item.mode, at = math.tointeger(item.m) })
  local outcome = killed.hit and "killed" or "over"
  local state = judge.digest(s)
  local problems = judge.recover(s, item.second, { again = c.random(8) == 1,
    goes_back = item.first == "rollback" })
  return { problems = problems, outcome = outcome, state = item.scenario .. state }
end

-- ---------------------------------------------------------------------------------------------
-- Which cases there are

local function any(c, list) return list[c.random(#list)] end

-- A first kill that leaves something open: the first calls of a command make its session.
local function first(c, counts)
  local i = c.random(#scenarios.NAMES)
  local calls = math.tointeger(counts[i].calls)
  local early = calls // 8
  return { scenario = scenarios.NAMES[i], n = early + c.random(calls - early), calls = calls,
    first = any(c, VERBS) }
end

local function with_second(item, m, mode, second)
  local case = ("%s:%d:%s:%d:%s:%s"):format(item.scenario, item.n, item.first, m, mode, second)
  return {
    case = case, scenario = item.scenario, n = item.n, first = item.first, m = m, mode = mode,
    second = second,
  }
end

-- A call of its recovery, by what a resume has left to do and a rollback has to undo.
local function pair_at(c, item)
  local calls = item.first == "resume" and item.calls - item.n + 8 or 16 + item.n // 8
  return with_second(item, c.random(calls), "before", any(c, VERBS))
end

local function cases_of(c)
  local counts = c.each_scenario(scenarios.NAMES, "count")
  c.reseed("cases")
  local share = SHARES[c.share]
  local items, firsts = {}, {}
  for i = 1, share.firsts do firsts[i] = first(c, counts) end
  for _ = 1, share.pairs do items[#items + 1] = pair_at(c, first(c, counts)) end
  for i, found in ipairs(c.map(firsts, "recovery")) do
    if found.crashed then error(found.crashed, 0) end
    for _, moment in ipairs(found.moments) do
      local m = math.tointeger(moment.n)
      items[#items + 1] = with_second(firsts[i], m, moment.mode, any(c, VERBS))
    end
  end
  table.sort(items, function(a, b) return a.scenario < b.scenario end)
  return items
end

local function parse(case)
  local scenario, n, verb, m, mode, second =
    case:match("^(%l+):(%d+):(%l+):(%d+):(%l+):(%l+)$")
  assert(scenario, "a case is SCENARIO:N:VERB:M:MODE:VERB")
  return with_second({ scenario = scenario, n = math.tointeger(n), first = verb },
    math.tointeger(m), mode, second)
end

--- Runs the family.
---@param c table
---@return table result
function double.run(c)
  local items = c.only and { parse(c.only) } or cases_of(c)
  local bad, states, cases, distinct, outcomes = {}, {}, 0, 0, {}
  for i, result in pairs(c.map(items, "one")) do
    if result.crashed then result = { problems = { result.crashed }, outcome = "crashed" } end
    if #result.problems > 0 then
      bad[#bad + 1] = { case = items[i].case, why = table.concat(result.problems, "\n") }
    end
    if result.outcome == "killed" then cases = cases + 1 end
    outcomes[result.outcome] = (outcomes[result.outcome] or 0) + 1
    if result.state and not states[result.state] then
      states[result.state], distinct = true, distinct + 1
    end
  end
  return { cases = cases, states = distinct, bad = bad, details = { outcomes = outcomes } }
end

return double
