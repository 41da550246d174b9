local commit = require("praxlua.report.commit")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local process = require("praxlua.process")
local report = require("praxlua.report")

local ID = "3f2b8c1e-9a4d-4e21-8b7c-0123456789ab"
local SECTION = "\n## "

-- A report of a run that went well, with everything in it.
local function full(changes)
  local fields = {
    session_id = ID, started_at = "2025-10-08T10:30:00Z", completed_at = "2025-10-08T10:31:15Z",
    from_version = "1.2.0", to_version = "1.3.0", phases_completed = { 0, 1, 2, 3, 4, 5 },
    phase_summaries = { ["0"] = "source is clean", ["2"] = "3 new", mine = "2 keys" },
    issues_encountered = { "the newest backup was 12 days old" }, success = true,
    source = "/src/praxis-os", commit = "abc123def", target = "/p/.praxis-os",
    phases = {
      { id = "pre-flight-checks", number = 0, title = "Pre-flight checks", verdict = "ok",
        seconds = 0.25 },
      { id = "mine", title = "Mine | yours", verdict = "ok", seconds = 61 },
    },
    changes = {
      added = { { path = "standards/new.md" } },
      updated = { { path = "standards/old.md", reason = "changed upstream" } },
      removed = { { path = "workflows/gone.md" } },
      kept = { { path = "standards/mine.md", reason = "you changed it" } },
      conflicts = {
        { path = "workflows/both.md", reason = "both changed it", resolution = "ours",
          decided_by = "remembered" },
        { path = "workflows/odd`name.md", resolution = "theirs", decided_by = "policy" },
        { path = "workflows/third.md", resolution = "merged", decided_by = "answer" },
      },
    },
    backup_path = ".praxis-os/.backups/2025-10-08-103045",
    server = { answered = true, version = "1.3.0", tools = 8, transport = "stdio" },
    warnings = { "the source is not on main" },
  }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return report.new(fields)
end

describe("UpgradeReport", function()
  it("has every field of the specification", function()
    local dict = assert(report.to_dict(report.new({
      session_id = ID, started_at = "2025-10-08T10:30:00Z",
    })))
    for _, field in ipairs({ "session_id", "workflow_type", "started_at", "completed_at",
      "duration_seconds", "from_version", "to_version", "phases_completed", "phase_summaries",
      "issues_encountered", "rollback_performed", "success" }) do
      assert.not_nil(dict[field], field)
    end
  end)

  it("round-trips through JSON", function()
    local dict = assert(report.to_dict(full()))
    local text = json.encode(dict)
    local again = assert(report.from_dict(json.decode(text)))
    assert.same(dict, again)
    assert.equal(text, json.encode(assert(report.to_dict(again))))
    assert.equal(75, again.duration_seconds)
  end)

  it("writes numbers of phases as keys, and empty lists as lists", function()
    local dict = assert(report.to_dict(full({
      phase_summaries = { [0] = "a", [5] = "b" }, phases_completed = {}, issues_encountered = {},
    })))
    assert.equal('{"0":"a","5":"b"}', json.encode(dict.phase_summaries))
    assert.equal("[]", json.encode(dict.phases_completed))
    assert.equal("[]", json.encode(dict.issues_encountered))
  end)

  it("is a copy: later changes of the report stay apart", function()
    local r = full()
    local dict = assert(report.to_dict(r))
    r.changes.added[1].path = "other"
    assert.equal("standards/new.md", dict.changes.added[1].path)
  end)

  it("refuses wrong, missing and further fields, and a newer format", function()
    for field, value in pairs({
      success = "yes", phases_completed = { 6 }, duration_seconds = -1, started_at = "yesterday",
      session_id = false, surprise = 1, changes = { deleted = {} }, server = {},
    }) do
      local dict, message, code = report.to_dict(full({ [field] = value }))
      assert.is_nil(dict, field)
      assert.equal("ESCHEMA", code)
      assert.truthy(message:find(field, 1, true), message)
    end
    local _, _, code = report.from_dict({ format_version = 2, anything = true })
    assert.equal("EFORMAT", code)
    for _, bad in ipairs({ "x", json.null, 1 }) do assert.is_nil((report.from_dict(bad))) end
  end)

  it("is worked out from the plan and the evidence of a run", function()
    local r = report.new({
      session_id = ID, started_at = "2025-10-08T10:30:00Z", source_path = "/src", success = false,
      failure = "phase 3 failed",
      phases = { { id = "a", title = "A", verdict = "ok", seconds = 1, limit = 5, used = 2 } },
      plan = { entries = {
        { path = "new", action = "add", reason = "new upstream", new = "1" },
        { path = "same", action = "unchanged", base = "1", new = "1" },
        { path = "adopted", action = "adopt", new = "1" },
        { path = "yours", action = "keep", reason = "yours" },
        { path = "edited", action = "keep", reason = "you changed it", base = "1", new = "1" },
        { path = "gone", action = "remove", base = "1" },
        { path = "both", action = "keep", resolved = "ours", base = "1", new = "2" },
      } },
      artifacts = {
        ["0"] = { source_commit = "abc123" }, ["1"] = { backup_path = "b" },
        ["4"] = { server_version = json.null, tools_registered = 8 }, mine = { any = 1 },
      },
    })
    assert(report.to_dict(r))
    assert.same({
      added = { { path = "new", reason = "new upstream" } },
      kept = { { path = "edited", reason = "you changed it" } },
      removed = { { path = "gone" } },
      conflicts = { { path = "both", resolution = "ours" } },
    }, r.changes)
    assert.equal("abc123", r.commit)
    assert.equal("b", r.backup_path)
    assert.equal("/src", r.source)
    assert.same({ answered = true, tools = 8 }, r.server)
    assert.same({ what = "phase 3 failed" }, r.failure)
    assert.same({ { id = "a", title = "A", verdict = "ok", seconds = 1, limit = 5, used = 2 } },
      r.phases)
  end)
end)

