--- The project file: upgrade.lua in an installation, a project's own settings for its upgrades.
--
-- It is a Lua script that returns a table. Like a phase it is run in a worker of its own, without
-- any grant, and what it returns is checked against a closed schema. docs/project-file.md is the
-- guide.
local core = require("praxlua.core")
local extend = require("praxlua.project_file.extend")
local isolation = require("praxlua.isolation")
local lexer = require("praxlua.phases.lexer")
local outline = require("praxlua.phases.outline")
local phases = require("praxlua.phases")
local settings = require("praxlua.project_file.settings")

local project_file = {}

--- Its name in an installation.
project_file.NAME = "upgrade.lua"
--- The longest one that is read, in bytes.
project_file.MAX_BYTES = 1024 * 1024

local BYTE_ORDER_MARK = "^\u{FEFF}"

--- Runs the script in a worker. What it returned, unchecked.
local function run(source)
  local name = project_file.NAME
  local worker, message, code = isolation.start(phases.LIMITS)
  if not worker then return nil, message, code end
  isolation.tell(worker, "settings", name, source, {})
  local kind, value = worker:receive(phases.LIMITS.cpu + 1)
  worker:stop()
  if kind == "result" then return value end
  if kind == "error" then
    local problem = tostring(value):match("^[^\n]*")
    local is_named = problem:sub(1, #name + 1) == name .. ":"
    return nil, is_named and problem or name .. ": " .. problem, "ESETTINGS"
  end
  return nil, ("%s: reading it ended with %s; it is to return a table of settings, and no more")
    :format(name, tostring(value)), "ESETTINGS"
end

-- A message about a field, with its line in the file. (outline.lua writes ["a key"] as .a key)
local function at_field(source, field, problem)
  local known = field:gsub('%["(.-)"%]', ".%1"):gsub("^%.", "")
  local line = outline.line(outline.of(lexer.words(source)), known)
  return ("%s:%d: %s%s%s"):format(project_file.NAME, line, field, field ~= "" and ": " or "",
    problem)
end

--- Reads the text of a project file.
---@param source string
---@param recognised table|nil the layout of the installation; without one what depends on it is not
---  checked
---@return table|nil settings
---@return string? message with the file's name and, where one field is wrong, its line and path
---@return string? code "ESETTINGS", or one of isolation.start
function project_file.parse(source, recognised)
  source = source:gsub(BYTE_ORDER_MARK, "")
  local found, message, code = run(source)
  if not found then return nil, message, code end
  local ok, problem, field, _ = settings.check(found)
  if ok and recognised then
    ok, problem, _, field = extend.layout(recognised, found)
  end
  if ok then return found end
  return nil, at_field(source, field, problem), "ESETTINGS"
end

local READING = {
  ENOTREG = "it is no regular file; put a file in its place, or move it away",
  EACCES = "it may not be read; make it readable with chmod u+r, or run this as its owner",
  EFBIG = "it is longer than 1 MiB",
}

--- Reads the project file of an installation.
---@param target string
---@param recognised table|nil as of project_file.parse
---@return table|false|nil settings false where there is none
---@return string? message
---@return string? code
function project_file.read(target, recognised)
  local source, message, code = core.file.read(target .. "/" .. project_file.NAME,
    project_file.MAX_BYTES)
  if not source then
    if code == "ENOENT" then return false end
    return nil, project_file.NAME .. ": " .. (READING[code] or message), code
  end
  return project_file.parse(source, recognised)
end

project_file.extend = extend.layout

return project_file
