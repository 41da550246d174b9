/*
** copy.c: the copy of a gathered tree. See copy.h.
**
** Directories are made open to their owner alone and get their modes and times last, from the
** leaves up: a read-only directory can be copied, and filling one does not change its time.
*/
#define _GNU_SOURCE
#include "copy.h"
#include "cancel.h"
#include "core.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Closes `fd` and keeps errno. */
static void close_quietly(int fd) {
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

void copy_init(struct copy *c, struct walk *from, const char *to) {
    *c = (struct copy){.from = from, .to = to};
    c->cursor.root = c->cursor.fd = -1;
}

void copy_close(struct copy *c) {
    walk_cursor_close(&c->cursor);
    close_quietly(c->cursor.root);
    c->cursor.root = -1;
}

/* ======================= One file ======================= */

/* Copies the rest of `from`, in the kernel where it can, in pieces between which it can be
** cancelled. Returns the number of bytes, or -1. */
static off_t copy_bytes(int to, int from) {
    char chunk[64 * 1024];
    off_t total = 0;
    ssize_t n;
    while ((n = durable_copy(to, from, (size_t)8 << 20)) > 0) {
        total += n;
        if (cancel_asked() != 0)
            return -1;
    }
    if (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP &&
        errno != EPERM)
        return -1;
    /* By hand what is left; also when the kernel claims an end at once, as it does for /proc. */
    for (;;) {
        n = read(from, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -1 : total;
        if (durable_write(to, chunk, (size_t)n) < 0 || cancel_asked() != 0)
            return -1;
        total += n;
    }
}

/* Gives a copy the owner of its original. Only root can, and not in every user namespace. */
static int copy_owner(int fd, uid_t uid, gid_t gid) {
    if (geteuid() != 0 || (uid == geteuid() && gid == getegid()))
        return 0;
    return durable_owner(fd, uid, gid) < 0 && errno != EPERM && errno != EINVAL ? -1 : 0;
}

/* Copies the open regular file `from` to a new file. Returns the number of bytes, -1 with errno. */
static off_t copy_content(int from, const struct stat *st, int dir, const char *name) {
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    int to = durable_create(dir, name, 0600);
    if (to < 0)
        return -1;
    off_t size = copy_bytes(to, from);
    int rc = size < 0 ? -1 : copy_owner(to, st->st_uid, st->st_gid);
    if (rc == 0) /* after the owner, whose change clears setuid */
        rc = durable_mode(to, st->st_mode & 07777);
    if (rc < 0)
        close_quietly(to);
    else
        rc = durable_close(to);
    if (rc == 0)
        rc = durable_times(dir, name, times);
    return rc < 0 ? -1 : size;
}

/* Makes `name` in `dir` another name of the original that is node `index`. Returns 1; 0 when that
** cannot be had, and it is to be copied; -1 with errno. */
static int share_file(struct copy *c, size_t index, int dir, const char *name) {
    int source = walk_parent(c->from, &c->from->cursor, index);
    if (source == -1)
        return -1;
    if (durable_link(source, c->from->nodes[index].name, dir, name) == 0) {
        c->files++;
        c->linked++;
        return 1;
    }
    /* Another file system; one without hard links, or not for us (fs.protected_hardlinks); too many
    ** links; gone. */
    bool none = errno == EXDEV || errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP ||
                errno == ENOENT;
    return none ? 0 : -1;
}

/* Copies the regular file that is node `index` as `name` into `dir`. */
static int copy_file(struct copy *c, size_t index, int dir, const char *name) {
    struct walk_node *node = &c->from->nodes[index];
    struct stat st;
    int shared = node->shared ? share_file(c, index, dir, name) : 0;
    if (shared != 0)
        return shared < 0 ? -1 : 0;
    int source = walk_parent(c->from, &c->from->cursor, index);
    int fd = -1;
    if (source != -1)
        fd = path_open_regular(source, index == 0 ? c->from->path : node->name, &st);
    if (fd < 0 && errno == ENOENT && index != 0) {
        node->gone = true;
        return 0;
    }
    if (fd < 0)
        return -1;
    off_t size = copy_content(fd, &st, dir, name);
    close_quietly(fd);
    if (size < 0)
        return -1;
    c->files++;
    c->bytes += size;
    return 0;
}

/* ======================= Other nodes ======================= */

/* Makes node `index` a hard link to the copy of its twin. */
static int copy_hard_link(struct copy *c, size_t index, int dir, const char *name) {
    size_t twin = c->from->nodes[index].twin;
    int twin_dir = walk_open(c->from, c->cursor.root, c->from->nodes[twin].parent);
    if (twin_dir < 0)
        return -1;
    int rc = durable_link(twin_dir, c->from->nodes[twin].name, dir, name);
    close_quietly(twin_dir);
    c->files += rc == 0 && S_ISREG(c->from->nodes[index].mode);
    return rc;
}

static int copy_link(const struct walk_node *node, int dir, const char *name) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, node->mtime};
    return durable_symlink(node->target, dir, name) < 0 ? -1 : durable_times(dir, name, times);
}

