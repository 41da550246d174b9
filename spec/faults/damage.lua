--- Ways to damage a file, and the files of an installation that praxlua relies on.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local damage = {}

local function quoted(path) return command.quote(path) end

--- The data with one bit turned over.
---@param data string
---@param bit integer from 0
---@return string
function damage.flipped(data, bit)
  local at = bit // 8 + 1
  return data:sub(1, at - 1) .. string.char(data:byte(at) ~ (1 << bit % 8)) .. data:sub(at + 1)
end

-- Whoever opens it for reading waits for ever, unless he looks first.
local function fifo(path) assert(os.execute("mkfifo " .. quoted(path))) end

local CANARY = "nobody may change this\n"

local ways = {}

function ways.bit(path, random)
  local data = assert(helper.read(path))
  helper.write(path, damage.flipped(data, random(#data * 8) - 1))
end

function ways.cut(path, random)
  local data = assert(helper.read(path))
  helper.write(path, data:sub(1, random(#data) - 1))
end

function ways.empty(path) helper.write(path, "") end

function ways.zeros(path)
  helper.write(path, ("\0"):rep(#assert(helper.read(path))))
end

-- What begins as it should and goes on as something else.
function ways.longer(path)
  helper.write(path, assert(helper.read(path)) .. "and more\n")
end

function ways.gone(path) assert(os.remove(path)) end

function ways.directory(path)
  assert(os.remove(path))
  assert(lfs.mkdir(path))
end

function ways.link(path, _, outside)
  assert(os.remove(path))
  helper.write(outside, CANARY)
  assert(lfs.link(outside, path, true))
end

function ways.fifo(path)
  assert(os.remove(path))
  fifo(path)
end

--- The names of all ways.
damage.WAYS = { "bit", "bit", "bit", "cut", "cut", "empty", "zeros", "longer", "gone", "directory",
  "link", "fifo" }

--- Damages a file. A disk that forgets changes no times: what is still a file keeps the time of its
--- last change.
---@param path string
---@param way string of damage.WAYS
---@param random fun(n: integer): integer
---@param outside string a file that links lead to, and whose name with an ending is free
function damage.apply(path, way, random, outside)
  local clock = outside .. ".time"
  assert(os.execute(("touch -r %s %s"):format(quoted(path), quoted(clock))))
  ways[way](path, random, outside)
  if lfs.symlinkattributes(path, "mode") == "file" then
    assert(os.execute(("touch -r %s %s"):format(quoted(clock), quoted(path))))
  end
  os.remove(clock)
end

--- Whether what links led to is as it was.
---@param outside string
---@return boolean
function damage.is_intact(outside)
  local data = helper.read(outside)
  return data == nil or data == CANARY
end

-- The first file whose name matches, in the order of names.
local function first(folder, pattern)
  local names = {}
  if lfs.attributes(folder, "mode") ~= "directory" then return nil end
  for name in lfs.dir(folder) do
    if name:find(pattern) then names[#names + 1] = name end
  end
  table.sort(names)
  return names[1] and folder .. "/" .. names[1]
end

local UUID = "^%x%x%x%x%x%x%x%x%-[%x-]+"

--- The paths of the files praxlua relies on, by what they are; those that are there.
---@param target string
---@param session string|nil the id of one; the first one when nil
---@return table<string, string>
function damage.files(target, session)
  local id = session and "^" .. session:gsub("%-", "%%-") or UUID
  local folder = first(target .. "/.upgrade", id .. "$") or target .. "/.upgrade/none"
  local backup = first(target .. "/.backups", "^%d") or target .. "/.backups/none"
  return {
    state = first(target .. "/.cache/state", id .. "%.json$"),
    previous = first(target .. "/.cache/state", id .. "%.json%.previous$"),
    journal = first(folder, "^journal$"), copy = first(folder, "^journal%.copy$"),
    plan = first(folder, "^plan%.json$"), undo = first(folder .. "/undo", "^%d+$"),
    stage = first(folder .. "/stage", "^%d+$"),
    lock = first(target, "^%.upgrade%-lock$"),
    installed = first(target, "^%.installed%-manifest%.json$"),
    manifest = first(backup, "^MANIFEST%.json$"), archive = first(backup, "^backup%.tar%.zst$"),
    requirements = first(backup, "^requirements%-snapshot%.txt$"),
  }
end

return damage
