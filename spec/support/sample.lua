--- Samples for the integration tests and the demo: a source repository with history, an
-- installation as the real installer makes it, a person's edits on top, and a running server. What
-- is the same in all of them is made once (sample_base.lua) and copied.
local cjson = require("cjson")
local lfs = require("lfs")
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local oracle = require("spec.support.oracle")
local sample_base = require("spec.support.sample_base")

local sample = {}

local ROOT = lfs.currentdir()
local TARGET = ".praxis-os"

--- A shipped file that is the same in both releases; the samples edit it.
sample.EDITED = TARGET .. "/standards/universal/testing/test-pyramid.md"
--- A shipped file that the new release changes; the conflict tests edit it too.
sample.CHANGED = TARGET .. "/standards/universal/workflows/workflow-system-overview.md"

sample.MAPPING = sample_base.MAPPING

-- What a run itself keeps up to date, with times in it.
sample.RECORDS = {
  TARGET .. "/VERSION.txt",
  TARGET .. "/UPDATE_LOG.txt",
  TARGET .. "/INSTALLATION_SUMMARY.md",
  TARGET .. "/.installed-manifest.json",
  ".gitignore",
}

-- A person's own files, none of which any upgrade may touch.
local EDITS = {
  [TARGET .. "/config.json"] = '{"rag": {"index": ".cache/vector"}, "theme": "mine"}\n',
  [TARGET .. "/specs/2025-11-01-billing/srd.md"] = "# Billing\n\nOurs.\n",
  [TARGET .. "/specs/notes-\xff-latin1.md"] = "a name that is not UTF-8\n",
  [TARGET .. "/standards/development/house-style.md"] = "# House style\n\nTabs are for tables.\n",
  [TARGET .. "/workflows/spec_creation_v1/NOTES.md"] = "an extra file beside shipped ones\n",
  [TARGET .. "/workflows/our_release_v1/metadata.json"] = '{"name": "our_release_v1"}\n',
  [TARGET .. "/workspace/sketch.sh"] = "#!/bin/sh\necho sketch\n",
  [TARGET .. "/workspace/secret.txt"] = "mode 0600\n",
  [".gitignore"] = "node_modules/\n*.log\n.praxis-os/venv/\n",
  ["README.md"] = "# A project\n",
}


local function sh(script, scratch)
  command.succeed({ "sh", "-euc", script }, { scratch = scratch })
end

-- -- one sample ---------------------------------------------------------------------------------

local samples = {}

