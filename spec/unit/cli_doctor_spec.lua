local core = require("praxlua.core")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

describe("praxlua doctor", function()
  local s

  before_each(function()
    s = { root = helper.tempdir() }
    s.project, s.target = s.root .. "/project", s.root .. "/project/" .. tiny.NAME
    s.scratch, s.executable = s.root .. "/runs", tiny.executable()
    assert(require("lfs").mkdir(s.scratch))
    tiny.write(s, "VERSION.txt", "1\n")
  end)
  after_each(helper.clean)

  local function checks(result)
    local found = {}
    for _, check in ipairs(tiny.event(result, "result").data) do found[check.name] = check end
    return found
  end

  it("finds all well here, and says what it looked at", function()
    local exact = tiny.exact(s)
    local result = tiny.json(s, { "doctor" })
    assert.equal(0, result.code, result.stderr)
    local found = checks(result)
    for _, name in ipairs({ "praxlua", "workers", "git", "python3", "python3-venv", "target",
      "space", "lock" }) do
      assert.is_true(found[name].ok, name)
      assert.is_string(found[name].detail)
    end
    assert.equal("free", found.lock.detail)
    assert.same(exact, tiny.exact(s))
    local text = tiny.run(s, { "doctor" }).stdout
    assert.truthy(text:find("ok  git", 1, true), text)
    assert.truthy(text:find("All is well.", 1, true), text)
  end)

  it("works where there is no installation", function()
    s.project = s.root
    local result = tiny.json(s, { "doctor" })
    assert.equal(0, result.code)
    assert.is_nil(checks(result).target)
  end)

  it("exits 1 and says what to install where tools are missing", function()
    local result = tiny.json(s, { "doctor" }, { environment = { PATH = "/nowhere" } })
    assert.equal(1, result.code)
    local found = checks(result)
    assert.is_false(found.git.ok)
    assert.truthy(found.git.next:find("install git", 1, true))
    assert.is_false(found.python3.ok)
    assert.truthy(result.last.message:find("3 checks failed", 1, true), result.last.message)
    local text = tiny.run(s, { "doctor" }, { environment = { PATH = "/nowhere" } }).stdout
    assert.truthy(text:find("bad  git", 1, true), text)
  end)

  it("exits 1 where a tool is there and fails", function()
    helper.write(s.root .. "/bin/git", "#!/bin/sh\necho broken >&2\nexit 3\n")
    assert(os.execute("chmod 755 '" .. s.root .. "/bin/git'"))
    local result = tiny.json(s, { "doctor" },
      { environment = { PATH = s.root .. "/bin:" .. os.getenv("PATH") } })
    assert.equal(1, result.code)
    assert.equal("broken", checks(result).git.detail)
  end)

  it("tells that an upgrade is running, which is no fault", function()
    local lock = assert(core.lock.acquire(s.target))
    local result = tiny.json(s, { "doctor" })
    lock:release()
    assert.equal(0, result.code)
    assert.equal("an upgrade is running", checks(result).lock.detail)
  end)

  it("exits 1 where no worker can be started, or a phase is damaged", function()
    for _, patch in ipairs({
      'core.system.host = function() return nil, "no host" end',
      'require("praxlua.phases").all = function() return nil, "no phases" end',
    }) do
      local result = tiny.patched(s, patch, { "doctor" })
      assert.equal(1, result.code, result.stderr)
      assert.truthy(result.stdout:find("bad  workers", 1, true), result.stdout)
    end
  end)

  it("exits 1 where the installation cannot be written", function()
    local result = tiny.patched(s, 'core.system.access = function() return false end', { "doctor" })
    assert.equal(1, result.code, result.stderr)
    assert.truthy(result.stdout:find("change its permissions", 1, true), result.stdout)
  end)
end)
