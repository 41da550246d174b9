/*
** launch.h: the start of one child: what is started, and the steps until its program runs.
*/
#ifndef PRAXLUA_LAUNCH_H
#define PRAXLUA_LAUNCH_H

#include "children.h"

typedef struct LaunchStream {
    enum { TO_NULL, TO_PIPE, TO_FILE, TO_STDOUT } to;
    const char *path;  /* TO_FILE */
    const char *input; /* stdin: data to write before it is closed, or NULL */
    size_t size;       /* of the input */
} LaunchStream;

/* What is to be started. Nothing in here is owned. */
typedef struct Launch {
    const char *program;   /* a path */
    const char *directory; /* NULL: ours */
    char **argv;
    char **environment;
    const char *record; /* the folder for its record (child.h), or NULL */
    bool detached;
    LaunchStream streams[STREAMS];
} Launch;

/* 0 when `program`, seen from `directory` (NULL: ours), is a regular file we may execute; else an
** errno value, and *step and *path say what failed. Asked before the start, because then the
** answer is exact. */
int launch_check(const char *directory, const char *program, const char **step, const char **path);

/* Starts the child and waits until the program runs. Returns 0 or an errno value; *step and *path
** then say what failed, and the child is to be let go. Marks every descriptor of this process but
** stdio close-on-exec. */
int launch_start(Child *c, const Launch *launch, const char **step, const char **path);

#endif
