/*
** pack.c: a tree packed into an archive. See archive_job.h, and archive.c about names.
**
** Every entry is looked up beneath the root (path.h) and never through a link. The hash of a file
** is of the bytes that were packed, and a file that changes while it is read is an error.
*/
#define _GNU_SOURCE
#include "archive_job.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static la_ssize_t on_write(struct archive *a, void *client, const void *data, size_t size) {
    job *j = client;
    if (!j->error &&
        (durable_write(j->file, data, size) < 0 || digest_add(j->whole, data, size) < 0))
        j->error = errno;
    if (j->error) {
        archive_set_error(a, j->error, "%s", strerror(j->error));
        return -1;
    }
    j->archive_bytes += (off_t)size;
    return (la_ssize_t)size;
}

/* Creates the file of the archive, and keeps its directory open. */
static int open_output(lua_State *L, job *j, const char *out) {
    const char *slash = strrchr(out, '/');
    const char *directory = "."; /* anchored on the stack when it is built */
    if (slash)
        directory = slash == out ? "/" : lua_pushlstring(L, out, (size_t)(slash - out));
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return core_errno(L, errno, "open", directory);
    j->out_name = slash ? slash + 1 : out;
    j->file = durable_create(dir, j->out_name, 0600);
    if (j->file < 0) {
        int error = errno;
        close(dir);
        return core_errno(L, error, "create", out);
    }
    j->out_dir = dir; /* from here on release removes the file */
    return 0;
}

static int open_writer(lua_State *L, job *j, const char *out, lua_Integer level) {
    char text[24];
    j->packing = true;
    j->entry = archive_entry_new();
    j->archive = archive_write_new();
    if (!j->entry || !j->archive)
        return core_errno(L, ENOMEM, "archive", out);
    snprintf(text, sizeof text, LUA_INTEGER_FMT, level);
    j->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    /* ARCHIVE_WARN would mean that libarchive wants to run a program called zstd. */
    if (archive_write_set_format_pax(j->archive) != ARCHIVE_OK ||
        archive_write_add_filter_zstd(j->archive) != ARCHIVE_OK ||
        archive_write_set_filter_option(j->archive, "zstd", "compression-level", text) !=
            ARCHIVE_OK)
        return core_fail(L, "ENOLIB", "archive %s: this libarchive cannot write zstd level %s", out,
                         text);
    if ((!j->locale && archive_write_set_format_option(j->archive, "pax", "hdrcharset", "BINARY") !=
                           ARCHIVE_OK) ||
        archive_write_set_bytes_per_block(j->archive, ARCHIVE_CHUNK) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(j->archive, 1) != ARCHIVE_OK ||
        archive_write_open(j->archive, j, NULL, on_write, NULL) != ARCHIVE_OK)
        return job_failure(L, j, "archive", out);
    return 0;
}

/* Writes the header of `path`; `target` is a link's. */
static int put_header(lua_State *L, job *j, const char *path, const struct stat *st,
                      const char *target) {
    struct archive_entry *e = archive_entry_clear(j->entry);
    archive_entry_copy_pathname(e, path);
    archive_entry_set_filetype(e, st->st_mode & S_IFMT);
    archive_entry_set_perm(e, st->st_mode & 07777);
    archive_entry_set_uid(e, st->st_uid);
    archive_entry_set_gid(e, st->st_gid);
    archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
    if (target)
        archive_entry_copy_symlink(e, target);
    locale_t before = j->locale ? uselocale(j->locale) : (locale_t)0;
    int rc = archive_write_header(j->archive, e);
    if (before)
        uselocale(before);
    /* A warning says that the name is not UTF-8 and goes into the archive as it is. */
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 0 : job_failure(L, j, "archive", path);
}

