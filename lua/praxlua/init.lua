--- praxlua as a library: `local praxlua = require("praxlua")`.
--
-- praxlua.engine runs upgrades (upgrade, resume, rollback_upgrade, …); the services and primitives
-- beneath it are modules of their own (praxlua.backup, praxlua.core, …). Phases run in worker
-- processes, so the `praxlua` executable must be on PATH, or named by PRAXLUA_HOST.
local praxlua = { version = require("praxlua.version").text }

local MODULES = {
  core = true, engine = true, phases = true, state = true, evidence = true, backup = true,
  validation = true, content = true, dependencies = true, server = true, report = true, mcp = true,
}

-- Modules are loaded when they are first used.
return setmetatable(praxlua, {
  __index = function(self, name)
    if not MODULES[name] then return nil end
    local module = require("praxlua." .. name)
    rawset(self, name, module)
    return module
  end,
})
