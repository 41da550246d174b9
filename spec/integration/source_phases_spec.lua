--- Phases that a source brings: they run only when somebody allows them.
local helper = require("spec.support.helper")
local lfs = require("lfs")
local source_phases = require("praxlua.source_phases")
local tiny = require("spec.support.tiny")

local MARKS = [[
  local phase = { title = "Mark", after = "content-upgrade", grants = { target = "write" } }
  function phase.run(host) need(host.target.write("marked.txt", "by the source\n")) end
  return phase
]]
local PATH = ".praxlua/phases/mark.lua"

describe("Phases of a source", function()
  local s, before, remembered

  before_each(function()
    s = tiny.new({ second = { [PATH] = MARKS } })
    before = tiny.snapshot(s)
    remembered = s.target .. "/.cache/allowed-sources.json"
  end)
  after_each(helper.clean)

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end
  local function marked() return tiny.read(s, "marked.txt") end

  -- At a terminal, where this is typed.
  local function answered(line, extra)
    helper.write(s.root .. "/answers", line)
    return tiny.patched(s, ([[
      core.system.isatty = function() return true end
      io.stdin = assert(io.open(%q))
    ]]):format(s.root .. "/answers"), { "upgrade", "--source", s.source,
      table.unpack(extra or {}) })
  end

  it("end an upgrade with 4 where nobody can be asked, and it leaves no trace", function()
    for _, extra in ipairs({ {}, { "--yes" } }) do
      local exact = tiny.exact(s)
      local result = tiny.upgrade(s, extra)
      assert.equal(4, result.code, result.stderr)
      assert.truthy(result.last.message:find("mark.lua in " .. s.source .. "/.praxlua/phases", 1,
        true), result.last.message)
      assert.truthy(result.last.next:find("--allow-source-phases", 1, true))
      assert.same(exact, tiny.exact(s))
    end
  end)

  it("run with --allow-source-phases, once, and are undone with the rest", function()
    local result = tiny.upgrade(s, { "--allow-source-phases" })
    assert.equal(0, result.code, result.stderr)
    assert.equal("by the source\n", marked())
    assert.equal(s.source .. "/.praxlua/phases", tiny.event(result, "phases").phases[4].from)
    assert.is_nil(lfs.attributes(remembered))
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
    assert.equal(4, tiny.upgrade(s).code)
  end)

  it("are allowed for a commit: another one, or other scripts, are asked about again", function()
    local result = answered("once\n")
    assert.equal(0, result.code, result.stdout)
    assert.truthy(result.stdout:find("The source brings 1 phase of its own", 1, true))
    assert.equal("by the source\n", marked())
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    assert.equal(0, tiny.upgrade(s).code)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    tiny.commit(s, { ["universal/standards/testing/new.md"] = "new\n" })
    assert.equal(4, tiny.upgrade(s).code)
    assert.equal(0, answered("once\n").code)
  end)

  it("are allowed for a path, whatever it brings later", function()
    assert.equal(0, answered("always\n").code)
    tiny.commit(s, { [".praxlua/phases/more.lua"] = MARKS:gsub("marked", "more") })
    local result = tiny.upgrade(s)
    assert.equal(0, result.code, result.stderr)
    assert.equal("completed", tiny.json(s, { "status" }).last.status)
    helper.write(remembered, (helper.read(remembered):gsub("true", "tru3")))
    tiny.commit(s, { ["universal/standards/testing/new.md"] = "new\n" })
    assert.equal(4, tiny.upgrade(s).code, "a damaged answer allows nothing")
  end)

  it("end the upgrade with 3 when the answer is no, or none", function()
    for _, line in ipairs({ "no\n", "\n", "" }) do
      local result = answered(line)
      assert.equal(3, result.code, result.stdout)
      is_as_before()
      assert.is_nil(lfs.attributes(remembered))
    end
  end)

  it("are named by a dry run, which neither asks nor remembers nor runs them", function()
    tiny.commit(s, { [PATH] = (MARKS:gsub('after = "content%-upgrade"',
      'before = "backup-preparation"')) })
    local exact = tiny.exact(s)
    local result = tiny.upgrade(s, { "--dry-run" })
    assert.equal(0, result.code, result.stderr)
    assert.equal("mark", tiny.event(result, "phases").phases[2].id)
    assert.is_nil(tiny.event(result, "phase_started", "mark"))
    assert.truthy(tiny.event(result, "warning").message:find("yet (mark.lua)", 1, true))
    assert.same(exact, tiny.exact(s))
    assert.equal(4, tiny.upgrade(s).code)
    is_as_before()
    result = tiny.upgrade(s, { "--dry-run", "--allow-source-phases" }) -- it may not write there
    assert.equal("error", tiny.event(result, "phase_failed", "mark").verdict)
    assert.same(exact, tiny.exact(s))
  end)

  it("are not asked about where there is nothing to do", function()
    assert.equal(0, tiny.upgrade(s, { "--allow-source-phases" }).code)
    local result = tiny.upgrade(s)
    assert.equal(0, result.code, result.stderr)
    assert.equal("nothing_to_do", result.last.status)
  end)

  it("that are wrong are told to be the source's", function()
    tiny.commit(s, { [".praxlua/phases/wrong.lua"] = "= =" })
    local result = tiny.upgrade(s, { "--allow-source-phases" })
    assert.equal(3, result.code)
    assert.truthy(result.last.next:find("the source brings this script, in " .. s.source, 1, true),
      result.last.next)
  end)

  it("cannot take the place of another phase", function()
    tiny.commit(s, { [".praxlua/phases/backup-preparation.lua"] = MARKS })
    local result = tiny.upgrade(s, { "--allow-source-phases" })
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find("take the place of 'backup-preparation'", 1, true),
      result.last.message)
    tiny.commit(s, { [".praxlua/phases/backup-preparation.lua"] = false })
    local own = tiny.phase(s, "mark", MARKS)
    assert.truthy(tiny.upgrade(s, { "--allow-source-phases", "--phases", own }).last.message
      :find("two phases have the id 'mark'", 1, true))
    is_as_before()
  end)

  it("that a resume finds changed are refused; the old ones, or a rollback, go on", function()
    local killed = tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die',
      { "--allow-source-phases" })
    assert.equal(137, killed.code, killed.stderr)
    tiny.save(s)
    tiny.commit(s, { [PATH] = MARKS:gsub("marked", "other") })
    local result = tiny.json(s, { "resume" })
    assert.equal(3, result.code, result.stderr)
    assert.truthy(result.last.message:find("not those this upgrade began with", 1, true))
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
    tiny.reset(s)
    assert.equal(0, tiny.json(s, { "resume" }).code)
    assert.equal("by the source\n", marked())
  end)

  it("are read through no link, and only where the layout has them", function()
    assert.is_table(source_phases.read(s.source))
    helper.write(s.root .. "/outside/mark.lua", MARKS)
    assert(os.rename(s.source .. "/.praxlua/phases", s.root .. "/away"))
    assert(lfs.link(s.root .. "/outside", s.source .. "/.praxlua/phases", true))
    assert.is_nil((source_phases.read(s.source)))
    os.remove(s.source .. "/.praxlua/phases")
    lfs.mkdir(s.source .. "/.praxlua/phases")
    assert(lfs.link(s.root .. "/outside/mark.lua", s.source .. "/.praxlua/phases/mark.lua", true))
    assert.is_false((source_phases.read(s.source)))
    assert.is_false((source_phases.read(s.root)))
    assert(os.rename(s.source .. "/.praxlua", s.root .. "/elsewhere"))
    assert.is_false((source_phases.read(s.source)))
    assert(lfs.link(s.root .. "/elsewhere", s.source .. "/.praxlua", true))
    assert.is_nil((source_phases.read(s.source)))
  end)
end)
