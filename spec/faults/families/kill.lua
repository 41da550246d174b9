--- SIGKILL before, inside and after every mutating call of praxlua; then resume or rollback, and
-- everything the judge can say. Each case is a run of its own, killed for real.
--
-- A case is SCENARIO:WHO:N:MODE:VERB, such as upgrade:host:123:torn:resume. WHO is host, or tools
-- for the calls of what praxlua starts (git, pip, the server), of which a part is taken.
--
-- Two moments are one state of the disk, and one case is run for both, where one call's end and
-- the next one's beginning have nothing between them, and before and after a call that changes no
-- file (fsync, flock). Of moments that lead to the same state by the judge's digest, the first is
-- judged.
local judge = require("spec.faults.judge")
local scenarios = require("spec.faults.scenarios")

local kill = {
  name = "kill",
  floor = { full = { cases = 4000, states = 500 }, sample = { cases = 40, states = 20 } },
}

local VERBS = { "resume", "rollback" }
local SAMPLE = 60 -- cases
local TOOLS_SAMPLE = 40 -- calls of tools, a scenario

-- Tools write beside the project as well: git into its repository.
local function trace(s, options)
  options.root = options.who == "host" and s.project or s.root
  return scenarios.trace(s, s.argv, options)
end

-- What a run does to the disk: its calls, as far as it matters here.
local function calls_of(s, who)
  s.reset()
  local counted = trace(s, { mode = "count", log = true, who = who })
  assert(counted.code == s.code, counted.stderr)
  local calls = {}
  for i, call in ipairs(counted.calls) do
    calls[i] = {
      kind = call.kind, result = call.result, role = call.role, place = scenarios.place(s, call),
    }
  end
  return calls
end

--- The calls of one run of a scenario's command.
---@param c table
---@param item { scenario: string }
---@return table calls host, tools and all, each an array of { kind, result, role, place }
function kill.count(c, item)
  local s = c.scenario(item.scenario)
  return { host = calls_of(s, "host"), tools = calls_of(s, "tools"), all = calls_of(s, "all") }
end

--- Kills one run, and brings what is left to its end.
---@param c table
---@param item { scenario: string, who: string, n: integer, mode: string, verb: string }
---@return table result { problems, outcome, state }
function kill.one(c, item)
  local s = c.scenario(item.scenario)
  s.reset()
  local killed = trace(s, { mode = item.mode, at = math.tointeger(item.n), who = item.who })
  if not killed.hit then -- git does not always do the same
    local problems = item.who == "host" and { "the call was not reached" } or {}
    return { problems = problems, outcome = "missed" }
  end
  local state = judge.digest(s)
  if not c.claim(table.concat({ item.scenario, item.verb, state }, "-")) then
    return { problems = {}, outcome = "same", state = state }
  end
  local problems, outcome = judge.recover(s, item.verb, { again = c.random(8) == 1 or nil })
  return { problems = problems, outcome = outcome, state = state }
end

-- ---------------------------------------------------------------------------------------------
-- Which cases there are

-- Calls that change no file.
local FILES_STAY = { sync = true, lock = true }

-- The numbers of praxlua's calls that are directly followed by one of a tool.
local function interrupted(calls)
  local found, n, all = {}, 0, calls.all
  for i, call in ipairs(all) do
    if call.role ~= "tool" then
      n = n + 1
      found[n] = all[i + 1] ~= nil and all[i + 1].role == "tool"
    end
  end
  assert(n == #calls.host, "praxlua writes outside of the project")
  return found
end

--- The moments at which a run is killed, and how many more they stand for.
---@param calls { kind: string, result: integer }[]
---@param followed table<integer, boolean> calls after which a tool acts
---@return { n: integer, mode: string }[] moments
---@return integer folded
function kill.moments(calls, followed)
  local found, folded = {}, 0
  for n, call in ipairs(calls) do
    local previous = calls[n - 1]
    if previous and FILES_STAY[previous.kind] and not followed[n - 1] then
      folded = folded + 1
    else
      found[#found + 1] = { n = n, mode = "before" }
    end
    if call.kind == "write" and call.result > 1 then
      found[#found + 1] = { n = n, mode = "torn" }
    end
    if n == #calls or followed[n] then
      found[#found + 1] = { n = n, mode = "after" }
    else
      folded = folded + 1
    end
  end
  return found, folded
end

local function add_cases(items, scenario, who, moment)
  for _, verb in ipairs(VERBS) do
    local case = ("%s:%s:%d:%s:%s"):format(scenario, who, moment.n, moment.mode, verb)
    items[#items + 1] = {
      case = case, scenario = scenario, who = who, n = moment.n, mode = moment.mode, verb = verb,
    }
  end
end

local function cases_of(c, names, counted)
  local items, details, of_host = {}, { calls = {}, folded = 0, calls_of_tools = {} }, {}
  for i in ipairs(names) do of_host[i] = counted[i].host end
  for i, name in ipairs(names) do
    local calls = counted[i]
    details.calls[name], details.calls_of_tools[name] = #calls.host, #calls.tools
    local list, folded = kill.moments(calls.host, interrupted(calls))
    local from = scenarios.own_part(name, of_host)
    for _, moment in ipairs(list) do
      if moment.n >= from then add_cases(items, name, "host", moment) end
    end
    details.folded = details.folded + #VERBS * folded
    list = kill.moments(calls.tools, {})
    list = c.only and list or c.some(list, TOOLS_SAMPLE)
    for _, moment in ipairs(list) do add_cases(items, name, "tools", moment) end
  end
  return items, details
end

--- Runs the family.
---@param c table
---@return table result
function kill.run(c)
  local names = scenarios.chosen(c.only)
  local items, details = cases_of(c, names, c.each_scenario(names, "count"))
  if c.share == "sample" and not c.only then items = c.some(items, SAMPLE) end
  local bad, states, cases = {}, {}, 0
  details.outcomes = {}
  for i, result in pairs(c.map(items, "one")) do
    local item = items[i]
    if result.outcome ~= "missed" then cases = cases + 1 end
    if result.crashed then result = { problems = { result.crashed }, outcome = "crashed" } end
    if #result.problems > 0 then
      bad[#bad + 1] = { case = item.case, why = table.concat(result.problems, "\n") }
    end
    details.outcomes[result.outcome] = (details.outcomes[result.outcome] or 0) + 1
    states[item.scenario .. (result.state or "")] = true
  end
  table.sort(bad, function(a, b) return a.case < b.case end)
  local distinct = 0
  for _ in pairs(states) do distinct = distinct + 1 end
  return { cases = cases, states = distinct, bad = bad, details = details }
end

return kill
