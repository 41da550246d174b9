/*
** spawn.c: core.spawn, child processes over libuv. An argument vector, never a shell.
**
** One event loop, private to this file, is run only inside the functions below: libuv's default
** loop and its thread pool are not used, and no callback calls Lua. Waiting is done in one place
** (wait_ready): a ppoll on the loop's own descriptor, so that a caught signal ends every wait
** without a race and without a tick.
**
** The process table is a list of Child, allocated in C; the Lua object only points into it. A
** Child lives until it was reaped, its libuv handles are closed and Lua has let go of it.
**
** Life of a child: RUNNING, then ENDED (a zombie, on purpose: as long as it is not reaped its
** number cannot be given to another process, so signalling its group is safe), then REAPED.
** Between ENDED and REAPED the output may still come from what the child left in its group; after
** LINGER the group is killed. libuv would reap at once, therefore its process handle is closed
** right after the start and waitid(2) is called here, woken by SIGCHLD.
*/
#define _GNU_SOURCE
#include "core.h"
#include "durable.h"
#include "system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define HANDLE "praxlua.child"

#define SECOND INT64_C(1000000000) /* times are nanoseconds of the monotonic clock */
#define FOREVER INT64_MAX          /* a deadline that never comes */
#define LINGER (1 * SECOND)        /* how long output may come on after a child's end */
#define KILL_LIMIT (10 * SECOND)   /* how long a killed process may take to be gone */
#define START_LIMIT (60 * SECOND)  /* how long the host may take to become the program */
#define READ_AHEAD (1u << 20)      /* bytes kept for p:read before the child has to wait */
#define BACKLOG (64u << 20)        /* the same while praxlua writes to it or waits for its end */

enum { IN, OUT, ERR, STREAMS };
static const char *const stream_names[STREAMS] = {"stdin", "stdout", "stderr"};

/* Output that Lua has not taken yet. */
typedef struct Chunk {
    struct Chunk *next;
    int stream; /* OUT or ERR */
    size_t size;
    char data[];
} Chunk;

typedef struct Pipe {
    uv_pipe_t handle;
    struct Child *child;
    bool open;
    bool reading;
} Pipe;

typedef struct Child {
    struct Child *next; /* in the process table */
    pid_t pid;          /* also the number of its process group */
    enum { RUNNING, ENDED, REAPED } state;
    int code, signal; /* how it ended; code -1: somebody else has reaped it */
    int64_t ended;    /* when the end was noticed */
    int64_t quiet;    /* since when no output came (after its end) */
    bool owned;       /* a Lua object points here */
    bool detached;    /* may outlive praxlua; its group is killed by p:stop only */
    bool stopping;    /* p:stop: nobody else may reap it */
    uv_process_t process;
    Pipe pipes[STREAMS];
    int handles;  /* libuv handles whose memory is still in use */
    Chunk *first; /* the queue of output, in order of arrival */
    Chunk **last;
    size_t queued; /* bytes in the queue */
    size_t limit;  /* reading pauses above it */
    int error;     /* errno value of a failure to read, 0 when none */
} Child;

/* A write to a child's stdin. The callback frees it unless p:write still waits for it. */
typedef struct Write {
    uv_write_t request;
    Pipe *pipe;
    bool awaited;
    bool done;
    bool last; /* close stdin afterwards */
    int status;
    char data[];
} Write;

static uv_loop_t loop;
static uv_signal_t child_signal;
static pid_t loop_owner; /* the process that made the loop; 0: none yet */
static Child *table;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

/* {=== The queue of output ===} */

static void enqueue(Child *c, int stream, const char *data, size_t size) {
    Chunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk) {
        c->error = ENOMEM;
        return;
    }
    chunk->next = NULL;
    chunk->stream = stream;
    chunk->size = size;
    memcpy(chunk->data, data, size);
    *c->last = chunk;
    c->last = &chunk->next;
    c->queued += size;
}

