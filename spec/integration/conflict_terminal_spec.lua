--- Conflicts decided by somebody at a real terminal.
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")
local typist = require("spec.support.typist")

describe("At a terminal", function()
  local PYRAMID = "standards/universal/testing/pyramid.md"
  local ODD = "workflows/flow/-odd 'name\27[31m\nof\xff.md"
  -- The first time somebody only looks.
  local EDITOR = [[
    if test -e "$0.used"; then echo "both pyramids" > "$1"; fi
    touch "$0.used"
  ]]
  local s, before, editor

  -- Made once: three files that both sides changed.
  setup(function()
    s = tiny.new({
      first = { ["universal/" .. ODD] = "odd 1\n" },
      second = { ["universal/" .. ODD] = "odd 2\n",
        ["universal/standards/testing/pyramid.md"] = "pyramid 2\n" },
    })
    tiny.write(s, tiny.GUIDE, "my guide\27[2J\n")
    tiny.write(s, PYRAMID, "my pyramid\n")
    tiny.write(s, ODD, "my odd one\n")
    before = tiny.snapshot(s)
    editor = s.root .. "/editor.sh"
    helper.write(editor, EDITOR)
    tiny.save(s)
  end)
  before_each(function()
    tiny.reset(s)
    os.remove(editor .. ".used")
  end)
  teardown(helper.clean)

  local function at_terminal(argv, steps)
    return typist.run(s, argv, steps, { EDITOR = "sh " .. editor })
  end

  local function upgrade(steps) return at_terminal({ "upgrade", "--source", s.source }, steps) end

  local function report()
    local name
    for _, found in ipairs(tiny.names(s, ".cache")) do
      name = found:match("^upgrade%-summary.*") or name
    end
    return tiny.read(s, ".cache/" .. name)
  end

  it("three conflicts are decided in three ways, and the upgrade is completed", function()
    local result = upgrade({
      { "Conflict 1 of 3", "diff ours\n" }, { "-guide 1", "" }, { "> ", "ours\n" },
      { "Conflict 2 of 3", "edit\n" }, { "still holds a conflict mark", "edit\n" },
      { "Conflict 3 of 3", "diff theirs\n" }, { "> ", "theirs\n" },
    })
    assert.equal(0, result.code, result.output)
    assert.equal("my guide\27[2J\n", tiny.read(s, tiny.GUIDE))
    assert.equal("both pyramids\n", tiny.read(s, PYRAMID))
    assert.equal("odd 2\n", tiny.read(s, ODD))
    assert.is_true(tiny.is_settled(s))
    -- Neither the name nor what is in a file reached the terminal as it is.
    assert.is_nil(result.output:find("\27[2J", 1, true))
    assert.is_nil(result.output:find("\27[31m\nof", 1, true))
    assert.truthy(result.output:find("-odd 'name\\e[31m\\nof\\xFF.md", 1, true), result.output)
    local text = report()
    for _, told in ipairs({ "guide.md`: .*yours was kept %(as you answered%)",
      "pyramid.md`: .*merged by hand %(as you answered%)",
      "xFF.md`: .*the new one was taken, yours is in the backup %(as you answered%)" }) do
      assert.truthy(text:find(told), told .. "\n" .. text)
    end
  end)

  it("Ctrl-C, Ctrl-D and abort at any question leave the installation as it was", function()
    local ends = { { typist.CTRL_C, 130 }, { typist.CTRL_D, 3 }, { "abort\n", 3 } }
    for at = 1, 3 do
      local steps = {}
      for i = 1, at - 1 do steps[i] = { ("Conflict %d of 3"):format(i), "theirs\n" } end
      local keys, code = table.unpack(ends[1])
      if at > 1 then keys, code = table.unpack(ends[at]) end
      steps[at] = { ("Conflict %d of 3"):format(at), "" }
      steps[at + 1] = { "> ", keys }
      local result = upgrade(steps)
      assert.equal(code, result.code, result.output)
      assert.same(before, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      assert.same({}, tiny.sessions(s))
    end
    for at = 2, 3 do -- the first of them at the other questions, while a diff is made
      local steps = {}
      for i = 1, at - 1 do steps[i] = { ("Conflict %d of 3"):format(i), "later\n" } end
      steps[at] = { ("Conflict %d of 3"):format(at), typist.CTRL_C }
      assert.equal(130, upgrade(steps).code)
      assert.same(before, tiny.snapshot(s))
      assert.is_true(tiny.is_settled(s))
      assert.same({}, tiny.sessions(s))
    end
  end)

  it("what was answered before it was ended is the default next time", function()
    local exact = upgrade({ { "Conflict 1 of 3", "theirs\n" },
      { "Conflict 2 of 3", typist.CTRL_C } })
    assert.equal(130, exact.code, exact.output)
    local result = upgrade({ { "Conflict 1 of 3", "" }, { "your answer last time", "\n" },
      { "Conflict 2 of 3", "ours\n" }, { "Conflict 3 of 3", "ours\n" } })
    assert.equal(0, result.code, result.output)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("my pyramid\n", tiny.read(s, PYRAMID))
    assert.truthy(report():find("guide.md`: .*%(as you answered last time%)"))
  end)

  it("a kill amid the questions leaves an upgrade that waits, with what was answered", function()
    helper.write(editor, 'kill -9 "$(ps -o ppid= -p "$PPID")"')
    finally(function() helper.write(editor, EDITOR) end)
    local result = upgrade({ { "Conflict 1 of 3", "theirs\n" }, { "Conflict 2 of 3", "edit\n" } })
    assert.equal(-9, result.code, result.output)
    assert.same(before, tiny.snapshot(s))
    local list = tiny.event(tiny.json(s, { "conflicts" }), "result").data
    assert.same({ 2, "theirs" }, { list.open, list.conflicts[1].answer })
    result = tiny.json(s, { "resume", "--on-conflict", "ours" })
    assert.equal(0, result.code, result.stderr)
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.is_true(tiny.is_settled(s))
  end)

  it("what is left for later waits, and is asked about by the resume alone", function()
    local result = upgrade({ { "Conflict 1 of 3", "theirs\n" }, { "Conflict 2 of 3", "\n" },
      { "Conflict 3 of 3", "ours\n" } })
    assert.equal(4, result.code, result.output)
    assert.same(before, tiny.snapshot(s))
    result = at_terminal({ "resume" }, { { "Conflict 1 of 1", "" },
      { "pyramid.md", typist.CTRL_C } })
    assert.equal(4, result.code, result.output)
    assert.same(before, tiny.snapshot(s))
    assert.equal(4, at_terminal({ "resume", "--on-conflict", "stop" }, {}).code) -- asks nothing
    result = at_terminal({ "conflicts" }, {})
    assert.equal(4, result.code, result.output)
    local id = result.output:match("(%x+)\27%[0m? *\27?[^\n]*pyramid")
      or result.output:match("\n(%x%x%x%x%x%x%x%x%x%x%x%x)[^\n]*pyramid")
    at_terminal({ "conflicts", "--edit", id }, { { "not taken", "" } })
    result = at_terminal({ "conflicts", "--edit", id }, {})
    assert.equal(0, result.code, result.output)
    result = at_terminal({ "resume" }, {})
    assert.equal(0, result.code, result.output)
    assert.equal("both pyramids\n", tiny.read(s, PYRAMID))
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.is_true(tiny.is_settled(s))
  end)
end)
