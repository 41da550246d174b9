--- Tools that a phase starts: which, with what, what they may do, and what is left of them.
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local machine = require("spec.sandbox.machine")

local quote = command.quote
local TOOLS = { "sh", "sleep", "env", "cat", "true", "head", "yes", "pwd", "bash", "id" }

local function spawning(case)
  case.grants = case.grants or { tools = TOOLS }
  case.expect = case.expect or "ok"
  case.limits = case.limits or { wall = 20, memory = 64 << 20 }
  return case
end

local function denied(t)
  return t.evidence.a ~= "EDENIED" and ("the code is %s"):format(tostring(t.evidence.a)) or nil
end

-- A tool that was not granted: the phase ends there.
local function not_granted(case)
  case.grants = case.grants or { tools = TOOLS }
  case.expect, case.message = "denied:grant", "not granted"
  return case
end

-- The body is a script of sh; `a` is its exit code, `b` its output, `c` its errors.
local function script(case)
  case.body = ([[
    local result = need(host.spawn({ "sh", "-c", %q, "sh", host.options.outside,
      host.options.token, timeout = %d }))
    return { a = result.code, b = result.stdout, c = result.stderr, d = result.timed_out }
  ]]):format(case.script, case.timeout or 10)
  return spawning(case)
end

return {
  not_granted({ id = "P01", hole = "a tool runs without any grant", grants = {},
    body = "return { a = host.spawn({ 'id' }) }"}),
  not_granted({ id = "P02", hole = "the grant for one tool is taken for another",
    grants = { tools = { "git" } },
    body = "return { a = host.spawn({ 'sh', '-c', 'exit 0' }) }"}),
  not_granted({ id = "P03", hole = "a granted name as an absolute path names another program",
    body = "return { a = host.spawn({ '/bin/sh', '-c', 'exit 0' }) }"}),
  not_granted({ id = "P04",
    hole = "a granted name as a relative path runs what lies in the project",
    prepare = function(s)
      helper.write(s.project .. "/sh", "#!/bin/sh\necho planted\n")
      os.execute("chmod +x " .. quote(s.project .. "/sh"))
    end,
    body = "return { a = host.spawn({ './sh' }) }"}),
  spawning({ id = "P05", hole = "a relative or empty part of PATH finds a tool in the project",
    prepare = function(s)
      helper.write(s.project .. "/id", "#!/bin/sh\necho planted\n")
      os.execute("chmod +x " .. quote(s.project .. "/id"))
    end,
    body = "return { a = need(host.spawn({ 'id' })).stdout }",
    check = function(t) return t.evidence.a:find("planted") and "the planted one ran" or nil end }),
  spawning({ id = "P06", hole = "a NUL cuts off an argument behind the check",
    body = "return { a = pcall(host.spawn, { 'sh', '-c', 'exit 0\\0rm -rf /' }) }",
    check = function(t) return t.evidence.a ~= false and "it ran" or nil end }),
  spawning({ id = "P07", hole = "the environment of the supervisor reaches a tool",
    body = "return { a = need(host.spawn({ 'env' })).stdout }",
    check = function(t)
      return (t.evidence.a:find("SECRET_OF_OURS") or t.evidence.a:find("LUA_PATH")) and t.evidence.a
        or nil
    end }),
  spawning({ id = "P08", hole = "a phase chooses the variables of its tool", expect = { "ok",
    "error" },
    body = [[
      local result = need(host.spawn({ "env", environment = { LD_PRELOAD = "/x.so" },
        env = { LD_PRELOAD = "/x.so" } }))
      return { a = result.stdout .. result.stderr }
    ]],
    check = function(t) return t.evidence and t.evidence.a:find("x.so") and t.evidence.a
      or nil end }),
  spawning({ id = "P09", hole = "a phase chooses the folder its tool works in", expect = { "ok",
    "error" },
    body = [[
      local result = need(host.spawn({ "pwd", directory = "/", cwd = "/" }))
      return { a = result.stdout }
    ]],
    check = function(t) return t.evidence and t.evidence.a == "/\n" and "it is /" or nil end }),
  spawning({ id = "P10", hole = "a tool that writes without end fills memory",
    body = [[
      local result = need(host.spawn({ "head", "-c", "60000000", "/dev/zero" }))
      return { a = #result.stdout, b = result.truncated, c = result.code }
    ]],
    check = function(t)
      return (t.evidence.a > 2 << 20 or not t.evidence.b or t.evidence.c ~= 0)
        and ("%d bytes"):format(t.evidence.a) or nil
    end }),
  spawning({ id = "P11", hole = "a tool that fills one stream while the other is read stalls",
    body = [[
      local result = need(host.spawn({ "sh", "-c", "head -c 3000000 /dev/zero >&2; echo out; "
        .. "head -c 3000000 /dev/zero >&2; echo end", timeout = 15 }))
      return { b = result.stdout }
    ]],
    check = function(t) return t.evidence.b ~= "out\nend\n" and "the output is cut off"
      or nil end }),
  spawning({ id = "P12", hole = "a tool that reads waits for a person",
    body = "return { a = need(host.spawn({ 'cat', timeout = 15 })).timed_out }",
    check = function(t) return t.evidence.a and "it waited" or nil end }),
  spawning({ id = "P13", hole = "data for a tool that does not read stalls the host",
    body = [[
      local result = need(host.spawn({ "true", stdin = ("x"):rep(5000000), timeout = 15 }))
      return { a = result.code }
    ]],
    check = function(t) return t.evidence.a ~= 0 and "code " .. tostring(t.evidence.a)
      or nil end }),
  spawning({ id = "P14", hole = "a tool outlasts its own time limit",
    body = "return { a = need(host.spawn({ 'sleep', '600', timeout = 0.3 })).timed_out }",
    check = function(t) return t.evidence.a ~= true and "it was not stopped" or nil end }),
  spawning({ id = "P15", hole = "a tool that has more time than the phase outlasts the phase",
    expect = "limit:wall", limits = { wall = 1 },
    body = "host.spawn({ 'sleep', '8', timeout = 600 })" }),
  script({ id = "P16", hole = "a grandchild in a session of its own outlives its phase",
    script = "setsid sh -c 'sleep 600; : '$2 > /dev/null 2>&1 < /dev/null & sleep 0.2; exit 0" }),
  script({ id = "P17", hole = "a grandchild without our variables outlives its phase",
    script = "(env -i setsid /bin/sh -c 'cd /; sleep 600; : '$2 > /dev/null 2>&1 &) ; sleep 0.2" }),
  script({ id = "P18", hole = "a tool that takes no notice of SIGTERM outlasts its time",
    limits = { wall = 20 }, timeout = 1,
    script = "trap '' TERM INT HUP; while :; do sleep 1; done",
    check = function(t) return not t.evidence.d and "it was not stopped" or nil end }),
  script({ id = "P19", hole = "a hundred processes of one tool are too many to end",
    limits = { wall = 20 },
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6 7 8 9 10; do "
      .. "setsid sh -c 'sleep 600; : '$2 > /dev/null 2>&1 & done; done; exit 0" }),
  script({ id = "P20", hole = "a tool ends the supervisor or signals it",
    needs = function() return machine.lacks_landlock(6) end,
    script = "kill -0 $PPID", check = function(t)
      return t.evidence.a == 0 and "it can signal the supervisor" or nil
    end }),
  script({ id = "P21", hole = "a tool writes anywhere the user can",
    needs = function() return machine.lacks_landlock(2) end,
    script = [[echo x > "$1/new"; echo x >> "$1/canary"; rm -rf "$1/folder"; mkdir "$1/made"]] }),
  script({ id = "P22", hole = "a tool changes the installation beside the transaction",
    needs = function() return machine.lacks_landlock(2) end,
    script = "echo x >> .praxis-os/file; rm -f src/main.lua; echo x > new" }),
  script({ id = "P23", hole = "a tool reaches the network without the grant",
    needs = machine.lacks_seccomp,
    script = "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/9'", check = function(t)
      return not t.evidence.c:lower():find("not permitted")
        and not t.evidence.c:lower():find("permission denied") and t.evidence.c or nil
    end }),
  script({ id = "P24", hole = "a tool inherits the descriptors of the supervisor",
    script = "ls /proc/self/fd | tr '\\n' ' '", check = function(t)
      return t.evidence.b ~= "0 1 2 3 " and t.evidence.b or nil
    end }),
  spawning({ id = "P25", hole = "tools run before there is a backup", completed = { 0 },
    body = "return { a = select(3, host.spawn({ 'id' })) }", check = denied }),
  spawning({ id = "P26", hole = "tools run when the run is over", completed = { 0, 1, 2, 3, 4, 5 },
    body = "return { a = select(3, host.spawn({ 'id' })) }", check = denied }),
  spawning({ id = "P27", hole = "tools run in a dry run", dry = true,
    body = "return { a = select(3, host.spawn({ 'id' })) }", check = denied }),
  spawning({ id = "P28", hole = "arguments larger than the kernel takes break the supervisor",
    body = [[
      local result, message = host.spawn({ "true", ("x"):rep(5000000) })
      return { a = result == nil and message ~= nil }
    ]],
    check = function(t) return t.evidence.a ~= true and "it ran" or nil end }),
  spawning({ id = "P29", hole = "words that are no strings are taken for a command",
    body = [[
      local taken = {}
      for i, words in ipairs({ {}, { {} }, { true }, { "true", {} },
        { "true", false }, { "true", "a\0b" } }) do
        local ok, result = pcall(host.spawn, words)
        if ok and result then taken[#taken + 1] = i end
      end
      return { a = taken }
    ]],
    check = function(t) return #t.evidence.a > 0 and "taken: " .. table.concat(t.evidence.a, " ")
      or nil end }),
  script({ id = "P30", hole = "the crash of a tool is taken for one of the phase",
    script = "kill -SEGV $$", check = function(t)
      return t.evidence.a == 0 and t.outcome.verdict ~= "ok" and "it was" or nil
    end }),
  { id = "P31", hole = "a worker goes on when its supervisor is killed", expect = "killed",
    limits = { wall = 50, cpu = 40, instructions = 9000000000 },
    body = "host.ask('now') while true do end",
    during = function()
      os.execute(("(sleep 0.3; kill -KILL %d) > /dev/null 2>&1 &"):format(core.system.pid()))
      return true
    end },
  script({ id = "P32", hole = "a tool gains rights through a set-user-id program",
    script = "grep NoNewPrivs /proc/self/status", check = function(t)
      return not t.evidence.b:find("1") and t.evidence.b or nil
    end }),
  script({ id = "P34", hole = "a tool writes into the memory of the supervisor through /proc",
    needs = function() return machine.lacks_landlock(2) end,
    script = "for p in $PPID $(cut -d ' ' -f 4 /proc/$PPID/stat); do "
      .. "(exec 3<> /proc/$p/mem) 2> /dev/null && echo $p; done; exit 0",
    check = function(t) return t.evidence.b ~= "" and "opened: " .. t.evidence.b or nil end }),
  script({ id = "P35", hole = "a tool sends datagrams without the grant for the network",
    needs = machine.lacks_seccomp,
    script = "exec bash -c 'exec 3<>/dev/udp/127.0.0.1/9 && echo made'", check = function(t)
      return t.evidence.b ~= "" and "the socket was made" or nil
    end }),
  spawning({ id = "P33", hole = "a time limit for a tool that is no time means no limit",
    body = [[
      local taken = {}
      for _, timeout in ipairs({ 0, -1, "10", {}, true }) do
        if pcall(host.spawn, { "true", timeout = timeout }) then
          taken[#taken + 1] = tostring(timeout)
        end
      end
      return { a = taken }
    ]],
    check = function(t) return #t.evidence.a > 0 and table.concat(t.evidence.a, " ") or nil end }),
}
