/*
** raw.c: a praxlua whose phase scripts can make system calls, to show what the kernel refuses them.
** Linked with --wrap in front of runtime/globals.c; the layers of the kernel are as in the product.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

void __real_globals_open(lua_State *L);
void __wrap_globals_open(lua_State *L);

/* raw(number, ...) -> result, errno. Arguments: integers, strings (their address), nil (0). */
static int raw(lua_State *L) {
    long arguments[6] = {0};
    long number = (long)luaL_checkinteger(L, 1);
    for (int i = 0; i < 6; i++) {
        if (lua_type(L, i + 2) == LUA_TSTRING)
            arguments[i] = (long)(intptr_t)lua_tostring(L, i + 2);
        else
            arguments[i] = (long)luaL_optinteger(L, i + 2, 0);
    }
    errno = 0;
    long result = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
    lua_pushinteger(L, result);
    lua_pushinteger(L, errno);
    return 2;
}

void __wrap_globals_open(lua_State *L) {
    __real_globals_open(L);
    lua_register(L, "raw", raw);
}
