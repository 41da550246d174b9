--- The command that starts a server, and the calls that prove it, as a project file declares them.
local command = require("praxlua.server.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local smoke = require("praxlua.server.smoke")

local function context(words)
  return { target = "/p/.praxis-os", project = "/p",
    options = { project = words and { server = { command = words } } } }
end

describe("The server's command", function()
  after_each(helper.clean)

  it("is the installation's own module where nothing else is declared", function()
    for _, ctx in ipairs({ context(), { target = "/p/.praxis-os", project = "/p" } }) do
      assert.same({ "/p/.praxis-os/venv/bin/python", "-m", "mcp_server", "--transport", "http" },
        command.argv(ctx, "http"))
      assert.is_nil(command.matches(ctx, { "x" }))
    end
  end)

  it("is the declared one, with what stands for something put in", function()
    assert.same({ "/p/.praxis-os/bin/s", "--at=/p", "stdio", "{", "/p/p" },
      command.argv(context({ "{target}/bin/s", "--at={project}", "{transport}", "{",
        "{project}/p" }), "stdio"))
    local program = command.argv(context({ "sh", "{transport}" }), "stdio")[1]
    assert.is_true(core.system.access(program, "x"), program)
  end)

  it("takes a path for what it is, whatever letters it has", function()
    local ctx = context({ "{target}/x", "{transport}" })
    ctx.target = "/p/%1 {project}"
    assert.equal("/p/%1 {project}/x", command.argv(ctx, "http")[1])
  end)

  it("must be something that can be run", function()
    assert.is_true(command.check(context({ "sh", "{transport}" })))
    for _, program in ipairs({ "{target}/gone", "no-such-program" }) do
      local ok, message, code = command.check(context({ program, "{transport}" }))
      assert.is_nil(ok)
      assert.equal("ENOENT", code)
      assert.truthy(message:find("server.command in upgrade.lua", 1, true))
    end
  end)

  it("proves a process only by all of its words", function()
    local ctx = context({ "/bin/server", "--transport", "{transport}", "{project}" })
    for _, argv in ipairs({ { "/bin/server", "--transport", "http", "/p" },
      { "/bin/server", "--transport", "stdio", "/p" },
      { "/bin/server", "--transport", "dual", "/p" },
      { "/usr/bin/python3", "/bin/server", "--transport", "http", "/p" },
      { "/usr/bin/env", "-S", "/bin/server", "--transport", "http", "/p" } }) do
      assert.is_true(command.matches(ctx, argv), table.concat(argv, " "))
    end
    for _, argv in ipairs({ {}, { "/bin/server" }, { "/bin/server", "--transport", "http", "/q" },
      { "/bin/other", "--transport", "http", "/p" }, { "server", "--transport", "http", "/p" },
      { "/bin/server", "--transport", "http", "/p", "more" },
      { "rm", "-r", "-f", "/bin/server", "--transport", "http", "/p" } }) do
      assert.is_false(command.matches(ctx, argv), table.concat(argv, " "))
    end
  end)

  it("may be called through a link to its program", function()
    local folder = helper.tempdir()
    helper.write(folder .. "/real", "")
    assert(lfs.link(folder .. "/real", folder .. "/link", true))
    local ctx = context({ folder .. "/link", "{transport}" })
    assert.is_true(command.matches(ctx, { folder .. "/real", "http" }))
    assert.is_false(command.matches(ctx, { folder .. "/other", "http" }))
  end)
end)

describe("A project's own calls of the server", function()
  -- A client whose transport answers each call with a text.
  local function results(declared, answer)
    local mcp = require("praxlua.mcp")
    local called, real = {}, mcp.call_tool
    function mcp.call_tool(_, name, arguments)
      called[#called + 1] = { name, arguments }
      return answer
    end
    local ok, found = pcall(smoke.run, { server = {} }, { "mine" },
      core.system.monotonic() + 10, declared)
    mcp.call_tool = real
    assert(ok, found)
    return found.calls[#found.calls], called, found
  end

  local function said(text) return { content = { { type = "text", text = text } } } end

  it("pass when the answer holds what is expected", function()
    local call, called, all = results({ { tool = "mine", arguments = { a = 1 }, expect = "a.c" } },
      said("x a.c y"))
    assert.same({ "passed", "mine (upgrade.lua)" }, { call.status, call.title })
    assert.same({ { "mine", { a = 1 } } }, called)
    assert.is_nil(all.project_1)
    assert.equal("not_run", all.rag_search_test)
    assert.equal("passed", (results({ { tool = "mine" } }, said("x"))).status)
    assert.equal("passed", (results({ { tool = "mine", expect = '"n":7' } },
      { content = { { type = "text", text = "x" } }, structuredContent = { n = 7 } })).status)
  end)

  it("pass when a field of the answer holds something", function()
    local function judged(field, text)
      return (results({ { tool = "mine", not_empty = field } }, said(text))).status
    end
    assert.equal("passed", judged("found", '{"found":[1]}'))
    assert.equal("passed", judged("data.items", '{"data":{"items":{"a":0}}}'))
    for _, text in ipairs({ '{"found":[]}', '{"found":null}', '{"found":""}', '{"other":[1]}', "x",
      '{"found":{}}' }) do
      assert.equal("failed", judged("found", text), text)
    end
    assert.equal("failed", judged("data.items", '{"data":7}'))
  end)

  it("may take several steps, the last of which is made in any case", function()
    local steps = { { tool = "mine", arguments = { n = 1 } }, { tool = "mine", expect = "no" },
      { tool = "mine", arguments = { n = 3 } }, { tool = "mine", always = true } }
    local call, called = results({ { steps = steps } }, said("x"))
    assert.equal("failed", call.status)
    assert.equal("step 2, mine: its answer does not hold 'no'", call.reason)
    assert.same({ { "mine", { n = 1 } }, { "mine", {} }, { "mine", {} } }, called)
    steps[2].expect = "x"
    call, called = results({ { steps = steps } }, said("x"))
    assert.same({ "passed", 4 }, { call.status, #called })
  end)

  it("fail when it does not, is an error or empty, or the tool is not there", function()
    local call = results({ { tool = "mine", expect = "a.c" } }, said("x abc y"))
    assert.equal("failed", call.status)
    assert.truthy(call.reason:find("does not hold 'a.c'", 1, true))
    assert.equal("failed", (results({ { tool = "mine" } }, said(""))).status)
    local error_answer = said("x")
    error_answer.isError = true
    assert.equal("failed", (results({ { tool = "mine" } }, error_answer)).status)
    local missing, called = results({ { tool = "other" } }, said("x"))
    assert.same({ "failed", "no such tool is registered" }, { missing.status, missing.reason })
    assert.same({}, called)
  end)
end)
