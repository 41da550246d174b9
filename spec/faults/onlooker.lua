--- What others can do while praxlua stands still in the middle of a change: started by the tracer
-- at each call, it runs other commands of praxlua on the same installation, and looks whether one
-- of them waits, succeeds where it may not, or changes anything at all.
--
--   lua5.4 onlooker.lua CONFIG N NAME      TRACER_LEADER is the process that stands still
--
-- CONFIG is JSON: project, source, executable, environment, from and to (the calls between which
-- the lock is held), stride and offset (only calls of that class), report (a file to append to).
local cjson = require("cjson")

local SECONDS = 1 -- a command that is refused takes no longer

local function read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local data = file:read("a")
  file:close()
  return data
end

local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

local function words(list)
  local quoted = {}
  for i, word in ipairs(list) do quoted[i] = quote(word) end
  return table.concat(quoted, " ")
end

local function now() return tonumber(read("/proc/uptime"):match("^%S+")) end

local config = cjson.decode(read(arg[1]))
local n, leader = math.tointeger(arg[2]), os.getenv("TRACER_LEADER")

local function environment()
  local list = {}
  for name, value in pairs(config.environment) do list[#list + 1] = name .. "=" .. value end
  return words(list)
end

-- Every inode with its times: whatever is written, renamed, linked or removed shows in it.
local function picture()
  local pipe = assert(io.popen(("find %s -printf '%%p %%i %%n %%m %%s %%T@ %%C@ %%l\\n'"):format(
    words({ config.project, config.source }))))
  local text = pipe:read("a")
  pipe:close()
  return text
end

local function report(argv, text)
  local out = assert(io.open(config.report, "a"))
  local line = { n = n, call = arg[3], command = table.concat(argv, " "), why = text }
  out:write(cjson.encode(line), "\n")
  out:close()
end

local function run_once(argv)
  local began = now()
  local base = config.report .. ".run"
  local _, _, code = os.execute(("cd %s && env -i %s timeout -s KILL 20 %s > %s.out 2> %s.err")
    :format(quote(config.project), environment(), words({ config.executable, table.unpack(argv) }),
      base, base))
  return code, now() - began, read(base .. ".out") .. read(base .. ".err")
end

local function run(argv)
  local code, seconds, said = run_once(argv)
  if seconds > SECONDS then code, seconds, said = run_once(argv) end -- a busy machine
  if seconds > SECONDS then report(argv, ("took %.2f s"):format(seconds)) end
  if said:find("stack traceback", 1, true) or said:find("internal error", 1, true) then
    report(argv, "crashed: " .. said:sub(-600))
  end
  return code, said
end

local WRITERS = {
  { "upgrade", "--source", config.source }, { "upgrade", "--source", config.source, "--yes" },
  { "resume" }, { "rollback" }, { "backup", "create" }, { "backup", "restore", "--yes" },
  { "backup", "prune", "--keep", "1" }, { "upgrade", "--source", config.source, "--dry-run" },
}
-- With the exit codes they may have.
local READERS = {
  { { "status" }, { [0] = true } }, { { "status", "--json" }, { [0] = true } },
  { { "backup", "list" }, { [0] = true, [1] = true } },
  { { "doctor" }, { [0] = true, [1] = true } },
  { { "backup", "verify" }, { [0] = true, [1] = true } },
  { { "phase", "list" }, { [0] = true } },
}

local function check_writer(argv)
  local code, said = run(argv)
  if code ~= 6 then
    report(argv, ("exit %s, not 6: %s"):format(tostring(code), said:sub(-300)))
  elseif not said:find("process " .. leader, 1, true) then
    report(argv, ("does not name process %s: %s"):format(leader, said:sub(-300)))
  end
end

local function check_reader(reader)
  local code, said = run(reader[1])
  if not reader[2][code] then
    report(reader[1], ("exit %s: %s"):format(tostring(code), said:sub(-300)))
  end
end

local function look()
  local turn = n // config.stride
  local before = picture()
  check_writer(WRITERS[turn % #WRITERS + 1])
  check_reader(READERS[turn % #READERS + 1])
  if before ~= picture() then
    report({ "one of the two" }, "changed something while another one had the lock")
  end
end

if n > config.from and n <= config.to and n % config.stride == config.offset then look() end
