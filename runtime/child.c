/*
** child.c: the watcher of a tool, and the steps until the tool's program runs. See child.h.
**
** Everything here but child_fork runs in a process that was forked and has not called exec, while
** its parent may have threads: so nothing here allocates, locks, or calls Lua.
*/
#define _GNU_SOURCE
#include "child.h"

#include "coverage.h"
#include "durable.h"
#include "landlock.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    NOT_STARTED = 127,     /* exit status of a tool whose program could not be executed */
    PID_LIMIT = 4194304,   /* no process has this number or a greater one (PID_MAX_LIMIT) */
    KILL_AGAIN_MS = 20,    /* pause until what is still there is killed once more */
    NOT_PERMITTED_MS = 500 /* how long processes are tried that we may not signal */
};

typedef struct Watch {
    const ChildStart *start;
    pid_t tool;            /* 0 once it was reaped */
    char record[PATH_MAX]; /* path of the record, "" when there is none */
    bool ending;           /* everything is to be killed */
    int refused_ms;        /* for how long killing was not permitted */
} Watch;

/* Forks without the handlers that libraries have registered for it: libuv's would close descriptors
** by numbers that are somebody else's by then. */
static pid_t plain_fork(void) {
#if defined(__GLIBC__) && !__GLIBC_PREREQ(2, 34)
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#else
    return _Fork();
#endif
}

/* {=== The tool, until its program runs ===} */

static void restore_signals(void) {
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL); /* fails for those that cannot be caught: nothing to restore there */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The path of the record of process `tool`; 0, or -1 when it is too long. */
static int record_path(char *path, size_t size, const char *folder, pid_t tool) {
    int length = snprintf(path, size, "%s/" CHILD_RECORD "%d", folder, (int)tool);
    return length > 0 && (size_t)length < size ? 0 : -1;
}

/* Makes the record of this process, the tool. Without one it runs all the same. */
static void make_record(const char *folder, pid_t watcher) {
    char path[PATH_MAX], text[160], boot[64];
    long long own = process_start_time(getpid()), parents = process_start_time(watcher);
    if (own < 0 || parents < 0 || process_boot_id(boot, sizeof boot) != 0 ||
        record_path(path, sizeof path, folder, getpid()) != 0)
        return;
    snprintf(text, sizeof text, "%lld %d %lld %s", own, (int)watcher, parents, boot);
    if (durable_symlink(text, AT_FDCWD, path) == 0 || errno != EEXIST)
        return;
    /* Of an earlier process with our number, which is therefore dead. */
    if (durable_unlink(AT_FDCWD, path) == 0)
        durable_symlink(text, AT_FDCWD, path);
}

/* What the tool and all it starts may not do from here on; 0, or -1 with errno. */
static int confine(const ChildStart *start) {
    if (start->confined && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    if (start->ruleset >= 0 && landlock_apply(start->ruleset) != 0)
        return -1;
    return start->network ? filter_apply(start->network) : 0;
}

/* Becomes the program, or returns with errno. */
static void become(const ChildStart *start, pid_t watcher) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return;
    if (getppid() != watcher) { /* it died before the kernel was asked */
        errno = ESRCH;
        return;
    }
    if (setsid() < 0)
        return;
    restore_signals();
    for (int s = 0; s < 3; s++) /* those that are missing are /dev/null already */
        if (start->streams[s] >= 0 && dup2(start->streams[s], s) < 0)
            return;
    if (start->directory && chdir(start->directory) != 0)
        return;
    if (start->record)
        make_record(start->record, watcher);
    if (confine(start) != 0)
        return;
    execve(start->program, start->argv, start->environment);
}

/* The tool: becomes its program, or tells why not. */
static _Noreturn void be_tool(const ChildStart *start, pid_t watcher, int status) {
    become(start, watcher);
    int error = errno;
    while (write(status, &error, sizeof error) < 0 && errno == EINTR)
        ;
    coverage_flush();
    _exit(NOT_STARTED);
}

/* Starts the tool and waits until its program runs: 0 and w->tool, or an errno value. The reader
** sees the end of the pipe and no data when the program was executed. By vfork: until then the tool
** has no memory of its own, whose copy would cost more than all the rest. */
static int start_tool(Watch *w) {
    int status[2], error = 0;
    pid_t watcher = getpid();
    if (pipe2(status, O_CLOEXEC) != 0)
        return errno;
    pid_t tool = vfork();
    if (tool == 0)
        be_tool(w->start, watcher, status[1]);
    if (tool < 0)
        error = errno;
    w->tool = tool;
    close(status[1]);
    ssize_t n = 0;
    while (w->tool > 0 && (n = read(status[0], &error, sizeof error)) < 0 && errno == EINTR)
        ;
    close(status[0]);
    if (w->tool > 0 && w->start->record &&
        record_path(w->record, sizeof w->record, w->start->record, w->tool) != 0)
        w->record[0] = '\0';
    return error;
}

/* {=== The watcher ===} */

