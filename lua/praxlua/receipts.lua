--- Receipts: what the host itself did while a phase ran, against what the phase's evidence claims.
--
-- A claim is a field of evidence that says something was done. It passes only when the broker noted
-- that very verb as done in the same phase, so a script cannot claim a backup it did not verify.
local receipts = {}

--- The verbs behind each claim of a built-in phase: the field, the value that claims, and the verb.
receipts.CLAIMS = {
  [0] = {
    { "source_git_clean", true, "validation.validate_source_repo" },
    { "target_structure_valid", true, "validation.validate_target_structure" },
  },
  {
    { "integrity_verified", true, "backup.verify_backup_integrity" },
    { "lock_acquired", true, "lock.acquire" },
  },
  {
    { "safe_upgrade_executed", true, "content.upgrade" },
    { "update_log_appended", true, "report.append_to_update_log" },
  },
  {
    { "mcp_server_copied", true, "content.upgrade_server_code" },
    { "dependencies_installed", true, "dependencies.install_dependencies" },
    { "server_restarted", true, "server.restart_server" },
    { "server_health_check", "passed", "server.restart_server" },
  },
  {
    { "rag_search_test", "passed", "server.run_smoke" },
    { "workflow_engine_test", "passed", "server.run_smoke" },
    { "unit_tests_passed", true, "server.run_tests" },
  },
  {
    { "lock_released", true, "lock.release" },
    { "installation_summary_updated", true, "report.update_installation_summary" },
    { "update_log_appended", true, "report.append_to_update_log" },
    { "git_changes_committed", true, "report.commit_changes" },
  },
}

--- Whether every claim has its receipt.
---@param number integer of a built-in phase
---@param evidence table
---@param noted { verb: string, ok: boolean }[]
---@return true|nil
---@return string? message
---@return string? code "ERECEIPT"
function receipts.check(number, evidence, noted)
  local done = {}
  for _, receipt in ipairs(noted) do
    if receipt.ok then done[receipt.verb] = true end
  end
  for _, claim in ipairs(receipts.CLAIMS[number] or {}) do
    local field, value, verb = claim[1], claim[2], claim[3]
    if evidence[field] == value and not done[verb] then
      return nil, string.format("the evidence claims %s = %s, but host.%s was never done", field,
        tostring(value), verb), "ERECEIPT"
    end
  end
  return true
end

return receipts
