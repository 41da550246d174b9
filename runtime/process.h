/*
** process.h: other processes, as /proc shows them; the part of core.system that is about them.
*/
#ifndef PRAXLUA_PROCESS_H
#define PRAXLUA_PROCESS_H

#include <lua.h>
#include <sys/types.h>

/* core.system.process and core.system.children; described where they are defined. */
int process_describe(lua_State *L);
int process_children(lua_State *L);

/* Reads a small text file, of which /proc has many, beneath the directory `dir` into `text`, with a
** NUL at its end; what does not fit is left out. Returns its length, or -1 with errno. */
ssize_t process_read(int dir, const char *name, char *text, size_t size);

#endif
