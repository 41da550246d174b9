/*
** apply.c: switching a queued batch in, all of it or nothing.
*/
#define _GNU_SOURCE
#include "transaction.h"

#include "durable.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool same_time(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Whether a path where something stands is as it was when the change was queued: a folder by its
** inode; the rest the cheap way by its lstat, and when that moved, by content. 1, 0 or -1. */
static int is_as_before(transaction *t, const change *c, const struct stat *st) {
    state now;
    if (c->before.type == STATE_ABSENT)
        return 0;
    if (c->before.type == STATE_DIRECTORY)
        return S_ISDIR(st->st_mode) && st->st_ino == c->before.inode &&
               (c->kind != CHANGE_MODE || (st->st_mode & 07777) == c->before.mode);
    if (stat_unchanged(st, &c->seen) && same_time(&st->st_ctim, &c->seen.st_ctim))
        return 1;
    if (state_observe(&now, t->root, c->path, t->hash, NULL) != 0)
        return -1;
    bool equal = state_equal(&now, &c->before);
    state_free(&now);
    return equal;
}

/* Anything else than what was there when the change was queued is somebody's work, and stops the
** batch. *st is what is there. */
static int still_as_before(transaction *t, const change *c, int dir, const char *name,
                           struct stat *st) {
    int same;
    if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0)
        same = is_as_before(t, c, st);
    else if (errno == ENOENT)
        same = c->before.type == STATE_ABSENT || c->kind == CHANGE_RMDIR;
    else
        return -1;
    if (same == 0)
        errno = ESTALE;
    return same == 1 ? 0 : -1;
}

