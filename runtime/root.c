/*
** root.c: core.root: looking beneath one directory and nowhere else.
**
** For paths that come from a manifest, an archive, a state file or a phase. Every path is relative
** and normal (path.h); the kernel resolves it without following any link, so no name and no race
** leads out. "." is the root itself.
**
** Codes beside those of the system calls: "EINVAL" for a path that is not normal, "ELOOP" or
** "EXDEV" for a link on the way, "ENOTREG" for reading what is not a regular file, "EFBIG" beyond a
** limit.
*/
#define _GNU_SOURCE
#include "core.h"
#include "digest.h"
#include "file.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOT "praxlua.root"

static int check_root(lua_State *L) {
    int *root = luaL_checkudata(L, 1, ROOT);
    luaL_argcheck(L, *root >= 0, 1, "this root is closed");
    return *root;
}

/* The path argument. It is data, not the caller's doing: a NUL in it is no misuse but "EINVAL", as
** every path that is not normal; "" stands for these. */
static const char *check_relative(lua_State *L) {
    size_t length;
    const char *path = luaL_checklstring(L, 2, &length);
    return strlen(path) == length ? path : "";
}

/* open(directory) -> root | nil, message, code */
static int root_open(lua_State *L) {
    const char *path = core_check_path(L, 1);
    int *root = lua_newuserdatauv(L, sizeof *root, 0);
    *root = -1;
    luaL_setmetatable(L, ROOT);
    do
        *root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (*root < 0 && errno == EINTR);
    return *root >= 0 ? 1 : core_errno(L, errno, "open", path);
}

/* mechanism() -> "openat2" | "components": what confines paths on this machine. */
static int root_mechanism(lua_State *L) {
    lua_pushstring(L, path_mechanism());
    return 1;
}

/* Opens the regular file `path` for reading; -1 with errno. */
static int open_regular(int root, const char *path) {
    const char *name;
    struct stat st;
    if (strcmp(path, ".") == 0) {
        errno = CORE_ENOTREG;
        return -1;
    }
    int dir = path_parent(root, path, &name, false);
    if (dir < 0)
        return -1;
    int fd = path_open_regular(dir, name, &st);
    int saved = errno;
    if (fd < 0 && saved == CORE_ENOTREG && S_ISLNK(st.st_mode))
        saved = ELOOP;
    close(dir);
    errno = saved;
    return fd;
}

/* lstat beneath the root; *dir is then the parent (closed by the caller) and *name the last
** component, or -1 for the root itself. Returns 0, or -1 with errno and nothing to close. */
static int stat_beneath(int root, const char *path, struct stat *st, int *dir, const char **name) {
    *dir = -1;
    if (strcmp(path, ".") == 0)
        return fstat(root, st);
    *dir = path_parent(root, path, name, false);
    if (*dir < 0)
        return -1;
    if (fstatat(*dir, *name, st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    int saved = errno;
    close(*dir);
    errno = saved;
    return -1;
}

/* r:read(path, limit=64 MiB) -> string | nil, message, code */
static int root_read(lua_State *L) {
    int root = check_root(L);
    const char *path = check_relative(L);
    lua_Integer limit = file_opt_limit(L, 3);
    struct core_guard *file = core_guard(L, core_guard_close);
    file->fd = open_regular(root, path);
    if (file->fd < 0)
        return core_errno(L, errno, "open", path);
    return file_push_content(L, file->fd, limit, path);
}

/* r:hash(path) -> SHA-256 in hex, size in bytes | nil, message, code. Can be cancelled
** (core.cancel). */
static int root_hash(lua_State *L) {
    int root = check_root(L);
    const char *path = check_relative(L);
    char hex[DIGEST_HEX];
    off_t size = 0;
    int fd = open_regular(root, path);
    if (fd < 0)
        return core_errno(L, errno, "open", path);
    digest *sha = digest_new();
    if (sha)
        digest_cancellable(sha);
    int rc = sha ? digest_fd(sha, fd, hex, &size) : -1;
    int error = errno;
    digest_free(sha);
    close(fd);
    if (rc < 0)
        return core_errno(L, error, "read", path);
    lua_pushstring(L, hex);
    lua_pushinteger(L, size);
    return 2;
}

/* r:stat(path) -> as core.file.stat, of the entry itself | nil, message, code. The last component
** may be a link; it is described, not followed. */
static int root_stat(lua_State *L) {
    int root = check_root(L);
    const char *path = check_relative(L);
    const char *name = NULL;
    struct stat st;
    struct core_guard *dir = core_guard(L, core_guard_close);
    if (stat_beneath(root, path, &st, &dir->fd, &name) < 0) {
        dir->fd = -1;
        return core_errno(L, errno, "stat", path);
    }
    file_push_stat(L, &st);
    if (S_ISLNK(st.st_mode) && file_push_target(L, dir->fd, name))
        lua_setfield(L, -2, "target");
    return 1;
}

/* r:exists(path) -> boolean: whether there is an entry | nil, message, code when the path is not
** allowed, or cannot be looked at. */
static int root_exists(lua_State *L) {
    int root = check_root(L);
    const char *path = check_relative(L);
    const char *name;
    struct stat st;
    int dir;
    bool found = stat_beneath(root, path, &st, &dir, &name) == 0;
    if (!found && errno != ENOENT && errno != ENOTDIR)
        return core_errno(L, errno, "stat", path);
    if (found && dir >= 0)
        close(dir);
    lua_pushboolean(L, found);
    return 1;
}

/* ======================= Listing ======================= */

/* One name of a directory with its type. */
struct item {
    const char *type;
    char name[];
};

/* The names of a directory, in memory that a guard frees. */
struct items {
    struct item **at;
    size_t count, capacity;
};

static void free_items(struct core_guard *guard) {
    struct items *items = guard->pointer;
    for (size_t i = 0; items && i < items->count; i++)
        free(items->at[i]);
    if (items)
        free(items->at);
    free(items);
    guard->pointer = NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(struct item *const *)a)->name, (*(struct item *const *)b)->name);
}

