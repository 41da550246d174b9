--- praxlua is killed, alone, while a tool of its works, and what the tool left tries to live on.
-- Then either nothing is left alive, or the next command says who is and refuses; in no case does
-- an orphan write into an installation that was brought back.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local nemesis = require("spec.faults.nemesis")
local tiny = require("spec.support.tiny")

local orphans = {}

local WRITING = 'while :; do echo x >> "$venv/written"; sleep 0.01; done'

--- What the tool does. `here` is the file with WRITING in it.
local SHAPES = {
  waits = [[. "$here"]],
  child = [[sh "$here" & wait]],
  session = [[setsid sh "$here" & wait]],
  -- Its parent is gone, it has a session and no stream of ours, and takes no notice of signals.
  daemon = [[(setsid sh -c 'trap "" HUP INT TERM; . "$0"' "$here" > /dev/null 2>&1 < /dev/null &)
sleep 600]],
  -- The same without our environment, in another folder.
  stranger = [[(cd / && setsid env -i venv="$venv" PATH="$PATH" sh "$here" > /dev/null 2>&1 &)
sleep 600]],
  -- The tool itself ends, at once.
  leaves = [[(setsid sh -c 'trap "" HUP INT TERM; . "$0"' "$here" > /dev/null 2>&1 < /dev/null &)]],
}
orphans.SHAPES = { "waits", "child", "session", "daemon", "stranger", "leaves" }

local PHASE = [[
local phase = {
  title = "A phase with a tool", after = "content-upgrade",
  grants = { target = "write", tools = { "sh" } }, evidence = { code = integer{} },
}
function phase.run(host)
  local result = need(host.spawn{ "sh", ".praxis-os/tool.sh", timeout = 60 })
  return { code = result.code }
end
return phase
]]

-- pip's own folder, the clone, goes with everything else; what others write is theirs, so they do
-- it elsewhere.
local function script_of(s, tool, shape)
  local here = s.root .. "/writing.sh"
  helper.write(here, WRITING)
  return ('venv=%s here=%s PIP_NEMESIS_MARK=%s\nexport venv here PIP_NEMESIS_MARK\n'
    .. 'echo $$ > "%s/started"\n%s\n'):format(
    tool == "pip" and '"$venv"' or command.quote(s.cache), command.quote(here), s.mark, s.cache,
    SHAPES[shape])
end

-- Which tool of praxlua it is that does this, and the arguments of the upgrade that runs it.
local TOOLS = {}

function TOOLS.pip(s, script)
  nemesis.while_pip_installs(s, script)
  return {}
end

function TOOLS.phase(s, script)
  tiny.write(s, "tool.sh", script)
  return { "--phases", tiny.phase(s, "tool", PHASE) }
end

-- A hook of the project's own repository, at the very end.
function TOOLS.hook(s, script)
  helper.write(s.root .. "/hook", "#!/bin/sh\n" .. script)
  command.succeed({ "sh", "-ec", [[
    cd "$0/project" && git init -q && git add -A && git commit -q -m before
    mkdir -p .git/hooks && cp ../hook .git/hooks/pre-commit && chmod 755 .git/hooks/pre-commit
  ]], s.root }, { scratch = s.scratch, environment = s.environment })
  return { "--git-commit" }
end

orphans.TOOLS = { "pip", "phase", "hook" }

-- ---------------------------------------------------------------------------------------------
-- Killing

