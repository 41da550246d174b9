local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local kit = require("spec.support.server_kit")
local mcp = require("praxlua.mcp")
local process = require("praxlua.process")

local TOOLS = { "search_standards", "list_workflows", "get_server_info" }

local function names(tools)
  local list = {}
  for i, tool in ipairs(tools) do list[i] = tool.name end
  return list
end

describe("mcp", function()
  local running = {}

  local function start(ctx, transport)
    local child = kit.start(ctx, transport)
    running[#running + 1] = child
    return child
  end

  -- A peer that says what a test wants: a Python program over stdio.
  local function peer(code)
    local child = assert(core.spawn.start({
      argv = { "/usr/bin/python3", "-u", "-c", "import json, sys, time\n" .. code },
      stdin = "pipe", stdout = "pipe", stderr = "pipe", host = false,
    }))
    running[#running + 1] = child
    return child
  end

  local HELLO = [[
ask = json.loads(sys.stdin.readline())
def answer(id, result): print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}))
answer(ask["id"], {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}})
sys.stdin.readline()
]]

  after_each(function()
    for _, child in ipairs(running) do child:stop(1) end
    running = {}
    helper.clean()
  end)

  teardown(kit.finish)

  -- ---- both transports -------------------------------------------------------------------------

  for _, transport in ipairs({ "stdio", "http" }) do
    describe("over " .. transport, function()
      local function connect(faults, seconds)
        local ctx = kit.install({ faults = faults })
        local child = start(ctx, transport)
        local where = transport == "stdio" and { process = child } or { url = kit.state(ctx).url }
        where.timeout = seconds or 10
        return mcp.connect(where)
      end

      it("shakes hands and learns name, version and protocol", function()
        local client = assert(connect())
        assert.same({ name = "praxis-os", version = "1.0.0" }, client.server)
        assert.equal("2025-06-18", client.protocol_version)
        mcp.close(client)
      end)

      it("lists the tools of all pages, in the server's order", function()
        local client = assert(connect())
        assert.same(TOOLS, names(assert(mcp.list_tools(client, 5))))
        mcp.close(client)
      end)

      it("calls a tool and reads its answer", function()
        local client = assert(connect())
        local result = assert(mcp.call_tool(client, "search_standards", { query = "unit" }, 5))
        local value = assert(json.decode(mcp.result_text(result)))
        assert.equal("standards/universal/testing/pyramid.md", value.results[1].file)
        result = assert(mcp.call_tool(client, "list_workflows", {}, 5))
        value = assert(json.decode(mcp.result_text(result)))
        assert.same({ "release_v1", "spec_creation_v1" }, value.workflows)
        mcp.close(client)
      end)

      it("tells a tool's error from an error of the call", function()
        local client = assert(connect())
        local result = assert(mcp.call_tool(client, "search_standards", { query = "" }, 5))
        assert.is_true(result.isError)
        local none, message, code = mcp.call_tool(client, "no_such_tool", {}, 5)
        assert.is_nil(none)
        assert.matches("tools/call: the server answers: unknown tool no_such_tool %(%-32602%)",
          message)
        assert.equal("EREMOTE", code)
        mcp.close(client)
      end)

      it("answers the server's ping, refuses its requests, passes over notifications", function()
        local client = assert(connect({ chatty = true }))
        assert(mcp.list_tools(client, 5))
        local began = core.system.monotonic()
        local result = assert(mcp.call_tool(client, "get_server_info", {}, 5))
        -- The fixture waits five seconds for both replies before it gives up.
        assert.is_true(core.system.monotonic() - began < 4)
        assert.matches("1%.0%.0", mcp.result_text(result))
        mcp.close(client)
      end)

      it("gives up a server that does not answer initialize", function()
        local began = core.system.monotonic()
        local client, message, code = connect({ hang_on_initialize = true }, 0.5)
        assert.is_nil(client)
        assert.equal("ETIMEDOUT", code)
        assert.matches("initialize: no answer from .* within 0%.5 s", message)
        assert.is_true(core.system.monotonic() - began < 5)
      end)

      it("refuses a protocol version it does not speak", function()
        local client, message, code = connect({ bad_protocol = "2031-01-01" })
        assert.is_nil(client)
        assert.equal("EPROTOCOL", code)
        assert.matches("the server speaks 2031%-01%-01, praxlua speaks 2025%-11%-25", message)
      end)

      it("accepts an older protocol version", function()
        local client = assert(connect({ bad_protocol = "2024-11-05" }))
        assert.equal("2024-11-05", client.protocol_version)
        assert.same(TOOLS, names(assert(mcp.list_tools(client, 5))))
        mcp.close(client)
      end)

      it("does not follow pages for ever", function()
        local client = assert(connect({ endless_pages = true }))
        local pages = mcp.limits.pages
        mcp.limits.pages = 20
        local tools, message, code = mcp.list_tools(client, 10)
        mcp.limits.pages = pages
        assert.is_nil(tools)
        assert.equal("EPROTOCOL", code)
        assert.equal("tools/list: more than 20 pages", message)
        mcp.close(client)
      end)

      it("says so when the server is gone", function()
        local client = assert(connect())
        running[1]:stop(2)
        local tools, message, code = mcp.list_tools(client, 5)
        assert.is_nil(tools)
        assert.equal("ECLOSED", code)
        assert.matches("^tools/list: ", message)
      end)

      for what, reply in pairs({
        ["a result without tools"] = '{"jsonrpc":"2.0","id":2,"result":{}}',
        ["a tool without a name"] = '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"title":"x"}]}}',
        ["no result"] = '{"jsonrpc":"2.0","id":2}',
      }) do
        it("refuses " .. what, function()
          local client = assert(connect({ reply = reply }))
          local tools, message, code = mcp.list_tools(client, 5)
          assert.is_nil(tools)
          assert.equal("EPROTOCOL", code)
          assert.matches("^tools/list: ", message)
          mcp.close(client)
        end)
      end

      it("takes an answer from a batch, and passes over answers to others", function()
        local client = assert(connect({
          reply = '[{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"mine"}]}},'
            .. '{"jsonrpc":"2.0","id":77,"result":{"tools":[{"name":"other"}]}}]',
        }))
        assert.same({ "mine" }, names(assert(mcp.list_tools(client, 5))))
        mcp.close(client)
      end)
    end)
  end

  -- ---- stdio -----------------------------------------------------------------------------------

  it("tolerates lines on stdout that are not JSON, and counts them", function()
    local child = start(kit.install({ faults = { garbage_on_stdout = true } }), "stdio")
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    assert.same(TOOLS, names(assert(mcp.list_tools(client, 5))))
    assert.equal(6, client.noise_lines)
  end)

  it("quotes what a server said before it ended, and its exit code", function()
    local child = peer([[
print("\x1b[31mno JSON at all")
sys.stderr.write("ModuleNotFoundError: No module named 'lancedb'\n")
sys.stdin.readline()
sys.exit(3)
]])
    local client, message, code = mcp.connect({ process = child, timeout = 10 })
    assert.is_nil(client)
    assert.equal("ECLOSED", code)
    assert.matches("ended with exit code 3", message, 1, true)
    assert.matches("No module named 'lancedb'", message, 1, true)
    assert.matches("on stdout: \\e[31mno JSON at all", message, 1, true)
  end)

  it("names the signal that ended a server", function()
    local child = peer("import os; sys.stdin.readline(); os.kill(os.getpid(), 9)")
    local _, message, code = mcp.connect({ process = child, timeout = 10 })
    assert.equal("ECLOSED", code)
    assert.matches("was ended by signal 9", message)
  end)

  it("does not hold a message without end", function()
    local limit = mcp.limits.message
    mcp.limits.message = 100000
    local child = peer("sys.stdout.write('x' * 300000); sys.stdout.flush(); time.sleep(30)")
    local _, message, code = mcp.connect({ process = child, timeout = 10 })
    mcp.limits.message = limit
    assert.equal("EPROTOCOL", code)
    assert.matches("a message of more than 100 kB", message)
  end)

  it("takes an answer that comes in pieces", function()
    local child = peer(HELLO .. [[
ask = json.loads(sys.stdin.readline())
text = json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": {"tools": [{"name": "a"}]}})
for part in (text[:5], text[5:20], text[20:] + "\r\n"):
    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.05)
]])
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    assert.same({ "a" }, names(assert(mcp.list_tools(client, 5))))
  end)

  it("is not kept busy beyond its deadline by a server that talks without answering", function()
    local child = peer(HELLO .. [[
while True: print(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress"}))
]])
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    local began = core.system.monotonic()
    local tools, _, code = mcp.list_tools(client, 0.5)
    assert.is_nil(tools)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(core.system.monotonic() - began < 3)
  end)

  it("hears the last words of a server that stopped listening before it spoke", function()
    local child = peer([[
import os
os.close(0)
print("deaf")
time.sleep(0.3)
sys.stderr.write("the reason why\n")
sys.exit(3)
]])
    assert.matches("^deaf", (select(2, child:read(10))))
    local client, message, code = mcp.connect({ process = child, timeout = 10 })
    assert.is_nil(client)
    assert.equal("ECLOSED", code)
    assert.matches("ended with exit code 3; its last words: the reason why", message, 1, true)
  end)

  it("notices a page that comes twice", function()
    local child = peer(HELLO .. [[
for line in sys.stdin:
    answer(json.loads(line)["id"], {"tools": [{"name": "a"}], "nextCursor": "same"})
]])
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    local tools, message = mcp.list_tools(client, 5)
    assert.is_nil(tools)
    assert.equal("tools/list: the same page comes again", message)
  end)

  it("refuses a page whose cursor is no string", function()
    local child = peer(HELLO .. [[
cursor = []
for _ in range(50): cursor = [cursor]
answer(json.loads(sys.stdin.readline())["id"], {"tools": [], "nextCursor": cursor})
]])
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    local tools, message, code = mcp.list_tools(client, 5)
    assert.is_nil(tools)
    assert.equal("EPROTOCOL", code)
    assert.equal("tools/list: a cursor that is no string", message)
  end)

  it("does not send back an id that is neither string nor number", function()
    local child = peer(HELLO .. [[
ask = json.loads(sys.stdin.readline())
print('{"jsonrpc": "2.0", "method": "ping", "id": ' + "[" * 50 + "]" * 50 + "}")
print('{"jsonrpc": "2.0", "method": "ping", "id": {"a": 1}}')
print('{"jsonrpc": "2.0", "method": "ping", "id": "mine"}')
reply = json.loads(sys.stdin.readline())
answer(ask["id"], {"tools": [{"name": reply["id"]}]})
]])
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    assert.same({ "mine" }, names(assert(mcp.list_tools(client, 5))))
  end)

  it("tells a server's error in its own words, made printable", function()
    local child = peer(HELLO .. [[
ask = json.loads(sys.stdin.readline())
error = {"code": 1, "message": "a\x1b[2J\nb"}
print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "error": error}))
]])
    local client = assert(mcp.connect({ process = child, timeout = 10 }))
    local _, message, code = mcp.list_tools(client, 5)
    assert.equal("EREMOTE", code)
    assert.equal("tools/list: the server answers: a\\e[2J\\nb (1)", message)
  end)

  -- ---- streamable HTTP -------------------------------------------------------------------------

  -- A peer over HTTP that answers every POST with the same bytes; returns its URL.
  local function http_peer(status, content_type, body)
    local child = peer(([[
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(%d)
        self.send_header("Content-Type", %q)
        self.end_headers()
        self.wfile.write(%s)
    def log_message(self, *args): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port)
server.serve_forever()
]]):format(status, content_type, body))
    local _, port = assert(child:read(10))
    return ("http://127.0.0.1:%d/mcp"):format(tonumber(port))
  end

  it("says which HTTP status a server answered with, and what it said", function()
    local url = http_peer(503, "text/plain", [[b"overloaded\n"]])
    local _, message, code = mcp.connect({ url = url, timeout = 5 })
    assert.equal("EPROTOCOL", code)
    assert.equal(("initialize: %s answered with HTTP status 503: overloaded"):format(url), message)
  end)

  -- A server that is found at /mcp/ alone, and sends whoever asks elsewhere to a place.
  local function redirecting(place)
    local child = peer(([[
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        here = self.path == "/mcp/"
        self.send_response(307 if not here else 200 if "id" in ask else 202)
        port = self.server.server_port
        if not here: self.send_header("Location", %s)
        result = {"protocolVersion": "2025-06-18", "tools": [{"name": "a"}]}
        body = {"jsonrpc": "2.0", "id": ask.get("id"), "result": result}
        self.end_headers()
        if here and "id" in ask: self.wfile.write(json.dumps(body).encode())
    def log_message(self, *args): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port)
server.serve_forever()
]]):format(place))
    local _, port = assert(child:read(10))
    return ("http://127.0.0.1:%d/mcp"):format(tonumber(port))
  end

  for what, place in pairs({ path = '"/mcp/"', URL = '"http://127.0.0.1:%d/mcp/" % port' }) do
    it("asks at another path of the server when it is sent there by a " .. what, function()
      local client = assert(mcp.connect({ url = redirecting(place), timeout = 5 }))
      assert.equal("a", assert(mcp.list_tools(client, 5))[1].name)
    end)
  end

  for what, place in pairs({
    ["another server"] = '"http://127.0.0.1:1/mcp/"', ["another host"] = '"//localhost:1/mcp/"',
    ["a name that begins alike"] = '"http://127.0.0.1:%d0/mcp/" % port',
    ["itself, for ever"] = '"/mcp"', ["nowhere"] = '""',
  }) do
    it("is not sent to " .. what, function()
      local _, message, code = mcp.connect({ url = redirecting(place), timeout = 5 })
      assert.equal("EPROTOCOL", code)
      assert.matches("answered with HTTP status 307", message, 1, true)
    end)
  end

  it("is not satisfied by a page that is no MCP", function()
    local url = http_peer(200, "text/html", [[b"<html>Welcome!</html>"]])
    local _, message, code = mcp.connect({ url = url, timeout = 5 })
    assert.equal("EPROTOCOL", code)
    assert.matches("ended its reply without an answer", message)
  end)

  it("reads an event stream of several events and data lines", function()
    local url = http_peer(200, "text/event-stream", [[(
      b": hello\n\nid: 4\nevent: message\ndata: {\"jsonrpc\": \"2.0\", \"method\": \"x\"}\n\n"
      b"data: {\"jsonrpc\": \"2.0\", \"id\": 1,\ndata: \"result\": {\"protocolVersion\":\n"
      b"data: \"2025-03-26\"}}\r\n\r\ndata: more that nobody waits for\n\n")]])
    local client = assert(mcp.connect({ url = url, timeout = 5 }))
    assert.equal("2025-03-26", client.protocol_version)
    assert.same({}, client.server)
  end)

  it("reports a port where nobody listens", function()
    local client, message, code = mcp.connect({ url = "http://127.0.0.1:1/mcp", timeout = 2 })
    assert.is_nil(client)
    assert.equal("ECLOSED", code)
    assert.matches("http://127.0.0.1:1/mcp", message, 1, true)
  end)

  it("gives its session back when it closes, and then has none", function()
    local ctx = kit.install()
    start(ctx, "http")
    local client = assert(mcp.connect({ url = kit.state(ctx).url, timeout = 5 }))
    assert.equal(32, #client.session)
    mcp.close(client)
    local tools, message, code = mcp.list_tools(client, 5)
    assert.is_nil(tools)
    assert.equal("ECLOSED", code)
    assert.matches("HTTP status 404: unknown session", message)
  end)

  it("wants either a process or a URL", function()
    assert.has_error(function() mcp.connect({}) end)
  end)

  it("leaves no descriptor open", function()
    local ctx = kit.install()
    local child = start(ctx, "http")
    local function once()
      local client = assert(mcp.connect({ url = kit.state(ctx).url, timeout = 5 }))
      assert(mcp.list_tools(client, 5))
      mcp.close(client)
    end
    once()
    local before = helper.descriptors()
    for _ = 1, 5 do once() end
    assert.equal(before, helper.descriptors())
    assert.is_not_nil(process.identity(child:pid()))
  end)
end)
