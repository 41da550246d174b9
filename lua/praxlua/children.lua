--- The tools of a session: recorded while they run, and found again when praxlua did not live to
-- see their end.
--
-- While a tool runs there is a symbolic link child-PID in its session's folder (in .cache before
-- there is one), whose target "START WATCHER START-OF-WATCHER BOOT" tells this process from any
-- later one of that number; and it has a variable that names the installation. Normally nothing of
-- a tool outlives praxlua: its watcher sees to that, and removes the link. When the watcher was
-- killed or stopped as well, the next run finds the link, looks, and refuses as long as something
-- of the tool lives: the process itself, one of its session, one with its mark. Nothing is ended
-- here: what it is about, people know better.
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local process = require("praxlua.process")
local text = require("praxlua.text")

local children = {}

local NAME = "^child%-(%d+)$"
local TARGET = "^(%d+) (%d+) (%d+) ([%x-]+)$"
local WATCHER_SECONDS = 3 -- what a watcher may take to end a tool whose praxlua was killed
local POLL = 0.01

-- The record of that name in a folder, or nil for what is none.
local function read(directory, name)
  local pid = math.tointeger(tonumber(name:match(NAME)))
  local path = directory .. "/" .. name
  local target = pid and core.file.readlink(path)
  local start, watcher, watcher_start, boot = (target or ""):match(TARGET)
  if not start then return nil end
  return {
    path = path, pid = pid, start_time = math.tointeger(tonumber(start)), boot_id = boot,
    watcher = { pid = math.tointeger(tonumber(watcher)), boot_id = boot,
      start_time = math.tointeger(tonumber(watcher_start)) },
  }
end

-- Calls visit(name) for the names in a folder; for none where there is no such folder (run.open has
-- refused one that cannot be read).
local function each_name(path, visit)
  for _, name in ipairs(folder.names(path) or {}) do visit(name) end
end

--- The records beneath an installation, whether their processes live or not.
---@param target string
---@return { path: string, pid: integer, start_time: integer, boot_id: string, watcher: table }[]
function children.records(target)
  local found = {}
  local function look(directory)
    each_name(directory, function(name) found[#found + 1] = read(directory, name) end)
  end
  look(target .. "/.cache")
  each_name(target .. "/.upgrade", function(name) look(target .. "/.upgrade/" .. name) end)
  return found
end

local function lives(pid, since)
  local found = core.system.process(pid)
  return found and found.start_time >= since and found.state ~= "Z" and found.state ~= "X"
end

-- A process of the session that a tool began, when the tool itself is gone. As long as there is
-- one, the kernel gives the session's number to nobody else.
local function of_session(record)
  local leader = core.system.process(record.pid)
  if leader and leader.start_time ~= record.start_time then return nil end
  for _, pid in ipairs(core.system.session(record.pid) or {}) do
    if lives(pid, record.start_time) then return pid end
  end
end

-- A process that has the mark of the installation. Those of other users cannot be looked into.
local function marked(record, target)
  local mark = ("\0%s=%s\0"):format(process.MARK, target)
  for _, name in ipairs(folder.names("/proc") or {}) do
    local pid = math.tointeger(tonumber(name:match("^%d+$")))
    local variables = pid and pid ~= core.system.pid()
      and core.file.read("/proc/" .. name .. "/environ")
    if variables and ("\0" .. variables):find(mark, 1, true) and lives(pid, record.start_time) then
      return pid
    end
  end
end

--- A process that a record stands for and that is still alive: the tool, what descends from it, or
--- the watcher that is about to end them.
---@param record table of children.records
---@param target string
---@return integer|nil pid
function children.alive(record, target)
  if record.boot_id ~= core.system.boot_id() then return nil end
  if process.same(record) then return record.pid end
  if process.same(record.watcher) then return record.watcher.pid end
  return of_session(record) or marked(record, target)
end

-- The records whose processes live.
local function living(target)
  local found = {}
  for _, record in ipairs(children.records(target)) do
    local pid = children.alive(record, target)
    if pid then
      local known = core.system.process(pid)
      found[#found + 1] = { pid = pid, record = record.path,
        argv = known and known.argv or {}, watched = process.same(record.watcher) }
    end
  end
  return found
end

--- What still lives of the tools of earlier runs. A watcher that is at work is waited for, some
--- seconds at most. The caller holds the target's lock, so none of them is another run's.
---@param target string
---@return { pid: integer, argv: string[], record: string, watched: boolean }[]
function children.left(target)
  local deadline = core.system.monotonic() + WATCHER_SECONDS
  while true do
    local found, watched = living(target), false
    for _, child in ipairs(found) do watched = watched or child.watched end
    if not watched or core.system.monotonic() >= deadline or not core.system.sleep(POLL) then
      return found
    end
  end
end

--- Why a run has to wait for them, in words.
---@param left table of children.left, not empty
---@return string message
---@return string next_step
function children.explain(left)
  local pids = {}
  for i, child in ipairs(left) do pids[i] = tostring(child.pid) end
  local name = table.concat(left[1].argv, " ")
  local message = ("a program that an earlier run started is still at work here: process %s (%s)")
    :format(table.concat(pids, ", "), name ~= "" and text.visible(name) or "its name is not known")
  return message, ("wait for its end, or end it (kill %s), and run the same command again")
    :format(table.concat(pids, " "))
end

--- Removes the records of tools that are gone. The caller holds the lock and has seen that none
--- lives.
---@param target string
function children.sweep(target)
  for _, record in ipairs(children.records(target)) do
    if not children.alive(record, target) then core.file.remove(record.path) end
  end
end

return children
