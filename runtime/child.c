/*
** child.c: the few steps between the start of a child and its program. See child.h.
**
** They run in a program of their own, not between fork and exec: there libuv decides what is
** done, and it knows neither PR_SET_PDEATHSIG nor a check of the parent.
*/
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { EXIT_MISUSE = 2, EXIT_NOT_PERMITTED = 126, EXIT_NOT_FOUND = 127 };

typedef struct Request {
    pid_t parent;
    int status;     /* descriptor for the errno value, or -1 */
    char **program; /* NULL-terminated argv of the program */
} Request;

/* A decimal number of at least `lowest` and nothing behind it, or -1. */
static int number(const char *text, int lowest) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < lowest || value > 0x7fffffff)
        return -1;
    return (int)value;
}

static bool parse(int argc, char **argv, Request *request) {
    int at = 3;
    request->status = -1;
    if (argc < 5 || (request->parent = number(argv[2], 1)) < 0)
        return false;
    if (strcmp(argv[at], "--status") == 0) {
        if ((request->status = number(argv[at + 1], 3)) < 0)
            return false;
        at += 2;
    }
    if (at + 1 >= argc || strcmp(argv[at], "--") != 0)
        return false;
    request->program = argv + at + 1;
    return true;
}

/* Says why the program does not run, and returns the exit status that belongs to it. */
static int refuse(const Request *request, const char *step, int error) {
    if (request->status < 0) {
        fprintf(stderr, "praxlua --child: %s %s: %s\n", step, request->program[0], strerror(error));
    } else {
        ssize_t n;
        do
            n = write(request->status, &error, sizeof error);
        while (n < 0 && errno == EINTR);
    }
    bool not_permitted = error == EACCES || error == EPERM || error == ENOEXEC;
    return not_permitted ? EXIT_NOT_PERMITTED : EXIT_NOT_FOUND;
}

static void restore_signals(void) {
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL); /* fails for those that cannot be caught: nothing to restore there */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int child_main(int argc, char **argv) {
    Request request;
    if (!parse(argc, argv, &request)) {
        fputs("usage: praxlua --child PARENT_PID [--status FD] -- PROGRAM [ARG]...\n", stderr);
        return EXIT_MISUSE;
    }
    if (request.status >= 0 && fcntl(request.status, F_SETFD, FD_CLOEXEC) != 0)
        return EXIT_MISUSE;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return refuse(&request, "tie to the parent", errno);
    if (getppid() != request.parent) /* it died before the kernel was asked */
        return refuse(&request, "parent is gone, not starting", ESRCH);
    if (setsid() < 0 && getpgid(0) != getpid()) /* a leader of a group is refused, and needs none */
        return refuse(&request, "make a process group for", errno);
    restore_signals();
    execv(request.program[0], request.program);
    return refuse(&request, "execute", errno);
}