-- The exact environment of every program of a sample.
local function environment(s, base)
  local env = {
    PATH = base.dir .. "/bin:" .. os.getenv("PATH"),
    HOME = s.home,
    LANG = "C.UTF-8",
    TMPDIR = s.temporary,
    PIP_NO_INDEX = "1",
    PIP_FIND_LINKS = base.dir .. "/wheels",
    PIP_DISABLE_PIP_VERSION_CHECK = "1",
    PIP_NO_CACHE_DIR = "1",
    GIT_CONFIG_NOSYSTEM = "1",
  }
  for _, name in ipairs({ "PRAXLUA_PATH", "PRAXLUA_COVERAGE_DIR", "GCOV_PREFIX",
    "GCOV_PREFIX_STRIP", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" }) do
    env[name] = os.getenv(name)
  end
  return env
end

local function edit(s)
  helper.tree(s.project, EDITS)
  local shipped = s.project .. "/" .. sample.EDITED
  helper.write(shipped, helper.read(shipped) .. "\n## Our addition\n\nKept, please.\n")
  sh(([[
    cd %s
    chmod 0755 workspace/sketch.sh
    chmod 0600 workspace/secret.txt
    ln -s ../../specs/2025-11-01-billing standards/development/billing
    mkdir workspace/empty
  ]]):format(command.quote(s.target)), s.scratch)
end

-- As the earlier upgrade that installed the old release would have written it.
local function write_manifest(s, base)
  local script = [[
import hashlib, json, os, sys
target, commit, mapping = sys.argv[1], sys.argv[2], sys.argv[3:]
files = {}
for pair in mapping:
    source, to = pair.split("=")
    for top, _, names in os.walk(os.path.join(source)):
        for name in names:
            path = os.path.join(top, name)
            data = open(path, "rb").read()
            key = os.path.join(to, os.path.relpath(path, source))
            files[key] = {"checksum": "sha256:" + hashlib.sha256(data).hexdigest(),
                          "size": len(data), "last_updated": "2025-10-14"}
json.dump({"format_version": 1, "version": "1.0.0", "commit": commit, "files": files,
           "generated": "2025-10-14T08:00:00Z", "generator_version": "1.0.0"},
          open(os.path.join(target, ".installed-manifest.json"), "w"), indent=2, sort_keys=True)
]]
  local argv = { base.python, "-c", script, s.target, sample.commit_of(s, "v1.0.0") }
  for _, map in ipairs(sample.MAPPING) do
    argv[#argv + 1] = base.dir .. "/shipped/" .. map.from .. "=" .. map.to
  end
  command.succeed(argv, { scratch = s.scratch })
  helper.tree(s.target, {
    ["UPDATE_LOG.txt"] = "2025-10-14 08:00:00 | 1.0.0 | an earlier line\n",
    ["INSTALLATION_SUMMARY.md"] = "# Installation summary\n\nInstalled by hand.\n",
  })
end

-- The source, and the installation with its own environment or another one, whose paths are
-- corrected as an installer would have written them here.
local function install(s, other_venv)
  local installed = s.base.dir .. "/installed"
  local venv = other_venv or installed .. "/" .. TARGET .. "/venv"
  sh(([[
    git clone -q %s %s
    git -C %s config user.name 'A Maintainer'
    git -C %s config user.email maintainer@example.invalid
    cp -a %s %s
  ]]):format(s.base.repository, s.source, s.source, s.source, installed, s.project), s.scratch)
  if other_venv then
    sh(("rm -rf %s/venv && cp -a %s %s/venv"):format(s.target, venv, s.target), s.scratch)
  end
  sh(("grep -rlI --null %s %s/venv/bin %s/venv/pyvenv.cfg | xargs -0 -r sed -i 's|%s|%s/venv|g'")
    :format(venv, s.target, s.target, venv, s.target), s.scratch)
end

---@class SampleOptions
---@field manifest boolean? the base of the merge is recorded (.installed-manifest.json)
---@field server boolean? the old server runs; default true
---@field faults table? mcp_server/faults.json of the new release
---@field requirements string? mcp_server/requirements.txt of the new release
---@field pip boolean? pip itself is in the environment; default: small_pip.py stands for it
---@field parent string? directory to make it in (default: a new temporary one)

--- A sample of its own, in a temporary directory.
---@param options SampleOptions?
---@return table s root, project, target, source, environment, executable
function sample.new(options)
  options = options or {}
  local base = sample_base.get()
  local root = options.parent or helper.tempdir()
  local s = {
    root = root,
    project = root .. "/project",
    target = root .. "/project/" .. TARGET,
    source = root .. "/source",
    home = root .. "/home",
    temporary = root .. "/tmp",
    scratch = root .. "/runs",
    base = base,
  }
  for _, name in ipairs({ "home", "tmp", "runs" }) do lfs.mkdir(root .. "/" .. name) end
  s.environment = environment(s, base)
  s.executable = os.getenv("PRAXLUA") or os.getenv("PRAXLUA_HOST") or "build/praxlua"
  if s.executable:sub(1, 1) ~= "/" then s.executable = ROOT .. "/" .. s.executable end
  install(s, options.pip and sample_base.with_pip(base))
  edit(s)
  if options.manifest then write_manifest(s, base) end
  if options.faults then
    sample.commit(s, { ["mcp_server/faults.json"] = cjson.encode(options.faults) })
  end
  if options.requirements then
    sample.commit(s, { ["mcp_server/requirements.txt"] = options.requirements })
  end
  samples[#samples + 1] = s
  if options.server ~= false then sample.start_server(s) end
  return s
end

--- Commits files to the sample's source; a file that is `false` is removed.
---@param s table
---@param files table<string, string|false>
---@param message string? of the commit
function sample.commit(s, files, message)
  for path, data in pairs(files) do
    if data then
      helper.write(s.source .. "/" .. path, data)
    else
      assert(os.remove(s.source .. "/" .. path))
    end
  end
  sh(("git -C %s add -A && git -C %s commit -q -m %s"):format(
    s.source, s.source, command.quote(message or "change the release")), s.scratch)
end

---@return string commit the full id a name in the source stands for
function sample.commit_of(s, name)
  local argv = { "git", "-C", s.source, "rev-parse", name .. "^{commit}" }
  return (command.succeed(argv, { scratch = s.scratch }):gsub("%s", ""))
end

--- Stops what samples started (each by its own state file) and removes them all.
---@return table[] left processes that ran on in a sample and were nobody's to stop: a leak
function sample.clean()
  local left = {}
  for _, s in ipairs(samples) do
    sample.stop_server(s)
    for _, process in ipairs(sample.processes(s)) do
      left[#left + 1] = process
      os.execute(("kill -KILL %d 2>/dev/null"):format(process.pid)) -- works in our directory
    end
  end
  samples = {}
  helper.clean()
  return left
end

-- -- the server ---------------------------------------------------------------------------------

local function ask_oracle(s, ...)
  return oracle.run(s.base.python, { ... }, s.environment)
end

local function oracle_says(s, ...)
  local result = ask_oracle(s, ...)
  if result.code ~= 0 then return nil, result.stderr end
  return cjson.decode(result.stdout)
end

--- Starts the installed server as an editor's setting would, and waits until it answers.
function sample.start_server(s)
  local env = { PYTHONPATH = s.target, PROJECT_ROOT = s.project }
  for name, value in pairs(s.environment) do env[name] = value end
  local run = command.start({ "setsid", s.target .. "/venv/bin/python", "-m", "mcp_server",
    "--transport", "http" }, { scratch = s.scratch, directory = s.project, environment = env })
  local answered = command.until_true(function()
    return lfs.attributes(s.target .. "/.mcp_server_state.json") and sample.server(s)
  end, 15)
  if not answered then error("the old server did not start: " .. helper.read(run.at.err)) end
end

--- What the server of the state file itself says.
---@return { version: string, tools: string[], pid: integer }|nil, string|nil
function sample.server(s) return oracle_says(s, "ask", s.target) end

--- Stops the sample's server by the pid in its own state file, once that is proven to be it.
function sample.stop_server(s) return oracle_says(s, "stop", s.target) end

--- The live processes that work in the sample's project.
---@return { pid: integer, command: string[] }[]
function sample.processes(s) return assert(oracle_says(s, "processes", s.project)) end

-- -- running praxlua ----------------------------------------------------------------------------

local function options_for(s, options)
  local env = {}
  for name, value in pairs(s.environment) do env[name] = value end
  for name, value in pairs(options.environment or {}) do env[name] = value end
  return {
    scratch = s.scratch, directory = options.directory or s.project, environment = env,
    seconds = options.seconds,
  }
end

--- Runs praxlua in the sample's project.
---@param s table
---@param argv string[] what follows the program's name
---@param options { environment: table?, directory: string?, seconds: number?, wrap: string[]? }?
--- `wrap`: a command that ends in executing its arguments
---@return { code: integer, stdout: string, stderr: string }
function sample.run(s, argv, options)
  options = options or {}
  local whole = { table.unpack(options.wrap or {}) }
  whole[#whole + 1] = s.executable
  table.move(argv, 1, #argv, #whole + 1, whole)
  return command.run(whole, options_for(s, options))
end

-- The arguments of an upgrade that reports events. Its server is watched no longer than that takes,
-- where nothing else is said.
local function upgrade_arguments(s, extra)
  local argv = { "upgrade", "--source", s.source, "--json" }
  local watch = { "--watch", "0" }
  for _, word in ipairs(extra or {}) do
    argv[#argv + 1] = word
    if word == "--watch" then watch = {} end
  end
  table.move(watch, 1, #watch, #argv + 1, argv)
  return argv
end

local function with_events(result)
  result.events = command.events(result.stdout)
  return result
end

--- Upgrades the sample's target from its source.
---@param extra string[]? more arguments
---@return table result code, stderr, events
function sample.upgrade(s, extra, options)
  return with_events(sample.run(s, upgrade_arguments(s, extra), options))
end

--- The same in the background; see command.await, command.kill and command.wait.
function sample.start_upgrade(s, extra, options)
  local argv = { s.executable, table.unpack(upgrade_arguments(s, extra)) }
  return command.start(argv, options_for(s, options or {}))
end

--- The events of one kind.
---@param result { events: table[] }
---@param name string
---@return table[]
function sample.events(result, name)
  local found = {}
  for _, event in ipairs(result.events) do
    if event.event == name then found[#found + 1] = event end
  end
  return found
end

-- -- the oracle ---------------------------------------------------------------------------------

--- Lists the sample's project with the independent checker.
---@param s table
---@param mode string? "exact": with times and nothing left out
---@param directory string? what is listed; default: the project
---@return string listing path of the file
function sample.list(s, mode, directory)
  s.listings = (s.listings or 0) + 1
  local path = ("%s/listing-%d.json"):format(s.scratch, s.listings)
  local argv = { "list", directory or s.project }
  if mode == "exact" then
    argv[#argv + 1] = "--times"
    argv[#argv + 1] = "--all"
  end
  local result = ask_oracle(s, table.unpack(argv))
  assert(result.code == 0, result.stderr)
  helper.write(path, result.stdout)
  return path
end

--- The differences between two listings, one a line; empty when there is none.
---@param options { part: string?, ignore: string[]?, relocatable: boolean? }?
---@return string
function sample.differences(s, a, b, options)
  options = options or {}
  local argv = { "compare", a, b, "--part", options.part or "all" }
  for _, path in ipairs(options.ignore or {}) do
    argv[#argv + 1] = "--ignore"
    argv[#argv + 1] = path
  end
  if options.relocatable then argv[#argv + 1] = "--relocatable" end
  local result = ask_oracle(s, table.unpack(argv))
  assert(result.code < 2 and result.stderr == "", result.stderr)
  return result.stdout
end

local function with_mapping(argv)
  for _, map in ipairs(sample.MAPPING) do
    argv[#argv + 1] = "--map"
    argv[#argv + 1] = map.from .. "=" .. map.to
  end
  return argv
end

--- Where the record of what was shipped differs from the source's HEAD; empty where it does not.
---@return string
function sample.manifest_differences(s)
  local argv = with_mapping({ "manifest", s.target .. "/.installed-manifest.json",
    "--repository", s.source, "--old", "v1.0.0", "--new", "HEAD" })
  local result = ask_oracle(s, table.unpack(argv))
  return result.stdout .. result.stderr
end

--- The listing a right upgrade of `before` has to lead to.
---@param keep string[]? target directories where nothing is removed
---@return string listing path of the file
function sample.expected(s, before, keep)
  local argv = with_mapping({ "expect", before, "--repository", s.source, "--old", "v1.0.0",
    "--new", "HEAD" })
  for _, directory in ipairs(keep or {}) do
    argv[#argv + 1] = "--keep"
    argv[#argv + 1] = directory
  end
  local result = ask_oracle(s, table.unpack(argv))
  assert(result.code == 0, result.stderr)
  local path = before .. ".expected"
  helper.write(path, result.stdout)
  return path
end

return sample