local function children_of(pid)
  local found = {}
  for name in lfs.dir("/proc") do
    local stat = name:find("^%d+$") and helper.read("/proc/" .. name .. "/stat")
    if stat and tonumber(stat:match("^.*%) %a (%d+)")) == pid then found[#found + 1] = name end
  end
  return found
end

local KILLERS = {}

-- Only praxlua itself.
function KILLERS.main(pid) os.execute(("kill -9 %d"):format(pid)) end

-- It and its direct children, as when somebody ends all that is called praxlua: it is stopped
-- first, so that it does nothing about the death of the others.
function KILLERS.all(pid)
  os.execute(("kill -STOP %d"):format(pid))
  local all = table.concat(children_of(pid), " ")
  os.execute(("kill -9 %s %d"):format(all, pid))
end

-- Its children stand still, so that nobody tidies up.
function KILLERS.asleep(pid)
  os.execute(("kill -STOP %s 2> /dev/null"):format(table.concat(children_of(pid), " ")))
  KILLERS.main(pid)
end

orphans.KILLERS = { "main", "all", "asleep" }

-- ---------------------------------------------------------------------------------------------
-- Judging

local function names_a_stray(s, result)
  for _, stray in ipairs(nemesis.strays(s)) do
    if result.said:find("%f[%d]" .. stray.pid .. "%f[%D]") then return true end
  end
end

local function describe(strays)
  local list = {}
  for i, stray in ipairs(strays) do list[i] = ("%d (%s)"):format(stray.pid, stray.command) end
  return table.concat(list, ", ")
end

-- Every command that would change something refuses, by the number of the process.
local function refuses(s, problems)
  for _, argv in ipairs({ { "rollback" }, { "resume" }, nemesis.upgrade(s, "--yes") }) do
    local result = nemesis.run(s, argv)
    local strays = nemesis.strays(s)
    if #strays == 0 then return end -- they came to their end meanwhile
    nemesis.check(problems, result.code == 3 and names_a_stray(s, result),
      "%s is alive, and `%s` says: %s", describe(strays), argv[1], nemesis.brief(result))
  end
end

local function is_as_before(s, before, problems)
  local unlike = nemesis.unlike_old(s, before)
  for i = #unlike, 1, -1 do -- git's own folder
    if unlike[i]:find(": .git[/ ]") then table.remove(unlike, i) end
  end
  nemesis.add(problems, unlike)
end

-- Rolls back, as soon as it is let.
local function roll_back(s, problems)
  local result = nemesis.run(s, { "rollback" })
  if result.code ~= 3 then
    local strays = nemesis.strays(s)
    nemesis.check(problems, #strays == 0, "rolled back (exit %d) while %s was alive", result.code,
      describe(strays))
    return result
  end
  if #nemesis.strays(s) > 0 then refuses(s, problems) end
  nemesis.end_strays(s)
  return nemesis.run(s, { "rollback" })
end

-- An upgrade whose tool left something behind, and which was not killed: nothing outlives it.
local function ended_by_itself(s, run, problems)
  local result = nemesis.finish(run)
  local strays = nemesis.strays(s)
  nemesis.check(problems, #strays == 0, "praxlua has ended (exit %d), and %s is alive", result.code,
    describe(strays))
end

--- One upgrade, killed while a tool is at work.
---@param item { tool: string, shape: string, killer: string?, late: boolean? } killer nil: nobody
---  kills it; late: the rollback comes when there was time for all to end
---@return string[] problems
function orphans.one(item)
  local s, problems = nemesis.new(), {}
  local more = TOOLS[item.tool](s, script_of(s, item.tool, item.shape))
  local before = nemesis.list(s)
  local run = nemesis.start(s, nemesis.upgrade(s, table.unpack(more)))
  command.until_true(function()
    return helper.read(s.cache .. "/started") or helper.read(run.at.code)
  end, 20)
  if not helper.read(s.cache .. "/started") then
    nemesis.kill(run)
    return { "the tool was not started: " .. nemesis.brief(nemesis.finish(run)) }
  end
  if item.killer then
    core.system.sleep(0.05)
    KILLERS[item.killer](run.pid)
    command.wait(run)
    if item.late then nemesis.strays_after(s, 3) end
    local result = roll_back(s, problems)
    nemesis.check(problems, result.code == 0, "rollback: %s", nemesis.brief(result))
    core.system.sleep(0.05)
    is_as_before(s, before, problems)
    nemesis.add(problems, nemesis.leftovers(s))
  else
    ended_by_itself(s, run, problems)
  end
  nemesis.end_strays(s)
  return problems
end

return orphans
