--- What a plan changes in each file: the differences between what is here and what stands there
-- after the upgrade. Reads only, and takes no lock: it has to disturb nobody.
local content = require("praxlua.content")
local core = require("praxlua.core")
local entries = require("praxlua.entries")
local decisions = require("praxlua.decisions")
local difference = require("praxlua.difference")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local project_options = require("praxlua.project_options")
local run = require("praxlua.run")
local text = require("praxlua.text")

local comparison = {}

--- Bytes of a file above which it is told, not read.
comparison.READ_LIMIT = 64 * 1024 * 1024

--- Bytes that all differences may take as JSON: they are one event.
comparison.JSON_LIMIT = 8 * 1024 * 1024

local CHANGES = { add = true, update = true, merge = true, remove = true, conflict = true }

-- ---- the two sides of an entry --------------------------------------------------------------

local function link_of(id) return id and id:match("^link:(.*)$") end

local function read(path, limit)
  local stat, message, code = core.file.stat(path)
  if not stat then return nil, message, code end
  if stat.size > limit then
    return nil, ("%s takes %s, more than can be compared"):format(path, text.bytes(stat.size)),
      "EFBIG"
  end
  local data
  data, message, code = core.file.read(path, limit)
  return data, message or stat, code
end

-- What is here, which must still be what the plan saw; false where there is nothing.
local function here(ctx, path, id)
  if not id then return false end
  local link = link_of(id)
  if link then return { link = link } end
  if id == "directory" or id == "other" then return false end
  local data, stat, code = read(ctx.target .. "/" .. path, comparison.READ_LIMIT)
  if not data then return nil, stat, code end
  if core.hash.sha256(data) ~= id then
    return nil, ("%s/%s changed while it was compared"):format(ctx.target, path), "ECHANGED"
  end
  return { data = data, mode = stat.mode }
end

-- What stands at an entry's path afterwards; of a conflict, what the source ships.
local function afterwards(ctx, entry)
  if entry.action == "remove" then return false end
  local id = entries.result_of(entry)
  local link = link_of(id)
  if link then return { link = link } end
  if entry.content and entry.action ~= "conflict" then
    return { data = entry.content, mode = entry.mode }
  end
  if not entry.source then return false end
  local data, message, code = read(ctx.source .. "/" .. entry.source, comparison.READ_LIMIT)
  if not data then return nil, message, code end
  if id and core.hash.sha256(data) ~= id then
    return nil, ("%s/%s changed while it was compared"):format(ctx.source, entry.source),
      "ECHANGED"
  end
  return { data = data, mode = entry.mode }
end

local function pair_of(ctx, entry, locals)
  local old, message, code = here(ctx, entry.path, entry["local"])
  local from = old == false and entry.edited_at or nil -- what the user changed is still there
  if from then -- no entry of the plan where its folder is not shipped any more
    old, message, code = here(ctx, from, locals[from] or core.hash.file(ctx.target .. "/" .. from))
  end
  if old == nil then return nil, message, code end
  local new
  new, message, code = afterwards(ctx, entry)
  if new == nil then return nil, message, code end
  if new and old and not new.mode then new.mode = old.mode end
  return { path = entry.path, old_path = from, old = old or nil, new = new or nil }
end

-- ---- the entries of a plan ------------------------------------------------------------------

