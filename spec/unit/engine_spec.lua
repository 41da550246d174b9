--- The engine as a whole, through the command line: what a run ends as, and what it leaves.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local repository = require("spec.support.repository")
local tiny = require("spec.support.tiny")

describe("An upgrade", function()
  local s, before

  after_each(helper.clean)

  local function prepare(options)
    s = tiny.new(options)
    before = tiny.snapshot(s)
  end

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  describe("that goes well", function()
    it("takes over the new release, keeps what is the user's, and is then done for good", function()
      prepare()
      tiny.write(s, "standards/development/mine.md", "mine\n")
      tiny.write(s, "standards/universal/testing/pyramid.md", "my pyramid\n")
      local result = tiny.upgrade(s)
      assert.equal(0, result.code, result.stderr)
      assert.equal("completed", result.last.status)
      assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
      assert.equal("phase 2\n", tiny.read(s, "workflows/flow/phase.md"))
      assert.is_nil(tiny.read(s, "standards/universal/testing/retired.md"))
      assert.equal("mine\n", tiny.read(s, "standards/development/mine.md"))
      assert.equal("my pyramid\n", tiny.read(s, "standards/universal/testing/pyramid.md"))
      assert.is_true(tiny.is_settled(s))
      local session = tiny.sessions(s)[result.last.session_id]
      assert.equal("completed", session.status)
      assert.same({ 0, 1, 2, 3, 4, 5 }, session.completed_phases)
      assert.equal("1.0.0", session.metadata.from_version)
      local report = tiny.event(result, "report")
      assert.is_true(report.report.success)
      assert.is_string(helper.read(s.project .. "/" .. report.path))

      local exact = tiny.exact(s)
      local again = tiny.upgrade(s)
      assert.equal(0, again.code)
      assert.equal("nothing_to_do", again.last.status)
      assert.same(exact, tiny.exact(s))
    end)

    it("works in a project and with files whose names are not UTF-8", function()
      prepare({ second = { ["universal/standards/testing/caf\xe9.md"] = "un caf\xe9\n" } })
      local odd = s.root .. "/pro\xff\10ject"
      assert(os.rename(s.project, odd))
      s.project, s.target = odd, odd .. "/" .. tiny.NAME
      tiny.write(s, "standards/universal/testing/\xfe.md", "mine\n")
      before = tiny.snapshot(s)
      local result = tiny.upgrade(s)
      assert.equal(0, result.code, result.stderr)
      assert.equal(s.target, tiny.event(result, "session_started").target)
      assert.equal("un caf\xe9\n", tiny.read(s, "standards/universal/testing/caf\xe9.md"))
      assert.equal("mine\n", tiny.read(s, "standards/universal/testing/\xfe.md"))
      assert.is_nil(result.stderr:find("\xff", 1, true))
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end)

    it("says nothing with --quiet but what has to be acted on", function()
      prepare()
      local result = tiny.run(s, { "upgrade", "--source", s.source, "--quiet" })
      assert.equal(0, result.code)
      assert.equal("", result.stdout .. result.stderr)
    end)
  end)

  describe("with --git-commit", function()
    local function git(...) return repository.git(s.project, ...) end

    local function make_repository(ignored)
      prepare()
      git("init", "-q", "-b", "main")
      git("config", "user.name", "A")
      git("config", "user.email", "a@example.invalid")
      helper.write(s.project .. "/.gitignore", tiny.NAME .. "/venv/\n" .. (ignored or ""))
      helper.write(s.project .. "/app.py", "1\n")
      git("add", "-A")
      git("commit", "-q", "-m", "begin")
      helper.write(s.project .. "/app.py", "2\n")
      git("add", "app.py")
      helper.write(s.project .. "/untracked.py", "3\n")
    end

    it("commits what the upgrade changed and leaves the user's staged work alone", function()
      make_repository()
      local result = tiny.upgrade(s, { "--git-commit" })
      assert.equal(0, result.code, result.stderr)
      local committed = {}
      for path in git("show", "--name-only", "--format=", "HEAD"):gmatch("[^\n]+") do
        committed[path] = true
      end
      assert.is_true(committed[tiny.NAME .. "/" .. tiny.GUIDE])
      assert.is_true(committed[tiny.NAME .. "/standards/universal/testing/retired.md"])
      assert.is_nil(committed["app.py"])
      assert.equal("M  app.py", (git("status", "--porcelain", "app.py")))
      assert.equal("?? untracked.py", (git("status", "--porcelain", "untracked.py")))
      local artifacts = tiny.sessions(s)[result.last.session_id].phase_artifacts
      assert.is_true(artifacts["5"].git_changes_committed)
    end)

    it("warns and does not fail where git ignores the installation", function()
      make_repository(tiny.NAME .. "/\n.gitignore\n")
      local head = git("rev-parse", "HEAD")
      local result = tiny.upgrade(s, { "--git-commit" })
      assert.equal(0, result.code, result.stderr)
      assert.truthy(tiny.event(result, "warning").message:find("not committed", 1, true))
      assert.equal(head, git("rev-parse", "HEAD"))
      assert.equal("M  app.py", (git("status", "--porcelain", "app.py")))
    end)
  end)

  it("keeps as many backups as --keep-backups says", function()
    prepare()
    for _ = 1, 3 do assert.equal(0, tiny.run(s, { "backup", "create" }).code) end
    local result = tiny.upgrade(s, { "--keep-backups", "2" })
    assert.equal(0, result.code, result.stderr)
    assert.equal(2, #tiny.names(s, ".backups"))
    local artifacts = tiny.sessions(s)[result.last.session_id].phase_artifacts
    assert.equal(2, artifacts["5"].old_backups_archived)
  end)

  it("passes on --no-restart and --health-timeout, and warns of what it leaves", function()
    prepare({ second = { ["mcp_server/fault"] = "hangs\n" } })
    local result = tiny.upgrade(s, { "--no-restart", "--health-timeout", "0.3" })
    assert.equal(1, result.code)
    local failed = tiny.event(result, "phase_failed")
    assert.is_true(failed.seconds < 20)
    local session = tiny.sessions(s)[result.last.session_id]
    assert.is_false(session.metadata.options.restart)
    assert.is_false(session.metadata.auto_restart)
    assert.equal(0.3, session.metadata.options.health_timeout)
    is_as_before()
  end)

  it("that is already running makes a second one exit 6 and name it", function()
    prepare()
    local folder = tiny.phase(s, "waits", [[
      local phase = { title = "Waits", after = "content-upgrade" }
      function phase.run(host) while true do host.time() end end
      return phase
    ]])
    local first = tiny.start(s, { "--phases", folder })
    assert(command.await(first, function(event) return event.phase == "waits" end))
    local second = tiny.upgrade(s)
    local status = tiny.json(s, { "status" })
    command.kill(first, "TERM")
    assert.equal(143, tiny.finish(first).code)
    assert.equal(6, second.code)
    assert.equal("busy", second.last.status)
    assert.truthy(second.last.message:find("process " .. first.pid, 1, true), second.last.message)
    local data = tiny.event(status, "result").data
    assert.is_true(data.locked)
    assert.is_true(data.sessions[1].running)
    assert.same({}, data.unfinished)
    is_as_before()
  end)
end)

describe("After a kill", function()
  local s, before
  local wrecks = {}

  teardown(helper.clean)

  -- An upgrade killed where the patched code calls die(): made once, and each who asks for it gets
  -- it as it was, at the same place.
  local function killed(patch)
    local wreck = wrecks[patch]
    if wreck then
      s, before = wreck.s, wreck.before
      tiny.reset(s)
      return wreck.id
    end
    s = tiny.new()
    before = tiny.snapshot(s)
    local result = tiny.patched_upgrade(s, patch)
    assert.equal(137, result.code, result.stderr)
    tiny.save(s)
    local id = tiny.event(result, "session_started").session_id
    wrecks[patch] = { s = s, before = before, id = id }
    return id
  end

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  local function is_upgraded()
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("# second release\n", tiny.read(s, "mcp_server/__init__.py"))
    assert.is_true(tiny.is_settled(s))
  end

  -- Where to die, and whether the installation is final there.
  local POINTS = {
    ["before the transaction"] = { 'require("praxlua.server").remember = die' },
    ["before its first checkpoint"] = { [[
      local run = require("praxlua.run")
      local open = run.open_transaction
      run.open_transaction = function(...)
        open(...)
        die()
      end
    ]] },
    ["in phase 1"] = { [[
      local create = core.archive.create
      core.archive.create = function(...)
        create(...)
        die()
      end
    ]] },
    ["in phase 2"] = { 'require("praxlua.report").append_to_update_log = die' },
    ["in phase 3"] = { 'require("praxlua.server").restart_server = die' },
    ["in phase 5"] = { 'require("praxlua.backup").archive_old_backups = die' },
    ["right after the commit"] = { 'require("praxlua.environment").keep = die', true },
    ["while the undo data is deleted"] = { [[
      local rename = core.file.rename
      core.file.rename = function(from, to)
        if to:find("%.done%-") then die() end
        return rename(from, to)
      end
    ]], true },
  }

  for where, point in pairs(POINTS) do
    it(where .. ", resume completes the upgrade", function()
      local id = killed(point[1])
      local result = tiny.json(s, { "resume" })
      assert.equal(0, result.code, result.stderr)
      assert.equal("completed", result.last.status)
      is_upgraded()
      assert.equal("completed", tiny.sessions(s)[id].status)
      assert.equal("nothing_to_do", tiny.json(s, { "resume" }).last.status)
    end)

    it(where .. ", rollback brings the old one back", function()
      local id = killed(point[1])
      local result = tiny.json(s, { "rollback", "--reason", "changed my mind" })
      assert.equal(0, result.code, result.stderr)
      is_as_before()
      local session = tiny.sessions(s)[id]
      assert.equal("rolled_back", session.status)
      assert.equal("changed my mind", session.metadata.rollback_reason)
      local again = tiny.json(s, { "rollback" })
      assert.equal(0, again.code)
      assert.equal("nothing_to_do", again.last.status)
      assert.equal("nothing_to_do", tiny.json(s, { "rollback", id }).last.status)
    end)
  end

  it("before its first checkpoint and without a state file, nothing is left to resume", function()
    for word, code in pairs({ resume = 3, rollback = 0 }) do
      local id = killed(POINTS["before its first checkpoint"][1])
      for _, ending in ipairs({ ".json", ".json.previous" }) do
        assert(os.remove(s.target .. "/.cache/state/" .. id .. ending))
      end
      local result = tiny.json(s, { word })
      assert.equal(code, result.code, result.stderr)
      is_as_before()
      assert.equal(0, tiny.upgrade(s).code)
    end
  end)

  it("in its rollback, both ways lead back to the old one", function()
    for _, command_word in ipairs({ "resume", "rollback" }) do
      killed([[
        local server = require("praxlua.server")
        server.restart_server = function() return nil, "no", "EIO" end
        server.restore = die
      ]])
      local result = tiny.json(s, { command_word })
      assert.equal(0, result.code, result.stderr)
      assert.equal("rolled_back", result.last.status)
      is_as_before()
    end
  end)

  for _, where in ipairs({ "right after the commit", "while the undo data is deleted" }) do
    it(where .. ", the next upgrade clears up and finds nothing to do", function()
      local id = killed(POINTS[where][1])
      assert.equal(3, tiny.upgrade(s, { "--dry-run" }).code)
      local result = tiny.upgrade(s)
      assert.equal(0, result.code, result.stderr)
      assert.equal("nothing_to_do", result.last.status)
      is_upgraded()
      assert.equal("completed", tiny.sessions(s)[id].status)
    end)
  end

  it("between its undo and the clearing up, the next upgrade ends the rollback first", function()
    local id = killed([[
      local server = require("praxlua.server")
      server.restart_server = function() return nil, "no", "EIO" end
      require("praxlua.run").end_session = die
    ]])
    local result = tiny.upgrade(s)
    assert.equal(0, result.code, result.stderr)
    assert.equal("completed", result.last.status)
    is_upgraded()
    assert.equal("rolled_back", tiny.sessions(s)[id].status)
  end)

  it("what an earlier session was allowed is not allowed to the next one", function()
    s = tiny.new()
    tiny.write(s, tiny.GUIDE, "mine\n")
    before = tiny.snapshot(s)
    local result = tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die',
      { "--on-conflict", "theirs", "--allow-downgrade", "--git-commit" })
    assert.equal(137, result.code, result.stderr)
    result = tiny.patched_upgrade(s, [[
      local engine = require("praxlua.engine")
      local start = engine.start_workflow
      engine.start_workflow = function(r, ...)
        assert(r.options.allow_downgrade == nil and r.options.git_commit == nil)
        return start(r, ...)
      end
    ]], { "--yes" })
    assert.equal(4, result.code, result.stderr)
    assert.same(before, tiny.snapshot(s))
  end)

  it("resume keeps the options the session began with", function()
    s = tiny.new()
    tiny.write(s, tiny.GUIDE, "mine\n")
    local killed_one = tiny.patched_upgrade(s, 'require("praxlua.server").remember = die',
      { "--on-conflict", "theirs" })
    assert.equal(137, killed_one.code, killed_one.stderr)
    local result = tiny.json(s, { "resume" })
    assert.equal(0, result.code, result.stderr)
    is_upgraded()
  end)

  it("of two unfinished sessions the one that is meant has to be named", function()
    local id = killed('require("praxlua.server").restart_server = die')
    local state = require("praxlua.state")
    local other = assert(state.create_session(s.target, nil, nil, { source_path = s.source }))
    for _, word in ipairs({ "resume", "rollback" }) do
      local result = tiny.json(s, { word })
      assert.equal(2, result.code)
      assert.truthy(result.last.message:find(id, 1, true))
      assert.truthy(result.last.message:find(other.session_id, 1, true))
    end
    assert.equal(0, tiny.json(s, { "rollback", other.session_id }).code)
    assert.equal(0, tiny.json(s, { "rollback", id }).code)
    is_as_before()
  end)

  it("sessions that are over or unknown are not resumed", function()
    s = tiny.new({ second = { ["mcp_server/fault"] = "dies\n" } })
    before = tiny.snapshot(s)
    local failed = tiny.upgrade(s)
    assert.equal(1, failed.code)
    local result = tiny.json(s, { "resume", failed.last.session_id })
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find("was rolled back", 1, true))
    is_as_before()
    tiny.commit(s, { ["mcp_server/fault"] = "none\n" })
    local done = tiny.upgrade(s)
    assert.equal(0, done.code, done.stderr)
    local exact = tiny.exact(s)
    result = tiny.json(s, { "resume", done.last.session_id })
    assert.equal(0, result.code)
    assert.equal("nothing_to_do", result.last.status)
    for _, word in ipairs({ "resume", "rollback" }) do
      for _, id in ipairs({ "00000000-0000-4000-8000-000000000000", "../..", "", "x\27[2J" }) do
        result = tiny.json(s, { word, id })
        assert.equal(3, result.code, word .. " " .. id)
        assert.truthy(result.last.next:find("praxlua status", 1, true))
      end
    end
    assert.same(exact, tiny.exact(s))
  end)
