--- praxlua.server.tests: the server's own tests, with a real environment. The test runner itself is
-- a stand-in: a module called pytest beside the server's code.
local core = require("praxlua.core")
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

  local function declare(command, seconds)
    ctx.options.project = { tests = { command = command, seconds = seconds } }
    return assert(tests.run(ctx))
  end

  it("are those that the project file names", function()
    give_runner("raise SystemExit(1)")
    local result = declare({ "sh", "-c", "pwd; echo $PROJECT_ROOT; echo {target} >&2" })
    assert.is_true(result.passed)
    assert.equal(0, result.exit_code)
    assert.truthy(result.command:find("/sh -c pwd; ", 1, true))
    assert.truthy(result.output:find(ctx.project .. "\n" .. ctx.project .. "\n", 1, true))
    assert.truthy(result.output:find(ctx.target .. "\n", 1, true))
  end)

  it("are known by the end of what they said", function()
    local result = declare({ "sh", "-c", "yes first | head -100000; echo 7 failed; exit 3" })
    assert.is_false(result.passed)
    assert.equal(3, result.exit_code)
    assert.matches("first\n7 failed\n$", result.output)
    assert.is_true(#result.output <= 4000)
  end)

  it("are stopped when their time is over, with all that they started", function()
    local began = core.system.monotonic()
    local result = declare({ "sh", "-c", "echo begun; sleep 600 & sleep 600" }, 1)
    assert.is_false(result.passed)
    assert.is_true(result.timed_out)
    assert.equal("they were stopped after 1 s", result.message)
    assert.matches("begun", result.output)
    assert.is_true(core.system.monotonic() - began < 8)
  end)

  it("fail when their program is not there", function()
    ctx.options.project = { tests = { command = { "no-such-program" } } }
    local result, message, code = tests.run(ctx)
    assert.is_nil(result)
    assert.equal("ENOENT", code)
    assert.matches("the tests cannot be run: .*no%-such%-program", message)
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
