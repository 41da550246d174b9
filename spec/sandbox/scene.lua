--- What surrounds a hostile phase: an installation in a project with a transaction open, a source,
-- a folder outside with canaries, and the context of a run.
local change = require("praxlua.change")
local command = require("spec.support.command")
local core = require("praxlua.core")
local helper = require("spec.support.helper")
local json = require("praxlua.json")

local scene = {}

local SESSION = "8f1d6a52-3c1b-4f0e-9a77-0c5d2e4b9f10"
local UPGRADE = ".praxis-os/.upgrade"

local FILES = {
  ["source/VERSION.txt"] = "2.0.0\n",
  ["source/universal/standards/a.md"] = "new\n",
  ["project/.praxis-os/VERSION.txt"] = "Current Version: 1.0.0\n",
  ["project/.praxis-os/file"] = "content\n",
  ["project/.praxis-os/standards/a.md"] = "old\n",
  ["project/.praxis-os/standards/deep/b.md"] = "b\n",
  ["project/.praxis-os/.cache/state/other.json"] = "{}\n",
  ["project/.praxis-os/.backups/2025-01-01-000000/MANIFEST.json"] = "{}\n",
  ["project/.praxis-os/.upgrade/other/journal"] = "a journal\n",
  ["project/.praxis-os/.upgrade-lock"] = "session_id: other\n",
  ["project/.git/config"] = "[core]\n",
  ["project/.git/hooks/sample"] = "#!/bin/sh\n",
  ["project/src/main.lua"] = "return 1\n",
  ["outside/canary"] = "a canary\n",
  ["outside/folder/inner"] = "another canary\n",
}

--- Makes the files of a scene.
---@param directory string
function scene.make(directory)
  helper.tree(directory, FILES)
  for _, name in ipairs({ "home", "tmp" }) do assert(core.file.mkdir(directory .. "/" .. name)) end
end

--- Everything below a folder, as one text. What a transaction keeps for itself is left out.
---@param directory string
---@param exact boolean? with inodes and times
---@return string
function scene.portrait(directory, exact)
  local skip = { [UPGRADE .. "/" .. SESSION] = true }
  local lines = {}
  for _, entry in ipairs(assert(core.tree.list(directory, { skip = skip }))) do
    if not entry.path:find("^%.praxis%-os/%.cache/upgrade%-") then -- a report stays
      lines[#lines + 1] = ("%s %q %o %s %s"):format(entry.type, entry.path, entry.mode,
        entry.target or entry.type == "file" and entry.size or "",
        exact and entry.type ~= "directory" and entry.inode .. " " .. entry.mtime or "")
    end
  end
  -- Content is hashed by another program than ours, and only of what is small.
  local hashes = helper.output_of("cd %s && find . -path './%s' -prune -o -type f -size -8M "
    .. "! -path './.praxis-os/.cache/upgrade-*' -exec sha256sum -z {} + | sort -z",
    command.quote(directory), UPGRADE .. "/" .. SESSION)
  return table.concat(lines, "\n") .. "\n" .. hashes
end

-- The context of a run, as praxlua.run makes it.
local function context(s, case)
  local completed = case.completed or { 0, 1 }
  local function tell(message) s.told[#s.told + 1] = message end
  return {
    source = s.directory .. "/source", target = s.target, project = s.project, folder = s.folder,
    target_name = ".praxis-os", memory = {},
    options = { token = s.token, outside = s.directory .. "/outside", nothing = json.null },
    artifacts = { ["0"] = { source_version = "2.0.0" } },
    session = { session_id = SESSION, workflow_type = "praxis_os_upgrade_v1", metadata = {},
      completed_phases = completed, completed = {}, phase_artifacts = {} },
    change = not case.dry and change.new(s.transaction, s.project, s.folder) or nil,
    emit = function(event) tell(event.message) end, progress = tell, warn = tell,
    ask = function(...) return s.ask(...) end,
    lock_held = function() return true end, save = function() return true end,
  }
end

--- Opens the scene that scene.make made, with its transaction.
---@param directory string
---@param case table
---@return table s directory, project, target, folder, token, transaction, ctx, told
function scene.open(directory, case)
  local project = directory .. "/project"
  local s = {
    directory = directory, project = project, target = project .. "/.praxis-os",
    folder = ("%s/%s/%s"):format(project, UPGRADE, SESSION), told = {},
    token = directory:match("[^/]+$"), ask = function(_, _, default) return default end,
  }
  s.transaction = assert(core.transaction.open(project, UPGRADE .. "/" .. SESSION,
    { create = true, disposable = "__pycache__" }))
  s.ctx = context(s, case)
  return s
end

--- Undoes what the phase did, and ends the transaction.
---@param s table
---@return true|nil
---@return string? message
function scene.undo(s)
  local ok, message = s.transaction:rollback()
  s.transaction:close()
  if not ok then return nil, message end
  return core.tree.remove(s.folder)
end

return scene
