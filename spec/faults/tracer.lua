--- Runs a program under build/faults/tracer: counts what it does to the disk, and breaks in.
--
-- Counted are the mutating system calls (spec/faults/mutating.c) of all threads and children, in
-- one global count, whose path or descriptor lies beneath a root.
local lfs = require("lfs")

local tracer = {}

local UNRESERVED = "^[%w_@%%+=:,./-]+$"

local function quote(word)
  return word:find(UNRESERVED) and word or "'" .. word:gsub("'", "'\\''") .. "'"
end

--- The program that traces: beside the executable under test, or where TRACER says.
---@return string path absolute
function tracer.program()
  local path = os.getenv("TRACER")
  if not path then
    local host = os.getenv("PRAXLUA") or os.getenv("PRAXLUA_HOST") or "build/praxlua"
    path = host:gsub("[^/]*$", "") .. "faults/tracer"
  end
  return path:sub(1, 1) == "/" and path or lfs.currentdir() .. "/" .. path
end

local names_made = 0

-- A name in the temporary directory that no other process takes.
local function scratch_name()
  local stat = assert(io.open("/proc/self/stat"))
  local pid = stat:read("l"):match("^%d+")
  stat:close()
  names_made = names_made + 1
  return ("%s/tracer-%s-%d"):format(os.getenv("TMPDIR") or "/tmp", pid, names_made)
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local data = file:read("a")
  file:close()
  return data
end

-- ---------------------------------------------------------------------------------------------
-- The log

