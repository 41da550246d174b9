--- Writes the C file that carries our Lua in the executable: lua5.4 embed.lua OUT NAME=FILE...
-- NAME is what the entry is called, FILE where its text is. The text stays readable: a line of Lua
-- is a line of C, and no file is stripped or compiled. See embedded.h.

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
  local ok, message = load(source, "@" .. paths[name], "t")
  if not ok then error(message, 0) end
  chunks[#chunks + 1] = ("\n/* %s */\nstatic const char source_%d[] = \"\"\n"):format(name, index)
  for line in source:gmatch("[^\n]*\n?") do
    if line ~= "" then chunks[#chunks + 1] = "    " .. literal(line) .. "\n" end
  end
  chunks[#chunks + 1] = "    ;\n"
end

chunks[#chunks + 1] = "\nconst struct embedded embedded_files[] = {\n"
for index, name in ipairs(names) do
  chunks[#chunks + 1] = ("    {%s, source_%d, sizeof source_%d - 1},\n")
    :format(literal(name), index, index)
end
chunks[#chunks + 1] = "    {0, 0, 0},\n};\n"

local out = assert(io.open(out_path, "wb"))
assert(out:write(table.concat(chunks)))
assert(out:close())
