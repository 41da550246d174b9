/*
** lua.c: the targets that are written in Lua: spec/faults/fuzz/targets.lua returns a table with a
** function for each, which gets the input and raises for a finding.
**
** One state serves many inputs, as one praxlua serves one run; it is closed now and then, so that
** what is left in it is counted as a leak.
*/
#define _GNU_SOURCE
#include "harness.h"

#include "frame.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUTS = 2000, KEPT = 32 * 1024 * 1024 /* bytes a state may hold between two inputs */ };

static lua_State *state;
static int inputs;

static void close_state(void) {
    if (state)
        lua_close(state);
    state = NULL;
}

/* values(payload) -> the values of a frame's payload, or nothing */
static int l_values(lua_State *L) {
    size_t size;
    int count;
    const char *data = luaL_checklstring(L, 1, &size);
    return frame_decode(L, (const unsigned char *)data, size, &count) ? 0 : count;
}

/* Leaves the function of the target on the stack. */
static void open_state(void) {
    static int registered;
    state = fuzz_state();
    if (!registered++)
        atexit(close_state);
    if (luaL_loadfile(state, "spec/faults/fuzz/targets.lua") != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(state, -1));
        exit(2);
    }
    lua_createtable(state, 0, 2);
    lua_pushstring(state, fuzz_scratch());
    lua_setfield(state, -2, "scratch");
    lua_pushcfunction(state, l_values);
    lua_setfield(state, -2, "values");
    fuzz_call(state, 1, 1);
    if (lua_getfield(state, -1, fuzz_name) != LUA_TFUNCTION) {
        fprintf(stderr, "no such target: '%s'\n", fuzz_name);
        exit(2);
    }
    lua_remove(state, 1);
}

void fuzz_lua(const uint8_t *data, size_t size) {
    if (!state || ++inputs > INPUTS) {
        close_state();
        open_state();
        inputs = 0;
        fuzz_budget(size);
    }
    lua_pushvalue(state, 1);
    lua_pushlstring(state, (const char *)data, size);
    fuzz_call(state, 1, 0);
    if (lua_gettop(state) != 1)
        fuzz_finding("%d values are left on the stack", lua_gettop(state) - 1);
    if (lua_gc(state, LUA_GCCOUNT) > KEPT / 1024) {
        lua_gc(state, LUA_GCCOLLECT);
        if (lua_gc(state, LUA_GCCOUNT) > KEPT / 1024)
            fuzz_finding("%d KiB stay in use", lua_gc(state, LUA_GCCOUNT));
    }
}
