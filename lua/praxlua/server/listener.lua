--- Whether a port is held by a certain process: an answer on a port that some other program has
--- taken says nothing about our server.
local core = require("praxlua.core")
local owned = require("praxlua.server.owned")

local listener = {}

local TCP_LISTEN = "0A"
-- proc(5), /proc/net/tcp: number, local address, remote address, state, two queues, two timers,
-- uid, timeout, inode.
local LINE = "^%s*%d+: %x+:(%x+) %x+:%x+ (%x+) %S+ %S+ %S+%s+%d+%s+%d+%s+(%d+)"

local function listening_inodes(port)
  local inodes = {}
  for _, path in ipairs({ "/proc/net/tcp", "/proc/net/tcp6" }) do
    local list = io.open(path, "r")
    if list then
      for line in list:lines() do
        local local_port, state, inode = line:match(LINE)
        if state == TCP_LISTEN and tonumber(local_port, 16) == port then inodes[inode] = true end
      end
      list:close()
    end
  end
  return inodes
end

-- Whether a process has one of these sockets open; nil when its descriptors cannot be listed.
local function holds_one(pid, inodes)
  local entries = core.tree.list("/proc/" .. pid .. "/fd")
  if not entries then return nil end
  for _, entry in ipairs(entries) do
    local inode = (entry.target or ""):match("^socket:%[(%d+)%]$")
    if inode and inodes[inode] then return true end
  end
  return false
end

--- Whether a process, or one that it started, listens on a port.
---@param pid integer
---@param port integer
---@return boolean|nil holds nil when that cannot be told
function listener.holds(pid, port)
  local inodes = listening_inodes(port)
  if next(inodes) == nil then return false end
  local answer = holds_one(pid, inodes)
  if answer ~= false then return answer end
  for _, identity in ipairs(owned.descendants(pid)) do
    if holds_one(identity.pid, inodes) then return true end
  end
  return false
end

return listener
