--- How the server of an installation stands, for people: whether it runs, and if not, why not, in
-- plain words. Reads only, asks nobody, starts nothing.
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local owned = require("praxlua.server.owned")
local state_file = require("praxlua.server.state_file")
local text = require("praxlua.text")

local standing = {}

-- Why none runs, where owned.find says no more than that.
local function why_stopped(ctx)
  local claimed
  for _, path in ipairs(state_file.places(ctx)) do claimed = state_file.read(path) or claimed end
  if not claimed then return "there is no state file" end
  return ("the process that its state file names, %d, is gone"):format(claimed.pid)
end

--- How the server stands.
---@param ctx table
---@return table now { state, found?, reason? }: state is "running"; "starting": praxlua started the
---  process, which has written no state file; "stopped"; or "foreign": the state file names a
---  process that is not proven to be this server · found of owned.find · reason in words, for the
---  states without found
function standing.of(ctx)
  local found, reason, code = owned.find(ctx)
  if found then return { state = "running", found = found } end
  local begun = owned.starting(ctx)[1]
  if begun then return { state = "starting", found = begun } end
  if reason == owned.NOT_RUNNING then return { state = "stopped", reason = why_stopped(ctx) } end
  reason = reason:gsub("^not_ours: ", "")
  if code == owned.YOUNGER then
    return { state = "stopped", reason = "the state file was left behind: " .. reason }
  end
  return { state = "foreign", reason = reason }
end

--- Since when a process that was found has run.
---@param found table of owned.find
---@return integer ns
function standing.since(found) return owned.started_at(found.identity) end

--- When the installed code was changed after the running server had started, and so is not what it
--- runs.
---@param ctx table
---@param found table of owned.find
---@return integer|nil ns time of the latest change; nil where there was none, or it cannot be told
---@return string|nil path of that file, relative to the target
function standing.newer_code(ctx, found)
  local module = layout.server_of(ctx).module
  local entries = core.tree.list(ctx.target .. "/" .. module, {
    skip_names = { ["__pycache__"] = true },
  })
  local latest, path = standing.since(found) + owned.CLOCK_SLACK, nil
  for _, entry in ipairs(entries or {}) do
    if entry.type == "file" and entry.mtime > latest then
      latest, path = entry.mtime, module .. "/" .. entry.path
    end
  end
  return path and latest, path
end

--- What is in the way of starting or stopping a server by hand, in words; nil where nothing is.
---@param ctx table
---@param now table of standing.of
---@return string|nil message
---@return string|nil next what to do
function standing.obstacle(ctx, now)
  local claim = state_file.path(ctx)
  if now.state == "foreign" and core.file.exists(claim) and not core.system.access(claim, "r") then
    return "whether the server runs cannot be told: " .. now.reason,
      "run this as the user whom that file belongs to"
  elseif now.state == "foreign" then
    return "whether the server runs cannot be told: " .. now.reason,
      ("if that is the server, stop it yourself; if not, remove %s"):format(
        text.quoted(claim))
  end
  if now.found and now.found.transport == "stdio" then
    return ("the server (process %d) speaks stdio and belongs to the editor that started it")
      :format(now.found.pid), "start and stop it in the editor: reload its MCP server there"
  end
end

return standing
