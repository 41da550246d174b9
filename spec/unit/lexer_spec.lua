--- The words of a script with their lines.
local lexer = require("praxlua.phases.lexer")

describe("The words of a script", function()
  local function told(source)
    local words, list = lexer.words(source), {}
    for i, text in ipairs(words.texts) do
      list[i] = ("%d %s %s"):format(words.lines[i], words.kinds[i], text)
    end
    return list
  end

  it("have their kinds and lines", function()
    assert.same({ "1 name local", "1 name x", "1 symbol =", "1 number 0x1F", "3 name x",
      "3 symbol .",
      "3 name y", "3 symbol ==", "3 string a", "3 symbol ..", "3 number 1.5", "4 symbol ..." },
      told('local x = 0x1F\n\nx.y == "a" .. 1.5\n...'))
  end)

  it("are not looked for in strings and comments", function()
    assert.same({ "1 name a", "3 name b", "6 string host.x\n]==] ", "7 name c", "8 string it's",
      "8 string q\"\n", "10 name d" },
      told("a -- host.x\n--[[ host\n]] b\n--[==[ ]] host\n]==]\n[===[host.x\n]==] ]===]c\n"
        .. "'it\\'s' \"q\\\"\\n\"\n--[x\nd"))
  end)

  it("count the lines inside long strings", function()
    assert.same({ "1 string a\nb", "3 name x" }, told("[[a\nb]]\nx"))
  end)

  it("come to an end for whatever is no Lua", function()
    for _, source in ipairs({ "", " ", "'", '"\\', "[[", "--[[", "--", "[==", "\255\254\0", "a'\nb",
      "@#$", ("("):rep(1000) }) do
      assert.is_table(lexer.words(source))
    end
  end)

  it("of a mebibyte are found in seconds", function()
    local began = os.clock()
    assert.equal(524288, #lexer.words(("x "):rep(524288)).texts)
    assert.equal(300000, #lexer.words((";"):rep(300000)).texts)
    assert.equal(200000, lexer.words(("x\n"):rep(200000)).lines[200000])
    assert.is_true(os.clock() - began < 20)
  end)
end)
