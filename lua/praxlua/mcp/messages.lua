--- JSON-RPC messages in the text of a server.
local json = require("praxlua.json")
local limits = require("praxlua.mcp.limits")

local messages = {}

-- Of a message that cannot be read: whether it was meant as an answer, not as a notification or
-- somebody's print statement. Nothing else is to be expected in its place then.
local function is_answer(source)
  return source:find("^%s*[{%[]") ~= nil and not source:find('"method"', 1, true)
end

--- The messages of a JSON text; a batch is several.
---@param source string
---@return table[] found empty when the text is no message
---@return string? problem why it cannot be read, when it should have been an answer
function messages.read(source)
  -- Most of what is none is passed over without being read.
  if not source:find('"jsonrpc"', 1, true) then return {} end
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
