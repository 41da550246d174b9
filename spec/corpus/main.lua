--- The merge corpus: for every pair of an older and a newer release, an installation of the older
-- one with a person's edits is upgraded to the newer one, once with a recorded base and once from
-- the history alone; the judge, which is not praxlua, says what must be there. Prints the figures
-- and writes them to $B/corpus.json. Exits with 1 when something is wrong, or too little was done.
--
-- Environment: B (the build directory), CASE (only this pair, "older-newer"), SHARE (full or
-- sample), SEED, JOBS (processes), PRAXLUA_HOST (the executable under test), KEEP (a directory that
-- is left as it is afterwards, to be looked at). With --work FILE NUMBER it is one of the processes
-- of another run. What a sample found is written to $B/corpus-sample.json.
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local place = require("spec.corpus.place")

local LUA = os.getenv("LUA") or "lua5.4"
local BUILD = os.getenv("B") or "build"
local SAMPLE = 7 -- pairs
-- What is the least that has to be done, by content and share; with less the run is no proof.
local FLOORS = {
  bundle = { full = { pairs = 378, merges = 2000, conflicts = 800, followed = 1400 },
    sample = { pairs = SAMPLE, merges = 20, conflicts = 8, followed = 12 } },
  generated = { full = { pairs = 3 }, sample = { pairs = 3 } },
}
-- What has to be 0, and how the judge names it.
local WRONG = {
  { "user_bytes_lost", "lost" }, { "stale_shipped_files", "stale" }, { "modes_wrong", "mode" },
  { "merges_unequal_to_git", "merge" }, { "conflicts_beyond_git", "needless conflict" },
  { "conflicts_not_told", "undecided" }, { "plan_unequal_to_result", "plan" },
  { "files_nobody_expects", "stray" }, { "unsettled_afterwards", "again" },
  { "runs_failed", "run" },
}
local quote = command.quote

local function say(...)
  io.write(string.format(...), "\n")
  io.flush()
end

local function now() return tonumber(helper.read("/proc/uptime"):match("^%S+")) end

-- ---- one upgrade ----------------------------------------------------------------------------

