--- Phase 3: prove, then switch. The server's new code is staged, its packages are installed into a
-- copy of the environment, and the new server is proven with both while the old one runs. Only then
-- the code and the environment are switched, and the server is restarted. The session is saved
-- before that, so the upgrade survives the end of the server (and of whoever talked to it).
local phase = {
  id = "mcp-server-upgrade",
  title = "MCP server upgrade",
  grants = { services = { "content", "dependencies", "server" } },
  limits = { wall = 8 * 3600 },
}

local function failure_text(errors)
  local lines = {}
  for _, failure in ipairs(errors or {}) do
    lines[#lines + 1] = failure.message
    lines[#lines + 1] = failure.next
  end
  return #lines > 0 and table.concat(lines, "\n") or "installing the packages failed"
end

-- true, or nothing and a reason: the server names no packages, or this is a dry run.
local function install(host, requirements)
  if not requirements then return nil, "no_requirements" end
  host.progress("installing the server's packages")
  local result = need(host.dependencies.install_dependencies({ beside = true }))
  for _, warning in ipairs(result.warnings or {}) do host.warn(warning) end
  if result.not_run then return nil, result.not_run end
  if not result.success then error(failure_text(result.errors), 0) end
  return true
end

local STATUS = { success = "success", failed = "failed", not_run = "skipped" }

local function size_of(bytes)
  return bytes and bytes > 0 and string.format("%.1f MiB", bytes / MiB) or nil
end

-- What packages want to be done after their installation (browsers, say). A step that fails ends
-- the phase; an optional one is a warning: the same command does it later.
local function post_install(host)
  local steps = {}
  local wanted = need(host.dependencies.detect_post_install_steps())
  for i, done in ipairs(need(host.dependencies.run_post_install_steps(wanted))) do
    local status = STATUS[done.status]
    if status == "failed" then
      local what = string.format("%s failed: %s", done.command, done.reason or done.output)
      if not done.optional then error(what, 0) end
      host.warn(what .. "; run it again later")
      status = "skipped"
    end
    steps[i] = {
      command = done.command, status = status, output = done.output, seconds = done.seconds,
      size_downloaded = size_of(done.bytes),
    }
  end
  return steps
end

local function health_of(restart)
  if restart.not_run then return nil end
  return restart.health.responding == false and "failed" or "passed"
end

function phase.run(host)
  host.progress("staging the server's code")
  local staged = need(host.content.stage_server_code())
  local installed, reason = install(host, staged.requirements)
  local steps = staged.requirements and post_install(host) or {}
  host.progress("proving the new server")
  local proof = need(host.server.prove())
  host.progress("switching the server's code and packages")
  local copied = need(host.content.upgrade_server_code())
  need(host.dependencies.switch_environment())
  host.progress("restarting the server")
  local restart = need(host.server.restart_server())
  return {
    mcp_server_copied = copied.verified,
    files_copied = copied.files_written,
    checksums_verified = copied.verified,
    dependencies_installed = installed,
    dependencies_installed_reason = reason,
    post_install_steps = steps,
    server_proven = proof.proven,
    server_proven_reason = proof.not_run,
    server_restarted = restart.started,
    server_restart_time = restart.started and restart.restart_time or nil,
    server_restart_time_reason = not restart.started and (restart.not_run or "not_run") or nil,
    server_health_check = health_of(restart),
    server_health_check_reason = restart.not_run,
  }
end

return phase
