--- Conflicts as data: the folder .upgrade/conflicts-<session> of a session that waits until
-- somebody has decided about them.
--
-- conflicts.json lists them; beside it each has a folder of its name with what was shipped (base),
-- what is here (ours), what is shipped now (theirs) and, where all are text, the three merged with
-- marks where that failed. A person or a program writes an answer into the file; it is read with
-- suspicion. What an answer does is the plan's matter: nothing here touches the installation.
local answers = require("praxlua.conflicts.answers")
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local json = require("praxlua.json")
local lists = require("praxlua.lists")
local marks = require("praxlua.conflicts.marks")
local schema = require("praxlua.schema")
local sides = require("praxlua.sides")
local state = require("praxlua.state")
local strays = require("praxlua.conflicts.strays")
local text = require("praxlua.text")

local conflicts = {}

local file = core.file

local FORMAT_VERSION = 1
local NAME = "conflicts.json"
local PREFIX = "conflicts-"
local PRIVATE = 448 -- 0700

--- The largest list that is read, the largest file of a side, and the largest file that is merged
--- by hand, in bytes.
conflicts.MAX_BYTES = 64 * 1024 * 1024
conflicts.SIDE_BYTES = 64 * 1024 * 1024
conflicts.MERGED_BYTES = 1024 * 1024

--- The sides of a conflict, in the order they are told.
conflicts.SIDES = { "base", "ours", "theirs" }

local filled, words = schema.string({ min_length = 1 }), schema.string()
local optional, object = schema.optional, schema.object
local size = schema.integer({ min = 0 })
local side = object({ id = filled, file = optional(filled), size = optional(size) })
local answer = schema.string({ one_of = answers.CHOICES })
local FORM = object({
  format_version = schema.integer({ min = 1 }),
  session_id = filled,
  source = object({ path = optional(words), commit = optional(words), version = optional(words) }),
  installed = object({ commit = optional(words), version = optional(words) }),
  conflicts = schema.array(object({
    id = filled, path = filled, reason = words, base_from = optional(words),
    base = optional(side), ours = optional(side), theirs = optional(side),
    merged = optional(object({ file = filled, sha256 = filled, size = size })),
    remembered = optional(answer), remembered_sha256 = optional(words), answer = optional(answer),
  })),
})

-- ---------------------------------------------------------------------------------------------
-- Names

--- The name of a session's folder, relative to the target.
---@param session_id string
---@return string
function conflicts.folder(session_id) return ".upgrade/" .. PREFIX .. session_id end

-- An editor tells from the end of a name what is in a file.
local function ending(path) return path:match("[^/](%.%w+)$") or "" end

