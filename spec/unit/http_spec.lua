--- core.http: one request to a server on this machine, against a small server in Python.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local process = require("praxlua.process")

local http, system = core.http, core.system

local LONG = 30 -- seconds no test takes unless something is wrong
local BIG = 100 * 1000 * 1000

local SERVER = [[
import http.server, socket, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def wait_for_client(self):
        self.rfile.read(1)
        self.close_connection = True

    def event(self, text):
        data = ("data: %s\n\n" % text).encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def handle_any(self):
        path = self.path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/json":
            self.answer(b'{"ok": true}', headers=[("Content-Type", "application/json"),
                ("X-Twice", "one"), ("X-TWICE", "two"), ("X-Empty", ""),
                ("X-Split", "a\rb: c")])
        elif path == "/echo":
            lines = ["%s %s" % (self.command, path)]
            lines += sorted("%s: %s" % (k.lower(), v) for k, v in self.headers.items())
            self.answer("\n".join(lines).encode() + b"\n\n" + body)
        elif path == "/length":
            self.answer(str(len(body)).encode())
        elif path.startswith("/status/"):
            status = int(path[8:])
            self.answer(b"" if status == 204 else b"said", status, [("Location", "/json")])
        elif path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for text in ("one", "two", "three"):
                self.event(text)
            self.wait_for_client()
        elif path == "/silent":
            self.wait_for_client()
        elif path == "/half":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self.close_connection = True
        elif path == "/nothing":
            self.close_connection = True
        elif path == "/garbage":
            self.wfile.write(b"220 mail.example ready\r\n")
            self.close_connection = True
        elif path == "/early":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n")
            self.answer(b"late", headers=[("X-Late", "1")])
        elif path == "/flood":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            try:
                while True:
                    self.wfile.write(b"X-Flood: " + b"x" * 1000 + b"\r\n")
            except OSError:
                self.close_connection = True
        elif path == "/big":
            self.send_response(200)
            self.send_header("Content-Length", "100000000")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x" * 1000000)
            except OSError:
                self.close_connection = True

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = handle_any

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client):
        pass

server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
]]

local function line_of(child)
  local text = ""
  repeat
    local stream, chunk = child:read(LONG)
    if not stream then error("the helper said nothing: " .. chunk .. text) end
    text = text .. chunk
  until text:find("\n", 1, true)
  return text:match("^[^\n]*")
end

-- Another Lua with the modules under test and these variables beside ours.
local function start_lua(code, variables)
  local environment = system.environment()
  environment.LUA_PATH, environment.LUA_CPATH = package.path, package.cpath
  for name, value in pairs(variables or {}) do environment[name] = value end
  code = "io.stdout:setvbuf('no') " .. code
  return assert(core.spawn.start({
    argv = { "/bin/sh", "-c", 'exec "${LUA:-lua5.4}" -e "$1"', "sh", code },
    environment = environment, stdout = "pipe", stderr = "stdout", host = false,
  }))
end

