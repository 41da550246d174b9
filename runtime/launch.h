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
    bool confined;            /* may write only where `write` says, and send no signals outside */
    const char *const *write; /* confined: paths, NULL-terminated (landlock.h) */
    bool network;             /* confined: it may reach the network */
    LaunchStream streams[STREAMS];
} Launch;

/* 0 when `program`, seen from `directory` (NULL: ours), is a regular file we may execute; else an
** errno value, and *step and *path say what failed. Asked before the start, because then the
** answer is exact. */
int launch_check(const char *directory, const char *program, const char **step, const char **path);

/* Whether this kernel can confine a program's writing, and keep it from the network. Where it
** cannot, launch_start does without. */
bool launch_confines_writing(void);
bool launch_confines_network(void);

/* Starts the child and waits until the program runs. Returns 0 or an errno value; *step and *path
** then say what failed, and the child is to be let go. Marks every descriptor of this process but
** stdio close-on-exec. */
int launch_start(Child *c, const Launch *launch, const char **step, const char **path);

#endif
