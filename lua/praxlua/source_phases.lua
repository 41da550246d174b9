--- Phases that a source brings along, and whether they may run.
--
-- They come from whoever ships the source, so they run only when the user lets them: for the
-- scripts of one commit, for whatever lies at the source's path, or for one run by
-- --allow-source-phases. What was answered is kept in the installation's .cache. To learn what they
-- ask for, each is described in a worker without any grant, like every script.
local clock = require("praxlua.clock")
local core = require("praxlua.core")
local git = require("praxlua.git")
local json = require("praxlua.json")
local layout = require("praxlua.layout")
local seal = require("praxlua.seal")
local text = require("praxlua.text")

local source_phases = {}

local FORMAT_VERSION = 1
local NAME = "/.cache/allowed-sources.json"
local MAX_BYTES = 1024 * 1024
local KEPT = 100 -- answers; older ones are asked for again

local function read_scripts(root, folder)
  local scripts = {}
  local entries, message, code = root:list(folder)
  if not entries then return nil, message, code end
  for _, entry in ipairs(entries) do
    local path = folder .. "/" .. entry.name
    local stat = entry.name:find("^[^/]+%.lua$") and root:stat(path)
    if stat and stat.type == "file" then
      local data
      data, message, code = root:read(path, MAX_BYTES)
      if not data then return nil, message, code end
      scripts[#scripts + 1] = { file = entry.name, data = data }
    end
  end
  table.sort(scripts, function(a, b) return a.file < b.file end)
  return scripts
end

local function hash_of(scripts)
  local parts = {}
  for i, script in ipairs(scripts) do
    parts[i] = script.file .. "\0" .. core.hash.sha256(script.data) .. "\0"
  end
  return core.hash.sha256(table.concat(parts))
end

--- The scripts a source brings, read once: what is asked about is what runs.
---@param source string
---@return { from: string, path: string, scripts: { file: string, data: string }[], sha256: string,
---  commit: string }|false|nil found false when it brings none
---@return string? message
---@return string? code
function source_phases.read(source)
  local recognised = layout.recognise_source(source)
  local folder = recognised and recognised.source.phases
  local root = folder and core.root.open(source)
  if not root then return false end
  local scripts = {}
  local there, message, code = root:exists(folder)
  if there then scripts, message, code = read_scripts(root, folder) end
  root:close()
  if there == nil or not scripts then
    return nil, "reading the source's own phases: " .. message, code
  end
  if #scripts == 0 then return false end
  local tip = git.tip(source)
  return {
    from = source .. "/" .. folder, path = core.file.realpath(source) or source,
    scripts = scripts, sha256 = hash_of(scripts), commit = tip and tip.commit or "",
  }
end

-- ---------------------------------------------------------------------------------------------
-- What was answered before

local function read_answers(target)
  local data = core.file.read(target .. NAME, MAX_BYTES)
  local dict = data and seal.open(data)
  if not dict or dict.format_version ~= FORMAT_VERSION or type(dict.sources) ~= "table" then
    return {}
  end
  return dict.sources
end

--- Whether the user allowed these scripts before.
---@param target string
---@param found table from source_phases.read
---@return boolean
function source_phases.is_remembered(target, found)
  for _, answer in ipairs(read_answers(target)) do
    local is_same = answer.commit == found.commit and answer.sha256 == found.sha256
    if answer.path == found.path and (answer.always or is_same) then return true end
  end
  return false
end

local function remember(r, found, always)
  local answers, kept = read_answers(r.target), json.array()
  for i = math.max(1, #answers - KEPT + 2), #answers do
    if answers[i].path ~= found.path then kept[#kept + 1] = answers[i] end
  end
  kept[#kept + 1] = { path = found.path, commit = found.commit, sha256 = found.sha256,
    always = always, at = clock.iso() }
  local ok, message = core.file.mkdir(r.target .. "/.cache")
  if ok then
    ok, message = core.file.write_atomic(r.target .. NAME,
      seal.encode({ format_version = FORMAT_VERSION, sources = kept }), 384) -- 0600
  end
  if not ok then r.ctx.warn("the answer could not be kept: " .. tostring(message)) end
end

-- ---------------------------------------------------------------------------------------------
-- Allowing

local function names_of(found)
  local names = {}
  for i, script in ipairs(found.scripts) do names[i] = text.visible(script.file) end
  return table.concat(names, ", ")
end

local CHOICES = {
  { key = "once", label = "let these scripts run, now and as long as the commit is this one" },
  { key = "always", label = "let whatever phases this source brings run from now on" },
  { key = "no", label = "end the upgrade; nothing was changed" },
}

local function not_allowed(found)
  return nil, {
    exit_code = 4, status = "waiting",
    message = string.format("the source brings %s of its own that nobody allowed: %s in %s; "
      .. "nothing was applied", text.plural(#found.scripts, "phase"), names_of(found), found.from),
    next = "read them, and allow them for one run with --allow-source-phases, or answer on a "
      .. "terminal",
  }
end

--- Whether the source's phases of a run may run, without asking.
---@param r table run
---@return boolean
function source_phases.are_allowed(r)
  local found = r.source_phases
  return not found or found.allowed or r.options.allow_source_phases
    or source_phases.is_remembered(r.target, found) or false
end

--- Tells in a dry run that an upgrade would have to be allowed them.
---@param r table run
function source_phases.foretell(r)
  if source_phases.are_allowed(r) then return end
  r.ctx.warn("nobody allowed the source's own phases yet (" .. names_of(r.source_phases)
    .. "); an upgrade asks on a terminal, or takes --allow-source-phases")
end

--- Lets the source's phases of a run run, asking the user where nobody decided yet.
---@param r table run
---@return true|nil
---@return table? result that ends the run: 4 when nobody can be asked, 3 when the answer is no
function source_phases.permit(r)
  local found = r.source_phases
  if source_phases.are_allowed(r) then
    if found then found.allowed = true end
    return true
  end
  if not r.ask then return not_allowed(found) end
  local answer = r.ask(string.format("The source brings %s of its own (%s in %s). May they run, "
    .. "with what is listed above?", text.plural(#found.scripts, "phase"), names_of(found),
    found.from), CHOICES, "no")
  if answer ~= "once" and answer ~= "always" then
    return nil, { exit_code = 3, status = "refused",
      message = "the source's own phases were not allowed to run; nothing was changed",
      next = "read them in " .. found.from .. ", and run the upgrade again" }
  end
  remember(r, found, answer == "always")
  found.allowed = true
  return true
end

return source_phases
