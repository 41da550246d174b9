--- Old content that an undo misses, found again in the backups.
local backup = require("praxlua.backup")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lost = require("praxlua.lost")

local SESSION = "11111111-2222-4333-8444-555555555555"
local FILE, OTHER = ".praxis-os/standards/universal/a.md", ".praxis-os/mcp_server/b.py"

describe("lost", function()
  local project, r, warnings

  before_each(function()
    project = helper.tempdir()
    warnings = {}
    helper.tree(project, {
      [".gitignore"] = "", [".praxis-os/VERSION.txt"] = "Current Version: 1.0.0\n",
      [FILE] = "old a\n", [OTHER] = "old b\n",
    })
    local target = project .. "/.praxis-os"
    r = {
      project = project, target = target, folder = target .. "/.upgrade/" .. SESSION,
      ctx = {
        project = project, target = target, target_name = ".praxis-os", memory = {},
        session = { session_id = SESSION },
        warn = function(text) warnings[#warnings + 1] = text end,
      },
    }
  end)
  after_each(function()
    if r.transaction then r.transaction:close() end
    helper.clean()
  end)

  local function read(path) return helper.read(project .. "/" .. path) end
  local function make_backup() return assert(backup.create_backup(r.ctx)).backup_path end

  -- Changes both files and loses the old content of those named.
  local function upgrade(...)
    local path = ".praxis-os/.upgrade/" .. SESSION
    r.transaction = assert(core.transaction.open(project, path, { create = true }))
    for _, name in ipairs({ FILE, OTHER }) do
      assert(r.transaction:put(name, { data = "new\n" }))
    end
    assert(r.transaction:apply())
    for _, content in ipairs({ ... }) do
      for _, entry in ipairs(assert(core.tree.list(r.folder))) do
        local at = r.folder .. "/" .. entry.path
        if helper.read(at) == content then os.remove(at) end
      end
    end
    local _, _, code = r.transaction:rollback()
    assert.equal("ELOST", code)
  end

  it("finds it by its hash, in the newest backup that has it", function()
    make_backup()
    helper.write(project .. "/" .. FILE, "another a\n")
    local newer = make_backup()
    upgrade("another a\n", "old b\n")
    assert.is_true(lost.recover(r))
    assert.equal(2, #warnings)
    local name = newer:match("([^/]+)/$")
    for _, text in ipairs(warnings) do assert.truthy(text:find(name, 1, true), text) end
    assert.same({}, r.transaction:rollback())
    assert.equal("another a\n", read(FILE))
    assert.equal("old b\n", read(OTHER))
    assert.is_false(core.file.exists(r.folder .. "/recovered"))
  end)

  it("looks into older backups for what the newest does not have as it was", function()
    local older = make_backup()
    helper.write(project .. "/" .. FILE, "another a\n")
    make_backup()
    helper.write(project .. "/" .. FILE, "old a\n")
    upgrade("old a\n")
    assert.is_true(lost.recover(r))
    assert.truthy(warnings[1]:find(older:match("([^/]+)/$"), 1, true))
    assert.same({}, r.transaction:rollback())
    assert.equal("old a\n", read(FILE))
  end)

  it("does not take it from a backup that is damaged", function()
    local made = make_backup()
    upgrade("old a\n")
    local archive = project .. "/" .. made .. "backup.tar.zst"
    local data = helper.read(archive)
    helper.write(archive, data:sub(1, 30) .. string.char(data:byte(31) ~ 1) .. data:sub(32))
    local ok, message = lost.recover(r)
    assert.is_nil(ok)
    assert.is_string(message)
    assert.same({}, warnings)
    assert.equal("ELOST", select(3, r.transaction:rollback()))
  end)

  it("says what no backup holds", function()
    upgrade("old a\n")
    local ok, message = lost.recover(r)
    assert.is_nil(ok)
    assert.equal("no backup holds the old content of " .. FILE, message)
    make_backup() -- of the new content
    assert.is_nil(lost.recover(r))
  end)

  it("cannot help with a folder", function()
    make_backup()
    helper.write(r.target .. "/venv/tool", "old")
    local path = ".praxis-os/.upgrade/" .. SESSION
    r.transaction = assert(core.transaction.open(project, path, { create = true }))
    local number, place = r.transaction:stage()
    helper.write(r.folder .. "/" .. place .. "/tool", "new")
    assert(r.transaction:exchange(".praxis-os/venv", number))
    assert(r.transaction:apply())
    assert(core.tree.remove(r.folder .. "/" .. place))
    assert.equal("ELOST", select(3, r.transaction:rollback()))
    local ok, message = lost.recover(r)
    assert.is_nil(ok)
    assert.equal(".praxis-os/venv is in no backup as it was", message)
  end)
end)
