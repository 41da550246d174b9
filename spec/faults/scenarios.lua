--- The start states of the fault campaigns: a source, an installation and one command of praxlua,
-- all so small that the command takes less than half a second.
--
--   upgrade    an installation whose base is recorded, to the next release
--   custom     the same with a phase of its own, conflicts that --on-conflict decides,
--   --git-commit first      an installation without a recorded base
--   failing    an upgrade whose phase 4 fails: it ends rolled back
--   resume     of an upgrade that was killed in phase 3
--   rollback   of the same
--   undo       the rollback of a completed upgrade
--   restore    of a whole backup, after changes by hand
--   served     an upgrade of an installation whose server runs, over HTTP; slower than the others
--
-- A scenario s has: name, root, project, target, installation (its folder's name), source,
-- executable, environment, argv (the command under fault, without the executable), old, new
-- (listings), kind ("upgrade" or "restore"), code (the exit code of the command when nothing goes
-- wrong), goes_back (it ends as the old version), user (files that are a person's, relative to the
-- project), known (sessions that were there), wrecked (the arguments of the upgrade that was
-- killed), head (the commit of the project, where it is in git), reset().
local cjson = require("cjson")
local judge = require("spec.faults.judge")
local lfs = require("lfs")
local tracer = require("spec.faults.tracer")

local scenarios = {}

--- In the order in which campaigns run them.
scenarios.NAMES = {
  "upgrade", "custom", "first", "failing", "resume", "rollback", "undo", "restore",
}

--- Those a campaign is about: all of them, or the one that CASE begins with.
---@param only string|nil
---@return string[] names
function scenarios.chosen(only)
  return only and { only:match("^%l+") } or scenarios.NAMES
end

local NAME = ".praxis-os"
local GIT_DIRECTORY = "project.git" -- beside the project: its content is not the installation's
local RECORDS = {
  NAME .. "/VERSION.txt", NAME .. "/UPDATE_LOG.txt", NAME .. "/INSTALLATION_SUMMARY.md",
  NAME .. "/.installed-manifest.json",
}

-- ---------------------------------------------------------------------------------------------
-- Files

local function read(path)
  local file = assert(io.open(path, "rb"))
  local data = file:read("a")
  file:close()
  return data
end

local function write(path, data)
  local at = ""
  for name in path:match("^(.*)/"):gmatch("[^/]+") do
    at = at .. "/" .. name
    lfs.mkdir(at)
  end
  local file = assert(io.open(path, "wb"))
  assert(file:write(data))
  assert(file:close())
end

local PYTHON = read("spec/fixtures/tiny/python.sh")
local SERVER = read("spec/fixtures/tiny/server.lua")

-- What each release changes of the one before; false removes a file.
local RELEASES = {
  {
    ["VERSION.txt"] = "1.0.0\n",
    ["universal/standards/ai-assistant/guide.md"] = "guide 1\n",
    ["universal/standards/testing/pyramid.md"] = "pyramid 1\n",
    ["universal/standards/testing/retired.md"] = "retired\n",
    ["universal/workflows/flow/metadata.json"] = '{"name": "flow"}\n',
    ["mcp_server/__init__.py"] = "",
    ["mcp_server/server.lua"] = SERVER,
    ["mcp_server/fault"] = "none\n",
    ["mcp_server/requirements.txt"] = "mcp==1\n",
  },
  {
    ["VERSION.txt"] = "2.0.0\n",
    ["universal/standards/ai-assistant/guide.md"] = "guide 2\n",
    ["universal/standards/testing/retired.md"] = false,
    ["universal/workflows/flow/phase.md"] = "phase 2\n",
    ["mcp_server/__init__.py"] = "# second release\n",
    ["mcp_server/requirements.txt"] = "mcp==2\n",
  },
  {
    ["VERSION.txt"] = "3.0.0\n",
    ["universal/standards/ai-assistant/guide.md"] = "guide 3\n",
    ["universal/standards/new/deep/er.md"] = "er 3\n",
    ["universal/workflows/flow/phase.md"] = false,
    ["mcp_server/__init__.py"] = "# third release\n",
    ["mcp_server/requirements.txt"] = "mcp==3\n",
  },
}

local PHASE = [[
local phase = {
  title = "A phase of the project's own", after = "content-upgrade", grants = { target = "write" },
  evidence = { written = integer{ min = 0 } },
}
function phase.run(host)
  need(host.target.write("specs/generated/index.md", "generated\n"))
  need(host.target.write("specs/mine.md", "rewritten by the phase\n"))
  need(host.target.rename("specs/old-name.md", "specs/new-name.md"))
  need(host.target.remove("specs/obsolete.md"))
  return { written = 2 }
end
return phase
]]

-- ---------------------------------------------------------------------------------------------
-- Making one

local function succeed(s, argv, directory)
  local result = judge.ask("run", {
    argv = argv, directory = directory or s.root, environment = s.environment, timeout = 60,
  })
  if result.code ~= 0 then
    error(("%s: exit %s\n%s%s"):format(table.concat(argv, " "), tostring(result.code),
      result.stdout, result.stderr), 2)
  end
  return (result.stdout:gsub("\n$", ""))
end

local function praxlua(s, ...)
  return succeed(s, { s.executable, ... }, s.project)
end

local function commit(s, changes)
  for path, data in pairs(changes) do
    if data then write(s.source .. "/" .. path, data) else os.remove(s.source .. "/" .. path) end
  end
  succeed(s, { "sh", "-ec", "git add -A && git commit -q -m release" }, s.source)
  s.commits[#s.commits + 1] = succeed(s, { "git", "rev-parse", "HEAD" }, s.source)
end

-- The installation of the first release, with a person's work in it.
local function install(s)
  write(s.home .. "/.gitconfig", "[user]\n\tname = A\n\temail = a@example.invalid\n"
    .. "[init]\n\tdefaultBranch = main\n")
  lfs.mkdir(s.source)
  succeed(s, { "git", "init", "-q", "--template=", "source" })
  commit(s, RELEASES[1])
  write(s.project .. "/app.py", "print('the project')\n")
  write(s.project .. "/.gitignore", "*.pyc\n")
  write(s.target .. "/specs/mine.md", "my spec\n")
  write(s.target .. "/standards/development/rules.md", "my rules\n")
  succeed(s, { "sh", "-ec", [[
    cp -a source/universal/standards "$0/standards/universal"
    cp -a source/universal/workflows "$0/workflows"
    cp -a source/mcp_server "$0/mcp_server"
    mkdir -p "$0/venv/bin" tmp
    ln -s mine.md "$0/specs/link.md"
  ]], s.target })
  write(s.target .. "/standards/universal/testing/pyramid.md", "my pyramid\n")
  write(s.target .. "/VERSION.txt", "Current Version: 1.0.0\ncommit=" .. s.commits[1] .. "\n")
  write(s.target .. "/venv/bin/python", PYTHON)
  succeed(s, { "chmod", "755", s.target .. "/venv/bin/python" })
  s.user = { "app.py", NAME .. "/specs/mine.md", NAME .. "/standards/development/rules.md",
    NAME .. "/standards/universal/testing/pyramid.md" }
end

local function upgraded(s)
  install(s)
  commit(s, RELEASES[2])
  praxlua(s, "upgrade", "--source", s.source)
end

local function ready(s)
  upgraded(s)
  commit(s, RELEASES[3])
  s.argv = { "upgrade", "--source", s.source, "--keep-backups", "1" }
end

--- Where praxlua writes: in the project, and what it needs for a while in TMPDIR.
---@param s table
---@return string[] paths
function scenarios.written(s) return { s.project, s.environment.TMPDIR } end

--- Runs praxlua under the tracer, in the project of a scenario.
---@param s table
---@param argv string[] without the executable
---@param options table of tracer.run; `root` is the project where none is named
---@return table result of tracer.run
function scenarios.trace(s, argv, options)
  options.argv = { s.executable, table.unpack(argv) }
  options.environment, options.directory = s.environment, s.project
  options.root, options.executable = options.root or s.project, s.executable
  return tracer.run(options)
end

-- The kinds of place beneath the installation, the first that fits.
local PLACES = {
  { "^/%.upgrade/ID/([a-z]+)/.", "%1/N" }, { "^/%.upgrade/ID/(.+)$", "%1" },
  { "^/%.upgrade/%.done%-ID.*$", "done" }, { "^/%.backups/([^/]*)/?(.*)$", "backups/%1/%2" },
  { "^/%.(.*)$", ".%1" }, { "^/venv/.*$", "venv" }, { "^/.*$", "content" },
}

--- The place of the code that a call comes from, as well as the call tells it: its name and what
--- it is about, without what differs from file to file and from run to run.
---@param s table
---@param call table of tracer.run
---@return string
function scenarios.place(s, call)
  local path = call.path or call.fd_path or ""
  local temporary = s.environment.TMPDIR
  if path:sub(1, #temporary) == temporary then path = "TMPDIR" .. path:sub(#temporary + 1) end
  if path:sub(1, #s.target) == s.target then path = path:sub(#s.target + 1) end
  path = path:gsub(("%x"):rep(8) .. "%-%x+%-%x+%-%x+%-%x+", "ID"):gsub("%.px%-%d+%-%d+", ".px")
    :gsub("%d%d%d%d%-[%d-]+", "TIME"):gsub("child%-%d+", "child")
  for _, place in ipairs(PLACES) do
    local found, count = path:gsub(place[1], place[2])
    if count > 0 then return call.name .. " " .. found:gsub("(/N).*", "%1") end
  end
  return call.name .. " " .. path
end

--- The first call of a scenario that is not the same as in `upgrade`: `failing` begins as that
--- does.
---@param name string
---@param counted { place: string }[][] the calls of each scenario, in the order of scenarios.NAMES
---@return integer n
function scenarios.own_part(name, counted)
  if name ~= "failing" or #counted < #scenarios.NAMES then return 1 end
  for i, scenario in ipairs(scenarios.NAMES) do
    for n, call in ipairs(scenario == name and counted[i] or {}) do
      if call.place ~= counted[1][n].place then return n end
    end
  end
end

-- The call of the upgrade that makes what `resume` and `rollback` find: in phase 3, and the same
-- each time.
local function point_of_wreck(s)
  local at
  for _, call in ipairs(scenarios.trace(s, s.argv, { mode = "count", log = true }).calls) do
    if (call.path2 or ""):find("mcp_server/requirements%.txt$") then at = call.n end
  end
  return assert(at, "the upgrade does not replace mcp_server/requirements.txt")
end

-- The journal knows the inodes of the files, so that a copy of a wreck is not that wreck: it is
-- made anew each time.
local function wreck(s)
  local killed = scenarios.trace(s, s.wrecked, { mode = "after", at = s.wrecked_at })
  assert(killed.hit, "the upgrade was not killed")
end

-- The server of the tests of the real thing. What is called venv/bin/python runs it with that as
-- its name, by which it is known.
local FIXTURE = "spec/fixtures/mcp_server/"
local SERVING = [[
#!/bin/bash
case "$*" in
  "-m mcp_server "*) exec -a "$0" PYTHON -B "$@" ;;
esac
]]

-- A release with that server, and with something for its search to find.
local function with_server(release, version)
  local files = {}
  for path, data in pairs(release) do files[path] = data end
  for name in lfs.dir(FIXTURE) do
    if name:find("%.py$") then files["mcp_server/" .. name] = read(FIXTURE .. name) end
  end
  files["mcp_server/__init__.py"] = files["mcp_server/__init__.py"]:gsub("1%.0%.0", version)
  local guide = "universal/standards/ai-assistant/guide.md"
  files[guide] = files[guide] .. "to the standards\n"
  return files
end

local makers = {}

makers.upgrade = ready

function makers.first(s)
  install(s)
  commit(s, RELEASES[2])
  s.argv = { "upgrade", "--source", s.source }
end

function makers.custom(s)
  ready(s)
  commit(s, { ["universal/standards/testing/pyramid.md"] = "pyramid 3\n" })
  s.decided = {
    ["standards/universal/testing/pyramid.md"] = "universal/standards/testing/pyramid.md",
    ["standards/universal/ai-assistant/guide.md"] = "universal/standards/ai-assistant/guide.md",
  }
  write(s.root .. "/phases/rewrite.lua", PHASE)
  write(s.target .. "/specs/old-name.md", "to be renamed\n")
  write(s.target .. "/specs/obsolete.md", "to be removed\n")
  write(s.target .. "/standards/universal/ai-assistant/guide.md", "my guide\n")
  succeed(s, { "sh", "-ec", "git init -q --template= --separate-git-dir=../" .. GIT_DIRECTORY
    .. " && git add -A && git commit -q -m begin" }, s.project)
  s.head = succeed(s, { "git", "rev-parse", "HEAD" }, s.project)
  s.copied[#s.copied + 1] = GIT_DIRECTORY
  s.argv = { "upgrade", "--source", s.source, "--on-conflict", "theirs", "--git-commit", "--phases",
    s.root .. "/phases" }
  s.user = { "app.py", NAME .. "/standards/development/rules.md" }
end

function makers.failing(s)
  ready(s)
  commit(s, { ["mcp_server/fault"] = "forgets\n" })
  s.code, s.goes_back = 1, true
end

function makers.resume(s)
  ready(s)
  s.wrecked, s.after = s.argv, { "resume" }
end

function makers.rollback(s)
  ready(s)
  s.wrecked, s.after, s.goes_back = s.argv, { "rollback" }, true
end

function makers.undo(s)
  upgraded(s)
  s.argv, s.kind = { "rollback" }, "restore"
end

function makers.restore(s)
  upgraded(s)
  local name = assert(succeed(s, { "ls", s.target .. "/.backups" }):match("^[%d-]+$"))
  write(s.target .. "/specs/mine.md", "changed since\n")
  write(s.target .. "/specs/later.md", "made since\n")
  os.remove(s.target .. "/standards/development/rules.md")
  s.user = { "app.py" }
  s.argv, s.kind = { "backup", "restore", name, "--yes" }, "restore"
end

function makers.served(s)
  install(s)
  commit(s, with_server(RELEASES[2], "2.0.0"))
  local python = succeed(s, { "python3", "-c", "import sys; print(sys.executable)" })
  local script = SERVING:gsub("PYTHON", (python:gsub("%%", "%%%%"))) .. PYTHON
  write(s.target .. "/venv/bin/python", script)
  praxlua(s, "upgrade", "--source", s.source)
  commit(s, with_server(RELEASES[3], "3.0.0"))
  s.argv = { "upgrade", "--source", s.source }
  s.server = { old = "2.0.0", new = "3.0.0" }
end

-- ---------------------------------------------------------------------------------------------
-- Opening one

local function environment_of(s)
  return {
    PATH = os.getenv("PATH"), HOME = s.home, GIT_CONFIG_NOSYSTEM = "1", LC_ALL = "C.UTF-8",
    TMPDIR = s.root .. "/tmp",
  }
end

local function known_sessions(s)
  local known = {}
  for id in pairs(judge.ask("sessions", { target = s.target })) do known[id] = true end
  return known
end

-- What a right upgrade leads to is the oracle's word, not praxlua's; its own records apart.
local MAPPING = { "universal/standards=standards/universal", "universal/workflows=workflows",
  "mcp_server=mcp_server" }

local function check_new(s)
  local expected = judge.ask("expect", {
    before = s.root .. ":old", repository = s.source, old = s.commits[#s.commits - 1],
    new = s.commits[#s.commits], map = MAPPING,
  })
  local wrong = judge.ask("compare", {
    a = expected, b = s.root .. ":new", part = "tree",
    ignore = { ".gitignore", table.unpack(s.records) },
  })
  assert(#wrong == 0, "the upgrade itself is wrong: " .. table.concat(wrong, "\n"))
end

-- In custom the conflicts were decided for the source.
local function check_decided(s)
  for path, from in pairs(s.decided) do
    assert(read(s.target .. "/" .. path) == read(s.source .. "/" .. from), path .. " is wrong")
  end
end

-- What the command leads to: it is run once.
local function learn_new(s)
  local result = judge.run(s, s.argv)
  if result.code ~= s.code or #result.problems > 0 then
    error(("the scenario's own command: exit %s\n%s%s"):format(tostring(result.code),
      table.concat(result.problems, "\n"), result.stderr), 2)
  end
  s.exact = { "old" }
  s.new = judge.listing(s, "new")
  if s.decided then return check_decided(s) end
  if s.kind == "upgrade" and s.code == 0 then check_new(s) end
end

--- The executable under test, from PRAXLUA_HOST.
---@return string path absolute
function scenarios.executable()
  local path = os.getenv("PRAXLUA_HOST") or "build/praxlua"
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

local function make(name, root)
  local s = {
    name = name, installation = NAME, root = root, project = root .. "/project",
    target = root .. "/project/" .. NAME, source = root .. "/source", home = root .. "/home",
    saved = root .. "/saved", executable = scenarios.executable(), records = RECORDS,
    kind = "upgrade", code = 0, known = {}, commits = {}, copied = { "project", "source", "tmp" },
  }
  s.environment = environment_of(s)
  lfs.mkdir(root)
  makers[name](s)
  lfs.mkdir(s.saved)
  judge.ask("copy", { source = root, destination = s.saved, names = s.copied })
  s.known = known_sessions(s)
  s.user_times = judge.ask("times", { root = s.project, paths = s.user })
  s.old = judge.listing(s, "old", true)
  if s.server then judge.ask("start_server", { target = s.target, environment = s.environment }) end
  learn_new(s)
  return s
end

local serving -- the project whose server this process has started last

local function with_reset(s)
  function s.reset()
    if serving then judge.ask("stop_servers", { project = serving }) end
    serving = s.server and s.project
    judge.ask("copy", { source = s.saved, destination = s.root, names = s.copied })
    if s.server then
      judge.ask("start_server", { target = s.target, environment = s.environment })
    end
    if s.wrecked_at then wreck(s) end
  end
  s.reset()
  return s
end

-- A scenario that an earlier process made.
local function load(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local s = cjson.decode(file:read("a"))
  file:close()
  for _, field in ipairs({ "code", "wrecked_at" }) do s[field] = math.tointeger(s[field]) end
  return s
end

--- Makes a scenario in a directory, or takes the one that an earlier process made there.
---@param name string one of scenarios.NAMES
---@param directory string absolute
---@return table s as it is before its command
function scenarios.open(name, directory)
  local root = directory .. "/" .. name
  local path = root .. "/scenario.json"
  local s = load(path)
  if not s then
    s = make(name, root)
    if s.wrecked then
      judge.ask("copy", { source = s.saved, destination = root, names = s.copied })
      s.wrecked_at = point_of_wreck(s)
      s.argv = s.after
    end
    write(path, cjson.encode(s))
  end
  judge.ask("keep", { name = s.root .. ":old", listing = s.old })
  judge.ask("keep", { name = s.root .. ":new", listing = s.new })
  return with_reset(s)
end

return scenarios
