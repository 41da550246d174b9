--- An error of the system at every mutating call of praxlua: ENOSPC, EIO and others, once or from
-- then on, and writes that write only a part. What the command says with its exit code has to be
-- what the installation is; and once the fault is gone, resume or rollback bring it to its end.
--
-- A case is SCENARIO:N:ERRNO:once, SCENARIO:N:ERRNO:sticky or SCENARIO:N:short.
--
-- The same place of the code is mostly reached by many calls (each file of a release is written,
-- synced, renamed). Each call of each scenario gets one errno, once or from then on in turn; each
-- place gets all of them, both ways: of the upgrades together, and of each kind of way back by
-- itself, since there the same call is another place of the code. SHARE=all takes every call of
-- every scenario with every errno instead.
local judge = require("spec.faults.judge")
local scenarios = require("spec.faults.scenarios")

local errno = {
  name = "errno", has_all = true,
  floor = { full = { cases = 5500 }, sample = { cases = 30 } },
}

-- The errors, and what praxlua's messages call them.
local ERRNOS = { "ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE", "ENOMEM", "EINTR" }
local SAMPLE = 40 -- cases

local function trace(s, options)
  local argv = { table.unpack(s.argv) }
  argv[#argv + 1] = "--json"
  options.root = scenarios.written(s)
  return scenarios.trace(s, argv, options)
end

--- The calls of one run of a scenario's command.
---@param c table
---@param item { scenario: string }
---@return { kind: string, result: integer, place: string }[]
function errno.count(c, item)
  local s = c.scenario(item.scenario)
  s.reset()
  local counted = trace(s, { mode = "count", log = true })
  assert(counted.code == s.code, counted.stderr)
  local calls = {}
  for i, call in ipairs(counted.calls) do
    calls[i] = {
      kind = call.kind, result = call.result, place = scenarios.place(s, call),
    }
  end
  return calls
end

-- ---------------------------------------------------------------------------------------------
-- One case

-- A file whose sync failed may have lost what was written to it; syncing it again proves nothing.
local function synced_again(calls, n, name)
  local failed, folders = calls[n], {}
  if name == "EINTR" then return nil end -- it was interrupted, not done and failed
  if not failed or failed.kind ~= "sync" or failed.name == "syncfs" then return nil end
  for _, call in ipairs(calls) do
    local folder = (call.path or ""):match("^(.*)/")
    if folder then folders[folder] = true end
  end
  local path = failed.path or failed.fd_path
  if folders[path] then return nil end -- a folder has no content of its own
  for i = n + 1, #calls do
    local call = calls[i]
    local same = (call.path or call.fd_path) == path and call.inode == failed.inode
    if call.kind == "sync" and same then
      return ("%s was synced again after its sync had failed"):format(path)
    end
  end
end

-- What is wrong with how the faulted command itself ended.
local function wrong_end(s, result, is_stuck)
  local problems, last = judge.ending(result)
  local version, difference = judge.version(s, is_stuck)
  local function wrong(...) problems[#problems + 1] = string.format(...) end
  local said = ("exit %s, %s: %s"):format(result.code, last.status, last.message)
  if result.timed_out then wrong("it does not end") end
  if result.forbidden then wrong("%s", result.forbidden) end
  if result.code == 0 or result.code == 1 or result.code == 3 then
    local promised, odd = judge.promised(s, last)
    if result.code ~= 0 then promised = "old" end
    if odd then wrong("%s", odd) end
    if s.wrecked and result.code == 3 then return problems end -- it stays the wreck that it was
    if not version then
      wrong("%s; %s", said, difference)
    elseif promised ~= version then
      wrong("%s; but the installation is %s", said, version)
    end
  elseif result.code ~= 5 then
    wrong("%s", said)
  end
  return problems
end

--- Lets one call fail, and brings what is left to its end.
---@param c table
---@param item { scenario: string, n: integer, errno: string?, sticky: boolean?, kind: string,
---  case: string }
---@return table result { problems, exit }
function errno.one(c, item)
  local s = c.scenario(item.scenario)
  local n = math.tointeger(item.n)
  s.reset()
  local result = trace(s, {
    mode = item.errno and "error" or "short", at = n, errno = item.errno,
    log = item.kind == "sync" or nil, -- which costs a stop more at each call
    sticky = item.sticky and (true) or nil, timeout = 30,
  })
  if not result.hit then return { problems = { "the call was not reached" }, exit = "missed" } end
  local problems = wrong_end(s, result, item.sticky)
  if not item.errno and result.code ~= s.code then
    problems[#problems + 1] = ("a short write ended it with exit %s"):format(result.code)
  end
  if item.kind == "sync" then
    problems[#problems + 1] = synced_again(result.calls, n, item.errno)
  end
  if #problems == 0 then
    local verb = c.random(2) == 1 and "resume" or "rollback"
    local found = judge.recover(s, verb, { again = c.random(6) == 1, goes_back = true })
    for _, text in ipairs(found) do problems[#problems + 1] = "afterwards: " .. text end
  end
  return { problems = problems, exit = tostring(result.code) }
end

-- ---------------------------------------------------------------------------------------------
-- Which cases there are

local function add(items, scenario, n, kind, name, sticky)
  local case = name and ("%s:%d:%s:%s"):format(scenario, n, name, sticky and "sticky" or "once")
    or ("%s:%d:short"):format(scenario, n)
  -- A call that is interrupted is repeated, by right for as long as it is.
  if items[case] or name == "EINTR" and sticky then return end
  items[case] = true
  items[#items + 1] = { case = case, scenario = scenario, n = n, kind = kind, errno = name,
    sticky = sticky }
end

local function all_errnos(items, scenario, n, kind)
  for _, name in ipairs(ERRNOS) do
    add(items, scenario, n, kind, name, false)
    add(items, scenario, n, kind, name, true)
  end
end

-- The scenarios that go another way through the code than the upgrades.
local APART = { rollback = true, undo = true, restore = true }

local function cases_of(c, names, counted)
  local items, places, details = {}, {}, { calls = {}, places = 0 }
  -- One case may be any of them all.
  local all = c.share == "all" or c.one
  for i, scenario in ipairs(names) do
    details.calls[scenario] = #counted[i]
    for n = scenarios.own_part(scenario, counted), #counted[i] do
      local call = counted[i][n]
      local place = (APART[scenario] and scenario .. " " or "") .. call.place
      local is_new = not places[place]
      if is_new then details.places = details.places + 1 end
      places[place] = true
      if is_new or all then
        all_errnos(items, scenario, n, call.kind)
      else
        add(items, scenario, n, call.kind, ERRNOS[n % #ERRNOS + 1], n // #ERRNOS % 2 == 1)
      end
      if call.kind == "write" and call.result > 1 and (is_new or n % 4 == 0 or all) then
        add(items, scenario, n, call.kind)
      end
    end
  end
  return items, details
end

--- Runs the family.
---@param c table
---@return table result
function errno.run(c)
  local names = scenarios.chosen(c.only)
  local items, details = cases_of(c, names, c.each_scenario(names, "count"))
  if c.share == "sample" and not c.only then items = c.some(items, SAMPLE) end
  local bad, cases = {}, 0
  details.exits = {}
  for i, result in pairs(c.map(items, "one")) do
    cases = cases + 1
    if result.crashed then result = { problems = { result.crashed }, exit = "crashed" } end
    if #result.problems > 0 then
      bad[#bad + 1] = { case = items[i].case, why = table.concat(result.problems, "\n") }
    end
    details.exits[result.exit] = (details.exits[result.exit] or 0) + 1
  end
  return { cases = cases, bad = bad, details = details }
end

return errno
