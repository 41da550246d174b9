/*
** keep.c: what other people wrote while a transaction was open, kept under names of its own.
*/
#define _GNU_SOURCE
#include "durable.h"
#include "path.h"
#include "transaction.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The i-th name under which another's version of `name` may be kept. */
static void name_aside(const transaction *t, const char *name, unsigned i,
                       char aside[NAME_MAX + 1]) {
    char ending[32];
    int size = i ? snprintf(ending, sizeof ending, ".kept-%s-%u", t->tag, i)
                 : snprintf(ending, sizeof ending, ".kept-%s", t->tag);
    snprintf(aside, NAME_MAX + 1, "%.*s%s", NAME_MAX - size, name, ending);
}

static const char *last_component(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Renames, but fails with EEXIST when `to` exists. Where the file system cannot do that, a file of
** the tree is taken into our folder first: between a link and the removal of the old name it could
** be saved again. */
static int rename_aside(transaction *t, const change *c, int from_dir, const char *from, int dir,
                        const char *to) {
    char out[16];
    struct stat st;
    if (durable_rename_new(from_dir, from, dir, to) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (from_dir != dir || S_ISDIR(st.st_mode))
        return transaction_rename_new(from_dir, from, dir, to);
    snprintf(out, sizeof out, "k%u", c->number);
    if (durable_rename(dir, from, t->stage, out) != 0)
        return -1;
    /* When the name is taken just now, transaction_rescue finds another one. */
    return transaction_rename_new(t->stage, out, dir, to) == 0 || errno == EEXIST ? 0 : -1;
}

int transaction_move_aside(transaction *t, const change *c, int from_dir, const char *from,
                           int dir) {
    char aside[NAME_MAX + 1];
    struct stat st;
    for (unsigned i = 0;; i++) {
        name_aside(t, last_component(c->path), i, aside);
        if (fstatat(dir, aside, &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        /* Noted first: a kill in between leaves a note of nothing, which is not told. */
        if (transaction_note_kept(t, c->path, aside) != 0)
            return -1;
        if (rename_aside(t, c, from_dir, from, dir, aside) == 0)
            return 0;
        if (errno != EEXIST)
            return transaction_failed(t, "move aside", c->path);
    }
}

int transaction_keep_beside(transaction *t, const change *c, int folder, const char *number) {
    char aside[NAME_MAX + 1];
    const char *name;
    struct stat kept, there;
    int dir = path_parent(t->root, c->path, &name, true);
    if (dir < 0)
        return -1;
    int rc = fstatat(folder, number, &kept, AT_SYMLINK_NOFOLLOW);
    bool linkable = rc == 0 && (S_ISREG(kept.st_mode) || S_ISLNK(kept.st_mode));
    if (rc == 0 && !linkable) { /* a folder, saved over the file just as it was switched */
        rc = transaction_move_aside(t, c, folder, number, dir);
        goto out;
    }
    for (unsigned i = 0; rc == 0; i++) {
        name_aside(t, name, i, aside);
        bool free = fstatat(dir, aside, &there, AT_SYMLINK_NOFOLLOW) != 0;
        if (!free && there.st_ino != kept.st_ino)
            continue;
        rc = transaction_note_kept(t, c->path, aside);
        if (rc != 0 || !free || (rc = durable_link(folder, number, dir, aside)) == 0)
            break;
        if (errno == EEXIST)
            rc = 0;
    }
out:;
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* Whether somebody has folder/number open for writing. Its names are in our folder by now, so
** nobody will open it any more. The kernel grants a read lease only where there is no writer;
** where it knows no leases, or they are not for us, the content has to tell. */
static bool has_writer(int folder, const char *number) {
    int fd = openat(folder, number, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    /* Should somebody open it all the same: a signal that nobody minds. */
    bool writer =
        fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
    close(fd); /* and with it the lease */
    return writer;
}

/* Whether all there is in folder/number is what the transaction knew, for good, or it is what
** stands at the path: 1 or 0, or -1 without the memory to look. What cannot be read is not
** known. */
static int is_known(transaction *t, const change *c, int folder, const char *number) {
    state is, now;
    bool writer = has_writer(folder, number);
    if (state_observe(&is, folder, number, t->hash, NULL) != 0)
        return errno == ENOMEM ? -1 : 0;
    bool known =
        is.type == STATE_ABSENT ||
        (!writer && (state_same_content(&is, &c->before) || state_same_content(&is, &c->after)));
    if (!known && state_observe(&now, t->root, c->path, t->hash, NULL) == 0) {
        known = now.type == is.type && now.inode == is.inode;
        state_free(&now);
    }
    state_free(&is);
    return known;
}

static int rescue_file(transaction *t, const change *c, int folder, const char *number) {
    int known = is_known(t, c, folder, number);
    if (known != 0)
        return known < 0 ? -1 : 0;
    return transaction_keep_beside(t, c, folder, number);
}

/* Whether a removed folder is empty and gone for good: 1, 0 when there is something in it, or -1.
** It goes here and not with all the rest, where a file that somebody makes in it at the last
** moment, from a shell that is still in there, would go as well. */
static int let_go(transaction *t, const char *original) {
    int empty = transaction_is_empty(t, t->stage, original);
    if (empty != 1)
        return empty;
    if (transaction_tidy(t, t->stage, original) == 0 && durable_rmdir(t->stage, original) == 0)
        return 1;
    return errno == ENOTEMPTY || errno == EEXIST ? 0 : -1;
}

/* A removed folder in which somebody made a file after that comes back, beside a new one if there
** is one. */
static int rescue_directory(transaction *t, const change *c) {
    char original[16];
    const char *name;
    if (transaction_original(t, c, original) != 0)
        return 0;
    int gone = let_go(t, original);
    if (gone != 0)
        return gone < 0 ? -1 : 0;
    int dir = path_parent(t->root, c->path, &name, true);
    if (dir < 0)
        return -1;
    int rc = -1;
    if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        rc = transaction_move_aside(t, c, t->stage, original, dir);
    else if (transaction_note_kept(t, c->path, name) == 0)
        rc = transaction_rename_new(t->stage, original, dir, name);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* The places in our folder where a file may lie that stood at the change's path. */
static int rescue(transaction *t, const change *c) {
    static const char *const forms[] = {"%u", "s%u", "u%u", "k%u"};
    char name[16];
    if (c->kind == CHANGE_RMDIR)
        return rescue_directory(t, c);
    if (c->kind != CHANGE_PUT && c->kind != CHANGE_LINK && c->kind != CHANGE_REMOVE)
        return 0;
    snprintf(name, sizeof name, forms[0], c->number);
    int rc = rescue_file(t, c, t->undo, name);
    for (size_t i = 0; rc == 0 && i < sizeof forms / sizeof *forms; i++) {
        snprintf(name, sizeof name, forms[i], c->number);
        rc = rescue_file(t, c, t->stage, name);
    }
    return rc;
}

int transaction_rescue(transaction *t) {
    for (size_t b = 0; b < t->batch_count; b++)
        for (size_t i = 0; i < t->batches[b].count; i++)
            if (rescue(t, &t->batches[b].changes[i]) != 0)
                return transaction_failed(t, "keep the old content of",
                                          t->batches[b].changes[i].path);
    return t->kept_count ? transaction_sync(t) : 0;
}
