local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local praxis_os = require("praxlua.layout.praxis_os")
local staged_code = require("praxlua.staged_code")

describe("The staged code", function()
  local ctx, root

  before_each(function()
    root = helper.tempdir()
    helper.tree(root, {
      ["p/.praxis-os/mcp_server/old.py"] = "old\n",
      ["p/.praxis-os/mcp_server/gone.py"] = "gone\n",
      ["p/.praxis-os/mcp_server/mine.py"] = "the user's own\n",
      ["p/.praxis-os/mcp_server/__pycache__/old.pyc"] = "compiled\n",
      ["p/.praxis-os/mcp_server/data"] = "a file where a folder comes\n",
      ["p/.praxis-os/standards/a.md"] = "a\n",
      ["p/.praxis-os/.upgrade/x/journal"] = "",
      ["p/.praxis-os/.mcp_server_state.json"] = "{}",
      ["p/.praxis-os/venv/bin/python"] = "",
      ["source/mcp_server/old.py"] = "new\n",
      ["source/mcp_server/data/x.py"] = "x\n",
    })
    ctx = { target = root .. "/p/.praxis-os", source = root .. "/source",
      scratch = root .. "/scratch", layout = praxis_os, memory = {} }
  end)
  after_each(helper.clean)

  local function entry(action, path, new, more)
    local made = { action = action, path = path, component = "mcp_server",
      source = path, new = new and core.hash.sha256(new), mode = tonumber("644", 8) }
    for name, value in pairs(more or {}) do made[name] = value end
    return made
  end

  local function planned()
    return { entries = {
      entry("update", "mcp_server/old.py", "new\n"),
      entry("remove", "mcp_server/gone.py"),
      entry("add", "mcp_server/data/x.py", "x\n", { mode = tonumber("755", 8) }),
      entry("remove", "mcp_server/data"),
      entry("merge", "mcp_server/merged.py", nil, { content = "both\n",
        result = core.hash.sha256("both\n") }),
      entry("add", "mcp_server/link", nil, { new = "link:old.py" }),
      { action = "update", component = "standards", path = "standards/a.md", source = "nowhere",
        new = "?" },
    } }
  end

  -- Removals first, as the plan has them when a folder comes in a file's place.
  local function make()
    local plan = planned()
    plan.entries[3], plan.entries[4] = plan.entries[4], plan.entries[3]
    return assert(staged_code.make(ctx, plan))
  end

  it("is what the server's code will be, and leaves what it is", function()
    local before = core.tree.list(ctx.target, { hash = true })
    local folder = make()
    assert.equal(folder, ctx.memory.staged_code)
    local function read(path) return helper.read(folder .. "/mcp_server/" .. path) end
    assert.equal("new\n", read("old.py"))
    assert.equal("the user's own\n", read("mine.py"))
    assert.equal("x\n", read("data/x.py"))
    assert.equal("rwxr-xr-x", lfs.attributes(folder .. "/mcp_server/data/x.py", "permissions"))
    assert.equal("both\n", read("merged.py"))
    assert.equal("old.py", core.file.readlink(folder .. "/mcp_server/link"))
    assert.is_nil(read("gone.py"))
    assert.is_nil(lfs.symlinkattributes(folder .. "/mcp_server/__pycache__"))
    assert.same(before, core.tree.list(ctx.target, { hash = true }))
  end)

  it("shows the rest of the installation, but nothing of ours", function()
    local folder = make()
    assert.equal("a\n", helper.read(folder .. "/standards/a.md"))
    for _, name in ipairs({ ".upgrade", ".mcp_server_state.json", "venv" }) do
      assert.is_nil(lfs.symlinkattributes(folder .. "/" .. name), name)
    end
  end)

  it("is run with the environment it is given, and with another one after that", function()
    local folder = make()
    for _, path in ipairs({ ctx.target .. "/venv", root .. "/clone" }) do
      assert(staged_code.use_environment(ctx, path))
      assert.equal(path, core.file.readlink(folder .. "/venv"))
    end
    assert.is_true(core.file.exists(ctx.target .. "/venv/bin/python"))
  end)

  it("is made anew where there is some", function()
    helper.write(make() .. "/mcp_server/stray.py", "")
    assert.is_nil(helper.read(make() .. "/mcp_server/stray.py"))
  end)

  it("is not made from a source that changed since the plan", function()
    helper.write(root .. "/source/mcp_server/old.py", "newer\n")
    local path, message, code = staged_code.make(ctx, planned())
    assert.is_nil(path)
    assert.equal("ECHANGED", code)
    assert.truthy(message:find("mcp_server/old.py is no longer as it was", 1, true))
    assert.is_nil(ctx.memory.staged_code)
  end)
end)
