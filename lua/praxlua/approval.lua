--- Approvals: what the plan of a dry run was made from, kept so that a run with `--plan HASH` that
-- has to refuse can say what changed since.
--
-- A record is a sealed document in the user's cache folder, outside of any installation. Where it
-- cannot be kept or read, nothing fails: a refusal then says less.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local entries = require("praxlua.entries")
local folder = require("praxlua.folder")
local json = require("praxlua.json")
local policy = require("praxlua.policy")
local seal = require("praxlua.seal")
local text = require("praxlua.text")

local approval = {}

local FORMAT_VERSION = 1
local MAX_BYTES = 16 * 1024 * 1024
local KEPT = 20
local NAMED = 10 -- paths in a message
local PRIVATE, OWN_FILE = tonumber("700", 8), tonumber("600", 8)

--- The folder of the records.
---@return string|nil path nil where no place for caches is known
function approval.folder()
  local environment = core.system.environment()
  local cache = environment.XDG_CACHE_HOME
  if cache and cache:sub(1, 1) == "/" then return cache .. "/praxlua/plans" end
  local home = environment.HOME
  if home and home:sub(1, 1) == "/" then return home .. "/.cache/praxlua/plans" end
  return nil
end

local function is_hash(hash) return #hash == 64 and hash:find("^%x+$") ~= nil end

local function path_of(hash)
  local at = approval.folder()
  return at and is_hash(hash) and at .. "/" .. hash .. ".json" or nil
end

-- ---- keeping --------------------------------------------------------------------------------

