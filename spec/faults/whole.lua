--- A damaged file and a whole command of praxlua: it ends in one of the documented ways, says what
-- to do, and whoever does what it says gets an installation that is exactly old or exactly new.
local damage = require("spec.faults.damage")
local judge = require("spec.faults.judge")
local lfs = require("lfs")
local tracer = require("spec.faults.tracer")

local whole = {}

local STEPS = 5 -- commands that a person tries before giving up

-- ---------------------------------------------------------------------------------------------
-- Scenes

-- Ends the scenario's upgrade at a call.
local function kill_at(s, n)
  local killed = tracer.run({ argv = { s.executable, table.unpack(s.argv) },
    environment = s.environment, directory = s.project, root = s.project,
    executable = s.executable, mode = "after", at = n })
  assert(killed.hit, "the call was not reached")
end

local function upgrade_of(s) return { "upgrade", "--source", s.source } end

local OPEN = {
  status = function() return { "status" } end, resume = function() return { "resume" } end,
  rollback = function() return { "rollback" } end, upgrade = upgrade_of,
  yes = function(s) return { "upgrade", "--source", s.source, "--yes" } end,
}

--- Each has a scenario, the files that can be damaged, and commands by name.
whole.SCENES = {
  -- An upgrade that was killed in phase 3.
  open = {
    scenario = "rollback", commands = OPEN,
    files = { "state", "previous", "state+previous", "journal", "copy", "journal+copy", "plan",
      "undo", "stage", "lock", "manifest", "archive", "requirements",
      "journal+copy+state+previous" },
  },
  -- One that was killed anywhere.
  begun = {
    scenario = "upgrade", commands = OPEN, kill = true,
    files = { "state", "previous", "state+previous", "journal", "copy", "journal+copy", "plan",
      "lock" },
  },
  -- One that is complete, with its backup.
  done = {
    scenario = "undo",
    files = { "state", "previous", "state+previous", "manifest", "archive", "requirements" },
    commands = {
      status = OPEN.status, rollback = OPEN.rollback, resume = OPEN.resume,
      verify = function() return { "backup", "verify" } end,
      list = function() return { "backup", "list", "--verify" } end,
      restore = function() return { "backup", "restore", "--yes" } end,
    },
  },
  -- None yet.
  ready = {
    scenario = "upgrade", files = { "installed" },
    commands = { upgrade = upgrade_of, status = OPEN.status, yes = OPEN.yes },
  },
}

-- ---------------------------------------------------------------------------------------------
-- The way out

