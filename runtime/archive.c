/*
** archive.c: core.archive: a tree packed into one file, and back: pax tar under zstd, through
** libarchive. Here are the functions of Lua and what they share; the work is in pack.c, members.c
** and unpack.c.
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
**
** All three functions can be cancelled (core.cancel), in the middle of a member, too.
*/
#define _GNU_SOURCE
#include "archive_job.h"
#include "cancel.h"
#include "durable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB "praxlua.archive"

enum {
    PROGRESS_NS = 100000000,  /* between two calls of opts.progress */
    MAX_ENTRIES = 1024 * 1024 /* opts.max_entries when not given */
};
static const lua_Integer MAX_BYTES = (lua_Integer)1 << 40; /* opts.max_bytes when not given */

/* ======================= The job ======================= */

void job_close(int *fd) {
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

void job_free_archive(job *j) {
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
    job_free_archive(j);
    archive_entry_free(j->entry);
    j->entry = NULL;
    job_close(&j->member);
    job_close(&j->parent);
    job_close(&j->root);
    job_close(&j->file);
    if (j->out_dir >= 0)
        durable_unlink(j->out_dir, j->out_name);
    job_close(&j->out_dir);
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

int job_equip(lua_State *L, job *j) {
    j->whole = digest_new();
    j->content = digest_new();
    j->buffer = malloc(ARCHIVE_CHUNK);
    j->block = malloc(ARCHIVE_CHUNK);
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

int job_cancelled(lua_State *L, const char *path) {
    return cancel_asked() == 0 ? 0 : core_errno(L, errno, "archive", path);
}

int job_advance(lua_State *L, job *j, size_t bytes, const char *path) {
    int cancelled = job_cancelled(L, path);
    j->done += (lua_Integer)bytes;
    if (cancelled || !j->progress)
        return cancelled;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_Integer passed =
        (now.tv_sec - j->told.tv_sec) * 1000000000 + (now.tv_nsec - j->told.tv_nsec);
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

int job_failure(lua_State *L, job *j, const char *step, const char *path) {
    const char *reason = archive_error_string(j->archive);
    if (j->error == EFBIG && !j->packing)
        return core_fail(L, "EFBIG", "%s %s: it unpacks to more than its limit", step, path);
    if (j->error)
        return core_errno(L, j->error, step, path);
    if (archive_errno(j->archive) == ENOMEM)
        return core_errno(L, ENOMEM, step, path);
    return core_fail(L, j->packing ? "EIO" : "EBADARCHIVE", "%s %s: %s", step, path,
                     reason ? reason : "unknown reason");
}

int job_changed(lua_State *L, const char *path) {
    return core_fail(L, "ECHANGED", "archive %s: changed while it was read", path);
}

/* ======================= The functions of Lua ======================= */

static limits get_limits(lua_State *L, int options) {
    limits most = {core_opt_integer(L, options, "max_bytes", MAX_BYTES),
                   core_opt_integer(L, options, "max_entries", MAX_ENTRIES)};
    return most;
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
    int results = pack(L, j, out, root, level);
    release(j);
    return results;
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
    int results = unpack_list(L, j, path, most);
    release(j);
    return results;
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
    int results = unpack(L, j, path, directory, most);
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
