--- The files of this repository, for the checks that read all of them.

local sources = {}

local function lines_of(command)
  local lines = {}
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  return lines
end

--- Every file that is, or is about to be, under version control; without git, every file outside
-- of build/.
---@param pattern string|nil a Lua pattern the path must match
---@return string[] paths relative to the working directory, sorted
function sources.list(pattern)
  local all = lines_of("git ls-files -co --exclude-standard 2>/dev/null")
  if #all == 0 then
    all = lines_of("find . -path ./build -prune -o -type f -print | sed 's,^./,,'")
  end
  table.sort(all)
  local found = {}
  for _, path in ipairs(all) do
    if not pattern or path:find(pattern) then
      local file = io.open(path, "rb") -- a file that git still lists may be gone
      if file then
        file:close()
        found[#found + 1] = path
      end
    end
  end
  return found
end

--- The content of a file.
---@param path string
---@return string
function sources.read(path)
  local file = assert(io.open(path, "rb"))
  local data = assert(file:read("a"))
  file:close()
  return data
end

--- The number of the line that holds a byte of a text.
---@param text string
---@param position integer
---@return integer
function sources.line_at(text, position)
  local _, breaks = text:sub(1, position - 1):gsub("\n", "")
  return breaks + 1
end

--- C with comments and the insides of literals blanked, every byte in its place: what is left is
-- code.
---@param text string
---@return string
function sources.code_of_c(text)
  local out, at = {}, 1
  local function blank(from, to)
    out[#out + 1] = text:sub(from, to):gsub("[^\n]", " ")
  end
  while at <= #text do
    local from = text:find('[/"\']', at)
    if not from then break end
    out[#out + 1] = text:sub(at, from - 1)
    local two = text:sub(from, from + 1)
    local stop
    if two == "/*" then
      stop = select(2, text:find("*/", from + 2, true)) or #text
      blank(from, stop)
    elseif two == "//" then
      stop = (text:find("\n", from, true) or #text + 1) - 1
      blank(from, stop)
    elseif two:sub(1, 1) == "/" then
      stop = from
      out[#out + 1] = "/"
    else
      local quote = two:sub(1, 1)
      stop = from + 1
      while stop < #text and text:sub(stop, stop) ~= quote do
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
      out[#out + 1] = quote
      blank(from + 1, stop - 1)
      out[#out + 1] = quote
    end
    at = stop + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

--- Lua without its line comments, every line in its place. Strings stay; a "--" inside of one is
-- taken for a comment.
---@param text string
---@return string
function sources.code_of_lua(text)
  return (text:gsub("%-%-[^\n]*", ""))
end

return sources
