--- The Python environment of an installation: what the server requires is installed into the
-- installation's own venv, in a private copy that a rollback throws away.
local confinement = require("praxlua.confinement")
local core = require("praxlua.core")
local failures = require("praxlua.pip_failures")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local process = require("praxlua.process")
local text = require("praxlua.text")

local file, system = core.file, core.system

local dependencies = {}

local PIP_SECONDS = 600
local STEP_SECONDS = 600
local VENV_SECONDS = 120
local OUTPUT_CAP = 4 * 1024 * 1024
local OUTPUT_TAIL = 4000

--- What has to be run after a package was installed. Steps are looked up here by package and
--- nowhere else, so that a step handed in from outside cannot name a command of its own.
dependencies.post_install = {
  playwright = { "playwright", "install", "chromium" },
}

-- Settings that would make pip install somewhere else than into the environment.
local ELSEWHERE = { "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN" }

local function venv_path(ctx) return ctx.target .. "/venv" end

local function interpreter(ctx) return venv_path(ctx) .. "/bin/python" end

-- The file to install from. A file of elsewhere would be a way past the grants of a phase.
local function requirements_path(ctx, options)
  local path = options and options.requirements
    or ctx.target .. "/" .. layout.server_of(ctx).requirements
  local real, inside = file.realpath(path), file.realpath(ctx.target)
  if not real then return path end
  if real:sub(1, #inside + 1) ~= inside .. "/" then
    error("requirements: " .. path .. " is not of this installation", 3)
  end
  return path
end

local function environment()
  local variables = process.environment({ PIP_USER = "0", PYTHONUNBUFFERED = "1" })
  for _, name in ipairs(ELSEWHERE) do variables[name] = nil end
  return variables
end

-- Packages bring code of strangers, which runs while they are installed: it can write only in the
-- installation, caches and the temporary directory.
local function run(ctx, argv, seconds, on_line)
  return confinement.run(ctx, {
    argv = argv,
    directory = ctx.project,
    environment = environment(),
    timeout = seconds,
    cap = OUTPUT_CAP,
    on_line = on_line,
  }, { target = true, network = true })
end

local function progress(ctx, message)
  if ctx.progress then ctx.progress(message) end
end

local function tail(output)
  if #output > OUTPUT_TAIL then output = "…" .. output:sub(-OUTPUT_TAIL) end
  return output
end

-- ---- the environment ---------------------------------------------------------------------------

local function failures_of(result, what, seconds)
  if result.timed_out then return { failures.timed_out(what, seconds) } end
  return failures.explain(result.stderr .. "\n" .. result.stdout, what, result.code)
end

-- Makes the environment when there is none, or when its interpreter is gone (a link to a Python
-- that was removed from the system). Returns whether it did, or nil and failures, or nil, nil,
-- message, code when nothing could be run at all.
local function make_venv(ctx)
  local path = venv_path(ctx)
  if system.access(interpreter(ctx), "x") then return false end
  if file.exists(path) and ctx.warn then
    ctx.warn(path .. " has no working interpreter; it is made anew")
  end
  local python, problem = process.find("python3", environment())
  if not python then
    local next_step = "Install Python 3.8 or newer with its venv module"
    return nil, { { kind = "no_python", message = problem, next = next_step } }
  end
  progress(ctx, "Making the environment " .. path)
  local made, failed, why = file.mkdir(path) -- python may write in it, not beside it
  if not made then return nil, nil, failed, why end
  local result, stuck, code = run(ctx, { python, "-m", "venv", "--clear", path }, VENV_SECONDS)
  if not result then return nil, nil, stuck, code end
  if result.code == 0 and not result.timed_out then return true end
  return nil, failures_of(result, "making the environment", VENV_SECONDS)
end

local LIST_DISTRIBUTIONS = [[
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}))
]]

