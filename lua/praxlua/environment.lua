--- The old environment of an upgraded installation, kept until the next upgrade.
--
-- Phase 3 exchanges venv/ for a clone; when the upgrade is final, the original is moved from the
-- transaction's folder into .cache, so that undoing the upgrade later brings back the very same
-- packages, without the network.
local clone = require("praxlua.dependencies.clone")
local core = require("praxlua.core")

local environment = {}

--- Its name in an installation.
environment.NAME = "venv"

local PREFIX = "environment-"

--- Where the environment from before a session is kept.
---@param target string
---@param session_id string
---@return string path
function environment.path(target, session_id)
  return target .. "/.cache/" .. PREFIX .. session_id
end

local function original_of(r)
  for _, change in ipairs(r.transaction:changes()) do
    if change.original and change.path == r.target_name .. "/venv" then return change.original end
  end
end

local function remove_others(r, kept)
  local cache = core.root.open(r.target .. "/.cache")
  for _, entry in ipairs(cache and cache:list(".") or {}) do
    local path = r.target .. "/.cache/" .. entry.name
    if entry.name:sub(1, #PREFIX) == PREFIX and path ~= kept then core.tree.remove(path) end
  end
  if cache then cache:close() end
end

--- Keeps the original of a committed session and forgets those of earlier ones. May be repeated.
---@param r table run with its committed transaction
function environment.keep(r)
  local kept = environment.path(r.target, r.session.session_id)
  remove_others(r, kept)
  local original = original_of(r)
  if not original or core.file.exists(kept) then return end
  local ok, message = core.file.rename(r.folder .. "/" .. original, kept)
  if not ok then
    r.ctx.warn("the environment from before the upgrade could not be kept: " .. message)
  end
end

--- Exchanges the environment of an installation for one that was kept, which stays.
---@param ctx table with ctx.change
---@param kept string its path
---@return table|nil
---@return string? message
---@return string? code
function environment.bring_back(ctx, kept)
  local number, path = ctx.change.stage()
  local ok, message, code = clone.share(kept, path)
  if not ok then return nil, message, code end
  return ctx.change.switch(ctx.target_name .. "/venv", number)
end

return environment
