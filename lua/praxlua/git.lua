--- Reads a git work tree through the git tool, and never writes to it.
--
-- Git is run without optional locks (so the index is not refreshed on disk), hooks, a file system
-- monitor, replacement objects, a pager or fetches on demand, and with a short environment: what
-- the caller's GIT_* variables or the repository's own configuration say cannot lead elsewhere.
-- Lists are read NUL-separated, so any file name survives.
local process = require("praxlua.process")

local git = {}

local MIB = 1024 * 1024
local TIMEOUT = 300 -- seconds; a long history on a cold disk
local LINK, MODULE = "120000", "160000"

local PREFIX = {
  "git", "--no-pager", "--no-optional-locks", "--no-replace-objects", "--literal-pathspecs",
  "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false",
  "-c", "log.showSignature=false", "-c", "protocol.allow=never", "-c", "merge.conflictStyle=merge",
}

local QUIET = { GIT_TERMINAL_PROMPT = "0", GIT_NO_LAZY_FETCH = "1", LC_ALL = "C", LANGUAGE = "" }

--- Git's own words without "fatal: " and line breaks.
local function words(stderr)
  local line = (stderr or ""):match("([^\n]*%S[^\n]*)") or "no message"
  return (line:gsub("^fatal: ", ""):gsub("^error: ", ""))
end

local function explain(directory, arguments, result)
  local stderr = result.stderr or ""
  if result.timed_out then
    return ("git %s did not end within %d s in %s; try again when the disk is less busy")
      :format(arguments[1], TIMEOUT, directory), "ETIMEDOUT"
  end
  if stderr:find("dubious ownership", 1, true) then
    return ("git refuses %s because the directory belongs to another user; run this as its owner, "
      .. "or trust it: git config --global --add safe.directory '%s'")
      :format(directory, directory), "EOWNER"
  end
  if stderr:find("lazy fetching disabled", 1, true)
    or stderr:find("transport '[^']*' not allowed") then -- fetched on demand, by an older git
    return ("%s is a partial clone (git clone --filter), and older versions are missing in it; use "
      .. "a clone made without --filter"):format(directory), "EPARTIAL"
  end
  if stderr:find("not a git repository", 1, true)
    or stderr:find("must be run in a work tree", 1, true) then
    return ("%s is not a git work tree; name the directory of a cloned source repository")
      :format(directory), "ENOTREPO"
  end
  return ("git %s failed in %s: %s"):format(arguments[1], directory, words(stderr)), "EGIT"
end

