--- The verbs: everything a phase can ask the host to do, and which grant each needs.
--
-- verbs.granted(ctx, grants) makes the table of one phase: verb to function. What was not granted
-- is not in it, and the broker refuses it. Functions return results, or nil, message,
-- code; a call with wrong arguments raises a table { misuse = message }.
local core = require("praxlua.core")
local clock = require("praxlua.clock")
local confinement = require("praxlua.confinement")
local foretold = require("praxlua.verbs.foretold")
local json = require("praxlua.json")
local lists = require("praxlua.lists")
local lock_text = require("praxlua.lock_text")
local originals = require("praxlua.originals")
local reference = require("praxlua.verbs.reference")
local text = require("praxlua.text")
local undo_commands = require("praxlua.undo_commands")

local verbs = {}

--- The functions of the services that phases may call, by service.
verbs.SERVICES = {
  validation = {
    "validate_source_repo", "validate_target_structure", "check_disk_space", "check_permissions",
    "check_backups", "verify_checksums", "check_server_health",
  },
  backup = {
    "create_backup", "verify_backup_integrity", "archive_old_backups", "list_backups",
  },
  content = { "preview", "upgrade", "stage_server_code", "upgrade_server_code", "gitignore" },
  dependencies = { "install_dependencies", "switch_environment", "run_post_install_steps" },
  server = { "health", "log_errors_since", "watch" },
  report = {
    "generate_validation_report", "update_installation_summary", "append_to_update_log",
    "commit_changes",
  },
}

-- Those of a service that leave something behind. They are there from phase 1 on only, when the
-- transaction is open and a backup comes first; in a dry run, that is the one of a copy.
local ACTING = {
  ["backup.create_backup"] = true, ["backup.archive_old_backups"] = true,
  ["content.upgrade"] = true, ["content.upgrade_server_code"] = true,
  ["content.stage_server_code"] = true, ["server.prove"] = true, ["server.watch"] = true,
  ["content.gitignore"] = true, ["dependencies.install_dependencies"] = true,
  ["dependencies.switch_environment"] = true,
  ["dependencies.run_post_install_steps"] = true, ["lock.acquire"] = true,
  ["lock.release"] = true, ["report.generate_validation_report"] = true,
  ["report.generate_upgrade_summary"] = true, ["report.update_installation_summary"] = true,
  ["report.append_to_update_log"] = true, ["report.commit_changes"] = true,
  ["server.restart_server"] = true, ["server.run_tests"] = true,
}

local function misuse(verb, message)
  error({ misuse = string.format("host.%s: %s", verb, message) }, 0)
end

local function expect(verb, which, value, kind)
  if type(value) == kind then return end
  which = type(which) == "number" and "argument " .. which or which
  misuse(verb, string.format("%s must be a %s, not %s", which, kind, type(value)))
end

local function expect_path(verb, position, value)
  expect(verb, position, value, "string")
  if value == "" or value:find("\0", 1, true) then
    misuse(verb, string.format("argument %d is no path: it is empty or holds a NUL", position))
  end
end

local function denied(message) return nil, message, "EDENIED" end

-- ---------------------------------------------------------------------------------------------
-- Files: host.source, host.target, host.project

