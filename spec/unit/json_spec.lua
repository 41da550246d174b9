local json = require("praxlua.json")

describe("json.encode", function()
  it("sorts keys bytewise, so equal values give equal bytes", function()
    assert.equal('{"A":1,"a":2,"aa":3,"b":4}', json.encode({ b = 4, aa = 3, A = 1, a = 2 }))
  end)

  it("writes integers exactly and integral floats as integers", function()
    assert.equal("[9223372036854775807,-9223372036854775808,1759919400123456789,2]",
      json.encode({ math.maxinteger, math.mininteger, 1759919400123456789, 2.0 }))
  end)

  it("writes a float in the shortest form that reads back as the same number", function()
    for _, n in ipairs({ 0.1, 1 / 3, 2.5e-308, 1.7976931348623157e308, 123456.789, -0.25 }) do
      assert.equal(n, tonumber(json.encode(n)))
    end
    assert.equal("0.1", json.encode(0.1))
  end)

  it("tells an empty array from an empty object by the mark", function()
    assert.equal('{"a":[],"o":{}}', json.encode({ a = json.array(), o = {} }))
    assert.is_true(json.is_array(json.array({ 1 })))
    assert.is_false(json.is_array({ 1 }))
  end)

  it("escapes what could forge a line or a terminal sequence", function()
    assert.equal([["\u001b[31m\n\u007f\u0085\u202e\u2028 \"\\/"]],
      json.encode("\27[31m\n\127\u{85}\u{202e}\u{2028} \"\\/"))
    assert.equal('"gr\u{fc}n \u{1f600}"', json.encode("gr\u{fc}n \u{1f600}"))
  end)

  it("indents by two spaces a level when asked to", function()
    assert.equal('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": []\n}',
      json.encode({ a = { 1, {} }, b = json.array() }, { pretty = true }))
  end)

  it("raises for what has no JSON form", function()
    local cycle = {}
    cycle.self = cycle
    for what, value in pairs({
      ["not a finite number"] = 0 / 0, ["finite"] = { math.huge }, ["function"] = print,
      ["both integer and string keys"] = { 1, a = 2 }, ["holes"] = { [1] = 1, [3] = 3 },
      ["key is a boolean"] = { [true] = 1 }, ["in a cycle"] = cycle,
      ["string keys"] = json.array({ a = 1 }), ["key is a number"] = { [1.5] = 1 },
    }) do
      local ok, message = pcall(json.encode, value)
      assert.is_false(ok, what)
      assert.truthy(message:find(what, 1, true), message)
    end
    assert.has_error(function() json.encode(nil) end)
  end)
end)

