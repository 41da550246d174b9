--- The session of one upgrade run on disk: <target>/.cache/state/<session_id>.json and, beside it,
--- the generation before; written atomically, read with suspicion.
--
-- The files are for people and tools; what a rollback needs is in the journal of the transaction. A
-- state that cannot be read is therefore never "no session": it is an error with a code, and
-- list_active_sessions reports it.
--
-- Both generations are sealed documents (seal.lua). The valid one with the higher sequence counts.
-- A session that is over has its last state in both, so that damage to one can never bring back the
-- time before it was over.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local json = require("praxlua.json")
local lists = require("praxlua.lists")
local schema = require("praxlua.schema")
local seal = require("praxlua.seal")
local text = require("praxlua.text")

local state = {}

--- The newest form of the file this module reads and the one it writes. Form 1 had no seal.
state.FORMAT_VERSION = 2
state.WORKFLOW_TYPE = "praxis_os_upgrade_v1"
state.TARGET_FILE = "mcp_server"
--- A session larger than this is neither written nor read, in bytes. A change takes
--- some 150.
state.MAX_BYTES = 64 * 1024 * 1024
--- What the name of the generation before ends with, after that of the newest.
state.PREVIOUS = ".previous"

--- The ids of the built-in phases, by number.
---@type table<integer, string>
state.PHASES = {
  [0] = "pre-flight-checks", "backup-preparation", "content-upgrade", "mcp-server-upgrade",
  "post-upgrade-validation", "cleanup-documentation",
}
local LAST_PHASE = 5

--- A session with one of these is not over: it can be resumed, answered or rolled back.
local ACTIVE = { in_progress = true, waiting = true, rollback_failed = true }

local instant = schema.string({ min_length = 20, max_length = 40 })
local FORM = schema.object({
  format_version = schema.integer({ min = 1 }),
  session_id = schema.string(),
  workflow_type = schema.string({ one_of = { state.WORKFLOW_TYPE } }),
  target_file = schema.string({ min_length = 1 }),
  current_phase = schema.integer({ min = 0, max = LAST_PHASE }),
  completed_phases = schema.array(schema.integer({ min = 0, max = LAST_PHASE })),
  completed = schema.array(schema.string({ min_length = 1 })),
  phase_artifacts = schema.map(schema.map(schema.any())),
  status = schema.string({ one_of = {
    "in_progress", "waiting", "completed", "rolled_back", "failed", "rollback_failed",
  } }),
  metadata = schema.map(schema.any()),
  started_at = instant,
  updated_at = instant,
})

-- ---------------------------------------------------------------------------------------------
-- WorkflowSession

--- The data model of a session (specs.md 3.1): new, to_dict, from_dict.
state.session = {}

--- Whether a session is not over yet.
---@param session table
---@return boolean
function state.is_active(session) return ACTIVE[session.status] or false end

local UUID = ("^x-y-y-y-z$"):gsub("[-xyz]", { ["-"] = "%-", x = ("%x"):rep(8), y = ("%x"):rep(4),
  z = ("%x"):rep(12) })

--- Whether a text is a session id: a UUID in its usual form, in small letters. Nothing else may
--- become part of a path.
---@param id any
---@return boolean
function state.is_session_id(id)
  return type(id) == "string" and id:find(UUID) ~= nil and id == id:lower()
end

--- A session id as somebody typed it: its letters may be large.
---@param typed any
---@return string|nil id nil for what is none
function state.typed_id(typed)
  local id = type(typed) == "string" and typed:lower()
  return state.is_session_id(id) and id or nil
end

--- A session that is about to begin. Not yet on disk.
---@param fields { session_id: string?, workflow_type: string?, target_file: string?,
---  metadata: table?, started_at: string? }? a new UUID and the present time when nil
---@return table session
function state.session.new(fields)
  fields = fields or {}
  local started_at = fields.started_at or clock.iso()
  return {
    format_version = state.FORMAT_VERSION,
    session_id = fields.session_id or core.system.uuid(),
    workflow_type = fields.workflow_type or state.WORKFLOW_TYPE,
    target_file = fields.target_file or state.TARGET_FILE,
    current_phase = 0,
    completed_phases = json.array(),
    completed = json.array(),
    phase_artifacts = {},
    status = "in_progress",
    metadata = fields.metadata or {},
    started_at = started_at,
    updated_at = started_at,
  }
end

local function copied(value)
  if type(value) ~= "table" then return value end
  local copy = json.is_array(value) and json.array() or {}
  for key, of in pairs(value) do copy[key] = copied(of) end
  return copy
end

