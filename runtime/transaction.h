/*
** transaction.h: changes to a tree that can be undone as a whole, across a kill or a power cut.
**
** On disk a transaction is one directory on the file system of the tree it changes:
**   journal   what was intended, in order (journal.h)
**   stage/N   the new content of change N until it is switched in
**   undo/N    the old content of change N: a second hard link to the old inode
**
** Changes are queued one by one (each stages its new content and links its old), then applied as a
** batch: one journal record with all of them, one sync of the file system, then one rename each.
** So at every instant each path is old or new, and the journal knows both. Undoing walks the
** batches backwards and brings back whatever differs from `before`; every step may be repeated, so
** a kill in the middle of it only means starting it again.
**
** What a person changed in the meantime is never overwritten: a queued change whose path no longer
** is as it was when queued fails with ESTALE ("ECHANGED" in Lua), and an undo that finds neither
** the old nor the new content moves the file aside under a name of its own first.
*/
#ifndef PRAXLUA_TRANSACTION_H
#define PRAXLUA_TRANSACTION_H

#include "change.h"
#include "journal.h"

#include <dirent.h>

typedef struct batch {
    change *changes;
    size_t count;
    size_t reached;    /* how many of them may have been switched in */
    uint64_t sequence; /* of its journal record */
    bool undone;
} batch;

typedef struct transaction {
    int root, dir, stage, undo; /* descriptors: the tree, this transaction, its two folders */
    journal log;
    digest *hash;
    batch *batches;
    size_t batch_count;
    batch queue;             /* not in the journal yet */
    uint32_t next;           /* number of the next change */
    bool undoing, committed; /* an undo was begun and not ended; the changes are final */
    uint64_t undo_to;        /* where the undo stops: batches after this sequence */
    uint64_t checkpoint;     /* sequence of the last valid checkpoint, 0 for none */
    unsigned char *note;     /* its payload. Owned. */
    size_t note_size;
    char *disposable; /* directories of this name may be deleted (caches); NULL for none */
    char tag[9];      /* part of the names given to files moved aside */
    char **kept;      /* what an undo moved aside: their new paths. Owned. */
    size_t kept_count;
    const char *step; /* what failed, for the message */
    char *where;      /* and on which path. Owned. */
} transaction;

/* The kinds of journal records; the numbers are on disk. */
enum {
    RECORD_BEGIN = 1,      /* format version, disposable name */
    RECORD_BATCH = 2,      /* changes */
    RECORD_CHECKPOINT = 3, /* the caller's bytes */
    RECORD_UNDOING = 4,    /* sequence to undo to */
    RECORD_UNDONE = 5,     /* the same, when done */
    RECORD_COMMITTED = 6
};

/* Opens the transaction in the folder `path` beneath the tree `root`, or makes it there. Folders
** named `disposable` may be deleted where they stand in the way of removing another folder. `t`
** must be zero, with its descriptors -1; close it also after a failure. 0, or -1 with errno:
** EEXIST, ENOENT (nothing there, or nothing was begun), EBADMSG (damaged), EPROTONOSUPPORT
** (of a newer praxlua). */
int transaction_open(transaction *t, const char *root, const char *path, bool create,
                     const char *disposable);
void transaction_close(transaction *t);

/* Queue a change: 1, 0 when there is nothing to change, -1 with errno and the failed step.
** put takes its content from the descriptor `from`, or from `data` when that is -1; a negative
** `mode` keeps the old file's. No path may be queued twice in one batch. */
int transaction_put(transaction *t, const char *path, int from, const void *data, size_t size,
                    int mode);
int transaction_symlink(transaction *t, const char *path, const char *target);
int transaction_remove(transaction *t, const char *path);
int transaction_mkdir(transaction *t, const char *path, int mode); /* < 0: 0777 less the umask */
int transaction_rmdir(transaction *t, const char *path);           /* if empty when applied */
int transaction_mode(transaction *t, const char *path, int mode);  /* of a directory */

/* Queue the exchange of the directory `path` with stage/`staged`, which the caller has filled.
** Where nothing stands at `path` it is only moved there; when nothing is staged either, a tool
** will make what the undo then removes. */
int transaction_exchange_with(transaction *t, const char *path, uint32_t staged);

/* The change queued last, for checking what it found. */
const change *transaction_last(const transaction *t);
void transaction_clear(transaction *t); /* forgets the queue and what was staged for it */

/* Applies the queue as one batch. The number of changes, or -1 with errno and the failed step;
** then nothing of the batch remains applied. */
int transaction_apply(transaction *t);

/* Writes the caller's bytes as a point to come back to, durably. */
int transaction_checkpoint(transaction *t, const void *note, size_t size);

/* Makes the changes final. After it the folder only waits to be deleted. */
int transaction_commit(transaction *t);

/* Undoes every batch whose record comes after `sequence`, newest first, durably, and forgets the
** checkpoints after it. 0, or -1 with errno and the failed step; it may be called again. */
int transaction_undo(transaction *t, uint64_t sequence);

/* Looks at every old file once more, before the folder is deleted: one that somebody wrote to
** through a descriptor opened earlier gets a name of its own beside the new file, and is noted in
** `kept`. May be repeated. 0, or -1 with errno and the failed step. */
int transaction_rescue(transaction *t);

/* ---- shared by the files that implement this ---- */

/* Remembers what failed and where; returns -1 and keeps errno. */
int transaction_failed(transaction *t, const char *step, const char *path);
void batch_free(batch *b);

/* What an UNDONE record means for the transaction in memory. */
void transaction_forget(transaction *t, uint64_t sequence);

/* Opens the directory dir/name for readdir, never through a link; NULL with errno. */
DIR *transaction_list(int dir, const char *name);

/* Finds where in the stage folder the original of an exchanged or removed directory lies: 0, or -1
** with ENOENT. */
int transaction_original(const transaction *t, const change *c, char name[16]);

/* From root: gives what `fd` is to whoever owns the folder `dir`. */
int transaction_adopt(int fd, int dir);

/* Renames, but fails with EEXIST when `to` exists; where the file system cannot do that in one
** step, in two. */
int transaction_rename_new(int from_dir, const char *from, int to_dir, const char *to);

/* Exchanges two names, or, where the file system cannot, renames `b` to `spare` in its directory
** and `a` to `b`, which leaves `b` missing for an instant; `a` holds nothing then. */
int transaction_exchange(int a_dir, const char *a, int b_dir, const char *b, const char *spare);

/* A name not yet taken in the stage folder: `letter` and a number. */
void transaction_spare(transaction *t, char letter, char name[16]);

/* Takes the directory named t->disposable out of dir/name, if there is one. */
int transaction_tidy(transaction *t, int dir, const char *name);

#endif
