--- Verdicts: how a phase ended, from a closed set, and what each means in words.
local verdict = {}

-- The kinds: with a colon, what comes behind it is listed too.
local KINDS = {
  ["ok"] = true, ["error"] = true, ["interrupted"] = true,
  ["limit"] = { instructions = true, memory = true, cpu = true, wall = true, output = true,
    messages = true },
  ["denied"] = { grant = true, ["system-call"] = true, isolation = true },
  ["protocol"] = { ["no-result"] = true, ["bad-frame"] = true, oversize = true },
  ["evidence"] = { schema = true, checkpoint = true, receipt = true },
}

--- All verdicts, "crash:SIGNAL" for those by a signal.
---@return string[] sorted
function verdict.names()
  local names = { "crash:SIGNAL" }
  for kind, details in pairs(KINDS) do
    if details == true then names[#names + 1] = kind end
    for detail in pairs(details == true and {} or details) do
      names[#names + 1] = kind .. ":" .. detail
    end
  end
  table.sort(names)
  return names
end

-- Signals by which a process ends; others are "crash:SIGNAL-n".
local SIGNALS = {
  [1] = "SIGHUP", [2] = "SIGINT", [3] = "SIGQUIT", [4] = "SIGILL", [6] = "SIGABRT", [7] = "SIGBUS",
  [8] = "SIGFPE", [9] = "SIGKILL", [11] = "SIGSEGV", [13] = "SIGPIPE", [15] = "SIGTERM",
  [24] = "SIGXCPU", [25] = "SIGXFSZ", [31] = "SIGSYS",
}

local LIMITS = {
  instructions = "it ran more than %d instructions",
  memory = "it needed more than %d bytes of memory",
  cpu = "it used more than %d seconds of CPU time",
  wall = "it took more than %g seconds",
  output = "it wrote more than %d bytes of messages",
  messages = "it made more than %d calls to the host",
}

--- Whether a text is a verdict.
---@param text any
---@return boolean
function verdict.is(text)
  if type(text) ~= "string" then return false end
  if KINDS[text] == true then return true end
  local kind, detail = text:match("^(%l+):(.+)$")
  if kind == "crash" then return detail:find("^SIG") ~= nil end
  return type(KINDS[kind]) == "table" and KINDS[kind][detail] == true
end

--- The outcome of a phase that went over a limit.
---@param name string of the limit
---@param limit number
---@param used number|nil
---@param peak integer|nil bytes of memory at most
---@return table|nil outcome { verdict, limit, used, peak, message }; nil: there is no such limit
function verdict.limit(name, limit, used, peak)
  local form = LIMITS[name]
  if not form then return nil end
  return { verdict = "limit:" .. name, limit = limit, used = used or limit, peak = peak,
    message = form:format(limit) }
end

--- The outcome of a phase whose process ended by itself.
---@param status { code: integer, signal: integer }
---@param cpu number its limit of CPU time in seconds
---@return table outcome { verdict, message }
function verdict.ended(status, cpu)
  if status.signal == 0 then
    return { verdict = "protocol:no-result", message = "it ended without a result" }
  end
  local name = SIGNALS[status.signal] or "SIGNAL-" .. status.signal
  if name == "SIGXCPU" then return verdict.limit("cpu", cpu) end
  if name == "SIGSYS" then
    return { verdict = "denied:system-call",
      message = "its process made a system call that a phase has no business with, and was ended" }
  end
  return { verdict = "crash:" .. name, message = "its process crashed (" .. name .. ")" }
end

return verdict
