--- --git-commit: the upgrade as one commit in the project's own repository, on request only.
--
-- Only the paths that the upgrade changed are committed; whatever else the user has staged or
-- edited stays as it is. Where a commit would be wrong (no repository, the installation
-- ignored, a merge under way) or git refuses, nothing is committed and a warning says why: the
-- upgrade itself does not fail of it.
local core = require("praxlua.core")
local process = require("praxlua.process")
local text = require("praxlua.text")

local commit = {}

local FROM_INPUT = { "--pathspec-from-file=-", "--pathspec-file-nul" }
local TIMEOUT = 120 -- seconds; the user's own hooks run in it

-- Someone who is in the middle of one of these does not want a commit in between.
local UNDER_WAY = {
  MERGE_HEAD = "a merge", CHERRY_PICK_HEAD = "a cherry-pick", REVERT_HEAD = "a revert",
  ["rebase-merge"] = "a rebase", ["rebase-apply"] = "a rebase", BISECT_LOG = "a bisection",
}

-- Git leaves it to the file system when what it wrote reaches the disk; after a power cut a branch
-- could be an empty file. So it is told to sync. (Git before 2.36 passes over that.)
local DURABLE = "core.fsync=all"

-- `input` is for the commands that read paths from their standard input.
local function git_with(ctx, input, ...)
  local result, message = process.run({
    argv = { "git", "--no-pager", "-c", DURABLE, "-C", ctx.project, ... },
    directory = ctx.project, timeout = TIMEOUT, stdin = input,
    environment = process.environment({ GIT_TERMINAL_PROMPT = "0", GIT_EDITOR = "true" }),
  })
  if not result then return nil, "git: " .. message end
  if result.timed_out then
    return nil, string.format("git %s did not end within %d s", (...), TIMEOUT)
  end
  if result.code ~= 0 then
    local said = (result.stderr ~= "" and result.stderr or result.stdout):gsub("%s+$", "")
    return nil, string.format("git %s: %s", (...), text.visible(text.head(said, 3)))
  end
  return (result.stdout:gsub("\n$", ""))
end

local function git(ctx, ...) return git_with(ctx, nil, ...) end

local function work_under_way(ctx)
  local directory, message = git(ctx, "rev-parse", "--absolute-git-dir")
  if not directory then return message end
  for name, what in pairs(UNDER_WAY) do
    if core.file.exists(directory .. "/" .. name) then return what .. " is under way" end
  end
  return nil
end

local function declined(ctx, why)
  ctx.warn("the upgrade was not committed: " .. why)
  return false
end

-- The changed paths that git does not ignore, as pathspecs, each ended by a NUL.
local function paths_to_commit(ctx)
  local all, ignored, kept = ctx.changed_paths(), {}, {}
  local answer = git_with(ctx, table.concat(all, "\0") .. "\0", "check-ignore", "-z", "--stdin")
  for path in (answer or ""):gmatch("%Z+") do ignored[path] = true end
  for _, path in ipairs(all) do
    if not ignored[path] then kept[#kept + 1] = ":(literal)" .. path .. "\0" end
  end
  return table.concat(kept)
end

local function message_of(ctx, info)
  local artifacts = ctx.session.phase_artifacts or {}
  local source = artifacts["0"] or {}
  local version = info.to_version or source.source_version or "a new version"
  return string.format("Upgrade %s to %s\n\nSource commit: %s\nSession: %s\n", ctx.target_name,
    text.visible(version), info.commit or source.source_commit or "unknown",
    ctx.session.session_id)
end

-- Where a session notes that it is about to touch the index: a run that was killed between that and
-- its commit has to be told from one that never came so far.
local function mark_of(ctx) return ctx.folder and ctx.folder .. "/committing" end

--- Commits the upgrade in the project's repository, when the user asked for it with --git-commit.
---@param ctx table
---@param info { to_version: string?, commit: string? }? for the message
---@return boolean committed false with a warning when it was not possible or nothing changed
function commit.commit_changes(ctx, info)
  if not ctx.options.git_commit or ctx.options.dry_run then return false end
  local obstacle = work_under_way(ctx)
  if obstacle then return declined(ctx, obstacle) end
  local paths = paths_to_commit(ctx)
  if paths == "" then
    return declined(ctx, "the project's repository ignores everything that was changed")
  end
  local ok, message = true, nil
  if mark_of(ctx) then ok, message = core.file.write_atomic(mark_of(ctx), "") end
  if ok then ok, message = git_with(ctx, paths, "add", "--all", table.unpack(FROM_INPUT)) end
  if not ok then return declined(ctx, message) end
  ok, message = git_with(ctx, paths, "commit", "--quiet", "--only", "--message",
    message_of(ctx, info or {}), table.unpack(FROM_INPUT))
  if not ok then
    git_with(ctx, paths, "reset", "--quiet", table.unpack(FROM_INPUT)) -- take our "add" back
    return declined(ctx, message)
  end
  return true
end

--- Takes this session's commit back, if it is the last one, and what a killed run had only staged:
--- the index is as before for the committed paths, the branch goes back to its parent; files are
--- the transaction's business. Anything else in the repository is left alone. May be repeated.
---@param ctx table while its changes are still in force
---@return function|nil again when git could not do it (it needs some space, and the lock of the
---  index, which a killed git may have left): tries once more, and warns when that fails, too
function commit.undo(ctx)
  local mark = mark_of(ctx)
  local last, message = git(ctx, "rev-parse", "HEAD"), git(ctx, "log", "-1", "--format=%B")
  local is_ours = message and message:find("Session: " .. ctx.session.session_id, 1, true)
  if not is_ours and not (mark and core.file.exists(mark)) then return nil end
  local paths = paths_to_commit(ctx)
  -- The index first: as long as the branch ends with our commit, a second try knows what to do.
  local function unstage()
    if paths == "" then return true end
    return git_with(ctx, paths, "reset", "--quiet", is_ours and "HEAD~1" or "HEAD",
      table.unpack(FROM_INPUT))
  end
  local function go_back()
    if not is_ours then return true end
    local ok, problem = git(ctx, "update-ref", "HEAD", last .. "~1", last)
    if ok then is_ours = nil end
    return ok, problem
  end
  if unstage() and go_back() then return nil end
  return function()
    local unstaged, staged_problem = unstage()
    local ok, problem = go_back()
    if not ok then
      ctx.warn("the upgrade's commit could not be taken back: " .. problem)
    elseif not unstaged then
      ctx.warn("the upgrade's commit was taken back, but its paths are still staged: "
        .. staged_problem .. "; when no git is at work any more, delete .git/index.lock, if it is "
        .. "there, and run: git reset -- " .. ctx.target_name)
    end
  end
end

return commit
