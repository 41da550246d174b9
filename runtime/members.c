/*
** members.c: an archive read member by member, and what is refused on the way. See archive_job.h.
**
** The whole file is read to its last byte and hashed. Contents go through job->buffer, so no size
** in a header makes us allocate anything.
*/
#define _GNU_SOURCE
#include "archive_job.h"
#include "cancel.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const time_t LATEST = LUA_MAXINTEGER / 1000000000 - 1; /* seconds that fit into ns */

enum {
    SLICE = 1024,           /* bytes for libarchive at once; zstd makes 32 MiB of them at most */
    ENTRY_ROOM = 32 * 1024, /* bytes of tar that a member takes beside its content, amply */
    END_ROOM = 1024 * 1024, /* and the end of the archive */
    RATIO = 128 * 1024 / 4  /* RFC 8878: no block of zstd is shorter than 4 bytes or makes more */
};

/* Reads a block of the file and hashes it. 0, or -1 with errno. */
static int fill(job *j) {
    ssize_t n;
    do {
        n = read(j->file, j->block, ARCHIVE_CHUNK);
    } while (n < 0 && errno == EINTR);
    if (n < 0 || (n > 0 && digest_add(j->whole, j->block, (size_t)n) < 0))
        return -1;
    j->have = (size_t)n;
    j->given = 0;
    j->archive_bytes += n;
    return 0;
}

/* Hands the file to libarchive slice by slice. libarchive passes over zeros behind the end of an
** archive, and over what it does not know, without coming back to us: here is where a small file
** that grows beyond everything is stopped. */
static la_ssize_t on_read(struct archive *a, void *client, const void **data) {
    job *j = client;
    bool large = archive_filter_bytes(a, 0) > j->most;
    if (large || cancel_asked() != 0 || (j->given == j->have && fill(j) != 0)) {
        j->error = large ? EFBIG : errno;
        archive_set_error(a, j->error, "%s", strerror(j->error));
        return -1;
    }
    size_t slice = j->have - j->given < SLICE ? j->have - j->given : SLICE;
    *data = j->block + j->given;
    j->given += slice;
    return (la_ssize_t)slice;
}

/* All that an archive within these limits can unpack to. */
static int64_t most_unpacked(const limits *most) {
    const lua_Integer huge = (lua_Integer)1 << 62;
    if (most->bytes >= huge / 2 || most->entries >= huge / 2 / ENTRY_ROOM)
        return huge;
    return most->bytes + most->entries * ENTRY_ROOM + END_ROOM;
}

int members_open(lua_State *L, job *j, const char *path) {
    struct stat st;
    int failed = job_equip(L, j);
    if (failed)
        return failed;
    j->locale = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
    j->file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (j->file < 0 || fstat(j->file, &st) < 0)
        return core_errno(L, errno, "open", path);
    if (!S_ISREG(st.st_mode))
        return core_fail(L, "ENOTREG", "open %s: not a regular file", path);
    j->possible = st.st_size < INT64_MAX / RATIO ? st.st_size * RATIO : INT64_MAX;
    return 0;
}

int members_begin(lua_State *L, job *j, const char *path, const limits *most) {
    job_free_archive(j);
    j->archive_bytes = 0;
    j->have = j->given = 0;
    j->most = most_unpacked(most);
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
        return job_failure(L, j, "read", path);
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

int members_next(lua_State *L, job *j, const char *path, int seen, limits *left, member *m) {
    struct archive_entry *e;
    if (job_cancelled(L, path))
        return -1;
    locale_t before = j->locale ? uselocale(j->locale) : (locale_t)0;
    int rc = archive_read_next_header(j->archive, &e);
    if (before)
        uselocale(before);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
        job_failure(L, j, "read", path);
        return -1;
    }
    const char *why = examine(j->archive, e, rc, m);
    if (!why)
        why = claim(L, seen, m);
    if (why) {
        refuse(L, path, m->path ? m->path : "", why);
        return -1;
    }
    if (m->size > j->possible) {
        refuse(L, path, m->path, "is larger than this archive can hold");
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

int members_content(lua_State *L, job *j, const char *path, const member *m, bool hash) {
    lua_Integer taken = 0;
    int failed;
    if (hash && digest_reset(j->content) < 0)
        return core_errno(L, errno, "hash", path);
    for (;;) {
        la_ssize_t n = archive_read_data(j->archive, j->buffer, ARCHIVE_CHUNK);
        if (n == 0)
            break;
        if (n < 0)
            return job_failure(L, j, "read", path);
        taken += n;
        if (hash)
            digest_add(j->content, j->buffer, (size_t)n);
        if (j->member >= 0 && durable_write(j->member, j->buffer, (size_t)n) < 0)
            return core_errno(L, errno, "write", m->path);
        if ((failed = job_advance(L, j, (size_t)n, path)))
            return failed;
    }
    return taken == m->size ? 0 : refuse(L, path, m->path, "is shorter than it says");
}

int members_end(lua_State *L, job *j, const char *path, char hex[DIGEST_HEX]) {
    const void *data;
    la_ssize_t n;
    int cancelled;
    while ((n = on_read(j->archive, j, &data)) > 0)
        if ((cancelled = job_cancelled(L, path)))
            return cancelled;
    if (n < 0)
        return core_errno(L, j->error, "read", path);
    return digest_hex(j->whole, hex) < 0 ? core_errno(L, errno, "hash", path) : 0;
}
