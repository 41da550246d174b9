--- What the specs of the transaction share: a tree with one of everything that can be changed, a
-- batch that changes all of it, and how to tell that a tree is as it was.
local child = require("spec.support.child")
local core = require("praxlua.core")
local helper = require("spec.support.helper")

local kit = {}

kit.PATH = ".px/0123abcd-session"
kit.NAMES = { "with space", "new\nline", "\255\254 not UTF-8", ("n"):rep(255), "-rf", "%s" }

--- Opens the transaction of a tree.
---@param root string
---@param create boolean?
function kit.open(root, create)
  return core.transaction.open(root, kit.PATH, { create = create, disposable = "__pycache__" })
end

--- A new directory in memory where the machine has that: for tests with hundreds of syncs.
---@return string path removed by helper.clean()
function kit.directory()
  local in_memory = core.system.access("/dev/shm", "w")
  return helper.tempdir(in_memory and "/dev/shm" or nil)
end

local function sh(line, ...) assert(os.execute(line:format(...))) end
kit.sh = sh

--- Fills a directory with one of everything.
function kit.make_tree(root)
  for _, name in ipairs(kit.NAMES) do helper.write(root .. "/names/" .. name, "old " .. name) end
  helper.tree(root, {
    ["same.txt"] = "same", ["changed.txt"] = "old", ["gone.txt"] = "gone", ["to-link"] = "file",
    ["emptied/only"] = "only", ["emptied/__pycache__/only.pyc"] = "cache",
    ["mixed/theirs"] = "theirs", ["moded/file"] = "x", ["venv/bin/tool"] = "old tool",
  })
  sh([[
    cd %s && ln -s here link && ln -s old to-file && ln -s gone gone-link && mkdir empty
    chmod 4751 changed.txt && chmod 640 to-link && chmod 750 emptied && chmod 711 empty
    touch -d '2001-02-03 04:05:06.123456789 UTC' changed.txt gone.txt to-link names/*
    touch -hd '2002-02-03 04:05:06.987654321 UTC' link to-file gone-link
  ]], root)
end

--- Queues one of every change. The tree must be make_tree's.
---@param t userdata
---@param root string
---@return integer count of the changes
function kit.queue_all(t, root)
  local count = 0
  local function queue(method, ...)
    local ok, changed = t[method](t, ...)
    assert(ok, changed)
    if changed then count = count + 1 end
  end
  queue("put", "same.txt", { data = "same" })
  queue("put", "changed.txt", { data = "new" })
  queue("mkdir", "made", { mode = 488 }) -- 0750
  queue("mkdir", "made/deep")
  queue("put", "made/deep/new.txt", { data = "", mode = 384 }) -- 0600
  queue("symlink", "made/link", "deep/new.txt")
  queue("symlink", "link", "there")
  queue("symlink", "to-link", "\255 target")
  queue("put", "to-file", { data = "a file now" })
  queue("remove", "gone.txt")
  queue("remove", "gone-link")
  queue("remove", "not there")
  queue("remove", "emptied/only")
  queue("rmdir", "emptied")
  queue("rmdir", "empty")
  queue("rmdir", "mixed")
  queue("mode", "moded", 448) -- 0700
  for i, name in ipairs(kit.NAMES) do
    if i % 3 == 0 then
      queue("remove", "names/" .. name)
    elseif i % 3 == 1 then
      queue("put", "names/" .. name, { data = "new " .. name })
    else
      queue("symlink", "names/" .. name, name)
    end
  end
  local number, place = t:stage()
  helper.write(root .. "/" .. kit.PATH .. "/" .. place .. "/bin/tool", "new tool")
  queue("exchange", "venv", number)
  return count
end

--- Runs Lua code that uses the kit in another process.
---@param code string sees core, kit and root
---@param root string
---@param before string? as for child.run
---@return string output
function kit.run(code, root, before)
  local prelude = ([[
    package.path = "./?.lua;" .. package.path
    local kit = require("spec.support.transaction_kit")
    local root = %q
  ]]):format(root)
  return (child.run(prelude .. code, before))
end

--- Everything in a tree but the transaction: for files and links also which inode it is, and when
--- it was written.
---@param root string
---@return table<string, string> by path
function kit.seen(root)
  local all = {}
  local entries = assert(core.tree.list(root, { skip = { [".px"] = true }, hash = true }))
  for _, entry in ipairs(entries) do
    local is_directory = entry.type == "directory"
    all[entry.path] = ("%s %o %s %s %s"):format(entry.type, entry.mode,
      entry.sha256 or entry.target or "", is_directory and "" or entry.mtime,
      is_directory and "" or entry.inode)
  end
  return all
end

--- The same as one text.
---@param root string
---@return string
function kit.portrait(root)
  local lines = {}
  for path, is in pairs(kit.seen(root)) do lines[#lines + 1] = path .. " " .. is end
  table.sort(lines)
  return table.concat(lines, "\n")
end

return kit
