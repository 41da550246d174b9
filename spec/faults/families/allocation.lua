--- Allocations that fail: the N-th one of praxlua's main process, or of the workers of its phases,
--- or from there on all of them, through Lua, our own code and every library (spec/faults/
--- allocation.c). What the command says with its exit code has to be what the installation is, a
--- backup is never called damaged for want of memory, and resume or rollback bring what is left to
--- its end. Where a library gives up, and where praxlua itself does before it has begun or while it
--- has no memory left to say so, that counts as a kill. A part of the cases runs in a build with
--- sanitizers, where leaks and misuse of memory are found.
---
--- A case is SCENARIO:WHO:N:once, SCENARIO:WHO:N:sticky or SCENARIO:leak:N:once.
local judge = require("spec.faults.judge")
local lfs = require("lfs")

local BUILD = os.getenv("B") or "build"

local allocation = {
  name = "allocation",
  floor = { full = { cases = 650 }, sample = { cases = 30 } },
}

-- Cases of each scenario: { main process, workers, with sanitizers }; in a sample, of all together.
local CASES = {
  upgrade = { 150, 40, 12 }, custom = { 60, 20, 0 }, rollback = { 80, 0, 6 },
  resume = { 80, 20, 6 }, undo = { 60, 0, 0 }, restore = { 100, 0, 8 }, verify = { 60, 0, 4 },
}
local NAMES = { "upgrade", "custom", "rollback", "resume", "undo", "restore", "verify" }
local SAMPLE = 36

-- Of the file that allocation.c maps.
local HEADER, LOGGED, OBJECTS, NAME = 4096, 4 * 1024 * 1024, 32, 48

-- ---------------------------------------------------------------------------------------------
-- Running a command with it

local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local data = file:read("a")
  file:close()
  return data
end

-- A file of zeros of the right length.
local function empty_file(c)
  local path = c.directory .. "/counts"
  local file = assert(io.open(path, "wb"))
  assert(file:seek("set", HEADER + LOGGED - 1))
  assert(file:write("\0"))
  assert(file:close())
  return path
end

-- The verification of a backup is no scenario of its own: it changes nothing.
local function open(c, name)
  if name ~= "verify" then return c.scenario(name) end
  local s = setmetatable({}, { __index = c.scenario("restore") })
  local backup = s.argv[3]
  s.argv = { "backup", "verify", backup }
  return s
end

