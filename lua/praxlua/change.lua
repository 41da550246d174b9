--- The change interface: how services change files inside the transaction.
--
-- Paths are relative to the project. Changes are queued until apply, which switches all of them or
-- none. The open transaction (praxlua.core.transaction) does the work; this module adds the
-- folders on the way, lets one path be changed twice in a row, and knows how to hand a whole
-- directory to a tool that writes in place.
local core = require("praxlua.core")

local change = {}

local function parents(path)
  local all = {}
  for at in path:gmatch("[^/]()/") do all[#all + 1] = path:sub(1, at - 1) end
  return all
end

--- A change interface over an open transaction.
---@param transaction userdata from core.transaction.open
---@param project string absolute path of the transaction's root
---@param folder string absolute path of the transaction's own folder
---@return table changes with the functions below
function change.new(transaction, project, folder)
  local self = {}
  local queued, known, left = {}, {}, nil

  local function forget() queued, known, left = {}, {}, nil end

  local function failed(message, code)
    transaction:clear()
    forget()
    return nil, message, code
  end

  -- A second change of a path must find the first one done.
  local function settle(path)
    if not queued[path] then return true end
    return self.apply()
  end

  local function make_parents(path)
    for _, parent in ipairs(parents(path)) do
      if not known[parent] then
        local ok, changed, code = settle(parent)
        if ok then ok, changed, code = transaction:mkdir(parent) end
        if not ok then return nil, changed, code end
        known[parent] = true
        if changed == true then queued[parent] = true end
      end
    end
    return true
  end

  local function queue(path, needs_parents, method, ...)
    local ok, message, code = settle(path)
    if ok and needs_parents then ok, message, code = make_parents(path) end
    if not ok then return failed(message, code) end
    local changed
    ok, changed, code = transaction[method](transaction, path, ...)
    if not ok then return failed(changed, code) end
    if changed then queued[path], known[path] = true, nil end
    return true
  end

  --- Creates or replaces a file.
  ---@param path string
  ---@param content { data: string?, from: string? } the bytes, or the file to copy them from
  ---@param options { mode: integer?, old: string|false|nil, sha256: string? }? mode: the old file's
  ---  when nil; old: the hash the present file must have, false for none; sha256: of the new one
  function self.put(path, content, options)
    local all = { data = content.data, from = content.from }
    for name, value in pairs(options or {}) do all[name] = value end
    return queue(path, true, "put", all)
  end

  --- Creates or replaces a symbolic link.
  function self.symlink(path, target, options)
    return queue(path, true, "symlink", target, options)
  end

  --- Removes a file or link; a missing one is fine.
  function self.remove(path, options) return queue(path, false, "remove", options) end

  --- Makes a directory and those above it.
  ---@param path string
  ---@param options { mode: integer? }? what the umask leaves when nil
  function self.mkdir(path, options)
    local ok, message, code = queue(path, true, "mkdir", options)
    if not ok then return nil, message, code end
    known[path] = true
    return true
  end

  --- Sets the permission bits of a directory.
  function self.mode(path, mode) return queue(path, false, "mode", mode) end

  --- Removes a directory if it is empty by the time of apply.
  function self.rmdir(path) return queue(path, false, "rmdir") end

  --- Applies what is queued, all of it or nothing.
  ---@return { changed: integer }|nil
  ---@return string? message
  ---@return string? code "ECHANGED" when somebody changed a path meanwhile
  function self.apply()
    local count, message, code = transaction:apply()
    forget()
    if not count then return nil, message, code end
    return { changed = count }
  end

  --- A place for a directory that is made beside, in the transaction's own folder; it goes with
  --- that, unless it is switched in.
  ---@return integer number for switch
  ---@return string path absolute; nothing is there yet
  function self.stage()
    local number, name = transaction:stage()
    return number, folder .. "/" .. name
  end

  --- Exchanges a directory for the one that was made at a staged place; the original is the undo.
  --- What is queued is applied before.
  ---@param path string
  ---@param number integer of stage
  function self.switch(path, number)
    local ok, message, code = self.apply()
    if not ok then return nil, message, code end
    ok, message, code = transaction:exchange(path, number)
    if not ok then return failed(message, code) end
    return self.apply()
  end

  --- Replaces a directory by a copy of another one; the original is the undo.
  ---@param path string
  ---@param from string absolute path of a directory
  function self.replace(path, from)
    local ok, message, code = self.apply()
    if not ok then return nil, message, code end
    local number, place = self.stage()
    ok, message, code = core.tree.copy(from, place)
    if not ok then return nil, message, code end
    return self.switch(path, number)
  end

  --- The last change of a path that is in force, without what is only queued; nil for none.
  ---@param path string
  ---@return { path: string, kind: string, after: string|false }|nil
  function self.last(path)
    if not left then
      left = {}
      for _, done in ipairs(transaction:changes()) do left[done.path] = done end
    end
    return left[path]
  end

  --- The present content of a file.
  ---@return string|nil data
  function self.read(path)
    local root, message, code = core.root.open(project)
    if not root then return nil, message, code end
    local data
    data, message, code = root:read(path)
    root:close()
    return data, message, code
  end

  return self
end

return change
