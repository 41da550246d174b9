--- Running tools: a program by its argument vector, within limits of time and output, with a known
-- environment; and telling a process apart from a later one with the same number.
local core = require("praxlua.core")

local process = {}

local TIMEOUT = 60         -- seconds a tool may take unless told otherwise
local CAP = 1024 * 1024    -- bytes kept of each stream unless told otherwise
local LINE_CAP = 64 * 1024 -- a longer line reaches on_line in pieces
local GRACE = 5            -- seconds between SIGTERM and SIGKILL
local DRAIN = 2            -- seconds for the output that is left after a tool was stopped
local INTERRUPTED = "run %s: interrupted, and the program was stopped"

-- What tools are told of our environment: exact names, and beginnings of names.
local PASSED_NAMES = { "PATH", "HOME", "LANG", "TMPDIR", "REQUESTS_CA_BUNDLE" }
local PASSED_PREFIXES = { "LC_", "SSL_CERT_", "PIP_", "UV_", "npm_config_" }
for _, name in ipairs({ "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy" }) do
  PASSED_NAMES[#PASSED_NAMES + 1] = name
  PASSED_NAMES[#PASSED_NAMES + 1] = name:upper()
end

--- The variables a tool gets: the short list of this process's own, and `extra` over them.
---@param extra table<string, string|false>|nil added or replaced; false takes a variable away
---@return table<string, string> environment
function process.environment(extra)
  local all, passed = core.system.environment(), {}
  for _, name in ipairs(PASSED_NAMES) do passed[name] = all[name] end
  for name, value in pairs(all) do
    for _, prefix in ipairs(PASSED_PREFIXES) do
      if name:sub(1, #prefix) == prefix then passed[name] = value end
    end
  end
  for name, value in pairs(extra or {}) do passed[name] = value or nil end
  return passed
end

--- Variables of this process by their names; one that ends with * stands for all that begin so.
---@param names string[]
---@return table<string, string> variables
function process.variables(names)
  local found = {}
  local all = core.system.environment()
  for _, wanted in ipairs(names) do
    local beginning = wanted:match("^(.*)%*$")
    if not beginning then
      found[wanted] = all[wanted]
    else
      for name, value in pairs(all) do
        if name:sub(1, #beginning) == beginning then found[name] = value end
      end
    end
  end
  return found
end

--- Where a program is: the first executable file of that name on PATH. Relative and empty parts of
-- PATH are passed over, so a file in the working directory never stands in for a tool.
---@param name string a name without '/'
---@param environment table<string, string>|nil whose PATH (default: process.environment())
---@return string|nil path absolute
---@return string|nil message
---@return string|nil code "ENOENT"
function process.find(name, environment)
  local path = (environment or process.environment()).PATH or ""
  if name ~= "" and not name:find("[/%z]") then
    for directory in path:gmatch("[^:]+") do
      local candidate = directory:gsub("/*$", "") .. "/" .. name
      if directory:sub(1, 1) == "/" and core.spawn.executable(candidate) then return candidate end
    end
  end
  return nil, ("find the program %q: it is not on PATH (%s)"):format(name, path), "ENOENT"
end

--- Collects one stream: the first `cap` bytes, and whole lines for a callback.
local function collector(cap, on_line)
  local kept, size, truncated = {}, 0, false
  local rest = "" -- the line that has no end yet

  -- Calls on_line for what is too long for one line; returns the rest.
  local function shorten(line)
    while #line > LINE_CAP do
      on_line(line:sub(1, LINE_CAP))
      line = line:sub(LINE_CAP + 1)
    end
    return line
  end

  local function split(chunk)
    local from = 1
    for stop in chunk:gmatch("()\n") do
      on_line(shorten(rest .. chunk:sub(from, stop - 1)))
      rest, from = "", stop + 1
    end
    rest = shorten(rest .. chunk:sub(from))
  end

  local function add(chunk)
    local room = cap - size
    if #chunk > room then truncated = true end
    if room > 0 then
      kept[#kept + 1] = chunk:sub(1, room)
      size = size + math.min(#chunk, room)
    end
    if on_line then split(chunk) end
  end

  local function finish()
    if rest ~= "" then on_line(rest) end
    return table.concat(kept), truncated
  end

  return { add = add, finish = finish }
end

local function collectors(options)
  local made = {}
  for _, stream in ipairs({ "stdout", "stderr" }) do
    local on_line = options.on_line and function(line) options.on_line(stream, line) end
    made[stream] = collector(options.cap or CAP, on_line)
  end
  return made
end

--- Reads until both streams are at their end. Returns nil, or the code that stopped it.
local function collect(child, into, deadline)
  while true do
    local stream, chunk, code = child:read(math.max(0, deadline - core.system.monotonic()))
    if stream then
      into[stream].add(chunk)
      if core.system.monotonic() >= deadline then return "ETIMEDOUT" end -- however much it writes
    elseif code == "EPIPE" then
      return nil
    else
      return code, chunk
    end
  end
end

--- The program's absolute path in front of the same arguments. A path with '/' stays as it is.
local function resolve(argv, environment)
  local program = argv[1]
  if type(program) ~= "string" or program:find("/", 1, true) then return argv end
  local path, message, code = process.find(program, environment)
  if not path then return nil, message, code end
  return table.move(argv, 2, #argv, 2, { path })
end

--- The variable that tells a tool, and what descends from it, which installation it works for.
process.MARK = "PRAXLUA_TARGET"

local recorded = {} -- of the tools started from now on: { folder, target }

--- Where tools are recorded from now on while they run, and what marks them (praxlua.children).
---@param folder string|nil absolute path; nil: they are not
---@param target string|nil of the installation
function process.record_in(folder, target) recorded = { folder = folder, target = target } end

--- core.spawn.start for a tool: what may not outlive us, recorded and marked.
---@param options table as for core.spawn.start
---@return userdata|nil child
---@return string|nil message
---@return string|nil code
function process.start(options)
  assert(not options.detach, "process.start: what may outlive us is no tool")
  if not recorded.folder then return core.spawn.start(options) end
  local marked, environment = {}, {}
  for name, value in pairs(options) do marked[name] = value end
  for name, value in pairs(options.environment or {}) do environment[name] = value end
  environment[process.MARK] = recorded.target
  marked.environment, marked.record = environment, recorded.folder
  return core.spawn.start(marked)
end

--- Runs a program and waits for its end. A nonzero exit is a result, not a failure.
--
-- The program has a process group of its own; all that descends from it ends with it. When the time
-- is over, or the caller is interrupted, the group gets SIGTERM, and SIGKILL five seconds later, or
-- half a second when interrupted.
---@param options table
--   argv: array of strings; argv[1] without '/' is looked up on the PATH of `environment`
--   directory: working directory (default: ours)
--   environment: all variables the program has (default: process.environment())
--   stdin: data it reads (default: none)
--   timeout: seconds (default 60)
--   cap: bytes kept of each stream (default 1 MiB); more is read, dropped, and reported
--   on_line: function(stream, line), called as lines come, also beyond the cap
--   confine: what it may write, and whether it may reach the network (praxlua.confinement)
---@return table|nil result { code, signal, stdout, stderr, timed_out, truncated, seconds }: signal
--   is 0 unless one ended the program; timed_out: it was stopped because the time was over
---@return string|nil message
---@return string|nil code "ENOENT" and the like when it could not be started; "EINTR" when we were
--   interrupted and have stopped it
function process.run(options)
  local environment = options.environment or process.environment()
  local argv, message, code = resolve(options.argv, environment)
  if not argv then return nil, message, code end
  local started = core.system.monotonic()
  local child <close>, failed, why = process.start({
    argv = argv,
    directory = options.directory,
    environment = environment,
    stdin = options.stdin and { data = options.stdin } or "null",
    stdout = "pipe",
    stderr = "pipe",
    confine = options.confine,
  })
  if not child and why == "EINTR" then return nil, INTERRUPTED:format(argv[1]), why end
  if not child then return nil, failed, why end

  local into = collectors(options)
  local deadline = started + (options.timeout or TIMEOUT)
  local cut, problem = collect(child, into, deadline)
  local result
  if not cut then
    result, problem, cut = child:wait(math.max(0, deadline - core.system.monotonic()))
  end
  if cut then
    local ended, stuck, hung = child:stop(GRACE)
    if not ended then return nil, stuck, hung end
    if cut == "EINTR" then
      return nil, INTERRUPTED:format(argv[1]), cut
    elseif cut ~= "ETIMEDOUT" then
      return nil, ("run %s: %s"):format(argv[1], problem), cut
    end
    collect(child, into, core.system.monotonic() + DRAIN)
    result = ended
  end

  local truncated_out, truncated_err
  result.stdout, truncated_out = into.stdout.finish()
  result.stderr, truncated_err = into.stderr.finish()
  result.truncated = truncated_out or truncated_err
  result.timed_out = cut == "ETIMEDOUT"
  result.seconds = core.system.monotonic() - started
  return result
end

--- What tells this process apart from any other, now and after a restart of the machine.
---@param pid integer
---@return table|nil identity { pid, start_time, boot_id }; nil when there is no such process
function process.identity(pid)
  local found = core.system.process(pid)
  if not found then return nil end
  return { pid = pid, start_time = found.start_time, boot_id = core.system.boot_id() }
end

--- Whether the process of an identity is still alive. One that has ended and only waits to be
-- reaped is not.
---@param identity table as process.identity returned it
---@return boolean
function process.same(identity)
  if identity.boot_id ~= core.system.boot_id() then return false end
  core.spawn.reap()
  local found = core.system.process(identity.pid)
  return found ~= nil and found.start_time == identity.start_time
    and found.state ~= "Z" and found.state ~= "X"
end

return process
