--- What all samples are made from, made once: a source repository with history, and in it a server;
-- an installation of its old release as the real installer makes it (copies and a real virtual
-- environment); wheels for pip, so that nothing needs a network. What stands for pip is small
-- (small_pip.py); an environment with pip itself is made for those who ask for it.
local cjson = require("cjson")
local core = require("praxlua.core")
local lfs = require("lfs")
local command = require("spec.support.command")
local content = require("spec.support.content")
local helper = require("spec.support.helper")

local sample_base = {}

local ROOT = lfs.currentdir()
local KEY = "praxlua.sample.base"
local TARGET = ".praxis-os"

--- Where the layout copies what the source ships (DESIGN section 5).
sample_base.MAPPING = {
  { from = "universal/standards", to = "standards/universal" },
  { from = "universal/usage", to = "usage" },
  { from = "universal/workflows", to = "workflows" },
  { from = "mcp_server", to = "mcp_server" },
  { from = "scripts", to = "scripts" },
}

local VERSION_TEXT = [[
prAxIs OS Content Version

Repository: https://github.com/honeyhiveai/praxis-os
Source Commit: %s
Updated By: installer
Current Version: 1.0.0
Notes: a line that is not ours to change
]]

local function sh(script, scratch)
  return command.succeed({ "sh", "-euc", script }, { scratch = scratch })
end

-- The interpreter itself, not a version manager's stand-in that depends on HOME.
local function find_python(scratch)
  local ask = "import ensurepip, os, sys; print(os.path.realpath(sys.executable))"
  for _, name in ipairs({ "python3", "/usr/bin/python3" }) do
    local found = command.run({ name, "-c", ask }, { scratch = scratch })
    if found.code == 0 then return (found.stdout:gsub("%s+$", "")) end
  end
  error("no python3 with ensurepip: the package python3-venv is needed")
end

-- What the bundle lacks and both releases add: the server, a script, the version.
local function release(base, name, version)
  local directory = base.dir .. "/" .. name
  sh(([[
    mkdir -p %s/scripts
    cp -R %s/spec/fixtures/mcp_server %s/mcp_server
    rm -rf %s/mcp_server/__pycache__
    sed -i 's/^VERSION = .*/VERSION = "%s"/' %s/mcp_server/__init__.py
  ]]):format(directory, ROOT, directory, directory, version, directory), base.runs)
  helper.tree(directory, {
    ["VERSION.txt"] = version .. "\n",
    ["mcp_server/requirements.txt"] = "# one package\npraxsample==" .. version .. "\n",
    ["scripts/check-links.py"] = "# release " .. version .. "\n",
  })
  if version == "1.0.0" then
    helper.write(directory .. "/mcp_server/legacy.py", '"""Gone in 2.0.0."""\n')
  else
    helper.write(directory .. "/mcp_server/metrics/__init__.py", '"""New in 2.0.0."""\n')
  end
end

local function make_installation(base)
  local shipped = base.dir .. "/shipped"
  sh(("mkdir -p %s && git -C %s archive v1.0.0 | tar -x -C %s"):format(
    shipped, base.repository, shipped), base.runs)
  local target = base.dir .. "/installed/" .. TARGET
  for _, map in ipairs(sample_base.MAPPING) do
    sh(("mkdir -p %s/%s && cp -R %s/%s/. %s/%s"):format(
      target, map.to, shipped, map.from, target, map.to), base.runs)
  end
  local name = "git -C " .. base.repository .. " rev-parse --short v1.0.0"
  local commit = sh(name, base.runs):gsub("%s", "")
  helper.write(target .. "/VERSION.txt", VERSION_TEXT:format(commit))
end

local function make_wheels(base)
  lfs.mkdir(base.dir .. "/wheels")
  for _, version in ipairs({ "1.0.0", "2.0.0" }) do
    sh(("%s %s/spec/support/make_wheel.py %s/wheels praxsample %s"):format(
      base.python, ROOT, base.dir, version), base.runs)
  end
end

