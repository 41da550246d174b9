--- Which process is the server of this installation, proven, and how it is stopped.
--
-- The pid in a state file may long belong to somebody else. A process is ours only if all of this
-- holds: it runs, it is no younger than the claim, it belongs to the user who made the claim, it
-- works in this project, and it runs the server's module with the interpreter of this installation,
-- or what the project file names as the server's command.
-- Nothing that is not proven so is ever sent a signal.
local clock = require("praxlua.clock")
local command = require("praxlua.server.command")
local core = require("praxlua.core")
local layout = require("praxlua.layout")
local log = require("praxlua.server.log")
local process = require("praxlua.process")
local state_file = require("praxlua.server.state_file")
local text = require("praxlua.text")

local file, system = core.file, core.system

local owned = {}

--- The reason when there is no claim, or nobody behind it.
owned.NOT_RUNNING = "not_running"
--- The code when the process is younger than the claim: it has the number of one that is gone.
owned.YOUNGER = "EYOUNGER"

--- Nanoseconds: a process' start is known in clock ticks since boot, what it is compared with in
--- wall time; both are read at slightly different instants, and wall time is adjusted now and then.
owned.CLOCK_SLACK = 2000000000
local POLL_FIRST, POLL_LONGEST = 0.01, 0.05
local GRACE, KILL_WAIT = 10, 5

-- ---- proof -------------------------------------------------------------------------------------

--- When a process started.
---@param info { start_time: integer } in clock ticks since boot
---@return integer ns
function owned.started_at(info)
  local age = system.uptime() - info.start_time / system.clock_ticks()
  return system.now() - math.floor(age * 1e9)
end

-- A process that started after the claim was written is not the one the claim is about.
local function check_age(info, state, claim)
  local start, written = owned.started_at(info), claim.mtime
  local said = type(state.started_at) == "string" and clock.parse(state.started_at)
  if said and said < written then written = said end
  if start <= written + owned.CLOCK_SLACK then return nil end
  return ("it started %s, the state file is of %s"):format(clock.iso(start), clock.iso(written))
end

local function check_owner(info, claim)
  local entry = file.stat("/proc/" .. info.pid)
  if not entry then return "its owner cannot be told" end
  if entry.uid == claim.uid then return nil end
  return ("it belongs to user %d, the state file to user %d"):format(entry.uid, claim.uid)
end

local function check_directory(ctx, info)
  if not info.directory then return "its working directory cannot be read" end
  for _, place in ipairs({ ctx.project, ctx.target }) do
    if info.directory == (file.realpath(place) or place) then return nil end
  end
  return "it works in " .. text.visible(info.directory)
end

local function runs_module(argv, module)
  for i = 2, #argv - 1 do
    if argv[i] == "-m" and argv[i + 1] == module then return true end
  end
  return false
end

-- The interpreter of an environment is a link to the system's, so the executable alone proves
-- little and a changed environment changes it: the path it was called by counts as well.
local function check_command(ctx, info)
  local argv = info.argv or {}
  local declared, module = command.matches(ctx, argv), layout.server_of(ctx).module
  if declared then return nil end
  if not runs_module(argv, module) then
    return declared == nil and "it does not run " .. module
      or ("it runs neither %s nor the server.command of upgrade.lua"):format(module)
  end
  local bin = ctx.target .. "/venv/bin/"
  local called, name = argv[1]:match("^(.*/)([^/]*)$")
  if called and name:find("^python[%d.]*$") then
    if called == bin then return nil end
    local real = file.realpath(called)
    if real and real == file.realpath(bin) then return nil end
  end
  local interpreter = file.realpath(bin .. "python")
  if interpreter and info.executable == interpreter then return nil end
  return "it runs another interpreter: " .. text.visible(argv[1])
end

local function objection(ctx, info, state, claim)
  local younger = check_age(info, state, claim)
  if younger then return younger, owned.YOUNGER end
  return check_owner(info, claim) or check_directory(ctx, info) or check_command(ctx, info)
end

local function of_type(value, wanted) return type(value) == wanted and value or nil end

local function describe(state, identity, info)
  return {
    pid = state.pid,
    transport = of_type(state.transport, "string") or "stdio",
    url = of_type(state.url, "string"),
    port = math.type(state.port) == "integer" and state.port or nil,
    version = of_type(state.version, "string"),
    identity = identity,
    leads_group = info.pgid == state.pid,
  }
end

-- A process that has left its program, and is about to be gone: it has neither words nor a file.
local function is_ending(info) return not info.executable and #(info.argv or {}) == 0 end

-- The server that the claim at `path` is about, or nil and why there is none.
local function find_by(ctx, path)
  local state, reason = state_file.read(path)
  if not state then
    if reason == "absent" then return nil, owned.NOT_RUNNING end
    return nil, "not_ours: the state file cannot be used: " .. text.visible(reason)
  end
  local claim, identity = file.stat(path), process.identity(state.pid)
  local info = claim and identity and system.process(state.pid)
  if not info or info.start_time ~= identity.start_time or is_ending(info) then
    return nil, owned.NOT_RUNNING
  end
  local wrong, code = objection(ctx, info, state, claim)
  if wrong then return nil, ("not_ours: process %d: %s"):format(state.pid, wrong), code end
  return describe(state, identity, info)
end

