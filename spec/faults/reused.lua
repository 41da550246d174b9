--- Numbers that mean something else by now: a program for namespaces of its own, started by
-- reused.run. After an owner's death another process gets the owner's number, or the number of its
-- tool; or the machine has another boot id, as after a restart.
--
--   lua5.4 spec/faults/reused.lua owner|tool|boot      prints the problems, one a line
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local nemesis = require("spec.faults.nemesis")

local reused = {}

--- What can be reused.
reused.CASES = { "owner", "tool", "boot" }

-- The shell is the first process there, and reaps what others left: a dead process that nobody
-- reaps keeps the number of its group taken.
local IN_NAMESPACES = "unshare --mount --pid --fork --mount-proc "
  .. "sh -c '%s spec/faults/reused.lua %s; exit $?' 2>&1"

--- Whether this machine lets us make the namespaces.
---@return boolean
function reused.is_possible()
  return os.execute("unshare --mount --pid --fork --mount-proc "
    .. "test -w /proc/sys/kernel/ns_last_pid 2> /dev/null") == true
end

--- Runs one case in namespaces of its own.
---@param case string of reused.CASES
---@return string[] problems
function reused.run(case)
  local pipe = assert(io.popen(IN_NAMESPACES:format(os.getenv("LUA") or "lua5.4", case)))
  local problems = {}
  for line in pipe:lines() do problems[#problems + 1] = line end
  if not pipe:close() and #problems == 0 then problems[1] = "the case did not come to its end" end
  return problems
end

-- ---------------------------------------------------------------------------------------------
-- Inside

-- A foreign process with a certain number: the next one that this shell forks, unless somebody else
-- is forked in between, or still has it.
local function process_with(pid)
  assert(command.until_true(function()
    local pipe = assert(io.popen(("echo %d > /proc/sys/kernel/ns_last_pid; "
      .. "sleep 100 > /dev/null & echo $!"):format(pid - 1)))
    local got = pipe:read("n")
    pipe:close()
    if got ~= pid then os.execute(("kill -9 %d 2> /dev/null"):format(got)) end
    return got == pid
  end, 10), ("no process got the number %d"):format(pid))
end

local function is_alive(pid)
  local stat = helper.read(("/proc/%d/stat"):format(pid))
  return stat ~= nil and not stat:find("%) [ZX] ")
end

-- An upgrade in the middle of an installation by pip.
local function at_work()
  local s = nemesis.new()
  nemesis.while_pip_installs(s, ('echo $$ > "%s/tool"; while :; do sleep 0.01; done'):format(
    s.cache))
  local run = nemesis.start(s, nemesis.upgrade(s))
  assert(command.until_true(function() return helper.read(s.cache .. "/tool") end, 20), "no tool")
  core.system.sleep(0.02)
  return s, run, tonumber(helper.read(s.cache .. "/tool"))
end

local function is_refused_properly(s, problems, foreign)
  local status = nemesis.run(s, { "status" })
  nemesis.check(problems, status.code == 0
    and not status.said:find("process " .. foreign .. "%f[%D]"), "status speaks of process %d: %s",
    foreign, nemesis.brief(status))
  local result = nemesis.run(s, nemesis.upgrade(s))
  nemesis.check(problems, result.code == 3 and result.said:find("praxlua resume", 1, true)
    and result.said:find("praxlua rollback", 1, true), "upgrade: %s", nemesis.brief(result))
end

local function rolls_back(s, problems)
  local result = nemesis.run(s, { "rollback" })
  nemesis.check(problems, result.code == 0, "rollback: %s", nemesis.brief(result))
  nemesis.add(problems, nemesis.unlike_old(s))
  nemesis.add(problems, nemesis.leftovers(s))
end

local cases = {}

-- Another process has the number of the dead owner.
function cases.owner(problems)
  local s, run = at_work()
  nemesis.kill(run)
  nemesis.strays_after(s, 5)
  process_with(run.pid)
  is_refused_properly(s, problems, run.pid)
  rolls_back(s, problems)
  nemesis.check(problems, is_alive(run.pid), "the foreign process was ended")
end

-- The watcher cannot tidy up, and another process has the number of the tool.
function cases.tool(problems)
  local s, run, tool = at_work()
  os.execute(("kill -STOP %d"):format(run.pid))
  for _, stray in ipairs(nemesis.strays(s)) do
    os.execute(("kill -9 %d 2> /dev/null"):format(stray.pid))
  end
  command.wait(run)
  nemesis.strays_after(s, 5)
  process_with(tool)
  rolls_back(s, problems)
  nemesis.check(problems, is_alive(tool), "the foreign process was ended")
end

-- The record of a tool is of another boot: whatever has that number now is somebody else, however
-- much it looks like the tool.
function cases.boot(problems)
  local s, run, tool = at_work()
  for _, stray in ipairs(nemesis.strays(s)) do
    if stray.pid ~= tool then os.execute(("kill -STOP %d 2> /dev/null"):format(stray.pid)) end
  end
  os.execute(("kill -9 %d"):format(run.pid))
  command.wait(run)
  local result = nemesis.run(s, { "rollback" })
  nemesis.check(problems, result.code == 3 and result.said:find("%f[%d]" .. tool .. "%f[%D]"),
    "the tool %d is alive, and rollback says: %s", tool, nemesis.brief(result))
  helper.write(s.root .. "/boot_id", "00000000-0000-4000-8000-000000000000\n")
  command.succeed({ "mount", "--bind", s.root .. "/boot_id", "/proc/sys/kernel/random/boot_id" },
    { scratch = s.scratch })
  result = nemesis.run(s, { "rollback" })
  nemesis.check(problems, result.code == 0, "after a restart, rollback: %s", nemesis.brief(result))
  nemesis.check(problems, is_alive(tool), "the process was ended")
  nemesis.add(problems, nemesis.leftovers(s))
  command.succeed({ "umount", "/proc/sys/kernel/random/boot_id" }, { scratch = s.scratch })
end

local function main(case)
  local problems = {}
  local ok, message = xpcall(cases[case], debug.traceback, problems)
  if not ok then problems[#problems + 1] = message end
  for _, problem in ipairs(problems) do print((problem:gsub("\n", " "))) end
  helper.clean()
  os.exit(#problems == 0)
end

if arg and arg[0] and arg[0]:find("reused%.lua$") then
  assert(lfs.attributes("/proc/1/cmdline"), "no /proc")
  main(arg[1])
end

return reused
