local evidence = require("praxlua.evidence")
local json = require("praxlua.json")
local schema = require("praxlua.schema")

-- Evidence that passes, a fresh copy each time.
local function good(phase)
  local all = {
    [0] = {
      source_path = "/src", source_version = "1.2.0", source_commit = "abc123def",
      source_git_clean = true, target_exists = true, target_structure_valid = true,
      disk_space_available = "2.5 GB", disk_space_required = "500 MB",
      no_concurrent_workflows = true,
    },
    {
      backup_path = ".praxis-os/.backups/2025-10-08-103045",
      backup_timestamp = "2025-10-08T10:30:45Z", files_backed_up = 487,
      backup_size_bytes = 47483648, integrity_verified = true, lock_acquired = true,
      backup_manifest = ".praxis-os/.backups/2025-10-08-103045/MANIFEST.json",
    },
    {
      safe_upgrade_executed = true, version_updated = "1.2.0", update_log_appended = true,
      dry_run_preview = {
        new_files = 3, updated_files = 12, merged_files = 0, unchanged_files = 145,
        removed_files = 1,
        conflicts = 2, local_only = 2,
      },
      actual_upgrade = {
        new_files = 3, updated_files = 12, merged_files = 0, removed_files = 1,
        conflicts_resolved = 2,
        user_prompts = 0,
      },
    },
    {
      mcp_server_copied = true, files_copied = 42, checksums_verified = true,
      dependencies_installed = true, server_restarted = true,
      server_restart_time = "2025-10-08T10:32:15Z", server_health_check = "passed",
      post_install_steps = {
        { command = "playwright install chromium", status = "success", output = "",
          seconds = 1.5, size_downloaded = "129.7 MB" },
      },
    },
    {
      server_version = "1.2.0", tools_registered = 8, expected_tools = 8,
      browser_tools_enabled = true, browser_smoke_test = "passed", rag_search_test = "passed",
      workflow_engine_test = "passed", file_watchers_active = true, rag_index_current = true,
      unit_tests_passed = true, server_log_errors = 0, lost_tools = {},
      smoke_calls = { { name = "search", status = "passed", seconds = 0.1, detail = "3 hits" } },
      validation_report = ".praxis-os/.cache/upgrade-validation-2025-10-08-103300.json",
    },
    {
      lock_released = true, old_backups_archived = 2,
      upgrade_summary = ".praxis-os/.cache/upgrade-summary-2025-10-08-103300.md",
      installation_summary_updated = true, update_log_appended = true,
      git_changes_committed = false,
    },
  }
  return all[phase]
end

-- Sets a field, given as "a.b", to a value; nil removes it.
local function with(phase, changes)
  local e = good(phase)
  for path, value in pairs(changes) do
    local at, last = e, path
    for parent, rest in path:gmatch("([^.]+)%.(.+)") do at, last = at[parent], rest end
    at[last] = value
  end
  return e
end

-- The fields as specs.md 3.2 lists them.
local SPECIFIED = {
  [0] = "source_path source_version source_commit source_git_clean target_exists "
    .. "target_structure_valid disk_space_available disk_space_required no_concurrent_workflows",
  "backup_path backup_timestamp files_backed_up backup_size_bytes backup_manifest "
    .. "integrity_verified lock_acquired",
  "safe_upgrade_executed dry_run_preview actual_upgrade version_updated update_log_appended",
  "mcp_server_copied files_copied checksums_verified dependencies_installed post_install_steps "
    .. "server_restarted server_restart_time server_health_check",
  "server_version tools_registered expected_tools browser_tools_enabled browser_smoke_test "
    .. "rag_search_test workflow_engine_test file_watchers_active rag_index_current "
    .. "unit_tests_passed validation_report",
  "lock_released old_backups_archived upgrade_summary installation_summary_updated "
    .. "update_log_appended git_changes_committed",
}

