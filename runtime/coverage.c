/*
** coverage.c: marks the Lua lines that ran. Part of coverage builds only; see coverage.h.
*/
#define _GNU_SOURCE
#include "coverage.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "durable.h"

typedef struct {
    char name[COVERAGE_NAME];
    unsigned char line[COVERAGE_LINES];
} source;

static source *sources; /* COVERAGE_SOURCES records, shared with the file; NULL when off */
static pid_t owner;     /* the process whose file it is: a fork needs one of its own */

void __gcov_dump(void);

/* Maps this process' file. After an exec the file is there already and is continued. */
static void map_file(void) {
    const char *directory = getenv("PRAXLUA_COVERAGE_DIR");
    char path[4096];
    sources = NULL;
    owner = getpid();
    if (!directory || !*directory)
        return;
    int length = snprintf(path, sizeof path, "%s/%ld.lines", directory, (long)owner);
    if (length < 0 || (size_t)length >= sizeof path)
        return;
    int fd = durable_append(AT_FDCWD, path, 0644);
    if (fd < 0)
        return;
    const size_t size = COVERAGE_SOURCES * sizeof *sources;
    if (durable_truncate(fd, (off_t)size) == 0) {
        void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED)
            sources = mapped;
    }
    durable_close(fd);
}

/* The part of a chunk name that names a file of ours: "lua/praxlua/...", or the plain name by which
** a worker knows a phase script. NULL for others. */
static const char *our_name(const char *chunk) {
    if (chunk[0] != '@')
        return NULL;
    const char *name = strchr(chunk, '/') ? strstr(chunk, "lua/praxlua/") : chunk + 1;
    return name && strlen(name) < COVERAGE_NAME ? name : NULL;
}

/* The record of a source, made when it is new; NULL when the table is full. */
static source *find_source(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    for (uint32_t i = 0; i < COVERAGE_SOURCES; i++) {
        source *s = &sources[(hash + i) % COVERAGE_SOURCES];
        if (!s->name[0])
            strcpy(s->name, name); /* our_name checked the length */
        if (strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}

unsigned coverage_line(lua_State *L, lua_Debug *ar) {
    if (ar->event != LUA_HOOKLINE)
        return 0;
    if (!sources || ar->currentline < 0 || ar->currentline >= COVERAGE_LINES)
        return 1;
    if (lua_getinfo(L, "S", ar)) {
        const char *name = our_name(ar->source);
        source *s = name ? find_source(name) : NULL;
        if (s)
            s->line[ar->currentline] = 1;
    }
    return 1;
}

static void hook(lua_State *L, lua_Debug *ar) {
    coverage_line(L, ar);
}

void coverage_start(lua_State *L) {
    if (owner != getpid())
        map_file();
    if (sources)
        lua_sethook(L, hook, COVERAGE_MASK, 0);
}

void coverage_stop(lua_State *L) {
    if (lua_gethook(L) == hook)
        lua_sethook(L, NULL, 0, 0);
}

void coverage_flush(void) {
    __gcov_dump();
}

/* coverage.start(): marks the lines that the calling state runs from now on. */
static int l_start(lua_State *L) {
    coverage_start(L);
    return 0;
}

/* coverage.stop(): ends what start began. */
static int l_stop(lua_State *L) {
    coverage_stop(L);
    return 0;
}

static const luaL_Reg functions[] = {
    {"start", l_start},
    {"stop", l_stop},
    {NULL, NULL},
};

int luaopen_praxlua_coverage(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
