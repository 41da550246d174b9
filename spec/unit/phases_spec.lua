--- Phases: the built-in ones, those of a project, and what is wrong with a script.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local phases = require("praxlua.phases")
local resources = require("praxlua.resources")

local fails = helper.fails

local BUILT_IN = "pre-flight-checks backup-preparation content-upgrade mcp-server-upgrade "
  .. "post-upgrade-validation cleanup-documentation"

local function script(fields)
  return "return { title = 'A title', run = type, " .. fields .. " }"
end

describe("phases", function()
  local directory
  before_each(function() directory = helper.tempdir() end)
  after_each(function()
    collectgarbage()
    assert.same({}, core.system.children(core.system.pid()))
    helper.clean()
  end)

  -- Writes scripts (with a run function) into a folder; their fields are given as Lua text.
  local function folder(name, scripts)
    for file, fields in pairs(scripts) do
      helper.write(directory .. "/" .. name .. "/" .. file,
        "local function run() end return { title = 'A title', run = run, " .. fields .. " }")
    end
    return directory .. "/" .. name
  end

  local function ids(list)
    local names = {}
    for i, phase in ipairs(list) do names[i] = phase.id end
    return table.concat(names, " ")
  end

  describe("that are built in", function()
    it("are six, in order", function()
      local list = assert(phases.all())
      assert.equal(BUILT_IN, ids(list))
      for i, phase in ipairs(list) do
        assert.equal(i - 1, phase.number)
        assert.equal(phase.number, phase.model)
        assert.is_string(phase.title)
        assert.is_nil(phase.from)
      end
    end)

    it("are found by id and by number", function()
      local list = assert(phases.all())
      local phase, index = phases.find(list, "content-upgrade")
      assert.same({ 2, 3 }, { phase.number, index })
      assert.equal("cleanup-documentation", phases.find(list, 5).id)
      assert.is_nil(phases.find(list, "none"))
      assert.is_nil(phases.find(list, 6))
    end)
  end)

  describe("of a project", function()
    it("are placed after and before others", function()
      local list = assert(phases.all(nil, { folder("phases", {
        ["10-first.lua"] = "after = 'content-upgrade'",
        ["20-second.lua"] = "before = 'cleanup-documentation'",
        ["30-third.lua"] = "after = 'first', before = 'mcp-server-upgrade'",
        ["40-fourth.lua"] = "before = 'pre-flight-checks'",
        ["50-fifth.lua"] = "after = 'cleanup-documentation'",
      }) }))
      assert.equal("fourth pre-flight-checks backup-preparation content-upgrade first third "
        .. "mcp-server-upgrade post-upgrade-validation second cleanup-documentation fifth",
        ids(list))
    end)

    it("that follow the same phase, or go before it, keep the order of their names", function()
      local list = assert(phases.all(nil, { folder("phases", {
        ["1-a.lua"] = "after = 'content-upgrade'", ["2-b.lua"] = "after = 'content-upgrade'",
        ["3-c.lua"] = "after = 'content-upgrade', before = 'mcp-server-upgrade'",
        ["4-d.lua"] = "before = 'mcp-server-upgrade'",
        ["5-e.lua"] = "before = 'mcp-server-upgrade'", ["6-f.lua"] = "after = 'b'",
      }) }))
      assert.equal("a b f c d e", ids(list):match("content%-upgrade (.*) mcp%-server"))
    end)

    it("may refer to each other in any order", function()
      local list = assert(phases.all(nil, { folder("phases", {
        ["a.lua"] = "after = 'b'", ["b.lua"] = "after = 'c'",
        ["c.lua"] = "after = 'content-upgrade'",
      }) }))
      assert.equal("c b a", ids(list):match("content%-upgrade (.*) mcp%-server"))
    end)

    it("lie in its phases folder, and in those that are named", function()
      local target = directory .. "/target"
      folder("target/phases", { ["one.lua"] = "after = 'content-upgrade'" })
      helper.write(target .. "/phases/README.md", "no phase")
      helper.write(target .. "/phases/deep/two.lua", "no phase either")
      local more = folder("more", { ["three.lua"] = "after = 'one'" })
      local list = assert(phases.all(target, { more }))
      assert.equal("one three", ids(list):match("content%-upgrade (.*) mcp%-server"))
      assert.equal(target .. "/phases", phases.find(list, "one").from)
      assert.equal(more, phases.find(list, "three").from)
      assert.equal(6, #assert(phases.all(directory)))
      fails("ENOENT", phases.all(nil, { directory .. "/none" }))
    end)

    it("say what to do about a folder that is not there, and about a wrong script", function()
      assert.equal("make it readable, or name another folder",
        (select(4, phases.all(nil, { directory .. "/none" }))))
      local bad = folder("bad ones", { ["wrong.lua"] = "titel = 'x'" })
      assert.equal("see all that is wrong with it: praxlua phase check '" .. bad .. "/wrong.lua'",
        (select(4, phases.all(nil, { bad }))))
    end)

    it("replace a built-in one by its name only", function()
      local list = assert(phases.all(nil, { folder("phases", {
        ["2-content-upgrade.lua"] = "id = 'content-upgrade', evidence = { mine = any() }",
      }) }))
      assert.equal(BUILT_IN, ids(list))
      local phase = phases.find(list, 2)
      assert.equal("A title", phase.title)
      assert.equal(directory .. "/phases", phase.from)
      assert.equal(2, phase.model, "the evidence is still that of phase 2")
    end)

    it("are as they say, or as is usual", function()
      folder("phases", { ["rename-config.lua"] = [[
        after = "content-upgrade",
        grants = { source = "read", target = "write", project = "read", services = { "server" },
          tools = { "git" }, network = false },
        limits = { wall = 0.5, cpu = 3, memory = 2 * MiB, instructions = 1e6 },
        evidence = { keys = integer({ min = 0 }), names = array_of(string_of({ max_length = 5 })),
          maybe = optional(boolean()), by_name = map_of(number()), anything = any(),
          inner = object({ x = nullable(integer()), x_reason = optional(string_of()) }) },
      ]] })
      local list = assert(phases.all(nil, { directory .. "/phases" }))
      local phase = phases.find(list, "rename-config")
      assert.equal("rename-config.lua", phase.file)
      assert.same({ source = "read", target = "write", project = "read", services = { "server" },
        tools = { "git" }, network = false }, phase.grants)
      assert.same({ wall = 0.5, cpu = 3, memory = 2097152, instructions = 1000000, output = 262144,
        messages = 100000 }, phase.limits)
      assert.equal("integer", math.type(phase.limits.instructions))
      assert.is_table(phase.model)
      local plain = assert(phases.read("plain.lua", "return { title = 'x', run = type }"))
      assert.same({}, plain.grants)
      assert.same(phases.LIMITS, plain.limits)
    end)
  end)

  describe("that cannot be placed", function()
    local function refused(pattern, scripts, more)
      local message = fails("EPHASE", phases.all(nil, { folder("phases", scripts), more }))
      assert.matches(pattern, message)
    end

    it("are told by name", function()
      refused("^x.lua: say where it belongs, with after = ", { ["x.lua"] = "" })
      refused("^x.lua: there is no phase 'contnet%-upgrade' to be placed by; did you mean "
        .. "'content%-upgrade'%?$", { ["x.lua"] = "after = 'contnet-upgrade'" })
      refused("^y.lua: there is no phase 'rename'.*did you mean 'renames'%?", {
        ["x.lua"] = "after = 'content-upgrade'",
        ["renames.lua"] = "after = 'content-upgrade'",
        ["y.lua"] = "before = 'rename'" })
      refused("^y.lua: there is no phase 'none'", { ["a.lua"] = "after = 'y'",
        ["y.lua"] = "after = 'content-upgrade', before = 'none'" })
      refused("^x.lua: 'mcp%-server%-upgrade' does not come before 'content%-upgrade'",
        { ["x.lua"] = "after = 'mcp-server-upgrade', before = 'content-upgrade'" })
      refused("'content%-upgrade' does not come before 'content%-upgrade'",
        { ["x.lua"] = "after = 'content-upgrade', before = 'content-upgrade'" })
    end)

    it("because they wait for each other", function()
      refused("^a.lua: a circle of phases, each placed by the next: a, b, a;",
        { ["a.lua"] = "after = 'b'", ["b.lua"] = "after = 'a'" })
      refused("each placed by the next: a, a;", { ["a.lua"] = "after = 'a'" })
      refused("each placed by the next: d, c, b, d;", { ["a.lua"] = "after = 'd'",
        ["b.lua"] = "after = 'content-upgrade', before = 'd'", ["c.lua"] = "after = 'b'",
        ["d.lua"] = "before = 'c'" })
    end)

    it("because there are two of that id", function()
      refused("two phases have the id 'x'", { ["1-x.lua"] = "after = 'content-upgrade'",
        ["2-x.lua"] = "after = 'content-upgrade'" })
    end)

    it("because a built-in one is replaced twice", function()
      local more = folder("more", { ["content-upgrade.lua"] = "" })
      refused("two phases have the id 'content%-upgrade'", { ["content-upgrade.lua"] = "" }, more)
    end)
  end)

  describe("that are wrong", function()
    local function wrong(pattern, source)
      local message = fails("EPHASE", phases.read("7-bad.lua", source))
      assert.matches("7%-bad%.lua:", message)
      assert.truthy(message:find(pattern, 1, true), message)
    end

    it("are told where and why", function()
      wrong("7-bad.lua:2: unexpected symbol near '='", "local x\n= = 1")
      wrong("7-bad.lua:3: oh", "\n\nerror('oh')")
      wrong("7-bad.lua: oh", "error('oh', 0)")
      wrong("an error object of type table", "error({})")
      wrong("attempt to index a nil value (global 'io')", "io.open('x')")
      wrong("attempt to load a binary chunk", string.dump(function() end))
      wrong("must end with `return phase`, a table; it returned nil", "")
      wrong("a table; it returned number", "return 5")
      wrong("the phase has no function phase.run(host)", "return { title = 'x' }")
      wrong("the phase has no function phase.run(host)", "return { title = 'x', run = 5 }")
      wrong("title", "return { run = type }")
      wrong("title", script("title = ''"))
      wrong("its id is 'worse', but the file name says 'bad'", script("id = 'worse'"))
      wrong("array takes the type it is made of", "return { evidence = { array_of(5) } }")
    end)

    it("by a name that is a number, under which a built-in phase is recorded", function()
      for _, name in ipairs({ "1.lua", "7-1.lua", "1-.lua" }) do
        local at = folder("own", { [name] = "after = 'content-upgrade'" })
        local list, message, code = phases.all(nil, { at })
        assert.is_nil(list)
        assert.equal(name .. ": its name has nothing but a number: rename it to NAME.lua", message)
        assert.equal("EPHASE", code)
        os.remove(at .. "/" .. name)
      end
    end)

    it("because of what they ask for", function()
      for fields, pattern in pairs({
        ["grants = { target = 'all' }"] = "grants.target",
        ["grants = { source = 'write' }"] = "grants.source",
        ["grants = { services = { 'engine' } }"] = "grants.services",
        ["grants = { services = 'backup' }"] = "grants.services",
        ["grants = { tools = { '' } }"] = "grants.tools",
        ["grants = { tools = { './git' } }"] = "grants.tools",
        ["grants = { network = 1 }"] = "grants.network",
        ["grants = { root = true }"] = "root",
        ["grants = 5"] = "grants",
        ["limits = { wall = 0 }"] = "limits.wall",
        ["limits = { wall = 86401 }"] = "limits.wall",
        ["limits = { messages = 1e8 }"] = "limits.messages",
        ["limits = { cpu = 0 }"] = "limits.cpu",
        ["limits = { cpu = 0.5 }"] = "limits.cpu",
        ["limits = { cpu = 601 }"] = "limits.cpu",
        ["limits = { memory = 1000 }"] = "limits.memory",
        ["limits = { memory = 2 * GiB }"] = "limits.memory",
        ["limits = { instructions = 1e11 }"] = "limits.instructions",
        ["limits = { output = -1 }"] = "output",
        ["limits = { calls = 5 }"] = "calls",
        ["evidence = { x = 5 }"] = "x",
        ["evidence = { x = { kind = 'unheard-of' } }"] = "x",
        ["unheard_of = true"] = "unheard_of",
        ["after = ''"] = "after",
      }) do
        wrong(pattern, script(fields))
      end
      wrong("not finite", script("limits = { wall = 1/0 }"))
    end)

    it("because they do not come to an end #uncounted", function()
      wrong("describing it ended with limit:instructions", "while true do end")
    end)

    it("because they do not fit", function()
      wrong("describing it ended with limit:memory", "return ('x'):rep(1 << 30)")
      wrong("nested too deeply", "local t = { title = 'x', run = type } local d = t "
        .. "for _ = 1, 40 do d.d = {} d = d.d end return t")
      local message = fails("EPHASE", phases.read("7-bad.lua",
        "local t = { title = 'x', run = type } t.t = t return t"))
      assert.matches("^7%-bad.lua: ", message)
    end)

    it("fail the whole list", function()
      helper.write(directory .. "/phases/bad.lua", "return nothing")
      assert.matches("bad.lua: a phase script must end with", fails("EPHASE", phases.all(nil,
        { directory .. "/phases" })))
      helper.write(directory .. "/phases/bad.lua", ("-"):rep(1024 * 1024 + 1))
      fails("EFBIG", phases.all(nil, { directory .. "/phases" }))
    end)

    it("or there is nothing to run them with", function()
      local host = core.system.host
      finally(function() core.system.host = host end)
      core.system.host = function() return nil, "there is no praxlua" end
      fails("ENOHOST", phases.all())
      core.system.host = function() return "/none" end
      fails("ENOENT", phases.read("x.lua", ""))
    end)
  end)

  it("cannot be described when a file of ours is missing", function()
    local source = resources.source
    finally(function() resources.source = source end)
    resources.source = function(name)
      if name:find("^phases/3") then return nil, "find " .. name, "ENOENT" end
      return source(name)
    end
    assert.matches("phases/3", fails("ENOENT", phases.all()))
  end)
end)

describe("resources", function()
  it("are our Lua files and phases", function()
    assert.matches("^%-%-%- The prelude", resources.source("lua/praxlua/worker.lua"))
    assert.equal(helper.read("phases/2-content-upgrade.lua"),
      resources.source("phases/2-content-upgrade.lua"))
    assert.matches("find phases/none.lua: it is not part", fails("ENOENT",
      resources.source("phases/none.lua")))
  end)

  it("are found in an installed tree as well as in a work tree", function()
    local root = helper.tempdir()
    helper.write(root .. "/installed/praxlua/phases/x.lua", "installed")
    helper.write(root .. "/installed/praxlua/y.lua", "a module")
    helper.write(root .. "/tree/phases/x.lua", "tree")
    local path = package.path
    finally(function() package.path = path helper.clean() end)
    package.path = "/none/?/init.lua;" .. root .. "/installed/?.lua"
    assert.equal("installed", resources.source("phases/x.lua"))
    assert.equal("a module", resources.source("lua/praxlua/y.lua"))
    package.path = root .. "/tree/lua/?.lua"
    assert.is_nil((resources.source("phases/x.lua"))) -- there is no folder lua yet
    helper.write(root .. "/tree/lua/praxlua/y.lua", "")
    assert.equal("tree", resources.source("phases/x.lua"))
    package.path = "?.lua"
    assert.is_string(resources.source("phases/2-content-upgrade.lua"))
  end)
end)
