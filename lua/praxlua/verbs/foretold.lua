--- Verbs that reach outside of the installation's files: they start programs, talk to a server, or
-- change what is no part of the copy on which a dry run carries out its phases. There they do not
-- run. They answer in the form they always have, with `not_run` in it, and tell what would be done.
local text = require("praxlua.text")

local foretold = {}

--- Why: the word in answers and in evidence.
foretold.REASON = "dry_run"

local function command_line(options)
  local words = {}
  for i, word in ipairs(options) do words[i] = text.quoted(tostring(word)) end
  return table.concat(words, " ")
end

local function health(ctx)
  return { responding = nil, tools = {}, tools_registered = 0, via = "probe", seconds = 0 },
    "asking the server of " .. ctx.target_name
end

local function restart(ctx)
  local keeps = ctx.options.restart == false
  return { stopped = false, started = false, restart_time = nil, seconds = 0, health = {
    tools = {}, tools_registered = 0, seconds = 0, via = "probe" } },
    keeps and "trying the new server in private"
      or "restarting the server, or trying it in private where none runs"
end

local function post_install(_, steps)
  local results, commands = {}, {}
  for i, step in ipairs(steps or {}) do
    results[i] = { package = step.package, command = step.command, status = "not_run", output = "",
      seconds = 0, optional = step.optional, reason = foretold.REASON }
    commands[i] = step.command
  end
  return results, #commands > 0 and "running " .. table.concat(commands, ", ") or nil
end

--- verb -> function(ctx, ...) -> answer, and what would be done in words; nil: nothing.
---@type table<string, fun(ctx: table, ...): table|boolean, string|nil>
foretold.VERBS = {
  ["dependencies.install_dependencies"] = function()
    return { success = nil, packages_installed = 0, packages = {}, errors = {}, warnings = {},
      environment_created = false, seconds = 0 }, "installing the server's packages with pip"
  end,
  ["dependencies.switch_environment"] = function() return true end, -- nothing waits
  ["dependencies.run_post_install_steps"] = post_install,
  ["server.prove"] = function()
    return { proven = nil, tools = {}, tools_registered = nil, calls = {}, seconds = 0 },
      "starting the new server in private, beside the old one"
  end,
  ["server.watch"] = function() return { watched = false, seconds = 0 } end,
  ["server.restart_server"] = restart,
  ["server.health"] = health,
  ["validation.check_server_health"] = health,
  ["server.log_errors_since"] = function() return {} end,
  ["server.run_smoke"] = function()
    return { tools = {}, tools_registered = nil, calls = {}, browser_tools_enabled = nil },
      "calling the new server's tools"
  end,
  ["server.run_tests"] = function()
    return { passed = nil, reason = foretold.REASON, message = "this is a dry run" },
      "running the tests"
  end,
  ["report.commit_changes"] = function(ctx)
    return false, ctx.options.git_commit and "committing what changed in the project" or nil
  end,
  ["backup.archive_old_backups"] = function(ctx, keep)
    local list = require("praxlua.backup").list_backups({ target = ctx.overlay.target }) or {}
    local many = math.max(0, #list + 1 - keep) -- the upgrade makes one
    return { archived_count = many, archived = {}, kept_backups = {}, broken = {} },
      many > 0 and "deleting " .. text.plural(many, "old backup") or nil
  end,
  spawn = function(_, command)
    return { code = 0, stdout = "", stderr = "", timed_out = false, truncated = false,
      seconds = 0 }, "running " .. command_line(command)
  end,
  undo = function() return true end, -- nothing that it would take back is done
}

--- A verb as a dry run does it: not at all. Its arguments were checked before.
---@param ctx table of a run on a copy
---@param verb string
---@param ... any arguments
---@return any answer
function foretold.answer(ctx, verb, ...)
  local answer, what = foretold.VERBS[verb](ctx, ...)
  if type(answer) == "table" and (verb ~= "dependencies.run_post_install_steps")
    and verb ~= "server.log_errors_since" then
    answer.not_run = foretold.REASON
  end
  if what then ctx.emit({ event = "not_run", phase = ctx.phase, verb = verb, what = what }) end
  ctx.overlay.not_run[ctx.phase] = true
  return answer
end

return foretold
