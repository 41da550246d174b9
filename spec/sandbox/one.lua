--- One hostile phase in a supervisor of its own: one.lua CASE LEVEL DIRECTORY
--
-- Runs what an upgrade runs: the phase is read, runs in its worker, its evidence is checked, and
-- what it did is undone. Writes DIRECTORY.result: { verdict, message, seconds, problems, skipped }.
-- DIRECTORY has been made by spec/sandbox/main.lua, which looks for what is left afterwards.
local broker = require("praxlua.broker")
local cases = require("spec.sandbox.cases")
local checkpoint = require("praxlua.checkpoint")
local cjson = require("cjson")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local phases = require("praxlua.phases")
local process = require("praxlua.process")
local scene = require("spec.sandbox.scene")

-- The working directory will be the project, as it is when a person calls praxlua there.
local here = lfs.currentdir()
package.path = package.path:gsub("[^;]+", function(template)
  return template:sub(1, 1) == "/" and template or here .. "/" .. template
end)

local id, level, directory = arg[1], arg[2], arg[3]
local case = cases.named(id)
local limits = cases.limits(case)
local problems = {}

local function problem(form, ...) problems[#problems + 1] = form:format(...) end

local function finish(result)
  result.problems, result.pid = #problems > 0 and problems or nil, core.system.pid()
  helper.write(directory .. ".result", cjson.encode(result))
  os.exit(0, false)
end

-- The wall limit holds for whatever the phase does.
local function check_time(outcome)
  if outcome.seconds > limits.wall + 1 then
    problem("took %.1f s, the wall limit is %g s", outcome.seconds, limits.wall)
  end
end

-- Runs a phase and judges its evidence.
local function run(s, phase)
  local outcome = broker.run(phase, s.ctx)
  check_time(outcome)
  if outcome.verdict == "ok" then
    local message, verdict
    outcome.dict, message, verdict = checkpoint.check(phase, outcome)
    if not outcome.dict then outcome.verdict, outcome.message = verdict, message end
  end
  return outcome
end

-- All runs of a case; the last one is judged.
local function play(s, t)
  local file = case.number and phases.BUILT_IN[case.number] or id:lower() .. ".lua"
  if case.first then
    local first = assert(phases.read("first.lua", cases.script(case, { body = case.first })))
    t.first = run(s, first)
  end
  local began = core.system.monotonic()
  local phase, message = phases.read(file, cases.script(case), case.number)
  if not phase then
    if core.system.monotonic() - began > phases.LIMITS.cpu + 2 then problem("reading it hung") end
    return { verdict = "refused", message = message }
  end
  t.phase = phase
  for i = 1, case.again and 2 or 1 do t.outcomes[i] = run(s, phase) end
  return t.outcomes[#t.outcomes]
end

local function judge(t)
  if not cases.expects(case, t.outcome.verdict) then
    problem("ended with %s (%s), expected %s", t.outcome.verdict, tostring(t.message):sub(1, 300),
      type(case.expect) == "table" and table.concat(case.expect, " or ") or case.expect)
    return
  end
  if case.message and not tostring(t.message):find(case.message) then
    problem("its message is %q, which does not match %q", tostring(t.message):sub(1, 300),
      case.message)
  end
  local wrong = case.check and case.check(t)
  if wrong then problem("%s", wrong) end
end

local function main()
  local lacking = case.needs and case.needs()
  if not lacking and case.prepare then
    lacking = case.prepare({
      directory = directory, project = directory .. "/project",
      target = directory .. "/project/.praxis-os", outside = directory .. "/outside",
    })
  end
  if lacking then return finish({ skipped = lacking }) end
  local before = scene.portrait(directory .. "/project")
  process.run({ argv = { "true" } }) -- opens what stays open: the event loop
  local canary = assert(io.open(directory .. "/outside/canary")) -- not closed on exec
  assert(lfs.chdir(directory .. "/project"))
  collectgarbage()
  local descriptors = helper.descriptors()
  local s = scene.open(directory, case)
  local t = { scene = s, outcomes = {}, told = s.told, level = level }
  process.record_in(s.folder, s.target)
  if case.during then
    s.ask = function(...) return case.during(t, core.system.children(core.system.pid())[1], ...) end
  end
  local outcome = play(s, t)
  t.outcome, t.evidence, t.message = outcome, outcome.evidence, outcome.message
  process.record_in(nil)
  judge(t)
  local undone, message = scene.undo(s)
  if not undone then problem("the undo failed: %s", message) end
  if scene.portrait(directory .. "/project") ~= before then
    problem("the installation is not as before:\n%s", helper.output_of("cd %s && find . -newer %s",
      directory .. "/project", directory .. "/outside/canary"))
  end
  s.transaction, s.ctx, t.scene = nil, nil, nil
  collectgarbage()
  canary:close()
  if helper.descriptors() ~= descriptors - 1 then
    problem("descriptors were left open:\n%s", helper.output_of("ls -l /proc/%d/fd",
      core.system.pid()))
  end
  if #core.system.children(core.system.pid()) > 0 then problem("a process was left") end
  finish({ verdict = outcome.verdict, message = tostring(outcome.message):sub(1, 500),
    seconds = outcome.seconds })
end

main()
