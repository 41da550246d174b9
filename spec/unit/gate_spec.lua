--- The gate before the backup: what is shown, what is asked, and what ends a run there.
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

describe("An upgrade at the gate", function()
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

  -- Both sides changed one file.
  local function make_conflict()
    tiny.write(s, tiny.GUIDE, "mine\n")
    before = tiny.snapshot(s)
  end

  describe("of a dry run", function()
    it("changes not one byte or time, and shows the plan the run then carries out", function()
      prepare()
      local exact = tiny.exact(s)
      local dry = tiny.upgrade(s, { "--dry-run" })
      assert.equal(0, dry.code, dry.stderr)
      assert.equal("dry_run", dry.last.status)
      assert.same(exact, tiny.exact(s))
      local plan = tiny.event(dry, "plan")
      local actions = {}
      for _, action in ipairs(plan.actions) do actions[action.path] = action.action end
      assert.same({
        [tiny.GUIDE] = "update", ["workflows/flow/phase.md"] = "add",
        ["standards/universal/testing/retired.md"] = "remove",
        ["mcp_server/__init__.py"] = "update",
      }, actions)
      local real = tiny.upgrade(s, { "--plan", plan.hash })
      assert.equal(0, real.code, real.stderr)
      assert.same(plan.actions, tiny.event(real, "plan").actions)
    end)

    it("tells of conflicts with 4, and of a refusal with 3, and touches nothing", function()
      prepare()
      make_conflict()
      local exact = tiny.exact(s)
      local result = tiny.upgrade(s, { "--dry-run" })
      assert.equal(4, result.code)
      assert.equal(tiny.GUIDE, tiny.event(result, "conflict").path)
      helper.write(s.source .. "/stray.txt", "not committed\n")
      assert.equal(3, tiny.upgrade(s, { "--dry-run" }).code)
      assert.same(exact, tiny.exact(s))
    end)
  end)

  it("refuses with 3 and leaves no trace where there is no plan", function()
    for _, name in ipairs({ "plan", "preview" }) do
      prepare()
      local exact = tiny.exact(s)
      local result = tiny.patched_upgrade(s, ([[
        local gate, content = require("praxlua.gate"), require("praxlua.content")
        local pass = gate.pass
        gate.pass = function(r)
          content.%s = function() return nil, "on purpose" end
          return pass(r)
        end
      ]]):format(name))
      assert.equal(3, result.code, result.stderr)
      assert.equal("on purpose", result.events[#result.events].message)
      assert.same(exact, tiny.exact(s))
      helper.clean()
    end
  end)

  describe("with --plan", function()
    it("refuses another plan than the approved one, and leaves no trace", function()
      prepare()
      local exact = tiny.exact(s)
      local result = tiny.upgrade(s, { "--plan", ("0"):rep(64) })
      assert.equal(3, result.code)
      assert.truthy(result.last.message:find(tiny.event(result, "plan").hash, 1, true))
      assert.truthy(result.last.next:find("--dry-run", 1, true))
      assert.same(exact, tiny.exact(s))
    end)
  end)

  describe("with a conflict", function()
    before_each(function()
      prepare()
      make_conflict()
    end)

    it("waits with 4 and applies nothing, whatever --yes says", function()
      local result = tiny.upgrade(s, { "--on-conflict", "stop", "--yes" })
      assert.equal(4, result.code)
      assert.equal("waiting", result.last.status)
      local id = result.last.session_id
      for _, words in ipairs({ "praxlua conflicts " .. id, "praxlua resume " .. id,
        "--on-conflict theirs", "praxlua rollback " .. id }) do
        assert.truthy(result.last.next:find(words, 1, true), result.last.next)
      end
      local conflict = tiny.event(result, "conflict")
      assert.equal(tiny.GUIDE, conflict.path)
      assert.equal("mine\n", tiny.read(s, conflict.files.ours))
      assert.equal("guide 1\n", tiny.read(s, conflict.files.base))
      assert.equal("guide 2\n", tiny.read(s, conflict.files.theirs))
      assert.truthy(tiny.read(s, conflict.files.merged):find("\n||||||| base\nguide 1\n", 1, true))
      assert.same({ conflicts = 1 }, tiny.sessions(s)[id].metadata.awaits)
      assert.same(before, tiny.snapshot(s))
      assert.same({ "conflicts-" .. id }, tiny.names(s, ".upgrade"))
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      is_as_before()
      assert.same({}, tiny.sessions(s))
    end)

    it("in a dry run on a terminal asks nothing and touches nothing", function()
      local exact = tiny.exact(s)
      local result = tiny.patched(s, "core.system.isatty = function() return true end",
        { "upgrade", "--source", s.source, "--dry-run" })
      assert.equal(4, result.code, result.stdout)
      assert.same(exact, tiny.exact(s))
    end)

    -- On a terminal, where somebody types these lines.
    local function answered(lines)
      helper.write(s.root .. "/answers", lines)
      return tiny.patched(s, ([[
        core.system.isatty = function() return true end
        io.stdin = assert(io.open(%q))
      ]]):format(s.root .. "/answers"), { "upgrade", "--source", s.source })
    end

    it("asks on a terminal about each file, and does as it is told", function()
      tiny.write(s, "mcp_server/__init__.py", "# mine\n")
      local result = answered("theirs\nours\n")
      assert.equal(0, result.code, result.stdout)
      assert.equal("# second release\n", tiny.read(s, "mcp_server/__init__.py"))
      assert.equal("mine\n", tiny.read(s, tiny.GUIDE))
    end)

    it("applies nothing on a terminal where one question is not answered", function()
      local result = answered("")
      assert.equal(3, result.code, result.stdout)
      is_as_before()
      assert.same({}, tiny.sessions(s))
    end)

    it("keeps mine with ours", function()
      assert.equal(0, tiny.upgrade(s, { "--on-conflict", "ours" }).code)
      assert.equal("mine\n", tiny.read(s, tiny.GUIDE))
      assert.equal("phase 2\n", tiny.read(s, "workflows/flow/phase.md"))
    end)

    it("takes the new one with theirs; mine is in the backup", function()
      local result = tiny.upgrade(s, { "--on-conflict", "theirs" })
      assert.equal(0, result.code)
      assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      assert.equal("mine\n", tiny.read(s, tiny.GUIDE))
      is_as_before()
    end)
  end)

end)
