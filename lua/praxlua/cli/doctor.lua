--- `praxlua doctor`: is everything here that an upgrade needs?
local core = require("praxlua.core")
local isolation = require("praxlua.isolation")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local process = require("praxlua.process")
local project_file = require("praxlua.project_file")
local run = require("praxlua.run")
local text = require("praxlua.text")
local version = require("praxlua.version")
local view = require("praxlua.cli.view")

local commands = {}

local function first_line(argv)
  local result, message = process.run({ argv = argv, environment = process.environment(),
    timeout = 20 })
  if not result then return nil, message end
  local line = (result.stdout ~= "" and result.stdout or result.stderr):match("[^\n]*")
  if result.code ~= 0 then return nil, line end
  return line
end

local function check_tool(name, argv, why)
  local line, problem = first_line(argv)
  if line then return { name = name, ok = true, detail = line } end
  return { name = name, ok = false, detail = problem, next = "install " .. name .. ": " .. why }
end

local function check_worker()
  local host, message = core.system.host()
  if not host then return { name = "workers", ok = false, detail = message } end
  local phases = require("praxlua.phases")
  local all, problem = phases.all()
  if not all then return { name = "workers", ok = false, detail = problem } end
  return { name = "workers", ok = true,
    detail = text.plural(#all, "phase") .. " described in their own processes" }
end

-- How far phases are confined. Less than all is no failure: the user says how much has to be
-- (--min-isolation).
local function check_isolation()
  local level, why = isolation.measure()
  return { name = "isolation", ok = level ~= nil,
    detail = level and level .. (why and ": " .. why or ": seccomp and Landlock hold") or why }
end

-- The same of the tools that phases start.
local function check_tools()
  local writing, network = core.spawn.confines()
  local missing = {}
  if not writing then missing[1] = "they may write anywhere (no Landlock of ABI 2)" end
  if not network then missing[#missing + 1] = "they may reach the network (no seccomp)" end
  return { name = "tools", ok = true, detail = #missing > 0 and table.concat(missing, "; ")
    or "those of phases write and reach only what they were granted" }
end

local function check_project_file(target)
  local settings, problem = project_file.read(target, layout.recognise_target(target) or nil)
  return { name = project_file.NAME, ok = settings ~= nil,
    detail = problem or settings and "read and understood" or "there is none (praxlua init)",
    next = problem and "mend it: docs/project-file.md has all settings" or nil }
end

local function check_target(target)
  local space, message = core.system.space(target)
  local writable = core.system.access(target, "w")
  local lock, problem, code = core.lock.acquire(target)
  if lock then lock:release() end
  return {
    { name = "target", ok = writable, detail = target,
      next = not writable and "change its permissions" or nil },
    { name = "space", ok = space ~= nil, detail = space and string.format("%s, %d inodes free",
      text.bytes(space.bytes_available), space.inodes_available) or message },
    { name = "lock", ok = lock ~= nil or code == "EBUSY",
      detail = lock and "free" or code == "EBUSY" and "an upgrade is running" or problem },
    check_project_file(target),
  }
end

local function collect(target)
  local versions = core.system.versions()
  local names = {}
  for name, of in pairs(versions) do names[#names + 1] = name .. " " .. of end
  table.sort(names)
  local checks = json.array({
    { name = "praxlua", ok = true,
      detail = version.text .. " (" .. table.concat(names, ", ") .. ")" },
    check_worker(), check_isolation(), check_tools(),
    check_tool("git", { "git", "--version" }, "the source is read through it"),
    check_tool("python3", { "python3", "--version" }, "the server runs on it"),
    check_tool("python3-venv", { "python3", "-c", "import venv, ensurepip; print('present')" },
      "a new environment is made with it"),
  })
  if target then table.move(check_target(target), 1, 4, #checks + 1, checks) end
  return checks
end

--- `praxlua doctor`
---@param args table
---@return integer exit code 1 when something is missing
function commands.doctor(args)
  local v = view.new(args)
  local target, refusal = run.find_target(args.target)
  if not target and args.target then return v.finish(refusal) end
  local checks, bad = collect(target), 0
  v.result("doctor", checks, function(t)
    local rows = {}
    for i, check in ipairs(checks) do
      rows[i] = { check.ok and { "green", "ok" } or { "red", "bad" }, check.name,
        tostring(check.detail or "") .. (check.next and " (" .. check.next .. ")" or "") }
    end
    t.table(rows)
  end)
  for _, check in ipairs(checks) do
    if not check.ok then bad = bad + 1 end
  end
  if bad == 0 then return v.finish({ exit_code = 0, message = "All is well." }) end
  return v.finish({ exit_code = 1, message = text.plural(bad, "check") .. " failed; see above." })
end

return commands
