--- Bytes that come in pieces: kept until they are whole, or taken apart into lines.
local limits = require("praxlua.mcp.limits")
local text = require("praxlua.text")

local lines = {}

--- An empty buffer.
---@return table
function lines.buffer() return { size = 0 } end

--- Adds a piece. Neighbours are joined when the later one has grown to the size of the earlier, so
--- that a peer that sends byte by byte makes us hold few pieces, and copy each byte seldom.
---@param buffer table
---@param piece string
---@return true|nil
---@return string? message
---@return string? code "EPROTOCOL" when it is more than a message may be
function lines.add(buffer, piece)
  buffer.size = buffer.size + #piece
  if buffer.size > limits.message then
    return nil, ("a message of more than %s"):format(text.bytes(limits.message)), "EPROTOCOL"
  end
  local last = #buffer
  while last > 0 and #buffer[last] <= #piece do
    piece = buffer[last] .. piece
    buffer[last] = nil
    last = last - 1
  end
  buffer[last + 1] = piece
  return true
end

--- What is in the buffer, which is empty afterwards.
---@param buffer table
---@return string
function lines.take(buffer)
  local whole = table.concat(buffer)
  for i = #buffer, 1, -1 do buffer[i] = nil end
  buffer.size = 0
  return whole
end

--- Feeds a chunk; calls on_line for each line that is whole, without its end.
---@param buffer table
---@param chunk string
---@param on_line fun(line: string): true|nil, string?, string? what fails ends the feeding
---@return true|nil
---@return string? message
---@return string? code of on_line, or of lines.add
function lines.feed(buffer, chunk, on_line)
  local from = 1
  while true do
    local ending = chunk:find("\n", from, true)
    local fine, problem, code = lines.add(buffer, chunk:sub(from, ending and ending - 1))
    if not fine then return nil, problem, code end
    if not ending then return true end
    local line = lines.take(buffer)
    if line:sub(-1) == "\r" then line = line:sub(1, -2) end
    fine, problem, code = on_line(line)
    if not fine then return nil, problem, code end
    from = ending + 1
  end
end

return lines
