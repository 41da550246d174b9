--- The calls that show that a server works, as data.
--
-- A call has an id (the evidence field it fills), a title, seconds, and ways to make it: the names
-- of the tools have changed, so the first way counts whose tools are all registered. A way is a
-- list of steps, made one after the other until one fails:
--
--   tool        the name of the tool          arguments   what it is called with
--   expect      a text that the answer holds, in its words or its data
--   not_empty   a field of the answer's data ("results", "data.items") that holds something
--   always      true: made even after a step that failed, so that nothing is left open
--
-- `absent` of a call is what the answer of a failed step says where that which the tool works with
-- was never installed: the call could not be made then, which says nothing about the server.
local smoke_calls = {}

-- A page that needs no network. Its text is not in its address (&#32; is a blank), which tools
-- repeat in their answers.
local PAGE = "data:text/html,<title>praxlua</title><h1>read%20by&%2332;praxlua</h1>"
local TEXT = "read by praxlua"

local QUERY = "testing standards"

-- The browser tool of praxis-os, by either of its names.
local function one_tool(name)
  local function step(arguments)
    arguments.session_id = "praxlua-smoke"
    return { tool = name, arguments = arguments }
  end
  local opened = step({ action = "navigate", url = PAGE })
  local read = step({ action = "query", selector = "h1" })
  local closed = step({ action = "close" })
  read.expect, closed.always = TEXT, true
  return { opened, read, closed }
end

smoke_calls.built_in = {
  {
    id = "server_info_test",
    title = "server information",
    ways = { { { tool = "get_server_info", arguments = {} } } },
  },
  {
    id = "rag_search_test",
    title = "search in the standards",
    ways = {
      { { tool = "search_standards", arguments = { query = QUERY, n_results = 1 },
        not_empty = "results" } },
      { { tool = "pos_search_project", not_empty = "results",
        arguments = { action = "search_standards", query = QUERY, n_results = 1 } } },
    },
  },
  {
    id = "workflow_engine_test",
    title = "list of workflows",
    ways = {
      { { tool = "pos_workflow", arguments = { action = "list_workflows" },
        not_empty = "workflows" } },
      { { tool = "aos_workflow", arguments = { action = "list_workflows" },
        not_empty = "workflows" } },
      { { tool = "list_workflows", arguments = {}, not_empty = "workflows" } },
    },
  },
  {
    id = "browser_smoke_test",
    title = "browser",
    seconds = 60,
    absent = "Executable doesn't exist at", -- Playwright, before "playwright install"
    ways = {
      one_tool("pos_browser"),
      one_tool("aos_browser"),
      {
        { tool = "browser_navigate", arguments = { url = PAGE } },
        { tool = "browser_snapshot", arguments = {}, expect = TEXT },
        { tool = "browser_close", arguments = {}, always = true },
      },
    },
  },
}

--- The calls of a project file, in the same form. They fill no evidence field of their own, and
--- their tools have to be there.
---@param declared table[]|nil `smoke` of the project file
---@return table[] calls
function smoke_calls.declared(declared)
  local calls = {}
  for i, call in ipairs(declared or {}) do
    local steps = {}
    for j, step in ipairs(call.steps or { call }) do
      steps[j] = {
        tool = step.tool, arguments = step.arguments or {}, expect = step.expect,
        not_empty = step.not_empty, always = step.always,
      }
    end
    calls[i] = {
      id = "project_" .. i, title = steps[1].tool .. " (upgrade.lua)", declared = true,
      ways = { steps }, seconds = call.seconds,
    }
  end
  return calls
end

return smoke_calls
