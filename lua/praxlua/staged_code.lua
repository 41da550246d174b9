--- The server's code as it will be, beside the installation: with it a new server is proven before
-- anything of the old one changes.
--
-- The folder looks like the installation, so that whatever the server's command names in it is
-- there: what holds the server's components is a copy with the plan carried out on it, the
-- environment is the one that was prepared, and all else is a link to the installation's own.
local core = require("praxlua.core")
local entries = require("praxlua.entries")
local environment = require("praxlua.environment")

local file = core.file

local staged_code = {}

local FOLDER = "/code"
local LARGEST = 256 * 1024 * 1024 -- bytes of a file

-- What must not be seen through a second name: our own folders, where this one lies, too.
local HIDDEN = { [".upgrade"] = true, [".backups"] = true, [".upgrade-lock"] = true,
  [".mcp_server_state.json"] = true }

local function top_of(path) return path:match("^[^/]+") end

-- The first parts of the paths at which the server's components lie.
local function copied_tops(ctx)
  local tops = {}
  for _, component in ipairs(ctx.layout.components) do
    if component.scope == "server" then tops[top_of(component.to)] = true end
  end
  return tops
end

local function copy_or_link(ctx, folder, tops)
  local root, message, code = core.root.open(ctx.target)
  if not root then return nil, message, code end
  local names
  names, message, code = root:list(".")
  root:close()
  if not names then return nil, message, code end
  for _, entry in ipairs(names) do
    local from, to = ctx.target .. "/" .. entry.name, folder .. "/" .. entry.name
    local ok = true
    if tops[entry.name] and entry.type == "directory" then
      ok, message, code = core.tree.copy(from, to, { skip_names = { ["__pycache__"] = true } })
    elseif not tops[entry.name] and not HIDDEN[entry.name] and entry.name ~= environment.NAME then
      ok, message, code = file.symlink(from, to)
    end
    if not ok then return nil, message, code end
  end
  return true
end

local function write(ctx, path, entry)
  local wanted = entries.result_of(entry)
  local ok, message, code = file.mkdir(path:match("^(.*)/"))
  if not ok then return nil, message, code end
  local target = wanted:match("^link:(.*)$")
  if target then return file.symlink(target, path) end
  local data = entry.content
  if not data then
    data, message, code = file.read(ctx.source .. "/" .. entry.source, LARGEST)
    if not data then return nil, message, code end
  end
  if core.hash.sha256(data) ~= wanted then
    return nil, ("%s is no longer as it was when the plan was made; run the upgrade again"):format(
      entry.source), "ECHANGED"
  end
  return file.rewrite(path, data, entry.mode)
end

local function carry_out(ctx, folder, planned)
  local scopes = {}
  for _, component in ipairs(ctx.layout.components) do scopes[component.name] = component.scope end
  for _, entry in ipairs(planned.entries) do
    local changes = entry.action == "remove" or entries.writes(entry)
    if scopes[entry.component] == "server" and changes then
      local path = folder .. "/" .. entry.path
      local ok, message, code = core.tree.remove(path)
      if ok and entries.writes(entry) then ok, message, code = write(ctx, path, entry) end
      if not ok then return nil, message, code end
    end
  end
  return true
end

--- Makes the folder, anew where there is one. It goes with the session's own.
---@param ctx table
---@param planned table the plan
---@return string|nil path of the folder; kept as ctx.memory.staged_code
---@return string? message
---@return string? code "ECHANGED" where the source is not what was planned with
function staged_code.make(ctx, planned)
  local folder = ctx.scratch .. FOLDER
  local ok, message, code = core.tree.remove(folder)
  if ok then ok, message, code = file.mkdir(folder, 448) end -- 0700
  if ok then ok, message, code = copy_or_link(ctx, folder, copied_tops(ctx)) end
  if ok then ok, message, code = carry_out(ctx, folder, planned) end
  if not ok then return nil, "staging the server's code: " .. tostring(message), code end
  ctx.memory.staged_code = folder
  return folder
end

--- Has the staged code run with an environment.
---@param ctx table
---@param path string of the environment
---@return true|nil
---@return string? message
---@return string? code
function staged_code.use_environment(ctx, path)
  local place = ctx.memory.staged_code .. "/" .. environment.NAME
  local ok, message, code = core.tree.remove(place) -- a link: only itself goes
  if not ok then return nil, message, code end
  return file.symlink(path, place)
end

return staged_code
