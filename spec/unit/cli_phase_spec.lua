local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

describe("praxlua phase", function()
  local s

  before_each(function()
    s = { root = helper.tempdir() }
    s.project, s.target = s.root .. "/project", s.root .. "/project/" .. tiny.NAME
    s.scratch, s.executable = s.root .. "/runs", tiny.executable()
    assert(require("lfs").mkdir(s.scratch))
    tiny.write(s, "phases/7-house-keeping.lua", [[
      return { title = "House \27[31mkeeping", after = "content-upgrade",
        grants = { source = "read", target = "write", tools = { "git", "make" }, network = true },
        limits = { wall = 5 }, run = function() end }
    ]])
  end)
  after_each(helper.clean)

  it("list shows them in order, the project's own among them", function()
    local result = tiny.json(s, { "phase", "list" })
    assert.equal(0, result.code, result.stderr)
    local ids = {}
    for i, phase in ipairs(tiny.event(result, "result").data) do ids[i] = phase.id end
    assert.same({ "pre-flight-checks", "backup-preparation", "content-upgrade", "house-keeping",
      "mcp-server-upgrade", "post-upgrade-validation", "cleanup-documentation" }, ids)
    local own = tiny.event(result, "result").data[4]
    assert.equal(s.target .. "/phases", own.from)
    assert.equal("content-upgrade", own.after)
    local text = tiny.run(s, { "phase", "list" }).stdout
    assert.truthy(text:find("\n+  house-keeping", 1, true), text)
    assert.is_nil(text:find("\27", 1, true))
  end)

  it("list works without an installation, and with further folders", function()
    local folder = tiny.phase(s, "extra", 'return { title = "Extra", before = "house-keeping", '
      .. "run = function() end }")
    local result = tiny.json(s, { "phase", "list", "--phases", folder })
    assert.equal("extra", tiny.event(result, "result").data[4].id)
    s.project = s.root
    assert.equal(6, #tiny.event(tiny.json(s, { "phase", "list" }), "result").data)
    assert.equal(1, tiny.json(s, { "phase", "list", "--phases", folder }).code)
  end)

  it("show tells a phase's grants, limits and script, by id or number", function()
    for _, id in ipairs({ "0", "pre-flight-checks" }) do
      local result = tiny.json(s, { "phase", "show", id })
      assert.equal(0, result.code)
      local data = tiny.event(result, "result").data
      assert.equal(0, data.number)
      assert.equal(helper.read("phases/0-pre-flight-checks.lua"), data.source)
      assert.is_table(data.limits)
    end
    local text = tiny.run(s, { "phase", "show", "house-keeping" }).stdout
    local grants = "source: read; target: write; tools: git, make; network"
    assert.truthy(text:find(grants, 1, true), text)
    assert.truthy(text:find("5 s, 10 s of CPU, 64 MiB", 1, true), text)
    assert.truthy(text:find("return { title", 1, true), text)
    assert.is_nil(text:find("\27", 1, true))
    text = tiny.run(s, { "phase", "show", "1" }).stdout
    assert.truthy(text:find("services: backup, lock", 1, true), text)
  end)

  it("show tells that a phase may use nothing", function()
    tiny.write(s, "phases/idle.lua", 'return { title = "Idle", after = "content-upgrade", '
      .. "run = function() end }")
    local text = tiny.run(s, { "phase", "show", "idle" }).stdout
    assert.truthy(text:find("may use  nothing", 1, true), text)
  end)

  it("show exits 2 for a phase that is not there, and says where to look", function()
    for _, id in ipairs({ "nonsense", "9", "1.5", "", "\27[2J" }) do
      local result = tiny.json(s, { "phase", "show", id })
      assert.equal(2, result.code)
      assert.truthy(result.last.next:find("praxlua phase list", 1, true))
    end
  end)

  it("exits 1 and names the script that is wrong", function()
    tiny.write(s, "phases/broken.lua", "return 7")
    for _, argv in ipairs({ { "phase", "list" }, { "phase", "show", "0" } }) do
      local result = tiny.json(s, argv)
      assert.equal(1, result.code)
      assert.truthy(result.last.message:find("broken.lua", 1, true), result.last.message)
    end
  end)
end)
