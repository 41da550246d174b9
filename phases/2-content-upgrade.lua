--- Phase 2: standards, workflows and usage: what was planned is applied, verified and written down.
local phase = {
  id = "content-upgrade",
  title = "Content upgrade",
  grants = { services = { "content", "report" } },
  limits = { wall = 4 * 3600 },
}

local function counts(from, names)
  local picked = {}
  for _, name in ipairs(names) do picked[name] = from[name] end
  return picked
end

function phase.run(host)
  local preview = need(host.content.preview())
  host.progress("applying the plan")
  local done = need(host.content.upgrade())
  need(host.content.gitignore())
  -- The preview's counts are of everything; those of the server's code are applied in phase 3.
  local logged = need(host.report.append_to_update_log(done.version, {
    commit = done.commit, added = preview.new_files, updated = preview.updated_files,
    merged = preview.merged_files, removed = preview.removed_files, kept = preview.local_only,
    conflicts = preview.conflicts,
  }))
  return {
    safe_upgrade_executed = done.verified,
    dry_run_preview = counts(preview, {
      "new_files", "updated_files", "merged_files", "unchanged_files", "removed_files",
      "conflicts", "local_only",
    }),
    actual_upgrade = counts(done, {
      "new_files", "updated_files", "merged_files", "removed_files", "conflicts_resolved",
      "user_prompts",
    }),
    version_updated = done.version,
    update_log_appended = logged,
  }
end

return phase
