--- `make fuzz`: lua5.4 spec/faults/fuzz/run.lua DIRECTORY SECONDS [TARGET...] runs the fuzzer in
-- DIRECTORY for so many seconds on each target, beginning with the committed inputs, and prints
-- what came of it. Ends with 1 when there was a finding. Environment: JOBS, targets at a time.
--
-- DIRECTORY/TARGET keeps the inputs that reached something new, for the next run; TARGET.log what
-- the fuzzer said; TARGET-* the inputs that are findings.

local CORPUS = "spec/faults/fuzz/corpus"

-- The targets in C. Those in Lua keep a state over many inputs, so leaks are looked for at the end
-- only; the largest input, in bytes.
local IN_C = { archive = 65536, frame = 16384, http = 32768, journal = 32768 }
local USUAL = 16384

local directory, seconds = arg[1], assert(tonumber(arg[2]), "how many seconds?")
local jobs = math.max(1, tonumber(os.getenv("JOBS") or "") or 1)

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  pipe:close()
  return text
end

local function names()
  if arg[3] then return table.move(arg, 3, #arg, 1, {}) end
  local list = {}
  for name in output_of("ls " .. CORPUS):gmatch("%S+") do list[#list + 1] = name end
  return list
end

local COMMAND = "mkdir -p '%s/%s'; '%s/fuzzer' --target=%s -max_total_time=%d -max_len=%d "
  .. "-detect_leaks=%d -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "
  .. "-use_value_profile=1 "
  .. "-artifact_prefix='%s/%s-' '%s/%s' '%s/%s' > '%s/%s.log' 2>&1; echo $?"

local function start(name)
  local pipe = assert(io.popen(COMMAND:format(directory, name, directory, name, seconds,
    IN_C[name] or USUAL, IN_C[name] and 1 or 0, directory, name, directory, name, CORPUS, name,
    directory, name)))
  return { name = name, pipe = pipe }
end

local function read(path)
  local from = assert(io.open(path, "rb"))
  local text = from:read("a")
  from:close()
  return text
end

-- Waits for the end and prints a line; more when there is a finding. Returns whether it is fine.
local function finish(run)
  local code = tonumber((run.pipe:read("a"):match("%d+")))
  run.pipe:close()
  local log = read(("%s/%s.log"):format(directory, run.name))
  local last = {}
  for field in ("cov ft corp"):gmatch("%a+") do
    for value in log:gmatch(" " .. field .. ": (%d+)") do last[field] = value end
  end
  local executions = log:match("number_of_executed_units: (%d+)") or "?"
  print(("%s - %-12s %9s executions, %5s edges, %5s features, %4s inputs%s"):format(
    code == 0 and "ok" or "not ok", run.name, executions, last.cov or "?", last.ft or "?",
    last.corp or "?", code == 0 and "" or ", exit code " .. tostring(code)))
  if code ~= 0 then
    for line in log:gmatch("[^\n]+") do
      if line:find("finding") or line:find("ERROR: ") or line:find("runtime error")
        or line:find("Test unit written")
      then
        print("    " .. line:sub(1, 300))
      end
    end
  end
  io.flush()
  return code == 0
end

local all_fine = true
local list = names()
for from = 1, #list, jobs do
  local running = {}
  for i = from, math.min(from + jobs - 1, #list) do running[#running + 1] = start(list[i]) end
  for _, run in ipairs(running) do all_fine = finish(run) and all_fine end
end
os.exit(all_fine, true)
