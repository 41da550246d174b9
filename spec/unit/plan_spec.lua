local core = require("praxlua.core")
local helper = require("spec.support.helper")
local plan = require("praxlua.plan")
local repository = require("spec.support.repository")

local function find(planned, path)
  for _, entry in ipairs(planned.entries) do
    if entry.path == path then return entry end
  end
  return nil
end

describe("plan.build", function()
  local source, commit, target

  before_each(function()
    source, commit = repository.source()
    target = repository.install(source, commit)
  end)
  after_each(helper.clean)

  local function build(options)
    return plan.build(repository.context(source, target, options))
  end

  it("has nothing to do for what was just installed", function()
    local planned = assert(build())
    assert.equal(0, planned.changes)
    assert.same({ new_files = 0, updated_files = 0, merged_files = 0, removed_files = 0,
      unchanged_files = 6, local_only = 0, conflicts = 0 }, planned.counts)
    assert.equal(commit, planned.source_commit)
    assert.equal("1.0.0", planned.source_version)
  end)

  it("plans additions, updates and removals, and leaves the user's files", function()
    helper.write(target .. "/workflows/mine/x.md", "mine\n")
    repository.commit(source, {
      ["universal/standards/testing/pyramid.md"] = "pyramid 2\n",
      ["universal/standards/testing/new.md"] = "new\n",
      ["universal/workflows/flow/phase.md"] = false,
    })
    local planned = assert(build())
    assert.equal("update", find(planned, "standards/universal/testing/pyramid.md").action)
    assert.equal("remove", find(planned, "workflows/flow/phase.md").action)
    assert.equal("keep", find(planned, "workflows/mine/x.md").action)
    local added = find(planned, "standards/universal/testing/new.md")
    assert.same({ "add", "standards", core.hash.sha256("new\n"), 420, 4 },
      { added.action, added.component, added.new, added.mode, added.size })
    assert.equal(3, planned.changes)
    assert.equal(#"pyramid 2\n" + #"new\n", planned.bytes)
    for i = 2, #planned.entries do
      assert.is_true(planned.entries[i - 1].path < planned.entries[i].path)
    end
  end)

  it("gives equal plans equal hashes, and others others", function()
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    local first = assert(build())
    assert.equal(first.hash, assert(build()).hash)
    helper.write(target .. "/workflows/mine.md", "mine\n") -- not concerned
    assert.equal(first.hash, assert(build()).hash)
    helper.write(target .. "/workflows/flow/metadata.json", "{}\n")
    assert.not_equal(first.hash, assert(build()).hash)
  end)

  it("resolves conflicts as told, also for single paths", function()
    local path = "workflows/flow/phase.md"
    helper.write(target .. "/" .. path, "mine\n")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    assert.equal("conflict", find(assert(build()), path).action)
    assert.equal("conflict", find(assert(build({ on_conflict = "ask" })), path).action)
    local ours = find(assert(build({ on_conflict = "ours" })), path)
    assert.same({ "keep", "ours" }, { ours.action, ours.resolved })
    local theirs = find(assert(build({ on_conflict = "theirs" })), path)
    assert.same({ "update", "theirs" }, { theirs.action, theirs.resolved })
    local id = find(assert(build()), path).id
    assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x$", id)
    local function answered(answer, data, of)
      local given = { answer = answer, id = of or id, content = data }
      return find(assert(build({ on_conflict = "stop", resolutions = { [path] = given } })), path)
    end
    assert.equal("update", answered("theirs").action)
    assert.equal("keep", answered("ours").action)
    local merged = answered("merged", "both\n")
    assert.same({ "merge", "merged", "both\n", core.hash.sha256("both\n"), id },
      { merged.action, merged.resolved, merged.content, merged.result, merged.id })
    assert.equal("conflict", answered("theirs", nil, ("0"):rep(12)).action) -- of another conflict
  end)

  it("keeps deletions of the user unless upstream changed the file", function()
    os.remove(target .. "/workflows/flow/phase.md")
    os.remove(target .. "/standards/universal/testing/pyramid.md")
    repository.commit(source, { ["universal/standards/testing/pyramid.md"] = "pyramid 2\n" })
    local planned = assert(build())
    assert.equal("keep", find(planned, "workflows/flow/phase.md").action)
    assert.equal("conflict", find(planned, "standards/universal/testing/pyramid.md").action)
    planned = assert(build({ on_conflict = "theirs" }))
    assert.equal("add", find(planned, "standards/universal/testing/pyramid.md").action)
  end)

  it("turns a shipped file into a directory and back", function()
    local second = repository.commit(source, {
      ["universal/workflows/flow/phase.md"] = false,
      ["universal/workflows/flow/phase.md/part.md"] = "part\n",
    })
    local planned = assert(build())
    assert.equal("remove", find(planned, "workflows/flow/phase.md").action)
    assert.equal("add", find(planned, "workflows/flow/phase.md/part.md").action)

    target = repository.install(source, second)
    repository.git(source, "rm", "-q", "-r", "universal/workflows/flow/phase.md")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 3\n" })
    planned = assert(build())
    assert.equal("add", find(planned, "workflows/flow/phase.md").action)
    assert.equal("remove", find(planned, "workflows/flow/phase.md/part.md").action)
  end)

  it("makes a conflict of a user's directory where a file is shipped", function()
    os.remove(target .. "/workflows/flow/phase.md")
    helper.write(target .. "/workflows/flow/phase.md/mine.md", "mine\n")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    assert.equal("conflict", find(assert(build()), "workflows/flow/phase.md").action)
    local planned = assert(build({ on_conflict = "ours" }))
    assert.equal("keep", find(planned, "workflows/flow/phase.md").action)
    planned = assert(build({ on_conflict = "theirs" }))
    assert.equal("add", find(planned, "workflows/flow/phase.md").action)
    assert.equal("remove", find(planned, "workflows/flow/phase.md/mine.md").action)
  end)

  it("makes a conflict of a user's file where a directory is shipped", function()
    helper.write(target .. "/workflows/other", "mine\n")
    repository.commit(source, { ["universal/workflows/other/a.md"] = "a\n" })
    assert.equal("conflict", find(assert(build()), "workflows/other/a.md").action)
    local planned = assert(build({ on_conflict = "ours" }))
    assert.equal("keep", find(planned, "workflows/other/a.md").action)
    assert.equal("keep", find(planned, "workflows/other").action)
    planned = assert(build({ on_conflict = "theirs" }))
    assert.equal("add", find(planned, "workflows/other/a.md").action)
    assert.equal("remove", find(planned, "workflows/other").action)
  end)

  it("decides alike about all that is shipped beneath a file of the user's", function()
    helper.write(target .. "/workflows/other", "mine\n")
    local files, paths = {}, {}
    for i = 1, 6 do
      paths[i] = ("workflows/other/%d.md"):format(i)
      files["universal/" .. paths[i]] = "shipped\n"
    end
    repository.commit(source, files)
    local planned = assert(build())
    assert.equal(6, planned.counts.conflicts)
    local answers = {}
    for i, answer in pairs({ [2] = "ours", [5] = "theirs" }) do
      answers[paths[i]] = { answer = answer, id = find(planned, paths[i]).id }
    end
    for _, options in ipairs({ { on_conflict = "theirs" },
      { on_conflict = "stop", resolutions = answers } }) do
      planned = assert(build(options))
      for i, path in ipairs(paths) do
        local found, is_ours = find(planned, path), i == 2 and options.resolutions ~= nil
        assert.same({ is_ours and "keep" or "add", is_ours and "ours" or "theirs" },
          { found.action, found.resolved })
      end
    end
  end)

  it("never plans to write through a link of the user's", function()
    local outside = helper.tempdir()
    repository.sh("rm", "-r", target .. "/workflows/flow")
    repository.sh("ln", "-s", outside, target .. "/workflows/flow")
    repository.commit(source, { ["universal/workflows/flow/phase.md"] = "phase 2\n" })
    assert.equal("conflict", find(assert(build()), "workflows/flow/phase.md").action)
    repository.sh("rm", "-r", target .. "/workflows")
    repository.sh("ln", "-s", outside, target .. "/workflows")
    local planned, message, code = build()
    assert.is_nil(planned)
    assert.equal("ELAYOUT", code)
    assert.matches("workflows is a link", message, 1, true)
  end)

  it("leaves a component alone that the source does not ship", function()
    repository.git(source, "rm", "-q", "-r", "mcp_server")
    repository.commit(source, {})
    local planned = assert(build())
    assert.same({ "mcp_server" }, planned.skipped_components)
    assert.is_nil(find(planned, "mcp_server/__main__.py"))
  end)

  it("refuses a source whose work tree is not what is committed", function()
    helper.write(source .. "/universal/workflows/flow/phase.md", "edited\n")
    local planned, message, code = build()
    assert.is_nil(planned)
    assert.equal("EDIRTY", code)
    assert.matches("uncommitted changes", message)
    repository.git(source, "update-index", "--assume-unchanged",
      "universal/workflows/flow/phase.md")
    planned, message, code = build()
    assert.is_nil(planned)
    assert.equal("EDIRTY", code)
    assert.matches("assume-unchanged", message, 1, true)
  end)

  it("never touches what it does not know: config, specs, the project's standards", function()
    helper.write(target .. "/config.json", "{}")
    helper.write(target .. "/specs/a.md", "a")
    helper.write(target .. "/standards/development/b.md", "b")
    for _, entry in ipairs(assert(build()).entries) do
      assert.is_nil(entry.path:match("^config") or entry.path:match("^specs")
        or entry.path:match("development"))
    end
  end)

  it("knows names with control characters", function()
    repository.commit(source, { ["universal/workflows/a\nb\27.md"] = "odd\n" })
    assert.equal("add", find(assert(build()), "workflows/a\nb\27.md").action)
  end)

  it("warns of shipped names that differ only in case", function()
    repository.commit(source, { ["universal/workflows/A.md"] = "a",
      ["universal/workflows/a.md"] = "b" })
    local ctx = repository.context(source, target)
    assert(plan.build(ctx))
    assert.matches("where case does not count", ctx.warnings[1])
  end)

  it("makes no temporary files in the installation", function()
    local environment = core.system.environment
    core.system.environment = function()
      local all = environment()
      all.TMPDIR = target .. "/specs"
      return all
    end
    local planned, message, code = build()
    core.system.environment = environment
    assert.is_nil(planned)
    assert.equal("EINSIDE", code)
    assert.matches("would lie in the installation itself", message)
  end)

  it("writes nothing", function()
    local before = repository.snapshot(target)
    assert(build())
    assert.same(before, repository.snapshot(target))
  end)
end)
