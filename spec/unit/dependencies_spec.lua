local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")

-- Writes a wheel: argv = directory, name, version, then lines of metadata.
local MAKE_WHEEL = [[
import sys, zipfile
directory, name, version, *metadata = sys.argv[1:]
info = f"{name}-{version}.dist-info/"
with zipfile.ZipFile(f"{directory}/{name}-{version}-py3-none-any.whl", "w") as out:
    out.writestr(f"{name}.py", f'VERSION = "{version}"\n')
    out.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: spec\n"
                 "Root-Is-Purelib: true\nTag: py3-none-any\n")
    out.writestr(info + "METADATA", "\n".join(
        ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata]) + "\n")
    out.writestr(info + "RECORD", "")
]]

-- A source distribution whose build does not get far.
local MAKE_SDIST = [[
import io, sys, tarfile
with tarfile.open(sys.argv[1] + "/unbuildable-1.0.tar.gz", "w:gz") as out:
    code = b"raise SystemExit('gcc: command not found')\n"
    entry = tarfile.TarInfo("unbuildable-1.0/setup.py")
    entry.size = len(code)
    out.addfile(entry, io.BytesIO(code))
]]

describe("dependencies", function()
  local real_environment = core.system.environment
  local wheels

  -- What the person who runs the upgrade has set, on top of what the tests run with.
  local function set_environment(variables)
    core.system.environment = function()
      local all = real_environment()
      for name in pairs(all) do
        if name:find("^PIP_") then all[name] = nil end
      end
      for name, value in pairs(variables) do all[name] = value end
      return all
    end
  end

  local function wheel(name, version, ...)
    kit.run({ "/usr/bin/python3", "-c", MAKE_WHEEL, wheels, name, version, ... })
  end

  local function offline(extra)
    local variables = { PIP_NO_INDEX = "1", PIP_FIND_LINKS = wheels }
    for name, value in pairs(extra or {}) do variables[name] = value end
    set_environment(variables)
  end

  local function install(requirements, options)
    local ctx = kit.install({ pip = true, venv = options and options.venv })
    helper.write(ctx.target .. "/mcp_server/requirements.txt", requirements)
    return kit.begin(ctx)
  end

  local function python(ctx, code)
    return kit.run({ ctx.target .. "/venv/bin/python", "-I", "-c", code })
  end

  -- Runs an installation that fails, and returns the only failure. The environment was not touched,
  -- and no clone of it is left.
  local function failure(ctx)
    local stat = core.file.stat(ctx.target .. "/venv")
    local result = assert(dependencies.install_dependencies(ctx))
    local now = core.file.stat(ctx.target .. "/venv")
    assert.equal(stat and stat.inode, now and now.inode)
    assert.is_nil(dependencies.prepared(ctx))
    assert.same({}, core.tree.list(ctx.folder .. "/stage"))
    assert.is_false(result.success)
    assert.equal(0, result.packages_installed)
    assert.equal(1, #result.errors)
    local first = result.errors[1]
    assert.truthy(first.message:find("%S") and first.next:find("%S"))
    return first, result
  end

  before_each(function()
    wheels = helper.tempdir()
    offline()
  end)

  after_each(function()
    core.system.environment = real_environment
    kit.close()
    helper.clean()
  end)

  teardown(kit.finish)

  -- ---- installing ------------------------------------------------------------------------------

  it("makes the environment when there is none", function()
    wheel("first_part", "1.0")
    local ctx = install("first_part\n", { venv = false })
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success, result.errors[1] and result.errors[1].message)
    assert.is_true(result.environment_created)
    assert.equal("1.0\n", python(ctx, "import first_part; print(first_part.VERSION)"))
    assert.matches("^home = ", helper.read(ctx.target .. "/venv/pyvenv.cfg"))
    assert.equal("", kit.run({ "sh", "-c", "grep -rlIF .upgrade " .. ctx.target
      .. "/venv/bin " .. ctx.target .. "/venv/pyvenv.cfg || true" }))
    kit.keep_environment(ctx) -- making one takes seconds
  end)

  it("installs what is required into the installation's own environment", function()
    wheel("tiny", "1.0", "Requires-Dist: small_part>=1")
    wheel("small_part", "1.2")
    local ctx = install("# what the server needs\ntiny==1.0\n")
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success)
    assert.same({
      { name = "small_part", version = "1.2" }, { name = "tiny", version = "1.0" },
    }, { result.packages[1], result.packages[2] })
    assert.equal(2, result.packages_installed)
    assert.same({}, { table.unpack(result.errors) })
    assert.is_false(result.environment_created)
    assert.is_true(result.seconds > 0)
    assert.equal("1.0\n", python(ctx, "import tiny; print(tiny.VERSION)"))
  end)

  it("does not touch the environment when it cannot be cloned", function()
    wheel("tiny", "1.0")
    local ctx = install("tiny\n")
    kit.run({ "mkfifo", ctx.target .. "/venv/fifo" })
    local before = core.tree.list(ctx.target .. "/venv")
    local message = helper.fails("ENOTREG", dependencies.install_dependencies(ctx))
    assert.matches("venv/fifo", message, 1, true)
    assert.same(before, core.tree.list(ctx.target .. "/venv"))
    assert.same({}, core.tree.list(ctx.folder .. "/stage"))
  end)

  it("refuses an environment that is a link or a file", function()
    local ctx = install("tiny\n", { venv = false })
    kit.run({ "ln", "-s", kit.environment(true), ctx.target .. "/venv" })
    local message = helper.fails("ENOTDIR", dependencies.install_dependencies(ctx))
    assert.matches("venv is a link; make it a folder of the installation's own", message, 1, true)
  end)

  it("reports an upgrade with the version before", function()
    wheel("tiny", "1.0")
    local ctx = install("tiny\n")
    assert(dependencies.install_dependencies(ctx))
    wheel("tiny", "2.0")
    helper.write(ctx.target .. "/mcp_server/requirements.txt", "tiny>=2\n")
    local result = assert(dependencies.install_dependencies(ctx))
    assert.same({ name = "tiny", version = "2.0", previous = "1.0" }, result.packages[1])
    assert.equal(1, result.packages_installed)
  end)

  it("installs nothing twice", function()
    wheel("tiny", "1.0")
    local ctx = install("tiny\n")
    assert(dependencies.install_dependencies(ctx))
    local again = assert(dependencies.install_dependencies(ctx))
    assert.is_true(again.success)
    assert.equal(0, again.packages_installed)
  end)

  it("tells what pip is at", function()
    wheel("tiny", "1.0")
    local ctx = install("tiny\n")
    assert(dependencies.install_dependencies(ctx))
    assert.same({ "Collecting tiny-1.0-py3-none-any.whl", "Installing tiny" }, ctx.said)
  end)

  it("makes it anew when its interpreter was removed from the system", function()
    local ctx = install("", { venv = false })
    local path, bin = ctx.target .. "/venv", helper.tempdir()
    local _, made = ctx.change.stage()
    made = made:gsub("%d+$", function(number) return ("%d"):format(number + 1) end)
    assert(core.file.mkdir(path .. "/bin"))
    kit.run({ "ln", "-s", "/usr/bin/python2.99", path .. "/bin/python" })
    -- Making one takes seconds, so this python3 takes a finished one when it is asked rightly.
    helper.write(bin .. "/python3", ([[#!/bin/sh
[ "$*" = "-m venv --clear %s" ] && rm -rf "$4"/* && cp -a %s/. "$4"
]]):format(made, kit.environment(true)))
    kit.run({ "chmod", "+x", bin .. "/python3" })
    offline({ PATH = bin .. ":/usr/bin:/bin" })
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success)
    assert.is_true(result.environment_created)
    assert.matches("has no working interpreter", ctx.warnings[1])
  end)

  it("gives pip to an environment that has none", function()
    wheel("tiny", "1.0")
    local ctx = kit.begin(kit.install())
    helper.write(ctx.target .. "/mcp_server/requirements.txt", "tiny\n")
    -- Python's own ensurepip takes seconds, so this interpreter copies what it once made.
    local bin, lib = ctx.target .. "/venv/bin", "lib/python*/site-packages"
    assert(core.file.remove(bin .. "/python"))
    helper.write(bin .. "/python", ([[#!/bin/sh
[ "$*" = "-m ensurepip" ] || exec "${0%%/*}/python3" "$@"
cp -a %s/%s/pip* "${0%%/bin/*}"/%s
]]):format(kit.environment(true), lib, lib))
    kit.run({ "chmod", "+x", bin .. "/python" })
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success)
    assert.equal("1.0\n", python(ctx, "import tiny; print(tiny.VERSION)"))
  end)

  it("has nothing to do without a requirements file, or with an empty one", function()
    local ctx = kit.begin(kit.install({ venv = false }))
    assert(core.file.remove(ctx.target .. "/mcp_server/requirements.txt"))
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success)
    assert.equal("there is no " .. ctx.target .. "/mcp_server/requirements.txt", result.reason)
    assert.same({}, ctx.transaction:changes())
    result = assert(dependencies.install_dependencies(install("# nothing\n")))
    assert.is_true(result.success)
    assert.equal(0, result.packages_installed)
  end)

  it("does not let pip's settings lead out of the environment", function()
    wheel("tiny", "1.0")
    local elsewhere = helper.tempdir()
    offline({ PIP_TARGET = elsewhere, PIP_USER = "1", PIP_PREFIX = elsewhere })
    local ctx = install("tiny\n")
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success, result.errors[1] and result.errors[1].message)
    assert.equal("1.0\n", python(ctx, "import tiny; print(tiny.VERSION)"))
    assert.same({}, core.tree.list(elsewhere))
  end)

  it("warns of an installed package that no longer fits", function()
    wheel("tiny", "1.0")
    wheel("tiny", "2.0")
    wheel("user_tool", "1.0", "Requires-Dist: tiny<2")
    local ctx = install("user_tool\n")
    assert(dependencies.install_dependencies(ctx))
    helper.write(ctx.target .. "/mcp_server/requirements.txt", "tiny==2.0\n")
    local result = assert(dependencies.install_dependencies(ctx))
    assert.is_true(result.success)
    assert.equal("user-tool 1.0 requires tiny<2, but you have tiny 2.0 which is incompatible.",
      result.warnings[1])
  end)

  it("installs from a backup's snapshot, but from no file of elsewhere", function()
    wheel("tiny", "1.0")
    local ctx = install("surely_missing\n")
    local snapshot = ctx.target .. "/.backups/2025-10-08-103000/requirements-snapshot.txt"
    helper.write(snapshot, "tiny==1.0\n")
    local result = assert(dependencies.install_dependencies(ctx, { requirements = snapshot }))
    assert.is_true(result.success)
    assert.equal("tiny", result.packages[1].name)
    helper.write(wheels .. "/evil.txt", "tiny\n")
    kit.run({ "ln", "-s", wheels .. "/evil.txt", ctx.target .. "/link.txt" })
    for _, path in ipairs({ wheels .. "/evil.txt", ctx.target .. "/link.txt" }) do
      assert.has_error(function()
        dependencies.install_dependencies(ctx, { requirements = path })
      end)
    end
  end)

  -- ---- known failures --------------------------------------------------------------------------

  it("names a package that does not exist", function()
    local error = failure(install("surely_missing==9.9\n"))
    assert.equal("no_such_package", error.kind)
    assert.matches("no such package or version: surely_missing==9.9", error.message, 1, true)
  end)

  it("names a network that is not there", function()
    set_environment({
      PIP_INDEX_URL = "http://127.0.0.1:1/simple", PIP_RETRIES = "1", PIP_DEFAULT_TIMEOUT = "2",
      no_proxy = "127.0.0.1", NO_PROXY = "127.0.0.1",
    })
    local ctx = install("tiny\n")
    ctx.options.pip_retry_delay = 0.01
    assert.equal("no_network", failure(ctx).kind)
  end)

  it("names requirements that contradict each other", function()
    wheel("tiny", "1.0")
    wheel("tiny", "2.0")
    wheel("other", "1.0", "Requires-Dist: tiny==1.0")
    assert.equal("version_conflict", failure(install("other\ntiny==2.0\n")).kind)
  end)

  it("names a package that was changed", function()
    wheel("tiny", "1.0")
    local lock = ("tiny==1.0 --hash=sha256:%s\n"):format(("0"):rep(64))
    assert.equal("hash_mismatch", failure(install(lock)).kind)
  end)

  it("names a package for another Python", function()
    wheel("tiny", "1.0", "Requires-Python: >=99")
    local error = failure(install("tiny\n"))
    assert.equal("python_version", error.kind)
    assert.matches(">=99", error.message, 1, true)
  end)

  it("names a package that cannot be built", function()
    kit.run({ "/usr/bin/python3", "-c", MAKE_SDIST, wheels })
    -- pip reads this switch the wrong way round.
    offline({ PIP_NO_BUILD_ISOLATION = "0" })
    assert.equal("build_failed", failure(install("unbuildable\n")).kind)
  end)

  it("names a line that is no requirement", function()
    local error = failure(install("this is not a requirement\n"))
    assert.equal("bad_requirements", error.kind)
    assert.matches("this is not a requirement", error.message, 1, true)
  end)

  it("does not install into the system", function()
    local ctx = install("tiny\n", { venv = false })
    assert(core.file.mkdir(ctx.target .. "/venv/bin"))
    kit.run({ "ln", "-s", "/usr/bin/python3", ctx.target .. "/venv/bin/python" })
    local marked = kit.run({ "/usr/bin/python3", "-c", "import os, sysconfig; print(os.path.exists("
      .. "sysconfig.get_path('stdlib') + '/EXTERNALLY-MANAGED'))" })
    if marked ~= "True\n" then return end -- not a distribution that does that
    wheel("tiny", "1.0")
    offline({ PIP_BREAK_SYSTEM_PACKAGES = "1" })
    assert.equal("externally_managed", failure(ctx).kind)
  end)

  it("stops pip when its time is over", function()
    local ctx = install("tiny\n")
    ctx.options.pip_timeout = 0.05
    local error, result = failure(ctx)
    assert.equal("timed_out", error.kind)
    assert.is_true(result.seconds < 20)
  end)

  it("says that there is no Python", function()
    set_environment({ PATH = helper.tempdir() })
    local error = failure(install("tiny\n", { venv = false }))
    assert.equal("no_python", error.kind)
    assert.matches("python3", error.message)
  end)

  -- ---- post-install steps ----------------------------------------------------------------------

  describe("detect_post_install_steps", function()
    local function detected(text)
      local packages = {}
      for i, step in ipairs(dependencies.detect_post_install_steps(kit.context("/"), text)) do
        packages[i] = step.command
      end
      return packages
    end

    for _, line in ipairs({
      "playwright", "playwright>=1.40.0", "  playwright == 1.2  # browser",
      "Playwright[extra]~=1.0",
      "playwright ; python_version >= '3.8'", "playwright @ https://example.invalid/p.whl",
      "git+https://example.invalid/p.git#egg=playwright", "-e ./local#egg=playwright",
      "playwright==1.0 \\\n    --hash=sha256:00", "playwright\r\nother\r\n", "play\\\nwright",
      "# C:\\browsers\\\nplaywright",
    }) do
      it("sees " .. ("%q"):format(line), function()
        assert.same({ "playwright install chromium" }, detected("first\n" .. line .. "\nlast\n"))
      end)
    end

    for _, line in ipairs({
      "# we do NOT use playwright", "#playwright", "other  # not playwright", "pytest-playwright",
      "playwright-stealth", "playwright2", "-r playwright.txt", "-c playwright", "",
      "--find-links playwright", "other @ https://example.invalid/playwright", "playwright install",
    }) do
      it("sees nothing in " .. ("%q"):format(line), function()
        assert.same({}, detected("first\n" .. line .. "\nlast\n"))
      end)
    end

    it("names a step once, and as optional", function()
      assert.same({
        { package = "playwright", command = "playwright install chromium", optional = true },
      }, { table.unpack(dependencies.detect_post_install_steps(kit.context("/"),
        "playwright\nplaywright>1\n")) })
    end)
  end)

  describe("run_post_install_steps", function()
    local STEPS = { { package = "playwright", command = "playwright install chromium" } }

    local function with_tool(script)
      local ctx = kit.install({ venv = false })
      local tool = ctx.target .. "/venv/bin/playwright"
      helper.write(tool, "#!/bin/sh\n" .. script)
      kit.run({ "chmod", "+x", tool })
      return dependencies.run_post_install_steps(ctx, STEPS)[1], ctx
    end

    it("runs the environment's own tool in the project", function()
      local result, ctx = with_tool('echo "$@ in $PWD"\n')
      assert.equal("success", result.status)
      assert.equal("playwright install chromium", result.command)
      assert.equal("install chromium in " .. ctx.project .. "\n", result.output)
      assert.is_true(result.optional)
    end)

    local confines = core.spawn.confines()
    local if_confined = confines and it or function() end
    if_confined("lets none write beside the installation, or in what its undo needs", function()
      local result, ctx = with_tool([[
        for place in "$PWD/here" .praxis-os/here .praxis-os/venv/here .praxis-os/.upgrade \
          .praxis-os/.backups; do
          if (echo x > "$place") 2>&-; then echo "$place"; fi
        done
      ]])
      assert.equal("success", result.status)
      assert.equal(".praxis-os/venv/here\n", result.output)
      assert.equal("x\n", helper.read(ctx.target .. "/venv/here"))
    end)

    it("reports one that fails, with its output", function()
      local result = with_tool("echo 'Error: connect ECONNREFUSED' >&2\nexit 3\n")
      assert.equal("failed", result.status)
      assert.equal("Error: connect ECONNREFUSED\n", result.output)
      assert.matches("exit code 3: Error: connect ECONNREFUSED", result.reason)
    end)

    it("keeps the end of a long output", function()
      local result = with_tool("seq 1 5000\necho the end\n")
      assert.is_true(#result.output < 4100)
      assert.matches("\nthe end\n$", result.output)
    end)

    it("does not run a tool that is not there", function()
      local result = dependencies.run_post_install_steps(kit.install({ venv = false }), STEPS)[1]
      assert.equal("not_run", result.status)
      assert.equal("playwright is not installed in the environment", result.reason)
    end)

    describe("that a project declares", function()
      local function declare(steps)
        local ctx = kit.install({ venv = false })
        helper.write(ctx.target .. "/mcp_server/requirements.txt", "NLTK>=3\n# playwright\n")
        ctx.options.project = { post_install = steps }
        for name, script in pairs({ python = "echo $@; head -c 1000 /dev/zero > " .. ctx.target
          .. "/venv/data\n", broken = "echo no luck; exit 1\n", slow = "sleep 60\n" }) do
          helper.write(ctx.target .. "/venv/bin/" .. name, "#!/bin/sh\n" .. script)
        end
        kit.run({ "chmod", "-R", "755", ctx.target .. "/venv/bin" })
        return ctx
      end
      local function run(steps)
        local ctx = declare(steps)
        return dependencies.run_post_install_steps(ctx,
          dependencies.detect_post_install_steps(ctx)), ctx
      end

      it("are run when their package is required, and told with what they added", function()
        local results, ctx = run({
          { package = "nltk", command = { "python", "-m", "nltk.downloader", "punkt" } },
          { package = "playwright", command = { "broken" } },
          { package = "Nltk", command = { "broken" }, optional = true } })
        assert.equal(2, #results)
        assert.same({ "success", "python -m nltk.downloader punkt", "-m nltk.downloader punkt\n",
          false, 1000 }, { results[1].status, results[1].command, results[1].output,
          results[1].optional, results[1].bytes })
        assert.same({ "failed", true, 0 }, { results[2].status, results[2].optional,
          results[2].bytes })
        assert.same({ "python -m nltk.downloader punkt", "broken" }, ctx.said)
      end)

      it("are failed when required and not to be run, and stopped when their time is over",
        function()
          local results = run({ { package = "nltk", command = { "none" } },
            { package = "nltk", command = { "none" }, optional = true },
            { package = "nltk", command = { "slow" }, seconds = 1 } })
          assert.equal("failed", results[1].status)
          assert.equal("none is not installed in the environment", results[1].reason)
          assert.equal("failed", results[3].status)
          assert.matches("slow was stopped after 1 s", results[3].reason)
        end)

      it("take the place of what is built in for the same package", function()
        local ctx = declare({ { package = "playwright", command = { "broken" } } })
        assert.same({ { package = "playwright", command = "broken", optional = false } },
          { table.unpack(dependencies.detect_post_install_steps(ctx, "playwright\n")) })
      end)

      it("are none without a requirements file", function()
        local ctx = declare({ { package = "nltk", command = { "python" } } })
        os.remove(ctx.target .. "/mcp_server/requirements.txt")
        assert.same({}, { table.unpack(dependencies.detect_post_install_steps(ctx)) })
      end)

      it("run in the clone while one waits", function()
        local ctx = declare({ { package = "nltk", command = { "python" } } })
        kit.run({ "sed", "-i", "s|" .. ctx.target .. "/venv|${0%/bin/*}|",
          ctx.target .. "/venv/bin/python" })
        kit.begin(ctx)
        local result = assert(dependencies.install_dependencies(ctx, { beside = true }))
        os.remove(result.environment .. "/data")
        assert.equal("success", dependencies.run_post_install_steps(ctx,
          dependencies.detect_post_install_steps(ctx))[1].status)
        assert.is_true(core.file.exists(result.environment .. "/data"))
        assert.is_false(core.file.exists(ctx.target .. "/venv/data"))
      end)
    end)

    it("knows no other steps, and no other words for one", function()
      for package, command in pairs({ evil = "playwright install chromium",
        playwright = "rm -rf /" }) do
        assert.has_error(function()
          dependencies.run_post_install_steps(kit.context("/"),
            { { package = package, command = command } })
        end, ("unknown post-install step: %s (%s)"):format(command, package))
      end
    end)
  end)
end)

describe("pip_failures", function()
  local failures = require("praxlua.pip_failures")

  for kind, output in pairs({
    disk_full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left",
    certificate = "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))\n"
      .. "ERROR: No matching distribution found for tiny",
    no_network = "Temporary failure in name resolution\nERROR: No matching distribution found",
    not_permitted = "ERROR: Could not install: [Errno 13] Permission denied: 'x'",
    no_pip = "/usr/bin/python3: No module named pip",
    build_failed = "ERROR: Failed building wheel for lxml",
  }) do
    it("knows " .. kind, function()
      assert.equal(kind, failures.explain(output, "pip install", 1)[1].kind)
    end)
  end

  it("quotes what it does not know, printable, the lines marked as errors first", function()
    local output = "noise\nERROR: something \27[31mnew\nmore noise\n"
    local error = failures.explain(output, "pip install", 2)[1]
    assert.equal("unknown", error.kind)
    assert.equal("pip install failed with exit code 2: ERROR: something \\e[31mnew", error.message)
  end)

  it("quotes the last lines when none is marked, and none when there is none", function()
    assert.equal("x failed with exit code 1: b | c | d",
      failures.explain("a\nb\nc\nd\n", "x", 1)[1].message)
    assert.equal("x failed with exit code 1", failures.explain("", "x", 1)[1].message)
  end)
end)
