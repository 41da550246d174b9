/*
** transaction.h: changes to a tree that can be undone as a whole, across a kill or a power cut.
**
** On disk a transaction is one directory on the file system of the tree it changes:
**   journal, journal.copy   what was intended, in order (journal.h)
**   stage/N   the new content of change N until it is switched in; what it replaced after that
**   undo/N    the old content of change N: a second hard link to the old inode. After the undo:
**             what stood there instead
**   reserve/  room that an undo needs (reserve.c)
**   reached.N an empty file: the last record because of which the tree was changed (reached.c)
**
** Changes are queued one by one (each stages its new content and links its old), then applied as a
** batch: one sync of the file system, one journal record with all of them, then one exchange of
** names each. So at every instant each path is old or new, and the journal knows both. Undoing
** walks the batches backwards and brings back whatever differs from `before`; every step may be
** repeated, so a kill in the middle of it only means starting it again.
**
** What is durable when: a batch's staged files and links before its record is written, and that
** before the first of it is switched in; what was switched in, and whatever else was written on the
** file system, before the record of a checkpoint or of the commit is written; that record before
** the call returns. A sync that fails ends the transaction: after it there is only the way back.
**
** What a person changed in the meantime is never overwritten: a queued change whose path no longer
** is as it was when queued fails with ESTALE ("ECHANGED" in Lua), and an undo that finds neither
** the old nor the new content moves the file aside under a name of its own first. Names are
** exchanged, not replaced, and what came out is looked at: a file saved just then is put back.
** Nothing is ever deleted but what the transaction made; a last look (transaction_rescue) before
** the folder goes finds what was written into the old files through descriptors opened earlier.
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
    uint32_t version;   /* of the journal's format */
    uint64_t origin[2]; /* inodes of the tree and of the folder when it was begun */
    uint64_t reached;   /* the last record because of which the tree was changed */
    off_t reserved;     /* bytes in the reserve; 0: there is none */
    batch *batches;
    size_t batch_count;
    batch queue;             /* not in the journal yet */
    uint32_t next;           /* number of the next change */
    bool undoing, committed; /* an undo was begun and not ended; the changes are final */
    bool failed;             /* a sync failed: nothing more but the undo */
    uint64_t undo_to;        /* where the undo stops: batches after this sequence */
    uint64_t checkpoint;     /* sequence of the last valid checkpoint, 0 for none */
    unsigned char *note;     /* payload of the last checkpoint, also when it was undone. Owned. */
    size_t note_size;
    char *disposable; /* directories of this name may be deleted (caches); NULL for none */
    char tag[9];      /* part of the names given to files moved aside */
    char **kept;      /* what was moved aside: their new paths. Owned. */
    size_t kept_count, kept_told;
    const change *
        *lost; /* changes whose old content the undo did not find. Owned; not the changes. */
    size_t lost_count;
    const char *step; /* what failed, for the message */
    char *where;      /* and on which path. Owned. */
} transaction;

/* The kinds of journal records; the numbers are on disk. */
enum {
    RECORD_BEGIN = 1,      /* format version, disposable name, inodes of tree and folder */
    RECORD_BATCH = 2,      /* changes */
    RECORD_CHECKPOINT = 3, /* the caller's bytes */
    RECORD_UNDOING = 4,    /* sequence to undo to */
    RECORD_UNDONE = 5,     /* the same, when done */
    RECORD_COMMITTED = 6,
    RECORD_KEPT = 7 /* path: somebody's file is about to be moved aside to there */
};

/* The old content of a change is not there, or is not what the journal says. */
#define TRANSACTION_ELOST ENODATA

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
** checkpoints after it. 0, or -1 with errno and the failed step; it may be called again.
** TRANSACTION_ELOST: everything was undone but the changes in t->lost; supply what they miss, or
** bring those files back otherwise, and call it again. */
int transaction_undo(transaction *t, uint64_t sequence);

/* Gives a lost old file's content, read from the descriptor `from`, to the undo: 0, or -1 with
** errno; ESTALE when it is not the content that was lost. */
int transaction_supply(transaction *t, const char *path, int from);

