--- Layouts: which path of a source lands on which path of a target, who owns it, and what proves
-- that a directory is a source or a target of the product. The data is in layout/, one file a
-- layout; the functions only read it.
--
-- A component is { name, from, to, ownership, scope, when?, optional?, except?, arriving?,
-- retired? }:
--   from       directory in the source, to: directory in the target
--   ownership  "system" (we add, update, and delete what we shipped) or "shared" (add and update)
--   scope      "content" (upgraded in phase 2) or "server" (phase 3)
--   when       "present": only where the target has the directory already
--   optional   not every installer copies it: where the directory is missing, it was not deleted
--   except     directories in the target that are not of it
--   arriving   nothing was shipped there before
--   retired    nothing is shipped there any more: what was, and nobody changed, goes
--
-- Beside its components a layout has
--   name       as in sessions and .installed-manifest.json; title: for people
--   folder     the installation is called so; else it may have any name
--   ships      the layout whose sources are sources of this one, where it has none of its own
--   becomes    the layout that an upgrade leaves, where it is another
--   unshipped  names and suffixes that are left out of every copy
--   user       what is the project's own
--   config     the settings; ephemeral: what is no content; environment: the server's venv
--   server     { module, requirements }: what `python -m` runs, the list of its packages
--   source     a source has all `directories`, nothing in those of `without`, and a manifest or
--              files in `content`, which shows that the others are not empty
--   target     any one line of directories proves a target, given that those of `holds` have files
--              in them, one of `holds_one` has, and none of `without`
--   flat       directories that show the layout safe-upgrade.py leaves behind
--   tools      `minimum` of any server, and those that are `gone` from newer ones
local core = require("praxlua.core")
local json = require("praxlua.json")
local lists = require("praxlua.lists")
local names_of = require("praxlua.folder").names

local layout = {}

local praxis_os = require("praxlua.layout.praxis_os")
local agent_os = require("praxlua.layout.agent_os")
local ouroboros = require("praxlua.layout.ouroboros")
local flat = require("praxlua.layout.flat")

--- All layouts; the first is the one where nothing tells.
layout.layouts = { praxis_os, agent_os, ouroboros, flat }

-- A target is of the first of these that is proven: those that demand more come before the others.
local TRIED = { flat, ouroboros, agent_os, praxis_os }

--- What installations are called where nobody says otherwise: now, and in older releases. Between
--- these names they are moved.
layout.FOLDERS = { ".praxis-os", agent_os.folder }

--- What no layout counts as content: names directly under a target.
---@type table<string, boolean>
layout.ephemeral = praxis_os.ephemeral.paths

local function is_directory(path)
  local stat = core.file.stat(path)
  return stat ~= nil and stat.type == "directory"
end

--- Whether a directory holds at least one file, at any depth; what Python leaves behind is none.
local function has_files(path)
  local entries = is_directory(path)
    and core.tree.list(path, { skip_names = praxis_os.ephemeral.names }) or {}
  for _, entry in ipairs(entries) do
    if entry.type == "file" then return true end
  end
  return false
end

-- A name beside a missing one that is the same but for its case.
local function twin_of(path)
  local folder, name = path:match("^(.*)/([^/]+)$")
  for _, other in ipairs(folder and names_of(folder) or {}) do
    if other ~= name and other:lower() == name:lower() then return other end
  end
end

local function kind_of(path)
  local stat = core.file.stat(path)
  if not stat then
    local twin = twin_of(path)
    return twin and ("missing (%s is there, in another case)"):format(twin) or "missing"
  end
  if stat.type == "link" then return "a link" end
  return stat.type == "directory" and "a directory" or "not a directory"
end

--- The layout of a given name (as a session or a manifest remembers it).
---@param name string
---@return table|nil
function layout.by_name(name)
  for _, candidate in ipairs(layout.layouts) do
    if candidate.name == name then return candidate end
  end
  return nil
end

--- What a source's manifest says, when it is one.
---@param path string the source
---@param candidate table layout
---@return table|nil manifest
function layout.source_manifest(path, candidate)
  local data = core.file.read(path .. "/" .. candidate.source.manifest)
  local manifest = data and json.decode(data)
  if type(manifest) ~= "table" or type(manifest.files) ~= "table" then return nil end
  return manifest
