--- core.worker: values across the channel, and what a worker may do, use and leave behind.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local resources = require("praxlua.resources")

local fails = helper.fails

local LONG = 30 -- seconds no test takes unless something is wrong
local ECHO = "local call, value = ...; return value"

local function the_host()
  return (assert(core.system.host(), "set PRAXLUA_HOST to the built praxlua executable"))
end

-- Runs a chunk in a worker with arguments behind `call`; what comes back first.
local function run(chunk, limits, ...)
  local worker <close> = assert(core.worker.start(the_host(), limits))
  local sent, message, code = worker:send("start", chunk, ...)
  assert(sent or code == "EPIPE", message) -- a verdict may come before it has read all
  return worker:receive(LONG)
end

-- The verdict of a chunk that must end by one.
local function verdict(chunk, limits, ...)
  local kind, name, limit, used, peak = run(chunk, limits, ...)
  assert.equal("verdict", kind, name)
  return name, limit, used, peak
end

local function error_of(chunk, ...)
  local kind, message = run(chunk, nil, ...)
  assert.equal("error", kind)
  return message
end

describe("core.worker", function()
  local descriptors
  before_each(function()
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    assert.same({}, core.system.children(core.system.pid()))
    helper.clean()
  end)

  describe("values cross", function()
    local function crosses(value)
      local kind, back = run(ECHO, nil, value)
      assert.equal("result", kind, back)
      return back
    end

    it("exactly", function()
      local values = {
        true, false, 0, -1, 2^53 // 1 | 0, (1 << 53) + 1, math.maxinteger, math.mininteger,
        0.1, -0.0, 1.0, 5e-324, 1.7976931348623157e308, "", "a\0b", "\255\254\n\r", ("x"):rep(1e6),
      }
      local back = crosses(values)
      for i, value in ipairs(values) do
        assert.equal(math.type(value), math.type(back[i]), i)
        assert.equal(string.format("%q", value), string.format("%q", back[i]), i)
      end
      assert.equal(#values, #back)
    end)

    it("in tables of any shape", function()
      local deep = {}
      local at = deep
      for _ = 1, 31 do at.deeper = {}; at = at.deeper end
      local values = {
        {}, { 1, 2, 3 }, { [-5] = "a", [math.maxinteger] = "b", ["\255"] = { {} } }, deep,
        { a = { 1, { b = { true } } }, ["with space"] = "x" }, { nil, 2 },
      }
      for _, value in ipairs(values) do assert.same(value, crosses(value)) end
    end)

    it("one after the other, with what the run cost", function()
      local worker <close> = assert(core.worker.start(the_host()))
      assert(worker:send("start", "local call, a, b, c = ...; return { call('v', c, b, a) }",
        1, nil, "three"))
      assert.same({ "call", "v", "three", nil, 1 }, { worker:receive(LONG) })
      assert(worker:send("answer", true, "x", nil, false))
      local kind, evidence, spent, peak = worker:receive(LONG)
      assert.equal("result", kind)
      assert.same({ "x", nil, false }, evidence)
      assert.equal("integer", math.type(spent))
      assert.is_true(peak > 10000 and peak < 10000000)
    end)

    it("but not when they cannot", function()
      local circle = {}
      circle.circle = { circle }
      local deep = {}
      for _ = 1, 33 do deep = { deep } end
      local wide, wider = { {}, {} }, {}
      for _ = 1, 20 do wide = { wide, wide } end
      for i = 1, 500001 do wider[i] = i end
      local sparse, sequence, many = {}, {}, {}
      for i = 1, 10001 do sparse[-i], sequence[i] = true, { i } end
      for i = 1, 250 do many[i] = i end
      local worker <close> = assert(core.worker.start(the_host()))
      for what, value in pairs({
        ["holds a function"] = print, ["a function, thread"] = coroutine.create(print),
        ["or userdata"] = io.stdout, ["not finite"] = 1/0, ["that is not finite"] = -1/0,
        ["number that is not finite"] = 0/0, ["in a circle"] = circle, ["too deeply"] = deep,
        ["too many values"] = wide, ["many values"] = wider, ["is too large"] = ("x"):rep(1 << 26),
        ["neither a string nor an integer"] = { [1.5] = 1 },
        ["key that is neither"] = { [true] = 1 }, ["has a key"] = { [{}] = 1 },
        ["holds"] = { a = { print } }, ["in no sequence"] = { sparse },
      }) do
        local message = fails("EVALUE", worker:send("start", ECHO, value))
        assert.truthy(message:find(what, 1, true), message)
      end
      assert.truthy(fails("EVALUE", worker:send("start", ECHO, table.unpack(many)))
        :find("one of too many", 1, true))
      assert(worker:send("start", ECHO, "still well", sequence, table.unpack(many, 1, 247)))
      assert.same({ "result", "still well" }, { table.unpack({ worker:receive(LONG) }, 1, 2) })
    end)

    it("or not, from the other side, where the script hears of it", function()
      for what, chunk in pairs({
        ["holds a function"] = "return print or function() end",
        ["not finite"] = "return 1/0",
        ["in a circle"] = "local t = {}; t[1] = t; return t",
        ["in no sequence"] = "local t = {}; for i = 1, 10001 do t[i << 10] = i end; return t",
        ["value holds a function"] = "local call = ...; call('verb', function() end)",
        ["too large"] = "return { ('x'):rep(1 << 25), ('x'):rep(1 << 25) }",
      }) do
        local kind, message = run(chunk, { memory = 1 << 28 })
        assert.equal("error", kind)
        assert.truthy(message:find(what, 1, true), message)
      end
      local kind, caught = run("local call = ...; return { pcall(call, 'v', 0/0) }")
      assert.equal("result", kind)
      assert.is_false(caught[1])
      assert.matches("not finite", caught[2])
    end)

    it("without their metatables", function()
      local lying = setmetatable({ "raw" }, {
        __pairs = function() error("asked") end, __index = function() return "lie" end,
        __len = function() return 1000 end,
      })
      assert.same({ "raw" }, crosses(lying))
    end)
  end)

  describe("a host that answers", function()
    local function asked(answer, chunk)
      local worker <close> = assert(core.worker.start(the_host()))
      assert(worker:send("start", chunk or "local call = ...; return { call('verb', 'x') }"))
      assert.same({ "call", "verb", "x" }, { worker:receive(LONG) })
      assert(worker:send("answer", table.unpack(answer, 1, answer.n or #answer)))
      local kind, value = worker:receive(LONG)
      return value, kind
    end

    it("gives results, or nil, a message and a code", function()
      assert.same({ 1, "two" }, asked({ true, 1, "two" }))
      assert.same({}, asked({ true }))
      assert.same({ nil, "no", "ECODE" }, asked({ false, "no", "ECODE" }))
    end)

    it("raises for misuse, where the script made the mistake", function()
      local message, kind = asked({ false, "host.verb: wrong", "EMISUSE" }, [[
local call = ...
local function ask(...) return call("verb", ...) end
local function script()
  local result = ask("x")
  return result
end
return script()]])
      assert.equal("error", kind)
      assert.equal("lua/praxlua/worker.lua:4: host.verb: wrong", message)
      local caught = asked({ false, "wrong", "EMISUSE" },
        "local call = ...; return select(2, pcall(call, 'verb', 'x'))")
      assert.matches("wrong$", caught)
    end)

    it("is asked with the name of a verb", function()
      assert.matches("string expected", error_of("local call = ...; call({})"))
      assert.matches("string expected", error_of("local call = ...; call()"))
    end)

    it("that sends something else ends the worker", function()
      local worker <close> = assert(core.worker.start(the_host()))
      assert(worker:send("answer", true))
      fails("EPIPE", worker:receive(LONG))
      assert.same({ code = 0, signal = 0 }, worker:wait())
    end)
  end)

  describe("limits", function()
    local SMALL = { instructions = 1000000, cpu = 5, memory = 16 << 20 }

    it("of instructions end it, whatever the script catches", function()
      for _, chunk in ipairs({
        "while true do end",
        "while true do pcall(error) end",
        "local function f() pcall(f) return f() end f()",
        "while true do pcall(function() while true do end end) end",
        "while true do coroutine.wrap(function() for i = 1, 100 do end end)() end",
        "while true do coroutine.create(function() end) end",
        "local w = coroutine.wrap(function() while true do coroutine.yield() end end) "
          .. "while true do w() end",
        "local t <close> = setmetatable({}, { __close = function() while true do end end }) "
          .. "error('x')",
        "return setmetatable({}, { __index = function(t, k) while true do end end }).x",
        "xpcall(error, function() while true do end end)",
        "for _ = 1, 1000000 do load('return 1')() end",
        "table.sort({ 3, 2, 1 }, function() while true do end end)",
        "goto a ::a:: goto a",
      }) do
        local name, limit, used, peak = verdict(chunk, SMALL)
        assert.equal("limit:instructions", name, chunk)
        assert.equal(SMALL.instructions, limit)
        assert.is_true(used > limit and used <= limit + 2000, used)
        assert.is_true(peak > 0)
      end
    end)

    it("of instructions count those of short coroutines", function()
      assert.equal("limit:instructions", (verdict("for _ = 1, 2000 do "
        .. "coroutine.wrap(function() for _ = 1, 300 do end end)() end", SMALL)))
    end)

    it("of memory end it, whatever the script catches", function()
      for _, chunk in ipairs({
        "local t = {} for i = 1, 1 << 30 do t[i] = { i } end",
        "return ('x'):rep(1 << 26)",
        "local s = 'x' while true do s = s .. s end",
        "local call = ...; pcall(string.rep, 'x', 1 << 26); call('verb')",
        "while true do pcall(string.rep, 'x', 1 << 26) end",
        "local function f() return 1 + f() end f()",
        "local t = {} pcall(function() while true do t[#t + 1] = ('x'):rep(10000) .. #t end end) "
          .. "return true",
        "coroutine.wrap(function() return ('x'):rep(1 << 26) end)()",
        "return table.concat({ ('x'):rep(1 << 22) }, '', 1, 1) .. ('y'):rep(15 << 20)",
      }) do
        local name, limit, used = verdict(chunk, { memory = 16 << 20, instructions = 1 << 40 })
        assert.equal("limit:memory", name, chunk)
        assert.equal(16 << 20, limit)
        assert.is_true(used > limit, used)
      end
    end)

    it("of memory are for what is in use, not for garbage", function()
      local kind, total, _, peak = run([[
        local total = 0
        for i = 1, 40 do total = total + #(('x'):rep(3 << 20) .. i) end
        return total
      ]], { memory = 16 << 20 })
      assert.equal("result", kind)
      assert.is_true(total > 120 << 20)
      assert.is_true(peak <= 16 << 20)
    end)

    it("of memory hold for what the host sends, too", function()
      assert.equal("limit:memory", (verdict(ECHO, { memory = 2 << 20 }, ("x"):rep(4 << 20))))
      assert.equal("limit:memory", (verdict("", { memory = 0 })))
      assert.equal("limit:memory", (verdict("", { memory = 1000 })))
      local worker <close> = assert(core.worker.start(the_host(), { memory = 2 << 20 }))
      assert(worker:send("start", "local call = ...; while true do pcall(call, 'v') end"))
      assert.equal("call", (worker:receive(LONG)))
      assert(worker:send("answer", true, ("x"):rep(4 << 20)))
      assert.same({ "verdict", "limit:memory" }, { table.unpack({ worker:receive(LONG) }, 1, 2) })
    end)

    it("of CPU time end what runs no instructions", function()
      for _, chunk in ipairs({
        "return (('a'):rep(30)):find(('a?'):rep(30) .. ('a'):rep(30) .. 'b')",
        "while true do pcall(string.find, ('a'):rep(1000), ('.-'):rep(50) .. 'b') end",
      }) do
        local began = core.system.monotonic()
        local name, limit = verdict(chunk, { cpu = 1, instructions = 1 << 40 })
        assert.equal("limit:cpu", name)
        assert.equal(1, limit)
        assert.is_true(core.system.monotonic() - began < LONG)
      end
    end)

    it("of CPU time let a frame that is on its way be whole", function()
      local worker <close> = assert(core.worker.start(the_host()))
      assert(worker:send("start", "local call = ...; return call('verb', ('x'):rep(1 << 20))"))
      local function is_waiting() return core.system.process(worker:pid()).state == "S" end
      repeat -- until it has waited for us to read for a while
        assert(command.until_true(is_waiting, LONG))
        core.system.sleep(0.2)
      until is_waiting()
      os.execute("kill -PROF " .. worker:pid())
      local kind, verb, data = worker:receive(LONG)
      assert.same({ "call", "verb", 1 << 20 }, { kind, verb, #data })
      assert.same({ "verdict", "limit:cpu" }, { table.unpack({ worker:receive(LONG) }, 1, 2) })
    end)

    it("must be whole numbers", function()
      for _, limits in ipairs({ { memory = 1.5 }, { cpu = "x" }, { instructions = {} } }) do
        assert.error(function() core.worker.start(the_host(), limits) end)
      end
    end)
  end)

  describe("an error", function()
    it("is told with its place", function()
      assert.equal("lua/praxlua/worker.lua:2: oh", error_of("\nerror('oh')"))
      assert.matches("attempt to index a nil value %(global 'os'%)", error_of("os.exit(1)"))
      assert.matches("syntax error", error_of("this is not Lua"))
      assert.matches("string expected", error_of(nil))
    end)

    it("that is no string is told by its type", function()
      assert.equal("an error object of type table", error_of("error({ code = 1 })"))
      assert.equal("an error object of type nil", error_of("error()"))
      assert.equal("an error object of type table",
        error_of("error(setmetatable({}, { __tostring = function() while true do end end }))"))
    end)

    it("of a deep recursion in C is an error, not a crash", function()
      assert.matches("overflow", error_of(
        "local function f() return (('x'):gsub('x', f)) end f()"))
      assert.matches("overflow", error_of(
        "local t = setmetatable({}, {}); getmetatable(t).__index = function(t, k) "
        .. "return t[k .. 'x'] end; return t.a"))
    end)
  end)

  describe("a script finds", function()
    local function names_in(expression)
      local kind, names = run("local names = {} for name, value in pairs(" .. expression
        .. ") do names[#names + 1] = name .. ' ' .. type(value) end table.sort(names) return names")
      assert.equal("result", kind)
      return table.concat(names, "\n")
    end
    local function listed(kind, words)
      return (words:gsub("%s+", "\n"):gsub("%f[\n\0]", " " .. kind))
    end

    it("these names and no other", function()
      assert.equal([[
_G table
_VERSION string
assert function
collectgarbage function
coroutine table
error function
getmetatable function
ipairs function
load function
math table
next function
pairs function
pcall function
rawequal function
rawget function
rawlen function
rawset function
select function
setmetatable function
string table
table table
tonumber function
tostring function
type function
utf8 table
xpcall function]], names_in("_G"))
      assert.equal(listed("function", "close create isyieldable resume running status wrap yield"),
        names_in("coroutine"))
      assert.equal(listed("function", "byte char find format gmatch gsub len lower match pack "
        .. "packsize rep reverse sub unpack upper"), names_in("string"))
      assert.equal(listed("function", "concat insert move pack remove sort unpack"),
        names_in("table"))
      assert.equal("char function\ncharpattern string\ncodepoint function\ncodes function\n"
        .. "len function\noffset function", names_in("utf8"))
      assert.not_matches("randomseed", names_in("math"))
    end)

    it("no way to binary code, finalizers or the string metatable", function()
      assert.matches("attempt to load a binary chunk", error_of(
        "return assert(load('\\27Lua', 'x', 'b'))"))
      assert.matches("attempt to load a binary chunk", error_of(
        "local n = 0; return assert(load(function() n = n + 1; "
        .. "return n == 1 and '\\27Lua' or nil end))"))
      assert.matches("__gc is not allowed", error_of(
        "setmetatable({}, { __gc = function() while true do end end })"))
      assert.matches("__gc is not allowed", error_of("setmetatable({}, { __gc = false })"))
      assert.same({ "result", false }, { table.unpack({ run("return getmetatable('')") }, 1, 2) })
      assert.matches('only "count" is allowed', error_of("collectgarbage('stop')"))
      assert.matches("table expected", error_of("setmetatable(1, {})"))
    end)

    it("that load, setmetatable and coroutines work as always", function()
      local kind, found = run([[
        local env = { x = 5 }
        local parts = { "return ", "x" }
        local meta = setmetatable({}, { __index = env })
        return {
          load("return x", "n", "bt", env)(), load("return x")() == nil,
          load(function() return table.remove(parts, 1) end, "n", "t", env)(),
          pcall(load("return x", "n", "t", nil)), (load("x =")), meta.x,
          setmetatable(meta, nil).x == nil, select("#", load("return 1", "n")),
          coroutine.wrap(function(a) return coroutine.yield(a + 1) end)(1),
          select(2, coroutine.resume(coroutine.create(function() error("e", 0) end))),
          collectgarbage() > 10, collectgarbage("count") < 10000,
        }
      ]])
      assert.equal("result", kind, found)
      assert.same({ 5, true, 5, false, nil, 5, true, 1, 2, "e", true, true }, found)
    end)

    it("the same random numbers in every run", function()
      local chunk = "return { math.random(1 << 60), math.random(), math.random(100) }"
      assert.same({ table.unpack({ run(chunk) }, 1, 2) }, { table.unpack({ run(chunk) }, 1, 2) })
    end)
  end)

  -- What the kernel says of a worker that waits for an answer.
  describe("its process", function()
    local function waiting(look)
      local worker <close> = assert(core.worker.start(the_host(), { memory = 16 << 20, cpu = 7 }))
      assert(worker:send("start", "local call = ...; return call('wait')"))
      assert.same({ "call", "wait" }, { worker:receive(LONG) })
      return look("/proc/" .. worker:pid(), worker)
    end

    it("has the channel and nothing else", function()
      waiting(function(proc)
        local links = helper.output_of("cd %s/fd && for f in *; do echo $f $(readlink $f); done",
          proc)
        assert.matches("^0 /dev/null\n1 /dev/null\n2 /dev/null\n3 socket:%[%d+%]$", links)
      end)
    end)

    it("inherits no descriptor of ours, not even one that is inherited", function()
      local extra = assert(io.open("/dev/zero"))
      local output = child.run([[
        print(core.system.pid())
        local worker <close> = core.worker.start(core.system.host())
        worker:send("start", "local call = ...; return call('wait')")
        worker:receive(30)
        local lfs = require("lfs")
        local count = 0
        for name in lfs.dir("/proc/" .. worker:pid() .. "/fd") do count = count + 1 end
        print(count - 2)
      ]], "exec 3</dev/zero 4</dev/zero 9</dev/zero; exec")
      extra:close()
      assert.matches("\n4\n$", output)
    end)

    it("has a fixed environment, a group of its own, and dies with us", function()
      waiting(function(proc, worker)
        local environment = helper.read(proc .. "/environ")
        local names = {}
        for name in environment:gmatch("([^=%z]+)=[^%z]*") do names[name] = true end
        for _, name in ipairs({ "PRAXLUA_COVERAGE_DIR", "GCOV_PREFIX", "GCOV_PREFIX_STRIP" }) do
          names[name] = nil
        end
        assert.same({ LC_ALL = true, TZ = true, PATH = true }, names)
        assert.equal(worker:pid(), core.system.process(worker:pid()).pgid)
        local status = helper.read(proc .. "/status")
        assert.matches("\nNoNewPrivs:\t1\n", status)
        assert.matches("\nSigBlk:\t0+\n", status)
      end)
      local holder = child.start([[
        print(core.system.pid())
        local worker = core.worker.start(core.system.host())
        worker:send("start", "local call = ...; return call('wait')")
        worker:receive(30)
        print(worker:pid())
        core.system.sleep(60)
      ]])
      local pid = tonumber(holder.line())
      holder.kill("KILL")
      assert(command.until_true(function() return not core.system.process(pid) end, LONG))
    end)

    it("is limited by the kernel as well #uncounted", function()
      waiting(function(proc)
        local limits = helper.read(proc .. "/limits")
        assert.matches("Max cpu time%s+8%s+9%s", limits)
        assert.matches("Max core file size%s+0%s+0%s", limits)
        if not helper.output_of("ldd %s", the_host()):find("asan") then
          assert.matches("Max file size%s+0%s+0%s", limits)
          assert.matches("Max open files%s+4%s+4%s", limits)
          assert.matches("Max address space%s+285212672%s", limits)
        end
      end)
    end)

    it("cannot be started without its supervisor", function()
      local host = command.quote(the_host())
      assert.equal("2", helper.output_of("%s --worker; echo $?", host))
      assert.equal("0", helper.output_of("%s --worker 1 1000000 1000 1; echo $?", host))
    end)
  end)

  describe("its end", function()
    it("is known: a result, a signal, nothing", function()
      local worker <close> = assert(core.worker.start(the_host()))
      assert(worker:send("start", "return 1"))
      assert.equal("result", (worker:receive(LONG)))
      fails("EPIPE", worker:receive(LONG))
      assert.same({ code = 0, signal = 0 }, worker:wait())
      assert.same({ code = 0, signal = 0 }, worker:wait())
      assert.same({ code = 0, signal = 0 }, worker:stop())
      assert.equal(0, worker:pid())
      for _, method in ipairs({ "receive", "send" }) do
        assert.error_matches(function() worker[method](worker, "start") end, "the worker has ended")
      end
    end)

    it("by a signal is told", function()
      for name, number in pairs({ KILL = 9, TERM = 15, USR1 = 10 }) do
        local worker <close> = assert(core.worker.start(the_host()))
        assert(worker:send("start", "local call = ...; call('wait')"))
        assert.equal("call", (worker:receive(LONG)))
        os.execute(("kill -%s %d"):format(name, worker:pid()))
        fails("EPIPE", worker:receive(LONG))
        assert.same({ code = 0, signal = number }, worker:wait())
      end
    end)

    it("comes with stop, at once", function()
      local worker <close> = assert(core.worker.start(the_host(), { instructions = 1 << 50 }))
      assert(worker:send("start", "while true do end"))
      fails("ETIMEDOUT", worker:receive(0.01))
      assert.same({ code = 0, signal = 9 }, worker:stop())
    end)

    it("comes with a wait that has a limit, when that is over", function()
      local worker <close> = assert(core.worker.start(the_host(), { instructions = 1 << 50 }))
      assert(worker:send("start", "while true do end"))
      assert.same({ code = 0, signal = 9 }, worker:wait(0.05))
      assert.equal(0, worker:pid())
    end)

    it("comes with collection", function()
      local pid = assert(core.worker.start(the_host())):pid()
      collectgarbage()
      assert.is_nil(core.system.process(pid))
    end)

    it("is told to who sends", function()
      local worker <close> = assert(core.worker.start(the_host()))
      os.execute(("kill -KILL %d"):format(worker:pid()))
      assert(command.until_true(function()
        return select(3, worker:send("answer", ("x"):rep(100000))) == "EPIPE"
      end, LONG))
    end)
  end)

  -- Something else that has the other end of the channel, and is ready.
  describe("what is no frame", function()
    local READY = "printf '\\022\\000\\000\\000Y" .. ("i" .. ("\\000"):rep(8)):rep(2) .. "' >&3\n"

    local function host_of(script)
      local path = helper.tempdir() .. "/host"
      helper.write(path, "#!/bin/sh\n" .. script .. "\n")
      os.execute("chmod +x " .. path)
      return path
    end

    local function sent(script)
      local worker <close> = assert(core.worker.start(host_of(READY .. script)))
      return worker:receive(LONG)
    end

    it("instead of being ready", function()
      fails("EPROTO", core.worker.start(host_of("exit 3")))
      fails("EPROTO", core.worker.start(host_of("printf '\\000\\000\\000\\000C' >&3")))
      fails("EPROTO", core.worker.start(host_of("printf '\\001\\000\\000\\000Yn' >&3")))
      fails("EPROTO", core.worker.start(host_of("printf '\\001\\000\\000\\000Yx' >&3")))
      local worker <close>, seccomp, landlock = core.worker.start(host_of(READY))
      assert.is_userdata(worker)
      assert.same({}, { seccomp, landlock })
    end)

    it("is refused", function()
      local function frame(kind, payload)
        local octal = payload:gsub(".", function(c) return ("\\%03o"):format(c:byte()) end)
        return ("printf '\\%03o\\%03o\\000\\000%s%s' >&3"):format(#payload & 255, #payload >> 8,
          kind, octal)
      end
      for what, script in pairs({
        ["cut off"] = "printf '\\005\\000' >&3",
        ["a frame that is cut off"] = "printf '\\005\\000\\000\\000Cnn' >&3",
        ["unknown kind"] = frame("Z", ""),
        ["of an unknown kind"] = frame("S", ""),
        ["well-formed"] = frame("C", "x"),
        ["not a well-formed"] = frame("C", "i1234"),
        ["is not a well-formed"] = frame("C", "d\0\0\0\0\0\0\240\127"), -- infinity
        ["not a well-formed frame"] = frame("C", "d123"),
        ["a well-formed frame"] = frame("C", "s\5\0\0\0abc"),
        ["well-formed frame"] = frame("C", "s\5"),
        ["sent is not"] = frame("C", "T\1\0\0\0n"),
        ["worker sent is not"] = frame("C", "T\1\0\0\0nn"),
        ["the worker sent is not"] = frame("C", "T\1\0\0\0s\1\0\0\0k"),
        ["what the worker sent is not"] = frame("C", "T\255\255\255\255"),
        ["what the worker sent"] = frame("C", ("T\1\0\0\0i12345678"):rep(40)),
      }) do
        local message = fails("EPROTOCOL", sent(script))
        assert.truthy(message:find(what, 1, true), message)
      end
      fails("EMSGSIZE", sent("printf '\\377\\377\\377\\377C' >&3"))
    end)

    it("is told from a frame that comes in pieces", function()
      assert.same({ "call", true, nil, false }, { sent("for c in '\\003' '\\000' '\\000' '\\000' "
        .. "C t n f; do printf $c >&3; /bin/sleep 0.01; done") })
    end)

    it("and from one that does not come in time", function()
      fails("EPIPE", sent("exit 3"))
      local host = host_of(READY .. "printf '\\003\\000' >&3\nexec /bin/sleep 60")
      local worker <close> = assert(core.worker.start(host))
      fails("ETIMEDOUT", worker:receive(0.2))
      fails("ETIMEDOUT", worker:receive(0))
    end)
  end)

  it("is not waited for when we are interrupted", function()
    local output = child.run([[
      core.system.catch_signals()
      local worker <close> = core.worker.start(core.system.host(), { instructions = 1 << 50 })
      worker:send("start", "while true do end")
      os.execute("(sleep 0.1; kill -INT " .. core.system.pid() .. ") &")
      local began = core.system.monotonic()
      print(select(3, worker:receive(60)))
      print(select(3, worker:receive(60)))
      print(core.system.monotonic() - began < 30)
    ]])
    assert.equal("EINTR\nEINTR\ntrue\n", output)
  end)

  it("is not started from what is no program", function()
    fails("ENOENT", core.worker.start("/none/praxlua"))
    fails("EACCES", core.worker.start("/etc/passwd"))
    assert.equal(descriptors, helper.descriptors())
    assert.error(function() core.worker.start() end)
    assert.error(function() core.worker.start("") end)
  end)

  it("has the prelude that runs phase scripts", function()
    local prelude = assert(resources.source("lua/praxlua/worker.lua"))
    local kind, described = run(prelude, nil, "describe", "x.lua", "return { title = 'x' }", {})
    assert.equal("result", kind)
    assert.same({ title = "x", runs = false }, described)
  end)
end)
