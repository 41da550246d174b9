--- The command line: what can be typed, and what is said to a mistake.
local events = require("praxlua.events")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local lfs = require("lfs")
local tiny = require("spec.support.tiny")

local here

-- What a command line gives: its exit code, and what it writes.
local function typed(...)
  local result = tiny.run(here, { ... })
  return result.code, result.stdout, result.stderr
end

-- Every command as it is typed, with what it needs.
local COMMANDS = {
  { "upgrade", needs = { "--source", "x" } }, { "resume" }, { "rollback" }, { "status" },
  { "diff", needs = { "--source", "x" }, any = true },
  { "backup", "create" }, { "backup", "list" }, { "backup", "verify" }, { "backup", "restore" },
  { "backup", "prune" }, { "phase", "list" }, { "phase", "show", needs = { "0" } }, { "doctor" },
  { "init" },
}

local function with(words, ...)
  local all = table.move(words, 1, #words, 1, {})
  for _, more in ipairs({ ... }) do
    if type(more) == "table" then
      table.move(more, 1, #more, #all + 1, all)
    else
      all[#all + 1] = more
    end
  end
  return table.unpack(all)
end

describe("The command line", function()
  setup(function()
    here = { root = helper.tempdir(), executable = tiny.executable() }
    here.scratch, here.project = here.root .. "/runs", here.root .. "/empty"
    assert(lfs.mkdir(here.scratch) and lfs.mkdir(here.project))
  end)
  teardown(helper.clean)

  for _, words in ipairs(COMMANDS) do
    local name = table.concat(words, " ")

    it("has a help text for " .. name, function()
      local code, out, err = typed(with(words, "--help"))
      assert.equal(0, code)
      assert.equal("", err)
      assert.equal("Usage: praxlua " .. name, out:sub(1, 15 + #name))
      for _, option in ipairs({ "--target", "--json", "--quiet", "-h" }) do
        assert.truthy(out:find(option, 1, true), option)
      end
    end)

    it("exits 2 for an unknown option of " .. name .. " and shows its usage", function()
      local code, out, err = typed(with(words, words.needs or {}, "--nonsense"))
      assert.equal(2, code)
      assert.equal("", out)
      assert.truthy(err:find("nonsense", 1, true), err)
      assert.truthy(err:find("Usage: praxlua", 1, true))
      assert.truthy(err:find("--help", 1, true))
    end)

    it("exits 2 for too much said to " .. name, function()
      if words.any then return end -- it takes as many words as there are
      assert.equal(2, (typed(with(words, words.needs or {}, "too", "much"))))
    end)

    it("exits 2 for an empty --target of " .. name, function()
      assert.equal(2, (typed(with(words, words.needs or {}, "--target", ""))))
    end)
  end

  it("exits 2 without a command, with half of one, and with an unknown one", function()
    for _, words in ipairs({ {}, { "backup" }, { "phase" }, { "upgrad" }, { "backup", "burn" } }) do
      local code, _, err = typed(table.unpack(words))
      assert.equal(2, code)
      assert.truthy(err:find("Usage: praxlua", 1, true))
    end
  end)

  it("exits 2 for values that make no sense", function()
    local wrong = {
      { "upgrade" }, { "upgrade", "--source" }, { "upgrade", "--source", "" },
      { "upgrade", "--source", "a", "--keep-backups", "0" },
      { "upgrade", "--source", "a", "--keep-backups", "1.5" },
      { "upgrade", "--source", "a", "--keep-backups", "many" },
      { "upgrade", "--source", "a", "--health-timeout", "0" },
      { "upgrade", "--source", "a", "--health-timeout", "-1" },
      { "upgrade", "--source", "a", "--health-timeout", "86401" },
      { "upgrade", "--source", "a", "--health-timeout", "soon" },
      { "upgrade", "--source", "a", "--on-conflict", "mine" },
      { "upgrade", "--source", "a", "--phases", "" },
      { "rollback", "--on-conflict", "ask" }, { "phase", "show" },
      { "backup", "prune", "--keep", "0" }, { "resume", "a", "b" },
    }
    for _, words in ipairs(wrong) do
      assert.equal(2, (typed(table.unpack(words))), table.concat(words, " "))
    end
  end)

  it("tells tools of a usage error, too", function()
    local code, out = typed("phase", "show", "--json")
    assert.equal(2, code)
    local event = json.decode(out)
    assert.is_true(events.check(event))
    assert.equal(2, event.exit_code)
    assert.equal("usage", event.status)
  end)

  it("shows its version and an overview with the exit codes", function()
    local code, out = typed("--version")
    assert.equal(0, code)
    assert.equal("praxlua " .. require("praxlua.version").text .. "\n", out)
    code, out = typed("--help")
    assert.equal(0, code)
    for _, words in ipairs(COMMANDS) do assert.truthy(out:find(words[1], 1, true), words[1]) end
    assert.truthy(out:find("Exit codes: 0 done", 1, true))
  end)

  it("always shows the same help", function()
    local _, first = typed("phase", "--help")
    for _ = 1, 5 do assert.equal(first, (select(2, typed("phase", "--help")))) end
  end)

  it("refuses where there is no installation, in every command that needs one", function()
    for _, words in ipairs(COMMANDS) do
      local everywhere = words[1] == "phase" or words[1] == "doctor"
      local result = tiny.json(here, { with(words, words.needs or {}) })
      if not everywhere then assert.equal(3, result.code, table.concat(words, " ")) end
      result = tiny.json(here, { with(words, words.needs or {}, "--target", "gone") })
      assert.equal(3, result.code, table.concat(words, " "))
      assert.truthy(result.last.message:find("gone", 1, true))
      assert.truthy(result.last.next:find("--target", 1, true))
    end
  end)
end)

describe("Where standard output cannot be written", function()
  local command = require("spec.support.command")

  after_each(helper.clean)

  it("the command goes on, says so once, and its exit code stays right", function()
    local s = tiny.new()
    local errors = s.root .. "/errors"
    local line = ("cd %s && %s upgrade --json --source %s >/dev/full 2>%s"):format(
      command.quote(s.project), command.quote(s.executable), command.quote(s.source),
      command.quote(errors))
    assert.is_true(os.execute(line), helper.read(errors))
    assert.equal("guide 2\n", tiny.read(s, tiny.GUIDE))
    local _, times = helper.read(errors):gsub("cannot be written to standard output", "")
    assert.equal(1, times)
  end)
end)
