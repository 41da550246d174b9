--- `praxlua server status`: whether the server runs, where, and what of. Reads only.
local ask = require("praxlua.server.ask")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local ends = require("praxlua.cli.server.ends")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local log = require("praxlua.server.log")
local standing = require("praxlua.server.standing")
local view = require("praxlua.cli.server.view")

local status = {}

local SECONDS = 5 -- for the answer of a server that runs already

-- What the running server says of itself, where it can be asked.
local function question(data, found)
  if not found.url then return end
  local answer, problem = ask.over_http(found, SECONDS, ask.examine)
  data.answers, data.problem = answer ~= nil, problem
  if not answer then return end
  data.tools, data.tools_registered = json.array(answer.tools), answer.tools_registered
  data.server_version = answer.server_version or data.server_version
end

local function collect(ctx)
  local now = standing.of(ctx)
  local found = now.found
  local data = {
    state = now.state, running = now.state == "running", reason = now.reason,
    code = ctx.target .. "/" .. layout.server_of(ctx).module,
    log = core.file.exists(log.path(ctx)) and log.path(ctx) or nil,
  }
  if found then
    local since = standing.since(found)
    data.pid, data.transport, data.url = found.pid, found.transport, found.url
    data.since, data.seconds = clock.iso(since), (core.system.now() - since) / 1e9
    data.server_version = found.version
    local changed, path = standing.newer_code(ctx, found)
    data.newer_code = changed and { changed = clock.iso(changed), path = path } or nil
    question(data, found)
  end
  return data, now
end

-- The end of `status` where all is not well; nil where it is.
local function complaint(ctx, data, now)
  if data.state == "foreign" then return ends.failed(standing.obstacle(ctx, now)) end
  if data.state == "stopped" then
    return ends.failed("the server does not run: " .. data.reason,
      "start it with: praxlua server start")
  end
  if data.state == "starting" then
    return ends.failed(("process %d was started by praxlua and has not said where it listens")
      :format(data.pid), "wait for it, or see why with: praxlua server logs"
      .. "\nor end it with: praxlua server stop")
  end
  if data.answers == false then
    return ends.failed(
      ("the server (process %d) does not answer: %s"):format(data.pid, data.problem),
      "see why with: praxlua server logs\nor start it anew with: praxlua server restart")
  end
end

--- Shows how the server stands.
---@param ctx table
---@param v table of view.new
---@param problem string|nil what is wrong with the project file
---@return table result for view.finish
function status.show(ctx, v, problem)
  if problem then ctx.warn(problem .. "; its settings are not used") end
  local data, now = collect(ctx)
  v.result("server status", data, view.status(data))
  if data.newer_code then
    ctx.warn(("the server may run older code than what is installed: %s changed at %s. "
      .. "Restart it (praxlua server restart, or in the editor)"):format(data.newer_code.path,
        data.newer_code.changed))
  end
  local result = complaint(ctx, data, now)
  if result then return result end
  return { exit_code = 0, silent = true }
end

return status
