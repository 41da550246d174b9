--- The later layout, found in real installations: the server is the package `ouroboros`, which the
-- source keeps in dist/, and config/ holds its settings in YAML. The installer makes no usage/.
local praxis_os = require("praxlua.layout.praxis_os")

local ouroboros = {}
for field, value in pairs(praxis_os) do ouroboros[field] = value end

ouroboros.name = "ouroboros"
ouroboros.title = "prAxIs OS with the server ouroboros, copied into .praxis-os"
ouroboros.components = {
  { name = "standards", from = "universal/standards", to = "standards/universal",
    ownership = "system", scope = "content" },
  { name = "workflows", from = "universal/workflows", to = "workflows",
    ownership = "system", scope = "content" },
  { name = "ouroboros", from = "dist/ouroboros", to = "ouroboros",
    ownership = "system", scope = "server" },
  { name = "scripts", from = "scripts", to = "scripts",
    ownership = "system", scope = "server", when = "present" },
}
ouroboros.user = { "specs", "standards/development", "workspace", "config" }
ouroboros.config = { "config/mcp.yaml", "config/index_config.yaml" }
ouroboros.server = { module = "ouroboros", requirements = "ouroboros/requirements.txt" }

ouroboros.source = {}
for field, value in pairs(praxis_os.source) do ouroboros.source[field] = value end
ouroboros.source.directories = { "universal/standards", "universal/workflows", "dist/ouroboros" }
ouroboros.source.without = {}

ouroboros.target = { { "ouroboros", "standards/universal" }, { "ouroboros", "workflows" } }
ouroboros.holds = { "ouroboros" }
ouroboros.without = { "mcp_server" }
ouroboros.tools = { minimum = { "pos_search_project" }, gone = {} }

return ouroboros
