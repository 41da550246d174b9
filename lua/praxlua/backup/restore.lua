--- Restoring: what differs between an installation and a backup, and undoing the difference.
--
-- Nothing is written to the target directly: the backup is verified and unpacked into a private
-- directory, and the differences are handed to the open transaction (ctx.change), which can undo
-- all of them. A change names what it expects to replace, so somebody else's edit in the meantime
-- stops the restore and is not overwritten.
local core = require("praxlua.core")
local manifest = require("praxlua.backup.manifest")
local scope = require("praxlua.backup.scope")
local store = require("praxlua.backup.store")
local text = require("praxlua.text")

local restore = {}

-- A file never gets set-id bits from a backup. Directories keep theirs (groups are inherited so).
local FILE_BITS = 0x1ff -- 0777

local function wanted_mode(wanted)
  return wanted.type == "file" and wanted.mode & FILE_BITS or wanted.mode
end

local function same_mode(wanted, live)
  if wanted.type == "file" then return wanted.mode & FILE_BITS == live.mode & FILE_BITS end
  return wanted.mode == live.mode
end

-- What a change must find: a hash, "link:TARGET", or false for nothing.
local function expectation(live)
  if not live then return false end
  if live.type == "link" then return "link:" .. live.target end
  return live.sha256
end

-- The change that makes an existing or missing leaf what is wanted; nil when it is that already.
local function leaf_change(path, wanted, live, from)
  local old = expectation(live)
  if wanted.type == "link" then
    if live and live.type == "link" and live.target == wanted.target then return nil end
    return { path = path, kind = "symlink", type = "link", target = wanted.target, old = old }
  end
  local kind = "put"
  if live and live.type == "file" and live.sha256 == wanted.sha256 then
    if same_mode(wanted, live) then return nil end
    kind = "mode"
  end
  return {
    path = path, kind = kind, type = "file", from = wanted.from or from .. "/" .. path,
    mode = wanted_mode(wanted), sha256 = wanted.sha256, old = old,
  }
end

local function removal(path, live, extra)
  local directory = live.type == "directory"
  return {
    path = path, kind = directory and "rmdir" or "remove", type = live.type,
    old = not directory and expectation(live) or nil, extra = extra or nil,
  }
end

-- Whether something stands at the path that must go before what is wanted there can be made: a
-- directory in the place of a file or link, or the other way round.
local function is_in_the_way(wanted, live)
  return (wanted.type == "directory") ~= (live.type == "directory")
end

local ORDER = { remove = 1, rmdir = 1, mkdir = 2, put = 3, symlink = 3, mode = 4 }

-- Removals from the inside out, then making from the outside in, then modes from the inside out.
local function in_order(a, b)
  local rank_a, rank_b = ORDER[a.kind], ORDER[b.kind]
  if rank_a ~= rank_b then return rank_a < rank_b end
  if rank_a == 1 or rank_a == 4 then return a.path > b.path end
  return a.path < b.path
end