--- Runs git in a directory.
---@param directory string
---@param arguments string[] subcommand and its arguments
---@param options? { stdin: string?, cap: integer?, accept: table?, environment: table? } `cap`:
--- bytes of output (256 MiB); `accept`: the set of exit codes beside 0 that are an answer and not a
--- failure; `environment`: further variables
---@return string|nil stdout
---@return string|integer message_or_code the exit code when there is output, else the message
---@return string|nil code ENOGIT, EOWNER, ENOTREPO, ETIMEDOUT, EFBIG, EGIT
function git.run(directory, arguments, options)
  options = options or {}
  local argv = table.move(PREFIX, 1, #PREFIX, 1, {})
  argv[#argv + 1], argv[#argv + 2] = "-C", directory
  table.move(arguments, 1, #arguments, #argv + 1, argv)
  local variables = {}
  for name, value in pairs(QUIET) do variables[name] = value end
  for name, value in pairs(options.environment or {}) do variables[name] = value end
  local result, message, code = process.run({
    argv = argv, environment = process.environment(variables), stdin = options.stdin,
    timeout = TIMEOUT, cap = options.cap or 256 * MIB,
  })
  if not result then
    if code == "ENOENT" then
      return nil, "git was not found on PATH; install git and run this again", "ENOGIT"
    end
    return nil, ("git could not be started in %s: %s"):format(directory, message), code
  end
  if result.truncated then
    return nil, ("git %s answered more than can be read in %s; use a smaller source")
      :format(arguments[1], directory), "EFBIG"
  end
  local accepted = result.code == 0 or (options.accept and options.accept[result.code])
  if result.timed_out or result.signal and result.signal ~= 0 or not accepted then
    return nil, explain(directory, arguments, result)
  end
  return result.stdout, result.code
end

-- The items of a list that ends each with a NUL; a last one without it was cut off and comes too.
local function items(out) return out:gmatch("[^\0]+") end

-- What was read from an answer; nil when it is none that git gives: another program of that name,
-- or one that was cut off.
local function sensible(value, directory, arguments)
  if value then return value end
  return nil, ("git %s gave no answer that makes sense in %s; check what `git` on PATH is")
    :format(arguments[1], directory), "EGIT"
end

local function line_of(directory, arguments)
  local out, message, code = git.run(directory, arguments)
  if not out then return nil, message, code end
  local line = out:gsub("\n$", "")
  return sensible(line ~= "" and line, directory, arguments)
end

-- The one object name, or branch (`pattern`), that git prints; nil, message, code; or false when
-- it ends with 1, its way to say no.
local function name_of(directory, arguments, pattern)
  local out, status, code = git.run(directory, arguments, { accept = { [1] = true } })
  if not out then return nil, status, code end
  if status ~= 0 then return false end
  return sensible(out:match(pattern), directory, arguments)
end

local OBJECT = "^(%x+)\n?$"

--- The root of the work tree a directory lies in, with links resolved.
---@return string|nil path
---@return string|nil message
---@return string|nil code ENOTREPO when it lies in none
function git.toplevel(directory)
  return line_of(directory, { "rev-parse", "--show-toplevel" })
end

--- The commit that is checked out, and whether the history is cut off there.
---@param directory string
---@return { commit: string, is_shallow: boolean }|nil tip `commit` a full hexadecimal name;
--- `is_shallow`: as after `git clone --depth`
---@return string|nil message
---@return string|nil code ENOCOMMIT when nothing was ever committed
function git.tip(directory)
  local arguments = { "rev-parse", "--is-shallow-repository", "--verify", "--quiet",
    "HEAD^{commit}" }
  local out, status, code = git.run(directory, arguments, { accept = { [1] = true } })
  if not out then return nil, status, code end
  if status ~= 0 then
    return nil, ("%s has no commit yet; commit its content first"):format(directory), "ENOCOMMIT"
  end
  local depth, commit = out:match("^(%l+)\n(%x+)\n?$")
  local is_known = depth == "true" or depth == "false"
  return sensible(is_known and { commit = commit, is_shallow = depth == "true" }, directory,
    arguments)
end

--- The branch that is checked out.
---@return string|nil branch nil when the work tree is on no branch
---@return string|nil message
---@return string|nil code EDETACHED, or a failure of git
function git.branch(directory)
  local branch, message, code = name_of(directory,
    { "symbolic-ref", "--quiet", "--short", "HEAD" }, "^([^\n]+)\n?$")
  if branch == false then return nil, directory .. " is on no branch", "EDETACHED" end
  return branch, message, code
end

--- What differs between the commit, the index and the work tree, untracked files included.
---@param directory string
---@param paths? string[] only beneath these
---@return { code: string, path: string }[]|nil entries
---@return string|nil message
---@return string|nil code
function git.status(directory, paths)
  local arguments = { "status", "--porcelain=v1", "-z", "--untracked-files=normal", "--no-renames" }
  if paths then
    arguments[#arguments + 1] = "--"
    table.move(paths, 1, #paths, #arguments + 1, arguments)
  end
  local out, message, code = git.run(directory, arguments)
  if not out then return nil, message, code end
  local entries = {}
  for item in items(out) do
    local state, path = item:match("^(..) (.+)$")
    if not state then return sensible(nil, directory, arguments) end
    entries[#entries + 1] = { code = state, path = path }
  end
  return entries
end

-- The files of a listing; nil when a line of it is none.
local function parse_listing(out, pattern)
  local files = {}
  for item in items(out) do
    local mode, oid, path = item:match(pattern)
    if not mode then return nil end
    files[#files + 1] = { path = path, mode = mode, oid = oid }
  end
  return files
end

--- The tracked files, from the index or of a commit.
---@param directory string
---@param commit? string
---@param paths? string[] only beneath these
---@return { path: string, mode: string, oid: string }[]|nil files `mode` as git writes it
--- ("100644")
---@return string|nil message
---@return string|nil code
function git.files(directory, commit, paths)
  local arguments = commit and { "ls-tree", "-r", "-z", "--full-tree", commit } or
    { "ls-files", "-s", "-z" }
  if paths then
    arguments[#arguments + 1] = "--"
    table.move(paths, 1, #paths, #arguments + 1, arguments)
  end
  local out, message, code = git.run(directory, arguments)
  if not out then return nil, message, code end
  local pattern = commit and "^(%d+) %a+ (%x+)\t(.+)$" or "^(%d+) (%x+) %d\t(.+)$"
  return sensible(parse_listing(out, pattern), directory, arguments)
end

--- The key under which a version of a file is known: links and files with one content differ.
---@param mode string git's mode
---@param oid string
---@return string
function git.key(mode, oid)
  return (mode == LINK and "link:" or mode == MODULE and "module:" or "file:") .. oid
end

-- The commits of a log with raw changes; nil when it is not one.
local function parse_log(out)
  local commits, current, change = {}, nil, nil
  for item in items(out) do
    local commit, date = item:match("^\n*\1(%x+) (%d+%-%d+%-%d+)$")
    if change then
      change.path = item
      current.changes[#current.changes + 1] = change
      change = nil
    elseif commit then
      current = { commit = commit, date = date, changes = {} }
      commits[#commits + 1] = current
    elseif item:find("[^\n]") then
      local old_mode, mode, old, new = item:match("^\n*:(%d+) (%d+) (%x+) (%x+) %a%d*$")
      if not current or not old_mode then return nil end
      change = { old_mode = old_mode, mode = mode, old = old, new = new }
    end
  end
  return not change and commits or nil
end

--- The commits that changed something beneath `paths`, newest first.
---@param directory string
---@param paths string[]
---@param options? { first_parent: boolean?, from: string[]? } `from`: starting commits (HEAD)
---@return table[]|nil commits { commit, date = "YYYY-MM-DD", changes = { path, old, new, old_mode,
--- mode } }; a name of zeroes is "absent"
---@return string|nil message
---@return string|nil code
function git.log(directory, paths, options)
  options = options or {}
  local arguments = { "log", "--raw", "-z", "--no-abbrev", "--no-renames", "--root", "-m",
    "--no-ext-diff", "--no-textconv", "--no-color", "--no-notes", "--format=%x01%H %cs",
    options.first_parent and "--first-parent" or "--full-history" }
  local from = options.from or { "HEAD" }
  table.move(from, 1, #from, #arguments + 1, arguments)
  arguments[#arguments + 1] = "--"
  table.move(paths, 1, #paths, #arguments + 1, arguments)
  local out, message, code = git.run(directory, arguments)
  if not out then return nil, message, code end
  return sensible(parse_log(out), directory, arguments)
end

--- Every version a file ever had, by its path at that time.
---@param directory string
---@param paths string[]
---@param from? string[] starting commits (HEAD)
---@return table<string, table<string, boolean>>|nil versions path -> set of git.key
---@return string|nil message
---@return string|nil code
function git.history(directory, paths, from)
  local commits, message, code = git.log(directory, paths, { from = from })
  if not commits then return nil, message, code end
  local versions = {}
  for _, commit in ipairs(commits) do
    for _, change in ipairs(commit.changes) do
      if change.new:find("[^0]") then
        versions[change.path] = versions[change.path] or {}
        versions[change.path][git.key(change.mode, change.new)] = true
      end
    end
  end
  return versions
end

--- The day on which each file was last changed.
---@return table<string, string>|nil dates path -> "YYYY-MM-DD"
---@return string|nil message
---@return string|nil code
function git.dates(directory, paths)
  local commits, message, code = git.log(directory, paths)
  if not commits then return nil, message, code end
  local dates = {}
  for _, commit in ipairs(commits) do
    for _, change in ipairs(commit.changes) do
      dates[change.path] = dates[change.path] or commit.date
    end
  end
  return dates
end

--- The content of a blob.
---@return string|nil data, string? message, string? code
function git.blob(directory, oid)
  assert(oid:match("^%x+$"), "git.blob: not an object name")
  local out, message, code = git.run(directory, { "cat-file", "blob", oid })
  if not out then return nil, message, code end
  return out
end

-- The answers of `git cat-file --batch`: for each name a line "NAME blob SIZE" and the content.
local function parse_blobs(out)
  local blobs, at = {}, 1
  while at <= #out do
    local oid, size, from = out:match("^(%x+) blob (%d+)\n()", at)
    if not oid then return nil end
    blobs[oid] = out:sub(from, from + size - 1)
    at = from + size + 1
  end
  return blobs
end

--- The contents of blobs, in one go.
---@param directory string
---@param oids string[] full names
---@return table<string, string>|nil blobs by name
---@return string|nil message
---@return string|nil code
function git.blobs(directory, oids)
  if #oids == 0 then return {} end
  local arguments = { "cat-file", "--batch" }
  local out, message, code = git.run(directory, arguments,
    { stdin = table.concat(oids, "\n") .. "\n" })
  if not out then return nil, message, code end
  return sensible(parse_blobs(out), directory, arguments)
end

-- What `--raw -z` says of renames: pairs of paths, each after the other; nil when it is no such
-- list.
local function parse_renames(out)
  local renames, pending, from = {}, nil, nil
  for item in items(out) do
    local status = item:match("^:%d+ %d+ %x+ %x+ (%a)%d*$")
    if from then
      renames[#renames + 1] = { from = from, to = item }
      pending, from = nil, nil
    elseif pending == "R" then
      from = item
    elseif pending then
      pending = nil
    elseif status then
      pending = status
    else
      return nil
    end
  end
  return not pending and not from and renames or nil
end

-- As `git merge` looks for them: half of the content is the same.
local RENAMES = { "-r", "--raw", "-z", "--no-abbrev", "--no-ext-diff", "--no-textconv",
  "--find-renames=50%", "-l5000", "--diff-filter=R" }

local function renames_of(directory, arguments, accept)
  local out, message, code = git.run(directory, arguments, { accept = accept })
  if not out then return nil, message, code end
  return sensible(parse_renames(out), directory, arguments)
end

--- The files that have another path in a later commit, as git finds them by their content.
---@param directory string
---@param from string commit
---@param to string commit
---@param paths string[] beneath these only
---@return { from: string, to: string }[]|nil renames
---@return string|nil message
---@return string|nil code
function git.renames(directory, from, to, paths)
  local arguments = table.move(RENAMES, 1, #RENAMES, 2, { "diff-tree" })
  for _, word in ipairs({ from, to, "--", table.unpack(paths) }) do
    arguments[#arguments + 1] = word
  end
  return renames_of(directory, arguments)
end

--- The same between the files of two folders outside of any repository.
---@param directory string that holds both
---@param from string name of a folder in it
---@param to string
---@return { from: string, to: string }[]|nil renames paths beginning with the folders' names
---@return string|nil message
---@return string|nil code
function git.folder_renames(directory, from, to)
  local arguments = table.move(RENAMES, 2, #RENAMES, 3, { "diff", "--no-index" })
  arguments[#arguments + 1], arguments[#arguments + 2] = from, to
  return renames_of(directory, arguments, { [1] = true })
end

--- Tracked files whose changes git was told not to look at (assume-unchanged, sparse checkouts), so
--- that a clean status says nothing about them.
---@param directory string
---@param paths string[]
---@return string[]|nil files, string? message, string? code
function git.hidden(directory, paths)
  local arguments = table.move(paths, 1, #paths, 5, { "ls-files", "-v", "-z", "--" })
  local out, message, code = git.run(directory, arguments)
  if not out then return nil, message, code end
  local files = {}
  for item in items(out) do
    local tag, path = item:match("^(%a) (.+)$")
    if not tag then return sensible(nil, directory, arguments) end
    if tag:find("[%lS]") then files[#files + 1] = path end
  end
  return files
end

--- The full name of a commit that exists here.
---@param directory string
---@param name string hexadecimal, at least 4 digits; anything else does not exist
---@return string|nil commit
function git.commit_exists(directory, name)
  if not name:match("^%x%x%x%x+$") or #name > 64 then return nil end
  return name_of(directory, { "rev-parse", "--verify", "--quiet", name .. "^{commit}" }, OBJECT)
    or nil
end

--- Whether commit `a` is `b` or one of its ancestors. Both must exist.
---@return boolean|nil yes, string? message, string? code
function git.is_ancestor(directory, a, b)
  local out, status, code = git.run(directory, { "merge-base", "--is-ancestor", a, b },
    { accept = { [1] = true } })
  if not out then return nil, status, code end
  return status == 0
end

return git
