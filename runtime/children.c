/*
** children.c: the process table. See children.h.
*/
#define _GNU_SOURCE
#include "children.h"

#include "process.h"
#include "system.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uv_loop_t loop;
static uv_signal_t child_signal;
static pid_t loop_owner; /* the process that made the loop; 0: none yet */
static Child *table;

int64_t children_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

bool children_ours(void) {
    return loop_owner == getpid();
}

/* {=== The queue of output ===} */

static void enqueue(Child *c, int stream, const char *data, size_t size) {
    ChildChunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk) {
        c->error = ENOMEM;
        return;
    }
    chunk->next = NULL;
    chunk->stream = stream;
    chunk->size = size;
    memcpy(chunk->data, data, size);
    *c->last = chunk;
    c->last = &chunk->next;
    c->queued += size;
}

void child_drop(Child *c, const ChildChunk *chunk) {
    ChildChunk *first = c->first;
    if (!first || first != chunk)
        return;
    c->first = first->next;
    if (!c->first)
        c->last = &c->first;
    c->queued -= first->size;
    free(first);
}

/* {=== Streams ===} */

static void on_handle_closed(uv_handle_t *handle) {
    Child *c = handle->data;
    c->handles--;
}

void child_close_pipe(ChildPipe *pipe) {
    if (!pipe->open)
        return;
    pipe->open = pipe->reading = false;
    uv_close((uv_handle_t *)&pipe->handle, on_handle_closed);
}

int child_open_pipe(Child *c, int stream, int fd) {
    ChildPipe *pipe = &c->pipes[stream];
    int rc = uv_pipe_init(&loop, &pipe->handle, 0);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    pipe->handle.data = c;
    pipe->open = true; /* from here on closing the handle is the way out */
    c->handles++;
    rc = uv_pipe_open(&pipe->handle, fd);
    if (rc != 0) {
        close(fd);
        child_close_pipe(pipe);
    }
    return rc;
}

bool child_outputs_open(const Child *c) {
    return c->pipes[OUT].open || c->pipes[ERR].open;
}

/* libuv asks, reads and reports before it asks again, so one buffer serves all streams. */
static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    static char space[64 * 1024];
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(space, sizeof space);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    Child *c = stream->data;
    ChildPipe *pipe =
        (uv_stream_t *)&c->pipes[OUT].handle == stream ? &c->pipes[OUT] : &c->pipes[ERR];
    if (n == 0) /* nothing there after all */
        return;
    c->quiet = children_now();
    if (n > 0)
        enqueue(c, (int)(pipe - c->pipes), buffer->base, (size_t)n);
    else if (n != UV_EOF)
        c->error = (int)-n;
    if (n < 0 || c->error) {
        child_close_pipe(pipe);
    } else if (c->queued >= c->limit) {
        uv_read_stop(stream);
        pipe->reading = false;
    }
}

void child_resume_reading(Child *c, size_t limit) {
    c->limit = limit;
    for (int s = OUT; s <= ERR; s++) {
        ChildPipe *pipe = &c->pipes[s];
        if (!pipe->open || pipe->reading || c->queued >= limit)
            continue;
        pipe->reading = uv_read_start((uv_stream_t *)&pipe->handle, on_allocate, on_read) == 0;
        c->quiet = children_now(); /* it could not have been heard before */
    }
}

static void on_written(uv_write_t *request, int status) {
    ChildWrite *w = request->data;
    w->done = true;
    w->status = status;
    if (status != 0 || w->last)
        child_close_pipe(w->pipe);
    if (!w->awaited)
        free(w);
}

ChildWrite *child_begin_write(Child *c, const char *data, size_t size, bool last, int *error) {
    ChildWrite *w = malloc(sizeof *w + size);
    if (!w) {
        *error = UV_ENOMEM;
        return NULL;
    }
    *w = (ChildWrite){.pipe = &c->pipes[IN], .last = last};
    memcpy(w->data, data, size);
    w->request.data = w;
    uv_buf_t buffer = uv_buf_init(w->data, (unsigned)size);
    *error = uv_write(&w->request, (uv_stream_t *)&c->pipes[IN].handle, &buffer, 1, on_written);
    if (*error != 0) {
        free(w);
        return NULL;
    }
    return w;
}

/* {=== The process table ===} */

/* Nothing more is awaited from the watcher but its end. */
static void stop_reports(Child *c) {
    if (c->reporting)
        uv_close((uv_handle_t *)&c->reports, on_handle_closed);
    c->reporting = false;
}

static void close_control(Child *c) {
    stop_reports(c);
    if (c->control >= 0)
        close(c->control);
    c->control = -1;
}

