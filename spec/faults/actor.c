/*
** actor.c: does to the disk what it is told, in the ways that are hard to trace; for the tracer's
** spec.
**
** usage: actor ACT...   where each ACT is one argument, a verb and its operands:
**
**   put NAME [TEXT]      creates or truncates a file, one write, closes it
**   writev NAME A B      the same with one writev of two parts; tells if the call left its
**                        arguments alone
**   copy A B             copy_file_range of the whole of A into a new B
**   nameless NAME TEXT   a file without a name (O_TMPFILE), which gets one by linkat
**   how NAME             an openat2 that reads;  make NAME: one that creates
**   rename A B, unlink NAME, mkdir NAME, symlink TARGET NAME, chmod NAME, truncate NAME, sync NAME
**   setxattr NAME, lock NAME, cd NAME
**   say TEXT             writes to standard output;  pipe: into a pipe
**   threads N NAME       N threads at once, each puts a file NAME.I
**   thread-exec          a second thread executes the program anew, with the acts that follow
**   fork, vfork, spawn   a child does the acts that follow; it is waited for; that of vfork first
**                        tries to remove a folder "none"
**   orphan               a child does the acts that follow; it is not waited for
**   death                asks to be killed when the parent dies
**   handle NAME          SIGUSR1 shall put NAME;  raise: sends it
**   stop                 stops the whole process; a child lets it go on 50 ms later
**   spin                 a second thread computes for ever
**   sleep MS
**   ring                 io_uring_setup;  map NAME: a writable shared mapping
**
** Prints a line for each act, "VERB 0" or "VERB ERRNO"; the result is 0 in any case.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *self;
static char **rest; /* the acts that follow */
static const char *to_put;

static int closed(int fd, bool good) {
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return good ? 0 : -1;
}

static int put(const char *name, const char *text) {
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t size = text ? strlen(text) : 0, done = 0;
    while (fd >= 0 && done < size) {
        ssize_t n = write(fd, text + done, size - done);
        if (n < 0)
            return closed(fd, false);
        done += (size_t)n;
    }
    return closed(fd, fd >= 0);
}

static int put_vector(const char *name, char *one, char *two) {
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct iovec parts[2] = {{one, strlen(one)}, {two, strlen(two)}};
    ssize_t n = fd < 0 ? -1 : writev(fd, parts, 2);
    if (n >= 0 && (parts[0].iov_len != strlen(one) || parts[1].iov_len != strlen(two)))
        fputs("arguments changed\n", stdout);
    return closed(fd, n >= 0);
}

static int copy(const char *from, const char *to) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ssize_t n;
    do
        n = copy_file_range(in, NULL, out, NULL, 1 << 20, 0);
    while (n > 0);
    closed(in, true);
    return closed(out, n == 0);
}

static int nameless(const char *name, const char *text) {
    char magic[64];
    int fd = open(".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    snprintf(magic, sizeof magic, "/proc/self/fd/%d", fd);
    bool good = fd >= 0 && write(fd, text, strlen(text)) >= 0 &&
                linkat(AT_FDCWD, magic, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
    return closed(fd, good);
}

static int open_how(const char *name, uint64_t flags) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = (flags & O_CREAT) ? 0600 : 0};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof how);
    return closed(fd, fd >= 0);
}

static int on_file(const char *name, int (*act)(int fd)) {
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    return closed(fd, fd >= 0 && act(fd) == 0);
}

static int lock(int fd) {
    return flock(fd, LOCK_EX | LOCK_NB);
}

static int map(const char *name) {
    int fd = open(name, O_RDWR | O_CLOEXEC);
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return closed(fd, at != MAP_FAILED);
}

static int into_pipe(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    bool good = write(ends[1], "abc", 3) == 3;
    close(ends[0]);
    return closed(ends[1], good);
}

static void *put_one(void *name) {
    put(name, "x");
    return NULL;
}

static int threads(int count, const char *name) {
    pthread_t ids[16];
    char names[16][256];
    for (int i = 0; i < count && i < 16; i++) {
        snprintf(names[i], sizeof names[i], "%s.%d", name, i);
        if (pthread_create(&ids[i], NULL, put_one, names[i]) != 0)
            return -1;
    }
    for (int i = 0; i < count && i < 16; i++)
        pthread_join(ids[i], NULL);
    return 0;
}

static void *execute(void *argv) {
    execv(self, argv);
    return NULL;
}

static int thread_exec(void) {
    pthread_t id;
    rest[-1] = (char *)self;
    fflush(stdout);
    if (pthread_create(&id, NULL, execute, rest - 1) == 0)
        pthread_join(id, NULL);
    return -1;
}

static int run(char **acts);

