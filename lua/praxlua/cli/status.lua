--- `praxlua status`: the installation, its server, its sessions. Reads only, and takes no lock.
local base = require("praxlua.base")
local core = require("praxlua.core")
local decisions = require("praxlua.decisions")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local manual = require("praxlua.manual")
local migration = require("praxlua.migration")
local project_file = require("praxlua.project_file")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

local SHOWN = 5

-- The phase that a session which is not over comes to next: its number, or the id of a custom one.
local function standing_at(session)
  if not state.is_active(session) then return nil end
  local done = {}
  for _, id in ipairs(session.completed) do done[id] = true end
  for _, phase in ipairs(session.metadata.order or {}) do
    if not done[phase.id] then return phase.number or phase.id end
  end
  return session.current_phase
end

local function sessions_of(target)
  local list = json.array()
  local ids, unreadable = state.list_ids(target)
  if not ids then return list, unreadable end
  for _, id in ipairs(ids) do
    local session, problem, code = state.load_state(target, id)
    if session then
      list[#list + 1] = {
        session_id = id, status = session.status, kind = session.metadata.kind,
        started_at = session.started_at,
        updated_at = session.updated_at, current_phase = session.current_phase,
        completed = session.completed, phases = session.metadata.phases,
        at = standing_at(session),
        awaits = session.status == "waiting" and session.metadata.awaits or nil,
        running = session.status == "in_progress" and run.is_alive(session), problem = problem,
      }
    elseif code ~= "ESTATENOTFOUND" then -- the server keeps sessions of its own there
      list[#list + 1] = { session_id = id, status = "unreadable", problem = problem }
    end
  end
  table.sort(list, function(a, b) return (a.started_at or "") > (b.started_at or "") end)
  return list
end

-- The project's own settings: which are made, or what is wrong with them; nil where there are none.
local function settings_of(target)
  local settings, problem = project_file.read(target, layout.recognise_target(target) or nil)
  if settings == false then return nil end
  return settings or nil, { path = target .. "/" .. project_file.NAME, problem = problem,
    settings = json.array(settings and lists.sorted_keys(settings) or {}) }
end

local function collect(target)
  local project, name = run.split(target)
  local settings, told = settings_of(target)
  local ctx = { target = target, project = project, target_name = name, memory = {},
    options = { project = settings } }
  local installed = base.read_version(target)
  local found, reason = server.find(ctx)
  local locked = core.lock.test(target)
  local sessions, unreadable = sessions_of(target)
  return {
    target = target, version = installed.version, commit = installed.commit, locked = locked,
    server = found and { running = true, pid = found.pid, transport = found.transport,
      url = found.url } or { running = false, reason = reason },
    sessions = sessions, problem = unreadable, project_file = told,
    moving = not locked and migration.is_open(target),
    unfinished = json.array(locked and {} or run.unfinished(target)), -- locked: it is running
  }
end

local function server_line(found)
  if not found.running then return found.reason or "not running" end
  return string.format("running, process %d, %s%s", found.pid, found.transport,
    found.url and " at " .. found.url or "")
end

local function first_waiting(data)
  for _, session in ipairs(data.sessions) do
    if session.awaits then return session end
  end
end

local function show_conflicts(session, t)
  local id, count = session.session_id, session.awaits.conflicts
  t.line({ "bold", ("The upgrade %s waits for answers to %s; it has changed nothing"):format(id,
    text.plural(count, "conflict")) })
  t.error({ next = decisions.advice(id) })
end

local function show_waiting(session, t)
  local awaits, id = session.awaits, session.session_id
  if awaits.conflicts then return show_conflicts(session, t) end
  t.line({ "bold", "The upgrade " .. id .. " waits for a person: " .. awaits.title })
  t.paragraph(awaits.text, nil, "  ")
  local rows = {}
  for i, field in ipairs(awaits.fields) do
    rows[i] = { field.name, field.type, field.optional and "(may be left out)" or "" }
  end
  t.table(rows, { indent = 2 })
  t.error({ next = "when it is done: " .. manual.command(id, awaits.fields)
    .. "\nor undo the upgrade with: praxlua rollback " .. id })
end

local function show(data, t)
  local rows = {
    { { "dim", "installation" }, data.target },
    { { "dim", "version" }, tostring(data.version or "unknown")
      .. (data.commit and " (" .. data.commit:sub(1, 12) .. ")" or "") },
    { { "dim", "server" }, server_line(data.server) },
    { { "dim", "upgrade" }, data.locked and "one is running now" or "none is running" },
  }
  local own = data.project_file
  if own then
    rows[#rows + 1] = { { "dim", "settings" }, own.problem or project_file.NAME .. ": "
      .. (#own.settings > 0 and table.concat(own.settings, ", ") or "none") }
  end
  t.table(rows)
  if #data.sessions > 0 then
    t.line("")
    rows = {}
    for i = 1, math.min(SHOWN, #data.sessions) do
      local s = data.sessions[i]
      local at = s.at and "phase " .. s.at or ""
      rows[i] = { s.session_id, s.status, s.kind or at, s.started_at or "", s.problem or "" }
    end
    t.table(rows, { header = { "session", "status", "at", "started", "" } })
  end
  if data.problem then
    t.line("")
    t.error({ what = data.problem, next = "run this as the user whom the folder belongs to" })
  end
  if data.moving then
    t.line("")
    t.error({ what = "a move of this installation to another name was cut short",
      next = "any command that changes the installation settles it, such as: praxlua migrate" })
  end
  local waiting = first_waiting(data)
  if waiting then
    t.line("")
    show_waiting(waiting, t)
  elseif #data.unfinished > 0 then
    local id = data.unfinished[1].session_id
    t.line("")
    t.error({ what = "an earlier upgrade did not finish: " .. id,
      next = "praxlua resume " .. id .. "\nor: praxlua rollback " .. id })
  end
end

--- `praxlua status`
---@param args table
---@return integer exit code
function commands.status(args)
  local v = view.new(args)
  local target, result = run.find_target(args.target)
  if not target then return v.finish(result) end
  local data = collect(target)
  v.result("status", data, function(t) show(data, t) end)
  if v.json then return v.finish({ exit_code = 0 }) end
  return 0
end

return commands
