--- Finds and replaces calls in sources: where the mutants of mutants.lua go.
--
-- A site is one call of a guard (a function whose calls protect something): the file, the function
-- it is in, the name of the guard, and its number among the calls of that guard in that function.
local sources = require("spec.support.sources")

local sites = {}

-- Lua with its comments blanked, every byte in its place. Strings stay.
local function code_of_lua(text)
  return (text:gsub("%-%-[^\n]*", function(comment) return (" "):rep(#comment) end))
end

local function code_of(path, text)
  return path:find("%.lua$") and code_of_lua(text) or sources.code_of_c(text)
end

-- The name of the function whose definition begins with this line, if it is one. Only what begins
-- in the first column is looked at.
local function defined(line)
  return line:match("^local function ([%w_]+)") or line:match("^function ([%w_.:]+)")
    or line:match("^[%a_][%w_ *]-([%a_][%w_]*)%(")
end

local function plain(text) return (text:gsub("%p", "%%%0")) end

-- The functions of a file as { from, name }, in order.
local function functions(code)
  local list, at = {}, 1
  for line in code:gmatch("([^\n]*)\n?") do
    local name = defined(line)
    if name then list[#list + 1] = { from = at, name = name, stop = at + #line } end
    at = at + #line + 1
  end
  return list
end

local function function_at(list, position)
  local found
  for _, one in ipairs(list) do
    if one.from > position then break end
    found = one
  end
  return found
end

-- The places of one guard's calls in a file, its definition and declarations left out.
local function add_calls(found, path, code, list, guard)
  local at, numbers = 1, {}
  while true do
    local from, stop = code:find("%f[%w_]" .. plain(guard) .. "%s*%b()", at)
    if not from then return end
    at = from + #guard
    local inside = function_at(list, from)
    local is_definition = inside and from < inside.stop and inside.name:find(plain(guard) .. "$")
    if inside and not is_definition then
      numbers[inside.name] = (numbers[inside.name] or 0) + 1
      found[#found + 1] = { file = path, inside = inside.name, guard = guard,
        nth = numbers[inside.name], from = from, stop = stop }
    end
  end
end

--- The name of a site, by which a mutant is called.
---@param site { file: string, inside: string, guard: string, nth: integer }
---@return string
function sites.name(site)
  local file = site.file:match("praxlua/(.*)%.lua$") or site.file:match("[^/]*$")
  return ("%s/%s/%s%s"):format(file, site.inside, site.guard, site.nth > 1 and site.nth or "")
end

--- The calls of guards in a file.
---@param path string decides about the language
---@param text string its content
---@param guards string[] names of functions
---@return { file: string, inside: string, guard: string, nth: integer, from: integer,
---  stop: integer }[] sites
function sites.of(path, text, guards)
  local code, found = code_of(path, text), {}
  local list = functions(code)
  for _, guard in ipairs(guards) do add_calls(found, path, code, list, guard) end
  table.sort(found, function(a, b) return a.from < b.from end)
  return found
end

--- A text with one piece of it replaced.
---@param text string
---@param piece { from: integer, stop: integer }
---@param by string
---@return string
function sites.replaced(text, piece, by)
  return text:sub(1, piece.from - 1) .. by .. text:sub(piece.stop + 1)
end

return sites
