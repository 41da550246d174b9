--- The object store: the content of what was shipped to a target, by its SHA-256, in one compressed
-- file under .cache. A three-way merge needs it where the source's history does not have it (any
-- more).
--
-- It holds the texts that .installed-manifest.json lists. A second file holds those of the record
-- before, so that a rolled back installation finds its base, too. They are only copies: a missing
-- or damaged one is made anew from the source, and what comes out of it is compared with its name.
--
-- A file is a tar archive under zstd with one member: for each object, sorted, a line "SHA256
-- SIZE" and its bytes. One member, because a file each would cost more calls than all of an
-- upgrade.
local core = require("praxlua.core")
local temporary = require("praxlua.temporary")

local objects = {}

local MEMBER = "objects"

--- The largest content that is kept, and the most of all, in bytes.
objects.MAX_BYTES = 8 * 1024 * 1024
objects.MAX_TOTAL = 256 * 1024 * 1024

local CURRENT, PREVIOUS = "/.cache/objects.tar.zst", "/.cache/objects-previous.tar.zst"

local function parse(data)
  local found, at = {}, 1
  while at <= #data do
    local id, size, from = data:match("^(%x+) (%d+)\n()", at)
    if not id then break end
    local content = data:sub(from, from + size - 1)
    if core.hash.sha256(content) == id then found[id] = content end
    at = from + size
  end
  return found
end

-- What a file of the store holds; nothing where it is none that can be used.
local function contents_of(path)
  local stat = core.file.stat(path)
  if not stat or stat.type ~= "file" then return {} end
  local data = temporary.within(function(folder)
    local done = core.archive.extract(path, folder, { max_bytes = objects.MAX_TOTAL })
    return done and core.file.read(folder .. "/" .. MEMBER, objects.MAX_TOTAL)
  end)
  return data and parse(data) or {}
end

--- Everything in the store.
---@param target string
---@return table<string, string> contents by id
function objects.all(target)
  local found = contents_of(target .. PREVIOUS)
  for id, data in pairs(contents_of(target .. CURRENT)) do found[id] = data end
  return found
end

-- The objects as one text, and whether they are other ones than those in `old`.
local function gather(wanted, old, supply)
  local parts, left, total = {}, {}, 0
  local is_new = false
  for id in pairs(old) do left[id] = true end
  for _, id in ipairs(wanted) do
    local data = old[id] or supply(id)
    if data and #data <= objects.MAX_BYTES and total + #data <= objects.MAX_TOTAL then
      parts[#parts + 1], total = ("%s %d\n%s"):format(id, #data, data), total + #data
      is_new = is_new or not old[id]
      left[id] = nil
    end
  end
  return table.concat(parts), is_new or next(left) ~= nil
end

local function write(target, data)
  return temporary.within(function(folder)
    local ok, message, code = core.file.write_new(folder .. "/" .. MEMBER, data)
    local archive = folder .. "/archive"
    if ok then ok, message, code = core.archive.create(archive, folder, { MEMBER }) end
    local packed
    if ok then packed, message, code = core.file.read(archive) end
    if not packed then return nil, message, code end
    return core.file.write_atomic(target .. CURRENT, packed, 384) -- 0600
  end)
end

--- Makes the store hold these objects, as far as their content can be had, and those it held
--- before.
---@param target string
---@param wanted string[] ids, each once, sorted
---@param supply fun(id: string): string? content of what the store does not hold yet
---@return true|nil
---@return string? message
---@return string? code
function objects.keep(target, wanted, supply)
  local old = contents_of(target .. CURRENT)
  local data, is_new = gather(wanted, old, supply)
  if not is_new then return true end
  if next(old) then
    local ok, message, code = core.file.rename(target .. CURRENT, target .. PREVIOUS)
    if not ok then return nil, message, code end
  end
  return write(target, data)
end

return objects
