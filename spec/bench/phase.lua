--- What a phase costs that does nothing, and what a call of the host costs.
local broker = require("praxlua.broker")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local phases = require("praxlua.phases")
local process = require("praxlua.process")

local ROUNDS, RUNS, CALLS = 10, 20, 20000

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

local function phase_of(body)
  return assert(phases.read("bench.lua", "local phase = { title = 'x', limits = { instructions = "
    .. "1e10, cpu = 600, wall = 3600 } } function phase.run(host) " .. body
    .. " return {} end return phase"))
end

local CONTEXT = {
  source = "/none", target = "/none/.praxis-os", project = "/none", target_name = ".praxis-os",
  options = {}, artifacts = {}, memory = {}, session = { completed_phases = {} },
}

local function run(phase)
  local began = core.system.monotonic()
  local outcome = broker.run(phase, CONTEXT)
  assert(outcome.verdict == "ok", outcome.message)
  return (core.system.monotonic() - began) * 1e6
end

-- Adds the times, in microseconds, that a program of ours beside this file prints.
local function add_times(times, program, ...)
  local result = assert(process.run({ argv = { (os.getenv("B") or "build") .. "/bench/" .. program,
    ... }, environment = process.environment() }))
  assert(result.code == 0, result.stderr)
  for line in result.stdout:gmatch("[^\n]+") do times[#times + 1] = tonumber(line) end
end

local function cost_of_a_phase()
  local lua = assert(process.find("lua5.4"))
  local phase, own, others = phase_of(""), {}, {}
  for _ = 1, ROUNDS do
    add_times(others, "bare", tostring(RUNS), lua, "-e", "")
    for _ = 1, RUNS do own[#own + 1] = run(phase) end
  end
  local mine, theirs = median(own) / 1e3, median(others) / 1e3
  return { name = "a phase that does nothing, over a bare fork and exec of lua5.4 -e ''",
    measured = ("%.2f ms"):format(mine), beside = ("%.2f ms"):format(theirs),
    value = mine - theirs, unit = "ms", bar = 5, ratio = mine / theirs, runs = #own }
end

-- The time between two calls is one whole round: the script's, the channel's twice, the broker's.
local function cost_of_a_call()
  local phase = phase_of(("for _ = 1, %d do host.time() end"):format(CALLS // ROUNDS))
  local own, others, last = {}, {}, nil
  local iso = clock.iso
  clock.iso = function()
    local now = core.system.monotonic()
    if last then own[#own + 1] = (now - last) * 1e6 end
    last = now
    return "now"
  end
  for _ = 1, ROUNDS do
    last = nil
    run(phase)
    add_times(others, "round", tostring(CALLS // ROUNDS))
  end
  clock.iso = iso
  local mine, theirs = median(own), median(others)
  return { name = "a call of the host, beside a bare round of a message over a socket pair",
    measured = ("%.1f µs"):format(mine), beside = ("%.1f µs"):format(theirs),
    value = mine, unit = "µs", bar = 50, ratio = mine / theirs, runs = #own }
end

return function() return { cost_of_a_phase(), cost_of_a_call() } end
