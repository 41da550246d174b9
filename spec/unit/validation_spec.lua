local clock = require("praxlua.clock")
local content = require("praxlua.content")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local repository = require("spec.support.repository")
local validation = require("praxlua.validation")

local DAY = 24 * 60 * 60 * 1000000000

describe("validation.compare_versions", function()
  for _, case in ipairs({
    { "1.2.3", "1.2.3", 0 }, { "v1.2", "1.2.0", 0 }, { "1.10.0", "1.9.9", 1 },
    { "1.4.0-dev", "1.4.0", -1 }, { "1.4.0", "1.4.0rc1", 1 }, { "1.4.0-rc1", "1.4.0-rc2", -1 },
    { "1.4.0-rc2", "1.4.0-rc10", -1 }, { "1.4.0-alpha", "1.4.0-beta", -1 }, { "2", "10", -1 },
    { "1.0.0+build5", "1.0.0", 0 }, { "1.0.0.post1", "1.0.0", 1 }, { "abc1234", "1.0.0", nil },
    { "1.0.0", "unknown", nil },
  }) do
    it(("orders %s and %s"):format(case[1], case[2]), function()
      assert.equal(case[3], validation.compare_versions(case[1], case[2]))
      if case[3] then assert.equal(-case[3], validation.compare_versions(case[2], case[1])) end
    end)
  end
end)

