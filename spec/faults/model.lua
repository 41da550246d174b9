--- What a power cut may leave of a list of system calls, on any file system that keeps to POSIX.
--
-- The model knows inodes and directories; each call becomes one or more changes to them, which wait
-- until a sync makes them durable. At a cut every waiting change may be there or not, within these
-- rules:
--
--   1. fsync and fdatasync of a file: its content, size and mode are durable; the names of it are
--      not. ("fsync of a file does not necessarily ensure that the entry in the directory has also
--      reached disk": fsync(2) of the Linux man-pages.)
--   2. fsync of a directory: the names in it, and its own mode, are durable, with the inodes these
--      names lead to, but not the content of those. Its own name in its parent is not.
--   3. syncfs: everything before it. (syncfs(2); its errors are the errno campaign's matter.)
--   4. Without a sync there is no order between changes, not even between those of one process
--      (POSIX speaks of order only for what other processes see; Pillai et al., "All File Systems
--      Are Not Created Equal", OSDI 2014, section 3, take the same abstract persistence model as
--      the weakest one), but for one thing: changes of the same name in the same directory arrive
--      in the order they were made, because a directory entry is replaced, not merged.
--   5. A name is made, removed, or exchanged by one rename, at once: after rename(a, b) the name b
--      leads to the old inode or to the new one, never to nothing (rename(2): "it will be
--      atomically replaced, so that there is no point at which another process attempting to
--      access newpath will find it missing"; journaling file systems keep that across a cut).
--   6. A rename between two directories arrives whole, too, and is durable once either of them is
--      synced: xfstests generic/335 and generic/336 hold every file system with a journal to it
--      that the file is not lost then. With `half` the model is weaker than these (ext2 has no
--      journal): of a file or link both names may be there, or neither. Not of a directory: no
--      repair of a file system leaves one with two parents.
--   7. A write of n bytes may arrive whole, not at all, with its first half only, or as zeros where
--      it made the file longer (delayed allocation; the size is a change of the inode, the data is
--      not). A truncation and a change of mode arrive or do not.
--   8. A file without a name is gone, and so is what hangs on a directory without one.
--
-- Times, owners and extended attributes are not modelled, nothing here looks at them.
--
-- A model covers one stretch between two full syncs: `base` is the tree at its beginning.
local model = {}

local OPEN = { O_CREAT = 64, O_EXCL = 128, O_TRUNC = 512 }
local RENAME_EXCHANGE = 2

-- ---------------------------------------------------------------------------------------------
-- The tree

--- A tree from its entries, parents before what is in them; "" is the root.
---@param entries { path: string, type: "file"|"directory"|"link", mode: integer, inode: integer,
---  target: string?, size: integer?, digest: string?, read: (fun(): string)? }[]
---@return table base
function model.base(entries)
  local base = { inodes = {}, at = {} }
  for _, entry in ipairs(entries) do
    local id = "i" .. entry.inode
    local inode = base.inodes[id]
    if not inode then
      inode = {
        id = id, inode = entry.inode, type = entry.type, mode = entry.mode, target = entry.target,
        size = entry.size, digest = entry.digest, read = entry.read, path = entry.path,
        names = entry.type == "directory" and {} or nil,
      }
      base.inodes[id] = inode
    end
    if entry.path == "" then
      base.root = id
    else
      local parent, name = entry.path:match("^(.-)/?([^/]+)$")
      base.at[parent].names[name] = id
    end
    if inode.names then base.at[entry.path] = inode end
  end
  return base
end

-- The names of a directory as they are after every call so far.
local function live_names(m, id)
  if not m.live[id] then
    local names = {}
    for name, child in pairs(m.inodes[id].names or {}) do names[name] = child end
    m.live[id] = names
  end
  return m.live[id]
end

-- The id at a path, and the directory and name it has; id nil where there is nothing.
local function find(m, path)
  local id, directory, name = m.root, nil, nil
  for part in path:gmatch("[^/]+") do
    if not id or m.inodes[id].type ~= "directory" then return nil end
    directory, name = id, part
    id = live_names(m, id)[part]
  end
  return id, directory, name
end

-- ---------------------------------------------------------------------------------------------
-- Calls become changes

local function add(m, change)
  change.index = #m.changes + 1
  change.call = m.calls
  m.changes[change.index] = change
  return change
end

-- A change of names: { { directory, name, id or false }, … }; it needs the last waiting change of
-- each of these names.
local function set_names(m, sets, verb)
  local change = add(m, { kind = "names", sets = sets, verb = verb, needs = {} })
  for _, set in ipairs(sets) do
    local key = set[1] .. "/" .. set[2]
    if m.last_of_name[key] then change.needs[#change.needs + 1] = m.last_of_name[key] end
    m.last_of_name[key] = change.index
    live_names(m, set[1])[set[2]] = set[3] or nil
  end
end

local function create(m, call, kind, target)
  local id, directory, name = find(m, call.path)
  if id or not directory then return end
  m.created = m.created + 1
  id = "n" .. m.created
  m.inodes[id] = {
    id = id, order = m.created, inode = call.inode, type = kind, mode = call.mode or 384, size = 0,
    target = target, names = kind == "directory" and {} or nil,
  }
  m.new[m.created] = id
  m.sizes[id] = 0
  set_names(m, { { directory, name, id } }, kind)
  return id
end

local function size_of(m, id) return m.sizes[id] or m.inodes[id].size or 0 end

local function cut_to(m, id, size)
  if not id or size_of(m, id) == size then return end
  m.sizes[id] = size
  add(m, { kind = "size", inode = id, size = size })
end

local calls = {}

function calls.open(m, call)
  local flags = call.flags or OPEN.O_CREAT
  local id = find(m, call.path)
  if not id and flags & OPEN.O_CREAT ~= 0 then return create(m, call, "file") end
  if id and flags & OPEN.O_TRUNC ~= 0 then cut_to(m, id, 0) end
end

function calls.mkdir(m, call) create(m, call, "directory") end
function calls.symlink(m, call) create(m, call, "link", call.target) end

function calls.write(m, call)
  local id = find(m, call.path)
  local data = call.data or ""
  if not id or #data == 0 then return end
  local offset = call.offset or size_of(m, id)
  add(m, { kind = "data", inode = id, offset = offset, data = data })
  m.sizes[id] = math.max(size_of(m, id), offset + #data)
end

function calls.truncate(m, call) cut_to(m, find(m, call.path), call.size) end

local KEEP_SIZE = 1

function calls.fallocate(m, call)
  local id = find(m, call.path)
  local stop = (call.offset or 0) + (call.size or 0)
  local grows = (call.flags or 0) & KEEP_SIZE == 0
  if grows and id and stop > size_of(m, id) then cut_to(m, id, stop) end
end

function calls.chmod(m, call)
  local id = find(m, call.path)
  if id then add(m, { kind = "mode", inode = id, mode = call.mode }) end
end

function calls.link(m, call)
  local id = find(m, call.path)
  local there, directory, name = find(m, call.path2)
  if id and directory and not there then set_names(m, { { directory, name, id } }, "link") end
end

function calls.unlink(m, call)
  local id, directory, name = find(m, call.path)
  if id then set_names(m, { { directory, name, false } }, "unlink") end
end

calls.rmdir = calls.unlink

function calls.rename(m, call)
  local id, from, old = find(m, call.path)
  local there, to, new = find(m, call.path2)
  if not id or not to then return end
  if (call.flags or 0) & RENAME_EXCHANGE ~= 0 then
    set_names(m, { { from, old, there }, { to, new, id } }, "exchange")
  elseif there ~= id then
    set_names(m, { { from, old, false }, { to, new, id } }, "rename")
  end
end

-- Makes changes durable, with what they need.
local function settle(m, index)
  local change = m.changes[index]
  if change.synced then return end
  change.synced = m.calls
  for _, needed in ipairs(change.needs or {}) do settle(m, needed) end
end

local function touches(change, id)
  if change.kind ~= "names" then return change.inode == id end
  for _, set in ipairs(change.sets) do
    if set[1] == id then return true end
  end
  return false
end

function calls.fsync(m, call)
  local id = find(m, call.path)
  for index, change in ipairs(m.changes) do
    if id and touches(change, id) then settle(m, index) end
  end
end

function calls.syncfs(m)
  for index in ipairs(m.changes) do settle(m, index) end
end

-- The names that the kernel has for each of them.
local SAME = {
  creat = "open", openat = "open", openat2 = "open", mkdirat = "mkdir", symlinkat = "symlink",
  linkat = "link", renameat = "rename", renameat2 = "rename", pwrite64 = "write", writev = "write",
  pwritev = "write", pwritev2 = "write", copy_file_range = "write", sendfile = "write",
  ftruncate = "truncate", fchmod = "chmod", fchmodat = "chmod", fchmodat2 = "chmod",
  fdatasync = "fsync", sync = "syncfs",
}
local UNSEEN = {}
for name in ("chown fchown lchown fchownat utimensat flock fcntl setxattr lsetxattr fsetxattr "
  .. "removexattr"):gmatch("%S+") do UNSEEN[name] = true end
local AT_REMOVEDIR = 512

local function handler(call)
  local name = call.name
  if name == "unlinkat" then
    name = (call.flags or 0) & AT_REMOVEDIR ~= 0 and "rmdir" or "unlink"
  end
  name = SAME[name] or name
  if UNSEEN[name] then return nil end
  return calls[name] or error("the model does not know the call " .. call.name)
end

--- The model of a stretch of calls. Paths are relative to the root of the tree.
---@param base table of model.base
---@param list { name: string, path: string, path2: string?, result: integer?, flags: integer?,
---  mode: integer?, size: integer?, offset: integer?, data: string?, target: string?,
---  inode: integer? }[] calls that failed are passed over
---@return table m with `calls`, how many there are
function model.new(base, list)
  local m = {
    root = base.root, inodes = setmetatable({}, { __index = base.inodes }), base = base,
    changes = {}, new = {}, live = {}, sizes = {}, last_of_name = {}, created = 0, calls = 0,
  }
  for _, call in ipairs(list) do
    m.calls = m.calls + 1
    local act = handler(call)
    if act and (call.result or 0) >= 0 then act(m, call) end
  end
  return m
end

--- The changes that wait at a cut after the first `cut` calls, and those that are durable.
---@param m table
---@param cut integer
---@return table[] waiting
---@return table[] durable
function model.waiting(m, cut)
  local waiting, durable = {}, {}
  for _, change in ipairs(m.changes) do
    if change.call > cut then break end
    local list = change.synced and change.synced <= cut and durable or waiting
    list[#list + 1] = change
  end
  return waiting, durable
end

-- ---------------------------------------------------------------------------------------------
-- States

-- How much of a change arrives: "all", or for a write "half" or "zeros", for a rename between two
-- directories "both" names or "neither".
local function arrive(s, change, how)
  if change.kind == "names" then
    local left_out = ({ both = 1, neither = 2 })[how] -- the end of the old name, the new one
    for i, set in ipairs(change.sets) do
      if i ~= left_out then
        s.names[set[1]] = s.names[set[1]] or {}
        s.names[set[1]][set[2]] = set[3]
      end
    end
  else
    s.inodes[change.inode] = s.inodes[change.inode] or { writes = {} }
    local inode = s.inodes[change.inode]
    if change.kind == "mode" then
      inode.mode = change.mode
    else
      local data = change.data
      if how == "half" then data = data:sub(1, #data // 2) end
      if how == "zeros" then data = ("\0"):rep(#data) end
      inode.writes[#inode.writes + 1] = { offset = change.offset, data = data, size = change.size }
    end
  end
end

--- The state with everything durable and the chosen ones of the waiting changes.
---@param m table
---@param cut integer
---@param chosen table<integer, string> index of a change -> "all", "half", "zeros", "both",
---  "neither"
---@return table state
function model.state(m, cut, chosen)
  local s = { names = {}, inodes = {}, cut = cut }
  for _, change in ipairs(m.changes) do
    if change.call > cut then break end
    local durable = change.synced and change.synced <= cut
    local how = durable and "all" or chosen[change.index]
    if how then arrive(s, change, how) end
  end
  return s
end

-- What a state has at a name; nil for nothing.
local function value(m, s, directory, name)
  local set = s.names[directory] and s.names[directory][name]
  if set == nil then return (m.inodes[directory].names or {})[name] end
  return set or nil
end

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- A file's content in a state; nil when it is the base's.
---@return string|nil
function model.content(m, s, id)
  local changed = s.inodes[id]
  if not changed or #changed.writes == 0 then return nil end
  local inode = m.inodes[id]
  local data = inode.read and inode.read() or ""
  for _, write in ipairs(changed.writes) do
    if write.size then
      data = data:sub(1, write.size) .. ("\0"):rep(write.size - #data)
    else
      data = data .. ("\0"):rep(write.offset - #data)
      data = data:sub(1, write.offset) .. write.data .. data:sub(write.offset + #write.data + 1)
    end
  end
  return data
end

--- What a state changes of the base, as a text: equal texts, equal states.
---@return string
function model.key(m, s)
  local parts = {}
  for _, directory in ipairs(sorted(s.names)) do
    for _, name in ipairs(sorted(s.names[directory])) do
      local is, was = value(m, s, directory, name), (m.inodes[directory].names or {})[name]
      if is ~= was then
        parts[#parts + 1] = ("%s/%s=%s"):format(directory, name, is or "")
      end
    end
  end
  for _, id in ipairs(sorted(s.inodes)) do
    local changed = s.inodes[id]
    parts[#parts + 1] = ("%s %s %s"):format(id, changed.mode or "", model.content(m, s, id) or "=")
  end
  return table.concat(parts, "\n")
end

--- Every path of a state.
---@return table<string, { id: string, type: string, mode: integer, target: string?,
---  content: string|nil }> by path; content nil: as in the base
function model.tree(m, s)
  local found = {}
  local function visit(id, path)
    local inode, changed = m.inodes[id], s.inodes[id]
    found[path] = {
      id = id, type = inode.type, mode = changed and changed.mode or inode.mode,
      target = inode.target,
      content = model.content(m, s, id) or (inode.order and inode.type == "file" and "" or nil),
    }
    if inode.type ~= "directory" then return end
    local names = {}
    for name in pairs(inode.names) do names[name] = true end
    for name in pairs(s.names[id] or {}) do names[name] = true end
    for name in pairs(names) do
      local child = value(m, s, id, name)
      if child then visit(child, path == "" and name or path .. "/" .. name) end
    end
  end
  visit(m.root, "")
  return found
end

-- ---------------------------------------------------------------------------------------------
-- Which states there are

-- Everything a change needs that waits, too.
local function with_needed(m, cut, chosen)
  local function need(index)
    local change = m.changes[index]
    if change.synced and change.synced <= cut or chosen[index] then return end
    chosen[index] = "all"
    for _, needed in ipairs(change.needs or {}) do need(needed) end
  end
  for _, index in ipairs(sorted(chosen)) do
    for _, needed in ipairs(m.changes[index].needs or {}) do need(needed) end
  end
  return chosen
end

-- Without the changes that need one that is lost.
local function without_needing(m, waiting, chosen, cut)
  for _, change in ipairs(waiting) do
    for _, needed in ipairs(change.needs or {}) do
      local other = m.changes[needed]
      if not (other.synced and other.synced <= cut) and not chosen[needed] then
        chosen[change.index] = nil
      end
    end
  end
  return chosen
end

local function all_of(waiting, test)
  local chosen = {}
  for _, change in ipairs(waiting) do
    if not test or test(change) then chosen[change.index] = "all" end
  end
  return chosen
end

local function crosses(change)
  return change.verb == "rename" and change.sets[1][1] ~= change.sets[2][1]
end

-- Whether a rename may arrive by half: not that of a directory.
local function may_be_half(m, change)
  return crosses(change) and m.inodes[change.sets[2][3]].type ~= "directory"
end

local RANDOM_SUBSETS = 3

--- The kinds of states, see model.states.
model.KINDS = { "none", "all", "names", "content", "lost", "alone", "torn", "zeros", "alone-zeros",
  "random", "both", "neither", "alone-both", "alone-neither" }

--- The states worth looking at, at one cut: everything lost ("none"), everything there ("all"),
--- names without content and content without names, each change "lost" or there "alone", writes
--- that arrived in part ("torn", "zeros", "alone-zeros"), and "random" subsets.
---@param m table
---@param cut integer
---@param half boolean? rule 6 in its weaker form, too: "both", "neither", "alone-both" and
---  "alone-neither"
---@return { kind: string, number: integer }[]
function model.states(m, cut, half)
  local list = { { kind = "none", number = 0 } }
  local function add_state(kind, number) list[#list + 1] = { kind = kind, number = number } end
  local waiting = model.waiting(m, cut)
  if #waiting == 0 then return list end
  for _, kind in ipairs({ "all", "names", "content" }) do add_state(kind, 0) end
  for _, change in ipairs(waiting) do
    add_state("lost", change.index)
    add_state("alone", change.index)
    if change.kind == "data" then
      for _, kind in ipairs({ "torn", "zeros", "alone-zeros" }) do add_state(kind, change.index) end
    elseif half and change.kind == "names" and may_be_half(m, change) then
      for _, kind in ipairs({ "both", "neither", "alone-both", "alone-neither" }) do
        add_state(kind, change.index)
      end
    end
  end
  for i = 1, RANDOM_SUBSETS do add_state("random", i) end
  return list
end

local function is_name(change) return change.kind == "names" end
local function is_content(change) return change.kind ~= "names" end

-- How much of the change in question arrives; nil: nothing of it.
local HOW = { torn = "half", zeros = "zeros", both = "both", ["alone-zeros"] = "zeros",
  ["alone-both"] = "both", neither = "neither", ["alone-neither"] = "neither", alone = "all" }

--- Which of the waiting changes arrive in one of these states.
---@param m table
---@param cut integer
---@param kind string
---@param number integer of the change
---@param random (fun(n: integer): integer)? from 1 to n; for "random"
---@return table<integer, string> chosen for model.state
function model.chosen(m, cut, kind, number, random)
  local waiting = model.waiting(m, cut)
  if kind == "none" then return {} end
  if kind == "content" then return all_of(waiting, is_content) end
  if kind:find("^alone") then return with_needed(m, cut, { [number] = HOW[kind] }) end
  local test = kind == "names" and is_name
    or kind == "random" and function() return random(2) == 1 end or nil
  local chosen = all_of(waiting, test)
  if number > 0 and kind ~= "random" then chosen[number] = HOW[kind] end
  return without_needing(m, waiting, chosen, cut)
end

-- ---------------------------------------------------------------------------------------------
-- From the base to a state

local function word(text)
  local coded = tostring(text):gsub("[^%w%./_%-]", function(c)
    return ("%%%02x"):format(c:byte())
  end)
  return coded
end

local function line(lines, ...)
  local words = {}
  for i, text in ipairs({ ... }) do words[i] = word(text) end
  lines[#lines + 1] = table.concat(words, " ")
end

local HOLD = ".praxlua-hold"

-- Makes the new inodes in the order in which they were made, whether they are seen in the end or
-- not, so that they get the numbers that they had; and gives inodes their content and mode.
local function make_inodes(m, s, lines, hold)
  for _, id in ipairs(m.new) do
    local inode = m.inodes[id]
    local verb = ({ file = "create", directory = "mkdir", link = "symlink" })[inode.type]
    hold[id] = HOLD .. "/" .. id
    line(lines, verb, hold[id], inode.target or inode.inode or 0, inode.target and inode.inode or 0)
    if inode.type ~= "link" then line(lines, "chmod", hold[id], ("%o"):format(inode.mode)) end
  end
  for _, id in ipairs(sorted(s.inodes)) do
    local place = hold[id] or m.inodes[id].path
    local content = model.content(m, s, id)
    if content then
      line(lines, "truncate", place, 0)
      local size = #content
      local data = content:gsub("%z+$", "")
      if #data > 0 then line(lines, "write", place, 0, data) end
      line(lines, "truncate", place, size)
    end
    if s.inodes[id].mode then line(lines, "chmod", place, ("%o"):format(s.inodes[id].mode)) end
  end
end

local function depth(path) return path == "" and 0 or select(2, path:gsub("/", "")) + 1 end

local function join(directory, name) return directory == "" and name or directory .. "/" .. name end

-- Names that are to go, or to lead elsewhere, are moved out of the way, the deepest first.
local function take_out(m, s, lines, hold)
  local out = {}
  for _, directory in ipairs(sorted(s.names)) do
    local inode = m.inodes[directory]
    for _, name in ipairs(sorted(s.names[directory])) do
      local was = not inode.order and inode.names[name]
      local is = value(m, s, directory, name)
      if was and was ~= is then out[#out + 1] = { path = join(inode.path, name), id = was } end
      if is and is ~= was and not hold[is] and m.inodes[is].type ~= "directory" then
        hold[is] = HOLD .. "/" .. is
        line(lines, "link", m.inodes[is].path, hold[is])
      end
    end
  end
  table.sort(out, function(a, b)
    local da, db = depth(a.path), depth(b.path)
    if da ~= db then return da > db end
    return a.path < b.path
  end)
  for i, entry in ipairs(out) do
    local place = HOLD .. "/out" .. i
    line(lines, "rename", entry.path, place)
    if m.inodes[entry.id].type == "directory" then hold[entry.id] = place end
  end
end

local function put_in(m, s, lines, hold)
  local function visit(id, path)
    local inode = m.inodes[id]
    local names = {}
    for name in pairs(inode.names) do names[name] = true end
    for name in pairs(s.names[id] or {}) do names[name] = true end
    for _, name in ipairs(sorted(names)) do
      local is, was = value(m, s, id, name), not inode.order and inode.names[name] or nil
      local place = join(path, name)
      if is and m.inodes[is].type == "directory" then
        if is ~= was then line(lines, "rename", hold[is], place) end
        visit(is, place)
      elseif is and is ~= was then
        line(lines, "link", hold[is], place)
      end
    end
  end
  visit(m.root, "")
end

--- How to make a state of the base: the text for `volume replay`.
---@param m table
---@param s table of model.state
---@return string plan
function model.plan(m, s)
  local lines, hold = {}, {}
  line(lines, "mkdir", HOLD)
  make_inodes(m, s, lines, hold)
  take_out(m, s, lines, hold)
  put_in(m, s, lines, hold)
  line(lines, "clear", HOLD)
  return table.concat(lines, "\n") .. "\n"
end

return model