local function install_packages(base, venv, runs)
  sh(("PIP_NO_INDEX=1 PIP_FIND_LINKS=%s/wheels %s/bin/python -m pip install -q" ..
    " --disable-pip-version-check -r %s/installed/%s/mcp_server/requirements.txt"):format(
    base.dir, venv, base.dir, TARGET), runs)
end

-- An environment in which small_pip.py is pip.
local function make_environment(base)
  local venv = base.dir .. "/installed/" .. TARGET .. "/venv"
  sh(("%s -m venv --without-pip %s"):format(base.python, venv), base.runs)
  local find = "import sysconfig; print(sysconfig.get_path('purelib'))"
  local packages = sh(('%s/bin/python -c "%s"'):format(venv, find), base.runs):gsub("%s+$", "")
  helper.tree(packages, {
    ["pip/__init__.py"] = "",
    ["pip/__main__.py"] = helper.read(ROOT .. "/spec/support/small_pip.py"),
    ["pip-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: pip\nVersion: 1.0\n",
    ["pip-1.0.dist-info/RECORD"] = "",
  })
  install_packages(base, venv, base.runs)
end

-- A PATH that finds the real python first, whatever HOME is.
local function make_tools(base)
  sh(("mkdir -p %s/bin && ln -s %s %s/bin/python3"):format(base.dir, base.python, base.dir),
    base.runs)
end

local function build(dir)
  local base = { dir = dir, runs = dir .. "/runs", repository = dir .. "/repository" }
  lfs.mkdir(base.runs)
  base.python = find_python(base.runs)
  local repository, old, new, kind = content.make(dir .. "/content")
  release(base, "release1", "1.0.0")
  release(base, "release2", "2.0.0")
  sh(table.concat({ "sh", ROOT .. "/spec/support/history.sh", repository, base.repository, old, new,
    dir .. "/release1", dir .. "/release2" }, " "), base.runs)
  base.content = kind
  make_installation(base)
  make_wheels(base)
  make_environment(base)
  make_tools(base)
  helper.write(dir .. "/base.json", cjson.encode(base))
  return base
end

-- Kept in the registry: busted loads modules anew for each file, and the finalizer there runs when
-- the process ends.
local function register(base, owned)
  local guard = setmetatable({}, { __gc = function()
    if owned then os.execute("rm -rf " .. command.quote(base.dir)) end
  end })
  debug.getregistry()[KEY] = { base = base, guard = guard }
  return base
end

-- Does something while no other test process does it here.
local function alone(dir, action)
  local lock = assert(io.open(dir .. "/lock", "w"))
  while not lfs.lock(lock, "w") do core.system.sleep(0.1) end
  local result = action()
  lock:close()
  return result
end

-- Several test processes share one base when PRAXLUA_SAMPLE_BASE names a directory for it.
local function shared_base(dir)
  lfs.mkdir(dir)
  return alone(dir, function()
    local known = helper.read(dir .. "/base.json")
    return known and cjson.decode(known) or build(dir)
  end)
end

--- What all samples are made from; built at the first call.
---@return table base dir, repository, python, content ("bundle"|"generated")
function sample_base.get()
  local known = debug.getregistry()[KEY]
  if known then return known.base end
  local shared = os.getenv("PRAXLUA_SAMPLE_BASE")
  if shared then return register(shared_base(shared), false) end
  local dir = (os.getenv("TMPDIR") or "/tmp") .. "/praxlua-base-" .. core.system.uuid()
  assert(lfs.mkdir(dir))
  return register(build(dir), true)
end

--- The environment of the installation with pip itself in it; made at the first call, which takes
--- seconds.
---@param base table
---@return string venv path of the environment
function sample_base.with_pip(base)
  local top = base.dir .. "/with-pip"
  local venv, runs = top .. "/venv", top .. "/runs" -- base.runs is of the process that made base
  return alone(base.dir, function()
    if not helper.read(top .. "/made") then
      assert(os.execute(("rm -rf %s && mkdir -p %s"):format(top, runs)))
      sh(("%s -m venv %s"):format(base.python, venv), runs)
      install_packages(base, venv, runs)
      helper.write(top .. "/made", "")
    end
    return venv
  end)
end

return sample_base
