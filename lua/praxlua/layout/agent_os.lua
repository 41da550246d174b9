--- The layout of the releases before the product got its name, up to October 2025: the same folders
-- in .agent-os. Sources of today are sources of it.
local praxis_os = require("praxlua.layout.praxis_os")

local agent_os = {}
for field, value in pairs(praxis_os) do agent_os[field] = value end

agent_os.name = "agent-os"
agent_os.title = "prAxIs OS under its older name, copied into .agent-os"
agent_os.folder = ".agent-os"
agent_os.ships = praxis_os.name
agent_os.user = { "specs", "standards/development", "workspace", "product" }

return agent_os
