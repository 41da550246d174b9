--- The move of an installation to another folder name in its project (.agent-os to .praxis-os).
--
-- One rename moves everything: content, environment, backups, sessions. It is the point of no
-- return, and nothing lies between old and new. What has to follow the name outside of the content
-- (lines of the project's .gitignore, paths in the environment's scripts) is derived from it alone,
-- in either direction, and may be repeated. A record in .cache, written before the rename, moves
-- with the folder; whoever finds one looks which name the folder has, and makes the rest agree.
local core = require("praxlua.core")
local environment_paths = require("praxlua.environment_paths")
local gitignore = require("praxlua.gitignore")
local json = require("praxlua.json")
local folders = require("praxlua.folder")
local seal = require("praxlua.seal")
local text = require("praxlua.text")

local file = core.file

local migration = {}

migration.FORMAT_VERSION = 1

local RECORD = "/.cache/migration.json"
local LARGEST_RECORD = 64 * 1024 * 1024 -- bytes; the .gitignore is in it

local function place(path)
  local project, name = path:match("^(.*)/([^/]+)$")
  return project, name
end

-- ---- what follows the name ------------------------------------------------------------------

-- The environment's own paths.
local function correct_environment(target, from)
  return environment_paths.correct(target .. "/venv", from .. "/venv", target .. "/venv")
end

-- Deletes what a killed run left half written, of all that follows the name.
local function sweep(target)
  folders.sweep(place(target), ".gitignore")
  environment_paths.sweep(target .. "/venv")
end

local function write_gitignore(project, data)
  return file.write_atomic(project .. "/.gitignore", data)
end

-- Where the folder has its new name.
local function complete(target, record)
  local project = place(target)
  local ok, message, code = correct_environment(target, project .. "/" .. record.from)
  if not ok then return nil, message, code end
  local data = gitignore.text(project)
  local renamed = data and gitignore.rename(data, record.from, record.to)
  if not data or renamed == data then return true end
  return write_gitignore(project, renamed)
end

-- Where it has its old one. The .gitignore is brought back only as we left it.
local function take_back(target, record)
  local project = place(target)
  local ok, message, code = correct_environment(target, project .. "/" .. record.to)
  if not ok then return nil, message, code end
  local before, data = record.gitignore, gitignore.text(project)
  if not before or not data or data == before
    or data ~= gitignore.rename(before, record.from, record.to) then
    return true
  end
  return write_gitignore(project, before)
end

-- ---- the record -----------------------------------------------------------------------------

-- A name, and no path that leads out of the project.
local function is_name(value)
  return type(value) == "string" and value:find("^[^/%z]+$") ~= nil and not value:find("^%.%.?$")
end

local function read_record(target)
  local data, message, code = file.read(target .. RECORD, LARGEST_RECORD)
  if not data then
    if code == "ENOENT" or code == "ENOTDIR" then return false end
    return nil, message, code
  end
  local record, problem = seal.open(data, { max_bytes = LARGEST_RECORD })
  local version = record and record.format_version
  if math.type(version) == "integer" and version > migration.FORMAT_VERSION then
    return nil, target .. RECORD .. " is of a newer praxlua; finish the move with that one",
      "EFORMAT"
  end
  if record and version and is_name(record.from) and is_name(record.to) then return record end
  return nil, ("%s is damaged: %s; look whether .gitignore names the folder rightly, and remove it")
    :format(target .. RECORD, problem or "it is no record of a move"), "ESCHEMA"
end

local function write_record(target, to)
  local project, name = place(target)
  local record = { format_version = migration.FORMAT_VERSION, from = name, to = to,
    gitignore = gitignore.text(project) or json.null }
  local data = seal.encode(record)
  if #data > LARGEST_RECORD then
    return nil, project .. "/.gitignore is too large to be kept; make it smaller", "EFBIG"
  end
  local ok, message, code = file.mkdir(target .. "/.cache")
  if not ok then return nil, message, code end
  ok, message, code = file.write_atomic(target .. RECORD, data)
  if not ok then return nil, message, code end
  if record.gitignore == json.null then record.gitignore = nil end
  return record
end

--- Whether a move of an installation was cut short.
---@param target string
---@return boolean
function migration.is_open(target) return file.exists(target .. RECORD) end

