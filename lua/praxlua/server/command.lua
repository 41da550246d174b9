--- The command that starts the server: the layout's own, or the one that the project file names.
local core = require("praxlua.core")
local environment = require("praxlua.environment")
local layout = require("praxlua.layout")
local process = require("praxlua.process")

local file = core.file

local command = {}

local TRANSPORTS = { "http", "dual", "stdio" }

local function interpreter_in(place) return place .. "/" .. environment.NAME .. "/bin/python" end

--- The interpreter of the installation's environment.
---@param ctx table
---@param code string? folder that holds the server's code; where there is an environment beside it,
---  that one is meant
---@return string path
function command.interpreter(ctx, code)
  local beside = code and interpreter_in(code)
  if beside and core.system.access(beside, "x") then return beside end
  return interpreter_in(ctx.target)
end

local function declared(ctx)
  local project = ctx.options and ctx.options.project
  return project and project.server and project.server.command
end

--- The words of a command of the project file with what stands for something put in, and its
--- program found on PATH.
---@param ctx table
---@param words string[]
---@param transport string? what {transport} stands for
---@param code string? what {target} stands for, the installation when nil
---@return string[] argv
function command.expand(ctx, words, transport, code)
  local values = { target = code or ctx.target, project = ctx.project, transport = transport }
  local argv = {}
  for i, word in ipairs(words) do argv[i] = word:gsub("{(%l+)}", values) end
  if not argv[1]:find("/", 1, true) then argv[1] = process.find(argv[1]) or argv[1] end
  return argv
end

--- The words that start the server.
---@param ctx table
---@param transport "stdio"|"http"|"dual"
---@param code string? folder that stands for the installation (praxlua.staged_code)
---@return string[] argv
function command.argv(ctx, transport, code)
  local words = declared(ctx)
  if not words then
    local module = layout.server_of(ctx).module
    return { command.interpreter(ctx, code), "-m", module, "--transport", transport }
  end
  return command.expand(ctx, words, transport, code)
end

--- Whether the program can be run.
---@param ctx table
---@param code string? as of command.argv
---@return boolean|nil
---@return string? message
---@return string? code "ENOENT"
function command.check(ctx, code)
  local program = command.argv(ctx, "stdio", code)[1]
  if program:find("/", 1, true) and core.system.access(program, "x") then return true end
  if declared(ctx) then
    return nil, ("the server cannot be started: %s is missing or not executable. It is named by "
      .. "server.command in upgrade.lua"):format(program), "ENOENT"
  end
  local message = "the server cannot be started: %s is missing or not executable. "
    .. "Make the environment (python3 -m venv %s/venv) and install the requirements in it"
  return nil, message:format(program, ctx.target), "ENOENT"
end

-- Whether a process' words end with others. In front of them may stand the interpreter of a script,
-- as the kernel puts it there.
local function ends_with(argv, words)
  local offset = #argv - #words
  if offset < 0 or offset > 2 then return false end
  for i = 2, #words do
    if argv[offset + i] ~= words[i] then return false end
  end
  local called, wanted = argv[offset + 1], words[1]
  return called == wanted or called:sub(1, 1) == "/"
    and file.realpath(called) ~= nil and file.realpath(called) == file.realpath(wanted)
end

--- Whether a process was started by the command of the project file.
---@param ctx table
---@param argv string[] its words
---@return boolean|nil is_ours nil where the project names no command
function command.matches(ctx, argv)
  if not declared(ctx) then return nil end
  for _, transport in ipairs(TRANSPORTS) do
    if ends_with(argv, command.argv(ctx, transport)) then return true end
  end
  return false
end

return command
