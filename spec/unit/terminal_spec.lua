local child = require("spec.support.child")
local helper = require("spec.support.helper")
local terminal = require("praxlua.terminal")

-- A stream that keeps what is written to it.
local function sink()
  local parts = {}
  return {
    write = function(_, ...) parts[#parts + 1] = table.concat({ ... }) end,
    flush = function() end,
    text = function() return table.concat(parts) end,
  }
end

-- A stream of lines to be read.
local function source(...)
  local lines, at = { ... }, 0
  return { read = function()
    at = at + 1
    return lines[at]
  end }
end

local UTF8 = { LANG = "en_US.UTF-8", TERM = "xterm" }

local function plain(options)
  options = options or {}
  options.out = options.out or sink()
  options.environment = options.environment or UTF8
  if options.is_terminal == nil then options.is_terminal = false end
  options.columns = options.columns or 40
  return terminal.new(options), options.out
end

describe("terminal colours", function()
  local function coloured(environment, is_terminal)
    local t, out = plain({ environment = environment, is_terminal = is_terminal })
    t.line({ "red", "x" })
    return out.text() == "\27[31mx\27[0m\n"
  end

  it("are there on a terminal only", function()
    assert.is_true(coloured(UTF8, true))
    assert.is_false(coloured(UTF8, false))
  end)

  it("are off with NO_COLOR set, but not when it is empty", function()
    assert.is_false(coloured({ TERM = "xterm", NO_COLOR = "1" }, true))
    assert.is_true(coloured({ TERM = "xterm", NO_COLOR = "" }, true))
  end)

  it("are off on a dumb terminal", function()
    assert.is_false(coloured({ TERM = "dumb" }, true))
  end)

  it("have known names only", function()
    local t = plain({ is_terminal = true })
    assert.has_error(function() t.line({ "mauve", "x" }) end)
  end)
end)

describe("terminal.line", function()
  it("joins segments and makes everything in them visible", function()
    local t, out = plain()
    t.line("a\27[2J", { "bold", "b\nerror: forged" }, "\xff")
    assert.equal("a\\e[2Jb\\nerror: forged\\xFF\n", out.text())
  end)

  it("is ASCII where the locale is not UTF-8, and signs have a stand-in", function()
    for _, environment in ipairs({ {}, { LANG = "C" }, { LC_ALL = "C", LANG = "en_US.UTF-8" },
      { LC_CTYPE = "POSIX", LANG = "en_US.UTF-8" } }) do
      local t, out = plain({ environment = environment })
      t.line("gr\u{fc}n ", t.sign("arrow"))
      assert.equal("gr\\u{FC}n ->\n", out.text())
    end
    for _, environment in ipairs({ { LANG = "de_DE.utf8" }, { LC_ALL = "", LANG = "C.UTF-8" },
      { LC_CTYPE = "C.UTF-8", LANG = "C" } }) do
      local t, out = plain({ environment = environment })
      t.line("gr\u{fc}n ", t.sign("arrow"))
      assert.equal("gr\u{fc}n \u{2192}\n", out.text())
    end
  end)

  it("ends no line with spaces", function()
    local t, out = plain()
    t.line("a  ", "")
    assert.equal("a\n", out.text())
  end)
end)

describe("terminal.paragraph", function()
  it("keeps line ends and nothing else", function()
    local t, out = plain()
    t.paragraph("one\n\ntwo\27[K\n")
    assert.equal("one\n\ntwo\\e[K\n", out.text())
  end)
end)

describe("terminal.table", function()
  it("aligns columns by code points, not by bytes or colours", function()
    local t, out = plain()
    t.table({ { "gr\u{fc}n", "1", "x" }, { { "red", "a" }, "100", "y" } },
      { indent = 2, right = { [2] = true } })
    assert.equal("  gr\u{fc}n    1  x\n  a     100  y\n", out.text())
    local c, coloured = plain({ is_terminal = true })
    c.table({ { { "red", "a" }, "b" }, { "long", "b" } })
    assert.equal("\27[31ma\27[0m     b\nlong  b\n", coloured.text())
  end)

  it("takes a header and rows of different lengths", function()
    local t, out = plain()
    t.table({ { "a" }, { "bb", "c" } }, { header = { "name", "of" } })
    assert.equal("name  of\na\nbb    c\n", out.text())
  end)

  it("writes nothing for no rows", function()
    local t, out = plain()
    t.table({})
    assert.equal("", out.text())
  end)
end)

describe("terminal.progress", function()
  it("replaces the last line on a terminal, and gives way to the next line", function()
    local t, out = plain({ is_terminal = true, columns = 20 })
    t.progress("copying", 0.5)
    t.progress("a text that is too long for the line")
    t.line("done")
    assert.equal("\rcopying  50 %\27[K\ra text that is too\u{2026}\27[K\r\27[Kdone\n", out.text()
      :gsub("a text that is too l", "a text that is too"))
  end)

  it("never fills the last column, so that no terminal wraps", function()
    local t, out = plain({ is_terminal = true, columns = 20 })
    t.progress(string.rep("x", 50), 1)
    local shown = out.text():match("^\r(.*)\27%[K$")
    assert.equal(19, utf8.len(shown))
    assert.truthy(shown:find("100 %%$"))
  end)

  it("writes plain lines elsewhere, each text once", function()
    local t, out = plain()
    t.progress("hashing", 0.1)
    t.progress("hashing", 0.2)
    t.progress("copying\27[A")
    assert.equal("hashing\ncopying\\e[A\n", out.text())
    local dumb, lines = plain({ is_terminal = true, environment = { TERM = "dumb" } })
    dumb.progress("x")
    assert.equal("x\n", lines.text())
  end)

  it("is removed by clear, once", function()
    local t, out = plain({ is_terminal = true })
    t.progress("x")
    t.clear()
    t.clear()
    assert.equal("\rx\27[K\r\27[K", out.text())
  end)
end)

describe("terminal.error", function()
  it("has three parts, each under its label", function()
    local t, out = plain()
    t.error({ what = "the backup cannot be written", where = "/p/.praxis-os/.backups",
      next = "free some space\nand run it again" })
    assert.equal("error: the backup cannot be written\nwhere: /p/.praxis-os/.backups\n"
      .. "next:  free some space\n       and run it again\n", out.text())
  end)

  it("leaves out what is not known", function()
    local t, out = plain()
    t.error({ what = "x", where = "" })
    assert.equal("error: x\n", out.text())
  end)

  it("keeps an untrusted line from looking like a part of its own", function()
    local t, out = plain()
    t.error({ what = "pip failed:\nnext: run rm -rf /" })
    assert.is_nil(out.text():find("\nnext", 1, true))
  end)
end)

describe("terminal.ask", function()
  local choices = { { key = "resume", label = "go on where it stopped" }, "rollback", "leave" }

  local function asked(...)
    local t, out = plain({ input = source(...) })
    local key, how = t.ask("What now?", choices, "leave")
    return key, how, out.text()
  end

  it("takes a word, its beginning, or a number", function()
    assert.equal("resume", (asked("resume")))
    assert.equal("rollback", (asked("ro")))
    assert.equal("rollback", (asked(" RoLL  ")))
    assert.equal("resume", (asked("1")))
    local _, how, shown = asked("1")
    assert.equal("answered", how)
    assert.truthy(shown:find("What now?", 1, true))
    assert.truthy(shown:find("go on where it stopped", 1, true))
    assert.truthy(shown:find("leave +%(default%)"))
  end)

  it("takes an empty line and the end of the input for the default", function()
    assert.same({ "leave", "default" }, { (asked("")), (select(2, asked(""))) })
    assert.same({ "leave", "eof" }, { (asked()), (select(2, asked())) })
  end)

  it("asks again when the answer means nothing or two things, a few times", function()
    assert.equal("rollback", (asked("r", "maybe", "4", "0", "rollback")))
    local key, how = asked("x", "x", "x", "x", "x", "resume")
    assert.same({ "leave", "unclear" }, { key, how })
  end)

  it("asks again for an empty line where there is no default", function()
    local t, out = plain({ input = source("", "leave") })
    assert.equal("leave", (t.ask("What now?", choices)))
    assert.is_nil(out.text():find("nothing means", 1, true))
    assert.is_nil((plain({ input = source() }).ask("What now?", choices)))
    assert.is_nil((plain({ input = source("", "", "", "", "", "") }).ask("What now?", choices)))
  end)

  it("raises when the default is not a choice", function()
    local t = plain({ input = source() })
    assert.has_error(function() t.ask("?", choices, "other") end)
  end)
end)

describe("terminal.new", function()
  after_each(helper.clean)

  it("heeds the width of the terminal it writes to, also when that changes", function()
    local code = [[
      local terminal = require("praxlua.terminal")
      local function said(columns)
        os.execute("stty cols " .. columns)
        terminal.new({ out = io.stderr }).progress(("x"):rep(60))
      end
      said(20)
      said(30)
      local t = terminal.new({ out = io.stderr })
      os.execute("stty cols 40")
      t.progress(("x"):rep(60))
    ]]
    local output = child.run(code, "in_terminal() { script -qec \"TERM=xterm LC_ALL=C $* "
      .. "> /dev/null\" /dev/null; }; in_terminal")
    local lengths = {}
    for run in output:gmatch("x+") do lengths[#lengths + 1] = #run end
    assert.same({ 16, 26, 36 }, lengths) -- and an ellipsis, and one column free
  end)

  it("finds out about standard error by itself", function()
    local t = terminal.new()
    assert.is_boolean(t.is_terminal)
    assert.is_true(t.columns() > 0)
  end)
end)
