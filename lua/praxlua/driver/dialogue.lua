--- A conversation with a program that asks: its lines are read as they come, its prompts answered
-- over its standard input, within limits of time, output and silence.
--
-- A prompt is a line without an end. Whether the program waits behind it cannot be seen: a known
-- one is answered at once, and one that nobody knows counts as a question when nothing follows it.
local core = require("praxlua.core")
local process = require("praxlua.process")

local dialogue = {}

local GRACE = 1        -- seconds between SIGTERM and SIGKILL
local DRAIN = 0.2      -- seconds for what a stopped program had still to say
local STDERR = 4096    -- bytes kept of the end of standard error
local LINE = 64 * 1024 -- bytes of a line

local function remaining(deadline) return math.max(0, deadline - core.system.monotonic()) end

-- Cuts the text that has come into lines; what is left is the beginning of the next one.
local function take_lines(talk, chunk)
  talk.size = talk.size + #chunk
  if talk.size > talk.options.output then return nil, "it writes more than is read", "EFBIG" end
  local rest = talk.tail .. chunk
  local from = 1
  for line, next_from in rest:gmatch("([^\n]*)\n()") do
    talk.options.on_line(line)
    from = next_from
  end
  talk.tail = rest:sub(from)
  if #talk.tail > LINE then return nil, "it writes a line without end", "EFBIG" end
  return true
end

-- Answers what the unfinished line asks, if that is known. Afterwards the line counts as read.
local function answer(talk)
  if talk.tail == "" then return true end
  local reply, message = talk.options.on_prompt(talk.tail)
  if not reply then
    if message then return nil, message, "EPROMPT" end
    return true
  end
  talk.tail = ""
  local sent, problem, code = talk.child:write(reply .. "\n", remaining(talk.deadline))
  if sent or code == "EPIPE" then return true end -- how it ended is told by the end
  return nil, problem, code
end

local function unanswered(talk)
  if talk.tail == "" then return nil, "it does not end", "ETIMEDOUT" end
  return nil, talk.tail, "EUNKNOWN"
end

-- Reads until both streams are at their end.
local function listen(talk)
  while true do
    local left = remaining(talk.deadline)
    local seconds = talk.tail ~= "" and math.min(left, talk.options.silence) or left
    local stream, chunk, code = talk.child:read(seconds)
    local done, message = true, nil
    if stream == "stderr" then
      talk.stderr = (talk.stderr .. chunk):sub(-STDERR)
    elseif stream then
      done, message, code = take_lines(talk, chunk)
      if done then done, message, code = answer(talk) end
    elseif code == "EPIPE" then
      return true
    elseif code == "ETIMEDOUT" then
      return unanswered(talk)
    else
      return nil, chunk, code
    end
    if not done then return nil, message, code end
    if remaining(talk.deadline) == 0 then return nil, "it does not end", "ETIMEDOUT" end
  end
end

local function drain(talk)
  local deadline = core.system.monotonic() + DRAIN
  local stream, chunk
  repeat
    stream, chunk = talk.child:read(remaining(deadline))
    if stream == "stderr" then talk.stderr = (talk.stderr .. chunk):sub(-STDERR) end
  until not stream
end

--- Runs a program and talks with it until its end.
---@param options table
--   argv, directory, environment, confine: as for process.run
--   seconds: all the time it has; silence: how long after an unfinished line that is a question
--   output: bytes of standard output
--   on_line: function(line), without its end
--   on_prompt: function(text): the answer; nil when the text is no known question (yet); nil and a
--     message when it must not be asked
---@return table|nil result { code, signal, stderr (its end) }
---@return string|nil message for EUNKNOWN the question itself
---@return string|nil code EUNKNOWN (a question that nobody knows), EPROMPT (on_prompt refused),
--   ETIMEDOUT, EFBIG, EINTR, or why it could not be started
---@return string|nil stderr with a failure: the end of what it said there
function dialogue.run(options)
  local child <close>, message, code = process.start({
    argv = options.argv, directory = options.directory, environment = options.environment,
    confine = options.confine, stdin = "pipe", stdout = "pipe", stderr = "pipe",
  })
  if not child then return nil, message, code end
  local talk = { child = child, options = options, tail = "", stderr = "", size = 0,
    deadline = core.system.monotonic() + options.seconds }
  local heard
  heard, message, code = listen(talk)
  local ended
  if heard then
    if talk.tail ~= "" then options.on_line(talk.tail) end
    ended, message, code = child:wait(remaining(talk.deadline) + GRACE)
    if ended then
      ended.stderr = talk.stderr
      return ended
    end
  end
  child:stop(GRACE)
  drain(talk)
  return nil, message, code, talk.stderr
end

return dialogue
