/*
** lock.c: core.lock: one writer for one installation.
**
** The lock is the kernel's: flock(2) on the directory itself. It ends with its holder however that
** ends, so there is no stale lock and no lock file to judge or to delete. It holds between the
** processes of one machine; not every network file system carries it to others.
*/
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define LOCK "praxlua.lock"

/* test() holds a shared lock for a moment, which acquire() must not take for an owner. */
enum { TRIES = 10, PAUSE_MS = 5 };

static int open_directory(const char *path) {
    int fd;
    do
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int try_lock(int fd, int kind) {
    int rc;
    do
        rc = flock(fd, kind | LOCK_NB);
    while (rc < 0 && errno == EINTR);
    return rc;
}

/* Takes the exclusive lock, or fails with EWOULDBLOCK when somebody keeps it. */
static int lock_exclusive(int fd) {
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    int rc = try_lock(fd, LOCK_EX);
    for (int tries = 1; rc < 0 && errno == EWOULDBLOCK && tries < TRIES; tries++) {
        nanosleep(&pause, NULL);
        rc = try_lock(fd, LOCK_EX);
    }
    return rc;
}

/* Whether `path` still names the directory that is open as `fd`. */
static bool is_current(int fd, const char *path) {
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

/* acquire(directory) -> handle | nil, message, code
** "EBUSY" when another process, or another handle of this one, holds the lock. Does not wait. The
** lock belongs to the directory that has this name now: one that is exchanged takes its lock along.
** It is released by handle:release(), at the end of a <close> variable, by collection, and by the
** death of the process; no child inherits it. */
static int lock_acquire(lua_State *L) {
    const char *path = core_check_path(L, 1);
    int *lock = lua_newuserdatauv(L, sizeof *lock, 0);
    *lock = -1;
    luaL_setmetatable(L, LOCK);
    for (int tries = 0; tries < TRIES; tries++) {
        int fd = open_directory(path);
        if (fd < 0)
            return core_errno(L, errno, "open", path);
        if (lock_exclusive(fd) < 0) {
            int error = errno;
            close(fd);
            if (error == EWOULDBLOCK)
                return core_fail(L, "EBUSY", "lock %s: held by another process", path);
            return core_errno(L, error, "lock", path);
        }
        if (is_current(fd, path)) {
            *lock = fd;
            return 1;
        }
        close(fd); /* the directory was exchanged between open and lock */
    }
    return core_fail(L, "EBUSY", "lock %s: the directory is being replaced", path);
}

/* test(directory) -> boolean: whether somebody holds the lock, this process included
** | nil, message, code. The answer may be old by the time it is read. */
static int lock_test(lua_State *L) {
    const char *path = core_check_path(L, 1);
    int fd = open_directory(path);
    if (fd < 0)
        return core_errno(L, errno, "open", path);
    int rc = try_lock(fd, LOCK_SH); /* shared: two tests do not see each other */
    int error = errno;
    close(fd);
    if (rc < 0 && error != EWOULDBLOCK)
        return core_errno(L, error, "lock", path);
    lua_pushboolean(L, rc < 0);
    return 1;
}

/* The process that the kernel names in one line of /proc/locks as the owner of an exclusive flock
** on the file of `st`, or 0. A line with an arrow after its number waits for a lock. */
static long owner_in(const char *line, const struct stat *st) {
    long pid;
    unsigned major_number, minor_number;
    unsigned long inode;
    if (sscanf(line, "%*u: FLOCK ADVISORY WRITE %ld %x:%x:%lu", &pid, &major_number, &minor_number,
               &inode) != 4)
        return 0;
    bool same = inode == st->st_ino && major_number == major(st->st_dev) &&
                minor_number == minor(st->st_dev);
    return same && pid > 0 ? pid : 0;
}

/* holder(directory) -> pid of the process that took the lock
** | nil, message, code: "ESRCH" when nobody is named: it is free, its holder is of another machine
** or another pid namespace, or /proc is not there (and on file systems whose files have another
** device number than their lock, as on btrfs). */
static int lock_holder(lua_State *L) {
    const char *path = core_check_path(L, 1);
    char line[256];
    struct stat st;
    long pid = 0;
    if (stat(path, &st) != 0)
        return core_errno(L, errno, "look at", path);
    FILE *locks = fopen("/proc/locks", "re");
    while (locks && pid == 0 && fgets(line, sizeof line, locks))
        pid = owner_in(line, &st);
    if (locks)
        fclose(locks);
    if (pid == 0)
        return core_fail(L, "ESRCH", "look who has locked %s: nobody is named", path);
    lua_pushinteger(L, pid);
    return 1;
}

/* handle:release(): gives the lock up; does nothing the second time. */
static int handle_release(lua_State *L) {
    int *lock = luaL_checkudata(L, 1, LOCK);
    if (*lock >= 0) {
        flock(*lock, LOCK_UN); /* a child between fork and exec has the descriptor too */
        close(*lock);
    }
    *lock = -1;
    return 0;
}

/* handle:held() -> boolean */
static int handle_held(lua_State *L) {
    int *lock = luaL_checkudata(L, 1, LOCK);
    lua_pushboolean(L, *lock >= 0);
    return 1;
}

static const luaL_Reg handle_methods[] = {
    {"release", handle_release}, {"held", handle_held}, {"__gc", handle_release},
    {"__close", handle_release}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"acquire", lock_acquire},
    {"test", lock_test},
    {"holder", lock_holder},
    {NULL, NULL},
};

int luaopen_praxlua_lock(lua_State *L) {
    return core_open(L, LOCK, handle_methods, functions);
}
