/*
** change.h: one change of a transaction, and what stands at a path before and after it.
*/
#ifndef PRAXLUA_CHANGE_H
#define PRAXLUA_CHANGE_H

#include "digest.h"
#include "payload.h"

#include <stdbool.h>
#include <sys/stat.h>

/* The numbers are in journals on disk: never renumber. */
typedef enum { STATE_ABSENT = 0, STATE_FILE, STATE_LINK, STATE_DIRECTORY, STATE_OTHER } state_type;

typedef struct state {
    state_type type;
    uint32_t mode;  /* permission bits of a file or directory */
    char *content;  /* file: SHA-256 in hex; link: its target; else NULL. Owned. */
    int64_t time;   /* before: when the file was written, in nanoseconds; 0 if not known */
    uint64_t inode; /* tells a thing from its copy; after: the staged file's; 0 if not known */
} state;

typedef enum {
    CHANGE_PUT = 1,  /* a file: created or replaced */
    CHANGE_LINK,     /* a symbolic link: created or replaced */
    CHANGE_REMOVE,   /* a file or link */
    CHANGE_MKDIR,    /* a directory that was not there */
    CHANGE_RMDIR,    /* a directory, if it is empty by then */
    CHANGE_EXCHANGE, /* a directory: replaced whole by a staged one */
    CHANGE_MODE      /* a directory's permission bits */
} change_kind;

/* For a new directory: whatever the umask leaves. */
#define MODE_BY_UMASK UINT32_MAX

typedef struct change {
    change_kind kind;
    uint32_t number; /* name of the staged file and of the undo file */
    char *path;      /* beneath the transaction's root. Owned. */
    state before;    /* what an undo brings back */
    state after;
    struct stat seen; /* of the old file when it was queued; not in the journal */
} change;

/* Fills `s` with what stands at `path` beneath `root` (the content of a file is hashed), and *st,
** when not NULL, with its lstat. A missing parent means absent. 0, or -1 with errno. */
int state_observe(state *s, int root, const char *path, digest *d, struct stat *st);

/* The same, but a file that cannot be read (EIO, EACCES, EPERM) is one whose content is not known,
** NULL, which equals no other. */
int state_look(state *s, int root, const char *path, digest *d);

/* Whether two lstats are of one file that nobody wrote to or gave another mode in between. */
bool stat_unchanged(const struct stat *a, const struct stat *b);

/* Same type and content; for state_equal, of files and directories, also the same mode. */
bool state_equal(const state *a, const state *b);
bool state_same_content(const state *a, const state *b);
void state_free(state *s);

/* As the journal has it; `version` is the journal's. change_read: 0, or -1: it is malformed. */
void change_write(const change *c, payload *p);
int change_read(change *c, payload *p, uint32_t version);
void change_free(change *c);

#endif