static void drop_first(Child *c) {
    Chunk *chunk = c->first;
    c->first = chunk->next;
    if (!c->first)
        c->last = &c->first;
    c->queued -= chunk->size;
    free(chunk);
}

/* {=== Streams ===} */

static void on_handle_closed(uv_handle_t *handle) {
    Child *c = handle->data;
    c->handles--;
}

static void close_pipe(Pipe *pipe) {
    if (!pipe->open)
        return;
    pipe->open = pipe->reading = false;
    uv_close((uv_handle_t *)&pipe->handle, on_handle_closed);
}

static bool outputs_open(const Child *c) {
    return c->pipes[OUT].open || c->pipes[ERR].open;
}

/* libuv asks, reads and reports before it asks again, so one buffer serves all streams. */
static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    static char space[64 * 1024];
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(space, sizeof space);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    Child *c = stream->data;
    Pipe *pipe = (uv_stream_t *)&c->pipes[OUT].handle == stream ? &c->pipes[OUT] : &c->pipes[ERR];
    if (n == 0) /* nothing there after all */
        return;
    c->quiet = now();
    if (n > 0)
        enqueue(c, (int)(pipe - c->pipes), buffer->base, (size_t)n);
    else if (n != UV_EOF)
        c->error = (int)-n;
    if (n < 0 || c->error) {
        close_pipe(pipe);
    } else if (c->queued >= c->limit) {
        uv_read_stop(stream);
        pipe->reading = false;
    }
}

/* Reads on when there is room: `limit` bytes may be queued from now on. */
static void resume_reading(Child *c, size_t limit) {
    c->limit = limit;
    for (int s = OUT; s <= ERR; s++) {
        Pipe *pipe = &c->pipes[s];
        if (!pipe->open || pipe->reading || c->queued >= limit)
            continue;
        pipe->reading = uv_read_start((uv_stream_t *)&pipe->handle, on_allocate, on_read) == 0;
        c->quiet = now(); /* it could not have been heard before */
    }
}

static void on_written(uv_write_t *request, int status) {
    Write *w = request->data;
    w->done = true;
    w->status = status;
    if (status != 0 || w->last)
        close_pipe(w->pipe);
    if (!w->awaited)
        free(w);
}

/* Begins to write a copy of `data`. Returns the request, or NULL with a libuv error in *error. */
static Write *begin_write(Child *c, const char *data, size_t size, bool last, int *error) {
    Write *w = malloc(sizeof *w + size);
    if (!w) {
        *error = UV_ENOMEM;
        return NULL;
    }
    *w = (Write){.pipe = &c->pipes[IN], .last = last};
    memcpy(w->data, data, size);
    w->request.data = w;
    uv_buf_t buffer = uv_buf_init(w->data, (unsigned)size);
    *error = uv_write(&w->request, (uv_stream_t *)&c->pipes[IN].handle, &buffer, 1, on_written);
    if (*error != 0) {
        free(w);
        return NULL;
    }
    return w;
}

/* {=== The process table ===} */

static void kill_group(const Child *c, int signal) {
    if (c->state != REAPED)
        kill(-c->pid, signal);
}

static void notice_end(Child *c) {
    siginfo_t info = {.si_pid = 0};
    int rc = waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT);
    if (rc == 0 && info.si_pid == 0)
        return;
    c->ended = c->quiet = now();
    if (rc != 0) { /* ECHILD: it was taken from us, and with it the right to its number */
        c->state = REAPED;
        c->code = -1;
        return;
    }
    c->state = ENDED;
    if (info.si_code == CLD_EXITED)
        c->code = info.si_status;
    else
        c->signal = info.si_status;
}

/* Reaps an ended child. What it left in its group ends with it, unless it was detached. */
static void finish(Child *c) {
    pid_t rc;
    if (!c->detached || c->stopping)
        kill_group(c, SIGKILL);
    do
        rc = waitpid(c->pid, NULL, 0);
    while (rc < 0 && errno == EINTR);
    c->state = REAPED;
}

