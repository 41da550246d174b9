--- Small git repositories in the shape of a source, and installations of them, for unit tests.
local process = require("praxlua.process")

local helper = require("spec.support.helper")

local repository = {}

local IDENTITY = {
  GIT_AUTHOR_NAME = "A", GIT_AUTHOR_EMAIL = "a@example.invalid",
  GIT_COMMITTER_NAME = "A", GIT_COMMITTER_EMAIL = "a@example.invalid",
  GIT_CONFIG_GLOBAL = "/dev/null", GIT_CONFIG_NOSYSTEM = "1",
}

--- Runs git, which must succeed.
---@param directory string
---@return string stdout without the last line end
function repository.git(directory, ...)
  local result = assert(process.run({
    argv = { "git", "-C", directory, ... }, environment = process.environment(IDENTITY),
  }))
  assert(result.code == 0, result.stderr)
  return (result.stdout:gsub("\n$", ""))
end

--- Runs a program, which must succeed.
function repository.sh(...)
  local result = assert(process.run({ argv = { ... } }))
  assert(result.code == 0, result.stderr)
end

--- Writes files (false: removes one) and commits everything.
---@return string commit
function repository.commit(directory, files)
  for path, data in pairs(files) do
    if not data then assert(os.remove(directory .. "/" .. path)) end
  end
  for path, data in pairs(files) do
    if data then helper.write(directory .. "/" .. path, data) end
  end
  repository.git(directory, "add", "-A")
  repository.git(directory, "commit", "-q", "--allow-empty", "-m", "a change")
  return repository.git(directory, "rev-parse", "HEAD")
end

--- A source with one commit: standards, a workflow, a server, and whatever `files` adds.
---@return string directory
---@return string commit
function repository.source(files)
  local directory = helper.tempdir() .. "/source"
  assert(require("lfs").mkdir(directory))
  repository.git(directory, "init", "-q", "-b", "main")
  helper.tree(directory, {
    ["VERSION.txt"] = "1.0.0\n",
    ["universal/standards/ai-assistant/guide.md"] = "guide 1\n",
    ["universal/standards/testing/pyramid.md"] = "pyramid 1\n",
    ["universal/workflows/flow/metadata.json"] = '{"name": "flow"}\n',
    ["universal/workflows/flow/phase.md"] = "phase 1\n",
    ["mcp_server/__init__.py"] = "",
    ["mcp_server/__main__.py"] = "print(1)\n",
  })
  return directory, repository.commit(directory, files or {})
end

--- Installs what the source's work tree holds, as the installer does.
---@param marker string? commit for VERSION.txt
---@return string target
function repository.install(source, marker)
  local project = helper.tempdir() .. "/project"
  local target = project .. "/.praxis-os"
  repository.sh("mkdir", "-p", target .. "/standards/development", target .. "/specs")
  repository.sh("cp", "-a", source .. "/universal/standards", target .. "/standards/universal")
  repository.sh("cp", "-a", source .. "/universal/workflows", target .. "/workflows")
  repository.sh("cp", "-a", source .. "/mcp_server", target .. "/mcp_server")
  if marker then helper.write(target .. "/VERSION.txt", "commit=" .. marker .. "\n") end
  return target
end

--- A context for services, without a transaction.
---@param options table?
---@return table ctx
function repository.context(source, target, options)
  local ctx = {
    source = source, target = target, project = target:match("^(.*)/[^/]+$"),
    target_name = target:match("[^/]+$"), options = options or { on_conflict = "stop" },
    memory = {}, warnings = {},
  }
  function ctx.warn(message) ctx.warnings[#ctx.warnings + 1] = message end
  return ctx
end

--- Opens a transaction for a context and gives it the change interface.
---@return userdata transaction
function repository.begin(ctx)
  local core = require("praxlua.core")
  local folder = ctx.target_name .. "/.upgrade/spec"
  assert(core.file.mkdir(ctx.target .. "/.upgrade"))
  local transaction = assert(core.transaction.open(ctx.project, folder,
    { create = true, disposable = "__pycache__" }))
  ctx.change = require("praxlua.change").new(transaction, ctx.project, ctx.project .. "/" .. folder)
  return transaction
end

--- Every path of a directory with type, mode and content, our own folders left out.
---@return table<string, string>
function repository.snapshot(directory)
  local core = require("praxlua.core")
  local found = {}
  for _, entry in ipairs(assert(core.tree.list(directory, { hash = true }))) do
    if not entry.path:find("%.upgrade", 1) then
      found[entry.path] = ("%s %o %s"):format(entry.type, entry.mode,
        entry.sha256 or entry.target or "")
    end
  end
  return found
end

return repository