-- The changes that lead from `live` to `wanted` (both by path).
local function differences(wanted, live, from)
  local plan = {}
  local function add(change) plan[#plan + 1] = change end
  for path, there in pairs(live) do
    if not wanted[path] then
      add(removal(path, there, true))
    elseif is_in_the_way(wanted[path], there) then
      add(removal(path, there, false))
    end
  end
  for path, entry in pairs(wanted) do
    local there = live[path]
    if there and is_in_the_way(entry, there) then there = nil end
    if entry.type ~= "directory" then
      add(leaf_change(path, entry, there, from))
    elseif not there then
      add({ path = path, kind = "mkdir", type = "directory", mode = entry.mode })
    elseif not same_mode(entry, there) then
      add({ path = path, kind = "mode", type = "directory", mode = entry.mode, old = there.mode })
    end
  end
  table.sort(plan, in_order)
  return plan
end

-- What is there now, by path. Special files are nobody's content; one in the way is an error.
local function live_contents(ctx, wanted)
  local entries, message, code = scope.list(ctx, true)
  if not entries then return nil, message, code end
  local live = {}
  for _, entry in ipairs(entries) do
    if entry.type ~= "other" then
      live[entry.path] = entry
    elseif wanted[entry.path] then
      return nil, string.format("cannot restore '%s': a special file stands there in %s; "
        .. "move it away and try again", text.visible(entry.path), ctx.project), "ENOTREG"
    end
  end
  return live
end

-- Unpacks a verified backup into ctx.scratch and makes sure that it is the one that was verified.
local function unpack_into(ctx, opened)
  local m = opened.manifest
  local _, count = manifest.contents(m)
  local unpacked, message, code = core.archive.extract(
    opened.directory .. "/" .. store.ARCHIVE, ctx.scratch,
    { max_bytes = m.total_size_bytes, max_entries = count })
  if not unpacked then return nil, message, code end
  if unpacked.archive_sha256 ~= m.archive.sha256 then
    return nil, string.format("%s was exchanged while it was read; try again", opened.directory),
      "EBADBACKUP"
  end
  return true
end

-- The plan and what it leads to.
local function prepare(ctx, name, others)
  assert(type(ctx.scratch) == "string", "restore_plan: ctx.scratch must name an empty directory")
  local opened, ok, message, code
  opened, message, code = store.open(ctx, name)
  if not opened then return nil, message, code end
  ok, message, code = store.check_folder(ctx, opened.manifest)
  if not ok then return nil, message, code end
  ok, message, code = unpack_into(ctx, opened)
  if not ok then return nil, message, code end
  local wanted = manifest.contents(opened.manifest)
  for path, entry in pairs(others or {}) do wanted[path] = entry end
  local live
  live, message, code = live_contents(ctx, wanted)
  if not live then return nil, message, code end
  return differences(wanted, live, ctx.scratch), wanted
end

--- What a restore of the backup would change. Verifies the backup first and unpacks it into
--- ctx.scratch, where the new contents lie until the caller removes it.
---@param ctx table with scratch = absolute path of an empty private directory
---@param name string
---@param others table<string, table>? what is wanted at a path instead of what the backup holds, as
---  entries of manifest.contents; a file's has the path of its content in `from`
---@return { path: string, kind: string, type: string, from: string?, mode: integer?,
---  target: string?, sha256: string?, old: string|integer|boolean|nil, extra: boolean? }[]|nil
---  In an order in which they can be made. kind: "remove", "rmdir", "mkdir", "put", "symlink" or
---  "mode" (a file of which only the mode differs has `from` as well). path: relative to the
---  project. old: the hash, "link:TARGET", false for nothing, or a directory's mode. extra: it is
---  there now and was not when the backup was made.
---@return string? message
---@return string? code "EBADBACKUP", "ENOENT", "EINVAL", "ERENAMED" (store.check_folder),
---  "ENOTREG", an errno
function restore.restore_plan(ctx, name, others)
  local plan, message, code = prepare(ctx, name, others)
  if not plan then return nil, message, code end
  return plan
end

local queue = {}

function queue.put(change, item)
  return change.put(item.path, { from = item.from },
    { mode = item.mode, sha256 = item.sha256, old = item.old })
end

function queue.symlink(change, item)
  return change.symlink(item.path, item.target, { old = item.old })
end

function queue.remove(change, item) return change.remove(item.path, { old = item.old }) end
function queue.rmdir(change, item) return change.rmdir(item.path) end
function queue.mkdir(change, item) return change.mkdir(item.path, { mode = item.mode }) end

function queue.mode(change, item)
  if item.type == "file" then return queue.put(change, item) end
  return change.mode(item.path, item.mode)
end

-- What keep_extra leaves, by path. A kept file cannot stay beneath what becomes a file.
local function kept_extras(plan)
  local kept, in_the_way = {}, {}
  for _, item in ipairs(plan) do
    if item.extra then
      kept[item.path] = true
    elseif item.kind == "rmdir" then
      in_the_way[item.path] = true
    end
  end
  for path in pairs(kept) do
    for at in path:gmatch("()/") do
      local above = path:sub(1, at - 1)
      if in_the_way[above] then
        return nil, string.format("cannot keep '%s': '%s' is not a directory in the backup; "
          .. "move it away and try again", text.visible(path), text.visible(above)), "ENOTDIR"
      end
    end
  end
  return kept
end

-- The items to hand to the transaction: a directory above a new one is made with that, and the
-- modes of all new ones are set when their contents are in place.
local function chosen(plan, kept)
  local above, items, modes = {}, {}, {}
  for _, item in ipairs(plan) do
    if item.kind == "mkdir" then above[item.path:match("^(.*)/") or ""] = true end
  end
  for _, item in ipairs(plan) do
    local made_by_the_way = item.kind == "mkdir" and above[item.path]
    if not kept[item.path] and not made_by_the_way then items[#items + 1] = item end
    if item.kind == "mkdir" then
      modes[#modes + 1] = { path = item.path, kind = "mode", type = "directory", mode = item.mode }
    end
  end
  return table.move(modes, 1, #modes, #items + 1, items)
end

--- Makes the changes of a plan, or of a part of one. Removals are applied before what takes their
--- place is queued, and directories before what comes into them: a change is queued against what
--- stands there at that moment.
---@param ctx table with change
---@param plan table[] entries of restore_plan, in its order
---@param kept table<string, boolean>? paths to leave alone
---@return { files_restored: integer, files_removed: integer }|nil
---@return string? message
---@return string? code "ECHANGED", an errno
function restore.apply_plan(ctx, plan, kept)
  local items = chosen(plan, kept or {})
  local result = { files_restored = 0, files_removed = 0 }
  for i, item in ipairs(items) do
    local ok, message, code = queue[item.kind](ctx.change, item)
    if not ok then return nil, message, code end
    if item.kind == "remove" then
      result.files_removed = result.files_removed + 1
    elseif item.type ~= "directory" then
      result.files_restored = result.files_restored + 1
    end
    local following = items[i + 1]
    if not following or ORDER[following.kind] ~= ORDER[item.kind] then
      ok, message, code = ctx.change.apply()
      if not ok then return nil, message, code end
    end
  end
  return result
end

-- Compares every byte of what is there now with the backup, less what was kept on purpose.
local function check_result(ctx, wanted, kept)
  local live, message, code = live_contents(ctx, wanted)
  if not live then return nil, message, code end
  for path in pairs(kept) do live[path] = nil end
  local rest = differences(wanted, live, ctx.scratch)[1]
  if not rest then return true end
  return nil, string.format("after the restore '%s' is not as in the backup (%s needed); "
    .. "stop what is working in %s and try again", text.visible(rest.path), rest.kind, ctx.target),
    "ECHANGED"
end

--- Brings the installation to what it was when the backup was made, through ctx.change, and
--- compares every byte afterwards. What no backup holds (see scope.lua) is not touched.
---@param ctx table with change and scratch
---@param name string
---@param options { keep_extra: boolean? }? keep_extra: what was not there then stays
---@return { files_restored: integer, files_removed: integer }|nil files and links
---@return string? message
---@return string? code as restore_plan; "ECHANGED" when somebody else changes a file meanwhile.
---  After an error the caller rolls its transaction back.
function restore.restore_from_backup(ctx, name, options)
  assert(ctx.change, "restore_from_backup: needs an open transaction in ctx.change")
  local plan, wanted, code = prepare(ctx, name)
  if not plan then return nil, wanted, code end
  local kept, result, ok, message
  if options and options.keep_extra then
    kept, message, code = kept_extras(plan)
    if not kept then return nil, message, code end
  else
    kept = {}
  end
  result, message, code = restore.apply_plan(ctx, plan, kept)
  if not result then return nil, message, code end
  ok, message, code = check_result(ctx, wanted, kept)
  if not ok then return nil, message, code end
  return result
end

return restore
