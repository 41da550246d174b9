local helper = require("spec.support.helper")
local model = require("spec.faults.model")

-- A tree: a/one (inode 11, "one"), a/two (12, "two") and the empty directory b.
local function tree(content)
  local function file(path, inode, data)
    return { path = path, type = "file", mode = 420, inode = inode, size = #data,
      read = function() return data end }
  end
  local function directory(path, inode)
    return { path = path, type = "directory", mode = 493, inode = inode }
  end
  return model.base({
    directory("", 2), directory("a", 10), file("a/one", 11, content or "one"),
    file("a/two", 12, "two"), directory("b", 20),
  })
end

local function call(name, path, more)
  local made = { name = name, path = path }
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

local function create(path) return call("openat", path, { flags = 64 | 128 | 1, mode = 420 }) end
local function write(path, data) return call("write", path, { data = data }) end
local function rename(from, to) return call("renameat", from, { path2 = to }) end

-- What each path of a state holds: the text of a file, "dir", "-> target"; after its mode.
local function look(m, s, modes)
  local found = {}
  for path, entry in pairs(model.tree(m, s)) do
    if entry.type == "file" then
      found[path] = entry.content or m.inodes[entry.id].read()
    elseif path ~= "" then
      found[path] = entry.type == "link" and "-> " .. entry.target or "dir"
    end
    if modes and path ~= "" and entry.type ~= "link" then
      found[path] = ("%o %s"):format(entry.mode, found[path])
    end
  end
  return found
end

