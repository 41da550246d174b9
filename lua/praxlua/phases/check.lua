--- `phase check`: everything that is wrong with a phase script, without running it.
--
-- The text is compiled here, never run: its names are read from the bytecode (names.lua), its calls
-- from its words (authority.lua). What its table says a worker tells (fields.lua), as for an
-- upgrade; where it stands among others, placement.lua. An upgrade's own reader has the last word.
local authority = require("praxlua.phases.authority")
local core = require("praxlua.core")
local fields = require("praxlua.phases.fields")
local findings = require("praxlua.phases.findings")
local lexer = require("praxlua.phases.lexer")
local names = require("praxlua.phases.names")
local outline = require("praxlua.phases.outline")
local phases = require("praxlua.phases")
local placement = require("praxlua.phases.placement")
local text = require("praxlua.text")

local check = {}

local MOST_BYTES = 1024 * 1024 -- of a script; an upgrade reads no longer one

-- The script's name in messages that Lua makes, so that no file name can pretend to be one.
local NAME = "script"

-- What stands for each name that does not exist, so that the rest of the table can be looked at all
-- the same: something that can be called and indexed, and is nothing to a loop.
local STAND_IN = [[
do
  local function itself(t, ...)
    if select("#", ...) == 2 and (...) == nil then return nil end
    return t
  end
  local m = { __index = itself, __call = itself, __concat = function() return "" end }
  for name in ([=[%s]=]):gmatch("%%S+") do _ENV[name] = setmetatable({}, m) end
end
]]

local READING = {
  ENOENT = "there is no such file", ENOTREG = "it is no regular file",
  EACCES = "it may not be read",
  EFBIG = "it is longer than 1 MiB, the most a phase script may have", EISDIR = "it is a folder",
}

local function read(list, path)
  local stat, message, code = core.file.stat(path)
  local source
  if stat and stat.type == "directory" then
    code = "EISDIR"
  elseif stat then
    source, message, code = core.file.read(path, MOST_BYTES)
  end
  if not source then
    list:mistake(1, READING[code] or message, code == "EACCES"
      and "make it readable with chmod u+r, or run this as its owner"
      or "name the script itself: NAME.lua")
  end
  return source
end

local function line_at(source, position)
  local _, breaks = source:sub(1, position - 1):gsub("\n", "")
  return breaks + 1
end

-- Where Lua says something of a script: the line, and the message without it.
local function located(message, otherwise)
  message = message:match("^[^\n]*") -- a traceback of ours may follow
  local line, rest = message:match("^" .. NAME .. ":(%d+):%s*(.*)$")
  if line then return tonumber(line), rest end
  return otherwise, (message:gsub("^" .. NAME .. ":%s*", ""))
end

-- Compiles the text; nil when it is no Lua.
local function compile(list, source)
  if source:sub(1, 1) == "\27" then
    list:mistake(1, "it is compiled Lua, or no text at all", "a phase is a text file")
    return nil
  end
  local nul = source:find("\0", 1, true)
  if nul then
    list:mistake(line_at(source, nul), "it holds a NUL byte", "save it as plain text, in UTF-8")
    return nil
  end
  local length, bad = utf8.len(source)
  if not length then
    list:hint(line_at(source, bad), "it is not UTF-8", "save it in UTF-8")
  end
  local chunk, message = load(source, "=" .. NAME, "t")
  if chunk then return chunk end
  local line, rest = located(message, 1)
  if rest == "C stack overflow" then rest = "it is nested too deeply" end
  list:mistake(line, "this is no Lua: " .. rest, source:find("^#") and "a phase has no #! line"
    or "the mistake is here or in the line before")
end

-- Learns in a worker what the script is; nil when that cannot be.
local function describe(list, source, unknown, words)
  local before = #unknown > 0 and STAND_IN:format(table.concat(unknown, " ")):gsub("\n", " ") or nil
  local found, message = phases.describe(NAME, source, before)
  if found then return found end
  local line, rest = located(message, words.last_line)
  if not list:has_mistake(line) then
    list:mistake(line, "its table cannot be read: " .. rest, rest:find("must end with", 1, true)
      and "make the last line: return phase"
      or "only the table is made when a script is read; the work belongs into phase.run(host)")
  end
