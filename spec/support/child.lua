--- Lua code in another process, for what only a second process can show: locks, limits, signals.
-- The child finds the same modules as the test; it is started through sh, not through the code
-- under test.
local command = require("spec.support.command")
local helper = require("spec.support.helper")

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

--- Starts Lua code whose first line of output must be its process id (`print(core.system.pid())`).
---@param code string
---@return table running { pid, line = function() -> string?, kill = function(signal) }
function child.start(code)
  local pipe = assert(io.popen(program(code), "r"))
  local running = { pid = math.tointeger(tonumber(pipe:read("l"))) }
  function running.line() return pipe:read("l") end
  --- Ends the child and waits for its end.
  function running.kill(signal)
    os.execute(("kill -%s %d 2>/dev/null"):format(signal or "KILL", running.pid))
    return pipe:close()
  end
  return running
end

return child
