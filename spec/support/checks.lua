--- What the integration specs say about an installation after a run, in the words of the issue.
local assert = require("luassert")
local cjson = require("cjson")
local lfs = require("lfs")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local sample = require("spec.support.sample")

local checks = {}

--- The names in a directory that match a pattern, sorted; empty where there is none.
---@param directory string
---@param pattern string
---@return string[] paths
function checks.find(directory, pattern)
  local found = {}
  if lfs.attributes(directory, "mode") ~= "directory" then return found end
  for name in lfs.dir(directory) do
    if name ~= "." and name ~= ".." and name:find(pattern) then
      found[#found + 1] = directory .. "/" .. name
    end
  end
  table.sort(found)
  return found
end

--- A JSON file, decoded.
---@param path string
---@return table
function checks.json(path)
  local data = helper.read(path)
  assert.is_string(data, path .. " is not there")
  return cjson.decode(data)
end

--- The exit code, with everything the run said when it is another one.
---@param code integer
---@param result table
function checks.exits(code, result)
  if result.code ~= code then
    error(("exit %s, expected %d\nstderr: %s\nstdout: %s"):format(result.code, code,
      result.stderr:sub(-1500), result.stdout:sub(-1500)), 2)
  end
  if result.events then
    local last = result.events[#result.events]
    assert.is_table(last, "no event was written")
    assert.equal(code, last.exit_code, "exit_code of the last event")
  end
end

--- The text a run wrote for people, one string without line breaks.
function checks.text(result)
  return (result.stderr:gsub("%s+", " "))
end

--- Nothing of an unfinished run is left.
function checks.settled(s)
  local left = checks.find(s.target .. "/.upgrade", ".")
  assert.same({}, left, "an open session is left")
  assert.is_nil(lfs.attributes(s.target .. "/.upgrade-lock"), ".upgrade-lock is left")
  assert.same({}, checks.find(s.project, "%.px%-"), "temporary files are left in the project")
  assert.same({}, checks.find(s.target, "%.px%-"), "temporary files are left in the target")
end

--- The server of the state file answers with a version, and it is the only process there.
---@param version string
function checks.serves(s, version)
  local answer, problem = sample.server(s)
  assert.is_table(answer, problem)
  assert.equal(version, answer.version)
  assert.equal(version, answer.state_version)
  local running = sample.processes(s)
  assert.equal(1, #running, "processes: " .. cjson.encode(running))
  assert.equal(answer.pid, running[1].pid)
  return answer
end

--- The installation is as before (DESIGN's "byte-identical"), the environment too.
---@param before string listing
function checks.as_before(s, before)
  assert.equal("", sample.differences(s, before, sample.list(s)))
end

--- A failed upgrade has put everything back, and the old server answers again.
function checks.undone(s, before)
  checks.as_before(s, before)
  checks.settled(s)
  checks.serves(s, "1.0.0")
end

--- The upgrade of the listing `before` is complete: content, records, environment, server.
function checks.upgraded(s, before)
  local expected = sample.expected(s, before, { "usage" })
  local after = sample.list(s)
  local ignored = { part = "tree", ignore = sample.RECORDS }
  assert.equal("", sample.differences(s, expected, after, ignored))
  checks.settled(s)
  checks.installed_package(s, "2.0.0")
  checks.serves(s, "2.0.0")
  local version = helper.read(s.target .. "/VERSION.txt")
  assert.truthy(version:find("\nCurrent Version: 2.0.0\n", 1, true), version)
end

--- The environment holds the package of a release, and its command runs where it lies.
function checks.installed_package(s, version)
  local said = command.run({ s.target .. "/venv/bin/praxsample" }, {
    scratch = s.scratch, directory = s.project, environment = s.environment,
  })
  assert.equal(version .. "\n", said.stdout, said.stderr)
end

return checks
