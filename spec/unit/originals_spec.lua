--- What is kept of files that no backup holds, before a phase changes them.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local originals = require("praxlua.originals")

describe("originals", function()
  local project, ctx, folder, left
  local link = core.file.link
  before_each(function()
    project, left = helper.tempdir(), {}
    helper.tree(project, { ["a.txt"] = "a", [".praxis-os/x.md"] = "x",
      [".praxis-os/.cache/state/s"] = "" })
    ctx = { project = project, target = project .. "/.praxis-os", target_name = ".praxis-os",
      memory = {}, session = { session_id = "s", metadata = {} },
      change = { last = function(path) return left[path] end } }
    folder = ctx.target .. "/.cache/originals-s"
  end)
  after_each(function()
    core.file.link = link
    helper.clean()
  end)

  local function replace(path, data)
    assert(os.remove(path))
    helper.write(path, data)
  end

  local function kept() return ctx.session.metadata.originals end

  it("are second names of the old files, each noted once", function()
    assert.is_true(originals.note(ctx, "a.txt"))
    assert.is_true(originals.note(ctx, "a.txt"))
    assert.equal(1, #kept())
    assert.equal(core.file.stat(project .. "/a.txt").inode,
      core.file.stat(folder .. "/" .. kept()[1].name).inode)
    ctx.memory = {} -- a run that goes on
    assert.is_true(originals.note(ctx, "a.txt"))
    assert.equal(1, #kept())
  end)

  it("are copies where the file system gives no second names", function()
    core.file.link = function() return nil, "no", "EPERM" end
    assert.is_true(originals.note(ctx, "a.txt"))
    assert.equal("a", helper.read(folder .. "/" .. kept()[1].name))
  end)

  it("are not of what a backup holds, nor of what is not there", function()
    local paths = { ".praxis-os/x.md", ".gitignore", "none", "a.txt/below", "none/deep" }
    for _, path in ipairs(paths) do
      assert.is_true(originals.note(ctx, path), path)
    end
    assert.is_nil(kept())
    assert.is_false(core.file.exists(folder))
  end)

  it("are also of what somebody changed since, each under its own name", function()
    assert.is_true(originals.note(ctx, "a.txt"))
    replace(project .. "/a.txt", "phase")
    left["a.txt"] = { kind = "put", after = core.hash.sha256("phase") }
    assert.same({ true, left["a.txt"].after }, { originals.note(ctx, "a.txt") })
    assert.equal(1, #kept(), "what the session left is nobody's")
    replace(project .. "/a.txt", "mine")
    for _ = 1, 2 do
      assert.is_true(originals.note(ctx, "a.txt"))
      ctx.memory = {} -- a run that goes on
    end
    assert.equal(2, #kept())
    assert.equal("a", helper.read(folder .. "/" .. kept()[1].name))
    assert.equal("mine", helper.read(folder .. "/" .. kept()[2].name))
  end)

  it("are of what is other than the backup holds it, and of nothing else there", function()
    local backup = require("praxlua.backup")
    ctx.session.session_id = core.system.uuid()
    folder = ctx.target .. "/.cache/originals-" .. ctx.session.session_id
    assert(require("lfs").link("x.md", ctx.target .. "/link", true))
    ctx.session.phase_artifacts = { ["1"] = assert(backup.create_backup(ctx)) }
    assert.is_true(originals.note(ctx, ".praxis-os/link"))
    assert.is_true(originals.note(ctx, ".praxis-os"))
    assert.same({ true, core.hash.sha256("x") }, { originals.note(ctx, ".praxis-os/x.md") })
    assert.same({ true, false }, { originals.note(ctx, ".praxis-os/none") })
    assert.is_nil(kept())
    helper.write(ctx.target .. "/x.md", "edited")
    helper.write(ctx.target .. "/new.md", "new")
    os.remove(ctx.target .. "/link")
    assert(require("lfs").link("new.md", ctx.target .. "/link", true))
    for i, name in ipairs({ "x.md", "new.md", "link" }) do
      assert.is_true(originals.note(ctx, ".praxis-os/" .. name))
      assert.equal(i, #kept())
    end
    assert.equal("edited", helper.read(folder .. "/" .. kept()[1].name))
    assert.equal("new.md", kept()[3].target)
  end)

  it("are refused when the manifest of the backup cannot be read", function()
    ctx.session.phase_artifacts = { ["1"] = {
      backup_path = ".praxis-os/.backups/2025-10-08-103045/" } }
    local ok, message, code = originals.note(ctx, ".praxis-os/x.md")
    assert.same({ "nil", "string", "ENOENT" }, { type(ok), type(message), code })
  end)

  it("are refused where they cannot be looked at", function()
    assert(require("lfs").link(".praxis-os", project .. "/link", true))
    local ok, _, code = originals.note(ctx, "link/x.md")
    assert.is_nil(ok)
    assert.is_string(code)
    assert.is_nil(kept())
  end)

  it("of other sessions are forgotten, and of one that was undone", function()
    for _, name in ipairs({ "originals-s", "originals-t", "environment-t" }) do
      helper.write(ctx.target .. "/.cache/" .. name .. "/x", "x")
    end
    originals.forget(ctx.target, "s")
    assert.is_true(core.file.exists(folder))
    assert.is_false(core.file.exists(ctx.target .. "/.cache/originals-t"))
    assert.is_true(core.file.exists(ctx.target .. "/.cache/environment-t"))
    originals.drop(ctx.target, "s")
    assert.is_false(core.file.exists(folder))
    originals.forget(project .. "/nowhere", "s")
  end)
end)
