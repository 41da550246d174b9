--- Full disks: commands that start with too little space or too few inodes, in steps from enough to
-- none, and commands in the middle of which the disk becomes full, so that their rollback, too, has
-- none. On a tmpfs whose limits are drawn in, and on ext4 with ballast.
--
-- Good is: the installation is one of the two versions, the exit code fits it and says what to do;
-- an open session is rolled back while the disk is full; an upgrade that plainly cannot fit is
-- refused before it changes anything; and with space again everything goes on.
--
-- A case is SCENARIO:FILESYSTEM:WHAT, where WHAT is blocks-N (of N bytes that are left at the
-- start), inodes-N, at-N (the disk is filled before the N-th call of the command), or killed-N-VERB
-- (the command is killed before its N-th call, then the disk is filled, then the verb).
local judge = require("spec.faults.judge")
local power = require("spec.faults.power")
local scenarios = require("spec.faults.scenarios")
local volume = require("spec.faults.volume")

local family = {
  name = "full_disk", on_disk = true, needs = { "mount" },
  floor = { full = { cases = 320 }, sample = { cases = 12 } },
}

-- How many cases of each sort a unit has.
local SHARES = {
  full = {
    units = { "upgrade", "custom", "failing", "resume", "rollback", "undo", "restore" },
    kinds = { "tmpfs", "ext4" }, blocks = 8, inodes = 5, at = 8, killed = 4,
  },
  sample = {
    units = { "upgrade" }, kinds = { "tmpfs", "ext4" }, blocks = 2, inodes = 1, at = 3, killed = 2,
  },
}

local PAGE = 4096