end

local function source_problem(path, candidate)
  for _, directory in ipairs(candidate.source.directories) do
    local kind = kind_of(path .. "/" .. directory)
    if kind ~= "a directory" then return ("%s is %s"):format(directory, kind) end
    if not has_files(path .. "/" .. directory) then return directory .. " holds no file" end
  end
  for _, directory in ipairs(candidate.source.without) do
    if has_files(path .. "/" .. directory) then return directory .. " is there, too" end
  end
  if layout.source_manifest(path, candidate) or has_files(path .. "/" .. candidate.source.content)
  then
    return nil
  end
  return ("neither %s (a manifest that can be read) nor %s (with files) is there")
    :format(candidate.source.manifest, candidate.source.content)
end

--- The layout of which a directory is a source.
---@param path string
---@return table|nil layout
---@return string|nil message what was looked for and what was found
---@return string|nil code "ELAYOUT"
function layout.recognise_source(path)
  if not is_directory(path) then
    return nil, ("there is no source at %s (it is %s); name the directory of a cloned source "
      .. "repository with --source"):format(path, kind_of(path)), "ELAYOUT"
  end
  local tried = {}
  for _, candidate in ipairs(layout.layouts) do
    local problem = not candidate.ships and source_problem(path, candidate)
    if problem == nil then return candidate end
    if problem then
      tried[#tried + 1] = ("looked for %s (%s), found that %s"):format(
        table.concat(candidate.source.directories, " and "), candidate.name, problem)
    end
  end
  return nil, ("%s is not a source of a known product: %s; name the root of its repository with "
    .. "--source"):format(path, table.concat(tried, "; ")), "ELAYOUT"
end

--- Whether a source of one layout is a source of another's installations.
---@param source table layout
---@param target table layout
---@return boolean
function layout.fits(source, target)
  return source.name == (target.ships or target.name)
end

-- A folder that is called as a server is one only if Python can run it: it may be the user's.
local function is_server(path)
  return has_files(path)
    and (core.file.exists(path .. "/__main__.py") or core.file.exists(path .. "/__init__.py"))
end

local function is_module(name)
  for _, candidate in ipairs(layout.layouts) do
    if candidate.server.module == name then return true end
  end
  return false
end

