--- `<target>/.upgrade-lock`: who upgrades this target, for people and other tools.
--
-- It is text only. The lock itself is the kernel's (praxlua.core.lock on the target directory),
-- which a dead holder cannot keep; this file merely tells its name. It is sealed (seal.lua), so
-- that a damaged one names nobody.
local core = require("praxlua.core")
local clock = require("praxlua.clock")
local seal = require("praxlua.seal")

local lock_text = {}

local FORMAT_VERSION = 2
local MAX_BYTES = 65536

local function path_of(target) return target .. "/.upgrade-lock" end

--- Writes the text for this run.
---@param ctx table
---@return true|nil
---@return string? message
---@return string? code
function lock_text.write(ctx)
  return core.file.write_atomic(path_of(ctx.target), seal.encode({
    format_version = FORMAT_VERSION, session_id = ctx.session.session_id,
    started_at = clock.iso(), pid = core.system.pid(), host = core.system.hostname(),
  }), 420) -- 0644
end

--- Removes it; a missing one is fine.
---@param ctx table
---@return true|nil
---@return string? message
---@return string? code
function lock_text.remove(ctx)
  if not core.file.exists(path_of(ctx.target)) then return true end
  return core.file.remove(path_of(ctx.target))
end

--- What it says, for a message; nil when there is none, or it is not what was written.
---@param target string
---@return { session_id: string?, started_at: string?, pid: integer?, host: string? }|nil
function lock_text.read(target)
  local data = core.file.read(path_of(target), MAX_BYTES)
  return data and seal.open(data) or nil
end

return lock_text
