/*
** path.c: paths that cannot leave their root. See path.h.
**
** A path longer than the kernel takes at once is walked in pieces that end at a '/', each resolved
** beneath the one before; trees may be deeper than PATH_MAX.
*/
#define _GNU_SOURCE
#include "path.h"
#include "core.h"
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Closes `fd` and keeps errno. */
static void close_quietly(int fd) {
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

bool path_is_normal(const char *path, size_t length) {
    size_t start = 0;
    if (length == 0 || memchr(path, '\0', length))
        return false;
    for (size_t i = 0; i <= length; i++) {
        if (i < length && path[i] != '/')
            continue;
        size_t size = i - start;
        const char *component = path + start;
        if (size == 0 || (size == 1 && component[0] == '.') ||
            (size == 2 && component[0] == '.' && component[1] == '.'))
            return false;
        start = i + 1;
    }
    return true;
}

/* ======================= The two ways to resolve ======================= */

/* By number: there is no wrapper in the C library. */
static int call_openat2(int dir, const char *path, int flags) {
    struct open_how how = {
        .flags = (unsigned)flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd;
    do /* EAGAIN: a rename elsewhere got in the way of the kernel's check */
        fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd;
}

/* Whether openat2 works, asked of the kernel once. A sandbox may refuse it with EPERM.
** PRAXLUA_NO_OPENAT2 in the environment chooses the other way, which is as safe but slower. */
static bool have_openat2(void) {
    static int known = -1;
    if (known < 0) {
        int fd = call_openat2(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        known = getenv("PRAXLUA_NO_OPENAT2") == NULL &&
                (fd >= 0 || (errno != ENOSYS && errno != EPERM));
        close_quietly(fd);
    }
    return known != 0;
}

const char *path_mechanism(void) {
    return have_openat2() ? "openat2" : "components";
}

/* Opens one component, and says ELOOP of a link where the kernel says ENOTDIR. */
static int open_component(int dir, const char *name, int flags) {
    struct stat st;
    int fd = openat(dir, name, flags);
    if (fd < 0 && errno == ENOTDIR &&
        fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0)
        errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
    return fd;
}

/* Opens `path` component by component; `path` is overwritten. */
static int open_by_components(int dir, char *path, int flags) {
    int at = dir;
    for (char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        *slash = '\0';
        int next = open_component(at, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (at != dir)
            close_quietly(at);
        if (next < 0)
            return -1;
        at = next;
    }
    int fd = open_component(at, path, flags);
    if (at != dir)
        close_quietly(at);
    return fd;
}

/* Opens `length` < PATH_MAX bytes of a normal path. */
static int open_piece(int dir, const char *path, size_t length, int flags) {
    char piece[PATH_MAX];
    memcpy(piece, path, length);
    piece[length] = '\0';
    if (!have_openat2())
        return open_by_components(dir, piece, flags);
    if ((flags & O_DIRECTORY) != 0) /* or a link at the end is ENOTDIR instead of ELOOP */
        flags &= ~O_NOFOLLOW;
    return call_openat2(dir, piece, flags);
}

/* The length of the longest beginning of `path` that ends before a '/' and fits the kernel; 0 when
** there is none. */
static size_t fitting_piece(const char *path) {
    for (size_t length = PATH_MAX - 1; length > 0; length--)
        if (path[length] == '/')
            return length;
    return 0;
}

/* Opens a normal path of any length. */
static int open_long(int root, const char *path, size_t length, int flags) {
    int at = root;
    while (length >= PATH_MAX) {
        size_t part = fitting_piece(path);
        int next = -1;
        if (part > 0)
            next = open_piece(at, path, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        else
            errno = ENAMETOOLONG;
        if (at != root)
            close_quietly(at);
        if (next < 0)
            return -1;
        at = next;
        path += part + 1;
        length -= part + 1;
    }
    int fd = open_piece(at, path, length, flags);
    if (at != root)
        close_quietly(at);
    return fd;
}

/* ======================= The interface ======================= */

int path_open(int root, const char *path, int flags) {
    size_t length = strlen(path);
    int fd;
    flags |= O_CLOEXEC | O_NOFOLLOW;
    if (strcmp(path, ".") == 0) {
        do
            fd = openat(root, ".", flags);
        while (fd < 0 && errno == EINTR);
        return fd;
    }
    if (!path_is_normal(path, length) || (flags & (O_CREAT | O_TRUNC)) != 0 ||
        (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EINVAL;
        return -1;
    }
    return open_long(root, path, length, flags);
}

/* Opens the directory `path` of `length` bytes and makes what is missing of it. */
static int make_directories(int root, const char *path, size_t length) {
    char name[NAME_MAX + 1];
    int at = path_open(root, ".", O_RDONLY | O_DIRECTORY);
    for (size_t start = 0; at >= 0 && start < length;) {
        size_t size = strcspn(path + start, "/");
        int next = -1;
        if (size > NAME_MAX) {
            errno = ENAMETOOLONG;
        } else {
            memcpy(name, path + start, size);
            name[size] = '\0';
            if (durable_mkdir(at, name, 0777) == 0 || errno == EEXIST)
                next = path_open(at, name, O_RDONLY | O_DIRECTORY);
        }
        close_quietly(at);
        at = next;
        start += size + 1;
    }
    return at;
}

int path_parent(int root, const char *path, const char **name, bool make) {
    size_t length = strlen(path);
    if (!path_is_normal(path, length)) {
        errno = EINVAL;
        return -1;
    }
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash)
        return path_open(root, ".", O_RDONLY | O_DIRECTORY);
    size_t size = (size_t)(slash - path);
    int fd = open_long(root, path, size, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make)
        fd = make_directories(root, path, size);
    return fd;
}

int path_open_regular(int dir, const char *name, struct stat *st) {
    struct stat own;
    int fd;
    if (!st)
        st = &own;
    if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (!S_ISREG(st->st_mode)) {
        errno = CORE_ENOTREG;
        return -1;
    }
    do /* something else may have taken the name meanwhile: still do not follow, do not block */
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -1;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
        return fd;
    close(fd);
    errno = CORE_ENOTREG;
    return -1;
}
