/*
** tree.c: core.tree: whole directory trees: listed, measured, copied, removed, synced.
**
** Links are never followed, not even when the path that is given names one. Trees may be of any
** depth. Nothing here but `sync` waits for the disk. All but `remove` can be cancelled
** (core.cancel), a sync only before it begins.
*/
#define _GNU_SOURCE
#include "cancel.h"
#include "copy.h"
#include "core.h"
#include "durable.h"
#include "file.h"
#include "path.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_integer(lua_State *L, const char *field, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, field);
}

static void set_string(lua_State *L, const char *field, const char *value) {
    lua_pushstring(L, value);
    lua_setfield(L, -2, field);
}

/* ======================= Listing and measuring ======================= */

static void push_node(lua_State *L, const struct walk_node *node) {
    lua_createtable(L, 0, 8);
    set_string(L, "path", node->path);
    set_string(L, "type", file_type(node->mode));
    set_integer(L, "mode", node->mode & 07777);
    set_integer(L, "size", S_ISDIR(node->mode) ? 0 : (lua_Integer)node->size);
    set_integer(L, "mtime", (lua_Integer)node->mtime.tv_sec * 1000000000 + node->mtime.tv_nsec);
    set_integer(L, "inode", (lua_Integer)node->inode);
    if (node->target)
        set_string(L, "target", node->target);
    if (*node->hash)
        set_string(L, "sha256", node->hash);
}

static void free_pointer(struct core_guard *guard) {
    free(guard->pointer);
    guard->pointer = NULL;
}