describe("validation", function()
  local source, first, target

  before_each(function()
    source, first = repository.source()
    target = repository.install(source)
  end)
  after_each(helper.clean)

  local function validate(options)
    return validation.validate_source_repo(repository.context(source, target, options))
  end

  local function refused(pattern, options)
    local result = validate(options)
    assert.is_false(result.valid)
    assert.equal(1, #result.problems, table.concat(result.problems, " | "))
    assert.matches(pattern, result.problems[1])
    return result
  end

  describe("of the source", function()
    it("passes a clean work tree of the product", function()
      local result = validate()
      assert.same({}, result.problems)
      assert.same({}, result.warnings)
      assert.is_true(result.valid)
      assert.is_true(result.clean)
      assert.same({ "1.0.0", "VERSION.txt", first, "main" },
        { result.version, result.version_from, result.commit, result.branch })
    end)

    it("refuses one with uncommitted changes, and names the first of them", function()
      for i = 1, 5 do helper.write(source .. "/new-" .. i .. ".md", "x") end
      local result = refused("uncommitted changes: new%-1.md, new%-2.md, new%-3.md and 2 more in ")
      assert.is_false(result.clean)
      for i = 1, 5 do os.remove(source .. "/new-" .. i .. ".md") end
      helper.write(source .. "/universal/workflows/flow/phase.md", "edited\n")
      refused("phase.md")
    end)

    it("does not mind what git ignores", function()
      repository.commit(source, { [".gitignore"] = "*.log\n" })
      helper.write(source .. "/x.log", "x")
      assert.is_true(validate().valid)
    end)

    it("shows no control characters of a name", function()
      helper.write(source .. "/a\27[31m\n.md", "x")
      local message = refused("uncommitted changes").problems[1]
      assert.is_nil(message:find("%c"))
    end)

    it("does not count what lies in a target inside of the source", function()
      repository.sh("cp", "-a", target, source .. "/.praxis-os")
      target = source .. "/.praxis-os"
      assert.is_true(validate().valid)
      repository.commit(source, {})
      helper.write(target .. "/workflows/flow/phase.md", "edited\n")
      assert.is_true(validate().valid)
      helper.write(source .. "/x.md", "x")
      refused("uncommitted changes: x.md")
    end)

    it("refuses what is no repository, missing, or no directory", function()
      source = helper.tempdir()
      refused("not a git work tree")
      source = source .. "/none"
      refused("there is no source at")
      helper.write(source, "file")
      refused("none")
    end)

    it("refuses a directory inside of a repository", function()
      source = source .. "/universal"
      refused("name the repository's root")
    end)

    it("refuses a repository of something else", function()
      source = helper.tempdir()
      repository.git(source, "init", "-q", "-b", "main")
      repository.commit(source, { universal = "", mcp_server = "" })
      refused("not a source of a known product: looked for universal/standards")
    end)

    it("says that git is missing", function()
      local process = require("praxlua.process")
      local environment = process.environment
      process.environment = function(extra)
        local all = environment(extra)
        all.PATH = "/nonexistent"
        return all
      end
      local ok, problem = pcall(refused, "git was not found on PATH; install git")
      process.environment = environment
      assert(ok, problem)
    end)

    it("takes the manifest's version, and the commit for lack of any", function()
      repository.commit(source, { ["VERSION.txt"] = false,
        ["universal/.universal-manifest.json"] = '{"version":"1.4.0-dev","files":{}}' })
      assert.equal("1.4.0-dev", validate().version)
      local commit = repository.commit(source, { ["universal/.universal-manifest.json"] = false })
      assert.equal(commit:sub(1, 12), validate().version)
      assert.equal("commit", validate().version_from)
    end)

    it("refuses an older version unless a downgrade is allowed", function()
      helper.write(target .. "/VERSION.txt", "Current Version: v1.1.0\n")
      assert.is_true(refused("older than the installation: .*version 1.0.0, installed is v1.1.0.*"
        .. "%-%-allow%-downgrade").downgrade)
      local result = validate({ allow_downgrade = true })
      assert.is_true(result.valid)
      assert.matches("is older than the installation", result.warnings[1])
    end)

    it("takes no commit for a version", function()
      local name = ("9"):rep(11) .. "a"
      local full = name .. ("0"):rep(28)
      helper.write(target .. "/VERSION.txt",
        "Current Version: " .. name .. "\ncommit=" .. full .. "\n")
      assert.is_true(validate().valid)
      helper.write(target .. "/VERSION.txt", "Current Version: 9.9.9\n")
      repository.commit(source, { ["VERSION.txt"] = false })
      local result = validate()
      assert.same({ true, "commit" }, { result.valid, result.version_from })
    end)
    it("refuses an older commit of the same version", function()
      local second = repository.commit(source, { ["universal/workflows/flow/phase.md"] = "2\n" })
      helper.write(target .. "/VERSION.txt", "commit=" .. second:sub(1, 10) .. "\n")
      assert.is_true(validate().valid)
      repository.git(source, "reset", "-q", "--hard", first)
      refused("commit " .. first:sub(1, 12) .. ", installed is its descendant")
    end)

    it("does not call a source older for a commit it does not know", function()
      helper.write(target .. "/VERSION.txt", "commit=2b02a66\n")
      assert.is_true(validate().valid)
    end)

    it("warns when the source is not on main", function()
      repository.git(source, "checkout", "-q", "-b", "feature")
      assert.matches("on branch feature, not on main", validate().warnings[1])
      repository.git(source, "checkout", "-q", "--detach")
      local result = validate()
      assert.is_true(result.valid)
      assert.matches("on no branch", result.warnings[1])
    end)

    it("explains a source of another user", function()
      if core.system.euid() ~= 0 then return end
      repository.sh("chown", "-R", "65534", source)
      refused("belongs to another user")
    end)
  end)

  describe("of the target", function()
    it("passes an installation and remembers its layout", function()
      helper.write(target .. "/VERSION.txt", "Current Version: 1.0\ncommit=abcdef0\n")
      local ctx = repository.context(source, target)
      local result = validation.validate_target_structure(ctx)
      assert.same({ true, "praxis-os", "1.0", "abcdef0" },
        { result.valid, result.layout, result.version, result.commit })
      assert.equal(layout.by_name("praxis-os"), ctx.layout)
    end)

    it("refuses anything else with what was looked for", function()
      target = helper.tempdir()
      local result = validation.validate_target_structure(repository.context(source, target))
      assert.is_false(result.valid)
      assert.matches("looked for standards/universal/ or workflows/ with mcp_server/",
        result.problems[1], 1, true)
    end)

    it("warns of standards that another tool put beside", function()
      helper.write(target .. "/standards/ai-safety/x.md", "x\n")
      local result = validation.validate_target_structure(repository.context(source, target))
      assert.is_true(result.valid)
      assert.matches("standards/ai-safety", result.warnings[1], 1, true)
    end)

    it("refuses one that cannot be written", function()
      local ctx = repository.context(source, target)
      ctx.layout = layout.by_name("praxis-os")
      assert.is_true(validation.check_permissions(ctx).valid)
      local access = core.system.access
      core.system.access = function(path, mode)
        return path ~= target .. "/workflows" and access(path, mode)
      end
      local result = validation.check_permissions(ctx)
      core.system.access = access
      assert.is_false(result.valid)
      assert.matches("/workflows is read-only", result.problems[1], 1, true)
    end)
  end)

  describe("of the backups", function()
    local function make(age)
      local name = clock.stamp(core.system.now() - age)
      helper.write(target .. "/.backups/" .. name .. "/MANIFEST.json", "{}")
      return name
    end

    it("counts them and warns of old ones", function()
      local ctx = repository.context(source, target)
      assert.same({ count = 0, warnings = {} }, validation.check_backups(ctx))
      local new = make(DAY)
      helper.write(target .. "/.backups/notes.txt", "x")
      local result = validation.check_backups(ctx)
      assert.same({ 1, new, 1, 0 },
        { result.count, result.newest, result.age_days, #result.warnings })
      make(9 * DAY)
      result = validation.check_backups(ctx)
      assert.same({ 2, new }, { result.count, result.newest })
      assert.matches("more than 7 days ago", result.warnings[1])
    end)
  end)

  describe("of the space", function()
    it("asks for twice the content, without the backups that are kept", function()
      local ctx = repository.context(source, target)
      local before = assert(validation.check_disk_space(ctx))
      assert.is_true(before.sufficient)
      assert.is_nil(before.problem)
      assert.is_true(before.required_bytes >= 2 * before.content_bytes)
      helper.write(target .. "/.backups/2025-01-01-000000/x", ("x"):rep(5000000))
      helper.write(target .. "/.cache/x", ("x"):rep(5000000))
      assert.equal(before.required_bytes, validation.check_disk_space(ctx).required_bytes)
      helper.write(target .. "/venv/lib/x.py", ("x"):rep(3000000))
      local with_venv = validation.check_disk_space(ctx)
      assert.is_true(with_venv.required_bytes >= before.required_bytes + 3000000)
      assert.is_true(with_venv.required_inodes > before.required_inodes)
    end)

    it("counts blocks, records and the reserve of a transaction, and inodes for each change",
      function()
        local ctx = repository.context(source, target)
        local none = assert(validation.check_disk_space(ctx, { bytes = 0, inodes = 0 }))
        local many = assert(validation.check_disk_space(ctx, { bytes = 0, inodes = 1000 }))
        local reserved = core.transaction
        assert.is_true(none.required_bytes > 2 * none.content_bytes + reserved.RESERVE_BYTES)
        assert.is_true(none.required_inodes > reserved.RESERVE_INODES)
        assert.is_true(many.required_bytes >= none.required_bytes + 1000 * 4096)
        assert.is_true(many.required_inodes >= none.required_inodes + 2000)
      end)

    it("asks for what a restore unpacks and stages, and for the backup before it", function()
      local ctx = repository.context(source, target)
      local held = { bytes = 1000000, files = 100 }
      local without = assert(validation.check_restore_space(ctx, held, false))
      local with = assert(validation.check_restore_space(ctx, held, true))
      assert.is_true(without.sufficient)
      assert.is_true(without.required_bytes >= 2000000 + 100 * 4096)
      assert.is_true(without.required_inodes >= 100)
      assert.is_true(with.required_bytes > without.required_bytes)
      held.bytes = 1 << 60
      assert.matches("the restore needs", validation.check_restore_space(ctx, held, false).problem,
        1, true)
    end)

    it("refuses too little of either kind", function()
      local ctx = repository.context(source, target)
      local result = assert(validation.check_disk_space(ctx, { bytes = 1 << 60 }))
      assert.is_false(result.sufficient)
      assert.matches("too little space: .* has .* free and the upgrade needs .*; free some",
        result.problem)
      local space = core.system.space
      core.system.space = function(path)
        local found = space(path)
        found.inodes_available = 10
        return found
      end
      result = assert(validation.check_disk_space(ctx))
      core.system.space = space
      assert.is_false(result.sufficient)
      assert.matches("too few inodes", result.problem)
    end)
  end)

  describe("of the copied files", function()
    local function check()
      local ctx = repository.context(source, target)
      assert(content.plan(ctx))
      return ctx
    end

    it("verifies what equals the source, and names what does not", function()
      local ctx = check()
      local result = assert(validation.verify_checksums(ctx, "mcp_server"))
      assert.same({ true, 2, 0 }, { result.verified, result.checked, result.kept })
      helper.write(target .. "/mcp_server/__main__.py", "other\n")
      result = assert(validation.verify_checksums(ctx, "mcp_server"))
      assert.is_false(result.verified)
      assert.same({ "mcp_server/__main__.py" }, result.mismatches)
      assert.matches("1 file of mcp_server in .* differ", result.problem)
      assert.is_true(validation.verify_checksums(ctx, "workflows").verified)
    end)

    it("does not take a component that is not there for an equal one", function()
      for _, name in ipairs({ "mcp-server", "", false }) do
        local result, message, code = validation.verify_checksums(check(), name)
        assert.same({ nil, "EINVAL" }, { result, code })
        assert.matches("there is no component '.*'; there are .*mcp_server", message)
      end
    end)

    it("does not take a link to the source for a copy", function()
      local ctx = check()
      os.remove(target .. "/mcp_server/__main__.py")
      repository.sh("ln", "-s", source .. "/mcp_server/__main__.py",
        target .. "/mcp_server/__main__.py")
      assert.is_false(validation.verify_checksums(ctx, "mcp_server").verified)
    end)

    it("does not compare what the user keeps", function()
      helper.write(target .. "/VERSION.txt", "commit=" .. first .. "\n")
      helper.write(target .. "/mcp_server/__main__.py", "mine\n")
      local result = assert(validation.verify_checksums(check(), "mcp_server"))
      assert.same({ true, 1, 1 }, { result.verified, result.checked, result.kept })
    end)
  end)

  it("asks the server service about the server", function()
    local server = require("praxlua.server")
    local health = server.health
    server.health = function(ctx, seconds)
      return { responding = ctx.target == target, seconds = seconds }
    end
    local result = validation.check_server_health(repository.context(source, target), 5)
    server.health = health
    assert.same({ responding = true, seconds = 5 }, result)
  end)
end)
