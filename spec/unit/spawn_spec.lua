--- core.spawn: child processes, the watchers of those that are not detached, and their records.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local spawn, system = core.spawn, core.system

local SH = "/bin/sh"
local PATH = { PATH = "/usr/local/bin:/usr/bin:/bin" }
local LONG = 30 -- seconds no test takes unless something is wrong

local function until_true(condition)
  local deadline = system.monotonic() + LONG
  while not condition() do
    if system.monotonic() > deadline then return false end
    system.sleep(0.005)
  end
  return true
end

local function alive(pid)
  spawn.reap()
  local found = system.process(pid)
  return found ~= nil and found.state ~= "Z"
end

local function dies(pid)
  return until_true(function() return not alive(pid) end)
end

-- Everything a child writes until its streams are at their end.
local function output(child)
  local parts = { stdout = {}, stderr = {} }
  while true do
    local stream, chunk, code = child:read(LONG)
    if not stream then
      assert.equal("EPIPE", code, chunk)
      return table.concat(parts.stdout), table.concat(parts.stderr)
    end
    table.insert(parts[stream], chunk)
  end
end

local function read_line(child)
  local line = ""
  repeat
    local stream, chunk = child:read(LONG)
    assert.equal("stdout", stream, chunk)
    line = line .. chunk
  until line:find("\n", 1, true)
  return (line:gsub("\n$", ""))
end

-- Another Lua that has the modules under test. It writes on the pipe as print does. With `detach`
-- what it leaves behind is not ended with it.
local function start_lua(code, detach)
  local environment = system.environment()
  environment.LUA_PATH, environment.LUA_CPATH = package.path, package.cpath
  environment.LUA_PATH_5_4, environment.LUA_CPATH_5_4 = nil, nil
  return assert(spawn.start({
    argv = { SH, "-c", 'exec "${LUA:-lua5.4}" -e "$1"', "sh", "io.stdout:setvbuf('no') " .. code },
    environment = environment, stdin = "pipe", stdout = "pipe", stderr = "stdout",
    detach = detach or false,
  }))
end

