--- Lua code in another process, for what only a second process can show: locks, limits, signals.
-- The child finds the same modules as the test; it is started through sh, not through the code
-- under test.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")

local child = {}

local PRELUDE = [[
package.path, package.cpath = %q, %q
io.stdout:setvbuf("no")
local core = require("praxlua.core")
]]

-- Writes the program into a directory of its own and returns the words that run it.
local function program(code, before)
  local path = helper.tempdir() .. "/child.lua"
  helper.write(path, PRELUDE:format(package.path, package.cpath) .. code)
  return ('%s "${LUA:-lua5.4}" %s'):format(before or "exec", command.quote(path))
end

--- Runs Lua code to its end. It sees `core`.
---@param code string
---@param before string? shell words before the interpreter, "exec" when nil
---@return string output what it printed, standard error included
---@return boolean ok whether it ended with status 0
function child.run(code, before)
  local pipe = assert(io.popen(program(code, before) .. " 2>&1", "r"))
  local output = pipe:read("a")
  return output, pipe:close() == true
end

--- For child.run's `before`: root, but without root's power over permissions; anybody else as is.
---@return string
function child.powerless()
  local is_root = require("praxlua.core").system.euid() == 0
  return is_root and "exec setpriv --bounding-set=-all --inh-caps=-all" or ""
end

--- For `before`: under strace, which makes some system calls fail or wait ("write:error=ENOSPC").
---@param what string what to inject, as strace's -e inject takes it
---@param path string? only into calls that have to do with this path
---@return string
function child.injected(what, path)
  -- The leak checker cannot work in a process that is traced already.
  return ("exec strace -f -qq -o /dev/null %s -e trace=%s -e inject=%s "
    .. "env ASAN_OPTIONS=detect_leaks=0"):format(
    path and "-P " .. command.quote(path) or "", what:match("^[^:]+"), what)
end

--- Starts Lua code whose first line of output must be its process id (`print(core.system.pid())`).
---@param code string
---@param before string? as for child.run
---@return table running { pid, line = function() -> string?, kill = function(signal?), finish,
---  has_opened = function(path) -> boolean }
function child.start(code, before)
  local pipe = assert(io.popen(program(code, before), "r"))
  local running = { pid = math.tointeger(tonumber(pipe:read("l") or "")) }
  assert(running.pid, "the child has not said its process id")
  function running.line() return pipe:read("l") end
  --- Waits until it has opened a path.
  function running.has_opened(path)
    local fds = ("/proc/%d/fd/"):format(running.pid)
    return command.until_true(function()
      for name in lfs.dir(fds) do
        if lfs.symlinkattributes(fds .. name, "target") == path then return true end
      end
    end, 20)
  end
  --- Waits for the end it comes to by itself.
  function running.finish()
    pipe:read("a")
    return pipe:close()
  end
  --- Ends the child and waits for its end.
  function running.kill(signal)
    os.execute(("kill -%s %d 2>/dev/null"):format(signal or "KILL", running.pid))
    return pipe:close()
  end
  return running
end

return child
