/*
** path.h: paths that cannot leave their root.
**
** A root is an open directory. Paths beneath it are relative, use '/', and hold no "." or ".."
** component, no empty component and no NUL. The kernel resolves them (openat2 with
** RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS), so neither a link inside the
** tree nor a race can lead outside. Where openat2 is missing (Linux before 5.6) each component is
** opened in turn with O_NOFOLLOW, which gives the same guarantee for the same calls.
*/
#ifndef PRAXLUA_PATH_H
#define PRAXLUA_PATH_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* True when `path` is a normal relative path as described above (and not empty). */
bool path_is_normal(const char *path, size_t length);

/* Opens `path` beneath `root` with open(2) `flags` (O_CLOEXEC and O_NOFOLLOW are added). "." opens
*the
** root itself. Returns a descriptor, or -1 with errno: EINVAL (not a normal path), EXDEV or ELOOP
** (a link or an escape), or what open(2) gives. Never creates: use path_parent and durable.h. */
int path_open(int root, const char *path, int flags);

/* Opens the directory that holds `path`'s last component and points *name at that component
** (inside `path`). With `make`, missing directories are created with mode 0777 less the umask.
** Returns the directory's descriptor, which the caller closes, or -1 with errno. What was made is
** not synced. */
int path_parent(int root, const char *path, const char **name, bool make);

/* "openat2" or "components": which of the two ways above confines paths in this process. */
const char *path_mechanism(void);

/*
** Not confined: opens the regular file `name`, resolved from `dir` as by openat(2), for reading.
** The last component must be the file itself: a link or a special file is refused without being
** opened (opening a device can have effects, opening a FIFO can block). Fills *st when not NULL.
** Returns the descriptor, or -1 with errno, CORE_ENOTREG (core.h) for what is not regular.
*/
int path_open_regular(int dir, const char *name, struct stat *st);

#endif
