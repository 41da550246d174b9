local core = require("praxlua.core")
local helper = require("spec.support.helper")
local objects = require("praxlua.objects")

local CURRENT = "/.cache/objects.tar.zst"

describe("objects", function()
  local target

  before_each(function()
    target = helper.tempdir()
    helper.write(target .. "/.cache/x", "")
  end)
  after_each(helper.clean)

  local function ids_of(texts)
    local ids, contents = {}, {}
    for _, text in ipairs(texts) do
      local id = core.hash.sha256(text)
      ids[#ids + 1], contents[id] = id, text
    end
    table.sort(ids)
    return ids, contents
  end

  local function keep(texts)
    local ids, contents = ids_of(texts)
    assert(objects.keep(target, ids, function(id) return contents[id] end))
    return contents
  end

  it("gives back what it was given, any bytes", function()
    local contents = keep({ "one\n", "", "\0\255\nab 3\n", ("x\n"):rep(10000) })
    assert.same(contents, objects.all(target))
    assert.is_true(core.file.stat(target .. CURRENT).size < 2000)
    assert.equal(384, core.file.stat(target .. CURRENT).mode)
  end)

  it("holds what it held before, once more, and no longer", function()
    local first, second = keep({ "a", "b" }), keep({ "b", "c" })
    local both = {}
    for id, text in pairs(first) do both[id] = text end
    for id, text in pairs(second) do both[id] = text end
    assert.same(both, objects.all(target))
    local third = keep({ "d" })
    for id, text in pairs(second) do third[id] = text end
    assert.same(third, objects.all(target))
  end)

  it("is not written anew when it would hold the same", function()
    keep({ "a", "b" })
    local before = core.file.stat(target .. CURRENT)
    keep({ "a", "b" })
    assert.equal(before.inode, core.file.stat(target .. CURRENT).inode)
    assert.is_false(core.file.exists(target .. "/.cache/objects-previous.tar.zst"))
  end)

  it("leaves out what nobody has, and believes no damage", function()
    local ids = ids_of({ "a", "b" })
    assert(objects.keep(target, ids, function(id) return id == ids[1] and "not that" or "b" end))
    for id, text in pairs(objects.all(target)) do assert.equal(id, core.hash.sha256(text)) end
    local data = helper.read(target .. CURRENT)
    for _, damaged in ipairs({ "", "x", data:sub(1, #data // 2), data .. "x" }) do
      helper.write(target .. CURRENT, damaged)
      assert.same({}, objects.all(target))
    end
    keep({ "a" })
    assert.equal("a", objects.all(target)[core.hash.sha256("a")])
  end)

  it("is none where a folder or nothing is in its place", function()
    assert.same({}, objects.all(target))
    assert(core.file.mkdir(target .. CURRENT))
    assert.same({}, objects.all(target))
    local ids = ids_of({ "a" })
    local kept, message = objects.keep(target, ids, function() return "a" end)
    assert.is_nil(kept)
    assert.matches("objects.tar.zst", message)
  end)
end)
