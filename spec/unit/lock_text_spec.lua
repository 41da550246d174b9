local clock = require("praxlua.clock")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lock_text = require("praxlua.lock_text")
local seal = require("praxlua.seal")

describe("lock_text", function()
  local ctx

  before_each(function()
    ctx = { target = helper.tempdir(), session = { session_id = core.system.uuid() } }
  end)
  after_each(helper.clean)

  local function path() return ctx.target .. "/.upgrade-lock" end

  it("writes who upgrades, readable for everybody", function()
    assert.is_true(lock_text.write(ctx))
    local found = seal.open(helper.read(path()))
    assert.equal(2, found.format_version)
    assert.equal(ctx.session.session_id, found.session_id)
    assert.equal(core.system.pid(), found.pid)
    assert.equal(core.system.hostname(), found.host)
    assert.is_number(clock.parse(found.started_at))
    assert.equal(420, core.file.stat(path()).mode) -- 0644
    assert.same(found, lock_text.read(ctx.target))
  end)

  it("fails with a message where it cannot be written", function()
    ctx.target = ctx.target .. "/gone"
    local ok, message, code = lock_text.write(ctx)
    assert.is_nil(ok)
    assert.equal("ENOENT", code)
    assert.truthy(message:find("gone", 1, true))
  end)

  it("is removed, and it is fine when there is none", function()
    assert(lock_text.write(ctx))
    assert.is_true(lock_text.remove(ctx))
    assert.is_nil(helper.read(path()))
    assert.is_true(lock_text.remove(ctx))
  end)

  it("reads nothing where there is nothing that can be read", function()
    assert.is_nil(lock_text.read(ctx.target))
    local deep, long = ("[1, "):rep(50000), "{}" .. (" "):rep(70000)
    for _, content in ipairs({ "", "{", '"text"', "7", deep, long }) do
      helper.write(path(), content)
      assert.is_nil(lock_text.read(ctx.target), content:sub(1, 10))
    end
  end)

  it("reads nothing from a text that is cut short or has a bit flipped", function()
    assert(lock_text.write(ctx))
    local whole = helper.read(path())
    for byte = 1, #whole do
      helper.write(path(), whole:sub(1, byte - 1))
      assert.is_nil(lock_text.read(ctx.target))
      local flipped = string.char(whole:byte(byte) ~ (1 << byte % 8))
      helper.write(path(), whole:sub(1, byte - 1) .. flipped .. whole:sub(byte + 1))
      assert.is_nil(lock_text.read(ctx.target))
    end
  end)

  it("reads the text of an older praxlua", function()
    helper.write(path(), '{"format_version": 1, "pid": 17}')
    assert.equal(17, lock_text.read(ctx.target).pid)
  end)
end)
