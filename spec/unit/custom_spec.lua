--- Phases of a project's own, shown like built-in ones wherever phases are shown.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

local COUNTS = [[
  local phase = {
    title = "Count the standards", after = "content-upgrade", grants = { target = "read" },
    evidence = { found = integer{ min = 0 }, names = array_of(string_of{}) },
  }
  function phase.run(host)
    local names = {}
    for i, entry in ipairs(need(host.target.list("standards/universal"))) do
      names[i] = entry.name
    end
    return { found = #names, names = names }
  end
  return phase
]]

local EARLY = [[
  local phase = { title = "Look first", before = "backup-preparation" }
  function phase.run(host) host.log("looked") end
  return phase
]]

describe("A project's own phase", function()
  local s, folder

  before_each(function()
    s = tiny.new()
    tiny.phase(s, "counts", COUNTS)
    folder = tiny.phase(s, "early", EARLY)
  end)
  after_each(helper.clean)

  it("is listed by a dry run with its grants, and runs in it where it stands", function()
    local exact = tiny.exact(s)
    local dry = tiny.upgrade(s, { "--dry-run", "--phases", folder })
    assert.equal(0, dry.code, dry.stderr)
    local listed = {}
    for i, phase in ipairs(tiny.event(dry, "phases").phases) do listed[i] = phase.id end
    assert.same({ "pre-flight-checks", "early", "backup-preparation", "content-upgrade", "counts",
      "mcp-server-upgrade", "post-upgrade-validation", "cleanup-documentation" }, listed)
    local own = tiny.event(dry, "phases").phases[5]
    assert.same({ target = "read" }, own.grants)
    assert.equal(folder, own.from)
    assert.truthy(tiny.event(dry, "phase_completed", "early"))
    assert.truthy(dry.stdout:find('"message":"looked"', 1, true))
    assert.truthy(tiny.event(dry, "phase_completed", "counts"))
    assert.same(exact, tiny.exact(s))
    local text = tiny.run(s, { "upgrade", "--source", s.source, "--dry-run", "--phases", folder })
    assert.truthy(text.stdout:find("\n  %+  counts +may use  target: read +/"), text.stdout)
    assert.truthy(text.stdout:find("\n  1  backup%-preparation +may use  [^\n]*services: backup"))
  end)

  it("is in the events, the lines for people, the session and the report of a run", function()
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(0, result.code, result.stderr)
    local done = tiny.event(result, "phase_completed", "counts")
    assert.same({ found = 2, names = { "ai-assistant", "testing" } }, done.evidence)
    assert.equal("found: 2, names: 2 entries", done.summary)
    assert.equal(5, tiny.event(result, "phase_started", "counts").index)
    assert.truthy(result.stderr:find("\n  ok      %+  Count the standards [^\n]*found: 2"),
      result.stderr)
    local session = tiny.sessions(s)[result.last.session_id]
    assert.equal("counts", session.completed[5])
    local report = tiny.event(result, "report")
    assert.equal("counts", report.report.phases[5].id)
    assert.equal("found: 2, names: 2 entries", report.report.phase_summaries.counts)
    local page = helper.read(s.project .. "/" .. report.path)
    assert.truthy(page:find("\n|  | Count the standards | ok | [^\n]*found: 2"), page)
  end)

  it("that fails is named in the report and the events, with its verdict", function()
    tiny.phase(s, "fails", [[
      local phase = { title = "Fail on purpose", after = "counts" }
      function phase.run() while true do end end
      phase.limits = { instructions = 1000 }
      return phase
    ]])
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(1, result.code)
    assert.equal("limit:instructions", tiny.event(result, "phase_failed", "fails").verdict)
    local report = tiny.event(result, "report")
    assert.equal("phase Fail on purpose", report.report.failure.where)
    local page = helper.read(s.project .. "/" .. report.path)
    assert.truthy(page:find("| Fail on purpose | limit:instructions |", 1, true), page)
    assert.truthy(page:find("- What: it ran more than 1000 instructions", 1, true), page)
  end)

  it("is where status says a killed session stands", function()
    tiny.phase(s, "waits", [[
      local phase = { title = "Waits", after = "counts" }
      function phase.run(host) while true do host.time() end end
      return phase
    ]])
    local run = tiny.start(s, { "--phases", folder })
    assert(command.await(run, function(event) return event.phase == "waits" end))
    command.kill(run, "KILL")
    command.wait(run)
    local status = tiny.json(s, { "status" })
    assert.equal("waits", tiny.event(status, "result").data.sessions[1].at)
    local text = tiny.run(s, { "status" }).stdout
    assert.truthy(text:find("in_progress  phase waits", 1, true), text)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
  end)
end)
