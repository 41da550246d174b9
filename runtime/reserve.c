/*
** reserve.c: room kept in the transaction's folder, so that going back needs none.
**
** An undo itself exchanges names, which takes no room. Around it are written: both copies of the
** journal anew (after a kill), the session's state, a few records and now and then a folder. The
** reserve holds that much, in blocks and in inodes, and is given back when an undo finds the disk
** full, at its end and after the commit. The journal's own files have room for the records of an
** undo besides.
*/
#define _GNU_SOURCE
#include "transaction.h"

#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    BASE = 1024 * 1024, /* bytes */
    STEP = 256 * 1024,  /* the reserve grows in steps, so that this is seldom work */
    TIMES = 4,          /* a journal holds the session's state: room for that, several times */
    INODES = 6,
};

#define FOLDER "reserve"
#define BLOCKS "blocks"

static int open_folder(const transaction *t) {
    return path_open(t->dir, FOLDER, O_RDONLY | O_DIRECTORY);
}

/* The folder with its inodes; the blocks come last, so that they tell that the rest is there. */
static int make_folder(const transaction *t) {
    char name[16];
    if (durable_mkdir(t->dir, FOLDER, 0700) != 0 && errno != EEXIST)
        return -1;
    int folder = open_folder(t);
    for (int i = 1; folder >= 0 && i <= INODES; i++) {
        snprintf(name, sizeof name, "%d", i);
        int fd = durable_create(folder, name, 0600);
        if (fd >= 0 ? durable_close(fd) != 0 : errno != EEXIST) {
            int saved = errno;
            close(folder);
            errno = saved;
            return -1;
        }
    }
    return folder;
}

int transaction_reserve(transaction *t) {
    off_t wanted = BASE + TIMES * (off_t)t->log.size;
    wanted += STEP - wanted % STEP;
    if (journal_reserve(&t->log, 0) != 0)
        return -1;
    if (t->reserved >= wanted)
        return 0;
    int folder = t->reserved >= BASE ? open_folder(t) : make_folder(t);
    t->reserved = t->reserved ? t->reserved : 1; /* however little of it there is */
    if (folder < 0)
        return -1;
    int fd = durable_append(folder, BLOCKS, 0600);
    int rc = fd < 0 ? -1 : durable_reserve(fd, 0, wanted);
    if (rc != 0 && fd >= 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        rc = 0; /* as well as this file system can */
    int saved = errno;
    if (rc == 0)
        t->reserved = wanted;
    if (fd >= 0)
        close(fd);
    close(folder);
    errno = saved;
    return rc;
}

void transaction_measure(transaction *t) {
    struct stat st;
    int folder = open_folder(t);
    if (folder < 0)
        return;
    t->reserved = 1;
    if (fstatat(folder, BLOCKS, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_blocks > 0)
        t->reserved = 512 * (off_t)st.st_blocks;
    close(folder);
}

void transaction_release(transaction *t) {
    char name[16];
    int folder = t->reserved ? open_folder(t) : -1;
    if (folder < 0)
        return;
    durable_unlink(folder, BLOCKS);
    for (int i = 1; i <= INODES; i++) {
        snprintf(name, sizeof name, "%d", i);
        durable_unlink(folder, name);
    }
    close(folder);
    durable_rmdir(t->dir, FOLDER);
    t->reserved = 0;
}
