--- Phase 0: can this upgrade be done at all? Nothing is changed here, so a failure is a refusal.
local phase = {
  id = "pre-flight-checks",
  title = "Pre-flight checks",
  grants = { services = { "validation", "content", "lock" } },
  limits = { wall = 3600 },
}

-- All problems at once: nobody wants to find them one by one.
local function gather(found, problems, warnings)
  for _, problem in ipairs(found.problems or {}) do problems[#problems + 1] = problem end
  for _, warning in ipairs(found.warnings or {}) do warnings[#warnings + 1] = warning end
  return found
end

function phase.run(host)
  local problems, warnings = {}, {}
  local target = gather(need(host.validation.validate_target_structure()), problems, warnings)
  local source = gather(need(host.validation.validate_source_repo()), problems, warnings)
  if target.valid then
    gather(need(host.validation.check_permissions()), problems, warnings)
    gather(need(host.validation.check_backups()), problems, warnings)
  end
  for _, warning in ipairs(warnings) do host.warn(warning) end
  if #problems > 0 then error(table.concat(problems, "\n"), 0) end

  host.progress("comparing the installation with the source")
  need(host.content.preview()) -- the plan; how much space is needed depends on it
  local space = need(host.validation.check_disk_space())
  if not space.sufficient then error(space.problem, 0) end

  return {
    source_path = source.path,
    source_version = source.version,
    source_commit = source.commit,
    source_git_clean = source.clean,
    target_exists = true,
    target_structure_valid = target.valid,
    disk_space_available = space.available,
    disk_space_required = space.required,
    no_concurrent_workflows = host.lock.held(),
  }
end

return phase
