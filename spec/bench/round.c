/*
** round.c: round COUNT: passes a message to a process and back over a socket pair, as bare as can
** be (20 bytes, both ends sleep until they have them), and prints how long each round took, in
** microseconds. The first round, in which the other end starts, is not counted.
*/
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE 20

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void answer(int fd) {
    char message[SIZE];
    while (recv(fd, message, SIZE, MSG_WAITALL) == SIZE)
        if (send(fd, message, SIZE, MSG_NOSIGNAL) != SIZE)
            break;
    _exit(0);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 0, ends[2];
    char message[SIZE] = {0};
    if (count <= 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return 2;
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    if (pid == 0) {
        close(ends[0]);
        answer(ends[1]);
    }
    close(ends[1]);
    for (int i = 0; i <= count; i++) {
        double began = now();
        if (send(ends[0], message, SIZE, MSG_NOSIGNAL) != SIZE ||
            recv(ends[0], message, SIZE, MSG_WAITALL) != SIZE)
            return 1;
        if (i > 0)
            printf("%.1f\n", now() - began);
    }
    close(ends[0]);
    return waitpid(pid, NULL, 0) == pid ? 0 : 1;
}
