--- File systems in a file, mounted for a test: the Lua face of volume.c.
--
-- Everything is mounted in a mount namespace of the test's own (see power.lua), so that the kernel
-- takes it away when the test ends, however that happens. The images lie on a tmpfs: nothing is
-- written to a real disk.
local lfs = require("lfs")

local volume = {}

-- The size of a block device that the scenarios fit in with room to spare; XFS makes none smaller.
-- 900 s between the commits of ext4, and no help with renames: otherwise it hides what was not
-- synced.
local TYPES = {
  ext4 = {
    size = "24m", options = "noauto_da_alloc,commit=900",
    mkfs = { "mkfs.ext4 -q -F -b 4096 -N 4096 -J size=4 -m 0" },
  },
  xfs = {
    size = "64m", options = "nouuid",
    mkfs = { "mkfs.xfs -q -f --unsupported", "mkfs.xfs -q -f" }, -- newer ones want to be told
  },
}

--- The file systems, in the order in which they are tried.
volume.TYPES = { "ext4", "xfs" }

local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

--- The program, from PRAXLUA_HOST.
---@return string path absolute
function volume.program()
  local host = os.getenv("PRAXLUA_HOST") or "build/praxlua"
  local path = host:gsub("[^/]*$", "") .. "faults/volume"
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

--- Runs the program; raises when it fails.
---@param ... string|integer its arguments
---@return string output
function volume.run(...)
  local words = { quote(volume.program()) }
  for _, word in ipairs({ ... }) do words[#words + 1] = quote(word) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  local out = pipe:read("a")
  if not pipe:close() then error(out ~= "" and out or "volume: failed", 2) end
  return out
end

local function sh(...)
  local line = string.format(...)
  local pipe = assert(io.popen("{ " .. line .. "; } 2>&1"))
  local out = pipe:read("a")
  if not pipe:close() then return nil, line .. ": " .. out end
  return out
end

--- Makes an empty file system.
---@param kind string "ext4" or "xfs"
---@param image string path of the file to make
---@param options string? further options of mkfs
function volume.make(kind, image, options)
  local message
  for _, mkfs in ipairs(TYPES[kind].mkfs) do
    local ok
    assert(sh("rm -f %s && truncate -s %s %s", quote(image), TYPES[kind].size, quote(image)))
    ok, message = sh("%s %s %s", mkfs, options or "", quote(image))
    if ok then return end
  end
  error(message, 2)
end

--- Mounts an image.
---@param kind string "ext4" or "xfs"
---@param image string
---@param point string an empty directory
function volume.mount(kind, image, point)
  volume.run("mount", image, point, kind, TYPES[kind].options)
end

function volume.unmount(point) volume.run("unmount", point) end

--- Makes a copy of an image, with its holes.
function volume.copy(image, to) volume.run("copy", image, to) end

--- What is left on a mounted file system.
---@param point string
---@return integer bytes
---@return integer inodes
function volume.free(point)
  local bytes, inodes = volume.run("free", point):match("(%d+) (%d+)")
  return math.tointeger(tonumber(bytes)), math.tointeger(tonumber(inodes))
end

local LETTERS = { d = "directory", f = "file", l = "link", o = "other" }

local function decoded(word)
  return (word:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- Everything in a directory, parents first; the root has the path "".
---@param point string
---@return { path: string, type: string, mode: integer, inode: integer, size: integer,
---  digest: string, target: string, read: fun(): string }[]
function volume.list(point)
  local entries = {}
  for line in volume.run("list", point):gmatch("[^\n]+") do
    local letter, mode, inode, size, about, path =
      line:match("^(%a) (%d+) (%d+) (%d+) (%S+) /(.*)$")
    path = decoded(path)
    entries[#entries + 1] = {
      path = path, type = LETTERS[letter], mode = tonumber(mode, 8),
      inode = math.tointeger(tonumber(inode)), size = math.tointeger(tonumber(size)),
      digest = about, target = letter == "l" and decoded(about) or nil,
      read = function()
        local file = assert(io.open(point .. "/" .. path, "rb"))
        local data = file:read("a")
        file:close()
        return data
      end,
    }
  end
  return entries
end

--- A digest of all that: paths, types, modes, contents and inodes.
function volume.digest(point) return (volume.run("digest", point):gsub("\n", "")) end

-- Mounts one of each kind in the caller's namespace.
local function try(kind, directory)
  local image, point = directory .. "/try." .. kind, directory .. "/try"
  lfs.mkdir(point)
  volume.make(kind, image)
  volume.mount(kind, image, point)
  volume.unmount(point)
  os.remove(image)
end

--- Whether a file system can be mounted here; to be called in a namespace of its own.
---@param kind string
---@param directory string on a tmpfs
---@return boolean
---@return string? reason
function volume.works(kind, directory)
  local ok, reason = pcall(try, kind, directory)
  return ok, not ok and tostring(reason):gsub("%s+$", "") or nil
end

return volume
