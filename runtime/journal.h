/*
** journal.h: an append-only file of checksummed records, the memory of a transaction.
**
** Record: length (u32), kind (u32), sequence (u64), digest (16 bytes), payload (length bytes); all
** integers little-endian. The digest is the first half of the SHA-256 of the other three fields
** and the payload. Sequences count from 1 without a gap.
**
** Reading stops at the end or at a torn tail: an incomplete or damaged last record, which is what
** a crash in the middle of an append leaves; it is cut off before the next append. Damage
** anywhere else (a valid record follows it) is an error, never a shorter journal.
*/
#ifndef PRAXLUA_JOURNAL_H
#define PRAXLUA_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

typedef struct journal {
    int fd;            /* -1 when closed */
    uint64_t sequence; /* of the last valid record */
    int broken;        /* an append failed and could not be cut off: no more appends */
} journal;

/* A payload being built or read: strings and integers in a fixed order, no names. */
typedef struct payload {
    unsigned char *data;
    size_t size, room;
    size_t at;  /* read position */
    int failed; /* out of memory while writing, out of data while reading */
} payload;

/* Called for each valid record in order. A result other than 0 stops the reading with it. */
typedef int (*journal_reader)(void *context, uint32_t kind, uint64_t sequence, payload *p);

/* Opens (or, with `create`, makes) the journal `name` in directory `dir` and reads it. Returns 0,
** the reader's result, or -1 with errno: EEXIST or ENOENT, EBADMSG for damage, or an I/O error. */
int journal_open(journal *j, int dir, const char *name, int create, journal_reader reader,
                 void *context);

/* Appends one record. Not durable before journal_sync, or a sync of the whole file system. */
int journal_append(journal *j, uint32_t kind, const payload *p);
int journal_sync(journal *j);

/* Sees to it that a record with `size` bytes of payload, and those of an undo after it, can be
** appended on a disk that is full by then, as far as the file system allows. */
int journal_reserve(journal *j, size_t size);
void journal_close(journal *j);

void payload_u32(payload *p, uint32_t value);
void payload_u64(payload *p, uint64_t value);
void payload_bytes(payload *p, const void *data, size_t size);
void payload_string(payload *p, const char *text); /* NULL is written as "" */
uint32_t payload_get_u32(payload *p);
uint64_t payload_get_u64(payload *p);
/* Returns a pointer into the payload, not ended by a NUL, and its size. */
const unsigned char *payload_get_bytes(payload *p, size_t *size);
/* Returns a new string that the caller frees, or NULL (and sets failed). */
char *payload_get_string(payload *p);
void payload_free(payload *p);

#endif
