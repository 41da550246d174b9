--- Conflicts as data: the folder of a session that waits, and the answers that are remembered.
local answers = require("praxlua.conflicts.answers")
local conflicts = require("praxlua.conflicts")
local core = require("praxlua.core")
local diff = require("praxlua.conflicts.diff")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local state = require("praxlua.state")

local ID = "3f2b8c1e-9a4d-4e21-8b7c-0123456789ab"

-- Names that try to be something else: 255 bytes, a line end, quotes, an option, a colour.
local NAMES = {
  ("x"):rep(252) .. ".md", "a\nb.md", "it's \"two\".md", "-rf", "caf\xe9.txt", "\27[31mred\u{202e}",
  "... ", "a/.md", "with space/b.a-b", "end.", "long.ending" .. ("e"):rep(30),
}

describe("Conflicts", function()
  local target, source, ctx

  before_each(function()
    local root = helper.tempdir()
    target, source = root .. "/target", root .. "/source"
    for _, path in ipairs({ target, source, target .. "/.upgrade", target .. "/.cache" }) do
      lfs.mkdir(path)
    end
    ctx = { target = target, source = source, options = {}, memory = { known = {} },
      session = { session_id = ID } }
  end)
  after_each(helper.clean)

  -- A plan's entry of a file with these contents; nil for a side that is not there.
  local function entry(path, ours, theirs)
    if ours then helper.write(target .. "/" .. path, ours) end
    if theirs then helper.write(source .. "/" .. path, theirs) end
    return { path = path, action = "conflict", reason = "both", base_from = "unknown",
      id = core.hash.sha256(path .. tostring(ours) .. tostring(theirs)):sub(1, 12),
      ["local"] = ours and core.hash.sha256(ours), new = theirs and core.hash.sha256(theirs),
      source = theirs and path }
  end

  local function plan(...)
    return { entries = { ... }, source_commit = "c", source_version = "2" }
  end

  local function written(...) return assert(conflicts.write(ctx, plan(...))) end

  local function again() return assert(conflicts.read(target, ID)) end

  it("with the worst names are written, read, answered and shown, and lead nowhere else", function()
    local entries = {}
    for i, name in ipairs(NAMES) do entries[i] = entry(name, "mine " .. i, "theirs " .. i) end
    written(table.unpack(entries))
    local doc = again()
    assert.equal(#NAMES, #doc.dict.conflicts)
    for i, conflict in ipairs(doc.dict.conflicts) do
      assert.equal(NAMES[i], conflict.path)
      assert.equal("mine " .. i, conflicts.side(doc, conflict, "ours"))
      assert.equal(conflict.ours.file, conflicts.file_of(conflict, "ours"))
      assert.truthy(conflict.ours.file:find("^%x+/ours%.?%w*$"), conflict.ours.file)
      assert.same({ "--- yours", "+++ shipped now" },
        table.move(assert(diff.lines(doc, conflict, "ours", "theirs")), 1, 2, 1, {}))
      assert.is_true(conflicts.answer(doc, conflict, "ours"))
    end
    assert.is_true(conflicts.save(doc))
    local found = conflicts.resolutions(again())
    for i, name in ipairs(NAMES) do
      assert.same({ answer = "ours", id = entries[i].id, remembered = false }, found[name])
    end
    assert.is_true(conflicts.close(target, ID))
    assert.is_nil(lfs.attributes(target .. "/.upgrade"))
    local recall = answers.open(target)
    for i, name in ipairs(NAMES) do
      assert.equal("ours", recall({ path = name, ours = entries[i]["local"],
        theirs = entries[i].new }).answer)
    end
  end)

  it("keep what was answered and merged when they are written down once more", function()
    local one, two = entry("a.md", "1\n", "2\n"), entry("b.md", "1\n", "2\n")
    local doc = written(one, two)
    conflicts.answer(doc, doc.dict.conflicts[1], "theirs")
    assert.is_true(conflicts.save(doc))
    helper.write(conflicts.path_of(doc, doc.dict.conflicts[1], "merged"), "both\n")
    local three = entry("b.md", "3\n", "2\n")
    written(one, three)
    doc = again()
    assert.equal("theirs", doc.dict.conflicts[1].answer)
    assert.equal("both\n", conflicts.merged(doc, doc.dict.conflicts[1]))
    assert.equal(three.id, doc.dict.conflicts[2].id)
    assert.is_nil(lfs.attributes(doc.folder .. "/" .. two.id))
  end)

  describe("merged by hand", function()
    local doc, conflict

    local function merge(data)
      helper.write(conflicts.path_of(doc, conflict, "merged"), data)
      return conflicts.answer(doc, conflict, "merged")
    end

    before_each(function()
      doc = written(entry("a.md", "Title\n=======\nmine\n", "Title\n=======\ntheirs\n"))
      conflict = doc.dict.conflicts[1]
    end)

    it("are taken without marks alone; a line that both sides have is none", function()
      helper.fails("EMARKS", conflicts.answer(doc, conflict, "merged"))
      for _, left in ipairs({ "<<<<<<< ours", "||||||| base", "=======", ">>>>>>> theirs\r" }) do
        local message = helper.fails("EMARKS", merge("Title\n=======\n" .. left .. "\nmine\n"))
        assert.truthy(message:find("line %d begins with " .. left:sub(1, 7):gsub("|", "%%|")))
        assert.is_nil(conflict.answer)
      end
      assert.is_true(merge("Title\n=======\n<<<<<<<< eight\nboth\n"))
      assert.same("Title\n=======\n<<<<<<<< eight\nboth\n",
        conflicts.resolutions(doc)["a.md"].content)
    end)

    it("must be text, of a size, and a file", function()
      helper.fails("ENOTTEXT", merge("a\0b"))
      helper.fails("EEMPTY", merge(""))
      assert.is_true(merge("\n"))
      conflict.ours = nil -- somebody changed the list
      assert.is_true(merge(""))
      helper.fails("EFBIG", merge(("x"):rep(conflicts.MERGED_BYTES + 1)))
      local path = conflicts.path_of(doc, conflict, "merged")
      os.remove(path)
      helper.fails("ENOENT", conflicts.answer(doc, conflict, "merged"))
      helper.write(target .. "/secret", "secret\n")
      lfs.link(target .. "/secret", path, true)
      assert.is_nil((conflicts.answer(doc, conflict, "merged")))
    end)

    it("are looked at again when they are used", function()
      assert.is_true(merge("both\n"))
      assert.is_true(conflicts.save(doc))
      helper.write(conflicts.path_of(doc, conflict, "merged"), "<<<<<<< ours\n")
      local found, problems = conflicts.resolutions(again())
      assert.same({}, found)
      assert.equal(1, #problems)
    end)
  end)

  it("of what is no text, is gone, or is a link cannot be merged", function()
    local doc = written(entry("a.bin", "a\0b", "c\0d"), entry("gone.md", nil, "2\n"))
    for _, conflict in ipairs(doc.dict.conflicts) do
      assert.is_nil(conflict.merged)
      helper.fails("ENOTTEXT", conflicts.answer(doc, conflict, "merged"))
    end
    local lines = diff.lines(doc, doc.dict.conflicts[1], "ours", "theirs")
    assert.equal("(not text: 3 B becomes 3 B)", lines[3])
    assert.equal("+2", diff.lines(doc, doc.dict.conflicts[2], "ours", "theirs")[4])
  end)

  it("are shown as they are, whatever the user set for git", function()
    local config = target .. "/../gitconfig"
    helper.write(config, "[core]\n\tautocrlf = true\n[diff]\n\tignoreAllSpace = true\n"
      .. "\texternal = false\n\tnoprefix = true\n\tcontext = 0\n[color]\n\tui = always\n")
    local system = core.system.environment
    finally(function() core.system.environment = system end)
    function core.system.environment()
      local environment = system()
      environment.GIT_CONFIG_GLOBAL = config
      return environment
    end
    local doc = written(entry("a.md", "a\nb\nc\n", "a\r\nb\r\nc\n"), entry("b.md", "1\n", nil))
    local function shown(i) return diff.lines(doc, doc.dict.conflicts[i], "ours", "theirs") end
    assert.same({ "--- yours", "+++ shipped now", "(only line ends differ: LF becomes CRLF)",
      "@@ -1,3 +1,3 @@", "-a", "-b", "+a\r", "+b\r", " c" }, shown(1))
    assert.same({ "--- yours", "+++ shipped now", "@@ -1 +0,0 @@", "-1" }, shown(2))
  end)

  it("are named by an id, the beginning of one, a path or all", function()
    local doc = written(entry("a", "1", "2"), entry("b", "1", "2"))
    doc.dict.conflicts[1].id, doc.dict.conflicts[2].id = "aabbccddeeff", "aabbccddee00"
    for word, count in pairs({ all = 2, aabbccddeeff = 1, aabbccddee0 = 1, b = 1 }) do
      assert.equal(count, #assert(conflicts.find(doc, word)), word)
    end
    for _, word in ipairs({ "aabb", "ff", "", "a.*" }) do
      local found, message = conflicts.find(doc, word)
      assert.is_nil(found)
      assert.truthy(message:find("the ids are aabbccddeeff, aabbccddee00", 1, true))
    end
  end)

  describe("take nothing with them when they go", function()
    local doc, conflict

    before_each(function()
      doc = written(entry("a.md", "1\n", "2\n"))
      conflict = doc.dict.conflicts[1]
    end)

    local function put(which, data) helper.write(conflicts.path_of(doc, conflict, which), data) end

    local function answered(given)
      assert(conflicts.answer(doc, conflict, given))
      assert(conflicts.save(doc))
    end

    it("a merge that was begun beside an answer begins the next one", function()
      put("merged", "half\n")
      answered("ours")
      assert.same({ true }, { conflicts.close(target, ID) })
      doc = written(entry("a.md", "1\n", "2\n"))
      conflict = doc.dict.conflicts[1]
      assert.equal("ours", conflict.remembered)
      assert.equal("half\n", conflicts.merged(doc, conflict))
    end)

    it("a merge that was begun is not replaced by that of last time", function()
      put("merged", "first\n")
      answered("merged")
      assert.same({ true }, { conflicts.close(target, ID) })
      doc = written(entry("a.md", "1\n", "2\n"))
      conflict = doc.dict.conflicts[1]
      put("merged", "second\n")
      local message = helper.fails("EEXIST", conflicts.answer(doc, conflict, "remembered"))
      assert.truthy(message:find("another merge than that of last time", 1, true))
      assert.equal("second\n", conflicts.merged(doc, conflict))
      assert(conflicts.remember(doc)) -- from here on it is kept as a draft
      answered("remembered")
      assert.equal("first\n", conflicts.merged(doc, conflict))
      assert.equal("second\n", select(2, answers.open(target)({ path = "a.md",
        ours = conflict.ours.id, theirs = conflict.theirs.id })).content)
    end)

    it("what praxlua does not remember is moved into .cache with its folder", function()
      for _, change in ipairs({
        function() put("merged", ("x"):rep(conflicts.MERGED_BYTES + 1)) end,
        function() put("theirs", "edited in the wrong place\n") end,
        function() helper.write(doc.folder .. "/" .. conflict.id .. "/notes", "why\n") end,
        function() os.remove(doc.folder .. "/conflicts.json") end,
        function() lfs.link("/etc", doc.folder .. "/link", true) end,
      }) do
        change()
        local ok, kept = conflicts.close(target, ID)
        assert.is_true(ok)
        assert.truthy(kept and kept:find("/%.cache/conflicts%-"), kept)
        assert.truthy(lfs.attributes(kept .. "/" .. conflict.id))
        assert.is_nil(lfs.attributes(doc.folder))
        doc = written(entry("a.md", "1\n", "2\n"))
        conflict = doc.dict.conflicts[1]
      end
      helper.write(doc.folder .. "/" .. conflict.id .. "/.merged.md.px-1-2", "half")
      helper.write(doc.folder .. "/" .. conflict.id .. "/empty", "")
      assert.same({ true }, { conflicts.close(target, ID) })
    end)

    it("a conflict that is gone keeps its folder while that holds such a thing", function()
      local before, warned = conflict.id, {}
      function ctx.warn(message) warned[#warned + 1] = message end
      put("ours", "edited\n")
      written(entry("b.md", "1\n", "2\n"))
      assert.truthy(lfs.attributes(doc.folder .. "/" .. before))
      assert.same({}, warned)
      os.remove(doc.folder .. "/conflicts.json")
      doc = written(entry("b.md", "1\n", "2\n"))
      assert.is_nil(lfs.attributes(doc.folder .. "/" .. before))
      assert.equal("edited\n", helper.read(("%s/.cache/conflicts-%s/%s/ours.md")
        :format(target, ID, before)))
      assert.truthy(warned[1]:find("is kept in", 1, true))
    end)
  end)

  it("are read with suspicion", function()
    local doc = written(entry("a.md", "1", "2"))
    local path = doc.folder .. "/conflicts.json"
    local whole = helper.read(path)
    for _, change in ipairs({
      { "^{", "[" }, { '"format_version": 1', '"format_version": 2' },
      { '"session_id": "3', '"session_id": "4' },
      { '"answer": null', '"answer": "all"' }, { '"answer": null', '"answers": null, "x": 1' },
      { '"id": "%x+"', '"id": "../../x"' }, { '"path": "a.md"', '"path": ""' },
      { '"size": 1', '"size": -1' },
    }) do
      helper.write(path, (whole:gsub(change[1], change[2])))
      local message = helper.fails("EDAMAGED", conflicts.read(target, ID))
      assert.truthy(message:find("conflicts.json cannot be read: ", 1, true), message)
    end
    os.remove(path)
    helper.fails("ENOENT", conflicts.read(target, ID))
    helper.write(target .. "/elsewhere", whole)
    lfs.link(target .. "/elsewhere", path, true)
    assert.is_nil((conflicts.read(target, ID)))
  end)

  it("are cleared up once their session is over, and not before", function()
    local doc = written(entry("a.md", "1", "2"))
    local session = state.session.new({ session_id = ID })
    session.status = "waiting"
    assert(state.save_state(target, session))
    conflicts.sweep(target, error)
    assert.truthy(lfs.attributes(doc.folder))
    helper.write(target .. "/.cache/state/" .. ID .. ".json", "damaged")
    conflicts.sweep(target, error)
    assert.truthy(lfs.attributes(doc.folder))
    session.status = "rolled_back"
    assert(state.save_state(target, session))
    lfs.mkdir(target .. "/.upgrade/conflicts-of-mine")
    conflicts.sweep(target, error)
    assert.is_nil(lfs.attributes(doc.folder))
    assert.truthy(lfs.attributes(target .. "/.upgrade/conflicts-of-mine"))
  end)

  describe("remembered", function()
    local function key(name) return { path = name, base = "1", ours = "2", theirs = "3" } end

    local function remember(name, answer, content)
      local one = key(name)
      one.answer, one.content = answer, content
      return assert(answers.remember(target, { one }))
    end

    it("are found for the same path and contents alone, the last one given", function()
      remember("a", "ours")
      remember("a", "merged", "both\xff")
      assert.equal("both\xff", answers.open(target)(key("a")).content)
      for _, name in ipairs({ "path", "base", "ours", "theirs" }) do
        local asked = key("a")
        asked[name] = "x"
        assert.is_nil(answers.open(target)(asked))
      end
      local without = key("a")
      without.base = nil
      assert.is_nil(answers.open(target)(without))
    end)

    it("stand beside what was only begun, which a merge replaces", function()
      local function known()
        local answer, draft = answers.open(target)(key("a"))
        return { answer and answer.answer, draft and draft.content }
      end
      remember("a", "draft", "half")
      assert.same({ nil, "half" }, known())
      remember("a", "theirs")
      assert.same({ "theirs", "half" }, known())
      remember("a", "draft", "more than half")
      remember("a", "ours")
      assert.same({ "ours", "more than half" }, known())
      remember("a", "merged", "whole")
      assert.same({ "merged" }, known())
      remember("a", "draft", "another")
      assert.same({ "merged", "another" }, known())
    end)

    it("are as many as fit, the newest", function()
      local list = {}
      for i = 1, answers.MOST + 5 do
        list[i] = key("name " .. i)
        list[i].answer = "ours"
      end
      assert(answers.remember(target, list))
      local recall = answers.open(target)
      assert.is_nil(recall(key("name 5")))
      assert.truthy(recall(key("name 6")))
      local most = answers.MAX_BYTES
      answers.MAX_BYTES = 4096
      finally(function() answers.MAX_BYTES = most end)
      remember("big", "merged", ("x"):rep(3000))
      assert.truthy(core.file.stat(target .. answers.NAME).size <= 4096)
      assert.truthy(answers.open(target)(key("big")))
    end)

    it("count for nothing where the file is damaged, and are written anew", function()
      remember("a", "ours")
      local path = target .. answers.NAME
      assert.equal(384, core.file.stat(path).mode)
      helper.write(path, (helper.read(path):gsub("ours", "ourx", 1)))
      assert.is_nil(answers.open(target)(key("a")))
      remember("b", "ours")
      assert.truthy(answers.open(target)(key("b")))
      local exact = core.file.stat(path).inode
      remember("b", "ours")
      assert.equal(exact, core.file.stat(path).inode) -- it is known already
    end)
  end)
end)
