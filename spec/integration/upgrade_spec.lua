--- The main job on real content: an installation of the old release with a person's files and a
-- running server, previewed and upgraded to the new one, upgraded again, and rolled back.
local cjson = require("cjson")
local checks = require("spec.support.checks")
local content = require("spec.support.content")
local helper = require("spec.support.helper")
local sample = require("spec.support.sample")

local PHASES = {
  "pre-flight-checks", "backup-preparation", "content-upgrade", "mcp-server-upgrade",
  "post-upgrade-validation", "cleanup-documentation",
}

-- The evidence of specs.md 3.2: field and type; "?" may be null with <field>_reason beside it.
local EVIDENCE = {
  ["0"] = { source_path = "string", source_version = "string", source_commit = "string",
    source_git_clean = "boolean", target_exists = "boolean", target_structure_valid = "boolean",
    disk_space_available = "string", disk_space_required = "string",
    no_concurrent_workflows = "boolean" },
  ["1"] = { backup_path = "string", backup_timestamp = "string", files_backed_up = "number",
    backup_size_bytes = "number", backup_manifest = "string", integrity_verified = "boolean",
    lock_acquired = "boolean" },
  ["2"] = { safe_upgrade_executed = "boolean", dry_run_preview = "table", actual_upgrade = "table",
    version_updated = "string", update_log_appended = "boolean" },
  ["3"] = { mcp_server_copied = "boolean", files_copied = "number", checksums_verified = "boolean",
    dependencies_installed = "boolean", post_install_steps = "table", server_restarted = "boolean",
    server_restart_time = "string", server_health_check = "string" },
  ["4"] = { server_version = "string", tools_registered = "number", expected_tools = "number",
    browser_tools_enabled = "boolean?", browser_smoke_test = "string?", rag_search_test = "string?",
    workflow_engine_test = "string?", file_watchers_active = "boolean?",
    rag_index_current = "boolean?", unit_tests_passed = "boolean?", validation_report = "string" },
  ["5"] = { lock_released = "boolean", old_backups_archived = "number", upgrade_summary = "string",
    installation_summary_updated = "boolean", update_log_appended = "boolean",
    git_changes_committed = "boolean" },
}

local function check_evidence(phase, evidence)
  for field, wanted in pairs(EVIDENCE[phase]) do
    local value, name = evidence[field], ("phase %s, %s"):format(phase, field)
    local type_name, optional = wanted:match("^(%a+)(%??)$")
    if value == cjson.null and optional == "?" then
      assert.is_string(evidence[field .. "_reason"], name .. " is null without a reason")
    else
      assert.equal(type_name, type(value), name)
    end
  end
end

