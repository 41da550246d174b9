--- Patterns over paths.
local core = require("praxlua.core")
local glob = require("praxlua.glob")

describe("A pattern", function()
  local function matches(pattern, path) return glob.matches(assert(glob.compile(pattern)), path) end

  for pattern, by in pairs({
    ["workflows/**"] = { yes = { "workflows/a", "workflows/a/b/c.md", "workflows" },
      no = { "workflowsx/a", "a/workflows/b" } },
    ["workflows/*"] = { yes = { "workflows/a.md", "workflows/.hidden" },
      no = { "workflows/a/b.md", "workflows" } },
    ["**/README.md"] = { yes = { "README.md", "a/README.md", "a/b/README.md" },
      no = { "a/README.mdx", "README.md/a" } },
    ["a/**/z"] = { yes = { "a/z", "a/b/z", "a/b/c/z", "a/z/z" },
      no = { "a/zz", "b/a/z", "a/z/b" } },
    ["a/**/b/**/c"] = { yes = { "a/b/c", "a/x/b/y/b/c" }, no = { "a/c", "a/x/c/b" } },
    ["*.md"] = { yes = { "a.md", ".md" }, no = { "a/b.md", "a.mdx" } },
    ["a*b*c"] = { yes = { "abc", "axbxbxc" }, no = { "ab", "acb", "ab/c" } },
    ["a?c"] = { yes = { "abc", "aéc", "a\255c" }, no = { "ac", "abbc", "a/c" } },
    ["folder/mine"] = { yes = { "folder/mine", "folder/mine/a/b" },
      no = { "folder/mine2", "folder" } },
    ["a.b-c%d"] = { yes = { "a.b-c%d" }, no = { "axb-c%d", "a.bcd", "a.b-c1" } },
    ["[ab]"] = { yes = { "[ab]" }, no = { "a" } },
    ["**"] = { yes = { "a", "a/b" }, no = {} },
    ["\254?"] = { yes = { "\254x", "\254\255" }, no = { "\254" } },
  }) do
    it(("%q fits what it says, and nothing else"):format(pattern), function()
      for _, path in ipairs(by.yes) do assert.is_true(matches(pattern, path), path) end
      for _, path in ipairs(by.no) do assert.is_false(matches(pattern, path), path) end
    end)
  end

  it("that leads out of the installation, or is none, is refused", function()
    for _, pattern in ipairs({ "", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\0b",
      "a/**b", "a**", ("a"):rep(glob.MAX_BYTES + 1) }) do
      local compiled, problem = glob.compile(pattern)
      assert.is_nil(compiled, pattern)
      assert.is_string(problem)
      assert.is_nil(problem:find("\0", 1, true))
    end
  end)

  it("takes no time by the power of its stars", function()
    local began = core.system.monotonic()
    assert.is_false(matches(("*a"):rep(100) .. "b", ("a"):rep(250)))
    assert.is_false(matches(("**/a/"):rep(100) .. "b", ("a/"):rep(250) .. "c"))
    assert.is_true(core.system.monotonic() - began < 2)
  end)

  it("of several the one that says most counts, whatever their order", function()
    local list = { { pattern = "**", answer = 1 }, { pattern = "a/**", answer = 2 },
      { pattern = "a/b/*.md", answer = 3 }, { pattern = "a/*/c.md", answer = 4 },
      { pattern = "a/b/?.md", answer = 5 } }
    for _ = 1, 2 do
      local find = glob.lookup(list)
      assert.equal(1, find("x"))
      assert.equal(2, find("a/x"))
      assert.equal(3, find("a/b/xx.md"))
      assert.equal(3, find("a/b/x.md")) -- "*" comes before "?" in the alphabet
      assert.equal(4, find("a/b/c.md")) -- and before "b"
      assert.equal(4, find("a/y/c.md"))
      list = { list[5], list[4], list[3], list[2], list[1] }
    end
    assert.is_nil(glob.lookup(nil)("x"))
  end)
end)
