--- The journal of core.transaction: whatever happens to its two files, they are read as what was
-- written, or as that without a torn end, or not at all.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")
local lfs = require("lfs")

local fails = helper.fails

local HEADER = 32

-- A record as runtime/journal.h describes it.
local function record(sequence, kind, payload)
  local head = string.pack("<I4 I4 I8", #payload, kind, sequence)
  local digest = core.hash.sha256(head .. payload):sub(1, 32):gsub("%x%x", function(hex)
    return string.char(tonumber(hex, 16))
  end)
  return head .. digest .. payload
end

local BEGIN = record(1, 1, string.pack("<I4 s4", 2, "__pycache__"))

-- A change as a batch holds it; `with` overrides fields.
local function change(with)
  local c = { kind = 1, number = 7, path = "a", before = 0, mode = 0, inode = 0, time = 0,
    content = "", after = 1 }
  for name, value in pairs(with or {}) do c[name] = value end
  return string.pack("<I4 I4 s4 I4 I4 I8 i8 s4 I4 I4 I8 i8 s4", c.kind, c.number, c.path, c.before,
    c.mode, c.inode, c.time, c.content, c.after, c.mode, c.inode, c.time, c.content)
end

local function batch(...)
  local changes = { ... }
  return string.pack("<I4", #changes) .. table.concat(changes)
end

describe("the journal", function()
  local root, journal, copy, descriptors
  before_each(function()
    root = kit.directory()
    journal = root .. "/" .. kit.PATH .. "/journal"
    copy = journal .. ".copy"
    collectgarbage()
    descriptors = helper.descriptors()
  end)
  after_each(function()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  -- What is remembered, record by record: how many, the note, the paths.
  local function remembered(t)
    local paths = {}
    for i, done in ipairs(t:changes()) do paths[i] = done.path .. "=" .. tostring(done.after) end
    return ("%d %s %s %s"):format(t:sequence(), t:status(), t:last_checkpoint() or "-",
      table.concat(paths, " "))
  end

  -- A journal of a few records; what was remembered after each, and where each ends.
  local function write_journal()
    local t <close> = assert(kit.open(root, true))
    local states, ends = { [0] = false }, { [0] = 0 }
    local function note()
      states[t:sequence()], ends[t:sequence()] = remembered(t), #helper.read(journal)
    end
    note()
    assert(t:put("a", { data = "1" }))
    assert(t:symlink("b", "a"))
    assert(t:apply())
    note()
    assert(t:checkpoint("note"))
    note()
    assert(t:put("a", { data = "2" }))
    assert(t:apply())
    note()
    assert(t:checkpoint("more"))
    note()
    return helper.read(journal), states, ends
  end

  -- How far the transaction had come is told beside the journal (runtime/reached.c).
  local function forget_reached()
    local folder = root .. "/" .. kit.PATH
    for name in lfs.dir(folder) do
      if name:find("^reached%.") then assert(os.remove(folder .. "/" .. name)) end
    end
  end

  -- Writes both copies (false: there is none) and opens the journal alone: what is remembered, how
  -- many records, and whether something was mended.
  local function open_with(data, other)
    if other == nil then other = data end
    forget_reached()
    for path, content in pairs({ [journal] = data, [copy] = other }) do
      if content then helper.write(path, content) else os.remove(path) end
    end
    local t <close>, message, code = kit.open(root)
    if t then return remembered(t), t:sequence(), t:mended() end
    return nil, message, code
  end

  local function both_are(expected, what)
    assert.equal(expected, helper.read(journal), what)
    assert.equal(expected, helper.read(copy), what)
  end

  -- Content with the byte at `at` changed by `mask`.
  local function flipped(content, at, mask)
    return content:sub(1, at - 1) .. string.char(content:byte(at) ~ mask) .. content:sub(at + 1)
  end

  it("is two files that are alike", function()
    local whole, states, ends = write_journal()
    assert.equal(whole, helper.read(copy))
    assert.equal(states[#ends], (open_with(whole)))
    both_are(whole)
  end)

  it("of any length is read as the whole records in it", function()
    local whole, states, ends = write_journal()
    for length = 0, #whole do
      local count = 0
      while ends[count + 1] and ends[count + 1] <= length do count = count + 1 end
      local found, sequence, mended = open_with(whole:sub(1, length))
      if count == 0 then
        assert.is_nil(found)
        assert.equal("ENOENT", mended, length)
      else
        assert.equal(states[count], found, length)
        assert.equal(count, sequence)
        assert.is_false(mended)
        both_are(whole:sub(1, ends[count]), "the torn end is cut off")
      end
    end
  end)

  it("with one copy of any length is the other one, and mended", function()
    local whole, states, ends = write_journal()
    local last = #ends
    for length = 0, #whole do
      local cut = whole:sub(1, length)
      for _, pair in ipairs({ { cut, whole }, { whole, cut } }) do
        local found, _, mended = open_with(pair[1], pair[2])
        assert.equal(states[last], found, length)
        assert.equal(length < ends[last - 1], mended, length)
        both_are(whole, length)
      end
    end
  end)

  it("without one of its copies is the other one, torn end or not", function()
    local whole, states, ends = write_journal()
    for _, length in ipairs({ ends[2] + 10, ends[4], ends[5] - 1, ends[5] }) do
      local count = 0
      while ends[count + 1] and ends[count + 1] <= length do count = count + 1 end
      local part = whole:sub(1, length)
      for _, pair in ipairs({ { part, false }, { false, part } }) do
        assert.equal(states[count], (open_with(pair[1], pair[2])))
        both_are(whole:sub(1, ends[count]))
      end
    end
    fails("ENOENT", open_with(false, false))
  end)

  it("with one wrong bit in one copy is the other one, and mended", function()
    local whole, states, ends = write_journal()
    local last = #ends
    for at = 1, #whole do
      for bit = 0, 7 do
        local wrong = flipped(whole, at, 1 << bit)
        local first, second = wrong, whole
        if bit % 2 == 0 then first, second = whole, wrong end
        local found, _, mended = open_with(first, second)
        assert.equal(states[last], found, at)
        assert.equal(at <= ends[last - 1], mended, at)
      end
      both_are(whole, at)
    end
  end)

  it("with a wrong byte in each copy takes each record from where it is whole", function()
    local whole, states, ends = write_journal()
    for first = 1, #ends do
      for second = 1, #ends do
        if first ~= second then
          local found = open_with(flipped(whole, ends[first], 1), flipped(whole, ends[second], 128))
          assert.equal(states[#ends], found)
          both_are(whole)
        end
      end
    end
  end)

  it("with the same wrong byte in both copies is refused, but for a torn last record", function()
    local whole, states, ends = write_journal()
    local last = #ends
    for at = 1, #whole do
      for _, mask in ipairs({ 0xff, 0x01, 0x80 }) do
        local wrong = flipped(whole, at, mask)
        local found, message, code = open_with(wrong)
        if at > ends[last - 1] then
          assert.equal(states[last - 1], found, at)
        else
          assert.is_nil(found, at)
          assert.equal("EBADJOURNAL", code, message)
          both_are(wrong, "nothing is touched")
        end
      end
    end
  end)

  it("that was being written when it was killed is read as far as it came", function()
    local whole, states, ends = write_journal()
    local last = #ends
    local before = whole:sub(1, ends[last - 1])
    for length = #before, #whole do -- the first copy is written first
      local found, _, mended = open_with(whole:sub(1, length), before)
      assert.equal(states[length == #whole and last or last - 1], found, length)
      assert.is_false(mended)
      -- After a power cut any of it may be there, or something else.
      local rubbish = before .. ("\0"):rep(length - #before)
      assert.equal(states[last - 1], (open_with(rubbish, whole:sub(1, #before + 3))))
      assert.equal(states[last], (open_with(rubbish, whole)))
    end
  end)

  it("that may have lost a durable record is refused", function()
    local whole, _, ends = write_journal()
    local last = #ends
    local torn = flipped(whole, #whole, 1)
    for _, length in ipairs({ 0, 1, ends[1], ends[last - 1] - 1 }) do
      local short = whole:sub(1, length)
      fails("EBADJOURNAL", open_with(torn, short))
      fails("EBADJOURNAL", open_with(short, torn))
      fails("EBADJOURNAL", open_with(short, whole:sub(1, #whole - 1)))
    end
    -- A later record is whole in a copy whose middle is damaged.
    fails("EBADJOURNAL", open_with(flipped(whole, ends[3], 1), whole:sub(1, ends[2])))
  end)

  it("of two histories is refused", function()
    local whole, _, ends = write_journal()
    local other = record(3, 3, string.pack("<s4", "nota"))
    local two = whole:sub(1, ends[2]) .. other .. whole:sub(ends[3] + 1)
    assert.equal(#whole, #two)
    fails("EBADJOURNAL", open_with(whole, two))
    fails("EBADJOURNAL", open_with(whole:sub(1, ends[3]), whole:sub(1, ends[2]) .. other))
  end)

  it("that lacks a piece of its middle is refused, or is the other copy", function()
    local whole, states, ends = write_journal()
    for first = 0, #ends - 2 do
      local missing = whole:sub(1, ends[first]) .. whole:sub(ends[first + 1] + 1)
      fails("EBADJOURNAL", open_with(missing))
      assert.equal(states[#ends], (open_with(missing, whole)))
      local short = whole:sub(1, ends[first + 1] - 1) .. whole:sub(ends[first + 1] + 1)
      local message = fails("EBADJOURNAL", open_with(short))
      assert.matches("read the journal of .*: the journal is damaged", message)
      assert.equal(states[#ends], (open_with(whole, short)))
    end
    local swapped = whole:sub(1, ends[1]) .. whole:sub(ends[2] + 1, ends[3])
      .. whole:sub(ends[1] + 1, ends[2])
    fails("EBADJOURNAL", open_with(swapped))
  end)

  it("with rubbish behind it loses the rubbish", function()
    local whole, states = write_journal()
    local last_record = whole:sub(-(HEADER + 8))
    for _, rubbish in ipairs({ "x", ("\0"):rep(4096), ("\255"):rep(100), last_record }) do
      for _, pair in ipairs({ { whole, whole .. rubbish }, { whole .. rubbish, whole },
        { whole .. rubbish, whole .. rubbish } }) do
        assert.equal(states[#states], (open_with(pair[1], pair[2])))
        both_are(whole)
      end
    end
  end)

  it("goes on after a torn end", function()
    local whole, _, ends = write_journal()
    open_with(whole:sub(1, ends[4] + 20))
    do
      local t <close> = assert(kit.open(root))
      assert.equal("note", t:last_checkpoint())
      assert(t:checkpoint("after"))
    end
    assert.equal(helper.read(journal), helper.read(copy))
    local t <close> = assert(kit.open(root))
    assert.equal("after", t:last_checkpoint())
    assert.equal(5, t:sequence())
  end)

  it("of a praxlua that wrote one copy only is read as well", function()
    local _, states = write_journal()
    local old = record(1, 1, string.pack("<I4 s4", 1, "__pycache__"))
    assert.equal(states[1], (open_with(old, false)))
    both_are(old)
  end)

  it("of a newer praxlua is refused as such", function()
    write_journal()
    local newer = record(1, 1, string.pack("<I4 s4", 4, ""))
    assert.matches("written by a newer praxlua", fails("EFORMAT", open_with(newer)))
    fails("EFORMAT", open_with(newer .. record(2, 99, "whatever it means")))
  end)

  it("that is whole but says nothing sensible is refused", function()
    write_journal()
    for what, records in pairs({
      ["no beginning"] = { 3, string.pack("<s4", "note") },
      ["a second beginning"] = { 1, string.pack("<I4 s4", 2, ""), 1 },
      ["an empty beginning"] = { 1, string.pack("<I4", 2) },
      ["an unknown kind"] = { 77, "", 1 },
      ["kind 0"] = { 0, "", 1 },
      ["a batch without a count"] = { 2, "", 1 },
      ["a batch of too many"] = { 2, string.pack("<I4", 1000000), 1 },
      ["a batch of one more"] = { 2, string.pack("<I4", 2) .. change(), 1 },
      ["a cut change"] = { 2, batch(change()):sub(1, -2), 1 },
      ["a change of no kind"] = { 2, batch(change({ kind = 0 })), 1 },
      ["a change of an unknown kind"] = { 2, batch(change({ kind = 8 })), 1 },
      ["a state of no type"] = { 2, batch(change({ before = 5 })), 1 },
      ["a path that leads out"] = { 2, batch(change({ path = "../a" })), 1 },
      ["a path from the root"] = { 2, batch(change({ path = "/a" })), 1 },
      ["an empty path"] = { 2, batch(change({ path = "" })), 1 },
      ["a checkpoint without its note"] = { 3, string.pack("<I4", 100), 1 },
      ["an undo without its end"] = { 4, "1234", 1 },
      ["an undone without its end"] = { 5, "1234", 1 },
      ["a kept file without its path"] = { 7, string.pack("<I4", 9), 1 },
    }) do
      local kind, payload, after = table.unpack(records)
      local data = after and BEGIN .. record(2, kind, payload) or record(1, kind, payload)
      local found, message, code = open_with(data)
      assert.is_nil(found, what)
      assert.equal("EBADJOURNAL", code, what .. ": " .. tostring(message))
    end
  end)

  it("with any other byte in a change is refused, or can be undone without harm", function()
    write_journal()
    helper.write(root .. "/outside/file", "outside")
    local payload = batch(change({ before = 1, content = ("0"):rep(64) }), change({ path = "b/c" }))
    for at = 1, #payload do
      for _, byte in ipairs({ 0, 1, 0x2e, 0x2f, 0xff }) do
        local other = payload:sub(1, at - 1) .. string.char(byte) .. payload:sub(at + 1)
        helper.write(journal, BEGIN .. record(2, 2, other))
        helper.write(copy, BEGIN .. record(2, 2, other))
        local t <close>, message, code = kit.open(root)
        if t then t:rollback() else assert.equal("EBADJOURNAL", code, message) end
      end
    end
    assert.equal("outside", helper.read(root .. "/outside/file"))
  end)

  it("must be two regular files of a sensible size, or one of them is as good as none", function()
    local whole, states, ends = write_journal()
    for _, make in ipairs({ "truncate -s 300M %s", "mkfifo %s", "ln -s /etc/passwd %s" }) do
      for _, path in ipairs({ journal, copy }) do
        kit.sh("rm -f " .. path .. "; " .. make, path)
        local t <close> = assert(kit.open(root))
        assert.equal(states[#ends], remembered(t))
        assert.is_true(t:mended())
        both_are(whole)
      end
      for _, path in ipairs({ journal, copy }) do kit.sh("rm -f " .. path .. "; " .. make, path) end
      fails("EBADJOURNAL", kit.open(root))
      kit.sh("rm %s %s", journal, copy)
      open_with(whole)
    end
  end)

  it("goes on with one copy while a folder stands in the place of the other", function()
    local whole, states, ends = write_journal()
    for _, pair in ipairs({ { journal, copy }, { copy, journal } }) do
      kit.sh("rm %s && mkdir %s", pair[1], pair[1])
      local t <close> = assert(kit.open(root))
      assert.equal(states[#ends], remembered(t))
      assert.is_true(t:mended())
      assert.equal(whole, helper.read(pair[2]))
      kit.sh("rmdir %s", pair[1])
      open_with(whole)
    end
  end)

  it("that lost the record of what was done to the tree is damaged, whole as it looks", function()
    local whole, _, ends = write_journal()
    local function cut(data, length)
      for _, path in ipairs({ journal, copy }) do helper.write(path, data:sub(1, length)) end
      return kit.open(root)
    end
    for _, length in ipairs({ ends[4] - 1, ends[3], ends[2], 10, 0 }) do
      fails("EBADJOURNAL", cut(whole, length))
    end
    -- Behind the last batch: a checkpoint, and what says that everything is undone.
    assert(cut(whole, #whole - 1)):close()
    local t <close> = assert(cut(whole, #whole))
    assert(t:rollback())
    local long = helper.read(journal)
    fails("EBADJOURNAL", cut(long, #whole))
    local last <close> = assert(cut(long, #long - 1))
    assert.equal("undoing", last:status())
  end)

  -- Runs code on a new transaction under strace, which makes calls fail, and prints its results.
  local function run(code, faults)
    return kit.run([[
      local said = {} -- printed at the end: strace counts each write
      local function say(...) said[#said + 1] = table.concat({ ... }, " ") end
      local function tell(ok, message, code) say(ok == true and "ok" or code .. ": " .. message) end
      local t <close> = assert(kit.open(root, true))
      tell(t:checkpoint("first"))
    ]] .. code .. [[ print(table.concat(said, "\n")) ]], root, child.injected(faults))
  end

  local REFUSED = "EIO: go on after a failed sync or undo: Input/output error"

  describe("when a call fails", function()
    it("keeps no half of a record that did not fit", function()
      -- The writes of the second checkpoint.
      local output = run([[
        tell(t:checkpoint("too much"))
        say(t:last_checkpoint())
        tell(t:checkpoint("second"))
      ]], "write:error=ENOSPC:when=5..6")
      assert.equal("ok\nENOSPC: write journal: No space left on device\nfirst\nok\n", output)
      local t <close> = assert(kit.open(root))
      assert.equal("second", t:last_checkpoint())
      assert.equal(3, t:sequence())
    end)

    -- Which call of the second checkpoint fails, and which copy carries on.
    for what, case in pairs({
      ["the first copy cannot be written"] = { "write:error=EIO:when=5", "copy" },
      ["the second copy cannot be written"] = { "write:error=EIO:when=6", "journal" },
      ["there is no room for the second copy"] = { "write:error=ENOSPC:when=6", "journal" },
      ["the first copy cannot be synced"] = { "fsync:error=EIO:when=3", "copy" },
      ["the second copy cannot be synced"] = { "fsync:error=EIO:when=4", "journal" },
    }) do
      it("carries on with the other copy: " .. what, function()
        local output = run([[
          tell(t:checkpoint("second"))
          tell(t:checkpoint("third"))
        ]], case[1])
        assert.equal("ok\nok\nok\n", output)
        local is, gone = journal, copy
        if case[2] == "copy" then is, gone = copy, journal end
        assert.is_false(core.file.exists(gone))
        assert.is_true(#helper.read(is) > 3 * HEADER)
        local t <close> = assert(kit.open(root))
        assert.equal("third", t:last_checkpoint())
        assert.equal(helper.read(journal), helper.read(copy))
      end)
    end

    it("writes to neither copy again after both could not be synced", function()
      local output = run([[
        local folder = root .. "/" .. kit.PATH .. "/"
        local before = core.file.stat(folder .. "journal").inode
        tell(t:checkpoint("second"))
        say(t:last_checkpoint())
        tell(t:checkpoint("third"))
        tell(t:put("a", { data = "1" }))
        tell(t:commit())
        say(t:status(), #assert(t:rollback()))
        say(tostring(core.file.stat(folder .. "journal").inode ~= before),
          tostring(core.file.read(folder .. "journal") == core.file.read(folder .. "journal.copy")))
      ]], "fsync:error=EIO:when=3..4")
      assert.equal("ok\nEIO: write journal: Input/output error\nfirst\n"
        .. (REFUSED .. "\n"):rep(3) .. "open 0\ntrue true\n", output)
      local t <close> = assert(kit.open(root))
      assert.is_nil(t:last_checkpoint())
      assert.equal("open", t:status())
    end)

    it("ends the transaction, but for its undo, when that is the sync of everything", function()
      helper.write(root .. "/a", "old")
      local output = run([[
        assert(t:put("a", { data = "new" }))
        tell(t:apply())
        tell(t:put("b", { data = "new" }))
        say(core.file.read(root .. "/a"), #assert(t:rollback()))
      ]], "syncfs:error=EIO:when=2")
      assert.equal("ok\nEIO: sync .: Input/output error\n" .. REFUSED .. "\nold 0\n", output)
      local t <close> = assert(kit.open(root))
      assert.same({}, t:changes())
    end)

    it("takes nothing more while nothing can be written", function()
      local output = run([[
        tell(t:checkpoint("second"))
        tell(t:checkpoint("third"))
        tell(t:rollback())
        say(#assert(t:rollback()))
      ]], "write:error=EIO:when=5..10")
      local failed = "EIO: write journal: Input/output error\n"
      assert.equal("ok\n" .. failed:rep(3) .. "0\n", output)
    end)

    it("and a half record cannot be taken back, begins with two new files", function()
      local output = run([[
        tell(t:checkpoint("second"))
        tell(t:checkpoint("third"))
      ]], "ftruncate:error=EIO -e inject=write:error=EIO:when=5..6 -e trace=write,ftruncate")
      assert.equal("ok\nEIO: write journal: Input/output error\nok\n", output)
      local t <close> = assert(kit.open(root))
      assert.equal("third", t:last_checkpoint())
    end)

    it("to mend it on a full disk goes on with what is whole", function()
      local whole, states, ends = write_journal()
      helper.write(copy, whole:sub(1, ends[2]))
      local output = kit.run([[
        local t <close> = assert(kit.open(root))
        print(t:checkpoint("on"))
      ]], root, child.injected("write:error=ENOSPC:when=1..2"))
      assert.equal("true\n", output)
      assert.is_false(core.file.exists(copy))
      assert.equal(whole, helper.read(journal):sub(1, #whole))
      local t <close> = assert(kit.open(root))
      assert.equal("on", t:last_checkpoint())
      assert.equal(#states + 1, t:sequence())
    end)
  end)

  it("is not begun before it is durable", function()
    local output = kit.run([[
      local t <close> = assert(kit.open(root, true))
      print(select(3, t:checkpoint("first")))
      print(t:last_checkpoint())
      print(select(3, t:commit()))
      print(t:status())
    ]], root, child.injected("fsync:error=EIO"))
    assert.equal("EIO\nnil\nEIO\nopen\n", output)
  end)
end)
