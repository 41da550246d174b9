--- A program that watches the installation, as the server does to index it anew, is told of every
-- file that an upgrade or a rollback changes. The watcher is Python's watchdog.
local cjson = require("cjson")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local tiny = require("spec.support.tiny")

local DEEP = "standards/universal/new/deep/er.md"

-- A Python that has watchdog: Debian's package is for the system's own.
local function python()
  for _, name in ipairs({ "/usr/bin/python3", "python3" }) do
    if os.execute(name .. " -c 'import watchdog' 2>/dev/null") then return name end
  end
  error("no Python with watchdog; `make test-deps` installs it")
end

-- Lets a watcher look at folders of the target while something is done.
local function watched(s, folders, act)
  local events, ready = s.root .. "/events", s.root .. "/ready"
  os.remove(ready)
  local words = { "exec", python(), "-B", "spec/support/watcher.py", events, ready }
  for _, folder in ipairs(folders) do words[#words + 1] = command.quote(folder) end
  local watcher = assert(io.popen(table.concat(words, " "), "w"))
  assert(command.until_true(function() return helper.read(ready) end, 10), "it does not watch")
  act()
  assert(watcher:close())
  local seen = {}
  for line in helper.read(events):gmatch("[^\n]+") do
    local event = cjson.decode(line)
    local path = event[2]:sub(#s.project + 2)
    seen[path] = seen[path] or {}
    seen[path][event[1]] = true
  end
  return seen
end

-- The content files that differ between two snapshots, and how.
local function changes(before, after)
  local prefix, found = tiny.NAME .. "/", {}
  for path, state in pairs(before) do
    if after[path] ~= state and not state:find("^directory") then
      found[path] = after[path] and "changed" or "gone"
    end
  end
  for path, state in pairs(after) do
    if not before[path] and not state:find("^directory") then found[path] = "new" end
  end
  for path in pairs(found) do
    local inside = path:sub(#prefix + 1)
    if not (inside:find("^standards/") or inside:find("^workflows/")) then found[path] = nil end
  end
  return found
end

-- What a watcher may be told of a file that is there now, or gone.
local TOLD = {
  new = { "created", "moved", "modified" }, changed = { "modified", "created", "moved" },
  gone = { "deleted", "moved from" },
}

-- Only what a program hears that does not listen to moves.
local function without_moves(seen)
  for _, kinds in pairs(seen) do kinds.moved, kinds["moved from"] = nil, nil end
  return seen
end

local function is_told(seen, changed)
  local missed = {}
  for path, how in pairs(changed) do
    local heard = false
    for _, kind in ipairs(TOLD[how]) do heard = heard or seen[path] and seen[path][kind] end
    if not heard then missed[#missed + 1] = how .. " " .. path end
  end
  table.sort(missed)
  assert.same({}, missed)
end

describe("A file watcher", function()
  local s

  before_each(function()
    s = tiny.new({ second = {
      ["universal/standards/new/deep/er.md"] = "er 2\n",
      ["universal/standards/testing/pyramid.md"] = ("pyramid 2\n"):rep(2000),
    } })
  end)
  after_each(helper.clean)

  local function upgraded(folders)
    local before = tiny.snapshot(s)
    local seen = watched(s, folders, function() assert.equal(0, tiny.upgrade(s).code) end)
    local changed = changes(before, tiny.snapshot(s))
    assert.equal("new", changed[tiny.NAME .. "/" .. DEEP])
    assert.equal("changed", changed[tiny.NAME .. "/" .. tiny.GUIDE])
    assert.equal("gone", changed[tiny.NAME .. "/standards/universal/testing/retired.md"])
    return seen, changed
  end

  it("over the whole installation sees every file that an upgrade changes", function()
    local seen, changed = upgraded({ s.target })
    is_told(seen, changed)
    local kept = seen[tiny.NAME .. "/workflows/flow/metadata.json"] or {}
    assert.is_nil(kept.modified or kept.created or kept.deleted or kept.moved)
  end)

  it("over the content sees them without listening to moves, as the server does", function()
    local folders = { s.target .. "/standards", s.target .. "/workflows" }
    local heard, upgrades = upgraded(folders)
    is_told(without_moves(heard), upgrades)
    local before = tiny.snapshot(s)
    local seen = watched(s, folders, function()
      assert.equal(0, tiny.json(s, { "rollback", "--reason", "to look" }).code)
    end)
    local changed = changes(before, tiny.snapshot(s))
    assert.equal("gone", changed[tiny.NAME .. "/" .. DEEP])
    is_told(without_moves(seen), changed)
  end)
end)
