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

/* Whether stage/N is still what was staged, and not what was exchanged for it. In a copy of the
** tree (record.c) the content has to tell. */
static bool is_staged(const transaction *t, const change *c, const char *number) {
    struct stat st;
    state is;
    if (fstatat(t->stage, number, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (c->kind == CHANGE_EXCHANGE) /* where nothing stood: it would have been moved away */
        return true;
    if (c->after.inode)
        return st.st_ino == c->after.inode;
    if (state_observe(&is, t->stage, number, t->hash, NULL) != 0)
        return false;
    bool same = state_equal(&is, &c->after);
    state_free(&is);
    return same;
}

/* Whether a change was never switched in, or is undone already: the very file from before stands
** there, whoever wrote to it since, or the new content still lies in the stage. Then what stands at
** the path is none of our business. */
static bool is_untouched(const transaction *t, const change *c, const state *now) {
    char number[16];
    struct stat st;
    if (now->type == c->before.type && now->inode == c->before.inode)
        return true;
    if (c->kind == CHANGE_REMOVE || (c->after.inode && now->inode == c->after.inode))
        return false;
    snprintf(number, sizeof number, "s%u", c->number);
    if (now->type == STATE_ABSENT && fstatat(t->stage, number, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return false; /* out, and not in yet: a file system that cannot exchange */
    snprintf(number, sizeof number, "%u", c->number);
    return is_staged(t, c, number);
}

/* Whether what a change found may be what is there `now`. In a copy of the tree the type has to do:
** should it be another file, then undoing the earlier change moves that aside. */
static bool may_be(const state *before, const state *now) {
    return before->type == now->type && (before->inode == 0 || before->inode == now->inode);
}

/* Whether a change that comes before `c` and is to be undone as well is of the same path, and, with
** `now`, found there what stands there now. */
static bool has_earlier(const transaction *t, const change *c, const state *now) {
    for (size_t b = 0; b < t->batch_count; b++) {
        const batch *done = &t->batches[b];
        if (c >= done->changes && c < done->changes + done->count)
            return false; /* no path is twice in one batch */
        if (done->undone || done->sequence <= t->undo_to)
            continue;
        for (size_t i = 0; i < done->reached; i++) {
            const change *earlier = &done->changes[i];
            if (strcmp(earlier->path, c->path) == 0 && (!now || may_be(&earlier->before, now)))
                return true;
        }
    }
    return false;
}

/* Notes that the old content of a change is gone, and goes on. */
static int lose(transaction *t, const change *c) {
    const change **lost = realloc(t->lost, (t->lost_count + 1) * sizeof(const change *));
    if (!lost)
        return transaction_failed(t, "bring back", c->path);
    t->lost = lost;
    lost[t->lost_count++] = c;
    return 0;
}

/* What lies in undo/N. */
typedef enum { OLD_FAILED = -1, OLD_THERE, OLD_GIVEN, OLD_LOST } old_content;

/* Puts a second name of the old inode, or the link, back into undo/N: 0 when it could. */
static int find_again(transaction *t, const change *c, const char *number) {
    state is;
    if (c->before.type == STATE_LINK)
        return durable_symlink(c->before.content, t->undo, number);
    if (state_observe(&is, t->stage, number, t->hash, NULL) != 0)
        return -1;
    bool same = state_same_content(&is, &c->before);
    state_free(&is);
    return same ? durable_link(t->stage, number, t->undo, number) : -1;
}

/* The old file has other content. Somebody wrote into it, who had it open when it was replaced, or
** by another name: then it is theirs, and comes back with what they wrote, which is told. When its
** time has not moved, the disk lost its content; what is left is kept beside. */
static old_content judge(transaction *t, const change *c, const char *number, const state *is) {
    const char *slash = strrchr(c->path, '/');
    if (is->type == STATE_FILE && c->before.type == STATE_FILE && c->before.time != 0 &&
        is->time != c->before.time) {
        if (transaction_note_kept(t, c->path, slash ? slash + 1 : c->path) == 0)
            return OLD_THERE;
    } else if (transaction_keep_beside(t, c, t->undo, number) == 0) {
        return OLD_LOST;
    }
    return transaction_failed(t, "keep the old content of", c->path);
}

/* The old content, proven by its hash; given back already, and what stood at the path is here
** instead; or lost. `now` is what stands at the path. */
static old_content find_old(transaction *t, const change *c, const char *number, const state *now) {
    state is;
    old_content found;
    /* An exchange of which a crash kept one half: both names are the new file. */
    if (now->type != STATE_ABSENT && transaction_is(t->undo, number, now->inode) &&
        now->inode != c->before.inode && state_equal(now, &c->after) &&
        durable_unlink(t->undo, number) != 0)
        return transaction_failed(t, "look for the old content of", c->path);
    if (state_observe(&is, t->undo, number, t->hash, NULL) != 0)
        return errno == EIO ? OLD_LOST
                            : transaction_failed(t, "look at the old content of", c->path);
    if (state_same_content(&is, &c->before))
        found = OLD_THERE;
    else if (is.type == STATE_ABSENT)
        found = find_again(t, c, number) == 0 ? OLD_THERE : OLD_LOST;
    else if (state_same_content(&is, &c->after) || is.inode == c->after.inode)
        found = OLD_GIVEN;
    else
        found = judge(t, c, number, &is);
    bool other_mode = is.type == STATE_FILE && is.mode != c->before.mode;
    if (found == OLD_THERE && other_mode && durable_mode_at(t->undo, number, c->before.mode) != 0)
        found = transaction_failed(t, "set the mode of", c->path);
    state_free(&is);
    return found;
}

/* Puts the old file where nothing stands: 1, 0 when something came there meanwhile, or -1. The undo
** file stays, so that this may be done again. */
static int put_there(transaction *t, const change *c, const char *number, int dir,
                     const char *name) {
    if (durable_link(t->undo, number, dir, name) == 0)
        return 1;
    if (errno != EEXIST && transaction_rename_new(t->undo, number, dir, name) == 0)
        return 1; /* no hard links, or no room for one */
    return errno == EEXIST ? 0 : transaction_failed(t, "bring back", c->path);
}

/* What came out of the tree into folder/`out`: somebody's if it is not what was looked at, because
** they saved it just then; it gets a name of its own. */
static int look_at(transaction *t, const change *c, int folder, const char *out, int dir,
                   const state *now) {
    if (transaction_is(folder, out, now->inode))
        return 0;
    return transaction_move_aside(t, c, folder, out, dir);
}

/* Without an exchange: out, in, and nothing stands there for an instant. */
static int out_and_in(transaction *t, const change *c, const char *number, int dir,
                      const char *name, const state *now) {
    char out[16];
    snprintf(out, sizeof out, "u%u", c->number);
    if (faccessat(t->stage, out, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
        transaction_move_aside(t, c, t->stage, out, dir) != 0) /* an earlier try left it there */
        return -1;
    if (durable_rename(dir, name, t->stage, out) != 0)
        return errno == ENOENT ? 0 : transaction_failed(t, "bring back", c->path);
    if (look_at(t, c, t->stage, out, dir, now) != 0)
        return -1;
    return put_there(t, c, number, dir, name);
}

/* Exchanges the new file for the old one: 1, 0 when something came there meanwhile, or -1. */
static int swap_back(transaction *t, const change *c, const char *number, int dir, const char *name,
                     const state *now) {
    if (durable_exchange(t->undo, number, dir, name) == 0)
        return look_at(t, c, t->undo, number, dir, now) == 0 ? 1 : -1;
    if (errno == ENOENT)
        return 0;
    if (transaction_cannot_exchange(errno))
        return out_and_in(t, c, number, dir, name, now);
    return transaction_failed(t, "bring back", c->path);
}

/* Takes a file away that was not there before: 1, 0 when it is gone, or -1. A power cut may leave
** it both names, and then a rename of one to the other does nothing. */
static int take_out(transaction *t, const change *c, int dir, const char *name, const state *now,
                    bool has_both) {
    char out[16];
    int folder = has_both ? t->stage : t->undo; /* where nothing is of that name */
    snprintf(out, sizeof out, has_both ? "u%u" : "%u", c->number);
    if (durable_rename(dir, name, folder, out) != 0)
        return errno == ENOENT ? 0 : transaction_failed(t, "remove", c->path);
    return look_at(t, c, folder, out, dir, now) == 0 ? 1 : -1;
}

/* The old content is lost. Where an earlier change has still older content to bring back, only ours
** goes away. */
static int undo_lost(transaction *t, const change *c, int dir, const char *name, const state *now,
                     bool is_new) {
    char spare[16];
    if (!has_earlier(t, c, NULL))
        return lose(t, c) == 0 ? 1 : -1;
    if (!is_new)
        return 1;
    transaction_spare(t, 'l', spare);
    if (durable_rename(dir, name, t->stage, spare) != 0)
        return errno == ENOENT ? 1 : transaction_failed(t, "bring back", c->path);
    return look_at(t, c, t->stage, spare, dir, now) == 0 ? 1 : -1;
}

/* One try to undo a change of a file or link: 1 when it is done, 0 when what stands there has
** changed or was moved aside, and another try is due, or -1. */
static int try_undo_file(transaction *t, const change *c, int dir, const char *name,
                         const state *now) {
    char number[16];
    struct stat st;
    bool is_new = now->type != STATE_ABSENT && state_equal(now, &c->after);
    snprintf(number, sizeof number, "%u", c->number);
    if (c->before.type == STATE_ABSENT) {
        bool taken = fstatat(t->undo, number, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (taken && st.st_ino != now->inode)
            return 1; /* ours was taken away already */
        if (taken || is_new)
            return take_out(t, c, dir, name, now, taken);
    } else {
        old_content old = find_old(t, c, number, now);
        if (old == OLD_LOST)
            return undo_lost(t, c, dir, name, now, is_new);
        if (old != OLD_THERE)
            return old == OLD_GIVEN ? 1 : -1;
        if (now->type == STATE_ABSENT)
            return put_there(t, c, number, dir, name);
        if (is_new)
            return swap_back(t, c, number, dir, name, now);
    }
    if (transaction_move_aside(t, c, dir, name, dir) == 0)
        return 0;
    return errno == ENOENT ? 0 : -1; /* gone just now */
}

static int undo_file(transaction *t, const change *c) {
    enum { TRIES = 20 };
    int done = 0;
    for (int i = 0; done == 0; i++) {
        state now;
        const char *name;
        if (i == TRIES) {
            errno = EBUSY; /* somebody saves it faster than it can be looked at */
            return transaction_failed(t, "bring back", c->path);
        }
        if (state_look(&now, t->root, c->path, t->hash) != 0)
            return transaction_failed(t, "look at", c->path);
        if (state_equal(&now, &c->before) || is_untouched(t, c, &now)) {
            state_free(&now);
            return 0;
        }
        int dir = path_parent(t->root, c->path, &name, c->before.type != STATE_ABSENT);
        done = dir < 0 ? transaction_failed(t, "open the folder of", c->path)
                       : try_undo_file(t, c, dir, name, &now);
        int saved = errno;
        if (dir >= 0)
            close(dir);
        errno = saved;
        state_free(&now);
    }
    return done < 0 ? -1 : 0;
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
        rc = transaction_move_aside(t, c, dir, name, dir);
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
    if (c->before.type == STATE_DIRECTORY && transaction_original(t, c, original) != 0)
        return lose(t, c);
    int dir = path_parent(t->root, c->path, &name, true);
    if (dir < 0)
        return transaction_failed(t, "open the folder of", c->path);
    transaction_spare(t, 'x', spare);
    if (c->before.type == STATE_ABSENT)
        rc = durable_rename(dir, name, t->stage, spare);
    else
        rc = now->type == STATE_ABSENT ? durable_rename(t->stage, original, dir, name)
                                       : transaction_exchange(t->stage, original, dir, name, spare);
    if (rc != 0)
        transaction_failed(t, "bring back", c->path);
    int saved = errno;
    close(dir);
    errno = saved;
    return rc;
}

static int undo_change(transaction *t, const change *c) {
    state now;
    int rc = -1;
    if (state_look(&now, t->root, c->path, t->hash) != 0)
        return transaction_failed(t, "look at", c->path);
    /* What stands there may be from before an earlier change, which is to be undone as well: then
    ** an undo that a kill cut short came further than this change already. */
    bool is_new = c->after.content && state_equal(&now, &c->after); /* a file or link */
    if (!is_new && c->kind != CHANGE_MODE && has_earlier(t, c, &now)) {
        state_free(&now);
        return 0;
    }
    switch (c->kind) {
    case CHANGE_PUT:
    case CHANGE_LINK:
    case CHANGE_REMOVE:
        rc = undo_file(t, c);
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

static int record(transaction *t, uint32_t kind, uint64_t sequence) {
    payload p = {0};
    payload_u64(&p, sequence);
    int rc = journal_append(&t->log, kind, &p);
    payload_free(&p);
    return rc == 0 ? 0 : transaction_failed(t, "write", "journal");
}

/* The intent first: after a kill in the middle, the only way on is to end the undo. */
static int begin_undo(transaction *t, uint64_t sequence) {
    if (t->undoing && t->undo_to <= sequence)
        return 0;
    if (record(t, RECORD_UNDOING, sequence) != 0)
        return -1;
    if (journal_sync(&t->log) != 0)
        return transaction_failed(t, "write", "journal");
    t->undoing = true;
    t->undo_to = sequence;
    t->committed = false;
    return 0;
}

void transaction_forget(transaction *t, uint64_t sequence) {
    for (size_t i = 0; i < t->batch_count; i++)
        if (t->batches[i].sequence > sequence)
            t->batches[i].undone = true;
    if (t->checkpoint > sequence)
        t->checkpoint = 0;
    t->undoing = false;
}

static int undo(transaction *t, uint64_t sequence) {
    t->lost_count = 0;
    if (begin_undo(t, sequence) != 0)
        return -1;
    transaction_reach(t); /* without it only damage to the journal would be harder to tell */
    for (size_t b = t->batch_count; b-- > 0;) {
        const batch *done = &t->batches[b];
        if (done->undone || done->sequence <= sequence)
            continue;
        for (size_t i = done->reached; i-- > 0;)
            if (undo_change(t, &done->changes[i]) != 0)
                return -1;
    }
    if (transaction_sync(t) != 0)
        return -1;
    if (t->lost_count) { /* the undo stays open, until they were supplied or came back otherwise */
        errno = TRANSACTION_ELOST;
        return transaction_failed(t, "bring back", t->lost[0]->path);
    }
    /* Durable with the next record; without it the undo would only be repeated. */
    if (record(t, RECORD_UNDONE, sequence) != 0)
        return -1;
    transaction_forget(t, sequence);
    return 0;
}

/* The reserve goes as late as may be: what it makes room for, others can take. */
int transaction_undo(transaction *t, uint64_t sequence) {
    transaction_clear(t);
    int rc = undo(t, sequence);
    if (rc != 0 && t->reserved && (errno == ENOSPC || errno == EDQUOT)) {
        transaction_release(t);
        rc = undo(t, sequence);
    }
    if (rc == 0)
        transaction_release(t); /* for what the caller writes now */
    return rc;
}

static const change *find_lost(const transaction *t, const char *path) {
    for (size_t i = 0; i < t->lost_count; i++)
        if (strcmp(t->lost[i]->path, path) == 0 && t->lost[i]->before.type == STATE_FILE)
            return t->lost[i];
    errno = ENOENT;
    return NULL;
}

int transaction_supply(transaction *t, const char *path, int from) {
    char spare[16], number[16], hex[DIGEST_HEX];
    const change *c = find_lost(t, path);
    if (!c)
        return transaction_failed(t, "supply", path);
    transaction_spare(t, 'f', spare);
    int fd = durable_create(t->stage, spare, 0600);
    int rc = fd < 0 ? -1 : transaction_fill(t, fd, from, NULL, 0, hex);
    if (rc == 0 && strcmp(hex, c->before.content) != 0) {
        errno = ESTALE;
        rc = -1;
    }
    if (rc == 0 && (transaction_adopt(fd, t->root) != 0 || durable_mode(fd, c->before.mode) != 0 ||
                    durable_sync(fd) != 0))
        rc = -1;
    int saved = errno;
    if (fd >= 0 && durable_close(fd) != 0 && rc == 0)
        rc = -1;
    else
        errno = saved;
    snprintf(number, sizeof number, "%u", c->number);
    if (rc == 0)
        rc = durable_rename(t->stage, spare, t->undo, number);
    else if (fd >= 0)
        durable_unlink(t->stage, spare);
    return rc == 0 ? 0 : transaction_failed(t, "supply", path);
}
