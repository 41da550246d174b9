--- The system calls of a worker, as strace sees them, against the list in docs/threat-model.md and
-- the filter in runtime/filter.c.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local isolation = require("praxlua.isolation")
local process = require("praxlua.process")

-- Names of calls in the first column of the table.
local function documented()
  local text = helper.read("docs/threat-model.md")
  local section = text:match("\n## The system calls of a worker\n(.-)\n## ")
  local names = {}
  for cell in section:gmatch("\n| (`[^|]*) |") do
    for name in cell:gmatch("`([%w_]+)`") do names[name] = true end
  end
  return names
end

-- Names of calls for which the worker's filter has a rule.
local function filtered()
  local source = helper.read("runtime/filter.c")
  local names = {}
  for _, from in ipairs({ "static const int plain%[%] = (%b{})",
    "\nstatic int add_worker_rules(%b().-)\n}\n" }) do
    for name in source:match(from):gmatch("SCMP_SYS%(([%w_]+)%)") do names[name] = true end
  end
  return names
end

describe("the system calls of a worker", function()
  after_each(helper.clean)

  it("are documented as the filter has them", function()
    assert.same(filtered(), documented())
    assert.is_true(documented().sendto)
  end)

  if isolation.measure() ~= "full" then return end

  -- A phase that computes, fills memory, talks, and ends in one way; and one of each limit.
  local SCRIPTS = {
    ["a result"] = [[
      local t = {}
      for i = 1, 200000 do t[i] = { tostring(i) } end
      for i = 1, 200000 do t[i] = nil end
      local s = ("x"):rep(8 << 20)
      coroutine.wrap(function() coroutine.yield(host.time()) end)()
      return { n = #s, again = host.json.encode({ s:sub(1, 100000) }) }
    ]],
    ["an error"] = "error('x')",
    ["instructions"] = "while true do end",
    ["memory"] = "local t = {} for i = 1, 1e9 do t[i] = { i } end",
    ["CPU time"] = "return (('a'):rep(30)):find(('a?'):rep(30) .. ('a'):rep(30) .. 'b')",
  }

  -- The host, with strace around it that is no process in between (-D).
  local function traced(log)
    local path = helper.tempdir() .. "/host"
    helper.write(path, ("#!/bin/sh\nexec %s -D -f -q -o '%s' '%s' \"$@\"\n")
      :format(assert(process.find("strace")), log, assert(core.system.host())))
    os.execute("chmod +x " .. path)
    return path
  end

  -- The calls after the filter was put up, by name; and how many.
  local function calls_in(log)
    local names, count = {}, nil
    for line in helper.read(log):gmatch("[^\n]+") do
      local name = line:match("^%d+ +([%w_]+)%(") or line:match("<%.%.%. ([%w_]+) resumed>")
      if count and name then
        names[name], count = line, count + 1
      elseif name == "seccomp" and line:find("SECCOMP_SET_MODE_FILTER", 1, true)
        and line:find("= 0", 1, true) then
        count = 0
      end
    end
    return names, count or 0
  end

  for what, body in pairs(SCRIPTS) do
    it("are no others, to the end: " .. what, function()
      local log = helper.tempdir() .. "/log"
      local worker <close> = assert(core.worker.start(traced(log),
        { instructions = what == "instructions" and 100000 or 1 << 50, cpu = 2 }))
      assert(isolation.tell(worker, "run", "x.lua", "return { run = function(host) " .. body
        .. " end }", { known = { "time", "json.encode" } }))
      local kind
      repeat
        kind = worker:receive(60)
        if kind == "call" then assert(worker:send("answer", true, "now")) end
      until kind ~= "call"
      assert.is_not_nil(kind)
      worker:wait()
      assert(command.until_true(function() return helper.read(log):find("+++ ", 1, true) end, 20))
      local names, count = calls_in(log)
      assert.is_true(count >= 5, "too little was seen")
      local listed = documented()
      for name, line in pairs(names) do assert.is_true(listed[name], line) end
    end)
  end
end)