-- Whether a path is one of those wanted, or in one.
local function is_wanted(wanted, path)
  if #wanted == 0 then return true end
  for _, name in ipairs(wanted) do
    if path == name or name == "" or path:sub(1, #name + 1) == name .. "/" then return true end
  end
  return false
end

local CONFLICT = "in conflict: shown is what leads from yours to theirs; nothing is applied before "
  .. "it is decided"

local function notes_of(entry, moved_to)
  local notes = {}
  if entry.action == "conflict" then notes[1] = CONFLICT end
  if entry.moved_from then notes[#notes + 1] = "moved from " .. entry.moved_from end
  if moved_to then notes[#notes + 1] = "moved to " .. moved_to end
  if entry.resolved then notes[#notes + 1] = "a conflict, decided: " .. entry.resolved end
  if entry["local"] == "directory" or entry["local"] == "other" then
    notes[#notes + 1] = "something that is no file is here"
  end
  return notes
end

local function new_file(entry, moved_to)
  return { path = entry.path, action = entry.action, reason = entry.reason, diff = "", added = 0,
    removed = 0, binary = false, moved_from = entry.moved_from,
    notes = json.array(notes_of(entry, moved_to)) }
end

-- The files that change, and the pairs to be compared by their place among them. One that cannot
-- be compared for its size is told all the same.
local function gather(ctx, planned, wanted)
  local files, pairs_of, places, locals, moved = {}, {}, {}, {}, {}
  for _, entry in ipairs(planned.entries) do
    locals[entry.path] = entry["local"]
    if entry.edited_at and CHANGES[entry.action] then moved[entry.edited_at] = entry.path end
  end
  for _, entry in ipairs(planned.entries) do
    if CHANGES[entry.action] and is_wanted(wanted, entry.path) then
      local file = new_file(entry, moved[entry.path])
      files[#files + 1] = file
      local pair, message, code
      if not moved[entry.path] then pair, message, code = pair_of(ctx, entry, locals) end
      if code and code ~= "EFBIG" then return nil, message, code end
      if code then table.insert(file.notes, message) end
      if pair then
        pairs_of[#pairs_of + 1], places[#places + 1] = pair, file
      end
    end
  end
  return files, pairs_of, places
end

--- What a plan changes in each file.
---@param ctx table source, target
---@param planned table
---@param wanted string[]? paths of files or folders, relative to the target; all when nil or empty
---@return { path: string, action: string, reason: string?, diff: string, added: integer,
---  removed: integer, binary: boolean, moved_from: string?, notes: string[] }[]|nil files
---@return string|nil message
---@return string|nil code
function comparison.of(ctx, planned, wanted)
  local files, pairs_of, places = gather(ctx, planned, wanted or {})
  if not files then return nil, pairs_of, places end
  local results, message, code = difference.unified(pairs_of)
  if not results then return nil, message, code end
  local left = comparison.JSON_LIMIT
  for i, result in ipairs(results) do
    local file = places[i]
    file.diff, file.added, file.removed = result.diff, result.added, result.removed
    file.binary = result.binary
    table.move(result.notes, 1, #result.notes, #file.notes + 1, file.notes)
    local size = #json.encode(file.diff)
    if size <= left then
      left = left - size
    else
      file.diff = ""
      table.insert(file.notes, "its lines are left out, as there are too many of all files; "
        .. "praxlua diff shows them for a path that is named")
    end
  end
  return json.array(files)
end

-- ---- praxlua diff ---------------------------------------------------------------------------

local function refused(message, next_step, exit_code)
  return { exit_code = exit_code or 3, message = message, next = next_step,
    status = exit_code == 6 and "busy" or exit_code == 2 and "usage" or "refused" }
end

-- A path as a plan names it, however it was typed: from the project, or as an absolute one.
local function normal(target, name, typed)
  local path = typed:gsub("/+", "/"):gsub("(.)/$", "%1")
  path = path:gsub("^%./", "")
  if path:sub(1, #target + 1) == target .. "/" then return path:sub(#target + 2) end
  if path == target or path == "." or path == name then return "" end
  if path:sub(1, #name + 1) == name .. "/" then return path:sub(#name + 2) end
  return path
end

local function unknown_path(planned, wanted)
  for _, path in ipairs(wanted) do
    local known = false
    for _, entry in ipairs(planned.entries) do
      known = known or is_wanted({ path }, entry.path)
    end
    if not known then return path end
  end
end

-- The context of the upgrade that is compared, as the project file has it; nil and a result.
local function context(target, options, warn)
  local project, name = run.split(target)
  local found, result = project_options.resolve({ source = options.source, target = target },
    function() end)
  if not found then return nil, result end
  found.on_conflict = found.on_conflict or "stop"
  return {
    source = found.source, target = target, project = project, target_name = name, warn = warn,
    options = found, memory = {},
  }
end

-- What another run is at would be half of it. One that waits for answers has changed nothing.
local function check_still(target)
  if core.lock.test(target) then
    return refused("another upgrade of this installation is running",
      "wait for it, or look at it with: praxlua status", 6)
  end
  for _, entry in ipairs(run.unfinished(target)) do
    local waits = entry.session and decisions.is_awaited(entry.session) and not entry.changes
    if not waits then
      return refused("an earlier upgrade did not finish: session " .. entry.session_id,
        "finish it first with: praxlua resume, or praxlua rollback")
    end
  end
end

--- What an upgrade would change in each file.
---@param options { source: string?, target: string?, paths: string[]? }
---@param warn fun(message: string)
---@return table result { exit_code, status, message?, next? }
---@return table|nil data { source, target, hash, counts, files }; nil when it was refused
function comparison.run(options, warn)
  local target, refusal = run.find_target(options.target)
  if not target then return refusal end
  local recognised, message = layout.recognise_target(target)
  if not recognised then return refused(message, "name the installation with --target") end
  refusal = check_still(target)
  if refusal then return refusal end
  local ctx
  ctx, refusal = context(target, options, warn)
  if not ctx then return refusal end
  local wanted = {}
  for i, path in ipairs(options.paths or {}) do
    wanted[i] = normal(target, ctx.target_name, path)
  end
  local planned, files
  planned, message = content.plan(ctx)
  if not planned then return refused(message, "mend what the message names") end
  local unknown = unknown_path(planned, wanted)
  if unknown then
    local is_here = core.file.exists(target .. "/" .. unknown)
    return refused((is_here and "%s is yours, and no part of what an upgrade is about"
      or "there is nothing at %s, here or in the source"):format(text.visible(unknown)),
      "name a file or folder as seen from " .. text.visible(target), 2)
  end
  files, message = comparison.of(ctx, planned, wanted)
  if not files then return refused(message, "run the command again") end
  return { exit_code = 0, status = #files == 0 and "nothing_to_do" or "completed",
    message = #files == 0 and "No file would change."
      or text.plural(#files, "file") .. " would change." },
    { source = ctx.source, target = target, hash = planned.hash, counts = planned.counts,
      files = files }
end

return comparison
