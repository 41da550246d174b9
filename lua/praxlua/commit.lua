--- `--git-commit`: the upgrade as one commit in the project's own repository.
--
-- Only the paths the upgrade changed are committed, whatever else is staged or edited there; hooks
-- and the user's identity are the project's own. A failure is a warning: the upgrade is good.
local process = require("praxlua.process")

local commit = {}

local SECONDS = 120

local function git(ctx, arguments, stdin)
  local argv = { "git", "-C", ctx.project }
  table.move(arguments, 1, #arguments, #argv + 1, argv)
  local result, message, code = process.run({
    argv = argv, directory = ctx.project, timeout = SECONDS, stdin = stdin,
    environment = process.environment({ GIT_TERMINAL_PROMPT = "0" }),
  })
  if not result then return nil, message, code end
  if result.code == 0 then return result.stdout end
  local words = (result.stderr ~= "" and result.stderr or result.stdout):gsub("%s+$", "")
  return nil, "git " .. arguments[1] .. ": " .. words, "EGIT"
end

-- The changed files git does not ignore, each ended by a NUL.
local function paths_of(ctx)
  local all = {}
  for _, path in ipairs(ctx.changed_paths()) do all[#all + 1] = path .. "\0" end
  local ignored = {}
  local answer = git(ctx, { "check-ignore", "-z", "--stdin" }, table.concat(all)) or ""
  for path in answer:gmatch("%Z+") do ignored[path] = true end
  local kept = {}
  for _, path in ipairs(all) do
    if not ignored[path:sub(1, -2)] then kept[#kept + 1] = ":(literal,top)" .. path end
  end
  return table.concat(kept)
end

--- Commits what this upgrade changed.
---@param ctx table
---@param version string for the commit's message
---@return string|nil commit its id
---@return string? message
---@return string? code
function commit.changes(ctx, version)
  local inside, message, code = git(ctx, { "rev-parse", "--show-toplevel" })
  if not inside then return nil, message, code end
  local paths = paths_of(ctx)
  if paths == "" then return nil, "git ignores everything the upgrade changed", "EIGNORED" end
  local from_stdin = { "--pathspec-from-file=-", "--pathspec-file-nul" }
  local ok
  ok, message, code = git(ctx, { "add", "--all", from_stdin[1], from_stdin[2] }, paths)
  if not ok then return nil, message, code end
  local title = string.format("Upgrade %s to %s", ctx.target_name, version)
  ok, message, code = git(ctx, { "commit", "--quiet", "--only", "-m", title, from_stdin[1],
    from_stdin[2] }, paths)
  if not ok then return nil, message, code end
  local id
  id, message, code = git(ctx, { "rev-parse", "HEAD" })
  if not id then return nil, message, code end
  return (id:gsub("%s+$", ""))
end

return commit
