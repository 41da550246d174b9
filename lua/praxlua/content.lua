--- Upgrading the content: carrying out the plan through the open transaction, and keeping the
-- target's own records (VERSION.txt, .installed-manifest.json, the project's .gitignore) in step.
--
-- Nothing here writes by itself: every change is queued on ctx.change, so a rollback undoes it.
local core = require("praxlua.core")
local entries = require("praxlua.entries")
local extend = require("praxlua.project_file.extend")
local gitignore = require("praxlua.gitignore")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local plan = require("praxlua.plan")
local records = require("praxlua.records")
local staged_code = require("praxlua.staged_code")

local content = {}

--- The plan of this run: built once, then remembered (the engine keeps it across a resume).
---@param ctx table
---@return table|nil plan
---@return string|nil message
---@return string|nil code
function content.plan(ctx)
  if not ctx.memory.plan then
    local built, message, code = plan.build(ctx)
    if not built then return nil, message, code end
    ctx.memory.plan = built
  end
  if not ctx.layout then
    local message, code
    ctx.layout, message, code = extend.of(ctx, layout.by_name(ctx.memory.plan.layout))
    if message then return nil, message, code end
  end
  return ctx.memory.plan
end

-- ---- preview --------------------------------------------------------------------------------

local LISTED = { "add", "update", "merge", "remove", "conflict", "keep", "adopt" }

