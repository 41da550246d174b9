--- A sample of the hostile dialogues of "make dialogues", by the same player and judge.
local generate = require("spec.dialogues.generate")
local helper = require("spec.support.helper")
local play = require("spec.dialogues.play")

local SEED, COUNT = 20, 160

describe("a hostile dialogue", function()
  local stage

  setup(function() stage = play.open(helper.tempdir()) end)

  teardown(function()
    stage.close()
    helper.clean()
  end)

  it("is the same for the same seed and number", function()
    local first, other = generate.dialogue(7, 12), generate.dialogue(7, 14)
    assert.equal(generate.script(first), generate.script(generate.dialogue(7, 12)))
    assert.not_equal(generate.script(first), generate.script(other))
  end)

  it("ends with an answer or a documented code, and leaves nothing", function()
    local ends = {}
    for number = 1, COUNT do
      local report = play.one(stage, SEED, number)
      assert.is_nil(report.bad, ("SEED=%d CASE=%d"):format(SEED, number))
      ends[report.code or "ok"] = true
    end
    assert.equal(stage.processes, play.processes())
    for _, how in ipairs({ "ok", "ETIMEDOUT", "ECLOSED", "EPROTOCOL", "EREMOTE" }) do
      assert.is_true(ends[how], how)
    end
  end)
end)
