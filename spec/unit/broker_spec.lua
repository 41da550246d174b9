--- The broker: a phase in its worker, what it asks and how it ends.
local broker = require("praxlua.broker")
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")

local LIMITS = { wall = 30, cpu = 5, memory = 16 << 20, instructions = 2000000, output = 10000,
  messages = 1000 }

describe("broker", function()
  local directory, ctx, told, descriptors
  before_each(function()
    directory = helper.tempdir()
    helper.write(directory .. "/project/.praxis-os/file", "content")
    told = {}
    ctx = {
      source = directory .. "/source", target = directory .. "/project/.praxis-os",
      project = directory .. "/project", target_name = ".praxis-os",
      options = { keep_backups = 3, nothing = json.null }, artifacts = { ["0"] = { a = 1 } },
      memory = {}, session = { completed_phases = {} },
      emit = function(event) told[#told + 1] = event.message end,
      progress = function(text) told[#told + 1] = text end,
      warn = function(text) told[#told + 1] = text end,
      ask = function(_, _, default) return default end,
    }
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    assert.same({}, core.system.children(core.system.pid()))
    helper.clean()
  end)

  -- Runs the body of a phase's run function.
  local function run(body, grants, limits)
    local all = {}
    for name, value in pairs(LIMITS) do all[name] = limits and limits[name] or value end
    return broker.run({
      id = "x", title = "X", file = "7-x.lua", grants = grants or {}, limits = all,
      source = "local phase = {}\nfunction phase.run(host)\n" .. body .. "\nend\nreturn phase\n",
    }, ctx)
  end

  local function verbs_of(outcome)
    local list = {}
    for i, receipt in ipairs(outcome.receipts) do
      list[i] = receipt.verb .. (receipt.ok and " ok" or " failed")
    end
    return list
  end

  it("returns the evidence of a phase, and what it cost", function()
    local outcome = run("return { n = 1, list = { 'a' }, nested = { x = 0.5 } }")
    assert.equal("ok", outcome.verdict)
    assert.same({ n = 1, list = { "a" }, nested = { x = 0.5 } }, outcome.evidence)
    assert.is_true(outcome.seconds > 0 and outcome.used >= 0 and outcome.peak > 0)
    assert.same({}, outcome.receipts)
  end)

  it("shows the phase the evidence of others and the options, without JSON's null", function()
    local outcome = run("return { host.artifacts['0'].a, host.options.keep_backups, "
      .. "host.options.nothing == nil }")
    assert.same({ 1, 3, true }, outcome.evidence)
  end)

  it("serves what was granted, and notes a receipt of each", function()
    local outcome = run([[
      host.log("one")
      host.warn("two")
      host.progress("three", 0.5)
      local data = host.target.read("file")
      local none, message, code = host.target.read("none")
      return { data, none == nil, message, code }
    ]], { target = "read" })
    assert.equal("ok", outcome.verdict, outcome.message)
    assert.equal("content", outcome.evidence[1])
    assert.is_true(outcome.evidence[2])
    assert.matches("none", outcome.evidence[3])
    assert.equal("ENOENT", outcome.evidence[4])
    assert.same({ "one", "two", "three" }, told)
    assert.same({ "log ok", "warn ok", "progress ok", "target.read ok", "target.read failed" },
      verbs_of(outcome))
    assert.equal("content", outcome.receipts[4].answer)
    for _, receipt in ipairs(outcome.receipts) do assert.is_true(receipt.seconds >= 0) end
  end)

  it("keeps the last answer of a verb, and no more of what a phase has read", function()
    local outcome = run("for _ = 1, 3 do host.target.read('file') end host.target.read('none')",
      { target = "read" })
    local kept = {}
    for i, receipt in ipairs(outcome.receipts) do kept[i] = receipt.answer or false end
    assert.same({ false, false, "content", false }, kept)
  end)

  it("refuses what was not granted, and says what to ask for", function()
    for body, grant in pairs({
      ["host.target.read('file')"] = 'grants = { target = "read" }',
      ["host.project.rename('a', 'b')"] = 'grants = { project = "write" }',
      ["host.spawn({ 'git' })"] = "name the tool in grants = { tools = { … } }",
      ["host.lock.acquire()"] = 'grants = { services = { "lock" } }',
    }) do
      local outcome = run("pcall(function() " .. body .. " end) return {}")
      assert.equal("denied:grant", outcome.verdict, outcome.message)
      assert.truthy(outcome.message:find(grant, 1, true), outcome.message)
      assert.same({}, outcome.receipts)
    end
    local outcome = run("pcall(host.spawn, { 'sh' }) return {}", { tools = { "git" } })
    assert.equal("denied:grant", outcome.verdict)
    assert.matches("^host.spawn: the tool 'sh' was not granted", outcome.message)
  end)

  it("knows a name that is none", function()
    for body, name in pairs({ ["host.targets.read('file')"] = "host.targets",
      ["host.target.raed('file')"] = "host.target.raed", ["host.undone()"] = "host.undone" }) do
      local outcome = run("\n" .. body)
      assert.equal("error", outcome.verdict)
      assert.equal("7-x.lua:4: there is no " .. name, outcome.message)
    end
  end)

  it("denies a verb that is none to a worker that was taken over", function()
    local start = core.worker.start
    finally(function() core.worker.start = start end)
    for _, frame in ipairs({ { "call", "nothing" }, { "call" }, { "call", {} } }) do
      core.worker.start = function()
        return { send = function() return true end, stop = function() end,
          receive = function() return table.unpack(frame) end }
      end
      local outcome = run("", {})
      assert.equal("denied:grant", outcome.verdict)
      assert.same({}, outcome.receipts)
    end
  end)

  it("raises misuse in the phase, at its line", function()
    local outcome = run("host.log('before')\nhost.target.read(5)", { target = "read" })
    assert.equal("error", outcome.verdict)
    assert.equal("7-x.lua:4: host.target.read: argument 1 must be a string, not number",
      outcome.message)
    assert.same({ "log ok", "target.read failed" }, verbs_of(outcome))
    outcome = run("return { pcall(host.json.decode) }")
    assert.is_false(outcome.evidence[1])
    assert.matches("argument 1 must be a string, not nil", outcome.evidence[2])
  end)

  it("tells the phase of an error of ours, and goes on", function()
    function ctx.ask() error("the host broke") end
    local outcome = run("return { host.ask('what?') }")
    assert.equal("ok", outcome.verdict)
    assert.equal("EINTERNAL", outcome.evidence[3])
    assert.matches("^host.ask: internal error: .*the host broke.*traceback", outcome.evidence[2])
    assert.same({ "ask failed" }, verbs_of(outcome))
    function ctx.ask() return nil, "no answer" end
    assert.same({ nil, "no answer", "EUNKNOWN" }, run("return { host.ask('?') }").evidence)
    function ctx.ask() return false end
    assert.same({ false }, run("return { host.ask('?') }").evidence)
    function ctx.ask() end
    assert.same({}, run("return { host.ask('?') }").evidence)
  end)

  it("says when an answer cannot cross", function()
    function ctx.ask() return ("x"):rep(1 << 26) end
    local outcome = run("return { host.ask('?') }")
    assert.matches("^the answer .*is too large$", outcome.evidence[2])
    assert.equal("EVALUE", outcome.evidence[3])
    function ctx.ask() return { json.null, { nothing = json.null, something = 1 } } end
    assert.same({ nil, { something = 1 } }, run("return host.ask('?')").evidence)
  end)

  it("says when what the phase is to be told cannot cross", function()
    ctx.options.callback = print
    local outcome = run("return 1")
    assert.equal("error", outcome.verdict)
    assert.matches("start a worker: .*holds a function", outcome.message)
  end)

  it("says when there is no worker to be had", function()
    local host = core.system.host
    finally(function() core.system.host = host end)
    core.system.host = function() return nil, "there is no praxlua" end
    assert.equal("start a worker: there is no praxlua", run("").message)
    core.system.host = function() return "/none" end
    local outcome = run("")
    assert.equal("error", outcome.verdict)
    assert.matches("start a worker: start /none: No such file", outcome.message)
    assert.same({}, outcome.receipts)
  end)

  describe("ends a phase", function()
    local function ends(verdict, message, body, limits)
      local outcome = run(body, { target = "read" }, limits)
      assert.equal(verdict, outcome.verdict, outcome.message)
      assert.matches(message, outcome.message)
      return outcome
    end

    it("that fails", function()
      ends("error", "^7%-x.lua:3: oh$", "error('oh')")
      ends("error", "^oh$", "error('oh', 0)")
      ends("error", "^no such file$", "need(nil, 'no such file')")
      ends("error", "an error object of type table", "error({})")
      ends("error", "holds a function", "return { print = function() end }")
      ends("error", "has no function phase.run", "end phase.run = nil; do")
    end)

    it("over its instructions", function()
      local outcome = ends("limit:instructions", "more than 2000000 instructions",
        "while true do pcall(function() while true do end end) end")
      assert.equal(2000000, outcome.limit)
      assert.is_true(outcome.used > 2000000)
      assert.is_true(outcome.peak > 0)
    end)

    it("over its memory", function()
      local outcome = ends("limit:memory", "more than 16777216 bytes of memory",
        "pcall(string.rep, 'x', 1 << 30); host.log('not heard')")
      assert.same({}, outcome.receipts)
      ends("limit:memory", "of memory", "", { memory = 1000 })
    end)

    it("over its CPU time", function()
      ends("limit:cpu", "more than 1 seconds of CPU time",
        "return (('a'):rep(30)):find(('a?'):rep(30) .. ('a'):rep(30) .. 'b')", { cpu = 1 })
    end)

    it("over its time, that of the host's work for it included", function()
      local outcome = ends("limit:wall", "more than 0.3 seconds", "while true do end",
        { wall = 0.3, instructions = 1 << 50 })
      assert.equal(0.3, outcome.limit)
      helper.write(ctx.target .. "/big", "")
      os.execute("truncate -s 20G " .. ctx.target .. "/big")
      local began = core.system.monotonic()
      ends("limit:wall", "more than 0.5 seconds", "host.target.hash('big')", { wall = 0.5 })
      assert.is_true(core.system.monotonic() - began < 5)
    end)

    it("but not over the time of the person it asks", function()
      function ctx.ask() core.system.sleep(0.6) return true end
      assert.equal("ok", run("host.ask('?') return {}", nil, { wall = 0.5 }).verdict)
    end)

    it("over its output and its messages", function()
      local outcome = ends("limit:output", "more than 10000 bytes of messages",
        "while true do pcall(host.log, ('x'):rep(100)) end")
      assert.same({ 10000, 10100 }, { outcome.limit, outcome.used })
      assert.equal(100, #told)
      outcome = ends("limit:messages", "more than 1000 calls to the host",
        "while true do host.time() end")
      assert.same({ 1000, 1001 }, { outcome.limit, outcome.used })
    end)

    it("whose process is killed", function()
      function ctx.ask()
        os.execute("kill -KILL " .. core.system.children(core.system.pid())[1])
        return true
      end
      ends("crash:SIGKILL", "its process crashed %(SIGKILL%)", "host.ask('?')")
      function ctx.ask()
        local pid = core.system.children(core.system.pid())[1]
        os.execute("kill -KILL " .. pid)
        repeat until core.system.process(pid).state == "Z"
        return ("x"):rep(1 << 20)
      end
      ends("crash:SIGKILL", "its process crashed", "host.ask('?')")
    end)

    local READY = "printf '\\022\\000\\000\\000Y" .. ("i" .. ("\\000"):rep(8)):rep(2) .. "' >&3\n"

    -- A worker that is not ours.
    local function with_host(script)
      local path = directory .. "/host"
      helper.write(path, "#!/bin/sh\n" .. READY .. script .. "\n")
      os.execute("chmod +x " .. path)
      local host = core.system.host
      finally(function() core.system.host = host end)
      core.system.host = function() return path end
      return run("", { target = "read" }, { wall = 20 })
    end

    it("whose process just ends, or says what is no frame", function()
      for script, expected in pairs({
        ["exit 0"] = "protocol:no-result",
        ["exit 7"] = "protocol:no-result",
        ["kill -SEGV $$"] = "crash:SIGSEGV",
        ["kill -XCPU $$"] = "limit:cpu",
        ["kill -USR1 $$"] = "crash:SIGNAL-10",
        ["printf 'nonsense' >&3; exec /bin/sleep 1"] = "protocol:oversize",
        ["printf '\\003\\000\\000\\000' >&3"] = "protocol:bad-frame",
        ["printf '\\001\\000\\000\\000Cx' >&3"] = "protocol:bad-frame",
        ["printf '\\000\\000\\000\\000V' >&3"] = "protocol:bad-frame",
        ["printf '\\012\\000\\000\\000Vs\\002\\000\\000\\000okttt' >&3"] = "protocol:bad-frame",
        ["printf '\\000\\000\\000\\000E' >&3"] = "error",
      }) do
        local outcome = with_host(script)
        assert.equal(expected, outcome.verdict, script)
        assert.is_string(outcome.message)
      end
    end)

    it("when we are interrupted, while it runs and while the host works for it", function()
      for how, body in pairs({ ["while true do end"] = "", ["host.ask('?') while true do end"] = [[
        ctx.ask = function() core.system.sleep(20) return true end
      ]] }) do
        local output = child.run(([[
          local broker = require("praxlua.broker")
          core.system.catch_signals()
          os.execute("(sleep 0.2; kill -INT " .. core.system.pid() .. ") &")
          local ctx = { options = {}, artifacts = {}, session = { completed_phases = {} },
            target_name = "x" }
          %s
          local outcome = broker.run({ id = "x", file = "x.lua", grants = {},
            limits = { wall = 25, cpu = 20, memory = 16 << 20, instructions = 1 << 50, output = 9,
              messages = 9 },
            source = "return { run = function(host) %s end }" }, ctx)
          print(outcome.verdict, outcome.seconds < 15)
        ]]):format(body, how))
        assert.equal("interrupted\ttrue\n", output)
      end
    end)
  end)
end)
