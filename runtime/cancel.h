/*
** cancel.h: whether what is under way is to come to its end: one flag and one deadline that every
** loop of a primitive asks whose length depends on what is on the disk.
**
** Only work inside a core.cancel.within() can be cancelled: by a signal that was noted
** (core.system.catch_signals()) or when the time is over. Outside of it, where sessions are loaded,
** undone and cleared away, a call that was cut short could be taken for an answer; nothing is
** cancelled there, nor while signals are ignored.
**
** What must come to its end whoever asks, like taking a tree away or putting an old file back, does
** not ask. Asking costs a few nanoseconds, some 20 with a deadline.
*/
#ifndef PRAXLUA_CANCEL_H
#define PRAXLUA_CANCEL_H

#include <stdint.h>

/* 0 to go on; else -1 with errno ECANCELED (a signal was noted) or CORE_ETIMEOUT. */
int cancel_asked(void);

/* When the time is over, in nanoseconds of the monotonic clock; INT64_MAX: never. For waits, which
** end then as if their own time were over. */
int64_t cancel_deadline(void);

#endif
