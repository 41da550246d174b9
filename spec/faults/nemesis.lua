--- What the families `concurrency` and `corruption` share: a small installation with a person's own
-- files, praxlua run in it, and the looks at it afterwards, by the oracle and by /proc.
local cjson = require("cjson")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local judge = require("spec.faults.judge")
local lfs = require("lfs")
local tiny = require("spec.support.tiny")

local nemesis = {}

local EMPTY = setmetatable({}, cjson.array_mt)

--- The records that an upgrade writes with times and sessions in them.
nemesis.RECORDS = { "VERSION.txt", "UPDATE_LOG.txt", "INSTALLATION_SUMMARY.md",
  ".installed-manifest.json" }

local MAPPING = { "universal/standards=standards/universal", "universal/workflows=workflows",
  "mcp_server=mcp_server" }

local function text_of(name, first)
  local lines = { first }
  for i = 2, 20 do lines[i] = ("%s, line %d"):format(name, i) end
  return table.concat(lines, "\n") .. "\n"
end

-- Shipped files long enough for a person's line at the end and a new first line to merge; and what
-- makes pip install.
local FIRST = {
  ["mcp_server/requirements.txt"] = "mcp==1\n",
  ["universal/standards/testing/long.md"] = text_of("long", "release 1"),
  ["universal/standards/testing/log.md"] = text_of("log", "release 1"),
  ["universal/standards/testing/steady.md"] = text_of("steady", "the same in both"),
}
local SECOND = {
  ["mcp_server/requirements.txt"] = "mcp==2\n",
  ["universal/standards/testing/long.md"] = text_of("long", "release 2"),
  ["universal/standards/testing/log.md"] = text_of("log", "release 2"),
  ["universal/standards/testing/fresh.md"] = text_of("fresh", "new in 2"),
}

-- Nobody's but the person's.
local OWN = {
  ["standards/development/mine.md"] = "mine\n",
  ["standards/development/diary.log"] = "diary\n",
  ["specs/plan.md"] = "plan\n",
}

-- ---------------------------------------------------------------------------------------------
-- The installation

local tempdir, made = helper.tempdir, {}

--- Lets everything that is made from now on be in a directory, which somebody else removes.
---@param directory string
function nemesis.stay_in(directory)
  helper.tempdir = function(base) return tempdir(base or directory) end
end

--- Ends what installations have left alive, whatever became of their case, and removes them.
function nemesis.clean()
  for _, s in ipairs(made) do nemesis.end_strays(s) end
  made = {}
  helper.clean()
end

