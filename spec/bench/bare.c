/*
** bare.c: bare COUNT PROGRAM [ARGUMENT]...: starts a program COUNT times, as bare as can be (vfork
** and exec, stdio on /dev/null), and prints how long each took to its end, in microseconds.
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    int count = argc > 2 ? atoi(argv[1]) : 0, null = open("/dev/null", O_RDWR);
    if (count <= 0 || null < 0)
        return 2;
    for (int i = 0; i < count; i++) {
        int status;
        double began = now();
        pid_t pid = vfork();
        if (pid == 0) {
            for (int fd = 0; fd < 3; fd++)
                dup2(null, fd);
            execv(argv[2], argv + 2);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return 1;
        printf("%.1f\n", now() - began);
    }
    return 0;
}
