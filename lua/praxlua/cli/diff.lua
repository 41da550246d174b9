--- `praxlua diff`: what an upgrade would change in each file. Reads only.
local comparison = require("praxlua.comparison")
local core = require("praxlua.core")
local people = require("praxlua.events.people")
local view = require("praxlua.cli.view")

local commands = {}

local function show(data)
  return function(t)
    for i, file in ipairs(data.files) do
      if i > 1 then t.line("") end
      people.show_difference(t, file)
    end
  end
end

--- `praxlua diff`
---@param args table
---@return integer exit code
function commands.diff(args)
  local v = view.new(args)
  core.system.catch_signals()
  local result, data = comparison.run({
    source = args.source and (core.file.realpath(args.source) or args.source),
    target = args.target, paths = args.paths,
  }, function(message) v.emit({ event = "warning", message = message }) end)
  if data then v.result("diff", data, show(data)) end
  return v.finish(result)
end

return commands
