--- Reports: the four places where an upgrade is written down. A summary and a validation report
-- under .cache, INSTALLATION_SUMMARY.md and UPDATE_LOG.txt in the installation.
--
-- The two in .cache are written directly; they are not content. The other two go through the
-- transaction, so that a rollback takes them back; a session writes each once, however often a
-- phase is repeated after a resume. A dry run writes none of them.
--
-- The UpgradeReport itself is in report/model.lua, its markdown in report/markdown.lua, the commit
-- in report/commit.lua; all are reached from here.
local clock = require("praxlua.clock")
local json = require("praxlua.json")
local markdown = require("praxlua.report.markdown")
local model = require("praxlua.report.model")
local originals = require("praxlua.originals")
local text = require("praxlua.text")

local plain, code = markdown.plain, markdown.code

local report = {
  FORMAT_VERSION = model.FORMAT_VERSION,
  new = model.new, to_dict = model.to_dict, from_dict = model.from_dict,
  result = markdown.result, to_markdown = markdown.write,
  commit_changes = require("praxlua.report.commit").commit_changes,
}

-- ---------------------------------------------------------------------------------------------
-- Files in .cache

-- A name that is not taken, as absolute path and as path from the project.
local function free_name(ctx, base, ending)
  local file = require("praxlua.core").file
  local name, n = base .. ending, 1
  while file.exists(ctx.target .. "/.cache/" .. name) do
    n = n + 1
    name = string.format("%s-%d%s", base, n, ending)
  end
  return ctx.target .. "/.cache/" .. name, ctx.target_name .. "/.cache/" .. name
end

local function write_cache(ctx, base, ending, data)
  local file = require("praxlua.core").file
  local path, relative = free_name(ctx, base, ending)
  if ctx.options.dry_run then return relative end
  local ok, message, errno = file.mkdir(ctx.target .. "/.cache")
  if ok then ok, message, errno = file.write_atomic(path, data) end
  if not ok then return nil, "writing the report " .. relative .. ": " .. message, errno end
  return relative
end

-- The run's report with facts that the caller adds; ctx.report is the engine's.
local function report_of_run(ctx, given)
  if type(given) == "table" and given.session_id or not ctx.report then return given end
  return ctx.report(given or { success = true })
end

--- Writes the report for people: .cache/upgrade-summary-<YYYY-MM-DD-HHMMSS>.md.
---@param ctx table
---@param r table? UpgradeReport, or facts ({ success = boolean, ... }) about the run so far
---@return string|nil path relative to the project; in a dry run where it would be
---@return string? message
---@return string? code "ESCHEMA" | errno
function report.generate_upgrade_summary(ctx, r)
  local dict, message, errno = report.to_dict(report_of_run(ctx, r))
  if not dict then return nil, message, errno end
  local stamp = clock.stamp(clock.parse(dict.completed_at))
  return write_cache(ctx, "upgrade-summary-" .. stamp, ".md", report.to_markdown(dict))
end

-- Of the results of a validation.
local LISTS = { "tools", "expected_tools", "lost_tools", "calls", "log_errors" }

--- Writes what the validation found: .cache/upgrade-validation-<YYYY-MM-DD-HHMMSS>.json, with
--- format_version, session_id, workflow_type, created_at and results.
---@param ctx table
---@param results table whatever has a JSON form
---@return string|nil path relative to the project; in a dry run where it would be
---@return string? message
---@return string? code
function report.generate_validation_report(ctx, results)
  local now = clock.now()
  for _, name in ipairs(LISTS) do -- an empty list comes from a phase as an empty table
    if type(results[name]) == "table" then results[name] = json.array(results[name]) end
  end
  local encodes, encoded = pcall(json.encode, {
    format_version = report.FORMAT_VERSION,
    session_id = ctx.session.session_id,
    workflow_type = ctx.session.workflow_type,
    created_at = clock.iso(now),
    results = results,
  }, { pretty = true })
  if not encodes then return nil, "the validation report: " .. encoded, "EINVAL" end
  return write_cache(ctx, "upgrade-validation-" .. clock.stamp(now), ".json", encoded .. "\n")
end

-- ---------------------------------------------------------------------------------------------
-- Files of the installation

-- The present text of a file of the target and what change.put is to expect there.
local function present(ctx, path)
  local data = ctx.change.read(path)
  if not data then return "", false end
  if data ~= "" and data:sub(-1) ~= "\n" then
    return data .. "\n", require("praxlua.core").hash.sha256(data)
  end
  return data, require("praxlua.core").hash.sha256(data)
end

local function replace(ctx, path, data, old)
  local ok, message, errno = originals.note(ctx, path)
  if ok then ok, message, errno = ctx.change.put(path, { data = data }, { old = old }) end
  if ok or not message then ok, message, errno = ctx.change.apply() end
  if not ok then return nil, "writing " .. path .. ": " .. tostring(message), errno end
  return true
end

-- Label, and the names a count goes by: the report's own, and those of the evidence of phase 2.
local COUNTS = {
  { "Added", "added", "new_files" }, { "Updated", "updated", "updated_files" },
  { "Merged", "merged", "merged_files" }, { "Removed", "removed", "removed_files" },
  { "Kept", "kept", "local_only" }, { "Conflicts", "conflicts_resolved", "conflicts" },
}

-- A number of files, given as such or as the list of them.
local function counted(changes, count)
  local value = changes[count[2]] or changes[count[3]]
  if type(value) == "table" then return #value end
  return math.tointeger(value) or 0
