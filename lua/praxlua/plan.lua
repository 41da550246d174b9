--- The plan: which file actions an upgrade takes, each with what was shipped, what is here and what
-- is shipped now, and one hash over all of it.
--
-- What stands at a path is a state { type, id, executable?, mode?, size? }: `type` is "file",
-- "link", "directory" or "other"; `id` the SHA-256 of a file or "link:TARGET"; nil means absent.
local base = require("praxlua.base")
local case_names = require("praxlua.case_names")
local core = require("praxlua.core")
local decision = require("praxlua.decision")
local entries = require("praxlua.entries")
local extend = require("praxlua.project_file.extend")
local git = require("praxlua.git")
local glob = require("praxlua.glob")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local merging = require("praxlua.merging")
local policy = require("praxlua.policy")
local renames = require("praxlua.renames")
local safe_upgrade = require("praxlua.driver.safe_upgrade")
local survey = require("praxlua.survey")
local temporary = require("praxlua.temporary")

local plan = {}

plan.FORMAT_VERSION = 2

-- ---- the decisions --------------------------------------------------------------------------

local function id_of(state)
  return type(state) == "table" and state.id or nil
end

--- The permission bits a written file gets: those it has, with the right to run it as decided.
local function mode_for(state, here, executable)
  if state.type ~= "file" then return nil end
  local mode = here and here.mode or 420 -- 0644
  if executable == (mode & 64 ~= 0) then return mode end -- 0100
  if not executable then return mode & ~73 end -- 0111
  return mode | (mode & 292) >> 2 -- whoever may read (0444) may run
end

local function make_entry(work, path, before, from, here, new, decided)
  local entry = {
    path = path, component = work.component(path).name,
    action = decided[1], reason = decided[2],
    base = id_of(before), base_from = from, ["local"] = id_of(here), new = id_of(new),
    local_mode = here and here.mode,
  }
  if new then
    entry.source, entry.size, entry.shipped_size = new.source, new.size, new.size
    entry.mode = mode_for(new, here, decided[3])
    entry.shipped_mode = new.type == "file" and (new.executable and "755" or "644") or nil
  elseif here then
    entry.size = here.size
  end
  return entry
end

-- Bases that are told by likeness: a merge that rests on one says so.
local GUESSED = { inferred = "the versions of the other files", nearest = "its likeness" }

local function decide_path(work, path, here)
  local new = work.new[path]
  local before, from, message, code = base.find(work.known, path, here, new)
  if not from then return nil, message, code end
  work.bases[path], work.guessed[path] = before, GUESSED[from]
  local ownership, why = work.ownership(path)
  local action, reason, executable = decision.decide(before, here, new, ownership)
  if not action then return false end
  reason = ownership == "user" and why or reason
  return make_entry(work, path, before, from, here, new, { action, reason, executable })
end

-- What both sides changed is to be merged; where something else stands in the way it is a conflict.
local function note_tasks(work)
  for path, entry in pairs(work.entries) do
    if entry.action == "merge" then
      work.tasks[#work.tasks + 1] = { entry = entry, base = work.bases[path], base_path = path,
        here = work.here[path], new = work.new[path], from = path,
        config = work.ownership(path) == "config" }
    end
  end
  table.sort(work.tasks, function(a, b) return a.entry.path < b.entry.path end)
  return true
end

local function candidates(work)
  local set = {}
  for path in pairs(work.new) do set[path] = true end
  for path in pairs(work.here) do set[path] = true end
  for path in pairs(work.known.manifest and work.known.manifest.files or {}) do
    if work.component(path) and work.active[work.component(path).name] then set[path] = true end
  end
  return set
end

local function decide_all(work)
  for path in pairs(candidates(work)) do
    if not work.directories[path] then
      local entry, message, code = decide_path(work, path, work.here[path])
      if entry == nil then return nil, message, code end
      work.entries[path] = entry or nil
    end
  end
  return true
end

