--- A text/event-stream, taken apart into events as it comes in: lines end with LF, CR or both, an
--- event has any number of data lines, and ends with an empty line.
local limits = require("praxlua.mcp.limits")
local lines = require("praxlua.mcp.lines")

local event_stream = {}

local BYTE_ORDER_MARK = "\xef\xbb\xbf"

-- Lone CRs and CRLFs become LFs. The LF of a CRLF may come in the next chunk.
local function with_line_feeds(stream, chunk)
  if stream.after_cr and chunk:sub(1, 1) == "\n" then chunk = chunk:sub(2) end
  if chunk ~= "" then stream.after_cr = chunk:sub(-1) == "\r" end
  if not chunk:find("\r", 1, true) then return chunk end
  return (chunk:gsub("\r\n?", "\n"))
end

local fields = {}

function fields.data(stream, value) stream.data[#stream.data + 1] = value end

function fields.id(stream, value)
  if #value <= limits.id and not value:find("\0", 1, true) then stream.last_id = value end
end

function fields.retry(stream, value)
  if value:find("^%d+$") and #value < 10 then stream.retry = tonumber(value) / 1000 end
end

local function finish_event(stream)
  local data = table.concat(stream.data, "\n")
  stream.data = {}
  -- An event without data only tells an id or a time.
  if not data:find("%S") then return true end
  return stream.on_data(data)
end

--- A reader of one stream.
---@param on_data fun(data: string): true|nil, string?, string? called with each event's data
---@return table stream last_id: of the event that came last · retry: seconds to wait before the
---  stream is taken up again, as the server wishes
function event_stream.new(on_data)
  return { buffer = lines.buffer(), data = {}, on_data = on_data }
end

--- Feeds a chunk.
---@param stream table
---@param chunk string
---@return true|nil
---@return string? message
---@return string? code of on_data, or "EPROTOCOL" for a line that is too long
function event_stream.feed(stream, chunk)
  return lines.feed(stream.buffer, with_line_feeds(stream, chunk), function(line)
    if not stream.begun then
      stream.begun = true
      if line:sub(1, 3) == BYTE_ORDER_MARK then line = line:sub(4) end
    end
    if line == "" then return finish_event(stream) end
    local name, value = line:match("^([^:]*): ?(.*)$")
    local field = fields[name or line]
    if field then field(stream, value or "") end
    return true
  end)
end

return event_stream
