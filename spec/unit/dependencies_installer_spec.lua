--- Installing again when the network failed, and with uv.
local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local failures = require("praxlua.pip_failures")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local process = require("praxlua.process")

-- Stands for python and pip: fails as the file beside it says, one line a try.
local PYTHON = [[#!/bin/sh
venv=${0%/bin/*}
case "$*" in
  "-I -c "*) echo '{"pip": "1.0"}' ;;
  "-m pip install"*)
    echo "$PIP_RETRIES" >> "$venv/retries"
    read -r line < "$venv/tries" || exit 0
    sed -i 1d "$venv/tries"
    [ -n "$line" ] || exit 0
    echo "ERROR: $line" >&2
    exit 1 ;;
esac
]]

local NO_NETWORK = "Failed to establish a new connection: [Errno 111] Connection refused"

describe("The installer", function()
  local ctx, real_environment = nil, core.system.environment

  local function set_environment(variables)
    core.system.environment = function()
      local all = real_environment()
      for name in pairs(all) do
        if name:find("^PIP_") or name:find("^UV_") then all[name] = nil end
      end
      for name, value in pairs(variables) do all[name] = value end
      return all
    end
  end

  after_each(function()
    core.system.environment = real_environment
    core.system.clear_interrupt()
    kit.close()
    helper.clean()
  end)
  teardown(kit.finish)

  describe("when the network fails", function()
    -- An installation in which pip fails in these ways, one after the other.
    local function install(...)
      ctx = kit.begin(kit.install({ venv = false }))
      helper.tree(ctx.target .. "/venv", { ["bin/python"] = PYTHON,
        tries = table.concat({ ... }, "\n") .. "\n" })
      kit.run({ "chmod", "755", ctx.target .. "/venv/bin/python" })
      helper.write(ctx.target .. "/mcp_server/requirements.txt", "tiny\n")
      ctx.options.pip_retry_delay = 0.01
    end
    local function run() return dependencies.install_dependencies(ctx, { beside = true }) end
    local function waits()
      local said = {}
      for _, text in ipairs(ctx.said) do
        if text:find("again in", 1, true) then said[#said + 1] = text end
      end
      return said
    end

    it("tries again after ever longer waits, and says so", function()
      install(NO_NETWORK, NO_NETWORK, NO_NETWORK)
      local result = assert(run())
      assert.is_true(result.success)
      assert.same({ "the package index cannot be reached; again in 0.01 s (2 of 4)",
        "the package index cannot be reached; again in 0.02 s (3 of 4)",
        "the package index cannot be reached; again in 0.04 s (4 of 4)" }, waits())
      assert.equal(("1\n"):rep(4), helper.read(result.environment .. "/retries"))
    end)

    it("gives up after the fourth", function()
      install(NO_NETWORK, NO_NETWORK, NO_NETWORK, NO_NETWORK, "unreached")
      local result = assert(run())
      assert.is_false(result.success)
      assert.equal("no_network", result.errors[1].kind)
      assert.equal(3, #waits())
    end)

    it("does not try again for anything else", function()
      for _, line in ipairs({ "No matching distribution found for tiny", "ResolutionImpossible",
        "THESE PACKAGES DO NOT MATCH THE HASHES", "Failed building wheel for tiny",
        "No space left on device", "something new" }) do
        install(line)
        assert.is_false(assert(run()).success)
        assert.same({}, waits())
      end
      install(NO_NETWORK, "ResolutionImpossible")
      assert.equal("version_conflict", assert(run()).errors[1].kind)
      assert.equal(1, #waits())
    end)

    it("leaves pip the retries that its user set", function()
      install("")
      set_environment({ PIP_RETRIES = "7" })
      assert.equal("7\n", helper.read(assert(run()).environment .. "/retries"))
    end)

    it("ends with the time of the whole", function()
      install(NO_NETWORK, NO_NETWORK)
      ctx.options.pip_retry_delay, ctx.options.pip_timeout = 60, 20
      local result = assert(run())
      assert.equal("no_network", result.errors[1].kind)
      assert.is_true(result.seconds < 20)
    end)

    it("ends at once when it is interrupted while it waits", function()
      install(NO_NETWORK)
      ctx.options.pip_retry_delay = 60
      core.system.catch_signals()
      local progress = ctx.progress
      function ctx.progress(text)
        progress(text)
        if text:find("again in", 1, true) then core.system.signal(core.system.pid(), "TERM") end
      end
      local began = core.system.monotonic()
      helper.fails("EINTR", run())
      assert.is_true(core.system.monotonic() - began < 30)
      assert.is_nil(dependencies.prepared(ctx))
    end)
  end)

  describe("with uv", function()
    local wheels

    local function install(requirements)
      ctx = kit.begin(kit.install())
      helper.write(ctx.target .. "/mcp_server/requirements.txt", requirements)
      ctx.options.project = { server = { installer = "uv" } }
      ctx.options.pip_retry_delay = 0.01
    end

    -- Whoever has no uv gets what it says and does, as far as these tests look.
    local STAND_IN = [[#!/bin/sh
[ -n "$UV_NO_CONFIG$UV_CONFIG_FILE" ] || exit 65
[ "$1 $2 $3 $4 $6" = "pip install --no-progress --python -r" ] || exit 64
read -r name < "$7"
echo "Using Python 3.11.7 environment at: x" >&2
case "$name" in
  tiny==1.0)
    site=$("$5" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    /usr/bin/python3 -m zipfile -e "$UV_FIND_LINKS/tiny-1.0-py3-none-any.whl" "$site"
    printf 'Resolved 1 package in 1ms\nInstalled 1 package in 0.40ms\n + tiny==1.0\n' >&2 ;;
  *)
    printf 'error: No solution found when resolving dependencies\n  cause: Because %s' \
      "surely-missing was not found in the cache and you require it, we can conclude" >&2
    exit 1 ;;
esac
]]

    before_each(function()
      wheels = helper.tempdir()
      kit.run({ "/usr/bin/python3", "spec/support/make_wheel.py", wheels, "tiny", "1.0" })
      local path = real_environment().PATH
      if not process.find("uv") then
        local bin = helper.tempdir()
        helper.write(bin .. "/uv", STAND_IN)
        kit.run({ "chmod", "755", bin .. "/uv" })
        path = bin .. ":" .. path
      end
      set_environment({ UV_OFFLINE = "1", UV_FIND_LINKS = wheels, PATH = path,
        UV_CACHE_DIR = helper.tempdir() })
    end)

    it("installs into the clone, where the project asks for it", function()
      install("tiny==1.0\n")
      local result = assert(dependencies.install_dependencies(ctx))
      assert.is_true(result.success, result.errors[1] and result.errors[1].message)
      assert.same({ name = "tiny", version = "1.0" }, result.packages[1])
      assert.matches("Installed 1 package in", table.concat(ctx.said, "\n"), 1, true)
      assert.equal("1.0\n", kit.run({ ctx.target .. "/venv/bin/python", "-I", "-c",
        "import tiny; print(tiny.VERSION)" }))
    end)

    it("does not go by what the project says to uv of its own packages", function()
      install("tiny==1.0\n")
      local places = "target = 'elsewhere'\n"
      helper.write(ctx.project .. "/uv.toml",
        "override-dependencies = ['tiny==7']\n[pip]\n" .. places)
      assert.is_true(assert(dependencies.install_dependencies(ctx)).success)
      os.remove(ctx.project .. "/uv.toml")
      helper.write(ctx.project .. "/pyproject.toml", "[tool.uv.pip]\n" .. places)
      assert(core.tree.remove(ctx.target .. "/.cache"))
      local result = assert(dependencies.install_dependencies(ctx))
      assert.is_true(result.success, result.errors[1] and result.errors[1].message)
      assert.is_false(core.file.exists(ctx.project .. "/elsewhere"))
    end)

    it("goes by the settings of uv's user", function()
      install("tiny==1.0\n")
      local home = helper.tempdir()
      helper.write(home .. "/.config/uv/uv.toml", "nonsense = 1\n")
      local variables = core.system.environment()
      variables.HOME = home
      local bin = helper.tempdir()
      helper.write(bin .. "/uv", "#!/bin/sh\necho \"error: $UV_CONFIG_FILE\" >&2; exit 2\n")
      kit.run({ "chmod", "755", bin .. "/uv" })
      variables.PATH = bin .. ":" .. variables.PATH
      set_environment(variables)
      local first = assert(dependencies.install_dependencies(ctx)).errors[1]
      assert.matches("error: " .. home .. "/.config/uv/uv.toml", first.message, 1, true)
    end)

    it("names what is wrong", function()
      install("surely_missing==9.9\n")
      local result = assert(dependencies.install_dependencies(ctx))
      assert.equal("no_such_package", result.errors[1].kind)
      assert.matches("surely-missing", result.errors[1].message, 1, true)
    end)

    it("says what to do where there is none", function()
      install("tiny==1.0\n")
      local bin = helper.tempdir()
      kit.run({ "ln", "-s", "/usr/bin/python3", bin .. "/python3" })
      set_environment({ PATH = bin })
      local first = assert(dependencies.install_dependencies(ctx)).errors[1]
      assert.equal("no_uv", first.kind)
      assert.matches("neither on PATH nor in the installation's environment", first.message)
      assert.matches('installer = "pip"', first.next, 1, true)
    end)

    it("takes the one of the environment where PATH has none", function()
      install("tiny==1.0\n")
      local bin = helper.tempdir()
      kit.run({ "ln", "-s", "/usr/bin/python3", bin .. "/python3" })
      helper.write(ctx.target .. "/venv/bin/uv", "#!/bin/sh\necho ' + tiny==1.0' >&2\n")
      kit.run({ "chmod", "755", ctx.target .. "/venv/bin/uv" })
      set_environment({ PATH = bin })
      local result = assert(dependencies.install_dependencies(ctx))
      assert.is_true(result.success)
      assert.equal("tiny", result.packages[1].name)
    end)
  end)

  -- What uv 0.13.9 says, as far as its causes go.
  for kind, output in pairs({
    no_such_package = "error: No solution found when resolving dependencies\n  cause: Because "
      .. "there is no version of tiny==9.9 and you require tiny==9.9, we can conclude that your "
      .. "requirements are unsatisfiable.",
    version_conflict = "error: No solution found when resolving dependencies\n  cause: Because all "
      .. "versions of other depend on tiny==1.0 and you require other, we can conclude that you "
      .. "require tiny==1.0.\n         And because you require tiny==2.0, we can conclude that "
      .. "your requirements are unsatisfiable.",
    python_version = "error: No solution found when resolving dependencies\n  cause: Because "
      .. "newer==1.0.0 requires Python >=99 and only newer==1.0.0 is available, we can conclude",
    hash_mismatch = "error: Failed to download `tiny==1.0`\n  cause: Hash mismatch for `tiny==1.0`",
    build_failed = "error: Failed to build `unbuildable==1.0`\n  cause: The build backend returned "
      .. "an error",
    bad_requirements = "error: Couldn't parse requirement in `r.txt` at position 0",
    no_network = "error: Request failed after 1 retry in 1.9s\n  cause: Failed to fetch: "
      .. "http://127.0.0.1:1/simple/tiny/\n  cause: error sending request for url (http://x)",
    externally_managed = "error: The interpreter at `/usr` is externally managed, and indicates",
    disk_full = "error: Failed to install\n  cause: No space left on device (os error 28)",
  }) do
    it("knows uv's words for " .. kind, function()
      assert.equal(kind, failures.explain(output, "uv pip install", 1)[1].kind)
    end)
  end
end)
