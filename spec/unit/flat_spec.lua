local core = require("praxlua.core")
local flat = require("praxlua.flat")
local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local plan = require("praxlua.plan")
local repository = require("spec.support.repository")
local seal = require("praxlua.seal")
local validation = require("praxlua.validation")

describe("the flat layout", function()
  local source, target

  before_each(function()
    source = repository.source()
    repository.commit(source, { ["universal/standards/ai-assistant/guide.md"] = "guide 2\n",
      ["universal/standards/testing/pyramid.md"] = false })
    local project = helper.tempdir()
    target = project .. "/.praxis-os"
    helper.tree(target, {
      ["standards/ai-assistant/guide.md"] = "guide 1\n",
      ["standards/testing/pyramid.md"] = "pyramid 1\n",
      ["standards/testing/ours.md"] = "ours\n",
      ["standards/README.md"] = "our standards\n",
      ["standards/development/guide.md"] = "guide 1\n",
      ["workflows/flow/metadata.json"] = '{"name": "flow"}\n',
      ["workflows/flow/phase.md"] = "phase 1\n",
    })
  end)

  after_each(helper.clean)

  local function check()
    local ctx = repository.context(source, target)
    local found = validation.validate_target_structure(ctx)
    assert.equal("praxis-os-flat", found.layout)
    assert.same({}, found.warnings)
    return validation.validate_source_repo(ctx), ctx
  end

  local function actions_of(ctx)
    local actions, contents = {}, {}
    for _, entry in ipairs(assert(plan.build(ctx)).entries) do
      actions[entry.path], contents[entry.path] = entry.action, entry.content
    end
    return actions, contents
  end

  local function refused(...)
    local result = check()
    assert.is_false(result.valid)
    for _, part in ipairs({ ... }) do assert.matches(part, result.problems[1], 1, true) end
    return result.problems[1]
  end

  it("is put right by an upgrade when the history tells every file", function()
    local result, ctx = check()
    assert.same({}, result.problems)
    assert.matches("2 shipped files go from standards/ (0 edited", result.warnings[1], 1, true)
    assert.same({
      ["standards/ai-assistant/guide.md"] = "remove", ["standards/testing/pyramid.md"] = "remove",
      ["standards/testing/ours.md"] = "keep", ["standards/README.md"] = "keep",
      ["standards/universal/ai-assistant/guide.md"] = "add",
      ["workflows/flow/metadata.json"] = "unchanged", ["workflows/flow/phase.md"] = "unchanged",
      ["mcp_server/__init__.py"] = "add", ["mcp_server/__main__.py"] = "add",
    }, actions_of(ctx))
  end)

  it("takes the changes of edited files along, also where upstream moved them since", function()
    local long = ("line %d\n"):rep(8):gsub("%%d", function() return "x" end)
    local first = repository.commit(source, {
      ["universal/standards/testing/long.md"] = "one\n" .. long .. "last\n",
      ["universal/standards/testing/moved.md"] = "two\n" .. long .. "last\n",
    })
    repository.commit(source, {
      ["universal/standards/testing/long.md"] = "one upstream\n" .. long .. "last\n",
      ["universal/standards/testing/moved.md"] = false,
      ["universal/standards/testing/new.md"] = "two upstream\n" .. long .. "last\n",
    })
    helper.write(target .. "/VERSION.txt", "commit=" .. first .. "\n")
    helper.write(target .. "/standards/testing/long.md", "one\n" .. long .. "last, ours\n")
    helper.write(target .. "/standards/testing/moved.md", "two\n" .. long .. "last, ours\n")
    os.remove(target .. "/standards/testing/pyramid.md")
    local result, ctx = check()
    assert.same({}, result.problems)
    assert.matches("3 shipped files go from standards/ (2 edited", result.warnings[1], 1, true)
    local actions, contents = actions_of(ctx)
    assert.equal("remove", actions["standards/testing/long.md"])
    assert.equal("remove", actions["standards/testing/moved.md"])
    assert.equal("one upstream\n" .. long .. "last, ours\n",
      contents["standards/universal/testing/long.md"])
    assert.equal("two upstream\n" .. long .. "last, ours\n",
      contents["standards/universal/testing/new.md"])
  end)

  it("knows what was shipped from a record of before it became flat", function()
    local long = ("x\n"):rep(8)
    local path_there = "universal/standards/testing/long.md"
    repository.commit(source, { [path_there] = "one\n" .. long .. "z\n" })
    repository.commit(source, { [path_there] = "one upstream\n" .. long .. "z\n" })
    helper.write(target .. "/standards/testing/long.md", "one\n" .. long .. "z, ours\n")
    helper.write(target .. "/standards/testing/copy.md", "guide 1\n") -- never shipped by that name
    local files = {}
    for path, data in pairs({ ["ai-assistant/guide.md"] = "guide 1\n",
      ["testing/pyramid.md"] = "pyramid 1\n", ["testing/long.md"] = "one\n" .. long .. "z\n" }) do
      files["standards/universal/" .. path] = { checksum = "sha256:" .. core.hash.sha256(data) }
    end
    helper.write(target .. "/.installed-manifest.json", seal.encode({ format_version = 2,
      layout = "praxis-os", files = files }))
    local result, ctx = check()
    assert.same({}, result.problems)
    assert.matches("3 shipped files go from standards/ (1 edited", result.warnings[1], 1, true)
    local actions, contents = actions_of(ctx)
    for _, path in ipairs({ "ai-assistant/guide.md", "testing/pyramid.md", "testing/long.md" }) do
      assert.equal("remove", actions["standards/" .. path], path)
    end
    assert.equal("keep", actions["standards/testing/copy.md"])
    assert.equal("one upstream\n" .. long .. "z, ours\n",
      contents["standards/universal/testing/long.md"])
  end)

  it("does not bring back what was deleted", function()
    os.remove(target .. "/standards/ai-assistant/guide.md")
    local first = repository.git(source, "rev-parse", "HEAD~1")
    helper.write(target .. "/VERSION.txt", "commit=" .. first .. "\n")
    local _, ctx = check()
    assert.equal("conflict", actions_of(ctx)["standards/universal/ai-assistant/guide.md"])
  end)

  it("is refused, with their names, where files may be edited or the project's own", function()
    helper.write(target .. "/standards/ai-assistant/guide.md", "quite another thing\nmine\n")
    helper.write(target .. "/standards/testing/pyramid.md", "ours\nsince\never\n")
    helper.write(target .. "/standards/testing/ours.md", "ours\n")
    repository.commit(source, { ["universal/standards/testing/third.md"] = "third\n" })
    helper.write(target .. "/standards/testing/third.md", "third\n")
    local problem = refused("These (2 files) are unlike everything that was ever shipped",
      "standards/ai-assistant/guide.md, standards/testing/pyramid.md",
      "Move each to standards/development/")
    assert.is_nil(problem:find("ours.md", 1, true))
    assert.is_nil(problem:find("third.md", 1, true))
  end)

  it("names twenty of many, and none in a way that forges a line", function()
    local files = {}
    for i = 1, 25 do files[("universal/standards/testing/%02d\nerror: .md"):format(i)] = "1" end
    repository.commit(source, files)
    for path in pairs(files) do
      helper.write(target .. path:sub(#"universal" + 1), "2")
    end
    assert.is_nil(refused("and 5 more", "01\\nerror: .md"):find("\n", 1, true))
  end)

  it("is refused where the history is cut off", function()
    repository.sh("git", "clone", "-q", "--depth", "1", "file://" .. source, source .. "-shallow")
    source = source .. "-shallow"
    refused("is cut off", "git fetch --unshallow")
  end)

  it("is refused where no file was ever shipped by this source", function()
    os.remove(target .. "/standards/ai-assistant/guide.md")
    os.remove(target .. "/standards/testing/pyramid.md")
    refused("not one file in its standards/ was ever shipped")
  end)

  it("tells links by where they lead", function()
    os.remove(target .. "/standards/ai-assistant/guide.md")
    repository.sh("ln", "-s", "../testing/ours.md", target .. "/standards/ai-assistant/guide.md")
    refused("These (1 file) are unlike", "standards/ai-assistant/guide.md")
    local sorted = assert(flat.sort({ source = source, target = target,
      layout = layout.by_name("praxis-os-flat") }))
    assert.same({ "standards/testing/pyramid.md" }, sorted.shipped)
    assert.same({ "standards/README.md", "standards/testing/ours.md" }, sorted.own)
  end)

  it("is refused with the other server's source, with both layouts and a way out", function()
    repository.commit(source, { ["dist/ouroboros/__main__.py"] = "" })
    refused("is a source of ouroboros (its server is ouroboros)",
      "an installation of praxis-os-flat (its server is mcp_server)", "that ships mcp_server")
  end)
end)
