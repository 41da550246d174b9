--- `--run-tests`: the tests that the installation's server brings along, run with pytest in its own
-- environment.
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local process = require("praxlua.process")

local tests = {}

local SECONDS = 600
-- They lie in the server's own folder, or beside it.
local function find(ctx)
  for _, place in ipairs({ "/" .. layout.server_of(ctx).module .. "/tests", "/tests" }) do
    local stat = core.file.stat(ctx.target .. place)
    if stat and stat.type == "directory" then return ctx.target .. place end
  end
end

local function missing(reason, message) return { reason = reason, message = message } end

--- Runs the server's own tests.
---@param ctx table
---@return { passed: boolean?, seconds: number?, output: string?, reason: string?,
---  message: string? }|nil reason: "no_tests" or "no_runner" when there was nothing to run
---@return string? message
---@return string? code
function tests.run(ctx)
  local folder = find(ctx)
  if not folder then return missing("no_tests", "the installation has none") end
  local python = ctx.target .. "/venv/bin/python"
  local environment = process.environment({ PYTHONPATH = ctx.target, PROJECT_ROOT = ctx.project })
  local probe = process.run({ argv = { python, "-c", "import pytest" }, environment = environment })
  if not probe or probe.code ~= 0 then
    return missing("no_runner", "pytest is not in the server's environment")
  end
  local result, message, code = process.run({
    argv = { python, "-m", "pytest", "-q", folder }, directory = ctx.project,
    environment = environment, timeout = SECONDS,
  })
  if not result then return nil, message, code end
  return {
    passed = result.code == 0 and not result.timed_out, seconds = result.seconds,
    output = result.stdout:sub(-4000),
  }
end

return tests
