--- `praxlua backup create|list|verify|restore|prune`.
local backup = require("praxlua.backup")
local core = require("praxlua.core")
local engine = require("praxlua.engine")
local json = require("praxlua.json")
local obstacle = require("praxlua.cli.obstacle")
local restore = require("praxlua.restore")
local run = require("praxlua.run")
local state = require("praxlua.state")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

local function context(target, v)
  local project, name = run.split(target)
  return {
    target = target, project = project, target_name = name, options = {}, memory = {},
    session = state.session.new(), emit = v.emit,
    progress = function(message, fraction)
      v.emit({ event = "phase_progress", phase = "backup", text = message, fraction = fraction })
    end,
    warn = function(message) v.emit({ event = "warning", message = message }) end,
  }
end

local AGAIN = "mend the cause and run the same command again"

-- A failure as the end of a command.
local function failed(message, next_step)
  return { exit_code = 1, message = message, next = next_step or AGAIN }
end

-- The newest backup; those that restores made of what they replaced are passed over where `own` is
-- false. Or nil and the end of the command.
local function newest(ctx, own)
  local list, message = backup.list_backups(ctx)
  if not list then return nil, failed(message) end
  for _, entry in ipairs(list) do
    local session = not own and entry.session_id
      and state.load_state(ctx.target, entry.session_id)
    if not (session and restore.is_restore(session)) then return entry.name end
  end
  if list[1] then
    return nil, failed("all backups there are were made by restores, of what they replaced",
      "name one of them: praxlua backup list")
  end
  return nil, failed("there is no backup yet", "make one with: praxlua backup create")
end

local actions = {}

local MAKE_NEW = "see the others with: praxlua backup list --verify"
  .. "\nor make a new one with: praxlua backup create"

function actions.create(ctx, _, v)
  local refusal = obstacle.of(ctx.target)
  if refusal then return refusal end
  local made, message = backup.create_backup(ctx)
  if not made then return failed(message) end
  v.result("backup create", made, function() end)
  local files, size = text.plural(made.files_backed_up, "file"), text.bytes(made.backup_size_bytes)
  return { exit_code = 0,
    message = string.format("Backed up %s (%s) in %s", files, size, made.backup_path) }
end

function actions.list(ctx, args, v)
  local list, message = backup.list_backups(ctx, { verify = args.verify })
  if not list then return failed(message) end
  v.result("backup list", json.array(list), function(t)
    local rows = {}
    for i, b in ipairs(list) do
      local verdict = b.verified == true and "verified" or b.problem or "not checked"
      rows[i] = { b.name, b.timestamp or "", b.files and tostring(b.files) or "",
        b.archive_bytes and text.bytes(b.archive_bytes) or "", verdict }
    end
    t.table(rows, { header = { "backup", "made", "files", "size", "" }, right = { [3] = true,
      [4] = true } })
  end)
  for _, b in ipairs(list) do
    if b.problem then
      return { exit_code = 1, message = "a backup is not whole: " .. b.name, next = MAKE_NEW }
    end
  end
  return { exit_code = 0, message = text.plural(#list, "backup") .. "." }
end

function actions.verify(ctx, args)
  local name, result = args.name, nil
  if not name then name, result = newest(ctx, true) end
  if not name then return result end
  local ok, message, code = backup.verify_backup_integrity(ctx, name)
  if not ok then return failed(message, not backup.could_not_read(code) and MAKE_NEW or nil) end
  return { exit_code = 0, message = "The backup " .. name .. " is whole." }
end

function actions.prune(ctx, args, v)
  local pruned, message = backup.archive_old_backups(ctx, args.keep)
  if not pruned then return failed(message) end
  for _, broken in ipairs(pruned.broken or {}) do
    ctx.warn(string.format("%s did not verify and was left alone: %s", broken.name, broken.problem))
  end
  v.result("backup prune", pruned, function() end)
  return { exit_code = 0, message = string.format("Deleted %s, kept %d.",
    text.plural(pruned.archived_count, "backup"), #pruned.kept_backups) }
end

local function go_back(args, v, target)
  local name, result = args.name, nil
  if not name then name, result = newest(context(target, v), false) end
  if not name then return v.finish(result) end
  if not args.yes then
    local answer = "no"
    if core.system.isatty(0) and not args.json then
      answer = v.terminal.ask(string.format(
        "Bring %s back to the backup %s? The present state is backed up first.", target, name),
        { "yes", "no" }, "no")
    end
    if answer ~= "yes" then
      return v.finish({ exit_code = 4, status = "waiting", message = "Nothing was restored.",
        next = "confirm with: praxlua backup restore " .. name .. " --yes" })
    end
  end
  return engine.restore_backup({ target = target, backup = name }, { emit = v.emit }).exit_code
end

-- What changes the backups takes the lock that an upgrade takes.
local LOCKED = { create = true, prune = true }

--- `praxlua backup ACTION`
---@param args table
---@return integer exit code
function commands.backup(args)
  local v = view.new(args)
  local target, result = run.find_target(args.target)
  if not target then return v.finish(result) end
  if args.action == "restore" then return go_back(args, v, target) end
  local r
  if LOCKED[args.action] then
    core.system.catch_signals() -- what was begun is taken back
    r, result = run.open({ target = target }, { emit = v.emit })
    if not r then return v.finish(result) end
  end
  result = core.cancel.within(math.huge, actions[args.action], context(target, v), args, v)
  if r then run.close(r) end
  local signal = core.system.interrupted()
  if signal and result.exit_code ~= 0 then
    result = { exit_code = run.SIGNAL_EXITS[signal], status = "interrupted",
      message = args.action == "create" and "Interrupted; nothing is left of what was begun."
        or "Interrupted." }
  end
  if not v.json and result.exit_code == 0 and args.action == "list" then return 0 end
  return v.finish(result)
end

return commands
