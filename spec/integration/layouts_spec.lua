--- Whole upgrades of installations of other layouts than the present one, and the move of an older
-- one to its present name. What is undone must be byte-identical, whatever its name.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

local OLD, NEW = ".agent-os", ".praxis-os"
local EPHEMERAL = { ".cache", ".backups", ".upgrade", ".upgrade-lock" }

local function shell(s, script)
  local command = require("spec.support.command")
  command.succeed({ "sh", "-euc", script, s.project }, { scratch = s.scratch })
end

-- Every path of the project, but for what is no content of an installation of either name.
local function snapshot(s)
  local skip, found = {}, {}
  for _, name in ipairs({ OLD, NEW }) do
    for _, path in ipairs(EPHEMERAL) do skip[name .. "/" .. path] = true end
  end
  for _, entry in ipairs(assert(core.tree.list(s.project, { skip = skip, hash = true }))) do
    found[entry.path] = ("%s %o %s"):format(entry.type, entry.mode, entry.sha256 or entry.target
      or "")
  end
  return found
end

local function older()
  local s = tiny.new()
  shell(s, 'mv "$0/.praxis-os" "$0/.agent-os"')
  s.target = s.project .. "/" .. OLD
  helper.tree(s.project, {
    [".gitignore"] = "node_modules/\n.agent-os/.cache/\n",
    [".cursor/mcp.json"] = '{"command": "${workspaceFolder}/.agent-os/venv/bin/python"}\n',
    [OLD .. "/product/vision.md"] = "ours\n",
    [OLD .. "/venv/bin/pip"] = "#!" .. s.target .. "/venv/bin/python\n",
  })
  return s
end

local FAILING = [[
local phase = { id = "break", title = "Break", after = "content-upgrade", grants = {} }
function phase.run() error("no luck", 0) end
return phase
]]

describe("an installation called .agent-os", function()
  local s

  before_each(function() s = older() end)
  after_each(helper.clean)

  it("is upgraded in place, and comes back when that fails in the middle", function()
    local before = snapshot(s)
    local failed = tiny.upgrade(s, { "--phases", tiny.phase(s, "3-break", FAILING) })
    assert.equal(1, failed.code, failed.last.message)
    assert.same(before, snapshot(s))
    local done = tiny.upgrade(s)
    assert.equal(0, done.code, done.last.message)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("ours\n", tiny.read(s, "product/vision.md"))
    assert.is_false(core.file.exists(s.project .. "/" .. NEW))
    assert.equal("agent-os", assert(require("praxlua.base").read_manifest(s.target)).layout)
    local gitignore = helper.read(s.project .. "/.gitignore")
    assert.matches("\n.agent-os/.backups/\n", gitignore, 1, true)
    assert.is_nil(gitignore:find(NEW, 1, true))
  end)

  it("is moved to its present name, and upgraded there", function()
    local before = snapshot(s)
    local dry = tiny.json(s, { "migrate", "--dry-run" })
    assert.equal(0, dry.code)
    assert.same(before, snapshot(s))
    assert.same({}, tiny.names(s, ".backups"))

    local failed = tiny.patched(s, [[
      local write = core.file.write_atomic
      core.file.write_atomic = function(path, ...)
        if path:find("gitignore$") then return nil, "no luck", "EIO" end
        return write(path, ...)
      end]], { "migrate" })
    assert.equal(1, failed.code, failed.stderr)
    assert.matches("The installation is as before", tiny.said(failed), 1, true)
    assert.same(before, snapshot(s))

    local moved = tiny.json(s, { "migrate" })
    assert.equal(0, moved.code, moved.last.message)
    local data = tiny.event(moved, "result").data
    assert.same({ ".praxis-os/.cache/" }, data.gitignore)
    assert.equal(".cursor/mcp.json", data.references[1].path)
    assert.equal(1, data.references[1].line)
    assert.equal("node_modules/\n.praxis-os/.cache/\n", helper.read(s.project .. "/.gitignore"))
    assert.matches(".agent-os", helper.read(s.project .. "/.cursor/mcp.json"), 1, true)
    assert.is_false(core.file.exists(s.target))
    s.target = s.project .. "/" .. NEW
    assert.equal("#!" .. s.target .. "/venv/bin/python\n", tiny.read(s, "venv/bin/pip"))
    assert.is_true(core.file.exists(s.project .. "/" .. data.backup .. "/MANIFEST.json"))

    local upgraded = tiny.upgrade(s)
    assert.equal(0, upgraded.code, upgraded.last.message)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("ours\n", tiny.read(s, "product/vision.md"))
  end)

  it("is old or new after a kill, and the next command settles which", function()
    local before = snapshot(s)
    local killed = tiny.patched(s, [[
      local rename = core.file.rename
      core.file.rename = function(from, to, new)
        if new then die() end
        return rename(from, to, new)
      end]], { "migrate" })
    assert.equal(137, killed.code)
    assert.same(before, snapshot(s))
    assert.equal(0, tiny.run(s, { "backup", "create" }).code)
    assert.is_false(core.file.exists(s.target .. "/.cache/migration.json"))

    killed = tiny.patched(s, [[
      local rename = core.file.rename
      core.file.rename = function(from, to, new)
        local ok, message, code = rename(from, to, new)
        if new then die() end
        return ok, message, code
      end]], { "migrate" })
    assert.equal(137, killed.code)
    s.target = s.project .. "/" .. NEW
    assert.equal("node_modules/\n.agent-os/.cache/\n", helper.read(s.project .. "/.gitignore"))
    local settled = tiny.json(s, { "migrate" })
    assert.equal("nothing_to_do", settled.last.status)
    assert.matches("cut short; it is settled now", tiny.event(settled, "warning").message, 1, true)
    assert.equal("node_modules/\n.praxis-os/.cache/\n", helper.read(s.project .. "/.gitignore"))
    assert.equal("#!" .. s.target .. "/venv/bin/python\n", tiny.read(s, "venv/bin/pip"))

    local back = tiny.json(s, { "migrate", "--to", OLD })
    assert.equal(0, back.code, back.last.message)
    assert.same(before, snapshot(s))
  end)

  it("goes back past the move only under its old name", function()
    local upgraded = tiny.upgrade(s)
    assert.equal(0, upgraded.code, upgraded.last.message)
    assert.equal(0, tiny.run(s, { "migrate" }).code)
    local refused = tiny.json(s, { "rollback" })
    assert.is_true(refused.code ~= 0)
    assert.matches("praxlua migrate --to .agent-os", refused.last.message, 1, true)
    assert.equal(0, tiny.run(s, { "migrate", "--to", OLD }).code)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
  end)
end)

