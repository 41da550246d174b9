--- `praxlua conflicts`: the conflicts of an upgrade that waits, and the answers to them.
local conflicts = require("praxlua.conflicts")
local core = require("praxlua.core")
local decisions = require("praxlua.decisions")
local json = require("praxlua.json")
local run = require("praxlua.run")
local screen = require("praxlua.cli.conflict_screen")
local state = require("praxlua.state")
local text = require("praxlua.text")
local view = require("praxlua.cli.view")

local commands = {}

local LIST = "see them with: praxlua conflicts"

local function usage(message, next_step)
  return { exit_code = 2, status = "usage", message = message, next = next_step or LIST }
end

-- The session that is meant, or the end of the command.
local function choose(target, named)
  local ids = {}
  for _, session in ipairs(state.list_active_sessions(target)) do
    local waits = not session.problem and decisions.is_awaited(session)
    if waits and (not named or session.session_id == state.typed_id(named)) then
      ids[#ids + 1] = session.session_id
    end
  end
  if #ids == 1 then return ids[1] end
  if #ids > 1 then
    return nil, usage("more than one upgrade waits: " .. table.concat(ids, ", "),
      "name the session you mean")
  end
  if named then
    return nil, { exit_code = 3, status = "refused",
      message = "the session " .. text.visible(named) .. " does not wait for answers to conflicts",
      next = "see the sessions with: praxlua status" }
  end
  return nil, { exit_code = 0, status = "nothing_to_do",
    message = "No upgrade waits for answers to conflicts." }
end

local function unreadable(session_id, message, code)
  local next_step = "mend the file; or forget the upgrade with: praxlua rollback " .. session_id
    .. " and begin it again"
  if code == "ENOENT" then next_step = "have it written anew by: praxlua resume " .. session_id end
  return { exit_code = 3, status = "refused", message = message, next = next_step }
end

-- ---------------------------------------------------------------------------------------------
-- Answers

-- ID=ANSWER as it was typed.
local function typed(words)
  local given = {}
  for i, word in ipairs(words) do
    local id, answer = word:match("^(.+)=(%a+)$")
    if not id then
      return nil, "'" .. text.visible(word) .. "' is no answer; it is ID=ours, ID=theirs, "
        .. "ID=merged or ID=remembered"
    end
    given[i] = { id = id, answer = answer }
  end
  return given
end

-- The answers of a file: an object of them by id, or one in the form of conflicts.json.
local function of_file(path)
  local data, message = core.file.read(path, conflicts.MAX_BYTES)
  local dict
  if data then dict, message = json.decode(data, { max_bytes = conflicts.MAX_BYTES }) end
  if type(dict) ~= "table" then
    return nil, ("%s holds no answers: %s"):format(text.visible(path), message or "not an object")
  end
  local found = {}
  if type(dict.conflicts) == "table" then
    for _, entry in ipairs(dict.conflicts) do
      local answer = type(entry) == "table" and entry.answer
      if answer and answer ~= json.null then found[entry.id or ""] = answer end
    end
  else
    found = dict
  end
  local given = {}
  for id, answer in pairs(found) do
    if type(id) ~= "string" or type(answer) ~= "string" then
      return nil, text.visible(path) .. " holds no answers: it is an object of ids and answers, or "
        .. "like conflicts.json"
    end
    given[#given + 1] = { id = id, answer = answer }
  end
  table.sort(given, function(a, b) return a.id < b.id end)
  return given
end

-- Decides about those that a word means; "all" are those that nobody decided about.
local function decide(doc, given)
  local found, message = conflicts.find(doc, given.id)
  if not found then return nil, message end
  for _, conflict in ipairs(found) do
    local is_left = given.id == "all" and (not conflicts.is_open(doc, conflict)
      or given.answer == "remembered" and not conflict.remembered)
    if not is_left then
      local ok, problem, code = conflicts.answer(doc, conflict, given.answer)
      if not ok then return nil, problem, code, conflict.id end
    end
  end
  return true
end

-- A merge that is not finished is no wrong command.
local UNFINISHED = { EMARKS = true, ENOTTEXT = true, EEMPTY = true, EFBIG = true, EEXIST = true }

-- All of them, or none; nil, or the end of the command.
local function answer(doc, given)
  for _, one in ipairs(given) do
    local ok, message, code, id = decide(doc, one)
    if not ok and UNFINISHED[code] then
      return { exit_code = 4, status = "waiting", message = message,
        next = "merge it by hand with: praxlua conflicts --edit " .. id
          .. "\nor answer it with ours or theirs" }
    elseif not ok then
      return usage(message)
    end
  end
  local ok, message = conflicts.save(doc)
  if not ok then
    return { exit_code = 3, status = "refused", message = "the answers cannot be kept: " .. message,
      next = "mend the cause and run the same command again" }
  end
end

local function edit(doc, word, v)
  local found, message = conflicts.find(doc, word)
  if not found or #found ~= 1 then return usage(message or "--edit takes one conflict") end
  local path = conflicts.path_of(doc, found[1], "merged")
  if v.json or not (core.system.isatty(0) and core.system.isatty(1)) then
    return usage("--edit needs a terminal", "edit " .. text.quoted(path)
      .. "\nthen: praxlua conflicts --resolve " .. found[1].id .. "=merged")
  end
  if not screen.edit(v.terminal, doc, found[1]) then
    return { exit_code = 4, status = "waiting", message = "the conflict " .. found[1].id
      .. " stays open; what you wrote is kept", next = "go on with it: praxlua conflicts --edit "
      .. found[1].id }
  end
  return answer(doc, { { id = found[1].id, answer = "merged" } })
end

-- What the options ask to be decided; nil, or the end of the command.
local function change(doc, args, v)
  local given, message = typed(args.resolve)
  local from_file = given and args.answers and {}
  if from_file then from_file, message = of_file(args.answers) end
  if not given or args.answers and not from_file then return usage(message) end
  if from_file then given = table.move(given, 1, #given, #from_file + 1, from_file) end
  if #given > 0 then
    local result = answer(doc, given)
    if result then return result end
  end
  return args.edit and edit(doc, args.edit, v) or nil
end

-- ---------------------------------------------------------------------------------------------
-- Showing

local function show_list(t, doc)
  local rows = {}
  for i, conflict in ipairs(doc.dict.conflicts) do
    local given = { "green", conflict.answer }
    if conflicts.is_open(doc, conflict) then
      given = { "yellow", conflict.answer and "open; the merge is not finished"
        or conflict.remembered and "open; last time: " .. conflict.remembered or "open" }
    end
    rows[i] = { conflict.id, { "bold", conflict.path }, conflict.reason, given }
  end
  t.table(rows, { header = { "id", "path", "why", "answer" } })
  t.line({ "dim", "The files are in " .. doc.folder })
end

local function show_one(t, doc, conflict)
  screen.facts(t, conflict, "Conflict: ")
  if not conflict.base then return screen.diff(t, doc, conflict, "ours", "theirs") end
  screen.diff(t, doc, conflict, "base", "ours")
  t.line("")
  screen.diff(t, doc, conflict, "base", "theirs")
end

local function show(doc, args, v)
  local shown
  if args.show then
    local found, message = conflicts.find(doc, args.show)
    if not found then return usage(message) end
    shown = found
  end
  local open = conflicts.open(doc)
  v.result("conflicts", { session_id = doc.session_id, open = #open, folder = doc.folder,
    conflicts = decisions.listed(doc) }, function(t)
    if not shown then return show_list(t, doc) end
    for _, conflict in ipairs(shown) do show_one(t, doc, conflict) end
  end)
  local id = doc.session_id
  if #open == 0 then
    return { exit_code = 0, message = "Every conflict is answered.",
      next = "go on with: praxlua resume " .. id }
  end
  return { exit_code = 4, status = "waiting",
    message = text.plural(#open, "conflict is", "conflicts are") .. " open.",
    next = "answer each with: praxlua conflicts --resolve ID=ours (or theirs, or merged)\nlook at "
      .. "one with: praxlua conflicts --show ID\nmerge one by hand with: praxlua conflicts --edit "
      .. "ID\nthen: praxlua resume " .. id }
end

local function work(target, args, v)
  local id, result = choose(target, args.session_id)
  if not id then return result end
  local doc, message, code = conflicts.read(target, id)
  if not doc then return unreadable(id, message, code) end
  return change(doc, args, v) or show(doc, args, v)
end

--- `praxlua conflicts`
---@param args table
---@return integer exit code
function commands.conflicts(args)
  local v = view.new(args)
  local target, result = run.find_target(args.target)
  if not target then return v.finish(result) end
  if #args.resolve == 0 and not args.answers and not args.edit then -- it only looks
    return v.finish(work(target, args, v))
  end
  local r
  r, result = run.open({ target = target }, { emit = v.emit })
  if not r then return v.finish(result) end
  result = work(target, args, v)
  run.close(r)
  return v.finish(result)
end

return commands
