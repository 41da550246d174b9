/*
** coverage.h: which lines ran, for "make coverage".
**
** A line hook marks every line of our Lua (lua/praxlua and phases) that a state executes. The
** marks live in a shared mapping of $PRAXLUA_COVERAGE_DIR/PID.lines, made by coverage_start: once
*it is there,
** marking needs no system call and no descriptor, so a process that is sandboxed or killed is
** counted too. C is counted by gcov, whose files coverage_flush writes.
**
** In an ordinary build all of this is empty, and callers need no #ifdef.
**
** The file: COVERAGE_SOURCES records of a source's name (NUL-padded) and one byte a line, 1 where
** the line ran. A record's place is a hash of its name; an empty name is a free record.
*/
#ifndef PRAXLUA_COVERAGE_H
#define PRAXLUA_COVERAGE_H

#include <lua.h>

#define COVERAGE_SOURCES 256
#define COVERAGE_NAME 96
#define COVERAGE_LINES 2048

#ifdef PRAXLUA_COVERAGE

/* The events coverage_line wants; for the mask of a hook that calls it. */
#define COVERAGE_MASK LUA_MASKLINE

/* Starts marking in this state and in the coroutines it makes from now on. Does nothing where
** PRAXLUA_COVERAGE_DIR is not set. Call it before a sandbox is put up. */
void coverage_start(lua_State *L);

/* Takes the hook away again. */
void coverage_stop(lua_State *L);

/* Marks the line of a line event. Returns 1 when `ar` was a line event, which is then done with,
** and 0 for any other event: a state that has a hook of its own calls this first in it. */
unsigned coverage_line(lua_State *L, lua_Debug *ar);

/* Writes gcov's counters: before _exit, which skips the exit handlers. */
void coverage_flush(void);

/* "praxlua.core".coverage: start() and stop() for the calling state. */
int luaopen_praxlua_coverage(lua_State *L);

#else

#define COVERAGE_MASK 0

static inline void coverage_start(lua_State *L) {
    (void)L;
}

static inline void coverage_stop(lua_State *L) {
    (void)L;
}

static inline unsigned coverage_line(lua_State *L, lua_Debug *ar) {
    (void)L;
    (void)ar;
    return 0;
}

static inline void coverage_flush(void) {
}

#endif
#endif
