/*
** record.c: a transaction and its journal: opening, reading back, checkpoints, the end.
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

/* 1: one copy of the journal, and no times in it; 2: does not know a copy of the tree */
enum { FORMAT_VERSION = 3 };

int transaction_failed(transaction *t, const char *step, const char *path) {
    int saved = errno;
    free(t->where);
    t->where = strdup(path);
    t->step = step;
    errno = saved;
    return -1;
}

void transaction_spare(transaction *t, char letter, char name[16]) {
    struct stat st;
    do
        snprintf(name, 16, "%c%u", letter, t->next++);
    while (fstatat(t->stage, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
}

static int load_batch(transaction *t, uint64_t sequence, payload *p) {
    uint32_t count = payload_get_u32(p);
    if (p->failed || count > p->size)
        return -1;
    batch *all = realloc(t->batches, (t->batch_count + 1) * sizeof *all);
    if (!all)
        return -1;
    t->batches = all;
    batch *b = &all[t->batch_count++];
    *b = (batch){.changes = calloc(count ? count : 1, sizeof(change)), .sequence = sequence};
    if (!b->changes)
        return -1;
    for (; b->count < count; b->count++) {
        if (change_read(&b->changes[b->count], p, t->version) != 0)
            return -1;
        if (b->changes[b->count].number >= t->next)
            t->next = b->changes[b->count].number + 1;
    }
    b->reached = count; /* a kill may have come after all of them */
    return 0;
}

static int load_checkpoint(transaction *t, uint64_t sequence, payload *p) {
    size_t size;
    const unsigned char *data = payload_get_bytes(p, &size);
    unsigned char *note = p->failed ? NULL : malloc(size ? size : 1);
    if (!note)
        return -1;
    memcpy(note, data, size);
    free(t->note);
    t->note = note;
    t->note_size = size;
    t->checkpoint = sequence;
    return 0;
}

static int load_record(void *context, uint32_t kind, uint64_t sequence, payload *p) {
    transaction *t = context;
    int rc = 0;
    errno = 0;
    if ((kind == RECORD_BEGIN) != (sequence == 1))
        kind = 0;
    switch (kind) {
    case RECORD_BEGIN:
        t->version = payload_get_u32(p);
        if (t->version > FORMAT_VERSION) {
            errno = EPROTONOSUPPORT;
            return -1;
        }
        t->disposable = payload_get_string(p);
        if (t->disposable && *t->disposable &&
            (strchr(t->disposable, '/') || !path_is_normal(t->disposable, strlen(t->disposable))))
            rc = -1; /* no name of a folder */
        if (t->version > 2) {
            t->origin[0] = payload_get_u64(p);
            t->origin[1] = payload_get_u64(p);
        }
        break;
    case RECORD_BATCH:
        rc = load_batch(t, sequence, p);
        break;
    case RECORD_CHECKPOINT:
        rc = load_checkpoint(t, sequence, p);
        break;
    case RECORD_UNDOING:
        t->undo_to = payload_get_u64(p);
        t->undoing = true;
        t->committed = false; /* the commit could not be made durable, and was taken back */
        break;
    case RECORD_UNDONE:
        transaction_forget(t, payload_get_u64(p));
        break;
    case RECORD_COMMITTED:
        t->committed = true;
        break;
    case RECORD_KEPT:
        rc = transaction_add_kept(t, payload_get_string(p));
        break;
    default:
        rc = -1;
    }
    if (rc == 0 && !p->failed)
        return 0;
    if (errno != ENOMEM) /* which is no damage */
        errno = EBADMSG;
    return -1;
}

void batch_free(batch *b) {
    for (size_t i = 0; i < b->count; i++)
        change_free(&b->changes[i]);
    free(b->changes);
    *b = (batch){0};
}

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void transaction_close(transaction *t) {
    journal_close(&t->log);
    close_fd(&t->stage);
    close_fd(&t->undo);
    close_fd(&t->dir);
    close_fd(&t->root);
    digest_free(t->hash);
    t->hash = NULL;
    for (size_t i = 0; i < t->batch_count; i++)
        batch_free(&t->batches[i]);
    free(t->batches);
    t->batches = NULL;
    t->batch_count = 0;
    batch_free(&t->queue);
    for (size_t i = 0; i < t->kept_count; i++)
        free(t->kept[i]);
    free(t->kept);
    t->kept = NULL;
    t->kept_count = 0;
    free(t->lost);
    t->lost = NULL;
    t->lost_count = 0;
    free(t->note);
    free(t->disposable);
    free(t->where);
    t->note = NULL;
    t->disposable = t->where = NULL;
}

static int make_folders(transaction *t, const char *path) {
    const char *name;
    int parent = path_parent(t->root, path, &name, true);
    if (parent < 0)
        return -1;
    int rc = durable_mkdir(parent, name, 0700);
    int saved = errno;
    close(parent);
    errno = saved;
    if (rc != 0)
        return -1;
    t->dir = path_open(t->root, path, O_RDONLY | O_DIRECTORY);
    if (t->dir < 0)
        return -1;
    return durable_mkdir(t->dir, "stage", 0700) || durable_mkdir(t->dir, "undo", 0700) ? -1 : 0;
}

/* The numbers by which a copy of the tree is told from the one the transaction was begun in. */
static int find_origin(const transaction *t, uint64_t origin[2]) {
    struct stat tree, folder;
    if (fstat(t->root, &tree) != 0 || fstat(t->dir, &folder) != 0)
        return -1;
    origin[0] = tree.st_ino;
    origin[1] = folder.st_ino;
    return 0;
}

/* Where the tree was copied, or the file system numbers its inodes anew at each mount, the numbers
** in the journal are those of other files: they are forgotten, and the content alone tells. */
static int forget_strange_inodes(transaction *t) {
    uint64_t origin[2];
    if (t->version <= 2)
        return 0;
    if (find_origin(t, origin) != 0)
        return -1;
    if (origin[0] == t->origin[0] && origin[1] == t->origin[1])
        return 0;
    for (size_t b = 0; b < t->batch_count; b++)
        for (size_t i = 0; i < t->batches[b].count; i++)
            t->batches[b].changes[i].before.inode = t->batches[b].changes[i].after.inode = 0;
    return 0;
}

static int begin(transaction *t, const char *disposable) {
    payload p = {0};
    if (find_origin(t, t->origin) != 0 || transaction_reach(t) != 0)
        return -1;
    payload_u32(&p, FORMAT_VERSION);
    payload_string(&p, disposable);
    payload_u64(&p, t->origin[0]);
    payload_u64(&p, t->origin[1]);
    t->version = FORMAT_VERSION;
    t->disposable = strdup(disposable ? disposable : "");
    int rc = t->disposable ? journal_append(&t->log, RECORD_BEGIN, &p) : -1;
    payload_free(&p);
    return rc == 0 ? transaction_reserve(t) : -1; /* durable with the first batch or checkpoint */
}

DIR *transaction_list(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return d;
}

/* Raises t->next above every number in a folder: a run that was killed while it queued left files
** there that no journal record tells of. */
static int skip_names(transaction *t, int folder) {
    DIR *d = transaction_list(folder, ".");
    if (!d)
        return -1;
    const struct dirent *e;
    while (errno = 0, (e = readdir(d)) != NULL) {
        const char *digits = e->d_name + (e->d_name[0] >= 'a' && e->d_name[0] <= 'z');
        unsigned long number = strtoul(digits, NULL, 10);
        if (number >= t->next && number < UINT32_MAX)
            t->next = (uint32_t)number + 1;
    }
    int error = errno;
    closedir(d);
    errno = error;
    return error ? -1 : 0;
}

/* Opens one of the transaction's own folders. Where there is a journal and somebody took the folder
** away, an undo tells what is lost with it. */
static int open_folder(const transaction *t, const char *name) {
    int fd = path_open(t->dir, name, O_RDONLY | O_DIRECTORY);
    if (fd < 0 && errno == ENOENT && t->log.sequence > 0 && durable_mkdir(t->dir, name, 0700) == 0)
        fd = path_open(t->dir, name, O_RDONLY | O_DIRECTORY);
    return fd;
}

/* What was read so far of a journal that could not be opened. */
static void unload(transaction *t) {
    for (size_t i = 0; i < t->batch_count; i++)
        batch_free(&t->batches[i]);
    for (size_t i = 0; i < t->kept_count; i++)
        free(t->kept[i]);
    t->batch_count = t->kept_count = 0;
    t->undoing = t->committed = false;
    t->checkpoint = 0;
    free(t->disposable);
    t->disposable = NULL;
}

/* On a full disk the reserve makes room for the journal's new files. */
static int open_journal(transaction *t, bool create) {
    int rc = journal_open(&t->log, t->dir, create, load_record, t);
    if (rc == 0 || create || (errno != ENOSPC && errno != EDQUOT))
        return rc;
    transaction_release(t);
    unload(t);
    return journal_open(&t->log, t->dir, create, load_record, t);
}

int transaction_open(transaction *t, const char *root, const char *path, bool create,
                     const char *disposable) {
    t->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->root < 0)
        return transaction_failed(t, "open", root);
    t->hash = digest_new();
    if (!t->hash)
        return transaction_failed(t, "open", root);
    if (create && make_folders(t, path) != 0)
        return transaction_failed(t, "make", path);
    if (!create && (t->dir = path_open(t->root, path, O_RDONLY | O_DIRECTORY)) < 0)
        return transaction_failed(t, "open", path);
    transaction_measure(t);
    if (open_journal(t, create) != 0)
        return transaction_failed(t, "read the journal of", path);
    if ((t->stage = open_folder(t, "stage")) < 0 || (t->undo = open_folder(t, "undo")) < 0)
        return transaction_failed(t, "open the folders of", path);
    if (create && begin(t, disposable) != 0)
        return transaction_failed(t, "write the journal of", path);
    if (transaction_find_reached(t) != 0)
        return transaction_failed(t, "read the journal of", path);
    if (t->log.sequence == 0) { /* killed while it was made: nothing was changed yet */
        errno = ENOENT;
        return transaction_failed(t, "read the journal of", path);
    }
    if (forget_strange_inodes(t) != 0 || skip_names(t, t->stage) != 0 ||
        skip_names(t, t->undo) != 0)
        return transaction_failed(t, "list the folders of", path);
    if (t->disposable && !*t->disposable) {
        free(t->disposable);
        t->disposable = NULL;
    }
    const char *name = strrchr(path, '/');
    snprintf(t->tag, sizeof t->tag, "%s", name ? name + 1 : path);
    return 0;
}

int transaction_ready(transaction *t) {
    if (!t->failed && !t->undoing)
        return 0;
    errno = EIO;
    return transaction_failed(t, "go on after", "a failed sync or undo");
}

int transaction_sync(transaction *t) {
    if (durable_sync_all(t->root) == 0) {
        journal_synced(&t->log);
        return 0;
    }
    /* What became of the journal on the disk is as unknown as the rest. */
    transaction_failed(t, "sync", ".");
    journal_distrust(&t->log);
    t->failed = true;
    return -1;
}

/* Appends a record that says that all before it is done, once that is durable. */
static int seal(transaction *t, uint32_t kind, const payload *p) {
    if (transaction_ready(t) != 0 || transaction_sync(t) != 0)
        return -1;
    if (journal_append(&t->log, kind, p) != 0)
        return transaction_failed(t, "write", "journal");
    if (journal_sync(&t->log) == 0)
        return 0;
    t->failed = true;
    return transaction_failed(t, "write", "journal");
}

int transaction_checkpoint(transaction *t, const void *note, size_t size) {
    payload p = {0};
    payload_bytes(&p, note, size);
    int rc = seal(t, RECORD_CHECKPOINT, &p);
    if (rc == 0) {
        p.at = 0;
        rc = load_checkpoint(t, t->log.sequence, &p);
    }
    if (rc == 0 && transaction_reserve(t) != 0)
        rc = transaction_failed(t, "reserve room in", "the transaction's folder");
    payload_free(&p);
    return rc;
}

int transaction_commit(transaction *t) {
    payload p = {0};
    if (seal(t, RECORD_COMMITTED, &p) != 0)
        return -1;
    t->committed = true;
    transaction_release(t);
    return 0;
}

int transaction_add_kept(transaction *t, char *path) {
    char **kept = path ? realloc(t->kept, (t->kept_count + 1) * sizeof *kept) : NULL;
    if (!kept) {
        free(path);
        return -1;
    }
    t->kept = kept;
    kept[t->kept_count++] = path;
    return 0;
}

int transaction_note_kept(transaction *t, const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    int prefix = slash ? (int)(slash - path + 1) : 0;
    char *all;
    if (asprintf(&all, "%.*s%s", prefix, path, name) < 0)
        return -1;
    for (size_t i = 0; i < t->kept_count; i++)
        if (strcmp(t->kept[i], all) == 0) {
            free(all);
            return 0;
        }
    payload p = {0};
    payload_string(&p, all);
    /* For a process that goes on after a kill. To keep the file matters more than to tell of it. */
    if (journal_append(&t->log, RECORD_KEPT, &p) == 0)
        journal_sync(&t->log);
    payload_free(&p);
    return transaction_add_kept(t, all);
}