-- The newest stay.
local function sweep(at)
  local found = {}
  for _, name in ipairs(folder.names(at) or {}) do
    local stat = name:find("^%x+%.json$") and core.file.stat(at .. "/" .. name)
    if stat and stat.type == "file" then
      found[#found + 1] = { path = at .. "/" .. name, mtime = stat.mtime }
    end
  end
  table.sort(found, function(a, b)
    return a.mtime ~= b.mtime and a.mtime > b.mtime or a.mtime == b.mtime and a.path < b.path
  end)
  for i = KEPT + 1, #found do core.file.remove(found[i].path) end
end

-- What the hash of a plan covers of its entries, one row a path.
local function rows_of(planned)
  local rows = json.array()
  for _, entry in ipairs(planned.entries) do
    if entries.concern(entry) then
      rows[#rows + 1] = { path = entry.path, source = entry.source, new = entry.new,
        ["local"] = entry["local"], base = entry.base, action = entry.action,
        result = entry.result, resolved = entry.resolved, moved_from = entry.moved_from,
        edited_at = entry.edited_at, mode = entry.mode }
    end
  end
  return rows
end

local function is_within(path, outer)
  return path == outer or path:sub(1, #outer + 1) == outer .. "/"
end

-- A cache folder may be a link into the installation, in which a dry run writes nothing.
local function lies_in(at, target)
  local known = at
  while known ~= "" and not core.file.exists(known) do known = known:match("^(.*)/[^/]*$") end
  return is_within(at, target) or is_within(core.file.realpath(known) or known, target)
end

--- Keeps what a plan was made from.
---@param ctx table source, target
---@param planned table
---@return boolean kept
function approval.keep(ctx, planned)
  local at, path = approval.folder(), path_of(planned.hash)
  if not path or lies_in(at, ctx.target) then return false end
  local encoded, data = pcall(seal.encode, {
    format_version = FORMAT_VERSION, hash = planned.hash, made_at = clock.iso(),
    source = ctx.source, target = ctx.target, source_commit = planned.source_commit,
    source_version = planned.source_version, policy = planned.policy, entries = rows_of(planned),
  })
  if not encoded or #data > MAX_BYTES then return false end
  if not core.file.mkdir(at, PRIVATE) then return false end
  if not core.file.write_atomic(path, data, OWN_FILE) then return false end
  sweep(at)
  return true
end

-- ---- comparing ------------------------------------------------------------------------------

local function read(hash)
  local path = path_of(hash)
  local data = path and core.file.exists(path) and core.file.read(path, MAX_BYTES)
  local record = data and seal.open(data)
  if not record or record.format_version ~= FORMAT_VERSION or record.hash ~= hash
    or type(record.entries) ~= "table" or type(record.policy) ~= "table" then
    return nil
  end
  return record
end

-- How something came from one state to another: "changed", "is gone", "is new".
local function became(before, now)
  if before and now then return "changed" end
  return before and "is gone" or "is new"
end

local function listed(found, what)
  if #found == 0 then return nil end
  table.sort(found)
  local rest = #found - NAMED
  local names = table.concat(found, ", ", 1, math.min(#found, NAMED))
  if rest > 0 then names = names .. (", and %d more"):format(rest) end
  return what .. ": " .. names
end

local function by_path(rows)
  local found = {}
  for _, row in ipairs(rows) do found[row.path] = row end
  return found
end

local DECIDED = { "action", "result", "resolved", "moved_from", "edited_at" }

local function decides_alike(old, new)
  for _, name in ipairs(DECIDED) do
    if old[name] ~= new[name] then return false end
  end
  return true
end

-- What changed of the files, by where they are.
local function file_changes(before, now)
  local sources, locals, bases, decisions, modes = {}, {}, {}, {}, {}
  local function compare(path, old, new)
    if old.new ~= new.new then
      sources[#sources + 1] = (new.source or old.source or path) .. " "
        .. became(old.new, new.new)
    end
    if old["local"] ~= new["local"] then
      locals[#locals + 1] = path .. " " .. became(old["local"], new["local"])
    end
    local same = old.new == new.new and old["local"] == new["local"]
    if not same then return end
    if old.base ~= new.base then
      bases[#bases + 1] = path
    elseif not decides_alike(old, new) then
      decisions[#decisions + 1] = path
    elseif old.mode ~= new.mode then
      modes[#modes + 1] = path
    end
  end
  for path, row in pairs(before) do compare(path, row, now[path] or {}) end
  for path, row in pairs(now) do
    if not before[path] then compare(path, {}, row) end
  end
  return listed(sources, "in the source"), listed(locals, "in the installation"),
    listed(bases, "what is known of what was shipped before"),
    listed(decisions, "what is decided"), listed(modes, "permissions")
end

local function place_changes(record, ctx, planned)
  local found = {}
  if record.target ~= ctx.target then
    found[1] = ("the installation: %s then, %s now"):format(tostring(record.target), ctx.target)
  end
  if record.source_commit ~= planned.source_commit then
    found[#found + 1] = ("the source's commit: %s then, %s now"):format(
      tostring(record.source_commit):sub(1, 12), planned.source_commit:sub(1, 12))
  end
  return found
end

local function changes(record, ctx, planned)
  local found = place_changes(record, ctx, planned)
  local groups = table.pack(file_changes(by_path(record.entries), by_path(rows_of(planned))))
  for i = 1, groups.n do
    if groups[i] then found[#found + 1] = groups[i] end
  end
  for _, words in ipairs(policy.changes(record.policy, planned.policy)) do
    found[#found + 1] = words
  end
  return found
end

--- What changed since the plan with a hash was shown.
---@param ctx table source, target
---@param planned table the plan now
---@param hash string of the other plan
---@return string words one line a change, names made visible
function approval.explain(ctx, planned, hash)
  if not is_hash(hash) then return "that is no hash of a plan, which has 64 digits" end
  local record = read(hash)
  if not record then
    return "no dry run of yours with that plan is on record, so what changed cannot be told"
  end
  local found = changes(record, ctx, planned)
  if #found == 0 then return "the layout or the source's version changed since" end
  for i, words in ipairs(found) do found[i] = "changed since: " .. text.visible(words) end
  return table.concat(found, "\n")
end

return approval
