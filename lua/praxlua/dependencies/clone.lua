--- The environment cloned beside: a second one in the transaction's folder, which is installed into
-- while the first one serves, and then exchanged for it.
--
-- Code of packages is not copied but gets a second name (a hard link), which costs no room and
-- little time. That is sound because installers replace files and never write into them: pip
-- removes a file before it writes one of that name (pip/_internal/operations/install/wheel.py,
-- ZipBackedFile.save), uv links packages from its cache itself (its setting link-mode), and Python
-- writes bytecode beside and renames it (importlib._bootstrap_external._write_atomic). What people
-- and tools do write into is copied: settings, scripts, .pth files, the records of packages, data.
-- Of commands that a project runs after the installation nothing is known (protoc writes into the
-- modules it made before): where there are some, everything is copied.
local core = require("praxlua.core")
local environment_paths = require("praxlua.environment_paths")
local failures = require("praxlua.pip_failures")
local folder = require("praxlua.folder")
local process = require("praxlua.process")
local tool = require("praxlua.dependencies.tool")

local file, system = core.file, core.system

local clone = {}

local VENV_SECONDS = 120

local NOT_YET = { durable = false } -- the transaction sees to that before the exchange

local CODE = {}
for suffix in ("py pyi pyc pyx pxd pxi so a h hh hpp hxx cuh"):gmatch("%S+") do
  CODE[suffix] = true
end

--- Whether a file of an environment can be shared with another one: it is code of a package.
---@param path string from the environment
---@return boolean
function clone.is_shared(path)
  local inside = path:match("^lib[^/]*/python[^/]*/site%-packages/(.+)$")
  if not inside or inside:find("^[^/]+%.dist%-info/") or inside:find("^[^/]+%.egg%-info/") then
    return false
  end
  local name = inside:match("[^/]+$")
  local suffix = name:gsub("%.so[.%d]+$", ".so"):match("^.+%.(%w+)$")
  return CODE[suffix] or false
end

local function shared_files(path)
  local entries, message, code = core.tree.list(path)
  if not entries then return nil, message, code end
  local shared = {}
  for _, entry in ipairs(entries) do
    if entry.type == "file" and clone.is_shared(entry.path) then shared[entry.path] = true end
  end
  return shared
end

--- Copies an environment as it is, but for the packages' code, which both share.
---@param from string path of an environment
---@param to string where nothing is yet
---@return table|nil counts of core.tree.copy
---@return string? message
---@return string? code
function clone.share(from, to)
  local shared, message, code = shared_files(from)
  if not shared then return nil, message, code end
  return core.tree.copy(from, to, { link = shared })
end

--- Copies an environment, and the copy is one of its own: its scripts lead into it.
---@param from string path of an environment
---@param to string where nothing is yet
---@param copy function? of core.tree, to share nothing; clone.share when nil
---@return table|nil counts of core.tree.copy
---@return string? message
---@return string? code
function clone.copy(from, to, copy)
  local counts, message, code = (copy or clone.share)(from, to)
  if not counts then return nil, message, code end
  local ok
  ok, message, code = environment_paths.correct(to, from, to, NOT_YET)
  if ok then return counts end
  core.tree.remove(to)
  return nil, message, code
end

-- Makes a new environment. Returns true, or nil and failures, or nil, nil, message, code when
-- nothing could be run at all.
local function make(ctx, path, variables)
  local python, problem = process.find("python3", variables)
  if not python then
    local next_step = "Install Python 3.8 or newer with its venv module"
    return nil, { { kind = "no_python", message = problem, next = next_step } }
  end
  tool.progress(ctx, "Making the environment " .. ctx.target .. "/venv")
  local made, failed, why = file.mkdir(path) -- python may write in it, not beside it
  if not made then return nil, nil, failed, why end
  local argv = { python, "-m", "venv", "--clear", path }
  local result, stuck, code = tool.run(ctx, argv, { seconds = VENV_SECONDS, writes = path })
  if not result then return nil, nil, stuck, code end
  if result.code == 0 and not result.timed_out then return true end
  return nil, failures.of(result, "making the environment", VENV_SECONDS)
end

-- What is mounted cannot be exchanged: a volume of a container, say.
local function mounted(live, code)
  return ("%s is mounted, so it cannot be exchanged for the new one in one step; have it be a "
    .. "folder of the installation's own"):format(live), code
end

-- The first of the folders that are installed into which is a link out of the environment: what is
-- written there would not be written into the clone.
local function part_elsewhere(live)
  local real = file.realpath(live)
  local function look(path)
    local stat = file.stat(path)
    if not stat or stat.type ~= "link" then return nil end
    local to = file.realpath(path)
    return to and to:sub(1, #real + 1) ~= real .. "/" and path or nil
  end
  local found = look(live .. "/bin")
  for _, lib in ipairs(folder.names(live) or {}) do
    local inside = live .. "/" .. lib
    found = found or lib:find("^lib") and look(inside)
    for _, python in ipairs(not found and lib:find("^lib") and folder.names(inside) or {}) do
      found = found or look(inside .. "/" .. python)
        or look(inside .. "/" .. python .. "/site-packages")
    end
  end
  return found
end

local function fill(ctx, path, live, copy)
  local stat = file.stat(live)
  if stat and stat.device ~= file.stat(ctx.target).device then
    return nil, nil, mounted(live, "EXDEV")
  end
  local elsewhere = stat and stat.type == "directory" and part_elsewhere(live)
  if elsewhere then
    return nil, nil, ("%s is a link out of the environment; what is installed there is not this "
      .. "installation's alone. Move venv away, a new one is made"):format(elsewhere), "EXDEV"
  end
  if stat and stat.type ~= "directory" then
    return nil, nil, ("%s is a %s; make it a folder of the installation's own, or move it away")
      :format(live, stat.type), "ENOTDIR"
  end
  if stat and system.access(live .. "/bin/python", "x") then
    local ok, message, code = clone.copy(live, path, copy)
    if not ok then return nil, nil, message, code end
    return true
  end
  if stat and ctx.warn then
    ctx.warn(live .. " has no working interpreter; it is made anew")
  end
  return make(ctx, path, tool.environment())
end

--- Clones the environment of an installation; makes a new one when there is none, or when its
--- interpreter is gone (a link to a Python that was removed from the system).
---@param ctx table with ctx.change
---@param share boolean whether the packages' code is shared
---@return { path: string, number: integer, created: boolean }|nil
---@return table[]|nil failures
---@return string? message when there are no failures
---@return string? code
function clone.open(ctx, share)
  local live = ctx.target .. "/venv"
  local number, path = ctx.change.stage()
  local created = not system.access(live .. "/bin/python", "x")
  local ok, errors, message, code = fill(ctx, path, live, not share and core.tree.copy or nil)
  if ok then return { path = path, number = number, created = created } end
  core.tree.remove(path)
  return nil, errors, message, code
end

--- Removes a clone that is not needed.
---@param made table of clone.open
function clone.drop(made) core.tree.remove(made.path) end

--- Exchanges a clone for the environment of the installation.
---@param ctx table
---@param made table of clone.open
---@return true|nil
---@return string? message
---@return string? code
function clone.switch(ctx, made)
  local ok, message, code = environment_paths.correct(made.path, made.path, ctx.target .. "/venv",
    NOT_YET)
  if ok then ok, message, code = ctx.change.switch(ctx.target_name .. "/venv", made.number) end
  if ok then return true end
  if code == "EBUSY" then return nil, mounted(ctx.target .. "/venv", code) end
  return nil, message, code
end

return clone
