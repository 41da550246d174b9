local base = require("praxlua.base")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local plan = require("praxlua.plan")
local repository = require("spec.support.repository")
local seal = require("praxlua.seal")

local PHASE = "workflows/flow/phase.md"
local SOURCE_PHASE = "universal/workflows/flow/phase.md"

local function record(target, files, fields)
  local manifest = { format_version = 2, version = "1.0.0", generated = "2025-10-07T12:00:00Z",
    generator_version = "1.0.0", files = files }
  for key, value in pairs(fields or {}) do manifest[key] = value end
  helper.write(target .. "/" .. base.MANIFEST, seal.encode(manifest))
end

local function entry_of(data)
  return { checksum = "sha256:" .. core.hash.sha256(data), size = #data,
    last_updated = "2025-10-01" }
end

describe("base", function()
  local source, first, target

  before_each(function()
    source, first = repository.source()
    target = repository.install(source)
  end)
  after_each(helper.clean)

  local function entry(path, options)
    local planned = assert(plan.build(repository.context(source, target, options)))
    for _, found in ipairs(planned.entries) do
      if found.path == path then return found, planned end
    end
    return nil, planned
  end

  describe("the manifest", function()
    it("comes first", function()
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" })
      repository.commit(source, { [SOURCE_PHASE] = "phase 3\n" })
      -- The user went back to an older version on purpose: history would call that unmodified.
      record(target, { [PHASE] = entry_of("phase 2\n") })
      local found = entry(PHASE)
      assert.same({ "conflict", "manifest" }, { found.action, found.base_from })
      assert.equal(core.hash.sha256("phase 2\n"), found.base)
    end)

    it("lets a file be removed only when it lists it", function()
      repository.commit(source, { [SOURCE_PHASE] = false })
      record(target, {})
      assert.equal("keep", entry(PHASE).action)
      record(target, { [PHASE] = entry_of("phase 1\n") })
      assert.equal("remove", entry(PHASE).action)
      record(target, { [PHASE] = entry_of("something else\n") })
      assert.equal("keep", entry(PHASE).action)
    end)

    it("knows links and the right to run", function()
      record(target, { [PHASE] = { checksum = "link:../x", size = 0 } })
      assert.equal("link:../x", entry(PHASE).base)
      local executable = entry_of("phase 1\n")
      executable.mode = "755"
      record(target, { [PHASE] = executable })
      assert.equal("unchanged", entry(PHASE).action) -- made plain here, and stays so
    end)

    it("is not used when damaged, or naming a path outside; a newer one is refused", function()
      local path = target .. "/" .. base.MANIFEST
      local damaged = { "{", "[]", '{"files":{}}', '{"format_version":1,"files":{"a":{}}}',
        '{"format_version":1,"files":{"a":{"checksum":"md5:1"}}}',
        '{"format_version":2,"files":{}}' }
      for _, name in ipairs({ "../pwned.txt", "/etc/x", "a//b", "a/./b", "a/../../b", "" }) do
        local files = { [name] = entry_of("x") }
        damaged[#damaged + 1] = seal.encode({ format_version = 2, files = files })
      end
      for _, data in ipairs(damaged) do
        helper.write(path, data)
        local manifest, message = base.read_manifest(target)
        assert.is_false(manifest, data)
        assert.matches(base.MANIFEST .. " is damaged and not used", message, 1, true)
      end
      helper.write(path, seal.encode({ format_version = 3, files = { a = "anything" } }))
      local manifest, message, code = base.read_manifest(target)
      assert.is_nil(manifest)
      assert.equal("EFORMAT", code)
      assert.matches("upgrade praxlua", message, 1, true)
      assert.is_nil((plan.build(repository.context(source, target))))
      os.remove(path)
      assert.is_false(base.read_manifest(target))
    end)

    it("is not used with any bit flipped, or cut short", function()
      local path = target .. "/" .. base.MANIFEST
      local whole = seal.encode({ format_version = 2, files = { [PHASE] = entry_of("x") } })
      helper.write(path, whole)
      assert.truthy(base.read_manifest(target))
      for byte = 1, #whole do
        helper.write(path, whole:sub(1, byte - 1))
        assert.is_false(base.read_manifest(target))
        for bit = 0, 7 do
          helper.write(path, whole:sub(1, byte - 1) .. string.char(whole:byte(byte) ~ (1 << bit))
            .. whole:sub(byte + 1))
          assert.is_false(base.read_manifest(target))
        end
      end
    end)

    it("leaves the history to tell what was shipped, when it is damaged, and says so", function()
      record(target, { [PHASE] = entry_of("phase 1\n") })
      local path = target .. "/" .. base.MANIFEST
      helper.write(path, (helper.read(path):gsub('"1.0.0"', '"1.0.1"')))
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" })
      local ctx = repository.context(source, target)
      local planned = assert(plan.build(ctx))
      assert.matches("is damaged and not used", ctx.warnings[1], 1, true)
      for _, found in ipairs(planned.entries) do
        if found.path == PHASE then
          assert.same({ "update", "history" }, { found.action, found.base_from })
        end
      end
    end)
  end)

  describe("the history", function()
    it("calls a file with any version's content unmodified", function()
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" })
      repository.commit(source, { [SOURCE_PHASE] = "phase 3\n" })
      local found = entry(PHASE)
      assert.same({ "update", "history" }, { found.action, found.base_from })
      helper.write(target .. "/" .. PHASE, "phase 2\n")
      assert.equal("update", entry(PHASE).action)
    end)

    it("lets a file be updated, but not removed, for content known at another path", function()
      helper.write(target .. "/workflows/mine.md", "guide 1\n")
      assert.equal("keep", entry("workflows/mine.md").action)
      repository.commit(source, { ["universal/workflows/mine.md"] = "shipped now\n" })
      assert.equal("update", entry("workflows/mine.md").action)
    end)

    it("takes an empty file for no proof", function()
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" }) -- mcp_server has an empty file
      helper.write(target .. "/" .. PHASE, "")
      assert.equal("conflict", entry(PHASE).action)
    end)

    it("removes what left its path when nobody changed it", function()
      repository.git(source, "mv", SOURCE_PHASE, "universal/workflows/flow/stage.md")
      repository.commit(source, {})
      assert.equal("remove", entry(PHASE).action)
      assert.equal("add", entry("workflows/flow/stage.md").action)
      helper.write(target .. "/" .. PHASE, "mine\n") -- goes along
      assert.same({ "remove", "merge" },
        { entry(PHASE).action, entry("workflows/flow/stage.md").action })
    end)

    it("ends where a shallow clone ends, and says so", function()
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" })
      local copy = helper.tempdir() .. "/copy"
      repository.git(source, "clone", "-q", "--depth", "1", "file://" .. source, copy)
      local ctx = repository.context(copy, target)
      local planned = assert(plan.build(ctx))
      assert.equal(1, planned.counts.conflicts)
      assert.matches("shallow", ctx.warnings[1])
    end)
  end)

  describe("the commit of VERSION.txt", function()
    it("tells what was shipped of a file that was changed", function()
      helper.write(target .. "/" .. PHASE, "mine\n")
      repository.commit(source, { ["universal/standards/testing/pyramid.md"] = "pyramid 2\n" })
      helper.write(target .. "/VERSION.txt", "commit=" .. first:sub(1, 8) .. "\n")
      local found = entry(PHASE)
      assert.same({ "keep", "commit" }, { found.action, found.base_from })
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" })
      found = entry(PHASE)
      assert.same({ "conflict", "commit" }, { found.action, found.base_from })
      assert.equal(core.hash.sha256("phase 1\n"), found.base)
    end)

    it("tells nothing of a folder that the installer left out", function()
      local text = ("line\n"):rep(9)
      local shipped = repository.commit(source, { ["universal/usage/a.md"] = text })
      repository.commit(source, { ["universal/usage/a.md"] = false,
        ["universal/usage/b.md"] = "b\n", ["universal/standards/a.md"] = text .. "more\n" })
      helper.write(target .. "/VERSION.txt", "commit=" .. shipped .. "\n")
      for _, deleted in ipairs({ false, true }) do
        if deleted then helper.write(target .. "/usage/own.md", "mine\n") end
        assert.equal("add", entry("usage/b.md").action)
        local found = entry("standards/universal/a.md")
        assert.equal(deleted and "conflict" or "add", found.action)
        assert.matches(deleted and "you deleted it as usage/a.md" or "new upstream", found.reason,
          1, true)
      end
    end)

    it("tells that a file of the user's was not shipped", function()
      helper.write(target .. "/workflows/later.md", "mine\n")
      repository.commit(source, { ["universal/workflows/later.md"] = "shipped\n" })
      helper.write(target .. "/VERSION.txt", "Source Commit: " .. first .. "\n")
      local found = entry("workflows/later.md")
      assert.same({ "conflict", "commit" }, { found.action, found.base_from })
      assert.is_nil(found.base)
    end)

    it("is the last one named, and must exist", function()
      helper.write(target .. "/VERSION.txt", "Source Commit: N/A (pre-git)\ncommit=2b02a66\n")
      assert.equal("2b02a66", base.read_version(target).commit)
      local _, planned = entry(PHASE)
      assert.is_nil(planned.installed_commit)
      helper.write(target .. "/VERSION.txt", "commit=0000000\r\ncommit=" .. first .. "\r\n")
      _, planned = entry(PHASE)
      assert.equal(first, planned.installed_commit)
    end)
  end)

  describe("without any record", function()
    it("infers the installed commit from the files nobody changed", function()
      helper.write(target .. "/" .. PHASE, "mine\n")
      helper.write(target .. "/workflows/later.md", "mine\n")
      repository.commit(source, {
        ["universal/standards/testing/pyramid.md"] = "pyramid 2\n",
        ["universal/workflows/later.md"] = "shipped\n",
      })
      local found = entry(PHASE)
      assert.same({ "keep", "inferred" }, { found.action, found.base_from })
      assert.equal("conflict", entry("workflows/later.md").action)
    end)

    it("takes a file for changed by both when two commits are equally likely", function()
      helper.write(target .. "/" .. PHASE, "mine\n")
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" })
      local found = entry(PHASE)
      assert.same({ "conflict", "unknown" }, { found.action, found.base_from })
    end)

    it("infers nothing from a target that resembles no commit", function()
      for _, name in ipairs({ "standards/universal/ai-assistant/guide.md", PHASE,
        "standards/universal/testing/pyramid.md", "workflows/flow/metadata.json" }) do
        helper.write(target .. "/" .. name, "mine\n")
      end
      repository.commit(source, { ["universal/workflows/other.md"] = "x\n" })
      assert.equal("unknown", entry(PHASE).base_from)
    end)

    it("takes what is missing for deleted only where most is there", function()
      os.remove(target .. "/" .. PHASE)
      repository.commit(source, { ["universal/workflows/other.md"] = "x\n" })
      assert.same({ "keep", "inferred" }, { entry(PHASE).action, entry(PHASE).base_from })
      os.remove(target .. "/workflows/flow/metadata.json")
      assert.equal("add", entry(PHASE).action)
    end)

    it("takes a missing file of unclear version for deleted, and asks when it moved", function()
      repository.commit(source, { [SOURCE_PHASE] = "phase 2\n" }) -- it or the one before
      repository.commit(source, { ["universal/workflows/other.md"] = "x\n" })
      os.remove(target .. "/" .. PHASE)
      assert.equal("keep", entry(PHASE).action)
      helper.write(target .. "/" .. PHASE, "nothing of it\n")
      repository.git(source, "mv", SOURCE_PHASE, "universal/workflows/flow/stage.md")
      repository.commit(source, {})
      local found = entry("workflows/flow/stage.md")
      assert.same({ "conflict", PHASE }, { found.action, found.moved_from })
      assert.equal("keep", entry(PHASE).action)
      assert.equal("nothing of it\n",
        entry("workflows/flow/stage.md", { on_conflict = "ours" }).content)
    end)
  end)

  it("works with a repository whose objects are named by SHA-256", function()
    local wide = helper.tempdir() .. "/wide"
    require("lfs").mkdir(wide)
    repository.git(wide, "init", "-q", "-b", "main", "--object-format=sha256")
    for _, path in ipairs({ "universal", "mcp_server", "VERSION.txt" }) do
      repository.sh("cp", "-a", source .. "/" .. path, wide .. "/" .. path)
    end
    repository.commit(wide, {})
    repository.commit(wide, { [SOURCE_PHASE] = "phase 2\n" })
    source = wide
    local found = entry(PHASE)
    assert.same({ "update", "history" }, { found.action, found.base_from })
  end)

  it("knows normal paths from others", function()
    for _, path in ipairs({ "a", "a/b", "a\nb", ".hidden/x", "..x", "a/..b" }) do
      assert.is_true(base.is_normal(path), path)
    end
    for _, path in ipairs({ "", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a\0b",
      7 }) do
      assert.is_false(base.is_normal(path))
    end
    assert.is_not_nil(layout.by_name("praxis-os"))
  end)
end)
