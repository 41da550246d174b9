--- The settings of a project file: which there are, what each may be, and what is wrong with some.
--
-- What depends on the layout of an installation (where a component may land) is extend.lua's.
local base = require("praxlua.base")
local glob = require("praxlua.glob")
local lists = require("praxlua.lists")
local schema = require("praxlua.schema")
local text = require("praxlua.text")

local settings = {}

local PATH = schema.string({ min_length = 1, max_length = 4096 })
local WORD = schema.string({ min_length = 1, max_length = 1024 })
local ANSWER = schema.string({ one_of = { "ours", "theirs" } })
local optional = schema.optional

local COMPONENT = schema.object({
  name = schema.string({ min_length = 1, max_length = 64 }),
  from = PATH, to = PATH,
  ownership = schema.string({ one_of = { "system", "shared" } }),
  scope = optional(schema.string({ one_of = { "content", "server" } })),
  when = optional(schema.string({ one_of = { "present" } })),
})

-- A step of a call of the server's tools; a call is one, or has some.
local STEP = {
  tool = schema.string({ min_length = 1, max_length = 128 }),
  arguments = optional(schema.map(schema.any(), 100)),
  expect = optional(WORD),
  not_empty = optional(WORD),
}
local CALL = {}
for name, of in pairs(STEP) do CALL[name] = of end
CALL.tool = optional(STEP.tool)
STEP.always = optional(schema.boolean())
CALL.steps = optional(schema.array(schema.object(STEP), 16))
CALL.seconds = optional(schema.integer({ min = 1, max = 3600 }))

--- The schema of what the file returns.
settings.SCHEMA = schema.object({
  source_path = optional(PATH),
  dry_run = optional(schema.boolean()),
  auto_restart = optional(schema.boolean()),
  skip_tests = optional(schema.boolean()),
  keep_backups = optional(schema.integer({ min = 1, max = 1000000 })),
  interactive_conflicts = optional(schema.boolean()),
  git_commit_after = optional(schema.boolean()),
  on_conflict = optional(schema.string({ one_of = { "ask", "stop", "ours", "theirs" } })),
  conflicts = optional(schema.map(ANSWER, 256)),
  components = optional(schema.array(COMPONENT, 32)),
  ownership = optional(schema.map(
    schema.string({ one_of = { "system", "shared", "user", "config" } }), 1000)),
  excludes = optional(schema.array(PATH, 256)),
  server = optional(schema.object({
    command = optional(schema.array(WORD, 64)),
    url = optional(WORD),
    health_timeout = optional(schema.number({ min = 1, max = 3600 })),
    watch = optional(schema.number({ min = 0, max = 600 })),
    gone_tools = optional(schema.array(WORD, 1000)),
    variables = optional(schema.array(schema.string({ min_length = 1, max_length = 128 }), 100)),
    installer = optional(schema.string({ one_of = { "pip", "uv" } })),
  })),
  post_install = optional(schema.array(schema.object({
    package = schema.string({ min_length = 1, max_length = 256 }),
    command = schema.array(WORD, 64),
    optional = optional(schema.boolean()),
    seconds = optional(schema.integer({ min = 1, max = 86400 })),
  }), 32)),
  smoke = optional(schema.array(schema.object(CALL), 32)),
  tests = optional(schema.object({
    command = schema.array(WORD, 64),
    seconds = optional(schema.integer({ min = 1, max = 86400 })),
  })),
  content = optional(schema.object({
    driver = schema.string({ one_of = { "built-in", "safe-upgrade.py" } }),
  })),
})

-- ---- the form -------------------------------------------------------------------------------

local function shown(value) return text.shorten(text.visible(tostring(value)), 80) end

-- The name of a field in its table, as it is written in Lua.
local function joined(path, key)
  if math.type(key) == "integer" then return ("%s[%d]"):format(path, key) end
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then
    return path == "" and key or path .. "." .. key
  end
  return ('%s["%s"]'):format(path, shown(key))
end

local function did_you_mean(word, known)
  local near = type(word) == "string" and text.nearest(word, known)
  return near and ("; did you mean '%s'?"):format(near)
    or "; there are " .. table.concat(known, ", ")
end

-- Each returns nil, or the field and what is wrong with it.
local check
local by_kind = {}

function by_kind.object(s, value, path)
  for _, key in ipairs(lists.sorted_keys(value)) do
    if not s.fields[key] then
      return joined(path, key), ("there is no setting '%s'%s"):format(shown(key),
        did_you_mean(key, lists.sorted_keys(s.fields)))
    end
  end
  for _, key in ipairs(lists.sorted_keys(s.fields)) do
    local of, field, at = s.fields[key], value[key], joined(path, key)
    if field == nil and of.kind ~= "optional" then return at, "it is missing" end
    if field ~= nil then
      local where, problem = check(of, field, at)
      if problem then return where, problem end
    end
  end
end

local function check_each(s, value, path)
  for _, key in ipairs(lists.sorted_keys(value)) do
    local where, problem = check(s.of, value[key], joined(path, key))
    if problem then return where, problem end
  end
end

by_kind.array, by_kind.map = check_each, check_each

function by_kind.string(s, value, path)
  if not s.one_of or lists.has(s.one_of, value) then return nil end
  return path, ("'%s' is none of: %s"):format(shown(value), table.concat(s.one_of, ", "))
    .. (text.nearest(value, s.one_of) and did_you_mean(value, s.one_of) or "")
end

local TYPES = { object = "table", array = "table", map = "table", string = "string" }

