local base = require("praxlua.base")
local decision = require("praxlua.decision")

local function file(id, executable)
  return { type = "file", id = id, executable = executable or false,
    mode = executable and 493 or 420 }
end

local function link(target) return { type = "link", id = "link:" .. target } end

local DIRECTORY = { type = "directory", id = "directory" }
local OTHER = { type = "other", id = "other" }
local A, B, C = file("a"), file("b"), file("c")
local RUN_A, RUN_B = file("a", true), file("b", true)
local UNKNOWN = base.UNKNOWN
local NONE = nil

-- base, local, new, ownership, action, executable
local DECISIONS = {
  { "nothing anywhere", NONE, NONE, NONE, "system", nil },
  { "shipped once, gone on both sides", A, NONE, NONE, "system", nil },
  { "new upstream", NONE, NONE, A, "system", "add", false },
  { "new upstream, to be run", NONE, NONE, RUN_A, "shared", "add", true },
  { "new upstream, nothing known", UNKNOWN, NONE, A, "system", "add", false },
  { "deleted here, unchanged upstream", A, NONE, A, "system", "keep" },
  { "deleted here, changed upstream", A, NONE, B, "system", "conflict" },
  { "deleted here, made a link upstream", A, NONE, link("x"), "system", "conflict" },
  { "as shipped", A, A, A, "system", "unchanged", false },
  { "changed upstream", A, A, B, "system", "update", false },
  { "changed upstream, shared", A, A, B, "shared", "update", false },
  { "changed here", A, B, A, "system", "keep" },
  { "changed alike", A, B, B, "system", "adopt", false },
  { "changed differently", A, B, C, "system", "merge", false },
  { "yours where nothing was shipped", NONE, A, B, "system", "conflict" },
  { "yours, the same as shipped now", NONE, A, A, "system", "adopt", false },
  { "unknown base, different", UNKNOWN, A, B, "system", "conflict" },
  { "unknown base, the same", UNKNOWN, A, A, "system", "adopt", false },
  { "gone upstream, unchanged here", A, A, NONE, "system", "remove" },
  { "gone upstream, changed here", A, B, NONE, "system", "keep" },
  { "gone upstream, shared", A, A, NONE, "shared", "keep" },
  { "never shipped", NONE, A, NONE, "system", "keep" },
  { "never shipped as far as known", UNKNOWN, A, NONE, "system", "keep" },
  { "gone upstream, a directory here", A, DIRECTORY, NONE, "system", "keep" },
  -- types
  { "file became a link upstream", A, A, link("x"), "system", "update" },
  { "link became a file upstream", link("x"), link("x"), A, "system", "update", false },
  { "file became a link here", A, link("x"), A, "system", "keep" },
  { "file became a link here, changed upstream", A, link("x"), B, "system", "conflict" },
  { "both made the same link", A, link("x"), link("x"), "system", "adopt" },
  { "both made different links", A, link("x"), link("y"), "system", "conflict" },
  { "link unchanged", link("x"), link("x"), link("x"), "system", "unchanged" },
  { "link moved upstream", link("x"), link("x"), link("y"), "system", "update" },
  { "link gone upstream", link("x"), link("x"), NONE, "system", "remove" },
  { "a link to a file's text is no file", { type = "file", id = "x" }, link("x"), NONE, "system",
    "keep" },
  { "directory of yours in the way", NONE, DIRECTORY, A, "system", "conflict" },
  { "file became a directory here", A, DIRECTORY, A, "system", "keep" },
  { "file became a directory here, changed upstream", A, DIRECTORY, B, "system", "conflict" },
  { "a socket in the way", UNKNOWN, OTHER, A, "system", "conflict" },
  { "file changed here, made a link upstream", A, B, link("x"), "system", "conflict" },
  { "file became a directory here, a link upstream",
    A, DIRECTORY, link("x"), "system", "conflict" },
  { "file became a socket here, changed upstream", A, OTHER, B, "system", "conflict" },
  { "file became a socket here", A, OTHER, A, "system", "keep" },
  { "file became a socket here, a link upstream", A, OTHER, link("x"), "system", "conflict" },
  { "file became a socket here, gone upstream", A, OTHER, NONE, "system", "keep" },
  { "link became a directory here, a file upstream",
    link("x"), DIRECTORY, A, "system", "conflict" },
  { "link became a directory here, moved upstream",
    link("x"), DIRECTORY, link("y"), "system", "conflict" },
  { "link became a directory here", link("x"), DIRECTORY, link("x"), "system", "keep" },
  { "link became a directory here, gone upstream", link("x"), DIRECTORY, NONE, "system", "keep" },
  { "link became different files", link("x"), A, B, "system", "conflict" },
  { "link became a file here, moved upstream", link("x"), A, link("y"), "system", "conflict" },
  { "link became a file here", link("x"), A, link("x"), "system", "keep" },
  { "link became a file here, gone upstream", link("x"), A, NONE, "system", "keep" },
  { "both made the link the same file", link("x"), A, A, "system", "adopt" },
  { "link moved here, a file upstream", link("x"), link("y"), A, "system", "conflict" },
  { "link moved here and there, differently",
    link("x"), link("y"), link("z"), "system", "conflict" },
  { "link moved here", link("x"), link("y"), link("x"), "system", "keep" },
  { "link moved here, gone upstream", link("x"), link("y"), NONE, "system", "keep" },
  { "link moved alike", link("x"), link("y"), link("y"), "system", "adopt" },
  { "link deleted here, a file upstream", link("x"), NONE, A, "system", "conflict" },
  { "link deleted here, moved upstream", link("x"), NONE, link("y"), "system", "conflict" },
  { "link deleted here", link("x"), NONE, link("x"), "system", "keep" },
  { "link gone on both sides", link("x"), NONE, NONE, "system", nil },
  { "link became a socket here, a file upstream", link("x"), OTHER, A, "system", "conflict" },
  { "link became a socket here, moved upstream",
    link("x"), OTHER, link("y"), "system", "conflict" },
  { "link became a socket here", link("x"), OTHER, link("x"), "system", "keep" },
  { "link became a socket here, gone upstream", link("x"), OTHER, NONE, "system", "keep" },
  { "directory of yours where a link is shipped",
    NONE, DIRECTORY, link("x"), "system", "conflict" },
  { "directory of yours", NONE, DIRECTORY, NONE, "system", "keep" },
  { "file of yours where a link is shipped", NONE, A, link("x"), "system", "conflict" },
  { "link of yours where a file is shipped", NONE, link("x"), A, "system", "conflict" },
  { "link of yours where another one is shipped",
    NONE, link("x"), link("y"), "system", "conflict" },
  { "link of yours", NONE, link("x"), NONE, "system", "keep" },
  { "link of yours, the same as shipped now", NONE, link("x"), link("x"), "system", "adopt" },
  { "link that is new upstream", NONE, NONE, link("x"), "system", "add" },
  { "socket of yours where a file is shipped", NONE, OTHER, A, "system", "conflict" },
  { "socket of yours where a link is shipped", NONE, OTHER, link("x"), "system", "conflict" },
  { "socket of yours", NONE, OTHER, NONE, "system", "keep" },
  { "unknown base, a directory here", UNKNOWN, DIRECTORY, A, "system", "conflict" },
  { "unknown base, a directory here, a link upstream",
    UNKNOWN, DIRECTORY, link("x"), "system", "conflict" },
  { "unknown base, a directory here, nothing upstream",
    UNKNOWN, DIRECTORY, NONE, "system", "keep" },
  { "unknown base, a file here, a link upstream", UNKNOWN, A, link("x"), "system", "conflict" },
  { "unknown base, a link here, a file upstream", UNKNOWN, link("x"), A, "system", "conflict" },
  { "unknown base, different links", UNKNOWN, link("x"), link("y"), "system", "conflict" },
  { "unknown base, a link here only", UNKNOWN, link("x"), NONE, "system", "keep" },
  { "unknown base, the same links", UNKNOWN, link("x"), link("x"), "system", "adopt" },
  { "unknown base, a link upstream only", UNKNOWN, NONE, link("x"), "system", "add" },
  { "unknown base, nothing anywhere", UNKNOWN, NONE, NONE, "system", nil },
  { "unknown base, a socket here, a link upstream",
    UNKNOWN, OTHER, link("x"), "system", "conflict" },
  { "unknown base, a socket here only", UNKNOWN, OTHER, NONE, "system", "keep" },
  -- the right to run
  { "made executable upstream", A, A, RUN_A, "system", "update", true },
  { "made plain upstream", RUN_A, RUN_A, A, "system", "update", false },
  { "made executable here", A, RUN_A, A, "system", "unchanged", true },
  { "made executable here, content changed upstream", A, RUN_A, B, "system", "update", true },
  { "content and right changed upstream", A, A, RUN_B, "system", "update", true },
  { "right of the base not known", { type = "file", id = "a" }, A, RUN_B, "system", "update",
    true },
  { "right of yours stays when adopted", NONE, RUN_A, A, "system", "adopt", true },
  { "content changed here, made executable upstream", A, B, RUN_A, "system", "merge", true },
  { "content changed here, made plain upstream", RUN_A, RUN_B, A, "system", "merge", false },
  { "content changed here, right changed here, too", A, RUN_B, A, "system", "keep", true },
  { "content changed here, right as upstream", RUN_A, RUN_B, RUN_A, "system", "keep", true },
  { "right of the base not known, changed here", { type = "file", id = "a" }, RUN_B, C, "system",
    "merge", true },
  { "unknown base, different, both to be run", UNKNOWN, RUN_A, RUN_B, "system", "conflict", true },
  -- ownership
  { "a user's file", A, A, B, "user", "keep" },
  -- a configuration
  { "a config, as shipped before", A, A, B, "config", "merge", false },
  { "a config, changed here", A, B, A, "config", "keep" },
  { "a config, changed on both sides", A, B, C, "config", "merge", false },
  { "a config, nothing known", UNKNOWN, A, B, "config", "merge", false },
  { "a config as shipped now", UNKNOWN, A, A, "config", "unchanged", false },
  { "a config that is new", NONE, NONE, A, "config", "add", false },
  { "a config that is not here, nothing known", UNKNOWN, NONE, A, "config", "add", false },
  { "a config that was deleted here", A, NONE, B, "config", "keep" },
  { "a config no longer shipped", A, A, NONE, "config", "keep" },
  { "a config gone on both sides", A, NONE, NONE, "config", nil },
  { "a config that is a link here", A, link("x"), B, "config", "conflict" },
  { "a user's file that is not there", NONE, NONE, A, "user", nil },
}

