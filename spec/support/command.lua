--- Runs programs for the integration tests through plain sh: synchronously, or in the background
-- with the real pid of the program, so that a test can kill exactly that one process.
local cjson = require("cjson")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local command = {}

--- One word for sh, whatever bytes it has.
---@param word string
---@return string
function command.quote(word)
  return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

local function words(argv)
  local quoted = {}
  for i, word in ipairs(argv) do quoted[i] = command.quote(word) end
  return table.concat(quoted, " ")
end

local function assignments(environment)
  local list = {}
  for name, value in pairs(environment or {}) do list[#list + 1] = name .. "=" .. value end
  table.sort(list)
  return words(list)
end

local count = 0

-- The files a run writes: pid, stdout, stderr, and its exit code when it ended.
local function places(scratch)
  count = count + 1
  local base = ("%s/run-%d"):format(scratch, count)
  return {
    pid = base .. ".pid", out = base .. ".out", err = base .. ".err", code = base .. ".code",
  }
end

-- `exec`s down to the program, so that the pid written first is the program's own.
local function line(argv, options, at)
  return ("cd %s && exec env %s %s /bin/sh -c 'echo $$ >\"$0\"; exec \"$@\"' %s %s"):format(
    command.quote(options.directory or "."),
    options.environment and "-i" or "",
    assignments(options.environment),
    command.quote(at.pid),
    words(argv)
  )
end

---@class Run
---@field scratch string directory for the output files
---@field directory string? working directory
---@field environment table<string, string>? the exact environment; nil: this process's
---@field seconds number? time limit, 120 by default

--- Starts a program in the background.
---@param argv string[]
---@param options Run
---@return table run to be passed to wait, kill, events
function command.start(argv, options)
  local at = places(options.scratch)
  local script = ("( ( %s ) >%s 2>%s </dev/null; echo $? >%s.new; mv %s.new %s ) >/dev/null 2>&1 &")
    :format(line(argv, options, at), command.quote(at.out), command.quote(at.err),
      command.quote(at.code), command.quote(at.code), command.quote(at.code))
  assert(os.execute(script))
  local run = { at = at, argv = argv, seconds = options.seconds or 120 }
  assert(command.until_true(function()
    run.pid = tonumber(helper.read(at.pid) or "")
    return run.pid
  end, 10), "did not start: " .. argv[1] .. "\n" .. (helper.read(at.err) or ""))
  return run
end

--- Polls a condition every few milliseconds.
---@param condition fun(): any
---@param seconds number
---@param longest number? seconds between two looks at something that takes long already; each look
--- costs the tests time of a processor
---@return any value what the condition returned, or nil when the time was over
function command.until_true(condition, seconds, longest)
  local began = core.system.monotonic()
  local now = began
  repeat
    local value = condition()
    if value then return value end
    core.system.sleep(math.max(0.004, math.min((now - began) / 20, longest or 0)))
    now = core.system.monotonic()
  until now > began + seconds
  return nil
end

--- Sends a signal to the program of a run, and to nothing else.
---@param run table
---@param name string "KILL", "TERM", ...
function command.kill(run, name)
  if helper.read(run.at.code) then return end
  os.execute(("kill -%s %d 2>/dev/null"):format(name, run.pid))
end

--- Waits for the end of a run.
---@param run table
---@return { code: integer, stdout: string, stderr: string }
function command.wait(run)
  local code = command.until_true(function() return helper.read(run.at.code) end, run.seconds, 0.03)
  if not code then
    command.kill(run, "KILL")
    error(("%s took longer than %d s\n%s"):format(table.concat(run.argv, " "), run.seconds,
      helper.read(run.at.err) or ""), 2)
  end
  return {
    code = tonumber(code),
    stdout = helper.read(run.at.out),
    stderr = helper.read(run.at.err),
    argv = run.argv,
  }
end

--- Runs a program to its end.
---@param argv string[]
---@param options Run
---@return { code: integer, stdout: string, stderr: string }
function command.run(argv, options)
  return command.wait(command.start(argv, options))
end

--- Runs a program that has to succeed.
---@return string stdout
function command.succeed(argv, options)
  local result = command.run(argv, options)
  if result.code ~= 0 then
    error(("%s: exit %d\n%s%s"):format(table.concat(argv, " "), result.code, result.stdout,
      result.stderr), 2)
  end
  return result.stdout
end

--- The complete JSON lines a run has written on stdout so far; a line that is no JSON object is
--- an error.
---@param text string
---@return table[] events in order
function command.events(text)
  local events = {}
  for one in text:gmatch("([^\n]*)\n") do
    local ok, event = pcall(cjson.decode, one)
    if not ok or type(event) ~= "table" then error("not an event line: " .. one, 2) end
    events[#events + 1] = event
  end
  return events
end

--- Waits until a running program has written an event the test looks for.
---@param run table
---@param wanted fun(event: table): boolean
---@return table|nil event nil when the program ended or the time was over first
function command.await(run, wanted)
  local size
  local found = command.until_true(function()
    local ended = lfs.attributes(run.at.code, "mode")
    local now = lfs.attributes(run.at.out, "size")
    if now ~= size then
      size = now
      for _, event in ipairs(command.events(helper.read(run.at.out) or "")) do
        if wanted(event) then return event end
      end
    end
    return ended and "ended"
  end, run.seconds)
  return type(found) == "table" and found or nil
end

return command
