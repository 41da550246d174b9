local core = require("praxlua.core")
local json = require("praxlua.json")
local seal = require("praxlua.seal")

describe("seal", function()
  local dict = { name = "caf\xe9", list = json.array({ 1, 2 }), format_version = 2 }

  local function refused(text)
    assert.is_nil((seal.check(text)))
    local opened, problem = seal.open(text)
    assert.is_nil(opened)
    assert.is_string(problem)
    return problem
  end

  it("makes one JSON object that ends with the seal", function()
    local text = seal.encode(dict, 7)
    local read = assert(json.decode(text))
    assert.equal(7, read.sequence)
    assert.equal(#text, read.length)
    local head, hash = text:match('^(.*)  "sha256": "(%x+)"\n}\n$')
    assert.equal(read.sha256, hash)
    assert.equal(hash, core.hash.sha256(head))
    assert.equal("caf\xe9", read.name)
  end)

  it("gives the document back without the seal, and its sequence", function()
    local opened, sequence = seal.open(seal.encode(dict, 7))
    assert.same(dict, opened)
    assert.equal(7, sequence)
    opened, sequence = seal.open(seal.encode(dict))
    assert.same(dict, opened)
    assert.is_false(sequence)
  end)

  it("names a length that is right for any number of digits", function()
    for size = 1, 1200 do
      local text = seal.encode({ x = ("x"):rep(size) })
      assert.equal(#text, json.decode(text).length)
      assert.is_false(seal.check(text))
    end
  end)

  it("sees every bit that flips", function()
    local text = seal.encode(dict, 7)
    for byte = 1, #text do
      for bit = 0, 7 do
        refused(text:sub(1, byte - 1) .. string.char(text:byte(byte) ~ (1 << bit))
          .. text:sub(byte + 1))
      end
    end
  end)

  it("sees every end that is missing, and what was added", function()
    local text = seal.encode(dict, 7)
    for length = 0, #text - 1 do refused(text:sub(1, length)) end
    refused(text .. "\n")
    refused(text .. text)
    refused(" " .. text)
  end)

  it("refuses a length that is another one, though the hash is good", function()
    local head = seal.encode(dict):match('^(.*)  "sha256"'):gsub('"length": %d+', '"length": 17')
    refused(head .. '  "sha256": "' .. core.hash.sha256(head) .. '"\n}\n')
  end)

  it("takes a document from before there were seals only as it was then", function()
    local older = { format_version = 1, any = "x" }
    local opened, sequence = seal.open(json.encode(older))
    assert.same(older, opened)
    assert.is_false(sequence)
    for _, text in ipairs({ '{"format_version": 2}', '{"format_version": 1, "length": 3}',
      '{"format_version": 1, "sha256": ""}', "[1]", "1", '{"format_version": "1"}' }) do
      refused(text)
    end
  end)

  it("raises for what cannot be sealed", function()
    for _, bad in ipairs({ {}, { length = 1 }, { sha256 = "" }, { sequence = 1 }, { 0 / 0 } }) do
      assert.has_error(function() seal.encode(bad) end)
    end
  end)
end)
