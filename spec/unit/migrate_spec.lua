--- `praxlua migrate`: what it refuses, and how it ends. The move itself is in migration_spec.lua.
local backup = require("praxlua.backup")
local core = require("praxlua.core")
local engine = require("praxlua.engine")
local helper = require("spec.support.helper")
local migration = require("praxlua.migration")
local repository = require("spec.support.repository")
local server = require("praxlua.server")
local state = require("praxlua.state")

local OLD, NEW = ".agent-os", ".praxis-os"

describe("praxlua migrate", function()
  local project, target, shown, before

  before_each(function()
    project, shown = helper.tempdir(), nil
    target = project .. "/" .. OLD
    helper.tree(project, {
      [".gitignore"] = "x\n.agent-os/venv/\n# .agent-os\n",
      [".cursor/mcp.json"] = '{"p": "${workspaceFolder}/.agent-os"}\n',
      [OLD .. "/standards/universal/a.md"] = "a\n",
    })
    before = repository.snapshot(project)
  end)
  after_each(helper.clean)

  local function migrate(options)
    local asked = { target = target, to = NEW }
    for name, value in pairs(options or {}) do asked[name] = value end
    return engine.migrate(asked, { emit = function() end, show = function(data) shown = data end })
  end

  -- Calls migrate() while a function of a module is replaced.
  local function with(module, name, replacement, use)
    local original = module[name]
    module[name] = replacement
    local ok, result = pcall(use or migrate)
    module[name] = original
    assert(ok, result)
    return result
  end

  local function refused(result, part, code)
    assert.equal(code or 3, result.exit_code)
    assert.matches(part, result.message, 1, true)
    assert.is_true(#result.next > 10)
    assert.is_nil(shown)
    local now = repository.snapshot(project)
    for path in pairs(now) do
      if path:find("%.cache") or path:find("%.backups") then now[path] = nil end
    end
    assert.same(before, now)
  end

  it("moves it behind a backup, and shows what else names it", function()
    local result = migrate()
    assert.same({ 0, "completed" }, { result.exit_code, result.status })
    assert.matches("The way back: praxlua migrate --to .agent-os", result.message, 1, true)
    assert.same({ ".praxis-os/venv/" }, shown.gitignore)
    local places = {}
    for i, found in ipairs(shown.references) do places[i] = found.path .. ":" .. found.line end
    assert.same({ ".gitignore:3", ".cursor/mcp.json:1" }, places)
    assert.is_true(core.file.exists(project .. "/" .. shown.backup .. "backup.tar.zst"))
    assert.matches("--target " .. project .. "/.praxis-os", result.next, 1, true)
  end)

  it("changes nothing in a dry run, nor where the name is right", function()
    local result = migrate({ dry_run = true })
    assert.equal(0, result.exit_code)
    assert.same({ ".praxis-os/venv/" }, shown.gitignore)
    assert.same(before, repository.snapshot(project))
    result = migrate({ to = OLD })
    assert.same({ 0, "nothing_to_do" }, { result.exit_code, result.status })
    assert.same(before, repository.snapshot(project))
  end)

  it("refuses to join two installations", function()
    helper.write(project .. "/" .. NEW .. "/standards/universal/a.md", "b\n")
    before = repository.snapshot(project)
    refused(migrate(), "/.praxis-os is there already (a directory)")
    local warnings = {}
    local function emit(event)
      if event.event == "warning" then warnings[#warnings + 1] = event.message end
    end
    local result = engine.migrate({ target = project .. "/" .. NEW, to = NEW }, { emit = emit })
    assert.equal("nothing_to_do", result.status)
    assert.matches("/.agent-os is an installation, too", warnings[1], 1, true)
  end)

  it("refuses what is no installation, as of another product", function()
    os.rename(target .. "/standards", target .. "/product")
    before = repository.snapshot(project)
    refused(migrate(), "is not an installation of a known layout")
  end)

  it("refuses a name to which there is no way back", function()
    repository.sh("mv", target, project .. "/mine")
    before = repository.snapshot(project)
    local result = migrate({ target = project .. "/mine" })
    refused(result, "is called mine, and only .praxis-os and .agent-os are moved")
    assert.matches("rename the folder yourself", result.next, 1, true)
  end)

  it("refuses, and does not call it done, where .praxis-os is something else", function()
    assert(core.file.mkdir(project .. "/" .. NEW))
    before = repository.snapshot(project)
    local result = migrate({ target = project .. "/" .. NEW })
    refused(result, "is not an installation of a known layout")
    assert.matches("/.agent-os is one; move ", result.next, 1, true)
  end)

  it("is advised for a backup of another name only where it can do it", function()
    local store = require("praxlua.backup.store")
    local function told(name, now)
      local ok, message, code = store.check_folder({ target_name = now },
        { backup_path = name .. "/.backups/2025-01-01-000000/" })
      return ok or code .. (message:match("with: .*$") or "")
    end
    assert.is_true(told(OLD, OLD))
    assert.equal("ERENAMEDwith: praxlua migrate --to .agent-os", told(OLD, NEW))
    assert.equal("ERENAMED", told("mine", NEW))
    assert.equal("ERENAMED", told(OLD, "mine"))
  end)

  it("tells in a dry run that a move was cut short, and leaves that alone", function()
    helper.write(target .. "/.cache/migration.json",
      require("praxlua.seal").encode({ format_version = 1, from = OLD, to = NEW }))
    before = repository.snapshot(project)
    local warnings = {}
    local function emit(event)
      if event.event == "warning" then warnings[#warnings + 1] = event.message end
    end
    local result = engine.migrate({ target = target, to = NEW, dry_run = true }, { emit = emit })
    assert.equal(0, result.exit_code)
    assert.matches("the next command that changes the installation settles it", warnings[1], 1,
      true)
    assert.same(before, repository.snapshot(project))
  end)

  it("refuses while its server runs", function()
    refused(with(server, "find", function() return { pid = 4711, transport = "dual" } end),
      "(process 4711, dual)")
  end)

  it("refuses while a session is open, and while another run holds the lock", function()
    assert(state.create_session(target, state.WORKFLOW_TYPE, state.TARGET_FILE, {}))
    refused(migrate(), "did not finish")
    repository.sh("rm", "-r", target .. "/.cache")
    local lock = assert(core.lock.acquire(target))
    local result = migrate()
    lock:release()
    refused(result, "another command works on this installation", 6)
  end)

  it("refuses where the project cannot be written", function()
    local access = core.system.access
    refused(with(core.system, "access", function(path, mode)
      return path ~= project and access(path, mode)
    end), "cannot be written")
  end)

  it("changes nothing without a backup", function()
    refused(with(backup, "create_backup", function() return nil, "no room", "ENOSPC" end),
      "no backup could be made, so nothing was changed: no room")
    local result = with(core.system, "interrupted", function() return "SIGINT" end, function()
      return with(backup, "create_backup", function() return nil, "cancelled", "ECANCELED" end)
    end)
    assert.same({ 130, "interrupted" }, { result.exit_code, result.status })
  end)

  it("tells a failure that was taken back from one that was not", function()
    local result = with(migration, "move", function() return nil, "no luck", "EIO" end)
    refused(result, "The installation is as before", 1)
    result = with(migration, "move", function() return nil, "no luck; twice", "EUNDO" end)
    refused(result, "the move failed: no luck; twice", 5)
  end)

  it("is settled by whatever opens the installation next, or says what is in the way", function()
    local rename = core.file.rename
    with(core.file, "rename", function(from, to, new)
      local ok, message, code = rename(from, to, new)
      if new then error("cut") end
      return ok, message, code
    end, function() pcall(migration.move, target, NEW) end)
    target = project .. "/" .. NEW
    local write = core.file.write_atomic
    local result = with(core.file, "write_atomic", function(path, ...)
      if path:find("%.gitignore$") then return nil, "no luck", "EIO" end
      return write(path, ...)
    end)
    assert.equal(3, result.exit_code)
    assert.matches("cannot be settled: no luck", result.message, 1, true)
    assert.equal("nothing_to_do", migrate().status)
    assert.equal("x\n.praxis-os/venv/\n# .agent-os\n", helper.read(project .. "/.gitignore"))
  end)
end)
