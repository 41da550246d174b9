/*
** walk.h: a directory tree gathered into memory, for the operations of core.tree.
**
** The nodes stand level by level, a parent before its children, so the array read backwards is an
** order in which a tree can be taken down. Nothing recurses and no descriptor is kept per level;
** depth and path length are limited by memory alone. Directories are reached from the root's
** descriptor with path_open, which follows no link.
**
** Gathering can be cancelled (cancel.h), unless it is done to remove the tree.
**
** Entries that vanish while the tree is read are marked gone, as if they had gone a moment before.
**
** Functions return 0, or -1 with errno and the failure noted for walk_push_failure.
*/
#ifndef PRAXLUA_WALK_H
#define PRAXLUA_WALK_H

#include "digest.h"

#include <dirent.h>
#include <lua.h>
#include <stdbool.h>
#include <sys/stat.h>

struct walk_node {
    size_t parent;         /* index; the root is node 0 and its own parent */
    size_t twin;           /* index of the first node with the same inode (walk_find_twins) */
    char *name;            /* last component; "" for the root */
    char *path;            /* from the root, when walk_sorted has made it */
    char *target;          /* of a link */
    char hash[DIGEST_HEX]; /* of a regular file when asked for, else "" */
    bool gone;             /* vanished while we looked */
    bool shared;           /* a regular file in the set `link` */
    mode_t mode;
    nlink_t links;
    uid_t uid;
    gid_t gid;
    dev_t device;
    ino_t inode;
    off_t size;
    blkcnt_t blocks; /* of 512 bytes */
    struct timespec mtime;
};

/* The directory beneath `root` that was used last. */
struct walk_cursor {
    int root;     /* not owned */
    size_t index; /* its node */
    int fd;       /* -1 for none yet; owned */
};

struct walk {
    lua_State *L;
    const char *path;     /* the root as it was given; on the Lua stack */
    int skip, skip_names; /* stack indices of the option sets, 0 when not given */
    int link;             /* likewise: the regular files that are `shared` */
    bool removing;        /* set before gathering: make directories fit for removal on the way */
    digest *hasher;       /* set before gathering to hash regular files; owned */
    int root;             /* descriptor of the root, -1 when it is no directory */
    struct walk_node *nodes;
    size_t count, capacity;
    struct walk_cursor cursor; /* in the tree itself */
    DIR *directory;            /* the one being read */
    char *prefix;              /* its path from the root, for `skip` */
    const char *step;          /* what failed, */
    char *where;               /* and where, from the root; NULL: at the root */
};

/* Pushes a new walk for the tree (or single file) at `path`, with the sets `skip`, `skip_names` and
** `link` of the options table at stack index `options` (0: none). It is released when the C
** function that calls this returns or raises. Pushes up to four values. */
struct walk *walk_new(lua_State *L, const char *path, int options);

/* Forgets all nodes, so that the walk can gather again. */
void walk_clear(struct walk *w);

/* Reads the tree. The root itself is node 0, and is not followed when it is a link. With `removing`
** fails with EXDEV when another file system is mounted in the tree. */
int walk_gather(struct walk *w);

/* Finds the hard links within the tree: sets `twin`. */
int walk_find_twins(struct walk *w);

/* The nodes that are not gone, without the root, sorted bytewise by path: an array of *count that
** the caller frees, or NULL with ENOMEM. */
struct walk_node **walk_sorted(struct walk *w, size_t *count);

/* Opens the directory that is node `index`, beneath `root`: the tree's own or that of its copy.
** Returns the descriptor or -1 with errno. */
int walk_open(const struct walk *w, int root, size_t index);

/* The directory beneath the cursor's root that holds node `index`: a descriptor that the cursor
** keeps open until it is moved on; AT_FDCWD for the root; -1 with errno. */
int walk_parent(const struct walk *w, struct walk_cursor *cursor, size_t index);
void walk_cursor_close(struct walk_cursor *cursor);

/* Notes what failed at which node; keeps errno, returns -1. `step` is a static string. */
int walk_failed(struct walk *w, const char *step, size_t index);

/* Pushes nil, message, code for the noted failure and errno value `error`; returns 3. */
int walk_push_failure(lua_State *L, const struct walk *w, int error);

#endif
