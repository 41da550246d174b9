/*
** archive.c: a tree packed into one file, and back: pax tar under zstd, through libarchive.
**
** libarchive only codes and decodes here. Files to pack are opened beneath their root (path.h),
** unpacked ones are created by durable.h beneath theirs, so neither a link nor a race leads out,
** and no member is ever written through something that was there before.
**
** Names are bytes. libarchive thinks in characters, and its reader composes Unicode on the way
** ("a" + U+0308 would come back as one letter), so the two sides use different locales, for the
** time of a call only. Writing happens in a UTF-8 one: names that are UTF-8 become ordinary pax
** records, which any tar understands; others are marked hdrcharset=BINARY (GNU tar warns and
** restores them all the same). Reading happens in "C", where nothing can be converted: libarchive
** then hands over the bytes as they are, with a warning. Whoever creates an archive compares what
** it reads back, so another libarchive that behaves differently is noticed, not trusted.
**
** What create never writes, read and extract refuse ("EBADARCHIVE"): another compression or tar
** dialect, names that are absolute, empty or hold "..", "." or "//", a name twice, a name below a
** file or link, hard links, devices, sparse maps, and anything after the end of the archive.
*/
#define _GNU_SOURCE
#include "core.h"
#include "digest.h"
#include "durable.h"
#include "path.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB "praxlua.archive"

enum {
    CHUNK = 256 * 1024,       /* bytes per read of a file, and per call of libarchive */
    PROGRESS_NS = 100000000,  /* between two calls of opts.progress */
    MAX_ENTRIES = 1024 * 1024 /* opts.max_entries when not given */
};
static const lua_Integer MAX_BYTES = (lua_Integer)1 << 40; /* opts.max_bytes when not given */
static const lua_Integer SECOND = 1000000000;
static const lua_Integer LATEST = LUA_MAXINTEGER / 1000000000 - 1; /* s that fit into ns */

/* What waits until every file is in place: links, which must not be written through, and the modes
** and times of directories, which are still being written in. */
typedef struct deferred {
    char *path;
    char *target; /* NULL for a directory */
    mode_t mode;
    struct timespec mtime;
} deferred;

typedef struct deferred_list {
    deferred *items;
    size_t count, room;
} deferred_list;

/* Everything one call holds. It is a userdata, to be closed by Lua, because a callback or a full
** memory may raise in the middle. */
typedef struct job {
    struct archive *archive;
    struct archive_entry *entry; /* of the writer */
    digest *whole, *content;     /* of the archive file, of the member at hand */
    locale_t locale;
    unsigned char *buffer; /* CHUNK bytes for file content */
    unsigned char *block;  /* CHUNK bytes for what libarchive reads */
    int file;              /* the archive */
    int root;              /* the directory packed from or unpacked into */
    int parent, member;    /* of the member at hand */
    int out_dir;           /* holds the archive being made, until that is finished */
    const char *out_name;  /* in it; points into the caller's string */
    int error;             /* errno of a failed callback, 0 for none */
    bool packing;
    off_t archive_bytes;
    lua_Integer done; /* content bytes so far */
    int progress;     /* stack index of opts.progress, 0 for none */
    struct timespec told;
    deferred_list directories, links;
} job;

/* One member as its header tells it. The strings live until the next header. */
typedef struct member {
    const char *path, *target;
    size_t length; /* of path, without a final slash */
    mode_t type;   /* S_IFREG, S_IFDIR or S_IFLNK */
    mode_t mode;
    lua_Integer size;
    struct timespec mtime;
} member;

/* ------------------------------------------------------------------------------------------- */
/* The job */

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void forget(deferred_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].path);
        free(list->items[i].target);
    }
    free(list->items);
    *list = (deferred_list){0};
}

static void free_archive(job *j) {
    if (!j->archive)
        return;
    if (j->packing) {
        archive_write_fail(j->archive); /* nothing more is to be flushed */
        archive_write_free(j->archive);
    } else {
        archive_read_free(j->archive);
    }
    j->archive = NULL;
}

