--- What `praxlua server` shows: the tables of its commands.
local clock = require("praxlua.clock")
local text = require("praxlua.text")

local view = {}

local STATES = {
  running = "running", starting = "started, does not answer yet", stopped = "not running",
  foreign = "cannot be told",
}
local NARROWEST = 20 -- columns of a description, however narrow the terminal is

local function add(rows, label, value)
  if value ~= nil and value ~= "" then rows[#rows + 1] = { { "dim", label }, tostring(value) } end
end

local function state_cell(data)
  if data.state == "running" and data.answers == false then
    return { "red", "runs, and does not answer" }
  end
  return { data.state == "running" and "green" or "yellow", STATES[data.state] }
end

--- The table of `server status`.
---@param data table see docs/server.md
---@return fun(t: table)
function view.status(data)
  return function(t)
    local rows = { { { "dim", "server" }, state_cell(data) } }
    add(rows, "process", data.pid and string.format("%d", data.pid))
    add(rows, "since", data.since and ("%s (%s)"):format(data.since, clock.seconds(data.seconds)))
    add(rows, "transport", data.transport)
    add(rows, "url", data.url)
    add(rows, "version", data.server_version)
    add(rows, "tools", data.tools_registered and string.format("%d", data.tools_registered))
    add(rows, "code", data.code)
    add(rows, "log", data.log)
    t.table(rows)
  end
end

--- The table of `server start` and `server restart`.
---@param data table see docs/server.md
---@return fun(t: table)
function view.started(data)
  return function(t)
    local rows = {}
    add(rows, "process", string.format("%d", data.pid))
    add(rows, "url", data.url)
    add(rows, "version", data.server_version)
    add(rows, "tools", string.format("%d", data.tools_registered))
    add(rows, "log", data.log)
    t.table(rows, { indent = 2 })
  end
end

-- The first line of a description, as far as there is room for it.
local function shortened(description, room, t)
  local first = text.trim(description):match("^[^\r\n]*")
  return text.shorten(text.visible(first), math.max(room, NARROWEST), t.sign("ellipsis"))
end

local function show_tools(tools, t)
  local widest = 0
  for _, tool in ipairs(tools) do
    widest = math.max(widest, text.width(text.visible(tool.name)))
  end
  local rows, room = {}, t.columns() - widest - 4
  for i, tool in ipairs(tools) do
    rows[i] = { { "bold", tool.name }, shortened(tool.description, room, t) }
  end
  t.table(rows, { indent = 2 })
end

local VERDICTS = {
  passed = { "green", "ok" }, failed = { "red", "failed" }, not_run = { "dim", "not run" },
}

local function show_calls(calls, t)
  t.line("")
  t.line({ "bold", "Calls:" })
  local rows = {}
  for i, call in ipairs(calls) do
    local seconds = call.seconds and clock.seconds(call.seconds) or ""
    rows[i] = { VERDICTS[call.status], call.title, seconds, call.reason or "" }
  end
  t.table(rows, { indent = 2, right = { [3] = true } })
end

--- What `server probe` found.
---@param data table see docs/server.md
---@return fun(t: table)
function view.probe(data)
  return function(t)
    show_tools(data.tools, t)
    if data.calls then show_calls(data.calls, t) end
    if data.noise_lines > 0 then
      t.line({ "yellow", "note: " }, text.plural(data.noise_lines, "line"),
        " on its standard output were no messages of the protocol; logs belong on standard error")
    end
  end
end

return view
