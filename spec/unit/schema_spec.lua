local json = require("praxlua.json")
local schema = require("praxlua.schema")

local function refused(s, value)
  local ok, message, code = schema.check(s, value)
  assert.is_nil(ok)
  assert.equal("ESCHEMA", code)
  return message
end

local function accepted(s, value) assert.is_true(schema.check(s, value)) end

describe("schema.check", function()
  it("names the field and both types", function()
    local s = schema.object({ path = schema.object({ to = schema.object({
      field = schema.integer(),
    }) }) })
    assert.equal("path.to.field: expected integer, got string",
      refused(s, { path = { to = { field = "1" } } }))
    assert.equal("evidence.path: missing", select(2, schema.check(s, {}, "evidence")))
  end)

  it("keeps integers and numbers in their range", function()
    local s = schema.integer({ min = 0, max = 5 })
    accepted(s, 0)
    accepted(s, 5)
    assert.equal("value: -1 is less than 0", refused(s, -1))
    assert.equal("value: 6 is more than 5", refused(s, 6))
    assert.equal("value: expected integer, got number", refused(s, 1.5))
    assert.equal("value: expected integer, got number", refused(s, 1.0))
    accepted(schema.number({ min = 0 }), 1.5)
    refused(schema.number(), 0 / 0)
    refused(schema.number(), math.huge)
    refused(schema.number(), "1")
  end)

  it("checks strings by length, pattern and list", function()
    refused(schema.string({ min_length = 1 }), "")
    refused(schema.string({ min_length = 3 }), "ab")
    refused(schema.string({ max_length = 3 }), "abcd")
    accepted(schema.string({ max_length = 3, min_length = 3 }), "abc")
    refused(schema.string({ pattern = "^%x+$" }), "xyz")
    accepted(schema.string({ pattern = "^%x+$" }), "0af")
    assert.equal("value: expected one of: passed, failed",
      refused(schema.string({ one_of = { "passed", "failed" } }), "ok"))
    refused(schema.string(), 1)
  end)

  it("takes only booleans for booleans, and the demanded one", function()
    accepted(schema.boolean(), false)
    refused(schema.boolean(), 0)
    refused(schema.boolean({ equals = true }), false)
  end)

  it("checks every element of arrays and maps", function()
    local s = schema.array(schema.integer())
    accepted(s, {})
    accepted(s, json.array())
    assert.equal("value: expected array, got object", refused(s, { a = 1 }))
    assert.equal("value: an array with holes", refused(s, { [1] = 1, [3] = 1 }))
    assert.equal("list[2]: expected integer, got boolean",
      select(2, schema.check(s, { 1, true }, "list")))
    refused(schema.array(schema.any(), 1), { 1, 2 })
    accepted(schema.map(schema.string()), { a = "b" })
    refused(schema.map(schema.string()), { a = 1 })
    refused(schema.map(schema.string()), { "a" })
    refused(schema.map(schema.string(), 1), { a = "", b = "" })
    refused(s, "x")
    refused(schema.map(schema.any()), 1)
  end)

  it("refuses fields that are not declared, and shows their name harmlessly", function()
    local s = schema.object({ a = schema.integer() })
    assert.equal("b: not a field of this object", refused(s, { a = 1, b = 2 }))
    assert.equal("x\\x1B\\x5B: not a field of this object", refused(s, { a = 1, ["x\27["] = 2 }))
    refused(s, { a = 1, [1] = 2 })
    refused(s, { a = 1, a_reason = "not_run" })
    refused(s, json.null)
  end)

  it("lets an optional field be absent but not wrong", function()
    local s = schema.object({ a = schema.optional(schema.integer()) })
    accepted(s, {})
    accepted(s, { a = 1 })
    refused(s, { a = "1" })
    refused(s, { a = json.null })
    accepted(schema.optional(schema.integer()), nil)
  end)

  it("lets a nullable field be null only with a reason beside it", function()
    local s = schema.object({ health = schema.nullable(schema.string()) })
    accepted(s, { health = "passed" })
    accepted(s, { health = json.null, health_reason = "not_run" })
    accepted(s, { health_reason = "not_reported" })
    assert.equal("health: null without health_reason beside it",
      refused(s, { health = json.null }))
    refused(s, {})
    refused(s, { health = 1 })
    refused(s, { health = json.null, health_reason = "Because!" })
    refused(s, { health = json.null, health_reason = 3 })
    local message = refused(s, { health = "passed", health_reason = "not_run" })
    assert.truthy(message:find("health_reason: a reason beside a value", 1, true))
    local both = schema.object({ a = schema.optional(schema.nullable(schema.integer())) })
    accepted(both, {})
    accepted(both, { a = json.null, a_reason = "not_run" })
    accepted(schema.nullable(schema.integer()), json.null)
  end)

  it("takes anything that has a JSON form for any", function()
    accepted(schema.any(), json.null)
    accepted(schema.any(), { 1 })
    refused(schema.any(), print)
    refused(schema.any(), nil)
    refused(schema.any(), { print })
    refused(schema.any(), { [1] = "x", ["1"] = "y" }) -- one key in JSON
    refused(schema.any(), { 1, [3] = 3 })
    local deep = {}
    for _ = 1, 24 do deep = { deep } end
    accepted(schema.any(), deep)
    refused(schema.any(), { { deep } }) -- it would be too deep for a session's file
  end)

  it("raises for a schema that is none", function()
    assert.has_error(function() schema.check({ kind = "colour" }, 1) end)
    assert.has_error(function() schema.check(nil, 1) end)
    assert.has_error(function() schema.integer({ minimum = 1 }) end)
  end)
end)

