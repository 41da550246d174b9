/*
** cancel.c: core.cancel: ending a long call: on a signal, or when its time is over. See cancel.h.
**
** A call that was cancelled returns nil, message, "ECANCELED" (a signal) or "ETIMEDOUT" (the time),
** after taking back what it has made, as it does after any other failure.
*/
#define _GNU_SOURCE
#include "cancel.h"
#include "core.h"
#include "system.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <time.h>

#define NEVER INT64_MAX

/* The innermost core.cancel.within(). */
typedef struct Scope {
    int depth;        /* 0: none */
    int64_t deadline; /* nanoseconds of the monotonic clock */
} Scope;

static Scope scope = {0, NEVER};

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int cancel_asked(void) {
    if (scope.depth == 0)
        return 0;
    if (system_interrupted())
        errno = ECANCELED;
    else if (scope.deadline != NEVER && now() >= scope.deadline)
        errno = CORE_ETIMEOUT;
    else
        return 0;
    return -1;
}

int64_t cancel_deadline(void) {
    return scope.depth ? scope.deadline : NEVER;
}

/* asked() -> nil | "ECANCELED" | "ETIMEDOUT": whether what is under way is to end; for loops in
** Lua. */
static int cancel_asked_name(lua_State *L) {
    if (cancel_asked() == 0)
        lua_pushnil(L);
    else
        lua_pushstring(L, core_errno_name(errno));
    return 1;
}

static void restore(struct core_guard *guard) {
    scope = *(const Scope *)guard->pointer;
}

/* within(seconds, f, ...) -> what f(...) returns. Hashing, listing, measuring, copying and
** archiving in it is cancelled when a signal was noted, or the time is over (math.huge: never);
** calls within calls end at the earlier time. Waiting for tools and servers, which has limits of
** its own, is over at that time as well, and always ends on a signal. */
static int cancel_within(lua_State *L) {
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0, 1, "seconds must not be negative");
    luaL_checkany(L, 2);
    int last = lua_gettop(L);
    luaL_checkstack(L, last, "too many arguments");
    Scope *before = lua_newuserdatauv(L, sizeof *before, 0); /* outlives this call when f raises */
    *before = scope;
    struct core_guard *guard = core_guard(L, restore);
    guard->pointer = before;
    int64_t end = seconds < 1e9 ? now() + (int64_t)(seconds * 1e9) : NEVER;
    scope.depth++;
    if (end < scope.deadline)
        scope.deadline = end;
    int top = lua_gettop(L);
    for (int i = 2; i <= last; i++)
        lua_pushvalue(L, i);
    lua_call(L, last - 2, LUA_MULTRET);
    return lua_gettop(L) - top;
}

static const luaL_Reg functions[] = {
    {"asked", cancel_asked_name},
    {"within", cancel_within},
    {NULL, NULL},
};

int luaopen_praxlua_cancel(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
