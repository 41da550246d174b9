--- A small installation with a real server, for the tests of the server and its environment: a
-- project, the fixture's code, a few standards and workflows, and a virtual environment.
local change = require("praxlua.change")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local process = require("praxlua.process")

local kit = {}

local FIXTURE = core.file.realpath("spec/fixtures/mcp_server")
local PYTHON = "/usr/bin/python3"

local STANDARDS = {
  ["standards/universal/testing/pyramid.md"] = "# Testing standards\n\nMany unit tests.\n",
  ["standards/development/style.md"] = "# Style\n\nTabs are for tables.\n",
  ["workflows/spec_creation_v1/metadata.json"] = "{}\n",
  ["workflows/release_v1/metadata.json"] = "{}\n",
}

local environments = {}

local function place_of_environment()
  return (os.getenv("TMPDIR") or "/tmp") .. "/praxlua-venv-" .. core.system.uuid()
end

--- Runs a program and insists that it succeeds.
---@param argv string[]
---@param options table? of process.run
---@return string stdout
function kit.run(argv, options)
  local call = { argv = argv, timeout = 60 }
  for name, value in pairs(options or {}) do call[name] = value end
  local result = assert(process.run(call))
  assert(result.code == 0, table.concat(argv, " ") .. ":\n" .. result.stderr)
  return result.stdout
end

--- A virtual environment, made at first use and kept until kit.finish().
---@param with_pip boolean? with pip it takes seconds
---@return string path to copy from
function kit.environment(with_pip)
  local key = with_pip and "with pip" or "without"
  if not environments[key] then
    local base = place_of_environment()
    local argv = { PYTHON, "-m", "venv", base }
    if not with_pip then table.insert(argv, 4, "--without-pip") end
    kit.run(argv)
    environments[key] = base
  end
  return environments[key]
end

--- Keeps the environment of an installation, one with pip, as the one that is copied from now on.
---@param ctx table
function kit.keep_environment(ctx)
  if environments["with pip"] then return end
  local base = place_of_environment()
  assert(core.tree.copy(ctx.target .. "/venv", base))
  environments["with pip"] = base
end

--- Removes the environments. For the teardown of a spec file.
function kit.finish()
  for _, path in pairs(environments) do assert(core.tree.remove(path)) end
  environments = {}
end

local transactions = {}

--- Opens a transaction in a project, for a service that changes something.
---@param ctx table gets `change` and `transaction`
function kit.begin(ctx)
  local name = ctx.target_name .. "/.upgrade/" .. core.system.uuid()
  assert(core.file.mkdir(ctx.target .. "/.upgrade"))
  ctx.transaction = assert(core.transaction.open(ctx.project, name, { create = true,
    disposable = "__pycache__" }))
  ctx.folder = ctx.project .. "/" .. name
  ctx.change = change.new(ctx.transaction, ctx.project, ctx.folder)
  transactions[#transactions + 1] = ctx.transaction
  return ctx
end

--- Closes what was begun. For after_each.
function kit.close()
  for _, transaction in ipairs(transactions) do transaction:close() end
  transactions = {}
end

--- The context that services get, for a project.
---@param project string
---@return table ctx
function kit.context(project)
  local ctx = {
    project = project,
    target = project .. "/.praxis-os",
    target_name = ".praxis-os",
    options = { health_timeout = 15 },
    memory = {},
    warnings = {},
    said = {},
  }
  function ctx.warn(text) ctx.warnings[#ctx.warnings + 1] = text end
  function ctx.progress(text) ctx.said[#ctx.said + 1] = text end
  return ctx
end

--- A new installation in a project of its own.
---@param options { pip: boolean?, venv: boolean?, faults: table?, name: string? }?
---@return table ctx
function kit.install(options)
  options = options or {}
  local ctx = kit.context(helper.tempdir() .. "/" .. (options.name or "project"))
  helper.tree(ctx.target, STANDARDS)
  assert(core.tree.copy(FIXTURE, ctx.target .. "/mcp_server", {
    skip_names = { ["__pycache__"] = true },
  }))
  if options.venv ~= false then
    assert(core.tree.copy(kit.environment(options.pip), ctx.target .. "/venv"))
  end
  if options.faults then kit.set_faults(ctx, options.faults) end
  return ctx
end

--- Changes what is wrong with the installed server; the next start sees it.
function kit.set_faults(ctx, faults)
  helper.write(ctx.target .. "/mcp_server/faults.json", json.encode(faults))
end

--- Changes the installed server's version; the next start sees it.
function kit.set_version(ctx, version)
  local path = ctx.target .. "/mcp_server/__init__.py"
  local code = helper.read(path):gsub('VERSION = "[^"]*"', ('VERSION = "%s"'):format(version))
  helper.write(path, code)
  -- Python would take the old bytecode: same size, and a mtime of the same second.
  assert(core.tree.remove(ctx.target .. "/mcp_server/__pycache__"))
end

function kit.state_path(ctx) return ctx.target .. "/.mcp_server_state.json" end

function kit.state(ctx)
  local data = helper.read(kit.state_path(ctx))
  return data and assert(json.decode(data))
end

--- Waits until a condition holds.
---@param condition function
---@param seconds number? 10
---@return any what the condition returned
function kit.wait(condition, seconds)
  local deadline = core.system.monotonic() + (seconds or 10)
  while true do
    local value = condition()
    if value then return value end
    assert(core.system.monotonic() < deadline, "waited in vain")
    core.system.sleep(0.02)
  end
end

--- Starts a server as an editor does: not through the code under test.
---@param ctx table
---@param transport string
---@param options { directory: string?, python: string?, detach: boolean? }?
---@return userdata process of core.spawn; its stdin is open
function kit.start(ctx, transport, options)
  options = options or {}
  local child = assert(core.spawn.start({
    argv = {
      options.python or ctx.target .. "/venv/bin/python", "-m", "mcp_server",
      "--transport", transport,
    },
    directory = options.directory or ctx.project,
    environment = process.environment({ PYTHONPATH = ctx.target, PROJECT_ROOT = ctx.project }),
    stdin = "pipe",
    stdout = "pipe",
    stderr = "pipe",
    host = false,
  }))
  kit.wait(function()
    local state = kit.state(ctx)
    return state and state.pid == child:pid()
  end)
  return child
end

--- A port that was free just now.
---@return integer
function kit.free_port()
  return math.tointeger(tonumber(kit.run({ PYTHON, "-c",
    "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])" })))
end

--- Starts a Python program that only waits.
---@param directory string
---@param words string[]? further arguments
---@return userdata process
function kit.sleeper(directory, words)
  local argv = { PYTHON, "-c", "import time; time.sleep(60)" }
  for _, word in ipairs(words or {}) do argv[#argv + 1] = word end
  return assert(core.spawn.start({ argv = argv, directory = directory, host = false }))
end

--- Whether a process runs (one that only waits to be reaped does not).
function kit.is_alive(pid)
  core.spawn.reap()
  local info = core.system.process(pid)
  return info ~= nil and info.state ~= "Z"
end

return kit
