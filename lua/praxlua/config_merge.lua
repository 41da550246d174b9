--- Merging a configuration in JSON by key: the user's values win, keys that are new upstream are
-- added, and what upstream no longer has, or ships with another value now, is told.
--
-- The user's text stays as it is, its order, indentation and line ends included; new keys are
-- written behind the last key of their object. A key that was shipped before and that the user
-- removed stays away.
local json = require("praxlua.json")

local config_merge = {}

-- ---- the text as a tree ---------------------------------------------------------------------

-- A node is { text, from, to, members?, order? }: `to` is the last byte; members by key for an
-- object, order its keys as written, items the values of an array. The text is known to be JSON.
local parse

local function skip(s, at) return s:find("[^ \t\r\n]", at) end

local function parse_string(s, at)
  local stop = at + 1
  while s:sub(stop, stop) ~= '"' do stop = stop + (s:sub(stop, stop) == "\\" and 2 or 1) end
  return stop
end

local function parse_object(s, at)
  local node = { text = s, from = at, members = {}, order = {} }
  at = skip(s, at + 1)
  while s:sub(at, at) ~= "}" do
    if s:sub(at, at) == "," then at = skip(s, at + 1) end
    local stop = parse_string(s, at)
    local key = json.decode("[" .. s:sub(at, stop) .. "]")[1]
    local value = parse(s, skip(s, skip(s, stop + 1) + 1))
    value.key_from = at
    node.members[key], node.order[#node.order + 1] = value, key
    at = skip(s, value.to + 1)
  end
  node.to = at
  return node
end

local function parse_array(s, at)
  local node = { text = s, from = at, items = {} }
  at = skip(s, at + 1)
  while s:sub(at, at) ~= "]" do
    if s:sub(at, at) == "," then at = skip(s, at + 1) end
    local item = parse(s, at)
    node.items[#node.items + 1] = item
    at = skip(s, item.to + 1)
  end
  node.to = at
  return node
end

function parse(s, at)
  local c = s:sub(at, at)
  if c == "{" then return parse_object(s, at) end
  if c == "[" then return parse_array(s, at) end
  if c == '"' then return { text = s, from = at, to = parse_string(s, at) } end
  return { text = s, from = at, to = s:find("[%s,}%]]", at) and s:find("[%s,}%]]", at) - 1 or #s }
end

local function slice(node) return node.text:sub(node.from, node.to) end

-- ---- comparing ------------------------------------------------------------------------------

local function value_of(node) return json.encode(json.decode("[" .. slice(node) .. "]")) end

local function is_same(a, b) return a ~= nil and b ~= nil and value_of(a) == value_of(b) end

-- A key as people read it in a path: quoted where it is no plain word.
local function shown(path, key)
  local word = key:find("^[%w_-]+$") and key or json.encode(key)
  return path == "" and word or path .. "." .. word
end

-- ---- writing a new key ----------------------------------------------------------------------

-- A value of the other text in the style of this one: one line, or an indentation of its own.
local function written(node, style, indent)
  local inner = indent .. style.unit
  local parts = {}
  for i, key in ipairs(node.order or {}) do
    parts[i] = json.encode(key) .. ": " .. written(node.members[key], style, inner)
  end
  for i, item in ipairs(node.items or {}) do parts[i] = written(item, style, inner) end
  local open, close = "{", "}"
  if node.items then open, close = "[", "]" end
  if not node.items and not node.order then return slice(node) end
  if #parts == 0 then return open .. close end
  if not style.lines then return open .. table.concat(parts, ", ") .. close end
  return open .. style.lines .. inner .. table.concat(parts, "," .. style.lines .. inner)
    .. style.lines .. indent .. close
end

-- The whitespace in front of a key on its own line; nil where it follows something.
local function indent_of(text, at)
  return text:sub(1, at - 1):match("\n([ \t]*)$")
end

-- How an object of the user's is written: { lines = line end or false, unit, indent of its keys }.
local function style_of(node, root)
  local text = node.text
  local unit = root.order[1] and indent_of(text, root.members[root.order[1]].key_from)
  local lines = text:find("\r\n", 1, true) and "\r\n" or "\n"
  local first = node.order[1] and node.members[node.order[1]].key_from
  local indent = first and indent_of(text, first)
  if not first then -- an empty object: as its own line is, and one step
    local line = text:sub(1, node.from):match("([ \t]*)[^\n]*$")
    indent = unit and line .. unit
  end
  return { lines = indent and lines, unit = unit or "  ", indent = indent or "" }
end

local function note_addition(work, node, keys, theirs)
  local style, parts = style_of(node, work.root), {}
  for i, key in ipairs(keys) do
    parts[i] = json.encode(key) .. ": " .. written(theirs.members[key], style, style.indent)
  end
  local between = style.lines and style.lines .. style.indent or " "
  local text = table.concat(parts, "," .. between)
  local last = node.order[#node.order]
  if last then
    work.inserts[#work.inserts + 1] = { at = node.members[last].to, text = "," .. between .. text }
    return
  end
  local close = style.lines and style.lines .. style.indent:sub(1, -#style.unit - 1) or ""
  local replaced = (style.lines and style.lines .. style.indent or "") .. text .. close
  work.inserts[#work.inserts + 1] = { at = node.from, text = replaced, until_at = node.to }
end

-- ---- the merge ------------------------------------------------------------------------------

local function is_object(node) return node ~= nil and node.order ~= nil end

local function compare(work, path, base, ours, theirs)
  for _, key in ipairs(is_object(base) and base.order or {}) do
    if ours.members[key] and not theirs.members[key] then
      work.removed[#work.removed + 1] = shown(path, key)
    end
  end
  local missing = {}
  for _, key in ipairs(theirs.order) do
    local mine, new = ours.members[key], theirs.members[key]
    local before = is_object(base) and base.members[key] or nil
    local name = shown(path, key)
    if not mine and not before then
      missing[#missing + 1] = key
      work.added[#work.added + 1] = name
    elseif is_object(mine) and is_object(new) then
      compare(work, name, before, mine, new)
    elseif mine and before and is_same(mine, before) and not is_same(before, new) then
      work.defaults[#work.defaults + 1] = name
    end
  end
  if #missing > 0 then note_addition(work, ours, missing, theirs) end
end

local function with_inserts(text, inserts)
  table.sort(inserts, function(a, b) return a.at > b.at end)
  for _, insert in ipairs(inserts) do
    text = text:sub(1, insert.at) .. insert.text .. text:sub(insert.until_at or insert.at + 1)
  end
  return text
end

local function tree_of(data, whose)
  local value, message = json.decode(data)
  if value == nil then return nil, ("%s is no JSON (%s)"):format(whose, message), "EJSON" end
  local node = parse(data, skip(data, 1))
  if not is_object(node) then return nil, whose .. " is no JSON object", "EJSON" end
  return node
end

--- Merges a configuration.
---@param base string|nil what was shipped before, when it is known
---@param ours string the user's
---@param theirs string what is shipped now
---@return { text: string, added: string[], removed: string[], defaults: string[] }|nil merged the
---  paths of keys that are new, no longer shipped though still in the user's, and shipped with
---  another value now though the user has the old one
---@return string|nil message
---@return string|nil code "EJSON" when the user's or the new one is no JSON object
function config_merge.merge(base, ours, theirs)
  local mine, message, code = tree_of(ours, "yours")
  if not mine then return nil, message, code end
  local new
  new, message, code = tree_of(theirs, "the new one")
  if not new then return nil, message, code end
  local before = base and tree_of(base, "the old one") or nil
  local work = { root = mine, inserts = {}, added = {}, removed = {}, defaults = {} }
  compare(work, "", before, mine, new)
  return { text = with_inserts(ours, work.inserts), added = work.added, removed = work.removed,
    defaults = work.defaults }
end

return config_merge
