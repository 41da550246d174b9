--- `--run-tests`: the command that the project file names; where it names none, the tests that the
-- installation's server brings along, run with pytest in its own environment.
local command = require("praxlua.server.command")
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local process = require("praxlua.process")
local text = require("praxlua.text")

local tests = {}

local SECONDS = 600
local TAIL = 4000 -- bytes of the output that are kept, from its end

-- They lie in the server's own folder, or beside it.
local function find(ctx)
  for _, place in ipairs({ "/" .. layout.server_of(ctx).module .. "/tests", "/tests" }) do
    local stat = core.file.stat(ctx.target .. place)
    if stat and stat.type == "directory" then return ctx.target .. place end
  end
end

local function missing(reason, message) return { reason = reason, message = message } end

-- Runs tests and keeps the end of what they say on both streams.
local function run(ctx, argv, environment, seconds)
  local tail = ""
  local result, message, code = process.run({
    argv = argv, directory = ctx.project, environment = environment, timeout = seconds, cap = 0,
    on_line = function(_, line) tail = (tail .. line:sub(-TAIL) .. "\n"):sub(-TAIL) end,
  })
  if not result then return nil, "the tests cannot be run: " .. message, code end
  local over = result.timed_out and ("they were stopped after %d s"):format(seconds) or nil
  return {
    passed = result.code == 0 and not result.timed_out, seconds = result.seconds,
    timed_out = result.timed_out, exit_code = not result.timed_out and result.code or nil,
    command = text.visible(table.concat(argv, " ")), message = over, output = tail,
  }
end

local function run_pytest(ctx, environment)
  local folder = find(ctx)
  if not folder then return missing("no_tests", "the installation has none") end
  local python = ctx.target .. "/venv/bin/python"
  local probe = process.run({ argv = { python, "-c", "import pytest" }, environment = environment })
  if not probe or probe.code ~= 0 then
    return missing("no_runner", "pytest is not in the server's environment")
  end
  return run(ctx, { python, "-m", "pytest", "-q", folder }, environment, SECONDS)
end

--- Runs the project's tests, or the server's own.
---@param ctx table
---@return { passed: boolean?, seconds: number?, output: string?, command: string?,
---  exit_code: integer?, timed_out: boolean?, reason: string?, message: string? }|nil reason:
---  "no_tests" or "no_runner" when there was nothing to run · output: its last 4000 bytes
---@return string? message
---@return string? code
function tests.run(ctx)
  local environment = process.environment({ PYTHONPATH = ctx.target, PROJECT_ROOT = ctx.project })
  local project = ctx.options and ctx.options.project
  local declared = project and project.tests
  if not declared then return run_pytest(ctx, environment) end
  return run(ctx, command.expand(ctx, declared.command), environment, declared.seconds or SECONDS)
end

return tests