static int copy_directory(struct copy *c, size_t index, int dir, const char *name) {
    if (durable_mkdir(dir, name, 0700) < 0)
        return -1;
    if (index != 0)
        return 0;
    c->cursor.root = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return c->cursor.root < 0 ? -1 : 0;
}

static int copy_node(struct copy *c, size_t index) {
    const struct walk_node *nodes = c->from->nodes, *node = &nodes[index];
    const char *name = index == 0 ? c->to : node->name;
    int rc = -1;
    int dir = walk_parent(c->from, &c->cursor, index);
    if (dir == -1 || cancel_asked() != 0)
        return walk_failed(c->from, "copy", index);
    if (S_ISDIR(node->mode))
        rc = copy_directory(c, index, dir, name);
    else if (node->twin != index && !nodes[node->twin].gone && !node->shared &&
             !nodes[node->twin].shared) /* what is copied is no name of an original */
        rc = copy_hard_link(c, index, dir, name);
    else if (S_ISLNK(node->mode))
        rc = copy_link(node, dir, name);
    else
        rc = copy_file(c, index, dir, name);
    if (index == 0) /* EEXIST: somebody else's */
        c->begun = rc == 0 || errno != EEXIST;
    return rc < 0 ? walk_failed(c->from, "copy", index) : 0;
}

/* Sets owner, mode and times of the copied directory that is node `index`. */
static int finish_directory(struct copy *c, size_t index) {
    const struct walk_node *node = &c->from->nodes[index];
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, node->mtime};
    int dir = walk_parent(c->from, &c->cursor, index);
    int fd = dir == -1 ? -1 : walk_open(c->from, c->cursor.root, index);
    int rc = fd < 0 ? -1 : copy_owner(fd, node->uid, node->gid);
    if (rc == 0)
        rc = durable_mode(fd, node->mode & 07777);
    if (rc == 0)
        rc = durable_times(dir, index == 0 ? c->to : node->name, times);
    close_quietly(fd);
    return rc < 0 ? walk_failed(c->from, "copy", index) : 0;
}

/* ======================= The whole ======================= */

/* Fails with CORE_ENOTREG, naming it, when the tree holds what cannot be copied. */
static int refuse_special(struct walk *w) {
    for (size_t i = 0; i < w->count; i++) {
        mode_t mode = w->nodes[i].mode;
        if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) {
            errno = CORE_ENOTREG;
            return walk_failed(w, "copy", i);
        }
    }
    return 0;
}

int copy_tree(struct copy *c) {
    struct walk *w = c->from;
    if (walk_gather(w) < 0 || refuse_special(w) < 0 || walk_find_twins(w) < 0)
        return -1;
    for (size_t i = 0; i < w->count; i++) {
        struct walk_node *node = &w->nodes[i];
        node->gone = node->gone || w->nodes[node->parent].gone;
        if (!node->gone && copy_node(c, i) < 0)
            return -1;
    }
    for (size_t i = w->count; i-- > 0;)
        if (S_ISDIR(w->nodes[i].mode) && !w->nodes[i].gone && finish_directory(c, i) < 0)
            return -1;
    return 0;
}
