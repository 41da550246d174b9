--- Old content that an undo needs and does not find, taken from the backups.
--
-- A transaction keeps the files it replaced; when one of them is gone or damaged, its undo says
-- "ELOST" and undoes all the rest. The journal has the hash of every old file, and the backup that
-- was made before the upgrade has the files, so it is found there by its hash, in whichever backup.
local core = require("praxlua.core")
local manifest = require("praxlua.backup.manifest")
local store = require("praxlua.backup.store")

local lost = {}

-- The folder for unpacking, in the session's own.
local FOLDER = "/recovered"

-- Which of the wanted files a backup says it has: a list of paths.
local function found_in(m, wanted)
  local contents, paths = manifest.contents(m), {}
  for path, sha256 in pairs(wanted) do
    if contents[path] and contents[path].sha256 == sha256 then paths[#paths + 1] = path end
  end
  table.sort(paths)
  return paths
end

-- Verifies a backup, unpacks it, and hands what is wanted of it to the undo.
local function supply_from(r, name, paths)
  local opened, message = store.open(r.ctx, name)
  if not opened then return nil, message end
  local folder = r.folder .. FOLDER
  core.tree.remove(folder)
  local ok
  ok, message = core.file.mkdir(folder, 448) -- 0700
  if ok then
    local _, count = manifest.contents(opened.manifest)
    ok, message = core.archive.extract(opened.directory .. "/" .. store.ARCHIVE, folder,
      { max_bytes = opened.manifest.total_size_bytes, max_entries = count })
  end
  for _, path in ipairs(paths) do
    if ok then ok, message = r.transaction:supply(path, folder .. "/" .. path) end
  end
  core.tree.remove(folder)
  if not ok then return nil, message end
  return true
end

-- What the undo missed, by path; nil and the path of what no backup holds as a file.
local function wanted_by(transaction)
  local wanted = {}
  for _, missing in ipairs(transaction:lost()) do
    if not missing.sha256 then return nil, missing.path end
    wanted[missing.path] = missing.sha256
  end
  return wanted
end

--- Finds in the backups what the undo of an open session missed, newest backup first, and gives it
--- to the undo, which is to be called once more then.
---@param r table run with its context, whose transaction's rollback or rewind failed with "ELOST"
---@return true|nil
---@return string? message
function lost.recover(r)
  local wanted, folder = wanted_by(r.transaction)
  if not wanted then return nil, folder .. " is in no backup as it was" end
  local names, message = store.names(r.ctx)
  if not names then return nil, message end
  for i = #names, 1, -1 do
    local m = store.peek(r.ctx, names[i])
    local paths = m and found_in(m, wanted) or {}
    if #paths > 0 then
      local ok, problem = supply_from(r, names[i], paths)
      message = message or problem
      for _, path in ipairs(ok and paths or {}) do
        r.ctx.warn(string.format("the undo data of %s was lost; it comes from the backup %s", path,
          names[i]))
        wanted[path] = nil
      end
    end
  end
  local path = next(wanted)
  if path then return nil, message or "no backup holds the old content of " .. path end
  return true
end

return lost
