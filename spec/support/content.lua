--- The content the samples are made from: the real bundle where it is at hand, else a small
-- generated repository of the same shape (moved, removed, added, changed and unchanged files).
local command = require("spec.support.command")
local helper = require("spec.support.helper")

local content = {}

local OLD, NEW = "6f7cb23", "7990187"

local function bundle_path()
  local given = os.getenv("PRAXLUA_CONTENT_BUNDLE")
  local path = given or "../shared/data/praxis-os-content.bundle"
  local file = io.open(path, "rb")
  if not file then
    assert(not given, "PRAXLUA_CONTENT_BUNDLE names no readable file")
    return nil
  end
  file:close()
  return path
end

--- What the samples' content comes from, to be named by a test.
---@return "bundle"|"generated"
function content.kind() return bundle_path() and "bundle" or "generated" end

local function paragraph(seed, lines)
  local text = {}
  for i = 1, lines do
    text[i] = ("Line %d of %s: %s"):format(i, seed, ("word "):rep(i * 7 % 11 + 3))
  end
  return "# " .. seed .. "\n\n" .. table.concat(text, "\n") .. "\n"
end

-- The first release: some hundred files in the directories the real one has.
local function first_release()
  local files = { ["LICENSE"] = "MIT\n" }
  for _, area in ipairs({ "ai-assistant", "ai-safety", "concurrency", "security",
    "testing", "workflows" }) do
    for i = 1, 8 do
      local path = ("universal/standards/%s/standard-%d.md"):format(area, i)
      files[path] = paragraph(path, 30 + i)
    end
  end
  for _, workflow in ipairs({ "agent_os_upgrade_v1", "spec_creation_v1", "spec_execution_v1" }) do
    local top = "universal/workflows/" .. workflow
    files[top .. "/metadata.json"] = '{"name": "' .. workflow .. '"}\n'
    for phase = 0, 5 do
      local path = ("%s/phases/%d/phase.md"):format(top, phase)
      files[path] = paragraph(path, 20)
    end
  end
  for _, name in ipairs({ "creating-specs", "operating-model" }) do
    files["universal/usage/" .. name .. ".md"] = paragraph(name, 40)
  end
  files["universal/standards/testing/test-pyramid.md"] = paragraph("test-pyramid", 50)
  files["universal/standards/workflows/workflow-system-overview.md"] = paragraph("overview", 60)
  return files
end

local function commit(dir, message)
  command.succeed({ "sh", "-euc", ([[
    cd %s
    git add -A
    git -c user.name=A -c user.email=a@example.invalid commit -q -m %s
  ]]):format(command.quote(dir), command.quote(message)) }, { scratch = dir .. ".runs" })
end

local function tag_id(dir)
  local argv = { "git", "-C", dir, "rev-parse", "HEAD" }
  return (command.succeed(argv, { scratch = dir .. ".runs" }):gsub("%s", ""))
end

local function generate(dir)
  local function sh(script)
    command.succeed({ "sh", "-euc", "cd " .. command.quote(dir) .. "\n" .. script },
      { scratch = dir .. ".runs" })
  end
  os.execute(("mkdir -p %s.runs && git init -q -b main %s"):format(dir, dir))
  helper.tree(dir, first_release())
  commit(dir, "first release")
  helper.write(dir .. "/universal/standards/security/standard-1.md", paragraph("an edit", 12))
  commit(dir, "a change")
  local old = tag_id(dir)
  sh([[
    git mv universal/usage/creating-specs.md universal/standards/workflows/creating-specs.md
    git mv universal/usage/operating-model.md universal/standards/ai-safety/operating-model.md
    git mv universal/workflows/agent_os_upgrade_v1 universal/workflows/praxis_os_upgrade_v1
    git rm -q universal/standards/concurrency/standard-8.md
    mkdir -p universal/standards/operations
    echo new > universal/standards/operations/guide.md
    for f in universal/standards/ai-safety/*.md universal/workflows/*/metadata.json; do
      echo changed >> "$f"
    done
    echo changed >> universal/standards/workflows/workflow-system-overview.md
  ]])
  commit(dir, "a new layout")
  return old, tag_id(dir)
end

--- Makes the content repository.
---@param dir string where; not there yet
---@return string repository
---@return string old commit of the release that is installed
---@return string new commit of the release that is upgraded to
---@return "bundle"|"generated" kind
function content.make(dir)
  local bundle = bundle_path()
  if not bundle then
    local old, new = generate(dir)
    return dir, old, new, "generated"
  end
  command.succeed({ "git", "clone", "-q", "--bare", bundle, dir },
    { scratch = dir:match("^(.*)/") })
  return dir, OLD, NEW, "bundle"
end

return content
