--- What has to be durable before what: rules over the recorded calls of one run.
--
-- Power cuts are tried by the cut families; these rules say, for every call of a run, that no cut
-- behind it can harm, and so they find each sync that is missing, in less than a second. They know
-- of a call only what POSIX promises: data and mode of a file are durable after an fsync of it,
-- names in a directory after an fsync of that, everything after a syncfs.
--
-- The installation is the project without praxlua's own folders and files. The rules:
--
--   content   what gets a name outside of .upgrade, or becomes a journal, has durable content
--   intent    before the installation changes, the journal is durable, and so are its name and
--             everything that was staged, or linked for an undo
--   done      before the journal says that something is complete (a checkpoint, an undo, the
--             commit), the installation is durable, and so are the backups
--   said      before the session's file is replaced, and before undo data goes, the journal is
--             durable
--   last      before undo data goes, the installation is durable
--   away      before a folder is emptied, its new name, by which it counts as gone, is durable
--   exit      at the end with exit code 0, everything but caches is durable
local order = {}

-- Kinds of journal records (runtime/transaction.h): the ones that say that something is complete.
local CHECKPOINT, UNDONE, COMMITTED = 3, 5, 6
local COMPLETE = { [CHECKPOINT] = true, [UNDONE] = true, [COMMITTED] = true }
local EXCHANGE = 2
local KEEP_SIZE = 1

-- ---------------------------------------------------------------------------------------------
-- What is not durable yet

local function split(path) return path:match("^(.*)/([^/]*)$") end

