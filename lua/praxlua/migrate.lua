--- `praxlua migrate`: an installation gets its present folder name, or its older one back.
--
-- This is a run of its own and no phase: the journal, the lock and the backups of an upgrade lie in
-- the folder that moves, so an upgrade could not be undone from a name that it had just given away.
-- The move itself is migration.lua's.
local backup = require("praxlua.backup")
local core = require("praxlua.core")
local gitignore = require("praxlua.gitignore")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local migration = require("praxlua.migration")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")
local text = require("praxlua.text")

local migrate = {}

local function refused(message, next_step)
  return { exit_code = 3, status = "refused", message = message, next = next_step }
end

local function context(r)
  return {
    target = r.target, project = r.project, target_name = r.target_name,
    options = { project = r.options.project },
    memory = {}, session = state.session.new(), emit = r.emit,
    progress = function(message, fraction)
      r.emit({ event = "phase_progress", phase = "migration", text = message, fraction = fraction })
    end,
    warn = function(message) r.emit({ event = "warning", message = message }) end,
  }
end

-- The installation of the other name beside this one.
local function other_of(r)
  for _, name in ipairs(layout.FOLDERS) do
    local other = r.project .. "/" .. name
    if name ~= r.target_name and core.file.exists(other) and layout.recognise_target(other) then
      return text.visible(other)
    end
  end
end

-- Why it is nothing that this command moves; nil when it is.
local function objection(r)
  local recognised, problem = layout.recognise_target(r.target)
  if not recognised then
    local other = other_of(r)
    return refused(problem, other and ("%s is one; move %s away, and run this again"):format(other,
      text.visible(r.target)))
  end
  if not lists.has(layout.FOLDERS, r.target_name) then
    return refused(("the installation is called %s, and only %s are moved here, so that there is a "
      .. "way back"):format(text.visible(r.target_name), table.concat(layout.FOLDERS, " and ")),
      "rename the folder yourself, and the lines of .gitignore that name it")
  end
end

-- Why it cannot be done; nil when nothing speaks against it.
local function obstacle(r, ctx, to)
  local there = core.file.stat(r.project .. "/" .. to)
  if there then
    return refused(("%s is there already (a %s); two installations are not made into one"):format(
      text.visible(r.project .. "/" .. to), there.type), "look which of the two is in use, and "
      .. "move the other one away")
  end
  if not core.system.access(r.project, "w") then
    return refused("the project " .. text.visible(r.project) .. " cannot be written, and the "
      .. "folder is renamed in it", "check its permissions")
  end
  local found = server.find(ctx)
  if found then
    return refused(("the server of this installation runs (process %d, %s) and works with files "
      .. "under the old name"):format(found.pid, found.transport),
      "stop it, or close the editor that started it, and run this again")
  end
end

-- The lines of the .gitignore that change, and the lines elsewhere that a person has to look at.
local function findings(project, from, to)
  local data = gitignore.text(project)
  local lines, after = json.array({}), data and gitignore.rename(data, from, to) .. "\n"
  if data then
    local next_line = after:gmatch("(.-)\r?\n")
    for line in (data .. "\n"):gmatch("(.-)\r?\n") do
      local renamed = next_line()
      if renamed ~= line then lines[#lines + 1] = text.visible(renamed) end
    end
  end
  local others, changed = json.array({}), {}
  for _, line in ipairs(lines) do changed[line] = true end
  for _, reference in ipairs(migration.references(project, from)) do
    local renamed = gitignore.rename(reference.text, from, to)
    if reference.path ~= ".gitignore" or not changed[renamed] then
      others[#others + 1] = reference
    end
  end
  return lines, others
end

local function next_steps(data, moved, options)
  local named = options.target and " --target " .. text.quoted(moved) or ""
  local upgrade = "upgrade it with: praxlua upgrade" .. named .. " --source DIR"
  if #data.references == 0 then return upgrade end
  return ("change the name in the %s above, and start your editor's server again; then %s"):format(
    #data.references == 1 and "line" or text.plural(#data.references, "line"), upgrade)
end

local function failure(message, code)
  if code == "EUNDO" then
    return { exit_code = 5, status = "rollback_failed", message = "the move failed: " .. message,
      next = "mend the cause and run any praxlua command that changes the installation, praxlua "
        .. "migrate for one: it takes the move back or finishes it first" }
  end
  return { exit_code = 1, status = "rolled_back",
    message = "the move failed: " .. message .. "\nThe installation is as before.",
    next = "mend the cause and run it again" }
end

local function back_up(ctx)
  local made, message = backup.create_backup(ctx)
  if made then return made end
  local signal = core.system.interrupted()
  if signal then
    return nil, { exit_code = run.SIGNAL_EXITS[signal], status = "interrupted",
      message = "Interrupted; nothing is left of what was begun." }
  end
  return nil, refused("no backup could be made, so nothing was changed: " .. message,
    "mend the cause and run it again")
end

-- Whoever means the one beside it must name it.
local function already(r, ctx)
  local other = other_of(r)
  if other then
    ctx.warn(other .. " is an installation, too, and is not used unless --target names it; look "
      .. "which of the two is in use, and move the other one away")
  end
  return { exit_code = 0, status = "nothing_to_do",
    message = ("%s is called %s already."):format(text.visible(r.target), r.target_name) }
end

--- Moves the installation of an open run to another name in its project.
---@param r table of run.open; afterwards its paths are no longer right
---@param options { to: string, dry_run: boolean? } to: one of layout.FOLDERS
---@param ui { show: fun(data: table)? } data: { from, to, backup?, gitignore = lines as they are
---  then, references = { { path, line, text } } }
---@return table result
function migrate.run(r, options, ui)
  local ctx, from, to = context(r), r.target_name, options.to
  local refusal = objection(r)
  if refusal then return refusal end
  if from == to then return already(r, ctx) end
  refusal = obstacle(r, ctx, to)
  if refusal then return refusal end
  local data = { from = from, to = to }
  data.gitignore, data.references = findings(r.project, from, to)
  if options.dry_run then
    if ui.show then ui.show(data) end
    return { exit_code = 0, status = "completed",
      message = ("%s can become %s; nothing was changed."):format(text.visible(from), to) }
  end
  local made, problem = back_up(ctx)
  if not made then return problem end
  data.backup = to .. made.backup_path:sub(#from + 1)
  local moved, message, code = migration.move(r.target, to)
  if not moved then return failure(message, code) end
  if ui.show then ui.show(data) end
  return { exit_code = 0, status = "completed", next = next_steps(data, moved, options),
    message = ("%s is %s now. The way back: praxlua migrate --to %s"):format(text.visible(from), to,
      text.visible(from)) }
end

return migrate
