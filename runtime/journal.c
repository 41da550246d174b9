/*
** journal.c: the append-only file of a transaction; see journal.h.
*/
#define _GNU_SOURCE
#include "journal.h"

#include "digest.h"
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER = 32, /* length 4, kind 4, sequence 8, digest 16 */
    CHECK = 16,
    SMALL_RECORDS = 1024,     /* bytes that the records of an undo need, amply */
    LIMIT = 256 * 1024 * 1024 /* a larger journal is not one of ours */
};

static void put_le(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get_le(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | from[i];
    return value;
}

/* The digest over header fields and payload, cut to CHECK bytes. */
static int check_of(const unsigned char *header, const unsigned char *data, size_t size,
                    unsigned char check[CHECK]) {
    unsigned char raw[DIGEST_SIZE];
    int rc = -1;
    digest *d = digest_new();
    if (d && digest_add(d, header, HEADER - CHECK) == 0 && digest_add(d, data, size) == 0 &&
        digest_raw(d, raw) == 0) {
        memcpy(check, raw, CHECK);
        rc = 0;
    }
    digest_free(d);
    return rc;
}

/* 1 when a valid record with sequence `sequence` stands at `at`, 0 when not, -1 on no memory. */
static int valid_at(const unsigned char *data, size_t size, size_t at, uint64_t sequence) {
    unsigned char check[CHECK];
    if (size - at < HEADER)
        return 0;
    uint64_t length = get_le(data + at, 4);
    if (length > size - at - HEADER || get_le(data + at + 8, 8) != sequence)
        return 0;
    if (check_of(data + at, data + at + HEADER, (size_t)length, check) != 0)
        return -1;
    return memcmp(check, data + at + HEADER - CHECK, CHECK) == 0;
}

/* Whether any later record stands behind the damage at `from`. A batch of appends shares one
** sync, so more than one record may be torn; a whole one behind a torn one is damage. */
static int any_valid_after(const unsigned char *data, size_t size, size_t from, uint64_t sequence) {
    for (size_t at = from; at + HEADER <= size; at++) {
        uint64_t found = get_le(data + at + 8, 8);
        if (found <= sequence || found > sequence + 1024)
            continue;
        int valid = valid_at(data, size, at, found);
        if (valid != 0)
            return valid;
    }
    return 0;
}

static int read_all(int fd, unsigned char **data, size_t *size) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -1;
    if (!S_ISREG(st.st_mode) || st.st_size > LIMIT) {
        errno = EBADMSG;
        return -1;
    }
    *size = (size_t)st.st_size;
    *data = malloc(*size ? *size : 1);
    if (!*data)
        return -1;
    size_t have = 0;
    while (have < *size) {
        ssize_t n = pread(fd, *data + have, *size - have, (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    *size = have;
    return 0;
}

/* Feeds every valid record to the reader and cuts a torn tail off. */
static int replay(journal *j, const unsigned char *data, size_t size, journal_reader reader,
                  void *context) {
    size_t at = 0;
    while (at < size) {
        int valid = valid_at(data, size, at, j->sequence + 1);
        if (valid < 0)
            return -1;
        if (!valid)
            break;
        size_t length = (size_t)get_le(data + at, 4);
        payload p = {(unsigned char *)data + at + HEADER, length, 0, 0, 0};
        j->sequence++;
        int rc = reader(context, (uint32_t)get_le(data + at + 4, 4), j->sequence, &p);
        if (rc != 0)
            return rc;
        at += HEADER + length;
    }
    if (at == size)
        return 0;
    int damaged = any_valid_after(data, size, at, j->sequence);
    if (damaged != 0) {
        if (damaged > 0)
            errno = EBADMSG;
        return -1;
    }
    return durable_truncate(j->fd, (off_t)at);
}

int journal_open(journal *j, int dir, const char *name, int create, journal_reader reader,
                 void *context) {
    unsigned char *data = NULL;
    size_t size = 0;
    int rc = -1;
    j->sequence = 0;
    j->broken = 0;
    if (create) {
        int fd = durable_create(dir, name, 0600);
        if (fd < 0 || durable_close(fd) != 0)
            return -1;
    } else if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
        return -1; /* durable_append would make it */
    }
    j->fd = durable_append(dir, name, 0600);
    if (j->fd < 0)
        return -1;
    if (read_all(j->fd, &data, &size) == 0)
        rc = replay(j, data, size, reader, context);
    int saved = errno;
    free(data);
    if (rc != 0)
        journal_close(j);
    errno = saved;
    return rc;
}

/* Where the next record begins, or -1. */
static off_t end_of(const journal *j) {
    off_t end = j->broken ? -1 : lseek(j->fd, 0, SEEK_END);
    if (end < 0)
        errno = EIO;
    return end;
}

int journal_append(journal *j, uint32_t kind, const payload *p) {
    int rc = -1;
    if (p->failed || p->size > UINT32_MAX) {
        errno = ENOMEM;
        return -1;
    }
    off_t end = end_of(j);
    if (end < 0)
        return -1;
    unsigned char *record = malloc(HEADER + p->size);
    if (!record)
        return -1;
    put_le(record, p->size, 4);
    put_le(record + 4, kind, 4);
    put_le(record + 8, j->sequence + 1, 8);
    if (p->size)
        memcpy(record + HEADER, p->data, p->size);
    if (check_of(record, record + HEADER, p->size, record + HEADER - CHECK) == 0 &&
        durable_write(j->fd, record, HEADER + p->size) == 0) {
        j->sequence++;
        rc = 0;
    } else { /* a half-written record must not stand before the next one */
        int saved = errno;
        j->broken = durable_truncate(j->fd, end) != 0;
        errno = saved;
    }
    free(record);
    return rc;
}

int journal_sync(journal *j) {
    return durable_sync(j->fd);
}

int journal_reserve(journal *j, size_t size) {
    off_t end = end_of(j);
    if (end < 0)
        return -1;
    if (durable_reserve(j->fd, end, (off_t)(HEADER + size + SMALL_RECORDS)) == 0)
        return 0;
    return errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -1;
}

void journal_close(journal *j) {
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
}

static unsigned char *reserve(payload *p, size_t size) {
    if (!p->failed && p->room - p->size < size) {
        size_t room = (p->room + size) * 2;
        unsigned char *data = realloc(p->data, room);
        if (data) {
            p->data = data;
            p->room = room;
        } else {
            p->failed = 1;
        }
    }
    if (p->failed)
        return NULL;
    p->size += size;
    return p->data + p->size - size;
}

static void put_integer(payload *p, uint64_t value, int bytes) {
    unsigned char *to = reserve(p, (size_t)bytes);
    if (to)
        put_le(to, value, bytes);
}

void payload_u32(payload *p, uint32_t value) {
    put_integer(p, value, 4);
}

void payload_u64(payload *p, uint64_t value) {
    put_integer(p, value, 8);
}

void payload_bytes(payload *p, const void *data, size_t size) {
    payload_u32(p, (uint32_t)size);
    unsigned char *to = reserve(p, size);
    if (to && size)
        memcpy(to, data, size);
}

void payload_string(payload *p, const char *text) {
    payload_bytes(p, text, text ? strlen(text) : 0);
}

static uint64_t get_integer(payload *p, int bytes) {
    if (p->failed || p->size - p->at < (size_t)bytes) {
        p->failed = 1;
        return 0;
    }
    p->at += (size_t)bytes;
    return get_le(p->data + p->at - bytes, bytes);
}

uint32_t payload_get_u32(payload *p) {
    return (uint32_t)get_integer(p, 4);
}

uint64_t payload_get_u64(payload *p) {
    return get_integer(p, 8);
}

const unsigned char *payload_get_bytes(payload *p, size_t *size) {
    *size = payload_get_u32(p);
    if (p->failed || p->size - p->at < *size) {
        p->failed = 1;
        *size = 0;
        return NULL;
    }
    p->at += *size;
    return p->data + p->at - *size;
}

char *payload_get_string(payload *p) {
    size_t size;
    const unsigned char *from = payload_get_bytes(p, &size);
    char *text = p->failed ? NULL : malloc(size + 1);
    if (!text) {
        p->failed = 1;
        return NULL;
    }
    memcpy(text, from, size);
    text[size] = '\0';
    return text;
}

void payload_free(payload *p) {
    free(p->data);
    *p = (payload){0};
}
