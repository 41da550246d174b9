--- The mistaken layout that safe-upgrade.py leaves: what belongs into standards/universal/ lies
-- directly in standards/, among the project's own. An upgrade puts it right: what is shipped now is
-- added in its place, and the shipped files that nobody changed go from the wrong one. flat.lua of
-- the services says when that can be done.
local praxis_os = require("praxlua.layout.praxis_os")

local flat = {}
for field, value in pairs(praxis_os) do flat[field] = value end

flat.name = "praxis-os-flat"
flat.title = "prAxIs OS as safe-upgrade.py leaves it, with standards/ not in universal/"
flat.ships = praxis_os.name
flat.becomes = praxis_os.name
flat.components = table.move(praxis_os.components, 2, #praxis_os.components, 2, {
  { name = "standards", from = "universal/standards", to = "standards/universal",
    ownership = "system", scope = "content", arriving = true },
})
table.insert(flat.components, { name = "flat-standards", from = "universal/standards",
  to = "standards", ownership = "system", scope = "content", except = flat.user, retired = true })
flat.target = { { "workflows" }, { "usage" }, { "mcp_server" } }
flat.holds_one = praxis_os.flat
flat.without = { "standards/universal", "ouroboros" }

return flat
