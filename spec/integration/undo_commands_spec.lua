--- Undo commands: what a phase does beside the files is taken back, wherever a kill comes between.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local seal = require("praxlua.seal")
local tiny = require("spec.support.tiny")

-- Two effects outside of the installation, each registered before; a second effect of one of them
-- that was not undone in between would show.
local MAKES = [[
  local phase = { title = "Make marks", after = "content-upgrade", grants = { tools = { "sh" } },
    evidence = { made = receipts_of("spawn"), registered = receipts_of("undo") } }
  function phase.run(host)
    for _, name in ipairs({ "one", "two" }) do
      need(host.undo{ "sh", "-c", 'rm -f "$0" # undo', "%s/" .. name, timeout = 20 })
      local done = need(host.spawn{ "sh", "-c", 'echo x >> "$0" # make', "%s/" .. name })
      if done.code ~= 0 then error(done.stderr) end
    end
    return {}
  end
  return phase
]]

-- Dies around the n-th run of a tool whose words hold a mark.
local function dies(mark, n, when)
  return ([[
    local process = require("praxlua.process")
    local run, count = process.run, 0
    process.run = function(options)
      if not tostring(options.argv[3]):find(%q, 1, true) then return run(options) end
      count = count + 1
      if count == %d and %q == "before" then die() end
      local result, message, code = run(options)
      if count == %d then die() end
      return result, message, code
    end
  ]]):format(mark, n, when, n)
end

