--- Runs hostile phases, each with a supervisor and a scene of its own, and looks for what one has
--- left: processes, files, changes outside its roots.
--
-- The supervisor (one.lua) is ended after a time when it hangs. All that a case starts is known by
-- its token, the name of its directory: it is in the paths it works in and in its environment.
local cases = require("spec.sandbox.cases")
local cjson = require("cjson")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local scene = require("spec.sandbox.scene")

local pool = {}

local quote = command.quote
local SECONDS = 60 -- for a whole case: reading the phase, running it, undoing it
local LUA = os.getenv("LUA") or "lua5.4"

--- The executables of the levels, in the order of the runs. "raw" is for the cases that ask for it.
pool.LEVELS = { "strongest", "unconfined", "raw" }

--- Whether a case runs at a level.
---@param case table
---@param level string
---@return boolean
function pool.applies(case, level)
  if case.host == "raw" then return level == "raw" end
  return level == "strongest" or level == "unconfined" and case.only ~= "strongest"
end

local function belongs(pid, token)
  for _, name in ipairs({ "cmdline", "environ" }) do
    if (helper.read(("/proc/%d/%s"):format(pid, name)) or ""):find(token, 1, true) then
      return true
    end
  end
  local cwd = lfs.symlinkattributes(("/proc/%d/cwd"):format(pid), "target")
  return cwd ~= nil and cwd:find(token, 1, true) ~= nil
end

-- A worker knows its supervisor by number.
local function is_worker_of(pid, supervisor)
  local words = helper.read(("/proc/%d/cmdline"):format(pid)) or ""
  return words:find(("^praxlua%%z%%-%%-worker%%z%d%%z"):format(supervisor)) ~= nil
end

local function left_running(token, supervisor)
  local found = {}
  for name in lfs.dir("/proc") do
    local pid = math.tointeger(tonumber(name))
    if pid and (belongs(pid, token) or is_worker_of(pid, supervisor)) then
      found[#found + 1] = pid
    end
  end
  return found
end

-- What runs on is told and ended. A process that is just ending gets a second.
local function check_processes(problems, token, supervisor)
  local found
  command.until_true(function()
    found = left_running(token, supervisor)
    return #found == 0
  end, 1)
  for _, pid in ipairs(found) do
    local words = helper.read(("/proc/%d/cmdline"):format(pid)) or ""
    problems[#problems + 1] = ("process %d was left: %s"):format(pid, (words:gsub("%z", " ")))
    os.execute(("kill -KILL %d 2>/dev/null"):format(pid))
  end
end

local function check_files(problems, directory, before)
  for _, name in ipairs({ "tmp", "home" }) do
    for _, entry in ipairs(assert(core.tree.list(directory .. "/" .. name))) do
      problems[#problems + 1] = ("left in the %s directory: %s"):format(
        name == "tmp" and "temporary" or name, entry.path)
    end
  end
  for _, name in ipairs({ "outside", "source" }) do
    if scene.portrait(directory .. "/" .. name, true) ~= before[name] then
      problems[#problems + 1] = "changed outside its roots: " .. name
    end
  end
end

local function environment(case, directory, executable)
  return ("env -u LUA_INIT -u LUA_INIT_5_4 TMPDIR=%s/tmp HOME=%s/home SECRET_OF_OURS=%s "
    .. "LC_PRAXLUA_CASE=%s PATH=%s PRAXLUA_HOST=%s %s"):format(quote(directory), quote(directory),
    "not-for-tools", quote(directory:match("[^/]+$")), quote(".::" .. os.getenv("PATH")),
    quote(executable), case.environment or "")
end

-- Runs the supervisor of a case to its end: what it wrote down, what it printed, its number.
local function supervise(case, level, executable, directory)
  local line = ("ulimit -c unlimited; echo $$; exec %s timeout --foreground --kill-after=2 %d %s "
    .. "spec/sandbox/one.lua %s %s %s 2>&1"):format(environment(case, directory, executable),
    SECONDS, quote(LUA), case.id, level, quote(directory))
  local pipe = assert(io.popen(line))
  local shell = math.tointeger(tonumber(pipe:read("l")))
  local output = pipe:read("a")
  pipe:close()
  local data = helper.read(directory .. ".result")
  local result = data and cjson.decode(data) or { verdict = "killed", message = output }
  result.problems = result.problems or {}
  if not data and not cases.expects(case, "killed") then
    table.insert(result.problems, "the supervisor died or hung: " .. output:sub(-1500))
  elseif data and output ~= "" then
    table.insert(result.problems, "the supervisor printed: " .. output:sub(1, 500))
  end
  return result, result.pid or shell
end

--- Runs one case at one level.
---@param case table
---@param level string
---@param executable string
---@param base string a folder for its directory
---@return { verdict: string?, message: string?, seconds: number?, problems: string[]?,
---  skipped: string? } result
function pool.run(case, level, executable, base)
  local directory = ("%s/case-%s-%s-%s"):format(base, case.id, level, core.system.uuid())
  scene.make(directory)
  local before = {}
  for _, name in ipairs({ "outside", "source" }) do
    before[name] = scene.portrait(directory .. "/" .. name, true)
  end
  local result, supervisor = supervise(case, level, executable, directory)
  check_processes(result.problems, directory:match("[^/]+$"), supervisor)
  if not result.skipped then check_files(result.problems, directory, before) end
  os.execute(("chmod -R u+rwx %s 2>/dev/null; rm -rf %s %s.result"):format(quote(directory),
    quote(directory), quote(directory)))
  if #result.problems == 0 then result.problems = nil end
  return result
end

--- Where the scenes of a run are: in memory where the machine has that, as there are many syncs.
---@return string path a new directory
function pool.base()
  local in_memory = core.system.access("/dev/shm", "w")
  local base = (in_memory and "/dev/shm" or os.getenv("TMPDIR") or "/tmp") .. "/praxlua-sandbox-"
    .. core.system.uuid()
  assert(lfs.mkdir(base))
  return base
end

return pool
