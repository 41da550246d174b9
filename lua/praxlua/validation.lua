--- Checks before and after an upgrade. Each reads only, and answers with a table; what is wrong is
-- in its `problems` (what happened, where, what to do next), what is merely odd in its `warnings`.
local base = require("praxlua.base")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local extend = require("praxlua.project_file.extend")
local flat = require("praxlua.flat")
local git = require("praxlua.git")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local text = require("praxlua.text")

local validation = {}

local DAY = 24 * 60 * 60 * 1000000000 -- ns
local OLD_BACKUP = 7 -- days
local SPACE_RESERVE = 1024 * 1024 -- bytes for the session, the reports and the server's log
local INODE_RESERVE = 64
local BLOCK = 4096 -- bytes; a file takes whole ones
local CHANGE_BYTES = 4096 -- for one change in the plan, the journals, their reserve, the session
local ENTRY_BYTES = 2048 -- for one file in an archive's headers and in a backup's manifest
local CHANGE_INODES = 3 -- for the staged file, its folder, and the old one's second name (tmpfs)
local NAMED = 3 -- so many names are given of a longer list

-- ---- versions -------------------------------------------------------------------------------

--- The numbers of a version, and what follows them; nil when it does not begin like one.
local function parse_version(version)
  local numbers, rest = version:match("^[vV]?(%d+[%d%.]*)(.*)$")
  if not numbers then return nil end
  local list = {}
  for number in numbers:gmatch("%d+") do
    if #number > 15 then return nil end
    list[#list + 1] = math.tointeger(tonumber(number))
  end
  rest = rest:gsub("%+.*$", "")
  if rest ~= "" and not rest:match("^[%-%._]?%a[%w%.%-]*$") then return nil end
  return list, (rest:gsub("^[%-%._]", ""))
end

local function compare_tails(a, b)
  if a == b then return 0 end
  if a == "" then return b:match("^post") and -1 or 1 end
  if b == "" then return a:match("^post") and 1 or -1 end
  local one, other = a:gmatch("%a+"), b:gmatch("%a+")
  local word_a, word_b = one() or "", other() or ""
  if word_a ~= word_b then return word_a < word_b and -1 or 1 end
  local number_a, number_b = tonumber(a:match("%d+")) or 0, tonumber(b:match("%d+")) or 0
  if number_a ~= number_b then return number_a < number_b and -1 or 1 end
  return 0
end

--- Compares two versions: their numbers, then what marks one as before its release ("-dev", "rc1").
---@param a string
---@param b string
---@return integer|nil order -1, 0, 1; nil when one does not look like a version
function validation.compare_versions(a, b)
  local numbers_a, tail_a = parse_version(a)
  local numbers_b, tail_b = parse_version(b)
  if not numbers_a or not numbers_b then return nil end
  for i = 1, math.max(#numbers_a, #numbers_b) do
    local one, other = numbers_a[i] or 0, numbers_b[i] or 0
    if one ~= other then return one < other and -1 or 1 end
  end
  return compare_tails(tail_a, tail_b)
end

-- ---- the source -----------------------------------------------------------------------------

local function some(names)
  local shown = table.concat(names, ", ", 1, math.min(NAMED, #names))
  if #names > NAMED then shown = ("%s and %d more"):format(shown, #names - NAMED) end
  return shown
end

local function result_for(path)
  return { valid = false, path = path, problems = json.array({}), warnings = json.array({}) }
end

local function problem(result, message, ...)
  result.problems[#result.problems + 1] = select("#", ...) > 0 and message:format(...) or message
  return result
end

local function warning(result, message, ...)
  result.warnings[#result.warnings + 1] = message:format(...)
end

local function under(path, directory)
  return path and (path == directory or path:sub(1, #directory + 1) == directory .. "/")
end

--- The names of what differs from the commit. What lies in the target does not count: an
--- installation inside of its own source (the product's own repository) is changed by every
--- upgrade.
local function uncommitted(ctx, root)
  local entries, message, code = git.status(root)
  if not entries then return nil, message, code end
  local target = core.file.realpath(ctx.target)
  local inside = under(target, root) and target ~= root and target:sub(#root + 2) or nil
  local names = {}
  for _, entry in ipairs(entries) do
    local path = entry.path:gsub("/$", "")
    if not (inside and (under(path, inside) or entry.code == "??" and under(inside, path))) then
      names[#names + 1] = text.visible(entry.path)
    end
  end
  return names
end

local function check_root(result, path)
  local root, message = git.toplevel(path)
  if not root then return problem(result, message) and nil end
  if root ~= core.file.realpath(path) then
    problem(result, "%s is a directory inside of the repository %s; name the repository's root "
      .. "with --source", path, root)
    return nil
  end
  return root
end

local function check_product(ctx, result, root)
  local recognised, message = layout.recognise_source(root)
  if not recognised then return problem(result, message) and nil end
  if ctx.layout and not layout.fits(recognised, ctx.layout) then
    problem(result, "%s is a source of %s (its server is %s), but %s is an installation of %s (its "
      .. "server is %s), and one server is not made into the other here; name a source, or check "
      .. "out a commit of it, that ships %s, or install the other product anew", root,
      recognised.name, recognised.server.module, ctx.target, ctx.layout.name,
      ctx.layout.server.module, ctx.layout.server.module)
    return nil
  end
  return recognised
end

-- The flat layout can be put right only where the source's history tells every file.
local function check_flat(ctx, result)
  if not (ctx.layout and ctx.layout.becomes) then return end
  local known, message = flat.sort(ctx)
  local refusal = not known and message or flat.objection(ctx, known)
  if refusal then return problem(result, "%s", refusal) end
  warning(result, "%s has the flat layout that safe-upgrade.py leaves; it is put right: what is "
    .. "shipped now comes into standards/universal/, %s from standards/ (%d edited, whose changes "
    .. "go along)", ctx.target, text.plural(#known.shipped + #known.edited, "shipped file goes",
    "shipped files go"), #known.edited)
end

-- A component that the project declared and the source does not have may be a slip of the pen.
local function check_declared(ctx, result, root)
  for _, component in ipairs(ctx.layout and ctx.layout.components or {}) do
    if component.declared and not core.file.exists(root .. "/" .. component.from) then
      warning(result, "the source has no %s, from which the component '%s' of upgrade.lua is to "
        .. "come; it is left as it is", text.visible(component.from), component.name)
    end
  end
end

local function check_clean(ctx, result, root)
  local names, message = uncommitted(ctx, root)
  if not names then return problem(result, message) end
  result.clean = #names == 0
  if not result.clean then
    problem(result, "the source has uncommitted changes: %s in %s; commit, stash or remove them, "
      .. "and run this again", some(names), root)
  end
  return result
end

local function check_commit(result, root)
  local tip, message = git.tip(root)
  if not tip then return problem(result, message) end
  result.commit, result.shallow = tip.commit, tip.is_shallow
  local code
  result.branch, message, code = git.branch(root)
  if result.branch == nil and code ~= "EDETACHED" then return problem(result, message) end
  if result.branch ~= "main" then
    warning(result, "the source %s is %s, not on main", root,
      result.branch and "on branch " .. text.visible(result.branch) or "on no branch")
  end
  return result
end

--- Whether the versions tell which is older. The beginning of a commit's name, which stands for a
--- version where a source has none, looks like one ("48c0ab…") and tells nothing.
local function has_versions(result, installed)
  if result.version_from == "commit" or not installed.version then return false end
  local name, commit = installed.version, installed.commit
  return not (#name >= 12 and type(commit) == "string" and commit:sub(1, #name) == name)
end

--- Whether the source is older, and by what that is known; nil when it is not, or nothing tells.
local function older_by(result, root, installed)
  local order = has_versions(result, installed)
    and validation.compare_versions(result.version, installed.version)
  if order == -1 then
    return ("version %s, installed is %s"):format(result.version, text.visible(installed.version))
  end
  local commit = installed.commit and git.commit_exists(root, installed.commit)
  if commit and commit ~= result.commit and git.is_ancestor(root, result.commit, commit) then
    return ("commit %s, installed is its descendant %s"):format(result.commit:sub(1, 12),
      commit:sub(1, 12))
  end
  return nil
end

local function check_age(ctx, result, root)
  local installed = base.read_version(ctx.target)
  local manifest, message = base.read_manifest(ctx.target)
  if manifest == nil then return problem(result, message) end
  if manifest then
    installed = { version = installed.version or manifest.version, commit = manifest.commit }
  end
  local proof = older_by(result, root, installed)
  if not proof then return result end
  result.downgrade = true
  if ctx.options and ctx.options.allow_downgrade then
    warning(result, "the source %s is older than the installation (%s)", root, proof)
  else
    problem(result, "the source is older than the installation: %s (%s); choose a newer source, or "
      .. "allow it with --allow-downgrade", root, proof)
  end
  return result
end

--- Checks that the source is a clean work tree of this product and not older than the target.
---@param ctx table source, target, layout?, options.allow_downgrade
---@return table result { valid, path, version, version_from, commit, branch, clean, shallow,
--- downgrade, problems, warnings }
function validation.validate_source_repo(ctx)
  local path = ctx.source
  local result = result_for(path)
  result.clean = false
  if not core.file.exists(path) then
    return problem(result, "there is no source at %s; name the directory of a cloned source "
      .. "repository with --source", path)
  end
  local root = check_root(result, path)
  if not root then return result end
  result.path = root
  local recognised = check_product(ctx, result, root)
  if not recognised then return result end
  check_declared(ctx, result, root)
  check_clean(ctx, result, root)
  check_commit(result, root)
  if not result.commit then return result end
  check_flat(ctx, result)
  result.version, result.version_from = layout.source_version(root, recognised)
  if not result.version then
    result.version, result.version_from = result.commit:sub(1, 12), "commit"
  end
  check_age(ctx, result, root)
  result.valid = #result.problems == 0
  return result
end

-- ---- the target -----------------------------------------------------------------------------

--- Checks that the target is an installation of a known layout. Its layout is put into ctx.
---@param ctx table target
---@return table result { valid, path, layout, version, commit, problems, warnings }
function validation.validate_target_structure(ctx)
  local result = result_for(ctx.target)
  local recognised, message = layout.recognise_target(ctx.target)
  if not recognised then return problem(result, message) end
  result.layout = recognised.name
  ctx.layout, message = extend.of(ctx, recognised)
  if not ctx.layout then return problem(result, message) end
  local stray = layout.flat_directories(ctx.target, recognised)
  if #stray > 0 and not recognised.becomes then
    warning(result, "%s also holds %s, which another tool may have put there; they are left alone",
      ctx.target, some(stray))
  end
  if recognised.folder then
    warning(result, "%s has its older name; servers of newer releases look for .praxis-os, so give "
      .. "it that name first: praxlua migrate", ctx.target)
  end
  local installed = base.read_version(ctx.target)
  result.version, result.commit = installed.version, installed.commit
  local environment = core.file.stat(ctx.target .. "/" .. recognised.environment)
  if environment and environment.type ~= "directory" then
    return problem(result, "%s/%s is a %s; make it a folder of the installation's own, or move it "
      .. "away", ctx.target, recognised.environment, environment.type)
  end
  result.valid = true
  return result
end

--- Checks that the places an upgrade writes to can be written.
---@param ctx table target, project, layout
---@return table result { valid, path, problems, warnings }
function validation.check_permissions(ctx)
  local result = result_for(ctx.target)
  local places = { ctx.target, ctx.project }
  for _, component in ipairs(ctx.layout and ctx.layout.components or {}) do
    local path = ctx.target .. "/" .. component.to
    if core.file.exists(path) then places[#places + 1] = path end
  end
  local refused = {}
  for _, path in ipairs(places) do
    if not core.system.access(path, "w") then refused[#refused + 1] = path end
  end
  if #refused > 0 then
    problem(result, "the installation cannot be written: %s is read-only for this user; change its "
      .. "permissions, or run this as its owner", some(refused))
  end
  result.valid = #result.problems == 0
  return result
end

--- Looks at the backups there are.
---@param ctx table target
---@return table result { count, newest = name?, age_days = integer?, warnings }
function validation.check_backups(ctx)
  local result = { count = 0, warnings = json.array({}) }
  local newest, oldest
  for _, entry in ipairs(core.tree.list(ctx.target .. "/.backups") or {}) do
    local day, hour, minute, second =
      entry.path:match("^(%d%d%d%d%-%d%d%-%d%d)%-(%d%d)(%d%d)(%d%d)[^/]*$")
    local made = day and clock.parse(("%sT%s:%s:%sZ"):format(day, hour, minute, second))
    if made and entry.type == "directory" then
      result.count = result.count + 1
      if not newest or made > newest then newest, result.newest = made, entry.path end
      if not oldest or made < oldest then oldest, result.oldest = made, entry.path end
    end
  end
  if not newest then return result end
  result.age_days = math.max(0, (core.system.now() - newest) // DAY)
  if core.system.now() - oldest > OLD_BACKUP * DAY then
    warning(result, "%s in %s/.backups, the oldest (%s) made more than %d days ago",
      text.plural(result.count, "backup"), ctx.target, result.oldest, OLD_BACKUP)
  end
  return result
end

-- ---- space ----------------------------------------------------------------------------------

local function size_of(path, options)
  local size, message, code = core.tree.size(path, options)
  if not size then return nil, message, code end
  return { bytes = math.max(size.bytes, size.allocated), inodes = size.inodes }
end

--- What a transaction takes beside the content of its files: whole blocks, records, its reserve.
local function with_transaction(wanted, changes)
  local reserved = core.transaction
  wanted.bytes = wanted.bytes + changes * (BLOCK + CHANGE_BYTES) + reserved.RESERVE_BYTES
    + SPACE_RESERVE
  wanted.inodes = wanted.inodes + changes * CHANGE_INODES + reserved.RESERVE_INODES
    + INODE_RESERVE
  return wanted
end

--- What the upgrade will write: the backup, the staged files, a copy of the environment; and never
--- less than twice the content.
local function required(ctx, need)
  local recognised = ctx.layout or layout.layouts[1]
  local scope, message, code = size_of(ctx.target, { skip = recognised.ephemeral.paths,
    skip_names = recognised.ephemeral.names })
  if not scope then return nil, message, code end
  local environment
  environment, message, code = size_of(ctx.target .. "/" .. recognised.environment)
  if not environment then return nil, message, code end
  local planned = ctx.memory and ctx.memory.plan
  local staged = need and need.bytes or planned and planned.bytes or scope.bytes
  local changes = need and need.inodes or planned and planned.changes or scope.inodes
  local backup = scope.bytes + scope.inodes * ENTRY_BYTES
  return with_transaction({
    content_bytes = scope.bytes, environment_bytes = environment.bytes,
    bytes = math.max(2 * scope.bytes, backup + staged + environment.bytes),
    inodes = environment.inodes,
  }, changes)
end

local function judge_space(ctx, wanted, what)
  local space, message, code = core.system.space(ctx.target)
  if not space then return nil, message, code end
  local result = {
    available_bytes = space.bytes_available, required_bytes = wanted.bytes,
    available_inodes = space.inodes_available, required_inodes = wanted.inodes,
    available = text.bytes(space.bytes_available), required = text.bytes(wanted.bytes),
    content_bytes = wanted.content_bytes, environment_bytes = wanted.environment_bytes,
  }
  result.sufficient = result.available_bytes >= result.required_bytes
    and result.available_inodes >= result.required_inodes
  if result.available_bytes < result.required_bytes then
    result.problem = ("too little space: %s has %s free and the %s needs %s; free some, and "
      .. "run this again"):format(ctx.target, result.available, what, result.required)
  elseif not result.sufficient then
    result.problem = ("too few inodes: the file system of %s has %d free and the %s needs %d; "
      .. "delete files there, and run this again"):format(ctx.target, result.available_inodes,
      what, result.required_inodes)
  end
  return result
end

--- Compares what an upgrade needs with what is free on the target's file system. Backups that are
--- kept already do not count.
---@param ctx table target, layout?, memory.plan?
---@param need? { bytes: integer?, inodes: integer? } what is staged, when the caller knows better
---@return table|nil result { available_bytes, required_bytes, available_inodes, required_inodes,
--- available, required (for people), content_bytes, environment_bytes, sufficient, problem? }
---@return string|nil message
---@return string|nil code
function validation.check_disk_space(ctx, need)
  local wanted, message, code = required(ctx, need)
  if not wanted then return nil, message, code end
  return judge_space(ctx, wanted, "upgrade")
end

--- The same for a restore: what it unpacks, what it stages, and a backup of the present state.
---@param ctx table target
---@param restored { bytes: integer, files: integer } of the backup
---@param with_backup boolean whether the present state is backed up first
---@return table|nil result as of check_disk_space
---@return string|nil message
---@return string|nil code
function validation.check_restore_space(ctx, restored, with_backup)
  local recognised = layout.layouts[1]
  local scope, message, code = size_of(ctx.target, { skip = recognised.ephemeral.paths,
    skip_names = recognised.ephemeral.names })
  if not scope then return nil, message, code end
  local wanted = {
    content_bytes = restored.bytes, environment_bytes = 0, inodes = restored.files,
    bytes = 2 * restored.bytes + restored.files * BLOCK,
  }
  if with_backup then wanted.bytes = wanted.bytes + scope.bytes + scope.inodes * ENTRY_BYTES end
  return judge_space(ctx, with_transaction(wanted, math.max(restored.files, scope.inodes)),
    "restore")
end

-- ---- after copying --------------------------------------------------------------------------

--- A file or link as a plan names it; anything else, and nothing, by a word.
local function id_at(path)
  local stat = core.file.stat(path)
  if not stat then return "missing" end
  if stat.type == "link" then return "link:" .. stat.target end
  if stat.type ~= "file" then return stat.type end
  return core.hash.file(path) or "unreadable"
end

local function check_entry(ctx, entry, result)
  local here = id_at(ctx.target .. "/" .. entry.path)
  if entry.action == "keep" or entry.action == "conflict" then
    result.kept = result.kept + 1
  elseif entry.result then -- merged, so not as the source has it
    result.checked = result.checked + 1
    if here ~= entry.result then result.mismatches[#result.mismatches + 1] = entry.path end
  elseif entry.new then
    result.checked = result.checked + 1
    if here ~= entry.new or id_at(ctx.source .. "/" .. entry.source) ~= entry.new then
      result.mismatches[#result.mismatches + 1] = entry.path
    end
  elseif entry.action == "remove" and here == entry["local"] then
    result.mismatches[#result.mismatches + 1] = entry.path
  end
end

--- Compares the target's files of one component with the source's, byte for byte by their hashes.
--- Links are compared as links. What the user keeps is counted, not compared.
---@param ctx table source, target, memory.plan
---@param component string its name
---@return table|nil result { verified, checked, kept, mismatches, problem? }
---@return string|nil message
---@return string|nil code
function validation.verify_checksums(ctx, component)
  local planned, message, code = require("praxlua.content").plan(ctx)
  if not planned then return nil, message, code end
  local known
  known, message, code = layout.check_component(ctx.layout, component)
  if not known then return nil, message, code end
  local result = { checked = 0, kept = 0, mismatches = json.array({}) }
  for _, entry in ipairs(planned.entries) do
    if entry.component == component then check_entry(ctx, entry, result) end
  end
  result.verified = #result.mismatches == 0
  if not result.verified then
    result.problem = ("%s of %s in %s differ from the source: %s; another program wrote there, run "
      .. "the upgrade again"):format(text.plural(#result.mismatches, "file"), component, ctx.target,
      some(result.mismatches))
  end
  return result
end

--- Asks the server of this target whether it is well.
---@param ctx table
---@return table|nil result { responding, tools_registered, expected_tools, healthy, ... }
---@return string|nil message
---@return string|nil code
function validation.check_server_health(ctx, ...)
  return require("praxlua.server").health(ctx, ...)
end

return validation
