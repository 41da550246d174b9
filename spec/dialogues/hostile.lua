--- What can be wrong in a dialogue, as data. Each entry has a name and some of
--
--   body(rng, step)          another text for one answer
--   acts(rng, acts, step)    other acts in place of those that say it
--   others(rng, sections, step)  what is said to other messages
--   step       the only kind of answer it is about     transport   the only transport
--   silent     the client will wait until its deadline
--   legal      nothing is wrong with it after all
--   weight     how often, 10 when left out
local hostile = {}

local function with_id(id)
  return function(_, step) return (step.body:gsub('"id":%d+', '"id":' .. id, 1)) end
end

local function result(text)
  return function(_, step) return (step.body:gsub('"result":.*$', '"result":' .. text .. "}")) end
end

local function cut(bytes, share) return bytes:sub(1, math.floor(#bytes * share)) end

-- Flips, drops, doubles or puts in bytes.
local function mutate(rng, bytes)
  for _ = 1, rng.between(1, 6) do
    local at = rng.between(1, math.max(#bytes, 1))
    local byte = string.char(rng.between(0, 255))
    local kind = rng.between(1, 4)
    if kind == 1 then bytes = bytes:sub(1, at - 1) .. byte .. bytes:sub(at + 1) end
    if kind == 2 then bytes = bytes:sub(1, at - 1) .. bytes:sub(at + rng.between(1, 9)) end
    if kind == 3 then bytes = bytes:sub(1, at) .. bytes:sub(rng.between(1, at)) end
    if kind == 4 then bytes = bytes:sub(1, at - 1) .. byte .. bytes:sub(at) end
  end
  return bytes
end

local function whole(acts)
  local parts = {}
  for _, act in ipairs(acts) do if act[1] == "W" then parts[#parts + 1] = act.bytes end end
  return table.concat(parts)
end

local function before_it(...)
  local more = { ... }
  return function(_, acts) return table.move(acts, 1, #acts, #more + 1, { table.unpack(more) }) end
end

local function only(...)
  local acts = { ... }
  return function() return acts end
end

-- The head of an answer over HTTP whose body is an event stream without an end.
local STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
local JSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


local PING = '{"jsonrpc":"2.0","id":"p","method":"ping"}'
local NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}'

-- ---- both transports ---------------------------------------------------------------------------

local BOTH = {
  { name = "silence", silent = true, weight = 4, acts = only({ "H" }) },
  { name = "an end", acts = only({ "R" }) },
  { name = "an exit", acts = only({ "X", 3 }) },
  { name = "a signal", acts = only({ "K", 9 }) },
  { name = "an end half-way", acts = function(rng, acts)
    return { { "W", bytes = cut(whole(acts), rng.between(5, 95) / 100) }, { "R" } }
  end },
  { name = "a stop half-way", silent = true, weight = 4, acts = function(rng, acts)
    return { { "W", bytes = cut(whole(acts), rng.between(5, 95) / 100) }, { "H" } }
  end },
  { name = "a trickle", silent = true, weight = 4, acts = function(_, acts)
    return { { "T", 20, bytes = cut(whole(acts), 0.9) }, { "H" } }
  end },
  { name = "mutated bytes", weight = 80, silent = true, acts = function(rng, acts)
    return { { "W", bytes = mutate(rng, whole(acts)) } }
  end },
  { name = "mutated JSON", weight = 80, silent = true, body = function(rng, step)
    return mutate(rng, step.body)
  end },
  { name = "random bytes", silent = true, body = function(rng)
    local bytes = {}
    for i = 1, rng.between(1, 200) do bytes[i] = string.char(rng.between(0, 255)) end
    return table.concat(bytes)
  end },
  { name = "another's id", silent = true, weight = 6, body = with_id("4711") },
  { name = "an id as text", silent = true, weight = 6, body = with_id('"1"') },
  { name = "a null id", silent = true, weight = 6, body = with_id("null") },
  { name = "an id that is a table", silent = true, weight = 6, body = with_id('{"a":[]}') },
  { name = "a float for an id", body = with_id("1.5"), silent = true, weight = 6 },
  { name = "another JSON-RPC", silent = true, weight = 6, body = function(_, step)
    return (step.body:gsub('"2.0"', '"1.0"', 1))
  end },
  { name = "no result", body = function(_, step)
    return (step.body:gsub(',"result":.*$', "}"))
  end },
  { name = "a result that is a text", body = result('"fine"') },
  { name = "a result that is null", body = result("null") },
  { name = "a result that is a list", body = result("[1,2,3]") },
  { name = "an empty result", body = result("{}") },
  { name = "an error", body = function(_, step)
    return (step.body:gsub('"result":.*$', '"error":{"code":-1,"message":"no\\u001b[2J"}}'))
  end },
  { name = "an odd error", body = function(rng, step)
    local odd = rng.one({ '{"code":{},"message":[]}', "{}", "[]", '{"code":"x","message":null}',
      '{"code":1e300,"message":7}', '{"message":"' .. ("long "):rep(10000) .. '"}' })
    return (step.body:gsub('"result":.*$', function() return '"error":' .. odd .. "}" end))
  end },
  { name = "an error that is no table", body = function(rng, step)
    return (step.body:gsub('"result":.*$', '"error":' .. rng.one({ "null", "1", '"x"' }) .. "}"))
  end },
  { name = "deep nesting", body = function(rng)
    local depth = rng.one({ 63, 70, 1000, 100000 })
    return '{"jsonrpc":"2.0","id":1,"result":' .. ("["):rep(depth) .. ("]"):rep(depth) .. "}"
  end, silent = true },
  { name = "many values", weight = 1, body = function()
    return '{"jsonrpc":"2.0","id":1,"result":[' .. ("[],"):rep(300000) .. "[]]}"
  end },
  { name = "bytes that are not UTF-8", body = function(rng, step)
    return (step.body:gsub('"result"', '"%0\xff' .. rng.one({ "", "\xc0\x80", "\xed\xa0\x80" }), 1))
  end },
  { name = "bytes that are not UTF-8 in a text", body = function(_, step)
    return (step.body:gsub('"result":{', '"result":{"x":"\xc3(",', 1))
  end },
  { name = "a NUL", body = function(rng, step)
    local at = rng.between(10, #step.body)
    return step.body:sub(1, at) .. "\0" .. step.body:sub(at + 1)
  end, silent = true },
  { name = "odd numbers", body = function(rng, step)
    local odd = rng.one({ "1e999", "-", "01", "1e5", "99999999999999999999", "NaN", "-0", ".5" })
    return (step.body:gsub('"result":{', '"result":{"x":' .. odd .. ",", 1))
  end, silent = true },
  { name = "a key twice", body = function(_, step)
    return (step.body:gsub('"result":{', '"result":{"x":1,"x":2,', 1))
  end },
  { name = "a batch", legal = true, body = function(_, step)
    return ('[%s,%s,{"jsonrpc":"2.0","id":77,"result":{}}]'):format(NOTE, step.body)
  end },
  { name = "a batch of oddities", silent = true, weight = 6, body = function()
    return '[1,null,"x",[],{},{"jsonrpc":2}]'
  end },
  { name = "odd protocol version", step = "initialize", body = function(rng, step)
    local odd = rng.one({ "null", "7", "[]", '""', '"2031-01-01"', '"' .. ("9"):rep(9999) .. '"' })
    return (step.body:gsub('"protocolVersion":"[^"]*"', '"protocolVersion":' .. odd, 1))
  end },
  { name = "odd server information", step = "initialize", legal = true, body = function(rng, step)
    local odd = rng.one({ "null", "7", "[]", '{"name":7,"version":[]}', '{"name":"\\u001b[2J"}',
      '{"name":"' .. ("long"):rep(9999) .. '"}' })
    return (step.body:gsub('"serverInfo":{[^}]*}', function() return '"serverInfo":' .. odd end, 1))
  end },
  { name = "odd tools", step = "tools/list", body = function(rng)
    return ('{"jsonrpc":"2.0","id":2,"result":{"tools":%s}}'):format(rng.one({ "null", "{}", "7",
      "[null]", "[[]]", '[{"name":7}]', '[{}]', '{"name":"x"}', '["x"]',
      '[{"name":"' .. ("long"):rep(9999) .. '"}]' }))
  end, silent = true },
  { name = "an odd cursor", step = "tools/list", body = function(rng)
    return ('{"jsonrpc":"2.0","id":2,"result":{"tools":[],"nextCursor":%s}}'):format(rng.one({
      "7", "[]", "{}", "true", '"' .. ("long"):rep(30000) .. '"' }))
  end, silent = true },
  { name = "more tools than anybody has", step = "tools/list", weight = 1, body = function(_, step)
    return ('{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s{"name":"x"}]}}'):format(step.key,
      ('{"name":"x"},'):rep(10001))
  end },
  { name = "odd content", step = "tools/call", legal = true, body = function(rng, step)
    local odd = rng.one({ "null", "7", "{}", "[]", "[1,null]", '[{"type":"text","text":7}]',
      '[{"type":"image","data":"AAAA"}]', '[{"type":"text"}]' })
    return ('{"jsonrpc":"2.0","id":%s,"result":{"content":%s}}'):format(step.key, odd)
  end },
}

-- ---- one transport -----------------------------------------------------------------------------

local STDIO = {
  { name = "a flood without a line end", weight = 1,
    acts = only({ "F", 1100, bytes = ("x"):rep(16384) }) },
  { name = "a flood of lines", silent = true, weight = 2, acts = only(
    { "F", 200000, bytes = "a line that is no message\n" }, { "H" }) },
  { name = "a flood of notifications", silent = true, weight = 2, acts = only(
    { "F", 50000, bytes = NOTE .. "\n" }, { "H" }) },
  { name = "a flood of pings", silent = true, weight = 2, acts = only(
    { "F", 5000, bytes = PING .. "\n" }, { "H" }) },
  { name = "a flood on stderr", silent = true, weight = 2, acts = function()
    return { { "E", bytes = ("stderr "):rep(100000) }, { "H" } }
  end },
  { name = "notifications before it", legal = true, acts = before_it(
    { "F", 1000, bytes = NOTE .. "\n" }) },
  { name = "pings before it", legal = true, acts = before_it({ "F", 100, bytes = PING .. "\n" }) },
  { name = "the answer twice", legal = true, body = function(_, step)
    return step.body .. "\n" .. step.body
  end },
  { name = "a closed output", silent = true, acts = only({ "C" }, { "H" }) },
  { name = "an end in last words", acts = only(
    { "E", bytes = "Traceback \27[2J\nno module\n" }, { "W", bytes = "bye" }, { "X", 1 }) },
  { name = "the answer on stderr", silent = true, weight = 4, acts = function(_, acts)
    return { { "E", bytes = whole(acts) } }
  end },
  { name = "the answer without a line end", silent = true, weight = 4, body = function(_, step)
    return step.body:sub(1, -2)
  end },
  { name = "an exit after the answer", acts = function(_, acts)
    acts[#acts + 1] = { "X", 0 }
    return acts
  end },
}

local function raw(bytes, ...) return only({ "W", bytes = bytes }, ...) end

-- Answers the resumed stream, or hangs up again and again.
local function polled(answers)
  return function(_, sections, step)
    local event = "id: 2\ndata: " .. (answers and step.body or NOTE) .. "\n\n"
    sections.GET = { { "W", bytes = STREAM .. event } }
  end
end

local HANG_UP = { { "W", bytes = STREAM .. "id: 1\nretry: 1\ndata:\n\n" } }

local HTTP = {
  { name = "an odd status", weight = 20, acts = function(rng)
    local status = rng.one({ "400 Bad", "401 Who", "404 Gone", "405 No", "500 Oh", "503 Busy",
      "204 None", "302 There\r\nLocation: /elsewhere", "100 Go on", "999 X" })
    return { { "W", bytes = ("HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\nwhy"):format(status) } }
  end },
  { name = "what is not HTTP", acts = function(rng)
    return { { "W", bytes = rng.one({ "SSH-2.0-x\r\n", "\0\0\0", "HTTP/9.9 200 OK\r\n\r\n",
      "HTTP/1.1 abc\r\n\r\n", "<html>", "\r\n\r\n" }) } }
  end },
  { name = "more than it said", legal = true, acts = function(_, _, step)
    local said = ("Content-Length: %d\r\n\r\n%strailing"):format(#step.body, step.body)
    return { { "W", bytes = JSON .. said } }
  end },
  { name = "less than it said", acts = function(_, _, step)
    return { { "W", bytes = JSON .. "Content-Length: 99999\r\n\r\n" .. step.body } }
  end },
  { name = "an odd length", acts = function(rng, _, step)
    local odd = rng.one({ "-1", "x", "99999999999999999999", "1, 2", "" })
    return { { "W", bytes = JSON .. ("Content-Length: %s\r\n\r\n"):format(odd) .. step.body } }
  end },
  { name = "odd chunks", acts = function(rng, _, step)
    local odd = rng.one({ "zz\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "5\r\nab", "\r\n" })
    return { { "W", bytes = JSON .. "Transfer-Encoding: chunked\r\n\r\n" .. odd .. step.body } }
  end },
  { name = "headers without end", weight = 2, acts = only(
    { "W", bytes = "HTTP/1.1 200 OK\r\n" },
    { "F", 20000, bytes = "X-More: and more of them\r\n" }) },
  { name = "odd sessions", weight = 10, legal = true, acts = function(rng, _, step)
    local odd = rng.one({ "", "a b", "\x01", "ü", ("s"):rep(5000) })
    local head = ("Mcp-Session-Id: %s\r\nContent-Length: %d\r\n\r\n"):format(odd, #step.body)
    return { { "W", bytes = JSON .. head .. step.body } }
  end },
  { name = "going on for ever", silent = true, weight = 4, acts = raw(
    "HTTP/1.1 100 Continue\r\n\r\n",
    { "F", 1000, bytes = "HTTP/1.1 100 Continue\r\n\r\n" }, { "H" }) },
  { name = "a stream without events", silent = true, weight = 4, acts = raw(STREAM,
    { "F", 1000, bytes = ": still here\n\n" }, { "H" }) },
  { name = "a stream of notifications", silent = true, weight = 2, acts = raw(STREAM,
    { "F", 20000, bytes = "data: " .. NOTE .. "\n\n" }, { "H" }) },
  { name = "a stream of pings", silent = true, weight = 2, acts = raw(STREAM,
    { "F", 2000, bytes = "data: " .. PING .. "\n\n" }, { "H" }) },
  { name = "a flood of data", weight = 1, acts = raw(STREAM,
    { "F", 1100, bytes = "data: " .. ("x"):rep(16000) .. "\n" }) },
  { name = "a flood of JSON", weight = 1, acts = raw(
    JSON .. '\r\n{"jsonrpc":"2.0","id":1,"x":"',
    { "F", 1100, bytes = ("x"):rep(16000) }) },
  { name = "a page", acts = raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>hello") },
  { name = "nothing", acts = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") },
  { name = "a stream that is polled", legal = true, acts = function() return HANG_UP end,
    others = polled(true) },
  { name = "a stream that is polled for ever", silent = true, weight = 4,
    acts = function() return HANG_UP end, others = polled(false) },
  { name = "a stream that cannot be polled", acts = function() return HANG_UP end },
  { name = "a poll that is not answered", silent = true, weight = 4,
    acts = function() return HANG_UP end,
    others = function(_, sections) sections.GET = { { "H" } } end },
  { name = "a refused notification", acts = function(_, acts) return acts end,
    others = function(rng, sections)
      local status = rng.one({ "400 Bad", "404 Gone", "500 Oh" })
      sections.n = { { "W", bytes = ("HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n"):format(status) } }
    end },
  { name = "a hung notification", silent = true, weight = 4,
    acts = function(_, acts) return acts end,
    others = function(_, sections) sections.n = { { "H" } } end },
  { name = "a hung end of the session", weight = 1, legal = true,
    acts = function(_, acts) return acts end,
    others = function(_, sections) sections.DELETE = { { "R" } } end },
}

local function weighed(lists)
  local all = {}
  for _, list in ipairs(lists) do
    for _, entry in ipairs(list) do
      for _ = 1, entry.weight or 10 do all[#all + 1] = entry end
    end
  end
  return all
end

local CHOICES = { stdio = weighed({ BOTH, STDIO }), http = weighed({ BOTH, HTTP }) }

--- One of them.
---@param rng table of random.new
---@param transport "stdio"|"http"
---@return table
function hostile.pick(rng, transport) return rng.one(CHOICES[transport]) end

return hostile