describe("decision.decide", function()
  for _, case in ipairs(DECISIONS) do
    it(case[1] .. (" (%s)"):format(case[5]), function()
      local action, reason, executable = decision.decide(case[2], case[3], case[4], case[5])
      assert.equal(case[6], action)
      if case[7] ~= nil then assert.equal(case[7], executable) end
      if action then assert.is_true(#reason > 3) end
    end)
  end

  -- A cell: what kind each of the three is, and which of them are the same.
  local function cell_of(before, here, new)
    local function kind(state) return type(state) == "table" and state.type or state or "none" end
    local function alike(a, b) return decision.same(a, b) and "=" or "" end
    return ("%s%s %s%s %s%s"):format(kind(before), alike(before, here), kind(here),
      alike(here, new), kind(new), alike(new, before))
  end

  it("has a named test for every cell", function()
    local named = {}
    for _, case in ipairs(DECISIONS) do
      if case[5] == "system" then named[cell_of(case[2], case[3], case[4])] = true end
    end
    local missing = {}
    for _, before in ipairs({ false, UNKNOWN, A, link("x") }) do
      for _, here in ipairs({ false, A, B, link("x"), link("y"), DIRECTORY, OTHER }) do
        for _, new in ipairs({ false, A, B, C, link("x"), link("y"), link("z") }) do
          local cell = cell_of(before or nil, here or nil, new or nil)
          if not named[cell] then missing[cell] = true end
        end
      end
    end
    local list = {}
    for cell in pairs(missing) do list[#list + 1] = cell end
    table.sort(list)
    assert.equal("", table.concat(list, "\n"))
  end)

  it("replaces or removes only what is known to have been shipped", function()
    local states = { NONE or false, A, B, C, RUN_A, link("x"), link("y"), DIRECTORY, OTHER }
    for _, before in ipairs({ UNKNOWN, table.unpack(states) }) do
      for _, here in ipairs(states) do
        for _, new in ipairs(states) do
          local action = decision.decide(before or nil, here or nil, new or nil, "system")
          local known = type(before) == "table" and here and before.type == here.type
            and before.id == here.id
          local alike = here and new and here.type == new.type and here.id == new.id
          if here and (action == "update" or action == "remove") then
            assert.is_true(known or alike)
          end
        end
      end
    end
  end)
end)
