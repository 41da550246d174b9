local core = require("praxlua.core")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

describe("praxlua backup", function()
  local s

  before_each(function()
    s = { root = helper.tempdir() }
    s.project, s.target = s.root .. "/project", s.root .. "/project/" .. tiny.NAME
    s.scratch, s.executable = s.root .. "/runs", tiny.executable()
    assert(require("lfs").mkdir(s.scratch))
    tiny.write(s, "standards/universal/a.md", "a\n")
    tiny.write(s, "specs/caf\xe9.md", "b\n")
  end)
  after_each(helper.clean)

  -- Each holds something else, so that none shares its archive with another one.
  local function create()
    tiny.write(s, "standards/development/note.md", core.system.uuid())
    local result = tiny.json(s, { "backup", "create" })
    assert.equal(0, result.code, result.stderr)
    return tiny.event(result, "result").data
  end

  it("create makes one, and says how large and where", function()
    local made = create()
    assert.equal(3, made.files_backed_up)
    assert.equal(40, made.backup_size_bytes)
    assert.is_string(helper.read(s.project .. "/" .. made.backup_path .. "MANIFEST.json"))
    local text = tiny.run(s, { "backup", "create" }).stdout
    assert.truthy(text:find("Backed up 3 files (40 B) in .praxis-os/.backups/", 1, true), text)
    assert.equal(2, #tiny.names(s, ".backups"))
  end)

  it("create refuses a folder that is no installation", function()
    local result = tiny.json(s, { "backup", "create", "--target", s.project })
    assert.equal(3, result.code)
    assert.truthy(result.last.next:find("--target", 1, true))
    assert.is_false(core.file.exists(s.project .. "/.backups"))
  end)

  it("advice works from the same place", function()
    local name = create().backup_path:match("([^/]+)/$")
    tiny.write(s, "specs/caf\xe9.md", "changed\n")
    local result = tiny.json(s, { "backup", "restore", name, "--target", s.target },
      { directory = "/" })
    assert.equal(4, result.code)
    local words = assert(result.last.next:match("praxlua (.*)$"))
    local argv = {}
    for word in words:gmatch("%S+") do argv[#argv + 1] = word end
    assert.equal(0, tiny.json(s, argv, { directory = "/" }).code)
    assert.equal("b\n", tiny.read(s, "specs/caf\xe9.md"))
  end)

  it("restore without a name takes no backup that a restore made of what it replaced", function()
    create()
    local here = tiny.snapshot(s)
    tiny.write(s, "specs/later.md", "later\n")
    for _ = 1, 2 do
      assert.equal(0, tiny.json(s, { "backup", "restore", "--yes" }).code)
      assert.same(here, tiny.snapshot(s))
    end
  end)

  it("takes no copy of a backup, under another name, for one", function()
    local name = create().backup_path:match("([^/]+)/$")
    local copy = "2099-01-01-000000"
    assert(os.execute(("cp -a %s/.backups/%s %s/.backups/%s"):format(s.target, name, s.target,
      copy)))
    for _, argv in ipairs({ { "verify", copy }, { "verify" }, { "list" } }) do
      local result = tiny.json(s, { "backup", table.unpack(argv) })
      assert.equal(1, result.code)
    end
    assert.equal(0, tiny.json(s, { "backup", "verify", name }).code)
    assert.equal(3, tiny.json(s, { "backup", "restore", copy, "--yes" }).code)
    assert.equal(0, tiny.json(s, { "backup", "prune", "--keep", "1" }).code)
    assert.same({ name, copy }, tiny.names(s, ".backups"))
  end)

  it("create fails with 1 where something cannot be backed up", function()
    assert(os.execute("mkfifo '" .. s.target .. "/specs/pipe'"))
    local result = tiny.json(s, { "backup", "create" })
    assert.equal(1, result.code)
    assert.truthy(result.last.message:find("specs/pipe", 1, true))
    assert.same({}, tiny.names(s, ".backups"))
  end)

  it("create and prune wait for no one: they exit 6 while an upgrade runs", function()
    create()
    local lock = assert(core.lock.acquire(s.target))
    for _, action in ipairs({ "create", "prune" }) do
      local result = tiny.json(s, { "backup", action })
      assert.equal(6, result.code)
      assert.equal("busy", result.last.status)
    end
    for _, action in ipairs({ "list", "verify" }) do
      assert.equal(0, tiny.json(s, { "backup", action }).code)
    end
    lock:release()
  end)

  it("list shows them newest first, verified or not looked at", function()
    local first, second = create(), create()
    local result = tiny.json(s, { "backup", "list" })
    assert.equal(0, result.code)
    local list = tiny.event(result, "result").data
    assert.equal(2, #list)
    assert.truthy(second.backup_path:find(list[1].name, 1, true))
    assert.truthy(first.backup_path:find(list[2].name, 1, true))
    assert.is_nil(list[1].verified)
    list = tiny.event(tiny.json(s, { "backup", "list", "--verify" }), "result").data
    assert.is_true(list[1].verified)
    local text = tiny.run(s, { "backup", "list" }).stdout
    assert.truthy(text:find("not checked", 1, true), text)
    text = tiny.run(s, { "backup", "list", "--verify" }).stdout
    assert.truthy(text:find("verified", 1, true), text)
  end)

  it("list is empty where there is none, and fails where .backups is no folder", function()
    local result = tiny.json(s, { "backup", "list" })
    assert.equal(0, result.code)
    assert.same({}, tiny.event(result, "result").data)
    tiny.write(s, ".backups", "a file\n")
    assert.equal(1, tiny.json(s, { "backup", "list" }).code)
  end)

  local function damage(made)
    local path = s.project .. "/" .. made.backup_path .. "backup.tar.zst"
    local data = helper.read(path)
    helper.write(path, data:sub(1, 30) .. "\0\0" .. data:sub(33))
    return made.backup_path:match("([^/]+)/$")
  end

  it("verify reads one back: the newest, or the one that is named", function()
    local first = create()
    create()
    local bad = damage(first)
    local result = tiny.json(s, { "backup", "verify" })
    assert.equal(0, result.code)
    assert.truthy(result.last.message:find("is whole", 1, true))
    result = tiny.json(s, { "backup", "verify", bad })
    assert.equal(1, result.code)
    assert.truthy(result.last.message:find("damaged", 1, true), result.last.message)
    for _, name in ipairs({ "2020-01-01-000000", "../state", "" }) do
      assert.equal(1, tiny.json(s, { "backup", "verify", name }).code)
    end
  end)

  it("verify and restore say what to do where there is none", function()
    for _, argv in ipairs({ { "backup", "verify" }, { "backup", "restore", "--yes" } }) do
      local result = tiny.json(s, argv)
      assert.equal(1, result.code)
      assert.truthy(result.last.next:find("praxlua backup create", 1, true))
    end
    tiny.write(s, ".backups", "a file\n")
    assert.equal(1, tiny.json(s, { "backup", "verify" }).code)
  end)

  it("list --verify exits 1 and names the damaged one", function()
    local bad = damage(create())
    local result = tiny.json(s, { "backup", "list", "--verify" })
    assert.equal(1, result.code)
    assert.truthy(result.last.message:find(bad, 1, true))
    assert.truthy(tiny.run(s, { "backup", "list", "--verify" }).stdout:find(bad, 1, true))
  end)

  it("prune keeps the newest verified ones, and leaves a damaged one alone", function()
    local oldest = create()
    for _ = 1, 3 do create() end
    local bad = damage(oldest)
    local result = tiny.json(s, { "backup", "prune", "--keep", "1" })
    assert.equal(0, result.code, result.stderr)
    local pruned = tiny.event(result, "result").data
    assert.equal(2, pruned.archived_count)
    assert.equal(1, #pruned.kept_backups)
    assert.truthy(tiny.event(result, "warning").message:find(bad, 1, true))
    assert.equal(2, #tiny.names(s, ".backups"))
    assert.equal(bad, tiny.names(s, ".backups")[1])
    local text = tiny.run(s, { "backup", "prune" }).stdout
    assert.truthy(text:find("Deleted 0 backups, kept 1.", 1, true), text)
  end)

  it("prune fails with 1 where a backup cannot be deleted", function()
    create()
    create()
    local result = tiny.patched(s, [[
      core.tree.remove = function() return nil, "on purpose", "EIO" end
    ]], { "backup", "prune", "--keep", "1", "--json" })
    assert.equal(1, result.code, result.stderr)
    assert.truthy(result.stderr:find("on purpose", 1, true))
  end)
end)
