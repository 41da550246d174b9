--- An upgrade that was killed: what the next command finds, and the two ways out of it.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local seal = require("praxlua.seal")
local tiny = require("spec.support.tiny")

describe("An upgrade killed in phase 3", function()
  local s, before, id

  -- Made once; each test gets it as it was.
  setup(function()
    s = tiny.new()
    before = tiny.snapshot(s)
    local result = tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die')
    assert(result.code == 137, result.stderr)
    id = tiny.event(result, "session_started").session_id
    tiny.save(s)
  end)
  before_each(function() tiny.reset(s) end)
  teardown(helper.clean)

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  local function is_upgraded()
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("# second release\n", tiny.read(s, "mcp_server/__init__.py"))
    assert.is_true(tiny.is_settled(s))
  end

  local function folder() return s.target .. "/.upgrade/" .. id end
  local function state_file() return s.target .. "/.cache/state/" .. id .. ".json" end

  it("the next upgrade refuses with both commands", function()
    for _, extra in ipairs({ {}, { "--dry-run" }, { "--dry-run", "--yes" } }) do
      local result = tiny.upgrade(s, extra)
      assert.equal(3, result.code)
      assert.truthy(result.last.message:find(id, 1, true))
      assert.truthy(result.last.next:find("praxlua resume " .. id, 1, true))
      assert.truthy(result.last.next:find("praxlua rollback " .. id, 1, true))
    end
    local said = tiny.said(tiny.run(s, { "status" }))
    assert.truthy(said:find("did not finish: " .. id, 1, true), said)
    assert.equal(id, tiny.event(tiny.json(s, { "status" }), "result").data.unfinished[1].session_id)
  end)

  it("no backup is made of what is half upgraded", function()
    local result = tiny.json(s, { "backup", "create" })
    assert.equal(3, result.code)
    assert.truthy(result.last.next:find("praxlua rollback " .. id, 1, true))
    assert.equal(1, #tiny.names(s, ".backups"))
  end)

  it("a user who may not look into our folders is told so, and nothing is overlooked", function()
    local exact = tiny.exact(s)
    local powerless = { "setpriv", "--bounding-set=-all", "--inh-caps=-all" }
    if core.system.euid() ~= 0 then powerless = nil end
    for _, name in ipairs({ ".backups", ".cache", ".cache/state", ".upgrade",
      ".upgrade/" .. id }) do
      local path = s.target .. "/" .. name
      local mode = ("%o"):format(core.file.stat(path).mode)
      assert(os.execute(("chmod 0 %s"):format(path)))
      for _, argv in ipairs({ { "upgrade", "--source", s.source }, { "resume" }, { "rollback" },
        { "backup", "create" } }) do
        local result = tiny.json(s, argv, { wrap = powerless })
        assert.equal(3, result.code, name .. result.stderr)
        assert.truthy(result.last.message:find(path .. " cannot be read", 1, true))
        assert.truthy(result.last.next:find("chown", 1, true))
      end
      assert.truthy(tiny.json(s, { "status" }, { wrap = powerless }).code < 2)
      assert(os.execute(("chmod %s %s"):format(mode, path)))
    end
    assert.same(exact, tiny.exact(s))
  end)

  it("with --yes rolls back first, says so, and upgrades", function()
    local result = tiny.upgrade(s, { "--yes" })
    assert.equal(0, result.code, result.stderr)
    local warning = tiny.event(result, "warning").message
    assert.truthy(warning:find("rolling back the unfinished session " .. id, 1, true))
    assert.equal("rolled_back", tiny.sessions(s)[id].status)
    is_upgraded()
  end)

  it("on a terminal the next upgrade asks, and does as it is told", function()
    local cases = {
      { "leave\n", 3, function() assert.truthy(tiny.names(s, ".upgrade")[1]) end },
      { "resume\n", 0, is_upgraded }, { "rollback\n", 0, is_upgraded },
    }
    for _, case in ipairs(cases) do
      tiny.reset(s)
      helper.write(s.root .. "/answers", case[1])
      local result = tiny.patched(s, ([[
        core.system.isatty = function() return true end
        io.stdin = assert(io.open(%q))
      ]]):format(s.root .. "/answers"), { "upgrade", "--source", s.source })
      assert.equal(case[2], result.code, result.stdout .. result.stderr)
      case[3]()
    end
  end)

  it("a resume does not take over a source that changed meanwhile, but rolls back", function()
    tiny.commit(s, { ["mcp_server/__init__.py"] = "# third release\n" })
    local result = tiny.json(s, { "resume" })
    assert.equal(1, result.code, result.stderr)
    assert.equal("mcp-server-upgrade", tiny.event(result, "phase_failed").phase)
    is_as_before()
  end)

  it("what somebody wrote meanwhile is kept, and resume and rollback say where", function()
    for word, now in pairs({ resume = "# second release\n", rollback = "" }) do
      tiny.reset(s)
      tiny.write(s, "mcp_server/__init__.py", "# typed meanwhile\n")
      local result = tiny.json(s, { word })
      assert.equal(0, result.code, result.stderr)
      local kept = tiny.event(result, "warning").message:match("^(%S+) holds")
      assert.equal("# typed meanwhile\n", helper.read(s.project .. "/" .. kept))
      assert.equal(now, tiny.read(s, "mcp_server/__init__.py"))
      assert.is_true(tiny.is_settled(s))
    end
  end)

  it("a journal suffices: the state file may be gone or damaged", function()
    for _, word in ipairs({ "resume", "rollback" }) do
      for _, damage in ipairs({ os.remove, function(path) helper.write(path, '{"a": 1') end }) do
        tiny.reset(s)
        damage(state_file())
        assert.equal(3, tiny.upgrade(s).code)
        local result = tiny.json(s, { word })
        assert.equal(0, result.code, result.stderr)
        if word == "resume" then is_upgraded() else is_as_before() end
      end
    end
  end)

  -- Neither way out works; the message names the backup, which does.
  local function only_the_backup_helps(problem)
    local resumed = tiny.json(s, { "resume" })
    assert.equal(3, resumed.code)
    assert.truthy(resumed.last.message:find(problem, 1, true), resumed.last.message)
    local rolled_back = tiny.json(s, { "rollback" })
    assert.equal(5, rolled_back.code)
    assert.truthy(rolled_back.last.message:find(problem, 1, true), rolled_back.last.message)
    assert.equal(5, tiny.upgrade(s, { "--yes" }).code)
    local name = rolled_back.last.next:match("praxlua backup restore (%S+)")
    assert.same({ name }, tiny.names(s, ".backups"))
    local restored = tiny.json(s, { "backup", "restore", name, "--yes" })
    assert.equal(0, restored.code, restored.stderr)
    assert.same(before, tiny.snapshot(s))
    return restored
  end

  it("a damaged journal is refused; nothing of it is lost, and the backup helps", function()
    local journal = helper.read(folder() .. "/journal")
    local damaged = journal:sub(1, 40) .. "\255\255" .. journal:sub(43)
    local cut = journal:sub(1, #journal // 2)
    for _, content in ipairs({ damaged, cut, "" }) do
      tiny.reset(s)
      helper.write(folder() .. "/journal", content)
      helper.write(folder() .. "/journal.copy", content)
      local undo = #tiny.names(s, ".upgrade/" .. id .. "/undo")
      local restored = only_the_backup_helps("journal")
      local kept = "lost-" .. id
      assert.equal(undo, #tiny.names(s, ".upgrade/" .. kept .. "/undo"))
      assert.truthy(tiny.event(restored, "warning").message:find(kept, 1, true))
      assert.equal("failed", tiny.sessions(s)[id].status)
    end
    assert.equal(0, tiny.upgrade(s).code)
  end)

  it("an emptied folder is not taken for one that changed nothing; the backup helps", function()
    assert(core.tree.remove(folder()))
    assert(core.file.mkdir(folder() .. "/undo"))
    assert(core.file.mkdir(folder() .. "/stage"))
    only_the_backup_helps("journal")
  end)

  it("a plan that is gone or another one is not made anew; rollback helps", function()
    local other = (helper.read(folder() .. "/plan.json"):gsub("%x(%x%x%x%x%x%x%x)", "0%1", 1))
    for _, content in ipairs({ "", "{", "[]", '{"hash": "another"}', other .. " " }) do
      tiny.reset(s)
      helper.write(folder() .. "/plan.json", content)
      local result = tiny.json(s, { "resume" })
      assert.equal(3, result.code)
      assert.truthy(result.last.message:find("plan", 1, true), result.last.message)
      assert.truthy(result.last.next:find("praxlua rollback " .. id, 1, true))
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end
  end)

  it("a resume that cannot take back the half-done phase says so with 5", function()
    local result = tiny.patched(s, [[
      local run = require("praxlua.run")
      local load = run.load
      run.load = function(r, ...)
        local results = table.pack(load(r, ...))
        local real = r.transaction
        r.transaction = setmetatable({ rewind = function() return nil, "on purpose" end }, {
          __index = function(_, name)
            return function(_, ...) return real[name](real, ...) end
          end,
        })
        return table.unpack(results, 1, results.n)
      end
    ]], { "resume", "--json" })
    assert.equal(5, result.code, result.stderr)
    assert.truthy(result.stderr:find("on purpose", 1, true))
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
  end)

  it("a folder that is gone is refused: what it changed is not called undone", function()
    assert(core.tree.remove(s.target .. "/.upgrade"))
    only_the_backup_helps(".upgrade/" .. id)
    assert.is_true(tiny.is_settled(s))
    assert.equal("failed", tiny.sessions(s)[id].status)
    assert.equal(3, tiny.json(s, { "resume", id }).code)
  end)

  it("is rolled back or resumed from its journal, whatever stands for its state file", function()
    local stands = {
      function(path) assert(os.remove(path)) end,
      function(path) helper.write(path, "") end,
      function(path)
        assert(os.remove(path))
        helper.write(path .. "/in the way", "mine")
      end,
    }
    for word, exit in pairs({ rollback = 0, resume = 0 }) do
      for i, stand in ipairs(stands) do
        tiny.reset(s)
        stand(state_file())
        stand(state_file() .. ".previous")
        local result = tiny.json(s, { word })
        -- Where the file cannot be written, an upgrade cannot go on; its rollback can.
        local expected = i == 3 and word == "resume" and 1 or exit
        assert.equal(expected, result.code, result.stderr)
        if i == 3 then -- the folder waits until the session can be marked
          local warning = tiny.event(result, "warning").message
          assert.truthy(warning:find("move it away", 1, true), warning)
          assert.same(before, tiny.snapshot(s))
          assert(core.tree.remove(state_file()))
          assert(core.tree.remove(state_file() .. ".previous"))
          assert.equal(0, tiny.json(s, { "rollback" }).code)
        end
        if word == "rollback" or i == 3 then
          is_as_before()
        else
          is_upgraded()
        end
      end
    end
  end)

  -- Deletes the old content of a file from the session's undo data.
  local function lose(content)
    local count = 0
    for _, name in ipairs({ "/undo/", "/stage/" }) do
      for _, entry in ipairs(assert(core.tree.list(folder() .. name))) do
        local path = folder() .. name .. entry.path
        if helper.read(path) == content then
          assert(os.remove(path))
          count = count + 1
        end
      end
    end
    assert.is_true(count > 0)
  end

  it("what the undo data lost comes from the backup, and is told", function()
    lose("guide 1\n")
    local result = tiny.json(s, { "rollback" })
    assert.equal(0, result.code, result.stderr)
    local told = tiny.event(result, "warning").message
    assert.truthy(told:find("guide.md was lost; it comes from the backup", 1, true), told)
    is_as_before()
    assert.equal("rolled_back", tiny.sessions(s)[id].status)
  end)

  it("what no backup has either ends the rollback with 5; restoring another one settles it",
    function()
      assert(core.tree.remove(s.target .. "/.backups"))
      lose("guide 1\n")
      local result = tiny.json(s, { "rollback" })
      assert.equal(5, result.code, result.stderr)
      assert.truthy(result.last.message:find("guide.md", 1, true), result.last.message)
      assert.truthy(result.last.message:find("Everything else is as before", 1, true))
      assert.truthy(result.last.next:find("praxlua backup restore NAME", 1, true))
      assert.equal("rollback_failed", tiny.sessions(s)[id].status)
      local here, path = tiny.snapshot(s), tiny.NAME .. "/" .. tiny.GUIDE
      here[path] = before[path]
      assert.same(before, here)
      assert.equal(3, tiny.upgrade(s).code)
      tiny.write(s, tiny.GUIDE, "guide 1\n") -- somebody knows what it was
      local made = tiny.event(tiny.json(s, { "backup", "create" }), "result").data
      local restored = tiny.json(s, { "backup", "restore", made.backup_path:match("([^/]+)/$"),
        "--yes" })
      assert.equal(0, restored.code, restored.stderr)
      assert.same(before, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      assert.equal("nothing_to_do", tiny.json(s, { "resume" }).last.status)
    end)

  it("what is lost for good gives way to the restore of any backup", function()
    assert(core.tree.remove(s.target .. "/.backups"))
    lose("guide 1\n")
    assert.equal(5, tiny.json(s, { "rollback" }).code)
    local made = tiny.event(tiny.json(s, { "backup", "create" }), "result").data
    local name = made.backup_path:match("([^/]+)/$")
    local restored = tiny.json(s, { "backup", "restore", name, "--yes" })
    assert.equal(0, restored.code, restored.stderr)
    assert.same({ "lost-" .. id }, tiny.names(s, ".upgrade"))
    assert.equal("failed", tiny.sessions(s)[id].status)
    assert.equal("nothing_to_do", tiny.json(s, { "resume" }).last.status)
  end)

  it("a newer format is refused, never guessed", function()
    local session = tiny.sessions(s)[id]
    session.format_version = 3
    local newer = seal.encode(session, 99)
    helper.write(state_file(), newer)
    for word, code in pairs({ resume = 3, rollback = 5 }) do
      local result = tiny.json(s, { word })
      assert.equal(code, result.code)
      assert.truthy(result.last.message:find("format 3", 1, true), result.last.message)
    end
    assert.equal(newer, tiny.read(s, ".cache/state/" .. id .. ".json"))
    assert.truthy(helper.read(folder() .. "/journal"))
  end)

  it("refuses a restore as long as the session can be resumed or rolled back", function()
    local name = tiny.names(s, ".backups")[1]
    for _, argv in ipairs({ { "backup", "restore", name, "--yes" },
      { "rollback", "--backup", name } }) do
      local result = tiny.json(s, argv)
      assert.equal(3, result.code)
      assert.truthy(result.last.next:find("praxlua resume " .. id, 1, true))
    end
  end)
end)
