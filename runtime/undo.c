/*
** undo.c: the backward half of a transaction.
*/
#define _GNU_SOURCE
#include "durable.h"
#include "path.h"
#include "transaction.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Remembers that `path` was moved aside to `name` in the same directory. */
static int note_kept(transaction *t, const char *path, const char *name) {
    char **kept = realloc(t->kept, (t->kept_count + 1) * sizeof *kept);
    if (!kept)
        return -1;
    t->kept = kept;
    const char *slash = strrchr(path, '/');
    int prefix = slash ? (int)(slash - path + 1) : 0;
    if (asprintf(&kept[t->kept_count], "%.*s%s", prefix, path, name) < 0)
        return -1;
    t->kept_count++;
    return 0;
}

/* The i-th name under which another's version of `name` may be kept. */
static void name_aside(const transaction *t, const char *name, unsigned i,
                       char aside[NAME_MAX + 1]) {
    char ending[32];
    int size = i ? snprintf(ending, sizeof ending, ".kept-%s-%u", t->tag, i)
                 : snprintf(ending, sizeof ending, ".kept-%s", t->tag);
    snprintf(aside, NAME_MAX + 1, "%.*s%s", NAME_MAX - size, name, ending);
}

/* Gives what stands at dir/name, which somebody else wrote, a name of its own beside it. */
static int move_aside(transaction *t, const char *path, int dir, const char *name) {
    char aside[NAME_MAX + 1];
    for (unsigned i = 0;; i++) {
        name_aside(t, name, i, aside);
        if (transaction_rename_new(dir, name, dir, aside) == 0)
            return note_kept(t, path, aside);
        if (errno != EEXIST)
            return transaction_failed(t, "move aside", path);
    }
}

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
    if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? durable_rename(from_dir, from, to_dir, to) : -1;
    errno = EEXIST;
    return -1;
}

