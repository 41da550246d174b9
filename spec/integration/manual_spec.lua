--- Upgrades that wait for a person: over restarts and kills, and against the next upgrade.
local helper = require("spec.support.helper")
local lfs = require("lfs")
local tiny = require("spec.support.tiny")

describe("An upgrade with a manual phase", function()
  local APPROVAL = [[
    return { title = "Approval", after = %q, manual = "Ask the\narchitects.",
      evidence = { approved = boolean{ equals = true }, by = optional(string_of{}) } }
  ]]
  local s, before

  after_each(helper.clean)

  local function prepare(after)
    s = tiny.new()
    before = tiny.snapshot(s)
    return tiny.phase(s, "approval", APPROVAL:format(after or "content-upgrade"))
  end

  local function waiting(after)
    local folder = prepare(after)
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(4, result.code, result.stderr)
    assert.equal("waiting", result.last.status)
    return result
  end

  local function is_upgraded()
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.is_true(tiny.is_settled(s))
  end

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  it("before the backup goes on only from the commit that was checked", function()
    for _, moved in ipairs({ false, true }) do
      waiting("pre-flight-checks")
      if moved then tiny.commit(s, { ["VERSION.txt"] = "3.0.0\n" }) end
      local result = tiny.json(s, { "resume", "--evidence", "approved=true" })
      assert.equal(moved and 3 or 0, result.code, result.stderr)
      if moved then
        assert.truthy(result.last.message:find("is at commit %x+ now"), result.last.message)
        is_as_before()
        assert.same({}, tiny.sessions(s))
      end
    end
  end)

  it("waits with 4, tells what for, and goes on with the evidence", function()
    local result = waiting()
    local id = result.last.session_id
    local told = tiny.event(result, "waiting")
    assert.equal("Ask the\narchitects.", told.text)
    assert.equal("praxlua resume " .. id .. " --evidence approved=VALUE", told.command)
    assert.truthy(result.last.next:find(told.command, 1, true))
    assert.truthy(result.last.next:find("praxlua rollback " .. id, 1, true))
    assert.equal("Ask the\narchitects.", tiny.event(result, "phases").phases[4].manual)
    assert.equal("waiting", tiny.sessions(s)[id].status)

    local status = tiny.json(s, { "status" })
    local awaits = tiny.event(status, "result").data.sessions[1].awaits
    assert.equal("approval", awaits.phase)
    assert.equal("approved", awaits.fields[1].name)
    local text = tiny.run(s, { "status" }).stdout
    assert.truthy(text:find("\n  architects.\n", 1, true), text)
    assert.truthy(text:find(told.command, 1, true), text)
    assert.truthy(text:find("praxlua rollback " .. id, 1, true), text)

    -- What does not fit, or brings nothing, leaves it waiting.
    for _, words in ipairs({ {}, { "--evidence", "approved=maybe" },
      { "--evidence", "approved=false" }, { "--evidence", "approved=true", "--evidence", "x=1" },
      { "--evidence", "by=Ada" } }) do
      local again = tiny.json(s, { "resume", table.unpack(words) })
      assert.equal(4, again.code, again.stderr)
      if words[1] then assert.is_string(tiny.event(again, "waiting").problem) end
      assert.equal("waiting", tiny.sessions(s)[id].status)
    end
    for _, word in ipairs({ "approved", "=true", "@", "@none.json" }) do
      assert.equal(2, tiny.json(s, { "resume", "--evidence", word }).code)
    end

    helper.write(s.root .. "/evidence.json", '{"approved": true, "by": "Ada"}')
    local done = tiny.json(s, { "resume", "--evidence", "@" .. s.root .. "/evidence.json",
      "--evidence", "by=Grace" })
    assert.equal(0, done.code, done.stderr)
    is_upgraded()
    local session = tiny.sessions(s)[id]
    assert.same({ approved = true, by = "Grace" }, session.phase_artifacts.approval)
    assert.is_nil(session.metadata.awaits)
    assert.equal("approval", tiny.event(done, "report").report.phases[4].id)
  end)

  it("is not rolled back by the next upgrade, not even with --yes", function()
    local id = waiting().last.session_id
    for _, extra in ipairs({ {}, { "--yes" }, { "--dry-run" } }) do
      local half = tiny.snapshot(s)
      local result = tiny.upgrade(s, extra)
      assert.equal(4, result.code, result.stderr)
      assert.truthy(result.last.next:find("praxlua resume " .. id .. " --evidence", 1, true))
      assert.truthy(result.last.next:find("praxlua rollback " .. id, 1, true))
      assert.same(half, tiny.snapshot(s))
    end
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
    assert.equal("rolled_back", tiny.sessions(s)[id].status)
  end)

  it("waits before the backup, too, with nothing done", function()
    local id = waiting("pre-flight-checks").last.session_id
    assert.same(before, tiny.snapshot(s))
    assert.equal(4, tiny.upgrade(s, { "--yes" }).code)
    tiny.save(s)
    local done = tiny.json(s, { "resume", id, "--evidence", "approved=true" })
    assert.equal(0, done.code, done.stderr)
    is_upgraded()
    tiny.reset(s)
    assert.equal(0, tiny.json(s, { "rollback", id }).code)
    is_as_before()
  end)

  it("waits on where the state file is lost or a kill came before it was written", function()
    local folder = prepare()
    local result = tiny.patched_upgrade(s, [[
      local state = require("praxlua.state")
      local save = state.save_state
      state.save_state = function(target, session)
        if session.status == "waiting" then die() end
        return save(target, session)
      end
    ]], { "--phases", folder })
    assert.equal(137, result.code, result.stderr)
    local id = tiny.event(result, "session_started").session_id
    assert.equal(4, tiny.upgrade(s, { "--yes" }).code)
    for _, ending in ipairs({ ".json", ".json.previous" }) do
      os.remove(s.target .. "/.cache/state/" .. id .. ending)
    end
    local again = tiny.upgrade(s, { "--yes" })
    assert.equal(4, again.code, again.stderr)
    local done = tiny.json(s, { "resume", "--evidence", "approved=true" })
    assert.equal(0, done.code, done.stderr)
    is_upgraded()
  end)

  it("is not passed over because its script is gone", function()
    waiting()
    os.remove(s.root .. "/phases/approval.lua")
    local result = tiny.json(s, { "resume", "--evidence", "approved=true" })
    assert.equal(3, result.code, result.stderr)
    assert.truthy(result.last.message:find("approval that this upgrade waits for", 1, true))
    assert.equal(4, tiny.upgrade(s, { "--yes" }).code)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
  end)

  it("names the installation in the command where it was named", function()
    local folder = prepare()
    local result = tiny.upgrade(s, { "--phases", folder, "--target", s.target },
      { directory = s.root })
    assert.equal(4, result.code, result.stderr)
    assert.truthy(tiny.event(result, "waiting").command:find("praxlua resume --target " .. s.target,
      1, true))
    assert.is_nil(result.stderr:find("error:", 1, true), result.stderr)
    assert.truthy(result.stderr:find("\nnext:  when it is done: praxlua resume --target ", 1, true))
  end)

  it("goes on after a kill that came once the evidence was taken", function()
    waiting()
    local result = tiny.patched(s, 'require("praxlua.server").restart_server = die',
      { "resume", "--evidence", "approved=true" })
    assert.equal(137, result.code, result.stderr)
    assert.equal(3, tiny.json(s, { "resume", "--evidence", "approved=true" }).code)
    assert.equal(0, tiny.json(s, { "resume" }).code)
    is_upgraded()
  end)

  it("asks at a terminal, and waits when the answer is left open", function()
    local folder = prepare()
    local function answered(lines, argv)
      helper.write(s.root .. "/answers", lines)
      return tiny.patched(s, ([[
        core.system.isatty = function() return true end
        io.stdin = assert(io.open(%q))
      ]]):format(s.root .. "/answers"), argv)
    end
    local result = answered("\n", { "upgrade", "--source", s.source, "--phases", folder })
    assert.equal(4, result.code, result.stdout)
    assert.truthy(result.stdout:find("architects.", 1, true), result.stdout)
    -- The same upgrade again: somebody is asked what to do with the one that waits.
    result = answered("leave\n", { "upgrade", "--source", s.source, "--phases", folder })
    assert.equal(4, result.code, result.stdout)
    result = answered("true\nAda\n", { "resume" })
    assert.equal(0, result.code, result.stdout)
    is_upgraded()
  end)

  it("goes on waiting when it is interrupted while it asks", function()
    local folder = prepare()
    local result = tiny.patched(s, [[
      core.system.isatty = function() return true end
      io.stdin = { read = function() core.system.signal(core.system.pid(), "INT") end }
    ]], { "upgrade", "--source", s.source, "--phases", folder })
    assert.equal(4, result.code, result.stdout)
    local done = tiny.json(s, { "resume", "--evidence", "approved=true" })
    assert.equal(0, done.code, done.stderr)
    is_upgraded()
  end)

  it("passes over it in a dry run", function()
    local folder = prepare("pre-flight-checks")
    local result = tiny.upgrade(s, { "--dry-run", "--phases", folder })
    assert.equal(0, result.code, result.stderr)
    assert.is_nil(tiny.event(result, "waiting"))
    assert.is_nil(lfs.attributes(s.target .. "/.cache/state"))
    local shown = tiny.run(s, { "upgrade", "--source", s.source, "--dry-run", "--phases", folder })
    assert.truthy(shown.stdout:find("approval +waits for  a person"), shown.stdout)
  end)
end)
