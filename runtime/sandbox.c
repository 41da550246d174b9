/*
** sandbox.c: the process a phase script runs in; see sandbox.h.
*/
#define _GNU_SOURCE
#include "sandbox.h"

#include "coverage.h"
#include "filter.h"
#include "frame.h"
#include "globals.h"
#include "landlock.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    SLICE = 1000,                /* instructions between two looks at the budget */
    INTEGER_SIZE = 9,            /* bytes of one in a frame */
    HEADROOM = 256 * 1024 * 1024 /* of address space over the allocator's limit */
};

static struct {
    size_t used, peak, limit; /* bytes of Lua memory */
    size_t refused;           /* bytes of the block that was refused last, 0 after a success */
    long long spent, budget;  /* instructions, over all coroutines */
    long long cpu;            /* seconds */
    volatile sig_atomic_t sending, late; /* a frame is on its way; the CPU limit came meanwhile */
    unsigned char late_verdict[128];     /* the CPU verdict, made in advance */
    size_t late_size;
} box;

_Noreturn static void leave(void) {
    coverage_flush();
    _exit(0);
}

/* ---- verdicts ---- */

static size_t put_integer(unsigned char *to, long long value) {
    *to = 'i';
    for (int i = 0; i < 8; i++)
        to[1 + i] = (unsigned char)((unsigned long long)value >> (8 * i));
    return INTEGER_SIZE;
}

/* The payload of a verdict frame, without Lua: name, limit, used, peak of memory. */
static size_t make_verdict(unsigned char *to, const char *name, long long limit, long long used) {
    size_t length = strlen(name);
    to[0] = 's';
    for (int i = 0; i < 4; i++)
        to[1 + i] = (unsigned char)(length >> (8 * i));
    memcpy(to + 5, name, length);
    size_t size = 5 + length;
    size += put_integer(to + size, limit);
    size += put_integer(to + size, used);
    return size + put_integer(to + size, (long long)box.peak);
}

_Noreturn static void verdict(const char *name, long long limit, long long used) {
    unsigned char payload[128];
    coverage_flush(); /* who has read the last frame ends us at once */
    box.sending = 1;
    frame_send(SANDBOX_CHANNEL, -1, FRAME_VERDICT, payload,
               make_verdict(payload, name, limit, used));
    leave();
}

_Noreturn static void out_of_memory(void) {
    verdict("limit:memory", (long long)box.limit, (long long)(box.used + box.refused));
}

static void on_cpu_limit(int signal) {
    (void)signal;
    if (box.sending) { /* two frames must not mix; send_frame looks at this afterwards */
        box.late = 1;
        return;
    }
    frame_send(SANDBOX_CHANNEL, -1, FRAME_VERDICT, box.late_verdict, box.late_size);
    _exit(0);
}

/* Sends what stands on the Lua stack from `first` up; ends the process when nobody listens. */
static void send_values(lua_State *L, frame_kind kind, int first) {
    frame_buffer b = {0};
    if (box.refused)
        out_of_memory();
    const char *problem = frame_encode(&b, L, first);
    if (problem) {
        frame_free(&b);
        luaL_error(L, "the value %s", problem);
    }
    box.sending = 1;
    int rc = frame_send(SANDBOX_CHANNEL, -1, kind, b.data, b.size);
    box.sending = 0;
    frame_free(&b);
    if (rc != 0)
        leave();
    if (box.late)
        verdict("limit:cpu", box.cpu, box.cpu);
}

/* ---- limits ---- */

/* Refuses a block. Lua then collects all garbage and asks for the same once more (only the buffers
** of its string functions do without); see allocate. */
static void *refuse(size_t size) {
    if (box.refused)
        out_of_memory();
    box.refused = size;
    return NULL;
}

/* Lua's allocator with a cap. `osize` is a type tag, not a size, when there is no block; a block
** that shrinks is never refused, as Lua demands. Whoever asks for another block than the one that
** was refused has taken the refusal for an answer: then the script is over its limit, and that
** ends it before a pcall of it hears of anything. */
static void *allocate(void *ud, void *block, size_t osize, size_t nsize) {
    size_t old = block ? osize : 0;
    (void)ud;
    if (nsize == 0) {
        free(block);
        box.used -= old;
        return NULL;
    }
    if (nsize > old && box.refused && nsize != box.refused)
        out_of_memory();
    if (nsize > old && nsize - old > box.limit - box.used)
        return refuse(nsize);
    void *fresh = realloc(block, nsize);
    if (!fresh)
        return nsize <= old ? block : refuse(nsize);
    if (nsize > old)
        box.refused = 0;
    box.used = box.used - old + nsize;
    if (box.used > box.peak)
        box.peak = box.used;
    return fresh;
}

static void charge(long long instructions) {
    box.spent += instructions;
    if (box.spent > box.budget)
        verdict("limit:instructions", box.budget, box.spent);
}

void sandbox_charge(void) {
    charge(SLICE);
}

size_t sandbox_memory(void) {
    return box.used;
}

/* New coroutines inherit the hook but count from zero, so its slice is small and the budget one. */
static void on_count(lua_State *L, lua_Debug *ar) {
    if (coverage_line(L, ar))
        return;
    charge(SLICE);
}

