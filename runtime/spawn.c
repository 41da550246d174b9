/*
** spawn.c: core.spawn, child processes. An argument vector, never a shell.
**
** What Lua asks for is read here into a Launch; launch.c starts it, children.c looks after it.
*/
#define _GNU_SOURCE
#include "cancel.h"
#include "children.h"
#include "core.h"
#include "launch.h"
#include "system.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HANDLE "praxlua.child"
#define KILL_LIMIT (10 * SECOND)       /* how long a killed process may take to be gone */
#define GRACE_INTERRUPTED (SECOND / 2) /* between SIGTERM and SIGKILL when we are in a hurry */

static const char *const stream_names[STREAMS] = {"stdin", "stdout", "stderr"};

/* {=== What is to be started ===} */

/* The string at the top of the stack, or NULL when it cannot be passed to a program (NUL). */
static char *passable(lua_State *L) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    return strlen(text) == length ? (char *)(uintptr_t)text : NULL; /* exec's type lacks const */
}

/* options.argv. Pushes nil, message, code on failure. */
static int plan_argv(lua_State *L, Launch *plan) {
    if (lua_getfield(L, 1, "argv") != LUA_TTABLE)
        return luaL_error(L, "option 'argv' must be a table, not %s", luaL_typename(L, -1));
    int list = lua_gettop(L);
    lua_Integer count = (lua_Integer)lua_rawlen(L, list);
    if (count == 0)
        return core_fail(L, "EINVAL", "start a program: argv is empty");
    plan->argv = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *plan->argv, 0);
    for (lua_Integer i = 1; i <= count; i++) {
        if (lua_rawgeti(L, list, i) != LUA_TSTRING)
            return luaL_error(L, "argv[%d] must be a string, not %s", (int)i, luaL_typename(L, -1));
        if (!(plan->argv[i - 1] = passable(L)))
            return core_fail(L, "EINVAL", "start a program: argv[%d] holds a NUL", (int)i);
        lua_pop(L, 1);
    }
    plan->argv[count] = NULL;
    plan->program = plan->argv[0];
    if (!strchr(plan->program, '/'))
        return core_fail(L, "EINVAL", "start %s: not a path (PATH is not searched here)",
                         plan->program);
    return 0;
}

/* options.environment as an array of "NAME=VALUE". Pushes nil, message, code on failure. */
static int plan_environment(lua_State *L, Launch *plan) {
    int count = 0;
    int type = lua_getfield(L, 1, "environment");
    int variables = lua_gettop(L);
    if (type == LUA_TNIL)
        lua_newtable(L), lua_replace(L, variables);
    else if (type != LUA_TTABLE)
        return luaL_error(L, "option 'environment' must be a table, not %s", luaL_typename(L, -1));
    for (lua_pushnil(L); lua_next(L, variables); lua_pop(L, 1))
        count++;
    plan->environment = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *plan->environment, 0);
    lua_createtable(L, count, 0); /* keeps the strings alive */
    int kept = lua_gettop(L);
    int i = 0;
    for (lua_pushnil(L); lua_next(L, variables); i++) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            return luaL_error(L, "option 'environment' must map strings to strings");
        if (!passable(L))
            return core_fail(L, "EINVAL", "start %s: a variable's value holds a NUL",
                             plan->program);
        lua_pushvalue(L, -2);
        const char *name = passable(L);
        if (!name || *name == '\0' || strchr(name, '='))
            return core_fail(L, "EINVAL",
                             "start %s: a variable's name is empty or holds '=' or NUL",
                             plan->program);
        plan->environment[i] =
            (char *)(uintptr_t)lua_pushfstring(L, "%s=%s", name, lua_tostring(L, -2));
        lua_rawseti(L, kept, i + 1);
        lua_pop(L, 2); /* the name's copy and the value; the name stays for lua_next */
    }
    plan->environment[i] = NULL;
    return 0;
}

