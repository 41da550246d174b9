/*
** harness.c: the common half of the fuzz program: its targets, findings, a scratch directory and
** Lua states that notice what costs too much.
**
** The program is linked with libFuzzer (make fuzz), or with replay.c, which runs the committed
** inputs and a few mutations of them in any sanitized build (make test). Which target runs is said
** by --target=NAME, an option that libFuzzer passes over.
**
** libFuzzer sees the branches of C that clang has instrumented. The parsers in Lua would be one
** loop of the interpreter to it, so a line hook counts the steps from line to line in a table of
** counters that libFuzzer reads like its own.
*/
#define _GNU_SOURCE
#include "harness.h"

#include "core.h"
#include "embedded.h"

#include <fcntl.h>
#include <ftw.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    COUNTERS = 1 << 15,
    SLICE = 1000, /* instructions between two looks at the budget */
    MEMORY = 192 * 1024 * 1024
};

int luaopen_lfs(lua_State *L);
int luaopen_cjson(lua_State *L);

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

__attribute__((section("__libfuzzer_extra_counters"), used)) static uint8_t counters[COUNTERS];

const char *fuzz_name = "";
static const fuzz_target *const targets[] = {&fuzz_frame, &fuzz_archive, &fuzz_journal, &fuzz_http};
static const fuzz_target *chosen;
static char scratch[256];
static long long budget;
static size_t in_use;

/* ---- findings ---- */

_Noreturn void fuzz_finding(const char *format, ...) {
    va_list args;
    fprintf(stderr, "finding in %s: ", fuzz_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

/* ---- files ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void fuzz_remove(const char *path) {
    nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_scratch(void) {
    if (*scratch)
        fuzz_remove(scratch);
}

const char *fuzz_scratch(void) {
    const char *base = getenv("TMPDIR");
    if (*scratch)
        return scratch;
    snprintf(scratch, sizeof scratch, "%s/praxlua-fuzz-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(scratch)) {
        perror(scratch);
        exit(2);
    }
    atexit(remove_scratch);
    return scratch;
}

void fuzz_write(const char *path, const void *data, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0) {
        perror(path);
        exit(2);
    }
}

/* ---- Lua states ---- */

static void *allocate(void *ud, void *block, size_t old, size_t size) {
    (void)ud;
    old = block ? old : 0;
    if (size > old && size - old > MEMORY - in_use)
        fuzz_finding("a Lua state needs more than %d bytes", MEMORY);
    if (size == 0) {
        free(block);
        in_use -= old;
        return NULL;
    }
    void *fresh = realloc(block, size);
    if (fresh)
        in_use = in_use - old + size;
    return fresh;
}

static void on_hook(lua_State *L, lua_Debug *ar) {
    static uint32_t last;
    if (ar->event == LUA_HOOKCOUNT) {
        budget -= SLICE;
        if (budget < 0) {
            luaL_traceback(L, L, NULL, 0);
            fuzz_finding("too many instructions: %s", lua_tostring(L, -1));
        }
        return;
    }
    lua_getinfo(L, "Sl", ar);
    uint32_t here = 2166136261u;
    for (const char *c = ar->short_src; *c; c++)
        here = (here ^ (unsigned char)*c) * 16777619u;
    here = (here ^ (uint32_t)ar->currentline) * 16777619u;
    uint8_t *counter = &counters[(here ^ last >> 1) % COUNTERS];
    *counter = (uint8_t)(*counter + (*counter < UINT8_MAX));
    last = here;
}

void fuzz_budget(size_t input_size) {
    budget = 20000000 + 3000 * (long long)input_size;
}

/* Module "a.b" is lua/a/b.lua or lua/a/b/init.lua among the embedded files. */
static int search(lua_State *L) {
    static const char *const forms[] = {"lua/%s.lua", "lua/%s/init.lua"};
    const char *module = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    for (int i = 0; i < 2; i++) {
        const char *name = lua_pushfstring(L, forms[i], module);
        for (const struct embedded *e = embedded_files; e->name; e++) {
            if (strcmp(e->name, name) != 0)
                continue;
            if (luaL_loadbufferx(L, e->source, e->size, lua_pushfstring(L, "@%s", name), "t") != 0)
                return lua_error(L);
            lua_pushstring(L, name);
            return 2;
        }
    }
    lua_pushliteral(L, "no file of that name in praxlua");
    return 1;
}

/* embedded.source(name) -> text | nil, as in the executable. */
static int l_source(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    for (const struct embedded *e = embedded_files; e->name; e++) {
        if (strcmp(e->name, name) == 0) {
            lua_pushlstring(L, e->source, e->size);
            return 1;
        }
    }
    return 0;
}

static int open_embedded(lua_State *L) {
    static const luaL_Reg functions[] = {{"source", l_source}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

static void preload(lua_State *L, const char *name, lua_CFunction open) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

lua_State *fuzz_state(void) {
    lua_State *L = lua_newstate(allocate, NULL);
    if (!L) {
        fputs("no memory for a Lua state\n", stderr);
        exit(2);
    }
    luaL_openlibs(L);
    preload(L, "praxlua.core", luaopen_praxlua_core);
    preload(L, "praxlua.embedded", open_embedded);
    preload(L, "lfs", luaopen_lfs);
    preload(L, "cjson", luaopen_cjson);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
    lua_sethook(L, on_hook, LUA_MASKLINE | LUA_MASKCOUNT, SLICE);
    return L;
}

static int traceback(lua_State *L) {
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

void fuzz_call(lua_State *L, int arguments, int results) {
    int at = lua_gettop(L) - arguments;
    lua_pushcfunction(L, traceback);
    lua_insert(L, at);
    if (lua_pcall(L, arguments, results, at) != LUA_OK)
        fuzz_finding("%s", lua_tostring(L, -1));
    lua_remove(L, at);
}

/* ---- the program ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char option[] = "--target=";
    for (int i = 1; i < *argc; i++)
        if (strncmp((*argv)[i], option, sizeof option - 1) == 0)
            fuzz_name = (*argv)[i] + sizeof option - 1;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(targets[i]->name, fuzz_name) == 0)
            chosen = targets[i];
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_budget(size);
    if (chosen)
        chosen->run(data, size);
    else
        fuzz_lua(data, size);
    return 0;
}
