--- Receipts: what the host itself did while a phase ran, against what the phase's evidence claims.
--
-- A claim is a field of evidence that says something was done. It passes only when the broker noted
-- that very verb as done in the same phase, so a script cannot claim a backup it did not verify;
-- where the verb's answer could say otherwise, it has to say so, too.
local json = require("praxlua.json")

local receipts = {}

--- The verbs behind each claim of a built-in phase: the field, the value that claims, the verb, and
--- the field of its last answer that has the same value where the claim is true.
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
    { "mcp_server_copied", true, "content.upgrade_server_code", "verified" },
    { "dependencies_installed", true, "dependencies.install_dependencies", "success" },
    { "server_proven", true, "server.prove", "proven" },
    { "server_restarted", true, "server.restart_server", "started" },
    { "server_health_check", "passed", "server.restart_server" },
  },
  {
    { "browser_smoke_test", "passed", "server.run_smoke", "browser_smoke_test" },
    { "rag_search_test", "passed", "server.run_smoke", "rag_search_test" },
    { "workflow_engine_test", "passed", "server.run_smoke", "workflow_engine_test" },
    { "unit_tests_passed", true, "server.run_tests", "passed" },
  },
  {
    { "lock_released", true, "lock.release" },
    { "installation_summary_updated", true, "report.update_installation_summary" },
    { "update_log_appended", true, "report.append_to_update_log" },
    { "git_changes_committed", true, "report.commit_changes" },
  },
}

--- What evidence repeats of a verb's answer: field, verb, and the answer's own field. It must be
--- the same to the letter.
receipts.FACTS = {
  [0] = {
    { "source_path", "validation.validate_source_repo", "path" },
    { "source_version", "validation.validate_source_repo", "version" },
    { "source_commit", "validation.validate_source_repo", "commit" },
  },
  {
    { "backup_path", "backup.create_backup", "backup_path" },
    { "backup_timestamp", "backup.create_backup", "backup_timestamp" },
    { "files_backed_up", "backup.create_backup", "files_backed_up" },
    { "backup_size_bytes", "backup.create_backup", "backup_size_bytes" },
    { "backup_manifest", "backup.create_backup", "backup_manifest" },
  },
  { { "version_updated", "content.upgrade", "version" } },
  { { "files_copied", "content.upgrade_server_code", "files_written" } },
  { { "tools_registered", "server.run_smoke", "tools_registered" },
    { "validation_report", "report.generate_validation_report" } },
  { { "upgrade_summary", "report.generate_upgrade_summary" },
    { "old_backups_archived", "backup.archive_old_backups", "archived_count" } },
}

-- The answer of the last receipt of each verb, and the verbs that a dry run only foretold.
local function answers(noted)
  local last, foretold = {}, {}
  for _, receipt in ipairs(noted) do
    if receipt.ok then last[receipt.verb] = receipt.answer end
    if receipt.not_run then foretold[receipt.verb] = true end
  end
  return last, foretold
end

local function check_facts(number, evidence, noted)
  local last, foretold = answers(noted)
  for _, fact in ipairs(receipts.FACTS[number] or {}) do
    local field, verb, inner = fact[1], fact[2], fact[3]
    local answer = last[verb]
    if inner and type(answer) == "table" then answer = answer[inner] end
    if evidence[field] ~= answer and not foretold[verb] then
      return nil, string.format("the evidence says %s = %s, but host.%s answered %s", field,
        tostring(evidence[field]), verb, tostring(answer)), "ERECEIPT"
    end
  end
  return true
end

-- Whether two values are the same as data; null is nothing, as on the way to the worker.
local function same(a, b)
  if a == json.null then a = nil end
  if b == json.null then b = nil end
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key, value in pairs(b) do
    if a[key] == nil and value ~= json.null then return false end
  end
  return true
end

local function count_of(noted, verb)
  local count = 0
  for _, receipt in ipairs(noted) do
    if receipt.verb == verb and receipt.ok then count = count + 1 end
  end
  return count
end

-- The answer of the last call of a verb, or a field of it; null when that call failed.
local function last_answer(noted, verb, field)
  local last
  for _, receipt in ipairs(noted) do
    if receipt.verb == verb then last = receipt end
  end
  local answer
  if last and last.ok then answer = last.answer end
  if answer ~= nil and field then
    if type(answer) ~= "table" then return json.null end
    answer = answer[field]
  end
  if answer == nil then return json.null end
  return answer
end

local function shown(value)
  if value == nil or value == json.null then return "nothing" end
  return type(value) == "table" and "a table" or tostring(value)
end

--- The evidence of a custom phase with the fields that the host attests. What the phase itself says
--- of them must be the same.
---@param attested table<string, table> from evidence.attested
---@param found table evidence as the phase returned it
---@param noted { verb: string, ok: boolean, answer: any }[]
---@return table|nil evidence a copy
---@return string? message
---@return string? code "ERECEIPT"
function receipts.attest(attested, found, noted)
  local whole = {}
  for key, value in pairs(found) do whole[key] = value end
  for name, field in pairs(attested) do
    local value
    if field.kind == "receipts" then
      value = count_of(noted, field.verb)
    else
      value = last_answer(noted, field.verb, field.field)
    end
    if found[name] ~= nil and not same(found[name], value) then
      return nil, string.format("the evidence says %s = %s, but the host's receipts of host.%s "
        .. "say %s", name, shown(found[name]), field.verb, shown(value)), "ERECEIPT"
    end
    whole[name] = value
  end
  return whole
end

--- Whether every claim has its receipt, and every repeated fact is as the host told it.
---@param number integer of a built-in phase
---@param evidence table
---@param noted { verb: string, ok: boolean, answer: any, not_run: boolean? }[]
---@return true|nil
---@return string? message
---@return string? code "ERECEIPT"
function receipts.check(number, evidence, noted)
  local done, last = {}, answers(noted)
  for _, receipt in ipairs(noted) do
    if receipt.ok then done[receipt.verb] = true end
  end
  for _, claim in ipairs(receipts.CLAIMS[number] or {}) do
    local field, value, verb, inner = claim[1], claim[2], claim[3], claim[4]
    if evidence[field] == value and not done[verb] then
      return nil, string.format("the evidence claims %s = %s, but host.%s was never done", field,
        tostring(value), verb), "ERECEIPT"
    end
    local said = inner and type(last[verb]) == "table" and last[verb][inner]
    if evidence[field] == value and inner and said ~= value then
      return nil, string.format("the evidence claims %s = %s, but host.%s answered %s = %s", field,
        tostring(value), verb, inner, shown(said)), "ERECEIPT"
    end
  end
  return check_facts(number, evidence, noted)
end

return receipts
