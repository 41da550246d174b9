/*
** child.h: what stands between us and a tool: its watcher.
**
** A process that is not detached is never our own child. Between the two is a watcher: a copy of
** this process, made by fork, that does nothing but wait. It ends the tool and all its
** descendants when it is told to, and when we are gone, however we ended: then its end of the
** socket that ties us together reads the end. Descendants that left the tool's group, session or
** parent behind become the watcher's own children (PR_SET_CHILD_SUBREAPER), so it finds them, and
** nothing else; it signals no process that is not its child or in a group of its children.
**
**   we ──socket── watcher ── tool ── …
**
** The watcher is in a session of its own, out of a terminal's reach, and takes no notice of
** signals. The tool leads another session and group, dies with the watcher (PR_SET_PDEATHSIG), and
** has the default signals and no descriptor but its stdio.
**
** A tool can be recorded: before its program runs there is a symbolic link child-PID in a folder,
** whose target is "START WATCHER START-OF-WATCHER BOOT" (clock ticks since boot, and the kernel's
** boot id). A link is made in one step, so no record is ever half there. It is removed when the
** tool and all that it left are gone. A record that cannot be made hinders nobody.
*/
#ifndef PRAXLUA_CHILD_H
#define PRAXLUA_CHILD_H

#include "filter.h"

#include <stdbool.h>
#include <sys/types.h>

/* What the watcher needs to know. Descriptors are greater than 2. */
typedef struct ChildStart {
    const char *program; /* a path; PATH is not searched and no shell is involved */
    char **argv;
    char **environment;
    const char *directory; /* NULL: ours */
    const char *record;    /* absolute path of the folder for the record; NULL: none */
    bool confined;         /* it never gets rights it has not: no set-user-ID programs */
    int ruleset;           /* where it may write (landlock.h), -1: anywhere */
    const filter *network; /* what keeps it from the network, NULL: nothing */
    int streams[3];        /* stdin, stdout, stderr; -1: /dev/null */
    int control;           /* the watcher's end of the socket (SOCK_SEQPACKET) */
} ChildStart;

/* What the watcher tells, in this order: STARTED or FAILED, and after STARTED, ENDED. It then
** comes to its end by itself as soon as the tool has no descendant left. */
typedef struct ChildReport {
    enum { CHILD_STARTED = 1, CHILD_FAILED, CHILD_ENDED } what;
    int value;  /* the tool's pid; an errno value; the exit status, 0 when a signal ended it */
    int signal; /* ENDED: the signal that ended it, else 0 */
} ChildReport;

/* What it is told, one byte each. */
enum {
    CHILD_TERMINATE = 'T', /* SIGTERM to the tool's group */
    CHILD_END = 'K'        /* SIGKILL to it and all descendants */
};

/* The beginning of a record's name. */
#define CHILD_RECORD "child-"

/* Starts a watcher and through it the tool. Returns the watcher's pid, or -1 with errno. */
pid_t child_fork(const ChildStart *start);

#endif