/* A new directory gets its mode and, from root, the owner of the folder it is in. */
static int make_directory(const change *c, int dir, const char *name) {
    if (durable_mkdir(dir, name, 0777) != 0) /* less the umask */
        return -1;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = transaction_adopt(fd, dir);
    if (rc == 0 && c->after.mode != MODE_BY_UMASK)
        rc = durable_mode(fd, c->after.mode);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

int transaction_is_empty(const transaction *t, int dir, const char *name) {
    int empty = 1;
    DIR *d = transaction_list(dir, name);
    if (!d)
        return errno == ENOENT ? 0 : -1;
    const struct dirent *e;
    while (errno = 0, empty && (e = readdir(d)) != NULL)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                (t->disposable && strcmp(e->d_name, t->disposable) == 0);
    int error = errno; /* of readdir: what it did not list may be there */
    closedir(d);
    errno = error;
    return error ? -1 : empty;
}

/* Moves an empty directory into the stage, from where an undo brings it back as it was. It stays
** when there are files in it or we may not write in it, and comes back when a file comes just
** then. */
static int take_directory(transaction *t, const change *c, int dir, const char *name) {
    char number[16];
    int empty = transaction_is_empty(t, dir, name);
    if (empty != 1)
        return empty;
    snprintf(number, sizeof number, "%u", c->number);
    if (durable_rename(dir, name, t->stage, number) != 0)
        return errno == ENOENT || errno == EACCES ? 0 : -1;
    empty = transaction_is_empty(t, t->stage, number);
    if (empty == 0)
        return transaction_rename_new(t->stage, number, dir, name);
    return empty == 1 ? 0 : -1;
}

/* Moves what is staged to a name where nothing stands. */
static int move_in(transaction *t, const char *staged, int dir, const char *name) {
    if (transaction_rename_new(t->stage, staged, dir, name) == 0)
        return 0;
    if (errno == EEXIST)
        errno = ESTALE;
    return -1;
}

static int switch_directory(transaction *t, const change *c, int dir, const char *name) {
    char number[16], spare[20];
    switch (c->kind) {
    case CHANGE_MKDIR:
        return make_directory(c, dir, name);
    case CHANGE_MODE:
        return durable_mode_at(dir, name, c->after.mode);
    case CHANGE_RMDIR:
        return take_directory(t, c, dir, name);
    default: /* CHANGE_EXCHANGE */
        snprintf(number, sizeof number, "%u", c->number);
        if (c->before.type == STATE_ABSENT) /* nothing staged: a tool makes it, the undo knows */
            return move_in(t, number, dir, name) == 0 || errno == ENOENT ? 0 : -1;
        snprintf(spare, sizeof spare, "s%u", c->number);
        return transaction_exchange(t->stage, number, dir, name, spare);
    }
}

/* What came out of the tree into stage/`out` is not what was looked at: somebody saved the file
** just then. It goes back; should they have saved it once more meanwhile, then that stays. */
static int give_back(transaction *t, const char *out, int dir, const char *name) {
    if (transaction_rename_new(t->stage, out, dir, name) != 0 && errno != EEXIST)
        return -1;
    errno = ESTALE;
    return -1;
}

static int exchange_back(transaction *t, const change *c, const char *number, int dir,
                         const char *name) {
    if (durable_exchange(t->stage, number, dir, name) != 0)
        return -1;
    if (!transaction_is(t->stage, number, c->after.inode) &&
        durable_exchange(t->stage, number, dir, name) != 0)
        return -1;
    errno = ESTALE;
    return -1;
}

/* Without an exchange: out, in, and nothing stands there for an instant. */
static int out_and_in(transaction *t, const change *c, const char *number, int dir,
                      const char *name, const struct stat *old) {
    char out[16];
    snprintf(out, sizeof out, "s%u", c->number);
    if (durable_rename(dir, name, t->stage, out) != 0)
        return -1;
    if (!transaction_is(t->stage, out, old->st_ino))
        return give_back(t, out, dir, name);
    /* A link refuses a name that is taken, which a rename does not everywhere. */
    if (durable_link(t->stage, number, dir, name) == 0)
        return durable_unlink(t->stage, number);
    if (errno == EEXIST)
        errno = ESTALE;
    return -1;
}

/* Takes the old file out and puts the new one, if there is one, in its place. */
static int replace_file(transaction *t, const change *c, const char *number, int dir,
                        const char *name, const struct stat *old) {
    bool remove = c->kind == CHANGE_REMOVE;
    int rc = remove ? durable_rename(dir, name, t->stage, number)
                    : durable_exchange(t->stage, number, dir, name);
    if (rc != 0 && !remove && transaction_cannot_exchange(errno))
        rc = out_and_in(t, c, number, dir, name, old);
    else if (rc == 0 && !transaction_is(t->stage, number, old->st_ino))
        rc = remove ? give_back(t, number, dir, name) : exchange_back(t, c, number, dir, name);
    if (rc != 0 && errno == ENOENT)
        errno = ESTALE; /* gone just now */
    return rc;
}

static int switch_file(transaction *t, const change *c, int dir, const char *name,
                       const struct stat *old) {
    char number[16];
    snprintf(number, sizeof number, "%u", c->number);
    if (c->before.type == STATE_ABSENT)
        return move_in(t, number, dir, name);
    return replace_file(t, c, number, dir, name, old);
}

/* Counts the change in *reached when it comes to changing something. */
static int switch_change(transaction *t, const change *c, size_t *reached) {
    const char *name;
    struct stat old = {0};
    int dir = path_parent(t->root, c->path, &name, false);
    if (dir < 0)
        return -1;
    int rc = still_as_before(t, c, dir, name, &old);
    if (rc == 0) {
        ++*reached;
        if (c->kind == CHANGE_PUT || c->kind == CHANGE_LINK || c->kind == CHANGE_REMOVE)
            rc = switch_file(t, c, dir, name, &old);
        else
            rc = switch_directory(t, c, dir, name);
        if (rc != 0 && errno == ESTALE)
            --*reached; /* and it was not changed after all */
    }
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* Makes the staged files and the undo links durable, then a record of the queue; from then on it is
** a batch. In this order: where there is a record, what it tells of is whole. */
static int prepare(transaction *t) {
    payload p = {0};
    payload_u32(&p, (uint32_t)t->queue.count);
    for (size_t i = 0; i < t->queue.count; i++)
        change_write(&t->queue.changes[i], &p);
    batch *all = realloc(t->batches, (t->batch_count + 1) * sizeof *all);
    if (all)
        t->batches = all;
    int rc = all ? transaction_reserve(t) : -1;
    if (rc == 0)
        rc = journal_reserve(&t->log, p.size);
    if (rc == 0 && transaction_sync(t) != 0) {
        payload_free(&p);
        return -1;
    }
    if (rc == 0)
        rc = journal_append(&t->log, RECORD_BATCH, &p);
    payload_free(&p);
    if (rc != 0)
        return transaction_failed(t, "write", "journal");
    t->queue.sequence = t->log.sequence;
    all[t->batch_count++] = t->queue;
    t->queue = (batch){0};
    if (journal_sync(&t->log) == 0)
        return 0;
    t->failed = true;
    return transaction_failed(t, "write", "journal");
}

int transaction_apply(transaction *t) {
    size_t count = t->queue.count;
    if (count == 0)
        return 0;
    uint64_t before = t->log.sequence;
    int rc = transaction_ready(t) == 0 ? prepare(t) : -1;
    if (rc == 0 && transaction_reach(t) != 0)
        rc = transaction_failed(t, "write", "journal");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        batch *b = &t->batches[t->batch_count - 1];
        if (switch_change(t, &b->changes[i], &b->reached) != 0)
            rc = transaction_failed(t, "switch", b->changes[i].path);
    }
    if (rc == 0)
        return (int)count; /* durable with the next batch, checkpoint or commit */
    /* All or nothing: what was switched goes back now. When even that fails, the record of the
    ** undo stays open and ends with the next resume or rollback. */
    int saved = errno;
    const char *step = t->step;
    char *where = t->where;
    t->where = NULL;
    transaction_clear(t);
    if (t->log.sequence > before)
        transaction_undo(t, before);
    free(t->where);
    t->step = step;
    t->where = where;
    errno = saved;
    return -1;
}
