--- Makes the first inputs of every fuzz target: lua5.4 spec/faults/fuzz/seeds.lua DIRECTORY
-- writes DIRECTORY/TARGET/NAME from what praxlua, git and a server of ours really write. Run by
-- hand, after `make`, when a format changes; what the fuzzer finds later is added beside them.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local lfs = require("lfs")
local manifest = require("praxlua.backup.manifest")
local seal = require("praxlua.seal")

local out = assert(arg[1], "where to?")

local function seed(target, name, data)
  helper.write(("%s/%s/%s"):format(out, target, name), data)
end

local function char(...) return string.char(...) end

-- ---- frames ------------------------------------------------------------------------------------

local value

local packers = {
  ["nil"] = function() return "n" end,
  boolean = function(v) return v and "t" or "f" end,
  string = function(v) return "s" .. string.pack("<s4", v) end,
  number = function(v)
    return math.type(v) == "integer" and "i" .. string.pack("<i8", v) or "d" .. string.pack("<d", v)
  end,
  table = function(v)
    local parts, count = {}, 0
    for key, of in pairs(v) do
      parts[#parts + 1] = value(key) .. value(of)
      count = count + 1
    end
    return "T" .. string.pack("<I4", count) .. table.concat(parts)
  end,
}

function value(v) return packers[type(v)](v) end

local function payload(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = value((select(i, ...))) end
  return table.concat(parts)
end

local function frame(kind, ...)
  local data = payload(...)
  return string.pack("<I4", #data) .. kind .. data
end

local function frames()
  local values = payload(nil, true, false, 1, -1, 0.5, "text", { 1, 2, { a = "b" } }, {})
  for mode = 0, 1 do seed("frame", "values-" .. mode, char(mode) .. values) end
  seed("frame", "calls", char(2) .. frame("C", "target.read", "a.md") .. frame("C", "log", "text")
    .. frame("R", { changed = 1 }, 1000, 2000) .. frame("E", "x.lua:1: failed")
    .. frame("V", "limit:cpu", 1, 1, 4096))
  seed("frame", "answers", char(3) .. frame("S", "return ...", "run", "x.lua", "return {}", {})
    .. frame("A", true, { "x" }) .. frame("A", false, "denied", "EDENIED"))
  seed("frame", "cut-off", char(2) .. frame("C", "target.read", "a.md"):sub(1, -3))
end

local function broker_frame(kind, ...)
  local data = payload(...)
  return char(kind) .. string.pack("<I2", #data) .. data
end

local function workers()
  local calls = broker_frame(0, "target.read", "standards/a.md") .. broker_frame(0, "log", "text")
    .. broker_frame(0, "progress", "half", 0.5) .. broker_frame(0, "json.encode", { a = 1 })
    .. broker_frame(0, "json.decode", '{"a": [1]}') .. broker_frame(0, "time")
    .. broker_frame(0, "ask", "which?", { "a", "b" }, "a") .. broker_frame(0, "warn", "w")
    .. broker_frame(0, "target.list", "standards") .. broker_frame(0, "project.exists", "a", 10)
    .. broker_frame(0, "target.hash", "standards/a.md")
  seed("broker", "reading", char(1) .. calls .. broker_frame(5, { changed = 1 }, 1000, 2000))
  seed("broker", "writing", char(6) .. broker_frame(0, "target.write", "standards/b.md", "b", 420)
    .. broker_frame(0, "target.rename", "standards/a.md", "standards/c.md")
    .. broker_frame(0, "project.remove", "x") .. broker_frame(6, "x.lua:1: failed"))
  local command = { "true", "a", stdin = "x", timeout = 5 }
  seed("broker", "tools", char(7) .. broker_frame(0, "spawn", command)
    .. broker_frame(0, "lock.held") .. broker_frame(7, "limit:memory", 1, 2, 3))
  seed("evidence", "model", payload({ kind = "object", fields = {
    n = { kind = "integer", min = 0 }, s = { kind = "string", one_of = { "a", "b" } },
    l = { kind = "array", of = { kind = "number" }, max = 3 }, m = { kind = "map",
      of = { kind = "optional", of = { kind = "any" } } }, u = { kind = "nullable",
      of = { kind = "boolean" } } } }, { n = 1, s = "a", l = { 1, 2.5 }, m = { x = true },
      u_reason = "not_run" }))
end

-- ---- archives and manifests --------------------------------------------------------------------

local function archives()
  local root = helper.tempdir()
  helper.tree(root .. "/tree", {
    ["a.md"] = "text\n", ["d/e.txt"] = ("line\n"):rep(40), ["d/empty"] = "", ["n\195\164me"] = "x",
  })
  assert(lfs.link("d/e.txt", root .. "/tree/link", true))
  local tar = root .. "/backup.tar.zst"
  local made = assert(core.archive.create(tar, root .. "/tree",
    { "a.md", "d", "d/e.txt", "d/empty", "n\195\164me", "link" }))
  seed("archive", "backup", char(0) .. helper.read(tar))
  local plain = helper.output_of("zstd -dcq '%s' | base64 -w0", tar)
  local raw = helper.output_of("echo '%s' | base64 -d | xxd -p | tr -d '\\n'", plain)
    :gsub("%x%x", function(hex) return char(tonumber(hex, 16)) end)
  seed("archive", "tar", char(3) .. raw)
  local fields = {
    backup_path = "/home/user/project/.praxis-os/.backups/2025-10-08-103045",
    timestamp = "2025-10-08T10:30:45Z", files = made.files, links = made.links,
    modes = { ["a.md"] = "0644", ["d"] = "0755", ["d/e.txt"] = "0644", ["d/empty"] = "0600",
      ["n\195\164me"] = "0644" },
    total_size_bytes = made.bytes,
    archive = { sha256 = made.archive_sha256, bytes = made.archive_bytes },
    session_id = "12345678-1234-4234-8234-123456789abc", installed_version = "1.0.0",
  }
  local text = manifest.to_json(manifest.new(fields))
  seed("manifest", "whole", char(0) .. text)
  seed("manifest", "mended", char(1) .. text:gsub("0644", "0640", 1))
  assert(core.tree.remove(root))
end

-- ---- what tools print --------------------------------------------------------------------------

local REPOSITORY = [[
set -e
cd '%s'
export HOME="$PWD" GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2025-10-08T10:00:00Z' \
  GIT_COMMITTER_DATE='2025-10-08T10:00:00Z' GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.invalid \
  GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.invalid
git init -q -b main . 2> /dev/null
mkdir a; echo 1 > a/one; echo 2 > a/two; ln -s one a/link; git add a; git commit -qm 1
echo 3 > a/one; git rm -q a/two; git commit -qam 2
echo 4 > a/one; echo new > a/new; git update-index --assume-unchanged a/link
]]

local function git_output()
  local root = helper.tempdir()
  assert(os.execute(REPOSITORY:format(root)))
  local commands = {
    [0] = "status --porcelain=v1 -z --untracked-files=normal --no-renames", "ls-files -s -z",
    "log --raw -z --no-abbrev --no-renames --root -m --format='%%x01%%H %%cs' HEAD -- a",
    [5] = "ls-files -v -z -- a",
    [6] = "rev-parse --is-shallow-repository --verify 'HEAD^{commit}'",
    [8] = "symbolic-ref --short HEAD",
  }
  local function run(arguments)
    local pipe = assert(io.popen(("git -C '%s' " .. arguments):format(root)))
    local text = pipe:read("a")
    pipe:close()
    return text
  end
  for mode, arguments in pairs(commands) do
    seed("git", arguments:match("^%S+") .. "-" .. mode, char(mode) .. run(arguments))
  end
  local log = run(commands[2])
  for mode = 3, 4 do seed("git", "log-" .. mode, char(mode) .. log) end
  seed("git", "rev-parse-7", char(7) .. "/srv/source\n") -- --show-toplevel
  seed("git", "ls-tree", char(1) .. run("ls-tree -r -z --full-tree HEAD"))
  seed("git", "failure", char(128) .. "fatal: not a git repository (or any parent): .git\n")
  assert(core.tree.remove(root))
end

local PIP = {
  network = "WARNING: Retrying after connection broken by 'NewConnectionError': Failed to establish"
    .. " a new connection: [Errno -3] Temporary failure in name resolution\n",
  package = "ERROR: Could not find a version that satisfies the requirement nothing==9 (from "
    .. "versions: none)\nERROR: No matching distribution found for nothing==9\n",
  conflict = "ERROR: pip's dependency resolver does not currently take into account all the "
    .. "packages.\nfastapi 0.1 requires starlette<1, but you have starlette 2 which is "
    .. "incompatible.\n",
  build = "  error: subprocess-exited-with-error\nERROR: Failed building wheel for x\n",
  unknown = "Traceback (most recent call last):\n  File \"x\", line 1\nValueError: \27[31mno\n",
}

-- ---- MCP ---------------------------------------------------------------------------------------

local HELLO = '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},'
  .. '"serverInfo":{"name":"praxis-os","version":"1.0.0"}}}'
local PING = '{"jsonrpc":"2.0","id":"p","method":"ping"}'
local NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}'
local PAGE = '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"search_standards"}],'
  .. '"nextCursor":"2"}}'
local LAST = '{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"list_workflows"}]}}'
local CALL = '{"jsonrpc":"2.0","id":4,"result":{"content":[{"type":"text","text":"{}"}]}}'
local REFUSED = '{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no such method"}}'

local function event(text) return "event: message\ndata: " .. text .. "\n\n" end

local function conversations()
  local lines = table.concat({ HELLO, PING, NOTE, PAGE, "print of somebody", LAST, CALL, "" }, "\n")
  seed("mcp_stdio", "whole", char(0) .. lines)
  seed("mcp_stdio", "pieces", char(3) .. lines)
  seed("mcp_stdio", "noise", char(64 + 5) .. lines)
  seed("mcp_stdio", "silent", char(128) .. HELLO .. "\n" .. REFUSED .. "\n")
  seed("mcp_stdio", "batch", char(0) .. ("[%s,%s]\r\n"):format(PING, HELLO) .. REFUSED .. "\n")
  seed("mcp_http", "json", char(64) .. table.concat({ HELLO, "", PAGE, LAST, CALL }, "\0"))
  seed("mcp_http", "events", char(3) .. table.concat({ event(NOTE) .. event(HELLO), "",
    event(PAGE), event(LAST), event(CALL) }, "\0"))
  seed("mcp_http", "refused", char(8 * 3) .. "no such session")
  local head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: a\r\n"
  seed("http", "json", char(1) .. head .. ("Content-Length: %d\r\n\r\n"):format(#HELLO) .. HELLO)
  seed("http", "events", char(8 + 3) .. head .. "Transfer-Encoding: chunked\r\n\r\n"
    .. ("%x\r\n%s\r\n0\r\n\r\n"):format(#event(HELLO), event(HELLO)))
  seed("http", "enough", char(16 + 8 + 3) .. head .. "\r\n" .. event(HELLO) .. event(PING))
  seed("http", "continue", char(2) .. "HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n" .. head .. "\r\n{}")
  seed("http", "redirect", char(0) .. "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n"
    .. "Content-Length: 0\r\n\r\n")
end

-- ---- journals ---------------------------------------------------------------------------------

-- A real journal as records of the target's form.
local function records_of(journal)
  local parts, at = {}, 1
  while at <= #journal do
    local length, kind = string.unpack("<I4I4", journal, at)
    parts[#parts + 1] = string.pack("<Bs2", kind, journal:sub(at + 32, at + 31 + length))
    at = at + 32 + length
  end
  return table.concat(parts)
end

-- Every kind of change in a tree like that of journal.c, and an undo of the last batch.
local function journals()
  local root = helper.tempdir()
  helper.tree(root, { a = "a", ["d/b"] = "d/b", ["venv/c"] = "venv/c" })
  assert(core.file.mkdir(root .. "/d/empty"))
  local t = assert(core.transaction.open(root, "t", { create = true, disposable = "__pycache__" }))
  assert(t:put("a", { data = "new" }))
  assert(t:put("new", { data = "new", mode = 420 }))
  assert(t:mkdir("made"))
  assert(t:symlink("link", "a"))
  assert(t:remove("d/b"))
  assert(t:rmdir("d/empty"))
  assert(t:mode("venv", 448))
  assert(t:apply())
  assert(t:checkpoint("a checkpoint"))
  local number, name = t:stage()
  assert(core.tree.copy(root .. "/venv", root .. "/t/" .. name))
  assert(t:exchange("venv", number))
  assert(t:apply())
  local journal = assert(helper.read(root .. "/t/journal"))
  seed("journal", "raw", char(0) .. journal)
  seed("journal", "torn", char(8) .. journal)
  seed("journal", "records", char(1) .. records_of(journal))
  seed("journal", "looked-through", char(3) .. records_of(journal))
  helper.write(root .. "/a", "somebody's\n")
  assert(t:rewind())
  assert(t:commit())
  seed("journal", "undone", char(5) .. records_of(assert(helper.read(root .. "/t/journal"))))
  t:close()
  helper.clean()
end

-- ---- other documents ---------------------------------------------------------------------------

-- A sealed document in its three forms: whole, without a seal, and to be sealed by the target.
local function sealed(target, dict)
  seed(target, "sealed", char(0) .. seal.encode(dict, 1))
  seed(target, "unsealed", char(0) .. json.encode(dict, { pretty = true }))
  seed(target, "to-seal", char(1) .. json.encode(dict, { pretty = true }):gsub("\n}$", ""))
end

local function documents()
  seed("json", "values", '{"a":[1,-2.5e3,true,false,null,"\\u00e4\\n",[],{}],"b":"\\udbff\\udfff"}')
  seed("json", "large", "[9007199254740993, 1e308, 123456789012345678901234567890]")
  seed("json", "nested", ("["):rep(31) .. ("]"):rep(31))
  sealed("lock", { format_version = 2, pid = 4711, host = "h",
    session_id = "12345678-1234-4234-8234-123456789abc", started_at = "2025-10-08T10:30:45Z" })
  seed("server_state", "http", json.encode({ version = "1.0.0", transport = "http", port = 4242,
    host = "127.0.0.1", path = "/mcp", url = "http://127.0.0.1:4242/mcp", pid = 4711,
    started_at = "2025-10-08T10:30:45Z", project = { name = "p", root = "/p" } }))
  seed("version", "whole", "prAxIs OS Content Version\n\nLast Updated: 2025-10-08 10:30:45\n"
    .. "Source Commit: 0123abcd\nUpdated By: praxlua\nPrevious Version: unknown\n"
    .. "Current Version: 1.0.0\nversion_updated=2025-10-08T10:30:45Z\ncommit=0123abcd\n")
  seed("version", "short", "1.2.3\r\n")
  sealed("installed", { format_version = 2, version = "1.0.0",
    commit = ("0123456789"):rep(4), layout = "praxis-os", files = {
      ["standards/universal/a.md"] = { checksum = "sha256:" .. ("0123456789abcdef"):rep(4),
        size = 1, last_updated = "2025-10-08", mode = "644" },
      ["workflows/link"] = { checksum = "link:target", size = 0 } } })
  seed("gitignore", "mine", char(0) .. "node_modules/\n*.log \n\n# mine\n.praxis-os/.cache/\n")
  seed("gitignore", "section", char(0) .. "a\r\n\r\n# prAxIs OS - Ephemeral content (do not commit)"
    .. "\r\n.praxis-os/venv/\r\n\r\nb\r\n")
  seed("gitignore", "document", char(1) .. "# Ignore\n\n## Required Entries\n\n```gitignore\n# c\n"
    .. ".praxis-os/.cache/  # ephemeral\n\n.praxis-os/venv/\n```\n\n## Other\n")
  for name, text in pairs(PIP) do seed("pip", name, text) end
  sealed("state", { format_version = 2, workflow_type = "praxis_os_upgrade_v1",
    session_id = "12345678-1234-4234-8234-123456789abc", target_file = "mcp_server",
    current_phase = 1, completed_phases = json.array({ 0 }),
    completed = json.array({ "pre-flight-checks" }), phase_artifacts = { ["0"] = { ok = true } },
    status = "in_progress", metadata = { from_version = "1.0.0" },
    started_at = "2025-10-08T10:30:45Z", updated_at = "2025-10-08T10:30:46Z" })
end

frames()
workers()
archives()
git_output()
conversations()
journals()
documents()
