--- The fault campaigns: runs the families of spec/faults/families, prints a line for each, and
-- writes $B/reliability.json. Exits with 1 when a case is bad, or a family has done less than its
-- floor.
--
-- Environment: B (the build directory), FAMILY (one or some of them; all when empty), CASE (only
-- this case, or with a "*" at its end all that begin like it), SHARE (full, sample, or all: more
-- than full where a family has it), SEED, JOBS (processes), SCRATCH (the folder to work in; when
-- empty, one in memory, and TMPDIR for families that are about the disk), PRAXLUA_HOST (the
-- executable under test). With --work FILE NUMBER it is one of the processes of another run. What a
-- sample found is written to $B/reliability-sample.json.
--
-- A family is a table { name, needs?, has_all? (it does more with SHARE=all), on_disk? (it works in
-- TMPDIR), floor = { full = { cases, states? }, sample = { cases } }, run }, and run(c) returns {
-- cases, states?, bad = { { case, why } }, skipped?, details? }. What c has is made below, in
-- `context_of`.
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local LUA = os.getenv("LUA") or "lua5.4"
local BUILD = os.getenv("B") or "build"
-- The order in which they run; further ones follow by name.
local ORDER = { "kill", "errno", "double", "cut_model", "cut_real", "full_disk", "concurrency",
  "corruption", "allocation", "mutation" }

local quote, read, write = command.quote, helper.read, helper.write
local SHARES = { full = true, sample = true, all = true }

local function output_of(line)
  local pipe = assert(io.popen(line))
  local text = pipe:read("a"):gsub("%s+$", "")
  pipe:close()
  return text
end

