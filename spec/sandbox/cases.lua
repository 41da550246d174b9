--- The hostile phases as data: the groups, their files in spec/sandbox/cases, and what a case is.
--
-- A case is a table:
--   id        a letter of its group and a number
--   hole      the one hole it looks for; no two cases look for the same
--   body      the body of phase.run(host), or source: the whole script
--   grants, limits, evidence   of the phase; evidence is Lua text with the prelude's names. Without
--             it the fields a, b, c and d may hold anything
--   title     of the phase (default "Hostile")
--   number    it takes the place of the built-in phase of this number
--   needs     function: what the machine lacks, a reason to skip; nothing when it lacks nothing
--   prepare   function(scene): plants files in the project; returns a reason to skip, or nothing
--   first     the body of another phase that runs before, with the same grants
--   again     the phase runs twice; the check finds both outcomes in t.outcomes
--   during    function(t, pid): called when the phase calls host.ask; what it returns is the answer
--   completed the numbers of the phases that are complete (default 0 and 1: files can be changed)
--   dry       there is no transaction, as in a dry run
--   environment words for env: variables of the supervisor, or what it is started by
--   host      "raw": only with the executable whose workers make raw system calls
--   only      "strongest": there is nothing to see without seccomp and Landlock
--   expect    the verdict, or several; "refused": the phase is not accepted at all; "killed": the
--             supervisor does not live to tell
--   message   a pattern for the message
--   check     function(t): returns what is wrong; t has outcome, outcomes, evidence, message, told
--             (what was logged), level, scene, phase
local cases = {}

--- Groups in order, with the letter their ids begin with.
cases.GROUPS = {
  { name = "environment", letter = "E" }, { name = "instructions", letter = "T" },
  { name = "memory", letter = "M" }, { name = "host_objects", letter = "H" },
  { name = "paths", letter = "F" }, { name = "processes", letter = "P" },
  { name = "protocol", letter = "V" }, { name = "kernel", letter = "K" },
}

--- The least there has to be, of each group and together.
cases.FLOOR = { group = 14, all = 180 }

--- All cases, group by group, each with its group's name.
---@return table[] list
function cases.all()
  local list = {}
  for _, group in ipairs(cases.GROUPS) do
    for _, case in ipairs(require("spec.sandbox.cases." .. group.name)) do
      case.group = group.name
      list[#list + 1] = case
    end
  end
  return list
end

--- One case by its id.
---@param id string
---@return table case
function cases.named(id)
  for _, case in ipairs(cases.all()) do
    if case.id == id then return case end
  end
  error("there is no case " .. id, 0)
end

local LIMITS = { wall = 10, cpu = 4, memory = 16 << 20, instructions = 2000000 }
local EVIDENCE = "{ a = optional(any()), b = optional(any()), c = optional(any()), "
  .. "d = optional(any()) }"

-- A value as Lua text.
local function text_of(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for key, of in pairs(value) do
    parts[#parts + 1] = ("[%q] = %s"):format(key, text_of(of))
  end
  table.sort(parts)
  return "{ " .. table.concat(parts, ", ") .. " }"
end

--- The limits of a case.
---@param case table
---@return table
function cases.limits(case)
  local limits = {}
  for name, value in pairs(LIMITS) do limits[name] = value end
  for name, value in pairs(case.limits or {}) do limits[name] = value end
  return limits
end

--- The script of a case.
---@param case table
---@param options { body: string?, after: string?, last: string? }? body: instead of the case's own;
---  after: the id of a phase; last: what is done when the body has come to its end
---@return string
function cases.script(case, options)
  options = options or {}
  if case.source and not options.body then return case.source end
  return ([[
local phase = { title = %s, after = %s, grants = %s, limits = %s, evidence = %s }
local function hostile(host)
%s
end
function phase.run(host)
  local evidence = hostile(host)
  %s
  return evidence
end
return phase
]]):format(text_of(case.title or "Hostile"), text_of(options.after or "content-upgrade"),
    text_of(case.grants or {}), text_of(cases.limits(case)), case.evidence or EVIDENCE,
    options.body or case.body, options.last or "")
end

--- Whether a verdict is one that a case expects.
---@param case table
---@param verdict string
---@return boolean
function cases.expects(case, verdict)
  if type(case.expect) == "string" then return verdict == case.expect end
  for _, one in ipairs(case.expect) do
    if one == verdict then return true end
  end
  return false
end

return cases