--- The name of a file of a conflict, relative to the session's folder of conflicts. It is made from
--- the id and the end of the path: what conflicts.json says is not asked.
---@param conflict { id: string, path: string }
---@param which "base"|"ours"|"theirs"|"merged"
---@return string
function conflicts.file_of(conflict, which)
  local dot = ending(conflict.path)
  return ("%s/%s%s"):format(conflict.id, which, #dot <= 16 and dot or "")
end

--- What is said of a folder that was moved out of the way, and not deleted.
---@param path string
---@return string
function conflicts.kept_words(path)
  return "what somebody wrote among the conflicts is kept in " .. text.visible(path)
    .. "; delete it when you need nothing of it"
end

--- The absolute path of a file of a conflict.
---@param doc table from conflicts.read
---@param conflict table
---@param which string
---@return string
function conflicts.path_of(doc, conflict, which)
  return doc.folder .. "/" .. conflicts.file_of(conflict, which)
end

-- ---------------------------------------------------------------------------------------------
-- Reading

-- Without its nulls: they stand for what is not there.
local function without_nulls(value)
  if type(value) ~= "table" then return value end
  for key, of in pairs(value) do
    if of == json.null then value[key] = nil else without_nulls(of) end
  end
  return value
end

-- What the types cannot say.
local function is_consistent(dict, session_id)
  if dict.session_id ~= session_id then
    return nil, "session_id: it is not of the session " .. session_id
  end
  local known = {}
  for i, conflict in ipairs(dict.conflicts) do
    local at = ("conflicts[%d].id"):format(i)
    if not conflict.id:find("^%x+$") or #conflict.id ~= 12 then
      return nil, at .. ": not 12 hexadecimal digits"
    elseif known[conflict.id] then
      return nil, at .. ": " .. conflict.id .. " is there twice"
    end
    known[conflict.id] = true
  end
  return true
end

-- The file as it came, checked.
local function parse(data, session_id)
  local dict, message = json.decode(data, { max_bytes = conflicts.MAX_BYTES })
  if type(dict) ~= "table" then return nil, message or "not an object" end
  local version = dict.format_version
  if math.type(version) == "integer" and version > FORMAT_VERSION then
    return nil, ("format %d; this praxlua reads up to %d"):format(version, FORMAT_VERSION)
  end
  local ok
  ok, message = schema.check(FORM, without_nulls(dict), "")
  if ok then ok, message = is_consistent(dict, session_id) end
  if not ok then return nil, (message:gsub("^%.", "")) end
  return dict
end

-- A file of the folder. No link on the way is followed.
local function read_file(target, session_id, name, limit)
  local root, message, code = core.root.open(target)
  if not root then return nil, message, code end
  local data
  data, message, code = root:read(conflicts.folder(session_id) .. "/" .. name, limit)
  root:close()
  return data, message, code
end

--- The conflicts of a session, as they are written down.
---@param target string
---@param session_id string
---@return table|nil doc { target, session_id, folder: absolute path, dict: conflicts.json }
---@return string? message
---@return string? code "ENOENT": none are; "EDAMAGED" | errno
function conflicts.read(target, session_id)
  local path = target .. "/" .. conflicts.folder(session_id)
  local data, message, code = read_file(target, session_id, NAME, conflicts.MAX_BYTES)
  if not data then return nil, message, code end
  local dict
  dict, message = parse(data, session_id)
  if not dict then
    return nil, ("%s/%s cannot be read: %s"):format(text.visible(path), NAME, message), "EDAMAGED"
  end
  return { target = target, session_id = session_id, folder = path, dict = dict }
end

--- A side's content.
---@param doc table
---@param conflict table
---@param which "base"|"ours"|"theirs"
---@return string|nil data
---@return string? message
---@return string? code
function conflicts.side(doc, conflict, which)
  return read_file(doc.target, doc.session_id, conflicts.file_of(conflict, which),
    conflicts.SIDE_BYTES)
end

-- ---------------------------------------------------------------------------------------------
-- What a person merged

-- A line that looks like a mark may be meant: then one of the sides has as many of them.
local function mark_left(doc, conflict, data)
  local counts, first = marks.count(data)
  local allowed = {}
  for _, which in ipairs(next(counts) and conflicts.SIDES or {}) do
    for mark, n in pairs(marks.count(conflicts.side(doc, conflict, which) or "")) do
      allowed[mark] = math.max(allowed[mark] or 0, n)
    end
  end
  local line, left
  for mark, n in pairs(counts) do
    local is_left = n > (allowed[mark] or 0)
    if is_left and (not line or first[mark] < line) then line, left = first[mark], mark end
  end
  return line, left
end

local function has_content(of) return of ~= nil and (of.size or 0) > 0 end

--- What a person made of the two sides.
---@param doc table
---@param conflict table
---@return string|nil data
---@return string? message why it cannot be taken
---@return string? code "ENOTTEXT" | "EMARKS" | "EEMPTY" | errno
function conflicts.merged(doc, conflict)
  if not conflict.merged then
    return nil, text.visible(conflict.path) .. " cannot be merged by hand: not every side of it is "
      .. "text that is small enough; answer ours or theirs", "ENOTTEXT"
  end
  local name = conflicts.file_of(conflict, "merged")
  local path = text.visible(doc.folder .. "/" .. name)
  local data, message, code = read_file(doc.target, doc.session_id, name, conflicts.MERGED_BYTES)
  if not data then return nil, message, code end
  if data:find("\0", 1, true) then return nil, path .. " is no text", "ENOTTEXT" end
  if data == "" and has_content(conflict.ours) and has_content(conflict.theirs) then -- an accident
    return nil, path .. " is empty; to have an empty file, leave one line end in it", "EEMPTY"
  end
  local line, mark = mark_left(doc, conflict, data)
  if line then
    return nil, ("%s still holds a conflict mark: line %d begins with %s"):format(path, line, mark),
      "EMARKS"
  end
  return data
end

-- ---------------------------------------------------------------------------------------------
-- Writing

local function save(doc)
  local dict = {}
  for key, value in pairs(doc.dict) do dict[key] = value end
  dict.conflicts = json.array()
  for i, conflict in ipairs(doc.dict.conflicts) do
    local copy = {}
    for key, value in pairs(conflict) do copy[key] = value end
    for _, name in ipairs({ "base", "ours", "theirs", "merged", "remembered", "answer" }) do
      if copy[name] == nil then copy[name] = json.null end
    end
    dict.conflicts[i] = copy
  end
  return file.write_atomic(doc.folder .. "/" .. NAME,
    json.encode(dict, { pretty = true }) .. "\n")
end

-- A folder of ours, and nothing that stands for one.
local function make_folder(path)
  local ok, message, code = file.mkdir(path, PRIVATE)
  local stat = ok and file.stat(path)
  if stat and stat.type ~= "directory" then
    return nil, text.visible(path) .. " is no folder; move it away", "ENOTDIR"
  end
  return ok, message, code
end

local function described(id, name, data)
  if not id then return nil end
  return { id = id, file = data and name or nil, size = data and #data or nil }
end

-- What names the sides. One that stands under another path (one of the two was moved) is not in the
-- plan's entry.
local function ids_of_sides(entry, found)
  local ids = { base = entry.base, ours = entry["local"], theirs = entry.new }
  for _, which in ipairs(conflicts.SIDES) do
    ids[which] = ids[which] or found[which] and core.hash.sha256(found[which])
  end
  return ids
end

-- Writes the files of one conflict, and tells what conflicts.json says of them.
local function write_sides(doc, conflict, ids, found)
  local ok, message, code = make_folder(doc.folder .. "/" .. conflict.id)
  for _, which in ipairs(ok and conflicts.SIDES or {}) do
    local name = conflicts.file_of(conflict, which)
    conflict[which] = described(ids[which], name, found[which])
    if ok and found[which] then
      ok, message, code = file.write_atomic(doc.folder .. "/" .. name, found[which])
    end
  end
  if not ok then return nil, message, code end
  local merged = found.merged
  if not merged or #merged > conflicts.MERGED_BYTES then return true end
  local name = conflicts.file_of(conflict, "merged")
  conflict.merged = { file = name, sha256 = core.hash.sha256(merged), size = #merged }
  return file.write_atomic(doc.folder .. "/" .. name, conflict.draft or merged)
end

-- The path and the ids under which an answer is remembered.
local function key_of(conflict)
  local key = { path = conflict.path }
  for _, which in ipairs(conflicts.SIDES) do
    key[which] = conflict[which] and conflict[which].id
  end
  return key
end

local function make_conflict(ctx, doc, entry, recall)
  local conflict = { id = entry.id, path = entry.path, reason = entry.reason,
    base_from = entry.base_from }
  local found, message, code = sides.of(ctx, entry)
  if not found then return nil, message, code end
  local ids = ids_of_sides(entry, found)
  local known, draft = recall({ path = entry.path, base = ids.base, ours = ids.ours,
    theirs = ids.theirs })
  conflict.draft = draft and draft.content
  if known then conflict.remembered, conflict.remembered_sha256 = known.answer, known.sha256 end
  local ok
  ok, message, code = write_sides(doc, conflict, ids, found)
  if not ok then return nil, message, code end
  conflict.draft = nil
  return conflict
end

-- The conflicts of a plan that a person decides about: those that are open, and those that were
-- answered.
local function of_plan(planned, resolutions)
  local found = {}
  for _, entry in ipairs(planned.entries) do
    local given = entry.id and resolutions and resolutions[entry.path]
    if entry.action == "conflict" or given and given.id == entry.id then
      found[#found + 1] = entry
    end
  end
  return found
end

local function by_id(list)
  local found = {}
  for _, conflict in ipairs(list) do found[conflict.id] = conflict end
  return found
end

-- What was written down before and is no conflict of the plan any more goes, unless it holds what a
-- person wrote and what is not remembered.
local function drop_old(before, known)
  local stays = {}
  for _, path in ipairs(strays.find(before) or folder.names(before.folder) or {}) do
    stays[path:match("^[^/]+")] = true
  end
  for _, name in ipairs(folder.names(before.folder) or {}) do
    if #name == 12 and name:find("^%x+$") and not known[name] and not stays[name] then
      core.tree.remove(before.folder .. "/" .. name)
    end
  end
end

-- A folder that holds somebody's work, or may hold it, goes where it is in nobody's way.
local function set_aside(doc)
  local wanted = doc.target .. "/.cache/" .. PREFIX .. doc.session_id
  local free, number = wanted, 1
  while file.exists(free) do
    number = number + 1
    free = wanted .. "-" .. number
  end
  local ok, message, code = file.mkdir(doc.target .. "/.cache")
  if ok then ok, message, code = file.rename(doc.folder, free) end
  if not ok then return nil, message, code end
  return free
end

-- A folder without a list that can be read.
local function unlisted(target, session_id)
  return { target = target, session_id = session_id, dict = { conflicts = {} },
    folder = target .. "/" .. conflicts.folder(session_id) }
end

-- Makes room for a list where there is a folder without one.
local function clear_unlisted(ctx, doc)
  local left = file.exists(doc.folder) and strays.find(doc)
  if not left or #left == 0 then return true end
  local kept, message, code = set_aside(doc)
  if not kept then return nil, message, code end
  ctx.warn(conflicts.kept_words(kept))
  return true
end

--- Writes the conflicts of a plan down. What was there before for the same ones stays: answers, and
--- what somebody merged.
---@param ctx table
---@param planned table
---@return table|nil doc
---@return string? message
---@return string? code
function conflicts.write(ctx, planned)
  local id = ctx.session.session_id
  local before = conflicts.read(ctx.target, id)
  local doc = unlisted(ctx.target, id)
  local ok, message, code = true, nil, nil
  if before then conflicts.remember(before) else ok, message, code = clear_unlisted(ctx, doc) end
  if not ok then return nil, message, code end
  local old, recall = by_id(before and before.dict.conflicts or {}), answers.open(ctx.target)
  doc.dict = { format_version = FORMAT_VERSION, session_id = id, conflicts = {},
    source = { path = ctx.source, commit = planned.source_commit,
      version = planned.source_version },
    installed = { commit = planned.installed_commit, version = planned.installed_version } }
  ok, message, code = make_folder(ctx.target .. "/.upgrade")
  if ok then ok, message, code = make_folder(doc.folder) end
  if not ok then return nil, message, code end
  for i, entry in ipairs(of_plan(planned, ctx.options.resolutions)) do
    local conflict = old[entry.id]
    if conflict then
      conflict.reason, conflict.base_from = entry.reason, entry.base_from
    else
      conflict, message, code = make_conflict(ctx, doc, entry, recall)
      if not conflict then return nil, message, code end
    end
    doc.dict.conflicts[i] = conflict
  end
  ok, message, code = save(doc)
  if not ok then return nil, message, code end
  if before then drop_old(before, by_id(doc.dict.conflicts)) end
  return doc
end

-- ---------------------------------------------------------------------------------------------
-- Answering

--- Whether nobody has decided about a conflict, or only with a merge that is not finished.
---@param doc table
---@param conflict table
---@return boolean
function conflicts.is_open(doc, conflict)
  if conflict.answer ~= "merged" then return conflict.answer == nil end
  return conflicts.merged(doc, conflict) == nil
end

--- The conflicts that are open.
---@param doc table
---@return table[]
function conflicts.open(doc)
  local found = {}
  for _, conflict in ipairs(doc.dict.conflicts) do
    if conflicts.is_open(doc, conflict) then found[#found + 1] = conflict end
  end
  return found
end

local function ids_of(doc)
  local ids = {}
  for i, conflict in ipairs(doc.dict.conflicts) do ids[i] = conflict.id end
  return text.head(table.concat(ids, "\n"), 20):gsub("\n", ", ")
end

--- The conflicts that a word means: an id, the beginning of one alone, or "all".
---@param doc table
---@param word string
---@return table[]|nil
---@return string? message
function conflicts.find(doc, word)
  if word == "all" then return doc.dict.conflicts end
  local found = {}
  for _, conflict in ipairs(doc.dict.conflicts) do
    if conflict.id == word or conflict.path == word then return { conflict } end
    local begins = #word >= 2 and conflict.id:sub(1, #word) == word:lower()
    if begins then found[#found + 1] = conflict end
  end
  if #found == 1 then return found end
  local problem = #found == 0 and "there is no conflict '%s'; the ids are %s"
    or "more than one conflict begins with '%s'; the ids are %s"
  return nil, problem:format(text.visible(word), (ids_of(doc)))
end

-- What is in the file of the merge; nil where there is none, or none that can be taken.
local function merge_file(doc, conflict)
  if not conflict.merged then return nil end
  return read_file(doc.target, doc.session_id, conflicts.file_of(conflict, "merged"),
    conflicts.MERGED_BYTES)
end

-- Puts the merge of last time into its file. Another one that a person began there stays.
local function put_merge(doc, conflict, data)
  local path = conflicts.path_of(doc, conflict, "merged")
  local there, _, code = merge_file(doc, conflict)
  local sum = there and core.hash.sha256(there)
  if not (code == "ENOENT" or sum == conflict.merged.sha256
    or sum and answers.contents(doc.target)[sum]) then
    return nil, ("%s holds another merge than that of last time: answer 'merged' to take it, or "
      .. "delete the file"):format(text.visible(path)), "EEXIST"
  end
  return file.write_atomic(path, data)
end

-- Takes over what was decided last time about the same three contents.
local function answer_as_before(doc, conflict)
  local known = answers.open(doc.target)(key_of(conflict))
  if not known then
    return nil, "nothing is remembered for " .. conflict.id .. " (" .. text.visible(conflict.path)
      .. "): answer ours, theirs or merged", "EINVAL"
  end
  if known.answer == "merged" and conflict.merged then
    local ok, message, code = put_merge(doc, conflict, known.content)
    if not ok then return nil, message, code end
  end
  return known.answer
end

--- Decides about a conflict. Nothing is written down before conflicts.save.
---@param doc table
---@param conflict table of it
---@param given string "ours", "theirs", "merged" or "remembered"
---@return true|nil
---@return string? message
---@return string? code
function conflicts.answer(doc, conflict, given)
  local message, code
  if given == "remembered" then
    given, message, code = answer_as_before(doc, conflict)
    if not given then return nil, message, code end
  end
  if not lists.has(answers.CHOICES, given) then
    return nil, ("'%s' is no answer; there are ours, theirs, merged and remembered")
      :format(text.visible(given)), "EINVAL"
  end
  if given == "merged" then
    local data
    data, message, code = conflicts.merged(doc, conflict)
    if not data then return nil, message, code end
  end
  conflict.answer = given
  return true
end

--- Remembers what was decided, and what somebody has begun to merge.
---@param doc table
---@return true|nil
---@return string? message
---@return string? code
function conflicts.remember(doc)
  local list = {}
  local function add(conflict, given, content)
    local entry = key_of(conflict)
    entry.answer, entry.content = given, content
    list[#list + 1] = entry
  end
  for _, conflict in ipairs(doc.dict.conflicts) do
    local given, merged = conflict.answer, merge_file(doc, conflict)
    local is_edited = merged and core.hash.sha256(merged) ~= conflict.merged.sha256
    if given == "merged" and not conflicts.merged(doc, conflict) then given = nil end
    if given then add(conflict, given, given == "merged" and merged or nil) end
    if given ~= "merged" and is_edited then add(conflict, "draft", merged) end
  end
  return answers.remember(doc.target, list)
end

--- Writes the answers down, and remembers them.
---@param doc table
---@return true|nil
---@return string? message
---@return string? code
function conflicts.save(doc)
  local ok, message, code = save(doc)
  if not ok then return nil, message, code end
  return conflicts.remember(doc)
end

-- Whether this was decided as it was last time, for the report.
local function is_remembered(conflict, content)
  return conflict.remembered == conflict.answer
    and (not content or core.hash.sha256(content) == conflict.remembered_sha256)
end

--- The answers as a plan takes them.
---@param doc table
---@return table<string, { answer: string, id: string, content: string?, remembered: boolean }>
---  resolutions by path
---@return string[] problems answers that cannot be taken, told
function conflicts.resolutions(doc)
  local found, problems = {}, {}
  for _, conflict in ipairs(doc.dict.conflicts) do
    local content, message
    if conflict.answer == "merged" then content, message = conflicts.merged(doc, conflict) end
    if message then
      problems[#problems + 1] = message
    elseif conflict.answer then
      found[conflict.path] = { answer = conflict.answer, id = conflict.id, content = content,
        remembered = is_remembered(conflict, content) }
    end
  end
  return found, problems
end

-- ---------------------------------------------------------------------------------------------
-- The end

--- Removes the conflicts of a session that is over, or is forgotten. Its answers are remembered. A
--- folder that holds what somebody wrote beside them, or may hold it, is moved into .cache.
---@param target string
---@param session_id string
---@return true|nil
---@return string? message; else where the folder is now, if it was moved
---@return string? code
function conflicts.close(target, session_id)
  local doc, _, ok, kept, message, code
  local bare = unlisted(target, session_id)
  if not file.exists(bare.folder) then return true end
  doc, _, code = conflicts.read(target, session_id)
  if doc then
    ok, message, code = conflicts.remember(doc)
    if not ok then return nil, message, code end
  end
  local left = (doc or code == "ENOENT") and strays.find(doc or bare)
  if left and #left == 0 then
    ok, message, code = core.tree.remove(bare.folder)
  else
    kept, message, code = set_aside(bare)
    ok = kept ~= nil
  end
  file.rmdir(target .. "/.upgrade") -- only when it is empty
  if not ok then return nil, message, code end
  return true, kept
end

--- Removes the folders of sessions that are over: a kill left them.
---@param target string
---@param tell fun(kept: string) called for each that was moved
function conflicts.sweep(target, tell)
  for _, name in ipairs(folder.names(target .. "/.upgrade") or {}) do
    local id = name:sub(1, #PREFIX) == PREFIX and name:sub(#PREFIX + 1)
    if id and state.is_session_id(id) then
      local session, _, code = state.load_state(target, id)
      local is_over = session and not state.is_active(session) or code == "ESTATENOTFOUND"
      local ok, kept
      if is_over then ok, kept = conflicts.close(target, id) end
      if ok and kept then tell(kept) end
    end
  end
end

return conflicts
