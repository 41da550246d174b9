--- Confinement: where a tool of a phase may write, and whether it may reach the network.
--
-- The kernel holds it (core.spawn.confines tells how far), over the tool and all that it starts.
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local process = require("praxlua.process")

local confinement = {}

--- Names in an installation that no phase and no tool writes: our own, or an undo would not find
--- what it needs; and those that say which phases run, with what grants.
confinement.OURS = {
  [".upgrade"] = true, [".upgrade-lock"] = true, [".backups"] = true, [".cache"] = true,
  phases = true, ["upgrade.lua"] = true,
}

-- Where tools keep what they need not download again: a variable, and where it is not set, a place
-- in the home folder.
local CACHES = {
  { "XDG_CACHE_HOME", "/.cache" }, { "PIP_CACHE_DIR" }, { "UV_CACHE_DIR" },
  { "npm_config_cache", "/.npm" },
}

local function add(paths, path)
  if path and path:sub(1, 1) == "/" then paths[#paths + 1] = path end
end

-- A place that the user chose may be a link to where it is; anywhere else a link counts nothing.
local function resolved(path)
  return path and path:sub(1, 1) == "/" and core.file.realpath(path) or path
end

-- Whether a path is another one or something in it. Neither ends in a '/'.
local function is_within(path, outer)
  return outer == "/" or path == outer or path:sub(1, #outer + 1) == outer .. "/"
end

-- Whether who may write in a cache can take away our own folders: the installation may lie in it.
local function endangers(ctx, cache)
  local target = resolved(ctx.target)
  if is_within(target, cache) then return true end
  for name in pairs(confinement.OURS) do
    if is_within(cache, target .. "/" .. name) then return true end
  end
  return false
end

-- What stands in a folder by now, but for some names; a new name at its top is out of reach.
local function add_inside(write, path, without)
  for _, name in ipairs(folder.names(path) or {}) do
    if not without[name] then add(write, path .. "/" .. name) end
  end
end

--- What a tool may do.
---@param ctx { target: string, project: string, target_name: string }
---@param environment table<string, string> that the tool gets
---@param allow { target: boolean?, project: boolean?, network: boolean?, write: string[]? } target:
---  it may write in the installation, but for our own folders; project: in the project beside it,
---  but for .git, whose hooks run with nobody's grant; write: in these paths, which are there
---@return { write: string[], network: boolean } for process.run
function confinement.of(ctx, environment, allow)
  local write = {}
  add(write, environment.TMPDIR)
  for _, cache in ipairs(CACHES) do
    local home = cache[2] and environment.HOME
    local path = resolved(environment[cache[1]] or home and home .. cache[2])
    if path and not endangers(ctx, path) then add(write, path) end
  end
  for _, path in ipairs(allow.write or {}) do add(write, path) end
  if allow.target then add_inside(write, ctx.target, confinement.OURS) end
  if allow.project then
    add_inside(write, ctx.project, { [ctx.target_name] = true, [".git"] = true })
  end
  return { write = write, network = allow.network or false }
end

-- A tool's temporary directory is its own: in the usual one lie other people's files, and now and
-- then the installation itself. It is in the session's folder, and goes with that after a kill.
local function temporary(ctx, environment)
  return ("%s/tool-%s"):format(ctx.folder or environment.TMPDIR or "/tmp",
    core.system.uuid():sub(1, 8))
end

local FULL = { ENOSPC = true, EDQUOT = true }

--- process.run for a tool of a phase: in the project, confined, with a temporary directory of its
--- own that goes when it has ended.
---@param ctx table
---@param options table of process.run
---@param allow table of confinement.of
---@return table|nil result
---@return string|nil message
---@return string|nil code
function confinement.run(ctx, options, allow)
  local all, environment = {}, {}
  for name, value in pairs(options) do all[name] = value end
  for name, value in pairs(options.environment or process.environment()) do
    environment[name] = value
  end
  environment.TMPDIR = temporary(ctx, environment)
  local made, message, code = core.file.mkdir(environment.TMPDIR, 448) -- 0700
  -- On a full disk a tool has none: what takes an effect back has to run all the same.
  if not made and not FULL[code] then return nil, message, code end
  all.directory, all.environment = options.directory or ctx.project, environment
  all.confine = confinement.of(ctx, environment, allow)
  local results <const> = table.pack(process.run(all))
  core.tree.remove(environment.TMPDIR)
  return table.unpack(results, 1, results.n)
end

return confinement
