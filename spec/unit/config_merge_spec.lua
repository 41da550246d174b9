local config_merge = require("praxlua.config_merge")
local json = require("praxlua.json")

local function merge(base, ours, theirs)
  return assert(config_merge.merge(base, ours, theirs))
end

describe("config_merge", function()
  it("adds new keys in their order, in the style of the user's text", function()
    local ours = '{\n    "b": 1,\n    "a": { "x": true }\n}\n'
    local merged = merge('{"b": 1}', ours,
      '{"b": 2, "z": [1, {"k": 1.50}], "y": {}, "a": {"q": ""}}')
    assert.equal('{\n    "b": 1,\n    "a": { "x": true, "q": "" },\n    "z": [\n        1,\n'
      .. '        {\n            "k": 1.50\n        }\n    ],\n    "y": {}\n}\n', merged.text)
    assert.same({ "z", "y", "a.q" }, merged.added)
    assert.same({ "b" }, merged.defaults)
  end)

  it("keeps the user's values, order, tabs and line ends", function()
    local ours = '{\r\n\t"port": 9,\r\n\t"name": "\\u00fc",\r\n\t"list": [ 1,2 ]\r\n}'
    local merged = merge(nil, ours, '{"name": "x", "port": 1, "list": [3], "new": "v"}')
    assert.equal('{\r\n\t"port": 9,\r\n\t"name": "\\u00fc",\r\n\t"list": [ 1,2 ],\r\n\t"new": "v"'
      .. '\r\n}', merged.text)
    assert.same({ "new" }, merged.added)
  end)

  it("leaves a key away that the user removed, and tells what is no longer shipped", function()
    local merged = merge('{"a": 1, "b": 2, "c": {"d": 1}}', '{"a": 1, "c": {"d": 1, "mine": 0}}',
      '{"b": 3, "c": {}}')
    assert.equal('{"a": 1, "c": {"d": 1, "mine": 0}}', merged.text)
    assert.same({ "a", "c.d" }, merged.removed)
    assert.same({}, merged.added)
  end)

  it("fills an empty object", function()
    assert.equal('{"a": 1}', merge(nil, "{}", '{"a": 1}').text)
    assert.equal('{\n  "a": {\n    "b": 1,\n    "c": 2\n  }\n}\n',
      merge(nil, '{\n  "a": {}\n}\n', '{"a": {"b": 1, "c": 2}}').text)
    assert.equal('{\n  "a": {\n    "b": 1\n  },\n  "z": 0\n}',
      merge(nil, '{\n  "a": {\n  },\n  "z": 0\n}', '{"a": {"b": 1}}').text)
  end)

  it("leaves what has another type alone", function()
    local ours = '{"a": [1], "b": {"c": 1}}'
    assert.equal(ours, merge(nil, ours, '{"a": {"x": 1}, "b": 2}').text)
  end)

  it("quotes keys that are no words, and writes any string", function()
    local merged = merge(nil, "{}", '{"a b": {"\\"": "\\u0001\\n\\ud83d\\ude00"}}')
    assert.same({ '"a b"' }, merged.added)
    assert.equal("\1\n\u{1F600}", json.decode(merged.text)["a b"]['"'])
  end)

  it("gives JSON again with every value of both, for random documents", function()
    local function random(rng, depth)
      local kind = rng(depth > 3 and 3 or 5)
      if kind == 1 then return tostring(rng(1000)) end
      if kind == 2 then return '"' .. ("x"):rep(rng(3)) .. '\\\\ \\" ,}]"' end
      if kind == 3 then return ({ "true", "null", "{}", "[]", "-1.5e3" })[rng(5)] end
      local parts = {}
      for i = 1, rng(4) do
        local value = random(rng, depth + 1)
        parts[i] = kind == 4 and value or ('"k%d" : %s'):format(i * 7 + rng(6), value)
      end
      local space = ({ "", " ", "\n  " })[rng(3)]
      local open, close = "[", "]"
      if kind == 5 then open, close = "{", "}" end
      return open .. space .. table.concat(parts, "," .. space) .. space .. close
    end
    local function check(mine, new, merged)
      for key, value in pairs(mine) do
        if type(value) == "table" and type(new[key]) == "table" and not json.is_array(value)
          and not json.is_array(new[key]) and #value == 0 and #new[key] == 0 then
          check(value, new[key], merged[key])
        else
          assert.equal(json.encode({ value }), json.encode({ merged[key] }))
        end
      end
      for key in pairs(new) do assert.is_not_nil(merged[key]) end
    end
    math.randomseed(7)
    for _ = 1, 300 do
      local ours = '{"a": ' .. random(math.random, 0) .. ', "b": ' .. random(math.random, 0) .. "}"
      local theirs = ('{"b": %s, "c": %s}'):format(random(math.random, 0),
        random(math.random, 0))
      local mine, new = json.decode(ours), json.decode(theirs)
      if mine and new then
        local merged = merge(nil, ours, theirs)
        check(mine, new, assert(json.decode(merged.text), merged.text))
      end
    end
  end)

  it("refuses what is no JSON object", function()
    for _, bad in ipairs({ "", "[]", "{", '// a\n{"a": 1}', "1" }) do
      local merged, message, code = config_merge.merge(nil, bad, "{}")
      assert.is_nil(merged)
      assert.equal("EJSON", code)
      assert.matches("yours is no JSON", message)
    end
    assert.matches("the new one is no JSON", (select(2, config_merge.merge(nil, "{}", "x"))))
  end)
end)
