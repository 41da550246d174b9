/*
** lua.c: a small stand-in for the lua5.4 command, linked with the sanitizers.
**
** A sanitized module cannot be loaded into a stock interpreter, whose process lacks the
** sanitizer's runtime; preloading the runtime would put it into every git and python a test
** starts. So the specs of the sanitizer stage run in this one: lua5.4 [-e TEXT]... [SCRIPT ...].
*/
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lua unloads C modules when its state is closed. Here they stay: reports of leaks come after that,
** and can then name functions; and what a library keeps in its globals is no leak. */
int dlclose(void *handle) {
    (void)handle;
    return 0;
}

static int traceback(lua_State *L) {
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static int run(lua_State *L, int loaded) {
    if (loaded == LUA_OK) {
        lua_pushcfunction(L, traceback);
        lua_insert(L, 1);
        loaded = lua_pcall(L, lua_gettop(L) - 2, 0, 1);
    }
    if (loaded != LUA_OK)
        fprintf(stderr, "lua5.4: %s\n", lua_tostring(L, -1));
    lua_settop(L, 0);
    return loaded;
}

/* The global `arg`, with the script at 0. */
static void set_arg(lua_State *L, int argc, char **argv, int script) {
    lua_newtable(L);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

int main(int argc, char **argv) {
    lua_State *L = luaL_newstate();
    int at = 1;
    int rc = LUA_OK;
    if (!L)
        return EXIT_FAILURE;
    luaL_openlibs(L);
    for (; rc == LUA_OK && at + 1 < argc && strcmp(argv[at], "-e") == 0; at += 2)
        rc = run(L, luaL_loadbuffer(L, argv[at + 1], strlen(argv[at + 1]), "=(command line)"));
    if (rc == LUA_OK && at < argc) {
        set_arg(L, argc, argv, at);
        int loaded = luaL_loadfile(L, argv[at]);
        for (int i = at + 1; loaded == LUA_OK && i < argc; i++)
            lua_pushstring(L, argv[i]);
        rc = run(L, loaded);
    }
    lua_close(L);
    return rc == LUA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
