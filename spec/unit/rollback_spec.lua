--- Signals, and rolling back what is still open: the way back must come to its end.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local tiny = require("spec.support.tiny")

local SIGNALS = { INT = 130, TERM = 143, HUP = 129 }

-- The upgrade fails in phase 3, when content was changed already.
local FAILING = [[
  require("praxlua.content").upgrade_server_code = function() return nil, "no", "EIO" end
]]

describe("A signal", function()
  local s, before

  before_each(function()
    s = tiny.new()
    before = tiny.snapshot(s)
  end)
  after_each(helper.clean)

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  -- As from a terminal, even where the tests themselves run under nohup.
  local FRESH = { "env", "--default-signal=HUP" }

  -- Waits until a file is there: what holds the run up has got so far.
  local function reached(name)
    return assert(command.until_true(function() return helper.read(s.root .. "/" .. name) end, 30))
  end

  -- A git that says it was called, and then waits.
  local function waiting_git()
    local script = '#!/bin/sh\n: > "%s/reached"\nexec sleep 30\n'
    helper.write(s.root .. "/bin/git", script:format(s.root))
    assert(os.execute("chmod 755 " .. command.quote(s.root .. "/bin/git")))
    return { PATH = s.root .. "/bin:" .. os.getenv("PATH") }
  end

  local function signalled(run, signal)
    local began = core.system.monotonic()
    command.kill(run, signal)
    local result = tiny.finish(run)
    assert.equal(SIGNALS[signal], result.code, result.stderr)
    assert.equal("interrupted", result.last.status)
    assert.is_true(core.system.monotonic() - began < 15, "it took too long to end")
    return result
  end

  for signal in pairs(SIGNALS) do
    it("SIG" .. signal .. " in phase 0 ends the run at once and leaves no trace", function()
      local exact = tiny.exact(s)
      local run = tiny.start(s, {}, { environment = waiting_git(), wrap = FRESH })
      reached("reached")
      local result = signalled(run, signal)
      assert.is_nil(tiny.event(result, "rollback_started"))
      assert.same(exact, tiny.exact(s))
    end)

    it("SIG" .. signal .. " in phase 2 rolls back", function()
      local folder = tiny.phase(s, "waits", [[
        local phase = { title = "Waits", after = "content-upgrade" }
        function phase.run(host) while true do host.time() end end
        return phase
      ]])
      local run = tiny.start(s, { "--phases", folder }, { wrap = FRESH })
      assert(command.await(run, function(event) return event.phase == "waits" end))
      local result = signalled(run, signal)
      assert.is_true(tiny.event(result, "rollback_completed").success)
      is_as_before()
    end)

    it("SIG" .. signal .. " in phase 3 ends the wait for the server and rolls back", function()
      tiny.commit(s, { ["mcp_server/fault"] = "hangs\n" })
      local run = tiny.start(s, {}, { wrap = FRESH })
      assert(command.await(run, function(event)
        return event.event == "phase_progress" and event.text == "proving the new server"
      end))
      local result = signalled(run, signal)
      assert.equal(3, tiny.event(result, "phase_failed").number)
      is_as_before()
    end)
  end

  it("to the whole group, as a terminal sends it, ends in the same way", function()
    tiny.commit(s, { ["mcp_server/fault"] = "hangs\n" })
    local run = tiny.start(s, {}, { wrap = { "setsid" } })
    assert(command.await(run, function(event)
      return event.event == "phase_progress" and event.text == "proving the new server"
    end))
    assert(core.system.signal(-run.pid, "INT"))
    local result = tiny.finish(run)
    assert.equal(130, result.code, result.stderr)
    is_as_before()
  end)

  it("in phase 1 stops the backup and leaves no trace", function()
    local exact = tiny.exact(s)
    local result = tiny.patched_upgrade(s, [[
      local archive = core.archive
      local create = archive.create
      archive.create = function(...)
        core.system.signal(core.system.pid(), "INT")
        return create(...)
      end
    ]])
    assert.equal(130, result.code, result.stderr)
    assert.same(exact, tiny.exact(s))
  end)

  it("that was ignored from the start, as nohup does, stays ignored", function()
    local folder = tiny.phase(s, "waits", [[
      local phase = { title = "Waits", after = "content-upgrade", grants = { target = "read" } }
      function phase.run(host)
        while host.target.exists("specs/hold") do host.time() end
      end
      return phase
    ]])
    tiny.write(s, "specs/hold", "")
    local run = tiny.start(s, { "--phases", folder }, { wrap = { "nohup" } })
    assert(command.await(run, function(event) return event.phase == "waits" end))
    command.kill(run, "HUP")
    core.system.sleep(0.1)
    assert(os.remove(s.target .. "/specs/hold"))
    assert.equal(0, tiny.finish(run).code)
  end)
end)

