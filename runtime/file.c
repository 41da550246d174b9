/*
** file.c: core.file: single files and directory entries: read whole, replaced atomically, renamed
** and removed durably.
**
** Paths are taken as given (they are trusted; see core.root for those that are not). A final
** symbolic link is never followed, but by mkdir and realpath. What a function here reports as done
** is on the disk: the directory that changed has been synced.
*/
#define _GNU_SOURCE
#include "file.h"
#include "core.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ======================= Parts ======================= */

/* A directory entry: its directory, open, and its name there. */
struct entry {
    struct core_guard *guard; /* holds the directory */
    int dir;
    const char *name; /* on the Lua stack */
};

/* Pushes the guard of an entry that is not open yet. */
static void push_entry(lua_State *L, struct entry *entry) {
    entry->guard = core_guard(L, core_guard_close);
    entry->dir = -1;
}

/* Opens the directory of `path`, closing what the entry held before, and splits off the last
** component; trailing slashes are not part of it. Pushes up to two strings. Returns 0, or -1 with
** errno (EINVAL for a path that ends in "." or "..", or is "/"). */
static int open_entry(lua_State *L, const char *path, struct entry *entry) {
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    core_guard_close(entry->guard);
    entry->dir = -1;
    entry->name = lua_pushlstring(L, path + start, end - start);
    if (!path_is_normal(entry->name, end - start)) {
        errno = EINVAL;
        return -1;
    }
    const char *directory = start == 0 ? "." : lua_pushlstring(L, path, start);
    do
        entry->dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (entry->dir < 0 && errno == EINTR);
    entry->guard->fd = entry->dir;
    return entry->dir < 0 ? -1 : 0;
}

/* Syncs a directory. Some file systems cannot and say EINVAL; every other error counts. */
static int sync_directory(int dir) {
    return durable_sync(dir) < 0 && errno != EINVAL ? -1 : 0;
}

const char *file_type(mode_t mode) {
    if (S_ISREG(mode))
        return "file";
    if (S_ISDIR(mode))
        return "directory";
    return S_ISLNK(mode) ? "link" : "other";
}

static void set_integer(lua_State *L, const char *field, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, field);
}

void file_push_stat(lua_State *L, const struct stat *st) {
    lua_createtable(L, 0, 10);
    lua_pushstring(L, file_type(st->st_mode));
    lua_setfield(L, -2, "type");
    set_integer(L, "mode", st->st_mode & 07777);
    set_integer(L, "size", st->st_size);
    set_integer(L, "mtime", (lua_Integer)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec);
    set_integer(L, "inode", (lua_Integer)st->st_ino);
    set_integer(L, "device", (lua_Integer)st->st_dev);
    set_integer(L, "links", (lua_Integer)st->st_nlink);
    set_integer(L, "uid", st->st_uid);
    set_integer(L, "gid", st->st_gid);
}

int file_push_target(lua_State *L, int dir, const char *name) {
    char target[PATH_MAX]; /* Linux makes no longer ones */
    ssize_t n = readlinkat(dir, name, target, sizeof target);
    if (n < 0)
        return 0;
    lua_pushlstring(L, target, (size_t)n);
    return 1;
}

lua_Integer file_opt_limit(lua_State *L, int arg) {
    lua_Integer limit = luaL_optinteger(L, arg, FILE_LIMIT);
    luaL_argcheck(L, limit >= 0, arg, "negative limit");
    return limit;
}

int file_push_content(lua_State *L, int fd, lua_Integer limit, const char *path) {
    luaL_Buffer content;
    luaL_buffinit(L, &content);
    lua_Integer total = 0;
    for (;;) {
        char *at = luaL_prepbuffsize(&content, 64 * 1024);
        ssize_t n = read(fd, at, 64 * 1024);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return core_errno(L, errno, "read", path);
        if (n == 0)
            break;
        total += n;
        if (total > limit)
            return core_fail(L, "EFBIG", "read %s: larger than %I bytes", path, (LUAI_UACINT)limit);
        luaL_addsize(&content, (size_t)n);
    }
    luaL_pushresult(&content);
    return 1;
}

/* ======================= Looking ======================= */

