--- Steps after an installation: what packages want to be done once they are there (a browser for
-- playwright), as data.
--
-- What can be run is what stands here and what the project's upgrade.lua declares, and nothing
-- else: a step handed in from outside is looked up by its package and its words.
local core = require("praxlua.core")
local failures = require("praxlua.pip_failures")
local json = require("praxlua.json")
local requirements_file = require("praxlua.dependencies.requirements_file")
local tool = require("praxlua.dependencies.tool")

local post_install = {}

local STEP_SECONDS = 600
local OUTPUT_TAIL = 4000

-- `cache`: a folder of ~/.cache that the step fills.
local BUILT_IN = {
  {
    package = "playwright", command = { "playwright", "install", "chromium" }, optional = true,
    seconds = STEP_SECONDS, cache = "ms-playwright",
  },
}

local function declared_by(ctx)
  return ctx.options.project and ctx.options.project.post_install or {}
end

--- Whether the project has steps of its own, of which nobody knows what they write into.
---@param ctx table
---@return boolean
function post_install.are_declared(ctx) return #declared_by(ctx) > 0 end

-- All steps there are. What a project declares for a package takes the place of what is built in.
local function known(ctx)
  local all, declared = {}, {}
  for _, step in ipairs(declared_by(ctx)) do
    local package = requirements_file.normalised(step.package)
    declared[package] = true
    all[#all + 1] = { package = package, command = step.command,
      optional = step.optional or false, seconds = step.seconds or STEP_SECONDS }
  end
  for _, step in ipairs(BUILT_IN) do
    if not declared[step.package] then all[#all + 1] = step end
  end
  return all
end

local function words(step) return table.concat(step.command, " ") end

--- The steps that a requirements file makes necessary. Only packages it requires count; comments
--- and options do not.
---@param ctx table
---@param requirements string content of requirements.txt
---@return table[] steps { package, command (text), optional }
function post_install.detect(ctx, requirements)
  local steps, all = json.array({}), known(ctx)
  for _, package in ipairs(requirements_file.packages(requirements)) do
    for _, step in ipairs(all) do
      if step.package == package then
        steps[#steps + 1] = { package = package, command = words(step), optional = step.optional }
      end
    end
  end
  return steps
end

local function find(ctx, wanted)
  for _, step in ipairs(known(ctx)) do
    if step.package == wanted.package and words(step) == wanted.command then return step end
  end
  error(("unknown post-install step: %s (%s)"):format(tostring(wanted.command),
    tostring(wanted.package)), 0)
end

local function tail(output)
  if #output > OUTPUT_TAIL then output = "…" .. output:sub(-OUTPUT_TAIL) end
  return output
end

local function cache_of(step)
  local home = tool.environment().HOME
  return step.cache and home and home .. "/.cache/" .. step.cache
end

-- Bytes of the files in the environment, and in the cache that the step is known to fill.
local function bytes_in(path, step)
  local size, place = core.tree.size(path), cache_of(step)
  local cache = place and core.tree.size(place)
  return size and size.bytes + (cache and cache.bytes or 0)
end

local function program_of(path, step) return path .. "/bin/" .. step.command[1] end

local function is_done(path, step, done)
  if not done[words(step)] then return false end
  local cache = cache_of(step)
  return not cache or core.file.exists(cache)
    or not core.system.access(program_of(path, step), "x")
end

--- Whether steps need not be run again: an earlier run did, and what they put into a cache, which
--- is another one for another user, is there.
---@param ctx table
---@param path string of the environment
---@param steps table[] of detect
---@param done table<string, boolean> commands that were run
---@return boolean
function post_install.are_done(ctx, path, steps, done)
  for _, step in ipairs(steps) do
    if not is_done(path, find(ctx, step), done) then return false end
  end
  return true
end

local function run_step(ctx, path, step)
  local program = program_of(path, step)
  if not core.system.access(program, "x") then
    return { status = step.optional and "not_run" or "failed", output = "", seconds = 0,
      reason = step.command[1] .. " is not installed in the environment" }
  end
  local argv = table.move(step.command, 2, #step.command, 2, { program })
  local before = bytes_in(path, step)
  local result, problem = tool.run(ctx, argv, { seconds = step.seconds, writes = path })
  if not result then return { status = "failed", output = problem, seconds = 0 } end
  local after = bytes_in(path, step)
  local entry = {
    status = result.code == 0 and not result.timed_out and "success" or "failed",
    output = tail(result.stdout .. result.stderr),
    seconds = result.seconds,
    bytes = before and after and math.max(0, after - before),
  }
  if entry.status == "failed" then
    entry.reason = failures.of(result, words(step), step.seconds)[1].message
  end
  return entry
end

--- Runs steps in an environment. A failed one is reported, not raised.
---@param ctx table
---@param path string of the environment
---@param steps table[] of detect
---@param done table<string, boolean>|nil commands that need not be run again
---@return table[] results { command, package, status = "success"|"failed"|"not_run", output,
---  seconds, optional, bytes?, reason? }: bytes: by how much the files of the environment, and of
---  the cache that a built-in step fills, have grown; nil when that is not known
function post_install.run(ctx, path, steps, done)
  local results = json.array({})
  for i, wanted in ipairs(steps) do
    local step = find(ctx, wanted)
    local entry
    if done and is_done(path, step, done) then
      entry = { status = "not_run", output = "", seconds = 0, reason = "unchanged" }
    else
      tool.progress(ctx, words(step))
      entry = run_step(ctx, path, step)
    end
    entry.command, entry.package, entry.optional = words(step), step.package, step.optional
    results[i] = entry
  end
  return results
end

return post_install
