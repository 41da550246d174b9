--- What the kernel holds against a worker that has been taken over: system calls, made raw, and the
--- state its process is in. The numbers are those of x86-64; pointers are null or wrong, so that a
--- call that is let through does no harm.
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local machine = require("spec.sandbox.machine")

-- A system call that must end the worker.
local function refused(id, hole, call)
  return { id = id, hole = hole, host = "raw", expect = "denied:system-call",
    needs = function() return machine.lacks_x86() or machine.lacks_seccomp() end,
    body = ("raw(%s) return { a = 'it was made' }"):format(call) }
end

-- What a worker's status file says.
local function status(pid, field)
  local text = helper.read(("/proc/%d/status"):format(pid)) or ""
  return text:match("\n" .. field .. ":%s*([^\n]*)")
end

-- A case about the state of the process, looked at from outside while it waits for an answer.
local function state(case)
  case.body = "return { a = host.ask('?') }"
  case.expect = "ok"
  return case
end

local function limit(pid, name)
  local text = helper.read(("/proc/%d/limits"):format(pid)) or ""
  return text:match("\n" .. name .. "%s+(%S+)")
end

return {
  refused("K01", "another program is executed", "59, 0, 0, 0"),
  refused("K02", "another program is executed by a descriptor", "322, -1, 0, 0, 0, 0"),
  refused("K03", "a file is opened", "257, -100, '/etc/hostname', 0, 0"),
  refused("K04", "a file is opened by the oldest call for it", "2, '/etc/hostname', 0, 0"),
  refused("K05", "a file is opened by the newest call for it", "437, -100, '/etc/hostname', 0, 24"),
  refused("K06", "a socket to the network is made", "41, 2, 1, 0"),
  refused("K07", "a pair of sockets carries descriptors", "53, 1, 1, 0, 0"),
  refused("K08", "the rights of a file are changed", "90, '/nonexistent', 511"),
  refused("K09", "the rights of a file are changed below a folder",
    "268, -100, '/nonexistent', 511"),
  refused("K10", "the owner of a file is changed", "92, '/nonexistent', 0, 0"),
  refused("K11", "the times of a file are changed", "280, -100, '/nonexistent', 0, 0"),
  refused("K12", "an extended attribute is set", "188, '/nonexistent', 'user.x', 'x', 1, 0"),
  refused("K13", "another process is traced", "101, 16, 1, 0, 0"),
  refused("K14", "the memory of another process is read", "310, 1, 0, 0, 0, 0, 0"),
  refused("K15", "a file system is mounted", "165, 0, 0, 0, 0, 0"),
  refused("K16", "requests go to the kernel in a ring that no filter sees", "425, 1, 0"),
  refused("K17", "a process is made", "56, 17, 0, 0, 0, 0"),
  refused("K18", "a process is made by the oldest call for it", "57"),
  refused("K19", "another process is signalled", "62, 1, 0"),
  refused("K20", "a program is loaded into the kernel", "321, 0, 0, 0"),
  refused("K21", "faults of memory are handled by the process itself", "323, 0"),
  refused("K22", "a file in memory is made, to be executed", "319, 'x', 0"),
  refused("K23", "a file is removed", "263, -100, '/nonexistent', 0"),
  refused("K24", "a file is renamed", "264, -100, '/nonexistent', -100, '/nonexistent2'"),
  refused("K25", "a folder is made", "258, -100, '/proc/nonexistent', 511"),
  refused("K26", "a link is made", "266, 'x', -100, '/proc/nonexistent'"),
  refused("K27", "the working directory is changed", "80, '/nonexistent'"),
  refused("K28", "the root directory is changed", "161, '/nonexistent'"),
  refused("K29", "a namespace is left for a new one", "272, 0x10000000"),
  refused("K30", "the clock that ends the worker is stopped", "38, 2, 0, 0"),
  refused("K31", "the handler of the clock is replaced", "13, 27, 0, 0, 8"),
  { id = "K32",
    hole = "the signals of the clocks are blocked, and the processor is used without end",
    host = "raw", expect = { "limit:cpu", "crash:SIGKILL", "denied:system-call" },
    limits = { cpu = 1, instructions = 9000000000 }, needs = machine.lacks_x86,
    body = "raw(14, 0, ('\\255'):rep(8), 0, 8) while true do end" },
  refused("K33", "the limits of the process are raised", "302, 0, 0, 0, 0"),
  refused("K34", "memory that can be executed is made", "9, 0, 4096, 7, 34, -1, 0"),
  refused("K35", "memory is made executable later", "10, 0, 4096, 7"),
  refused("K36", "a call by its number of the x32 interface passes the filter",
    "0x40000000 + 59, 0, 0, 0"),
  refused("K37", "the filter is loosened by a further one", "317, 1, 0, 0"),
  refused("K38", "keys of the session are read", "250, 0, 0, 0, 0, 0"),
  refused("K39", "the performance counters watch others", "298, 0, 0, -1, -1, 0"),
  refused("K40", "what lies at a path is looked at", "262, -100, '/etc/passwd', 0, 0"),
  refused("K41", "a folder is watched", "254, -1, '/etc', 0"),
  refused("K42", "the parent's death no longer ends the worker", "157, 1, 0, 0, 0, 0"),
  refused("K43", "a module is loaded into the kernel", "175, 0, 0, 0"),
  refused("K44", "descriptors come out of another process", "438, -1, 3, 0"),
  refused("K57", "a message is sent over another descriptor than the channel",
    "44, 1, 'x', 1, 0, 0, 0"),
  state({ id = "K45", hole = "descriptors of the supervisor are open in the worker",
    during = function(_, pid)
      local found = {}
      local ok, each, more = pcall(lfs.dir, ("/proc/%d/fd"):format(pid))
      if not ok then return "0 1 2 3" end -- only root and the process itself may look
      for name in each, more do
        if name ~= "." and name ~= ".." then found[#found + 1] = name end
      end
      table.sort(found)
      return table.concat(found, " ")
    end,
    check = function(t) return t.evidence.a ~= "0 1 2 3" and t.evidence.a or nil end }),
  state({ id = "K46", hole = "the worker can gain rights through a program",
    during = function(_, pid) return status(pid, "NoNewPrivs") end,
    check = function(t) return t.evidence.a ~= "1" and tostring(t.evidence.a) or nil end }),
  state({ id = "K47", hole = "the filter of system calls is not in place when the script runs",
    only = "strongest", needs = machine.lacks_seccomp,
    during = function(_, pid) return status(pid, "Seccomp") end,
    check = function(t) return t.evidence.a ~= "2" and "Seccomp: " .. tostring(t.evidence.a)
      or nil end }),
  state({ id = "K48", hole = "a second thread runs without the filter",
    during = function(_, pid) return status(pid, "Threads") end,
    check = function(t) return t.evidence.a ~= "1" and tostring(t.evidence.a) or nil end }),
  state({ id = "K49", hole = "a core file of the worker shows what it was given",
    during = function(_, pid) return limit(pid, "Max core file size") end,
    check = function(t) return t.evidence.a ~= "0" and tostring(t.evidence.a) or nil end }),
  state({ id = "K50", hole = "the worker can open more descriptors than it has",
    during = function(_, pid) return limit(pid, "Max open files") end,
    check = function(t) return t.evidence.a ~= "4" and tostring(t.evidence.a) or nil end }),
  state({ id = "K51", hole = "the worker can write files of any size",
    during = function(_, pid) return limit(pid, "Max file size") end,
    check = function(t) return t.evidence.a ~= "0" and tostring(t.evidence.a) or nil end }),
  state({ id = "K52", hole = "the address space of the worker has no bound",
    during = function(_, pid) return tonumber(limit(pid, "Max address space")) end,
    check = function(t)
      return (not t.evidence.a or t.evidence.a > 16 * 1024 * 1024 + 512 * 1024 * 1024)
        and tostring(t.evidence.a) or nil
    end }),
  state({ id = "K53", hole = "the processor time of the worker has no bound in the kernel",
    during = function(_, pid) return tonumber(limit(pid, "Max cpu time")) end,
    check = function(t)
      return (not t.evidence.a or t.evidence.a > 10) and tostring(t.evidence.a) or nil
    end }),
  state({ id = "K54", hole = "a key of the terminal that is for the supervisor ends the worker",
    during = function(_, pid)
      return tonumber((helper.read(("/proc/%d/stat"):format(pid))
        or ""):match("%) %S %d+ (%d+)")) == pid
    end,
    check = function(t) return t.evidence.a ~= true and "they share a process group" or nil end }),
  state({ id = "K55", hole = "a level of isolation is told that does not hold", only = "strongest",
    needs = function() return machine.lacks_seccomp() or machine.lacks_landlock(1) end,
    during = function() return true end,
    check = function(t)
      local level = t.outcome.isolation
      return level ~= "full" and "the level is " .. tostring(level) or nil
    end }),
  state({ id = "K58", hole = "another process of the same user looks into the worker",
    -- Root can do that with the capability for it; without, it is a user like any other.
    environment = core.system.euid() == 0 and "setpriv --bounding-set=-all --inh-caps=-all" or "",
    during = function(_, pid)
      return os.execute(("head -c 1 /proc/%d/environ > /dev/null 2>&1"):format(pid)) == true
    end,
    check = function(t) return t.evidence.a and "its environment could be read" or nil end }),
  state({ id = "K56", hole = "standard input and output of the worker are those of the supervisor",
    during = function(_, pid)
      for fd = 0, 2 do
        local to = lfs.symlinkattributes(("/proc/%d/fd/%d"):format(pid, fd), "target")
        if to and to ~= "/dev/null" then return to end
      end
      return true
    end,
    check = function(t) return t.evidence.a ~= true and tostring(t.evidence.a) or nil end }),
}
