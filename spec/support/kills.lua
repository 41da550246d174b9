--- SIGKILL inside each phase: starts an upgrade, waits until a phase has begun, kills praxlua (that
-- one process) a moment later, and hands the wreck to a test.
local assert = require("luassert")
local core = require("praxlua.core")
local checks = require("spec.support.checks")
local command = require("spec.support.command")
local sample = require("spec.support.sample")

local kills = {}

kills.PHASES = {
  [0] = "pre-flight-checks", "backup-preparation", "content-upgrade", "mcp-server-upgrade",
  "post-upgrade-validation", "cleanup-documentation",
}

--- How long each phase of an upgrade takes here, to spread the kills over it.
---@return table<integer, number> seconds by the phase's number
function kills.durations()
  local s = sample.new()
  local run, seen, began = sample.start_upgrade(s), {}, {}
  command.await(run, function(event)
    if event.event == "phase_started" and not seen[event.number] then
      seen[event.number], began[event.number] = true, core.system.monotonic()
    end
    return false
  end)
  local ended, result = core.system.monotonic(), command.wait(run)
  assert.equal(0, result.code, result.stderr)
  assert.same({}, sample.clean())
  local seconds = {}
  for phase = 0, 5 do seconds[phase] = (began[phase + 1] or ended) - began[phase] end
  return seconds
end

-- Kills an upgrade a moment after a phase began. Whether the phase was still under way then.
local function kill_at(s, phase, seconds)
  local run = sample.start_upgrade(s)
  local began = command.await(run, function(event)
    return event.event == "phase_started" and event.number == phase
  end)
  assert.is_table(began, "phase " .. phase .. " never began")
  core.system.sleep(seconds)
  command.kill(run, "KILL")
  local result = command.wait(run)
  result.events = command.events(result.stdout:match("^(.*\n)") or "")
  local started = sample.events(result, "phase_started")
  local over = #sample.events(result, "phase_completed") == #started
  return result.code == 137 and started[#started].number == phase and not over
end

--- Makes a sample whose upgrade was killed inside a phase. Phases are short and machines busy: a
-- kill that came too late is tried again, sooner.
---@param phase integer
---@param seconds number after the phase began
---@return table s sample
---@return string before listing of the time before the upgrade
function kills.inside(phase, seconds)
  for attempt = 0, 5 do
    local s = sample.new({ pip = phase == 3 }) -- the real one, where it may be killed at work
    local before = sample.list(s)
    if kill_at(s, phase, attempt < 5 and seconds / 2 ^ attempt or 0) then return s, before end
    sample.clean()
  end
  error("no kill hit phase " .. phase)
end

--- Only the server may outlive praxlua: tools and workers die with it.
function kills.orphans(s)
  return command.until_true(function()
    for _, process in ipairs(sample.processes(s)) do
      if not table.concat(process.command, " "):find("-m mcp_server --transport http", 1, true) then
        return nil
      end
    end
    return true
  end, 5)
end

--- Runs one of praxlua's two ways out of the wreck.
---@param verb "resume"|"rollback"
function kills.recover(s, verb)
  local result = sample.run(s, { verb, "--json" })
  result.events = command.events(result.stdout)
  checks.exits(0, result)
end

return kills
