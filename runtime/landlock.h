/*
** landlock.h: what a process may do with files from here on, whoever it runs as (Landlock).
**
** A ruleset is kept by all that a process starts and cannot be taken back. It is the kernel's
** (5.13 and later, where it is switched on); where there is none, the functions say so and nothing
** changes. Rights that an older kernel does not know are left out: landlock_version() tells which
** ABI it has.
*/
#ifndef PRAXLUA_LANDLOCK_H
#define PRAXLUA_LANDLOCK_H

#include <stdbool.h>

/* The kernel's ABI, 1 or more; 0 with errno: ENOSYS (built without), EOPNOTSUPP (switched off). */
int landlock_version(void);

/* Denies this process, a worker, every access that the kernel can deny: opening a file of any kind,
** executing one, changing names, TCP, signals to processes outside, abstract sockets. Whether it
** works is tried: 0, or an errno value. Needs no-new-privileges. */
int landlock_worker(void);

/* A ruleset for a program that may read and execute anything but write only beneath the paths of
** the NULL-terminated `write` (files or directories, absolute; those that are missing, or links,
** count nothing) and to the harmless devices; that sends no signals to processes outside; and that
** reaches the network only with `network`. Returns its descriptor, or -1 with errno: ENOTSUP where
** the kernel cannot let a program rename between directories it may write in (ABI 1). */
int landlock_writing(const char *const *write, bool network);

/* Puts a ruleset over this process; allocates nothing, so it may be called between fork and exec.
** 0, or -1 with errno. Needs no-new-privileges. */
int landlock_apply(int ruleset);

#endif