-- What the types cannot say: the numbers of completed phases are 0, 1, 2, ... without a gap, the
-- current one is the next, and each completed phase left its artifacts.
local function is_consistent(dict)
  for i, phase in ipairs(dict.completed_phases) do
    if phase ~= i - 1 then return nil, "completed_phases: not 0, 1, 2, ... in order" end
    if not dict.phase_artifacts[tostring(phase)] then
      return nil, "phase_artifacts: nothing from completed phase " .. phase
    end
  end
  if dict.current_phase ~= math.min(#dict.completed_phases, LAST_PHASE) then
    return nil, "current_phase: not the one after the completed ones"
  end
  for _, at in ipairs({ "started_at", "updated_at" }) do
    if not clock.parse(dict[at]) then return nil, at .. ": not an ISO 8601 time" end
  end
  return true
end

local function checked(dict)
  if type(dict) ~= "table" then return nil, "not an object", "ESTATECORRUPTED" end
  local version = dict.format_version
  if math.type(version) == "integer" and version > state.FORMAT_VERSION then
    return nil, string.format("format %d; this praxlua reads up to %d", version,
      state.FORMAT_VERSION), "EFORMAT"
  end
  local ok, message = schema.check(FORM, dict)
  if ok and not state.is_session_id(dict.session_id) then
    ok, message = nil, "session_id: not a UUID"
  end
  if ok then ok, message = is_consistent(dict) end
  if not ok then return nil, message, "ESTATECORRUPTED" end
  return true
end

--- The session as a table for json.encode: a deep copy, checked.
---@param session table
---@return table|nil dict
---@return string? message
---@return string? code "ESTATECORRUPTED" | "EFORMAT"
function state.session.to_dict(session)
  local ok, message, code = checked(session)
  if not ok then return nil, message, code end
  local dict = copied(session)
  json.array(dict.completed_phases)
  json.array(dict.completed)
  return dict
end

--- The inverse: a session from a decoded JSON table, checked. What is written next has the present
--- form.
---@param dict any
---@return table|nil session
---@return string? message
---@return string? code "ESTATECORRUPTED" | "EFORMAT"
function state.session.from_dict(dict)
  local session, message, code = state.session.to_dict(dict)
  if session then session.format_version = state.FORMAT_VERSION end
  return session, message, code
end

-- The text that `write` makes of a session, unless it could not be read again.
local function encoded(session, write)
  local dict, message, code = state.session.to_dict(session)
  if not dict then return nil, message, code end
  local encodes, data = pcall(write, dict)
  if not encodes then return nil, data, "EINVAL" end
  if #data <= state.MAX_BYTES then return data end
  return nil, string.format("the session takes %s, more than the %s that can be read again; its "
    .. "phases return too much", text.bytes(#data), text.bytes(state.MAX_BYTES)), "EFBIG"
end

--- The session as a note for the journal of its transaction.
---@param session table
---@return string|nil note
---@return string? message
---@return string? code "ESTATECORRUPTED" | "EFORMAT" | "EINVAL" | "EFBIG"
function state.session.to_note(session) return encoded(session, json.encode) end

--- The inverse.
---@param note string
---@return table|nil session
---@return string? message
---@return string? code "ESTATECORRUPTED" | "EFORMAT" | json.decode's
function state.session.from_note(note)
  local dict, message, code = json.decode(note, { max_bytes = state.MAX_BYTES })
  if dict == nil then return nil, message, code end
  return state.session.from_dict(dict)
end

-- ---------------------------------------------------------------------------------------------
-- Files

local function directory_of(target) return target .. "/.cache/state" end

--- Where a session's state is kept. The id is refused before it becomes a path.
---@param target string
---@param session_id string its letters may be large
---@return string|nil path
---@return string? message
---@return string? code "EINVAL"
function state.path(target, session_id)
  local id = state.typed_id(session_id)
  if id then return directory_of(target) .. "/" .. id .. ".json" end
  return nil, "not a session id (a UUID): " .. text.visible(session_id), "EINVAL"
end

--- Begins a session and writes it.
---@param target string absolute path of the installation
---@param workflow_type string? state.WORKFLOW_TYPE when nil
---@param target_file string? "mcp_server" when nil
---@param metadata table? options, source_path, ...
---@return table|nil session
---@return string? message
---@return string? code
function state.create_session(target, workflow_type, target_file, metadata)
  local session = state.session.new({
    workflow_type = workflow_type, target_file = target_file, metadata = metadata,
  })
  local ok, message, code = state.save_state(target, session)
  if not ok then return nil, message, code end
  return session
end

-- What is in the file now: its sequence, false for one from before there were any; nil for none
-- that is whole.
local function sequence_of(path)
  local data = core.file.read(path, state.MAX_BYTES)
  if not data then return nil end
  local sequence = seal.check(data)
  return sequence or sequence == nil and seal.is_older(json.decode(data)) and 0 or nil
end

-- Writes a generation. A damaged file is not worth keeping as the one before.
local function write_generation(path, session, sequence, keep_old)
  local data, message, code = encoded(session, function(dict)
    return seal.encode(dict, sequence)
  end)
  if not data then return nil, path .. ": " .. message, code end
  return core.file.write_atomic(path, data, nil, keep_old
    and path:match("[^/]+$") .. state.PREVIOUS or nil)
end

--- Writes a session, atomically and durably; updated_at becomes now. What was there before stays as
--- the generation before, unless the session is over: then both become the new one.
---@param target string
---@param session table
---@return true|nil
---@return string? message
---@return string? code
function state.save_state(target, session)
  local path, ok, message, code
  path, message, code = state.path(target, session.session_id)
  if not path then return nil, message, code end
  session.updated_at = clock.iso()
  session.format_version = state.FORMAT_VERSION
  local newest, before = sequence_of(path), sequence_of(path .. state.PREVIOUS)
  local sequence = math.max(newest or 0, before or 0) + 1
  ok, message, code = core.file.mkdir(directory_of(target))
  if ok and state.is_active(session) then
    ok, message, code = write_generation(path, session, sequence, newest ~= nil)
  elseif ok then -- the newest first: what people read says so before what only a fallback reads
    ok, message, code = write_generation(path, session, sequence + 1, false)
    if ok then
      ok, message, code = write_generation(path .. state.PREVIOUS, session, sequence, false)
    end
  end
  if not ok then return nil, "saving the session: " .. message, code end
  return true
end

-- What to do about a file that is there and cannot be read.
local ADVICE = {
  EACCES = "run this as its owner, or make it readable", EPERM = "run this as its owner",
  ENOTREG = "move it away", ELOOP = "move it away", EFBIG = "move it away",
}

local function read_file(path)
  local data, message, code = core.file.read(path, state.MAX_BYTES)
  if data then return data end
  if code == "ENOENT" then
    return nil, "there is no session at " .. path, "ESTATENOTFOUND"
  end
  return nil, "reading the session: " .. message .. "; " .. (ADVICE[code] or "check the disk"), code
end

-- The server we upgrade keeps the sessions of its own workflows in the same directory, in a form of
-- its own. What has any mark of ours is ours.
local function is_foreign(dict)
  return type(dict) == "table" and type(dict.workflow_type) == "string"
    and dict.workflow_type ~= state.WORKFLOW_TYPE
    and dict.format_version == nil and dict.sha256 == nil and dict.length == nil
end

local function corrupted(path, problem)
  return nil, path .. " cannot be read: " .. problem, "ESTATECORRUPTED"
end

-- One generation: the session, and its sequence (0: from before there were any).
local function read_generation(path)
  local data, message, code = read_file(path)
  if not data then return nil, message, code end
  local limits = { max_bytes = state.MAX_BYTES }
  local dict, sequence = seal.open(data, limits)
  if not dict then
    if is_foreign(json.decode(data, limits)) then
      return nil, path .. " is a session of another workflow", "ESTATENOTFOUND"
    end
    return corrupted(path, sequence)
  end
  local session
  session, message, code = state.session.from_dict(dict)
  if not session then return nil, path .. " cannot be read: " .. message, code end
  if session.session_id ~= path:match("([^/]+)%.json") then
    return corrupted(path, "it holds another session, " .. text.visible(session.session_id))
  end
  return session, sequence or 0
end

--- Reads a session: the newest generation that is whole.
---@param target string
---@param session_id string
---@return table|nil session
---@return string? message with a session: that the newest generation is damaged, and what counts
---@return string? code "ESTATENOTFOUND" | "ESTATECORRUPTED" | "EFORMAT" | "EINVAL" | errno
function state.load_state(target, session_id)
  local path, message, code = state.path(target, session_id)
  if not path then return nil, message, code end
  local newest, sequence, newest_code = read_generation(path)
  if newest_code == "EFORMAT" then return nil, sequence, newest_code end
  local before, before_sequence, before_code = read_generation(path .. state.PREVIOUS)
  if newest then
    if before and before_sequence > sequence then return before end
    return newest
  end
  if not before then
    if newest_code == "ESTATENOTFOUND" and before_code ~= "ESTATENOTFOUND" then
      return nil, before_sequence, before_code
    end
    return nil, sequence, newest_code
  end
  -- There is none for a moment on a file system that cannot exchange two names.
  if newest_code == "ESTATENOTFOUND" then return before end
  return before, string.format("%s; the generation before it counts, of %s", sequence,
    before.updated_at)
end

--- Removes a session's files; those that are missing are fine.
---@param target string
---@param session_id string
---@return true|nil
---@return string? message
---@return string? code
function state.remove_state(target, session_id)
  local path, message, code = state.path(target, session_id)
  if not path then return nil, message, code end
  for _, name in ipairs({ path .. state.PREVIOUS, path }) do
    if core.file.exists(name) then
      local ok
      ok, message, code = core.file.remove(name)
      if not ok then return nil, message, code end
    end
  end
  return true
end

--- The session with a phase complete and what it left; the one given stays as it is, and nothing is
--- written.
---@param session table
---@param phase integer|string a built-in phase's number, or a custom phase's id
---@param artifacts table the phase's evidence
---@param id string? what a built-in phase is called in `completed` when it was replaced
---@return table|nil session
---@return string? message
---@return string? code "EORDER" when an earlier built-in phase is not complete
function state.with_phase(session, phase, artifacts, id)
  local updated = copied(session)
  if type(phase) == "number" then
    id = id or assert(state.PHASES[phase], "with_phase: no such built-in phase")
    if not lists.has(updated.completed_phases, phase) then
      if phase ~= #updated.completed_phases then
        return nil, string.format("phase %d cannot be complete before phase %d", phase,
          #updated.completed_phases), "EORDER"
      end
      table.insert(updated.completed_phases, phase)
    end
    updated.current_phase = math.min(#updated.completed_phases, LAST_PHASE)
  else
    id = phase
  end
  if not lists.has(updated.completed, id) then table.insert(updated.completed, id) end
  updated.phase_artifacts[tostring(phase)] = copied(artifacts or {})
  return updated
end

--- Records that a phase is complete, with what it left, and writes the session. Nothing is
--- recorded in the session when it cannot be written.
---@param target string
---@param session table changed in place
---@param phase integer|string see with_phase
---@param artifacts table
---@param id string?
---@return table|nil session
---@return string? message
---@return string? code "EORDER" when an earlier built-in phase is not complete
function state.update_phase(target, session, phase, artifacts, id)
  local updated, message, code = state.with_phase(session, phase, artifacts, id)
  if not updated then return nil, message, code end
  local ok
  ok, message, code = state.save_state(target, updated)
  if not ok then return nil, message, code end
  for key, value in pairs(updated) do session[key] = value end
  return session
end

-- What lies in the directory under the names of states, without ".json" and the like.
local function stems(directory)
  local found, list = {}, {}
  local names, message, code = folder.names(directory)
  if not names and code == "ENOENT" then return list end
  if not names then return nil, "listing the sessions: " .. message, code end
  for _, name in ipairs(names) do
    local stem = name:match("^([^.].*)%.json$") or name:match("^([^.].*)%.json%.previous$")
    if stem and not found[stem] then
      found[stem] = true
      list[#list + 1] = stem
    end
  end
  table.sort(list) -- "a-b.json" comes before "a.json"
  return list
end

--- The ids of the sessions that have files in a target's folder, be they readable or not.
---@param target string
---@return string[]|nil ids sorted
---@return string? message
---@return string? code
function state.list_ids(target)
  local names, message, code = stems(directory_of(target))
  if not names then return nil, message, code end
  local ids = {}
  for _, name in ipairs(names) do
    if state.is_session_id(name) then ids[#ids + 1] = name end
  end
  return ids
end

-- A file whose name is no id of ours: the server's, or something that cannot be judged.
local function examine_stranger(path)
  local data, message, code = read_file(path)
  if data then
    local dict
    dict, message = json.decode(data, { max_bytes = state.MAX_BYTES })
    if is_foreign(dict) then return nil end
    message, code = path .. " cannot be read: " .. (message or "its name is no session's"),
      "ESTATECORRUPTED"
  end
  return { path = path, problem = message, code = code }
end

-- One session that is not over, or the account of why it cannot be read, or nothing.
local function examine(target, name)
  local path = directory_of(target) .. "/" .. name .. ".json"
  if not state.is_session_id(name) then return nil, examine_stranger(path) end
  local session, message, code = state.load_state(target, name)
  if session then return state.is_active(session) and session or nil end
  if code == "ESTATENOTFOUND" then return nil end
  return nil, { path = path, problem = message, code = code, session_id = name }
end

--- The sessions of a target that are not over, the oldest first; after them, as { path, problem,
--- code, session_id? }, those that cannot be read: whether they are over nobody knows. The server's
--- own workflows, which keep their state in the same directory, are left out.
---@param target string
---@return table[] sessions
function state.list_active_sessions(target)
  local active, problems = {}, {}
  local names, message, code = stems(directory_of(target))
  if not names then
    return { { path = directory_of(target), problem = message, code = code } }
  end
  for _, name in ipairs(names) do
    local session, problem = examine(target, name)
    if session then active[#active + 1] = session end
    if problem then problems[#problems + 1] = problem end
  end
  table.sort(active, function(a, b)
    if a.started_at ~= b.started_at then return a.started_at < b.started_at end
    return a.session_id < b.session_id
  end)
  table.move(problems, 1, #problems, #active + 1, active)
  return active
end

return state
