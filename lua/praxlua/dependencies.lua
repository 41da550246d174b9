--- The Python environment of an installation: what the server requires is installed into a clone of
-- it, which is then exchanged for the environment itself. That is never touched before; a rollback
-- brings it back by the same exchange.
--
-- ctx.memory.environment is the clone that waits for that: path, number, requirements (their hash,
-- nil when they are of several files), steps (commands that were run in it).
local clone = require("praxlua.dependencies.clone")
local core = require("praxlua.core")
local installer = require("praxlua.dependencies.installer")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local post_install = require("praxlua.dependencies.post_install")
local record = require("praxlua.dependencies.record")

local file, system = core.file, core.system

local dependencies = {}

-- The file to install from. A file of elsewhere would be a way past the grants of a phase.
local function requirements_path(ctx, options)
  local path = options.requirements
    or (ctx.memory.staged_code or ctx.target) .. "/" .. layout.server_of(ctx).requirements
  local real, inside = file.realpath(path), file.realpath(ctx.target)
  if not real then return path end
  if real:sub(1, #inside + 1) ~= inside .. "/" then
    error("requirements: " .. path .. " is not of this installation", 3)
  end
  return path
end

local function outcome(started, fields)
  return {
    success = fields.success or false,
    packages_installed = fields.packages and #fields.packages or 0,
    packages = json.array(fields.packages or {}),
    errors = json.array(fields.errors or {}),
    warnings = json.array(fields.warnings or {}),
    environment_created = fields.created or false,
    environment = fields.environment,
    reason = fields.reason,
    seconds = system.monotonic() - started,
  }
end

--- The path of the clone that waits to be switched.
---@param ctx table
---@return string|nil
function dependencies.prepared(ctx)
  return ctx.memory.environment and ctx.memory.environment.path
end

--- Removes the clone that waits, if one does.
---@param ctx table
function dependencies.drop(ctx)
  if ctx.memory.environment then clone.drop(ctx.memory.environment) end
  ctx.memory.environment = nil
end

-- ---- nothing to do -----------------------------------------------------------------------------

-- Whether the environment is what the recorded installation left, and all that has to be run after
-- it was run: then this run installs nothing.
local function is_unchanged(ctx, requirements)
  if ctx.memory.environment then return false end
  local done = record.current(ctx, requirements)
  if not done then return false end
  for _, step in ipairs(post_install.detect(ctx, file.read(requirements) or "")) do
    if not done[step.command] then return false end
  end
  ctx.memory.steps_done = done
  return true
end

-- ---- installing --------------------------------------------------------------------------------

-- The clone to install into: the one that waits, or a new one.
local function prepare(ctx, requirements)
  local hash = record.requirements(requirements)
  local waiting = ctx.memory.environment
  if waiting then
    if waiting.requirements ~= hash then waiting.requirements = nil end
    return waiting
  end
  local made, errors, problem, code = clone.open(ctx)
  if not made then return nil, errors, problem, code end
  made.requirements, made.steps = hash, {}
  ctx.memory.environment, ctx.memory.steps_done = made, nil
  return made
end

local function install(ctx, requirements)
  local made, errors, problem, code = prepare(ctx, requirements)
  if not made then return nil, errors, problem, code end
  local installed
  installed, errors, problem, code = installer.install(ctx, made.path, requirements)
  if not installed then
    dependencies.drop(ctx)
    return nil, errors, problem, code, made.created
  end
  installed.created = made.created
  return installed
end

--- Installs what the server requires into a clone of the environment (a new one when there is
--- none), and exchanges that for the environment. Where the requirements and the environment are
--- what a recorded installation left, nothing is done, and the reason is "unchanged". A failure
--- leaves the environment as it was, and no clone.
---@param ctx table with ctx.change; options of installer.install
---@param options { requirements: string?, beside: boolean? }? requirements: another file of this
---  installation (a backup's snapshot); nil: the server's, of the staged code while there is one.
---  beside: the clone waits for switch_environment
---@return table|nil { success, packages_installed, packages = { {name, version, previous?} },
---  errors = { {kind, message, next} }, warnings (strings), environment_created, environment (path
---  of the clone that waits), reason?, seconds }
---@return string? message only when nothing could be run, or the environment not be replaced
---@return string? code
function dependencies.install_dependencies(ctx, options)
  local started = system.monotonic()
  options = options or {}
  local requirements = requirements_path(ctx, options)
  if not file.exists(requirements) then
    return outcome(started, { success = true, reason = "there is no " .. requirements })
  end
  if is_unchanged(ctx, requirements) then
    return outcome(started, { success = true, reason = "unchanged" })
  end
  local done, errors, problem, code, created = install(ctx, requirements)
  if not done then
    if not errors then return nil, problem, code end
    return outcome(started, { errors = errors, created = created })
  end
  if not options.beside then
    local ok
    ok, problem, code = dependencies.switch_environment(ctx)
    if not ok then return nil, problem, code end
  end
  done.success, done.environment = true, dependencies.prepared(ctx)
  return outcome(started, done)
end

--- Exchanges the clone that waits for the environment of the installation. True at once when none
--- waits.
---@param ctx table with ctx.change
---@return true|nil
---@return string? message
---@return string? code "ECHANGED" when somebody changed what `venv` is meanwhile
function dependencies.switch_environment(ctx)
  local made = ctx.memory.environment
  if not made then return true end
  local ok, message, code = clone.switch(ctx, made)
  if not ok then
    dependencies.drop(ctx)
    return nil, message, code
  end
  ctx.memory.environment = nil
  local written, problem = record.write(ctx, made.requirements, made.steps)
  if not written and ctx.warn then
    ctx.warn("what was installed could not be recorded (the next upgrade installs it again): "
      .. problem)
  end
  return true
end

-- ---- post-install steps ------------------------------------------------------------------------

--- The steps that a requirements file makes necessary: those that are built in, and those that the
--- project declares.
---@param ctx table
---@param requirements string|nil content of the file; nil: of the server's, none when there is none
---@return table[] steps { package, command (text), optional }
function dependencies.detect_post_install_steps(ctx, requirements)
  requirements = requirements or file.read(requirements_path(ctx, {})) or ""
  return post_install.detect(ctx, requirements)
end

--- Runs post-install steps, in the clone while one waits, else in the environment.
---@param ctx table
---@param steps table[] of detect_post_install_steps
---@return table[] results of post_install.run
function dependencies.run_post_install_steps(ctx, steps)
  local made = ctx.memory.environment
  local path = made and made.path or ctx.target .. "/venv"
  local results = post_install.run(ctx, path, steps, ctx.memory.steps_done)
  for _, result in ipairs(made and results or {}) do
    if result.status ~= "failed" then made.steps[#made.steps + 1] = result.command end
  end
  return results
end

return dependencies
