--- What decides an upgrade beside the files: how conflicts are answered, the project's settings,
-- the phases that are added, and which praxlua it is. The hash of a plan covers it.
local core = require("praxlua.core")
local folder = require("praxlua.folder")
local json = require("praxlua.json")
local version = require("praxlua.version")

local policy = {}

local SETTINGS = "/upgrade.lua" -- of the project, in the installation

-- Asking and stopping decide nothing by themselves: what was answered counts.
local UNDECIDED = { ask = "stop" }

local function digest(path)
  return core.file.exists(path) and core.hash.file(path) or "none"
end

local function answers_of(options)
  local found = {}
  for path, answer in pairs(options.resolutions or {}) do
    found[path] = ("%s %s %s"):format(answer.answer, answer.id,
      answer.content and core.hash.sha256(answer.content) or "")
  end
  return found
end

local function scripts_of(ctx, options)
  local found = {}
  local folders = { ctx.target .. "/phases" }
  table.move(options.phases or {}, 1, #(options.phases or {}), 2, folders)
  for _, path in ipairs(folders) do
    for _, name in ipairs(folder.names(path) or {}) do
      if name:find("%.lua$") then
        found[path .. "/" .. name] = digest(path .. "/" .. name)
      end
    end
  end
  return found
end

--- The policy of an upgrade as it is now.
---@param ctx table target, options?
---@return table found { on_conflict, driver, answers = path to words, settings, phases = path to
---  SHA-256, praxlua = its version }
function policy.of(ctx)
  local options = ctx.options or {}
  local on_conflict = options.on_conflict or "stop"
  return {
    on_conflict = UNDECIDED[on_conflict] or on_conflict, answers = answers_of(options),
    driver = options.driver or "built-in", settings = digest(ctx.target .. SETTINGS),
    phases = scripts_of(ctx, options), praxlua = version.text,
  }
end

--- One text for equal policies.
---@param found table from policy.of
---@return string
function policy.text(found) return json.encode(found) end

-- The keys whose values differ, sorted.
local function differing(before, now)
  local keys = {}
  for key, value in pairs(before) do
    if now[key] ~= value then keys[#keys + 1] = key end
  end
  for key in pairs(now) do
    if before[key] == nil then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

--- What differs between two policies, in words.
---@param before table from policy.of
---@param now table
---@return string[] changes
function policy.changes(before, now)
  local found = {}
  local function add(...) found[#found + 1] = string.format(...) end
  if before.praxlua ~= now.praxlua then
    add("praxlua itself: version %s then, %s now", tostring(before.praxlua), now.praxlua)
  end
  if before.on_conflict ~= now.on_conflict then
    add("the policy for conflicts: %s then, %s now", tostring(before.on_conflict), now.on_conflict)
  end
  if before.driver ~= now.driver then
    add("the driver: %s then, %s now", tostring(before.driver), now.driver)
  end
  for _, path in ipairs(differing(before.answers or {}, now.answers)) do
    add("the answer to the conflict at %s", path)
  end
  if before.settings ~= now.settings then add("the project's settings, upgrade.lua") end
  for _, path in ipairs(differing(before.phases or {}, now.phases)) do
    add("the phase script %s", path)
  end
  return found
end

return policy