--- The entries beneath a path.
local function beneath(work, path)
  local prefix, found = path .. "/", {}
  for other, entry in pairs(work.entries) do
    if other:sub(1, #prefix) == prefix then found[#found + 1] = entry end
  end
  return found
end

-- What is shipped now for an entry; for a file that the user moved, under the old name.
local function shipped_for(work, entry)
  return work.new[entry.path] or work.new[entry.moved_from]
end

-- What names a conflict: its path and the three sides. With another content it is another one.
local function conflict_id(work, entry)
  local here = work.here[entry.edited_at or entry.path]
  local new = shipped_for(work, entry)
  local sum = core.hash.new()
  for _, part in ipairs({ entry.path, entry.base or "-", here and here.id or "-",
    new and new.id or "-" }) do
    sum:update(string.pack("<s8", part))
  end
  return sum:hex():sub(1, 12)
end

-- How a conflict was decided: by an answer to this very one, or by the policy.
local function choice_for(work, entry)
  entry.id = conflict_id(work, entry)
  local given = work.resolutions[entry.path]
  if given and given.id == entry.id then return given.answer end
  local choice = work.policy(entry.path) or work.on_conflict
  return (choice == "ours" or choice == "theirs") and choice or nil
end

local function take_away(work, list)
  for _, entry in ipairs(list) do
    local here = work.here[entry.path]
    if here and (here.type == "other" or work.ownership(entry.path) == "user") then return false end
  end
  for _, entry in ipairs(list) do
    if entry["local"] and entry.action ~= "remove" then
      entry.action, entry.resolved = "remove", "theirs"
      entry.reason = "it stands where something else is shipped now"
    end
  end
  return true
end

--- A file is shipped where a directory is: fine when all in it goes, else a conflict.
local function settle_directory(work, path)
  local inside = beneath(work, path)
  local stays = false
  for _, entry in ipairs(inside) do stays = stays or entry.action ~= "remove" end
  local new = work.new[path]
  local here = stays and { type = "directory", id = "directory" } or nil
  local entry, message, code = decide_path(work, path, here)
  if entry == nil then return nil, message, code end
  entry.replaces = "directory"
  if entry.action == "conflict" and stays and choice_for(work, entry) == "theirs"
    and take_away(work, inside) then
    entry.action, entry.resolved, entry["local"] = "add", "theirs", nil
    entry.mode = mode_for(new, nil, new.executable)
  end
  work.entries[path] = entry
  return true
end

--- The file or link that stands where a shipped path needs a directory.
local function blocker_of(work, path)
  local at = path:match("^(.*)/[^/]*$")
  while at do
    if work.here[at] then return at end
    at = at:match("^(.*)/[^/]*$")
  end
  return nil
end

-- What is shipped beneath a file or link that stands here: one answer that it may go lets all in.
local function settle_blocked(work, blocker, blocked)
  local standing = work.entries[blocker]
  if standing.action == "remove" then return end
  local goes = false
  for _, entry in ipairs(blocked) do goes = choice_for(work, entry) == "theirs" or goes end
  goes = goes and take_away(work, { standing })
  for _, entry in ipairs(blocked) do
    if goes and choice_for(work, entry) ~= "ours" then
      entry.action, entry.resolved = "add", "theirs"
    else
      entry.action = "conflict"
      entry.reason = ("%s is here where a directory is shipped now"):format(blocker)
    end
  end
end

local function settle_types(work)
  local blocked = {}
  for _, path in ipairs(lists.sorted_keys(work.new)) do
    if work.directories[path] then
      local done, message, code = settle_directory(work, path)
      if not done then return nil, message, code end
    end
    local entry, blocker = work.entries[path], blocker_of(work, path)
    if blocker and entry and entry.action ~= "keep" then
      blocked[blocker] = blocked[blocker] or {}
      table.insert(blocked[blocker], entry)
    end
  end
  for _, blocker in ipairs(lists.sorted_keys(blocked)) do
    settle_blocked(work, blocker, blocked[blocker])
  end
  return true
end

-- "theirs" can be written: nothing else stands where it goes.
local function is_writable(work, entry)
  local here = work.here[entry.path]
  return not work.directories[entry.path] and not blocker_of(work, entry.path)
    and not (here and here.type == "other") and not work.twins[entry.path]
end

local function take_theirs(work, entry)
  local here, new = work.here[entry.path], shipped_for(work, entry)
  entry.action, entry.resolved = here and "update" or "add", "theirs"
  if not entry.new then -- the user moved it
    entry.result, entry.size = new.id, new.size
    return
  end
  entry.mode = mode_for(new, here and here.type == "file" and here or nil, new.executable)
end

-- "ours" of what upstream moved goes along to the new name.
local function keep_ours(work, entry)
  entry.action, entry.resolved = "keep", "ours"
  local here = entry.edited_at and work.here[entry.edited_at]
  if not here then return true end
  local data, message, code = core.file.read(work.target .. "/" .. entry.edited_at)
  if not data then return nil, message, code end
  entry.action, entry.content, entry.result, entry.size = "add", data, here.id, #data
  entry.mode = here.mode
  return true
end

local function take_merged(entry, data)
  entry.action, entry.resolved = "merge", "merged"
  entry.content, entry.result, entry.size = data, core.hash.sha256(data), #data
end

local function is_file(state) return state ~= nil and state.type == "file" end

local function resolve(work, entry)
  if entry.action ~= "conflict" then return true end
  local choice = choice_for(work, entry)
  if choice == "ours" then return keep_ours(work, entry) end
  if choice and is_writable(work, entry) then
    if choice == "theirs" then
      take_theirs(work, entry)
    elseif is_file(shipped_for(work, entry)) then
      take_merged(entry, work.resolutions[entry.path].content)
    end
  end
  return true
end

local function resolve_all(work)
  for _, entry in pairs(work.entries) do
    local done, message, code = resolve(work, entry)
    if not done then return nil, message, code end
  end
  renames.settle(work)
  return true
end

-- ---- the whole ------------------------------------------------------------------------------

--- The hash that names a plan: equal plans do equal things. Files of the user's that it does not
--- concern are left out, so that writing one does not make a reviewed plan stale.
---@param self table the plan
---@return string hex
function plan.hash(self)
  local sum = core.hash.new()
  local function add(...)
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      sum:update(value == nil and "-" or string.pack("<s8", tostring(value)))
    end
  end
  add(self.format_version, self.layout, self.source_commit, self.source_version)
  add(self.policy and policy.text(self.policy))
  for _, e in ipairs(self.entries) do
    if entries.concern(e) then
      add(e.path, e.source, e.component, e.action, e.base, e["local"], e.new, e.mode, e.resolved,
        e.result, e.moved_from, e.edited_at)
    end
  end
  return sum:hex()
end

local function summarise(self)
  self.counts = entries.counts(self.entries)
  self.bytes, self.changes, self.base_from = 0, 0, {}
  for _, entry in ipairs(self.entries) do
    self.base_from[entry.base_from] = (self.base_from[entry.base_from] or 0) + 1
    if entries.writes(entry) then
      self.bytes = self.bytes + (entry.size or 0)
      self.changes = self.changes + 1
    elseif entry.action == "remove" then
      self.changes = self.changes + 1
    end
  end
  self.hash = plan.hash(self)
  return self
end

local function sorted_entries(work)
  local list = json.array({})
  for _, entry in pairs(work.entries) do list[#list + 1] = entry end
  table.sort(list, function(a, b) return a.path < b.path end)
  return list
end

--- The components that both sides have to do with; one that the source does not ship at all is left
--- alone, never emptied.
local function split_components(ctx)
  local wanted = layout.components_for(ctx.layout, ctx.target)
  local files, message, code = git.files(ctx.source, nil, survey.froms(wanted))
  if not files then return nil, message, code end
  local shipped = {}
  for _, file in ipairs(files) do
    local _, component = layout.target_path(ctx.layout, file.path)
    if component then shipped[component.name] = true end
  end
  local active, skipped = {}, json.array({})
  for _, component in ipairs(wanted) do
    if shipped[component.name] or component.retired then
      active[#active + 1] = component
    elseif core.file.exists(ctx.target .. "/" .. component.to) then
      skipped[#skipped + 1] = component.name
    end
  end
  return active, skipped
end

--- Lets the base be inferred from the files here when nothing tells it.
local function infer(work)
  if work.known.manifest or work.known.tree then return true end
  local here = {}
  for path, state in pairs(work.here) do
    local source_path = layout.source_path(work.layout, path)
    local key, message, code = base.key_of(work.known, path, state)
    if not key then return nil, message, code end
    if source_path then here[source_path] = key end
  end
  local found, message, code = base.infer(work.known, here)
  if found == nil then return nil, message, code end
  return true
end

-- What the project made its own is not shipped here, whatever the source holds.
local function leave_out(work)
  for path in pairs(work.new) do
    if work.ownership(path) == "user" then work.new[path] = nil end
  end
end

local function gather(ctx, components)
  local work = { layout = ctx.layout, target = ctx.target, entries = {}, active = {}, twins = {},
    bases = {}, guessed = {}, tasks = {}, moves = {}, mode_for = mode_for,
    on_conflict = ctx.options and ctx.options.on_conflict or "stop",
    resolutions = ctx.options and ctx.options.resolutions or {},
    policy = glob.lookup(ctx.options and ctx.options.conflict_policy) }
  function work.component(path) return (layout.component_of(ctx.layout, path)) end
  function work.ownership(path) return layout.ownership_of(ctx.layout, path) end
  for _, component in ipairs(components) do work.active[component.name] = true end
  local message, code
  work.known, message, code = base.open(ctx)
  if not work.known then return nil, message, code end
  work.new, message, code = survey.source(ctx, components)
  if not work.new then return nil, message, code end
  leave_out(work)
  work.here, work.directories, code = survey.target(ctx, components)
  if not work.here then return nil, work.directories, code end
  local inferred
  inferred, message, code = infer(work)
  if not inferred then return nil, message, code end
  return work
end

local function warn_shallow(ctx, work)
  if work.known.shallow and not work.known.manifest and ctx.warn then
    ctx.warn(("the history of %s is cut off (a shallow clone): files of older versions may count "
      .. "as changed by you; `git fetch --unshallow` there helps"):format(ctx.source))
  end
end

--- Lets the driver that the user chose decide; nil: our own decisions stand.
local function drive(ctx, work)
  if not ctx.options or ctx.options.driver ~= safe_upgrade.NAME then return true end
  local facts, message, code = safe_upgrade.decide(ctx, work.entries, function(entry)
    return resolve(work, entry)
  end)
  if not facts then return nil, message, code end
  work.driven = facts
  return true
end

--- Builds the plan of an upgrade. Reads only, but for what a driver does on a copy of its own.
---@param ctx table source, target, layout? (recognised when nil), options.driver?,
--- options.on_conflict ("stop", "ask", "ours", "theirs") and options.resolutions? (path ->
--- { answer = "ours", "theirs" or "merged", id = of the conflict, content = of "merged" }), memory,
--- warn?
---@return table|nil plan
---@return string|nil message
---@return string|nil code
function plan.build(ctx)
  local place, message, code = temporary.place(ctx.target)
  if not place then return nil, message .. "; " .. temporary.ADVICE, code end
  if not ctx.layout then
    ctx.layout, message, code = layout.recognise_target(ctx.target)
    if ctx.layout then ctx.layout, message, code = extend.of(ctx, ctx.layout) end
    if not ctx.layout then return nil, message, code end
  end
  local components, skipped
  components, skipped, code = split_components(ctx)
  if not components then return nil, skipped, code end
  local work
  work, message, code = gather(ctx, components)
  if not work then return nil, message, code end
  warn_shallow(ctx, work)
  ctx.memory.known = work.known
  local steps = {
    decide_all, settle_types, function() return case_names.check(ctx, work) end,
    function() return renames.upstream(ctx, work) end, renames.of_layout, renames.here, note_tasks,
    function() return merging.run(ctx, work) end, resolve_all,
    function() return drive(ctx, work) end,
  }
  for _, step in ipairs(steps) do
    local done
    done, message, code = step(work)
    if not done then return nil, message, code end
  end
  local manifest = work.known.manifest
  local installed = work.known.version.version or manifest and manifest.version
  return summarise({
    format_version = plan.FORMAT_VERSION, layout = ctx.layout.name, entries = sorted_entries(work),
    source_commit = work.known.head, source_version = layout.source_version(ctx.source, ctx.layout)
      or work.known.head:sub(1, 12),
    installed_version = installed, installed_commit = work.known.commit,
    skipped_components = skipped, driver = work.driven and safe_upgrade.NAME or "built-in",
    driven = work.driven,
    policy = policy.of(ctx),
  })
end

return plan
