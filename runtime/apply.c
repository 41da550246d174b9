/*
** apply.c: switching a queued batch in, all of it or nothing.
*/
#define _GNU_SOURCE
#include "transaction.h"

#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool same_time(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Whether the path is still as it was when the change was queued: the cheap way by its lstat, and
** when that moved, by content. Anything else is somebody's work, and stops the batch. */
static int still_as_before(transaction *t, const change *c, int dir, const char *name) {
    struct stat st;
    state now;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT && c->before.type == STATE_ABSENT)
            return 0;
    } else if (c->before.type != STATE_ABSENT) {
        if (st.st_ino == c->seen.st_ino && st.st_size == c->seen.st_size &&
            same_time(&st.st_mtim, &c->seen.st_mtim) && same_time(&st.st_ctim, &c->seen.st_ctim))
            return 0;
        if (state_observe(&now, t->root, c->path, t->hash, NULL) != 0)
            return -1;
        bool equal = state_equal(&now, &c->before);
        state_free(&now);
        if (equal)
            return 0;
    }
    errno = ESTALE;
    return -1;
}

/* A new directory gets its mode and, from root, the owner of the folder it is in. */
static int make_directory(const change *c, int dir, const char *name) {
    struct stat st;
    if (durable_mkdir(dir, name, 0777) != 0) /* less the umask */
        return -1;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = 0;
    if (geteuid() == 0 && fstat(dir, &st) == 0 && (st.st_uid || st.st_gid))
        rc = durable_owner(fd, st.st_uid, st.st_gid);
    if (rc == 0 && c->after.mode != MODE_BY_UMASK)
        rc = durable_mode(fd, c->after.mode);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

static int switch_directory(transaction *t, const change *c, int dir, const char *name) {
    char number[16], spare[20];
    switch (c->kind) {
    case CHANGE_MKDIR:
        return make_directory(c, dir, name);
    case CHANGE_MODE:
        return durable_mode_at(dir, name, c->after.mode);
    case CHANGE_RMDIR:
        if (transaction_tidy(t, dir, name) != 0)
            return -1;
        if (durable_rmdir(dir, name) == 0 || errno == ENOTEMPTY || errno == EEXIST ||
            errno == ENOENT)
            return 0; /* somebody's files in it: it stays */
        return -1;
    default: /* CHANGE_EXCHANGE */
        if (c->before.type == STATE_ABSENT)
            return 0; /* a tool makes it; the record is what its undo needs */
        snprintf(number, sizeof number, "%u", c->number);
        snprintf(spare, sizeof spare, "s%u", c->number);
        return transaction_exchange(t->stage, number, dir, name, spare);
    }
}

static int switch_file(transaction *t, const change *c, int dir, const char *name) {
    char number[16];
    if (c->kind == CHANGE_REMOVE)
        return durable_unlink(dir, name);
    snprintf(number, sizeof number, "%u", c->number);
    if (c->before.type != STATE_ABSENT)
        return durable_rename(t->stage, number, dir, name);
    if (durable_rename_new(t->stage, number, dir, name) == 0)
        return 0;
    if (errno == EEXIST)
        errno = ESTALE;
    else if (errno == EINVAL || errno == ENOSYS) /* no such flag on this file system */
        return durable_rename(t->stage, number, dir, name);
    return -1;
}

static int switch_change(transaction *t, const change *c) {
    const char *name;
    int dir = path_parent(t->root, c->path, &name, false);
    if (dir < 0)
        return -1;
    int rc;
    if (c->kind == CHANGE_PUT || c->kind == CHANGE_LINK || c->kind == CHANGE_REMOVE)
        rc = still_as_before(t, c, dir, name) == 0 ? switch_file(t, c, dir, name) : -1;
    else
        rc = switch_directory(t, c, dir, name);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* Writes the queue into the journal and makes it, the staged files and the undo links durable;
** from then on the queue is a batch. */
static int prepare(transaction *t) {
    payload p = {0};
    payload_u32(&p, (uint32_t)t->queue.count);
    for (size_t i = 0; i < t->queue.count; i++)
        change_write(&t->queue.changes[i], &p);
    batch *all = realloc(t->batches, (t->batch_count + 1) * sizeof *all);
    if (all)
        t->batches = all;
    int rc = all ? journal_append(&t->log, RECORD_BATCH, &p) : -1;
    payload_free(&p);
    if (rc != 0)
        return transaction_failed(t, "write", "journal");
    t->queue.sequence = t->log.sequence;
    all[t->batch_count++] = t->queue;
    t->queue = (batch){0};
    if (durable_sync_all(t->root) != 0)
        return transaction_failed(t, "sync", ".");
    return 0;
}

int transaction_apply(transaction *t) {
    size_t count = t->queue.count;
    if (count == 0)
        return 0;
    uint64_t before = t->log.sequence;
    int rc = prepare(t);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const change *c = &t->batches[t->batch_count - 1].changes[i];
        if (switch_change(t, c) != 0)
            rc = transaction_failed(t, "switch", c->path);
    }
    if (rc == 0 && durable_sync_all(t->root) != 0)
        rc = transaction_failed(t, "sync", ".");
    if (rc == 0)
        return (int)count;
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
