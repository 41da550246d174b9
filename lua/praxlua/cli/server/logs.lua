--- `praxlua server logs`: the end of the server's log, and what comes after it.
local core = require("praxlua.core")
local ends = require("praxlua.cli.server.ends")
local follow = require("praxlua.server.follow")
local log = require("praxlua.server.log")
local run = require("praxlua.run")
local text = require("praxlua.text")

local logs = {}

-- How far in front of the end is looked for so many lines; longer ones are fewer.
local AT_LEAST, PER_LINE = 1024 * 1024, 4096
local POLL_FIRST, POLL_LONGEST = 0.05, 0.25 -- seconds between two looks at the log

-- Where reading begins, in bytes.
local function beginning(ctx, args)
  if args.errors then
    local marked, size = log.marked(ctx) or 0, log.offset(ctx)
    return marked <= size and marked or 0
  end
  return math.max(0, log.offset(ctx) - math.max(AT_LEAST, args.lines * PER_LINE))
end

-- The last lines that pass the filter; of a long log, of those before somebody interrupted.
local function last(reader, count, passes)
  local kept, first = {}, 1
  repeat
    local lines = follow.more(reader)
    for _, line in ipairs(lines) do
      if passes(line) then kept[#kept + 1] = line end
    end
    for i = first, #kept - count do
      kept[i], first = false, i + 1
    end
  until #lines == 0 or core.system.interrupted()
  return table.move(kept, first, #kept, 1, {})
end

local function is_lost(v) return v.lost or v.terminal.lost end

local function say(v, line) v.emit({ event = "server_log", line = text.visible(line) }) end

-- Shows what comes, until somebody has enough, or nobody reads it any more.
local function go_on(reader, passes, v)
  local pause = POLL_FIRST
  while not is_lost(v) and not core.system.interrupted() do
    local lines = follow.more(reader)
    for _, line in ipairs(lines) do
      if passes(line) then say(v, line) end
    end
    pause = #lines > 0 and POLL_FIRST or math.min(pause * 1.3, POLL_LONGEST)
    core.system.sleep(pause)
  end
end

local function every() return true end

-- As of `tail -f`: it ends by a signal, and nothing is wrong then.
local function ended(v, has_none)
  local signal = core.system.interrupted()
  if has_none and not signal and v.terminal.is_terminal then
    return { exit_code = 0, message = "No errors since the server was last started." }
  end
  return { exit_code = signal and run.SIGNAL_EXITS[signal] or 0, silent = true,
    status = signal and "interrupted" or "completed",
    message = signal and not is_lost(v) and "No longer followed." or nil }
end

-- The end of the command where there is no log to be read; nil where there is one.
local function why_unusable(path)
  local stat = core.file.stat(path)
  if not stat then
    return ends.failed(("there is no log at %s: praxlua has started no server here")
      :format(text.visible(path)), "start one with: praxlua server start\n"
      .. "of one that an editor started, the editor has the log")
  end
  local opened, problem
  if stat.type == "file" then opened, problem = io.open(path, "rb") end
  if opened then
    opened:close()
    return nil
  end
  problem = problem or path .. " is no regular file"
  return ends.failed("the log cannot be read: " .. text.visible(problem),
    "look what it is, and whom it belongs to: ls -l " .. text.quoted(path))
end

--- Shows the log.
---@param ctx table with the target
---@param args { lines: integer, follow: boolean?, errors: boolean? }
---@param v table of view.new
---@return table result for view.finish
function logs.show(ctx, args, v)
  local path = log.path(ctx)
  local unusable = why_unusable(path)
  if unusable then return unusable end
  core.system.catch_signals()
  local passes = args.errors and log.error_filter() or every
  local reader = follow.open(path, beginning(ctx, args))
  local lines = last(reader, args.lines, passes)
  for _, line in ipairs(lines) do say(v, line) end
  if args.follow then go_on(reader, passes, v) end
  local rest = follow.close(reader)
  if rest and args.lines > 0 and passes(rest) then say(v, rest) end
  return ended(v, args.errors and not args.follow and #lines == 0)
end

return logs