/* read(path, limit=64 MiB) -> string | nil, message, code
** Regular files only ("ENOTREG", a link too); a file longer than limit bytes is "EFBIG". */
static int file_read(lua_State *L) {
    const char *path = core_check_path(L, 1);
    lua_Integer limit = file_opt_limit(L, 2);
    struct stat st;
    struct core_guard *file = core_guard(L, core_guard_close);
    file->fd = path_open_regular(AT_FDCWD, path, &st);
    if (file->fd < 0)
        return core_errno(L, errno, "open", path);
    if (st.st_size > limit)
        return core_fail(L, "EFBIG", "read %s: %I bytes, more than %I", path,
                         (LUAI_UACINT)st.st_size, (LUAI_UACINT)limit);
    return file_push_content(L, file->fd, limit, path);
}

/* stat(path) -> {type="file"|"directory"|"link"|"other", mode=07777 bits, size, mtime=ns since the
** epoch, inode, device, links, uid, gid, target=string of a link} of the entry itself
** | nil, message, code */
static int file_stat(lua_State *L) {
    const char *path = core_check_path(L, 1);
    struct stat st;
    if (lstat(path, &st) < 0)
        return core_errno(L, errno, "stat", path);
    file_push_stat(L, &st);
    if (S_ISLNK(st.st_mode) && file_push_target(L, AT_FDCWD, path))
        lua_setfield(L, -2, "target");
    return 1;
}

/* exists(path) -> boolean: whether there is an entry, be it a link that leads nowhere. */
static int file_exists(lua_State *L) {
    struct stat st;
    lua_pushboolean(L, lstat(core_check_path(L, 1), &st) == 0);
    return 1;
}

/* readlink(path) -> target | nil, message, code */
static int file_readlink(lua_State *L) {
    const char *path = core_check_path(L, 1);
    return file_push_target(L, AT_FDCWD, path) ? 1 : core_errno(L, errno, "readlink", path);
}

/* realpath(path) -> absolute path without links | nil, message, code */
static int file_realpath(lua_State *L) {
    const char *path = core_check_path(L, 1);
    char resolved[PATH_MAX];
    if (!realpath(path, resolved))
        return core_errno(L, errno, "realpath", path);
    lua_pushstring(L, resolved);
    return 1;
}

/* ======================= Writing ======================= */

/* An atomic write under way. */
struct replacement {
    int dir;
    const char *name;        /* the file */
    char temp[NAME_MAX + 1]; /* its successor, in the same directory */
    const char *data;        /* what goes in */
    size_t size;             /* bytes of it */
    mode_t mode;             /* permissions of the new file */
    bool replaces;           /* there is a file already, */
    struct stat old;         /* and this is it */
    const char *previous;    /* the name it gets, in the same directory; NULL: it goes */
    bool lazy;               /* nothing is synced */
    const char *step;        /* what failed, for the message */
};

/* Makes the temporary file under a name that is free and tells whose it is: ".NAME.px-PID-N". NAME
** is cut where the whole would be too long. Returns its descriptor or -1. */
static int create_temp(struct replacement *r) {
    static unsigned counter;
    int fd = -1;
    for (int tries = 0; tries < 100; tries++) {
        snprintf(r->temp, sizeof r->temp, ".%.200s.px-%d-%u", r->name, (int)getpid(), ++counter);
        fd = durable_create(r->dir, r->temp, 0600);
        if (fd >= 0 || errno != EEXIST)
            break;
    }
    return fd;
}

/* Gives the new file the owner of the old. Only root can give files away; for others the file
** becomes theirs, as it does with any program that replaces files. */
static int keep_owner(int fd, const struct stat *old) {
    struct stat own;
    if (fstat(fd, &own) < 0)
        return -1;
    if (own.st_uid == old->st_uid && own.st_gid == old->st_gid)
        return 0;
    return durable_owner(fd, old->st_uid, old->st_gid) < 0 && errno != EPERM && errno != EINVAL ? -1
                                                                                                : 0;
}

/* Fills the temporary file and makes it durable, where that is asked for; 0, or -1 with errno. */
static int fill_temp(struct replacement *r, int fd) {
    r->step = "write";
    if (durable_write(fd, r->data, r->size) < 0)
        return -1;
    r->step = "set the owner of";
    if (r->replaces && keep_owner(fd, &r->old) < 0)
        return -1;
    r->step = "set the mode of"; /* after the owner, whose change clears setuid */
    if (durable_mode(fd, r->mode) < 0)
        return -1;
    r->step = "sync";
    return r->lazy ? 0 : durable_sync(fd);
}

