--- What the dogfood runs share: a clone of the real source repository to work with, an environment
-- of their own, and how they speak and fail. PRAXLUA_DOGFOOD_SOURCE names the repository; nothing
-- is fetched, and it is only read.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

local stage = {}

-- Its own .praxis-os is left out: the cache in it is large, and not needed.
local CLONE = [[
cd "$0"
mkdir -p home runs
cat > home/.gitconfig <<'END'
[user]
	name = A
	email = a@example.invalid
[safe]
	directory = *
END
git clone -q --no-checkout "$1" source
cd source
git sparse-checkout set --no-cone '/*' '!/.praxis-os/'
git checkout -q
git rm -rq --sparse --cached .praxis-os
]]

local function environment(root, temporary)
  local all = core.system.environment()
  all.HOME, all.GIT_CONFIG_NOSYSTEM, all.LC_ALL = root .. "/home", "1", "C.UTF-8"
  all.XDG_CACHE_HOME = nil -- in the home folder
  all.TMPDIR = temporary
  return all
end

--- Writes a line on stdout, at once.
function stage.say(...)
  io.stdout:write(string.format(...), "\n")
  io.stdout:flush()
end

--- Raises what the run fails with, unless something holds.
function stage.check(holds, ...)
  if not holds then error(string.format(...), 0) end
  return holds
end

--- Calls a function; its result and the seconds it took.
function stage.timed(action)
  local began = core.system.monotonic()
  local result = action()
  return result, core.system.monotonic() - began
end

--- Runs shell lines that have to succeed, with the root as $0 and further arguments.
function stage.sh(s, script, ...)
  return command.succeed({ "sh", "-euc", script, s.root, ... },
    { scratch = s.scratch, environment = s.environment, seconds = 3600 })
end

-- Where a run works. What the servers leave in the temporary folder goes with it; its name is
-- short, as Chromium makes a socket there.
local function make()
  local root = helper.tempdir()
  local s = { root = root, source = root .. "/source", project = root .. "/project",
    target = root .. "/project/" .. tiny.NAME, scratch = root .. "/runs",
    executable = tiny.executable() }
  s.temporary = ("%s/praxlua-%s"):format(root:match("^(.*)/"), core.system.uuid():sub(1, 8))
  s.environment = environment(root, s.temporary)
  assert(core.file.mkdir(s.scratch))
  assert(core.file.mkdir(s.temporary))
  return s
end

--- Runs a dogfood run: run(s), and leave(s) whatever happened. Ends the process with 1 when it
--- fails.
---@param run fun(s: table)
---@param leave fun(s: table)?
function stage.perform(run, leave)
  local from = os.getenv("PRAXLUA_DOGFOOD_SOURCE")
  if not from or from == "" then
    io.stderr:write("dogfood: SKIPPED: name a clone of the real source repository with "
      .. "PRAXLUA_DOGFOOD_SOURCE=DIR\n")
    return
  end
  local s = make()
  local ok, message = xpcall(function()
    stage.sh(s, CLONE, stage.check(core.file.realpath(from), "%s: there is no such folder", from))
    run(s)
  end, function(problem)
    return os.getenv("V") and debug.traceback(problem) or problem
  end)
  if leave then
    local left, why = pcall(leave, s)
    if not left then ok, message = false, (message or "") .. "\n" .. tostring(why) end
  end
  assert(core.tree.remove(s.temporary))
  helper.clean()
  if ok then return end
  io.stderr:write("dogfood: ", tostring(message), "\n")
  os.exit(1)
end

return stage
