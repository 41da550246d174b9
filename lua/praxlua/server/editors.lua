--- The settings in which editors are told to start the server by themselves.
local core = require("praxlua.core")
local json = require("praxlua.json")
local layout = require("praxlua.layout")

local editors = {}

local LARGEST = 256 * 1024

-- Where they are in a project, and the key of the list of servers.
local SETTINGS = {
  { ".cursor/mcp.json", "mcpServers" },
  { ".vscode/mcp.json", "servers" },
  { ".mcp.json", "mcpServers" },
}

-- The transport with which these words start the module; nil where they start something else.
local function transport_of(words, module)
  local starts, transport = false, "stdio" -- what an editor speaks unless it is told otherwise
  for i, word in ipairs(words) do
    if word == module and words[i - 1] == "-m" then starts = true end
    if word == "--transport" and type(words[i + 1]) == "string" then transport = words[i + 1] end
  end
  return starts and transport or nil
end

local function read(path)
  local data = core.file.read(path, LARGEST)
  local settings = data and json.decode(data) -- one with comments in it is passed over
  return type(settings) == "table" and settings or {}
end

--- The settings that start this installation's server.
---@param ctx table
---@return { path: string, transport: string }[] path relative to the project
function editors.of(ctx)
  local found, module = {}, layout.server_of(ctx).module
  for _, place in ipairs(SETTINGS) do
    local servers = read(ctx.project .. "/" .. place[1])[place[2]]
    for _, server in pairs(type(servers) == "table" and servers or {}) do
      local words = type(server) == "table" and server.args
      local transport = type(words) == "table" and transport_of(words, module)
      if transport then
        found[#found + 1] = { path = place[1], transport = transport }
        break
      end
    end
  end
  return found
end

return editors
