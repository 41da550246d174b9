--- The survey before a plan: what the source ships now, and what the target holds. Reads only. What
-- stands at a path is described by a state, as in plan.lua.
local base = require("praxlua.base")
local core = require("praxlua.core")
local git = require("praxlua.git")
local layout = require("praxlua.layout")

local survey = {}

local function fail(text, code, ...)
  return nil, text:format(...), code
end

-- ---- what is shipped now --------------------------------------------------------------------

--- Git vouches for the files only while the work tree equals the index.
local function check_clean(source, paths)
  local changed, message, code = git.status(source, paths)
  if not changed then return nil, message, code end
  if changed[1] then
    return fail("the source has uncommitted changes: %s in %s; commit or stash them", "EDIRTY",
      changed[1].path, source)
  end
  local hidden
  hidden, message, code = git.hidden(source, paths)
  if not hidden then return nil, message, code end
  if hidden[1] then
    return fail("git was told not to look at %s in %s (assume-unchanged or a sparse checkout), so "
      .. "its content is not known to be the committed one; check out the whole source", "EDIRTY",
      hidden[1], source)
  end
  return true
end

local function source_state(source, file)
  local full = source .. "/" .. file.path
  local key = git.key(file.mode, file.oid)
  if file.mode == "120000" then
    local target, message, code = core.file.readlink(full)
    if not target then return nil, message, code end
    return { type = "link", id = "link:" .. target, size = 0, key = key }
  elseif file.mode == "160000" then
    return fail("%s is a git submodule in %s; a source ships plain files", "ESOURCE",
      file.path, source)
  end
  local hex, size, code = core.hash.file(full)
  if not hex then return nil, size, code end
  return { type = "file", id = hex, size = size, key = key, executable = file.mode == "100755" }
end

--- The source directories of components.
---@param components table[]
---@return string[]
function survey.froms(components)
  local paths = {}
  for _, component in ipairs(components) do paths[#paths + 1] = component.from end
  return paths
end

--- The tracked files of the source by the target path they land on.
---@param ctx table source, layout
---@param components table[]
---@return table<string, table>|nil shipped path -> state with `source`, `component` and `key`
--- (git.key)
---@return string|nil message
---@return string|nil code EDIRTY, ESOURCE
function survey.source(ctx, components)
  local paths = survey.froms(components)
  local clean, message, code = check_clean(ctx.source, paths)
  if not clean then return nil, message, code end
  local files
  files, message, code = git.files(ctx.source, nil, paths)
  if not files then return nil, message, code end
  local shipped = {}
  for _, file in ipairs(files) do
    if not base.is_normal(file.path) then
      return fail("%s tracks %q, which is no path beneath it; remove it there", "ESOURCE",
        ctx.source, file.path)
    end
    local path, component = layout.target_path(ctx.layout, file.path)
    if path then
      local state
      state, message, code = source_state(ctx.source, file)
      if not state then return nil, message, code end
      state.source, state.component = file.path, component
      shipped[path] = state
    end
  end
  return shipped
end

-- ---- what is here ---------------------------------------------------------------------------

local function local_state(entry)
  if entry.type == "file" then
    return { type = "file", id = entry.sha256, mode = entry.mode, size = entry.size,
      executable = entry.mode & 64 ~= 0 } -- 0100: the owner may run it
  elseif entry.type == "link" then
    return { type = "link", id = "link:" .. entry.target, size = 0 }
  end
  return { type = entry.type, id = entry.type }
end

--- What is at one path of a target, as a state; nil without a message for nothing.
---@param target string
---@param path string relative to the target
---@return table|nil state
---@return string|nil message
---@return string|nil code
function survey.at(target, path)
  local root, message, code = core.root.open(target)
  if not root then return nil, message, code end
  local stat
  stat, message, code = root:stat(path)
  if stat and stat.type == "file" then
    stat.sha256, message, code = root:hash(path)
  end
  root:close()
  if stat and (stat.type ~= "file" or stat.sha256) then return local_state(stat) end
  if code == "ENOENT" or code == "ENOTDIR" then return nil end
  return nil, message, code
end

--- Refuses a component's directory that is reached through a link or is none.
local function check_root(ctx, component)
  local at = ctx.target
  for name in component.to:gmatch("[^/]+") do
    at = at .. "/" .. name
    local stat, message, code = core.file.stat(at)
    if not stat then
      if code == "ENOENT" then return false end
      return nil, message, code
    end
    if stat.type ~= "directory" then
      return fail("%s is a %s, and %s is upgraded beneath it; put a directory with the files in "
        .. "its place", "ELAYOUT", at, stat.type == "link" and "link" or "file", component.name)
    end
  end
  return true
end

--- Everything in the components' directories of the target.
---@param ctx table target, layout
---@param components table[]
---@return table<string, table>|nil here path -> state, of all but directories
---@return table<string, boolean>|string directories the set of them, or the message
---@return string|nil code
function survey.target(ctx, components)
  local here, directories = {}, {}
  for _, component in ipairs(components) do
    local exists, message, code = check_root(ctx, component)
    if exists == nil then return nil, message, code end
    local entries = {}
    if exists then
      entries, message, code = core.tree.list(ctx.target .. "/" .. component.to,
        { hash = true, skip_names = ctx.layout.ephemeral.names })
      if not entries then return nil, message, code end
    end
    for _, entry in ipairs(entries) do
      local path = component.to .. "/" .. entry.path
      if layout.component_of(ctx.layout, path) == component then
        if entry.type == "directory" then
          directories[path] = true
        else
          here[path] = local_state(entry)
        end
      end
    end
  end
  return here, directories
end

return survey
