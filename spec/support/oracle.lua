--- The independent checker (oracle.py) of the integration tests: one process of it answers all
-- command lines of a spec file, because its start takes longer than most of its answers.
local cjson = require("cjson")
local core = require("praxlua.core")
local lfs = require("lfs")
local command = require("spec.support.command")
local helper = require("spec.support.helper")

local oracle = {}

local PROGRAM = lfs.currentdir() .. "/spec/support/oracle.py"

-- Kept in the registry: busted loads modules anew for each file, and the finalizer there runs when
-- the process ends.
local KEY = "praxlua.oracle"

-- One line into the fifo of questions, which waits for nobody. No end of one stays open here, where
-- every program that a test starts would inherit it.
local function announce(place, line)
  local ask = assert(io.open(place .. "/ask", "r+"))
  ask:write(line, "\n")
  ask:close()
end

local function finish(place)
  announce(place, "end")
  os.execute("rm -rf " .. command.quote(place))
end

-- It lasts no longer than this process, however that ends. Without what is installed beside Python,
-- which it does not use.
local function start(python)
  local place = (os.getenv("TMPDIR") or "/tmp") .. "/praxlua-oracle-" .. core.system.uuid()
  assert(lfs.mkdir(place))
  assert(os.execute(("%s -E -S %s answer %s %d </dev/null >%s/log 2>&1 &"):format(
    command.quote(python), command.quote(PROGRAM), command.quote(place), core.system.pid(),
    command.quote(place))))
  local pid = command.until_true(function() return helper.read(place .. "/pid") end, 60)
  assert(pid, "the oracle did not start: " .. (helper.read(place .. "/log") or ""))
  local known = { place = place, process = "/proc/" .. pid }
  debug.getregistry()[KEY] = setmetatable(known, { __gc = function() finish(place) end })
  return known
end

--- What oracle.py answers to a command line.
---@param python string the interpreter that it runs in
---@param argv string[]
---@param environment table<string, string> the exact one that it has meanwhile
---@return { code: integer, stdout: string, stderr: string }
function oracle.run(python, argv, environment)
  local known = debug.getregistry()[KEY] or start(python)
  local place = known.place
  assert(lfs.attributes(known.process), "the oracle has ended")
  helper.write(place .. "/question", cjson.encode({ argv = argv, environment = environment }))
  announce(place, "asked")
  local done = assert(io.open(place .. "/done", "r"))
  assert(done:read("l"), "the oracle has ended")
  done:close()
  return cjson.decode(helper.read(place .. "/said"))
end

return oracle
