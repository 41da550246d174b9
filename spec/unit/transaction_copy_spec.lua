--- core.transaction in a copy of the tree it was begun in: the numbers of the inodes in its journal
-- are those of other files there, or of none.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local kit = require("spec.support.transaction_kit")

describe("core.transaction, in a copy of its tree,", function()
  local directory, root, copy
  before_each(function()
    directory = kit.directory()
    root, copy = directory .. "/root", directory .. "/copy"
    assert(core.file.mkdir(root))
  end)
  after_each(helper.clean)

  -- What is there, without what differs from copy to copy.
  local function portrait(of)
    local all = {}
    for path, is in pairs(kit.seen(of)) do all[path] = is:gsub(" %S*$", "") end
    return all
  end

  -- Two batches that change the same paths, the second one all of them again.
  local function change_twice()
    kit.make_tree(root)
    local before = portrait(root)
    local t <close> = assert(kit.open(root, true))
    kit.queue_all(t, root)
    assert(t:apply())
    for _, path in ipairs({ "changed.txt", "to-file", "made/deep/new.txt", "made/second" }) do
      assert(t:put(path, { data = "newer" }))
    end
    assert(t:remove("same.txt"))
    assert(t:apply())
    return before
  end

  local function make_copy() kit.sh("cp -a %s %s", root, copy) end

  -- The name in the copy's undo folder of a file with this content.
  local function undo_of(content)
    local folder = copy .. "/" .. kit.PATH .. "/undo/"
    for _, entry in ipairs(assert(core.tree.list(folder))) do
      if helper.read(folder .. entry.path) == content then return folder .. entry.path end
    end
  end

  -- Gives a file of the copy the inode that something else had in the original.
  local function give_inode_of(original, path)
    local content = helper.read(copy .. "/" .. path)
    kit.sh("chmod --reference=%s/%s %s", copy, path, original)
    helper.write(original, content)
    kit.sh("ln -f %s %s/%s", original, copy, path)
  end

  -- Undoes everything in the copy but the exchange of venv, which nobody can tell the way of.
  local function undone()
    local t <close> = assert(kit.open(copy))
    helper.fails("ELOST", t:rollback())
    assert.same({ { path = "venv" } }, t:lost())
    assert.same({}, t:kept())
    kit.sh("rm -r %s/venv && cp -a %s/.px/*/stage/*/bin %s/venv-bin", copy, copy, copy)
    kit.sh("mkdir %s/venv && mv %s/venv-bin %s/venv/bin", copy, copy, copy)
    return portrait(copy)
  end

  it("undoes what it can tell by its content", function()
    local before = change_twice()
    make_copy()
    assert.same(before, undone())
  end)

  it("takes no file for another one that has its number by chance", function()
    local before = change_twice()
    make_copy()
    local second = assert(undo_of("new")):gsub("^" .. copy:gsub("%p", "%%%0"), root)
    give_inode_of(second, "changed.txt")
    assert.same(before, undone())
  end)

  it("moves aside what somebody wrote over a file that was changed twice", function()
    change_twice()
    make_copy()
    helper.write(copy .. "/changed.txt", "typed there")
    local t <close> = assert(kit.open(copy))
    helper.fails("ELOST", t:rollback())
    local kept = t:kept()
    assert.equal(1, #kept)
    assert.equal("typed there", helper.read(copy .. "/" .. kept[1]))
    assert.equal("old", helper.read(copy .. "/changed.txt"))
  end)

  it("goes on with new batches, and undoes those as well", function()
    local before = change_twice()
    make_copy()
    do
      local t <close> = assert(kit.open(copy))
      assert(t:put("changed.txt", { data = "the third" }))
      assert(t:remove("made/second"))
      assert(t:apply())
    end
    assert.same(before, undone())
  end)

  it("leaves what somebody wrote where a change was not switched in, and only there", function()
    kit.make_tree(root)
    do
      local t <close> = assert(kit.open(root, true))
      assert(t:put("changed.txt", { data = "new" }))
      assert(t:put("to-link", { data = "new" }))
      assert(t:apply())
    end
    make_copy()
    local staged = assert(undo_of("old")):gsub("/undo/", "/stage/")
    kit.sh("mv %s/changed.txt %s", copy, staged) -- as before the switch
    helper.write(copy .. "/changed.txt", "typed before the switch")
    helper.write(copy .. "/to-link", "typed after it")
    local t <close> = assert(kit.open(copy))
    local kept = assert(t:rollback())
    assert.equal("typed before the switch", helper.read(copy .. "/changed.txt"))
    assert.equal("file", helper.read(copy .. "/to-link"))
    assert.equal(1, #kept)
    assert.equal("typed after it", helper.read(copy .. "/" .. kept[1]))
  end)
end)