static void start_cpu_clock(void) {
    struct sigaction action = {.sa_handler = on_cpu_limit, .sa_flags = SA_RESTART};
    struct itimerval timer = {.it_value = {.tv_sec = box.cpu}};
    box.late_size = make_verdict(box.late_verdict, "limit:cpu", box.cpu, box.cpu);
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &timer, NULL);
}

static void limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit r = {soft, hard};
    setrlimit(resource, &r);
}

/* What the kernel can hold against us even when something above fails. */
static void confine(pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    syscall(SYS_close_range, SANDBOX_CHANNEL + 1, ~0U, 0);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_CPU, (rlim_t)box.cpu + 1, (rlim_t)box.cpu + 2);
#if !defined(PRAXLUA_COVERAGE) && !defined(__SANITIZE_ADDRESS__)
    limit(RLIMIT_AS, box.limit + HEADROOM, box.limit + HEADROOM);
    limit(RLIMIT_FSIZE, 0, 0);
#endif
}

/* Puts up the two layers of the kernel and tells the host which of them hold: errno values. Tests
** that measure coverage write files from here, and sanitizers make calls of their own. */
static void isolate(void) {
#if defined(PRAXLUA_COVERAGE) || defined(__SANITIZE_ADDRESS__)
    int files = ENOPKG, calls = ENOPKG;
#else
    int files = landlock_worker();
    limit(RLIMIT_NOFILE, SANDBOX_CHANNEL + 1, SANDBOX_CHANNEL + 1);
    int calls = filter_worker(SANDBOX_CHANNEL);
#endif
    unsigned char payload[2 * INTEGER_SIZE];
    size_t size = put_integer(payload, calls);
    size += put_integer(payload + size, files);
    if (frame_send(SANDBOX_CHANNEL, -1, FRAME_READY, payload, size) != 0)
        leave();
}

/* ---- talking to the host ---- */

/* Receives one frame and pushes its values; ends the process when there is none. */
static int receive_values(lua_State *L, frame_kind expected) {
    frame_buffer b = {0};
    frame_kind kind;
    int count;
    if (frame_receive(SANDBOX_CHANNEL, -1, &kind, &b) != 1 || kind != expected)
        leave();
    const char *problem = frame_decode(L, b.data, b.size, &count);
    frame_free(&b);
    if (problem)
        leave();
    return count;
}

/* call(verb, ...) -> what the host answers: results, or nil, message, code. Misuse raises. */
static int l_call(lua_State *L) {
    luaL_checkstring(L, 1);
    send_values(L, FRAME_CALL, 1);
    lua_settop(L, 0);
    int count = receive_values(L, FRAME_ANSWER);
    if (count > 0 && lua_toboolean(L, 1))
        return count - 1;
    if (count >= 3 && lua_isstring(L, 3) && strcmp(lua_tostring(L, 3), "EMISUSE") == 0) {
        luaL_where(L, 2);
        lua_pushvalue(L, 2);
        lua_concat(L, 2);
        return lua_error(L);
    }
    lua_pushnil(L);
    lua_replace(L, 1);
    return count;
}

/* The message handler: never touches what a script put into an error object. */
static int on_error(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING)
        return 1;
    lua_pushfstring(L, "an error object of type %s", luaL_typename(L, 1));
    return 1;
}

/* The protected part: reads the start frame, runs the prelude with it, sends the result.
** Start frame: the prelude's source, then its arguments. */
static int run(lua_State *L) {
    globals_open(L);
    int count = receive_values(L, FRAME_START);
    size_t size;
    const char *prelude = luaL_checklstring(L, 1, &size);
    if (luaL_loadbufferx(L, prelude, size, "@lua/praxlua/worker.lua", "t") != LUA_OK)
        return lua_error(L);
    lua_replace(L, 1);
    lua_pushcfunction(L, l_call);
    lua_insert(L, 2);
    lua_sethook(L, on_count, LUA_MASKCOUNT | COVERAGE_MASK, SLICE);
    lua_call(L, count, 1);
    lua_pushinteger(L, box.spent);
    lua_pushinteger(L, (lua_Integer)box.peak);
    coverage_flush();
    send_values(L, FRAME_RESULT, lua_gettop(L) - 2);
    return 0;
}

_Noreturn void sandbox_main(int argc, char **argv) {
    if (argc != 6)
        _exit(2);
    pid_t parent = (pid_t)strtol(argv[2], NULL, 10);
    box.limit = (size_t)strtoull(argv[3], NULL, 10);
    box.budget = strtoll(argv[4], NULL, 10);
    box.cpu = strtoll(argv[5], NULL, 10);
    confine(parent);
    start_cpu_clock(); /* the filter allows no timer to be set */
    isolate();
    lua_State *L = lua_newstate(allocate, NULL);
    if (!L)
        verdict("limit:memory", (long long)box.limit, (long long)box.limit);
    coverage_start(L);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, run);
    if (lua_pcall(L, 0, 0, 1) != LUA_OK) {
        if (box.refused)
            out_of_memory();
        if (lua_type(L, -1) != LUA_TSTRING) /* the error was in the handling of an error */
            lua_pushliteral(L, "an error while an error was handled");
        frame_buffer b = {0};
        coverage_flush();
        if (!frame_encode(&b, L, lua_gettop(L))) {
            box.sending = 1;
            frame_send(SANDBOX_CHANNEL, -1, FRAME_ERROR, b.data, b.size);
        }
    }
    leave(); /* the state is never closed: nothing of the script runs again */
}
