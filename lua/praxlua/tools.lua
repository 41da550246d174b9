--- Tools that phases run: a program under the confinement that the phase's rights allow.
--
-- A tool may write in the temporary directory and in the caches that its environment names; in the
-- installation only when its phase has registered how that is undone (praxlua.undo_commands).
local core = require("praxlua.core")
local process = require("praxlua.process")

local tools = {}

-- The variables that name caches of the tools people use, and where they are below HOME otherwise.
local CACHES = { "PIP_CACHE_DIR", "UV_CACHE_DIR", "npm_config_cache" }
local CACHES_AT_HOME = { "/.cache", "/.npm" }

local function add(list, path)
  if path and path:sub(1, 1) == "/" and core.file.exists(path) then list[#list + 1] = path end
end

--- What a tool may do beside reading.
---@param ctx table
---@param rights { undoable: boolean?, project: boolean?, network: boolean? } undoable: its phase
---  has registered an undo; project: its phase may write in the project
---@param environment table<string, string> the tool's
---@return { write: string[], network: boolean } confine for process.run
function tools.confine(ctx, rights, environment)
  local write = {}
  add(write, environment.TMPDIR or "/tmp")
  for _, name in ipairs(CACHES) do add(write, environment[name]) end
  for _, below in ipairs(environment.HOME and CACHES_AT_HOME or {}) do
    add(write, environment.HOME .. below)
  end
  if rights.undoable then add(write, rights.project and ctx.project or ctx.target) end
  return { write = write, network = rights.network or false }
end

--- Runs a tool in the project.
---@param ctx table
---@param command { argv: string[], timeout: number, stdin: string? }
---@param rights table as in tools.confine
---@return table|nil result as of process.run
---@return string? message
---@return string? code
function tools.run(ctx, command, rights)
  local environment = process.environment()
  return process.run({
    argv = command.argv, directory = ctx.project, environment = environment,
    stdin = command.stdin, timeout = command.timeout,
    confine = tools.confine(ctx, rights, environment),
  })
end

return tools