static void close_outputs(Child *c) {
    close_pipe(&c->pipes[OUT]);
    close_pipe(&c->pipes[ERR]);
}

/* Moves a child along in its life as far as it goes now. */
static void settle(Child *c) {
    if (c->state == RUNNING)
        notice_end(c);
    if (c->state == ENDED && !c->stopping &&
        (c->detached || !c->owned || !outputs_open(c) || now() >= c->ended + LINGER))
        finish(c);
    if (c->state != REAPED)
        return;
    close_pipe(&c->pipes[IN]);
    /* A process that left the group may hold a stream open for ever: silence ends it. But a
    ** stream that is not being read is not silent. */
    for (int s = OUT; s <= ERR; s++)
        if (c->pipes[s].reading && now() >= c->quiet + LINGER)
            close_pipe(&c->pipes[s]);
}

/* When settle has something to do for `c` that no descriptor announces. */
static int64_t next_change(const Child *c) {
    if (c->state == ENDED)
        return c->ended + LINGER;
    if (c->state == REAPED && (c->pipes[OUT].reading || c->pipes[ERR].reading))
        return c->quiet + LINGER;
    return FOREVER;
}

static void free_child(Child *c) {
    while (c->first)
        drop_first(c);
    free(c);
}

/* Does what can be done without waiting: reads, writes, notices ends, reaps, frees. */
static void turn(void) {
    if (loop_owner != getpid())
        return;
    uv_run(&loop, UV_RUN_NOWAIT);
    for (Child **at = &table; *at;) {
        Child *c = *at;
        settle(c);
        if (c->state == REAPED && !c->owned && c->handles == 0) {
            *at = c->next;
            free_child(c);
        } else {
            at = &c->next;
        }
    }
}

static void on_child_signal(uv_signal_t *handle, int signal) {
    (void)handle, (void)signal; /* it has woken the wait; turn() looks at each child */
}

/* Makes the loop at first use. Returns a libuv error or 0. */
static int open_loop(void) {
    struct sigaction action;
    if (loop_owner == getpid())
        return 0;
    if (loop_owner != 0) /* a fork that did not exec: the loop and the children are its parent's */
        return UV_ENOTSUP;
    int rc = uv_loop_init(&loop);
    if (rc != 0)
        return rc;
    if ((rc = uv_signal_init(&loop, &child_signal)) != 0 ||
        (rc = uv_signal_start(&child_signal, on_child_signal, SIGCHLD)) != 0)
        goto failed;
    /* A child that closes its stdin must not kill us. (libuv gives children the default back.) */
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
    loop_owner = getpid();
    return 0;
failed:
    uv_loop_close(&loop);
    return rc;
}

/* {=== Waiting ===} */

typedef enum { READY, EXPIRED, INTERRUPTED } Wait;

