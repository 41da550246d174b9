--- The hostile suite: runs hostile phases (cases.lua) and proves that each is an ordinary failed
--- phase; then takes out the defences one at a time (defences.lua) and wants that a case turns red;
--- then runs hostile phases inside whole upgrades (upgrade.lua). Exits with 1 when anything is bad.
--
-- Environment: B (the build directory), GROUP (one group), CASE (one case; with "upgrade:" before
-- its id inside an upgrade), DEFENCE (one defence), PART (cases, defending or upgrade), SHARE (full
-- or sample), SEED, JOBS (processes), PRAXLUA_HOST (the executable under test). With --work FILE
-- NUMBER it is one of the processes of another run. Results: $B/sandbox.json, of a sample
-- $B/sandbox-sample.json.
local cases = require("spec.sandbox.cases")
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local pool = require("spec.sandbox.pool")

local LUA = os.getenv("LUA") or "lua5.4"
local BUILD = os.getenv("B") or "build"
local SAMPLE = 4 -- cases of each group
local quote, write = command.quote, helper.write

local function say(...)
  io.write(string.format(...), "\n")
  io.flush()
end

local function now() return tonumber(helper.read("/proc/uptime"):match("^%S+")) end

local function variable(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

-- ---------------------------------------------------------------------------------------------
-- Work in several processes

-- What one item of a list is: a module of spec/sandbox and what it is given.
local function do_item(item, options)
  if item.kind == "case" then
    return pool.run(cases.named(item.id), item.level, options.executables[item.level], options.base)
  end
  return require("spec.sandbox." .. item.kind).one(item, options)
end

local function work(path)
  local job = cjson.decode(assert(helper.read(path)))
  local out = assert(io.open(("%s.%s"):format(path, arg[3]), "w"))
  job.options.number = arg[3]
  for i, item in ipairs(job.items) do
    if lfs.mkdir(("%s.taken/%d"):format(path, i)) then
      local ok, result = xpcall(do_item, debug.traceback, item, job.options)
      if not ok then result = { problems = { result } } end
      out:write(cjson.encode({ index = i, result = result }), "\n")
      out:flush()
    end
  end
  out:close()
  local upgrade = package.loaded["spec.sandbox.upgrade"]
  if upgrade then upgrade.close() end
end

local lists = 0

-- Does all items, and returns their results in the same order.
local function each(items, options)
  lists = lists + 1
  local path = ("%s/list-%d"):format(options.base, lists)
  lfs.mkdir(path .. ".taken")
  write(path, cjson.encode({ items = items, options = options }))
  local workers, results = {}, {}
  for number = 1, math.min(options.jobs, #items) do
    workers[number] = assert(io.popen(("PRAXLUA_SAMPLE_BASE=%s exec %s spec/sandbox/main.lua "
      .. "--work %s %d 2>&1"):format(quote(options.samples), quote(LUA), quote(path), number)))
  end
  for number, worker in ipairs(workers) do
    for line in worker:lines() do say("  %s", line) end
    if not worker:close() then error("a process of the suite died", 0) end
    for line in (helper.read(("%s.%d"):format(path, number)) or ""):gmatch("[^\n]+") do
      local one = cjson.decode(line)
      results[math.tointeger(one.index)] = one.result
    end
  end
  return results
end

-- ---------------------------------------------------------------------------------------------
-- The cases

-- So many of a list, by the seed, in their order.
local function some(list, count)
  local chosen, left = {}, #list
  for _, one in ipairs(list) do
    if math.random(left) <= count - #chosen then chosen[#chosen + 1] = one end
    left = left - 1
  end
  return chosen
end

local function chosen_cases(options)
  local by_group, list = {}, {}
  for _, case in ipairs(cases.all()) do
    local wanted = not options.case or case.id == options.case
    if wanted and (not options.group or case.group == options.group) then
      by_group[case.group] = by_group[case.group] or {}
      table.insert(by_group[case.group], case)
    end
  end
  for _, group in ipairs(cases.GROUPS) do
    local members = by_group[group.name] or {}
    if options.share == "sample" and not options.case then members = some(members, SAMPLE) end
    table.move(members, 1, #members, #list + 1, list)
  end
  return list
end

-- The executables there are, by level, and why one is missing.
local function executables()
  local found, missing = { strongest = os.getenv("PRAXLUA_HOST") }, {}
  if not found.strongest then found.strongest = lfs.currentdir() .. "/" .. BUILD .. "/praxlua" end
  for _, level in ipairs({ "unconfined", "raw" }) do
    local path = BUILD .. "/sandbox/praxlua-" .. level
    if path:sub(1, 1) ~= "/" then path = lfs.currentdir() .. "/" .. path end
    if lfs.attributes(path) then
      found[level] = path
    else
      missing[level] = ("%s is not there (make sandbox-tools)"):format(path)
    end
  end
  return found, missing
end

local function case_items(list, options)
  local items, left_out = {}, {}
  for _, case in ipairs(list) do
    for _, level in ipairs(pool.LEVELS) do
      if pool.applies(case, level) then
        if options.executables[level] then
          items[#items + 1] = { kind = "case", id = case.id, level = level, case = case.id }
        else
          left_out[level] = (left_out[level] or 0) + 1
        end
      end
    end
  end
  return items, left_out
end

local function tell_bad(item, result, how)
  for _, problem in ipairs(result.problems) do
    say("  bad %s: %s", item.name or ("%s (%s)"):format(item.id, item.level),
      (problem:gsub("\n", "\n      ")))
  end
  say("    %s", how)
end

-- What there is too little of in a full run, as text.
local function below_floor(by_group, total)
  for _, group in ipairs(cases.GROUPS) do
    if (by_group[group.name] or 0) < cases.FLOOR.group then return group.name end
  end
  return total < cases.FLOOR.all and "all groups together" or nil
end

-- Notes what one run of a case came to: 1 when it is bad, and whether it was skipped.
local function note(item, result, document)
  local case = cases.named(item.id)
  document.cases[#document.cases + 1] = {
    id = item.id, group = case.group, level = item.level, verdict = result.verdict,
    seconds = result.seconds, problems = result.problems, skipped = result.skipped,
  }
  if result.skipped then
    say("  skipped %s (%s): %s", item.id, item.level, result.skipped)
  else
    document.ran[item.id] = case.group
  end
  if not result.problems then return 0, result.skipped end
  tell_bad(item, result, "make sandbox CASE=" .. item.id)
  return 1
end

-- How many cases of each group ran, and together.
local function count_groups(document)
  local by_group, total = {}, 0
  for _, group in pairs(document.ran) do
    by_group[group] = (by_group[group] or 0) + 1
    total = total + 1
  end
  for _, group in ipairs(cases.GROUPS) do
    if by_group[group.name] then say("  %-13s %3d cases", group.name, by_group[group.name]) end
  end
  document.groups, document.ran = by_group, nil
  return by_group, total
end

local function run_cases(options, document)
  local began, bad, skipped = now(), 0, 0
  local items, left_out = case_items(chosen_cases(options), options)
  document.ran = {}
  for i, result in pairs(each(items, options)) do
    local is_bad, is_skipped = note(items[i], result, document)
    bad, skipped = bad + is_bad, skipped + (is_skipped and 1 or 0)
  end
  local by_group, total = count_groups(document)
  local little = options.share == "full" and not options.case and not options.group
    and below_floor(by_group, total)
  if little then
    bad = bad + 1
    say("  too few cases: %s", little)
  end
  for level, count in pairs(left_out) do
    say("skipped - sandbox: %d runs at the level %s: %s", count, level, options.missing[level])
  end
  say("%s - sandbox: %d cases, %d runs, %d skipped, %d bad, %.1f s", bad > 0 and "not ok" or "ok",
    total, #items, skipped, bad, now() - began)
  return bad
end

-- ---------------------------------------------------------------------------------------------
-- Defences and whole upgrades

-- Runs the items of another part of the suite: a module with items(options) and tell(items,
-- results, say), which returns how many are bad, the line for people, and the data.
local function run_part(name, options, document)
  local part, began = require("spec.sandbox." .. name), now()
  local items, why = part.items(options, some)
  if #items == 0 then
    if why then say("skipped - sandbox %s: %s", name, why) end
    return 0
  end
  local results = each(items, options)
  local bad = 0
  for i, result in pairs(results) do
    if result.problems then
      bad = bad + 1
      tell_bad(items[i], result, items[i].again)
    end
  end
  document[name] = part.tell(items, results, say)
  say("%s - sandbox %s: %d, %d bad, %.1f s", bad > 0 and "not ok" or "ok", name, #items, bad,
    now() - began)
  return bad
end

local function save(path, document)
  write(path .. ".new", cjson.encode(document))
  assert(os.execute(("python3 -m json.tool --sort-keys %s.new %s && rm %s.new"):format(quote(path),
    quote(path), quote(path))))
end

-- What the cases and the parts of a run came to: how much is bad.
local function run_all(options, document)
  local part = options.case and (options.case:find("^upgrade:") and "upgrade" or "cases")
    or options.group and "cases" or options.defence and "defending" or variable("PART")
  local began, bad = now(), 0
  if not part or part == "cases" then bad = run_cases(options, document) end
  for _, name in ipairs({ "defending", "upgrade" }) do
    if not part or part == name then bad = bad + run_part(name, options, document) end
  end
  document.seconds = now() - began
  if not part then
    local sample = options.share == "sample" and "-sample" or ""
    save(("%s/sandbox%s.json"):format(BUILD, sample), document)
  end
  return bad
end

local function main()
  local options = {
    share = variable("SHARE") or "full", seed = math.tointeger(variable("SEED") or 1),
    jobs = math.tointeger(variable("JOBS") or 1), case = variable("CASE"),
    group = variable("GROUP"), defence = variable("DEFENCE"), base = pool.base(), build = BUILD,
  }
  assert(options.share == "full" or options.share == "sample", "SHARE is full or sample")
  math.randomseed(options.seed)
  options.samples = variable("PRAXLUA_SAMPLE_BASE") or options.base .. "/samples"
  options.executables, options.missing = executables()
  local document = { format_version = 1, share = options.share, seed = options.seed, cases = {} }
  local ok, bad = xpcall(run_all, debug.traceback, options, document)
  os.execute("rm -rf " .. quote(options.base))
  if not ok then error(bad, 0) end
  return bad > 0 and 1 or 0
end

if arg[1] == "--work" then
  work(arg[2])
  os.exit(0, true)
end
os.exit(main(), true)
