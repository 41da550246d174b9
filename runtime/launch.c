/*
** launch.c: the start of one child. See launch.h.
*/
#define _GNU_SOURCE
#include "launch.h"

#include "durable.h"
#include "filter.h"
#include "landlock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START_LIMIT (60 * SECOND) /* how long the kernel may take to load the program */

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

/* Starts the process through libuv; `fds` are the child's ends. It has a session of its own. */
static int spawn_detached(Child *c, const Launch *launch, const int fds[STREAMS]) {
    uv_stdio_container_t stdio[STREAMS];
    uv_process_options_t options = {.file = launch->argv[0],
                                    .args = launch->argv,
                                    .env = launch->environment,
                                    .cwd = launch->directory,
                                    .stdio = stdio,
                                    .stdio_count = STREAMS,
                                    .flags = UV_PROCESS_DETACHED};
    for (int s = 0; s < STREAMS; s++) {
        stdio[s].flags = fds[s] < 0 ? UV_IGNORE : UV_INHERIT_FD;
        stdio[s].data.fd = fds[s];
    }
    return -child_spawn(c, &options);
}

bool launch_confines_writing(void) {
    return landlock_version() >= 2;
}

bool launch_confines_network(void) {
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

/* Makes what confines the child, as far as this kernel can. 0, or an errno value. */
static int make_confinement(ChildStart *start, const Launch *launch, filter *network) {
    start->confined = true;
    if (launch_confines_writing())
        start->ruleset = landlock_writing(launch->write, launch->network);
    if (launch_confines_writing() && start->ruleset < 0)
        return errno;
    if (launch->network || !launch_confines_network())
        return 0;
    int error = filter_without_network(network);
    start->network = error == 0 ? network : NULL;
    return error;
}

static int spawn_watched(Child *c, const Launch *launch, const int fds[STREAMS]) {
    ChildStart start = {.program = launch->program,
                        .argv = launch->argv,
                        .environment = launch->environment,
                        .directory = launch->directory,
                        .record = launch->record,
                        .ruleset = -1,
                        .streams = {fds[IN], fds[OUT], fds[ERR]}};
    filter network = {0};
    int error = launch->confined ? make_confinement(&start, launch, &network) : 0;
    if (error == 0)
        error = child_watch(c, &start, children_now() + START_LIMIT);
    filter_free(&network);
    if (start.ruleset >= 0)
        close(start.ruleset);
    return error;
}

int launch_start(Child *c, const Launch *launch, const char **step, const char **path) {
    int fds[STREAMS] = {-1, -1, -1};
    int error = 0;
    for (int s = IN; s <= ERR && error == 0; s++) {
        error = -open_stream(c, s, &launch->streams[s], &fds[s]);
        if (error != 0 && launch->streams[s].to == TO_FILE) {
            *step = "open for appending";
            *path = launch->streams[s].path;
        }
    }
    if (error == 0 && launch->streams[ERR].to == TO_STDOUT)
        fds[ERR] = fds[OUT];
    if (error == 0) {
        seal_descriptors();
        error = (launch->detached ? spawn_detached : spawn_watched)(c, launch, fds);
    }
    for (int s = IN; s <= ERR; s++)
        if (fds[s] >= 0 && (s != ERR || fds[s] != fds[OUT]))
            close(fds[s]);
    return error;
}
