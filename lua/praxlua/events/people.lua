--- The events as people read them on a terminal or in a log: one function an event.
local clock = require("praxlua.clock")
local grants = require("praxlua.grants")
local origin = require("praxlua.origin")
local text = require("praxlua.text")

local people = {}

local TITLE_COLUMNS = 34

--- The ends that are no failure.
people.GOOD = { completed = true, nothing_to_do = true, dry_run = true }

local function phase_label(view, event)
  local title = view.titles[event.phase] or event.phase
  local at = event.number and string.format("%d", event.number) or "+"
  return at, title
end

-- "  ok      2  Content upgrade                     1.2 s  12 files updated"
local function phase_line(view, event, verdict, style, tail)
  local at, title = phase_label(view, event)
  view.terminal.line("  ", { style, text.pad(verdict, 6) }, "  ", at, "  ",
    text.pad(text.visible(title), TITLE_COLUMNS), " ",
    text.pad(clock.seconds(event.seconds), 11, true), tail and "  " or "", tail or "")
end

--- How each event is written, by its name: (view, event), where a view is { terminal, titles = the
-- titles of the phases so far, verbose }.
local show = {}

function show.session_started(view, event)
  local t = view.terminal
  view.dry_run = event.dry_run
  local versions = {}
  if event.from_version or event.to_version then
    versions = { event.from_version or "unknown", " " .. t.sign("arrow") .. " ",
      event.to_version or "unknown" }
  end
  local verb = event.resumed and "Resuming the upgrade of " or "Upgrading "
  if event.dry_run then verb = "Dry run: what an upgrade would do to " end
  t.line({ "bold", verb }, { "bold", event.target })
  local rows = {}
  if event.source then rows[#rows + 1] = { { "dim", "from" }, event.source } end
  if #versions > 0 then rows[#rows + 1] = { { "dim", "version" }, table.concat(versions) } end
  if event.session_id then rows[#rows + 1] = { { "dim", "session" }, event.session_id } end
  t.table(rows, { indent = 2 })
end

-- Whoever tries an upgrade out wants to know what would run, and with which rights; whoever makes
-- one, what runs beside the phases of praxlua.
function show.phases(view, event)
  local rows = {}
  for _, phase in ipairs(event.phases) do
    if view.dry_run or phase.from then
      rows[#rows + 1] = {
        phase.number and string.format("%d", phase.number) or "+", phase.id,
        { "dim", phase.manual and "waits for" or "may use" },
        phase.manual and "a person" or grants.describe(phase.grants), phase.from or "",
      }
    end
  end
  if #rows == 0 then return end
  view.terminal.line({ "bold", view.dry_run and "Phases that would run:"
    or "Phases that are not praxlua's own:" })
  view.terminal.table(rows, { indent = 2 })
end

function show.phase_started(view, event)
  view.titles[event.phase] = event.title
  local of = event.index and event.total and string.format(" (%d of %d)", event.index, event.total)
  view.terminal.progress("  " .. event.title .. (of or "") .. view.terminal.sign("ellipsis"))
end

function show.waiting(view, event)
  local t, rows = view.terminal, {}
  if event.problem then t.line({ "yellow", "not accepted: " }, event.problem) end
  t.line({ "bold", event.title })
  t.paragraph(event.text, nil, "  ")
  for i, field in ipairs(event.fields) do
    rows[i] = { field.name, field.type, field.optional and "(may be left out)" or "" }
  end
  t.line({ "dim", "What is to be told when it is done:" })
  t.table(rows, { indent = 2 })
end

function show.phase_progress(view, event)
  view.terminal.progress("  " .. (view.titles[event.phase] or event.phase) .. ": " .. event.text,
    event.fraction)
end

function show.not_run(view, event)
  view.terminal.line("  ", { "dim", "not run  " .. event.what })
end

function show.phase_completed(view, event)
  phase_line(view, event, "ok", "green", event.summary)
end

function show.phase_failed(view, event)
  local t = view.terminal
  view.failed = true
  phase_line(view, event, "failed", "red", event.verdict)
  t.error({
    what = event.message, next = event.next,
    where = event.where or "phase " .. (view.titles[event.phase] or event.phase),
  })
end

local COUNTED = {
  { "new_files", "new" }, { "updated_files", "updated" }, { "merged_files", "merged" },
  { "removed_files", "removed" },
  { "local_only", "yours, kept" }, { "conflicts", "in conflict" },
  { "unchanged_files", "unchanged" },
}

local ACTION_STYLES = {
  add = "green", update = "blue", merge = "cyan", remove = "red", keep = "dim",
  unchanged = "dim", conflict = "yellow",
}

function show.plan(view, event)
  local t, parts = view.terminal, {}
  for _, counted in ipairs(COUNTED) do
    local n = event.counts[counted[1]]
    if n > 0 then parts[#parts + 1] = string.format("%d %s", n, counted[2]) end
  end
  local driven = event.driver and event.driver ~= "built-in"
  t.line({ "bold", "Plan: " }, #parts > 0 and table.concat(parts, ", ") or "nothing to do",
    driven and ", decided by " .. event.driver or "")
  if not view.dry_run then return end
  if event.base_from then
    t.line("  what was shipped before is known: ", { "dim", origin.describe(event.base_from) })
  end
  local rows = {}
  for _, action in ipairs(event.actions or {}) do
    if action.action ~= "unchanged" then
      rows[#rows + 1] = {
        { ACTION_STYLES[action.action], action.action }, action.path,
        { "dim", action.reason or "" },
      }
    end
  end
  t.table(rows, { indent = 2 })
  t.line("  plan ", { "dim", event.hash })
end

local SIGN_STYLES = { ["+"] = "green", ["-"] = "red", ["@"] = "cyan" }

local TAB = 8 -- columns

-- A line with its tabs as blanks: what is shown is to stand as it does in the file. The first
-- column is the sign's.
local function expanded(line)
  local out, width = {}, -1
  for part, tab in line:gmatch("([^\t]*)(\t?)") do
    width = width + text.width(part)
    out[#out + 1] = part
    if tab ~= "" then
      local fill = TAB - width % TAB
      out[#out + 1], width = string.rep(" ", fill), width + fill
    end
  end
  return table.concat(out)
end

--- Writes what changes in one file.
---@param t table terminal
---@param file table { path, action, reason?, diff, notes } of praxlua.comparison
function people.show_difference(t, file)
  t.line({ ACTION_STYLES[file.action], file.action }, " ", { "bold", file.path }, "  ",
    { "dim", file.reason or "" })
  for _, note in ipairs(file.notes) do t.line("  ", { "dim", note }) end
  local count = 0
  for line in file.diff:gmatch("([^\n]*)\n") do
    count = count + 1
    local style = count <= 2 and "bold" or SIGN_STYLES[line:sub(1, 1)]
    local shown = line:find("\t", 1, true) and expanded(line) or line
    -- A line is shown without blanks at its end, which here may be all that differs.
    if SIGN_STYLES[shown:sub(1, 1)] then shown = shown:gsub(" $", "\\x20") end
    t.line(style and { style, shown } or shown)
  end
end

function show.difference(view, event) people.show_difference(view.terminal, event) end

local DECIDED = { answer = "as answered", remembered = "as last time", policy = "by policy" }

function show.conflict(view, event)
  local tail = event.resolution and "  resolved: " .. event.resolution or ""
  local by = DECIDED[event.decided_by]
  view.terminal.line({ event.resolution and "dim" or "yellow", "conflict " }, event.id, "  ",
    { "bold", event.path }, "  ", event.reason, tail, by and " (" .. by .. ")" or "")
end

-- The one who asks writes the question itself when somebody is there to answer; what is left to
-- show is what was decided.
function show.question(view, event)
  if event.answer then
    view.terminal.line({ "dim", event.question .. " " }, event.answer)
  end
end

function show.warning(view, event)
  view.terminal.line({ "yellow", "warning: " }, event.message)
end

local LOUD = { warning = "yellow", error = "red", critical = "red" }

function show.log(view, event)
  local style = LOUD[event.level]
  if style then
    view.terminal.line({ style, event.level .. ": " }, event.message)
  elseif view.verbose then
    view.terminal.line({ "dim", event.message })
  end
end

function show.server_log(view, event) view.terminal.line(event.line) end

function show.rollback_started(view, event)
  view.terminal.line({ "yellow", "Rolling back: " }, event.reason)
  view.terminal.progress("  Rolling back" .. view.terminal.sign("ellipsis"))
end

function show.undo_command(view, event)
  view.terminal.line({ event.success and "dim" or "red",
    event.success and "  undone by: " or "  not undone: " }, event.command, "  (phase ",
    event.phase, ")")
end

-- The steps that took long enough to be told of.
local STEPS = { { "stop_server", "stopping the server" }, { "undo_commands", "undo commands" },
  { "files", "files" }, { "environment", "packages" }, { "start_server", "the server's start" } }
local WORTH_TELLING = 0.1 -- seconds

local function steps_of(event)
  local told = {}
  for _, step in ipairs(STEPS) do
    local took = event.steps and event.steps[step[1]] or 0
    if took >= WORTH_TELLING then told[#told + 1] = step[2] .. " " .. clock.seconds(took) end
  end
  return #told > 0 and " (" .. table.concat(told, ", ") .. ")" or ""
end

function show.rollback_completed(view, event)
  local t = view.terminal
  local server = ""
  if event.server_healthy ~= nil then
    server = event.server_healthy and "; the server answers" or "; the server does not answer"
  end
  if event.success then
    t.line({ "green", "Rolled back" }, " in ", clock.seconds(event.seconds), steps_of(event),
      server)
  else
    t.error({ what = "the rollback did not complete" .. server, where = event.message,
      next = "run praxlua rollback again; nothing it needs has been deleted" })
  end
end

function show.report(view, event)
  if event.path and event.path ~= "" then view.terminal.line("Report: ", event.path) end
end

function show.result() end

local ENDINGS = {
  completed = "Done.", nothing_to_do = "Nothing to do.",
  dry_run = "Dry run complete; nothing was changed.",
  refused = "Refused before any change.", waiting = "Waiting for an answer; see above.",
  rolled_back = "The upgrade failed and was rolled back; the installation is as before.",
  failed = "Failed.",
  rollback_failed = "The rollback did not complete.",
  busy = "Another upgrade of this target is running.", usage = "Usage error.",
  interrupted = "Interrupted; the installation is as before.",
}

function show.finished(view, event)
  -- The cause stands above already when a phase failed; the end need not repeat it.
  local is_told = view.failed and event.status ~= "failed"
  local what = not is_told and event.message or ENDINGS[event.status]
  if people.GOOD[event.status] then
    view.terminal.line({ "green", what })
    if event.next then view.terminal.error({ next = event.next }) end
  elseif event.status == "waiting" then -- a person is asked; nothing went wrong
    view.terminal.line({ "yellow", what })
    view.terminal.error({ next = event.next })
  elseif event.where or event.next then
    view.terminal.error({ what = what, where = event.where, next = event.next })
  else
    view.terminal.line({ "red", what })
  end
end

--- Writes one event, which must meet its schema.
---@param view { terminal: table, titles: table<string, string>, verbose: boolean? }
---@param event table
function people.show(view, event) show[event.event](view, event) end

return people
