--- A client of the Model Context Protocol, over a child's stdin and stdout or over streamable HTTP.
--
-- A client does one thing at a time: it sends a request and reads until that request's answer is
-- there. What else arrives meanwhile is what a server may send: notifications are passed over, a
-- ping is answered, every other request of the server is refused. Lines on stdout that are not JSON
-- are somebody's print statement; they are counted and quoted in errors, never an error themselves.
--
-- Errors are nil, message, code:
--   "ETIMEDOUT"  no answer before the deadline      "ECLOSED"  the server is gone or not reachable
--   "EPROTOCOL"  what arrived is not what MCP says   "EREMOTE"  the server answered with an error
--   "EINTR"      praxlua was interrupted             "ENOLIB"   libcurl is missing (HTTP only)
local core = require("praxlua.core")
local json = require("praxlua.json")
local text = require("praxlua.text")

local mcp = {}

--- The protocol versions we speak, the preferred one first.
mcp.protocol_versions = { "2025-06-18", "2025-03-26", "2024-11-05" }

--- What a server may make us hold: bytes of a message, pages of a list, tools, last lines kept.
mcp.limits = { message = 16 * 1024 * 1024, pages = 1000, tools = 10000, noise = 20, stderr = 4096 }

local CLIENT = { name = "praxlua", version = "1" }
local METHOD_NOT_FOUND = -32601
local ERROR_EXCERPT = 300
local LAST_WORDS_SECONDS = 1

local function remaining(deadline) return deadline - core.system.monotonic() end

local function excerpt(s)
  if #s > ERROR_EXCERPT then s = s:sub(1, ERROR_EXCERPT) .. "…" end
  return text.visible(s)
end

local function timed_out(client, method, seconds)
  local message = ("%s: no answer from %s within %.1f s"):format(method, client.where, seconds)
  return nil, message .. mcp.last_words(client), "ETIMEDOUT"
end

