--- A person who saves files all the time while praxlua works: editor.py saves and judges, this
-- module lets praxlua upgrade, fail, be killed, resume, roll back and undo meanwhile.
local cjson = require("cjson")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local nemesis = require("spec.faults.nemesis")
local tiny = require("spec.support.tiny")

local person = {}

local BY_PATH = { "write", "rename", "swap" }

local function shipped(path, ways) return { path = tiny.NAME .. "/" .. path, ways = ways } end

local function own(path, ways)
  return { path = tiny.NAME .. "/" .. path, ways = ways, own = true }
end

--- What the person works on: shipped files that the second release changes, removes, adds, or
--- leaves, records of the upgrade itself, and files of the person's own.
person.FILES = {
  shipped("standards/universal/testing/long.md", BY_PATH),
  shipped("standards/universal/ai-assistant/guide.md", { "rename", "write", "swap" }),
  shipped("standards/universal/testing/log.md", { "append" }),
  shipped("standards/universal/testing/steady.md", { "swap", "write", "rename" }),
  shipped("standards/universal/testing/retired.md", { "write", "rename", "swap" }),
  shipped("standards/universal/testing/fresh.md", { "write", "rename", "swap", "delete" }),
  shipped("workflows/flow/phase.md", { "rename", "delete", "swap", "write" }),
  shipped("UPDATE_LOG.txt", { "append" }),
  shipped("VERSION.txt", { "append" }),
  { path = ".gitignore", ways = { "append" } },
  own("standards/development/mine.md", { "write", "rename", "swap", "chmod", "delete" }),
  own("standards/development/diary.log", { "append", "append", "chmod" }),
  own("specs/plan.md", { "rename", "write", "chmod" }),
}

--- Folders in which files come into being that were never there.
person.NEW = {
  tiny.NAME .. "/standards/universal/testing", tiny.NAME .. "/standards/development",
  tiny.NAME .. "/mcp_server", tiny.NAME .. "/specs",
}

local EDITOR = "spec/faults/editor.py"

--- Sits the person down before an installation. Nothing is saved before person.begin or
--- person.once.
---@param s table of nemesis.new
---@param options { seed: integer, pause: number?, files: table?, new: table? }
---@return table p
function person.new(s, options)
  local p = {
    s = s, plan = s.root .. "/person.json", log = s.root .. "/saves", quiet = s.root .. "/quiet",
    stop = s.root .. "/stop", ask = s.root .. "/ask", answer = s.root .. "/answer", told = "",
  }
  helper.write(p.plan, cjson.encode({
    root = s.project, files = options.files or person.FILES, new = options.new or person.NEW,
    seed = options.seed, pause = options.pause or 0.01, stop = p.stop, quiet = p.quiet,
    ask = p.ask, answer = p.answer,
  }))
  return p
end

local function argv(p, verb, ...)
  return { "python3", EDITOR, verb, p.plan, p.log, ... }
end

local function options_of(p) return { scratch = p.s.scratch, seconds = 120 } end

--- Lets the person save, one file after the other.
function person.begin(p)
  p.run = command.start(argv(p, "run"), options_of(p))
  assert(command.until_true(function() return helper.read(p.log) end, 10), "nobody saves")
end

--- Sends the person for coffee, and back to work.
---@param quiet boolean
function person.rest(p, quiet)
  if quiet then return helper.write(p.quiet, "") end
  os.remove(p.quiet)
end

-- Tells the person who waits at the fifo to save, and waits until that is done.
local NUDGE = 'echo "$2" > "$0" && read done < "$1"'

--- Lets the person open what lines are added to, and wait.
---@return string[] hook for tracer.run: each file is saved once when it runs
function person.attend(p)
  os.remove(p.log)
  assert(os.execute(("rm -f %s %s && mkfifo %s %s"):format(p.ask, p.answer, p.ask, p.answer)))
  p.run = command.start(argv(p, "attend"), options_of(p))
  return { "sh", "-c", NUDGE, p.ask, p.answer }
end

--- Ends that.
---@return string[] problems
function person.go_home(p)
  helper.write(p.ask, "go home\n")
  local result = command.wait(p.run)
  return result.code == 0 and {} or { "the person failed: " .. result.stderr:sub(-500) }
end

--- The last save.
---@return string[] problems
function person.stop_saving(p)
  helper.write(p.stop, "")
  local result = command.wait(p.run)
  return result.code == 0 and {} or { "the person failed: " .. result.stderr:sub(-500) }
end

--- Remembers what praxlua said to people.
---@param result table of nemesis.run
---@return table result
function person.listen(p, result)
  p.told = p.told .. result.said
  return result
end

