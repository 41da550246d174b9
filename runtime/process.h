/*
** process.h: other processes, as /proc shows them; the part of core.system that is about them.
*/
#ifndef PRAXLUA_PROCESS_H
#define PRAXLUA_PROCESS_H

#include <lua.h>
#include <sys/types.h>

/* core.system.process, children and session; described where they are defined. */
int process_describe(lua_State *L);
int process_children(lua_State *L);
int process_session(lua_State *L);

/* Reads a small text file, of which /proc has many, beneath the directory `dir` into `text`, with a
** NUL at its end; what does not fit is left out. Returns its length, or -1 with errno. */
ssize_t process_read(int dir, const char *name, char *text, size_t size);

/* When a process started, in clock ticks since boot; -1 when there is none. With its number this
** is an identity until the next boot. */
long long process_start_time(pid_t pid);

/* The kernel's UUID of this boot, of 36 characters, into `text`; 0, or -1 with errno. */
int process_boot_id(char *text, size_t size);

/* Kills what is in a session, unless it is older than `since` (clock ticks since boot). */
void process_kill_session(pid_t session, long long since);

#endif
