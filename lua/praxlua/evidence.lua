--- What each built-in phase hands back: six closed models (specs.md 3.2, every field), and the
--- checkpoints: what must hold in them before the next phase may begin.
--
-- A model says which fields there are and of which type; a checkpoint says which values let the
-- upgrade go on. A check that did not run is null with a reason beside it; a checkpoint says where
-- that will do. A custom phase brings its model as data (evidence.custom) and has no checkpoint
-- but the model.
local json = require("praxlua.json")
local schema = require("praxlua.schema")
local text = require("praxlua.text")

local evidence = {}

local integer, boolean, object = schema.integer, schema.boolean, schema.object
local array, nullable, optional = schema.array, schema.nullable, schema.optional

local count = integer({ min = 0 })
local filled = schema.string({ min_length = 1 })
local test_result = schema.string({ one_of = { "passed", "failed" } })
local instant = schema.string({ pattern = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d.*Z$" })

--- The model of each phase, by its number.
---@type table<integer, table>
evidence.models = {
  [0] = object({
    source_path = filled,
    source_version = filled,
    source_commit = schema.string({ pattern = "^%x+$" }),
    source_git_clean = boolean(),
    target_exists = boolean(),
    target_structure_valid = boolean(),
    disk_space_available = filled, -- for people: "2.5 GB"
    disk_space_required = filled,
    no_concurrent_workflows = boolean(),
  }),
  object({
    backup_path = filled,
    backup_timestamp = instant,
    files_backed_up = count,
    backup_size_bytes = count,
    backup_manifest = filled,
    integrity_verified = boolean(),
    lock_acquired = boolean(),
  }),
  object({
    safe_upgrade_executed = boolean(),
    dry_run_preview = object({
      new_files = count, updated_files = count, merged_files = count, unchanged_files = count,
      removed_files = count, conflicts = count, local_only = count,
    }),
    actual_upgrade = object({
      new_files = count, updated_files = count, merged_files = count, removed_files = count,
      conflicts_resolved = count, user_prompts = count,
    }),
    version_updated = filled,
    update_log_appended = boolean(),
  }),
  object({
    mcp_server_copied = boolean(),
    files_copied = count,
    checksums_verified = boolean(),
    dependencies_installed = nullable(boolean()),
    post_install_steps = array(object({
      command = filled,
      status = schema.string({ one_of = { "success", "failed", "skipped" } }),
      output = schema.string(),
      seconds = schema.number({ min = 0 }),
      size_downloaded = optional(schema.string()),
    })),
    server_proven = optional(nullable(boolean())),
    server_restarted = boolean(),
    server_restart_time = nullable(instant),
    server_health_check = nullable(test_result),
  }),
  object({
    server_version = nullable(filled),
    tools_registered = count,
    expected_tools = count,
    browser_tools_enabled = nullable(boolean()),
    browser_smoke_test = nullable(test_result),
    rag_search_test = nullable(test_result),
    workflow_engine_test = nullable(test_result),
    file_watchers_active = nullable(boolean()),
    rag_index_current = nullable(boolean()),
    unit_tests_passed = nullable(boolean()),
    validation_report = filled,
    server_log_errors = optional(count),
    lost_tools = optional(array(schema.string())),
    smoke_calls = optional(array(object({
      name = filled,
      status = schema.string({ one_of = { "passed", "failed", "skipped" } }),
      seconds = schema.number({ min = 0 }),
      detail = optional(schema.string()),
    }))),
  }),
  object({
    lock_released = boolean(),
    old_backups_archived = count,
    upgrade_summary = schema.string(),
    installation_summary_updated = boolean(),
    update_log_appended = boolean(),
    git_changes_committed = boolean(),
  }),
}

-- The models of a dry run, where they differ: no server is asked there.
local foretold = {}
do
  local fields = {}
  for name, of in pairs(evidence.models[4].fields) do fields[name] = of end
  fields.tools_registered = nullable(count)
  foretold[4] = object(fields)
end

--- The values a checkpoint demands, as data: field, the value it must have, and what it means for
--- the user when it has not. What depends on more than one field is in the functions below.
---@type table<integer, { field: string, equals: any, otherwise: string }[]>
evidence.required = {
  [0] = {
    { field = "source_git_clean", equals = true,
      otherwise = "the source has uncommitted changes; commit or stash them first" },
    { field = "target_exists", equals = true,
      otherwise = "there is no installation to upgrade at the target" },
    { field = "target_structure_valid", equals = true,
      otherwise = "the target is not laid out like an installation we know" },
    { field = "no_concurrent_workflows", equals = true,
      otherwise = "another upgrade of this target is under way" },
  },
  {
    { field = "integrity_verified", equals = true,
      otherwise = "the backup could not be read back as it was written; nothing was changed" },
    { field = "lock_acquired", equals = true,
      otherwise = "the upgrade lock is not held; nothing was changed" },
  },
  {
    { field = "safe_upgrade_executed", equals = true,
      otherwise = "the content was not upgraded" },
    { field = "update_log_appended", equals = true,
      otherwise = "the upgrade is not recorded in UPDATE_LOG.txt" },
  },
  {
    { field = "mcp_server_copied", equals = true,
      otherwise = "the server's new code is not in place" },
    { field = "checksums_verified", equals = true,
      otherwise = "the server's code differs from the source's" },
  },
  {},
  {
    { field = "lock_released", equals = true,
      otherwise = "the upgrade lock is still in place" },
    { field = "installation_summary_updated", equals = true,
      otherwise = "INSTALLATION_SUMMARY.md does not tell of this upgrade" },
    { field = "update_log_appended", equals = true,
      otherwise = "the upgrade is not recorded in UPDATE_LOG.txt" },
  },
}

-- ---------------------------------------------------------------------------------------------

local function is_null(value) return value == nil or value == json.null end

local function listed(names) return table.concat(names, ", ") end

-- What the data above cannot say, a function a phase: (evidence, whether it is of a dry run) -> nil
-- | field, meaning.
local further = {}

further[1] = function(e)
  if e.files_backed_up == 0 then
    return "files_backed_up", "the backup is empty; nothing was changed"
  end
end

further[2] = function(e)
  local open = e.dry_run_preview.conflicts - e.actual_upgrade.conflicts_resolved
  if open > 0 then
    return "actual_upgrade.conflicts_resolved",
      string.format("%d of %d conflicts are not resolved", open, e.dry_run_preview.conflicts)
  end
end

-- Why a field may be null in a dry run, and only there.
local DRY_RUN = "dry_run"

local function check_dependencies(e, dry)
  local installed = e.dependencies_installed
  if installed == false then
    return "dependencies_installed", "the server's Python packages could not be installed"
  end
  local reason = e.dependencies_installed_reason
  if is_null(installed) and reason ~= "no_requirements" and not (dry and reason == DRY_RUN) then
    return "dependencies_installed",
      "nobody knows whether the server's Python packages are there (only a source without "
      .. "requirements may leave this open)"
  end
end

local function check_post_install(e)
  for _, step in ipairs(e.post_install_steps) do
    if step.status == "failed" then
      return "post_install_steps", "a step after the installation failed: " .. step.command
    end
  end
end

-- A phase 3 of a project's own may do without the proof; then the restart alone tells.
local function check_proof(e, dry)
  if e.server_proven == false or is_null(e.server_proven) and e.server_proven_reason ~= nil
    and not (dry and e.server_proven_reason == DRY_RUN) then
    return "server_proven", "the new server was not proven before the old one was stopped"
  end
end

local function check_health(e)
  if e.server_health_check == "failed" then
    return "server_health_check", "the upgraded server does not answer as it should"
  end
  if is_null(e.server_health_check) and e.server_restarted then
    return "server_health_check", "the server was restarted but never asked whether it works"
  end
  if e.server_restarted and is_null(e.server_restart_time) then
    return "server_restart_time", "the server was restarted but nobody knows when"
  end
end

-- The first complaint of several functions.
local function first(e, dry, ...)
  for _, rule in ipairs({ ... }) do
    local field, meaning = rule(e, dry)
    if field then return field, meaning end
  end
end

further[3] = function(e, dry)
  return first(e, dry, check_dependencies, check_post_install, check_proof, check_health)
end

local TESTS = {
  { "browser_smoke_test", "the browser tools do not work" },
  { "rag_search_test", "the search does not work" },
  { "workflow_engine_test", "the workflow engine does not work" },
}

local function check_tests(e)
  for _, test in ipairs(TESTS) do
    if e[test[1]] == "failed" then return test[1], test[2] end
  end
  if e.unit_tests_passed == false then
    return "unit_tests_passed", "the tests fail that --run-tests runs"
  end
  for _, call in ipairs(e.smoke_calls or {}) do
    if call.status == "failed" then
      return "smoke_calls", "the server's tool " .. call.name .. " fails"
    end
  end
end

local function check_index(e)
  if e.rag_index_current == false then
    return "rag_index_current",
      "the server reports that its search index is stale; rebuild it, then upgrade again"
  end
end

local function check_tools(e)
  if e.lost_tools and #e.lost_tools > 0 then
    return "lost_tools", "the upgraded server no longer offers: " .. listed(e.lost_tools)
  end
  if is_null(e.tools_registered) then return nil end -- only the model of a dry run lets it be
  if e.tools_registered < e.expected_tools then
    return "tools_registered", string.format(
      "the upgraded server offers %d tools where %d are expected",
      e.tools_registered, e.expected_tools)
  end
end

further[4] = function(e, dry) return first(e, dry, check_tools, check_tests, check_index) end

further[5] = function(e)
  if e.upgrade_summary == "" then
    return "upgrade_summary", "there is no report of this upgrade"
  end
end

-- ---------------------------------------------------------------------------------------------

-- What a phase did, in one line.
local SUMMARIES = {
  [0] = function(e)
    return string.format("source %s at %s; %s needed, %s free", e.source_version,
      e.source_commit:sub(1, 12), e.disk_space_required, e.disk_space_available)
  end,
  function(e)
    return string.format("%s backed up, %s", text.plural(e.files_backed_up, "file"),
      text.bytes(e.backup_size_bytes))
  end,
  function(e)
    local done = e.actual_upgrade
    return string.format("%d new, %d updated, %d merged, %d removed, %d conflicts resolved",
      done.new_files, done.updated_files, done.merged_files, done.removed_files,
      done.conflicts_resolved)
  end,
  function(e)
    local health = e.server_health_check
    local packages = e.dependencies_installed == true and "packages installed"
      or e.dependencies_installed_reason == DRY_RUN and "packages not installed"
      or "no packages to install"
    return string.format("%s of the server; %s, %s", text.plural(e.files_copied, "file"), packages,
      is_null(health) and "server not asked" or "server check " .. health)
  end,
  function(e)
    if is_null(e.tools_registered) then return "server not asked" end
    return string.format("%d tools, %d expected; search %s", e.tools_registered, e.expected_tools,
      is_null(e.rag_search_test) and "not tested" or e.rag_search_test)
  end,
  function(e, dry)
    local removed = text.plural(e.old_backups_archived, "old backup") .. " removed"
    return dry and removed or removed .. "; report " .. e.upgrade_summary
  end,
}

-- The evidence of a custom phase: its fields by name, tables as what they are.
local function field_list(found)
  local names, parts = {}, {}
  for name in pairs(found) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = found[name]
    if value == json.null then value = "null" end
    if type(value) == "table" then
      value = #value > 0 and text.plural(#value, "entry", "entries") or "a table"
    end
    parts[i] = name:gsub("_", " ") .. ": " .. text.shorten(text.visible(tostring(value)), 40)
  end
  return #parts > 0 and text.shorten(table.concat(parts, ", "), 120) or nil
end

--- What a phase did, in one line for people.
---@param phase integer|table|nil a built-in phase's number; anything else: a custom one
---@param found table evidence that meets the model
---@param dry boolean? of a dry run
---@return string|nil summary nil when there is nothing to tell
function evidence.summary(phase, found, dry)
  if math.type(phase) ~= "integer" then return field_list(found) end
  if not SUMMARIES[phase] or not evidence.check(phase, found, dry) then return nil end
  return SUMMARIES[phase](found, dry)
end

local function model_of(phase, dry)
  if type(phase) == "table" then return phase end
  return dry and foretold[phase] or evidence.models[phase]
    or error("evidence: no built-in phase " .. tostring(phase), 3)
end

--- Checks evidence against its model: every field there, of its type, and no other.
---@param phase integer|table a built-in phase's number, or a model from evidence.custom
---@param found any
---@param dry boolean? of a dry run, in which no server is asked
---@return true|nil
---@return string? message names the field
---@return string? code "ESCHEMA"
function evidence.check(phase, found, dry)
  local name = type(phase) == "table" and "evidence" or "evidence of phase " .. tostring(phase)
  local ok, message, code = schema.check(model_of(phase, dry), found)
  if not ok then return nil, name .. ": " .. message, code end
  return true
end

--- Whether the upgrade may go on from a phase: the model is met and every demanded value is there.
---@param phase integer|table as in evidence.check; a custom model demands nothing more
---@param found any
---@param dry boolean? of a dry run: what it does not do may be null for the reason "dry_run"
---@return true|nil
---@return string? message names the field and what it means for the user
---@return string? code "ESCHEMA" | "ECHECKPOINT"
function evidence.checkpoint(phase, found, dry)
  local ok, message, code = evidence.check(phase, found, dry)
  if not ok then return nil, message, code end
  if type(phase) == "table" then return true end
  for _, demand in ipairs(evidence.required[phase]) do
    if found[demand.field] ~= demand.equals then
      return nil, string.format("checkpoint of phase %d: %s is %s: %s", phase, demand.field,
        tostring(found[demand.field]), demand.otherwise), "ECHECKPOINT"
    end
  end
  local field, meaning = (further[phase] or function() end)(found, dry)
  if field then
    return nil, string.format("checkpoint of phase %d: %s: %s", phase, field, meaning),
      "ECHECKPOINT"
  end
  return true
end

--- The fields of a custom model that the host fills from its receipts.
---@param model table from evidence.custom
---@return table<string, { kind: "receipts"|"answer", verb: string, field: string? }>
function evidence.attested(model)
  local found = {}
  for name, field in pairs(model.fields) do
    if schema.is_attested(field) then found[name] = field end
  end
  return found
end

--- The model of a custom phase, from the `evidence` table of its script: field to schema.
---@param fields any data that came from the phase; nil: the phase returns no evidence
---@return table|nil model for evidence.check
---@return string? message
---@return string? code "ESCHEMA"
function evidence.custom(fields)
  local model = object(fields == nil and {} or fields)
  local ok, message, code = schema.valid(model, "evidence")
  if not ok then return nil, message, code end
  return model
end

-- A copy of a value with nulls written out and arrays marked, as its schema says.
local function copied(s, value)
  if value == nil or value == json.null then return value end
  local kind = s.kind
  if kind == "optional" or kind == "nullable" then return copied(s.of, value) end
  if type(value) ~= "table" then return value end
  local copy = {}
  if kind == "object" then
    for key, of in pairs(value) do
      local field = s.fields[key]
      copy[key] = field and copied(field, of) or of
    end
    for name, field in pairs(s.fields) do
      local is_null_there = field.kind == "nullable" or field.kind == "answer"
      if is_null_there and copy[name] == nil then copy[name] = json.null end
    end
    return copy
  end
  if kind == "array" then json.array(copy) end
  for key, of in pairs(value) do copy[key] = s.of and copied(s.of, of) or of end
  return copy
end

--- Evidence as a table for json.encode: a copy with nulls written out and arrays marked.
---@param phase integer|table
---@param found table
---@param dry boolean? of a dry run
---@return table|nil
---@return string? message
---@return string? code "ESCHEMA"
function evidence.to_dict(phase, found, dry)
  local ok, message, code = evidence.check(phase, found, dry)
  if not ok then return nil, message, code end
  return copied(model_of(phase, dry), found)
end

--- The inverse: evidence from a decoded JSON table, checked.
---@param phase integer|table
---@param dict table
---@return table|nil
---@return string? message
---@return string? code "ESCHEMA"
function evidence.from_dict(phase, dict)
  return evidence.to_dict(phase, dict)
end

return evidence