/* Waits until turn() has something to do, `deadline` comes or, with `interruptible`, one of the
** signals that core.system.catch_signals() catches has come. Those are blocked between the look
** at the flag and the wait, so none is missed. */
static Wait wait_ready(const Child *c, int64_t deadline, bool interruptible) {
    sigset_t caught, before;
    Wait result = READY;
    int64_t until = next_change(c);
    if (until > deadline)
        until = deadline;
    sigemptyset(&caught);
    sigaddset(&caught, SIGINT);
    sigaddset(&caught, SIGTERM);
    sigaddset(&caught, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &caught, &before);
    if (interruptible && system_interrupted()) {
        result = INTERRUPTED;
    } else if (uv_backend_timeout(&loop) != 0) { /* 0: a handle is about to be closed */
        struct pollfd fd = {.fd = uv_backend_fd(&loop), .events = POLLIN};
        int64_t left = until - now();
        struct timespec t = {left / SECOND, left % SECOND};
        if (left > 0)
            ppoll(&fd, 1, until == FOREVER ? NULL : &t, &before);
        else if (until == deadline)
            result = EXPIRED;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

/* Waits until the child is at least in `state`. */
static Wait await_state(Child *c, int state, int64_t deadline, bool interruptible) {
    for (;;) {
        resume_reading(c, BACKLOG);
        turn();
        if ((int)c->state >= state)
            return READY;
        Wait w = wait_ready(c, deadline, interruptible);
        if (w != READY)
            return w;
    }
}

/* An optional argument in seconds as a deadline; absent: never. */
static int64_t check_deadline(lua_State *L, int arg) {
    lua_Number seconds = luaL_optnumber(L, arg, HUGE_VAL);
    luaL_argcheck(L, seconds >= 0, arg, "seconds must not be negative");
    return seconds < 1e9 ? now() + (int64_t)(seconds * 1e9) : FOREVER;
}

/* {=== Starting ===} */

typedef struct Stdio {
    enum { TO_NULL, TO_PIPE, TO_FILE, TO_STDOUT } to;
    const char *path;  /* TO_FILE */
    const char *input; /* stdin: data to write before it is closed, or NULL */
    size_t size;
} Stdio;

/* What spawn.start was asked for. Its strings belong to values on the Lua stack. */
typedef struct Plan {
    const char *program;
    const char *directory; /* NULL: ours */
    char **argv;           /* of the process libuv starts: the host's when `host` is set */
    char **environment;
    const char *host; /* start through its --child mode; NULL: directly */
    bool detached;
    Stdio io[STREAMS];
} Plan;

/* The string at the top of the stack, or NULL when it cannot be passed to a program (NUL). */
static char *passable(lua_State *L) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    return strlen(text) == length ? (char *)(uintptr_t)text : NULL; /* exec's type lacks const */
}

/* options.argv, after `skip` free places. Pushes nil, message, code on failure. */
static int plan_argv(lua_State *L, Plan *plan, int skip) {
    if (lua_getfield(L, 1, "argv") != LUA_TTABLE)
        return luaL_error(L, "option 'argv' must be a table, not %s", luaL_typename(L, -1));
    int list = lua_gettop(L);
    lua_Integer count = (lua_Integer)lua_rawlen(L, list);
    if (count == 0)
        return core_fail(L, "EINVAL", "start a program: argv is empty");
    plan->argv = lua_newuserdatauv(L, (size_t)(count + skip + 1) * sizeof *plan->argv, 0);
    for (lua_Integer i = 1; i <= count; i++) {
        if (lua_rawgeti(L, list, i) != LUA_TSTRING)
            return luaL_error(L, "argv[%d] must be a string, not %s", (int)i, luaL_typename(L, -1));
        if (!(plan->argv[skip + i - 1] = passable(L)))
            return core_fail(L, "EINVAL", "start a program: argv[%d] holds a NUL", (int)i);
        lua_pop(L, 1);
    }
    plan->argv[skip + count] = NULL;
    plan->program = plan->argv[skip];
    if (!strchr(plan->program, '/'))
        return core_fail(L, "EINVAL", "start %s: not a path (PATH is not searched here)",
                         plan->program);
    return 0;
}

/* options.environment as an array of "NAME=VALUE". Pushes nil, message, code on failure. */
static int plan_environment(lua_State *L, Plan *plan) {
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
static void plan_stream(lua_State *L, Plan *plan, int s) {
    Stdio *io = &plan->io[s];
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

/* options.host, else what core.system.host() says. Leaves the string on the stack. */
static const char *plan_host(lua_State *L) {
    int type = lua_getfield(L, 1, "host");
    if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1))
        return NULL;
    if (type == LUA_TNIL) {
        luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
        if (lua_getfield(L, -1, "praxlua.core") != LUA_TTABLE ||
            lua_getfield(L, -1, "system") != LUA_TTABLE ||
            lua_getfield(L, -1, "host") != LUA_TFUNCTION)
            return NULL;
        lua_call(L, 0, 1);
    }
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

enum { HOST_ARGUMENTS = 6 }; /* praxlua --child PID --status 3 -- */

static int plan_start(lua_State *L, Plan *plan) {
    int failed;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstack(L, 40, "too many options"); /* what the plan points at stays on the stack */
    plan->detached = core_opt_boolean(L, 1, "detach", 0);
    if (lua_getfield(L, 1, "directory") != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TSTRING)
            return luaL_error(L, "option 'directory' must be a string");
        if (!(plan->directory = passable(L)))
            return core_fail(L, "EINVAL", "start a program: the directory's name holds a NUL");
    }
    plan->host = plan->detached ? NULL : plan_host(L);
    if ((failed = plan_argv(L, plan, plan->host ? HOST_ARGUMENTS : 0)) != 0 ||
        (failed = plan_environment(L, plan)) != 0)
        return failed;
    for (int s = IN; s <= ERR; s++)
        plan_stream(L, plan, s);
    if (plan->host) {
        const char *parent = lua_pushfstring(L, "%d", (int)getpid());
        const char *head[HOST_ARGUMENTS] = {plan->host, "--child", parent, "--status", "3", "--"};
        memcpy(plan->argv, head, sizeof head);
    }
    return 0;
}

/* 0 when `program`, seen from `directory`, is a regular file we may execute; else an errno value,
** and *step and *path say what failed. Asked before the start because then the answer is exact. */
static int check_program(const char *directory, const char *program, const char **step,
                         const char **path) {
    struct stat st;
    int error = 0;
    int at = open(directory ? directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *step = "enter the working directory";
    *path = directory ? directory : ".";
    if (at < 0)
        return errno;
    if (faccessat(at, ".", X_OK, AT_EACCESS) != 0) {
        error = errno;
    } else {
        *step = "start";
        *path = program;
        if (fstatat(at, program, &st, 0) != 0)
            error = errno;
        else if (!S_ISREG(st.st_mode))
            error = EACCES;
        else if (faccessat(at, program, X_OK, AT_EACCESS) != 0)
            error = errno;
    }
    close(at);
    return error;
}

/* Marks every descriptor but stdio close-on-exec. Ours are; one that was left open by whoever
** started praxlua must not reach a server that outlives it. */
static void seal_descriptors(void) {
#if defined(SYS_close_range)
    const unsigned close_on_exec = 1u << 2; /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */
    if (syscall(SYS_close_range, 3u, ~0u, close_on_exec) == 0)
        return;
#endif
    DIR *all = opendir("/proc/self/fd");
    for (struct dirent *entry; all && (entry = readdir(all)) != NULL;) {
        int fd = atoi(entry->d_name); /* "." and ".." give 0 */
        if (fd > 2)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (all)
        closedir(all);
}

/* Makes the child's end of one standard stream, and ours. *fd stays -1 for /dev/null. */
static int open_stream(Child *c, int s, const Stdio *io, int *fd) {
    uv_file ends[2];
    Pipe *pipe = &c->pipes[s];
    int ours = s == IN ? 1 : 0;
    int rc;
    if (io->to == TO_FILE) {
        *fd = durable_append(AT_FDCWD, io->path, 0600);
        return *fd < 0 ? -errno : 0;
    }
    if (io->to != TO_PIPE)
        return 0;
    rc = uv_pipe(ends, ours == 0 ? UV_NONBLOCK_PIPE : 0, ours == 1 ? UV_NONBLOCK_PIPE : 0);
    if (rc != 0)
        return rc;
    *fd = ends[1 - ours];
    if ((rc = uv_pipe_init(&loop, &pipe->handle, 0)) != 0 ||
        (rc = uv_pipe_open(&pipe->handle, ends[ours])) != 0) {
        close(ends[ours]);
        return rc;
    }
    pipe->handle.data = c;
    pipe->open = true;
    c->handles++;
    return 0;
}

/* Lets libuv start the process; `fds` are the child's ends, fds[STREAMS] the status pipe or -1. */
static int launch(Child *c, const Plan *plan, const int fds[STREAMS + 1]) {
    uv_stdio_container_t stdio[STREAMS + 1];
    uv_process_options_t options = {.file = plan->argv[0],
                                    .args = plan->argv,
                                    .env = plan->environment,
                                    .cwd = plan->directory,
                                    .stdio = stdio,
                                    .stdio_count = fds[STREAMS] < 0 ? STREAMS : STREAMS + 1};
    if (!plan->host) /* a session and a group of its own; the host makes one itself */
        options.flags |= UV_PROCESS_DETACHED;
    for (int s = 0; s < options.stdio_count; s++) {
        int fd = s == ERR && plan->io[ERR].to == TO_STDOUT ? fds[OUT] : fds[s];
        stdio[s].flags = fd < 0 ? UV_IGNORE : UV_INHERIT_FD;
        stdio[s].data.fd = fd;
    }
    seal_descriptors();
    int rc = uv_spawn(&loop, &c->process, &options);
    c->pid = c->process.pid;
    c->process.data = c;
    c->handles++;
    uv_close((uv_handle_t *)&c->process, on_handle_closed);
    return rc;
}

/* Waits until the host has become the program or tells why not: 0 or an errno value. */
static int await_program(int status) {
    int64_t deadline = now() + START_LIMIT;
    struct pollfd fd = {.fd = status, .events = POLLIN};
    for (;;) {
        int error = 0;
        int64_t left = deadline - now();
        int rc = left > 0 ? poll(&fd, 1, (int)(left / 1000000) + 1) : 0;
        if (rc == 0)
            return ETIMEDOUT;
        ssize_t n = rc > 0 ? read(status, &error, sizeof error) : -1;
        if (n >= 0)
            return n == sizeof error ? error : 0;
        if (errno != EINTR)
            return errno;
    }
}

/* Starts the child. Returns 0 or an errno value; *step and *path then say what failed. A child
** whose start failed is REAPED. */
static int start(Child *c, const Plan *plan, const char **step, const char **path) {
    int fds[STREAMS + 1] = {-1, -1, -1, -1};
    uv_file status[2] = {-1, -1};
    int rc = 0;
    for (int s = IN; s <= ERR && rc == 0; s++) {
        rc = open_stream(c, s, &plan->io[s], &fds[s]);
        if (rc != 0 && plan->io[s].to == TO_FILE) {
            *step = "open for appending";
            *path = plan->io[s].path;
        }
    }
    if (rc == 0 && plan->host) {
        rc = uv_pipe(status, 0, 0);
        fds[STREAMS] = status[1];
    }
    if (rc == 0 && (rc = launch(c, plan, fds)) == 0)
        c->state = RUNNING;
    else if (rc != 0 && plan->host && c->handles > 0)
        *path = plan->host;
    for (int s = 0; s <= STREAMS; s++)
        if (fds[s] >= 0)
            close(fds[s]);
    if (c->state == RUNNING && plan->host && (rc = -await_program(status[0])) != 0) {
        kill(c->pid, SIGKILL); /* it may not have a group yet */
        finish(c);
    }
    if (status[0] >= 0)
        close(status[0]);
    return -rc;
}

/* {=== The Lua object ===} */

/* Lets go of the child: it ends unless it was detached, and the table keeps it as long as it has
** to. Waits a moment for a killed child, so that none is left as a zombie. */
static void let_go(Child **handle) {
    Child *c = *handle;
    *handle = NULL;
    if (!c || loop_owner != getpid())
        return;
    c->owned = false;
    close_pipe(&c->pipes[IN]);
    close_outputs(c);
    if (!c->detached) {
        kill_group(c, SIGKILL);
        if (c->state == RUNNING) {
            c->owned = true; /* keeps it in the table while we look at it */
            await_state(c, ENDED, now() + LINGER, false);
            c->owned = false;
        }
    }
    turn();
}

static Child *check_child(lua_State *L) {
    Child **handle = luaL_checkudata(L, 1, HANDLE);
    luaL_argcheck(L, *handle != NULL, 1, "the process handle was released");
    return *handle;
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
** options.host         path of the praxlua executable; false: do without
**                      (default: core.system.host())
**
** The child has a session and a process group of its own and no other descriptor than its stdio.
** One that is not detached is killed by the kernel when praxlua ends, provided that the host is
** known; and what it leaves in its group is killed when it ends (after up to a second, in which
** its output may come on).
** Codes: EINVAL (argv empty or with a NUL, program without '/', name of a variable), what execve(2)
** and open(2) give, ETIMEDOUT.
*/
static int spawn_start(lua_State *L) {
    Plan plan = {0};
    const char *step, *path;
    int failed = plan_start(L, &plan);
    if (failed)
        return failed;
    int error = check_program(plan.directory, plan.program, &step, &path);
    if (error)
        return core_errno(L, error, step, path);
    Child **handle = lua_newuserdatauv(L, sizeof(Child *), 0);
    *handle = NULL;
    luaL_setmetatable(L, HANDLE);
    if ((error = open_loop()) != 0)
        return core_errno(L, -error, "make an event loop to start", path);
    turn();
    Child *c = calloc(1, sizeof *c);
    if (!c)
        return core_errno(L, ENOMEM, step, path);
    c->last = &c->first;
    c->limit = READ_AHEAD;
    c->detached = plan.detached;
    c->state = REAPED; /* until it runs */
    c->owned = true;
    c->next = table;
    table = c;
    *handle = c;
    error = start(c, &plan, &step, &path);
    if (error == 0 && plan.io[IN].input)
        begin_write(c, plan.io[IN].input, plan.io[IN].size, true, &error);
    if (error != 0) {
        let_go(handle);
        return core_errno(L, error < 0 ? -error : error, step, path);
    }
    return 1;
}

/* process:pid() -> integer, also the number of its process group */
static int child_pid(lua_State *L) {
    lua_pushinteger(L, check_child(L)->pid);
    return 1;
}

/* nil, "timeout", "ETIMEDOUT" or nil, "interrupted", "EINTR" */
static int push_wait(lua_State *L, Wait w) {
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
static int child_write(lua_State *L) {
    Child *c = check_child(L);
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    int64_t deadline = check_deadline(L, 3);
    int error;
    Wait result;
    luaL_argcheck(L, size <= INT32_MAX, 2, "more than 2 GiB at once");
    turn();
    if (!c->pipes[IN].open)
        return core_fail(L, "EPIPE", "write to process %d: its stdin is closed", (int)c->pid);
    Write *w = begin_write(c, data, size, false, &error);
    if (!w) {
        close_pipe(&c->pipes[IN]);
        return core_errno(L, error == UV_ECONNRESET ? EPIPE : -error, "write to the process", NULL);
    }
    w->awaited = true;
    do {
        resume_reading(c, BACKLOG);
        turn();
        result = w->done || c->queued >= BACKLOG ? READY : wait_ready(c, deadline, true);
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
    close_pipe(&c->pipes[IN]);
    if (result == READY)
        return core_fail(L, "ENOBUFS", "write to process %d: it writes and does not read",
                         (int)c->pid);
    return push_wait(L, result);
}

/* process:close_stdin(): the child reads the end of its input. Closing twice is fine. */
static int child_close_stdin(lua_State *L) {
    Child *c = check_child(L);
    close_pipe(&c->pipes[IN]);
    turn();
    return 0;
}

/*
** process:read(seconds?) -> "stdout" | "stderr", chunk | nil, message, code
**
** The next output, from whichever stream it comes, as soon as there is any.
** Codes: ETIMEDOUT (nothing came within `seconds`; absent: no limit), EPIPE (every stream is at its
** end), EINTR (core.system.interrupted() is set), ENOMEM and errors of read(2).
*/
static int child_read(lua_State *L) {
    Child *c = check_child(L);
    int64_t deadline = check_deadline(L, 2);
    Wait w = system_interrupted() ? INTERRUPTED : READY;
    while (w == READY) {
        const Chunk *chunk = c->first;
        if (chunk) { /* pushed before it is dropped: an error of memory loses nothing */
            lua_pushstring(L, stream_names[chunk->stream]);
            lua_pushlstring(L, chunk->data, chunk->size);
            if (c->first == chunk) /* a finaliser may have read */
                drop_first(c);
            return 2;
        }
        if (c->error) {
            int error = c->error;
            c->error = 0;
            return core_errno(L, error, "read from the process", NULL);
        }
        if (!outputs_open(c))
            return core_fail(L, "EPIPE", "closed");
        resume_reading(c, READ_AHEAD);
        turn();
        if (!c->first && outputs_open(c) && !c->error)
            w = wait_ready(c, deadline, true);
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
static int child_wait(lua_State *L) {
    Child *c = check_child(L);
    Wait w = await_state(c, REAPED, check_deadline(L, 2), true);
    return c->state != RUNNING ? push_end(L, c) : push_wait(L, w);
}

/*
** process:stop(grace?) -> { code, signal } | nil, message, code
**
** Ends the whole group: SIGTERM; when the child has ended, or after `grace` seconds (default 5),
** SIGKILL. Not interruptible. Output that was written before can still be read.
** Codes: ETIMEDOUT (it cannot be killed: it hangs in the kernel).
*/
static int child_stop(lua_State *L) {
    Child *c = check_child(L);
    lua_Number grace = luaL_optnumber(L, 2, 5);
    luaL_argcheck(L, grace >= 0 && grace < 1e9, 2, "seconds out of range");
    int64_t deadline = now() + (int64_t)(grace * 1e9);
    Wait w = READY;
    c->stopping = true;
    turn();
    if (c->state == RUNNING) {
        kill_group(c, SIGTERM);
        w = await_state(c, ENDED, deadline, false);
    }
    if (w != READY) {
        kill_group(c, SIGKILL);
        w = await_state(c, ENDED, now() + KILL_LIMIT, false);
    }
    if (c->state == ENDED)
        finish(c);
    c->stopping = false;
    turn();
    if (w != READY)
        return core_fail(L, "ETIMEDOUT", "stop process %d: it does not end, killed as it is",
                         (int)c->pid);
    return push_end(L, c);
}

/* process:release(): forgets a detached child without touching it; the handle is of no use
** afterwards. Misuse with any other child. */
static int child_release(lua_State *L) {
    Child **handle = luaL_checkudata(L, 1, HANDLE);
    luaL_argcheck(L, !*handle || (*handle)->detached, 1, "only a detached process can be released");
    let_go(handle);
    return 0;
}

/* __gc and __close: a child that is not detached ends with its group. */
static int child_gc(lua_State *L) {
    let_go(luaL_checkudata(L, 1, HANDLE));
    return 0;
}

static int child_tostring(lua_State *L) {
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
    turn();
    return 0;
}

/* spawn.executable(path) -> true | nil, message, code: whether it is a regular file (links are
** followed) that we may execute. */
static int spawn_executable(lua_State *L) {
    const char *step, *path;
    int error = check_program(NULL, core_check_path(L, 1), &step, &path);
    if (error)
        return core_errno(L, error, "execute", path);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg methods[] = {
    {"pid", child_pid},         {"write", child_write}, {"close_stdin", child_close_stdin},
    {"read", child_read},       {"wait", child_wait},   {"stop", child_stop},
    {"release", child_release}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", child_gc},
    {"__close", child_gc},
    {"__tostring", child_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"start", spawn_start},
    {"reap", spawn_reap},
    {"executable", spawn_executable},
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