end

-- What is right after all that must also be right for an upgrade.
local function read_as_upgrade(list, name, source)
  if list.mistakes > 0 then return end
  local phase, message = phases.read(name, source)
  if phase then return end
  local line = message:match(":(%d+): ")
  list:mistake(tonumber(line) or 1, message)
end

local function check_name(list, name)
  if not name:find("%.lua$") then
    list:mistake(1, "its name does not end in .lua, so an upgrade would not find it",
      "rename it to NAME.lua")
  elseif phases.stem(name):find("^%d*$") then
    list:mistake(1, "its name has nothing but a number", "rename it to NAME.lua")
  end
end

-- Looks at one script on its own.
local function check_file(path)
  local name = path:match("[^/]*$")
  local item = { name = name, id = phases.stem(name), list = findings.new(path),
    folder = core.file.realpath(path:match("^(.*)/") or ".") or path }
  local list = item.list
  local source = read(list, path)
  if not source then return item end
  check_name(list, name)
  local chunk = compile(list, source)
  if not chunk then return item end
  local words = lexer.words(source)
  item.lines = outline.of(words)
  local unknown = names.check(list, chunk, words)
  item.found = describe(list, source, unknown, words)
  local grants = item.found and (item.found.grants or {})
  if item.found then fields.check(list, name, item.lines, item.found) end
  authority.check(list, words, item.lines, type(grants) == "table" and grants or nil)
  read_as_upgrade(list, name, source)
  return item
end

-- Whether one of the scripts that are checked stands for this one: it is the same file, or has its
-- id and will take its place. One of the same folder under another name is a neighbour, and a twin.
local function is_checked(items, id, folder, name)
  for _, item in ipairs(items) do
    if item.id == id and (item.folder ~= folder or item.name == name) then return true end
  end
  return false
end

-- The other scripts of a folder.
local function neighbours(folder, items)
  local real = core.file.realpath(folder)
  local found = {}
  for _, entry in ipairs(real and core.tree.list(real) or {}) do
    local id, name = phases.stem(entry.path), entry.path
    local is_script = entry.type == "file" and name:find("^[^/]+%.lua$")
    if is_script and not is_checked(items, id, real, name) then
      local source = core.file.read(real .. "/" .. name, MOST_BYTES)
      found[#found + 1] = { id = id, name = name, folder = real,
        found = source and phases.read(name, source) or {} }
    end
  end
  return found
end

--- Checks scripts.
---@param paths string[]
---@param options { target: string? }? target: the installation whose phases are their neighbours
---@return { findings: table[], mistakes: integer, hints: integer } report findings as of
---  findings:sorted, file by file
function check.files(paths, options)
  local items = {}
  for i, path in ipairs(paths) do items[i] = check_file(path) end
  local all = table.move(items, 1, #items, 1, {})
  local target = options and options.target
  if target then
    local more = neighbours(target .. "/phases", items)
    table.move(more, 1, #more, #all + 1, all)
  end
  local ok, message = placement.check(all)
  local report = { findings = {}, mistakes = 0, hints = 0 }
  for _, item in ipairs(items) do
    if not ok then item.list:mistake(1, tostring(message)) end
    for _, row in ipairs(item.list:sorted()) do
      report.findings[#report.findings + 1] = row
    end
    report.mistakes = report.mistakes + item.list.mistakes
  end
  for _, row in ipairs(report.findings) do
    if row.kind == "hint" then report.hints = report.hints + 1 end
  end
  return report
end

--- One line of a finding for people: "file:line: message".
---@param row table
---@return string
function check.headline(row)
  return string.format("%s:%d: %s", text.visible(row.file), row.line, row.message)
end

return check
