--- `upgrade --plan HASH`: another plan than the approved one is refused, and what changed is named.
local approval = require("praxlua.approval")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local policy = require("praxlua.policy")
local tiny = require("spec.support.tiny")

local PHASE = [[
return { id = "own", title = "A phase", after = "content-upgrade", run = function() return {} end }
]]

describe("A plan that was approved", function()
  local s, hash, before

  local function dry(extra, options)
    local result = tiny.upgrade(s, { "--dry-run", table.unpack(extra or {}) }, options)
    return tiny.event(result, "plan").hash
  end

  setup(function()
    s = tiny.new()
    tiny.save(s)
    hash = dry()
  end)
  teardown(helper.clean)

  before_each(function() tiny.reset(s) end)

  -- Upgrades to the approved plan, which is refused; what was said.
  local function refused(extra, options)
    before = tiny.exact(s)
    local result = tiny.upgrade(s, { "--plan", hash, table.unpack(extra or {}) }, options)
    assert.equal(3, result.code, result.stderr)
    assert.same(before, tiny.exact(s))
    assert.truthy(result.last.message:find("is not the one you approved", 1, true),
      result.last.message)
    assert.truthy(result.last.next:find("--dry-run", 1, true))
    return result.last.message
  end

  local function says(message, ...)
    for _, words in ipairs({ ... }) do
      assert.truthy(message:find("\nchanged since: " .. words, 1, true), message)
    end
    local _, lines = message:gsub("\n", "")
    assert.equal(select("#", ...), lines, message)
  end

  it("is refused by the name of a source file that changed", function()
    tiny.commit(s, { ["universal/workflows/flow/phase.md"] = "phase 3\n",
      ["universal/standards/new.md"] = "new\n" })
    local message = refused()
    says(message, "the source's commit: ", "in the source: universal/standards/new.md is new, "
      .. "universal/workflows/flow/phase.md changed")
  end)

  it("is refused by the name of a local file that changed, appeared or is gone", function()
    tiny.write(s, "standards/universal/testing/pyramid.md", "mine\n")
    tiny.write(s, "workflows/flow/phase.md", "phase 2\n")
    os.remove(s.target .. "/" .. tiny.GUIDE)
    says(refused({ "--on-conflict", "stop" }), "in the installation: " .. tiny.GUIDE
      .. " is gone, standards/universal/testing/pyramid.md changed, "
      .. "workflows/flow/phase.md is new")
  end)

  it("is refused by the name of a file whose permissions changed", function()
    local pyramid = "standards/universal/testing/pyramid.md" -- nothing is to be done about it
    for _, path in ipairs({ tiny.GUIDE, pyramid }) do
      assert(os.execute(("chmod 600 '%s/%s'"):format(s.target, path)))
    end
    says(refused(), "permissions: " .. tiny.GUIDE .. ", " .. pyramid)
  end)

  it("is refused by the policy that changed", function()
    says(refused({ "--on-conflict", "theirs" }), "the policy for conflicts: stop then, theirs now")
    tiny.write(s, "upgrade.lua", "return {}\n")
    local folder = tiny.phase(s, "10-own", PHASE)
    tiny.write(s, "phases/20-mine.lua", PHASE:gsub("own", "mine"))
    says(refused({ "--phases", folder }), "the project's settings, upgrade.lua",
      "the phase script " .. s.target .. "/phases/20-mine.lua", "the phase script " .. folder
      .. "/10-own.lua")
  end)

  it("is refused by the version of praxlua, or the installation, that is another one", function()
    local result = tiny.patched_upgrade(s, [[require("praxlua.version").text = "99.0"]],
      { "--plan", hash })
    local last = result.events[#result.events]
    says(last.message, ("praxlua itself: version %s then, 99.0 now"):format(
      require("praxlua.version").text))
    local other = tiny.new()
    other.environment.HOME = s.home
    tiny.write(other, tiny.GUIDE, "mine\n")
    result = tiny.upgrade(other, { "--plan", hash })
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find("the installation: " .. s.target .. " then", 1, true))
  end)

  it("is refused by what is known of what was shipped", function()
    tiny.write(s, "VERSION.txt", "Current Version: 1.0.0\n")
    local manifest = '{"format_version": 1, "version": "1.0.0", "commit": "", "generated": "", '
      .. '"generator_version": "1", "files": {"workflows/flow/metadata.json": {"checksum": "sha256:'
      .. ("0"):rep(64) .. '", "size": 1, "last_updated": "2025-01-01"}}}'
    tiny.write(s, ".installed-manifest.json", manifest)
    assert.truthy(refused():find("changed since: what is known of what was shipped before: ", 1,
      true))
  end)

  it("is not refused for a file of yours that it does not concern", function()
    tiny.write(s, "specs/mine.md", "written after the dry run\n")
    local result = tiny.upgrade(s, { "--plan", hash })
    assert.equal(0, result.code, result.stderr)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
  end)

  it("is the same whether conflicts are to be asked about or to stop the run", function()
    assert.equal(hash, dry({ "--on-conflict", "ask" }))
    assert.equal(hash, dry({ "--on-conflict", "stop" }))
    assert.not_equal(hash, dry({ "--on-conflict", "ours" }))
  end)

  it("is refused without names where no record tells them, and where it is none", function()
    tiny.write(s, "workflows/flow/phase.md", "mine\n")
    local path = s.cache .. "/praxlua/plans/" .. hash .. ".json"
    local record = assert(helper.read(path))
    helper.write(path, (record:gsub("flow", "FLOW", 1))) -- damaged
    assert.truthy(refused():find("on record, so what changed cannot be told", 1, true))
    os.remove(path)
    assert.truthy(refused():find("on record, so what changed cannot be told", 1, true))
    helper.write(path, record)
    local known = hash
    hash = "1234\27[1m"
    local message = refused()
    hash = known
    assert.truthy(message:find("no hash of a plan", 1, true))
    assert.is_nil(message:find("\27", 1, true))
  end)
end)