local function paths_of(plan, action)
  local paths = setmetatable({}, cjson.array_mt)
  for _, one in ipairs(plan.actions) do
    if one.action == action then paths[#paths + 1] = one.path end
  end
  return paths
end

local function by_path(plan)
  local actions = {}
  for _, one in ipairs(plan.actions) do actions[one.path] = one.action end
  return next(actions) and actions or cjson.decode("{}")
end

-- A run that must end with this code, or the problem.
local function expect(code, what, result)
  if result.code == code and result.plan then return nil end
  return { "", "run", ("%s: exit %s, right is %d: %s"):format(what, tostring(result.code), code,
    result.last and cjson.encode(result.last) or result.stderr) }
end

-- What is in conflict stays open until it is decided, and nothing is applied before.
local function stops(p)
  local problem = expect(4, "--on-conflict stop", place.upgrade(p, "--on-conflict", "stop"))
  if problem then return problem end
  local touched = place.ask(p, "touched", {})
  if #touched == 0 then return nil end
  return { touched[1], "run", "an upgrade that waits for answers has touched it" }
end

-- Upgrades the project; the conflicts, what was planned to be done, or nil and the problem.
local function upgrade(p)
  local dry = place.upgrade(p, "--dry-run", "--on-conflict", "stop")
  local conflicts, policy = dry.plan and paths_of(dry.plan, "conflict") or {}, "stop"
  local problem = expect(#conflicts > 0 and 4 or 0, "dry run", dry)
  if problem then return nil, problem end
  if #conflicts > 0 then
    problem = stops(p)
    if problem then return nil, problem end
    policy = "ours"
    dry = place.upgrade(p, "--dry-run", "--on-conflict", policy)
    problem = expect(0, "dry run for ours", dry)
    if problem then return nil, problem end
  end
  local touched = place.ask(p, "touched", {})
  if #touched > 0 then return nil, { touched[1], "run", "a dry run has touched it" } end
  local done = place.upgrade(p, "--on-conflict", policy, "--plan", dry.plan.hash)
  problem = expect(0, "the upgrade", done)
  if problem then return nil, problem end
  if done.plan.hash ~= dry.plan.hash then
    return nil, { "", "plan", "the run had another plan than the dry run" }
  end
  return conflicts, dry.plan
end

local SETTLED = { keep = true, unchanged = true }

-- The same upgrade once more has nothing to do and nothing to ask: the records are right.
local function is_settled(p, problems)
  local again = place.upgrade(p, "--dry-run", "--on-conflict", "stop")
  problems[#problems + 1] = expect(0, "the same upgrade again", again)
  if again.last and again.last.status ~= "nothing_to_do" then
    problems[#problems + 1] = { "", "again", "the same upgrade once more: " .. again.last.status }
  end
  for _, one in ipairs(again.plan and again.plan.actions or {}) do
    if not SETTLED[one.action] then
      problems[#problems + 1] = { one.path, "again", ("the same upgrade once more would %s it: %s")
        :format(one.action, one.reason) }
    end
  end
end

local function one(p, item, seed)
  place.install(p, item.older, item.how)
  place.release(p, item.newer)
  local edit = place.ask(p, "edit", { project = p.project, older = item.older,
    newer = item.newer, seed = ("%d %d-%d"):format(seed, item.older, item.newer) })
  local conflicts, planned = upgrade(p)
  if not conflicts then
    return { edits = edit.edits, files = edit.files, problems = { planned } }
  end
  local verdict = place.ask(p, "verdict", { actions = by_path(planned), conflicts = conflicts,
    is_told = item.how ~= "bare" })
  verdict.edits, verdict.files, verdict.questions = edit.edits, edit.files, #conflicts
  is_settled(p, verdict.problems)
  return verdict
end

-- Does its share of the upgrades: one after the other that nobody has taken yet.
local function work(path, number)
  local job = cjson.decode(assert(helper.read(path)))
  local p = place.open(job.base, "worker-" .. number)
  local out = assert(io.open(("%s.%d"):format(path, number), "w"))
  for i, item in ipairs(job.items) do
    if lfs.mkdir(("%s.taken/%d"):format(path, i)) then
      item.older, item.newer = math.tointeger(item.older), math.tointeger(item.newer)
      local ok, result = xpcall(one, debug.traceback, p, item, math.tointeger(job.seed))
      if not ok then result = { problems = { { "", "run", result } } } end
      assert(out:write(cjson.encode({ index = i, result = result }), "\n"))
      out:flush()
    end
  end
  out:close()
  place.close(p)
end

-- ---- all of them ----------------------------------------------------------------------------

local function commits_in(base)
  return math.tointeger(tonumber(helper.output_of("git -C %s rev-list --count main",
    quote(base .. "/source"))))
end

-- All pairs; of a sample so many, by the seed.
local function choose(count, options)
  local pairs_of = {}
  for newer = 1, count - 1 do
    for older = 0, newer - 1 do
      local name = ("%d-%d"):format(older, newer)
      if not options.only or options.only == name then
        pairs_of[#pairs_of + 1] = { older = older, newer = newer, name = name }
      end
    end
  end
  if options.share == "full" or options.only then return pairs_of end
  math.randomseed(options.seed)
  local chosen, left = {}, #pairs_of
  for _, pair in ipairs(pairs_of) do
    if math.random(left) <= SAMPLE - #chosen then chosen[#chosen + 1] = pair end
    left = left - 1
  end
  return chosen
end

-- A pair is upgraded with a recorded base, and from the history: every other time with a
-- VERSION.txt that names the commit.
local function items_of(chosen)
  local items = {}
  for i, pair in ipairs(chosen) do
    for _, how in ipairs({ "recorded", i % 2 == 0 and "named" or "bare" }) do
      items[#items + 1] = { older = pair.older, newer = pair.newer, name = pair.name, how = how }
    end
  end
  return items
end

local function run_all(base, items, options)
  local path = base .. "/job"
  lfs.mkdir(path .. ".taken")
  helper.write(path, cjson.encode({ base = base, items = items, seed = options.seed }))
  local workers = {}
  for number = 1, math.min(options.jobs, #items) do
    workers[number] = assert(io.popen(("exec %s spec/corpus/main.lua --work %s %d 2>&1"):format(
      quote(LUA), quote(path), number)))
  end
  local results = {}
  for number, worker in ipairs(workers) do
    for line in worker:lines() do say("%s", line) end
    if not worker:close() then error("a process of the corpus died", 0) end
    for line in helper.read(("%s.%d"):format(path, number)):gmatch("[^\n]+") do
      local answer = cjson.decode(line)
      results[math.tointeger(answer.index)] = answer.result
    end
  end
  return results
end

-- ---- figures --------------------------------------------------------------------------------

local function add_to(sums, counts)
  for name, count in pairs(counts or {}) do
    sums[name] = (sums[name] or 0) + math.tointeger(count)
  end
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2] or 0
end

local function sum_up(results)
  local f = { upgrades = #results, files = 0, edits = {}, merges = 0, followed = 0, conflicts = 0,
    ambiguous_bases = 0 }
  local questions, wrong = {}, {}
  for _, result in ipairs(results) do
    add_to(f, { files = result.files or 0, merges = result.merges or 0,
      followed = result.followed or 0, conflicts = result.conflicts or 0,
      ambiguous_bases = result.ambiguous and 1 or 0 })
    add_to(f.edits, result.edits)
    questions[#questions + 1] = math.tointeger(result.questions)
    for _, problem in ipairs(result.problems) do add_to(wrong, { [problem[2]] = 1 }) end
  end
  for _, pair in ipairs(WRONG) do f[pair[1]] = wrong[pair[2]] or 0 end
  f.questions_median, f.questions_max = median(questions), questions[#questions] or 0
  return f
end

local function below_floor(figures, floor)
  for name, least in pairs(floor or {}) do
    if figures[name] < least then
      return ("%d %s, fewer than %d"):format(figures[name], name, least)
    end
  end
end

local function print_figures(f, items, results, options)
  local kinds = {}
  for kind, count in pairs(f.edits) do kinds[#kinds + 1] = ("%s %d"):format(kind, count) end
  table.sort(kinds)
  say("  %d pairs, %d upgrades of %d files; edits: %s", f.pairs, f.upgrades, f.files,
    table.concat(kinds, ", "))
  say("  %d merges, %d files followed to another name, %d conflicts; questions per upgrade: "
    .. "median %d, at most %d; %d bases that several commits fit", f.merges, f.followed,
    f.conflicts, f.questions_median, f.questions_max, f.ambiguous_bases)
  local is_bad = f.too_little ~= nil
  for _, pair in ipairs(WRONG) do
    say("  %s: %d", pair[1]:gsub("_", " "), f[pair[1]])
    is_bad = is_bad or f[pair[1]] > 0
  end
  for i, result in ipairs(results) do
    for _, problem in ipairs(result.problems) do
      say("  bad %s %s: %s: %s: %s\n    make corpus CASE=%s SEED=%d", items[i].name, items[i].how,
        problem[2], problem[1], problem[3], items[i].name, options.seed)
    end
  end
  say("%s - corpus: %d upgrades of %d pairs, %.1f s%s", is_bad and "not ok" or "ok", f.upgrades,
    f.pairs, f.seconds, f.too_little and "; " .. f.too_little or "")
  return is_bad
end

local function save(figures, options)
  local path = ("%s/corpus%s.json"):format(BUILD, options.share == "sample" and "-sample" or "")
  helper.write(path .. ".new", cjson.encode(figures))
  assert(os.execute(("python3 -m json.tool --sort-keys %s.new %s"):format(quote(path),
    quote(path))))
  os.remove(path .. ".new")
end

local function variable(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function main()
  local options = { share = variable("SHARE") or "full", only = variable("CASE"),
    seed = math.tointeger(variable("SEED") or 1), keep = variable("KEEP"),
    jobs = math.tointeger(variable("JOBS") or helper.output_of("nproc")) }
  assert(options.share == "full" or options.share == "sample", "SHARE is full or sample")
  local base = options.keep or helper.output_of("mktemp -d ${TMPDIR:-/tmp}/praxlua-corpus-XXXXXX")
  lfs.mkdir(base)
  local began = now()
  local kind = place.make_source(base)
  local chosen = choose(commits_in(base), options)
  local items = items_of(chosen)
  assert(#items > 0, "there is no such pair")
  local results = run_all(base, items, options)
  local figures = sum_up(results)
  figures.pairs, figures.content, figures.seed = #chosen, kind, options.seed
  figures.share, figures.seconds = options.share, now() - began
  figures.too_little = not options.only and below_floor(figures, FLOORS[kind][options.share]) or nil
  local is_bad = print_figures(figures, items, results, options)
  if not options.only then save(figures, options) end
  if not options.keep then os.execute("rm -rf " .. quote(base)) end
  return is_bad and 1 or 0
end

if arg[1] == "--work" then
  work(arg[2], math.tointeger(arg[3]))
  os.exit(0, true)
end
os.exit(main(), true)
