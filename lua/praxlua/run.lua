--- One run on one target: its paths, its lock, its session, its transaction, and the context that
-- the services see.
local core = require("praxlua.core")
local backup = require("praxlua.backup")
local change = require("praxlua.change")
local children = require("praxlua.children")
local conflicts = require("praxlua.conflicts")
local folders = require("praxlua.folder")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lock_text = require("praxlua.lock_text")
local migration = require("praxlua.migration")
local process = require("praxlua.process")
local state = require("praxlua.state")
local temporary = require("praxlua.temporary")
local text = require("praxlua.text")
local trace = require("praxlua.trace")

local run = {}

local file = core.file

--- The folder name of an installation, when none is named; and what it was called in older
--- releases. Other products use that name, too.
run.TARGET_NAME, run.OLDER_NAME = table.unpack(layout.FOLDERS)

--- The exit code of an interrupted run tells the signal.
run.SIGNAL_EXITS = { SIGHUP = 129, SIGINT = 130, SIGTERM = 143 }

local function refused(message, next_step, exit_code)
  return nil, {
    exit_code = exit_code or 3, status = exit_code == 6 and "busy" or "refused",
    message = message, next = next_step,
  }
end

local CHOOSE = "name the installation's own folder with --target"

local function not_a_folder(path, stat)
  return refused(string.format("%s is a %s, not a folder", text.visible(path), stat.type), CHOOSE)
end

local function named_target(given)
  local path = given:gsub("(.)/+$", "%1")
  local stat = path ~= "" and file.stat(path)
  if not stat then
    return refused("there is no installation at '" .. text.visible(given) .. "'",
      "name its folder: praxlua … --target PROJECT/" .. run.TARGET_NAME)
  end
  if stat.type ~= "directory" then return not_a_folder(path, stat) end
  local real, message = file.realpath(path)
  if not real or real == "/" then
    return refused(message or "the root of the file system is no installation", CHOOSE)
  end
  return real
end