end

-- "Added: 3, Updated: 12, Removed: 1, Kept: 4, Conflicts: 2"; merges only where there were any.
local function counts_line(changes)
  local parts = {}
  for _, count in ipairs(COUNTS) do
    local n = counted(changes, count)
    if n > 0 or count[1] ~= "Merged" then
      parts[#parts + 1] = string.format("%s: %d", count[1], n)
    end
  end
  return table.concat(parts, ", ")
end

-- What a caller left out, from the report of the run.
local function run_so_far(ctx) return ctx.report and ctx.report({ success = true }) or {} end

local function source_commit(ctx, given)
  local pre_flight = ctx.session.phase_artifacts and ctx.session.phase_artifacts["0"]
  return given or pre_flight and pre_flight.source_commit or "unknown"
end

local function describe_server(server)
  if type(server) == "string" then return plain(server) end
  return markdown.server(server)
end

local SUMMARY_HEAD = "# Installation summary\n"

local function summary_section(ctx, info, marker)
  local run = run_so_far(ctx)
  local changes = info.changes or run.changes or info
  local lines = { "\n## Upgrade " .. clock.log() .. " UTC\n\n" }
  local function fact(name, value)
    if value and value ~= "" then
      lines[#lines + 1] = string.format("- %s: %s\n", name, value)
    end
  end
  fact("From version", plain(info.from_version or run.from_version or "unknown"))
  fact("To version", plain(info.to_version or run.to_version or "unknown"))
  fact("Commit", code(source_commit(ctx, info.commit)))
  fact("Files", counts_line(changes))
  local backup = info.backup_path or run.backup_path
  fact("Backup", backup and code(backup))
  fact("Server", describe_server(info.server or run.server))
  fact("Report", info.upgrade_summary and code(info.upgrade_summary))
  lines[#lines + 1] = marker
  return table.concat(lines)
end

--- Appends a section "## Upgrade <date>" to INSTALLATION_SUMMARY.md, making the file when there is
--- none. Once a session.
---@param ctx table
---@param info { from_version: string?, to_version: string?, commit: string?, changes: table?,
---  backup_path: string?, server: string|table|nil, upgrade_summary: string? }? changes: counts
---  or lists by added, updated, merged, removed, kept, conflicts; what is left out comes from the
---  report of the run
---@return boolean|nil written false in a dry run
---@return string? message
---@return string? code "ECHANGED" when the file changed at the same moment | errno
function report.update_installation_summary(ctx, info)
  if ctx.options.dry_run then return false end
  local path = ctx.target_name .. "/INSTALLATION_SUMMARY.md"
  local data, old = present(ctx, path)
  local marker = "- Session: " .. code(ctx.session.session_id) .. "\n"
  if data:find(marker, 1, true) then return true end
  if data == "" then data = SUMMARY_HEAD end
  return replace(ctx, path, data .. summary_section(ctx, info or {}, marker), old)
end

-- A value as one field of a log line.
local function log_field(value)
  return text.trim((text.visible(value):gsub("|", "/")))
end

-- Where this session's line is, if it has one: a line for the same version and commit that was
-- written since the session began.
local function find_line(ctx, data, start)
  local began = ctx.session.started_at and clock.parse(ctx.session.started_at)
  for from, line, after in data:gmatch("()([^\n]*)\n()") do
    local day, hour, rest = line:match("^(%d%d%d%d%-%d%d%-%d%d) (%d%d:%d%d:%d%d) (.*)$")
    local at = day and clock.parse(day .. "T" .. hour .. "Z")
    if began and at and at >= began and rest:sub(1, #start) == start then
      return from, after, day .. " " .. hour
    end
  end
end

--- Appends a line to UPDATE_LOG.txt (times are UTC). A session has one line: a later call of the
--- same session brings its counts up to date.
--- "2025-10-07 14:30:22 | v1.3.0 | abc123 | Added: 3, Updated: 12, Removed: 1, Kept: 4,
--- Conflicts: 2"
---@param ctx table
---@param version string? the version upgraded to; from the report of the run when nil
---@param changes { commit: string?, added: integer|table?, updated: integer|table?,
---  merged: integer|table?, removed: integer|table?, kept: integer|table?,
---  conflicts: integer|table? }? counts or lists; the names new_files, updated_files,
---  removed_files, local_only and conflicts_resolved will do as well
---@return boolean|nil written false in a dry run
---@return string? message
---@return string? code "ECHANGED" when the file changed at the same moment | errno
function report.append_to_update_log(ctx, version, changes)
  if ctx.options.dry_run then return false end
  local path = ctx.target_name .. "/UPDATE_LOG.txt"
  local data, old = present(ctx, path)
  version = version or run_so_far(ctx).to_version or "unknown"
  changes = changes or run_so_far(ctx).changes or {}
  local commit = log_field(source_commit(ctx, changes.commit)):sub(1, 12)
  local name = log_field(version):gsub("^[vV]", "")
  local start = string.format("| v%s | %s | ", name, commit)
  local from, after, written_at = find_line(ctx, data, start)
  local line = (written_at or clock.log()) .. " " .. start .. counts_line(changes) .. "\n"
  if not from then return replace(ctx, path, data .. line, old) end
  if data:sub(from, after - 1) == line then return true end
  return replace(ctx, path, data:sub(1, from - 1) .. line .. data:sub(after), old)
end

return report
