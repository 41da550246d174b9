--- Killed with SIGKILL inside each phase: `praxlua resume` completes the upgrade.
local checks = require("spec.support.checks")
local kills = require("spec.support.kills")
local sample = require("spec.support.sample")

-- How much of the phase has passed when the kill comes.
local FRACTION = { [0] = 0.5, 0.7, 0.3, 0.6, 0.4, 0.2 }

describe("An upgrade killed", function()
  local durations

  lazy_setup(function() durations = kills.durations() end)
  lazy_teardown(sample.clean)
  after_each(function() assert.same({}, sample.clean()) end)

  for phase = 0, 5 do
    it(("in phase %d (%s) is completed by resume"):format(phase, kills.PHASES[phase]), function()
      local s, before = kills.inside(phase, durations[phase] * FRACTION[phase])
      assert.is_true(kills.orphans(s), "a tool or a worker outlived praxlua")
      kills.recover(s, "resume")
      checks.upgraded(s, before)
    end)
  end
end)
