local core = require("praxlua.core")
local owned = require("praxlua.server.owned")
local watch = require("praxlua.server.watch")

describe("The watch", function()
  local find = owned.find
  local ctx, said

  before_each(function()
    said = {}
    ctx = { options = {}, session = { metadata = {} },
      progress = function(text) said[#said + 1] = text end }
    function owned.find() return { pid = 1 } end
  end)
  after_each(function() owned.find = find end)

  local function waited()
    local began = core.system.monotonic()
    local seconds = assert(watch.wait(ctx))
    assert.is_true(math.abs(core.system.monotonic() - began - seconds) < 0.2)
    return seconds
  end

  it("lasts as long as was said, counted from the first answer", function()
    ctx.options.watch = 0.4
    watch.begin(ctx)
    assert.is_true(waited() >= 0.3)
    ctx.session.metadata.server_answered = core.system.monotonic() - 1
    assert.is_true(waited() < 0.1)
  end)

  it("goes by the command line, then by the project file", function()
    ctx.options.project = { server = { watch = 0.3 } }
    watch.begin(ctx)
    assert.is_true(waited() >= 0.2)
    ctx.options.watch = 0
    watch.begin(ctx)
    assert.is_true(waited() < 0.1)
  end)

  it("ends at once when the server does", function()
    local looks = 0
    function owned.find()
      looks = looks + 1
      if looks == 3 then return nil, "not_running" end
      return { pid = 1 }
    end
    watch.begin(ctx)
    local seconds, why, code = watch.wait(ctx)
    assert.same({ nil, "not_running", "ECLOSED" }, { seconds, why, code })
    assert.same({ "watching the new server for 3 s" }, said)
  end)

  it("is over for a server of before the machine was started again", function()
    ctx.session.metadata.server_answered = core.system.monotonic() + 1000
    assert.is_true(waited() < 0.1)
  end)

  it("ends with the time of the phase", function()
    watch.begin(ctx)
    local seconds, _, code = core.cancel.within(0.2, watch.wait, ctx)
    assert.is_nil(seconds)
    assert.equal("ETIMEDOUT", code)
  end)
end)
