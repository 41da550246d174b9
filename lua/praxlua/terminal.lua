--- What people see: lines, tables, an in-place progress line, questions and errors of three parts.
--
-- Everything that is written goes through text.visible first, so no file name, tool output or
-- script can colour, move or forge anything. A line is made of segments: a string, or
-- { style, string } with a style below. Colours only on a terminal, and not when NO_COLOR is set or
-- TERM is dumb; where the locale is not UTF-8, everything written is ASCII.
local text = require("praxlua.text")

local terminal = {}

local STYLES = {
  bold = "1", dim = "2", red = "31", green = "32", yellow = "33", blue = "34", cyan = "36",
}

-- Signs of our own, and what stands for them in ASCII.
local SIGNS = {
  arrow = { "\u{2192}", "->" }, ellipsis = { "\u{2026}", "..." }, dash = { "\u{2013}", "-" },
  bullet = { "\u{2022}", "*" },
}

local QUESTIONS = 5 -- how often an answer that means nothing is asked for again

local function is_utf8(environment)
  for _, name in ipairs({ "LC_ALL", "LC_CTYPE", "LANG" }) do
    local value = environment[name]
    if value and value ~= "" then return value:lower():find("utf%-?8") ~= nil end
  end
  return false
end

local function to_ascii(s)
  if not s:find("[\x80-\xff]") then return s end
  return (s:gsub(utf8.charpattern, function(c)
    local code = utf8.codepoint(c)
    return code >= 0x80 and string.format("\\u{%X}", code) or nil
  end))
end

-- A string as it may be written to this terminal, without style.
local function shown(t, s)
  s = text.visible(s)
  return t.utf8 and s or to_ascii(s)
end

local function painted(t, style, s)
  if not t.colour or s == "" then return s end
  local code = STYLES[style] or error("terminal: no style '" .. tostring(style) .. "'", 0)
  return "\27[" .. code .. "m" .. s .. "\27[0m"
end

-- The text of a segment as written, and the columns it takes.
local function rendered(t, segment)
  if type(segment) ~= "table" then
    local plain = shown(t, segment)
    return plain, text.width(plain)
  end
  local plain = shown(t, segment[2])
  return painted(t, segment[1], plain), text.width(plain)
end

local function put(t, s)
  if not (t.out:write(s) and t.out:flush()) then t.lost = true end
end

local function clear_progress(t)
  if t.progress_shown then put(t, "\r\27[K") end
  t.progress_shown = false
end

-- ---------------------------------------------------------------------------------------------

--- Writes one line, after removing the progress line if there is one.
---@param t table
---@param ... string|table segments, one after the other
local function line(t, ...)
  clear_progress(t)
  local out = {}
  for i = 1, select("#", ...) do out[i] = rendered(t, (select(i, ...))) end
  put(t, (table.concat(out):gsub(" +$", "")) .. "\n")
end

--- Writes a text of several lines; its line ends are kept, everything else in it is made visible.
---@param t table
---@param s string
---@param style string?
---@param indent string? in front of each line, so that none of them looks like one of ours
local function paragraph(t, s, style, indent)
  for part in (s:gsub("\n$", "") .. "\n"):gmatch("(.-)\n") do
    line(t, indent or "", style and { style, part } or part)
  end
end

--- Says what is going on. On a terminal the text replaces the one before it, on the last line;
--- elsewhere every new text is a line.
---@param t table
---@param s string
---@param fraction number? done so far, 0..1; shown as per cent
local function progress(t, s, fraction)
  local plain = shown(t, s)
  if not t.in_place then
    if plain ~= t.last_progress then put(t, plain .. "\n") end
    t.last_progress = plain
    return
  end
  local share = fraction and string.format(" %3d %%", math.floor(fraction * 100 + 0.5)) or ""
  local room = t.columns() - 1 - #share
  put(t, "\r" .. text.shorten(plain, room, t.sign("ellipsis")) .. share .. "\27[K")
  t.progress_shown = true
end

