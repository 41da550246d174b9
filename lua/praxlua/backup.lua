--- Backups of an installation: made, verified, listed, pruned, restored.
--
-- A backup is a directory <target>/.backups/YYYY-MM-DD-HHMMSS with
--   backup.tar.zst            every file, directory and link of backup/scope.lua, named relative to
--                             the project, so that plain `tar --zstd -xf` there restores them
--   MANIFEST.json             what must be in it (backup/manifest.lua)
--   requirements-snapshot.txt the packages of the installation's own environment, if it has one
-- It is built as .partial-<session>, read back, compared with the live files, and only then gets
-- its name: a directory with a backup's name was whole when it was made. Nothing here trusts it to
-- have stayed so; whatever relies on a backup verifies it first.
--
-- The first argument `ctx` needs target, target_name and project; session, memory, warn, progress,
-- change and scratch are used where said. The caller holds the lock of the target.
local core = require("praxlua.core")
local clock = require("praxlua.clock")
local manifest = require("praxlua.backup.manifest")
local process = require("praxlua.process")
local restore = require("praxlua.backup.restore")
local scope = require("praxlua.backup.scope")
local state = require("praxlua.state")
local store = require("praxlua.backup.store")
local text = require("praxlua.text")

local backup = {
  manifest = manifest, -- BackupManifest
  restore_plan = restore.restore_plan,
  could_not_read = store.could_not_read,
  apply_plan = restore.apply_plan,
  restore_from_backup = restore.restore_from_backup,
}

local PARTIAL, REMOVING = ".partial-", ".removing-"
local PRIVATE_FILE, PRIVATE_DIRECTORY = tonumber("600", 8), tonumber("700", 8)
local SECOND = 1000000000
local HOUR = 3600 * SECOND

--- How long the list of installed packages may take, in seconds.
backup.FREEZE_SECONDS = 60

local function warn(ctx, message)
  if ctx.warn then ctx.warn(message) end
end

local function session_id(ctx)
  return ctx.session and ctx.session.session_id
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

-- ---------------------------------------------------------------------------------------------
-- Creating

-- What is to be backed up, or why there will be no backup.
local function survey(ctx)
  local entries, message, code = scope.list(ctx)
  if not entries then return nil, message .. "; a backup must be able to read all of it", code end
  local special = scope.special(entries)
  if special then
    return nil, string.format("cannot back up %s: neither a file, a directory nor a link: %s; "
      .. "stop what made it, or move it away", ctx.target, special), "ENOTREG"
  end
  for _, entry in ipairs(entries) do
    if entry.type ~= "directory" and entry.path ~= ".gitignore" then return entries end
  end
  return nil, string.format("cannot back up %s: there is not one file in it; is it the right one?",
    ctx.target), "ENOENT"
end

-- What the errors of a path say that was there a moment before.
local VANISHED = { ENOENT = true, ENOTDIR = true, ELOOP = true, EXDEV = true, ECHANGED = true }

-- What to do about the others.
local NEXT = {
  EACCES = "; the backup must be able to read every file there",
  ENOSPC = "; make room (`praxlua backup prune` removes old backups)",
  EDQUOT = "; make room (`praxlua backup prune` removes old backups)",
}

local function pack(ctx, directory, entries)
  local paths, total = {}, 0
  for i, entry in ipairs(entries) do
    paths[i] = entry.path
    if entry.type == "file" then total = total + entry.size end
  end
  local function progress(done)
    if core.system.interrupted() then return false end
    if ctx.progress then ctx.progress("backing up", math.min(done / math.max(total, 1), 1)) end
    return true
  end
  local packed, message, code = core.archive.create(directory .. "/" .. store.ARCHIVE, ctx.project,
    paths, { progress = progress })
  if packed then return packed end
  if VANISHED[code] then
    return nil, message .. "; stop what is working in " .. ctx.target .. " and try again",
      "ECHANGED"
  end
  return nil, message .. (NEXT[code] or ""), code
end

