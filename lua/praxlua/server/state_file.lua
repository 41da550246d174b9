--- The file in which a server says that it runs: a claim, nothing more. A private server would
--- overwrite it and delete it at its end, so it can be set aside and put back.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local json = require("praxlua.json")

local file = core.file

local state_file = {}

local NAME = "/.mcp_server_state.json"
local LARGEST = 64 * 1024
local PRIVATE = tonumber("600", 8)

-- Where the live state file waits while a private server uses its name. The second place is for a
-- .cache that is on another file system.
local ASIDE = { "/.cache/mcp_server_state.live", "/.mcp_server_state.live" }

--- The path of the state file.
---@param ctx table
---@return string
function state_file.path(ctx) return ctx.target .. NAME end

--- The places where a claim may be. The one set aside comes first: while there is one, the state
--- file itself is a private server's, or what that has left.
---@param ctx table
---@return string[] paths the state file is the last
function state_file.places(ctx)
  return { ctx.target .. ASIDE[1], ctx.target .. ASIDE[2], state_file.path(ctx) }
end

--- What a state file says.
---@param path string
---@return table|nil state with an integer pid
---@return string? reason "absent" or what is wrong with it
function state_file.read(path)
  local data, problem, code = file.read(path, LARGEST)
  if not data then return nil, code == "ENOENT" and "absent" or problem end
  local state, wrong = json.decode(data)
  if type(state) ~= "table" then return nil, wrong or "it holds no object" end
  if math.type(state.pid) ~= "integer" or state.pid <= 1 then return nil, "it names no process" end
  return state
end

--- Writes the state file for a server that writes none itself: the project file says where it
--- listens. A server that does write one replaces it.
---@param ctx table
---@param pid integer of the server that was just started
---@return boolean|nil written false when the project file names no URL
---@return string? message
---@return string? code errno
function state_file.claim(ctx, pid)
  local project = ctx.options and ctx.options.project
  local url = project and project.server and project.server.url
  if not url then return false end
  local claim = {
    pid = pid, transport = "http", url = url, written_by = "praxlua", started_at = clock.iso(),
    port = math.tointeger(tonumber(url:match(":(%d+)/"))),
  }
  local data = json.encode(claim, { pretty = true }) .. "\n"
  return file.write_atomic(state_file.path(ctx), data, PRIVATE)
end

--- Removes the state file, one that was set aside as well, if it is of this process, which is gone.
---@param ctx table
---@param pid integer
function state_file.forget(ctx, pid)
  for _, path in ipairs(state_file.places(ctx)) do
    local state = state_file.read(path)
    if state and state.pid == pid then file.remove(path) end
  end
end

--- Moves the live state file aside. A rename keeps everything about it, its time too.
---@param ctx table
---@return boolean|nil moved false when there is none
---@return string? message
---@return string? code
function state_file.set_aside(ctx)
  state_file.put_back(ctx)
  local path = state_file.path(ctx)
  if not file.exists(path) then return false end
  local done, problem, code = file.mkdir(ctx.target .. "/.cache")
  if not done then return nil, problem, code end
  for _, place in ipairs(ASIDE) do
    done, problem, code = file.rename(path, ctx.target .. place)
    if done then return true end
    if code ~= "EXDEV" then break end
  end
  if code == "ENOENT" then return false end
  return nil, problem, code
end

local function is_alive(pid)
  local info = core.system.process(pid)
  return info ~= nil and info.state ~= "Z" and info.state ~= "X"
end

--- Puts the live state file back. One that another living server has written meanwhile is the newer
--- truth and stays.
---@param ctx table
---@return boolean|nil back false when none was set aside
---@return string? message
---@return string? code
function state_file.put_back(ctx)
  local path = state_file.path(ctx)
  for _, place in ipairs(ASIDE) do
    local aside = ctx.target .. place
    if file.exists(aside) then
      local now, kept = state_file.read(path), state_file.read(aside)
      local newer = now and (not kept or now.pid ~= kept.pid) and is_alive(now.pid)
      if newer then return file.remove(aside) end
      return file.rename(aside, path)
    end
  end
  return false
end

return state_file