/* One of options.stdin, stdout, stderr. Absent: "null". */
static void plan_stream(lua_State *L, Launch *plan, int s) {
    LaunchStream *io = &plan->streams[s];
    int type = lua_getfield(L, 1, stream_names[s]);
    const char *word = type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    io->to = TO_NULL;
    if (type == LUA_TNIL || (word && strcmp(word, "null") == 0))
        return;
    if (word && strcmp(word, "pipe") == 0) {
        io->to = TO_PIPE;
    } else if (word && s == ERR && strcmp(word, "stdout") == 0) {
        io->to = TO_STDOUT;
    } else if (type == LUA_TTABLE && s == IN && lua_getfield(L, -1, "data") == LUA_TSTRING) {
        io->to = TO_PIPE;
        io->input = lua_tolstring(L, -1, &io->size);
        if (io->size > INT32_MAX)
            luaL_error(L, "option 'stdin.data' is longer than 2 GiB");
    } else if (type == LUA_TTABLE && s != IN && lua_getfield(L, -1, "file") == LUA_TSTRING) {
        io->to = TO_FILE;
        io->path = passable(L);
        if (!io->path)
            luaL_error(L, "option '%s.file' holds a NUL", stream_names[s]);
    } else {
        luaL_error(L, "option '%s' is none of those documented", stream_names[s]);
    }
}

/* options.NAME, a string without NUL or nil. Leaves it on the stack. Pushes nil, message, code on
** failure. */
static int plan_folder(lua_State *L, const char *name, const char **path) {
    if (lua_getfield(L, 1, name) == LUA_TNIL)
        return 0;
    if (lua_type(L, -1) != LUA_TSTRING)
        return luaL_error(L, "option '%s' must be a string", name);
    if (!(*path = passable(L)))
        return core_fail(L, "EINVAL", "start a program: the name in '%s' holds a NUL", name);
    return 0;
}

/* options.confine: { write = { paths }, network = boolean }. 0; wrong options raise. */
static int plan_confinement(lua_State *L, Launch *plan) {
    int type = lua_getfield(L, 1, "confine");
    if (type == LUA_TNIL)
        return 0;
    if (type != LUA_TTABLE || plan->detached)
        return luaL_error(L, "option 'confine' must be a table, and is for tools only");
    plan->confined = true;
    plan->network = core_opt_boolean(L, lua_gettop(L), "network", 0);
    if (lua_getfield(L, -1, "write") != LUA_TTABLE)
        return luaL_error(L, "option 'confine.write' must be a table, not %s",
                          luaL_typename(L, -1));
    int list = lua_gettop(L);
    lua_Integer count = (lua_Integer)lua_rawlen(L, list);
    const char **paths = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *paths, 0);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, list, i);
        const char *path = lua_type(L, -1) == LUA_TSTRING ? passable(L) : NULL;
        if (!path || *path != '/')
            return luaL_error(L, "confine.write[%d] must be an absolute path", (int)i);
        paths[i - 1] = path; /* the list keeps it alive */
        lua_pop(L, 1);
    }
    paths[count] = NULL;
    plan->write = paths;
    return 0;
}

/* Fills `plan` from the options at index 1. What it points to stays on the stack. Pushes nil,
** message, code on failure. */
static int plan_start(lua_State *L, Launch *plan) {
    int failed;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, 40, "too many options"); /* what the plan points at stays on the stack */
    plan->detached = core_opt_boolean(L, 1, "detach", 0);
    if ((failed = plan_folder(L, "directory", &plan->directory)) != 0 ||
        (failed = plan_folder(L, "record", &plan->record)) != 0 ||
        (failed = plan_argv(L, plan)) != 0 || (failed = plan_environment(L, plan)) != 0 ||
        (failed = plan_confinement(L, plan)) != 0)
        return failed;
    if (plan->record && *plan->record != '/')
        return luaL_error(L, "option 'record' must be an absolute path");
    for (int s = IN; s <= ERR; s++)
        plan_stream(L, plan, s);
    return 0;
}

/* {=== The Lua object ===} */

