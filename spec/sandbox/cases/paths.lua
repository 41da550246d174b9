--- Paths that lead out of their root: by name, by link, by race; and what is nobody's to write in.
local command = require("spec.support.command")
local helper = require("spec.support.helper")

local quote = command.quote

local function sh(s, script)
  assert(os.execute(("cd %s && outside=%s && %s"):format(quote(s.target), quote(s.outside),
    script)))
end

-- Plants with shell words in the target; $outside is the folder outside.
local function planting(script) return function(s) sh(s, script) end end

-- Cases that read: the body's `a` is what was got, which must be nothing.
local function gets_nothing(case)
  case.grants = case.grants or { target = "read" }
  case.expect = "ok"
  case.check = function(t)
    return t.evidence.a ~= nil and t.evidence.a ~= false and "it got " .. tostring(t.evidence.a)
      or nil
  end
  return case
end

-- Cases that write: `a` tells whether it was done, and it must not have been; the runner looks at
-- what is outside.
local function does_nothing(case)
  case.grants = case.grants or { target = "write" }
  return gets_nothing(case)
end

-- Cases that may be done, or not, as long as all outside is as before.
local function harmless(case)
  case.grants = case.grants or { target = "write" }
  case.expect = case.expect or "ok"
  return case
end

-- Files of ours that no phase may write.
local function ours(id, hole, action, grants)
  return { id = id, hole = hole, grants = grants or { target = "write" }, expect = "ok",
    body = "local done, _, code = " .. action .. "\nreturn { a = done, b = code }",
    check = function(t)
      return t.evidence.b ~= "EDENIED" and ("done: %s, code: %s"):format(tostring(t.evidence.a),
        tostring(t.evidence.b)) or nil
    end }
end

-- Exchanges a folder and a link to the outside as fast as it can, until it is ended.
local function toggling(s)
  local running = command.start({ "python3", "-c", [[
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
a, b = sys.argv[1].encode(), sys.argv[2].encode()
while True:
    libc.renameat2(-100, a, -100, b, 2)
]], s.target .. "/swap", s.target .. "/swap-link" }, { scratch = s.directory, seconds = 30 })
  return running
end

