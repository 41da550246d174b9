--- What every test uses: a temporary directory of its own, files made from a table, and a check
-- afterwards that nothing was left behind.
local core = require("praxlua.core")
local lfs = require("lfs")

local helper = {}

local made = {}

--- A new empty directory, removed by helper.clean().
---@param base string? where; TMPDIR when nil
---@return string path absolute
function helper.tempdir(base)
  base = base or os.getenv("TMPDIR") or "/tmp"
  local path = base .. "/praxlua-spec-" .. core.system.uuid()
  assert(lfs.mkdir(path))
  made[#made + 1] = path
  return path
end

--- Removes what tempdir made. Call it from after_each.
function helper.clean()
  for _, path in ipairs(made) do assert(core.tree.remove(path)) end
  made = {}
end

--- Writes a file with plain io (never with the code under test); makes its directories.
---@param path string
---@param data string
function helper.write(path, data)
  local directory = path:match("^(.*)/[^/]*$")
  if directory and not lfs.attributes(directory) then
    local at = directory:sub(1, 1) == "/" and "" or "."
    for name in directory:gmatch("[^/]+") do
      at = at .. "/" .. name
      lfs.mkdir(at)
    end
  end
  local out = assert(io.open(path, "wb"))
  assert(out:write(data))
  assert(out:close())
end

--- The whole content of a file, or nil.
---@param path string
---@return string|nil
function helper.read(path)
  local from = io.open(path, "rb")
  if not from then return nil end
  local data = from:read("a")
  from:close()
  return data
end

--- Makes files from a table: { ["a/b.txt"] = "content" }.
---@param root string
---@param files table<string, string>
function helper.tree(root, files)
  for path, data in pairs(files) do helper.write(root .. "/" .. path, data) end
end

--- The open descriptors of this process, for leak checks.
---@return integer count
function helper.descriptors()
  local count = 0
  for name in lfs.dir("/proc/self/fd") do
    if name ~= "." and name ~= ".." then count = count + 1 end
  end
  return count
end

--- Asserts that a call failed the way operations fail: nil, a message, this code.
---@param code string
---@param ... any what the call returned
---@return string message
function helper.fails(code, ...)
  local assert = require("luassert")
  local result, message, actual = ...
  assert.is_nil(result)
  assert.equal(code, actual, message)
  assert.is_string(message)
  return message
end

--- What a shell command printed, without its last line end.
---@param line string with string.format's directives for what follows
---@return string output
function helper.output_of(line, ...)
  local pipe = assert(io.popen(select("#", ...) > 0 and line:format(...) or line))
  local output = pipe:read("a")
  pipe:close()
  return (output:gsub("\n$", ""))
end

return helper
