/*
** worker.c: starting a worker process and talking to it, for the supervisor.
**
** A worker is this executable again, as `praxlua --worker`, with one end of a socket pair as its
** descriptor 3 and nothing else of ours. What it may use is given as numbers on its command line;
** what it runs comes over the channel. See sandbox.h for its side.
*/
#define _GNU_SOURCE
#include "cancel.h"
#include "core.h"
#include "frame.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TYPE "praxlua.worker"

enum {
    BOOT_SECONDS = 10, /* how long a worker may take until it has confined itself */
    LAYERS = 2         /* of the kernel: seccomp, Landlock */
};

typedef struct worker {
    int fd;    /* our end of the channel; -1 when closed */
    pid_t pid; /* 0 when it is gone and was waited for */
    int status;
    frame_buffer buffer;
} worker;

static worker *check(lua_State *L) {
    return luaL_checkudata(L, 1, TYPE);
}

static worker *check_open(lua_State *L) {
    worker *w = check(L);
    luaL_argcheck(L, w->fd >= 0, 1, "the worker has ended");
    return w;
}

static void close_channel(worker *w) {
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

static void reap(worker *w) {
    while (w->pid > 0 && waitpid(w->pid, &w->status, 0) < 0 && errno == EINTR)
        ;
    w->pid = 0;
}

static void kill_worker(worker *w) {
    if (w->pid > 0)
        kill(w->pid, SIGKILL);
    reap(w);
}

/* The environment of a worker: fixed, but for what a coverage build needs. */
static char **worker_environment(void) {
    static char *fixed[8] = {"LC_ALL=C", "TZ=UTC", "PATH=/nonexistent"};
#ifdef PRAXLUA_COVERAGE
    int n = 3;
    static const char *const passed[] = {"PRAXLUA_COVERAGE_DIR", "GCOV_PREFIX",
                                         "GCOV_PREFIX_STRIP"};
    static char text[3][4096];
    for (int i = 0; i < 3; i++) {
        const char *value = getenv(passed[i]);
        if (value && snprintf(text[i], sizeof text[i], "%s=%s", passed[i], value) > 0)
            fixed[n++] = text[i];
    }
#endif
    return fixed;
}

static int spawn_worker(worker *w, const char *host, int theirs, char *const argv[]) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error) {
        posix_spawn_file_actions_destroy(&actions);
        return error;
    }
    for (int fd = 0; !error && fd < 3; fd++)
        error = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null",
                                                 fd ? O_WRONLY : O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, theirs, SANDBOX_CHANNEL);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error) /* a group of its own: Ctrl-C on the terminal is for the supervisor */
        error = posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    if (!error)
        error = posix_spawn(&w->pid, host, &actions, &attributes, argv, worker_environment());
    if (error)
        w->pid = 0;
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Waits until the worker has confined itself, and pushes which layers of the kernel do not hold:
** the name of the error, or nil. 0, or -1 with errno. */
static int await_ready(lua_State *L, worker *w) {
    frame_kind kind;
    int count = 0;
    int rc = frame_receive(w->fd, BOOT_SECONDS, &kind, &w->buffer);
    if (rc < 0)
        return -1;
    errno = EPROTO;
    if (rc == 0 || kind != FRAME_READY ||
        frame_decode(L, w->buffer.data, w->buffer.size, &count) != NULL)
        return -1;
    for (int i = -count; i < 0; i++) {
        int error = (int)lua_tointeger(L, i);
        if (error)
            lua_pushstring(L, core_errno_name(error));
        else
            lua_pushnil(L);
        lua_replace(L, i - 1);
    }
    return count == LAYERS ? 0 : -1;
}

/* worker.start(host, limits) -> w, seccomp, landlock | nil, message, code
**   host    absolute path of the praxlua executable
**   limits  memory (bytes), instructions (VM instructions), cpu (seconds)
**   seccomp, landlock: nil where that layer of the kernel confines the worker, else the name of the
**   error that it gave ("ENOPKG": this build goes without). */
static int l_start(lua_State *L) {
    const char *host = core_check_path(L, 1);
    char memory[32], instructions[32], cpu[32], parent[32];
    int pair[2];
    snprintf(memory, sizeof memory, "%lld", (long long)core_opt_integer(L, 2, "memory", 64 << 20));
    snprintf(instructions, sizeof instructions, "%lld",
             (long long)core_opt_integer(L, 2, "instructions", 50000000));
    snprintf(cpu, sizeof cpu, "%lld", (long long)core_opt_integer(L, 2, "cpu", 10));
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    char *argv[] = {"praxlua", "--worker", parent, memory, instructions, cpu, NULL};

    worker *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (worker){.fd = -1};
    luaL_setmetatable(L, TYPE);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return core_errno(L, errno, "make a channel for", "worker");
    w->fd = pair[0];
    if (pair[1] == SANDBOX_CHANNEL) { /* dup2 onto itself would keep close-on-exec */
        int other = fcntl(pair[1], F_DUPFD_CLOEXEC, SANDBOX_CHANNEL + 1);
        close(pair[1]);
        pair[1] = other;
    }
    int error = pair[1] < 0 ? EMFILE : spawn_worker(w, host, pair[1], argv);
    if (pair[1] >= 0)
        close(pair[1]);
    if (error == 0 && await_ready(L, w) == 0)
        return 1 + LAYERS;
    if (error == 0)
        error = errno;
    kill_worker(w);
    close_channel(w);
    return core_errno(L, error, "start", host);
}

