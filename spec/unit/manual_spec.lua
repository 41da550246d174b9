--- Manual phases: what is asked for, how it is given, and that the upgrade waits for it.
local evidence = require("praxlua.evidence")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local manual = require("praxlua.manual")
local phases = require("praxlua.phases")
local schema = require("praxlua.schema")

describe("manual", function()
  local model = assert(evidence.custom({
    approved = { kind = "boolean", equals = true },
    count = schema.optional(schema.integer({ min = 1, max = 9 })),
    level = schema.string({ one_of = { "low", "high" } }),
    list = schema.optional(schema.array(schema.string())),
    share = schema.optional(schema.nullable(schema.number())),
  }))

  it("tells the fields and the command", function()
    local fields = manual.fields(model)
    assert.same({
      { name = "approved", optional = false, type = "true" },
      { name = "count", optional = true, type = "a whole number, at least 1, at most 9" },
      { name = "level", optional = false, type = "one of low, high" },
      { name = "list", optional = true, type = "JSON (array)" },
      { name = "share", optional = true, type = "a number, or null with share_reason" },
    }, fields)
    assert.equal("praxlua resume ID --evidence approved=VALUE --evidence level=VALUE",
      manual.command("ID", fields))
    assert.equal("praxlua resume ID --evidence NAME=VALUE", manual.command("ID", {}))
  end)

  it("reads what was typed by the types, and leaves the rest to the check", function()
    local function given(word_by_name)
      local list = {}
      for name, word in pairs(word_by_name) do list[#list + 1] = { name = name, word = word } end
      return manual.evidence(model, list)
    end
    local found = given({ approved = "true", count = "3", level = "low", list = '["a"]',
      share = "0.5" })
    assert.same({ approved = true, count = 3, level = "low", list = { "a" }, share = 0.5 }, found)
    assert.is_true(evidence.check(model, found))
    found = given({ approved = "true", level = "high", share = "null", share_reason = "not_run" })
    assert.equal(json.null, found.share)
    assert.is_true(evidence.check(model, found))
    for _, wrong in ipairs({
      { approved = "yes", level = "low" }, { approved = "false", level = "low" },
      { approved = "true", level = "middle" }, { approved = "true" },
      { approved = "true", level = "low", count = "3.5" },
      { approved = "true", level = "low", count = "three" },
      { approved = "true", level = "low", list = "[" },
      { approved = "true", level = "low", other = "x" },
    }) do
      helper.fails("ESCHEMA", evidence.check(model, given(wrong)))
    end
    assert.same({ approved = false, level = "high" }, manual.evidence(model, {
      { values = { approved = true, level = "low" } }, { name = "approved", word = "false" },
      { values = { level = "high" } } }))
  end)

  it("asks field by field, again where an answer does not fit, and stops at an open one", function()
    local function typed(lines)
      local asked, at = {}, 0
      return manual.ask(model, function(question)
        asked[#asked + 1], at = question, at + 1
        return lines[at]
      end), asked
    end
    local found, asked = typed({ "no", "true", "", "high", "", "null", "not_run" })
    assert.same({ approved = true, level = "high", share = json.null, share_reason = "not_run" },
      found)
    assert.truthy(asked[2]:find("approved: expected boolean", 1, true), asked[2])
    assert.is_nil((typed({ "" })))
    assert.is_nil((typed({ "true", "3" }))) -- the end of the input
    assert.is_nil((typed({ "x", "x", "x", "x", "x", "true" })))
    assert.is_nil((typed({ "true", "", "low", "", "null", "" })))
  end)

  it("phases are told apart from scripts", function()
    local function read(fields)
      return phases.read("m.lua", "return { title = 'x', " .. fields .. " }")
    end
    local phase = assert(read("manual = 'Do it.', evidence = { done = boolean{} }"))
    assert.equal("Do it.", phase.manual)
    for fields, pattern in pairs({
      ["manual = 'x', evidence = { a = any() }, run = type"] = "has no phase.run",
      ["manual = 'x', evidence = { a = any() }, grants = { target = 'read' }"] = "has no grants",
      ["manual = 'x'"] = "needs evidence", ["manual = 'x', evidence = {}"] = "needs evidence",
      ["manual = '', evidence = { a = any() }"] = "manual",
      ["manual = 'x', evidence = { a = answer_of('backup.list_backups') }"] = "no grant for",
    }) do
      assert.truthy(helper.fails("EPHASE", read(fields)):find(pattern, 1, true), fields)
    end
    local root = helper.tempdir()
    helper.write(root .. "/content-upgrade.lua",
      "return { title = 'x', manual = 'x', evidence = { a = any() } }")
    assert.matches("cannot be replaced by a manual one", helper.fails("EPHASE",
      phases.all(nil, { root })))
    helper.clean()
  end)
end)
