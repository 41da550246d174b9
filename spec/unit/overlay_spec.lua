--- The dry run: the same phases on a copy, which tell what they would do and do none of it.
local command = require("spec.support.command")
local evidence = require("praxlua.evidence")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local lfs = require("lfs")
local private_copy = require("praxlua.private_copy")
local receipts = require("praxlua.receipts")
local tiny = require("spec.support.tiny")

-- Changes files of the installation and of the project, with what it finds there, asks, and calls a
-- tool whose answer it does not need.
local WRITER = [[
return {
  id = "writer", title = "A writer", after = "content-upgrade",
  grants = { target = "write", project = "write", tools = { "touch" } },
  evidence = { tools = receipts_of("spawn"), answer = string_of() },
  run = function(host)
    local guide = need(host.target.read("standards/universal/ai-assistant/guide.md"))
    need(host.target.write("specs/from-guide.md", guide:upper()))
    need(host.target.remove("workflows/flow/metadata.json"))
    need(host.target.rename("workflows/flow/phase.md", "workflows/flow/moved.md"))
    need(host.project.write("notes.txt", need(host.project.read("notes.txt")) .. "more\n"))
    need(host.undo({ "touch", "undone" }))
    local ended = need(host.spawn({ "touch", "made by tool" }))
    return { answer = tostring(host.ask("Well?", { "a", "b" }, "b")) .. tostring(ended.not_run) }
  end,
}
]]

