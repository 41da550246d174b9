--- What a server said outside the protocol, kept for error messages: lines on stdout that are no
--- message, and the end of stderr.
local limits = require("praxlua.mcp.limits")
local text = require("praxlua.text")

local words = {}

local EXCERPT = 300

--- The beginning of what a server said, made printable.
---@param said any a string; of anything else only the kind is told
---@return string
function words.excerpt(said)
  if type(said) ~= "string" then return "(" .. type(said) .. ")" end
  if #said > EXCERPT then said = said:sub(1, EXCERPT) .. "…" end
  return text.visible(said)
end

--- Keeps a line of stdout that is no message.
---@param client table
---@param line string
function words.note_noise(client, line)
  if not line:find("%S") then return end
  client.noise_lines = client.noise_lines + 1
  if #client.noise == limits.noise then table.remove(client.noise, 1) end
  client.noise[#client.noise + 1] = words.excerpt(line)
end

--- Keeps the end of stderr.
---@param client table
---@param chunk string
function words.note_stderr(client, chunk)
  client.stderr = (client.stderr .. chunk:sub(-limits.stderr)):sub(-limits.stderr)
end

--- All of it, to be appended to an error message.
---@param client table
---@return string text "" when it said nothing
function words.last(client)
  local said = {}
  if client.stderr and client.stderr:find("%S") then
    said[#said + 1] = text.trim(client.stderr)
  end
  if #client.noise > 0 then
    said[#said + 1] = "on stdout: " .. table.concat(client.noise, "\n")
  end
  if #said == 0 then return "" end
  local all = table.concat(said, "\n")
  if #all > EXCERPT * 2 then all = "…" .. all:sub(-EXCERPT * 2) end
  return "; its last words: " .. text.visible(all)
end

return words
