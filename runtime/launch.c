/*
** launch.c: the start of one child. See launch.h.
*/
#define _GNU_SOURCE
#include "launch.h"

#include "durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START_LIMIT (60 * SECOND) /* how long the host may take to become the program */

void launch_through_host(Launch *launch, const char *parent) {
    const char *head[LAUNCH_HOST_ARGUMENTS] = {launch->host, "--child", parent,
                                               "--status",   "3",       "--"};
    memcpy(launch->argv, head, sizeof head);
}

int launch_check(const char *directory, const char *program, const char **step, const char **path) {
    struct stat st;
    int error = 0;
    int at = open(directory ? directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *step = "enter the working directory";
    *path = directory ? directory : ".";
    if (at < 0)
        return errno;
    if (faccessat(at, ".", X_OK, AT_EACCESS) != 0) {
        error = errno;
    } else {
        *step = "start";
        *path = program;
        if (fstatat(at, program, &st, 0) != 0)
            error = errno;
        else if (!S_ISREG(st.st_mode))
            error = EACCES;
        else if (faccessat(at, program, X_OK, AT_EACCESS) != 0)
            error = errno;
    }
    close(at);
    return error;
}

/* Marks every descriptor but stdio close-on-exec. Ours are; one that was left open by whoever
** started praxlua must not reach a server that outlives it. */
static void seal_descriptors(void) {
#if defined(SYS_close_range)
    const unsigned close_on_exec = 1u << 2; /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */
    if (syscall(SYS_close_range, 3u, ~0u, close_on_exec) == 0)
        return;
#endif
    DIR *all = opendir("/proc/self/fd");
    for (struct dirent *entry; all && (entry = readdir(all)) != NULL;) {
        int fd = atoi(entry->d_name); /* "." and ".." give 0 */
        if (fd > 2)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (all)
        closedir(all);
}

/* Makes the child's end of one standard stream, and ours. *fd stays -1 for /dev/null. */
static int open_stream(Child *c, int s, const LaunchStream *io, int *fd) {
    uv_file ends[2];
    int ours = s == IN ? 1 : 0;
    int rc;
    if (io->to == TO_FILE) {
        *fd = durable_append(AT_FDCWD, io->path, 0600);
        return *fd < 0 ? -errno : 0;
    }
    if (io->to != TO_PIPE)
        return 0;
    rc = uv_pipe(ends, ours == 0 ? UV_NONBLOCK_PIPE : 0, ours == 1 ? UV_NONBLOCK_PIPE : 0);
    if (rc != 0)
        return rc;
    *fd = ends[1 - ours];
    return child_open_pipe(c, s, ends[ours]);
}

/* Starts the process; `fds` are the child's ends, fds[STREAMS] the status pipe or -1. */
static int spawn(Child *c, const Launch *launch, const int fds[STREAMS + 1]) {
    uv_stdio_container_t stdio[STREAMS + 1];
    uv_process_options_t options = {.file = launch->argv[0],
                                    .args = launch->argv,
                                    .env = launch->environment,
                                    .cwd = launch->directory,
                                    .stdio = stdio,
                                    .stdio_count = fds[STREAMS] < 0 ? STREAMS : STREAMS + 1};
    if (!launch->host) /* a session and a group of its own; the host makes one itself */
        options.flags |= UV_PROCESS_DETACHED;
    for (int s = 0; s < options.stdio_count; s++) {
        int fd = s == ERR && launch->streams[ERR].to == TO_STDOUT ? fds[OUT] : fds[s];
        stdio[s].flags = fd < 0 ? UV_IGNORE : UV_INHERIT_FD;
        stdio[s].data.fd = fd;
    }
    seal_descriptors();
    return child_spawn(c, &options);
}

/* Waits until the host has become the program or tells why not: 0 or an errno value. */
static int await_program(int status) {
    int64_t deadline = children_now() + START_LIMIT;
    struct pollfd fd = {.fd = status, .events = POLLIN};
    for (;;) {
        int error = 0;
        int64_t left = deadline - children_now();
        int rc = left > 0 ? poll(&fd, 1, (int)(left / 1000000) + 1) : 0;
        if (rc == 0)
            return ETIMEDOUT;
        ssize_t n = rc > 0 ? read(status, &error, sizeof error) : -1;
        if (n >= 0)
            return n == sizeof error ? error : 0;
        if (errno != EINTR)
            return errno;
    }
}

int launch_start(Child *c, const Launch *launch, const char **step, const char **path) {
    int fds[STREAMS + 1] = {-1, -1, -1, -1};
    uv_file status[2] = {-1, -1};
    int rc = 0;
    for (int s = IN; s <= ERR && rc == 0; s++) {
        rc = open_stream(c, s, &launch->streams[s], &fds[s]);
        if (rc != 0 && launch->streams[s].to == TO_FILE) {
            *step = "open for appending";
            *path = launch->streams[s].path;
        }
    }
    if (rc == 0 && launch->host) {
        rc = uv_pipe(status, 0, 0);
        fds[STREAMS] = status[1];
    }
    if (rc == 0 && (rc = spawn(c, launch, fds)) != 0 && launch->host)
        *path = launch->host;
    for (int s = 0; s <= STREAMS; s++)
        if (fds[s] >= 0)
            close(fds[s]);
    if (c->state == RUNNING && launch->host && (rc = -await_program(status[0])) != 0) {
        kill(c->pid, SIGKILL); /* it may not have a group yet */
        child_finish(c);
    }
    if (status[0] >= 0)
        close(status[0]);
    return -rc;
}
