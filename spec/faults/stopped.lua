--- The owner is stopped by SIGSTOP for a while, somewhere; meanwhile others are refused; then it
-- goes on as if nothing had been.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local nemesis = require("spec.faults.nemesis")

local stopped = {}

local function signal(name, pid) os.execute(("kill -%s %d 2> /dev/null"):format(name, pid)) end

-- Stops the owner: false when it came to its end just before.
local function stop(run)
  signal("STOP", run.pid)
  command.until_true(function()
    local owner = core.system.process(run.pid)
    return not owner or owner.state == "T" or owner.state == "Z"
  end, 5)
  local owner = core.system.process(run.pid)
  return owner ~= nil and owner.state == "T"
end

-- Whether the upgrade is done: what comes after its report is the end, in which the lock goes.
local function is_done(run)
  for _, event in ipairs(command.events(helper.read(run.at.out) or "")) do
    if event.event == "report" then return true end
  end
  return false
end

-- One pause: nobody else gets in, however long it lasts.
local function pause(s, run, random, problems)
  if not stop(run) then return end
  if is_done(run) then
    signal("CONT", run.pid)
    return
  end
  local result = nemesis.run(s, ({ nemesis.upgrade(s), { "rollback" }, { "resume" },
    { "backup", "create" } })[random(4)])
  core.system.sleep(random(300) / 1000)
  nemesis.check(problems, result.code == 6, "while the owner was stopped: %s",
    nemesis.brief(result))
  nemesis.check(problems, result.seconds < 5, "refused after %.1f s only", result.seconds)
  signal("CONT", run.pid)
end

--- One upgrade with a few pauses.
---@param random fun(n: integer): integer
---@return string[] problems
function stopped.one(random)
  local s, problems = nemesis.new(), {}
  local run = nemesis.start(s, nemesis.upgrade(s, "--json"))
  command.await(run, function(event) return event.event == "phase_started" end)
  for _ = 1, 4 do
    core.system.sleep(random(60) / 1000)
    if nemesis.has_ended(run) then break end
    pause(s, run, random, problems)
  end
  local result = nemesis.finish(run)
  nemesis.check(problems, result.code == 0, "the owner: %s", nemesis.brief(result))
  nemesis.add(problems, nemesis.unlike_new(s))
  nemesis.add(problems, nemesis.leftovers(s))
  return problems
end

return stopped
