--- The lines an installation needs in its project's .gitignore. The canonical list is a document of
-- the source; ours are added to it.
local core = require("praxlua.core")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local originals = require("praxlua.originals")
local trim_end = require("praxlua.text").trim_end

local gitignore = {}

local HEADER = "# prAxIs OS - Ephemeral content (do not commit)"
local CANONICAL = ".praxis-os" -- the target's name in the lists

-- Where the source has no such document.
local FALLBACK = {
  ".praxis-os/.cache/", ".praxis-os/venv/", ".praxis-os/mcp_server/__pycache__/",
  ".praxis-os/scripts/__pycache__/", ".praxis-os.backup.*", ".praxis-os/.upgrade_lock",
}

local OURS = {
  ".praxis-os/.backups/", ".praxis-os/.upgrade/", ".praxis-os/.upgrade-lock",
  ".praxis-os/.mcp_server_state.json",
}

--- A pattern without the comment behind it and without space at the end; nil when nothing is left.
local function pattern_of(line)
  local pattern = trim_end((line:gsub("%s#.*$", "")))
  if pattern == "" or pattern:sub(1, 1) == "#" then return nil end
  return pattern
end

--- The patterns in the first code block below the heading "Required Entries".
---@param text string Markdown
---@return string[] patterns empty when there is no such block
function gitignore.parse(text)
  local patterns, below, inside = {}, false, false
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    if not inside and line:match("^#+%s") then
      below = line:match("^#+%s+Required Entries%s*$") ~= nil
    end
    if below and line:match("^%s*```") then
      if inside then break end
      inside = true
    elseif inside then
      patterns[#patterns + 1] = pattern_of(line)
    end
  end
  return patterns
end

local function renamed(pattern, name)
  local tail = pattern:sub(#CANONICAL + 1)
  if pattern:sub(1, #CANONICAL) == CANONICAL and tail:match("^[/.]") then return name .. tail end
  return pattern
end

--- The required lines for this target.
---@param ctx table source, target_name, layout
---@return string[] patterns
function gitignore.required(ctx)
  local recognised = ctx.layout or layout.layouts[1]
  local text = core.file.read(ctx.source .. "/" .. recognised.source.gitignore)
  local listed = text and gitignore.parse(text) or {}
  if #listed == 0 then listed = FALLBACK end
  local patterns, seen = {}, {}
  for _, list in ipairs({ listed, OURS }) do
    for _, pattern in ipairs(list) do
      pattern = renamed(pattern, ctx.target_name)
      if not seen[pattern] then
        seen[pattern] = true
        patterns[#patterns + 1] = pattern
      end
    end
  end
  return patterns
end

--- The text of a project's .gitignore.
---@param project string
---@return string|nil text nil where it is no plain file, or none
function gitignore.text(project)
  local stat = core.file.stat(project .. "/.gitignore")
  return stat and stat.type == "file" and core.file.read(project .. "/.gitignore") or nil
end

--- A text in which the patterns for an installation are for one of another name. Patterns for what
--- lies beside it (.agent-os.backup.*) still have something to match, and stay.
---@param data string
---@param from string ".agent-os"
---@param to string
---@return string
function gitignore.rename(data, from, to)
  return (data:gsub("[^\n]+", function(line)
    local lead, rest = line:match("^(!?/?)(.*)$")
    if rest:sub(1, #from) ~= from then return nil end
    local tail = rest:sub(#from + 1)
    if tail == "" or tail:find("^[/\r%s]") then return lead .. to .. tail end
  end))
end

local function read(ctx)
  local path = ctx.project .. "/.gitignore"
  local stat, message, code = core.file.stat(path)
  if not stat then
    if code == "ENOENT" then return nil end
    return nil, message, code
  end
  if stat.type ~= "file" then
    return nil, ("%s is no plain file; add the lines yourself"):format(path), "ENOTREG"
  end
  return core.file.read(path)
end

local function missing_from(text, required)
  local present, missing = {}, {}
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    local pattern = trim_end(line)
    present[pattern], present["/" .. pattern] = true, true
    present[pattern:gsub("^/", "")] = true
  end
  for _, pattern in ipairs(required) do
    if not present[pattern] then missing[#missing + 1] = pattern end
  end
  return missing
end

--- The text with the missing lines in our section: in the one that is there, or a new one at the
--- end.
local function with_section(text, missing)
  local ending = text:find("\r\n", 1, true) and "\r\n" or "\n"
  local added = table.concat(missing, ending) .. ending
  local _, header_end = (ending .. text):find(ending .. HEADER .. ending, 1, true)
  if header_end then
    local at = header_end - #ending + 1 -- the first line below the header
    local stop = text:find(ending .. ending, at - #ending, true)
    local cut = stop and stop + #ending - 1 or #text
    local head = text:sub(1, cut)
    if head:sub(-#ending) ~= ending then head = head .. ending end
    return head .. added .. text:sub(cut + 1)
  end
  local head = text
  if head ~= "" and head:sub(-#ending) ~= ending then head = head .. ending end
  if head ~= "" and head:sub(-2 * #ending) ~= ending .. ending then head = head .. ending end
  return head .. HEADER .. ending .. added
end

--- The required lines that the project's .gitignore does not have.
---@param ctx table
---@return string[]|nil missing
---@return string|nil message
---@return string|nil code
function gitignore.missing(ctx)
  local text, message, code = read(ctx)
  if not text and message then return nil, message, code end
  return missing_from(text or "", gitignore.required(ctx))
end

--- Writes the missing lines through the open transaction; nothing when all are there.
---@param ctx table project, source, target_name, change?
---@return { added: string[], created: boolean, path: string, required: integer }|nil report
---@return string|nil message
---@return string|nil code
function gitignore.update(ctx)
  local report = { added = json.array({}), created = false, path = ".gitignore",
    required = #gitignore.required(ctx) }
  local text, message, code = read(ctx)
  if not text and code == "ENOTREG" then -- a link or a directory is somebody's arrangement
    if ctx.warn then ctx.warn(message) end
    return report
  elseif not text and message then
    return nil, message, code
  end
  local missing = missing_from(text or "", gitignore.required(ctx))
  if #missing == 0 then return report end
  report.added, report.created = json.array(missing), text == nil
  if not ctx.change then return report end
  local done
  done, message, code = originals.note(ctx, ".gitignore")
  if not done then return nil, message, code end
  done, message, code = ctx.change.put(".gitignore", { data = with_section(text or "", missing) },
    { old = text and core.hash.sha256(text) or false })
  if not done then return nil, message, code end
  done, message, code = ctx.change.apply()
  if not done then return nil, message, code end
  return report
end

return gitignore