/* list(root, {skip={[path]=true}?, skip_names={[name]=true}?, hash=bool?}?) -> array, sorted
** bytewise by path, of {path=from the root, type="file"|"directory"|"link"|"other",
** mode=07777 bits, size=bytes (0 for a directory), mtime=ns, inode, target=string of a link,
** sha256=hex of a regular file when hash is true} | nil, message, code
** The root is not in the list; it must be a directory and not a link to one ("ENOTDIR"). What is
** skipped is neither listed nor entered: skip by path, skip_names by last component anywhere. */
static int tree_list(lua_State *L) {
    const char *path = core_check_path(L, 1);
    lua_settop(L, 2);
    bool hash = core_opt_boolean(L, 2, "hash", 0);
    struct walk *w = walk_new(L, path, 2);
    struct core_guard *guard = core_guard(L, free_pointer);
    size_t count;
    if (hash && !(w->hasher = digest_new()))
        return core_errno(L, errno, "list", path);
    if (hash)
        digest_cancellable(w->hasher);
    if (walk_gather(w) < 0)
        return walk_push_failure(L, w, errno);
    if (w->root < 0)
        return core_errno(L, ENOTDIR, "list", path);
    struct walk_node **sorted = guard->pointer = walk_sorted(w, &count);
    if (!sorted)
        return core_errno(L, ENOMEM, "list", path);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        push_node(L, sorted[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* size(root, {skip=?, skip_names=?}?) -> {bytes, allocated, inodes} | nil, message, code
** bytes is the length of all regular files, allocated what everything takes on the disk, inodes the
** number of entries, the root among them; hard links count once. A missing root is all zero. */
static int tree_size(lua_State *L) {
    const char *path = core_check_path(L, 1);
    lua_settop(L, 2);
    lua_Integer bytes = 0, allocated = 0, inodes = 0;
    struct walk *w = walk_new(L, path, 2);
    struct stat st;
    bool missing = lstat(path, &st) < 0 && errno == ENOENT;
    if (!missing && (walk_gather(w) < 0 || walk_find_twins(w) < 0))
        return walk_push_failure(L, w, errno);
    for (size_t i = 0; i < w->count; i++) {
        const struct walk_node *node = &w->nodes[i];
        if (node->gone || node->twin != i)
            continue;
        inodes++;
        allocated += (lua_Integer)node->blocks * 512;
        if (S_ISREG(node->mode))
            bytes += node->size;
    }
    lua_createtable(L, 0, 3);
    set_integer(L, "bytes", bytes);
    set_integer(L, "allocated", allocated);
    set_integer(L, "inodes", inodes);
    return 1;
}

/* ======================= Removing ======================= */

/* Removes one node; 1, 0 when it was gone already, or -1 with the failure noted. */
static int remove_node(struct walk *w, size_t index) {
    const struct walk_node *node = &w->nodes[index];
    const char *name = index == 0 ? w->path : node->name;
    int dir = walk_parent(w, &w->cursor, index);
    int rc = -1;
    if (dir != -1)
        rc = S_ISDIR(node->mode) ? durable_rmdir(dir, name) : durable_unlink(dir, name);
    if (rc < 0)
        return errno == ENOENT ? 0 : walk_failed(w, "remove", index);
    return 1;
}

/* Gathers the tree and removes it from its leaves. Returns 0, or -1 with the failure noted. */
static int remove_once(struct walk *w, lua_Integer *removed) {
    struct stat st;
    if (lstat(w->path, &st) < 0 && errno == ENOENT)
        return 0;
    if (walk_gather(w) < 0)
        return -1;
    for (size_t i = w->count; i-- > 0;) {
        int rc = remove_node(w, i);
        if (rc < 0)
            return -1;
        *removed += rc;
    }
    return 0;
}

/* As remove_once, and again when somebody has put something new into the tree meanwhile. */
static int remove_tree(struct walk *w, lua_Integer *removed) {
    int rc = -1;
    w->removing = true;
    for (int tries = 0; tries < 4; tries++) {
        walk_clear(w);
        rc = remove_once(w, removed);
        if (rc == 0 || (errno != ENOTEMPTY && errno != EEXIST))
            break;
    }
    return rc;
}

/* Pushes the path without trailing slashes, with which a link would be followed, and returns it;
** NULL when it does not end in the name of an entry: "/", "." and "..". */
static const char *push_entry_path(lua_State *L, const char *path) {
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    const char *stripped = lua_pushlstring(L, path, end);
    return path_is_normal(stripped + start, end - start) ? stripped : NULL;
}

/* remove(path) -> the number of entries removed | nil, message, code
** Takes away a file, a link (never what it leads to) or a whole tree; a missing path is 0. A
** directory without the permission bits for that gets them. Before anything is removed: "EXDEV"
** when another file system is mounted in the tree, "EINVAL" for "/" and for a path that ends in "."
** or "..". */
static int tree_remove(lua_State *L) {
    const char *path = core_check_path(L, 1);
    const char *entry = push_entry_path(L, path);
    lua_Integer removed = 0;
    if (!entry)
        return core_errno(L, EINVAL, "remove", path);
    struct walk *w = walk_new(L, entry, 0);
    if (remove_tree(w, &removed) < 0)
        return walk_push_failure(L, w, errno);
    lua_pushinteger(L, removed);
    return 1;
}

/* ======================= Copying and syncing ======================= */

static void free_copy(struct core_guard *guard) {
    if (guard->pointer)
        copy_close(guard->pointer);
    free_pointer(guard);
}

/* Pushes nil, message, code of a copy that failed with errno value `error`, after removing what
** there is of it. */
static int push_copy_failure(lua_State *L, struct copy *c, struct walk *remains, int error) {
    lua_Integer removed = 0;
    bool left = c->begun && remove_tree(remains, &removed) < 0;
    walk_push_failure(L, c->from, error);
    if (left) {
        lua_pushfstring(L, "%s (and what was copied to %s could not be removed)",
                        lua_tostring(L, -2), c->to);
        lua_replace(L, -3);
    }
    return 3;
}

/* copy(from, to, {skip=?, skip_names=?, link={[path]=true}?}?) -> {files, bytes, linked?} | nil,
**   message, code
** `to` must not exist ("EEXIST"). Keeps types, modes, modification times (ns), link targets, hard
** links within the tree, and as root the owners of files and directories. Special files are refused
** by name ("ENOTREG") before anything is made; on failure what was made is removed again. The copy
** is not synced: tree.sync. bytes is what was copied, hard links once.
** A regular file whose path is in `link` is not copied but gets a second name, so it must never be
** written in place, in either tree; where that cannot be had it is copied. linked, with `link`
** only, counts those that got one. */
static int tree_copy(lua_State *L) {
    const char *from = core_check_path(L, 1);
    const char *to = core_check_path(L, 2);
    struct stat st;
    lua_settop(L, 3);
    const char *entry = push_entry_path(L, to);
    if (!entry)
        return core_errno(L, EINVAL, "copy to", to);
    if (lstat(entry, &st) == 0)
        return core_errno(L, EEXIST, "copy to", to);
    struct walk *w = walk_new(L, from, 3);
    struct walk *remains = walk_new(L, entry, 0);
    struct core_guard *guard = core_guard(L, free_copy);
    struct copy *c = malloc(sizeof *c);
    if (!c)
        return core_errno(L, ENOMEM, "copy", from);
    copy_init(c, w, entry);
    guard->pointer = c;
    if (copy_tree(c) < 0)
        return push_copy_failure(L, c, remains, errno);
    lua_createtable(L, 0, 2);
    set_integer(L, "files", c->files);
    set_integer(L, "bytes", c->bytes);
    if (w->link)
        set_integer(L, "linked", c->linked);
    return 1;
}

/* sync(path) -> true | nil, message, code: makes everything written so far to the file system that
** holds path durable. */
static int tree_sync(lua_State *L) {
    const char *path = core_check_path(L, 1);
    int fd;
    if (cancel_asked() != 0)
        return core_errno(L, errno, "sync the file system of", path);
    do
        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return core_errno(L, errno, "open", path);
    int rc = durable_sync_all(fd);
    int error = errno;
    close(fd);
    if (rc < 0)
        return core_errno(L, error, "sync the file system of", path);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"list", tree_list},     {"size", tree_size}, {"copy", tree_copy},
    {"remove", tree_remove}, {"sync", tree_sync}, {NULL, NULL},
};

int luaopen_praxlua_tree(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
