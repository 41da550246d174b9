--- The defences of the sandbox, and the hostile phases that notice when one is gone.
--
-- A defence is { name, file, find, becomes, cases = ids }: `find` occurs once in the file. It is
-- taken out in a copy of the sources (defending.lua), and one of the cases has to turn red.
local GLOBALS, SANDBOX, FRAME = "runtime/globals.c", "runtime/sandbox.c", "runtime/frame.c"
local FILTER, LANDLOCK, WORKER = "runtime/filter.c", "runtime/landlock.c", "runtime/worker.c"
local PATH, BROKER, VERBS = "runtime/path.c", "lua/praxlua/broker.lua", "lua/praxlua/verbs.lua"
local PROCESS, SCHEMA = "lua/praxlua/process.lua", "lua/praxlua/schema.lua"
local RECEIPTS, CHECKPOINT = "lua/praxlua/receipts.lua", "lua/praxlua/checkpoint.lua"

local list = {
  -- the names a script finds
  { "names of Lua's own that reach files", GLOBALS, '{"dofile", "loadfile", "print", "warn", NULL}',
    "{NULL}", "E01" },
  { "load takes only text", GLOBALS, 'lua_pushliteral(L, "t");', "lua_pushvalue(L, 3);", "E03",
    "E04" },
  { "no string.dump", GLOBALS, '{"dump", NULL}', "{NULL}", "E05" },
  { "the metatable of strings is out of reach", GLOBALS, 'lua_setfield(L, -2, "__metatable");',
    'lua_setfield(L, -2, "__nothing");', "E07" },
  { "tostring without addresses", GLOBALS, 'wrap(L, "tostring", l_tostring);', "(void)l_tostring;",
    "E12" },
  { "string.format without addresses", GLOBALS, 'wrap(L, "format", l_format);', "(void)l_format;",
    "E13", "E14" },
  { "no switch of the garbage collector", GLOBALS, 'wrap(L, "collectgarbage", l_count);',
    "(void)l_count;", "E17" },
  { "no seed of random numbers", GLOBALS, '{"randomseed", NULL}', "{NULL}", "E18" },
  { "no finalizers", GLOBALS, "if (lua_rawget(L, 2) != LUA_TNIL)",
    "if (lua_rawget(L, 2) == LUA_TTHREAD)", "E19" },
  { "the environment of the worker is fixed", WORKER, "argv, worker_environment());",
    "argv, (worker_environment(), environ));", "E26" },
  -- instructions and time
  { "the budget of instructions", SANDBOX, "if (box.spent > box.budget)", "if (0)", "T01" },
  { "a coroutine is charged when it is made", GLOBALS, "sandbox_charge();", ";", "T20" },
  { "the clock of the processor", SANDBOX, "setitimer(ITIMER_PROF, &timer, NULL);", "(void)timer;",
    "T09" },
  { "the wall clock while the script runs", BROKER,
    "local left = math.max(0, p.deadline - core.system.monotonic())", "local left = 1000", "T25" },
  { "the wall clock while the host works", BROKER,
    "local left = verb == WAITING and math.huge or math.max(0, p.deadline - began)",
    "local left = math.huge", "P15" },
  { "an error object is not asked for its text", SANDBOX,
    'lua_pushfstring(L, "an error object of type %s", luaL_typename(L, 1));',
    "luaL_tolstring(L, 1, NULL);", "T15" },
  -- memory
  { "the cap of the allocator", SANDBOX,
    "if (nsize > old && nsize - old > box.limit - box.used)", "if (0)", "M01" },
  { "a refused block ends the phase", SANDBOX, "box.refused && nsize != box.refused)",
    "box.refused && 0)", "M02" },
  { "an error message is cut", BROKER, "if #message <= LONGEST then return message end",
    "if true then return message end", "M17" },
  -- what crosses the channel
  { "the cap of a frame that is sent", FRAME, "if (size > FRAME_SIZE - b->size) {", "if (0) {",
    "M19" },
  { "the cap of a frame that is received", FRAME, " || size > FRAME_SIZE) {", ") {", "V44" },
  { "the cap of values", FRAME, "++e->values > FRAME_VALUES)", "++e->values == 0)", "M20" },
  { "the depth of what is sent", FRAME, "if (depth >= FRAME_DEPTH || !lua_checkstack(e->L, 4)) {",
    "if (depth >= 1000000 || !lua_checkstack(e->L, 4)) {", "V05" },
  { "the depth of what is received", FRAME, "if (depth >= FRAME_DEPTH || !take(d, 4, &count)",
    "if (!take(d, 4, &count)", "V48" },
  { "only finite numbers are sent", FRAME, "if (!isfinite(number)) {", "if (0) {", "V06" },
  { "only finite numbers are received", FRAME, "if (!isfinite(number))\n            return 0;", "",
    "V50" },
  { "the cap of output", BROKER, 'ipairs({ "messages", "output" })', 'ipairs({ "messages" })',
    "V34" },
  { "the cap of messages", BROKER, 'ipairs({ "messages", "output" })', 'ipairs({ "output" })',
    "V36" },
  -- grants
  { "a verb that was not granted ends the phase", BROKER, "if p.granted[verb] then return nil end",
    "if true then return nil end", "H02" },
  { "a service acts only inside the transaction", VERBS,
    "if ACTING[verb] and not ctx.change then", "if false then", "H14" },
  { "files change only between backup and clean-up", VERBS,
    "return ctx.change ~= nil and done >= 2 and done <= 5", "return ctx.change ~= nil", "H15",
      "P25" },
  { "messages are texts", VERBS, 'if type(message) == "table" then misuse', "if false then misuse",
    "H10" },
  -- paths
  { "a NUL in a path is misuse", VERBS, 'if value == "" or value:find("\\0", 1, true) then',
    'if value == "" then', "F11" },
  { "openat2 beneath the root, without links", PATH,
    "RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS", "RESOLVE_NO_MAGICLINKS", "F04",
    "F15" },
  { "component by component without links", PATH,
    "int next = open_component(at, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);",
    "int next = open_component(at, path, O_PATH | O_DIRECTORY | O_CLOEXEC);", "F44" },
  { "paths are normal", PATH, "(size == 2 && component[0] == '.' && component[1] == '.'))",
    "(size == 0 && component[0] == '.'))", "F10", "F32" },
  { "our folders are not for phases", VERBS, "if is_ours(ctx, paths[i]) then", "if false then",
    "F24" },
  { "the folder of git is not for phases", VERBS,
    'if part == ".git" then return true end', "", "F22", "F48" },
  { "the phases of the next upgrade are not for phases", "lua/praxlua/confinement.lua",
    'phases = true, ["upgrade.lua"] = true,', "", "F46" },
  { "the environment is not for phases", VERBS, 'or top == "venv")', ")", "F47" },
  { "no rights beyond read, write and execute", VERBS, "mode >= 0 and mode <= 0x1ff", "mode >= 0",
    "F33" },
  -- tools
  { "a tool needs its grant", VERBS, "if not lists.has(grants.tools, tool) then", "if false then",
    "P02" },
  { "a tool is found by absolute parts of PATH alone", PROCESS,
    'if directory:sub(1, 1) == "/" and core.spawn', "if core.spawn", "P05" },
  { "a tool has listed variables", PROCESS, "for _, name in ipairs(PASSED_NAMES) do passed[name] = "
      .. "all[name] end", "for name in pairs(all) do passed[name] = all[name] end", "P07" },
  { "the output of a tool is cut", PROCESS, "local room = cap - size", "local room = 1 << 40",
    "P10" },
  { "a tool writes only where it may", "runtime/child.c",
    "if (start->ruleset >= 0 && landlock_apply(start->ruleset) != 0)", "if (0)", "P21" },
  { "a tool signals only what it started", LANDLOCK, "[SCOPES] = known[abi].scopes &",
    "[SCOPES] = 0 &", "P20" },
  { "a tool has no network", "runtime/child.c",
    "return start->network ? filter_apply(start->network) : 0;", "return 0;", "P35" },
  { "a tool gains no privileges", "runtime/child.c",
    "if (start->confined && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)", "if (0)", "P32" },
  { "what a tool has started ends with it", "runtime/child.c",
    "prctl(PR_SET_CHILD_SUBREAPER, 1);", ";", "P17", "P16" },
  { "a worker dies with its supervisor", SANDBOX, "prctl(PR_SET_PDEATHSIG, SIGKILL);", ";", "P31" },
  -- evidence
  { "an evidence's claims need receipts", CHECKPOINT,
    "ok, message = receipts.check(phase.number, found, outcome.receipts)", "ok = true", "V24" },
  { "evidence has a size", CHECKPOINT, "if size <= checkpoint.MAX_BYTES then", "if size then",
    "V63" },
  { "a receipt is of what was done", RECEIPTS, "if receipt.ok then done[receipt.verb] = true end",
    "done[receipt.verb] = true", "V29" },
  { "evidence is closed", SCHEMA, "if not is_declared(s.fields, key) then", "if false then",
    "V14" },
  { "evidence has a JSON form", SCHEMA, "if ok then return true end\n  return refuse(path, "
      .. "\"expected a value with", "if true then return true end\n  return refuse(path, "
      .. "\"expected a value with", "V10", "V54" },
  { "a model has no patterns", SCHEMA, 'if name == "pattern" then', 'if name == "" then', "V20" },
  { "a model has a depth", SCHEMA, "if depth > 8 then", "if depth > 1000 then", "V21" },
  -- the kernel
  { "seccomp", FILTER, "rc = seccomp_load(ctx);", "rc = 0;", "K01", "K03", "K06" },
  { "no memory that can be executed", FILTER,
    "rc = allow_if(ctx, SCMP_SYS(mmap), 2, PROT_EXEC, 0);",
    "rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 0);", "K34" },
  { "messages only over the channel", FILTER, "rc = allow_if(ctx, SCMP_SYS(sendto), 0, all, fd);",
    "rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 0);", "K57" },
  { "Landlock", LANDLOCK, "if (landlock_apply(fd) != 0)", "if (0)", "K55" },
  { "no new privileges", SANDBOX, "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);", ";", "K46" },
  { "nobody looks into a worker", SANDBOX, "prctl(PR_SET_DUMPABLE, 0);", ";", "K58" },
  { "descriptors are closed", SANDBOX, "syscall(SYS_close_range, SANDBOX_CHANNEL + 1, ~0U, 0);",
    ";",
    "K45" },
  { "a process group of its own", WORKER, "POSIX_SPAWN_SETPGROUP | ", "", "K54" },
  { "no core files", SANDBOX, "limit(RLIMIT_CORE, 0, 0);", ";", "K49" },
  { "no further descriptors", SANDBOX,
    "limit(RLIMIT_NOFILE, SANDBOX_CHANNEL + 1, SANDBOX_CHANNEL + 1);", ";", "K50" },
  { "no files that grow", SANDBOX, "limit(RLIMIT_FSIZE, 0, 0);", ";", "K51" },
  { "a bound of address space", SANDBOX,
    "limit(RLIMIT_AS, box.limit + HEADROOM, box.limit + HEADROOM);", ";", "K52" },
  { "a bound of processor time in the kernel", SANDBOX,
    "limit(RLIMIT_CPU, (rlim_t)box.cpu + 1, (rlim_t)box.cpu + 2);", ";", "K53" },
}

local defences = { list = {} }

for i, row in ipairs(list) do
  defences.list[i] = { name = row[1], file = row[2], find = row[3], becomes = row[4],
    cases = { table.unpack(row, 5) } }
end

return defences