--- What the server said outside the protocol, to be appended to an error message.
---@param client table
---@return string text "" when it said nothing
function mcp.last_words(client)
  local said = {}
  if client.stderr and client.stderr:find("%S") then
    said[#said + 1] = text.trim(client.stderr)
  end
  if #client.noise > 0 then
    said[#said + 1] = "on stdout: " .. table.concat(client.noise, "\n")
  end
  if #said == 0 then return "" end
  local words = table.concat(said, "\n")
  if #words > ERROR_EXCERPT * 2 then words = "…" .. words:sub(-ERROR_EXCERPT * 2) end
  return "; its last words: " .. text.visible(words)
end

-- ---- lines -------------------------------------------------------------------------------------

-- Feeds a chunk to a line splitter; calls on_line for each whole line. Returns nil, message, code
-- when a line grows beyond the cap.
local function feed(lines, chunk, on_line)
  local from = 1
  while true do
    local ending = chunk:find("\n", from, true)
    local piece = chunk:sub(from, ending and ending - 1)
    lines.size = lines.size + #piece
    if lines.size > mcp.limits.message then
      return nil, ("a message of more than %s"):format(text.bytes(mcp.limits.message)), "EPROTOCOL"
    end
    lines[#lines + 1] = piece
    if not ending then return true end
    local line = table.concat(lines):gsub("\r$", "")
    for i = #lines, 1, -1 do lines[i] = nil end
    lines.size = 0
    on_line(line)
    from = ending + 1
  end
end

local function new_lines() return { size = 0 } end

local function note_noise(client, line)
  if not line:find("%S") then return end
  client.noise_lines = client.noise_lines + 1
  if #client.noise == mcp.limits.noise then table.remove(client.noise, 1) end
  client.noise[#client.noise + 1] = excerpt(line)
end

-- The messages of a JSON text: a batch is several. An empty list when the text is not a message.
local function messages_of(source)
  local value = json.decode(source, { max_bytes = mcp.limits.message, max_depth = 64 })
  if type(value) ~= "table" then return {} end
  local list = (value.jsonrpc or #value == 0) and { value } or value
  local found = {}
  for _, message in ipairs(list) do
    if type(message) == "table" and message.jsonrpc == "2.0" then found[#found + 1] = message end
  end
  return found
end

-- ---- stdio -------------------------------------------------------------------------------------

local stdio = {}

function stdio.send(client, message, deadline)
  local done, problem, code = client.process:write(message .. "\n", remaining(deadline))
  if done then return true end
  if code == "EPIPE" then return stdio.closed(client) end
  return nil, problem, code
end

local function note_stderr(client, chunk)
  client.stderr = (client.stderr .. chunk):sub(-mcp.limits.stderr)
end

-- What a server said before it ended may still be on its way.
local function read_last_words(client, seconds)
  local deadline = core.system.monotonic() + seconds
  local stream, chunk
  repeat
    stream, chunk = client.process:read(math.max(0, remaining(deadline)))
    if stream == "stderr" then note_stderr(client, chunk) end
  until not stream
end

function stdio.closed(client)
  read_last_words(client, LAST_WORDS_SECONDS)
  local ended = client.process:wait(1)
  local how = "closed its output"
  if ended then
    how = ended.signal and ended.signal ~= 0 and ("was ended by signal %d"):format(ended.signal)
      or ("ended with exit code %d"):format(ended.code)
  end
  return nil, ("%s %s"):format(client.where, how) .. mcp.last_words(client), "ECLOSED"
end

function stdio.exchange(client, message, deadline, take)
  local sent, problem, code = stdio.send(client, message, deadline)
  if not sent then return nil, problem, code end
  local answered = false
  local function on_line(line)
    if not line:find("%S") then return end
    local found = messages_of(line)
    if #found == 0 then note_noise(client, line) end
    for _, one in ipairs(found) do answered = take(one) or answered end
  end
  while not answered do
    local left = remaining(deadline)
    if left <= 0 then return nil, "timeout", "ETIMEDOUT" end
    local stream, chunk, why = client.process:read(left)
    if stream == "stdout" then
      local fine, trouble, kind = feed(client.lines, chunk, on_line)
      if not fine then return nil, trouble, kind end
    elseif stream == "stderr" then
      note_stderr(client, chunk)
    elseif why == "EPIPE" then
      return stdio.closed(client)
    else
      return nil, chunk, why
    end
  end
  return true
end

function stdio.close(client) client.process:close_stdin() end

-- ---- streamable HTTP ---------------------------------------------------------------------------

local http = {}

-- Codes of core.http that mean something of their own; every other one is "not reachable".
local HTTP_CODES = {
  ETIMEDOUT = "ETIMEDOUT",
  EINTR = "EINTR",
  ENOLIB = "ENOLIB",
  EFBIG = "EPROTOCOL",
  EPROTO = "EPROTOCOL",
  EINVAL = "EPROTOCOL", -- no URL,
  EACCES = "EPROTOCOL", -- or not one of this machine
}

local function headers_of(client)
  return {
    ["Content-Type"] = "application/json",
    ["Accept"] = "application/json, text/event-stream",
    ["Mcp-Session-Id"] = client.session,
    ["MCP-Protocol-Version"] = client.protocol_version,
  }
end

local function post(client, message, deadline, on_data)
  local left = remaining(deadline)
  if left <= 0 then return nil, "timeout", "ETIMEDOUT" end
  local response, problem, code = core.http.request({
    url = client.url,
    method = "POST",
    headers = headers_of(client),
    body = message,
    timeout = left,
    cap = mcp.limits.message,
    on_data = on_data,
  })
  if not response then
    return nil, ("%s: %s"):format(client.where, problem), HTTP_CODES[code] or "ECLOSED"
  end
  return response
end

-- What is wrong with a status, told with the beginning of the body; nil when it is a good one.
local function refusal(client, response, head)
  if response.status >= 200 and response.status <= 299 then return nil end
  local what = ("%s answered with HTTP status %d"):format(client.where, response.status)
  local said = text.trim(head)
  if said ~= "" then what = what .. ": " .. excerpt(said) end
  -- 404 is how a server says that it does not know the session (any more).
  return what, response.status == 404 and "ECLOSED" or "EPROTOCOL"
end

function http.send(client, message, deadline)
  local response, problem, code = post(client, message, deadline)
  if not response then return nil, problem, code end
  local wrong, kind = refusal(client, response, response.body)
  if wrong then return nil, wrong, kind end
  return true
end

-- A reader of a body as it comes in: an event stream is taken apart event by event, a JSON body is
-- kept until it is whole. Which of both it is shows in the first byte.
local function body_reader(take)
  local reader = { lines = new_lines(), data = {}, body = {}, head = "", answered = false }

  local function take_all(source)
    for _, message in ipairs(messages_of(source)) do
      reader.answered = take(message) or reader.answered
    end
  end

  local function on_line(line)
    if line == "" then
      if #reader.data > 0 then take_all(table.concat(reader.data, "\n")) end
      reader.data = {}
    else
      local field = line:match("^data: ?(.*)$")
      if field then reader.data[#reader.data + 1] = field end
    end
  end

  function reader.on_data(chunk)
    if #reader.head < ERROR_EXCERPT then reader.head = reader.head .. chunk end
    if not reader.kind then
      local first = chunk:match("^%s*(.)")
      if not first then return true end
      reader.kind = (first == "{" or first == "[") and "json" or "events"
    end
    if reader.kind == "json" then
      reader.body[#reader.body + 1] = chunk
      return true
    end
    local fine, problem = feed(reader.lines, chunk, on_line)
    reader.problem = problem
    return fine and not reader.answered
  end

  function reader.finish()
    if reader.kind == "json" then take_all(table.concat(reader.body)) end
  end

  return reader
end

function http.exchange(client, message, deadline, take)
  local reader = body_reader(take)
  local response, problem, code = post(client, message, deadline, reader.on_data)
  if not response then return nil, problem, code end
  client.session = client.session or response.headers["mcp-session-id"]
  reader.finish()
  if reader.answered then return true end
  local wrong, kind = refusal(client, response, reader.head)
  if wrong then return nil, wrong, kind end
  problem = reader.problem or ("%s ended its reply without an answer"):format(client.where)
  return nil, problem, "EPROTOCOL"
end

-- Ends the session. A server need not allow that, so its answer does not matter.
function http.close(client)
  if not client.session then return end
  local headers = headers_of(client)
  core.http.request({ url = client.url, method = "DELETE", headers = headers, timeout = 2 })
end

-- ---- requests ----------------------------------------------------------------------------------

local function reply_to(client, message, deadline)
  local reply = { jsonrpc = "2.0", id = message.id }
  if message.method == "ping" then
    reply.result = {}
  else
    local why = "praxlua offers no " .. tostring(message.method)
    reply.error = { code = METHOD_NOT_FOUND, message = why }
  end
  -- When it cannot be sent, the request that is under way fails by itself.
  client.transport.send(client, json.encode(reply), deadline)
end

local function request(client, method, params, seconds)
  local deadline = core.system.monotonic() + seconds
  local id = client.next_id
  client.next_id = id + 1
  local answer
  local function take(message)
    if message.method ~= nil then
      -- An id is a string or a number: anything else is no request, and would be sent back.
      local kind = type(message.id)
      if kind == "string" or kind == "number" then reply_to(client, message, deadline) end
      return false
    end
    if message.id ~= id then return false end
    answer = message
    return true
  end

  local body = json.encode({ jsonrpc = "2.0", id = id, method = method, params = params })
  local done, problem, code = client.transport.exchange(client, body, deadline, take)
  if not done then
    if code == "ETIMEDOUT" then return timed_out(client, method, seconds) end
    return nil, ("%s: %s"):format(method, problem), code
  end
  if type(answer.error) == "table" then
    local why = excerpt(tostring(answer.error.message))
    local message = ("%s: the server answers: %s (%s)"):format(method, why, answer.error.code)
    return nil, message, "EREMOTE"
  end
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

local function initialize(client, seconds)
  local started = core.system.monotonic()
  local result, problem, code = request(client, "initialize", {
    protocolVersion = mcp.protocol_versions[1],
    capabilities = {},
    clientInfo = CLIENT,
  }, seconds)
  if not result then return nil, problem, code end
  if not is_spoken(result.protocolVersion) then
    local speaks = excerpt(tostring(result.protocolVersion))
    local known = table.concat(mcp.protocol_versions, ", ")
    local message = ("initialize: the server speaks %s, praxlua speaks %s"):format(speaks, known)
    return nil, message, "EPROTOCOL"
  end
  client.protocol_version = result.protocolVersion
  local info = type(result.serverInfo) == "table" and result.serverInfo or {}
  client.server = {
    name = type(info.name) == "string" and info.name or nil,
    version = type(info.version) == "string" and info.version or nil,
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
    lines = new_lines(),
    stderr = "",
  }
  return initialize(client, options.timeout or 30)
end

-- Adds one page of tools to the list; answers with what is wrong with it, if anything.
local function add_page(tools, page)
  if type(page.tools) ~= "table" then return "the answer has no list of tools" end
  for _, tool in ipairs(page.tools) do
    if type(tool) ~= "table" or type(tool.name) ~= "string" then return "a tool without a name" end
    tools[#tools + 1] = tool
  end
  if #tools > mcp.limits.tools then return "more than " .. mcp.limits.tools .. " tools" end
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
  local tools, cursor, seen = {}, nil, {}
  for _ = 1, mcp.limits.pages do
    local left = math.max(remaining(deadline), 0)
    local page, problem, code = request(client, "tools/list", { cursor = cursor }, left)
    if not page then return nil, problem, code end
    local wrong = add_page(tools, page)
    if wrong then return nil, "tools/list: " .. wrong, "EPROTOCOL" end
    cursor = page.nextCursor
    if cursor == nil or cursor == json.null or cursor == "" then return tools end
    if type(cursor) ~= "string" then
      return nil, "tools/list: a cursor that is no string", "EPROTOCOL"
    end
    if seen[cursor] then return nil, "tools/list: the same page comes again", "EPROTOCOL" end
    seen[cursor] = true
  end
  return nil, ("tools/list: more than %d pages"):format(mcp.limits.pages), "EPROTOCOL"
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
