--- What a server reports of itself beside its tools: whether its file watchers run, and whether its
--- search index is what the files are.
local core = require("praxlua.core")

local reported = {}

-- Where it may stand in the answer of get_server_info; the first that is there counts.
local PLACES = {
  file_watchers_active = {
    { "server", "file_watchers_active" }, { "file_watchers", "active" }, { "watchers", "active" },
    { "file_watchers_active" },
  },
  rag_index_current = {
    { "server", "rag_index_current" }, { "rag", "index_current" }, { "index", "current" },
    { "rag_index_current" },
  },
}

--- Seconds that an index may take to catch up with files that an upgrade has just changed.
reported.settle_seconds = 30

local PAUSE_FIRST, PAUSE_LONGEST = 0.1, 1

local function at(value, place)
  for _, key in ipairs(place) do
    if type(value) ~= "table" then return nil end
    value = value[key]
  end
  return value
end

--- What an answer of get_server_info reports.
---@param info any
---@return { file_watchers_active: boolean?, rag_index_current: boolean? } nil: not reported
function reported.read(info)
  local found = {}
  for name, places in pairs(PLACES) do
    for _, place in ipairs(places) do
      local value = at(info, place)
      if type(value) == "boolean" then
        found[name] = value
        break
      end
    end
  end
  return found
end

--- The same, asked again while the index is said to be stale: it is built anew in the background.
---@param info any the first answer
---@param deadline number of system.monotonic
---@param again fun(): any asks once more; nil when there is no answer
---@return { file_watchers_active: boolean?, rag_index_current: boolean? }
function reported.settled(info, deadline, again)
  deadline = math.min(deadline, core.system.monotonic() + reported.settle_seconds)
  local found, pause = reported.read(info), PAUSE_FIRST
  while found.rag_index_current == false do
    local left = deadline - core.system.monotonic()
    if left <= 0 or core.system.interrupted() or core.cancel.asked() then break end
    core.system.sleep(math.min(pause, left))
    pause = math.min(pause * 1.5, PAUSE_LONGEST)
    info = again()
    if info == nil then break end
    found = reported.read(info)
  end
  return found
end

return reported