-- The installation in a folder, by either name; or nil and, where something else of the present
-- name is there, the refusal.
local function target_in(folder, passed)
  local candidate = folder .. "/" .. run.TARGET_NAME
  local stat = file.stat(candidate)
  if stat and stat.type == "directory" then return candidate end
  if stat then return not_a_folder(candidate, stat) end
  candidate = folder .. "/" .. run.OLDER_NAME
  stat = file.stat(candidate)
  if not stat then return nil end
  if stat.type == "directory" and layout.recognise_target(candidate) then return candidate end
  passed[#passed + 1] = text.visible(candidate)
end

--- The installation a command is about: the one given, or the nearest .praxis-os at or above the
--- working directory, or .agent-os where that is an installation. Something else called .praxis-os
--- ends the search: what lies further up is another project's.
---@param given string|nil
---@return string|nil path absolute
---@return table? result of the refusal
function run.find_target(given)
  if given then return named_target(given) end
  local at, message = file.realpath(".")
  if not at then
    return refused("the working directory cannot be told: " .. message,
      "go into the project, or name its installation with --target")
  end
  local passed = {}
  while true do
    local target, result = target_in(at == "/" and "" or at, passed)
    if target or result then return target, result end
    if at == "/" then break end
    at = at:match("^(.*)/[^/]*$")
    if at == "" then at = "/" end
  end
  local other = #passed > 0 and ("; %s is no installation of it"):format(table.concat(passed, ", "))
  return refused("there is no " .. run.TARGET_NAME .. " here or above" .. (other or ""),
    "go into the project, or name its installation with --target")
end

--- The project of an installation, and the installation's name in it.
---@param target string absolute
---@return string project absolute
---@return string name
function run.split(target)
  local project, name = target:match("^(.*)/([^/]+)$")
  return project == "" and "/" or project, name
end

--- Whether the process that a session belongs to still runs.
---@param session table
---@return boolean
function run.is_alive(session)
  local owner = session.metadata and session.metadata.owner
  return type(owner) == "table" and math.type(owner.pid) == "integer" and process.same(owner)
end

-- That somebody holds the lock, and who, as well as can be told. A killed run leaves its text
-- behind, so the text counts only while its process lives.
local function busy(target)
  local upgrade = "another upgrade of this installation is running: "
  for _, session in ipairs(state.list_active_sessions(target)) do
    if run.is_alive(session) then
      return upgrade .. string.format("session %s, process %d, since %s", session.session_id,
        session.metadata.owner.pid, session.started_at)
    end
  end
  local found = lock_text.read(target)
  local pid = found and math.type(found.pid) == "integer" and found.pid
  if pid and (found.host ~= core.system.hostname() or core.system.process(pid)) then
    return upgrade .. string.format("session %s, process %d on %s, since %s",
      tostring(found.session_id), pid, tostring(found.host), tostring(found.started_at))
  end
  pid = core.lock.holder(target)
  return "another command works on this installation: "
    .. (pid and "process " .. pid or "it cannot be told which")
end

-- Where we write by ourselves, beside the transaction: a link there would lead us elsewhere, and a
-- file is somebody's.
local FOLDERS = { "/.cache", "/.cache/state", "/.backups", "/.upgrade" }

local SERVER_LOG = "/.cache/mcp_server.log"

local function strange_folder(target)
  for _, name in ipairs(FOLDERS) do
    local stat = file.stat(target .. name)
    if stat and stat.type ~= "directory" then return text.visible(target .. name) end
  end
  local log = file.stat(target .. SERVER_LOG)
  if log and log.type ~= "file" then return text.visible(target .. SERVER_LOG) end
end

-- The names in a folder; none where there is none.
local function names_in(path) return folders.names(path) or {} end

-- One of them that we may not look into: what it holds, an open session maybe, must not be taken
-- for nothing. Those of a run by root are root's.
local function closed_folder(target)
  local places = table.move(FOLDERS, 1, #FOLDERS, 1, {})
  for _, name in ipairs(names_in(target .. "/.upgrade")) do
    places[#places + 1] = "/.upgrade/" .. name
  end
  for _, name in ipairs(places) do
    local stat = file.stat(target .. name)
    if stat and stat.type == "directory" and not (core.system.access(target .. name, "r")
      and core.system.access(target .. name, "x")) then
      return text.visible(target .. name)
    end
  end
end

-- Makes what follows the installation's name agree with it, where a move was cut short. A dry run
-- tells of it.
local function settle(target, ui, dry_run)
  if dry_run then
    if migration.is_open(target) then
      ui.emit({ event = "warning", message = "a move of this installation to another name was cut "
        .. "short; the next command that changes the installation settles it" })
    end
    return true
  end
  local name, message = migration.settle(target)
  if name then
    ui.emit({ event = "warning", message = "a move of this installation to another name was cut "
      .. "short; it is settled now, and the name is " .. text.visible(name) })
  end
  if name ~= nil then return true end
  return refused("a move of this installation to another name was cut short, and cannot be "
    .. "settled: " .. message, "mend the cause and run this again")
end

-- The refusal where a target's lock was not to be had.
local function no_lock(target, message, code)
  if code == "EBUSY" then
    return refused(busy(target), "wait for it, or look at it with: praxlua status", 6)
  end
  return refused("locking " .. text.visible(target) .. ": " .. message,
    code == "ENOENT" and "it was there a moment ago; look what moved it, and run this again"
      or "check the permissions of the folder")
end

--- Calls use() while nobody else changes the installation.
---@param target string
---@param use fun(): any
---@return any what use returned; or nil and the result of a refusal: exit_code 3, or 6 when
---  somebody holds the target
function run.while_locked(target, use)
  local lock, message, code = core.lock.acquire(target)
  if not lock then return no_lock(target, message, code) end
  local results = table.pack(pcall(use))
  lock:release()
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- Opens a run: finds the target and takes its lock. Close it with run.close.
---@param options { target: string?, source: string? } and the user's options
---@param ui { emit: fun(event: table), ask: function?, prompt: function?, decide: function? }
---@return table|nil r
---@return table? result of a refusal: exit_code 3, or 6 when another run holds the target
function run.open(options, ui)
  local target, result = run.find_target(options.target)
  if not target then return nil, result end
  if not options.dry_run and not core.system.access(target, "w") then
    return refused("the installation at " .. text.visible(target) .. " cannot be written",
      "check its permissions, and whether its file system is mounted read-only")
  end
  local lock, message, code = core.lock.acquire(target)
  if not lock then return no_lock(target, message, code) end
  local strange = strange_folder(target)
  if strange then
    lock:release()
    return refused(string.format("%s is not a folder or file of the installation itself", strange),
      "move it away; praxlua keeps its own files there")
  end
  local closed = closed_folder(target)
  if closed then
    lock:release()
    return refused(closed .. " cannot be read: it is another user's",
      "run this command as that user, or make the folder yours with chown")
  end
  local left = children.left(target)
  if #left > 0 then
    lock:release()
    return refused(children.explain(left))
  end
  if not options.dry_run then children.sweep(target) end
  local settled, problem = settle(target, ui, options.dry_run)
  if not settled then
    lock:release()
    return nil, problem
  end
  local project, name = run.split(target)
  local r = {
    target = target, project = project, target_name = name, lock = lock, options = options,
    emit = ui.emit, ask = ui.ask, prompt = ui.prompt, decide = ui.decide,
  }
  if not options.dry_run then run.sweep(r) end
  r.noted = trace.note(target)
  return r
end

--- Deletes what is left of runs that were killed, or could not clear up: folders of transactions
--- that were over already, the lock's text, files that were not written to their end, backups that
--- nobody goes on with, temporary folders elsewhere.
---@param r table
function run.sweep(r)
  local sessions = r.target .. "/.upgrade"
  for _, name in ipairs(names_in(sessions)) do
    if name:find("^%.done%-") then core.tree.remove(sessions .. "/" .. name) end
  end
  conflicts.sweep(r.target, function(kept)
    r.emit({ event = "warning", message = conflicts.kept_words(kept) })
  end)
  file.rmdir(sessions) -- only when it is empty
  -- The lock's text is written when the session has its folder, and goes before that.
  if not file.exists(sessions) then lock_text.remove(r) end
  folders.sweep(r.target, ".upgrade-lock") -- other names in it are not ours
  folders.sweep(r.target .. "/.cache")
  folders.sweep(r.target .. "/.cache/state")
  backup.sweep({ target = r.target })
  temporary.sweep()
end

-- The kinds of change that are about one file.
local FILES = { put = true, symlink = true, remove = true }

-- The tools of a session are recorded where its changes are; in a dry run, which writes nothing,
-- nowhere.
local function record_tools(r)
  local folder = r.transaction and r.folder or r.target .. "/.cache"
  process.record_in(not r.dry_run and folder or nil, r.target)
end

--- The context of a session for phases and services (see the table in docs/architecture.md).
---@param r table
---@param session table
function run.attach(r, session)
  r.session = session
  r.folder = r.target .. "/.upgrade/" .. session.session_id
  local metadata = session.metadata
  local emit = function(event)
    event.session_id = session.session_id
    r.emit(event)
  end
  r.ctx = {
    source = metadata.source_path, target = r.target, project = r.project,
    target_name = r.target_name, options = r.options, session = session, memory = {},
    artifacts = session.phase_artifacts, folder = r.folder, scratch = r.folder .. "/scratch",
    overlay = r.overlay,
    emit = emit, ask = r.ask or function(_, _, default) return default end,
    progress = function(message, fraction)
      fraction = fraction and math.max(0, math.min(1, fraction)) or nil
      emit({ event = "phase_progress", phase = r.phase or "preparation", text = message,
        fraction = fraction })
    end,
    warn = function(message)
      local known = session.metadata -- another table after each checkpoint
      known.warnings = known.warnings or json.array()
      table.insert(known.warnings, message)
      emit({ event = "warning", message = message })
    end,
    lock_held = function() return r.lock:held() end,
    changed_paths = function()
      local paths = {}
      for _, done in ipairs(r.transaction and r.transaction:changes() or {}) do
        if FILES[done.kind] then paths[#paths + 1] = done.path end
      end
      return paths
    end,
    save = function() return r.dry_run or state.save_state(r.target, session) end,
  }
  r.ctx.memory.server_remembered = metadata.server
  record_tools(r)
end

local DISPOSABLE = "__pycache__" -- a cache: it may go where it stands in the way

--- Forgets what run.load attached; the session stays on disk as it is.
---@param r table
function run.detach(r)
  if r.transaction then r.transaction:close() end
  r.session, r.ctx, r.transaction, r.loaded = nil, nil, nil, nil
  process.record_in(nil)
end

--- Opens the session's transaction, making it when it is not there yet.
---@param r table
---@param create boolean
---@return true|nil
---@return string? message
---@return string? code
function run.open_transaction(r, create)
  local path = string.format("%s/.upgrade/%s", r.target_name, r.session.session_id)
  local transaction, message, code = core.transaction.open(r.project, path,
    { create = create, disposable = DISPOSABLE })
  if not transaction then return nil, message, code end
  r.transaction = transaction
  r.ctx.change = change.new(transaction, r.project, r.folder)
  record_tools(r)
  return true
end

--- Notes a session in the journal of its transaction: what a resume begins with.
---@param r table
---@param session table
---@return true|nil
---@return string? message
---@return string? code
function run.checkpoint(r, session)
  local note, message, code = state.session.to_note(session)
  if not note then return nil, message, code end
  return r.transaction:checkpoint(note)
end

--- Tells what the transaction found changed by somebody else, and kept.
---@param r table
---@param kept string[] paths
function run.tell_kept(r, kept)
  for _, path in ipairs(kept) do
    r.ctx.warn(path .. " holds what somebody changed while the upgrade ran; it was kept")
  end
end

-- Before the undo data goes: what somebody wrote into a file that is no longer in place, through a
-- program that still had it open, is kept beside the one that is.
local function rescue(r)
  if not r.transaction or r.rescued == r.transaction then return true end
  local kept, message, code = r.transaction:rescue()
  if not kept then return nil, message, code end
  r.rescued = r.transaction
  run.tell_kept(r, kept)
  return true
end

--- Deletes the transaction's folder. It is renamed first, so that a folder with a session's name is
--- always whole.
---@param r table
---@return true|nil
---@return string? message
---@return string? code
function run.discard(r)
  local rescued, problem, problem_code = rescue(r)
  if not rescued then return nil, problem, problem_code end
  if r.transaction then r.transaction:close() end
  r.transaction, r.ctx.change = nil, nil
  record_tools(r)
  if not file.exists(r.folder) then return true end
  local done = r.target .. "/.upgrade/.done-" .. r.session.session_id
  local ok, message, code = file.rename(r.folder, done)
  if not ok then return nil, message, code end
  ok, message, code = core.tree.remove(done)
  if not ok then return nil, message, code end
  file.rmdir(r.target .. "/.upgrade")
  return true
end

-- On a full disk the data of a transaction that is over makes room for the session's file. The
-- journal stays: until the file is written it alone tells that it is over.
local function make_room(r)
  for _, name in ipairs({ "/stage/", "/undo/" }) do
    for _, inside in ipairs(names_in(r.folder .. name)) do
      core.tree.remove(r.folder .. name .. inside)
    end
  end
  core.tree.remove(r.ctx.scratch)
end

local FULL = { ENOSPC = true, EDQUOT = true }

-- The session does without them now. What stays because of an error is cleared up by the next run.
local function close_conflicts(r)
  local ok, message = conflicts.close(r.target, r.session.session_id)
  if not ok then return r.ctx.warn("the answers to conflicts could not be kept: " .. message) end
  if message then r.ctx.warn(conflicts.kept_words(message)) end
end

--- Ends a session whose changes are final, or all undone: it is saved, and the undo data goes.
---@param r table with the session in its last state
---@return true|nil
---@return string? message
---@return string? code
function run.end_session(r)
  local ok, message, code = rescue(r)
  if not ok then return nil, message, code end
  ok, message, code = state.save_state(r.target, r.session)
  if FULL[code] and r.transaction then
    make_room(r)
    ok, message, code = state.save_state(r.target, r.session)
  end
  if not ok then return nil, message, code end
  close_conflicts(r)
  return run.discard(r)
end

--- Forgets a session that never changed anything: its state file and what was made for it.
---@param r table
function run.forget(r)
  if r.dry_run then return end
  run.discard(r)
  close_conflicts(r)
  core.tree.remove(r.target .. "/.backups/.partial-" .. r.session.session_id)
  lock_text.remove(r.ctx)
  state.remove_state(r.target, r.session.session_id)
  if r.noted then trace.erase(r.noted) end
end

--- Gives up a session whose undo data is lost: it counts as failed, and what is left in its folder
--- is kept under another name.
---@param r table
---@param session_id string
---@return string|nil path of what was kept, nil where there was nothing
function run.abandon(r, session_id)
  local session = state.load_state(r.target, session_id)
  if session then
    session.status = "failed"
    state.save_state(r.target, session)
  end
  lock_text.remove(r)
  local folder = r.target .. "/.upgrade/"
  local kept = folder .. "lost-" .. session_id
  return file.exists(folder .. session_id) and file.rename(folder .. session_id, kept) and kept
    or nil
end

--- Releases everything. The session stays on disk as it is.
---@param r table
function run.close(r)
  process.record_in(nil)
  if r.transaction then r.transaction:close() end
  r.lock:release()
end

--- What identifies this process to a later run.
---@return table owner
function run.owner()
  local owner = process.identity(core.system.pid()) or { pid = core.system.pid() }
  owner.host = core.system.hostname()
  return owner
end

--- Whether a session has a folder: its changes are there, or were not cleared up.
---@param target string
---@param session_id string
---@return boolean
function run.has_folder(target, session_id)
  return file.exists(target .. "/.upgrade/" .. session_id)
end

--- The sessions of a target that did not end. The caller holds the lock, so their owners are gone.
--- A state file that cannot be read counts only where a folder shows that changes are open.
---@param target string
---@return { session_id: string, session: table?, problem: string?, changes: boolean }[]
function run.unfinished(target)
  local found, known = {}, {}
  for _, session in ipairs(state.list_active_sessions(target)) do
    local id = session.session_id
    local changes = id ~= nil and run.has_folder(target, id)
    if id and (changes or not session.problem) then
      known[id] = true
      found[#found + 1] = {
        session_id = id, session = not session.problem and session or nil,
        problem = session.problem, changes = changes,
      }
    end
  end
  local root = core.root.open(target)
  for _, entry in ipairs(root and root:list(".upgrade") or {}) do
    if state.is_session_id(entry.name) and not known[entry.name] then
      found[#found + 1] = { session_id = entry.name, changes = true }
    end
  end
  if root then root:close() end
  return found
end

-- The session as a checkpoint has it; false where there is none.
local function noted_session(note)
  if not note then return false end
  local decoded, message, code = state.session.from_note(note)
  if decoded then return decoded end
  return nil, "its last checkpoint cannot be read: " .. message,
    code == "EFORMAT" and code or "EBADJOURNAL"
end

-- Whether a session has changed the installation: what begins with phase 1 is complete.
local function has_begun(session) return session ~= nil and session.completed_phases[2] ~= nil end

-- Whether a transaction's folder holds what only its journal could bring back.
local function holds_undo(folder)
  for _, name in ipairs({ "undo", "stage" }) do
    if #(core.tree.list(folder .. "/" .. name) or {}) > 0 then return true end
  end
  return false
end

-- Whether an open session changed something that only its journal could bring back.
local function needs_journal(session)
  return session ~= nil and state.is_active(session)
    and (has_begun(session) or session.metadata.journal_records ~= nil)
end

local function load_without_folder(r, session)
  run.attach(r, session)
  if not needs_journal(session) then
    r.loaded = session.session_id
    return true
  end
  return nil, "its folder .upgrade/" .. session.session_id .. ", which could undo it, is gone",
    "ELOST"
end

-- Opens the transaction of an attached session: the session as its last checkpoint has it, or had
-- it before it was undone, if nothing else tells; false where there is none.
local function load_journal(r, session)
  local opened, message, code = run.open_transaction(r, false)
  if not opened then
    if code ~= "ENOENT" then return nil, message, code end
    if needs_journal(session) or holds_undo(r.folder) then return nil, message, "EBADJOURNAL" end
    return false
  end
  local records = session and session.metadata.journal_records
  if records and r.transaction:sequence() < records then
    return nil, string.format("the journal of %s is cut short: %d records of at least %d",
      r.folder, r.transaction:sequence(), records), "EBADJOURNAL"
  end
  local last = r.transaction:last_checkpoint()
  return noted_session(last or not session and r.transaction:last_note())
end

local function warn_of_state(r, session, message, code)
  if not message or code == "ESTATENOTFOUND" then return end
  if not session then message = message .. "; the journal of the session counts instead" end
  r.emit({ event = "warning", message = message })
end

--- Loads a session to go on with it or to undo it: as its transaction's last checkpoint has it,
--- which is the truth, else from its state file. A transaction that was killed before its first
--- checkpoint changed nothing, and is deleted. One without a checkpoint that stays was undone. Then
--- r.loaded is the session's id.
---@param r table
---@param session_id string its letters may be large
---@return true|nil
---@return string? message
---@return string? code "EBADJOURNAL" or "ELOST": only a backup can undo it; "EINVAL", "EFORMAT", or
---  a code of state.load_state
function run.load(r, session_id)
  session_id = state.typed_id(session_id) or session_id
  local session, message, code = state.load_state(r.target, session_id)
  if code == "EINVAL" or code == "EFORMAT" then return nil, message, code end
  if not run.has_folder(r.target, session_id) then
    if not session then return nil, message, code end
    warn_of_state(r, session, message)
    return load_without_folder(r, session)
  end
  warn_of_state(r, session, message, code)
  run.attach(r, session or state.session.new({ session_id = session_id }))
  local noted, problem, problem_code = load_journal(r, session)
  if noted == nil then return nil, problem, problem_code end
  if noted then
    local transaction, changes = r.transaction, r.ctx.change
    run.attach(r, noted)
    r.transaction, r.ctx.change = transaction, changes
  elseif not r.transaction or #r.transaction:changes() == 0 and not has_begun(session) then
    run.discard(r)
  end
  r.loaded = session_id
  return true
end

return run
