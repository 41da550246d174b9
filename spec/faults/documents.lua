--- Every bit and every length of the documents praxlua keeps: read back by the modules that read
-- them, from copies. What comes out is what was written, an earlier generation of it that is said
-- to be one, or nothing.
local base = require("praxlua.base")
local damage = require("spec.faults.damage")
local execution = require("praxlua.execution")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local lock_text = require("praxlua.lock_text")
local manifest = require("praxlua.backup.manifest")
local state = require("praxlua.state")
local core = require("praxlua.core")

local documents = {}

-- Plain io: what is tested is praxlua's reading. A new file each time: some file systems write a
-- truncated one out when it is closed.
local function write(path, data)
  os.remove(path)
  local file = assert(io.open(path, "wb"))
  assert(file:write(data))
  assert(file:close())
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- A target in which the files of one session's state stand.
local function state_reader(directory, files, damaged)
  local id = files.id
  helper.write(directory .. "/.cache/state/none", "")
  local path = directory .. "/.cache/state/" .. id .. ".json"
  local paths = { state = path, previous = path .. ".previous" }
  for name, at in pairs(paths) do
    if files[name] then write(at, files[name]) end
  end
  local newest = assert(state.load_state(directory, id))
  local other = damaged == "state" and paths.previous or paths.state
  assert(os.remove(paths[damaged]))
  local without = files.previous and assert(state.load_state(directory, id)) or nil
  write(paths[damaged], files[damaged])
  assert(lfs.attributes(other) or not files.previous)
  return function(data)
    write(paths[damaged], data)
    local found, message, code = state.load_state(directory, id)
    if not found then
      if files.previous then return "the other generation does not count: " .. tostring(message) end
      local known = code == "ESTATECORRUPTED" or code == "ESTATENOTFOUND"
      return not known and "code " .. tostring(code) or nil
    end
    if same(found, newest) then return nil end
    if not same(found, without) then return "neither generation was read" end
    if not message then return "the generation before is used, and nobody says so" end
  end
end

local readers = {}

function readers.state(directory, files) return state_reader(directory, files, "state") end

function readers.previous(directory, files) return state_reader(directory, files, "previous") end

-- The only generation there is: what is damaged is not read.
function readers.only(directory, files)
  return state_reader(directory, { id = files.id, state = files.state }, "state")
end

function readers.lock(directory, files)
  local path = directory .. "/.upgrade-lock"
  write(path, files.lock)
  local right = assert(lock_text.read(directory))
  return function(data)
    write(path, data)
    local found = lock_text.read(directory)
    if found and not same(found, right) then return "another text was read" end
  end
end

function readers.installed(directory, files)
  local path = directory .. "/" .. base.MANIFEST
  write(path, files.installed)
  local right = assert(base.read_manifest(directory))
  return function(data)
    write(path, data)
    local found, message, code = base.read_manifest(directory)
    if found then return not same(found, right) and "another base was read" or nil end
    if found == false and not message then return "no base, and nobody says why" end
    if found == nil and code ~= "EFORMAT" then
      return "no upgrade with it: " .. tostring(message)
    end
  end
end

function readers.manifest(_, files)
  local right = assert(manifest.from_json(files.manifest))
  return function(data)
    local found, message = manifest.from_json(data)
    if found then return not same(found, right) and "another manifest was read" or nil end
    if type(message) ~= "string" then return "no message" end
  end
end

function readers.plan(directory, files)
  local r = {
    folder = directory, ctx = { memory = {} },
    session = { metadata = { plan_sha256 = core.hash.sha256(files.plan) } },
  }
  write(directory .. "/plan.json", files.plan)
  assert(execution.restore_plan(r))
  return function(data)
    write(directory .. "/plan.json", data)
    if execution.restore_plan(r) then return "a damaged plan was read" end
  end
end

--- The documents, in the order in which they are tried.
documents.NAMES = { "state", "previous", "only", "lock", "installed", "manifest", "plan" }

-- The file a document is in.
local FILE_OF = { only = "state" }

--- Tries every `stride`-th damage of a document, beginning with the one of number `offset`: of all
--- single bits first, then of all lengths.
---@param directory string empty, ours
---@param name string of documents.NAMES
---@param files table<string, string> their contents, and `id` of the session
---@param stride integer
---@param offset integer 0 to stride - 1
---@return string[] problems
---@return integer cases
function documents.try(directory, name, files, stride, offset)
  local data = files[FILE_OF[name] or name]
  local read, problems, cases = readers[name](directory, files), {}, 0
  local function one(damaged, what, ...)
    cases = cases + 1
    local ok, problem = xpcall(read, debug.traceback, damaged)
    if problem or not ok then
      problems[#problems + 1] = what:format(...) .. ": " .. tostring(problem)
    end
  end
  for number = offset, #data * 9 - 1, stride do
    if number < #data * 8 then
      one(damage.flipped(data, number), "bit %d", number)
    else
      one(data:sub(1, number - #data * 8), "cut to %d", number - #data * 8)
    end
  end
  return problems, cases
end

return documents
