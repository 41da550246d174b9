--- The server that this session started: whether there is one, whether it still runs, and its new
-- start where it is gone.
local lifecycle = require("praxlua.server.lifecycle")
local log = require("praxlua.server.log")
local owned = require("praxlua.server.owned")
local state_file = require("praxlua.server.state_file")
local watch = require("praxlua.server.watch")

local started = {}

--- Whether the session started the server anew.
---@param ctx table
---@return boolean
function started.by_session(ctx)
  local upgraded = ctx.session.phase_artifacts["3"]
  return upgraded ~= nil and upgraded.server_restarted == true
end

local function runs_no_more(ctx, reason)
  return nil, string.format("the upgraded server answered once and runs no more (%s); %s",
    tostring(reason), log.tail(ctx, log.marked(ctx) or 0)), "ECLOSED"
end

--- Whether the server that this session started still runs. A session that started none passes.
---@param ctx table
---@return true|nil
---@return string? message with the end of the server's log
---@return string? code "ECLOSED"
function started.check_running(ctx)
  if not started.by_session(ctx) then return true end
  local found, reason = owned.find(ctx)
  if found then return true end
  return runs_no_more(ctx, reason)
end

--- Waits until the server that this session started has stayed for its time, which counts from its
--- first answer. A session that started none has nothing to wait for.
---@param ctx table options.watch, else the project file's server.watch: seconds, 3
---@return { watched: boolean, seconds: number }|nil
---@return string? message with the end of the server's log
---@return string? code "ECLOSED" it ended · "EINTR" · "ETIMEDOUT"
function started.watch(ctx)
  if not started.by_session(ctx) then return { watched = false, seconds = 0 } end
  local seconds, why, code = watch.wait(ctx)
  if seconds then return { watched = true, seconds = seconds } end
  if code == "ECLOSED" then return runs_no_more(ctx, why) end
  return nil, "watching the new server: " .. why, code
end

--- For a run that goes on after a kill: the upgraded server, which the session started and which is
--- gone since (the machine, or somebody, ended everything), is started again.
---@param ctx table
---@return true|nil
---@return string? message
---@return string? code
function started.revive(ctx)
  if not started.by_session(ctx) then return true end
  state_file.put_back(ctx)
  local found, reason = owned.find(ctx)
  if found or reason ~= owned.NOT_RUNNING then return true end
  local running, problem, code = lifecycle.start(ctx, {
    transport = (ctx.session.metadata.server or {}).transport,
  })
  if not running then return nil, problem, code end
  watch.begin(ctx)
  return true
end

return started