describe("evidence.check", function()
  for phase = 0, 5 do
    it("demands every field of phase " .. phase .. ", of its type, and no other", function()
      assert.is_true(evidence.check(phase, good(phase)))
      for field in SPECIFIED[phase]:gmatch("%S+") do
        local without = good(phase)
        without[field] = nil
        local ok, message, code = evidence.check(phase, without)
        assert.is_nil(ok, field)
        assert.equal("ESCHEMA", code)
        local named = "evidence of phase " .. phase .. ": " .. field
        assert.truthy(message:find(named, 1, true), message)
        local wrong = good(phase)
        wrong[field] = function() end
        assert.is_nil((evidence.check(phase, wrong)), field)
      end
      local extra = good(phase)
      extra.all_tasks_completed = true
      local _, message = evidence.check(phase, extra)
      assert.truthy(message:find("all_tasks_completed: not a field", 1, true))
    end)
  end

  it("refuses an empty table and things that are not tables", function()
    for phase = 0, 5 do
      assert.is_nil((evidence.check(phase, {})))
      assert.is_nil((evidence.check(phase, json.null)))
      assert.is_nil((evidence.check(phase, "passed")))
    end
  end)

  it("keeps the two summaries of phase 2 closed, whole and not negative", function()
    for _, part in ipairs({ "dry_run_preview", "actual_upgrade" }) do
      for field in pairs(good(2)[part]) do
        for _, bad in ipairs({ -1, 1.5, "1", json.null }) do
          local _, message = evidence.check(2, with(2, { [part .. "." .. field] = bad }))
          assert.truthy(message:find(part .. "." .. field, 1, true))
        end
      end
      assert.is_nil((evidence.check(2, with(2, { [part .. ".errors"] = 0 }))))
    end
  end)

  it("lets a check that did not run be null, with its reason", function()
    for _, field in ipairs({ "server_version", "browser_tools_enabled", "browser_smoke_test",
      "rag_search_test", "workflow_engine_test", "file_watchers_active", "rag_index_current",
      "unit_tests_passed" }) do
      assert.is_nil((evidence.check(4, with(4, { [field] = json.null }))), field)
      assert.is_true(evidence.check(4,
        with(4, { [field] = json.null, [field .. "_reason"] = "not_run" })))
    end
    assert.is_nil((evidence.check(4, with(4, {
      tools_registered = json.null, tools_registered_reason = "not_run",
    }))))
  end)

  it("knows the further fields of phase 4 and their form", function()
    assert.is_true(evidence.check(4, with(4, {
      server_log_errors = nil, lost_tools = nil, smoke_calls = nil,
    })))
    assert.is_nil((evidence.check(4, with(4, { server_log_errors = "none" }))))
    assert.is_nil((evidence.check(4, with(4, { smoke_calls = { { name = "x" } } }))))
    assert.is_nil((evidence.check(4, with(4, { rag_search_test = "ok" }))))
  end)

  it("raises for a phase that is not built in", function()
    assert.has_error(function() evidence.check(6, {}) end)
  end)
end)

