--- The fuzz targets that are written in Lua, by name: each takes an input and raises for a finding.
-- lua.c calls them, and runs this chunk with a table: `scratch` is a directory of their own,
-- `values` decodes the payload of a frame.
--
-- Where an input has several uses its first byte chooses one. Where a document carries a checksum
-- over itself, one of them puts the right one in, so that damage gets past it.
local fuzz = ...

local base = require("praxlua.base")
local broker = require("praxlua.broker")
local core = require("praxlua.core")
local events = require("praxlua.events")
local failures = require("praxlua.pip_failures")
local git = require("praxlua.git")
local gitignore = require("praxlua.gitignore")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lock_text = require("praxlua.lock_text")
local manifest = require("praxlua.backup.manifest")
local mcp = require("praxlua.mcp")
local process = require("praxlua.process")
local records = require("praxlua.records")
local schema = require("praxlua.schema")
local state = require("praxlua.state")
local state_file = require("praxlua.server.state_file")
local verdict = require("praxlua.verdict")

local targets = {}

local scratch = fuzz.scratch

-- ---- helpers -----------------------------------------------------------------------------------

local function write(path, data)
  local out = assert(io.open(path, "wb"))
  assert(out:write(data))
  assert(out:close())
end

-- Makes a directory, once.
local made = {}
local function ensure(directory)
  if made[directory] then return end
  assert(os.execute(("mkdir -p '%s'"):format(directory)))
  made[directory] = true
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b and math.type(a) == math.type(b)
  end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- A failure is nil, a message of one line or more, and a code of capitals.
local function is_failure(...)
  local value, message, code = ...
  assert(value == nil, "a failure with a value")
  assert(type(message) == "string" and message ~= "", "a failure without a message")
  assert(type(code) == "string" and code:find("^E[A-Z0-9]+$"), "a failure without a code")
  return code
end

local function one_of(value, list)
  for word in list:gmatch("%S+") do
    if value == word then return end
  end
  error("not one of " .. list .. ": " .. tostring(value), 2)
end

local function is_hex(value) return type(value) == "string" and value:find("^%x+$") ~= nil end

-- Text that a terminal obeys must not come through.
local function is_visible(text)
  assert(utf8.len(text), "a message that is not UTF-8")
  assert(not text:find("[%z\1-\8\11-\31\127]"), "a message with control characters")
end

local function split_mode(input)
  return input:byte(1) or 0, input:sub(2)
end

-- The pieces an input comes in: whole, or so many bytes at a time.
local function pieces(text, size)
  local list = {}
  if size == 0 then return { text ~= "" and text or nil } end
  for at = 1, #text, size do list[#list + 1] = text:sub(at, at + size - 1) end
  return list
end

-- ---- documents ---------------------------------------------------------------------------------

--- JSON: what is decoded can be encoded, and is then the same again.
function targets.json(input)
  local value, message, code = json.decode(input)
  if value == nil then
    is_failure(value, message, code)
    one_of(code, "EJSON EFBIG EDEPTH")
    return
  end
  local text = json.encode(value)
  assert(same(value, assert(json.decode(text))), "another value after a round trip")
  assert(json.encode(assert(json.decode(text))) == text, "encoding is not canonical")
  assert(same(value, assert(json.decode(json.encode(value, { pretty = true })))))
  assert(not text:find("[%c]"), "a control character in what was encoded")
end

-- The document of an input. Odd mode: what is missing of it is its end, and it gets the right seal.
local function document_of(input)
  local mode, text = split_mode(input)
  if mode % 2 == 0 then return text end
  local head, length
  repeat -- as many digits as the length needs
    length = head and #head + 79 or 0
    head = ('%s,\n  "sequence": 1,\n  "length": %d,\n'):format(text, length)
  until #head + 79 == length
  return head .. '  "sha256": "' .. core.hash.sha256(head) .. '"\n}\n'
end

local SESSION = "12345678-1234-4234-8234-123456789abc"

--- The state of a session, as a file of the target; then the list of all of them.
function targets.state(input)
  local path = assert(state.path(scratch, SESSION))
  ensure(path:match("^(.*)/"))
  write(path, document_of(input))
  local session, message, code = state.load_state(scratch, SESSION)
  if session then
    assert(state.session.to_dict(session), "a session that was read cannot be written")
    assert(session.session_id:lower() == SESSION)
  else
    is_failure(session, message, code)
    one_of(code, "ESTATENOTFOUND ESTATECORRUPTED EFORMAT EFBIG")
  end
  for _, found in ipairs(state.list_active_sessions(scratch)) do
    if found.problem then
      assert(type(found.path) == "string" and type(found.code) == "string")
    else
      assert(session and state.is_active(session), "a session that cannot be read is listed")
    end
  end
