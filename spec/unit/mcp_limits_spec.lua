--- What a server can make praxlua hold, and how the client reads what is legal but seldom. The
--- servers here are spec/dialogues/peer.c, which says what a script says.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local mcp = require("praxlua.mcp")
local play = require("spec.dialogues.play")

local MB = 1024 * 1024
local OK = "HTTP/1.1 200 OK\r\n"
local STREAM = OK .. "Content-Type: text/event-stream\r\n\r\n"
local HELLO = '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},'
  .. '"serverInfo":{"name":"peer","version":"1"}}}'
local TOOLS = '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"a"}]}}'

describe("mcp", function()
  local stage, running

  before_each(function() stage, running = play.open(helper.tempdir()), {} end)

  after_each(function()
    for _, child in ipairs(running) do child:stop(0) end
    stage.close()
    helper.clean()
  end)

  local function json_answer(body)
    return ("%sContent-Length: %d\r\n\r\n%s"):format(OK, #body, body)
  end

  local function say(bytes) return ("W %d\n%s\n"):format(#bytes, bytes) end

  -- Connects to a peer that says hello and then plays the rest of the script.
  local function connect(transport, script, hello)
    hello = hello or (transport == "http" and json_answer(HELLO) or HELLO .. "\n")
    helper.write(stage.folder .. "/script", "@1\n" .. say(hello) .. script)
    if transport == "http" then
      return mcp.connect({ url = ("http://127.0.0.1:%d/script"):format(stage.port), timeout = 10 })
    end
    local child = play.start(stage.folder .. "/script")
    running[#running + 1] = child
    return mcp.connect({ process = child, timeout = 10 })
  end

  local function tools_of(transport, script, seconds)
    local client = assert(connect(transport, script))
    local tools, message, code = mcp.list_tools(client, seconds or 10)
    mcp.close(client)
    return tools, message, code
  end

  local function has_tool(tools, message)
    assert(tools, message)
    assert.same({ "a" }, { tools[1].name, tools[2] })
  end

  -- How much the resident memory of this process grows at most while something is done.
  local function peak_of(action)
    collectgarbage()
    collectgarbage()
    assert(io.open("/proc/self/clear_refs", "w")):write("5"):close()
    local _, before = play.memory()
    action()
    local _, after = play.memory()
    return after - before
  end

  -- ---- large answers ---------------------------------------------------------------------------

  -- 400 MB that begin an answer: 25,600 times 16 KiB. What is held of it is 16 MiB, and garbage of
  -- that order.
  local function huge(bytes) return ("F 25600 16384\n%s\n"):format(bytes) end

  local LARGE = {
    stdio = "@2\n" .. say('{"jsonrpc":"2.0","id":2,"result":{"x":"')
      .. huge(("x"):rep(16384)) .. say('"}}\n'),
    http = "@2\n" .. say(OK .. '\r\n{"jsonrpc":"2.0","id":2,"result":{"x":"')
      .. huge(("x"):rep(16384)) .. say('"}}'),
    ["an event stream over http"] = "@2\n" .. say(STREAM .. "data: ")
      .. huge(("x"):rep(16384)),
    ["many events over http"] = "@2\n" .. say(STREAM)
      .. huge(("data: " .. ("x"):rep(1016) .. "\n\n"):rep(16)),
  }

  for name, script in pairs(LARGE) do
    it("refuses an answer of 400 MB in #" .. name .. ", and holds 16 MiB of it", function()
      local tools, message, code
      local peak = peak_of(function()
        tools, message, code = tools_of(name:match("stdio") or "http", script, 60)
      end)
      assert.is_nil(tools)
      assert.equal("EPROTOCOL", code)
      assert.matches("tools/list: ", message, 1, true)
      assert.is_true(peak < 150 * MB, ("%.0f MB"):format(peak / MB))
    end)
  end

  it("takes an answer of 10 MB", function()
    local body = ('{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"a","description":"%s"}]}}')
      :format(("long "):rep(2 * MB))
    has_tool(tools_of("stdio", "@2\n" .. say(body .. "\n"), 60))
    has_tool(tools_of("http", "@2\n" .. say(json_answer(body)), 60))
  end)

  for name, many in pairs({
    lists = ("[],"):rep(5 * MB) .. "[]",
    objects = ('{"a":{}},'):rep(MB) .. "1",
    numbers = ("1,"):rep(7 * MB) .. "1",
    strings = ('"",'):rep(5 * MB) .. "1",
  }) do
    it("holds no 15 MB of " .. name, function()
      local body = '{"jsonrpc":"2.0","id":2,"result":{"x":[' .. many .. "]}}"
      local tools, message, code
      local peak = peak_of(function()
        tools, message, code = tools_of("stdio", "@2\n" .. say(body .. "\n"), 60)
      end)
      assert.is_nil(tools)
      assert.equal("EPROTOCOL", code)
      assert.matches("cannot be read: JSON: more than 250000 values", message, 1, true)
      assert.is_true(peak < 120 * MB, ("%.0f MB"):format(peak / MB))
    end)
  end

  it("holds no list that goes on for ever, however small its pages", function()
    local script = {}
    for page = 2, 8 do
      script[#script + 1] = ("@%d\n"):format(page) .. say(
        ('{"jsonrpc":"2.0","id":%d,"result":{"tools":[{"name":"%d","description":"%s"}],'
          .. '"nextCursor":"%d"}}\n'):format(page, page, ("x"):rep(3 * MB), page))
    end
    local _, message, code = tools_of("stdio", table.concat(script))
    assert.equal("EPROTOCOL", code)
    assert.matches("tools/list: a list of more than 16.8 MB", message, 1, true)
  end)

  it("does not take a cursor as long as a page", function()
    local cursor = ("c"):rep(70000)
    local body = '{"jsonrpc":"2.0","id":2,"result":{"tools":[],"nextCursor":"%s"}}\n'
    local _, message, code = tools_of("stdio", "@2\n" .. say(body:format(cursor)))
    assert.equal("EPROTOCOL", code)
    assert.matches("a cursor of more than 65.5 kB", message, 1, true)
  end)

  -- ---- answers that cannot be read --------------------------------------------------------------

  for name, body in pairs({
    ["not UTF-8 at byte"] = '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"\xff"}]}}',
    ["a NUL at byte"] = '{"jsonrpc":"2.0","id":2,"result":{"tools":[\0]}}',
    ["nesting deeper than 64"] = '{"jsonrpc":"2.0","id":2,"result":' .. ("["):rep(1e5),
    ["a key that is there twice"] = '{"jsonrpc":"2.0","id":2,"id":2,"result":{}}',
  }) do
    for _, transport in ipairs({ "stdio", "http" }) do
      it("does not wait for another answer after one with " .. name .. ", " .. transport, function()
        local bytes = transport == "http" and json_answer(body) or body .. "\n"
        local began = core.system.monotonic()
        local _, message, code = tools_of(transport, "@2\n" .. say(bytes), 8)
        assert.equal("EPROTOCOL", code)
        assert.matches("an answer that cannot be read: JSON: " .. name, message, 1, true)
        assert.is_true(core.system.monotonic() - began < 4)
      end)
    end
  end

  it("passes over a notification that cannot be read", function()
    has_tool(tools_of("stdio", "@2\n" .. say('{"jsonrpc":"2.0","method":"x","params":"\xff"}\n'
      .. TOOLS .. "\n")))
  end)

  it("takes the first of two answers", function()
    local other = TOOLS:gsub('"a"', '"b"')
    has_tool(tools_of("stdio", "@2\n" .. say(TOOLS .. "\n" .. other .. "\n")))
  end)

  it("is not held by last words without end", function()
    local began = core.system.monotonic()
    -- Stdout is closed for us when stdin is not read any more: the words go on and on.
    local _, _, code = tools_of("stdio", "@2\n" .. ("E %d\n%s\n"):format(200000,
      ("w"):rep(200000)):rep(20) .. "C\nH\n", 1)
    assert.is_true(code == "ECLOSED" or code == "ETIMEDOUT", code)
    assert.is_true(core.system.monotonic() - began < 5)
  end)

  -- ---- event streams ----------------------------------------------------------------------------

  local function event(data) return "data: " .. data .. "\n\n" end

  for name, bytes in pairs({
    ["line ends of CR alone"] = (event(TOOLS):gsub("\n", "\r")),
    ["line ends of CR and LF"] = (event(TOOLS):gsub("\n", "\r\n")),
    ["a byte order mark"] = "\xef\xbb\xbf" .. event(TOOLS),
    ["comments, ids and times"] = ": hello\n\nid: 1\nretry: 10\nevent: message\n" .. event(TOOLS),
    ["an event without data first"] = "id: 1\ndata:\n\n" .. event(TOOLS),
    ["an answer on several lines"] = "data: " .. TOOLS:gsub(",", ",\ndata:", 2) .. "\n\n",
    ["other messages first"] = event('{"jsonrpc":"2.0","method":"x"}')
      .. event('{"jsonrpc":"2.0","id":9,"result":{}}') .. event(TOOLS),
  }) do
    it("reads a stream with " .. name, function()
      has_tool(tools_of("http", "@2\n" .. say(STREAM .. bytes)))
    end)
  end

  it("reads a CR and its LF that come apart", function()
    local body = event(TOOLS):gsub("\n", "\r\n")
    local acts = {}
    for byte in (STREAM .. body):gmatch(".") do acts[#acts + 1] = byte end
    local script = ("@2\nT 0 %d\n%s\n"):format(#acts, table.concat(acts))
    has_tool(tools_of("http", script))
  end)

  it("takes a stream up again that ended before the answer, where the events have ids", function()
    has_tool(tools_of("http", "@2\n" .. say(STREAM .. "id: 7\nretry: 1\ndata:\n\n")
      .. "@GET\n" .. say(STREAM .. event(TOOLS))))
  end)

  it("tells when a stream cannot be taken up again", function()
    local _, message, code = tools_of("http", "@2\n" .. say(STREAM .. "id: 7\nretry: 1\ndata:\n\n"))
    assert.equal("EPROTOCOL", code)
    assert.matches("answered with HTTP status 405", message, 1, true)
  end)

  it("does not poll a server that is gone", function()
    local began = core.system.monotonic()
    local _, _, code = tools_of("http", "@2\n" .. say(STREAM .. "id: 7\nretry: 1\ndata:\n\n")
      .. "@GET\nR\n", 9)
    assert.equal("ECLOSED", code)
    assert.is_true(core.system.monotonic() - began < 4)
  end)

  it("asks no more of a stream that ended and had no ids", function()
    local _, message, code = tools_of("http", "@2\n" .. say(STREAM .. event("{}"))
      .. "@GET\n" .. say(STREAM .. event(TOOLS)))
    assert.equal("EPROTOCOL", code)
    assert.matches("ended its reply without an answer", message, 1, true)
  end)

  it("polls no longer than its deadline", function()
    local began = core.system.monotonic()
    local again = say(STREAM .. "id: 7\nretry: 60000\ndata:\n\n")
    local _, _, code = tools_of("http", "@2\n" .. again .. "@GET\n" .. again, 0.5)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(core.system.monotonic() - began < 3)
  end)

  -- ---- protocol versions ------------------------------------------------------------------------

  it("asks for the newest protocol version, and speaks every older one", function()
    assert.equal("2025-11-25", mcp.protocol_versions[1])
    for _, version in ipairs(mcp.protocol_versions) do
      local hello = HELLO:gsub("2025%-11%-25", version)
      local client = assert(connect("stdio", "", hello .. "\n"))
      assert.equal(version, client.protocol_version)
      assert.equal("peer", client.server.name)
    end
  end)

  it("takes no name of a server that is a flood", function()
    local hello = HELLO:gsub('"peer"', '"' .. ("long"):rep(1000) .. '"')
    assert.is_nil(assert(connect("stdio", "", hello .. "\n")).server.name)
  end)

  it("tells an error whose parts are of the wrong kind", function()
    local error = json.encode({ jsonrpc = "2.0", id = 2, error = { code = "x", message = {} } })
    local _, message, code = tools_of("stdio", "@2\n" .. say(error .. "\n"))
    assert.equal("EREMOTE", code)
    assert.equal("tools/list: the server answers: (table)", message)
  end)
end)
