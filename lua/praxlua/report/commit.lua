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
    return nil, string.format("git %s: %s", verb, text.visible(text.head(said, 3))), result.code
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

-- The set of the paths that a commit ("": none) has.
local function committed_of(ctx, paths, head)
  if head == "" then return {} end
  local entries, known = entries_of(ctx, paths, "ls-tree", "-r", "--full-name", "-z", head, "--")
  if not entries then return nil, known end
  return known
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

-- "" where there is none; nil when git cannot tell.
local function last_commit(ctx)
  local head, problem, code = git(ctx, "rev-parse", "--verify", "--quiet", "HEAD")
  if head or code == 1 then return head or "" end
  return nil, problem
end

local function set_mark(ctx, head, entries)
  return core.file.write_atomic(mark_of(ctx), head .. "\0" .. entries)
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

-- What a person has to do where git could not take something out of its index.
local function still_staged(ctx, problem)
  return string.format("its paths are still staged: %s; when no git is at work any more, delete "
    .. ".git/index.lock, if it is there, and run: git reset -- %s .gitignore", problem,
    ctx.target_name)
end

-- Adds and commits, in an index and on a branch of which the mark is set.
local function add_and_commit(ctx, paths, known, head, message)
  local committed, problem = committed_of(ctx, paths, head)
  if not committed then return nil, problem end
  local ok
  ok, problem = git_with(ctx, only_what_git_takes(ctx, paths, known), "add", "--all",
    table.unpack(FROM_INPUT))
  if not ok then return nil, problem end
  return git_with(ctx, only_what_git_takes(ctx, paths, committed), "commit", "--quiet", "--only",
    "--message", message, table.unpack(FROM_INPUT))
end

--- Commits the upgrade in the project's repository, when the user asked for it with --git-commit.
---@param ctx table
---@param info { to_version: string?, commit: string? }? for the message
---@return boolean committed false with a warning when it was not possible or nothing changed
function commit.commit_changes(ctx, info)
  if not ctx.options.git_commit or ctx.options.dry_run then return false end
  local obstacle = work_under_way(ctx)
  if obstacle then return declined(ctx, obstacle) end
  -- What a run that was killed had begun: how things were before it is known to its mark only.
  local again = commit.undo(ctx)
  if again then
    again()
    return declined(ctx, "what a run that was killed had begun could not be taken back")
  end
  local paths = paths_to_commit(ctx)
  if #paths == 0 then
    return declined(ctx, "the project's repository ignores everything that was changed")
  end
  local head, message = last_commit(ctx)
  if not head then return declined(ctx, message) end
  local entries, known = index_of(ctx, paths)
  if not entries then return declined(ctx, known) end
  local ok
  ok, message = set_mark(ctx, head, entries)
  if not ok then return declined(ctx, message) end
  ok, message = add_and_commit(ctx, paths, known, head, message_of(ctx, info or {}))
  if ok then return true end
  local restored, problem = restore_index(ctx, paths, entries)
  if not restored then message = message .. "; " .. still_staged(ctx, problem) end
  return declined(ctx, message)
end

-- ---- the way back -----------------------------------------------------------------------------

-- The commit before one; "" for the first one of a branch.
local function parent_of(ctx, id)
  local line, problem = git(ctx, "rev-list", "--parents", "--max-count=1", id)
  if not line then return nil, problem end
  return line:match("^%x+ (%x+)") or ""
end

-- How the repository stands to a mark: the last commit, and when it is ours, the one before it.
-- `is_over`: somebody went on from there. nil and why when git cannot tell.
local function look(ctx, mark)
  local last, problem = last_commit(ctx)
  if not last then return nil, problem end
  local message = ""
  if last ~= "" then message, problem = git(ctx, "log", "--max-count=1", "--format=%B", last) end
  if not message then return nil, problem end
  if not message:find("Session: " .. ctx.session.session_id, 1, true) then
    return { before = mark.head, is_over = last ~= mark.head }
  end
  local parent
  parent, problem = parent_of(ctx, last)
  return parent and { ours = last, before = parent }, problem
end

-- The index for these paths as it was; where a commit of somebody else came just before ours, as it
-- is in that.
local function unstage(ctx, paths, mark, found)
  if #paths == 0 or found.before == mark.head then
    return restore_index(ctx, paths, mark.entries)
  end
  return git_with(ctx, pathspecs(paths), "reset", "--quiet", found.before, table.unpack(FROM_INPUT))
end

local function take_back(ctx, found)
  if not found.ours then return true end
  if found.before == "" then return git(ctx, "update-ref", "-d", "HEAD", found.ours) end
  return git(ctx, "update-ref", "HEAD", found.before, found.ours)
end

-- One try; a `last` one goes as far as it can. true, or nil and what is left to be done.
local function try_undo(ctx, paths, mark, is_last)
  local function stays(problem)
    return nil, "the upgrade's commit could not be taken back: " .. problem
      .. "; when no git is at work any more, see it with: git log -1"
  end
  local found, problem = look(ctx, mark)
  if not found then return stays(problem) end
  if found.is_over then return true end
  -- The index first: as long as the branch ends with our commit, a second try knows what to do.
  local unstaged, left = unstage(ctx, paths, mark, found)
  if not unstaged and not is_last then return nil, left end
  local ok
  ok, problem = take_back(ctx, found)
  if not ok then return stays(problem) end
  if unstaged then return true end
  return nil, (found.ours and "the upgrade's commit was taken back, but " or "after a git that was "
    .. "killed, ") .. still_staged(ctx, left)
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
  local paths = paths_to_commit(ctx)
  if try_undo(ctx, paths, mark, false) then return nil end
  return function()
    local ok, problem = try_undo(ctx, paths, mark, true)
    if not ok then ctx.warn(problem) end
  end
end

return commit