-- The actions of a plan as its events count them.
local function plan_of(result)
  local plans = sample.events(result, "plan")
  assert.equal(1, #plans, "one plan event: " .. result.stdout)
  return plans[1]
end

local function only(paths)
  assert.equal(1, #paths, table.concat(paths, " "))
  return paths[1]
end

for _, variant in ipairs({
  { title = "without a record of what was shipped", manifest = false },
  { title = "with the manifest of an earlier upgrade", manifest = true, tag = " #smoke" },
}) do
  local title = ("An upgrade of content (%s) %s%s"):format(content.kind(), variant.title,
    variant.tag or "")
  describe(title, function()
    local s, before, preview, result, source

    lazy_setup(function()
      s = sample.new({ manifest = variant.manifest, pip = true })
      source = sample.list(s, "exact", s.source)
      local exact = sample.list(s, "exact")
      preview = sample.upgrade(s, { "--dry-run" })
      preview.differences = sample.differences(s, exact, sample.list(s, "exact"))
      before = sample.list(s)
      result = sample.upgrade(s)
    end)

    lazy_teardown(function() assert.same({}, sample.clean()) end)

    local function session()
      return checks.json(only(checks.find(s.target .. "/.cache/state", "%.json$")))
    end

    it("is previewed without a byte or a time changing", function()
      checks.exits(0, preview)
      assert.equal("", preview.differences)
    end)

    it("only reads the source", function()
      assert.equal("", sample.differences(s, source, sample.list(s, "exact", s.source)))
    end)

    it("does what the preview said", function()
      local promised, done = plan_of(preview), plan_of(result)
      assert.is_string(promised.hash)
      assert.equal(promised.hash, done.hash)
      assert.same(promised.counts, done.counts)
    end)

    it("exits 0 after the six phases in order", function()
      checks.exits(0, result)
      local started = {}
      for i, event in ipairs(sample.events(result, "phase_started")) do
        started[i] = event.phase
        assert.equal(i - 1, event.number)
      end
      assert.same(PHASES, started)
    end)

    it("writes events of the documented form", function()
      local session_id
      for _, event in ipairs(result.events) do
        assert.is_string(event.event)
        assert.truthy(event.time:match("^%d+%-%d+%-%d+T[%d:.]+Z$"), event.time)
        session_id = session_id or event.session_id
        assert.equal(session_id, event.session_id or session_id)
        assert.is_nil((event.message or ""):find("malformed event", 1, true), event.message)
      end
      assert.equal("finished", result.events[#result.events].event)
    end)

    it("replaces the shipped files and leaves the person's as they were", function()
      local expected = sample.expected(s, before, { "usage" })
      local ignored = { part = "tree", ignore = sample.RECORDS }
      assert.equal("", sample.differences(s, expected, sample.list(s), ignored))
    end)

    it("leaves nothing of its own behind", function()
      checks.settled(s)
      assert.same({}, checks.find(s.temporary, "."))
    end)

    it("installs the new requirements so that their commands run", function()
      checks.installed_package(s, "2.0.0")
      for _, script in ipairs(checks.find(s.target .. "/venv/bin", ".")) do
        local header = (helper.read(script) or ""):match("^#![^\n]*")
        if header then
          assert.truthy(header:find(s.target .. "/venv/bin/", 1, true), script .. ": " .. header)
        end
      end
    end)

    it("has the new server answer with the new version and the old tools", function()
      local answer = checks.serves(s, "2.0.0")
      assert.same({ "get_server_info", "list_workflows", "search_standards" }, answer.tools)
    end)

    it("brings VERSION.txt up to date line by line", function()
      local version = helper.read(s.target .. "/VERSION.txt")
      local commit = sample.commit_of(s, "HEAD")
      local said = version:match("\ncommit=(%x+)\n")
      assert.is_string(said, version)
      assert.equal(commit:sub(1, #said), said)
      assert.truthy(version:find("\nCurrent Version: 2.0.0\n", 1, true), version)
      assert.truthy(version:find("\nversion_updated=%d%d%d%d%-%d%d%-%d%dT[%d:]+Z\n"), version)
      assert.truthy(version:find("\nNotes: a line that is not ours to change\n", 1, true), version)
      assert.is_nil(version:find("Current Version: 1.0.0", 1, true))
    end)

    it("records what it shipped, file by file", function()
      local manifest = checks.json(s.target .. "/.installed-manifest.json")
      assert.equal("2.0.0", manifest.version)
      assert.equal(sample.commit_of(s, "HEAD"), manifest.commit)
      assert.is_number(manifest.format_version)
      assert.equal("", sample.manifest_differences(s))
    end)

    it("adds what has to be ignored to .gitignore and keeps the lines there", function()
      local text = helper.read(s.project .. "/.gitignore")
      local own = "node_modules/\n*.log\n.praxis-os/venv/\n"
      assert.equal(own, text:sub(1, #own))
      for _, line in ipairs({ ".praxis-os/.cache/", ".praxis-os/mcp_server/__pycache__/" }) do
        local first = ("\n" .. text):find("\n" .. line .. "\n", 1, true)
        assert.is_number(first, line .. " is missing in " .. text)
      end
      local _, times = ("\n" .. text):gsub("\n%.praxis%-os/venv/\n", "")
      assert.equal(1, times, text)
    end)

    it("keeps a session in the documented form", function()
      local state = session()
      assert.truthy(state.session_id:match("^%x+%-%x+%-%x+%-%x+%-%x+$"))
      assert.equal("praxis_os_upgrade_v1", state.workflow_type)
      assert.equal("completed", state.status)
      assert.same({ 0, 1, 2, 3, 4, 5 }, state.completed_phases)
      assert.same(PHASES, state.completed)
      assert.is_number(state.format_version)
      assert.is_table(state.metadata)
      assert.truthy(state.started_at:match("^%d+%-%d+%-%d+T[%d:]+Z$"))
      assert.truthy(state.updated_at:match("^%d+%-%d+%-%d+T[%d:]+Z$"))
      for phase in pairs(EVIDENCE) do check_evidence(phase, state.phase_artifacts[phase]) end
    end)

    it("has one verified backup of everything that was there", function()
      local backup = only(checks.find(s.target .. "/.backups", "^%d+%-%d%d%-%d%d%-%d%d%d%d%d%d"))
      local manifest = checks.json(backup .. "/MANIFEST.json")
      local wanted, listed = {}, checks.json(before).tree
      for path, entry in pairs(listed) do
        if entry.type == "file" and (path == ".gitignore" or path:find("^%.praxis%-os/")) then
          wanted[entry.sha256] = (wanted[entry.sha256] or 0) + 1
        end
      end
      for _, hash in pairs(manifest.files) do
        hash = hash:gsub("^sha256:", "")
        wanted[hash] = (wanted[hash] or 0) - 1
      end
      for hash, count in pairs(wanted) do assert.equal(0, count, "backup of " .. hash) end
      local packages = helper.read(backup .. "/requirements-snapshot.txt")
      assert.truthy(packages:find("praxsample==1.0.0", 1, true), packages)
      local verified = sample.run(s, { "backup", "verify" })
      assert.equal(0, verified.code, verified.stderr)
    end)

    it("writes the reports", function()
      local cache = s.target .. "/.cache"
      local summary = helper.read(only(checks.find(cache, "^upgrade%-summary%-.*%.md$")))
      assert.truthy(summary:find("1.0.0", 1, true) and summary:find("2.0.0", 1, true), summary)
      local validation = checks.json(only(checks.find(cache, "^upgrade%-validation%-.*%.json$")))
      assert.is_table(validation)
      local log = helper.read(s.target .. "/UPDATE_LOG.txt")
      assert.truthy(log:find("2.0.0", 1, true), log)
      local installation = helper.read(s.target .. "/INSTALLATION_SUMMARY.md")
      assert.truthy(installation:find("2.0.0", 1, true), installation)
      if variant.manifest then
        assert.equal(1, (log:find("2025-10-14 08:00:00 | 1.0.0 | an earlier line\n", 1, true)))
        assert.truthy(installation:find("Installed by hand.", 1, true))
      end
    end)

    it("agrees on the version everywhere", function()
      local state = session()
      assert.equal("2.0.0", state.phase_artifacts["0"].source_version)
      assert.equal("2.0.0", state.phase_artifacts["2"].version_updated)
      assert.equal("2.0.0", state.phase_artifacts["4"].server_version)
      local status = sample.run(s, { "status", "--json" })
      assert.equal(0, status.code, status.stderr)
      assert.truthy(status.stdout:find('"2.0.0"', 1, true), status.stdout)
    end)

    it("finds nothing to do when it is run again, and touches nothing", function()
      local exact = sample.list(s, "exact")
      local again = sample.upgrade(s)
      checks.exits(0, again)
      assert.equal("", sample.differences(s, exact, sample.list(s, "exact")))
      assert.equal("completed", session().status)
    end)

    it("is rolled back as a whole when that is asked for afterwards", function()
      local back = sample.run(s, { "rollback" })
      assert.equal(0, back.code, back.stderr .. back.stdout)
      checks.undone(s, before)
      checks.installed_package(s, "1.0.0")
    end)
  end)
end
