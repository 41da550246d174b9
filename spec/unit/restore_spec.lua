--- Going back after an upgrade is complete: to before it, or to any backup.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local restore = require("praxlua.restore")
local seal = require("praxlua.seal")
local state = require("praxlua.state")
local tiny = require("spec.support.tiny")

describe("The rollback of a completed upgrade", function()
  local s, before, id

  -- Made once; each test gets it as it was.
  setup(function()
    s = tiny.new({
      first = { ["mcp_server/requirements.txt"] = "one==1\n" },
      second = { ["mcp_server/requirements.txt"] = "one==2\n" },
    })
    tiny.write(s, "venv/packages", "one==1\n")
    tiny.write(s, "standards/development/mine.md", "mine\n")
    before = tiny.snapshot(s)
    local result = tiny.upgrade(s)
    assert(result.code == 0, result.stderr)
    id = result.last.session_id
    assert(tiny.read(s, "venv/packages") == "one==2\n")
    tiny.save(s)
  end)
  before_each(function() tiny.reset(s) end)
  teardown(helper.clean)

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  -- The session of the rollback itself, which did not end.
  local function undoing()
    for name, session in pairs(tiny.sessions(s)) do
      if name ~= id and session.status ~= "completed" then return name end
    end
  end

  it("brings everything back, the environment too, and marks the session", function()
    local result = tiny.json(s, { "rollback", "--reason", "too new" })
    assert.equal(0, result.code, result.stderr)
    is_as_before()
    local session = tiny.sessions(s)[id]
    assert.equal("rolled_back", session.status)
    assert.equal("too new", session.metadata.rollback_reason)
  end)

  it("has nothing to do a second time, by name or without", function()
    assert.equal(0, tiny.json(s, { "rollback", id }).code)
    for _, argv in ipairs({ { "rollback" }, { "rollback", id } }) do
      local result = tiny.json(s, argv)
      assert.equal(0, result.code)
      assert.equal("nothing_to_do", result.last.status)
    end
    is_as_before()
  end)

  it("keeps what was made since", function()
    tiny.write(s, "standards/development/later.md", "later\n")
    tiny.write(s, "workflows/flow/notes.md", "notes\n")
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    assert.equal("later\n", tiny.read(s, "standards/development/later.md"))
    assert.equal("notes\n", tiny.read(s, "workflows/flow/notes.md"))
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
  end)

  describe("of which a file was changed since", function()
    before_each(function() tiny.write(s, tiny.GUIDE, "edited since\n") end)

    it("stops with 4 and undoes nothing, whatever the upgrade itself was allowed", function()
      local session = tiny.sessions(s)[id]
      session.metadata.options.on_conflict = "theirs"
      assert(state.save_state(s.target, session))
      local here = tiny.snapshot(s)
      local result = tiny.json(s, { "rollback" })
      assert.equal(4, result.code)
      assert.equal(tiny.NAME .. "/" .. tiny.GUIDE, tiny.event(result, "conflict").path)
      assert.truthy(result.last.next:find("--on-conflict ours", 1, true))
      assert.same(here, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      assert.equal("completed", tiny.sessions(s)[id].status)
      assert.equal(4, tiny.json(s, { "rollback", "--on-conflict", "stop" }).code)
    end)

    it("keeps it with ours and undoes the rest", function()
      assert.equal(0, tiny.json(s, { "rollback", "--on-conflict", "ours" }).code)
      assert.equal("edited since\n", tiny.read(s, tiny.GUIDE))
      assert.equal("retired\n", tiny.read(s, "standards/universal/testing/retired.md"))
      assert.equal("one==1\n", tiny.read(s, "venv/packages"))
    end)

    it("goes back all the same with theirs", function()
      local known = {}
      for _, name in ipairs(tiny.names(s, ".backups")) do known[name] = true end
      local result = tiny.json(s, { "rollback", "--on-conflict", "theirs" })
      assert.equal(0, result.code)
      is_as_before()
      local saved
      for _, name in ipairs(tiny.names(s, ".backups")) do
        saved = not known[name] and name or saved
      end
      assert.truthy(result.last.message:find(saved, 1, true), result.last.message)
      assert.equal(0, tiny.json(s, { "backup", "restore", saved, "--yes" }).code)
      assert.equal("edited since\n", tiny.read(s, tiny.GUIDE))
    end)
  end)

  describe("that another one followed", function()
    local next_id, second

    before_each(function()
      second = tiny.snapshot(s)
      tiny.commit(s, { ["mcp_server/__init__.py"] = "# third release\n" })
      local result = tiny.upgrade(s)
      assert.equal(0, result.code, result.stderr)
      next_id = result.last.session_id
    end)

    it("is refused with 3 and names the way", function()
      local here = tiny.snapshot(s)
      for _, extra in ipairs({ {}, { "--on-conflict", "ours" }, { "--on-conflict", "theirs" } }) do
        local result = tiny.json(s, { "rollback", id, table.unpack(extra) })
        assert.equal(3, result.code, result.stderr)
        assert.truthy(result.last.next:find("praxlua rollback " .. next_id, 1, true))
        assert.truthy(result.last.next:find("praxlua backup restore ", 1, true))
      end
      assert.same(here, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
    end)

    it("is done after that one's, in whatever second they ended", function()
      for _, time in ipairs({ "2000-01-01T00:00:00Z", tiny.sessions(s)[id].updated_at }) do
        local session = assert(state.load_state(s.target, next_id))
        session.updated_at = time
        helper.write(("%s/.cache/state/%s.json"):format(s.target, next_id),
          assert(seal.encode(session, 1000)))
        os.remove(("%s/.cache/state/%s.json.previous"):format(s.target, next_id))
      end
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      assert.same(second, tiny.snapshot(s))
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end)

    it("is refused once a backup was restored, and so is that one's", function()
      local first = tiny.names(s, ".backups")[1]
      local restored = tiny.json(s, { "backup", "restore", first, "--yes" })
      assert.equal(0, restored.code, restored.stderr)
      is_as_before()
      for _, argv in ipairs({ { "rollback" }, { "rollback", id }, { "rollback", next_id } }) do
        assert.equal(3, tiny.json(s, argv).code)
      end
      is_as_before()
      local result = tiny.json(s, { "rollback", restored.last.session_id })
      assert.equal(3, result.code)
      local present = assert(result.last.next:match("praxlua backup restore (%S+)"))
      assert.equal(0, tiny.json(s, { "backup", "restore", present, "--yes" }).code)
      assert.equal("# third release\n", tiny.read(s, "mcp_server/__init__.py"))
    end)
  end)

  it("counts a file that was removed or made anew since as changed", function()
    assert(os.remove(s.target .. "/" .. tiny.GUIDE))
    assert.equal(4, tiny.json(s, { "rollback" }).code)
    tiny.reset(s)
    tiny.write(s, "standards/universal/testing/retired.md", "mine now\n")
    assert.equal(4, tiny.json(s, { "rollback" }).code)
    assert.equal("mine now\n", tiny.read(s, "standards/universal/testing/retired.md"))
  end)

  it("installs the packages of the snapshot where the old environment is not kept", function()
    assert(core.tree.remove(s.target .. "/.cache/environment-" .. id))
    local result = tiny.json(s, { "rollback" })
    assert.equal(0, result.code, result.stderr)
    is_as_before()
  end)

  it("says so and goes back where there is no snapshot of the packages either", function()
    assert(core.tree.remove(s.target .. "/.cache/environment-" .. id))
    assert.equal(0, tiny.patched(s, [[
      local backup = require("praxlua.backup")
      local exists = core.file.exists
      core.file.exists = function(path)
        return not path:find("requirements-snapshot", 1, true) and exists(path)
      end
      local verify = require("praxlua.backup.store").verify
      require("praxlua.backup.store").verify = function(ctx, directory)
        return (require("praxlua.backup.store").read_manifest(directory))
      end
    ]], { "rollback", "--json" }).code)
    assert.equal("one==2\n", tiny.read(s, "venv/packages"))
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
  end)

  it("that fails at any of its steps changes nothing and says which", function()
    local here = tiny.snapshot(s)
    local steps = {
      ["restoring the files"] = [[
        require("praxlua.backup").apply_plan = function() return nil, "on purpose", "EIO" end
      ]],
      ["restoring the server's packages"] = [[
        core.tree.remove(arg[#arg - 1] .. "/.cache/environment-" .. arg[#arg])
        arg[#arg], arg[#arg - 1] = nil, nil
        require("praxlua.dependencies").install_dependencies = function()
          return { success = false, errors = { { message = "on purpose" } } }
        end
      ]],
      ["starting the server"] = [[
        local server = require("praxlua.server")
        local called
        server.restore = function()
          if called then return { started = false } end
          called = true
          return nil, "on purpose"
        end
      ]],
      ["stopping the server"] = [[
        local server = require("praxlua.server")
        server.find = function() return { pid = 1, transport = "http", identity = {} } end
        server.remember = function() return { was_running = false } end
        server.stop = function() return nil, "on purpose" end
      ]],
    }
    for step, patch in pairs(steps) do
      local argv = { "rollback", "--json" }
      if step:find("packages") then argv = { "rollback", "--json", s.target, id } end
      local result = tiny.patched(s, patch, argv)
      assert.equal(5, result.code, step .. result.stderr)
      assert.truthy(result.stderr:find(step .. ": on purpose", 1, true), result.stderr)
      assert.same(here, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      assert.equal("completed", tiny.sessions(s)[id].status)
      tiny.reset(s)
    end
  end)

  it("that cannot be undone itself says so with 5, and that is made up for", function()
    local here = tiny.snapshot(s)
    local result = tiny.patched(s, [[
      require("praxlua.server").restore = function() return nil, "on purpose" end
      local run = require("praxlua.run")
      local open = run.open_transaction
      run.open_transaction = function(r, ...)
        local results = table.pack(open(r, ...))
        local real = r.transaction
        r.transaction = setmetatable({ rollback = function() return nil, "stuck" end }, {
          __index = function(_, name)
            return function(_, ...) return real[name](real, ...) end
          end,
        })
        return table.unpack(results, 1, results.n)
      end
    ]], { "rollback", "--json" })
    assert.equal(5, result.code, result.stderr)
    assert.truthy(result.stderr:find("undoing the restore failed: stuck", 1, true), result.stderr)
    assert.equal(0, tiny.json(s, { "rollback", undoing() }).code)
    assert.same(here, tiny.snapshot(s))
  end)

  it("that cannot begin is refused with 3, a resumed one as well", function()
    local here = tiny.snapshot(s)
    local patch = [[
      require("praxlua.run").open_transaction = function() return nil, "on purpose" end
    ]]
    local result = tiny.patched(s, patch, { "rollback", "--json" })
    assert.equal(3, result.code, result.stderr)
    assert.equal(137, tiny.patched(s, 'require("praxlua.run").open_transaction = die',
      { "rollback" }).code)
    result = tiny.patched(s, patch, { "resume", "--json" })
    assert.equal(3, result.code, result.stderr)
    assert.same(here, tiny.snapshot(s))
    assert.equal(0, tiny.json(s, { "resume" }).code)
    is_as_before()
  end)

  it("that cannot clear up warns, and is done", function()
    local result = tiny.patched(s, [[
      require("praxlua.run").discard = function() return nil, "on purpose" end
    ]], { "rollback", "--json" })
    assert.equal(0, result.code, result.stderr)
    assert.truthy(result.stderr:find("clearing up after it failed: on purpose", 1, true))
    assert.equal(0, tiny.json(s, { "resume" }).code)
    is_as_before()
  end)

  it("starts the server that ran before the upgrade, though its successor died", function()
    local session = tiny.sessions(s)[id]
    session.metadata.server = { was_running = true, transport = "http" }
    assert(state.save_state(s.target, session))
    local result = tiny.patched(s, [[
      require("praxlua.server").restore = function(_, remembered)
        assert(remembered.was_running and remembered.transport == "http")
        return { started = true, health = { responding = true } }
      end
    ]], { "rollback", "--json" })
    assert.equal(0, result.code, result.stderr)
    assert.truthy(result.stdout:find('"server_healthy":true', 1, true), result.stdout)
    is_as_before()
  end)

  it("killed in between, is completed by resume, and taken back when it is named", function()
    local here = tiny.snapshot(s)
    local points = {
      'require("praxlua.server").restore = die',
      [[
        local run = require("praxlua.run")
        local open = run.open_transaction
        run.open_transaction = function(...)
          open(...)
          die()
        end
      ]],
      'require("praxlua.run").open_transaction = die',
    }
    for _, point in ipairs(points) do
      assert.equal(137, tiny.patched(s, point, { "rollback" }).code)
      assert.equal(3, tiny.upgrade(s).code)
      local result = tiny.json(s, { "resume" })
      assert.equal(0, result.code, result.stderr)
      assert.equal("rolled_back", result.last.status)
      is_as_before()
      assert.equal("rolled_back", tiny.sessions(s)[id].status)
      tiny.reset(s)
    end
    assert.equal(137, tiny.patched(s, points[1], { "rollback" }).code)
    local result = tiny.json(s, { "rollback", undoing() })
    assert.equal(0, result.code, result.stderr)
    assert.same(here, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end)

  it("killed in between, goes on when the same command is given again", function()
    local killed = tiny.patched(s, 'require("praxlua.server").restore = die', { "rollback" })
    assert.equal(137, killed.code, killed.stderr)
    local result = tiny.json(s, { "rollback" })
    assert.equal(0, result.code, result.stderr)
    assert.equal("rolled_back", result.last.status)
    is_as_before()
    assert.equal("rolled_back", tiny.sessions(s)[id].status)
  end)

  it("resumed, still has the answer to its conflicts", function()
    tiny.write(s, tiny.GUIDE, "edited since\n")
    local killed = tiny.patched(s, 'require("praxlua.server").restore = die',
      { "rollback", "--on-conflict", "theirs" })
    assert.equal(137, killed.code, killed.stderr)
    local result = tiny.json(s, { "resume" })
    assert.equal(0, result.code, result.stderr)
    is_as_before()
  end)

  it("killed after its commit, is complete", function()
    for _, word in ipairs({ "resume", "rollback" }) do
      local killed = tiny.patched(s, [[
        local run = require("praxlua.run")
        run.discard = die
      ]], { "rollback" })
      assert.equal(137, killed.code, killed.stderr)
      local result = tiny.json(s, { word })
      assert.equal(0, result.code, result.stderr)
      is_as_before()
      assert.equal("rolled_back", tiny.sessions(s)[id].status)
      tiny.reset(s)
    end
  end)

  it("interrupted, changes nothing and exits with the signal's code", function()
    local here = tiny.snapshot(s)
    local result = tiny.patched(s, [[
      local restored = require("praxlua.backup").apply_plan
      require("praxlua.backup").apply_plan = function(...)
        core.system.signal(core.system.pid(), "INT")
        return restored(...)
      end
    ]], { "rollback", "--json" })
    assert.equal(130, result.code, result.stderr)
    assert.same(here, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end)

  it("tells what somebody wrote meanwhile, when it fails and is taken back", function()
    local result = tiny.patched(s, [[
      local server = require("praxlua.server")
      local restored = server.restore
      server.restore = function(ctx)
        server.restore = restored
        local out = assert(io.open(ctx.target .. "/standards/universal/ai-assistant/guide.md", "w"))
        out:write("typed meanwhile\n")
        out:close()
        return nil, "on purpose", "EIO"
      end
    ]], { "rollback", "--json" })
    assert.equal(5, result.code, result.stderr)
    result.events = require("spec.support.command").events(result.stdout)
    local told = tiny.event(result, "warning").message
    assert.truthy(told:find("holds what somebody changed", 1, true), told)
    assert.equal("typed meanwhile\n", helper.read(s.project .. "/" .. told:match("^(%S+) holds")))
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.is_true(tiny.is_settled(s))
  end)

  it("is refused where its backup is gone or damaged, and says what else there is", function()
    local name = tiny.names(s, ".backups")[1]
    local here = tiny.snapshot(s)
    tiny.write(s, ".backups/" .. name .. "/backup.tar.zst", "rubbish")
    local result = tiny.json(s, { "rollback" })
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find("damaged", 1, true), result.last.message)
    assert.truthy(result.last.next:find("praxlua backup list", 1, true))
    assert(core.tree.remove(s.target .. "/.backups/" .. name))
    result = tiny.json(s, { "rollback" })
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find(name, 1, true), result.last.message)
    assert.same(here, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end)

  it("is refused where the session does not tell what it changed", function()
    local session = tiny.sessions(s)[id]
    session.metadata.changes = nil
    assert(state.save_state(s.target, session))
    local here = tiny.snapshot(s)
    local result = tiny.json(s, { "rollback" })
    assert.equal(5, result.code)
    assert.truthy(result.last.next:find("praxlua backup list", 1, true))
    assert.same(here, tiny.snapshot(s))
  end)

  it("and of a backup at once is a usage error", function()
    local result = tiny.json(s, { "rollback", id, "--backup", tiny.names(s, ".backups")[1] })
    assert.equal(2, result.code)
  end)

  it("last_completed names the newest that was not undone, and no restore", function()
    assert.equal(id, restore.last_completed(s.target))
    local changes = tiny.sessions(s)[id].metadata.changes
    local later = state.session.new({ metadata = { changes = changes } })
    later.status = "completed"
    assert(state.save_state(s.target, later))
    later.updated_at = "2100-01-01T00:00:00Z"
    helper.write(state.path(s.target, later.session_id), seal.encode(later, 99))
    assert.equal(later.session_id, restore.last_completed(s.target))
    local kind = state.session.new({ metadata = { kind = "restore" } })
    kind.status, kind.updated_at = "completed", "2200-01-01T00:00:00Z"
    helper.write(state.path(s.target, kind.session_id), seal.encode(kind, 99))
    assert.equal(later.session_id, restore.last_completed(s.target))
  end)

  it("is refused where a session cannot be read that may be the last one", function()
    local unreadable = ".cache/state/00000000-0000-4000-8000-000000000000.json"
    tiny.write(s, unreadable, "{")
    local here = tiny.snapshot(s)
    local result = tiny.json(s, { "rollback" })
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find(unreadable, 1, true), result.last.message)
    assert.truthy(result.last.next:find("praxlua backup restore", 1, true))
    assert.same(here, tiny.snapshot(s))
    assert.equal(0, tiny.json(s, { "rollback", id:upper() }).code)
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
  end)

  describe("by a backup", function()
    local name

    before_each(function() name = tiny.names(s, ".backups")[1] end)

    it("brings the whole content back, what was made since included", function()
      tiny.write(s, "standards/development/later.md", "later\n")
      for _, argv in ipairs({ { "rollback", "--backup", name },
        { "backup", "restore", name, "--yes" }, { "backup", "restore", "--yes" } }) do
        local result = tiny.json(s, argv)
        assert.equal(0, result.code, result.stderr)
        assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
        assert.is_nil(tiny.read(s, "standards/development/later.md"))
        assert.equal("one==1\n", tiny.read(s, "venv/packages"))
        is_as_before()
        local present = result.last.message:match("in the backup (%S+)%.$")
        assert.same({ name, present }, tiny.names(s, ".backups"))
        tiny.reset(s)
      end
    end)

    it("is refused with 3 where that does not exist, is damaged or is no name", function()
      local exact = tiny.snapshot(s)
      tiny.write(s, ".backups/2020-01-01-000000/MANIFEST.json", "{}")
      for _, wrong in ipairs({ "2019-01-01-000000", "2020-01-01-000000", "../..", "" }) do
        for _, argv in ipairs({ { "rollback", "--backup", wrong },
          { "backup", "restore", wrong, "--yes" } }) do
          local result = tiny.json(s, argv)
          assert.equal(3, result.code, wrong)
          assert.truthy(result.last.next:find("praxlua backup list", 1, true))
        end
      end
      assert.same(exact, tiny.snapshot(s))
    end)

    it("waits for a yes where nobody can be asked", function()
      local result = tiny.json(s, { "backup", "restore", name })
      assert.equal(4, result.code)
      assert.truthy(result.last.next:find(name .. " --yes", 1, true))
      assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    end)

    it("asks on a terminal", function()
      for answer, code in pairs({ ["yes\n"] = 0, ["\n"] = 4 }) do
        helper.write(s.root .. "/answers", answer)
        assert.equal(code, tiny.patched(s, ([[
          core.system.isatty = function() return true end
          io.stdin = assert(io.open(%q))
        ]]):format(s.root .. "/answers"), { "backup", "restore", name }).code)
        assert.equal(code == 0 and "guide 1\n" or "guide 2\n", tiny.read(s, tiny.GUIDE))
        tiny.reset(s)
      end
    end)

    it("killed in between, is completed by resume", function()
      local killed = tiny.patched(s, 'require("praxlua.server").restore = die',
        { "backup", "restore", name, "--yes" })
      assert.equal(137, killed.code, killed.stderr)
      local result = tiny.json(s, { "resume" })
      assert.equal(0, result.code, result.stderr)
      assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
      assert.is_true(tiny.is_settled(s))
    end)

    it("is undone by a restore of the state it replaced", function()
      local here = tiny.snapshot(s)
      local result = tiny.json(s, { "backup", "restore", name, "--yes" })
      assert.equal(0, result.code, result.stderr)
      local present = result.last.message:match("in the backup (%S+)%.$")
      result = tiny.json(s, { "backup", "restore", present, "--yes" })
      assert.equal(0, result.code, result.stderr)
      assert.same(here, tiny.snapshot(s))
    end)

    it("is refused with 3 where the present state cannot be backed up first", function()
      assert(os.execute("mkfifo '" .. s.target .. "/specs/pipe'"))
      local here = tiny.snapshot(s)
      local result = tiny.json(s, { "backup", "restore", name, "--yes" })
      assert.equal(3, result.code, result.stderr)
      assert.truthy(result.last.message:find("specs/pipe", 1, true), result.last.message)
      assert.same(here, tiny.snapshot(s))
      assert.same({ name }, tiny.names(s, ".backups"))
    end)

    it("can be repeated: a restore is no upgrade", function()
      assert.equal(0, tiny.json(s, { "backup", "restore", name, "--yes" }).code)
      local again = tiny.json(s, { "backup", "restore", name, "--yes" })
      assert.equal(0, again.code, again.stderr)
      assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
    end)
  end)
end)

describe("The rollback of an upgrade that made the environment", function()
  after_each(helper.clean)

  it("leaves none behind", function()
    local s = tiny.new({ second = { ["mcp_server/requirements.txt"] = "one==2\n" } })
    assert(core.tree.remove(s.target .. "/venv"))
    local before = tiny.snapshot(s)
    -- The tiny Python stands for the one that `python3 -m venv` makes.
    local result = tiny.patched_upgrade(s, ([[
      local process = require("praxlua.process")
      local run = process.run
      process.run = function(options)
        if options.argv[3] == "venv" then
          os.execute("mkdir -p " .. options.argv[5] .. "/bin && cp %s " .. options.argv[5]
            .. "/bin/python && chmod 755 " .. options.argv[5] .. "/bin/python")
          return { code = 0, stdout = "", stderr = "" }
        end
        return run(options)
      end
    ]]):format("spec/fixtures/tiny/python.sh"))
    assert.equal(0, result.code, result.stderr)
    assert.equal("one==2\n", tiny.read(s, "venv/packages"))
    local back = tiny.json(s, { "rollback" })
    assert.equal(0, back.code, back.stderr)
    assert.same(before, tiny.snapshot(s))
  end)
end)

describe("The rollback of an upgrade that had no packages to install", function()
  after_each(helper.clean)

  it("leaves the environment alone, as that upgrade did", function()
    local s = tiny.new({ first = { ["mcp_server/requirements.txt"] = "one==1\n" },
      second = { ["mcp_server/requirements.txt"] = "one==2\n" } })
    tiny.write(s, "venv/pyvenv.cfg", "home = /usr/bin\n")
    assert.equal(0, tiny.upgrade(s).code)
    tiny.commit(s, { ["universal/" .. tiny.GUIDE:gsub("universal/", "")] = "guide 3\n" })
    local inode = core.file.stat(s.target .. "/venv").inode
    local before = tiny.snapshot(s)
    local result = tiny.upgrade(s)
    assert.equal(0, result.code, result.stderr)
    assert.is_true(tiny.sessions(s)[result.last.session_id].phase_artifacts["3"]
      .dependencies_installed)
    assert.equal(inode, core.file.stat(s.target .. "/venv").inode)
    assert.is_false(core.file.exists(s.target .. "/.cache/environment-" .. result.last.session_id))
    assert.not_same(before, tiny.snapshot(s))
    assert(os.remove(s.target .. "/.cache/environment.json")) -- it must not be what saves it
    local back = tiny.json(s, { "rollback" })
    assert.equal(0, back.code, back.stderr)
    assert.equal(inode, core.file.stat(s.target .. "/venv").inode)
    assert.same(before, tiny.snapshot(s))
  end)
end)