-- Runs the scenario's command with the variables of allocation.c; returns what the oracle's `run`
-- does, and `count`, `hits`, `where` (the object that was hit), `last` (the last event).
local function run(c, s, options)
  local environment, path = {}, empty_file(c)
  for name, value in pairs(s.environment) do environment[name] = value end
  environment.ALLOCATION_FILE, environment.ALLOCATION_WHO = path, options.who
  environment.ALLOCATION_AT = tostring(options.at or 0)
  environment.ALLOCATION_STICKY = options.sticky and "1" or "0"
  environment.ALLOCATION_LOG = options.log and "1" or "0"
  if options.sanitized then
    environment.ASAN_OPTIONS = "log_path=" .. c.directory .. "/report"
  else
    environment.LD_PRELOAD = absolute(BUILD) .. "/faults/allocation.so"
  end
  local argv = { options.sanitized or s.executable, table.unpack(s.argv) }
  argv[#argv + 1] = "--json"
  local result = judge.ask("run", {
    argv = argv, directory = s.project, environment = environment, timeout = 60,
  })
  result.code = math.tointeger(tonumber(result.code))
  local data = assert(read(path))
  result.count, result.hits = string.unpack("<I8I8", data)
  result.where = data:sub(17, 16 + NAME):match("^[^%z]*")
  if options.log then result.data = data end
  return result
end

-- ---------------------------------------------------------------------------------------------
-- Which allocations there are

-- The numbers of the allocations that came from each object, by the log.
local function by_object(result)
  local objects, names = {}, {}
  for i = 0, OBJECTS - 1 do
    local at = 16 + NAME + i * NAME
    names[i] = result.data:sub(at + 1, at + NAME):match("^[^%z]*")
  end
  for n = 1, math.min(result.count, LOGGED) do
    local name = names[result.data:byte(HEADER + n)]
    objects[name] = objects[name] or {}
    table.insert(objects[name], n)
  end
  return objects
end

-- Of a list of numbers `count`, drawn by the seed.
local function draw(c, list, count)
  local drawn = {}
  for _ = 1, math.min(count, #list) do drawn[#drawn + 1] = list[c.random(#list)] end
  return drawn
end

-- Numbers over the whole range: a third from the libraries, few from the time in which praxlua
-- only loads its own code (as `praxlua status` does), the rest from what it does then.
local function drawn_main(c, s, count)
  local counted = run(c, s, { who = "main", log = true })
  local objects, libraries, loading, own = by_object(counted), {}, {}, {}
  local status = setmetatable({ argv = { "status" } }, { __index = s })
  s.reset()
  local loaded = run(c, status, { who = "main" }).count
  for name, numbers in pairs(objects) do
    if name ~= "praxlua" then table.move(numbers, 1, #numbers, #libraries + 1, libraries) end
  end
  for _, n in ipairs(objects.praxlua) do
    table.insert(n < loaded * 0.9 and loading or own, n)
  end
  table.sort(libraries)
  local drawn = draw(c, libraries, count // 3)
  for _, n in ipairs(draw(c, loading, count // 12)) do drawn[#drawn + 1] = n end
  for _, n in ipairs(draw(c, own, count - #drawn)) do drawn[#drawn + 1] = n end
  local counts = {}
  for name, numbers in pairs(objects) do counts[name] = #numbers end
  return drawn, counts
end

--- Draws the allocations of a scenario that are to fail.
---@param c table
---@param item { scenario: string }
---@return table drawn { main, worker, leak (arrays of numbers), objects (counts by object) }
function allocation.count(c, item)
  local s = open(c, item.scenario)
  local wanted = CASES[item.scenario]
  c.reseed(item.scenario)
  s.reset()
  local drawn = { worker = {}, leak = {} }
  drawn.main, drawn.objects = drawn_main(c, s, wanted[1])
  if wanted[2] > 0 then
    s.reset()
    local count = run(c, s, { who = "worker" }).count
    for i = 1, wanted[2] do drawn.worker[i] = c.random(count) end
    drawn.objects["workers"] = count
  end
  for i = 1, wanted[3] do drawn.leak[i] = drawn.main[c.random(#drawn.main)] end
  return drawn
end

-- ---------------------------------------------------------------------------------------------
-- One case

local ABORTED = { [-6] = "abort", [-9] = "kill" }

-- The end that praxlua can come to where no memory is left even to end in order: as good as a kill.
-- libarchive and lua-cjson end the process by themselves; OpenSSL 3.0 crashes when it cannot load
-- its provider, libarchive 3.6 when it has no memory for an entry or a filter.
local function gave_up(result, sticky)
  if ABORTED[result.code] then return ABORTED[result.code] end
  local function said(text) return result.stderr:find(text, 1, true) ~= nil end
  if result.code == 1 and said("Fatal Internal Error in libarchive") then return "libarchive" end
  if result.code == 255 and said("Out of memory\n") then return "lua-cjson" end
  -- Where all allocations fail, what crashes need not be what met the first of them.
  local library = result.where:match("^libcrypto")
    or not sticky and result.where:match("^libarchive")
  if result.code == -11 and library then return library end
  return result.code == 70 and said("memory") and "exit 70" or nil
end

-- What is wrong with how the command ended. Want of memory may come up in our own code as an
-- internal error, with a trace.
local function ending(result)
  local problems, last = judge.ending(result)
  local memory = (result.stdout .. result.stderr):find("memory", 1, true)
  for i = #problems, 1, -1 do
    if memory and problems[i]:find(" with a trace: ", 1, true) then table.remove(problems, i) end
  end
  return problems, last
end

-- What is wrong with a result that was given.
local function wrong_end(s, result)
  local problems, last = ending(result)
  local version, difference = judge.version(s)
  local said = ("exit %s, %s: %s"):format(tostring(result.code), tostring(last.status),
    tostring(last.message))
  if result.code == 0 or result.code == 1 or result.code == 3 then
    local promised, odd = judge.promised(s, last)
    if result.code ~= 0 then promised, odd = "old", nil end
    if s.wrecked and result.code == 3 then return problems end -- it stays the wreck that it was
    if odd then problems[#problems + 1] = odd end
    if not version then
      problems[#problems + 1] = said .. "; " .. difference
    elseif promised and promised ~= version then
      problems[#problems + 1] = ("%s; but the installation is %s"):format(said, version)
    end
  elseif result.code ~= 5 then
    problems[#problems + 1] = said
  end
  return problems
end

-- A verification says that the backup is whole, or that it could not be done; never that it is
-- damaged. Nothing is changed.
local function verified(s, result)
  local problems, last = ending(result)
  local said = ("exit %s: %s"):format(tostring(result.code), tostring(last.message))
  if result.code ~= 0 and result.code ~= 1 then problems[#problems + 1] = said end
  if result.code == 1 and tostring(last.message):find("damaged") then
    problems[#problems + 1] = "a whole backup is called damaged: " .. said
  end
  local version = judge.version(s)
  if version ~= "old" then problems[#problems + 1] = "the installation is not as before" end
  return problems
end

-- The reports that the sanitizers of this run wrote, as one text; nil when there is none.
local function report(c)
  local text = {}
  for name in lfs.dir(c.directory) do
    if name:find("^report%.") then
      text[#text + 1] = read(c.directory .. "/" .. name)
      os.remove(c.directory .. "/" .. name)
    end
  end
  return text[1] and table.concat(text, "\n"):sub(1, 3000)
end

--- Lets allocations fail, and brings what is left to its end.
---@param c table
---@param item { scenario: string, who: string, n: integer, sticky: boolean?, case: string }
---@return table result { problems, exit, where }
function allocation.one(c, item)
  local s = open(c, item.scenario)
  s.reset()
  local leak = item.who == "leak"
  local result = run(c, s, {
    who = leak and "main" or item.who, at = math.tointeger(item.n), sticky = item.sticky,
    sanitized = leak and absolute(BUILD) .. "/asan/faults/praxlua-allocation",
  })
  local gave = gave_up(result, item.sticky)
  local exit = gave or tostring(result.code)
  if result.hits == 0 then return { problems = {}, exit = "not reached", where = "-" } end
  local problems = {}
  local reported = leak and report(c)
  if reported then
    problems[1] = "the sanitizers report:\n" .. reported
  elseif not gave then
    problems = item.scenario == "verify" and verified(s, result) or wrong_end(s, result)
  end
  for _, process in ipairs(result.left) do
    problems[#problems + 1] = "left a process: " .. process.command
  end
  if #problems == 0 and item.scenario ~= "verify" then
    local verb = c.random(2) == 1 and "resume" or "rollback"
    for _, text in ipairs(judge.recover(s, verb, { again = c.random(6) == 1, goes_back = true })) do
      problems[#problems + 1] = "afterwards: " .. text
    end
  end
  return { problems = problems, exit = exit, where = leak and "sanitized" or result.where }
end

-- ---------------------------------------------------------------------------------------------
-- All of them

local function cases_of(names, drawn)
  local items = {}
  for i, scenario in ipairs(names) do
    for _, who in ipairs({ "main", "worker", "leak" }) do
      for k, n in ipairs(drawn[i][who]) do
        local sticky = who ~= "leak" and k % 3 == 0
        n = math.tointeger(n)
        items[#items + 1] = {
          case = ("%s:%s:%d:%s"):format(scenario, who, n, sticky and "sticky" or "once"),
          scenario = scenario, who = who, n = n, sticky = sticky,
        }
      end
    end
  end
  return items
end

-- A case that is asked for need not be one of those that the seed draws.
local function only_case(text)
  local scenario, who, n, how = text:match("^(%l+):(%l+):(%d+):(%l+)$")
  return { { case = text, scenario = scenario, who = who, n = tonumber(n),
    sticky = how == "sticky" } }
end

-- The build with sanitizers, of which the leak cases need one program. `make test` makes the rest
-- of it later.
local function build_sanitized(items)
  local needed = false
  for _, item in ipairs(items) do needed = needed or item.who == "leak" end
  if not needed then return end
  local directory = BUILD .. "/asan"
  assert(os.execute(("env -u MAKEFLAGS -u MFLAGS make -s B='%s' SANITIZE=address,undefined "
    .. "'%s/faults/praxlua-allocation' > /dev/null"):format(directory, directory)))
end

--- Runs the family.
---@param c table
---@return table result
function allocation.run(c)
  local items
  local details = { exits = {}, hit = {}, allocations = {} }
  if c.only and not c.only:find("*", 1, true) then
    items = only_case(c.only)
  else
    local names = c.only and { c.only:match("^%l+") } or NAMES
    local drawn = c.each_scenario(names, "count")
    for i, name in ipairs(names) do details.allocations[name] = drawn[i].objects end
    items = cases_of(names, drawn)
  end
  if c.share == "sample" and not c.only then items = c.some(items, SAMPLE) end
  build_sanitized(items)
  local bad, cases = {}, 0
  for i, result in pairs(c.map(items, "one")) do
    if result.crashed then
      result = { problems = { result.crashed }, exit = "crashed", where = "-" }
    end
    if #result.problems > 0 then
      bad[#bad + 1] = { case = items[i].case, why = table.concat(result.problems, "\n") }
    end
    cases = cases + (result.exit ~= "not reached" and 1 or 0)
    details.exits[result.exit] = (details.exits[result.exit] or 0) + 1
    details.hit[result.where] = (details.hit[result.where] or 0) + 1
  end
  return { cases = cases, bad = bad, details = details }
end

return allocation
