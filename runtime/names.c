/*
** names.c: the moves of names that switching a batch in and undoing it have in common.
*/
#define _GNU_SOURCE
#include "durable.h"
#include "transaction.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int transaction_tidy(transaction *t, int dir, const char *name) {
    int rc = -1;
    if (!t->disposable)
        return 0;
    int at = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    char aside[16];
    transaction_spare(t, 't', aside);
    /* Moved into our own folder, which is deleted whole at the end. */
    if (durable_rename(at, t->disposable, t->stage, aside) == 0 || errno == ENOENT)
        rc = 0;
    int saved = errno;
    close(at);
    errno = saved;
    return rc;
}

int transaction_rename_new(int from_dir, const char *from, int to_dir, const char *to) {
    struct stat st;
    if (durable_rename_new(from_dir, from, to_dir, to) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (!S_ISDIR(st.st_mode))
        return durable_link(from_dir, from, to_dir, to) == 0 ? durable_unlink(from_dir, from) : -1;
    if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) !=
        0) /* at worst it replaces an empty folder */
        return errno == ENOENT ? durable_rename(from_dir, from, to_dir, to) : -1;
    errno = EEXIST;
    return -1;
}

/* Under its number after an exchange or removal, under the spare name after the two renames that
** stand in for an exchange. In a copy of the tree nobody knows which of two exchanged folders is
** the original; of a removed one there is only that. */
int transaction_original(const transaction *t, const change *c, char name[16]) {
    static const char *const forms[] = {"%u", "s%u"};
    bool removed = c->kind == CHANGE_RMDIR;
    struct stat st;
    for (int i = 0; i < 2; i++) {
        snprintf(name, 16, forms[i], c->number);
        if (fstatat(t->stage, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
            (c->before.inode ? st.st_ino == c->before.inode : removed))
            return 0;
    }
    errno = ENOENT;
    return -1;
}

int transaction_adopt(int fd, int dir) {
    struct stat st;
    if (geteuid() != 0)
        return 0;
    if (fstat(dir, &st) != 0)
        return -1;
    return transaction_give(fd, st.st_uid, st.st_gid);
}

int transaction_give(int fd, uid_t uid, gid_t gid) {
    if ((uid == 0 && gid == 0) || durable_owner(fd, uid, gid) == 0)
        return 0;
    return errno == EPERM || errno == EINVAL ? 0 : -1; /* a root of its own name space only */
}

bool transaction_cannot_exchange(int error) {
    return error == EINVAL || error == ENOSYS || error == EXDEV;
}

int transaction_exchange(int a_dir, const char *a, int b_dir, const char *b, const char *spare) {
    if (durable_exchange(a_dir, a, b_dir, b) == 0)
        return 0;
    if (!transaction_cannot_exchange(errno))
        return -1;
    if (durable_rename(b_dir, b, a_dir, spare) != 0)
        return -1;
    return durable_rename(a_dir, a, b_dir, b);
}

bool transaction_is(int dir, const char *name, uint64_t inode) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == inode;
}
