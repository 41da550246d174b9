--- The old environment of an upgraded installation, kept for the way back.
local core = require("praxlua.core")
local environment = require("praxlua.environment")
local helper = require("spec.support.helper")
local run = require("praxlua.run")
local state = require("praxlua.state")

describe("environment", function()
  local r, target, warnings

  before_each(function()
    target = helper.tempdir() .. "/project/.praxis-os"
    helper.write(target .. "/venv/packages", "old\n")
    warnings = {}
    r = assert(run.open({ target = target }, { emit = function(event)
      if event.event == "warning" then warnings[#warnings + 1] = event.message end
    end }))
    run.attach(r, assert(state.create_session(target)))
    assert(run.open_transaction(r, true))
  end)
  after_each(function()
    run.close(r)
    helper.clean()
  end)

  -- As phase 3 does: what is installed beside is exchanged for the environment.
  local function upgrade()
    local number, path = r.ctx.change.stage()
    helper.write(path .. "/packages", "new\n")
    assert(r.ctx.change.switch(r.target_name .. "/venv", number))
    assert(r.transaction:commit())
  end

  local function kept() return environment.path(target, r.session.session_id) end

  it("keeps the original of a committed session beside the caches", function()
    upgrade()
    environment.keep(r)
    assert.equal(target .. "/.cache/environment-" .. r.session.session_id, kept())
    assert.equal("old\n", helper.read(kept() .. "/packages"))
    assert.equal("new\n", helper.read(target .. "/venv/packages"))
  end)

  it("may be repeated", function()
    upgrade()
    environment.keep(r)
    environment.keep(r)
    assert.equal("old\n", helper.read(kept() .. "/packages"))
    assert.same({}, warnings)
  end)

  it("forgets those of earlier sessions, and nothing else", function()
    local earlier = environment.path(target, core.system.uuid())
    helper.write(earlier .. "/packages", "older\n")
    helper.write(target .. "/.cache/other/packages", "somebody's\n")
    upgrade()
    environment.keep(r)
    assert.is_nil(core.file.stat(earlier))
    assert.equal("old\n", helper.read(kept() .. "/packages"))
    assert.equal("somebody's\n", helper.read(target .. "/.cache/other/packages"))
  end)

  it("keeps nothing where the environment was not touched or was not there", function()
    assert(r.transaction:commit())
    environment.keep(r)
    assert.is_nil(core.file.stat(kept()))
    assert.same({}, warnings)
  end)

  it("warns where it cannot be kept", function()
    upgrade()
    assert(core.tree.remove(target .. "/.cache"))
    environment.keep(r)
    assert.equal(1, #warnings)
    assert.truthy(warnings[1]:find("could not be kept", 1, true))
  end)
end)
