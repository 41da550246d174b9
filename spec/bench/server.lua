--- What a restart costs over the server's own start: from the moment at which no server runs until
-- the new one has answered tools/list, in turns with the same server started by hand and asked as
-- often as a loop can.
local ask = require("praxlua.server.ask")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local owned = require("praxlua.server.owned")
local server = require("praxlua.server")

local system = core.system

local ROUNDS = 9
local BAR = 200 -- milliseconds

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

local function stop(ctx) assert(owned.stop(ctx, assert(owned.find(ctx)))) end

-- Seconds until the server answers that is started here.
local function by_hand(ctx)
  local options = ask.command(ctx, "http", ctx.target)
  options.stdin, options.stdout, options.stderr, options.host = "null", "null", "null", false
  local began = system.monotonic()
  local child = assert(core.spawn.start(options))
  local answer
  repeat
    local found = owned.find(ctx)
    answer = found and ask.over_http(found, 10, ask.examine)
    if not answer then system.sleep(0.001) end
  until answer
  local seconds = system.monotonic() - began
  child:stop(10)
  return seconds
end

local function by_praxlua(ctx)
  local started = assert(server.start(ctx))
  stop(ctx)
  return started.seconds
end

local function row(what, faults)
  local ctx = kit.install({ faults = faults })
  local ours, bare = {}, {}
  by_hand(ctx) -- the first one compiles its modules
  for i = 1, ROUNDS do
    bare[i], ours[i] = by_hand(ctx), by_praxlua(ctx)
  end
  local own, whole = median(bare), median(ours)
  return {
    name = "starting a server " .. what, value = (whole - own) * 1000, unit = "ms over", bar = BAR,
    measured = ("%.0f ms"):format(whole * 1000), beside = ("%.0f ms by hand"):format(own * 1000),
  }
end

return function()
  local rows = { row("that is ready at once"), row("that takes a second", { slow_start = 1 }) }
  kit.finish()
  helper.clean()
  return rows
end
