--- What `make demo` shows after the build: an upgrade of a real installation before the viewer's
-- eyes, and one whose server is broken and that comes back by itself. Everything happens in a
-- temporary directory that is gone afterwards; the commands are printed and really run.
local cjson = require("cjson")
local core = require("praxlua.core")
local lfs = require("lfs")
local command = require("spec.support.command")
local sample = require("spec.support.sample")

local terminal = os.execute("test -t 1") == true

local function paint(code, text)
  return terminal and ("\27[%sm%s\27[0m"):format(code, text) or text
end

local function say(...)
  io.write(...)
  io.write("\n")
  io.flush()
end

local function title(number, text)
  say("")
  say(paint("1", ("(%d) %s"):format(number, text)))
end

local function note(text) say(paint("2", "    " .. text)) end

-- Lines of the lists in a plan and in a report; what is kept is always shown.
local function is_listed(line)
  return line:find("^  %l+ +%S+/%S+  ") or line:find("^%- `[^`]+`:")
end

local function is_kept(line) return line:find("^  keep ") end

-- Passes lines on to the viewer as they come, and of a long list only the beginning.
local function show_lines(pipe)
  local shown, listed = 5, 0
  local function end_list()
    if listed > shown then note(("  … %d more lines like these"):format(listed - shown)) end
    listed = 0
  end
  for line in pipe:lines() do
    if is_kept(line) then
      say(line)
    elseif is_listed(line) then
      listed = listed + 1
      if listed <= shown then say(line) end
    else
      end_list()
      say(line)
    end
  end
  end_list()
end

-- Shows a shell command and runs it in the sample's project, its output to the viewer.
local function show(s, line, expected)
  say("")
  say(paint("36", "$ " .. line))
  local words = {}
  for name, value in pairs(s.environment) do
    words[#words + 1] = command.quote(name .. "=" .. value)
  end
  local pipe = assert(io.popen(("cd %s && env -i %s sh -c %s </dev/null 2>&1"):format(
    command.quote(s.project), table.concat(words, " "), command.quote(line))))
  show_lines(pipe)
  local _, _, code = pipe:close()
  if code ~= (expected or 0) then
    error(("exit %d where %d was expected"):format(code, expected or 0), 0)
  end
  if expected then note(("exit status %d"):format(code)) end
end

local function show_server(s, wanted)
  local answer = assert(sample.server(s))
  note(("the server, asked over MCP: version %s, process %d, tools %s"):format(
    answer.version, answer.pid, table.concat(answer.tools, ", ")))
  assert(answer.version == wanted, "the server should be of version " .. wanted)
end

-- The checks are done by the tests' own independent checker (oracle.py).
local function same(s, before, after, options)
  local found = sample.differences(s, before, after, options)
  if found ~= "" then error("not as it should be:\n" .. found, 0) end
end

local function introduce(s)
  title(1, "A project with an installation of release 1.0.0, and the source of release 2.0.0")
  show(s, "git -C ../source log --oneline --decorate | head -4")
  show(s, "ls .praxis-os; sed -n '/Version:/p' .praxis-os/VERSION.txt")
  note("Its owner has files of their own there, and has edited one that was shipped:")
  show(s, "cd .praxis-os; find specs/2025* standards/development workspace workflows/our* -type f")
  show(s, "tail -3 " .. sample.EDITED)
  show_server(s, "1.0.0")
end

local function preview(s)
  title(2, "What would an upgrade do? Nothing is written.")
  local before = sample.list(s, "exact")
  show(s, "praxlua upgrade --source ../source --dry-run")
  same(s, before, sample.list(s, "exact"))
  note("every byte and every time in the project is as before (checked by another program)")
end

local function upgrade(s)
  title(3, "The upgrade")
  local before = sample.list(s)
  show(s, "praxlua upgrade --source ../source")
  same(s, sample.expected(s, before, { "usage" }), sample.list(s),
    { part = "tree", ignore = sample.RECORDS })
  note("every shipped file is the new release's, every file of the owner is untouched (checked)")
  show_server(s, "2.0.0")
  show(s, "cat .praxis-os/.cache/upgrade-summary-*.md")
end

local function broken_upgrade(s)
  title(4, "Release 2.1.0 has a server that does not start")
  sample.commit(s, {
    ["VERSION.txt"] = "2.1.0\n",
    ["mcp_server/__init__.py"] = 'VERSION = "2.1.0"\n',
    ["mcp_server/faults.json"] = cjson.encode({ exit_at_start = 7 }),
    ["universal/standards/testing/new-in-2.1.md"] = "# New in 2.1.0\n",
  }, "Release 2.1.0")
  show(s, "git -C ../source log --oneline | head -1")
  local before = sample.list(s)
  show(s, "praxlua upgrade --source ../source", 1)
  same(s, before, sample.list(s))
  note("the installation is byte for byte what it was (checked)")
  show_server(s, "2.0.0")
end

local function look_back(s)
  title(5, "What happened here")
  show(s, "praxlua status")
  show(s, "praxlua backup list")
end

local directory = (os.getenv("TMPDIR") or "/tmp") .. "/praxlua-demo-" .. core.system.pid()

local function main()
  say("The sample is being made (a source repository, a virtual environment, a server) ...")
  assert(lfs.mkdir(directory))
  local s = sample.new({ manifest = true, pip = true, parent = directory })
  s.environment.PATH = s.executable:match("^(.*)/[^/]*$") .. ":" .. s.environment.PATH
  for _, step in ipairs({ introduce, preview, upgrade, broken_upgrade, look_back }) do step(s) end
end

local ok, message = xpcall(main, debug.traceback)
local left = sample.clean()
os.execute("rm -rf " .. command.quote(directory))
if not ok then io.stderr:write("\ndemo: ", tostring(message), "\n") end
if #left > 0 then io.stderr:write("demo: processes were left: ", cjson.encode(left), "\n") end
say("")
say(ok and "The demo is over; its directory is removed." or "The demo did not go as it should.")
os.exit(ok and #left == 0 and 0 or 1, true)
