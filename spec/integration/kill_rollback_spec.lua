--- Killed with SIGKILL inside each phase: `praxlua rollback` restores what was there.
local checks = require("spec.support.checks")
local kills = require("spec.support.kills")
local sample = require("spec.support.sample")

describe("An upgrade killed", function()
  local durations

  lazy_setup(function() durations = kills.durations() end)
  after_each(function() assert.same({}, sample.clean()) end)

  for phase = 0, 5 do
    it(("in phase %d (%s) is undone by rollback"):format(phase, kills.PHASES[phase]), function()
      local s = sample.new()
      local before = sample.list(s)
      kills.inside(s, phase, durations[phase] * ({ [0] = 0.2, 0.4, 0.8, 0.9, 0.7, 0.5 })[phase])
      assert.is_true(kills.orphans(s), "a tool or a worker outlived praxlua")
      kills.recover(s, "rollback")
      checks.undone(s, before)
    end)
  end
end)