local function variable(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function now() return tonumber(read("/proc/uptime"):match("^%S+")) end

local function say(...)
  io.write(string.format(...), "\n")
  io.flush()
end

-- ---------------------------------------------------------------------------------------------
-- What a family gets

local function salt_of(text)
  local salt = 5381
  for i = 1, #text do salt = (salt * 33 + text:byte(i)) & 0x7fffffff end
  return salt
end

-- Whether nobody has claimed this name in this run of the family before, in whichever process.
local function claims(directory)
  return function(name) return lfs.mkdir(directory .. "/claims/" .. name) == true end
end

-- So many of a list, by the seed, in their order.
local function some(c, list, count)
  c.reseed("some")
  local chosen, left = {}, #list
  for _, one in ipairs(list) do
    if c.random(left) <= count - #chosen then chosen[#chosen + 1] = one end
    left = left - 1
  end
  return chosen
end

-- Everything a family may use: share, seed, jobs, directory (empty, its own), only (CASE), one
-- (whether that is one case), say(text), random(n) (1 to n) and some(list, count), by the seed,
-- reseed(text), map(items, name), claim(name), each_scenario(names, name) (a map that CASE does not
-- narrow), memory (a table of this process), scenario(name), which opens one only once in a process
-- and hands it to the families after this one: begin with s.reset().
local function context_of(family, given)
  local c = { memory = {}, family = family.name, say = function(text) say("    %s", text) end }
  for name, value in pairs(given) do c[name] = value end
  c.claim = claims(c.base)
  c.reseed = function(text) math.randomseed(c.seed, salt_of(family.name .. text)) end
  c.one = c.only ~= nil and not c.only:find("*", 1, true)
  c.random = function(n) return math.random(n) end
  c.some = function(list, count) return some(c, list, count) end
  c.scenario = function(name)
    local opened = c.memory.scenarios or {}
    c.memory.scenarios = opened
    opened[name] = opened[name] or require("spec.faults.scenarios").open(name, c.shared)
    return opened[name]
  end
  c.reseed("")
  return c
end

local function load_family(name) return require("spec.faults.families." .. name) end

-- ---------------------------------------------------------------------------------------------
-- Cases in several processes

-- Does its share of the items: one after the other that nobody has taken yet.
local function work(path, number)
  local job = cjson.decode(assert(read(path)))
  local family = load_family(job.family)
  local given = job.given
  given.directory = ("%s/worker-%d"):format(given.base, number)
  given.shared = ("%s/scenarios-%d"):format(given.scratch, number)
  lfs.mkdir(given.directory)
  lfs.mkdir(given.shared)
  given.seed, given.jobs = math.tointeger(given.seed), math.tointeger(given.jobs)
  local c = context_of(family, given)
  local out = assert(io.open(("%s.%d"):format(path, number), "w"))
  local count = #job.items
  for step = 0, count - 1 do
    -- Each process begins at another place, so that neighbours are mostly done by the same one.
    local i = ((number - 1) * count // c.jobs + step) % count + 1
    local item = job.items[i]
    if lfs.mkdir(("%s.taken/%d"):format(path, i)) then
      c.reseed(item.case or tostring(i))
      local ok, result = xpcall(family[job.code], debug.traceback, c, item)
      if not ok then result = { crashed = result } end
      assert(out:write(cjson.encode({ index = i, result = result }), "\n"))
      out:flush()
    end
  end
  out:close()
end

-- Whether CASE is this one, or the beginning of its name followed by "*".
local function is_chosen(item, only)
  if not only then return true end
  local beginning = only:match("^(.*)%*$")
  return item.case == only or beginning and item.case:sub(1, #beginning) == beginning
end

local maps = 0

-- Runs family[code](c, item) for each item, in c.jobs processes. Items and results are data; a
-- case that raised gives { crashed = text }. `only`: the items of that `case` are run; the others
-- have no result.
local function map(c, items, code, only)
  maps = maps + 1
  local path = ("%s/map-%d"):format(c.base, maps)
  lfs.mkdir(path .. ".taken")
  local chosen = {}
  for i, item in ipairs(items) do
    if is_chosen(item, only) then chosen[#chosen + 1] = item end
    item.index = i
  end
  local given = { share = c.share, seed = c.seed, jobs = c.jobs, base = c.base, only = c.only,
    scratch = c.scratch }
  write(path, cjson.encode({ family = c.family, code = code, items = chosen, given = given }))
  local workers = {}
  for number = 1, math.min(c.jobs, #chosen) do
    workers[number] = assert(io.popen(("exec %s spec/faults/main.lua --work %s %d 2>&1"):format(
      quote(LUA), quote(path), number)))
  end
  local results = {}
  for number, worker in ipairs(workers) do
    for line in worker:lines() do say("%s", line) end
    local ended = worker:close()
    for line in (read(("%s.%d"):format(path, number)) or ""):gmatch("[^\n]+") do
      local one = cjson.decode(line)
      results[math.tointeger(chosen[math.tointeger(one.index)].index)] = one.result
    end
    if not ended then error("a process of the campaign died", 0) end
  end
  return results
end

-- What family[code](c, { scenario = NAME }) gives for each of the scenarios.
local function each_scenario(c, names, code)
  local items = {}
  for i, name in ipairs(names) do items[i] = { scenario = name } end
  local results = map(c, items, code)
  for i, name in ipairs(names) do
    local result = results[i]
    if result.crashed then error(name .. ": " .. result.crashed, 0) end
  end
  return results
end

-- ---------------------------------------------------------------------------------------------
-- Where they work

local MEMORY = "/dev/shm"
local ROOM = 512 * 1024 * 1024 -- bytes that have to be free there

local scratches = {} -- the folders that were made, by the place they are in

-- Whether there is enough of a file system in memory. A kill or an error finds the same there as on
-- a disk, in half of the time.
local function has_memory()
  local free = output_of(("test -w %s && stat -f -c '%%a %%S' %s"):format(MEMORY, MEMORY))
  local blocks, size = free:match("^(%d+) (%d+)$")
  return blocks ~= nil and blocks * size >= ROOM
end

-- The folder in which a family works; made once.
local function scratch_of(family)
  local disk = os.getenv("TMPDIR") or "/tmp"
  local place = variable("SCRATCH") or not family.on_disk and has_memory() and MEMORY or disk
  scratches[place] = scratches[place]
    or output_of(("mktemp -d %s/praxlua-faults-XXXXXX"):format(quote(place)))
  return scratches[place]
end

-- ---------------------------------------------------------------------------------------------
-- One family

local function floor_of(family, share)
  return family.floor and family.floor[share == "all" and "full" or share]
end

-- What a family found is too little, as text; nil when it is enough.
local function below_floor(family, result, share)
  local floor = floor_of(family, share) or {}
  for _, name in ipairs({ "cases", "states" }) do
    local found, least = result[name] or 0, floor[name] or 0
    if found < least then return ("%d %s, fewer than %d"):format(found, name, least) end
  end
end

local function reproduction(family, case, options)
  local share = options.share == "full" and "" or " SHARE=" .. options.share
  return ("make faults FAMILY=%s CASE=%s SEED=%d%s"):format(family, quote(case), options.seed,
    share)
end

local function run_family(name, options)
  local family = load_family(name)
  local scratch = scratch_of(family)
  local base = scratch .. "/" .. name
  lfs.mkdir(base)
  lfs.mkdir(base .. "/claims")
  lfs.mkdir(base .. "/main")
  lfs.mkdir(scratch .. "/scenarios")
  local share = options.share == "all" and not family.has_all and "full" or options.share
  local c = context_of(family, {
    share = share, seed = options.seed, jobs = options.jobs, only = options.only,
    base = base, directory = base .. "/main", scratch = scratch, shared = scratch .. "/scenarios",
  })
  c.map = function(items, code) return map(c, items, code, c.only) end
  c.each_scenario = function(names, code) return each_scenario(c, names, code) end
  local began = now()
  local ok, result = xpcall(family.run, debug.traceback, c)
  if not ok then result = { cases = 0, bad = { { case = "all", why = result } } } end
  result.seconds = now() - began
  for _, bad in ipairs(result.bad) do
    bad.command = bad.command or reproduction(name, bad.case, options)
  end
  if options.only and not result.skipped and result.cases + #result.bad == 0 then
    result.too_little = "there is no such case, or it was not reached: " .. options.only
  end
  if not result.skipped and not options.only then
    result.too_little = below_floor(family, result, options.share)
    result.floor = floor_of(family, options.share)
  end
  os.execute(("chmod -R u+rwx %s 2>/dev/null; rm -rf %s"):format(quote(base), quote(base)))
  return result
end

local function print_result(name, result)
  local line = ("faults %s: %d cases, %s%d bad, %.1f s"):format(name, result.cases,
    result.states and result.states .. " states, " or "", #result.bad, result.seconds)
  if result.skipped then
    say("skipped - faults %s: %s", name, result.skipped)
  elseif #result.bad > 0 or result.too_little then
    say("not ok - %s%s", line, result.too_little and "; " .. result.too_little or "")
  else
    say("ok - %s", line)
  end
  for _, bad in ipairs(result.bad) do
    say("  bad %s: %s\n    %s", bad.case, (bad.why:gsub("\n", "\n      ")), bad.command)
  end
end

-- ---------------------------------------------------------------------------------------------
-- reliability.json

local function first_line(path) return (read(path) or ""):match("^[^\n]*") end

-- What is known of the machine; the families that did not run now stay as they were.
local function report(options)
  local sample = options.share == "sample" and "-sample" or ""
  local path = ("%s/reliability%s.json"):format(BUILD, sample)
  local ok, old = pcall(cjson.decode, read(path) or "")
  return path, {
    format_version = 1, kernel = first_line("/proc/sys/kernel/osrelease"),
    filesystem = output_of('stat -f -c %T "${TMPDIR:-/tmp}"'),
    cores = tonumber(output_of("nproc")), seed = options.seed, share = options.share,
    families = ok and type(old) == "table" and old.families or {},
  }
end

-- The commit under test; with "+" where the work tree has changes.
local function commit()
  local id = output_of("git rev-parse --short=12 HEAD 2>/dev/null")
  local changed = output_of("git status --porcelain runtime lua phases spec Makefile 2>/dev/null")
  return id .. (changed ~= "" and "+" or "")
end

local function array(list) return setmetatable(list, cjson.array_mt) end

local function entry_of(result, options)
  return {
    cases = result.cases, states = result.states, bad = array(result.bad), seconds = result.seconds,
    floor = result.floor, too_little = result.too_little, skipped = result.skipped,
    details = result.details, seed = options.seed, share = options.share,
    finished_at = os.date("!%Y-%m-%dT%H:%M:%SZ"), commit = options.commit,
  }
end

local function save(path, document)
  write(path .. ".new", cjson.encode(document))
  assert(os.execute(("python3 -m json.tool --sort-keys %s.new %s.sorted"):format(quote(path),
    quote(path))))
  assert(os.rename(path .. ".sorted", path))
  os.remove(path .. ".new")
end

-- ---------------------------------------------------------------------------------------------
-- All of them

local function families(wanted)
  local names, known = {}, {}
  for name in wanted:gmatch("[^%s,]+") do names[#names + 1] = name end
  if #names > 0 then return names end
  local further = {}
  for file in lfs.dir("spec/faults/families") do
    local name = file:match("^([%l_]+)%.lua$")
    if name then known[name] = true end
  end
  for _, name in ipairs(ORDER) do
    if known[name] then names[#names + 1] = name end
    known[name] = nil
  end
  for name in pairs(known) do further[#further + 1] = name end
  table.sort(further)
  return table.move(further, 1, #further, #names + 1, names)
end

local function main()
  local options = {
    share = variable("SHARE") or "full", seed = math.tointeger(variable("SEED") or 1),
    jobs = math.tointeger(variable("JOBS") or output_of("nproc")), only = variable("CASE"),
  }
  assert(SHARES[options.share], "SHARE is full, sample or all")
  options.commit = commit()
  local names = families(variable("FAMILY") or "")
  assert(not options.only or #names == 1, "a CASE is of one FAMILY")
  local path, document = report(options)
  local failed = false
  for _, name in ipairs(names) do
    local result = run_family(name, options)
    print_result(name, result)
    failed = failed or #result.bad > 0 or result.too_little ~= nil
    if not options.only then
      document.families[name] = entry_of(result, options)
      save(path, document)
    end
  end
  for _, scratch in pairs(scratches) do os.execute("rm -rf " .. quote(scratch)) end
  return failed and 1 or 0
end

if arg[1] == "--work" then
  work(arg[2], math.tointeger(arg[3]))
  os.exit(0, true)
end
os.exit(main(), true)
