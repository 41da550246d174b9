/*
** flips.c: damages the two copies of a journal in every way there is and reads them back.
**
**   flips JOURNAL COPY SEED PAIRS STRIDE
**
** JOURNAL and COPY are the files of a real journal, both whole and equal. One of them is damaged at
** each STRIDE-th bit, and cut at each STRIDE-th length: the other one then has to make up for it.
** After that both are damaged, in PAIRS seeded ways: then the journal is whole where one copy is
** whole, record by record; a last record that is whole in neither may be missing, as after a crash;
** a record before it is damage. Two copies that are both cut are a shorter journal, which is for
** others to notice (the session's file says how many records there were). Prints a line for each
** finding, and "cases N bad M".
*/
#define _GNU_SOURCE
#include "cancel.h"
#include "journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 4096, SHOWN = 20 };

/* A damage: bit `bit` is flipped, or the copy ends at `cut`; -1 for neither. */
typedef struct damage {
    long bit, cut;
} damage;

static unsigned char *whole; /* the undamaged journal */
static size_t size;
static size_t starts[RECORDS + 1]; /* of its records, and its end */
static size_t count;
static unsigned long cases, bad;
static uint64_t state;

/* digest.c asks it; here nobody cancels anything. */
int cancel_asked(void) {
    return 0;
}

static unsigned long random_below(unsigned long limit) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (unsigned long)((state * UINT64_C(2685821657736338717)) >> 33) % limit;
}

static unsigned char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    unsigned char *data = NULL;
    if (file && fseek(file, 0, SEEK_END) == 0) {
        *length = (size_t)ftell(file);
        rewind(file);
        data = malloc(*length ? *length : 1);
        if (data && fread(data, 1, *length, file) != *length) {
            free(data);
            data = NULL;
        }
    }
    if (file)
        fclose(file);
    return data;
}

/* Where the records begin, by the length in each header alone. */
static int find_records(void) {
    size_t at = 0;
    while (at + 32 <= size && count < RECORDS) {
        starts[count++] = at;
        at += 32 + (whole[at] | (size_t)whole[at + 1] << 8 | (size_t)whole[at + 2] << 16 |
                    (size_t)whole[at + 3] << 24);
    }
    starts[count] = at;
    return at == size && count > 1 ? 0 : -1;
}

/* The first record that a damage spoils, `count` for none; `*rest`: all behind it, too. */
static size_t spoils(const damage *d, bool *rest) {
    size_t at = d->cut >= 0 ? (size_t)d->cut : d->bit >= 0 ? (size_t)d->bit / 8 : size;
    size_t record = 0;
    *rest = d->cut >= 0;
    while (record < count && starts[record + 1] <= at)
        record++;
    return record;
}

/* The first record that is whole in neither copy; `count` for none. */
static size_t first_lost(const damage *one, const damage *other) {
    bool one_rest, other_rest;
    size_t a = spoils(one, &one_rest), b = spoils(other, &other_rest);
    if (a == b)
        return a;
    if (a < b)
        return one_rest ? b : count;
    return other_rest ? a : count;
}

static bool ends_before(const damage *d, size_t at) {
    return d->cut >= 0 && (size_t)d->cut < at;
}

static void print(const damage *d) {
    if (d->cut >= 0)
        printf(" cut:%ld", d->cut);
    else if (d->bit >= 0)
        printf(" bit:%ld", d->bit);
    else
        printf(" whole");
}

static void found(const damage *one, const damage *other, const char *what) {
    if (++bad > SHOWN)
        return;
    printf("journal");
    print(one);
    printf(" copy");
    print(other);
    printf(": %s\n", what);
}