static void command(Child *c, char what) {
    while (c->control >= 0 && send(c->control, &what, 1, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

void child_kill_group(Child *c, int signal) {
    if (c->state == REAPED)
        return;
    if (!c->watcher) {
        kill(-c->pid, signal);
    } else if (signal == SIGTERM) {
        command(c, CHILD_TERMINATE);
    } else if (!c->told) {
        c->told = true;
        command(c, CHILD_END);
    }
}

/* Reads what the watcher has to say. Returns false when it cannot say any more. */
static bool hear(Child *c) {
    ChildReport report;
    ssize_t n;
    do
        n = recv(c->control, &report, sizeof report, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n != sizeof report)
        return false;
    if (report.what == CHILD_STARTED)
        c->pid = report.value;
    if (report.what == CHILD_ENDED) {
        c->ended = c->quiet = children_now();
        c->state = ENDED;
        c->code = report.value;
        c->signal = report.signal;
    }
    return true;
}

/* The watcher was killed before it could tell; the kernel has killed the child. We do the rest. */
static void lose_watcher(Child *c) {
    if (c->pid > 0) /* the watcher is a zombie, so its time can be asked for */
        process_kill_session(c->pid, process_start_time(c->watcher));
    c->ended = c->quiet = children_now();
    c->state = ENDED;
    c->code = 0;
    c->signal = SIGKILL;
}

/* Reaps the watcher when it has ended; nothing of the child is left then. */
static void reap_watcher(Child *c) {
    pid_t rc;
    do
        rc = waitpid(c->watcher, NULL, WNOHANG);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return;
    c->state = REAPED;
    close_control(c);
}

static void notice_watched(Child *c) {
    siginfo_t info;
    int rc;
    if (hear(c) && c->state == RUNNING)
        return;
    stop_reports(c);
    if (c->state == ENDED)
        return;
    do /* the end of the socket comes a moment before that of the watcher */
        rc = waitid(P_PID, (id_t)c->watcher, &info, WEXITED | WNOWAIT);
    while (rc != 0 && errno == EINTR);
    if (rc == 0) {
        lose_watcher(c);
    } else {
        c->code = -1;
        c->state = REAPED;
        close_control(c);
    }
}

static void notice_end(Child *c) {
    siginfo_t info = {.si_pid = 0};
    int rc = waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT);
    if (rc == 0 && info.si_pid == 0)
        return;
    c->ended = c->quiet = children_now();
    if (rc != 0) { /* ECHILD: it was taken from us, and with it the right to its number */
        c->state = REAPED;
        c->code = -1;
        return;
    }
    c->state = ENDED;
    if (info.si_code == CLD_EXITED)
        c->code = info.si_status;
    else
        c->signal = info.si_status;
}

void child_finish(Child *c) {
    pid_t rc;
    if (!c->detached || c->stopping)
        child_kill_group(c, SIGKILL);
    if (c->watcher)
        return;
    do
        rc = waitpid(c->pid, NULL, 0);
    while (rc < 0 && errno == EINTR);
    c->state = REAPED;
}

static void close_outputs(Child *c) {
    child_close_pipe(&c->pipes[OUT]);
    child_close_pipe(&c->pipes[ERR]);
}

/* Moves a child along in its life as far as it goes now. */
static void settle(Child *c) {
    if (c->state == RUNNING)
        c->watcher ? notice_watched(c) : notice_end(c);
    if (c->state == ENDED && !c->stopping && !c->told &&
        (c->detached || !c->owned || !child_outputs_open(c) || children_now() >= c->ended + LINGER))
        child_finish(c);
    if (c->state == ENDED && c->watcher)
        reap_watcher(c);
    if (c->state != REAPED)
        return;
    child_close_pipe(&c->pipes[IN]);
    /* A process that left the group may hold a stream open for ever: silence ends it. But a
    ** stream that is not being read is not silent. */
    for (int s = OUT; s <= ERR; s++)
        if (c->pipes[s].reading && children_now() >= c->quiet + LINGER)
            child_close_pipe(&c->pipes[s]);
}

/* When settle has something to do for `c` that no descriptor announces. */
static int64_t next_change(const Child *c) {
    if (c->state == ENDED && !c->told)
        return c->ended + LINGER;
    if (c->state == REAPED && (c->pipes[OUT].reading || c->pipes[ERR].reading))
        return c->quiet + LINGER;
    return FOREVER;
}

static void free_child(Child *c) {
    while (c->first)
        child_drop(c, c->first);
    free(c);
}

void children_turn(void) {
    if (!children_ours())
        return;
    uv_run(&loop, UV_RUN_NOWAIT);
    for (Child **at = &table; *at;) {
        Child *c = *at;
        settle(c);
        if (c->state == REAPED && !c->owned && c->handles == 0) {
            *at = c->next;
            free_child(c);
        } else {
            at = &c->next;
        }
    }
}

static void on_child_signal(uv_signal_t *handle, int signal) {
    (void)handle, (void)signal; /* it has woken the wait; children_turn() looks at each child */
}

int children_open(void) {
    struct sigaction action;
    if (loop_owner == getpid())
        return 0;
    if (loop_owner != 0) /* a fork that did not exec: the loop and the children are its parent's */
        return UV_ENOTSUP;
    int rc = uv_loop_init(&loop);
    if (rc != 0)
        return rc;
    if ((rc = uv_signal_init(&loop, &child_signal)) != 0 ||
        (rc = uv_signal_start(&child_signal, on_child_signal, SIGCHLD)) != 0)
        goto failed;
    /* A child that closes its stdin must not kill us. (libuv gives children the default back.) */
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
    loop_owner = getpid();
    return 0;
failed:
    uv_loop_close(&loop);
    return rc;
}

Child *children_add(bool detached) {
    Child *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->last = &c->first;
    c->limit = READ_AHEAD;
    c->detached = detached;
    c->owned = true;
    c->state = REAPED;
    c->control = -1;
    c->next = table;
    table = c;
    return c;
}

int child_spawn(Child *c, const uv_process_options_t *options) {
    int rc = uv_spawn(&loop, &c->process, options);
    c->process.data = c;
    c->handles++;
    uv_close((uv_handle_t *)&c->process, on_handle_closed);
    if (rc == 0) {
        c->pid = c->process.pid;
        c->state = RUNNING;
    }
    return rc;
}

static void on_report(uv_poll_t *handle, int status, int events) {
    (void)handle, (void)status, (void)events; /* as on_child_signal */
}

/* Watches the socket from now on. */
static int listen_to_watcher(Child *c) {
    int rc = uv_poll_init(&loop, &c->reports, c->control);
    if (rc != 0)
        return -rc;
    c->reports.data = c;
    c->reporting = true;
    c->handles++;
    return -uv_poll_start(&c->reports, UV_READABLE | UV_DISCONNECT, on_report);
}

/* Waits for the watcher's first word: 0 and c->pid, or an errno value. */
static int await_start(Child *c, int64_t deadline) {
    struct pollfd fd = {.fd = c->control, .events = POLLIN};
    for (;;) {
        ChildReport report;
        int64_t left = deadline - children_now();
        int rc = left > 0 ? poll(&fd, 1, left > SECOND / 10 ? 100 : (int)(left / 1000000) + 1) : 0;
        if (system_interrupted())
            return EINTR;
        if (rc == 0 && left <= 0)
            return ETIMEDOUT;
        if (rc < 0 && errno != EINTR)
            return errno;
        if (rc <= 0)
            continue;
        ssize_t n = recv(c->control, &report, sizeof report, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n != sizeof report) /* somebody has killed it */
            return n < 0 ? errno : ESRCH;
        c->pid = report.what == CHILD_STARTED ? report.value : 0;
        return report.what == CHILD_STARTED ? 0 : report.value;
    }
}

int child_watch(Child *c, ChildStart *start, int64_t deadline) {
    int ends[2], error = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return errno;
    c->control = ends[0];
    start->control = ends[1];
    c->watcher = child_fork(start);
    if (c->watcher < 0)
        error = errno;
    close(ends[1]);
    if (error == 0)
        error = await_start(c, deadline);
    if (error == 0 || error == EINTR || error == ETIMEDOUT) {
        int rc = listen_to_watcher(c);
        c->state = RUNNING;
        return error ? error : rc;
    }
    close_control(c);
    while (c->watcher > 0 && waitpid(c->watcher, NULL, 0) < 0 && errno == EINTR)
        ;
    return error;
}

/* {=== Waiting ===} */

/* The caught signals are blocked between the look at the flag and the wait: none is missed. */
ChildWait child_wait_ready(const Child *c, int64_t deadline, bool interruptible) {
    sigset_t caught, before;
    ChildWait result = READY;
    int64_t until = next_change(c);
    if (until > deadline)
        until = deadline;
    sigemptyset(&caught);
    sigaddset(&caught, SIGINT);
    sigaddset(&caught, SIGTERM);
    sigaddset(&caught, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &caught, &before);
    if (interruptible && system_interrupted()) {
        result = INTERRUPTED;
    } else if (uv_backend_timeout(&loop) != 0) { /* 0: a handle is about to be closed */
        struct pollfd fd = {.fd = uv_backend_fd(&loop), .events = POLLIN};
        int64_t left = until - children_now();
        struct timespec t = {left / SECOND, left % SECOND};
        if (left > 0)
            ppoll(&fd, 1, until == FOREVER ? NULL : &t, &before);
        else if (until == deadline)
            result = EXPIRED;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

ChildWait child_await_state(Child *c, int state, int64_t deadline, bool interruptible) {
    for (;;) {
        child_resume_reading(c, BACKLOG);
        children_turn();
        if ((int)c->state >= state)
            return READY;
        ChildWait w = child_wait_ready(c, deadline, interruptible);
        if (w != READY)
            return w;
    }
}

void child_let_go(Child *c) {
    if (!children_ours())
        return;
    child_close_pipe(&c->pipes[IN]);
    close_outputs(c);
    if (!c->detached && c->state != REAPED) {
        child_kill_group(c, SIGKILL);
        c->stopping = false;
        child_await_state(c, REAPED, children_now() + LINGER, false);
    }
    c->owned = false;
    children_turn();
}