/* Closes everything; an archive that was not finished is removed. May be called again. */
static void release(job *j) {
    free_archive(j);
    archive_entry_free(j->entry);
    j->entry = NULL;
    close_fd(&j->member);
    close_fd(&j->parent);
    close_fd(&j->root);
    close_fd(&j->file);
    if (j->out_dir >= 0)
        durable_unlink(j->out_dir, j->out_name);
    close_fd(&j->out_dir);
    digest_free(j->whole);
    digest_free(j->content);
    j->whole = j->content = NULL;
    if (j->locale)
        freelocale(j->locale);
    j->locale = (locale_t)0;
    free(j->buffer);
    free(j->block);
    j->buffer = j->block = NULL;
    forget(&j->directories);
    forget(&j->links);
}

static int l_release(lua_State *L) {
    release(luaL_checkudata(L, 1, JOB));
    return 0;
}

/* Pushes a job that holds nothing yet and that Lua closes when the calling function is left. */
static job *new_job(lua_State *L) {
    job *j = lua_newuserdatauv(L, sizeof *j, 0);
    *j = (job){.file = -1, .root = -1, .parent = -1, .member = -1, .out_dir = -1};
    luaL_setmetatable(L, JOB);
    lua_toclose(L, -1);
    return j;
}

/* The parts every job needs. 0, or the three values of an error. */
static int equip(lua_State *L, job *j) {
    j->whole = digest_new();
    j->content = digest_new();
    j->buffer = malloc(CHUNK);
    j->block = malloc(CHUNK);
    if (!j->whole || !j->content || !j->buffer || !j->block)
        return core_errno(L, ENOMEM, "archive", NULL);
    return 0;
}

/* Remembers opts.progress, which stays on the stack. */
static void use_progress(lua_State *L, job *j, int options) {
    if (lua_isnoneornil(L, options))
        return;
    luaL_checktype(L, options, LUA_TTABLE);
    if (lua_getfield(L, options, "progress") == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    luaL_argcheck(L, lua_isfunction(L, -1), options, "progress must be a function");
    j->progress = lua_gettop(L);
}

/* Counts `bytes` and tells the caller, at once and then ten times a second at most. A callback that
** returns false ends the job. 0, or the three values of an error. */
static int advance(lua_State *L, job *j, size_t bytes, const char *path) {
    j->done += (lua_Integer)bytes;
    if (!j->progress)
        return 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_Integer passed = (now.tv_sec - j->told.tv_sec) * SECOND + (now.tv_nsec - j->told.tv_nsec);
    if (j->told.tv_sec != 0 && passed < PROGRESS_NS)
        return 0;
    j->told = now;
    lua_pushvalue(L, j->progress);
    lua_pushinteger(L, j->done);
    lua_call(L, 1, 1);
    bool stop = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return stop ? core_fail(L, "ECANCELED", "archive %s: stopped on request", path) : 0;
}

/* The reason of libarchive's last failure, or of the callback that made it fail. */
static int archive_failure(lua_State *L, job *j, const char *step, const char *path) {
    const char *reason = archive_error_string(j->archive);
    if (j->error)
        return core_errno(L, j->error, step, path);
    if (archive_errno(j->archive) == ENOMEM)
        return core_errno(L, ENOMEM, step, path);
    return core_fail(L, j->packing ? "EIO" : "EBADARCHIVE", "%s %s: %s", step, path,
                     reason ? reason : "unknown reason");
}

/* ------------------------------------------------------------------------------------------- */
/* Packing */

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
        archive_write_set_bytes_per_block(j->archive, CHUNK) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(j->archive, 1) != ARCHIVE_OK ||
        archive_write_open(j->archive, j, NULL, on_write, NULL) != ARCHIVE_OK)
        return archive_failure(L, j, "archive", out);
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
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 0 : archive_failure(L, j, "archive", path);
}

