--- The screen of a conflict: what is shown, what is offered, and what each way to answer comes to.
local conflicts = require("praxlua.conflicts")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local screen = require("praxlua.cli.conflict_screen")
local terminal = require("praxlua.terminal")

describe("The screen of a conflict", function()
  local ID = "3f2b8c1e-9a4d-4e21-8b7c-0123456789ab"
  local doc, shown

  after_each(helper.clean)

  -- A conflict between these two contents; nil for a side that is not there.
  local function prepare(path, ours, theirs)
    local root = helper.tempdir()
    for _, name in ipairs({ "/target", "/source", "/target/.upgrade", "/target/.cache" }) do
      lfs.mkdir(root .. name)
    end
    if ours then helper.write(root .. "/target/" .. path, ours) end
    helper.write(root .. "/source/" .. path, theirs)
    doc = assert(conflicts.write({ target = root .. "/target", source = root .. "/source",
      options = {}, memory = { known = {} }, session = { session_id = ID } }, { entries = { {
        path = path, action = "conflict", reason = "both\27[2J changed it", id = "aabbccddeeff",
        base_from = "unknown", ["local"] = ours and core.hash.sha256(ours),
        new = core.hash.sha256(theirs), source = path } } }))
    return doc.dict.conflicts[1]
  end

  -- What the person at the terminal answers, line by line; then the input ends.
  local function ask(conflict, ...)
    local lines, at, out = { ... }, 0, {}
    local t = terminal.new({
      out = { write = function(_, s) out[#out + 1] = s end, flush = function() end },
      input = { read = function()
        at = at + 1
        return lines[at]
      end },
      is_terminal = false, columns = 80, environment = { LANG = "C.UTF-8" },
    })
    local answer = screen.ask(t, { doc = doc, conflict = conflict, index = 2, total = 5 })
    shown = table.concat(out)
    return answer
  end

  local function shows(words) return shown:find(words, 1, true) ~= nil end

  it("tells which it is of how many, why, from what, and shows how the two differ", function()
    local conflict = prepare("odd\27[31m\n'na\xffme.md", "one\ntwo\n", "one\nthree\27]0;x\7\n")
    assert.equal("ours", ask(conflict, "ours"))
    for _, words in ipairs({ "Conflict 2 of 5: odd\\e[31m\\n'na\\xFFme.md", "both\\e[2J changed it",
      "shipped before  not known", "yours           8 B", "-two\n", "+three\\e]0;x\\x07\n" }) do
      assert.is_true(shows(words), words .. "\n" .. shown)
    end
    assert.is_nil(shown:find("[\27\7]"))
  end)

  it("takes words, their beginnings and numbers; diffs ask again", function()
    local conflict = prepare("a.md", "1\n", "2\n")
    assert.equal("theirs", ask(conflict, "t"))
    assert.equal("theirs", ask(conflict, "2"))
    assert.equal("abort", ask(conflict, "diff ours", "diff t", "d", "ab"))
    assert.is_true(shows("+++ yours"))
    assert.is_true(shows("Please answer with one of the words"))
  end)

  it("takes no answer for later, and the end of the input for the wish to end it", function()
    local conflict = prepare("a.md", "1\n", "2\n")
    assert.equal("later", ask(conflict, ""))
    assert.equal("abort", ask(conflict))
    assert.equal("later", ask(conflict, "x", "x", "x", "x", "x"))
  end)

  it("offers what was answered last time, and takes only an empty line for it", function()
    local conflict = prepare("a.md", "1\n", "2\n")
    conflict.remembered = "theirs"
    assert.equal("theirs", ask(conflict, ""))
    assert.is_true(shows("your answer last time  (default)"))
    assert.equal("later", ask(conflict, "x", "x", "x", "x", "x"))
    assert.equal("abort", ask(conflict))
    conflict.remembered = "merged"
    assert.equal("remembered", ask(conflict, ""))
    assert.equal("ours", ask(conflict, "ours"))
  end)

  it("offers an editor for text alone", function()
    local conflict = prepare("a.bin", "1\0", "2\0")
    assert.equal("later", ask(conflict, "edit", "later"))
    assert.is_false(shows("in your editor"))
    assert.is_true(shows("(not text: 2 B becomes 2 B)"))
  end)

  it("asks nothing any more once a signal came", function()
    local conflict = prepare("a.md", "1\n", "2\n")
    core.system.catch_signals()
    finally(core.system.clear_interrupt)
    core.system.signal(core.system.pid(), "INT")
    assert.equal("abort", ask(conflict, "ours"))
    assert.is_false(shows("What is to become of it?"))
  end)

  it("cuts a long diff, and tells where the rest is", function()
    local conflict = prepare("a.md", ("x\n"):rep(100), ("y\n"):rep(100))
    ask(conflict, "later")
    assert.is_true(shows("more lines; the files are in " .. doc.folder .. "/aabbccddeeff)"))
    assert.truthy(select(2, shown:gsub("\n", "")) < 40)
  end)
end)