describe("The record of a plan", function()
  local s
  before_each(function()
    s = tiny.new()
    tiny.write(s, tiny.GUIDE, "mine\n") -- a conflict, at which the dry run ends soon
  end)
  after_each(helper.clean)

  local function dry(environment)
    local result = tiny.upgrade(s, { "--dry-run" }, { environment = environment })
    assert.equal(4, result.code, result.stderr)
    return tiny.event(result, "plan").hash
  end

  it("is the user's alone, in XDG_CACHE_HOME or the home folder's .cache", function()
    local hash = dry()
    assert.equal("rw-------", lfs.attributes(s.cache .. "/praxlua/plans/" .. hash .. ".json",
      "permissions"))
    assert.equal("rwx------", lfs.attributes(s.cache .. "/praxlua/plans", "permissions"))
    dry({ XDG_CACHE_HOME = s.root .. "/other" })
    assert.is_string(helper.read(s.root .. "/other/praxlua/plans/" .. hash .. ".json"))
  end)

  it("is made by dry runs only", function()
    assert.equal(4, tiny.upgrade(s).code)
    assert.is_nil(lfs.attributes(s.cache .. "/praxlua"))
  end)

  it("stays with the newest twenty", function()
    local plans = s.cache .. "/praxlua/plans"
    for i = 1, 22 do
      local path = ("%s/%064x.json"):format(plans, i)
      helper.write(path, "{}")
      assert(lfs.touch(path, 1000 + i))
    end
    helper.write(plans .. "/notes.txt", "not ours")
    local hash, count = dry(), 0
    for name in lfs.dir(plans) do count = count + (name:find("%.json$") and 1 or 0) end
    assert.equal(20, count)
    assert.is_string(helper.read(plans .. "/" .. hash .. ".json"))
    assert.is_string(helper.read(plans .. "/notes.txt"))
    assert.is_nil(helper.read(("%s/%064x.json"):format(plans, 3)))
    assert.is_string(helper.read(("%s/%064x.json"):format(plans, 4)))
  end)

  it("is not kept where it has no place, and never in the installation", function()
    local exact = tiny.exact(s)
    dry({ HOME = "", XDG_CACHE_HOME = "relative" })
    dry({ XDG_CACHE_HOME = s.target .. "/.cache" })
    assert(lfs.link(s.target, s.root .. "/link", true))
    dry({ XDG_CACHE_HOME = s.root .. "/link/deep" })
    dry({ XDG_CACHE_HOME = "/proc/nowhere" })
    assert.same(exact, tiny.exact(s))
  end)
end)

describe("Policies", function()
  it("are compared word for word", function()
    local root = helper.tempdir()
    local function of(options) return policy.of({ target = root, options = options }) end
    local ours = { answer = "ours", id = "1" }
    local function merged(data) return { answer = "merged", id = "0", content = data } end
    local one = of({ resolutions = { ["a.md"] = merged("x"), ["b.md"] = ours } })
    local two = of({ resolutions = { ["a.md"] = merged("y"), ["c.md"] = ours } })
    assert.same({}, policy.changes(one, one))
    assert.same({ "the answer to the conflict at a.md", "the answer to the conflict at b.md",
      "the answer to the conflict at c.md" }, policy.changes(one, two))
    assert.not_equal(policy.text(one), policy.text(two))
    assert.same({ "the driver: built-in then, safe-upgrade.py now" },
      policy.changes(of({}), of({ driver = "safe-upgrade.py" })))
    helper.clean()
  end)

  it("have a place for their records only where the environment names one", function()
    local own = core.system.environment
    local function folder(environment)
      core.system.environment = function() return environment end -- luacheck: ignore
      local at = approval.folder()
      core.system.environment = own -- luacheck: ignore
      return at
    end
    assert.equal("/x/praxlua/plans", folder({ XDG_CACHE_HOME = "/x", HOME = "/h" }))
    assert.equal("/h/.cache/praxlua/plans", folder({ XDG_CACHE_HOME = "x", HOME = "/h" }))
    assert.is_nil(folder({ HOME = "h" }))
  end)
end)