/* An optional argument in seconds as a deadline; absent: never, or when what is under way is to end
** (cancel.h). */
static int64_t check_deadline(lua_State *L, int arg) {
    lua_Number seconds = luaL_optnumber(L, arg, HUGE_VAL);
    luaL_argcheck(L, seconds >= 0, arg, "seconds must not be negative");
    int64_t deadline = seconds < 1e9 ? children_now() + (int64_t)(seconds * 1e9) : FOREVER;
    return deadline < cancel_deadline() ? deadline : cancel_deadline();
}

static Child *check_child(lua_State *L) {
    Child **handle = luaL_checkudata(L, 1, HANDLE);
    luaL_argcheck(L, *handle != NULL, 1, "the process handle was released");
    luaL_argcheck(L, children_ours(), 1, "the process belongs to another one's process table");
    return *handle;
}

static void let_go(Child **handle) {
    Child *c = *handle;
    *handle = NULL;
    if (c)
        child_let_go(c);
}

/*
** spawn.start(options) -> process | nil, message, code
**
** options.argv         array of strings; argv[1] is a path (a relative one: from `directory`)
** options.directory    working directory (default: ours)
** options.environment  { NAME = value }, all of it (default: empty)
** options.stdin        "null" (default), "pipe", or { data = string }: written, then closed
** options.stdout       "null" (default), "pipe", or { file = path }: appended, made with 0600
** options.stderr       as stdout, or "stdout": the same place
** options.detach       true: it may outlive praxlua
** options.record       absolute path of a folder in which it is recorded while it runs (child.h);
**                      not for a detached one
** options.confine      { write = { absolute paths }, network = boolean }: it and all it starts may
**                      write only beneath these paths, signal no process outside, and reach the
**                      network only if they may; as far as confines() says. Not for a detached one
**
** The child has a session and a process group of its own and no other descriptor than its stdio.
** One that is not detached is killed when praxlua ends, however that ends, and every descendant
** with it; and what it leaves is killed when it ends (after up to a second, in which its output
** may come on).
** Codes: EINVAL (argv empty or with a NUL, program without '/', name of a variable), what execve(2)
** and open(2) give, ETIMEDOUT, EINTR (core.system.interrupted() is set).
*/
static int spawn_start(lua_State *L) {
    Launch plan = {0};
    const char *step, *path;
    int failed = plan_start(L, &plan);
    if (failed)
        return failed;
    int error = launch_check(plan.directory, plan.program, &step, &path);
    if (error)
        return core_errno(L, error, step, path);
    Child **handle = lua_newuserdatauv(L, sizeof(Child *), 0);
    *handle = NULL;
    luaL_setmetatable(L, HANDLE);
    if ((error = children_open()) != 0)
        return core_errno(L, -error, "make an event loop to start", path);
    children_turn();
    Child *c = children_add(plan.detached);
    if (!c)
        return core_errno(L, ENOMEM, step, path);
    *handle = c;
    error = launch_start(c, &plan, &step, &path);
    if (error == 0 && plan.streams[IN].input)
        child_begin_write(c, plan.streams[IN].input, plan.streams[IN].size, true, &error);
    if (error != 0) {
        let_go(handle);
        return core_errno(L, error < 0 ? -error : error, step, path);
    }
    return 1;
}

/* process:pid() -> integer, also the number of its process group */
static int process_pid(lua_State *L) {
    lua_pushinteger(L, check_child(L)->pid);
    return 1;
}

/* nil, "timeout", "ETIMEDOUT" or nil, "interrupted", "EINTR" */
static int push_wait(lua_State *L, ChildWait w) {
    return w == INTERRUPTED ? core_fail(L, "EINTR", "interrupted")
                            : core_fail(L, "ETIMEDOUT", "timeout");
}

