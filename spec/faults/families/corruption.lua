--- Damaged files: every bit and every length of what praxlua keeps, and whole commands for some.
--
-- A case is one of
--   DOCUMENT:POINT:STRIDE:OFFSET   every STRIDE-th damage of a document (documents.lua), as it was
--                                  when an upgrade was killed at that point
--   journal:POINT:STRIDE           of the journal and its copy (flips.c)
--   backup:SEED                    of an archive, read back
--   SCENE:FILE:WAY:COMMAND:SEED    a whole command after it (whole.lua)
local core = require("praxlua.core")
local damage = require("spec.faults.damage")
local documents = require("spec.faults.documents")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local store = require("praxlua.backup.store")
local tracer = require("spec.faults.tracer")
local whole = require("spec.faults.whole")

local corruption = {
  name = "corruption",
  floor = { full = { cases = 1200000 }, sample = { cases = 3000 } },
}

-- The upgrade is killed after this part of its calls: in phases 2, 3 and 4.
local POINTS = { early = 0.4, middle = 0.6, late = 0.75 }

-- ---------------------------------------------------------------------------------------------
-- Taking the files

local function traced(s, options)
  options.argv = { s.executable, table.unpack(s.argv) }
  options.environment, options.directory, options.root = s.environment, s.project, s.project
  options.executable = s.executable
  return tracer.run(options)
end

-- Saves what stands in the installation, each file by what it is.
local function save_files(target, directory)
  lfs.mkdir(directory)
  local saved = {}
  for name, path in pairs(damage.files(target)) do
    local data = helper.read(path)
    saved[name] = data and #data
    helper.write(directory .. "/" .. name, data or "")
  end
  local id = damage.files(target).state:match("([^/]+)%.json$")
  helper.write(directory .. "/id", id)
  return saved
end

--- Kills an upgrade at a point and takes the files there are.
---@param c table
---@param item { point: string, into: string }
---@return table sizes of the files in bytes, by name
function corruption.take(c, item)
  local s = c.scenario("upgrade")
  s.reset()
  local count = traced(s, { mode = "count" }).count
  s.reset()
  -- A little later where not all of them are there.
  local from = math.floor(count * POINTS[item.point])
  for n = from, math.min(from + 30, count) do
    assert(traced(s, { mode = "after", at = n }).hit)
    local files = damage.files(s.target)
    if files.state and files.previous and files.lock and files.journal and files.copy
      and helper.read(files.journal) == helper.read(files.copy) then
      local sizes = save_files(s.target, item.into)
      os.execute(("cp -a %s %s"):format(s.target .. "/.backups", item.into .. "/backups"))
      s.reset()
      return sizes
    end
    s.reset()
  end
  error("no such moment")
end

local function taken(c, point)
  local key = "files " .. point
  if not c.memory[key] then
    local files, directory = {}, c.base .. "/" .. point
    for name in lfs.dir(directory) do
      if lfs.attributes(directory .. "/" .. name, "mode") == "file" then
        files[name] = assert(helper.read(directory .. "/" .. name))
      end
    end
    c.memory[key] = files
  end
  return c.memory[key]
end

-- ---------------------------------------------------------------------------------------------
-- One case

local kinds = {}

