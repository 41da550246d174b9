--- `praxlua run FILE.lua [ARG…]`: a script with the grants that are typed for it.
local core = require("praxlua.core")
local engine = require("praxlua.engine")
local grants = require("praxlua.grants")
local json = require("praxlua.json")
local view = require("praxlua.cli.view")

local commands = {}

local function shown(value)
  if type(value) == "string" then return value end
  if value == json.null then return "null" end
  return type(value) == "table" and json.encode(value) or tostring(value)
end

local function show(found)
  return function(t)
    local names, rows = {}, {}
    for name in pairs(found) do names[#names + 1] = name end
    table.sort(names)
    for i, name in ipairs(names) do rows[i] = { { "dim", name }, shown(found[name]) } end
    t.table(rows, { indent = 2 })
  end
end

--- `praxlua run`
---@param args table
---@return integer exit code
function commands.run(args)
  local v = view.new(args)
  local given, message = grants.parse(args.grant)
  if not given then
    return v.finish({ exit_code = 2, status = "usage", message = message,
      next = "see praxlua run --help" })
  end
  local ui = { emit = v.emit }
  ui.show = function(found) v.result("run", found, show(found)) end
  if not args.json and core.system.isatty(0) and core.system.isatty(1) then
    ui.ask = function(question, choices, default)
      return (v.terminal.ask(question, choices, default))
    end
  end
  return engine.run_script({
    file = args.file, arguments = args.arguments, grants = given, target = args.target,
    source = args.source and (core.file.realpath(args.source) or args.source),
    min_isolation = args.min_isolation,
  }, ui).exit_code
end

return commands
