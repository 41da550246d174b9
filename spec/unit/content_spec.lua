local base = require("praxlua.base")
local content = require("praxlua.content")
local core = require("praxlua.core")
local gitignore = require("praxlua.gitignore")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local records = require("praxlua.records")
local repository = require("spec.support.repository")
local seal = require("praxlua.seal")

local PYRAMID = "standards/universal/testing/pyramid.md"
local PHASE = "workflows/flow/phase.md"
local DOCUMENT = "universal/standards/installation/gitignore-requirements.md"

describe("content", function()
  local source, first, target

  before_each(function()
    source, first = repository.source()
    target = repository.install(source, first)
  end)
  after_each(helper.clean)

  local function start(options)
    local ctx = repository.context(source, target, options)
    return ctx, repository.begin(ctx)
  end

  local function finish(ctx, transaction)
    assert(transaction:commit())
    transaction:close()
    ctx.change = nil
    assert(core.tree.remove(target .. "/.upgrade"))
  end

  --- Everything an engine does with this service.
  local function upgrade(options)
    local ctx, transaction = start(options)
    local report = assert(content.upgrade(ctx))
    local server = assert(content.upgrade_server_code(ctx))
    assert(content.gitignore(ctx))
    finish(ctx, transaction)
    return report, server
  end

  it("takes no server code for upgraded whose checksums are others", function()
    local validation = require("praxlua.validation")
    local verify = validation.verify_checksums
    repository.commit(source, { ["mcp_server/__main__.py"] = "print(2)\n" })
    local ctx, transaction = start()
    validation.verify_checksums = function()
      return { verified = false, problem = "mcp_server/__main__.py differs" }
    end
    local result, message, code = content.upgrade_server_code(ctx)
    validation.verify_checksums = verify
    transaction:close()
    assert.is_nil(result)
    assert.equal("EVERIFY", code)
    assert.equal("mcp_server/__main__.py differs", message)
  end)

  local function manifest()
    return assert(json.decode(helper.read(target .. "/.installed-manifest.json")))
  end

  it("upgrades, and has nothing to do when asked again", function()
    helper.write(target .. "/workflows/mine/x.md", "mine\n")
    local second = repository.commit(source, {
      ["universal/standards/testing/pyramid.md"] = "pyramid 2\n",
      ["universal/standards/deep/er/new.md"] = "new\n",
      ["universal/workflows/flow/phase.md"] = false,
      ["mcp_server/__main__.py"] = "print(2)\n",
      ["VERSION.txt"] = "1.1.0\n",
    })
    local report, server = upgrade()
    assert.same({ 1, 1, 1, true, "1.1.0" }, { report.new_files, report.updated_files,
      report.removed_files, report.verified, report.version })
    assert.same({ 1, true }, { server.files_written, server.checksums.mcp_server.verified })
    assert.equal("pyramid 2\n", helper.read(target .. "/" .. PYRAMID))
    assert.equal("new\n", helper.read(target .. "/standards/universal/deep/er/new.md"))
    assert.equal("print(2)\n", helper.read(target .. "/mcp_server/__main__.py"))
    assert.equal("mine\n", helper.read(target .. "/workflows/mine/x.md"))
    assert.is_nil(helper.read(target .. "/" .. PHASE))
    assert.equal(second, manifest().commit)

    local before = repository.snapshot(target:match("^(.*)/"))
    local preview = assert(content.preview(repository.context(source, target)))
    assert.is_true(preview.nothing_to_do)
    upgrade()
    assert.same(before, repository.snapshot(target:match("^(.*)/")))
  end)

  it("previews what it then does", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n",
      ["universal/workflows/flow/more.md"] = "more\n" })
    local preview = assert(content.preview(repository.context(source, target)))
    assert.is_false(preview.nothing_to_do)
    assert.same({ 1, 1, 2 }, { preview.new_files, preview.updated_files, preview.changes })
    assert.equal("workflows/flow/more.md", preview.lists.add[1].path)
    assert.equal(preview.hash, upgrade().plan_hash)
  end)

  it("can be undone to the byte", function()
    local project = target:match("^(.*)/")
    repository.sh("chmod", "600", target .. "/" .. PYRAMID)
    repository.commit(source, {
      ["universal/standards/testing/pyramid.md"] = "pyramid 2\n",
      ["universal/workflows/new/a.md"] = "a\n",
      ["universal/workflows/flow/phase.md"] = false,
      ["universal/workflows/flow/metadata.json"] = false,
    })
    local before = repository.snapshot(project)
    local ctx, transaction = start()
    assert(content.upgrade(ctx))
    assert(content.upgrade_server_code(ctx))
    assert(content.gitignore(ctx))
    assert.is_nil(core.file.stat(target .. "/workflows/flow")) -- the empty directory went, too
    assert(transaction:rollback())
    transaction:close()
    assert.same(before, repository.snapshot(project))
  end)

  it("applies nothing while there is a conflict", function()
    helper.write(target .. "/" .. PHASE, "mine\n")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n",
      ["universal/workflows/flow/more.md"] = "more\n" })
    local before = repository.snapshot(target)
    local ctx, transaction = start()
    local report, message, code = content.upgrade(ctx)
    assert.is_nil(report)
    assert.equal("ECONFLICT", code)
    assert.matches(PHASE, message, 1, true)
    transaction:close()
    assert(core.tree.remove(target .. "/.upgrade"))
    assert.same(before, repository.snapshot(target))
  end)

  it("keeps ours with the new base, so that the same conflict does not come back", function()
    helper.write(target .. "/" .. PHASE, "mine\n")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    assert.equal(1, upgrade({ on_conflict = "ours" }).conflicts_resolved)
    assert.equal("mine\n", helper.read(target .. "/" .. PHASE))
    assert.equal("sha256:" .. core.hash.sha256("phase 2\n"), manifest().files[PHASE].checksum)
    repository.commit(source, { ["universal/standards/testing/pyramid.md"] = "pyramid 2\n" })
    assert.equal(0, upgrade().conflicts)
    assert.equal("mine\n", helper.read(target .. "/" .. PHASE))
  end)

  it("takes theirs when told to", function()
    helper.write(target .. "/" .. PHASE, "mine\n")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    upgrade({ on_conflict = "theirs" })
    assert.equal("phase 2\n", helper.read(target .. "/" .. PHASE))
  end)

  it("stops when a file was edited after the plan was made", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    local ctx, transaction = start()
    assert(content.plan(ctx))
    helper.write(target .. "/" .. PHASE, "edited meanwhile\n")
    local report, message, code = content.upgrade(ctx)
    assert.is_nil(report)
    assert.equal("ECHANGED", code)
    assert.matches("no longer as it was", message)
    transaction:close()
    assert.equal("edited meanwhile\n", helper.read(target .. "/" .. PHASE))
  end)

  it("gives no file back to all that was made private after the plan", function()
    local files = { ["universal/workflows/flow/phase.md"] = "phase 2\n" }
    for _, data in ipairs({ "phase 2\n", false }) do
      files["universal/workflows/flow/phase.md"] = data
      repository.commit(source, files)
      local ctx, transaction = start()
      assert(content.plan(ctx))
      repository.sh("chmod", "600", target .. "/" .. PHASE)
      assert.equal("ECHANGED", (select(3, content.upgrade(ctx))))
      transaction:close()
      assert(core.tree.remove(target .. "/.upgrade"))
      assert.equal(384, core.file.stat(target .. "/" .. PHASE).mode) -- 0600
      repository.sh("chmod", "644", target .. "/" .. PHASE)
    end
  end)

  it("does not remove a file that was edited after the plan was made", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = false })
    local ctx, transaction = start()
    assert(content.plan(ctx))
    helper.write(target .. "/" .. PHASE, "edited meanwhile\n")
    assert.equal("ECHANGED", (select(3, content.upgrade(ctx))))
    transaction:close()
    assert.equal("edited meanwhile\n", helper.read(target .. "/" .. PHASE))
  end)

  it("stops when the source changed after the plan was made", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    local ctx, transaction = start()
    assert(content.plan(ctx))
    helper.write(source .. "/universal/workflows/flow/phase.md", "phase 3\n")
    assert.is_nil((content.upgrade(ctx)))
    transaction:close()
    assert.equal("phase 1\n", helper.read(target .. "/" .. PHASE))
  end)

  it("can be repeated after it was done but not noted", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n",
      ["universal/standards/testing/pyramid.md"] = false })
    local ctx, transaction = start()
    assert(content.upgrade(ctx))
    assert.equal(1, assert(content.upgrade(ctx)).updated_files)
    finish(ctx, transaction)
    assert.equal("phase 2\n", helper.read(target .. "/" .. PHASE))
  end)

  it("replaces a file by a directory, a directory by a file, and either by a link", function()
    repository.commit(source, {
      ["universal/workflows/flow/phase.md"] = false,
      ["universal/workflows/flow/phase.md/part.md"] = "part\n",
    })
    upgrade()
    assert.equal("part\n", helper.read(target .. "/" .. PHASE .. "/part.md"))
    repository.git(source, "rm", "-q", "-r", "universal/workflows/flow/phase.md")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 3\n" })
    upgrade()
    assert.equal("phase 3\n", helper.read(target .. "/" .. PHASE))
    os.remove(source .. "/universal/workflows/flow/phase.md")
    repository.sh("ln", "-s", "metadata.json", source .. "/universal/workflows/flow/phase.md")
    repository.commit(source, {})
    upgrade()
    assert.equal("metadata.json", core.file.readlink(target .. "/" .. PHASE))
    assert.equal("link:metadata.json", manifest().files[PHASE].checksum)
    assert.is_true(assert(content.preview(repository.context(source, target))).nothing_to_do)
  end)

  it("lets the user's directory give way to a file only when told to", function()
    os.remove(target .. "/" .. PHASE)
    helper.write(target .. "/" .. PHASE .. "/deep/mine.md", "mine\n")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    upgrade({ on_conflict = "theirs" })
    assert.equal("phase 2\n", helper.read(target .. "/" .. PHASE))
  end)

  it("carries the right to run, and keeps other permissions", function()
    repository.sh("chmod", "640", target .. "/" .. PHASE)
    repository.sh("chmod", "+x", source .. "/universal/workflows/flow/phase.md")
    repository.commit(source, { ["universal/workflows/flow/run.sh"] = "#!/bin/sh\n" })
    upgrade()
    assert.equal(488, core.file.stat(target .. "/" .. PHASE).mode) -- 0750
    assert.equal(420, core.file.stat(target .. "/workflows/flow/run.sh").mode)
    assert.equal("755", manifest().files[PHASE].mode)
  end)

  it("leaves directories in which something is left", function()
    helper.write(target .. "/workflows/flow/mine.md", "mine\n")
    repository.sh("mkdir", "-p", target .. "/workflows/flow/empty")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = false,
      ["universal/workflows/flow/metadata.json"] = false,
      ["universal/workflows/other.md"] = "x\n" })
    upgrade()
    assert.equal("mine\n", helper.read(target .. "/workflows/flow/mine.md"))
    assert.equal("directory", core.file.stat(target .. "/workflows/flow/empty").type)
  end)

  it("does not update files that do not stay as they were written", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    local ctx, transaction = start()
    local apply = ctx.change.apply
    function ctx.change.apply()
      local done = assert(apply())
      helper.write(target .. "/" .. PHASE, "phase 2?\n")
      return done
    end
    local report, message, code = content.upgrade(ctx)
    assert.is_nil(report)
    assert.equal("EVERIFY", code)
    assert.matches("does not hold what was written", message)
    transaction:close()
  end)

  it("refuses a component that is not there", function()
    local ctx, transaction = start()
    local result, message, code = content.upgrade(ctx, { components = { "standard" } })
    assert.same({ nil, "EINVAL" }, { result, code })
    assert.matches("there is no component 'standard'", message)
    finish(ctx, transaction)
  end)

  it("keeps the record of components it did not upgrade", function()
    upgrade()
    local second = repository.commit(source, { ["mcp_server/__main__.py"] = "print(2)\n",
      ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    local ctx, transaction = start()
    assert(content.upgrade(ctx))
    finish(ctx, transaction)
    local files = manifest().files
    assert.equal("sha256:" .. core.hash.sha256("phase 2\n"), files[PHASE].checksum)
    assert.equal("sha256:" .. core.hash.sha256("print(1)\n"),
      files["mcp_server/__main__.py"].checksum)
    assert.equal(second, manifest().commit)
    assert.matches("^%d%d%d%d%-%d%d%-%d%d$", files[PHASE].last_updated)
  end)

  describe("the record of what was shipped", function()
    local function record() return target .. "/.installed-manifest.json" end

    it("is sealed", function()
      upgrade()
      assert.equal(2, assert(seal.open(helper.read(record()))).format_version)
    end)

    it("is left alone where only its form is older", function()
      upgrade()
      local older = assert(seal.open(helper.read(record())))
      older.format_version = 1
      helper.write(record(), json.encode(older))
      assert.is_true(assert(content.preview(repository.context(source, target))).nothing_to_do)
    end)

    it("is written anew when it is damaged", function()
      upgrade()
      local whole = helper.read(record())
      helper.write(record(), (whole:gsub("[0-9a-f]\"", "x\"", 1)))
      assert.is_false(assert(content.preview(repository.context(source, target))).nothing_to_do)
      upgrade()
      assert.truthy(seal.open(helper.read(record())))
    end)

    it("is refused when it could not be read again", function()
      local limit = base.MAX_BYTES
      finally(function() base.MAX_BYTES = limit end)
      base.MAX_BYTES = 1000
      repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
      local ctx, transaction = start()
      local report, message, code = content.upgrade(ctx)
      transaction:close()
      assert.is_nil(report)
      assert.equal("EFBIG", code)
      assert.matches("can be read again", message, 1, true)
    end)
  end)

  describe("VERSION.txt", function()
    local facts = { version = "v1.3.0", commit = ("ab"):rep(20), now = 1760091000000000000 }

    it("is made when missing", function()
      assert.equal("prAxIs OS Content Version\n\nLast Updated: 2025-10-10 10:10:00\n"
        .. "Source Commit: " .. facts.commit .. "\nUpdated By: praxlua\nPrevious Version: unknown\n"
        .. "Current Version: v1.3.0\nversion_updated=2025-10-10T10:10:00Z\ncommit=" .. facts.commit
        .. "\n", records.version_text(nil, facts))
    end)

    it("names the new version where a tool has appended lines of its own", function()
      for _, old in ipairs({
        "Current Version: 1.0.0\nCurrent Version: 1.1.0\n", "\tCurrent Version:1.0.0\n",
        "Current Version: 1.0.0\n  Current Version: 1.1.0\n", "commit=0123abcd\n commit=0123abcd\n",
      }) do
        local text = records.version_text(old, facts)
        assert.equal(facts.version, layout.version_in(text), old)
        local place = helper.tempdir()
        helper.write(place .. "/VERSION.txt", text)
        assert.equal(facts.commit, base.read_version(place).commit, old)
      end
    end)

    it("keeps its other lines and its line ends", function()
      local text = records.version_text("Title\r\n\r\nRepository: https://example.invalid\r\n"
        .. "Current Version: v1.2.3\r\nNotes: n\r\ncommit=1111111\r\ncommit=2222222\r\n", facts)
      assert.matches("^Title\r\n\r\nRepository: https://example.invalid\r\n", text)
      assert.matches("\r\nCurrent Version: v1.3.0\r\nNotes: n\r\n", text, 1, true)
      assert.matches("commit=1111111\r\ncommit=" .. facts.commit, text, 1, true)
      assert.matches("Previous Version: v1.2.3\r\n", text, 1, true)
      assert.is_nil(text:gsub("\r\n", ""):find("[\r\n]"))
    end)

    it("is current after an upgrade", function()
      helper.write(target .. "/VERSION.txt",
        "Current Version: 0.9\nNotes: n\ncommit=" .. first .. "\n")
      repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
      upgrade()
      local text = helper.read(target .. "/VERSION.txt")
      assert.matches("Current Version: 1.0.0\nNotes: n\n", text, 1, true)
      assert.matches("Previous Version: 0.9\n", text, 1, true)
    end)
  end)

  describe(".gitignore", function()
    local HEADER = "# prAxIs OS - Ephemeral content (do not commit)"

    local function add(present)
      local path = target:match("^(.*)/") .. "/.gitignore"
      if present then helper.write(path, present) end
      local ctx, transaction = start()
      local report = assert(content.gitignore(ctx))
      finish(ctx, transaction)
      return helper.read(path), report
    end

    it("gets one section with what the source's document and we require", function()
      repository.commit(source, { [DOCUMENT] = "# X\n```\nnot-this/\n```\n## Required Entries\n\n"
        .. "```gitignore\n# a comment\n.praxis-os/.cache/   # big\n.praxis-os.backup.*\n```\n"
        .. "```\nnor-this/\n```\n" })
      local text, report = add("build/\n")
      assert.equal("build/\n\n" .. HEADER .. "\n.praxis-os/.cache/\n.praxis-os.backup.*\n"
        .. ".praxis-os/.backups/\n.praxis-os/.upgrade/\n.praxis-os/.upgrade-lock\n"
        .. ".praxis-os/.mcp_server_state.json\n", text)
      assert.same({ 6, false }, { #report.added, report.created })
      local again, second = add()
      assert.equal(text, again)
      assert.equal(0, #second.added)
    end)

    it("is made when missing, from the list of our own when the source has none", function()
      local text, report = add()
      assert.is_true(report.created)
      assert.matches("^" .. HEADER:gsub("%p", "%%%0") .. "\n%.praxis%-os/%.cache/\n", text)
      assert.matches("\n.praxis-os/.upgrade-lock\n", text, 1, true)
    end)

    it("gets only what it lacks, into the section that is there", function()
      local text = add(HEADER .. "\n/.praxis-os/.cache/\n.praxis-os/venv/\n\nother/\n")
      assert.matches("^" .. HEADER:gsub("%p", "%%%0")
        .. "\n/%.praxis%-os/%.cache/\n%.praxis%-os/venv/\n%.praxis%-os/mcp_server/__pycache__/\n",
        text)
      assert.matches("\n\nother/\n$", text)
      local _, sections = text:gsub(HEADER:gsub("%p", "%%%0"), "")
      assert.equal(1, sections)
    end)

    it("keeps CRLF, and ends a last line that has no end", function()
      local text = add("build/\r\ndist/")
      assert.matches("^build/\r\ndist/\r\n\r\n# prAxIs", text)
      assert.is_nil(text:gsub("\r\n", ""):find("[\r\n]"))
    end)

    it("names the target as it is named", function()
      local ctx = repository.context(source, target)
      ctx.target_name = ".agent-os"
      for _, pattern in ipairs(gitignore.required(ctx)) do
        assert.matches("^%.agent%-os", pattern)
      end
    end)

    it("is left alone when it is a link", function()
      local project = target:match("^(.*)/")
      repository.sh("ln", "-s", "elsewhere", project .. "/.gitignore")
      local ctx, transaction = start()
      assert.equal(0, #assert(content.gitignore(ctx)).added)
      assert.matches("no plain file", ctx.warnings[1])
      transaction:close()
      assert.equal("elsewhere", core.file.readlink(project .. "/.gitignore"))
    end)
  end)
end)
