--- The fault campaigns can fail: their judge sees each thing that may be wrong after a recovery,
-- and main.lua counts, sums and ends as it should.
local assert = require("luassert")
local cjson = require("cjson")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local judge = require("spec.faults.judge")
local scenarios = require("spec.faults.scenarios")

describe("The judge of the fault campaigns", function()
  local s, praxlua, kill_at

  setup(function()
    s = scenarios.open("upgrade", helper.tempdir())
    praxlua = s.executable
  end)
  before_each(function()
    s.executable = praxlua
    os.remove(s.root .. "/once")
    s.reset()
  end)
  teardown(function()
    judge.stop()
    helper.clean()
  end)

  -- The call in the middle of phase 3 after which the upgrade is killed; the same in each run.
  local function middle()
    local calls, at = scenarios.trace(s, s.argv, { mode = "count", log = true }).calls, nil
    s.reset()
    for _, call in ipairs(calls) do
      if (call.path2 or ""):find("mcp_server/requirements%.txt$") then at = call.n end
    end
    return assert(at, "phase 3 replaces no requirements.txt")
  end

  local function kill()
    kill_at = kill_at or middle()
    assert.is_true(scenarios.trace(s, s.argv, { mode = "after", at = kill_at }).hit)
  end

  -- From now on praxlua is this script, in which "$praxlua" is praxlua; it runs in the project.
  local function pretend(script)
    s.executable = s.root .. "/pretended"
    helper.write(s.executable, ("#!/bin/sh\npraxlua='%s'\n%s\n"):format(praxlua, script))
    command.succeed({ "chmod", "755", s.executable }, { scratch = s.root .. "/tmp" })
  end

  local function says(pattern, problems)
    local text = table.concat(problems, "\n")
    assert.truthy(text:find(pattern), "not found: " .. pattern .. "\n" .. text)
  end

  it("says nothing of a recovery that is right", function()
    for verb, version in pairs({ resume = "new", rollback = "old" }) do
      s.reset()
      kill()
      local problems, outcome = judge.recover(s, verb, { again = true })
      assert.same({}, problems)
      assert.equal(version, outcome)
    end
  end)

  it("says nothing where nothing had begun, and begins again", function()
    assert.is_true(scenarios.trace(s, s.argv, { mode = "before", at = 1 }).hit)
    local problems, outcome = judge.recover(s, "resume")
    assert.same({}, problems)
    assert.equal("nothing", outcome)
    assert.equal("new", (judge.version(s)))
  end)

  -- What is wrong is done only once: it is not what the second call changes.
  local AFTER = [[
    "$praxlua" "$@"
    code=$?
    [ -e ../once ] || { touch ../once
    %s
    }
    exit $code
  ]]
  local FAULTS = {
    { "a file that is neither version", "not old: .*guide",
      AFTER:format("echo >> .praxis-os/standards/universal/ai-assistant/guide.md") },
    { "a mode that is neither version", "mode 0644 %-> 0600", AFTER:format("chmod 600 app.py") },
    { "a file too much", "extra: .praxis%-os/more", AFTER:format("touch .praxis-os/more") },
    { "a file that was being written", "%.px%-1%-2",
      AFTER:format("touch .praxis-os/.cache/.a.px-1-2") },
    { "an unfinished backup", "left behind: .*%.partial", AFTER:format(
      "mkdir .praxis-os/.backups/.partial-1") },
    { "a folder of a session", "left behind: .*%.upgrade", AFTER:format(
      "mkdir -p .praxis-os/.upgrade/x") },
    { "a state file that cannot be read", "has no seal", AFTER:format(
      "for f in .praxis-os/.cache/state/*.json; do echo >> $f; done; echo { > $f") },
    { "a state file that is not what was sealed", "json is not what was sealed", AFTER:format(
      "sed -i 's/completed/rolled_bk/' .praxis-os/.cache/state/*.json") },
    { "a file of the user that was written", "the user's file app.py was written",
      AFTER:format("touch app.py") },
    { "a process that is left", "left a process: sleep", AFTER:format("sleep 60 &") },
    { "another exit code than the event's", "exit 1, but the last event says 0",
      [["$praxlua" "$@"; exit 1]] },
    { "an exit code that is not documented", "exit 77 is not documented", "exit 77" },
    { "a traceback", "with a trace: stack traceback", AFTER:format("echo stack traceback: >&2") },
    { "a resume that goes back", "but the installation is old", [["$praxlua" rollback --json]] },
    { "a resume that does nothing", "not new", [[
      echo '{"event":"finished","exit_code":0,"status":"nothing_to_do"}']] },
    { "an error that does not say what to do", "says not what to do", [[
      echo '{"event":"finished","exit_code":5,"status":"failed","message":"x"}'; exit 5]] },
  }
  for _, fault in ipairs(FAULTS) do
    it("sees " .. fault[1], function()
      kill()
      pretend(fault[3])
      says(fault[2], (judge.recover(s, "resume")))
    end)
  end

  it("sees a second call that changes something", function()
    kill()
    pretend('"$praxlua" "$@"; code=$?; echo >> .praxis-os/.cache/mcp_server.log; exit $code')
    says("second `praxlua resume` changed", (judge.recover(s, "resume")))
  end)

  it("calls two runs that did the same the same state, and others not", function()
    local states = {}
    for i, at in ipairs({ 150, 150, 151 }) do
      s.reset()
      assert.is_true(scenarios.trace(s, s.argv, { mode = "before", at = at }).hit)
      states[i] = judge.digest(s)
    end
    assert.equal(states[1], states[2])
  end)
end)

