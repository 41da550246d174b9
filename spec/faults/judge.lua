--- What the fault campaigns hold against an installation after a fault. It shares no code with
-- praxlua: everything is looked at by spec/support/oracle.py, one long-lived process a worker.
--
-- A scenario `s` is made by scenarios.lua. A problem is one line of text; no problems is an empty
-- array.
local cjson = require("cjson")

local judge = {}

-- ---------------------------------------------------------------------------------------------
-- The oracle's process

local service

local function start()
  local directory = os.getenv("TMPDIR") or "/tmp"
  local pipe = assert(io.popen(("mktemp -d %s/praxlua-oracle-XXXXXX"):format(directory)))
  local place = pipe:read("l")
  assert(pipe:close())
  local ask, answer = place .. "/ask", place .. "/answer"
  assert(os.execute(("mkfifo %s %s && { python3 -B spec/support/oracle.py serve <%s >%s & }")
    :format(ask, answer, ask, answer)))
  service = { ask = assert(io.open(ask, "w")), answer = assert(io.open(answer, "r")) }
  os.execute("rm -r " .. place) -- both ends are open; the names are not needed any more
end

--- Asks the oracle; raises when it cannot answer. The verbs are those of its class Service.
---@param verb string
---@param request table?
---@return any answer
function judge.ask(verb, request)
  if not service then start() end
  request = request or {}
  request.verb = verb
  assert(service.ask:write(cjson.encode(request), "\n"))
  assert(service.ask:flush())
  local line = assert(service.answer:read("l"), "the oracle has ended")
  local answer = cjson.decode(line)
  if answer.error then error("oracle: " .. answer.error, 2) end
  return answer.answer
end

--- Ends the oracle's process; the next question starts a new one.
function judge.stop()
  if not service then return end
  service.ask:close()
  service.answer:read("a") -- until it has ended
  service.answer:close()
  service = nil
end

-- ---------------------------------------------------------------------------------------------
-- Looking

--- The canonical listing of a scenario's project; records of praxlua without their times.
---@param s table
---@param version string? "old" or "new": what judge.version compares with
---@param is_exact boolean? the records as they are
---@return table listing
function judge.listing(s, version, is_exact)
  return judge.ask("list", {
    root = s.project, target = s.installation, records = is_exact and {} or s.records,
    keep = version and s.root .. ":" .. version,
  })
end

--- Everything in the project with its times: nothing at all may have changed.
---@param s table
---@param keep string? remembered by this name
---@return table listing
function judge.exact(s, keep)
  return judge.ask("list", {
    root = s.project, target = s.installation, all = true, times = true, keep = keep,
  })
end

