--- The options of a run: what was typed goes before what upgrade.lua says, and that before the
-- defaults.
--
-- What a run goes by is kept with its session (engine.lua, KEPT_OPTIONS), so a resume does not ask
-- the file again:
--   options.project           what the services look at: components, ownership, excludes, server,
--                             smoke, tests, post_install, and the digest of all settings
--   options.conflict_policy   array of { pattern, answer = "ours"|"theirs" }
--   options.driver            "safe-upgrade.py"; nil: the built-in one
local core = require("praxlua.core")
local isolation = require("praxlua.isolation")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local project_file = require("praxlua.project_file")
local run = require("praxlua.run")

local project_options = {}

-- What is handed on to the services as it is.
local DECLARED = {
  "components", "ownership", "excludes", "server", "smoke", "tests", "post_install",
}

-- Settings of another name or sense than the options they stand for.
local OPTIONS = {
  dry_run = function(s) return s.dry_run end,
  restart = function(s) return s.auto_restart end,
  keep_backups = function(s) return s.keep_backups end,
  git_commit = function(s) return s.git_commit_after end,
  run_tests = function(s) if s.skip_tests ~= nil then return not s.skip_tests end end,
  driver = function(s)
    return s.content and s.content.driver ~= "built-in" and s.content.driver or nil
  end,
}

-- Whether a person is asked about conflicts: as typed, else as interactive_conflicts says where
-- there is a terminal; on_conflict is for everything else.
local function on_conflict(typed, settings)
  if typed.on_conflict then return typed.on_conflict end
  local asks, otherwise = settings.interactive_conflicts, settings.on_conflict
  if asks == nil then asks = otherwise == nil or otherwise == "ask" end
  if typed.interactive and asks then return "ask" end
  return otherwise ~= "ask" and otherwise or nil
end

local function policy(conflicts)
  if not conflicts or not next(conflicts) then return nil end
  local list = json.array()
  for i, pattern in ipairs(lists.sorted_keys(conflicts)) do
    list[i] = { pattern = pattern, answer = conflicts[pattern] }
  end
  return list
end

local function declared(settings)
  local project = { digest = core.hash.sha256(json.encode(settings)) }
  for _, name in ipairs(DECLARED) do project[name] = settings[name] end
  return project
end

--- The folder that source_path means: a relative one counts from the project.
---@param settings table
---@param target string
---@return string|nil path
function project_options.source(settings, target)
  local path = settings.source_path
  if not path then return nil end
  if path:sub(1, 1) ~= "/" then path = run.split(target):gsub("/$", "") .. "/" .. path end
  return core.file.realpath(path) or path
end

--- The options of a run with those settings.
---@param typed table the command's options; nil where nothing was said. `interactive`: whether a
---  person can be asked about conflicts
---@param settings table|false of project_file.read
---@param target string
---@return table options
function project_options.merge(typed, settings, target)
  local options = {}
  for name, value in pairs(typed) do options[name] = value end
  options.interactive = nil
  local said = settings or {}
  options.on_conflict = on_conflict(typed, said)
  options.source = typed.source or project_options.source(said, target)
  for name, of in pairs(OPTIONS) do
    if options[name] == nil then options[name] = of(said) end
  end
  options.conflict_policy = not typed.on_conflict and policy(said.conflicts) or nil
  options.project = settings and declared(settings) or nil
  return options
end

local function wrong(message)
  return nil, { exit_code = 3, status = "refused", message = message,
    next = "mend it (docs/project-file.md has all settings), or have a new one written with: "
      .. "praxlua init --force" }
end

local function no_source()
  return nil, { exit_code = 2, status = "usage", message = "no source is named",
    next = "name the source repository with --source DIR, or as source_path in "
      .. project_file.NAME }
end

local function tell(settings, emit)
  emit({ event = "log", level = "info", message = project_file.NAME .. " sets "
    .. table.concat(lists.sorted_keys(settings), ", ") })
end

--- The options of an upgrade: those typed, over what the installation's project file says.
---@param typed table as of project_options.merge; target?
---@param emit fun(event: table)
---@return table|nil options
---@return table? result that ends the command: the file is wrong, or no source is named
function project_options.resolve(typed, emit)
  isolation.demand(typed.min_isolation)
  local target = run.find_target(typed.target)
  local settings, message = false, nil
  if target then
    settings, message = project_file.read(target, layout.recognise_target(target) or nil)
  end
  if settings == nil then return wrong(message) end
  if settings and next(settings) then tell(settings, emit) end
  local options = project_options.merge(typed, settings, target)
  if not options.source then return no_source() end
  return options
end

--- What the services need of the project file in a command that is no upgrade. A file that is wrong
--- keeps nobody from undoing something: it counts as none, and that is told.
---@param options table target?; `project` is put in
---@param emit fun(event: table)
function project_options.add(options, emit)
  local target = not options.project and run.find_target(options.target)
  if not target then return end
  local settings, message = project_file.read(target, layout.recognise_target(target) or nil)
  if settings == nil then
    emit({ event = "warning", message = message .. "; its settings are not used" })
  end
  options.project = settings and declared(settings) or nil
end

--- Tells in a resumed run that the file is not what the run began with.
---@param r table run with its session's options
function project_options.note_change(r)
  local settings = project_file.read(r.target)
  local now = settings and declared(settings).digest or nil
  local began = r.options.project and r.options.project.digest
  if settings ~= nil and now == began then return end
  r.ctx.warn(("%s was changed since this upgrade began; it goes on with the settings that it began "
    .. "with"):format(project_file.NAME))
end

return project_options