describe("the server in an UpgradeReport", function()
  local function server(artifacts)
    return report.new({ session_id = ID, started_at = "2025-10-08T10:30:00Z",
      artifacts = artifacts }).server
  end

  it("comes from the health check when the validation did not get that far", function()
    assert.same({ answered = true }, server({ ["3"] = { server_health_check = "passed" } }))
    assert.same({ answered = false }, server({ ["3"] = { server_health_check = "failed" } }))
    assert.is_nil(server({ ["3"] = { server_health_check = json.null } }))
    assert.is_nil(server({}))
  end)
end)

describe("the summaries in an UpgradeReport", function()
  local artifacts = { ["1"] = {
    backup_path = "b", backup_timestamp = "2025-10-08T10:30:45Z", files_backed_up = 2,
    backup_size_bytes = 1000, backup_manifest = "b/MANIFEST.json", integrity_verified = true,
    lock_acquired = true,
  } }

  it("come from the evidence unless they are given", function()
    local fields = { session_id = ID, started_at = "2025-10-08T10:30:00Z", artifacts = artifacts }
    assert.same({ ["1"] = "2 files backed up, 1 kB" }, report.new(fields).phase_summaries)
    fields.phase_summaries = { ["1"] = "given" }
    assert.same({ ["1"] = "given" }, report.new(fields).phase_summaries)
  end)
end)