/*
** process:write(data, seconds?) -> true | nil, message, code
**
** Returns when the whole of `data` is in the pipe. Output of the child is kept meanwhile (up to
** 64 MiB) so that neither side waits for the other. After any failure stdin is closed, because
** nobody knows where the data was cut.
** Codes: EPIPE (closed on either side), ETIMEDOUT, EINTR, ENOBUFS (too much output), ENOMEM.
*/
static int process_write(lua_State *L) {
    Child *c = check_child(L);
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    int64_t deadline = check_deadline(L, 3);
    int error;
    ChildWait result;
    luaL_argcheck(L, size <= INT32_MAX, 2, "more than 2 GiB at once");
    children_turn();
    if (!c->pipes[IN].open)
        return core_fail(L, "EPIPE", "write to process %d: its stdin is closed", (int)c->pid);
    ChildWrite *w = child_begin_write(c, data, size, false, &error);
    if (!w) {
        child_close_pipe(&c->pipes[IN]);
        return core_errno(L, error == UV_ECONNRESET ? EPIPE : -error, "write to the process", NULL);
    }
    w->awaited = true;
    do {
        child_resume_reading(c, BACKLOG);
        children_turn();
        result = w->done || c->queued >= BACKLOG ? READY : child_wait_ready(c, deadline, true);
    } while (!w->done && c->queued < BACKLOG && result == READY);
    if (w->done) {
        error = w->status;
        free(w);
        if (error == 0) {
            lua_pushboolean(L, 1);
            return 1;
        }
        return core_errno(L, error == UV_ECANCELED ? EPIPE : -error, "write to the process", NULL);
    }
    w->awaited = false;
    child_close_pipe(&c->pipes[IN]);
    if (result == READY)
        return core_fail(L, "ENOBUFS", "write to process %d: it writes and does not read",
                         (int)c->pid);
    return push_wait(L, result);
}

/* process:close_stdin(): the child reads the end of its input. Closing twice is fine. */
static int process_close_stdin(lua_State *L) {
    Child *c = check_child(L);
    child_close_pipe(&c->pipes[IN]);
    children_turn();
    return 0;
}

/*
** process:read(seconds?) -> "stdout" | "stderr", chunk | nil, message, code
**
** The next output, from whichever stream it comes, as soon as there is any.
** Codes: ETIMEDOUT (nothing came within `seconds`; absent: no limit), EPIPE (every stream is at its
** end), EINTR (core.system.interrupted() is set), ENOMEM and errors of read(2).
*/
static int process_read(lua_State *L) {
    Child *c = check_child(L);
    int64_t deadline = check_deadline(L, 2);
    ChildWait w = system_interrupted() ? INTERRUPTED : READY;
    while (w == READY) {
        const ChildChunk *chunk = c->first;
        if (chunk) { /* pushed before it is dropped: an error of memory loses nothing */
            lua_pushstring(L, stream_names[chunk->stream]);
            lua_pushlstring(L, chunk->data, chunk->size);
            child_drop(c, chunk); /* unless a finaliser has read it */
            return 2;
        }
        if (c->error) {
            int error = c->error;
            c->error = 0;
            return core_errno(L, error, "read from the process", NULL);
        }
        if (!child_outputs_open(c))
            return core_fail(L, "EPIPE", "closed");
        child_resume_reading(c, READ_AHEAD);
        children_turn();
        if (!c->first && child_outputs_open(c) && !c->error)
            w = child_wait_ready(c, deadline, true);
    }
    return push_wait(L, w);
}

static int push_end(lua_State *L, const Child *c) {
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, c->code);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, c->signal);
    lua_setfield(L, -2, "signal");
    return 1;
}

/*
** process:wait(seconds?) -> { code, signal } | nil, message, code
**
** `code` is the exit status, `signal` the signal that ended it (0: none). A code of -1: another
*part
** of this process has reaped it. Output is kept meanwhile, up to 64 MiB.
** Codes: ETIMEDOUT (absent: no limit), EINTR.
*/
static int process_wait(lua_State *L) {
    Child *c = check_child(L);
    ChildWait w = child_await_state(c, REAPED, check_deadline(L, 2), true);
    return c->state != RUNNING ? push_end(L, c) : push_wait(L, w);
}