/* Takes one step back and keeps errno of the one that failed. Returns -1. */
static int step_back(const struct replacement *r, bool exchanged) {
    int saved = errno;
    if (exchanged)
        durable_exchange(r->dir, r->temp, r->dir, r->name);
    else
        durable_rename(r->dir, r->previous, r->dir, r->name);
    errno = saved;
    return -1;
}

/* Gives the temporary file its name. Where the old file is to be kept, both names are exchanged
** first, so that there is a file at every instant; a file system that cannot do that has none for
** a moment. 0, or -1 with errno: the old file is as it was. */
static int switch_in(const struct replacement *r) {
    if (!r->replaces || !r->previous)
        return durable_rename(r->dir, r->temp, r->dir, r->name);
    bool exchanged = durable_exchange(r->dir, r->temp, r->dir, r->name) == 0;
    if (!exchanged && errno != EINVAL && errno != ENOSYS && errno != EXDEV)
        return -1;
    const char *old = exchanged ? r->temp : r->name;
    if (durable_rename(r->dir, old, r->dir, r->previous) < 0)
        return exchanged ? step_back(r, true) : -1;
    if (!exchanged && durable_rename(r->dir, r->temp, r->dir, r->name) < 0)
        return step_back(r, false);
    return 0;
}

/* Puts the new content in place; 0, or -1 with errno and r->step. Until then the old file is
** untouched, and the temporary one is removed on failure. */
static int replace(struct replacement *r) {
    r->step = "create a temporary file for";
    int fd = create_temp(r);
    if (fd < 0)
        return -1;
    int rc = fill_temp(r, fd);
    int saved = errno;
    if (durable_close(fd) < 0 && rc == 0) {
        r->step = "close";
        rc = -1;
        saved = errno;
    }
    if (rc == 0) {
        r->step = "rename to";
        rc = switch_in(r);
        saved = errno;
    }
    if (rc < 0) {
        durable_unlink(r->dir, r->temp);
        errno = saved;
        return -1;
    }
    r->step = "sync the directory of";
    return r->lazy ? 0 : sync_directory(r->dir);
}

static mode_t check_mode(lua_State *L, int arg) {
    lua_Integer mode = luaL_checkinteger(L, arg);
    luaL_argcheck(L, mode >= 0 && mode <= 07777, arg, "not a file mode");
    return (mode_t)mode;
}

