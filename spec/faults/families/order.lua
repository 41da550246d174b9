--- What is durable before what, by the rules of order.lua: each command runs once, and every call
-- of it that one of the rules is about is a case.
local order = require("spec.faults.order")
local scenarios = require("spec.faults.scenarios")
local tracer = require("spec.faults.tracer")

local family = {
  name = "order", floor = { full = { cases = 600 }, sample = { cases = 600 } },
}

--- Runs a scenario's command under the rules.
---@param c table
---@param item { scenario: string }
---@return table result { problems, count }
function family.one(c, item)
  local s = c.scenario(item.scenario)
  s.reset()
  local run = tracer.run({
    argv = { s.executable, table.unpack(s.argv) }, environment = s.environment,
    directory = s.project, root = s.project, executable = s.executable, who = "all", data = true,
  })
  local problems, count = order.check(s, run)
  if run.code ~= s.code then problems[#problems + 1] = ("exit %s"):format(run.code) end
  return { problems = problems, count = count }
end

--- Runs the family.
---@param c table
---@return table result
function family.run(c)
  local items, bad, cases = {}, {}, 0
  for i, name in ipairs(scenarios.NAMES) do items[i] = { case = name, scenario = name } end
  for i, result in pairs(c.map(items, "one")) do
    local problems = result.crashed and { result.crashed } or result.problems
    cases = cases + math.tointeger(result.count or 0)
    if #problems > 0 then
      bad[#bad + 1] = { case = items[i].case, why = table.concat(problems, "\n") }
    end
  end
  return { cases = cases, bad = bad }
end

return family
