--- Follows files that were moved, upstream or here, so that edits land in the moved file.
--
-- What was moved upstream git tells from two commits; what the user moved it tells from the shipped
-- files that are missing here and the files here that were never shipped. Nothing is followed where
-- it would take the place of something else.
local base = require("praxlua.base")
local core = require("praxlua.core")
local decision = require("praxlua.decision")
local git = require("praxlua.git")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local merge = require("praxlua.merge")
local survey = require("praxlua.survey")
local temporary = require("praxlua.temporary")

local renames = {}

local function is_file(state) return type(state) == "table" and state.type == "file" end

-- A merge of what was shipped under another name.
local function add_task(work, task)
  local entry = task.entry
  entry.moved_from, entry.base = task.base_path, task.base.id
  work.tasks[#work.tasks + 1] = task
end

-- ---- upstream -------------------------------------------------------------------------------

-- A base at a path for which there may be no entry: nothing is there on either side, or it belongs
-- to a component that the source does not ship any more.
local function base_at(work, path)
  if work.bases[path] ~= nil then return work.bases[path] end
  local state, from, message, code = base.find(work.known, path, work.here[path], nil)
  if not from then return nil, message, code end
  return state
end

-- Whether the target has the folder of a path's component. What is missing in one that was never
-- installed was not deleted, and nothing is looked for behind a link.
local function is_installed(work, path)
  local component = work.component(path)
  local stat = component and core.file.stat(work.target .. "/" .. component.to)
  return stat ~= nil and stat.type == "directory"
end

-- Adds what stands in such a component to what is known to be here.
local function look_at(work, path)
  local component = work.component(path)
  if not component or work.active[component.name] or work.here[path] then return true end
  local message, code
  work.here[path], message, code = survey.at(work.target, path)
  if message then return nil, message, code end
  return true
end

-- The user has what upstream moved: permissions go along, and so does a change.
local function follow_file(work, from, to, before)
  local entry, here, new = work.entries[to], work.here[from], work.new[to]
  local executable = select(3, decision.decide(before, here, new, "system"))
  entry.mode = work.mode_for(new, here, executable)
  if decision.same(here, before) then return end
  entry.edited_at = from
  add_task(work, { entry = entry, base = before, base_path = from, here = here, new = new,
    from = from, is_moved = decision.same(before, new) })
  work.moves[#work.moves + 1] = { from = from, to = to }
end

-- The user deleted what upstream moved. Of an unclear version it is not known whether it was moved
-- at all, or left and another one came.
local function follow_deletion(work, from, to, before)
  local entry = work.entries[to]
  if base.is_unclear(work.known, from) then return end
  if decision.same(before, work.new[to]) then
    entry.action = "keep"
    entry.reason = ("you deleted it as %s; upstream only moved it"):format(from)
  else
    entry.action = "conflict"
    entry.reason = ("you deleted it as %s; upstream changed it and moved it here"):format(from)
  end
end

-- Both moved it to the same name.
local function follow_both(work, to, from, before)
  local entry, here, new = work.entries[to], work.here[to], work.new[to]
  if not is_file(here) or entry.action ~= "conflict" then return end
  add_task(work, { entry = entry, base = before, base_path = from, here = here, new = new,
    from = to })
end

-- The user changed what upstream moved, and which version it was is not known. What is shipped now
-- already needs no question.
local function ask_about(work, from, to)
  local entry = work.entries[to]
  if entry.action ~= "add" then return end
  if decision.same(work.here[from], work.new[to]) then
    work.moves[#work.moves + 1] = { from = from, to = to }
    return
  end
  entry.action, entry.moved_from, entry.edited_at = "conflict", from, from
  entry.reason = ("moved from %s; you changed it, and what was shipped before is not known")
    :format(from)
  work.moves[#work.moves + 1] = { from = from, to = to }
end

local function follow_upstream(work, from, to)
  local new = work.new[to]
  if work.new[from] or not is_file(new) or work.directories[to] or work.directories[from]
    or work.ownership(from) == "user" then
    return true
  end
  if type(work.bases[to]) == "table" or not work.entries[to] then return true end
  if not is_installed(work, from) then return true end
  local done, message, code = look_at(work, from)
  if not done then return nil, message, code end
  local before
  before, message, code = base_at(work, from)
  if message then return nil, message, code end
  local here = work.here[from]
  if before == base.UNKNOWN and is_file(here) and not work.here[to] then
    ask_about(work, from, to)
  end
  if not is_file(before) then return true end
  if work.here[to] then
    if not here then follow_both(work, to, from, before) end
  elseif work.entries[to].action ~= "add" then -- something else stands in the way
    return true
  elseif not here then
    follow_deletion(work, from, to, before)
  elseif is_file(here) then
    follow_file(work, from, to, before)
  end
  return true
end

--- Follows what upstream moved between the installed commit, when it is known, and now.
---@param ctx table
---@param work table of plan.build
---@return true|nil
---@return string? message
---@return string? code
function renames.upstream(ctx, work)
  local known = work.known
  if not known.ancestor or known.ancestor == known.head then return true end
  local found, message, code = git.renames(ctx.source, known.ancestor, known.head,
    survey.froms(work.layout.components))
  if not found then return nil, message, code end
  for _, rename in ipairs(found) do
    local from = layout.target_path(work.layout, rename.from)
    from = from and layout.former_path(work.layout, from) or from
    local to = layout.target_path(work.layout, rename.to)
    local followed = true
    if from and to then followed, message, code = follow_upstream(work, from, to) end
    if not followed then return nil, message, code end
  end
  return true
end

-- ---- the layout -----------------------------------------------------------------------------

--- Follows what an upgrade puts in its right place, where the layout itself changes.
---@param work table of plan.build
---@return true|nil
---@return string? message
---@return string? code
function renames.of_layout(work)
  for _, to in ipairs(lists.sorted_keys(work.new)) do
    local from = layout.former_path(work.layout, to)
    local followed, message, code = true, nil, nil
    if from then followed, message, code = follow_upstream(work, from, to) end
    if not followed then return nil, message, code end
  end
  return true
end

-- ---- here -----------------------------------------------------------------------------------

-- Whether a file is shipped in another version now and missing here: what the user moved would
-- have to follow.
local function is_waited_for(work, path)
  local entry = work.entries[path]
  return entry ~= nil and entry.action == "conflict" and not work.here[path]
    and is_file(work.bases[path]) and is_file(work.new[path])
end

-- What was shipped and is missing here, and what is here and was never shipped. What upstream did
-- not change is among the missing ones: a copy of it is no copy of a file that is like it.
local function missing_and_own(work)
  local missing, own, waited_for = {}, {}, 0
  for path, before in pairs(work.bases) do
    if not work.here[path] and is_file(before) then
      missing[#missing + 1] = path
      if is_waited_for(work, path) then waited_for = waited_for + 1 end
    end
  end
  for path in pairs(work.entries) do
    local here = work.here[path]
    if is_file(here) and not work.new[path] and type(work.bases[path]) ~= "table"
      and here.size > 0 and here.size <= merge.MAX_BYTES
      and work.ownership(path) ~= "user" then
      own[#own + 1] = path
    end
  end
  table.sort(missing)
  table.sort(own)
  return waited_for > 0 and missing or {}, own
end

-- Upstream's changes go into the file that the user moved.
local function follow_user(work, from, to)
  local entry, new = work.entries[to], work.new[from]
  entry.source, entry.mode = new.source, work.here[to].mode
  add_task(work, { entry = entry, base = work.bases[from], base_path = from,
    here = work.here[to], new = new, from = to })
  work.entries[from].action = "keep"
  work.entries[from].reason = "you moved it to " .. to
end

-- Each gets a number; the names differ between the folders, so that git compares contents only.
local function put_all(place, name, paths, read)
  local folder = place .. "/" .. name
  local ok, message, code = core.file.mkdir(folder)
  for i, path in ipairs(paths) do
    local data
    if ok then data, message, code = read(path) end
    if message then return nil, message, code end
    if data then
      ok, message, code = core.file.write_new(("%s/%s-%d"):format(folder, name, i), data)
    end
    if not ok then return nil, message, code end
  end
  return ok, message, code
end

-- Pairs of paths: from the missing ones to the user's own.
local function pair_up(work, missing, own)
  return temporary.within(function(folder)
    local ok, message, code = put_all(folder, "old", missing, function(path)
      return base.content(work.known, path, work.bases[path])
    end)
    if ok then
      ok, message, code = put_all(folder, "new", own, function(path)
        return core.file.read(work.target .. "/" .. path)
      end)
    end
    if not ok then return nil, message, code end
    return git.folder_renames(folder, "old", "new")
  end)
end

--- Follows what the user moved: upstream's changes go into the moved file.
---@param work table of plan.build
---@return true|nil
---@return string? message
---@return string? code
function renames.here(work)
  local missing, own = missing_and_own(work)
  if #missing == 0 or #own == 0 then return true end
  local pairs_found, message, code = pair_up(work, missing, own)
  if not pairs_found then return nil, message, code end
  for _, found in ipairs(pairs_found) do
    local from = missing[tonumber(found.from:match("%d+$"))]
    local to = own[tonumber(found.to:match("%d+$"))]
    if is_waited_for(work, from) then follow_user(work, from, to) end
  end
  return true
end

--- After the merges: what was moved upstream goes from its old name when it is at its new one.
---@param work table
function renames.settle(work)
  for _, move in ipairs(work.moves) do
    local old, new = work.entries[move.from], work.entries[move.to]
    if not old then -- of a component that is left alone
      new.reason = new.reason .. "; the old one stays"
    elseif new.action == "conflict" then
      old.reason = ("upstream moved it to %s, which is in conflict"):format(move.to)
    elseif work.ownership(move.from) == "system" then
      old.action = "remove"
      old.reason = ("upstream moved it to %s, and your changes went along"):format(move.to)
    end
  end
end

return renames