-- All states after all of the calls, as texts with a blank before each path.
local function states(calls, half)
  local m = model.new(tree(), calls)
  local all = {}
  local state = 1
  local function random(n)
    state = state * 48271 % 2147483647
    return state % n + 1
  end
  for _, one in ipairs(model.states(m, #calls, half)) do
    local chosen = model.chosen(m, #calls, one.kind, one.number, random)
    local lines = {}
    for path, text in pairs(look(m, model.state(m, #calls, chosen))) do
      lines[#lines + 1] = (" %s=%s"):format(path, text)
    end
    table.sort(lines)
    all[table.concat(lines)] = true
  end
  return all
end

-- Whether there is a state with all of the given parts and none of those with a "!" before them.
local function possible(all, ...)
  for text in pairs(all) do
    local fits = true
    for _, part in ipairs({ ... }) do
      local wanted = part:sub(1, 1) ~= "!"
      local found = (text .. " "):find(" " .. part:gsub("^!", "") .. " ", 1, true) ~= nil
      fits = fits and found == wanted
    end
    if fits then return true end
  end
  return false
end

describe("the model of a power cut", function()
  after_each(helper.clean)

  it("loses a rename whose directory was not synced", function()
    local replace = { create("a/new"), write("a/new", "1"), call("fsync", "a/new"),
      rename("a/new", "a/one") }
    local all = states(replace)
    assert.is_true(possible(all, "a/one=one", "a/new=1"))
    assert.is_true(possible(all, "a/one=one", "!a/new=1"))
    assert.is_true(possible(all, "a/one=1"))
    assert.is_false(possible(all, "!a/one=one", "!a/one=1"))
    replace[5] = call("fsync", "a")
    all = states(replace)
    assert.is_true(possible(all, "a/one=1"))
    assert.is_false(possible(all, "a/one=one"))
  end)

  it("has the new name of a file before its content, unless the file was synced", function()
    local all = states({ create("a/new"), write("a/new", "1234"), rename("a/new", "a/one") })
    assert.is_true(possible(all, "a/one="))
    assert.is_true(possible(all, "a/one=12"))
    assert.is_true(possible(all, "a/one=\0\0\0\0"))
    assert.is_true(possible(all, "a/one=1234"))
    all = states({ create("a/new"), write("a/new", "1234"), call("fsync", "a/new"),
      rename("a/new", "a/one") })
    assert.is_false(possible(all, "a/one="))
    assert.is_false(possible(all, "a/one=12"))
  end)

  it("keeps the names of a synced directory, but not the content of its files", function()
    local all = states({ create("a/new"), write("a/new", "1"), call("fsync", "a") })
    assert.is_true(possible(all, "a/new="))
    assert.is_false(possible(all, "!a/new=", "!a/new=1", "!a/new=\0"))
  end)

  it("has nothing to lose after syncfs", function()
    local calls = { create("a/new"), write("a/new", "1"), rename("a/one", "b/one"),
      call("unlink", "a/two"), call("syncfs", "") }
    local all = states(calls)
    assert.is_true(possible(all, "a/new=1", "b/one=one", "!a/two=two", "!a/one=one"))
    assert.equal(1, select(2, next(all, next(all))) and 2 or 1)
    local m = model.new(tree(), calls)
    assert.equal(0, #model.waiting(m, 5))
    assert.equal(4, #model.waiting(m, 4))
  end)

  it("reorders changes of different names, not those of one name", function()
    local all = states({ call("unlink", "a/one"), call("unlink", "a/two") })
    assert.is_true(possible(all, "a/one=one", "!a/two=two"))
    assert.is_true(possible(all, "!a/one=one", "a/two=two"))
    all = states({ rename("a/one", "a/x"), rename("a/x", "a/y"), rename("a/y", "b/z") })
    for _, name in ipairs({ "a/one", "a/x", "a/y", "b/z" }) do
      assert.is_true(possible(all, name .. "=one"), name)
    end
    assert.is_false(possible(all, "a/one=one", "b/z=one"))
    assert.is_false(possible(all, "!a/one=one", "!a/x=one", "!a/y=one", "!b/z=one"))
  end)

  it("moves a file between directories whole, or in the weaker form by half", function()
    local move = { rename("a/one", "b/one") }
    for _, half in ipairs({ false, true }) do
      local all = states(move, half)
      assert.equal(half, possible(all, "a/one=one", "b/one=one"))
      assert.equal(half, possible(all, "!a/one=one", "!b/one=one"))
      assert.is_true(possible(all, "a/one=one", "!b/one=one"))
      assert.is_true(possible(all, "!a/one=one", "b/one=one"))
    end
    local all = states({ call("mkdir", "a/d", { mode = 448 }), call("syncfs", ""),
      rename("a/d", "b/d") }, true)
    assert.is_false(possible(all, "a/d=dir", "b/d=dir"))
    assert.is_false(possible(all, "!a/d=dir", "!b/d=dir"))
  end)

  it("syncs a rename between directories with either of them", function()
    for _, directory in ipairs({ "a", "b" }) do
      local all = states({ rename("a/one", "b/one"), call("fsync", directory) })
      assert.is_true(possible(all, "b/one=one"))
      assert.is_false(possible(all, "a/one=one"))
    end
  end)

  it("exchanges two directories whole", function()
    local all = states({ create("b/new"), call("renameat2", "a", { path2 = "b", flags = 2 }) })
    assert.is_true(possible(all, "b/one=one", "a=dir", "b=dir", "!a/one=one"))
    assert.is_true(possible(all, "b/one=one", "a/new="))
    assert.is_false(possible(all, "a/one=one", "b/one=one"))
  end)

  it("loses what is in a directory that is lost", function()
    local all = states({ call("mkdir", "b/d", { mode = 448 }), create("b/d/f"),
      write("b/d/f", "1"), call("fsync", "b/d/f"), call("fsync", "b/d") })
    assert.is_true(possible(all, "!b/d=dir", "!b/d/f=1"))
    assert.is_true(possible(all, "b/d=dir", "b/d/f=1"))
    assert.is_false(possible(all, "b/d=dir", "!b/d/f=1"))
  end)

  it("appends, overwrites, cuts and fills up", function()
    local calls = { write("a/one", "-1"), call("pwrite64", "a/one", { data = "O", offset = 0 }),
      call("ftruncate", "a/two", { size = 1 }), call("fallocate", "b", {}),
      call("pwrite64", "a/two", { data = "x", offset = 3 }) }
    local all = states(calls)
    assert.is_true(possible(all, "a/one=One-1", "a/two=t\0\0x"))
    assert.is_true(possible(all, "a/one=One", "a/two=t\0\0x"))
    assert.is_true(possible(all, "a/one=one-1", "a/two=t\0\0x"))
    assert.is_true(possible(all, "a/one=One-1", "a/two=twox"))
    assert.is_true(possible(all, "a/one=one", "a/two=two"))
  end)

  it("passes over calls that failed, and knows all others by name", function()
    local all = states({ call("unlink", "a/one", { result = -28 }) })
    assert.is_false(possible(all, "!a/one=one"))
    assert.has_error(function() model.new(tree(), { call("mystery", "a") }) end,
      "the model does not know the call mystery")
  end)

  it("opens what is there without a change, but for O_TRUNC", function()
    local function opened(flags)
      return states({ call("openat", "a/one", { flags = flags, mode = 420 }) })
    end
    assert.is_false(possible(opened(64 | 1), "!a/one=one"))
    assert.is_true(possible(opened(512 | 1), "a/one="))
  end)
end)

local VOLUME = (os.getenv("PRAXLUA_HOST") or "build/praxlua"):gsub("[^/]*$", "faults/volume")

local function run(...)
  local pipe = assert(io.popen(("'%s' %s"):format(VOLUME, table.concat({ ... }, " "))))
  local out = pipe:read("a")
  assert(pipe:close(), out)
  return out
end

-- A base from the disk.
local function base_of(root)
  local entries = {}
  for kind, mode, inode, path in run("list", root):gmatch("(%a) (%d+) (%d+) %d+ %S+ /([^\n]*)\n") do
    entries[#entries + 1] = {
      path = path, type = ({ d = "directory", f = "file", l = "link" })[kind],
      mode = tonumber(mode, 8), inode = tonumber(inode),
      read = function() return helper.read(root .. "/" .. path) end,
    }
  end
  return model.base(entries)
end

local function on_disk(root)
  local found = {}
  for kind, mode, about, path in run("list", root):gmatch("(%a) (%d+) %d+ %d+ (%S+) /([^\n]+)\n") do
    found[path] = kind == "f" and mode .. " " .. helper.read(root .. "/" .. path)
      or kind == "d" and mode .. " dir" or "-> " .. about:gsub("%%20", " ")
  end
  return found
end

describe("the plan that leads to a state", function()
  after_each(helper.clean)

  local CALLS = {
    call("mkdir", "c", { mode = 448 }), create("c/f"), write("c/f", "a b\n%\0\255"),
    call("symlink", "c/l", { target = "f f" }), rename("c", "a/c"), call("link", "a/one",
      { path2 = "b/hard" }), rename("a/two", "a/c/two"), call("unlink", "a/one"),
    write("b/hard", "!"), call("renameat2", "a", { path2 = "b", flags = 2 }),
    call("fchmod", "a/hard", { mode = 384 }), call("ftruncate", "b/c/f", { size = 9 }),
    rename("b/c", "c"), call("rmdir", "b"),
  }

  it("makes it on the disk, whatever the state", function()
    assert(io.open(VOLUME, "rb"), VOLUME .. " is not built; make fault-tools"):close()
    local state, seen, kinds = 7, 0, {}
    local function random(n)
      state = state * 48271 % 2147483647
      return state % n + 1
    end
    for _, cut in ipairs({ 0, 6, #CALLS }) do
      local root = helper.tempdir()
      local function fresh()
        os.execute(("rm -r %s && mkdir %s"):format(root, root))
        helper.tree(root, { ["a/one"] = "one", ["a/two"] = "two" })
        os.execute("mkdir " .. root .. "/b")
      end
      fresh()
      local m = model.new(base_of(root), CALLS)
      local list = {}
      for _, one in ipairs(model.states(m, cut, true)) do
        kinds[one.kind] = true
        local s = model.state(m, cut, model.chosen(m, cut, one.kind, one.number, random))
        list[model.key(m, s)] = { want = look(m, s, true), plan = model.plan(m, s) }
      end
      for _, one in pairs(list) do
        fresh()
        -- The inodes are others after each start; the plan asks for numbers only where a call
        -- tells them, and these do not.
        helper.write(root .. ".plan", one.plan)
        run("replay", root, root .. ".plan")
        assert.same(one.want, on_disk(root))
        seen = seen + 1
      end
      os.remove(root .. ".plan")
    end
    assert.is_true(seen > 40, seen .. " states")
    for _, kind in ipairs(model.KINDS) do assert.is_true(kinds[kind], kind) end
  end)
end)
