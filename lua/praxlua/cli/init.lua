--- The command line: what can be typed, and which module does it.
local argparse = require("argparse")
local events = require("praxlua.events")
local isolation = require("praxlua.isolation")
local layout = require("praxlua.layout")
local version = require("praxlua.version")

local cli = {}

local function path(text)
  if text == "" then return nil, "an empty path names nothing" end
  return text
end

local function add_common(command)
  command:option("--target", "The installation (default: the nearest .praxis-os here or above, or "
    .. ".agent-os where that is one).")
    :argname("DIR"):convert(path)
  command:flag("--json", "One JSON object a line on standard output; text for people goes to "
    .. "standard error.")
  command:flag("--quiet -q", "Only what you have to act on.")
  return command
end

local function count(text)
  local n = math.tointeger(tonumber(text))
  if not n or n < 1 then return nil, "'" .. text .. "' is not a whole number of at least 1" end
  return n
end

local function lines(text)
  local n = math.tointeger(tonumber(text))
  if not n or n < 0 then return nil, "'" .. text .. "' is not a number of lines" end
  return n
end

local function seconds_or_none(text)
  local n = tonumber(text)
  if not n or not (n >= 0 and n <= 86400) then
    return nil, "'" .. text .. "' is not a number of seconds"
  end
  return n
end

local function seconds(text)
  local n, message = seconds_or_none(text)
  if n == 0 then return nil, "'" .. text .. "' is no time at all" end
  return n, message
end

local function add_isolation(command)
  command:option("--min-isolation", "Refuse where the kernel confines phases less than this "
    .. "(praxlua doctor shows how far it does)."):choices(isolation.LEVELS)
end

local function add_driver(command)
  command:option("--driver", "Who decides about the content: praxlua, or the source's own script, "
    .. "on a private copy (default: built-in)."):choices({ "built-in", "safe-upgrade.py" })
end

local function add_health_timeout(command)
  command:option("--health-timeout", "Seconds the server has to answer "
    .. "(default: 30, or as upgrade.lua says)."):argname("SECONDS"):convert(seconds)
end

-- What upgrade.lua may have said already can be said here either way.
local function add_switch(c, name, on, off)
  c:mutex(
    c:flag("--" .. name, on),
    c:flag("--no-" .. name, off):target((name:gsub("-", "_"))):action("store_false"))
end

local function add_source(c)
  c:option("--source", "The source repository (a clean git work tree); default: source_path in "
    .. "upgrade.lua."):argname("DIR"):convert(path)
end

local function add_upgrade(parser)
  local c = add_common(parser:command("upgrade", "Upgrade an installation from a source."))
  add_source(c)
  add_switch(c, "dry-run", "Show what would be done; change nothing.",
    "Upgrade although upgrade.lua asks for a dry run.")
  c:flag("--diff", "Show what changes in each file beneath the plan.")
  c:option("--plan", "Refuse unless the plan has this hash (a dry run prints it)."):argname("HASH")
    :target("plan_hash")
  c:flag("--yes -y", "Take the default of every question. Conflicts are never decided by it.")
  c:option("--on-conflict", "What to do with files changed on both sides "
    .. "(default: ask on a terminal, stop elsewhere)."):choices({ "ask", "stop", "ours", "theirs" })
  add_driver(c)
  c:flag("--allow-source-phases", "Let the phases run that the source brings along.")
  c:flag("--allow-downgrade", "Accept a source that is older than the installation.")
  c:option("--keep-backups", "How many verified backups to keep (default: 3).")
    :argname("N"):convert(count)
  add_switch(c, "restart", "Restart the running server (the default).",
    "Leave the running server alone.")
  add_switch(c, "run-tests", "Run the project's or the server's tests in phase 4.",
    "Do not (the default).")
  add_switch(c, "git-commit", "Commit the result in the project's repository.",
    "Do not (the default).")
  c:option("--phases", "A folder with further phase scripts; may be given more than once.")
    :argname("DIR"):count("*"):convert(path)
  add_health_timeout(c)
  c:option("--watch", "Seconds the restarted server is watched before the upgrade counts as done "
    .. "(default: 3, or as upgrade.lua says)."):argname("SECONDS"):convert(seconds_or_none)
  add_isolation(c)
end

local function add_rehearse(parser)
  local c = add_common(parser:command("rehearse", "Upgrade, roll back and upgrade again, on a "
    .. "private copy, and compare."))
  add_source(c)
  c:option("--on-conflict", "What to do with files changed on both sides.")
    :choices({ "stop", "ours", "theirs" })
  add_driver(c)
  c:flag("--allow-source-phases", "Let the phases run that the source brings along.")
  c:flag("--allow-downgrade", "Accept a source that is older than the installation.")
  c:option("--phases", "A folder with further phase scripts; may be given more than once.")
    :argname("DIR"):count("*"):convert(path)
  add_health_timeout(c)
  add_isolation(c)