--- The server of this installation that is running.
---@param ctx table
---@return table|nil found { pid, transport, url?, port?, version?, identity, leads_group }
---@return string? reason "not_running", or "not_ours: …" with what speaks against it
---@return string? code owned.YOUNGER when the process cannot be the one that the claim is about
function owned.find(ctx)
  local found, reason, code
  for _, path in ipairs(state_file.places(ctx)) do
    found, reason, code = find_by(ctx, path)
    if found then return found end
  end
  return nil, reason, code
end

local function is_started_by_us(pid, log_path)
  local entry = file.stat("/proc/" .. pid)
  return entry ~= nil and entry.uid == system.euid()
    and file.readlink("/proc/" .. pid .. "/fd/1") == log_path
end

-- A process as a server that has not said yet where it listens; nil when it is none of ours.
local function as_starting(ctx, pid)
  local identity, info = process.identity(pid), system.process(pid)
  if not identity or not info or info.start_time ~= identity.start_time then return nil end
  if check_directory(ctx, info) or check_command(ctx, info) then return nil end
  return describe({ pid = pid, transport = "http" }, identity, info)
end

--- Servers of this installation that were started by a praxlua which is gone, and have no state
--- file (yet): the command and the working directory are ours, and the output goes to our log.
---@param ctx table
---@return table[] found as of owned.find, without url
function owned.starting(ctx)
  local all, known = {}, {}
  local log_path, processes = file.realpath(log.path(ctx)), core.root.open("/proc")
  if not log_path or not processes then return all end
  local announced = owned.find(ctx)
  if announced then
    known[announced.pid] = true
    for _, identity in ipairs(owned.descendants(announced.pid)) do known[identity.pid] = true end
  end
  for _, entry in ipairs(processes:list(".") or {}) do
    local pid = math.tointeger(tonumber(entry.name))
    if pid and not known[pid] and is_started_by_us(pid, log_path) then
      all[#all + 1] = as_starting(ctx, pid)
    end
  end
  processes:close()
  return all
end

-- ---- stopping ----------------------------------------------------------------------------------

--- Every process that a process has started, and those have started, as identities.
---@param pid integer
---@return table[] identities
function owned.descendants(pid)
  local found, queue = {}, { pid }
  while #queue > 0 do
    for _, child in ipairs(system.children(table.remove(queue)) or {}) do
      local identity = process.identity(child)
      if identity then
        found[#found + 1] = identity
        queue[#queue + 1] = child
      end
    end
  end
  return found
end

-- Returns whether it is gone; nil, message, code when `may_interrupt` and somebody did.
local function wait_gone(identity, seconds, may_interrupt)
  local deadline = system.monotonic() + seconds
  local pause = POLL_FIRST
  while process.same(identity) do
    local left = deadline - system.monotonic()
    if left <= 0 then return false end
    if may_interrupt and system.interrupted() then
      return nil, "interrupted while it was ending", "EINTR"
    end
    system.sleep(math.min(pause, left))
    pause = math.min(pause * 1.5, POLL_LONGEST)
  end
  return true
end

-- Signals the process if it is still the proven one. ESRCH: it went in this very moment.
local function send(found, signal)
  if not process.same(found.identity) then return true end
  local sent, problem, code = system.signal(found.leads_group and -found.pid or found.pid, signal)
  if sent or code == "ESRCH" then return true end
  return nil, problem, code
end

-- Sends the signal and waits. Returns whether it is gone; nil, message, code when not permitted.
local function signal_and_wait(found, signal, seconds, may_interrupt)
  local sent, problem, code = send(found, signal)
  if not sent then return nil, problem, code end
  return wait_gone(found.identity, seconds, may_interrupt)
end

--- Ends what a server that is gone had started and left behind.
---@param identities table[] of owned.descendants, taken while it ran
function owned.end_leftovers(identities)
  for _, identity in ipairs(identities) do
    if process.same(identity) then system.signal(identity.pid, "KILL") end
  end
  for _, identity in ipairs(identities) do wait_gone(identity, KILL_WAIT) end
end

--- Stops a server that find has proven: SIGTERM (to its group only if it leads one of its own),
--- after the grace SIGKILL; then what it had started and left, a browser for one. Its state file
--- goes with it.
---@param ctx table
---@param found table of find
---@param grace number? seconds, 10
---@param may_interrupt boolean? a noted signal ends the wait, for one that is stopped by hand; an
---  upgrade and its rollback wait to the end
---@return table|nil { stopped = true, pid, transport, signal = "TERM"|"KILL", seconds }
---@return string? message
---@return string? code errno, "EINTR", or "ETIMEDOUT" when it survives SIGKILL
function owned.stop(ctx, found, grace, may_interrupt)
  local began = system.monotonic()
  local leftovers = owned.descendants(found.pid)
  local used = "TERM"
  local gone, problem, code = signal_and_wait(found, used, grace or GRACE, may_interrupt)
  if gone == false then
    used = "KILL"
    gone, problem, code = signal_and_wait(found, used, KILL_WAIT, may_interrupt)
  end
  if not gone then
    local message = "the server (process %d) cannot be stopped: %s. Stop it by hand and try again"
    problem = problem or "it is still there after SIGKILL, it may hang in the kernel"
    return nil, message:format(found.pid, problem), code or "ETIMEDOUT"
  end
  owned.end_leftovers(leftovers)
  state_file.forget(ctx, found.pid)
  return {
    stopped = true,
    pid = found.pid,
    transport = found.transport,
    signal = used,
    seconds = system.monotonic() - began,
  }
end

return owned