end

-- The text with the right manifest_sha256 in it, as far as it is a manifest at all.
local function mended_manifest(text)
  local dict = json.decode(text)
  if type(dict) ~= "table" then return text end
  local fine, fresh = pcall(manifest.new, dict)
  return fine and manifest.to_json(fresh) or text
end

--- MANIFEST.json of a backup. Odd mode: with the right hash over itself.
function targets.manifest(input)
  local mode, text = split_mode(input)
  if mode % 2 == 1 then text = mended_manifest(text) end
  local m, message, code = manifest.from_json(text)
  if not m then return is_failure(m, message, code) end
  local contents, count = manifest.contents(m)
  for path, entry in pairs(contents) do
    assert(manifest.is_normal(path), "a path that leaves its root")
    one_of(entry.type, "file directory link")
    assert(entry.type ~= "file" or #entry.sha256 == 64)
    assert(entry.type ~= "link" or entry.target ~= "")
    assert(entry.type == "link" or entry.mode >= 0 and entry.mode <= 4095)
    count = count - 1
  end
  assert(count == 0, "another number of entries than counted")
  assert(same(m, assert(manifest.from_json(manifest.to_json(m)))), "another one after a round trip")
end

--- .installed-manifest.json of a target, and what it says of a path.
function targets.installed(input)
  write(scratch .. "/" .. base.MANIFEST, document_of(input))
  local found, message, code = base.read_manifest(scratch)
  if found == nil then return is_failure(found, message, code) end
  if found == false then return end -- none
  for path in pairs(found.files) do
    assert(base.is_normal(path), "a path that leaves its root")
    local was, from = base.find({ manifest = found, layout = layout.by_name("praxis-os") }, path,
      nil, nil)
    assert(from == "manifest" and type(was) == "table")
    one_of(was.type, "file link")
    assert(type(was.id) == "string" and #was.id > 5)
  end
end

--- The lock's text.
function targets.lock(input)
  write(scratch .. "/.upgrade-lock", document_of(input))
  local found = lock_text.read(scratch)
  assert(found == nil or type(found) == "table")
end

--- The file in which a server says that it runs.
function targets.server_state(input)
  local path = scratch .. "/.mcp_server_state.json"
  write(path, input)
  local found, why = state_file.read(path)
  if not found then return assert(type(why) == "string") end
  assert(math.type(found.pid) == "integer" and found.pid > 1)
end

--- VERSION.txt: read, brought up to date, read again.
function targets.version(input)
  write(scratch .. "/VERSION.txt", input)
  local found = base.read_version(scratch)
  assert(found.text == input)
  assert(found.commit == nil or is_hex(found.commit))
  assert(found.version == nil or type(found.version) == "string")
  local commit = ("c0ffee"):rep(7):sub(1, 40)
  local text = records.version_text(input, { version = "9.9.9", commit = commit, now = 0,
    previous = "0" })
  assert(text:find("commit=" .. commit, 1, true), "the commit is not in it")
  assert(layout.version_in(text) == "9.9.9", "the version is not the one that was written")
  assert(records.version_text(text, { version = "9.9.9", commit = commit, now = 0,
    previous = "0" }) == text, "it changes once more")
  write(scratch .. "/VERSION.txt", text)
  assert(base.read_version(scratch).commit == commit, "the commit is not the one that was written")
end

-- ---- .gitignore --------------------------------------------------------------------------------

-- Whether `whole` is `part` with something put in at one place.
local function only_adds(part, whole)
  local low, high = 0, math.min(#part, #whole)
  while low < high do -- the longest common beginning
    local middle = (low + high + 1) // 2
    if part:sub(1, middle) == whole:sub(1, middle) then low = middle else high = middle - 1 end
  end
  local rest = part:sub(low + 1)
  return rest == "" or whole:sub(low + 1):sub(-#rest) == rest
end

--- Mode 0: the project's .gitignore, brought up to date: nothing of it is lost, and then nothing is
--- missing any more. Mode 1: the document of the source that lists what it needs.
function targets.gitignore(input)
  local mode, text = split_mode(input)
  local ctx = { source = scratch .. "/source", project = scratch, target_name = ".praxis-os",
    layout = layout.layouts[1] }
  local document = ctx.source .. "/" .. ctx.layout.source.gitignore
  ensure(document:match("^(.*)/"))
  os.remove(document)
  if mode % 2 == 1 then
    for _, pattern in ipairs(gitignore.parse(text)) do
      assert(pattern ~= "" and not pattern:find("\n", 1, true), "a pattern that is no line")
    end
    write(document, text)
    text = ""
  end
  write(scratch .. "/.gitignore", text)
  local written
  ctx.change = {
    put = function(path, from) -- luacheck: ignore 212
      written = from.data
      return true
    end,
    apply = function() return true end,
  }
  assert(gitignore.update(ctx))
  if not written then return assert(#gitignore.missing(ctx) == 0) end
  assert(only_adds(text, written), "something of a person is lost")
  write(scratch .. "/.gitignore", written)
  assert(#gitignore.missing(ctx) == 0, "something is missing afterwards")
  written = nil
  assert(#assert(gitignore.update(ctx)).added == 0 and not written, "it is written once more")
end

-- ---- output of tools ---------------------------------------------------------------------------

local COMMIT = ("0123456789"):rep(4)

local GIT = {
  [0] = function()
    local found, message, code = git.status("/d")
    if not found then return is_failure(found, message, code) end
    for _, entry in ipairs(found) do
      assert(#entry.code == 2 and entry.path ~= "", "an entry without code or path")
    end
  end,
  function()
    for _, commit in ipairs({ false, COMMIT }) do
      local found, message, code = git.files("/d", commit or nil)
      if not found then return is_failure(found, message, code) end
      for _, file in ipairs(found) do
        assert(file.mode:find("^%d+$") and is_hex(file.oid) and file.path ~= "")
      end
    end
  end,
  function()
    local found, message, code = git.log("/d", { "a" })
    if not found then return is_failure(found, message, code) end
    for _, commit in ipairs(found) do
      assert(is_hex(commit.commit) and commit.date:find("^%d+%-%d+%-%d+$"))
      for _, change in ipairs(commit.changes) do
        assert(is_hex(change.old) and is_hex(change.new) and type(change.path) == "string"
          and change.path ~= "" and change.mode and change.old_mode)
      end
    end
  end,
  function()
    local found, message, code = git.history("/d", { "a" })
    if not found then return is_failure(found, message, code) end
    for path, keys in pairs(found) do
      assert(path ~= "")
      for key in pairs(keys) do assert(key:find("^%l+:%x+$")) end
    end
  end,
  function()
    local found, message, code = git.dates("/d", { "a" })
    if not found then return is_failure(found, message, code) end
    for _, date in pairs(found) do assert(date:find("^%d+%-%d+%-%d+$")) end
  end,
  function()
    local found, message, code = git.hidden("/d", { "a" })
    if not found then return is_failure(found, message, code) end
    for _, path in ipairs(found) do assert(path ~= "") end
  end,
  function()
    local found, message, code = git.tip("/d")
    if not found then return is_failure(found, message, code) end
    assert(is_hex(found.commit), "a commit that is no name of one")
    assert(type(found.is_shallow) == "boolean")
  end,
  function()
    local found, message, code = git.toplevel("/d")
    if not found then return is_failure(found, message, code) end
    assert(found ~= "")
  end,
  function()
    local found, message, code = git.branch("/d")
    if not found then return is_failure(found, message, code) end
    assert(found ~= "" and not found:find("\n", 1, true), "a branch that is no name of one")
  end,
  function()
    local found = git.commit_exists("/d", "abcd")
    assert(found == nil or is_hex(found), "a commit that is no name of one")
  end,
}

--- What git prints. Mode: which question; beyond those, its complaints when it fails.
function targets.git(input)
  local mode, text = split_mode(input)
  local failed = mode >= 128
  local result = { code = failed and 128 or 0, signal = 0, stdout = failed and "" or text,
    stderr = failed and text or "", timed_out = false, truncated = false, seconds = 0 }
  local run = process.run
  process.run = function() return result end
  local fine, problem = xpcall(GIT[mode % 128 % (#GIT + 1)], debug.traceback)
  process.run = run
  if not fine then error(problem, 0) end
end

--- What pip prints.
function targets.pip(input)
  local found = failures.explain(input, "pip install", 1)
  assert(#found >= 1)
  for _, failure in ipairs(found) do
    assert(type(failure.kind) == "string" and type(failure.next) == "string")
    is_visible(failure.message)
  end
  for _, warning in ipairs(failures.warnings(input)) do is_visible(warning) end
end

-- ---- MCP ---------------------------------------------------------------------------------------

local MCP_CODES = "ETIMEDOUT ECLOSED EPROTOCOL EREMOTE EINTR ENOLIB"

-- Talks to a server as praxlua does; every answer has its documented shape.
local function talk(client, message, code)
  if not client then
    is_visible((message:gsub("\n", " ")))
    return one_of(is_failure(client, message, code), MCP_CODES)
  end
  assert(type(client.server) == "table")
  for _, field in ipairs({ "name", "version" }) do
    local value = client.server[field]
    assert(value == nil or type(value) == "string", "a server's " .. field .. " that is no text")
  end
  local tools
  tools, message, code = mcp.list_tools(client, 5)
  if tools then
    assert(#tools <= mcp.limits.tools)
    for _, tool in ipairs(tools) do assert(type(tool.name) == "string") end
  else
    one_of(is_failure(tools, message, code), MCP_CODES)
  end
  local result
  result, message, code = mcp.call_tool(client, "search_standards", { query = "x" }, 5)
  if result then
    assert(type(mcp.result_text(result)) == "string")
  else
    one_of(is_failure(result, message, code), MCP_CODES)
  end
  mcp.close(client)
end

-- Every message of ours is one line of JSON.
local function check_sent(message)
  local line = message:match("^([^\n]*)\n?$")
  assert(line, "a message of more than one line is sent")
  local value = assert(json.decode(line, { max_depth = 100 }))
  assert(value.jsonrpc == "2.0")
end

--- A server over stdio. Mode: low bits, how many bytes are read at once; bit 6, every third piece
--- comes on stderr; bit 7, it does not end after the last piece but says nothing more.
function targets.mcp_stdio(input)
  local mode, text = split_mode(input)
  local list, at = pieces(text, (mode & 63) * (mode & 63)), 0
  local child = {}
  function child.write(_, message)
    check_sent(message)
    return true
  end
  function child.read()
    at = at + 1
    if list[at] then return mode & 64 ~= 0 and at % 3 == 0 and "stderr" or "stdout", list[at] end
    if mode & 128 ~= 0 then return nil, "nothing came in time", "ETIMEDOUT" end
    return nil, "its streams are at their end", "EPIPE"
  end
  function child.wait() return { code = 1, signal = 0 } end
  function child.close_stdin() return true end
  talk(mcp.connect({ process = child, timeout = 5, where = "the server" }))
end

local STATUS = { [0] = 200, 200, 202, 404, 500, 302, 200, 200 }

-- core.http.request of a server that says so much to the n-th request.
local function http_server(bodies, mode)
  local count = 0
  return function(options)
    if options.body then check_sent(options.body) end
    count = count + 1
    local body = bodies[count]
    if not body then return nil, "connect: Connection refused", "ECONNREFUSED" end
    local came = {}
    for _, piece in ipairs(pieces(body, (mode & 7) * (mode & 7))) do
      came[#came + 1] = piece
      if options.on_data and options.on_data(piece) == false then break end
    end
    local headers = mode & 64 ~= 0 and { ["mcp-session-id"] = body:sub(1, 20) } or {}
    return { status = STATUS[mode >> 3 & 7], headers = headers, body = table.concat(came) }
  end
end

--- A server over HTTP: its answers, divided by NUL bytes. Mode: bits 0-2, how many bytes come at
--- once; bits 3-5, the status; bit 6, it gives a session.
function targets.mcp_http(input)
  local mode, text = split_mode(input)
  local bodies = {}
  for body in (text .. "\0"):gmatch("([^\0]*)\0") do bodies[#bodies + 1] = body end
  local request, sleep = core.http.request, core.system.sleep
  core.http.request = http_server(bodies, mode)
  core.system.sleep = function() return true end -- as long as a server wants before it is polled
  local fine, problem = xpcall(function()
    talk(mcp.connect({ url = "http://127.0.0.1:1/mcp", timeout = 5 }))
  end, debug.traceback)
  core.http.request, core.system.sleep = request, sleep
  if not fine then error(problem, 0) end
end

-- ---- what a worker says ------------------------------------------------------------------------

local KINDS = { [0] = "call", "call", "call", "call", "call", "result", "error", "verdict" }

-- A worker whose frames are the input: a byte for the kind, two for the length of the payload.
local function worker_of(input)
  local worker, at = {}, 1
  function worker.receive()
    if at + 2 > #input then return nil, "the worker ended", "EPIPE" end
    local kind, length = string.unpack("<BI2", input, at)
    local payload = input:sub(at + 3, at + 2 + length)
    at = at + 3 + length
    if kind >= 252 then return nil, "no frame came in time", "ETIMEDOUT" end
    local values = table.pack(fuzz.values(payload))
    if values.n == 0 and payload ~= "" then
      return nil, "what the worker sent is not a well-formed frame", "EPROTOCOL"
    end
    return KINDS[kind & 7], table.unpack(values, 1, values.n)
  end
  function worker.send(_, kind, ok, message, code)
    if kind == "answer" and ok == false and code == "EINTERNAL" then error(message, 0) end
    return true
  end
  function worker.wait() return { code = 0, signal = 0 } end
  worker.stop = worker.wait
  return worker
end

-- An open transaction that only looks at what it is told.
local function watching_change()
  local change = {}
  local function watched(path)
    assert(type(path) == "string" and path ~= "" and not path:find("\0", 1, true))
    if not base.is_normal(path) then return nil, "put: not a normal path", "EINVAL" end
    local first, second = path:match("^([^/]+)/?([^/]*)")
    assert(first ~= ".git", "a phase may write into .git")
    assert(first ~= ".praxis-os" or second ~= "" and second ~= ".upgrade" and second ~= ".backups"
      and second ~= ".cache" and second ~= ".upgrade-lock", "a phase may write into ours: " .. path)
    return true
  end
  for _, name in ipairs({ "put", "symlink", "remove", "mkdir", "rmdir" }) do
    change[name] = watched
  end
  function change.apply() return { changed = 1 } end
  return change
end

local function run_context(changing)
  local project = scratch .. "/project"
  if not made[project] then
    ensure(project .. "/.praxis-os/standards")
    ensure(project .. "/.git")
    write(project .. "/.praxis-os/standards/a.md", "a\n")
    made[project] = true
  end
  local function text(message) assert(type(message) == "string") end
  return {
    source = project, project = project, target = project .. "/.praxis-os",
    target_name = ".praxis-os", options = {}, artifacts = {}, memory = {},
    session = { completed_phases = { 0, 1, 2 }, metadata = {} },
    change = changing and watching_change() or nil,
    emit = function(event)
      event.time = "2025-10-08T10:30:45Z"
      assert(events.check(event))
    end,
    progress = function(message, fraction)
      text(message)
      assert(fraction == nil or type(fraction) == "number")
    end,
    warn = text,
    ask = function(question, _, default)
      text(question)
      return default
    end,
    lock_held = function() return true end,
    save = function() return true end,
  }
end

local GRANTS = {
  [0] = {}, { source = "read", target = "read", project = "read" },
  { source = "read", target = "write", project = "write" },
  { target = "write", tools = { "true" }, services = { "lock" } },
}

--- What a phase's worker sends, when nothing holds it to the protocol any more. Mode: what was
--- granted; bit 2, a transaction is open.
function targets.broker(input)
  local mode, text = split_mode(input)
  local start, host, run = core.worker.start, core.system.host, process.run
  core.worker.start = function() return worker_of(text) end
  core.system.host = function() return "/praxlua" end
  process.run = function(options)
    for _, word in ipairs(options.argv) do
      assert(type(word) == "string" and not word:find("\0", 1, true), "a word that is no argument")
    end
    return { code = 0, signal = 0, stdout = "", stderr = "", timed_out = false, truncated = false,
      seconds = 0 }
  end
  local phase = { grants = GRANTS[mode & 3], file = "x.lua", source = "",
    limits = { wall = 5, cpu = 5, memory = 1 << 20, instructions = 1000, output = 1000,
      messages = 1000 } }
  local fine, outcome = xpcall(broker.run, debug.traceback, phase, run_context(mode & 4 ~= 0))
  core.worker.start, core.system.host, process.run = start, host, run
  if not fine then error(outcome, 0) end
  assert(verdict.is(outcome.verdict), "no verdict: " .. tostring(outcome.verdict))
  assert(outcome.verdict == "ok" or type(outcome.message) == "string", "a verdict without words")
end

--- The model of a phase's evidence, as the phase describes it, and the evidence.
function targets.evidence(input)
  local values = table.pack(fuzz.values(input))
  local ok, message, code = schema.valid(values[1], "evidence")
  if not ok then return is_failure(nil, message, code) end
  ok, message, code = schema.check(values[1], values[2], "evidence")
  if not ok then return is_failure(nil, message, code) end
end

return targets
