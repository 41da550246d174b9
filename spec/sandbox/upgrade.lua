--- Hostile phases inside whole upgrades: each runs as a project's own phase behind the content
--- upgrade of a sample installation. The upgrade has to fail with exit 1, the installation has to
--- be as before to the byte, and event, terminal and report have to name the phase and its verdict.
--
-- A phase that comes to its end ends with an error, so that every upgrade is rolled back and the
-- same sample does for all cases of a process. What a script finds to read or write is another tree
-- here than the one its case was written for; what is judged is how the upgrade ends.
local cases = require("spec.sandbox.cases")
local cjson = require("cjson")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local sample = require("spec.support.sample")

local upgrade = {}

local SAMPLE = 5 -- upgrades
local LAST = 'error("the script came to its end", 0)'
local ID = "hostile"

-- Cases that are a script alone: whose scene is not arranged in some way.
local function is_eligible(case)
  for _, name in ipairs({ "number", "prepare", "first", "again", "during", "completed", "dry",
    "host",
    "environment", "source" }) do
    if case[name] then return false end
  end
  return true
end

local function is_refused(case) return case.expect == "refused" end

-- The verdicts the upgrade may tell.
local function expects(case, verdict)
  if verdict == "error" and cases.expects(case, "ok") then return true end
  return verdict ~= "ok" and cases.expects(case, verdict)
end

local scene -- of this process: the sample, and its listing

local opened = 0

local function open(options)
  if scene then return scene end
  opened = opened + 1
  local parent = ("%s/sample-%s-%d"):format(options.base, options.number, opened)
  assert(lfs.mkdir(parent))
  scene = { s = sample.new({ server = false, parent = parent }), folder = parent .. "/phases" }
  scene.before = sample.list(scene.s)
  return scene
end

-- Everything that a person and a program is told.
local function check_told(case, result, wrong)
  local failed = sample.events(result, "phase_failed")
  if #failed ~= 1 or failed[1].phase ~= ID then
    return wrong("%d events of a failed phase: %s", #failed, result.stdout:sub(-500))
  end
  local verdict = failed[1].verdict
  if not expects(case, verdict) then
    wrong("the verdict is %s: %s", verdict, tostring(failed[1].message):sub(1, 300))
  end
  if #sample.events(result, "FORGED") > 0 then wrong("an event was forged") end
  if #sample.events(result, "finished") ~= 1 then wrong("not one event 'finished'") end
  local report = sample.events(result, "report")[1]
  if not report then return wrong("there is no report") end
  local document = helper.read(scene.s.project .. "/" .. report.path) or ""
  for where, text in pairs({ terminal = result.stderr, report = document }) do
    if not text:find("Hostile", 1, true) or not text:find(verdict, 1, true) then
      wrong("the %s does not name the phase and '%s':\n%s", where, verdict, text:sub(-800))
    end
    if not text:find("rolled back", 1, true) then wrong("the %s says nothing of a rollback",
      where) end
    if text:find("\27", 1, true) then wrong("the %s holds an escape sequence", where) end
    if text:find("[\r\n]FORGED") then wrong("the %s holds a forged line:\n%s", where, text) end
  end
end

local function check_left(s, wrong)
  local differences = sample.differences(s, scene.before, sample.list(s))
  if differences ~= "" then
    wrong("the installation is not as before:\n%s", differences)
    scene.spoilt = true
  end
  for _, name in ipairs({ "/.upgrade", "/.upgrade-lock" }) do
    if lfs.symlinkattributes(s.target .. name) then wrong("%s was left", name) end
  end
  for _, process in ipairs(sample.processes(s)) do
    wrong("a process was left: %s", table.concat(process.command, " "))
  end
  for name in lfs.dir(s.temporary) do
    if name ~= "." and name ~= ".." then wrong("left in the temporary directory: %s", name) end
  end
end

--- One case.
---@param item { id: string }
---@param options table of the run, with the number of this process
---@return { verdict: string?, problems: string[]? } result
function upgrade.one(item, options)
  local case, problems = cases.named(item.id), {}
  local lacking = case.needs and case.needs()
  if lacking then return { skipped = lacking } end
  local function wrong(form, ...) problems[#problems + 1] = form:format(...) end
  local s = open(options).s
  helper.write(scene.folder .. "/" .. ID .. ".lua", cases.script(case, {
    last = cases.expects(case, "ok") and LAST or "",
  }))
  os.execute(("rm -rf %s/.backups %s/.cache"):format(s.target, s.target))
  local result = sample.upgrade(s, { "--yes", "--phases", scene.folder }, { seconds = 90 })
  local wanted = is_refused(case) and 3 or 1
  if result.code ~= wanted then
    wrong("exit %d, expected %d: %s", result.code, wanted, result.stderr:sub(-800))
  elseif not is_refused(case) then
    check_told(case, result, wrong)
  end
  check_left(s, wrong)
  if scene.spoilt then upgrade.close() end -- the next case gets a sample of its own
  return { problems = #problems > 0 and problems or nil }
end

--- The upgrades of a run.
---@param options table
---@param some function
---@return table[] items
function upgrade.items(options, some)
  local chosen, items = {}, {}
  for _, case in ipairs(cases.all()) do
    local wanted = not options.case or options.case == "upgrade:" .. case.id
    if wanted and is_eligible(case) then chosen[#chosen + 1] = case end
  end
  if options.share == "sample" and not options.case then chosen = some(chosen, SAMPLE) end
  for i, case in ipairs(chosen) do
    items[i] = { kind = "upgrade", id = case.id, name = case.id .. " in an upgrade",
      again = "make sandbox CASE=upgrade:" .. case.id }
  end
  return items
end

--- What is written down of the results.
---@param items table[]
---@param results table[]
---@return table data
function upgrade.tell(items, results)
  local data = {}
  for i, item in ipairs(items) do data[item.id] = results[i] and results[i].problems
    or cjson.null end
  return data
end

--- Removes what the cases of this process shared.
function upgrade.close()
  if scene then sample.clean() end
  scene = nil
end

return upgrade
