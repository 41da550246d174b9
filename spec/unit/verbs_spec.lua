--- The verbs: which grant gives which, and what they refuse.
local change = require("praxlua.change")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")
local originals = require("praxlua.originals")
local verbs = require("praxlua.verbs")

local fails = helper.fails

local HELPERS = "ask json.decode json.encode log progress time warn"

describe("verbs", function()
  local project, ctx, transaction, told
  before_each(function()
    local directory = kit.directory()
    project = directory .. "/project"
    helper.tree(directory, {
      ["source/VERSION.txt"] = "2", ["project/.praxis-os/standards/a.md"] = "a",
      ["project/.praxis-os/.cache/state"] = "", ["project/src/main.lua"] = "main",
      ["outside/secret"] = "secret",
    })
    assert(core.file.mkdir(project .. "/.praxis-os/.upgrade"))
    transaction = assert(kit.open(project, true))
    told = {}
    ctx = {
      source = directory .. "/source", target = project .. "/.praxis-os", project = project,
      target_name = ".praxis-os", options = {}, memory = {},
      session = { session_id = "s", completed_phases = { 0, 1 }, metadata = {} },
      change = change.new(transaction, project, project .. "/" .. kit.PATH),
      emit = function(event) told[#told + 1] = event end,
      progress = function(...) told[#told + 1] = { ... } end,
      warn = function(text) told[#told + 1] = text end,
      ask = function(...) return { ... } end,
      lock_held = function() return true end,
      save = function() return true end,
    }
  end)
  after_each(function()
    transaction:close()
    collectgarbage()
    helper.clean()
  end)

  local function granted(grants) return (verbs.granted(ctx, grants)) end

  local function misuses(pattern, run, ...)
    local ok, problem = pcall(run, ...)
    assert.is_false(ok)
    assert.equal("table", type(problem), tostring(problem))
    assert.matches(pattern, problem.misuse)
  end

  -- The project; the old contents that are kept for a later rollback are praxlua's own.
  local function seen()
    local found = kit.seen(project)
    for path in pairs(found) do
      if path:find("^%.praxis%-os/%.cache/originals%-s") then found[path] = nil end
    end
    return found
  end

  local function read(path) return helper.read(project .. "/" .. path) end
  local function exists(path) return core.file.exists(project .. "/" .. path) end
  local function outside_is_untouched()
    assert.equal("secret", helper.read(project .. "/../outside/secret"))
    assert.equal(1, #core.tree.list(project .. "/../outside"))
  end

  it("are those of the grants and no other", function()
    local function names(grants)
      local all, list = verbs.granted(ctx, grants)
      for _, name in ipairs(list) do assert.is_function(all[name], name) end
      return table.concat(list, " ")
    end
    assert.equal(HELPERS, names({}))
    assert.equal(HELPERS, names({ network = true, tools = {}, services = {} }))
    assert.equal("ask json.decode json.encode log progress source.exists source.hash source.list "
      .. "source.read time warn", names({ source = "read" }))
    assert.equal("ask json.decode json.encode log progress target.exists target.hash target.list "
      .. "target.read target.remove target.rename target.write time warn",
      names({ target = "write" }))
    assert.equal("ask json.decode json.encode log progress project.exists project.hash "
      .. "project.list project.read spawn time undo warn",
      names({ project = "read", tools = { "sh" } }))
    ctx.source = nil
    assert.equal(HELPERS, names({ source = "read" }))
  end)

  it("of every service exist", function()
    local services = verbs.services()
    assert.same({ "backup", "content", "dependencies", "lock", "report", "server", "validation" },
      services)
    local _, list = verbs.granted(ctx, { services = services })
    local found = {}
    for _, name in ipairs(list) do found[name] = true end
    for service, functions in pairs(verbs.SERVICES) do
      for _, name in ipairs(functions) do assert.is_true(found[service .. "." .. name]) end
    end
    for _, name in ipairs({ "lock.acquire", "lock.release", "lock.held", "server.run_tests",
      "server.expected_tools", "server.restart_server", "server.run_smoke",
      "report.generate_upgrade_summary", "dependencies.detect_post_install_steps" }) do
      assert.is_true(found[name], name)
    end
  end)

  describe("that read", function()
    it("see what is beneath their root", function()
      local all = granted({ source = "read", target = "read", project = "read" })
      assert.equal("2", all["source.read"]("VERSION.txt"))
      assert.equal("a", all["target.read"]("standards/a.md"))
      assert.equal("main", all["project.read"]("src/main.lua"))
      assert.equal(core.hash.sha256("a"), (all["target.hash"]("standards/a.md")))
      assert.is_true(all["target.exists"]("standards"))
      assert.is_false(all["target.exists"]("none"))
      assert.equal("a.md", all["target.list"]("standards")[1].name)
      fails("EFBIG", all["project.read"]("src/main.lua", 3))
      assert.equal("main", all["project.read"]("src/main.lua", 4))
    end)

    it("see nothing else", function()
      kit.sh("cd %s && ln -s ../outside out && ln -s ../outside/secret secret", project)
      local all = granted({ project = "read" })
      for _, method in ipairs({ "read", "hash", "list", "exists" }) do
        local run = all["project." .. method]
        local paths = { "../outside/secret", "/etc/passwd", "src/../../outside", "a//b" }
        for _, path in ipairs(paths) do
          fails("EINVAL", run(path))
        end
        assert.is_nil((run("out/secret")))
      end
      assert.is_nil((all["project.read"]("secret")))
    end)

    it("say when they are called wrongly, or their root is gone", function()
      local all = granted({ project = "read" })
      misuses("host.project.read: argument 1 must be a string, not nil", all["project.read"])
      misuses("host.project.read: argument 1 is no path", all["project.read"], "")
      misuses("argument 1 is no path", all["project.exists"], "a\0b")
      misuses("argument 2 must be a number of bytes", all["project.read"], "src/main.lua", "x")
      misuses("argument 2 must be a number of bytes", all["project.read"], "src/main.lua", -1)
      kit.sh("mv %s %s.away", project, project)
      fails("ENOENT", all["project.read"]("src/main.lua"))
      kit.sh("mv %s.away %s", project, project)
    end)
  end)

  describe("that write", function()
    it("change files, and all of it can be undone", function()
      local before = seen()
      local all = granted({ target = "write", project = "write" })
      assert.is_true(all["target.write"]("standards/a.md", "new"))
      assert.is_true(all["target.write"]("deep/down/b", "b", 448))
      assert.is_true(all["project.remove"]("src/main.lua"))
      assert.is_true(all["project.remove"]("not there"))
      assert.equal("new", read(".praxis-os/standards/a.md"))
      assert.equal(448, core.file.stat(project .. "/.praxis-os/deep/down/b").mode)
      assert.is_false(exists("src/main.lua"))
      assert.same({}, transaction:rollback())
      assert.same(before, seen())
      local kept = assert(ctx.session.metadata.originals[1])
      assert.same({ "src/main.lua", "file", 420, core.hash.sha256("main") },
        { kept.path, kept.type, kept.mode, kept.sha256 })
      local folder = project .. "/.praxis-os/.cache/originals-s"
      assert.equal("main", helper.read(folder .. "/" .. kept.name))
      assert.is_nil(ctx.session.metadata.originals[2], "the installation itself is in the backup")
      originals.drop(ctx.target, "s")
      assert.is_false(core.file.exists(folder))
    end)

    it("never over what somebody wrote after it was noted", function()
      local note = originals.note
      finally(function() originals.note = note end)
      originals.note = function(of, path)
        local result <const> = table.pack(note(of, path))
        helper.write(project .. "/" .. path, "mine")
        return table.unpack(result, 1, result.n)
      end
      local all = granted({ project = "write" })
      fails("ECHANGED", all["project.write"]("src/main.lua", "phase"))
      helper.write(project .. "/src/main.lua", "main")
      fails("ECHANGED", all["project.remove"]("src/main.lua"))
      helper.write(project .. "/src/main.lua", "main")
      fails("ECHANGED", all["project.rename"]("src/main.lua", "moved.lua"))
      fails("ECHANGED", all["project.write"]("new.txt", "phase"))
      assert.equal("mine", read("src/main.lua"))
      assert.equal("mine", read("new.txt"))
      assert.is_false(exists("moved.lua"))
    end)

    it("only while that can be undone: after the backup, before the clean-up", function()
      local all = granted({ target = "write" })
      local function denied()
        for _, call in ipairs({ { "write", "x", "" }, { "remove", "standards/a.md" },
          { "rename", "standards/a.md", "b" } }) do
          local message = fails("EDENIED", all["target." .. call[1]](call[2], call[3]))
          assert.matches("only after the backup and before the clean%-up", message)
        end
        assert.equal("a", read(".praxis-os/standards/a.md"))
      end
      ctx.session.completed_phases = { 0 }
      denied()
      ctx.session.completed_phases = { 0, 1, 2, 3, 4, 5 }
      denied()
      ctx.session.completed_phases = { 0, 1, 2, 3, 4 }
      assert.is_true(all["target.write"]("x", ""))
      ctx.change = nil -- a dry run
      denied()
    end)

    it("not to what is praxlua's or git's own", function()
      local all = granted({ target = "write", project = "write" })
      for _, path in ipairs({ ".upgrade/x", ".upgrade-lock", ".backups/x/y", ".cache", ".cache/x",
        ".upgrade" }) do
        fails("EDENIED", all["target.write"](path, "x"))
        fails("EDENIED", all["target.remove"](path))
        fails("EDENIED", all["target.rename"](path, "x"))
        fails("EDENIED", all["target.rename"]("standards/a.md", path))
        fails("EDENIED", all["project.write"](".praxis-os/" .. path, "x"))
      end
      for _, path in ipairs({ ".praxis-os", ".git", ".git/hooks/pre-commit" }) do
        fails("EDENIED", all["project.write"](path, "x"))
        fails("EDENIED", all["project.rename"](path, "x"))
        fails("EDENIED", all["project.rename"]("src", path))
      end
      assert.is_true(all["target.write"](".cached", "x"))
      assert.is_true(all["project.write"](".gitignore", "x"))
    end)

    it("not outside their root, whatever the path", function()
      kit.sh("cd %s && ln -s ../outside out && ln -s .cache .praxis-os/short", project)
      local all = granted({ target = "write", project = "write" })
      for _, path in ipairs({ "../outside/x", "../outside/secret", "src/../../outside/x",
        "../.praxis-os/.cache/x", "./x", "x/", "/x", "src//x", "." }) do
        fails("EINVAL", all["target.write"](path, "x"))
        fails("EINVAL", all["project.write"](path, "x"))
        fails("EINVAL", all["project.remove"](path))
        fails("EINVAL", all["project.rename"](path, "x"))
        assert.is_nil((all["project.rename"]("src/main.lua", path)))
      end
      for _, call in ipairs({ { "write", "out/x", "x" }, { "remove", "out/secret" },
        { "rename", "out/secret", "x" }, { "rename", "src/main.lua", "out/x" } }) do
        assert.is_nil((all["project." .. call[1]](call[2], call[3])))
      end
      assert.is_nil((all["target.write"]("short/x", "x")))
      outside_is_untouched()
      assert.equal("main", read("src/main.lua"))
    end)

    it("replace a link instead of writing through it", function()
      kit.sh("cd %s && ln -s ../outside/secret secret", project)
      local all = granted({ project = "write" })
      assert.is_true(all["project.write"]("secret", "mine"))
      assert.equal("mine", read("secret"))
      outside_is_untouched()
    end)

    it("say when they are called wrongly", function()
      local all = granted({ target = "write" })
      misuses("host.target.write: argument 1 must be a string", all["target.write"], nil, "x")
      misuses("host.target.write: argument 2 must be a string", all["target.write"], "x")
      misuses("argument 1 is no path", all["target.write"], "", "x")
      misuses("argument 1 is no path", all["target.remove"], "a\0b")
      misuses("argument 2 must be a string", all["target.rename"], "a")
      for _, mode in ipairs({ "644", -1, 512, 1.5 }) do
        misuses("argument 3 must be permission bits", all["target.write"], "x", "x", mode)
      end
    end)

    it("say what stands in the way", function()
      local all = granted({ target = "write" })
      fails("EISDIR", all["target.write"]("standards", "x"))
      fails("EISDIR", all["target.remove"]("standards"))
      fails("ENOTDIR", all["target.write"]("standards/a.md/x", "x"))
    end)
  end)

  describe("rename", function()
    local rename
    before_each(function() rename = granted({ project = "write" })["project.rename"] end)

    it("moves a file with its mode, and a link as it is", function()
      kit.sh("cd %s && chmod 750 src/main.lua && ln -s nowhere link", project)
      assert.is_true(rename("src/main.lua", "new/place.lua"))
      assert.is_true(rename("link", "new/link"))
      assert.equal("main", read("new/place.lua"))
      assert.equal(488, core.file.stat(project .. "/new/place.lua").mode)
      assert.equal("nowhere", core.file.readlink(project .. "/new/link"))
      assert.is_false(exists("src/main.lua") or exists("link"))
    end)

    it("moves a folder with everything in it", function()
      kit.sh("cd %s && mkdir -p src/a/empty && echo b > src/a/b && ln -s b src/a/link && "
        .. "chmod 700 src/a && chmod 711 src/a/empty && chmod 750 src", project)
      local before = seen()
      assert.is_true(rename("src", "lib/src"))
      assert.is_false(exists("src"))
      local modes = { [""] = 488, ["/a"] = 448, ["/a/empty"] = 457 }
      for path, mode in pairs(modes) do
        assert.equal(mode, core.file.stat(project .. "/lib/src" .. path).mode, path)
      end
      assert.equal("b\n", read("lib/src/a/b"))
      assert.equal("b", core.file.readlink(project .. "/lib/src/a/link"))
      assert.is_true(rename("lib/src/a/empty", "empty"))
      assert.is_true(exists("empty"))
      assert.is_false(exists("lib/src/a/empty"))
      assert.same({}, transaction:rollback())
      assert.same(before, seen())
    end)

    it("replaces nothing, and moves nothing into itself", function()
      helper.write(project .. "/taken", "taken")
      fails("EEXIST", rename("src/main.lua", "taken"))
      fails("EEXIST", rename("src", ".praxis-os/standards"))
      fails("EINVAL", rename("src", "src"))
      fails("EINVAL", rename("src", "src/deeper/still"))
      fails("ENOENT", rename("none", "x"))
      assert.equal("taken", read("taken"))
      assert.equal("main", read("src/main.lua"))
    end)

    it("moves all of a folder or nothing of it", function()
      kit.sh("mkfifo %s/src/zz", project)
      local before = seen()
      assert.matches("src/zz", fails("ENOTREG", rename("src", "lib")))
      fails("ENOTREG", rename("src/zz", "zz"))
      assert.same(before, seen())
    end)

    it("says when the project is gone", function()
      kit.sh("mv %s %s.away", project, project)
      fails("ENOENT", rename("src", "lib"))
      kit.sh("mv %s.away %s", project, project)
    end)
  end)

  describe("spawn", function()
    local spawn
    before_each(function() spawn = granted({ tools = { "sh", "cat" } }).spawn end)

    it("runs a granted tool in the project", function()
      local result = spawn({ "sh", "-c", "pwd; cat; echo $0 >&2; exit 3", 42, stdin = "in\n" })
      assert.equal(3, result.code)
      assert.equal(core.file.realpath(project) .. "\nin\n", result.stdout)
      assert.equal("42\n", result.stderr)
      assert.is_nil(result.signal)
    end)

    it("ends what takes too long", function()
      assert.is_true(spawn({ "sh", "-c", "sleep 30", timeout = 0.1 }).timed_out)
    end)

    it("gives no exit code of a tool that was ended", function()
      local result = spawn({ "sh", "-c", "kill -9 $$" })
      assert.is_nil(result.code)
      assert.equal(9, result.signal)
      assert.is_nil(spawn({ "sh", "-c", "sleep 30", timeout = 0.1 }).code)
      result = spawn({ "sh", "-c", "trap 'exit 0' TERM; sleep 30 & wait", timeout = 0.1 })
      assert.is_true(result.timed_out)
      assert.is_nil(result.code)
      assert.is_nil(result.signal)
    end)

    it("runs nothing else, and not at any time", function()
      fails("EGRANT", spawn({ "rm", "-rf", "x" }))
      fails("EGRANT", spawn({ "/bin/sh" }))
      ctx.session.completed_phases = { 0 }
      fails("EDENIED", spawn({ "sh" }))
    end)

    it("says when it is called wrongly", function()
      misuses("host.spawn: argument 1 must be a table, not string", spawn, "sh")
      misuses("there is no command", spawn, {})
      misuses("word 2 of the command", spawn, { "sh", {} })
      misuses("word 2 of the command", spawn, { "sh", "a\0b" })
      misuses("a command has no field 'timeot'", spawn, { "sh", "-c", "true", timeot = 1 })
      misuses("a command has no field '3'", spawn, { "sh", [3] = "x" })
      misuses("stdin must be a string, not number", spawn, { "sh", stdin = 5 })
      for _, timeout in ipairs({ "x", 0, -1, {} }) do
        misuses("timeout must be a number of seconds", spawn, { "sh", timeout = timeout })
      end
    end)
  end)

  describe("that help", function()
    it("pass on what the phase says", function()
      local all = granted({})
      assert.is_true(all.log("text"))
      for _, verb in ipairs({ "log", "warn", "progress" }) do
        misuses("must be a text, not a table", all[verb], {})
      end
      assert.is_true(all.warn(5))
      assert.is_true(all.progress("half", "0.5"))
      assert.is_true(all.progress("more", {}))
      assert.same({ event = "log", level = "info", message = "text" }, told[1])
      assert.same({ "5", { "half", 0.5 }, { "more" } }, { table.unpack(told, 2) })
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", all.time())
    end)

    it("encode and decode JSON", function()
      local all = granted({})
      assert.equal('{"a":[1,2]}', all["json.encode"]({ a = { 1, 2 } }))
      assert.same({ a = 1 }, all["json.decode"]('{"a":1}'))
      assert.is_nil((all["json.decode"]("{")))
      misuses("host.json.encode", all["json.encode"], { a = 0/0 })
      misuses("host.json.decode: argument 1 must be a string", all["json.decode"], {})
    end)

    it("ask the user", function()
      local all = granted({})
      assert.same({ "really?", { "yes", "no" }, "no" }, all.ask("really?", { "yes", "no" }, "no"))
      misuses("host.ask: argument 1 must be a string", all.ask)
      misuses("host.ask: argument 2 must be a table", all.ask, "really?", "yes")
      misuses("host.ask: argument 2 must hold at least one", all.ask, "really?", {})
      misuses("host.ask: choice 2 must be a string, not number", all.ask, "really?", { "a", 2 })
      misuses("host.ask: choice 1 is empty", all.ask, "really?", { "" })
      misuses("host.ask: argument 3 must be one of", all.ask, "really?", { "yes" }, "maybe")
      assert.same({ "really?", { "yes", "no" } }, all.ask("really?"))
    end)
  end)

  describe("of services", function()
    it("get the run's context and the phase's arguments", function()
      local backup = require("praxlua.backup")
      local list = backup.list_backups
      finally(function() backup.list_backups = list end)
      local got
      function backup.list_backups(...) got = { ... } return {} end
      granted({ services = { "backup" } })["backup.list_backups"]("argument")
      assert.equal(ctx, got[1])
      assert.equal("argument", got[2])
    end)

    it("leave nothing behind before the pre-flight checks are over, or in a dry run", function()
      local all = granted({ services = verbs.services() })
      ctx.change = nil
      for _, verb in ipairs({ "backup.create_backup", "content.upgrade", "lock.acquire",
        "report.commit_changes", "server.restart_server", "dependencies.install_dependencies",
        "dependencies.switch_environment" }) do
        assert.matches("only after the pre%-flight checks", fails("EDENIED", all[verb]()))
      end
      assert.is_true(all["lock.held"]())
      assert.is_false(exists(".praxis-os/.upgrade-lock"))
    end)

    it("write and remove the lock's text", function()
      local all = granted({ services = { "lock" } })
      assert.is_true(all["lock.acquire"]())
      assert.matches('"session_id": "s"', read(".praxis-os/.upgrade-lock"))
      assert.is_true(all["lock.release"]())
      assert.is_true(all["lock.release"]())
      assert.is_false(exists(".praxis-os/.upgrade-lock"))
    end)

    it("know which tools the upgraded server must have", function()
      local expected = granted({ services = { "server" } })["server.expected_tools"]
      assert.same({}, expected())
      ctx.layout = { tools = { minimum = { "search" }, gone = { "old" } } }
      assert.same({ "search" }, expected())
      ctx.memory.server_remembered = { tools = { "search", "old", "extra" } }
      assert.same({ "search", "extra" }, expected())
    end)

    it("save the session before the server is restarted", function()
      local server = require("praxlua.server")
      local restart = server.restart_server
      finally(function() server.restart_server = restart end)
      function server.restart_server(_, options) return options end
      local all = granted({ services = { "server" } })
      assert.equal("options", all["server.restart_server"]("options"))
      assert.is_string(ctx.session.metadata.restart_began)
      function ctx.save() return nil, "no space", "ENOSPC" end
      fails("ENOSPC", all["server.restart_server"]())
    end)

    it("ask the server that runs, and no other", function()
      local server = require("praxlua.server")
      local check, smoke = server.check_running, server.run_smoke
      finally(function() server.check_running, server.run_smoke = check, smoke end)
      function server.run_smoke() return { tools = {} } end
      function server.check_running() return true end
      local all = granted({ services = { "server" } })
      assert.same({ tools = {} }, all["server.run_smoke"]())
      function server.check_running() return nil, "it is gone", "ESRCH" end
      fails("ESRCH", all["server.run_smoke"]())
    end)

    it("read requirements, make the summary, run the server's tests", function()
      local report, tests = require("praxlua.report"), require("praxlua.server.tests")
      local summary, run = report.generate_upgrade_summary, tests.run
      finally(function() report.generate_upgrade_summary, tests.run = summary, run end)
      function report.generate_upgrade_summary(_, made) return made end
      function tests.run(got) return got == ctx end
      function ctx.report() return "made" end
      local all = granted({ services = { "report", "server", "dependencies" } })
      assert.equal("made", all["report.generate_upgrade_summary"]())
      assert.is_true(all["server.run_tests"]())
      assert.is_table(all["dependencies.detect_post_install_steps"]("playwright\n"))
      misuses("argument 1 must be a string", all["dependencies.detect_post_install_steps"], 1)
    end)
  end)
end)
