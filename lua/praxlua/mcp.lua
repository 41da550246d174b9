--- A client of the Model Context Protocol, over a child's stdin and stdout or over streamable HTTP.
--
-- A client does one thing at a time: it sends a request and reads until that request's answer is
-- there. What else arrives meanwhile is what a server may send: notifications are passed over, a
-- ping is answered, every other request of the server is refused. Lines on stdout that are not JSON
-- are somebody's print statement; they are counted and quoted in errors, never an error themselves.
-- An answer that cannot be read, or is over one of mcp.limits, is an error at once.
--
-- Errors are nil, message, code:
--   "ETIMEDOUT"  no answer before the deadline      "ECLOSED"  the server is gone or not reachable
--   "EPROTOCOL"  what arrived is not what MCP says   "EREMOTE"  the server answered with an error
--   "EINTR"      praxlua was interrupted             "ENOLIB"   libcurl is missing (HTTP only)
local core = require("praxlua.core")
local http = require("praxlua.mcp.http")
local json = require("praxlua.json")
local limits = require("praxlua.mcp.limits")
local lines = require("praxlua.mcp.lines")
local stdio = require("praxlua.mcp.stdio")
local text = require("praxlua.text")
local words = require("praxlua.mcp.words")

local mcp = {}

--- The protocol versions we speak, the preferred one first. What we use of them is the same in all.
mcp.protocol_versions = { "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05" }

--- What a server may make us hold; see mcp/limits.lua.
mcp.limits = limits

local CLIENT = { name = "praxlua", version = "1" }
local METHOD_NOT_FOUND = -32601

local function remaining(deadline) return deadline - core.system.monotonic() end

local function timed_out(client, method, seconds)
  local message = ("%s: no answer from %s within %.1f s"):format(method, client.where, seconds)
  return nil, message .. words.last(client), "ETIMEDOUT"
end

-- The id of a request of the server, when it is one: a string or a number. Anything else would be
-- sent back.
local function is_id(id)
  return type(id) == "number" or type(id) == "string" and #id <= limits.id
end

local function reply_to(client, message, deadline)
  local reply = { jsonrpc = "2.0", id = message.id }
  if message.method == "ping" then
    reply.result = {}
  else
    local why = "praxlua offers no " .. words.excerpt(message.method)
    reply.error = { code = METHOD_NOT_FOUND, message = why }
  end
  -- When it cannot be sent, the request that is under way fails by itself.
  client.transport.send(client, json.encode(reply), deadline)
end

-- Takes the messages that come while an answer is awaited, and keeps the first with its id.
local function taker(client, id, deadline)
  local taken = {}
  function taken.take(message, bytes)
    if message.method ~= nil then
      if is_id(message.id) then reply_to(client, message, deadline) end
      return false
    end
    if message.id ~= id or taken.answer then return false end
    taken.answer, client.answer_bytes = message, bytes
    return true
  end
  return taken
end

local function remote_error(method, problem)
  local code = math.type(problem.code) == "integer" and (" (%d)"):format(problem.code) or ""
  local why = words.excerpt(problem.message)
  return nil, ("%s: the server answers: %s%s"):format(method, why, code), "EREMOTE"
end

local function request(client, method, params, seconds)
  local deadline = core.system.monotonic() + seconds
  local id = client.next_id
  client.next_id = id + 1
  local taken = taker(client, id, deadline)
  local body = json.encode({ jsonrpc = "2.0", id = id, method = method, params = params })
  local done, problem, code = client.transport.exchange(client, body, deadline, taken.take)
  if not done then
    if code == "ETIMEDOUT" then return timed_out(client, method, seconds) end
    return nil, ("%s: %s"):format(method, problem), code
  end
  local answer = taken.answer
  if type(answer.error) == "table" then return remote_error(method, answer.error) end
  if type(answer.result) ~= "table" then
    return nil, ("%s: the answer of %s has no result"):format(method, client.where), "EPROTOCOL"
  end
  return answer.result
end

local function is_spoken(version)
  for _, known in ipairs(mcp.protocol_versions) do
    if known == version then return true end
  end
  return false
end

-- What a server calls itself, if that is a name and not a flood.
local function name_of(value)
  return type(value) == "string" and #value <= limits.id and value or nil
end

