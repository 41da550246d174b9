--- Words, sizes and untrusted strings for people: what a terminal or a log may be shown.
local text = {}

local UNITS = { "kB", "MB", "GB", "TB", "PB", "EB" }

--- A size for people, in powers of ten: "512 B", "2.5 GB", "500 MB".
---@param n integer bytes
---@return string
function text.bytes(n)
  if n < 1000 then return string.format("%d B", n) end
  local value, unit = n / 1000, 1
  while value >= 999.5 and unit < #UNITS do
    value, unit = value / 1000, unit + 1
  end
  local written = string.format(value < 99.95 and "%.1f" or "%.0f", value):gsub("%.0$", "")
  return written .. " " .. UNITS[unit]
end

--- A counted noun: "1 file", "3 files", "2 entries" (with "entry", "entries").
---@param n integer
---@param word string singular
---@param plural string? when it is not word .. "s"
---@return string
function text.plural(n, word, plural)
  return string.format("%d %s", n, n == 1 and word or plural or word .. "s")
end

local NAMED = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\27"] = "\\e", ["\0"] = "\\0" }

-- C1 controls, line separators, and what reorders or hides the characters around it.
local function is_deceptive(code)
  return code >= 0x80 and code <= 0x9f or code == 0x061c or code == 0xfeff
    or code >= 0x200b and code <= 0x200f or code >= 0x2028 and code <= 0x202e
    or code >= 0x2060 and code <= 0x2069 or code >= 0xe0000 and code <= 0xe007f
end

local function visible_run(run)
  return (run:gsub(utf8.charpattern, function(c)
    local code = utf8.codepoint(c)
    if code >= 0x80 and is_deceptive(code) then return string.format("\\u{%X}", code) end
    return nil
  end))
end

--- A string with nothing in it that a terminal would obey or a log reader would take for a line
--- end: control characters, bytes that are not UTF-8, and characters that reorder text are shown as
--- escapes (\n, \e, \x9B, \u{202E}). A backslash stays as it is, so applying this twice changes
--- nothing.
---@param s string
---@return string printable on one line, valid UTF-8
function text.visible(s)
  s = tostring(s):gsub("%c", function(c)
    return NAMED[c] or string.format("\\x%02X", c:byte())
  end)
  if not s:find("[\x80-\xff]") then return s end
  local out, at = {}, 1
  while at <= #s do
    local valid, bad = utf8.len(s, at)
    local stop = valid and #s or bad - 1
    if stop >= at then out[#out + 1] = visible_run(s:sub(at, stop)) end
    if not valid then out[#out + 1] = string.format("\\x%02X", s:byte(bad)) end
    at = stop + (valid and 1 or 2)
  end
  return table.concat(out)
end

--- A path as a person can type it into a shell.
---@param path string
---@return string
function text.quoted(path)
  if not path:find("[^%w_@%+=:,./-]") then return path end
  if text.visible(path) ~= path then
    return "$'" .. path:gsub("[%c'\\\128-\255]", function(c)
      return string.format("\\x%02X", c:byte())
    end) .. "'"
  end
  return "'" .. path:gsub("'", "'\\''") .. "'"
end

--- A string without white space at its end. (A pattern like "%s+$" would take time by the square of
--- a long run of blanks in the middle.)
---@param s string
---@return string
function text.trim_end(s) return s:match("^.*%S") or "" end

--- A string without white space at either end.
---@param s string
---@return string
function text.trim(s)
  local from = s:find("%S")
  return from and s:match("^.*%S", from) or ""
end

--- Columns a string takes, counted in code points (a byte that is not UTF-8 counts as one).
---@param s string
---@return integer
function text.width(s)
  local count, at = 0, 1
  while at <= #s do
    local length, bad = utf8.len(s, at)
    if length then return count + length end
    if bad > at then count = count + utf8.len(s, at, bad - 1) end
    count, at = count + 1, bad + 1
  end
  return count
end

--- A string filled up with spaces to a width; longer ones stay as they are.
---@param s string
---@param width integer columns
---@param right boolean? the text at the right end
---@return string
function text.pad(s, width, right)
  local fill = string.rep(" ", width - text.width(s))
  return right and fill .. s or s .. fill
end

--- A string cut to a width, its end replaced by a mark.
---@param s string valid UTF-8 (see text.visible)
---@param width integer columns
---@param mark string? "..." when nil
---@return string
function text.shorten(s, width, mark)
  if text.width(s) <= width then return s end
  mark = mark or "..."
  local keep = width - text.width(mark)
  if keep <= 0 then return s:sub(1, (utf8.offset(s, width + 1) or #s + 1) - 1) end
  return s:sub(1, utf8.offset(s, keep + 1) - 1) .. mark
end

--- The first lines of a text, with a count of the rest.
---@param s string
---@param limit integer lines
---@return string
function text.head(s, limit)
  local lines = {}
  for line in (s:gsub("\n$", "") .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  if #lines <= limit then return table.concat(lines, "\n") end
  local rest = #lines - limit
  return table.concat(lines, "\n", 1, limit)
    .. string.format("\n(and %d more %s)", rest, rest == 1 and "line" or "lines")
end

-- How many letters have to be put in, left out, replaced or exchanged with their neighbour to make
-- one word of another (Damerau and Levenshtein), or more than `most`.
local function distance(a, b, most)
  if math.abs(#a - #b) > most then return most + 1 end
  local earlier, before = nil, {}
  for j = 0, #b do before[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(row[j - 1] + 1, before[j] + 1, before[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], earlier[j - 2] + 1)
      end
    end
    earlier, before = before, row
  end
  return before[#b]
end

--- The word that was probably meant: the candidate with the fewest letters different, a third of
--- them at most.
---@param word string
---@param candidates string[]
---@return string|nil
function text.nearest(word, candidates)
  if #word > 64 then return nil end
  local best, least = nil, math.max(1, #word // 3) + 1
  for _, candidate in ipairs(candidates) do
    local d = distance(word:lower(), candidate:lower(), least - 1)
    if d < least then best, least = candidate, d end
  end
  return best
end

return text
