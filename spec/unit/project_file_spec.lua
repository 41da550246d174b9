--- The project file: what it may say, what is said to one that is wrong, and what it cannot do.
local core = require("praxlua.core")
local extend = require("praxlua.project_file.extend")
local helper = require("spec.support.helper")
local layout = require("praxlua.layout")
local lfs = require("lfs")
local project_file = require("praxlua.project_file")
local schema = require("praxlua.schema")
local SCHEMA = require("praxlua.project_file.settings").SCHEMA

local praxis = layout.by_name("praxis-os")

describe("The project file", function()
  local target
  before_each(function() target = helper.tempdir() end)
  after_each(function()
    collectgarbage()
    assert.same({}, core.system.children(core.system.pid()))
    helper.clean()
  end)

  local function read(text)
    helper.write(target .. "/upgrade.lua", text)
    return project_file.read(target, praxis)
  end

  -- What is said to a wrong one; it is one line, and safe to show.
  local function refused(text)
    local settings, message, code = read(text)
    assert.is_nil(settings)
    assert.equal("ESETTINGS", code, message)
    assert.equal("upgrade.lua:", message:sub(1, 12))
    assert.is_nil(message:find("[\0-\31\127]"), message)
    return message
  end

  local function says(wanted, text)
    local message = refused(text)
    assert.truthy(message:find(wanted, 1, true), message)
  end

  it("is optional, and may say nothing", function()
    assert.is_false(project_file.read(target, praxis))
    assert.same({}, read("return {}"))
  end)

  it("may say all there is to be said, and compute it", function()
    local settings = assert(read([[
      local names = {}
      for i = 1, 3 do names[i] = ("workflows/%d/**"):format(i) end
      return {
        source_path = "../praxis-os", dry_run = false, auto_restart = true, skip_tests = true,
        keep_backups = 3, interactive_conflicts = true, git_commit_after = false,
        on_conflict = "stop", conflicts = { ["workflows/**"] = "theirs" },
        components = { { name = "templates", from = "universal/templates", to = "templates",
          ownership = "system", scope = "content", when = "present" } },
        ownership = { usage = "system", ["standards/universal/mine.md"] = "user" },
        excludes = names,
        server = { command = { "{target}/venv/bin/python", "-m", "mcp_server", "--transport",
          "{transport}" }, installer = "uv",
          variables = { "OPENAI_API_KEY", "HONEYHIVE_*" } },
        post_install = { { package = "nltk", command = { "python", "-m", "nltk.downloader" },
          optional = true, seconds = 300 } },
        smoke = { { tool = "search_standards", arguments = { query = "x" }, expect = "results" } },
        content = { driver = "built-in" },
      }]]))
    assert.same({ "workflows/1/**", "workflows/2/**", "workflows/3/**" }, settings.excludes)
    assert.equal("x", settings.smoke[1].arguments.query)
  end)

  it("may begin with a byte order mark, and hold bytes that are no UTF-8", function()
    assert.equal("b\xff", read("\u{FEFF}return { source_path = 'b\xff' } -- \xe9").source_path)
  end)

  describe("that is wrong is told by line, setting, what was found and what may be:", function()
    for wanted, text in pairs({
      ["upgrade.lua:2: source_pth: there is no setting 'source_pth'; did you mean 'source_path'?"] =
        "local settings = {\n  source_pth = 'x' }\nreturn settings",
      ["upgrade.lua:1: zzz: there is no setting 'zzz'; there are auto_restart, components, "] =
        "return { zzz = 1 }",
      ["upgrade.lua:2: on_conflict: 'their' is none of: ask, stop, ours, theirs; did you mean "
        .. "'theirs'?"] = "return {\n on_conflict = 'their' }",
      ['upgrade.lua:3: conflicts["a/b"]: \'mine\' is none of: ours, theirs'] =
        "return {\n conflicts = {\n ['a/b'] = 'mine' } }",
      ["upgrade.lua:1: keep_backups: expected integer, got string"] =
        "return { keep_backups = '3' }",
      ["keep_backups: 0 is less than 1"] = "return { keep_backups = 0 }",
      ["dry_run: expected boolean, got string"] = "return { dry_run = 'no' }",
      ["source_path: must not be empty"] = "return { source_path = '' }",
      ["source_path: a path holds no NUL byte"] = "return { source_path = 'a\\0b' }",
      ["excludes: expected array, got string"] = "return { excludes = 'a' }",
      ["excludes: expected array, got object"] = "return { excludes = { a = 'b' } }",
      ["excludes[1]: '../x' is no path within the installation"] =
        "return { excludes = { '../x' } }",
      ["'**' stands alone"] = "return { conflicts = { ['a/**b'] = 'ours' } }",
      ['ownership["a//b"]: that is no path within the installation'] =
        "return { ownership = { ['a//b'] = 'user' } }",
      ["on_conflict: 'ask' contradicts interactive_conflicts = false"] =
        "return { on_conflict = 'ask', interactive_conflicts = false }",
      ["smoke[1]: it has either a tool, or steps"] = "return { smoke = { {} } }",
      ["smoke[2]: it has either a tool, or steps"] =
        "return { smoke = { { tool = 'a' }, { tool = 'a', steps = { { tool = 'b' } } } } }",
      ["smoke[1].steps: there are none"] = "return { smoke = { { steps = {} } } }",
      ["smoke[1].expect: where there are steps"] =
        "return { smoke = { { expect = 'a', steps = { { tool = 'b' } } } } }",
      ["smoke[1].always: there is no setting 'always'"] =
        "return { smoke = { { tool = 'a', always = true } } }",
      ["server.url: write it as http://127.0.0.1:PORT/PATH"] =
        "return { server = { command = { 'x', '{transport}' }, url = 'http://10.0.0.1:80/' } }",
      ["tests.command: it is empty"] = "return { tests = { command = {} } }",
      ["tests.command[2]: nothing stands for '{transport}'"] =
        "return { tests = { command = { 'make', '{transport}' } } }",
      ["tests.command[1]: write the program as {target}/"] =
        "return { tests = { command = { './run' } } }",
      ["server.installer: 'poetry' is none of: pip, uv"] =
        "return { server = { installer = 'poetry' } }",
      ["post_install[1].command: it is missing"] =
        "return { post_install = { { package = 'a' } } }",
      ["post_install[1].command: it is empty"] =
        "return { post_install = { { package = 'a', command = {} } } }",
      ["post_install[1].package: that is no name of a package"] =
        "return { post_install = { { package = '-r x', command = { 'a' } } } }",
      ["post_install[1].command[1]: write the name of a program in the environment's bin"] =
        "return { post_install = { { package = 'a', command = { '../a' } } } }",
      ["post_install[1].command[2]: a word of a command holds no NUL"] =
        "return { post_install = { { package = 'a', command = { 'a', 'b\\0' } } } }",
      ["post_install[1].seconds: 0 is less than 1"] =
        "return { post_install = { { package = 'a', command = { 'a' }, seconds = 0 } } }",
      ["server.comand: there is no setting 'comand'; did you mean 'command'?"] =
        "return { server = { comand = { 'x' } } }",
      ["server.variables[2]: that is no name of a variable"] =
        "return { server = { variables = { 'A*', 'B*C' } } }",
      ["server.command: it is empty"] = "return { server = { command = {} } }",
      ["server.command: no word holds {transport}"] = "return { server = { command = { 'x' } } }",
      ["server.command[2]: nothing stands for '{trasport}'; did you mean 'transport'?"] =
        "return { server = { command = { 'x', '{trasport}' } } }",
      ["server.command[1]: write the program as {target}/"] =
        "return { server = { command = { 'bin/x', '{transport}' } } }",
      ["content.driver: 'safe-upgrade' is none of: built-in, safe-upgrade.py; did you mean"] =
        "return { content = { driver = 'safe-upgrade' } }",
      ["it must end with `return settings`, a table; it returned nil"] = "local x = {}",
      ["it returned function"] = "return type",
      ["components.1.name is a function; settings are values"] =
        "return { components = { { name = type } } }",
      ["has a key that is a boolean"] = "return { [true] = 1 }",
      ["nested deeper than any setting, or holds itself"] = "local t = {} t.t = t return t",
      ["upgrade.lua:2: "] = "return {\n = }",
      ["upgrade.lua:3: mine"] = "\n\nerror('mine')",
      ["attempt to load a binary chunk"] = "\27LuaT",
    }) do
      it(wanted, function() says(wanted, text) end)
    end

    it("names that would forge a line or a terminal's sequence are shown as escapes", function()
      says("there is no setting '\\e[2J\\n'", "return { ['\\27[2J\\n'] = 1 }")
      says("'\\e]0;x' is none of", "return { on_conflict = '\\27]0;x' }")
    end)
  end)

  describe("cannot", function()
    for what, text in pairs({
      ["run for ever"] = { "limit:instructions", "while true do pcall(error) end" },
      ["take all memory"] = { "limit:memory", "return { source_path = ('x'):rep(1 << 30) }" },
      ["hand out what is monstrous"] = { "source_path: longer than 4096 bytes",
        "return { source_path = ('x'):rep(20 << 20) }" },
      ["hand out too much"] = { "excludes: more than 256 elements",
        "local t = {} for i = 1, 5000 do t[i] = 'a' end return { excludes = t }" },
      ["read a file"] = { "global 'io'", "return io.open('/etc/passwd')" },
      ["run a program"] = { "global 'os'", "os.execute('true')" },
      ["load a module"] = { "global 'require'", "return require('praxlua.core')" },
      ["ask the host"] = { "global 'host'", "return host.target.read('x')" },
    }) do
      it(what, function()
        local limits = require("praxlua.phases").LIMITS
        local instructions = limits.instructions
        limits.instructions = 3000000
        local ok, problem = pcall(says, text[1], text[2])
        limits.instructions = instructions
        assert.is_true(ok, problem)
      end)
    end

    it("be anything but a file that can be read", function()
      local path = target .. "/upgrade.lua"
      local function told(wanted, code)
        local settings, message, found = project_file.read(target, praxis)
        assert.is_nil(settings)
        assert.equal(code, found)
        assert.truthy(message:find(wanted, 1, true), message)
      end
      assert(lfs.mkdir(path))
      told("it is no regular file", "ENOTREG")
      assert(os.remove(path))
      assert(os.execute("mkfifo '" .. path .. "'"))
      told("it is no regular file", "ENOTREG")
      assert(os.remove(path))
      helper.write(target .. "/other.lua", "return {}")
      assert(lfs.link("other.lua", path, true))
      told("it is no regular file", "ENOTREG")
      assert(os.remove(path))
      helper.write(path, "return {} --" .. ("x"):rep(project_file.MAX_BYTES))
      told("it is longer than 1 MiB", "EFBIG")
      if core.system.euid() ~= 0 then
        helper.write(path, "return {}")
        assert(os.execute("chmod 000 '" .. path .. "'"))
        told("it may not be read", "EACCES")
      end
    end)
  end)
end)

