/*
** children.h: the process table: the children of this process, their output, and waiting for them.
**
** One libuv loop, private to children.c, is run only inside the functions below: libuv's default
** loop and its thread pool are not used, and nothing here calls Lua. Waiting is done in one place
** (child_wait_ready): a ppoll on the loop's own descriptor, so that a caught signal ends every wait
** without a race and without a tick.
**
** A Child is allocated in C, a Lua object only points to it. It lives until it was reaped, its
** libuv handles are closed and Lua has let go of it.
**
** A detached child is our own, and may outlive us. Any other has a watcher in between (child.h),
** which is our child in its place, and tells over a socket how it ended.
**
** Life of a child: RUNNING, then ENDED, then REAPED. Between ENDED and REAPED output may still come
** from what the child left; after LINGER all that is killed. A detached child that has ENDED is a
** zombie, on purpose: as long as it is not reaped its number cannot be given to another process,
** so signalling its group is safe. A watched one is REAPED when its watcher is, which has then seen
** to it that nothing is left. libuv would reap at once, therefore its process handle is closed
** right after the start and waitid(2) is called here, woken by SIGCHLD.
*/
#ifndef PRAXLUA_CHILDREN_H
#define PRAXLUA_CHILDREN_H

#include "child.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#define SECOND INT64_C(1000000000) /* times are nanoseconds of the monotonic clock */
#define FOREVER INT64_MAX          /* a deadline that never comes */
#define LINGER (1 * SECOND)        /* how long output may come on after a child's end */
#define READ_AHEAD (1u << 20)      /* bytes kept for a reader before the child has to wait */
#define BACKLOG (64u << 20)        /* the same while we write to it or wait for its end */

enum { IN, OUT, ERR, STREAMS };

/* Output that nobody has taken yet. */
typedef struct ChildChunk {
    struct ChildChunk *next;
    int stream; /* OUT or ERR */
    size_t size;
    char data[];
} ChildChunk;

typedef struct ChildPipe {
    uv_pipe_t handle;
    bool open;
    bool reading;
} ChildPipe;

typedef struct Child {
    struct Child *next; /* in the process table */
    pid_t pid;          /* also the number of its process group */
    pid_t watcher;      /* 0: it has none */
    enum { RUNNING, ENDED, REAPED } state;
    int code, signal;  /* how it ended; code -1: nobody knows, it was taken from us */
    int64_t ended;     /* when the end was noticed */
    int64_t quiet;     /* since when no output came (after its end) */
    bool owned;        /* a Lua object points here */
    bool detached;     /* may outlive us; what it leaves in its group is not killed */
    bool stopping;     /* it is being stopped: it stays ENDED until that is over */
    bool told;         /* the watcher was told to end everything */
    int control;       /* our end of the socket to the watcher, -1 when closed */
    uv_poll_t reports; /* watches that */
    bool reporting;    /* and is open */
    uv_process_t process;
    ChildPipe pipes[STREAMS];
    int handles;       /* libuv handles whose memory is still in use */
    ChildChunk *first; /* the queue of output, in order of arrival */
    ChildChunk **last;
    size_t queued; /* bytes in the queue */
    size_t limit;  /* reading pauses above it */
    int error;     /* errno value of a failure to read, 0 when none */
} Child;

/* A write to a child's stdin. Its callback frees it unless it is awaited. */
typedef struct ChildWrite {
    uv_write_t request;
    ChildPipe *pipe;
    bool awaited; /* whoever set it frees it, once it is done */
    bool done;
    bool last;  /* close stdin afterwards */
    int status; /* 0 or a libuv error, once it is done */
    char data[];
} ChildWrite;

typedef enum { READY, EXPIRED, INTERRUPTED } ChildWait;

/* Nanoseconds of the monotonic clock. */
int64_t children_now(void);

/* Makes the loop at first use. Returns 0 or a libuv error. */
int children_open(void);

/* Whether the table belongs to this process, and not to the one that forked it. */
bool children_ours(void);

/* Does what can be done without waiting: reads, writes, notices ends, reaps, frees. */
void children_turn(void);

/* A new child, owned, that does not run yet (REAPED). NULL: no memory. */
Child *children_add(bool detached);

/* Lets libuv start a detached one. Returns 0 (it is RUNNING) or a libuv error. */
int child_spawn(Child *c, const uv_process_options_t *options);

/* Starts any other one through a watcher; start->control is set here. Waits until its program
** runs, `deadline` comes or a caught signal does. Returns 0 (it is RUNNING) or an errno value;
** after ETIMEDOUT and EINTR it may be RUNNING, and is to be let go. */
int child_watch(Child *c, ChildStart *start, int64_t deadline);

/* Makes `fd`, our end of a pipe, one of its streams. Closes it on failure, with a libuv error. */
int child_open_pipe(Child *c, int stream, int fd);
void child_close_pipe(ChildPipe *pipe); /* closing twice is fine */

/* Whether stdout or stderr may still bring something. */
bool child_outputs_open(const Child *c);

/* Reads on when there is room: `limit` bytes may be queued from now on. */
void child_resume_reading(Child *c, size_t limit);

/* Takes `chunk` off the queue and frees it, if it is still the first. */
void child_drop(Child *c, const ChildChunk *chunk);

/* Begins to write a copy of `data` to stdin. NULL: a libuv error is in *error. */
ChildWrite *child_begin_write(Child *c, const char *data, size_t size, bool last, int *error);

/* Waits until children_turn() has something to do, `deadline` comes or, with `interruptible`, one
** of the signals that core.system.catch_signals() catches has come. */
ChildWait child_wait_ready(const Child *c, int64_t deadline, bool interruptible);

/* Waits until the child is at least in `state`. READY: it is. */
ChildWait child_await_state(Child *c, int state, int64_t deadline, bool interruptible);

/* Sends SIGTERM to its group, or ends the group with SIGKILL, and every other descendant of a
** watched child with it. Does nothing once its number may belong to another process. */
void child_kill_group(Child *c, int signal);

/* Ends the time between ENDED and REAPED. What the child left ends with it, unless it is detached
** and ended by itself. */
void child_finish(Child *c);

/* Its owner is gone: it ends unless it is detached, and the table keeps it as long as it has to.
** Waits a moment for a killed child, so that none is left as a zombie. */
void child_let_go(Child *c);

#endif
