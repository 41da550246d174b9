--- Private copies of an installation, in a temporary directory: for a rehearsal, and for the phases
-- of a dry run.
local core = require("praxlua.core")
local environment_paths = require("praxlua.environment_paths")
local layout = require("praxlua.layout")
local run = require("praxlua.run")
local temporary = require("praxlua.temporary")

local private_copy = {}

local PRIVATE = tonumber("700", 8)

--- Bytes and entries of a project beyond which it is not copied with the installation.
private_copy.PROJECT_BYTES = 256 * 1024 * 1024
private_copy.PROJECT_ENTRIES = 50000

--- Names that are caches wherever they stand.
private_copy.IGNORED_NAMES = { ["__pycache__"] = true }

--- Names at the top of an installation that are neither copied nor compared.
---@param environment boolean whether its environment counts
---@return table<string, boolean>
function private_copy.ignored(environment)
  local skip = {}
  for path in pairs(layout.ephemeral) do skip[path] = true end
  if environment then skip.venv = nil end
  return skip
end

local function around(name) return { [name] = true, [".git"] = true } end

--- Whether the project around an installation can be copied with it: it is not too large, and can
--- be read.
---@param target string
---@return boolean
function private_copy.takes_project(target)
  local project, name = run.split(target)
  local entries = core.tree.list(project, { skip = around(name) })
  if not entries or #entries > private_copy.PROJECT_ENTRIES then return false end
  local bytes = 0
  for _, entry in ipairs(entries) do
    if entry.type == "other" then return false end
    bytes = bytes + (entry.type == "file" and entry.size or 0)
  end
  return bytes <= private_copy.PROJECT_BYTES
end

local function copy_around(target, root, whole)
  local project, name = run.split(target)
  if whole then
    return core.tree.copy(project, root .. "/project", { skip = around(name) })
  end
  local ok, message, code = core.file.mkdir(root .. "/project")
  local gitignore = core.file.stat(project .. "/.gitignore")
  if ok and gitignore and gitignore.type == "file" then
    ok, message, code = core.tree.copy(project .. "/.gitignore", root .. "/project/.gitignore")
  end
  return ok, message, code
end

local function copy_all(target, root, with)
  local _, name = run.split(target)
  local copy = root .. "/project/" .. name
  local ok, message, code = core.file.mkdir(root, PRIVATE)
  if ok then ok, message, code = copy_around(target, root, with.project) end
  if ok then
    ok, message, code = core.tree.copy(target, copy, {
      skip = private_copy.ignored(with.environment), skip_names = private_copy.IGNORED_NAMES })
  end
  if ok and with.environment then -- the scripts of the copy must not lead into the original
    ok, message, code = environment_paths.correct(copy .. "/venv", target .. "/venv",
      copy .. "/venv", { durable = false })
  end
  if not ok then return nil, message, code end
  return copy
end

--- Copies an installation, without what is no content, and the project's .gitignore.
---@param target string
---@param root string a folder that is made, and that the caller removes
---@param with { environment: boolean?, project: boolean? } its environment; the rest of the
---  project, but for .git
---@return string|nil copy path of the installation's copy
---@return string? message
---@return string? code
function private_copy.make(target, root, with)
  return core.cancel.within(math.huge, copy_all, target, root, with)
end

local MAKE_ROOM = "make room, or " .. temporary.ADVICE .. ", and run the command again"
local NO_ROOM = { ENOSPC = true, EDQUOT = true }

--- What to do when a copy could not be made.
---@param code string?
---@return string
function private_copy.advice(code)
  return NO_ROOM[code] and MAKE_ROOM or "mend the cause and run the command again"
end

--- An event, or a result, in which a copy has the name of its original: what names the copy would
--- lead to where nothing is any more.
---@param event table
---@param copy string path of the copied project
---@param original string
---@return table event another one
function private_copy.about_original(event, copy, original)
  local pattern, name = copy:gsub("%p", "%%%0"), (original:gsub("%%", "%%%%"))
  local function renamed(value)
    if type(value) == "string" then return (value:gsub(pattern, name)) end
    if type(value) ~= "table" then return value end
    local all = setmetatable({}, getmetatable(value)) -- an array stays one
    for key, of in pairs(value) do all[key] = renamed(of) end
    return all
  end
  return renamed(event)
end

return private_copy
