--- `make docs-api`: writes docs/phase-api.md and lua/praxlua/meta/phase.lua from
-- lua/praxlua/verbs/reference.lua, the limits of praxlua.phases and the kinds of praxlua.schema.
-- With --check it writes nothing and says which of the two is stale (lint runs it so).

package.path = "./?.lua;" .. package.path
local phases = require("praxlua.phases")
local reference = require("praxlua.verbs.reference")
local schema = require("praxlua.schema")
local verbs = require("praxlua.verbs")

local api = {}

local function sorted(of)
  local keys = {}
  for key in pairs(of) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- The verbs of a group, sorted; "" for those that stand alone.
local function verbs_of(group)
  local list = {}
  for _, name in ipairs(reference.names()) do
    if (name:match("^(.-)%.") or "") == group then list[#list + 1] = name end
  end
  return list
end

local function is_in(list, value)
  for _, of in ipairs(list) do
    if of == value then return true end
  end
  return false
end

-- ---------------------------------------------------------------------------------------------
-- The page

local function anchor_of(type_name) return "#" .. type_name:lower() end

-- A type for running text, linked where it is one of ours.
local function linked(of)
  local name = of:match("praxlua%.phase%.(%a+)")
  local shown = "`" .. of:gsub("praxlua%.phase%.", "") .. "`"
  if not name or not reference.TYPES[name] then return shown end
  return "[" .. shown .. "](" .. anchor_of(name) .. ")"
end

local function signature(name, args)
  local words, depth = {}, 0
  for i, arg in ipairs(args) do
    local lead = i > 1 and ", " or ""
    if arg.optional then
      words[#words + 1] = "[" .. lead .. arg[1]
      depth = depth + 1
    else
      words[#words + 1] = lead .. arg[1]
    end
  end
  return name .. "(" .. table.concat(words) .. ("]"):rep(depth) .. ")"
end

local function grant_text(grant)
  if not grant then return "none" end
  if grant[1] == "services" then return ('`services = { "%s" }`'):format(grant[2]) end
  if grant[1] == "tools" then return '`tools = { "NAME" }`' end
  if grant[2] == "read" and grant[1] ~= "source" then
    return ('`%s = "read"`, or `"write"`'):format(grant[1])
  end
  return ('`%s = "%s"`'):format(grant[1], grant[2])
end

local function result_text(of)
  local parts = {}
  for i, result in ipairs(of.returns) do
    parts[i] = linked(result[1]) .. (result[2] ~= "" and ", " .. result[2] or "")
  end
  local text = table.concat(parts, "; ")
  return of.fails and text .. "; or nil, a message and a code" or text
end

local function error_texts(of)
  local list = {}
  for i, text in ipairs(of.errors) do
    local codes, meaning = text:match("^([%u, ]+): (.*)$")
    list[i] = codes:gsub("%u+", "`%0`") .. " (" .. meaning .. ")"
  end
  return table.concat(list, "; ")
end

local function add_verb(out, name)
  local of = reference.VERBS[name]
  out[#out + 1] = ("### `host.%s`\n"):format(signature(name, of.args))
  out[#out + 1] = of.doc .. "\n"
  for _, arg in ipairs(of.args) do
    out[#out + 1] = ("- `%s`%s: %s%s"):format(arg[1], arg.optional and ", optional" or "",
      linked(arg[2]), arg[3] ~= "" and ", " .. arg[3] or "")
  end
  out[#out + 1] = "- Returns: " .. result_text(of)
  if #of.errors > 0 then out[#out + 1] = "- Codes: " .. error_texts(of) end
  out[#out + 1] = "- Grant: " .. grant_text(of.grant)
  out[#out + 1] = "- When: " .. reference.WHEN[of.when] .. "\n"
end

local function fields_table(out, fields)
  out[#out + 1] = "| field | type | meaning |\n|---|---|---|"
  for _, of in ipairs(fields) do
    out[#out + 1] = ("| `%s` | %s | %s |"):format(of[1], linked(of[2]):gsub("|", "\\|"),
      (of.optional and "optional; " or "") .. of[3])
  end
  out[#out + 1] = ""
end

local function number_text(name, value)
  if not value then return "" end
  if name == "memory" or name == "output" then
    if value >= 1 << 30 then return ("%d GiB"):format(value >> 30) end
    if value >= 1 << 20 then return ("%d MiB"):format(value >> 20) end
    return ("%d KiB"):format(value >> 10)
  end
  if value >= 1000000 then return ("%d million"):format(value // 1000000) end
  return tostring(value)
end

local function limits_table(out)
  out[#out + 1] = "| limit | default | at most | of |\n|---|---|---|---|"
  for _, name in ipairs(sorted(phases.LIMITS)) do
    out[#out + 1] = ("| `%s` | %s | %s | %s |"):format(name, number_text(name, phases.LIMITS[name]),
      number_text(name, phases.CEILINGS[name]), reference.LIMITS[name][2])
  end
  out[#out + 1] = ""
end

-- How a constructor of evidence is written, from the parameters of its kind.
local function constructor(of)
  local parameters = schema.PARAMETERS[of.schema]
  if parameters.of then
    return of.name .. (parameters.max and "(type, max)" or "(type)")
  end
  if parameters.fields then return of.name .. "{ field = type, … }" end
  local words = {}
  for _, name in ipairs(sorted(parameters)) do
    if name ~= "pattern" then words[#words + 1] = name .. " = …" end
  end
  return of.name .. (#words > 0 and "{ " .. table.concat(words, ", ") .. " }" or "{}")
end

local function prelude_table(out, is_wanted, head)
  out[#out + 1] = head
  for _, of in ipairs(reference.PRELUDE) do
    if is_wanted(of) then
      local written = of.schema and constructor(of) or of.args and signature(of.name, of.args)
        or of.name
      out[#out + 1] = ("| `%s` | %s |"):format(written, of.doc)
    end
  end
  out[#out + 1] = ""
end

local INTRODUCTION = [[
# The API of phases

Everything a phase script finds around it. How to write one is in
[writing phases](writing-phases.md). This page is made by `make docs-api` from what the code knows
(`lua/praxlua/verbs/reference.lua`); change that, not this.

For an editor with the Lua language server, add the folder `praxlua/meta` of the Lua library (in the
work tree `lua/praxlua/meta`) to `workspace.library`; then `---@param host praxlua.phase.Host` gives
completion and checks.
]]

local CALLING = [[
## Calling the host

A call of the host that fails returns nil, a message and a code; `need(…)` ends the phase with
that message. A call with wrong arguments raises an error. A verb that was not granted ends the
phase, whatever the script would make of it: `denied:grant`. A name that is no verb raises.

Paths are relative to the root they belong to: no `..`, no absolute path, no link on the way. In
the installation `.cache`, `.backups`, `.upgrade`, `.upgrade-lock`, `phases`, `upgrade.lua` and
`venv`, and a `.git` anywhere, cannot be changed.

What crosses to the host and back is plain data: texts, integers, finite numbers, booleans and
tables of them with texts or integers as keys; at most 64 MiB, a million values, 250 arguments,
10 000 integer keys outside of sequences, 32 levels. A JSON `null` does not cross; an empty table is
an empty object.
]]

local function add_phase_table(out)
  out[#out + 1] = "## The phase table\n\nA script returns a table. Its id is its file name, less a "
    .. "number in front and `.lua`.\n"
  fields_table(out, reference.PHASE)
  out[#out + 1] = "## Grants\n\nWhat is not granted is refused.\n"
  fields_table(out, reference.GRANTS)
  out[#out + 1] = "The services: `" .. table.concat(verbs.services(), "`, `") .. "`.\n"
  out[#out + 1] = "## Limits\n\nA limit ends the process at once; the script cannot catch it.\n"
  limits_table(out)
end

local function add_evidence(out)
  out[#out + 1] = "## Evidence\n\nThe fields that a phase returns, each with its type. Every "
    .. "declared field must be there, and no other.\n"
  prelude_table(out, function(of)
    return of.schema or of.returns == "praxlua.phase.Model"
  end, "| type | is |\n|---|---|")
end

local function add_lua(out)
  out[#out + 1] = "## What else there is\n"
  prelude_table(out, function(of)
    return not of.schema and of.returns ~= "praxlua.phase.Model"
  end, "| name | is |\n|---|---|")
  out[#out + 1] = "Of Lua 5.4:\n\n| library | names |\n|---|---|"
  out[#out + 1] = "| | `" .. table.concat(reference.BASE, "`, `") .. "` |"
  for _, name in ipairs(sorted(reference.LIBRARIES)) do
    out[#out + 1] = ("| `%s` | `%s` |"):format(name,
      table.concat(reference.LIBRARIES[name], "`, `"))
  end
  out[#out + 1] = "\n`load` takes text only, `setmetatable` no `__gc`, `collectgarbage` only "
    .. "`\"count\"`; random numbers are the same in every run. There is no `io`, `os`, `debug`, "
    .. "`package`, `require` or `print`, and no global may be assigned.\n"
end

local function add_verdicts(out)
  out[#out + 1] = "## Verdicts\n\nHow a phase ended; in the session, the report and the event "
    .. "`phase_failed`. Any but `ok` ends the upgrade: before the backup it is refused, after it "
    .. "everything is undone.\n\n| verdict | means | what to do |\n|---|---|---|"
  for _, of in ipairs(reference.VERDICTS) do
    out[#out + 1] = ("| `%s` | %s | %s |"):format(of[1], of[2], of[3])
  end
  out[#out + 1] = ""
end

--- The text of docs/phase-api.md.
---@return string
function api.page()
  local out = { INTRODUCTION }
  add_phase_table(out)
  add_evidence(out)
  out[#out + 1] = CALLING
  out[#out + 1] = "`host` also holds data:\n"
  fields_table(out, reference.DATA)
  for _, group in ipairs(reference.GROUPS) do
    out[#out + 1] = "## " .. group[2] .. "\n\n" .. group[3] .. "\n"
    for _, name in ipairs(verbs_of(group[1])) do add_verb(out, name) end
  end
  out[#out + 1] = "## Tables\n\nWhat verbs take and return.\n"
  for _, name in ipairs(sorted(reference.TYPES)) do
    out[#out + 1] = "### " .. name .. "\n\n" .. reference.TYPES[name].doc .. "\n"
    fields_table(out, reference.TYPES[name].fields)
  end
  add_lua(out)
  add_verdicts(out)
  return (table.concat(out, "\n"):gsub("\n\n\n+", "\n\n"):gsub("\n*$", "\n"))
end

-- ---------------------------------------------------------------------------------------------
-- The annotations

-- A text as comment lines, at most `width` columns.
local function comment(text, first)
  local lines, line = {}, first or "---"
  for word in text:gmatch("%S+") do
    if #line + 1 + #word > 98 then
      lines[#lines + 1] = line
      line = "---" .. (first and " " or "")
    end
    line = line .. (line == "---" and "" or " ") .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

local function class(out, name, doc, fields)
  out[#out + 1] = comment(doc)
  out[#out + 1] = "---@class praxlua.phase." .. name
  for _, of in ipairs(fields) do
    local mark = of.optional and "?" or ""
    out[#out + 1] = comment(of[3], ("---@field %s%s %s"):format(of[1], mark, of[2]))
  end
  out[#out + 1] = ""
end

local function parameters(out, args)
  local names = {}
  for i, arg in ipairs(args) do
    names[i] = arg[1]
    out[#out + 1] = comment(arg[3], ("---@param %s%s %s"):format(arg[1],
      arg.optional and "?" or "", arg[2]))
  end
  return table.concat(names, ", ")
end

local function meta_verb(out, name, written)
  local of = reference.VERBS[name]
  out[#out + 1] = comment(of.doc)
  out[#out + 1] = comment("Grant: " .. grant_text(of.grant) .. ". When: "
    .. reference.WHEN[of.when] .. ".")
  local names = parameters(out, of.args)
  for i, result in ipairs(of.returns) do
    out[#out + 1] = comment(result[2], "---@return " .. result[1]
      .. (of.fails and (i == 1 and "|nil" or "?") or ""))
  end
  if of.fails then
    if #of.returns == 1 then out[#out + 1] = "---@return string? message" end
    out[#out + 1] = "---@return string? code"
  end
  out[#out + 1] = ("function %s(%s) end\n"):format(written, names)
end

local function meta_groups(out)
  local fields = {}
  for _, group in ipairs(reference.GROUPS) do
    if group[1] ~= "" then
      fields[#fields + 1] = { group[1], "praxlua.phase.Host." .. group[1], group[3]:gsub("`", "") }
      out[#out + 1] = comment(group[3])
      out[#out + 1] = ("---@class praxlua.phase.Host.%s\nlocal %s = {}\n"):format(group[1],
        group[1])
      for _, name in ipairs(verbs_of(group[1])) do meta_verb(out, name, name) end
    end
  end
  return fields
end

local function meta_host(out, fields)
  for _, of in ipairs(reference.DATA) do fields[#fields + 1] = of end
  class(out, "Host", "What a phase can ask for.", fields)
  out[#out] = "local host = {}\n"
  for _, name in ipairs(verbs_of("")) do meta_verb(out, name, "host." .. name) end
end

local PARAMETER_TYPES = { min = "number?", max = "number?", equals = "boolean?",
  one_of = "string[]?", min_length = "integer?", max_length = "integer?" }

local function meta_constructor(out, of)
  local kind, names = schema.PARAMETERS[of.schema], "parameters"
  if kind.of then
    out[#out + 1] = "---@param of praxlua.phase.Model"
    if kind.max then out[#out + 1] = "---@param max? integer" end
    names = kind.max and "of, max" or "of"
  elseif kind.fields then
    out[#out + 1] = "---@param fields table<string, praxlua.phase.Model>"
    names = "fields"
  else
    local list = {}
    for _, name in ipairs(sorted(kind)) do
      if name ~= "pattern" then list[#list + 1] = name .. ": " .. PARAMETER_TYPES[name] end
    end
    out[#out + 1] = "---@param parameters? { " .. table.concat(list, ", ") .. " }"
  end
  out[#out + 1] = "---@return praxlua.phase.Model"
  out[#out + 1] = ("function %s(%s) end\n"):format(of.name, names)
end

local function meta_prelude(out)
  for _, of in ipairs(reference.PRELUDE) do
    out[#out + 1] = comment(of.doc)
    if of.schema then
      meta_constructor(out, of)
    elseif of.value then
      out[#out + 1] = ("---@type integer\n%s = %d\n"):format(of.name, of.value)
    else
      local names = parameters(out, of.args)
      if of.name == "need" then -- what comes behind the message comes back as well
        out[#out + 1] = "---@param ... any"
        names = names .. ", ..."
      end
      out[#out + 1] = "---@return " .. of.returns
      if of.name == "need" then out[#out + 1] = "---@return any ..." end
      out[#out + 1] = ("function %s(%s) end\n"):format(of.name, names)
    end
  end
end

local META_HEAD = [[
--- What a phase script finds around it, for the Lua language server; nothing loads this file. Made
--- by `make docs-api` from lua/praxlua/verbs/reference.lua.
---@meta

]]

--- The text of lua/praxlua/meta/phase.lua.
---@return string
function api.meta()
  local out = {}
  class(out, "Model", "The type of a field of evidence, made by the functions below.", {
    { "kind", "string", "" },
  })
  class(out, "Phase", "The table a phase script returns.", reference.PHASE)
  class(out, "Grants", "What a phase may do.", reference.GRANTS)
  local limits = {}
  for _, name in ipairs(sorted(phases.LIMITS)) do
    local of = reference.LIMITS[name]
    limits[#limits + 1] = { name, of[1], of[2], optional = true }
  end
  class(out, "Limits", "What a phase may use.", limits)
  for _, name in ipairs(sorted(reference.TYPES)) do
    class(out, name, reference.TYPES[name].doc, reference.TYPES[name].fields)
  end
  local fields = meta_groups(out)
  meta_host(out, fields)
  meta_prelude(out)
  return META_HEAD .. (table.concat(out, "\n"):gsub("\n*$", "\n"))
end

--- The generated files, by path.
api.FILES = { ["docs/phase-api.md"] = api.page, ["lua/praxlua/meta/phase.lua"] = api.meta }

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local data = file:read("a")
  file:close()
  return data
end

local function main(options)
  local stale = false
  for _, path in ipairs(sorted(api.FILES)) do
    local wanted = api.FILES[path]()
    if read(path) ~= wanted then
      if is_in(options, "--check") then
        stale = true
        print(path .. " is stale: make docs-api")
      else
        local file = assert(io.open(path, "wb"))
        assert(file:write(wanted))
        assert(file:close())
        print("wrote " .. path)
      end
    end
  end
  os.exit(not stale, true)
end

if arg and arg[0] and arg[0]:find("spec/support/api%.lua$") then main(arg) end

return api