describe("A dry run", function()
  local s, exact, folder

  setup(function()
    s = tiny.new({ second = { ["mcp_server/requirements.txt"] = "thing\n" } })
    lfs.mkdir(s.root .. "/tmp")
    s.environment.TMPDIR = s.root .. "/tmp"
    helper.write(s.project .. "/notes.txt", "notes\n")
    helper.write(s.root .. "/phases/10-writer.lua", WRITER)
    tiny.save(s)
  end)
  teardown(helper.clean)

  before_each(function()
    tiny.reset(s)
    folder = tiny.phase(s, "10-writer", WRITER)
    exact = tiny.exact(s)
  end)

  -- Nothing of the installation, and nothing in the temporary directory, is other than before.
  local function touched_nothing()
    assert.same(exact, tiny.exact(s))
    for name in lfs.dir(s.root .. "/tmp") do assert.truthy(name:find("^%.+$"), name) end
  end

  local function dry(...) return tiny.upgrade(s, { "--dry-run", "--phases", folder, ... }) end

  local function warnings(result)
    local found = {}
    for _, event in ipairs(result.events) do
      if event.event == "warning" then found[#found + 1] = event.message end
    end
    return table.concat(found, "\n")
  end

  it("shows what the run then does, phases of one's own included", function()
    local result = dry()
    assert.equal(0, result.code, result.stderr)
    assert.equal("dry_run", result.last.status)
    touched_nothing()
    local plan = tiny.event(result, "plan")
    local shown = {}
    for _, action in ipairs(plan.actions) do
      shown[action.path] = (action.phase and action.phase .. " " or "") .. action.action
    end
    assert.same({
      [tiny.GUIDE] = "update", ["mcp_server/__init__.py"] = "update",
      ["mcp_server/requirements.txt"] = "add",
      ["standards/universal/testing/retired.md"] = "remove",
      ["specs/from-guide.md"] = "writer add", ["workflows/flow/metadata.json"] = "writer remove",
      ["workflows/flow/moved.md"] = "writer add", ["workflows/flow/phase.md"] = "writer remove",
      ["../notes.txt"] = "writer update",
    }, shown)
    local before = tiny.snapshot(s)
    local real = tiny.upgrade(s, { "--phases", folder, "--plan", plan.hash })
    assert.equal(0, real.code, real.stderr)
    local after, did = tiny.snapshot(s), {}
    for path in pairs(before) do
      if after[path] ~= before[path] then did[path] = after[path] and "update" or "remove" end
    end
    for path in pairs(after) do
      if not before[path] then did[path] = "add" end
    end
    -- What a run itself writes down, what the tool made, and what the server's packages became.
    for path in pairs(did) do
      local name = path:match("^%.praxis%-os/(.*)$") or "../" .. path
      local own = name:find("^%u[%u_]+%.%l+$") or name:find("^%.installed") or name:find("^venv")
        or path == ".gitignore" or path == "made by tool" or name == "specs"
      if not own then
        assert.truthy(shown[name] and shown[name]:find(did[path] .. "$"), path .. " " .. did[path])
      end
    end
    assert.equal("GUIDE 2\n", tiny.read(s, "specs/from-guide.md"))
    assert.equal("notes\nmore\n", helper.read(s.project .. "/notes.txt"))
  end)

  it("runs no program and asks no server, and says what would be done", function()
    tiny.write(s, "venv/bin/python", "#!/bin/sh\necho run >> " .. s.root .. "/was-run\nexit 1\n")
    exact = tiny.exact(s)
    local result = dry("--run-tests", "--git-commit")
    assert.equal(0, result.code, result.stderr)
    assert.is_nil(helper.read(s.root .. "/was-run"))
    touched_nothing()
    local verbs, told = {}, {}
    for _, event in ipairs(result.events) do
      if event.event == "not_run" then
        verbs[#verbs + 1] = event.verb
        told[event.verb] = event.what
      end
    end
    assert.same({ "spawn", "dependencies.install_dependencies", "server.prove",
      "server.restart_server", "server.run_smoke", "server.run_tests", "report.commit_changes" },
      verbs)
    assert.equal("running touch 'made by tool'", told.spawn)
    local own = tiny.event(result, "phase_completed", "writer").evidence
    assert.same({ tools = 0, answer = "bdry_run" }, own)
    local server = tiny.event(result, "phase_completed", "mcp-server-upgrade").evidence
    assert.same({ json.null, "dry_run", json.null, "dry_run" }, { server.dependencies_installed,
      server.dependencies_installed_reason, server.server_health_check,
      server.server_health_check_reason })
    assert.equal("dry_run",
      tiny.event(result, "phase_completed", "post-upgrade-validation").evidence
        .tools_registered_reason)
    assert.is_nil(result.stdout:find("praxlua-dry-run", 1, true))
  end)

  it("tells that a phase would fail, with 1", function()
    tiny.phase(s, "20-failing", [[
      return { id = "failing", title = "Fails", after = "writer", grants = { target = "write" },
        run = function(host)
          need(host.target.write("specs/half.md", "half"))
          error("on purpose", 0)
        end }
    ]])
    local result = dry()
    assert.equal(1, result.code)
    assert.equal("failed", result.last.status)
    assert.truthy(result.last.message:find("phase failing would fail: on purpose", 1, true))
    assert.is_table(tiny.event(result, "plan"))
    touched_nothing()
  end)

  it("does not judge a phase that needs the answer of what did not run", function()
    tiny.phase(s, "20-needy", [[
      return { id = "needy", title = "Needs an answer", after = "writer",
        grants = { tools = { "git" } }, evidence = { runs = receipts_of("spawn", { min = 1 }) },
        run = function(host)
          local head = need(host.spawn({ "git", "rev-parse", "HEAD" })).stdout
          if not head:find("%x") then error("there is no commit", 0) end
          return {}
        end }
    ]])
    local result = dry()
    assert.equal(0, result.code, result.stderr)
    assert.truthy(warnings(result):find("phase needy could not be followed", 1, true))
    assert.is_table(tiny.event(result, "phase_completed", "cleanup-documentation"))
    touched_nothing()
  end)

  it("passes over manual phases, and what a source brings and nobody allowed", function()
    tiny.phase(s, "20-by-hand", [[
      return { id = "by-hand", title = "By hand", after = "writer", manual = "Do it.",
        evidence = { done = boolean() } }
    ]])
    tiny.commit(s, { [".praxlua/phases/shipped.lua"] = [[
      return { id = "shipped", title = "Shipped", after = "content-upgrade",
        grants = { target = "write" }, run = function(host)
          need(host.target.write("specs/shipped.md", "x"))
          return {}
        end }
    ]] })
    local result = dry()
    assert.equal(0, result.code, result.stderr)
    assert.is_nil(tiny.event(result, "phase_started", "by-hand"))
    assert.is_nil(tiny.event(result, "phase_started", "shipped"))
    assert.truthy(warnings(result):find("shipped.lua", 1, true))
    assert.is_table(tiny.event(dry("--allow-source-phases"), "phase_completed", "shipped"))
    touched_nothing()
  end)

  it("leaves a phase out, and says so, where the project is too large to be copied", function()
    local result = tiny.patched_upgrade(s, [[
      require("praxlua.private_copy").PROJECT_BYTES = 3
    ]], { "--dry-run", "--phases", folder })
    assert.equal(0, result.code, result.stderr)
    assert.is_nil(tiny.event(result, "phase_started", "writer"))
    assert.truthy(warnings(result):find("phase writer was left out of the dry run", 1, true))
    touched_nothing()
  end)

  it("leaves nothing behind when it is interrupted", function()
    tiny.phase(s, "20-slow", [[
      return { id = "slow", title = "Slow", after = "writer",
        run = function(host) while true do host.time() end end }
    ]])
    local run = tiny.start(s, { "--dry-run", "--phases", folder })
    assert(command.await(run, function(event)
      return event.event == "phase_started" and event.phase == "slow"
    end))
    command.kill(run, "TERM")
    local result = tiny.finish(run)
    assert.equal(143, result.code, result.stderr)
    assert.equal("interrupted", result.last.status)
    touched_nothing()
  end)

  it("refuses where the copy has no place", function()
    for _, place in ipairs({ s.root .. "/none", s.target .. "/VERSION.txt", s.target }) do
      local result = tiny.upgrade(s, { "--dry-run" }, { environment = { TMPDIR = place } })
      assert.equal(3, result.code)
      assert.truthy(tiny.said(result):find("TMPDIR=DIR", 1, true))
      touched_nothing()
    end
  end)
end)

describe("What a dry run does not do", function()
  local function validation(values)
    local found = {
      tools_registered = json.null, tools_registered_reason = "dry_run", expected_tools = 3,
      validation_report = "x",
    }
    for _, field in ipairs({ "server_version", "browser_tools_enabled", "browser_smoke_test",
      "rag_search_test", "workflow_engine_test", "file_watchers_active", "rag_index_current",
      "unit_tests_passed" }) do
      found[field], found[field .. "_reason"] = json.null, "dry_run"
    end
    for name, value in pairs(values or {}) do found[name] = value end
    return found
  end

  local server = {
    mcp_server_copied = true, files_copied = 1, checksums_verified = true,
    dependencies_installed = json.null, dependencies_installed_reason = "dry_run",
    post_install_steps = {}, server_restarted = false, server_restart_time = json.null,
    server_restart_time_reason = "dry_run", server_health_check = json.null,
    server_health_check_reason = "dry_run",
  }

  it("may be missing in its evidence, and in no upgrade's", function()
    assert.is_true(evidence.checkpoint(3, server, true))
    helper.fails("ECHECKPOINT", evidence.checkpoint(3, server))
    assert.is_true(evidence.checkpoint(4, validation(), true))
    helper.fails("ESCHEMA", evidence.checkpoint(4, validation()))
    helper.fails("ECHECKPOINT", evidence.checkpoint(4, validation({ lost_tools = { "x" } }), true))
    assert.equal("server not asked", evidence.summary(4, validation(), true))
  end)

  it("cannot be claimed to be done", function()
    local noted = { { verb = "dependencies.install_dependencies", ok = false, not_run = true } }
    local claim = { dependencies_installed = true }
    helper.fails("ERECEIPT", receipts.check(3, claim, noted))
  end)
end)

describe("A copy's event", function()
  it("names the original, at any depth, and stays as it was itself", function()
    local event = { text = "in /tmp/c%d/x", list = json.array({ { path = "/tmp/c%d" } }), n = 1 }
    local told = private_copy.about_original(event, "/tmp/c%d", "/p%1")
    assert.same({ text = "in /p%1/x", list = { { path = "/p%1" } }, n = 1 }, told)
    assert.is_true(json.is_array(told.list))
    assert.equal("/tmp/c%d", event.list[1].path)
  end)
end)
