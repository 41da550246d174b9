/*
** durable.c: the system calls that change the disk. See durable.h.
*/
#define _GNU_SOURCE
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

/* Repeats an expression for as long as it fails with EINTR. */
#define AGAIN(result, call)                                                                        \
    do {                                                                                           \
        (result) = (call);                                                                         \
    } while ((result) < 0 && errno == EINTR)

int durable_create(int dir, const char *name, mode_t mode) {
    int fd;
    AGAIN(fd, openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, mode));
    return fd;
}

int durable_append(int dir, const char *name, mode_t mode) {
    int fd;
    AGAIN(fd, openat(dir, name, O_CREAT | O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC, mode));
    return fd;
}

int durable_write(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t n;
        AGAIN(n, write(fd, at, size));
        if (n < 0)
            return -1;
        if (n == 0) { /* a regular file never does this; do not spin if something else does */
            errno = EIO;
            return -1;
        }
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

ssize_t durable_copy(int to, int from, size_t size) {
    ssize_t n;
    AGAIN(n, copy_file_range(from, NULL, to, NULL, size, 0));
    return n;
}

int durable_truncate(int fd, off_t size) {
    int rc;
    AGAIN(rc, ftruncate(fd, size));
    return rc;
}

int durable_reserve(int fd, off_t from, off_t size) {
    int rc;
    AGAIN(rc, fallocate(fd, FALLOC_FL_KEEP_SIZE, from, size));
    return rc;
}

int durable_mode(int fd, mode_t mode) {
    return fchmod(fd, mode);
}

int durable_owner(int fd, uid_t uid, gid_t gid) {
    return fchown(fd, uid, gid);
}

/* The C library does this race-free on every kernel (fchmodat2, or O_PATH and /proc/self/fd); a
** link gives EOPNOTSUPP. */
int durable_mode_at(int dir, const char *name, mode_t mode) {
    return fchmodat(dir, name, mode, AT_SYMLINK_NOFOLLOW);
}

int durable_times(int dir, const char *name, const struct timespec times[2]) {
    return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
}

int durable_sync(int fd) {
    int rc;
    AGAIN(rc, fsync(fd));
    return rc;
}

int durable_sync_all(int fd) {
    int rc;
    AGAIN(rc, syncfs(fd));
    return rc;
}

int durable_close(int fd) {
    int rc = close(fd);
    return rc < 0 && errno == EINTR ? 0 : rc;
}

int durable_mkdir(int dir, const char *name, mode_t mode) {
    return mkdirat(dir, name, mode);
}

int durable_rmdir(int dir, const char *name) {
    return unlinkat(dir, name, AT_REMOVEDIR);
}

int durable_unlink(int dir, const char *name) {
    return unlinkat(dir, name, 0);
}

int durable_symlink(const char *target, int dir, const char *name) {
    return symlinkat(target, dir, name);
}

int durable_link(int from_dir, const char *from, int to_dir, const char *to) {
    return linkat(from_dir, from, to_dir, to, 0);
}

int durable_rename(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat(from_dir, from, to_dir, to);
}

/* By number: musl and older glibc have no wrapper. */
static int rename_with(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int durable_rename_new(int from_dir, const char *from, int to_dir, const char *to) {
    return rename_with(from_dir, from, to_dir, to, RENAME_NOREPLACE);
}

int durable_exchange(int a_dir, const char *a, int b_dir, const char *b) {
    return rename_with(a_dir, a, b_dir, b, RENAME_EXCHANGE);
}
