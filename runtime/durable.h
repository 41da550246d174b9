/*
** durable.h: every call of praxlua that changes the disk.
**
** One thin function per system call, so that one file answers "what can this program do to my
** files?", and a fault tester can cut the power at each of them. All calls happen on the calling
** thread. They differ from the system calls in three ways: an interrupted call (EINTR) is
** repeated, a short write is continued, and every descriptor is opened close-on-exec.
**
** Unless said otherwise: `dir` is a directory descriptor (AT_FDCWD is allowed), `name` a path
** resolved from it, the result 0, or -1 with errno set. No function here resolves a path safely;
** that is path.h's work, which hands out directory descriptors.
*/
#ifndef PRAXLUA_DURABLE_H
#define PRAXLUA_DURABLE_H

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

/* Creates a new regular file for writing (O_CREAT | O_EXCL | O_NOFOLLOW). Returns the
** descriptor, which the caller closes with durable_close, or -1. */
int durable_create(int dir, const char *name, mode_t mode);

/* Opens a file for appending, created when missing. Returns the descriptor or -1. */
int durable_append(int dir, const char *name, mode_t mode);

/* Writes all `size` bytes, continuing after short writes. */
int durable_write(int fd, const void *data, size_t size);

/* Copies up to `size` bytes from `from`'s position to `to`'s in the kernel. Returns the number
** copied, 0 at the end, or -1 (EXDEV, EINVAL, ENOSYS, EOPNOTSUPP: copy by hand). */
ssize_t durable_copy(int to, int from, size_t size);

int durable_truncate(int fd, off_t size);

/* Sees to it that `size` bytes from `from` on can be written later even when the disk is full by
** then; the file's size stays. EOPNOTSUPP where the file system cannot. */
int durable_reserve(int fd, off_t from, off_t size);

int durable_mode(int fd, mode_t mode);                       /* fchmod */
int durable_owner(int fd, uid_t uid, gid_t gid);             /* fchown */
int durable_mode_at(int dir, const char *name, mode_t mode); /* fchmodat, no links */
int durable_times(int dir, const char *name, const struct timespec times[2]); /* of a link itself */

/* Makes a file's data and size, or a directory's entries, durable. After an error the state of
** the file on disk is unknown; callers must not try again on the same descriptor. */
int durable_sync(int fd);

/* Makes everything written so far on the file system of `fd` durable. */
int durable_sync_all(int fd);

/* Closes `fd` and reports a late write error. EINTR counts as closed. */
int durable_close(int fd);

int durable_mkdir(int dir, const char *name, mode_t mode);
int durable_rmdir(int dir, const char *name);
int durable_unlink(int dir, const char *name);
int durable_symlink(const char *target, int dir, const char *name);
int durable_link(int from_dir, const char *from, int to_dir, const char *to);   /* hard link */
int durable_rename(int from_dir, const char *from, int to_dir, const char *to); /* replaces */

/* Renames, but fails with EEXIST when `to` exists. */
int durable_rename_new(int from_dir, const char *from, int to_dir, const char *to);

/* Swaps two existing names in one step (RENAME_EXCHANGE). EINVAL, ENOSYS or EXDEV where the
** file system cannot. */
int durable_exchange(int a_dir, const char *a, int b_dir, const char *b);

#endif
