--- praxlua.server.tests: the server's own tests, with a real environment. The test runner itself is
-- a stand-in: a module called pytest beside the server's code.
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local tests = require("praxlua.server.tests")

describe("server tests", function()
  local ctx

  before_each(function() ctx = kit.install() end)
  after_each(helper.clean)
  teardown(kit.finish)

  local function give_runner(code)
    helper.write(ctx.target .. "/pytest.py", code)
    helper.write(ctx.target .. "/mcp_server/tests/test_it.py", "")
  end

  it("are not run where there are none", function()
    assert.equal("no_tests", assert(tests.run(ctx)).reason)
  end)

  it("are not run without pytest in the environment", function()
    helper.write(ctx.target .. "/tests/test_it.py", "")
    local result = assert(tests.run(ctx))
    assert.equal("no_runner", result.reason)
    assert.truthy(result.message:find("pytest", 1, true))
  end)

  it("pass, in the project, with the installation's code", function()
    give_runner([[
import os, sys
if __name__ == "__main__":
    import mcp_server
    print(sys.argv[1:], os.getcwd(), os.path.dirname(mcp_server.__file__))
]])
    local result = assert(tests.run(ctx))
    assert.is_true(result.passed)
    assert.equal(("['-q', '%s/mcp_server/tests'] %s %s/mcp_server\n"):format(ctx.target,
      ctx.project, ctx.target), result.output)
    assert.is_number(result.seconds)
  end)

  it("fail with what the runner said", function()
    give_runner([[
import sys
if __name__ == "__main__":
    print("1 failed")
    sys.exit(1)
]])
    local result = assert(tests.run(ctx))
    assert.is_false(result.passed)
    assert.equal("1 failed\n", result.output)
  end)
end)
