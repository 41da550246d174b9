--- The owner of an installation stands still, or is dead, at any of its calls; others come.
local cjson = require("cjson")
local helper = require("spec.support.helper")
local judge = require("spec.faults.judge")
local lfs = require("lfs")
local tracer = require("spec.faults.tracer")

local frozen = {}

local function add(problems, more) table.move(more, 1, #more, #problems + 1, problems) end

local function traced(s, options)
  options.argv = { s.executable, table.unpack(s.argv) }
  options.environment, options.directory, options.root = s.environment, s.project, s.project
  options.executable = s.executable
  return tracer.run(options)
end

-- The calls between which the lock is held: the first flock takes it, the last one gives it back.
local function lock_span(calls)
  local from, to
  for _, call in ipairs(calls) do
    if call.kind == "lock" then from, to = from or call.n, call.n end
  end
  assert(from and to > from, "the command takes no lock")
  return from, to
end

--- The calls of a scenario's command, and between which of them it holds the lock.
---@param s table of scenarios.open; it is reset
---@return integer count
---@return integer from
---@return integer to
function frozen.calls(s)
  local counted = traced(s, { mode = "count", log = true })
  s.reset()
  return counted.count, lock_span(counted.calls)
end

local function read_reports(path)
  local problems = {}
  local file = io.open(path)
  for line in file and file:lines() or function() end do
    local one = cjson.decode(line)
    problems[#problems + 1] = ("at call %d (%s), `%s`: %s"):format(one.n, one.call, one.command,
      one.why)
  end
  if file then file:close() end
  return problems
end

--- Runs a scenario's command with somebody at its every call, or at those of one class.
---@param s table
---@param directory string for files of ours
---@param stride integer every so many calls
---@param offset integer 0 to stride - 1
---@return string[] problems
---@return integer looks how often somebody came
function frozen.others_come(s, directory, stride, offset)
  local _, from, to = frozen.calls(s)
  local config, report = directory .. "/onlooker.json", directory .. "/onlooker.report"
  os.remove(report)
  local file = assert(io.open(config, "w"))
  file:write(cjson.encode({
    project = s.project, source = s.source, executable = s.executable, environment = s.environment,
    from = from, to = to, stride = stride, offset = offset, report = report,
  }))
  file:close()
  local result = traced(s, { mode = "pause", timeout = 300, hook = {
    os.getenv("LUA") or "lua5.4", lfs.currentdir() .. "/spec/faults/onlooker.lua", config } })
  local problems, looks = read_reports(report), 0
  for n = from + 1, to do looks = looks + (n % stride == offset and 1 or 0) end
  if result.hook_output ~= "" then problems[#problems + 1] = "hook: " .. result.hook_output end
  if result.code ~= s.code then
    problems[#problems + 1] = ("the owner: exit %s: %s"):format(tostring(result.code),
      result.stderr:sub(-300))
  end
  local version, difference = judge.version(s)
  if version ~= (s.goes_back and "old" or "new") then
    problems[#problems + 1] = "afterwards: " .. (difference or "the version is " .. version)
  end
  add(problems, judge.settled(s, version or "new"))
  return problems, looks
end

-- ---------------------------------------------------------------------------------------------
-- Killed, and somebody takes over at once

local function says(result, what)
  return (result.stdout .. result.stderr):find(what, 1, true) ~= nil
end

-- What is swept out of praxlua's own folders: dead temporary files, records of tools that have
-- ended, the folder of a transaction that had not begun.
local SWEPT = { "^missing: .*%.px%-%d", "^missing: .*/child%-%d+ ", "^missing: .*/%.upgrade[/ ]" }

local function is_swept(line)
  for _, pattern in ipairs(SWEPT) do
    if line:find(pattern) then return true end
  end
  return false
end

-- Where the kill came between the two copies of the journal, opening it makes them alike.
local function is_made_alike(s, line)
  local journal = line:match("^changed: (.*/%.upgrade/[^/]+/journal)%.copy: ")
  if not journal then return false end
  local one = helper.read(s.project .. "/" .. journal)
  return one ~= nil and one == helper.read(s.project .. "/" .. journal .. ".copy")
end

-- What changed, but for that, and the journal being opened.
local function changes(s, before, now)
  local found, swept = judge.ask("compare", { a = before, b = now }), false
  for _, line in ipairs(found) do swept = swept or is_swept(line) end
  for i = #found, 1, -1 do
    local of_time = found[i]:find(": mtime ") and (swept or found[i]:find("/.upgrade/", 1, true))
    if is_swept(found[i]) or of_time or is_made_alike(s, found[i]) then table.remove(found, i) end
  end
  return found
end

-- An unfinished session is refused with the two commands, and nothing is changed by that. One that
-- was over but for clearing up is ended instead; whether it was open is the result.
local function refused(s, id, problems)
  local version = judge.version(s)
  judge.exact(s, "before")
  local taker = judge.run(s, s.argv)
  if version == "new" and taker.code == 0 then return false end
  if taker.code ~= 3 then
    problems[#problems + 1] = ("session %s is open, and an upgrade ends with exit %s: %s"):format(
      id, tostring(taker.code), tostring(taker.last.message))
  end
  for _, command in ipairs({ "praxlua resume " .. id, "praxlua rollback " .. id }) do
    if not says(taker, command) then problems[#problems + 1] = "not told: " .. command end
  end
  add(problems, taker.problems)
  local changed = changes(s, "before", judge.exact(s))
  if #changed > 0 then
    problems[#problems + 1] = "the refusal changed " .. table.concat(changed, "; ", 1,
      math.min(4, #changed))
  end
  return true
end

--- Kills a scenario's command at a call; the next upgrade neither waits nor adopts what it finds,
--- and with --yes undoes it first and says so.
---@param s table of scenarios.open, an upgrade
---@param n integer the call
---@param mode string of tracer.run
---@param leader_only boolean? only praxlua itself is killed, not its children
---@return string[] problems
function frozen.taken_over(s, n, mode, leader_only)
  local problems = {}
  s.reset()
  local killed = traced(s, { mode = mode, at = n, leader_only = leader_only })
  if not killed.hit then return { "call " .. n .. " was not reached" } end
  local _, open = judge.sessions(s)
  if open and not refused(s, open, problems) then open = nil end
  local argv = { table.unpack(s.argv) }
  argv[#argv + 1] = "--yes"
  local taker = judge.run(s, argv)
  tracer.finish(killed)
  add(problems, taker.problems)
  if taker.code ~= 0 then
    problems[#problems + 1] = ("upgrade --yes: exit %s: %s"):format(tostring(taker.code),
      tostring(taker.last.message))
  end
  if open and not says(taker, "rolling back the unfinished session " .. open) then
    problems[#problems + 1] = "upgrade --yes does not say that it rolls back session " .. open
  end
  local version, difference = judge.version(s)
  if version ~= "new" then
    problems[#problems + 1] = "upgrade --yes: " .. (difference or "the version is old")
  end
  add(problems, judge.settled(s, version or "new"))
  return problems
end

return frozen
