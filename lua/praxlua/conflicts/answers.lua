--- Answers to conflicts, remembered: what a person decided for one path between these three
-- contents is offered again when the same three meet once more. It is never applied unasked.
--
-- They lie in .cache/conflict-answers.json, a sealed document. A damaged one counts as none. What a
-- person began to merge by hand and did not answer with is kept as a "draft", beside the answer
-- there may be: nobody's work is lost because a session went.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local json = require("praxlua.json")
local schema = require("praxlua.schema")
local seal = require("praxlua.seal")

local answers = {}

local FORMAT_VERSION = 1
local PRIVATE = 384 -- 0600

--- Where they are, below the target.
answers.NAME = "/.cache/conflict-answers.json"
--- The most answers that are kept, and the most bytes of the file; the oldest go first.
answers.MOST = 200
answers.MAX_BYTES = 16 * 1024 * 1024

--- What can be decided about a conflict.
answers.CHOICES = { "ours", "theirs", "merged" }

local words = schema.string()
local FORM = schema.object({
  format_version = schema.integer({ min = 1, max = FORMAT_VERSION }),
  answers = schema.array(schema.object({
    path = schema.string({ min_length = 1 }), base = schema.optional(words),
    ours = schema.optional(words), theirs = schema.optional(words),
    answer = schema.string({ one_of = { "ours", "theirs", "merged", "draft" } }),
    sha256 = schema.optional(words), content = schema.optional(words), at = words,
  })),
})

-- What was remembered so far; the hash tells a content that is not whole.
local function read(target)
  local stat = core.file.stat(target .. answers.NAME)
  if not stat or stat.type ~= "file" then return {} end
  local data = core.file.read(target .. answers.NAME, answers.MAX_BYTES)
  local dict = data and seal.open(data, { max_bytes = answers.MAX_BYTES })
  if not dict or not schema.check(FORM, dict) then return {} end
  local found = {}
  for _, entry in ipairs(dict.answers) do
    local needs = entry.answer == "merged" or entry.answer == "draft"
    if not needs or entry.content and core.hash.sha256(entry.content) == entry.sha256 then
      found[#found + 1] = entry
    end
  end
  return found
end

-- The path and the ids of the three contents.
local function same(a, b)
  return a.path == b.path and a.base == b.base and a.ours == b.ours and a.theirs == b.theirs
end

local function is_draft(entry) return entry.answer == "draft" end

--- What was decided last time about the same three contents, and what was only begun.
---@param target string
---@return fun(key: { path: string, base: string?, ours: string?, theirs: string? }): table|nil,
---  table|nil find an entry { answer: "ours"|"theirs"|"merged", content: string?, sha256:
---  string? }; one whose answer is "draft"
function answers.open(target)
  local known = read(target)
  return function(key)
    local answer, draft
    for _, entry in ipairs(known) do
      if same(entry, key) then
        if is_draft(entry) then draft = entry else answer = entry end
      end
    end
    return answer, draft
  end
end

--- The contents that are remembered.
---@param target string
---@return table<string, true> set of their SHA-256
function answers.contents(target)
  local found = {}
  for _, entry in ipairs(read(target)) do
    if entry.content then found[entry.sha256] = true end
  end
  return found
end

local function encoded(list)
  return seal.encode({ format_version = FORMAT_VERSION, answers = json.array(list) })
end

-- The newest of them that fit into the file.
local function fitting(list)
  local from = math.max(1, #list - answers.MOST + 1)
  while true do
    local data = encoded(table.move(list, from, #list, 1, {}))
    if #data <= answers.MAX_BYTES or from > #list then return data end
    from = from + math.max(1, (#list - from) // 4)
  end
end

-- An answer replaces the one before it, and a draft a draft; what was merged to its end, both.
local function replaces(new, old)
  return same(new, old) and (new.answer == "merged" or is_draft(new) == is_draft(old))
end

-- The old entries that no new one replaces and the new ones, and whether any of them is new.
local function merged_lists(old, new)
  local kept, added = {}, {}
  for _, entry in ipairs(new) do
    local is_known = false
    for _, other in ipairs(old) do
      is_known = is_known or same(entry, other) and entry.answer == other.answer
        and entry.content == other.content
    end
    if not is_known then added[#added + 1] = entry end
  end
  for _, entry in ipairs(old) do
    local replaced = false
    for _, other in ipairs(added) do replaced = replaced or replaces(other, entry) end
    if not replaced then kept[#kept + 1] = entry end
  end
  table.move(added, 1, #added, #kept + 1, kept)
  return kept, #added > 0
end

--- Remembers answers. What is known already is not written again.
---@param target string
---@param new { path: string, base: string?, ours: string?, theirs: string?, answer: string,
---  content: string? }[] content: of "merged" and "draft"
---@return true|nil
---@return string? message
---@return string? code
function answers.remember(target, new)
  local list = {}
  for i, entry in ipairs(new) do
    list[i] = { path = entry.path, base = entry.base, ours = entry.ours, theirs = entry.theirs,
      answer = entry.answer, content = entry.content, at = clock.iso(),
      sha256 = entry.content and core.hash.sha256(entry.content) }
  end
  local all, is_new = merged_lists(read(target), list)
  if not is_new then return true end
  local ok, message, code = core.file.mkdir(target .. "/.cache")
  if not ok then return nil, message, code end
  return core.file.write_atomic(target .. answers.NAME, fitting(all), PRIVATE)
end

return answers
