--- Confinement: where a tool of a phase may write, and whether it may reach the network.
--
-- The kernel holds it (core.spawn.confines tells how far), over the tool and all that it starts.
local folder = require("praxlua.folder")

local confinement = {}

--- Our own names in an installation. They are nobody's to write in, or an undo would not find what
--- it needs.
confinement.OURS = {
  [".upgrade"] = true, [".upgrade-lock"] = true, [".backups"] = true, [".cache"] = true,
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

--- What a tool may do.
---@param ctx { target: string }
---@param environment table<string, string> that the tool gets
---@param allow { target: boolean, network: boolean } target: it may write in the installation, but
---  for our own folders, in all that stands there by now; a new name at its top is out of reach
---@return { write: string[], network: boolean } for process.run
function confinement.of(ctx, environment, allow)
  local write = {}
  add(write, environment.TMPDIR or "/tmp")
  for _, cache in ipairs(CACHES) do
    local home = cache[2] and environment.HOME
    add(write, environment[cache[1]] or home and home .. cache[2])
  end
  for _, name in ipairs(allow.target and folder.names(ctx.target) or {}) do
    if not confinement.OURS[name] then add(write, ctx.target .. "/" .. name) end
  end
  return { write = write, network = allow.network or false }
end

return confinement
