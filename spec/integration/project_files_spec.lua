--- What a phase changes where no backup reaches, in the project around the installation and in what
--- is
-- ephemeral in it, comes back with a rollback of the completed upgrade, too.
local helper = require("spec.support.helper")
local lfs = require("lfs")
local tiny = require("spec.support.tiny")

local PHASE = [[
local phase = { title = "All over the project", after = "content-upgrade",
  grants = { project = "write", target = "write" } }
function phase.run(host)
  need(host.project.write("tool.sh", "new\n"))
  need(host.project.write("tool.sh", "newer\n"))
  need(host.project.write("made/deep/new.txt", "new\n"))
  need(host.project.remove("gone.txt"))
  need(host.project.remove("link"))
  need(host.project.rename("old-folder", "new-folder"))
  need(host.project.rename("notes", ".praxis-os/notes"))
  need(host.target.write("__pycache__/x.pyc", "new"))
  return {}
end
return phase
]]

describe("A completed upgrade whose phase changed the project", function()
  local s, before

  lazy_setup(function()
    s = tiny.new()
    helper.tree(s.project, {
      ["tool.sh"] = "old\n", ["gone.txt"] = "gone\n", ["old-folder/a/b.txt"] = "b\n",
      ["old-folder/c.txt"] = "c\n", ["notes/n.md"] = "notes\n", ["kept.txt"] = "kept\n",
      [".praxis-os/__pycache__/x.pyc"] = "old",
    })
    os.execute("cd " .. s.project .. " && chmod 750 tool.sh old-folder/a && chmod 600 gone.txt "
      .. "&& ln -s kept.txt link")
    tiny.write(s, "phases/all-over.lua", PHASE)
    tiny.save(s)
  end)
  lazy_teardown(helper.clean)
  before_each(function()
    tiny.reset(s)
    before = tiny.snapshot(s)
  end)

  local function upgrade(argv)
    local result = tiny.upgrade(s, argv)
    assert.equal(0, result.code, result.stdout)
    assert.equal("newer\n", helper.read(s.project .. "/tool.sh"))
    assert.equal("b\n", helper.read(s.project .. "/new-folder/a/b.txt"))
    assert.equal("notes\n", tiny.read(s, "notes/n.md"))
    return result
  end

  local function kept()
    local found = {}
    for _, name in ipairs(tiny.names(s, ".cache")) do
      if name:find("^originals%-") then found[#found + 1] = name end
    end
    return found
  end

  it("is rolled back to the byte, also what is ephemeral", function()
    upgrade()
    assert.equal(1, #kept())
    local result = tiny.json(s, { "rollback" })
    assert.equal(0, result.code, result.stdout)
    assert.same(before, tiny.snapshot(s))
    assert.equal("old", tiny.read(s, "__pycache__/x.pyc"))
    assert.is_true(tiny.is_settled(s))
  end)

  it("is not rolled back over what somebody changed since, unless that is said", function()
    upgrade()
    helper.write(s.project .. "/tool.sh", "mine\n")
    helper.write(s.project .. "/gone.txt", "mine, too\n")
    local changed = tiny.snapshot(s)
    local result = tiny.json(s, { "rollback" })
    assert.equal(4, result.code)
    assert.same(changed, tiny.snapshot(s))
    local paths = {}
    for _, event in ipairs(result.events) do
      if event.event == "conflict" then paths[#paths + 1] = event.path end
    end
    assert.same({ "gone.txt", "tool.sh" }, paths)
    assert.equal(0, tiny.json(s, { "rollback", "--on-conflict", "ours" }).code)
    assert.equal("mine\n", helper.read(s.project .. "/tool.sh"))
    assert.equal("notes\n", helper.read(s.project .. "/notes/n.md"))
  end)

  it("is rolled back over it when that is said", function()
    upgrade()
    helper.write(s.project .. "/tool.sh", "mine\n")
    local result = tiny.json(s, { "rollback", "--on-conflict", "theirs" })
    assert.equal(0, result.code, result.stdout)
    assert.same(before, tiny.snapshot(s))
  end)

  it("is not rolled back by halves when the old content is gone", function()
    upgrade()
    local after = tiny.snapshot(s)
    local folder = s.target .. "/.cache/" .. kept()[1]
    for name in lfs.dir(folder) do
      if name:find("^%x") then helper.write(folder .. "/" .. name, "damaged") end
    end
    local result = tiny.json(s, { "rollback" })
    assert.equal(5, result.code)
    assert.truthy(result.last.message:find("is no longer in", 1, true), result.last.message)
    assert.same(after, tiny.snapshot(s))
  end)

  it("keeps the old content until the next upgrade", function()
    upgrade()
    assert.equal(1, #kept())
    tiny.commit(s, { ["universal/standards/ai-assistant/guide.md"] = "guide 3\n" })
    os.remove(s.target .. "/phases/all-over.lua")
    assert.equal(0, tiny.upgrade(s).code)
    assert.same({}, kept())
  end)

  it("leaves nothing behind when it fails instead", function()
    local folder = tiny.phase(s, "fails", "return { title = 'Fails', after = 'all-over', "
      .. "run = function() error('no', 0) end }")
    local result = tiny.upgrade(s, { "--phases", folder })
    assert.equal(1, result.code)
    assert.same(before, tiny.snapshot(s))
    assert.same({}, kept())
  end)
end)
