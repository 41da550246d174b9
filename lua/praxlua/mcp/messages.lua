--- JSON-RPC messages in the text of a server.
local json = require("praxlua.json")
local limits = require("praxlua.mcp.limits")

local messages = {}

-- A text that was meant as a message with an answer in it, and not as somebody's print statement or
-- a notification: nothing else is to be expected in its place.
local function is_answer(source)
  return source:find("^%s*[{%[]") ~= nil and source:find('"jsonrpc"', 1, true) ~= nil
    and not source:find('"method"', 1, true)
end

--- The messages of a JSON text; a batch is several.
---@param source string
---@return table[] found empty when the text is no message
---@return string? problem why it cannot be read, when it should have been an answer
function messages.read(source)
  local value, problem = json.decode(source, {
    max_bytes = limits.message,
    max_depth = limits.depth,
    max_values = limits.values,
  })
  if type(value) ~= "table" then
    return {}, problem and is_answer(source) and "an answer that cannot be read: " .. problem or nil
  end
  local list = (value.jsonrpc ~= nil or #value == 0) and { value } or value
  local found = {}
  for _, message in ipairs(list) do
    if type(message) == "table" and message.jsonrpc == "2.0" then found[#found + 1] = message end
  end
  return found
end

return messages