describe("json.decode", function()
  it("gives integers back as integers, beyond what a double holds", function()
    local value = json.decode("[1, 2.0, 1e3, -0, 9007199254740993, -9223372036854775808]")
    for i, want in ipairs({ 1, 2, 1000, 0, 9007199254740993, math.mininteger }) do
      assert.equal(want, value[i])
      assert.equal("integer", math.type(value[i]))
    end
  end)

  it("gives an integer beyond 64 bits back as the nearest float", function()
    local value = json.decode("[18446744073709551615]")
    assert.equal("float", math.type(value[1]))
    assert.equal(2.0 ^ 64, value[1])
  end)

  it("round-trips every kind of value through its own text", function()
    local value = {
      int = math.maxinteger, float = 1.25, text = "x\0y\n\u{1f600}", yes = true, no = false,
      none = json.null, list = { 1, { a = json.array() } }, empty = json.array(), object = {},
    }
    local again = json.decode(json.encode(value))
    assert.same(value, again)
    assert.equal(json.encode(value), json.encode(again))
  end)

  it("carries bytes that are not UTF-8, in values and in keys", function()
    local name = "caf\xe9/\xff\xc3\xa9\xed\xa0\x80"
    local written = json.encode({ [name] = name })
    assert.truthy(utf8.len(written))
    assert.truthy(written:find([[caf\udbff\udfe9/\udbff\udfff]], 1, true))
    assert.same({ [name] = name }, json.decode(written))
  end)

  it("carries all 256 bytes, alone and together", function()
    local all = {}
    for byte = 0, 255 do
      all[#all + 1] = string.char(byte)
      assert.equal(all[#all], json.decode(json.encode(all[#all])))
    end
    local whole = table.concat(all)
    assert.equal(whole, json.decode(json.encode({ whole }))[1])
  end)

  it("treats a real U+10FF80..U+10FFFF as four bytes that come back as they were", function()
    for _, s in ipairs({ "\u{10ff80}", "a\u{10ffff}b", "\u{10ff7f}", "\u{10ffbf}\u{10ffc0}" }) do
      assert.equal(s, json.decode(json.encode(s)))
    end
    assert.equal([["\udbff\udff4\udbff\udf8f\udbff\udfbf\udbff\udfbf"]], json.encode("\u{10ffff}"))
  end)

  it("keeps strings that look like its own marks", function()
    local value = { "\u{10ff00}i12", "\u{10ff00}a", "\u{10ff00}s", "\u{10ff00}" }
    assert.same(value, json.decode(json.encode(value)))
    assert.same({ "\u{10ff00}i12" }, json.decode([=[["\uDBFF\uDF00i12"]]=]))
    assert.same({ ["\u{10ff00}a"] = "\u{10ff00}a" }, json.decode('{"\u{10ff00}a":"\u{10ff00}a"}'))
  end)

  it("refuses a key that is there twice, however it is written", function()
    for _, text in ipairs({
      '{"a":1,"a":2}', [[{"a":1,"\u0061":2}]], '{"x":{"b":0,"c":1,"b":2}}',
    }) do
      local value, message, code = json.decode(text)
      assert.is_nil(value)
      assert.equal("EJSON", code)
      assert.truthy(message:find("twice", 1, true))
    end
    assert.same({ a = { a = 1 }, b = { { a = 1 }, { a = 2 } } },
      json.decode('{"a":{"a":1},"b":[{"a":1},{"a":2}]}'))
  end)

  it("refuses what is not JSON", function()
    for _, text in ipairs({
      "", "nul", "[1,]", "[1 2]", "{a:1}", "[NaN]", "[Infinity]", "[-Infinity]", "[0x10]", "[01]",
      "[1.]", "[.5]", "[1e]", "[1e400]", "[-]", "[1-2]", '["\1"]', '["\n"]', '["a]', '["\\x"]',
      '["\\ud800"]', '{"\\ud800":1}', "[1]]", "[1", '{"a" 1}', "[1]\0", '"\xff"', "[+1]", '["\\"',
    }) do
      local value, message, code = json.decode(text)
      assert.is_nil(value, text)
      assert.equal("EJSON", code)
      assert.truthy(message:find("^JSON: "), message)
    end
  end)

  it("refuses size and depth before the parser sees the text", function()
    local _, _, code = json.decode(string.rep(" ", 101), { max_bytes = 100 })
    assert.equal("EFBIG", code)
    local deep = string.rep("[", 33) .. string.rep("]", 33)
    local _, message, deep_code = json.decode(deep)
    assert.equal("EDEPTH", deep_code)
    assert.truthy(message:find("32 levels", 1, true))
    assert.truthy(json.decode(deep:sub(2, -2)))
    local _, _, hostile = json.decode(string.rep('{"a":', 2000000))
    assert.equal("EDEPTH", hostile)
  end)

  it("counts what is open, not what there is", function()
    local many = {}
    for i = 1, 40 do many[i] = { { i, { a = { b = i } } } } end
    assert.same(many, json.decode(json.encode(many)))
  end)

  it("does not count brackets inside strings", function()
    local s = string.rep("[{", 100)
    assert.same({ s }, json.decode(json.encode({ s })))
  end)

  it("raises when the text is not a string", function()
    assert.has_error(function() json.decode(nil) end)
  end)
end)