local function column_widths(t, rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      local _, width = rendered(t, cell)
      widths[i] = math.max(widths[i] or 0, width)
    end
  end
  return widths
end

--- Writes rows with their columns aligned, two spaces apart.
---@param t table
---@param rows (string|table)[][] cells are segments
---@param options { indent: integer?, right: table<integer, boolean>?, header: string[]? }?
---  right: the columns to align at their right end
local function write_table(t, rows, options)
  options = options or {}
  local all = {}
  if options.header then
    all[1] = {}
    for i, cell in ipairs(options.header) do all[1][i] = { "bold", cell } end
  end
  table.move(rows, 1, #rows, #all + 1, all)
  local widths = column_widths(t, all)
  clear_progress(t)
  for _, row in ipairs(all) do
    local out = {}
    for i, cell in ipairs(row) do
      local written, width = rendered(t, cell)
      local fill = string.rep(" ", widths[i] - width)
      out[i] = options.right and options.right[i] and fill .. written or written .. fill
    end
    local joined = string.rep(" ", options.indent or 0) .. table.concat(out, "  ")
    put(t, joined:gsub(" +$", "") .. "\n")
  end
end

-- Field, label and style.
local PARTS = {
  { "what", "error", "red" }, { "where", "where", "dim" }, { "next", "next", "bold" },
}

--- Writes an error: what happened, where, and what to do next; each part on lines of its own.
---@param t table
---@param parts { what: string, where: string?, next: string? }
local function write_error(t, parts)
  for _, part in ipairs(PARTS) do
    local value = parts[part[1]]
    if value and value ~= "" then
      local label = text.pad(part[2] .. ":", 7)
      for row in (value:gsub("\n+$", "") .. "\n"):gmatch("(.-)\n") do
        line(t, { part[3], label }, row)
        label = string.rep(" ", 7)
      end
    end
  end
end

-- ---------------------------------------------------------------------------------------------

local function label_of(choice)
  return type(choice) == "table" and (choice.label or choice.key) or choice
end

local function key_of(choice)
  return type(choice) == "table" and choice.key or choice
end

-- The choice an answer means: its number, its key, or the beginning of one key alone.
local function chosen(answer, choices)
  answer = answer:lower()
  local found
  for i, choice in ipairs(choices) do
    local key = key_of(choice):lower()
    if answer == key or answer == tostring(i) then return key_of(choice) end
    if key:sub(1, #answer) == answer then
      if found then return nil end
      found = key_of(choice)
    end
  end
  return found
end

local function write_choices(t, choices, default)
  local rows = {}
  for i, choice in ipairs(choices) do
    local key = key_of(choice)
    rows[i] = {
      tostring(i), { "bold", key }, label_of(choice) ~= key and label_of(choice) or "",
      key == default and "(default)" or "",
    }
  end
  write_table(t, rows, { indent = 2 })
end

-- The next line that is typed; nil at the end of the input, and when a signal came.
local function typed(t)
  put(t, "> ")
  local answer = t.await() and t.input:read("l")
  if answer then return answer end
  put(t, "\n")
  return nil
end

--- Asks, and reads one line from the input. An empty answer and the end of the input mean the
--- default; an answer that means nothing is asked for again, a few times.
---@param t table
---@param question string
---@param choices (string|{ key: string, label: string? })[]
---@param default string|nil the key of one of the choices; nil: an empty answer is none either
---@return string|nil key
---@return "answered"|"default"|"eof"|"unclear" how unclear: none of the answers meant anything
local function ask(t, question, choices, default)
  local known = default == nil
  for _, choice in ipairs(choices) do known = known or key_of(choice) == default end
  assert(known, "terminal.ask: the default is not one of the choices")
  line(t, { "bold", question })
  write_choices(t, choices, default)
  for _ = 1, QUESTIONS do
    local answer = typed(t)
    if not answer then return default, "eof" end
    answer = answer:match("^%s*(.-)%s*$")
    if answer == "" and default then return default, "default" end
    local key = answer ~= "" and chosen(answer, choices)
    if key then return key, "answered" end
    line(t, "Please answer with one of the words or numbers above",
      default and "; nothing means: " .. default or "")
  end
  return default, "unclear"
end

--- Asks for one line.
---@param t table
---@param question string
---@return string|nil line without blanks at its ends; nil at the end of the input
local function prompt(t, question)
  line(t, { "bold", question })
  local answer = typed(t)
  return answer and text.trim(answer)
end

-- ---------------------------------------------------------------------------------------------

--- A terminal, or whatever stands for one. The functions above are its methods under the names
--- line, paragraph, progress, clear, table, error, ask and prompt, called as t.line(...).
---@param options { out: table?, input: table?, is_terminal: boolean?, columns: integer?,
---  environment: table<string, string>? }? standard error, standard input and the process's own
---  when nil; `out` has write and flush, `input` has read
---@return table t `t.lost` is true once something could not be written: nobody reads it any more
function terminal.new(options)
  options = options or {}
  local function system() return require("praxlua.core").system end
  local environment = options.environment or system().environment()
  local is_terminal = options.is_terminal
  if is_terminal == nil then is_terminal = system().isatty(2) end
  local is_dumb = environment.TERM == "dumb"
  local t = {
    out = options.out or io.stderr,
    input = options.input or io.stdin,
    await = options.input and function() return true end or function()
      return system().await_input()
    end,
    utf8 = is_utf8(environment),
    is_terminal = is_terminal,
    colour = is_terminal and not is_dumb and (environment.NO_COLOR or "") == "",
    in_place = is_terminal and not is_dumb,
    progress_shown = false,
  }
  local descriptor = t.out == io.stdout and 1 or 2
  function t.columns() -- asked each time: a person makes the window smaller
    return options.columns or is_terminal and system().columns(descriptor) or 80
  end
  function t.sign(name) return SIGNS[name][t.utf8 and 1 or 2] end
  local methods = {
    line = line, paragraph = paragraph, progress = progress, clear = clear_progress,
    table = write_table, error = write_error, ask = ask, prompt = prompt,
  }
  for name, method in pairs(methods) do
    t[name] = function(...) return method(t, ...) end
  end
  return t
end

return terminal
