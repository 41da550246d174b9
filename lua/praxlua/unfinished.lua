--- Sessions that did not end: which there are, which of them are over but for clearing up, and what
-- a command that finds one says.
local core = require("praxlua.core")
local execution = require("praxlua.execution")
local manual = require("praxlua.manual")
local restore = require("praxlua.restore")
local rollback = require("praxlua.rollback")
local run = require("praxlua.run")
local script = require("praxlua.script")

local unfinished = {}

--- The ids of sessions, for a message.
---@param found table[]
---@return string
function unfinished.ids(found)
  local ids = {}
  for _, entry in ipairs(found) do ids[#ids + 1] = entry.session_id end
  return table.concat(ids, ", ")
end

--- The refusal of a command because of sessions that did not end.
---@param found table[] not empty
---@return table result
function unfinished.refuse(found)
  local id = found[1].session_id
  return { exit_code = 3, status = "refused",
    message = "an earlier upgrade did not finish: session " .. unfinished.ids(found),
    next = "finish it with: praxlua resume " .. id .. "\nor undo it with: praxlua rollback " .. id }
end

--- The first of them that waits for what a person does.
---@param found table[]
---@return table|nil entry
function unfinished.first_waiting(found)
  for _, entry in ipairs(found) do
    if entry.waits and entry.waits.phase then return entry end
  end
end

--- Those that wait for answers to conflicts, and have changed nothing, apart from the others.
---@param found table[]
---@return table[] waiting
---@return table[] others
function unfinished.split_waiting(found)
  local waiting, others = {}, {}
  for _, entry in ipairs(found) do
    local into = entry.waits and entry.waits.conflicts and not entry.changes and waiting or others
    into[#into + 1] = entry
  end
  return waiting, others
end

--- The refusal of an upgrade because one waits. What it waits for was asked of a person: undoing
--- that on the way would be a surprise.
---@param entry table from unfinished.first_waiting
---@return table result
function unfinished.refuse_waiting(entry)
  local id, awaits = entry.session_id, entry.waits
  return { exit_code = 4, status = "waiting",
    message = string.format("an upgrade waits for what phase %s asks a person to do: session %s",
      awaits.phase, id),
    next = "when it is done: " .. manual.command(id, awaits.fields)
      .. "\nor undo it with: praxlua rollback " .. id }
end

--- Ends a session whose changes are final, each kind in its way.
---@param r table
---@return table result
function unfinished.settle(r)
  local kind = restore.is_restore(r.session) and restore or script.is_script(r.session) and script
    or execution
  return kind.settle(r)
end

-- Ends the loaded session if that only means clearing up: its changes are final, or all undone. A
-- rollback that failed is somebody's to look at.
local function end_over(r)
  local transaction = r.transaction
  if not transaction or r.session.status == "rollback_failed" then return end
  if transaction:status() == "committed" then
    unfinished.settle(r)
    r.done = nil
  elseif transaction:status() == "open" and not transaction:last_checkpoint() then
    rollback.open_session(r, "its rollback was cut short")
  end
  core.system.catch_signals() -- both have ignored them
end

--- The unfinished sessions that have to be decided about, after those that are over were cleared
--- up.
---@param r table
---@return { session_id: string, session: table?, waits: table|false|nil }[] found waits: what is
---  awaited, of one that waits
function unfinished.sessions(r)
  local awaits = {}
  for _, entry in ipairs(r.options.dry_run and {} or run.unfinished(r.target)) do
    if run.load(r, entry.session_id) then
      awaits[entry.session_id] = r.session.status == "waiting" and r.session.metadata.awaits
      end_over(r)
    end
    run.detach(r)
  end
  local found = run.unfinished(r.target)
  for _, entry in ipairs(found) do
    local session = entry.session
    entry.waits = awaits[entry.session_id]
    if entry.waits == nil and session and session.status == "waiting" then
      entry.waits = session.metadata.awaits
    end
  end
  return found
end

return unfinished
