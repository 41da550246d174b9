/*
** globals.h: the names a phase script finds in its Lua state: listed ones, made harmless.
*/
#ifndef PRAXLUA_GLOBALS_H
#define PRAXLUA_GLOBALS_H

#include <lua.h>

/* Opens the listed libraries in a new state and takes away what a script has no business with:
** everything that reads a file or bytecode, finalizers (they run where no hook sees them), the
** control of the collector, addresses of memory, the seed of the random numbers. Coroutines are
** charged (sandbox.h). */
void globals_open(lua_State *L);

#endif
