--- A copy of the sources with a build of its own, in which one file at a time is changed and put
--- back. The build begins with the objects of the one under test: a change costs one compilation.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local mutant_tree = {}

local COPIED = { "Makefile", "lua", "phases", "rocks", "runtime", "spec", "docs", "README.md",
  "CHANGELOG.md" }
local BUILD = os.getenv("B") or "build"
local quote, write = command.quote, helper.write

local function read(path) return assert(helper.read(path), path) end

--- Runs a shell command.
---@param line string
---@return boolean succeeded
---@return string output
function mutant_tree.run(line)
  local pipe = assert(io.popen(line .. " 2>&1"))
  local output = pipe:read("a")
  return pipe:close() == true, output
end

local run = mutant_tree.run

local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

-- The build begins with the objects of the one under test, as if they had been made here.
local function adopt_build(w)
  local from = absolute(BUILD)
  assert(run(("mkdir %s && cp -a %s/objects %s/generated %s/faults %s"):format(w.build, quote(from),
    quote(from), quote(from), w.build)))
  local flags = w.build .. "/generated/flags"
  local text = read(flags):gsub("%-I" .. BUILD:gsub("%p", "%%%0") .. "/generated",
    "-I" .. w.build:gsub("%%", "%%%%") .. "/generated")
  local stamp = w.build .. "/generated/stamp"
  assert(run(("touch -r %s %s"):format(flags, stamp)))
  write(flags, text)
  assert(run(("touch -r %s %s && rm %s"):format(stamp, flags, stamp)))
end

--- Copies the sources and the build into a directory; what is there already is taken as it is.
---@param directory string
---@return table w tree, build, host (the executable)
function mutant_tree.open(directory)
  local w = { tree = directory .. "/tree", build = directory .. "/build" }
  w.host = w.build .. "/praxlua"
  if not lfs.attributes(w.build) then
    assert(run(("mkdir %s && cp -a %s %s"):format(w.tree, table.concat(COPIED, " "), w.tree)))
    adopt_build(w)
  end
  return w
end

--- Builds what is missing or older than its sources.
---@param w table
---@param more string? further targets
---@return boolean succeeded
---@return string output
function mutant_tree.make(w, more)
  return run(("cd %s && env -u MAKEFLAGS -u MFLAGS make -s B=%s %s/praxlua module %s")
    :format(w.tree, w.build, w.build, more or ""))
end

-- What is made of a source file.
local function products_of(w, file)
  local object = file:match("^runtime/(.*)%.c$")
  if object then return { ("%s/objects/%s.o"):format(w.build, object) } end
  return { w.build .. "/generated/embedded.c", w.build .. "/objects/embedded.o" }
end

--- Changes a file, calls `what`, and puts everything back as it was, the times too.
---@param w table
---@param file string path in the source tree
---@param changed string its text meanwhile
---@param what function
---@return boolean ok, any result of xpcall
function mutant_tree.with(w, file, changed, what)
  local files = products_of(w, file)
  files[#files + 1] = w.tree .. "/" .. file
  local kept = w.tree .. "/kept"
  for i, path in ipairs(files) do assert(run(("cp -p %s %s-%d"):format(path, kept, i))) end
  write(files[#files], changed)
  local ok, result = xpcall(what, debug.traceback)
  for i, path in ipairs(files) do assert(run(("mv %s-%d %s"):format(kept, i, path))) end
  assert(run(("rm -rf %s %s/lib/praxlua/core.so %s/sandbox"):format(w.host, w.build, w.build)))
  return ok, result
end

return mutant_tree