static void tell(const Watch *w, int what, int value, int signal) {
    ChildReport report = {what, value, signal};
    while (send(w->start->control, &report, sizeof report, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

/* Takes note of all that have ended. Returns whether there is any child left. */
static bool reap(Watch *w) {
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return pid == 0;
        if (pid != w->tool)
            continue;
        w->tool = 0;
        if (WIFEXITED(status))
            tell(w, CHILD_ENDED, WEXITSTATUS(status), 0);
        else
            tell(w, CHILD_ENDED, 0, WTERMSIG(status));
    }
}

/* Kills a child of ours with its group: 1, or 0 when we may not, or -1 for what is no child of
** ours: the number may come from a /proc that counts otherwise than we do. While a child was not
** reaped, its number and that of its group are its own; and nothing but descendants is in that
** group, because groups do not reach beyond a session. */
static int kill_child(pid_t pid) {
    siginfo_t info;
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return -1;
    pid_t group = getpgid(pid);
    bool permitted = true;
    if (group > 1 && group != getpgrp())
        permitted = kill(-group, SIGKILL) == 0 || errno != EPERM;
    return (kill(pid, SIGKILL) == 0 || errno != EPERM) && permitted;
}

/* Kills our children: the tool, and what its dead descendants left. The children of those are ours
** in the next round. Returns whether there was one that we may kill. */
static bool kill_children(void) {
    char text[4096];
    int best = -1;
    if (process_read(AT_FDCWD, "/proc/thread-self/children", text, sizeof text) > 0) {
        for (char *at = text, *end; *at; at = end) {
            long pid = strtol(at, &end, 10);
            if (end == at || !*end) /* what was cut off comes in the next round */
                break;
            int killed = kill_child((pid_t)pid);
            best = killed > best ? killed : best;
        }
    }
    /* A kernel that does not list them: to ask for each number is slow, but safe. */
    for (pid_t pid = best < 0 ? 2 : PID_LIMIT; pid < PID_LIMIT; pid++) {
        int killed = kill_child(pid);
        best = killed > best ? killed : best;
    }
    return best == 1;
}

/* Kills the tool and what descends from it. */
static void kill_all(Watch *w) {
    if (w->tool) {
        kill(-w->tool, SIGKILL);
        kill(w->tool, SIGKILL);
    }
    w->refused_ms = kill_children() ? 0 : w->refused_ms + KILL_AGAIN_MS;
}

/* Does what we are told to; the end of the socket says that there is nobody left to tell. */
static void obey(Watch *w) {
    char command;
    ssize_t n = recv(w->start->control, &command, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n == 1 && command == CHILD_TERMINATE && w->tool)
        kill(-w->tool, SIGTERM);
    if (n <= 0 || command == CHILD_END)
        w->ending = true;
}

/* Looks after the tool until nothing of it is left. SIGCHLD is blocked but for the time of the
** wait, so that none is missed. */
static void watch(Watch *w) {
    sigset_t none;
    struct pollfd control = {.fd = w->start->control, .events = POLLIN};
    struct timespec soon = {.tv_nsec = KILL_AGAIN_MS * 1000000L};
    sigemptyset(&none);
    while (reap(w)) {
        if (w->ending)
            kill_all(w);
        if (w->refused_ms > NOT_PERMITTED_MS) /* they run as another user; not ours to end */
            break;
        if (w->ending)
            ppoll(NULL, 0, &soon, &none);
        else if (ppoll(&control, 1, NULL, &none) > 0)
            obey(w);
    }
}

static void on_child(int signal) {
    (void)signal; /* it ends the wait */
}

/* Only SIGCHLD means something to the watcher; whoever wants to end the tool tells us. */
static void ignore_signals(void) {
    struct sigaction action = {.sa_handler = on_child};
    sigset_t only;
    for (int s = 1; s < NSIG; s++)
        if (s != SIGSEGV && s != SIGBUS && s != SIGFPE && s != SIGILL && s != SIGABRT)
            signal(s, SIG_IGN);
    sigemptyset(&action.sa_mask);
    sigaction(SIGCHLD, &action, NULL);
    sigemptyset(&only);
    sigaddset(&only, SIGCHLD);
    sigprocmask(SIG_SETMASK, &only, NULL);
}

/* Closes the descriptors `from` to `to`. */
static void close_all(int from, int to) {
    if (from > to)
        return;
#if defined(SYS_close_range)
    if (syscall(SYS_close_range, (unsigned)from, (unsigned)to, 0u) == 0)
        return;
#endif
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = from; fd <= to && fd < limit; fd++)
        close(fd);
}

/* Keeps what the tool needs and the socket; everything else of ours goes: a lock first of all,
** which must be free as soon as we are gone. Our stdio becomes /dev/null. */
static int drop_descriptors(const ChildStart *start) {
    const int kept[] = {start->control, start->ruleset, start->streams[0], start->streams[1],
                        start->streams[2]};
    int next = 3;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        if (null < 0 || (null != fd && dup2(null, fd) < 0))
            return -1;
    for (;;) {
        int least = -1;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            if (kept[i] >= next && (least < 0 || kept[i] < least))
                least = kept[i];
        close_all(next, least < 0 ? INT_MAX : least - 1);
        if (least < 0)
            return 0;
        next = least + 1;
    }
}

/* The whole life of a watcher. */
static _Noreturn void be_watcher(const ChildStart *start) {
    Watch w = {.start = start};
    int error = 0;
    ignore_signals();
    prctl(PR_SET_NAME, "praxlua-watch");
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* without it only the tool's group is found */
    if (drop_descriptors(start) != 0 || setsid() < 0)
        error = errno;
    if (error == 0)
        error = start_tool(&w);
    for (int s = 0; s < 3; s++)
        if (start->streams[s] >= 0)
            close(start->streams[s]); /* a second time for stderr's own: harmless */
    if (error == 0) {
        tell(&w, CHILD_STARTED, w.tool, 0);
        watch(&w);
    } else if (w.tool > 0) {
        waitpid(w.tool, NULL, 0);
        w.tool = 0;
    }
    if (w.record[0] && !w.tool)
        durable_unlink(AT_FDCWD, w.record);
    if (error != 0)
        tell(&w, CHILD_FAILED, error, 0);
    coverage_flush();
    _exit(0);
}

pid_t child_fork(const ChildStart *start) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* our handlers must not run in the copy */
    pid_t pid = plain_fork();
    if (pid == 0)
        be_watcher(start);
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return pid;
}
