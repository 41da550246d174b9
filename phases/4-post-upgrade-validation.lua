--- Phase 4: does the upgraded server do what the old one did? Its tools are compared with the old
-- server's, the smoke calls are made, its log is read, and all of it is written down.
local phase = {
  id = "post-upgrade-validation",
  title = "Post-upgrade validation",
  grants = { services = { "server", "report" } },
  limits = { wall = 4 * 3600 },
}

local function missing_from(expected, registered)
  local have, lost = {}, {}
  for _, name in ipairs(registered) do have[name] = true end
  for _, name in ipairs(expected) do
    if not have[name] then lost[#lost + 1] = name end
  end
  return lost
end

-- A result of the smoke calls as an evidence field: null with a reason when it was not run.
local function put_result(evidence, field, result, reason)
  if result == "not_run" or result == nil then
    evidence[field .. "_reason"] = reason or "not_run"
  else
    evidence[field] = result
  end
end

-- What the server reports about itself, as far as it does.
local function put_reported(evidence, field, value, reason)
  if type(value) == "boolean" then
    evidence[field] = value
  else
    evidence[field .. "_reason"] = reason or "not_reported"
  end
end

local SHOWN_LINES = 15 -- of what failed tests said; the report has more

-- The last lines of tests that failed, as warnings.
local function show_failure(host, tests)
  host.warn(("the tests fail (%s)%s"):format(tests.command,
    tests.message and ": " .. tests.message or ""))
  local lines = {}
  for line in (tests.output or ""):gmatch("[^\n]+") do lines[#lines + 1] = line end
  for i = math.max(1, #lines - SHOWN_LINES + 1), #lines do host.warn("  " .. lines[i]) end
end

-- Runs the tests when they are asked for; returns what is to be said of them in the report.
local function put_tests(evidence, host)
  if not host.options.run_tests then
    evidence.unit_tests_passed_reason = "not_run"
    return { reason = "not_run" }
  end
  host.progress("running the tests")
  local tests = need(host.server.run_tests())
  if tests.reason then
    if not tests.not_run then
      host.warn("the server's own tests were not run: " .. tests.message)
    end
    evidence.unit_tests_passed_reason = tests.reason
  else
    evidence.unit_tests_passed = tests.passed
    if not tests.passed then show_failure(host, tests) end
  end
  return tests
end

local SMOKE_STATUS = { passed = "passed", failed = "failed", not_run = "skipped" }

function phase.run(host)
  host.progress("calling the server's tools")
  local smoke = need(host.server.run_smoke())
  local expected = need(host.server.expected_tools())
  local unasked = smoke.not_run -- in a dry run: why
  local lost = unasked and {} or missing_from(expected, smoke.tools)
  local info = smoke.info or {}
  local server = info.server or {} -- in the handshake stands the version of its library, as a rule
  local reported = smoke.reported or {}
  -- The log is that of the server which praxlua started: a private one has none.
  local has_log = smoke.via == "http"
  local log_errors = has_log and need(host.server.log_errors_since()) or {}
  for _, line in ipairs(log_errors) do host.warn("the server's log: " .. line) end

  local evidence = {
    server_version = server.version or info.version or smoke.server_version,
    tools_registered = smoke.tools_registered,
    tools_registered_reason = unasked,
    expected_tools = #expected,
    browser_tools_enabled = smoke.browser_tools_enabled,
    browser_tools_enabled_reason = unasked,
    server_log_errors = has_log and #log_errors or nil,
    lost_tools = lost,
    smoke_calls = {},
  }
  if not evidence.server_version then
    evidence.server_version_reason = unasked or "not_reported"
  end
  put_result(evidence, "browser_smoke_test", smoke.browser_smoke_test, unasked)
  put_result(evidence, "rag_search_test", smoke.rag_search_test, unasked)
  put_result(evidence, "workflow_engine_test", smoke.workflow_engine_test, unasked)
  put_reported(evidence, "file_watchers_active", reported.file_watchers_active, unasked)
  put_reported(evidence, "rag_index_current", reported.rag_index_current, unasked)
  if reported.file_watchers_active == false then
    host.warn("the server reports that its file watchers do not run: it will not notice changes")
  end
  local tests = put_tests(evidence, host)
  for i, call in ipairs(smoke.calls) do
    evidence.smoke_calls[i] = {
      name = call.title, status = SMOKE_STATUS[call.status], seconds = call.seconds or 0,
      detail = call.reason,
    }
    if call.tool and call.status == "not_run" then
      host.warn(("%s was not tried: %s"):format(call.title, call.reason))
    end
  end
  need(host.server.watch())
  evidence.validation_report = need(host.report.generate_validation_report({
    tools = smoke.tools, expected_tools = expected, lost_tools = lost, calls = smoke.calls,
    log_errors = log_errors, server_version = evidence.server_version, tests = tests,
    protocol_version = smoke.protocol_version, browser_tools_enabled = smoke.browser_tools_enabled,
    reported = {
      file_watchers_active = reported.file_watchers_active or evidence.file_watchers_active_reason
        or false,
      rag_index_current = reported.rag_index_current or evidence.rag_index_current_reason or false,
    },
  }))
  return evidence
end

return phase