--- Finishes a move that was cut short: forwards where the folder was renamed already, else back.
---@param target string absolute; the caller holds its lock
---@return string|false|nil name that counts; false where nothing was left open
---@return string|nil message
---@return string|nil code
function migration.settle(target)
  local record, message, code = read_record(target)
  if not record then return record, message, code end
  if record.gitignore == json.null then record.gitignore = nil end
  sweep(target)
  local _, name = place(target)
  local ok = true
  if name == record.to then
    ok, message, code = complete(target, record)
  elseif name == record.from then
    ok, message, code = take_back(target, record)
  end
  if ok then ok, message, code = file.remove(target .. RECORD) end
  if not ok then return nil, message, code end
  return name
end

-- ---- the move -------------------------------------------------------------------------------

-- After a failure: the old name, and what belongs to it.
local function undo(target, moved)
  if file.exists(moved) and not file.exists(target) then
    local ok, message, code = file.rename(moved, target, true)
    if not ok then return nil, message, code end
  end
  local settled, message, code = migration.settle(target)
  if settled == nil then return nil, message, code end
  return true
end

--- Gives an installation another name in its project. Either all of it is done, or nothing.
---@param target string absolute; the caller holds its lock, which moves along
---@param to string the new name
---@return string|nil path the new one
---@return string|nil message
---@return string|nil code "EEXIST": the name is taken; "EUNDO": it failed, and so did taking it
--- back; the next command that opens the installation tries that again
function migration.move(target, to)
  local project = place(target)
  local moved = project .. "/" .. to
  local record, message, code = write_record(target, to)
  local ok
  if record then ok, message, code = file.rename(target, moved, true) end
  if ok then ok, message, code = complete(moved, record) end
  if ok then
    ok, message, code = file.remove(moved .. RECORD)
    -- Without it nothing could be taken back, and nothing has to be: all is done.
    if ok or not migration.is_open(moved) then return moved end
  end
  local undone, problem = undo(target, moved)
  if undone then return nil, message, code end
  return nil, ("%s; taking it back failed, too: %s"):format(message, problem), "EUNDO"
end

-- ---- references -----------------------------------------------------------------------------

-- Where projects name the folder: files directly in them, and folders of settings. Other files are
-- not looked into.
local FILES = {
  ".gitignore", ".gitattributes", ".dockerignore", ".npmignore", ".prettierignore", ".eslintignore",
  ".mcp.json", ".cursorrules", ".clinerules", ".cursorignore", ".windsurfrules", "AGENTS.md",
  "CLAUDE.md", "GEMINI.md", ".pre-commit-config.yaml", ".yamllint", "pyproject.toml", "tox.ini",
  "setup.cfg", "package.json", "Makefile", ".gitlab-ci.yml",
}
local FOLDERS = { ".cursor", ".vscode", ".claude", ".clinerules", ".github", ".idea",
  ".devcontainer" }
local LARGEST = 1024 * 1024 -- bytes of a file that is looked into
local MOST = 200 -- references that are told
local LONGEST = 160 -- columns of a line that is shown

local function search(found, project, path, name)
  local stat = file.stat(project .. "/" .. path)
  if not stat or stat.type ~= "file" or stat.size > LARGEST then return end
  local data = file.read(project .. "/" .. path)
  if not data or not data:find(name, 1, true) or data:find("\0", 1, true) then return end
  local number, pattern = 0, "[^%w_-]" .. name:gsub("%p", "%%%0") .. "%f[^%w_-]"
  for line in (data .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    if #found < MOST and ("\n" .. line):find(pattern) then
      found[#found + 1] = { path = path, line = number,
        text = text.shorten(text.visible(text.trim(line)), LONGEST) }
    end
  end
end

--- The lines in a project's settings that name the folder.
---@param project string
---@param name string ".agent-os"
---@return { path: string, line: integer, text: string }[] found at most 200
function migration.references(project, name)
  local found = json.array({})
  for _, path in ipairs(FILES) do search(found, project, path, name) end
  for _, folder in ipairs(FOLDERS) do
    local stat = file.stat(project .. "/" .. folder)
    local entries = stat and stat.type == "directory" and core.tree.list(project .. "/" .. folder)
    for _, entry in ipairs(entries or {}) do
      search(found, project, folder .. "/" .. entry.path, name)
    end
  end
  return found
end

return migration