end

local function add_diff(parser)
  local c = add_common(parser:command("diff", "Show what an upgrade would change in each file."))
  add_source(c)
  c:argument("paths", "Only these files or folders of the installation."):args("*")
    :argname("PATH"):convert(path)
end

local function add_sessions(parser)
  local resume = add_common(parser:command("resume", "Go on with an upgrade that was cut short."))
  resume:argument("session_id", "Its session (default: the only unfinished one)."):args("?")
    :argname("SESSION")
  resume:option("--evidence", "What a manual phase asks for; may be given more than once.")
    :argname("NAME=VALUE|@FILE"):count("*")
  resume:option("--on-conflict", "What to do with conflicts that nobody answered.")
    :choices({ "ask", "stop", "ours", "theirs" })
  add_isolation(resume)
  local back = add_common(parser:command("rollback", "Undo an upgrade."))
  back:argument("session_id", "Its session (default: the unfinished one, else the last completed "
    .. "one)."):args("?"):argname("SESSION")
  back:option("--backup", "Go back to this backup instead."):argname("NAME")
  back:option("--reason", "Noted in the session."):argname("TEXT")
  back:option("--on-conflict", "What to do with files changed since the upgrade.")
    :choices({ "stop", "ours", "theirs" })
  back:flag("--skip-undo", "Go on without the undo commands of phases that fail.")
  add_common(parser:command("status", "Show the installation, its sessions and its server."))
end

local function add_conflicts(parser)
  local c = add_common(parser:command("conflicts", "Show and answer the conflicts that an upgrade "
    .. "waits for."))
  c:argument("session_id", "Its session (default: the only one that waits)."):args("?")
    :argname("SESSION")
  c:option("--resolve", "An answer: ours, theirs, merged or remembered; may be given more than "
    .. "once. ID may be all: those that are open."):argname("ID=ANSWER"):count("*")
  c:option("--answers", "A JSON file with answers by id, or like conflicts.json."):argname("FILE")
    :convert(path)
  c:option("--edit", "Merge this one in your editor."):argname("ID")
  c:option("--show", "Show how both sides of this one differ from what was shipped before.")
    :argname("ID")
end

local function add_backups(parser)
  local group = parser:command("backup", "Make, list, check, restore and prune backups.")
  group:require_command(true):command_target("action")
  add_common(group:command("create", "Make a backup now."))
  local list = add_common(group:command("list", "List the backups, newest first."))
  list:flag("--verify", "Read each of them back.")
  local verify = add_common(group:command("verify", "Read a backup back and compare it with its "
    .. "manifest."))
  verify:argument("name", "The backup (default: the newest)."):args("?"):argname("NAME")
  local restore = add_common(group:command("restore", "Bring the installation back to a backup."))
  restore:argument("name", "The backup (default: the newest)."):args("?"):argname("NAME")
  restore:flag("--yes -y", "Do not ask.")
  local prune = add_common(group:command("prune", "Delete all but the newest verified backups."))
  prune:option("--keep", "How many to keep.", "3"):argname("N"):convert(count)
end

local function add_migrate(parser)
  local c = add_common(parser:command("migrate", "Give an installation its present folder name "
    .. "(.praxis-os), or its older one back."))
  c:option("--to", "The name.", layout.FOLDERS[1]):choices(layout.FOLDERS)
  c:flag("--dry-run", "Show what would be done; change nothing.")
end

local function add_phases(parser)
  local group = parser:command("phase", "Look at the phases of an upgrade.")
  group:require_command(true):command_target("action")
  local list = add_common(group:command("list", "List the phases in the order they run."))
  local show = add_common(group:command("show", "Show one phase: its grants, limits and script."))
  show:argument("id", "The phase's id or number."):argname("ID")
  for _, c in ipairs({ list, show }) do
    c:option("--phases", "A folder with further phase scripts."):argname("DIR"):count("*")
      :convert(path)
  end
  local check = add_common(group:command("check", "Tell everything that is wrong with phase "
    .. "scripts, without running them."))
  check:argument("files", "The scripts."):args("+"):argname("FILE"):convert(path)
  local new = add_common(group:command("new", "Write a phase script to begin with."))
  new:argument("name", "Its id: lower case words joined by -."):argname("NAME")
  new:mutex(
    new:option("--after", "The phase it follows (default: content-upgrade)."):argname("ID"),
    new:option("--before", "The phase it precedes."):argname("ID"))
  new:flag("--manual", "A step that a person does, instead of a script.")
  new:option("--dir", "Where to write it (default: the installation's phases folder, else here).")
    :argname("DIR"):convert(path)
