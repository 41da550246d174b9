--- core.cancel: a long call of a primitive ends early on a signal, or when its time is over, and
-- leaves nothing behind.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local cancel, system = core.cancel, core.system

local SOON = 5 -- seconds: a fraction of one here, more where the machine is busy

local directory

-- A file of `mib` MiB that takes no room on the disk.
local function big_file(name, mib)
  local path = directory .. "/" .. name
  local out = assert(io.open(path, "wb"))
  assert(out:seek("set", mib * 1024 * 1024 - 1))
  out:write("x")
  out:close()
  return path
end

-- A tree of `count` small files in folders of a hundred.
local function many_files(name, count)
  local root = directory .. "/" .. name
  lfs.mkdir(root)
  for i = 1, count do
    if i % 100 == 1 then lfs.mkdir(("%s/%d"):format(root, i // 100)) end
    helper.write(("%s/%d/%d"):format(root, (i - 1) // 100, i), tostring(i))
  end
  return root
end

describe("core.cancel", function()
  before_each(function() directory = helper.tempdir() end)
  after_each(helper.clean)

  it("does not ask for anything by itself", function()
    assert.is_nil(cancel.asked())
    assert.same({ 1, nil, 3, n = 3 }, table.pack(cancel.within(60, function(...)
      assert.is_nil(cancel.asked())
      return ...
    end, 1, nil, 3)))
    assert.is_nil(cancel.within(math.huge, cancel.asked))
  end)

  it("tells in a loop of Lua that the time is over, and only there", function()
    assert.equal("ETIMEDOUT", cancel.within(0, cancel.asked))
    assert.is_nil(cancel.asked())
  end)

  it("ends at the earlier of two deadlines", function()
    cancel.within(0, function()
      assert.equal("ETIMEDOUT", cancel.within(60, cancel.asked))
    end)
    cancel.within(60, function()
      assert.equal("ETIMEDOUT", cancel.within(0, cancel.asked))
      assert.is_nil(cancel.asked())
    end)
  end)

  it("forgets a deadline when what it was for raises", function()
    assert.has_error(function() cancel.within(0, error, "x") end, "x")
    assert.is_nil(cancel.asked())
    assert.has_error(function() cancel.within(-1, print) end)
    assert.has_error(function() cancel.within(1) end)
  end)

  it("tells of a signal, whatever the time, and not while signals are ignored", function()
    assert.equal("nil\nECANCELED\nECANCELED\nnil\nECANCELED\n", (child.run([[
      core.system.catch_signals()
      core.system.signal(core.system.pid(), "TERM")
      print(core.cancel.asked())
      print(core.cancel.within(60, core.cancel.asked))
      print(core.cancel.within(0, core.cancel.asked))
      core.system.ignore_signals()
      print(core.cancel.within(60, core.cancel.asked))
      core.system.signal(core.system.pid(), "INT")
      core.system.catch_signals()
      print(core.cancel.within(60, core.cancel.asked))
    ]])))
  end)

  -- Each call with its deadline over must fail; none may leave anything behind.
  local function calls(big, tree, archive)
    local root = assert(core.root.open(directory))
    return {
      ["hash.file"] = function() return core.hash.file(big) end,
      ["hash.git_blob"] = function() return core.hash.git_blob(big) end,
      ["root.hash"] = function() return root:hash("big") end,
      ["tree.list"] = function() return core.tree.list(tree) end,
      ["tree.list with hashes"] = function() return core.tree.list(directory, { hash = true }) end,
      ["tree.size"] = function() return core.tree.size(tree) end,
      ["tree.copy"] = function() return core.tree.copy(tree, directory .. "/copy") end,
      ["tree.copy of a file"] = function() return core.tree.copy(big, directory .. "/copy") end,
      ["tree.sync"] = function() return core.tree.sync(tree) end,
      ["archive.create"] = function()
        return core.archive.create(directory .. "/new", directory, { "big" })
      end,
      ["archive.create of folders"] = function()
        return core.archive.create(directory .. "/new", directory, { "tree", "tree/0" })
      end,
      ["archive.read"] = function() return core.archive.read(archive) end,
      ["archive.extract"] = function()
        lfs.mkdir(directory .. "/out")
        return core.archive.extract(archive, directory .. "/out")
      end,
    }, root
  end

  local function paths()
    local found = {}
    for _, entry in ipairs(assert(core.tree.list(directory))) do found[#found + 1] = entry.path end
    return found
  end

  it("ends every long call when its time is over, and nothing is left of it", function()
    local big, tree = big_file("big", 1), many_files("tree", 5)
    local archive = directory .. "/archive"
    assert(core.archive.create(archive, directory, { "big", "tree" }))
    lfs.mkdir(directory .. "/out")
    local before = paths()
    local all, root = calls(big, tree, archive)
    for name, call in pairs(all) do
      local message = helper.fails("ETIMEDOUT", cancel.within(0, call))
      assert.truthy(message:find("not done in the time it was given", 1, true), name .. message)
    end
    assert.same(before, paths())
    root:close()
  end)

  it("ends nothing where nobody has asked for it", function()
    assert.equal("true\n", (child.run(([[
      core.system.catch_signals()
      core.system.signal(core.system.pid(), "TERM")
      print(core.hash.file(%q) ~= nil)
    ]]):format(big_file("big", 1)))))
  end)

  it("ends a removal never: it takes away what is left of something", function()
    local tree = many_files("tree", 5)
    assert.equal(7, cancel.within(0, core.tree.remove, tree))
    assert.is_nil(lfs.attributes(tree))
  end)

  -- Signals a process in the middle of a call, and returns what it says of that.
  local function signalled(code, ...)
    local other = child.start(([[
      core.system.catch_signals()
      print(core.system.pid())
      local began = core.system.monotonic()
      local result, message, code = core.cancel.within(math.huge, function() %s end)
      print(result, code)
      print(core.system.monotonic() - began < 20)
    ]]):format(code:format(...)))
    system.sleep(0.2)
    local at = system.monotonic()
    assert(system.signal(other.pid, "INT"))
    local said = other.line()
    local seconds = system.monotonic() - at
    other.finish()
    assert.equal("nil\tECANCELED", said)
    return seconds
  end

  for name, call in pairs({
    ["hash of a big file"] = "return core.hash.file(%q)",
    ["copy of a big file"] = "for i = 1, 100 do local r, m, c = core.tree.copy(%q, %q .. i) "
      .. "if not r then return r, m, c end core.tree.remove(%q .. i) end",
    ["archive of a big file"] = "return core.archive.create(%q .. '.new', %q, { 'big' })",
  }) do
    it("ends the " .. name .. " soon after a signal, and nothing is left", function()
      local big = big_file("big", name:find("hash") and 20000 or 2000)
      local before = paths()
      local arguments = name:find("archive") and { big, directory } or { big, big, big }
      assert.is_true(signalled(call, table.unpack(arguments)) < SOON)
      assert.same(before, paths())
    end)
  end

  it("ends the listing and the copying of many files soon after a signal", function()
    local tree = many_files("tree", 3000)
    local seconds = signalled(
      "while core.system.monotonic() - began < 20 do "
        .. "local r, m, c = core.tree.list(%q) if not r then return r, m, c end end", tree)
    assert.is_true(seconds < SOON)
    seconds = signalled("while core.system.monotonic() - began < 20 do "
      .. "local r, m, c = core.tree.copy(%q, %q) if not r then return r, m, c end "
      .. "core.tree.remove(%q) end", tree, tree .. "-copy", tree .. "-copy")
    assert.is_true(seconds < SOON)
    assert.is_nil(lfs.attributes(tree .. "-copy"))
  end)
end)