local function add(problems, ...) problems[#problems + 1] = string.format(...) end

local function run(s, argv, problems)
  local result = judge.run(s, argv)
  for _, problem in ipairs(result.problems) do
    add(problems, "`%s`: %s", table.concat(argv, " "), problem)
  end
  return result
end

-- The commands that a command tells its user to run; and whether that leaves it to a person to
-- choose a backup, which may be of an older version than that before this upgrade.
local function told(result)
  local found = {}
  local text = ("%s\n%s"):format(tostring(result.last.message), tostring(result.last.next))
  local to_choose
  text, to_choose = text:gsub("praxlua backup restore NAME", "")
  for words in text:gmatch("praxlua (%l[%l%d %-]*)") do
    local argv = {}
    for word in words:gmatch("%S+") do argv[#argv + 1] = word end
    if argv[1] == "backup" and argv[2] == "restore" then argv[#argv + 1] = "--yes" end
    local known = argv[1] == "resume" or argv[1] == "rollback"
      or argv[1] == "backup" and argv[2] == "restore"
    if known then found[#found + 1] = argv end
  end
  return found, to_choose > 0
end

local function is_open(s)
  local _, open = judge.sessions(s)
  return open ~= nil
end

-- Does what each command says, until one succeeds.
local function follow(s, result, random, problems)
  local tried = {}
  for _ = 1, STEPS do
    if result.code == 0 or result.code == 1 then return end
    local ways, to_choose = told(result)
    local argv = ways[random(math.max(#ways, 1))]
    if not argv then
      if is_open(s) and not to_choose then
        add(problems, "exit %s tells no way out", tostring(result.code))
      end
      return
    end
    local line = table.concat(argv, " ")
    if tried[line] and result.code == 5 then
      add(problems, "`%s` ends with 5 again and again", line)
      return
    end
    tried[line] = true
    result = run(s, argv, problems)
  end
  add(problems, "after %d commands there is no end: exit %s: %s", STEPS, tostring(result.code),
    tostring(result.last.message))
end

-- What a restore puts aside of a session whose undo data is lost stays, and is told; and so does a
-- damaged file of a session that is over, or of which there is only one generation.
local function settled(s, version, item, problems)
  local of_backup = { manifest = true, archive = true, requirements = true }
  local stays = item.stays or item.file:find("state+previous", 1, true)
  for _, problem in ipairs(judge.settled(s, version)) do
    local of_state = problem:find("/.cache/state/", 1, true) or problem:find("state file", 1, true)
    local is_damage = of_backup[item.file] and problem:find("^backup ")
    if not problem:find("/.upgrade/lost-", 1, true) and not (stays and of_state) and not is_damage
      and not problem:find("^left behind: [^/]*/%.upgrade$") then
      add(problems, "%s", problem)
    end
  end
end

-- Whether the installation differs from one of the two only by names that praxlua gave to what it
-- found in the place of its own, and by the records, which count them.
local function only_kept(difference)
  for part in (difference .. " | "):gmatch("not %l+: (.-) | ") do
    local others, kept = 0, 0
    for line in (part .. "; "):gmatch("(.-); ") do
      if line:find("^extra: .*%.kept%-") then
        kept = kept + 1
      elseif not line:find("UPDATE_LOG.txt: ", 1, true)
        and not line:find("INSTALLATION_SUMMARY.md: ", 1, true) then
        others = others + 1
      end
    end
    if kept > 0 and others == 0 then return true end
  end
  return false
end

local function version_of(s, problems, when)
  local version, difference = judge.version(s)
  if not version and only_kept(difference) then return "old", true end
  if not version then add(problems, "%s: %s", when, difference) end
  return version
end

-- Whatever happened: the next upgrade leads to the new version.
local function upgrade_after(s, problems)
  local result = run(s, { "upgrade", "--source", s.source, "--yes" }, problems)
  if result.code ~= 0 then
    return add(problems, "afterwards no upgrade is possible: exit %s: %s", tostring(result.code),
      tostring(result.last.message))
  end
  local version = version_of(s, problems, "upgraded afterwards")
  if version == "old" then add(problems, "upgraded afterwards: the installation is old") end
end

-- Looking is always possible, and changes nothing.
local function look(s, argv, problems)
  judge.exact(s, "before")
  local result = run(s, argv, problems)
  local changed = judge.ask("compare", { a = "before", b = judge.exact(s) })
  if #changed > 0 then add(problems, "it changed %s", changed[1]) end
  if argv[1] == "status" and result.code ~= 0 then
    add(problems, "status: exit %s: %s", tostring(result.code), tostring(result.last.message))
  end
end

local LOOKS = { status = true, verify = true, list = true }

-- ---------------------------------------------------------------------------------------------
-- One case

-- Damages the files; whether they were there.
local function do_damage(s, item, random, outside)
  local _, open = judge.sessions(s)
  -- Killed before its session was there: a rollback takes back the upgrade before this one.
  if item.command == "rollback" and item.n and not open and judge.version(s) == "old" then
    return false
  end
  local files, all_there = damage.files(s.target, open), true
  item.stays = item.scene == "done" or not open or files.state == nil or files.previous == nil
  for name in item.file:gmatch("[^+]+") do
    local path = files[name]
    local inside = item.way == "bit" or item.way == "cut"
    if path and not (inside and lfs.attributes(path, "size") == 0) then
      damage.apply(path, item.way, random, outside)
    else
      all_there = false
    end
  end
  return all_there
end

local function prepare(s, scene, item)
  s.reset()
  if scene.kill then kill_at(s, math.tointeger(item.n)) end
  return s
end

-- What stands in the place of the record of what was shipped is in the way, or it counts as none.
local function ready_end(s, item, problems)
  if lfs.symlinkattributes(s.target .. "/.installed-manifest.json", "mode") == "file" then
    return upgrade_after(s, problems)
  end
  local result = run(s, { "upgrade", "--source", s.source }, problems)
  if result.code ~= 3 or not tostring(result.last.message):find("installed-manifest", 1, true) then
    add(problems, "a %s is no record, and an upgrade ends with exit %s: %s", item.way,
      tostring(result.code), tostring(result.last.message))
  end
end

-- The installation, once nobody knows anything better to do.
local function judge_end(s, item, problems)
  if item.scene == "ready" then return ready_end(s, item, problems) end
  local version, kept = version_of(s, problems, "afterwards")
  if not version or kept then return end
  if not is_open(s) then settled(s, version, item, problems) end
  if item.scene ~= "done" then upgrade_after(s, problems) end
end

--- Runs one case.
---@param c table of main.lua
---@param item { scene: string, file: string, way: string, command: string, n: integer? }
---@return string[] problems
---@return boolean was_there whether there was such a file to damage
function whole.one(c, item)
  local scene, problems = whole.SCENES[item.scene], {}
  local s = prepare(c.scenario(scene.scenario), scene, item)
  local outside = s.root .. "/outside"
  os.remove(outside)
  if not do_damage(s, item, c.random, outside) then return problems, false end
  local argv = scene.commands[item.command](s)
  if LOOKS[item.command] then
    look(s, argv, problems)
  else
    follow(s, run(s, argv, problems), c.random, problems)
  end
  if not damage.is_intact(outside) then add(problems, "a file outside was changed") end
  if not LOOKS[item.command] then judge_end(s, item, problems) end
  os.remove(outside)
  return problems, true
end

return whole
