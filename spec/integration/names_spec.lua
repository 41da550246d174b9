--- The worst file names that a file system takes, as shipped files, as files of the user's and in
-- conflicts: they go through plan, conflicts, upgrade, report and rollback unharmed, and what is
-- printed or written about them says nothing else than their name.
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local tiny = require("spec.support.tiny")

local FORGED = "finished: exit 0"
local DEEP = ("deep/"):rep(40)

local NAMES = {
  "with  two blanks .md", "line\nbreak.md", "x\n" .. FORGED, "\r" .. FORGED, "-rf",
  "--target=elsewhere", "'quoted' \"twice\".md", "back\\slash\\n.md", "*?[a-z].md", "...", "~",
  "$(touch pwned);`touch pwned`&.md", '{"event":"finished"}.md', "#%41%2F.md",
  "\27[2J\27[31m.md", "tab\tand\1control\127.md", "\u{202E}dm.txt", "\xff\xfe\x80.md", "\xc3(.md",
  "wide \u{1F984} \u{00E9}e\u{0301}.md", ("n"):rep(252) .. ".md", DEEP .. "end.md",
}

-- What becomes of a name in each folder: what the two releases ship there, and what a person left.
-- `some`: only so many of the names, from the end of the list, as each costs processes.
local BASE = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
local ROLES = {
  added = { nil, "added\n", nil, action = "add", after = "added\n" },
  updated = { BASE, "updated\n", BASE, action = "update", after = "updated\n" },
  removed = { BASE, nil, BASE, action = "remove", after = nil },
  kept = { BASE, BASE, "mine\n", action = "keep", after = "mine\n", some = 8 },
  own = { nil, nil, "my own\n", action = "keep", after = "my own\n" },
  merged = { BASE, BASE .. "eight\n", "zero\n" .. BASE, action = "merge",
    after = "zero\n" .. BASE .. "eight\n", some = 8 },
  disputed = { BASE, "theirs\n", "ours\n", action = "conflict", after = "ours\n" },
}

local function each_file()
  return coroutine.wrap(function()
    for folder, role in pairs(ROLES) do
      for i = #NAMES - (role.some or #NAMES) + 1, #NAMES do
        coroutine.yield("standards/universal/" .. folder .. "/" .. NAMES[i], role)
      end
    end
  end)
end

local function sample()
  local first, second = {}, {}
  for path, role in each_file() do
    local from = path:gsub("^standards/universal/", "universal/standards/")
    first[from] = role[1]
    if role[1] ~= role[2] then second[from] = role[2] or false end
  end
  local s = tiny.new({ first = first, second = second })
  for path, role in each_file() do
    if role[3] then tiny.write(s, path, role[3]) end
  end
  return s
end

-- No byte that a terminal obeys, nothing that is not UTF-8 or turns text around, and no line that
-- a name has begun.
local function is_harmless(words)
  assert.is_nil(words:find("[\0-\9\11-\31\127]"))
  assert.truthy(utf8.len(words))
  assert.is_nil(words:find("\u{202E}", 1, true))
  for line in words:gmatch("[^\n]+") do
    assert.is_nil(line:find("^%s*" .. FORGED), line)
    assert.is_nil(line:find('^%s*{"event":"finished"}'), line)
  end
end

local function actions(result)
  local found = {}
  for _, one in ipairs(tiny.event(result, "plan").actions) do found[one.path] = one.action end
  return found
end

local function is_upgraded(s, disputed)
  for path, role in each_file() do
    local expected = role.after
    if role.action == "conflict" then expected = disputed end
    assert.equal(expected, tiny.read(s, path), path)
  end
end

describe("The worst file names", function()
  local s, before

  setup(function()
    s = sample()
    tiny.save(s)
    before = tiny.snapshot(s)
  end)
  before_each(function() tiny.reset(s) end)
  teardown(function()
    assert.is_nil(io.open("pwned"))
    helper.clean()
  end)

  it("are in the plan and the conflicts as they are", function()
    local result = tiny.upgrade(s, { "--dry-run" })
    assert.equal(4, result.code)
    local planned, conflicts = actions(result), {}
    for _, event in ipairs(result.events) do
      if event.event == "conflict" then conflicts[event.path] = true end
    end
    for path, role in each_file() do
      assert.equal(role.action, planned[path], path)
      assert.equal(role.action == "conflict" or nil, conflicts[path], path)
    end
    assert.same(before, tiny.snapshot(s))
  end)

  it("forge nothing on a terminal, in a plan and where an answer is awaited", function()
    for _, arguments in ipairs({ { "--dry-run" }, {} }) do
      local result = tiny.run(s, { "upgrade", "--source", s.source, table.unpack(arguments) })
      assert.equal(4, result.code)
      is_harmless(result.stdout)
      is_harmless(result.stderr)
    end
    assert.same(before, tiny.snapshot(s))
  end)

  it("are upgraded, reported and rolled back", function()
    local run = tiny.run(s, { "upgrade", "--source", s.source, "--on-conflict", "ours" })
    assert.equal(0, run.code, run.stderr)
    is_harmless(run.stdout)
    is_harmless(run.stderr)
    is_upgraded(s, ROLES.disputed[3])
    for _, name in ipairs(tiny.names(s, ".cache")) do
      local path = ".cache/" .. name
      if name:find("%.md$") then is_harmless(tiny.read(s, path)) end
      if name:find("%.json$") then assert(json.decode(tiny.read(s, path))) end
    end
    is_harmless(tiny.read(s, "UPDATE_LOG.txt"))
    is_harmless(tiny.read(s, "INSTALLATION_SUMMARY.md"))
    local back = tiny.run(s, { "rollback", "--reason", "to look" })
    assert.equal(0, back.code, back.stderr)
    is_harmless(back.stdout)
    is_harmless(back.stderr)
    assert.same(before, tiny.snapshot(s))
  end)

  it("take the new release's content, and their record knows them afterwards", function()
    assert.equal(0, tiny.upgrade(s, { "--on-conflict", "theirs" }).code)
    is_upgraded(s, ROLES.disputed[2])
    assert.equal("nothing_to_do", tiny.upgrade(s).last.status)
    tiny.commit(s, { ["universal/standards/updated/x\n" .. FORGED] = "a third one\n" })
    local result = tiny.upgrade(s, { "--dry-run" })
    local path = "standards/universal/updated/x\n" .. FORGED
    assert.equal("update", actions(result)[path])
  end)
end)
