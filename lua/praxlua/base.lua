--- The base: what was shipped to a target last time, and how we know.
--
-- In this order, for each path:
--   manifest   the target's .installed-manifest.json, our own record of the last upgrade
--   history    the file equals a version the source's history knows, so nobody changed it
--   commit     the source's files at the commit that the target's VERSION.txt names
--   inferred   the same at the commit whose files the target resembles most, when it is clear
--   nearest    of the versions of that very file in the source's history the one that is like it,
--              when it is clear
--   unknown    none of these: a file that differs from the new one counts as changed by the user
--
-- A wrong "inferred" or "nearest" cannot take a person's file away: one is only ever replaced as a
-- whole or removed when its present content is a shipped one. It decides between "kept", "merged"
-- and "conflict", and the plan tells which it was.
local core = require("praxlua.core")
local git = require("praxlua.git")
local inference = require("praxlua.inference")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local objects = require("praxlua.objects")
local seal = require("praxlua.seal")

local base = {}

--- The name of the record in the target, a sealed document; that of form 1 was not.
base.MANIFEST = ".installed-manifest.json"
base.FORMAT_VERSION = 2
--- The largest record that is read, and so the largest that is written, in bytes.
base.MAX_BYTES = 64 * 1024 * 1024
--- Stands for a base that is not known; nil is a base known to be absent.
base.UNKNOWN = "unknown"

local EMPTY_BLOBS = { -- an empty file is no proof of where it came from
  ["e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"] = true,
  ["473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"] = true,
}

--- Whether a path may come from a manifest or a repository: relative, with no empty, "." or ".."
--- component and no NUL.
---@param path any
---@return boolean
function base.is_normal(path)
  if type(path) ~= "string" or path == "" or path:find("\0", 1, true) then return false end
  for name in (path .. "/"):gmatch("([^/]*)/") do
    if name == "" or name == "." or name == ".." then return false end
  end
  return true
end

-- ---- the manifest ---------------------------------------------------------------------------

local function entry_problem(path, entry)
  if not base.is_normal(path) then return "it names a path outside of the target" end
  if type(entry) ~= "table" or type(entry.checksum) ~= "string" then
    return "an entry is malformed"
  end
  if entry.checksum:match("^sha256:%x+$") and #entry.checksum == 71 then return nil end
  if entry.checksum:match("^link:.") then return nil end
  return "an entry has no sha256 checksum"
end

local function manifest_problem(manifest)
  if type(manifest) ~= "table" or type(manifest.files) ~= "table" then
    return "it is not a manifest", "EMANIFEST"
  end
  local version = manifest.format_version
  if math.type(version) ~= "integer" or version < 1 then
    return "it has no format_version", "EMANIFEST"
  end
  if version > base.FORMAT_VERSION then
    return ("its format %d is newer than this praxlua knows (%d)")
      :format(version, base.FORMAT_VERSION), "EFORMAT"
  end
  for _, field in ipairs({ "version", "commit", "layout" }) do
    local value = manifest[field]
    if value ~= nil and value ~= json.null and type(value) ~= "string" then
      return ("its %s is a %s"):format(field, type(value)), "EMANIFEST"
    end
  end
  for path, entry in pairs(manifest.files) do
    local problem = entry_problem(path, entry)
    if problem then return problem, "EMANIFEST" end
  end
  return nil
end

--- The record of what was shipped to a target. A damaged one counts as none: what it says may be
--- wrong, and the source's history does without it.
---@param target string
---@return table|false|nil manifest false when there is none that can be used
---@return string|nil message with false: why the one that is there is not used
---@return string|nil code EFORMAT (newer), or why it cannot be read
function base.read_manifest(target)
  local path = target .. "/" .. base.MANIFEST
  local data, message, code = core.file.read(path, base.MAX_BYTES)
  if not data then
    if code == "ENOENT" then return false end
    return nil, ("%s cannot be read: %s; make it readable, or remove it to work from the source's "
      .. "history"):format(path, message), code
  end
  local manifest, problem = seal.open(data, { max_bytes = base.MAX_BYTES })
  local kind
  if manifest then
    problem, kind = manifest_problem(manifest)
    if not problem then return manifest end
  end
  if kind == "EFORMAT" then
    return nil, ("%s cannot be used: %s; upgrade praxlua"):format(path, problem), kind
  end
  return false, ("%s is damaged and not used: %s; what was shipped is told from the source's "
    .. "history instead"):format(path, problem)