local function some_of(lines)
  local shown = math.min(#lines, 4)
  return table.concat(lines, "; ", 1, shown)
    .. (#lines > shown and (" and %d more"):format(#lines - shown) or "")
end

--- Which of the scenario's two versions the installation is.
---@param s table
---@param is_stuck boolean? a fault goes on: files that were being written could not be removed
---@return string|nil version "old" or "new"; "old" too where both are the same; nil: neither
---@return string? difference what distinguishes it from each, a few of the paths
function judge.version(s, is_stuck)
  local found = judge.ask("matches", {
    root = s.project, target = s.installation, records = s.records, exact = s.exact,
    temporary = is_stuck or false, wanted = { old = s.root .. ":old", new = s.root .. ":new" },
  })
  for _, name in ipairs({ "old", "new" }) do
    if found.equal[name] then return name end
  end
  local text = {}
  for _, name in ipairs({ "old", "new" }) do
    local lines = found.different[name]
    text[#text + 1] = ("not %s: %s"):format(name, some_of(lines))
  end
  return nil, table.concat(text, " | ")
end

--- The sessions that the scenario began, by id (see the oracle's `sessions`).
---@param s table
---@return table<string, table> sessions
---@return string|nil open the id of one that is not over
function judge.sessions(s)
  local found, open = judge.ask("sessions", { target = s.target }), nil
  for id, session in pairs(found) do
    if s.known[id] then
      found[id] = nil
    elseif session.open then
      open = id
    end
  end
  return found, open
end

-- Where praxlua works beside the project.
local function temporary(s) return s.environment.TMPDIR end

-- The project's repository, where it has one.
local function repository(s)
  return judge.ask("git", { directory = s.project, environment = s.environment })
end

--- A digest of everything in the project, its repository and praxlua's own folders too, less what
--- differs from run to run: two crash states with the same one are the same state.
---@param s table
---@return string
function judge.digest(s)
  local digest = judge.ask("digest", { root = s.project, further = { temporary(s) } })
  return s.head and digest .. repository(s).digest or digest
end

-- ---------------------------------------------------------------------------------------------
-- Running praxlua

-- The last event of --json; an empty table where there is none.
local function last_event(text)
  local last = {}
  for line in text:gmatch("([^\n]+)\n") do
    local ok, event = pcall(cjson.decode, line)
    if ok and type(event) == "table" then last = event end
  end
  return last
end

local DOCUMENTED = { [0] = true, true, true, true, true, true, true, [129] = true, [130] = true,
  [143] = true }

--- What is wrong with the end of a command, whatever happened to it: its code, a signal, a Lua
--- traceback, an error that does not say what to do.
---@param result table code?, signal?, stdout, stderr
---@return string[] problems
---@return table last event; { } where the command had no time to write one
function judge.ending(result)
  local problems, last = {}, last_event(result.stdout)
  local function wrong(...) problems[#problems + 1] = string.format(...) end
  local code = result.code
  if not code then
    wrong("ended by %s", result.signal and "signal " .. result.signal or "the time limit")
    return problems, last
  end
  if not DOCUMENTED[code] then wrong("exit %d is not documented", code) end
  local said = result.stdout .. result.stderr
  local trace = said:match("stack traceback:[^\n]*") or said:match("internal error[^\n]*")
    or said:match("[%w_]%.lua:%d+:[^\n]*") or said:match("Sanitizer[^\n]*")
  if trace then wrong("exit %d with a trace: %s", code, trace) end
  if last.event ~= "finished" then
    wrong("exit %d without a last event: %s", code, result.stderr:sub(-300))
  elseif last.exit_code ~= code then
    wrong("exit %d, but the last event says %s", code, last.exit_code)
  elseif code ~= 0 then
    if not last.message or last.message == "" then wrong("exit %d says not what happened", code) end
    if not last.next or last.next == "" then
      wrong("exit %d says not what to do: %s", code, last.message)
    end
  end
  return problems, last
end

--- Runs praxlua with --json in the scenario's project, to its end.
---@param s table
---@param argv string[] without the executable
---@return table result code, stdout, stderr, seconds, last (the last event), problems (of
---  judge.ending, and processes that are left)
function judge.run(s, argv)
  local whole = { s.executable, table.unpack(argv) }
  whole[#whole + 1] = "--json"
  local result = judge.ask("run", {
    argv = whole, directory = s.project, environment = s.environment, timeout = 60,
    spare = s.server and "-m mcp_server",
  })
  result.code = result.code ~= cjson.null and math.tointeger(result.code) or nil
  result.problems, result.last = judge.ending(result)
  for _, process in ipairs(result.left) do
    table.insert(result.problems, "left a process: " .. process.command)
  end
  return result
end

local function said(result)
  return ("exit %s, %s: %s"):format(tostring(result.code), tostring(result.last.status),
    tostring(result.last.message))
end

local function command(argv) return "`praxlua " .. table.concat(argv, " ") .. "`" end

-- ---------------------------------------------------------------------------------------------
-- Verdicts

--- Which version a command that ended like this has promised; nil where it says nothing about that
--- (a session that was over, or none, is either one).
---@param s table
---@param last table its last event
---@return string|nil version
---@return string? problem
function judge.promised(s, last)
  if last.status == "completed" then return "new" end
  if last.status == "nothing_to_do" then return nil end
  if last.status == "rolled_back" and s.kind == "restore" then
    return tostring(last.message):find("^Restored") and "new" or "old"
  end
  if last.status == "rolled_back" or last.status == "refused" then return "old" end
  return nil, ("ended as %s: %s"):format(tostring(last.status), tostring(last.message))
end

local function append(to, from, before)
  for _, text in ipairs(from) do to[#to + 1] = (before or "") .. text end
end

-- The files of an installation, beside those of its sessions, that tell whether they are whole.
local SEALED = { ".installed-manifest.json", ".upgrade-lock" }

-- Whether the state files say what the installation is.
local function sessions_agree(s, version)
  local problems, upgrades, restores = {}, 0, 0
  for id, session in pairs((judge.sessions(s))) do
    if session.problem then problems[#problems + 1] = "the state file " .. session.problem end
    if session.open then
      problems[#problems + 1] = ("session %s is still open: %s"):format(id,
        tostring(session.status))
    end
    if session.status == "completed" then
      if session.kind == "restore" then restores = restores + 1 else upgrades = upgrades + 1 end
    end
  end
  local complete = s.kind == "restore" and restores or upgrades
  if complete ~= (version == "new" and 1 or 0) then
    problems[#problems + 1] = ("the installation is %s, but %d upgrades and %d restores are said "
      .. "to be complete"):format(version, upgrades, restores)
  end
  return problems
end

-- The project's own commits: those from before, and one more after an upgrade, unless git refused
-- (a git that was killed leaves its locks). It stays when a completed upgrade is undone.
local function commit_is_right(s, version)
  local most = version == "new" and 1 or 0
  for _, session in pairs((judge.sessions(s))) do
    if session.kind == "restore" and session.status == "completed" then most = most + 1 end
  end
  local result = judge.ask("run", {
    argv = { "git", "rev-list", "--left-right", "--count", s.head .. "...HEAD" },
    directory = s.project, environment = s.environment,
  })
  local count = math.tointeger(tonumber(result.stdout:match("^0\t(%d+)\n$")))
  return count ~= nil and count <= most
end

-- Processes that work in the scenario's folders; its server is one, where it has one.
local function processes_left(s)
  local problems, servers = {}, 0
  for _, process in ipairs(judge.ask("processes", { root = s.root })) do
    local words = table.concat(process.command, " ")
    if s.server and words:find("-m mcp_server", 1, true) then
      servers = servers + 1
    else
      problems[#problems + 1] = "left a process: " .. words
    end
  end
  if servers > 1 then problems[#problems + 1] = servers .. " servers run" end
  return problems
end

-- The server answers, and is of the version that the installation is.
local function server_is_right(s, version)
  local answer = judge.ask("ask", { target = s.target })
  local is_right = answer.version == s.server[version] and answer.state_version == answer.version
  if is_right then return {} end
  return { ("the installation is %s, its server %s"):format(version,
    answer.problem or tostring(answer.version)) }
end

local function leftovers(s)
  return judge.ask("leftovers", {
    project = s.project, target = s.installation, empty = { temporary(s) },
  })
end

--- What may not be there once no session is open: files, processes, sessions that say otherwise.
---@param s table
---@param version string "old" or "new", which the installation is
---@return string[] problems
function judge.settled(s, version)
  local problems = {}
  local function wrong(...) problems[#problems + 1] = string.format(...) end
  for _, path in ipairs(leftovers(s)) do wrong("left behind: %s", path) end
  append(problems, processes_left(s))
  if s.server then append(problems, server_is_right(s, version)) end
  append(problems, sessions_agree(s, version))
  append(problems, judge.ask("seals", { target = s.target, names = SEALED }))
  append(problems, judge.ask("backups", { target = s.target }))
  if s.head and not commit_is_right(s, version) then
    wrong("the project's commits are not those of the %s version", version)
  end
  for path, time in pairs(judge.ask("times", { root = s.project, paths = s.user })) do
    if s.user_times[path] ~= time then wrong("the user's file %s was written", path) end
  end
  return problems
end

-- Nothing of the new version stays in the index of the project's repository, or a person is told: a
-- killed git leaves its lock, and then nothing can be taken back.
local function unstaged(s, said_so, problems)
  local staged = s.head and repository(s).staged or {}
  if #staged > 0 and not said_so then
    problems[#problems + 1] = "still staged, and not told: " .. some_of(staged)
  end
end

-- Where nothing is open and the installation is the old one: the command itself (the upgrade, where
-- that was the resume of one) has to lead to the new one.
local function begin_again(s, problems)
  local result = judge.run(s, s.wrecked or s.argv)
  append(problems, result.problems, "begun again: ")
  if result.code ~= 0 then
    problems[#problems + 1] = "begun again: " .. said(result)
  end
  local version, difference = judge.version(s)
  if version ~= "new" then
    problems[#problems + 1] = "begun again: " .. (difference or "the installation is " .. version)
  end
  append(problems, judge.settled(s, version or "new"), "begun again: ")
end

-- The same command once more changes nothing.
local function again(s, argv, problems)
  judge.exact(s, "exact")
  local result = judge.run(s, argv)
  append(problems, result.problems, "second " .. command(argv) .. ": ")
  if result.code ~= 0 or result.last.status ~= "nothing_to_do" then
    problems[#problems + 1] = "second " .. command(argv) .. ": " .. said(result)
  end
  local changed = judge.ask("compare", { a = "exact", b = judge.exact(s) })
  if #changed > 0 then
    problems[#problems + 1] = ("second %s changed %s"):format(command(argv), some_of(changed))
  end
end

-- The command for a verb on an open session. A rollback of a restore is asked for by its session:
-- without one it is the restore that goes on.
local function argv_of(s, verb, open)
  if verb == "rollback" and s.kind == "restore" then return { "rollback", open } end
  return { verb }
end

-- The command that has to do nothing after that one.
local function second_of(verb, open, version)
  return verb == "rollback" and version == "old" and { "rollback", open } or { "resume" }
end

-- Which versions a verb may lead to. A rollback leads back; a resume leads on, but for a session
-- that had changed nothing yet, or that was on its way back: those end as they were.
local function may_be(s, verb, before, goes_back)
  if verb == "rollback" then
    return { old = true, new = s.kind == "restore" and before == "new" }
  end
  return { new = true, old = before == "old" or goes_back }
end

-- What is wrong with how a verb ended, given the version it led to.
local function wrong_end(s, verb, may, result, version, difference)
  local expected, odd = judge.promised(s, result.last)
  local fails = s.code == 1 and verb == "resume" and result.code == 1
  local refuses = result.code == 3 and result.last.status == "refused"
  if not version then return said(result) .. "; " .. difference end
  if odd or result.code ~= 0 and not fails and not refuses then return said(result) end
  if expected and version ~= expected or not may[version] then
    return ("%s; but the installation is %s"):format(said(result), version)
  end
end

-- What a session that is over has left is swept by whatever command comes first.
local function swept(s, version, problems)
  local first = judge.run(s, { "resume" })
  append(problems, first.problems, "`praxlua resume`: ")
  if first.code ~= 0 or first.last.status ~= "nothing_to_do" then
    problems[#problems + 1] = "`praxlua resume`: " .. said(first)
  end
  local now, difference = judge.version(s)
  if now ~= version then
    problems[#problems + 1] = ("`praxlua resume`: the installation is no longer %s: %s"):format(
      version, now or difference)
  end
end

--- What is wrong with commands that only look: they work on whatever a fault has left, and change
--- nothing.
---@param s table
---@return string[] problems
function judge.look(s)
  local problems = {}
  judge.exact(s, "looked at")
  for _, argv in ipairs({ { "status" }, { "backup", "list" }, { "upgrade", "--source", s.source,
    "--dry-run" } }) do
    local result = judge.run(s, argv)
    append(problems, result.problems, command(argv) .. ": ")
    local changed = judge.ask("compare", { a = "looked at", b = judge.exact(s) })
    if #changed > 0 then
      problems[#problems + 1] = ("%s changed %s"):format(command(argv), some_of(changed))
    end
  end
  return problems
end

--- The command that a person runs to go on or back; nil where no session is open.
---@param s table
---@param verb string "resume" or "rollback"
---@return string[]|nil argv
function judge.command(s, verb)
  local _, open = judge.sessions(s)
  return open and argv_of(s, verb, open)
end

--- Ends what a fault left, and says everything that is wrong with it: the verb's exit code, the
--- installation, a second call, leftovers, the session's file, the user's files, processes.
---@param s table
---@param verb string "resume" or "rollback"
---@param options { again: boolean?, goes_back: boolean? }? again: where the installation is old in
---  the end, the command is begun again (nil: unless that was the verb's work); goes_back: a
---  rollback had begun
---@return string[] problems
---@return string outcome "nothing", "old", "new" or "neither": what was found
function judge.recover(s, verb, options)
  options = options or {}
  local problems, goes_back = {}, s.goes_back or options.goes_back
  local _, open = judge.sessions(s)
  local before, difference = judge.version(s)
  local version = before
  if open then
    local argv = argv_of(s, verb, open)
    local result = judge.run(s, argv)
    append(problems, result.problems, command(argv) .. ": ")
    version, difference = judge.version(s)
    local may = may_be(s, verb, before, goes_back)
    local wrong = wrong_end(s, verb, may, result, version, difference)
    if wrong then problems[#problems + 1] = command(argv) .. ": " .. wrong end
    if #problems > 0 then return problems, version or "neither" end
    unstaged(s, (result.stdout .. result.stderr):find("still staged", 1, true), problems)
    again(s, second_of(verb, open, version), problems)
    append(problems, judge.settled(s, version))
  elseif before then
    if #leftovers(s) > 0 then swept(s, before, problems) end
    again(s, { "resume" }, problems)
    append(problems, judge.settled(s, before))
  else
    return { "no session is open; " .. difference }, "neither"
  end
  local begun_again = options.again
  if begun_again == nil then begun_again = not open or verb == "resume" end
  if #problems == 0 and version == "old" and begun_again and not s.goes_back then
    begin_again(s, problems)
  end
  return problems, open and version or "nothing"
end

return judge
