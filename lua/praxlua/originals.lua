--- What phases changed where no backup reaches, as it was before: files of the project around the
-- installation, and what is ephemeral within it.
--
-- Until the commit the transaction brings these back. Afterwards, for a rollback of the completed
-- upgrade, they lie in .cache/originals-<session>, second names of the old files; the session's
-- metadata lists them. They are kept until the next upgrade, like the old environment.
local core = require("praxlua.core")
local scope = require("praxlua.backup.scope")
local text = require("praxlua.text")

local originals = {}

local PREFIX = "originals-"

local function folder_of(target, session_id) return target .. "/.cache/" .. PREFIX .. session_id end

-- What stands at a path: { type, mode, target?, sha256? }; nil for nothing.
local function look(root, path)
  local stat, message, code = root:stat(path)
  if not stat then
    if code == "ENOENT" or code == "ENOTDIR" then return nil end
    return nil, message, code
  end
  local found = { type = stat.type, mode = stat.mode, target = stat.target }
  if stat.type == "file" then
    found.sha256, message, code = root:hash(path)
    if not found.sha256 then return nil, message, code end
  end
  return found
end

-- A second name for a file; a copy where the file system gives none.
local function keep_file(ctx, folder, entry)
  local from = ctx.project .. "/" .. entry.path
  local ok, message, code = core.file.mkdir(folder, 448) -- 0700
  if ok then ok, message, code = core.file.link(from, folder .. "/" .. entry.name) end
  if ok or not core.file.exists(folder) then return ok, message, code end
  local data
  data, message, code = core.file.read(from)
  if not data then return nil, message, code end
  return core.file.write_atomic(folder .. "/" .. entry.name, data, entry.mode)
end

-- The paths that are noted already, as a set; a run that goes on finds them in its session.
local function noted(ctx)
  local set = ctx.memory.originals
  if set then return set end
  set = {}
  for _, entry in ipairs(ctx.session.metadata.originals or {}) do set[entry.path] = true end
  ctx.memory.originals = set
  return set
end

--- Remembers what stands at a path, before a phase changes it for the first time.
---@param ctx table of the run
---@param path string relative to the project
---@return true|nil
---@return string? message
---@return string? code
function originals.note(ctx, path)
  if scope.includes(ctx.target_name, path) then return true end
  if noted(ctx)[path] then return true end
  local root, message, code = core.root.open(ctx.project)
  if not root then return nil, message, code end
  local entry
  entry, message, code = look(root, path)
  root:close()
  if code then return nil, message, code end
  if not entry then return true end -- there was nothing
  entry.path = path
  if entry.type == "file" then
    local ok
    entry.name = core.system.uuid()
    ok, message, code = keep_file(ctx, folder_of(ctx.target, ctx.session.session_id), entry)
    if not ok then return nil, message, code end
  end
  local list = ctx.session.metadata.originals or {}
  list[#list + 1] = entry
  ctx.session.metadata.originals, noted(ctx)[path] = list, true
  return true
end

--- Forgets those of a session that was undone.
---@param target string
---@param session_id string
function originals.drop(target, session_id) core.tree.remove(folder_of(target, session_id)) end

--- Forgets those of all sessions but one.
---@param target string
---@param kept string id of a session
function originals.forget(target, kept)
  local cache = core.root.open(target .. "/.cache")
  for _, entry in ipairs(cache and cache:list(".") or {}) do
    local is_one = entry.name:sub(1, #PREFIX) == PREFIX
    if is_one and entry.name ~= PREFIX .. kept then
      core.tree.remove(target .. "/.cache/" .. entry.name)
    end
  end
  if cache then cache:close() end
end

-- ---------------------------------------------------------------------------------------------
-- Going back

-- What stood and what the upgrade left, by path, where no backup reaches.
local function wanted_paths(ctx, metadata)
  local paths = {}
  for _, change in ipairs(metadata.changes) do
    if change.kind ~= "exchange" and not scope.includes(ctx.target_name, change.path) then
      paths[change.path] = { left = change.after or false }
    end
  end
  for _, entry in ipairs(metadata.originals or {}) do
    if paths[entry.path] then paths[entry.path].before = entry end
  end
  return paths
end

local function as_old(found)
  if not found then return false end
  return found.type == "link" and "link:" .. found.target or found.sha256 or true
end

local function is_same(now, before)
  if not now or not before then return now == before end
  return now.type == before.type and now.mode == before.mode and now.sha256 == before.sha256
    and now.target == before.target
end

-- The item of a plan that leads from what is there to what was.
local function item_for(ctx, metadata, path, now, before)
  local item = { path = path, old = as_old(now), mode = before and before.mode,
    type = (before or now).type }
  if not before then
    item.kind = now.type == "directory" and "rmdir" or "remove"
  elseif before.type == "directory" then
    item.kind = now and "mode" or "mkdir"
  elseif before.type == "link" then
    item.kind, item.target = "symlink", before.target
  else
    item.kind, item.sha256 = "put", before.sha256
    item.from = folder_of(ctx.target, metadata.undoes) .. "/" .. before.name
    if core.hash.file(item.from) ~= before.sha256 then
      return nil, "the old content of " .. text.visible(path) .. " is no longer in "
        .. text.visible(item.from), "ELOST"
    end
  end
  return item
end

local RANK = { remove = 1, rmdir = 2, mkdir = 3, put = 4, symlink = 4, mode = 5 }

-- Removals from the inside out, then making from the outside in.
local function in_order(a, b)
  local rank_a, rank_b = RANK[a.kind], RANK[b.kind]
  if rank_a ~= rank_b then return rank_a < rank_b end
  if rank_a <= 2 then return a.path > b.path end
  return a.path < b.path
end

-- A folder in the place of a file, or the other way round, is somebody's work too.
local function is_touched(now, before, left)
  local is_folder = now and now.type == "directory"
  if is_folder and (not before or before.type == "directory") then return false end
  if not now and before and before.type == "directory" then return false end
  return as_old(now) ~= left
end

--- What brings back what an upgrade changed where no backup reaches.
---@param ctx table
---@param metadata table of a session that restores: undoes, changes, originals
---@param choice "theirs"|nil theirs: what somebody changed since goes back as well
---@return table[]|nil items for backup.apply_plan
---@return string[]|string touched paths that somebody changed since; or a message
---@return string? code "ELOST" when the old content is gone, or of a system call
function originals.plan(ctx, metadata, choice)
  local items, touched = {}, {}
  local root, message, code = core.root.open(ctx.project)
  if not root then return nil, message, code end
  for path, of in pairs(wanted_paths(ctx, metadata)) do
    local now, item
    now, message, code = look(root, path)
    if not code and not is_same(now, of.before) then
      if is_touched(now, of.before, of.left) and choice ~= "theirs" then
        touched[#touched + 1] = path
      else
        item, message, code = item_for(ctx, metadata, path, now, of.before)
        items[#items + 1] = item
      end
    end
    if code then
      root:close()
      return nil, message, code
    end
  end
  root:close()
  table.sort(items, in_order)
  table.sort(touched)
  return items, touched
end

return originals
