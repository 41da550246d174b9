/*
** unpack.c: an archive listed, or made into a tree. See archive_job.h.
**
** Members are made beneath the root with O_EXCL, by durable.h: files first, links when all files
** are there, modes and times of directories last.
*/
#define _GNU_SOURCE
#include "archive_job.h"
#include "durable.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static lua_Integer nanoseconds(struct timespec t) {
    return (lua_Integer)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Pushes the table of one member. */
static void push_member(lua_State *L, const member *m, const char *hex) {
    lua_createtable(L, 0, 7);
    lua_pushlstring(L, m->path, m->length);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, m->type == S_IFREG ? "file" : m->type == S_IFDIR ? "directory" : "link");
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, m->mode);
    lua_setfield(L, -2, "mode");
    lua_pushinteger(L, m->size);
    lua_setfield(L, -2, "size");
    lua_pushinteger(L, nanoseconds(m->mtime));
    lua_setfield(L, -2, "mtime");
    if (m->type == S_IFLNK) {
        lua_pushstring(L, m->target);
        lua_setfield(L, -2, "target");
    } else if (m->type == S_IFREG) {
        lua_pushstring(L, hex);
        lua_setfield(L, -2, "sha256");
    }
}

int unpack_list(lua_State *L, job *j, const char *path, limits left) {
    char hex[DIGEST_HEX];
    member m;
    int failed, rc;
    if ((failed = members_open(L, j, path)) || (failed = members_begin(L, j, path, &left)))
        return failed;
    lua_newtable(L);
    lua_newtable(L);
    lua_newtable(L);
    int seen = lua_gettop(L), entries = seen - 1, result = seen - 2;
    lua_Integer count = 0;
    while ((rc = members_next(L, j, path, seen, &left, &m)) > 0) {
        if (m.type == S_IFREG) {
            if ((failed = members_content(L, j, path, &m, true)))
                return failed;
            if (digest_hex(j->content, hex) < 0)
                return core_errno(L, errno, "hash", path);
        }
        push_member(L, &m, hex);
        lua_rawseti(L, entries, ++count);
    }
    if (rc < 0)
        return 3;
    if ((failed = members_end(L, j, path, hex)))
        return failed;
    lua_pushvalue(L, entries);
    lua_setfield(L, result, "entries");
    lua_pushstring(L, hex);
    lua_setfield(L, result, "archive_sha256");
    lua_pushinteger(L, j->archive_bytes);
    lua_setfield(L, result, "archive_bytes");
    lua_pushvalue(L, result);
    return 1;
}

/* 0 when the directory has no entry. */
static int check_empty(lua_State *L, int root, const char *directory) {
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        job_close(&fd);
        return core_errno(L, error, "open", directory);
    }
    struct dirent *d;
    bool empty = true;
    while (empty && (d = readdir(dir)))
        empty = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;
    closedir(dir);
    return empty ? 0 : core_errno(L, ENOTEMPTY, "extract into", directory);
}

/* Remembers a directory or link for later. */
static int defer(lua_State *L, deferred_list *list, const member *m) {
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        deferred *items = realloc(list->items, room * sizeof *items);
        if (!items)
            return core_errno(L, ENOMEM, "extract", m->path);
        list->items = items;
        list->room = room;
    }
    deferred *item = &list->items[list->count];
    *item = (deferred){.mode = m->mode & 0777, .mtime = m->mtime};
    item->path = strndup(m->path, m->length);
    item->target = m->type == S_IFLNK ? strdup(m->target) : NULL;
    list->count++;
    if (!item->path || (m->type == S_IFLNK && !item->target))
        return core_errno(L, ENOMEM, "extract", m->path);
    return 0;
}

static int set_times(int dir, const char *name, struct timespec mtime) {
    const struct timespec times[2] = {mtime, mtime};
    return durable_times(dir, name, times);
}

static int extract_directory(lua_State *L, job *j, const member *m) {
    const char *name;
    int failed = defer(L, &j->directories, m);
    if (failed)
        return failed;
    /* Without the final slash that libarchive may have left. */
    const char *path = j->directories.items[j->directories.count - 1].path;
    j->parent = path_parent(j->root, path, &name, true);
    if (j->parent < 0 || (durable_mkdir(j->parent, name, 0700) < 0 && errno != EEXIST))
        return core_errno(L, errno, "mkdir", path);
    job_close(&j->parent);
    return 0;
}

