local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local seal = require("praxlua.seal")
local state = require("praxlua.state")

local UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"
local ID = "3f2b8c1e-9a4d-4e21-8b7c-0123456789ab"

describe("state", function()
  local target

  before_each(function() target = helper.tempdir() end)
  after_each(helper.clean)

  local function path_of(id) return target .. "/.cache/state/" .. id .. ".json" end

  local function previous_of(id) return path_of(id) .. ".previous" end

  local function written(id) return assert(seal.open(helper.read(path_of(id)))) end

  -- Another content under a good seal.
  local function damage(id, change)
    local dict = written(id)
    change(dict)
    helper.write(path_of(id), seal.encode(dict, 1))
  end

  -- A session that was written twice: `waiting` is in the newest file, `in_progress` before it.
  local function two_generations()
    local session = assert(state.create_session(target))
    session.status = "waiting"
    assert(state.save_state(target, session))
    return session.session_id
  end

  local function flip(path, byte, bit)
    local data = helper.read(path)
    helper.write(path, data:sub(1, byte - 1) .. string.char(data:byte(byte) ~ (1 << bit))
      .. data:sub(byte + 1))
  end

  local function refused(code, ...)
    local got, message, got_code = state.load_state(target, ...)
    assert.is_nil(got)
    assert.equal(code, got_code, message)
    return message
  end

  describe("create_session", function()
    it("gives a session with a UUID of its own and writes it", function()
      local a = assert(state.create_session(target, nil, nil, { source_path = "/src" }))
      local b = assert(state.create_session(target))
      assert.truthy(a.session_id:find(UUID))
      assert.are_not.equal(a.session_id, b.session_id)
      local dict = written(a.session_id)
      assert.equal(2, dict.format_version)
      assert.equal("praxis_os_upgrade_v1", dict.workflow_type)
      assert.equal("mcp_server", dict.target_file)
      assert.equal(0, dict.current_phase)
      assert.equal("in_progress", dict.status)
      assert.equal("/src", dict.metadata.source_path)
      assert.truthy(dict.started_at:find("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$"))
      assert.truthy(helper.read(path_of(a.session_id)):find('"completed_phases": %[%]'))
    end)

    it("says where it failed when it cannot write", function()
      helper.write(target .. "/.cache", "a file in the way")
      local session, message, code = state.create_session(target)
      assert.is_nil(session)
      assert.truthy(message:find("saving the session", 1, true))
      assert.is_string(code)
    end)
  end)

  describe("save_state and load_state", function()
    it("round-trip a session with artifacts of every type", function()
      local session = assert(state.create_session(target))
      session.phase_artifacts["rename-config"] = {
        name = "caf\xe9", count = 1759919400123456789, none = json.null, list = json.array(),
        none_reason = "not_run", nested = { deep = { true, false, 1.5 } },
      }
      session.status = "waiting"
      assert(state.save_state(target, session))
      assert.same(session, state.load_state(target, session.session_id))
    end)

    it("leave two generations behind, and nothing else", function()
      local session = assert(state.create_session(target))
      for _ = 1, 3 do assert(state.save_state(target, session)) end
      local entries = assert(core.tree.list(target .. "/.cache/state"))
      assert.equal(2, #entries)
      assert.equal(4, (select(2, seal.open(helper.read(path_of(session.session_id))))))
      assert.equal(3, (select(2, seal.open(helper.read(previous_of(session.session_id))))))
    end)

    it("bring updated_at up to date and keep started_at", function()
      local session = assert(state.create_session(target))
      session.started_at = "2020-01-01T00:00:00Z"
      session.updated_at = session.started_at
      assert(state.save_state(target, session))
      assert.equal("2020-01-01T00:00:00Z", session.started_at)
      assert.is_true(session.updated_at > "2025")
      assert.equal(session.updated_at, written(session.session_id).updated_at)
    end)

    it("keep the old file when the new one would not be readable", function()
      local session = assert(state.create_session(target))
      local before = helper.read(path_of(session.session_id))
      session.status = "splendid"
      local ok, message, code = state.save_state(target, session)
      assert.is_nil(ok)
      assert.equal("ESTATECORRUPTED", code)
      assert.truthy(message:find("status", 1, true))
      session.status = "waiting"
      session.metadata = { f = { print } }
      ok, message, code = state.save_state(target, session)
      assert.is_nil(ok)
      assert.equal("ESTATECORRUPTED", code)
      assert.truthy(message:find("function", 1, true))
      assert.equal(before, helper.read(path_of(session.session_id)))
    end)
  end)

  describe("a session id", function()
    it("that is not a UUID never becomes a path", function()
      helper.write(target .. "/.cache/victim.json", "{}")
      for _, id in ipairs({
        "../victim", "", "x", ID .. "/", ID .. "\0", ID .. "\n", "../../etc/passwd",
        ID:gsub("-", "_"), ID:sub(1, -2), ID .. "a", ID:sub(1, -2) .. "g",
      }) do
        refused("EINVAL", id)
        local ok, _, code = state.save_state(target, state.session.new({ session_id = id }))
        assert.is_nil(ok)
        assert.equal("EINVAL", code)
      end
      refused("EINVAL", nil)
      refused("EINVAL", 12)
      assert.equal("{}", helper.read(target .. "/.cache/victim.json"))
    end)

    it("is found whatever the case of its letters", function()
      local session = assert(state.create_session(target))
      assert.truthy(state.load_state(target, session.session_id:upper()))
    end)
  end)

  describe("load_state", function()
    it("tells a missing session from a damaged one", function()
      assert.truthy(refused("ESTATENOTFOUND", ID):find(ID, 1, true))
      for _, data in ipairs({ "", "{", "[]", "null", "{}", '{"session_id":', "\0\0\0\0" }) do
        helper.write(path_of(ID), data)
        assert.truthy(refused("ESTATECORRUPTED", ID):find(ID, 1, true))
      end
    end)

    it("refuses a torn file of any length", function()
      local session = assert(state.create_session(target, nil, nil, { a = { b = "c" } }))
      local whole = helper.read(path_of(session.session_id))
      for length = 0, #whole - 1 do
        helper.write(path_of(session.session_id), whole:sub(1, length))
        refused("ESTATECORRUPTED", session.session_id)
      end
      helper.write(path_of(session.session_id), whole)
      assert.truthy(state.load_state(target, session.session_id))
    end)

    it("refuses a file with any bit flipped", function()
      local session = assert(state.create_session(target))
      local path = path_of(session.session_id)
      for byte = 1, #helper.read(path) do
        for bit = 0, 7 do
          flip(path, byte, bit)
          refused("ESTATECORRUPTED", session.session_id)
          if bit == byte % 8 then
            assert.equal("ESTATECORRUPTED", state.list_active_sessions(target)[1].code)
          end
          flip(path, byte, bit)
        end
      end
      assert.truthy(state.load_state(target, session.session_id))
    end)

    it("goes back to the generation before when the newest is damaged, and says so", function()
      local id = two_generations()
      local whole = helper.read(path_of(id))
      for _, data in ipairs({ "", whole:sub(1, 100), (whole:gsub("waiting", "waitinG")) }) do
        helper.write(path_of(id), data)
        local session, warning = state.load_state(target, id)
        assert.equal("in_progress", session.status)
        assert.truthy(warning:find(path_of(id), 1, true))
        assert.truthy(warning:find("the generation before it counts", 1, true))
      end
      assert.equal(id, state.list_active_sessions(target)[1].session_id)
    end)

    it("says nothing of a generation before that is damaged or gone", function()
      local id = two_generations()
      flip(previous_of(id), 100, 0)
      local session, warning = state.load_state(target, id)
      assert.equal("waiting", session.status)
      assert.is_nil(warning)
      assert(os.remove(previous_of(id)))
      assert.equal("waiting", state.load_state(target, id).status)
    end)

    it("reads the generation before where the newest is not there", function()
      local id = two_generations()
      assert(os.remove(path_of(id)))
      local session, warning = state.load_state(target, id)
      assert.equal("in_progress", session.status)
      assert.is_nil(warning)
      assert.equal(id, state.list_active_sessions(target)[1].session_id)
      assert.same({ id }, state.list_ids(target))
    end)

    it("takes the higher sequence, whichever file it is in", function()
      local id = two_generations()
      local newest, before = helper.read(path_of(id)), helper.read(previous_of(id))
      helper.write(path_of(id), before)
      helper.write(previous_of(id), newest)
      assert.equal("waiting", state.load_state(target, id).status)
    end)

    it("refuses when both generations are damaged", function()
      local id = two_generations()
      flip(path_of(id), 100, 0)
      flip(previous_of(id), 100, 0)
      assert.truthy(refused("ESTATECORRUPTED", id):find(path_of(id), 1, true))
    end)

    it("never keeps a damaged file as the generation before", function()
      local id = two_generations()
      local session = state.load_state(target, id)
      flip(path_of(id), 100, 0)
      session.status = "rollback_failed"
      assert(state.save_state(target, session))
      assert.equal("rollback_failed", state.load_state(target, id).status)
      local before, sequence = seal.open(helper.read(previous_of(id)))
      assert.equal("in_progress", before.status)
      assert.equal(1, sequence)
      flip(path_of(id), 100, 0)
      assert.equal("in_progress", state.load_state(target, id).status)
    end)

    it("never goes back to before a session was over", function()
      local id = two_generations()
      local session = state.load_state(target, id)
      session.status = "completed"
      assert(state.save_state(target, session))
      for _, path in ipairs({ path_of(id), previous_of(id) }) do
        flip(path, 100, 0)
        assert.equal("completed", state.load_state(target, id).status)
        flip(path, 100, 0)
      end
    end)

    it("reads a file from before there were seals, and seals it from then on", function()
      local session = assert(state.create_session(target))
      local id = session.session_id
      local dict = written(id)
      dict.format_version = 1
      helper.write(path_of(id), json.encode(dict, { pretty = true }) .. "\n")
      local older, warning = state.load_state(target, id)
      session.format_version = 2
      assert.same(session, older)
      assert.is_nil(warning)
      assert(state.save_state(target, older))
      assert.equal(1, (select(2, seal.open(helper.read(path_of(id))))))
      assert.equal(1, json.decode(helper.read(previous_of(id))).format_version)
    end)

    it("tells what to do about a file that is there and cannot be read", function()
      assert(require("lfs").mkdir(target .. "/.cache"))
      assert(require("lfs").mkdir(target .. "/.cache/state"))
      assert(require("lfs").mkdir(path_of(ID)))
      local session, message, code = state.load_state(target, ID)
      assert.is_nil(session)
      assert.equal("ENOTREG", code)
      assert.truthy(message:find("move it away", 1, true))
    end)

    it("refuses a newer format, before judging what is in it", function()
      local session = assert(state.create_session(target))
      assert(state.save_state(target, session))
      damage(session.session_id, function(dict)
        dict.format_version, dict.unheard_of = 3, true
      end)
      assert.truthy(refused("EFORMAT", session.session_id):find("format 3", 1, true))
    end)

    it("refuses contents that contradict themselves", function()
      for what, change in pairs({
        completed_phases = function(d)
          d.completed_phases, d.phase_artifacts = { 0, 2 }, { ["0"] = {}, ["2"] = {} }
        end,
        phase_artifacts = function(d) d.completed_phases, d.current_phase = { 0 }, 1 end,
        current_phase = function(d) d.current_phase = 3 end,
        started_at = function(d) d.started_at = "a long time ago, indeed" end,
        session_id = function(d) d.session_id = "../victim" end,
        ["another session"] = function(d) d.session_id = ID end,
        surprise = function(d) d.surprise = 1 end,
        status = function(d) d.status = nil end,
        format_version = function(d) d.format_version = nil end,
      }) do
        local session = assert(state.create_session(target))
        damage(session.session_id, change)
        local message = refused("ESTATECORRUPTED", session.session_id)
        assert.truthy(message:find(what, 1, true), message)
      end
    end)

    it("does not take a workflow of the server for an upgrade", function()
      helper.write(path_of(ID), json.encode({ session_id = ID, workflow_type = "test_generation" }))
      refused("ESTATENOTFOUND", ID)
    end)

    it("never follows a link", function()
      local session = assert(state.create_session(target))
      local path = path_of(session.session_id)
      assert(os.rename(path, target .. "/elsewhere.json"))
      assert(require("lfs").link(target .. "/elsewhere.json", path, true))
      local got, _, code = state.load_state(target, session.session_id)
      assert.is_nil(got)
      assert.is_string(code)
      assert.are_not.equal("ESTATENOTFOUND", code)
    end)
  end)

  describe("update_phase", function()
    it("records a built-in phase, its id, its artifacts and the next phase", function()
      local session = assert(state.create_session(target))
      assert.equal(session, state.update_phase(target, session, 0, { source_path = "/src" }))
      assert.same({ 0 }, session.completed_phases)
      assert.same({ "pre-flight-checks" }, session.completed)
      assert.equal(1, session.current_phase)
      assert.equal("/src", session.phase_artifacts["0"].source_path)
      assert.same(session, state.load_state(target, session.session_id))
    end)

    it("goes through all six and stays at the last", function()
      local session = assert(state.create_session(target))
      for phase = 0, 5 do assert(state.update_phase(target, session, phase, { n = phase })) end
      assert.same({ 0, 1, 2, 3, 4, 5 }, session.completed_phases)
      assert.equal(5, session.current_phase)
      assert.same(session, state.load_state(target, session.session_id))
    end)

    it("keeps custom phases in order beside the built-in ones", function()
      local session = assert(state.create_session(target))
      assert(state.update_phase(target, session, 0, {}))
      assert(state.update_phase(target, session, "rename-config", { keys_renamed = 2 }))
      assert(state.update_phase(target, session, 1, {}, "my-backup"))
      assert.same({ 0, 1 }, session.completed_phases)
      assert.same({ "pre-flight-checks", "rename-config", "my-backup" }, session.completed)
      assert.equal(2, session.phase_artifacts["rename-config"].keys_renamed)
    end)

    it("records a phase once when it is repeated, with its latest artifacts", function()
      local session = assert(state.create_session(target))
      assert(state.update_phase(target, session, 0, { n = 1 }))
      assert(state.update_phase(target, session, 0, { n = 2 }))
      assert.same({ 0 }, session.completed_phases)
      assert.same({ "pre-flight-checks" }, session.completed)
      assert.equal(2, session.phase_artifacts["0"].n)
    end)

    it("never skips a phase", function()
      local session = assert(state.create_session(target))
      local ok, _, code = state.update_phase(target, session, 1, {})
      assert.is_nil(ok)
      assert.equal("EORDER", code)
      assert.equal(0, session.current_phase)
      assert.has_error(function() state.update_phase(target, session, 6, {}) end)
    end)

    it("changes nothing in the session when it cannot be written", function()
      local session = assert(state.create_session(target))
      assert(core.tree.remove(target .. "/.cache"))
      helper.write(target .. "/.cache", "a file in the way")
      assert.is_nil((state.update_phase(target, session, 0, {})))
      assert.equal(0, session.current_phase)
      assert.same({}, session.phase_artifacts)
    end)
  end)

  describe("list_active_sessions", function()
    it("is empty where there never was one", function()
      assert.same({}, state.list_active_sessions(target))
    end)

    it("gives those that are not over, the oldest first", function()
      local ids = {}
      for i, status in ipairs({ "waiting", "completed", "in_progress", "rolled_back", "failed",
        "rollback_failed" }) do
        local session = state.session.new({ started_at = ("2025-10-0%dT00:00:00Z"):format(9 - i) })
        session.status = status
        assert(state.save_state(target, session))
        ids[status] = session.session_id
      end
      local got = state.list_active_sessions(target)
      assert.equal(3, #got)
      assert.equal(ids.rollback_failed, got[1].session_id)
      assert.equal(ids.in_progress, got[2].session_id)
      assert.equal(ids.waiting, got[3].session_id)
      assert.is_nil(got[1].problem)
    end)

    it("reports what it cannot read instead of hiding it", function()
      local session = assert(state.create_session(target))
      helper.write(path_of(ID), '{"session_id":')
      helper.write(path_of("notes"), "not even JSON")
      local newer = assert(state.create_session(target))
      damage(newer.session_id, function(dict) dict.format_version = 9 end)
      local got = state.list_active_sessions(target)
      assert.equal(4, #got)
      assert.equal(session.session_id, got[1].session_id)
      local by_path = {}
      for i = 2, 4 do by_path[got[i].path] = got[i] end
      assert.equal("ESTATECORRUPTED", by_path[path_of(ID)].code)
      assert.equal(ID, by_path[path_of(ID)].session_id)
      assert.truthy(by_path[path_of("notes")].problem)
      assert.is_nil(by_path[path_of("notes")].session_id)
      assert.equal("EFORMAT", by_path[path_of(newer.session_id)].code)
    end)

    it("reports a file whose name is no session's", function()
      local session = assert(state.create_session(target))
      helper.write(path_of("copy"), helper.read(path_of(session.session_id)))
      local got = state.list_active_sessions(target)
      assert.equal(2, #got)
      assert.equal(path_of("copy"), got[2].path)
    end)

    it("leaves out other workflows, temporary files and what is not JSON", function()
      helper.write(path_of(ID), json.encode({ workflow_type = "test_generation", any = 1 }))
      helper.write(target .. "/.cache/state/." .. ID .. ".json.px-1-1", "{")
      helper.write(target .. "/.cache/state/.hidden.json", "{")
      helper.write(target .. "/.cache/state/README", "x")
      assert.same({}, state.list_active_sessions(target))
    end)
  end)

  describe("remove_state", function()
    it("removes both generations, and nothing where there are none", function()
      local id = two_generations()
      assert(state.remove_state(target, id))
      assert.same({}, assert(core.tree.list(target .. "/.cache/state")))
      assert(state.remove_state(target, id))
      assert.equal("EINVAL", (select(3, state.remove_state(target, "../x"))))
    end)
  end)

  describe("session", function()
    it("comes back from a note, unless the note is damaged", function()
      local session = state.session.new({ metadata = { n = 1759919400123456789 } })
      assert.same(session, state.session.from_note(assert(state.session.to_note(session))))
      local _, message, code = state.session.from_note("{")
      assert.equal("EJSON", code, message)
    end)

    it("that is too large to be read again is never written", function()
      local session = assert(state.create_session(target))
      local before = helper.read(path_of(session.session_id))
      local limit = state.MAX_BYTES
      finally(function() state.MAX_BYTES = limit end)
      state.MAX_BYTES = 65536
      session.metadata.text = ("x"):rep(state.MAX_BYTES)
      for _, write in ipairs({
        function() return state.session.to_note(session) end,
        function() return state.save_state(target, session) end,
      }) do
        local ok, message, code = write()
        assert.is_nil(ok)
        assert.equal("EFBIG", code)
        assert.truthy(message:find("can be read again", 1, true), message)
      end
      assert.equal(before, helper.read(path_of(session.session_id)))
      session.metadata.text = ("x"):rep(state.MAX_BYTES - 4096)
      assert(state.save_state(target, session))
      assert.truthy(state.load_state(target, session.session_id))
      assert.truthy(state.session.from_note(assert(state.session.to_note(session))))
    end)

    it("copies in to_dict, so that later changes stay apart", function()
      local session = state.session.new({ metadata = { options = { yes = true } } })
      local dict = assert(state.session.to_dict(session))
      session.metadata.options.yes = false
      assert.is_true(dict.metadata.options.yes)
      assert.same(dict, state.session.from_dict(json.decode(json.encode(dict))))
    end)

    it("refuses what is not one", function()
      for _, bad in ipairs({ "x", 1, json.null, {} }) do
        local session, _, code = state.session.from_dict(bad)
        assert.is_nil(session)
        assert.equal("ESTATECORRUPTED", code)
      end
    end)
  end)
end)
