--- Takes one guard out of the product at a time (mutants.lua), and wants that something notices: a
-- mutant that survives is a bad case, and so is one that cannot be made any more.
--
-- The sources are copied, one process each has its copy and its build, whose objects come from the
-- build under test, so that a mutant costs one compilation. A mutant names its catchers in
-- `caught_by`; the first one that goes red has caught it:
--
-- * "spec:NAME" or "spec:NAME:FILTER": spec/unit/NAME_spec.lua (or with NAME "integration/X" the
--   other folder's), or the tests in it whose names match
-- * "order:SCENARIO": the rules of order.lua over the scenario's command
-- * anything else: a family of this folder, or FAMILY:CASE of it, as a sample
--
-- Every catcher has to be green without a mutant first. A case is the name of a mutant.
local cjson = require("cjson")
local command = require("spec.support.command")
local lfs = require("lfs")
local mutant_tree = require("spec.support.mutant_tree")
local mutants = require("spec.faults.mutants")
local order = require("spec.faults.order")
local tracer = require("spec.faults.tracer")

local family = {
  name = "mutation",
  floor = { full = { cases = 112, states = 112 }, sample = { cases = 4, states = 4 } },
}

local SAMPLE = 4 -- mutants
local SECONDS = 120 -- for one catcher
local quote = command.quote
local LUA = os.getenv("LUA") or "lua5.4"

local run = mutant_tree.run

-- ---------------------------------------------------------------------------------------------
-- A work tree of its own

-- The tree of this process, made when it is first asked for. What the catchers write goes to `run`,
-- in memory where the machine has that: no power goes off here, and a sync costs nothing there.
local function work_tree(c)
  if c.memory.work then return c.memory.work end
  local w = mutant_tree.open(c.directory) -- or an earlier process of the same number has left one
  w.run = ("%s/%s"):format(run("test -w /dev/shm") and "/dev/shm" or c.directory,
    "praxlua-mutation" .. c.directory:gsub("/", "-"))
  if not lfs.attributes(w.run) then assert(lfs.mkdir(w.run)) end
  c.memory.work = w
  return w
end

-- ---------------------------------------------------------------------------------------------
-- Catchers: each tells whether it went red, and what it said

local function in_tree(w, line)
  return run(("cd %s && env -u PRAXLUA_PATH TMPDIR=%s PRAXLUA_HOST=%s B=%s TRACER=%s/faults/tracer "
    .. "LUA_PATH='./?.lua;lua/?.lua;lua/?/init.lua;;' LUA_CPATH='%s/lib/?.so;;' "
    .. "timeout --kill-after=5 %d %s"):format(w.tree, w.run, w.host, w.build, w.build, w.build,
    SECONDS, line))
end

local function empty(w)
  os.execute(("chmod -R u+rwx %s/* 2>/dev/null; rm -rf %s/*"):format(w.run, w.run))
end

local catchers = {}

function catchers.spec(w, name, filter)
  local green, output = in_tree(w, ("%s spec/support/busted.lua --no-keep-going %s "
    .. "spec/%s_spec.lua"):format(LUA, filter and "--filter=" .. quote(filter) or "",
    name:find("/", 1, true) and name or "unit/" .. name))
  empty(w)
  assert(green or not output:find("No test files found", 1, true), output)
  return not green, output
end

function catchers.order(w, name, _, c)
  local s = c.scenario(name)
  local executable = s.executable
  s.executable = w.host
  s.reset()
  local result = tracer.run({
    argv = { w.host, table.unpack(s.argv) }, environment = s.environment,
    directory = s.project, root = s.project, executable = w.host, who = "all", data = true,
  })
  s.executable = executable
  local problems = order.check(s, result)
  if result.code ~= s.code then
    problems[#problems + 1] = ("exit %s %s"):format(result.code or result.signal, result.stderr)
  end
  return #problems > 0, table.concat(problems, "\n")
end

local function by_family(w, name, case)
  local green, output = in_tree(w, ("env FAMILY=%s SHARE=sample JOBS=1 CASE=%s %s "
    .. "spec/faults/main.lua"):format(name, quote(case or ""), LUA))
  empty(w)
  return not green, output
end

local function is_red(w, catcher, c)
  local kind, rest = catcher:match("^([^:]+):?(.*)$")
  local name, more = rest:match("^([^:]*):?(.*)$")
  if catchers[kind] then return catchers[kind](w, name, more ~= "" and more or nil, c) end
  return by_family(w, kind, rest ~= "" and rest or nil)
end

-- ---------------------------------------------------------------------------------------------
-- Cases

--- A catcher without any mutant.
---@param c table
---@param item { catcher: string }
---@return table result { red: boolean, output: string }
function family.baseline(c, item)
  local w = work_tree(c)
  assert(mutant_tree.make(w))
  local red, output = is_red(w, item.catcher, c)
  return { red = red, output = red and output:sub(-2000) or "" }
end

local function try(c, w, mutant)
  local made, output = mutant_tree.make(w)
  if not made then return { problem = "does not build: " .. output } end
  for _, catcher in ipairs(mutant.caught_by) do
    local red, said = is_red(w, catcher, c)
    if red then return { caught_by = catcher, said = said:sub(-400) } end
  end
  return { problem = "survives " .. table.concat(mutant.caught_by, ", ") }
end

--- One mutant.
---@param c table
---@param item { mutant: string }
---@return table result { caught_by, said } or { problem }
function family.one(c, item)
  local mutant = mutants.named(item.mutant)
  local changed, problem = mutants.apply(mutant)
  if not changed then return { problem = problem } end
  local w = work_tree(c)
  local ok, result = mutant_tree.with(w, mutant.file, changed, function()
    return try(c, w, mutant)
  end)
  return ok and result or { problem = result }
end

-- All catchers of a list of mutants, each once.
local function catchers_of(list)
  local items, seen = {}, {}
  for _, mutant in ipairs(list) do
    for _, catcher in ipairs(mutant.caught_by) do
      if not seen[catcher] then
        seen[catcher] = true
        items[#items + 1] = { catcher = catcher }
      end
    end
  end
  return items
end

local function chosen(c)
  local list = {}
  for _, mutant in ipairs(mutants.list) do
    if mutant.caught_by and (not c.only or mutant.name == c.only) then list[#list + 1] = mutant end
  end
  return c.share == "sample" and not c.only and c.some(list, SAMPLE) or list
end

local function check_catchers(c, list, bad)
  local items = catchers_of(list)
  for i, item in ipairs(items) do item.case = c.only or "catcher " .. i end
  for i, result in pairs(c.map(items, "baseline")) do
    local red = result.crashed or result.red and result.output
    if red then
      bad[#bad + 1] = { case = items[i].catcher, why = "red without a mutant: " .. red }
    end
  end
end

-- Takes away what the processes left in memory.
local function clean(c)
  run(("rm -rf /dev/shm/praxlua-mutation%s*"):format((c.base:gsub("/", "-"))))
end

--- Runs the family.
---@param c table
---@return table result
function family.run(c)
  local list, bad, items, caught = chosen(c), {}, {}, 0
  local details = { caught_by = {}, without = {} }
  for _, problem in ipairs(mutants.missing()) do
    bad[#bad + 1] = { case = problem.name, why = problem.why }
  end
  check_catchers(c, list, bad)
  for i, mutant in ipairs(list) do items[i] = { case = mutant.name, mutant = mutant.name } end
  for i, result in pairs(c.map(items, "one")) do
    local problem = result.crashed or result.problem
    if problem then
      bad[#bad + 1] = { case = items[i].case, why = problem }
    else
      caught = caught + 1
      details.caught_by[items[i].case] = result.caught_by
    end
  end
  clean(c)
  details.without = mutants.without()
  details.without[1] = details.without[1] or cjson.null
  return { cases = #items, states = caught, bad = bad, details = details }
end

return family
