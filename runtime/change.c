/*
** change.c: what stands at a path, and one change of it, in memory and in the journal.
*/
#define _GNU_SOURCE
#include "change.h"

#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int observe_file(state *s, int dir, const char *name, digest *d, struct stat *st) {
    char hex[DIGEST_HEX];
    int rc = -1;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    /* The descriptor decides what was hashed, whatever the name stands for by now. */
    if (fstat(fd, st) == 0 && !S_ISREG(st->st_mode)) {
        errno = ESTALE;
    } else if (digest_fd(d, fd, hex, NULL) == 0) {
        s->content = strdup(hex);
        rc = s->content ? 0 : -1;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

static int observe_link(state *s, int dir, const char *name) {
    char target[PATH_MAX];
    ssize_t size = readlinkat(dir, name, target, sizeof target - 1);
    if (size < 0)
        return -1;
    target[size] = '\0';
    s->content = strdup(target);
    return s->content ? 0 : -1;
}

static state_type type_of(mode_t mode) {
    if (S_ISREG(mode))
        return STATE_FILE;
    if (S_ISLNK(mode))
        return STATE_LINK;
    return S_ISDIR(mode) ? STATE_DIRECTORY : STATE_OTHER;
}

/* What there is to know without the content. */
static void observe_rest(state *s, const struct stat *st) {
    s->type = type_of(st->st_mode);
    s->inode = st->st_ino;
    s->time = st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
    s->mode = s->type == STATE_LINK ? 0 : st->st_mode & 07777;
}

/* Whether something else may stand there than a moment ago: a file that was saved just now, or a
** link that became a file. */
static bool is_another(int error) {
    return error == ENOENT || error == ELOOP || error == EINVAL || error == ESTALE;
}

/* 0, or -1 with errno; then *s has all but the content. */
static int observe_name(state *s, int dir, const char *name, digest *d, struct stat *st) {
    enum { TRIES = 100 };
    int rc = -1;
    for (int i = 0; rc != 0 && i < TRIES; i++) {
        *s = (state){0};
        *st = (struct stat){0};
        if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? 0 : -1;
        rc = 0;
        if (S_ISREG(st->st_mode))
            rc = observe_file(s, dir, name, d, st);
        else if (S_ISLNK(st->st_mode))
            rc = observe_link(s, dir, name);
        observe_rest(s, st);
        if (rc != 0 && !is_another(errno))
            break;
    }
    return rc;
}

static int observe(state *s, int root, const char *path, digest *d, struct stat *out) {
    struct stat st = {0};
    const char *name;
    *s = (state){0};
    int dir = path_parent(root, path, &name, false);
    if (dir < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    int rc = observe_name(s, dir, name, d, &st);
    int saved = errno;
    close(dir);
    if (out)
        *out = st;
    errno = saved;
    return rc;
}

int state_observe(state *s, int root, const char *path, digest *d, struct stat *out) {
    int rc = observe(s, root, path, d, out);
    int saved = errno;
    if (rc != 0)
        state_free(s);
    errno = saved;
    return rc;
}

int state_look(state *s, int root, const char *path, digest *d) {
    int rc = observe(s, root, path, d, NULL);
    if (rc != 0 && s->type == STATE_FILE && (errno == EIO || errno == EACCES || errno == EPERM))
        return 0;
    int saved = errno;
    if (rc != 0)
        state_free(s);
    errno = saved;
    return rc;
}

bool stat_unchanged(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool state_same_content(const state *a, const state *b) {
    if (a->type != b->type)
        return false;
    return !a->content ? !b->content : b->content && strcmp(a->content, b->content) == 0;
}

bool state_equal(const state *a, const state *b) {
    return a->mode == b->mode && state_same_content(a, b);
}

void state_free(state *s) {
    free(s->content);
    *s = (state){0};
}

static void state_write(const state *s, payload *p) {
    payload_u32(p, s->type);
    payload_u32(p, s->mode);
    payload_u64(p, s->inode);
    payload_u64(p, (uint64_t)s->time);
    payload_string(p, s->content);
}

static void state_read(state *s, payload *p, uint32_t version) {
    *s = (state){0};
    s->type = payload_get_u32(p);
    s->mode = payload_get_u32(p);
    s->inode = payload_get_u64(p);
    s->time = version > 1 ? (int64_t)payload_get_u64(p) : 0;
    s->content = payload_get_string(p);
    if (s->type > STATE_OTHER)
        p->failed = 1;
    if (s->type != STATE_FILE && s->type != STATE_LINK) {
        free(s->content);
        s->content = NULL;
    }
}

void change_write(const change *c, payload *p) {
    payload_u32(p, c->kind);
    payload_u32(p, c->number);
    payload_string(p, c->path);
    state_write(&c->before, p);
    state_write(&c->after, p);
}

int change_read(change *c, payload *p, uint32_t version) {
    *c = (change){0};
    c->kind = payload_get_u32(p);
    c->number = payload_get_u32(p);
    c->path = payload_get_string(p);
    state_read(&c->before, p, version);
    state_read(&c->after, p, version);
    if (!p->failed && c->kind >= CHANGE_PUT && c->kind <= CHANGE_MODE &&
        path_is_normal(c->path, strlen(c->path)))
        return 0;
    change_free(c);
    return -1;
}

void change_free(change *c) {
    free(c->path);
    state_free(&c->before);
    state_free(&c->after);
    *c = (change){0};
}
