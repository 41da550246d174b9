--- Servers that others wrote, from npm, each as the server of an installation: the one with which
--- MCP shows everything it has, and Playwright's, which drives a real browser. "make node-servers"
--- installs them. Where there is no Chromium the tests with a browser are left out, but not in
--- "make dogfood".
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local mcp = require("praxlua.mcp")
local process = require("praxlua.process")
local server = require("praxlua.server")

local NODE = os.getenv("NODE_SERVERS") or core.file.realpath("build") .. "/node"
local CHROMIUM = process.find("chromium")
local WITH_BROWSER = CHROMIUM ~= nil or os.getenv("DEMAND_SERVERS") == "1"
if not WITH_BROWSER then io.stderr:write("no chromium: the tests with a browser are left out\n") end

local function named(results, title)
  for _, call in ipairs(results.calls) do
    if call.title == title then return call end
  end
end

describe("A server from npm", function()
  local ctx
  -- Where the server may write. A browser makes a socket in it, whose path may have 107 bytes.
  local home = (os.getenv("TMPDIR") or "/tmp") .. "/h"

  -- An installation whose server it is.
  local function install(name, ...)
    assert(core.file.exists(NODE .. "/installed"),
      "the servers from npm are not installed; make node-servers tells why")
    ctx = kit.install({ venv = false })
    assert(core.file.mkdir(home))
    local port = kit.free_port()
    ctx.options.health_timeout = 60
    ctx.options.project = { server = {
      command = { "node", NODE .. "/serve.mjs", name, "{transport}", tostring(port),
        home, ... },
      -- Playwright's answers to this name only.
      url = ("http://%s:%d/mcp"):format(name == "playwright" and "localhost" or "127.0.0.1", port),
    } }
  end

  after_each(function()
    if ctx then assert(server.stop(ctx)) end
    ctx = nil
    if core.file.exists(home) then assert(core.tree.remove(home)) end
    helper.clean()
  end)

  -- Asks the installed server, privately over stdio or the running one over HTTP.
  local function with_client(transport, use)
    local ask = require("praxlua.server.ask")
    if transport == "http" then
      return assert(ask.over_http(assert(server.find(ctx)), 30, use))
    end
    return assert(ask.privately(ctx, ctx.target, 30, use))
  end

  for _, transport in ipairs({ "stdio", "http" }) do
    it("with everything is started, asked and stopped over " .. transport, function()
      install("everything")
      if transport == "http" then
        local started = assert(server.start(ctx))
        assert.equal("http", started.health.via)
        assert.equal(started.pid, assert(server.find(ctx)).pid)
      end
      local health = server.health(ctx)
      assert.is_true(health.responding, health.error)
      assert.equal(transport == "http" and "http" or "probe", health.via)
      assert.equal("2025-11-25", health.protocol_version)
      assert.is_true(health.tools_registered >= 10)
      if transport == "http" then
        local stopped = assert(server.stop(ctx))
        assert.equal("TERM", stopped.signal)
        assert.is_nil(server.find(ctx))
        assert.is_false(core.file.exists(kit.state_path(ctx)))
      end
    end)

    it("with everything answers its tools, with progress and logs between, over " .. transport,
      function()
        install("everything")
        if transport == "http" then assert(server.start(ctx)) end
        with_client(transport, function(client)
          local function call(name, arguments)
            local result = assert(mcp.call_tool(client, name, arguments, 20))
            return mcp.result_text(result), result
          end
          assert.matches("ünï \u{2603}", (call("echo", { message = "ünï \u{2603}" })), 1, true)
          assert.matches("42", (call("get-sum", { a = 40, b = 2 })))
          assert.matches("[Cc]ompleted", (call("trigger-long-running-operation",
            { duration = 1, steps = 4 })))
          local _, structured = call("get-structured-content", { location = "Chicago" })
          assert.is_table(structured.structuredContent)
          local _, image = call("get-tiny-image", {})
          assert.is_true(#image.content > 1)
          local _, wrong = call("get-sum", { a = "x" })
          assert.is_true(wrong.isError)
          local none, _, code = mcp.call_tool(client, "no-such-tool", {}, 20)
          assert.is_true(none and none.isError or code == "EREMOTE")
          return true
        end)
      end)
  end

  it("passes the calls of a project file, and fails those that expect something else", function()
    install("everything")
    ctx.options.project.smoke = {
      { tool = "echo", arguments = { message = "hello" }, expect = "hello" },
      { steps = { { tool = "get-structured-content", arguments = { location = "Chicago" },
        not_empty = "temperature" }, { tool = "get-sum", arguments = { a = 1, b = 2 },
        expect = "4" } } },
    }
    local results = assert(server.run_smoke(ctx))
    assert.equal("passed", named(results, "echo (upgrade.lua)").status)
    local failed = named(results, "get-structured-content (upgrade.lua)")
    assert.equal("failed", failed.status)
    assert.equal("step 2, get-sum: its answer does not hold '4'", failed.reason)
    assert.equal("not_run", results.browser_smoke_test)
  end)

  it("is stopped for a restart, and another process takes its place", function()
    install("everything")
    local first = assert(server.start(ctx))
    ctx.session = { phase_artifacts = {}, metadata = {} }
    local restarted = assert(server.restart_server(ctx))
    assert.is_true(restarted.stopped)
    assert.not_equal(first.pid, restarted.pid)
    assert.is_false(kit.is_alive(first.pid))
  end)

  -- ---- a browser --------------------------------------------------------------------------------

  local function install_browser()
    assert(CHROMIUM, "there is no chromium (Debian: chromium)")
    install("playwright", "--headless", "--no-sandbox", "--isolated",
      "--executable-path", CHROMIUM)
  end

  for _, transport in ipairs(WITH_BROWSER and { "stdio", "http" } or {}) do
    it("opens a page in a browser, reads it and closes it over " .. transport, function()
      install_browser()
      if transport == "http" then assert(server.start(ctx)) end
      local results = assert(server.run_smoke(ctx))
      local call = named(results, "browser")
      assert.equal("passed", call.status, call.reason)
      assert.equal("browser_navigate", call.tool)
      assert.is_true(results.browser_tools_enabled)
    end)
  end

  local it_browses = WITH_BROWSER and it or function() end

  it_browses("reads a page that a project file names, and not another text", function()
    install_browser()
    local folder = helper.tempdir()
    helper.write(folder .. "/index.html", "<h1>a page</h1><script>document.title='made'</script>")
    local port = kit.free_port()
    local pages <close> = assert(process.start({
      argv = { "/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", tostring(port) },
      directory = folder, stdin = "null", stdout = "null", stderr = "null",
    }))
    local function steps(wanted)
      return { seconds = 60, steps = {
        { tool = "browser_navigate",
          arguments = { url = ("http://127.0.0.1:%d/"):format(port) } },
        { tool = "browser_snapshot", expect = wanted },
        { tool = "browser_close", always = true },
      } }
    end
    ctx.options.project.smoke = { steps("a page"), steps("another") }
    local results = assert(server.run_smoke(ctx))
    local count = #results.calls
    assert.equal("passed", results.calls[count - 1].status, results.calls[count - 1].reason)
    assert.equal("step 2, browser_snapshot: its answer does not hold 'another'",
      results.calls[count].reason)
    pages:stop(1)
  end)

  it("fails the smoke call where the browser cannot be started", function()
    install("playwright", "--headless", "--isolated", "--executable-path", "/no/browser")
    local call = named(assert(server.run_smoke(ctx)), "browser")
    assert.equal("failed", call.status)
    assert.matches("step 1, browser_navigate: ", call.reason, 1, true)
  end)
end)
