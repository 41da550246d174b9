--- process.run and what belongs to it: limits, lookup on PATH, the passed-on environment, identity.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local process = require("praxlua.process")

local LONG = 30 -- seconds no test takes unless something is wrong

local function run(script, options)
  options = options or {}
  options.argv = { "sh", "-c", script }
  options.timeout = options.timeout or LONG
  return process.run(options)
end

-- Runs into a time limit that was long enough, on however busy a machine, for a first word.
local function run_until_it_speaks(script, options)
  options = options or {}
  options.timeout = 0.1
  while true do
    options.timeout = options.timeout * 2
    local result = assert(run(script, options))
    if result.stdout ~= "" or options.timeout > LONG then return result end
  end
end

-- A file with the given mode; returns its path.
local function program(path, mode)
  helper.write(path, "#!/bin/sh\necho ran\n")
  assert(os.execute(("chmod %s '%s'"):format(mode, path)))
  return path
end

describe("process.run", function()
  after_each(function()
    helper.clean()
    assert.same({}, core.system.children(core.system.pid()), "a process was left behind")
  end)

  it("returns the exit status and both streams of a program", function()
    local result = assert(run("echo out; echo err >&2; exit 3"))
    assert.equal(3, result.code)
    assert.equal(0, result.signal)
    assert.equal("out\n", result.stdout)
    assert.equal("err\n", result.stderr)
    assert.is_false(result.timed_out)
    assert.is_false(result.truncated)
    assert.is_true(result.seconds >= 0 and result.seconds < LONG)
  end)

  it("tells a signal from an exit status", function()
    local result = assert(run("kill -KILL $$"))
    assert.same({ 0, 9 }, { result.code, result.signal })
    assert.is_false(result.timed_out)
  end)

  it("passes stdin, however much comes back meanwhile", function()
    local data = ("line of input\n"):rep(200000)
    local result = assert(process.run({ argv = { "cat" }, stdin = data, cap = #data }))
    assert.is_true(result.stdout == data)
    assert.is_false(result.truncated)
  end)

  it("gives an end of input at once when there is none", function()
    assert.equal("0\n", assert(run("wc -c")).stdout:gsub(" ", ""))
    assert.equal("0\n", assert(run("wc -c", { stdin = "" })).stdout:gsub(" ", ""))
  end)

  it("does not mind a program that does not read its stdin", function()
    local result = assert(run("exit 5", { stdin = ("x"):rep(1000000) }))
    assert.equal(5, result.code)
  end)

  it("keeps the first bytes of each stream up to the cap, and reads on", function()
    local script = "head -c 300000 /dev/zero | tr '\\0' a; echo done >&2"
    local result = assert(run(script, { cap = 1000 }))
    assert.equal(("a"):rep(1000), result.stdout)
    assert.equal("done\n", result.stderr)
    assert.is_true(result.truncated)
    assert.equal(0, result.code)
  end)

  it("does not call output truncated that fits exactly", function()
    assert.is_false(assert(run("printf 12345", { cap = 5 })).truncated)
    assert.is_true(assert(run("printf 123456", { cap = 5 })).truncated)
  end)

  it("stops a program whose time is over, and keeps what it had written", function()
    local result = run_until_it_speaks("echo before; exec sleep 60")
    assert.equal("before\n", result.stdout)
    assert.is_true(result.timed_out)
    assert.same({ 0, 15 }, { result.code, result.signal })
    assert.is_true(result.seconds < LONG)
  end)

  it("stops a program that has closed its streams and goes on", function()
    local result = assert(run("exec >&- 2>&-; exec sleep 60", { timeout = 0.2 }))
    assert.is_true(result.timed_out)
  end)

  it("stops a program that never ends writing", function()
    local result = run_until_it_speaks("exec yes", { cap = 100 })
    assert.is_true(result.timed_out)
    assert.is_true(result.truncated)
  end)

  it("stops the grandchildren of a program whose time is over", function()
    local result = run_until_it_speaks("sleep 60 & echo $!; wait")
    assert.is_true(result.timed_out)
    local identity = process.identity(tonumber(result.stdout))
    local deadline = core.system.monotonic() + LONG -- it was killed; the kernel may need a moment
    while identity and process.same(identity) do
      assert.is_true(core.system.monotonic() < deadline)
      core.system.sleep(0.005)
    end
  end)

  it("hands over lines as they come, whole, of both streams, also beyond the cap", function()
    local seen = {}
    local result = assert(run([[
      printf 'one\ntw'; printf 'o\n'; printf '\n'; printf 'err\n' >&2; printf 'last']], {
      cap = 2,
      on_line = function(stream, line)
        seen[stream] = seen[stream] or {}
        table.insert(seen[stream], line)
      end,
    }))
    assert.same({ stdout = { "one", "two", "", "last" }, stderr = { "err" } }, seen)
    assert.equal("on", result.stdout)
    assert.is_true(result.truncated)
  end)

  it("hands over an endless line in pieces", function()
    local total, longest = 0, 0
    assert(run("head -c 1000000 /dev/zero | tr '\\0' a", {
      on_line = function(_, line)
        total, longest = total + #line, math.max(longest, #line)
      end,
    }))
    assert.equal(1000000, total)
    assert.is_true(longest <= 64 * 1024)
  end)

  it("stops the program when on_line raises", function()
    local path = helper.tempdir() .. "/pid"
    local fine, message = pcall(run, "echo $$ > " .. path .. "; echo x; exec sleep 60", {
      on_line = function() error("enough", 0) end,
    })
    assert.is_false(fine)
    assert.equal("enough", message)
    assert.is_nil(core.system.process(tonumber(helper.read(path))))
  end)

  it("looks the program up on the PATH that it passes on", function()
    local directory = helper.tempdir()
    program(directory .. "/prax tool", "755")
    local result = assert(process.run({
      argv = { "prax tool" }, environment = { PATH = directory .. ":/usr/bin:/bin" },
    }))
    assert.equal("ran\n", result.stdout)
    local none, message, code = process.run({ argv = { "prax tool" } })
    assert.is_nil(none)
    assert.equal("ENOENT", code)
    assert.truthy(message:find("prax tool", 1, true))
  end)

  it("runs in the given directory and leaves the caller's argv alone", function()
    local directory = helper.tempdir()
    local argv = { "pwd" }
    local result = assert(process.run({ argv = argv, directory = directory }))
    assert.equal(core.file.realpath(directory) .. "\n", result.stdout)
    assert.same({ "pwd" }, argv)
  end)

  it("says why a program could not be started", function()
    local result, message, code = process.run({ argv = { "/no/such/tool" } })
    assert.is_nil(result)
    assert.equal("ENOENT", code)
    assert.truthy(message:find("/no/such/tool", 1, true))
    assert.equal("EINVAL", select(3, process.run({ argv = { "echo", "a\0b" } })))
    assert.equal("ENOENT", select(3, process.run({ argv = { "pwd" }, directory = "/no/such" })))
  end)

  it("stops the program and says so when we are interrupted", function()
    local environment = core.system.environment()
    environment.LUA_PATH, environment.LUA_CPATH = package.path, package.cpath
    local ready = helper.tempdir() .. "/ready"
    local supervisor <close> = assert(core.spawn.start({
      argv = { "/bin/sh", "-c", 'exec "${LUA:-lua5.4}" -e "$1"', "sh", ([[
        require("praxlua.core").system.catch_signals()
        local argv = { "sh", "-c", "echo > %s; exec sleep 60" }
        print(require("praxlua.process").run({ argv = argv }))]]):format(ready) },
      environment = environment, stdout = "pipe", stderr = "stdout",
    }))
    local deadline = core.system.monotonic() + LONG
    while not helper.read(ready) and core.system.monotonic() < deadline do
      core.system.sleep(0.005)
    end
    assert(core.system.signal(supervisor:pid(), "TERM"))
    local text = ""
    while true do
      local _, chunk, closed = supervisor:read(LONG)
      if closed then break end
      text = text .. chunk
    end
    assert.truthy(text:find("^nil\trun [^\t]*sh: interrupted, [^\t]*\tEINTR\n$"), text)
  end)
end)

describe("process.find", function()
  after_each(helper.clean)

  it("takes the first file on PATH that may be executed", function()
    local root = helper.tempdir()
    program(root .. "/a/tool", "644")
    assert(os.execute("mkdir -p " .. root .. "/b/tool"))
    local wanted = program(root .. "/c/tool", "755")
    program(root .. "/d/tool", "755")
    local path = ("%s/a:%s/b:%s/none:%s/c//:%s/d"):format(root, root, root, root, root)
    assert.equal(wanted, process.find("tool", { PATH = path }))
  end)

  it("keeps a link as it is, because a program may look at its own name", function()
    local root = helper.tempdir()
    program(root .. "/real", "755")
    assert(os.execute(("ln -s real %s/python"):format(root)))
    assert.equal(root .. "/python", process.find("python", { PATH = root }))
  end)

  it("never finds a program in the working directory", function()
    for _, path in ipairs({ "", ":", ".", "spec:" }) do
      assert.equal("ENOENT", select(3, process.find("Makefile", { PATH = path })))
    end
    assert.equal("ENOENT", select(3, process.find("sh", {})))
  end)

  it("refuses what is not a name", function()
    for _, name in ipairs({ "", "../bin/sh", "a\0b" }) do
      assert.equal("ENOENT", select(3, process.find(name, { PATH = "/bin" })))
    end
  end)
end)

describe("process.environment", function()
  local KEPT = {
    PATH = "/p", HOME = "/h", LANG = "C", LC_ALL = "C", LC_X = "y", TMPDIR = "/t",
    http_proxy = "1", HTTPS_PROXY = "2", no_proxy = "3", NO_PROXY = "4", ALL_PROXY = "5",
    SSL_CERT_FILE = "f", SSL_CERT_DIR = "d", REQUESTS_CA_BUNDLE = "b", PIP_INDEX_URL = "i",
    UV_CACHE_DIR = "u", npm_config_cache = "n",
  }
  local DROPPED = {
    LD_PRELOAD = "/evil.so", PYTHONPATH = "/x", GIT_DIR = "/g", LUA_INIT = "x", SECRET_TOKEN = "s",
    PATHS = "x", XPIP_A = "x", PRAXLUA_HOST = "h", BASH_ENV = "b",
  }
  local original = core.system.environment

  before_each(function()
    core.system.environment = function()
      local all = {}
      for name, value in pairs(KEPT) do all[name] = value end
      for name, value in pairs(DROPPED) do all[name] = value end
      return all
    end
  end)
  after_each(function() core.system.environment = original end)

  it("passes on the documented variables and no other", function()
    assert.same(KEPT, process.environment())
  end)

  it("finds variables by name and by their beginning, for those who may have more", function()
    assert.same({ SECRET_TOKEN = "s", LD_PRELOAD = "/evil.so", PATH = "/p", PATHS = "x" },
      process.variables({ "SECRET_TOKEN", "LD_*", "PATH*", "NONE", "NO_SUCH_*" }))
  end)

  it("adds, replaces and takes away", function()
    local made = process.environment({ NEW = "1", LANG = "de", HOME = false })
    assert.same({ "1", "de" }, { made.NEW, made.LANG })
    assert.is_nil(made.HOME)
    assert.equal("/p", made.PATH)
  end)
end)

describe("process.identity", function()
  it("holds while the process lives, and for no other", function()
    local child <close> = assert(core.spawn.start({ argv = { "/bin/sleep", "60" } }))
    local identity = process.identity(child:pid())
    assert.equal(child:pid(), identity.pid)
    assert.is_true(process.same(identity))
    local later = { pid = identity.pid, start_time = identity.start_time + 1,
      boot_id = identity.boot_id }
    assert.is_false(process.same(later))
    local booted = { pid = identity.pid, start_time = identity.start_time, boot_id = "another" }
    assert.is_false(process.same(booted))
    child:stop(LONG)
    assert.is_false(process.same(identity))
    assert.is_nil(process.identity(identity.pid))
  end)

  it("does not take one that has ended for alive, though nobody has reaped it", function()
    local child <close> = assert(core.spawn.start({
      argv = { "/bin/cat" }, stdin = "pipe", stdout = "pipe", detach = true,
    }))
    local identity = process.identity(child:pid())
    assert(core.system.signal(child:pid(), "KILL"))
    local deadline = core.system.monotonic() + LONG
    while core.system.process(identity.pid).state ~= "Z" do
      assert.is_true(core.system.monotonic() < deadline)
      core.system.sleep(0.005)
    end
    assert.is_false(process.same(identity))
  end)

  it("is nil for a process that does not exist", function()
    assert.is_nil(process.identity(2 ^ 22 + 1 | 0))
  end)
end)
