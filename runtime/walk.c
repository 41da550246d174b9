/*
** walk.c: a directory tree gathered into memory. See walk.h.
*/
#define _GNU_SOURCE
#include "walk.h"
#include "cancel.h"
#include "core.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Closes `fd` and keeps errno. */
static void close_quietly(int fd) {
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

/* ======================= A walk and its failures ======================= */

void walk_cursor_close(struct walk_cursor *cursor) {
    close_quietly(cursor->fd);
    cursor->fd = -1;
}

/* Ends the reading of a directory. */
static void close_directory(struct walk *w) {
    int saved = errno;
    if (w->directory)
        closedir(w->directory);
    w->directory = NULL;
    free(w->prefix);
    w->prefix = NULL;
    errno = saved;
}

void walk_clear(struct walk *w) {
    for (size_t i = 0; i < w->count; i++) {
        free(w->nodes[i].name);
        free(w->nodes[i].path);
        free(w->nodes[i].target);
    }
    w->count = 0;
    free(w->where);
    w->where = NULL;
    close_directory(w);
    walk_cursor_close(&w->cursor);
    close_quietly(w->root);
    w->root = -1;
}

static void release(struct core_guard *guard) {
    struct walk *w = guard->pointer;
    if (!w)
        return;
    walk_clear(w);
    free(w->nodes);
    digest_free(w->hasher);
    free(w);
    guard->pointer = NULL;
}

/* Pushes options[field], a set, and returns its stack index; 0 when there is none. */
static int push_set(lua_State *L, int options, const char *field) {
    if (options == 0 || lua_isnoneornil(L, options))
        return 0;
    luaL_checktype(L, options, LUA_TTABLE);
    if (lua_getfield(L, options, field) == LUA_TNIL) {
        lua_pop(L, 1);
        return 0;
    }
    if (!lua_istable(L, -1))
        return luaL_error(L, "option '%s' must be a table, not %s", field, luaL_typename(L, -1));
    return lua_gettop(L);
}

struct walk *walk_new(lua_State *L, const char *path, int options) {
    int skip = push_set(L, options, "skip");
    int skip_names = push_set(L, options, "skip_names");
    int link = push_set(L, options, "link");
    struct core_guard *guard = core_guard(L, release);
    struct walk *w = calloc(1, sizeof *w);
    if (!w) {
        luaL_error(L, "walk %s: not enough memory", path);
        return NULL;
    }
    *w = (struct walk){.L = L, .path = path, .skip = skip, .skip_names = skip_names};
    w->link = link;
    w->root = w->cursor.fd = -1;
    guard->pointer = w;
    return w;
}

/* The path of a node from the root, "." for the root itself; with `leaf`, that of an entry in it.
** The caller frees it. NULL with ENOMEM. */
static char *make_path(const struct walk *w, size_t index, const char *leaf) {
    size_t length = leaf ? strlen(leaf) + 1 : 0;
    for (size_t i = index; i != 0; i = w->nodes[i].parent)
        length += strlen(w->nodes[i].name) + 1;
    if (length == 0)
        return strdup(".");
    char *path = malloc(length);
    if (!path)
        return NULL;
    size_t at = length; /* filled from the end: each component, and the '/' or NUL after it */
    for (size_t i = index; leaf || i != 0;) {
        const char *name = leaf ? leaf : w->nodes[i].name;
        size_t size = strlen(name);
        path[at - 1] = at == length ? '\0' : '/';
        at -= size + 1;
        memcpy(path + at, name, size);
        if (leaf)
            leaf = NULL;
        else
            i = w->nodes[i].parent;
    }
    return path;
}

/* walk_failed for the entry `leaf` of a node. */
static int failed_at(struct walk *w, const char *step, size_t index, const char *leaf) {
    int saved = errno;
    w->step = step;
    free(w->where);
    w->where = index == 0 && !leaf ? NULL : make_path(w, index, leaf);
    errno = saved;
    return -1;
}

int walk_failed(struct walk *w, const char *step, size_t index) {
    return failed_at(w, step, index, NULL);
}

int walk_push_failure(lua_State *L, const struct walk *w, int error) {
    if (!w->where)
        return core_errno(L, error, w->step, w->path);
    lua_pushfstring(L, "%s/%s", w->path, w->where);
    return core_errno(L, error, w->step, lua_tostring(L, -1));
}

/* ======================= Reaching directories ======================= */

int walk_open(const struct walk *w, int root, size_t index) {
    char *path = make_path(w, index, NULL);
    if (!path)
        return -1;
    int fd = path_open(root, path, O_RDONLY | O_DIRECTORY);
    int saved = errno;
    free(path);
    errno = saved;
    return fd;
}

int walk_parent(const struct walk *w, struct walk_cursor *cursor, size_t index) {
    size_t parent = w->nodes[index].parent;
    if (index == 0)
        return AT_FDCWD;
    if (cursor->fd >= 0 && cursor->index == parent)
        return cursor->fd;
    walk_cursor_close(cursor);
    cursor->index = parent;
    cursor->fd = walk_open(w, cursor->root, parent);
    return cursor->fd;
}

/* ======================= Gathering ======================= */

/* Appends a node; NULL with ENOMEM. The pointer is good until the next one. */
static struct walk_node *add_node(struct walk *w, size_t parent, const char *name,
                                  const struct stat *st) {
    if (w->count == w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 256;
        struct walk_node *nodes = realloc(w->nodes, capacity * sizeof *nodes);
        if (!nodes)
            return NULL;
        w->nodes = nodes;
        w->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy)
        return NULL;
    struct walk_node *node = &w->nodes[w->count];
    *node = (struct walk_node){
        .parent = parent,
        .twin = w->count++,
        .name = copy,
        .mode = st->st_mode,
        .links = st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .device = st->st_dev,
        .inode = st->st_ino,
        .size = st->st_size,
        .blocks = st->st_blocks,
        .mtime = st->st_mtim,
    };
    return node;
}

/* Whether the string on top of the stack, which is popped, is in a set. */
static bool pop_in_set(lua_State *L, int set) {
    lua_rawget(L, set);
    bool found = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return found;
}

/* Whether the path of the entry `name` of the directory being read is in a set. */
static bool path_in_set(struct walk *w, int set, const char *name) {
    if (strcmp(w->prefix, ".") == 0)
        lua_pushstring(w->L, name);
    else
        lua_pushfstring(w->L, "%s/%s", w->prefix, name);
    return pop_in_set(w->L, set);
}

/* Whether the options leave out the entry `name` of the directory being read. */
static bool is_skipped(struct walk *w, const char *name) {
    if (w->skip_names) {
        lua_pushstring(w->L, name);
        if (pop_in_set(w->L, w->skip_names))
            return true;
    }
    return w->skip && path_in_set(w, w->skip, name);
}

/* Fills in a link's target. */
static int read_target(struct walk_node *node, int dir, const char *name) {
    char target[PATH_MAX]; /* Linux makes no longer ones */
    ssize_t n = readlinkat(dir, name, target, sizeof target);
    if (n < 0)
        return -1;
    node->target = strndup(target, (size_t)n);
    return node->target ? 0 : -1;
}

/* Fills in a file's digest, with the size and time of the very file that was read. */
static int read_hash(struct walk *w, struct walk_node *node, int dir, const char *name) {
    struct stat st;
    int fd = path_open_regular(dir, name, &st);
    if (fd < 0)
        return -1;
    node->mtime = st.st_mtim;
    int rc = digest_fd(w->hasher, fd, node->hash, &node->size);
    close_quietly(fd);
    return rc;
}

/* Before a directory is taken down: refuses one that another file system is mounted on, and gives
** its owner the permissions that emptying it takes. Where it is not ours to change, what is to come
** will tell whether they are missing. */
static int prepare_removal(struct walk *w, int dir, const char *name, const struct stat *st) {
    if (w->count > 0 && st->st_dev != w->nodes[0].device) {
        errno = EXDEV;
        return -1;
    }
    if ((st->st_mode & 0700) == 0700)
        return 0;
    int rc = durable_mode_at(dir, name, (st->st_mode & 07777) | 0700);
    return rc < 0 && errno != EPERM && errno != ENOENT ? -1 : 0;
}

/* Adds the entry `name` of the open directory `dir`, which is node `parent`. */
static int gather_entry(struct walk *w, size_t parent, int dir, const char *name) {
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : failed_at(w, "stat", parent, name);
    if (w->removing && S_ISDIR(st.st_mode) && prepare_removal(w, dir, name, &st) < 0)
        return failed_at(w, "remove", parent, name);
    struct walk_node *node = add_node(w, parent, name, &st);
    if (!node)
        return failed_at(w, "list", parent, name);
    node->shared = w->link && S_ISREG(st.st_mode) && path_in_set(w, w->link, name);
    int rc = 0;
    if (S_ISLNK(st.st_mode))
        rc = read_target(node, dir, name);
    else if (S_ISREG(st.st_mode) && w->hasher)
        rc = read_hash(w, node, dir, name);
    if (rc < 0 && errno != ENOENT)
        return failed_at(w, "read", parent, name);
    node->gone = rc < 0;
    return 0;
}

/* Opens the directory that is node `index` as the one being read; 1, or 0 when it has vanished. */
static int open_directory(struct walk *w, size_t index) {
    int fd = walk_open(w, w->root, index);
    if (fd < 0 && errno == ENOENT) {
        w->nodes[index].gone = true;
        return 0;
    }
    if (fd < 0)
        return walk_failed(w, "open", index);
    w->directory = fdopendir(fd);
    if (!w->directory) {
        close_quietly(fd);
        return walk_failed(w, "open", index);
    }
    if ((w->skip || w->link) && !(w->prefix = make_path(w, index, NULL)))
        return walk_failed(w, "list", index);
    return 1;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct walk_node *)a)->name, ((const struct walk_node *)b)->name);
}

