/*
** filter.h: which system calls a process may make from here on (seccomp), for two kinds of process.
**
** A filter is kept by all that a process starts and cannot be taken back. It is the kernel's; where
** the kernel has none, the functions say so and nothing changes.
*/
#ifndef PRAXLUA_FILTER_H
#define PRAXLUA_FILTER_H

#include <stddef.h>

/* Leaves this process, a worker, the calls it needs to compute and to talk over the socket
** `channel`: they are listed in filter.c. Any other ends it with SIGSYS. Whether the filter works
** is tried: 0, or an errno value. Needs no-new-privileges. */
int filter_worker(int channel);

/* A filter for a program that may not reach the network: it has no sockets but those of the
** machine itself (AF_UNIX, and AF_NETLINK to read its configuration), and no io_uring, which could
** make others. Other calls fail with EPERM. */
typedef struct filter {
    void *code;   /* instructions of the kernel's machine. Owned; NULL: there is none */
    size_t count; /* of them */
} filter;

/* Makes it: 0, or an errno value. */
int filter_without_network(filter *f);
void filter_free(filter *f);

/* Puts it over this process; allocates nothing, so it may be called between fork and exec. 0, or -1
** with errno. Needs no-new-privileges. */
int filter_apply(const filter *f);

#endif
