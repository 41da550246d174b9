--- Backups of an installation: that they hold everything and prove it, that damage is found, that
-- pruning never costs a good one, and that a restore brings every byte back.
local backup = require("praxlua.backup")
local change = require("praxlua.change")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local state = require("praxlua.state")

local manifest = backup.manifest
local NAME = "^%d%d%d%d%-%d%d%-%d%d%-%d%d%d%d%d%d$"
local OTHER_SESSION = "11111111-2222-4333-8444-555555555555"

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function must(command)
  local pipe = assert(io.popen("( " .. command .. " ) 2>&1", "r"))
  local output = pipe:read("a")
  assert(pipe:close(), command .. ": " .. output)
  return output
end

-- Everything under a directory but what backups leave out: path to type, mode, content or target.
local function portrait(project)
  local all = {}
  for _, e in ipairs(assert(core.tree.list(project, {
    hash = true, skip_names = { [".backups"] = true, [".upgrade"] = true, ["__pycache__"] = true },
  }))) do
    all[e.path] = string.format("%s %04o %s", e.type, e.mode, e.sha256 or e.target or "")
  end
  return all
end

describe("backup", function()
  local project, target, ctx, warnings

  before_each(function()
    project = helper.tempdir()
    target = project .. "/.praxis-os"
    warnings = {}
    helper.tree(project, {
      [".gitignore"] = "node_modules/\n", ["src/main.c"] = "not ours\n",
      [".praxis-os/VERSION.txt"] = "Current Version: 1.0.0\n",
      [".praxis-os/standards/universal/a.md"] = "# A\n",
      [".praxis-os/standards/development/mine.md"] = "# mine\n",
      [".praxis-os/specs/2025/MANIFEST.json"] = "a user's file of that name\n",
      [".praxis-os/mcp_server/__main__.py"] = "print('hi')\n",
      [".praxis-os/workflows/deep/venv/.cache/x"] = "only the top ones are ephemeral\n",
      [".praxis-os/config.json"] = "{}\n",
    })
    ctx = {
      project = project, target = target, target_name = ".praxis-os",
      session = { session_id = core.system.uuid() }, memory = { installed_version = "1.0.0" },
      warn = function(text) warnings[#warnings + 1] = text end,
    }
  end)
  after_each(helper.clean)

  local function create() return assert(backup.create_backup(ctx)) end
  local function name_of(made) return made.backup_path:match("([^/]+)/$") end
  local function directory_of(name) return target .. "/.backups/" .. name end

  local function names()
    local found = {}
    for _, item in ipairs(backup.list_backups(ctx)) do found[#found + 1] = item.name end
    return found
  end

  local function in_backups()
    local found = {}
    if not core.file.exists(target .. "/.backups") then return found end
    for _, e in ipairs(assert(core.tree.list(target .. "/.backups"))) do
      if not e.path:find("/", 1, true) then found[#found + 1] = e.path end
    end
    return found
  end

  local function refused(code, ...)
    local before = portrait(project)
    local made, message, got = backup.create_backup(ctx, ...)
    assert.is_nil(made)
    assert.equal(code, got, message)
    assert.same({}, in_backups())
    assert.same(before, portrait(project))
    return message
  end

  local function assert_damaged(name, hint)
    local ok, message, code = backup.verify_backup_integrity(ctx, name)
    assert.is_nil(ok, hint)
    assert.equal("EBADBACKUP", code, message)
    assert.truthy(message:find(name, 1, true))
    return message
  end

  describe("create_backup", function()
    it("reports the evidence of phase 1", function()
      local made = create()
      assert.truthy(name_of(made):find(NAME))
      assert.equal(".praxis-os/.backups/" .. name_of(made) .. "/", made.backup_path)
      assert.equal(made.backup_path .. "MANIFEST.json", made.backup_manifest)
      assert.equal(name_of(made), clock.stamp(clock.parse(made.backup_timestamp)))
      assert.is_true(math.abs(clock.parse(made.backup_timestamp) - clock.now()) < 60 * 1000000000)
      assert.equal(8, made.files_backed_up)
      local bytes = 0
      for _, path in ipairs({ ".gitignore", ".praxis-os/VERSION.txt", ".praxis-os/config.json",
        ".praxis-os/standards/universal/a.md", ".praxis-os/standards/development/mine.md",
        ".praxis-os/specs/2025/MANIFEST.json", ".praxis-os/mcp_server/__main__.py",
        ".praxis-os/workflows/deep/venv/.cache/x" }) do
        bytes = bytes + #helper.read(project .. "/" .. path)
      end
      assert.equal(bytes, made.backup_size_bytes)
      assert.equal(core.file.stat(directory_of(name_of(made)) .. "/backup.tar.zst").size,
        made.archive_bytes)
    end)

    it("writes a manifest in which any flipped bit and any missing end is seen", function()
      local text = helper.read(directory_of(name_of(create())) .. "/MANIFEST.json")
      assert.truthy(manifest.from_json(text))
      for byte = 1, #text do
        local flipped = string.char(text:byte(byte) ~ (1 << byte % 8))
        assert.is_nil((manifest.from_json(text:sub(1, byte - 1) .. flipped .. text:sub(byte + 1))))
        assert.is_nil((manifest.from_json(text:sub(1, byte - 1))))
      end
      assert.is_nil((manifest.from_json(text .. " ")))
      assert.is_nil((manifest.from_json((text:gsub('": ', '":  ', 1)))))
    end)

    describe("of what the newest one holds already", function()
      local function inode(name)
        return core.file.stat(directory_of(name) .. "/backup.tar.zst").inode
      end

      it("links its archive", function()
        local first, made = name_of(create()), create()
        local second = name_of(made)
        assert.are_not.equal(first, second)
        assert.equal(inode(first), inode(second))
        assert.equal(8, made.files_backed_up)
        for _, name in ipairs({ first, second }) do
          assert.is_true(backup.verify_backup_integrity(ctx, name))
        end
      end)

      it("writes its own when anything differs", function()
        local path = target .. "/standards/development/mine.md"
        local changes = {
          function() helper.write(path, "# Mine\n") end, -- as long as before
          function() helper.write(target .. "/new.md", "") end,
          function() must("chmod 600 " .. quote(path)) end,
          function() must("ln -s a " .. quote(target .. "/link")) end,
          function() must("ln -sfn b " .. quote(target .. "/link")) end,
          function() must("mkdir " .. quote(target .. "/empty")) end,
          function() assert(os.remove(target .. "/new.md")) end,
        }
        local last = name_of(create())
        for i, alter in ipairs(changes) do
          alter()
          local now = name_of(create())
          assert.are_not.equal(inode(last), inode(now), i)
          assert.is_true(backup.verify_backup_integrity(ctx, now))
          last = now
        end
      end)

      it("writes its own when that one is damaged", function()
        local first = name_of(create())
        must("truncate -s -1 " .. quote(directory_of(first) .. "/backup.tar.zst"))
        local second = name_of(create())
        assert.are_not.equal(inode(first), inode(second))
        assert.is_true(backup.verify_backup_integrity(ctx, second))
        assert_damaged(first)
      end)

      it("writes its own where links are not to be had", function()
        local link = core.file.link
        finally(function() core.file.link = link end)
        core.file.link = function() return nil, "on purpose", "EPERM" end
        local first, second = name_of(create()), name_of(create())
        assert.are_not.equal(inode(first), inode(second))
        assert.is_true(backup.verify_backup_integrity(ctx, second))
      end)
    end)

    it("holds everything of the target that is not ephemeral, and the .gitignore", function()
      helper.tree(target, {
        [".cache/state/x.json"] = "x", ["venv/lib/y.py"] = "y", [".upgrade/s/journal"] = "j",
        [".upgrade-lock"] = "l", [".mcp_server_state.json"] = "{}",
        ["mcp_server/__pycache__/a.pyc"] = "c", ["scripts/deep/__pycache__/b.pyc"] = "c",
        ["workspace/notes.txt"] = "n",
      })
      must("mkdir -p " .. quote(target .. "/ouroboros/empty"))
      local listed = {}
      local archive = directory_of(name_of(create())) .. "/backup.tar.zst"
      for line in must("tar --zstd -tf " .. quote(archive)):gmatch("[^\n]+") do
        listed[#listed + 1] = line
      end
      table.sort(listed)
      assert.same({
        ".gitignore", ".praxis-os/", ".praxis-os/VERSION.txt", ".praxis-os/config.json",
        ".praxis-os/mcp_server/", ".praxis-os/mcp_server/__main__.py", ".praxis-os/ouroboros/",
        ".praxis-os/ouroboros/empty/", ".praxis-os/scripts/", ".praxis-os/scripts/deep/",
        ".praxis-os/specs/", ".praxis-os/specs/2025/", ".praxis-os/specs/2025/MANIFEST.json",
        ".praxis-os/standards/", ".praxis-os/standards/development/",
        ".praxis-os/standards/development/mine.md", ".praxis-os/standards/universal/",
        ".praxis-os/standards/universal/a.md", ".praxis-os/workflows/",
        ".praxis-os/workflows/deep/", ".praxis-os/workflows/deep/venv/",
        ".praxis-os/workflows/deep/venv/.cache/", ".praxis-os/workflows/deep/venv/.cache/x",
        ".praxis-os/workspace/", ".praxis-os/workspace/notes.txt",
      }, listed)
    end)

    it("is restored by plain tar in the project", function()
      must(([[cd %s && chmod 600 config.json && chmod 750 specs && ln -s ../VERSION.txt specs/v &&
        ln -s standards link && printf x > "$(printf 'a\377b')" && mkdir e]]):format(quote(target)))
      local before = portrait(project)
      local archive = directory_of(name_of(create())) .. "/backup.tar.zst"
      must(([[cd %s && cp %s ../%s.copy && rm -rf .praxis-os .gitignore &&
        tar --zstd -xpf ../%s.copy 2>/dev/null && rm ../%s.copy]]):format(quote(project),
        quote(archive), "backup-" .. ctx.session.session_id, "backup-" .. ctx.session.session_id,
        "backup-" .. ctx.session.session_id))
      assert.same(before, portrait(project))
    end)

    it("writes private files and leaves the live ones as they are, times included", function()
      local function times()
        local all = {}
        local skip = { skip_names = { [".backups"] = true } }
        for _, e in ipairs(assert(core.tree.list(project, skip))) do
          if e.path ~= ".praxis-os" then all[e.path] = e.mtime end
        end
        return all
      end
      local before = times()
      local directory = directory_of(name_of(create()))
      assert.same(before, times())
      for _, file in ipairs({ "", "/MANIFEST.json", "/backup.tar.zst" }) do
        assert.equal(0, core.file.stat(directory .. file).mode & tonumber("77", 8), file)
      end
    end)

    it("gives two backups of one second names and times of their own", function()
      local a, b, c = create(), create(), create()
      assert.is_true(a.backup_path < b.backup_path and b.backup_path < c.backup_path)
      assert.is_true(a.backup_timestamp < b.backup_timestamp)
      assert.same({ name_of(c), name_of(b), name_of(a) }, names())
      for _, name in ipairs(names()) do assert(backup.verify_backup_integrity(ctx, name)) end
    end)

    it("is the newest one also after others of the same second were pruned", function()
      local first = { create(), create(), create(), create() }
      ctx.session = { session_id = OTHER_SESSION }
      local fifth = create()
      assert(backup.archive_old_backups(ctx, 1))
      ctx.session = { session_id = core.system.uuid() }
      local sixth = create()
      assert.is_true(#first == 4 and sixth.backup_timestamp > fifth.backup_timestamp)
      assert.same({ name_of(sixth), name_of(fifth) }, names())
    end)

    it("stores links as links, also those that lead out or in circles", function()
      must(([[cd %s && ln -s .. standards/up && ln -s /etc etc && ln -s nowhere dangling]])
        :format(quote(target)))
      local m = assert(manifest.from_json(helper.read(project .. "/" .. create().backup_manifest)))
      assert.same({ [".praxis-os/standards/up"] = "..", [".praxis-os/etc"] = "/etc",
        [".praxis-os/dangling"] = "nowhere" }, m.links)
      for path in pairs(m.files) do assert.is_nil(path:find("passwd", 1, true)) end
    end)

    it("refuses special files by their names", function()
      must("mkfifo " .. quote(target .. "/workspace-pipe") .. " " .. quote(target .. "/specs/p2"))
      local message = refused("ENOTREG")
      assert.truthy(message:find("workspace-pipe", 1, true) and message:find("specs/p2", 1, true))
    end)

    it("refuses a target without files, and one that is not there", function()
      must("rm -rf " .. quote(target) .. " && mkdir -p " .. quote(target .. "/standards"))
      refused("ENOENT")
      must("rm -rf " .. quote(target))
      refused("ENOENT")
      assert.is_false(core.file.exists(target))
    end)

    it("refuses when .backups is a link or a file, and follows neither", function()
      local elsewhere = helper.tempdir()
      must(("ln -s %s %s/.backups"):format(quote(elsewhere), quote(target)))
      local made, _, code = backup.create_backup(ctx)
      assert.is_nil(made)
      assert.equal("ENOTDIR", code)
      assert.same({}, core.tree.list(elsewhere))
      os.remove(target .. "/.backups")
      helper.write(target .. "/.backups", "a file\n")
      assert.equal("ENOTDIR", select(3, backup.create_backup(ctx)))
      assert.equal("a file\n", helper.read(target .. "/.backups"))
    end)

    it("takes the place of what this session left half made", function()
      helper.write(target .. "/.backups/.partial-" .. ctx.session.session_id .. "/backup.tar.zst",
        "half")
      local name = name_of(create())
      assert.same({ name }, in_backups())
    end)

    -- ctx.progress is called while the big file is read: the change is real.
    it("notices a file that changes while it is read", function()
      -- Its name comes first, so the first call is in the middle of it.
      helper.write(target .. "/!big", string.rep("x", 8 * 1024 * 1024))
      local done = false
      ctx.progress = function()
        if done then return end
        done = true
        local f = assert(io.open(target .. "/!big", "ab"))
        f:write("y")
        f:close()
      end
      local made, message, code = backup.create_backup(ctx)
      assert.is_true(done)
      assert.is_nil(made)
      assert.equal("ECHANGED", code)
      assert.truthy(message:find("!big", 1, true))
      assert.same({}, in_backups())
      assert.is_false(core.file.exists(target .. "/.backups"))
    end)

    local behind_its_back = {
      ["is written again with the same size and time"] = function(path)
        local f = assert(io.open(path, "r+b"))
        f:write("#")
        f:close()
        must("touch -d @1000000000 " .. quote(path))
      end,
      ["is removed"] = function(path) assert(os.remove(path)) end,
      ["gets another mode"] = function(path) must("chmod 600 " .. quote(path)) end,
      ["becomes a link"] = function(path)
        os.remove(path)
        must("ln -s config.json " .. quote(path))
      end,
      ["gets a new neighbour"] = function(path) helper.write(path .. ".new", "new") end,
    }
    for title, action in pairs(behind_its_back) do
      it("notices that a file that was packed already " .. title, function()
        local path = target .. "/AAA.md"
        helper.write(path, "@ some text\n")
        must("touch -d @1000000000 " .. quote(path))
        local calls = 0
        ctx.progress = function()
          calls = calls + 1
          if calls == 1 then core.system.sleep(0.15) end -- so that the next file is told as well
          if calls == 2 then action(path) end
        end
        local made, message, code = backup.create_backup(ctx)
        assert.is_true(calls >= 2)
        assert.is_nil(made)
        assert.equal("ECHANGED", code, message)
        assert.truthy(message:find("AAA.md", 1, true), message)
        assert.same({}, in_backups())
      end)
    end

    it("writes what it means to a full disk and then leaves nothing", function()
      local disk = helper.tempdir()
      if not os.execute("mount -t tmpfs -o size=2m none " .. quote(disk) .. " 2>/dev/null") then
        return -- needs the right to mount; the fault tests cover it elsewhere
      end
      finally(function() must("umount " .. quote(disk)) end)
      must("cp -a " .. quote(target) .. " " .. quote(disk))
      ctx.project, ctx.target = disk, disk .. "/.praxis-os"
      must("head -c 1200000 /dev/urandom > " .. quote(ctx.target .. "/random"))
      local made, message, code = backup.create_backup(ctx)
      assert.is_nil(made)
      assert.equal("ENOSPC", code, message)
      assert.is_false(core.file.exists(ctx.target .. "/.backups"))
    end)
  end)

  describe("the requirements snapshot", function()
    local function python(script)
      helper.write(target .. "/venv/bin/python", "#!/bin/sh\n" .. script)
      must("chmod 755 " .. quote(target .. "/venv/bin/python"))
    end

    local function snapshot(made)
      return helper.read(project .. "/" .. made.backup_path .. "requirements-snapshot.txt")
    end

    it("has the exact lines of the installation's own pip", function()
      python([[[ "$*" = "-m pip freeze --all" ] || exit 9
        printf 'praxis==1.2.3\n# note\n-e git+x#egg=y\nlocal @ file:///x\npip==23.0.1\n']])
      local made = create()
      assert.equal("praxis==1.2.3\npip==23.0.1\n", snapshot(made))
      assert.equal(1, #warnings)
      assert.truthy(warnings[1]:find("2 packages", 1, true))
      assert(backup.verify_backup_integrity(ctx, name_of(made)))
    end)

    it("is missing, with a warning, when pip fails, is missing or hangs", function()
      backup.FREEZE_SECONDS = 0.3
      finally(function() backup.FREEZE_SECONDS = 60 end)
      for i, script in ipairs({ "echo broken >&2; exit 1\n", "exec sleep 60\n", false }) do
        if script then python(script) else os.remove(target .. "/venv/bin/python") end
        local made = create()
        assert.is_nil(snapshot(made))
        assert.equal(i, #warnings)
        assert.truthy(warnings[i]:find("pip freeze", 1, true))
        assert(backup.verify_backup_integrity(ctx, name_of(made)))
      end
    end)

    it("is not missed where there is no environment", function()
      assert.is_nil(snapshot(create()))
      assert.same({}, warnings)
    end)

    it("is verified with the backup", function()
      python("echo a==1\n")
      local made = create()
      local path = project .. "/" .. made.backup_path .. "requirements-snapshot.txt"
      helper.write(path, "a==2\n")
      assert_damaged(name_of(made))
      os.remove(path)
      assert_damaged(name_of(made))
    end)
  end)

  describe("BackupManifest", function()
    local function sample()
      return manifest.new({
        backup_path = ".praxis-os/.backups/2025-10-08-103045/", timestamp = "2025-10-08T10:30:45Z",
        files = { [".praxis-os/a\xff"] = core.hash.sha256("a") },
        links = { [".praxis-os/l"] = "a" },
        modes = { [".praxis-os"] = "0755", [".praxis-os/a\xff"] = "0644" },
        total_size_bytes = 1, archive = { sha256 = core.hash.sha256("x"), bytes = 99 },
        session_id = OTHER_SESSION, installed_version = "1.0.0",
      })
    end

    it("comes back from its dict and from its JSON as it was", function()
      local m = sample()
      assert.same(m, assert(manifest.from_dict(manifest.to_dict(m))))
      assert.same(m, assert(manifest.from_json(manifest.to_json(m))))
      assert.equal(1, m.format_version)
    end)

    it("is refused with any field missing, added, of another type or changed", function()
      for field in pairs(manifest.to_dict(sample())) do
        local dict = manifest.to_dict(sample())
        dict[field] = nil
        assert.is_nil((manifest.from_dict(dict)), field)
        dict[field] = true
        assert.is_nil((manifest.from_dict(dict)), field)
      end
      local dict = manifest.to_dict(sample())
      dict.more = "x"
      assert.equal("ESCHEMA", select(3, manifest.from_dict(dict)))
      dict = manifest.to_dict(sample())
      dict.total_size_bytes = 2
      assert.equal("EBADMANIFEST", select(3, manifest.from_dict(dict)))
    end)

    it("is refused when its paths are not normal or disagree, whatever its hash says", function()
      local hash = core.hash.sha256("a")
      local function rejected(fields)
        local base = sample()
        for field, value in pairs(fields) do base[field] = value end
        local m, _, code = manifest.from_dict(manifest.to_dict(manifest.new(base)))
        assert.is_nil(m)
        assert.equal("EBADMANIFEST", code)
      end
      for _, path in ipairs({ "../x", "/etc/x", "", "a//b", "a/./b", "a/", "a\0b" }) do
        rejected({ files = { [path] = hash }, modes = { [path] = "0644" } })
        rejected({ links = { [path] = "x" } })
        rejected({ files = {}, modes = { [path] = "0755" } })
      end
      rejected({ files = { x = hash }, modes = {} })
      rejected({ files = { x = hash }, modes = { x = "0644" }, links = { x = "y" } })
      rejected({ links = { d = "y" }, modes = { d = "0755" }, files = {} })
    end)

    it("says so when it is of a newer praxlua", function()
      local dict = manifest.to_dict(sample())
      dict.format_version = 2
      assert.equal("EFORMAT", select(3, manifest.from_dict(dict)))
    end)

    it("is refused with any bit flipped, and at any length", function()
      local text = manifest.to_json(create() and assert(manifest.from_json(
        helper.read(directory_of(names()[1]) .. "/MANIFEST.json"))))
      for at = 1, #text do
        local bit = at % 8
        local flipped = text:sub(1, at - 1) .. string.char(text:byte(at) ~ (1 << bit))
          .. text:sub(at + 1)
        assert.is_nil((manifest.from_json(flipped)), "byte " .. at .. " bit " .. bit)
      end
      for length = 0, #text - 2 do -- the last byte is the newline
        assert.is_nil((manifest.from_json(text:sub(1, length))), "cut to " .. length)
      end
    end)
  end)

  describe("verify_backup_integrity", function()
    local name, directory
    before_each(function()
      name = name_of(create())
      directory = directory_of(name)
    end)

    it("accepts what was made, also with a note beside it", function()
      helper.write(directory .. "/NOTE.txt", "made before the big change\n")
      assert.is_true(backup.verify_backup_integrity(ctx, name))
    end)

    it("calls none damaged that it cannot read for want of memory", function()
      for _, of in ipairs({ core.archive, core.file }) do
        local read = of.read
        of.read = function() return nil, "read it: Cannot allocate memory", "ENOMEM" end
        local message = helper.fails("ENOMEM", backup.verify_backup_integrity(ctx, name))
        of.read = read
        assert.equal(("backup %s could not be read: read it: Cannot allocate memory; try again")
          :format(name), message)
      end
      assert.is_true(backup.verify_backup_integrity(ctx, name))
    end)

    it("finds every truncation and flipped bit of the archive", function()
      local path = directory .. "/backup.tar.zst"
      local data = helper.read(path)
      for at = 1, #data, 7 do
        local flipped = string.char(data:byte(at) ~ (1 << (at % 8)))
        helper.write(path, data:sub(1, at - 1) .. flipped .. data:sub(at + 1))
        assert_damaged(name, "byte " .. at)
        helper.write(path, data:sub(1, at - 1))
        assert_damaged(name, "cut to " .. at - 1)
      end
      helper.write(path, data .. "x")
      assert_damaged(name, "appended")
      os.remove(path)
      assert_damaged(name, "missing")
      helper.write(path, data)
      assert(backup.verify_backup_integrity(ctx, name))
    end)

    -- A manifest rewritten with a right hash of its own, as somebody who knows how would do it.
    local function forge(edit)
      local path = directory .. "/MANIFEST.json"
      local m = assert(manifest.from_json(helper.read(path)))
      edit(m)
      helper.write(path, manifest.to_json(manifest.new(m)))
    end

    it("wants exactly the members, hashes, modes, links and sizes of the manifest", function()
      local original = helper.read(directory .. "/MANIFEST.json")
      local file = ".praxis-os/config.json"
      local edits = {
        function(m) m.files[file], m.modes[file] = nil, nil end,
        function(m) m.files[file] = core.hash.sha256("other") end,
        function(m) m.modes[file] = "0600" end,
        function(m) m.modes[".praxis-os/specs"] = "0700" end,
        function(m) m.modes[".praxis-os/new"] = "0755" end,
        function(m) m.links[".praxis-os/new"] = "x" end,
        function(m) m.files[file], m.modes[file], m.links[file] = nil, nil, "x" end,
        function(m) m.files, m.modes, m.links = {}, {}, {} end,
        function(m) m.total_size_bytes = m.total_size_bytes + 1 end,
        function(m) m.total_size_bytes = 1 end,
        function(m) m.archive.bytes = m.archive.bytes + 1 end,
        function(m) m.archive.sha256 = core.hash.sha256("other") end,
        function(m) m.requirements_sha256 = core.hash.sha256("other") end,
      }
      for i, edit in ipairs(edits) do
        forge(edit)
        assert_damaged(name, "edit " .. i)
        helper.write(directory .. "/MANIFEST.json", original)
      end
      assert(backup.verify_backup_integrity(ctx, name))
    end)

    it("refuses a well made archive of things that are no content of the target", function()
      local root, path = helper.tempdir(), directory .. "/backup.tar.zst"
      for _, inside in ipairs({ "src/evil.c", ".praxis-os/.upgrade/x", ".praxis-os/venv/y",
        ".praxis-os/.backups/z", ".praxis-os/a/__pycache__/b", ".git/hooks/pre-commit" }) do
        helper.write(root .. "/" .. inside, "evil")
        os.remove(path)
        local packed = assert(core.archive.create(path, root, { inside }))
        forge(function(m)
          m.files, m.links, m.modes = packed.files, {}, { [inside] = "0644" }
          m.total_size_bytes = packed.bytes
          m.archive = { sha256 = packed.archive_sha256, bytes = packed.archive_bytes }
        end)
        local ok, message = backup.verify_backup_integrity(ctx, name)
        assert.is_nil(ok, inside)
        assert.truthy(message:find(inside, 1, true), message)
      end
    end)

    it("never takes a path for a name", function()
      for _, bad in ipairs({ "..", "../..", "", ".partial-x", name .. "/", "/" .. name, "x\0" }) do
        assert.equal("EINVAL", select(3, backup.verify_backup_integrity(ctx, bad)))
      end
      assert.equal("ENOENT", select(3, backup.verify_backup_integrity(ctx, "2001-01-01-000000")))
      must(("ln -s %s %s/.backups/2001-01-01-000000"):format(name, quote(target)))
      assert_damaged("2001-01-01-000000")
    end)
  end)

  describe("list_backups", function()
    it("is empty without backups", function()
      assert.same({}, backup.list_backups(ctx))
    end)

    it("tells of each, newest first, and what is wrong with it", function()
      local old, new = create(), create()
      helper.write(directory_of("2099-01-01-000000") .. "/MANIFEST.json", "{}")
      local list = backup.list_backups(ctx)
      assert.same({ "2099-01-01-000000", name_of(new), name_of(old) }, names())
      assert.is_false(list[1].verified)
      assert.truthy(list[1].problem)
      assert.is_nil(list[2].verified)
      assert.equal(8, list[2].files)
      assert.equal(new.backup_size_bytes, list[2].bytes)
      assert.equal(new.archive_bytes, list[2].archive_bytes)
      assert.equal(new.backup_timestamp, list[2].timestamp)
      assert.is_true(backup.list_backups(ctx, { verify = true })[2].verified)
    end)

    it("orders by the recorded time, whatever the directories' times are", function()
      local old, new = name_of(create()), name_of(create())
      must(("touch -d @0 %s; touch %s"):format(quote(directory_of(new)), quote(directory_of(old))))
      assert.same({ new, old }, names())
    end)
  end)

  describe("archive_old_backups", function()
    -- Backups of a session that is over.
    local function make(count)
      local own = ctx.session
      ctx.session = { session_id = OTHER_SESSION }
      local made = {}
      for i = 1, count do
        helper.write(target .. "/standards/development/mine.md", "edition " .. i .. "\n")
        made[i] = name_of(create())
      end
      ctx.session = own
      return made
    end

    local function break_backup(name)
      must("truncate -s -1 " .. quote(directory_of(name) .. "/backup.tar.zst"))
    end

    it("keeps the newest ones", function()
      local made = make(5)
      local result = assert(backup.archive_old_backups(ctx, 3))
      assert.equal(2, result.archived_count)
      assert.same({ made[5], made[4], made[3] }, result.kept_backups)
      assert.same({ made[3], made[4], made[5] }, in_backups())
      assert.same({ archived_count = 0, archived = {}, broken = {},
        kept_backups = { made[5], made[4], made[3] } }, backup.archive_old_backups(ctx, 3))
    end)

    it("never counts a broken one as kept, reports it and leaves it alone", function()
      local made = make(5)
      break_backup(made[5])
      break_backup(made[4])
      break_backup(made[1])
      must("rm " .. quote(directory_of(made[4]) .. "/MANIFEST.json"))
      local result = assert(backup.archive_old_backups(ctx, 1))
      assert.same({ made[3] }, result.kept_backups)
      assert.same({ made[2] }, result.archived)
      assert.equal(3, #result.broken)
      for i, at in ipairs({ 5, 4, 1 }) do
        assert.equal(made[at], result.broken[i].name)
        assert.truthy(#result.broken[i].problem > 0)
      end
      assert.same({ made[1], made[3], made[4], made[5] }, in_backups())
    end)

    it("keeps the one that an unfinished session goes back to", function()
      local made = make(4)
      local session = state.session.new({ metadata = { kind = "restore", backup = made[1],
        present = made[2] } })
      assert(state.save_state(target, session))
      local result = assert(backup.archive_old_backups(ctx, 1))
      assert.same({ made[4], made[2], made[1] }, result.kept_backups)
      session.status = "completed"
      assert(state.save_state(target, session))
      assert.same({ made[4] }, backup.archive_old_backups(ctx, 1).kept_backups)
    end)

    it("leaves the archive to the backup that shares it", function()
      create()
      local second = name_of(create())
      ctx.session = { session_id = OTHER_SESSION }
      local third = name_of(create())
      ctx.session = { session_id = core.system.uuid() }
      assert.same({ third }, backup.archive_old_backups(ctx, 1).kept_backups)
      assert.truthy(backup.verify_backup_integrity(ctx, third))
      assert.is_false(core.file.exists(directory_of(second)))
    end)

    it("removes nothing when all but the last are broken", function()
      local made = make(3)
      break_backup(made[2])
      break_backup(made[3])
      assert.equal(0, assert(backup.archive_old_backups(ctx, 1)).archived_count)
      assert.same(made, in_backups())
    end)

    it("keeps the backup of this session and of any other open one", function()
      local own = name_of(create())
      local open = make(1)[1]
      ctx.session = { session_id = "99999999-2222-4333-8444-555555555555" }
      local rest = { name_of(create()), name_of(create()) }
      ctx.session = { session_id = assert(backup.list_backups(ctx))[4].session_id }
      must(("mkdir -p %s/.upgrade/%s"):format(quote(target), OTHER_SESSION))
      local result = assert(backup.archive_old_backups(ctx, 1))
      assert.same({ rest[2], open, own }, result.kept_backups)
      assert.same({ rest[1] }, result.archived)
    end)

    it("removes what is left of sessions that are over, and only that", function()
      local own, dead = ctx.session.session_id, "22222222-2222-4333-8444-555555555555"
      local kept = { ".partial-" .. own, ".partial-" .. OTHER_SESSION, ".partial-odd", "notes" }
      for _, name in ipairs(kept) do helper.write(directory_of(name) .. "/x", "x") end
      helper.write(directory_of(".partial-" .. dead) .. "/x", "x")
      helper.write(directory_of(".removing-2025-10-08-103045") .. "/x", "x")
      must(("mkdir -p %s/.upgrade/%s"):format(quote(target), OTHER_SESSION))
      assert(backup.archive_old_backups(ctx, 3))
      table.sort(kept)
      assert.same(kept, in_backups())
    end)

    it("raises for less than one", function()
      for _, keep in ipairs({ 0, -1, 1.5 }) do
        assert.has_error(function() backup.archive_old_backups(ctx, keep) end)
      end
      assert.has_error(function() backup.archive_old_backups(ctx) end)
    end)
  end)

  describe("restoring", function()
    local before, name, transaction

    before_each(function()
      must(([[cd %s && chmod 600 config.json && ln -s VERSION.txt link && mkdir -p empty/inside &&
        mkdir private && chmod 700 private empty/inside && chmod 2750 empty &&
        printf odd > "$(printf 'odd\377\nname')"]]):format(quote(target)))
      before = portrait(project)
      name = name_of(create())
      ctx.scratch = target .. "/.upgrade/scratch"
      assert(core.file.mkdir(ctx.scratch))
      local folder = ".praxis-os/.upgrade/" .. ctx.session.session_id
      transaction = assert(core.transaction.open(project, folder,
        { create = true, disposable = "__pycache__" }))
      ctx.change = change.new(transaction, project, project .. "/" .. folder)
    end)
    after_each(function() transaction:close() end)

    local function plan()
      local list = assert(backup.restore_plan(ctx, name))
      local by_path = {}
      for _, item in ipairs(list) do
        by_path[item.path] = (by_path[item.path] and by_path[item.path] .. "+" or "") .. item.kind
          .. (item.extra and " extra" or "")
      end
      return by_path, list
    end

    -- All that can have happened since: changed, added, removed, other modes, other kinds.
    local function upgrade_badly()
      must(([[cd %s
        echo 'Current Version: 2.0.0' > VERSION.txt
        chmod 644 config.json; chmod 755 mcp_server/__main__.py
        rm -r standards/development; rm -r empty; chmod 755 private
        rm standards/universal/a.md && mkdir standards/universal/a.md &&
          echo x > standards/universal/a.md/x
        rm -r specs && ln -s /etc specs
        rm link && echo file > link
        rm -r workflows && echo file > workflows
        mkdir -p usage/new/deep usage/__pycache__ && echo u > usage/new/u.md && ln -s u usage/l
        echo c > usage/__pycache__/c.pyc
        echo v > .cache-not; mkdir -p .cache && echo s > .cache/s
        echo 'venv/' >> ../.gitignore]]):format(quote(target)))
    end

    it("unpacks nothing else than what was verified a moment before", function()
      must(("sed -i 's/./x/' %s/config.json"):format(quote(target))) -- as many bytes
      local other = name_of(create())
      local extract = core.archive.extract
      core.archive.extract = function(...) -- luacheck: ignore 122
        core.archive.extract = extract -- luacheck: ignore 122
        must(("cd %s/.backups && cp %s/backup.tar.zst %s/backup.tar.zst"):format(quote(target),
          other, name))
        return extract(...)
      end
      local message = helper.fails("EBADBACKUP", backup.restore_plan(ctx, name))
      core.archive.extract = extract -- luacheck: ignore 122
      assert.truthy(message:find("was exchanged while it was read", 1, true))
    end)

    it("plans nothing when nothing changed, and then changes nothing", function()
      local by_path = plan()
      assert.same({}, by_path)
      assert(core.tree.remove(ctx.scratch) and core.file.mkdir(ctx.scratch))
      assert.same({ files_restored = 0, files_removed = 0 },
        backup.restore_from_backup(ctx, name))
    end)

    it("plans exactly what differs", function()
      upgrade_badly()
      assert.same({
        [".gitignore"] = "put", [".praxis-os/VERSION.txt"] = "put",
        [".praxis-os/private"] = "mode",
        [".praxis-os/config.json"] = "mode", [".praxis-os/mcp_server/__main__.py"] = "mode",
        [".praxis-os/standards/development"] = "mkdir",
        [".praxis-os/standards/development/mine.md"] = "put",
        [".praxis-os/empty"] = "mkdir", [".praxis-os/empty/inside"] = "mkdir",
        [".praxis-os/standards/universal/a.md/x"] = "remove extra",
        [".praxis-os/standards/universal/a.md"] = "rmdir+put",
        [".praxis-os/specs"] = "remove+mkdir", [".praxis-os/specs/2025"] = "mkdir",
        [".praxis-os/specs/2025/MANIFEST.json"] = "put", [".praxis-os/link"] = "symlink",
        [".praxis-os/workflows"] = "remove+mkdir", [".praxis-os/workflows/deep"] = "mkdir",
        [".praxis-os/workflows/deep/venv"] = "mkdir",
        [".praxis-os/workflows/deep/venv/.cache"] = "mkdir",
        [".praxis-os/workflows/deep/venv/.cache/x"] = "put",
        [".praxis-os/usage/new/u.md"] = "remove extra", [".praxis-os/usage/l"] = "remove extra",
        [".praxis-os/usage/new/deep"] = "rmdir extra", [".praxis-os/usage/new"] = "rmdir extra",
        [".praxis-os/usage"] = "rmdir extra", [".praxis-os/.cache-not"] = "remove extra",
      }, (plan()))
    end)

    it("brings every byte, mode and link back, and can itself be undone", function()
      upgrade_badly()
      local upgraded = portrait(project)
      local result = assert(backup.restore_from_backup(ctx, name))
      local restored = portrait(project)
      restored[".praxis-os/.cache"], restored[".praxis-os/.cache/s"] = nil, nil
      assert.same(before, restored)
      assert.equal("s\n", helper.read(target .. "/.cache/s"))
      assert.is_true(result.files_restored >= 7 and result.files_removed >= 4)
      assert(transaction:rollback())
      assert.same(upgraded, portrait(project))
    end)

    it("writes nothing through a link that stands in the way", function()
      local outside = helper.tempdir()
      helper.write(outside .. "/2025/MANIFEST.json", "canary")
      must(("rm -r %s/specs && ln -s %s %s/specs"):format(quote(target), quote(outside),
        quote(target)))
      assert(backup.restore_from_backup(ctx, name))
      assert.equal("canary", helper.read(outside .. "/2025/MANIFEST.json"))
      assert.same(before, portrait(project))
    end)

    it("leaves what is new when asked to", function()
      helper.write(target .. "/standards/development/later.md", "later\n")
      helper.write(target .. "/VERSION.txt", "2\n")
      assert(backup.restore_from_backup(ctx, name, { keep_extra = true }))
      assert.equal("later\n", helper.read(target .. "/standards/development/later.md"))
      assert.equal("Current Version: 1.0.0\n", helper.read(target .. "/VERSION.txt"))
    end)

    it("refuses to keep what cannot stay, before anything is changed", function()
      upgrade_badly()
      local upgraded = portrait(project)
      local result, message, code = backup.restore_from_backup(ctx, name, { keep_extra = true })
      assert.is_nil(result)
      assert.equal("ENOTDIR", code)
      assert.truthy(message:find("a.md", 1, true))
      assert.same(upgraded, portrait(project))
    end)

    it("stops at a file that somebody changes after the plan was made", function()
      helper.write(target .. "/VERSION.txt", "2\n")
      local put = ctx.change.put
      ctx.change.put = function(...)
        helper.write(target .. "/VERSION.txt", "a person's edit\n")
        return put(...)
      end
      local result, _, code = backup.restore_from_backup(ctx, name)
      assert.is_nil(result)
      assert.equal("ECHANGED", code)
      assert.equal("a person's edit\n", helper.read(target .. "/VERSION.txt"))
    end)

    it("notices that the result is not what it should be", function()
      helper.write(target .. "/VERSION.txt", "2\n")
      local apply = ctx.change.apply
      ctx.change.apply = function()
        local result = apply()
        helper.write(target .. "/VERSION.txt", "3\n")
        return result
      end
      local result, message, code = backup.restore_from_backup(ctx, name)
      assert.is_nil(result)
      assert.equal("ECHANGED", code)
      assert.truthy(message:find("VERSION.txt", 1, true))
    end)

    it("touches nothing when the backup is damaged", function()
      upgrade_badly()
      local upgraded = portrait(project)
      must("truncate -s -1 " .. quote(directory_of(name) .. "/backup.tar.zst"))
      local result, _, code = backup.restore_from_backup(ctx, name)
      assert.is_nil(result)
      assert.equal("EBADBACKUP", code)
      assert.same(upgraded, portrait(project))
      assert.same({}, core.tree.list(ctx.scratch))
    end)

    it("leaves a special file alone, but not in the place of content", function()
      must("mkfifo " .. quote(target .. "/pipe"))
      helper.write(target .. "/VERSION.txt", "2\n")
      assert(backup.restore_from_backup(ctx, name))
      assert.equal("other", core.file.stat(target .. "/pipe").type)
      assert(core.tree.remove(ctx.scratch) and core.file.mkdir(ctx.scratch))
      must(("cd %s && rm config.json && mkfifo config.json"):format(quote(target)))
      assert.equal("ENOTREG", select(3, backup.restore_from_backup(ctx, name)))
    end)
  end)

  it("keeps every descriptor closed and every JSON readable by others", function()
    local before = helper.descriptors()
    local made = create()
    backup.list_backups(ctx, { verify = true })
    backup.archive_old_backups(ctx, 1)
    assert.equal(before, helper.descriptors())
    local path = project .. "/" .. made.backup_manifest
    local said = must("python3 -c " .. quote("import json,sys; d=json.load(open(sys.argv[1])); "
      .. "print(d['format_version'], len(d['files']), d['total_size_bytes'])") .. " "
      .. quote(path))
    assert.equal(string.format("1 8 %d\n", made.backup_size_bytes), said)
    assert.truthy(json.decode(helper.read(path)))
  end)
end)
