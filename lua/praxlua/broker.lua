--- The broker: runs one phase in a worker process and does what it asks, as far as it was granted.
--
-- The worker has nothing but its channel. Every call on it is a verb (praxlua.verbs); the broker
-- runs it, answers, and notes a receipt. How the phase ended is a verdict (praxlua.verdict). A
-- phase's limits of time, output and messages are held here, also while a host call runs.
local core = require("praxlua.core")
local foretold = require("praxlua.verbs.foretold")
local isolation = require("praxlua.isolation")
local json = require("praxlua.json")
local reference = require("praxlua.verbs.reference")
local verbs = require("praxlua.verbs")
local verdict = require("praxlua.verdict")

local broker = {}

-- The verbs whose text people are to read; it counts as output.
local OUTPUT = { ask = true, log = true, progress = true, warn = true }

-- Seconds for a process to end whose channel has come to its end.
local PATIENCE = 1

-- The verb that waits for a person, whose time is not the phase's.
local WAITING = "ask"

-- Notes a receipt. Only the last answer of a verb is ever asked for; all of them would fill memory.
-- What a dry run only foretells was not done.
local function note(p, verb, ok, seconds, answer)
  local not_run = p.overlay and foretold.VERBS[verb] ~= nil or nil
  local receipt = { verb = verb, ok = ok and not not_run, seconds = seconds, not_run = not_run }
  if receipt.ok then
    if p.last[verb] then p.last[verb].answer = nil end
    p.last[verb], receipt.answer = receipt, answer
  end
  p.receipts[#p.receipts + 1] = receipt
end

-- Runs a verb. The first result tells the worker whether the rest are results or an error.
local function serve(p, verb, ...)
  local run = p.granted[verb]
  local began = core.system.monotonic()
  local left = verb == WAITING and math.huge or math.max(0, p.deadline - began)
  local results = table.pack(core.cancel.within(left, xpcall, run, function(problem)
    if type(problem) == "table" and problem.misuse then return problem end
    return debug.traceback(tostring(problem), 2)
  end, ...))
  local ok = results[1] and (results[2] ~= nil or results[3] == nil)
  note(p, verb, ok, core.system.monotonic() - began, results[2])
  if not results[1] then
    local problem = results[2]
    if type(problem) == "table" then return false, problem.misuse, "EMISUSE" end
    return false, string.format("host.%s: internal error: %s", verb, problem), "EINTERNAL"
  end
  if not ok then return false, tostring(results[3]), results[4] or "EUNKNOWN" end
  return true, table.unpack(results, 2, results.n)
end

-- A value as it crosses the channel: JSON's null is simply absent there.
local function crossing(value)
  if value == json.null then return nil end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, of in pairs(value) do copy[key] = crossing(of) end
  return copy
end

-- Sends something: a worker that does not read has no longer for it than for all else.
local function in_time(p, send, ...)
  return core.cancel.within(math.max(0, p.deadline - core.system.monotonic()), send, ...)
end

local function answer(p, ...)
  local values = table.pack(...)
  for i = 1, values.n do values[i] = crossing(values[i]) end
  local worker <const> = p.worker
  local ok, message, code = in_time(p, worker.send, worker, "answer",
    table.unpack(values, 1, values.n))
  if ok or code ~= "EVALUE" then return ok, message end
  return in_time(p, worker.send, worker, "answer", false, "the answer " .. message, code)
end

-- The answer goes to the worker; a call that goes beyond the phase's grants ends the phase.
local function reply(p, ok, message, code, ...)
  if not ok and code == "EGRANT" then
    p.denied = { verdict = "denied:grant", message = message }
    return true
  end
  return answer(p, ok, message, code, ...)
end

local function failed_receive(p, message, code)
  if code == "EPIPE" then return verdict.ended(p.worker:wait(PATIENCE), p.limits.cpu) end
  if code == "ETIMEDOUT" then return verdict.limit("wall", p.limits.wall) end
  if code == "EINTR" then return { verdict = "interrupted", message = "it was interrupted" } end
  local kind = code == "EMSGSIZE" and "protocol:oversize" or "protocol:bad-frame"
  return { verdict = kind, message = message }
end

local LONGEST = 8192 -- bytes of a script's error message that are kept

local function shortened(message)
  if #message <= LONGEST then return message end
  return message:sub(1, LONGEST) .. (" … (%d bytes)"):format(#message)
end

-- What a worker says of its use, when it is a number of things.
local function counted(value)
  return math.type(value) == "integer" and value >= 0 and value or nil
end

-- The outcome that a frame of the worker tells, or nil when it is a call.
local function told(frame)
  local kind = frame[1]
  if kind == "result" then
    return { verdict = "ok", evidence = frame[2], used = counted(frame[3]),
      peak = counted(frame[4]) }
  elseif kind == "error" then
    return { verdict = "error", message = shortened(tostring(frame[2])) }
  elseif kind == "verdict" then
    local name = type(frame[2]) == "string" and frame[2]:match("^limit:(.*)$")
    return name and math.type(frame[3]) == "integer"
      and verdict.limit(name, frame[3], counted(frame[4]), counted(frame[5]))
      or { verdict = "protocol:bad-frame", message = "the worker sent a verdict that is none" }
  elseif kind ~= "call" then
    return { verdict = "protocol:bad-frame", message = "the worker sent a frame out of turn" }
  end
end

-- A worker that no longer takes an answer: a limit may have ended it while it waited for one.
local function last_words(p)
  local frame = table.pack(p.worker:receive(0))
  return frame[1] and told(frame) or verdict.ended(p.worker:wait(PATIENCE), p.limits.cpu)
end

-- The bytes of all texts in a value.
local function text_size(value)
  if type(value) == "string" then return #value end
  local size = 0
  for _, of in pairs(type(value) == "table" and value or {}) do size = size + text_size(of) end
  return size
end

-- Counts a call: nil, or the outcome when it is one too many.
local function charge(p, verb, ...)
  p.messages = p.messages + 1
  if OUTPUT[verb] then p.output = p.output + text_size({ ... }) end
  for _, name in ipairs({ "messages", "output" }) do
    if p[name] > p.limits[name] then return verdict.limit(name, p.limits[name], p[name]) end
  end
end

-- A call that was not granted ends the phase, whatever it would make of the refusal.
local function check_grant(p, verb)
  if p.granted[verb] then return nil end
  return { verdict = "denied:grant", message = ("host.%s was not granted to this phase: %s")
    :format(tostring(verb), reference.grant_of(verb)) }
end

-- Serves one call: nil to go on, or the outcome.
local function serve_one(p, frame)
  local outcome = check_grant(p, frame[2]) or charge(p, table.unpack(frame, 2, frame.n))
  if outcome then return outcome end
  local began = core.system.monotonic()
  local results = table.pack(serve(p, table.unpack(frame, 2, frame.n)))
  if frame[2] == WAITING then
    p.deadline = p.deadline + (core.system.monotonic() - began)
  end
  local taken = reply(p, table.unpack(results, 1, results.n))
  if core.system.interrupted() then
    return { verdict = "interrupted", message = "it was interrupted" }
  end
  if p.denied then return p.denied end
  if core.system.monotonic() >= p.deadline then return verdict.limit("wall", p.limits.wall) end
  if not taken then return last_words(p) end
end

local function serve_until_end(p)
  while true do
    local left = math.max(0, p.deadline - core.system.monotonic())
    local frame = table.pack(p.worker:receive(left))
    if frame[1] == nil then return failed_receive(p, frame[2], frame[3]) end
    local outcome = told(frame) or serve_one(p, frame)
    if outcome then return outcome end
  end
end

-- Starts a worker and tells it what to run. A worker that is gone by then has left its verdict.
local function start(p, phase, context)
  local worker, level, code = isolation.start(phase.limits)
  if not worker then
    local kind = code == "EISOLATION" and "denied:isolation" or code == "EINTR" and "interrupted"
    return { verdict = kind or "error", message = "start a worker: " .. level }
  end
  p.worker, p.level = worker, level
  local sent, problem
  sent, problem, code = in_time(p, isolation.tell, worker, "run", phase.file, phase.source,
    crossing(context))
  if not sent and code == "EVALUE" then
    return { verdict = "error", message = "start a worker: " .. problem }
  end
end

--- Runs a phase to its end.
---@param phase table from praxlua.phases
---@param ctx table the run's context; ctx.artifacts are the evidence of earlier phases
---@return { verdict: string, evidence: any, message: string?, limit: number?, used: number?,
---  peak: number?, seconds: number, receipts: table[], isolation: string? } outcome
function broker.run(phase, ctx)
  local began = core.system.monotonic()
  local granted = verbs.granted(ctx, phase.grants)
  local p = { granted = granted, receipts = {}, last = {}, limits = phase.limits, messages = 0,
    output = 0, deadline = began + phase.limits.wall, overlay = ctx.overlay ~= nil }
  local outcome = start(p, phase, { known = reference.names(), artifacts = ctx.artifacts,
    options = ctx.options }) or serve_until_end(p)
  if p.worker then p.worker:stop() end
  outcome.receipts, outcome.isolation = p.receipts, p.level
  outcome.seconds = core.system.monotonic() - began
  return outcome
end

return broker