/* Under its number after an exchange or removal, under the spare name after the two renames that
** stand in for an exchange. */
int transaction_original(const transaction *t, const change *c, char name[16]) {
    static const char *const forms[] = {"%u", "s%u"};
    struct stat st;
    for (int i = 0; i < 2; i++) {
        snprintf(name, 16, forms[i], c->number);
        if (fstatat(t->stage, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == c->before.inode)
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
    return st.st_uid == 0 && st.st_gid == 0 ? 0 : durable_owner(fd, st.st_uid, st.st_gid);
}

int transaction_exchange(int a_dir, const char *a, int b_dir, const char *b, const char *spare) {
    if (durable_exchange(a_dir, a, b_dir, b) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EXDEV)
        return -1;
    if (durable_rename(b_dir, b, a_dir, spare) != 0)
        return -1;
    return durable_rename(a_dir, a, b_dir, b);
}

/* Puts the old file or link back over whatever stands there. The undo file stays until the whole
** transaction is discarded, so that this may be done again. */
static int bring_back(transaction *t, const change *c, int dir, const char *name) {
    char from[16], staged[16];
    snprintf(from, sizeof from, "%u", c->number);
    snprintf(staged, sizeof staged, "u%u", c->number);
    if (durable_unlink(t->stage, staged) != 0 && errno != ENOENT)
        return -1;
    if (durable_link(t->undo, from, t->stage, staged) != 0) {
        if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK && errno != ENOSPC)
            return -1;
        return durable_rename(t->undo, from, dir, name); /* no hard links, or no room for one */
    }
    if (c->before.type == STATE_FILE && durable_mode_at(t->stage, staged, c->before.mode) != 0)
        return -1;
    return durable_rename(t->stage, staged, dir, name);
}

/* Whether a change was never switched in, or is undone already: the very file from before stands
** there, whoever wrote to it since, or the new content still lies in the stage. Then what stands at
** the path is none of our business. */
static bool is_untouched(const transaction *t, const change *c, const state *now) {
    char number[16];
    struct stat st;
    if (now->type == c->before.type && now->inode == c->before.inode)
        return true;
    if (c->kind == CHANGE_REMOVE)
        return false;
    snprintf(number, sizeof number, "%u", c->number);
    return fstatat(t->stage, number, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int undo_file(transaction *t, const change *c, const state *now) {
    const char *name;
    int rc = 0;
    if (state_equal(now, &c->before) || is_untouched(t, c, now))
        return 0;
    int dir = path_parent(t->root, c->path, &name, c->before.type != STATE_ABSENT);
    if (dir < 0)
        return transaction_failed(t, "open the folder of", c->path);
    if (now->type != STATE_ABSENT && !state_equal(now, &c->after))
        rc = move_aside(t, c->path, dir, name);
    else if (c->before.type == STATE_ABSENT && durable_unlink(dir, name) != 0)
        rc = transaction_failed(t, "remove", c->path);
    if (rc == 0 && c->before.type != STATE_ABSENT && bring_back(t, c, dir, name) != 0)
        rc = transaction_failed(t, "bring back", c->path);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* A directory we made goes when nothing of anybody else's is in it. */
static int undo_mkdir(transaction *t, const change *c, const state *now) {
    const char *name;
    int rc = 0;
    if (now->type != STATE_DIRECTORY)
        return 0;
    int dir = path_parent(t->root, c->path, &name, false);
    if (dir < 0)
        return transaction_failed(t, "open the folder of", c->path);
    if (transaction_tidy(t, dir, name) != 0)
        rc = transaction_failed(t, "tidy", c->path);
    else if (durable_rmdir(dir, name) != 0 && errno != ENOTEMPTY && errno != EEXIST)
        rc = transaction_failed(t, "remove", c->path);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* Brings a directory back from the stage. Another directory with files in it stays in its place. */
static int undo_rmdir(transaction *t, const change *c, const state *now) {
    char original[16];
    const char *name;
    int rc = 0;
    if (transaction_original(t, c, original) != 0)
        return 0; /* it was never taken away, or is back already */
    int dir = path_parent(t->root, c->path, &name, true);
    if (dir < 0)
        return transaction_failed(t, "open the folder of", c->path);
    if (now->type == STATE_DIRECTORY)
        rc = transaction_tidy(t, dir, name);
    else if (now->type != STATE_ABSENT)
        rc = move_aside(t, c->path, dir, name);
    if (rc == 0 && durable_rename(t->stage, original, dir, name) != 0 && errno != ENOTEMPTY &&
        errno != EEXIST)
        rc = transaction_failed(t, "bring back", c->path);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

static int undo_mode(transaction *t, const change *c, const state *now) {
    const char *name;
    if (now->type != STATE_DIRECTORY || now->mode != c->after.mode)
        return 0; /* gone, or somebody gave it another mode */
    int dir = path_parent(t->root, c->path, &name, false);
    int rc = dir < 0 ? -1 : durable_mode_at(dir, name, c->before.mode);
    if (rc != 0)
        transaction_failed(t, "set the mode of", c->path);
    int saved = errno;
    if (dir >= 0)
        close(dir);
    errno = saved;
    return rc;
}

static int undo_exchange(transaction *t, const change *c, const state *now) {
    char original[16], spare[16];
    const char *name;
    int rc = 0;
    if (c->before.type == STATE_DIRECTORY && now->type == STATE_DIRECTORY &&
        now->inode == c->before.inode)
        return 0;
    if (c->before.type == STATE_ABSENT && is_untouched(t, c, now))
        return 0;
    int dir = path_parent(t->root, c->path, &name, true);
    if (dir < 0)
        return transaction_failed(t, "open the folder of", c->path);
    transaction_spare(t, 'x', spare);
    if (c->before.type == STATE_ABSENT)
        rc = durable_rename(dir, name, t->stage, spare);
    else if ((rc = transaction_original(t, c, original)) == 0)
        rc = now->type == STATE_ABSENT ? durable_rename(t->stage, original, dir, name)
                                       : transaction_exchange(t->stage, original, dir, name, spare);
    if (rc != 0)
        transaction_failed(t, "bring back", c->path);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

/* Whether what stands at the path is from before an earlier change of it, which is to be undone as
** well: then an undo that a kill cut short came further than this change already. */
static bool is_past(const transaction *t, const change *c, const state *now) {
    for (size_t b = 0; b < t->batch_count; b++) {
        const batch *done = &t->batches[b];
        if (done->undone || done->sequence <= t->undo_to)
            continue;
        for (size_t i = 0; i < done->reached; i++) {
            const change *earlier = &done->changes[i];
            if (earlier == c)
                return false;
            if (earlier->before.type == now->type && earlier->before.inode == now->inode &&
                strcmp(earlier->path, c->path) == 0)
                return true;
        }
    }
    return false;
}

static int undo_change(transaction *t, const change *c) {
    state now;
    int rc = -1;
    if (state_observe(&now, t->root, c->path, t->hash, NULL) != 0)
        return transaction_failed(t, "look at", c->path);
    bool is_new = c->after.content && state_equal(&now, &c->after); /* a file or link */
    if (!is_new && is_past(t, c, &now)) {
        state_free(&now);
        return 0;
    }
    switch (c->kind) {
    case CHANGE_PUT:
    case CHANGE_LINK:
    case CHANGE_REMOVE:
        rc = undo_file(t, c, &now);
        break;
    case CHANGE_MKDIR:
        rc = undo_mkdir(t, c, &now);
        break;
    case CHANGE_RMDIR:
        rc = undo_rmdir(t, c, &now);
        break;
    case CHANGE_EXCHANGE:
        rc = undo_exchange(t, c, &now);
        break;
    case CHANGE_MODE:
        rc = undo_mode(t, c, &now);
        break;
    }
    state_free(&now);
    return rc;
}

/* Links undo/NUMBER to a free name beside the change's path, unless it has one there already. */
static int keep_beside(transaction *t, const change *c, const char *number) {
    char aside[NAME_MAX + 1];
    const char *name;
    struct stat kept, there;
    int dir = path_parent(t->root, c->path, &name, true);
    if (dir < 0)
        return -1;
    int rc = fstatat(t->undo, number, &kept, AT_SYMLINK_NOFOLLOW);
    for (unsigned i = 0; rc == 0; i++) {
        name_aside(t, name, i, aside);
        if (durable_link(t->undo, number, dir, aside) == 0)
            break;
        if (errno != EEXIST)
            rc = -1;
        else if (fstatat(dir, aside, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                 there.st_ino == kept.st_ino)
            break;
    }
    if (rc == 0)
        rc = note_kept(t, c->path, aside);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

int transaction_rescue(transaction *t) {
    for (size_t b = 0; b < t->batch_count; b++) {
        for (size_t i = 0; i < t->batches[b].count; i++) {
            const change *c = &t->batches[b].changes[i];
            state now;
            char number[16];
            if (c->before.type != STATE_FILE || t->batches[b].undone)
                continue;
            snprintf(number, sizeof number, "%u", c->number);
            if (state_observe(&now, t->undo, number, t->hash, NULL) != 0)
                return transaction_failed(t, "look at the old content of", c->path);
            bool changed = now.type == STATE_FILE && strcmp(now.content, c->before.content) != 0;
            state_free(&now);
            if (changed && keep_beside(t, c, number) != 0)
                return transaction_failed(t, "keep the old content of", c->path);
        }
    }
    return durable_sync_all(t->root) == 0 ? 0 : transaction_failed(t, "sync", ".");
}

static int record(transaction *t, uint32_t kind, uint64_t sequence) {
    payload p = {0};
    payload_u64(&p, sequence);
    int rc = journal_append(&t->log, kind, &p);
    if (rc == 0)
        rc = journal_sync(&t->log);
    payload_free(&p);
    return rc == 0 ? 0 : transaction_failed(t, "write", "journal");
}

void transaction_forget(transaction *t, uint64_t sequence) {
    for (size_t i = 0; i < t->batch_count; i++)
        if (t->batches[i].sequence > sequence)
            t->batches[i].undone = true;
    if (t->checkpoint > sequence)
        t->checkpoint = 0;
    t->undoing = false;
}

int transaction_undo(transaction *t, uint64_t sequence) {
    transaction_clear(t);
    /* The intent first: after a kill in the middle, the only way on is to end the undo. */
    if (!t->undoing || t->undo_to > sequence) {
        if (record(t, RECORD_UNDOING, sequence) != 0)
            return -1;
        t->undoing = true;
        t->undo_to = sequence;
        t->committed = false;
    }
    for (size_t b = t->batch_count; b-- > 0;) {
        const batch *done = &t->batches[b];
        if (done->undone || done->sequence <= sequence)
            continue;
        for (size_t i = done->reached; i-- > 0;)
            if (undo_change(t, &done->changes[i]) != 0)
                return -1;
    }
    if (durable_sync_all(t->root) != 0)
        return transaction_failed(t, "sync", ".");
    if (record(t, RECORD_UNDONE, sequence) != 0)
        return -1;
    transaction_forget(t, sequence);
    return 0;
}
