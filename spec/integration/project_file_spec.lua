--- A project's own settings in whole upgrades: what upgrade.lua says is what is done, it survives,
-- and `praxlua init` writes one.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local tiny = require("spec.support.tiny")

local START = 'echo "$1" >> "$PROJECT_ROOT/../started"\nexec lua5.4 '
  .. '"$PYTHONPATH/mcp_server/server.lua"\n'

local SETTINGS = [[
return {
  source_path = "../source", keep_backups = 5,
  components = { { name = "templates", from = "universal/templates", to = "templates",
    ownership = "system" } },
  excludes = { "workflows/experimental/**" },
  ownership = { ["standards/universal/testing"] = "user" },
  conflicts = { ["standards/universal/ai-assistant/*"] = "theirs" },
  server = { command = { "sh", "{target}/mcp_server/start.sh", "{transport}" } },
  smoke = { { tool = "search_standards", arguments = { query = "x" }, expect = "found" } },
}
]]

describe("The project file", function()
  local s

  setup(function()
    s = tiny.new({
      first = { ["universal/templates/a.md"] = "a 1\n", ["mcp_server/start.sh"] = START,
        ["universal/workflows/experimental/x.md"] = "x 1\n" },
      second = { ["universal/templates/a.md"] = "a 2\n", ["universal/templates/b/c.md"] = "c 2\n",
        ["universal/standards/testing/pyramid.md"] = "pyramid 2\n",
        ["universal/workflows/experimental/y.md"] = "y 2\n",
        ["universal/workflows/experimental/x.md"] = "x 2\n" },
    })
    tiny.save(s)
  end)
  before_each(function() tiny.reset(s) end)
  teardown(helper.clean)

  local function upgrade(...) return tiny.json(s, { "upgrade", ... }) end

  local function exits(code, result) assert.equal(code, result.code, result.stderr) end

  local function warned(result, wanted)
    for _, event in ipairs(result.events) do
      if event.event == "warning" and event.message:find(wanted, 1, true) then return true end
    end
    return false
  end

  it("decides what an upgrade brings, what it leaves out, and how it is proven", function()
    tiny.write(s, "upgrade.lua", SETTINGS)
    tiny.write(s, tiny.GUIDE, "mine\n")
    exits(0, upgrade())
    assert.equal("a 2\n", tiny.read(s, "templates/a.md"))
    assert.equal("c 2\n", tiny.read(s, "templates/b/c.md"))
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE)) -- by the policy of `conflicts`
    assert.equal("pyramid 1\n", tiny.read(s, "standards/universal/testing/pyramid.md"))
    assert.equal("retired\n", tiny.read(s, "standards/universal/testing/retired.md"))
    assert.equal("x 1\n", tiny.read(s, "workflows/experimental/x.md"))
    assert.is_nil(tiny.read(s, "workflows/experimental/y.md"))
    assert.equal("phase 2\n", tiny.read(s, "workflows/flow/phase.md"))
    assert.equal(SETTINGS, tiny.read(s, "upgrade.lua"))
    assert.truthy(helper.read(s.root .. "/started"):find("stdio", 1, true))

    local id, session = next(tiny.sessions(s))
    assert.is_string(id)
    assert.equal(5, session.metadata.options.keep_backups)
    local calls = session.phase_artifacts["4"].smoke_calls
    assert.same({ "search_standards (upgrade.lua)", "passed" },
      { calls[#calls].name, calls[#calls].status })
    local backup = s.target .. "/.backups/" .. tiny.names(s, ".backups")[1]
    local manifest = assert(json.decode(helper.read(backup .. "/MANIFEST.json")))
    assert.equal(core.hash.sha256(SETTINGS), manifest.files[tiny.NAME .. "/upgrade.lua"])

    -- The same again has nothing to do; what was left out is taken in as if nothing had been.
    assert.equal("nothing_to_do", upgrade().last.status)
    tiny.write(s, "upgrade.lua", "return { source_path = '../source' }")
    local result = upgrade("--no-restart")
    exits(0, result)
    assert.equal("pyramid 2\n", tiny.read(s, "standards/universal/testing/pyramid.md"))
    assert.is_nil(tiny.read(s, "standards/universal/testing/retired.md"))
    assert.equal("x 2\n", tiny.read(s, "workflows/experimental/x.md"))
    assert.equal("y 2\n", tiny.read(s, "workflows/experimental/y.md"))
    assert.equal("c 2\n", tiny.read(s, "templates/b/c.md")) -- what a component brought stays
  end)

  -- The validation report of the last upgrade.
  local function validation_report()
    for _, name in ipairs(tiny.names(s, ".cache")) do
      if name:find("^upgrade%-validation%-") then
        return assert(json.decode(assert(tiny.read(s, ".cache/" .. name)))).results
      end
    end
  end

  -- The project file with tests that are run by the shell.
  local function with_tests(line)
    return (SETTINGS:gsub("}%s*$", function()
      return ("tests = { command = { 'sh', '-c', %q } } }"):format(line)
    end))
  end

  it("names the tests that are run, and the report tells how they went", function()
    tiny.write(s, "upgrade.lua", with_tests("cat {target}/VERSION.txt; pwd"))
    exits(0, upgrade("--run-tests"))
    local evidence = select(2, next(tiny.sessions(s))).phase_artifacts["4"]
    assert.is_true(evidence.unit_tests_passed)
    local report = validation_report()
    assert.is_true(report.tests.passed)
    assert.truthy(report.tests.output:find("2.0.0", 1, true))
    assert.truthy(report.tests.output:find(s.project .. "\n", 1, true))
    assert.equal("not_reported", report.reported.rag_index_current)
    assert.equal("not_reported", evidence.rag_index_current_reason)
    for _, field in ipairs({ "tools", "expected_tools", "lost_tools", "calls", "log_errors" }) do
      assert.is_table(report[field], field)
    end
  end)

  it("lets what the server reports of itself into the report", function()
    tiny.write(s, "upgrade.lua", SETTINGS)
    tiny.commit(s, { ["mcp_server/fault"] = "reports\n" })
    exits(0, upgrade())
    local evidence = select(2, next(tiny.sessions(s))).phase_artifacts["4"]
    assert.is_true(evidence.file_watchers_active)
    assert.is_true(evidence.rag_index_current)
    assert.same({ file_watchers_active = true, rag_index_current = true },
      validation_report().reported)
  end)

  it("names tests that fail: the upgrade is rolled back and their last words are shown", function()
    tiny.write(s, "upgrade.lua", with_tests("echo the fourth of nine fails; exit 2"))
    local before = tiny.snapshot(s)
    local result = upgrade("--run-tests")
    exits(1, result)
    assert.truthy(result.last.message:find("the tests fail that --run-tests runs", 1, true))
    assert.is_true(warned(result, "the fourth of nine fails"))
    assert.is_false(validation_report().tests.passed)
    assert.same(before, tiny.snapshot(s))
  end)

  it("rolls an upgrade back whose server does not pass the file's calls", function()
    tiny.write(s, "upgrade.lua", SETTINGS:gsub("found", "nothing of the kind"))
    local before = tiny.snapshot(s)
    local result = upgrade()
    exits(1, result)
    assert.truthy(result.last.message:find("search_standards (upgrade.lua)", 1, true))
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end)

  it("counts less than the command line", function()
    tiny.write(s, "upgrade.lua", "return { dry_run = true, source_path = '../nowhere', "
      .. "on_conflict = 'theirs' }")
    tiny.write(s, tiny.GUIDE, "mine\n")
    exits(3, upgrade())
    local before = tiny.exact(s)
    local result = upgrade("--source", s.source)
    assert.same({ 0, "dry_run" }, { result.code, result.last.status })
    assert.same(before, tiny.exact(s))
    exits(0, upgrade("--source", s.source, "--no-dry-run", "--on-conflict", "ours"))
    assert.equal("mine\n", tiny.read(s, tiny.GUIDE))
  end)

  it("is not asked again by an upgrade that goes on", function()
    tiny.write(s, "upgrade.lua", SETTINGS)
    local killed = tiny.patched_upgrade(s, [[
      local content = require("praxlua.content")
      function content.upgrade() die() end]])
    assert.is_not_nil(tiny.event(killed, "phase_started", "content-upgrade"))
    tiny.write(s, "upgrade.lua", "return { excludes = { 'templates' }, on_conflict = 'ours' }")
    local result = tiny.json(s, { "resume" })
    exits(0, result)
    assert.is_true(warned(result, "upgrade.lua was changed since this upgrade began"))
    assert.equal("c 2\n", tiny.read(s, "templates/b/c.md"))
    assert.is_nil(tiny.read(s, "workflows/experimental/y.md"))
    assert.equal("pyramid 1\n", tiny.read(s, "standards/universal/testing/pyramid.md"))
  end)

  it("that is wrong refuses an upgrade, changes nothing, and hinders no rollback", function()
    exits(0, tiny.upgrade(s))
    tiny.write(s, "upgrade.lua", "return { exclude = { 'x' } }")
    local before = tiny.exact(s)
    local result = upgrade("--source", s.source)
    exits(3, result)
    assert.equal("upgrade.lua:1: exclude: there is no setting 'exclude'; did you mean 'excludes'?",
      result.last.message)
    assert.same(before, tiny.exact(s))
    local status = tiny.event(tiny.json(s, { "status" }), "result").data.project_file
    assert.equal(result.last.message, status.problem)
    exits(1, tiny.json(s, { "doctor" }))
    assert(os.remove(s.target .. "/upgrade.lua"))
    tiny.write(s, "upgrade.lua", "while true do end")
    exits(0, tiny.json(s, { "rollback" }))
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
  end)

  it("warns of a component that the source does not have", function()
    tiny.write(s, "upgrade.lua", (SETTINGS:gsub("universal/templates", "universal/template")))
    local diff = tiny.json(s, { "diff", "workflows" }) -- of the same, without what is left out
    exits(0, diff)
    local files = tiny.event(diff, "result").data.files
    assert.same({ 1, "workflows/flow/phase.md" }, { #files, files[1].path })
    local result = upgrade("--dry-run")
    exits(0, result)
    assert.is_true(warned(result, "the source has no universal/template, from which the component "
      .. "'templates' of upgrade.lua is to come"))
  end)

  describe("of praxlua init", function()
    it("names the source that lies beside the project, and is enough for an upgrade", function()
      local result = tiny.json(s, { "init" })
      exits(0, result)
      local made = tiny.event(result, "result").data
      assert.equal("../source", made.source_path)
      assert.equal("praxis-os", made.layout)
      assert.truthy(tiny.read(s, "upgrade.lua"):find("standards, workflows, mcp_server\n", 1, true))
      assert.equal("dry_run", upgrade("--dry-run").last.status)
    end)

    it("waits for nobody, and writes nothing while an upgrade runs", function()
      local before, lock = tiny.exact(s), assert(core.lock.acquire(s.target))
      local result = tiny.json(s, { "init" })
      lock:release()
      exits(6, result)
      assert.same(before, tiny.exact(s))
    end)

    it("never takes the place of another one, but keeps that when it is told to", function()
      tiny.write(s, "upgrade.lua", "mine 1")
      local before = tiny.exact(s)
      local result = tiny.json(s, { "init" })
      exits(2, result)
      assert.truthy(result.last.next:find("--force", 1, true))
      assert.same(before, tiny.exact(s))
      exits(0, tiny.json(s, { "init", "--force" }))
      tiny.write(s, "upgrade.lua", "mine 2")
      exits(0, tiny.json(s, { "init", "--force" }))
      assert.equal("mine 1", tiny.read(s, "upgrade.lua.old-1"))
      assert.equal("mine 2", tiny.read(s, "upgrade.lua.old-2"))
      for _, name in ipairs(tiny.names(s, ".")) do
        assert.is_nil(name:find("upgrade%.lua%.%x+%-"), name)
      end
    end)

    it("takes the one of the last upgrade before one that only lies there", function()
      assert(core.file.rename(s.source, s.root .. "/elsewhere"))
      s.source = s.root .. "/elsewhere"
      exits(0, tiny.upgrade(s))
      assert(core.tree.copy(s.source, s.root .. "/another"))
      local result = tiny.json(s, { "init" })
      s.source = s.root .. "/source"
      exits(0, result)
      assert.equal("../elsewhere", tiny.event(result, "result").data.source_path)
      assert(core.tree.remove(s.root .. "/elsewhere"))
      assert(core.tree.remove(s.root .. "/another"))
    end)

    it("is refused for a source that is none, and where there is no installation", function()
      local result = tiny.json(s, { "init", "--source", s.home })
      exits(3, result)
      assert.is_nil(tiny.read(s, "upgrade.lua"))
      exits(3, tiny.json(s, { "init" }, { directory = s.home }))
    end)
  end)
end)
