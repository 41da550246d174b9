--- Whole upgrades on a tiny scale, for the specs of the engine and the command line: a source of
-- two commits, an installation of the first one, a server over stdio of thirty lines of Lua, and
-- for its Python a script that plays pip by copying a file. One upgrade takes less than a second.
local cjson = require("cjson")
local command = require("spec.support.command")
local core = require("praxlua.core")
local events = require("praxlua.events")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local lfs = require("lfs")
local seal = require("praxlua.seal")

local tiny = {}

--- The name of an installation in its project.
tiny.NAME = ".praxis-os"
--- A shipped file, relative to the target, that the second release changes.
tiny.GUIDE = "standards/universal/ai-assistant/guide.md"

-- What stands for venv/bin/python, and the server's code.
local PYTHON = assert(helper.read("spec/fixtures/tiny/python.sh"))
local SERVER = assert(helper.read("spec/fixtures/tiny/server.lua"))

-- What the first release ships, and what the second one changes (false: removes).
local FIRST = {
  ["VERSION.txt"] = "1.0.0\n",
  ["universal/standards/ai-assistant/guide.md"] = "guide 1\n",
  ["universal/standards/testing/pyramid.md"] = "pyramid 1\n",
  ["universal/standards/testing/retired.md"] = "retired\n",
  ["universal/workflows/flow/metadata.json"] = '{"name": "flow"}\n',
  ["mcp_server/__init__.py"] = "",
  ["mcp_server/server.lua"] = SERVER,
  ["mcp_server/fault"] = "none\n",
}
local SECOND = {
  ["VERSION.txt"] = "2.0.0\n",
  ["universal/standards/ai-assistant/guide.md"] = "guide 2\n",
  ["universal/standards/testing/retired.md"] = false,
  ["universal/workflows/flow/phase.md"] = "phase 2\n",
  ["mcp_server/__init__.py"] = "# second release\n",
}

