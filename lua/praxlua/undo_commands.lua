--- Undo commands: what a phase has to run so that what a tool of it does outside of the transaction
--- can be taken back.
--
-- A phase registers one before the effect. It is in the session's folder, and on the disk, before
-- the phase hears of it; so whatever is cut short, a rollback knows of every effect there may be. A
-- command runs with the tools' confinement and its own time limit, the last registered first. One
-- that ran is taken from the list; a kill just before that makes it run again.
--
-- Before a rollback runs the first of them the list gets another name: from then on phases that are
-- complete may lack what they did, and there is no way forward. A rename needs no room on the disk.
local clock = require("praxlua.clock")
local confinement = require("praxlua.confinement")
local core = require("praxlua.core")
local json = require("praxlua.json")
local seal = require("praxlua.seal")
local text = require("praxlua.text")

local undo_commands = {}

local FORMAT_VERSION = 1
local NAME, RUNNING = "/undo-commands.json", "/undo-commands.running.json"
local MAX_BYTES = 1024 * 1024

--- Whether a rollback of the session has begun to run its commands.
---@param folder string the session's
---@return boolean
function undo_commands.is_rolling_back(folder) return core.file.exists(folder .. RUNNING) end

local function path_of(folder)
  return folder .. (undo_commands.is_rolling_back(folder) and RUNNING or NAME)
end

--- The commands of a session, in the order they were registered.
---@param folder string the session's
---@return { phase: string, argv: string[], timeout: number, project: boolean, network: boolean,
---  registered_at: string }[]|nil commands
---@return string? message
---@return string? code "EDAMAGED" | "EFORMAT" | errno
function undo_commands.list(folder)
  local path = path_of(folder)
  local data, message, code = core.file.read(path, MAX_BYTES)
  if not data and code == "ENOENT" then return {} end
  if not data then return nil, message, code end
  local dict, problem = seal.open(data)
  if not dict then return nil, path .. " is damaged: " .. tostring(problem), "EDAMAGED" end
  if dict.format_version ~= FORMAT_VERSION then
    return nil, path .. " is written by a newer praxlua", "EFORMAT"
  end
  return dict.commands
end

local function save(folder, commands)
  json.array(commands)
  for _, command in ipairs(commands) do json.array(command.argv) end
  local data = seal.encode({ format_version = FORMAT_VERSION, commands = commands })
  if #data > MAX_BYTES then
    return nil, "the undo commands of the session take " .. text.bytes(#data) .. ", more than "
      .. text.bytes(MAX_BYTES), "EFBIG"
  end
  return core.file.write_atomic(path_of(folder), data)
end

--- Registers a command of the phase that runs. It is durable when this returns.
---@param ctx table
---@param command { argv: string[], timeout: number, project: boolean?, network: boolean? }
---@return true|nil
---@return string? message
---@return string? code
function undo_commands.register(ctx, command)
  local commands, message, code = undo_commands.list(ctx.folder)
  if not commands then return nil, message, code end
  commands[#commands + 1] = {
    phase = ctx.phase, argv = command.argv, timeout = command.timeout,
    project = command.project or false, network = command.network or false,
    registered_at = clock.iso(),
  }
  return save(ctx.folder, commands)
end

--- Whether a phase has registered one.
---@param ctx table
---@return boolean
function undo_commands.has(ctx)
  for _, command in ipairs(ctx.phase and undo_commands.list(ctx.folder) or {}) do
    if command.phase == ctx.phase then return true end
  end
  return false
end

--- A command as one can read it.
---@param command table
---@return string
function undo_commands.describe(command)
  return text.shorten(text.visible(table.concat(command.argv, " ")), 200)
end

local function ending(result)
  local how = "ended with code " .. result.code
  if result.timed_out then
    how = "did not end in time"
  elseif result.signal ~= 0 then
    how = "was ended by signal " .. result.signal
  end
  local said = text.trim(result.stderr ~= "" and result.stderr or result.stdout)
  return said == "" and how or how .. ": " .. text.head(said, 5)
end

-- Runs one; nil and why when it did not succeed.
local function run_one(ctx, command)
  local result, message = confinement.run(ctx, command, {
    target = true, project = command.project, network = command.network,
  })
  if not result then return nil, message end
  if result.timed_out or result.signal ~= 0 or result.code ~= 0 then return nil, ending(result) end
  return true
end

--- Runs commands, the last one first, up to the first that fails.
---@param ctx table
---@param commands table[]
---@param options { skip: boolean?, done: fun(command: table)? } skip: go on behind one that fails,
---  with a warning; done: called after each that ran, or was passed over
---@return true|nil
---@return string? message names the command and its phase
---@return string? code "EUNDO"
function undo_commands.run(ctx, commands, options)
  for i = #commands, 1, -1 do
    local command = commands[i]
    local ok, why = run_one(ctx, command)
    ctx.emit({ event = "undo_command", phase = command.phase,
      command = undo_commands.describe(command), success = ok or false, message = why })
    if not ok then
      local message = string.format("the undo command '%s' of phase %s %s",
        undo_commands.describe(command), command.phase, why)
      if not options.skip then return nil, message, "EUNDO" end
      ctx.warn(message .. "; it was passed over, so undo by hand what it was to undo")
    end
    if options.done then options.done(command) end
  end
  return true
end

-- Makes a rollback known that is about to run commands.
local function begin_rollback(folder)
  if undo_commands.is_rolling_back(folder) or not core.file.exists(folder .. NAME) then
    return true
  end
  return core.file.rename(folder .. NAME, folder .. RUNNING)
end

--- Runs those of a session's folder, each of which goes from the list as soon as it ran.
---@param ctx table
---@param wanted (fun(command: table): boolean)? picks some, before a phase is repeated; nil: all of
---  them, in a rollback
---@param skip boolean? as in undo_commands.run
---@return true|nil
---@return string? message
---@return string? code "EUNDO" | "EDAMAGED" | "EFORMAT" | errno
function undo_commands.run_registered(ctx, wanted, skip)
  local ok, all, message, code = true, nil, nil, nil
  if not wanted then ok, message, code = begin_rollback(ctx.folder) end
  if ok then all, message, code = undo_commands.list(ctx.folder) end
  if not all and skip then
    ctx.warn("the undo commands of the session were passed over: " .. message)
    return true
  end
  if not all then return nil, message, code end
  local picked = {}
  for _, command in ipairs(all) do
    if not wanted or wanted(command) then picked[#picked + 1] = command end
  end
  return undo_commands.run(ctx, picked, { skip = skip, done = function(command)
    for i, one in ipairs(all) do
      if one == command then table.remove(all, i) break end
    end
    save(ctx.folder, all) -- where that fails, it runs once more: it is told that it may
  end })
end

return undo_commands
