--- What an upgrade would change in each file: `praxlua diff`, and `upgrade --diff`.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local tiny = require("spec.support.tiny")

local LINES = "one\n" .. ("a line\n"):rep(9) .. "end\n"

describe("praxlua diff", function()
  local s, exact

  setup(function()
    s = tiny.new({
      first = {
        ["universal/workflows/flow/run.sh"] = "echo 1\n",
        ["universal/standards/testing/both.md"] = LINES,
        ["universal/standards/testing/old.md"] = LINES,
        ["universal/usage/left.md"] = (LINES:gsub("line", "word")),
      },
      second = {
        ["universal/usage/left.md"] = false,
        ["universal/standards/left.md"] = (LINES:gsub("line", "word")),
        ["universal/workflows/flow/it's\n\27[1mhere\xff.md"] = "\tnew \27[2J\xff\n \n",
        ["universal/standards/testing/both.md"] = (LINES:gsub("one", "ONE")),
        ["universal/standards/testing/old.md"] = false,
        ["universal/standards/testing/new.md"] = LINES,
      },
    })
    tiny.write(s, tiny.GUIDE, "mine\n")
    tiny.write(s, "standards/universal/testing/both.md", LINES .. "mine\n")
    tiny.write(s, "standards/universal/testing/old.md", LINES .. "mine\n")
    tiny.write(s, "usage/left.md", LINES:gsub("line", "word") .. "mine\n")
    exact = tiny.exact(s)
  end)
  teardown(helper.clean)

  local function diff(...) return tiny.json(s, { "diff", "--source", s.source, ... }) end

  local function files_of(result)
    local files = {}
    for _, file in ipairs(tiny.event(result, "result").data.files) do files[file.path] = file end
    return files
  end

  it("shows every file that would change, from here to afterwards, and writes nothing", function()
    local result = diff()
    assert.equal(0, result.code)
    local files = files_of(result)
    assert.equal("--- a/mcp_server/__init__.py\n+++ b/mcp_server/__init__.py\n@@ -0,0 +1 @@\n"
      .. "+# second release\n", files["mcp_server/__init__.py"].diff)
    assert.equal("remove", files["standards/universal/testing/retired.md"].action)
    assert.equal("--- /dev/null\n+++ b/workflows/flow/phase.md\n@@ -0,0 +1 @@\n+phase 2\n",
      files["workflows/flow/phase.md"].diff)
    local conflict = files[tiny.GUIDE]
    assert.same({ "conflict", 1, 1 }, { conflict.action, conflict.added, conflict.removed })
    assert.truthy(conflict.diff:find("\n-mine\n+guide 2\n", 1, true))
    assert.truthy(conflict.notes[1]:find("from yours to theirs", 1, true))
    assert.is_nil(files["workflows/flow/run.sh"])
    assert.same(exact, tiny.exact(s))
  end)

  it("shows what a merge leads to, and edits that go along with a moved file", function()
    local files = files_of(diff("standards/universal/testing"))
    local both = files["standards/universal/testing/both.md"]
    assert.equal("merge", both.action)
    assert.truthy(both.diff:find("\n-one\n+ONE\n", 1, true))
    assert.same({ 1, 1 }, { both.added, both.removed }) -- what is mine is here already
    local new, old = files["standards/universal/testing/new.md"],
      files["standards/universal/testing/old.md"]
    assert.same({ "remove", "", { "moved to standards/universal/testing/new.md" } },
      { old.action, old.diff, old.notes })
    assert.same({ "", "standards/universal/testing/old.md" }, { new.diff, new.moved_from })
  end)

  it("shows what moved out of a folder that is left alone, and tells what is yours", function()
    local left = files_of(diff("standards/universal/left.md"))["standards/universal/left.md"]
    assert.same({ "", "usage/left.md" }, { left.diff, left.moved_from })
    local result = diff("usage/left.md")
    assert.equal(2, result.code)
    assert.truthy(result.last.message:find("usage/left.md is yours", 1, true))
  end)

  it("leaves out the lines that are too many, and no others", function()
    local LIMIT = 350
    local result = tiny.patched(s, ([[require("praxlua.comparison").JSON_LIMIT = %d]])
      :format(LIMIT), { "diff", "--source", s.source, "--json" })
    assert.equal(0, result.code, result.stderr)
    result.events = command.events(result.stdout)
    local left_out, shown, behind = 0, 0, 0
    for _, file in ipairs(tiny.event(result, "result").data.files) do
      local note = file.notes[#file.notes] or ""
      if note:find("its lines are left out", 1, true) then left_out = left_out + 1 end
      if file.diff ~= "" then
        shown = shown + #json.encode(file.diff)
        behind = behind + (left_out > 0 and 1 or 0)
      end
    end
    assert.is_true(left_out > 0 and behind > 0 and shown <= LIMIT)
  end)

  it("has the hash that a dry run prints", function()
    local dry = tiny.upgrade(s, { "--dry-run" })
    assert.equal(tiny.event(dry, "plan").hash, tiny.event(diff(), "result").data.hash)
  end)

  it("shows files and folders that are named, however they are typed", function()
    local function paths(...)
      local names = {}
      for path in pairs(files_of(diff(...))) do names[#names + 1] = path end
      table.sort(names)
      return names
    end
    local one = { "mcp_server/__init__.py" }
    assert.same(one, paths("mcp_server"))
    assert.same(one, paths("mcp_server/"))
    assert.same(one, paths("./.praxis-os//mcp_server/__init__.py"))
    assert.same(one, paths(s.target .. "/mcp_server"))
    assert.equal(2, #paths("mcp_server", "workflows/flow/phase.md"))
    assert.equal(9, #paths(".praxis-os"))
    assert.same({}, paths("workflows/flow/run.sh"))
    local result = diff("mcp_serve")
    assert.equal(2, result.code)
    assert.truthy(result.last.message:find("nothing at mcp_serve", 1, true))
  end)

  it("shows people names and contents in which nothing acts", function()
    local result = tiny.run(s, { "diff", "--source", s.source, "workflows" })
    assert.equal(0, result.code, result.stderr)
    assert.truthy(result.stdout:find([[+++ "b/workflows/flow/it's\n\e[1mhere\xFF.md"]], 1, true))
    local said = result.stdout
    assert.truthy(said:find("\n+        new \\e[2J\\xFF\n+\\x20\n", 1, true), said)
    assert.is_nil(result.stdout:find("\27", 1, true))
    assert.truthy(result.stdout:find("2 files would change.", 1, true))
  end)

  it("refuses while an upgrade runs, and does not disturb it", function()
    local core = require("praxlua.core")
    local lock = assert(core.lock.acquire(s.target))
    local result = diff()
    lock:release()
    assert.equal(6, result.code)
    assert.same(exact, tiny.exact(s))
  end)

  it("shows the same while an upgrade waits for answers to conflicts", function()
    local shown = tiny.event(diff(), "result").data.files
    tiny.save(s)
    finally(function() tiny.reset(s) end)
    assert.equal(4, tiny.upgrade(s).code)
    local waiting = tiny.exact(s)
    local result = diff()
    assert.equal(0, result.code, result.stderr)
    assert.same(shown, tiny.event(result, "result").data.files)
    assert.same(waiting, tiny.exact(s))
  end)

  it("writes nothing where the folder for temporary files lies in the installation", function()
    local options = { environment = { TMPDIR = s.target .. "/specs" } }
    for _, argv in ipairs({ { "diff" }, { "upgrade", "--dry-run", "--diff" }, { "upgrade" } }) do
      local result = tiny.json(s, { argv[1], "--source", s.source, table.unpack(argv, 2) }, options)
      assert.equal(3, result.code, result.stderr)
      assert.truthy(tiny.said(result):find("lie in the installation itself", 1, true))
      assert.same(exact, tiny.exact(s))
    end
  end)

  it("refuses what a dry run refuses", function()
    helper.write(s.source .. "/universal/standards/stray.md", "not committed\n")
    local result = diff()
    os.remove(s.source .. "/universal/standards/stray.md")
    assert.equal(3, result.code)
    assert.truthy(result.last.message:find("stray.md", 1, true))
  end)

  it("is shown beneath the plan by upgrade --dry-run --diff", function()
    local result = tiny.upgrade(s, { "--dry-run", "--diff" })
    local told = {}
    for _, event in ipairs(result.events) do
      if event.event == "difference" then told[event.path] = event.diff end
    end
    for path, file in pairs(files_of(diff())) do assert.equal(file.diff, told[path]) end
    assert.is_nil(tiny.event(tiny.upgrade(s, { "--dry-run" }), "difference"))
    assert.same(exact, tiny.exact(s))
  end)
end)
