--- Two projects on one machine, their servers started by the same words: whatever is done to the
--- server of one, an upgrade of it too, the other's goes on as if nothing had been.
local checks = require("spec.support.checks")
local cjson = require("cjson")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local sample = require("spec.support.sample")

-- What must not change: the process, when it started, and that it answers.
local function standing(s)
  local state = cjson.decode(helper.read(s.target .. "/.mcp_server_state.json"))
  local info = assert(core.system.process(state.pid), "it is gone")
  local answer = assert(sample.server(s))
  return { pid = state.pid, start_time = info.start_time, url = state.url, argv = info.argv,
    version = answer.version, tools = answer.tools }
end

-- The words of a server, without the place of the interpreter.
local function words(s, argv)
  local same = {}
  for i, word in ipairs(argv) do same[i] = word:gsub(s.target:gsub("%p", "%%%0"), "TARGET") end
  return same
end

describe("Of two projects with servers of the same words", function()
  local s, neighbour, before

  before_each(function()
    s, neighbour = sample.new(), sample.new()
    before = standing(neighbour)
    assert.same(words(neighbour, before.argv), words(s, standing(s).argv))
  end)
  after_each(function() assert.same({}, sample.clean()) end)

  local function server(...)
    local result = sample.run(s, { "server", ... })
    assert.same(before, standing(neighbour))
    return result
  end

  it("starting, stopping and restarting one never touches the other", function()
    local first = standing(s)
    assert.equal(0, server("status").code)
    assert.equal(3, server("start").code)
    assert.equal(0, server("restart").code)
    assert.are_not.equal(first.pid, standing(s).pid)
    assert.equal(0, server("probe", "--smoke").code)
    assert.equal(0, server("stop").code)
    assert.is_nil(sample.server(s))
    assert.equal(1, server("status").code)
    assert.equal(0, server("start").code)
    assert.same(first.tools, standing(s).tools)
  end)

  it("no command of one takes the other's server for its own", function()
    assert.equal(0, server("stop").code)
    local theirs = neighbour.target .. "/.mcp_server_state.json"
    helper.write(s.target .. "/.mcp_server_state.json", helper.read(theirs))
    for _, action in ipairs({ "start", "stop", "restart" }) do
      local result = server(action)
      checks.exits(3, result)
      assert.truthy(result.stdout:find("it works in " .. neighbour.project, 1, true), result.stdout)
    end
    os.remove(s.target .. "/.mcp_server_state.json")
  end)

  it("upgrading one, and taking that back, never touches the other", function()
    local first = standing(s)
    checks.exits(0, sample.upgrade(s))
    assert.same(before, standing(neighbour))
    local upgraded = standing(s)
    assert.equal("2.0.0", upgraded.version)
    assert.are_not.equal(first.pid, upgraded.pid)
    checks.exits(0, sample.run(s, { "rollback" }))
    assert.same(before, standing(neighbour))
    assert.equal("1.0.0", standing(s).version)
  end)

  it("while one is upgraded its server cannot be started or stopped by hand", function()
    local run = sample.start_upgrade(s)
    assert.is_table(command.await(run, function(event)
      return event.event == "phase_started" and event.number == 2
    end))
    finally(function() command.kill(run, "CONT") end)
    command.kill(run, "STOP") -- so that it is not over before all of them were tried
    for _, action in ipairs({ "stop", "start", "restart", "probe" }) do
      assert.equal(6, server(action).code, action)
    end
    command.kill(run, "CONT")
    -- The neighbour's are its own.
    checks.exits(0, sample.run(neighbour, { "server", "restart" }))
    before = standing(neighbour)
    assert.equal(0, command.wait(run).code)
    assert.equal("2.0.0", standing(s).version)
    assert.same(before, standing(neighbour))
  end)
end)
