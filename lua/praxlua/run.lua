--- One run on one target: its paths, its lock, its session, its transaction, and the context that
-- the services see.
local core = require("praxlua.core")
local change = require("praxlua.change")
local json = require("praxlua.json")
local lock_text = require("praxlua.lock_text")
local process = require("praxlua.process")
local state = require("praxlua.state")
local text = require("praxlua.text")
local trace = require("praxlua.trace")

local run = {}

local file = core.file

--- The folder name of an installation, when none is named.
run.TARGET_NAME = ".praxis-os"

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

--- The installation a command is about: the one given, or the nearest .praxis-os at or above the
--- working directory. Something else of that name ends the search: what lies further up is
--- another project's.
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
  while true do
    local candidate = (at == "/" and "" or at) .. "/" .. run.TARGET_NAME
    local stat = file.stat(candidate)
    if stat and stat.type == "directory" then return candidate end
    if stat then return not_a_folder(candidate, stat) end
    if at == "/" then break end
    at = at:match("^(.*)/[^/]*$")
    if at == "" then at = "/" end
  end
  return refused("there is no " .. run.TARGET_NAME .. " here or above",
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

-- Who holds the lock, as well as can be told. A killed run leaves its text behind, so the text
-- counts only while its process lives.
local function holder(target)
  for _, session in ipairs(state.list_active_sessions(target)) do
    if run.is_alive(session) then
      return string.format("session %s, process %d, since %s", session.session_id,
        session.metadata.owner.pid, session.started_at)
    end
  end
  local found = lock_text.read(target)
  local pid = found and math.type(found.pid) == "integer" and found.pid
  if pid and (found.host ~= core.system.hostname() or core.system.process(pid)) then
    return string.format("session %s, process %d on %s, since %s", tostring(found.session_id), pid,
      tostring(found.host), tostring(found.started_at))
  end
  return "another process"
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

--- Opens a run: finds the target and takes its lock. Close it with run.close.
---@param options { target: string?, source: string? } and the user's options
---@param ui { emit: fun(event: table), ask: function? }
---@return table|nil r
---@return table? result of a refusal: exit_code 3, or 6 when another run holds the target
function run.open(options, ui)
  local target, result = run.find_target(options.target)
  if not target then return nil, result end
  if not core.system.access(target, "w") then
    return refused("the installation at " .. text.visible(target) .. " cannot be written",
      "check its permissions, and whether its file system is mounted read-only")
  end
  local lock, message, code = core.lock.acquire(target)
  if not lock then
    if code ~= "EBUSY" then
      return refused("locking " .. text.visible(target) .. ": " .. message,
        "check the permissions of the folder")
    end
    return refused("another upgrade of this installation is running: " .. holder(target),
      "wait for it, or look at it with: praxlua status", 6)
  end
  local strange = strange_folder(target)
  if strange then
    lock:release()
    return refused(string.format("%s is not a folder or file of the installation itself", strange),
      "move it away; praxlua keeps its own files there")
  end
  local project, name = run.split(target)
  local r = {
    target = target, project = project, target_name = name, lock = lock, options = options,
    emit = ui.emit, ask = ui.ask,
  }
  run.sweep(r)
  r.noted = trace.note(target)
  return r
end

--- Deletes folders of transactions that were over already when their deletion was cut short.
---@param r table
function run.sweep(r)
  local folder = r.target .. "/.upgrade"
  local entries = core.tree.list(folder, { skip_names = { stage = true, undo = true } }) or {}
  for _, entry in ipairs(entries) do
    if entry.path:find("^%.done%-[^/]+$") then core.tree.remove(folder .. "/" .. entry.path) end
  end
  file.rmdir(folder) -- only when it is empty
end

-- The kinds of change that are about one file.
local FILES = { put = true, symlink = true, remove = true }

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
    artifacts = session.phase_artifacts, scratch = r.folder .. "/scratch",
    emit = emit, ask = r.ask or function(_, _, default) return default end,
    progress = function(message, fraction)
      fraction = fraction and math.max(0, math.min(1, fraction)) or nil
      emit({ event = "phase_progress", phase = r.phase or "preparation", text = message,
        fraction = fraction })
    end,
    warn = function(message)
      metadata.warnings = metadata.warnings or json.array()
      table.insert(metadata.warnings, message)
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
end

local DISPOSABLE = "__pycache__" -- a cache: it may go where it stands in the way

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
  return true
end

--- Before the undo data goes: what somebody wrote into an old file after it was replaced, through a
--- program that still had it open, is kept beside the new one and told.
---@param r table with its committed transaction
function run.rescue(r)
  local kept, message = r.transaction:rescue()
  if not kept then
    r.ctx.warn("the old files could not be looked through: " .. message)
  end
  for _, path in ipairs(kept or {}) do
    r.ctx.warn(path .. " holds what was written into the old file while the upgrade ran")
  end
end

--- Deletes the transaction's folder. It is renamed first, so that a folder with a session's name is
--- always whole.
---@param r table
---@return true|nil
---@return string? message
---@return string? code
function run.discard(r)
  if r.transaction then r.transaction:close() end
  r.transaction, r.ctx.change = nil, nil
  if not file.exists(r.folder) then return true end
  local done = r.target .. "/.upgrade/.done-" .. r.session.session_id
  local ok, message, code = file.rename(r.folder, done)
  if not ok then return nil, message, code end
  ok, message, code = core.tree.remove(done)
  if not ok then return nil, message, code end
  file.rmdir(r.target .. "/.upgrade")
  return true
end

--- Forgets a session that never changed anything: its state file and what was made for it.
---@param r table
function run.forget(r)
  if r.dry_run then return end
  run.discard(r)
  core.tree.remove(r.target .. "/.backups/.partial-" .. r.session.session_id)
  lock_text.remove(r.ctx)
  local path = state.path(r.target, r.session.session_id)
  if path and file.exists(path) then file.remove(path) end
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

--- The sessions of a target that did not end. The caller holds the lock, so their owners are gone.
--- A state file that cannot be read counts only where a folder shows that changes are open.
---@param target string
---@return { session_id: string, session: table?, problem: string?, changes: boolean }[]
function run.unfinished(target)
  local found, known = {}, {}
  for _, session in ipairs(state.list_active_sessions(target)) do
    local id = session.session_id
    local changes = id ~= nil and file.exists(target .. "/.upgrade/" .. id)
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

-- The session as the transaction's last checkpoint has it; false where there is none.
local function noted_session(r)
  local note = r.transaction:last_checkpoint()
  if not note then return false end
  local decoded, message, code = json.decode(note)
  if decoded then decoded, message, code = state.session.from_dict(decoded) end
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

local function load_without_folder(r, session)
  run.attach(r, session)
  if not has_begun(session) or not state.is_active(session) then return true end
  return nil, "its folder .upgrade/" .. session.session_id .. ", which could undo it, is gone",
    "ELOST"
end

--- Loads a session to go on with it or to undo it: as its transaction's last checkpoint has it,
--- which is the truth, else from its state file. A transaction that was killed before its first
--- checkpoint changed nothing, and is deleted. One without a checkpoint that stays was undone.
---@param r table
---@param session_id string
---@return true|nil
---@return string? message
---@return string? code "EBADJOURNAL" or "ELOST": only a backup can undo it; "EINVAL", "EFORMAT", or
---  a code of state.load_state
function run.load(r, session_id)
  local session, message, code = state.load_state(r.target, session_id)
  if code == "EINVAL" or code == "EFORMAT" then return nil, message, code end
  if not file.exists(r.target .. "/.upgrade/" .. session_id) then
    if not session then return nil, message, code end
    return load_without_folder(r, session)
  end
  run.attach(r, session or state.session.new({ session_id = session_id }))
  local opened, problem, opened_code = run.open_transaction(r, false)
  if not opened and opened_code == "ENOENT" and holds_undo(r.folder) then
    opened_code = "EBADJOURNAL"
  end
  if not opened and opened_code ~= "ENOENT" then return nil, problem, opened_code end
  local noted = false
  local records = session and session.metadata.journal_records
  if opened and records and r.transaction:sequence() < records then
    return nil, string.format("the journal of %s is cut short: %d records of at least %d",
      r.folder, r.transaction:sequence(), records), "EBADJOURNAL"
  end
  if opened then
    noted, message, code = noted_session(r)
    if noted == nil then return nil, message, code end
  end
  if noted then
    local transaction, changes = r.transaction, r.ctx.change
    run.attach(r, noted)
    r.transaction, r.ctx.change = transaction, changes
  elseif not opened or #r.transaction:changes() == 0 and not has_begun(session) then
    run.discard(r)
  end
  return true
end

return run
