--- `praxlua server probe`: the installed code, started privately and looked at closely.
local clock = require("praxlua.clock")
local ends = require("praxlua.cli.server.ends")
local inspect = require("praxlua.server.inspect")
local text = require("praxlua.text")
local view = require("praxlua.cli.server.view")

local probe = {}

local function verdict(data)
  local bad = 0
  for _, call in ipairs(data.calls or {}) do
    if call.status == "failed" then bad = bad + 1 end
  end
  if bad > 0 then
    return ends.failed(text.plural(bad, "call") .. " failed; see above",
      "mend that, and try again: praxlua server probe --smoke")
  end
  if data.tools_registered == 0 then
    return ends.failed("the server answers, and has no tools",
      "look why it registers none; try again with: praxlua server probe")
  end
  return { exit_code = 0, message = ("The installed code works: version %s, %s, after %s."):format(
    data.server_version or "unknown", text.plural(data.tools_registered, "tool"),
    clock.seconds(data.seconds)) }
end

--- Starts the installed code, lists its tools and calls some of them. The caller holds the lock:
--- the state file of the running server is set aside meanwhile.
---@param ctx table
---@param args { smoke: boolean? }
---@param v table of view.new
---@return table result for view.finish
function probe.look(ctx, args, v)
  ctx.progress("starting the installed code privately")
  local data, message, _, command = inspect.installed(ctx, { smoke = args.smoke,
    declared = ctx.options.project and ctx.options.project.smoke })
  if not data then
    return ends.failed("the installed code does not answer when it is started: " .. message,
      command and "try it by hand: " .. command)
  end
  v.result("server probe", data, view.probe(data))
  return verdict(data)
end

return probe
