--- Differences: what leads from one content of a file to another, as unified diffs.
--
-- Many pairs are compared by one `git diff --no-index` over two private folders, in which the files
-- have numbers for names. The headers are ours: a name comes out as text.visible shows it, so that
-- none of them forges a line, and a line of a diff is ours only where its first letter says so.
local core = require("praxlua.core")
local git = require("praxlua.git")
local temporary = require("praxlua.temporary")
local text = require("praxlua.text")

local difference = {}

--- Bytes of a side above which a pair is not compared line by line, and bytes of all sides.
difference.FILE_LIMIT = 4 * 1024 * 1024
difference.TOTAL_LIMIT = 16 * 1024 * 1024

-- Nothing that the user set for git changes what is shown: it is read by tools, too.
local DIFF = {
  "diff", "--no-index", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames",
  "--text", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/", "-U3",
  "--", "old", "new",
}

local function environment_of(root)
  return { GIT_CONFIG_GLOBAL = "/dev/null", GIT_CONFIG_NOSYSTEM = "1", GIT_ATTR_NOSYSTEM = "1",
    GIT_CEILING_DIRECTORIES = root:match("^(.+)/[^/]*$") or "/", XDG_CONFIG_HOME = "/nonexistent" }
end

-- ---- the pairs ------------------------------------------------------------------------------

-- A side as bytes: a link is its target, as git has it. Nothing where there is no file.
local function bytes_of(side)
  if not side then return "" end
  return side.link or side.data
end

local function is_binary(data) return data:find("\0", 1, true) ~= nil end

local function size_of(side)
  return side and text.bytes(#bytes_of(side)) or "nothing"
end

local function without_returns(data) return (data:gsub("\r\n", "\n")) end

local function line_ends(data) return data:find("\r\n", 1, true) and "CRLF" or "LF" end

-- What is not to be seen in lines: types, permissions, line ends.
local function remarks(pair)
  local found, old, new = {}, pair.old, pair.new
  if old and new and (old.link ~= nil) ~= (new.link ~= nil) then
    found[1] = old.link and "was a link, becomes a file" or "was a file, becomes a link"
  elseif not old and new and new.link or not new and old.link then
    found[1] = "a link"
  end
  local before, after = old and old.mode, new and new.mode
  if before and after and before ~= after then
    found[#found + 1] = ("mode %o becomes %o"):format(before, after)
  elseif not old and after and after & 73 ~= 0 then -- 0111
    found[#found + 1] = "it may be run"
  end
  local a, b = bytes_of(old), bytes_of(new)
  if old and new and a ~= b and without_returns(a) == without_returns(b) then
    found[#found + 1] = ("only line ends differ: %s becomes %s"):format(line_ends(a), line_ends(b))
  end
  if (not old and b == "" or not new and a == "") then found[#found + 1] = "an empty file" end
  return found
end

local function new_result(pair)
  return { path = pair.path, added = 0, removed = 0, binary = false, notes = remarks(pair),
    diff = "" }
end

-- Whether a pair goes to git; what cannot be shown in lines gets a note instead.
local function is_comparable(pair, result, budget)
  local a, b = bytes_of(pair.old), bytes_of(pair.new)
  if a == b then return false end
  local sizes = ("%s becomes %s"):format(size_of(pair.old), size_of(pair.new))
  if is_binary(a) or is_binary(b) then
    result.binary = true
    result.notes[#result.notes + 1] = "not text: " .. sizes
    return false
  end
  budget.left = budget.left - #a - #b
  if #a > difference.FILE_LIMIT or #b > difference.FILE_LIMIT or budget.left < 0 then
    result.notes[#result.notes + 1] = "too much to be compared line by line: " .. sizes
    return false
  end
  return true
end

-- ---- one process for all --------------------------------------------------------------------

local function write_pair(root, number, pair)
  for name, side in pairs({ old = pair.old or false, new = pair.new or false }) do
    local ok, message, code = core.file.write_atomic(("%s/%s/%d"):format(root, name, number),
      bytes_of(side or nil))
    if not ok then return nil, message, code end
  end
  return true
end

-- Hunks of git's output by number. A header is the only line that begins with a "d".
local function split(out)
  local hunks, lines, in_hunk = {}, nil, false
  for line, ending in out:gmatch("([^\n]*)(\n?)") do
    local found = line:match("^diff .*/(%d+)$")
    if found then
      lines, in_hunk = {}, false
      hunks[math.tointeger(tonumber(found))] = lines
    elseif lines and (in_hunk or line:find("^@@ ")) and (line ~= "" or ending ~= "") then
      in_hunk = true
      lines[#lines + 1] = line
    end
  end
  return hunks
end

local function compare(root, pairs_of, numbers)
  for _, name in ipairs({ "/old", "/new" }) do
    local ok, message, code = core.file.mkdir(root .. name)
    if not ok then return nil, message, code end
  end
  for _, number in ipairs(numbers) do
    local ok, message, code = write_pair(root, number, pairs_of[number])
    if not ok then return nil, message, code end
  end
  local out, message, code = git.run(root, DIFF, { accept = { [1] = true },
    environment = environment_of(root) })
  if not out then return nil, message, code end
  return split(out)
end

--- A name in a header: quoted where it is not shown as it is.
local function header_name(prefix, name)
  local shown = text.visible(name)
  return shown == name and prefix .. name or '"' .. prefix .. shown .. '"'
end

local function header(pair)
  local old = pair.old and header_name("a/", pair.old_path or pair.path) or "/dev/null"
  local new = pair.new and header_name("b/", pair.path) or "/dev/null"
  return ("--- %s\n+++ %s\n"):format(old, new)
end

local function add_hunks(result, pair, lines)
  for _, line in ipairs(lines) do
    local sign = line:sub(1, 1)
    if sign == "+" then result.added = result.added + 1 end
    if sign == "-" then result.removed = result.removed + 1 end
  end
  if #lines > 0 then result.diff = header(pair) .. table.concat(lines, "\n") .. "\n" end
end

--- Compares pairs of contents.
---@param all { path: string, old_path: string?, old: table?, new: table? }[] sides are { data =
--- bytes or link = target, mode: permission bits? }; nil: there is no file. old_path: where it was
---@return { path: string, diff: string, added: integer, removed: integer, binary: boolean,
---  notes: string[] }[]|nil results one a pair, in the same order; `diff` is empty where no line
---  differs, or where `notes` say why there are none; its lines end with "\n" and hold any bytes
---@return string|nil message
---@return string|nil code
function difference.unified(all)
  local results, numbers, budget = {}, {}, { left = difference.TOTAL_LIMIT }
  for i, pair in ipairs(all) do
    results[i] = new_result(pair)
    if is_comparable(pair, results[i], budget) then numbers[#numbers + 1] = i end
  end
  if #numbers == 0 then return results end
  local hunks, message, code = temporary.within(function(root)
    return compare(root, all, numbers)
  end)
  if not hunks then return nil, "comparing contents: " .. message, code end
  for _, i in ipairs(numbers) do
    add_hunks(results[i], all[i], hunks[i] or {})
  end
  return results
end

return difference
