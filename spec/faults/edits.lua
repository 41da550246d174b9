--- Saves of a person exactly at the N-th change that praxlua makes to the disk: praxlua stands
-- still, every file is saved once, praxlua goes on. So a save falls into every gap between a look
-- and the deed that relies on it.
local nemesis = require("spec.faults.nemesis")
local person = require("spec.faults.person")
local tiny = require("spec.support.tiny")
local tracer = require("spec.faults.tracer")

local edits = {}

-- What is traced: a start state, and the command.
local SCENES = {
  upgrade = {
    command = function(s) return nemesis.upgrade(s, "--on-conflict", "ours", "--json") end,
  },
  failing = {
    prepare = function(s) tiny.commit(s, { ["mcp_server/fault"] = "dies\n" }) end,
    command = function(s) return nemesis.upgrade(s, "--on-conflict", "ours", "--json") end,
  },
  undo = {
    prepare = function(s) assert(nemesis.run(s, nemesis.upgrade(s)).code == 0) end,
    command = function() return { "rollback", "--json", "--on-conflict", "ours" } end,
  },
}
edits.SCENES = { "upgrade", "failing", "undo" }

local function scene(memory, name)
  local s = memory[name]
  if not s then
    s = nemesis.new()
    if SCENES[name].prepare then SCENES[name].prepare(s) end
    tiny.save(s)
    memory[name] = s
  end
  return s
end

local function traced(s, name, options)
  options.argv = { s.executable, table.unpack(SCENES[name].command(s)) }
  options.environment, options.directory, options.root = s.environment, s.project, s.project
  options.executable = s.executable
  return tracer.run(options)
end

--- The calls of praxlua in a scene.
---@param memory table of this process
---@param name string of edits.SCENES
---@return table[] calls of tracer.run
function edits.calls(memory, name)
  local s = scene(memory, name)
  local counted = traced(s, name, { mode = "count", log = true })
  tiny.reset(s)
  return counted.calls
end

--- Whether a call is about the files of the installation, or about what is kept of them.
---@param call table of tracer.run
---@return boolean
function edits.is_near(call)
  for _, path in ipairs({ call.path or "", call.path2 or "" }) do
    if path:find("/undo/", 1, true) or path:find("/stage/", 1, true) then return true end
    if path ~= "" and not path:find("/%.cache/") and not path:find("/%.backups")
      and not path:find("/%.upgrade") then
      return true
    end
  end
  return false
end

-- Whatever came of it, what is unfinished is rolled back, and then nothing is left.
local function settle(p, problems)
  if #nemesis.leftovers(p.s) == 0 then return end
  local result = person.listen(p, nemesis.run(p.s, { "rollback", "--json" }))
  nemesis.check(problems, result.code == 0, "at the end, rollback: %s", nemesis.brief(result))
  nemesis.add(problems, nemesis.leftovers(p.s))
end

--- One run with saves of all files at one call.
---@param memory table
---@param name string
---@param n integer the call
---@param files table? of person.FILES; all when nil
---@param new table? of person.NEW
---@return string[] problems
---@return integer saves
function edits.at(memory, name, n, files, new)
  local s, problems = scene(memory, name), {}
  tiny.reset(s)
  local p = person.new(s, { seed = n, files = files, new = new })
  local hook = person.attend(p)
  local result = traced(s, name, { mode = "pause", at = n, hook = hook })
  nemesis.add(problems, person.go_home(p))
  result.said = result.stdout .. result.stderr
  nemesis.check(problems, result.hit, "call %d was not reached", n)
  person.listen(p, result)
  nemesis.add(problems, { nemesis.crash(result) })
  settle(p, problems)
  nemesis.add(problems, person.judge(p))
  if #problems > 0 then
    problems[#problems + 1] = ("after %s"):format(nemesis.brief(result))
  end
  return problems, p.saves or 0
end

return edits
