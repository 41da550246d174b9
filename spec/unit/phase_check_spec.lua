--- `phase check`: every kind of mistake with its line and mend, and scripts that mean no good.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

-- A right script, of which parts are replaced: line 1 the head, 2 the grants, 3 the rest of the
-- table, then the body from line 5 on.
local function script(parts)
  return ("local phase = { title = 'A title', %s\n  grants = { %s },\n  %s\n}\n%s\n"):format(
    parts.head or "after = 'content-upgrade',", parts.grants or "", parts.rest or "",
    parts.body or "function phase.run() end\nreturn phase")
end

local function run(code) return "function phase.run(host)\n" .. code .. "\nend\nreturn phase" end

describe("phase check", function()
  local s

  before_each(function()
    s = { root = helper.tempdir() }
    s.project, s.target = s.root .. "/project", s.root .. "/project/" .. tiny.NAME
    s.scratch, s.executable = s.root .. "/runs", tiny.executable()
    local lfs = require("lfs")
    assert(lfs.mkdir(s.scratch) and lfs.mkdir(s.project) and lfs.mkdir(s.target))
  end)
  after_each(helper.clean)

  -- The findings of a script: "LINE kind: message | mend".
  local function findings(code, name, extra)
    local path = s.root .. "/" .. (name or "a-phase.lua")
    if code then helper.write(path, code) end
    local result = tiny.json(s, { "phase", "check", path, table.unpack(extra or {}) })
    assert.is_true(result.code <= 1, result.stderr)
    local data, list = tiny.event(result, "result").data, {}
    for i, row in ipairs(data.findings) do
      list[i] = ("%d %s: %s | %s"):format(row.line, row.kind, row.message, row.mend or "")
      assert.is_nil((result.stdout .. result.stderr):find("[\27\155]"))
    end
    assert.equal(result.code == 1, data.mistakes > 0)
    return list, data
  end

  local function fine(code) assert.same({}, (findings(code))) end

  -- Exactly these findings, each given as a beginning and a piece of the mend.
  local function finds(code, wanted)
    local list = findings(code)
    local shown = table.concat(list, "\n")
    assert.equal(#wanted, #list, shown)
    for i, of in ipairs(wanted) do
      assert.equal(of[1], list[i]:sub(1, #of[1]), shown)
      if of[2] then assert.truthy(list[i]:match("| (.*)$"):find(of[2], 1, true), shown) end
    end
  end

  it("finds nothing in a right script", function()
    fine(script({}))
    fine(script({ head = "before = 'cleanup-documentation', id = 'a-phase',",
      grants = "target = 'write', tools = { 'git' }, services = { 'validation' }, source = 'read'",
      rest = "limits = { wall = 5, cpu = 1, memory = 2 * MiB, instructions = 1e6 },"
        .. " evidence = { n = integer{ min = 0 }, s = nullable(array_of(string_of())) },",
      body = run([[
        need(host.target.write("a", need(host.source.read("a"))))
        host.spawn({ "git", "status" }) host.validation.check_backups()
        local x <const> = host.artifacts["0"].source_version .. host.options.keep_backups
        -- host.nothing.here, print, os.time
        local text = "host.nothing.here" .. [=[ io.open ]=] .. string.rep("x", 3)
        goto done
        ::done:: return { n = #host.json.encode({ x, text }), s_reason = "not_run" } ]]) }))
    local text = tiny.run(s, { "phase", "check", s.root .. "/a-phase.lua" })
    assert.equal(0, text.code)
    assert.truthy(text.stdout:find("1 script: 0 mistakes, 0 hints", 1, true), text.stdout)
  end)

  it("finds what is no Lua", function()
    finds("local x\n= = 1", { { "2 mistake: this is no Lua: unexpected symbol near '='" } })
    finds("#!/usr/bin/lua\nreturn {}", { { "1 mistake: this is no Lua", "no #! line" } })
  end)

  it("finds names that are not there, and globals that are set", function()
    finds(script({ body = run('print("x")\nlocal t = os.time() .. prnt\ncounter = io\n'
      .. 'string.dump(table.getn, math.floo, string.foo)\nlocal os = {} ; os.exit()'
      .. ' counter()') }), {
      { "6 mistake: 'print' does not exist", "host.warn" },
      { "7 mistake: 'os' does not exist", "host.time()" },
      { "7 mistake: 'prnt' does not exist" },
      { "8 mistake: 'io' does not exist", "host.target" },
      { "8 mistake: it assigns to the global 'counter'", "local" },
      { "9 mistake: string.dump does not exist", "stays text" },
      { "9 mistake: table.getn does not exist", "#t" },
      { "9 mistake: math.floo does not exist", "math.floor" },
      { "9 mistake: string.foo does not exist" },
    })
    finds(script({ body = "function helper() end\n" .. run("helper()") }),
      { { "5 mistake: it assigns to the global 'helper'", "local" } })
    finds(script({ body = run("return tostrin(asert(1))") }), {
      { "6 mistake: 'tostrin'", "tostring" }, { "6 mistake: 'asert'", "assert" } })
  end)

  it("goes on behind a name that is not there", function()
    finds("local lfs = require('lfs')\nlocal dir = lfs.currentdir() .. 'x'\n"
      .. "for line in io.lines() do line() end\n" .. script({ grants = "tols = {}" }), {
      { "1 mistake: 'require'", "one file" }, { "3 mistake: 'io'" },
      { "5 mistake: 'tols' is no field of grants", "tools" } })
  end)

  it("finds verbs that are not there", function()
    finds(script({ grants = "target = 'read'", body = run("host.target.raed('x')\nhost.lgo()\n"
      .. "host.tagret.read('x')\nhost.target.obliterate()\nhost:log('x')\n"
      .. "host.target.read('y')") }), {
      { "6 mistake: host.target.raed does not exist", "host.target.read?" },
      { "7 mistake: host.lgo does not exist", "host.log?" },
      { "8 mistake: host.tagret does not exist", "host.target?" },
      { "9 mistake: host.target.obliterate does not exist", "host.target has: exists, hash" },
      { "10 mistake: host:log is called with a colon", "host.log" } })
  end)

  it("finds calls without a grant, by whatever name the host goes", function()
    finds(script({ grants = "target = 'read', tools = { 'git' }",
      body = "local function help(host)\nhost.project.read('x')\nend\nphase.run = function(h)\n"
        .. "h.target.write('a', 'b')\nh.target.read('a')\nh.backup.list_backups()\n"
        .. "h.spawn{ 'make' }\nh.spawn{ 'git' }\nh.source.list('.')\nhelp(h)\n"
        .. "end\nreturn phase" }), {
      { "6 mistake: host.project.read needs a grant", 'project = "read"' },
      { "9 mistake: host.target.write needs a grant", 'target = "write"' },
      { "11 mistake: host.backup.list_backups needs a grant", 'services = { "backup" }' },
      { "12 mistake: the tool 'make' is not granted", '"make"' },
      { "14 mistake: host.source.list needs a grant", 'source = "read"' } })
    finds(script({ body = run("host.spawn{ 'git' }\nlocal t = host.target") }), {
      { "6 mistake: host.spawn needs a grant", 'tools = { "git" }' },
      { "7 mistake: host.target needs a grant", 'target = "read"' } })
  end)

  it("leaves a variable of the script's own alone that is called host", function()
    fine(script({ body = "function phase.run()\nlocal host = { name = 'x' }\nreturn host.name.y\n"
      .. "end\nreturn phase" }))
  end)

  it("finds what is wrong in the table", function()
    finds("return {\n titel = 'x',\n after = 'content-upgrade',\n id = 'other',\n"
      .. " grants = { target = 'all', services = {\n 'valdation' }, tools = { '/bin/sh', '' } },\n"
      .. " limits = { memory = 64,\n wall = 90000, cpu = 0.5, instructons = 5, instructions = 10 "
      .. "},\n evidence = { n = integer{ mn = 1 },\n m = 5, p = string_of{ pattern = 'x' } },\n"
      .. " run = 5,\n}", {
      { "1 mistake: the phase has no title", "title =" },
      { "2 mistake: 'titel' is no field of a phase", "'title'" },
      { "4 mistake: its id is 'other', but the file name says 'a-phase'", "leave id out" },
      { "5 mistake: grants.target: there is no 'all'", '"write"' },
      { "6 mistake: grants.services[1]: there is no 'valdation'", '"validation"' },
      { "6 mistake: grants.tools[2]: must not be empty", "git" },
      { "6 mistake: the tool '/bin/sh' is named with a folder", "PATH" },
      { "7 mistake: limits.memory: 64 is less than 1048576", "64 * MiB" },
      { "8 mistake: 'instructons' is no field of limits", "instructions" },
      { "8 mistake: limits.cpu: expected integer, got number", "whole seconds" },
      { "8 mistake: limits.wall: 90000 is more than 86400", "seconds" },
      { "8 hint: limits.instructions = 10 is hardly enough" },
      { "9 mistake: evidence.n.mn: not a parameter of integer", "integer{" },
      { "10 mistake: evidence.m: expected a schema" },
      { "10 mistake: evidence.p.pattern: patterns are only for the host" },
      { "11 mistake: the phase has no function phase.run(host)" } })
  end)

  it("finds tables of the wrong kind", function()
    finds("return { title = 5, after = '', grants = 5, limits = 'x', evidence = true, "
      .. "run = type }", {
      { "1 mistake: after: must not be empty" }, { "1 mistake: evidence: expected map" },
      { "1 mistake: grants: expected object" }, { "1 mistake: limits: expected object" },
      { "1 mistake: title: expected string" } })
    finds("local phase = { title = 'x', after = 'content-upgrade', run = type }\nphase.limits = "
      .. "{}\nphase.limits.wall = 0\nphase.grants = {\n network = 1 }\nreturn phase", {
      { "3 mistake: limits.wall: 0 is less than" }, { "5 mistake: grants.network" } })
  end)

  it("finds that the table is not there", function()
    finds("local phase = {}\n\n", { { "1 mistake: its table cannot be read", "return phase" } })
    finds("return 5", { { "1 mistake: its table cannot be read" } })
    finds(script({ head = "" }), { { "1 mistake: nothing says when it runs", "after =" } })
    finds("local x\n\nerror('oh')", { { "3 mistake: its table cannot be read: oh", "phase.run" } })
  end)

  it("hints at grants that are not used, unless that cannot be told", function()
    local grants = "target = 'write', project = 'read',\n services = { 'backup', 'lock' },\n"
      .. " tools = { 'git', 'make' }, source = 'read'"
    local body = run("host.target.read('x') host.lock.held() host.spawn{ 'git' }")
    finds(script({ grants = grants, body = body }), {
      { "2 hint: it may write in host.target, but only reads there", 'target = "read"' },
      { '2 hint: the grant project = "read" is not used' },
      { "3 hint: the service 'backup' is not used" },
      { '4 hint: the grant source = "read" is not used' },
      { "4 hint: the tool 'make' is not used" } })
    fine(script({ grants = grants, body = run("local h = host h.target.read('x')") }))
    fine(script({ grants = grants, body = run("host[1]('x')") }))
    finds(script({ grants = "network = true" }), { { "2 hint: network = true gives nothing" } })
    fine(script({ grants = "tools = { 'git', 'make' }",
      body = run("for _, t in ipairs{ 'git', 'make' } do host.spawn{ t } end") }))
  end)

  it("finds places that are not there, cannot be, or come too early", function()
    finds(script({ head = "after = 'content-upgrad'," }),
      { { '1 mistake: after = "content-upgrad": there is no such phase', '"content-upgrade"' } })
    finds(script({ head = "\nbefore = 'nowhere'," }),
      { { "2 mistake: before = \"nowhere\"", "phase list" } })
    finds(script({ head = "after = 'a-phase'," }),
      { { "1 mistake: it is placed by itself, in a circle: a-phase → a-phase" } })
    finds(script({ head = "after = 'mcp-server-upgrade', before = 'content-upgrade'," }),
      { { "1 mistake: 'mcp-server-upgrade' does not come before 'content-upgrade'" } })
    local body = run("host.target.write('a', 'b')")
    local times = { "before = 'backup-preparation',", "after = 'cleanup-documentation'," }
    for _, head in ipairs(times) do
      finds(script({ head = head, grants = "target = 'write'", body = body }),
        { { "1 mistake: it would change something" } })
    end
    fine(script({ head = "before = 'backup-preparation'," }))
  end)

  it("does not advise to place a phase by itself", function()
    finds(script({ head = "after = 'b-phase'," }),
      { { '1 mistake: after = "b-phase": there is no such phase', "beside this one" } })
  end)

  it("knows the neighbours in the target's folder, and the other scripts it is given", function()
    tiny.write(s, "phases/b.lua", script({ head = "after = 'c'," }))
    tiny.write(s, "phases/c.lua", script({ head = "after = 'a-phase'," }))
    finds(script({ head = "after = 'b'," }),
      { { "1 mistake: it is placed by itself, in a circle: a-phase → b → c → a-phase" } })
    fine(script({}))
    tiny.write(s, "phases/1-twin.lua", script({}))
    tiny.write(s, "phases/2-twin.lua", script({}))
    local list = findings(nil, "project/" .. tiny.NAME .. "/phases/1-twin.lua")
    assert.matches("^1 mistake: 2%-twin.lua has the same id, 'twin'", list[1])
    helper.write(s.root .. "/other.lua", script({}))
    helper.write(s.root .. "/a-phase.lua", script({ head = "after = 'other'," }))
    list = findings(nil, "a-phase.lua", { s.root .. "/other.lua" })
    assert.same({}, list)
    assert.equal(1, #findings(nil, "a-phase.lua"))
    tiny.write(s, "phases/broken.lua", "= =")
    fine(script({ head = "after = 'broken'," }))
  end)

  it("tells of one that cannot be read beside a right one", function()
    fine(script({}))
    helper.write(s.root .. "/broken.lua", "= =")
    for _, other in ipairs({ "/broken.lua", "/not-there.lua", "" }) do
      local list = findings(nil, "a-phase.lua", { s.root .. other })
      assert.equal(1, #list, table.concat(list, "\n"))
      assert.matches("^1 mistake: ", list[1])
    end
  end)

  it("hints that a built-in phase is replaced", function()
    local list = findings(script({ head = "" }), "2-content-upgrade.lua")
    assert.equal(1, #list)
    assert.matches("^1 hint: it replaces the built%-in phase 'content%-upgrade'", list[1])
  end)

  it("finds no mistake in the phases of praxlua, and no grant that they do not use", function()
    for _, file in pairs(require("praxlua.phases").BUILT_IN) do
      local list = findings(helper.read("phases/" .. file), file)
      assert.equal(1, #list, table.concat(list, "\n"))
      assert.matches("hint: it replaces the built%-in phase", list[1])
    end
  end)

  it("wants a name by which an upgrade finds the script", function()
    assert.matches("^1 mistake: its name does not end in .lua",
      findings(script({}), "a-phase.txt")[1])
    assert.matches("^1 mistake: its name has nothing but", findings(script({}), "1-.lua")[1])
  end)

  it("finds verbs in attested evidence that are not there", function()
    local list = findings(script({ rest = "evidence = { n = receipts_of('target.wriet') }," }))
    assert.truthy(table.concat(list, "\n"):find("3 mistake: there is no verb 'target.wriet' | did "
      .. "you mean host.target.write?", 1, true))
  end)

  it("sorts by line, and shows the first hundred of very many", function()
    local lines = {}
    for i = 1, 5000 do lines[i] = "local x = y" .. i .. " z" .. i .. " = 1" end
    local list, data = findings("do " .. table.concat(lines, " end\ndo ") .. " end\nreturn {}")
    assert.equal(101, #list)
    assert.matches("^1 mistake: 'y1'", list[1])
    assert.matches("there are %d+ more findings", list[101])
    assert.is_true(data.mistakes > 10000)
  end)

  it("exits 2 without a file, and 3 for a target that is none", function()
    assert.equal(2, tiny.run(s, { "phase", "check" }).code)
    assert.equal(3, tiny.json(s, { "phase", "check", "x.lua", "--target", s.root .. "/no" }).code)
  end)

  describe("of what is no script", function()
    local function says(what, ...)
      local list = findings(...)
      assert.equal(1, #list, table.concat(list, "\n"))
      assert.truthy(list[1]:find("mistake: " .. what, 1, true), list[1])
    end

    it("says so", function()
      says("there is no such file", nil, "none.lua")
      says("it is a folder", nil, "project")
      core.file.mkdir(s.root .. "/d.lua")
      says("it is a folder", nil, "d.lua")
      os.execute("mkfifo " .. s.root .. "/fifo.lua && ln -s a.lua " .. s.root .. "/link.lua")
      says("it is no regular file", nil, "fifo.lua")
      says("it is no regular file", nil, "link.lua")
      says("it is longer than 1 MiB", ("-"):rep(1024 * 1024 + 1))
      says("it holds a NUL byte", "return {}\n-- \0")
      says("it is compiled Lua", string.dump(function() end))
    end)

    it("hints at bytes that are not UTF-8", function()
      local list = findings("-- \n-- caf\233\n" .. script({}))
      assert.matches("^2 hint: it is not UTF%-8", list[1])
    end)

    it("ends in time", function()
      local began = core.system.monotonic()
      says("this is no Lua: it is nested too deeply", "return " .. ("{"):rep(1000000))
      says("this is no Lua", ("("):rep(1000000))
      says("its table cannot be read", (";"):rep(400000))
      says("its table cannot be read: describing it ended with limit:memory",
        "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) end")
      findings("return {" .. ("x = 1,"):rep(100000) .. "}")
      findings("return {" .. ("[{}] = 1,"):rep(20000) .. "}")
      findings("local p = {} function p.run(host) " .. ("host.x() "):rep(40000) .. "end return p")
      assert.is_true(core.system.monotonic() - began < 60)
    end)

    it("ends in time when it does not come to an end itself #uncounted", function()
      says("its table cannot be read: describing it ended with limit:instructions",
        "while true do end")
      says("its table cannot be read: describing it ended with limit:instructions",
        "while true do pcall(error) end")
    end)

    it("cannot forge a line or a terminal sequence", function()
      local evil = "\27[31m\n1 mistake: fake\226\128\174"
      findings("error(" .. ("%q"):format(evil):gsub("\27", "\\27"):gsub("\\\n", "\\n") .. ", 0)")
      findings("return { ['\\27[2J\\n'] = 1, title = '\\27]0;x\\7', "
        .. "id = '\\27[1m', after = '\\155' }")
      findings("return '\27[31m' .. x")
      findings("x = '\27[31m' = 5")
      local name = "evil\27[31m\n2 mistake: fake.lua"
      local list, data = findings(script({ head = "" }), name)
      assert.equal(1, #list)
      assert.is_nil(data.findings[1].file:find("[%c]"))
      local shown = tiny.run(s, { "phase", "check", s.root .. "/" .. name })
      assert.is_nil((shown.stdout .. shown.stderr):find("\27", 1, true))
      assert.is_nil(shown.stdout:find("\n2 mistake", 1, true))
    end)
  end)
end)
