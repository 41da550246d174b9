/*
** system.h: what the rest of the host shares with core.system.
*/
#ifndef PRAXLUA_SYSTEM_H
#define PRAXLUA_SYSTEM_H

/* 1 when this process is the praxlua executable (main.c sets it), 0 when the primitives were loaded
** as a module into another interpreter. core.system.host() depends on it. */
extern int praxlua_is_host;

/* The signal that core.system.catch_signals() has noted (SIGINT, SIGTERM, SIGHUP), 0 when none.
** The first one is kept until core.system.clear_interrupt(). */
int system_interrupted(void);

#endif
