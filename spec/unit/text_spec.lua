local text = require("praxlua.text")

describe("text.bytes", function()
  it("writes sizes in powers of ten", function()
    for n, want in pairs({
      [0] = "0 B", [999] = "999 B", [1000] = "1 kB", [1500] = "1.5 kB", [47483648] = "47.5 MB",
      [500000000] = "500 MB", [2500000000] = "2.5 GB", [999999] = "1 MB",
      [math.maxinteger] = "9.2 EB",
    }) do
      assert.equal(want, text.bytes(n))
    end
  end)
end)

describe("text.plural", function()
  it("counts nouns", function()
    assert.equal("1 file", text.plural(1, "file"))
    assert.equal("0 files", text.plural(0, "file"))
    assert.equal("2 entries", text.plural(2, "entry", "entries"))
  end)
end)

describe("text.quoted", function()
  it("is read by a shell as what it was", function()
    assert.equal("/a/b-c.lua", text.quoted("/a/b-c.lua"))
    assert.equal("'a b'", text.quoted("a b"))
    for _, path in ipairs({ "a b", "it's", "a\nb", "'\\\n\255A", "$HOME\27[0m", "ä \xff" }) do
      local pipe = assert(io.popen("exec bash -c 'printf %s '\"$(cat <<'END'\n"
        .. text.quoted(path) .. "\nEND\n)\""))
      local read = pipe:read("a")
      pipe:close()
      assert.equal(path, read)
      assert.is_nil(text.quoted(path):find("%c"))
    end
  end)
end)

describe("text.visible", function()
  it("leaves nothing a terminal would obey", function()
    assert.equal([[a\nb\e[31m\r\t\0\x07\x7F]], text.visible("a\nb\27[31m\r\t\0\a\127"))
    assert.equal([[\u{9B}31m \u{202E}x \u{2028} \u{200B} \u{FEFF}]],
      text.visible("\u{9b}31m \u{202e}x \u{2028} \u{200b} \u{feff}"))
  end)

  it("shows bytes that are not UTF-8 and keeps the text around them", function()
    assert.equal("caf\\xE9 gr\u{fc}n\\xFF\\xC3", text.visible("caf\xe9 gr\u{fc}n\xff\xc3"))
    assert.equal([[\xED\xA0\x80]], text.visible("\xed\xa0\x80"))
  end)

  it("changes nothing the second time", function()
    local all = {}
    for byte = 0, 255 do all[#all + 1] = string.char(byte) end
    local once = text.visible(table.concat(all) .. "\u{202e}\\")
    assert.equal(once, text.visible(once))
    assert.truthy(utf8.len(once))
    assert.is_nil(once:find("%c"))
  end)
end)

describe("text.width, pad and shorten", function()
  it("count code points, and a bad byte as one", function()
    assert.equal(4, text.width("gr\u{fc}n"))
    assert.equal(4, text.width("a\xffb\xfe"))
    assert.equal(0, text.width(""))
  end)

  it("fill up on either side and never cut", function()
    assert.equal("gr\u{fc}n  ", text.pad("gr\u{fc}n", 6))
    assert.equal("  12", text.pad("12", 4, true))
    assert.equal("long", text.pad("long", 2))
  end)

  it("cut at a code point and mark the cut", function()
    assert.equal("gr\u{fc}n", text.shorten("gr\u{fc}n", 4))
    assert.equal("\u{fc}\u{fc}...", text.shorten(string.rep("\u{fc}", 9), 5))
    assert.equal("ab", text.shorten("abcdef", 2))
    assert.equal("abcd~", text.shorten("abcdefg", 5, "~"))
  end)
end)

describe("text.head", function()
  it("keeps the first lines and counts the rest", function()
    assert.equal("a\nb", text.head("a\nb\n", 2))
    assert.equal("a\n(and 2 more lines)", text.head("a\nb\nc\n", 1))
    assert.equal("a\n\n(and 1 more line)", text.head("a\n\nc", 2))
  end)

  it("takes white space off the ends, in a time by the length even of many blanks", function()
    assert.equal("a  b", text.trim(" \t\na  b\r\n "))
    assert.equal(" a  b", text.trim_end(" a  b\r\n "))
    for _, blank in ipairs({ "", " ", "\n\t" }) do
      assert.equal("", text.trim(blank))
      assert.equal("", text.trim_end(blank))
    end
    local long = "a" .. (" "):rep(1000000) .. "b"
    local began = os.clock()
    assert.equal(long, text.trim(long .. "\n"))
    assert.equal(long, text.trim_end(long .. "\n"))
    assert.is_true(os.clock() - began < 1)
  end)

  it("nearest finds the word that was probably meant", function()
    local words = { "title", "after", "target.write", "content-upgrade" }
    for wrong, right in pairs({ titel = "title", titl = "title", Title = "title", aftre = "after",
      ["target.wriet"] = "target.write", ["contentupgrade"] = "content-upgrade" }) do
      assert.equal(right, text.nearest(wrong, words), wrong)
    end
    for _, wrong in ipairs({ "", "x", "tittlees", "somewhere", ("title"):rep(20) }) do
      assert.is_nil(text.nearest(wrong, words), wrong)
    end
    assert.is_nil(text.nearest("title", {}))
  end)
end)
