--- `praxlua run`: a script gets what is typed for it, and what it did stays or is undone.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

local WRITES = [[
  local phase = { title = "Write a note", grants = { target = "write", tools = { "sh" } },
    evidence = { written = receipts_of("target.write"), words = array_of(string_of{}) } }
  function phase.run(host)
    need(host.target.write("note.txt", table.concat(host.options.arguments, " ")))
    need(host.target.remove("standards/universal/testing/pyramid.md"))
    need(host.undo{ "sh", "-c", 'rm -f "$0"', "EFFECT" })
    need(host.spawn{ "sh", "-c", 'echo x >> "$0"', "EFFECT" })
    if host.options.arguments[1] == "fail" then error("on purpose", 0) end
    while host.options.arguments[1] == "wait" do host.progress("waiting") end
    return { words = host.options.arguments }
  end
  return phase
]]
local GRANTS = { "--grant", "target=write", "--grant", "tools=sh" }

describe("praxlua run", function()
  local s, before, file, effect

  before_each(function()
    s = tiny.new()
    before = tiny.snapshot(s)
    effect = s.cache .. "/effect"
    tiny.phase(s, "writes", (WRITES:gsub("EFFECT", effect)))
    file = s.root .. "/phases/writes.lua"
  end)
  after_each(helper.clean)

  local function argv(...)
    local all = { "run", file, ... }
    return table.move(GRANTS, 1, #GRANTS, #all + 1, all)
  end
  local function is_as_before()
    assert.same(before, tiny.snapshot(s))
    assert.is_true(tiny.is_settled(s))
    assert.is_nil(helper.read(effect))
  end

  it("starts and asks no server for a script that may not use it", function()
    local asked = [[ require("praxlua.server").health = function() error("it was asked") end ]]
    local result = tiny.patched(s, asked, argv("--json"))
    assert.equal(0, result.code, result.stderr)
  end)

  it("does what the script says, and shows its evidence", function()
    local result = tiny.json(s, argv("a", "b c"))
    assert.equal(0, result.code, result.stderr)
    assert.equal("completed", result.last.status)
    assert.equal("a b c", tiny.read(s, "note.txt"))
    assert.equal("x\n", helper.read(effect))
    assert.is_nil(tiny.read(s, "standards/universal/testing/pyramid.md"))
    assert.same({ command = "run", data = { written = 1, words = { "a", "b c" } } }, {
      command = tiny.event(result, "result").command, data = tiny.event(result, "result").data })
    assert.truthy(tiny.event(result, "phase_completed", "writes"))
    assert.is_true(tiny.is_settled(s))
    local session = tiny.sessions(s)[result.last.session_id]
    assert.equal("script", session.metadata.kind)
    -- It is no upgrade that could be rolled back, and hides none.
    assert.equal("nothing_to_do", tiny.json(s, { "rollback" }).last.status)
    local back = tiny.json(s, { "rollback", result.last.session_id })
    assert.equal(3, back.code)
    assert.truthy(back.last.message:find("is a script that went well", 1, true))
    assert.equal("a b c", tiny.read(s, "note.txt"))
    local text = tiny.run(s, argv("z"))
    assert.equal(0, text.code)
    assert.truthy(text.stdout:find("\n  words    [\"z\"]\n  written  1\n", 1, true), text.stdout)
  end)

  it("undoes everything when the script fails, with 1", function()
    local result = tiny.json(s, argv("fail"))
    assert.equal(1, result.code, result.stderr)
    assert.equal("rolled_back", result.last.status)
    assert.truthy(result.last.message:find("writes.lua failed: on purpose", 1, true))
    is_as_before()
  end)

  it("refuses a script that asks for more, and shows what to add", function()
    local cases = {
      [""] = "add: --grant target=write --grant tools=sh",
      ["target=read"] = "add: --grant target=write --grant tools=sh",
      ["target=write"] = "add: --grant tools=sh",
    }
    for given, flags in pairs(cases) do
      local words = { "run", file }
      if given ~= "" then words[3], words[4] = "--grant", given end
      local exact = tiny.exact(s)
      local result = tiny.json(s, words)
      assert.equal(3, result.code)
      assert.truthy(result.last.next:find(flags, 1, true), result.last.next)
      assert.same(exact, tiny.exact(s))
    end
    assert.equal(2, tiny.json(s, { "run", file, "--grant", "everything" }).code)
    assert.equal(2, tiny.json(s, { "run", s.root .. "/none.lua" }).code)
    tiny.phase(s, "broken", "return 7")
    assert.equal(3, tiny.json(s, { "run", s.root .. "/phases/broken.lua" }).code)
    tiny.phase(s, "manual", "return { title = 'x', manual = 'x', evidence = { a = any() } }")
    assert.equal(3, tiny.json(s, { "run", s.root .. "/phases/manual.lua" }).code)
  end)

  it("is undone by the next command when it was killed, by both of them", function()
    local options = { scratch = s.scratch, environment = s.environment, directory = s.project,
      seconds = 60 }
    for _, word in ipairs({ "resume", "rollback" }) do
      local words = argv("wait")
      words[#words + 1] = "--json"
      local going = command.start({ s.executable, table.unpack(words) }, options)
      assert(command.await(going, function(event) return event.text == "waiting" end))
      assert.equal(6, tiny.json(s, argv("a")).code)
      command.kill(going, "KILL")
      command.wait(going)
      assert.equal("x\n", helper.read(effect))
      assert.equal(3, tiny.json(s, argv("a")).code)
      assert.equal(3, tiny.upgrade(s).code)
      local result = tiny.json(s, { word })
      assert.equal(0, result.code, result.stderr)
      assert.equal("rolled_back", result.last.status)
      is_as_before()
    end
  end)

  it("is undone when it is terminated, with 143", function()
    local words = argv("wait")
    words[#words + 1] = "--json"
    local going = command.start({ s.executable, table.unpack(words) }, { scratch = s.scratch,
      environment = s.environment, directory = s.project, seconds = 60 })
    assert(command.await(going, function(event) return event.text == "waiting" end))
    command.kill(going, "TERM")
    assert.equal(143, tiny.finish(going).code)
    is_as_before()
  end)

  it("after its commit is ended by the next command", function()
    local result = tiny.patched(s, 'require("praxlua.script").settle = die', argv("a"))
    assert.equal(137, result.code, result.stderr)
    assert.equal(0, tiny.json(s, { "resume" }).code)
    assert.equal("a", tiny.read(s, "note.txt"))
    assert.is_true(tiny.is_settled(s))
  end)

  it("leaves nothing behind but what it did, also after a kill", function()
    helper.write(s.project .. "/notes.txt", "old\n")
    tiny.phase(s, "notes", [[
      local phase = { title = "x", grants = { project = "write", services = { "lock", "report" } } }
      function phase.run(host)
        need(host.lock.acquire())
        local made, message = host.report.generate_upgrade_summary()
        if made or not message:find("no upgrade") then error(message) end
        need(host.project.write("notes.txt", "new\n"))
      end
      return phase
    ]])
    local words = { "run", s.root .. "/phases/notes.lua", "--grant", "project=write", "--grant",
      "services=lock,report" }
    for _, patch in ipairs({ "", 'require("praxlua.script").settle = die' }) do
      helper.write(s.project .. "/notes.txt", "old\n")
      local result = tiny.patched(s, patch, words)
      assert.equal(patch == "" and 0 or 137, result.code, result.stderr)
      if patch ~= "" then assert.equal(0, tiny.json(s, { "resume" }).code) end
      assert.equal("new\n", helper.read(s.project .. "/notes.txt"))
      assert.is_true(tiny.is_settled(s))
      assert.same({ "state" }, tiny.names(s, ".cache"))
    end
  end)

  it("only looks without a lock, and without an installation where it needs none", function()
    tiny.phase(s, "looks", [[
      local phase = { title = "Look", grants = { target = "read", source = "read" },
        evidence = { version = string_of{}, release = string_of{} } }
      function phase.run(host)
        return { version = need(host.target.read("VERSION.txt")):match("[%d.]+"),
          release = need(host.source.read("VERSION.txt")):match("[%d.]+") }
      end
      return phase
    ]])
    local exact = tiny.exact(s)
    local result = tiny.json(s, { "run", s.root .. "/phases/looks.lua", "--source", s.source,
      "--grant", "target=read", "--grant", "source=read" })
    assert.equal(0, result.code, result.stderr)
    assert.same({ version = "1.0.0", release = "2.0.0" }, tiny.event(result, "result").data)
    assert.same(exact, tiny.exact(s))
    tiny.phase(s, "adds", [[
      local phase = { title = "Add", evidence = { sum = integer{} } }
      function phase.run(host)
        local sum = 0
        for _, word in ipairs(host.options.arguments) do sum = sum + math.tointeger(word) end
        return { sum = sum }
      end
      return phase
    ]])
    result = tiny.json(s, { "run", s.root .. "/phases/adds.lua", "2", "3" }, { directory = s.root })
    assert.equal(0, result.code, result.stderr)
    assert.equal(5, tiny.event(result, "result").data.sum)
    result = tiny.json(s, { "run", s.root .. "/phases/adds.lua", "x" }, { directory = s.root })
    assert.equal(1, result.code)
    assert.equal("failed", result.last.status)
    assert.equal(3, tiny.json(s, { "run", s.root .. "/phases/looks.lua", "--source", s.source,
      "--grant", "target=read", "--grant", "source=read" }, { directory = s.root }).code)
  end)
end)
