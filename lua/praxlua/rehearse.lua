--- A rehearsal: on a private copy of an installation, upgrade, roll back, upgrade again, compare.
--
-- The copy is made in a temporary directory and removed at the end. It holds the installation
-- without what is no content, its environment included, and the project's .gitignore; no server
-- runs there, so the new one is asked in private. The rollback must bring back exactly what was
-- copied, the second upgrade must lead to exactly what the first one did, and the installation
-- itself must be untouched by all of it.
local core = require("praxlua.core")
local engine = require("praxlua.engine")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local private_copy = require("praxlua.private_copy")
local project_options = require("praxlua.project_options")
local run = require("praxlua.run")
local temporary = require("praxlua.temporary")
local text = require("praxlua.text")

local rehearse = {}

local SHOWN = 100 -- differences that are listed

local function refused(message, next_step)
  return { exit_code = 3, status = "refused", message = message, next = next_step }
end

-- ---- listings ---------------------------------------------------------------------------------

-- The records of an upgrade tell when it was, and which: that differs from one to the next.
local RECORDS = {
  ["VERSION.txt"] = true, ["UPDATE_LOG.txt"] = true, ["INSTALLATION_SUMMARY.md"] = true,
  [".installed-manifest.json"] = true,
}
local WHEN = "%d%d%d%d%-%d%d%-%d%d[T %-]%d%d:?%d%d:?%d%dZ?"
local WHICH = "%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x"
local SEAL = '  "sha256": "%x+"\n}\n$'

local function digest_of_record(path)
  local data = core.file.read(path)
  if not data then return nil end
  -- The second report of one second has a number after the time.
  data = data:gsub(WHEN, "WHEN"):gsub("WHEN%-%d+%.", "WHEN.")
  return core.hash.sha256((data:gsub(WHICH, "WHICH"):gsub(SEAL, "")))
end

local function describe(root, entry)
  local content = entry.target or entry.sha256
  if RECORDS[entry.path] and entry.type == "file" then
    content = digest_of_record(root .. "/" .. entry.path) or content
  end
  return ("%s %o %s"):format(entry.type, entry.mode, content or "")
end

-- Everything that counts, by path.
local function list(target)
  local entries, message, code = core.cancel.within(math.huge, core.tree.list, target,
    { skip = private_copy.ignored(true), skip_names = private_copy.IGNORED_NAMES, hash = true })
  if not entries then return nil, message, code end
  local found = {}
  for _, entry in ipairs(entries) do found[entry.path] = describe(target, entry) end
  local gitignore = run.split(target) .. "/.gitignore"
  local stat = core.file.stat(gitignore)
  if stat and stat.type == "file" then
    found["../.gitignore"] = ("file %o %s"):format(stat.mode, core.hash.file(gitignore) or "")
  end
  return found
end

