/*
** journal.c: the two files of a journal; see journal.h.
*/
#define _GNU_SOURCE
#include "journal.h"

#include "core.h"
#include "durable.h"
#include "path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes that the records of an undo need, amply; bytes that one of them may have, with the path of
** a file that it keeps; and the room that others leave to them in a journal that has almost reached
** its limit. */
enum { SMALL_RECORDS = 1024, SMALL_RECORD = 8192, LAST_ROOM = 1024 * 1024 };

static const char *const names[JOURNAL_COPIES] = {"journal", "journal.copy"};
static const char *const new_names[JOURNAL_COPIES] = {"journal.new", "journal.copy.new"};

static bool no_space(int error) {
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

static bool is_written(const journal *j) {
    return j->fd[0] >= 0 || j->fd[1] >= 0;
}

static void close_copy(journal *j, int i) {
    int saved = errno;
    if (j->fd[i] >= 0)
        close(j->fd[i]);
    j->fd[i] = -1;
    errno = saved;
}

void journal_distrust(journal *j) {
    for (int i = 0; i < JOURNAL_COPIES; i++)
        close_copy(j, i);
}

/* Deletes a copy that was not written to its end, so that what is missing in it is known to mean
** nothing. The other one has been written. A folder in its place is no copy. */
static int give_up(journal *j, int i) {
    close_copy(j, i);
    if ((durable_unlink(j->dir, names[i]) == 0 || errno == ENOENT || errno == EISDIR) &&
        durable_sync(j->dir) == 0)
        return 0;
    journal_distrust(j);
    return -1;
}

/* ---- reading ---- */

/* What cannot be read of a copy is damage to it, like any other; an error that has to do with us
** and not with the file is none. */
static int read_copy(int dir, const char *name, journal_copy *copy) {
    struct stat st;
    int fd = path_open_regular(dir, name, &st);
    if (fd < 0) {
        copy->absent = errno == ENOENT;
        return copy->absent || errno == CORE_ENOTREG || errno == EIO ? 0 : -1;
    }
    size_t wanted = (size_t)st.st_size;
    if (st.st_size <= JOURNAL_LIMIT)
        copy->data = malloc(wanted ? wanted : 1);
    int rc = copy->data || st.st_size > JOURNAL_LIMIT ? 0 : -1;
    while (copy->data && copy->size < wanted) {
        ssize_t n = pread(fd, copy->data + copy->size, wanted - copy->size, (off_t)copy->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n == 0 || errno == EIO ? 0 : -1;
            break;
        }
        copy->size += (size_t)n;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

static int read_both(journal *j, journal_reader reader, void *context) {
    journal_copy copies[JOURNAL_COPIES] = {{0}};
    int rc = 0;
    for (int i = 0; rc == 0 && i < JOURNAL_COPIES; i++)
        rc = read_copy(j->dir, names[i], &copies[i]);
    if (rc == 0 && copies[0].absent && copies[1].absent) {
        errno = ENOENT;
        rc = -1;
    }
    if (rc == 0)
        rc = journal_merge(j, copies);
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        if (rc == 0 && j->sequence == 0 && !copies[i].absent && !copies[i].data) {
            errno = EBADMSG; /* not empty: unreadable */
            rc = -1;
        }
        free(copies[i].data);
    }
    return rc == 0 ? journal_replay(j, reader, context) : rc;
}

/* ---- writing ---- */

/* Room behind the end for a record with `size` bytes of payload and those of an undo. */
static int make_slack(journal *j, int i, size_t size) {
    off_t more = (off_t)(JOURNAL_HEADER + size + SMALL_RECORDS);
    if (durable_reserve(j->fd[i], (off_t)j->size, more) == 0)
        return 0;
    return errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -1;
}

/* Writes a copy into a new file, which takes the old one's place when it is durable. */
static int write_anew(journal *j, int i) {
    close_copy(j, i);
    if (durable_unlink(j->dir, new_names[i]) != 0 && errno != ENOENT)
        return -1;
    j->fd[i] = durable_create(j->dir, new_names[i], 0600);
    if (j->fd[i] >= 0 && durable_write(j->fd[i], j->data, j->size) == 0 &&
        make_slack(j, i, 0) == 0 && durable_sync(j->fd[i]) == 0 &&
        durable_rename(j->dir, new_names[i], j->dir, names[i]) == 0)
        return 0;
    close_copy(j, i);
    int saved = errno;
    durable_unlink(j->dir, new_names[i]);
    errno = saved;
    return -1;
}

/* Where there is no room for a new file, an old one that has all records goes on. */
static int write_old(journal *j, int i) {
    if (!no_space(errno) || !j->whole[i])
        return -1;
    j->fd[i] = durable_append(j->dir, names[i], 0600);
    if (j->fd[i] >= 0 && durable_truncate(j->fd[i], (off_t)j->size) == 0 &&
        durable_sync(j->fd[i]) == 0)
        return 0;
    close_copy(j, i);
    return -1;
}

static int renew(journal *j) {
    int error = 0;
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        if (write_anew(j, i) != 0 && write_old(j, i) != 0)
            error = errno;
        j->whole[i] = false; /* that was true when it was read */
    }
    if (!is_written(j)) {
        errno = error;
        return -1;
    }
    if (durable_sync(j->dir) != 0) {
        journal_distrust(j);
        return -1;
    }
    for (int i = 0; i < JOURNAL_COPIES; i++)
        if (j->fd[i] < 0 && give_up(j, i) != 0)
            return -1;
    j->pending = false;
    return 0;
}

int journal_open(journal *j, int dir, bool create, journal_reader reader, void *context) {
    int rc = 0;
    *j = (journal)JOURNAL_CLOSED;
    j->dir = dir;
    if (create) {
        for (int i = 0; rc == 0 && i < JOURNAL_COPIES; i++) {
            j->fd[i] = durable_create(dir, names[i], 0600);
            rc = j->fd[i] < 0 ? -1 : 0;
        }
    } else {
        rc = read_both(j, reader, context);
        if (rc == 0 && j->sequence > 0)
            rc = renew(j);
    }
    if (rc != 0) {
        int saved = errno;
        journal_close(j);
        errno = saved;
    }
    return rc;
}

static int make_room(journal *j, size_t size) {
    size_t limit = size > SMALL_RECORD ? JOURNAL_LIMIT - LAST_ROOM : JOURNAL_LIMIT;
    if (size > limit || j->size > limit - size) {
        errno = EFBIG;
        return -1;
    }
    if (j->size + size <= j->room)
        return 0;
    size_t room = 2 * (j->size + size);
    unsigned char *data = realloc(j->data, room);
    if (!data)
        return -1;
    j->data = data;
    j->room = room;
    return 0;
}

/* Takes half a record back out of a file; a file where that fails is not written any more. */
static void cut_back(journal *j, int i) {
    int saved = errno;
    if (durable_truncate(j->fd[i], (off_t)j->size) != 0 ||
        lseek(j->fd[i], (off_t)j->size, SEEK_SET) < 0)
        close_copy(j, i);
    errno = saved;
}

/* Writes the record that stands behind the others in memory to each copy. */
static int write_record(journal *j, size_t size) {
    bool tried[JOURNAL_COPIES], done[JOURNAL_COPIES];
    int error = 0;
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        tried[i] = j->fd[i] >= 0;
        done[i] = tried[i] && durable_write(j->fd[i], j->data + j->size, size) == 0;
        if (tried[i] && !done[i]) {
            error = errno;
            cut_back(j, i);
        }
    }
    bool any = done[0] || done[1];
    if (any) {
        j->size += size;
        j->sequence++;
        j->pending = true;
    }
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        bool useless = tried[i] && !done[i] && (any || j->fd[i] < 0);
        if (useless && is_written(j) && give_up(j, i) != 0)
            return -1;
    }
    errno = error;
    return any ? 0 : -1;
}

