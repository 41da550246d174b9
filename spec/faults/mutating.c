/*
** mutating.c: the table of mutating system calls, and the filter made of it. See mutating.h.
*/
#define _GNU_SOURCE
#include "mutating.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_MACHINE AUDIT_ARCH_AARCH64
#else
#error "the tracer knows x86_64 and aarch64 only"
#endif

/* Younger than some headers; above 424 every architecture has the same numbers. */
enum { NR_FCHMODAT2 = 452, NR_SETXATTRAT = 463, NR_REMOVEXATTRAT = 466, NR_FILE_SETATTR = 469 };

#define CALL(called) .nr = SYS_##called, .name = #called
#define WRITES .kind = "write"
#define SYNCS .kind = "sync"
#define CREATES .kind = "create"
#define REMOVES .kind = "remove"
#define RENAMES .kind = "rename"
#define SETS .kind = "attribute"
#define SIZES .kind = "size"
#define BARRED .kind = "forbidden", .only = ONLY_FORBIDDEN

const Mutating mutating_calls[] = {
    {CALL(write), WRITES, .fd = 1, .data = 2, .size = 3},
    {CALL(pwrite64), WRITES, .fd = 1, .data = 2, .size = 3, .offset = 4},
    {CALL(writev), WRITES, .fd = 1, .vector = 2},
    {CALL(pwritev), WRITES, .fd = 1, .vector = 2, .offset = 4},
    {CALL(pwritev2), WRITES, .fd = 1, .vector = 2, .offset = 4, .flags = 6},
    {CALL(copy_file_range), WRITES, .fd = 3, .from = 1, .from_offset = 2, .offset_at = 4,
     .size = 5},
    {CALL(sendfile), WRITES, .fd = 1, .from = 2, .from_offset = 3, .size = 4},
    {CALL(splice), WRITES, .fd = 3, .offset_at = 4, .size = 5},
    {CALL(ioctl), WRITES, .only = ONLY_REFLINKS, .fd = 1, .flags = 2},
    {CALL(fsync), SYNCS, .fd = 1},
    {CALL(fdatasync), SYNCS, .fd = 1},
    {CALL(syncfs), SYNCS, .fd = 1},
    {CALL(sync_file_range), SYNCS, .fd = 1, .offset = 2, .size = 3, .flags = 4},
    {CALL(sync), SYNCS},
    {CALL(flock), .kind = "lock", .fd = 1, .flags = 2},
    {CALL(ftruncate), SIZES, .fd = 1, .size = 2},
    {CALL(truncate), SIZES, .follow = FOLLOW_ALWAYS, .path = 1, .size = 2},
    {CALL(fallocate), SIZES, .fd = 1, .flags = 2, .offset = 3, .size = 4},
    {CALL(openat), CREATES, .only = ONLY_CREATING, .follow = FOLLOW_UNLESS_OPEN, .dir = 1,
     .path = 2, .flags = 3, .mode = 4},
    {CALL(openat2), CREATES, .follow = FOLLOW_UNLESS_OPEN, .dir = 1, .path = 2, .how = 3},
    {CALL(mkdirat), CREATES, .dir = 1, .path = 2, .mode = 3},
    {CALL(mknodat), CREATES, .dir = 1, .path = 2, .mode = 3},
    {CALL(symlinkat), CREATES, .text = 1, .dir = 2, .path = 3},
    {CALL(linkat), CREATES, .follow = FOLLOW_IF_AT, .dir = 1, .path = 2, .dir2 = 3, .path2 = 4,
     .flags = 5},
    {CALL(unlinkat), REMOVES, .dir = 1, .path = 2, .flags = 3},
    {CALL(renameat2), RENAMES, .dir = 1, .path = 2, .dir2 = 3, .path2 = 4, .flags = 5},
    {CALL(fchmod), SETS, .fd = 1, .mode = 2},
    {CALL(fchmodat), SETS, .follow = FOLLOW_ALWAYS, .dir = 1, .path = 2, .mode = 3},
    {.nr = NR_FCHMODAT2,
     .name = "fchmodat2",
     SETS,
     .follow = FOLLOW_UNLESS_AT,
     .dir = 1,
     .path = 2,
     .mode = 3,
     .flags = 4},
    {CALL(fchown), SETS, .fd = 1},
    {CALL(fchownat), SETS, .follow = FOLLOW_UNLESS_AT, .dir = 1, .path = 2, .flags = 5},
    {CALL(utimensat), SETS, .follow = FOLLOW_UNLESS_AT, .dir = 1, .path = 2, .flags = 4},
    {CALL(setxattr), SETS, .follow = FOLLOW_ALWAYS, .path = 1, .text = 2},
    {CALL(lsetxattr), SETS, .path = 1, .text = 2},
    {CALL(fsetxattr), SETS, .fd = 1, .text = 2},
    {CALL(removexattr), SETS, .follow = FOLLOW_ALWAYS, .path = 1, .text = 2},
    {CALL(lremovexattr), SETS, .path = 1, .text = 2},
    {CALL(fremovexattr), SETS, .fd = 1, .text = 2},
    {.nr = NR_SETXATTRAT,
     .name = "setxattrat",
     SETS,
     .follow = FOLLOW_UNLESS_AT,
     .dir = 1,
     .path = 2,
     .flags = 3,
     .text = 4},
    {.nr = NR_REMOVEXATTRAT,
     .name = "removexattrat",
     SETS,
     .follow = FOLLOW_UNLESS_AT,
     .dir = 1,
     .path = 2,
     .flags = 3,
     .text = 4},
    {.nr = NR_FILE_SETATTR, .name = "file_setattr", SETS, .dir = 1, .path = 2},
#if defined(SYS_renameat)
    {CALL(renameat), RENAMES, .dir = 1, .path = 2, .dir2 = 3, .path2 = 4},
#endif
#if defined(__x86_64__) /* the calls without a directory, which younger architectures left out */
    {CALL(open), CREATES, .only = ONLY_CREATING, .follow = FOLLOW_UNLESS_OPEN, .path = 1,
     .flags = 2, .mode = 3},
    {CALL(creat), CREATES, .follow = FOLLOW_ALWAYS, .path = 1, .mode = 2},
    {CALL(mkdir), CREATES, .path = 1, .mode = 2},
    {CALL(mknod), CREATES, .path = 1, .mode = 2},
    {CALL(symlink), CREATES, .text = 1, .path = 2},
    {CALL(link), CREATES, .path = 1, .path2 = 2},
    {CALL(unlink), REMOVES, .path = 1},
    {CALL(rmdir), REMOVES, .path = 1},
    {CALL(rename), RENAMES, .path = 1, .path2 = 2},
    {CALL(chmod), SETS, .follow = FOLLOW_ALWAYS, .path = 1, .mode = 2},
    {CALL(chown), SETS, .follow = FOLLOW_ALWAYS, .path = 1},
    {CALL(lchown), SETS, .path = 1},
    {CALL(utime), SETS, .follow = FOLLOW_ALWAYS, .path = 1},
    {CALL(utimes), SETS, .follow = FOLLOW_ALWAYS, .path = 1},
    {CALL(futimesat), SETS, .follow = FOLLOW_ALWAYS, .dir = 1, .path = 2},
#endif
    {CALL(mmap), .kind = "forbidden", .only = ONLY_MAPPING, .fd = 5, .flags = 3},
    {CALL(io_uring_setup), BARRED},
    {CALL(io_uring_enter), BARRED},
    {CALL(io_uring_register), BARRED},
    {CALL(io_submit), BARRED},
};

