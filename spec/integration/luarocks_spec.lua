--- The rock: `luarocks make` into a local tree gives a working command and `require "praxlua"`.
local command = require("spec.support.command")
local helper = require("spec.support.helper")

describe("The rock", function()
  after_each(helper.clean)

  it("is built from a copy of the work tree, works, and can be removed", function()
    local scratch = helper.tempdir()
    local result = command.run({ "sh", "spec/support/rock.sh" },
      { scratch = scratch, seconds = 240 })
    assert.equal(0, result.code, result.stdout .. result.stderr)
    assert.is_nil(result.stdout:find("not ok", 1, true), result.stdout)
    local _, passed = ("\n" .. result.stdout):gsub("\nok %- ", "")
    assert.is_true(passed >= 4, result.stdout)
  end)
end)