/* Waits for the end of a child that was sent SIGTERM. A signal shortens the grace: whoever sent it
** waits for us. */
static ChildWait await_end(Child *c, int64_t deadline) {
    ChildWait w = child_await_state(c, ENDED, deadline, true);
    if (w != INTERRUPTED)
        return w;
    int64_t soon = children_now() + GRACE_INTERRUPTED;
    return child_await_state(c, ENDED, soon < deadline ? soon : deadline, false);
}

/*
** process:stop(grace?) -> { code, signal } | nil, message, code
**
** Ends it: its group gets SIGTERM; when the child has ended, or after `grace` seconds (default 5;
** half a second at most once core.system.interrupted() is set), SIGKILL, and so does whatever else
** descends from it. Output that was written before can still be read.
** Codes: ETIMEDOUT (it cannot be killed: it hangs in the kernel).
*/
static int process_stop(lua_State *L) {
    Child *c = check_child(L);
    lua_Number grace = luaL_optnumber(L, 2, 5);
    luaL_argcheck(L, grace >= 0 && grace < 1e9, 2, "seconds out of range");
    int64_t deadline = children_now() + (int64_t)(grace * 1e9);
    c->stopping = true;
    children_turn();
    if (c->state == RUNNING) {
        child_kill_group(c, SIGTERM);
        if (await_end(c, deadline) != READY)
            child_kill_group(c, SIGKILL);
    }
    ChildWait w = child_await_state(c, ENDED, children_now() + KILL_LIMIT, false);
    if (c->state == ENDED)
        child_finish(c);
    c->stopping = false;
    if (w == READY)
        w = child_await_state(c, REAPED, children_now() + KILL_LIMIT, false);
    if (w != READY)
        return core_fail(L, "ETIMEDOUT", "stop process %d: it does not end, killed as it is",
                         (int)c->pid);
    return push_end(L, c);
}

/* process:release(): forgets a detached child without touching it; the handle is of no use
** afterwards. Misuse with any other child. */
static int process_release(lua_State *L) {
    Child **handle = luaL_checkudata(L, 1, HANDLE);
    luaL_argcheck(L, !*handle || (*handle)->detached, 1, "only a detached process can be released");
    let_go(handle);
    return 0;
}

/* __gc and __close: a child that is not detached ends with its group. */
static int process_gc(lua_State *L) {
    let_go(luaL_checkudata(L, 1, HANDLE));
    return 0;
}

static int process_tostring(lua_State *L) {
    Child **handle = luaL_checkudata(L, 1, HANDLE);
    if (*handle)
        lua_pushfstring(L, "process (%d)", (int)(*handle)->pid);
    else
        lua_pushliteral(L, "process (released)");
    return 1;
}

/* spawn.reap(): takes note of the children that have ended since the last call of any function
** here, so that none stays a zombie. Does not wait. */
static int spawn_reap(lua_State *L) {
    (void)L;
    children_turn();
    return 0;
}

/* spawn.executable(path) -> true | nil, message, code: whether it is a regular file (links are
** followed) that we may execute. */
static int spawn_executable(lua_State *L) {
    const char *step, *path;
    int error = launch_check(NULL, core_check_path(L, 1), &step, &path);
    if (error)
        return core_errno(L, error, "execute", path);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg methods[] = {
    {"pid", process_pid},
    {"write", process_write},
    {"close_stdin", process_close_stdin},
    {"read", process_read},
    {"wait", process_wait},
    {"stop", process_stop},
    {"release", process_release},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", process_gc},
    {"__close", process_gc},
    {"__tostring", process_tostring},
    {NULL, NULL},
};

/* spawn.confines() -> writing, network: whether this kernel can hold options.confine. Where it
** cannot, programs run without. */
static int spawn_confines(lua_State *L) {
    lua_pushboolean(L, launch_confines_writing());
    lua_pushboolean(L, launch_confines_network());
    return 2;
}

static const luaL_Reg functions[] = {
    {"start", spawn_start}, {"confines", spawn_confines},
    {"reap", spawn_reap},   {"executable", spawn_executable},
    {NULL, NULL},
};

int luaopen_praxlua_spawn(lua_State *L) {
    luaL_newmetatable(L, HANDLE);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