describe("report.to_markdown", function()
  it("tells outcome, phases, changes, backup, server and what is next", function()
    local md = report.to_markdown(full())
    for _, part in ipairs({
      "# Upgrade report\n\n**Upgraded from 1.2.0 to 1.3.0 and validated in 1 min 15 s.**\n",
      "- Session: `" .. ID .. "`\n", "- Backup: `.praxis-os/.backups/2025-10-08-103045`\n",
      "| 0 | Pre-flight checks | ok | 250 ms | source is clean |\n",
      "|  | Mine \\| yours | ok | 1 min 1 s | 2 keys |\n",
      "### Added (1)\n\n- `standards/new.md`\n",
      "### Updated (1)\n\n- `standards/old.md`: changed upstream\n",
      "### Removed (1)\n", "### Kept as you changed them (1)\n",
      "### Conflicts (3)\n\n- `workflows/both.md`: both changed it; yours was kept (as you "
        .. "answered last time)\n- `` workflows/odd`name.md ``: the new one was taken, yours is in "
        .. "the backup (by policy)\n- `workflows/third.md`: merged by hand (as you answered)\n",
      "The server answered: version 1.3.0, 8 tools, over stdio.\n",
      "- the newest backup was 12 days old\n", "- the source is not on main\n",
      "`praxlua rollback " .. ID .. "`",
    }) do
      assert.truthy(md:find(part, 1, true), part .. "\n" .. md)
    end
  end)

  it("says how it ended in each case", function()
    local function first(changes)
      return report.to_markdown(full(changes)):match("%*%*(.-)%*%*")
    end
    assert.truthy(first({ success = false, rollback_performed = true })
      :find("failed after 1 min 15 s and was rolled back; the installation is as before", 1, true))
    assert.truthy(first({ success = true, rollback_performed = true }):find("taken back", 1, true))
    assert.truthy(first({ success = false }):find("was not completed", 1, true))
    assert.truthy(first({ from_version = "1.3.0" }):find("Upgraded at 1.3.0 and", 1, true))
    assert.truthy(first({ from_version = "" }):find("from an unknown version to 1.3.0", 1, true))
    local failed = report.to_markdown(full({
      success = false, rollback_performed = true, server = { answered = false, detail = "exit 2" },
      failure = { what = "no answer", where = "phase 3", next = "look at the log" },
    }))
    assert.truthy(failed:find("- What: no answer\n- Where: phase 3\n- Next: look at the log\n", 1,
      true))
    assert.truthy(failed:find("The server did not answer: exit 2\n", 1, true))
  end)

  it("caps each list and counts the rest", function()
    local many = {}
    for i = 1, 205 do many[i] = { path = string.format("f%03d", i) } end
    local md = report.to_markdown(full({ changes = { added = many } }))
    assert.truthy(md:find("### Added (205)", 1, true))
    assert.truthy(md:find("- `f200`\n- and 5 more files\n", 1, true))
    assert.is_nil(md:find("f201", 1, true))
  end)

  it("leaves out sections that have nothing in them", function()
    local md = report.to_markdown(report.new({
      session_id = ID, started_at = "2025-10-08T10:30:00Z", success = true,
    }))
    for _, title in ipairs({ "Phases", "Server", "Issues", "Warnings", "What went wrong" }) do
      assert.is_nil(md:find("## " .. title, 1, true), title)
    end
    assert.is_nil(md:find("Backup", 1, true))
  end)

  it("says so when nothing changed", function()
    assert.truthy(report.to_markdown(full({ changes = {} })):find("No file was changed.", 1, true))
  end)

  it("lets no name or message be anything but text", function()
    local evil = "a`b``c\n# forged\27[31m| x | <script> [l](http://x) \xff"
    local md = report.to_markdown(full({
      changes = { added = { { path = evil, reason = evil } } }, issues_encountered = { evil },
      warnings = { "# forged", "- forged" }, from_version = evil,
      phases = { { id = "x", title = evil, verdict = evil, seconds = 1 } },
    }))
    assert.is_nil(md:find("\n%s*# forged"))
    assert.is_nil(md:find("[%z\1-\9\11-\31\127]"))
    assert.truthy(utf8.len(md))
    assert.truthy(md:find("- ``` a`b``c\\n# forged", 1, true))
    assert.truthy(md:find("- \\# forged\n- \\- forged\n", 1, true))
    assert.is_nil(md:gsub("```.-```", ""):find("[^\\]<script>"))
    assert.is_nil(md:gsub("```.-```", ""):find("[^\\]%[l%]"))
    local row = md:match("\n(|  |[^\n]*)\n")
    assert.equal(6, select(2, row:gsub("\\|", ""):gsub("|", "")))
  end)
end)