-- What lies in .git is run by git itself (hooks), with nobody's grant; and some file systems know
-- the name in other letters, too. The environment is run by the phases that try the server.
local function is_ours(ctx, path)
  for part in path:lower():gmatch("[^/]+") do
    if part == ".git" then return true end
  end
  local prefix = ctx.target_name .. "/"
  local top = path:sub(1, #prefix) == prefix and path:match("^[^/]+", #prefix + 1)
  return path == ctx.target_name or top and (confinement.OURS[top] or top == "venv")
end

local function reading(add, root_name, root_path)
  local function with_root(method)
    return function(path, limit)
      expect_path(root_name .. "." .. method, 1, path)
      if limit ~= nil and (math.type(limit) ~= "integer" or limit < 0) then
        misuse(root_name .. "." .. method, "argument 2 must be a number of bytes")
      end
      local root, message, code = core.root.open(root_path)
      if not root then return nil, message, code end
      local result <const> = table.pack(root[method](root, path, limit))
      root:close()
      return table.unpack(result, 1, result.n)
    end
  end
  for _, method in ipairs({ "read", "list", "exists", "hash" }) do
    add(root_name .. "." .. method, with_root(method))
  end
end

-- Between phases 1 and 5: with a verified backup, and before the run is over. A script of
-- `praxlua run` has a transaction from its beginning.
local function may_change(ctx)
  if ctx.script then return ctx.change ~= nil end
  local done = #ctx.session.completed_phases
  return ctx.change ~= nil and done >= 2 and done <= 5
end

local function apply(ctx, ok, message, code)
  if not ok then return nil, message, code end
  local applied
  applied, message, code = ctx.change.apply()
  if not applied then return nil, message, code end
  return true
end

-- What a rename moves: the file or folder itself and what is in it, as it is beneath the project,
-- through no link.
local function to_be_moved(ctx, from, to)
  if to == from or to:sub(1, #from + 1) == from .. "/" then
    return nil, from .. " cannot be moved into itself", "EINVAL"
  end
  local root, message, code = core.root.open(ctx.project)
  if not root then return nil, message, code end
  local stat, taken
  stat, message, code = root:stat(from)
  if stat then taken, message, code = root:exists(to) end
  root:close()
  if taken == nil then return nil, message, code end
  if taken then return nil, to .. " exists already", "EEXIST" end
  local entries = {}
  if stat.type == "directory" then
    entries, message, code = core.tree.list(ctx.project .. "/" .. from)
    if not entries then return nil, message, code end
  end
  for _, entry in ipairs(entries) do entry.path = "/" .. entry.path end
  stat.path = ""
  table.insert(entries, 1, stat)
  return entries
end

local function move_one(ctx, entry, from, to)
  local ok, old, code = originals.note(ctx, from)
  if not ok then return nil, old, code end
  local message
  if entry.type == "directory" then
    return ctx.change.mkdir(to, { mode = entry.mode })
  elseif entry.type == "file" then
    ok, message, code = ctx.change.put(to, { from = ctx.project .. "/" .. from },
      { mode = entry.mode, old = false })
  elseif entry.type == "link" then
    ok, message, code = ctx.change.symlink(to, entry.target, { old = false })
  else
    ok, message, code = nil, from .. " is neither a file nor a link nor a folder", "ENOTREG"
  end
  if not ok then return nil, message, code end
  return ctx.change.remove(from, { old = old })
end

-- Moves a file, or a folder with everything in it, inside one batch.
local function rename(ctx, from, to)
  local entries, message, code = to_be_moved(ctx, from, to)
  local ok = entries ~= nil
  for i = 1, ok and #entries or 0 do
    local path = entries[i].path
    if ok then ok, message, code = move_one(ctx, entries[i], from .. path, to .. path) end
  end
  for i = ok and #entries or 0, 1, -1 do -- the folders within a folder first
    if ok and entries[i].type == "directory" then
      ok, message, code = ctx.change.rmdir(from .. entries[i].path)
    end
  end
  return apply(ctx, ok, message, code)
end

local function writing(add, ctx, root_name, prefix)
  local function guarded(name, count, action)
    local verb = root_name .. "." .. name
    add(verb, function(...)
      local paths = table.pack(...)
      for i = 1, count do
        expect_path(verb, i, paths[i])
        paths[i] = prefix .. paths[i]
        if is_ours(ctx, paths[i]) then
          return denied(string.format("host.%s: %s is not for phases", verb, paths[i]))
        end
      end
      if not may_change(ctx) then
        return denied("host." .. verb .. ": files can be changed only after the backup and "
          .. "before the clean-up")
      end
      return action(table.unpack(paths, 1, paths.n))
    end)
  end
  guarded("write", 1, function(path, data, mode)
    expect(root_name .. ".write", 2, data, "string")
    local normal = mode == nil or math.type(mode) == "integer" and mode >= 0 and mode <= 0x1ff
    if not normal then
      misuse(root_name .. ".write", "argument 3 must be permission bits, at most octal 777")
    end
    local ok, old, code = originals.note(ctx, path)
    if not ok then return nil, old, code end
    return apply(ctx, ctx.change.put(path, { data = data }, { mode = mode, old = old }))
  end)
  guarded("remove", 1, function(path)
    local ok, old, code = originals.note(ctx, path)
    if not ok then return nil, old, code end
    return apply(ctx, ctx.change.remove(path, { old = old }))
  end)
  guarded("rename", 2, function(from, to) return rename(ctx, from, to) end)
end

-- ---------------------------------------------------------------------------------------------
-- Tools, questions, helpers

-- The words of a command as strings without NUL, and its options as far as they are right.
local function check_command(verb, options)
  expect(verb, 1, options, "table")
  local argv = {}
  for i, argument in ipairs(options) do
    argv[i] = (type(argument) == "string" or type(argument) == "number") and tostring(argument)
    if not argv[i] or argv[i]:find("\0", 1, true) then
      misuse(verb, string.format("word %d of the command must be a string without NUL", i))
    end
  end
  if not argv[1] then misuse(verb, "there is no command") end
  for key in pairs(options) do -- a misspelt limit is none
    if not argv[key] and key ~= "stdin" and key ~= "timeout" then
      misuse(verb, string.format("a command has no field '%s'; it has words, stdin and timeout",
        text.visible(tostring(key))))
    end
  end
  if options.stdin ~= nil then expect(verb, "stdin", options.stdin, "string") end
  local timeout = options.timeout or 60
  if type(timeout) ~= "number" or timeout <= 0 then
    misuse(verb, "timeout must be a number of seconds")
  end
  return { argv = argv, timeout = math.min(timeout, 3600), stdin = options.stdin }
end

-- How a tool ended, for a script. One that was ended has no exit code, so that nobody takes it for
-- one that went well.
local function ended(result)
  if result.signal ~= 0 or result.timed_out then result.code = nil end
  if result.signal == 0 then result.signal = nil end
  return result
end

local function spawning(add, ctx, grants)
  local may_write_project = grants.project == "write"
  local function add_tool_verb(verb, act)
    add(verb, function(options)
      local command = check_command(verb, options)
      local tool = command.argv[1]
      if not lists.has(grants.tools, tool) then
        return nil, ("host.%s: the tool '%s' was not granted to this phase: %s"):format(verb, tool,
          reference.grant_of(verb)), "EGRANT"
      end
      if not may_change(ctx) then
        return denied("host." .. verb .. ": tools run only after the backup and before the "
          .. "clean-up")
      end
      if ctx.overlay then return foretold.answer(ctx, verb, command.argv) end
      return act(command)
    end)
  end
  add_tool_verb("spawn", function(command)
    local undoable = undo_commands.has(ctx)
    local result, message, code = confinement.run(ctx, command, { target = undoable,
      project = may_write_project and undoable, network = grants.network })
    if not result then return nil, message, code end
    return ended(result)
  end)
  add_tool_verb("undo", function(command)
    if command.stdin then misuse("undo", "an undo command has no stdin") end
    command.project, command.network = may_write_project, grants.network
    return undo_commands.register(ctx, command)
  end)
end

-- What people are to read, as text. A table has none but its address in our memory.
local function text_for_people(verb, message)
  if type(message) == "table" then misuse(verb, "argument 1 must be a text, not a table") end
  return tostring(message)
end

-- The answers a question may have.
local function choices_of(choices)
  if choices == nil then return { "yes", "no" } end
  expect("ask", 2, choices, "table")
  if #choices == 0 then misuse("ask", "argument 2 must hold at least one choice") end
  for i, choice in ipairs(choices) do
    expect("ask", "choice " .. i, choice, "string")
    if choice == "" then misuse("ask", "choice " .. i .. " is empty") end
  end
  return choices
end

local function helping(add, ctx)
  add("log", function(message)
    ctx.emit({ event = "log", level = "info", message = text_for_people("log", message) })
    return true
  end)
  add("progress", function(message, fraction)
    ctx.progress(text_for_people("progress", message), tonumber(fraction))
    return true
  end)
  add("warn", function(message)
    ctx.warn(text_for_people("warn", message))
    return true
  end)
  add("time", function() return clock.iso() end)
  add("json.encode", function(value, options)
    local ok, result = pcall(json.encode, value, options)
    if not ok then misuse("json.encode", tostring(result)) end
    return result
  end)
  add("json.decode", function(data)
    expect("json.decode", 1, data, "string")
    return json.decode(data)
  end)
  add("ask", function(question, choices, default)
    expect("ask", 1, question, "string")
    choices = choices_of(choices)
    if default ~= nil and not lists.has(choices, default) then
      misuse("ask", "argument 3 must be one of the choices")
    end
    return ctx.ask(question, choices, default)
  end)
end

local function add_service_verb(add, ctx, verb, run)
  add(verb, function(...)
    if ACTING[verb] and not ctx.change then
      return denied("host." .. verb .. " can be called only after the pre-flight checks")
    end
    if ctx.overlay and foretold.VERBS[verb] then return foretold.answer(ctx, verb, ...) end
    return run(ctx, ...)
  end)
end

local function serving(add, ctx, service)
  local module = require("praxlua." .. service)
  for _, name in ipairs(verbs.SERVICES[service]) do
    local run = assert(module[name], service .. "." .. name)
    add_service_verb(add, ctx, service .. "." .. name, run)
  end
end

-- Verbs that are about the run itself, beside those of the service modules.
local OWN = {
  lock = {
    acquire = function(ctx) return lock_text.write(ctx) end,
    release = function(ctx) return lock_text.remove(ctx) end,
    held = function(ctx) return ctx.lock_held() end,
  },
  dependencies = {
    detect_post_install_steps = function(ctx, requirements)
      if requirements ~= nil then
        expect("dependencies.detect_post_install_steps", 1, requirements, "string")
      end
      return require("praxlua.dependencies").detect_post_install_steps(ctx, requirements)
    end,
  },
  report = {
    generate_upgrade_summary = function(ctx)
      if not ctx.report then return denied("there is no upgrade to report on") end
      return require("praxlua.report").generate_upgrade_summary(ctx, ctx.report())
    end,
  },
  server = {
    expected_tools = function(ctx) return require("praxlua.server.proof").expected_tools(ctx) end,
    prove = function(ctx, options)
      local proven, message, code = require("praxlua.server.proof").prove(ctx, options)
      ctx.memory.proof = proven
      return proven, message, code
    end,
    -- The server that phase 3 started is the one to be asked; a private one would prove only the
    -- code.
    run_smoke = function(ctx)
      local server = require("praxlua.server")
      local ok, message, code = server.check_running(ctx)
      if not ok then return nil, message, code end
      return server.run_smoke(ctx)
    end,
    -- Whoever talks to the old server goes with it, so the session is on disk before that.
    restart_server = function(ctx, options)
      ctx.session.metadata.restart_began = clock.iso()
      local saved, message, code = ctx.save()
      if not saved then return nil, message, code end
      local restarted
      restarted, message, code = require("praxlua.server").restart_server(ctx, options)
      if restarted and restarted.started then require("praxlua.server.watch").begin(ctx) end
      return restarted, message, code
    end,
    run_tests = function(ctx) return require("praxlua.server.tests").run(ctx) end,
  },
}

--- The services a phase can be granted.
---@return string[] names sorted
function verbs.services()
  local names = {}
  for name in pairs(verbs.SERVICES) do names[#names + 1] = name end
  for name in pairs(OWN) do
    if not verbs.SERVICES[name] then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- The verbs of one phase.
---@param ctx table the run's context
---@param grants table of the phase
---@return table<string, function> by verb
---@return string[] names sorted
function verbs.granted(ctx, grants)
  local all, names = {}, {}
  local function add(verb, run)
    all[verb] = run
    names[#names + 1] = verb
  end
  local roots = {
    source = { ctx.source, "" }, target = { ctx.target, ctx.target_name .. "/" },
    project = { ctx.project, "" },
  }
  for name, root in pairs(roots) do
    if grants[name] and root[1] then reading(add, name, root[1]) end
    if grants[name] == "write" then writing(add, ctx, name, root[2]) end
  end
  if grants.tools and #grants.tools > 0 then spawning(add, ctx, grants) end
  for _, service in ipairs(grants.services or {}) do
    if verbs.SERVICES[service] then serving(add, ctx, service) end
    for name, act in pairs(OWN[service] or {}) do
      add_service_verb(add, ctx, service .. "." .. name, act)
    end
  end
  helping(add, ctx)
  table.sort(names)
  return all, names
end

--- The names of the verbs that grants give.
---@param grants table of a phase
---@return table<string, boolean> by verb
function verbs.names(grants)
  local given = verbs.granted({ source = "/", target = "/", project = "/", target_name = "" },
    grants)
  local names = {}
  for name in pairs(given) do names[name] = true end
  return names
end

return verbs
