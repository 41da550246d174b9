--- `praxlua upgrade`, `resume` and `rollback`.
local core = require("praxlua.core")
local engine = require("praxlua.engine")
local json = require("praxlua.json")
local screen = require("praxlua.cli.conflict_screen")
local view = require("praxlua.cli.view")

local commands = {}

local function interactive() return core.system.isatty(0) and core.system.isatty(1) end

-- The questions of a run; without a terminal, and with --yes, each takes its default.
local function ui_for(args, v)
  local ui = { emit = v.emit }
  if args.yes or args.json or not interactive() then return ui end
  function ui.ask(question, choices, default)
    return (v.terminal.ask(question, choices, default))
  end
  function ui.prompt(question) return v.terminal.prompt(question) end
  function ui.decide(question) return screen.ask(v.terminal, question) end
  function ui.unfinished(found)
    return (v.terminal.ask(string.format("The earlier upgrade %s did not finish.",
      found[1].session_id), {
        { key = "resume", label = "go on with it" },
        { key = "rollback", label = "undo it, then start this one" },
        { key = "leave", label = "leave it as it is" },
      }, "leave"))
  end
  return ui
end

local function warn_root(v)
  if core.system.euid() == 0 then
    v.emit({ event = "log", level = "info",
      message = "running as root: new files get the owner of what they replace" })
  end
end

-- As absolute paths: a session may be resumed from another directory.
local function absolute(paths)
  local all = {}
  for i, path in ipairs(paths) do all[i] = core.file.realpath(path) or path end
  return all
end

--- `praxlua upgrade`
---@param args table
---@return integer exit code
function commands.upgrade(args)
  local v = view.new(args)
  warn_root(v)
  return engine.upgrade({
    source = args.source and (core.file.realpath(args.source) or args.source),
    target = args.target, dry_run = args.dry_run, diff = args.diff or nil,
    plan_hash = args.plan_hash, yes = args.yes,
    on_conflict = args.on_conflict, interactive = interactive() and not args.json,
    allow_downgrade = args.allow_downgrade or nil, keep_backups = args.keep_backups,
    restart = args.restart, run_tests = args.run_tests, git_commit = args.git_commit,
    phases = absolute(args.phases), health_timeout = args.health_timeout,
    watch = args.watch, min_isolation = args.min_isolation,
    allow_source_phases = args.allow_source_phases or nil, driver = args.driver,
  }, ui_for(args, v)).exit_code
end

local EVIDENCE_LIMIT = 1024 * 1024 -- bytes of a file

-- What `--evidence` gave: NAME=VALUE, or @FILE.json with an object.
local function evidence_given(words)
  local given = {}
  for i, word in ipairs(words) do
    local path = word:match("^@(.+)$")
    local name, value = word:match("^([%a_][%w_]*)=(.*)$")
    if path then
      local data, message = core.file.read(path, EVIDENCE_LIMIT)
      local values
      if data then values, message = json.decode(data) end
      if type(values) ~= "table" then
        return nil, string.format("%s holds no evidence: %s", path, message or "not an object")
      end
      given[i] = { values = values }
    elseif name then
      given[i] = { name = name, word = value }
    else
      return nil, "'" .. word .. "' is no evidence; it is NAME=VALUE or @FILE.json"
    end
  end
  return #given > 0 and given or false
end

--- `praxlua resume`
---@param args table
---@return integer exit code
function commands.resume(args)
  local v = view.new(args)
  local given, message = evidence_given(args.evidence)
  if given == nil then
    return v.finish({ exit_code = 2, status = "usage", message = message,
      next = "see praxlua resume --help" })
  end
  return engine.resume({ target = args.target, session_id = args.session_id,
    evidence = given or nil, on_conflict = args.on_conflict,
    min_isolation = args.min_isolation }, ui_for(args, v)).exit_code
end

--- `praxlua rollback`
---@param args table
---@return integer exit code
function commands.rollback(args)
  local v = view.new(args)
  return engine.rollback_upgrade({ target = args.target, session_id = args.session_id,
    reason = args.reason, backup = args.backup, on_conflict = args.on_conflict,
    skip_undo = args.skip_undo or nil },
    ui_for(args, v)).exit_code
end

return commands
