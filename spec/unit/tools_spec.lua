--- Tools that phases run: where they may write.
local helper = require("spec.support.helper")
local undo_commands = require("praxlua.undo_commands")

describe("A tool of a phase", function()
  local process = require("praxlua.process")
  local verbs = require("praxlua.verbs")
  local run, seen

  before_each(function()
    run, seen = process.run, nil
    process.run = function(options)
      seen = options.confine
      return { code = 0, signal = 0, stdout = "", stderr = "" }
    end
  end)
  after_each(function()
    process.run = run
    helper.clean()
  end)

  it("may write in the installation only once an undo is registered", function()
    local root = helper.tempdir()
    helper.tree(root, { [".praxis-os/.upgrade/s/x"] = "", [".praxis-os/standards/a"] = "",
      ["src/a"] = "", [".git/HEAD"] = "" })
    local ctx = { target = root .. "/.praxis-os", project = root, target_name = ".praxis-os",
      folder = root .. "/.praxis-os/.upgrade/s", phase = "tags", change = {},
      session = { session_id = "s", completed_phases = { 0, 1 } } }
    local function may_write(grants, path)
      assert(verbs.granted(ctx, grants).spawn({ "sh" }))
      for _, one in ipairs(seen.write) do
        if one == path then return true end
      end
      return false
    end
    local tools = { tools = { "sh" } }
    local standards, sources = ctx.target .. "/standards", root .. "/src"
    assert.is_false(may_write(tools, standards))
    assert.is_false(may_write(tools, sources))
    assert.is_false(seen.network)
    assert.is_true(verbs.granted(ctx, tools).undo({ "sh", "-c", "true" }))
    assert.is_true(may_write(tools, standards))
    assert.is_false(may_write(tools, sources))
    local more = { tools = { "sh" }, project = "write", network = true }
    assert.is_true(may_write(more, sources))
    assert.is_true(seen.network)
    for _, never in ipairs({ root, ctx.target, root .. "/.git", ctx.target .. "/.upgrade" }) do
      assert.is_false(may_write(more, never))
    end
    ctx.phase = "another" -- whose effects nobody knows how to undo
    assert.is_false(may_write(more, sources))
    assert.is_false(may_write(more, standards))
    assert.equal("tags", undo_commands.list(ctx.folder)[1].phase)
  end)
end)
