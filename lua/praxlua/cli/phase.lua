--- `praxlua phase list`, `phase show ID`, `phase check FILE…` and `phase new NAME`.
local check = require("praxlua.phases.check")
local grants = require("praxlua.grants")
local json = require("praxlua.json")
local new = require("praxlua.phases.new")
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
      { { "dim", "limits" }, string.format("%g s, %d s of CPU, %.4g MiB, %d instructions",
        limits.wall, limits.cpu, limits.memory / (1 << 20), limits.instructions) },
    }
    if phase.manual then rows[#rows + 1] = { { "dim", "a person" }, phase.manual } end
    t.table(rows)
    t.line("")
    t.paragraph(phase.source)
  end)
  return { exit_code = 0 }
end

local function write_findings(t, rows)
  for _, row in ipairs(rows) do
    t.line({ row.kind == "mistake" and "red" or "yellow", row.kind .. ": " }, check.headline(row))
    if row.mend then t.line({ "dim", "  mend: " }, row.mend) end
  end
end

local function check_scripts(v, target, args)
  local report = check.files(args.files, { target = target })
  local bad = report.mistakes > 0
  local counts = text.plural(report.mistakes, "mistake") .. ", "
    .. text.plural(report.hints, "hint")
  v.result("phase check", {
    findings = json.array(report.findings), mistakes = report.mistakes, hints = report.hints,
  }, function(t)
    write_findings(t, report.findings)
    if not bad then t.line(text.plural(#args.files, "script"), ": ", counts) end
  end)
  return { exit_code = bad and 1 or 0, message = bad and counts or nil,
    next = bad and "mend them and check again; an upgrade with such a script would fail" or nil }
end

local function make_script(v, target, args)
  local made, refusal = new.write(args.name, {
    after = args.after, before = args.before, manual = args.manual, directory = args.dir,
    target = target,
  })
  if not made then return refusal end
  v.result("phase new", made, function(t)
    t.line("Wrote ", { "bold", made.path })
    t.line("  edit it; its comments say what each part is for")
    t.line("  check it      ", made.check)
    t.line("  see its place ", made.list)
    t.line("  try it        ", made.try)
  end)
  return { exit_code = 0 }
end

-- For people who write phases: these two go on where a script is wrong.
local AUTHORING = { check = check_scripts, new = make_script }

--- `praxlua phase ACTION`
---@param args table
---@return integer exit code
function commands.phase(args)
  local v = view.new(args)
  local target, refusal = run.find_target(args.target)
  if not target and args.target then return v.finish(refusal) end
  local result
  if AUTHORING[args.action] then
    result = AUTHORING[args.action](v, target, args)
  else
    local all, message, _, next_step = phases.all(target, args.phases)
    if not all then
      return v.finish({ exit_code = 1, message = message,
        next = next_step or "see all that is wrong with it: praxlua phase check FILE" })
    end
    result = args.action == "list" and list(all, v) or show(all, v, args.id)
  end
  if not v.json and result.exit_code == 0 then return 0 end
  return v.finish(result)
end

return commands