describe("A rollback", function()
  local s

  after_each(function()
    -- What a test started is ended by its own state file.
    local found = s and helper.read(s.target .. "/.mcp_server_state.json")
    local pid = found and tonumber(found:match('"pid":%s*(%d+)'))
    if pid then os.execute(("kill -KILL %d 2>/dev/null"):format(pid)) end
    helper.clean()
  end)
  teardown(kit.finish)

  -- A tiny installation whose server is the fixture's, with a real environment, and runs.
  local function with_server()
    s = tiny.new()
    local ctx = kit.install({ name = "elsewhere" })
    assert(core.tree.remove(s.target .. "/mcp_server"))
    assert(core.tree.copy(ctx.target .. "/mcp_server", s.target .. "/mcp_server"))
    assert(core.tree.remove(s.source .. "/mcp_server"))
    assert(core.tree.copy(ctx.target .. "/mcp_server", s.source .. "/mcp_server"))
    assert(os.remove(s.source .. "/mcp_server/requirements.txt"))
    assert(os.remove(s.target .. "/mcp_server/requirements.txt"))
    assert(core.tree.remove(s.target .. "/venv"))
    assert(core.tree.copy(kit.environment(), s.target .. "/venv"))
    local own = kit.context(s.project)
    tiny.write(s, "standards/development/tests.md", "Our testing standards.\n") -- to be found
    tiny.commit(s, { ["mcp_server/new.py"] = "# new\n" })
    assert(os.execute(("cd %s && env PYTHONPATH=%s PROJECT_ROOT=%s setsid %s/venv/bin/python -m "
      .. "mcp_server --transport http >/dev/null 2>&1 </dev/null &"):format(
      command.quote(s.project), command.quote(s.target), command.quote(s.project),
      command.quote(s.target))))
    kit.wait(function() return kit.state(own) end, 20)
    return own
  end

  it("is not broken by further signals while the old server starts", function()
    local own = with_server()
    local before = tiny.snapshot(s)
    -- From the first look at the old server on, every look is accompanied by a signal.
    local result = tiny.patched_upgrade(s, [[
      local server, execution = require("praxlua.server"), require("praxlua.rollback")
      require("praxlua.report").generate_validation_report = function()
        core.system.signal(core.system.pid(), "INT")
        return nil, "stopped on purpose", "EIO"
      end
      local restore = server.restore
      server.restore = function(...)
        local find = server.find
        server.find = function(...)
          for _, name in ipairs({ "INT", "TERM", "HUP" }) do
            core.system.signal(core.system.pid(), name)
          end
          return find(...)
        end
        return restore(...)
      end
    ]])
    assert.equal(130, result.code, result.stderr)
    local done = tiny.event(result, "rollback_completed")
    assert.is_true(done.success)
    assert.is_true(done.server_healthy)
    local state = kit.state(own)
    assert.is_true(kit.is_alive(state.pid))
    assert.same(before, tiny.snapshot(s))
    -- What the rollback ignored, the server it started does not.
    local ignored = helper.read(("/proc/%d/status"):format(state.pid)):match("SigIgn:%s*(%x+)")
    assert.equal(0, tonumber(ignored, 16) & 0x4003) -- SIGHUP, SIGINT, SIGTERM
  end)

  it("is not needed where --no-restart leaves the running server alone", function()
    local own = with_server()
    local pid = kit.state(own).pid
    local result = tiny.upgrade(s, { "--no-restart" })
    assert.equal(0, result.code, result.stderr)
    assert.equal("# new\n", tiny.read(s, "mcp_server/new.py"))
    assert.equal(pid, kit.state(own).pid)
    assert.is_true(kit.is_alive(pid))
    assert.is_false(tiny.sessions(s)[result.last.session_id].phase_artifacts["3"].server_restarted)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    assert.is_nil(tiny.read(s, "mcp_server/new.py"))
    assert.is_true(kit.is_alive(pid))
  end)

  it("leaves a server alone that nothing was done to", function()
    local own = with_server()
    local pid = kit.state(own).pid
    local result = tiny.patched_upgrade(s, [[
      require("praxlua.content").upgrade_server_code = function() return nil, "no", "EIO" end
    ]])
    assert.equal(1, result.code, result.stderr)
    assert.equal(pid, kit.state(own).pid)
    assert.is_true(kit.is_alive(pid))
  end)

  it("that cannot bring the old server back says so with 5, and can be repeated", function()
    local own = with_server()
    local result = tiny.patched_upgrade(s, [[
      local server = require("praxlua.server")
      require("praxlua.report").generate_validation_report = function() return nil, "no", "EIO" end
      server.restore = function() return nil, "it does not start", "ECLOSED" end
    ]])
    assert.equal(5, result.code, result.stderr)
    local last = result.events[#result.events]
    assert.truthy(last.message:find("starting the old server: it does not start", 1, true))
    assert.equal(5, tiny.upgrade(s).code == 3 and 5) -- unfinished: refused
    local again = tiny.json(s, { "rollback" })
    assert.equal(0, again.code, again.stderr)
    assert.is_true(kit.is_alive(kit.state(own).pid))
    assert.is_true(tiny.is_settled(s))
  end)

  it("keeps beside it what somebody wrote while the upgrade ran, and says where", function()
    s = tiny.new()
    local before = tiny.snapshot(s)
    local result = tiny.patched_upgrade(s, [[
      require("praxlua.server").restart_server = function(ctx)
        local out = assert(io.open(ctx.target .. "/standards/universal/ai-assistant/guide.md", "w"))
        out:write("typed meanwhile\n")
        out:close()
        return nil, "no", "EIO"
      end
    ]])
    assert.equal(1, result.code, result.stderr)
    local kept = tiny.event(result, "warning").message:match("^(%S+) holds")
    assert.equal("typed meanwhile\n", helper.read(s.project .. "/" .. kept))
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
    local after = tiny.snapshot(s)
    after[kept] = nil
    assert.same(before, after)
  end)

  it("that fails at any of its steps says which, and the session stays open", function()
    local steps = {
      ["stopping the new server"] = [[
        local server = require("praxlua.server")
        function meanwhile()
          server.find = function() return { pid = 1, transport = "http", identity = {} } end
          server.stop = function() return nil, "on purpose", "EPERM" end
        end
      ]],
      ["restoring the files"] = [[
        local run = require("praxlua.run")
        local open = run.open_transaction
        run.open_transaction = function(r, ...)
          local results = table.pack(open(r, ...))
          local real = r.transaction
          r.transaction = setmetatable({ rollback = function() return nil, "on purpose" end }, {
            __index = function(_, name)
              return function(_, ...) return real[name](real, ...) end
            end,
          })
          return table.unpack(results, 1, results.n)
        end
      ]],
    }
    for step, patch in pairs(steps) do
      s = tiny.new()
      local before = tiny.snapshot(s)
      local result = tiny.patched_upgrade(s, patch .. [[
        require("praxlua.content").upgrade_server_code = function()
          if meanwhile then meanwhile() end
          return nil, "no", "EIO"
        end
      ]])
      assert.equal(5, result.code, step .. result.stderr)
      local last = result.events[#result.events]
      assert.truthy(last.message:find(step .. ": on purpose", 1, true), last.message)
      assert.is_false(tiny.event(result, "rollback_completed").success)
      local again = tiny.json(s, { "rollback", last.session_id })
      assert.equal(0, again.code, again.stderr)
      assert.same(before, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      helper.clean()
    end
  end)

  it("that cannot be marked or cleared up has rolled back all the same", function()
    local steps = {
      [[
        local state = require("praxlua.state")
        local save = state.save_state
        state.save_state = function(target, session)
          if session.status == "rolled_back" then return nil, "on purpose", "EROFS" end
          return save(target, session)
        end
      ]],
      [[ require("praxlua.run").discard = function() return nil, "on purpose" end ]],
    }
    for _, patch in ipairs(steps) do
      s = tiny.new()
      local before = tiny.snapshot(s)
      local result = tiny.patched_upgrade(s, patch .. FAILING)
      assert.equal(1, result.code, result.stderr)
      assert.same(before, tiny.snapshot(s))
      assert.truthy(tiny.event(result, "warning").message:find("clearing up failed: on purpose",
        1, true))
      assert.is_true(tiny.event(result, "rollback_completed").success)
      local again = tiny.json(s, { "rollback" })
      assert.equal(0, again.code, again.stderr)
      assert.equal("rolled_back", again.last.status)
      assert.equal("nothing_to_do", tiny.json(s, { "rollback" }).last.status)
      assert.same(before, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      helper.clean()
    end
  end)

  it("makes room for the session on a full disk with the data it needs no more", function()
    s = tiny.new()
    local before = tiny.snapshot(s)
    local result = tiny.patched_upgrade(s, [[
      local state = require("praxlua.state")
      local save = state.save_state
      state.save_state = function(target, session)
        local folder = target .. "/.upgrade/" .. session.session_id
        if session.status == "rolled_back" and #core.tree.list(folder .. "/stage") > 0 then
          return nil, "on purpose", "ENOSPC"
        end
        return save(target, session)
      end
      local rollback = require("praxlua.rollback")
      local open_session = rollback.open_session
      rollback.open_session = function(r, ...)
        assert(core.file.write_atomic(r.folder .. "/stage/77", "large"))
        return open_session(r, ...)
      end
    ]] .. FAILING)
    assert.equal(1, result.code, result.stderr)
    assert.is_nil(tiny.event(result, "warning"))
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
    local _, session = next(tiny.sessions(s))
    assert.equal("rolled_back", session.status)
  end)
end)
