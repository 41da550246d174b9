--- What safe-upgrade.py says: the counts it announces, the files it asks about, the errors it
-- names. Signs in front of its words are passed over. A path counts only where it is one that the
-- script was given; that is for who listens to check.
local output = {}

-- The lines of its analysis, and what they count.
local COUNTS = {
  ["New files"] = "new", ["Auto-update"] = "updated", ["Unchanged"] = "unchanged",
  ["Local-only changes"] = "local_only", ["Conflicts"] = "conflicts", ["Errors"] = "errors",
}

local MAX_ERRORS = 20 -- that are kept

-- The head of the list of errors is none itself.
local function is_error(line)
  return line:find("^%s*❌") and not line:find("Files with errors:$")
    or line:find("^Error updating ") or line:find("^Traceback ")
end

local function note_error(heard, line)
  heard.errors = heard.errors + 1
  if #heard.error_lines < MAX_ERRORS then
    heard.error_lines[#heard.error_lines + 1] = line:match("^%s*(.-)%s*$")
  end
end

-- A line of the list of conflicts that the analysis ends with, up to an empty line.
local function note_listed(heard, line)
  local path = line:match("^   [^%w%s]+%s+(.+)$")
  if not path then
    heard.listing = false
  else
    heard.listed[path] = true
  end
end

local function note_analysis(heard, line)
  local name, count = line:match("^   ([%a%- ]+): (%d+)$")
  if not name then
    heard.analysis = false
  elseif COUNTS[name] then
    heard.counts[COUNTS[name]] = math.tointeger(tonumber(count))
  end
end

--- Begins to listen to one run.
---@return table heard { counts, listed (set of the conflicts it lists), errors, error_lines,
--- complete ("dry" or "live" once it says that it is done), asks = { kind, path }? (what the next
--- prompt is about) }
function output.listen()
  return { counts = {}, listed = {}, errors = 0, error_lines = {} }
end

--- Takes one line.
---@param heard table from output.listen
---@param line string
function output.line(heard, line)
  if heard.analysis then note_analysis(heard, line) end
  if heard.listing then note_listed(heard, line) end
  if line:find("Analysis Summary:", 1, true) then
    heard.analysis = true
  elseif line:find("Conflicts requiring attention:", 1, true) then
    heard.listing = true
  elseif line:find("DRY RUN COMPLETE", 1, true) then
    heard.complete = "dry"
  elseif line:find("UPGRADE COMPLETE", 1, true) then
    heard.complete = "live"
  elseif is_error(line) then
    note_error(heard, line)
  end
  local added = line:match("^[^%w]*New file: (.+) %([%d%.,]+ KB%)$")
  local conflict = line:match("^[^%w]*CONFLICT: (.+)$")
  if added or conflict then
    heard.asks = { kind = added and "new" or "conflict", path = added or conflict }
  end
end

--- The kind of a prompt.
---@param text string an unfinished line
---@return "add"|"choose"|"overwrite"|nil kind
function output.prompt(text)
  if text:find("^%s*Add this file%? %[Y/n%]: $") then return "add" end
  if text:find("^%s*Choice: $") then return "choose" end
  if text:find("Overwrite local changes%? %[y/N%]: $") then return "overwrite" end
  return nil
end

return output