static int extract_file(lua_State *L, job *j, const char *path, const member *m) {
    const char *name;
    int failed;
    j->parent = path_parent(j->root, m->path, &name, true);
    if (j->parent < 0 || (j->member = durable_create(j->parent, name, 0600)) < 0)
        return core_errno(L, errno, "create", m->path);
    if ((failed = members_content(L, j, path, m, false)))
        return failed;
    if (durable_mode(j->member, m->mode & 0777) < 0)
        return core_errno(L, errno, "chmod", m->path);
    int fd = j->member;
    j->member = -1;
    if (durable_close(fd) < 0)
        return core_errno(L, errno, "close", m->path);
    if (set_times(j->parent, name, m->mtime) < 0)
        return core_errno(L, errno, "set the time of", m->path);
    job_close(&j->parent);
    return 0;
}

static int make_links(lua_State *L, job *j) {
    for (size_t i = 0; i < j->links.count; i++) {
        const deferred *link = &j->links.items[i];
        const char *name;
        int cancelled = job_cancelled(L, link->path);
        if (cancelled)
            return cancelled;
        j->parent = path_parent(j->root, link->path, &name, true);
        if (j->parent < 0 || durable_symlink(link->target, j->parent, name) < 0 ||
            set_times(j->parent, name, link->mtime) < 0)
            return core_errno(L, errno, "symlink", link->path);
        job_close(&j->parent);
    }
    return 0;
}

/* Orders what is inside a directory before the directory itself. */
static int by_path_backwards(const void *a, const void *b) {
    return strcmp(((const deferred *)b)->path, ((const deferred *)a)->path);
}

static int settle_directories(lua_State *L, job *j) {
    if (j->directories.count > 1)
        qsort(j->directories.items, j->directories.count, sizeof(deferred), by_path_backwards);
    for (size_t i = 0; i < j->directories.count; i++) {
        const deferred *d = &j->directories.items[i];
        const char *name;
        int cancelled = job_cancelled(L, d->path);
        if (cancelled)
            return cancelled;
        j->parent = path_parent(j->root, d->path, &name, false);
        j->member = j->parent < 0 ? -1 : path_open(j->root, d->path, O_RDONLY | O_DIRECTORY);
        if (j->member < 0 || set_times(j->parent, name, d->mtime) < 0 ||
            durable_mode(j->member, d->mode) < 0)
            return core_errno(L, errno, "set mode and time of", d->path);
        job_close(&j->member);
        job_close(&j->parent);
    }
    return 0;
}

/* Goes through all members. With `write` they are made, links and directory modes at the end;
** without, they are only checked. Leaves the hash of the archive in `hex`. */
static int go_through(lua_State *L, job *j, const char *path, limits left, bool write,
                      lua_Integer *files, char hex[DIGEST_HEX]) {
    member m;
    int failed = members_begin(L, j, path, &left), rc;
    if (failed)
        return failed;
    lua_newtable(L);
    int seen = lua_gettop(L);
    *files = 0;
    while ((rc = members_next(L, j, path, seen, &left, &m)) > 0) {
        *files += m.type == S_IFREG;
        if (m.type == S_IFREG)
            failed = write ? extract_file(L, j, path, &m) : members_content(L, j, path, &m, false);
        else if (write)
            failed = m.type == S_IFLNK ? defer(L, &j->links, &m) : extract_directory(L, j, &m);
        if (failed)
            return failed;
    }
    if (rc < 0)
        return 3;
    if (write && ((failed = make_links(L, j)) || (failed = settle_directories(L, j))))
        return failed;
    return members_end(L, j, path, hex);
}

int unpack(lua_State *L, job *j, const char *path, const char *directory, limits most) {
    char checked[DIGEST_HEX], written[DIGEST_HEX];
    lua_Integer files;
    int failed;
    if ((failed = members_open(L, j, path)))
        return failed;
    j->root = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (j->root < 0)
        return core_errno(L, errno, "open", directory);
    if ((failed = check_empty(L, j->root, directory)) ||
        (failed = go_through(L, j, path, most, false, &files, checked)) ||
        (failed = go_through(L, j, path, most, true, &files, written)))
        return failed;
    if (strcmp(checked, written) != 0)
        return job_changed(L, path);
    lua_newtable(L);
    lua_pushinteger(L, files);
    lua_setfield(L, -2, "files");
    lua_pushinteger(L, j->done);
    lua_setfield(L, -2, "bytes");
    lua_pushstring(L, written);
    lua_setfield(L, -2, "archive_sha256");
    return 1;
}
