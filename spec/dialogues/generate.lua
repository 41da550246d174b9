--- Dialogues of a server with the MCP client, made from a seed and a number: the same two give the
--- same dialogue. Each is a legal conversation with pages, notifications and requests of the server
--- in between, said in one of the ways that its transport allows; most have one thing wrong.
local hostile = require("spec.dialogues.hostile")
local random = require("spec.dialogues.random")

local generate = {}

--- Seconds for each call of the client, and where the server is going to be silent.
generate.SECONDS, generate.SILENT = 5, 0.12

local VERSIONS = { "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05" }

local function answer(id, result)
  return ('{"jsonrpc":"2.0","id":%d,"result":%s}'):format(id, result)
end

-- ---- what is said ------------------------------------------------------------------------------

-- The steps of the legal conversation: a key for the peer, and the text of the answer.
local function conversation(rng)
  local version = rng.one(VERSIONS)
  local steps = { {
    key = "1",
    what = "initialize",
    body = answer(1, ('{"protocolVersion":"%s","capabilities":{},"serverInfo":'
      .. '{"name":"peer","version":"1"}}'):format(version)),
  } }
  local pages, tools = rng.between(1, 3), 0
  for page = 1, pages do
    local list = {}
    for _ = 1, rng.between(page == 1 and 1 or 0, 4) do
      tools = tools + 1
      list[#list + 1] = ('{"name":"tool_%d","inputSchema":{"type":"object"}}'):format(tools)
    end
    local cursor = page < pages and (',"nextCursor":"page %d"'):format(page + 1) or ""
    steps[#steps + 1] = {
      key = tostring(page + 1),
      what = "tools/list",
      body = answer(page + 1, ('{"tools":[%s]%s}'):format(table.concat(list, ","), cursor)),
    }
  end
  steps[#steps + 1] = {
    key = tostring(pages + 2),
    what = "tools/call",
    body = answer(pages + 2, ('{"content":[{"type":"text","text":"%s"}],"isError":false}'):format(
      rng.one({ "fine", "ünïcödé ☃", "\\u0000\\ud83d\\ude00", ("long "):rep(2000) }))),
  }
  return steps, tools
end

-- What a server may say before its answer.
local BEFORE = {
  '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}',
  '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":1}}',
  '{"jsonrpc":"2.0","id":"p","method":"ping"}',
  '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}',
  '{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}',
  '{"jsonrpc":"2.0","id":7,"method":"roots/list"}',
  '{"jsonrpc":"2.0","id":99999,"result":{"tools":[]}}',
  '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}',
}

-- What programs print where they should not.
local NOISE = {
  "Loading checkpoint shards: 100%", "\27[31mWARNING\27[0m deprecated", "{not json}", "", "   ",
  "{}", "[]", "null", "17", '{"level":"info"}', "\xff\xfe\0binary", ("."):rep(5000),
}

local function before(rng, list)
  local said = {}
  while rng.chance(0.35) and #said < 4 do said[#said + 1] = rng.one(list) end
  return said
end

-- ---- how it is said ----------------------------------------------------------------------------

-- Cuts bytes into acts: as a whole, or in pieces.
local function in_pieces(rng, acts, bytes)
  local cuts = rng.chance(0.3) and rng.between(1, 4) or 0
  for _ = 1, cuts do
    if #bytes < 2 then break end
    local size = rng.between(1, #bytes - 1)
    acts[#acts + 1] = { "W", bytes = bytes:sub(1, size) }
    if rng.chance(0.2) then acts[#acts + 1] = { "S", 1 } end
    bytes = bytes:sub(size + 1)
  end
  acts[#acts + 1] = { "W", bytes = bytes }
end

local function over_stdio(rng, step)
  local acts, parts = {}, {}
  for _, noise in ipairs(before(rng, NOISE)) do parts[#parts + 1] = noise .. "\n" end
  for _, message in ipairs(before(rng, BEFORE)) do parts[#parts + 1] = message .. "\n" end
  parts[#parts + 1] = step.body .. (rng.chance(0.2) and "\r\n" or "\n")
  if rng.chance(0.2) then acts[1] = { "E", bytes = "a line on stderr\n" } end
  in_pieces(rng, acts, table.concat(parts))
  return acts
end

-- One event, its data on one line or on two.
local function event(rng, message)
  local cut = rng.chance(0.3) and message:find(',"result"', 1, true)
  local data = cut and ("data: %s\ndata:%s"):format(message:sub(1, cut), message:sub(cut + 1))
    or "data: " .. message
  if rng.chance(0.3) then data = "event: message\n" .. data end
  if rng.chance(0.3) then data = ("id: %d\n"):format(rng.between(1, 99)) .. data end
  if rng.chance(0.1) then data = "retry: 5\n" .. data end
  return data .. "\n\n"
end

local function event_body(rng, step)
  local parts = {}
  if rng.chance(0.2) then parts[1] = ": a comment\n\n" end
  if rng.chance(0.1) then parts[#parts + 1] = "id: 0\ndata:\n\n" end
  for _, message in ipairs(before(rng, BEFORE)) do parts[#parts + 1] = event(rng, message) end
  parts[#parts + 1] = event(rng, step.body)
  local ends = rng.one({ "\n", "\n", "\r\n", "\r" })
  local body = table.concat(parts):gsub("\n", ends)
  return (rng.chance(0.1) and "\xef\xbb\xbf" or "") .. body
end

local function chunked(rng, body)
  local parts = {}
  while body ~= "" do
    local size = rng.chance(0.3) and rng.between(1, #body) or #body
    parts[#parts + 1] = ("%x\r\n%s\r\n"):format(size, body:sub(1, size))
    body = body:sub(size + 1)
  end
  return table.concat(parts) .. "0\r\n\r\n"
end

--- An answer over HTTP.
---@param rng table
---@param status string "200 OK"
---@param kind string content type
---@param body string
---@return string bytes
local function http_answer(rng, status, kind, body)
  local head = ("HTTP/1.1 %s\r\nContent-Type: %s\r\n"):format(status, kind)
  if rng.chance(0.5) then head = head .. "Mcp-Session-Id: a-session\r\n" end
  local framing = rng.between(1, 3)
  if framing == 1 then return ("%sContent-Length: %d\r\n\r\n%s"):format(head, #body, body) end
  if framing == 2 then
    return head .. "Transfer-Encoding: chunked\r\n\r\n" .. chunked(rng, body)
  end
  return head .. "Connection: close\r\n\r\n" .. body
end

local function over_http(rng, step)
  local acts = {}
  local as_events = rng.chance(0.6)
  local body = as_events and event_body(rng, step) or step.body
  local kind = as_events and "text/event-stream" or "application/json"
  in_pieces(rng, acts, http_answer(rng, step.status or "200 OK", kind, body))
  return acts
end

-- ---- all of it ---------------------------------------------------------------------------------

local function pick_step(rng, steps, wanted)
  local fitting = {}
  for _, step in ipairs(steps) do
    if not wanted or step.what == wanted then fitting[#fitting + 1] = step end
  end
  return rng.one(fitting)
end

--- A dialogue.
---@param seed integer
---@param number integer from 1; odd ones are over stdio, even ones over HTTP
---@return { transport: string, seconds: number, what: string, legal: boolean, tools: integer?,
---  sections: table<string, table[]> } what: the name of what is wrong, "legal" when nothing is ·
---  tools: how many a client has to find
function generate.dialogue(seed, number)
  local rng = random.new(seed, number)
  local transport = number % 2 == 1 and "stdio" or "http"
  local steps, tools = conversation(rng)
  local trouble = rng.chance(0.75) and hostile.pick(rng, transport)
  local spoilt = trouble and pick_step(rng, steps, trouble.step)
  if trouble and trouble.body then spoilt.body = trouble.body(rng, spoilt) end
  local say = transport == "stdio" and over_stdio or over_http
  local sections = {}
  for _, step in ipairs(steps) do
    sections[step.key] = say(rng, step)
    if step == spoilt and trouble.acts then
      sections[step.key] = trouble.acts(rng, sections[step.key], spoilt, transport)
    end
  end
  if trouble and trouble.others then trouble.others(rng, sections, spoilt) end
  local legal = not trouble or trouble.legal or false
  return {
    transport = transport,
    seconds = trouble and trouble.silent and generate.SILENT or generate.SECONDS,
    what = trouble and trouble.name or "legal",
    legal = legal,
    tools = legal and tools or nil,
    sections = sections,
  }
end

--- The script for the peer.
---@param dialogue table
---@return string
function generate.script(dialogue)
  local parts, keys = {}, {}
  for key in pairs(dialogue.sections) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    parts[#parts + 1] = "@" .. key .. "\n"
    for _, act in ipairs(dialogue.sections[key]) do
      local words = { act[1], act[2] }
      if act.bytes then words[#words + 1] = #act.bytes end
      parts[#parts + 1] = table.concat(words, " ") .. "\n"
      if act.bytes then parts[#parts + 1] = act.bytes .. "\n" end
    end
  end
  return table.concat(parts)
end

return generate
