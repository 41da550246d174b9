--- Conflicts at a terminal: what one is about, how its sides differ, and the question what to do.
--
-- Everything goes through the terminal, which lets no name and no line of a file be taken for one
-- of ours, or for something a terminal obeys.
local conflicts = require("praxlua.conflicts")
local core = require("praxlua.core")
local diff = require("praxlua.conflicts.diff")
local origin = require("praxlua.origin")
local text = require("praxlua.text")

local screen = {}

local SHORT, LONG = 14, 400 -- lines of a diff

local function described(side)
  if not side then return "nothing" end
  local link = side.id:match("^link:(.*)$")
  if link then return "a link to " .. link end
  return side.size and text.bytes(side.size) or "a folder"
end

--- What a conflict is about.
---@param t table a terminal
---@param conflict table of praxlua.conflicts
---@param title string
function screen.facts(t, conflict, title)
  t.line("")
  t.line({ "yellow", title }, { "bold", conflict.path })
  local known_by = conflict.base and origin.word(conflict.base_from)
  local base = described(conflict.base) .. (known_by and ", known by " .. known_by or "")
  if conflict.base_from == "unknown" then base = "not known" end
  t.table({
    { { "dim", "id" }, conflict.id }, { { "dim", "why" }, conflict.reason },
    { { "dim", diff.NAMES.base }, base },
    { { "dim", diff.NAMES.ours }, described(conflict.ours) },
    { { "dim", diff.NAMES.theirs }, described(conflict.theirs) },
  }, { indent = 2 })
end

local STYLES = { ["+"] = "green", ["-"] = "red", ["@"] = "cyan" }

--- Shows how two sides differ.
---@param t table
---@param doc table
---@param conflict table
---@param from string
---@param to string
---@param limit integer? lines
function screen.diff(t, doc, conflict, from, to, limit)
  local lines, message = diff.lines(doc, conflict, from, to)
  if not lines then return t.line({ "yellow", "no diff can be shown: " }, message) end
  local shown = math.min(#lines, limit or LONG)
  for i = 1, shown do
    local style = i > 2 and STYLES[lines[i]:sub(1, 1)] or "dim"
    t.line("  ", style and { style, lines[i] } or lines[i])
  end
  if shown < #lines then
    t.line({ "dim", ("  (and %s; the files are in %s)"):format(
      text.plural(#lines - shown, "more line", "more lines"), doc.folder .. "/" .. conflict.id) })
  end
end

--- Lets a person merge the sides in an editor.
---@param t table
---@param doc table
---@param conflict table
---@return boolean merged false: what is in the file cannot be taken, and the person was told why
function screen.edit(t, doc, conflict)
  if conflict.merged then
    local environment = core.system.environment()
    local editor = environment.VISUAL or ""
    if editor == "" then editor = environment.EDITOR or "" end
    if editor == "" then editor = "vi" end
    local ended, message = core.foreground.run({ "/bin/sh", "-c", editor .. ' "$@"', editor,
      conflicts.path_of(doc, conflict, "merged") })
    if not ended or ended.code ~= 0 then
      if ended then
        message = ended.signal ~= 0 and "it was ended by signal " .. ended.signal
          or "its exit code is " .. ended.code
      end
      t.line({ "yellow", "not taken, as the editor failed: " }, editor, ": ", message,
        "; what you wrote is kept, and EDITOR names another one")
      return false
    end
  end
  local data, message = conflicts.merged(doc, conflict)
  if not data then t.line({ "yellow", "not taken: " }, message) end
  return data ~= nil
end

local function choices_for(conflict)
  local remembered = conflict.remembered
  local last = "; your answer last time"
  local list = {
    { key = "ours", label = "keep yours" .. (remembered == "ours" and last or "") },
    { key = "theirs", label = "take what is shipped now; yours stays in the backup"
      .. (remembered == "theirs" and last or "") },
  }
  if remembered == "merged" then
    list[#list + 1] = { key = "merged", label = "take the merge you made last time" }
  end
  if conflict.merged then
    list[#list + 1] = { key = "edit", label = "merge the two in your editor" }
  end
  for _, more in ipairs({
    { key = "diff ours", label = "show what you changed" },
    { key = "diff theirs", label = "show what upstream changed" },
    { key = "later", label = "decide later; the upgrade waits" },
    { key = "abort", label = "end the upgrade; nothing was changed" },
  }) do list[#list + 1] = more end
  return list
end

-- What a choice comes to: the answer, or nil to ask once more.
local function act(t, question, key)
  local doc, conflict = question.doc, question.conflict
  local side = key:match("^diff (.*)$")
  if side then
    screen.diff(t, doc, conflict, "base", side)
    return nil
  end
  if key == "merged" then return "remembered" end
  if key ~= "edit" then return key end
  if screen.edit(t, doc, conflict) then return "merged" end
  return nil
end

--- Asks about one conflict.
---@param t table a terminal
---@param question { doc: table, conflict: table, index: integer, total: integer }
---@return "ours"|"theirs"|"merged"|"remembered"|"later"|"abort" answer
function screen.ask(t, question)
  local conflict = question.conflict
  screen.facts(t, conflict, ("Conflict %d of %d: "):format(question.index, question.total))
  screen.diff(t, question.doc, conflict, "ours", "theirs", SHORT)
  while not core.system.interrupted() do
    local key, how = t.ask("What is to become of it?", choices_for(conflict),
      conflict.remembered or "later")
    if how == "eof" or core.system.interrupted() then return "abort" end
    if how == "unclear" then return "later" end
    local answer = act(t, question, key)
    if answer then return answer end
  end
  return "abort"
end

return screen