function family.run(c)
  local share, jobs = SHARES[c.share], {}
  local reason = power.unable(c)
  if reason then return { cases = 0, bad = {}, skipped = reason } end
  for _, scenario in ipairs(share.units) do
    for _, kind in ipairs(share.kinds) do
      local name = scenario .. ":" .. kind
      if not c.only or c.only:find(name .. ":", 1, true) == 1 then
        jobs[#jobs + 1] = { name = name, scenario = scenario, kind = kind }
      end
    end
  end
  return power.run(c, jobs)
end

-- ---------------------------------------------------------------------------------------------
-- The disk

local ROOMY = "size=64m,nr_inodes=16384"

-- What differs between the two: how a start state comes, how much is left, how it goes.
local disks = {}

disks.tmpfs = {
  open = function(u)
    volume.run("tmpfs", u.point, ROOMY)
    u.s = scenarios.open(u.job.scenario, u.point)
  end,
  start = function(u)
    volume.run("options", u.point, ROOMY)
    os.execute("rm -rf " .. u.point .. "/.ballast")
    u.s.reset()
  end,
  -- The limits count what is there already: 64 MiB and 16384 less what is free.
  leave = function(u, bytes, inodes)
    local free, nodes = volume.free(u.point)
    local options = {}
    if bytes then options[#options + 1] = ("size=%d"):format((64 << 20) - free + bytes) end
    if inodes then options[#options + 1] = ("nr_inodes=%d"):format(16384 - nodes + inodes) end
    volume.run("options", u.point, table.concat(options, ","))
  end,
  release = function(u)
    volume.run("options", u.point, ROOMY)
    os.execute("rm -rf " .. u.point .. "/.ballast")
  end,
  stop = function() end,
}

disks.ext4 = {
  open = function(u) power.open(u, u.job.scenario, "ext4") end,
  start = function(u) power.mount(u, u.start) end,
  leave = function(u, bytes, inodes)
    volume.run("fill", u.point, bytes or volume.free(u.point), inodes or -1)
  end,
  release = function(u) os.execute("rm -rf " .. u.point .. "/.ballast") end,
  stop = function(u) return power.unmount(u) end,
}

-- ---------------------------------------------------------------------------------------------
-- Verdicts

-- While the disk is still full: what is open has to be undone.
local function undo_now(s, problems)
  local _, open = judge.sessions(s)
  if not open then return end
  local argv, before = judge.command(s, "rollback"), judge.version(s)
  local result = judge.run(s, argv)
  for _, text in ipairs(result.problems) do
    problems[#problems + 1] = "rollback on the full disk: " .. text
  end
  if result.code ~= 0 then
    problems[#problems + 1] = ("rollback on the full disk: exit %s: %s"):format(
      tostring(result.code), tostring(result.last.message))
  end
  local version, difference = judge.version(s)
  local final = s.kind == "restore" and before == "new" -- a restore that only had to be cleared up
  if version ~= "old" and not final then
    problems[#problems + 1] = "rollback on the full disk: "
      .. (difference or "the installation is new")
  end
end

-- The end of a command on a full disk. `before` is the version it began with, where it was one.
-- What undoes a completed upgrade may also fail, and leave that as it was.
local function ended(s, code, last, before, problems)
  local version, difference = judge.version(s)
  local _, open = judge.sessions(s)
  local function wrong(...) problems[#problems + 1] = string.format(...) end
  local undoes = s.kind == "restore" or before == "new"
  if code == 5 and (open or not undoes) then wrong("exit 5: %s", tostring(last.message)) end
  if not version and not open then wrong("no session is open, but %s", difference) end
  if code == 0 and version ~= (s.goes_back and "old" or "new") then
    wrong("exit 0; %s", difference or "the installation is " .. version)
  end
  if code and code ~= 0 and version == "new" and not undoes then
    wrong("exit %d; the installation is new", code)
  end
  local is_wreck = s.wrecked and code == 3 -- it stays what it was
  if (code == 1 or code == 3) and not version and not is_wreck then
    wrong("exit %d; %s", code, difference)
  end
end

-- Everything that is wrong with a command that has ended on a full disk, and with what comes then.
local function verdict(u, code, last, before, problems, verb)
  local s, disk = u.s, disks[u.job.kind]
  ended(s, code, last, before, problems)
  undo_now(s, problems)
  disk.release(u)
  local again
  if s.wrecked then again = false end -- begun again, a resume has nothing to go on with
  local ok, more = pcall(judge.recover, s, verb, { again = again })
  if not ok then more = { "the judge failed: " .. tostring(more) } end
  for _, text in ipairs(more) do problems[#problems + 1] = "with space again: " .. text end
end

-- ---------------------------------------------------------------------------------------------
-- Cases

local function note(u, found, what, run)
  local case = u.job.name .. ":" .. what
  if u.job.only and u.job.only ~= case then return end
  local disk = disks[u.job.kind]
  disk.start(u)
  local problems = {}
  local code = run(problems)
  local busy = disk.stop(u)
  if busy then problems[#problems + 1] = "something holds the volume: " .. busy end
  found.cases = found.cases + 1
  local codes = found.details.codes
  codes[tostring(code)] = (codes[tostring(code)] or 0) + 1
  if #problems > 0 then
    found.bad[#found.bad + 1] = { case = case, why = table.concat(problems, "\n") }
  end
end

-- A command that starts with so much left.
local function with_little(u, found, need, bytes, inodes)
  local what = bytes and "blocks-" .. bytes or "inodes-" .. inodes
  note(u, found, what, function(problems)
    local s = u.s
    disks[u.job.kind].leave(u, bytes, inodes)
    local result = judge.run(s, s.argv)
    table.move(result.problems, 1, #result.problems, #problems + 1, problems)
    local plainly = bytes and bytes < need.bytes // 4 or inodes and inodes < need.inodes // 4
    if plainly and s.kind == "upgrade" and not s.wrecked and result.code ~= 3 then
      problems[#problems + 1] = ("a quarter of the space is enough to begin: exit %s: %s"):format(
        tostring(result.code), tostring(result.last.message))
    end
    verdict(u, result.code, result.last, nil, problems, "resume")
    return result.code
  end)
end

local function last_of(result)
  local problems, last = judge.ending(result)
  return last, problems
end

-- The disk becomes full at the n-th call.
local function filled_at(u, found, n)
  note(u, found, "at-" .. n, function(problems)
    local result = power.traced(u, { mode = "pause", at = n,
      hook = { "sh", "-c", volume.program() .. " fill " .. u.point .. " 0 0" } })
    local last, wrong = last_of(result)
    table.move(wrong, 1, #wrong, #problems + 1, problems)
    if not result.hit then problems[#problems + 1] = "the call was not reached" end
    verdict(u, result.code, last, nil, problems, "resume")
    return result.code
  end)
end

-- Killed, and then there is no space to go on or back.
local function killed_at(u, found, n, verb)
  note(u, found, ("killed-%d-%s"):format(n, verb), function(problems)
    local s = u.s
    local killed = power.traced(u, { mode = "before", at = n })
    if not killed.hit then problems[#problems + 1] = "the call was not reached" end
    disks[u.job.kind].leave(u, 0, 0)
    local argv, before = judge.command(s, verb), judge.version(s)
    if not argv then
      verdict(u, nil, {}, before, problems, verb)
      return "nothing"
    end
    local result = judge.run(s, argv)
    table.move(result.problems, 1, #result.problems, #problems + 1, problems)
    if verb == "rollback" and result.code ~= 0 and before ~= "new" then
      problems[#problems + 1] = ("rollback on a full disk: exit %s: %s"):format(
        tostring(result.code), tostring(result.last.message))
    end
    local code = result.code ~= 0 and result.code or nil -- where 0 leads, the verb says
    verdict(u, code, result.last, before, problems, verb)
    return result.code
  end)
end

-- What the command needs at most, and the number of its calls.
local function measure(u)
  disks[u.job.kind].start(u)
  local bytes, inodes = volume.free(u.point)
  local result = power.traced(u, { mode = "pause",
    hook = { volume.program(), "free", u.point } })
  local least, fewest = bytes, inodes
  for b, i in result.hook_output:gmatch("(%d+) (%d+)\n") do
    least, fewest = math.min(least, tonumber(b)), math.min(fewest, tonumber(i))
  end
  assert(result.code == u.s.code, result.stderr)
  disks[u.job.kind].stop(u)
  return { bytes = math.tointeger(bytes - least), inodes = math.tointeger(inodes - fewest) },
    result.count
end

-- So many amounts from a little more than what is needed down to nothing, and one by chance; each
-- one once.
local function steps(need, count, unit, random)
  local list, seen = {}, {}
  local function add(amount)
    amount = amount // unit * unit
    if not seen[amount] then list[#list + 1] = amount end
    seen[amount] = true
  end
  add(need + 4 * unit)
  for i = count - 3, 0, -1 do add(need * i // (count - 2)) end
  add(random(math.max(need, 1)))
  return list
end

local function numbers(count, calls, random)
  local list = {}
  for i = 1, count do list[i] = (calls * (i - 1) + random(calls)) // count + 1 end
  return list
end

--- The work of one unit (see power.lua).
---@param u table
---@param job { scenario: string, kind: string }
---@return table found
function family.unit(u, job)
  local share = SHARES[job.share]
  disks[job.kind].open(u)
  local need, calls = measure(u)
  local random = power.random(job.seed, job.name)
  local found = {
    cases = 0, bad = power.array({}), states = power.array({}),
    details = { bytes = need.bytes, inodes = need.inodes, calls = calls, codes = {} },
  }
  for _, bytes in ipairs(steps(need.bytes, share.blocks, PAGE, random)) do
    with_little(u, found, need, bytes, nil)
  end
  for _, inodes in ipairs(steps(need.inodes, share.inodes, 1, random)) do
    with_little(u, found, need, nil, inodes)
  end
  -- Git does not always make as many calls.
  local reached = u.s.head and calls * 9 // 10 or calls - 1
  for _, n in ipairs(numbers(share.at, reached, random)) do filled_at(u, found, n) end
  for i, n in ipairs(numbers(share.killed, reached, random)) do
    killed_at(u, found, n, i % 4 == 3 and "resume" or "rollback")
  end
  if job.only and found.cases == 0 then
    local what, n, verb = job.only:match(":(%l+)%-(%d+)%-?(%l*)$")
    n = math.tointeger(tonumber(n))
    if what == "blocks" then with_little(u, found, need, n, nil) end
    if what == "inodes" then with_little(u, found, need, nil, n) end
    if what == "at" then filled_at(u, found, n) end
    if what == "killed" then killed_at(u, found, n, verb) end
  end
  return found
end

return family
