/*
** core.c: errors, options and guards that every primitive shares, and the module that holds them.
*/
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* Conditions of ours, which strerror does not know. */
static const struct {
    int error;
    const char *name;
    const char *text;
} conditions[] = {
    {CORE_ENOTREG, "ENOTREG", "not a regular file"},
    {CORE_ECHANGED, "ECHANGED", "changed while it was read"},
    {CORE_ETIMEOUT, "ETIMEDOUT", "not done in the time it was given"},
};
#define CONDITIONS (sizeof conditions / sizeof *conditions)

const char *core_errno_name(int error) {
    for (size_t i = 0; i < CONDITIONS; i++)
        if (conditions[i].error == error)
            return conditions[i].name;
    const char *name = strerrorname_np(error);
    return name ? name : "EUNKNOWN";
}

static const char *errno_text(int error) {
    for (size_t i = 0; i < CONDITIONS; i++)
        if (conditions[i].error == error)
            return conditions[i].text;
    return strerror(error);
}

int core_errno(lua_State *L, int error, const char *step, const char *path) {
    lua_pushnil(L);
    if (path)
        lua_pushfstring(L, "%s %s: %s", step, path, errno_text(error));
    else
        lua_pushfstring(L, "%s: %s", step, errno_text(error));
    lua_pushstring(L, core_errno_name(error));
    return 3;
}

int core_fail(lua_State *L, const char *code, const char *format, ...) {
    va_list args;
    lua_pushnil(L);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_pushstring(L, code);
    return 3;
}

/* Pushes t[field] and returns its type; nil and a missing table count as absent. */
static int push_option(lua_State *L, int index, const char *field) {
    if (lua_isnoneornil(L, index)) {
        lua_pushnil(L);
        return LUA_TNIL;
    }
    luaL_checktype(L, index, LUA_TTABLE);
    return lua_getfield(L, index, field);
}

static void wrong_option(lua_State *L, const char *field, const char *expected) {
    luaL_error(L, "option '%s' must be %s, not %s", field, expected, luaL_typename(L, -1));
}

lua_Integer core_opt_integer(lua_State *L, int index, const char *field, lua_Integer otherwise) {
    lua_Integer value = otherwise;
    if (push_option(L, index, field) != LUA_TNIL) {
        int is_integer;
        value = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer)
            wrong_option(L, field, "an integer");
    }
    lua_pop(L, 1);
    return value;
}

lua_Number core_opt_number(lua_State *L, int index, const char *field, lua_Number otherwise) {
    lua_Number value = otherwise;
    int type = push_option(L, index, field);
    if (type == LUA_TNUMBER)
        value = lua_tonumber(L, -1);
    else if (type != LUA_TNIL)
        wrong_option(L, field, "a number");
    lua_pop(L, 1);
    return value;
}

int core_opt_boolean(lua_State *L, int index, const char *field, int otherwise) {
    int value = otherwise;
    int type = push_option(L, index, field);
    if (type == LUA_TBOOLEAN)
        value = lua_toboolean(L, -1);
    else if (type != LUA_TNIL)
        wrong_option(L, field, "a boolean");
    lua_pop(L, 1);
    return value;
}

const char *core_opt_string(lua_State *L, int index, const char *field, const char *otherwise) {
    const char *value = otherwise;
    int type = push_option(L, index, field);
    if (type == LUA_TSTRING)
        value = lua_tostring(L, -1);
    else if (type != LUA_TNIL)
        wrong_option(L, field, "a string");
    lua_pop(L, 1);
    return value;
}

int core_open(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *functions) {
    luaL_newmetatable(L, type);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}

const char *core_check_path(lua_State *L, int arg) {
    size_t length;
    const char *path = luaL_checklstring(L, arg, &length);
    luaL_argcheck(L, length > 0 && strlen(path) == length, arg, "path is empty or holds a NUL");
    return path;
}

void core_guard_close(struct core_guard *guard) {
    if (guard->fd >= 0)
        close(guard->fd);
    guard->fd = -1;
}

static int guard_release(lua_State *L) {
    struct core_guard *guard = lua_touserdata(L, 1);
    int saved = errno;
    if (guard->release)
        guard->release(guard);
    guard->release = NULL;
    errno = saved;
    return 0;
}

struct core_guard *core_guard(lua_State *L, void (*release)(struct core_guard *guard)) {
    struct core_guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
    *guard = (struct core_guard){.release = release, .fd = -1, .pointer = NULL};
    if (luaL_newmetatable(L, "praxlua.guard")) {
        lua_pushcfunction(L, guard_release);
        lua_setfield(L, -2, "__close");
        lua_pushcfunction(L, guard_release);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    lua_toclose(L, -1);
    return guard;
}

/* One line a primitive; the build lists them (PRIMITIVES in the Makefile). */
#define X(name) int luaopen_praxlua_##name(lua_State *L);
#include "primitives.h"
#undef X

static const luaL_Reg primitives[] = {
#define X(name) {#name, luaopen_praxlua_##name},
#include "primitives.h"
#undef X
    {NULL, NULL},
};

int luaopen_praxlua_core(lua_State *L) {
    lua_newtable(L);
    for (const luaL_Reg *p = primitives; p->name; p++) {
        lua_pushcfunction(L, p->func);
        lua_call(L, 0, 1);
        lua_setfield(L, -2, p->name);
    }
    return 1;
}