describe("An undo command", function()
  local s, before, effects, folder

  before_each(function()
    s = tiny.new()
    before = tiny.snapshot(s)
    effects = s.cache .. "/effects"
    assert(core.file.mkdir(effects))
    folder = tiny.phase(s, "makes", MAKES:format(effects, effects))
  end)
  after_each(helper.clean)

  local function effect(name) return helper.read(effects .. "/" .. name) end
  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
    assert.is_nil(effect("one"))
    assert.is_nil(effect("two"))
  end
  local function is_upgraded()
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.is_true(tiny.is_settled(s))
    assert.equal("x\n", effect("one"))
    assert.equal("x\n", effect("two"))
  end
  local function killed(patch, extra)
    local argv = { "--phases", folder, table.unpack(extra or {}) }
    local result = tiny.patched_upgrade(s, patch, argv)
    assert.equal(137, result.code, result.stderr)
  end

  for where, patch in pairs({
    ["between its registration and the effect"] = dies("# make", 1, "before"),
    ["right after the effect"] = dies("# make", 1, "after"),
    ["in the middle of its phase"] = dies("# make", 2, "before"),
    ["when its phase has done all"] = dies("# make", 2, "after"),
    ["when its phase is complete"] = 'require("praxlua.server").restart_server = die',
  }) do
    it("after a kill " .. where .. " is run by a rollback", function()
      killed(patch)
      local result = tiny.json(s, { "rollback" })
      assert.equal(0, result.code, result.stderr)
      is_as_before()
    end)

    it("after a kill " .. where .. " lets a resume do it once", function()
      killed(patch)
      local result = tiny.json(s, { "resume" })
      assert.equal(0, result.code, result.stderr)
      is_upgraded()
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end)
  end

  for where, patch in pairs({
    ["before the first of them"] = dies("# undo", 1, "before"),
    ["between them"] = dies("# undo", 1, "after"),
    ["after them"] = dies("# undo", 2, "after"),
    ["in the undo of the files"] = [[
      local rollback = require("praxlua.rollback")
      local undo = rollback.undo
      rollback.undo = function(...) undo(...) die() end
    ]],
  }) do
    it("is run again after a kill of the rollback " .. where, function()
      tiny.commit(s, { ["mcp_server/fault"] = "dies\n" })
      killed(patch)
      for _, word in ipairs({ "resume", "rollback" }) do
        tiny.save(s)
        local result = tiny.json(s, { word })
        assert.equal(0, result.code, result.stderr)
        is_as_before()
        tiny.reset(s)
      end
    end)
  end

  it("lets a tool write in the installation, and that goes, too", function()
    local place = s.target .. "/standards" -- a new name at the top is out of a tool's reach
    tiny.phase(s, "makes", MAKES:format(place, place))
    tiny.commit(s, { ["mcp_server/fault"] = "dies\n" })
    assert.equal(1, tiny.upgrade(s, { "--phases", folder }).code)
    is_as_before()
    tiny.commit(s, { ["mcp_server/fault"] = "none\n" })
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(0, result.code, result.stderr)
    assert.equal("x\n", tiny.read(s, "standards/two"))
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
  end)

  it("is run again after a kill of the resume that runs it", function()
    killed(dies("# make", 2, "after"))
    local result = tiny.patched(s, dies("# undo", 1, "after"), { "resume" })
    assert.equal(137, result.code, result.stderr)
    tiny.save(s)
    local resumed = tiny.json(s, { "resume" })
    assert.equal(0, resumed.code, resumed.stderr)
    is_upgraded()
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    tiny.reset(s)
    helper.write(effects .. "/one", "x\n")
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
  end)

  it("that does not end is ended when its time is over", function()
    tiny.phase(s, "makes", [[
      local phase = { title = "x", after = "content-upgrade", grants = { tools = { "sh" } } }
      function phase.run(host)
        need(host.undo{ "sh", "-c", "sleep 300", timeout = 0.2 })
        error("on purpose")
      end
      return phase
    ]])
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(5, result.code, result.stderr)
    assert.truthy(result.last.message:find("of phase makes did not end in time", 1, true))
    assert.equal(0, tiny.json(s, { "rollback", "--skip-undo" }).code)
    is_as_before()
  end)

  it("of a session that a backup was restored for is named", function()
    assert.equal(0, tiny.json(s, { "backup", "create" }).code)
    killed(dies("# make", 2, "after"))
    local id = tiny.names(s, ".upgrade")[1]
    for _, name in ipairs({ "journal", "journal.copy" }) do
      tiny.write(s, ".upgrade/" .. id .. "/" .. name, ("damaged"):rep(100))
    end
    local result = tiny.json(s, { "backup", "restore", "--yes" })
    assert.equal(0, result.code, result.stderr)
    local named = 0
    for _, event in ipairs(result.events) do
      local message = event.event == "warning" and event.message or ""
      if message:find("was not run; run it by hand", 1, true) then
        named = named + 1
      end
    end
    assert.equal(2, named, result.stdout)
  end)

  it("is run when the upgrade fails, the last one first, and told", function()
    tiny.commit(s, { ["mcp_server/fault"] = "dies\n" })
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(1, result.code, result.stderr)
    is_as_before()
    local told = {}
    for _, event in ipairs(result.events) do
      if event.event == "undo_command" then
        assert.is_true(event.success)
        assert.equal("makes", event.phase)
        told[#told + 1] = event.command:match("%a+$")
      end
    end
    assert.same({ "two", "one" }, told)
  end)

  it("goes with a completed upgrade and is run when that is rolled back", function()
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(0, result.code, result.stderr)
    is_upgraded()
    local session = tiny.sessions(s)[result.last.session_id]
    assert.same({ made = 2, registered = 2 }, session.phase_artifacts.makes)
    assert.equal(2, #session.metadata.undo_commands)
    assert.equal(effects .. "/two", session.metadata.undo_commands[2].argv[4])
    -- A conflict stops the command before any of them runs.
    tiny.write(s, tiny.GUIDE, "mine\n")
    assert.equal(4, tiny.json(s, { "rollback" }).code)
    assert.equal("x\n", effect("one"))
    tiny.write(s, tiny.GUIDE, "guide 2\n")
    local killed_one = tiny.patched(s, dies("# undo", 1, "after"), { "rollback" })
    assert.equal(137, killed_one.code, killed_one.stderr)
    -- The rollback itself may be taken back, too, and says what that does not bring back.
    tiny.save(s)
    local restore
    for id, one in pairs(tiny.sessions(s)) do
      if one.metadata.kind == "restore" and one.status == "in_progress" then restore = id end
    end
    local taken_back = tiny.json(s, { "rollback", restore })
    assert.equal(0, taken_back.code, taken_back.stderr)
    assert.truthy(tiny.event(taken_back, "warning").message:find("may be undone already", 1, true))
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.is_nil(tiny.event(taken_back, "undo_command"))
    tiny.reset(s)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
  end)

  describe("that fails", function()
    before_each(function()
      tiny.phase(s, "makes", (MAKES:gsub('rm %-f "%$0" # undo', [[
test ! -e "$0.stuck" || { echo cannot >&2; exit 9; }; rm -f "$0"]]):format(effects, effects)))
      helper.write(effects .. "/one.stuck", "")
    end)

    local function refused(result)
      assert.equal(5, result.code, result.stderr)
      assert.truthy(result.last.message:find("of phase makes ended with code 9: cannot", 1, true),
        result.last.message)
      assert.truthy(result.last.next:find("--skip-undo", 1, true))
    end

    it("stops the rollback with 5, which ends when it is mended", function()
      tiny.commit(s, { ["mcp_server/fault"] = "dies\n" })
      refused(tiny.upgrade(s, { "--phases", folder }))
      assert.equal("x\n", effect("one"))
      refused(tiny.json(s, { "rollback" }))
      os.remove(effects .. "/one.stuck")
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
    end)

    it("is passed over with --skip-undo, and named", function()
      tiny.commit(s, { ["mcp_server/fault"] = "dies\n" })
      refused(tiny.upgrade(s, { "--phases", folder }))
      local result = tiny.json(s, { "rollback", "--skip-undo" })
      assert.equal(0, result.code, result.stderr)
      assert.truthy(tiny.event(result, "warning").message:find("undo by hand", 1, true))
      assert.equal("x\n", effect("one"))
      assert.is_nil(effect("two"))
      assert.same(before, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
    end)

    it("stops a resume and the rollback of a completed upgrade, too", function()
      killed(dies("# make", 2, "after"))
      refused(tiny.json(s, { "resume" }))
      os.remove(effects .. "/one.stuck")
      assert.equal(0, tiny.json(s, { "resume" }).code)
      is_upgraded()
      helper.write(effects .. "/one.stuck", "")
      refused(tiny.json(s, { "rollback" }))
      assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
      assert.equal(0, tiny.json(s, { "rollback", "--skip-undo" }).code)
      assert.same(before, tiny.snapshot(s))
    end)
  end)

  it("whose list is damaged is never guessed", function()
    killed(dies("# make", 2, "after"))
    local id = tiny.names(s, ".upgrade")[1]
    local path = ".upgrade/" .. id .. "/undo-commands.json"
    local document = tiny.read(s, path)
    assert.is_table(seal.open(document))
    tiny.write(s, path, (document:gsub("effects", "efforts")))
    local result = tiny.json(s, { "rollback" })
    assert.equal(5, result.code)
    assert.truthy(result.last.message:find("is damaged", 1, true), result.last.message)
    assert.equal(0, tiny.json(s, { "rollback", "--skip-undo" }).code)
    assert.same(before, tiny.snapshot(s))
  end)

  it("needs the tool's grant, and a time at which there is something to undo", function()
    local cases = {
      ['host.undo{ "rm", "x" }'] = "the tool 'rm' was not granted",
      ['host.undo{ "sh", stdin = "x" }'] = "has no stdin",
      ['host.undo{}'] = "there is no command",
      ['host.undo{ "sh", ("x"):rep(2000000) }'] = "more than 1 MB",
    }
    for call, message in pairs(cases) do
      tiny.phase(s, "makes", ([[
        local phase = { title = "x", after = "content-upgrade", grants = { tools = { "sh" } } }
        function phase.run(host) need(%s) end
        return phase
      ]]):format(call))
      local result = tiny.upgrade(s, { "--phases", folder })
      assert.equal(1, result.code, call)
      local failed = tiny.event(result, "phase_failed", "makes")
      assert.truthy(failed.message:find(message, 1, true), failed.message)
    end
  end)
end)