end

-- ---- VERSION.txt ----------------------------------------------------------------------------

--- What a target's VERSION.txt says.
---@param target string
---@return { version: string?, commit: string?, text: string? } facts `commit` may be abbreviated;
--- `text` nil when there is no such file
function base.read_version(target)
  local data = core.file.read(target .. "/VERSION.txt")
  if not data then return {} end
  local commit = data:match("Source Commit:[ \t]*(%x%x%x%x+)%f[%X]")
  for line in data:gmatch("[^\r\n]+") do -- tools append a line each time: the last one counts
    commit = line:match("^%s*commit=(%x%x%x%x+)%s*$") or commit
  end
  return { version = layout.version_in(data), commit = commit and commit:lower(), text = data }
end

-- ---- what the source's history knows --------------------------------------------------------

local function source_paths(recognised)
  local paths = {}
  for _, component in ipairs(recognised.components) do paths[#paths + 1] = component.from end
  return paths
end

-- Where an installer's files come from. A component that the project declares is only ever brought
-- by an upgrade of ours, which leaves a record: a tree of the source says nothing of it.
local function installed_paths(recognised)
  local paths = {}
  for _, component in ipairs(recognised.components) do
    if not component.declared then paths[#paths + 1] = component.from end
  end
  return paths
end

local function load_history(known)
  if known.versions then return true end
  local from = { "HEAD" }
  if known.commit then from[2] = known.commit end
  local versions, message, code = git.history(known.source, source_paths(known.layout), from)
  if not versions then return nil, message, code end
  local any = {}
  for _, keys in pairs(versions) do
    for key in pairs(keys) do
      if not EMPTY_BLOBS[key:match(":(.+)$")] then any[key] = true end
    end
  end
  known.versions, known.any_version = versions, any
  return true
end

local function tree_at(known, commit)
  local files, message, code = git.files(known.source, commit, installed_paths(known.layout))
  if not files then return nil, message, code end
  local tree = {}
  for _, file in ipairs(files) do
    tree[file.path] = { key = git.key(file.mode, file.oid), oid = file.oid, mode = file.mode }
  end
  return tree
end

--- Reads everything that says what was shipped.
---@param ctx table
---@return table|nil known to be passed to base.find
---@return string|nil message
---@return string|nil code
function base.open(ctx)
  local manifest, message, code = base.read_manifest(ctx.target)
  if manifest == nil then return nil, message, code end
  if message and ctx.warn then ctx.warn(message) end
  local version = base.read_version(ctx.target)
  local known = { source = ctx.source, target = ctx.target, layout = ctx.layout,
    manifest = manifest or nil, version = version, keys = {}, left_out = {} }
  local commit = manifest and manifest.commit or version.commit
  known.commit = type(commit) == "string" and git.commit_exists(ctx.source, commit) or nil
  known.ancestor = known.commit -- the commit from which renames are followed
  if known.commit and not known.manifest then
    known.tree, message, code = tree_at(known, known.commit)
    if not known.tree then return nil, message, code end
  end
  local tip
  tip, message, code = git.tip(ctx.source)
  if not tip then return nil, message, code end
  known.head, known.shallow = tip.commit, tip.is_shallow
  local loaded
  loaded, message, code = load_history(known)
  if not loaded then return nil, message, code end
  return known
end

local function compute_key(known, path, state)
  local wide = #known.head == 64 -- a repository whose objects are named by SHA-256
  local function name(data) return core.hash.sha256(("blob %d\0%s"):format(#data, data)) end
  if state.type == "link" then
    local target = state.id:sub(6)
    return "link:" .. (wide and name(target) or core.hash.git_blob_data(target))
  end
  if state.type ~= "file" then return "none:" end
  local full = known.target .. "/" .. path
  local oid, message, code
  if wide then
    oid, message, code = core.file.read(full)
    oid = oid and name(oid)
  else
    oid, message, code = core.hash.git_blob(full)
  end
  if not oid then return nil, message, code end
  return "file:" .. oid
end

--- The name under which git would know a local file or link, as in git.key.
---@param known table
---@param path string relative to the target
---@param state table see plan.lua
---@return string|nil key
---@return string|nil message
---@return string|nil code
function base.key_of(known, path, state)
  local key, message, code = known.keys[path], nil, nil
  if not key then
    key, message, code = compute_key(known, path, state)
    known.keys[path] = key
  end
  return key, message, code
end

local function of_manifest(entry)
  local link = entry.checksum:match("^link:.+$")
  if link then return { type = "link", id = link } end
  local state = { type = "file", id = entry.checksum:sub(8):lower() }
  if type(entry.mode) == "string" then state.executable = entry.mode == "755" end
  return state
end

--- The state a file had in a commit's tree.
local function of_tree(known, file, new)
  if new and new.key == file.key then
    return { type = new.type, id = new.id, executable = file.mode == "100755" }
  end
  local data, message, code = git.blob(known.source, file.oid)
  if not data then return nil, message, code end
  if file.mode == "120000" then return { type = "link", id = "link:" .. data } end
  return { type = "file", id = core.hash.sha256(data), executable = file.mode == "100755",
    content = data }
end

-- Whether the file of that content was shipped as one that may be run, where the installed commit
-- tells.
local function shipped_executable(known, source_path, key)
  local tree = known.tree or known.inferred
  local file = tree and source_path and tree[source_path]
  if not file or file.key ~= key then return nil end
  return file.mode == "100755"
end

--- From the history alone; nil, nil when it says nothing.
local function from_history(known, path, state, new)
  if not state then return nil end
  local key, message, code = base.key_of(known, path, state)
  if not key then return nil, nil, message, code end
  local source_path = layout.source_path(known.layout, path)
  local here = source_path and known.versions[source_path] or {}
  if not here[key] and not (new and known.any_version[key]) then return nil end
  return { type = state.type, id = state.id,
    executable = shipped_executable(known, source_path, key) }, "history"
end

-- Whether the installer left out the component of a path: the commit shipped it, but not to here.
local function is_left_out(known, path)
  local component = layout.component_of(known.layout, path)
  if not component or not component.optional then return false end
  if known.left_out[component.name] == nil then
    known.left_out[component.name] = layout.is_left_out(component, known.target)
  end
  return known.left_out[component.name]
end

local function from_tree(known, path, new, tree, name)
  local source_path = layout.source_path(known.layout, path)
  local file = source_path and tree[source_path]
  if not file or is_left_out(known, path) then return nil, name end
  local state, message, code = of_tree(known, file, new)
  if not state then return nil, nil, message, code end
  return state, name
end

--- The contents that a path had in the source's history, by object name.
local function contents_of(known, path)
  local oids = {}
  for key in pairs(known.versions[layout.source_path(known.layout, path) or ""] or {}) do
    oids[#oids + 1] = key:match("^file:(%x+)$")
  end
  table.sort(oids)
  return git.blobs(known.source, oids)
end

-- How many lines of one text the other has not, both ways; neither their order nor how they end
-- counts.
local function distance(a, b)
  local counts, apart = {}, 0
  for line in a:gmatch("[^\r\n]+") do counts[line] = (counts[line] or 0) + 1 end
  for line in b:gmatch("[^\r\n]+") do counts[line] = (counts[line] or 0) - 1 end
  for _, count in pairs(counts) do apart = apart + math.abs(count) end
  return apart
end

local function lines_in(data) return select(2, data:gsub("[^\r\n]+", "")) end

--- The version of a file in the source's history that the one here was made from: the one nearest
--- to it, if it shares half of its lines and no other is as near. A history that is cut off may
--- lack it.
local function nearest(known, path, state)
  local versions = known.versions[layout.source_path(known.layout, path) or ""]
  if known.shallow or not versions or not state or state.type ~= "file" then
    return base.UNKNOWN, "unknown"
  end
  local ours, message, code = core.file.read(known.target .. "/" .. path, objects.MAX_BYTES)
  if code == "EFBIG" then return base.UNKNOWN, "unknown" end
  if ours then versions, message, code = contents_of(known, path) end
  if not versions then return nil, nil, message, code end
  local best, least, alone
  for _, data in pairs(versions) do
    local apart = distance(ours, data)
    if not least or apart < least then
      best, least, alone = data, apart, true
    elseif apart == least then
      alone = alone and data == best
    end
  end
  if not best or not alone or least > lines_in(best) then return base.UNKNOWN, "unknown" end
  return { type = "file", id = core.hash.sha256(best), content = best }, "nearest"
end

--- Whether several versions of a path are equally likely to have been shipped.
---@param known table from base.open
---@param path string relative to the target
---@return boolean
function base.is_unclear(known, path)
  local source_path = layout.source_path(known.layout, path)
  local file = known.inferred and source_path and known.inferred[source_path]
  return file and file.others ~= nil or false
end

-- Whether the inferred tree tells about a path. A file that is missing here was deleted only if
-- most of the others are there; of versions that are equally likely it then had the one shipped
-- now.
local function may_tell(known, source_path, state, new)
  local file = known.inferred[source_path]
  if file == false then return false end
  if state then return file == nil or not file.others end
  if not known.is_clear then return false end
  for _, other in ipairs(file and new and file.others or {}) do
    if other.key == new.key then known.inferred[source_path] = other end
  end
  return true
end

--- What was shipped to a path last time.
---@param known table from base.open
---@param path string relative to the target
---@param state table|nil what is there now
---@param new table|nil what the source ships now ({ type, id, executable, key })
---@return table|string|nil base a state; nil: nothing was shipped there; base.UNKNOWN
---@return string|nil from "manifest", "history", "commit", "inferred", "nearest", "unknown"; nil on
--- failure
---@return string|nil message
---@return string|nil code
function base.find(known, path, state, new)
  local component = layout.component_of(known.layout, path)
  if component and component.arriving then return nil, "history" end
  local later = layout.later_path(known.layout, path)
  local entry = known.manifest and known.manifest.files[path]
  if entry then return of_manifest(entry), "manifest" end
  if known.manifest and not new and not later then return nil, "manifest" end
  local found, from, message, code = from_history(known, path, state, new)
  if message then return nil, nil, message, code end
  if from then return found, from end
  entry = known.manifest and later and known.manifest.files[later] -- from before it came to `path`
  if entry then return of_manifest(entry), "manifest" end
  if known.manifest then return nil, "manifest" end
  if known.tree then return from_tree(known, path, new, known.tree, "commit") end
  local source_path = layout.source_path(known.layout, path)
  if known.inferred and source_path and may_tell(known, source_path, state, new) then
    return from_tree(known, path, new, known.inferred, "inferred")
  end
  return nearest(known, path, state)
end

-- ---- the content of what was shipped --------------------------------------------------------

--- Every version of a path that the source's history has, by SHA-256: where no tree leads to it.
local function find_in_history(known, path, id)
  local versions, message, code = contents_of(known, path)
  if not versions then return nil, message, code end
  for _, data in pairs(versions) do
    if core.hash.sha256(data) == id then return data end
  end
  return nil
end

--- The content of a base.
---@param known table from base.open
---@param path string relative to the target, where it was shipped
---@param state table a base that base.find gave
---@return string|nil data nil without a message: nobody has it any more
---@return string|nil message
---@return string|nil code
function base.content(known, path, state)
  if state.type == "link" then return state.id end
  if state.content then return state.content end
  known.objects = known.objects or objects.all(known.target)
  if known.objects[state.id] then return known.objects[state.id] end
  return find_in_history(known, path, state.id)
end

-- ---- inferring the installed commit ---------------------------------------------------------

--- Works out which commit was installed, from the files nobody changed. Only needed when neither a
--- manifest nor a commit is known. Afterwards base.find can answer "inferred" where all of the
--- equally likely commits agree on a file.
---@param known table from base.open
---@param here table<string, string> source path -> base.key_of what the target holds there
---@return boolean|nil found whether one was clear enough (half of its files unchanged)
---@return string|nil message
---@return string|nil code
function base.infer(known, here)
  if known.manifest or known.tree or known.shallow then return false end
  local paths = installed_paths(known.layout)
  local commits, message, code = git.log(known.source, paths, { first_parent = true })
  if not commits then return nil, message, code end
  local tree
  tree, message, code = tree_at(known, known.head)
  if not tree then return nil, message, code end
  local found = inference.infer(tree, known.head, commits, here)
  if not found then return false end
  known.inferred, known.ancestor, known.is_clear = found.tree, found.commit, found.is_clear
  return true
end

return base
