--- `praxlua init`: a project file to begin with, from what is found. It is valid as it stands.
local base = require("praxlua.base")
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local git = require("praxlua.git")
local layout = require("praxlua.layout")
local project_file = require("praxlua.project_file")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")
local text = require("praxlua.text")
local validation = require("praxlua.validation")

local write = {}

local MODE <const> = 420 -- 0644
local DEFAULT_BACKUPS = 3
local MOST_NEIGHBOURS = 200 -- folders beside the project that are looked at

-- ---- what is there ------------------------------------------------------------------------------

local function is_source(path) return path ~= nil and layout.recognise_source(path) ~= nil end

-- The source of the last upgrade that a session tells of.
local function source_of_sessions(target)
  local newest
  for _, id in ipairs(state.list_ids(target) or {}) do
    local session = state.load_state(target, id)
    local path = session and session.metadata.source_path
    if type(path) == "string" and is_source(path)
      and (not newest or (session.started_at or "") > (newest.started_at or "")) then
      newest = { path = path, started_at = session.started_at }
    end
  end
  return newest and newest.path
end

-- The project itself, and what lies beside it.
local function neighbours(project)
  local parent = project:match("^(.*)/[^/]+$") or ""
  local places, names = { project }, folder.names(parent == "" and "/" or parent) or {}
  table.sort(names)
  for i = 1, math.min(#names, MOST_NEIGHBOURS) do places[i + 1] = parent .. "/" .. names[i] end
  return places
end

local function has_commit(path, commit)
  return commit ~= nil and git.commit_exists(path, commit) ~= nil
end

-- The one source in the neighbourhood, or the one that has the installed commit.
local function source_nearby(project, commit)
  local found, proven, seen = {}, {}, {}
  for _, place in ipairs(neighbours(project)) do
    local path = is_source(place) and core.file.realpath(place)
    if path and not seen[path] then
      seen[path] = true
      found[#found + 1] = path
      if has_commit(path, commit) then proven[#proven + 1] = path end
    end
  end
  return #proven == 1 and proven[1] or #proven == 0 and #found == 1 and found[1] or nil
end

-- What is left of a path behind a folder.
local function behind(path, place)
  return path:sub(1, #place + 1) == place .. "/" and path:sub(#place + 2) or nil
end

-- As it is best written: relative where it lies in the project or beside it.
local function relative(path, project)
  if path == project then return "." end
  local inside, parent = behind(path, project), project:match("^(.+)/[^/]+$")
  if inside then return inside end
  local beside = parent and behind(path, parent)
  return beside and "../" .. beside or path
end

local function server_of(ctx)
  local found, reason = server.find(ctx)
  if found then return ("it runs, and speaks %s"):format(text.visible(found.transport)) end
  return reason == "not_running" and "none runs" or text.visible(reason)
end

--- Looks at an installation.
---@param target string
---@param named string|nil the source, where one is named
---@return table|nil found { layout, components, source?, backups, server, version? }
---@return table? refusal a result for the command line
function write.look(target, named)
  local recognised, problem = layout.recognise_target(target)
  if not recognised then
    return nil, { exit_code = 3, status = "refused", message = problem,
      next = "name the installation with --target" }
  end
  if named and not is_source(named) then
    local _, message = layout.recognise_source(named)
    return nil, { exit_code = 3, status = "refused", message = message,
      next = "name the root of the source repository with --source, or leave it out" }
  end
  local project, name = run.split(target)
  local ctx = { target = target, project = project, target_name = name, options = {}, memory = {} }
  local installed = base.read_version(target)
  local source = named or source_of_sessions(target) or source_nearby(project, installed.commit)
  local components = {}
  for _, component in ipairs(recognised.components) do
    if core.file.exists(target .. "/" .. component.to) then
      components[#components + 1] = component
    end
  end
  return {
    layout = recognised, components = components,
    source = source and relative(core.file.realpath(source) or source, project),
    backups = validation.check_backups(ctx).count, server = server_of(ctx),
    version = installed.version and text.visible(installed.version),
  }
end

-- ---- the text -----------------------------------------------------------------------------------

-- A word as Lua reads it, on one line.
local function quoted(word) return (("%q"):format(word):gsub("\\\n", "\\n")) end

local TEXT = [=[
-- How praxlua upgrades this installation: the project's own settings.
--
-- What is typed on the command line goes before them. This file is run like a phase: in a process
-- of its own that can read and change nothing. docs/project-file.md has all settings.
--
-- Found on %s: %s, version %s
--   components   %s
--   backups      %d
--   server       %s
local settings = {
  -- The source repository. A relative path counts from the project.
  %s

  -- Whether the running server is restarted, and its own tests are left out.
  auto_restart = true,
  skip_tests = true,

  -- How many verified backups are kept.
  keep_backups = %d,

  -- Files that were changed here and upstream: on a terminal somebody is asked; elsewhere "stop"
  -- ends the upgrade before anything is applied, "ours" keeps and "theirs" takes.
  interactive_conflicts = true,
  on_conflict = "stop",

  -- The same for some files: * within a name, ** for any folders, ? for one letter.
  -- conflicts = { ["workflows/**"] = "theirs" },

  -- What is never upgraded.
  -- excludes = { "workflows/experimental/**" },

  -- Whose a file or folder is: "system", "shared", "user" or "config".
  -- ownership = { ["standards/universal/mine.md"] = "user" },

  -- What else comes from the source.
  -- components = {
  --   { name = "templates", from = "universal/templates", to = "templates", ownership = "system" },
  -- },

  -- Calls of the server's tools that an upgrade has to pass.
  -- smoke = { { tool = "search_standards", arguments = { query = "testing" } } },

  -- What --run-tests runs, and for how long at most.
  -- tests = { command = { "make", "test" }, seconds = 600 },
  -- What is run once a package is installed.
  -- post_install = {
  --   { package = "playwright", command = { "playwright", "install", "firefox" } },
  -- },

  -- Whether every upgrade is only shown, and whether its result is committed.
  dry_run = false,
  git_commit_after = false,
}

return settings
]=]

--- The text of a project file.
---@param found table of write.look
---@param today string a date
---@return string
function write.text(found, today)
  local names = {}
  for i, component in ipairs(found.components) do names[i] = component.name end
  return TEXT:format(today, found.layout.name, found.version or "unknown",
    table.concat(names, ", "), found.backups, found.server,
    found.source and ("source_path = %s,"):format(quoted(found.source))
      or '-- source_path = "../praxis-os",',
    math.max(found.backups, DEFAULT_BACKUPS))
end

-- ---- the file -----------------------------------------------------------------------------------

-- Gives the present file a second name, the first that is free. Returns it.
local function keep_old(path)
  for n = 1, 10000 do
    local kept = ("%s.old-%d"):format(path, n)
    local ok, message, code = core.file.link(path, kept)
    if ok then return kept end
    if code ~= "EEXIST" then return nil, message, code end
  end
  return nil, "there are too many " .. path .. ".old-N", "EEXIST"
end

-- Puts a draft in its place: where nothing is, unless that was asked for.
local function put(draft, path, force)
  if not force then return core.file.link(draft, path) end
  local kept, message, code
  if core.file.exists(path) then
    kept, message, code = keep_old(path)
    if not kept then return nil, message, code end
  end
  local ok
  ok, message, code = core.file.rename(draft, path)
  if not ok then return nil, message, code end
  return true, kept
end

--- Writes a project file as a whole, or nothing.
---@param target string
---@param data string
---@param force boolean a present one is kept under another name
---@return true|nil
---@return string? kept the path of the one that was there, or the message
---@return string? code "EEXIST": there is one
function write.put(target, data, force)
  local path = target .. "/" .. project_file.NAME
  local draft = path .. "." .. core.system.uuid()
  local ok, kept, code = core.file.write_atomic(draft, data, MODE)
  if not ok then return nil, kept, code end
  ok, kept, code = put(draft, path, force)
  if core.file.exists(draft) then core.file.remove(draft) end
  if not ok then return nil, kept, code end
  return true, kept
end

return write
