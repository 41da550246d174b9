--- The broker: runs one phase in a worker process and does what it asks, as far as it was granted.
--
-- The worker has nothing but its channel. Every call on it is a verb (praxlua.verbs); the broker
-- runs it, answers, and notes a receipt. How the phase ended is a verdict from a closed set:
--   ok · error · limit:instructions, :memory, :cpu, :wall · crash:SIGNAL · protocol:no-result,
--   :bad-frame · interrupted
local core = require("praxlua.core")
local json = require("praxlua.json")
local resources = require("praxlua.resources")
local verbs = require("praxlua.verbs")

local broker = {}

local SIGNALS = {
  [4] = "SIGILL", [6] = "SIGABRT", [7] = "SIGBUS", [8] = "SIGFPE", [9] = "SIGKILL",
  [11] = "SIGSEGV", [15] = "SIGTERM", [24] = "SIGXCPU", [25] = "SIGXFSZ", [31] = "SIGSYS",
}

-- Runs a verb. The first result tells the worker whether the rest are results or an error.
local function serve(granted, receipts, verb, ...)
  local run = granted[verb]
  if not run then
    return false, string.format("host.%s was not granted to this phase", tostring(verb)), "EDENIED"
  end
  local began = core.system.monotonic()
  local results = table.pack(core.cancel.within(math.huge, xpcall, run, function(problem)
    if type(problem) == "table" and problem.misuse then return problem end
    return debug.traceback(tostring(problem), 2)
  end, ...))
  local ok = results[1] and (results[2] ~= nil or results[3] == nil)
  receipts[#receipts + 1] = {
    verb = verb, ok = ok, seconds = core.system.monotonic() - began, answer = results[2],
  }
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

local function answer(worker, ...)
  local values = table.pack(...)
  for i = 1, values.n do values[i] = crossing(values[i]) end
  local ok, message, code = worker:send("answer", table.unpack(values, 1, values.n))
  if ok or code ~= "EVALUE" then return ok, message end
  return worker:send("answer", false, "the answer " .. message, code)
end

local function ended(worker)
  local status = worker:wait()
  if status.signal ~= 0 then
    local name = SIGNALS[status.signal] or ("signal " .. status.signal)
    if name == "SIGXCPU" then
      return { verdict = "limit:cpu", message = "it used up its CPU time" }
    end
    return { verdict = "crash:" .. name, message = "its process crashed (" .. name .. ")" }
  end
  return { verdict = "protocol:no-result", message = "it ended without a result" }
end

local LIMIT_MESSAGES = {
  ["limit:instructions"] = "it ran more than %d instructions",
  ["limit:memory"] = "it needed more than %d bytes of memory",
  ["limit:cpu"] = "it used more than %d seconds of CPU time",
}

local function failed_receive(worker, message, code, limits)
  if code == "EPIPE" then return ended(worker) end
  if code == "ETIMEDOUT" then
    return { verdict = "limit:wall", limit = limits.wall, used = limits.wall,
      message = string.format("it took more than %g seconds", limits.wall) }
  end
  if code == "EINTR" then
    return { verdict = "interrupted", message = "it was interrupted" }
  end
  return { verdict = "protocol:bad-frame", message = message }
end

-- The outcome that a frame of the worker tells, or nil when it is a call.
local function told(frame)
  local kind = frame[1]
  if kind == "result" then
    return { verdict = "ok", evidence = frame[2], used = frame[3], peak = frame[4] }
  elseif kind == "error" then
    return { verdict = "error", message = tostring(frame[2]) }
  elseif kind == "verdict" then
    local form = LIMIT_MESSAGES[frame[2]]
    if not form or math.type(frame[3]) ~= "integer" then
      return { verdict = "protocol:bad-frame", message = "the worker sent a verdict that is none" }
    end
    return { verdict = frame[2], limit = frame[3], used = frame[4], peak = frame[5],
      message = string.format(form, frame[3]) }
  end
end

-- A worker that no longer takes an answer: a limit may have ended it while it waited for one.
local function last_words(worker)
  return told(table.pack(worker:receive(0))) or ended(worker)
end

local function serve_until_end(worker, granted, receipts, limits)
  local deadline = core.system.monotonic() + limits.wall
  while true do
    local frame = table.pack(worker:receive(math.max(0, deadline - core.system.monotonic())))
    if frame[1] == nil then return failed_receive(worker, frame[2], frame[3], limits) end
    local outcome = told(frame)
    if outcome then return outcome end
    -- The time a host call takes is not the script's: it has limits of its own.
    local began = core.system.monotonic()
    if not answer(worker, serve(granted, receipts, table.unpack(frame, 2, frame.n))) then
      return last_words(worker)
    end
    deadline = deadline + (core.system.monotonic() - began)
    if core.system.interrupted() then
      return { verdict = "interrupted", message = "it was interrupted" }
    end
  end
end

-- Starts a worker and tells it what to run. A worker that is gone by then has left its verdict.
local function start(phase, context)
  local host, message = core.system.host()
  if not host then return nil, message end
  local worker
  worker, message = core.worker.start(host, phase.limits)
  if not worker then return nil, message end
  local prelude = assert(resources.source("lua/praxlua/worker.lua"))
  local sent, problem, code = worker:send("start", prelude, "run", phase.file, phase.source,
    crossing(context))
  if sent or code ~= "EVALUE" then return worker end
  worker:stop()
  return nil, problem
end

--- Runs a phase to its end.
---@param phase table from praxlua.phases
---@param ctx table the run's context; ctx.artifacts are the evidence of earlier phases
---@return { verdict: string, evidence: any, message: string?, limit: number?, used: number?,
---  peak: number?, seconds: number, receipts: table[] } outcome
function broker.run(phase, ctx)
  local began = core.system.monotonic()
  local granted, names = verbs.granted(ctx, phase.grants)
  local receipts = {}
  local outcome
  local worker, message = start(phase,
    { verbs = names, artifacts = ctx.artifacts, options = ctx.options })
  if worker then
    outcome = serve_until_end(worker, granted, receipts, phase.limits)
    worker:stop()
  else
    outcome = { verdict = "error", message = "start a worker: " .. tostring(message) }
  end
  outcome.receipts = receipts
  outcome.seconds = core.system.monotonic() - began
  return outcome
end

return broker