const int mutating_count = sizeof mutating_calls / sizeof *mutating_calls;

/* ---- the filter ---- */

enum { LONGEST = 9 }; /* instructions for one call */

static struct sock_filter load(size_t offset) {
    return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset);
}

/* The lower half of an argument; both machines are little-endian. */
static struct sock_filter load_argument(int number) {
    return load(offsetof(struct seccomp_data, args) + 8 * (size_t)(number - 1));
}

static struct sock_filter jump(unsigned short test, unsigned value, unsigned char yes,
                               unsigned char no) {
    return (struct sock_filter)BPF_JUMP((unsigned short)(BPF_JMP | BPF_K | test), value, yes, no);
}

static struct sock_filter answer(unsigned action) {
    return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
}

/* Appends what decides about one call: with its number in the accumulator it falls through to the
** end when it is another one. */
static struct sock_filter *decide(struct sock_filter *at, int position) {
    const Mutating *call = &mutating_calls[position];
    struct sock_filter trace = answer(SECCOMP_RET_TRACE | (unsigned)position);
    struct sock_filter *test = at++;
    if (call->only == ONLY_CREATING) {
        *at++ = load_argument(call->flags);
        *at++ = jump(BPF_JSET, O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY), 1, 0);
        *at++ = answer(SECCOMP_RET_ALLOW);
    } else if (call->only == ONLY_MAPPING) {
        *at++ = load_argument(4);
        *at++ = jump(BPF_JSET, MAP_ANONYMOUS, 1, 0);
        *at++ = jump(BPF_JSET, MAP_SHARED, 1, 0);
        *at++ = answer(SECCOMP_RET_ALLOW);
    } else if (call->only == ONLY_REFLINKS) {
        *at++ = load_argument(call->flags);
        *at++ = jump(BPF_JEQ, (unsigned)FICLONE, 2, 0);
        *at++ = jump(BPF_JEQ, (unsigned)FICLONERANGE, 1, 0);
        *at++ = answer(SECCOMP_RET_ALLOW);
    }
    *at++ = trace;
    *test = jump(BPF_JEQ, (unsigned)call->nr, 0, (unsigned char)(at - test - 1));
    return at;
}

int mutating_filter(void) {
    size_t room = (size_t)mutating_count * LONGEST + 8;
    struct sock_filter *code = calloc(room, sizeof *code);
    struct sock_filter *at = code;
    int rc = -1;
    if (!code)
        return -1;
    *at++ = load(offsetof(struct seccomp_data, arch));
    *at++ = jump(BPF_JEQ, THIS_MACHINE, 1, 0);
    *at++ = answer(SECCOMP_RET_TRACE | MUTATING_FOREIGN);
    *at++ = load(offsetof(struct seccomp_data, nr));
    for (int i = 0; i < mutating_count; i++)
        at = decide(at, i);
    *at++ = answer(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)(at - code), code};
    /* Root may do without the promise, which would change what the program can do. */
    rc = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    if (rc != 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        rc = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    free(code);
    return rc;
}
