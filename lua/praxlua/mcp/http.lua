--- MCP over streamable HTTP: each message is a POST, its answer comes as JSON or as events.
--
-- A stream that ends before the answer is taken up again (a GET with the id of the last event)
-- where the server gives its events ids: from 2025-11-25 on it may hang up and be polled.
local core = require("praxlua.core")
local event_stream = require("praxlua.mcp.event_stream")
local limits = require("praxlua.mcp.limits")
local lines = require("praxlua.mcp.lines")
local messages = require("praxlua.mcp.messages")
local text = require("praxlua.text")
local words = require("praxlua.mcp.words")

local http = {}

local HEAD = 300 -- bytes of an answer that an error quotes
local RETRY = 0.1 -- seconds before a stream is taken up again, where the server names none
local CLOSE_SECONDS = 2
local REDIRECTS = 3 -- how often a message is sent to another path

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

local function remaining(deadline) return deadline - core.system.monotonic() end

local function headers_of(client, more)
  local headers = {
    ["Accept"] = "application/json, text/event-stream",
    ["Mcp-Session-Id"] = client.session,
    ["MCP-Protocol-Version"] = client.protocol_version,
  }
  for name, value in pairs(more) do headers[name] = value end
  return headers
end

local function ask(client, options, deadline)
  local left = remaining(deadline)
  if left <= 0 then return nil, "timeout", "ETIMEDOUT" end
  options.url, options.timeout, options.cap = client.url, left, limits.message
  local response, problem, code = core.http.request(options)
  if response then return response end
  return nil, ("%s: %s"):format(client.where, problem), HTTP_CODES[code] or "ECLOSED"
end

local function post(client, message, deadline, on_data)
  return ask(client, {
    method = "POST",
    headers = headers_of(client, { ["Content-Type"] = "application/json" }),
    body = message,
    on_data = on_data,
  }, deadline)
end

-- What is wrong with a status, told with the beginning of the body; nil when it is a good one.
local function refusal(client, response, head)
  if response.status >= 200 and response.status <= 299 then return nil end
  local what = ("%s answered with HTTP status %d"):format(client.where, response.status)
  local said = text.trim(head:sub(1, HEAD))
  if said ~= "" then what = what .. ": " .. words.excerpt(said) end
  -- 404 is how a server says that it does not know the session (any more).
  return what, response.status == 404 and "ECLOSED" or "EPROTOCOL"
end

--- Sends a message that has no answer.
---@param client table
---@param message string JSON
---@param deadline number of system.monotonic
---@return true|nil
---@return string? message
---@return string? code
function http.send(client, message, deadline)
  local response, problem, code = post(client, message, deadline)
  if not response then return nil, problem, code end
  local wrong, kind = refusal(client, response, response.body)
  if wrong then return nil, wrong, kind end
  return true
end

-- A reader of a body as it comes in: an event stream is taken apart event by event, a JSON body is
-- kept until it is whole. Which of both it is shows in the first byte.
local function body_reader(take, deadline)
  local reader = { body = lines.buffer(), head = "", answered = false }

  local function take_all(source)
    local found, unreadable = messages.read(source)
    if unreadable and not reader.answered then return nil, unreadable, "EPROTOCOL" end
    for _, message in ipairs(found) do
      reader.answered = take(message, #source) or reader.answered
    end
    return true
  end

  reader.events = event_stream.new(take_all)

  function reader.on_data(chunk)
    reader.came = true
    if #reader.head < HEAD then reader.head = reader.head .. chunk:sub(1, HEAD) end
    if not reader.kind then
      local first = chunk:match("^%s*(.)")
      if not first then return true end
      reader.kind = (first == "{" or first == "[") and "json" or "events"
    end
    local fine, problem
    if reader.kind == "json" then
      fine, problem = lines.add(reader.body, chunk)
    else
      fine, problem = event_stream.feed(reader.events, chunk)
    end
    reader.problem = problem
    -- libcurl looks at the time only when there is nothing to be read for a moment.
    reader.late = remaining(deadline) <= 0
    return fine and not reader.answered and not reader.late
  end

  function reader.finish()
    if reader.kind ~= "json" or reader.problem then return end
    local _, problem = take_all(lines.take(reader.body))
    reader.problem = problem
  end

  return reader
end

-- Waits as long as the server wants us to, and asks for the rest of the stream.
local function resume(client, reader, deadline)
  core.system.sleep(math.max(math.min(reader.events.retry or RETRY, remaining(deadline)), 0))
  if core.system.interrupted() then return nil, "interrupted", "EINTR" end
  if core.cancel.asked() then return nil, "timeout", "ETIMEDOUT" end
  reader.head, reader.kind, reader.came = "", nil, nil
  local events = reader.events
  events.buffer, events.data, events.begun, events.after_cr = lines.buffer(), {}, nil, nil
  return ask(client, {
    method = "GET",
    headers = headers_of(client, { ["Last-Event-ID"] = events.last_id }),
    on_data = reader.on_data,
  }, deadline)
end

-- Whether the rest of what was asked for may still come when it is asked for again. A server from
-- which nothing came at all is gone.
local function is_resumable(reader, response, code)
  if reader.answered or reader.late or reader.problem then return false end
  if reader.kind ~= "events" then return false end
  if (reader.events.last_id or "") == "" then return false end
  if response then return response.status >= 200 and response.status <= 299 end
  return reader.came == true and code == "ECLOSED"
end

-- Where a server says that it wants to be asked: another path of its own (frameworks do that to add
-- or to take the slash at the end). Another server than the one that is meant is never asked.
local function moved_to(client, response)
  if response.status ~= 307 and response.status ~= 308 then return nil end
  local server, place = client.url:match("^%a+://[^/?#]*"), response.headers.location or ""
  if place:find("^/[^/]") then return server .. place end
  return place:sub(1, #server + 1) == server .. "/" and place or nil
end

-- Sends a request, where the server wants to have it. Returns the reader, too.
local function post_request(client, message, deadline, take)
  for left = REDIRECTS, 0, -1 do
    local reader = body_reader(take, deadline)
    local response, problem, code = post(client, message, deadline, reader.on_data)
    local place = response and not reader.answered and moved_to(client, response)
    if not place or left == 0 then return reader, response, problem, code end
    client.url = place
  end
end

--- Sends a request and reads until take(message, bytes) has said that it is answered.
---@param client table url: becomes what the server redirects to
---@param message string JSON
---@param deadline number of system.monotonic
---@param take fun(message: table, bytes: integer): boolean
---@return true|nil
---@return string? message
---@return string? code
function http.exchange(client, message, deadline, take)
  local reader, response, problem, code = post_request(client, message, deadline, take)
  for _ = 1, limits.resumes do
    if response then client.session = client.session or response.headers["mcp-session-id"] end
    if not is_resumable(reader, response, code) then break end
    response, problem, code = resume(client, reader, deadline)
  end
  if not response then return nil, problem, code end
  reader.finish()
  if reader.answered then return true end
  if reader.late then return nil, "timeout", "ETIMEDOUT" end
  local wrong, kind = refusal(client, response, reader.head)
  if wrong then return nil, wrong, kind end
  problem = reader.problem or ("%s ended its reply without an answer"):format(client.where)
  return nil, problem, "EPROTOCOL"
end

--- Ends the session. A server need not allow that, so its answer does not matter.
---@param client table
function http.close(client)
  if not client.session then return end
  core.http.request({
    url = client.url, method = "DELETE", headers = headers_of(client, {}), timeout = CLOSE_SECONDS,
  })
end

return http