return {
  gets_nothing({ id = "F01", hole = "'..' leads out of the root",
    body = "return { a = host.target.read('../../outside/canary') }" }),
  gets_nothing({ id = "F02", hole = "an absolute path leads out of the root",
    body = "return { a = host.target.read(host.options.outside .. '/canary') "
      .. "or host.target.read('/etc/passwd') }" }),
  gets_nothing({ id = "F03", hole = "a link at the end of the path is followed by a read",
    prepare = planting("ln -s $outside/canary link"),
    body = "return { a = host.target.read('link') }" }),
  gets_nothing({ id = "F04", hole = "a link on the way is followed by a read",
    prepare = planting("ln -s $outside out"),
    body = "return { a = host.target.read('out/canary') }" }),
  gets_nothing({ id = "F05", hole = "a link is followed by list",
    prepare = planting("ln -s $outside out"),
    body = "return { a = host.target.list('out') or host.target.list('out/folder') }" }),
  gets_nothing({ id = "F06", hole = "a link is followed by hash",
    prepare = planting("ln -s $outside out && ln -s $outside/canary link"),
    body = "return { a = host.target.hash('out/canary') or host.target.hash('link') }" }),
  gets_nothing({ id = "F07", hole = "exists tells through a link what there is outside",
    prepare = planting("ln -s $outside out"),
    body = "return { a = host.target.exists('out/canary') "
      .. "or host.target.exists('../../outside') }" }),
  gets_nothing({ id = "F08", hole = "a FIFO that nobody writes to stalls the host",
    prepare = planting("mkfifo pipe"),
    body = "return { a = host.target.read('pipe') or host.target.hash('pipe') }" }),
  gets_nothing({ id = "F09", hole = "a device is read as if it were a file",
    prepare = function(s)
      if not os.execute("mknod " .. quote(s.target .. "/zero") .. " c 1 5 2>/dev/null") then
        return "only root makes device files"
      end
    end,
    body = "return { a = host.target.read('zero') or host.target.hash('zero') }" }),
  gets_nothing({ id = "F10",
    hole = "a path that is not normal is resolved by another rule than it is checked by",
    body = [[
      for _, path in ipairs({ ".", "./file", "standards/../file", "standards//a.md", "file/",
        "/file", "standards/./a.md", "..", "..." }) do
        local data = host.target.read(path)
        if data then return { a = path } end
      end
      return {}
    ]] }),
  gets_nothing({ id = "F11", hole = "a NUL ends the path for the kernel and not for the check",
    body = [[
      return { a = pcall(host.target.read, "file\0/../../outside/canary") }
    ]] }),
  gets_nothing({ id = "F12", hole = "a path of a million bytes breaks what resolves it",
    body = [[
      return { a = host.target.read(("a"):rep(1000000))
        or host.target.read(("a/"):rep(500000) .. "a")
        or host.target.exists(("../"):rep(100000) .. "etc/passwd") }
    ]], limits = { memory = 64 << 20 } }),
  gets_nothing({ id = "F13", hole = "a magic link of /proc leads to what a descriptor stands for",
    prepare = planting("ln -s /proc/self/fd fds && ln -s /proc/self/root whole"),
    body = "return { a = host.target.list('fds') or host.target.read('whole/etc/hostname') "
      .. "or host.target.read('fds/3') }" }),
  does_nothing({ id = "F14", hole = "'..' leads out of the root when a file is written",
    body = "return { a = host.target.write('../../outside/new', 'x') }" }),
  does_nothing({ id = "F15", hole = "a file is written through a link on the way",
    prepare = planting("ln -s $outside out"),
    body = "return { a = host.target.write('out/canary', 'x') "
      .. "or host.target.write('out/new', 'x') }" }),
  harmless({ id = "F16",
    hole = "a file is written into what a link at the end of the path stands for",
    prepare = planting("ln -s $outside/canary link && ln -s $outside/none dangling"),
    body = "host.target.write('link', 'x') host.target.write('dangling', 'x') return {}" }),
  does_nothing({ id = "F17", hole = "a file is removed through a link on the way",
    prepare = planting("ln -s $outside out"),
    body = "return { a = host.target.remove('out/canary') and not host.target.exists('file') }" }),
  harmless({ id = "F18", hole = "removing a link removes what it stands for",
    prepare = planting("ln -s $outside/canary link && ln -s $outside out"),
    body = "host.target.remove('link') host.target.remove('out') return {}" }),
  does_nothing({ id = "F19", hole = "a rename takes a file out of the root, or brings one in",
    grants = { project = "write" },
    body = "return { a = host.project.rename('src/main.lua', '../outside/main.lua') "
      .. "or host.project.rename('../outside/canary', 'canary') }" }),
  harmless({ id = "F20", hole = "moving a folder copies or moves what links in it stand for",
    prepare = planting("mkdir moved && ln -s $outside moved/out "
      .. "&& ln -s $outside/canary moved/link"),
    body = "return { a = host.target.rename('moved', 'elsewhere'), "
      .. "b = host.target.read('elsewhere/link') }",
    check = function(t) return t.evidence.b and "the canary was read" or nil end }),
  does_nothing({ id = "F21",
    hole = "a rename replaces a file that is there, beside the transaction",
    body = "return { a = host.target.rename('file', 'VERSION.txt') }" }),
  ours("F22", "a hook of git is planted, to be run by git with nobody's grant",
    "host.project.write('.git/hooks/post-commit', '#!/bin/sh\\n', 493)", { project = "write" }),
  ours("F23", "the folder of git is moved away and another one put in its place",
    "host.project.rename('.git', 'git-moved')", { project = "write" }),
  ours("F24", "the journal that undoes the phase is written over",
    "host.target.write('.upgrade/other/journal', 'x')"),
  ours("F25", "the text of the lock is removed", "host.target.remove('.upgrade-lock')"),
  ours("F26", "the backup is destroyed before it is needed",
    "host.target.remove('.backups/2025-01-01-000000/MANIFEST.json')"),
  ours("F46", "a phase with more grants is left for the next upgrade, which runs it unasked",
    "host.target.write('phases/more.lua', 'return {}')"),
  ours("F47", "a program of the environment is replaced, which a later phase runs",
    "host.target.write('venv/bin/python', '#!/bin/sh\\n', 493)"),
  ours("F48", "a hook of git is planted in a repository within the project, or by another spelling",
    "host.project.write('vendored/.GIT/hooks/pre-commit', '#!/bin/sh\\n', 493)",
    { project = "write" }),
  ours("F27", "the state of a session is forged",
    "host.target.write('.cache/state/other.json', '{}')"),
  ours("F28", "the whole installation is moved away through the grant for the project",
    "host.project.rename('.praxis-os', 'elsewhere')", { project = "write" }),
  ours("F29", "a file is moved into a folder of ours",
    "host.target.rename('file', '.upgrade/file')"),
  ours("F30", "a folder of ours is moved away whole", "host.target.rename('.backups', 'backups')"),
  ours("F31", "the grant for the project reaches our folders by their longer name",
    "host.project.write('.praxis-os/.cache/state/other.json', '{}')", { project = "write" }),
  does_nothing({ id = "F32",
    hole = "a path that is not normal reaches a folder of ours past the check",
    grants = { project = "write", target = "write" },
    body = [[
      return { a = host.project.write(".praxis-os//.upgrade/new", "x")
        or host.project.write(".praxis-os/./.cache/new", "x")
        or host.target.write("standards/../.backups/new", "x")
        or host.project.write("src/../.git/config", "x")
        or host.target.write("./.upgrade-lock", "x") }
    ]] }),
  { id = "F33", hole = "a written file gets the rights of whoever owns it", expect = "ok",
    grants = { target = "write" },
    body = "return { a = pcall(host.target.write, 'tool', 'x', 2541) }", -- octal 4755
    check = function(t) return t.evidence.a ~= false and "set-user-id was taken" or nil end },
  harmless({ id = "F34", hole = "a script planted in a new folder stays after the undo",
    body = "return { a = need(host.target.write('planted/evil.lua', 'return {}')) }" }),
  harmless({ id = "F35", hole = "names with line ends and controls stay after the undo",
    body = [[
      for _, name in ipairs({ "new\nline", "\27[2J", "-rf", "\255\254", " ", "a\\b" }) do
        need(host.target.write("names/" .. name, "x"))
      end
      local count = #need(host.target.list("names"))
      return { a = count }
    ]],
    check = function(t) return t.evidence.a ~= 6 and "not all were written" or nil end }),
  harmless({ id = "F36", hole = "a folder becomes a link between two calls",
    prepare = planting("mkdir swap && ln -s $outside swap-link"),
    body = [[
      need(host.target.write("swap/one", "x"))
      host.ask("now")
      return { a = host.target.write("swap/canary", "x"), b = host.target.read("swap/canary") }
    ]],
    during = function(t)
      local at = quote(t.scene.target)
      os.execute(("cd %s && mv swap swap-kept && mv swap-link swap"):format(at))
      t.put_back = function()
        os.execute(("cd %s && mv swap swap-link && mv swap-kept swap"):format(at))
      end
      return true
    end,
    check = function(t)
      t.put_back()
      return (t.evidence.a or t.evidence.b) and "it went through the link" or nil
    end }),
  harmless({ id = "F37", hole = "a folder becomes a link in the middle of a call", expect = "ok",
    limits = { wall = 20, instructions = 50000000 },
    prepare = planting("mkdir swap && echo inner > swap/canary && ln -s $outside swap-link"),
    body = [[
      host.ask("begin")
      local seen
      for _ = 1, 300 do
        local data = host.target.read("swap/canary")
        if data and data ~= "inner\n" then seen = data end
        host.target.list("swap")
        host.target.hash("swap/canary")
      end
      host.ask("end")
      return { a = seen }
    ]],
    during = function(t, _, question)
      if question == "begin" then
        t.running = toggling(t.scene)
      else
        command.kill(t.running, "KILL")
        command.until_true(function() return helper.read(t.running.at.code) end, 5)
        os.execute(("cd %s && [ -d swap -a ! -L swap ] || { mv swap x && mv swap-link swap && "
          .. "mv x swap-link; }"):format(quote(t.scene.target)))
        os.execute("rm -f " .. quote(t.scene.directory) .. "/run-*")
      end
      return true
    end,
    check = function(t) return t.evidence.a and "it read " .. t.evidence.a or nil end }),
  harmless({ id = "F38", hole = "writing to a file writes to its other names outside",
    prepare = planting("ln $outside/canary hard"),
    body = "return { a = need(host.target.write('hard', 'x')) }" }),
  gets_nothing({ id = "F39", hole = "a file of a terabyte is read into memory",
    prepare = planting("truncate -s 1T sparse"),
    body = "return { a = host.target.read('sparse') or nil }" }),
  { id = "F40", hole = "hashing a large file goes on when the time is over",
    grants = { target = "read" }, limits = { wall = 1 }, expect = "limit:wall",
    prepare = planting("truncate -s 20G sparse"),
    body = "return { a = host.target.hash('sparse') }" },
  { id = "F41", hole = "the grant to read lets files be changed", grants = { target = "read" },
    expect = "denied:grant", message = 'target = "write"',
    body = "host.target.write('file', 'x') return {}" },
  { id = "F42", hole = "the grant for the target opens the project", grants = { target = "write" },
    expect = "denied:grant", message = "host.project.read",
    body = "return { a = host.project.read('src/main.lua') }" },
  does_nothing({ id = "F43", hole = "a file is written over a folder and all that is in it",
    body = "return { a = host.target.write('standards', 'x') "
      .. "or host.target.remove('standards') }" }),
  gets_nothing({ id = "F44", hole = "without openat2 the way component by component follows links",
    environment = "PRAXLUA_NO_OPENAT2=1",
    prepare = planting("ln -s $outside out && mkdir real && ln -s $outside real/out"),
    body = [[
      return { a = host.target.read("out/folder/inner") or host.target.read("real/out/canary")
        or host.target.hash("real/out/folder/inner") or host.target.list("real/out") }
    ]] }),
  { id = "F45", hole = "a folder is moved into itself, without end", grants = { target = "write" },
    expect = "ok",
    body = "local done, _, code = host.target.rename('standards', 'standards/deep/standards') "
      .. "return { a = done, b = code }",
    check = function(t) return t.evidence.b ~= "EINVAL" and tostring(t.evidence.b) or nil end },
}
