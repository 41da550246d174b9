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

-- Writes it; the result for the command line, and what was done.
local function make(target, args)
  if core.file.exists(target .. "/" .. project_file.NAME) and not args.force then
    return exists(target)
  end
  local found, refusal = write.look(target,
    args.source and (core.file.realpath(args.source) or args.source))
  if not found then return refusal end
  local data = write.text(found, clock.iso():sub(1, 10))
  local settings, message = project_file.parse(data, found.layout)
  if not settings then return failed(message) end
  local ok, kept, code = write.put(target, data, args.force)
  if not ok then return code == "EEXIST" and exists(target) or failed(kept) end
  return { exit_code = 0 }, { path = target .. "/" .. project_file.NAME, kept = kept,
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

-- Nobody else writes into the installation meanwhile.
local function with_lock(target, use)
  local lock, message, code = core.lock.acquire(target)
  if not lock and code == "EBUSY" then
    return { exit_code = 6, status = "busy", message = "an upgrade of this installation is running",
      next = "wait for it, or look at it with: praxlua status" }
  elseif not lock then
    return failed(message)
  end
  local results = table.pack(pcall(use))
  lock:release()
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- `praxlua init`
---@param args table
---@return integer exit code
function commands.init(args)
  local v = view.new(args)
  local target, refusal = run.find_target(args.target)
  if not target then return v.finish(refusal) end
  local result, made = with_lock(target, function() return make(target, args) end)
  if made then v.result("init", made, function(t) show(made, t) end) end
  if made and not v.json then return 0 end
  return v.finish(result)
end

return commands
