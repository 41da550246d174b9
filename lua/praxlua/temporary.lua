--- A private folder for the time of one piece of work, outside of every installation.
--
-- Its owner holds the kernel's lock on it, so that one that a killed run has left is known by that
-- nobody does.
local core = require("praxlua.core")
local names_of = require("praxlua.folder").names
local text = require("praxlua.text")

local temporary = {}

local PRIVATE = 448 -- 0700
local TRIES = 10
local NAME = "^praxlua%-work%-" .. ("%x"):rep(8) .. "%-%x+%-%x+%-%x+%-" .. ("%x"):rep(12) .. "$"

--- Where temporary folders are made: TMPDIR, else /tmp.
---@return string|nil path absolute, with links resolved
---@return string? message
---@return string? code
function temporary.place()
  local wanted = core.system.environment().TMPDIR
  if not wanted or wanted == "" then wanted = "/tmp" end
  local place, message, code = core.file.realpath(wanted)
  if place and core.file.stat(place).type ~= "directory" then
    place, message, code = nil, "it is no folder", "ENOTDIR"
  end
  if place then return place end
  return nil, ("there is no folder for temporary files at %s (%s); name one with TMPDIR=DIR")
    :format(text.visible(wanted), message), code
end

--- Whether temporary folders lie outside of a directory in which nothing may be written.
---@param directory string absolute, without links
---@return true|nil
---@return string? message
---@return string? code
function temporary.is_outside(directory)
  local place, message, code = temporary.place()
  if not place then return nil, message, code end
  if (place .. "/"):sub(1, #directory + 1) ~= directory .. "/" then return true end
  return nil, ("temporary files would lie in the installation itself, in %s; name another folder "
    .. "with TMPDIR=DIR"):format(text.visible(place)), "EINVAL"
end

-- Whoever sweeps just then may take a new folder for one that was left: then there is another one.
local LOST = { EBUSY = true, ENOENT = true }

-- A new folder, and its lock where the file system has locks.
local function make(place)
  local folder, made, message, code, lock, failure
  for _ = 1, TRIES do
    folder = ("%s/praxlua-work-%s"):format(place, core.system.uuid())
    made, message, code = core.file.mkdir(folder, PRIVATE)
    if not made then
      return nil, message .. "; make room, or name another folder with TMPDIR=DIR", code
    end
    lock, message, failure = core.lock.acquire(folder)
    if lock or not LOST[failure] then return folder, lock end
  end
  return nil, message, failure
end

--- Calls use(folder) with a new empty folder, which is gone afterwards, whatever happens.
---@param use fun(folder: string): any
---@return any what use returned, or nil, message, code when there is no folder
function temporary.within(use)
  local place, message, code = temporary.place()
  if not place then return nil, message, code end
  local folder, lock
  folder, lock, code = make(place)
  if not folder then return nil, lock, code end
  local results = table.pack(pcall(use, folder))
  core.tree.remove(folder)
  if lock then lock:release() end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- Removes a folder of ours that nobody works in any more.
local function remove_left(folder)
  local stat = core.file.stat(folder)
  if not stat or stat.type ~= "directory" or stat.uid ~= core.system.euid() then return end
  local lock <close> = core.lock.acquire(folder)
  if lock then core.tree.remove(folder) end
end

--- Removes the folders that killed runs have left.
function temporary.sweep()
  local place = temporary.place()
  for _, name in ipairs(place and names_of(place) or {}) do
    if name:find(NAME) then remove_left(place .. "/" .. name) end
  end
end

return temporary
