--- What a phase changes where no backup reaches, in the project around the installation and in what
--- is
-- ephemeral in it, comes back with a rollback of the completed upgrade, too.
local core = require("praxlua.core")
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
  need(host.project.write("made/deep/new.txt", "newer\n"))
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

-- Two phases of an upgrade write in the installation; before each of them a person may do so.
describe("What a person writes in the installation after the backup", function()
  local WAIT = "return { title = 'Wait', after = %q, manual = 'Look.', "
    .. "evidence = { done = boolean{} } }"
  local WRITE = [[
    local phase = { title = "Write", after = %q, grants = { target = "write" } }
    function phase.run(host)
      %s
      return {}
    end
    return phase
  ]]
  local OURS, NEW = tiny.GUIDE, "standards/development/new.md"
  local MINE = "standards/development/mine.md"
  local s, folder, before

  lazy_setup(function()
    s = tiny.new()
    tiny.write(s, MINE, "mine 1\n")
    tiny.write(s, "standards/development/still.md", "still\n")
    tiny.save(s)
  end)
  lazy_teardown(helper.clean)
  before_each(function()
    tiny.reset(s)
    before = tiny.snapshot(s)
  end)

  local function phases(first, second)
    tiny.phase(s, "wait-1", WAIT:format("content-upgrade"))
    tiny.phase(s, "write-1", WRITE:format("wait-1", first))
    tiny.phase(s, "wait-2", WAIT:format("write-1"))
    folder = tiny.phase(s, "write-2", WRITE:format("wait-2", second or ""))
  end

  local function resume(evidence, ...)
    return tiny.json(s, { "resume", evidence and "--evidence", evidence, ... })
  end

  -- What the person does in each of the two breaks, and what the installation is before them.
  local function upgrade(first, second)
    assert.equal(4, tiny.upgrade(s, { "--phases", folder }).code)
    if first then first() end
    assert.equal(4, resume("done=true").code)
    if second then second() end
    local result = resume("done=true")
    assert.equal(0, result.code, result.stdout)
  end

  -- The rollback leads to what was there before the upgrade, but for these files.
  local function leads_back_to(files, ...)
    local result = tiny.json(s, { "rollback", ... })
    assert.equal(0, result.code, result.stdout)
    for path, data in pairs(files) do
      assert.equal(data, tiny.read(s, path), path)
      path = (tiny.NAME .. "/" .. path):gsub("^.*/%.%./", "")
      before[path] = ("file 644 %s"):format(core.hash.sha256(data))
    end
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  local WRITES = ([[
    need(host.target.write(%q, "phase\n"))
    need(host.target.write(%q, "phase\n"))
    need(host.target.write(%q, "phase\n"))
    need(host.target.write("standards/development/still.md", "phase\n"))
  ]]):format(NEW, MINE, OURS)

  local function edit(text)
    return function()
      tiny.write(s, NEW, "new " .. text)
      tiny.write(s, MINE, "mine " .. text)
      tiny.write(s, OURS, "guide " .. text)
    end
  end
  local function edited(text)
    return { [NEW] = "new " .. text, [MINE] = "mine " .. text, [OURS] = "guide " .. text }
  end

  it("comes back with a rollback where a phase wrote over it", function()
    phases(WRITES)
    upgrade(edit("by hand\n"))
    assert.equal("phase\n", tiny.read(s, NEW))
    leads_back_to(edited("by hand\n"))
  end)

  it("comes back as it was written last where phases wrote over it twice", function()
    phases(WRITES, WRITES:gsub("phase\\n", "again\\n"))
    upgrade(edit("by hand\n"), edit("once more\n"))
    leads_back_to(edited("once more\n"))
  end)

  it("comes back where a phase wrote first, and wrote over it then", function()
    phases(WRITES, WRITES:gsub("phase\\n", "again\\n"))
    upgrade(nil, edit("in between\n"))
    leads_back_to(edited("in between\n"))
  end)

  it("comes back where a phase removed or moved it", function()
    phases(([[
      need(host.target.remove(%q))
      need(host.target.rename("drafts", "moved"))
      need(host.target.rename(%q, "mine.md"))
    ]]):format(NEW, MINE))
    upgrade(function()
      tiny.write(s, NEW, "new\n")
      tiny.write(s, MINE, "mine 2\n")
      tiny.write(s, "drafts/deep/a.md", "draft\n")
    end)
    assert.equal("draft\n", tiny.read(s, "moved/deep/a.md"))
    before[tiny.NAME .. "/drafts"] = "directory 755 "
    before[tiny.NAME .. "/drafts/deep"] = "directory 755 "
    leads_back_to({ [NEW] = "new\n", [MINE] = "mine 2\n", ["drafts/deep/a.md"] = "draft\n" })
  end)

  it("is no person's where phases wrote it", function()
    phases(WRITES, WRITES:gsub("phase\\n", "again\\n"))
    upgrade()
    leads_back_to({})
  end)

  it("comes back where the upgrade itself wrote into the same file", function()
    helper.write(s.project .. "/.gitignore", "build\n")
    tiny.write(s, "UPDATE_LOG.txt", "log\n")
    before = tiny.snapshot(s)
    folder = tiny.phase(s, "early", WAIT:format("backup-preparation"))
    assert.equal(4, tiny.upgrade(s, { "--phases", folder }).code)
    helper.write(s.project .. "/.gitignore", "build\nmine\n")
    local version = tiny.read(s, "VERSION.txt") .. "my note\n"
    tiny.write(s, "VERSION.txt", version)
    tiny.write(s, "UPDATE_LOG.txt", "log\nmine\n")
    tiny.write(s, "INSTALLATION_SUMMARY.md", "my summary\n")
    assert.equal(0, resume("done=true").code)
    assert.truthy(tiny.read(s, "UPDATE_LOG.txt"):find("^log\nmine\n%d"))
    leads_back_to({ ["UPDATE_LOG.txt"] = "log\nmine\n", ["VERSION.txt"] = version,
      ["INSTALLATION_SUMMARY.md"] = "my summary\n", ["../.gitignore"] = "build\nmine\n" })
  end)

  it("comes back over nothing that was written after the upgrade, unless that is said", function()
    phases(WRITES)
    upgrade(edit("by hand\n"))
    tiny.write(s, NEW, "later\n")
    assert.equal(4, tiny.json(s, { "rollback" }).code)
    assert.equal("later\n", tiny.read(s, NEW))
    local files = edited("by hand\n")
    files[NEW] = "later\n"
    leads_back_to(files, "--on-conflict", "ours")
  end)

  it("is kept when the kept content is damaged: nothing is undone", function()
    phases(WRITES)
    upgrade(edit("by hand\n"))
    for _, name in ipairs(tiny.names(s, ".cache")) do
      if name:find("^originals%-") then
        for _, file in ipairs(tiny.names(s, ".cache/" .. name)) do
          tiny.write(s, ".cache/" .. name .. "/" .. file, "damaged")
        end
      end
    end
    local after = tiny.snapshot(s)
    assert.equal(5, tiny.json(s, { "rollback" }).code)
    assert.same(after, tiny.snapshot(s))
  end)

  describe("and a kill after the phase wrote over it", function()
    local function killed()
      phases("", WRITES)
      assert.equal(4, tiny.upgrade(s, { "--phases", folder }).code)
      assert.equal(4, resume("done=true").code)
      edit("by hand\n")()
      local result = tiny.patched(s, [[
        local originals, notes = require("praxlua.originals"), 0
        local note = originals.note
        originals.note = function(...)
          notes = notes + 1
          if notes == 4 then die() end
          return note(...)
        end
      ]], { "resume", "--evidence", "done=true" })
      assert.equal(137, result.code, result.stderr)
      assert.equal("phase\n", tiny.read(s, NEW))
    end

    it("comes back with the rollback", function()
      killed()
      before[tiny.NAME .. "/" .. OURS .. ".kept-" .. next(tiny.sessions(s)):sub(1, 8)] = "file 644 "
        .. core.hash.sha256("guide by hand\n") -- the upgrade itself had changed it before
      leads_back_to({ [NEW] = "new by hand\n", [MINE] = "mine by hand\n" })
    end)

    it("comes back with the rollback of the resumed upgrade", function()
      killed()
      local result = resume()
      assert.equal(0, result.code, result.stdout)
      assert.equal("phase\n", tiny.read(s, NEW))
      leads_back_to(edited("by hand\n"))
    end)
  end)
end)
