--- A close look at the installed server, for people: it is started privately, says what it is,
--- lists its tools with their descriptions, and, if wanted, is called.
local ask = require("praxlua.server.ask")
local core = require("praxlua.core")
local json = require("praxlua.json")
local mcp = require("praxlua.mcp")
local module = require("praxlua.server.module")
local smoke = require("praxlua.server.smoke")

local inspect = {}

local function described(listed)
  local tools = json.array()
  for i, tool in ipairs(listed) do
    local words = tool.description
    tools[i] = { name = tool.name, description = type(words) == "string" and words or "" }
  end
  table.sort(tools, function(a, b) return a.name < b.name end)
  return tools
end

-- What is done with the client: use(client, deadline) of ask.privately.
local function look(options)
  return function(client, deadline)
    local left = math.max(deadline - core.system.monotonic(), 0)
    local listed, problem, code = mcp.list_tools(client, left)
    if not listed then return nil, problem, code end
    local answer = {
      tools = described(listed), tools_registered = #listed,
      server_name = client.server.name, server_version = client.server.version,
      protocol_version = client.protocol_version, noise_lines = client.noise_lines,
    }
    if options.smoke then
      local names = {}
      for i, tool in ipairs(answer.tools) do names[i] = tool.name end
      local until_then = core.system.monotonic() + smoke.seconds(options.declared)
      answer.calls = json.array(smoke.run(client, names, until_then, options.declared).calls)
    end
    return answer
  end
end

--- Starts the installed code over stdio, asks it, and ends it again. The live state file is the
--- same afterwards.
---@param ctx table
---@param options { smoke: boolean?, declared: table[]?, timeout: number? }? smoke: make the smoke
---  calls, too, which have a time of their own · declared: the project file's · timeout: seconds
---  for start, handshake and list; options.health_timeout, 30
---@return table|nil answer { tools = { {name, description} } by name, tools_registered,
---  server_name?, server_version?, protocol_version, noise_lines, calls?, seconds, module_path?,
---  shadowed = true where another copy of the module than the installed one was started }
---@return string? message
---@return string? code
---@return string? command with which a person can try it
function inspect.installed(ctx, options)
  options = options or {}
  local began = core.system.monotonic()
  local answer, problem, code = ask.privately(ctx, ctx.target, ask.seconds(ctx, options.timeout),
    look(options))
  if not answer then
    return nil, problem, code, ask.by_hand(ctx, ctx.target)
  end
  answer.seconds = core.system.monotonic() - began
  local path, ours = module.checked(ctx, ctx.target)
  answer.module_path, answer.shadowed = path, path ~= nil and not ours or nil
  return answer
end

return inspect
