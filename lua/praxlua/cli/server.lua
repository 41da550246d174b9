--- `praxlua server status|start|stop|restart|logs|probe`: what each may do, under which lock.
local core = require("praxlua.core")
local ends = require("praxlua.cli.server.ends")
local layout = require("praxlua.layout")
local logs = require("praxlua.cli.server.logs")
local obstacle = require("praxlua.cli.obstacle")
local probe = require("praxlua.cli.server.probe")
local project_file = require("praxlua.project_file")
local run = require("praxlua.run")
local state = require("praxlua.state")
local status = require("praxlua.cli.server.status")
local switch = require("praxlua.cli.server.switch")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

-- The context of the service, with the project's own settings; and what is wrong with them.
local function context(target, args, v)
  local project, name = run.split(target)
  local settings, problem = project_file.read(target, layout.recognise_target(target) or nil)
  return {
    target = target, project = project, target_name = name, memory = {},
    session = state.session.new(),
    options = { project = settings or nil, health_timeout = args.health_timeout,
      stop_grace = args.grace },
    progress = function(message)
      v.emit({ event = "phase_progress", phase = "server", text = message })
    end,
    warn = function(message) v.emit({ event = "warning", message = message }) end,
  }, problem
end

-- Calls use(ctx), unless the project file is wrong: what it says of the server would be missing.
local function with_context(target, args, v, use)
  local ctx, problem = context(target, args, v)
  if problem then return ends.bad_settings(problem) end
  return use(ctx), ctx
end

-- The result of a command that somebody may have interrupted.
local function or_interrupted(result, message, next_step)
  local signal = core.system.interrupted()
  if not signal or result.exit_code == 0 then return result end
  return { exit_code = run.SIGNAL_EXITS[signal], status = "interrupted", message = message,
    next = next_step }
end

local actions = {}

function actions.status(target, args, v)
  local ctx, problem = context(target, args, v)
  return status.show(ctx, v, problem)
end

function actions.logs(target, args, v) return logs.show({ target = target }, args, v) end

-- The refusal where nothing may be written.
local function read_only(target)
  if core.system.access(target, "w") then return nil end
  return ends.refused(("the installation at %s cannot be written, and the state file of its server "
    .. "has to be moved"):format(text.visible(target)), "run this as the user whom it belongs to")
end

-- A private server sets the state file of the running one aside for a while.
function actions.probe(target, args, v)
  core.system.catch_signals()
  local result, refusal = run.while_locked(target, function()
    return read_only(target) or obstacle.of(target, true)
      or with_context(target, args, v, function(ctx) return probe.look(ctx, args, v) end)
  end)
  return or_interrupted(result or refusal, "Interrupted; the private server was ended.")
end

-- What starts and stops the server holds the lock of an upgrade, which does so as well.
local function locked(name)
  return function(target, args, v)
    core.system.catch_signals()
    local r, refusal = run.open({ target = target }, { emit = v.emit })
    if not r then return refusal end
    local result, ctx = name ~= "stop" and obstacle.of(target, true) or nil, nil
    if not result then
      result, ctx = with_context(target, args, v, function(made) return switch[name](made, v) end)
    end
    run.close(r)
    return or_interrupted(result, table.unpack(ctx and ctx.if_interrupted
      or { "Interrupted; nothing was changed." }))
  end
end

for _, name in ipairs({ "start", "stop", "restart" }) do actions[name] = locked(name) end

--- `praxlua server ACTION`
---@param args table
---@return integer exit code
function commands.server(args)
  local v = view.new(args)
  local target, result = run.find_target(args.target)
  if not target then return v.finish(result) end
  result = actions[args.action](target, args, v)
  v.terminal.clear()
  if result.silent and not v.json then return result.exit_code end
  return v.finish(result)
end

return commands
