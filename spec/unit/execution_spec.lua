--- Executing a session: what its phases do, and every way in which one can fail.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

-- The engine itself breaks when phase 3 is complete.
local ENGINE_ERROR = [[
  local checkpoint = require("praxlua.checkpoint")
  local record = checkpoint.record
  checkpoint.record = function(r, phase, dict)
    if phase.number == 3 then error("on purpose") end
    return record(r, phase, dict)
  end
]]

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

  describe("that fails", function()
    it("because of the server, is rolled back with 1, and its report says why", function()
      prepare({ second = { ["mcp_server/fault"] = "dies\n" } })
      local result = tiny.upgrade(s)
      assert.equal(1, result.code)
      assert.equal("rolled_back", result.last.status)
      local failed = tiny.event(result, "phase_failed")
      assert.equal("mcp-server-upgrade", failed.phase)
      assert.truthy(failed.message:find("complaint", 1, true), failed.message)
      assert.is_true(tiny.event(result, "rollback_completed").success)
      local report = tiny.event(result, "report").report
      assert.is_false(report.success)
      assert.is_true(report.rollback_performed)
      assert.equal("rolled_back", tiny.sessions(s)[result.last.session_id].status)
      is_as_before()
    end)

    it("because of a tool that is gone, is rolled back with 1", function()
      prepare({ second = { ["mcp_server/fault"] = "forgets\n" } })
      local result = tiny.upgrade(s)
      assert.equal(1, result.code)
      assert.equal("mcp-server-upgrade", tiny.event(result, "phase_failed").phase)
      is_as_before()
    end)

    it("because of packages, is rolled back with 1, the environment too", function()
      prepare({ second = { ["mcp_server/requirements.txt"] = "broken==1\n" } })
      local result = tiny.upgrade(s)
      assert.equal(1, result.code)
      assert.equal("mcp-server-upgrade", tiny.event(result, "phase_failed").phase)
      is_as_before()
    end)

    it("because of an internal error in a service, is rolled back with 1", function()
      prepare()
      local result = tiny.patched_upgrade(s, [[
        require("praxlua.content").upgrade_server_code = function() local x; return x.y end
      ]])
      assert.equal(1, result.code, result.stderr)
      local failed = tiny.event(result, "phase_failed")
      assert.truthy(failed.message:find("internal error", 1, true), failed.message)
      is_as_before()
    end)

    it("because of an internal error of the engine, is rolled back with 1", function()
      prepare()
      local result = tiny.patched_upgrade(s, ENGINE_ERROR)
      assert.equal(1, result.code, result.stderr)
      assert.truthy(result.stderr:find("critical: internal error: .*on purpose"), result.stderr)
      is_as_before()
    end)

    it("because of an internal error whose rollback ends in another one, says so with 5", function()
      prepare()
      local result = tiny.patched_upgrade(s, ENGINE_ERROR
        .. 'require("praxlua.rollback").undo = function() error("on purpose, too") end')
      assert.equal(5, result.code, result.stderr)
      local id = tiny.event(result, "session_started").session_id
      local last = result.events[#result.events]
      assert.equal("finished", last.event)
      assert.truthy(last.next:find(("praxlua rollback --target %s %s"):format(s.target, id), 1,
        true))
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end)

    it("because of an internal error before any change, is refused with 3", function()
      prepare()
      local exact = tiny.exact(s)
      local patch = 'require("praxlua.gate").pass = function() error("on purpose") end'
      local result = tiny.patched_upgrade(s, patch, { "--dry-run" })
      assert.equal(3, result.code, result.stderr)
      assert.same(exact, tiny.exact(s))
      assert.equal(3, tiny.patched_upgrade(s, patch).code)
      is_as_before()
    end)

    it("after the commit, stays complete: it is never undone by halves", function()
      prepare()
      local result = tiny.patched_upgrade(s, [[
        require("praxlua.environment").keep = function() error("on purpose") end
      ]])
      assert.equal(0, result.code, result.stderr)
      assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
      local resumed = tiny.json(s, { "resume" })
      assert.equal(0, resumed.code, resumed.stderr)
      assert.equal("completed", tiny.sessions(s)[result.events[#result.events].session_id].status)
      assert.is_true(tiny.is_settled(s))
    end)

    it("in phase 1, is refused with 3 and leaves no trace", function()
      prepare()
      local exact = tiny.exact(s)
      local result = tiny.patched_upgrade(s, [[
        require("praxlua.backup").create_backup = function()
          return nil, "the disk is full", "ENOSPC"
        end
      ]])
      assert.equal(3, result.code, result.stderr)
      assert.equal("backup-preparation", tiny.event(result, "phase_failed").phase)
      assert.truthy(result.events[#result.events].next:find("mend what the message names", 1, true))
      assert.same(exact, tiny.exact(s))
    end)

    it("because of its own records or its last look, is rolled back with 1", function()
      local patches = {
        ["recording the checkpoint: on purpose"] = [[
          local state = require("praxlua.state")
          local save = state.save_state
          state.save_state = function(target, session)
            if session.status == "in_progress" and session.current_phase == 3 then
              return nil, "on purpose"
            end
            return save(target, session)
          end
        ]],
        ["the server is gone"] = [[
          require("praxlua.server").check_running = function() return nil, "the server is gone" end
        ]],
      }
      for message, patch in pairs(patches) do
        prepare()
        local result = tiny.patched_upgrade(s, patch)
        assert.equal(1, result.code, result.stderr)
        assert.truthy(result.events[#result.events].message:find(message, 1, true))
        is_as_before()
        helper.clean()
      end
    end)

    it("and whose report cannot be written, warns of that, too", function()
      prepare()
      local result = tiny.patched_upgrade(s, [[
        require("praxlua.content").upgrade_server_code = function() return nil, "no", "EIO" end
        require("praxlua.report").generate_upgrade_summary = function() return nil, "no paper" end
      ]])
      assert.equal(1, result.code, result.stderr)
      assert.truthy(tiny.event(result, "warning").message:find("no paper", 1, true))
      is_as_before()
    end)

    it("to clear up after the commit, is complete and warns; the next command ends it", function()
      prepare()
      local result = tiny.patched_upgrade(s, [[
        require("praxlua.run").discard = function() return nil, "on purpose" end
      ]])
      assert.equal(0, result.code, result.stderr)
      assert.truthy(tiny.event(result, "warning").message:find("on purpose", 1, true))
      tiny.save(s)
      for _, argv in ipairs({ { "resume" }, { "upgrade", "--source", s.source } }) do
        tiny.reset(s)
        local ended = tiny.json(s, argv)
        assert.equal(0, ended.code, ended.stderr)
        assert.is_true(tiny.is_settled(s))
        assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
      end
    end)

    it("and whose rollback fails, ends with 5 and can be rolled back again", function()
      prepare({ second = { ["mcp_server/fault"] = "dies\n" } })
      local result = tiny.patched_upgrade(s, [[
        require("praxlua.server").restore = function() return nil, "no server today", "EIO" end
      ]])
      assert.equal(5, result.code, result.stderr)
      local last = result.events[#result.events]
      assert.equal("rollback_failed", last.status)
      assert.truthy(last.next:find(("praxlua rollback --target %s %s"):format(s.target,
        last.session_id), 1, true))
      assert.equal("rollback_failed", tiny.sessions(s)[last.session_id].status)
      -- The files are old again already. Neither a resume nor a new upgrade may build on that.
      local resumed = tiny.json(s, { "resume" })
      assert.equal(0, resumed.code, resumed.stderr)
      assert.equal("rolled_back", resumed.last.status)
      is_as_before()
      assert.equal(0, tiny.json(s, { "rollback", last.session_id }).code)
    end)
  end)

  describe("of an installation without an environment", function()
    local function remove_environment()
      assert(os.remove(s.target .. "/venv/bin/python"))
      assert(os.remove(s.target .. "/venv/bin"))
      assert(os.remove(s.target .. "/venv"))
      before = tiny.snapshot(s)
    end

    it("and a server without requirements, fails clearly and is rolled back", function()
      prepare()
      remove_environment()
      local result = tiny.upgrade(s)
      assert.equal(1, result.code)
      local message = tiny.event(result, "phase_failed").message
      assert.truthy(message:find("venv/bin/python is missing", 1, true), message)
      is_as_before()
    end)
  end)

  describe("with --phases", function()
    local WRITER = [[
      local phase = { title = "Note the release", after = "content-upgrade",
        grants = { target = "write" }, evidence = { bytes = integer{ min = 1 } } }
      function phase.run(host)
        host.target.write("standards/noted.md", "noted\n")
        host.target.write("workflows/flow/metadata.json", "{}\n")
        return { bytes = 6 }
      end
      return phase
    ]]

    it("runs a project's own phase where it belongs and records its evidence", function()
      prepare()
      local result = tiny.upgrade(s, { "--phases", tiny.phase(s, "note-release", WRITER) })
      assert.equal(0, result.code, result.stderr)
      assert.equal("noted\n", tiny.read(s, "standards/noted.md"))
      local session = tiny.sessions(s)[result.last.session_id]
      assert.same({ bytes = 6 }, session.phase_artifacts["note-release"])
      assert.equal("content-upgrade", session.completed[3])
      assert.equal("note-release", session.completed[4])
      assert.is_nil(tiny.event(result, "phase_completed", "note-release").number)
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end)

    it("undoes what it wrote when a later phase fails", function()
      prepare({ second = { ["mcp_server/fault"] = "dies\n" } })
      local result = tiny.upgrade(s, { "--phases", tiny.phase(s, "note-release", WRITER) })
      assert.equal(1, result.code)
      assert.truthy(tiny.event(result, "phase_completed", "note-release"))
      is_as_before()
    end)

    it("is rolled back with 1 when the phase fails, and shows its verdict", function()
      local failing = {
        ["it raises"] = { 'error("no good", 0)', "error", "no good" },
        ["it loops"] = { "while true do end", "limit:instructions", "instructions" },
        ["it claims too little"] = { "return {}", "evidence:schema", "bytes" },
        ["it leaves its grants"] = { 'pcall(host.spawn, { "git" }) return { bytes = 6 }',
          "denied:grant", "spawn" },
      }
      for title, case in pairs(failing) do
        prepare()
        local result = tiny.upgrade(s, { "--phases", tiny.phase(s, "fails",
          WRITER:gsub("return { bytes = 6 }", case[1])
            :gsub("grants =", "limits = { instructions = 100000 }, grants =")) })
        assert.equal(1, result.code, title)
        local failed = tiny.event(result, "phase_failed")
        assert.equal("fails", failed.phase)
        assert.equal(case[2], failed.verdict)
        assert.truthy(failed.message:find(case[3], 1, true), failed.message)
        is_as_before()
        helper.clean()
      end
    end)

    it("refuses with 3 when a phase before the backup fails, and lets none write there", function()
      prepare()
      local exact = tiny.exact(s)
      local folder = tiny.phase(s, "too-early", [[
        local phase = { title = "Too early", before = "backup-preparation",
          grants = { target = "write" } }
        function phase.run(host) assert(host.target.write("standards/early.md", "x")) end
        return phase
      ]])
      local result = tiny.upgrade(s, { "--phases", folder })
      assert.equal(3, result.code)
      assert.equal("too-early", tiny.event(result, "phase_failed").phase)
      assert.same(exact, tiny.exact(s))
    end)

    it("refuses with 3 when it stands for phase 1 and fails, and lets it write nothing", function()
      prepare()
      local folder = tiny.phase(s, "backup-preparation", [[
        local phase = { title = "Ours", grants = { target = "write" } }
        function phase.run(host)
          if host.target.write("standards/noted.md", "noted\n") then error("written", 0) end
          return "no evidence"
        end
        return phase
      ]])
      local result = tiny.upgrade(s, { "--phases", folder })
      assert.equal(3, result.code, result.stderr)
      assert.equal("evidence:schema", tiny.event(result, "phase_failed").verdict)
      is_as_before()
      assert.same({}, tiny.sessions(s))
    end)

    it("refuses scripts that cannot be placed or read, before anything is written", function()
      prepare()
      local exact = tiny.exact(s)
      local folder = tiny.phase(s, "lost", [[
        return { title = "Lost", after = "nowhere", run = function() end }
      ]])
      local result = tiny.upgrade(s, { "--phases", folder })
      assert.equal(3, result.code)
      assert.truthy(result.last.message:find("nowhere", 1, true))
      assert.equal(3, tiny.upgrade(s, { "--phases", s.root .. "/not-there" }).code)
      assert.same(exact, tiny.exact(s))
    end)

    it("finds the folder again when another directory resumes the session", function()
      prepare()
      tiny.phase(s, "note-release", WRITER:gsub("host.target.write", "%0", 1):gsub("return {",
        'while host.target.exists("specs/hold") do host.time() end return {', 1))
      tiny.write(s, "specs/hold", "")
      local run = tiny.start(s, { "--phases", "phases", "--target", s.target },
        { directory = s.root })
      assert(command.await(run, function(event) return event.phase == "note-release" end))
      command.kill(run, "KILL")
      command.wait(run)
      assert(os.remove(s.target .. "/specs/hold"))
      local result = tiny.json(s, { "resume" })
      assert.equal(0, result.code, result.stderr)
      assert.equal("noted\n", tiny.read(s, "standards/noted.md"))
    end)

    it("lets a script of a built-in phase's name take its place", function()
      prepare()
      local folder = tiny.phase(s, "content-upgrade", [[
        local phase = { title = "Ours", grants = { services = { "content", "report" } } }
        function phase.run(host)
          return { safe_upgrade_executed = true, dry_run_preview = {}, actual_upgrade = {},
            version_updated = "9", update_log_appended = true }
        end
        return phase
      ]])
      local result = tiny.upgrade(s, { "--phases", folder })
      assert.equal(1, result.code)
      local failed = tiny.event(result, "phase_failed")
      assert.equal(2, failed.number)
      assert.truthy(failed.verdict:find("^evidence:"), failed.verdict)
      is_as_before()
    end)
  end)

end)