static int add_item(struct items *items, const char *name, const char *type) {
    if (items->count == items->capacity) {
        size_t capacity = items->capacity ? 2 * items->capacity : 64;
        struct item **at = realloc(items->at, capacity * sizeof *at);
        if (!at)
            return -1;
        items->at = at;
        items->capacity = capacity;
    }
    size_t size = strlen(name) + 1;
    struct item *item = malloc(sizeof *item + size);
    if (!item)
        return -1;
    item->type = type;
    memcpy(item->name, name, size);
    items->at[items->count++] = item;
    return 0;
}

/* Reads the names of the open directory `fd`, and closes it. Returns 0, or -1 with errno. */
static int read_items(struct items *items, int fd) {
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    struct stat st;
    int rc = 0;
    if (!dir) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            rc = add_item(items, entry->d_name, file_type(st.st_mode));
        else if (errno != ENOENT) /* removed meanwhile: as if never there */
            rc = -1;
    }
    int saved = errno;
    closedir(dir);
    errno = saved;
    return rc < 0 || saved != 0 ? -1 : 0;
}

/* r:list(path) -> array of {name=, type="file"|"directory"|"link"|"other"}, sorted bytewise by name
** | nil, message, code */
static int root_list(lua_State *L) {
    int root = check_root(L);
    const char *path = check_relative(L);
    struct core_guard *guard = core_guard(L, free_items);
    struct items *items = guard->pointer = calloc(1, sizeof *items);
    int fd = items ? path_open(root, path, O_RDONLY | O_DIRECTORY) : -1;
    if (fd < 0 || read_items(items, fd) < 0)
        return core_errno(L, errno, "list", path);
    if (items->count > 0)
        qsort(items->at, items->count, sizeof *items->at, by_name);
    lua_createtable(L, (int)items->count, 0);
    for (size_t i = 0; i < items->count; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, items->at[i]->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, items->at[i]->type);
        lua_setfield(L, -2, "type");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* r:close(): does nothing the second time. Other methods then raise. */
static int root_close(lua_State *L) {
    int *root = luaL_checkudata(L, 1, ROOT);
    if (*root >= 0)
        close(*root);
    *root = -1;
    return 0;
}

static const luaL_Reg root_methods[] = {
    {"read", root_read},     {"stat", root_stat},  {"exists", root_exists},
    {"list", root_list},     {"hash", root_hash},  {"close", root_close},
    {"__close", root_close}, {"__gc", root_close}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", root_open},
    {"mechanism", root_mechanism},
    {NULL, NULL},
};

int luaopen_praxlua_root(lua_State *L) {
    return core_open(L, ROOT, root_methods, functions);
}