--- Whether every save is still there.
---@return string[] problems
function person.judge(p)
  local told = p.s.root .. "/told"
  helper.write(told, (p.told:gsub("\\/", "/")))
  local result = command.run(argv(p, "judge", told), options_of(p))
  if result.code == 0 then
    p.saves = math.tointeger(tonumber(result.stdout:match("%d+")))
    return {}
  end
  local problems = {}
  for line in (result.stdout .. result.stderr):gmatch("[^\n]+") do
    problems[#problems + 1] = line
  end
  return problems
end

-- ---------------------------------------------------------------------------------------------
-- Stories


-- Starts a command that has to go through phases, and waits for one of them.
local function start_until(p, argv_of, number)
  local run = nemesis.start(p.s, argv_of)
  if number then
    command.await(run, function(event)
      return event.event == "phase_started" and event.number == number
    end)
  end
  return run
end

local function upgrade(s, ...) return nemesis.upgrade(s, "--json", "--on-conflict", "ours", ...) end

-- An upgrade with the person at work from the beginning of a phase on.
local function upgrade_from_phase(p, number)
  local run = start_until(p, upgrade(p.s), number)
  person.rest(p, false)
  return person.listen(p, nemesis.finish(run))
end

local stories = {}

--- The person saves from a phase on, to the end of the upgrade and a little longer.
function stories.upgrade(p, random, problems)
  local result = upgrade_from_phase(p, random(6) - 1)
  nemesis.add(problems, { nemesis.crash(result) })
end

--- The last phase but one fails, and what was done is undone under the person's hands.
function stories.failing(p, random, problems)
  tiny.commit(p.s, { ["mcp_server/fault"] = "dies\n" })
  local result = upgrade_from_phase(p, random(4) + 1)
  nemesis.check(problems, result.code == 1 or result.code == 3, "a failing upgrade: %s",
    nemesis.brief(result))
end

-- Kills an upgrade a moment after a phase began, with the person at work.
local function killed(p, random)
  local run = start_until(p, upgrade(p.s), random(5))
  person.rest(p, false)
  core.system.sleep(random(100) / 1000)
  local result = nemesis.kill(run)
  p.told = p.told .. result.stdout .. result.stderr
end

local function recover(p, verb, problems)
  for _ = 1, 3 do
    local result = person.listen(p, nemesis.run(p.s, { verb, "--json" }))
    nemesis.add(problems, { nemesis.crash(result) }, verb)
    if result.code ~= 5 then return result end
  end
  problems[#problems + 1] = verb .. " ends with 5 again and again"
end

--- Killed, and rolled back while the person goes on saving.
function stories.rollback(p, random, problems)
  killed(p, random)
  recover(p, "rollback", problems)
end

--- Killed, and resumed while the person goes on saving; what cannot be resumed is rolled back.
function stories.resume(p, random, problems)
  killed(p, random)
  local result = recover(p, "resume", problems)
  if result and result.code ~= 0 then recover(p, "rollback", problems) end
end

--- A completed upgrade is undone under the person's hands.
function stories.undo(p, random, problems)
  local result = person.listen(p, nemesis.run(p.s, upgrade(p.s)))
  nemesis.check(problems, result.code == 0, "the upgrade: %s", nemesis.brief(result))
  person.rest(p, false)
  core.system.sleep(random(100) / 1000)
  result = person.listen(p, nemesis.run(p.s, { "rollback", "--json",
    random(2) == 1 and "--on-conflict=ours" or "--on-conflict=stop" }))
  nemesis.add(problems, { nemesis.crash(result) }, "undo")
end

person.STORIES = { "upgrade", "failing", "rollback", "resume", "undo" }

-- After every story the way forward is open, and then nothing is left over.
local function settle(p, problems)
  if not next(nemesis.leftovers(p.s)) then return end
  local result = person.listen(p, nemesis.run(p.s, { "rollback", "--json" }))
  nemesis.check(problems, result.code == 0, "at the end, rollback: %s", nemesis.brief(result))
  nemesis.add(problems, nemesis.leftovers(p.s))
end

--- One story, with the person at work.
---@param name string of person.STORIES
---@param random fun(n: integer): integer
---@param seed integer
---@return string[] problems
---@return integer saves found
function person.story(name, random, seed)
  local s, problems = nemesis.new(), {}
  local p = person.new(s, { seed = seed, pause = ({ 0.002, 0.01, 0.05 })[random(3)] })
  helper.write(s.root .. "/saves", "")
  person.rest(p, true)
  person.begin(p)
  stories[name](p, random, problems)
  core.system.sleep(0.03)
  nemesis.add(problems, person.stop_saving(p))
  settle(p, problems)
  nemesis.add(problems, person.judge(p))
  return problems, p.saves or 0
end

return person
