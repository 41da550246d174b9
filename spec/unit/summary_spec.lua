local json = require("praxlua.json")
local report = require("praxlua.report")
local state = require("praxlua.state")
local summary = require("praxlua.summary")

-- A run as it is after its last phase.
local function full()
  local session = state.session.new({ metadata = {
    source_path = "/source", from_version = "1.0.0", to_version = "2.0.0",
    warnings = json.array({ "mind the gap" }),
    server = { was_running = true, transport = "http" },
    phases = {
      { id = "pre-flight-checks", number = 0, title = "Pre-flight checks", verdict = "ok",
        seconds = 1 },
      { id = "rename-config", title = "Rename", verdict = "ok", seconds = 2 },
    },
  } })
  session.completed_phases = json.array({ 0, 1 })
  session.phase_artifacts = {
    ["0"] = { source_commit = ("c"):rep(40) },
    ["1"] = { backup_path = ".praxis-os/.backups/2025-10-08-103045/" },
    ["4"] = { server_version = "2.0.0", tools_registered = 8 },
  }
  local entries = {
    { path = "a", action = "add", reason = "new" }, { path = "b", action = "update" },
    { path = "c", action = "remove" }, { path = "d", action = "keep", base = "1" },
    { path = "e", action = "unchanged" }, { path = "f", action = "add" },
    { path = "g", action = "keep", reason = "yours" },
  }
  return {
    session = session, target = "/project/.praxis-os",
    ctx = { memory = { plan = { entries = entries } } },
  }
end

local function dict(r, facts) return assert(report.to_dict(summary.of(r, facts))) end

describe("summary", function()
  it("tells what the session and its plan know", function()
    local r = full()
    local made = dict(r, { success = true })
    assert.equal(r.session.session_id, made.session_id)
    assert.equal("1.0.0", made.from_version)
    assert.equal("2.0.0", made.to_version)
    assert.is_true(made.success)
    assert.is_false(made.rollback_performed)
    assert.same({ 0, 1 }, made.phases_completed)
    assert.equal(("c"):rep(40), made.commit)
    assert.equal(".praxis-os/.backups/2025-10-08-103045/", made.backup_path)
    assert.equal(2, #made.changes.added)
    assert.equal("a", made.changes.added[1].path)
    assert.equal("b", made.changes.updated[1].path)
    assert.equal("c", made.changes.removed[1].path)
    assert.same({ { path = "d" } }, made.changes.kept)
    assert.equal("mind the gap", made.warnings[1])
    assert.equal("2.0.0", made.server.version)
    assert.equal("http", made.server.transport)
    assert.equal(8, made.server.tools)
    assert.equal(2, #made.phases)
    assert.equal("rename-config", made.phases[2].id)
    assert.truthy(made.phase_summaries["rename-config"])
  end)

  it("tells of a failure", function()
    local made = dict(full(), {
      success = false, rollback_performed = true,
      failure = { what = "no", where = "phase 3" },
    })
    assert.is_false(made.success)
    assert.is_true(made.rollback_performed)
    assert.equal("no", made.failure.what)
  end)

  it("makes a report of a session that has hardly begun, or says nothing of its server", function()
    local r = { session = state.session.new(), target = "/t", ctx = { memory = {} } }
    local made = dict(r, { success = false })
    assert.equal("", made.from_version)
    assert.is_nil(made.backup_path)
    r = full()
    r.session.phase_artifacts["4"].server_version = nil
    r.session.phase_artifacts["4"].server_version_reason = "not_reported"
    assert.is_nil(dict(r, { success = true }).server.version)
    r.session.phase_artifacts["4"].server_version = json.null
    assert.is_nil(dict(r, { success = true }).server.version)
  end)
end)
