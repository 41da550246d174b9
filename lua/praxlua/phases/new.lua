--- `phase new`: a phase script to begin with. As it stands it passes `phase check`, and runs.
local core = require("praxlua.core")
local phases = require("praxlua.phases")
local text = require("praxlua.text")

local new = {}

local LONGEST = 64 -- of an id

local HEAD = [[
--- %s
--
-- A phase of this project's upgrades. It runs in a process of its own and can do nothing by itself:
-- it asks the host, and what it may ask for is granted below. docs/writing-phases.md is the guide,
-- docs/phase-api.md lists everything that host has. Try it without an upgrade:
--
--   praxlua phase check %s
---@type praxlua.phase.Phase
local phase = {
  title = "%s",

  -- When it runs: after = or before = the id of a phase (see them with: praxlua phase list).
  %s = "%s",
]]

local SCRIPT = [[

  -- What it may do. Ask for no more than it uses:
  --   target = "read" or "write", project = "read" or "write", source = "read",
  --   tools = { "git" }, services = { "validation" }, network = true
  grants = { target = "read" },

  -- What it may use. Over a limit it ends at once, and the upgrade is undone. Left out: the
  -- defaults.
  limits = { wall = 10 }, -- seconds

  -- What it hands back; the host checks it before the next phase begins.
  evidence = { entries_seen = integer{ min = 0 } },
}

---@param host praxlua.phase.Host
function phase.run(host)
  -- need() gives back what a call answered, or ends the phase with the host's message.
  local entries = need(host.target.list("."))
  host.log("there are " .. #entries .. " entries in the installation")
  return { entries_seen = #entries }
end

return phase
]]

local MANUAL = [[

  -- What a person has to do. The upgrade stops here, with everything before it done and still
  -- undoable, until somebody says:
  --
  --   praxlua resume --evidence approved_by=NAME
  manual = "Look at the new standards and say who approves of them.",

  -- What that person has to tell. It is kept with the session and appears in the report.
  evidence = { approved_by = string_of{ min_length = 1 } },
}

return phase
]]

local function usage(message, next_step)
  return nil, { exit_code = 2, status = "usage", message = message, next = next_step }
end

local function failed(message, next_step)
  return nil, { exit_code = 1, status = "failed", message = message, next = next_step }
end

-- The id a name stands for; a number in front of it only orders files.
local function id_of(name)
  local id = name:gsub("^%d+%-", "")
  local good = id:find("^%l[%l%d%-]*$") and not id:find("%-$") and not id:find("--", 1, true)
  return good and #name <= LONGEST and id or nil
end

local function check_name(name)
  local shown = text.shorten(text.visible(name), 60)
  local id = id_of(name)
  if not id then
    return usage("'" .. shown .. "' is no name of a phase",
      "take lower case words joined by '-', such as rename-theme")
  end
  for _, file in pairs(phases.BUILT_IN) do
    if phases.stem(file) == id then
      return usage("'" .. id .. "' is a built-in phase",
        "take another name; place yours by it with --after " .. id .. " or --before " .. id)
    end
  end
  return id
end

-- Whether there is a phase to be placed by.
local function check_place(place, target, directory)
  local is_there = directory and core.file.exists(directory)
    and core.file.realpath(directory) ~= core.file.realpath((target or "") .. "/phases")
  local all, message, _, next_step = phases.all(target, is_there and { directory } or nil)
  if not all then
    return failed(message, next_step or "mend that script first: praxlua phase check FILE")
  end
  if phases.find(all, place) then return true end
  local ids = {}
  for i, phase in ipairs(all) do ids[i] = phase.id end
  local near = text.nearest(place, ids)
  return usage("there is no phase '" .. text.shorten(text.visible(place), 60) .. "'",
    near and "did you mean " .. near .. "?" or "see them all with: praxlua phase list")
end

local function title_of(id)
  local words = id:gsub("-", " ")
  return words:sub(1, 1):upper() .. words:sub(2)
end

--- The text of a script.
---@param name string the file's name without its ending
---@param options { after: string?, before: string?, manual: boolean? }
---@return string
function new.script(name, options)
  local id = id_of(name)
  local field = options.before and "before" or "after"
  local title = title_of(id)
  return HEAD:format(title .. ".", name .. ".lua", title, field,
    options.before or options.after or "content-upgrade") .. (options.manual and MANUAL or SCRIPT)
end

-- Writes a file that is not there yet, at once and as a whole: under another name first, which a
-- link then makes its own. It never replaces one.
local function write_new(path, data)
  local draft = string.format("%s.%s", path, core.system.uuid())
  local ok, message, code = core.file.write_atomic(draft, data)
  if not ok then return nil, message, code end
  ok, message, code = core.file.link(draft, path)
  local removed, problem, why = core.file.remove(draft)
  if not ok then return nil, message, code end
  if not removed then return nil, problem, why end
  return true
end

local function place_of(options)
  if options.directory then return options.directory, options.directory end
  if options.target then return options.target .. "/phases" end
  return "."
end

-- What to type next.
local function advice(path, folder)
  local own = folder and " --phases " .. text.quoted(folder) or ""
  return {
    path = path, check = "praxlua phase check " .. text.quoted(path),
    list = "praxlua phase list" .. own,
    try = "praxlua rehearse --source DIR" .. own .. "   (on a private copy)",
  }
end

--- Writes a script.
---@param name string
---@param options { after: string?, before: string?, manual: boolean?, directory: string?,
---  target: string? } directory: where; else the target's phases folder, else the working directory
---@return { path: string, check: string, list: string, try: string }|nil made the path, and what to
---  type next
---@return table? refusal a result for the command line
function new.write(name, options)
  local id, refusal = check_name(name)
  if not id then return nil, refusal end
  local place = options.before or options.after
  if place then
    local there
    there, refusal = check_place(place, options.target, options.directory)
    if not there then return nil, refusal end
  end
  local directory, folder = place_of(options)
  local path = directory == "." and name .. ".lua" or directory .. "/" .. name .. ".lua"
  local ok, message, code = core.file.mkdir(directory)
  if ok then ok, message, code = write_new(path, new.script(name, options)) end
  if ok then return advice(path, folder or directory == "." and "." or nil) end
  if code == "EEXIST" and core.file.exists(path) then
    return usage(path .. " exists already", "take another name, or edit that one")
  end
  return failed(message, "name another folder with --dir")
end

return new
