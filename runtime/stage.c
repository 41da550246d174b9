/*
** stage.c: queueing changes: the new content is written beside, the old content linked.
*/
#define _GNU_SOURCE
#include "transaction.h"

#include "cancel.h"
#include "core.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A new change at the end of the queue with `before` observed, or NULL with errno and the step. */
static change *enqueue(transaction *t, change_kind kind, const char *path) {
    batch *q = &t->queue;
    if (transaction_ready(t) != 0)
        return NULL;
    if (cancel_asked() != 0)
        goto fail;
    if ((q->count & (q->count - 1)) == 0) { /* grows at powers of two */
        change *more = realloc(q->changes, (q->count ? 2 * q->count : 1) * sizeof *more);
        if (!more)
            goto fail;
        q->changes = more;
    }
    change *c = &q->changes[q->count];
    *c = (change){.kind = kind, .number = t->next, .path = strdup(path)};
    if (!c->path || state_observe(&c->before, t->root, path, t->hash, &c->seen) != 0) {
        change_free(c);
        goto fail;
    }
    t->next++;
    q->count++;
    return c;
fail:
    transaction_failed(t, "look at", path);
    return NULL;
}

static void drop_last(transaction *t) {
    change_free(&t->queue.changes[--t->queue.count]);
}

/* Keeps the old file or link reachable under undo/N. It must still be the one looked at. */
static int keep_old(transaction *t, change *c) {
    char number[16];
    const char *name;
    struct stat linked;
    snprintf(number, sizeof number, "%u", c->number);
    int dir = path_parent(t->root, c->path, &name, false);
    if (dir < 0)
        return -1;
    int rc = durable_link(dir, name, t->undo, number);
    if (rc != 0 && errno == ENOENT)
        errno = ESTALE; /* gone just now */
    if (rc == 0)
        rc = fstatat(t->undo, number, &linked, AT_SYMLINK_NOFOLLOW);
    if (rc == 0 && !stat_unchanged(&linked, &c->seen)) {
        errno = ESTALE;
        rc = -1;
    }
    if (rc == 0)
        c->seen = linked; /* the link moved the inode's ctime */
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* New files belong to whoever owned what they replace, or else the folder, so that an upgrade
** run by root does not take a user's files away. */
static int give_owner(transaction *t, const change *c, int fd) {
    struct stat st;
    uid_t uid = c->seen.st_uid;
    gid_t gid = c->seen.st_gid;
    if (geteuid() != 0)
        return 0;
    if (c->before.type == STATE_ABSENT) {
        const char *name;
        int dir = path_parent(t->root, c->path, &name, false);
        int rc = fstat(dir >= 0 ? dir : t->root, &st);
        if (dir >= 0)
            close(dir);
        if (rc != 0)
            return -1;
        uid = st.st_uid;
        gid = st.st_gid;
    }
    return transaction_give(fd, uid, gid);
}

int transaction_fill(transaction *t, int fd, int from, const void *data, size_t size,
                     char hex[DIGEST_HEX]) {
    char buffer[64 * 1024];
    if (digest_reset(t->hash) != 0)
        return -1;
    if (from < 0) {
        if (digest_add(t->hash, data, size) != 0 || durable_write(fd, data, size) != 0)
            return -1;
        return digest_hex(t->hash, hex);
    }
    for (;;) {
        ssize_t n = read(from, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            return digest_hex(t->hash, hex);
        if (cancel_asked() != 0)
            return -1;
        if (digest_add(t->hash, buffer, (size_t)n) != 0 ||
            durable_write(fd, buffer, (size_t)n) != 0)
            return -1;
    }
}

static int stage_file(transaction *t, change *c, int from, const void *data, size_t size) {
    char number[16], hex[DIGEST_HEX];
    struct stat st;
    int rc = -1;
    snprintf(number, sizeof number, "%u", c->number);
    int fd = durable_create(t->stage, number, 0600);
    if (fd < 0)
        return -1;
    if (transaction_fill(t, fd, from, data, size, hex) == 0 && give_owner(t, c, fd) == 0 &&
        durable_mode(fd, c->after.mode) == 0 && fstat(fd, &st) == 0) {
        c->after.inode = st.st_ino;
        c->after.content = strdup(hex);
        rc = c->after.content ? 0 : -1;
    }
    int saved = errno;
    if (durable_close(fd) != 0 && rc == 0)
        return -1;
    errno = saved;
    return rc;
}

/* Only a file or link, or nothing, can be replaced by one. */
static int check_replaceable(const state *s) {
    if (s->type == STATE_ABSENT || s->type == STATE_FILE || s->type == STATE_LINK)
        return 0;
    errno = s->type == STATE_DIRECTORY ? EISDIR : CORE_ENOTREG;
    return -1;
}

/* Deletes what was staged for a file or link, as far as it was; keeps errno. A failure of this
** costs space only, until the folder is deleted. */
static void unstage(transaction *t, const change *c) {
    char number[16];
    int saved = errno;
    snprintf(number, sizeof number, "%u", c->number);
    if (c->kind == CHANGE_PUT || c->kind == CHANGE_LINK)
        durable_unlink(t->stage, number);
    errno = saved;
}

int transaction_put(transaction *t, const char *path, int from, const void *data, size_t size,
                    int mode) {
    change *c = enqueue(t, CHANGE_PUT, path);
    if (!c)
        return -1;
    if (check_replaceable(&c->before) != 0)
        goto fail;
    c->after.type = STATE_FILE;
    c->after.mode = mode >= 0                      ? (uint32_t)mode
                    : c->before.type == STATE_FILE ? c->before.mode
                                                   : 0644;
    if (stage_file(t, c, from, data, size) != 0)
        goto fail;
    if (state_equal(&c->before, &c->after)) {
        unstage(t, c);
        drop_last(t);
        return 0;
    }
    if (c->before.type != STATE_ABSENT && keep_old(t, c) != 0)
        goto fail;
    return 1;
fail:
    transaction_failed(t, "stage", path);
    unstage(t, c);
    drop_last(t);
    return -1;
}

int transaction_symlink(transaction *t, const char *path, const char *target) {
    char number[16];
    struct stat st;
    change *c = enqueue(t, CHANGE_LINK, path);
    if (!c)
        return -1;
    if (check_replaceable(&c->before) != 0)
        goto fail;
    c->after.type = STATE_LINK;
    c->after.content = strdup(target);
    if (!c->after.content)
        goto fail;
    if (state_equal(&c->before, &c->after)) {
        drop_last(t);
        return 0;
    }
    snprintf(number, sizeof number, "%u", c->number);
    if (durable_symlink(target, t->stage, number) != 0 ||
        fstatat(t->stage, number, &st, AT_SYMLINK_NOFOLLOW) != 0)
        goto fail;
    c->after.inode = st.st_ino;
    if (c->before.type != STATE_ABSENT && keep_old(t, c) != 0)
        goto fail;
    return 1;
fail:
    transaction_failed(t, "stage", path);
    unstage(t, c);
    drop_last(t);
    return -1;
}

int transaction_remove(transaction *t, const char *path) {
    change *c = enqueue(t, CHANGE_REMOVE, path);
    if (!c)
        return -1;
    if (c->before.type == STATE_ABSENT) {
        drop_last(t);
        return 0;
    }
    if (check_replaceable(&c->before) == 0 && keep_old(t, c) == 0)
        return 1;
    transaction_failed(t, "remove", path);
    drop_last(t);
    return -1;
}

/* Queues a change that makes a path a directory, or nothing, unless it is that already. */
static change *directory_change(transaction *t, change_kind kind, const char *path,
                                state_type wanted, int *result) {
    change *c = enqueue(t, kind, path);
    *result = -1;
    if (!c)
        return NULL;
    state_type is = c->before.type;
    c->after.type = wanted;
    *result = is == STATE_ABSENT || is == STATE_DIRECTORY ? 0 : -1;
    if (*result == 0 && (is != wanted || kind == CHANGE_MODE)) {
        *result = 1;
        return c;
    }
    if (*result < 0) {
        errno = ENOTDIR;
        transaction_failed(t, "change the folder", path);
    }
    drop_last(t);
    return NULL;
}

int transaction_mkdir(transaction *t, const char *path, int mode) {
    int result;
    change *c = directory_change(t, CHANGE_MKDIR, path, STATE_DIRECTORY, &result);
    if (c)
        c->after.mode = mode < 0 ? MODE_BY_UMASK : (uint32_t)mode;
    return result;
}

int transaction_rmdir(transaction *t, const char *path) {
    int result;
    directory_change(t, CHANGE_RMDIR, path, STATE_ABSENT, &result);
    return result;
}

int transaction_mode(transaction *t, const char *path, int mode) {
    int result;
    change *c = directory_change(t, CHANGE_MODE, path, STATE_DIRECTORY, &result);
    if (!c)
        return result;
    c->after.mode = (uint32_t)mode;
    if (c->before.type == STATE_DIRECTORY && c->before.mode != c->after.mode)
        return 1;
    if (c->before.type == STATE_DIRECTORY) {
        drop_last(t);
        return 0;
    }
    errno = ENOENT;
    transaction_failed(t, "set the mode of", path);
    drop_last(t);
    return -1;
}

int transaction_exchange_with(transaction *t, const char *path, uint32_t staged) {
    char number[16];
    struct stat st;
    change *c = enqueue(t, CHANGE_EXCHANGE, path);
    if (!c)
        return -1;
    c->number = staged;
    snprintf(number, sizeof number, "%u", staged);
    if (c->before.type != STATE_DIRECTORY && c->before.type != STATE_ABSENT) {
        errno = ENOTDIR;
    } else if (c->before.type == STATE_ABSENT ||
               fstatat(t->stage, number, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        c->after.type = STATE_DIRECTORY;
        return 1;
    }
    transaction_failed(t, "exchange", path);
    drop_last(t);
    return -1;
}

const change *transaction_last(const transaction *t) {
    return t->queue.count ? &t->queue.changes[t->queue.count - 1] : NULL;
}

void transaction_clear(transaction *t) {
    for (size_t i = 0; i < t->queue.count; i++)
        unstage(t, &t->queue.changes[i]);
    batch_free(&t->queue);
}
