--- The judge of the merge corpus finds each kind of mistake an upgrade could make: the right result
-- has none, and every test makes one.
local cjson = require("cjson")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local place = require("spec.corpus.place")
local repository = require("spec.support.repository")

local TOP = "standards/universal/"
local BASE = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"

-- Lines 1 and 7 changed by the two sides; git merges them.
local OURS, THEIRS = BASE:gsub("one", "our one"), BASE:gsub("seven", "their seven")
local MERGED = OURS:gsub("seven", "their seven")

-- What the two releases ship, beneath universal/standards.
local FIRST = { same = "same\n", changed = "changed 1\n", gone = "gone\n", both = BASE,
  disputed = BASE, moved = BASE .. "moved\n", deleted = "deleted\n", renamed = BASE .. "renamed\n" }
local SECOND = { changed = "changed 2\n", gone = false, new = "new\n", both = THEIRS,
  disputed = BASE:gsub("one", "their one"), moved = false, ["moved-on"] = BASE .. "moved\n",
  renamed = THEIRS .. "renamed\n" }
-- What a person did, and what is right afterwards, beneath standards/universal.
local PERSON = { both = OURS, disputed = OURS, moved = OURS .. "moved\n", deleted = false,
  renamed = false, ["our-name"] = BASE .. "renamed\n", ["notes.md"] = "mine\n" }
local RIGHT = { changed = "changed 2\n", gone = false, new = "new\n", both = MERGED,
  moved = false, ["moved-on"] = OURS .. "moved\n", ["our-name"] = THEIRS .. "renamed\n" }
local ACTIONS = { changed = "update", gone = "remove", new = "add", both = "merge",
  moved = "remove", ["moved-on"] = "merge", ["our-name"] = "merge", disputed = "keep" }

local function beneath(prefix, files)
  local all = {}
  for name, value in pairs(files) do all[prefix .. name] = value end
  return all
end

local function write(target, files)
  for path, data in pairs(beneath(target .. "/" .. TOP, files)) do
    if data then helper.write(path, data) else assert(os.remove(path)) end
  end
end

describe("The judge of the merge corpus", function()
  local p

  setup(function()
    local base = helper.tempdir()
    p = { base = base, root = base .. "/place", project = base .. "/project" }
    p.target = p.project .. "/.praxis-os"
    repository.sh("mkdir", "-p", p.root, base .. "/source")
    repository.git(base .. "/source", "init", "-q", "-b", "main")
    repository.commit(base .. "/source", {})
    for _, files in ipairs({ FIRST, SECOND }) do
      repository.commit(base .. "/source", beneath("universal/standards/", files))
    end
  end)
  before_each(function()
    assert(core.tree.remove(p.project))
    write(p.target, FIRST)
    write(p.target, PERSON)
    helper.write(p.project .. "/app.py", "print(1)\n")
    place.ask(p, "begin", { project = p.project, older = 1, newer = 2,
      renamed = { [TOP .. "renamed"] = TOP .. "our-name" } })
    write(p.target, RIGHT)
  end)
  teardown(function()
    place.close(p)
    helper.clean()
  end)

  -- What the judge says: "kind name" of each problem.
  local function said(conflicts, actions)
    local paths = setmetatable({}, cjson.array_mt)
    for i, name in ipairs(conflicts or { "disputed" }) do paths[i] = TOP .. name end
    local planned = {}
    for name, action in pairs(ACTIONS) do planned[TOP .. name] = action end
    for name, action in pairs(actions or {}) do planned[TOP .. name] = action end
    local verdict = place.ask(p, "verdict", { actions = planned, conflicts = paths,
      is_told = true })
    local found = {}
    for _, problem in ipairs(verdict.problems) do
      found[#found + 1] = problem[2] .. " " .. problem[1]:gsub("^" .. TOP, "")
    end
    return found, verdict
  end

  it("finds nothing wrong with the right result, and counts it", function()
    local found, verdict = said()
    assert.same({}, found)
    assert.equal(1, verdict.merges)
    assert.equal(2, verdict.followed)
    assert.equal(1, verdict.conflicts)
  end)

  for _, mistake in ipairs({
    { "a file that was not updated", { changed = FIRST.changed }, "stale changed" },
    { "a file that was not added", { new = false }, "stale new" },
    { "a file that was not removed", { gone = "gone\n" }, "stale gone" },
    { "a file that came back", { deleted = FIRST.deleted }, "stale deleted" },
    { "another merge than git's", { both = MERGED .. "more\n" }, "merge both" },
    { "an edit that did not follow a rename", { ["moved-on"] = BASE .. "moved\n" },
      "lost moved" },
    { "an update that did not follow the user's rename", { ["our-name"] = BASE .. "renamed\n" },
      "stale our-name" },
    { "a file of the user's that is gone", { ["notes.md"] = false }, "lost notes.md" },
    { "a decision for ours that took theirs", { disputed = SECOND.disputed }, "lost disputed" },
    { "a file nobody expects", { stray = "stray\n" }, "stray stray" },
  }) do
    it("finds " .. mistake[1], function()
      write(p.target, mistake[2])
      local found = table.concat((said()), "\n")
      assert.truthy(found:find(mistake[3], 1, true), found)
    end)
  end

  it("finds a changed mode", function()
    repository.sh("chmod", "755", p.target .. "/" .. TOP .. "same")
    assert.same({ "mode same" }, (said()))
  end)

  it("finds a file of the project that was touched", function()
    helper.write(p.project .. "/app.py", "print(2)\n")
    assert.same({ "lost app.py" }, (said()))
  end)

  it("finds a conflict that git does not see, and one that was decided in silence", function()
    assert.same({ "needless conflict both" }, (said({ "disputed", "both" })))
    assert.same({ "undecided disputed" }, (said({})))
  end)

  it("finds a plan that does not say what was done", function()
    assert.same({ "plan both" }, (said(nil, { both = "unchanged" })))
    assert.same({ "plan same" }, (said(nil, { same = "update" })))
  end)
end)