describe("The runner of the fault campaigns", function()
  local root

  before_each(function() root = helper.tempdir() end)
  after_each(helper.clean)

  -- Runs main.lua with this family alone.
  local function run(code, variables)
    helper.write(root .. "/spec/faults/families/made.lua", code)
    helper.write(root .. "/tmp/keep", "")
    local environment = core.system.environment()
    environment.LUA_PATH = root .. "/?.lua;" .. package.path
    environment.LUA_CPATH, environment.TMPDIR, environment.B = package.cpath, root .. "/tmp", root
    environment.FAMILY, environment.CASE, environment.SEED = "made", "", "7"
    environment.SHARE, environment.JOBS = "sample", "2"
    for name, value in pairs(variables or {}) do environment[name] = value end
    local result = command.run({ "lua5.4", "spec/faults/main.lua" }, {
      scratch = root, environment = environment,
    })
    local text = helper.read(root .. "/reliability-sample.json")
    result.document = text and cjson.decode(text)
    assert.equal("keep", helper.output_of("ls " .. root .. "/tmp"))
    return result
  end

  local MADE = [[
    local made = { name = "made", floor = { sample = { cases = 3, states = 2 } } }
    function made.one(c, item)
      if item.n == 4 then error("broken") end
      return { problems = item.n == 2 and { "two is bad" } or {} }
    end
    function made.run(c)
      local items, cases, bad = {}, 0, {}
      for n = 1, COUNT do items[n] = { case = "case:" .. n, n = n } end
      for i, result in pairs(c.map(items, "one")) do
        cases = cases + 1
        if result.crashed then result = { problems = { result.crashed } } end
        for _, why in ipairs(result.problems) do
          bad[#bad + 1] = { case = items[i].case, why = why }
        end
      end
      return { cases = cases, states = cases, bad = bad, details = { random = c.random(1000) } }
    end
    return made
  ]]

  local function made(count) return (MADE:gsub("COUNT", count)) end

  it("names each bad case and the command that repeats it, and fails", function()
    local result = run(made(3))
    assert.equal(1, result.code, result.stderr)
    assert.truthy(result.stdout:find("not ok - faults made: 3 cases, 3 states, 1 bad", 1, true))
    assert.truthy(result.stdout:find("make faults FAMILY=made CASE='case:2' SEED=7 SHARE=sample", 1,
      true), result.stdout)
    local entry = result.document.families.made
    assert.same({ 3, 3, 7, "sample" }, { entry.cases, entry.states, entry.seed, entry.share })
    assert.equal("two is bad", entry.bad[1].why)
  end)

  it("runs one case alone, and leaves the file as it was", function()
    local result = run(made(3), { CASE = "case:3" })
    assert.equal(0, result.code, result.stdout .. result.stderr)
    assert.truthy(result.stdout:find("ok - faults made: 1 cases", 1, true))
    assert.is_nil(result.document)
  end)

  it("fails below the floor", function()
    local result = run(made(1))
    assert.equal(1, result.code)
    assert.truthy(result.stdout:find("1 cases, fewer than 3", 1, true), result.stdout)
  end)

  it("takes a case that raises, and a family that raises, for bad", function()
    local result = run(made(4))
    assert.truthy(result.stdout:find("bad case:4: ", 1, true), result.stdout)
    result = run('return { name = "made", run = function() error("no family") end }')
    assert.equal(1, result.code)
    assert.truthy(result.stdout:find("no family", 1, true))
  end)

  it("tells a family that cannot run here as skipped", function()
    local result = run([[return { name = "made", floor = { sample = { cases = 5 } },
      run = function() return { cases = 0, bad = {}, skipped = "no loop devices" } end }]])
    assert.equal(0, result.code)
    assert.truthy(result.stdout:find("skipped - faults made: no loop devices", 1, true))
    assert.equal("no loop devices", result.document.families.made.skipped)
  end)

  it("draws the same from the same seed", function()
    local function drawn(seed)
      return run(made(3), { SEED = seed }).document.families.made.details.random
    end
    assert.equal(drawn("5"), drawn("5"))
    assert.not_equal(drawn("5"), drawn("6"))
  end)
end)
