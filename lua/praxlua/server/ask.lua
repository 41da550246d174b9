--- How the installed server is called, and how it is asked: the running one over HTTP, the
--- installed code by a private server over stdio, which is started, asked and ended again.
local command = require("praxlua.server.command")
local core = require("praxlua.core")
local listener = require("praxlua.server.listener")
local mcp = require("praxlua.mcp")
local process = require("praxlua.process")
local state_file = require("praxlua.server.state_file")
local text = require("praxlua.text")

local system = core.system

local ask = {}

local READY_TIMEOUT = 30
local STDIO_GRACE = 2

ask.check_program = command.check

--- How long a server may take to start and answer.
---@param ctx table options.health_timeout, else the project file's server.health_timeout: seconds
---@param seconds number? what the caller says; goes before both
---@return number seconds 30 where nobody says
function ask.seconds(ctx, seconds)
  local project = ctx.options.project
  return seconds or ctx.options.health_timeout
    or project and project.server and project.server.health_timeout or READY_TIMEOUT
end

-- Where the server's libraries find what they have downloaded: models, browsers. Without these it
-- would look elsewhere, and download it again.
local VARIABLES = { "XDG_CACHE_HOME", "HF_*", "TRANSFORMERS_*", "SENTENCE_TRANSFORMERS_HOME",
  "TORCH_HOME", "PLAYWRIGHT_*" }

-- What a server is told: what every tool is, where its libraries find their data, what the project
-- file says is to be passed on, and where it is.
local function environment_of(ctx, code)
  local project = ctx.options and ctx.options.project
  local variables = process.variables(VARIABLES)
  local declared = project and project.server and project.server.variables or {}
  for name, value in pairs(process.variables(declared)) do variables[name] = value end
  variables.PYTHONPATH, variables.PROJECT_ROOT = code, ctx.project
  variables.PYTHONUNBUFFERED = "1"
  return process.environment(variables)
end

--- What core.spawn needs to start the server, without its streams.
---@param ctx table
---@param transport string "stdio"|"http"|"dual"
---@param code string directory that holds the server's module, mcp_server/ for one
---@return table options { argv, directory, environment }
function ask.command(ctx, transport, code)
  return {
    argv = command.argv(ctx, transport, code),
    directory = ctx.project,
    environment = environment_of(ctx, code),
  }
end

--- What a person types to try it.
---@param ctx table
---@param code string directory that holds the server's module
---@return string command for a shell
function ask.by_hand(ctx, code)
  local words = {}
  for i, word in ipairs(ask.command(ctx, "stdio", code).argv) do words[i] = text.quoted(word) end
  return ("cd %s && PYTHONPATH=%s %s"):format(text.quoted(ctx.project), text.quoted(code),
    table.concat(words, " "))
end

-- Closes the client after use(client, deadline), whatever that returned.
local function use_client(client, deadline, use)
  local results = table.pack(use(client, deadline))
  mcp.close(client)
  return table.unpack(results, 1, results.n)
end

--- Calls use(client, deadline) with a client of a running server that speaks HTTP.
---@param found table of owned.find, with a url
---@param seconds number for everything
---@param use function
---@return any what use returned, or nil, message, code
function ask.over_http(found, seconds, use)
  local deadline = system.monotonic() + seconds
  if found.port and listener.holds(found.pid, found.port) == false then
    local message = "port %d is not held by the server (process %d)"
    return nil, message:format(found.port, found.pid), "ECONNREFUSED"
  end
  local client, problem, code = mcp.connect({ url = found.url, timeout = seconds })
  if not client then return nil, problem, code end
  return use_client(client, deadline, use)
end

local function start_private(ctx, code)
  local fine, problem, kind = ask.check_program(ctx, code)
  if not fine then return nil, problem, kind end
  local options = ask.command(ctx, "stdio", code)
  options.environment.PYTHONDONTWRITEBYTECODE = "1"
  options.stdin, options.stdout, options.stderr = "pipe", "pipe", "pipe"
  return process.start(options)
end

local function talk_to_private(ctx, code, seconds, use)
  local deadline = system.monotonic() + seconds
  local child <close>, problem, kind = start_private(ctx, code)
  if not child then return nil, problem, kind end
  local client
  client, problem, kind = mcp.connect({ process = child, timeout = seconds })
  local results = client and table.pack(use_client(client, deadline, use))
    or table.pack(nil, problem, kind)
  -- A server over stdio ends when its stdin does; one that does not is made to.
  child:close_stdin()
  if not client or not child:wait(STDIO_GRACE) then child:stop(STDIO_GRACE) end
  state_file.forget(ctx, child:pid())
  return table.unpack(results, 1, results.n)
end

--- Calls use(client, deadline) with a client of a private server over stdio. The live state file is
--- out of its way meanwhile, and is the same afterwards, to the byte and the nanosecond.
---@param ctx table
---@param code string directory that holds the server's module
---@param seconds number for everything but the end of the private server
---@param use function
---@return any what use returned, or nil, message, code
function ask.privately(ctx, code, seconds, use)
  local moved, problem, kind = state_file.set_aside(ctx)
  if moved == nil then return nil, "the live state file cannot be set aside: " .. problem, kind end
  local results = table.pack(pcall(talk_to_private, ctx, code, seconds, use))
  local back, stuck, why = state_file.put_back(ctx)
  if not results[1] then error(results[2], 0) end
  if back == nil then return nil, "the live state file cannot be put back: " .. stuck, why end
  return table.unpack(results, 2, results.n)
end

--- What a connected server tells of itself.
---@param client table of mcp.connect
---@param deadline number of system.monotonic
---@return table|nil answer { tools = sorted names, tools_registered, server_version?,
---  protocol_version, noise_lines }
---@return string? message
---@return string? code
function ask.examine(client, deadline)
  local left = math.max(deadline - system.monotonic(), 0)
  local tools, problem, code = mcp.list_tools(client, left)
  if not tools then return nil, problem, code end
  local names = {}
  for i, tool in ipairs(tools) do names[i] = tool.name end
  table.sort(names)
  return {
    tools = names,
    tools_registered = #names,
    server_version = client.server.version,
    protocol_version = client.protocol_version,
    noise_lines = client.noise_lines,
  }
end

--- An answer of ask.examine as the health of a server.
---@param answer table
---@param via "http"|"probe"
---@param began number of system.monotonic
---@return table health of server.health
function ask.as_health(answer, via, began)
  answer.responding, answer.via = true, via
  answer.seconds = system.monotonic() - began
  return answer
end

return ask
