--- Makes the calls that show that a server works (smoke_calls.lua), and judges them.
--
-- A step passes when the tool answers, the answer is no error, there is something in it, and it is
-- what the step expects. A call whose tools are not registered was not made: that is `not_run`,
-- neither passed nor failed; but those that the project file names have to be there. Nor was one
-- made whose tool says that what it works with was never installed.
local core = require("praxlua.core")
local json = require("praxlua.json")
local mcp = require("praxlua.mcp")
local reported = require("praxlua.server.reported")
local smoke_calls = require("praxlua.server.smoke_calls")
local text = require("praxlua.text")

local smoke = {}

--- Seconds for all calls together; a browser has to be started.
smoke.timeout = 120

local CALL_SECONDS = 20
local CLOSE_SECONDS = 5 -- for a step that has to be made although the time is over
local BROWSERS = { "pos_browser", "aos_browser", "browser_navigate" }

local function is_text(value) return type(value) == "string" and value ~= "" end

-- What is wrong with a tool's result, or nil, and the value it carries when that is an object.
local function judge(result)
  local said = mcp.result_text(result)
  if result.isError == true then
    return "it answered with an error: " .. text.visible(said:sub(1, 300))
  end
  if type(result.content) ~= "table" or #result.content == 0 then return "its answer is empty" end
  if not said:find("%S") and type(result.structuredContent) ~= "table" then
    return "its answer is empty"
  end
  -- praxis-os' tools report their own failures as ordinary results.
  local value = type(result.structuredContent) == "table" and result.structuredContent
    or json.decode(said)
  if type(value) ~= "table" then return nil end
  if value.status == "error" or is_text(value.error) then
    return "it reports: " .. text.visible(tostring(value.error or value.status):sub(1, 300))
  end
  return nil, value
end

-- Whether an answer holds a text, in its words or in its data.
local function holds(result, wanted)
  if mcp.result_text(result):find(wanted, 1, true) then return true end
  local data = result.structuredContent
  return type(data) == "table" and json.encode(data, { max_depth = mcp.limits.depth })
    :find(wanted, 1, true) ~= nil
end

local function is_empty(value)
  if type(value) == "table" then return next(value) == nil end
  return value == nil or value == json.null or value == "" or value == false
end

local function field(value, path)
  for name in path:gmatch("[^.]+") do
    if type(value) ~= "table" then return nil end
    value = value[name]
  end
  return value
end

-- What a step expected and did not get, or nil.
local function disappointment(step, result, value)
  local shown = function(s) return text.shorten(text.visible(s), 80) end
  if step.not_empty and is_empty(field(value, step.not_empty)) then
    return ("its answer has nothing in '%s'"):format(shown(step.not_empty))
  end
  if step.expect and not holds(result, step.expect) then
    return ("its answer does not hold '%s'"):format(shown(step.expect))
  end
end

local function run_step(client, step, seconds)
  local result, problem = mcp.call_tool(client, step.tool, step.arguments, seconds)
  if not result then return problem end
  local wrong, value = judge(result)
  return wrong or disappointment(step, result, value), value
end

-- Makes the steps of a way until one fails. Returns what is wrong, and the value of the first.
local function run_steps(client, way, seconds)
  local deadline = core.system.monotonic() + seconds
  local problem, first
  for i, step in ipairs(way) do
    if not problem or step.always then
      local left = math.max(deadline - core.system.monotonic(), step.always and CLOSE_SECONDS or 0)
      local wrong, value = run_step(client, step, left)
      if wrong and #way > 1 then wrong = ("step %d, %s: %s"):format(i, step.tool, wrong) end
      problem = problem or wrong
      if i == 1 then first = value end
    end
  end
  return problem, first
end

local function choose(call, registered)
  for _, way in ipairs(call.ways) do
    local complete = true
    for _, step in ipairs(way) do complete = complete and registered[step.tool] end
    if complete then return way end
  end
  return nil
end

-- Makes one; returns its entry of the results and the value the tool answered with.
local function run_call(client, call, registered, deadline)
  local way = choose(call, registered)
  local entry = { id = call.id, title = call.title, status = "not_run" }
  if not way then
    if call.declared then entry.status = "failed" end
    entry.reason = "no such tool is registered"
    return entry
  end
  local started = core.system.monotonic()
  local seconds = math.min(call.seconds or CALL_SECONDS, math.max(deadline - started, 0))
  local wrong, value = run_steps(client, way, seconds)
  entry.tool = way[1].tool
  local absent = wrong and call.absent and wrong:find(call.absent, 1, true)
  entry.status = absent and "not_run" or wrong and "failed" or "passed"
  entry.reason = wrong
  entry.seconds = core.system.monotonic() - started
  return entry, value
end

-- What the server reports of itself, once its index has caught up or the time is over.
local function ask_reported(client, info, deadline)
  return reported.settled(info, deadline, function()
    local left = math.max(deadline - core.system.monotonic(), 0)
    local _, value = run_step(client, { tool = "get_server_info", arguments = {} },
      math.min(CALL_SECONDS, left))
    return value
  end)
end

local function has_browser(registered)
  for _, name in ipairs(BROWSERS) do
    if registered[name] then return true end
  end
  return false
end

--- Makes every call: the built-in ones, then those of the project file.
---@param client table of mcp.connect
---@param names string[] the registered tools
---@param deadline number of system.monotonic
---@param declared table[]|nil `smoke` of the project file
---@return table results { [evidence field] = "passed"|"failed"|"not_run", browser_tools_enabled,
---  tools_registered, tools, server_version?, protocol_version, info? = answer of get_server_info,
---  reported = { file_watchers_active?, rag_index_current? },
---  calls = array of { id, title, tool?, status, reason?, seconds? } }
function smoke.run(client, names, deadline, declared)
  local registered = {}
  for _, name in ipairs(names) do registered[name] = true end
  local results = { calls = {}, tools = names, tools_registered = #names }
  local function make(call)
    local entry, value = run_call(client, call, registered, deadline)
    results.calls[#results.calls + 1] = entry
    if call.declared then return end
    results[call.id] = entry.status
    if call.id == "server_info_test" then results.info = value end
  end
  for _, call in ipairs(smoke_calls.built_in) do make(call) end
  for _, call in ipairs(smoke_calls.declared(declared)) do make(call) end
  results.reported = ask_reported(client, results.info, deadline)
  results.browser_tools_enabled = has_browser(registered)
  results.server_version = client.server.version
  results.protocol_version = client.protocol_version
  return results
end

return smoke
