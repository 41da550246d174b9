--- What phases change and no backup holds, as it was before: files of the project around the
-- installation, what is ephemeral within it, and what a person made or changed in it since the
-- session's backup.
--
-- Until the commit the transaction brings these back. Afterwards, for a rollback of the completed
-- upgrade, they lie in .cache/originals-<session>, second names of the old files; the session's
-- metadata lists them. They are kept until the next upgrade, like the old environment.
local core = require("praxlua.core")
local manifest = require("praxlua.backup.manifest")
local scope = require("praxlua.backup.scope")
local store = require("praxlua.backup.store")
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

-- What a change must find there, and what it left: a hash, "link:TARGET", or false for nothing.
local function as_old(found)
  if not found then return false end
  return found.type == "link" and "link:" .. found.target or found.sha256 or true
end

local function is_same(now, before)
  if not now or not before then return now == before end
  return now.type == before.type and (now.type == "link" or now.mode == before.mode)
    and now.sha256 == before.sha256 and now.target == before.target
end

-- The newest note of each path; a run that goes on finds them in its session.
local function noted(ctx)
  local newest = ctx.memory.originals
  if newest then return newest end
  newest = {}
  for _, entry in ipairs(ctx.session.metadata.originals or {}) do newest[entry.path] = entry end
  ctx.memory.originals = newest
  return newest
end

-- What the backup of this session holds, by path; false when it made none, as a script does.
local function held(ctx)
  local made = (ctx.session and ctx.session.phase_artifacts or {})["1"]
  if not made or not made.backup_path then return false end
  if not ctx.memory.backed_up then
    local m, message, code = store.peek(ctx, store.name_in(made.backup_path))
    if not m then return nil, message, code end
    ctx.memory.backed_up = manifest.contents(m)
  end
  return ctx.memory.backed_up
end

-- Whether this session itself left what stands at a path, so that it is nobody else's.
local function is_own(ctx, path, now)
  local last = ctx.change.last(path)
  if not last then return false end
  if now.type == "directory" then return last.kind == "mkdir" or last.kind == "mode" end
  return as_old(now) == last.after
end

local function keep(ctx, path, entry)
  entry.path = path
  if entry.type == "file" then
    entry.name = core.system.uuid()
    local folder = folder_of(ctx.target, ctx.session.session_id)
    local ok, message, code = keep_file(ctx, folder, entry)
    if not ok then return nil, message, code end
  end
  local list = ctx.session.metadata.originals or {}
  list[#list + 1] = entry
  ctx.session.metadata.originals, noted(ctx)[path] = list, entry
  return true
end

--- Remembers what stands at a path, before a phase changes it: unless the backup holds it, it is
--- noted already, or this session itself left it. What somebody wrote since the last note is noted
--- again; every content stays under its own name.
---@param ctx table of the run
---@param path string relative to the project
---@return true|nil
---@return string? message or, after true, what the change is to find there, for its option `old`
---@return string? code
function originals.note(ctx, path)
  local backed_up = {}
  if scope.includes(ctx.target_name, path) then
    local problem, errno
    backed_up, problem, errno = held(ctx)
    if backed_up == nil then return nil, problem, errno end
    if not backed_up then return true end
  end
  local ok, now
  local root, message, code = core.root.open(ctx.project)
  if not root then return nil, message, code end
  now, message, code = look(root, path)
  root:close()
  if code then return nil, message, code end
  local is_known = not now or is_same(now, backed_up[path]) or is_same(now, noted(ctx)[path])
    or is_own(ctx, path, now)
  if not is_known then
    ok, message, code = keep(ctx, path, now)
    if not ok then return nil, message, code end
  end
  local old = as_old(now)
  if old == true then return true end -- a folder: the transaction tells
  return true, old
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

-- Where the old content of a file lies, when it is still that.
local function kept_content(ctx, metadata, entry)
  local from = folder_of(ctx.target, metadata.undoes) .. "/" .. entry.name
  if core.hash.file(from) == entry.sha256 then return from end
  return nil, "the old content of " .. text.visible(entry.path) .. " is no longer in "
    .. text.visible(from), "ELOST"
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
    local message, code
    item.kind, item.sha256 = "put", before.sha256
    item.from, message, code = kept_content(ctx, metadata, before)
    if not item.from then return nil, message, code end
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

--- What stood where a backup reaches, but other than that holds it, before the upgrade changed it:
--- it is brought back instead of what the backup holds.
---@param ctx table
---@param metadata table of a session that restores: undoes, changes, originals
---@return table<string, table>|nil entries by path, as of manifest.contents, a file's with `from`
---@return string? message
---@return string? code "ELOST" when the old content is gone
function originals.instead_of_backup(ctx, metadata)
  local changed, newest = {}, {}
  for _, change in ipairs(metadata.changes) do changed[change.path] = true end
  for _, entry in ipairs(metadata.originals or {}) do
    if changed[entry.path] and scope.includes(ctx.target_name, entry.path) then
      newest[entry.path] = { type = entry.type, mode = entry.mode, target = entry.target,
        sha256 = entry.sha256, path = entry.path, name = entry.name }
    end
  end
  for _, entry in pairs(newest) do
    if entry.type == "file" then
      local message, code
      entry.from, message, code = kept_content(ctx, metadata, entry)
      if not entry.from then return nil, message, code end
    end
  end
  return newest
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