--- The names of `directories` that hold files beneath `path`; of a server's, those that are one.
local function filled(path, directories)
  local found = {}
  for _, directory in ipairs(directories or {}) do
    local holds = is_module(directory) and is_server or has_files
    if holds(path .. "/" .. directory) then found[#found + 1] = directory end
  end
  return found
end

--- Directories of the flat layout in a target, whatever else it holds.
---@param path string target
---@param candidate table layout
---@return string[] directories
function layout.flat_directories(path, candidate)
  return filled(path, candidate.flat)
end

local function has_all(path, directories)
  for _, directory in ipairs(directories) do
    if not is_directory(path .. "/" .. directory) then return false end
  end
  return true
end

local function has_one_line(path, lines)
  for _, directories in ipairs(lines) do
    if has_all(path, directories) then return true end
  end
  return false
end

local function is_called(path, candidate)
  return not candidate.folder or path:match("[^/]*$") == candidate.folder
end

local function is_proven(path, candidate)
  return is_called(path, candidate) and has_one_line(path, candidate.target)
    and #filled(path, candidate.holds) == #(candidate.holds or {})
    and (not candidate.holds_one or #filled(path, candidate.holds_one) > 0)
    and #filled(path, candidate.without) == 0
end

--- What was looked for in a target and what each is.
local function target_report(path, candidate)
  local wanted, found, seen = {}, {}, {}
  for _, directories in ipairs(candidate.target) do
    wanted[#wanted + 1] = table.concat(directories, "/ with ") .. "/"
    for _, directory in ipairs(directories) do
      if not seen[directory] then
        seen[directory] = true
        found[#found + 1] = ("%s is %s"):format(directory, kind_of(path .. "/" .. directory))
      end
    end
  end
  local report = ("looked for %s (%s), found that %s"):format(
    table.concat(wanted, " or "), candidate.name, table.concat(found, ", "))
  local others = filled(path, candidate.without)
  if #others == 0 then return report end
  return ("%s, and files in %s, which that layout does not have"):format(report,
    table.concat(others, ", "))
end

-- The servers of two layouts in one target: neither is proven, and either might be meant.
local function mixed_servers(path)
  local found = {}
  for _, candidate in ipairs(layout.layouts) do
    local module = candidate.server.module
    if not lists.has(found, module) and is_server(path .. "/" .. module) then
      found[#found + 1] = module
    end
  end
  return #found > 1 and found or nil
end

--- The layout of an installation.
---@param path string the target, e.g. PROJECT/.praxis-os
---@return table|nil layout
---@return string|nil message what was looked for and what was found
---@return string|nil code "ELAYOUT"
function layout.recognise_target(path)
  if not is_directory(path) then
    return nil, ("there is no installation at %s (it is %s); name its directory with --target")
      :format(path, kind_of(path)), "ELAYOUT"
  end
  for _, candidate in ipairs(TRIED) do
    if is_proven(path, candidate) then return candidate end
  end
  local servers = mixed_servers(path)
  if servers then
    return nil, ("%s holds the servers of two layouts, %s, and either may be the one in use; move "
      .. "the folder of the other one out of the installation and run this again"):format(path,
      table.concat(servers, " and ")), "ELAYOUT"
  end
  local tried = {}
  for _, candidate in ipairs(layout.layouts) do
    if not candidate.ships then tried[#tried + 1] = target_report(path, candidate) end
  end
  return nil, ("%s is not an installation of a known layout: %s; name the installation with "
    .. "--target, or install the product first"):format(path, table.concat(tried, "; ")), "ELAYOUT"
end

--- What is known of the server of an installation, also where its layout is not (yet) known.
---@param ctx table target, layout?
---@return { module: string, requirements: string } server
function layout.server_of(ctx)
  local recognised = ctx.layout or layout.recognise_target(ctx.target) or praxis_os
  return recognised.server
end

local function beneath(path, directory)
  if path == directory then return "" end
  if path:sub(1, #directory + 1) == directory .. "/" then return path:sub(#directory + 2) end
  return nil
end

local function is_excepted(component, path)
  for _, directory in ipairs(component.except or {}) do
    if beneath(path, directory) then return true end
  end
  return false
end

--- The component a target path belongs to.
---@param recognised table layout
---@param path string relative to the target
---@return table|nil component
---@return string|nil rest the path beneath the component's directory
function layout.component_of(recognised, path)
  local best, rest
  for _, component in ipairs(recognised.components) do
    local tail = not is_excepted(component, path) and beneath(path, component.to)
    if tail and (not best or #component.to > #best.to) then best, rest = component, tail end
  end
  return best, rest
end

--- Whose a target path is: its component's, unless a project's own settings say otherwise.
---@param recognised table layout
---@param path string relative to the target
---@return "system"|"shared"|"user"|"config" ownership
---@return string? reason where those settings say so
function layout.ownership_of(recognised, path)
  if recognised.ownership_of then return recognised.ownership_of(path) end
  local component = layout.component_of(recognised, path)
  return component and component.ownership or "user"
end

--- Where a source path lands.
---@param recognised table layout
---@param path string relative to the source
---@return string|nil target path relative to the target; nil when it is not shipped
---@return table|nil component
function layout.target_path(recognised, path)
  for name in path:gmatch("[^/]+") do
    if recognised.unshipped.names[name] then return nil end
  end
  for _, suffix in ipairs(recognised.unshipped.suffixes) do
    if path:sub(-#suffix) == suffix then return nil end
  end
  for _, component in ipairs(recognised.components) do
    local tail = beneath(path, component.from)
    if tail and tail ~= "" then return component.to .. "/" .. tail, component end
  end
  return nil
end

--- Where a target path comes from.
---@param recognised table layout
---@param path string relative to the target
---@return string|nil source path relative to the source
function layout.source_path(recognised, path)
  local component, tail = layout.component_of(recognised, path)
  if not component or tail == "" then return nil end
  return component.from .. "/" .. tail
end

-- The path of the same source file in the other of two components, of which an upgrade retires one.
local function path_in_other(recognised, path, is, other_is)
  local component, tail = layout.component_of(recognised, path)
  if not component or not component[is] then return nil end
  for _, other in ipairs(recognised.components) do
    if other[other_is] and other.from == component.from then return other.to .. "/" .. tail end
  end
  return nil
end

--- Where a path was before an upgrade puts it in its right place.
---@param recognised table layout
---@param path string relative to the target
---@return string|nil former nil where it was nowhere else
function layout.former_path(recognised, path)
  return path_in_other(recognised, path, "arriving", "retired")
end

--- Where an upgrade puts a path that is in a wrong place.
---@param recognised table layout
---@param path string relative to the target
---@return string|nil later nil where it stays
function layout.later_path(recognised, path)
  return path_in_other(recognised, path, "retired", "arriving")
end

--- Whether a target path is not content: a cache, the environment, our own records.
---@param recognised table layout
---@param path string relative to the target
---@return boolean
function layout.is_ephemeral(recognised, path)
  local first = path:match("^[^/]+")
  if recognised.ephemeral.paths[first] then return true end
  for name in path:gmatch("[^/]+") do
    if recognised.ephemeral.names[name] then return true end
  end
  return false
end

--- Whether there is a component of that name; a wrong one must not pass for an empty one.
---@param recognised table a layout
---@param name any
---@return true|nil
---@return string|nil message
---@return string|nil code "EINVAL"
function layout.check_component(recognised, name)
  local names = {}
  for i, component in ipairs(recognised.components) do
    if component.name == name then return true end
    names[i] = component.name
  end
  return nil, string.format("there is no component '%s'; there are %s", tostring(name),
    table.concat(names, ", ")), "EINVAL"
end

--- Whether a component was never installed in a target: its directory is missing, and not every
--- installer makes it.
---@param component table
---@param target string
---@return boolean
function layout.is_left_out(component, target)
  return component.optional == true and not is_directory(target .. "/" .. component.to)
end

--- The components an upgrade of this target has to do with.
---@param recognised table layout
---@param target string
---@return table[] components
function layout.components_for(recognised, target)
  local active = {}
  for _, component in ipairs(recognised.components) do
    if component.when ~= "present" or is_directory(target .. "/" .. component.to) then
      active[#active + 1] = component
    end
  end
  return active
end

local function last_match(text, pattern)
  local found
  for value in text:gmatch(pattern) do found = value end
  return found
end

--- The version a VERSION.txt names: its last "Current Version:" or "version=" (tools append a line
--- each time), else a first line that is a version by itself.
---@param data string
---@return string|nil
function layout.version_in(data)
  local whole = "\n" .. data .. "\n"
  return last_match(whole, "\n[ \t]*Current Version:[ \t]*([^%s]+)")
    or last_match(whole, "\n[ \t]*[Vv]ersion[=:][ \t]*([^%s]+)")
    or whole:match("^%s*([vV]?%d+%.[%w%.%-%+]*)[ \t\r]*\n")
end

local function project_version(data)
  local section
  for line in data:gmatch("[^\r\n]+") do
    section = line:match("^%s*%[([^%]]+)%]") or section
    if section == "project" or section == "tool.poetry" then
      local version = line:match("^%s*version%s*=%s*[\"']([^\"']+)[\"']")
      if version then return version end
    end
  end
  return nil
end

--- The version a source says it is: VERSION.txt, else its manifest, else pyproject.toml.
---@param path string source
---@param recognised table layout
---@return string|nil version
---@return string|nil from the file it was read from
function layout.source_version(path, recognised)
  local data = core.file.read(path .. "/VERSION.txt")
  local version = data and layout.version_in(data)
  if version then return version, "VERSION.txt" end
  local manifest = layout.source_manifest(path, recognised)
  if manifest and type(manifest.version) == "string" and manifest.version ~= "" then
    return manifest.version, recognised.source.manifest
  end
  data = core.file.read(path .. "/pyproject.toml")
  version = data and project_version(data)
  if version then return version, "pyproject.toml" end
  return nil
end

return layout
