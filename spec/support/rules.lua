--- The rules of this house that no other tool checks: an array of { name, check = function that
-- returns an array of findings, "file:line: text" }.

local sources = require("spec.support.sources")

local function set(words)
  local members = {}
  for word in words:gmatch("%S+") do members[word] = true end
  return members
end

-- The calls that change a file system, or that could.
local mutating = set([[
  creat rename renameat renameat2 unlink unlinkat rmdir remove mkdir mkdirat mknod mknodat mkfifo
  symlink symlinkat link linkat truncate ftruncate fallocate posix_fallocate chmod fchmod fchmodat
  chown fchown lchown fchownat utime utimes utimensat futimens futimes fsync fdatasync sync syncfs
  write pwrite writev pwritev sendfile splice copy_file_range mkstemp mkdtemp fdopen freopen
  setxattr fsetxattr removexattr
  archive_write_open_filename archive_write_open_fd archive_write_open_FILE archive_write_disk_new
]])

-- Descriptors that are no file: who may write to one, and what it is.
local writers = {
  ["runtime/child.c"] = set("write"),   -- the pipe to the watcher, before exec
  ["runtime/channel.c"] = set("write writev"), -- the socket between host and worker
  ["runtime/worker.c"] = set("write"),  -- the channel's verdict, standard error
  ["runtime/system.c"] = set("write"),  -- the signal handler's pipe
}

-- Each call in a C file: its name, its arguments as they are written, its line, what follows there.
local function calls(text)
  local code, at = sources.code_of_c(text), 1
  return function()
    local from, stop, name = code:find("([%a_][%w_]*)%s*%(", at)
    if not from then return nil end
    at = stop + 1
    local _, last = code:find("^%b()", stop)
    return name, text:sub(stop, last or stop), sources.line_at(code, from),
      text:match("^[^\n]*", last or stop)
  end
end