-- The descriptors of a process, once its program has closed those it needs only to be loaded.
local function settled_descriptors(pid)
  local open
  until_true(function()
    open = {}
    for name in lfs.dir(("/proc/%d/fd"):format(pid)) do
      if name:find("^%d+$") then open[#open + 1] = name end
    end
    table.sort(open)
    return #open == 3
  end)
  return open
end

local function field_of_status(pid, name)
  for line in io.lines(("/proc/%d/status"):format(pid)) do
    local value = line:match("^" .. name .. ":%s*(.*)$")
    if value then return value end
  end
end

describe("a child", function()
  local function shell(script, options)
    options = options or {}
    options.argv = { SH, "-c", script }
    options.environment = options.environment or PATH
    options.stdout = options.stdout or "pipe"
    options.stderr = options.stderr or "pipe"
    return assert(spawn.start(options))
  end

  local descriptors
  before_each(function()
    -- The event loop opens descriptors of its own at its first child and at its first pipe.
    spawn.start({ argv = { "/bin/true" }, stdout = "pipe" }):wait(LONG)
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    spawn.reap()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  it("reports the exit status", function()
    local child <close> = shell("exit 7")
    assert.same({ code = 7, signal = 0 }, child:wait(LONG))
    assert.same({ code = 7, signal = 0 }, child:wait(0))
  end)

  it("reports the signal that ended it", function()
    local child <close> = shell("kill -USR1 $$")
    assert.same({ code = 0, signal = 10 }, child:wait(LONG))
  end)

  it("is not left as a zombie once it was waited for", function()
    local child <close> = shell("echo x")
    child:wait(LONG)
    assert.is_nil(system.process(child:pid()))
  end)

  it("keeps its output for reading after its end", function()
    local child <close> = shell("echo out; echo err >&2")
    child:wait(LONG)
    local out, err = output(child)
    assert.equal("out\n", out)
    assert.equal("err\n", err)
  end)

  it("gets its arguments as they are", function()
    local argv = { "/usr/bin/printf", "%s|", "", "a b", "$HOME;*", "--", "\xff\n" }
    local child <close> = assert(spawn.start({ argv = argv, stdout = "pipe" }))
    assert.equal("|a b|$HOME;*|--|\xff\n|", (output(child)))
  end)

  it("has exactly the environment it was given", function()
    local child <close> = assert(spawn.start({
      argv = { "/usr/bin/env", "-0" }, stdout = "pipe",
      environment = { A = "b=c d", EMPTY = "" },
    }))
    local seen = {}
    for variable in output(child):gmatch("(%Z*)%z") do seen[#seen + 1] = variable end
    table.sort(seen)
    assert.same({ "A=b=c d", "EMPTY=" }, seen)
  end)

  it("has an empty environment when none was given", function()
    local child <close> = assert(spawn.start({ argv = { "/usr/bin/env" }, stdout = "pipe" }))
    assert.equal("", (output(child)))
  end)

  it("runs in the directory it was given, and finds a relative program there", function()
    local directory = helper.tempdir()
    helper.write(directory .. "/here.sh", "#!/bin/sh\npwd -P\n")
    assert(os.execute("chmod 755 " .. directory .. "/here.sh"))
    local child <close> = assert(spawn.start({
      argv = { "./here.sh" }, directory = directory, environment = PATH, stdout = "pipe",
    }))
    assert.equal(assert(core.file.realpath(directory)) .. "\n", (output(child)))
  end)

  it("has a process group and a session of its own", function()
    local child <close> = shell("read x", { stdin = "pipe" })
    assert.equal(child:pid(), system.process(child:pid()).pgid)
    assert.not_equal(system.process(system.pid()).pgid, child:pid())
  end)

  it("has the default signals, whatever ours are", function()
    local child <close> = shell("exec sleep 60")
    assert(until_true(function() return system.process(child:pid()).argv[1] == "sleep" end))
    -- Of the standard signals: glibc's posix_spawn leaves its own 32 and 33 ignored for good in
    -- whatever make or a shell starts.
    assert.equal(0, tonumber(field_of_status(child:pid(), "SigIgn"), 16) & 0x7fffffff)
    assert.truthy(field_of_status(child:pid(), "SigBlk"):match("^0+$"))
  end)

  it("inherits nothing but its stdio", function()
    local leak <close> = assert(io.open("/dev/null")) -- Lua opens without close-on-exec
    assert(leak)
    local child <close> = shell("exec sleep 60")
    assert(until_true(function() return system.process(child:pid()).argv[1] == "sleep" end))
    assert.same({ "0", "1", "2" }, settled_descriptors(child:pid()))
  end)

  it("reads nothing and is heard by nobody when its stdio is null", function()
    local child <close> = assert(spawn.start({
      argv = { SH, "-c", "cat; echo x && echo y >&2" }, environment = PATH,
    }))
    assert.same({ code = 0, signal = 0 }, child:wait(LONG))
    assert.same({ nil, "closed", "EPIPE" }, { child:read(0) })
  end)

  it("answers what is written to it", function()
    local child <close> = assert(spawn.start({
      argv = { "/bin/cat" }, stdin = "pipe", stdout = "pipe",
    }))
    for i = 1, 20 do
      assert.is_true(child:write(("line %d\n"):format(i), LONG))
      assert.equal(("line %d"):format(i), read_line(child))
    end
    child:close_stdin()
    child:close_stdin()
    assert.same({ code = 0, signal = 0 }, child:wait(LONG))
  end)

  it("reads stdin.data to its end", function()
    local data = ("0123456789abcdef"):rep(256 * 1024)
    local child <close> = assert(spawn.start({
      argv = { "/bin/cat" }, stdin = { data = data }, stdout = "pipe",
    }))
    assert.is_true(output(child) == data)
  end)

  it("does not deadlock when it fills both streams while it is written to", function()
    local data = ("x"):rep(4 * 1024 * 1024)
    local child <close> = shell("exec tee /dev/stderr", { stdin = "pipe" })
    assert.is_true(child:write(data, LONG))
    child:close_stdin()
    local out, err = output(child)
    assert.is_true(out == data and err == data)
  end)

  it("waits for a reader that does not read, and loses nothing", function()
    local child <close> = shell("exec head -c 3000000 /dev/zero")
    local _, first = assert(child:read(LONG))
    local total = #first
    assert(until_true(function() -- more than the pipe holds and we read ahead: it has to wait
      local head = system.process(child:pid())
      return head.state == "S" and head.argv[1] == "head"
    end))
    for stream, chunk in function() return child:read(LONG) end do
      assert.equal("stdout", stream)
      total = total + #chunk
    end
    assert.equal(3000000, total)
    assert.same({ code = 0, signal = 0 }, child:wait(LONG))
  end)

  it("is not read without bounds while we are busy with another one", function()
    local flood <close> = shell("exec cat /dev/zero")
    local other <close> = shell("exec sleep 60")
    assert.equal("stdout", (flood:read(LONG)))
    local before = tonumber(field_of_status(system.pid(), "VmRSS"):match("%d+"))
    other:wait(0.3)
    local after = tonumber(field_of_status(system.pid(), "VmRSS"):match("%d+"))
    assert.is_true(after - before < 64 * 1024, "KiB more: " .. after - before)
  end)

  it("appends to a file that only its owner may read", function()
    local path = helper.tempdir() .. "/log"
    for _, word in ipairs({ "one", "two" }) do
      local child <close> = shell("echo " .. word .. "; echo " .. word .. "err >&2",
        { stdout = { file = path }, stderr = "stdout" })
      child:wait(LONG)
    end
    assert.equal("one\noneerr\ntwo\ntwoerr\n", helper.read(path))
    assert.equal("rw-------", lfs.attributes(path, "permissions"))
  end)

  it("sends stderr where stdout goes when asked to", function()
    local child <close> = shell("echo a; echo b >&2; echo c", { stderr = "stdout" })
    assert.equal("a\nb\nc\n", (output(child)))
  end)

  it("lets a wait run into its time limit, and goes on", function()
    local child <close> = shell("read x; exit 3", { stdin = "pipe" })
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { child:read(0.02) })
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { child:wait(0.02) })
    assert.is_true(child:write("x\n", LONG))
    assert.same({ code = 3, signal = 0 }, child:wait(LONG))
  end)

  it("ends a write that nobody takes, and closes stdin because the data was cut", function()
    local child <close> = shell("exec sleep 60", { stdin = "pipe" })
    local _, message, code = child:write(("x"):rep(1024 * 1024), 0.05)
    assert.same({ "timeout", "ETIMEDOUT" }, { message, code })
    assert.equal("EPIPE", select(3, child:write("more", LONG)))
  end)

  it("reports a closed stdin as EPIPE and does not kill us by SIGPIPE", function()
    local child <close> = shell("exec <&-; echo closed; read x <&1", { stdin = "pipe" })
    assert.equal("closed", read_line(child))
    assert.equal("EPIPE", select(3, child:write("x", LONG)))
    child:stop(0)
    assert.equal("EPIPE", select(3, child:write("x", LONG)))
  end)

  it("ends at SIGTERM when stopped, without waiting for the grace", function()
    local child <close> = shell("exec sleep 60")
    local began = system.monotonic()
    assert.same({ code = 0, signal = 15 }, child:stop(LONG))
    assert.is_true(system.monotonic() - began < LONG / 2)
    assert.is_nil(system.process(child:pid()))
  end)

  it("is killed when it ignores SIGTERM", function()
    local child <close> = shell("trap '' TERM; echo ready; while :; do sleep 60; done")
    assert.equal("ready", read_line(child))
    assert.same({ code = 0, signal = 9 }, child:stop(0.05))
  end)

  it("takes its group with it when stopped", function()
    local child <close> = shell("sleep 60 & echo $!; wait")
    local grandchild = tonumber(read_line(child))
    assert.is_true(alive(grandchild))
    child:stop(LONG)
    assert.is_true(dies(grandchild))
  end)

  it("takes a grandchild that ignores SIGTERM with it when stopped", function()
    local child <close> = shell([[
      (trap '' TERM; echo ready; while :; do sleep 60; done) & echo $!; wait]])
    local text = ""
    repeat text = text .. read_line(child) .. "\n" until text:find("ready") and text:find("%d\n")
    local grandchild = tonumber(text:match("%d+"))
    child:stop(LONG)
    assert.is_true(dies(grandchild))
  end)

  it("ends what it left in its group soon after its own end", function()
    local child <close> = shell("sleep 60 & echo $!")
    local grandchild = tonumber((output(child)))
    assert.same({ code = 0, signal = 0 }, child:wait(LONG))
    assert.is_true(dies(grandchild))
  end)

  it("lets output come on after its end", function()
    local child <close> = shell("(sleep 0.2; echo late) & echo early")
    assert.equal("early\nlate\n", (output(child)))
  end)

  it("is read to a conclusion when a process that left the group holds its streams", function()
    local child <close> = shell("setsid sh -c 'echo $$; exec sleep 60' &")
    local escaped = tonumber((output(child)))
    assert.same({ code = 0, signal = 0 }, child:wait(LONG))
    assert.is_true(dies(escaped))
  end)

  it("ends with its group when Lua forgets it", function()
    local pid, grandchild
    do
      local child = shell("sleep 60 & echo $!; wait")
      pid, grandchild = child:pid(), tonumber(read_line(child))
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(system.process(pid), "it was not reaped")
    assert.is_true(dies(grandchild))
  end)

  it("is not disturbed by the collection of others", function()
    local kept <close> = assert(spawn.start({
      argv = { "/bin/cat" }, stdin = "pipe", stdout = "pipe",
    }))
    for i = 1, 30 do
      shell("exec sleep 60")
      if i % 10 == 0 then collectgarbage() end
      assert.is_true(kept:write(i .. "\n", LONG))
      assert.equal(tostring(i), read_line(kept))
    end
    kept:close_stdin()
    assert.same({ code = 0, signal = 0 }, kept:wait(LONG))
    collectgarbage()
    collectgarbage()
    for _, pid in ipairs(system.children(system.pid())) do
      assert.not_equal("Z", (system.process(pid) or {}).state, "a zombie is left")
    end
  end)

  it("is refused when the program cannot be executed, with the reason", function()
    local directory = helper.tempdir()
    helper.write(directory .. "/plain", "#!/bin/sh\n")
    local cases = {
      { argv = { directory .. "/absent" }, code = "ENOENT", says = "absent" },
      { argv = { directory .. "/plain" }, code = "EACCES", says = "plain" },
      { argv = { directory }, code = "EACCES", says = directory },
      { argv = { "/bin/true" }, directory = "/no/such", code = "ENOENT", says = "/no/such" },
      { argv = { "/bin/true" }, directory = "/bin/true", code = "ENOTDIR", says = "directory" },
      { argv = { "/bin/true" }, stdout = { file = "/no/log" }, code = "ENOENT", says = "log" },
      { argv = {}, code = "EINVAL", says = "argv is empty" },
      { argv = { "true" }, code = "EINVAL", says = "not a path" },
      { argv = { "/bin/true", "a\0b" }, code = "EINVAL", says = "NUL" },
      { argv = { "/bin/true\0x" }, code = "EINVAL", says = "NUL" },
      { argv = { "/bin/true" }, directory = "/\0", code = "EINVAL", says = "NUL" },
      { argv = { "/bin/true" }, environment = { ["A=B"] = "c" }, code = "EINVAL", says = "name" },
      { argv = { "/bin/true" }, environment = { [""] = "c" }, code = "EINVAL", says = "name" },
      { argv = { "/bin/true" }, environment = { ["A\0"] = "c" }, code = "EINVAL", says = "name" },
      { argv = { "/bin/true" }, environment = { A = "\0" }, code = "EINVAL", says = "value" },
    }
    for _, case in ipairs(cases) do
      local child, message, code = spawn.start(case)
      assert.is_nil(child)
      assert.equal(case.code, code, message)
      assert.truthy(message:find(case.says, 1, true), message)
    end
  end)

  it("raises on misuse", function()
    for _, options in ipairs({
      {},
      { argv = "/bin/true" },
      { argv = { 1 } },
      { argv = { "/bin/true" }, stdin = "inherit" },
      { argv = { "/bin/true" }, stdout = "stdout" },
      { argv = { "/bin/true" }, stdout = {} },
      { argv = { "/bin/true" }, environment = { A = 1 } },
      { argv = { "/bin/true" }, directory = 1 },
    }) do
      assert.has_error(function() spawn.start(options) end)
    end
    local child <close> = shell("exit 0")
    assert.has_error(function() child:wait(-1) end)
    assert.has_error(function() child:release() end)
  end)
end)

describe("a closed stdin", function()
  it("does not kill a process that has the default for SIGPIPE", function()
    local praxlua <close> = start_lua([[
      local spawn = require("praxlua.core").spawn
      local child = spawn.start({ argv = { "/bin/sh", "-c", "exec <&-; echo; exec sleep 60" },
        environment = { PATH = "/usr/bin:/bin" }, stdin = "pipe", stdout = "pipe" })
      child:read(60)
      print(select(3, child:write("x", 60)))
      child:stop(0)]])
    local text = output(praxlua)
    assert.equal("EPIPE\n", text)
    assert.same({ code = 0, signal = 0 }, praxlua:wait(LONG))
  end)
end)

-- A child that starts processes which leave it behind in every way there is, and tells their
-- numbers: in its group, in a session of its own, orphaned, and both.
local FAMILY = [[
  sleep 61 & echo $!
  setsid sh -c 'echo $$; exec sleep 62' &
  (sh -c 'echo $$; exec sleep 63' &)
  (setsid sh -c 'echo $$; trap "" TERM HUP INT; sleep 64; sleep 65' &)
]]

local function read_numbers(child, count)
  local text = ""
  repeat text = text .. read_line(child) .. "\n" until select(2, text:gsub("\n", "")) == count
  local numbers = {}
  for number in text:gmatch("%d+") do numbers[#numbers + 1] = tonumber(number) end
  assert.equal(count, #numbers)
  return numbers
end

local function all_die(pids)
  for _, pid in ipairs(pids) do assert.is_true(dies(pid), "process " .. pid .. " lives on") end
end

describe("the watcher of a child", function()
  after_each(helper.clean)

  local function start(script, options)
    options = options or {}
    options.argv, options.environment = { SH, "-c", script }, PATH
    options.stdout = "pipe"
    return assert(spawn.start(options))
  end

  -- A praxlua that has started the family: its handle, and the numbers of child, watcher, family.
  local function praxlua_with_family(after, options)
    local praxlua = start_lua(([[
      local core = require("praxlua.core")
      local child = core.spawn.start({ argv = { "/bin/sh", "-c", %q }, stdout = "pipe",
        environment = { PATH = "/usr/bin:/bin" }, %s })
      print(child:pid())
      print(core.system.process(child:pid()).ppid)
      local text = ""
      while select(2, text:gsub("\n", "")) < 4 do text = text .. select(2, child:read(60)) end
      io.write(text)
      %s]]):format(FAMILY .. "\nwait; sleep 66", options or "", after), true)
    return praxlua, read_numbers(praxlua, 6)
  end

  it("ends it and all that descends from it when praxlua is killed", function()
    local praxlua, pids = praxlua_with_family("io.read()")
    for _, pid in ipairs(pids) do assert.is_true(alive(pid)) end
    assert(system.signal(praxlua:pid(), "KILL"))
    all_die(pids)
    assert.equal(9, praxlua:wait(LONG).signal)
  end)

  it("ends with praxlua, and all with it, when that just ends", function()
    local praxlua, pids = praxlua_with_family("os.exit(3, false)")
    assert.equal(3, praxlua:wait(LONG).code)
    all_die(pids)
  end)

  it("is not reached by signals to praxlua's group, and takes no notice of its own", function()
    local praxlua, pids = praxlua_with_family("io.read()")
    for _, name in ipairs({ "INT", "TERM", "HUP" }) do assert(system.signal(pids[2], name)) end
    assert.equal(pids[1], system.process(pids[1]).session)
    assert.equal(pids[2], system.process(pids[2]).session)
    system.sleep(0.05)
    for _, pid in ipairs(pids) do assert.is_true(alive(pid)) end
    assert(system.signal(praxlua:pid(), "KILL"))
    all_die(pids)
  end)

  it("takes the child with it when somebody kills it, and praxlua does the rest", function()
    local child <close> = start("sleep 60 & echo $!; wait")
    local pids = { child:pid(), read_numbers(child, 1)[1] }
    assert(system.signal(system.process(child:pid()).ppid, "KILL"))
    assert.same({ code = 0, signal = 9 }, child:wait(LONG))
    all_die(pids)
  end)

  it("takes the child with it even where praxlua can do nothing about it", function()
    local praxlua, pids = praxlua_with_family("io.read()")
    assert(os.execute("kill -STOP " .. praxlua:pid()))
    assert(system.signal(pids[2], "KILL"))
    local ended = until_true(function() return not alive(pids[1]) end)
    assert(os.execute("kill -CONT " .. praxlua:pid()))
    assert(system.signal(praxlua:pid(), "KILL"))
    for i = 3, 6 do -- nobody is left to end them
      os.execute(("kill -KILL %d -%d 2> /dev/null"):format(pids[i], pids[i]))
    end
    assert.is_true(ended)
  end)

  it("holds nothing but its socket", function()
    local leak <close> = assert(io.open("/dev/null"))
    assert(leak)
    local child <close> = start("exec sleep 60")
    local watcher = system.process(child:pid()).ppid
    local open = {}
    for name in lfs.dir(("/proc/%d/fd"):format(watcher)) do
      local target = lfs.symlinkattributes(("/proc/%d/fd/%s"):format(watcher, name), "target")
      if name:find("^%d+$") then open[#open + 1] = target:match("^%a+") or target end
    end
    table.sort(open)
    assert.same({ "/dev/null", "/dev/null", "/dev/null", "socket" }, open)
  end)

  it("ends what left the group when the child is stopped, or has ended", function()
    local stopped <close> = start(FAMILY .. "\nwait; sleep 60")
    local pids = read_numbers(stopped, 4)
    assert.same({ code = 0, signal = 15 }, stopped:stop(LONG))
    all_die(pids)
    local ended <close> = start(FAMILY)
    pids = read_numbers(ended, 4)
    assert.same({ code = 0, signal = 0 }, ended:wait(LONG))
    all_die(pids)
    assert.is_nil(system.process(ended:pid()))
  end)

  it("waits for what is orphaned and ends, so that no zombie is left", function()
    local child <close> = start("for i in 1 2 3 4 5; do (sh -c 'exit 3' &); done; echo; read x",
      { stdin = "pipe" })
    local watcher = system.process(child:pid()).ppid
    read_line(child)
    assert.is_true(until_true(function() return #system.children(watcher) == 1 end))
    child:close_stdin()
    assert.same({ code = 1, signal = 0 }, child:wait(LONG))
    assert.is_nil(system.process(watcher))
  end)

  it("tells why the program could not be executed", function()
    local path = helper.tempdir() .. "/no-interpreter"
    helper.write(path, "echo not for a shell\n")
    assert(os.execute("chmod 755 " .. path))
    local child, message, code = spawn.start({ argv = { path }, record = helper.tempdir() })
    assert.is_nil(child)
    assert.equal("ENOEXEC", code)
    assert.truthy(message:find(path, 1, true))
    assert.same({}, system.children(system.pid()))
  end)
end)

describe("the record of a child", function()
  after_each(helper.clean)

  local function names(directory)
    local found = {}
    for name in lfs.dir(directory) do
      if name ~= "." and name ~= ".." then found[#found + 1] = name end
    end
    return found
  end

  local function start(script, directory)
    return assert(spawn.start({
      argv = { SH, "-c", script }, environment = PATH, stdin = "pipe", stdout = "pipe",
      record = directory,
    }))
  end

  -- What the record of a process says if it is right.
  local function expected(pid)
    local own = system.process(pid)
    local watcher = system.process(own.ppid)
    return ("%d %d %d %s"):format(own.start_time, watcher.pid, watcher.start_time, system.boot_id())
  end

  it("is there before its program runs, and goes with it", function()
    local directory = helper.tempdir()
    local child <close> = start("ls " .. directory .. "; read x", directory)
    local name = "child-" .. child:pid()
    assert.equal(name, read_line(child))
    assert.equal(expected(child:pid()), lfs.symlinkattributes(directory .. "/" .. name, "target"))
    child:close_stdin()
    child:wait(LONG)
    assert.same({}, names(directory))
  end)

  it("goes when the child is killed, and when praxlua is", function()
    local directory = helper.tempdir()
    local child = start("exec sleep 60", directory)
    assert.equal(1, #names(directory))
    child:stop(0)
    assert.same({}, names(directory))
    local praxlua = start_lua(([[
      local spawn = require("praxlua.core").spawn
      local child = spawn.start({ argv = { "/bin/sleep", "60" }, record = %q })
      print(child:pid())
      io.read()]]):format(directory), true)
    local pid = tonumber(read_line(praxlua))
    assert.same({ "child-" .. pid }, names(directory))
    assert(system.signal(praxlua:pid(), "KILL"))
    assert.is_true(until_true(function() return #names(directory) == 0 end))
    assert.is_false(alive(pid))
    praxlua:wait(LONG)
  end)

  it("stays until what the child left behind has gone, too", function()
    local directory = helper.tempdir()
    local child <close> = start("setsid sh -c 'echo $$; exec sleep 60' & read x", directory)
    local escaped = tonumber(read_line(child))
    assert(system.signal(child:pid(), "KILL"))
    assert.is_true(dies(child:pid()))
    assert.is_true(alive(escaped))
    assert.equal(1, #names(directory))
    child:wait(LONG)
    assert.is_false(alive(escaped))
    assert.same({}, names(directory))
  end)

  it("takes the place of one that an earlier process of that number has left", function()
    local directory = helper.tempdir()
    local first <close> = start("read x", directory)
    for pid = first:pid() + 1, first:pid() + 500 do -- one of them will be ours
      assert(lfs.link("1 2 3 of another boot", directory .. "/child-" .. pid, true))
    end
    local child <close> = start("read x", directory)
    local path = directory .. "/child-" .. child:pid()
    assert.equal(expected(child:pid()), lfs.symlinkattributes(path, "target"))
    child:stop(0)
    assert.is_nil(lfs.symlinkattributes(path))
  end)

  it("hinders nobody when it cannot be made", function()
    for _, directory in ipairs({ "/no/such/folder", "/proc", "/" .. ("x"):rep(600) }) do
      local child <close> = start("exit 5", directory)
      assert.same({ code = 5, signal = 0 }, child:wait(LONG))
    end
    assert.has_error(function() start("true", "relative") end)
    assert.equal("EINVAL", select(3, spawn.start({ argv = { "/bin/true" }, record = "/\0" })))
  end)
end)

describe("a detached child", function()
  after_each(helper.clean)

  local function start(script, options)
    options = options or {}
    options.argv, options.environment, options.detach = { SH, "-c", script }, PATH, true
    return assert(spawn.start(options))
  end

  it("survives the process that started it, and holds nothing but its stdio", function()
    local praxlua <close> = start_lua([[
      local spawn = require("praxlua.core").spawn
      leak = io.open("/dev/null")
      local child = spawn.start({ argv = { "/bin/sleep", "60" }, detach = true })
      print(child:pid())
      child:release()
      print(tostring(child), pcall(child.pid, child))]], true)
    local text = output(praxlua)
    local pid = tonumber(text:match("^%d+"))
    assert.truthy(text:find("process (released)\tfalse", 1, true), text)
    assert.same({ code = 0, signal = 0 }, praxlua:wait(LONG))
    assert.is_true(alive(pid))
    assert.equal(pid, system.process(pid).pgid)
    assert.same({ "0", "1", "2" }, settled_descriptors(pid))
    assert(system.signal(pid, "KILL"))
    assert.is_true(dies(pid))
  end)

  it("survives the death of the process that started it", function()
    local praxlua <close> = start_lua([[
      local spawn = require("praxlua.core").spawn
      local child = spawn.start({ argv = { "/bin/sleep", "60" }, detach = true })
      print(child:pid())
      io.read()]], true)
    local pid = tonumber(read_line(praxlua))
    assert(system.signal(praxlua:pid(), "KILL"))
    assert.same({ code = 0, signal = 9 }, praxlua:wait(LONG))
    assert.is_true(alive(pid))
    assert(system.signal(pid, "KILL"))
  end)

  it("is not touched by a release or a collection, and leaves no zombie", function()
    local child = start("exec sleep 60")
    local pid = child:pid()
    child:release()
    child = nil -- luacheck: ignore
    collectgarbage()
    assert.is_true(alive(pid))
    local forgotten = start("exec sleep 60"):pid()
    collectgarbage()
    collectgarbage()
    assert.is_true(alive(forgotten))
    for _, one in ipairs({ pid, forgotten }) do
      assert(system.signal(one, "KILL"))
      assert.is_true(until_true(function()
        spawn.reap()
        return system.process(one) == nil
      end))
    end
  end)

  it("can be waited for and stopped with its group", function()
    local log = helper.tempdir() .. "/log"
    local child = start("sleep 60 & echo $!; wait", { stdout = { file = log } })
    assert.equal("ETIMEDOUT", select(3, child:wait(0)))
    assert(until_true(function() return (helper.read(log) or ""):find("\n") end))
    local grandchild = tonumber(helper.read(log))
    assert.equal(15, child:stop(LONG).signal)
    assert.is_true(dies(grandchild))
    local short = start("exit 4")
    assert.same({ code = 4, signal = 0 }, short:wait(LONG))
  end)

  it("leaves its group alone when it ends by itself", function()
    local log = helper.tempdir() .. "/log"
    local child = start("sleep 60 & echo $!", { stdout = { file = log } })
    assert.same({ code = 0, signal = 0 }, child:wait(LONG))
    local grandchild = tonumber(helper.read(log))
    assert.is_true(alive(grandchild))
    assert(system.signal(grandchild, "KILL"))
  end)
end)

describe("a caught signal", function()
  -- A praxlua that catches signals and is sent one while it does `code`; what it prints then.
  local function interrupt(code)
    local praxlua <close> = start_lua([[
      local core = require("praxlua.core")
      core.system.catch_signals()
      local child = core.spawn.start({ argv = { "/bin/sleep", "60" }, stdin = "pipe",
        stdout = "pipe" })
      print("ready")
    ]] .. code .. [[
      core.system.clear_interrupt()
      print(child:stop(60) ~= nil)]])
    assert.equal("ready", read_line(praxlua))
    assert(system.signal(praxlua:pid(), "INT"))
    local text = output(praxlua)
    assert.same({ code = 0, signal = 0 }, praxlua:wait(LONG), text)
    return text
  end

  for name, call in pairs({
    read = "child:read(60)", wait = "child:wait(60)", write = "child:write(('x'):rep(1e6), 60)",
  }) do
    it("ends a " .. name, function()
      assert.equal("nil\tinterrupted\tEINTR\ntrue\n", interrupt("print(" .. call .. ")\n"))
    end)
  end

  it("shortens the grace of a stop: whoever sent it waits for us", function()
    assert.equal("9\ttrue\ntrue\n", interrupt([[
      child:wait(60)
      core.system.clear_interrupt()
      local stubborn = core.spawn.start({ argv = { "/bin/sh", "-c",
        "trap '' TERM; echo; while :; do sleep 60; done" }, stdout = "pipe" })
      stubborn:read(60)
      core.system.signal(core.system.pid(), "INT")
      local began = core.system.monotonic()
      print(stubborn:stop(60).signal, core.system.monotonic() - began < 30)
    ]]))
  end)

  it("ends every wait until it is cleared, and does not hinder a stop", function()
    assert.equal("EINTR\tEINTR\tETIMEDOUT\n15\t15\nEINTR\ntrue\n", interrupt([[
      local function code(...) return (select(3, ...)) end
      local first, second = code(child:wait(60)), code(child:read(60))
      core.system.clear_interrupt()
      print(first, second, code(child:read(0)))
      core.system.signal(core.system.pid(), "INT")
      print(child:stop(60).signal, child:wait(0).signal)
      print((code(core.spawn.start({ argv = { "/bin/sleep", "60" } }))))
    ]]))
  end)
end)

describe("The module", function()
  after_each(helper.clean)

  -- Lua closes its libraries last; a child may end at any time, the end of the process included.
  it("stays in its process when Lua closes it, for signals that are still to come", function()
    local script = helper.tempdir() .. "/script.lua"
    helper.write(script, [[
      local core = require("praxlua.core")
      core.spawn.start({ argv = { "/bin/true" } }):wait(30)
      local libraries = debug.getregistry()._CLIBS
      getmetatable(libraries).__gc(libraries)
      os.execute("kill -CHLD $PPID")
      print("alive")
      io.stdout:flush()
      os.exit(0, false)
    ]])
    local lua = os.getenv("LUA") or "lua5.4"
    assert.equal("alive", helper.output_of("%s %s", lua, script))
  end)
end)
