--- The paths that a Python environment holds of itself, and their correction when it gets another
-- place: a copy of it, or another name of the installation.
--
-- They stand in pyvenv.cfg, in the scripts of bin (as the interpreter that runs them, and in
-- activate), in absolute links of either folder, and, of packages that are installed where their
-- sources lie, in .pth and .egg-link files and what goes with them. Everything else of an
-- environment is found from its interpreter. A corrected file is always a new one: what is another
-- name of the old file stays as it was.
local core = require("praxlua.core")
local folders = require("praxlua.folder")

local file = core.file

local environment_paths = {}

local LARGEST = 16 * 1024 * 1024 -- bytes of a file that is corrected

-- The longest first line of a script that every kernel takes; what pip's own scripts go by
-- (distlib/scripts.py, _build_shebang).
local LONGEST_HEADER = 127

-- Through a link lies what is not the environment's own.
local function is_folder(path)
  local stat = file.stat(path)
  return stat ~= nil and stat.type == "directory"
end

-- The names in a folder, none where there is no folder. Raises a failure, for `caught`.
local function names_in(path)
  if not is_folder(path) then return {} end
  local names, message, code = folders.names(path)
  if not names then error({ message, code }, 0) end
  return names
end

local function insist(ok, message, code)
  if not ok then error({ message, code }, 0) end
  return ok
end

-- Calls what raises its failures, and answers them as all functions do.
local function caught(run, ...)
  local ok, result = pcall(run, ...)
  if ok then return true end
  if type(result) ~= "table" then error(result, 0) end
  return nil, result[1], result[2]
end

-- The folders in which packages lie.
local function package_folders(path)
  local found = {}
  for _, lib in ipairs(names_in(path)) do
    local inside = path .. "/" .. lib
    for _, python in ipairs(lib:find("^lib") and names_in(inside) or {}) do
      local packages = inside .. "/" .. python .. "/site-packages"
      if python:find("^python") and is_folder(inside .. "/" .. python) and is_folder(packages) then
        found[#found + 1] = packages
      end
    end
  end
  return found
end

-- What of a folder of packages can hold a path of the environment, from that folder.
local function places_of(packages)
  local found = {}
  for _, name in ipairs(names_in(packages)) do
    if name:find("%.pth$") or name:find("%.egg%-link$") or name:find("^__editable__.*%.py$") then
      found[#found + 1] = name
    elseif name:find("%.dist%-info$") then
      found[#found + 1] = name .. "/direct_url.json"
    end
  end
  return found
end

local function files_of(path)
  local found = { path .. "/pyvenv.cfg" }
  for _, name in ipairs(names_in(path .. "/bin")) do found[#found + 1] = path .. "/bin/" .. name end
  for _, packages in ipairs(package_folders(path)) do
    for _, name in ipairs(places_of(packages)) do found[#found + 1] = packages .. "/" .. name end
  end
  return found
end

-- Every path into one environment made one into the other. It must begin there (a '/' before it is
-- that of a URL), and the name after it must end there.
local function with_paths(data, old, new)
  local pattern = "([%w._~-]?)" .. old:gsub("%p", "%%%0") .. "%f[^%w._-]"
  return (data:gsub(pattern, function(before) return before == "" and new or nil end))
end

-- A script whose interpreter has too long a path for the kernel is begun by sh, as pip does that.
local LONG = "#!/bin/sh\n'''exec' %s%s \"$0\" \"$@\"\n' '''\n"
local IS_LONG =
  "^#!/bin/sh\n'''exec' ([\"']?)(/[^\n\"' ]*)%1([^\n\"']-) \"%$0\" \"%$@\"\n' '''\n()"

-- A path as a word of sh; nil for one that would end the string that the line is in Python.
local function word(path)
  if path:find("['\\]") then return nil end
  return path:find("[^%w/._+-]") and "'" .. path .. "'" or path
end

local function with_header(data)
  local header, rest = data:match("^(#!/[^\n]*\n)()")
  if header and #header - 1 > LONGEST_HEADER then
    local interpreter, options = header:match("^#!(%S+)([^\n]*)\n$")
    return word(interpreter) and LONG:format(word(interpreter), options) .. data:sub(rest) or data
  end
  local _, interpreter, options, from = data:match(IS_LONG)
  if interpreter and #interpreter + #options + 2 <= LONGEST_HEADER then
    return "#!" .. interpreter .. options .. "\n" .. data:sub(from)
  end
  return data
end

local function correct_link(path, old, new)
  local target = file.readlink(path)
  local inside = target and target:sub(1, #old + 1) == old .. "/" and target:sub(#old + 1)
  if not inside then return true end
  local folder, name = path:match("^(.*)/([^/]+)$")
  local made = ("%s/.%s.px-0-0"):format(folder, name) -- a name that folder.sweep knows
  file.remove(made)
  local ok, message, code = file.symlink(new .. inside, made)
  if ok then ok, message, code = file.rename(made, path) end
  return ok, message, code
end

local function correct_file(path, old, new, write)
  local stat = file.stat(path)
  if stat and stat.type == "link" then return correct_link(path, old, new) end
  if not stat or stat.type ~= "file" or stat.size > LARGEST then return true end
  local data, message, code = file.read(path)
  if not data then return nil, message, code end
  if not data:find(old, 1, true) or data:find("\0", 1, true) then return true end
  local corrected = with_paths(data, old, new)
  if corrected == data then return true end
  return write(path, with_header(corrected))
end

local function correct(path, old, new, write)
  for _, name in ipairs(names_in(path)) do -- lib64, say
    local stat = file.stat(path .. "/" .. name)
    if stat and stat.type == "link" then insist(correct_link(path .. "/" .. name, old, new)) end
  end
  for _, name in ipairs(files_of(path)) do insist(correct_file(name, old, new, write)) end
end

--- Corrects the paths that an environment holds of itself. May be repeated.
---@param path string of the environment: where its files are
---@param old string the path that they tell
---@param new string the path that they are to tell
---@param options { durable: boolean }? durable: what is written survives a crash, each file by
---  itself; true when nil. False is for a copy that is made durable as a whole, or need not be
---@return true|nil
---@return string? message
---@return string? code
function environment_paths.correct(path, old, new, options)
  if old == new then return true end
  local write = options and options.durable == false and file.rewrite or file.write_atomic
  return caught(correct, path, old, new, write)
end

local function sweep(path)
  folders.sweep(path)
  if is_folder(path .. "/bin") then folders.sweep(path .. "/bin") end
  for _, packages in ipairs(package_folders(path)) do
    folders.sweep(packages)
    for _, name in ipairs(places_of(packages)) do
      local inside = name:match("^(.*)/")
      if inside then folders.sweep(packages .. "/" .. inside) end
    end
  end
end

--- Deletes what a killed correction left half written.
---@param path string of the environment
function environment_paths.sweep(path)
  if is_folder(path) then caught(sweep, path) end
end

return environment_paths
