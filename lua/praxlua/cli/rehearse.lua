--- `praxlua rehearse`: an upgrade, its rollback and the upgrade again, on a private copy.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local rehearse = require("praxlua.rehearse")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

local function changed(counts)
  if not counts then return "" end
  return ("%d new, %d updated, %d merged, %d removed"):format(counts.new_files,
    counts.updated_files, counts.merged_files, counts.removed_files)
end

local function show(data)
  return function(t)
    local rows = {}
    for i, step in ipairs(data.steps) do
      rows[i] = { step.exit_code == 0 and { "green", "ok" } or { "red", "failed" }, step.name,
        clock.seconds(step.seconds), changed(step.counts) }
    end
    t.table(rows, { indent = 2, right = { [3] = true } })
    for _, difference in ipairs(data.differences) do
      t.line({ "red", difference.what }, "  ", text.visible(difference.path), "  ",
        { "dim", "between " .. difference.between })
    end
  end
end

--- `praxlua rehearse`
---@param args table
---@return integer exit code
function commands.rehearse(args)
  local v = view.new(args)
  local phases = {}
  for i, path in ipairs(args.phases) do phases[i] = core.file.realpath(path) or path end
  local result, data = rehearse.run({
    source = args.source and (core.file.realpath(args.source) or args.source),
    target = args.target, phases = phases,
    on_conflict = args.on_conflict, allow_downgrade = args.allow_downgrade or nil,
    health_timeout = args.health_timeout, allow_source_phases = args.allow_source_phases or nil,
    min_isolation = args.min_isolation, driver = args.driver,
  }, { emit = v.emit })
  if data then v.result("rehearse", data, show(data)) end
  return v.finish(result)
end

return commands
