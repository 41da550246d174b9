/*
** journal.h: the memory of a transaction: checksummed records, appended to two files alike.
**
** Record: length (u32), kind (u32), sequence (u64), digest (16 bytes), payload (length bytes); all
** integers little-endian. The digest is the first half of the SHA-256 of the other three fields
** and the payload. Sequences count from 1 without a gap.
**
** Both copies hold the same bytes at the same place. Nobody relies on a record before it is durable
** in each copy that is there, and the next one is written only after that. So a crash leaves at
** most one record, the last, that is missing or torn in one copy or in both.
**
** Reading takes each record from the copy in which it is whole, up to the first that is whole in
** neither. What lies behind that place is cut off as a torn end, unless a record may be lost:
**   - a whole record of a later sequence lies behind it in either copy, or
**   - one copy ends before it, and the other goes on behind it. An append that is torn in one
**     copy finds the records before it whole in both; here a copy lost records that were
**     durable, so the torn one may have been durable, too.
** Then the journal is damaged (EBADMSG), and nothing is guessed. A copy that is missing altogether
** was given up and says nothing: the other one counts alone.
**
** Opening a journal writes both copies anew, into files of their own. What a failed sync left of
** the old ones on the disk is unknown, and damage is mended on the way.
**
** A copy that cannot be written or synced is given up: it is deleted, and the other one carries
** on. When both fail, the call fails, and the next append begins with two new files. A record
** stays part of the journal once it is whole in any copy, even when its append failed.
*/
#ifndef PRAXLUA_JOURNAL_H
#define PRAXLUA_JOURNAL_H

#include "payload.h"

#include <stdbool.h>

enum { JOURNAL_COPIES = 2 };

typedef struct journal {
    int dir;                /* the folder of the files; the caller's */
    int fd[JOURNAL_COPIES]; /* -1: this copy was given up, or is to be written anew */
    unsigned char *data;    /* all records, as in the files. Owned. */
    size_t size, room;
    uint64_t sequence;          /* of the last record */
    bool pending;               /* which may not be durable yet */
    bool whole[JOURNAL_COPIES]; /* when it was opened: a copy had all records */
    bool mended;                /* and one lacked more than a crash takes away */
} journal;

#define JOURNAL_CLOSED                                                                             \
    {                                                                                              \
        .dir = -1, .fd = { -1, -1 }                                                                \
    }

/* Called for each record in order. A result other than 0 stops the reading with it. */
typedef int (*journal_reader)(void *context, uint32_t kind, uint64_t sequence, payload *p);

/* Makes the journal's files in directory `dir`, or opens them and reads them. Returns 0, the
** reader's result, or -1 with errno: EEXIST, ENOENT (neither is there), EBADMSG for damage, or an
** I/O error. After a failure the files are as they were. A journal of no records stays as it is. */
int journal_open(journal *j, int dir, bool create, journal_reader reader, void *context);

/* Appends one record, once the one before is durable. Not durable itself before journal_sync, or a
** sync of the whole file system, of which journal_synced tells. */
int journal_append(journal *j, uint32_t kind, const payload *p);
int journal_sync(journal *j);
void journal_synced(journal *j);

/* A sync of the whole file system failed: both copies are given up as they are on the disk. */
void journal_distrust(journal *j);

/* Sees to it that a record with `size` bytes of payload, and those of an undo after it, can be
** appended on a disk that is full by then, as far as the file system allows. */
int journal_reserve(journal *j, size_t size);
void journal_close(journal *j);

/* ---- journal_read.c: the bytes of a journal, without its files ---- */

enum {
    JOURNAL_HEADER = 32,               /* length 4, kind 4, sequence 8, digest 16 */
    JOURNAL_CHECK = 16,                /* bytes of the digest */
    JOURNAL_LIMIT = 256 * 1024 * 1024, /* bytes; a larger journal is not one of ours */
};

/* What was read of one copy. */
typedef struct journal_copy {
    unsigned char *data;
    size_t size;
    bool absent;
} journal_copy;

/* Puts the records of both copies together by the rule above and fills data, size, sequence,
** whole and mended of `j`. 0, or -1 with errno. */
int journal_merge(journal *j, const journal_copy copies[JOURNAL_COPIES]);

/* Hands each record to the reader: 0, or its result. */
int journal_replay(const journal *j, journal_reader reader, void *context);

/* The digest over header fields and payload, cut to JOURNAL_CHECK bytes: 0, or -1. */
int journal_check(const unsigned char *header, const unsigned char *data, size_t size,
                  unsigned char check[JOURNAL_CHECK]);

#endif