--- Compares two listings.
---@param before table<string, string>
---@param after table<string, string>
---@return { path: string, what: string }[] differences sorted by path; what: "missing", "new" or
---  "changed"
function rehearse.compare(before, after)
  local found = {}
  for path, entry in pairs(before) do
    if after[path] ~= entry then
      found[#found + 1] = { path = path, what = after[path] and "changed" or "missing" }
    end
  end
  for path in pairs(after) do
    if not before[path] then found[#found + 1] = { path = path, what = "new" } end
  end
  table.sort(found, function(a, b) return a.path < b.path end)
  return found
end

-- ---- the copy ---------------------------------------------------------------------------------

-- Returns the copy and the listing of the installation, or nil and the result.
local function begin(target, root)
  return run.while_locked(target, function()
    local open = run.unfinished(target)
    if #open > 0 then
      return nil, refused("an upgrade of this installation did not finish: session "
        .. open[1].session_id, "finish it first with: praxlua resume, or praxlua rollback")
    end
    local live, message = list(target)
    if not live then
      return nil, refused("reading the installation: " .. message, private_copy.advice())
    end
    local copy, code
    copy, message, code = private_copy.make(target, root, { environment = true })
    if not copy then
      return nil, refused("copying the installation: " .. message, private_copy.advice(code))
    end
    return copy, live
  end)
end

-- ---- the steps --------------------------------------------------------------------------------

-- What of the copy's events is told: what is wrong, and how far it is.
local TOLD = { warning = true, conflict = true }

local function about_original(event, place)
  return private_copy.about_original(event, place.copy, place.original)
end

local function is_told(event)
  if event.event == "phase_failed" then return event.verdict ~= "interrupted" end
  return TOLD[event.event] or event.event == "log" and event.level ~= "info"
end

local function listener(emit, step, place)
  return function(event)
    if event.event == "plan" then step.counts = event.counts end
    if event.event == "session_started" then
      step.from_version, step.to_version = event.from_version, event.to_version
    end
    if event.event == "phase_started" then
      emit({ event = "phase_progress", phase = "rehearsal",
        text = step.name .. ": " .. event.title })
    end
    if is_told(event) then emit(about_original(event, place)) end
  end
end

local function take_step(name, emit, action, place)
  local step = { name = name }
  local began = core.system.monotonic()
  emit({ event = "phase_progress", phase = "rehearsal", text = name })
  local result = about_original(action({ emit = listener(emit, step, place) }), place)
  step.seconds = core.system.monotonic() - began
  step.exit_code, step.status = result.exit_code, result.status
  return step, result
end

local function interrupted(exit_code)
  return { exit_code = exit_code, status = "interrupted",
    message = "The rehearsal was interrupted; nothing is left of it." }
end

local function failed_step(step, result)
  if result.status == "interrupted" then return interrupted(result.exit_code) end
  return {
    exit_code = 1, status = "failed", next = result.next,
    message = ("%s ended with exit code %d: %s"):format(step.name, result.exit_code,
      result.message or result.status),
  }
end

local function upgrade_options(options, copy)
  local own = { target = copy, yes = true, restart = false, dry_run = false, git_commit = false }
  for name, value in pairs(options) do
    if own[name] == nil then own[name] = value end
  end
  return own
end

-- The three steps, each with the listing after it. Returns nil and a result when one failed.
local function perform(options, copy, emit, data)
  local place = { copy = run.split(copy), original = run.split(data.target) }
  local first, message = list(copy)
  if not first then return nil, refused("reading the copy: " .. message) end
  local listings = { first }
  local actions = {
    { "the upgrade", function(ui) return engine.upgrade(upgrade_options(options, copy), ui) end },
    { "the rollback", function(ui) return engine.rollback_upgrade({ target = copy,
      restart = false, reason = "a rehearsal" }, ui) end },
    { "the second upgrade", function(ui)
      return engine.upgrade(upgrade_options(options, copy), ui)
    end },
  }
  for i, action in ipairs(actions) do
    local step, result = take_step(action[1], emit, action[2], place)
    data.steps[i] = step
    if result.status == "nothing_to_do" and i == 1 then return nil, result end
    if result.exit_code ~= 0 or result.status == "nothing_to_do" then
      return nil, failed_step(step, result)
    end
    listings[i + 1], message = list(copy)
    if not listings[i + 1] then return nil, refused("reading the copy: " .. message) end
  end
  return listings
end

-- ---- the verdict ------------------------------------------------------------------------------

local function add_differences(data, between, before, after)
  for _, difference in ipairs(rehearse.compare(before, after)) do
    data.different = data.different + 1
    if #data.differences < SHOWN then
      difference.between = between
      table.insert(data.differences, difference)
    end
  end
end

local function count(listing)
  local n = 0
  for _ in pairs(listing) do n = n + 1 end
  return n
end

local function judge(data, listings, live, target)
  data.entries = count(listings[2])
  add_differences(data, "before the upgrade and after the rollback", listings[1], listings[3])
  add_differences(data, "the first upgrade and the second", listings[2], listings[4])
  local now, message = list(target)
  if not now then return refused("reading the installation: " .. message) end
  add_differences(data, "the installation before the rehearsal and after it", live, now)
  data.identical = data.different == 0
  if data.identical then
    return { exit_code = 0, status = "completed",
      message = "The rollback brought back exactly what was there, and both upgrades led to the "
        .. "same." }
  end
  return { exit_code = 1, status = "failed",
    message = text.plural(data.different, "difference") .. "; see above",
    next = "look at what changes these paths: a phase, a tool it calls, or the server" }
end

local function new_data(options, target)
  return { source = options.source, target = target, steps = json.array(), different = 0,
    differences = json.array() }
end

-- The source is named in the command, or in the installation's project file: a relative path there
-- counts from the project, and not from the copy.
local function with_source(options, target)
  if options.source then return options end
  local own = {}
  for name, value in pairs(options) do own[name] = value end
  local found, result = project_options.resolve({ target = target,
    min_isolation = options.min_isolation }, function() end)
  if not found then return nil, result end
  own.source = found.source
  return own
end

--- Rehearses the upgrade of an installation on a copy of it.
---@param options { source: string?, target: string?, phases: string[]?, on_conflict: string?,
---  allow_downgrade: boolean?, health_timeout: number?, allow_source_phases: boolean?,
---  min_isolation: string?, driver: string? }
---@param ui { emit: fun(event: table) }
---@return { exit_code: integer, status: string, message: string?, next: string? } result
---@return table|nil data { source, target, steps = { {name, seconds, exit_code, status, counts?} },
---  entries?, identical?, different (how many), differences = { {path, what, between} } }; nil when
---  it was refused
function rehearse.run(options, ui)
  local target, refusal = run.find_target(options.target)
  if not target then return refusal end
  local recognised, problem = layout.recognise_target(target)
  if not recognised then return refused(problem, "name the installation with --target") end
  options, refusal = with_source(options, target)
  if not options then return refusal end
  local scratch, unusable = temporary.place(target)
  if not scratch then return refused(unusable, temporary.ADVICE) end
  core.system.catch_signals()
  local data = new_data(options, target)
  local root = ("%s/praxlua-rehearsal-%s"):format(scratch, core.system.uuid())
  ui.emit({ event = "phase_progress", phase = "rehearsal", text = "copying the installation" })
  local ok, result = xpcall(function()
    local copy, live = begin(target, root)
    if not copy then
      data = nil
      return live
    end
    local listings, failure = perform(options, copy, ui.emit, data)
    return failure or judge(data, listings, live, target)
  end, debug.traceback)
  local signal = core.system.interrupted()
  core.tree.remove(root)
  if not ok then error(result, 0) end
  if signal then return interrupted(run.SIGNAL_EXITS[signal]) end
  return result, data
end

return rehearse