function kinds.journal(c, point, stride)
  local program = tracer.program():gsub("tracer$", "flips")
  local directory = c.base .. "/" .. point
  local pipe = assert(io.popen(("%s %s/journal %s/copy %d %d %s 2>&1"):format(program, directory,
    directory, c.seed, 200000 // tonumber(stride), stride)))
  local problems, cases = {}, 0
  for line in pipe:lines() do
    local done = line:match("^cases (%d+)")
    if done then cases = tonumber(done) else problems[#problems + 1] = line end
  end
  if not pipe:close() and #problems == 0 then problems[1] = "flips failed" end
  return problems, cases
end

local function document(c, name, point, stride, offset)
  local directory = c.directory .. "/documents"
  lfs.mkdir(directory)
  local problems, cases = documents.try(directory, name, taken(c, point), math.tointeger(stride),
    math.tointeger(offset))
  assert(core.tree.remove(directory))
  return problems, cases
end

for _, name in ipairs(documents.NAMES) do
  kinds[name] = function(c, ...) return document(c, name, ...) end
end

-- A damaged archive, its manifest whole: found by the reading back, whatever it is.
function kinds.backup(c, _)
  local ctx = { target = c.directory .. "/.praxis-os", target_name = ".praxis-os" }
  helper.write(ctx.target .. "/none", "")
  os.execute(("cp -a %s/middle/backups %s/.backups"):format(c.base, ctx.target))
  local name = store.names(ctx)[1]
  assert(store.open(ctx, name))
  local path, problems = ctx.target .. "/.backups/" .. name .. "/" .. store.ARCHIVE, {}
  local data = assert(helper.read(path))
  local cases = 60
  for i = 1, cases do
    local bit, cut = c.random(#data * 8) - 1, c.random(#data) - 1
    os.remove(path)
    helper.write(path, i % 3 == 0 and data:sub(1, cut) or damage.flipped(data, bit))
    local ok, message, code = store.open(ctx, name)
    if ok or code ~= "EBADBACKUP" or type(message) ~= "string" then
      problems[#problems + 1] = ("%s: %s"):format(i % 3 == 0 and "cut to " .. cut or "bit " .. bit,
        tostring(message or "not noticed"))
    end
  end
  assert(core.tree.remove(ctx.target))
  return problems, cases
end

local function run_whole(c, scene, file, way, name, seed)
  math.randomseed(math.tointeger(seed))
  local n
  if whole.SCENES[scene].kill then
    c.memory.count = c.memory.count or traced(c.scenario("upgrade"), { mode = "count" }).count
    n = c.random(c.memory.count)
  end
  local problems, was_there = whole.one(c, { scene = scene, file = file, way = way, command = name,
    n = n })
  return problems, was_there and 1 or 0
end

--- Runs one case.
---@param c table
---@param item { case: string }
---@return { problems: string[], cases: integer, seconds: number }
function corruption.one(c, item)
  local words = {}
  for word in item.case:gmatch("[^:]+") do words[#words + 1] = word end
  local began = core.system.monotonic()
  local problems, cases
  if kinds[words[1]] then
    problems, cases = kinds[words[1]](c, table.unpack(words, 2))
  else
    problems, cases = run_whole(c, table.unpack(words))
  end
  while #problems > 12 do table.remove(problems) end
  return { problems = problems, cases = cases, seconds = core.system.monotonic() - began }
end

-- ---------------------------------------------------------------------------------------------
-- Which cases

local function add(items, ...) items[#items + 1] = { case = table.concat({ ... }, ":") } end

-- A document in pieces that several processes can work on.
local function add_documents(items, c, points)
  for _, name in ipairs(documents.NAMES) do
    if c.share == "full" then
      for offset = 0, 15 do add(items, name, "middle", 16, offset) end
    else
      add(items, name, "middle", 97, c.random(97) - 1)
    end
  end
  for _, point in ipairs(points) do add(items, "journal", point, c.share == "full" and 1 or 16) end
end

local SCENES = { "open", "begun", "open", "done", "open", "ready", "begun" }

local function any(c, list) return list[c.random(#list)] end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- Each file of each scene in each way, with a command by chance; of the sample, some.
local function add_whole(items, c)
  local function one(name, file, way)
    local commands = sorted_keys(whole.SCENES[name].commands)
    add(items, name, file, way, any(c, commands), c.random(1 << 20))
  end
  for i = 1, c.share == "full" and 0 or 3 do
    local name = SCENES[i % #SCENES + 1]
    one(name, any(c, whole.SCENES[name].files), any(c, damage.WAYS))
  end
  for _, name in ipairs(c.share == "full" and sorted_keys(whole.SCENES) or {}) do
    for _, file in ipairs(whole.SCENES[name].files) do
      for _, way in ipairs(damage.WAYS) do one(name, file, way) end
    end
  end
end

local function cases_of(c, points)
  local items = {}
  add_documents(items, c, points)
  for _ = 1, c.share == "full" and 8 or 1 do add(items, "backup", c.random(1 << 20)) end
  add_whole(items, c)
  return items
end

-- Kills upgrades and takes their files, where a case needs them.
local function take_files(c, points)
  local wanted = {}
  for i, point in ipairs(points) do wanted[i] = { point = point, into = c.base .. "/" .. point } end
  local only = c.only
  c.only = nil
  for _, one in ipairs(c.map(wanted, "take")) do assert(not one.crashed, one.crashed) end
  c.only = only
end

--- The family.
---@param c table
---@return table result
function corruption.run(c)
  local points = c.share == "full" and { "early", "middle", "late" } or { "middle" }
  if c.only then points = { "early", "middle", "late" } end
  take_files(c, points)
  local items = c.only and { { case = c.only } } or cases_of(c, points)
  local total, bad, by_kind = 0, {}, {}
  for i, result in pairs(c.map(items, "one")) do
    local case = items[i].case
    local problems = result.problems or { result.crashed }
    if #problems > 0 then bad[#bad + 1] = { case = case, why = table.concat(problems, "\n") } end
    local cases = math.tointeger(result.cases or 0)
    local kind = case:match("^%a+")
    total, by_kind[kind] = total + cases, (by_kind[kind] or 0) + cases
  end
  table.sort(bad, function(a, b) return a.case < b.case end)
  return { cases = total, bad = bad, details = { by_kind = by_kind } }
end

return corruption
