--- Merging text three ways: what both sides changed in different places goes together.
--
-- The work is done by `git merge-file`, one process a merge. Where one side has other line ends
-- throughout (an editor converted the file), the lines are compared without them, and the result
-- has the line ends of the local file.
local core = require("praxlua.core")
local git = require("praxlua.git")
local json = require("praxlua.json")
local temporary = require("praxlua.temporary")

local merge = {}

--- The largest file that is merged, in bytes; a larger one that was changed on both sides is a
--- conflict.
merge.MAX_BYTES = 8 * 1024 * 1024

-- As git tells text from binary (buffer_is_binary): no NUL among the first bytes.
local TOLD_BY = 8000

--- Whether bytes are text, as git sees it.
---@param data string
---@return boolean
function merge.is_text(data)
  return #data <= merge.MAX_BYTES and not data:sub(1, TOLD_BY):find("\0", 1, true)
end

-- "\r\n" or "\n" when all lines end in it; nil for a mixture, or no line end at all.
local function line_end(data)
  local _, all = data:gsub("\n", "")
  local _, dos = data:gsub("\r\n", "")
  if all == 0 then return nil end
  return dos == all and "\r\n" or dos == 0 and "\n" or nil
end

local function converted(data, ending)
  data = data:gsub("\r\n", "\n")
  return ending == "\r\n" and (data:gsub("\n", "\r\n")) or data
end

-- The three texts with the line ends of the local one, where each has one kind of its own.
local function with_ends_of(base, ours, theirs)
  local mine = line_end(ours)
  if not mine then return base, theirs end
  if line_end(base) and line_end(theirs) and line_end(base) ~= mine then
    return converted(base, mine), converted(theirs, mine)
  end
  return base, theirs
end

local NAMES = { "ours", "base", "theirs" }

-- One run of git merge-file. Its exit code is the number of conflicts; over 127 it failed.
local ANSWERS = {}
for i = 1, 127 do ANSWERS[i] = true end

local function run(folder, ...)
  local arguments = { "merge-file", "-p", "-q", "-L", "ours", "-L", "base", "-L", "theirs", ... }
  table.move(NAMES, 1, #NAMES, #arguments + 1, arguments)
  return git.run(folder, arguments, { accept = ANSWERS })
end

local function merge_in(folder, texts)
  for _, name in ipairs(NAMES) do
    local written, message, code = core.file.write_new(folder .. "/" .. name, texts[name])
    if not written then return nil, message, code end
  end
  local out, conflicts, code = run(folder)
  if not out then return nil, conflicts, code end
  if conflicts == 0 then return { clean = true, text = out } end
  -- With the base between the markers, for people; that style finds no fewer conflicts.
  out, conflicts, code = run(folder, "--diff3")
  if not out then return nil, conflicts, code end
  return { clean = false, text = out, conflicts = conflicts }
end

--- Merges three texts.
---@param base string
---@param ours string what is here
---@param theirs string what is shipped now
---@return { clean: boolean, text: string, conflicts: integer? }|nil merged not clean: the text has
---  conflict markers with the base between them
---@return string|nil message
---@return string|nil code "ENOTTEXT" when one of them is no text, or too large
function merge.text(base, ours, theirs)
  if not (merge.is_text(base) and merge.is_text(ours) and merge.is_text(theirs)) then
    return nil, "it is no text, or larger than can be merged", "ENOTTEXT"
  end
  base, theirs = with_ends_of(base, ours, theirs)
  return temporary.within(function(folder)
    return merge_in(folder, { base = base, ours = ours, theirs = theirs })
  end)
end

--- Whether a merge that git calls clean broke a JSON file that was whole on both sides.
---@param path string
---@param ours string
---@param theirs string
---@param merged string
---@return boolean
function merge.breaks_json(path, ours, theirs, merged)
  if not path:lower():find("%.json$") then return false end
  return json.decode(ours) ~= nil and json.decode(theirs) ~= nil and json.decode(merged) == nil
end

return merge
