/*
** main.c: the praxlua executable: one Lua state with our primitives, LuaFileSystem and lua-cjson
** in it, our Lua files carried inside, and the command line written in Lua (praxlua.cli).
**
** PRAXLUA_PATH names a work tree to take the Lua files and phases from instead. Nothing else is
** searched: no LUA_PATH, no file beside the executable or in the current folder is ever run.
*/
#define _GNU_SOURCE
#include "core.h"
#include "coverage.h"
#include "embedded.h"
#include "sandbox.h"
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int luaopen_lfs(lua_State *L);
int luaopen_cjson(lua_State *L);

static const struct embedded *find_embedded(const char *name) {
    for (const struct embedded *e = embedded_files; e->name; e++)
        if (strcmp(e->name, name) == 0)
            return e;
    return NULL;
}

/* Reads $PRAXLUA_PATH/NAME onto the Lua stack; 0 when there is none. */
static int read_from_tree(lua_State *L, const char *name) {
    const char *tree = getenv("PRAXLUA_PATH");
    char block[16384];
    luaL_Buffer b;
    if (!tree || !*tree)
        return 0;
    const char *path = lua_pushfstring(L, "%s/%s", tree, name);
    FILE *f = fopen(path, "rbe");
    lua_pop(L, 1);
    if (!f)
        return 0;
    luaL_buffinit(L, &b);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        luaL_addlstring(&b, block, n);
    fclose(f);
    luaL_pushresult(&b);
    return 1;
}

/* embedded.source(name) -> text | nil: a file of ours by its path in the source tree. */
static int l_source(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    if (read_from_tree(L, name))
        return 1;
    const struct embedded *e = find_embedded(name);
    if (e)
        lua_pushlstring(L, e->source, e->size);
    else
        lua_pushnil(L);
    return 1;
}

/* embedded.names() -> array of the paths carried inside, sorted. */
static int l_names(lua_State *L) {
    lua_Integer n = 0;
    lua_newtable(L);
    for (const struct embedded *e = embedded_files; e->name; e++) {
        lua_pushstring(L, e->name);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int open_embedded(lua_State *L) {
    static const luaL_Reg functions[] = {{"source", l_source}, {"names", l_names}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

/* Pushes a module of ours as a function; 0 when there is none. What was compiled at build time is
** taken, but for a work tree, and where a Lua of another version compiled it. */
static int load_module(lua_State *L, const char *name) {
    const struct embedded *e = find_embedded(name);
    const char *chunk = lua_pushfstring(L, "@%s", name);
    int from_tree = read_from_tree(L, name);
    if (!from_tree && !e)
        return 0;
    if (!from_tree && luaL_loadbufferx(L, e->code, e->code_size, chunk, "b") == LUA_OK)
        return 1;
    size_t size = e ? e->size : 0;
    const char *text = from_tree ? lua_tolstring(L, -1, &size) : e->source;
    if (luaL_loadbufferx(L, text, size, chunk, "t") != LUA_OK)
        lua_error(L);
    return 1;
}

/* The only searcher beside preload: module "a.b" is lua/a/b.lua or lua/a/b/init.lua. */
static int search(lua_State *L) {
    static const char *const forms[] = {"lua/%s.lua", "lua/%s/init.lua"};
    const char *module = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    for (int i = 0; i < 2; i++) {
        const char *name = lua_pushfstring(L, forms[i], module);
        if (load_module(L, name)) {
            lua_pushstring(L, name);
            return 2;
        }
    }
    lua_pushfstring(L, "no file of that name in praxlua");
    return 1;
}

static void preload(lua_State *L, const char *name, lua_CFunction open) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void set_searchers(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_createtable(L, 2, 0);
    lua_rawgeti(L, -2, 1); /* preload */
    lua_rawseti(L, -2, 1);
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, 2);
    lua_setfield(L, -3, "searchers");
    lua_pop(L, 1);
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "path");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "cpath");
    lua_pop(L, 1);
}

static int traceback(lua_State *L) {
    const char *message = lua_tostring(L, 1);
    luaL_traceback(L, L, message ? message : "(an error that is not a string)", 1);
    return 1;
}

/* main(argv) in a protected call; returns the exit status. */
static int start(lua_State *L) {
    char **argv = lua_touserdata(L, 1);
    luaL_openlibs(L);
    coverage_start(L);
    preload(L, "praxlua.core", luaopen_praxlua_core);
    preload(L, "praxlua.embedded", open_embedded);
    preload(L, "lfs", luaopen_lfs);
    preload(L, "cjson", luaopen_cjson);
    set_searchers(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "praxlua.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_newtable(L);
    for (int i = 1; argv[i]; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
    return 1;
}

/* Whoever starts us may have closed one of the first three descriptors. Files opened later would
** take its number, and text for people would be written into them. */
static int fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) /* not close-on-exec */
            return -1;
    return 0;
}

int main(int argc, char **argv) {
    int status = 70; /* an error in praxlua itself (EX_SOFTWARE of sysexits.h) */
    if (fill_standard_descriptors() != 0)
        return status;
    praxlua_is_host = 1;
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        sandbox_main(argc, argv);
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("praxlua: out of memory\n", stderr);
        return status;
    }
    lua_pushcfunction(L, traceback);
    lua_pushcfunction(L, start);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 1, 1, 1) == LUA_OK)
        status = (int)lua_tointeger(L, -1);
    else
        fprintf(stderr, "praxlua: internal error: %s\n", lua_tostring(L, -1));
    lua_close(L);
    coverage_flush();
    return status;
}
