--- praxlua rehearse: an upgrade, its rollback and the upgrade again on a copy, and what is said
-- where they do not lead to the same.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local rehearse = require("praxlua.rehearse")
local tiny = require("spec.support.tiny")

-- A phase that runs a line of sh, in the copy's project.
local TOOL = [[
local phase = {
  title = "A tool", after = "content-upgrade",
  grants = { target = "write", tools = { "sh" } }, evidence = { code = integer{} },
}
function phase.run(host)
  need(host.undo{ "sh", "-c", "true" }) -- which undoes nothing
  return { code = need(host.spawn{ "sh", "-c", %q }).code }
end
return phase
]]

describe("rehearse.compare", function()
  it("tells what is missing, new and changed, in order", function()
    assert.same({}, rehearse.compare({ a = "1" }, { a = "1" }))
    assert.same({
      { path = "a", what = "missing" }, { path = "b", what = "changed" },
      { path = "c", what = "new" },
    }, rehearse.compare({ a = "1", b = "1", d = "1" }, { b = "2", c = "1", d = "1" }))
  end)
end)

describe("A rehearsal", function()
  local s, exact, temporary

  setup(function()
    s = tiny.new()
    tiny.write(s, "venv/bin/tool", "#!" .. s.target .. "/venv/bin/python\nof a package\n")
    tiny.save(s)
    temporary = s.root .. "/tmp"
    lfs.mkdir(temporary)
    s.environment.TMPDIR = temporary
  end)
  before_each(function()
    tiny.reset(s)
    exact = tiny.exact(s)
  end)
  teardown(helper.clean)

  local function nothing_is_left()
    for name in lfs.dir(temporary) do
      assert.is_nil(name:find("rehearsal", 1, true), name .. " is left")
    end
  end

  local function run(extra)
    local result = tiny.json(s, { "rehearse", "--source", s.source, table.unpack(extra or {}) })
    local told = tiny.event(result, "result")
    result.data = told and told.data
    nothing_is_left()
    return result
  end

  local function with_tool(script)
    return { "--phases", tiny.phase(s, "tool", TOOL:format(script)) }
  end

  local function difference(result, path)
    for _, found in ipairs(result.data.differences) do
      if found.path == path then return found.what, found.between end
    end
  end

  it("ends with 0 when all comes out as it should, and touches nothing", function()
    local result = run()
    assert.equal(0, result.code, result.stderr)
    assert.is_true(result.data.identical)
    assert.equal(0, result.data.different)
    assert.is_true(result.data.entries > 10)
    local names = {}
    for i, step in ipairs(result.data.steps) do
      assert.equal(0, step.exit_code)
      assert.is_true(step.seconds > 0)
      names[i] = step.name
    end
    assert.same({ "the upgrade", "the rollback", "the second upgrade" }, names)
    assert.equal(2, result.data.steps[3].counts.updated_files)
    assert.same(exact, tiny.exact(s))
  end)

  it("says it to people as well, of the source that the project file names", function()
    tiny.write(s, "upgrade.lua", "return { source_path = '../source', dry_run = true, "
      .. "git_commit_after = true, on_conflict = 'theirs' }")
    local result = tiny.run(s, { "rehearse" })
    assert.equal(0, result.code, result.stderr)
    local said = tiny.said(result)
    assert.truthy(said:find("ok the second upgrade", 1, true), said)
    assert.truthy(said:find("1 new, 2 updated, 0 merged, 1 removed", 1, true), said)
    assert.truthy(said:find("The rollback brought back exactly", 1, true), said)
  end)

  it("finds what a rollback does not take back", function()
    local result = run(with_tool("echo > .praxis-os/standards/left"))
    assert.equal(1, result.code)
    local what, between = difference(result, "standards/left")
    assert.equal("new", what)
    assert.truthy(between:find("after the rollback", 1, true))
    assert.same(exact, tiny.exact(s))
  end)

  it("finds what is another at each upgrade", function()
    local phases = tiny.phase(s, "tool", [[
local phase = { title = "The time", after = "content-upgrade", evidence = {},
  grants = { target = "write", tools = { "date" } } }
function phase.run(host)
  need(host.target.write("specs/now.txt", need(host.spawn{ "date", "+%s %N" }).stdout))
  return {}
end
return phase
]])
    local result = run({ "--phases", phases })
    assert.equal(1, result.code, result.stderr)
    local what, between = difference(result, "specs/now.txt")
    assert.equal("changed", what)
    assert.truthy(between:find("first upgrade and the second", 1, true))
    assert.equal(1, result.data.different)
    assert.truthy(result.last.next)
  end)

  it("finds what changes meanwhile in the installation itself", function()
    local result = tiny.patched(s, ([[
      local settle = require("praxlua.execution").settle
      require("praxlua.execution").settle = function(r)
        assert(core.file.write_atomic(%q, ""))
        return settle(r)
      end
    ]]):format(s.target .. "/venv/packages"), { "rehearse", "--source", s.source, "--json" })
    assert.equal(1, result.code, result.stderr)
    result.events = command.events(result.stdout)
    result.data = tiny.event(result, "result").data
    nothing_is_left()
    local what, between = difference(result, "venv/packages")
    assert.equal("new", what)
    assert.truthy(between:find("before the rehearsal", 1, true))
    os.remove(s.target .. "/venv/packages")
  end)

  it("runs on a copy whose scripts do not lead into the installation", function()
    local result = run(with_tool("head -n 2 .praxis-os/venv/bin/tool >> " .. s.cache .. "/header"))
    assert.equal(0, result.code, result.stderr)
    local header = helper.read(s.cache .. "/header") -- a long path is in the second line
    assert.truthy(header:find("praxlua-rehearsal-", 1, true), header)
    assert.is_nil(header:find(s.target, 1, true), header)
  end)

  it("ends with 1 when an upgrade fails, and says why", function()
    local phases = tiny.phase(s, "tool", [[
local phase = { title = "No", after = "content-upgrade", grants = {}, evidence = {} }
function phase.run() error("on purpose") end
return phase
]])
    local result = run({ "--phases", phases })
    assert.equal(1, result.code)
    assert.truthy(result.last.message:find("the upgrade ended with exit code 1", 1, true))
    assert.truthy(tiny.event(result, "phase_failed").message:find("on purpose", 1, true))
    assert.equal(1, #result.data.steps)
    assert.same(exact, tiny.exact(s))
    local said = tiny.said(tiny.run(s, { "rehearse", "--source", s.source, "--phases", phases }))
    assert.truthy(said:find("the upgrade ended with exit code 1", 1, true), said)
    assert.is_nil(said:find("praxlua-rehearsal", 1, true), said)
  end)

  it("ends with 1 at a conflict, unless it is told how to decide", function()
    tiny.write(s, tiny.GUIDE, "my own\n")
    local result = run()
    assert.equal(1, result.code, result.stderr)
    assert.equal(tiny.GUIDE, tiny.event(result, "conflict").path)
    assert.truthy(result.last.next:find("--on-conflict", 1, true))
    assert.equal(0, run({ "--on-conflict", "ours" }).code)
    assert.equal("my own\n", tiny.read(s, tiny.GUIDE))
  end)

  it("has nothing to do where the installation is up to date", function()
    assert.equal(0, tiny.upgrade(s).code)
    local result = run()
    assert.equal(0, result.code, result.stderr)
    assert.equal("nothing_to_do", result.last.status)
  end)

  it("is refused while an upgrade runs, or one did not finish, or where there is none", function()
    local lock = assert(core.lock.acquire(s.target))
    assert.equal(6, run().code)
    lock:release()
    local killed = tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die')
    assert.equal(137, killed.code)
    local result = run()
    assert.equal(3, result.code, result.stderr)
    assert.truthy(result.last.next:find("praxlua resume", 1, true))
    assert.equal(3, run({ "--target", s.root }).code)
    assert.equal(3, run({ "--target", s.root .. "/none" }).code)
  end)

  it("is refused where no copy can be made", function()
    s.environment.TMPDIR = s.root .. "/none"
    finally(function() s.environment.TMPDIR = temporary end)
    assert(os.execute("chmod 555 " .. command.quote(s.root .. "/bin") .. " 2>/dev/null; true"))
    helper.write(s.root .. "/none", "a file")
    local result = run()
    assert.equal(3, result.code)
    assert.truthy(result.last.next:find("TMPDIR", 1, true))
    os.remove(s.root .. "/none")
    assert.equal(3, run().code)
    assert.is_false(core.file.exists(s.root .. "/none"))
    s.environment.TMPDIR = s.target .. "/specs"
    assert.equal(3, run().code)
  end)

  it("ends at a signal, and nothing is left of it", function()
    local argv = { "env", "--default-signal=HUP", s.executable, "rehearse", "--source", s.source,
      "--json" }
    for name, code in pairs({ INT = 130, TERM = 143, HUP = 129 }) do
      local going = command.start(argv, { scratch = s.scratch, environment = s.environment,
        directory = s.project, seconds = 60 })
      assert.is_table(command.await(going, function(event)
        return event.event == "phase_progress" and event.text:find("Content upgrade", 1, true)
      end))
      command.kill(going, name)
      local result = tiny.finish(going)
      assert.equal(code, result.code, result.stdout)
      assert.equal("interrupted", result.last.status)
      assert.truthy(result.last.message:find("nothing is left of it", 1, true))
      assert.is_nil(tiny.event(result, "phase_failed"))
      nothing_is_left()
      assert.same(exact, tiny.exact(s))
    end
  end)
end)