-- Where a release goes; the installer leaves VERSION.txt as the target's own file.
local INSTALL = [[
set -e
cd "$0"
mkdir -p home source "project/$1/standards/development" "project/$1/specs" "project/$1/venv/bin"
mv files/* source
rmdir files
cat > home/.gitconfig <<'END'
[user]
	name = A
	email = a@example.invalid
[init]
	defaultBranch = main
END
export HOME="$0/home" GIT_CONFIG_NOSYSTEM=1
git init -q source
git -C source add -A
git -C source commit -q -m 1.0.0
cd "project/$1"
cp -a ../../source/universal/standards standards/universal
cp -a ../../source/universal/workflows workflows
cp -a ../../source/mcp_server mcp_server
printf 'Current Version: 1.0.0\ncommit=%s\n' "$(git -C ../../source rev-parse HEAD)" > VERSION.txt
mv ../../python venv/bin/python
chmod 755 venv/bin/python
]]

local function sh(s, script, ...)
  return command.succeed({ "sh", "-euc", script, s.root, ... }, {
    scratch = s.scratch, environment = s.environment,
  })
end

--- The executable under test.
---@return string path absolute
function tiny.executable()
  local path = os.getenv("PRAXLUA") or os.getenv("PRAXLUA_HOST") or "build/praxlua"
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

--- Commits files to the source (false removes one).
---@param s table
---@param files table<string, string|false>
function tiny.commit(s, files)
  for path, data in pairs(files) do
    if data then
      helper.write(s.source .. "/" .. path, data)
    else
      assert(os.remove(s.source .. "/" .. path))
    end
  end
  sh(s, 'git -C "$0/source" add -A && git -C "$0/source" commit -q -m "a change"')
end

-- The source and the installation, from nothing; `options` as for tiny.new.
local function make(s, options)
  helper.tree(s.root .. "/files", FIRST)
  helper.tree(s.root .. "/files", options.first or {})
  helper.write(s.root .. "/python", PYTHON)
  sh(s, INSTALL, tiny.NAME)
  local second = {}
  for path, data in pairs(SECOND) do second[path] = data end
  for path, data in pairs(options.second or {}) do second[path] = data end
  tiny.commit(s, second)
end

local function remove_at_exit(directory)
  return setmetatable({}, { __gc = function()
    os.execute("rm -rf " .. command.quote(directory))
  end })
end

-- What was asked for before is copied from the second one made, that without anything further from
-- the first. Kept in the registry: busted loads modules anew for each file, and the finalizers
-- there run when the process ends.
local KEY = "praxlua.tiny.made"

-- The same text for the same further files.
local function key_of(options)
  local lines = {}
  for release, files in pairs(options) do
    for path, data in pairs(files) do
      lines[#lines + 1] = ("%s %q %q"):format(release, path, data)
    end
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

local function keep(s)
  local directory = (os.getenv("TMPDIR") or "/tmp") .. "/praxlua-tiny-" .. core.system.uuid()
  local kept = { directory = directory, guard = remove_at_exit(directory) }
  sh(s, 'mkdir "$1" && cd "$0" && cp -a --parents home/.gitconfig project source "$1"', directory)
  return kept
end

local function make_or_copy(s, options)
  local registry = debug.getregistry()
  local known = registry[KEY] or {}
  registry[KEY] = known
  local key = key_of(options)
  if type(known[key]) == "table" then return sh(s, 'cp -a "$1/." "$0"', known[key].directory) end
  make(s, options)
  known[key] = (key == "" or known[key]) and keep(s) or "once"
end

--- A source with a new release, and an installation of the old one.
---@param options { first: table?, second: table? }? further files of the releases
---@return table s root, source, project, target, home, cache, scratch, environment
function tiny.new(options)
  local root = helper.tempdir()
  local s = {
    root = root, source = root .. "/source", project = root .. "/project", home = root .. "/home",
    target = root .. "/project/" .. tiny.NAME, scratch = root .. "/runs",
    executable = tiny.executable(),
  }
  s.environment = core.system.environment()
  s.environment.HOME, s.environment.GIT_CONFIG_NOSYSTEM = s.home, "1"
  s.environment.XDG_CACHE_HOME = nil -- in the home folder
  s.environment.LC_ALL, s.environment.PRAXLUA_HOST = "C.UTF-8", s.executable
  s.cache = s.home .. "/.cache" -- where a confined tool may write
  lfs.mkdir(s.scratch)
  lfs.mkdir(s.home)
  lfs.mkdir(s.cache)
  make_or_copy(s, options or {})
  return s
end

--- Remembers everything as it is now, for tiny.reset.
function tiny.save(s)
  s.saved = helper.tempdir()
  sh(s, 'cp -a "$0/project" "$0/source" "$1"', s.saved)
end

--- Puts everything back to what it was at tiny.save, at the same place.
function tiny.reset(s)
  sh(s, 'cd "$0" && rm -rf project source phases && cp -a "$1/project" "$1/source" .', s.saved)
end

-- ---------------------------------------------------------------------------------------------
-- Running praxlua

local function run_options(s, options)
  local environment = {}
  local own = s.environment or core.system.environment()
  for name, value in pairs(own) do environment[name] = value end
  for name, value in pairs(options and options.environment or {}) do environment[name] = value end
  return {
    scratch = s.scratch, environment = environment, seconds = 60,
    directory = options and options.directory or s.project,
  }
end

local function argv_of(s, argv, options)
  local whole = { table.unpack(options and options.wrap or {}) }
  whole[#whole + 1] = s.executable
  return table.move(argv, 1, #argv, #whole + 1, whole)
end

--- Runs praxlua in the project.
---@param s table
---@param argv string[]
---@param options { directory: string?, environment: table?, wrap: string[]? }?
---@return { code: integer, stdout: string, stderr: string }
function tiny.run(s, argv, options)
  return command.run(argv_of(s, argv, options), run_options(s, options))
end

-- The lines of --json as events, each of which meets its schema; the last one tells the exit code.
local function with_events(result)
  result.events = {}
  for line in result.stdout:gmatch("([^\n]*)\n") do
    local event = assert(json.decode(line))
    assert(events.check(event))
    assert(not (event.event == "log" and event.message:find("malformed event", 1, true)), line)
    result.events[#result.events + 1] = event
  end
  local last = assert(result.events[#result.events], "no event; " .. result.stderr)
  assert(last.event == "finished" and last.exit_code == result.code,
    ("exit %d after: %s"):format(result.code, cjson.encode(last)))
  result.last = last
  return result
end

--- The same with --json: the result has `events` and `last`, all of them checked.
function tiny.json(s, argv, options)
  local whole = table.move(argv, 1, #argv, 1, {})
  whole[#whole + 1] = "--json"
  return with_events(tiny.run(s, whole, options))
end

--- `praxlua upgrade --json` and further arguments.
function tiny.upgrade(s, extra, options)
  return tiny.json(s, { "upgrade", "--source", s.source, table.unpack(extra or {}) }, options)
end

--- Starts an upgrade in the background; see command.await, command.kill and tiny.finish.
function tiny.start(s, extra, options)
  return command.start(argv_of(s, { "upgrade", "--source", s.source, "--json",
    table.unpack(extra or {}) }, options), run_options(s, options))
end

--- Waits for the end of it.
function tiny.finish(run) return with_events(command.wait(run)) end

local PATCHED = [[
package.path, package.cpath = %q, %q
local core = require("praxlua.core")
if os.getenv("PRAXLUA_COVERAGE_DIR") and core.coverage then core.coverage.start() end
local function die() core.system.signal(core.system.pid(), "KILL") end
%s
arg[#arg + 1], arg[#arg + 2] = "--target", %q
os.exit(require("praxlua.cli").main(arg), true)
]]

--- Runs the command line with something in it replaced first. The code sees `core`, and `die()`
--- kills the process on the spot, as SIGKILL does.
---@param code string
---@return { code: integer, stdout: string, stderr: string }
function tiny.patched(s, code, argv)
  local path = s.root .. "/patched.lua"
  helper.write(path, PATCHED:format(package.path, package.cpath, code, s.target))
  return command.run({ os.getenv("LUA") or "lua5.4", path, table.unpack(argv) },
    run_options(s, { directory = lfs.currentdir() }))
end

--- An upgrade like that, with --json. `events` is empty where it was killed.
function tiny.patched_upgrade(s, code, extra)
  local result = tiny.patched(s, code, { "upgrade", "--source", s.source, "--json",
    table.unpack(extra or {}) })
  result.events = command.events(result.stdout)
  return result
end

--- The first event of a kind, or of a kind and a phase.
function tiny.event(result, name, phase)
  for _, event in ipairs(result.events) do
    if event.event == name and (phase == nil or event.phase == phase) then return event end
  end
end

--- The text for people, its line breaks and runs of blanks made one blank each.
function tiny.said(result) return ((result.stderr .. result.stdout):gsub("%s+", " ")) end

-- ---------------------------------------------------------------------------------------------
-- Looking at it

local EPHEMERAL = {
  [".cache"] = true, [".backups"] = true, [".upgrade"] = true, [".upgrade-lock"] = true,
  [".mcp_server_state.json"] = true,
}

--- Every path of the project with type, mode, link target and content, as "byte-identical" means.
---@return table<string, string>
function tiny.snapshot(s)
  local found = {}
  local skip = {}
  for name in pairs(EPHEMERAL) do skip[tiny.NAME .. "/" .. name] = true end
  for _, entry in ipairs(assert(core.tree.list(s.project, {
    skip = skip, hash = true, skip_names = { ["__pycache__"] = true, [".git"] = true },
  }))) do
    found[entry.path] = ("%s %o %s"):format(entry.type, entry.mode,
      entry.sha256 or entry.target or "")
  end
  return found
end

--- Every path of the project, our own folders too, with its times: nothing at all was touched.
---@return table<string, string>
function tiny.exact(s)
  local found = {}
  for _, entry in ipairs(assert(core.tree.list(s.project, { hash = true }))) do
    found[entry.path] = ("%s %o %d %s"):format(entry.type, entry.mode, entry.mtime,
      entry.sha256 or entry.target or "")
  end
  found["."] = tostring(core.file.stat(s.project).mtime)
  return found
end

--- Whether nothing of an unfinished run is left.
function tiny.is_settled(s)
  for _, name in ipairs(tiny.names(s, ".backups")) do
    if name:sub(1, 1) == "." then return false end
  end
  for _, name in ipairs({ "/.upgrade", "/.upgrade-lock" }) do
    if lfs.attributes(s.target .. name) then return false end
  end
  return true
end

--- The names in a folder of the target, sorted; none where there is none.
function tiny.names(s, folder)
  local names = {}
  local path = s.target .. "/" .. folder
  if lfs.attributes(path, "mode") ~= "directory" then return names end
  for name in lfs.dir(path) do
    if name ~= "." and name ~= ".." then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- A file of the target.
function tiny.read(s, path) return helper.read(s.target .. "/" .. path) end

--- Writes a file of the target.
function tiny.write(s, path, data) helper.write(s.target .. "/" .. path, data) end

--- Session files by id.
function tiny.sessions(s)
  local found = {}
  for _, name in ipairs(tiny.names(s, ".cache/state")) do
    local id = name:match("^(.*)%.json$")
    if id then found[id] = assert(seal.open(tiny.read(s, ".cache/state/" .. name))) end
  end
  return found
end

--- Writes a phase script into a folder for --phases.
---@return string directory
function tiny.phase(s, name, code)
  helper.write(s.root .. "/phases/" .. name .. ".lua", code)
  return s.root .. "/phases"
end

return tiny
