--- The driver "safe-upgrade.py": the source's own script does the content upgrade on a private
-- copy, and what it made of that copy goes into the plan.
--
-- The script is believed nothing that can be looked at. Its questions are answered by our
-- decisions, what it did is told by comparing the copy before and after, and each difference is
-- held against the decision table: where the script leaves a file, the file is left; where it would
-- lose what a person did, the plan says so or asks. Whatever it does that was not expected ends the
-- plan with EDRIVER; nothing has been changed then.
--
-- It is not told of what it does badly: links, other types than files, names that could be mistaken
-- for something else on its output, files that were renamed. There our own decisions stand.
local core = require("praxlua.core")
local entries = require("praxlua.entries")
local dialogue = require("praxlua.driver.dialogue")
local git = require("praxlua.git")
local layout = require("praxlua.layout")
local output = require("praxlua.driver.output")
local process = require("praxlua.process")
local temporary = require("praxlua.temporary")
local text = require("praxlua.text")
local workspace = require("praxlua.driver.workspace")

local safe_upgrade = {}

--- What it is called, as an option and in a plan.
safe_upgrade.NAME = "safe-upgrade.py"

--- What one run of the script may take: seconds in all, seconds of silence behind a question that
--- is not known, bytes of output.
safe_upgrade.limits = { seconds = 300, silence = 5, output = 64 * 1024 * 1024 }

local WORDS = 400 -- bytes that are quoted of what it said

local function quote(words)
  words = words:match("^%s*(.-)%s*$")
  if #words > WORDS then words = "…" .. words:sub(-WORDS) end
  return text.visible(words)
end

local function fail(ctx, problem, ...)
  return nil, ("%s of %s cannot drive this upgrade: %s; nothing was changed; mend the script, or "
    .. "use praxlua's own decisions with --driver built-in"):format(safe_upgrade.NAME, ctx.source,
    problem:format(...)), "EDRIVER"
end

-- ---- which files it is told of --------------------------------------------------------------

local function is_file(id) return id ~= nil and #id == 64 and not id:find("%X") end

-- A name that stands for itself on one line of output.
local function is_plain(path) return utf8.len(path) ~= nil and text.visible(path) == path end

-- What stands in the way of looking at a path by itself: one name in two cases, what was renamed, a
-- file where a folder is needed.
local function obstacles(by_path)
  local found = { count = {}, moved = {}, standing = {} }
  for _, entry in pairs(by_path) do
    local folded = entry.path:lower()
    found.count[folded] = (found.count[folded] or 0) + 1
    found.standing[entry.path] = entry["local"]
    for _, other in ipairs({ entry.moved_from or entry.edited_at, entry.edited_at }) do
      found.moved[entry.path], found.moved[other] = true, true
    end
  end
  return found
end

local function is_blocked(path, found)
  if found.count[path:lower()] > 1 or found.moved[path] then return true end
  local at = path:match("^(.*)/[^/]*$")
  while at do
    if found.standing[at] then return true end
    at = at:match("^(.*)/[^/]*$")
  end
  return false
end

-- Whether the script can be told of an entry: a file that is shipped, or one that we would remove.
local function is_told(entry, found)
  if entry.replaces or not is_plain(entry.path) then return false end
  if is_blocked(entry.path, found) then return false end
  if entry["local"] and not is_file(entry["local"]) then return false end
  if entry.new then return is_file(entry.new) end
  return entry.action == "remove" and entry["local"] ~= nil
end

local function job_of(ctx, entry)
  local source_path = entry.source or layout.source_path(ctx.layout, entry.path)
  return { entry = entry, script = workspace.script_path(source_path),
    here = entry["local"] and entry.path, shipped = entry.new and source_path }
end

