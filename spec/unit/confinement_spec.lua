--- What a confined tool may do: core.spawn's option confine, and praxlua.confinement, which says
-- what it is for a phase's tool. The kernel holds it; where it cannot, there is nothing to test.
local confinement = require("praxlua.confinement")
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local helper = require("spec.support.helper")
local process = require("praxlua.process")

local writing, network = core.spawn.confines()
local function none() end
local if_writing, if_network = writing and it or none, network and it or none

describe("a confined tool", function()
  local root
  before_each(function()
    root = helper.tempdir()
    helper.write(root .. "/inside/old", "old")
    helper.write(root .. "/outside/old", "old")
  end)
  after_each(helper.clean)

  -- Runs a shell script that may write in inside/: what it printed.
  local function run(script, options)
    local allow = { write = { root .. "/inside", root .. "/none" }, network = false }
    for name, value in pairs(options or {}) do allow[name] = value end
    local result = assert(process.run({ argv = { "sh", "-c", script }, directory = root,
      timeout = 30, confine = allow }))
    assert.equal(0, result.signal)
    return result.stdout .. result.stderr, result.code
  end

  -- Each line of a script on its own: whether it could be done.
  local function tries(list, options)
    local script = { "exec 2>&-" }
    for i, line in ipairs(list) do
      script[#script + 1] = ("if ( %s ); then echo %d yes; else echo %d no; fi"):format(line, i, i)
    end
    local found = {}
    for i, answer in (run(table.concat(script, "\n"), options)):gmatch("(%d+) (%l+)") do
      found[list[tonumber(i)]] = answer == "yes"
    end
    return found
  end

  if_writing("writes where it may, and nowhere else", function()
    for line, may in pairs(tries({
      "echo new > inside/new", "echo more >> inside/old", "mkdir inside/folder",
      "mv inside/new inside/folder/new", "rm inside/folder/new", "ln -s x inside/link",
      "cat outside/old", "cat /etc/passwd", "ls /", "echo x > /dev/null",
    })) do
      assert.is_true(may, line)
    end
    for line, may in pairs(tries({
      "echo new > outside/new", "echo more >> outside/old", "mkdir outside/folder",
      "mv outside/old inside/", "rm outside/old", "ln -s x outside/link", "> outside/old",
      "ln outside/old inside/hard", "mv inside/old outside/", "echo x > inside/../outside/new",
      "ln -s ../outside/old inside/way && echo x > inside/way", "mkfifo outside/fifo",
    })) do
      assert.is_false(may, line)
    end
    assert.equal("old", helper.read(root .. "/outside/old"))
  end)

  if_writing("and neither do those that it starts, in whatever session", function()
    run("setsid sh -c 'sh -c \"echo new > outside/new; echo new > inside/new\"'; true")
    assert.is_false(core.file.exists(root .. "/outside/new"))
    assert.equal("new\n", helper.read(root .. "/inside/new"))
  end)

  local SOCKETS = [[python3 -c '
import socket
for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
    try:
        socket.socket(getattr(socket, family), socket.SOCK_DGRAM).close()
        print(family, "yes")
    except OSError as e:
        print(family, e.errno)
']]

  if_network("reaches the network only if it may", function()
    local text = run(SOCKETS)
    assert.matches("AF_INET 1\nAF_INET6 1\nAF_UNIX yes\nAF_NETLINK %w+\nAF_PACKET 1\nAF_VSOCK 1",
      text)
    assert.matches("AF_INET yes", (run(SOCKETS, { network = true })))
  end)

  if_writing("signals nobody outside, and gets no rights it has not", function()
    local child = assert(core.spawn.start({ argv = { "/bin/sleep", "60" } }))
    local text = run(("kill -0 %d 2>&1 && echo it could; grep NoNewPrivs /proc/self/status")
      :format(child:pid()))
    assert(child:stop(1))
    assert.is_nil(text:find("it could", 1, true))
    assert.matches("NoNewPrivs:%s*1", text)
    assert.matches("NoNewPrivs:%s*0", assert(process.run({ argv = { "grep", "NoNewPrivs",
      "/proc/self/status" } })).stdout)
  end)

  if_writing("is led nowhere by a link that is named to it", function()
    os.execute(("cd '%s' && ln -s outside link && ln -s outside/old file && ln -s circle circle")
      :format(root))
    local options = { write = { root .. "/link", root .. "/file", root .. "/circle" } }
    for line, may in pairs(tries({ "echo x > link/new", "echo x > outside/new", "echo x > file" },
      options)) do
      assert.is_false(may, line)
    end
  end)

  it("is a matter of tools alone, and its options are checked", function()
    for what, options in pairs({
      ["option 'confine' must be a table"] = { confine = true },
      ["is for tools only"] = { confine = { write = {} }, detach = true },
      ["option 'confine.write' must be a table"] = { confine = {} },
      ["confine.write[1] must be an absolute path"] = { confine = { write = { "here" } } },
      ["confine.write[2] must be"] = { confine = { write = { "/", "/a\0b" } } },
    }) do
      options.argv = { "/bin/true" }
      local ok, message = pcall(core.spawn.start, options)
      assert.is_false(ok)
      assert.truthy(message:find(what, 1, true), message)
    end
  end)
end)

describe("the confinement of a phase's tool", function()
  local ctx, environment
  before_each(function()
    ctx = { target = helper.tempdir() .. "/project/.praxis-os" }
    for _, path in ipairs({ "standards/a.md", "VERSION.txt", ".cache/state/x", ".upgrade/x/journal",
      ".backups/x/MANIFEST.json", ".upgrade-lock", "phases/x.lua", "upgrade.lua" }) do
      helper.write(ctx.target .. "/" .. path, "")
    end
    environment = { HOME = "/home/x", TMPDIR = "/tmp/y" }
  end)
  after_each(helper.clean)

  it("is its temporary directory and caches", function()
    assert.same({ write = { "/tmp/y", "/home/x/.cache", "/home/x/.npm" }, network = false },
      confinement.of(ctx, environment, {}))
    environment.XDG_CACHE_HOME, environment.PIP_CACHE_DIR, environment.TMPDIR = "/c", "/p", nil
    environment.npm_config_cache, environment.UV_CACHE_DIR = "relative", "/u"
    assert.same({ write = { "/c", "/p", "/u" }, network = true },
      confinement.of(ctx, environment, { network = true }))
    assert.same({}, confinement.of(ctx, {}, {}).write)
  end)

  it("gives it a temporary directory of its own, in the session's folder, which goes", function()
    ctx.folder = ctx.target .. "/.upgrade/x"
    environment.TMPDIR, environment.PATH = nil, core.system.environment().PATH
    local result = assert(confinement.run(ctx, { argv = { "sh", "-c",
      'echo x > "$TMPDIR/x" && stat -c %a "$TMPDIR" && echo "$TMPDIR"' }, directory = ctx.target,
      environment = environment }, {}))
    assert.equal("700\n" .. ctx.folder .. "/tool-", (result.stdout:gsub("%x+\n$", "")))
    assert.same({ "journal" }, folder.names(ctx.folder))
    assert.equal("ENOENT", select(3, confinement.run(ctx, { argv = { "no-such-tool" },
      directory = ctx.target, environment = environment }, {})))
    assert.same({ "journal" }, folder.names(ctx.folder))
    ctx.folder = ctx.target .. "/VERSION.txt"
    assert.equal("ENOTDIR", select(3, confinement.run(ctx, { argv = { "true" } }, {})))
  end)

  it("and what stands in the installation, but for our own folders", function()
    local write = confinement.of(ctx, { TMPDIR = "/t" }, { target = true }).write
    assert.same({ "/t", ctx.target .. "/VERSION.txt", ctx.target .. "/standards" }, write)
  end)

  it("and no cache that holds the installation, or lies in what is ours", function()
    local project = ctx.target:match("^(.*)/")
    local elsewhere = helper.tempdir()
    os.execute(("ln -s '%s' '%s/link' && mkdir '%s/cache'"):format(project, elsewhere, elsewhere))
    for _, cache in ipairs({ "/", project, ctx.target, ctx.target .. "/.cache/state",
      elsewhere .. "/link" }) do
      environment = { PIP_CACHE_DIR = cache }
      assert.same({}, confinement.of(ctx, environment, {}).write, cache)
    end
    os.execute(("ln -s cache '%s/other'"):format(elsewhere))
    environment = { PIP_CACHE_DIR = elsewhere .. "/other" }
    assert.same({ core.file.realpath(elsewhere) .. "/cache" },
      confinement.of(ctx, environment, {}).write)
  end)

  if_writing("keeps a tool off the undo data, by whatever link", function()
    os.execute(("cd '%s' && ln -s .upgrade a && ln -s . b"):format(ctx.target))
    environment.HOME = nil
    local result = assert(process.run({ argv = { "sh", "-c", "rm -rf standards .upgrade .backups; "
      .. "echo x > VERSION.txt; echo x > .cache/state/x; true" }, directory = ctx.target,
      confine = confinement.of(ctx, environment, { target = true }) }))
    assert.equal(0, result.code)
    assert.equal("x\n", helper.read(ctx.target .. "/VERSION.txt"))
    assert.is_false(core.file.exists(ctx.target .. "/standards/a.md"))
    for _, path in ipairs({ ".upgrade/x/journal", ".backups/x/MANIFEST.json", ".cache/state/x" }) do
      assert.equal("", helper.read(ctx.target .. "/" .. path))
    end
  end)
end)