/* Holds what was read against what has to come of it. */
static void judge(const damage *one, const damage *other, int rc, int error, const journal *j) {
    size_t lost = first_lost(one, other);
    bool identical = rc == 0 && j->size == size && memcmp(j->data, whole, size) == 0;
    bool ends_there = rc == 0 && j->size == starts[lost] && memcmp(j->data, whole, j->size) == 0;
    bool refused = rc != 0 && error == EBADMSG;
    size_t last = starts[count - 1];
    bool torn = lost == count - 1 && !ends_before(one, last) && !ends_before(other, last);
    bool both_cut = one->cut >= 0 && other->cut >= 0;
    if (lost == count && !identical)
        found(one, other, refused ? "refused, though all is there" : "read wrongly");
    else if (lost < count && !refused && !((torn || both_cut) && ends_there))
        found(one, other, "records were lost, and nobody says so");
}

static void apply(const damage *d, unsigned char *data, journal_copy *copy) {
    memcpy(data, whole, size);
    if (d->bit >= 0)
        data[d->bit / 8] ^= (unsigned char)(1u << (d->bit % 8));
    *copy = (journal_copy){.data = data, .size = d->cut >= 0 ? (size_t)d->cut : size};
}

static void try(const damage *one, const damage *other, unsigned char *scratch) {
    journal_copy copies[JOURNAL_COPIES];
    journal j = JOURNAL_CLOSED;
    apply(one, scratch, &copies[0]);
    apply(other, scratch + size, &copies[1]);
    errno = 0;
    int rc = journal_merge(&j, copies);
    judge(one, other, rc, errno, &j);
    free(j.data);
    cases++;
}

static void damage_one(long stride, long offset, unsigned char *scratch) {
    const damage none = {-1, -1};
    for (long bit = offset; bit < (long)size * 8; bit += stride) {
        damage d = {bit, -1};
        try(&d, &none, scratch);
        try(&none, &d, scratch);
    }
    for (long cut = offset % (long)size; cut < (long)size; cut += stride) {
        damage d = {-1, cut};
        try(&d, &none, scratch);
        try(&none, &d, scratch);
    }
}

static damage any_damage(void) {
    damage d = {-1, -1};
    if (random_below(3) == 0)
        d.cut = (long)random_below(size);
    else
        d.bit = (long)random_below(size * 8);
    return d;
}

/* Most often near each other, where it matters. */
static void damage_both(unsigned long pairs, unsigned char *scratch) {
    for (unsigned long i = 0; i < pairs; i++) {
        damage one = any_damage(), other = any_damage();
        size_t record = random_below(count);
        size_t length = starts[record + 1] - starts[record];
        if (random_below(4) != 0)
            one = (damage){(long)((starts[record] + random_below(length)) * 8), -1};
        if (random_below(2) != 0)
            other = (damage){(long)((starts[record] + random_below(length)) * 8 + 3), -1};
        try(&one, &other, scratch);
    }
}

int main(int argc, char **argv) {
    size_t copy_size = 0;
    unsigned char *copy = NULL, *scratch = NULL;
    int rc = 2;
    if (argc != 6) {
        fprintf(stderr, "usage: flips JOURNAL COPY SEED PAIRS STRIDE\n");
        return rc;
    }
    whole = read_file(argv[1], &size);
    copy = read_file(argv[2], &copy_size);
    scratch = whole ? malloc(2 * size) : NULL;
    if (!copy || !scratch || size != copy_size || memcmp(whole, copy, size) != 0 ||
        find_records() != 0) {
        fprintf(stderr, "flips: these are not two equal journals: %s %s\n", argv[1], argv[2]);
    } else {
        long stride = strtol(argv[5], NULL, 10);
        state = strtoull(argv[3], NULL, 10) * UINT64_C(0x9E3779B97F4A7C15) + 1;
        damage_one(stride, (long)random_below((unsigned long)stride), scratch);
        damage_both(strtoul(argv[4], NULL, 10), scratch);
        printf("cases %lu bad %lu\n", cases, bad);
        rc = bad != 0;
    }
    free(scratch);
    free(copy);
    free(whole);
    return rc;
}
