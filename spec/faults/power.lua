--- What the families share that cut the power or fill the disk. Their work is done in units, one
-- for a scenario and a file system. A unit is a process with a mount namespace of its own: it has
-- a tmpfs for its images, sees its volume at the same path all the time, and whatever it has
-- mounted is gone when it ends.
--
-- Started as a program, with the path of a job, this is a unit: it calls family.unit(u, job) and
-- writes what that returns.
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local judge = require("spec.faults.judge")
local lfs = require("lfs")
local scenarios = require("spec.faults.scenarios")
local tracer = require("spec.faults.tracer")
local volume = require("spec.faults.volume")

local power = {}

local quote, read, write = command.quote, helper.read, helper.write
local LUA = os.getenv("LUA") or "lua5.4"

-- ---------------------------------------------------------------------------------------------
-- The family's side

-- Runs the jobs whose files are given, so many at a time, each in a namespace of its own.
local function run_units(paths, jobs)
  local list = {}
  for _, path in ipairs(paths) do list[#list + 1] = quote(path) end
  os.execute(("printf '%%s\\n' %s | xargs -P %d -I {} sh -c " .. quote(
    "unshare --mount --propagation private %s spec/faults/power.lua \"$0\" >\"$0.out\" 2>&1")
    .. " {}"):format(table.concat(list, " "), jobs, LUA))
end

--- Why no file system can be mounted here; nil where it can.
---@param c table context of the family
---@return string|nil reason
function power.unable(c)
  local path = c.directory .. "/able"
  lfs.mkdir(path)
  write(path .. "/job", cjson.encode({ directory = path, able = true }))
  run_units({ path .. "/job" }, 1)
  local ok, answer = pcall(cjson.decode, read(path .. "/job.result") or "")
  if not ok then
    return (read(path .. "/job.out") or "no namespace"):gsub("%s+$", ""):match("[^\n]*$")
  end
  c.memory.able = answer.able
  for _, kind in ipairs(volume.TYPES) do
    if answer.able[kind] == true then return nil end
  end
  return answer.able[volume.TYPES[1]]
end

--- The file systems that can be mounted here, after power.unable; and why others cannot.
---@param c table
---@return string[] kinds
---@return table<string, string> reasons
function power.file_systems(c)
  local kinds, reasons = {}, {}
  for _, kind in ipairs(volume.TYPES) do
    if c.memory.able[kind] == true then
      kinds[#kinds + 1] = kind
    else
      reasons[kind] = c.memory.able[kind]
    end
  end
  return kinds, reasons
end

-- Adds what one unit found.
local function merge(total, found, job, out)
  if not found then
    total.bad[#total.bad + 1] = { case = job.name, why = "the test itself failed: " .. out }
    return
  end
  total.cases = total.cases + found.cases
  for _, bad in ipairs(found.bad) do total.bad[#total.bad + 1] = bad end
  for _, state in ipairs(found.states) do
    if not total.seen[state] then
      total.seen[state] = true
      total.states = total.states + 1
    end
  end
  total.details[job.name] = found.details
end

--- Runs the units of a family and adds up what they found.
---@param c table
---@param jobs { name: string }[] one table a unit; the unit gets all of it
---@return { cases: integer, states: integer, bad: table[], details: table }
function power.run(c, jobs)
  local paths, total = {}, { cases = 0, states = 0, bad = {}, details = {}, seen = {} }
  for i, job in ipairs(jobs) do
    job.family, job.share, job.seed, job.only = c.family, c.share, c.seed, c.only
    job.directory = ("%s/unit-%d"):format(c.directory, i)
    lfs.mkdir(job.directory)
    paths[i] = job.directory .. "/job"
    write(paths[i], cjson.encode(job))
  end
  run_units(paths, c.jobs)
  for i, job in ipairs(jobs) do
    local ok, found = pcall(cjson.decode, read(paths[i] .. ".result") or "")
    merge(total, ok and found, job, (read(paths[i] .. ".out") or ""):sub(-2000))
  end
  total.seen = nil
  return total
end

-- ---------------------------------------------------------------------------------------------
-- The unit's side

--- A generator of its own, so that a case does not depend on which others are run.
---@param ... any what the sequence depends on
---@return fun(n: integer): integer random from 1 to n
function power.random(...)
  local text = table.concat({ ... }, ":")
  local state = 88172645463325252
  for i = 1, #text do state = (state ~ text:byte(i)) * 0x100000001b3 end
  return function(n)
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return (state >> 11) % n + 1
  end
end

--- Shuffles a list in place.
function power.shuffle(list, random)
  for i = #list, 2, -1 do
    local j = random(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

-- A time that no other boot had: whoever asks whether a process of before still lives gets the
-- answer that a restart gives.
local function another_boot(u)
  write(u.ram .. "/boot_id", ("%08x-0000-4000-8000-%012x\n"):format(u.job.seed, os.time()))
  volume.run("bind", u.ram .. "/boot_id", "/proc/sys/kernel/random/boot_id")
end

--- Makes the scenario on a new volume; its start state is kept as an image.
---@param u table the unit
---@param name string of the scenario
---@param kind string of the file system
---@return table s the scenario; s.argv is not run yet
function power.open(u, name, kind)
  u.kind, u.start, u.work = kind, u.ram .. "/start", u.ram .. "/work"
  volume.make(kind, u.start)
  volume.mount(kind, u.start, u.point)
  local s = scenarios.open(name, u.point)
  judge.ask("remove", { path = s.saved })
  u.s = s
  volume.unmount(u.point)
  return s
end

--- Puts an image at the place of the volume; a copy of it, which is changed from then on.
function power.mount(u, image)
  volume.copy(image, u.work)
  volume.mount(u.kind, u.work, u.point)
end

--- Takes the volume away. A process that sits in it is a finding, and keeps nobody from going on.
---@return string|nil problem
function power.unmount(u)
  local ok, message = pcall(volume.unmount, u.point)
  if ok then return nil end
  assert(os.execute("umount -l " .. quote(u.point)))
  return message
end

-- Runs the scenario's command under the tracer, on the volume.
local function traced(u, options)
  local s = u.s
  options.argv = { s.executable, table.unpack(s.argv) }
  options.argv[#options.argv + 1] = "--json"
  options.environment, options.directory, options.root = s.environment, s.project, u.point
  options.executable, options.who, options.timeout = s.executable, "all", 120
  return tracer.run(options)
end

power.traced = traced

-- "N NAME DIGEST" of each cut.
local function read_cuts(u)
  local cuts = {}
  for n, name, digest in (read(u.ram .. "/cuts/cuts") or ""):gmatch("(%d+) (%S+) (%x+)\n") do
    cuts[#cuts + 1] = { n = math.tointeger(tonumber(n)), name = name, digest = digest,
      image = u.ram .. "/cuts/" .. digest }
  end
  return cuts
end

--- Runs the scenario's command once, and keeps the disk as it is before each of its mutating calls,
--- as a power cut would leave it: what was written to the device, nothing else. The last cut, whose
--- name is "end", is after the command has ended.
---@param u table
---@return { n: integer, name: string, digest: string, image: string }[] cuts
---@return table result of tracer.run with the calls
function power.record(u)
  lfs.mkdir(u.ram .. "/cuts")
  power.mount(u, u.start)
  local result = traced(u, {
    mode = "pause", log = true, data = true,
    hook = { volume.program(), "cut", u.work, u.ram .. "/cuts" },
  })
  assert(result.code == u.s.code, ("the command ended with %s: %s"):format(
    tostring(result.code or result.signal), result.stderr))
  for _, hook in ipairs(result.hooks) do assert(hook.code == 0, result.hook_output) end
  volume.run("cut", u.work, u.ram .. "/cuts", result.count + 1, "end")
  power.unmount(u)
  local cuts = read_cuts(u)
  assert(#cuts == result.count + 1, "not every call was cut at")
  return cuts, result
end

--- Ends what a cut left, on the mounted volume, and judges it.
---@return string[] problems
---@return string outcome
function power.recover(u, verb, options)
  local ok, problems, outcome = pcall(judge.recover, u.s, verb, options)
  if not ok then problems, outcome = { "the judge failed: " .. tostring(problems) }, "error" end
  local busy = power.unmount(u)
  if busy then problems[#problems + 1] = "something holds the volume: " .. busy end
  return problems, outcome
end

local function able(u)
  local found = {}
  for _, kind in ipairs(volume.TYPES) do
    local works, reason = volume.works(kind, u.ram)
    found[kind] = works or reason
  end
  return { able = found }
end

--- Exit 0 before a cut: complete after it, whatever is asked for then.
---@param u table
---@return string[] problems
function power.survived(u)
  local version, difference = judge.version(u.s)
  local _, open = judge.sessions(u.s)
  local problems = {}
  if version ~= (u.s.goes_back and "old" or "new") then
    problems[1] = ("exit %d did not survive the cut: %s"):format(u.s.code,
      difference or "the installation is " .. version)
  end
  if open then problems[#problems + 1] = "the session that had ended is open" end
  return problems
end

local function main(path)
  local job = cjson.decode(assert(read(path)))
  local u = { job = job, ram = job.directory .. "/ram", point = job.directory .. "/volume" }
  lfs.mkdir(u.ram)
  lfs.mkdir(u.point)
  volume.run("tmpfs", u.ram, "size=4g")
  if job.able then return write(path .. ".result", cjson.encode(able(u))) end
  function u.another_boot() another_boot(u) end
  local family = require("spec.faults.families." .. job.family)
  write(path .. ".result", cjson.encode(family.unit(u, job)))
end

power.read = read

--- A list that is a list in JSON, too, when it is empty.
function power.array(list) return setmetatable(list, cjson.array_mt) end

if arg and arg[0] and arg[0]:find("spec/faults/power%.lua$") then
  package.loaded["spec.faults.power"] = power
  main(arg[1])
  os.exit(0, true)
end

return power