end)

describe("The workflow interface", function()
  local engine = require("praxlua.engine")
  local run = require("praxlua.run")
  local state = require("praxlua.state")
  local s, r

  before_each(function()
    s = tiny.new()
    r = assert(run.open({ target = s.target, source = s.source }, { emit = function() end }))
  end)
  after_each(function()
    run.close(r)
    helper.clean()
  end)

  local function start()
    return assert(engine.start_workflow(r, state.WORKFLOW_TYPE, state.TARGET_FILE,
      { source = s.source }))
  end

  it("starts a workflow with the overview of its phases", function()
    local overview = start()
    assert.equal(0, overview.current_phase)
    assert.equal(6, #overview.phases)
    assert.same({ id = "pre-flight-checks", title = "Pre-flight checks", number = 0 },
      overview.phases[1])
    assert.truthy(tiny.sessions(s)[overview.session_id])
  end)

  it("tells the current phase and the state from disk", function()
    local id = start().session_id
    assert.same({ current_phase = 0, id = "pre-flight-checks", title = "Pre-flight checks" },
      engine.get_current_phase(s.target, id))
    local dict = engine.get_workflow_state(s.target, id)
    assert.equal(id, dict.session_id)
    assert.equal("in_progress", dict.status)
    for _, get in ipairs({ engine.get_current_phase, engine.get_workflow_state }) do
      local found, _, code = get(s.target, "00000000-0000-4000-8000-000000000000")
      assert.is_nil(found)
      assert.equal("ESTATENOTFOUND", code)
    end
  end)

  it("takes evidence that passes, and refuses evidence that does not or has no receipt", function()
    local id = start().session_id
    local custom = {
      id = "review", title = "Review", model = assert(require("praxlua.evidence").custom({
        approved = { kind = "boolean" },
      })),
    }
    local refused = engine.complete_phase(r, custom, { approved = "yes" })
    assert.is_false(refused.checkpoint_passed)
    assert.truthy(refused.message:find("approved", 1, true))
    assert.same({ checkpoint_passed = true },
      engine.complete_phase(r, custom, { approved = true }))
    assert.same({ approved = true },
      engine.get_workflow_state(s.target, id).phase_artifacts.review)
    refused = engine.complete_phase(r, r.phases[1], {
      source_path = s.source, source_version = "2", source_commit = ("a"):rep(40),
      source_git_clean = true, target_exists = true, target_structure_valid = true,
      disk_space_available = "1 GB", disk_space_required = "1 MB", no_concurrent_workflows = true,
    })
    assert.is_false(refused.checkpoint_passed)
    assert.truthy(refused.message:find("validate_source_repo", 1, true), refused.message)
  end)

  it("has no current phase when all are complete", function()
    local session = state.session.new()
    for number = 0, 5 do
      assert(state.update_phase(s.target, session, number, json.decode('{"a": 1}')))
    end
    local found, _, code = engine.get_current_phase(s.target, session.session_id)
    assert.is_nil(found)
    assert.equal("EDONE", code)
  end)
end)