describe("the layout that safe-upgrade.py leaves", function()
  after_each(helper.clean)

  it("is put right by an upgrade, which can be taken back", function()
    local s = tiny.new()
    shell(s, [[
      cd "$0/.praxis-os"
      mv standards/universal/* standards
      rmdir standards/universal
      echo ours > standards/testing/ours.md
    ]])
    local before = snapshot(s)
    local done = tiny.upgrade(s)
    assert.equal(0, done.code, done.last.message)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("ours\n", tiny.read(s, "standards/testing/ours.md"))
    for _, path in ipairs({ "ai-assistant", "testing/pyramid.md", "testing/retired.md" }) do
      assert.is_false(core.file.exists(s.target .. "/standards/" .. path), path)
    end
    assert.equal("praxis-os", assert(require("praxlua.base").read_manifest(s.target)).layout)
    assert.equal("nothing_to_do", tiny.upgrade(s).last.status)
    local back = tiny.json(s, { "rollback" })
    assert.equal(0, back.code, back.last.message)
    assert.same(before, snapshot(s))
  end)
end)

describe("the layout with the server ouroboros", function()
  local s

  before_each(function()
    s = tiny.new({ first = { ["mcp_server/requirements.txt"] = "mcp==1\n" } })
    shell(s, [[
      cd "$0/.praxis-os"
      mv mcp_server ouroboros
      mkdir config
      echo 'version: "1.0"' > config/mcp.yaml
      sed -i s/mcp_server/ouroboros/g venv/bin/python
    ]])
  end)
  after_each(helper.clean)

  it("is refused with a source of the other server", function()
    local before = snapshot(s)
    local refused = tiny.upgrade(s)
    assert.equal(3, refused.code)
    assert.matches("is a source of praxis-os (its server is mcp_server)", refused.last.message, 1,
      true)
    assert.matches("an installation of ouroboros (its server is ouroboros)",
      refused.last.message, 1, true)
    assert.same(before, snapshot(s))
  end)

  it("is upgraded when the source ships it, packages and server included", function()
    local command = require("spec.support.command")
    command.succeed({ "sh", "-euc", [[
      git reset -q --hard HEAD~1
      mkdir dist
      git mv mcp_server dist/ouroboros
      git commit -qm moved
      printf 'Current Version: 1.0.0\ncommit=%s\n' "$(git rev-parse HEAD)" > "$0/VERSION.txt"
    ]], s.target }, { scratch = s.scratch, directory = s.source, environment = s.environment })
    tiny.commit(s, { ["VERSION.txt"] = "2.0.0\n",
      ["dist/ouroboros/__init__.py"] = "# second release\n",
      ["dist/ouroboros/requirements.txt"] = "mcp==2\n" })
    local done = tiny.upgrade(s)
    assert.equal(0, done.code, done.last.message)
    assert.equal("# second release\n", tiny.read(s, "ouroboros/__init__.py"))
    assert.equal("mcp==2\n", tiny.read(s, "venv/packages"))
    assert.equal('version: "1.0"\n', tiny.read(s, "config/mcp.yaml"))
    assert.is_false(core.file.exists(s.target .. "/mcp_server"))
    assert.equal("ouroboros", assert(require("praxlua.base").read_manifest(s.target)).layout)
  end)
end)
