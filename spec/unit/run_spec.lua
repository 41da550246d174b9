local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local lfs = require("lfs")
local run = require("praxlua.run")
local seal = require("praxlua.seal")
local state = require("praxlua.state")

local NAME = run.TARGET_NAME

local function mkdir(path)
  helper.write(path .. "/.made", "")
  assert(os.remove(path .. "/.made"))
  return path
end

-- Calls find_target as from another working directory.
local function find_from(directory, given)
  local here = lfs.currentdir()
  assert(lfs.chdir(directory))
  local results = table.pack(pcall(run.find_target, given))
  assert(lfs.chdir(here))
  assert(results[1], results[2])
  return results[2], results[3]
end

local function quiet() return { emit = function() end } end

-- A run on a new empty installation.
local function open(options)
  local target = mkdir(helper.tempdir() .. "/project/" .. NAME)
  local r = assert(run.open({ target = target, table.unpack(options or {}) }, quiet()))
  return r, target
end

describe("run", function()
  after_each(helper.clean)

  describe("find_target", function()
    local root

    before_each(function() root = core.file.realpath(helper.tempdir()) end)

    it("finds the installation in the working directory", function()
      local target = mkdir(root .. "/" .. NAME)
      assert.equal(target, (find_from(root)))
    end)

    it("finds the nearest one above", function()
      mkdir(root .. "/" .. NAME)
      local nearest = mkdir(root .. "/a/" .. NAME)
      assert.equal(nearest, (find_from(mkdir(root .. "/a/b/c"))))
    end)

    it("finds one by its older name, where it is one", function()
      local older = mkdir(root .. "/a/" .. run.OLDER_NAME)
      local target, refusal = find_from(mkdir(root .. "/a/b"))
      assert.is_nil(target)
      assert.matches("/a/.agent-os is no installation of it", refusal.message, 1, true)
      local above = mkdir(root .. "/" .. NAME)
      assert.equal(above, (find_from(root .. "/a/b")))
      helper.write(older .. "/standards/universal/a.md", "")
      assert.equal(older, (find_from(root .. "/a/b")))
      local present = mkdir(root .. "/a/" .. NAME)
      assert.equal(present, (find_from(root .. "/a/b")))
    end)

    it("finds it from inside of itself", function()
      local target = mkdir(root .. "/" .. NAME)
      assert.equal(target, (find_from(mkdir(target .. "/standards"))))
    end)

    it("refuses when there is none, and says how to name one", function()
      local target, refusal = find_from(root)
      assert.is_nil(target)
      assert.equal(3, refusal.exit_code)
      assert.equal("refused", refusal.status)
      assert.truthy(refusal.next:find("--target", 1, true))
    end)

    it("takes the one that is named, made absolute, with or without a slash at its end", function()
      local target = mkdir(root .. "/other")
      for _, given in ipairs({ target, target .. "/", target .. "///", "other", "./other/" }) do
        assert.equal(target, (find_from(root, given)))
      end
    end)

    it("refuses one that is not there, naming it with its control characters visible", function()
      for _, given in ipairs({ root .. "/gone", "", root .. "/go\27[31mne" }) do
        local target, refusal = find_from(root, given)
        assert.is_nil(target)
        assert.equal(3, refusal.exit_code)
        assert.is_nil(refusal.message:find("%c"))
        assert.truthy(refusal.next:find("--target", 1, true))
      end
    end)

    it("refuses a file and a link in its place", function()
      helper.write(root .. "/file", "")
      mkdir(root .. "/real")
      assert(lfs.link(root .. "/real", root .. "/link", true))
      local _, refusal = find_from(root, "file")
      assert.truthy(refusal.message:find("is a file", 1, true))
      for _, given in ipairs({ "link", "link/" }) do
        _, refusal = find_from(root, given)
        assert.equal(3, refusal.exit_code)
        assert.truthy(refusal.message:find("is a link", 1, true))
      end
    end)

    it("never goes past a file or a link of that name to another project's", function()
      mkdir(root .. "/" .. NAME)
      mkdir(root .. "/elsewhere")
      local project = mkdir(root .. "/project")
      assert(lfs.link(root .. "/elsewhere", project .. "/" .. NAME, true))
      local target, refusal = find_from(project)
      assert.is_nil(target)
      assert.truthy(refusal.message:find(project .. "/" .. NAME .. " is a link", 1, true))
      local other = mkdir(root .. "/other")
      helper.write(other .. "/" .. NAME, "")
      target, refusal = find_from(other)
      assert.is_nil(target)
      assert.truthy(refusal.message:find("is a file", 1, true))
    end)

    it("refuses the root of the file system", function()
      local target, refusal = run.find_target("/")
      assert.is_nil(target)
      assert.equal(3, refusal.exit_code)
    end)

    it("refuses a working directory that was removed", function()
      local gone = mkdir(root .. "/gone")
      local here = lfs.currentdir()
      assert(lfs.chdir(gone))
      assert(lfs.rmdir(gone))
      local target, refusal = run.find_target()
      assert(lfs.chdir(here))
      assert.is_nil(target)
      assert.equal(3, refusal.exit_code)
    end)

    it("finds a project whose name is not UTF-8", function()
      local target = mkdir(root .. "/caf\xe9/" .. NAME)
      assert.equal(target, (find_from(root .. "/caf\xe9")))
    end)
  end)

  describe("open", function()
    it("locks the target until close, and writes nothing", function()
      local r, target = open()
      assert.is_true(core.lock.test(target))
      assert.equal(target:match("^(.*)/"), r.project)
      assert.equal(NAME, r.target_name)
      assert.same({}, assert(core.tree.list(target)))
      run.close(r)
      assert.is_false(core.lock.test(target))
    end)

    it("refuses with 6 and names the live session that holds the target", function()
      local r, target = open()
      local session = assert(state.create_session(target, nil, nil, { owner = run.owner() }))
      -- A text that an earlier run left behind must not be taken for the holder's.
      helper.write(target .. "/.upgrade-lock",
        json.encode({ session_id = "stale", pid = 2 ^ 22 + 5, host = core.system.hostname() }))
      local other, refusal = run.open({ target = target }, quiet())
      run.close(r)
      assert.is_nil(other)
      assert.equal(6, refusal.exit_code)
      assert.equal("busy", refusal.status)
      assert.truthy(refusal.message:find(session.session_id, 1, true), refusal.message)
      assert.truthy(refusal.message:find("process " .. core.system.pid(), 1, true))
      assert.is_nil(refusal.message:find("stale", 1, true))
      assert.truthy(refusal.next:find("praxlua status", 1, true))
    end)

    it("names the holder by the lock's text where no session tells", function()
      local r, target = open()
      helper.write(target .. "/.upgrade-lock", seal.encode({
        session_id = "S", pid = core.system.pid(), host = core.system.hostname(),
        started_at = "2025-10-08T10:30:00Z",
      }))
      local _, refusal = run.open({ target = target }, quiet())
      run.close(r)
      assert.truthy(refusal.message:find("session S, process " .. core.system.pid(), 1, true),
        refusal.message)
    end)

    it("says so when nobody tells who holds it, whatever lies in the state files", function()
      local r, target = open()
      local elsewhere = { pid = 1, start_time = 2, boot_id = "z" }
      for _, owner in ipairs({ "nobody", { pid = "x" }, elsewhere }) do
        assert(state.create_session(target, nil, nil, { owner = owner }))
      end
      helper.write(target .. "/.upgrade-lock", "[1, 2")
      local _, refusal = run.open({ target = target }, quiet())
      run.close(r)
      assert.equal(6, refusal.exit_code)
      local words = "works on this installation: process " .. core.system.pid()
      assert.truthy(refusal.message:find(words, 1, true), refusal.message)
    end)

    it("says so when not even the kernel tells", function()
      local r, target = open()
      local holder = core.lock.holder
      finally(function() core.lock.holder = holder end)
      core.lock.holder = function() return nil, "nobody is named", "ESRCH" end
      local _, refusal = run.open({ target = target }, quiet())
      run.close(r)
      assert.truthy(refusal.message:find("it cannot be told which", 1, true), refusal.message)
    end)

    it("refuses a target that it cannot write or lock", function()
      local target = mkdir(helper.tempdir() .. "/project/" .. NAME)
      local access, acquire = core.system.access, core.lock.acquire
      core.system.access = function() return false end
      local _, refusal = run.open({ target = target }, quiet())
      core.system.access = access
      assert.equal(3, refusal.exit_code)
      assert.truthy(refusal.next:find("read-only", 1, true))
      core.lock.acquire = function() return nil, "on purpose", "ENOLCK" end
      _, refusal = run.open({ target = target }, quiet())
      core.lock.acquire = acquire
      assert.equal(3, refusal.exit_code)
      assert.truthy(refusal.message:find("on purpose", 1, true))
    end)

    it("refuses links and files where its own folders are, and lets the lock go", function()
      for _, name in ipairs({ ".cache", ".backups", ".upgrade" }) do
        local target = mkdir(helper.tempdir() .. "/project/" .. NAME)
        assert(lfs.link(helper.tempdir(), target .. "/" .. name, true))
        local r, refusal = run.open({ target = target }, quiet())
        assert.is_nil(r)
        assert.equal(3, refusal.exit_code)
        assert.truthy(refusal.message:find(target .. "/" .. name, 1, true))
        assert.is_false(core.lock.test(target))
      end
    end)

    it("deletes folders of ended transactions and keeps those of open ones", function()
      local target = mkdir(helper.tempdir() .. "/project/" .. NAME)
      local open_one = core.system.uuid()
      helper.tree(target .. "/.upgrade", {
        [".done-" .. core.system.uuid() .. "/journal"] = "x",
        [open_one .. "/journal"] = "x",
      })
      local r = assert(run.open({ target = target }, quiet()))
      run.close(r)
      local names = {}
      for name in lfs.dir(target .. "/.upgrade") do
        if not name:find("^%.%.?$") then names[#names + 1] = name end
      end
      assert.same({ open_one }, names)
    end)
  end)

  describe("open", function()
    it("deletes the lock's text of a session that is over, and no other", function()
      local target = mkdir(helper.tempdir() .. "/project/" .. NAME)
      for _, folder in ipairs({ "", "/.upgrade/" .. core.system.uuid() }) do
        helper.write(target .. folder .. "/.upgrade-lock", "x")
        helper.write(target .. "/.upgrade-lock", "x")
        run.close(assert(run.open({ target = target }, quiet())))
        assert.equal(folder ~= "" and "x" or nil, helper.read(target .. "/.upgrade-lock"))
      end
    end)

    it("deletes what killed runs left half written, and nothing else", function()
      local target = mkdir(helper.tempdir() .. "/project/" .. NAME)
      local open_one, dead = core.system.uuid(), core.system.uuid()
      local goes = {
        "..upgrade-lock.px-12-3", ".cache/.upgrade-summary-1.md.px-12-3",
        ".cache/state/." .. dead .. ".json.px-9-1",
        ".backups/.partial-" .. dead .. "/backup.tar.zst",
        ".backups/.removing-2025-01-01-000000/MANIFEST.json",
      }
      local stays = {
        ".notes.px-1-2", ".cache/notes.px-1-2", ".cache/.notes", ".cache/state/" .. dead .. ".json",
        ".backups/.partial-" .. open_one .. "/backup.tar.zst", ".backups/note",
        ".upgrade/" .. open_one .. "/journal",
      }
      for _, path in ipairs(goes) do helper.write(target .. "/" .. path, "x") end
      for _, path in ipairs(stays) do helper.write(target .. "/" .. path, "x") end
      run.close(assert(run.open({ target = target }, quiet())))
      for _, path in ipairs(goes) do assert.is_nil(helper.read(target .. "/" .. path), path) end
      for _, path in ipairs(stays) do assert.equal("x", helper.read(target .. "/" .. path)) end
      assert.same({ ".partial-" .. open_one, "note" }, (function()
        local names = {}
        for name in lfs.dir(target .. "/.backups") do
          if not name:find("^%.%.?$") then names[#names + 1] = name end
        end
        table.sort(names)
        return names
      end)())
    end)
  end)

  describe("unfinished", function()
    local target

    before_each(function() target = mkdir(helper.tempdir() .. "/project/" .. NAME) end)

    it("lists sessions that did not end, with their folders' or their files' word alone", function()
      local both = assert(state.create_session(target))
      mkdir(target .. "/.upgrade/" .. both.session_id)
      local file_only = assert(state.create_session(target))
      local folder_only = core.system.uuid()
      mkdir(target .. "/.upgrade/" .. folder_only)
      local over = assert(state.create_session(target))
      over.status = "completed"
      assert(state.save_state(target, over))
      mkdir(target .. "/.upgrade/scratch")
      local found = {}
      for _, entry in ipairs(run.unfinished(target)) do found[entry.session_id] = entry end
      assert.is_true(found[both.session_id].changes)
      assert.is_false(found[file_only.session_id].changes)
      assert.is_true(found[folder_only].changes)
      found[both.session_id], found[file_only.session_id], found[folder_only] = nil, nil, nil
      assert.same({}, found)
    end)

    it("lists a damaged state file only where a folder shows that changes are open", function()
      local open_one, nothing = core.system.uuid(), core.system.uuid()
      helper.write(target .. "/.cache/state/" .. open_one .. ".json", "{")
      helper.write(target .. "/.cache/state/" .. nothing .. ".json", "{")
      mkdir(target .. "/.upgrade/" .. open_one)
      local found = run.unfinished(target)
      assert.equal(1, #found)
      assert.equal(open_one, found[1].session_id)
      assert.truthy(found[1].problem)
    end)
  end)

  describe("forget", function()
    it("leaves nothing of a session that changed nothing", function()
      local r, target = open()
      local session = assert(state.create_session(target))
      run.attach(r, session)
      assert(run.open_transaction(r, true))
      helper.write(target .. "/.backups/.partial-" .. session.session_id .. "/x", "x")
      helper.write(target .. "/.upgrade-lock", "{}")
      run.forget(r)
      run.close(r)
      assert.same({}, assert(core.tree.list(target)))
    end)

    it("does nothing in a dry run", function()
      local r, target = open()
      r.dry_run = true
      run.attach(r, assert(state.create_session(target)))
      run.forget(r)
      run.close(r)
      assert.equal(1, #run.unfinished(target))
    end)
  end)

  describe("load", function()
    local r, target, session

    before_each(function()
      r, target = open()
      session = assert(state.create_session(target, nil, nil, { source_path = "/s" }))
      run.attach(r, session)
      assert(run.open_transaction(r, true))
      assert(r.ctx.change.put("note.txt", { data = "new\n" }))
      assert(r.ctx.change.apply())
    end)
    after_each(function() run.close(r) end)

    -- As the next process would find it.
    local function again()
      if r.transaction then r.transaction:close() end
      r.transaction, r.session, r.ctx = nil, nil, nil
    end

    local function checkpoint()
      session.metadata.mark = "from the journal"
      assert(r.transaction:checkpoint(json.encode(state.session.to_dict(session))))
    end

    it("takes the journal's checkpoint before the state file", function()
      checkpoint()
      again()
      assert.is_true(run.load(r, session.session_id))
      assert.equal("from the journal", r.session.metadata.mark)
      assert.equal(1, #r.transaction:changes())
      assert.is_table(r.ctx.change)
    end)

    it("needs no state file", function()
      checkpoint()
      again()
      helper.write(target .. "/.cache/state/" .. session.session_id .. ".json", "\0\1")
      assert.is_true(run.load(r, session.session_id))
      assert.equal("/s", r.session.metadata.source_path)
      again()
      assert(os.remove(target .. "/.cache/state/" .. session.session_id .. ".json"))
      assert.is_true(run.load(r, session.session_id))
      assert.equal("/s", r.session.metadata.source_path)
    end)

    it("takes the state file where the journal holds no checkpoint yet", function()
      again()
      assert.is_true(run.load(r, session.session_id))
      assert.equal("/s", r.session.metadata.source_path)
      assert.equal(1, #r.transaction:changes())
    end)

    it("opens a transaction whose session is known to nobody", function()
      again()
      assert(os.remove(target .. "/.cache/state/" .. session.session_id .. ".json"))
      assert.is_true(run.load(r, session.session_id))
      assert.is_nil(r.session.metadata.source_path)
      assert.equal(1, #r.transaction:changes())
    end)

    it("refuses a damaged journal, and keeps every file of it", function()
      checkpoint()
      again()
      local journal = r.target .. "/.upgrade/" .. session.session_id .. "/journal"
      local data = helper.read(journal)
      local damaged = data:sub(1, 20) .. string.char(data:byte(21) ~ 255) .. data:sub(22)
      helper.write(journal, damaged)
      helper.write(journal .. ".copy", damaged)
      local ok, message, code = run.load(r, session.session_id)
      assert.is_nil(ok)
      assert.equal("EBADJOURNAL", code)
      assert.truthy(message:find("journal", 1, true))
    end)

    it("takes a journal that is gone or empty for damaged where there is something to undo",
      function()
        checkpoint()
        assert(r.ctx.change.put("note.txt", { data = "newer\n" }))
        assert(r.ctx.change.apply())
        again()
        local journal = r.target .. "/.upgrade/" .. session.session_id .. "/journal"
        helper.write(journal, "")
        helper.write(journal .. ".copy", "")
        local ok, _, code = run.load(r, session.session_id)
        assert.is_nil(ok)
        assert.equal("EBADJOURNAL", code)
        again()
        assert(os.remove(journal))
        assert(os.remove(journal .. ".copy"))
        ok, _, code = run.load(r, session.session_id)
        assert.is_nil(ok)
        assert.equal("EBADJOURNAL", code)
      end)

    it("refuses a journal that lost its end, and a checkpoint it cannot read", function()
      session.metadata.journal_records = r.transaction:sequence() + 1
      assert(state.save_state(target, session))
      again()
      local ok, message, code = run.load(r, session.session_id)
      assert.is_nil(ok)
      assert.equal("EBADJOURNAL", code)
      assert.truthy(message:find("cut short", 1, true), message)
      session.metadata.journal_records = nil
      assert(state.save_state(target, session))
      for note, expected in pairs({ ["{"] = "EBADJOURNAL", ["[]"] = "EBADJOURNAL",
        ['{"format_version": 3}'] = "EFORMAT" }) do
        again()
        assert.is_true(run.load(r, session.session_id))
        assert(r.transaction:checkpoint(note))
        again()
        ok, message, code = run.load(r, session.session_id)
        assert.is_nil(ok)
        assert.equal(expected, code, message)
        assert(r.transaction:rewind())
        assert(r.transaction:checkpoint(json.encode(state.session.to_dict(session))))
      end
    end)

    it("refuses what is no session id", function()
      again()
      for _, id in ipairs({ "", ".", "..", "../..", "scratch", session.session_id .. "/stage" }) do
        local ok, _, code = run.load(r, id)
        assert.is_nil(ok)
        assert.equal("EINVAL", code, id)
      end
    end)

    it("refuses a session that is nowhere", function()
      again()
      local ok, _, code = run.load(r, core.system.uuid())
      assert.is_nil(ok)
      assert.equal("ESTATENOTFOUND", code)
    end)
  end)
end)
