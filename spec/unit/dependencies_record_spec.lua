--- Whether there is anything to install: the record of the last installation.
local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local requirements_file = require("praxlua.dependencies.requirements_file")
local tool = require("praxlua.dependencies.tool")

-- Stands for python and pip.
local PYTHON = [[#!/bin/sh
venv=${0%/bin/*}
case "$*" in
  "-I -c "*) echo '{"pip": "1.0"}' ;;
  "-m pip install"*) echo code > "$venv/lib/python3.11/site-packages/code.py" ;;
esac
]]

describe("The record of an installation", function()
  local ctx, venv, installs
  local real_run = tool.run

  before_each(function()
    ctx = kit.begin(kit.install({ venv = false }))
    venv, installs = ctx.target .. "/venv", 0
    helper.tree(venv, { ["pyvenv.cfg"] = "home = /usr/bin\n", ["bin/python"] = PYTHON,
      ["lib/python3.11/site-packages/old.py"] = "old\n",
      ["bin/tool"] = "#!/bin/sh\necho done\n" })
    kit.run({ "chmod", "755", venv .. "/bin/python", venv .. "/bin/tool" })
    helper.write(ctx.target .. "/mcp_server/requirements.txt", "tiny==1.0\n")
    tool.run = function(of, argv, options)
      if argv[4] == "install" then installs = installs + 1 end
      return real_run(of, argv, options)
    end
  end)
  after_each(function()
    tool.run = real_run
    kit.close()
    helper.clean()
  end)

  local function write(path, data) helper.write(ctx.target .. "/" .. path, data) end

  -- Installs, and tells why nothing was done.
  local function install(options)
    local result = assert(dependencies.install_dependencies(ctx, options))
    assert.is_true(result.success, result.errors[1] and result.errors[1].message)
    return result.reason
  end

  it("lets the next one do nothing, neither clone nor install", function()
    assert.is_nil(install({ beside = true }))
    assert(dependencies.switch_environment(ctx))
    local inode = core.file.stat(venv).inode
    assert.equal("unchanged", install({ beside = true }))
    assert.is_nil(dependencies.prepared(ctx))
    assert.is_true(dependencies.switch_environment(ctx))
    assert.equal("unchanged", install())
    assert.equal(1, installs)
    assert.equal(inode, core.file.stat(venv).inode)
    assert.equal(1, #ctx.transaction:changes())
  end)

  it("does not count Python's caches, nor times", function()
    install()
    write("venv/lib/python3.11/site-packages/__pycache__/code.pyc", "x")
    kit.run({ "touch", "-d", "2001-01-01", venv .. "/lib/python3.11/site-packages/old.py" })
    assert.equal("unchanged", install())
  end)

  for what, change in pairs({
    ["other requirements"] = function() write("mcp_server/requirements.txt", "tiny==2.0\n") end,
    ["a file of another size"] = function()
      write("venv/lib/python3.11/site-packages/old.py", "changed\n")
    end,
    ["a file that is gone"] = function()
      os.remove(venv .. "/lib/python3.11/site-packages/old.py")
    end,
    ["a further file"] = function() write("venv/lib/python3.11/site-packages/new.py", "") end,
    ["another mode"] = function() kit.run({ "chmod", "700", venv .. "/bin/tool" }) end,
    ["another pyvenv.cfg"] = function() write("venv/pyvenv.cfg", "home = /opt/bin\n") end,
    ["another interpreter"] = function()
      kit.run({ "touch", "-d", "2001-01-01", venv .. "/bin/python" })
    end,
    ["no environment's settings"] = function() os.remove(venv .. "/pyvenv.cfg") end,
    ["no record"] = function() os.remove(ctx.target .. "/.cache/environment.json") end,
    ["a damaged record"] = function()
      local path = ctx.target .. "/.cache/environment.json"
      helper.write(path, (helper.read(path):gsub('"listing": "..', '"listing": "zz')))
    end,
    ["a record of another kind"] = function() write(".cache/environment.json", "[1, 2]") end,
    ["another installer"] = function()
      ctx.options.project = { server = { installer = "pip" } }
      local path = ctx.target .. "/.cache/environment.json"
      local seal = require("praxlua.seal")
      local found = seal.open(helper.read(path))
      found.installer = "uv"
      helper.write(path, seal.encode(found))
    end,
  }) do
    it("is none for " .. what, function()
      install()
      change()
      assert.is_nil(install())
      assert.equal(2, installs)
    end)
  end

  it("is none for requirements that count on other files", function()
    write("mcp_server/requirements.txt", "-r more.txt\ntiny\n")
    install()
    assert.is_nil(install())
    assert.equal(2, installs)
  end)

  for line, refers in pairs({
    ["tiny==1.0  # comment"] = false, ["tiny==1.0 \\\n  --hash=sha256:00"] = false, [""] = false,
    ["tiny[extra]>=1; python_version > '3'"] = false, ["-r more.txt"] = true, ["-c x.txt"] = true,
    ["-e ."] = true, ["--find-links wheels"] = true, ["./local"] = true, ["../x.whl"] = true,
    ["# C:\\wheels\\\n-r more.txt"] = true, ["tiny # -r \\\n -r more.txt"] = false,
    ["tiny==${PIP_TINY}"] = true, ["tiny-1.0-py3-none-any.whl"] = true, ["tiny-1.tar.gz"] = true,
    ["\xef\xbb\xbftiny"] = false, ["tiny\r-r more.txt"] = true, ["tiny @ file:///x"] = true,
    ["git+https://example.invalid/x#egg=tiny"] = true,
  }) do
    it((refers and "knows that other files count for " or "takes by its words ") .. line,
      function() assert.equal(refers, requirements_file.refers(line .. "\nother\n")) end)
  end

  describe("with steps after the installation", function()
    local function run_steps()
      return dependencies.run_post_install_steps(ctx, dependencies.detect_post_install_steps(ctx))
    end

    before_each(function()
      ctx.options.project = { post_install = { { package = "tiny", command = { "tool" } } } }
    end)

    it("says which need not be run again", function()
      install({ beside = true })
      assert.equal("success", run_steps()[1].status)
      assert(dependencies.switch_environment(ctx))
      assert.equal("unchanged", install({ beside = true }))
      local again = run_steps()[1]
      assert.same({ "not_run", "unchanged" }, { again.status, again.reason })
    end)

    it("is none when the browser it fetched is gone, or is another user's", function()
      local home, real_environment = helper.tempdir(), tool.environment
      finally(function() tool.environment = real_environment end)
      tool.environment = function()
        local variables = real_environment()
        variables.HOME = home
        return variables
      end
      ctx.options.project = nil
      write("mcp_server/requirements.txt", "playwright\n")
      write("venv/bin/playwright", '#!/bin/sh\nmkdir -p "$HOME/.cache/ms-playwright"\n')
      kit.run({ "chmod", "755", venv .. "/bin/playwright" })
      kit.run({ "mkdir", home .. "/.cache" })
      install({ beside = true })
      assert.equal("success", run_steps()[1].status)
      assert(dependencies.switch_environment(ctx))
      assert.equal("unchanged", install({ beside = true }))
      assert.equal("unchanged", run_steps()[1].reason)
      kit.run({ "rm", "-r", home .. "/.cache/ms-playwright" })
      assert.is_nil(install({ beside = true }))
      assert.equal("success", run_steps()[1].status)
    end)

    it("is none when one was not run, or failed", function()
      install({ beside = true })
      assert(dependencies.switch_environment(ctx))
      assert.is_nil(install({ beside = true }))
      helper.write(dependencies.prepared(ctx) .. "/bin/tool", "#!/bin/sh\nexit 1\n")
      assert.equal("failed", run_steps()[1].status)
      assert(dependencies.switch_environment(ctx))
      assert.is_nil(install({ beside = true }))
    end)
  end)
end)