--- An installation of the first release with a person's files, and a source with the second one.
---@param options { first: table?, second: table? }? further files of the releases
---@return table s as of tiny.new; `mark` is in the environment of every process that it starts
function nemesis.new(options)
  options = options or {}
  local first, second = {}, {}
  for path, data in pairs(FIRST) do first[path] = data end
  for path, data in pairs(options.first or {}) do first[path] = data end
  for path, data in pairs(SECOND) do second[path] = data end
  for path, data in pairs(options.second or {}) do second[path] = data end
  local s = tiny.new({ first = first, second = second })
  for path, data in pairs(OWN) do tiny.write(s, path, data) end
  local python = s.target .. "/venv/bin/python"
  helper.write(python, assert(helper.read("spec/faults/python.sh")))
  s.mark = core.system.uuid()
  made[#made + 1] = s
  s.environment.PIP_NEMESIS_MARK = s.mark
  s.environment.PIP_NEMESIS = s.root .. "/while-pip-installs"
  s.old_commit = nemesis.git(s, "rev-parse", "HEAD~1")
  s.new_commit = nemesis.git(s, "rev-parse", "HEAD")
  s.before = nemesis.list(s)
  return s
end

--- What git says of the source.
---@return string
function nemesis.git(s, ...)
  return (command.succeed({ "git", "-C", s.source, ... },
    { scratch = s.scratch, environment = s.environment }):gsub("%s+$", ""))
end

--- What pip does while it installs: lines for sh. They see $venv.
function nemesis.while_pip_installs(s, lines)
  helper.write(s.environment.PIP_NEMESIS, lines)
end

-- ---------------------------------------------------------------------------------------------
-- Running praxlua

local function options_of(s, more)
  local options = {
    scratch = s.scratch, environment = s.environment, seconds = 60, directory = s.project,
  }
  for name, value in pairs(more or {}) do options[name] = value end
  return options
end

local function timed(run)
  local result = command.wait(run)
  result.seconds = core.system.monotonic() - run.began
  result.pid = run.pid
  result.said = result.stdout .. result.stderr
  return result
end

--- Starts a command of praxlua.
---@return table run for nemesis.finish, command.kill and command.await
function nemesis.start(s, argv, more)
  local began = core.system.monotonic()
  local run = command.start({ s.executable, table.unpack(argv) }, options_of(s, more))
  run.began = began
  return run
end

--- Waits for its end.
---@return { code: integer, stdout: string, stderr: string, said: string, seconds: number }
function nemesis.finish(run) return timed(run) end

--- Runs a command of praxlua to its end.
function nemesis.run(s, argv, more) return nemesis.finish(nemesis.start(s, argv, more)) end

--- The words of an upgrade.
---@return string[]
function nemesis.upgrade(s, ...) return { "upgrade", "--source", s.source, ... } end

--- Whether a started command has ended.
---@return boolean
function nemesis.has_ended(run) return helper.read(run.at.code) ~= nil end

--- Kills praxlua, and nothing else.
function nemesis.kill(run)
  command.kill(run, "KILL")
  return command.wait(run)
end

-- What no end of praxlua may look like.
local CRASHES = { "stack traceback", "internal error", "attempt to ", "AddressSanitizer",
  "runtime error:", "Assertion" }
local DOCUMENTED = { [0] = true, [1] = true, [2] = true, [3] = true, [4] = true, [5] = true,
  [6] = true, [129] = true, [130] = true, [143] = true }

--- What is wrong with the way a command ended, whatever it was to do.
---@return string|nil
function nemesis.crash(result)
  if not DOCUMENTED[result.code] then
    return ("exit %d, which is not documented: %s"):format(result.code, nemesis.brief(result))
  end
  for _, sign in ipairs(CRASHES) do
    if result.said:find(sign, 1, true) then return "crashed: " .. nemesis.brief(result) end
  end
end

--- The end of what a command said, on one line.
function nemesis.brief(result)
  local text = (result.stderr ~= "" and result.stderr or result.stdout):gsub("%s+", " ")
  return ("exit %s: %s"):format(tostring(result.code), #text > 400 and "… " .. text:sub(-400)
    or text)
end

-- ---------------------------------------------------------------------------------------------
-- Looking at it

--- The listing of the project as it is.
---@return table listing of the oracle
function nemesis.list(s)
  return judge.ask("list", { root = s.project, target = tiny.NAME })
end

local function differences(one, other, part, ignore, what)
  local problems = judge.ask("compare", { a = one, b = other, part = part, ignore = ignore })
  for i, line in ipairs(problems) do problems[i] = what .. ": " .. line end
  return problems
end

--- How the project differs from what it was before everything.
---@param s table
---@param before table? a listing; that of the beginning when nil
---@return string[] problems
function nemesis.unlike_old(s, before)
  return differences(before or s.before, nemesis.list(s), "all", EMPTY, "not as before")
end

-- The listing that a right upgrade leads to, as the oracle says.
local function expected(s)
  s.after = s.after or judge.ask("expect", { before = s.before, repository = s.source,
    old = s.old_commit, new = s.new_commit, map = MAPPING })
  return s.after
end

--- How the project differs from what a right upgrade makes of it.
---@return string[] problems
function nemesis.unlike_new(s)
  local ignore = { ".gitignore" } -- gets lines of ours
  for _, record in ipairs(nemesis.RECORDS) do ignore[#ignore + 1] = tiny.NAME .. "/" .. record end
  local problems = differences(expected(s), nemesis.list(s), "tree", ignore, "not as upgraded")
  for _, record in ipairs(nemesis.RECORDS) do
    if not lfs.attributes(s.target .. "/" .. record) then
      problems[#problems + 1] = "not as upgraded: no " .. record
    end
  end
  return problems
end

-- Every name below a folder; none where there is no folder.
local function names_below(folder, found)
  found = found or {}
  if lfs.symlinkattributes(folder, "mode") ~= "directory" then return found end
  for name in lfs.dir(folder) do
    if name ~= "." and name ~= ".." then
      local path = folder .. "/" .. name
      found[#found + 1] = path
      if lfs.symlinkattributes(path, "mode") == "directory" then names_below(path, found) end
    end
  end
  return found
end

local LEFTOVERS = { "/%.upgrade$", "/%.upgrade/", "/%.upgrade%-lock$", "/%.partial%-",
  "/%.removing%-", "%.px%-%d" }

--- What an ended run must not leave.
---@return string[] problems
function nemesis.leftovers(s)
  local problems = {}
  for _, path in ipairs(names_below(s.project)) do
    for _, pattern in ipairs(LEFTOVERS) do
      if path:sub(#s.project + 1):find(pattern) then
        problems[#problems + 1] = "left over: " .. path:sub(#s.project + 2)
        break
      end
    end
  end
  return problems
end

--- The live processes that were started for this installation, however they tried to get away: by
--- the mark in their environment, or a path in their command line.
---@return { pid: integer, command: string }[]
function nemesis.strays(s)
  local found = {}
  for name in lfs.dir("/proc") do
    local line = name:find("^%d+$") and helper.read("/proc/" .. name .. "/cmdline") or ""
    local environment = line ~= "" and helper.read("/proc/" .. name .. "/environ") or ""
    if environment:find(s.mark, 1, true) or line:find(s.root .. "/writing.sh", 1, true) then
      found[#found + 1] = { pid = tonumber(name), command = (line:gsub("%z", " ")) }
    end
  end
  return found
end

--- Waits until none of them is left; those that are after that time are the answer.
function nemesis.strays_after(s, seconds)
  command.until_true(function() return #nemesis.strays(s) == 0 end, seconds)
  return nemesis.strays(s)
end

--- Ends them, by their numbers.
function nemesis.end_strays(s)
  for _ = 1, 100 do
    local found = nemesis.strays(s)
    if #found == 0 then return end
    for _, stray in ipairs(found) do os.execute(("kill -9 %d 2>/dev/null"):format(stray.pid)) end
    core.system.sleep(0.02)
  end
  error("processes that cannot be killed")
end

--- The ids of the sessions that a folder or a state file shows as not over.
---@return table<string, { folder: boolean, status: string? }>
function nemesis.sessions(s)
  local found = {}
  for _, name in ipairs(tiny.names(s, ".cache/state")) do
    local id = name:match("^(.*)%.json$")
    local ok, dict = pcall(cjson.decode, tiny.read(s, ".cache/state/" .. name))
    if id then found[id] = { folder = false, status = ok and dict.status or "unreadable" } end
  end
  for _, name in ipairs(tiny.names(s, ".upgrade")) do
    if not name:find("^conflicts%-") then -- those of a session, which its state file shows
      found[name] = found[name] or {}
      found[name].folder = true
    end
  end
  return found
end

--- Adds one list of problems to another, with a word about when.
function nemesis.add(problems, more, when)
  for _, problem in ipairs(more or {}) do
    problems[#problems + 1] = when and when .. ": " .. problem or problem
  end
  return problems
end

--- Adds a problem unless something holds.
function nemesis.check(problems, good, message, ...)
  if not good then
    problems[#problems + 1] = select("#", ...) > 0 and message:format(...) or message
  end
  return good
end

return nemesis