/* The seconds until what is under way is to end (cancel.h), -1: it need not. */
static double patience(void) {
    struct timespec t;
    int64_t deadline = cancel_deadline();
    if (deadline == INT64_MAX)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t left = deadline - ((int64_t)t.tv_sec * 1000000000 + t.tv_nsec);
    return left > 0 ? (double)left / 1e9 : 0;
}

/* w:send(kind, ...) -> true | nil, message, code. kind: "start" or "answer".
**   codes: "ETIMEDOUT" (the worker does not read, and the time of core.cancel.within is over),
**   "EINTR" (a signal was noted meanwhile), "EPIPE", "EVALUE" (values that cannot cross). */
static int l_send(lua_State *L) {
    worker *w = check_open(L);
    static const char *const names[] = {"start", "answer", NULL};
    static const frame_kind kinds[] = {FRAME_START, FRAME_ANSWER};
    frame_buffer b = {0};
    int kind = luaL_checkoption(L, 2, NULL, names);
    const char *problem = frame_encode(&b, L, 3);
    int rc = problem ? -1 : frame_send(w->fd, patience(), kinds[kind], b.data, b.size);
    int error = errno;
    frame_free(&b);
    if (problem)
        return core_fail(L, "EVALUE", "send to worker: the value %s", problem);
    if (rc != 0)
        return core_errno(L, error, "send to", "worker");
    lua_pushboolean(L, 1);
    return 1;
}

static const char *kind_name(frame_kind kind) {
    switch (kind) {
    case FRAME_CALL:
        return "call";
    case FRAME_RESULT:
        return "result";
    case FRAME_ERROR:
        return "error";
    case FRAME_VERDICT:
        return "verdict";
    default:
        return NULL;
    }
}

/* w:receive(seconds) -> kind, ... | nil, message, code
**   kind: "call", "result", "error" or "verdict" and the values of the frame.
**   codes: "ETIMEDOUT", "EINTR" (a signal was noted), "EPIPE" (it ended), "EPROTOCOL", "EMSGSIZE"
**   (a frame that is too long). */
static int l_receive(lua_State *L) {
    worker *w = check_open(L);
    double seconds = luaL_optnumber(L, 2, -1);
    frame_kind kind;
    int count;
    int rc = frame_receive(w->fd, seconds, &kind, &w->buffer);
    if (rc == 0)
        return core_fail(L, "EPIPE", "the worker ended");
    if (rc < 0 && errno == EBADMSG)
        return core_fail(L, "EPROTOCOL", "the worker sent a frame that is cut off");
    if (rc < 0 && errno == EMSGSIZE)
        return core_fail(L, "EMSGSIZE", "the worker sent a frame that is too long");
    if (rc < 0)
        return core_errno(L, errno, "receive from", "worker");
    const char *name = kind_name(kind);
    if (!name)
        return core_fail(L, "EPROTOCOL", "the worker sent a frame of an unknown kind");
    lua_pushstring(L, name);
    const char *problem = frame_decode(L, w->buffer.data, w->buffer.size, &count);
    if (problem)
        return core_fail(L, "EPROTOCOL", "what the worker sent %s", problem);
    return 1 + count;
}

/* Waits until it has ended, and was not waited for, or the time is over. */
static void await_end(worker *w, double seconds) {
    const struct timespec step = {.tv_nsec = 1000000};
    for (double left = seconds; w->pid > 0 && left > 0; left -= 0.001) {
        pid_t pid = waitpid(w->pid, &w->status, WNOHANG);
        if (pid == w->pid || (pid < 0 && errno != EINTR))
            w->pid = 0;
        else
            nanosleep(&step, NULL);
    }
}

/* w:wait(seconds?) -> { code = n, signal = n }: waits for the end, and ends it when the time is
** over. w:stop() kills it first. */
static int finish(lua_State *L, worker *w) {
    reap(w);
    close_channel(w);
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, WIFEXITED(w->status) ? WEXITSTATUS(w->status) : 0);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, WIFSIGNALED(w->status) ? WTERMSIG(w->status) : 0);
    lua_setfield(L, -2, "signal");
    return 1;
}

static int l_wait(lua_State *L) {
    worker *w = check(L);
    if (!lua_isnoneornil(L, 2)) {
        await_end(w, luaL_checknumber(L, 2));
        kill_worker(w);
    }
    return finish(L, w);
}

static int l_stop(lua_State *L) {
    worker *w = check(L);
    kill_worker(w);
    return finish(L, w);
}

static int l_pid(lua_State *L) {
    lua_pushinteger(L, check(L)->pid);
    return 1;
}

static int l_gc(lua_State *L) {
    worker *w = check(L);
    kill_worker(w);
    close_channel(w);
    frame_free(&w->buffer);
    return 0;
}

static const luaL_Reg methods[] = {
    {"send", l_send}, {"receive", l_receive}, {"wait", l_wait},  {"stop", l_stop},
    {"pid", l_pid},   {"__gc", l_gc},         {"__close", l_gc}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"start", l_start},
    {NULL, NULL},
};

int luaopen_praxlua_worker(lua_State *L) {
    return core_open(L, TYPE, methods, functions);
}
