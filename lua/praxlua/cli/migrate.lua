--- `praxlua migrate`: another folder name for the installation.
local engine = require("praxlua.engine")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

local function show(data)
  return function(t)
    for _, line in ipairs(data.gitignore) do
      t.line("  ", { "dim", ".gitignore" }, "  ", line)
    end
    if #data.references == 0 then return end
    t.line({ "bold", ("These still name %s, and are yours to change; start your editor's server "
      .. "again then:"):format(text.visible(data.from)) })
    local rows = {}
    for i, found in ipairs(data.references) do
      rows[i] = { ("%s:%d"):format(text.visible(found.path), found.line), { "dim", found.text } }
    end
    t.table(rows, { indent = 2 })
  end
end

--- `praxlua migrate`
---@param args table
---@return integer exit code
function commands.migrate(args)
  local v = view.new({ json = args.json, quiet = args.quiet }) -- advice is not about the old name
  return engine.migrate({ target = args.target, to = args.to, dry_run = args.dry_run or nil }, {
    emit = v.emit,
    show = function(data) v.result("migrate", data, show(data)) end,
  }).exit_code
end

return commands
