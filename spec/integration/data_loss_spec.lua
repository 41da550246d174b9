--- Ways in which upgraders of copied installations have lost people's work: each is tried here, and
-- the test is named after what goes wrong. The numbers are those of the list of observed bugs
-- that docs/reliability.md tells of.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local lfs = require("lfs")
local manifest = require("praxlua.backup.manifest")
local tiny = require("spec.support.tiny")

-- What a person has in an installation beside what was shipped.
local OWN = {
  ["config.json"] = '{"theme": "mine"}\n',
  ["ouroboros/notes.md"] = "a folder no layout knows\n",
  ["scripts/mine.sh"] = "#!/bin/sh\n",
  ["specs/2025-11-01-billing/srd.md"] = "# Billing\n",
  ["standards/development/style.md"] = "tabs\n",
  ["standards/universal/ai-assistant/extra.md"] = "beside shipped files\n",
  ["workflows/our_release_v1/metadata.json"] = '{"name": "ours"}\n',
  ["workspace/sketch.txt"] = "sketch\n",
}

-- A person's edit, made by hand the moment phase 2 is about to begin.
local EDIT_BEFORE_PHASE_2 = [[
  local broker = require("praxlua.broker")
  local run = broker.run
  broker.run = function(phase, ctx)
    if phase.number == 2 then
      local out = assert(io.open(%q, "w"))
      assert(out:write("what a person typed\n"))
      assert(out:close())
    end
    return run(phase, ctx)
  end
]]

-- How a test gets mounts of its own: as root, or in a user namespace.
local MOUNTS = (function()
  local scratch, found = helper.tempdir(), nil
  for _, flags in ipairs({ "-m", "-Urm" }) do
    local try = { "unshare", flags, "mount", "-t", "tmpfs", "none", scratch }
    if not found and command.run(try, { scratch = scratch }).code == 0 then found = flags end
  end
  helper.clean()
  return found
end)()

-- Runs a command with the project $0 on a disk of its own, with $1 times 256 KiB to spare.
local ON_SMALL_DISK = [[
  project=$0 room=$1
  shift
  cp -a "$project" "$project.whole"
  used=$(du -s -B1 "$project" | cut -f1)
  mount -t tmpfs -o size=$((used + room * 262144)) none "$project"
  cp -a "$project.whole/." "$project"
  cd "$project"
  exec "$@"
]]

