--- BackupManifest: what a backup holds, with a hash of every file and one over the manifest itself.
--
-- Paths are relative to the project, as in the archive: ".praxis-os/standards/x.md". `modes` has an
-- entry for every file and directory, so a directory is a path with a mode and no hash. The
-- manifest lies beside the archive, never in it, and describes exactly the members there are.
local core = require("praxlua.core")
local clock = require("praxlua.clock")
local json = require("praxlua.json")
local schema = require("praxlua.schema")

local manifest = {}

--- The format written, and the newest one read.
manifest.FORMAT_VERSION = 1

--- The largest MANIFEST.json accepted, in bytes: about a million files.
manifest.MAX_BYTES = 256 * 1024 * 1024

--- What the id of a session looks like.
manifest.UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

local SHA256 = schema.string({ pattern = "^" .. ("[0-9a-f]"):rep(64) .. "$" })
local NAME = schema.string({ min_length = 1, max_length = 255 })

--- The closed shape of a manifest.
manifest.schema = schema.object({
  format_version = schema.integer({ min = 1 }),
  backup_path = schema.string({ min_length = 1 }),
  timestamp = schema.string({ pattern = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$" }),
  files = schema.map(SHA256),
  links = schema.map(schema.string({ min_length = 1 })),
  modes = schema.map(schema.string({ pattern = "^[0-7][0-7][0-7][0-7]$" })),
  total_size_bytes = schema.integer({ min = 0 }),
  archive = schema.object({ sha256 = SHA256, bytes = schema.integer({ min = 1 }) }),
  requirements_sha256 = schema.optional(SHA256),
  session_id = schema.string({ pattern = manifest.UUID }),
  source_version = schema.optional(NAME),
  installed_version = schema.optional(NAME),
  manifest_sha256 = SHA256,
})

local FIELDS = {
  "format_version", "backup_path", "timestamp", "files", "links", "modes", "total_size_bytes",
  "archive", "requirements_sha256", "session_id", "source_version", "installed_version",
}

local LIMITS = { max_bytes = manifest.MAX_BYTES }

-- The hash over the canonical JSON of everything but the hash.
local function digest(m)
  local body = {}
  for _, field in ipairs(FIELDS) do body[field] = m[field] end
  return core.hash.sha256(assert(json.encode(body, LIMITS)))
end

local PATH_MAX = 4096 -- what an archive and the kernel take, with the NUL at the end

local TOO_LONG = ("[^/]"):rep(256) -- a name that no file system has

--- Whether a path is relative and not too long, and has no empty, "." or ".." component and no NUL.
---@param path string
---@return boolean
function manifest.is_normal(path)
  return path ~= "" and #path < PATH_MAX and not path:find("\0", 1, true)
    and not ("/" .. path .. "/"):find("/%.?%.?/") and not path:find(TOO_LONG)
end

-- Every path is normal and of one kind, and has a mode exactly when that kind has one.
local function check_paths(m)
  for path in pairs(m.links) do
    if m.files[path] then return nil, path, "is a file and a link" end
    if m.modes[path] then return nil, path, "is a link with a mode" end
    if not manifest.is_normal(path) then return nil, path, "is not a normal path" end
  end
  for path in pairs(m.files) do
    if not m.modes[path] then return nil, path, "is a file without a mode" end
  end
  for path in pairs(m.modes) do
    if not manifest.is_normal(path) then return nil, path, "is not a normal path" end
  end
  return true
end

--- A new manifest.
---@param fields table the fields of the schema less format_version and manifest_sha256
---@return table manifest
function manifest.new(fields)
  local m = { format_version = manifest.FORMAT_VERSION }
  for _, field in ipairs(FIELDS) do
    if fields[field] ~= nil then m[field] = fields[field] end
  end
  m.manifest_sha256 = digest(m)
  return m
end

--- The manifest as plain data for JSON.
---@param m table manifest
---@return table dict
function manifest.to_dict(m)
  local dict = { manifest_sha256 = m.manifest_sha256 }
  for _, field in ipairs(FIELDS) do dict[field] = m[field] end
  return dict
end

--- The manifest that plain data describes, checked in every respect but against the archive.
---@param dict any
---@return table|nil manifest
---@return string? message
---@return string? code "EFORMAT" for a newer format, else "ESCHEMA" or "EBADMANIFEST"
function manifest.from_dict(dict)
  local version = type(dict) == "table" and dict.format_version
  if math.type(version) == "integer" and version > manifest.FORMAT_VERSION then
    return nil, string.format("format_version %d is newer than the %d this praxlua knows",
      version, manifest.FORMAT_VERSION), "EFORMAT"
  end
  local ok, message, code = schema.check(manifest.schema, dict)
  if not ok then return nil, message, code end
  if not clock.parse(dict.timestamp) then
    return nil, "timestamp: not a time: " .. dict.timestamp, "ESCHEMA"
  end
  if digest(dict) ~= dict.manifest_sha256 then
    return nil, "manifest_sha256 does not match the rest of the manifest", "EBADMANIFEST"
  end
  local paths_ok, path, problem = check_paths(dict)
  if not paths_ok then
    return nil, string.format("'%s' %s", path, problem), "EBADMANIFEST"
  end
  return manifest.to_dict(dict)
end

--- The text of MANIFEST.json.
---@param m table manifest
---@return string
function manifest.to_json(m)
  return assert(json.encode(manifest.to_dict(m), { pretty = true, max_bytes = LIMITS.max_bytes }))
    .. "\n"
end

--- The manifest in the text of a MANIFEST.json, which must be what to_json writes, byte for byte.
---@param text string
---@return table|nil manifest
---@return string? message
---@return string? code as from_dict, or json.decode's
function manifest.from_json(text)
  local dict, m, message, code
  dict, message, code = json.decode(text, LIMITS)
  if dict == nil then return nil, message, code end
  m, message, code = manifest.from_dict(dict)
  if m and manifest.to_json(m) ~= text then
    return nil, "not the text that was written", "EBADMANIFEST"
  end
  return m, message, code
end

--- What a manifest says there is, by path.
---@param m table manifest
---@return table<string, { type: string, mode: integer?, sha256: string?, target: string? }>
---@return integer count
function manifest.contents(m)
  local contents, count = {}, 0
  for path, mode in pairs(m.modes) do
    local sha256 = m.files[path]
    contents[path] = {
      type = sha256 and "file" or "directory", mode = tonumber(mode, 8), sha256 = sha256,
    }
    count = count + 1
  end
  for path, target in pairs(m.links) do
    contents[path] = { type = "link", target = target }
    count = count + 1
  end
  return contents, count
end

return manifest
