--- The journal of core.transaction: whatever happens to the file, it is read as what was written,
-- or as a beginning of that, or not at all.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")

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

local BEGIN = record(1, 1, string.pack("<I4 s4", 1, "__pycache__"))

-- A change as a batch holds it; `with` overrides fields.
local function change(with)
  local c = { kind = 1, number = 7, path = "a", before = 0, mode = 0, inode = 0, content = "",
    after = 1 }
  for name, value in pairs(with or {}) do c[name] = value end
  return string.pack("<I4 I4 s4 I4 I4 I8 s4 I4 I4 I8 s4", c.kind, c.number, c.path, c.before,
    c.mode, c.inode, c.content, c.after, c.mode, c.inode, c.content)
end

local function batch(...)
  local changes = { ... }
  return string.pack("<I4", #changes) .. table.concat(changes)
end

describe("the journal", function()
  local root, journal, descriptors
  before_each(function()
    root = kit.directory()
    journal = root .. "/" .. kit.PATH .. "/journal"
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

  local function open_with(data)
    helper.write(journal, data)
    local t <close>, message, code = kit.open(root)
    if t then return remembered(t), t:sequence() end
    return nil, message, code
  end

  it("of any length is read as the whole records in it", function()
    local whole, states, ends = write_journal()
    for length = 0, #whole do
      local count = 0
      while ends[count + 1] and ends[count + 1] <= length do count = count + 1 end
      local found, _, code = open_with(whole:sub(1, length))
      if count == 0 then
        assert.is_nil(found)
        assert.equal("ENOENT", code, length)
      else
        assert.equal(states[count], found, length)
        assert.equal(whole:sub(1, ends[count]), helper.read(journal), "the torn end is cut off")
      end
    end
  end)

  it("with one wrong byte is refused, but for a torn last record", function()
    local whole, states, ends = write_journal()
    local last = #ends
    for at = 1, #whole do
      for _, flip in ipairs({ 0xff, 0x01, 0x80 }) do
        local wrong = string.char(whole:byte(at) ~ flip)
        local found, message, code = open_with(whole:sub(1, at - 1) .. wrong .. whole:sub(at + 1))
        if at > ends[last - 1] then
          assert.equal(states[last - 1], found, at)
        else
          assert.is_nil(found, at)
          assert.equal("EBADJOURNAL", code, message)
        end
      end
    end
  end)

  it("that lacks a piece of its middle is refused", function()
    local whole, _, ends = write_journal()
    for first = 0, #ends - 2 do
      local missing = whole:sub(1, ends[first]) .. whole:sub(ends[first + 1] + 1)
      fails("EBADJOURNAL", open_with(missing))
      local short = whole:sub(1, ends[first + 1] - 1) .. whole:sub(ends[first + 1] + 1)
      local message = fails("EBADJOURNAL", open_with(short))
      assert.matches("read the journal of .*: the journal is damaged", message)
    end
    local swapped = whole:sub(1, ends[1]) .. whole:sub(ends[2] + 1, ends[3])
      .. whole:sub(ends[1] + 1, ends[2])
    fails("EBADJOURNAL", open_with(swapped))
  end)

  it("with rubbish behind it loses the rubbish", function()
    local whole, states = write_journal()
    local last_record = whole:sub(-(HEADER + 8))
    for _, rubbish in ipairs({ "x", ("\0"):rep(4096), ("\255"):rep(100), last_record }) do
      assert.equal(states[#states], (open_with(whole .. rubbish)))
      assert.equal(whole, helper.read(journal))
    end
  end)

  it("goes on after a torn end", function()
    local whole, _, ends = write_journal()
    helper.write(journal, whole:sub(1, ends[4] + 20))
    do
      local t <close> = assert(kit.open(root))
      assert.equal("note", t:last_checkpoint())
      assert(t:checkpoint("after"))
    end
    local t <close> = assert(kit.open(root))
    assert.equal("after", t:last_checkpoint())
    assert.equal(5, t:sequence())
  end)

  it("of a newer praxlua is refused as such", function()
    write_journal()
    local newer = record(1, 1, string.pack("<I4 s4", 2, ""))
    assert.matches("written by a newer praxlua", fails("EFORMAT", open_with(newer)))
    fails("EFORMAT", open_with(newer .. record(2, 99, "whatever it means")))
  end)

  it("that is whole but says nothing sensible is refused", function()
    write_journal()
    for what, records in pairs({
      ["no beginning"] = { 3, string.pack("<s4", "note") },
      ["a second beginning"] = { 1, string.pack("<I4 s4", 1, ""), 1 },
      ["an empty beginning"] = { 1, string.pack("<I4", 1) },
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
        local t <close>, message, code = kit.open(root)
        if t then t:rollback() else assert.equal("EBADJOURNAL", code, message) end
      end
    end
    assert.equal("outside", helper.read(root .. "/outside/file"))
  end)

  it("must be a regular file of a sensible size", function()
    write_journal()
    os.remove(journal)
    fails("ENOENT", kit.open(root))
    kit.sh("truncate -s 300M %s", journal)
    fails("EBADJOURNAL", kit.open(root))
    kit.sh("rm %s && mkdir %s", journal, journal)
    fails("EISDIR", kit.open(root))
    kit.sh("rmdir %s && mkfifo %s", journal, journal)
    fails("EBADJOURNAL", kit.open(root))
    kit.sh("rm %s && ln -s /etc/passwd %s", journal, journal)
    fails("ELOOP", kit.open(root))
  end)

  it("keeps no half of a record that did not fit #uncounted", function()
    local output = kit.run([[
      local t <close> = assert(kit.open(root, true))
      assert(t:checkpoint("first"))
      print(t:checkpoint(("x"):rep(10000)))
      print(t:last_checkpoint(), t:checkpoint("second"))
    ]], root, "trap '' XFSZ; ulimit -f 4; exec")
    assert.equal("nil\twrite journal: File too large\tEFBIG\nfirst\ttrue\n", output)
    local t <close> = assert(kit.open(root))
    assert.equal("second", t:last_checkpoint())
    assert.equal(3, t:sequence())
  end)

  it("takes nothing more when half a record could not be taken back #uncounted", function()
    local output = kit.run([[
      local t <close> = assert(kit.open(root, true))
      assert(t:checkpoint("first"))
      print(select(3, t:checkpoint(("x"):rep(10000))))
      print(select(3, t:checkpoint("second")))
      assert(t:put("a", { data = "1" }))
      print(select(3, t:apply()))
    ]], root, "trap '' XFSZ; ulimit -f 4; " .. child.injected("ftruncate:error=EIO"))
    assert.equal("EFBIG\nEIO\nEIO\n", output)
    local t <close> = assert(kit.open(root))
    assert.equal("first", t:last_checkpoint())
    assert.is_false(core.file.exists(root .. "/a"))
  end)

  it("notices that a checkpoint is not durable", function()
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
