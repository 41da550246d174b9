--- `praxlua run`: one script that is no part of an upgrade, with the grants that are typed for it.
--
-- A script that can leave something behind (it may write, run tools, or call services) runs under
-- the target's lock in a session with a transaction of its own, which is committed when the script
-- went well and undone otherwise. It is never resumed: what a kill left is undone.
local broker = require("praxlua.broker")
local checkpoint = require("praxlua.checkpoint")
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local extend = require("praxlua.project_file.extend")
local grants = require("praxlua.grants")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local lists = require("praxlua.lists")
local lock_text = require("praxlua.lock_text")
local originals = require("praxlua.originals")
local phases = require("praxlua.phases")
local rollback = require("praxlua.rollback")
local run = require("praxlua.run")
local server = require("praxlua.server")
local state = require("praxlua.state")

local script = {}

local KIND = "script"
local MAX_BYTES = 1024 * 1024

--- Whether a session is one of these.
---@param session table
---@return boolean
function script.is_script(session) return session.metadata.kind == KIND end

local function refused(message, next_step)
  return nil, { exit_code = 3, status = "refused", message = message, next = next_step }
end

--- Reads a script and compares what it asks for with what it is given.
---@param options { file: string, grants: table } grants: those of the command line
---@return table|nil phase
---@return table? result when it cannot be run
function script.read(options)
  local data, message = core.file.read(options.file, MAX_BYTES)
  if not data then
    return nil, { exit_code = 2, status = "usage", message = message,
      next = "name a file with a phase script" }
  end
  local phase, code
  phase, message, code = phases.read(options.file:match("[^/]+$"), data)
  if not phase then
    return refused(message, code == "EISOLATION" and "see what holds with: praxlua doctor"
      or "mend the script")
  end
  if phase.manual then
    return refused(phase.file .. " is a manual phase: there is nothing in it to run")
  end
  local missing = grants.missing(phase.grants, options.grants)
  if #missing > 0 then
    return refused(string.format("%s asks for more than it was granted", phase.file),
      "if you mean to grant it, add: " .. table.concat(missing, " "))
  end
  return phase
end

--- Whether a script can leave something behind.
---@param phase table
---@return boolean
function script.acts(phase)
  local asked = phase.grants
  return asked.target == "write" or asked.project == "write" or #(asked.tools or {}) > 0
    or #(asked.services or {}) > 0
end

-- Runs it, checks its evidence, and tells how it went. The evidence, or nil and the outcome.
local function perform(r, phase)
  r.phase, r.ctx.phase = phase.id, phase.id
  r.ctx.emit({ event = "phase_started", phase = phase.id, title = phase.title })
  local outcome = broker.run(phase, r.ctx)
  local dict
  if outcome.verdict == "ok" then
    local message, verdict
    dict, message, verdict = checkpoint.check(phase, outcome)
    if not dict then outcome.verdict, outcome.message = verdict, message end
  end
  if r.session then checkpoint.note(r, phase, outcome) end
  checkpoint.tell(r, phase, outcome, dict)
  if dict then return dict end
  return nil, outcome
end

local function failure(phase, outcome, signal, undone)
  return {
    exit_code = run.SIGNAL_EXITS[signal] or 1,
    status = signal and "interrupted" or undone and "rolled_back" or "failed",
    message = string.format("%s failed: %s", phase.file, tostring(outcome.message))
      .. (undone and "\nThe installation is as before." or ""),
    next = "mend the cause and run it again",
  }
end

local function success(phase)
  return { exit_code = 0, status = "completed", message = phase.file .. " went well." }
end

-- The context of a script that only looks, with or without an installation.
local function looking_context(options, ui)
  local emit = ui.emit
  return {
    target = options.target, project = options.project, target_name = options.target_name or "",
    source = options.source, options = { arguments = options.arguments }, memory = {},
    artifacts = {}, session = state.session.new(), emit = emit,
    ask = ui.ask or function(_, _, default) return default end,
    progress = function(message, fraction)
      fraction = fraction and math.max(0, math.min(1, fraction)) or nil
      emit({ event = "phase_progress", phase = options.id, text = message, fraction = fraction })
    end,
    warn = function(message) emit({ event = "warning", message = message }) end,
    lock_held = function() return false end, changed_paths = function() return {} end,
    save = function() return true end,
  }
end

--- Runs a script that only looks. It needs an installation only when it looks into one.
---@param phase table
---@param options { target: string?, source: string?, arguments: string[] }
---@param ui { emit: function, ask: function?, show: fun(evidence: table)? }
---@return table result
function script.look(phase, options, ui)
  local known = { source = options.source, arguments = options.arguments, id = phase.id }
  if phase.grants.target or phase.grants.project then
    local target, result = run.find_target(options.target)
    if not target then return result end
    known.target = target
    known.project, known.target_name = run.split(target)
  end
  local dict, outcome = perform({ ctx = looking_context(known, ui) }, phase)
  if not dict then return failure(phase, outcome, core.system.interrupted(), false) end
  if ui.show then ui.show(dict) end
  return success(phase)
end

local function begin(r, phase, options)
  r.options = { arguments = json.array(options.arguments), on_conflict = "stop",
    project = options.project }
  local session = state.session.new({ metadata = {
    kind = KIND, script = phase.file, owner = run.owner(),
    options = { project = options.project },
    source_path = options.source,
  } })
  run.attach(r, session)
  r.ctx.script, r.ctx.layout = true, extend.of(r.ctx, layout.recognise_target(r.target) or nil)
  -- What a rollback brings back; its tools are only for a script that may compare them.
  local compares = lists.has(phase.grants.services or {}, "server")
  session.metadata.server = server.remember(r.ctx, not compares)
  local ok, message = state.save_state(r.target, session)
  if ok then ok, message = run.open_transaction(r, true) end
  if ok then ok, message = run.checkpoint(r, session) end
  if ok then return true end
  run.forget(r)
  return nil, message
end

--- Runs a script that may leave something behind, on an open run.
---@param r table
---@param phase table
---@param options { source: string?, arguments: string[] }
---@param ui { show: fun(evidence: table)? }
---@return table result
function script.act(r, phase, options, ui)
  local began, problem = begin(r, phase, options)
  if not began then return select(2, refused(problem)) end
  local dict, outcome = perform(r, phase)
  if dict and core.system.interrupted() then
    dict, outcome = nil, { message = "it was interrupted" }
  end
  if dict then
    local ok, message = r.transaction:commit()
    if not ok then dict, outcome = nil, { message = message } end
  end
  if not dict then
    local signal = core.system.interrupted() -- the rollback ignores them
    local undone = rollback.open_session(r, phase.file .. " failed")
    if not undone.success then return undone end
    return failure(phase, outcome, signal, true)
  end
  if ui.show then ui.show(dict) end
  r.session.metadata.finished_at = clock.iso()
  return script.settle(r)
end

--- After the commit: the session is marked, the undo data goes. Repeated when it was cut short.
---@param r table
---@return table result
function script.settle(r)
  r.done = success({ file = tostring(r.session.metadata.script) })
  core.system.ignore_signals() -- there is no way back, only clearing up
  lock_text.remove(r.ctx)
  originals.drop(r.target, r.session.session_id)
  r.session.status = "completed"
  local ok, message = run.end_session(r)
  if not ok then
    r.ctx.warn("the script is done, but clearing up after it failed: " .. tostring(message))
  end
  return r.done
end

return script
