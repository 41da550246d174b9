--- Deciding about conflicts, before anything is changed: by the answers that were given, by a
-- person at the terminal, or by waiting for either.
local conflicts = require("praxlua.conflicts")
local content = require("praxlua.content")
local core = require("praxlua.core")
local json = require("praxlua.json")
local run = require("praxlua.run")
local state = require("praxlua.state")
local text = require("praxlua.text")

local decisions = {}

--- Whether a session waits until somebody has decided about its conflicts.
---@param session table
---@return boolean
function decisions.is_awaited(session)
  local awaits = session.status == "waiting" and session.metadata.awaits
  return awaits and awaits.conflicts ~= nil or false
end

--- What to do about a session that waits for them.
---@param session_id string
---@return string next
function decisions.advice(session_id)
  return "look at them and decide: praxlua conflicts " .. session_id
    .. "\nthen go on with: praxlua resume " .. session_id
    .. "\nor decide all that are open at once: praxlua resume " .. session_id
    .. " --on-conflict ours (keeps yours), or --on-conflict theirs (yours stay in the backup)"
    .. "\nor forget the upgrade: praxlua rollback " .. session_id
end

local function open_in(planned)
  local found = {}
  for _, entry in ipairs(planned.entries) do
    if entry.action == "conflict" then found[#found + 1] = entry end
  end
  return found
end

--- Whether a plan has conflicts that nobody decided about.
---@param planned table
---@return boolean
function decisions.is_open(planned) return #open_in(planned) > 0 end

-- ---------------------------------------------------------------------------------------------
-- Answers that were given

--- Takes the answers that were written down for this session, for the plan to come.
---@param r table run
---@return table|nil doc nil when none were
---@return table? result that ends the run: they cannot be read
function decisions.take(r)
  if r.dry_run then return nil end
  local doc, message, code = conflicts.read(r.target, r.session.session_id)
  if not doc then
    if code == "ENOENT" then return nil end
    return nil, { exit_code = 3, status = "refused", message = message,
      next = "mend the file and run: praxlua resume " .. r.session.session_id
        .. "\nor forget the upgrade: praxlua rollback " .. r.session.session_id }
  end
  local problems
  r.options.resolutions, problems = conflicts.resolutions(doc)
  for _, problem in ipairs(problems) do r.ctx.warn(problem) end
  local kept
  kept, message = conflicts.remember(doc)
  if not kept then r.ctx.warn("the answers could not be remembered: " .. message) end
  return doc
end

-- Tells which answers the plan could not take: what they were given for is not there any more, or
-- they cannot be carried out. Those have to be given anew, unless the policy decided instead.
local function tell_refused(r, planned, doc)
  local by_path, is_open_again = {}, false
  for _, entry in ipairs(planned.entries) do by_path[entry.path] = entry end
  for _, conflict in ipairs(doc and doc.dict.conflicts or {}) do
    local entry = by_path[conflict.path]
    local is_open = entry and entry.action == "conflict"
    if conflict.answer and entry and (is_open or entry.resolved) then
      local name = text.visible(conflict.path)
      if entry.id ~= conflict.id then
        r.ctx.warn(("%s changed since '%s' was answered (%s); %s"):format(name, conflict.answer,
          conflict.id, is_open and "the conflict is open again"
            or ("'%s' counts instead, by the policy"):format(entry.resolved)))
      elseif is_open and r.options.resolutions[conflict.path] then
        r.ctx.warn(("'%s' cannot be carried out for %s: %s"):format(conflict.answer, name,
          entry.reason))
        conflict.answer, is_open_again = nil, true
      end
    end
  end
  if is_open_again then conflicts.save(doc) end
end

-- ---------------------------------------------------------------------------------------------
-- Asking

-- The session stays until somebody has decided, a kill may come meanwhile. Nothing was changed, so
-- nothing has to be undone.
local function begin_waiting(r, planned)
  local doc, message = conflicts.write(r.ctx, planned)
  local ok = doc ~= nil
  if ok then
    r.session.status = "waiting"
    r.session.metadata.awaits = { conflicts = #open_in(planned) }
    ok, message = state.save_state(r.target, r.session)
  end
  if ok then return doc end
  return nil, { exit_code = 3, status = "refused",
    message = "the conflicts cannot be written down: " .. tostring(message),
    next = "make room or mend what the message names, and run the upgrade again" }
end

-- Who goes on with a session that waits is asked, unless this very command says otherwise.
local function may_ask(r)
  local is_policy = r.options.on_conflict == "ask"
    or decisions.is_awaited(r.session) and r.told_on_conflict ~= "stop"
  return r.decide and is_policy and not r.dry_run
end

-- A person ended it. A session that waited before goes on waiting, with what was answered so far.
local function abort(r, was_awaited)
  if was_awaited then
    return { exit_code = 4, status = "waiting",
      message = "the upgrade goes on waiting for answers to its conflicts; nothing was applied",
      next = decisions.advice(r.session.session_id) }
  end
  r.session.status = "in_progress"
  run.forget(r)
  return { exit_code = 3, status = "refused",
    message = "the upgrade was ended at a conflict; nothing was changed",
    next = "run it again when you like: what you answered is offered again" }
end

-- One after the other; false when the person ended it.
local function ask_all(r, doc)
  local open = conflicts.open(doc)
  r.prompts = #open
  for i, conflict in ipairs(open) do
    local answer = r.decide({ doc = doc, conflict = conflict, index = i, total = #open })
    if answer == "abort" or core.system.interrupted() then return false end
    if answer ~= "later" then
      local ok, message = conflicts.answer(doc, conflict, answer)
      if ok then ok, message = conflicts.save(doc) end
      if not ok then r.ctx.warn(message .. "; the conflict stays open") end
    end
  end
  return true
end

--- Lets a person at the terminal decide about what is open.
---@param r table run
---@param planned table
---@param doc table|nil from decisions.take
---@return table|nil planned with what was decided
---@return table? result that ends the run
---@return table? doc
function decisions.ask(r, planned, doc)
  tell_refused(r, planned, doc)
  if #open_in(planned) == 0 then return planned, nil, doc end
  if not may_ask(r) then return planned, nil, doc end
  local was_awaited = decisions.is_awaited(r.session)
  local message, result
  doc, result = begin_waiting(r, planned)
  if not doc then
    if not was_awaited then run.forget(r) end
    return nil, result
  end
  if not ask_all(r, doc) then return nil, abort(r, was_awaited) end
  r.options.resolutions = conflicts.resolutions(doc)
  r.ctx.memory.plan = nil
  planned, message = content.plan(r.ctx)
  if not planned then
    return nil, { exit_code = 3, status = "refused", message = message,
      next = "mend what the message names, then go on with: praxlua resume "
        .. r.session.session_id }
  end
  tell_refused(r, planned, doc)
  return planned, nil, doc
end

-- ---------------------------------------------------------------------------------------------
-- Telling and waiting

--- Notes in a plan how each conflict was decided, and how many questions that took, for the report.
---@param r table run
---@param planned table
function decisions.note(r, planned)
  planned.user_prompts = r.prompts
  for _, entry in ipairs(planned.entries) do
    local given = entry.resolved and (r.options.resolutions or {})[entry.path]
    if given and given.id == entry.id then
      entry.decided_by = given.remembered and "remembered" or "answer"
    elseif entry.resolved then
      entry.decided_by = "policy"
    end
  end
end

local function files_of(doc, id)
  for _, conflict in ipairs(doc and doc.dict.conflicts or {}) do
    if conflict.id == id then
      local files, at = {}, conflicts.folder(doc.session_id) .. "/"
      for _, which in ipairs({ "base", "ours", "theirs", "merged" }) do
        files[which] = conflict[which] and conflict[which].file and at .. conflict[which].file
      end
      return files
    end
  end
end

local function tell(r, planned, doc)
  for _, entry in ipairs(planned.entries) do
    if entry.id and (entry.action == "conflict" or entry.resolved) then
      r.ctx.emit({ event = "conflict", id = entry.id, path = entry.path, reason = entry.reason,
        base_from = entry.base_from, resolution = entry.resolved, decided_by = entry.decided_by,
        files = entry.action == "conflict" and files_of(doc, entry.id) or nil })
    end
  end
end

--- Ends the run where conflicts are open; tells what was decided where none is.
---@param r table run
---@param planned table
---@return table|nil result
function decisions.settle(r, planned)
  local open, was_awaited = open_in(planned), decisions.is_awaited(r.session)
  if #open == 0 then
    tell(r, planned)
    if was_awaited then r.session.status, r.session.metadata.awaits = "in_progress", nil end
    r.options.resolutions = nil -- the plan has them; what somebody merged is no phase's business
    return nil
  end
  local many = text.plural(#open, "file")
  if r.dry_run then
    tell(r, planned)
    return { exit_code = 4, status = "waiting",
      message = many .. " changed on both sides; nothing was applied",
      next = "the upgrade waits until each is decided; or decide all of them beforehand: keep "
        .. "yours with --on-conflict ours, or take the new ones with --on-conflict theirs (yours "
        .. "stay in the backup)" }
  end
  local doc, result = begin_waiting(r, planned)
  if not doc then
    if not was_awaited then run.forget(r) end
    return result
  end
  tell(r, planned, doc)
  return { exit_code = 4, status = "waiting",
    message = many .. " changed on both sides; nothing was applied, and the upgrade waits for "
      .. "answers",
    next = decisions.advice(r.session.session_id) }
end

-- ---------------------------------------------------------------------------------------------
-- The end of one that waits

--- Forgets a session that waits for answers: it has changed nothing. The answers stay remembered.
---@param r table with the session loaded
---@return table result
function decisions.forget(r)
  local id = r.session.session_id
  run.forget(r)
  return { exit_code = 0, status = "rolled_back", success = true, session_id = id,
    message = "The upgrade is forgotten; it had changed nothing. What was answered is offered "
      .. "again." }
end

--- Gives up sessions that wait for answers in favour of a new upgrade.
---@param r table run without a session
---@param found { session_id: string }[]
function decisions.supersede(r, found)
  for _, entry in ipairs(found) do
    if run.load(r, entry.session_id) and decisions.is_awaited(r.session) then
      r.emit({ event = "warning", message = ("the upgrade %s waited for answers to conflicts and "
        .. "had changed nothing; this one takes its place, and its answers are offered again")
        :format(entry.session_id) })
      run.forget(r)
    end
    run.detach(r)
  end
end

--- The conflicts of a plan as data, for `--json` and `status`.
---@param doc table
---@return table[] list { id, path, reason, base_from, answer?, remembered?, files }
function decisions.listed(doc)
  local list = json.array()
  for i, conflict in ipairs(doc.dict.conflicts) do
    list[i] = { id = conflict.id, path = conflict.path, reason = conflict.reason,
      base_from = conflict.base_from, answer = conflict.answer, remembered = conflict.remembered,
      files = files_of(doc, conflict.id) }
  end
  return list
end

return decisions
