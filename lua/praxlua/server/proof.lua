--- The proof of a new server, made before the old one is stopped: the staged code is started
-- privately with the environment that was prepared for it, beside whatever runs, and has to shake
-- hands, to offer the tools of the old server, and to pass the smoke calls.
local ask = require("praxlua.server.ask")
local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local environment = require("praxlua.environment")
local module = require("praxlua.server.module")
local smoke = require("praxlua.server.smoke")
local staged_code = require("praxlua.staged_code")
local text = require("praxlua.text")

local proof = {}

local function project_server(ctx)
  local project = ctx.options.project
  return project and project.server or {}
end

--- The tools a new server must offer: the old server's, less what the layout or the project file
--- says is gone; where no old one could be asked, the least that any server of this layout has.
---@param ctx table
---@return string[] names
function proof.expected_tools(ctx)
  local known = ctx.layout and ctx.layout.tools or { minimum = {}, gone = {} }
  local remembered = ctx.memory.server_remembered or {}
  local gone, expected = {}, {}
  for _, list in ipairs({ remembered.tools and known.gone or {},
    project_server(ctx).gone_tools or {} }) do
    for _, name in ipairs(list) do gone[name] = true end
  end
  for _, name in ipairs(remembered.tools or known.minimum) do
    if not gone[name] then expected[#expected + 1] = name end
  end
  return expected
end

local function lost_tools(expected, offered)
  local have, lost = {}, {}
  for _, name in ipairs(offered) do have[name] = true end
  for _, name in ipairs(expected) do
    if not have[name] then lost[#lost + 1] = name end
  end
  return lost
end

local function complaint(ctx, answer)
  local lost = lost_tools(proof.expected_tools(ctx), answer.tools)
  if #lost > 0 then
    return ("it lacks tools that the old one has: %s (if they are gone for good, name them in "
      .. "server.gone_tools of upgrade.lua)"):format(text.visible(table.concat(lost, ", "))),
      "ELOSTTOOL"
  end
  for _, call in ipairs(answer.calls) do
    if call.status == "failed" then
      return ("its tool for %s fails: %s"):format(call.title, call.reason), "ESMOKE"
    end
  end
end

-- Runs with a connected client: what the server offers, and what its tools answer.
local function examine(ctx)
  return function(client, deadline)
    local answer, problem, code = ask.examine(client, deadline)
    if not answer then return nil, problem, code end
    ctx.progress("calling the new server's tools")
    local declared = ctx.options.project and ctx.options.project.smoke
    local results = smoke.run(client, answer.tools,
      core.system.monotonic() + smoke.seconds(declared), declared)
    answer.calls = results.calls
    return answer
  end
end

-- What is run: the staged code with the environment that waits for it, or what is installed.
local function code_of(ctx)
  local code = ctx.memory.staged_code
  if not code then return ctx.target end
  local ok, message, why = staged_code.use_environment(ctx,
    dependencies.prepared(ctx) or ctx.target .. "/" .. environment.NAME)
  if not ok then return nil, message, why end
  return code
end

--- Proves the new server. The running one is left alone, and the live state file is the same
--- afterwards, to the byte and the nanosecond.
---@param ctx table with memory.staged_code (of staged_code.make), else the installed code is proven
---@param options { timeout: number? }? seconds for the handshake; options.health_timeout, 30
---@return table|nil proof { proven = true, tools, tools_registered, server_version?,
---  protocol_version, calls = of smoke.run, module_path?, seconds }
---@return string? message
---@return string? code "ELOSTTOOL" · "ESMOKE" · one of praxlua.mcp, or errno
function proof.prove(ctx, options)
  local began = core.system.monotonic()
  local seconds = ask.seconds(ctx, options and options.timeout)
  local code, message, why = code_of(ctx)
  if not code then return nil, message, why end
  local answer
  answer, message, why = ask.privately(ctx, code, seconds, examine(ctx))
  if answer then message, why = complaint(ctx, answer) end
  if message then
    message = ("the new server does not work: %s. The old one was left alone"):format(message)
    return nil, message, why
  end
  answer.proven, answer.module_path = true, (module.checked(ctx, code))
  answer.seconds = core.system.monotonic() - began
  return answer
end

return proof
