--- Why a command that needs a whole installation is refused for this one.
local decisions = require("praxlua.decisions")
local layout = require("praxlua.layout")
local run = require("praxlua.run")

local obstacle = {}

-- Whether it waits for a person, with what was installed so far in place.
local function waits(entry) return entry.session ~= nil and entry.session.status == "waiting" end

-- A half upgraded installation is nothing to come back to, unless there is no other way any more.
local function unfinished(target, may_wait)
  local open
  for _, entry in ipairs(run.unfinished(target)) do -- one that waits for answers changed nothing
    local has_changed = entry.changes or not entry.session
      or not decisions.is_awaited(entry.session)
    if not open and has_changed and not (may_wait and waits(entry)) then open = entry end
  end
  if not open or open.session and open.session.status == "rollback_failed" then return nil end
  return { exit_code = 3, status = "refused",
    message = "an upgrade of this installation did not finish: session " .. open.session_id,
    next = ("finish it first with: praxlua resume %s\nor undo it with: praxlua rollback %s"):format(
      open.session_id, open.session_id) }
end

--- Why the command is refused: the folder is no installation, or an upgrade of it was cut short.
---@param target string
---@param may_wait boolean? an upgrade that waits for a person is nothing in the way
---@return table|nil result for view.finish; nil when nothing speaks against it
function obstacle.of(target, may_wait)
  local recognised, problem = layout.recognise_target(target)
  if recognised then return unfinished(target, may_wait) end
  return { exit_code = 3, status = "refused", message = problem,
    next = "name the installation with --target" }
end

return obstacle
