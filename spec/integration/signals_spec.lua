--- SIGINT, SIGTERM and SIGHUP, at seeded moments of every phase, in the middle of what takes long,
-- and again during the rollback: the exit code tells the first, everything is as before, nothing
-- is left running.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local process = require("praxlua.process")
local tiny = require("spec.support.tiny")

local SEED = tonumber(os.getenv("PRAXLUA_SEED") or "") or 20261122
local EXITS = { INT = 130, TERM = 143, HUP = 129 }
local NAMES = { "HUP", "INT", "TERM" }
local LONG = 30 -- seconds no wait takes unless something is wrong
local QUICK = 8 -- seconds an end takes on a busy machine; what is interrupted takes far longer

-- As from a terminal, even where the tests themselves run under nohup.
local FRESH = { "env", "--default-signal=HUP" }

local s, before

local function prepare(options)
  s = tiny.new(options)
  before = tiny.snapshot(s)
  tiny.save(s)
end

-- What runs with the mark of this installation: a tool or what descends from it.
local function tools()
  local mark = ("\0%s=%s\0"):format(process.MARK, s.target)
  local found = {}
  for _, name in ipairs(core.root.open("/proc"):list(".")) do
    local variables = name.name:find("^%d+$") and helper.read("/proc/" .. name.name .. "/environ")
    if variables and ("\0" .. variables):find(mark, 1, true) then found[#found + 1] = name.name end
  end
  return found
end

local function is_as_before()
  assert.same(before, tiny.snapshot(s))
  assert.is_true(tiny.is_settled(s), table.concat(tiny.names(s, ".upgrade"), " "))
  assert.same({}, tools())
  for _, name in ipairs(tiny.names(s, ".cache")) do
    assert.is_nil(name:find("^child%-"), name)
  end
end

-- Sends a signal to a run and waits for its end: the result, and the seconds that took.
local function signal(run, name)
  local began = core.system.monotonic()
  command.kill(run, name)
  local result = tiny.finish(run)
  return result, core.system.monotonic() - began
end

local function was_interrupted(name, result, seconds)
  assert.equal(EXITS[name], result.code, tiny.said({ stderr = result.stderr, stdout = "" }))
  assert.equal("interrupted", result.last.status)
  assert.is_true(seconds < QUICK, ("%s took %.1f s"):format(name, seconds))
  is_as_before()
end

-- Whether a process has not taken a signal yet that was sent to it.
local function is_on_its_way(pid)
  local status = helper.read(("/proc/%d/status"):format(pid)) or ""
  return status:find("ShdPnd:\t%x*[1-9a-f]") ~= nil
end

local function phase_began(run, number)
  return command.await(run, function(event)
    return event.event == "phase_started" and event.number == number
  end)
end

-- How long each phase of an upgrade takes here.
local function durations()
  local run, began = tiny.start(s), {}
  command.await(run, function(event)
    if event.event == "phase_started" then
      began[event.number] = began[event.number] or core.system.monotonic()
    end
    return false
  end)
  local ended = core.system.monotonic()
  assert.equal(0, tiny.finish(run).code)
  local seconds = {}
  for phase = 0, 5 do seconds[phase] = (began[phase + 1] or ended) - began[phase] end
  return seconds
end

describe("A signal #uncounted", function()
  after_each(helper.clean)

  it("at any moment of any phase ends the upgrade and takes everything back", function()
    prepare()
    math.randomseed(SEED)
    local seconds, hits = durations(), 0
    for phase = 0, 5 do
      for _, name in ipairs(NAMES) do
        tiny.reset(s)
        local run = tiny.start(s, {}, { wrap = FRESH })
        assert.is_table(phase_began(run, phase))
        core.system.sleep(math.random() * seconds[phase])
        local result, took = signal(run, name)
        if result.code == 0 then -- it came after the commit
          assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
          assert.is_true(tiny.is_settled(s))
        else
          was_interrupted(name, result, took)
          hits = hits + 1
        end
      end
    end
    assert.is_true(hits >= 12, ("%d of 18 came in time (seed %d)"):format(hits, SEED))
  end)

  it("a second and a third one do not disturb the rollback", function()
    prepare()
    math.randomseed(SEED)
    for round = 1, 6 do
      tiny.reset(s)
      local run = tiny.start(s, {}, { wrap = FRESH })
      assert.is_table(phase_began(run, 2 + round % 3))
      local first = NAMES[1 + round % 3]
      local began = core.system.monotonic()
      command.kill(run, first)
      -- Of signals that reach it at once none is the first.
      assert(command.until_true(function() return not is_on_its_way(run.pid) end, LONG))
      while not helper.read(run.at.code) do
        core.system.sleep(0.002 + math.random() * 0.01)
        command.kill(run, NAMES[math.random(3)])
        assert.is_true(core.system.monotonic() - began < LONG)
      end
      was_interrupted(first, tiny.finish(run), 0)
    end
  end)
end)

describe("A signal #uncounted in the middle of", function()
  after_each(helper.clean)

  -- Sends a signal to an upgrade once `reached` is true.
  local function interrupt(name, reached, options)
    options = options or {}
    local run = tiny.start(s, options.extra, { environment = options.environment, wrap = FRESH })
    assert(command.until_true(function()
      return reached(run) or helper.read(run.at.code)
    end, LONG), "it did not come that far")
    local result, seconds = signal(run, name)
    was_interrupted(name, result, seconds)
    return result
  end

  local function events_of(run)
    return command.events((helper.read(run.at.out) or ""):match("^.*\n") or "")
  end

  local function says(text)
    return function(run)
      for _, event in ipairs(events_of(run)) do
        if event.event == "phase_progress" and event.text:find(text, 1, true) then return true end
      end
    end
  end

  local function file_is_there(name)
    return function() return helper.read(s.cache .. "/" .. name) end
  end

  -- A program that says it runs, and then takes its time; with something of its own beside it.
  local SLEEPY = ([[#!/bin/sh
    %s
    setsid sh -c 'trap "" TERM HUP INT; sleep 70; sleep 71' &
    : > "%s/asleep"
    sleep 72
    sleep 73
  ]])

  local function sleepy(trap) return SLEEPY:format(trap or "", s.cache) end

  local function program(path, text)
    helper.write(path, text)
    assert(os.execute("chmod 755 " .. command.quote(path)))
  end

  it("the backup of a big file", function()
    prepare()
    local path = s.target .. "/specs/big"
    for i, name in ipairs(NAMES) do
      tiny.reset(s)
      local out = assert(io.open(path, "wb")) -- it takes long to read, and no room on the disk
      assert(out:seek("set", 4 << 30))
      out:write("end")
      out:close()
      local run = tiny.start(s, {}, { wrap = FRESH })
      assert(command.until_true(function() return says("backing up")(run) end, LONG))
      core.system.sleep(0.2 * i)
      command.kill(run, name)
      local result = tiny.finish(run)
      assert.equal(1, tiny.event(result, "phase_failed").number)
      local last
      for _, event in ipairs(result.events) do last = event.fraction or last end
      assert.is_true(last < 1, "the whole file was read")
      assert.equal((4 << 30) + 3, core.file.stat(path).size)
      assert(os.remove(path))
      was_interrupted(name, result, 0)
    end
  end)

  it("the backup, the check and the copy of many files", function()
    prepare({ second = { ["mcp_server/requirements.txt"] = "tool==1\n" } })
    math.randomseed(SEED)
    for i = 1, 1000 do
      local folder = i % 2 == 0 and "specs" or "venv/lib"
      helper.write(("%s/%s/%d/%d"):format(s.target, folder, i % 40, i), "file " .. i)
    end
    before = tiny.snapshot(s)
    tiny.save(s)
    for i = 1, 4 do
      tiny.reset(s)
      local reached = i < 3 and says("backing up") or function(run)
        return events_of(run)[1] and phase_began(run, 3)
      end
      local pause = math.random() * 0.05 -- all of it takes but some tenths of a second
      interrupt(NAMES[1 + i % 3], function(run)
        return reached(run) and core.system.sleep(pause)
      end)
    end
  end)

  it("a git that sleeps, and one that takes no notice", function()
    prepare()
    for i, trap in ipairs({ "", 'trap "" TERM INT HUP' }) do
      program(s.root .. "/bin/git", sleepy(trap))
      os.remove(s.cache .. "/asleep")
      interrupt(NAMES[i], file_is_there("asleep"), {
        environment = { PATH = s.root .. "/bin:" .. os.getenv("PATH") },
      })
    end
  end)

  it("a pip that sleeps, and one that takes no notice", function()
    prepare({ second = { ["mcp_server/requirements.txt"] = "tool==1\n" } })
    local python = tiny.read(s, "venv/bin/python")
    for i, trap in ipairs({ "", 'trap "" TERM INT HUP' }) do
      tiny.reset(s)
      os.remove(s.cache .. "/asleep")
      program(s.root .. "/sleepy", sleepy(trap))
      tiny.write(s, "venv/bin/python", (python:gsub('"%-m pip install"%*%)\n', function(line)
        return line .. ("    exec '%s/sleepy'\n"):format(s.root)
      end)))
      before = tiny.snapshot(s)
      local result = interrupt(NAMES[1 + i], file_is_there("asleep"))
      assert.equal(3, tiny.event(result, "phase_failed").number)
    end
  end)

  it("a server that does not answer", function()
    prepare({ second = { ["mcp_server/fault"] = "hangs\n" } })
    for i, name in ipairs(NAMES) do
      tiny.reset(s)
      local result = interrupt(name, function(run)
        return phase_began(run, 3) and core.system.sleep(0.15 * i)
      end)
      assert.equal(3, tiny.event(result, "phase_failed").number)
    end
  end)

  it("a hook of the project's own repository", function()
    prepare()
    command.succeed({ "sh", "-ec",
      'cd "$0/project" && git init -q && git add -A && git commit -q -m before', s.root },
      { scratch = s.scratch, environment = s.environment })
    program(s.project .. "/.git/hooks/pre-commit", sleepy())
    before = tiny.snapshot(s)
    local result = interrupt("TERM", file_is_there("asleep"), { extra = { "--git-commit" } })
    assert.equal(5, tiny.event(result, "phase_failed").number)
    assert.equal("before", command.succeed({ "git", "-C", s.project, "log", "--format=%s" },
      { scratch = s.scratch, environment = s.environment }):match("[^\n]*"))
  end)
end)

describe("A signal #uncounted to another command", function()
  after_each(helper.clean)

  local function start(argv)
    argv = { s.executable, table.unpack(argv) }
    argv[#argv + 1] = "--json"
    return command.start(table.move(argv, 1, #argv, #FRESH + 1, { table.unpack(FRESH) }), {
      scratch = s.scratch, environment = s.environment, directory = s.project, seconds = 60,
    })
  end

  local function began(run, name)
    assert.is_table(command.await(run, function(event) return event.event == name end))
  end

  -- An upgrade that was killed, with its session open.
  local function killed()
    prepare()
    local result = tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die')
    assert.equal(137, result.code)
  end

  it("does not stop a rollback", function()
    killed()
    local run = start({ "rollback" })
    began(run, "rollback_started")
    for _, name in ipairs({ "INT", "TERM", "HUP", "INT" }) do
      command.kill(run, name)
      core.system.sleep(0.005)
    end
    assert.equal(0, tiny.finish(run).code)
    is_as_before()
  end)

  it("ends a resume and takes everything back", function()
    killed()
    local run = start({ "resume" })
    began(run, "phase_started")
    local result, seconds = signal(run, "TERM")
    was_interrupted("TERM", result, seconds)
  end)

  it("that undoes an earlier session first, lets that come to its end and stops then", function()
    killed()
    local run = start({ "upgrade", "--source", s.source, "--yes" })
    began(run, "rollback_started")
    command.kill(run, "INT")
    local result = tiny.finish(run)
    assert.equal(130, result.code, result.stdout)
    assert.is_true(tiny.event(result, "rollback_completed").success)
    is_as_before()
  end)

  it("ends a dry run, and nothing was written", function()
    prepare()
    local exact = tiny.exact(s)
    helper.write(s.root .. "/bin/git", "#!/bin/sh\n: > " .. s.cache .. "/asleep\nexec sleep 60\n")
    assert(os.execute("chmod 755 " .. s.root .. "/bin/git"))
    s.environment.PATH = s.root .. "/bin:" .. os.getenv("PATH")
    local run = start({ "upgrade", "--source", s.source, "--dry-run" })
    assert(command.until_true(function() return helper.read(s.cache .. "/asleep") end, LONG))
    local result = signal(run, "HUP")
    assert.equal(129, result.code, result.stdout)
    assert.same(exact, tiny.exact(s))
  end)

  it("ends the making of a backup and of a restore, and leaves nothing of them", function()
    prepare()
    assert.equal(0, tiny.upgrade(s).code)
    for i = 1, 1500 do helper.write(("%s/specs/%d/%d"):format(s.target, i % 30, i), "x" .. i) end
    local backups, full = tiny.names(s, ".backups"), tiny.snapshot(s)
    for _, argv in ipairs({ { "backup", "create" }, { "backup", "restore", backups[1], "--yes" },
      { "rollback" } }) do
      local run = start(argv)
      began(run, argv[1] == "backup" and "phase_progress" or "rollback_started")
      local result = signal(run, "INT")
      assert.is_true(result.code == 130 or result.code == 0, result.stdout)
      if result.code == 130 then
        assert.same(backups, tiny.names(s, ".backups"))
        assert.same(full, tiny.snapshot(s))
      end
      backups, full = tiny.names(s, ".backups"), tiny.snapshot(s)
    end
  end)
end)
