--- Merges and moved files in a plan.
local base = require("praxlua.base")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local plan = require("praxlua.plan")
local records = require("praxlua.records")
local repository = require("spec.support.repository")
local seal = require("praxlua.seal")

local PHASE, SOURCE_PHASE = "workflows/flow/phase.md", "universal/workflows/flow/phase.md"

local function lines(first, last, changed)
  local list = {}
  for i = first, last do list[#list + 1] = (changed or {})[i] or ("line %d\n"):format(i) end
  return table.concat(list)
end

describe("merging", function()
  local source, target, installed
  local BASE = lines(1, 30)

  before_each(function()
    source, installed = repository.source({ [SOURCE_PHASE] = BASE })
    target = repository.install(source, installed)
  end)
  after_each(helper.clean)

  local function write(path, data) helper.write(target .. "/" .. path, data) end
  local function build(options)
    return assert(plan.build(repository.context(source, target, options)))
  end
  local function entry(path, options)
    local planned = build(options)
    for _, found in ipairs(planned.entries) do
      if found.path == path then return found, planned end
    end
    return nil, planned
  end

  it("puts together what was changed in different places", function()
    write(PHASE, lines(1, 30, { [3] = "mine\n" }))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
    local found, planned = entry(PHASE)
    assert.equal("merge", found.action)
    assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" }), found.content)
    assert.same({ core.hash.sha256(found.content), #found.content }, { found.result, found.size })
    assert.same({ 1, 1, 0 }, { planned.counts.merged_files, planned.changes,
      planned.counts.conflicts })
  end)

  it("records the size of what was shipped, not of what a merge made of it", function()
    write(PHASE, lines(1, 30, { [3] = "mine, and much longer\n" }))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
    local ctx = repository.context(source, target)
    local manifest = assert(records.next_manifest(ctx, assert(plan.build(ctx)),
      { workflows = true }))
    assert.equal(#lines(1, 30, { [20] = "theirs\n" }), manifest.files[PHASE].size)
  end)

  it("tells where both changed the same place, and decides as told", function()
    write(PHASE, lines(1, 30, { [3] = "mine\n" }))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [3] = "theirs\n" }) })
    local found = entry(PHASE)
    assert.equal("conflict", found.action)
    assert.matches("in 1 place$", found.reason)
    assert.equal("update", entry(PHASE, { on_conflict = "theirs" }).action)
  end)

  it("needs no merge where one side has all of the other", function()
    write(PHASE, lines(1, 30, { [3] = "a\n", [20] = "b\n" }))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "b\n" }) })
    assert.equal("keep", entry(PHASE).action)
    write(PHASE, lines(1, 30, { [20] = "b\n" }))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [3] = "a\n", [20] = "b\n" }) })
    assert.equal("update", entry(PHASE).action)
  end)

  it("keeps line ends that an editor converted", function()
    local function dos(data) return (data:gsub("\n", "\r\n")) end
    write(PHASE, dos(lines(1, 30, { [3] = "mine\n" })))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
    assert.equal(dos(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" })), entry(PHASE).content)
  end)

  it("merges where the end of the file has no line end", function()
    write(PHASE, lines(1, 30):sub(1, -2))
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [2] = "theirs\n" }) })
    assert.equal(lines(1, 30, { [2] = "theirs\n" }):sub(1, -2), entry(PHASE).content)
  end)

  it("merges no binary files, and none that are too large", function()
    write(PHASE, "\0" .. BASE)
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
    assert.matches("it is no text", entry(PHASE).reason)
    write(PHASE, BASE .. ("x"):rep(8 * 1024 * 1024))
    assert.matches("too large to be merged", entry(PHASE).reason)
  end)

  it("makes no broken JSON of two whole ones", function()
    local path, from = "workflows/flow/metadata.json", "universal/workflows/flow/metadata.json"
    local function json(a, b)
      return ('{\n  "a": 1,\n%s  "b": 2,\n  "c": 3,\n  "d": 4,\n  "e": 5%s\n}\n'):format(a, b)
    end
    repository.commit(source, { [from] = json("", "") })
    write("VERSION.txt", "commit=" .. repository.git(source, "rev-parse", "HEAD") .. "\n")
    write(path, json('  "x": 1,\n', ""))
    repository.commit(source, { [from] = json("", ',\n  "x": 2') })
    local found = entry(path)
    assert.same({ "conflict", true }, { found.action, found.reason:find("no JSON") ~= nil })
  end)

  it("merges the right to run, too", function()
    write(PHASE, lines(1, 30, { [3] = "mine\n" }))
    repository.sh("chmod", "+x", target .. "/" .. PHASE)
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
    assert.equal(493, entry(PHASE).mode)
  end)

  it("gives a file that was changed here the right to run that upstream gives it", function()
    local mine = lines(1, 30, { [3] = "mine\n" })
    write(PHASE, mine)
    repository.sh("chmod", "+x", source .. "/" .. SOURCE_PHASE)
    repository.commit(source, {})
    local found = entry(PHASE)
    assert.same({ "merge", mine, 493 }, { found.action, found.content, found.mode })
    assert.matches("you changed it, and upstream whether it may be run", found.reason)
    write(PHASE, "\0" .. mine) -- no text
    found = entry(PHASE)
    assert.same({ "merge", "\0" .. mine, 493 }, { found.action, found.content, found.mode })
    repository.sh("chmod", "+x", target .. "/" .. PHASE)
    assert.equal("keep", entry(PHASE).action)
  end)

  it("leaves permissions alone where nothing changes the right to run", function()
    repository.sh("chmod", "744", target .. "/" .. PHASE)
    repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
    assert.equal(484, entry(PHASE).mode) -- 0744
  end)

  describe("of a configuration", function()
    local PATH, FROM = "settings/config.json", "universal/settings/config.json"

    local function planned_entry(options)
      local ctx = repository.context(source, target, options)
      ctx.layout = {}
      local recognised = assert(layout.recognise_target(target))
      for key, value in pairs(recognised) do ctx.layout[key] = value end
      ctx.layout.components = { { name = "settings", from = "universal/settings", to = "settings",
        ownership = "config", scope = "content" } }
      for _, found in ipairs(assert(plan.build(ctx)).entries) do
        if found.path == PATH then return found end
      end
      return nil
    end

    it("keeps the user's values and adds keys, whatever the lines say", function()
      repository.commit(source, { [FROM] = '{"a": 1, "old": 1, "b": 1}\n' })
      write("VERSION.txt", "commit=" .. repository.git(source, "rev-parse", "HEAD") .. "\n")
      write(PATH, '{"b": 5, "old": 1, "a": 1}\n')
      repository.commit(source, { [FROM] = '{"a": 2, "b": 2, "new": {"x": 1}}\n' })
      local found = planned_entry()
      assert.equal("merge", found.action)
      assert.equal('{"b": 5, "old": 1, "a": 1, "new": {"x": 1}}\n', found.content)
      assert.equal("new keys: new; no longer shipped: old; shipped with another value now: a",
        found.reason)
    end)

    it("is left alone when it has every key, and added when there is none", function()
      repository.commit(source, { [FROM] = '{"a": 2}\n' })
      write(PATH, '{"a": 1, "mine": true}\n')
      assert.equal("keep", planned_entry().action)
      os.remove(target .. "/" .. PATH)
      assert.equal("add", planned_entry().action)
    end)

    it("is in conflict when it is no JSON", function()
      repository.commit(source, { [FROM] = '{"a": 2}\n' })
      write(PATH, "a = 1\n")
      assert.matches("cannot be merged by key: yours is no JSON", planned_entry().reason)
      assert.equal("conflict", planned_entry().action)
    end)
  end)

  describe("of what was moved", function()
    local MOVED, SOURCE_MOVED = "workflows/flow/stage.md", "universal/workflows/flow/stage.md"

    local function move(data)
      local is_here = core.file.exists(source .. "/" .. SOURCE_PHASE)
      local files = { [SOURCE_MOVED] = data or BASE }
      if is_here then files[SOURCE_PHASE] = false end
      repository.commit(source, files)
    end

    it("takes an edit along to upstream's new name", function()
      local mine = lines(1, 30, { [3] = "mine\n" })
      write(PHASE, mine)
      move()
      local found, planned = entry(MOVED)
      assert.same({ "merge", mine, PHASE }, { found.action, found.content, found.moved_from })
      assert.equal("remove", entry(PHASE).action)
      assert.equal(2, planned.changes)
      move(lines(1, 30, { [20] = "theirs\n" }))
      assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" }), entry(MOVED).content)
    end)

    it("takes along what is no text, and a changed permission", function()
      write(PHASE, "\0 mine")
      move()
      assert.same({ "merge", "\0 mine" }, { entry(MOVED).action, entry(MOVED).content })
      write(PHASE, BASE)
      repository.sh("chmod", "750", target .. "/" .. PHASE)
      local found = entry(MOVED)
      assert.same({ "add", 488 }, { found.action, found.mode })
      assert.equal("remove", entry(PHASE).action)
    end)

    it("takes along that it may be run", function()
      repository.sh("chmod", "+x", source .. "/" .. SOURCE_PHASE)
      target = repository.install(source, repository.commit(source, {}))
      write(PHASE, lines(1, 30, { [3] = "mine\n" }))
      repository.git(source, "mv", SOURCE_PHASE, SOURCE_MOVED)
      repository.commit(source, {})
      assert.equal(493, entry(MOVED).mode)
    end)

    it("leaves both names alone while they are in conflict, and lets either side win", function()
      local mine = lines(1, 30, { [3] = "mine\n" })
      write(PHASE, mine)
      move(lines(1, 30, { [3] = "theirs\n" }))
      assert.same({ "conflict", "keep" }, { entry(MOVED).action, entry(PHASE).action })
      local ours = entry(MOVED, { on_conflict = "ours" })
      assert.same({ "add", "ours", mine }, { ours.action, ours.resolved, ours.content })
      assert.equal("remove", entry(PHASE, { on_conflict = "ours" }).action)
      local theirs = entry(MOVED, { on_conflict = "theirs" })
      assert.same({ "add", "theirs" }, { theirs.action, theirs.resolved })
      assert.is_nil(theirs.content)
      assert.equal("remove", entry(PHASE, { on_conflict = "theirs" }).action)
    end)

    it("takes what somebody made of the two sides, whoever moved the file", function()
      local mine, path = lines(1, 30, { [3] = "mine\n" }), nil
      local function answered()
        local given = { answer = "merged", id = entry(path).id, content = "both\n" }
        return (entry(path, { on_conflict = "stop", resolutions = { [path] = given } }))
      end
      path = "workflows/flow/of mine.md"
      write(path, mine)
      os.remove(target .. "/" .. PHASE)
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [3] = "theirs\n" }) })
      local found = answered()
      assert.same({ "merge", "merged", "both\n", PHASE },
        { found.action, found.resolved, found.content, found.moved_from })
      os.remove(target .. "/" .. path)
      write(PHASE, mine)
      move(lines(1, 30, { [3] = "theirs\n" }))
      path = MOVED
      found = answered()
      assert.same({ "merge", "merged", "both\n", PHASE },
        { found.action, found.resolved, found.content, found.moved_from })
    end)

    it("follows out of a folder that is not shipped any more, and leaves it alone", function()
      local from = "universal/usage/guide.md"
      repository.commit(source, { [from] = BASE })
      write("VERSION.txt", "commit=" .. repository.git(source, "rev-parse", "HEAD") .. "\n")
      local mine = lines(1, 30, { [3] = "mine\n" })
      write("usage/guide.md", mine)
      repository.commit(source, { [from] = false,
        ["universal/standards/usage.md"] = lines(1, 30, { [20] = "theirs\n" }) })
      local found, planned = entry("standards/universal/usage.md")
      assert.same({ "merge", "usage/guide.md" }, { found.action, found.moved_from })
      assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" }), found.content)
      assert.same({ "usage" }, planned.skipped_components)
      assert.equal(1, planned.changes)
    end)

    it("asks nothing about a folder that was never installed, or lies elsewhere", function()
      repository.commit(source, { ["universal/usage/guide.md"] = BASE })
      write("VERSION.txt", "commit=" .. repository.git(source, "rev-parse", "HEAD") .. "\n")
      repository.commit(source, { ["universal/usage/guide.md"] = false,
        ["universal/standards/usage.md"] = lines(1, 30, { [20] = "theirs\n" }) })
      assert.equal("add", entry("standards/universal/usage.md").action)
      repository.sh("ln", "-s", "specs", target .. "/usage")
      assert.equal("add", entry("standards/universal/usage.md").action)
    end)

    it("follows nothing onto a name that is taken", function()
      write(PHASE, lines(1, 30, { [3] = "mine\n" }))
      write(MOVED, "my own\n")
      move()
      assert.same({ "conflict", "keep" }, { entry(MOVED).action, entry(PHASE).action })
      os.remove(target .. "/" .. MOVED)
      write(MOVED .. "/file.md", "in a folder of that name\n")
      assert.same({ "conflict", "keep" }, { entry(MOVED).action, entry(PHASE).action })
    end)

    it("does not bring back what was deleted under its old name", function()
      os.remove(target .. "/" .. PHASE)
      move()
      assert.equal("keep", entry(MOVED).action)
      move(lines(1, 30, { [3] = "theirs\n" }))
      assert.matches("deleted it as workflows/flow/phase.md", entry(MOVED).reason)
      assert.equal("conflict", entry(MOVED).action)
    end)

    it("merges what both moved to the same name", function()
      os.remove(target .. "/" .. PHASE)
      write(MOVED, lines(1, 30, { [3] = "mine\n" }))
      move(lines(1, 30, { [20] = "theirs\n" }))
      assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" }), entry(MOVED).content)
    end)

    it("takes upstream's change along to the user's new name", function()
      os.remove(target .. "/" .. PHASE)
      write("workflows/mine.md", lines(1, 30, { [3] = "mine\n" }))
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
      local found = entry("workflows/mine.md")
      assert.same({ "merge", PHASE }, { found.action, found.moved_from })
      assert.is_nil(found.new) -- nothing is shipped there
      assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" }), found.content)
      assert.equal("keep", entry(PHASE).action)
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [3] = "theirs\n" }) })
      assert.equal("conflict", entry("workflows/mine.md").action)
      local theirs = entry("workflows/mine.md", { on_conflict = "theirs" })
      assert.same({ "update", core.hash.sha256(lines(1, 30, { [3] = "theirs\n" })) },
        { theirs.action, theirs.result })
      local id = entry("workflows/mine.md").id
      local merged = entry("workflows/mine.md", { on_conflict = "stop", resolutions = {
        ["workflows/mine.md"] = { answer = "merged", id = id, content = "both\n" } } })
      assert.same({ "merge", "merged", "both\n" },
        { merged.action, merged.resolved, merged.content })
    end)

    it("takes no copy of one missing file for one of another that is like it", function()
      local twin, from = "workflows/flow/twin.md", "universal/workflows/flow/twin.md"
      repository.commit(source, { [from] = lines(1, 30, { [1] = "a twin\n" }) })
      write("VERSION.txt", "commit=" .. repository.git(source, "rev-parse", "HEAD") .. "\n")
      write("workflows/mine.md", lines(1, 30, { [1] = "a twin\n" })) -- moved from the twin
      os.remove(target .. "/" .. PHASE)
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
      assert.equal("conflict", entry(PHASE).action) -- deleted here, changed upstream
      assert.equal("keep", entry("workflows/mine.md").action)
      assert.equal("keep", entry(twin).action)
    end)
  end)

  it("merges with the object store where the source's history is another one", function()
    local ctx = repository.context(source, target)
    ctx.layout = assert(layout.recognise_target(target))
    local planned = assert(plan.build(ctx))
    local manifest = assert(records.next_manifest(ctx, planned,
      { standards = true, workflows = true, mcp_server = true }))
    write(base.MANIFEST, seal.encode(manifest))
    assert(core.file.mkdir(target .. "/.cache"))
    assert(records.keep_objects(ctx))
    write(PHASE, lines(1, 30, { [3] = "mine\n" }))
    local files = { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) }
    source = repository.source(files)
    assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n" }), entry(PHASE).content)
    assert(core.file.remove(target .. "/.cache/objects.tar.zst"))
    assert.matches("not known any more", entry(PHASE).reason)
  end)

  describe("without a record", function()
    it("keeps a permission and a deletion where the files tell the commit", function()
      write("VERSION.txt", "no commit\n")
      local files = { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) }
      for i = 1, 20 do files[("universal/workflows/flow/%d.md"):format(i)] = "as here\n" end
      repository.commit(source, files)
      target = repository.install(source)
      for i = 1, 8 do write(("workflows/flow/%d.md"):format(i), "changed\n") end
      os.remove(target .. "/workflows/flow/20.md")
      repository.sh("chmod", "+x", target .. "/" .. PHASE)
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [9] = "theirs\n" }) })
      assert.same({ "update", "history", 493 },
        { entry(PHASE).action, entry(PHASE).base_from, entry(PHASE).mode })
      assert.equal("keep", entry("workflows/flow/20.md").action)
    end)

    it("works from the version of the file that is nearest", function()
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
      write("VERSION.txt", "no commit\n")
      os.remove(target .. "/mcp_server/__main__.py") -- so that two commits are as likely
      write(PHASE, lines(1, 30, { [3] = "mine\n", [25] = "too\n" }))
      local found = entry(PHASE)
      assert.same({ "merge", "nearest" }, { found.action, found.base_from })
      assert.equal(core.hash.sha256(BASE), found.base)
      assert.matches("told by its likeness", found.reason)
      assert.equal(lines(1, 30, { [3] = "mine\n", [20] = "theirs\n", [25] = "too\n" }),
        found.content)
    end)

    it("asks where the history is cut off, or no version is nearest", function()
      write("VERSION.txt", "no commit\n")
      write(PHASE, lines(1, 30, { [3] = "mine\n" }))
      repository.commit(source, { [SOURCE_PHASE] = lines(1, 30, { [20] = "theirs\n" }) })
      local shallow = helper.tempdir() .. "/shallow"
      repository.sh("git", "clone", "-q", "--depth", "1", "file://" .. source, shallow)
      local ctx = repository.context(shallow, target)
      for _, found in ipairs(assert(plan.build(ctx)).entries) do
        if found.path == PHASE then
          assert.same({ "conflict", "unknown" }, { found.action, found.base_from })
        end
      end
      write(PHASE, "nothing of it\n")
      assert.equal("conflict", entry(PHASE).action)
    end)
  end)
end)
