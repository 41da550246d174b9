--- The calls that show that a server works, as data, and how they are judged.
--
-- A call passes when the tool answers, the answer is not an error, and there is something in it. A
-- tool that is not registered was not called: that is `not_run`, neither passed nor failed; but one
-- that the project file names has to be there.
local core = require("praxlua.core")
local json = require("praxlua.json")
local mcp = require("praxlua.mcp")
local text = require("praxlua.text")

local smoke = {}

--- Seconds for all calls together; a browser has to be started.
smoke.timeout = 120

local PAGE = { session_id = "praxlua-smoke", action = "navigate", url = "about:blank" }
local CLOSE = { session_id = "praxlua-smoke", action = "close" }

--- Each call: the evidence field it fills, the names the tool has or had (the first one that is
--- registered is called), and the arguments of each step.
smoke.calls = {
  {
    id = "server_info_test",
    title = "server information",
    tools = { { "get_server_info", {} } },
  },
  {
    id = "rag_search_test",
    title = "search in the standards",
    tools = { { "search_standards", { query = "testing standards", n_results = 1 } } },
  },
  {
    id = "workflow_engine_test",
    title = "list of workflows",
    tools = {
      { "pos_workflow", { action = "list_workflows" } },
      { "aos_workflow", { action = "list_workflows" } },
      { "list_workflows", {} },
    },
  },
  {
    id = "browser_smoke_test",
    title = "browser",
    tools = { { "pos_browser", PAGE, CLOSE }, { "aos_browser", PAGE, CLOSE } },
    seconds = 60,
  },
}

local CALL_SECONDS = 20

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

local function choose(call, registered)
  for _, tool in ipairs(call.tools) do
    if registered[tool[1]] then return tool end
  end
  return nil
end

-- Whether an answer holds a text, in its words or in its data.
local function holds(result, wanted)
  if mcp.result_text(result):find(wanted, 1, true) then return true end
  local data = result.structuredContent
  return type(data) == "table" and json.encode(data):find(wanted, 1, true) ~= nil
end

local function run_steps(client, tool, seconds, expected)
  local value
  for step = 2, #tool do
    local result, problem = mcp.call_tool(client, tool[1], tool[step], seconds)
    if not result then return problem end
    local wrong, found = judge(result)
    if wrong then return wrong end
    if expected and not holds(result, expected) then
      return "its answer does not hold '" .. text.shorten(text.visible(expected), 80) .. "'"
    end
    value = value or found
  end
  return nil, value
end

-- Calls one; returns its entry of the results and the value the tool answered with.
local function run_call(client, call, registered, deadline)
  local tool = choose(call, registered)
  local entry = { id = call.id, title = call.title, status = "not_run" }
  if not tool then
    if call.declared then entry.status = "failed" end
    entry.reason = "no such tool is registered"
    return entry
  end
  local started = core.system.monotonic()
  local seconds = math.min(call.seconds or CALL_SECONDS, math.max(deadline - started, 0))
  local wrong, value = run_steps(client, tool, seconds, call.expect)
  entry.tool = tool[1]
  entry.status = wrong and "failed" or "passed"
  entry.reason = wrong
  entry.seconds = core.system.monotonic() - started
  return entry, value
end

-- The built-in calls, then those of the project file, which fill no evidence field of their own.
local function all_calls(declared)
  local all = table.move(smoke.calls, 1, #smoke.calls, 1, {})
  for i, call in ipairs(declared or {}) do
    all[#all + 1] = {
      id = "project_" .. i, title = call.tool .. " (upgrade.lua)", declared = true,
      tools = { { call.tool, call.arguments or {} } }, expect = call.expect,
    }
  end
  return all
end

--- Runs every call.
---@param client table of mcp.connect
---@param names string[] the registered tools
---@param deadline number of system.monotonic
---@param declared { tool: string, arguments: table?, expect: string? }[]|nil the project file's
---@return table results { [evidence field] = "passed"|"failed"|"not_run", browser_tools_enabled,
---  tools_registered, tools, server_version?, info? = answer of get_server_info,
---  calls = array of { id, title, tool?, status, reason?, seconds? } }
function smoke.run(client, names, deadline, declared)
  local registered = {}
  for _, name in ipairs(names) do registered[name] = true end
  local results = { calls = {}, tools = names, tools_registered = #names }
  for _, call in ipairs(all_calls(declared)) do
    local entry, value = run_call(client, call, registered, deadline)
    if not call.declared then results[call.id] = entry.status end
    results.calls[#results.calls + 1] = entry
    if call.id == "server_info_test" then results.info = value end
  end
  results.browser_tools_enabled = registered.pos_browser or registered.aos_browser or false
  results.server_version = client.server.version
  return results
end

return smoke
