--- Differences: pairs of contents as unified diffs.
local difference = require("praxlua.difference")
local helper = require("spec.support.helper")
local process = require("praxlua.process")

describe("Differences", function()
  local limits = { difference.FILE_LIMIT, difference.TOTAL_LIMIT }

  after_each(function()
    difference.FILE_LIMIT, difference.TOTAL_LIMIT = limits[1], limits[2]
    helper.clean()
  end)

  local function of(old, new, path)
    return assert(difference.unified({ { path = path or "file", old = old, new = new } }))[1]
  end

  it("are what git makes of each pair, in their order", function()
    local all = {}
    for i = 1, 12 do
      all[i] = { path = "f" .. i, old = { data = ("\n"):rep(i) .. "old\n" },
        new = { data = ("\n"):rep(i) .. "new\nmore\n" } }
    end
    local results = assert(difference.unified(all))
    for i, result in ipairs(results) do
      local shown, first = math.min(i, 3), math.max(1, i - 2)
      assert.equal(("--- a/f%d\n+++ b/f%d\n@@ -%d,%d +%d,%d @@\n%s-old\n+new\n+more\n"):format(i, i,
        first, shown + 1, first, shown + 2, (" \n"):rep(shown)), result.diff)
      assert.same({ 2, 1, {} }, { result.added, result.removed, result.notes })
    end
  end)

  it("can be applied by patch, with what they say of the last line", function()
    local root = helper.tempdir()
    local old, new = "one\ntwo\r\nthree", "one\n2\r\nthree\nfour\n"
    helper.write(root .. "/file", old)
    local diff = of({ data = old }, { data = new }).diff
    assert.truthy(diff:find("\n\\ No newline at end of file\n", 1, true))
    local result = assert(process.run({ argv = { "git", "apply", "-" }, directory = root,
      stdin = diff, environment = process.environment({ GIT_CEILING_DIRECTORIES = root }) }))
    assert.equal(0, result.code, result.stderr)
    assert.equal(new, helper.read(root .. "/file"))
  end)

  it("name nothing where there is no file", function()
    assert.equal("--- /dev/null\n+++ b/file\n@@ -0,0 +1 @@\n+x\n", of(nil, { data = "x\n" }).diff)
    assert.equal("--- a/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", of({ data = "x\n" }).diff)
    assert.same({ "an empty file" }, of(nil, { data = "" }).notes)
    local moved = assert(difference.unified({ { path = "b", old_path = "a", old = { data = "x\n" },
      new = { data = "y\n" } } }))[1]
    assert.equal("--- a/a\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n", moved.diff)
  end)

  it("hold no line of a content or a name that could be one of their own", function()
    local evil = "x\ndiff --git a/old/1 b/new/1\n--- a/1\n+++ b/1\n@@ -1 +1 @@\n"
    local results = assert(difference.unified({
      { path = "e\n+++ b/other\n\27[2J", old = { data = evil }, new = { data = evil .. "end\n" } },
      { path = "two", old = { data = "1\n" }, new = { data = "2\n" } },
    }))
    local lines = {}
    for line in results[1].diff:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
    assert.equal([[--- "a/e\n+++ b/other\n\e[2J"]], lines[1])
    assert.equal([[+++ "b/e\n+++ b/other\n\e[2J"]], lines[2])
    assert.truthy(lines[3]:find("^@@ %-3,3 %+3,4 @@"))
    for i = 4, #lines do assert.truthy(lines[i]:find("^[ +]"), lines[i]) end
    assert.same({ 1, 0 }, { results[1].added, results[1].removed })
    assert.equal("--- a/two\n+++ b/two\n@@ -1 +1 @@\n-1\n+2\n", results[2].diff)
  end)

  it("say in words what no line shows", function()
    local text = { data = "a\nb\n", mode = 420 }
    assert.same({ "mode 644 becomes 755" }, of(text, { data = "a\nb\n", mode = 493 }).notes)
    assert.equal("", of(text, { data = "a\nb\n", mode = 493 }).diff)
    assert.same({ "only line ends differ: CRLF becomes LF" }, of({ data = "a\r\nb\r\n" },
      text).notes)
    assert.same({ "was a link, becomes a file" }, of({ link = "to" }, text).notes)
    assert.same({ "a link" }, of(nil, { link = "to" }).notes)
    assert.same({ "it may be run" }, of(nil, { data = "a\n", mode = 493 }).notes)
    local binary = of({ data = "a\0b" }, { data = "a\0" })
    assert.same({ true, "", { "not text: 3 B becomes 2 B" } },
      { binary.binary, binary.diff, binary.notes })
  end)

  it("leave out what is too large, and say so", function()
    difference.FILE_LIMIT = 10
    local large = of({ data = ("x"):rep(11) }, { data = "y\n" })
    assert.same({ "", { "too much to be compared line by line: 11 B becomes 2 B" } },
      { large.diff, large.notes })
    difference.TOTAL_LIMIT = 8
    local pairs_of = {}
    for i = 1, 3 do
      pairs_of[i] = { path = "f" .. i, old = { data = "1\n" }, new = { data = "2\n" } }
    end
    local results = assert(difference.unified(pairs_of))
    assert.truthy(results[2].diff ~= "" and results[2].notes[1] == nil)
    assert.truthy(results[3].diff == "" and results[3].notes[1])
  end)

  it("do not depend on the user's git", function()
    local root = helper.tempdir()
    helper.write(root .. "/.gitconfig", "[core]\n\tautocrlf = true\n\tattributesFile = " .. root
      .. "/attributes\n[diff]\n\tnoprefix = true\n\tcontext = 0\n\texternal = false\n")
    helper.write(root .. "/attributes", "* -diff\n")
    local own = process.environment
    process.environment = function(extra) -- luacheck: ignore
      local environment = own(extra)
      environment.HOME = root
      return environment
    end
    local ok, result = pcall(of, { data = "a\r\nb\n" }, { data = "a\nb\n" })
    process.environment = own -- luacheck: ignore
    assert.is_true(ok, result)
    assert.equal("--- a/file\n+++ b/file\n@@ -1,2 +1,2 @@\n-a\r\n+a\n b\n", result.diff)
  end)
end)