/* Packs the content of the open file j->member, hashing it on the way. Pushes nothing on success;
** the digest is in j->content. */
static int put_content(lua_State *L, job *j, const char *path, const struct stat *st) {
    off_t left = st->st_size;
    struct stat after;
    int failed;
    if (digest_reset(j->content) < 0)
        return core_errno(L, errno, "hash", path);
    for (;;) {
        ssize_t n = read(j->member, j->buffer, ARCHIVE_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return core_errno(L, errno, "read", path);
        if (n > left || (n == 0 && left > 0))
            return job_changed(L, path);
        if (n == 0)
            break;
        left -= n;
        digest_add(j->content, j->buffer, (size_t)n);
        if (archive_write_data(j->archive, j->buffer, (size_t)n) != n)
            return job_failure(L, j, "archive", path);
        if ((failed = job_advance(L, j, (size_t)n, path)))
            return failed;
    }
    if (fstat(j->member, &after) < 0)
        return core_errno(L, errno, "stat", path);
    if (after.st_size != st->st_size || after.st_mtim.tv_sec != st->st_mtim.tv_sec ||
        after.st_mtim.tv_nsec != st->st_mtim.tv_nsec)
        return job_changed(L, path);
    return 0;
}

/* Packs a regular file and enters its hash into the table at `files`. */
static int put_file(lua_State *L, job *j, const char *path, const char *name, int files) {
    char hex[DIGEST_HEX];
    struct stat st;
    int failed;
    j->member = openat(j->parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (j->member < 0)
        return core_errno(L, errno, "open", path);
    if (fstat(j->member, &st) < 0)
        return core_errno(L, errno, "stat", path);
    if (!S_ISREG(st.st_mode))
        return job_changed(L, path);
    if ((failed = put_header(L, j, path, &st, NULL)) || (failed = put_content(L, j, path, &st)))
        return failed;
    job_close(&j->member);
    if (digest_hex(j->content, hex) < 0)
        return core_errno(L, errno, "hash", path);
    lua_pushstring(L, hex);
    lua_setfield(L, files, path);
    return 0;
}

/* Packs a symbolic link and enters its target into the table at `links`. */
static int put_link(lua_State *L, job *j, const char *path, const char *name, const struct stat *st,
                    int links) {
    char target[PATH_MAX + 1];
    ssize_t length = readlinkat(j->parent, name, target, sizeof target - 1);
    if (length < 0)
        return core_errno(L, errno, "readlink", path);
    target[length] = '\0';
    int failed = put_header(L, j, path, st, target);
    if (failed)
        return failed;
    lua_pushlstring(L, target, (size_t)length);
    lua_setfield(L, links, path);
    return 0;
}

/* Packs one entry; `files` and `links` are the stack indices of the tables under construction. */
static int put_entry(lua_State *L, job *j, const char *path, size_t length, int files, int links,
                     lua_Integer *directories) {
    const char *name;
    struct stat st;
    int failed = 0;
    if ((failed = job_cancelled(L, path)))
        return failed;
    if (!path_is_normal(path, length))
        return core_fail(L, "EINVAL", "archive %s: not a normal path beneath the root", path);
    j->parent = path_parent(j->root, path, &name, false);
    if (j->parent < 0)
        return core_errno(L, errno, "open the directory of", path);
    if (fstatat(j->parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return core_errno(L, errno, "stat", path);
    if (S_ISREG(st.st_mode)) {
        failed = put_file(L, j, path, name, files);
    } else if (S_ISLNK(st.st_mode)) {
        failed = put_link(L, j, path, name, &st, links);
    } else if (S_ISDIR(st.st_mode)) {
        failed = put_header(L, j, path, &st, NULL);
        *directories += 1;
    } else {
        failed =
            core_fail(L, "ENOTREG", "archive %s: neither a file, a directory nor a link", path);
    }
    job_close(&j->parent);
    return failed;
}

/* Ends the archive and makes it durable: from here on it stays. */
static int finish(lua_State *L, job *j, const char *out, char hex[DIGEST_HEX]) {
    if (archive_write_close(j->archive) != ARCHIVE_OK)
        return job_failure(L, j, "archive", out);
    if (digest_hex(j->whole, hex) < 0)
        return core_errno(L, errno, "hash", out);
    if (durable_sync(j->file) < 0)
        return core_errno(L, errno, "sync", out);
    int fd = j->file;
    j->file = -1;
    if (durable_close(fd) < 0)
        return core_errno(L, errno, "close", out);
    if (durable_sync(j->out_dir) < 0)
        return core_errno(L, errno, "sync the directory of", out);
    job_close(&j->out_dir);
    return 0;
}

int pack(lua_State *L, job *j, const char *out, const char *root, lua_Integer level) {
    char hex[DIGEST_HEX];
    lua_Integer directories = 0;
    int failed;
    if ((failed = job_equip(L, j)))
        return failed;
    j->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->root < 0)
        return core_errno(L, errno, "open", root);
    if ((failed = open_output(L, j, out)) || (failed = open_writer(L, j, out, level)))
        return failed;
    lua_newtable(L);
    int result = lua_gettop(L);
    lua_newtable(L);
    lua_newtable(L);
    for (lua_Integer i = 1, n = luaL_len(L, 3); i <= n; i++) {
        size_t length;
        lua_geti(L, 3, i);
        if (lua_type(L, -1) != LUA_TSTRING)
            return luaL_error(L, "archive.create: entry %d is not a path", (int)i);
        const char *path = lua_tolstring(L, -1, &length);
        if ((failed = put_entry(L, j, path, length, result + 1, result + 2, &directories)))
            return failed;
        lua_pop(L, 1);
    }
    if ((failed = finish(L, j, out, hex)))
        return failed;
    lua_setfield(L, result, "links");
    lua_setfield(L, result, "files");
    lua_pushinteger(L, directories);
    lua_setfield(L, result, "directories");
    lua_pushinteger(L, j->done);
    lua_setfield(L, result, "bytes");
    lua_pushstring(L, hex);
    lua_setfield(L, result, "archive_sha256");
    lua_pushinteger(L, j->archive_bytes);
    lua_setfield(L, result, "archive_bytes");
    return 1;
}
