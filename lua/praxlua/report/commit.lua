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
local CAP = 64 * 1024 * 1024 -- bytes of output

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
    directory = ctx.project, timeout = TIMEOUT, stdin = input, cap = CAP,
    environment = process.environment({ GIT_TERMINAL_PROMPT = "0", GIT_EDITOR = "true" }),
  })
  if not result then return nil, "git: " .. message end
  local verb = table.concat({ ... }, " "):match("%f[^%s%z]%l[%l-]*") -- behind git's own options
  if result.timed_out then
    return nil, string.format("git %s did not end within %d s", verb, TIMEOUT)
  end
  if result.truncated then return nil, string.format("git %s says too much", verb) end
  if result.code ~= 0 then
    local said = (result.stderr ~= "" and result.stderr or result.stdout):gsub("%s+$", "")
    return nil, string.format("git %s: %s", verb, text.visible(text.head(said, 3)))
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

-- ---- paths ------------------------------------------------------------------------------------

-- Each path, with something before it and a NUL behind it.
local function listed(paths, before)
  local list = {}
  for i, path in ipairs(paths) do list[i] = (before or "") .. path .. "\0" end
  return table.concat(list)
end

local function pathspecs(paths) return listed(paths, ":(literal)") end

-- The changed paths that git does not ignore.
local function paths_to_commit(ctx)
  local all, ignored, kept = ctx.changed_paths(), {}, {}
  local answer = git_with(ctx, listed(all), "check-ignore", "-z", "--stdin")
  for path in (answer or ""):gmatch("%Z+") do ignored[path] = true end
  for _, path in ipairs(all) do
    if not ignored[path] then kept[#kept + 1] = path end
  end
  return kept
end

-- What git lists of these paths: the entries, each with its NUL, and the set of the paths that have
-- one. `...` is a command whose entries end with a tab and the path from the top of the work tree.
local function entries_of(ctx, paths, ...)
  local prefix, problem = git(ctx, "rev-parse", "--show-prefix")
  if not prefix then return nil, problem end
  local wanted, known, entries, argv, places = {}, {}, {}, { ... }, {}
  for _, path in ipairs(paths) do
    local place = path:match("^[^/]+")
    if not places[place] then argv[#argv + 1] = place end
    wanted[prefix .. path], places[place] = path, true
  end
  local listing
  listing, problem = git(ctx, "--literal-pathspecs", table.unpack(argv))
  if not listing then return nil, problem end
  for entry in listing:gmatch("%Z+") do
    local path = wanted[entry:match("\t(.*)$")]
    if path then
      known[path] = true
      entries[#entries + 1] = entry .. "\0"
    end
  end
  return table.concat(entries), known
end

-- The index as it is, as `git update-index --index-info` takes it.
local function index_of(ctx, paths)
  return entries_of(ctx, paths, "ls-files", "--stage", "--full-name", "-z", "--")
end

-- The set of the paths that the last commit has.
local function committed_of(ctx, paths)
  return select(2, entries_of(ctx, paths, "ls-tree", "-r", "--full-name", "-z", "HEAD", "--"))
end

-- Git takes no path that it does not know and that is not there.
local function only_what_git_takes(ctx, paths, known)
  local kept = {}
  for _, path in ipairs(paths) do
    if known[path] or core.file.stat(ctx.project .. "/" .. path) then kept[#kept + 1] = path end
  end
  return pathspecs(kept)
end

-- ---- the mark ---------------------------------------------------------------------------------

-- Where a session notes how things were before it touches the index: the last commit ("" where
-- there is none) and the index's entries. It tells a run that was killed between that and its
-- commit from one that never came so far.
local function mark_of(ctx) return ctx.folder .. "/committing" end

local function last_commit(ctx)
  return git(ctx, "rev-parse", "--verify", "--quiet", "HEAD") or ""
end

local function set_mark(ctx, entries)
  return core.file.write_atomic(mark_of(ctx), last_commit(ctx) .. "\0" .. entries)
end

local function read_mark(ctx)
  local head, entries = (core.file.read(mark_of(ctx), CAP) or ""):match("^(%x*)%z(.*)$")
  return head and { head = head, entries = entries }
end

-- Makes the index for these paths what it was.
local function restore_index(ctx, paths, entries)
  if #paths == 0 then return true end
  local ok, problem = git_with(ctx, listed(paths), "update-index", "--force-remove", "-z",
    "--stdin")
  if ok and entries ~= "" then
    ok, problem = git_with(ctx, entries, "update-index", "-z", "--index-info")
  end
  return ok, problem
end

-- ---- the commit -------------------------------------------------------------------------------

local function message_of(ctx, info)
  local artifacts = ctx.session.phase_artifacts or {}
  local source = artifacts["0"] or {}
  local version = info.to_version or source.source_version or "a new version"
  return string.format("Upgrade %s to %s\n\nSource commit: %s\nSession: %s\n", ctx.target_name,
    text.visible(version), info.commit or source.source_commit or "unknown",
    ctx.session.session_id)
end

--- Commits the upgrade in the project's repository, when the user asked for it with --git-commit.
---@param ctx table
---@param info { to_version: string?, commit: string? }? for the message
---@return boolean committed false with a warning when it was not possible or nothing changed
function commit.commit_changes(ctx, info)
  if not ctx.options.git_commit or ctx.options.dry_run then return false end
  local obstacle = work_under_way(ctx)
  if obstacle then return declined(ctx, obstacle) end
  local paths = paths_to_commit(ctx)
  if #paths == 0 then
    return declined(ctx, "the project's repository ignores everything that was changed")
  end
  local entries, known = index_of(ctx, paths)
  if not entries then return declined(ctx, known) end
  local ok, message = set_mark(ctx, entries)
  if not ok then return declined(ctx, message) end
  ok, message = git_with(ctx, only_what_git_takes(ctx, paths, known), "add", "--all",
    table.unpack(FROM_INPUT))
  if ok then
    local committed = last_commit(ctx) ~= "" and committed_of(ctx, paths) or {}
    ok, message = git_with(ctx, only_what_git_takes(ctx, paths, committed), "commit", "--quiet",
      "--only", "--message", message_of(ctx, info or {}), table.unpack(FROM_INPUT))
  end
  if ok then return true end
  restore_index(ctx, paths, entries)
  return declined(ctx, message)
end

-- The branch goes back to what it was before our commit `last`.
local function take_back(ctx, last, before)
  if before == "" then return git(ctx, "update-ref", "-d", "HEAD", last) end
  return git(ctx, "update-ref", "HEAD", before, last)
end

--- Takes this session's commit back, if it is the last one, and what a killed run had only staged:
--- the index is as before for the committed paths, the branch goes back to its parent; files are
--- the transaction's business. Anything else in the repository is left alone. May be repeated.
---@param ctx table while its changes are still in force
---@return function|nil again when git could not do it (it needs some space, and the lock of the
---  index, which a killed git may have left): tries once more, and warns when that fails, too
function commit.undo(ctx)
  local mark = read_mark(ctx)
  if not mark then return nil end
  local last, message = last_commit(ctx), git(ctx, "log", "-1", "--format=%B")
  local is_ours = message and message:find("Session: " .. ctx.session.session_id, 1, true)
  if not is_ours and last ~= mark.head then return nil end -- somebody went on from there
  local paths = paths_to_commit(ctx)
  -- The index first: as long as the branch ends with our commit, a second try knows what to do.
  local function unstage() return restore_index(ctx, paths, mark.entries) end
  local function go_back()
    if not is_ours then return true end
    local ok, problem = take_back(ctx, last, mark.head)
    if ok then is_ours = nil end
    return ok, problem
  end
  if unstage() and go_back() then return nil end
  return function()
    local unstaged, staged_problem = unstage()
    local ok, problem = go_back()
    if not ok then
      ctx.warn("the upgrade's commit could not be taken back: " .. problem .. "; when no git is at "
        .. "work any more, see the commit with: git log -1")
    elseif not unstaged then
      ctx.warn("the upgrade's commit was taken back, but its paths are still staged: "
        .. staged_problem .. "; when no git is at work any more, delete .git/index.lock, if it is "
        .. "there, and run: git reset -- " .. ctx.target_name)
    end
  end
end

return commit