local function initialize(client, seconds)
  local started = core.system.monotonic()
  local result, problem, code = request(client, "initialize", {
    protocolVersion = mcp.protocol_versions[1],
    capabilities = {},
    clientInfo = CLIENT,
  }, seconds)
  if not result then return nil, problem, code end
  if not is_spoken(result.protocolVersion) then
    local speaks = words.excerpt(result.protocolVersion)
    local known = table.concat(mcp.protocol_versions, ", ")
    local message = ("initialize: the server speaks %s, praxlua speaks %s"):format(speaks, known)
    return nil, message, "EPROTOCOL"
  end
  client.protocol_version = result.protocolVersion
  local info = type(result.serverInfo) == "table" and result.serverInfo or {}
  client.server = {
    name = name_of(info.name),
    version = name_of(info.version),
  }
  local deadline = started + seconds
  local note = json.encode({ jsonrpc = "2.0", method = "notifications/initialized" })
  local sent, why, kind = client.transport.send(client, note, deadline)
  if not sent then return nil, "notifications/initialized: " .. why, kind end
  return client
end

--- Connects to a server and shakes hands with it.
---@param options { process: userdata?, url: string?, timeout: number?, where: string? }
---  process: of core.spawn, stdin and stdout piped · url: of the MCP endpoint (one of both) ·
---  timeout: seconds for the handshake, 30 · where: how messages call the server
---@return table|nil client { server = {name?, version?}, protocol_version, noise_lines, … }
---@return string? message
---@return string? code see the head of this file
function mcp.connect(options)
  assert((options.process == nil) ~= (options.url == nil), "mcp.connect: either process or url")
  local client = {
    transport = options.process and stdio or http,
    process = options.process,
    url = options.url,
    where = options.where or options.url or "the server",
    next_id = 1,
    noise = {},
    noise_lines = 0,
    lines = lines.buffer(),
    stderr = "",
  }
  return initialize(client, options.timeout or 30)
end

-- Adds one page of tools to the list; answers with what is wrong with it, if anything.
local function add_page(tools, page)
  if type(page.tools) ~= "table" then return "the answer has no list of tools" end
  for _, tool in ipairs(page.tools) do
    if type(tool) ~= "table" or not name_of(tool.name) then return "a tool without a name" end
    tools[#tools + 1] = tool
  end
  if #tools > limits.tools then return "more than " .. limits.tools .. " tools" end
  return nil
end

--- All tools of the server, every page of them.
---@param client table
---@param seconds number? deadline for the whole list, 30
---@return table[]|nil tools as the server describes them, in its order
---@return string? message
---@return string? code
function mcp.list_tools(client, seconds)
  local deadline = core.system.monotonic() + (seconds or 30)
  local tools, cursor, seen, bytes = {}, nil, {}, 0
  for _ = 1, limits.pages do
    local left = math.max(remaining(deadline), 0)
    local page, problem, code = request(client, "tools/list", { cursor = cursor }, left)
    if not page then return nil, problem, code end
    bytes = bytes + client.answer_bytes
    local wrong = add_page(tools, page)
    if bytes > limits.list then wrong = "a list of more than " .. text.bytes(limits.list) end
    if wrong then return nil, "tools/list: " .. wrong, "EPROTOCOL" end
    cursor = page.nextCursor
    if cursor == nil or cursor == json.null or cursor == "" then return tools end
    if type(cursor) ~= "string" then
      return nil, "tools/list: a cursor that is no string", "EPROTOCOL"
    end
    if #cursor > limits.cursor then
      return nil, "tools/list: a cursor of more than " .. text.bytes(limits.cursor), "EPROTOCOL"
    end
    if seen[cursor] then return nil, "tools/list: the same page comes again", "EPROTOCOL" end
    seen[cursor] = true
  end
  return nil, ("tools/list: more than %d pages"):format(limits.pages), "EPROTOCOL"
end

--- Calls a tool.
---@param client table
---@param name string
---@param arguments table
---@param seconds number? deadline, 30
---@return table|nil result { content = {…}, isError = boolean?, … } as the server sent it
---@return string? message
---@return string? code
function mcp.call_tool(client, name, arguments, seconds)
  local params = { name = name, arguments = arguments }
  return request(client, "tools/call", params, seconds or 30)
end

--- The text in a tool's result: the text parts of its content, joined.
---@param result table of call_tool
---@return string text "" when there is none
function mcp.result_text(result)
  local parts = {}
  for _, part in ipairs(type(result.content) == "table" and result.content or {}) do
    if type(part) == "table" and type(part.text) == "string" then parts[#parts + 1] = part.text end
  end
  return table.concat(parts, "\n")
end

--- Ends the conversation: stdin is closed (the process itself is the caller's), an HTTP session is
--- given back. Never fails.
---@param client table
function mcp.close(client) client.transport.close(client) end

return mcp