function check(s, value, path)
  if s.kind == "optional" then s = s.of end
  if by_kind[s.kind] and type(value) == TYPES[s.kind] then
    local where, problem = by_kind[s.kind](s, value, path)
    if problem then return where, problem end
  end
  local ok, message = schema.check(s, value, "value")
  if ok then return nil end
  return path, (message:gsub("^value[^:]*: ", ""))
end

-- ---- the meaning ----------------------------------------------------------------------------

local function check_paths(found)
  if found.source_path and found.source_path:find("\0", 1, true) then
    return "source_path", "a path holds no NUL byte"
  end
  for pattern in pairs(found.conflicts or {}) do
    local _, problem = glob.compile(pattern)
    if problem then return joined("conflicts", pattern), problem end
  end
  for i, pattern in ipairs(found.excludes or {}) do
    local _, problem = glob.compile(pattern)
    if problem then return joined("excludes", i), problem end
  end
  for path in pairs(found.ownership or {}) do
    if not base.is_normal(path) then
      return joined("ownership", path), "that is no path within the installation (no '/' at its "
        .. "beginning or end, no '.' or '..' in it)"
    end
  end
end

local function check_conflicts(found)
  if found.on_conflict == "ask" and found.interactive_conflicts == false then
    return "on_conflict", "'ask' contradicts interactive_conflicts = false; take one of them"
  end
end

--- The words that stand for something in a server's command.
settings.PLACEHOLDERS = { "target", "project", "transport" }

local function check_word(word, path, known)
  if word:find("\0", 1, true) then return path, "a word of a command holds no NUL byte" end
  for name in word:gmatch("{([^{}]*)}") do
    if not lists.has(known, name) then
      return path, ("nothing stands for '{%s}'%s"):format(shown(name), did_you_mean(name, known))
    end
  end
end

local function check_command(command, path, known)
  for i, word in ipairs(command) do
    local where, problem = check_word(word, joined(path, i), known)
    if problem then return where, problem end
  end
  if #command == 0 then return path, "it is empty; its first word is the program" end
  local first = command[1]
  if first:find("/", 1, true) and not first:find("^/") and not first:find("^{target}/")
    and not first:find("^{project}/") then
    return path .. "[1]", "write the program as {target}/…, {project}/…, an absolute path, "
      .. "or a name to be looked for on PATH"
  end
end

local function check_tests(found)
  if not found.tests then return nil end
  return check_command(found.tests.command, "tests.command", { "target", "project" })
end

local function check_smoke(found)
  for i, call in ipairs(found.smoke or {}) do
    local path = joined("smoke", i)
    if (call.tool == nil) == (call.steps == nil) then
      return path, "it has either a tool, or steps of which each has one"
    end
    if call.steps and #call.steps == 0 then return path .. ".steps", "there are none" end
    for _, name in ipairs({ "arguments", "expect", "not_empty" }) do
      if call.steps and call[name] ~= nil then
        return joined(path, name), "where there are steps, this belongs to one of them"
      end
    end
  end
end

local function is_local_url(url)
  for _, host in ipairs({ "127%.%d+%.%d+%.%d+", "localhost", "%[::1%]" }) do
    if url:find("^http://" .. host .. ":%d+/[%g]*$") then return true end
  end
  return false
end

local function check_variables(names)
  for i, name in ipairs(names or {}) do
    if not name:find("^[%a_][%w_]*%*?$") then
      return ("server.variables[%d]"):format(i), "that is no name of a variable (nor the beginning "
        .. "of some, with a * behind it)"
    end
  end
end

local function check_server(found)
  local server = found.server or {}
  local at, wrong = check_variables(server.variables)
  if wrong then return at, wrong end
  if server.url and not is_local_url(server.url) then
    return "server.url", "write it as http://127.0.0.1:PORT/PATH: an address of this machine, with "
      .. "its port"
  end
  local command = server.command
  if not command then return nil end
  local where, problem = check_command(command, "server.command", settings.PLACEHOLDERS)
  if problem then return where, problem end
  if not table.concat(command, "\0"):find("{transport}", 1, true) then
    return "server.command", "no word holds {transport}, which says how the server is to be "
      .. "spoken to: stdio or http"
  end
end

-- The program is one of the environment's own: no path, and nothing that PATH finds.
local function check_post_install(found)
  for i, step in ipairs(found.post_install or {}) do
    local at = ("post_install[%d]"):format(i)
    if not step.package:find("^%w[%w._-]*$") then
      return at .. ".package", "that is no name of a package"
    end
    if #step.command == 0 then
      return at .. ".command", "it is empty; its first word is the program"
    end
    for j, word in ipairs(step.command) do
      if word:find("[%z\n]") then
        return ("%s.command[%d]"):format(at, j), "a word of a command holds no NUL and no line end"
      end
    end
    if step.command[1]:find("/", 1, true) or step.command[1]:find("^%.") then
      return at .. ".command[1]", "write the name of a program in the environment's bin, without "
        .. "a path"
    end
  end
end

--- What is wrong with settings, whatever the layout: the first thing that is found.
---@param found any what the file returned
---@return true|nil
---@return string? problem
---@return string? field its path: `components[1].to`
function settings.check(found)
  for _, rule in ipairs({ function() return check(settings.SCHEMA, found, "") end, check_paths,
    check_conflicts, check_server, check_post_install, check_smoke, check_tests }) do
    local field, problem = rule(found)
    if problem then return nil, problem, field end
  end
  return true
end

--- The names of the settings that are made, sorted.
---@param found table
---@return string[]
function settings.names(found) return lists.sorted_keys(found) end

return settings
