--- `praxlua init`: writes a project file from what it finds.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local project_file = require("praxlua.project_file")
local run = require("praxlua.run")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")
local write = require("praxlua.project_file.write")

local commands = {}

local function exists(target)
  return { exit_code = 2, status = "usage",
    message = ("%s/%s exists already"):format(text.visible(target), project_file.NAME),
    next = "edit that one, or write a new one with: praxlua init --force (it is kept beside)" }
end

local function failed(message)
  return { exit_code = 1, status = "failed", message = "nothing was written: " .. message,
    next = "mend the cause and run the command again" }
end

-- Writes it; what was done, or nil and the result for the command line.
local function make(target, args)
  if core.file.exists(target .. "/" .. project_file.NAME) and not args.force then
    return nil, exists(target)
  end
  local found, refusal = write.look(target,
    args.source and (core.file.realpath(args.source) or args.source))
  if not found then return nil, refusal end
  local data = write.text(found, clock.iso():sub(1, 10))
  local settings, message = project_file.parse(data, found.layout)
  if not settings then return nil, failed(message) end
  local ok, kept, code = write.put(target, data, args.force)
  if not ok then return nil, code == "EEXIST" and exists(target) or failed(kept) end
  return { path = target .. "/" .. project_file.NAME, kept = kept,
    source_path = settings.source_path, layout = found.layout.name }
end

local function show(made, t)
  t.line("Wrote ", { "bold", made.path })
  if made.kept then t.line("  the old one is ", made.kept) end
  t.line("  source        ", made.source_path or "none was found; name it as source_path")
  t.line("  edit it; its comments say what each setting is for")
  t.line("  see what an upgrade would do    ", made.source_path and "praxlua upgrade --dry-run"
    or "praxlua upgrade --source DIR --dry-run")
end

--- `praxlua init`
---@param args table
---@return integer exit code
function commands.init(args)
  local v = view.new(args)
  local target, refusal = run.find_target(args.target)
  if not target then return v.finish(refusal) end
  local made, result = run.while_locked(target, function() return make(target, args) end)
  if not made then return v.finish(result) end
  v.result("init", made, function(t) show(made, t) end)
  return v.json and v.finish({ exit_code = 0 }) or 0
end

return commands
