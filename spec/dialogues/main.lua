--- Hostile dialogues with the MCP client: plays them, judges them, and writes $B/dialogues.json, of
--- a sample $B/dialogues-sample.json. Exits with 1 when one is bad, or memory grows on and on.
--
-- Environment: B (the build directory), SEED, SHARE (full: 10,000; sample: 500), COUNT (another
-- number), CASE (the number of one dialogue, which is told in full).
local core = require("praxlua.core")
local generate = require("spec.dialogues.generate")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local play = require("spec.dialogues.play")

local BUILD = os.getenv("B") or "build"
local SETTLED = 1000 -- dialogues after which memory should have found its size
local GROWTH = 8 * 1024 * 1024 -- bytes that it may differ by later
local LUA_GROWTH = 1024 * 1024 -- bytes that Lua itself may hold more: what this program notes
local COUNTS = { full = 10000, sample = 500 }

local function variable(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function say(...)
  io.write(string.format(...), "\n")
  io.flush()
end

local function note(summary, report)
  local how = report.code or "ok"
  summary.ends[how] = (summary.ends[how] or 0) + 1
  summary.transports[report.transport] = (summary.transports[report.transport] or 0) + 1
  local kind = summary.kinds[report.what] or {}
  kind[how] = (kind[how] or 0) + 1
  summary.kinds[report.what] = kind
  summary.most_cpu_seconds = math.max(summary.most_cpu_seconds, report.cpu_seconds)
  if report.seconds > summary.slowest.seconds_beyond_deadline then
    summary.slowest = {
      number = report.number, what = report.what, transport = report.transport,
      cpu_seconds = report.cpu_seconds,
      seconds_beyond_deadline = report.seconds,
    }
  end
  if report.bad then
    summary.bad[#summary.bad + 1] = report
    say("bad: %d (%s over %s): %s", report.number, report.what, report.transport, report.bad)
    say("  make dialogues SEED=%d CASE=%d", summary.seed, report.number)
  end
end

local function play_all(stage, summary)
  local began = core.system.monotonic()
  for number = 1, summary.count do
    note(summary, play.one(stage, summary.seed, number))
    if number == math.min(SETTLED, summary.count) then
      summary.memory_settled = play.memory()
      summary.lua_memory_settled = collectgarbage("count") * 1024
    end
    if number % 1000 == 0 then
      say("%d dialogues, %d bad, %.0f s, %.1f MB", number, #summary.bad,
        core.system.monotonic() - began, play.memory() / 1e6)
    end
  end
  summary.seconds = core.system.monotonic() - began
  summary.memory_end, summary.memory_peak = play.memory()
  summary.lua_memory_end = collectgarbage("count") * 1024
  summary.processes_left = play.processes() - stage.processes
end

local function one(stage, seed, number)
  local dialogue = generate.dialogue(seed, number)
  say("%d: %s over %s", number, dialogue.what, dialogue.transport)
  io.write(generate.script(dialogue):sub(1, 4000), "\n")
  local report = play.one(stage, seed, number)
  say("→ %s %s", report.code or "ok", report.message or "")
  if report.bad then say("bad: %s", report.bad) end
  return report.bad == nil
end

local function write(summary, share)
  local name = share == "full" and "/dialogues.json" or "/dialogues-sample.json"
  json.array(summary.bad)
  helper.write(BUILD .. name, json.encode(summary, { pretty = true }) .. "\n")
end

local function main()
  local seed, share = math.tointeger(variable("SEED") or 1), variable("SHARE") or "full"
  local folder = helper.tempdir()
  local stage = play.open(folder)
  local case = variable("CASE")
  local fine
  if case then
    fine = one(stage, seed, assert(math.tointeger(case)))
  else
    local summary = {
      seed = seed, count = math.tointeger(variable("COUNT") or COUNTS[share]), bad = {},
      ends = {}, kinds = {}, transports = {}, slowest = { seconds_beyond_deadline = 0 },
      most_cpu_seconds = 0,
    }
    play_all(stage, summary)
    local growth = summary.memory_end - summary.memory_settled
    local lua_growth = summary.lua_memory_end - summary.lua_memory_settled
    fine = #summary.bad == 0 and growth < GROWTH and lua_growth < LUA_GROWTH
      and summary.processes_left == 0
    say("%d dialogues in %.0f s, %d bad, %d processes left", summary.count, summary.seconds,
      #summary.bad, summary.processes_left)
    say("memory %.1f MB (Lua %.2f) after %d, %.1f (%.2f) at the end, %.1f at most",
      summary.memory_settled / 1e6, summary.lua_memory_settled / 1e6,
      math.min(SETTLED, summary.count), summary.memory_end / 1e6, summary.lua_memory_end / 1e6,
      summary.memory_peak / 1e6)
    write(summary, share)
  end
  stage.close()
  helper.clean()
  os.exit(fine and 0 or 1)
end

main()
