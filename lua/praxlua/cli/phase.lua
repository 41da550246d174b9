--- `praxlua phase list` and `phase show ID`.
local grants = require("praxlua.grants")
local json = require("praxlua.json")
local phases = require("praxlua.phases")
local run = require("praxlua.run")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

local function described(phase)
  return {
    id = phase.id, title = phase.title, number = phase.number, file = phase.file,
    after = phase.after, before = phase.before, from = phase.from or "praxlua",
    grants = phase.grants, limits = phase.limits, manual = phase.manual,
  }
end

local function list(all, v)
  local data, rows = json.array(), {}
  for i, phase in ipairs(all) do
    data[i] = described(phase)
    rows[i] = { phase.number and tostring(phase.number) or "+", phase.id, phase.title,
      phase.from or "" }
  end
  v.result("phase list", data, function(t)
    t.table(rows, { header = { "", "id", "title", "from" } })
  end)
  return { exit_code = 0 }
end

local function show(all, v, id)
  local phase = phases.find(all, math.tointeger(tonumber(id)) or id)
  if not phase then
    return { exit_code = 2, status = "usage", message = "there is no phase '" .. id .. "'",
      next = "see them all with: praxlua phase list" }
  end
  local data = described(phase)
  data.source = phase.source
  v.result("phase show", data, function(t)
    local limits = phase.limits
    local rows = {
      { { "dim", "id" }, phase.id }, { { "dim", "title" }, phase.title },
      { { "dim", "file" }, (phase.from and phase.from .. "/" or "phases/") .. phase.file },
      { { "dim", "may use" }, grants.describe(phase.grants) },
      { { "dim", "limits" }, string.format("%g s, %d s of CPU, %s, %d instructions", limits.wall,
        limits.cpu, text.bytes(limits.memory), limits.instructions) },
    }
    if phase.manual then rows[#rows + 1] = { { "dim", "a person" }, phase.manual } end
    t.table(rows)
    t.line("")
    t.paragraph(phase.source)
  end)
  return { exit_code = 0 }
end

--- `praxlua phase ACTION`
---@param args table
---@return integer exit code
function commands.phase(args)
  local v = view.new(args)
  local target, refusal = run.find_target(args.target)
  if not target and args.target then return v.finish(refusal) end
  local all, message = phases.all(target, args.phases)
  if not all then return v.finish({ exit_code = 1, message = message }) end
  local result = args.action == "list" and list(all, v) or args.action == "show"
    and show(all, v, args.id)
  if not v.json and result.exit_code == 0 then return 0 end
  return v.finish(result)
end

return commands