int journal_append(journal *j, uint32_t kind, const payload *p) {
    if (p->failed) {
        errno = ENOMEM;
        return -1;
    }
    if (!is_written(j) && renew(j) != 0)
        return -1;
    if (j->pending && journal_sync(j) != 0 && renew(j) != 0)
        return -1;
    if (make_room(j, JOURNAL_HEADER + p->size) != 0)
        return -1;
    unsigned char *record = j->data + j->size;
    put_le(record, p->size, 4);
    put_le(record + 4, kind, 4);
    put_le(record + 8, j->sequence + 1, 8);
    if (p->size)
        memcpy(record + JOURNAL_HEADER, p->data, p->size);
    if (journal_check(record, record + JOURNAL_HEADER, p->size,
                      record + JOURNAL_HEADER - JOURNAL_CHECK) != 0)
        return -1;
    return write_record(j, JOURNAL_HEADER + p->size);
}

int journal_sync(journal *j) {
    bool failed[JOURNAL_COPIES];
    int error = is_written(j) ? 0 : EIO;
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        failed[i] = j->fd[i] >= 0 && durable_sync(j->fd[i]) != 0;
        if (failed[i]) {
            error = errno;
            close_copy(j, i);
        }
    }
    if (!is_written(j)) {
        errno = error;
        return -1;
    }
    for (int i = 0; i < JOURNAL_COPIES; i++)
        if (failed[i] && give_up(j, i) != 0)
            return -1;
    j->pending = false;
    return 0;
}

void journal_synced(journal *j) {
    j->pending = false;
}

int journal_reserve(journal *j, size_t size) {
    for (int i = 0; i < JOURNAL_COPIES; i++)
        if (j->fd[i] >= 0 && make_slack(j, i, size) != 0)
            return -1;
    return 0;
}

void journal_close(journal *j) {
    journal_distrust(j);
    free(j->data);
    j->data = NULL;
}
