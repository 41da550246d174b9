--- Installing into an environment, with pip or uv, and again when the network failed.
local core = require("praxlua.core")
local failures = require("praxlua.pip_failures")
local json = require("praxlua.json")
local process = require("praxlua.process")
local requirements_file = require("praxlua.dependencies.requirements_file")
local text = require("praxlua.text")
local tool = require("praxlua.dependencies.tool")

local normalised = requirements_file.normalised
local system = core.system

local installer = {}

local INSTALL_SECONDS = 600
local ASK_SECONDS = 120
local TRIES = 4
local FIRST_DELAY = 1 -- seconds; each further wait is twice as long

-- How often pip and uv themselves try again; we do it, too, and both multiply.
local OWN_RETRIES = "1"

local function interpreter(path) return path .. "/bin/python" end

local LIST_DISTRIBUTIONS = [[
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}))
]]

-- The installed distributions: name = version. What `pip freeze` knows, at a tenth of its time.
-- Asked in isolated mode, so that neither the working directory nor PYTHONPATH adds to it.
local function distributions(ctx, path)
  local argv = { interpreter(path), "-I", "-c", LIST_DISTRIBUTIONS }
  local result = tool.run(ctx, argv, { seconds = ASK_SECONDS, writes = path })
  local list = result and result.code == 0 and json.decode(result.stdout)
  return type(list) == "table" and list or {}
end

-- What changed from one list of distributions to the next, completed by what pip or uv says it
-- installed: a package reinstalled in the same version shows only there.
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
  for name, version in output:gmatch("\n [~+] ([^%s=]+)==(%S+)") do add(name, version) end
  table.sort(packages, function(a, b)
    return normalised(a.name) < normalised(b.name)
  end)
  return packages
end

-- ---- the two installers ------------------------------------------------------------------------

local INSTALLERS = {}

-- An environment that uv made has no pip; Python brings one along.
local function ensure_pip(ctx, path, before)
  if before.pip then return true end
  tool.progress(ctx, "Adding pip to the environment")
  local argv = { interpreter(path), "-m", "ensurepip" }
  local result, problem, code = tool.run(ctx, argv, { seconds = ASK_SECONDS, writes = path })
  if not result then return nil, nil, problem, code end
  if result.code == 0 then return true end
  return nil, failures.of(result, "ensurepip", ASK_SECONDS)
end

function INSTALLERS.pip(ctx, path, before)
  local ready, errors, problem, code = ensure_pip(ctx, path, before)
  if not ready then return nil, errors, problem, code end
  local variables = tool.environment()
  variables.PIP_RETRIES = variables.PIP_RETRIES or OWN_RETRIES
  return {
    name = "pip install", environment = variables,
    argv = { interpreter(path), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
      "--progress-bar", "off", "-r" },
  }
end

-- uv goes by what the pyproject.toml and uv.toml of the folder that it works in say: of packages of
-- the project's own, and where they are installed. Here it goes by its user's settings alone.
local function own_settings(variables)
  if variables.UV_CONFIG_FILE or variables.UV_NO_CONFIG then return end
  for _, folder in ipairs({ (variables.HOME or "") .. "/.config", "/etc" }) do
    local path = folder .. "/uv/uv.toml"
    if system.access(path, "r") then
      variables.UV_CONFIG_FILE = path
      return
    end
  end
  variables.UV_NO_CONFIG = "1"
end

function INSTALLERS.uv(_, path)
  local variables = tool.environment()
  variables.UV_HTTP_RETRIES = variables.UV_HTTP_RETRIES or OWN_RETRIES
  own_settings(variables)
  local uv = process.find("uv", variables)
  if not uv and core.spawn.executable(path .. "/bin/uv") then uv = path .. "/bin/uv" end
  if not uv then
    return nil, { { kind = "no_uv", message = "the project asks for uv, which is neither on PATH "
      .. "nor in the installation's environment", next = "Install uv, or take pip: installer = "
      .. '"pip" for the server in upgrade.lua' } }
  end
  return {
    name = "uv pip install", environment = variables,
    argv = { uv, "pip", "install", "--no-progress", "--python", interpreter(path), "-r" },
  }
end

local function on_line(ctx)
  return function(_, line)
    local name = line:match("^%s*Collecting (%S+)")
      or (line:match("^%s*Processing (%S+)") or ""):match("[^/]+$") -- PATH (from -r …)
    local all = line:match("^Installing collected packages: (.+)")
    local uv = line:match("^(%u%l+ %d+ packages? in %S+)") -- Resolved, Prepared, Installed
    if name then tool.progress(ctx, "Collecting " .. text.visible(name)) end
    if all then tool.progress(ctx, "Installing " .. text.visible(all)) end
    if uv then tool.progress(ctx, uv) end
  end
end

-- ---- trying again ------------------------------------------------------------------------------

-- Waits before another try. Returns true, or nil, message, code when it is not to be.
local function wait(ctx, tried, deadline)
  local delay = (ctx.options.pip_retry_delay or FIRST_DELAY) * 2 ^ (tried - 1)
  if tried >= TRIES or system.monotonic() + delay >= deadline then return false end
  tool.progress(ctx, ("the package index cannot be reached; again in %g s (%d of %d)")
    :format(delay, tried + 1, TRIES))
  if not system.sleep(delay) or core.cancel.asked() then
    return nil, "installing the packages: interrupted while the network was waited for", "EINTR"
  end
  return true
end

-- Runs the installer, at most as long as all tries may take. Returns its result, or nil and
-- failures, or nil, nil, message, code.
local function attempt(ctx, path, call)
  local seconds = ctx.options.pip_timeout or INSTALL_SECONDS
  local deadline = system.monotonic() + seconds
  for tried = 1, TRIES do
    local result, problem, code = tool.run(ctx, call.argv, { writes = path,
      seconds = math.max(0, deadline - system.monotonic()), on_line = on_line(ctx),
      environment = call.environment })
    if not result then return nil, nil, problem, code end
    if result.code == 0 and not result.timed_out then return result end
    local errors = failures.of(result, call.name, seconds)
    local again = false
    if errors[1].kind == "no_network" then again, problem, code = wait(ctx, tried, deadline) end
    if again == nil then return nil, nil, problem, code end
    if not again then return nil, errors end
  end
end

--- Which installer the project asks for.
---@param ctx table
---@return string "pip" or "uv"
function installer.name(ctx)
  local server = ctx.options.project and ctx.options.project.server
  return server and server.installer or "pip"
end

--- Installs a requirements file.
---@param ctx table; options.pip_timeout: seconds for all tries, 600; options.pip_retry_delay:
---  seconds before the second one, 1
---@param path string of the environment
---@param requirements string path of the file
---@return { packages: table[], warnings: string[] }|nil
---@return table[]|nil failures { kind, message, next }
---@return string? message when there are no failures: nothing could be run, or it was interrupted
---@return string? code
function installer.install(ctx, path, requirements)
  local before = distributions(ctx, path)
  local call, errors, problem, code = INSTALLERS[installer.name(ctx)](ctx, path, before)
  if not call then return nil, errors, problem, code end
  call.argv[#call.argv + 1] = requirements
  local result
  result, errors, problem, code = attempt(ctx, path, call)
  if not result then return nil, errors, problem, code end
  return {
    packages = packages_between(before, distributions(ctx, path),
      result.stdout .. "\n" .. result.stderr),
    warnings = failures.warnings(result.stderr),
  }
end

return installer