/* Adds all entries of the directory that is node `index`, by name: the same tree is walked in the
** same order, wherever it lies. */
static int gather_directory(struct walk *w, size_t index) {
    struct dirent *entry;
    size_t first = w->count;
    int rc = open_directory(w, index);
    if (rc <= 0)
        return rc;
    rc = 0;
    while (rc == 0 && (errno = 0, entry = readdir(w->directory)) != NULL) {
        const char *name = entry->d_name;
        if (!w->removing && cancel_asked() != 0)
            rc = walk_failed(w, "list", index);
        else if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !is_skipped(w, name))
            rc = gather_entry(w, index, dirfd(w->directory), name);
    }
    if (rc == 0 && errno != 0)
        rc = walk_failed(w, "list", index);
    close_directory(w);
    qsort(w->nodes + first, w->count - first, sizeof *w->nodes, by_name);
    for (size_t i = first; i < w->count; i++)
        w->nodes[i].twin = i; /* walk_find_twins comes later */
    return rc;
}

/* Adds the root, and opens it when it is a directory. */
static int gather_root(struct walk *w) {
    struct stat st;
    if (lstat(w->path, &st) < 0)
        return walk_failed(w, "stat", 0);
    if (w->removing && S_ISDIR(st.st_mode) && prepare_removal(w, AT_FDCWD, w->path, &st) < 0)
        return walk_failed(w, "remove", 0);
    if (S_ISDIR(st.st_mode)) {
        do
            w->root = open(w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        while (w->root < 0 && errno == EINTR);
        if (w->root < 0 || fstat(w->root, &st) < 0)
            return walk_failed(w, "open", 0);
    }
    w->cursor.root = w->root;
    struct walk_node *node = add_node(w, 0, "", &st);
    if (!node)
        return walk_failed(w, "list", 0);
    if (S_ISLNK(st.st_mode) && read_target(node, AT_FDCWD, w->path) < 0)
        return walk_failed(w, "read", 0);
    return 0;
}

int walk_gather(struct walk *w) {
    if (gather_root(w) < 0)
        return -1;
    for (size_t i = 0; i < w->count; i++)
        if (S_ISDIR(w->nodes[i].mode) && gather_directory(w, i) < 0)
            return -1;
    for (size_t i = 0; i < w->count; i++)
        if (w->nodes[w->nodes[i].parent].gone)
            w->nodes[i].gone = true;
    return 0;
}

/* ======================= Orders ======================= */

static int by_inode(const void *a, const void *b) {
    const struct walk_node *x = *(struct walk_node *const *)a;
    const struct walk_node *y = *(struct walk_node *const *)b;
    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    if (x->inode != y->inode)
        return x->inode < y->inode ? -1 : 1;
    return (x > y) - (x < y);
}

int walk_find_twins(struct walk *w) {
    size_t count = 0;
    struct walk_node **linked = malloc((w->count + 1) * sizeof *linked);
    if (!linked)
        return walk_failed(w, "list", 0);
    for (size_t i = 0; i < w->count; i++)
        if (w->nodes[i].links > 1 && !S_ISDIR(w->nodes[i].mode))
            linked[count++] = &w->nodes[i];
    qsort(linked, count, sizeof *linked, by_inode);
    for (size_t i = 1; i < count; i++)
        if (linked[i]->device == linked[i - 1]->device && linked[i]->inode == linked[i - 1]->inode)
            linked[i]->twin = linked[i - 1]->twin;
    free(linked);
    return 0;
}

static int by_path(const void *a, const void *b) {
    return strcmp((*(struct walk_node *const *)a)->path, (*(struct walk_node *const *)b)->path);
}

struct walk_node **walk_sorted(struct walk *w, size_t *count) {
    struct walk_node **sorted = malloc((w->count + 1) * sizeof *sorted);
    *count = 0;
    for (size_t i = 1; sorted && i < w->count; i++) {
        struct walk_node *node = &w->nodes[i];
        if (node->gone)
            continue;
        node->path = make_path(w, i, NULL);
        if (!node->path) {
            free(sorted);
            return NULL;
        }
        sorted[(*count)++] = node;
    }
    if (sorted)
        qsort(sorted, *count, sizeof *sorted, by_path);
    return sorted;
}