local function jobs_of(ctx, by_path)
  local components = workspace.components(ctx.layout)
  local found, jobs, by_script = obstacles(by_path), {}, {}
  for _, entry in pairs(by_path) do
    local ownership = components[entry.component] and layout.ownership_of(ctx.layout, entry.path)
    if (ownership == "system" or ownership == "shared") and is_told(entry, found) then
      local job = job_of(ctx, entry)
      jobs[#jobs + 1], by_script[job.script] = job, job
    end
  end
  table.sort(jobs, function(a, b) return a.script < b.script end)
  return jobs, by_script
end

-- ---- what it is answered --------------------------------------------------------------------

-- What stands at a path after the upgrade, as we would have it.
local function outcome(entry)
  if entries.writes(entry) then return entries.result_of(entry) end
  if entry.action == "remove" then return nil end
  return entry["local"]
end

local function answer_for(kind, entry)
  local wanted = entry.action ~= "conflict" and outcome(entry) == entry.new
  if kind == "add" then return wanted and "y" or "n" end
  if wanted then return "R" end
  return entry.action == "conflict" and "S" or "K"
end

-- Answers the questions of the real run; each file may be asked about once.
local function answerer(by_script, heard, asked)
  local replacing
  return function(question)
    local kind = output.prompt(question)
    if not kind then return nil end
    local about = heard.asks or {}
    local job = about.path and by_script[about.path]
    if not job or not job.shipped or (kind == "add") ~= (about.kind == "new") then
      return nil, ("it asks %q about no file that it was given"):format(quote(question))
    end
    if kind == "overwrite" and replacing == job then
      replacing = nil
      return "y"
    end
    if asked[job.script] or kind == "overwrite" then
      return nil, ("it asks again about %s: %s"):format(about.path, quote(question))
    end
    local answer = answer_for(kind, job.entry)
    asked[job.script], replacing = about.kind, answer == "R" and job or nil
    return answer
  end
end

-- ---- running it -----------------------------------------------------------------------------

local function run(space, python, dry, talk)
  -- Isolated, no cached bytecode, no buffers, UTF-8 whatever the locale is: it writes emoji.
  local argv = { python, "-I", "-B", "-u", "-X", "utf8", space.script, "--source", space.source,
    "--target", space.target }
  if dry then argv[#argv + 1] = "--dry-run" end
  local limits = safe_upgrade.limits
  return dialogue.run({
    argv = argv, directory = space.work, seconds = limits.seconds, silence = limits.silence,
    output = limits.output, on_line = talk.on_line, on_prompt = talk.on_prompt,
    confine = { write = { space.work }, network = false },
    environment = process.environment({ TMPDIR = space.work .. "/tmp" }),
  })
end

local function explain(ctx, what, message, code, stderr)
  if code == "EINTR" then return nil, safe_upgrade.NAME .. " was interrupted", code end
  local words = stderr and stderr:find("%S") and "; its last words: " .. quote(stderr) or ""
  if code == "EUNKNOWN" then
    return fail(ctx, "%s asks what praxlua cannot answer: %s", what, quote(message) .. words)
  elseif code == "ETIMEDOUT" then
    return fail(ctx, "%s did not end within %g seconds%s", what, safe_upgrade.limits.seconds, words)
  end
  return fail(ctx, "%s: %s", what, message .. words)
end

-- Code 1 is what it is said to end with when conflicts are left; the script that we know ends with
-- 0 then, and with 1 on errors.
local function code_problem(result, heard)
  if result.signal ~= 0 then return ("was ended by signal %d"):format(result.signal) end
  if result.stderr:find("Traceback (most recent call last)", 1, true) then return "crashed" end
  local left = result.code == 1 and heard.complete and (heard.counts.conflicts or 0) > 0
  if result.code ~= 0 and not left then return ("ended with exit code %d"):format(result.code) end
  return nil
end

local function sum(counts)
  local total = 0
  for _, name in ipairs({ "new", "updated", "unchanged", "local_only", "conflicts" }) do
    if not counts[name] then return nil end
    total = total + counts[name]
  end
  return total
end

local function check_run(ctx, what, result, heard, expected)
  local problem = code_problem(result, heard)
  if problem then
    local words = result.stderr:find("%S") and result.stderr
      or table.concat(heard.error_lines, "\n")
    return fail(ctx, "%s %s%s", what, problem, words ~= "" and ": " .. quote(words) or "")
  end
  local errors = math.max(heard.errors, heard.counts.errors or 0)
  if errors > 0 then
    return fail(ctx, "%s told of %s: %s", what, text.plural(errors, "error"),
      quote(table.concat(heard.error_lines, "\n")))
  elseif heard.complete ~= expected.complete then
    return fail(ctx, "%s ended without saying that it is complete", what)
  end
  local total = sum(heard.counts)
  if total ~= expected.files then
    return fail(ctx, "%s counted %s, and it was given %d", what,
      total and text.plural(total, "file") or "nothing that can be read", expected.files)
  end
  return true
end

local function count_shipped(jobs)
  local n = 0
  for _, job in ipairs(jobs) do
    if job.shipped then n = n + 1 end
  end
  return n
end

local function rehearse(ctx, space, python, jobs)
  local heard = output.listen()
  local what = "its dry run"
  local result, message, code, stderr = run(space, python, true, {
    on_line = function(line) output.line(heard, line) end,
    on_prompt = function(question)
      return nil, output.prompt(question) and "it asks: " .. quote(question) or nil
    end,
  })
  if not result then return explain(ctx, what, message, code, stderr) end
  local fine
  fine, message, code = check_run(ctx, what, result, heard,
    { complete = "dry", files = count_shipped(jobs) })
  if not fine then return nil, message, code end
  return heard
end

local function perform(ctx, space, python, jobs, by_script)
  local heard, asked = output.listen(), {}
  local what = "its run"
  local result, message, code, stderr = run(space, python, false, {
    on_line = function(line) output.line(heard, line) end,
    on_prompt = answerer(by_script, heard, asked),
  })
  if not result then return explain(ctx, what, message, code, stderr) end
  local fine
  fine, message, code = check_run(ctx, what, result, heard,
    { complete = "live", files = count_shipped(jobs) })
  if not fine then return nil, message, code end
  heard.asked = asked
  return heard
end

-- ---- what it said against what it did -------------------------------------------------------

local function same(a, b)
  for key, value in pairs(a) do
    if b[key] ~= value then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

local function tally(asked, kind)
  local paths, n = {}, 0
  for path, as in pairs(asked) do
    if as == kind then paths[path], n = true, n + 1 end
  end
  return paths, n
end

local function count_silent(jobs, asked, before, after)
  local n = 0
  for _, job in ipairs(jobs) do
    local now = after[job.script]
    if not asked[job.script] and is_file(now) and before[job.script] ~= now then
      n = n + 1
    end
  end
  return n
end

-- A script that does another thing than it says cannot be followed.
local function check_word(ctx, dry, live, jobs, before, after)
  if not same(dry.counts, live.counts) then
    return fail(ctx, "its dry run and its run counted differently")
  end
  local conflicts, n = tally(live.asked, "conflict")
  if n ~= dry.counts.conflicts or not same(conflicts, dry.listed) then
    return fail(ctx, "it announced %s and asked about %d, or about others",
      text.plural(dry.counts.conflicts, "conflict"), n)
  end
  local _, new = tally(live.asked, "new")
  local silent = count_silent(jobs, live.asked, before, after)
  if new ~= dry.counts.new then
    return fail(ctx, "it announced %s and asked about %d",
      text.plural(dry.counts.new, "new file"), new)
  elseif silent ~= dry.counts.updated then
    return fail(ctx, "it announced %s and made %d", text.plural(dry.counts.updated, "update"),
      silent)
  end
  return true
end

-- ---- the difference becomes the plan --------------------------------------------------------

local LEFT = {
  add = "safe-upgrade.py does not add it", update = "safe-upgrade.py leaves it as it is",
  remove = "no longer shipped; safe-upgrade.py removes nothing",
}

-- The script left what we would have changed. The record of what was shipped stays as it is, so
-- that a later upgrade still knows the file for untouched.
local function leave(space, job, facts)
  local entry = job.entry
  if entry.resolved or not LEFT[entry.action] then return end -- a person has decided, or a merge
  entry.reason = LEFT[entry.action]
  entry.action, entry.deferred = "keep", true
  local stat = core.file.stat(space.target .. "/" .. job.script)
  entry.size = stat and stat.size or entry.size
  facts.left = facts.left + 1
end

-- The script wrote something else than what is shipped, to a file that nobody had changed.
local function take_content(space, job, after)
  local entry = job.entry
  local data, message, code = core.file.read(space.target .. "/" .. job.script)
  if not data then return nil, message, code end
  entry.action, entry.reason = "merge", "safe-upgrade.py wrote a version of its own"
  entry.content, entry.result, entry.size = data, after, #data
  return true
end

local function overrule(ctx, job, facts, settle)
  local entry = job.entry
  facts.overruled = facts.overruled + 1
  if entry.action == "keep" and not entry.resolved then
    entry.action = "conflict"
    entry.reason = ("%s; safe-upgrade.py would replace it"):format(
      entry["local"] and "you changed it" or "you deleted it")
    return settle(entry)
  elseif ctx.warn then
    ctx.warn(("safe-upgrade.py would have replaced %s without being told to; that was not taken "
      .. "over"):format(entry.path))
  end
  return true
end

local IS_YOURS = { keep = true, conflict = true, merge = true }

local function reconcile(ctx, space, job, after, facts, settle)
  local entry = job.entry
  if after == outcome(entry) then return true end
  if after == entry["local"] then
    leave(space, job, facts)
    return true
  elseif not is_file(after) then
    return fail(ctx, "it %s %s", after and "made a " .. after .. " of" or "deleted", entry.path)
  elseif IS_YOURS[entry.action] or entry.resolved then
    return overrule(ctx, job, facts, settle)
  end
  return take_content(space, job, after)
end

-- What it made in the folders of the content beside the files that it was told of.
local function warn_of_others(ctx, jobs, after)
  local known, others = {}, {}
  for _, job in ipairs(jobs) do known[job.script] = true end
  for _, component in pairs(workspace.components(ctx.layout)) do
    local folder = workspace.script_path(component.from) .. "/"
    for path in pairs(after) do
      if not known[path] and path:sub(1, #folder) == folder then others[#others + 1] = path end
    end
  end
  if #others == 0 or not ctx.warn then return end
  table.sort(others)
  ctx.warn(("safe-upgrade.py made %s that the source does not ship, %s first; that was not taken "
    .. "over"):format(text.plural(#others, "file"), others[1]))
end

local function decide_in(ctx, folder, python, jobs, by_script, settle)
  local space, message, code = workspace.make(ctx, folder, jobs,
    layout.source_version(ctx.source, ctx.layout))
  if not space then return nil, message, code end
  local before, dry, live, after, fine
  before, message, code = workspace.check(space, jobs)
  if not before then return nil, message, code end
  dry, message, code = rehearse(ctx, space, python, jobs)
  if not dry then return nil, message, code end
  after, message, code = workspace.list(space)
  if not after then return nil, message, code end
  if not same(before, after) then return fail(ctx, "its dry run changed files") end
  live, message, code = perform(ctx, space, python, jobs, by_script)
  if not live then return nil, message, code end
  after, message, code = workspace.list(space)
  if not after then return nil, message, code end
  fine, message, code = check_word(ctx, dry, live, jobs, before, after)
  if not fine then return nil, message, code end
  warn_of_others(ctx, jobs, after)
  local facts = { files = count_shipped(jobs), asked = 0, left = 0, overruled = 0 }
  for _ in pairs(live.asked) do facts.asked = facts.asked + 1 end
  for _, job in ipairs(jobs) do
    fine, message, code = reconcile(ctx, space, job, after[job.script], facts, settle)
    if not fine then return nil, message, code end
  end
  return facts
end

-- The script must be the committed one.
local function check_script(ctx)
  local path = workspace.SCRIPT
  local files, message, code = git.files(ctx.source, nil, { path })
  if not files then return nil, message, code end
  if not files[1] or files[1].mode == "120000" then
    return fail(ctx, "%s is no file of that repository", path)
  end
  local changed
  changed, message, code = git.status(ctx.source, { path })
  if not changed then return nil, message, code end
  if changed[1] then return fail(ctx, "%s has uncommitted changes", path) end
  return true
end

local function warn_unconfined(ctx)
  if not core.spawn.confines() and ctx.warn then
    ctx.warn("this kernel cannot keep safe-upgrade.py in its private copy (praxlua doctor tells "
      .. "why); what it is to change is looked at all the same")
  end
end

--- Lets the script decide about the content of a plan, as far as that is safe.
---@param ctx table source, target, layout, warn?
---@param by_path table<any, table> the plan's, decided and with the answers to conflicts in them;
--- they are changed
---@param settle fun(entry: table): true|nil, string?, string? applies the answers to an entry that
--- has become a conflict
---@return { files: integer, asked: integer, left: integer, overruled: integer }|nil facts files it
--- was told of, asked about, left although we would have changed them, and what was not taken over
---@return string|nil message
---@return string|nil code EDRIVER: it cannot be used; ECHANGED, EINTR
function safe_upgrade.decide(ctx, by_path, settle)
  local fine, message, code = check_script(ctx)
  if not fine then return nil, message, code end
  local python
  python, message = process.find("python3")
  if not python then return fail(ctx, "%s", message) end
  warn_unconfined(ctx)
  local jobs, by_script = jobs_of(ctx, by_path)
  return temporary.within(function(folder)
    return decide_in(ctx, folder, python, jobs, by_script, settle)
  end)
end

return safe_upgrade
