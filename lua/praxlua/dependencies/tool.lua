--- Programs that work on an environment: what they are told, and where they may write.
--
-- Packages bring code of strangers, which runs while they are installed: it can write only in the
-- environment it is installed into, in caches and in a temporary directory of its own.
local confinement = require("praxlua.confinement")
local process = require("praxlua.process")

local tool = {}

local OUTPUT_CAP = 4 * 1024 * 1024

-- Settings that would make pip or uv install somewhere else than into the environment, or into one
-- that is the system's.
local ELSEWHERE = {
  "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN", "PIP_BREAK_SYSTEM_PACKAGES",
  "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES",
}

--- The variables that such a program gets.
---@return table<string, string>
function tool.environment()
  local variables = process.environment({ PIP_USER = "0", PYTHONUNBUFFERED = "1" })
  for _, name in ipairs(ELSEWHERE) do variables[name] = nil end
  return variables
end

--- Runs one.
---@param ctx table
---@param argv string[]
---@param options { seconds: number, writes: string, on_line: function?, environment: table? }
---  writes: path of the environment
---@return table|nil result of process.run
---@return string? message
---@return string? code
function tool.run(ctx, argv, options)
  return confinement.run(ctx, {
    argv = argv,
    directory = ctx.project,
    environment = options.environment or tool.environment(),
    timeout = options.seconds,
    cap = OUTPUT_CAP,
    on_line = options.on_line,
  }, { write = { options.writes }, network = true })
end

--- Says what is being done.
---@param ctx table
---@param message string
function tool.progress(ctx, message)
  if ctx.progress then ctx.progress(message) end
end

return tool
