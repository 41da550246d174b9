--- Phase 1: the safety net. The lock's text is written, the backup is made, compared with the live
-- files and read back; only then may anything be changed.
local phase = {
  id = "backup-preparation",
  title = "Backup and preparation",
  grants = { services = { "backup", "lock" } },
  limits = { wall = 4 * 3600 },
}

function phase.run(host)
  local lock_acquired = need(host.lock.acquire())
  host.progress("backing up")
  local backup = need(host.backup.create_backup())
  host.progress("reading the backup back")
  local name = backup.backup_path:match("([^/]+)/?$")
  local verified = need(host.backup.verify_backup_integrity(name))
  return {
    backup_path = backup.backup_path,
    backup_timestamp = backup.backup_timestamp,
    files_backed_up = backup.files_backed_up,
    backup_size_bytes = backup.backup_size_bytes,
    backup_manifest = backup.backup_manifest,
    integrity_verified = verified,
    lock_acquired = lock_acquired,
  }
end

return phase
