--- Upgrades that fail, each for a real cause. Before phase 2 nothing has changed (exit 3); from
-- phase 2 on everything is put back (exit 1), and the old server answers again. What is wrong with
-- a new server or its packages is in server_switch_spec.lua.
local checks = require("spec.support.checks")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local sample = require("spec.support.sample")

-- A helper of a test in the background: a few lines of Python, ended by its pid.
local function in_background(s, script, ...)
  return command.start({ s.base.python, "-c", script, ... },
    { scratch = s.scratch, environment = s.environment })
end

-- The number of the phase that failed.
local function failed_phase(result)
  local failed = sample.events(result, "phase_failed")
  assert.equal(1, #failed, result.stdout)
  return failed[1].number
end

describe("An upgrade whose backup cannot be trusted", function()
  after_each(function() assert.same({}, sample.clean()) end)

  local function refused(s, before, result, phase)
    checks.exits(3, result)
    assert.equal(phase, failed_phase(result))
    checks.undone(s, before)
    return checks.text(result)
  end

  it("stops in phase 1 when .backups is a file", function()
    local s = sample.new()
    helper.write(s.target .. "/.backups", "not a directory\n")
    local before = sample.list(s)
    local result = sample.upgrade(s)
    checks.exits(3, result)
    checks.undone(s, before)
    assert.truthy(checks.text(result):find(".backups", 1, true))
    assert.equal("not a directory\n", helper.read(s.target .. "/.backups"))
  end)

  it("stops in phase 1 when the target holds what cannot be backed up, and names it", function()
    local s = sample.new()
    command.succeed({ "mkfifo", s.target .. "/specs/pipe" }, { scratch = s.scratch })
    local before = sample.list(s)
    local result = sample.upgrade(s)
    checks.exits(3, result)
    checks.undone(s, before)
    assert.truthy(checks.text(result):find("specs/pipe", 1, true), result.stderr)
  end)

  it("stops in phase 1 when a file changes while it is backed up, and names it", function()
    local s = sample.new()
    local path = s.target .. "/workspace/restless.txt"
    helper.write(path, "0\n")
    local before = sample.list(s)
    local writer = in_background(s, [[
import sys
with open(sys.argv[1], "r+b", buffering=0) as out:
    for number in range(10**9):
        out.seek(0)
        out.write(b"%d\n" % number)
]], path)
    local result = sample.upgrade(s)
    command.kill(writer, "KILL")
    checks.exits(3, result)
    assert.equal(1, failed_phase(result))
    assert.truthy(checks.text(result):find("restless.txt", 1, true), result.stderr)
    helper.write(path, "0\n")
    checks.undone(s, before)
    assert.same({}, checks.find(s.target .. "/.backups", "^%d"))
  end)

  it("stops in phase 1 when the archive on the disk is not what was written", function()
    local s = sample.new()
    -- Bytes that do not compress, so that the writer below is there before the archive is complete.
    command.succeed({ "dd", "if=/dev/urandom", "of=" .. s.target .. "/workspace/large", "bs=1M",
      "count=48", "status=none" }, { scratch = s.scratch })
    local before = sample.list(s)
    local spoiler = in_background(s, [[
import os, sys
while True:
    for top, _, names in os.walk(sys.argv[1]):
        for path in (os.path.join(top, name) for name in names):
            try:
                if os.path.getsize(path) > 1 << 20:
                    with open(path, "r+b", buffering=0) as archive:
                        archive.seek(1 << 19)
                        archive.write(b"spoiled" * 8)
                    sys.exit()
            except FileNotFoundError:
                pass
]], s.target .. "/.backups")
    local result = sample.upgrade(s)
    command.kill(spoiler, "KILL")
    refused(s, before, result, 1)
    assert.same({}, checks.find(s.target .. "/.backups", "^%d"))
  end)
end)

describe("An upgrade that fails after its backup", function()
  after_each(function() assert.same({}, sample.clean()) end)

  local function rolled_back(s, before, result, phase)
    checks.exits(1, result)
    assert.equal(phase, failed_phase(result))
    checks.undone(s, before)
    local state = checks.json(checks.find(s.target .. "/.cache/state", "%.json$")[1])
    assert.equal("rolled_back", state.status)
    checks.installed_package(s, "1.0.0")
    return checks.text(result)
  end

  it("is undone when phase 2 cannot write (UPDATE_LOG.txt is a directory)", function()
    local s = sample.new()
    helper.write(s.target .. "/UPDATE_LOG.txt/note", "a directory where a file should be\n")
    local before = sample.list(s)
    local said = rolled_back(s, before, sample.upgrade(s), 2)
    assert.truthy(said:find("UPDATE_LOG.txt", 1, true), said)
  end)

  it("is undone when a phase of the project's own fails after phase 2", function()
    local s = sample.new()
    helper.write(s.root .. "/phases/break-it.lua", [[
return {
  id = "break-it", title = "Breaks", after = "content-upgrade",
  grants = { target = "write" }, evidence = {},
  run = function(host)
    host.target.write("standards/development/stray.md", "must not stay\n")
    error("nothing works")
  end,
}
]])
    local before = sample.list(s)
    local result = sample.upgrade(s, { "--phases", s.root .. "/phases" })
    checks.exits(1, result)
    checks.undone(s, before)
    assert.truthy(checks.text(result):find("nothing works", 1, true), result.stderr)
  end)

  it("is undone when phase 5 fails (INSTALLATION_SUMMARY.md is a directory)", function()
    local s = sample.new({ manifest = true })
    os.remove(s.target .. "/INSTALLATION_SUMMARY.md")
    helper.write(s.target .. "/INSTALLATION_SUMMARY.md/note", "a directory\n")
    local before = sample.list(s)
    local said = rolled_back(s, before, sample.upgrade(s), 5)
    assert.truthy(said:find("INSTALLATION_SUMMARY.md", 1, true), said)
  end)

  it("is undone when it is terminated, with the exit code of that", function()
    local s = sample.new()
    local before = sample.list(s)
    local run = sample.start_upgrade(s)
    assert.is_table(command.await(run, function(event)
      return event.event == "phase_started" and event.number == 3
    end))
    command.kill(run, "TERM")
    local result = command.wait(run)
    assert.equal(143, result.code, result.stderr)
    checks.undone(s, before)
  end)
end)