/* Puts a file in place as `r` says: the path and the content are arguments 1 and 2, the mode is
** argument 3. Pushes what the functions below return. */
static int write_file(lua_State *L, struct replacement r) {
    const char *path = core_check_path(L, 1);
    r.data = luaL_checklstring(L, 2, &r.size);
    bool mode_given = !lua_isnoneornil(L, 3);
    if (mode_given)
        r.mode = check_mode(L, 3);
    struct entry entry;
    push_entry(L, &entry);
    if (open_entry(L, path, &entry) < 0)
        return core_errno(L, errno, "open the directory of", path);
    r.replaces =
        fstatat(entry.dir, entry.name, &r.old, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(r.old.st_mode);
    if (r.replaces && S_ISDIR(r.old.st_mode))
        return core_errno(L, EISDIR, "write", path);
    if (r.replaces && !mode_given)
        r.mode = r.old.st_mode & 07777;
    r.dir = entry.dir;
    r.name = entry.name;
    if (replace(&r) < 0)
        return core_errno(L, errno, r.step, path);
    lua_pushboolean(L, 1);
    return 1;
}

/* write_atomic(path, data, mode?, previous?) -> true | nil, message, code
** Replaces the file in one step, or makes it: whoever looks, also after a crash, sees the old
** content or the new. The owner stays, as far as we may. mode nil: that of the file that is
** replaced, 0644 for a new one. previous: a name in the same directory that the replaced file gets.
** A link is replaced, not written through. On failure the old file is as it was, unless it was the
** sync of the directory that failed. */
static int file_write_atomic(lua_State *L) {
    struct replacement r = {.mode = 0644};
    r.previous = luaL_optstring(L, 4, NULL);
    luaL_argcheck(L,
                  !r.previous ||
                      (path_is_normal(r.previous, strlen(r.previous)) && !strchr(r.previous, '/')),
                  4, "not a name in the same directory");
    return write_file(L, r);
}

/* rewrite(path, data, mode?) -> true | nil, message, code: as write_atomic, but nothing is synced:
** for a tree that is made durable as a whole, or need not outlive us. */
static int file_rewrite(lua_State *L) {
    return write_file(L, (struct replacement){.mode = 0644, .lazy = true});
}

/* write_new(path, data) -> true | nil, message, code
** Makes a file, for its owner alone, that need not outlive us: nothing is synced, and what could
** not be written to its end is removed. "EEXIST" when something of that name is there. */
static int file_write_new(lua_State *L) {
    const char *path = core_check_path(L, 1);
    const char *step = "create";
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    int fd = durable_create(AT_FDCWD, path, 0600);
    if (fd >= 0) {
        step = "write";
        bool written = durable_write(fd, data, size) == 0;
        int error = errno;
        if (durable_close(fd) == 0 && written) {
            lua_pushboolean(L, 1);
            return 1;
        }
        if (!written)
            errno = error;
        error = errno;
        durable_unlink(AT_FDCWD, path);
        errno = error;
    }
    return core_errno(L, errno, step, path);
}

/* Makes one directory and syncs its parent. Returns 1, 0 when there was one already, or -1 with
** errno: EEXIST, or with more of the path to come ENOTDIR, when something else is in the way. */
static int make_directory(lua_State *L, struct entry *entry, const char *path, bool more) {
    struct stat st;
    if (stat(path, &st) == 0) {
        errno = more ? ENOTDIR : EEXIST;
        return S_ISDIR(st.st_mode) ? 0 : -1;
    }
    if (open_entry(L, path, entry) < 0)
        return -1;
    if (durable_mkdir(entry->dir, entry->name, 0777) == 0)
        return sync_directory(entry->dir) < 0 ? -1 : 1;
    int saved = errno;
    if (saved == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;  /* somebody else was quicker */
    errno = saved; /* EEXIST: a link that leads nowhere */
    return -1;
}

/* mkdir(path, mode?) -> true | nil, message, code
** Makes the directory and what is missing above it. An existing directory, or a link to one, is
** left as it is. mode applies to the last one, and only when it is made; else 0777 less umask. */
static int file_mkdir(lua_State *L) {
    const char *path = core_check_path(L, 1);
    bool mode_given = !lua_isnoneornil(L, 2);
    mode_t mode = mode_given ? check_mode(L, 2) : 0;
    struct entry entry;
    int made = 0;
    push_entry(L, &entry);
    int top = lua_gettop(L);
    for (size_t at = strspn(path, "/"); path[at] != '\0';) { /* at each component in turn */
        at += strcspn(path + at, "/");
        size_t end = at;
        at += strspn(path + at, "/");
        const char *part = lua_pushlstring(L, path, end);
        made = make_directory(L, &entry, part, path[at] != '\0');
        if (made < 0)
            return core_errno(L, errno, "make directory", part);
        lua_settop(L, top);
    }
    if (made > 0 && mode_given && durable_mode_at(AT_FDCWD, path, mode) < 0)
        return core_errno(L, errno, "set the mode of", path);
    lua_pushboolean(L, 1);
    return 1;
}

/* remove(path) -> true | nil, message, code: a file, a link or an empty directory; then syncs the
** directory it was in. */
static int file_remove(lua_State *L) {
    const char *path = core_check_path(L, 1);
    struct entry entry;
    struct stat st;
    push_entry(L, &entry);
    if (open_entry(L, path, &entry) < 0 ||
        fstatat(entry.dir, entry.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return core_errno(L, errno, "remove", path);
    int rc = S_ISDIR(st.st_mode) ? durable_rmdir(entry.dir, entry.name)
                                 : durable_unlink(entry.dir, entry.name);
    if (rc < 0)
        return core_errno(L, errno, "remove", path);
    if (sync_directory(entry.dir) < 0)
        return core_errno(L, errno, "sync the directory of", path);
    lua_pushboolean(L, 1);
    return 1;
}

/* Where the file system cannot refuse by itself, `to` is looked at first: at worst an empty
** directory that was made in between is replaced. */
static int rename_new(const struct entry *from, const struct entry *to) {
    struct stat st;
    if (durable_rename_new(from->dir, from->name, to->dir, to->name) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (fstatat(to->dir, to->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return -1;
    }
    return errno == ENOENT ? durable_rename(from->dir, from->name, to->dir, to->name) : -1;
}

/* rename(from, to, new?) -> true | nil, message, code: replaces `to`, or with `new` fails with
** "EEXIST" when it is there; then syncs both directories. */
static int file_rename(lua_State *L) {
    bool is_new = lua_toboolean(L, 3);
    const char *from = core_check_path(L, 1);
    const char *to = core_check_path(L, 2);
    struct entry source, destination;
    push_entry(L, &source);
    push_entry(L, &destination);
    if (open_entry(L, from, &source) < 0)
        return core_errno(L, errno, "open the directory of", from);
    if (open_entry(L, to, &destination) < 0)
        return core_errno(L, errno, "open the directory of", to);
    int rc = is_new ? rename_new(&source, &destination)
                    : durable_rename(source.dir, source.name, destination.dir, destination.name);
    if (rc < 0) {
        lua_pushfstring(L, "%s to %s", from, to);
        return core_errno(L, errno, "rename", lua_tostring(L, -1));
    }
    if (sync_directory(destination.dir) < 0)
        return core_errno(L, errno, "sync the directory of", to);
    if (sync_directory(source.dir) < 0)
        return core_errno(L, errno, "sync the directory of", from);
    lua_pushboolean(L, 1);
    return 1;
}

/* link(from, to) -> true | nil, message, code: a second name for a file, on the same file system;
** "EEXIST" when `to` is there. Then syncs the directory of `to`. */
static int file_link(lua_State *L) {
    const char *from = core_check_path(L, 1);
    const char *to = core_check_path(L, 2);
    struct entry destination;
    push_entry(L, &destination);
    if (open_entry(L, to, &destination) < 0)
        return core_errno(L, errno, "open the directory of", to);
    if (durable_link(AT_FDCWD, from, destination.dir, destination.name) < 0) {
        lua_pushfstring(L, "%s to %s", from, to);
        return core_errno(L, errno, "link", lua_tostring(L, -1));
    }
    if (sync_directory(destination.dir) < 0)
        return core_errno(L, errno, "sync the directory of", to);
    lua_pushboolean(L, 1);
    return 1;
}

/* symlink(target, path) -> true | nil, message, code: makes a symbolic link; "EEXIST" when
** something of that name is there. Then syncs its directory. */
static int file_symlink(lua_State *L) {
    const char *target = core_check_path(L, 1);
    const char *path = core_check_path(L, 2);
    struct entry entry;
    push_entry(L, &entry);
    if (open_entry(L, path, &entry) < 0)
        return core_errno(L, errno, "open the directory of", path);
    if (durable_symlink(target, entry.dir, entry.name) < 0)
        return core_errno(L, errno, "link", path);
    if (sync_directory(entry.dir) < 0)
        return core_errno(L, errno, "sync the directory of", path);
    lua_pushboolean(L, 1);
    return 1;
}

/* set_mtime(path, mtime) -> true | nil, message, code: the modification time, in nanoseconds since
** the epoch, of a file, directory or link itself. */
static int file_set_mtime(lua_State *L) {
    const char *path = core_check_path(L, 1);
    lua_Integer mtime = luaL_checkinteger(L, 2);
    const lua_Integer second = 1000000000;
    lua_Integer part = mtime % second;
    if (part < 0) /* before 1970: the parts of a second count forwards all the same */
        part += second;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = (mtime - part) / second, .tv_nsec = part}};
    if (durable_times(AT_FDCWD, path, times) != 0)
        return core_errno(L, errno, "set the time of", path);
    lua_pushboolean(L, 1);
    return 1;
}

/* rmdir(path) -> true | nil, message, code
**   Removes an empty directory, and nothing that is not one ("ENOTDIR", "ENOTEMPTY"). Not
**   synced. */
static int file_rmdir(lua_State *L) {
    const char *path = core_check_path(L, 1);
    if (durable_rmdir(AT_FDCWD, path) != 0)
        return core_errno(L, errno, "remove the directory", path);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"read", file_read},           {"write_atomic", file_write_atomic},
    {"write_new", file_write_new}, {"stat", file_stat},
    {"exists", file_exists},       {"mkdir", file_mkdir},
    {"remove", file_remove},       {"rename", file_rename},
    {"readlink", file_readlink},   {"realpath", file_realpath},
    {"set_mtime", file_set_mtime}, {"rmdir", file_rmdir},
    {"link", file_link},           {"symlink", file_symlink},
    {"rewrite", file_rewrite},     {NULL, NULL},
};

int luaopen_praxlua_file(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