static int changed(lua_State *L, const char *path) {
    return core_fail(L, "ECHANGED", "archive %s: changed while it was read", path);
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
        ssize_t n = read(j->member, j->buffer, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return core_errno(L, errno, "read", path);
        if (n > left || (n == 0 && left > 0))
            return changed(L, path);
        if (n == 0)
            break;
        left -= n;
        digest_add(j->content, j->buffer, (size_t)n);
        if (archive_write_data(j->archive, j->buffer, (size_t)n) != n)
            return archive_failure(L, j, "archive", path);
        if ((failed = advance(L, j, (size_t)n, path)))
            return failed;
    }
    if (fstat(j->member, &after) < 0)
        return core_errno(L, errno, "stat", path);
    if (after.st_size != st->st_size || after.st_mtim.tv_sec != st->st_mtim.tv_sec ||
        after.st_mtim.tv_nsec != st->st_mtim.tv_nsec)
        return changed(L, path);
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
        return changed(L, path);
    if ((failed = put_header(L, j, path, &st, NULL)) || (failed = put_content(L, j, path, &st)))
        return failed;
    close_fd(&j->member);
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

/* Packs one entry. `result` is the table under construction at stack index files - 1. */
static int put_entry(lua_State *L, job *j, const char *path, size_t length, int files, int links,
                     lua_Integer *directories) {
    const char *name;
    struct stat st;
    int failed = 0;
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
    close_fd(&j->parent);
    return failed;
}

/* Ends the archive and makes it durable: from here on it stays. */
static int finish(lua_State *L, job *j, const char *out, char hex[DIGEST_HEX]) {
    if (archive_write_close(j->archive) != ARCHIVE_OK)
        return archive_failure(L, j, "archive", out);
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
    close_fd(&j->out_dir);
    return 0;
}

static int create(lua_State *L, job *j, const char *out, const char *root, lua_Integer level) {
    char hex[DIGEST_HEX];
    lua_Integer directories = 0;
    int failed;
    if ((failed = equip(L, j)))
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

/*
** archive.create(out, root, entries, opts?) -> { files = {[path] = sha256}, links = {[path] =
** target}, directories = int, bytes = int, archive_sha256 = hex, archive_bytes = int }
**
** Packs the `entries`, an array of normal paths beneath the directory `root` (regular files,
** directories without what is in them, symbolic links), in order, into the new file `out` (mode
** 0600), and syncs it and its directory. Every hash is of the bytes that were packed. opts.level:
** of zstd, 3. opts.progress(bytes): called with the content bytes packed so far; false stops.
** Errors: an errno; "ENOTREG" for another kind of file; "ECHANGED" when a file's size or mtime
** changed while it was read; "ECANCELED". `out` does not stay after an error.
*/
static int l_create(lua_State *L) {
    const char *out = core_check_path(L, 1);
    const char *root = core_check_path(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_Integer level = core_opt_integer(L, 4, "level", 3);
    lua_settop(L, 4);
    job *j = new_job(L);
    use_progress(L, j, 4);
    int results = create(L, j, out, root, level);
    release(j);
    return results;
}

/* ------------------------------------------------------------------------------------------- */
/* Reading */

static la_ssize_t on_read(struct archive *a, void *client, const void **data) {
    job *j = client;
    ssize_t n;
    do {
        n = read(j->file, j->block, CHUNK);
    } while (n < 0 && errno == EINTR);
    if (n < 0 || (n > 0 && digest_add(j->whole, j->block, (size_t)n) < 0)) {
        j->error = errno;
        archive_set_error(a, j->error, "%s", strerror(j->error));
        return -1;
    }
    *data = j->block;
    j->archive_bytes += n;
    return n;
}

static int open_input(lua_State *L, job *j, const char *path) {
    struct stat st;
    int failed = equip(L, j);
    if (failed)
        return failed;
    j->locale = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
    j->file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (j->file < 0 || fstat(j->file, &st) < 0)
        return core_errno(L, errno, "open", path);
    if (!S_ISREG(st.st_mode))
        return core_fail(L, "ENOTREG", "open %s: not a regular file", path);
    return 0;
}

/* Begins (again) at the start of the archive. */
static int open_reader(lua_State *L, job *j, const char *path) {
    free_archive(j);
    j->archive_bytes = 0;
    j->done = 0;
    if (lseek(j->file, 0, SEEK_SET) < 0 || digest_reset(j->whole) < 0)
        return core_errno(L, errno, "read", path);
    j->archive = archive_read_new();
    if (!j->archive)
        return core_errno(L, ENOMEM, "archive", path);
    if (archive_read_support_filter_zstd(j->archive) != ARCHIVE_OK)
        return core_fail(L, "ENOLIB", "archive %s: this libarchive cannot read zstd", path);
    /* Reading on behind the end mark means that the file is read to its last byte: a cut is
    ** noticed wherever it is, and nothing can hide there. */
    if (archive_read_support_format_tar(j->archive) != ARCHIVE_OK ||
        archive_read_set_format_option(j->archive, "tar", "read_concatenated_archives", "1") !=
            ARCHIVE_OK ||
        archive_read_open(j->archive, j, NULL, on_read, NULL) != ARCHIVE_OK)
        return archive_failure(L, j, "read", path);
    if (archive_filter_count(j->archive) != 2 ||
        archive_filter_code(j->archive, 0) != ARCHIVE_FILTER_ZSTD)
        return core_fail(L, "EBADARCHIVE", "read %s: not a zstd file", path);
    return 0;
}

static int refuse(lua_State *L, const char *path, const char *name, const char *why) {
    return core_fail(L, "EBADARCHIVE", "read %s: member '%s' %s", path, name, why);
}

static bool is_ascii(const char *text) {
    for (; text && *text; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

/* Why a member is none that create writes, or NULL. Fills *m. */
static const char *examine(struct archive *a, struct archive_entry *e, int rc, member *m) {
    int dialect = archive_format(a);
    *m = (member){.path = archive_entry_pathname(e), .target = archive_entry_symlink(e)};
    if (!m->path)
        return "has no name";
    m->length = strlen(m->path);
    m->type = archive_entry_filetype(e);
    m->mode = archive_entry_perm(e);
    m->size = archive_entry_size(e);
    m->mtime.tv_sec = archive_entry_mtime(e);
    m->mtime.tv_nsec = archive_entry_mtime_nsec(e);
    if (m->type == S_IFDIR && m->length > 1 && m->path[m->length - 1] == '/')
        m->length--;
    /* The one warning that is expected: a name that the "C" locale does not know. */
    if (rc == ARCHIVE_WARN && is_ascii(m->path) && is_ascii(m->target))
        return archive_error_string(a);
    if (dialect != ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE && dialect != ARCHIVE_FORMAT_TAR_USTAR)
        return "is not in the pax format";
    if (archive_entry_hardlink(e))
        return "is a hard link";
    if (m->type != S_IFREG && m->type != S_IFDIR && m->type != S_IFLNK)
        return "is neither a file, a directory nor a link";
    if (m->length >= PATH_MAX || !path_is_normal(m->path, m->length))
        return "is not a normal path beneath a root";
    if (m->type == S_IFLNK && (!m->target || !*m->target || strlen(m->target) >= PATH_MAX))
        return "is a link without a usable target";
    if (archive_entry_sparse_count(e) > 0)
        return "is a sparse file";
    if (m->size < 0 || (m->type != S_IFREG && m->size != 0))
        return "has a size that its kind cannot have";
    if (m->mtime.tv_sec > LATEST || m->mtime.tv_sec < -LATEST)
        return "has a time out of range";
    return NULL;
}

/* Enters the path into the table at `seen`, and the directories it implies. Values: true for a
** directory that is a member, false for one that is only implied, a number for a file or link.
** Returns why it cannot be, or NULL. */
static const char *claim(lua_State *L, int seen, const member *m) {
    const char *why = NULL;
    lua_pushlstring(L, m->path, m->length);
    lua_pushvalue(L, -1);
    int known = lua_rawget(L, seen);
    if (known == LUA_TNUMBER || (known == LUA_TBOOLEAN && lua_toboolean(L, -1)))
        why = "is there twice";
    else if (known == LUA_TBOOLEAN && m->type != S_IFDIR)
        why = "is also a directory";
    lua_pop(L, 1);
    if (m->type == S_IFDIR)
        lua_pushboolean(L, 1);
    else
        lua_pushinteger(L, 0);
    lua_rawset(L, seen);
    for (size_t end = m->length; !why && end > 0; end--) {
        if (m->path[end - 1] != '/')
            continue;
        lua_pushlstring(L, m->path, end - 1);
        lua_pushvalue(L, -1);
        known = lua_rawget(L, seen);
        lua_pop(L, 1);
        if (known == LUA_TNIL) {
            lua_pushboolean(L, 0);
            lua_rawset(L, seen);
            continue;
        }
        lua_pop(L, 1);
        if (known == LUA_TNUMBER)
            why = "lies beneath a file or a link";
        break; /* the rest of the way up is known */
    }
    return why;
}

typedef struct limits {
    lua_Integer bytes, entries;
} limits;

static limits get_limits(lua_State *L, int options) {
    limits most = {core_opt_integer(L, options, "max_bytes", MAX_BYTES),
                   core_opt_integer(L, options, "max_entries", MAX_ENTRIES)};
    return most;
}

/* Reads the next header into *m and checks it. Counts down `left`. 1, 0 at the end, or -1 with the
** three values of an error pushed. */
static int next_member(lua_State *L, job *j, const char *path, int seen, limits *left, member *m) {
    struct archive_entry *e;
    locale_t before = j->locale ? uselocale(j->locale) : (locale_t)0;
    int rc = archive_read_next_header(j->archive, &e);
    if (before)
        uselocale(before);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
        archive_failure(L, j, "read", path);
        return -1;
    }
    const char *why = examine(j->archive, e, rc, m);
    if (!why)
        why = claim(L, seen, m);
    if (why) {
        refuse(L, path, m->path ? m->path : "", why);
        return -1;
    }
    left->entries--;
    left->bytes -= m->size <= left->bytes ? m->size : left->bytes + 1;
    if (left->entries < 0 || left->bytes < 0) {
        core_fail(L, "EFBIG", "read %s: member '%s' is beyond the limit of %s", path, m->path,
                  left->entries < 0 ? "entries" : "bytes");
        return -1;
    }
    return 1;
}

/* Reads the content of the member at hand: hashes it when `hash`, writes it to j->member when that
** is open. */
static int take_content(lua_State *L, job *j, const char *path, const member *m, bool hash) {
    lua_Integer taken = 0;
    int failed;
    if (hash && digest_reset(j->content) < 0)
        return core_errno(L, errno, "hash", path);
    for (;;) {
        la_ssize_t n = archive_read_data(j->archive, j->buffer, CHUNK);
        if (n == 0)
            break;
        if (n < 0)
            return archive_failure(L, j, "read", path);
        taken += n;
        if (hash)
            digest_add(j->content, j->buffer, (size_t)n);
        if (j->member >= 0 && durable_write(j->member, j->buffer, (size_t)n) < 0)
            return core_errno(L, errno, "write", m->path);
        if ((failed = advance(L, j, (size_t)n, path)))
            return failed;
    }
    return taken == m->size ? 0 : refuse(L, path, m->path, "is shorter than it says");
}

/* Reads what is left of the file (nothing, as a rule), so that the hash is of all of it. */
static int take_rest(lua_State *L, job *j, const char *path, char hex[DIGEST_HEX]) {
    const void *data;
    la_ssize_t n;
    while ((n = on_read(j->archive, j, &data)) > 0)
        continue;
    if (n < 0)
        return core_errno(L, j->error, "read", path);
    return digest_hex(j->whole, hex) < 0 ? core_errno(L, errno, "hash", path) : 0;
}

static lua_Integer nanoseconds(struct timespec t) {
    return (lua_Integer)t.tv_sec * SECOND + t.tv_nsec;
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

static int read_all(lua_State *L, job *j, const char *path, limits left) {
    char hex[DIGEST_HEX];
    member m;
    int failed, rc;
    if ((failed = open_input(L, j, path)) || (failed = open_reader(L, j, path)))
        return failed;
    lua_newtable(L);
    lua_newtable(L);
    lua_newtable(L);
    int seen = lua_gettop(L), entries = seen - 1, result = seen - 2;
    lua_Integer count = 0;
    while ((rc = next_member(L, j, path, seen, &left, &m)) > 0) {
        if (m.type == S_IFREG) {
            if ((failed = take_content(L, j, path, &m, true)))
                return failed;
            if (digest_hex(j->content, hex) < 0)
                return core_errno(L, errno, "hash", path);
        }
        push_member(L, &m, hex);
        lua_rawseti(L, entries, ++count);
    }
    if (rc < 0)
        return 3;
    if ((failed = take_rest(L, j, path, hex)))
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

/*
** archive.read(path, opts?) -> { entries = { { path, type = "file"|"directory"|"link", mode, size,
** mtime = ns, target?, sha256? }, ... }, archive_sha256 = hex, archive_bytes = int }
**
** Reads the whole archive back, contents included. opts.max_bytes (of content, 1 TiB) and
** opts.max_entries (1 Mi) bound it; opts.progress as for create.
** Errors: an errno; "ENOTREG"; "EBADARCHIVE" for damage and for what create never writes; "EFBIG"
** beyond a limit; "ECANCELED".
*/
static int l_read(lua_State *L) {
    const char *path = core_check_path(L, 1);
    limits most = get_limits(L, 2);
    lua_settop(L, 2);
    job *j = new_job(L);
    use_progress(L, j, 2);
    int results = read_all(L, j, path, most);
    release(j);
    return results;
}

/* ------------------------------------------------------------------------------------------- */
/* Unpacking */

/* 0 when the directory has no entry. */
static int check_empty(lua_State *L, int root, const char *directory) {
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        close_fd(&fd);
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
    close_fd(&j->parent);
    return 0;
}

static int extract_file(lua_State *L, job *j, const char *path, const member *m) {
    const char *name;
    int failed;
    j->parent = path_parent(j->root, m->path, &name, true);
    if (j->parent < 0 || (j->member = durable_create(j->parent, name, 0600)) < 0)
        return core_errno(L, errno, "create", m->path);
    if ((failed = take_content(L, j, path, m, false)))
        return failed;
    if (durable_mode(j->member, m->mode & 0777) < 0)
        return core_errno(L, errno, "chmod", m->path);
    int fd = j->member;
    j->member = -1;
    if (durable_close(fd) < 0)
        return core_errno(L, errno, "close", m->path);
    if (set_times(j->parent, name, m->mtime) < 0)
        return core_errno(L, errno, "set the time of", m->path);
    close_fd(&j->parent);
    return 0;
}

static int make_links(lua_State *L, job *j) {
    for (size_t i = 0; i < j->links.count; i++) {
        const deferred *link = &j->links.items[i];
        const char *name;
        j->parent = path_parent(j->root, link->path, &name, true);
        if (j->parent < 0 || durable_symlink(link->target, j->parent, name) < 0 ||
            set_times(j->parent, name, link->mtime) < 0)
            return core_errno(L, errno, "symlink", link->path);
        close_fd(&j->parent);
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
        j->parent = path_parent(j->root, d->path, &name, false);
        j->member = j->parent < 0 ? -1 : path_open(j->root, d->path, O_RDONLY | O_DIRECTORY);
        if (j->member < 0 || set_times(j->parent, name, d->mtime) < 0 ||
            durable_mode(j->member, d->mode) < 0)
            return core_errno(L, errno, "set mode and time of", d->path);
        close_fd(&j->member);
        close_fd(&j->parent);
    }
    return 0;
}

/* Goes through all members. With `write` they are made, links and directory modes at the end;
** without, they are only checked. Leaves the hash of the archive in `hex`. */
static int unpack(lua_State *L, job *j, const char *path, limits left, bool write,
                  lua_Integer *files, char hex[DIGEST_HEX]) {
    member m;
    int failed = open_reader(L, j, path), rc;
    if (failed)
        return failed;
    lua_newtable(L);
    int seen = lua_gettop(L);
    *files = 0;
    while ((rc = next_member(L, j, path, seen, &left, &m)) > 0) {
        *files += m.type == S_IFREG;
        if (m.type == S_IFREG)
            failed = write ? extract_file(L, j, path, &m) : take_content(L, j, path, &m, false);
        else if (write)
            failed = m.type == S_IFLNK ? defer(L, &j->links, &m) : extract_directory(L, j, &m);
        if (failed)
            return failed;
    }
    if (rc < 0)
        return 3;
    if (write && ((failed = make_links(L, j)) || (failed = settle_directories(L, j))))
        return failed;
    return take_rest(L, j, path, hex);
}

static int extract(lua_State *L, job *j, const char *path, const char *directory, limits most) {
    char checked[DIGEST_HEX], written[DIGEST_HEX];
    lua_Integer files;
    int failed;
    if ((failed = open_input(L, j, path)))
        return failed;
    j->root = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (j->root < 0)
        return core_errno(L, errno, "open", directory);
    if ((failed = check_empty(L, j->root, directory)) ||
        (failed = unpack(L, j, path, most, false, &files, checked)) ||
        (failed = unpack(L, j, path, most, true, &files, written)))
        return failed;
    if (strcmp(checked, written) != 0)
        return changed(L, path);
    lua_newtable(L);
    lua_pushinteger(L, files);
    lua_setfield(L, -2, "files");
    lua_pushinteger(L, j->done);
    lua_setfield(L, -2, "bytes");
    lua_pushstring(L, written);
    lua_setfield(L, -2, "archive_sha256");
    return 1;
}

/*
** archive.extract(path, directory, opts?) -> { files = int, bytes = int, archive_sha256 = hex }
**
** Unpacks into `directory`, which must exist and be empty. The whole archive is checked before the
** first member is made. Files are created anew with mode & 0777 and their mtime; links come last;
** owners are not restored. Nothing is synced. opts as for read.
** Errors: those of read; "ENOTEMPTY"; "ECHANGED" when the archive changed meanwhile. What was made
** before an error stays, for the caller to remove with the directory.
*/
static int l_extract(lua_State *L) {
    const char *path = core_check_path(L, 1);
    const char *directory = core_check_path(L, 2);
    limits most = get_limits(L, 3);
    lua_settop(L, 3);
    job *j = new_job(L);
    use_progress(L, j, 3);
    int results = extract(L, j, path, directory, most);
    release(j);
    return results;
}

static const luaL_Reg job_methods[] = {
    {"__gc", l_release},
    {"__close", l_release},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"create", l_create},
    {"read", l_read},
    {"extract", l_extract},
    {NULL, NULL},
};

int luaopen_praxlua_archive(lua_State *L);

int luaopen_praxlua_archive(lua_State *L) {
    luaL_newmetatable(L, JOB);
    luaL_setfuncs(L, job_methods, 0);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
