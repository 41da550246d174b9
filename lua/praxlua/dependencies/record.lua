--- The record of what an installation of packages left: when nothing of that changed, there is
-- nothing to install.
--
-- It lies in .cache and is worth no more than what lies there: one that is gone, damaged or of
-- another environment means that the packages are installed.
local core = require("praxlua.core")
local installer = require("praxlua.dependencies.installer")
local requirements_file = require("praxlua.dependencies.requirements_file")
local seal = require("praxlua.seal")

local file = core.file

local record = {}

local FORMAT_VERSION = 1
local NAME = "/.cache/environment.json"
local LARGEST = 1024 * 1024 -- bytes

-- The interpreter: what pyvenv.cfg says, and the program behind bin/python, which the system's
-- package manager replaces under the same name.
local function interpreter_of(venv)
  local settings = file.read(venv .. "/pyvenv.cfg")
  local program = file.realpath(venv .. "/bin/python")
  local stat = program and file.stat(program)
  if not settings or not stat then return nil end
  return core.hash.sha256(("%s\0%s\0%d\0%d"):format(settings, program, stat.size, stat.mtime))
end

-- Type, size and mode of everything in it, by path, without what Python caches.
local function listing_of(venv)
  local entries = core.tree.list(venv, { skip_names = { ["__pycache__"] = true } })
  if not entries then return nil end
  local lines = {}
  for i, entry in ipairs(entries) do
    lines[i] = ("%s\0%s\0%d\0%o\0%s\n"):format(entry.path, entry.type, entry.size, entry.mode,
      entry.target or "")
  end
  return core.hash.sha256(table.concat(lines))
end

--- What a requirements file asks for, as far as the file itself tells it.
---@param path string
---@return string|nil hash nil when it counts on other files, or cannot be read
function record.requirements(path)
  local data = file.read(path)
  return data and not requirements_file.refers(data) and core.hash.sha256(data) or nil
end

--- Notes what the environment of an installation is now.
---@param ctx table
---@param requirements string|nil of record.requirements; nil: it is no longer known
---@param steps string[] the commands that were run after the installation and need not be again
---@return true|nil
---@return string? message
---@return string? code
function record.write(ctx, requirements, steps)
  local venv = ctx.target .. "/venv"
  local interpreter, listing = interpreter_of(venv), listing_of(venv)
  if not requirements or not interpreter or not listing then
    return file.remove(ctx.target .. NAME)
  end
  local ok, message, code = file.mkdir(ctx.target .. "/.cache")
  if not ok then return nil, message, code end
  return file.write_atomic(ctx.target .. NAME, seal.encode({
    format_version = FORMAT_VERSION, installer = installer.name(ctx), requirements = requirements,
    interpreter = interpreter, listing = listing, steps = table.concat(steps, "\n"),
  }))
end

--- Whether an environment is what the recorded installation of these requirements left.
---@param ctx table
---@param requirements string path of the file
---@return table<string, boolean>|nil steps the commands that were run after it; nil: it is not
function record.current(ctx, requirements)
  local data = file.read(ctx.target .. NAME, LARGEST)
  local found = data and seal.open(data, { max_bytes = LARGEST })
  local venv, wanted = ctx.target .. "/venv", record.requirements(requirements)
  if not found or not wanted or found.format_version ~= FORMAT_VERSION
    or found.installer ~= installer.name(ctx) or found.requirements ~= wanted
    or type(found.steps) ~= "string" or found.interpreter ~= interpreter_of(venv)
    or found.listing ~= listing_of(venv) then
    return nil
  end
  local steps = {}
  for command in found.steps:gmatch("[^\n]+") do steps[command] = true end
  return steps
end

return record
