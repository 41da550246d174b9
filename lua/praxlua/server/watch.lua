--- The time after a switch in which the new server has to stay: one that answers once and ends a
-- moment later is no server.
local core = require("praxlua.core")
local owned = require("praxlua.server.owned")

local watch = {}

--- Seconds from its first answer, where nothing else is said.
watch.SECONDS = 3

local LOOK = 0.05 -- seconds between two looks

local function seconds_of(ctx)
  local project = ctx.options.project
  return ctx.options.watch or project and project.server and project.server.watch or watch.SECONDS
end

--- Writes down when the new server answered first.
---@param ctx table
function watch.begin(ctx) ctx.session.metadata.server_answered = core.system.monotonic() end

-- Seconds that are left. The clock counts from the machine's start: after another one the time of
-- before may lie ahead, and is over.
local function left(ctx)
  local since, now = ctx.session.metadata.server_answered, core.system.monotonic()
  if type(since) ~= "number" or since > now then return 0 end
  return since + seconds_of(ctx) - now
end

local function interruption()
  if core.system.interrupted() then return "it was interrupted", "EINTR" end
  if core.cancel.asked() then return "the time of the phase is over", "ETIMEDOUT" end
end

--- Waits until the server has stayed for its time.
---@param ctx table
---@return number|nil seconds waited
---@return string? why it is not there any more, or the waiting ended
---@return string? code "ECLOSED" · "EINTR" · "ETIMEDOUT"
function watch.wait(ctx)
  local began = core.system.monotonic()
  local told = false
  while true do
    local found, reason = owned.find(ctx)
    if not found then return nil, reason, "ECLOSED" end
    local seconds = left(ctx)
    if seconds <= 0 then return core.system.monotonic() - began end
    if not told and seconds > 0.5 then
      ctx.progress(("watching the new server for %.0f s"):format(math.ceil(seconds)))
      told = true
    end
    local why, code = interruption()
    if why then return nil, why, code end
    core.system.sleep(math.min(LOOK, seconds))
  end
end

return watch
