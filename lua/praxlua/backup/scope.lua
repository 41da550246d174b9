--- What belongs to a backup: everything in the target that is not ephemeral, and the project's
-- .gitignore. All paths are relative to the project.
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local text = require("praxlua.text")

local scope = {}

-- Not content: what this product's programs make again, and what an upgrade keeps for itself.
local LAYOUT = layout.layouts[1]

local GITIGNORE = ".gitignore"

--- Whether a path is one that a backup of the target may hold.
---@param target_name string ".praxis-os"
---@param path string normal, relative to the project
---@return boolean
function scope.includes(target_name, path)
  if path == GITIGNORE or path == target_name then return true end
  if path:sub(1, #target_name + 1) ~= target_name .. "/" then return false end
  return not layout.is_ephemeral(LAYOUT, path:sub(#target_name + 2))
end

local function add_gitignore(ctx, entries, hash)
  local path = ctx.project .. "/" .. GITIGNORE
  local stat, message, code = core.file.stat(path)
  if not stat then
    if code == "ENOENT" then return true end
    return nil, message, code
  end
  local entry = {
    path = GITIGNORE, type = stat.type, mode = stat.mode, size = stat.size, target = stat.target,
  }
  if stat.type == "directory" then entry.type = "other" end
  if hash and entry.type == "file" then
    entry.sha256, message, code = core.hash.file(path)
    if not entry.sha256 then return nil, message, code end
  end
  entries[#entries + 1] = entry
  return true
end

--- Lists what is there now.
---@param ctx table
---@param hash boolean? with the sha256 of every regular file
---@return table[]|nil entries { path, type = "file"|"directory"|"link"|"other", mode, size,
---  target?, sha256? }; parents before what is in them; the target itself first
---@return string? message
---@return string? code an errno
function scope.list(ctx, hash)
  local top, message, code = core.file.stat(ctx.target)
  if not top then return nil, message, code end
  if top.type ~= "directory" then
    return nil, "list " .. ctx.target .. ": not a directory", "ENOTDIR"
  end
  local inside
  inside, message, code = core.tree.list(ctx.target, {
    skip = LAYOUT.ephemeral.paths, skip_names = LAYOUT.ephemeral.names, hash = hash or false,
  })
  if not inside then return nil, message, code end
  local entries = { { path = ctx.target_name, type = "directory", mode = top.mode, size = 0 } }
  for _, entry in ipairs(inside) do
    entry.path = ctx.target_name .. "/" .. entry.path
    entries[#entries + 1] = entry
  end
  local ok
  ok, message, code = add_gitignore(ctx, entries, hash)
  if not ok then return nil, message, code end
  return entries
end

--- The entries that are neither a file, a directory nor a link, for a message.
---@param entries table[]
---@return string|nil names nil when there is none
function scope.special(entries)
  local names = {}
  for _, entry in ipairs(entries) do
    if entry.type == "other" then names[#names + 1] = text.visible(entry.path) end
  end
  if #names == 0 then return nil end
  local shown = table.concat(names, ", ", 1, math.min(#names, 10))
  return #names > 10 and string.format("%s and %d more", shown, #names - 10) or shown
end

-- One entry against what is wanted at its path; nil when they agree.
local function difference(wanted, entry)
  if not wanted then return "is not in the manifest" end
  if wanted.type ~= entry.type then
    return string.format("is a %s, not a %s", entry.type, wanted.type)
  end
  if entry.type == "link" then
    return wanted.target ~= entry.target and "points elsewhere" or nil
  end
  if wanted.mode ~= entry.mode then
    return string.format("has mode %04o, not %04o", entry.mode, wanted.mode)
  end
  return wanted.sha256 ~= entry.sha256 and "has another content" or nil
end

--- Whether a list without hashes may be what the contents of a manifest describe: the same paths,
--- types, modes, targets, and as many bytes.
---@param contents table<string, table> of manifest.contents
---@param entries table[]
---@param total_bytes integer of the manifest
---@return boolean
function scope.resembles(contents, entries, total_bytes)
  local count = #entries
  for _, entry in ipairs(entries) do
    local wanted = contents[entry.path]
    if not wanted or wanted.type ~= entry.type or wanted.target ~= entry.target
      or wanted.mode and wanted.mode ~= entry.mode then
      return false
    end
    if entry.type == "file" then total_bytes = total_bytes - entry.size end
  end
  for _ in pairs(contents) do count = count - 1 end
  return count == 0 and total_bytes == 0
end

--- Compares a list (with hashes) with the contents of a manifest: the same set, and each the same.
---@param contents table<string, table> of manifest.contents
---@param entries table[]
---@return true|nil
---@return string? problem the first one found, with its path
function scope.compare(contents, entries)
  local found = {}
  for _, entry in ipairs(entries) do
    local problem = difference(contents[entry.path], entry)
    if problem then return nil, string.format("'%s' %s", text.visible(entry.path), problem) end
    found[entry.path] = true
  end
  for path in pairs(contents) do
    if not found[path] then
      return nil, string.format("'%s' is missing", text.visible(path))
    end
  end
  return true
end

return scope
