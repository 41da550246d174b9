local events = require("praxlua.events")
local helper = require("spec.support.helper")
local json = require("praxlua.json")
local terminal = require("praxlua.terminal")

local TIME = "2025-10-08T10:30:00Z"
local NAMES = { "session_started", "phases", "waiting", "phase_started", "phase_progress",
  "phase_completed", "phase_failed", "plan", "difference", "not_run", "conflict", "question",
  "warning", "log", "server_log", "rollback_started", "undo_command", "rollback_completed",
  "report", "finished", "result" }

-- The example lines of docs/events.md, by event.
local function examples()
  local found = {}
  for line in assert(helper.read("docs/events.md")):gmatch("[^\n]+") do
    if line:sub(1, 1) == "{" then
      local event = assert(json.decode(line))
      found[#found + 1] = event
    end
  end
  return found
end

-- What a JSON sink writes for events, decoded.
local function lines(list, options)
  local out = {}
  local emit = events.json(function(line)
    assert.equal("\n", line:sub(-1))
    assert.is_nil(line:sub(1, -2):find("%c"))
    out[#out + 1] = assert(json.decode(line))
  end, options)
  for _, event in ipairs(list) do emit(event) end
  return out
end

-- What people read for events.
local function read(list, options, terminal_options)
  local parts = {}
  local given = {
    out = {
      write = function(_, ...) parts[#parts + 1] = table.concat({ ... }) end,
      flush = function() end,
    },
    is_terminal = false, environment = { LANG = "C.UTF-8" }, columns = 80,
  }
  for key, value in pairs(terminal_options or {}) do given[key] = value end
  local emit = events.people(terminal.new(given), options)
  for _, event in ipairs(list) do emit(event) end
  return table.concat(parts)
end

describe("events", function()
  it("are the documented ones", function()
    table.sort(NAMES)
    assert.same(NAMES, events.names())
  end)

  it("each have a valid example line and a heading in docs/events.md", function()
    local seen, guide = {}, helper.read("docs/events.md")
    for _, event in ipairs(examples()) do
      assert.is_true(events.check(event), event.event)
      seen[event.event] = true
    end
    for _, name in ipairs(NAMES) do
      assert.is_true(seen[name], "no example of " .. name)
      assert.truthy(guide:find("\n## " .. name .. "\n", 1, true), "no heading for " .. name)
    end
  end)

  it("have every field named in docs/events.md under their heading", function()
    local guide = helper.read("docs/events.md")
    for name, fields in pairs(events.fields) do
      local from = guide:find("\n## " .. name .. "\n", 1, true)
      local section = guide:sub(from, (guide:find("\n## ", from + 1, true) or #guide))
      for field in pairs(fields) do
        assert.truthy(section:find("`" .. field .. "`", 1, true), name .. "." .. field)
      end
    end
  end)

  it("have their JSON Schema in docs/events.schema.json, as generated", function()
    assert.equal(events.json_schema(), helper.read("docs/events.schema.json"))
  end)
end)

describe("events.check", function()
  it("refuses unknown events, missing, wrong and further fields", function()
    for want, event in pairs({
      ["there is no 'bogus\\n'"] = { event = "bogus\n", time = TIME },
      ["there is no 'nil'"] = {},
      ["log: message: missing"] = { event = "log", time = TIME, level = "info" },
      ["log: level: expected one of"] =
        { event = "log", time = TIME, level = "loud", message = "" },
      ["warning: colour: not a field"] =
        { event = "warning", time = TIME, message = "x", colour = "red" },
      ["finished: exit_code: 256 is more than 255"] =
        { event = "finished", time = TIME, exit_code = 256, status = "failed" },
      ["warning: time: missing"] = { event = "warning", message = "x" },
      ["warning: time: not an ISO 8601 time"] =
        { event = "warning", message = "x", time = "yesterday at half past ten" },
      ["fraction: 1.5 is more than 1"] =
        { event = "phase_progress", time = TIME, phase = "p", text = "", fraction = 1.5 },
    }) do
      local ok, message, code = events.check(event)
      assert.is_nil(ok)
      assert.equal("ESCHEMA", code)
      assert.truthy(message:find(want, 1, true), message)
    end
    assert.is_nil((events.check("log")))
  end)
end)

describe("events.json", function()
  it("writes one object a line, with time and session", function()
    local out = lines({ { event = "warning", message = "a" }, { event = "warning", message = "b",
      time = TIME, session_id = "other" } }, { session_id = function() return "s1" end })
    assert.equal(2, #out)
    assert.equal("s1", out[1].session_id)
    assert.is_true(events.check(out[1]))
    assert.equal(TIME, out[2].time)
    assert.equal("other", out[2].session_id)
  end)

  it("writes what it was given, whatever is in it", function()
    local message = "a\n{\"event\":\"finished\"}\27[2J\xff\u{202e}"
    local out = lines({ { event = "warning", message = message, time = TIME } })
    assert.equal(1, #out)
    assert.equal(message, out[1].message)
  end)

  it("does not change the event it was given", function()
    local event = { event = "warning", message = "a" }
    lines({ event }, { session_id = "s1" })
    assert.same({ event = "warning", message = "a" }, event)
  end)

  it("turns a malformed event into a log event that says so, and never raises", function()
    local out = lines({
      { event = "nonsense" }, { event = "finished" }, {},
      { event = "result", command = "x", data = { 1, a = 2 } },
      { event = "result", command = "x", data = { f = print } },
    })
    assert.equal(5, #out)
    for _, event in ipairs(out) do
      assert.is_true(events.check(event))
      assert.equal("log", event.event)
      assert.equal("error", event.level)
    end
    assert.truthy(out[2].message:find("exit_code", 1, true))
    assert.truthy(out[4].message:find("both integer and string keys", 1, true))
  end)

  it("carries every documented event unchanged", function()
    local all = examples()
    assert.same(all, lines(all))
  end)
end)

describe("events.people", function()
  it("writes something for each event, on lines without control characters", function()
    local hostile = "x\27[31m\nerror: forged"
    local untouched = { event = true, level = true, status = true, action = true, hash = true,
      time = true, resolution = true, finished = true }
    local function poison(value, key)
      if type(value) == "string" and not untouched[key] then return value .. hostile end
      if type(value) ~= "table" then return value end
      local copy = json.is_array(value) and json.array() or {}
      for k, v in pairs(value) do copy[k] = poison(v, k) end
      return copy
    end
    for _, event in ipairs(examples()) do
      local shown = read({ poison(event) }, { verbose = true })
      assert.is_nil(shown:gsub("\n", ""):find("%c"), event.event)
      assert.is_nil(shown:find("\nerror: forged", 1, true), event.event)
      if event.event ~= "result" then assert.are_not.equal("", shown, event.event) end
    end
  end)

  it("tells an upgrade as aligned lines", function()
    local shown = read({
      { event = "session_started", source = "/src", target = "/p/.praxis-os", dry_run = false,
        from_version = "1.2.0", to_version = "1.3.0", session_id = "s1" },
      { event = "phase_started", phase = "pre-flight-checks", number = 0, index = 1, total = 6,
        title = "Pre-flight checks" },
      { event = "phase_progress", phase = "pre-flight-checks", text = "reading the history" },
      { event = "phase_completed", phase = "pre-flight-checks", number = 0, seconds = 0.25,
        summary = "source is clean" },
      { event = "phase_started", phase = "mine", title = "Mine" },
      { event = "phase_completed", phase = "mine", seconds = 61 },
      { event = "finished", exit_code = 0, status = "completed" },
    })
    assert.equal(table.concat({
      "Upgrading /p/.praxis-os",
      "  from     /src",
      "  version  1.2.0 \u{2192} 1.3.0",
      "  session  s1",
      "  Pre-flight checks (1 of 6)\u{2026}",
      "  Pre-flight checks: reading the history",
      "  ok      0  Pre-flight checks                       250 ms  source is clean",
      "  Mine\u{2026}",
      "  ok      +  Mine                                 1 min 1 s",
      "Done.", "",
    }, "\n"), shown)
  end)

  it("leaves out what it was not told", function()
    assert.equal("Dry run: what an upgrade would do to /p\n",
      read({ { event = "session_started", target = "/p", dry_run = true } }))
    assert.equal("error: w\nnext:  n\n", read({ { event = "finished", exit_code = 3,
      status = "refused", message = "w", next = "n" } }))
  end)

  it("colours an end that waits differently from one that failed", function()
    local function shown(status)
      return read({ { event = "finished", exit_code = 4, status = status, message = "m" } }, nil,
        { is_terminal = true })
    end
    assert.equal("\27[33mm\27[0m\n", shown("waiting"))
    assert.equal("\27[31mm\27[0m\n", shown("failed"))
    assert.equal("\27[32mm\27[0m\n", shown("completed"))
  end)

  it("gives a failure its three parts", function()
    local shown = read({
      { event = "phase_failed", phase = "content-upgrade", number = 2, seconds = 3,
        verdict = "limit:wall", message = "the phase took too long", next = "try again" },
      { event = "rollback_started", reason = "phase 2 failed" },
      { event = "rollback_completed", success = true, seconds = 1.5, server_healthy = true },
      { event = "finished", exit_code = 1, status = "rolled_back" },
    })
    for _, part in ipairs({ "failed  2  content-upgrade", "error: the phase took too long\n",
      "where: phase content-upgrade\n", "next:  try again\n", "Rolling back: phase 2 failed\n",
      "Rolled back in 1.5 s; the server answers\n" }) do
      assert.truthy(shown:find(part, 1, true), part)
    end
  end)

  it("does not say that an interrupted dry run was rolled back", function()
    local shown = read({
      { event = "phase_failed", phase = "p", seconds = 1, verdict = "interrupted", message = "m" },
      { event = "finished", exit_code = 130, status = "interrupted", message = "m", next = "n" },
    })
    assert.truthy(shown:find("error: Interrupted; the installation is as before.\nnext:  n\n", 1,
      true), shown)
  end)

  it("says what to do when a rollback did not complete", function()
    local shown = read({ { event = "rollback_completed", success = false, seconds = 1,
      server_healthy = false, message = "/p/.praxis-os" } })
    assert.truthy(shown:find("the rollback did not complete; the server does not answer", 1, true))
    assert.truthy(shown:find("praxlua rollback", 1, true))
  end)

  it("is silent with quiet until something is to be done", function()
    local good = {
      { event = "session_started", target = "/p", dry_run = true },
      { event = "phase_started", phase = "p", title = "The phase" },
      { event = "phase_progress", phase = "p", text = "x" },
      { event = "phase_completed", phase = "p", seconds = 1 },
      { event = "plan", hash = "ab", counts = { new_files = 0, updated_files = 0,
        merged_files = 0, unchanged_files = 1, removed_files = 0, conflicts = 0, local_only = 0 } },
      { event = "question", question = "?", choices = { "a" }, default = "a", answer = "a" },
      { event = "report", path = "r", report = {} },
      { event = "finished", exit_code = 0, status = "nothing_to_do" },
    }
    assert.equal("", read(good, { quiet = true }))
    assert.truthy(read({ good[2], { event = "phase_failed", phase = "p", seconds = 1,
      verdict = "failed", message = "m" } }, { quiet = true }):find("The phase", 1, true))
    assert.truthy(read({ { event = "warning", message = "m" } }, { quiet = true })
      :find("warning: m", 1, true))
    assert.truthy(read({ { event = "rollback_completed", success = true, seconds = 1 } },
      { quiet = true }):find("Rolled back in 1.0 s", 1, true))
    assert.truthy(read({ { event = "finished", exit_code = 4, status = "waiting" } },
      { quiet = true }):find("Waiting", 1, true))
  end)

  it("shows quiet log levels only when verbose", function()
    local event = { event = "log", level = "info", message = "detail" }
    assert.equal("", read({ event }))
    assert.equal("detail\n", read({ event }, { verbose = true }))
    event.level = "error"
    assert.equal("error: detail\n", read({ event }))
  end)

  local plan = { event = "plan", hash = "ab12", counts = { new_files = 1,
    updated_files = 0, merged_files = 0, unchanged_files = 7, removed_files = 0, conflicts = 0,
    local_only = 2 },
    actions = { { path = "standards/a.md", action = "add" },
      { path = "standards/b.md", action = "unchanged" } } }

  it("shows only the numbers of a plan that is being carried out", function()
    local shown = read({ plan })
    assert.equal("Plan: 1 new, 2 yours, kept, 7 unchanged\n", shown)
  end)

  it("lists the plan of a dry run without what stays as it is", function()
    local shown = read({ { event = "session_started", target = "t", dry_run = true }, plan })
    assert.truthy(shown:find("Plan: 1 new, 2 yours, kept, 7 unchanged\n", 1, true))
    assert.truthy(shown:find("add  standards/a.md\n", 1, true))
    assert.is_nil(shown:find("b.md", 1, true))
  end)

  it("does not fail on malformed events", function()
    assert.truthy(read({ { event = "nonsense" } }):find("error: malformed event", 1, true))
  end)

  it("has a sentence for every end", function()
    for _, status in ipairs(events.STATUSES) do
      local shown = read({ { event = "finished", exit_code = 1, status = status } })
      assert.is_true(#shown > 5, status)
    end
    assert.equal("error: w\nwhere: x\nnext:  y\n", read({ { event = "finished", exit_code = 3,
      status = "refused", message = "w", where = "x", next = "y" } }))
  end)
end)

describe("events.all", function()
  it("hands each event to every sink in order", function()
    local got = {}
    local emit = events.all(function(e) got[#got + 1] = "a" .. e.event end,
      function(e) got[#got + 1] = "b" .. e.event end)
    emit({ event = "x" })
    assert.same({ "ax", "bx" }, got)
  end)
end)
