--- The examples of docs/writing-phases.md, as they stand in the page: checked, run in an upgrade,
--- and
-- taken back by a rollback; and what `phase new` writes. The manual one has a spec of its own.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local page = require("spec.support.page")
local tiny = require("spec.support.tiny")

local CONFIG = '{\n  "theme" : "dark", "inner": {"size": 1, "none": null},\n  "list": []\n}\n'

describe("The examples of the guide for phases", function()
  local s, scripts

  lazy_setup(function()
    scripts = page.scripts()
    s = tiny.new()
    tiny.write(s, "config.json", CONFIG)
    helper.tree(s.project .. "/.agent-os/product", {
      ["mission.md"] = "mission\n", ["deep/roadmap.md"] = "roadmap\n",
    })
    tiny.save(s)
  end)
  lazy_teardown(helper.clean)
  before_each(function() tiny.reset(s) end)

  local function add(name) tiny.write(s, "phases/" .. name, assert(scripts[name], name)) end

  local function check(name)
    local result = tiny.json(s, { "phase", "check", s.target .. "/phases/" .. name })
    assert.equal(0, result.code, result.stdout)
    assert.same({}, tiny.event(result, "result").data.findings)
  end

  local function evidence_of(result, id)
    return tiny.event(result, "phase_completed", id).evidence
  end

  -- Upgrades, and rolls back; everything must then be as it was.
  local function goes_and_comes_back(id, look)
    local before = tiny.snapshot(s)
    local result = tiny.upgrade(s)
    assert.equal(0, result.code, result.stdout)
    look(evidence_of(result, id), result)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    local back = tiny.json(s, { "rollback" })
    assert.equal(0, back.code, back.stdout)
    assert.same(before, tiny.snapshot(s))
  end

  it("are three, and one of them is manual", function()
    local names = {}
    for name, code in pairs(scripts) do
      names[#names + 1] = name
      assert.equal(name == "approve-standards.lua", code:find("manual =", 1, true) ~= nil, name)
    end
    table.sort(names)
    assert.same({ "approve-standards.lua", "move-product.lua", "rename-theme.lua" }, names)
  end)

  it("rename a key, and nothing else in the file", function()
    add("rename-theme.lua")
    check("rename-theme.lua")
    goes_and_comes_back("rename-theme", function(evidence)
      assert.same({ keys_renamed = 1 }, evidence)
      assert.equal((CONFIG:gsub('"theme"', '"appearance"')), tiny.read(s, "config.json"))
    end)
  end)

  it("rename nothing the second time, nor where the key is there twice", function()
    add("rename-theme.lua")
    tiny.write(s, "config.json", '{"appearance": 1}')
    local result = tiny.upgrade(s)
    assert.same({ keys_renamed = 0 }, evidence_of(result, "rename-theme"))
    tiny.reset(s)
    add("rename-theme.lua")
    tiny.write(s, "config.json", '{"theme": 1, "of": {"theme": 2}}')
    local before = tiny.snapshot(s)
    result = tiny.upgrade(s)
    assert.equal(1, result.code)
    local failed = tiny.event(result, "phase_failed", "rename-theme")
    assert.equal("error", failed.verdict)
    assert.truthy(failed.message:find("rename the right one by hand", 1, true), failed.message)
    assert.same(before, tiny.snapshot(s))
  end)

  it("move a folder of the older layout", function()
    add("move-product.lua")
    check("move-product.lua")
    goes_and_comes_back("move-product", function(evidence)
      assert.same({ moved = true, files = 2 }, evidence)
      assert.equal("mission\n", tiny.read(s, "product/mission.md"))
      assert.equal("roadmap\n", tiny.read(s, "product/deep/roadmap.md"))
      assert.is_false(core.file.exists(s.project .. "/.agent-os/product"))
    end)
  end)

  it("leave a folder alone where there is one at its new place", function()
    add("move-product.lua")
    tiny.write(s, "product/mine.md", "mine\n")
    local result = tiny.upgrade(s)
    assert.equal(0, result.code, result.stdout)
    assert.same({ moved = false, files = 0 }, evidence_of(result, "move-product"))
    assert.equal("mission\n", helper.read(s.project .. "/.agent-os/product/mission.md"))
    local warned = false
    for _, event in ipairs(result.events) do
      warned = warned or event.event == "warning" and event.message:find("by hand", 1, true) ~= nil
    end
    assert.is_true(warned)
  end)

  it("and what `phase new` writes pass the check and run", function()
    local made = tiny.json(s, { "phase", "new", "10-look-around", "--before",
      "post-upgrade-validation" })
    assert.equal(0, made.code, made.stdout)
    assert.equal(s.target .. "/phases/10-look-around.lua", tiny.event(made, "result").data.path)
    check("10-look-around.lua")
    goes_and_comes_back("look-around", function(evidence)
      assert.is_true(evidence.entries_seen > 5)
    end)
  end)
end)
