--- A private folder for the time of one piece of work, outside of every installation.
local core = require("praxlua.core")
local text = require("praxlua.text")

local temporary = {}

local PRIVATE = 448 -- 0700

--- Where temporary folders are made: TMPDIR, else /tmp.
---@return string|nil path absolute, with links resolved
---@return string? message
---@return string? code
function temporary.place()
  local wanted = core.system.environment().TMPDIR
  if not wanted or wanted == "" then wanted = "/tmp" end
  local place, message, code = core.file.realpath(wanted)
  if place and core.file.stat(place).type ~= "directory" then
    place, message, code = nil, "it is no folder", "ENOTDIR"
  end
  if place then return place end
  return nil, ("there is no folder for temporary files at %s (%s); name one with TMPDIR=DIR")
    :format(text.visible(wanted), message), code
end

--- Whether temporary folders lie outside of a directory in which nothing may be written.
---@param directory string absolute, without links
---@return true|nil
---@return string? message
---@return string? code
function temporary.is_outside(directory)
  local place, message, code = temporary.place()
  if not place then return nil, message, code end
  if (place .. "/"):sub(1, #directory + 1) ~= directory .. "/" then return true end
  return nil, ("temporary files would lie in the installation itself, in %s; name another folder "
    .. "with TMPDIR=DIR"):format(text.visible(place)), "EINVAL"
end

--- Calls use(folder) with a new empty folder, which is gone afterwards, whatever happens.
---@param use fun(folder: string): any
---@return any what use returned, or nil, message, code when there is no folder
function temporary.within(use)
  local place, message, code = temporary.place()
  if not place then return nil, message, code end
  local folder = ("%s/praxlua-%s"):format(place, core.system.uuid())
  local made
  made, message, code = core.file.mkdir(folder, PRIVATE)
  if not made then
    return nil, message .. "; make room, or name another folder with TMPDIR=DIR", code
  end
  local results = table.pack(pcall(use, folder))
  core.tree.remove(folder)
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

return temporary
