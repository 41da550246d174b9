--- Plays dialogues with the client under test, and judges what becomes of them.
local core = require("praxlua.core")
local generate = require("spec.dialogues.generate")
local helper = require("spec.support.helper")
local mcp = require("praxlua.mcp")
local process = require("praxlua.process")
local text = require("praxlua.text")

local play = {}

local PEER = core.file.realpath((os.getenv("B") or "build") .. "/dialogues/peer")
  or (os.getenv("B") or "build") .. "/dialogues/peer"
-- Seconds that a call may take beyond its deadline: last words and an end that is awaited (2), the
-- rest for a machine that is busy otherwise. What it may compute is told apart from that.
local SLACK, CPU_SLACK = 10, 1.5
local CODES = {
  ETIMEDOUT = true, ECLOSED = true, EPROTOCOL = true, EREMOTE = true, EINTR = true, ENOLIB = true,
}

--- How many processes this one has started that still run.
---@return integer
function play.processes()
  core.spawn.reap()
  local count = 0
  for _, pid in ipairs(core.system.children(core.system.pid())) do
    local info = core.system.process(pid)
    if info and info.state ~= "Z" then count = count + 1 end
  end
  return count
end

--- A place to play in: a folder for the scripts and the peer that speaks HTTP.
---@param folder string
---@return table stage close() ends it
function play.open(folder)
  local server = assert(process.start({
    argv = { PEER, "http" }, directory = folder, stdin = "pipe", stdout = "pipe", host = false,
  }))
  local _, port = assert(server:read(10))
  local stage = { folder = folder, server = server, port = tonumber(port) }
  function stage.close()
    server:close_stdin()
    if not server:wait(2) then server:stop(1) end
  end
  stage.processes = play.processes()
  return stage
end

-- Makes a call; notes how it ended and what is wrong with that.
local function call(report, seconds, name, action, ...)
  local began = core.system.monotonic()
  local cpu = os.clock()
  local fine, result, message, code = xpcall(action, debug.traceback, ...)
  local took = core.system.monotonic() - began
  cpu = os.clock() - cpu
  report.seconds = math.max(report.seconds, took - seconds)
  report.cpu_seconds = math.max(report.cpu_seconds, cpu)
  local function bad(what, ...) report.bad = report.bad or name .. ": " .. what:format(...) end
  if not fine then
    bad("it raised %s", result)
    return nil
  end
  if took > seconds + SLACK or cpu > seconds + CPU_SLACK then
    bad("it took %.2f s of %.2f, and computed for %.2f", took, seconds, cpu)
  end
  if result == nil then
    if not CODES[code] then bad("the code is %s", tostring(code)) end
    if type(message) ~= "string" or text.visible(message) ~= message then
      bad("the message is not for people")
    end
    report.code, report.message = code, message
  end
  return result
end

local function converse(dialogue, options, report)
  local seconds = dialogue.seconds
  options.timeout = seconds
  local client = call(report, seconds, "connect", mcp.connect, options)
  if not client then return end
  local tools = call(report, seconds, "tools/list", mcp.list_tools, client, seconds)
  if tools and dialogue.tools and #tools ~= dialogue.tools then
    report.bad = ("%d tools instead of %d"):format(#tools, dialogue.tools)
  end
  local result = tools and call(report, seconds, "tools/call", mcp.call_tool, client, "x",
    { query = "x" }, seconds)
  if result then call(report, 0, "result_text", mcp.result_text, result) end
  call(report, 2, "close", function()
    mcp.close(client)
    return true
  end)
end

--- Starts a peer over stdio.
---@param path string of its script
---@return userdata process of core.spawn
function play.start(path)
  return assert(process.start({
    argv = { PEER, "stdio", path }, stdin = "pipe", stdout = "pipe", stderr = "pipe", host = false,
  }))
end

local function over_stdio(dialogue, path, report)
  local child <close> = play.start(path)
  converse(dialogue, { process = child, where = "the server" }, report)
  child:close_stdin()
  -- Whatever it does, it is gone afterwards.
  if not child:wait(report.code and 0 or 1) then child:stop(0) end
end

--- Plays one dialogue.
---@param stage table of play.open
---@param seed integer
---@param number integer
---@return table report { number, what, transport, code? how it failed, message?, bad? what must not
---  be, seconds beyond the deadline, cpu_seconds of the longest call }
function play.one(stage, seed, number)
  local dialogue = generate.dialogue(seed, number)
  local path = stage.folder .. "/" .. number
  helper.write(path, generate.script(dialogue))
  local report = {
    number = number, what = dialogue.what, transport = dialogue.transport, seconds = 0,
    cpu_seconds = 0,
  }
  local before = helper.descriptors()
  if dialogue.transport == "stdio" then
    over_stdio(dialogue, path, report)
  else
    local url = ("http://127.0.0.1:%d/%d"):format(stage.port, number)
    converse(dialogue, { url = url }, report)
  end
  os.remove(path)
  if dialogue.legal and report.code and not report.bad then
    report.bad = "nothing is wrong, and it failed: " .. report.message
  end
  if helper.descriptors() ~= before then report.bad = report.bad or "a descriptor is left open" end
  return report
end

--- Bytes of memory that this process has, after everything was collected.
---@return integer resident
---@return integer peak
function play.memory()
  collectgarbage()
  collectgarbage()
  local status = helper.read("/proc/self/status")
  return tonumber(status:match("VmRSS:%s+(%d+)")) * 1024,
    tonumber(status:match("VmHWM:%s+(%d+)")) * 1024
end

return play