-- The installed distributions: name = version. What `pip freeze` knows, at a tenth of its time.
-- Asked in isolated mode, so that neither the working directory nor PYTHONPATH adds to it.
local function distributions(ctx)
  local result = run(ctx, { interpreter(ctx), "-I", "-c", LIST_DISTRIBUTIONS }, VENV_SECONDS)
  local list = result and result.code == 0 and json.decode(result.stdout)
  return type(list) == "table" and list or {}
end

-- An environment that uv made has no pip; Python brings one along. `before` is what is installed.
local function ensure_pip(ctx, before)
  if before.pip then return true end
  progress(ctx, "Adding pip to the environment")
  local argv = { interpreter(ctx), "-m", "ensurepip" }
  local result, problem, code = run(ctx, argv, VENV_SECONDS)
  if not result then return nil, nil, problem, code end
  if result.code == 0 then return true end
  return nil, failures_of(result, "ensurepip", VENV_SECONDS)
end

-- ---- installing --------------------------------------------------------------------------------

local function normalised(name) return (name:lower():gsub("[-_.]+", "-")) end

-- What changed from one list of distributions to the next, completed by what pip says it installed:
-- a package reinstalled in the same version shows only there.
local function packages_between(before, after, output)
  local packages, known = {}, {}
  local function add(name, version, was)
    local key = normalised(name)
    if known[key] then return end
    known[key] = true
    packages[#packages + 1] = { name = name, version = version, previous = was }
  end
  for name, version in pairs(after) do
    if before[name] ~= version then add(name, version, before[name]) end
  end
  for line in output:gmatch("Successfully installed ([^\r\n]+)") do
    for name, version in line:gmatch("(%S+)%-([^%s-]+)") do add(name, version) end
  end
  table.sort(packages, function(a, b) return normalised(a.name) < normalised(b.name) end)
  return packages
end

local function tell_progress(ctx)
  return function(_, line)
    local name = line:match("^%s*Collecting (%S+)")
      or (line:match("^%s*Processing (%S+)") or ""):match("[^/]+$") -- PATH (from -r …)
    local all = line:match("^Installing collected packages: (.+)")
    if name then progress(ctx, "Collecting " .. text.visible(name)) end
    if all then progress(ctx, "Installing " .. text.visible(all)) end
  end
end

local function outcome(started, fields)
  return {
    success = fields.success or false,
    packages_installed = fields.packages and #fields.packages or 0,
    packages = json.array(fields.packages or {}),
    errors = json.array(fields.errors or {}),
    warnings = json.array(fields.warnings or {}),
    environment_created = fields.created or false,
    reason = fields.reason,
    seconds = system.monotonic() - started,
  }
end

-- Makes the environment ready. Returns { created, before }, or nil, failures, message?, code?.
local function prepare(ctx)
  local created, errors, problem, code = make_venv(ctx)
  if created == nil then return nil, errors, problem, code end
  local before = distributions(ctx)
  local ready
  ready, errors, problem, code = ensure_pip(ctx, before)
  if not ready then return nil, errors, problem, code end
  return { created = created, before = before }
end

local function pip_argv(ctx, requirements)
  return {
    interpreter(ctx), "-m", "pip", "install",
    "--disable-pip-version-check", "--no-input", "--progress-bar", "off",
    "-r", requirements,
  }
end

--- Installs what the server requires. The environment is replaced by a private copy first, which a
--- rollback exchanges for the original again.
---@param ctx table with ctx.change; options.pip_timeout: seconds, 600
---@param options { requirements: string? }? requirements: another file of this installation (a
---  backup's snapshot), the server's requirements.txt when nil
---@return table|nil { success, packages_installed, packages = { {name, version, previous?} },
---  errors = { {kind, message, next} }, warnings (strings), environment_created, reason?, seconds }
---@return string? message only when nothing could be run, or the environment not be replaced
---@return string? code
function dependencies.install_dependencies(ctx, options)
  local started = system.monotonic()
  local requirements = requirements_path(ctx, options)
  if not file.exists(requirements) then
    return outcome(started, { success = true, reason = "there is no " .. requirements })
  end
  local detached, problem, code = ctx.change.detach(ctx.target_name .. "/venv")
  if detached == nil then return nil, problem, code end
  local ready, errors
  ready, errors, problem, code = prepare(ctx)
  if not ready then
    if not errors then return nil, problem, code end
    return outcome(started, { errors = errors })
  end
  local seconds = ctx.options.pip_timeout or PIP_SECONDS
  local result
  result, problem, code = run(ctx, pip_argv(ctx, requirements), seconds, tell_progress(ctx))
  if not result then return nil, problem, code end
  if result.code ~= 0 or result.timed_out then
    errors = failures_of(result, "pip install", seconds)
    return outcome(started, { errors = errors, created = ready.created })
  end
  return outcome(started, {
    success = true,
    packages = packages_between(ready.before, distributions(ctx), result.stdout),
    warnings = failures.warnings(result.stderr),
    created = ready.created,
  })
end

-- ---- post-install steps ------------------------------------------------------------------------

-- The lines of a requirements file as pip reads them: continued ones joined, comments gone (a # in
-- the middle of a word, as in #egg=name, is no comment).
local function requirement_lines(source)
  local joined = source:gsub("\r\n", "\n"):gsub("\\\n", "")
  local lines = {}
  for line in joined:gmatch("[^\n]+") do
    line = text.trim(((" " .. line):gsub("%s#.*$", "")))
    if line ~= "" then lines[#lines + 1] = line end
  end
  return lines
end

-- The package a line requires, normalised; nil when it is an option or names none.
local function required_package(line)
  local egg = line:match("#egg=([%w._-]+)")
  if egg then return normalised(egg) end
  local name, rest = line:match("^(%w[%w._-]*)%s*(.*)$")
  if not name or not (rest == "" or rest:find("^[%[=<>!~;@(]")) then return nil end
  return normalised(name)
end

--- The steps that a requirements file makes necessary. Only packages it requires count; comments
--- and options do not.
---@param requirements string content of requirements.txt
---@return table[] steps { package, command (text), optional = true }
function dependencies.detect_post_install_steps(requirements)
  requirements = requirements or ""
  local steps, seen = json.array({}), {}
  for _, line in ipairs(requirement_lines(requirements)) do
    local package = required_package(line)
    local argv = package and dependencies.post_install[package]
    if argv and not seen[package] then
      seen[package] = true
      local command = table.concat(argv, " ")
      steps[#steps + 1] = { package = package, command = command, optional = true }
    end
  end
  return steps
end

local function run_step(ctx, argv)
  local tool = venv_path(ctx) .. "/bin/" .. argv[1]
  if not system.access(tool, "x") then
    return { status = "not_run", output = "", reason = tool .. " is not installed", seconds = 0 }
  end
  local called = table.move(argv, 2, #argv, 2, { tool })
  local result, problem = run(ctx, called, STEP_SECONDS)
  if not result then return { status = "failed", output = problem, seconds = 0 } end
  local entry = {
    status = result.code == 0 and not result.timed_out and "success" or "failed",
    output = tail(result.stdout .. result.stderr),
    seconds = result.seconds,
  }
  if entry.status == "failed" then
    entry.reason = failures_of(result, table.concat(argv, " "), STEP_SECONDS)[1].message
  end
  return entry
end

--- Runs post-install steps in the environment. A failed step is reported, not raised: what it
--- brings (a browser of some hundred megabytes) can be fetched later by the same command.
---@param ctx table
---@param steps table[] of detect_post_install_steps
---@return table[] results { command, package, status = "success"|"failed"|"not_run", output,
---  seconds, optional, reason? }
function dependencies.run_post_install_steps(ctx, steps)
  local results = json.array({})
  for i, step in ipairs(steps) do
    local argv = dependencies.post_install[step.package]
    if not argv then error("unknown post-install step: " .. tostring(step.package), 2) end
    local command = table.concat(argv, " ")
    progress(ctx, command)
    local entry = run_step(ctx, argv)
    entry.command, entry.package, entry.optional = command, step.package, true
    results[i] = entry
  end
  return results
end

function dependencies.switch_environment() return true end -- SHIM

return dependencies
