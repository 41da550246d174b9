--- An upgrade that waits for answers to its conflicts: answered by command, by file, by policy;
-- gone on with, superseded, rolled back; with files that changed meanwhile.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local tiny = require("spec.support.tiny")

describe("An upgrade with open conflicts", function()
  local INIT = "mcp_server/__init__.py"
  local s, before, id, ids, first

  local function folder() return ".upgrade/conflicts-" .. id .. "/" end

  local function listed() return assert(json.decode(tiny.read(s, folder() .. "conflicts.json"))) end

  -- Made once: two conflicts, and a session that waits for both.
  setup(function()
    s = tiny.new()
    tiny.write(s, tiny.GUIDE, "my guide\n")
    tiny.write(s, INIT, "# mine\n")
    before = tiny.snapshot(s)
    local result = tiny.upgrade(s)
    assert(result.code == 4, result.stderr)
    id, ids, first = result.last.session_id, {}, result.last.session_id
    for _, conflict in ipairs(listed().conflicts) do ids[conflict.path] = conflict.id end
    tiny.save(s)
  end)
  before_each(function()
    tiny.reset(s)
    id = first
  end)
  teardown(helper.clean)

  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
  end

  local function conflicts(...) return tiny.json(s, { "conflicts", ... }) end

  local function resume(...) return tiny.json(s, { "resume", ... }) end

  local function warned(result, words)
    for _, event in ipairs(result.events) do
      if event.event == "warning" and event.message:find(words, 1, true) then return true end
    end
  end

  it("goes on by itself no more than by --yes, and never with 0", function()
    for _ = 1, 2 do
      local result = resume()
      assert.equal(4, result.code)
      assert.equal(2, tiny.sessions(s)[id].metadata.awaits.conflicts)
      assert.same(before, tiny.snapshot(s))
    end
    local refused = resume("--evidence", "x=1")
    assert.equal(3, refused.code)
    assert.truthy(refused.last.message:find("awaits no evidence", 1, true))
    local said = tiny.said(tiny.run(s, { "status" }))
    assert.truthy(said:find("waits for answers to 2 conflicts; it has changed nothing", 1, true))
    assert.equal(0, tiny.json(s, { "backup", "create" }).code)
  end)

  it("is completed once somebody has answered in the file", function()
    local dict = listed()
    dict.conflicts[1].answer, dict.conflicts[2].answer = "theirs", "merged"
    helper.write(s.target .. "/" .. folder() .. "conflicts.json", json.encode(dict))
    local result = resume()
    assert.equal(4, result.code, "a merge with marks was taken")
    assert.is_true(warned(result, "still holds a conflict mark"))
    assert.equal(1, tiny.sessions(s)[id].metadata.awaits.conflicts)
    assert.equal(1, tiny.event(conflicts(), "result").data.open)
    tiny.write(s, folder() .. ids[tiny.GUIDE] .. "/merged.md", "both guides\n")
    result = resume()
    assert.equal(0, result.code, result.stderr)
    assert.equal("both guides\n", tiny.read(s, tiny.GUIDE))
    assert.equal("# second release\n", tiny.read(s, INIT))
    assert.is_true(tiny.is_settled(s))
    local decided = tiny.event(result, "report").report.changes.conflicts
    assert.same({ "theirs", "merged" }, { decided[1].resolution, decided[2].resolution })
    assert.equal("answer", decided[1].decided_by)
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    assert.same(before, tiny.snapshot(s))
  end)

  it("is completed once each was answered by command, by file of answers, by policy", function()
    local result = conflicts("--resolve", ids[INIT] .. "=theirs")
    assert.equal(4, result.code)
    helper.write(s.root .. "/answers.json", json.encode({ [ids[tiny.GUIDE]] = "ours" }))
    result = conflicts("--answers", s.root .. "/answers.json")
    assert.equal(0, result.code, result.stderr)
    assert.truthy(result.last.next:find("praxlua resume " .. id, 1, true))
    assert.equal(0, tiny.event(result, "result").data.open)
    result = resume()
    assert.equal(0, result.code, result.stderr)
    assert.equal("my guide\n", tiny.read(s, tiny.GUIDE))
    assert.equal("# second release\n", tiny.read(s, INIT))
    tiny.reset(s)
    assert.equal(4, conflicts("--resolve", ids[INIT]:sub(1, 6) .. "=ours").code)
    result = resume("--on-conflict", "theirs")
    assert.equal(0, result.code, result.stderr)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("# mine\n", tiny.read(s, INIT))
    local decided = tiny.event(result, "report").report.changes.conflicts
    assert.same({ "answer", "policy" }, { decided[1].decided_by, decided[2].decided_by })
  end)

  it("takes no answer that means nothing, and then none of those beside it", function()
    local good = ids[INIT] .. "=ours"
    for _, case in ipairs({
      { "ffffffffffff=ours", 2, "there is no conflict 'ffffffffffff'; the ids are " },
      { ids[INIT] .. "=mine", 2, "'mine' is no answer" }, { "ours", 2, "'ours' is no answer" },
      { ids[INIT] .. "=remembered", 2, "nothing is remembered" },
      { ids[INIT] .. "=merged", 4, "still holds a conflict mark: line 1" },
    }) do
      local result = conflicts("--resolve", good, "--resolve", case[1])
      assert.equal(case[2], result.code, result.stderr)
      assert.truthy(result.last.message:find(case[3], 1, true), result.last.message)
      assert.equal(json.null, listed().conflicts[1].answer)
    end
    for _, data in ipairs({ "[", "[]x", '{"a": 1}', '{"conflicts": [{"answer": "ours"}]}' }) do
      helper.write(s.root .. "/answers.json", data)
      assert.equal(2, conflicts("--answers", s.root .. "/answers.json").code, data)
    end
    assert.equal(3, conflicts("00000000-0000-0000-0000-000000000000").code)
  end)

  it("goes on waiting, with its answers, where the plan cannot be made anew", function()
    assert.equal(0, conflicts("--resolve", "all=theirs").code)
    helper.write(s.source .. "/mcp_server/__init__.py", "# not committed\n")
    for i, words in ipairs({ "uncommitted changes", "is at commit" }) do
      if i == 2 then tiny.commit(s, {}) end
      local result = resume()
      assert.equal(3, result.code, result.stderr)
      assert.truthy(result.last.message:find(words, 1, true), result.last.message)
      assert.truthy(result.last.next:find("then go on with: praxlua resume " .. id, 1, true))
      assert.equal("waiting", tiny.sessions(s)[id].status)
      assert.same({ "theirs", "theirs" }, { listed().conflicts[1].answer,
        listed().conflicts[2].answer })
    end
    assert(os.execute(("git -C '%s' reset -q --hard HEAD~"):format(s.source)))
    local result = resume()
    assert.equal(0, result.code, result.stderr)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
  end)

  it("does not advise to resume what was forgotten", function()
    local result = tiny.patched(s, [[require("praxlua.backup").create_backup = function()
      return nil, "no room", "ENOSPC"
    end]], { "resume", "--on-conflict", "ours" })
    assert.equal(3, result.code, result.stderr)
    assert.truthy(tiny.said(result):find("begin a new one with: praxlua upgrade", 1, true))
    is_as_before()
  end)

  it("opens a conflict again, by name, where the file changed after the answer", function()
    assert.equal(0, conflicts("--resolve", "all=theirs").code)
    tiny.write(s, tiny.GUIDE, "my other guide\n")
    local half = tiny.snapshot(s)
    local result = resume()
    assert.equal(4, result.code, result.stderr)
    assert.is_true(warned(result, tiny.GUIDE .. " changed since 'theirs' was answered"))
    assert.same(half, tiny.snapshot(s))
    local found = listed().conflicts
    assert.equal("theirs", found[1].answer)
    assert.equal(json.null, found[2].answer)
    assert.not_equal(ids[tiny.GUIDE], found[2].id)
    assert.equal(3, #tiny.names(s, folder())) -- the old one's files are gone
    assert.equal(0, conflicts("--resolve", found[2].id .. "=ours").code)
    assert.equal(0, resume().code)
    assert.equal("my other guide\n", tiny.read(s, tiny.GUIDE))
  end)

  it("tells where the policy decides instead of an answer to what changed since", function()
    assert.equal(0, conflicts("--resolve", "all=ours").code)
    tiny.write(s, tiny.GUIDE, "my other guide\n")
    local result = resume("--on-conflict", "theirs")
    assert.equal(0, result.code, result.stderr)
    assert.is_true(warned(result, ("%s changed since 'ours' was answered (%s); 'theirs' counts "
      .. "instead, by the policy"):format(tiny.GUIDE, ids[tiny.GUIDE])))
    assert.same({ "guide 2\n", "# mine\n" }, { tiny.read(s, tiny.GUIDE), tiny.read(s, INIT) })
  end)

  it("opens a conflict again where the answer cannot be carried out", function()
    local path = s.target .. "/" .. tiny.GUIDE
    assert(core.file.remove(path))
    assert(os.execute(("mkdir '%s' && mkfifo '%s/pipe'"):format(path, path)))
    local half = tiny.snapshot(s)
    assert.equal(4, resume().code)
    assert.equal(0, conflicts("--resolve", "all=theirs").code)
    local result = resume()
    assert.equal(4, result.code, result.stderr)
    assert.is_true(warned(result, "'theirs' cannot be carried out for " .. tiny.GUIDE))
    assert.same({ "theirs", json.null }, { listed().conflicts[1].answer,
      listed().conflicts[2].answer })
    assert.same(half, tiny.snapshot(s))
  end)

  it("is refused, and goes on waiting, while the file of answers is damaged", function()
    local path = folder() .. "conflicts.json"
    local whole = tiny.read(s, path)
    for _, case in ipairs({
      { whole:sub(1, -20), "JSON" },
      { whole:gsub('"answer": null', '"answer": "mine"', 1), "answer" },
      { whole:gsub(ids[INIT], ids[tiny.GUIDE]), "twice" },
      { whole:gsub('"format_version": 1', '"format_version": 9'), "format 9" },
    }) do
      tiny.write(s, path, case[1])
      for _, argv in ipairs({ { "resume" }, { "conflicts" },
        { "conflicts", "--resolve", "all=ours" } }) do
        local result = tiny.json(s, argv)
        assert.equal(3, result.code, result.stderr)
        assert.truthy(result.last.message:find(case[2], 1, true), result.last.message)
      end
      assert.equal(case[1], tiny.read(s, path))
    end
    assert.equal("waiting", tiny.sessions(s)[id].status)
    -- What somebody merged in it is not thrown away with it.
    tiny.write(s, folder() .. ids[tiny.GUIDE] .. "/merged.md", "half a merge\n")
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
    assert.equal("half a merge\n",
      tiny.read(s, ".cache/conflicts-" .. id .. "/" .. ids[tiny.GUIDE] .. "/merged.md"))
  end)

  it("gives way to a new upgrade, which offers its answers", function()
    assert.equal(4, conflicts("--resolve", ids[INIT] .. "=theirs").code)
    tiny.write(s, folder() .. ids[tiny.GUIDE] .. "/merged.md", "half a merge\n")
    local exact = tiny.exact(s)
    assert.equal(4, tiny.upgrade(s, { "--dry-run" }).code)
    assert.same(exact, tiny.exact(s))
    local result = tiny.upgrade(s)
    assert.equal(4, result.code, result.stderr)
    assert.is_true(warned(result, "the upgrade " .. id .. " waited for answers to conflicts"))
    assert.is_nil(tiny.sessions(s)[id])
    id = result.last.session_id
    assert.same({ "conflicts-" .. id }, tiny.names(s, ".upgrade"))
    local found = listed().conflicts
    assert.same({ "theirs", json.null }, { found[1].remembered, found[1].answer })
    assert.same({ json.null, json.null }, { found[2].remembered, found[2].answer })
    assert.equal("half a merge\n", tiny.read(s, folder() .. found[2].merged.file))
    assert.equal(4, conflicts("--resolve", "all=remembered").code)
    assert.equal(0, conflicts("--resolve", found[2].id .. "=merged").code)
    result = resume()
    assert.equal(0, result.code, result.stderr)
    local decided = tiny.event(result, "report").report.changes.conflicts
    assert.same({ "remembered", "answer" }, { decided[1].decided_by, decided[2].decided_by })
    assert.equal("half a merge\n", tiny.read(s, tiny.GUIDE))
  end)

  it("keeps its answers over a kill, and over an upgrade that is rolled back", function()
    assert.equal(0, conflicts("--resolve", "all=theirs").code)
    local result = tiny.patched(s, 'require("praxlua.server").restart_server = die',
      { "resume" })
    assert.equal(137, result.code, result.stderr)
    assert.equal(2, #tiny.names(s, ".upgrade"))
    assert.equal(3, tiny.upgrade(s).code) -- it has changed something by now
    assert.equal(0, tiny.json(s, { "rollback" }).code)
    is_as_before()
    assert.equal(4, tiny.upgrade(s).code)
    assert.equal(0, conflicts("--resolve", "all=remembered").code)
    assert.equal(0, resume().code)
    assert.equal("# second release\n", tiny.read(s, INIT))
  end)

  it("leaves nothing that the next command does not clear up", function()
    for _, name in ipairs(tiny.names(s, ".cache/state")) do
      assert(core.file.remove(s.target .. "/.cache/state/" .. name))
    end
    assert.equal(0, tiny.json(s, { "backup", "create" }).code)
    is_as_before()
  end)
end)

describe("An upgrade with conflicts behind a manual phase", function()
  after_each(helper.clean)

  it("waits for the person first, then for the answers, and asks for nothing twice", function()
    local s = tiny.new()
    tiny.write(s, tiny.GUIDE, "mine\n")
    local phases = tiny.phase(s, "approval", [[
      return { title = "Approval", after = "pre-flight-checks", manual = "Ask the architects.",
        evidence = { approved = boolean{ equals = true } } }
    ]])
    assert.equal(4, tiny.upgrade(s, { "--phases", phases }).code)
    local result = tiny.json(s, { "resume", "--evidence", "approved=true" })
    assert.equal(4, result.code, result.stderr)
    assert.truthy(result.last.next:find("praxlua conflicts", 1, true))
    assert.equal(0, tiny.json(s, { "conflicts", "--resolve", "all=ours" }).code)
    result = tiny.json(s, { "resume" })
    assert.equal(0, result.code, result.stderr)
    assert.is_nil(tiny.event(result, "waiting"))
    assert.equal("mine\n", tiny.read(s, tiny.GUIDE))
    assert.equal("phase 2\n", tiny.read(s, "workflows/flow/phase.md"))
  end)
end)
