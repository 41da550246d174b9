--- The layout of prAxIs OS as its installer makes it. The head of layout.lua says what each field
-- means.
return {
  name = "praxis-os",
  title = "prAxIs OS, copied into .praxis-os",
  components = {
    { name = "standards", from = "universal/standards", to = "standards/universal",
      ownership = "system", scope = "content" },
    { name = "workflows", from = "universal/workflows", to = "workflows",
      ownership = "system", scope = "content" },
    { name = "usage", from = "universal/usage", to = "usage",
      ownership = "shared", scope = "content", optional = true },
    { name = "mcp_server", from = "mcp_server", to = "mcp_server",
      ownership = "system", scope = "server" },
    { name = "scripts", from = "scripts", to = "scripts",
      ownership = "system", scope = "server", when = "present" },
  },
  -- What the installer leaves out of every copy.
  unshipped = {
    names = { ["__pycache__"] = true, [".DS_Store"] = true, [".pytest_cache"] = true,
      [".mypy_cache"] = true, [".praxis-os"] = true, [".cursor"] = true },
    suffixes = { ".pyc" },
  },
  user = { "specs", "standards/development", "workspace" },
  config = { "config.json" },
  ephemeral = {
    paths = { [".cache"] = true, [".backups"] = true, [".upgrade"] = true,
      [".upgrade-lock"] = true, [".mcp_server_state.json"] = true, ["venv"] = true,
      ["rag_index"] = true, [".mcp_state"] = true },
    names = { ["__pycache__"] = true },
  },
  environment = "venv",
  server = { module = "mcp_server", requirements = "mcp_server/requirements.txt" },
  source = {
    manifest = "universal/.universal-manifest.json",
    directories = { "universal/standards", "universal/workflows" },
    without = { "dist/ouroboros" },
    content = "universal/standards/ai-assistant",
    gitignore = "universal/standards/installation/gitignore-requirements.md",
    phases = ".praxlua/phases", -- those a source brings along
  },
  target = { { "standards/universal" }, { "workflows", "mcp_server" } },
  without = { "ouroboros" },
  flat = { "standards/ai-assistant", "standards/ai-safety", "standards/architecture",
    "standards/concurrency", "standards/testing" },
  tools = {
    minimum = { "search_standards" },
    gone = { "aos_browser", "aos_workflow", "start_workflow", "get_current_phase", "get_task",
      "complete_phase", "get_workflow_state", "create_workflow", "validate_workflow" },
  },
}
