--- The target's own records: VERSION.txt for people and other tools, and .installed-manifest.json,
-- the base of the next upgrade.
local base = require("praxlua.base")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local git = require("praxlua.git")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local merge = require("praxlua.merge")
local objects = require("praxlua.objects")
local originals = require("praxlua.originals")
local seal = require("praxlua.seal")
local survey = require("praxlua.survey")
local text = require("praxlua.text")

local records = {}

local GENERATOR_VERSION = "1.0.0"

-- ---- VERSION.txt ----------------------------------------------------------------------------

local TITLE = "prAxIs OS Content Version"

--- Puts `value` behind the last line that begins with `key`, or adds such a line at the end. Blanks
--- around the key do not matter, as they do not to those who read it.
local function set_line(lines, key, value)
  local word = key:gsub(" $", "")
  for i = #lines, 1, -1 do
    if lines[i]:gsub("^[ \t]+", ""):sub(1, #word) == word then
      lines[i] = key .. value
      return
    end
  end
  lines[#lines + 1] = key .. value
end

local function split(whole)
  local lines = {}
  for line in (whole:gsub("\r?\n$", "") .. "\n"):gmatch("(.-)\r?\n") do lines[#lines + 1] = line end
  return lines
end

--- The new text of VERSION.txt; every line of the old one that is not about this stays.
---@param old string|nil
---@param facts { version: string, commit: string, previous: string?, now: integer? } `now`: ns
---@return string
function records.version_text(old, facts)
  local ending = old and old:find("\r\n", 1, true) and "\r\n" or "\n"
  local lines = old and old ~= "" and split(old) or { TITLE, "" }
  local previous = facts.previous or old and layout.version_in(old) or "unknown"
  set_line(lines, "Last Updated: ", clock.log(facts.now))
  set_line(lines, "Source Commit: ", facts.commit)
  set_line(lines, "Updated By: ", "praxlua")
  set_line(lines, "Previous Version: ", previous)
  set_line(lines, "Current Version: ", facts.version)
  set_line(lines, "version_updated=", clock.iso(facts.now))
  set_line(lines, "commit=", facts.commit)
  return table.concat(lines, ending) .. ending
end

-- ---- the record of what was shipped ---------------------------------------------------------

local function as_entry(entry, dates)
  local link = entry.new:match("^link:")
  return {
    checksum = link and entry.new or "sha256:" .. entry.new,
    size = entry.shipped_size or 0, last_updated = dates[entry.source],
    mode = entry.shipped_mode,
  }
end

--- What the record says of a file whose change a driver did not take over: as before, or nothing.
local function as_before(entry, old)
  local before = old and old.files[entry.path]
  if before or not entry.base then return before or nil end
  local link = entry.base:match("^link:")
  return { checksum = link and entry.base or "sha256:" .. entry.base, size = entry.size or 0 }
end

local function record_of(entry, old, dates)
  if entry.deferred then return as_before(entry, old) end
  return entry.new and as_entry(entry, dates) or nil
end

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

local PROVEN = { history = true, commit = true }

-- What the project left out is recorded as it was shipped last, as far as that is known: when it is
-- taken in again, that is its base.
local function record_left_out(ctx, planned, components, files)
  for _, entry in ipairs(planned.entries) do
    if not files[entry.path] and components[entry.component] and entry.base
      and PROVEN[entry.base_from] and layout.ownership_of(ctx.layout, entry.path) == "user" then
      local is_same = entry.base == entry["local"]
      files[entry.path] = {
        checksum = entry.base:find("^link:") and entry.base or "sha256:" .. entry.base,
        size = is_same and entry.size or 0,
      }
    end
  end
end

-- The day on which each file of the source was changed last: asked for once a run.
local function dates_of(ctx)
  if ctx.memory and ctx.memory.dates then return ctx.memory.dates end
  local dates, message, code = git.dates(ctx.source, survey.froms(ctx.layout.components))
  if not dates then return nil, message, code end
  if ctx.memory then ctx.memory.dates = dates end
  return dates
end

--- The record after upgrading `components`: their files as shipped now, the others as before.
---@param ctx table
---@param planned table
---@param components table<string, boolean>
---@return table|nil manifest
---@return string|nil message
---@return string|nil code
function records.next_manifest(ctx, planned, components)
  local old, message, code = base.read_manifest(ctx.target)
  if old == nil then return nil, message, code end
  local dates
  dates, message, code = dates_of(ctx)
  if not dates then return nil, message, code end
  local files, skipped = {}, set_of(planned.skipped_components)
  for path, entry in pairs(old and old.files or {}) do
    local component = layout.component_of(ctx.layout, path)
    if component and (skipped[component.name] or not components[component.name]
      or layout.ownership_of(ctx.layout, path) == "user") then
      files[path] = entry
    end
  end
  for _, entry in ipairs(planned.entries) do
    if components[entry.component] then
      files[entry.path] = record_of(entry, old, dates) or files[entry.path]
    end
  end
  record_left_out(ctx, planned, components, files)
  return {
    format_version = base.FORMAT_VERSION, version = planned.source_version,
    commit = planned.source_commit, layout = ctx.layout.becomes or ctx.layout.name,
    generated = clock.iso(),
    generator_version = GENERATOR_VERSION, files = files,
  }
end

-- Whether two records say the same: not when, and not in which form.
local function same_record(a, b)
  if not a then return false end
  local copy = {}
  for key, value in pairs(b) do copy[key] = value end
  copy.generated, copy.format_version = a.generated, a.format_version
  return json.encode(a) == json.encode(copy)
end

local function queue_manifest(ctx, manifest)
  local data = seal.encode(manifest)
  if #data > base.MAX_BYTES then
    return nil, ("the record of what was shipped takes %s, more than the %s that can be read "
      .. "again; the source ships too many files"):format(text.bytes(#data),
      text.bytes(base.MAX_BYTES)), "EFBIG"
  end
  return ctx.change.put(ctx.target_name .. "/" .. base.MANIFEST, { data = data }, {})
end

--- Whether the target's own records already name the source's version and commit.
---@param ctx table
---@param planned table
---@return boolean
function records.is_current(ctx, planned)
  local manifest = base.read_manifest(ctx.target)
  local version = base.read_version(ctx.target)
  if not manifest or version.commit ~= planned.source_commit
    or version.version ~= planned.source_version then
    return false
  end
  local all = {}
  for _, entry in ipairs(planned.entries) do all[entry.component] = true end
  local next_manifest = records.next_manifest(ctx, planned, all)
  return next_manifest ~= nil and same_record(manifest, next_manifest)
end

local function queue_version(ctx, planned)
  local path = ctx.target_name .. "/VERSION.txt"
  local noted, old, code = originals.note(ctx, path)
  if not noted then return nil, old, code end
  local now = base.read_version(ctx.target)
  if now.version == planned.source_version and now.commit == planned.source_commit then
    return true
  end
  local lines = records.version_text(now.text, { version = planned.source_version,
    commit = planned.source_commit, previous = planned.installed_version })
  return ctx.change.put(path, { data = lines }, { old = old })
end

-- Where the content of each recorded text may be: the target's file, or the source's.
local function places_of(ctx, manifest)
  local places, ids = {}, {}
  local recognised = ctx.layout or layout.by_name(manifest.layout)
  for path, entry in pairs(manifest.files) do
    local id = entry.checksum:match("^sha256:(%x+)$")
    if id and not places[id] then
      local from = recognised and layout.source_path(recognised, path)
      places[id] = { ctx.target .. "/" .. path, from and ctx.source .. "/" .. from }
      ids[#ids + 1] = id
    end
  end
  table.sort(ids)
  return places, ids
end

--- Keeps the content of what the record of what was shipped lists, for later merges.
---@param ctx table
---@return true|nil
---@return string? message
---@return string? code
function records.keep_objects(ctx)
  local manifest, message, code = base.read_manifest(ctx.target)
  if not manifest then return manifest == false or nil, message, code end
  local places, ids = places_of(ctx, manifest)
  return objects.keep(ctx.target, ids, function(id)
    for _, path in ipairs(places[id]) do
      local data = core.file.read(path, objects.MAX_BYTES)
      if data and core.hash.sha256(data) == id then return merge.is_text(data) and data or nil end
    end
    return nil
  end)
end

--- Queues what has changed in the records.
---@param ctx table with an open ctx.change
---@param planned table
---@param components table<string, boolean> those that are upgraded now
---@param with_version boolean VERSION.txt too
---@return boolean|nil ok
---@return string|nil message
---@return string|nil code
function records.queue(ctx, planned, components, with_version)
  local old, message, code = base.read_manifest(ctx.target)
  if old == nil then return nil, message, code end
  local manifest
  manifest, message, code = records.next_manifest(ctx, planned, components)
  if not manifest then return nil, message, code end
  if not same_record(old, manifest) then
    local queued
    queued, message, code = queue_manifest(ctx, manifest)
    if not queued then return nil, message, code end
  end
  if not with_version then return true end
  return queue_version(ctx, planned)
end

return records
