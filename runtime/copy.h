/*
** copy.h: the copy of a gathered tree; the work behind core.tree.copy.
*/
#ifndef PRAXLUA_COPY_H
#define PRAXLUA_COPY_H

#include "walk.h"

struct copy {
    struct walk *from;         /* not owned; must not have gathered yet */
    const char *to;            /* must not exist */
    struct walk_cursor cursor; /* in the copy; its root is owned here */
    bool begun;                /* something may have been made at `to` */
    long long files, bytes;    /* regular files made, and the bytes in them; hard links add none */
    long long linked;          /* of the files, those that are the original's own inode */
};

/* Gathers the tree and copies it; can be cancelled (cancel.h). Returns 0, or -1 with errno and
** the failure noted in the walk (walk_push_failure); what was made is left for the caller to remove
** when `begun` is set. */
int copy_tree(struct copy *c);

/* Starts and ends the struct's life. */
void copy_init(struct copy *c, struct walk *from, const char *to);
void copy_close(struct copy *c);

#endif
