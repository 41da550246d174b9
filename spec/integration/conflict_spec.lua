--- Files that both the person and the new release changed: nothing is applied until somebody
-- decides, and a decision given beforehand is carried out.
local checks = require("spec.support.checks")
local helper = require("spec.support.helper")
local sample = require("spec.support.sample")

describe("A file changed here and upstream", function()
  local s, path, mine, before

  before_each(function()
    s = sample.new({ server = false })
    path = s.project .. "/" .. sample.CHANGED
    -- Every line is the person's: no merge can be clean.
    mine = helper.read(path):gsub("[^\n]+", "%0 (as we do it)")
    helper.write(path, mine)
    before = sample.list(s)
  end)
  after_each(function() assert.same({}, sample.clean()) end)

  it("stops the upgrade with exit 4, --yes or not, names the file and applies nothing", function()
    local result = sample.upgrade(s)
    checks.exits(4, result)
    checks.as_before(s, before)
    assert.truthy(checks.text(result):find("workflow%-system%-overview%.md"), result.stderr)
    checks.exits(4, sample.upgrade(s, { "--yes" }))
    checks.as_before(s, before)
  end)

  it("is kept with --on-conflict ours", function()
    checks.exits(0, sample.upgrade(s, { "--on-conflict", "ours", "--no-restart" }))
    assert.equal(mine, helper.read(path))
  end)

  it("is the new release's with --on-conflict theirs", function()
    checks.exits(0, sample.upgrade(s, { "--on-conflict", "theirs", "--no-restart" }))
    local shipped = s.source .. "/universal/" .. sample.CHANGED:match("universal/(.*)")
    shipped = shipped:gsub("universal/", "universal/standards/", 1)
    assert.equal(helper.read(shipped), helper.read(path))
  end)
end)