local function within(path, folder)
  return path == folder or path:sub(1, #folder + 1) == folder .. "/"
end

-- A disk has `content`, by inode { n, path }, and `names`, by path { n, made }: what was changed by
-- the n-th call and is not durable.
local function name_changed(disk, path, n, made) disk.names[path] = { n = n, made = made } end

-- What is noted for paths beneath `from` is now beneath `to`.
local function move(disk, from, to)
  local function moved(path)
    if within(path, from) then return to .. path:sub(#from + 1) end
    if within(path, to) then return from .. path:sub(#to + 1) end
    return path
  end
  local names = {}
  for path, change in pairs(disk.names) do
    -- The name itself stays where it is; what is in the folder goes with it.
    names[(path == from or path == to) and path or moved(path)] = change
  end
  disk.names = names
  for _, change in pairs(disk.content) do change.path = moved(change.path) end
end

local changes = {}

local function content_changed(disk, call)
  local path = call.fd_path or call.path
  if call.inode then disk.content[call.inode] = { n = call.n, path = path } end
end

changes.write, changes.attribute = content_changed, content_changed

function changes.size(disk, call)
  if call.name ~= "fallocate" or call.flags & KEEP_SIZE == 0 then content_changed(disk, call) end
end

local OPENS = { open = true, openat = true, openat2 = true, creat = true }

function changes.create(disk, call)
  if call.path2 then -- a hard link
    name_changed(disk, call.path2, call.n, true)
  else
    name_changed(disk, call.path, call.n, true)
    if OPENS[call.name] then content_changed(disk, call) end
  end
end

function changes.remove(disk, call) name_changed(disk, call.path, call.n) end

function changes.rename(disk, call)
  move(disk, call.path, call.path2)
  name_changed(disk, call.path, call.n)
  name_changed(disk, call.path2, call.n)
end

function changes.sync(disk, call)
  if call.name == "syncfs" or call.name == "sync" then
    disk.content, disk.names = {}, {}
    return
  end
  disk.content[call.inode] = nil
  for path in pairs(disk.names) do
    if split(path) == call.fd_path then disk.names[path] = nil end
  end
end

-- The first thing for which `test` holds that is not durable: content, then names; as text.
local function dirty(disk, test, made)
  local found
  local function look(path, change, what)
    if test(path) and (not made or change.made) and (not found or change.n < found.n) then
      found = { n = change.n, text = ("%s %s, changed by call %d, is not durable"):format(
        what, path, change.n) }
    end
  end
  for _, change in pairs(disk.content) do
    if not made then look(change.path, change, "the content of") end
  end
  for path, change in pairs(disk.names) do look(path, change, "the name") end
  return found and found.text
end

-- ---------------------------------------------------------------------------------------------
-- Places

local SESSION = "/%.upgrade/[^./][^/]*" -- the folder of a session that is not over

local function places_of(s)
  local own = s.target .. "/"
  local p = {}
  local function is_own(path)
    if not within(path, s.target) then return false end
    local name = path:sub(#own + 1):match("^[^/]*")
    return name == ".upgrade" or name == ".cache" or name == ".backups"
      or name:find("^%.+upgrade%-lock") ~= nil
  end
  function p.is_installed(path) return not is_own(path) and not path:find("%.px%-%d+%-%d+$") end
  function p.is_backup(path)
    return within(path, own .. ".backups") and not path:find("/%.backups/%.removing%-")
  end
  function p.is_journal(path) return path:find(SESSION .. "/journal[^/]*$") ~= nil end
  function p.is_session_folder(path) return path:find(SESSION .. "$") ~= nil end
  -- A journal, and the folders on the way to it.
  function p.is_found(path)
    return p.is_journal(path) or p.is_session_folder(path) or path == own .. ".upgrade"
      or path:find(SESSION .. "/stage$") ~= nil or path:find(SESSION .. "/undo$") ~= nil
  end
  function p.is_staged(path)
    return path:find(SESSION .. "/stage/") ~= nil or path:find(SESSION .. "/undo/") ~= nil
  end
  function p.is_undo_data(path)
    return path:find(SESSION .. "/undo/") ~= nil or p.is_journal(path)
  end
  function p.is_session(path) return path:find("/%.cache/state/[^/]*%.json$") ~= nil end
  return p
end

-- ---------------------------------------------------------------------------------------------
-- Rules: `concerns` says whether a call is one that the rule is about, `wrong` what is not durable
-- then and should be

-- Whether a call gives something a new name at path2.
local function names_at(call) return call.kind == "rename" or call.path2 ~= nil end

-- The names that a call takes into use, each with what gets it: { from, to, inode }.
local function named(p, call)
  local all = {}
  local function add(from, to, inode)
    if p.is_journal(to) or not to:find("/%.upgrade/") then
      all[#all + 1] = { from = from, to = to, inode = inode }
    end
  end
  if names_at(call) then add(call.path, call.path2, call.inode) end
  if call.kind == "rename" and call.flags == EXCHANGE then
    add(call.path2, call.path, call.inode2)
  end
  return all
end

local content = {}

function content.concerns(p, call) return #named(p, call) > 0 end

function content.wrong(p, disk, call)
  for _, one in ipairs(named(p, call)) do
    local change = disk.content[one.inode]
    if change then return ("%s, changed by call %d, is not durable"):format(one.from, change.n) end
    local text = dirty(disk, function(path) return path ~= one.from and within(path, one.from) end)
    if text then return text end
  end
end

local intent = {}

function intent.concerns(p, call)
  if call.kind == "sync" or call.kind == "lock" then return false end
  if call.kind == "create" and call.path2 then return p.is_installed(call.path2) end
  return p.is_installed(call.path or call.fd_path)
    or call.path2 ~= nil and p.is_installed(call.path2)
end

function intent.wrong(p, disk)
  return dirty(disk, p.is_found) or dirty(disk, p.is_staged, true)
    or dirty(disk, function(path) return p.is_staged(path) and not disk.names[path] end)
end

local done = {}

local function kind_of_record(p, call)
  local is_record = call.kind == "write" and p.is_journal(call.fd_path) and #call.data >= 8
  return is_record and string.unpack("<I4", call.data, 5) or nil
end

function done.concerns(p, call) return COMPLETE[kind_of_record(p, call)] ~= nil end

function done.wrong(p, disk) return dirty(disk, p.is_installed) or dirty(disk, p.is_backup) end

local function ends_a_session(p, call)
  return call.kind == "remove" and p.is_undo_data(call.path)
    or call.kind == "rename" and p.is_session_folder(call.path)
end

local said = {}

function said.concerns(p, call)
  return names_at(call) and p.is_session(call.path2) or ends_a_session(p, call)
end

function said.wrong(p, disk) return dirty(disk, p.is_journal) end

local last = { concerns = ends_a_session }

function last.wrong(p, disk) return dirty(disk, p.is_installed) end

local away = {}

local function folder_that_goes(call)
  local folder = call.path:match("^.*/%.backups/%.removing%-[^/]*")
    or call.path:match("^.*/%.upgrade/%.[^/]*")
  return folder ~= call.path and folder
end

function away.concerns(_, call) return call.kind == "remove" and folder_that_goes(call) end

function away.wrong(p, disk, call)
  local folder = folder_that_goes(call)
  return dirty(disk, function(path) return path == folder end) or dirty(disk, p.is_backup)
end

local RULES = {
  content = content, intent = intent, done = done, said = said, last = last, away = away,
}

local function at_exit(p, disk)
  return dirty(disk, p.is_installed) or dirty(disk, p.is_backup) or dirty(disk, p.is_session)
    or dirty(disk, p.is_session_folder)
end

-- ---------------------------------------------------------------------------------------------
-- A run

local function note(p, disk, call)
  local change = changes[call.kind]
  -- An undo may be done twice; that it is done need not be durable.
  if change and kind_of_record(p, call) ~= UNDONE then change(disk, call) end
end

--- What is wrong with the order in which a run made its changes durable.
---@param s { project: string, target: string }
---@param run table of tracer.run with who = "all" and data
---@return string[] problems
---@return integer count of the calls that a rule is about
function order.check(s, run)
  local p, disk, problems, count = places_of(s), { content = {}, names = {} }, {}, 0
  local function look(name, call, rule)
    if not rule.concerns(p, call) then return end
    count = count + 1
    local text = rule.wrong(p, disk, call)
    if not text then return end
    problems[#problems + 1] = ("call %d, %s %s: %s (rule %s)"):format(call.n, call.name,
      call.path2 or call.path or call.fd_path or "", text, name)
  end
  for _, call in ipairs(run.calls) do
    if (call.result or -1) >= 0 then
      for name, rule in pairs(call.role == "host" and RULES or {}) do look(name, call, rule) end
      note(p, disk, call)
    end
  end
  local text = run.code == 0 and at_exit(p, disk)
  if text then problems[#problems + 1] = ("at the end: %s (rule exit)"):format(text) end
  table.sort(problems)
  return problems, count
end

return order
