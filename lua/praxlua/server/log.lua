--- The log of a server that we started: .cache/mcp_server.log, appended to by each of its runs.
local core = require("praxlua.core")
local json = require("praxlua.json")
local text = require("praxlua.text")

local file = core.file

local log = {}

local NAME = "/.cache/mcp_server.log"
local START = "/.cache/mcp_server.start.json"
local READ_AT_MOST = 4 * 1024 * 1024
local TAIL = 12
local ERROR_LINES = 100

--- The path of the log.
---@param ctx table
---@return string
function log.path(ctx) return ctx.target .. NAME end

--- The path of the file that says which process we started last, and where its lines begin.
---@param ctx table
---@return string
function log.mark_path(ctx) return ctx.target .. START end

--- Where the next run's lines will begin, in bytes.
---@param ctx table
---@return integer offset
function log.offset(ctx)
  local stat = file.stat(log.path(ctx))
  return stat and stat.size or 0
end

--- Writes down where a run's lines begin, for a praxlua that resumes the upgrade.
---@param ctx table
---@param pid integer of the server
---@param offset integer bytes
---@return true|nil
---@return string? message
---@return string? code
function log.mark(ctx, pid, offset)
  return file.write_atomic(log.mark_path(ctx), json.encode({ pid = pid, offset = offset }))
end

--- Where the lines of the run began that was written down last.
---@param ctx table
---@return integer|nil offset bytes
function log.marked(ctx)
  local data = file.read(log.mark_path(ctx), 4096)
  local mark = data and json.decode(data)
  local offset = type(mark) == "table" and mark.offset
  return math.type(offset) == "integer" and offset >= 0 and offset or nil
end

-- The lines from an offset on, printable; of a long log those at its end. A log that is shorter
-- than the offset was begun anew meanwhile.
local function lines_since(ctx, offset)
  local lines = {}
  local from = io.open(log.path(ctx), "rb")
  if not from then return lines end
  local size = from:seek("end")
  if offset > size then offset = 0 end
  from:seek("set", math.max(offset, size - READ_AT_MOST))
  local data = from:read("a") or ""
  from:close()
  for line in data:gmatch("[^\r\n]+") do lines[#lines + 1] = line end
  return lines
end

--- The end of the log, for an error message.
---@param ctx table
---@param offset integer bytes
---@return string text
function log.tail(ctx, offset)
  local lines = lines_since(ctx, offset)
  if #lines == 0 then return "its log is empty" end
  local last = {}
  for i = math.max(1, #lines - TAIL + 1), #lines do last[#last + 1] = text.visible(lines[i]) end
  return "the end of its log:\n    " .. table.concat(last, "\n    ")
end

local function tells_error(line)
  return line:find("%f[%w_]ERROR%f[^%w_]")
    or line:find("%f[%w_]CRITICAL%f[^%w_]")
    or line:find("^%s*Traceback %(most recent call last%)")
end

--- A filter of lines, one after the other: those that tell of errors, a traceback to its end.
---@return fun(line: string): boolean
function log.error_filter()
  local in_traceback = false
  return function(line)
    if in_traceback then
      in_traceback = line:find("^%s") ~= nil
      return true -- the line behind the indented ones names the exception
    end
    in_traceback = line:find("^%s*Traceback %(most recent call last%)") ~= nil
    return in_traceback or tells_error(line) ~= nil
  end
end

--- The lines that tell of errors.
---@param ctx table
---@param offset integer? bytes, `log_offset` of restart_server; where the last run that we started
---  begins when nil
---@return string[] lines printable, the first hundred
function log.errors_since(ctx, offset)
  assert(offset == nil or math.type(offset) == "integer" and offset >= 0, "offset: bytes")
  offset = offset or log.marked(ctx) or log.offset(ctx)
  local found = {}
  for _, line in ipairs(lines_since(ctx, offset)) do
    if #found < ERROR_LINES and tells_error(line) then found[#found + 1] = text.visible(line) end
  end
  return found
end

return log
