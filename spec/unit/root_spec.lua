--- core.root: nothing beneath a root leads out of it, whichever way the kernel lets us confine.
local child = require("spec.support.child")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local fails = helper.fails

local function sh(line, ...)
  assert(os.execute(line:format(...)))
end

-- Paths that are not normal.
local ABNORMAL = {
  "", "/", "/etc/hostname", "..", "../secret", "a/../../secret", "a/..", "./a", "a/.", "a//b", "a/",
  "a/b/../file", "a\0b", "\0", "...//x", "a/../file",
}

-- Paths that a link would lead elsewhere, outside or inside.
local LINKED = {
  "out/secret", "absolute/secret", "up/secret", "in/file", "self/file", "a/out/secret", "loop/x",
  "out/../secret2",
}

-- What r answers about one path: the codes of all five methods.
local ASK = [[
local function ask(r, path)
  local codes = {}
  for i, method in ipairs({ "read", "hash", "stat", "exists", "list" }) do
    local result, _, code = r[method](r, path)
    codes[i] = method .. "=" .. tostring(result == nil and code or type(result))
  end
  return table.concat(codes, " ")
end
]]
local ask = load(ASK .. "return ask")()

describe("core.root", function()
  local directory, root, descriptors
  before_each(function()
    directory = helper.tempdir()
    collectgarbage()
    descriptors = helper.descriptors()
    helper.tree(directory, {
      secret = "secret", ["outside/secret"] = "secret", ["tree/file"] = "inside",
      ["tree/a/b/file"] = "deep", ["tree/a/other"] = "",
    })
    sh([[cd %s/tree && ln -s ../outside out && ln -s %s/outside absolute && ln -s .. up &&
      ln -s a in && ln -s . self && ln -s ../../outside a/out && ln -s loop loop &&
      ln -s ../secret filelink && ln -s file inlink && mkfifo fifo]], directory, directory)
    root = assert(core.root.open(directory .. "/tree"))
  end)
  after_each(function()
    root:close()
    collectgarbage()
    assert.equal(descriptors, helper.descriptors(), "descriptors were left open")
    helper.clean()
  end)

  it("reads, hashes and describes what is beneath it", function()
    assert.equal("inside", root:read("file"))
    assert.equal("deep", root:read("a/b/file"))
    local hex, size = root:hash("a/b/file")
    assert.equal(core.hash.sha256("deep"), hex)
    assert.equal(4, size)
    assert.same(core.file.stat(directory .. "/tree/a/b/file"), root:stat("a/b/file"))
    assert.same(core.file.stat(directory .. "/tree"), root:stat("."))
    assert.is_true(root:exists("a/b"))
    assert.is_true(root:exists("."))
    assert.is_false(root:exists("none"))
    assert.is_false(root:exists("none/below"))
    assert.is_false(root:exists("file/below"))
  end)

  it("lists names with their types, in the order of the bytes", function()
    assert.same({
      { name = "b", type = "directory" }, { name = "other", type = "file" },
      { name = "out", type = "link" },
    }, root:list("a"))
    assert.equal("a", root:list(".")[1].name)
    assert.equal(11, #root:list("."))
    for i = 1, 200 do helper.write(directory .. "/tree/many/" .. i, "") end
    local names = {}
    for i, item in ipairs(root:list("many")) do names[i] = item.name end
    assert.equal(200, #names)
    assert.equal("1 10 100 101", table.concat(names, " ", 1, 4))
    sh("mkdir %s/tree/empty", directory)
    assert.same({}, root:list("empty"))
  end)

  it("tells what it refuses to read", function()
    for _, method in ipairs({ "read", "hash" }) do
      fails("ENOTREG", root[method](root, "a"))
      fails("ENOTREG", root[method](root, "."))
      fails("ENOTREG", root[method](root, "fifo"))
      fails("ENOENT", root[method](root, "none"))
      fails("ENOENT", root[method](root, "none/below"))
      fails("ENOTDIR", root[method](root, "file/below"))
    end
    fails("ENOTDIR", root:list("file"))
    fails("ENOENT", root:list("none"))
    fails("ENOENT", root:stat("none"))
    fails("EFBIG", root:read("file", 5))
    assert.equal("inside", root:read("file", 6))
  end)

  it("does not follow a link at the end, but describes it", function()
    for _, name in ipairs({ "filelink", "inlink" }) do
      fails("ELOOP", root:read(name))
      fails("ELOOP", root:hash(name))
      assert.equal("link", root:stat(name).type)
      assert.is_true(root:exists(name))
    end
    assert.equal("../secret", root:stat("filelink").target)
    for _, name in ipairs({ "out", "absolute", "up", "self", "loop" }) do
      local result, message, code = root:list(name)
      assert.is_nil(result)
      assert.equal("ELOOP", code, message)
    end
  end)

  it("refuses paths that are not normal", function()
    for _, path in ipairs(ABNORMAL) do
      assert.equal("read=EINVAL hash=EINVAL stat=EINVAL exists=EINVAL list=EINVAL", ask(root, path),
        ("%q"):format(path))
    end
  end)

  it("refuses to go through links", function()
    for i = 1, #LINKED - 1 do
      assert.equal("read=ELOOP hash=ELOOP stat=ELOOP exists=ELOOP list=ELOOP", ask(root, LINKED[i]),
        LINKED[i])
    end
  end)

  it("refuses the magic links of /proc", function()
    local proc <close> = assert(core.root.open("/proc/self"))
    for _, path in ipairs({ "cwd/x", "root/etc/hostname", "fd/0/x", "task/self/root/etc" }) do
      assert.is_nil(proc:read(path), path)
    end
    fails("ELOOP", proc:read("exe"))
    fails("ELOOP", proc:read("root/etc/hostname"))
    fails("ELOOP", proc:list("cwd"))
    fails("ELOOP", proc:list("root"))
    assert.truthy(proc:read("status"):find("^Name:"))
  end)

  it("says the same where the kernel has no openat2", function()
    local paths, expected = {}, {}
    for _, list in ipairs({ ABNORMAL, LINKED, {
      "file", "a", "a/b/file", ".", "none", "none/x", "file/x", "fifo", "filelink", "inlink", "out",
      "self", "loop",
    } }) do
      for _, path in ipairs(list) do
        paths[#paths + 1] = ("%q"):format(path)
        expected[#expected + 1] = ask(root, path)
      end
    end
    local output = child.run(ASK .. ([[
      print(core.root.mechanism())
      local r = core.root.open(%q)
      for _, path in ipairs({ %s }) do print(ask(r, path)) end
    ]]):format(directory .. "/tree", table.concat(paths, ", ")), "PRAXLUA_NO_OPENAT2=1 exec")
    assert.equal("components\n" .. table.concat(expected, "\n") .. "\n", output)
  end)

  it("says which way it confines", function()
    assert.equal(os.getenv("PRAXLUA_NO_OPENAT2") and "components" or "openat2",
      core.root.mechanism())
  end)

  it("stays with its directory when that is moved", function()
    sh("mv %s/tree %s/moved && mkdir %s/tree", directory, directory, directory)
    assert.equal("inside", root:read("file"))
  end)

  it("reaches deeper than a path may be long", function()
    local name = ("n"):rep(200)
    local script = command.quote("import os,sys\nos.chdir(sys.argv[1])\n"
      .. "for _ in range(50):\n os.mkdir(sys.argv[2]); os.chdir(sys.argv[2])\n"
      .. "open('end','w').write('deep')")
    sh("python3 -c %s %s/tree %s", script, directory, name)
    local path = (name .. "/"):rep(50) .. "end"
    assert.equal("deep", root:read(path))
    assert.is_true(root:exists(path))
    assert.equal(1, #root:list((name .. "/"):rep(49) .. name))
    fails("ENAMETOOLONG", root:read(("n"):rep(256)))
    fails("ENAMETOOLONG", root:read(("n"):rep(5000)))
  end)

  for _, mechanism in ipairs({ "openat2", "components" }) do
    it("lets no race lead out (" .. mechanism .. ")", function()
      -- The attacker exchanges a directory, then a file, for a link to the outside, all the time.
      helper.tree(directory, {
        ["tree/d/secret"] = "inside", ["tree/f"] = "inside", ["outside/secret"] = "secret",
      })
      local reader = ([[
        local r = assert(core.root.open(%q))
        local seen, refused = { inside = 0 }, 0
        local began = core.system.monotonic()
        repeat
          for _, path in ipairs({ "d/secret", "f" }) do
            local data, _, code = r:read(path)
            if data then seen[data] = (seen[data] or 0) + 1 end
            if code == "ELOOP" then refused = refused + 1 end
          end
          local took = core.system.monotonic() - began
        until took > 1 and seen.inside > 100 and refused > 100 or took > 20
        print(core.root.mechanism(), seen.secret, seen.inside > 100, refused > 100)
      ]]):format(directory .. "/tree")
      local attacker = child.start(([[
        local lfs = require("lfs")
        print(core.system.pid())
        local d = %q
        local function exchange(name, outside)
          os.rename(d .. "/tree/" .. name, d .. "/real")
          lfs.link(d .. outside, d .. "/tree/" .. name, true)
          os.remove(d .. "/tree/" .. name)
          os.rename(d .. "/real", d .. "/tree/" .. name)
        end
        while true do
          exchange("d", "/outside")
          exchange("f", "/outside/secret")
          for _ = 1, 3000 do end
        end
      ]]):format(directory))
      local output = child.run(reader,
        mechanism == "components" and "PRAXLUA_NO_OPENAT2=1 exec" or nil)
      attacker.kill("KILL")
      assert.equal(mechanism .. "\tnil\ttrue\ttrue\n", output)
    end)
  end

  it("reads no link that takes a file's place between the look and the opening", function()
    local reader = child.start(([[
      print(core.system.pid())
      print((select(3, assert(core.root.open(%q)):read("a/b/file"))))
    ]]):format(directory .. "/tree"),
      child.injected("openat:delay_enter=500000", directory .. "/tree/a/b"))
    local opened = reader.has_opened(directory .. "/tree/a/b")
    sh("ln -sf ../../../secret %s/tree/a/b/file", directory)
    assert.equal("ELOOP", reader.line())
    reader.finish()
    assert.is_true(opened)
  end)

  it("is closed once, and not used after", function()
    local other = assert(core.root.open(directory))
    other:close()
    other:close()
    assert.has_error(function() other:read("secret") end)
    assert.has_error(function() other:list(".") end)
    assert.has_error(function() root.read({}, "file") end)
    assert.has_error(function() root:read() end)
  end)

  it("opens directories only", function()
    fails("ENOENT", core.root.open(directory .. "/none"))
    fails("ENOTDIR", core.root.open(directory .. "/secret"))
  end)
end)
