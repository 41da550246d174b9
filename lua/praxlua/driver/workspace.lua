--- The private copy on which safe-upgrade.py works: the shipped files of an installation, in the
-- places where the script looks for them, and a source of its own.
--
--   source/    scripts/safe-upgrade.py and universal/ with a manifest; the script cannot write here
--   work/      .praxis-os/ and tmp/: all that it can write
--
-- The script takes universal/X for what belongs at X of the installation, so the copy is laid out
-- like that, whatever the layout is. It compares with the manifest as if that told what was shipped
-- *last* time; the source's own tells what is shipped now. So it gets one made from the base.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local json = require("praxlua.json")

local workspace = {}

local UNIVERSAL = "universal/"
local NAME = ".praxis-os"
local NONE = ("0"):rep(64) -- the content of no file: for a base that is not there or not known
local MANIFEST_FORM = "1.0.0"

--- The script, in a source.
workspace.SCRIPT = "scripts/safe-upgrade.py"

local function is_beneath(path, folder) return path:sub(1, #folder + 1) == folder .. "/" end

-- Copies what of `from` is wanted to `to`.
local function copy_folder(from, to, wanted)
  local stat, message, code = core.file.stat(from)
  if not stat then
    if code == "ENOENT" then return true end
    return nil, message, code
  end
  local entries
  entries, message, code = core.tree.list(from)
  if not entries then return nil, message, code end
  local skip = {}
  for _, entry in ipairs(entries) do
    if entry.type ~= "directory" and not wanted[entry.path] then skip[entry.path] = true end
  end
  local made
  made, message, code = core.file.mkdir(to:match("^(.*)/"))
  if made then made, message, code = core.tree.copy(from, to, { skip = skip }) end
  if not made then return nil, message, code end
  return true
end

-- The paths of a component's files on one side, beneath its folder there.
local function wanted_of(jobs, field, folder)
  local wanted = {}
  for _, job in ipairs(jobs) do
    local path = job[field]
    if path and is_beneath(path, folder) then wanted[path:sub(#folder + 2)] = true end
  end
  return wanted
end

local function checksum_of(entry)
  if entry["local"] == entry.new then return entry.new end
  return entry.base and #entry.base == 64 and not entry.base:find("%X") and entry.base or NONE
end

local function manifest_of(jobs, version)
  local files, today = {}, clock.date()
  for _, job in ipairs(jobs) do
    local entry = job.entry
    if entry.new then
      files[job.script] = { checksum = "sha256:" .. checksum_of(entry), size = entry.size or 0,
        last_updated = today }
    end
  end
  return { version = version or "unknown", generated = clock.iso(),
    generator_version = MANIFEST_FORM, files = files }
end

local function write_rest(ctx, space, jobs, version)
  local manifest = json.encode(manifest_of(jobs, version))
  local steps = {
    function() return core.file.mkdir(space.work .. "/tmp") end,
    function() return core.file.mkdir(space.target) end,
    function() return core.file.mkdir(space.source .. "/universal") end,
    function() return core.file.mkdir(space.source .. "/scripts") end,
    function()
      return core.file.write_atomic(space.source .. "/universal/.universal-manifest.json", manifest)
    end,
    function() return core.tree.copy(ctx.source .. "/" .. workspace.SCRIPT, space.script) end,
  }
  for _, step in ipairs(steps) do
    local done, message, code = step()
    if not done then return nil, message, code end
  end
  return true
end

--- The components that the script has to do with.
---@param recognised table layout
---@return table<string, table> components by name
function workspace.components(recognised)
  local found = {}
  for _, component in ipairs(recognised.components) do
    if component.scope == "content" and is_beneath(component.from, "universal") then
      found[component.name] = component
    end
  end
  return found
end

--- Where the script looks for what a component's folder of the source holds.
---@param source_path string beneath universal/
---@return string path beneath the script's universal/ and target
function workspace.script_path(source_path) return source_path:sub(#UNIVERSAL + 1) end

--- Makes the copy.
---@param ctx table source, target, layout
---@param folder string an empty one
---@param jobs { entry: table, script: string, here: string?, shipped: string? }[] the files: as the
--- script names it, its path in the target and in the source where it is there
---@param version string|nil of the source
---@return table|nil space { source, work, target, script }
---@return string|nil message
---@return string|nil code
function workspace.make(ctx, folder, jobs, version)
  local space = { source = folder .. "/source", work = folder .. "/work",
    target = folder .. "/work/" .. NAME, script = folder .. "/source/" .. workspace.SCRIPT }
  local done, message, code = write_rest(ctx, space, jobs, version)
  if not done then return nil, message, code end
  for _, component in pairs(workspace.components(ctx.layout)) do
    local place = workspace.script_path(component.from)
    done, message, code = copy_folder(ctx.target .. "/" .. component.to,
      space.target .. "/" .. place, wanted_of(jobs, "here", component.to))
    if not done then return nil, message, code end
    done, message, code = copy_folder(ctx.source .. "/" .. component.from,
      space.source .. "/" .. component.from, wanted_of(jobs, "shipped", component.from))
    if not done then return nil, message, code end
  end
  return space
end

local function list(root)
  local entries, message, code = core.tree.list(root, { hash = true })
  if not entries then return nil, message, code end
  local found = {}
  for _, entry in ipairs(entries) do
    if entry.type ~= "directory" then found[entry.path] = entry.sha256 or entry.type end
  end
  return found
end

--- What the copy of the installation holds.
---@param space table
---@return table<string, string>|nil found the script's path -> SHA-256, or the type of what is no
--- file
---@return string|nil message
---@return string|nil code
function workspace.list(space) return list(space.target) end

--- Whether the copies hold what the plan knows: files may have changed since they were looked at.
---@param space table
---@param jobs table[]
---@return table<string, string>|nil found as workspace.list
---@return string|nil message
---@return string|nil code ECHANGED
function workspace.check(space, jobs)
  local here, message, code = list(space.target)
  if not here then return nil, message, code end
  local shipped
  shipped, message, code = list(space.source .. "/universal")
  if not shipped then return nil, message, code end
  for _, job in ipairs(jobs) do
    local entry = job.entry
    if here[job.script] ~= entry["local"] or job.shipped and shipped[job.script] ~= entry.new then
      return nil, ("%s changed while the plan was made; run the upgrade again")
        :format(entry.path), "ECHANGED"
    end
  end
  return here
end

return workspace
