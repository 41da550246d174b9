--- The overlay of a dry run: the phases behind the gate are carried out on a private copy of the
-- installation, in a transaction of its own, and the copy is thrown away.
--
-- They are the same scripts with the same grants; what they do to files, they do to the copy. What
-- would reach outside of it (praxlua.verbs.foretold) is told and not done. So the dry run learns
-- whether the phases pass, and what the added ones change.
local checkpoint = require("praxlua.checkpoint")
local core = require("praxlua.core")
local private_copy = require("praxlua.private_copy")
local run = require("praxlua.run")
local source_phases = require("praxlua.source_phases")
local state = require("praxlua.state")
local temporary = require("praxlua.temporary")

local overlay = {}

-- What of the copy's events is told; the rest is about a session that is none.
local TOLD = {
  phase_started = true, phase_progress = true, phase_completed = true, phase_failed = true,
  warning = true, log = true, not_run = true,
}

local function listener(r, inner)
  local copy, original = inner.project, r.project
  return function(event)
    if not TOLD[event.event] then return end
    r.ctx.emit(private_copy.about_original(event, copy, original))
  end
end

-- ---- the inner run --------------------------------------------------------------------------

local function uses_project(phase) return phase.grants and phase.grants.project ~= nil end

-- The phases that are carried out. Nobody does anything for a dry run, and what nobody allowed is
-- not run; both are named before.
local function choose(r)
  local chosen, wants_project = {}, false
  local allowed = source_phases.are_allowed(r)
  for index, phase in ipairs(r.phases) do
    local done = r.session.phase_artifacts[tostring(phase.number or phase.id)] ~= nil
    local is_ahead = not done and (#chosen > 0 or phase.number == 1)
    if is_ahead and not phase.manual and (allowed or not phase.of_source) then
      chosen[#chosen + 1] = { phase = phase, index = index }
      wants_project = wants_project or uses_project(phase)
    end
  end
  return chosen, wants_project
end

-- A phase that reads or writes beside the installation needs what is there.
local function without_project(r, chosen)
  local left = {}
  for _, one in ipairs(chosen) do
    if uses_project(one.phase) then
      r.ctx.warn(("phase %s was left out of the dry run: the project it may use is too large to be "
        .. "copied, or cannot be read"):format(one.phase.id))
    else
      left[#left + 1] = one
    end
  end
  return left
end

local function options_of(r)
  local own = {}
  for name, value in pairs(r.options) do own[name] = value end
  own.dry_run, own.plan_hash, own.diff = nil, nil, nil
  return own
end

-- The session of the copy, at the point where this one is.
local function begin_session(r, inner)
  local session, message = state.create_session(inner.target, r.session.workflow_type,
    r.session.target_file, r.session.metadata)
  if not session then return nil, message end
  run.attach(inner, session)
  inner.ctx.layout, inner.ctx.memory.plan = r.ctx.layout, r.ctx.memory.plan
  for _, phase in ipairs(r.phases) do
    local dict = r.session.phase_artifacts[tostring(phase.number or phase.id)]
    local ok = true
    if dict then ok, message = checkpoint.record(inner, phase, dict) end
    if not ok then return nil, message end
  end
  return true
end

local function open(r, copy, following)
  local project, name = run.split(copy)
  local inner = {
    target = copy, project = project, target_name = name, options = options_of(r),
    phases = r.phases, overlay = { target = r.target, not_run = {} },
  }
  inner.emit = listener(r, inner)
  local message, ok
  inner.lock, message = core.lock.acquire(copy)
  if not inner.lock then return nil, message end
  ok, message = begin_session(r, inner)
  if ok then ok, message = following.begin(inner) end
  if not ok then
    run.close(inner)
    return nil, message
  end
  return inner
end

-- ---- what the phases do ---------------------------------------------------------------------

local KINDS = { put = "update", symlink = "update", remove = "remove", exchange = "update" }

-- A path as a plan names it: seen from the installation.
local function seen_from(inner, path)
  local prefix = inner.target_name .. "/"
  return path:sub(1, #prefix) == prefix and path:sub(#prefix + 1) or "../" .. path
end

-- What a phase changed, as actions of the plan: the last change of each path counts.
local function note_changes(r, inner, phase, before, actions)
  local last, paths = {}, {}
  local changes = inner.transaction:changes()
  for i = before + 1, #changes do
    local path = changes[i].path
    if KINDS[changes[i].kind] and not last[path] then paths[#paths + 1] = path end
    last[path] = KINDS[changes[i].kind] or last[path]
  end
  table.sort(paths)
  for _, path in ipairs(paths) do
    local is_new = last[path] == "update" and not core.file.exists(r.project .. "/" .. path)
    actions[#actions + 1] = { path = seen_from(inner, path), phase = phase.id,
      action = is_new and "add" or last[path], reason = "by the phase " .. phase.id }
  end
end

local function interrupted()
  local signal = core.system.interrupted()
  return signal and { exit_code = run.SIGNAL_EXITS[signal], status = "interrupted",
    message = "The dry run was interrupted; nothing was changed.",
    next = "run the command again" }
end

local function failed(phase, outcome)
  return { exit_code = 1, status = "failed",
    message = ("phase %s would fail: %s\nNothing was changed."):format(phase.id,
      tostring(outcome.message)),
    next = "mend the cause and run the dry run again" }
end

-- A phase that needs the answer of something that did not run cannot be judged by its failure.
local function give_up(r, phase)
  r.ctx.warn(("phase %s could not be followed to its end: it needs what a dry run does not do"
    .. "%s"):format(phase.id, phase.number and ", and neither could those behind it" or ""))
  return phase.number ~= nil
end

-- Returns the result of a dry run that ends here.
local function carry_out(r, inner, chosen, following, actions)
  for _, one in ipairs(chosen) do
    local phase, before = one.phase, #inner.transaction:changes()
    local ok, outcome = following.run(inner, phase, one.index, #r.phases)
    if not phase.number then note_changes(r, inner, phase, before, actions) end
    local stopped = interrupted()
    if stopped then return stopped end
    if not ok and not inner.overlay.not_run[phase.id] then return failed(phase, outcome) end
    if not ok and give_up(r, phase) then return nil end
  end
end

local function refused(message, next_step)
  return { exit_code = 3, status = "refused", message = message, next = next_step }
end

local function follow(r, root, following, actions)
  local chosen, wants_project = choose(r)
  if wants_project and not private_copy.takes_project(r.target) then
    chosen, wants_project = without_project(r, chosen), false
  end
  r.ctx.progress("copying the installation for the dry run")
  local copy, message, code = private_copy.make(r.target, root, { project = wants_project })
  if not copy then
    return interrupted() or refused("copying the installation for the dry run: " .. message,
      private_copy.advice(code))
  end
  local inner
  inner, message = open(r, copy, following)
  if not inner then
    return interrupted() or refused("preparing the copy for the dry run: " .. tostring(message),
      private_copy.advice())
  end
  local ok, result = xpcall(carry_out, debug.traceback, r, inner, chosen, following, actions)
  run.close(inner)
  if not ok then error(result, 0) end
  return result
end

--- Carries out the phases behind the gate on a copy.
---@param r table run of a dry run
---@param following { begin: fun(r: table), run: fun(r: table, phase: table, index: integer, total:
---  integer) } begins the changes; runs one phase and checks its evidence
---@return { actions: table[], result: table? } seen actions of the added phases, as in a plan; the
---  result when the upgrade would not come to its end, or the dry run could not
function overlay.follow(r, following)
  local place, message = temporary.place(r.target)
  if not place then return { actions = {}, result = refused(message, temporary.ADVICE) } end
  local root, actions = ("%s/praxlua-dry-run-%s"):format(place, core.system.uuid()), {}
  local phase = r.ctx.phase
  local ok, result = xpcall(follow, debug.traceback, r, root, following, actions)
  r.ctx.phase = phase
  core.tree.remove(root)
  if not ok then error(result, 0) end
  return { actions = actions, result = result }
end

return overlay
