--- Carries out the tasks "merge" of a plan: what both sides changed becomes one text where that can
-- be done without a person, and a conflict where it cannot.
local base = require("praxlua.base")
local config_merge = require("praxlua.config_merge")
local core = require("praxlua.core")
local decision = require("praxlua.decision")
local merge = require("praxlua.merge")
local text = require("praxlua.text")

local merging = {}

local function conflict(entry, reason)
  entry.action, entry.reason = "conflict", reason
  return true
end

-- The three texts of a task. nil, nil: one of them cannot be had, and the entry says so.
local function texts_of(ctx, work, task)
  local entry = task.entry
  local new_path = ctx.source .. "/" .. task.new.source
  for _, path in ipairs({ work.target .. "/" .. task.from, new_path }) do
    local stat = core.file.stat(path)
    if stat and stat.size > merge.MAX_BYTES then
      conflict(entry, "you changed it, and so did upstream, and it is too large to be merged")
      return nil
    end
  end
  local before, message, code
  if type(task.base) == "table" then
    before, message, code = base.content(work.known, task.base_path, task.base)
    if message then return nil, message, code end
  end
  local ours, theirs
  ours, message, code = core.file.read(work.target .. "/" .. task.from)
  if ours then theirs, message, code = core.file.read(new_path) end
  if not theirs then return nil, message, code end
  return { base = before, ours = ours, theirs = theirs }
end

-- The entry holds this afterwards. What needs no writing, or only what is shipped, is said as that.
local function settle(task, data, reason)
  local entry, id = task.entry, core.hash.sha256(data)
  local may_run = entry.mode & 64 ~= 0 -- 0100
  if id == task.here.id and task.from == entry.path and may_run == task.here.executable then
    entry.action, entry.reason = "keep", "it holds what upstream changed already"
  elseif id == task.new.id and entry.new then
    entry.action = entry["local"] and "update" or "add"
    entry.reason = "upstream has what you changed, and more"
  else
    entry.action, entry.reason = "merge", reason
    entry.content, entry.result, entry.size = data, id, #data
  end
  return true
end

-- Why a merge is one.
local function reason_of(work, task)
  local entry, reason = task.entry, "changed on both sides, in different places"
  if task.is_moved then reason = "upstream moved it from " .. task.from .. "; your changes go along"
  elseif task.from ~= entry.path then reason = "moved from " .. task.from .. "; " .. reason
  elseif task.base_path ~= entry.path then
    reason = "you moved it from " .. task.base_path .. "; upstream's changes go along"
  end
  local guessed = work.guessed[task.base_path]
  return guessed and reason .. "; what was shipped before is told by " .. guessed or reason
end

local function merge_text(work, task, texts)
  local entry = task.entry
  if decision.same(task.base, task.new) then
    return settle(task, texts.ours, task.is_moved and reason_of(work, task) or entry.reason)
  end
  if not texts.base then
    return conflict(entry, "you changed it, and so did upstream, and what was shipped before is "
      .. "not known any more")
  end
  local merged, message, code = merge.text(texts.base, texts.ours, texts.theirs)
  if code == "ENOTTEXT" then
    return conflict(entry, "you changed it, and so did upstream, and it is no text")
  elseif not merged then
    return nil, message, code
  elseif not merged.clean then
    local where = task.from == entry.path and "" or "moved from " .. task.from .. "; "
    return conflict(entry, ("%syou changed it, and so did upstream, in %s")
      :format(where, text.plural(merged.conflicts, "place")))
  elseif merge.breaks_json(entry.path, texts.ours, texts.theirs, merged.text) then
    return conflict(entry, "you changed it, and so did upstream, and together it is no JSON")
  end
  return settle(task, merged.text, reason_of(work, task))
end

local function told(merged)
  local parts = {}
  for _, part in ipairs({ { "added", "new keys: " }, { "removed", "no longer shipped: " },
    { "defaults", "shipped with another value now: " } }) do
    local names = merged[part[1]]
    if #names > 0 then parts[#parts + 1] = part[2] .. table.concat(names, ", ") end
  end
  return #parts > 0 and table.concat(parts, "; ") or "you have every key of it"
end

local function merge_config(task, texts)
  local entry = task.entry
  local merged, message = config_merge.merge(texts.base, texts.ours, texts.theirs)
  if not merged then
    return conflict(entry, "a configuration that cannot be merged by key: " .. message)
  end
  settle(task, merged.text)
  entry.reason = told(merged)
  return true
end

--- Carries out the tasks of a plan.
---@param ctx table source
---@param work table of plan.build: tasks = { { entry, base, base_path, here, new, from, config } }:
---  `from` is the path of the local file, `base_path` that under which it was shipped
---@return true|nil
---@return string? message
---@return string? code
function merging.run(ctx, work)
  for i, task in ipairs(work.tasks) do
    local texts, message, code = texts_of(ctx, work, task)
    local done = not message
    if texts and task.config then
      done, message, code = merge_config(task, texts)
    elseif texts then
      done, message, code = merge_text(work, task, texts)
    end
    if not done then return nil, message, code end
    if ctx.progress and #work.tasks > 8 then
      ctx.progress(("merging file %d of %d"):format(i, #work.tasks), i / #work.tasks)
    end
  end
  return true
end

return merging