describe("evidence.checkpoint", function()
  local function refused(phase, changes, field)
    local ok, message, code = evidence.checkpoint(phase, with(phase, changes))
    assert.is_nil(ok, field)
    assert.equal("ECHECKPOINT", code)
    assert.truthy(message:find("checkpoint of phase " .. phase .. ": " .. field, 1, true), message)
    assert.truthy(#message > #field + 40, "says what it means: " .. message)
    return message
  end

  it("lets good evidence of every phase pass", function()
    for phase = 0, 5 do assert.is_true(evidence.checkpoint(phase, good(phase))) end
  end)

  it("refuses each demanded value that is not there, by its name", function()
    local demands = 0
    for phase, list in pairs(evidence.required) do
      for _, demand in ipairs(list) do
        refused(phase, { [demand.field] = not demand.equals }, demand.field)
        demands = demands + 1
      end
    end
    assert.equal(13, demands)
  end)

  it("refuses evidence that does not meet its model, as such", function()
    local ok, _, code = evidence.checkpoint(1, {})
    assert.is_nil(ok)
    assert.equal("ESCHEMA", code)
  end)

  it("refuses an empty backup", function()
    refused(1, { files_backed_up = 0 }, "files_backed_up")
  end)

  it("refuses conflicts that nobody resolved", function()
    local message = refused(2, { ["actual_upgrade.conflicts_resolved"] = 1 },
      "actual_upgrade.conflicts_resolved")
    assert.truthy(message:find("1 of 2 conflicts", 1, true))
  end)

  it("refuses packages that are not installed, unless there are none to install", function()
    refused(3, { dependencies_installed = false }, "dependencies_installed")
    refused(3, { dependencies_installed = json.null, dependencies_installed_reason = "not_run" },
      "dependencies_installed")
    assert.is_true(evidence.checkpoint(3, with(3, {
      dependencies_installed = json.null, dependencies_installed_reason = "no_requirements",
    })))
  end)

  it("refuses a failed step after the installation, and names its command", function()
    local message = refused(3, { post_install_steps = {
      { command = "playwright install chromium", status = "failed", output = "x", seconds = 1 },
    } }, "post_install_steps")
    assert.truthy(message:find("playwright install chromium", 1, true))
    assert.is_true(evidence.checkpoint(3, with(3, { post_install_steps = {
      { command = "playwright install chromium", status = "skipped", output = "", seconds = 0 },
    } })))
  end)

  it("refuses a server that does not answer, and one that was restarted but not asked", function()
    refused(3, { server_health_check = "failed" }, "server_health_check")
    refused(3, { server_health_check = json.null, server_health_check_reason = "not_run" },
      "server_health_check")
    refused(3, { server_restart_time = json.null, server_restart_time_reason = "not_run" },
      "server_restart_time")
  end)

  it("lets a server that was not to be restarted be null throughout", function()
    assert.is_true(evidence.checkpoint(3, with(3, {
      server_restarted = false,
      server_health_check = json.null, server_health_check_reason = "not_run",
      server_restart_time = json.null, server_restart_time_reason = "not_run",
    })))
  end)

  it("refuses failed tests, failed calls and lost tools after the upgrade", function()
    for _, field in ipairs({ "browser_smoke_test", "rag_search_test", "workflow_engine_test" }) do
      refused(4, { [field] = "failed" }, field)
    end
    refused(4, { unit_tests_passed = false }, "unit_tests_passed")
    assert.truthy(refused(4, { rag_index_current = false }, "rag_index_current")
      :find("stale", 1, true))
    refused(4, { tools_registered = 7 }, "tools_registered")
    assert.truthy(refused(4, { lost_tools = { "search", "browse" } }, "lost_tools")
      :find("search, browse", 1, true))
    assert.truthy(refused(4, {
      smoke_calls = { { name = "search", status = "failed", seconds = 1 } },
    }, "smoke_calls"):find("search", 1, true))
  end)

  it("lets checks that did not run after the upgrade be null", function()
    local e = good(4)
    for _, field in ipairs({ "browser_tools_enabled", "browser_smoke_test", "rag_search_test",
      "workflow_engine_test", "file_watchers_active", "rag_index_current", "unit_tests_passed" }) do
      e[field], e[field .. "_reason"] = json.null, "not_run"
    end
    assert.is_true(evidence.checkpoint(4, e))
    assert.is_true(evidence.checkpoint(4, with(4, { tools_registered = 9 })))
  end)

  it("refuses an upgrade without a report", function()
    refused(5, { upgrade_summary = "" }, "upgrade_summary")
  end)
end)

describe("evidence.to_dict and from_dict", function()
  it("round-trip every phase through JSON", function()
    for phase = 0, 5 do
      local dict = assert(evidence.to_dict(phase, good(phase)))
      local text = json.encode(dict)
      local again = assert(evidence.from_dict(phase, json.decode(text)))
      assert.same(good(phase), again)
      assert.equal(text, json.encode(again))
    end
  end)

  it("write nulls out and mark arrays", function()
    local e = good(3)
    e.server_restarted, e.post_install_steps = false, {}
    e.server_restart_time, e.server_restart_time_reason = nil, "not_run"
    local dict = assert(evidence.to_dict(3, e))
    assert.equal(json.null, dict.server_restart_time)
    assert.equal("[]", json.encode(dict.post_install_steps))
    assert.are_not.equal(e, dict)
  end)

  it("refuse what does not meet the model", function()
    local dict, _, code = evidence.from_dict(0, { source_path = "/src" })
    assert.is_nil(dict)
    assert.equal("ESCHEMA", code)
  end)
end)

describe("evidence.summary", function()
  it("says in one line what each phase did", function()
    for phase, want in pairs({
      [0] = "source 1.2.0 at abc123def; 500 MB needed, 2.5 GB free",
      "487 files backed up, 47.5 MB",
      "3 new, 12 updated, 0 merged, 1 removed, 2 conflicts resolved",
      "42 files of the server; packages installed, server check passed",
      "8 tools, 8 expected; search passed",
      "2 old backups removed; report .praxis-os/.cache/upgrade-summary-2025-10-08-103300.md",
    }) do
      assert.equal(want, evidence.summary(phase, good(phase)))
    end
  end)

  it("says what was not done", function()
    assert.equal("42 files of the server; no packages to install, server not asked",
      evidence.summary(3, with(3, {
        server_restarted = false,
        dependencies_installed = json.null, dependencies_installed_reason = "no_requirements",
        server_health_check = json.null, server_health_check_reason = "not_run",
      })))
    assert.equal("8 tools, 8 expected; search not tested", evidence.summary(4,
      with(4, { rag_search_test = json.null, rag_search_test_reason = "not_run" })))
  end)

  it("says nothing about evidence that does not meet its model, or about a custom phase", function()
    assert.is_nil(evidence.summary(1, {}))
    assert.is_nil(evidence.summary("rename-config", {}))
  end)
end)

describe("evidence.custom", function()
  it("makes a closed model of the data a phase brings", function()
    local model = assert(evidence.custom({ keys_renamed = { kind = "integer", min = 0 } }))
    assert.is_true(evidence.check(model, { keys_renamed = 3 }))
    assert.is_true(evidence.checkpoint(model, { keys_renamed = 3 }))
    local ok, message, code = evidence.checkpoint(model, { keys_renamed = -1 })
    assert.is_nil(ok)
    assert.equal("ESCHEMA", code)
    assert.equal("evidence: keys_renamed: -1 is less than 0", message)
    assert.is_nil((evidence.check(model, { keys_renamed = 1, other = 2 })))
    assert.same({ keys_renamed = 1 }, evidence.to_dict(model, { keys_renamed = 1 }))
  end)

  it("takes nothing for a phase that returns nothing", function()
    local model = assert(evidence.custom(nil))
    assert.is_true(evidence.check(model, {}))
    assert.is_nil((evidence.check(model, { a = 1 })))
  end)

  it("refuses what is no model", function()
    for _, bad in ipairs({
      "integer", { n = "integer" }, { n = { kind = "colour" } }, { [1] = schema.integer() },
      { s = schema.string({ pattern = ".-.-.-x" }) },
    }) do
      local model, message, code = evidence.custom(bad)
      assert.is_nil(model)
      assert.equal("ESCHEMA", code)
      assert.truthy(message:find("^evidence"))
    end
  end)
end)
