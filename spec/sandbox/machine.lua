--- What the machine has to confine processes with, asked without any code of ours, so that a layer
--- that is there and not used is a failure, and one that is not there a reason to skip a case.
local helper = require("spec.support.helper")

local machine = {}

--- Whether system calls can be filtered: nil when they can, or the reason to skip.
---@return string|nil reason
function machine.lacks_seccomp()
  local actions = helper.read("/proc/sys/kernel/seccomp/actions_avail") or ""
  if not actions:find("kill_process", 1, true) then return "this kernel filters no system calls" end
end

-- The number of the call is the same on every architecture.
local ASK = "import ctypes; print(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))"

--- Whether Landlock has an ABI: nil when it has, or the reason to skip.
---@param least integer
---@return string|nil reason
function machine.lacks_landlock(least)
  local version = tonumber(helper.output_of("python3 -c '%s'", ASK)) or -1
  if version < least then
    return ("Landlock is needed with ABI %d, and this kernel has %d"):format(least, version)
  end
end

--- Whether the numbers of system calls are those of x86-64: nil, or the reason to skip.
---@return string|nil reason
function machine.lacks_x86()
  if helper.output_of("uname -m") ~= "x86_64" then
    return "the numbers of the calls are those of x86-64"
  end
end

return machine