end

local function add_run(parser)
  local c = add_common(parser:command("run", "Run one phase script with explicit grants."))
  c:argument("file", "The script."):argname("FILE"):convert(path)
  c:argument("arguments", "What the script finds in host.options.arguments."):args("*")
    :argname("ARG")
  c:option("--grant", "What it may do: source=read, target=write, project=read, tools=NAME,..., "
    .. "services=NAME,..., network; may be given more than once."):argname("GRANT"):count("*")
  c:option("--source", "What host.source reads."):argname("DIR"):convert(path)
  add_isolation(c)
end

local function add_server(parser)
  local group = parser:command("server", "Look at the installation's server, start and stop it.")
  group:require_command(true):command_target("action")
  add_common(group:command("status", "Show the server: whether it runs, where, and what of."))
  local start = add_common(group:command("start", "Start the server and wait until it answers."))
  local stop = add_common(group:command("stop", "Stop the server."))
  local restart = add_common(group:command("restart", "Prove the installed code, then stop the "
    .. "server and start it again."))
  local logs = add_common(group:command("logs", "Show the end of the server's log."))
  logs:option("--lines -n", "How many lines.", "20"):argname("N"):convert(lines)
  logs:flag("--follow -f", "Go on with what is written from now on, until Ctrl-C.")
  logs:flag("--errors", "Only errors since the server was last started.")
  local probe = add_common(group:command("probe", "Start the installed code privately, and list "
    .. "its tools."))
  probe:flag("--smoke", "Call some of the tools, too.")
  for _, c in ipairs({ start, restart, probe }) do add_health_timeout(c) end
  for _, c in ipairs({ stop, restart }) do
    c:option("--grace", "Seconds the server has to end by itself before it is killed.", "10")
      :argname("SECONDS"):convert(seconds)
  end
end

local function add_init(parser)
  local c = add_common(parser:command("init", "Write upgrade.lua, the project's own settings, from "
    .. "what is there."))
  c:option("--source", "The source repository to name in it (default: the one of the last upgrade, "
    .. "or one beside the project)."):argname("DIR"):convert(path)
  c:flag("--force", "Write a new one although there is one, which is kept as upgrade.lua.old-N.")
end

local function make_parser()
  local parser = argparse("praxlua", "Upgrades a copied installation (.praxis-os) from its source, "
    .. "or leaves it exactly as it was.",
    "Exit codes: 0 done, 1 failed and rolled back, 2 usage, 3 refused before any change,\n"
    .. "4 an answer is awaited, 5 a rollback did not complete, 6 another upgrade is running,\n"
    .. "129/130/143 hung up, interrupted, terminated (rolled back).")
  parser:command_target("command"):require_command(true)
  parser:flag("--version", "Print the version and exit."):action(function()
    print("praxlua " .. version.text)
    os.exit(0, true)
  end)
  add_upgrade(parser)
  add_diff(parser)
  add_rehearse(parser)
  add_sessions(parser)
  add_conflicts(parser)
  add_backups(parser)
  add_phases(parser)
  add_run(parser)
  add_server(parser)
  add_migrate(parser)
  add_init(parser)
  add_common(parser:command("doctor", "Check this machine and what praxlua needs."))
  return parser
end

local MODULES = {
  upgrade = "upgrade", resume = "upgrade", rollback = "upgrade", status = "status",
  backup = "backup", phase = "phase", doctor = "doctor", rehearse = "rehearse", run = "run",
  diff = "diff", migrate = "migrate",
  conflicts = "conflicts", init = "project", server = "server",
}

-- Tools that asked for events get one of these, too.
local function usage_error(parser, argv, message)
  io.stderr:write("praxlua: ", message, "\n", parser:get_usage(), "\n",
    "Try: praxlua --help, or praxlua COMMAND --help\n")
  for _, argument in ipairs(argv) do
    if argument == "--json" then
      events.json(function(line) io.stdout:write(line) end)({ event = "finished", exit_code = 2,
        status = "usage", message = message, next = "see praxlua --help" })
      break
    end
  end
  return 2
end

--- Runs one command line.
---@param argv string[] without the program's name
---@return integer exit code
function cli.main(argv)
  local parser = make_parser()
  local ok, args = parser:pparse(argv)
  if not ok then return usage_error(parser, argv, args) end
  return require("praxlua.cli." .. MODULES[args.command])[args.command](args)
end

return cli
