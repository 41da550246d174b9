local core = require("praxlua.core")
local folders = require("praxlua.folder")
local gitignore = require("praxlua.gitignore")
local helper = require("spec.support.helper")
local migration = require("praxlua.migration")
local repository = require("spec.support.repository")
local tracer = require("spec.faults.tracer")

local OLD, NEW = ".agent-os", ".praxis-os"
local IGNORED = "caf\xe9/\n.agent-os/.cache/\r\n!/.agent-os/keep\n.agent-os.backup.*\n"
  .. ".agent-os"

-- What changes the disk, and so what can fail or be the last thing before a power cut.
local CALLS = { "mkdir", "write_atomic", "rename", "remove" }

describe("migration", function()
  local project, target

  before_each(function()
    project = helper.tempdir()
    target = project .. "/" .. OLD
    helper.tree(project, {
      [".gitignore"] = IGNORED,
      [OLD .. "/standards/universal/a.md"] = "a\n",
      [OLD .. "/venv/bin/pip"] = "#!" .. target .. "/venv/bin/python\nimport pip\n",
      [OLD .. "/venv/bin/activate"] = ('V="%s/venv"\nW="%s/venv-old"\n'):format(target, target),
      [OLD .. "/venv/bin/binary"] = "\0" .. target .. "/venv",
      [OLD .. "/venv/pyvenv.cfg"] = "home = /usr/bin\ncommand = python3 -m venv " .. target
        .. "/venv\n",
    })
    repository.sh("chmod", "755", target .. "/venv/bin/pip")
    repository.sh("ln", "-s", "/usr/bin/python3", target .. "/venv/bin/python")
  end)

  after_each(helper.clean)

  -- Everything by its path; an empty .cache, which is no content, left out.
  local function snapshot()
    local found = repository.snapshot(project)
    for path in pairs(found) do
      if path:find("/%.cache$") then found[path] = nil end
    end
    return found
  end

  local function moved() return core.file.exists(project .. "/" .. NEW) end

  it("moves everything by one rename, and what follows the name", function()
    local inode = core.file.stat(target .. "/standards/universal/a.md").inode
    assert.equal(project .. "/" .. NEW, migration.move(target, NEW))
    local now = project .. "/" .. NEW
    assert.is_false(core.file.exists(target))
    assert.equal(inode, core.file.stat(now .. "/standards/universal/a.md").inode)
    assert.equal("#!" .. now .. "/venv/bin/python\nimport pip\n",
      helper.read(now .. "/venv/bin/pip"))
    assert.equal(493, core.file.stat(now .. "/venv/bin/pip").mode)
    assert.equal(('V="%s/venv"\nW="%s/venv-old"\n'):format(now, target),
      helper.read(now .. "/venv/bin/activate"))
    assert.equal("\0" .. target .. "/venv", helper.read(now .. "/venv/bin/binary"))
    assert.matches("-m venv " .. now .. "/venv\n", helper.read(now .. "/venv/pyvenv.cfg"), 1, true)
    assert.equal("caf\xe9/\n.praxis-os/.cache/\r\n!/.praxis-os/keep\n.agent-os.backup.*\n"
      .. ".praxis-os", helper.read(project .. "/.gitignore"))
    assert.is_false(core.file.exists(now .. "/.cache/migration.json"))
  end)

  it("comes back byte for byte", function()
    local before = snapshot()
    local now = assert(migration.move(target, NEW))
    assert.equal(target, migration.move(now, OLD))
    assert.same(before, snapshot())
  end)

  it("leaves a project without .gitignore, and one whose .gitignore is a link, alone", function()
    os.remove(project .. "/.gitignore")
    local now = assert(migration.move(target, NEW))
    assert.is_false(core.file.exists(project .. "/.gitignore"))
    helper.write(project .. "/elsewhere", ".praxis-os/\n")
    repository.sh("ln", "-s", "elsewhere", project .. "/.gitignore")
    assert(migration.move(now, OLD))
    assert.equal(".praxis-os/\n", helper.read(project .. "/elsewhere"))
  end)

  it("never replaces what has the new name, not even an empty folder", function()
    assert(core.file.mkdir(project .. "/" .. NEW))
    local before = snapshot()
    local now, message, code = migration.move(target, NEW)
    assert.is_nil(now)
    assert.equal("EEXIST", code)
    assert.matches(NEW, message, 1, true)
    assert.same(before, snapshot())
  end)

  -- Calls use() while the n-th change of the disk, and with `all` every later one, does `instead`.
  local function disturbed(n, all, instead, use)
    local count, saved = 0, {}
    for _, name in ipairs(CALLS) do
      saved[name] = core.file[name]
      core.file[name] = function(...)
        count = count + 1
        if count == n or all and count > n then return instead(saved[name], ...) end
        return saved[name](...)
      end
    end
    local results = table.pack(pcall(use))
    for _, name in ipairs(CALLS) do core.file[name] = saved[name] end
    return count, results
  end

  local function reset()
    repository.sh("sh", "-c", 'rm -rf "$1" && cp -a "$1.saved" "$1"', "sh", project)
  end

  local function move() return migration.move(target, NEW) end

  local function fails() return nil, "no luck", "EIO" end

  describe("that is disturbed", function()
    local before, after, changes

    before_each(function()
      repository.sh("cp", "-a", project, project .. ".saved")
      before = snapshot()
      changes = disturbed(0, false, fails, function() assert(migration.move(target, NEW)) end)
      after = snapshot()
      reset()
      assert.is_true(changes >= 8, "there are this many changes: " .. changes)
    end)

    after_each(function() repository.sh("rm", "-rf", project .. ".saved") end)

    it("leaves everything as it was when a change fails", function()
      for n = 1, changes do
        local _, results = disturbed(n, false, fails, move)
        assert.same({ true, nil, "no luck", "EIO" }, { table.unpack(results, 1, 4) },
          "change " .. n)
        assert.same(before, snapshot(), "change " .. n)
        reset()
      end
    end)

    it("is the old or the new one after a power cut at any change", function()
      for n = 1, changes do
        for _, done in ipairs({ false, true }) do
          local what = ("change %d %s"):format(n, done and "done" or "not done")
          local renamed
          disturbed(n, true, function(call, ...)
            if done then call(...) end
            done = false -- only that one
            error("cut")
          end, move)
          renamed = moved()
          local name = renamed and NEW or OLD
          local settled = migration.settle(project .. "/" .. name)
          assert.is_true(settled == name or settled == false, what)
          assert.same(renamed and after or before, snapshot(), what)
          assert.is_false(migration.settle(project .. "/" .. name))
          reset()
        end
      end
    end)

    it("is all of the new one, or of the old one, when a call fails behind what it did", function()
      local function late(call, ...)
        call(...)
        return nil, "not synced", "EIO"
      end
      for n = 1, changes do
        local _, results = disturbed(n, false, late, move)
        assert.same(results[2] and after or before, snapshot(), "change " .. n)
        assert.is_false(migration.is_open(project .. "/" .. (results[2] and NEW or OLD)))
        reset()
      end
    end)

    -- Below the functions above lie several calls each, after which files are half written.
    it("leaves nothing half written after a kill at any call", function()
      local function traced(options)
        options.root = project
        options.argv = { os.getenv("LUA") or "lua5.4", "-e", ([[
          package.path, package.cpath = %q, %q
          assert(require("praxlua.migration").move(%q, %q))]]):format(package.path, package.cpath,
          target, NEW) }
        return tracer.run(options)
      end
      local calls = traced({ mode = "count", log = true }).calls
      assert.is_true(#calls > 25)
      for n, call in ipairs(calls) do
        local modes = { calls[n - 1] and calls[n - 1].kind ~= "sync" and "before" or nil,
          call.kind == "write" and "torn" or nil }
        for _, mode in ipairs(modes) do
          reset()
          assert.is_true(traced({ mode = mode, at = n }).hit)
          local name = moved() and NEW or OLD
          folders.sweep(project .. "/" .. name .. "/.cache") -- as whoever opens it does first
          assert(migration.settle(project .. "/" .. name) ~= nil)
          assert.same(name == NEW and after or before, snapshot(), ("call %d %s"):format(n, mode))
        end
      end
    end)

    it("tells when taking it back fails, and the next one settles it", function()
      for n = 4, changes do -- those after the rename
        local _, results = disturbed(n, true, fails, move)
        assert.equal("EUNDO", results[4], "change " .. n)
        assert.matches("no luck; taking it back failed, too: no luck", results[3], 1, true)
        assert.equal(NEW, migration.settle(project .. "/" .. NEW))
        assert.same(after, snapshot(), "change " .. n)
        reset()
      end
    end)
  end)

  it("settles what is half written, and no file of another", function()
    local function half(path) return (path:gsub("[^/]+$", ".%0.px-123-4")) end
    local goes, stays = { ".gitignore", OLD .. "/venv/pyvenv.cfg", OLD .. "/venv/bin/pip" },
      { "notes", OLD .. "/standards/universal/a.md", "elsewhere/x" }
    for _, path in ipairs(stays) do helper.write(project .. "/" .. half(path), "x") end
    for _, path in ipairs(goes) do helper.write(project .. "/" .. half(path), "x") end
    assert.is_false(migration.settle(target))
    assert.equal("x", helper.read(project .. "/" .. half(goes[1])))
    helper.write(target .. "/.cache/migration.json",
      require("praxlua.seal").encode({ format_version = 1, from = OLD, to = NEW }))
    assert.is_true(migration.is_open(target))
    assert.equal(OLD, migration.settle(target))
    assert.is_false(migration.is_open(target))
    for _, path in ipairs(goes) do
      assert.is_nil(helper.read(project .. "/" .. half(path)), path)
    end
    for _, path in ipairs(stays) do assert.equal("x", helper.read(project .. "/" .. half(path))) end
  end)

  it("leaves alone what lies behind a link in the environment", function()
    local script = "#!" .. target .. "/venv/bin/python\n"
    helper.write(project .. "/tools/mine", script)
    repository.sh("rm", "-r", target .. "/venv/bin")
    repository.sh("ln", "-s", "../../tools", target .. "/venv/bin")
    assert(migration.move(target, NEW))
    assert.equal(script, helper.read(project .. "/tools/mine"))
  end)

  it("is taken back when the environment's scripts cannot be listed", function()
    local before = snapshot()
    local names = folders.names
    folders.names = function(path)
      if path:find(NEW .. "/venv/bin", 1, true) then return nil, "no luck", "EACCES" end
      return names(path)
    end
    local result = table.pack(pcall(migration.move, target, NEW))
    folders.names = names
    assert.same({ true, nil, "no luck", "EACCES" }, { table.unpack(result, 1, 4) })
    assert.same(before, snapshot())
  end)

  it("refuses a .gitignore that its record could not hold", function()
    local seal = require("praxlua.seal")
    local encode = seal.encode
    seal.encode = function(record) return encode(record) .. ("\n"):rep(64 * 1024 * 1024) end
    local moved_to, message, code = migration.move(target, NEW)
    seal.encode = encode
    assert.is_nil(moved_to)
    assert.equal("EFBIG", code)
    assert.matches(".gitignore is too large", message, 1, true)
    assert.is_false(migration.is_open(target))
  end)

  it("keeps what somebody wrote into .gitignore before it was settled", function()
    local write = core.file.write_atomic
    core.file.write_atomic = function(path, ...)
      if path:find("%.gitignore$") then error("cut") end
      return write(path, ...)
    end
    pcall(migration.move, target, NEW)
    core.file.write_atomic = write
    helper.write(project .. "/.gitignore", IGNORED .. "\nmine\n")
    assert.equal(NEW, migration.settle(project .. "/" .. NEW))
    assert.matches("%.praxis%-os/%.cache/\r\n.*\nmine\n$", helper.read(project .. "/.gitignore"))
  end)

  it("refuses a record that is damaged or of a newer praxlua", function()
    helper.write(target .. "/.cache/migration.json", "{}")
    local settled, message, code = migration.settle(target)
    assert.is_nil(settled)
    assert.equal("ESCHEMA", code)
    assert.matches("migration.json is damaged", message, 1, true)
    helper.write(target .. "/.cache/migration.json",
      require("praxlua.seal").encode({ format_version = 2, from = OLD, to = NEW }))
    settled, message, code = migration.settle(target)
    assert.is_nil(settled)
    assert.equal("EFORMAT", code)
    assert.matches("newer praxlua", message, 1, true)
    for _, name in ipairs({ "", "..", "../" .. NEW, "a\0b" }) do
      helper.write(target .. "/.cache/migration.json",
        require("praxlua.seal").encode({ format_version = 1, from = OLD, to = name }))
      assert.equal("ESCHEMA", select(3, migration.settle(target)))
    end
  end)

  it("forgets a record of names that the folder does not have", function()
    repository.sh("mkdir", "-p", project .. "/other/.cache")
    helper.write(project .. "/other/.cache/migration.json",
      require("praxlua.seal").encode({ format_version = 1, from = OLD, to = NEW }))
    assert.equal("other", migration.settle(project .. "/other"))
    assert.equal(IGNORED, helper.read(project .. "/.gitignore"))
    assert.is_false(migration.settle(project .. "/other"))
  end)

  it("finds the lines of a project's settings that name the folder", function()
    helper.tree(project, {
      [".gitignore"] = "x\n.agent-os/\n",
      [".cursor/mcp.json"] = '{\n"command": "${workspaceFolder}/.agent-os/venv/bin/python",\n'
        .. '"name": "my.agent-os-rag", "other": ".agent-osx"\n}',
      [".vscode/settings.json"] = '{ "files.exclude": { ".agent-os": true } }\r\n',
      ["src/x.py"] = "'.agent-os'\n",
      [".github/big"] = ("x"):rep(1024 * 1024) .. "\n.agent-os\n",
      [".github/binary"] = "\0.agent-os",
      ["Makefile"] = "\27[31m.agent-os" .. ("y"):rep(500) .. "\n",
    })
    repository.sh("ln", "-s", "../.cursor/mcp.json", project .. "/.vscode/link.json")
    local found = {}
    for i, reference in ipairs(migration.references(project, OLD)) do
      found[i] = reference.path .. ":" .. reference.line
      assert.is_nil(reference.text:find("%c"))
      assert.is_true(#reference.text <= 200)
    end
    assert.same({ ".gitignore:2", ".cursor/mcp.json:2", ".vscode/settings.json:1" }, found)
  end)
end)

describe("gitignore.rename", function()
  it("changes the patterns for the installation and nothing else", function()
    local function renamed(data) return gitignore.rename(data, OLD, NEW) end
    for before, after in pairs({
      [".agent-os"] = ".praxis-os", [".agent-os/"] = ".praxis-os/",
      ["/.agent-os/x"] = "/.praxis-os/x", ["!.agent-os/x"] = "!.praxis-os/x",
      [".agent-os/.cache/ # .agent-os"] = ".praxis-os/.cache/ # .agent-os",
      [".agent-os.backup.*"] = ".agent-os.backup.*", [".agent-osx/"] = ".agent-osx/",
      ["docs/.agent-os/"] = "docs/.agent-os/", ["# .agent-os/"] = "# .agent-os/", [""] = "",
      ["a\r\n.agent-os\r\n\r\n\nb"] = "a\r\n.praxis-os\r\n\r\n\nb",
    }) do
      assert.equal(after, renamed(before))
      assert.equal(after, renamed(after), "a second time")
    end
  end)
end)