-- The "name==version" lines of a `pip freeze`, and how many others there are.
local function exact_requirements(output)
  local lines, others = {}, 0
  for line in output:gmatch("[^\r\n]+") do
    if line:find("^%w[%w._-]*==%S+$") then
      lines[#lines + 1] = line .. "\n"
    elseif line:find("%S") and not line:find("^#") then
      others = others + 1
    end
  end
  return table.concat(lines), others
end

-- The output of `pip freeze` in the installation's environment.
local function freeze(python, directory)
  local result, message = process.run({
    argv = { python, "-m", "pip", "freeze", "--all" },
    directory = directory, -- our own: nothing in it shadows a Python module
    environment = process.environment({ PIP_DISABLE_PIP_VERSION_CHECK = "1" }),
    timeout = backup.FREEZE_SECONDS,
  })
  if not result then return nil, message end
  if result.timed_out then return nil, "no end after " .. clock.seconds(backup.FREEZE_SECONDS) end
  if result.truncated then return nil, "its output is too long" end
  if result.code ~= 0 then
    return nil, string.format("exit code %s: %s", tostring(result.code),
      text.visible(text.head(result.stderr, 3)))
  end
  return result.stdout
end

-- Writes requirements-snapshot.txt. Returns its hash; nil without one, which is no error.
local function snapshot_requirements(ctx, directory)
  if not core.file.exists(ctx.target .. "/venv") then return nil end
  local python = ctx.target .. "/venv/bin/python"
  local output, problem = freeze(python, directory)
  if not output then
    warn(ctx, string.format("`%s -m pip freeze --all` failed: %s; the backup has no %s, so "
      .. "a restore cannot install these packages again", python, problem, store.REQUIREMENTS))
    return nil
  end
  local requirements, others = exact_requirements(output)
  if others > 0 then
    warn(ctx, string.format("%s of %s without an exact version: not in %s",
      text.plural(others, "package"), python, store.REQUIREMENTS))
  end
  local ok, message, code = core.file.write_atomic(directory .. "/" .. store.REQUIREMENTS,
    requirements, PRIVATE_FILE)
  if not ok then return nil, message, code end
  return core.hash.sha256(requirements)
end

--- The manifest of what was packed.
---@param ctx table
---@param details { name: string, timestamp: string, entries: table[], packed: table,
---  requirements_sha256: string?, session_id: string } entries: of scope.list; packed: the result
---  of core.archive.create
---@return table manifest
function backup.generate_manifest(ctx, details)
  local modes = {}
  for _, entry in ipairs(details.entries) do
    if entry.type ~= "link" then modes[entry.path] = string.format("%04o", entry.mode) end
  end
  local memory = ctx.memory or {}
  return manifest.new({
    backup_path = string.format("%s/.backups/%s/", ctx.target_name, details.name),
    timestamp = details.timestamp,
    files = details.packed.files, links = details.packed.links, modes = modes,
    total_size_bytes = details.packed.bytes,
    archive = { sha256 = details.packed.archive_sha256, bytes = details.packed.archive_bytes },
    requirements_sha256 = details.requirements_sha256,
    session_id = details.session_id,
    source_version = memory.source_version, installed_version = memory.installed_version,
  })
end

-- When a backup was made, by its name; nil for a name that is no time.
local function time_in_name(name)
  local iso = name:gsub("^(%d+%-%d+%-%d+)%-(%d%d)(%d%d)(%d%d)$", "%1T%2:%3:%4Z")
  return clock.parse(iso) and iso or nil
end

-- The time a new backup is named after: now, or a second after the newest one, since two of one
-- second must differ. A name from far in the future (a clock that was wrong) is not followed.
local function next_instant(ctx)
  local instant = clock.now()
  local from, to = clock.stamp(instant), clock.stamp(instant + HOUR)
  for _, name in ipairs(store.names(ctx) or {}) do
    local iso = store.is_name(name) and name >= from and name <= to and time_in_name(name)
    if iso then instant = math.max(instant, clock.parse(iso) + SECOND) end
  end
  while core.file.exists(store.path(ctx) .. "/" .. clock.stamp(instant)) do
    instant = instant + SECOND
  end
  return instant
end

-- The live files against the manifest: what was packed is what is there.
local function compare_with_live(ctx, m)
  local live, message, code = scope.list(ctx, true)
  if not live then return nil, message, code end
  local same, problem = scope.compare(manifest.contents(m), live)
  if same then return true end
  return nil, string.format("%s changed while the backup was made: %s; "
    .. "stop what is working in it and try again", ctx.target, problem), "ECHANGED"
end

-- Both sides of the promise: the backup holds what the manifest says, and so does the target.
local function prove(ctx, directory, m)
  local ok, message, code = compare_with_live(ctx, m)
  if not ok then return nil, message, code end
  local verified, problem
  verified, problem, code = store.verify(ctx, directory)
  if verified then return true end
  if store.could_not_read(code) then
    return nil, "the new backup could not be read back: " .. problem, code
  end
  return nil, string.format("the new backup does not verify: %s (in %s); check the disk", problem,
    directory), "EBADBACKUP"
end

local function newest_name(ctx)
  local names = store.names(ctx) or {}
  for i = #names, 1, -1 do
    if store.is_name(names[i]) then return names[i] end
  end
end

-- The archive of the newest backup, linked into the directory, when that backup is whole and what
-- it holds is what is there now: the same again needs no space. nil when it is not to be had so.
local function link_archive(ctx, directory, entries)
  local name = newest_name(ctx)
  local newest = name and store.path(ctx) .. "/" .. name
  local m = newest and store.read_manifest(newest)
  if not m then return nil end
  local contents = manifest.contents(m)
  if not scope.resembles(contents, entries, m.total_size_bytes) then return nil end
  local live = scope.list(ctx, true)
  if not live or not scope.compare(contents, live) or not store.verify(ctx, newest)
    or not core.file.link(newest .. "/" .. store.ARCHIVE, directory .. "/" .. store.ARCHIVE) then
    return nil
  end
  return {
    files = m.files, links = m.links, bytes = m.total_size_bytes,
    archive_sha256 = m.archive.sha256, archive_bytes = m.archive.bytes,
  }
end

-- Fills the directory of a partial backup. Returns the manifest and the name it is to have.
local function build(ctx, entries, directory, id)
  local packed, requirements, ok, message, code
  packed = link_archive(ctx, directory, entries)
  if not packed then packed, message, code = pack(ctx, directory, entries) end
  if not packed then return nil, message, code end
  requirements, message, code = snapshot_requirements(ctx, directory)
  if message then return nil, message, code end
  local instant = next_instant(ctx)
  local name = clock.stamp(instant)
  local m = backup.generate_manifest(ctx, {
    name = name, timestamp = clock.iso(instant), entries = entries, packed = packed,
    requirements_sha256 = requirements, session_id = id,
  })
  ok, message, code = core.file.write_atomic(directory .. "/" .. store.MANIFEST,
    manifest.to_json(m), PRIVATE_FILE)
  if ok then ok, message, code = prove(ctx, directory, m) end
  if not ok then return nil, message, code end
  return m, name
end

-- The directory of backups, made when it is missing. The second result tells whether it was made.
local function open_store(ctx)
  local parent, message, code = store.directory(ctx)
  if parent or code ~= "ENOENT" then return parent, message, code end
  local ok
  ok, message, code = core.file.mkdir(store.path(ctx), PRIVATE_DIRECTORY)
  if not ok then return nil, message, code end
  return store.path(ctx), true
end

-- An empty private directory in the place of what an earlier attempt of this session left.
local function make_empty(directory)
  local removed, message, code = core.tree.remove(directory)
  if not removed then return nil, message, code end
  return core.file.mkdir(directory, PRIVATE_DIRECTORY)
end

--- Makes a backup, compares it with the live files and verifies it. Uses ctx.session.session_id
--- (made up where there is no session), ctx.memory.installed_version and .source_version.
---@param ctx table
---@return { backup_path: string, backup_timestamp: string, files_backed_up: integer,
---  backup_size_bytes: integer, backup_manifest: string, archive_bytes: integer }|nil
---  backup_path: relative to the project, with a final slash; files: regular files; sizes in
---  bytes, of the contents and of the archive
---@return string? message
---@return string? code "ECHANGED", "ENOTREG" (special files), "EBADBACKUP", "ECANCELED", an errno.
---  After an error nothing is left behind.
function backup.create_backup(ctx)
  local id = session_id(ctx) or core.system.uuid()
  assert(id:find(manifest.UUID), "create_backup: the session's id is not a UUID")
  local entries, message, code = survey(ctx)
  if not entries then return nil, message, code end
  local parent, made, m, name, ok
  parent, made, code = open_store(ctx)
  if not parent then return nil, made, code end
  local directory = parent .. "/" .. PARTIAL .. id
  ok, message, code = make_empty(directory)
  if ok then
    m, name, code = build(ctx, entries, directory, id)
    message = name
  end
  if m then ok, message, code = core.file.rename(directory, parent .. "/" .. name) end
  if not ok or not m then
    core.tree.remove(directory)
    if made then core.file.remove(parent) end -- stays when something else is in it by now
    return nil, message, code
  end
  return {
    backup_path = m.backup_path, backup_timestamp = m.timestamp,
    files_backed_up = count(m.files), backup_size_bytes = m.total_size_bytes,
    backup_manifest = m.backup_path .. store.MANIFEST, archive_bytes = m.archive.bytes,
  }
end

-- ---------------------------------------------------------------------------------------------
-- Verifying, listing, pruning

--- How much a backup holds, by its manifest alone.
---@param ctx table
---@param name string
---@return { bytes: integer, files: integer }|nil
---@return string? message
---@return string? code "EBADBACKUP"; "ENOENT" no such backup; "EINVAL" not a name; an errno: it
---  could not be read
function backup.measure(ctx, name)
  local m, message, code = store.peek(ctx, name)
  if not m then return nil, message, code end
  return { bytes = m.total_size_bytes, files = select(2, manifest.contents(m)) }
end

--- Reads a whole backup back and compares it with its manifest: the manifest's own hash, the
--- archive's hash, the exact set of members, and each one's type, hash, mode or target.
---@param ctx table
---@param name string "2025-10-08-103045"
---@return true|nil
---@return string? message
---@return string? code "EBADBACKUP"; "ENOENT" no such backup; "EINVAL" not a name; an errno: it
---  could not be read
function backup.verify_backup_integrity(ctx, name)
  local opened, message, code = store.open(ctx, name)
  if not opened then return nil, message, code end
  return true
end

local function describe(ctx, name, verify)
  local directory = store.path(ctx) .. "/" .. name
  local m, problem
  if verify then
    m, problem = store.verify(ctx, directory)
  else
    m, problem = store.read_manifest(directory)
  end
  if m then m, problem = store.check_name(m, name) end
  if not m then
    return { name = name, timestamp = time_in_name(name), verified = false, problem = problem }
  end
  return {
    name = name, timestamp = m.timestamp, files = count(m.files), bytes = m.total_size_bytes,
    archive_bytes = m.archive.bytes, session_id = m.session_id,
    installed_version = m.installed_version, verified = verify and true or nil,
  }
end

local function is_newer(a, b)
  local at_a, at_b = a.timestamp or "", b.timestamp or ""
  if at_a ~= at_b then return at_a > at_b end
  return a.name > b.name
end

--- The backups there are, newest first by the time recorded in them (never by a time of the file
--- system, which anybody's touch changes).
---@param ctx table
---@param options { verify: boolean? }? verify: read every archive back as well
---@return { name: string, timestamp: string?, files: integer?, bytes: integer?,
---  archive_bytes: integer?, session_id: string?, installed_version: string?, verified: boolean?,
---  problem: string? }[]|nil
---  verified: nil when not asked for, false with a `problem` when broken
---@return string? message
---@return string? code an errno
function backup.list_backups(ctx, options)
  local names, message, code = store.names(ctx)
  if not names then return nil, message, code end
  local list = {}
  for _, name in ipairs(names) do
    if store.is_name(name) then
      list[#list + 1] = describe(ctx, name, options and options.verify)
    end
  end
  table.sort(list, is_newer)
  return list
end

-- Whether a session is still open: its backup may be what it comes back to.
local function is_open(ctx, id)
  return core.file.exists(ctx.target .. "/.upgrade/" .. id)
end

-- Whether a name is of something that earlier runs left half made or half removed.
local function is_left_over(ctx, name)
  if name:sub(1, #REMOVING) == REMOVING then return true end
  local id = name:sub(1, #PARTIAL) == PARTIAL and name:sub(#PARTIAL + 1)
  return id and id:find(manifest.UUID) and id ~= session_id(ctx) and not is_open(ctx, id)
end

--- Removes what earlier runs left half made or half removed: no backup is lost by it.
---@param ctx table session: its own partial one stays
---@return true|nil
---@return string? message
---@return string? code
function backup.sweep(ctx)
  local names, message, code = store.names(ctx)
  if not names then return nil, message, code end
  for _, name in ipairs(names) do
    if is_left_over(ctx, name) then
      local removed
      removed, message, code = core.tree.remove(store.path(ctx) .. "/" .. name)
      if not removed then return nil, message, code end
    end
  end
  return true
end

-- Takes the name away first, so that what is half removed is never taken for a backup.
local function remove_backup(ctx, name)
  local parent = store.path(ctx)
  local doomed = parent .. "/" .. REMOVING .. name
  local ok, message, code = core.file.rename(parent .. "/" .. name, doomed)
  if ok then ok, message, code = core.tree.remove(doomed) end
  if not ok then return nil, message, code end
  return true
end

--- The name of the backup that something tells the path of.
---@param made { backup_path: string? }|nil evidence of phase 1, or what create_backup returned
---@return string|nil name "2025-10-08-103045"
function backup.name_of(made)
  return made and made.backup_path and store.name_in(made.backup_path)
end

--- Removes a backup that turned out to be of no use to anybody.
---@param ctx table
---@param name string
---@return true|nil
---@return string? message
---@return string? code an errno
function backup.discard(ctx, name)
  assert(store.is_name(name), "discard: not the name of a backup")
  return remove_backup(ctx, name)
end

-- The backups that sessions which are not over go back to, by name.
local function needed_names(ctx)
  local needed = {}
  for _, session in ipairs(state.list_active_sessions(ctx.target)) do
    for _, field in ipairs({ "backup", "present" }) do
      local name = session.metadata and session.metadata[field]
      if type(name) == "string" then needed[name] = true end
    end
  end
  return needed
end

-- Sorts verified backups into those to keep and those to remove, and the broken ones out.
local function choose(ctx, list, keep)
  local kept, doomed, broken, good = {}, {}, {}, 0
  local names = needed_names(ctx)
  for _, item in ipairs(list) do
    if not item.verified then
      broken[#broken + 1] = { name = item.name, problem = item.problem }
    else
      good = good + 1
      local needed = names[item.name] or item.session_id == session_id(ctx)
        or is_open(ctx, item.session_id)
      local to = (good <= keep or needed) and kept or doomed
      to[#to + 1] = item.name
    end
  end
  return kept, doomed, broken
end

--- Keeps the newest `keep` verified backups and removes the older verified ones. A broken one
--- counts for nothing: it is reported and left alone. The backups of this session and of any other
--- open one stay, and those that one goes back to. What earlier runs left half made or half removed
--- goes.
---@param ctx table
---@param keep integer at least 1
---@return { archived_count: integer, kept_backups: string[], archived: string[],
---  broken: { name: string, problem: string }[] }|nil names, newest first
---@return string? message
---@return string? code an errno
function backup.archive_old_backups(ctx, keep)
  assert(math.type(keep) == "integer" and keep >= 1, "archive_old_backups: keep must be at least 1")
  local ok, list, message, code
  ok, message, code = backup.sweep(ctx)
  if not ok then return nil, message, code end
  list, message, code = backup.list_backups(ctx, { verify = true })
  if not list then return nil, message, code end
  local kept, doomed, broken = choose(ctx, list, keep)
  for _, name in ipairs(doomed) do
    ok, message, code = remove_backup(ctx, name)
    if not ok then return nil, message, code end
  end
  return { archived_count = #doomed, kept_backups = kept, archived = doomed, broken = broken }
end

return backup
