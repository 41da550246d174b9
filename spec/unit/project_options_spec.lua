--- The options of a run: what was typed, what the project file says, and the defaults.
local ask = require("praxlua.server.ask")
local helper = require("spec.support.helper")
local project_options = require("praxlua.project_options")

describe("The options of a run", function()
  local target
  before_each(function()
    target = helper.tempdir() .. "/project/.praxis-os"
    helper.write(target .. "/standards/universal/a.md", "a\n")
  end)
  after_each(helper.clean)

  local function merged(typed, settings)
    return project_options.merge(typed, settings, target)
  end

  it("are those of the file where nothing is typed, and those typed where something is", function()
    for option, by in pairs({
      dry_run = { file = { dry_run = true }, said = true, typed = false },
      restart = { file = { auto_restart = false }, said = false, typed = true },
      run_tests = { file = { skip_tests = false }, said = true, typed = false },
      keep_backups = { file = { keep_backups = 7 }, said = 7, typed = 2 },
      git_commit = { file = { git_commit_after = true }, said = true, typed = false },
      on_conflict = { file = { on_conflict = "theirs" }, said = "theirs", typed = "ours" },
      source = { file = { source_path = "/there" }, said = "/there", typed = "/elsewhere" },
      driver = { file = { content = { driver = "safe-upgrade.py" } }, said = "safe-upgrade.py",
        typed = "built-in" },
    }) do
      assert.is_nil(merged({}, {})[option], option)
      assert.equal(by.said, merged({}, by.file)[option], option)
      if by.typed ~= nil then
        assert.equal(by.typed, merged({ [option] = by.typed }, by.file)[option], option)
        assert.equal(by.typed, merged({ [option] = by.typed }, false)[option], option)
      end
    end
    assert.is_nil(merged({}, { content = { driver = "built-in" } }).driver)
    assert.is_false(merged({}, { skip_tests = true }).run_tests)
  end)

  it("say how long the server may take, 30 s where nobody does", function()
    local settings = { server = { health_timeout = 90 } }
    assert.equal(30, ask.seconds({ options = merged({}, false) }))
    assert.equal(90, ask.seconds({ options = merged({}, settings) }))
    assert.equal(5, ask.seconds({ options = merged({ health_timeout = 5 }, settings) }))
    assert.equal(2, ask.seconds({ options = merged({ health_timeout = 5 }, settings) }, 2))
  end)

  it("say whom to ask about conflicts", function()
    local function choice(interactive, settings)
      return merged({ interactive = interactive }, settings).on_conflict
    end
    assert.equal("ask", choice(true, false))
    assert.equal("ask", choice(true, { on_conflict = "ask" }))
    assert.equal("ask", choice(true, { on_conflict = "theirs", interactive_conflicts = true }))
    assert.equal("theirs", choice(true, { on_conflict = "theirs" }))
    assert.equal("ours", choice(true, { on_conflict = "ours", interactive_conflicts = false }))
    assert.is_nil(choice(true, { interactive_conflicts = false }))
    for _, asks in ipairs({ true, false }) do
      local settings = { on_conflict = "theirs", interactive_conflicts = asks }
      assert.equal("theirs", choice(false, settings))
      assert.is_nil(choice(false, { interactive_conflicts = asks }))
    end
    assert.is_nil(choice(false, { on_conflict = "ask" }))
    assert.is_nil(merged({ interactive = true }, false).interactive)
    assert.equal("stop", merged({ interactive = true, on_conflict = "stop" }, false).on_conflict)
  end)

  it("count a relative source_path from the project", function()
    assert.equal(target:gsub("/%.praxis%-os$", "/../up"), merged({}, { source_path = "../up" })
      .source)
    helper.write(target:gsub("/project/.*$", "/up/x"), "")
    assert.equal((target:gsub("/project/.*$", "/up")), merged({}, { source_path = "../up" }).source)
  end)

  it("hold what the file declares, with a digest that only what it says changes", function()
    local settings = { excludes = { "usage" }, smoke = { { tool = "x" } }, keep_backups = 3,
      post_install = { { package = "y", command = { "z" } } },
      conflicts = { ["b/**"] = "ours", ["a/**"] = "theirs" } }
    local options = merged({}, settings)
    assert.same({ { pattern = "a/**", answer = "theirs" }, { pattern = "b/**", answer = "ours" } },
      options.conflict_policy)
    assert.same({ "usage" }, options.project.excludes)
    assert.equal("x", options.project.smoke[1].tool)
    assert.equal("y", options.project.post_install[1].package)
    assert.equal(options.project.digest, merged({ keep_backups = 1 }, settings).project.digest)
    settings.keep_backups = 4
    assert.not_equal(options.project.digest, merged({}, settings).project.digest)
    assert.is_nil(merged({}, false).project)
    assert.is_nil(merged({}, {}).conflict_policy)
    assert.is_nil(merged({ on_conflict = "ours" }, settings).conflict_policy)
  end)

  describe("of an upgrade", function()
    local events
    local function resolve(typed)
      events, typed.target = {}, target
      return project_options.resolve(typed, function(event) events[#events + 1] = event end)
    end

    it("need a source from somewhere", function()
      local options, result = resolve({})
      assert.is_nil(options)
      assert.equal(2, result.exit_code)
      assert.truthy(result.next:find("source_path", 1, true))
      assert.equal("/x", assert(resolve({ source = "/x" })).source)
      assert.same({}, events)
      helper.write(target .. "/upgrade.lua", "return { source_path = '/y' }")
      assert.equal("/y", assert(resolve({})).source)
      assert.equal("upgrade.lua sets source_path", events[1].message)
    end)

    it("are refused with a file that is wrong, also by what depends on the layout", function()
      for text, wanted in pairs({ ["return { a = 1 }"] = "upgrade.lua:1: a: there is no setting",
        ["return { ownership = { x = 'user' } }"] = "nothing is shipped to it" }) do
        helper.write(target .. "/upgrade.lua", text)
        local options, result = resolve({ source = "/x" })
        assert.is_nil(options)
        assert.equal(3, result.exit_code)
        assert.truthy(result.message:find(wanted, 1, true), result.message)
        assert.truthy(result.next:find("praxlua init --force", 1, true))
      end
    end)
  end)

  it("of what is no upgrade do without a file that is wrong, and say so", function()
    local events, options = {}, { target = target }
    local function emit(event) events[#events + 1] = event end
    helper.write(target .. "/upgrade.lua", "return { excludes = { 'usage' } }")
    project_options.add(options, emit)
    assert.same({ "usage" }, options.project.excludes)
    helper.write(target .. "/upgrade.lua", "return { excludes = 1 }")
    options = { target = target }
    project_options.add(options, emit)
    assert.is_nil(options.project)
    assert.equal("warning", events[1].event)
    assert.is_nil(events[2])
  end)
end)
