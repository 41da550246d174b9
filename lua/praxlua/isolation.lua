--- Isolation: how far the kernel confines a worker, beside what we do ourselves; measured in each
-- worker, compared with what the user demands.
--
-- The levels, weakest first. In all of them a phase is a process of its own with a listed Lua
-- state, limits, and nothing but its channel:
--   process    no more than that
--   landlock   and no file can be opened, whatever the process comes to run
--   seccomp    and no system call can be made but those of computing and talking
--   full       both
local core = require("praxlua.core")
local resources = require("praxlua.resources")

local isolation = {}

--- The names of the levels, weakest first.
isolation.LEVELS = { "process", "landlock", "seccomp", "full" }

local rank = {}
for i, name in ipairs(isolation.LEVELS) do rank[name] = i end

local demanded = "process"

--- Sets the level below which no script is run from now on.
---@param level string|nil one of isolation.LEVELS; nil: any will do
function isolation.demand(level)
  assert(level == nil or rank[level], "no level of isolation: " .. tostring(level))
  demanded = level or "process"
end

-- What the error of a layer means.
local REASONS = {
  ENOSYS = "the kernel was built without it",
  EOPNOTSUPP = "it is switched off in the kernel (its boot parameter lsm=)",
  EPERM = "whoever started praxlua does not allow it (a container's own filter, say)",
  EINVAL = "the kernel does not know it",
  ENOPKG = "this build is one for tests and goes without it",
}

local function reason(layer, error)
  return ("%s does not hold: %s"):format(layer, REASONS[error] or "the kernel says " .. error)
end

--- The level that two layers make.
---@param seccomp string|nil its error, nil: it holds
---@param landlock string|nil the same
---@return string level
---@return string? why it is not "full"
function isolation.level(seccomp, landlock)
  if not seccomp and not landlock then return "full" end
  if not seccomp then return "seccomp", reason("Landlock", landlock) end
  if not landlock then return "landlock", reason("seccomp", seccomp) end
  return "process", reason("seccomp", seccomp) .. "; " .. reason("Landlock", landlock)
end

-- Whether a level is at least the demanded one.
local function check(level, why)
  if rank[level] >= rank[demanded] then return true end
  return nil, ("phases are confined only as far as '%s' here, and at least '%s' is demanded: %s")
    :format(level, demanded, why), "EISOLATION"
end

-- A worker and what its layers came to.
local function begin(limits)
  local host, message = core.system.host()
  if not host then return nil, message, "ENOHOST" end
  local worker, seccomp, landlock = core.worker.start(host, limits)
  if not worker then return nil, seccomp, landlock end
  return worker, isolation.level(seccomp, landlock)
end

--- Starts a worker that has confined itself and waits to be told what to run.
---@param limits table of the phase
---@return userdata|nil worker
---@return string level or the message of a failure
---@return string? code "EISOLATION": its level is below the demanded one; "EINTR"
function isolation.start(limits)
  local worker, level, why = begin(limits)
  if not worker then return nil, level, why end
  local ok, message, code = check(level, why)
  if ok then return worker, level end
  worker:stop()
  return nil, message, code
end

--- Tells a worker what to run.
---@param worker userdata of isolation.start
---@param mode string "describe", "describe_all" or "run"
---@param file string name of the script, for messages
---@param source string|table its text; for describe_all, an array of { name, text }
---@param context table for the prelude (praxlua.worker)
---@param before string|nil Lua of ours to run in front of the prelude
---@return true|nil
---@return string? message
---@return string? code "EVALUE": the context cannot cross the channel
function isolation.tell(worker, mode, file, source, context, before)
  local prelude = assert(resources.source("lua/praxlua/worker.lua"))
  return worker:send("start", (before or "") .. prelude, mode, file, source, context)
end

--- The level that workers have on this machine.
---@return string|nil level
---@return string? why it is not "full", or the message of a failure
function isolation.measure()
  local worker <close>, level, why = begin({})
  if not worker then return nil, level end
  return level, why
end

return isolation
