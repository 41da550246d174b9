--- The environment cloned beside: what is shared, what is not, and what a rollback brings back.
local clone = require("praxlua.dependencies.clone")
local core = require("praxlua.core")
local dependencies = require("praxlua.dependencies")
local environment = require("praxlua.environment")
local helper = require("spec.support.helper")
local kit = require("spec.support.server_kit")
local tiny = require("spec.support.tiny")

local PACKAGES = "lib/python3.11/site-packages/"

-- Stands for python and pip: what is "installed" is whatever the script does in $venv.
local PYTHON = [[#!/bin/sh
venv=${0%%/bin/*}
case "$*" in
  "-I -c "*) echo '{"pip": "1.0"}' ;;
  "-m pip install"*) %s ;;
esac
]]

describe("The environment cloned beside", function()
  local ctx, venv

  -- An installation whose pip runs a script.
  local function install(script)
    ctx = kit.install({ venv = false })
    venv = ctx.target .. "/venv"
    helper.tree(venv, {
      ["pyvenv.cfg"] = "home = /usr/bin\n",
      ["bin/python"] = PYTHON:format(script or ":"),
      ["bin/tool"] = "#!" .. venv .. "/bin/python\nold\n",
      [PACKAGES .. "pack/code.py"] = "old code\n",
      [PACKAGES .. "pack/native.so.1.2"] = "old native\n",
      [PACKAGES .. "pack/data.json"] = "old data\n",
      [PACKAGES .. "pack-1.dist-info/RECORD"] = "old record\n",
      [PACKAGES .. "mine.pth"] = "/somewhere\n",
    })
    kit.run({ "chmod", "755", venv .. "/bin/python", venv .. "/bin/tool" })
    return kit.begin(ctx)
  end

  local function everything()
    local all = {}
    for i, entry in ipairs(core.tree.list(venv, { hash = true })) do
      all[i] = ("%s %s %o %s %d"):format(entry.path, entry.type, entry.mode,
        entry.sha256 or entry.target or "", entry.type == "file" and entry.inode or 0)
    end
    return all
  end

  local function beside() return dependencies.install_dependencies(ctx, { beside = true }) end

  after_each(function()
    kit.close()
    helper.clean()
  end)

  for path, shared in pairs({
    [PACKAGES .. "a/b.py"] = true, ["lib64/python3.12/site-packages/x.pyi"] = true,
    [PACKAGES .. "a/__pycache__/b.cpython-311.pyc"] = true, [PACKAGES .. "a.so"] = true,
    [PACKAGES .. "a.cpython-311-x86_64-linux-gnu.so"] = true,
    [PACKAGES .. "a.libs/b.so.5.1"] = true,
    [PACKAGES .. "a/b.h"] = true, [PACKAGES .. "a/b.pxd"] = true,
    [PACKAGES .. "a.pth"] = false, [PACKAGES .. "a.egg-link"] = false,
    [PACKAGES .. "a-1.dist-info/RECORD"] = false, [PACKAGES .. "a-1.dist-info/x.py"] = false,
    [PACKAGES .. "a.egg-info/x.py"] = false, [PACKAGES .. "a/data.json"] = false,
    [PACKAGES .. "a/node"] = false, [PACKAGES .. "a/.py"] = false, ["bin/tool.py"] = false,
    ["lib/tool.py"] = false, ["src/python3/site-packages/a.py"] = false, ["pyvenv.cfg"] = false,
  }) do
    it((shared and "shares " or "copies ") .. path, function()
      assert.equal(shared, clone.is_shared(path))
    end)
  end

  it("waits, an environment of its own, while the old one serves", function()
    install('echo new > "$venv/' .. PACKAGES .. 'pack/added.py"')
    local before = everything()
    local result = assert(beside())
    assert.is_true(result.success)
    assert.equal(dependencies.prepared(ctx), result.environment)
    assert.equal("#!" .. result.environment .. "/bin/python\nold\n",
      (helper.read(result.environment .. "/bin/tool"):gsub(
        "^#!/bin/sh\n'''exec' (%S+) \"%$0\" \"%$@\"\n' '''\n", "#!%1\n")))
    assert.equal("new\n", helper.read(result.environment .. "/" .. PACKAGES .. "pack/added.py"))
    assert.same(before, everything())
    assert.same({}, ctx.transaction:changes())
  end)

  it("is exchanged for the old one, with its scripts corrected", function()
    install('echo "#!$venv/bin/python" > "$venv/bin/added"')
    assert(beside())
    assert.is_true(dependencies.switch_environment(ctx))
    assert.is_nil(dependencies.prepared(ctx))
    for _, name in ipairs({ "tool", "added" }) do
      assert.matches("#!" .. venv .. "/bin/python\n", helper.read(venv .. "/bin/" .. name), 1, true)
    end
    assert.is_true(dependencies.switch_environment(ctx), "nothing waits any more")
    assert.equal(1, #ctx.transaction:changes())
  end)

  it("keeps from the old one what is rewritten in place meanwhile", function()
    install([[for path in pyvenv.cfg bin/tool ]] .. PACKAGES .. "mine.pth " .. PACKAGES
      .. "pack/data.json " .. PACKAGES .. [[pack-1.dist-info/RECORD; do
        echo "rewritten in place" >> "$venv/$path"
      done
      rm "$venv/]] .. PACKAGES .. [[pack/code.py"
      echo "new code" > "$venv/]] .. PACKAGES .. [[pack/code.py"]])
    local before = everything()
    assert(beside())
    assert.same(before, everything())
    assert(dependencies.switch_environment(ctx))
    assert.matches("rewritten", helper.read(venv .. "/pyvenv.cfg"))
    assert.equal("new code\n", helper.read(venv .. "/" .. PACKAGES .. "pack/code.py"))
    assert.same({}, ctx.transaction:rollback())
    assert.same(before, everything())
  end)

  it("keeps from the old one what a project's own step writes into the packages' code", function()
    install()
    ctx.options.project = { post_install = { { package = "pack", command = { "regenerate" } } } }
    helper.write(ctx.target .. "/mcp_server/requirements.txt", "pack\n")
    helper.write(venv .. "/bin/regenerate", "#!/bin/sh\necho generated > ${0%/bin/*}/" .. PACKAGES
      .. "pack/code.py\n")
    kit.run({ "chmod", "755", venv .. "/bin/regenerate" })
    local before = everything()
    assert(beside())
    local steps = dependencies.detect_post_install_steps(ctx)
    assert.equal("success", dependencies.run_post_install_steps(ctx, steps)[1].status)
    assert.equal("generated\n", helper.read(dependencies.prepared(ctx) .. "/" .. PACKAGES
      .. "pack/code.py"))
    assert.same(before, everything())
  end)

  for _, part in ipairs({ "bin", "lib", "lib/python3.11", "lib/python3.11/site-packages" }) do
    it("does not install where a link leads out of the environment: " .. part, function()
      install("touch \"$venv/" .. part .. "/new\"")
      kit.run({ "ln", "-s", "lib", venv .. "/lib64" })
      local elsewhere = helper.tempdir() .. "/elsewhere"
      kit.run({ "mv", venv .. "/" .. part, elsewhere })
      kit.run({ "ln", "-s", elsewhere, venv .. "/" .. part })
      local message = helper.fails("EXDEV", beside())
      assert.matches(venv .. "/" .. part .. " is a link out of the environment", message, 1, true)
      assert.is_nil(core.file.stat(elsewhere .. "/new"))
    end)
  end

  local MOUNTS = {
    ["of another file system"] = "mount -t tmpfs none \"$0\" && cp -a \"$1/.\" \"$0\"",
    ["of the same one"] = "mount --bind \"$1\" \"$0\"",
  }
  for what, mount in pairs(MOUNTS) do
    it("says that an environment cannot be exchanged that is a mount " .. what, function()
      local s = tiny.new({ second = { ["mcp_server/requirements.txt"] = "one==1\n" } })
      local inside = "set -e; cp -a \"$0\" \"$1\"; " .. mount .. "; shift; exec \"$@\""
      local wrap = { "unshare", "-m", "sh", "-c", inside, s.target .. "/venv", s.root .. "/other" }
      if core.system.euid() ~= 0 then table.insert(wrap, 3, "-Ur") end
      local before = tiny.snapshot(s)
      local result = tiny.upgrade(s, {}, { wrap = wrap })
      assert.equal(1, result.code)
      assert.matches("venv is mounted, so it cannot be exchanged", result.stdout, 1, true)
      assert.same(before, tiny.snapshot(s))
    end)
  end

  it("leaves an environment of 20,000 files as it was when it is rolled back #uncounted", function()
    install([[cd "$venv/]] .. PACKAGES .. [[" && rm -r package1 package2 && for i in 3 4 5 6; do
      for file in package$i/*.py; do rm "$file"; echo new > "$file"; done
      for file in package$i/*.json; do echo new >> "$file"; done
      done; echo new >> mine.pth; echo new >> "$venv/pyvenv.cfg"]])
    kit.run({ "/usr/bin/python3", "-c", [[
import os, sys
for p in range(200):
    folder = sys.argv[1] + "package%d/" % p
    os.mkdir(folder)
    for f in range(100):
        with open(folder + "%d%s" % (f, ".json" if f % 5 == 0 else ".py"), "w") as out:
            out.write("%d %d" % (p, f))
        os.chmod(folder + "%d%s" % (f, ".json" if f % 5 == 0 else ".py"), 0o600 + f % 3 * 0o44)
]], venv .. "/" .. PACKAGES })
    local before = everything()
    assert.is_true(#before > 20000)
    assert(dependencies.install_dependencies(ctx))
    assert.is_true(table.concat(before, "\n") ~= table.concat(everything(), "\n"))
    assert.same({}, ctx.transaction:rollback())
    assert.is_true(table.concat(before, "\n") == table.concat(everything(), "\n"))
  end)

  it("is given up, and the old one stays, when the installation fails", function()
    install('rm -r "$venv/lib"; echo "ERROR: No matching distribution found for x" >&2; exit 1')
    local before = everything()
    local result = assert(beside())
    assert.is_false(result.success)
    assert.is_nil(dependencies.prepared(ctx))
    assert.same({}, core.tree.list(ctx.folder .. "/stage"))
    assert.is_true(dependencies.switch_environment(ctx))
    assert.same(before, everything())
  end)

  it("is installed into again while it waits", function()
    install('echo x >> "$venv/installed"')
    assert(beside())
    local result = assert(beside())
    assert.equal("x\nx\n", helper.read(result.environment .. "/installed"))
    assert(dependencies.switch_environment(ctx))
    assert.equal("x\nx\n", helper.read(venv .. "/installed"))
  end)

  it("is not exchanged for what somebody put in the place of the old one", function()
    install()
    assert(beside())
    kit.run({ "mv", venv, venv .. "-mine" })
    helper.write(venv, "a file")
    helper.fails("ENOTDIR", dependencies.switch_environment(ctx))
    assert.equal("a file", helper.read(venv))
    assert.is_nil(dependencies.prepared(ctx))
    assert.same({}, core.tree.list(ctx.folder .. "/stage"))
  end)

  it("can be left, and the old one kept and brought back without copying its code", function()
    install('echo new > "$venv/added"')
    local kept, before = helper.tempdir() .. "/kept", everything()
    assert(core.tree.copy(venv, kept))
    assert(dependencies.install_dependencies(ctx))
    assert(environment.bring_back(ctx, kept))
    local listed = everything()
    for i, line in ipairs(before) do -- but for the inodes
      assert.equal(line:gsub(" %d+$", ""), listed[i]:gsub(" %d+$", ""))
    end
    local code = "/" .. PACKAGES .. "pack/code.py"
    assert.equal(core.file.stat(kept .. code).inode, core.file.stat(venv .. code).inode)
  end)
end)
