/*
** journal_read.c: the records in the bytes of a journal's two copies; the rule is in journal.h.
*/
#include "journal.h"

#include "digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int journal_check(const unsigned char *header, const unsigned char *data, size_t size,
                  unsigned char check[JOURNAL_CHECK]) {
    unsigned char raw[DIGEST_SIZE];
    int rc = -1;
    digest *d = digest_new();
    if (d && digest_add(d, header, JOURNAL_HEADER - JOURNAL_CHECK) == 0 &&
        digest_add(d, data, size) == 0 && digest_raw(d, raw) == 0) {
        memcpy(check, raw, JOURNAL_CHECK);
        rc = 0;
    }
    digest_free(d);
    return rc;
}

/* Finds a whole record with sequence `sequence` at `at`: 1 and its size, 0, or -1 on no memory. */
static int record_at(const journal_copy *copy, size_t at, uint64_t sequence, size_t *size) {
    unsigned char check[JOURNAL_CHECK];
    if (copy->size < at || copy->size - at < JOURNAL_HEADER)
        return 0;
    const unsigned char *header = copy->data + at;
    uint64_t length = get_le(header, 4);
    if (length > copy->size - at - JOURNAL_HEADER || get_le(header + 8, 8) != sequence)
        return 0;
    if (journal_check(header, header + JOURNAL_HEADER, (size_t)length, check) != 0)
        return -1;
    *size = JOURNAL_HEADER + (size_t)length;
    return memcmp(check, header + JOURNAL_HEADER - JOURNAL_CHECK, JOURNAL_CHECK) == 0;
}

/* The record of the next sequence at the merged end, from the first copy that has it whole. 1, 0
** when none has, or -1 with errno. */
static int next_record(journal *j, const journal_copy *copies, const unsigned char **record,
                       size_t *size) {
    *record = NULL;
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        size_t found_size;
        int found = record_at(&copies[i], j->size, j->sequence + 1, &found_size);
        if (found < 0)
            return -1;
        if (!found)
            continue;
        const unsigned char *data = copies[i].data + j->size;
        if (!*record) {
            *record = data;
            *size = found_size;
        } else if (found_size != *size || memcmp(*record, data, *size) != 0) {
            errno = EBADMSG; /* two histories: neither is ours alone */
            return -1;
        }
    }
    return *record != NULL;
}

static int any_record_behind(const journal *j, const journal_copy *copy) {
    size_t size;
    for (size_t at = j->size; at + JOURNAL_HEADER <= copy->size; at++) {
        uint64_t sequence = get_le(copy->data + at + 8, 8);
        if (sequence <= j->sequence || sequence > j->sequence + 1024)
            continue;
        int found = record_at(copy, at, sequence, &size);
        if (found != 0)
            return found;
    }
    return 0;
}

/* Whether a record behind the merged end may have been durable: 1, 0 or -1. */
static int may_be_lost(const journal *j, const journal_copy *copies) {
    bool ends_before = false, goes_on = false;
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        int behind = any_record_behind(j, &copies[i]);
        if (behind != 0)
            return behind;
        ends_before = ends_before || (!copies[i].absent && copies[i].size < j->size);
        goes_on = goes_on || copies[i].size > j->size;
    }
    return ends_before && goes_on;
}

int journal_merge(journal *j, const journal_copy copies[JOURNAL_COPIES]) {
    const unsigned char *record;
    size_t size = 0;
    int found;
    uint64_t lacks[JOURNAL_COPIES] = {0};
    bool has_last[JOURNAL_COPIES] = {false};
    size_t most = copies[0].size > copies[1].size ? copies[0].size : copies[1].size;
    j->room = most;
    j->size = 0;
    j->sequence = 0;
    j->data = malloc(most ? most : 1);
    if (!j->data)
        return -1;
    while ((found = next_record(j, copies, &record, &size)) > 0) {
        for (int i = 0; i < JOURNAL_COPIES; i++) {
            has_last[i] = copies[i].size >= j->size + size &&
                          memcmp(copies[i].data + j->size, record, size) == 0;
            lacks[i] += !has_last[i];
        }
        memcpy(j->data + j->size, record, size);
        j->size += size;
        j->sequence++;
    }
    if (found < 0)
        return -1;
    for (int i = 0; i < JOURNAL_COPIES; i++) {
        j->whole[i] = !copies[i].absent && lacks[i] == 0;
        j->mended = j->mended || lacks[i] > (has_last[i] ? 0 : 1);
    }
    int lost = may_be_lost(j, copies);
    if (lost > 0)
        errno = EBADMSG;
    return lost == 0 ? 0 : -1;
}

int journal_replay(const journal *j, journal_reader reader, void *context) {
    uint64_t sequence = 0;
    for (size_t at = 0; at < j->size;) {
        size_t length = (size_t)get_le(j->data + at, 4);
        payload p = {j->data + at + JOURNAL_HEADER, length, 0, 0, 0};
        int rc = reader(context, (uint32_t)get_le(j->data + at + 4, 4), ++sequence, &p);
        if (rc != 0)
            return rc;
        at += JOURNAL_HEADER + length;
    }
    return 0;
}
