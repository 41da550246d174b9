--- Writes the C file that carries our Lua in the executable: lua5.4 embed.lua OUT NAME=FILE...
-- NAME is what the entry is called, FILE where its text is. The text stays readable: a line of Lua
-- is a line of C. A module stands there compiled as well, with all that a traceback names: to
-- compile it anew at each start takes longer than most of what is to be done. See embedded.h.

local out_path = table.remove(arg, 1)

local function read(path)
  local file = assert(io.open(path, "rb"))
  local data = assert(file:read("a"))
  file:close()
  return data
end

local escapes = { ["\n"] = "\\n", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\", ["?"] = "\\?" }

-- One C string literal. '?' is escaped because of trigraphs; three octal digits end an escape
-- whatever follows.
local function literal(line)
  return '"' .. line:gsub('[%c"\\?\x80-\xff]', function(c)
    return escapes[c] or ("\\%03o"):format(c:byte())
  end) .. '"'
end

-- Bytes as several C string literals.
local function literals(bytes)
  local lines = {}
  for at = 1, #bytes, 64 do
    lines[#lines + 1] = "    " .. literal(bytes:sub(at, at + 63)) .. "\n"
  end
  return table.concat(lines)
end

local function is_module(name) return name:find("^lua/") ~= nil end

local names, paths = {}, {}
for _, argument in ipairs(arg) do
  local name, path = argument:match("^([^=]+)=(.+)$")
  if not name then error("expected NAME=FILE, got " .. argument) end
  names[#names + 1], paths[name] = name, path
end
table.sort(names)

local chunks = { '/* Made by runtime/embed.lua. */\n#include "embedded.h"\n' }
for index, name in ipairs(names) do
  local source = read(paths[name])
  local chunk, message = load(source, "@" .. name, "t")
  if not chunk then error(message, 0) end
  chunks[#chunks + 1] = ("\n/* %s */\nstatic const char source_%d[] = \"\"\n"):format(name, index)
  for line in source:gmatch("[^\n]*\n?") do
    if line ~= "" then chunks[#chunks + 1] = "    " .. literal(line) .. "\n" end
  end
  chunks[#chunks + 1] = "    ;\n"
  if is_module(name) then
    chunks[#chunks + 1] = ("static const char code_%d[] =\n"):format(index)
    chunks[#chunks + 1] = literals(string.dump(chunk)) .. "    ;\n"
  end
end

chunks[#chunks + 1] = "\nconst struct embedded embedded_files[] = {\n"
for index, name in ipairs(names) do
  local code = is_module(name) and ("code_%d, sizeof code_%d - 1"):format(index, index) or "0, 0"
  chunks[#chunks + 1] = ("    {%s, source_%d, sizeof source_%d - 1, %s},\n")
    :format(literal(name), index, index, code)
end
chunks[#chunks + 1] = "    {0, 0, 0, 0, 0},\n};\n"

local out = assert(io.open(out_path, "wb"))
assert(out:write(table.concat(chunks)))
assert(out:close())
