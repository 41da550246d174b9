--- `phase new`: what it writes, where, and what it refuses.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local phases = require("praxlua.phases")
local tiny = require("spec.support.tiny")

describe("phase new", function()
  local s

  before_each(function()
    s = { root = helper.tempdir() }
    s.project, s.target = s.root .. "/project", s.root .. "/project/" .. tiny.NAME
    s.scratch, s.executable = s.root .. "/runs", tiny.executable()
    for _, path in ipairs({ s.scratch, s.project, s.target }) do assert(lfs.mkdir(path)) end
  end)
  after_each(helper.clean)

  local function new(argv, options)
    local result = tiny.json(s, { "phase", "new", table.unpack(argv) }, options)
    local event = tiny.event(result, "result")
    return result, event and event.data
  end

  -- The script, read as an upgrade does, and checked: nothing to say.
  local function good(path)
    local name = path:match("[^/]*$")
    local phase = assert(phases.read(name, assert(helper.read(path), path)))
    local checked = tiny.json(s, { "phase", "check", path })
    assert.same({}, tiny.event(checked, "result").data.findings)
    return phase
  end

  it("writes a script into the installation's folder of phases", function()
    local result, made = new({ "rename-theme" })
    assert.equal(0, result.code, result.stdout)
    assert.equal(s.target .. "/phases/rename-theme.lua", made.path)
    local phase = good(made.path)
    assert.same({ "rename-theme", "Rename theme", "content-upgrade" },
      { phase.id, phase.title, phase.after })
    assert.same({ "rename-theme.lua" }, tiny.names(s, "phases"))
    local list = tiny.run(s, { "phase", "list" }).stdout
    assert.truthy(list:find("+  rename-theme", 1, true), list)
  end)

  it("places it after or before another phase, one of the project's too", function()
    local _, first = new({ "10-first", "--after", "backup-preparation" })
    local _, second = new({ "second", "--before", "first" })
    assert.equal("backup-preparation", good(first.path).after)
    local phase = good(second.path)
    assert.equal("first", phase.before)
    assert.is_nil(phase.after)
  end)

  it("places it by one that is in the same folder elsewhere", function()
    local folder = s.root .. "/elsewhere"
    assert.equal(2, (new({ "b", "--dir", folder, "--after", "a" })).code)
    assert.equal(0, (new({ "a", "--dir", folder })).code)
    assert.equal(0, (new({ "b", "--dir", folder, "--after", "a" })).code)
    assert.equal(0, (new({ "c", "--dir", s.target .. "/phases" })).code)
    assert.equal(0, (new({ "d", "--dir", s.target .. "/phases", "--after", "c" })).code)
  end)

  it("writes where --dir says, and into the working directory without an installation", function()
    local result, made = new({ "one", "--dir", s.root .. "/of mine/deep" })
    assert.equal(0, result.code)
    good(s.root .. "/of mine/deep/one.lua")
    assert.equal("praxlua phase check '" .. s.root .. "/of mine/deep/one.lua'", made.check)
    result, made = new({ "two" }, { directory = s.root })
    assert.equal(0, result.code)
    assert.equal("two.lua", made.path)
    good(s.root .. "/two.lua")
  end)

  it("says what to do next", function()
    local text = tiny.said(tiny.run(s, { "phase", "new", "next-one" }))
    for _, part in ipairs({ "Wrote " .. s.target .. "/phases/next-one.lua",
      "praxlua phase check " .. s.target .. "/phases/next-one.lua", "praxlua phase list",
      "praxlua rehearse --source DIR" }) do
      assert.truthy(text:find(part, 1, true), text)
    end
  end)

  it("never replaces a file, a link or a folder", function()
    tiny.write(s, "phases/mine.lua", "mine")
    assert(lfs.mkdir(s.target .. "/phases/folder.lua"))
    assert(lfs.link("nowhere", s.target .. "/phases/link.lua", true))
    for _, name in ipairs({ "mine", "folder", "link" }) do
      local result = new({ name })
      assert.equal(2, result.code)
      assert.truthy(result.last.message:find("exists already", 1, true))
    end
    assert.equal("mine", tiny.read(s, "phases/mine.lua"))
    assert.equal("nowhere", core.file.readlink(s.target .. "/phases/link.lua"))
    assert.same({ "folder.lua", "link.lua", "mine.lua" }, tiny.names(s, "phases"))
  end)

  it("refuses names that are none, and the built-in ones", function()
    for _, name in ipairs({ "Upper", "a b", "../x", "a/b", "x.lua", "-x", "x-", "a--b", "", "1-",
      "\27[2J", ("x"):rep(65), "rename_theme", "content-upgrade", "7-content-upgrade" }) do
      local result = new({ "--", name })
      assert.equal(2, result.code, name)
      assert.is_nil((result.stdout .. result.stderr):find("\27", 1, true))
    end
    assert.is_false(core.file.exists(s.target .. "/phases"))
  end)

  it("refuses places that are not there, with the nearest name", function()
    local result = new({ "x", "--after", "contentupgrade" })
    assert.equal(2, result.code)
    assert.truthy(result.last.next:find("content-upgrade", 1, true))
    result = new({ "x", "--before", "nowhere" })
    assert.truthy(result.last.next:find("praxlua phase list", 1, true))
    assert.equal(2, tiny.run(s, { "phase", "new", "x", "--after", "a", "--before", "b" }).code)
    tiny.write(s, "phases/broken.lua", "= =")
    assert.equal(1, new({ "x", "--after", "content-upgrade" }).code)
  end)

  it("tells that a folder cannot be made", function()
    helper.write(s.root .. "/file", "x")
    local result = new({ "x", "--dir", s.root .. "/file/below" })
    assert.equal(1, result.code)
    assert.truthy(result.last.next:find("--dir", 1, true))
  end)
end)
