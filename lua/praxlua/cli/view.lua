--- How a command shows itself: as text for people, or as JSON lines for tools.
local core = require("praxlua.core")
local events = require("praxlua.events")
local terminal = require("praxlua.terminal")

local view = {}

-- The commands that are about an installation: the pattern of their words.
local COMMANDS = {
  "praxlua upgrade", "praxlua resume", "praxlua rollback", "praxlua status", "praxlua rehearse",
  "praxlua conflicts",
  "praxlua diff", "praxlua backup %l+", "praxlua phase %l+", "praxlua run", "praxlua migrate",
  "praxlua init", "praxlua server %l+",
}

-- What to type next, for the same installation as now, from the same place.
local function with_target(next_step, target)
  local named = " --target " .. "'" .. target:gsub("'", "'\\''") .. "'"
  if not target:find("[^%w_@%%+=:,./-]") then named = " --target " .. target end
  for _, words in ipairs(COMMANDS) do
    next_step = next_step:gsub(words .. "%f[%L]", function(found) return found .. named end)
  end
  return next_step
end

-- Events as the others take them, advice with the --target that this command was given.
local function targeted(emit, target)
  if not target then return emit end
  return function(event)
    if event.next then event.next = with_target(event.next, target) end
    if event.event == "waiting" and event.command then
      event.command = with_target(event.command, target)
    end
    return emit(event)
  end
end

--- Makes the view of one command.
---@param args { json: boolean?, quiet: boolean?, target: string? }
---@return table v { emit, terminal, json, quiet, lost = true once events cannot be written };
---  v.finish(result) shows a result and gives its exit code
function view.new(args)
  local v = { json = args.json or false, quiet = args.quiet or false }
  v.terminal = terminal.new({
    out = args.json and io.stderr or io.stdout,
    is_terminal = core.system.isatty(args.json and 2 or 1),
  })
  local people = events.people(v.terminal, { quiet = args.quiet })
  if args.json then
    local lines = events.json(function(line)
      local ok, message = io.stdout:write(line)
      if ok then ok, message = io.stdout:flush() end
      if not ok and not v.lost then
        v.lost = true
        v.terminal.line({ "red", "events cannot be written to standard output: " .. message })
      end
    end)
    v.emit = events.all(lines, people)
  else
    v.emit = people
  end
  v.emit = targeted(v.emit, args.target)

  --- Ends a command that is not an engine's run.
  ---@param result { exit_code: integer, status: string?, message: string?, next: string? }
  ---@return integer exit code
  function v.finish(result)
    v.emit({ event = "finished", exit_code = result.exit_code,
      status = result.status or (result.exit_code == 0 and "completed" or "failed"),
      message = result.message, where = result.where, next = result.next })
    return result.exit_code
  end

  --- Shows the answer of a query: as data with --json, else through `show(terminal)`.
  ---@param command string
  ---@param data any
  ---@param show fun(terminal: table)
  function v.result(command, data, show)
    if not v.json then return show(v.terminal) end
    v.emit({ event = "result", command = command, data = data })
  end

  return v
end

return view
