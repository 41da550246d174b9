--- The decision table: what happens to one path, from what was shipped there (base), what is there
-- now (here) and what is shipped now (new), and from who owns it. Pure: nothing is read.
--
-- What stands at a path is a state { type, id, executable?, … }, see plan.lua; nil means absent.
-- "merge" is a task, not yet an action: merging.lua makes a merge, a conflict or something simpler
-- of it. Every cell of the table has a test of its name in spec/unit/decision_spec.lua.
local base = require("praxlua.base")

local decision = {}

--- Whether two states are the same thing: type and content; not the permission.
---@param a table|string|nil
---@param b table|string|nil
---@return boolean
function decision.same(a, b)
  return type(a) == "table" and type(b) == "table" and a.type == b.type and a.id == b.id
end

local same = decision.same

--- Whether the file may be run afterwards: a change made here wins over upstream's.
local function merge_permission(before, here, new)
  if new.type ~= "file" then return nil end
  if not here or here.type ~= "file" then return new.executable end
  if type(before) ~= "table" then return here.executable end
  local shipped = before.executable
  if shipped == nil and same(before, here) or here.executable == shipped then
    return new.executable
  end
  return here.executable
end

local function is_file(state) return type(state) == "table" and state.type == "file" end

-- A file in the way that is none of ours.
local function decide_differing(before, here, new)
  if here.type == "directory" then
    return "conflict", "a directory is here where a file is shipped now"
  elseif here.type == "other" then
    return "conflict", "something that is no file is here where a file is shipped now"
  elseif before == base.UNKNOWN then
    return "conflict", "it differs from the new one, and what was shipped before is not known"
  elseif before == nil then
    return "conflict", "a file of yours is here where another one is shipped now"
  elseif same(before, here) then
    return "update", "changed upstream"
  elseif is_file(before) and is_file(here) and is_file(new) then
    return "merge", "changed on both sides"
  end
  return "conflict", "you changed it, and so did upstream"
end

local function decide_both(before, here, new)
  local executable = merge_permission(before, here, new)
  if same(here, new) then
    if new.type == "file" and executable ~= here.executable then
      return "update", "upstream changed whether it may be run", executable
    end
    if same(before, here) then return "unchanged", "as shipped", executable end
    return "adopt", "already as shipped now", executable
  end
  if same(before, new) then
    if is_file(here) and is_file(new) and executable ~= here.executable then
      return "merge", "you changed it, and upstream whether it may be run", executable
    end
    return "keep", "you changed it, upstream did not", executable
  end
  local action, reason = decide_differing(before, here, new)
  return action, reason, executable
end

local function decide_missing(before, new)
  if before == nil then return "add", "new upstream", new.executable end
  if before == base.UNKNOWN then return "add", "not here yet", new.executable end
  if same(before, new) then return "keep", "you deleted it, upstream did not change it" end
  return "conflict", "you deleted it, and upstream changed it"
end

local function decide_unshipped(before, here, ownership)
  if type(before) ~= "table" then return "keep", "yours" end
  if not same(before, here) then return "keep", "you changed it; it is no longer shipped" end
  if ownership ~= "system" then
    return "keep", "no longer shipped; nothing is removed from a shared directory"
  end
  return "remove", "no longer shipped, and you did not change it"
end

-- A configuration is the user's: what is shipped can only add keys to it.
local function decide_config(before, here, new)
  if not new then return here and "keep" or nil, "yours" end
  if not here then
    if type(before) == "table" then return "keep", "you deleted it" end
    return decide_missing(before, new)
  end
  if same(here, new) then return "unchanged", "as shipped", here.executable end
  if same(before, new) then return "keep", "you changed it, upstream did not" end
  if is_file(here) and is_file(new) then
    return "merge", "your configuration", here.executable
  end
  return "conflict", "your configuration is no file, or what is shipped is none"
end

--- Decides about one path.
---@param before table|string|nil the state that was shipped last time; nil: none; base.UNKNOWN
---@param here table|nil the state now
---@param new table|nil the state that is shipped now
---@param ownership "system"|"shared"|"user"|"config"
---@return string|nil action "add", "update", "merge", "remove", "keep", "unchanged", "adopt",
--- "conflict"; nil: there is nothing at the path and nothing will be
---@return string|nil reason in plain words
---@return boolean|nil executable for a file that is written or stays: whether it may be run
function decision.decide(before, here, new, ownership)
  if ownership == "config" then return decide_config(before, here, new) end
  if ownership ~= "system" and ownership ~= "shared" then
    if here then return "keep", "yours" end
    return nil
  end
  if here and new then return decide_both(before, here, new) end
  if new then return decide_missing(before, new) end
  if here then return decide_unshipped(before, here, ownership) end
  return nil
end

return decision