/* Looks at everything in the transaction's folder once more, before it is deleted: what somebody
** wrote into an old file, or into one that an undo took out, through a descriptor opened earlier,
** or put into a folder that was removed, gets a name of its own beside, and is noted in `kept`.
** May be repeated. 0, or -1 with errno and the failed step: then the folder must stay. */
int transaction_rescue(transaction *t);

/* ---- shared by the files that implement this ---- */

/* Remembers what failed and where; returns -1 and keeps errno. */
int transaction_failed(transaction *t, const char *step, const char *path);
void batch_free(batch *b);

/* 0, or -1 with errno when only the undo is left to do. */
int transaction_ready(transaction *t);

/* A sync of the whole file system, whose failure ends the transaction. */
int transaction_sync(transaction *t);

/* What a transaction's folder takes for the reserve at first, and in inodes altogether: folders,
** journals, the reserve, the note of what was reached, and a journal's new file. */
enum { TRANSACTION_ROOM = 2 * 1024 * 1024, TRANSACTION_INODES = 17 };

/* Sees to it that there is a reserve for what the journal holds now: 0, or -1 with errno. And
** gives it back, where there is one; its failure changes nothing. */
int transaction_reserve(transaction *t);
void transaction_measure(transaction *t); /* what an earlier process left of it */
void transaction_release(transaction *t);

/* Notes on the disk that the tree is changed from here on because of the journal's last record,
** which is durable: 0, or -1 with errno. And finds that note when a transaction is opened; EBADMSG:
** the journal has lost that record. */
int transaction_reach(transaction *t);
int transaction_find_reached(transaction *t);

/* Remembers, durably, that somebody's file gets the path `name` beside `path`. */
int transaction_note_kept(transaction *t, const char *path, const char *name);
int transaction_add_kept(transaction *t, char *path); /* takes the string over */

/* Gives from_dir/from, which is somebody's, a name of its own in `dir`, beside the change's
** path. */
int transaction_move_aside(transaction *t, const change *c, int from_dir, const char *from,
                           int dir);

/* Links folder/number, an old file that somebody wrote to, to a free name beside the change's path,
** unless it has one there already. What cannot be linked is moved there. */
int transaction_keep_beside(transaction *t, const change *c, int folder, const char *number);

/* Whether there is nothing in the directory dir/name but a cache: 1, 0 or -1. */
int transaction_is_empty(const transaction *t, int dir, const char *name);

/* Copies a file's content, from the descriptor `from` or from `data` when that is -1, into the
** descriptor `fd`, and hashes it. */
int transaction_fill(transaction *t, int fd, int from, const void *data, size_t size,
                     char hex[DIGEST_HEX]);

/* What an UNDONE record means for the transaction in memory. */
void transaction_forget(transaction *t, uint64_t sequence);

/* Opens the directory dir/name for readdir, never through a link; NULL with errno. */
DIR *transaction_list(int dir, const char *name);

/* Finds where in the stage folder the original of an exchanged or removed directory lies: 0, or -1
** with ENOENT. */
int transaction_original(const transaction *t, const change *c, char name[16]);

/* Whether a name in a folder is the inode `inode`; 0 is none. */
bool transaction_is(int dir, const char *name, uint64_t inode);

/* From root: gives what `fd` is to whoever owns the folder `dir`. */
int transaction_adopt(int fd, int dir);

/* From root: makes that the owner of what `fd` is, as far as this root may. */
int transaction_give(int fd, uid_t uid, gid_t gid);

/* Renames what is in our own folder, but fails with EEXIST when `to` exists; where the file system
** cannot do that in one step, by a link. */
int transaction_rename_new(int from_dir, const char *from, int to_dir, const char *to);

/* Whether an error says that the file system cannot exchange two names. */
bool transaction_cannot_exchange(int error);

/* Exchanges two names, or, where the file system cannot, renames `b` to `spare` in its directory
** and `a` to `b`, which leaves `b` missing for an instant; `a` holds nothing then. */
int transaction_exchange(int a_dir, const char *a, int b_dir, const char *b, const char *spare);

/* A name not yet taken in the stage folder: `letter` and a number. */
void transaction_spare(transaction *t, char letter, char name[16]);

/* Takes the directory named t->disposable out of dir/name, if there is one. */
int transaction_tidy(transaction *t, int dir, const char *name);

#endif