describe("No upgrade, backup, restore or rollback", function()
  local s

  before_each(function()
    s = tiny.new({
      first = { ["universal/workflows/flow/gate-definition.yaml"] = "gate: 1\n" },
      second = { ["universal/workflows/flow/gate-definition.yaml"] = "gate: 2\n" },
    })
    for path, data in pairs(OWN) do tiny.write(s, path, data) end
    tiny.save(s)
  end)
  after_each(helper.clean)

  local function run(code, ...)
    local result = tiny.json(s, { ... })
    assert.equal(code, result.code, result.stderr)
    return result
  end

  local function upgrade(code, ...)
    local result = tiny.upgrade(s, { ... })
    assert.equal(code, result.code, result.stderr)
    return result
  end

  local function shell(script, ...)
    return command.succeed({ "sh", "-euc", script, s.root, ... }, { scratch = s.scratch })
  end

  -- Makes a backup; its name.
  local function backup()
    local before = {}
    for _, name in ipairs(tiny.names(s, ".backups")) do before[name] = true end
    run(0, "backup", "create")
    for _, name in ipairs(tiny.names(s, ".backups")) do
      if not before[name] then return name end
    end
  end

  local function folder(name) return s.target .. "/.backups/" .. name end

  local function own_files_are_there()
    for path, data in pairs(OWN) do assert.equal(data, tiny.read(s, path), path) end
  end

  it("leaves a restore killed midway behind as a valid installation (b05)", function()
    local name = backup()
    local old = tiny.snapshot(s)
    upgrade(0)
    local new = tiny.snapshot(s)
    tiny.save(s)
    for calls = 1, 3 do
      tiny.reset(s)
      local result = tiny.patched(s, ([[
        local change, calls = require("praxlua.change"), 0
        local new = change.new
        change.new = function(...)
          local all = new(...)
          local apply = all.apply
          all.apply = function()
            calls = calls + 1
            if calls == %d then die() end
            return apply()
          end
          return all
        end
      ]]):format(calls), { "backup", "restore", name, "--yes" })
      if result.code ~= 137 then
        assert(calls > 1, "the restore was never killed: " .. result.stderr)
        break
      end
      assert.is_false(tiny.is_settled(s))
      upgrade(3) -- an unfinished restore is reported, never upgraded on
      run(0, "rollback")
      assert.same(new, tiny.snapshot(s))
      tiny.reset(s)
      tiny.patched(s, "", { "backup", "restore", name, "--yes" })
      assert.same(old, tiny.snapshot(s))
    end
  end)

  it("backs up five folders and calls the rest verified (b06)", function()
    local name = backup()
    run(0, "backup", "verify", name)
    local saved = command.succeed({ "tar", "--zstd", "-tf", folder(name) .. "/backup.tar.zst" },
      { scratch = s.scratch })
    for path in pairs(OWN) do
      assert.truthy(saved:find(tiny.NAME .. "/" .. path, 1, true), path .. " is in no backup")
    end
  end)

  it("keeps a failed backup, or deletes good ones for broken ones (b09)", function()
    shell('mkfifo "$0/project/$1/specs/pipe"', tiny.NAME)
    run(1, "backup", "create")
    assert.same({}, tiny.names(s, ".backups"))
    shell('rm "$0/project/$1/specs/pipe"', tiny.NAME)
    local good = { backup(), backup(), backup() }
    for i = 1, 3 do helper.write(folder("2099-01-01-00000" .. i) .. "/backup.tar.zst", "torn") end
    local pruned = run(0, "backup", "prune", "--keep", "3")
    assert.truthy(tiny.said(pruned):find("2099-01-01-000001", 1, true))
    for _, name in ipairs(good) do run(0, "backup", "verify", name) end
  end)

  it("follows links: into files outside, or round in a circle (b10)", function()
    helper.write(s.root .. "/outside/secret.txt", "not part of the installation\n")
    shell('ln -s ../../../outside/secret.txt "$0/project/$1/specs/outside.txt" && '
      .. 'ln -s .. "$0/project/$1/specs/up" && ln -s nowhere "$0/project/$1/specs/dangling"',
      tiny.NAME)
    local before = tiny.snapshot(s)
    local name = backup()
    run(0, "backup", "verify", name)
    tiny.write(s, "config.json", "changed since\n")
    run(0, "backup", "restore", name, "--yes")
    assert.same(before, tiny.snapshot(s))
    assert.equal("link", core.file.stat(s.target .. "/specs/up").type)
    assert.equal("not part of the installation\n", helper.read(s.root .. "/outside/secret.txt"))
  end)

  it("overlooks a file because it is called MANIFEST.json (b11)", function()
    tiny.write(s, "specs/MANIFEST.json", "a person's own\n")
    local name = backup()
    tiny.write(s, "specs/MANIFEST.json", "changed since\n")
    run(0, "backup", "restore", name, "--yes")
    assert.equal("a person's own\n", tiny.read(s, "specs/MANIFEST.json"))
  end)

  it("verifies a backup with an extra file, a changed file or an emptied manifest (b12)", function()
    local name = backup()
    tiny.save(s)
    local damages = {
      [[zstd -qd --rm backup.tar.zst && printf tampered > extra.txt &&
        tar -rf backup.tar extra.txt && rm extra.txt && zstd -q --rm backup.tar]],
      [[zstd -qd --rm backup.tar.zst && mkdir x && tar -C x -xf backup.tar &&
        printf tampered > x/"$2"/config.json && tar -C x -cf backup.tar "$2" && rm -r x &&
        zstd -q --rm backup.tar]],
      [[printf '{}' > MANIFEST.json]],
      [[: > MANIFEST.json]],
      [[: > backup.tar.zst]],
    }
    for _, damage in ipairs(damages) do
      tiny.reset(s)
      shell('cd "$1" && ' .. damage, folder(name), tiny.NAME)
      local before = tiny.snapshot(s)
      run(1, "backup", "verify", name)
      local refused = tiny.json(s, { "backup", "restore", name, "--yes" })
      assert.equal(3, refused.code, refused.stderr)
      assert.same(before, tiny.snapshot(s), damage)
    end
  end)

  it("writes outside the target because a manifest names such a path (b13, b43)", function()
    helper.write(s.root .. "/pwned.txt", "as it was\n")
    helper.write(s.project .. "/config.json", "the project's\n")
    local forged = {
      version = "1.0.0", generated = "2025-11-01T00:00:00Z", file_count = 2,
      files = {
        ["../pwned.txt"] = { checksum = "sha256:" .. ("0"):rep(64), size = 1 },
        ["../../pwned.txt"] = { checksum = "sha256:" .. ("0"):rep(64), size = 1 },
      },
    }
    tiny.write(s, ".installed-manifest.json", json.encode(forged))
    tiny.commit(s, { ["universal/.universal-manifest.json"] = json.encode(forged) })
    local result = tiny.upgrade(s)
    assert.is_true(result.code == 0 or result.code == 3, result.stderr)
    assert.equal("as it was\n", helper.read(s.root .. "/pwned.txt"))
    local name = backup()
    local path = folder(name) .. "/MANIFEST.json"
    local m = assert(json.decode(helper.read(path)))
    m.files["../config.json"] = m.files[tiny.NAME .. "/VERSION.txt"]
    m.modes["../config.json"] = "0644"
    m.manifest_sha256 = manifest.new(m).manifest_sha256 -- right, so that the paths are looked at
    helper.write(path, json.encode(m, { pretty = true }))
    local said = tiny.json(s, { "backup", "verify", name }).last.message
    assert.truthy(said:find("'../config.json'", 1, true), said)
    run(1, "backup", "verify", name)
    run(3, "backup", "restore", name, "--yes")
    assert.equal("the project's\n", helper.read(s.project .. "/config.json"))
  end)

  it("prunes the newest backup because an older one was touched (b15)", function()
    local old, middle, new = backup(), backup(), backup()
    helper.write(folder(old) .. "-note.txt", "beside it\n")
    assert(lfs.touch(folder(old), os.time() + 5000, os.time() + 5000))
    assert(lfs.touch(folder(new), 1000000, 1000000))
    run(0, "backup", "prune", "--keep", "2")
    assert.is_nil(lfs.attributes(folder(old)))
    run(0, "backup", "verify", middle)
    run(0, "backup", "verify", new)
  end)

  it("asks about, or skips, files nobody edited (b17)", function()
    local result = upgrade(0, "--on-conflict", "stop")
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal(0, tiny.event(result, "plan").conflicts or 0)
    result = upgrade(0, "--on-conflict", "stop") -- a fresh installation: nothing to ask, or to do
    assert.equal("nothing_to_do", result.last.status)
  end)

  it("makes a second tree beside the installed one (b18)", function()
    upgrade(0)
    assert.equal("guide 2\n", tiny.read(s, "standards/universal/ai-assistant/guide.md"))
    assert.is_nil(lfs.attributes(s.target .. "/standards/ai-assistant"))
    assert.is_nil(lfs.attributes(s.target .. "/universal"))
  end)

  it("skips files of other endings, the server, and what was removed upstream (b19)", function()
    upgrade(0)
    assert.equal("gate: 2\n", tiny.read(s, "workflows/flow/gate-definition.yaml"))
    assert.equal("# second release\n", tiny.read(s, "mcp_server/__init__.py"))
    assert.is_nil(lfs.attributes(s.target .. "/standards/universal/testing/retired.md"))
  end)

  it("says it is complete while a conflict is open (b20)", function()
    tiny.write(s, tiny.GUIDE, "guide, but mine\n")
    local before = tiny.snapshot(s)
    local result = upgrade(4, "--on-conflict", "stop")
    assert.not_equal("completed", result.last.status)
    assert.same(before, tiny.snapshot(s))
  end)

  it("puts backups into backups, more with each upgrade (b21)", function()
    local sizes = {}
    for i = 1, 5 do
      tiny.commit(s, { ["universal/standards/ai-assistant/guide.md"] = "guide " .. i + 2 .. "\n",
        ["VERSION.txt"] = "2.0." .. i .. "\n" })
      upgrade(0, "--keep-backups", "2")
      sizes[i] = assert(core.tree.size(s.target .. "/.backups")).bytes
    end
    assert.equal(2, #tiny.names(s, ".backups"))
    assert.is_true(sizes[5] < sizes[3] * 1.1, table.concat(sizes, " "))
  end)

  it("truncates a live file, or writes through a link (b22)", function()
    helper.write(s.root .. "/outside.md", "outside\n")
    shell('cd "$0/project/$1" && ln "$2" "$0/second-name" && cd standards/universal/testing && '
      .. 'rm retired.md && ln -s "$0/outside.md" retired.md', tiny.NAME, tiny.GUIDE)
    upgrade(0, "--on-conflict", "theirs")
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    assert.equal("guide 1\n", helper.read(s.root .. "/second-name")) -- the old file, whole
    assert.equal("outside\n", helper.read(s.root .. "/outside.md"))
  end)

  it("overwrites an edit made between the plan and the switch (b24)", function()
    local path = s.target .. "/" .. tiny.GUIDE
    local result = tiny.patched_upgrade(s, EDIT_BEFORE_PHASE_2:format(path))
    assert.equal(1, result.code, result.stderr)
    assert.truthy(tiny.event(result, "phase_failed").message:find("guide.md", 1, true))
    assert.equal("what a person typed\n", tiny.read(s, tiny.GUIDE))
    own_files_are_there()
  end)

  it("takes a torn state for no upgrade at all (b27)", function()
    tiny.patched_upgrade(s, 'require("praxlua.server").restart_server = die')
    local id = next(tiny.sessions(s))
    local path = s.target .. "/.cache/state/" .. id .. ".json"
    local whole = helper.read(path)
    for _, size in ipairs({ 0, 1, #whole // 2, #whole - 2 }) do
      helper.write(path, whole:sub(1, size))
      assert.truthy(tiny.said(tiny.run(s, { "status" })):find(id, 1, true))
      assert.truthy(upgrade(3).last.next:find("praxlua rollback " .. id, 1, true))
    end
    run(0, "rollback")
    assert.equal("guide 1\n", tiny.read(s, tiny.GUIDE))
    own_files_are_there()
  end)

  it("lets a reader see half a state (b27)", function()
    local run_ = tiny.start(s)
    local seen, torn = 0, 0
    repeat
      for _, name in ipairs(tiny.names(s, ".cache/state")) do
        local data = helper.read(s.target .. "/.cache/state/" .. name)
        if data and name:find("%.json$") and name:sub(1, 1) ~= "." then
          seen = seen + 1
          if not json.decode(data) then torn = torn + 1 end
        end
      end
      local process = core.system.process(run_.pid)
    until not process or process.state == "Z"
    tiny.finish(run_)
    assert.is_true(seen > 10, "only " .. seen .. " looks")
    assert.equal(0, torn)
  end)

  if MOUNTS then
    it("finds enough space before it begins and too little later (b29)", function()
      local codes = {}
      for room = 0, 20 do
        tiny.reset(s)
        local wrap = { "unshare", MOUNTS, "sh", "-euc", ON_SMALL_DISK, s.project, tostring(room) }
        local result = tiny.upgrade(s, {}, { directory = "/", wrap = wrap })
        codes[result.code] = (codes[result.code] or 0) + 1
        assert(result.code == 0 or result.code == 3, result.code .. ": " .. result.stderr)
      end
      assert.is_true((codes[0] or 0) > 2 and (codes[3] or 0) > 2)
    end)
  end

  it("deletes a person's own workflow among the shipped ones (b32)", function()
    upgrade(0)
    own_files_are_there()
  end)

  it("calls a backup verified that holds nothing (b46)", function()
    local result = tiny.patched(s, [[
      local create = core.archive.create
      core.archive.create = function(path, root, paths, options)
        local packed, message, code = create(path, root, { paths[1] }, options)
        return packed, message, code
      end
    ]], { "backup", "create" })
    assert.equal(1, result.code, result.stderr)
    assert.same({}, tiny.names(s, ".backups"))
  end)
end)
