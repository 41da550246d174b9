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

--- What to do where there is no place for them.
temporary.ADVICE = "name another folder with TMPDIR=DIR"

--- Where temporary folders are made: TMPDIR, else /tmp.
---@param outside string? an installation: what only looks at it writes nothing in it, and no copy
---  of it is made in itself
---@return string|nil path absolute, with links resolved
---@return string? message
---@return string? code "EINSIDE": it lies in the installation
function temporary.place(outside)
  local wanted = core.system.environment().TMPDIR
  if not wanted or wanted == "" then wanted = "/tmp" end
  local place, message, code = core.file.realpath(wanted)
  if place and core.file.stat(place).type ~= "directory" then
    place, message, code = nil, "it is no folder", "ENOTDIR"
  end
  if not place then
    return nil, ("there is no folder for temporary files at %s (%s)"):format(text.visible(wanted),
      message), code
  elseif outside and (place .. "/"):sub(1, #outside + 1) == outside .. "/" then
    return nil, "temporary files would lie in the installation itself, in "
      .. text.visible(place), "EINSIDE"
  end
  return place
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
      return nil, message .. "; make room, or " .. temporary.ADVICE, code
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
  if not place then return nil, message .. "; " .. temporary.ADVICE, code end
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
