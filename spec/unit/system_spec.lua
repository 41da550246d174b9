--- core.system: against the tools that know the same things.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local fails, output_of = helper.fails, helper.output_of

local system = core.system

describe("core.system", function()
  local directory, descriptors
  before_each(function()
    directory = helper.tempdir()
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  describe("time and identity", function()
    it("makes random UUIDs of version 4", function()
      local seen = {}
      for _ = 1, 1000 do
        local uuid = system.uuid()
        assert.truthy(uuid:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x+$"), uuid)
        assert.equal(36, #uuid)
        assert.equal(uuid:lower(), uuid)
        assert.is_nil(seen[uuid])
        seen[uuid] = true
      end
    end)

    it("agrees with date, hostname, id and the kernel", function()
      assert.is_true(math.abs(tonumber(output_of("date +%s")) - system.now() // 1000000000) <= 1)
      assert.equal(output_of("uname -n"), system.hostname())
      assert.equal(output_of("id -u"), tostring(system.euid()))
      assert.equal(output_of("cat /proc/sys/kernel/random/boot_id"), system.boot_id())
      assert.equal(output_of("getconf CLK_TCK"), tostring(system.clock_ticks()))
      local uptime = tonumber(output_of("cut -d' ' -f1 /proc/uptime"))
      assert.is_true(math.abs(uptime - system.uptime()) < 1)
      assert.equal(output_of("uname -r"), system.versions().kernel)
    end)

    it("names the versions of what it is made of", function()
      for _, name in ipairs({ "openssl", "libuv", "libarchive" }) do
        assert.truthy(system.versions()[name]:find("^%d+%.%d+"), name)
      end
      assert.truthy(system.versions().lua:find("^Lua 5%.4%.%d"))
    end)

    it("sleeps as long as it is told", function()
      local before = system.monotonic()
      assert.is_true(system.sleep(0.05))
      local took = system.monotonic() - before
      assert.is_true(took >= 0.05 and took < 2)
      assert.is_true(system.sleep(0))
      assert.is_true(system.sleep(-1))
      assert.has_error(function() system.sleep(0 / 0) end)
      assert.has_error(function() system.sleep(math.huge) end)
    end)
  end)

  describe("process", function()
    it("describes this process", function()
      local own = assert(system.process(system.pid()))
      assert.equal(system.pid(), own.pid)
      assert.equal(system.ppid(), own.ppid)
      assert.equal(output_of("readlink /proc/" .. own.pid .. "/exe"), own.executable)
      assert.equal(output_of("pwd -P"), own.directory)
      assert.equal("R", own.state)
      assert.equal(tonumber(output_of("ps -o pgid= -p " .. own.pid)), own.pgid)
      assert.equal(tonumber(output_of("ps -o sid= -p " .. own.pid)), own.session)
      local argv = helper.read("/proc/self/cmdline")
      assert.equal(argv, table.concat(own.argv, "\0") .. "\0")
    end)

    it("knows when a process started", function()
      local before = system.uptime()
      local other = child.start("print(core.system.pid()) core.system.sleep(60)")
      local started = system.process(other.pid).start_time / system.clock_ticks()
      local after = system.uptime()
      other.kill()
      assert.is_true(started >= before - 0.02 and started <= after + 0.02)
    end)

    it("is not deceived by a name, and keeps empty arguments", function()
      -- The kernel writes the file's name into /proc/PID/stat between parentheses.
      local name = directory .. "/x) R 1 1"
      assert(os.execute(("cp $(command -v tail) %s"):format(command.quote(name))))
      local pid = tonumber(output_of(("%s -f /dev/null '' >/dev/null 2>&1 & echo $!")
        :format(command.quote(name))))
      local found
      command.until_true(function()
        found = assert(system.process(pid))
        return found.executable == name
      end, 10)
      os.execute("kill -KILL " .. pid)
      assert.equal(name, found.executable)
      assert.same({ name, "-f", "/dev/null", "" }, found.argv)
      assert.not_equal(1, found.pgid)
      assert.is_true(found.start_time > 1000)
    end)

    it("is nil when there is none", function()
      local other = child.start("print(core.system.pid()) core.system.sleep(60)")
      assert.is_table(system.process(other.pid))
      other.kill()
      assert.is_nil(system.process(other.pid))
      for _, pid in ipairs({ 0, -1, 4194305, 1 << 40, math.mininteger }) do
        assert.is_nil(system.process(pid))
      end
    end)

    it("shows a child that was not waited for as a zombie", function()
      local pipe = io.popen("true")
      local pid
      assert(command.until_true(function()
        for _, one in ipairs(system.children(system.pid())) do
          local found = system.process(one)
          if found and found.state == "Z" then pid = one end
        end
        return pid
      end, 10))
      assert.same({}, system.process(pid).argv)
      assert.is_nil(system.process(pid).executable)
      pipe:close()
      assert.is_nil(system.process(pid))
    end)

    it("lists children", function()
      local a = child.start("print(core.system.pid()) core.system.sleep(60)")
      local b = child.start("print(core.system.pid()) core.system.sleep(60)")
      local found = {}
      for _, pid in ipairs(system.children(system.pid())) do found[pid] = true end
      assert.same({}, system.children(a.pid))
      a.kill()
      b.kill()
      assert.is_true(found[a.pid] and found[b.pid])
    end)

    it("lists a session", function()
      local pipe = assert(io.popen("exec setsid sh -c 'echo $$; sleep 60 & echo $!; wait'"))
      local leader, member = pipe:read("n", "n")
      local found = system.session(leader)
      table.sort(found)
      assert.same({ leader, member }, found)
      os.execute("kill -KILL " .. leader)
      assert.is_true(command.until_true(function() -- ended, but not waited for
        local info = system.process(leader)
        return not info or info.state == "Z"
      end, 10))
      local left = {}
      for _, pid in ipairs(system.session(leader)) do left[pid] = true end
      assert.is_true(left[member])
      os.execute("kill -KILL " .. member)
      pipe:close()
      assert.is_true(command.until_true(function() return #system.session(leader) == 0 end, 10))
    end)
  end)

  describe("signal", function()
    it("reaches a process, and tells when there is none", function()
      local other = child.start("print(core.system.pid()) core.system.sleep(60)")
      assert.is_true(system.signal(other.pid, 0))
      assert.is_true(system.signal(other.pid, "TERM"))
      other.finish()
      fails("ESRCH", system.signal(other.pid, 0))
    end)

    it("reaches a process group", function()
      local pid = tonumber(output_of(
        "setsid sh -c 'echo $$; exec >/dev/null; sleep 60 & sleep 60' &"))
      assert.is_true(system.signal(-pid, "KILL"))
      assert.is_not_nil(command.until_true(function()
        return not system.signal(-pid, 0)
      end, 10))
    end)

    it("refuses what would hit the innocent", function()
      for _, pid in ipairs({ 1, 0, -1, 1 << 32, (1 << 32) + 1, -(1 << 32), math.mininteger }) do
        fails("EINVAL", system.signal(pid, "KILL"))
      end
      assert.has_error(function() system.signal(system.pid(), "STOP") end)
      assert.has_error(function() system.signal(system.pid(), 9) end)
      assert.has_error(function() system.signal("x", 0) end)
    end)
  end)

  describe("caught signals", function()
    it("only set a flag, and end a sleep", function()
      for _, name in ipairs({ "INT", "TERM", "HUP" }) do
        local other = child.start([[
          core.system.catch_signals()
          print(core.system.pid())
          local slept = core.system.sleep(60)
          print(slept, core.system.interrupted())
          core.system.clear_interrupt()
          print(core.system.interrupted(), core.system.sleep(0.01))
        ]])
        command.until_true(function() return system.process(other.pid).state == "S" end, 10)
        assert.is_true(system.signal(other.pid, name))
        assert.equal("false\tSIG" .. name, other.line())
        assert.equal("nil\ttrue", other.line())
        other.finish()
      end
    end)

    it("end nothing while something must come to its end, and the first of them counts after it",
      function()
        assert.equal("nil\ttrue\nSIGINT\nnil\nSIGHUP\n", (child.run([[
          core.system.catch_signals()
          core.system.signal(core.system.pid(), "TERM")
          core.system.ignore_signals()
          for _, name in ipairs({ "INT", "TERM", "HUP" }) do
            core.system.signal(core.system.pid(), name)
          end
          print(core.system.interrupted(), core.system.sleep(0.01))
          core.system.catch_signals()
          print(core.system.interrupted())
          core.system.clear_interrupt()
          core.system.catch_signals()
          print(core.system.interrupted())
          core.system.signal(core.system.pid(), "HUP")
          print(core.system.interrupted())
        ]])))
      end)

    it("keep the first one, and the next sleep ends at once", function()
      assert.equal("SIGTERM\tfalse\n", (child.run([[
        core.system.catch_signals()
        core.system.signal(core.system.pid(), "TERM")
        core.system.signal(core.system.pid(), "INT")
        print(core.system.interrupted(), core.system.sleep(60))
      ]])))
    end)

    it("leave SIGHUP ignored under nohup", function()
      assert.equal("nil\nnil\n", (child.run([[
        for _ = 1, 2 do
          core.system.catch_signals()
          core.system.signal(core.system.pid(), "HUP")
          print(core.system.interrupted())
          core.system.ignore_signals()
        end
      ]], "trap '' HUP; exec")))
    end)

    it("make a broken pipe an error instead of an end", function()
      local code = [[
        core.system.catch_signals()
        core.system.sleep(0.2)
        io.stdout:write("x")
        io.stderr:write("still here\n")
      ]]
      helper.write(directory .. "/code.lua",
        ("package.cpath = %q local core = require('praxlua.core') io.stdout:setvbuf('no')\n")
          :format(package.cpath) .. code)
      assert.equal("still here", output_of(
        ('{ "${LUA:-lua5.4}" %s/code.lua | true; } 2>&1'):format(directory)))
    end)
  end)

  describe("space", function()
    it("is what stat -f says", function()
      local blocks, size, inodes = output_of("stat -f -c '%b %S %c' " .. directory)
        :match("(%d+) (%d+) (%d+)")
      local space = assert(system.space(directory))
      assert.equal(blocks * size, space.bytes_total)
      assert.equal(tonumber(size), space.block_size)
      assert.equal(tonumber(inodes), space.inodes_total)
      assert.is_true(space.bytes_available > 0 and space.bytes_available <= space.bytes_total)
      assert.is_true(space.inodes_available > 0)
    end)

    it("has no end of inodes where they are not counted", function()
      local space = assert(system.space("/proc"))
      assert.equal(0, space.inodes_total)
      assert.equal(math.maxinteger, space.inodes_available)
    end)

    it("needs a path that is there", function()
      fails("ENOENT", system.space(directory .. "/none"))
    end)
  end)

  it("access asks for the user who acts", function()
    helper.write(directory .. "/file", "")
    os.execute("chmod 400 " .. directory .. "/file")
    local ask = ([[
      local path = %q
      print(core.system.access(path, "r"), core.system.access(path, "w"),
        core.system.access(path, "x"), core.system.access(path .. "x", "r"))
    ]]):format(directory .. "/file")
    assert.equal("true\tfalse\tfalse\tfalse\n", (child.run(ask, child.powerless())))
    assert.has_error(function() system.access(directory, "rw") end)
  end)

  it("environment holds every variable as it is", function()
    local output = child.run([[
      local e = core.system.environment()
      local count = 0
      for _ in pairs(e) do count = count + 1 end
      print(e.A, e.B == "", e["C C"], e.D, count)
    ]], "exec env -i 'A=x=y' B= 'C C=\255\n' PATH=\"$PATH\" LUA=\"$LUA\"")
    assert.equal("x=y\ttrue\t\255\n\tnil\t5\n", output)
  end)

  describe("terminal", function()
    it("knows its width, 80 where there is none", function()
      local code = "print(core.system.isatty(1), core.system.columns(1))"
      assert.equal("false\t80\n", (child.run(code)))
      local output = child.run(code,
        "in_terminal() { script -qec \"stty cols 123; $*\" /dev/null; }; in_terminal")
      assert.equal("true\t123\r\n", output)
      assert.is_false(system.isatty(-1))
      assert.is_false(system.isatty(1 << 40))
      assert.equal(80, system.columns(-1))
    end)
  end)

  describe("host", function()
    local ASK = "print(core.system.host())"

    local function host(before)
      return (child.run(ASK, before):gsub("\n$", ""))
    end

    it("is $PRAXLUA_HOST, resolved", function()
      helper.write(directory .. "/host", "")
      os.execute(("chmod 755 %s/host; ln -s host %s/link"):format(directory, directory))
      assert.equal(output_of("realpath " .. directory .. "/host"),
        host("PRAXLUA_HOST=" .. directory .. "/link exec"))
      local output = host("PRAXLUA_HOST=" .. directory .. "/none exec")
      assert.truthy(output:find("^nil\t.*" .. directory:gsub("%p", "%%%0") .. "/none"), output)
      assert.truthy(output:find("ENOENT$"))
    end)

    it("is else the first program praxlua on PATH", function()
      for _, name in ipairs({ "no/praxlua", "a/praxlua", "b/praxlua" }) do
        helper.write(directory .. "/" .. name, "")
      end
      os.execute(("chmod 755 %s/[ab]/praxlua"):format(directory))
      local path = ("%s/no:relative::%s/a:%s/b"):format(directory, directory, directory)
      assert.equal(output_of("realpath " .. directory .. "/a/praxlua"),
        host(("unset PRAXLUA_HOST; PATH=%s:$PATH exec"):format(path)))
    end)

    it("is else not known", function()
      local output = host('unset PRAXLUA_HOST; LUA=$(command -v "${LUA:-lua5.4}") PATH=/none; exec')
      assert.truthy(output:find("^nil\t.*PRAXLUA_HOST.*\tENOENT$"), output)
    end)
  end)
end)