describe("A layout with what a project declares", function()
  local function component(fields)
    local made = { name = "templates", from = "universal/templates", to = "templates",
      ownership = "system" }
    for name, value in pairs(fields or {}) do made[name] = value end
    return made
  end

  local function derived(declared) return assert(extend.layout(praxis, declared)) end

  it("is another one of the same name; the recognised one stays as it is", function()
    local count = #praxis.components
    local made = derived({ components = { component() }, excludes = { "usage" } })
    assert.equal("praxis-os", made.name)
    assert.equal(count, #praxis.components)
    assert.is_nil(praxis.ownership_of)
    assert.equal(praxis, layout.by_name("praxis-os"))
    assert.equal("templates", layout.component_of(made, "templates/a/b.md").name)
    assert.equal("templates/a.md", (layout.target_path(made, "universal/templates/a.md")))
    assert.equal("universal/templates/a.md", layout.source_path(made, "templates/a.md"))
    assert.equal("content", made.components[count + 1].scope)
    assert.is_true(layout.check_component(made, "templates"))
  end)

  it("knows whose a path is: excludes first, then the longest path, then the component", function()
    local made = derived({
      ownership = { usage = "system", ["usage/mine"] = "user", ["usage/mine/not.md"] = "shared",
        ["config.json"] = "user" },
      excludes = { "workflows/experimental/**", "usage/left.md" },
    })
    for path, wanted in pairs({
      ["standards/universal/a.md"] = "system", ["usage/a.md"] = "system",
      ["usage/mine/a.md"] = "user", ["usage/mine/not.md"] = "shared", ["usage/left.md"] = "user",
      ["workflows/experimental/x/y.md"] = "user", ["workflows/x.md"] = "system",
      ["usage/minefield.md"] = "system", ["specs/x.md"] = "user", ["config.json"] = "user",
    }) do
      assert.equal(wanted, (layout.ownership_of(made, path)), path)
    end
    assert.truthy(select(2, layout.ownership_of(made, "usage/left.md")):find("left out", 1, true))
    assert.equal("shared", (layout.ownership_of(praxis, "usage/a.md")))
    assert.equal("user", (layout.ownership_of(praxis, "specs/a.md")))
  end)

  local function refused(declared, wanted_field, wanted)
    local made, problem, code, field = extend.layout(praxis, declared)
    assert.is_nil(made)
    assert.equal("ESETTINGS", code)
    assert.equal(wanted_field, field, problem)
    assert.truthy(problem:find(wanted, 1, true), problem)
  end

  it("lets nothing land on what is praxlua's own, no content, or the user's", function()
    for _, to in ipairs({ ".upgrade/x", ".Upgrade", ".backups", ".cache/x", "venv", "venv/lib",
      "phases", "phases/x", "upgrade.lua", ".upgrade-lock", ".installed-manifest.json",
      "VERSION.txt", ".git", ".git/hooks", "a/.GIT/hooks", "rag_index", "a/__pycache__", "specs",
      "Specs/x", "standards/development", "standards", "workspace/x", "config.json",
      ".mcp_server_state.json" }) do
      refused({ components = { component({ to = to }) } }, "components[1].to", "'")
    end
    for _, to in ipairs({ "", "/a", "a/", "../a", "a/../../b", "a//b", ".", "a\0b" }) do
      refused({ components = { component({ to = to }) } }, "components[1].to", "is no path beneath")
      refused({ components = { component({ from = to }) } }, "components[1].from",
        "is no path beneath")
    end
    refused({ components = { component({ from = ".git/hooks" }) } }, "components[1].from",
      "never shipped")
    refused({ components = { component({ from = "a/.praxis-os" }) } }, "components[1].from",
      "never shipped")
  end)

  it("has no two components that share a name or a file", function()
    refused({ components = { component({ to = "workflows/x" }) } }, "components[1].to", "overlap")
    refused({ components = { component({ to = "WORKFLOWS" }) } }, "components[1].to", "overlap")
    refused({ components = { component({ from = "universal" }) } }, "components[1].from", "overlap")
    refused({ components = { component({ name = "usage" }) } }, "components[1].name", "already")
    refused({ components = { component({ name = "a b" }) } }, "components[1].name", "is no name")
    local second = component({ name = "b", from = "b", to = "templates/b" })
    refused({ components = { component(), second } }, "components[2].to", "overlap")
    second.to = "templates2"
    derived({ components = { component(), second } })
  end)

  it("takes no ownership of a path to which nothing is shipped", function()
    refused({ ownership = { ["usge"] = "user" } }, 'ownership["usge"]', "standards/universal")
    derived({ ownership = { standards = "system", ["templates/x"] = "user" },
      components = { component() } })
  end)
end)

describe("docs/project-file.md", function()
  local page = assert(helper.read("docs/project-file.md"))

  -- The paths of all settings: "components[].name".
  local function paths_of(s, path, found)
    if s.kind == "optional" then return paths_of(s.of, path, found) end
    if s.kind == "array" and s.of.kind == "object" then
      if path ~= "" then found[path] = true end
      return paths_of(s.of, path .. "[]", found)
    elseif s.kind == "object" then
      for name, of in pairs(s.fields) do
        paths_of(of, path == "" and name or path .. "." .. name, found)
      end
    else
      found[path] = true
    end
    return found
  end

  it("has every setting, and no other", function()
    local told = {}
    local text = page:match("\n## The settings\n(.-)\n## ")
    for cell in text:gmatch("\n| `([^`]+)` |") do told[cell] = true end
    assert.same(paths_of(SCHEMA, "", {}), told)
  end)

  it("has only words that the schema allows", function()
    local count = 0
    for line in page:match("\n## The settings\n(.-)\n## "):gmatch("\n(| `[^\n]+)") do
      local path, allowed = line:match("^| `([^`]+)` | (.-) | ")
      local s = SCHEMA
      for name in path:gmatch("[%w_]+") do
        s = s.fields[name]
        while s.kind == "optional" or s.kind == "array" or s.kind == "map" do s = s.of end
      end
      for word in allowed:gmatch('`"([^"]+)"`') do
        count = count + 1
        assert.is_true(schema.check(s, word), path .. " " .. word)
      end
    end
    assert.is_true(count > 15)
  end)

  it("has examples that are right as they stand", function()
    local count = 0
    for block in page:gmatch("```lua\n(.-)```") do
      count = count + 1
      assert(project_file.parse(block, praxis))
    end
    assert.is_true(count > 0)
  end)

  it("quotes what is said to a wrong one", function()
    local said = page:match("error: (upgrade%.lua:[^\n]+)")
    local _, message = project_file.parse("return {\n  source_pth = 1 }")
    assert.equal(said, message)
  end)
end)
