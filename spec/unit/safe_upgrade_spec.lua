--- The driver "safe-upgrade.py", with a stand-in for the script: what it is told, how its questions
-- are answered, what becomes of its work, and every way in which it cannot be used.
local core = require("praxlua.core")
local driver = require("praxlua.driver.safe_upgrade")
local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local lfs = require("lfs")
local names_in = require("praxlua.folder").names
local output = require("praxlua.driver.output")
local plan = require("praxlua.plan")
local repository = require("spec.support.repository")

local SCRIPT = helper.read("spec/fixtures/safe_upgrade/safe-upgrade.py")
local LIMITS = driver.limits
local GUIDE = "standards/universal/ai-assistant/guide.md"
local PYRAMID = "standards/universal/testing/pyramid.md"
local PHASE = "workflows/flow/phase.md"
local FLOW = "workflows/flow/metadata.json"
local RETIRED = "standards/universal/testing/retired.md"
local NEW = "standards/universal/testing/new.md"
local LONG = "standards/universal/testing/long.md"
local if_confined = core.spawn.confines() and it or function() end

describe("the driver safe-upgrade.py", function()
  local source, target

  -- Made once; each test has a copy.
  local kept_source, kept_target, own_plan
  local function make()
    source = repository.source({
      ["scripts/safe-upgrade.py"] = SCRIPT, ["universal/standards/testing/retired.md"] = "old\n",
      ["universal/standards/testing/long.md"] = "1\n2\n3\n4\n5\n",
    })
    target = repository.install(source, repository.git(source, "rev-parse", "HEAD"))
    repository.commit(source, {
      ["universal/standards/ai-assistant/guide.md"] = "guide 2\n",
      ["universal/workflows/flow/phase.md"] = "phase 2\n",
      ["universal/standards/testing/new.md"] = "new\n",
      ["universal/standards/testing/long.md"] = "1\n2\n3\n4\n5, upstream\n",
      ["universal/standards/testing/retired.md"] = false,
    })
    kept_source, kept_target = source, target
    own_plan = assert(plan.build(repository.context(source, target)))
  end
  setup(make)
  teardown(helper.clean)

  -- Makes the script misbehave.
  local function misbehave(mode)
    helper.write(source .. "/VERSION.txt", "Current Version: 2.0.0+" .. mode .. "\n")
  end

  local root
  before_each(function()
    root = kept_source:match("^(.*)/") .. "/copy"
    source, target = kept_source, root .. "/project/.praxis-os"
    assert(core.file.mkdir(root .. "/project"))
    assert(core.tree.copy(kept_target, target))
    misbehave("honest")
  end)

  after_each(function()
    driver.limits = LIMITS
    assert(core.tree.remove(root))
  end)

  -- For what changes the source itself.
  local function copy_source()
    source = root .. "/source"
    assert(core.tree.copy(kept_source, source))
  end

  local function build(options)
    options = options or {}
    options.driver, options.on_conflict = "safe-upgrade.py", options.on_conflict or "stop"
    local ctx = repository.context(source, target, options)
    local planned, message, code = plan.build(ctx)
    return planned, message, code, ctx
  end

  local function find(planned, path)
    for _, entry in ipairs(planned.entries) do
      if entry.path == path then return entry end
    end
  end

  local function actions(planned)
    local found = {}
    for _, entry in ipairs(planned.entries) do
      if entry.action ~= "unchanged" then found[entry.path] = entry.action end
    end
    return found
  end

  local function temporary_left()
    local place, left = os.getenv("TMPDIR") or "/tmp", {}
    for _, name in ipairs(names_in(place)) do
      local copy = place .. "/" .. name .. "/work/.praxis-os"
      if name:find("^praxlua%-") and core.file.exists(copy) then left[#left + 1] = name end
    end
    return left
  end

  -- The driver cannot be used for a plan of ours, and nothing has been touched or left.
  local function refused(pattern, planned)
    local before, shipped = repository.snapshot(target), repository.snapshot(source)
    local ctx = repository.context(source, target)
    planned = planned or own_plan
    ctx.layout = layout.by_name(planned.layout)
    local facts, message, code = driver.decide(ctx, planned.entries, error)
    assert.is_nil(facts)
    assert.equal("EDRIVER", code)
    assert.matches(pattern, message)
    assert.matches("nothing was changed; .*%-%-driver built%-in$", message)
    assert.same(before, repository.snapshot(target))
    assert.same(shipped, repository.snapshot(source))
    assert.same({}, temporary_left())
  end

  it("updates and adds what nobody changed, whatever the layout is, and removes nothing", function()
    local before = repository.snapshot(target)
    local planned, _, _, ctx = build()
    assert.same({ [GUIDE] = "update", [PHASE] = "update", [LONG] = "update", [NEW] = "add",
      [RETIRED] = "keep" }, actions(planned))
    assert.equal("safe-upgrade.py", planned.driver)
    assert.equal("no longer shipped; safe-upgrade.py removes nothing",
      find(planned, RETIRED).reason)
    assert.same({ files = 6, asked = 1, left = 1, overruled = 0 }, planned.driven)
    assert.same({}, ctx.warnings)
    assert.same(before, repository.snapshot(target))
    assert.same({}, temporary_left())
  end)

  it("is another plan than praxlua's own only where the script decides otherwise", function()
    local driven = build()
    assert.equal("built-in", own_plan.driver)
    for _, entry in ipairs(own_plan.entries) do
      local other = find(driven, entry.path)
      if entry.path ~= RETIRED then assert.same(entry, other) end
    end
    assert.equal(driven.hash, build().hash)
  end)

  it("is told the decisions of a person through the script's questions", function()
    helper.write(target .. "/" .. GUIDE, "guide, mine\n")
    helper.write(target .. "/" .. PYRAMID, "pyramid, mine\n")
    assert(os.remove(target .. "/" .. FLOW))
    local planned = build()
    assert.equal("conflict", find(planned, GUIDE).action)
    assert.equal("keep", find(planned, PYRAMID).action)
    assert.equal("keep", find(planned, FLOW).action)
    assert.equal(3, planned.driven.asked) -- the guide, the new file, and the one that was deleted
    local ours = find(build({ on_conflict = "ours" }), GUIDE)
    assert.same({ "keep", "ours" }, { ours.action, ours.resolved })
    local theirs = find(build({ on_conflict = "theirs" }), GUIDE)
    assert.same({ "update", "theirs" }, { theirs.action, theirs.resolved })
    assert.equal("guide, mine\n", helper.read(target .. "/" .. GUIDE))
  end)

  it("merges what can be merged, or was, and tells the script to keep the file", function()
    helper.write(target .. "/" .. LONG, "1, mine\n2\n3\n4\n5\n")
    helper.write(target .. "/" .. GUIDE, "guide, mine\n")
    local planned, _, _, ctx = build()
    local merged = find(planned, LONG)
    assert.same({ "merge", "1, mine\n2\n3\n4\n5, upstream\n" }, { merged.action, merged.content })
    assert.same({ 3, 0 }, { planned.driven.asked, planned.driven.overruled })
    assert.same({}, ctx.warnings)
    local open = find(planned, GUIDE)
    local answered = build({ resolutions = {
      [GUIDE] = { answer = "merged", id = open.id, content = "guide 2, mine\n" } } })
    assert.same({ "merge", "merged", "guide 2, mine\n" }, { find(answered, GUIDE).action,
      find(answered, GUIDE).resolved, find(answered, GUIDE).content })
    assert.equal(0, answered.driven.overruled)
    misbehave("blind") -- it replaces both: the merge holds what each side has
    planned = build()
    assert.same(merged, find(planned, LONG))
  end)

  it("never lets the script replace what a person changed and did not give up", function()
    misbehave("blind")
    helper.write(target .. "/" .. GUIDE, "guide, mine\n")
    helper.write(target .. "/" .. PYRAMID, "pyramid, mine\n")
    local planned, _, _, ctx = build()
    assert.equal("conflict", find(planned, GUIDE).action)
    local entry = find(planned, PYRAMID)
    assert.same({ "conflict", "you changed it; safe-upgrade.py would replace it" },
      { entry.action, entry.reason })
    assert.matches("would have replaced " .. GUIDE, ctx.warnings[1], 1, true)
    assert.equal(2, planned.driven.overruled)
    assert.equal("update", find(build({ on_conflict = "theirs" }), PYRAMID).action)
    assert.equal("keep", find(build({ on_conflict = "ours" }), PYRAMID).action)
  end)

  it("leaves what the script leaves, and knows it for untouched afterwards", function()
    misbehave("lazy")
    local planned, _, _, ctx = build()
    local entry = find(planned, GUIDE)
    assert.same({ "keep", "safe-upgrade.py leaves it as it is", true, 8 },
      { entry.action, entry.reason, entry.deferred, entry.size })
    local transaction = repository.begin(ctx)
    ctx.memory.plan = planned
    assert(require("praxlua.content").upgrade(ctx))
    transaction:close()
    assert.equal("guide 1\n", helper.read(target .. "/" .. GUIDE))
    assert.equal("new\n", helper.read(target .. "/" .. NEW))
    local own = assert(plan.build(repository.context(source, target)))
    assert.same({ GUIDE = "update", RETIRED = "remove" },
      { GUIDE = find(own, GUIDE).action, RETIRED = find(own, RETIRED).action })
  end)

  it("takes what the script writes into files that nobody changed", function()
    misbehave("own-version")
    local entry = find(build(), GUIDE)
    assert.same({ "merge", "guide 2\nand more\n", core.hash.sha256("guide 2\nand more\n") },
      { entry.action, entry.content, entry.result })
  end)

  it("does not take over what the script makes beside the shipped files", function()
    misbehave("own-file")
    local planned, _, _, ctx = build()
    assert.is_nil(find(planned, "standards/universal/testing/extra.md"))
    assert.matches("made 1 file .*, standards/testing/extra.md first", ctx.warnings[1])
  end)

  it("decides itself about links, odd names, and what is another type of file", function()
    copy_source()
    local odd = "universal/standards/testing/a\nb   Choice: .md"
    local raw = "universal/standards/testing/\xff\xfe.md"
    repository.commit(source, { [odd] = "odd\n", [raw] = "raw\n",
      ["universal/standards/testing/-rf 'x\" $(y).md"] = "quoted\n" })
    assert(os.remove(target .. "/" .. GUIDE))
    helper.write(target .. "/elsewhere.md", "guide 1\n")
    assert(lfs.link("../../../elsewhere.md", target .. "/" .. GUIDE, true))
    assert(os.remove(target .. "/" .. PHASE))
    assert(core.file.mkdir(target .. "/" .. PHASE))
    local planned = assert(build())
    assert.equal("add", find(planned, "standards/universal/testing/a\nb   Choice: .md").action)
    assert.equal("add", find(planned, "standards/universal/testing/\xff\xfe.md").action)
    assert.equal("add", find(planned, "standards/universal/testing/-rf 'x\" $(y).md").action)
    assert.equal("conflict", find(planned, GUIDE).action)
    assert.equal("guide 1\n", helper.read(target .. "/elsewhere.md"))
    assert.equal(5, planned.driven.files) -- "quoted", new, long, pyramid, metadata
  end)

  it("decides itself about what upstream moved, and names that differ in case only", function()
    copy_source()
    repository.commit(source, { ["universal/standards/testing/pyramid.md"] = false,
      ["universal/standards/testing/moved.md"] = "pyramid 1\n",
      ["universal/standards/testing/NEW.md"] = "NEW\n" })
    helper.write(target .. "/" .. PYRAMID, "pyramid 1\nmine\n")
    local planned = assert(build())
    local moved = find(planned, "standards/universal/testing/moved.md")
    assert.same({ PYRAMID, "pyramid 1\nmine\n" }, { moved.moved_from, moved.content })
    assert.equal("remove", find(planned, PYRAMID).action)
    assert.equal("add", find(planned, NEW).action)
    assert.same({ 4, 0 }, { planned.driven.files, planned.driven.asked })
  end)

  it("takes exit code 1 for what it is said to mean, when conflicts are left", function()
    misbehave("documented")
    helper.write(target .. "/" .. GUIDE, "guide, mine\n")
    assert.equal("conflict", find(assert(build()), GUIDE).action)
  end)

  for mode, pattern in pairs({
    crash = "its run crashed: .*RuntimeError: as it was told",
    signal = "its run was ended by signal 9",
    ["exit-1"] = "its run ended with exit code 1;",
    ["early-end"] = "its run ended without saying that it is complete",
    error = "its dry run told of 1 error: ❌ standards/missing.md",
    liar = "counted %d+ files, and it was given 6",
    fickle = "counted 8 files, and it was given 6",
    ["dry-writer"] = "its dry run changed files",
    stranger = "asks \"Add this file%? %[Y/n%]:\" about no file that it was given",
    delete = "it deleted ", link = "it made a link of ",
  }) do
    it("is refused: " .. mode, function()
      misbehave(mode)
      refused(pattern)
    end)
  end

  it("is refused when it asks again", function()
    misbehave("deaf")
    helper.write(target .. "/" .. GUIDE, "guide, mine\n")
    refused("it asks again about standards/ai%-assistant/guide.md: Choice:",
      assert(plan.build(repository.context(source, target))))
  end)

  it("is refused when it asks what is not known, hangs, or never stops talking", function()
    driver.limits = { seconds = 0.6, silence = 0.2, output = 65536 }
    misbehave("unknown-prompt")
    refused("its run asks what praxlua cannot answer: Reformat the disk%? %[Y/n%]:")
    misbehave("hang")
    refused("its run did not end within 0.6 seconds")
    misbehave("silent-prompt")
    refused("its run did not end within 0.6 seconds")
    misbehave("flood")
    refused("its run: it writes more than is read")
  end)

  if_confined("is refused when it writes outside of its copy", function()
    misbehave("outside")
    refused("its run crashed: .*PermissionError")
    misbehave("write:" .. target .. "/mine.txt")
    refused("its run crashed: .*PermissionError")
    assert.is_false(core.file.exists(target .. "/mine.txt"))
  end)

  it("is refused without the committed script", function()
    copy_source()
    helper.write(source .. "/scripts/safe-upgrade.py", "print('something else')\n")
    refused("scripts/safe%-upgrade.py has uncommitted changes")
    repository.commit(source, { ["scripts/safe-upgrade.py"] = false })
    refused("scripts/safe%-upgrade.py is no file of that repository")
  end)
end)

describe("what safe-upgrade.py says", function()
  it("is read by its words, not by the signs before them", function()
    local heard = output.listen()
    for line in ([[
Analysis Summary:
   New files: 3
   Auto-update: 0
   Errors: 12
   Anything: 4

   Conflicts: 9
! Conflicts requiring attention:
   ! standards/a b.md
   ! standards/c.md

   ! standards/d.md
!! CONFLICT: standards/x (1.0 KB)
]]):gmatch("[^\n]*") do output.line(heard, line) end
    assert.same({ new = 3, updated = 0, errors = 12 }, heard.counts)
    assert.same({ ["standards/a b.md"] = true, ["standards/c.md"] = true }, heard.listed)
    assert.same({ kind = "conflict", path = "standards/x (1.0 KB)" }, heard.asks)
    output.line(heard, "➕ New file: standards/y (2).md (1,234.5 KB)")
    assert.same({ kind = "new", path = "standards/y (2).md" }, heard.asks)
  end)

  it("has three questions", function()
    assert.equal("add", output.prompt("   Add this file? [Y/n]: "))
    assert.equal("choose", output.prompt("   Choice: "))
    assert.equal("overwrite", output.prompt("   !  Overwrite local changes? [y/N]: "))
    for _, other in ipairs({ "   Choice:", "Choice: y", "Add this file? ", "Sure? [y/N]: " }) do
      assert.is_nil(output.prompt(other))
    end
  end)
end)