describe("report", function()
  local project, ctx, puts

  before_each(function()
    project = helper.tempdir()
    puts = {}
    local queue = {}
    helper.write(project .. "/.praxis-os/VERSION.txt", "1.2.0\n")
    ctx = {
      project = project, target = project .. "/.praxis-os", target_name = ".praxis-os",
      options = {}, warnings = {},
      session = {
        session_id = ID, workflow_type = "praxis_os_upgrade_v1",
        started_at = "2025-10-08T10:30:00Z",
        phase_artifacts = {
          ["0"] = { source_commit = "abc123def4567890", source_version = "1.3" },
        },
      },
    }
    ctx.warn = function(message) table.insert(ctx.warnings, message) end
    ctx.change = {
      read = function(path) return helper.read(project .. "/" .. path) end,
      put = function(path, new, options)
        puts[#puts + 1] = { path = path, data = new.data, old = options.old }
        queue[path] = puts[#puts]
        return true
      end,
      apply = function()
        local changed = 0
        for path, put in pairs(queue) do
          local data = helper.read(project .. "/" .. path)
          local present = data and core.hash.sha256(data) or false
          if put.old ~= nil and put.old ~= present then
            queue = {}
            return nil, path .. " is not as expected", "ECHANGED"
          end
          helper.write(project .. "/" .. path, put.data)
          changed = changed + 1
        end
        queue = {}
        return { changed = changed }
      end,
    }
  end)

  after_each(helper.clean)

  local function content(name) return helper.read(ctx.target .. "/" .. name) end

  describe("generate_upgrade_summary", function()
    it("writes the markdown under .cache, named by the time of completion", function()
      local path = assert(report.generate_upgrade_summary(ctx, full()))
      assert.equal(".praxis-os/.cache/upgrade-summary-2025-10-08-103115.md", path)
      assert.equal(report.to_markdown(full()), helper.read(project .. "/" .. path))
      assert.same({}, puts)
    end)

    it("never overwrites an earlier one", function()
      local first = assert(report.generate_upgrade_summary(ctx, full()))
      local second = assert(report.generate_upgrade_summary(ctx, full()))
      assert.are_not.equal(first, second)
      assert.truthy(helper.read(project .. "/" .. first))
      assert.truthy(helper.read(project .. "/" .. second))
    end)

    it("takes the report of the run when it is given facts only", function()
      ctx.report = function(facts) return full({ success = facts.success }) end
      local path = assert(report.generate_upgrade_summary(ctx))
      assert.truthy(helper.read(project .. "/" .. path):find("and validated", 1, true))
      path = assert(report.generate_upgrade_summary(ctx, { success = false }))
      assert.truthy(helper.read(project .. "/" .. path):find("was not completed", 1, true))
    end)

    it("refuses what is no report", function()
      local path, _, code = report.generate_upgrade_summary(ctx, { success = true })
      assert.is_nil(path)
      assert.equal("ESCHEMA", code)
      assert.is_nil(helper.read(ctx.target .. "/.cache"))
    end)

    it("names the file when it cannot be written", function()
      helper.write(ctx.target .. "/.cache", "a file in the way")
      local path, message = report.generate_upgrade_summary(ctx, full())
      assert.is_nil(path)
      assert.truthy(message:find("writing the report .praxis-os/.cache/upgrade-summary", 1, true))
    end)
  end)

  describe("generate_validation_report", function()
    it("writes what was found as JSON under .cache, with session and time", function()
      local path = assert(report.generate_validation_report(ctx, { tools = { "a" }, ok = true }))
      local name = "^%.praxis%-os/%.cache/upgrade%-validation%-%d%d%d%d%-%d%d%-%d%d%-%d+%.json$"
      assert.truthy(path:find(name))
      local dict = assert(json.decode(helper.read(project .. "/" .. path)))
      assert.equal(1, dict.format_version)
      assert.equal(ID, dict.session_id)
      assert.equal("praxis_os_upgrade_v1", dict.workflow_type)
      assert.truthy(dict.created_at:find("^%d%d%d%d%-%d%d%-%d%dT"))
      assert.same({ tools = { "a" }, ok = true }, dict.results)
    end)

    it("refuses results that have no JSON form", function()
      local path, _, code = report.generate_validation_report(ctx, { f = print })
      assert.is_nil(path)
      assert.equal("EINVAL", code)
    end)
  end)

  describe("update_installation_summary", function()
    local info = { from_version = "1.2.0", to_version = "1.3.0", backup_path = ".backups/x",
      server = "version 1.3.0, 8 tools", upgrade_summary = ".praxis-os/.cache/s.md",
      changes = { added = 3, updated = { "a", "b" }, removed = 0, kept = 1, conflicts = 0 } }

    it("makes the file where there is none, expecting none", function()
      assert.is_true(report.update_installation_summary(ctx, info))
      assert.is_false(puts[1].old)
      local text = content("INSTALLATION_SUMMARY.md")
      assert.truthy(text:find("^# Installation summary\n\n## Upgrade %d%d%d%d%-%d%d%-%d%d "))
      for _, part in ipairs({ "- From version: 1.2.0\n", "- To version: 1.3.0\n",
        "- Commit: `abc123def4567890`\n", "- Backup: `.backups/x`\n",
        "- Files: Added: 3, Updated: 2, Removed: 0, Kept: 1, Conflicts: 0\n",
        "- Server: version 1.3.0, 8 tools\n", "- Report: `.praxis-os/.cache/s.md`\n" }) do
        assert.truthy(text:find(part, 1, true), part)
      end
    end)

    it("appends to what is there, expecting just that, and keeps it", function()
      helper.write(ctx.target .. "/INSTALLATION_SUMMARY.md", "# Mine\nno newline at the end")
      assert.is_true(report.update_installation_summary(ctx, info))
      assert.equal(core.hash.sha256("# Mine\nno newline at the end"), puts[1].old)
      assert.truthy(content("INSTALLATION_SUMMARY.md")
        :find("^# Mine\nno newline at the end\n\n## Upgrade "))
    end)

    it("writes one section a session", function()
      for _ = 1, 3 do assert.is_true(report.update_installation_summary(ctx, info)) end
      local text = content("INSTALLATION_SUMMARY.md")
      assert.equal(1, select(2, text:gsub(SECTION, "")))
      ctx.session.session_id = "4f2b8c1e-9a4d-4e21-8b7c-0123456789ab"
      assert.is_true(report.update_installation_summary(ctx, info))
      assert.equal(2, select(2, content("INSTALLATION_SUMMARY.md"):gsub(SECTION, "")))
    end)

    it("takes what it is not told from the report of the run", function()
      ctx.report = function() return full() end
      assert.is_true(report.update_installation_summary(ctx))
      local text = content("INSTALLATION_SUMMARY.md")
      assert.truthy(text:find("- To version: 1.3.0\n", 1, true))
      assert.truthy(text:find("Added: 1, Updated: 1, Removed: 1, Kept: 1, Conflicts: 3", 1, true))
      assert.truthy(text:find("- Server: The server answered: version 1.3.0", 1, true))
    end)

    it("passes on that the file changed at the same moment", function()
      local apply = ctx.change.apply
      ctx.change.apply = function()
        helper.write(ctx.target .. "/INSTALLATION_SUMMARY.md", "the user was faster")
        return apply()
      end
      local ok, message, code = report.update_installation_summary(ctx, info)
      assert.is_nil(ok)
      assert.equal("ECHANGED", code)
      assert.truthy(message:find("INSTALLATION_SUMMARY.md", 1, true))
      assert.equal("the user was faster", content("INSTALLATION_SUMMARY.md"))
    end)
  end)

  describe("append_to_update_log", function()
    local changes = { added = 3, updated = 12, removed = 1, kept = 4, conflicts = 2 }
    local FORM = "^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d | v1%.3%.0 | abc123def456 | "

    it("writes one line of the documented form", function()
      assert.is_true(report.append_to_update_log(ctx, "1.3.0", changes))
      local text = content("UPDATE_LOG.txt")
      assert.truthy(text:find(FORM), text)
      assert.truthy(text:find("| Added: 3, Updated: 12, Removed: 1, Kept: 4, Conflicts: 2\n$"))
      assert.equal(1, select(2, text:gsub("\n", "")))
    end)

    it("appends after what is there, also after a line without an end", function()
      helper.write(ctx.target .. "/UPDATE_LOG.txt", "2025-09-15 10:15:00 | v1.2.2 | def456 | x")
      assert.is_true(report.append_to_update_log(ctx, "v1.3.0", changes))
      local first, second = content("UPDATE_LOG.txt"):match("^([^\n]*)\n([^\n]*)\n$")
      assert.equal("2025-09-15 10:15:00 | v1.2.2 | def456 | x", first)
      assert.truthy(second:find(FORM))
    end)

    it("takes the names of the evidence of phase 2, and a commit", function()
      assert.is_true(report.append_to_update_log(ctx, "1.3.0", { commit = "99aa", new_files = 5,
        updated_files = 6, removed_files = 7, local_only = 8, conflicts = 0,
        conflicts_resolved = 9 }))
      assert.truthy(content("UPDATE_LOG.txt"):find(
        "| 99aa | Added: 5, Updated: 6, Removed: 7, Kept: 8, Conflicts: 9\n", 1, true))
    end)

    it("keeps one line a session and brings its counts up to date", function()
      helper.write(ctx.target .. "/UPDATE_LOG.txt",
        "2020-01-01 00:00:00 | v1.3.0 | abc123def456 | Added: 0, an earlier session\n")
      assert.is_true(report.append_to_update_log(ctx, "1.3.0", changes))
      assert.is_true(report.append_to_update_log(ctx, "1.3.0", changes))
      assert.equal(1, #puts)
      assert.is_true(report.append_to_update_log(ctx, "1.3.0", { added = 99 }))
      local text = content("UPDATE_LOG.txt")
      assert.equal(2, select(2, text:gsub("\n", "")))
      assert.truthy(text:find("an earlier session\n", 1, true))
      assert.truthy(text:find("Added: 99, Updated: 0", 1, true))
    end)

    it("takes version and changes from the report of the run", function()
      ctx.report = function() return full() end
      assert.is_true(report.append_to_update_log(ctx))
      assert.truthy(content("UPDATE_LOG.txt"):find("| v1.3.0 | abc123def456 | Added: 1,", 1, true))
    end)

    it("lets no version forge a line or a field", function()
      assert.is_true(report.append_to_update_log(ctx, "1 | x\n2020-01-01 | v9\27[2J", changes))
      local text = content("UPDATE_LOG.txt")
      assert.equal(1, select(2, text:gsub("\n", "")))
      assert.equal(3, select(2, text:gsub("|", "")))
      assert.is_nil(text:sub(1, -2):find("%c"))
    end)
  end)

  it("writes nothing at all in a dry run", function()
    ctx.options.dry_run, ctx.change = true, nil
    assert.truthy(report.generate_upgrade_summary(ctx, full()):find("upgrade-summary", 1, true))
    assert.truthy(report.generate_validation_report(ctx, {}):find("upgrade-validation", 1, true))
    assert.is_false(report.update_installation_summary(ctx, {}))
    assert.is_false(report.append_to_update_log(ctx, "1", {}))
    assert.is_false(report.commit_changes(ctx))
    local entries = assert(core.tree.list(project))
    assert.equal(2, #entries)
  end)

  describe("commit_changes", function()
    local function git(...)
      local result = assert(process.run({
        argv = { "git", "-C", project, "-c", "user.name=t", "-c", "user.email=t@example.org", ... },
        environment = process.environment(),
      }))
      return result.stdout, result.code
    end

    before_each(function()
      ctx.options.git_commit = true
      git("init", "--quiet", "--initial-branch=main")
      git("config", "user.name", "t")
      git("config", "user.email", "t@example.org")
      helper.tree(project, {
        ["mine.txt"] = "1", [".gitignore"] = "*.log\n", [".praxis-os/old.md"] = "old",
      })
      git("add", "--all")
      git("commit", "--quiet", "-m", "first")
      helper.tree(project, {
        ["mine.txt"] = "2", ["staged.txt"] = "s", [".gitignore"] = "*.log\n.praxis-os/.cache/\n",
        [".praxis-os/VERSION.txt"] = "1.3.0\n", [".praxis-os/new.md"] = "new",
        [".praxis-os/.upgrade/x/journal"] = "j", [".praxis-os/.backups/b/MANIFEST.json"] = "{}",
        [".praxis-os/venv/pyvenv.cfg"] = "v", [".praxis-os/.upgrade-lock"] = "l",
      })
      os.remove(project .. "/.praxis-os/old.md")
      git("add", "staged.txt")
      local changed = {
        ".gitignore", ".praxis-os/VERSION.txt", ".praxis-os/new.md", ".praxis-os/old.md",
      }
      ctx.changed_paths = function() return changed end
      ctx.folder = helper.tempdir() -- the session's
    end)

    it("commits what the upgrade changed and nothing else", function()
      helper.write(project .. "/.praxis-os/specs/mine.md", "not yet to be committed")
      assert.is_true(report.commit_changes(ctx))
      assert.same({}, ctx.warnings)
      assert.equal(".gitignore\n.praxis-os/VERSION.txt\n.praxis-os/new.md\n.praxis-os/old.md\n",
        (git("show", "--name-only", "--format=", "HEAD")))
      assert.equal("M mine.txt", (git("status", "--porcelain", "mine.txt"):match("%S.*%S")))
      assert.equal("A  staged.txt\n", (git("status", "--porcelain", "staged.txt")))
      assert.equal("?? .praxis-os/specs/\n", (git("status", "--porcelain", ".praxis-os/specs")))
      local message = git("log", "-1", "--format=%B")
      assert.truthy(message:find("Upgrade .praxis-os to 1.3\n\nSource commit: abc123def4567890", 1,
        true))
    end)

    it("sees to it that what git writes reaches the disk", function()
      local original, argv = process.run, {}
      process.run = function(options) -- luacheck: ignore 122
        argv[#argv + 1] = table.concat(options.argv, " ")
        return original(options)
      end
      local ok = pcall(report.commit_changes, ctx)
      process.run = original -- luacheck: ignore 122
      assert.is_true(ok and #argv > 4)
      for _, line in ipairs(argv) do
        assert.truthy(line:find("^git [^ ]+ %-c core%.fsync=all "), line)
      end
    end)

    it("does nothing unless it was asked to", function()
      ctx.options.git_commit = false
      local before = git("status", "--porcelain")
      assert.is_false(report.commit_changes(ctx))
      assert.equal(before, (git("status", "--porcelain")))
    end)

    it("declines with a warning in the middle of a merge", function()
      helper.write(project .. "/.git/MERGE_HEAD", "x")
      assert.is_false(report.commit_changes(ctx))
      assert.truthy(ctx.warnings[1]:find("a merge is under way", 1, true))
    end)

    it("takes its own commit back, and no other", function()
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      assert.is_true(report.commit_changes(ctx))
      assert.not_equal(head, (git("rev-parse", "HEAD")))
      commit.undo(ctx)
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.equal(before, (git("status", "--porcelain")))
      commit.undo(ctx)
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.same({}, ctx.warnings)
    end)

    it("takes its commit back later when git could not do it at first", function()
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      local branch = project .. "/.git/" .. git("symbolic-ref", "HEAD"):gsub("%s+$", "") .. ".lock"
      assert.is_true(report.commit_changes(ctx))
      helper.write(branch, "")
      local again = commit.undo(ctx)
      assert.is_function(again)
      again()
      assert.truthy(ctx.warnings[1]:find("could not be taken back: git update-ref", 1, true))
      assert(os.remove(branch))
      ctx.changed_paths = function() return {} end -- undone by now
      again()
      assert.equal(1, #ctx.warnings)
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.equal(before, (git("status", "--porcelain")))
    end)

    it("takes its commit back although a killed git left the lock of the index", function()
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      assert.is_true(report.commit_changes(ctx))
      helper.write(project .. "/.git/index.lock", "")
      commit.undo(ctx)()
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.truthy(ctx.warnings[1]:find("still staged: git update-index", 1, true))
      assert.truthy(ctx.warnings[1]:find(".git/index.lock", 1, true))
      assert(os.remove(project .. "/.git/index.lock"))
      git("reset", "--quiet", "--", ".praxis-os", ".gitignore")
      assert.equal(before, (git("status", "--porcelain")))
    end)

    it("takes back what was only staged when the run was killed", function()
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      local committed = process.run
      process.run = function(options) -- luacheck: ignore 122
        for _, word in ipairs(options.argv) do
          if word == "commit" then error("killed") end
        end
        return committed(options)
      end
      local ok = pcall(report.commit_changes, ctx)
      process.run = committed -- luacheck: ignore 122
      assert.is_false(ok)
      assert.not_equal(before, (git("status", "--porcelain")))
      assert.is_nil(commit.undo(ctx))
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.equal(before, (git("status", "--porcelain")))
    end)

    it("gives back what somebody had staged of the same paths", function()
      git("add", ".praxis-os/new.md")
      helper.write(project .. "/.praxis-os/new.md", "newer")
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      local staged = git("diff", "--cached")
      assert.truthy(before:find("AM .praxis-os/new.md", 1, true))
      assert.is_true(report.commit_changes(ctx))
      assert.is_nil(commit.undo(ctx))
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.equal(before, (git("status", "--porcelain")))
      assert.equal(staged, (git("diff", "--cached")))
      helper.write(project .. "/.git/hooks/pre-commit", "#!/bin/sh\nexit 1\n")
      assert(os.execute("chmod +x " .. project .. "/.git/hooks/pre-commit"))
      assert.is_false(report.commit_changes(ctx))
      assert.equal(before, (git("status", "--porcelain")))
      assert.equal(staged, (git("diff", "--cached")))
    end)

    it("takes back the first commit that a repository has", function()
      git("update-ref", "-d", "HEAD")
      local before = git("status", "--porcelain")
      assert.is_true(report.commit_changes(ctx))
      assert.equal("1\n", (git("rev-list", "--count", "HEAD")))
      assert.is_nil(commit.undo(ctx))
      assert.equal(128, select(2, git("rev-parse", "HEAD")))
      assert.equal(before, (git("status", "--porcelain")))
      assert.same({}, ctx.warnings)
    end)

    it("commits where git never knew a file that was removed", function()
      git("rm", "--cached", "--quiet", ".praxis-os/old.md")
      git("commit", "--quiet", "-m", "second")
      assert.is_true(report.commit_changes(ctx))
      assert.same({}, ctx.warnings)
      assert.equal(".gitignore\n.praxis-os/VERSION.txt\n.praxis-os/new.md\n",
        (git("show", "--name-only", "--format=", "HEAD")))
    end)

    -- Calls f() while each git whose arguments have this word fails in that way.
    local function with_failing(word, outcome, f)
      local original = process.run
      process.run = function(options) -- luacheck: ignore 122
        for _, argument in ipairs(options.argv) do
          if argument == word then return outcome() end
        end
        return original(options)
      end
      local results = table.pack(pcall(f))
      process.run = original -- luacheck: ignore 122
      return table.unpack(results, 1, results.n)
    end

    local function no_process() return nil, "too many open files", "EMFILE" end

    it("declines when git cannot tell how things are, and changes nothing", function()
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      for i, word in ipairs({ "rev-parse", "ls-files", "ls-tree", "add", "commit" }) do
        local ok, committed = with_failing(word, no_process, function()
          return report.commit_changes(ctx)
        end)
        assert.is_true(ok)
        assert.is_false(committed, word)
        assert.equal(i, #ctx.warnings)
        assert.is_nil(commit.undo(ctx))
        assert.equal(head, (git("rev-parse", "HEAD")))
        assert.equal(before, (git("status", "--porcelain")))
      end
    end)

    it("says so when git cannot be asked for the way back, and tries once more", function()
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      assert.is_true(report.commit_changes(ctx))
      for _, word in ipairs({ "rev-parse", "log", "rev-list" }) do
        local _, again = with_failing(word, no_process, function() return commit.undo(ctx) end)
        assert.is_function(again)
        ctx.warnings = {}
        with_failing(word, no_process, again)
        assert.truthy(ctx.warnings[1]:find("could not be taken back", 1, true))
      end
      assert.is_nil(commit.undo(ctx))
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.equal(before, (git("status", "--porcelain")))
    end)

    it("knows how things were before a run that was killed, when it is resumed", function()
      local function killed() error("killed") end
      local before, head = git("status", "--porcelain"), git("rev-parse", "HEAD")
      for _, word in ipairs({ "commit", "nothing" }) do
        with_failing(word, killed, function() return report.commit_changes(ctx) end)
        helper.write(project .. "/.praxis-os/new.md", "with another time: " .. word)
        assert.is_true(report.commit_changes(ctx))
        assert.equal("2\n", (git("rev-list", "--count", "HEAD")))
        helper.write(project .. "/.praxis-os/new.md", "new")
        assert.is_nil(commit.undo(ctx))
        assert.equal(head, (git("rev-parse", "HEAD")))
        assert.equal(before, (git("status", "--porcelain")))
      end
      assert.same({}, ctx.warnings)
    end)

    it("keeps what somebody commits in the moment before", function()
      local theirs
      local original = process.run
      process.run = function(options) -- luacheck: ignore 122
        if options.argv[#options.argv] == "--pathspec-file-nul" and not theirs then
          git("commit", "--quiet", "-m", "mine", "staged.txt")
          theirs = git("rev-parse", "HEAD")
        end
        return original(options)
      end
      local ok, committed = pcall(report.commit_changes, ctx)
      process.run = original -- luacheck: ignore 122
      assert.is_true(ok and committed)
      assert.is_nil(commit.undo(ctx))
      assert.equal(theirs, (git("rev-parse", "HEAD")))
      assert.equal("", (git("diff", "--cached", "--name-only")))
    end)

    it("leaves a repository alone in which somebody went on from its commit", function()
      assert.is_true(report.commit_changes(ctx))
      git("commit", "--quiet", "-m", "mine")
      local head, status = git("rev-parse", "HEAD"), git("status", "--porcelain")
      assert.is_nil(commit.undo(ctx))
      assert.equal(head, (git("rev-parse", "HEAD")))
      assert.equal(status, (git("status", "--porcelain")))
    end)

    it("works in a project that is a folder of its repository", function()
      local above = helper.tempdir()
      core.tree.remove(project .. "/.git")
      assert(os.execute(("cd %s && git init -q && cp -a %s project"):format(above, project)))
      ctx.project = above .. "/project"
      project = ctx.project
      git("config", "user.name", "t")
      git("config", "user.email", "t@example.org")
      git("add", ".praxis-os/new.md")
      git("commit", "--quiet", "-m", "first")
      helper.write(project .. "/.praxis-os/new.md", "newer")
      git("add", ".praxis-os/new.md")
      local before = git("status", "--porcelain")
      assert.is_true(report.commit_changes(ctx))
      assert.same({}, ctx.warnings)
      assert.is_nil(commit.undo(ctx))
      assert.equal(before, (git("status", "--porcelain")))
    end)

    it("declines where everything that was changed is ignored", function()
      helper.write(project .. "/.gitignore", ".praxis-os\n.gitignore\n")
      git("rm", "-r", "--quiet", "--cached", ".praxis-os", ".gitignore")
      assert.is_false(report.commit_changes(ctx))
      assert.truthy(ctx.warnings[1]:find("ignores everything", 1, true))
    end)

    it("declines outside a repository, and when a hook refuses, and takes its add back", function()
      helper.write(project .. "/.git/hooks/pre-commit", "#!/bin/sh\necho no thanks >&2\nexit 1\n")
      process.run({ argv = { "/bin/chmod", "+x", project .. "/.git/hooks/pre-commit" },
        environment = {} })
      assert.is_false(report.commit_changes(ctx))
      assert.truthy(ctx.warnings[1]:find("no thanks", 1, true))
      assert.equal("A  staged.txt\n", (git("status", "--porcelain", "staged.txt")))
      assert.equal("?? .praxis-os/new.md\n", (git("status", "--porcelain", ".praxis-os/new.md")))
      core.tree.remove(project .. "/.git")
      assert.is_false(report.commit_changes(ctx))
      assert.equal(2, #ctx.warnings)
    end)

    it("declines when there is nothing to commit", function()
      assert.is_true(report.commit_changes(ctx))
      ctx.folder = helper.tempdir() -- another session's
      assert.is_false(report.commit_changes(ctx))
      assert.equal(1, #ctx.warnings)
    end)
  end)
end)
