--- Where backups lie, and whether one is still what was written. Reads only.
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local manifest = require("praxlua.backup.manifest")
local scope = require("praxlua.backup.scope")
local text = require("praxlua.text")

local store = {}

--- The files of a backup.
store.ARCHIVE = "backup.tar.zst"
store.MANIFEST = "MANIFEST.json"
store.REQUIREMENTS = "requirements-snapshot.txt"

local NAME = "^%d%d%d%d%-%d%d%-%d%d%-%d%d%d%d%d%d$"

--- Whether a name is one that backups have: "2025-10-08-103045".
---@param name any
---@return boolean
function store.is_name(name)
  return type(name) == "string" and name:find(NAME) ~= nil
end

--- The name of a backup in its backup_path (".praxis-os/.backups/2025-10-08-103045/").
---@param backup_path string
---@return string|nil
function store.name_in(backup_path) return backup_path:match("([^/]+)/*$") end

--- The directory of all backups of a target, whether it is there or not.
---@param ctx table
---@return string
function store.path(ctx)
  return ctx.target .. "/.backups"
end

--- The same, when it is there. It is not followed if it is a link.
---@param ctx table
---@return string|nil path
---@return string? message
---@return string? code "ENOENT", "ENOTDIR" or another errno
function store.directory(ctx)
  local path = store.path(ctx)
  local stat, message, code = core.file.stat(path)
  if not stat then return nil, message, code end
  if stat.type ~= "directory" then
    return nil, string.format("%s is not a directory but a %s; move it away", path, stat.type),
      "ENOTDIR"
  end
  return path
end

--- Every name in that directory, sorted; none when there is no such directory.
---@param ctx table
---@return string[]|nil
---@return string? message
---@return string? code an errno
function store.names(ctx)
  local path, message, code = store.directory(ctx)
  if not path and code == "ENOENT" then return {} end
  if not path then return nil, message, code end
  return folder.names(path)
end

--- The manifest in the directory of a backup, checked in itself but not against the archive.
---@param directory string
---@return table|nil manifest
---@return string? problem
---@return string? code an errno where it could not be read
function store.read_manifest(directory)
  local data, message, code = core.file.read(directory .. "/" .. store.MANIFEST,
    manifest.MAX_BYTES)
  if not data then return nil, message, code end
  local m
  m, message = manifest.from_json(data)
  if not m then return nil, store.MANIFEST .. ": " .. message end
  return m
end

-- What the installation was called when a backup was made; that is in all of its paths.
local function name_then(m) return m.backup_path:match("^([^/]+)/%.backups/") end

local function can_migrate(from, to)
  return lists.has(layout.FOLDERS, from) and lists.has(layout.FOLDERS, to)
end

--- Whether a backup can be restored where the installation has the name that it has now.
---@param ctx table
---@param m table manifest
---@return true|nil
---@return string? message
---@return string? code "ERENAMED"
function store.check_folder(ctx, m)
  local name = name_then(m)
  if not name or name == ctx.target_name then return true end
  name = text.visible(name)
  return nil, string.format("this backup was made when the installation was called %s; give it "
    .. "that name again first%s", name, can_migrate(name, ctx.target_name)
    and ", with: praxlua migrate --to " .. name or ""), "ERENAMED"
end

local function check_scope(ctx, m, contents)
  local name = name_then(m) or ctx.target_name
  for path in pairs(contents) do
    if not scope.includes(name, path) then
      return nil, string.format("'%s' is nothing that a backup of %s holds", text.visible(path),
        text.visible(name))
    end
  end
  return true
end

local function check_archive(directory, m, contents, count)
  local read, message, code = core.archive.read(directory .. "/" .. store.ARCHIVE, {
    max_bytes = m.total_size_bytes, max_entries = count,
  })
  if not read then return nil, message, code end
  if read.archive_sha256 ~= m.archive.sha256 or read.archive_bytes ~= m.archive.bytes then
    return nil, store.ARCHIVE .. " is not the file that was written"
  end
  local same, problem = scope.compare(contents, read.entries)
  if not same then return nil, store.ARCHIVE .. ": " .. problem end
  local bytes = 0
  for _, entry in ipairs(read.entries) do bytes = bytes + entry.size end
  if bytes ~= m.total_size_bytes then return nil, "total_size_bytes is wrong" end
  return true
