--- Many commands on one installation at the same moment.
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local nemesis = require("spec.faults.nemesis")

local storm = {}

-- How many seconds somebody may be kept waiting to hear that another one is at work, with as many
-- others starting at the same moment on a machine that is busy as well. (That it takes less than a
-- second otherwise is looked at in onlooker.lua.)
local PATIENCE = 20

-- Runs storm.py; the accounts of all commands, in order of their end.
local function run(s, given)
  given.directory, given.environment = s.project, s.environment
  local path = s.root .. "/storm.json"
  helper.write(path, cjson.encode(given))
  local out = command.succeed({ "python3", "spec/faults/storm.py", path },
    { scratch = s.scratch, seconds = 300 })
  local accounts = {}
  for line in out:gmatch("[^\n]+") do
    local account = cjson.decode(line)
    account.said = account.stdout .. account.stderr
    accounts[#accounts + 1] = account
  end
  table.sort(accounts, function(a, b) return a.ended < b.ended end)
  return accounts
end

local function commands(s, list)
  local all = {}
  for i, argv in ipairs(list) do all[i] = { argv = { s.executable, table.unpack(argv) } } end
  return all
end

-- While pip installs, nobody else may: the folder is a lock of our own.
local TAKE_TURNS = [[
touch "$HOME/.cache/pip-was-here"
mkdir "$HOME/.cache/only-one" || echo "two at once: $$" >> "$HOME/.cache/two-at-once"
%s
rmdir "$HOME/.cache/only-one"
]]

local function two_at_once(s)
  local said = helper.read(s.cache .. "/two-at-once")
  local was_here = os.remove(s.cache .. "/pip-was-here")
  if not was_here then return { "nobody installed anything" } end
  return said and { "two owners at once: " .. said:gsub("%s+", " ") } or {}
end

-- One loser of the starters: exit 6, soon, and the winner named.
local function check_loser(problems, account, winner)
  nemesis.check(problems, account.code == 6, "a second starter: %s", nemesis.brief(account))
  nemesis.check(problems, account.seconds < PATIENCE, "a second starter waited %.1f s",
    account.seconds)
  nemesis.check(problems, account.said:find("process " .. math.tointeger(winner.pid), 1, true),
    "a second starter was not told of process %d: %s", winner.pid, nemesis.brief(account))
end

--- So many upgrades at the same moment: one works, the others exit 6.
---@param starters integer
---@return string[] problems
function storm.starters(starters)
  local s, problems, list = nemesis.new(), {}, {}
  local gate = s.root .. "/gate"
  nemesis.while_pip_installs(s, TAKE_TURNS:format(
    ('i=0; while [ ! -e "%s" ] && [ $i -lt 3000 ]; do sleep 0.01; i=$((i+1)); done'):format(gate)))
  for i = 1, starters do list[i] = nemesis.upgrade(s) end
  local accounts = run(s, { commands = commands(s, list), seconds = 60, open = gate })
  local winner = accounts[#accounts]
  nemesis.check(problems, winner.code == 0, "the first starter: %s", nemesis.brief(winner))
  for i = 1, #accounts - 1 do check_loser(problems, accounts[i], winner) end
  nemesis.add(problems, two_at_once(s))
  nemesis.add(problems, nemesis.unlike_new(s))
  nemesis.add(problems, nemesis.leftovers(s))
  local sessions = 0
  for _ in pairs(nemesis.sessions(s)) do sessions = sessions + 1 end
  nemesis.check(problems, sessions == 1, "%d sessions, not 1", sessions)
  return problems
end

-- What may happen to a command when others are at work: it is done or has nothing to do (0), is
-- rolled back (1), is refused (3), has to be told which session (2), or another one works (6).
local ALLOWED = { [0] = true, [1] = true, [2] = true, [3] = true, [4] = true, [6] = true }

local function mixed_list(s, random, number)
  local kinds = {
    nemesis.upgrade(s), nemesis.upgrade(s, "--yes"), { "rollback" }, { "resume" },
    { "backup", "create" }, { "status" }, nemesis.upgrade(s, "--dry-run"), { "backup", "list" },
    { "backup", "prune", "--keep", "1" }, { "backup", "restore", "--yes" },
  }
  local list = {}
  for i = 1, number do list[i] = kinds[random(#kinds)] end
  return list
end

local function settle(s, problems)
  for _ = 1, 5 do
    local result = nemesis.run(s, nemesis.upgrade(s, "--yes"))
    if result.code == 0 then return true end
    if result.code ~= 1 and result.code ~= 3 then break end
  end
  problems[#problems + 1] = "after the storm no upgrade succeeds: "
    .. nemesis.brief(nemesis.run(s, nemesis.upgrade(s, "--yes")))
end

--- Every kind of command at the same moment, several times over; afterwards one upgrade leads to
--- exactly the new state.
---@param random fun(n: integer): integer
---@param number integer of commands at a time
---@param waves integer
---@return string[] problems
function storm.mixed(random, number, waves)
  local s, problems = nemesis.new(), {}
  nemesis.while_pip_installs(s, TAKE_TURNS:format("sleep 0.05"))
  local accounts = run(s, { commands = commands(s, mixed_list(s, random, number)), seconds = 60,
    waves = waves })
  for _, account in ipairs(accounts) do
    local verb = account.argv[2]
    local good = ALLOWED[account.code] and not (verb == "status" and account.code ~= 0)
    nemesis.check(problems, good, "%s: %s", table.concat(account.argv, " ", 2),
      nemesis.brief(account))
    nemesis.add(problems, { nemesis.crash(account) }, verb)
  end
  local settled = settle(s, problems)
  nemesis.add(problems, two_at_once(s)) -- the upgrade that settles it installs for certain
  if settled then nemesis.add(problems, nemesis.unlike_new(s)) end
  nemesis.add(problems, nemesis.leftovers(s))
  return problems
end

return storm
