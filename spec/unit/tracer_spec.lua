-- The tracer, proven on a little program (spec/faults/actor.c) that does what it is told.
local command = require("spec.support.command")
local helper = require("spec.support.helper")
local lfs = require("lfs")
local tracer = require("spec.faults.tracer")

describe("the tracer", function()
  local root, actor

  before_each(function()
    root = helper.tempdir() .. "/root"
    lfs.mkdir(root)
    actor = tracer.program():gsub("[^/]*$", "") .. "actor"
  end)
  after_each(helper.clean)

  -- Runs the actor in the root, everything logged.
  local function act(acts, options)
    local o = {
      argv = { actor, table.unpack(acts) }, root = root, directory = root, log = true, timeout = 20,
    }
    for name, value in pairs(options or {}) do o[name] = value end
    return tracer.run(o)
  end

  local function read(name) return helper.read(root .. "/" .. name) end
  local function exists(name) return lfs.symlinkattributes(root .. "/" .. name) ~= nil end

  -- The processes of the actor that are left.
  local function running()
    return helper.output_of("find /proc/[0-9]*/exe -lname %s 2>/dev/null", command.quote(actor))
  end

  -- Each counted call as "name path path2", the paths without the root.
  local function said(result)
    local all = {}
    for i, call in ipairs(result.calls) do
      assert.equal(i, call.n)
      local words = { call.name }
      for _, field in ipairs({ "path", "path2", "fd_path" }) do
        if call[field] then words[#words + 1] = call[field]:sub(#root + 2) end
      end
      all[i] = table.concat(words, " ")
    end
    return all
  end

  local function call_of(result, name, number)
    for _, call in ipairs(result.calls) do
      if call.name == name then
        number = (number or 1) - 1
        if number == 0 then return call end
      end
    end
    error("no call " .. name)
  end

  describe("counts", function()
    it("each mutating call once, and reads, pipes and other places not at all", function()
      local elsewhere = root .. "-too" -- no folder beneath the root, whatever its name begins with
      lfs.mkdir(elsewhere)
      local result = act({ "put a hello", "say hello", "pipe", "how a", "cd " .. elsewhere,
        "put b world", "unlink b" })
      assert.same({ "openat a", "write a" }, said(result))
      assert.equal(2, result.count)
      assert.equal(0, result.code)
      assert.is_nil(result.signal)
      assert.is_false(result.hit)
      assert.matches("say 0\npipe 0\nhow 0\ncd 0\nput 0\nunlink 0\n", result.stdout, 1, true)
    end)

    it("every way to change something", function()
      local result = act({ "put a hello", "writev c ab cde", "copy a d", "nameless e text",
        "make f", "rename f g", "unlink g", "mkdir m", "symlink x l", "chmod a", "truncate a",
        "sync a", "lock a" })
      assert.same({
        "openat a", "write a", "openat c", "writev c", "openat d", "copy_file_range d",
        "copy_file_range d", "openat ", "write #", "linkat # e", "openat2 f", "rename f g",
        "unlink g", "mkdir m", "symlink l", "chmod a", "truncate a", "fsync a", "flock a",
      }, (function()
        local all = said(result)
        for i, text in ipairs(all) do all[i] = text:gsub("#%d+", "#") end
        return all
      end)())
      assert.equal("text", read("e"))
    end)

    it("by where a path leads, not by how it is written", function()
      local elsewhere = helper.tempdir()
      helper.write(elsewhere .. "/kept", "1")
      lfs.link(elsewhere, root .. "/out", true)
      lfs.link(root, elsewhere .. "/in", true)
      lfs.mkdir(root .. "/sub")
      local result = act({
        "put out/b x", "chmod out/kept", "put " .. elsewhere .. "/in/c x", "cd sub", "put ../d x",
        "rename ../d " .. elsewhere .. "/d", "rename " .. elsewhere .. "/d e",
      })
      assert.same({ "openat c", "write c", "openat d", "write d", "rename d", "rename  sub/e" },
        (function()
          local all = said(result)
          for i, text in ipairs(all) do
            all[i] = text:match("^rename d ") and "rename d" or text:gsub("^rename .* ", "rename  ")
          end
          return all
        end)())
      assert.equal(elsewhere .. "/d", result.calls[5].path2)
    end)

    it("over all threads and children, however they were started", function()
      local result = act({ "threads 5 t", "vfork", "put v x", "spawn", "put s x", "fork",
        "put f x", "thread-exec", "put w x" })
      assert.equal(19, result.count)
      assert.equal(19, #result.calls)
      assert.equal(0, result.code)
      local pids, tids = {}, {}
      for _, call in ipairs(result.calls) do
        if not pids[call.pid] then pids[#pids + 1] = call.pid end
        if not tids[call.tid] then tids[#tids + 1] = call.tid end
        pids[call.pid], tids[call.tid] = true, true
      end
      assert.equal(4, #pids) -- the one that executes itself anew keeps its number
      assert.equal(5 + 3, #tids) -- the first thread of all made no call
    end)

    it("the same calls in the same order twice", function()
      local acts = { "put a x", "spawn", "rename a b", "put c y", "fork", "unlink b", "mkdir d" }
      local one = act(acts)
      assert.is_true(os.execute("rm -rf " .. root .. "/*"))
      assert.same(said(one), said(act(acts)))
      assert.equal(7, one.count)
    end)

    it("only processes of the executable, or only the others", function()
      helper.write(root .. "/run.sh", ": > one; exec " .. command.quote(actor) .. " 'put two x'\n")
      local function count(who)
        return tracer.run({
          argv = { "/bin/sh", root .. "/run.sh" }, root = root, directory = root, who = who,
          executable = actor, log = true,
        })
      end
      assert.same({ "openat two", "write two" }, said(count()))
      assert.same("tool", count("tools").calls[1].role)
      local all = count("all")
      assert.equal(count("host").count + count("tools").count, all.count)
      assert.equal("host", call_of(all, "write").role)
    end)
  end)

  describe("logs", function()
    it("what was written where, and how it went", function()
      local result = act({ "put a hello", "writev c ab cde", "copy a d", "mkdir gone/m",
        "symlink over/there l" }, { data = true })
      local write = call_of(result, "write")
      assert.same({ "hello", 5, 0, 5 }, { write.data, write.size, write.offset, write.result })
      assert.equal(lfs.attributes(root .. "/a", "ino"), write.inode)
      assert.equal("abcde", call_of(result, "writev").data)
      local copy = call_of(result, "copy_file_range")
      assert.same({ "hello", 5, root .. "/a" }, { copy.data, copy.result, copy.from_path })
      assert.equal(5, call_of(result, "copy_file_range", 2).offset)
      assert.equal(-2, call_of(result, "mkdir").result)
      assert.equal("over/there", call_of(result, "symlink").text)
      local made = call_of(result, "openat")
      assert.same({ "create", tonumber("644", 8) }, { made.kind, made.mode })
      assert.equal(lfs.attributes(root .. "/a", "ino"), made.inode)
    end)

    it("any bytes of a path", function()
      local odd = "a\t=%41\n\255\\"
      local result = act({ "put a x", "rename a " .. odd }, { log = true })
      assert.equal(root .. "/" .. odd, call_of(result, "rename").path2)
      assert.is_true(exists(odd))
    end)
  end)

  describe("kills", function()
    local ACTS = { "put a hello", "rename a b", "put c world" }

    it("instead of the call", function()
      local result = act(ACTS, { mode = "before", at = 3 })
      assert.same({ 9, true, 3 }, { result.signal, result.hit, result.count })
      assert.is_nil(result.code)
      assert.is_true(exists("a"))
      assert.is_false(exists("b"))
      assert.is_nil(result.calls[3].result)
    end)

    it("after the call", function()
      local result = act(ACTS, { mode = "after", at = 3 })
      assert.same({ 9, true, 3 }, { result.signal, result.hit, result.count })
      assert.is_true(exists("b"))
      assert.is_false(exists("c"))
      assert.equal(0, result.calls[3].result)
    end)

    it("in the middle of a write", function()
      local result = act(ACTS, { mode = "torn", at = 5 })
      assert.same({ 9, true, 5 }, { result.signal, result.hit, result.count })
      assert.equal("wo", read("c"))
      act({ "writev c ab cde" }, { mode = "torn", at = 2 })
      assert.equal("ab", read("c"))
      act({ "put a hello", "copy a d" }, { mode = "torn", at = 4 })
      assert.equal("he", read("d"))
    end)

    it("nothing where there is no middle, or no such call", function()
      for _, case in ipairs({ { "torn", 3 }, { "torn", 1 }, { "short", 3 }, { "after", 6 } }) do
        local result = act(ACTS, { mode = case[1], at = case[2] })
        assert.same({ 0, false, 5 }, { result.code, result.hit, result.count })
        os.remove(root .. "/b")
      end
      local result = act({ "put a x" }, { mode = "torn", at = 2 })
      assert.same({ 0, false }, { result.code, result.hit })
    end)

    it("every thread and every child", function()
      local result = act({ "fork", "put late x", "sleep 10000" }, { mode = "before", at = 2 })
      assert.is_true(result.hit)
      local threads = act({ "threads 8 t", "sleep 10000" }, { mode = "after", at = 9 })
      assert.is_true(threads.hit)
      assert.equal("", running())
    end)

    it("a process that is stopped, or waits in vfork", function()
      local result = act({ "vfork", "put a x", "sleep 10000" }, { mode = "after", at = 1 })
      assert.same({ 9, true }, { result.signal, result.hit })
    end)

    it("the first process alone, when that is asked for", function()
      local result = act({ "orphan", "sleep 50", "put late x", "sleep 60000" },
        { mode = "before", at = 1, leader_only = true })
      -- The first process has ended by itself here; its child's calls are not counted any more.
      assert.same({ 0, false }, { result.code, result.hit })
      assert.equal(1, #result.left)
      assert(command.until_true(function() return read("late") == "x" end, 10))
      tracer.finish(result)
      assert.is_nil(lfs.attributes("/proc/" .. result.left[1]))
    end)

    it("the first process alone at a call of its child", function()
      local result = act({ "fork", "put a x", "put b y", "sleep 60000" },
        { mode = "after", at = 1, leader_only = true })
      assert.same({ 9, true }, { result.signal, result.hit })
      assert(command.until_true(function() return read("b") == "y" end, 10))
      tracer.finish(result)
    end)

    it("a child that asked to die with its parent, through the parent", function()
      local result = act({ "put a x", "fork", "death", "put b y", "sleep 60000" },
        { mode = "after", at = 4, leader_only = true })
      assert.same({ 9, true }, { result.signal, result.hit })
      assert.same({}, result.left)
    end)
  end)

  describe("makes a call fail", function()
    local ACTS = { "mkdir a", "mkdir b", "mkdir c" }

    it("once", function()
      local result = act(ACTS, { mode = "error", at = 2, errno = "ENOSPC" })
      assert.equal("mkdir 0\nmkdir ENOSPC\nmkdir 0\n", result.stdout)
      assert.same({ true, false, true }, { exists("a"), exists("b"), exists("c") })
      assert.same({ true, 3, -28 }, { result.hit, result.count, result.calls[2].result })
    end)

    it("and all that follow", function()
      local result = act(ACTS, { mode = "error", at = 2, errno = "EIO", sticky = true })
      assert.equal("mkdir 0\nmkdir EIO\nmkdir EIO\n", result.stdout)
      assert.same({ true, false, false }, { exists("a"), exists("b"), exists("c") })
    end)

    it("and some that follow", function()
      local result = act({ "mkdir a", "mkdir b", "mkdir c", "mkdir d" },
        { mode = "error", at = 2, errno = "EIO", sticky = 2 })
      assert.same({ true, false, false, true },
        { exists("a"), exists("b"), exists("c"), exists("d") })
      assert.equal(4, result.count)
    end)

    it("of any process", function()
      local result = act({ "spawn", "sync .", "put a x" },
        { mode = "error", at = 1, errno = "EIO" })
      assert.matches("sync EIO\nput 0\nspawn 0", result.stdout, 1, true)
    end)
  end)

  it("denies calls as if the system did not know them, whatever else it does", function()
    local acts = { "put a x", "rename a b", "lock a", "put c x" }
    local result = act(acts, { deny = { "rename:EINVAL", "flock:ENOSYS:4" } })
    assert.same({ 0, 6, true }, { result.code, result.count, exists("a") })
    assert.equal(-22, call_of(result, "rename").result)
    assert.equal("denied", call_of(result, "rename").acted)
    result = act(acts, { deny = { "rename:EINVAL" }, mode = "after", at = 4 })
    assert.same({ 9, 4, true }, { result.signal, result.count, exists("a") })
    result = act({ "lock a" }, { deny = { "flock:ENOSYS:6" } })
    assert.equal(-38, call_of(result, "flock").result)
  end)

  it("makes a write short, and lets the program go on", function()
    local result = act({ "put a hello" }, { mode = "short", at = 2 })
    assert.same({ 0, true, 3 }, { result.code, result.hit, result.count })
    assert.same({ 2, 3 }, { result.calls[2].result, result.calls[3].size })
    assert.equal("hello", read("a"))
    result = act({ "writev b ab cdefg" }, { mode = "short", at = 2 })
    assert.equal("abc", read("b"))
    assert.not_matches("changed", result.stdout)
    act({ "put a hello", "copy a d" }, { mode = "short", at = 4 })
    assert.equal("hello", read("d"))
  end)

  describe("stops everything", function()
    it("while a hook runs, at one call", function()
      local hook = "ls > seen; echo $1 $2 $TRACER_PID $TRACER_LEADER; sleep 0.1; ls >> seen; exit 7"
      local result = act({ "orphan", "sleep 20", "put x 1", "sleep 1", "put y 1" },
        { mode = "pause", at = 1, hook = { "sh", "-c", hook, "hook" } })
      assert.same({}, result.hooks) -- the orphan's calls come when the first process has ended
      tracer.finish(result)
      result = act({ "put a x", "threads 4 t", "put z x" },
        { mode = "pause", at = 2, hook = { "sh", "-c", "cd " .. root .. "; " .. hook, "hook" } })
      assert.same({ { n = 2, code = 7 } }, result.hooks)
      assert.matches("^2 write %d+ %d+\n$", result.hook_output)
      local seen = read("seen")
      assert.equal(seen:sub(1, #seen // 2), seen:sub(#seen // 2 + 1))
      assert.matches("a\n", seen, 1, true)
      assert.same({ 0, true, 12 }, { result.code, result.hit, result.count })
    end)

    it("all threads of it", function()
      -- Eight threads make files while the hook looks twice: it sees no difference.
      local look = "cd " .. root .. "; a=$(ls); sleep 0.02; b=$(ls); [ \"$a\" = \"$b\" ]"
      local result = act({ "threads 8 t" }, { mode = "pause", hook = { "sh", "-c", look } })
      assert.equal(16, #result.hooks)
      for i, hook in ipairs(result.hooks) do assert.same({ n = i, code = 0 }, hook) end
      assert.equal(0, result.code)
    end)

    it("a thread that calls nothing", function()
      -- A thread that is just being made may still be on its way to its first stop.
      local look = [[for i in 1 2 3 4 5 6 7 8 9; do
          states=$(grep -h '^State' /proc/$TRACER_PID/task/*/status)
          case $states in *running*) sleep 0.05;; *) break;; esac
        done
        echo "$states"]]
      local result = act({ "spin", "put a x" },
        { mode = "pause", at = 1, hook = { "sh", "-c", look } })
      assert.equal(("State:\tt (tracing stop)\n"):rep(2), result.hook_output)
    end)

    it("where a child of vfork is the caller, and where the process is stopped anyway", function()
      for count, acts in pairs({
        [3] = { "vfork", "put a x" }, [2] = { "fork", "stop", "put a x" },
      }) do
        local result = act(acts, { mode = "pause", hook = { "true" }, timeout = 1 })
        assert.same({ 0, count }, { result.code, #result.hooks })
      end
    end)

    it("so that the hook can end it", function()
      local result = act({ "put a x", "put b x" },
        { mode = "pause", at = 3, hook = { "sh", "-c", "kill -9 $TRACER_LEADER" } })
      assert.same({ 9, 3 }, { result.signal, result.count })
      assert.is_false(exists("b"))
    end)
  end)

  describe("does not disturb", function()
    it("signals and their handlers", function()
      local result = act({ "handle h", "raise", "put a x" })
      assert.same({ "openat h", "write h", "openat a", "write a" }, said(result))
      assert.equal("handled", read("h"))
    end)

    it("a process that is stopped and goes on", function()
      local result = act({ "put a x", "stop", "put b x" })
      assert.same({ 0, 4 }, { result.code, result.count })
      assert.matches("stop 0\n", result.stdout, 1, true)
    end)

    it("the exit code, and a death by a signal", function()
      assert.equal(3, tracer.run({ argv = { "sh", "-c", "exit 3" }, root = root }).code)
      assert.equal(15, tracer.run({ argv = { "sh", "-c", "kill -TERM $$" }, root = root }).signal)
    end)

    it("the environment that was asked for", function()
      local result = tracer.run({ argv = { "/usr/bin/env" }, root = root,
        environment = { ODD = "a 'b' $c" } })
      assert.equal("ODD=a 'b' $c\n", result.stdout)
    end)
  end)

  describe("refuses to go on", function()
    it("with io_uring", function()
      local result = act({ "put a x", "ring", "put b x" })
      assert.matches("io_uring_setup", result.forbidden)
      assert.equal(9, result.signal)
      assert.is_false(exists("b"))
    end)

    it("with a shared mapping that can be written to", function()
      local result = act({ "put a x", "map a", "put b x" })
      assert.matches("mapping", result.forbidden)
      local elsewhere = helper.tempdir()
      helper.write(elsewhere .. "/a", "x")
      assert.is_nil(act({ "map " .. elsewhere .. "/a" }).forbidden)
    end)

    it("after its time", function()
      local result = act({ "put a x", "sleep 60000" }, { timeout = 0.2 })
      assert.is_true(result.timed_out)
      assert.equal(9, result.signal)
      result = act({ "put a x" },
        { timeout = 0.2, mode = "pause", hook = { "sh", "-c", "exec sleep 60" } })
      assert.is_true(result.timed_out)
    end)

    it("when somebody ends the tracer, and nothing of the program stays", function()
      local ok, message = pcall(act, { "put a x", "sleep 60000" },
        { mode = "pause", at = 1, hook = { "sh", "-c", "kill -9 $PPID" } })
      assert.is_false(ok)
      assert.matches("the tracer failed", message)
      assert(command.until_true(function() return running() == "" end, 10))
    end)

    it("when it is asked for what it does not know", function()
      local function wrong(options, text)
        assert.matches(text, select(2, pcall(act, { "put a x" }, options)), 1, true)
      end
      wrong({ mode = "never" }, "no mode is called never")
      wrong({ mode = "error", errno = "EODD", at = 1 }, "no error is called EODD")
      wrong({ mode = "before" }, "--at is needed")
      wrong({ root = root .. "/none" }, "No such file or directory")
      wrong({ odd = 1 }, "knows no odd")
      assert.equal(127, tracer.run({ argv = { root .. "/none" }, root = root }).code)
    end)
  end)
end)
