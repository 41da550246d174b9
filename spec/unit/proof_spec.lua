local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local proof = require("praxlua.server.proof")

describe("The proof of a new server", function()
  local ctx, told

  before_each(function()
    told = {}
    ctx = kit.install()
    ctx.scratch = ctx.target .. "/.upgrade/x"
    ctx.memory = { server_remembered = { tools = { "get_server_info", "search_standards" } } }
    function ctx.progress(text) told[#told + 1] = text end
    function ctx.warn(text) told[#told + 1] = text end
  end)
  after_each(helper.clean)
  teardown(kit.finish)

  -- The installed code, staged by hand, with faults in it.
  local function stage(faults)
    local folder = ctx.scratch .. "/code"
    assert(core.file.mkdir(ctx.scratch))
    assert(core.file.mkdir(folder))
    kit.run({ "cp", "-R", ctx.target .. "/mcp_server", folder })
    if faults then helper.write(folder .. "/mcp_server/faults.json", faults) end
    ctx.memory.staged_code = folder
    return folder
  end

  local function fails(code, words)
    local proven, message, kind = proof.prove(ctx, { timeout = 5 })
    assert.is_nil(proven)
    assert.equal(code, kind, message)
    assert.truthy(message:find(words, 1, true), message)
    assert.truthy(message:find("The old one was left alone", 1, true))
  end

  it("starts the staged code with the environment that waits for it", function()
    local folder = stage()
    helper.write(folder .. "/mcp_server/__init__.py", 'VERSION = "7.0.0"\n')
    ctx.memory.environment = { path = ctx.target .. "/elsewhere" }
    assert(core.file.rename(ctx.target .. "/venv", ctx.target .. "/elsewhere"))
    local before = core.tree.list(ctx.target, { skip = { [".upgrade"] = true } })
    local proven = assert(proof.prove(ctx))
    assert.is_true(proven.proven)
    assert.equal("7.0.0", proven.server_version)
    assert.same({ "get_server_info", "list_workflows", "search_standards" }, proven.tools)
    assert.equal(folder .. "/mcp_server/__init__.py", proven.module_path)
    assert.same({ "calling the new server's tools" }, told)
    assert.same(#before, #core.tree.list(ctx.target, { skip = { [".upgrade"] = true } }))
  end)

  it("starts the installed code where none is staged", function()
    assert.equal(ctx.target .. "/mcp_server/__init__.py", assert(proof.prove(ctx)).module_path)
  end)

  it("fails for a lost tool, unless the layout or the project file says it is gone", function()
    stage('{"lose_tool": "search_standards"}')
    fails("ELOSTTOOL", "it lacks tools that the old one has: search_standards")
    ctx.options.project = { server = { gone_tools = { "search_standards" } } }
    assert.is_true(proof.prove(ctx).proven)
    ctx.options.project = nil
    ctx.layout = { tools = { minimum = {}, gone = { "search_standards" } },
      server = { module = "mcp_server" } }
    assert.is_true(proof.prove(ctx).proven)
  end)

  it("asks for the layout's least where the old server could not be asked", function()
    ctx.memory.server_remembered = { was_running = false }
    ctx.layout = { tools = { minimum = { "search_standards", "no_such_tool" }, gone = {} },
      server = { module = "mcp_server" } }
    fails("ELOSTTOOL", "no_such_tool")
  end)

  it("fails for a tool of the project's own that answers something else", function()
    ctx.options.project = { smoke = { { tool = "get_server_info", expect = "no such words" } } }
    fails("ESMOKE", "no such words")
  end)

  it("fails for a server that ends, hangs or talks garbage, in its own words", function()
    stage('{"import_error": true}')
    fails("ECLOSED", "a_module_that_was_never_installed")
    stage('{"reply": "}{"}')
    local _, _, code = proof.prove(ctx, { timeout = 2 })
    assert.truthy(code == "EPROTOCOL" or code == "ETIMEDOUT", code)
    stage('{"hang_at_start": true}')
    local _, message, kind = proof.prove(ctx, { timeout = 0.5 })
    assert.equal("ETIMEDOUT", kind, message)
  end)

  it("warns when the working directory holds the module too, and comes first", function()
    stage()
    kit.run({ "cp", "-R", ctx.target .. "/mcp_server", ctx.project })
    assert.equal(ctx.project .. "/mcp_server/__init__.py", assert(proof.prove(ctx)).module_path)
    assert.truthy(told[#told]:find("the working directory comes first", 1, true))
  end)

  it("says so when there is no environment to start it with", function()
    stage()
    ctx.memory.environment = { path = "/nowhere" }
    assert(core.tree.remove(ctx.target .. "/venv"))
    fails("ENOENT", "is missing or not executable")
  end)
end)
