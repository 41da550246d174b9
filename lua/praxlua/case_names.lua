--- Names of a plan that differ only in case, on file systems where case does not count.
local core = require("praxlua.core")

local case_names = {}

--- Whether the target's file system takes "A" and "a" for one name.
local function folds_case(target)
  local directory, name = target:match("^(.*/)([^/]+)$")
  local swapped = name and name:upper() ~= name and name:upper() or name and name:lower()
  if not swapped or swapped == name then return false end
  local one, other = core.file.stat(target), core.file.stat(directory .. swapped)
  return one ~= nil and other ~= nil and one.inode == other.inode and one.device == other.device
end

--- Finds names that are one name where case does not count. There a shipped name that meets a name
--- of the user's becomes a conflict, and two shipped ones are refused.
---@param ctx table target, warn?
---@param work table of plan.build
---@return true|nil
---@return string? message
---@return string? code "ECASE"
function case_names.check(ctx, work)
  local folded = {}
  local insensitive = folds_case(ctx.target)
  for path in pairs(work.new) do
    local twin = folded[path:lower()]
    if twin and insensitive then
      return nil, ("the source ships both %s and %s, which are one name on the file system of "
        .. "%s; use another file system, or rename one upstream")
        :format(twin, path, ctx.target), "ECASE"
    elseif twin and ctx.warn then
      ctx.warn(("the source ships both %s and %s: they are one name where case does not count")
        :format(twin, path))
    end
    folded[path:lower()] = path
  end
  if not insensitive then return true end
  for path, state in pairs(work.here) do
    local twin = folded[path:lower()]
    if twin and twin ~= path and work.entries[twin] and work.entries[path].action ~= "remove" then
      work.entries[twin].action = "conflict"
      work.entries[twin].reason = ("%s is here, whose name differs only in case"):format(path)
      work.twins[twin] = state
    end
  end
  return true
end

return case_names
