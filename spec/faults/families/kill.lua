--- SIGKILL before, inside and after every mutating call of praxlua; then resume or rollback, and
-- everything the judge can say. Each case is a run of its own, killed for real.
--
-- A case is SCENARIO:WHO:N:MODE:VERB, such as upgrade:host:123:torn:resume. WHO is host, or tools
-- for the calls of what praxlua starts (git, pip, the server), of which a part is taken.
--
-- Two moments are one state of the disk, and one case is run for both, where one call's end and
-- the next one's beginning have nothing between them, and before and after a call that changes no
-- file (fsync, flock). A part of those is run all the same. Of moments that lead to the same state
-- by the judge's digest, the first is judged.
local judge = require("spec.faults.judge")
local scenarios = require("spec.faults.scenarios")
local tracer = require("spec.faults.tracer")

local kill = {
  name = "kill",
  floor = { full = { cases = 4700, states = 2000 }, sample = { cases = 40, states = 20 } },
}

local VERBS = { "resume", "rollback" }
local SAMPLE = 50 -- cases
local FOLDED_SHARE = 40 -- one of so many moments that are the same as another one is tried
local TOOLS_SAMPLE = 40 -- calls of tools, a scenario
local SERVED_SAMPLE = { host = 40, tools = 16 } -- calls of `served`, which is slow

-- Tools write beside the project as well: git into its repository.
local function trace(s, options)
  options.root = options.who == "host" and scenarios.written(s) or s.root
  return scenarios.trace(s, s.argv, options)
end

-- What a run does to the disk: its calls, as far as it matters here.
local function calls_of(s, who)
  s.reset()
  local counted = trace(s, { mode = "count", log = true, who = who })
  tracer.finish(counted) -- ends a server that was started
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

-- Brings what a kill has left to its end.
local function judged(c, s, item)
  local state = judge.digest(s)
  if not c.claim(table.concat({ item.scenario, item.verb, state }, "-")) then
    return { problems = {}, outcome = "same", state = state }
  end
  local looked = c.random(10) == 1 and judge.look(s) or {}
  local problems, outcome = judge.recover(s, item.verb, { again = c.random(8) == 1 or nil })
  table.move(looked, 1, #looked, #problems + 1, problems)
  return { problems = problems, outcome = outcome, state = state }
end

--- Kills one run, and brings what is left to its end.
---@param c table
---@param item { scenario: string, who: string, n: integer, mode: string, verb: string }
---@return table result { problems, outcome, state }
function kill.one(c, item)
  local s = c.scenario(item.scenario)
  s.reset()
  -- A server that was started lives on when praxlua is killed, and so does not when the machine is.
  local killed = trace(s, { mode = item.mode, at = math.tointeger(item.n), who = item.who,
    leader_only = s.server and item.who == "host" })
  if not killed.hit then -- git does not always do the same
    tracer.finish(killed)
    local problems = item.who == "host" and { "the call was not reached" } or {}
    return { problems = problems, outcome = "missed" }
  end
  if s.server then judge.ask("await_servers", { root = s.root }) end
  local ok, result = xpcall(judged, debug.traceback, c, s, item)
  tracer.finish(killed)
  return ok and result or error(result, 0)
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
  assert(n == #calls.host, "praxlua writes elsewhere than in the project and in TMPDIR")
  return found
end

--- The moments at which a run is killed, and those that are the same states of the disk as these.
---@param calls { kind: string, result: integer }[]
---@param followed table<integer, boolean> calls after which a tool acts
---@return { n: integer, mode: string }[] moments
---@return { n: integer, mode: string }[] folded
function kill.moments(calls, followed)
  local found, folded = {}, {}
  local function add(list, n, mode) list[#list + 1] = { n = n, mode = mode } end
  for n, call in ipairs(calls) do
    local previous = calls[n - 1]
    local is_same = previous and FILES_STAY[previous.kind] and not followed[n - 1]
    add(is_same and folded or found, n, "before")
    if call.kind == "write" and call.result > 1 then add(found, n, "torn") end
    add((n == #calls or followed[n]) and found or folded, n, "after")
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
    if name == "served" and not c.one then list = c.some(list, SERVED_SAMPLE.host) end
    -- That a moment is the same as another one is tried, too.
    local tried = c.one and folded or c.some(folded, #folded // FOLDED_SHARE)
    table.move(tried, 1, #tried, #list + 1, list)
    for _, moment in ipairs(list) do
      if moment.n >= from then add_cases(items, name, "host", moment) end
    end
    details.folded = details.folded + #VERBS * (#folded - #tried)
    list = kill.moments(calls.tools, {})
    if not c.one then
      list = c.some(list, name == "served" and SERVED_SAMPLE.tools or TOOLS_SAMPLE)
    end
    for _, moment in ipairs(list) do add_cases(items, name, "tools", moment) end
  end
  return items, details
end

--- Runs the family.
---@param c table
---@return table result
function kill.run(c)
  local names = scenarios.chosen(c.only)
  if not c.only and c.share ~= "sample" then
    names = table.move(names, 1, #names, 1, {})
    names[#names + 1] = "served"
  end
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
    local outcome = item.verb .. ": " .. result.outcome
    details.outcomes[outcome] = (details.outcomes[outcome] or 0) + 1
    states[item.scenario .. (result.state or "")] = true
  end
  table.sort(bad, function(a, b) return a.case < b.case end)
  local distinct = 0
  for _ in pairs(states) do distinct = distinct + 1 end
  return { cases = cases, states = distinct, bad = bad, details = details }
end

return kill
