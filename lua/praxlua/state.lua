--- The session of one upgrade run on disk: <target>/.cache/state/<session_id>.json, written
--- atomically, read with suspicion.
--
-- The file is for people and tools; what a rollback needs is in the journal of the transaction. A
-- state file that cannot be read is therefore never "no session": it is an error with a code, and
-- list_active_sessions reports it.
local lfs = require("lfs")
local clock = require("praxlua.clock")
local json = require("praxlua.json")
local schema = require("praxlua.schema")

local state = {}

--- The newest form of the file this module reads and the one it writes.
state.FORMAT_VERSION = 1
state.WORKFLOW_TYPE = "praxis_os_upgrade_v1"
state.TARGET_FILE = "mcp_server"

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

--- Whether a text is a session id: a UUID in its usual form. Nothing else may become part of a
--- path.
---@param id any
---@return boolean
function state.is_session_id(id)
  return type(id) == "string"
    and id:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$")
      ~= nil
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
    session_id = fields.session_id or require("praxlua.core").system.uuid(),
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

--- The inverse: a session from a decoded JSON table, checked.
---@param dict any
---@return table|nil session
---@return string? message
---@return string? code "ESTATECORRUPTED" | "EFORMAT"
function state.session.from_dict(dict)
  return state.session.to_dict(dict)
end

-- ---------------------------------------------------------------------------------------------
-- Files

local function directory_of(target) return target .. "/.cache/state" end

--- Where a session's state is kept. The id is refused before it becomes a path.
---@param target string
---@param session_id string
---@return string|nil path
---@return string? message
---@return string? code "EINVAL"
function state.path(target, session_id)
  if not state.is_session_id(session_id) then
    return nil, "not a session id (a UUID): " .. require("praxlua.text").visible(session_id),
      "EINVAL"
  end
  return directory_of(target) .. "/" .. session_id:lower() .. ".json"
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

--- Writes a session, atomically and durably; updated_at becomes now.
---@param target string
---@param session table
---@return true|nil
---@return string? message
---@return string? code
function state.save_state(target, session)
  local file = require("praxlua.core").file
  local path, message, code = state.path(target, session.session_id)
  if not path then return nil, message, code end
  session.updated_at = clock.iso()
  local dict
  dict, message, code = state.session.to_dict(session)
  if not dict then return nil, "saving the session " .. path .. ": " .. message, code end
  local encodes, text = pcall(json.encode, dict, { pretty = true })
  if not encodes then return nil, "saving the session " .. path .. ": " .. text, "EINVAL" end
  local ok
  ok, message, code = file.mkdir(directory_of(target))
  if ok then ok, message, code = file.write_atomic(path, text .. "\n") end
  if not ok then return nil, "saving the session: " .. message, code end
  return true
end

local function read_file(path)
  local file = require("praxlua.core").file
  local data, message, code = file.read(path, json.MAX_BYTES)
  if data then return data end
  if code == "ENOENT" then
    return nil, "there is no session at " .. path, "ESTATENOTFOUND"
  end
  return nil, "reading the session: " .. message, code
end

-- The decoded file; corrupt JSON is one kind of damage among others.
local function read_dict(path)
  local data, message, code = read_file(path)
  if not data then return nil, message, code end
  local dict
  dict, message = json.decode(data)
  if type(dict) ~= "table" then
    return nil, path .. " cannot be read: " .. (message or "not an object"), "ESTATECORRUPTED"
  end
  return dict
end

-- The server we upgrade keeps the sessions of its own workflows in the same directory.
local function is_foreign(dict)
  return type(dict.workflow_type) == "string" and dict.workflow_type ~= state.WORKFLOW_TYPE
end

local function load_path(path, dict)
  local session, message, code = state.session.from_dict(dict)
  if not session then return nil, path .. " cannot be read: " .. message, code end
  if path:match("([^/]*)%.json$") ~= session.session_id:lower() then
    return nil, path .. " holds another session: " .. session.session_id, "ESTATECORRUPTED"
  end
  return session
end

--- Reads a session.
---@param target string
---@param session_id string
---@return table|nil session
---@return string? message
---@return string? code "ESTATENOTFOUND" | "ESTATECORRUPTED" | "EFORMAT" | "EINVAL" | errno
function state.load_state(target, session_id)
  local path, message, code = state.path(target, session_id)
  if not path then return nil, message, code end
  local dict
  dict, message, code = read_dict(path)
  if not dict then return nil, message, code end
  if is_foreign(dict) then
    return nil, path .. " is a session of another workflow", "ESTATENOTFOUND"
  end
  return load_path(path, dict)
end

local function contains(list, wanted)
  for _, value in ipairs(list) do
    if value == wanted then return true end
  end
  return false
end

--- Records that a phase is complete, with what it left, and writes the session. Nothing is
--- recorded in the session when it cannot be written.
---@param target string
---@param session table changed in place
---@param phase integer|string a built-in phase's number, or a custom phase's id
---@param artifacts table the phase's evidence
---@param id string? what a built-in phase is called in `completed` when it was replaced
---@return table|nil session
---@return string? message
---@return string? code "EORDER" when an earlier built-in phase is not complete
function state.update_phase(target, session, phase, artifacts, id)
  local updated = copied(session)
  if type(phase) == "number" then
    id = id or assert(state.PHASES[phase], "update_phase: no built-in phase " .. phase)
    if not contains(updated.completed_phases, phase) then
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
  if not contains(updated.completed, id) then table.insert(updated.completed, id) end
  updated.phase_artifacts[tostring(phase)] = copied(artifacts or {})
  local ok, message, code = state.save_state(target, updated)
  if not ok then return nil, message, code end
  for key, value in pairs(updated) do session[key] = value end
  return session
end

local function state_files(directory)
  local names = {}
  if not require("praxlua.core").file.exists(directory) then return names end
  local ok, iterate, handle = pcall(lfs.dir, directory)
  if not ok then return nil, "listing the sessions: " .. tostring(iterate), "EIO" end
  for name in iterate, handle do
    if name:find("%.json$") and name:sub(1, 1) ~= "." then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- One file of the directory: a session, or the account of why it cannot be read, or nothing when
-- it is over or not ours.
local function examine(path, name)
  local dict, message, code = read_dict(path)
  local session
  if dict and not is_foreign(dict) then session, message, code = load_path(path, dict) end
  if session then return state.is_active(session) and session or nil end
  if not message or code == "ESTATENOTFOUND" then return nil end
  local id = name:gsub("%.json$", "")
  return nil, {
    path = path, problem = message, code = code, session_id = state.is_session_id(id) and id or nil,
  }
end

--- The sessions of a target that are not over, the oldest first; after them, as { path, problem,
--- code, session_id? }, the files that cannot be read: whether those are over nobody knows. The
--- server's own workflows, which keep their state in the same directory, are left out.
---@param target string
---@return table[] sessions
function state.list_active_sessions(target)
  local directory, active, problems = directory_of(target), {}, {}
  local names, message, code = state_files(directory)
  if not names then return { { path = directory, problem = message, code = code } } end
  for _, name in ipairs(names) do
    local session, problem = examine(directory .. "/" .. name, name)
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
