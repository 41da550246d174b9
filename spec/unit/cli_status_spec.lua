local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local run = require("praxlua.run")
local state = require("praxlua.state")
local tiny = require("spec.support.tiny")

describe("praxlua status", function()
  local s

  before_each(function()
    s = { root = helper.tempdir() }
    s.project, s.target = s.root .. "/project", s.root .. "/project/" .. tiny.NAME
    s.scratch, s.executable = s.root .. "/runs", tiny.executable()
    assert(require("lfs").mkdir(s.scratch))
    tiny.write(s, "VERSION.txt", "Current Version: 1.2.3\ncommit=" .. ("ab"):rep(20) .. "\n")
    tiny.write(s, "standards/universal/a.md", "a\n")
  end)
  after_each(helper.clean)

  local function data()
    local result = tiny.json(s, { "status" })
    assert.equal(0, result.code, result.stderr)
    return tiny.event(result, "result").data
  end

  local function said()
    local result = tiny.run(s, { "status" })
    assert.equal(0, result.code)
    assert.equal("", result.stderr)
    return result.stdout
  end

  it("tells the installation, its version and that nothing is going on", function()
    local exact = tiny.exact(s)
    local found = data()
    assert.equal(core.file.realpath(s.target), found.target)
    assert.equal("1.2.3", found.version)
    assert.equal(("ab"):rep(20), found.commit)
    assert.is_false(found.locked)
    assert.same({ running = false, reason = "not_running" }, found.server)
    assert.same({}, found.sessions)
    assert.same({}, found.unfinished)
    local text = said()
    assert.truthy(text:find("1.2.3 (abababababab)", 1, true), text)
    assert.truthy(text:find("none is running", 1, true), text)
    assert.same(exact, tiny.exact(s))
  end)

  it("tells the project's own settings, or what is wrong with them", function()
    assert.is_nil(data().project_file)
    tiny.write(s, "upgrade.lua", "return { keep_backups = 5, excludes = { 'usage' } }")
    assert.same({ "excludes", "keep_backups" }, data().project_file.settings)
    assert.truthy(said():find("upgrade.lua: excludes, keep_backups", 1, true))
    tiny.write(s, "upgrade.lua", "return { keep_backup = 5 }")
    assert.truthy(data().project_file.problem:find("did you mean 'keep_backups'?", 1, true))
    assert.truthy(said():find("did you mean", 1, true))
  end)

  it("tells of a move that was cut short, and settles nothing", function()
    assert.is_false(data().moving)
    tiny.write(s, ".cache/migration.json",
      require("praxlua.seal").encode({ format_version = 1, from = ".agent-os", to = tiny.NAME }))
    local exact = tiny.exact(s)
    assert.is_true(data().moving)
    assert.matches("to another name was cut short.*praxlua migrate", said())
    assert.same(exact, tiny.exact(s))
  end)

  it("does not know the version of an installation that does not tell", function()
    assert(os.remove(s.target .. "/VERSION.txt"))
    assert.is_nil(data().version)
    assert.truthy(said():find("unknown", 1, true))
  end)

  it("lists the sessions, the newest first, and what is unfinished", function()
    local made = {}
    for i, status in ipairs({ "completed", "rolled_back", "in_progress" }) do
      local session = state.session.new({ started_at = ("2025-10-0%dT10:30:00Z"):format(i) })
      session.status = status
      assert(state.save_state(s.target, session))
      made[i] = session.session_id
    end
    local found = data()
    assert.equal(made[3], found.sessions[1].session_id)
    assert.equal("in_progress", found.sessions[1].status)
    assert.is_false(found.sessions[1].running)
    assert.equal(made[1], found.sessions[3].session_id)
    assert.equal(made[3], found.unfinished[1].session_id)
    local text = said()
    local row = made[3] .. "  in_progress  phase 0  2025-10-03T10:30:00Z"
    assert.truthy(text:find(row, 1, true), text)
    assert.truthy(text:find("praxlua resume " .. made[3], 1, true), text)
    assert.truthy(text:find("praxlua rollback " .. made[3], 1, true), text)
  end)

  it("shows the five newest sessions to people and all to tools", function()
    for i = 1, 7 do
      local session = state.session.new({ started_at = ("2025-10-0%dT10:30:00Z"):format(i) })
      session.status = "completed"
      assert(state.save_state(s.target, session))
    end
    assert.equal(7, #data().sessions)
    local _, rows = said():gsub(" completed ", "")
    assert.equal(5, rows)
  end)

  it("shows a session file that cannot be read, and does not take it for unfinished", function()
    local id = core.system.uuid()
    tiny.write(s, ".cache/state/" .. id .. ".json", "{ \27[31m")
    local found = data()
    assert.equal("unreadable", found.sessions[1].status)
    assert.same({}, found.unfinished)
    local text = said()
    assert.truthy(text:find(id .. "  unreadable", 1, true), text)
    assert.is_nil(text:find("\27", 1, true))
  end)

  it("leaves out the sessions of the server's own workflows and other files", function()
    tiny.write(s, ".cache/state/" .. core.system.uuid() .. ".json",
      json.encode({ workflow_type = "spec_creation_v1" }))
    tiny.write(s, ".cache/state/notes.json", "{}")
    assert.same({}, data().sessions)
  end)

  it("is not misled by an owner that is no process", function()
    local boot = core.system.boot_id()
    for _, owner in ipairs({ "x", 7, { pid = "x", boot_id = boot }, { boot_id = boot } }) do
      assert(state.create_session(s.target, nil, nil, { owner = owner }))
    end
    for _, session in ipairs(data().sessions) do assert.is_false(session.running) end
  end)

  it("tells that an upgrade is running, and takes no lock itself", function()
    local lock = assert(core.lock.acquire(s.target))
    local session = assert(state.create_session(s.target, nil, nil, { owner = run.owner() }))
    local found, text = data(), said()
    lock:release()
    assert.is_true(found.locked)
    assert.equal(session.session_id, found.sessions[1].session_id)
    assert.is_true(found.sessions[1].running)
    assert.same({}, found.unfinished)
    assert.truthy(text:find("one is running now", 1, true), text)
    assert.is_nil(text:find("did not finish", 1, true), text)
  end)

  it("tells of the server, and of a state file that is not about ours", function()
    tiny.write(s, ".mcp_server_state.json", json.encode({
      pid = core.system.pid(), transport = "http", started_at = "2025-10-08T10:30:00Z",
    }))
    local found = data()
    assert.is_false(found.server.running)
    assert.truthy(found.server.reason:find("not_ours", 1, true), found.server.reason)
    assert.truthy(said():find("not_ours", 1, true))
    -- What find says of a running one is shown as it is.
    local result = tiny.patched(s, [[
      require("praxlua.server").find = function()
        return { pid = 4711, transport = "http", url = "http://127.0.0.1:4712/mcp" }
      end
    ]], { "status" })
    assert.truthy(result.stdout:find("running, process 4711, http at http://127.0.0.1:4712/mcp", 1,
      true), result.stdout .. result.stderr)
  end)
end)