end

local function check_requirements(directory, m)
  local name = store.REQUIREMENTS
  local path = directory .. "/" .. name
  if not core.file.exists(path) then
    if m.requirements_sha256 then return nil, name .. " is missing" end
    return true
  end
  if not m.requirements_sha256 then return nil, name .. " is not in the manifest" end
  local sha256, message, code = core.hash.file(path)
  if not sha256 then return nil, message, code end
  if sha256 ~= m.requirements_sha256 then return nil, name .. " has another content" end
  return true
end

--- Reads everything in the directory of a backup, and compares it with the manifest in it.
---@param ctx table
---@param directory string
---@return table|nil manifest
---@return string? problem
---@return string? code where something could not be read
function store.verify(ctx, directory)
  local m, problem, code = store.read_manifest(directory)
  if not m then return nil, problem, code end
  local contents, count = manifest.contents(m)
  local ok
  ok, problem, code = check_scope(ctx, m, contents)
  if ok then ok, problem, code = check_archive(directory, m, contents, count) end
  if ok then ok, problem, code = check_requirements(directory, m) end
  if not ok then return nil, problem, code end
  return m
end

--- Compares the name that a manifest was written under with the one that its directory has. A copy
--- or a renamed one is no backup of that name: sessions and people would not find what they mean.
---@param m table manifest
---@param name string
---@return table|nil manifest
---@return string? problem
function store.check_name(m, name)
  local made_as = store.name_in(m.backup_path)
  if made_as == name then return m end
  return nil, string.format("it was made as %s, and copied or renamed since",
    text.visible(tostring(made_as)))
end

local function locate(ctx, name)
  if not store.is_name(name) then
    return nil, string.format("'%s' is not the name of a backup (YYYY-MM-DD-HHMMSS); "
      .. "`praxlua backup list` shows them", text.visible(name)), "EINVAL"
  end
  local parent, message, code = store.directory(ctx)
  local stat
  if parent then stat, message, code = core.file.stat(parent .. "/" .. name) end
  if stat and stat.type == "directory" then return parent .. "/" .. name end
  if stat then
    return nil, string.format("%s/%s is not a backup but a %s", parent, name, stat.type),
      "EBADBACKUP"
  end
  if code ~= "ENOENT" then return nil, message, code end
  return nil, string.format("there is no backup %s in %s; `praxlua backup list` shows them", name,
    store.path(ctx)), "ENOENT"
end

local PASSING = {
  ENOMEM = true, EMFILE = true, ENFILE = true, EINTR = true, ECANCELED = true, ENOLIB = true,
}

--- Whether a code tells of what keeps us from reading, which says nothing of what is there.
---@param code string?
---@return boolean
function store.could_not_read(code) return PASSING[code] == true end

-- The message and the code.
local function refusal(name, problem, directory, code)
  if store.could_not_read(code) then
    return string.format("backup %s could not be read: %s; try again", name, problem), code
  end
  return string.format("backup %s is damaged: %s (in %s); use another backup", name, problem,
    directory), "EBADBACKUP"
end

--- The manifest of the backup of a name, as it is: nothing is compared with it.
---@param ctx table
---@param name string
---@return table|nil manifest
---@return string? message
---@return string? code as of store.open
function store.peek(ctx, name)
  local directory, message, code = locate(ctx, name)
  if not directory then return nil, message, code end
  local m, problem, why = store.read_manifest(directory)
  if m then return m end
  return nil, refusal(name, problem, directory, why)
end

--- Verifies the backup of a name.
---@param ctx table
---@param name string
---@return { manifest: table, directory: string }|nil
---@return string? message
---@return string? code "EBADBACKUP"; "ENOENT" no such backup; "EINVAL" not a name; an errno
function store.open(ctx, name)
  local directory, message, code = locate(ctx, name)
  if not directory then return nil, message, code end
  local m, problem, why = store.verify(ctx, directory)
  if m then m, problem = store.check_name(m, name) end
  if not m then return nil, refusal(name, problem, directory, why) end
  return { manifest = m, directory = directory }
end

return store
