--- Patterns over paths: `*` is any letters within one name, `?` one letter, `**` any folders.
--
-- A pattern without any of them names one file, or a folder with all that is in it. A pattern
-- begins where the paths begin. The time that matching takes is bounded by the product of the
-- lengths, whatever the pattern.
local base = require("praxlua.base")
local text = require("praxlua.text")

local glob = {}

--- The longest pattern, in bytes.
glob.MAX_BYTES = 4096

-- Whether a sequence of items meets a pattern of items, in which those that `is_many` stand for any
-- number of items. Only the last of those has to be tried again when the rest does not fit.
local function matches_all(items, pattern, is_many, fits)
  local i, p, retry_item, retry = 1, 1, nil, nil
  while i <= #items do
    if pattern[p] and is_many(pattern[p]) then
      retry, retry_item = p, i
      p = p + 1
    elseif pattern[p] and fits(pattern[p], items[i]) then
      i, p = i + 1, p + 1
    elseif retry then
      retry_item = retry_item + 1
      i, p = retry_item, retry + 1
    else
      return false
    end
  end
  while pattern[p] and is_many(pattern[p]) do p = p + 1 end
  return pattern[p] == nil
end

-- The characters of a name; a byte that is not UTF-8 counts as one.
local function letters(name)
  local list, at = {}, 1
  while at <= #name do
    local c = name:match("^" .. utf8.charpattern, at)
    if not c or not utf8.len(c) then c = name:sub(at, at) end
    list[#list + 1] = c
    at = at + #c
  end
  return list
end

local function is_star(letter) return letter == "*" end
local function letter_fits(wanted, letter) return wanted == "?" or wanted == letter end

local function is_deep(name) return name == "**" end

local function name_fits(wanted, name)
  if type(wanted) == "string" then return wanted == name end
  return matches_all(letters(name), wanted, is_star, letter_fits)
end

local function split(path)
  local names = {}
  for name in path:gmatch("[^/]+") do names[#names + 1] = name end
  return names
end

--- Prepares a pattern.
---@param pattern string
---@return table|nil prepared for glob.matches
---@return string? problem what is wrong with it
function glob.compile(pattern)
  if #pattern > glob.MAX_BYTES then
    return nil, "the pattern is longer than " .. glob.MAX_BYTES .. " bytes"
  end
  if not base.is_normal(pattern) then
    return nil, "'" .. text.visible(pattern) .. "' is no path within the installation (no '/' at "
      .. "its beginning or end, no '.' or '..' in it)"
  end
  local names = split(pattern)
  local prepared = { names = names, weight = 0 }
  prepared.exact = not pattern:find("[*?]") and pattern or nil
  for i, name in ipairs(names) do
    prepared.weight = prepared.weight + #name:gsub("[*?]", "")
    if name ~= "**" and name:find("**", 1, true) then
      return nil, "'**' stands alone between two '/', and not in '" .. text.visible(name) .. "'"
    end
    if name ~= "**" and name:find("[*?]") then names[i] = letters(name) end
  end
  return prepared
end

--- Whether a path meets a pattern.
---@param prepared table of glob.compile
---@param path string
---@return boolean
function glob.matches(prepared, path)
  local exact = prepared.exact
  if exact then return path == exact or path:sub(1, #exact + 1) == exact .. "/" end
  return matches_all(split(path), prepared.names, is_deep, name_fits)
end

--- Makes a look-up: the value of the pattern with the most letters that are neither `*` nor `?`
--- among those that a path meets; of two alike the first by the alphabet.
---@param by_pattern { pattern: string, answer: any }[]|nil
---@return fun(path: string): any
function glob.lookup(by_pattern)
  local list = {}
  for i, entry in ipairs(by_pattern or {}) do
    list[i] = { prepared = assert(glob.compile(entry.pattern)), pattern = entry.pattern,
      answer = entry.answer }
  end
  table.sort(list, function(a, b)
    if a.prepared.weight ~= b.prepared.weight then return a.prepared.weight > b.prepared.weight end
    return a.pattern < b.pattern
  end)
  return function(path)
    for _, entry in ipairs(list) do
      if glob.matches(entry.prepared, path) then return entry.answer end
    end
    return nil
  end
end

return glob