describe("schema.valid", function()
  it("accepts what the constructors make", function()
    local p = schema.prelude
    assert.is_true(schema.valid(p.object({
      n = p.integer({ min = 0 }), s = p.string_of({ one_of = { "a" }, min_length = 1 }),
      l = p.optional(p.array_of(p.number())), m = p.map_of(p.any()), b = p.nullable(p.boolean()),
    })))
  end)

  it("refuses what would fail or stall the host later", function()
    local deep = schema.integer()
    for _ = 1, 10 do deep = schema.array(deep) end
    for want, s in pairs({
      ["patterns are only"] = schema.string({ pattern = ".-.-.-x" }),
      ["no known kind"] = { kind = "colour" },
      ["not a parameter"] = { kind = "integer", step = 2 },
      ["expected number"] = { kind = "integer", min = "0" },
      ["8 levels"] = deep,
      ["expected a schema"] = { kind = "array" },
      ["not a field name"] = { kind = "object", fields = { ["a b"] = schema.any() } },
      ["table of fields"] = { kind = "object" },
      ["expected string"] = { kind = "string", one_of = { 1 } },
    }) do
      local ok, message, code = schema.valid(s)
      assert.is_nil(ok, want)
      assert.equal("ESCHEMA", code)
      assert.truthy(message:find(want, 1, true), message)
    end
    assert.is_nil((schema.valid("integer")))
  end)
end)

describe("schema.json_schema", function()
  it("says the same in JSON Schema's words", function()
    local s = schema.object({
      id = schema.string({ min_length = 1 }), n = schema.integer({ min = 0 }),
      kind = schema.string({ one_of = { "a", "b" } }), list = schema.array(schema.number(), 3),
      map = schema.optional(schema.map(schema.boolean())), maybe = schema.nullable(schema.any()),
    })
    assert.same({
      type = "object", additionalProperties = false,
      required = json.array({ "id", "kind", "list", "n" }),
      properties = {
        id = { type = "string", minLength = 1 }, n = { type = "integer", minimum = 0 },
        kind = { type = "string", enum = json.array({ "a", "b" }) },
        list = { type = "array", items = { type = "number" }, maxItems = 3 },
        map = { type = "object", additionalProperties = { type = "boolean" } },
        maybe = { anyOf = { {}, { type = "null" } } }, maybe_reason = { type = "string" },
      },
    }, schema.json_schema(s))
  end)
end)
