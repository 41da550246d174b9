/*
** filter.c: filters of system calls, written with libseccomp; see filter.h.
*/
#define _GNU_SOURCE
#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What computing takes: memory without execution, the clock, the end of a handler and of the
** process. glibc's abort() blocks signals, asks for its own number and sends itself SIGABRT, after
** a word to standard error, which is /dev/null. The documented list is in docs/threat-model.md. */
static const int plain[] = {
    SCMP_SYS(brk),        SCMP_SYS(munmap),          SCMP_SYS(mremap),
    SCMP_SYS(madvise),    SCMP_SYS(clock_gettime),   SCMP_SYS(poll),
    SCMP_SYS(ppoll),      SCMP_SYS(rt_sigreturn),    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(getpid),     SCMP_SYS(gettid),          SCMP_SYS(exit),
    SCMP_SYS(exit_group), SCMP_SYS(restart_syscall), SCMP_SYS(sched_yield),
};

/* Allows `call` where its argument `at`, under `mask`, is `value`. */
static int allow_if(scmp_filter_ctx ctx, int call, unsigned at, scmp_datum_t mask,
                    scmp_datum_t value) {
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
                            SCMP_CMP(at, SCMP_CMP_MASKED_EQ, mask, value));
}

static int add_worker_rules(scmp_filter_ctx ctx, int channel) {
    const scmp_datum_t all = ~(scmp_datum_t)0, fd = (scmp_datum_t)channel;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof plain / sizeof *plain; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, plain[i], 0);
    if (rc == 0)
        rc = allow_if(ctx, SCMP_SYS(sendto), 0, all, fd);
    if (rc == 0)
        rc = allow_if(ctx, SCMP_SYS(recvfrom), 0, all, fd);
    if (rc == 0)
        rc = allow_if(ctx, SCMP_SYS(mmap), 2, PROT_EXEC, 0);
    if (rc == 0)
        rc = allow_if(ctx, SCMP_SYS(writev), 0, all, STDERR_FILENO);
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 2,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()),
                              SCMP_A2(SCMP_CMP_EQ, SIGABRT));
    if (rc == 0) /* a call that never fails so: by it the filter is tried */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(uname), 0);
    return rc;
}

int filter_worker(int channel) {
    struct utsname name;
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!ctx)
        return ENOMEM;
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = add_worker_rules(ctx, channel);
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    if (rc != 0)
        return -rc;
    return uname(&name) == -1 && errno == EPERM ? 0 : ENOSYS;
}

static int add_network_rules(scmp_filter_ctx ctx) {
    const int refused[] = {SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
                           SCMP_SYS(io_uring_register)};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof refused / sizeof *refused; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
    for (scmp_datum_t family = 0; rc == 0 && family < AF_NETLINK; family++)
        if (family != AF_UNIX)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                  SCMP_A0(SCMP_CMP_EQ, family));
    return rc;
}

/* The filter as instructions: libseccomp writes them to a descriptor. */
static int take_code(scmp_filter_ctx ctx, filter *f) {
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = -seccomp_export_bpf(ctx, fd);
    off_t size = error == 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (size > 0) {
        f->code = malloc((size_t)size);
        f->count = (size_t)size / sizeof(struct sock_filter);
        error = !f->code ? ENOMEM : pread(fd, f->code, (size_t)size, 0) != size ? EIO : 0;
    } else if (error == 0) {
        error = EIO;
    }
    close(fd);
    return error;
}

int filter_without_network(filter *f) {
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    *f = (filter){0};
    if (!ctx)
        return ENOMEM;
    int error = -add_network_rules(ctx);
    if (error == 0)
        error = take_code(ctx, f);
    seccomp_release(ctx);
    if (error != 0)
        filter_free(f);
    return error;
}

void filter_free(filter *f) {
    free(f->code);
    *f = (filter){0};
}

int filter_apply(const filter *f) {
    struct sock_fprog program = {(unsigned short)f->count, f->code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
