--- Phase 5: the upgrade is written down, old backups go, the lock's text is removed.
local phase = {
  id = "cleanup-documentation",
  title = "Clean-up and documentation",
  grants = { services = { "report", "backup", "lock" } },
  limits = { wall = 3600 },
}

local function server_line(validation)
  if not validation.tools_registered then return "not asked" end
  return string.format("%s, %d tools", validation.server_version or "version not reported",
    validation.tools_registered)
end

function phase.run(host)
  local pre_flight, backup = host.artifacts["0"], host.artifacts["1"]
  local content, validation = host.artifacts["2"], host.artifacts["4"]
  local preview = content.dry_run_preview
  local changes = {
    commit = pre_flight.source_commit, added = preview.new_files, updated = preview.updated_files,
    merged = preview.merged_files, removed = preview.removed_files, kept = preview.local_only,
    conflicts = preview.conflicts,
  }
  local summary = need(host.report.generate_upgrade_summary())
  local noted = need(host.report.update_installation_summary({
    from_version = host.options.from_version, to_version = pre_flight.source_version,
    commit = pre_flight.source_commit, changes = changes, backup_path = backup.backup_path,
    server = server_line(validation), upgrade_summary = summary,
  }))
  local logged = need(host.report.append_to_update_log(content.version_updated, changes))
  local committed = host.report.commit_changes()
  local pruned = need(host.backup.archive_old_backups(host.options.keep_backups))
  for _, broken in ipairs(pruned.broken or {}) do
    host.warn(string.format("the backup %s is damaged and was left alone: %s", broken.name,
      broken.problem))
  end
  return {
    lock_released = need(host.lock.release()),
    old_backups_archived = pruned.archived_count,
    upgrade_summary = summary,
    installation_summary_updated = noted,
    update_log_appended = logged,
    git_changes_committed = committed,
  }
end

return phase
