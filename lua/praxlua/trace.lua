--- Leaving no trace: what a run made for itself goes when it turns out that nothing is to be done,
-- and the folders it was made in get their old times back.
local core = require("praxlua.core")
local folder = require("praxlua.folder")

local trace = {}

-- Where a session writes before its transaction begins, the innermost first.
local FOLDERS = { "/.cache/state", "/.cache", "/.backups", "" }

local function names_of(directory)
  local names = {}
  for _, name in ipairs(folder.names(directory) or {}) do names[name] = true end
  return names
end

local function same(a, b)
  for name in pairs(a) do
    if not b[name] then return false end
  end
  for name in pairs(b) do
    if not a[name] then return false end
  end
  return true
end

--- Notes how the folders are before the first file of a session is written.
---@param target string
---@return table noted for trace.erase
function trace.note(target)
  local noted = {}
  for i, name in ipairs(FOLDERS) do
    local path = target .. name
    local stat = core.file.stat(path)
    local is_there = stat and stat.type == "directory"
    noted[i] = {
      path = path, absent = not stat,
      mtime = is_there and stat.mtime, names = is_there and names_of(path),
    }
  end
  return noted
end

--- Removes the folders that were not there, if nothing is in them, and sets the times of the others
--- back where they hold what they held before. The session's own files are gone by now.
---@param noted table
function trace.erase(noted)
  for _, before in ipairs(noted) do
    if before.absent then
      core.file.rmdir(before.path) -- fails, as it should, when something is in it
    elseif before.mtime and core.file.exists(before.path)
      and same(before.names, names_of(before.path)) then
      core.file.set_mtime(before.path, before.mtime)
    end
  end
end

return trace
