--- Evidence that the host attests: a phase cannot claim what was not done for it.
local evidence = require("praxlua.evidence")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local phases = require("praxlua.phases")
local receipts = require("praxlua.receipts")
local schema = require("praxlua.schema")
local tiny = require("spec.support.tiny")

local fails = helper.fails

describe("Attested fields", function()
  local model = assert(evidence.custom({
    written = schema.receipts_of("target.write"),
    proof = schema.answer_of("backup.verify_backup_integrity"),
    path = schema.answer_of("backup.create_backup", "backup_path"),
    mine = schema.integer(),
  }))

  local function attest(found, noted)
    return receipts.attest(evidence.attested(model), found, noted)
  end

  it("are filled by the host: counts of what went well, last answers, and null", function()
    assert.same({ mine = 1, written = 0, proof = json.null, path = json.null },
      attest({ mine = 1 }, {}))
    local noted = {
      { verb = "target.write", ok = true, answer = true }, { verb = "target.write", ok = false },
      { verb = "target.write", ok = true, answer = true },
      { verb = "backup.create_backup", ok = true, answer = { backup_path = "a" } },
      { verb = "backup.create_backup", ok = true, answer = { backup_path = "b" } },
      { verb = "backup.verify_backup_integrity", ok = true, answer = false },
    }
    local found = attest({ mine = 1 }, noted)
    assert.same({ mine = 1, written = 2, proof = false, path = "b" }, found)
    assert.is_true(evidence.check(model, found))
    noted[#noted + 1] = { verb = "backup.create_backup", ok = false }
    assert.equal(json.null, attest({}, noted).path, "what failed last proves nothing")
  end)

  it("may be returned by the phase when they are the same, tables too", function()
    local answer = schema.answer_of("validation.check_backups")
    local noted = { { verb = "validation.check_backups", ok = true,
      answer = { n = 1, none = json.null, list = { "a", { b = 2.5 } } } } }
    local function given(value)
      return receipts.attest({ x = answer }, { x = value }, noted)
    end
    assert.is_table(given({ n = 1, list = { "a", { b = 2.5 } } }))
    for _, other in ipairs({ { n = 1, list = { "a", { b = 2.5, c = 1 } } }, { n = 1 }, true,
      { n = 1, list = { "a", { b = 2.5 } }, more = 1 }, "a table" }) do
      fails("ERECEIPT", given(other))
    end
  end)

  it("that say otherwise are refused", function()
    for field, value in pairs({ written = 1, proof = true, path = "x" }) do
      local message = fails("ERECEIPT", attest({ mine = 1, [field] = value }, {}))
      assert.truthy(message:find("the evidence says " .. field, 1, true), message)
    end
  end)

  it("keep their null in the JSON form, and need no reason beside it", function()
    local dict = assert(evidence.to_dict(model, attest({ mine = 1 }, {})))
    assert.equal(json.null, dict.proof)
    assert.truthy(json.encode(dict):find('"proof":null', 1, true))
    assert.equal("integer", schema.json_schema(model).properties.written.type)
    assert.same({ "mine", "written" }, schema.json_schema(model).required)
  end)

  it("stand directly in the evidence, and name a verb", function()
    for _, wrong in ipairs({
      { x = schema.array(schema.receipts_of("target.write")) },
      { x = schema.object({ y = schema.answer_of("time") }) },
      { x = { kind = "receipts" } }, { x = { kind = "answer", verb = 5 } },
      { x = { kind = "answer", verb = "time", field = {} } },
      { x = { kind = "receipts", verb = "time", min = 1 } },
    }) do
      fails("ESCHEMA", evidence.custom(wrong))
    end
  end)

  it("are about verbs the phase has a grant for", function()
    local function read(fields)
      return phases.read("x.lua", "return { title = 'x', run = function() end, " .. fields .. " }")
    end
    assert.is_table(read("grants = { target = 'write' }, "
      .. "evidence = { n = receipts_of('target.write'), t = answer_of('time') }"))
    local message = fails("EPHASE", read("evidence = { n = receipts_of('target.write') }"))
    assert.truthy(message:find("evidence.n: the phase has no grant for host.target.write", 1, true))
    message = fails("EPHASE", read("grants = { services = { 'backup' } }, "
      .. "evidence = { n = answer_of('backup.verify_backup_integrty') }"))
    assert.truthy(message:find("did you mean 'backup.verify_backup_integrity'?", 1, true))
  end)
end)

describe("A phase in an upgrade", function()
  local s

  before_each(function() s = tiny.new() end)
  after_each(helper.clean)

  local function upgrade(body)
    local folder = tiny.phase(s, "claims", [[
      local phase = { title = "Claims", after = "content-upgrade",
        grants = { target = "write", services = { "backup" } },
        evidence = { written = receipts_of("target.write"),
          proof = answer_of("backup.verify_backup_integrity"),
          latest = answer_of("backup.list_backups") } }
      function phase.run(host) ]] .. body .. [[ end
      return phase
    ]])
    return tiny.upgrade(s, { "--phases", folder })
  end

  it("has what it did attested by the host", function()
    local result = upgrade([[
      need(host.target.write("a.txt", "a"))
      host.target.write("../b.txt", "b")
      local made = need(host.backup.list_backups())[1]
      need(host.backup.verify_backup_integrity(made.name))
      return { written = 1 }
    ]])
    assert.equal(0, result.code, result.stderr)
    local found = tiny.event(result, "phase_completed", "claims").evidence
    assert.equal(1, found.written)
    assert.is_true(found.proof == true or type(found.proof) == "table")
    assert.equal(1, #found.latest)
    assert.same(found, tiny.sessions(s)[result.last.session_id].phase_artifacts.claims)
  end)

  it("cannot claim what it did not do, and is rolled back when it tries", function()
    local before = tiny.snapshot(s)
    for _, body in ipairs({
      'host.target.write("a.txt", "a") return { written = 2 }',
      "return { proof = true }",
      'host.backup.verify_backup_integrity("none") return { proof = true }',
      "return { latest = { { name = 'x' } } }",
      "return setmetatable({}, { __index = { written = 1 }, __pairs = function() "
        .. "return next, { written = 1 } end, __len = function() return 1 end }), 1",
    }) do
      local result = upgrade(body)
      if body:find("setmetatable", 1, true) then -- what crosses is the table itself
        assert.equal(0, result.code, result.stderr)
        assert.equal(0, tiny.event(result, "phase_completed", "claims").evidence.written)
      else
        assert.equal(1, result.code, body)
        local failed = tiny.event(result, "phase_failed", "claims")
        assert.equal("evidence:receipt", failed.verdict, failed.message)
        assert.same(before, tiny.snapshot(s))
      end
    end
  end)
end)
