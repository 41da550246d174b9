--- A new server is proven before the old one is stopped, and one that fails all the same is
-- replaced by the old one. Nothing here has a network: pip is told to ask no index.
local checks = require("spec.support.checks")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local mcp = require("praxlua.mcp")
local sample = require("spec.support.sample")

-- A source distribution whose own backend fails, so that building it asks for nothing else.
local MAKE_SDIST = [[
import io, sys, tarfile
files = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: praxbroken\nVersion: 1.0\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
                      'backend-path = ["."]\n',
    "backend.py": "def build_wheel(*words, **more):\n    raise SystemExit('no compiler here')\n",
}
with tarfile.open(sys.argv[1], "w:gz") as out:
    for name, text in files.items():
        entry = tarfile.TarInfo("praxbroken-1.0/" + name)
        entry.size = len(text)
        out.addfile(entry, io.BytesIO(text.encode()))
]]

-- A stranger: listens on a port of its own choosing, and never answers.
local STRANGER = [[
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
open(sys.argv[1] + ".new", "w").write(str(s.getsockname()[1]))
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(120)
]]

describe("A new server that does not work", function()
  after_each(function() assert.same({}, sample.clean()) end)

  local function as_served(s)
    local answer = assert(sample.server(s))
    return { tools = answer.tools, pid = answer.pid }
  end

  -- The upgrade fails in a phase; everything is as before, and the old server offers what it did.
  local function comes_to_nothing(s, phase, extra, options)
    local before, old = sample.list(s), as_served(s)
    local result = sample.upgrade(s, extra, options)
    checks.exits(1, result)
    assert.equal(phase, sample.events(result, "phase_failed")[1].number, result.stderr)
    checks.undone(s, before)
    checks.installed_package(s, "1.0.0")
    local now = as_served(s)
    assert.same(old.tools, now.tools)
    return checks.text(result), old.pid == now.pid, result
  end

  -- What the proof finds: each is a fault of the new release, whatever the transport.
  for what, case in pairs({
    ["fails to import what it needs"] = {
      faults = { import_error = true }, says = "a_module_that_was_never_installed" },
    ["hangs at its start"] = {
      faults = { hang_at_start = true }, says = "no answer from the server within 2.0 s" },
    ["answers garbage"] = { faults = { reply = "}{ garbage" }, says = "tools/list" },
    ["lost a tool"] = { faults = { lose_tool = "list_workflows" }, says = "list_workflows" },
    ["needs a package that is not there"] = {
      requirements = "praxsample==9.9.9\n", pip = true, says = "praxsample==9.9.9" },
  }) do
    it(what .. " is never switched to", function()
      local s = sample.new({ faults = case.faults, requirements = case.requirements,
        pip = case.pip })
      local said, same = comes_to_nothing(s, 3, { "--health-timeout", "2" })
      assert.truthy(said:find(case.says, 1, true), said)
      assert.is_true(same, "the old server was stopped")
    end)
  end

  it("needs a package that cannot be built is never switched to", function()
    local s = sample.new({ requirements = "praxsample==2.0.0\npraxbroken==1.0\n", pip = true })
    local links = s.root .. "/wheels"
    command.succeed({ "cp", "-R", s.base.dir .. "/wheels", links }, { scratch = s.scratch })
    command.succeed({ s.base.python, "-c", MAKE_SDIST, links .. "/praxbroken-1.0.tar.gz" },
      { scratch = s.scratch })
    local said, same = comes_to_nothing(s, 3, {}, { environment = { PIP_FIND_LINKS = links } })
    assert.truthy(said:find("could not be built", 1, true), said)
    assert.is_true(same, "the old server was stopped")
  end)

  -- What shows only when the server runs for good: over stdio these work.
  local function only_over_http(faults)
    faults.only_over = "http"
    return sample.new({ faults = faults })
  end

  it("does not answer over HTTP in time is replaced by the old one", function()
    local s = only_over_http({ hang_on_initialize = true })
    helper.write(s.target .. "/upgrade.lua", "return { server = { health_timeout = 2 } }\n")
    local said = comes_to_nothing(s, 3)
    assert.truthy(said:find("is not ready", 1, true), said)
    assert.truthy(said:find("within [012]%.%d s;"), said) -- what is left of the two
  end)

  it("finds its port taken by a stranger is replaced by the old one, the stranger left alone",
    function()
      local scratch = helper.tempdir()
      local place = scratch .. "/port"
      local stranger = command.start({ "python3", "-c", STRANGER, place }, { scratch = scratch })
      local port = command.until_true(function() return tonumber(helper.read(place) or "") end, 10)
      local s = only_over_http({ port = port })
      local said = comes_to_nothing(s, 3)
      assert.truthy(said:find("no free port", 1, true), said)
      assert.truthy(lfs.attributes("/proc/" .. stranger.pid .. "/fd"))
      command.kill(stranger, "KILL")
    end)

  it("ends two seconds after its first answer is replaced by the old one", function()
    local s = only_over_http({ exit_after = 2 })
    local said, same = comes_to_nothing(s, 4, { "--watch", "4" })
    assert.truthy(said:find("answered once and runs no more", 1, true), said)
    assert.is_false(same)
  end)

  it("is still starting when praxlua is killed: rollback ends it and starts the old one", function()
    local s = only_over_http({ slow_start = 8 })
    local before, old = sample.list(s), as_served(s)
    local run = sample.start_upgrade(s)
    assert.is_true(command.until_true(function()
      local is_new = false
      for _, process in ipairs(sample.processes(s)) do
        if process.pid == old.pid then return nil end
        local words = table.concat(process.command, " ")
        is_new = is_new or words:find("-m mcp_server --transport http", 1, true) ~= nil
      end
      return is_new or nil
    end, 60), "the new server was never started")
    command.kill(run, "KILL")
    command.wait(run)
    local result = sample.run(s, { "rollback", "--json" })
    result.events = command.events(result.stdout)
    checks.exits(0, result)
    checks.undone(s, before)
    assert.same(old.tools, as_served(s).tools)
  end)

  it("is left where a restart is not wanted, but proven all the same", function()
    local s = sample.new({ faults = { import_error = true } })
    local _, same = comes_to_nothing(s, 3, { "--no-restart" })
    assert.is_true(same)
  end)
end)

describe("A new server that works", function()
  after_each(function() assert.same({}, sample.clean()) end)

  it("is proven while the old one answers, and before a file of the old one changes", function()
    local s = sample.new()
    local old = checks.json(s.target .. "/.mcp_server_state.json")
    local run = sample.start_upgrade(s)
    assert.is_table(command.await(run, function(event)
      return event.event == "phase_progress" and event.text == "proving the new server"
    end))
    command.kill(run, "STOP")
    local client = assert(mcp.connect({ url = old.url, timeout = 10 }))
    assert.equal("1.0.0", client.server.version)
    mcp.close(client)
    assert.truthy(lfs.attributes(s.target .. "/mcp_server/legacy.py"))
    assert.is_nil(lfs.attributes(s.target .. "/mcp_server/metrics"))
    command.kill(run, "CONT")
    local result = command.wait(run)
    assert.equal(0, result.code, result.stderr)
    checks.serves(s, "2.0.0")
    local done = sample.events(
      { events = command.events(result.stdout) }, "phase_completed")
    assert.is_true(done[4].evidence.server_proven)
  end)
end)
