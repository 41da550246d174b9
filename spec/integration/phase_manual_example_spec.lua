--- The manual example of docs/writing-phases.md, as it stands in the page: the upgrade waits for a
--- person, goes on with what the person tells, and is taken back. And a manual script of `phase
--- new`.
local helper = require("spec.support.helper")
local page = require("spec.support.page")
local tiny = require("spec.support.tiny")

-- Only where `praxlua resume` takes evidence.
local function takes_evidence()
  local root = helper.tempdir()
  require("lfs").mkdir(root .. "/runs")
  local s = { scratch = root .. "/runs", executable = tiny.executable(), project = root }
  local help = tiny.run(s, { "resume", "--help" }).stdout
  helper.clean()
  return help:find("--evidence", 1, true) ~= nil
end

if takes_evidence() then
  describe("The manual example of the guide for phases", function()
    local s

    lazy_setup(function()
      s = tiny.new()
      tiny.save(s)
    end)
    lazy_teardown(helper.clean)
    before_each(function()
      tiny.reset(s)
      tiny.write(s, "phases/approve-standards.lua", page.scripts()["approve-standards.lua"])
    end)

    it("passes the check, waits, and goes on with what a person tells", function()
      local path = s.target .. "/phases/approve-standards.lua"
      local checked = tiny.json(s, { "phase", "check", path })
      assert.same({}, tiny.event(checked, "result").data.findings)
      local before = tiny.snapshot(s)
      local result = tiny.upgrade(s)
      assert.equal(4, result.code, result.stdout)
      assert.equal("waiting", result.last.status)
      assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
      result = tiny.json(s, { "resume", "--evidence", "approved_by=Kim" })
      assert.equal(0, result.code, result.stdout)
      assert.equal("Kim", tiny.event(result, "phase_completed", "approve-standards")
        .evidence.approved_by)
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      assert.same(before, tiny.snapshot(s))
    end)

    it("is taken back while it waits", function()
      local before = tiny.snapshot(s)
      assert.equal(4, tiny.upgrade(s).code)
      assert.equal(0, tiny.json(s, { "rollback" }).code)
      assert.same(before, tiny.snapshot(s))
    end)

    it("beside it, of attested evidence, is filled in by the host", function()
      os.remove(s.target .. "/phases/approve-standards.lua")
      local declared
      for _, block in ipairs(page.blocks()) do
        declared = declared or block:find("receipts_of", 1, true) and block
      end
      tiny.write(s, "phases/attested.lua", ("return { title = 'Attested', after = "
        .. "'content-upgrade', grants = { target = 'write', services = { 'backup' } },\n%s,\n"
        .. "run = function(host) need(host.target.write('a.txt', 'a'))\n"
        .. "need(host.target.write('b.txt', 'b')) return {} end }"):format(declared))
      local result = tiny.upgrade(s)
      assert.equal(0, result.code, result.stdout)
      assert.equal(2, tiny.event(result, "phase_completed", "attested").evidence.files_written)
    end)

    it("of `phase new --manual` passes the check and waits", function()
      os.remove(s.target .. "/phases/approve-standards.lua")
      local made = tiny.json(s, { "phase", "new", "look-at-it", "--manual" })
      assert.equal(0, made.code, made.stdout)
      local checked = tiny.json(s, { "phase", "check", s.target .. "/phases/look-at-it.lua" })
      assert.same({}, tiny.event(checked, "result").data.findings)
      assert.equal(4, tiny.upgrade(s).code)
      assert.equal(0, tiny.json(s, { "resume", "--evidence", "approved_by=Kim" }).code)
    end)
  end)
end