describe("core.http", function()
  local server, base, descriptors

  setup(function()
    local directory = helper.tempdir()
    helper.write(directory .. "/server.py", SERVER)
    server = assert(core.spawn.start({
      argv = { assert(process.find("python3")), "-u", directory .. "/server.py" },
      environment = process.environment(), stdout = "pipe", stderr = "stdout",
    }))
    base = "http://127.0.0.1:" .. line_of(server)
    assert(http.request({ url = base .. "/json" })) -- what libcurl opens for good, it has opened
  end)
  teardown(function()
    server:stop(0)
    helper.clean()
  end)
  before_each(function() descriptors = helper.descriptors() end)
  after_each(function() assert.equal(descriptors, helper.descriptors()) end)

  local function request(path, options)
    options = options or {}
    options.url = base .. path
    options.timeout = options.timeout or LONG
    return http.request(options)
  end

  it("returns status, headers with lowercase names, and body", function()
    local response = assert(request("/json"))
    assert.equal(200, response.status)
    assert.equal("integer", math.type(response.status))
    assert.equal('{"ok": true}', response.body)
    assert.equal("application/json", response.headers["content-type"])
    assert.equal("one, two", response.headers["x-twice"])
    assert.equal("", response.headers["x-empty"])
    assert.is_nil(response.headers["Content-Type"])
  end)

  it("lets no line break into a header's value", function()
    assert.equal("a b: c", assert(request("/json")).headers["x-split"])
  end)

  it("reaches the server by the name localhost", function()
    local url = base:gsub("127.0.0.1", "localhost") .. "/json"
    assert.equal(200, assert(http.request({ url = url })).status)
  end)

  it("sends method, headers and body as given, and nothing libcurl makes up", function()
    local said = assert(request("/echo", {
      method = "POST", body = "a\0b",
      headers = {
        ["Mcp-Session-Id"] = "s1", ["Content-Type"] = "application/json", ["X-None"] = "",
      },
    })).body
    assert.equal("POST /echo", said:match("^[^\n]*"))
    assert.truthy(said:find("\nmcp-session-id: s1\n", 1, true))
    assert.truthy(said:find("\ncontent-type: application/json\n", 1, true))
    assert.truthy(said:find("\nx-none: \n", 1, true))
    assert.equal("a\0b", said:match("\n\n(.*)$"))
    said = assert(request("/echo", { method = "POST" })).body
    assert.is_nil(said:find("\ncontent-type:", 1, true))
    assert.truthy(said:find("\ncontent-length: 0\n", 1, true))
  end)

  it("sends a large body at once", function()
    local options = { method = "PUT", body = ("x"):rep(3000000) }
    assert.equal("3000000", assert(request("/length", options)).body)
  end)

  it("knows the other methods", function()
    local said = assert(request("/echo", { method = "DELETE" })).body
    assert.equal("DELETE /echo", said:match("^[^\n]*"))
    local head = assert(request("/json", { method = "HEAD" }))
    assert.same({ 200, "" }, { head.status, head.body })
  end)

  it("takes every status as a result and follows no redirect", function()
    for _, status in ipairs({ 204, 302, 404, 500 }) do
      local response = assert(request("/status/" .. status))
      assert.equal(status, response.status)
      assert.equal(status == 204 and "" or "said", response.body)
      assert.equal("/json", response.headers.location)
    end
  end)

  it("keeps only the headers of the final answer", function()
    local response = assert(request("/early"))
    assert.same({ 200, "late" }, { response.status, response.body })
    assert.equal("1", response.headers["x-late"])
    assert.is_nil(response.headers["x-early"])
  end)

  it("hands over a stream as it comes, until on_data has enough", function()
    local seen = ""
    local response = assert(request("/events", {
      on_data = function(chunk)
        seen = seen .. chunk
        return not seen:find("data: two\n\n", 1, true)
      end,
    }))
    assert.equal(200, response.status)
    assert.equal("text/event-stream", response.headers["content-type"])
    assert.equal(seen, response.body)
    assert.equal("data: one\n\ndata: two\n\n", response.body:sub(1, 22))
  end)

  it("goes on while on_data returns nothing", function()
    local count = 0
    local response = assert(request("/json", { on_data = function() count = count + 1 end }))
    assert.is_true(count > 0)
    assert.equal('{"ok": true}', response.body)
  end)

  it("raises what on_data raises", function()
    local problem = setmetatable({}, { __tostring = function() return "mine" end })
    local fine, raised = pcall(request, "/json", { on_data = function() error(problem) end })
    assert.is_false(fine)
    assert.equal(problem, raised)
  end)

  it("lets on_data make a request of its own", function()
    local inner
    assert(request("/events", {
      on_data = function()
        inner = assert(request("/json")).body
        return false
      end,
    }))
    assert.equal('{"ok": true}', inner)
  end)

  it("ends when the time is over: before an answer, and within a stream", function()
    for _, path in ipairs({ "/silent", "/events" }) do
      local began = system.monotonic()
      local response, message, code = request(path, { timeout = 0.1 })
      assert.is_nil(response)
      assert.equal("ETIMEDOUT", code)
      assert.truthy(message:find(base .. path, 1, true))
      local seconds = system.monotonic() - began
      assert.is_true(seconds >= 0.09 and seconds < LONG)
    end
  end)

  it("names a refused connection", function()
    local closed = assert(process.run({
      argv = { "python3", "-c",
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])" },
    })).stdout:match("%d+")
    local response, message, code = http.request({ url = "http://127.0.0.1:" .. closed .. "/" })
    assert.is_nil(response)
    assert.equal("ECONNREFUSED", code)
    assert.truthy(message:find(":" .. closed .. "/", 1, true))
  end)

  it("names a connection that ends before the answer does", function()
    assert.equal("ECONNRESET", select(3, request("/half")))
    assert.equal("ECONNRESET", select(3, request("/nothing")))
  end)

  it("names an answer that is not HTTP", function()
    assert.equal("EPROTO", select(3, request("/garbage")))
  end)

  it("stops an answer at the cap, and takes one that fits", function()
    local before = collectgarbage("count")
    local response, message, code = request("/big", { cap = 1000000 })
    assert.is_nil(response)
    assert.equal("EFBIG", code)
    assert.truthy(message:find("/big", 1, true))
    assert.is_true(collectgarbage("count") - before < 4096)
    assert.equal("EFBIG", select(3, request("/json", { cap = 11 })))
    assert.equal(12, #assert(request("/json", { cap = 12 })).body)
    assert.equal(BIG, #assert(request("/big", { cap = BIG })).body)
    collectgarbage()
  end)

  it("caps by default what it takes", function()
    assert.equal("EFBIG", select(3, request("/big")))
  end)

  it("stops an endless flood of headers", function()
    assert.equal("EFBIG", select(3, request("/flood")))
  end)

  it("connects to this machine only", function()
    for _, url in ipairs({ "http://192.0.2.1/", "http://[2001:db8::1]/" }) do
      local response, message, code = http.request({ url = url, timeout = LONG })
      assert.is_nil(response)
      assert.equal("EACCES", code)
      assert.truthy(message:find(url, 1, true))
    end
  end)

  it("speaks nothing but http", function()
    for _, url in ipairs({
      "file:///etc/passwd", "https://127.0.0.1/", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "",
      "http://", base .. "/\0",
    }) do
      local response, message, code = http.request({ url = url })
      assert.is_nil(response)
      assert.equal("EINVAL", code, message)
    end
  end)

  it("lets no header smuggle another one in", function()
    for name, value in pairs({
      ["X-A"] = "b\r\nX-B: c", ["X-C"] = "d\nX-D: e", ["X-E: f\r\nX-G"] = "h", [""] = "i",
      ["X K"] = "l", ["X-M"] = "n\0o",
    }) do
      assert.equal("EINVAL", select(3, request("/echo", { headers = { [name] = value } })))
    end
  end)

  it("raises on misuse", function()
    for _, options in ipairs({
      {}, { url = 1 }, { url = base, timeout = -1 }, { url = base, cap = -1 },
      { url = base, method = "get it" }, { url = base, on_data = true }, { url = base, body = {} },
      { url = base, headers = "x" }, { url = base, headers = { "x" } },
    }) do
      assert.has_error(function() http.request(options) end)
    end
  end)

  it("uses no proxy, whatever the environment says", function()
    local proxy = "http://127.0.0.1:1"
    local other <close> = start_lua(([[
      local http = require("praxlua.core").http
      print(assert(http.request({ url = %q })).status)]]):format(base .. "/json"), {
      http_proxy = proxy, HTTP_PROXY = proxy, ALL_PROXY = proxy, all_proxy = proxy, NO_PROXY = "",
    })
    assert.equal("200", line_of(other))
  end)

  it("ends when a signal was caught", function()
    local other <close> = start_lua(([[
      local core = require("praxlua.core")
      core.system.catch_signals()
      local said
      print(select(3, core.http.request({ url = %q, timeout = 60, on_data = function()
        if not said then print("reading") end
        said = true
      end })))]]):format(base .. "/events"))
    assert.equal("reading", line_of(other))
    assert(system.signal(other:pid(), "HUP"))
    assert.equal("EINTR", line_of(other))
  end)

  it("loads libcurl at the first request, and not before", function()
    local other <close> = start_lua(([[
      local http = require("praxlua.core").http
      local function mapped()
        for line in io.lines("/proc/self/maps") do
          if line:find("libcurl", 1, true) then return "loaded" end
        end
        return "not loaded"
      end
      local before = mapped()
      http.request({ url = %q })
      print(before, mapped())]]):format(base .. "/json"))
    assert.equal("not loaded\tloaded", line_of(other))
  end)

  it("says what to install where there is no libcurl", function()
    local directory = helper.tempdir()
    helper.tree(directory, { ["libcurl.so.4"] = "", ["libcurl-gnutls.so.4"] = "" })
    local other <close> = start_lua(([[
      print(require("praxlua.core").http.request({ url = %q }))]]):format(base .. "/json"),
      { LD_LIBRARY_PATH = directory })
    local said = line_of(other)
    assert.truthy(said:find("^nil\t.*install libcurl.*\tENOLIB$"), said)
  end)
end)
