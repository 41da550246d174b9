--- How a server is: whether it answers, with which tools, and whether these work.
--
-- A server that speaks HTTP is asked where it listens. One that speaks stdio belongs to the editor
-- that started it: nobody else can speak to it, so the installed code is proven by a private server
-- over stdio instead, as it is when no server runs.
local ask = require("praxlua.server.ask")
local core = require("praxlua.core")
local module = require("praxlua.server.module")
local owned = require("praxlua.server.owned")
local smoke = require("praxlua.server.smoke")
local started = require("praxlua.server.started")

local system = core.system

local health = {}

--- Starts the installed code privately over stdio, shakes hands, lists its tools and ends it again.
--- The live state file is the same afterwards, to the byte and the nanosecond.
---@param ctx table
---@param options { code: string?, timeout: number? }? code: directory that holds the module (a
---  staged copy), the target when nil · timeout: seconds, options.health_timeout or 30
---@return table|nil health as of health.of, with module_path
---@return string? message
---@return string? code of praxlua.mcp, or errno
function health.probe(ctx, options)
  local began = system.monotonic()
  local code = options and options.code or ctx.target
  local seconds = ask.seconds(ctx, options and options.timeout)
  local answer, problem, kind = ask.privately(ctx, code, seconds, ask.examine)
  if not answer then
    local message = "the server does not answer when it is started privately: %s. "
      .. "Try it: %s"
    return nil, message:format(problem, ask.by_hand(ctx, code)), kind
  end
  answer.module_path = module.checked(ctx, code)
  return ask.as_health(answer, "probe", began)
end

--- How the server is: the running one if it speaks HTTP, else the installed code by a probe.
---@param ctx table
---@param seconds number? deadline, options.health_timeout or 30
---@return table health { responding, tools = sorted names, tools_registered, server_version?,
---  protocol_version?, seconds, via = "http"|"probe", error?, code? }
function health.of(ctx, seconds)
  local began = system.monotonic()
  seconds = ask.seconds(ctx, seconds)
  local found = owned.find(ctx)
  local via = found and found.url and "http" or "probe"
  local answer, problem, code
  if via == "http" then
    answer, problem, code = ask.over_http(found, seconds, ask.examine)
  else
    answer, problem, code = health.probe(ctx, { timeout = seconds })
  end
  if answer then return ask.as_health(answer, via, began) end
  return {
    responding = false,
    tools = {},
    tools_registered = 0,
    error = problem,
    code = code,
    via = via,
    seconds = system.monotonic() - began,
  }
end

-- The running server where it can be asked, and where it is the one to be judged: one that was left
-- alone when its code was upgraded has the old code in it.
local function to_be_judged(ctx)
  local found = owned.find(ctx)
  if not found or not found.url then return nil end
  local upgraded = ctx.session and ctx.session.phase_artifacts["3"]
  if upgraded and not started.by_session(ctx) then return nil end
  return found
end

--- Calls the tools that show that the server works, on the running server or a private one.
---@param ctx table
---@return table|nil results of smoke.run: a status per evidence field, and the calls; and via =
---  "http"|"probe"
---@return string? message
---@return string? code
function health.run_smoke(ctx)
  local declared = ctx.options.project and ctx.options.project.smoke
  local seconds = smoke.seconds(declared)
  local found = to_be_judged(ctx)
  local function use(client, deadline)
    local answer, problem, code = ask.examine(client, deadline)
    if not answer then return nil, problem, code end
    local results = smoke.run(client, answer.tools, deadline, declared)
    results.via = found and "http" or "probe"
    return results
  end
  if found then return ask.over_http(found, seconds, use) end
  return ask.privately(ctx, ctx.target, seconds, use)
end

return health