local function unescaped(value)
  return (value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local TEXTS = {
  name = true, kind = true, role = true, path = true, path2 = true, fd_path = true,
  from_path = true, text = true, acted = true, forbidden = true,
}

local function fields(line)
  local record = {}
  for name, value in line:gmatch("\t([^=\t]+)=([^\t]*)") do
    if name == "left" then
      record.left = record.left or {}
      table.insert(record.left, math.tointeger(tonumber(value)))
    elseif TEXTS[name] then
      record[name] = unescaped(value)
    else
      record[name] = math.tointeger(tonumber(value))
    end
  end
  return record
end

local function with_data(call, data)
  if not call.data_at then return end
  call.data = data:sub(call.data_at + 1, call.data_at + call.data_size)
  call.data_at, call.data_size = nil, nil
end

-- What the log says, as the result of a run.
local function parse(log, data)
  local result = { calls = {}, hooks = {} }
  local last
  for line in log:gmatch("([^\n]*)\n") do
    local what = line:match("^%a+")
    local record = fields(line)
    if what == "call" then
      with_data(record, data)
      table.insert(result.calls, record)
    elseif what == "hook" then
      table.insert(result.hooks, record)
    else
      last = record
    end
  end
  assert(last and last.count, "the tracer's log has no end")
  table.sort(result.calls, function(a, b) return a.n < b.n end)
  result.code, result.signal, result.count = last.code, last.signal, last.count
  result.hit, result.timed_out = last.hit == 1, last.timed_out == 1
  result.forbidden, result.left, result.tracer = last.forbidden, last.left or {}, last.tracer
  return result
end

-- ---------------------------------------------------------------------------------------------
-- Running

local function list(value)
  return type(value) == "table" and value or { value }
end

local VALUES = {
  mode = "--mode", at = "--at", errno = "--errno", timeout = "--timeout", linger = "--linger",
  directory = "--directory", who = "--who", executable = "--executable",
}
local SWITCHES = { leader_only = "--leader-only", data = "--data" }
local KNOWN = {
  argv = true, environment = true, root = true, hook = true, log = true, stdin = true,
  sticky = true, deny = true,
}

local function words_of(o, log)
  local words = {}
  local function add(...)
    for _, word in ipairs({ ... }) do words[#words + 1] = quote(tostring(word)) end
  end
  if o.environment then
    add("env", "-i")
    for name, value in pairs(o.environment) do add(name .. "=" .. value) end
  end
  add(tracer.program(), "--log", log)
  for _, root in ipairs(list(o.root)) do add("--root", root) end
  for name, value in pairs(o) do
    if VALUES[name] then add(VALUES[name], value) end
    if SWITCHES[name] and value then add(SWITCHES[name]) end
    assert(VALUES[name] or SWITCHES[name] or KNOWN[name], "tracer.run knows no " .. name)
  end
  if not o.who then add("--who", o.executable and "host" or "all") end
  if o.sticky then add("--sticky", math.type(o.sticky) and o.sticky or math.maxinteger) end
  if o.log or o.data then add("--list") end
  if o.hook then add("--hook-output", log .. ".hook") end
  for _, denial in ipairs(o.deny or {}) do add("--deny", denial) end
  for _, word in ipairs(o.hook or {}) do add("--hook", word) end
  add("--", table.unpack(o.argv))
  return table.concat(words, " ")
end

--- What is left of a run's traced processes ends, and with it the tracer.
---@param result table of tracer.run
function tracer.finish(result)
  if #result.left == 0 then return end
  local alive = ("/proc/%d/stat"):format(result.tracer)
  os.execute(("kill %d 2>/dev/null"):format(result.tracer))
  for _ = 1, 500 do
    local state = read(alive):match("%) (%a)")
    if not state or state == "Z" or state == "X" then return end
    os.execute("sleep 0.01")
  end
  error("the tracer does not end")
end

--- Runs a program to its end, or to the call at which something is done.
--
-- Options: argv; root (an absolute path, or several: only calls on paths or descriptors beneath
-- count); directory; environment (the whole of it; ours when nil); stdin (a file, else nothing);
-- who "host" (processes that are `executable`: the default where that is given), "tools" (the
-- others) or "all"; timeout in seconds (60); log (fills `calls`), data (and the bytes written);
-- mode, with `at`, the number of the call from 1:
--
-- * count: nothing is done
-- * before: everything traced is killed instead of the call
-- * after: everything traced is killed when the call has been executed
-- * torn: a write of more than one byte is executed by half, then everything is killed
-- * short: a write of more than one byte is executed by half, and the program goes on
-- * error: the call fails with `errno` and is not executed; with `sticky` all later ones do, too
--   (a number: so many in all)
-- * pause: everything traced is stopped while the program `hook` runs, with the number and the name
--   of the call as last arguments and TRACER_PID, TRACER_LEADER in its environment; at every call
--   when `at` is nil
--
-- In every mode the calls of `deny` fail, as where a system does not know them: an array of
-- "NAME:ERRNO", or "NAME:ERRNO:FLAGS" for those with exactly these flags ("renameat2:EINVAL:2" is a
-- file system that cannot exchange names).
--
-- With leader_only the three that kill end only the first process; what is left of its children
-- goes on (`left`), until tracer.finish(result). The same holds for what a program leaves behind
-- when it ends by itself.
--
-- A result has code or signal; hit (the call was reached and acted on; false for a write that
-- cannot be halved, too); count; stdout, stderr; timed_out; forbidden (text) when a process that is
-- meant does what cannot be counted: then everything was killed; hooks { n, code } and hook_output;
-- left (process ids) and tracer; calls { n, name, kind, pid, tid, role, path, path2, fd_path,
-- from_path, text, size, offset, flags, mode (of a new file: less the umask), inode (of what was
-- changed or made), inode2 (of what was at path2 before), result (negative: an errno), data,
-- acted (text: what the tracer did about it) }.
-- kind is write, sync, lock, create, remove, rename, attribute or size.
---@param o table
---@return table result
function tracer.run(o)
  local base = scratch_name()
  local line = ("exec %s < %s > %s 2> %s"):format(words_of(o, base), quote(o.stdin or "/dev/null"),
    quote(base .. ".out"), quote(base .. ".err"))
  local _, how, code = os.execute(line)
  local stderr = read(base .. ".err")
  local result = how == "exit" and code == 0 and parse(read(base), read(base .. ".data")) or nil
  if result then
    result.stdout, result.stderr = read(base .. ".out"), stderr
    result.hook_output = read(base .. ".hook")
  end
  for _, ending in ipairs({ "", ".data", ".out", ".err", ".hook" }) do os.remove(base .. ending) end
  return result or error(("the tracer failed (%s %s): %s"):format(how, code, stderr), 2)
end

return tracer
