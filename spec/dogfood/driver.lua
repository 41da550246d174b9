--- The real safe-upgrade.py as driver: installations of old commits of a real source repository,
-- with a person's edits, are upgraded to its newest commit.
--
-- The content and the script are real. The server is the one of spec/fixtures/tiny, so that no
-- package has to be installed.
local core = require("praxlua.core")
local stage = require("spec.dogfood.stage")
local tiny = require("spec.support.tiny")

local COMMITS = { "c445465", "b70784d", "4d4827b" }

-- What an installation is made of; a commit that ships no such folder leaves it out.
local PREPARE = [[
cd "$0/source"
git rm -rq --sparse mcp_server
mkdir mcp_server
cp "$1/server.lua" mcp_server/server.lua
printf '' > mcp_server/__init__.py
printf 'none\n' > mcp_server/fault
git add --sparse mcp_server
git commit -q -m "a server of its own"
]]
local INSTALL = [[
cd "$0"
rm -rf old project
mkdir -p old project/.praxis-os/standards/development project/.praxis-os/venv/bin
git -C source archive "$1" universal | tar -x -C old
cd project/.praxis-os
cp -a ../../old/universal/standards standards/universal
cp -a ../../old/universal/workflows workflows
[ ! -d ../../old/universal/usage ] || cp -a ../../old/universal/usage usage
cp -a ../../source/mcp_server mcp_server
cp "$2/python.sh" venv/bin/python
chmod 755 venv/bin/python
printf 'Current Version: 0.0.1\ncommit=%s\n' "$(git -C ../../source rev-parse "$1")" > VERSION.txt
]]

local say, check, timed = stage.say, stage.check, stage.timed

local function counts_of(result)
  local event = tiny.event(result, "plan")
  if not event then return "no plan: " .. tostring(result.last.message) end
  local c = event.counts
  return ("%d new, %d updated, %d merged, %d unchanged, %d kept, %d removed, %d in conflict")
    :format(c.new_files, c.updated_files, c.merged_files, c.unchanged_files, c.local_only,
      c.removed_files, c.conflicts), event
end

-- Shipped files that upstream changed later, in the order of their names.
local function changed_files(s, driven)
  local _, event = counts_of(driven)
  local found = {}
  for _, action in ipairs(event and event.actions or {}) do
    local full = s.target .. "/" .. action.path
    if action.action == "update" and action.path:find("%.md$") and core.file.exists(full) then
      found[#found + 1] = action.path
    end
  end
  return found
end

local function dry(s, driver, on_conflict)
  return timed(function()
    return tiny.upgrade(s, { "--dry-run", "--allow-downgrade", "--driver", driver,
      "--on-conflict", on_conflict or "stop" })
  end)
end

-- A person's work: a changed file, a deleted one, and one of their own.
local function edit(s, files)
  tiny.write(s, files[1], tiny.read(s, files[1]) .. "\nmine\n")
  assert(os.remove(s.target .. "/" .. files[2]))
  tiny.write(s, "standards/universal/mine.md", "my own\n")
end

local function upgrade(s, driver)
  return timed(function()
    return tiny.upgrade(s, { "--allow-downgrade", "--no-restart", "--on-conflict", "ours",
      "--driver", driver })
  end)
end

local function install(s, commit) stage.sh(s, INSTALL, commit, s.fixtures) end

local function report(commit, what, driver, result, seconds)
  say("%s %-10s  %-16s %s (exit %d, %.1f s)", commit, what, driver .. ":", (counts_of(result)),
    result.code, seconds)
end

-- An installation with a person's work in it, to its end.
local function try_edited(s, commit, driver, files)
  install(s, commit)
  edit(s, files)
  local result, seconds = dry(s, driver)
  report(commit, "edited", driver, result, seconds)
  check(result.code == 4, "%s: a deleted and changed file is no conflict", commit)
  result, seconds = dry(s, driver, "theirs")
  check(result.code == 0, "%s: theirs: %s", commit, tostring(result.last.message))
  report(commit, "theirs", driver, result, seconds)
  result, seconds = upgrade(s, driver)
  check(result.code == 0, "%s: upgrade: %s", commit, tostring(result.last.message))
  report(commit, "upgraded", driver, result, seconds)
  check(tiny.read(s, files[1]):find("\nmine\n", 1, true), "%s: %s: the edit is lost", commit,
    files[1])
  check(not core.file.exists(s.target .. "/" .. files[2]), "%s: %s is back", commit, files[2])
  check(tiny.read(s, "standards/universal/mine.md") == "my own\n", "%s: mine.md is lost", commit)
  check(tiny.is_settled(s), "%s: something is left", commit)
  result, seconds = dry(s, "built-in")
  report(commit, "then", "built-in", result, seconds)
end

local function try(s, commit)
  local files
  for _, driver in ipairs({ "safe-upgrade.py", "built-in" }) do
    install(s, commit)
    local result, seconds = dry(s, driver)
    check(result.code == 0, "%s: dry run: %s", commit, tostring(result.last.message))
    report(commit, "untouched", driver, result, seconds)
    files = files or changed_files(s, result)
    check(#files >= 2, "%s: nothing is updated", commit)
    try_edited(s, commit, driver, files)
  end
end

stage.perform(function(s)
  s.fixtures = core.file.realpath("spec/fixtures/tiny")
  stage.sh(s, PREPARE, s.fixtures)
  for _, commit in ipairs(COMMITS) do try(s, commit) end
end)