local function finding(list, path, line, text)
  list[#list + 1] = ("%s:%d: %s"):format(path, line, text)
end

local function opens_to_write(name, arguments)
  if name == "fopen" then return not arguments:find('"rb?e?"%)$') end
  return (name == "open" or name == "openat")
    and not arguments:find('^%("/dev/')
    and (arguments:find("O_CREAT") or arguments:find("O_WRONLY") or arguments:find("O_RDWR")
      or arguments:find("O_TRUNC"))
end

local function mutating_calls()
  local found = {}
  for _, path in ipairs(sources.list("^runtime/.*%.[ch]$")) do
    local allowed = writers[path] or {}
    if path ~= "runtime/durable.c" and path ~= "runtime/durable.h" then
      for name, arguments, line in calls(sources.read(path)) do
        if (mutating[name] and not allowed[name]) or opens_to_write(name, arguments)
          or name:find("^uv_fs_") then
          finding(found, path, line, name .. " changes the disk; that is durable.c's work")
        end
      end
    end
  end
  return found
end

-- What a call that makes a descriptor must say, or which call to use instead. A descriptor that is
-- meant for children has a comment on its line that says so: "not close-on-exec".
local makers = {
  open = "O_CLOEXEC", openat = "O_CLOEXEC", socket = "SOCK_CLOEXEC", socketpair = "SOCK_CLOEXEC",
  pipe2 = "O_CLOEXEC", memfd_create = "MFD_CLOEXEC", accept4 = "SOCK_CLOEXEC",
  epoll_create1 = "EPOLL_CLOEXEC", dup3 = "O_CLOEXEC", signalfd = "SFD_CLOEXEC",
  timerfd_create = "TFD_CLOEXEC", eventfd = "EFD_CLOEXEC", fopen = 'e")',
}
local inheriting = set("pipe dup accept epoll_create popen system tmpfile")

local function inherited_descriptors()
  local found = {}
  for _, path in ipairs(sources.list("^runtime/.*%.c$")) do
    local text = sources.read(path)
    for name, arguments, line, rest in calls(text) do
      -- Flags that come in a variable got theirs elsewhere in the file.
      local said = arguments:find("%f[%w]flags%f[%W]") and text or arguments
      local meant = rest:find("not close-on-exec", 1, true)
      if makers[name] and not meant and not said:find(makers[name], 1, true) then
        finding(found, path, line, name .. " without " .. makers[name])
      elseif inheriting[name] then
        finding(found, path, line, name .. " makes what a child process would inherit")
      end
    end
  end
  return found
end

-- Lua of ours goes to the disk, and to other programs, through the primitives only.
local lua_bans = {
  "os%.remove", "os%.rename", "os%.execute", "os%.tmpname", "io%.popen", "io%.tmpfile",
  "io%.output", "lfs%.mkdir", "lfs%.rmdir", "lfs%.touch", "lfs%.link", "lfs%.chdir",
  "io%.open%b()",
}

local function lua_side_doors()
  local found = {}
  for _, path in ipairs(sources.list("%.lua$")) do
    if path:find("^lua/") or path:find("^phases/") then
      local code = sources.code_of_lua(sources.read(path))
      for _, ban in ipairs(lua_bans) do
        local from, stop = code:find(ban)
        local text = from and code:sub(from, stop)
        local reads = text and text:find("^io%.open") and not text:find("[\"'][wa]")
          and not text:find("%+")
        if text and not reads then
          finding(found, path, sources.line_at(code, from), text .. " goes around the primitives")
        end
      end
    end
  end
  return found
end

local function is_text(data)
  return not data:find("\0", 1, true)
end

-- Lines of all text files for which `test` returns what is wrong with them.
local function wrong_lines(test, pattern)
  local found = {}
  for _, path in ipairs(sources.list(pattern)) do
    local data = sources.read(path)
    if is_text(data) then
      local number = 0
      for line in (data .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        local wrong = test(line, path)
        if wrong then finding(found, path, number, wrong) end
      end
    end
  end
  return found
end

-- Words are put together here so that this file does not break its own rules.
local function joined(...)
  return table.concat({ ... })
end

local promises = {
  joined("TO", "DO"), joined("FIX", "ME"), joined("XX", "X"), joined("HA", "CK"),
  joined("not ", "implemented"), joined("coming ", "soon"),
}

local function promise(line)
  for _, word in ipairs(promises) do
    if line:find("%f[%w]" .. word .. "%f[%W]") then return "promises instead of doing: " .. word end
  end
  if line:find(joined("pend", "ing%s*%(")) then return "a test that is put off" end
end

local registries = {
  joined("pypi", ".org"), joined("pypi.", "python.org"), joined("python", "hosted.org"),
  joined("npm", "js.org"), joined("npm", "js.com"), joined("yarn", "pkg.com"),
  joined("crates", ".io"), joined("luarocks", ".org"), joined("ruby", "gems.org"),
  joined("deb.", "debian.org"), joined("golang", ".org"), joined("conda", ".org"),
  joined("maven", ".org"), joined("docker", ".io"), joined("ghcr", ".io"),
}

local function registry(line)
  for _, host in ipairs(registries) do
    if line:find(host, 1, true) then return "names the package registry " .. host end
  end
end

local machine_paths = { joined("/wo", "rk/"), joined("/ro", "ot/"), joined("/tmp/", "px") }

local function machine_path(line)
  for _, path in ipairs(machine_paths) do
    local from = line:find("%f[/]" .. path)
    local before = from and line:sub(1, from - 1)
    -- A path that goes on from something (`dir .. "/x/"`, "$dir/x/") is no absolute one.
    if from and not before:find("[%w_%.}%)]$") and not before:find('%.%.%s*"$') then
      return "names a path of one machine"
    end
  end
end

local function untidy(line, path)
  if path:find("%.[ch]$") and #line > 100 then return "is longer than 100 columns" end
  if line:find("%s$") then return "ends in white space" end
  if line:find("\r", 1, true) then return "has a carriage return" end
  if line:find("\t", 1, true) and not path:find("^spec/") then return "has a tab" end
end

local function untidy_text()
  local found = {}
  for _, pattern in ipairs({ "%.[ch]$", "%.lua$", "%.sh$", "^docs/.*%.md$", "^%u+%.md$" }) do
    for _, text in ipairs(wrong_lines(untidy, pattern)) do found[#found + 1] = text end
  end
  return found
end

-- A file says first what it is.
local function unintroduced()
  local found = {}
  for _, path in ipairs(sources.list("^runtime/.*%.[ch]$")) do
    if not sources.read(path):find("^/%*") then
      finding(found, path, 1, "begins without a comment that says what it is")
    end
  end
  for _, path in ipairs(sources.list("%.lua$")) do
    local ours = path:find("^lua/") or path:find("^phases/") or path:find("^spec/support/")
    if ours and not sources.read(path):find("^%-%-%-? ") then
      finding(found, path, 1, "begins without a comment that says what it is")
    end
  end
  return found
end

return {
  { name = "only durable.c changes the disk", check = mutating_calls },
  { name = "every descriptor is closed on exec", check = inherited_descriptors },
  { name = "Lua changes the disk and starts programs through primitives only",
    check = lua_side_doors },
  { name = "no promises in the place of work", check = function() return wrong_lines(promise) end },
  { name = "no package registry is named", check = function() return wrong_lines(registry) end },
  { name = "no path of one machine", check = function() return wrong_lines(machine_path) end },
  { name = "text is tidy", check = untidy_text },
  { name = "every file says what it is", check = unintroduced },
}
