--- Every name a phase can reach: what there is, and nothing else.
--
-- Each line of a listing is a path and a type: the globals, the fields of the libraries, the
-- metatables, and in a phase that runs the functions of the host.

local names = {}

--- Lua text that defines list(host): the listing, as a text of one line a name.
names.LISTER = [[
local function list(host)
  local lines, seen = {}, {}
  local function walk(path, value)
    lines[#lines + 1] = path .. " " .. type(value)
    if type(value) == "table" and not seen[value] then
      seen[value] = true
      for key, of in next, value do walk(path .. "." .. tostring(key), of) end
    end
    local meta = getmetatable(value)
    if type(meta) == "table" then walk(path .. " metatable", meta) end
    if meta ~= nil and type(meta) ~= "table" then
      lines[#lines + 1] = path .. " metatable " .. tostring(meta)
    end
  end
  local globals = {}
  for key, value in next, _G do globals[key] = value end
  for key, value in next, globals do
    if value ~= globals._G then walk(key, value) end
  end
  if globals._G == _G and getmetatable(_G) == nil then lines[#lines + 1] = "_G table" end
  for _, value in next, { "", 1, true, type, coroutine.create(type) } do
    local meta = getmetatable(value)
    if meta ~= nil then lines[#lines + 1] = type(value) .. " metatable " .. tostring(meta) end
  end
  if host then
    local rest = { artifacts = host.artifacts, options = host.options }
    host.artifacts, host.options = nil, nil
    walk("host", host)
    host.artifacts, host.options = rest.artifacts, rest.options
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end
]]

-- The globals that are functions.
local FUNCTIONS = [[
  assert collectgarbage error getmetatable ipairs load next pairs pcall rawequal rawget rawlen
  rawset select setmetatable tonumber tostring type xpcall
]]

-- What the prelude adds for phases.
local PRELUDE = [[
  need integer number string_of boolean any array_of map_of optional nullable object receipts_of
  answer_of
]]

local LIBRARIES = {
  coroutine = "close create isyieldable resume running status wrap yield",
  math = "abs acos asin atan ceil cos deg exp floor fmod log max min modf rad random sin sqrt tan "
    .. "tointeger type ult",
  string = "byte char find format gmatch gsub len lower match pack packsize rep reverse sub unpack "
    .. "upper",
  table = "concat insert move pack remove sort unpack",
  utf8 = "char codepoint codes len offset",
}

-- What a Lua that was built to be compatible with 5.2 has beside them.
local COMPATIBLE = {}
for name in ("atan2 cosh frexp ldexp log10 pow sinh tanh"):gmatch("%S+") do
  COMPATIBLE["math." .. name .. " function"] = true
end

local NUMBERS = { "KiB", "MiB", "GiB", "math.huge", "math.pi", "math.maxinteger",
  "math.mininteger" }

-- The verbs a phase knows: those of every grant there is. They are written out here, so that a new
-- one is looked at.
local VERBS = [[
  ask json.decode json.encode log progress spawn time undo warn
  source.exists source.hash source.list source.read
  target.exists target.hash target.list target.read target.remove target.rename target.write
  project.exists project.hash project.list project.read project.remove project.rename project.write
  backup.archive_old_backups backup.create_backup backup.list_backups backup.verify_backup_integrity
  content.gitignore content.preview content.stage_server_code content.upgrade
  content.upgrade_server_code
  dependencies.detect_post_install_steps dependencies.install_dependencies
  dependencies.run_post_install_steps dependencies.switch_environment
  lock.acquire lock.held lock.release
  report.append_to_update_log report.commit_changes report.generate_upgrade_summary
  report.generate_validation_report report.update_installation_summary
  server.expected_tools server.health server.log_errors_since server.prove
  server.restart_server server.run_smoke server.run_tests server.watch
  validation.check_backups validation.check_disk_space validation.check_permissions
  validation.check_server_health validation.validate_source_repo
  validation.validate_target_structure validation.verify_checksums
]]

local function expected(mode)
  local lines = { "_G table", "_VERSION string", "_VERSION metatable false",
    "string metatable false", "utf8.charpattern string", "utf8.charpattern metatable false" }
  local function add(words, prefix)
    for name in words:gmatch("%S+") do lines[#lines + 1] = (prefix or "") .. name .. " function" end
  end
  add(FUNCTIONS)
  add(PRELUDE)
  for name, words in pairs(LIBRARIES) do
    lines[#lines + 1] = name .. " table"
    add(words, name .. ".")
  end
  for _, name in ipairs(NUMBERS) do lines[#lines + 1] = name .. " number" end
  if mode == "run" then
    lines[#lines + 1] = "host table"
    lines[#lines + 1] = "host metatable table"
    lines[#lines + 1] = "host metatable.__index function"
    add(VERBS, "host.")
    local groups = {}
    for group in VERBS:gmatch("(%l+)%.") do groups[group] = true end
    for group in pairs(groups) do
      lines[#lines + 1] = ("host.%s table"):format(group)
      lines[#lines + 1] = ("host.%s metatable table"):format(group)
      lines[#lines + 1] = ("host.%s metatable.__index function"):format(group)
    end
  end
  return lines
end

--- What a listing has too much or too little; nil when it is right.
---@param listing string
---@param mode "run"|"describe"
---@return string|nil
function names.differences(listing, mode)
  local there, wanted, wrong = {}, {}, {}
  for line in listing:gmatch("[^\n]+") do there[line] = true end
  for _, line in ipairs(expected(mode)) do
    wanted[line] = true
    if not there[line] then wrong[#wrong + 1] = "missing: " .. line end
  end
  for line in pairs(there) do
    if not wanted[line] and not COMPATIBLE[line] then
      wrong[#wrong + 1] = "new: " .. line
    end
  end
  table.sort(wrong)
  if #wrong > 0 then return table.concat(wrong, "\n") end
end

--- The services a verb of the listing is of, for the spec that compares it with praxlua.verbs.
---@return string[] verbs of all grants, sorted
function names.verbs()
  local list = {}
  for name in VERBS:gmatch("%S+") do list[#list + 1] = name end
  table.sort(list)
  return list
end


return names
