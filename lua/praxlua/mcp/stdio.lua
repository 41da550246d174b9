--- MCP over a child's stdin and stdout: a message a line. Lines that are no message are somebody's
--- print statement: they are kept as words of the server, and are no error by themselves.
local core = require("praxlua.core")
local lines = require("praxlua.mcp.lines")
local messages = require("praxlua.mcp.messages")
local words = require("praxlua.mcp.words")

local stdio = {}

local LAST_WORDS_SECONDS = 1
local LAST_WORDS_LEAST = 0.2 -- even when the deadline is over

-- Codes of core.spawn that mean something to our callers, too.
local CODES = { ETIMEDOUT = "ETIMEDOUT", EINTR = "EINTR", ENOBUFS = "EPROTOCOL" }

local function remaining(deadline) return deadline - core.system.monotonic() end

-- What a server said before it ended may still be on its way.
local function read_last_words(client, deadline)
  while true do
    local left = remaining(deadline)
    if left <= 0 then return end
    local stream, chunk = client.process:read(left)
    if not stream then return end
    if stream == "stderr" then words.note_stderr(client, chunk) end
  end
end

local function closed(client, deadline)
  local now = core.system.monotonic()
  local until_then = math.min(now + LAST_WORDS_SECONDS, math.max(deadline, now + LAST_WORDS_LEAST))
  read_last_words(client, until_then)
  local ended = client.process:wait(math.max(remaining(until_then), 0))
  local how = "closed its output"
  if ended then
    how = ended.signal and ended.signal ~= 0 and ("was ended by signal %d"):format(ended.signal)
      or ("ended with exit code %d"):format(ended.code)
  end
  return nil, ("%s %s"):format(client.where, how) .. words.last(client), "ECLOSED"
end

--- Sends a message.
---@param client table
---@param message string JSON, one line
---@param deadline number of system.monotonic
---@return true|nil
---@return string? message
---@return string? code
function stdio.send(client, message, deadline)
  local done, problem, code = client.process:write(message .. "\n",
    math.max(remaining(deadline), 0))
  if done then return true end
  if code == "EPIPE" then return closed(client, deadline) end
  return nil, problem, CODES[code] or "ECLOSED"
end

--- Sends a request and reads until take(message, bytes) has said that it is answered.
---@param client table
---@param message string JSON, one line
---@param deadline number of system.monotonic
---@param take fun(message: table, bytes: integer): boolean
---@return true|nil
---@return string? message
---@return string? code
function stdio.exchange(client, message, deadline, take)
  local sent, problem, code = stdio.send(client, message, deadline)
  if not sent then return nil, problem, code end
  local answered = false
  local function on_line(line)
    local found, unreadable = messages.read(line)
    if #found == 0 then words.note_noise(client, line) end
    if unreadable and not answered then return nil, unreadable, "EPROTOCOL" end
    for _, one in ipairs(found) do answered = take(one, #line) or answered end
    return true
  end
  while not answered do
    local left = remaining(deadline)
    if left <= 0 then return nil, "timeout", "ETIMEDOUT" end
    local stream, chunk, why = client.process:read(left)
    if stream == "stdout" then
      local fine, trouble, kind = lines.feed(client.lines, chunk, on_line)
      if not fine then return nil, trouble, kind end
    elseif stream == "stderr" then
      words.note_stderr(client, chunk)
    elseif why == "EPIPE" then
      return closed(client, deadline)
    else
      return nil, chunk, CODES[why] or "ECLOSED"
    end
  end
  return true
end

--- The server reads the end of its input; the process itself is the caller's.
---@param client table
function stdio.close(client) client.process:close_stdin() end

return stdio
