--- Compares what a script asks of the host with what it may: verbs that do not exist, calls without
--- a grant, grants without a call.
local calls = require("praxlua.phases.calls")
local findings = require("praxlua.phases.findings")
local outline = require("praxlua.phases.outline")
local reference = require("praxlua.verbs.reference")
local text = require("praxlua.text")

local authority = {}

local shown = findings.shown

local function has(list, wanted)
  for _, name in ipairs(type(list) == "table" and list or {}) do
    if name == wanted then return true end
  end
  return false
end

-- Whether the grants cover what a verb needs.
local function covers(grants, grant)
  if not grant then return true end
  local field, value = grant[1], grant[2]
  local given = type(grants) == "table" and grants[field]
  if field == "services" then return has(given, value) end
  if field == "tools" then return type(given) == "table" and #given > 0 end
  return given == value or given == "write"
end

local function line_of(grant)
  if grant[1] == "services" then return string.format('services = { "%s" }', grant[2]) end
  if grant[1] == "tools" then return 'tools = { "NAME" }' end
  return string.format('%s = "%s"', grant[1], grant[2])
end

local function is_data(name)
  for _, of in ipairs(reference.DATA) do
    if of[1] == name then return true end
  end
  return false
end

-- Every name that may follow `host.`: whole verbs, groups and data.
local function all_names()
  local names = reference.names()
  for group in pairs(reference.groups()) do names[#names + 1] = group end
  for _, of in ipairs(reference.DATA) do names[#names + 1] = of[1] end
  table.sort(names)
  return names
end

local function nearest_verb(use)
  local near = text.nearest(use.name, all_names())
  local group = use.name:match("^(.-)%.")
  if not near and group then
    local within = {}
    for _, name in ipairs(reference.names()) do
      if name:match("^(.-)%.") == group then within[#within + 1] = name:match("%.(.*)$") end
    end
    return string.format("host.%s has: %s", group, table.concat(within, ", "))
  end
  return near and "did you mean host." .. near .. "?"
    or "docs/phase-api.md lists what host has"
end

local function check_verb(c, use)
  local of = reference.VERBS[use.name]
  if not of then
    return c.list:mistake(use.line, string.format("host.%s does not exist", shown(use.name)),
      function() return nearest_verb(use) end)
  end
  if c.grants and not covers(c.grants, of.grant) then
    c.list:mistake(use.line, string.format("host.%s needs a grant that the phase does not ask for",
      use.name), "add to its grants: " .. (use.tool and string.format('tools = { "%s" }',
        shown(use.tool)) or line_of(of.grant)))
  elseif c.grants and use.tool and not has(c.grants.tools, use.tool) then
    c.list:mistake(use.line, string.format("the tool '%s' is not granted", shown(use.tool)),
      string.format('add it to grants.tools: tools = { "%s", … }', shown(use.tool)))
  end
end

-- A group taken as a whole (`local target = host.target`).
local function check_group(c, use)
  local group, grants = use.group, c.grants
  local of = group ~= "json" and reference.GROUPS and (
    (group == "source" or group == "target" or group == "project") and { group, "read" }
    or { "services", group })
  if grants and of and not covers(grants, of) then
    c.list:mistake(use.line, string.format("host.%s needs a grant that the phase does not ask for",
      group), "add to its grants: " .. line_of(of))
  end
end

local function check_use(c, use)
  if use.method then
    c.list:mistake(use.line, string.format("host:%s is called with a colon", shown(use.method)),
      "the functions of host are called with a dot: host." .. shown(use.method))
  elseif use.group and not use.name then
    check_group(c, use)
  elseif not is_data(use.name) then
    check_verb(c, use)
  end
end

-- What of the grants is used: by field, services and tools by name.
local function used_by(uses)
  local used = { services = {}, tools = {} }
  for _, use in ipairs(uses) do
    local of = reference.VERBS[use.name]
    if use.group and not use.name then
      used[use.group] = "unknown"
      used.services[use.group] = true
    elseif of and of.grant then
      local field, value = of.grant[1], of.grant[2]
      if field == "services" then
        used.services[value] = true
      elseif field == "tools" then
        if use.tool then used.tools[use.tool] = true else used.any_tool = true end
      elseif used[field] ~= "unknown" and used[field] ~= "write" then
        used[field] = value
      end
    end
  end
  return used
end

local function hint(c, path, message, mend)
  c.list:hint(outline.line(c.lines, "grants." .. path), message, mend)
end

local function hint_at_roots(c, used)
  for _, root in ipairs({ "source", "target", "project" }) do
    local given = c.grants[root]
    if (given == "read" or given == "write") and not used[root] then
      hint(c, root, string.format("the grant %s = \"%s\" is not used", root, shown(given)),
        "leave it out")
    elseif given == "write" and used[root] == "read" then
      hint(c, root, string.format("it may write in host.%s, but only reads there", root),
        string.format('ask for less: %s = "read"', root))
    end
  end
end

local function hint_at_lists(c, used)
  for i, name in ipairs(type(c.grants.services) == "table" and c.grants.services or {}) do
    if reference.groups()[name] and not used.services[name] then
      hint(c, string.format("services[%d]", i), string.format("the service '%s' is not used",
        shown(name)), "leave it out")
    end
  end
  local tools = type(c.grants.tools) == "table" and c.grants.tools or {}
  for i, name in ipairs(tools) do
    local is_name = type(name) == "string" and name:find("^[^/]+$")
    if is_name and not used.tools[name] and not used.any_tool then
      hint(c, string.format("tools[%d]", i), string.format("the tool '%s' is not used",
        shown(name)), "leave it out")
    end
  end
  if c.grants.network == true and #tools == 0 and #(c.grants.services or {}) == 0 then
    hint(c, "network", "network = true gives nothing to a phase without tools", "leave it out")
  end
end

--- Checks what a script asks of the host.
---@param list table of findings.new
---@param words table of lexer.words
---@param lines table of outline.of
---@param grants table|nil of the phase; nil when they are not known
function authority.check(list, words, lines, grants)
  local found = calls.of(words)
  local c = { list = list, lines = lines, grants = grants }
  local told = {}
  for _, use in ipairs(found.uses) do
    local key = string.format("%d %s %s", use.line, use.name or use.method or use.group,
      use.tool or "")
    if not told[key] then check_use(c, use) end
    told[key] = true
  end
  for _, of in ipairs(calls.attested(words)) do
    if not reference.VERBS[of.verb] then
      list:mistake(of.line, string.format("there is no verb '%s'", shown(of.verb)),
        nearest_verb({ name = of.verb }))
    end
  end
  if grants and not found.indirect then
    local used = used_by(found.uses)
    hint_at_roots(c, used)
    hint_at_lists(c, used)
  end
end

return authority
