--- What a case of the merge corpus works with: a source with the whole history, installations of
-- each release as the installer lays them out and as an earlier praxlua leaves them, one project to
-- upgrade, and the judge.
local cjson = require("cjson")
local command = require("spec.support.command")
local content = require("spec.support.content")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local place = {}

local NAME = ".praxis-os"
local quote = command.quote

local function absolute(path)
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

local EXECUTABLE = absolute(os.getenv("PRAXLUA_HOST") or "build/praxlua")

-- Runs a script of sh with the words as $1 and further; what it prints must not matter.
local function sh(script, ...)
  local words = { "sh", "-euc", quote(script), "sh" }
  for _, word in ipairs({ ... }) do words[#words + 1] = quote(word) end
  assert(os.execute(table.concat(words, " ")), script)
end

--- Makes the source of all releases.
---@param base string an empty directory; the source is `source` in it
---@return "bundle"|"generated" kind of the content
function place.make_source(base)
  local _, _, _, kind = content.make(base .. "/content")
  helper.tree(base .. "/server", {
    fault = "none\n", ["server.lua"] = helper.read("spec/fixtures/tiny/server.lua"),
  })
  lfs.mkdir(base .. "/home")
  sh("sh spec/corpus/history.sh $1/content $1/source $1/server", base)
  return kind
end

--- A process's own place beneath a base.
---@param base string where make_source made the source
---@param name string of the process
---@return table p
function place.open(base, name)
  local root = base .. "/" .. name
  local p = { base = base, root = root, source = root .. "/source", project = root .. "/project" }
  p.target = p.project .. "/" .. NAME
  sh("mkdir $1; git clone -q $2/source $1/source", root, base)
  return p
end

--- Lets the source be the release of that number.
function place.release(p, number)
  if p.number == number then return end
  local commits = p.commits or place.ask(p, "commits", {})
  p.commits, p.number = commits, number
  sh("git -C $1 checkout -q -B main $2", p.source, commits[number + 1])
end

-- ---- praxlua --------------------------------------------------------------------------------

local function variables(p)
  local list = {}
  for name, value in pairs({ PATH = os.getenv("PATH"), HOME = p.base .. "/home",
    LC_ALL = "C.UTF-8", GIT_CONFIG_NOSYSTEM = "1", TMPDIR = p.root,
    PRAXLUA_PATH = os.getenv("PRAXLUA_PATH") }) do
    list[#list + 1] = name .. "=" .. quote(value)
  end
  return table.concat(list, " ")
end

local function with_events(result)
  for line in result.stdout:gmatch("([^\n]*)\n") do
    local event = cjson.decode(line)
    if event.event == "plan" then result.plan = event end
    result.last = event
  end
  return result
end

--- Upgrades the project from the source.
---@param p table
---@param ... string further arguments
---@return { code: integer, plan: table?, last: table?, stderr: string } result
function place.upgrade(p, ...)
  local words = { quote(EXECUTABLE), "upgrade", "--json", "--source", quote(p.source),
    "--target", quote(p.target), ... }
  local out, err = p.root .. "/stdout", p.root .. "/stderr"
  local _, _, code = os.execute(("cd %s && exec env -i %s %s >%s 2>%s </dev/null"):format(
    quote(p.project), variables(p), table.concat(words, " "), quote(out), quote(err)))
  return with_events({ code = code, stdout = helper.read(out), stderr = helper.read(err) })
end

-- ---- installations --------------------------------------------------------------------------

-- As the installer copies a source; VERSION.txt is the target's own file.
local INSTALL = [[
mkdir -p "$2/venv/bin" "$2/standards/development" "$2/specs" "$2/workspace"
cp -R "$1/universal/standards" "$2/standards/universal"
cp -R "$1/universal/workflows" "$2/workflows"
cp -R "$1/mcp_server" "$2/mcp_server"
if [ -d "$1/universal/usage" ]; then cp -R "$1/universal/usage" "$2/usage"; fi
cp spec/fixtures/tiny/python.sh "$2/venv/bin/python"
chmod 755 "$2/venv/bin/python"
echo '*.log' > "$2/../.gitignore"
]]

local VERSION = "prAxIs OS Content Version\n\nSource Commit: %s\nUpdated By: installer\n"

--- Puts an installation of a release into the project.
---@param p table
---@param number integer the release
---@param how "recorded"|"named"|"bare" an upgrade recorded its base; VERSION.txt names the commit;
--- nothing does
function place.install(p, number, how)
  local kept = ("%s/installed-%d-%s"):format(p.root, number, how)
  sh("rm -rf $1", p.project)
  if not lfs.attributes(kept) then
    place.release(p, number)
    sh(INSTALL, p.source, p.target)
    if how ~= "bare" then
      helper.write(p.target .. "/VERSION.txt", VERSION:format(p.commits[number + 1]))
    end
    if how == "recorded" then
      local done = place.upgrade(p, "--on-conflict", "stop")
      assert(done.code == 0, "the first upgrade failed: " .. done.stdout .. done.stderr)
      sh("rm -rf $1/.backups", p.target)
    end
    sh("mv $1 $2", p.project, kept)
  end
  sh("cp -a $1 $2", kept, p.project)
end

-- ---- the judge ------------------------------------------------------------------------------

local function start_judge(p)
  local ask, answer = p.root .. "/ask", p.root .. "/answer"
  sh("mkfifo $1 $2", ask, answer)
  assert(os.execute(("python3 -B spec/corpus/judge.py %s <%s >%s &"):format(
    quote(p.base .. "/source"), quote(ask), quote(answer))))
  return { ask = assert(io.open(ask, "w")), answer = assert(io.open(answer, "r")) }
end

--- Asks the judge; raises when it cannot answer. The verbs are those of its class Service.
---@param p table
---@param verb string
---@param request table
---@return any answer
function place.ask(p, verb, request)
  p.judge = p.judge or start_judge(p)
  request.verb = verb
  assert(p.judge.ask:write(cjson.encode(request), "\n"))
  assert(p.judge.ask:flush())
  local answer = cjson.decode((assert(p.judge.answer:read("l"), "the judge has ended")))
  if answer.error then error("judge: " .. answer.error, 2) end
  return answer.answer
end

--- Ends the judge.
function place.close(p)
  if not p.judge then return end
  p.judge.ask:close()
  p.judge.answer:read("a")
  p.judge.answer:close()
end

return place