/* A child that does what follows; nothing is left to be done here then. */
static int child(const char *how, bool wait_for_it) {
    char **argv = rest - 1;
    pid_t pid = -1;
    int status = 0;
    argv[0] = (char *)self;
    fflush(stdout);
    if (strcmp(how, "spawn") == 0) {
        if (posix_spawn(&pid, self, NULL, NULL, argv, environ) != 0)
            return -1;
    } else if (strcmp(how, "vfork") == 0) {
        pid = vfork();
        if (pid == 0) {
            rmdir("none");
            execv(self, argv);
            _exit(127);
        }
    } else if ((pid = fork()) == 0) {
        exit(run(rest));
    }
    rest = NULL;
    if (pid < 0 || !wait_for_it)
        return pid < 0 ? -1 : 0;
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static void on_signal(int signal) {
    (void)signal;
    put(to_put, "handled");
}

static int handle(const char *name) {
    struct sigaction action = {.sa_handler = on_signal};
    to_put = name;
    return sigaction(SIGUSR1, &action, NULL);
}

static int64_t milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int stop(void) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        usleep(50000);
        kill(parent, SIGCONT);
        _exit(0);
    }
    int64_t began = milliseconds();
    kill(parent, SIGSTOP);
    bool stopped = milliseconds() - began > 30;
    return waitpid(pid, NULL, 0) == pid && stopped ? 0 : -1;
}

static void *spin(void *nothing) {
    for (volatile long at = 0; at >= 0; at = 1 - at)
        ;
    return nothing;
}

static int start_spinning(void) {
    pthread_t id;
    return pthread_create(&id, NULL, spin, NULL) == 0 ? 0 : -1;
}

/* The acts of one kind: on names. 1 when the verb is another one. */
static int act_on_name(const char *verb, char *a, char *b, char *c) {
    if (strcmp(verb, "put") == 0)
        return put(a, b);
    if (strcmp(verb, "writev") == 0)
        return put_vector(a, b, c);
    if (strcmp(verb, "copy") == 0)
        return copy(a, b);
    if (strcmp(verb, "nameless") == 0)
        return nameless(a, b);
    if (strcmp(verb, "how") == 0)
        return open_how(a, O_RDONLY);
    if (strcmp(verb, "make") == 0)
        return open_how(a, O_WRONLY | O_CREAT);
    if (strcmp(verb, "rename") == 0)
        return rename(a, b);
    if (strcmp(verb, "unlink") == 0)
        return unlink(a);
    if (strcmp(verb, "mkdir") == 0)
        return mkdir(a, 0755);
    if (strcmp(verb, "symlink") == 0)
        return symlink(a, b);
    if (strcmp(verb, "chmod") == 0)
        return chmod(a, 0600);
    if (strcmp(verb, "truncate") == 0)
        return truncate(a, 1);
    if (strcmp(verb, "sync") == 0)
        return on_file(a, fsync);
    if (strcmp(verb, "setxattr") == 0)
        return setxattr(a, "user.actor", "1", 1, 0);
    if (strcmp(verb, "lock") == 0)
        return on_file(a, lock);
    if (strcmp(verb, "cd") == 0)
        return chdir(a);
    if (strcmp(verb, "map") == 0)
        return map(a);
    return 1;
}

/* The others. */
static int act_otherwise(const char *verb, char *a, char *b) {
    if (strcmp(verb, "say") == 0)
        return printf("%s\n", a) > 0 ? 0 : -1;
    if (strcmp(verb, "pipe") == 0)
        return into_pipe();
    if (strcmp(verb, "threads") == 0)
        return threads(atoi(a), b);
    if (strcmp(verb, "thread-exec") == 0)
        return thread_exec();
    if (strcmp(verb, "death") == 0)
        return prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(verb, "handle") == 0)
        return handle(strdup(a));
    if (strcmp(verb, "raise") == 0)
        return raise(SIGUSR1);
    if (strcmp(verb, "stop") == 0)
        return stop();
    if (strcmp(verb, "spin") == 0)
        return start_spinning();
    if (strcmp(verb, "sleep") == 0)
        return usleep((useconds_t)atoi(a) * 1000);
    if (strcmp(verb, "ring") == 0)
        return (int)syscall(SYS_io_uring_setup, 1, NULL);
    if (strcmp(verb, "orphan") == 0)
        return child(verb, false);
    return child(verb, true);
}

static int run(char **acts) {
    for (rest = acts; rest && *rest;) {
        char *words = strdup(*rest++), *state = NULL;
        char *verb = strtok_r(words, " ", &state);
        char *a = strtok_r(NULL, " ", &state), *b = strtok_r(NULL, " ", &state);
        char *c = strtok_r(NULL, " ", &state);
        int rc = act_on_name(verb, a, b, c);
        if (rc == 1)
            rc = act_otherwise(verb, a, b);
        printf("%s %s\n", verb, rc < 0 ? strerrorname_np(errno) : "0");
        fflush(stdout);
        free(words);
    }
    return 0;
}

int main(int argc, char **argv) {
    self = "/proc/self/exe";
    return run(argv + (argc > 0));
}
