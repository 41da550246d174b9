/*
** sandbox.h: the worker's side: a process that runs one phase script and can do nothing by itself.
**
** It has no descriptor but the channel, no environment, no library that opens a file or starts a
** program, and a Lua state with listed names only (globals.h). Where the kernel has them, a filter
** of system calls (filter.h) and a ruleset that denies every file (landlock.h) lie under that. Its
** limits are exits: the process writes one verdict to the channel and is gone, so no pcall, __close
** or error handler of the script can stand in between.
*/
#ifndef PRAXLUA_SANDBOX_H
#define PRAXLUA_SANDBOX_H

#include <stddef.h>

enum { SANDBOX_CHANNEL = 3 }; /* the worker's only descriptor beside 0 to 2 (/dev/null) */

/* The main of `praxlua --worker PARENT MEMORY INSTRUCTIONS CPU`: the pid that must be our parent,
** bytes, VM instructions, seconds of CPU time. Never returns; the exit status says nothing, only
** frames do. */
_Noreturn void sandbox_main(int argc, char **argv);

/* For globals.c: charges a new coroutine, which counts its instructions from zero, with a slice of
** the budget; and the bytes of Lua's memory in use. */
void sandbox_charge(void);
size_t sandbox_memory(void);

#endif