--- What an upgrade would do, for people and for a dry run.
---@param ctx table
---@return table|nil preview the plan's counts, `changes` (files written or removed), `bytes`,
--- `hash`, versions, `lists` (action -> array of { path, reason, resolved? }), `gitignore`
--- (missing lines) and `nothing_to_do`
---@return string|nil message
---@return string|nil code
function content.preview(ctx)
  local planned, message, code = content.plan(ctx)
  if not planned then return nil, message, code end
  local lists = {}
  for _, action in ipairs(LISTED) do lists[action] = json.array({}) end
  for _, entry in ipairs(planned.entries) do
    local list = lists[entry.action]
    if list then
      list[#list + 1] = { path = entry.path, reason = entry.reason, resolved = entry.resolved }
    end
  end
  local missing = gitignore.missing(ctx)
  local preview = {
    lists = lists, changes = planned.changes, bytes = planned.bytes, hash = planned.hash,
    source_version = planned.source_version, source_commit = planned.source_commit,
    installed_version = planned.installed_version, gitignore = json.array(missing or {}),
    skipped_components = planned.skipped_components, driver = planned.driver or "built-in",
  }
  for name, count in pairs(planned.counts) do preview[name] = count end
  preview.nothing_to_do = planned.changes == 0 and planned.counts.conflicts == 0
    and #preview.gitignore == 0 and records.is_current(ctx, planned)
  return preview
end

-- ---- carrying it out ------------------------------------------------------------------------

local function of_scope(ctx, scope)
  local names = {}
  for _, component in ipairs(ctx.layout.components) do
    if component.scope == scope then names[#names + 1] = component.name end
  end
  return names
end

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

local function project_path(ctx, path)
  return ctx.target_name .. "/" .. path
end

--- What stands at a target path, as a plan names it: a hash, "link:TARGET", another type, or nil.
local function present(ctx, path)
  local full = ctx.target .. "/" .. path
  local stat, message, code = core.file.stat(full)
  if not stat then
    if code == "ENOENT" or code == "ENOTDIR" then return nil, nil end
    return nil, nil, message, code
  end
  if stat.type == "link" then return "link:" .. stat.target, stat end
  if stat.type ~= "file" then return stat.type, stat end
  local hex, size, why = core.hash.file(full)
  if not hex then return nil, nil, size, why end
  return hex, stat
end

local function changed_meanwhile(ctx, path)
  return nil, ("%s/%s is no longer as it was when the plan was made; look at it, and run the "
    .. "upgrade again"):format(ctx.target, path), "ECHANGED"
end

-- Whether somebody gave a file another permission since the plan; `wanted`: what we give it.
local function has_other_mode(entry, stat, wanted)
  return entry.local_mode ~= nil and stat ~= nil and stat.type == "file"
    and stat.mode ~= entry.local_mode and stat.mode ~= wanted
end

local function queue_remove(ctx, entry)
  local now, stat, message, code = present(ctx, entry.path)
  if message then return nil, message, code end
  if now == nil then return true end -- done before a resume
  if now ~= entry["local"] or has_other_mode(entry, stat) then
    return changed_meanwhile(ctx, entry.path)
  end
  return ctx.change.remove(project_path(ctx, entry.path), { old = entry["local"] })
end

local function queue_write(ctx, entry)
  local now, stat, message, code = present(ctx, entry.path)
  if message then return nil, message, code end
  local wanted = entries.result_of(entry)
  if now == wanted and (not entry.mode or stat.mode == entry.mode) then return true end
  local expected = entry["local"] or false
  if (now or false) ~= expected and now ~= wanted or has_other_mode(entry, stat, entry.mode) then
    return changed_meanwhile(ctx, entry.path)
  end
  local path, old = ctx.target_name .. "/" .. entry.path, now or false
  local target = wanted:match("^link:(.*)$")
  if target then return ctx.change.symlink(path, target, { old = old }) end
  local bytes = entry.content and { data = entry.content }
    or { from = ctx.source .. "/" .. entry.source }
  return ctx.change.put(path, bytes, { mode = entry.mode, sha256 = wanted, old = old })
end

local function parents(path, visit)
  local at = path:match("^(.*)/[^/]*$")
  while at do
    visit(at)
    at = at:match("^(.*)/[^/]*$")
  end
end

--- The directories that our removals may leave empty, deepest first. Those in which something is
--- left or will be written are not among them.
local function emptied(ctx, planned, selected)
  local occupied, empty = {}, {}
  for _, entry in ipairs(planned.entries) do
    if entry.action ~= "remove" and (entry["local"] or entries.writes(entry)) then
      parents(entry.path, function(at) occupied[at] = true end)
    end
  end
  for _, component in ipairs(ctx.layout.components) do
    occupied[component.to] = true
    parents(component.to, function(at) occupied[at] = true end)
  end
  local list = {}
  local function note(at)
    if not occupied[at] and not empty[at] then
      empty[at] = true
      list[#list + 1] = at
    end
  end
  for _, entry in ipairs(selected) do
    if entry.action == "remove" then parents(entry.path, note) end
    if entry.replaces then
      for _, inside in ipairs(core.tree.list(ctx.target .. "/" .. entry.path) or {}) do
        if inside.type == "directory" then note(entry.path .. "/" .. inside.path) end
      end
      note(entry.path)
    end
  end
  table.sort(list, function(a, b) return #a ~= #b and #a > #b or #a == #b and a < b end)
  return list
end

--- Whether something is written where something else must be gone first.
local function needs_room(selected, directories)
  local leaving = set_of(directories)
  for _, entry in ipairs(selected) do
    if entry.action == "remove" then leaving[entry.path] = true end
  end
  for _, entry in ipairs(selected) do
    if entries.writes(entry) then
      local blocked = leaving[entry.path]
      parents(entry.path, function(at) blocked = blocked or leaving[at] end)
      if blocked then return true end
    end
  end
  return false
end

local function queue_removals(ctx, planned, selected)
  for _, entry in ipairs(selected) do
    if entry.action == "remove" then
      local queued, message, code = queue_remove(ctx, entry)
      if not queued then return nil, message, code end
    end
  end
  local directories = emptied(ctx, planned, selected)
  for _, path in ipairs(directories) do
    local stat = core.file.stat(ctx.target .. "/" .. path)
    if stat and stat.type == "directory" then
      local queued, message, code = ctx.change.rmdir(project_path(ctx, path))
      if not queued then return nil, message, code end
    end
  end
  if needs_room(selected, directories) then return ctx.change.apply() end
  return true
end

local function queue_writes(ctx, selected)
  local done = 0
  for i, entry in ipairs(selected) do
    if entries.writes(entry) then
      local queued, message, code = queue_write(ctx, entry)
      if not queued then return nil, message, code end
      done = done + 1
      if ctx.progress and done % 64 == 0 then
        ctx.progress(("%d files staged"):format(done), i / #selected)
      end
    end
  end
  return true
end

--- Reads back what was written and what was removed.
local function verify(ctx, selected)
  for _, entry in ipairs(selected) do
    local expected = entries.writes(entry) and entries.result_of(entry) or nil
    if expected or entry.action == "remove" then
      local now, stat, message, code = present(ctx, entry.path)
      if message then return nil, message, code end
      if now ~= expected and not (now == "directory" and not expected)
        or expected and entry.mode and stat.mode ~= entry.mode then
        return nil, ("%s/%s does not hold what was written: the disk or another program changed "
          .. "it; the upgrade is to be rolled back"):format(ctx.target, entry.path), "EVERIFY"
      end
    end
  end
  return true
end

local function select_entries(planned, components)
  local selected = {}
  for _, entry in ipairs(planned.entries) do
    if components[entry.component] then selected[#selected + 1] = entry end
  end
  return selected
end

local function report(planned, selected)
  local result = entries.counts(selected)
  result.conflicts_resolved, result.user_prompts = 0, planned.user_prompts or 0
  result.bytes_written, result.verified = 0, true
  result.version, result.commit = planned.source_version, planned.source_commit
  result.plan_hash = planned.hash
  for _, entry in ipairs(selected) do
    if entries.writes(entry) then
      result.bytes_written = result.bytes_written + (entry.size or 0)
    end
    if entry.resolved then result.conflicts_resolved = result.conflicts_resolved + 1 end
  end
  result.files_written = result.new_files + result.updated_files + result.merged_files
  return result
end

local function refuse_conflicts(planned)
  for _, entry in ipairs(planned.entries) do
    if entry.action == "conflict" then
      return nil, ("%d in conflict, the first is %s (%s); decide with "
        .. "--on-conflict"):format(planned.counts.conflicts, entry.path, entry.reason), "ECONFLICT"
    end
  end
  return true
end

local function upgrade(ctx, components, with_version)
  local planned, message, code = content.plan(ctx)
  if not planned then return nil, message, code end
  local done
  done, message, code = refuse_conflicts(planned)
  if not done then return nil, message, code end
  local selected = select_entries(planned, components)
  local steps = {
    function() return queue_removals(ctx, planned, selected) end,
    function() return queue_writes(ctx, selected) end,
    function() return records.queue(ctx, planned, components, with_version) end,
    function() return ctx.change.apply() end,
    function() return verify(ctx, selected) end,
  }
  for _, step in ipairs(steps) do
    done, message, code = step()
    if not done then return nil, message, code end
  end
  return report(planned, selected)
end

--- Applies the plan to the content components, verifies it, and brings VERSION.txt and the record
--- of what was shipped up to date. Nothing is applied while there is a conflict.
---@param ctx table with an open ctx.change
---@param options? { components: string[]? } names; those of phase 2 when nil
---@return table|nil report counts as in the plan for these components, files_written,
--- bytes_written, conflicts_resolved, user_prompts, verified, version, commit, plan_hash
---@return string|nil message
---@return string|nil code ECONFLICT, ECHANGED (a file changed since the plan), EVERIFY
function content.upgrade(ctx, options)
  local planned, message, code = content.plan(ctx)
  if not planned then return nil, message, code end
  for _, name in ipairs(options and options.components or {}) do
    local known
    known, message, code = layout.check_component(ctx.layout, name)
    if not known then return nil, message, code end
  end
  return upgrade(ctx, set_of(options and options.components or of_scope(ctx, "content")), true)
end

--- Stages the server's code beside the installation, as it will be after upgrade_server_code: with
--- it a new server is proven before anything of the old one changes.
---@param ctx table with an open ctx.change
---@return { path: string, requirements: string }|nil staged requirements: of the server, in the
---  target or in `path`
---@return string|nil message
---@return string|nil code ECONFLICT, ECHANGED (the source changed since the plan)
function content.stage_server_code(ctx)
  local planned, message, code = content.plan(ctx)
  local done = planned
  if done then done, message, code = refuse_conflicts(planned) end
  local path
  if done then path, message, code = staged_code.make(ctx, planned) end
  if not path then return nil, message, code end
  local requirements = ctx.layout.server.requirements
  local is_there = core.file.exists(path .. "/" .. requirements)
  return { path = path, requirements = is_there and requirements or nil }
end

--- The same for the server's code and the scripts beside it, and compares them with the source.
---@param ctx table with an open ctx.change
---@return table|nil report as content.upgrade, and `checksums` (validation.verify_checksums)
---@return string|nil message
---@return string|nil code
function content.upgrade_server_code(ctx)
  local planned, message, code = content.plan(ctx)
  if not planned then return nil, message, code end
  local names = of_scope(ctx, "server")
  local result
  result, message, code = upgrade(ctx, set_of(names), false)
  if not result then return nil, message, code end
  result.checksums = {}
  for _, name in ipairs(names) do
    local check
    check, message, code = require("praxlua.validation").verify_checksums(ctx, name)
    if not check then return nil, message, code end
    if not check.verified then return nil, check.problem, "EVERIFY" end
    result.checksums[name] = check
  end
  result.requirements = ctx.layout.server.requirements
  return result
end

--- Adds what the project's .gitignore is missing.
---@param ctx table with an open ctx.change (without one nothing is written, only reported)
---@return { added: string[], created: boolean, path: string }|nil report
---@return string|nil message
---@return string|nil code
function content.gitignore(ctx)
  return gitignore.update(ctx)
end

return content
