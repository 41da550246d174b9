/*
** globals.c: the names a phase script finds; see globals.h.
*/
#include "globals.h"

#include "sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

/* ---- what runs, and where no hook sees it ---- */

/* load(chunk, name?, mode?, env?): text only, whatever the mode says. */
static int l_load(lua_State *L) {
    int environment = !lua_isnone(L, 4);
    lua_settop(L, 4);
    lua_pushliteral(L, "t");
    lua_replace(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    if (!environment)
        lua_settop(L, 4);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* setmetatable(t, mt): without finalizers, which run where no hook sees them. */
static int l_setmetatable(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "a metatable with __gc is not allowed in a phase");
        lua_pop(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* coroutine.create and coroutine.wrap, with a slice charged each. */
static int l_coroutine(lua_State *L) {
    sandbox_charge();
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* collectgarbage("count") */
static int l_count(lua_State *L) {
    luaL_argcheck(L, strcmp(luaL_optstring(L, 1, "count"), "count") == 0, 1,
                  "only \"count\" is allowed in a phase");
    lua_pushnumber(L, (lua_Number)sandbox_memory() / 1024);
    return 1;
}

/* ---- texts without addresses ---- */

static const char ordinals; /* its address is a key of the registry */
static lua_Integer last_ordinal;

/* The number of a table, function, thread or userdata: it counts those that were asked for. The
** table of numbers is weak, so it keeps nothing alive. */
static lua_Integer ordinal(lua_State *L, int index) {
    index = lua_absindex(L, index);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &ordinals) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "k");
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &ordinals);
    }
    lua_pushvalue(L, index);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushvalue(L, index);
        lua_pushinteger(L, ++last_ordinal);
        lua_rawset(L, -3);
        lua_pushinteger(L, last_ordinal);
    }
    lua_Integer number = lua_tointeger(L, -1);
    lua_pop(L, 2);
    return number;
}

/* Pushes what tostring makes of a value, with a number where it would have an address. */
static void push_text(lua_State *L, int index) {
    switch (lua_type(L, index)) {
    case LUA_TTABLE:
    case LUA_TFUNCTION:
    case LUA_TTHREAD:
    case LUA_TUSERDATA:
    case LUA_TLIGHTUSERDATA:
        break;
    default:
        luaL_tolstring(L, index, NULL);
        return;
    }
    if (luaL_getmetafield(L, index, "__tostring") != LUA_TNIL) {
        lua_pop(L, 1);
        luaL_tolstring(L, index, NULL);
        return;
    }
    const char *kind = luaL_typename(L, index);
    int top = lua_gettop(L);
    if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING)
        kind = lua_tostring(L, -1);
    lua_pushfstring(L, "%s: %I", kind, (LUAI_UACINT)ordinal(L, index));
    lua_insert(L, top + 1); /* over the name, if there was one */
    lua_settop(L, top + 1);
}

static int l_tostring(lua_State *L) {
    luaL_checkany(L, 1);
    push_text(L, 1);
    return 1;
}

/* string.format(form, ...): %s as tostring, no %p. */
static int l_format(lua_State *L) {
    size_t size;
    const char *form = luaL_checklstring(L, 1, &size), *end = form + size;
    int argument = 1, last = lua_gettop(L);
    luaL_checkstack(L, last + 8, "too many arguments");
    while ((form = memchr(form, '%', (size_t)(end - form))) != NULL) {
        form += 1 + strspn(form + 1, "-+ #0123456789."); /* a string ends with a NUL at least */
        if (*form == 'p')
            return luaL_error(L, "bad argument #1 to 'format' ('%%p' is not allowed in a phase)");
        if (*form != '%' && ++argument <= last && *form == 's') {
            push_text(L, argument);
            lua_replace(L, argument);
        }
        if (form < end)
            form++;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, last, 1);
    return 1;
}

/* ---- the list ---- */

/* Replaces the function `name` of the table on top by `function`, with the old one as upvalue. */
static void wrap(lua_State *L, const char *name, lua_CFunction function) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

static void drop(lua_State *L, const char *const names[]) {
    for (; *names; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
}

void globals_open(lua_State *L) {
    static const luaL_Reg libraries[] = {{LUA_GNAME, luaopen_base},
                                         {LUA_TABLIBNAME, luaopen_table},
                                         {LUA_STRLIBNAME, luaopen_string},
                                         {LUA_MATHLIBNAME, luaopen_math},
                                         {LUA_UTF8LIBNAME, luaopen_utf8},
                                         {LUA_COLIBNAME, luaopen_coroutine},
                                         {NULL, NULL}};
    static const char *const no_base[] = {"dofile", "loadfile", "print", "warn", NULL};
    static const char *const no_string[] = {"dump", NULL};
    static const char *const no_math[] = {"randomseed", NULL};
    for (const luaL_Reg *lib = libraries; lib->name; lib++) {
        luaL_requiref(L, lib->name, lib->func, 1);
        lua_pop(L, 1);
    }
    lua_pushglobaltable(L);
    drop(L, no_base);
    wrap(L, "load", l_load);
    wrap(L, "setmetatable", l_setmetatable);
    wrap(L, "collectgarbage", l_count);
    wrap(L, "tostring", l_tostring);
    lua_getfield(L, -1, LUA_STRLIBNAME);
    drop(L, no_string);
    wrap(L, "format", l_format);
    lua_getfield(L, -2, LUA_MATHLIBNAME);
    lua_getfield(L, -1, "randomseed"); /* the same numbers in every run */
    lua_pushinteger(L, 1);
    lua_call(L, 1, 0);
    drop(L, no_math);
    lua_getfield(L, -3, LUA_COLIBNAME);
    wrap(L, "create", l_coroutine);
    wrap(L, "wrap", l_coroutine);
    lua_pop(L, 4);
    lua_pushliteral(L, ""); /* strings share one metatable: out of reach */
    lua_getmetatable(L, -1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}
