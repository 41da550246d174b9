/*
** journal.c: fuzz target "journal": the folder of a transaction with any journal in it, opened, and
** undone or looked through once more. The first byte of the input chooses:
**   bit 0     the rest is records, each a kind (u8), a length (u16) and so many bytes of payload,
**             of which a journal with right sequences and digests is made; else it is the journal
**   bit 1     the folder is looked through as before its deletion; else everything is undone
**   bits 2-3  the copy: the same, missing, cut in the middle, or with another bit in it
**
** Whatever the records say, nothing beside the tree changes; and an undo that went well has nothing
** left to do when it is repeated.
*/
#define _GNU_SOURCE
#include "harness.h"

#include "transaction.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER "t" /* of the transaction, beneath the tree */

static char place[300], tree[320], canary[320];
static const char canary_text[] = "untouched";

/* ---- the input made into a journal ---- */

/* The journal of the records in `data`; the caller frees it. */
static unsigned char *journal_of(const uint8_t *data, size_t size, size_t *total) {
    unsigned char *to = malloc(size * (JOURNAL_HEADER / 3 + 2) + JOURNAL_HEADER);
    uint64_t sequence = 0;
    *total = 0;
    while (size >= 3) {
        uint8_t kind = data[0];
        size_t length = (size_t)get_le(data + 1, 2);
        data += 3, size -= 3;
        length = length < size ? length : size;
        unsigned char *at = to + *total;
        put_le(at, length, 4);
        put_le(at + 4, kind, 4);
        put_le(at + 8, ++sequence, 8);
        memcpy(at + JOURNAL_HEADER, data, length);
        if (journal_check(at, at + JOURNAL_HEADER, length, at + JOURNAL_HEADER - JOURNAL_CHECK) !=
            0)
            exit(2);
        *total += JOURNAL_HEADER + length;
        data += length, size -= length;
    }
    return to;
}

static void put(const char *name, const void *data, size_t size) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", tree, name);
    fuzz_write(path, data, size);
}

static void put_journal(int mode, const uint8_t *data, size_t size) {
    size_t total = size;
    unsigned char *whole = mode & 1 ? journal_of(data, size, &total) : malloc(size + 1);
    if (!(mode & 1))
        memcpy(whole, data, size);
    put(FOLDER "/journal", whole, total);
    switch (mode >> 2 & 3) {
    case 0:
        put(FOLDER "/journal.copy", whole, total);
        break;
    case 2:
        put(FOLDER "/journal.copy", whole, total / 2);
        break;
    case 3:
        if (total > 0)
            whole[total / 3] ^= 16;
        put(FOLDER "/journal.copy", whole, total);
        break;
    default:
        break;
    }
    free(whole);
}

/* ---- the tree ---- */

static void make_folder(const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", tree, name);
    mkdir(path, 0700);
}

static void make_tree(void) {
    static const char *const folders[] = {
        "",  "d", "d/empty", "venv", FOLDER, FOLDER "/stage", FOLDER "/undo", FOLDER "/stage/3",
        NULL};
    static const char *const files[] = {"a",
                                        "d/b",
                                        "venv/c",
                                        FOLDER "/undo/0",
                                        FOLDER "/undo/1",
                                        FOLDER "/stage/1",
                                        FOLDER "/stage/2",
                                        FOLDER "/stage/3/c",
                                        NULL};
    fuzz_remove(tree);
    for (int i = 0; folders[i]; i++)
        make_folder(folders[i]);
    for (int i = 0; files[i]; i++)
        put(files[i], files[i], strlen(files[i]));
}

/* ---- what must hold ---- */

static void check_canary(void) {
    char text[sizeof canary_text + 1] = "";
    struct stat st, up;
    FILE *f = fopen(canary, "re");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f)
        fclose(f);
    if (n != sizeof canary_text || memcmp(text, canary_text, n) != 0 || lstat(canary, &st) != 0 ||
        (st.st_mode & 07777) != 0600 || st.st_nlink != 1)
        fuzz_finding("the file beside the tree was changed");
    if (stat(place, &up) != 0 || up.st_nlink > 3)
        fuzz_finding("something was made beside the tree");
}

/* Opens the transaction and does what the mode says: 0, 1 when it could not be opened, -1. */
static int use(int mode) {
    transaction t = {.root = -1, .dir = -1, .stage = -1, .undo = -1, .log = JOURNAL_CLOSED};
    int rc = 1;
    if (transaction_open(&t, tree, FOLDER, false, NULL) == 0)
        rc = mode & 2 ? transaction_rescue(&t) : transaction_undo(&t, 0);
    else if (errno != EBADMSG && errno != EPROTONOSUPPORT && errno != ENOENT)
        fuzz_finding("the transaction cannot be opened: %s", strerror(errno));
    transaction_close(&t);
    return rc;
}

static void run(const uint8_t *data, size_t size) {
    int mode = size > 0 ? data[0] : 0;
    if (!*place) {
        snprintf(place, sizeof place, "%s/journal", fuzz_scratch());
        snprintf(tree, sizeof tree, "%s/tree", place);
        snprintf(canary, sizeof canary, "%s/canary", place);
        mkdir(place, 0700);
        fuzz_write(canary, canary_text, sizeof canary_text);
    }
    make_tree();
    put_journal(mode, data + (size > 0), size - (size > 0));
    if (use(mode) == 0 && use(mode) != 0)
        fuzz_finding("what went well fails when it is repeated: %s", strerror(errno));
    check_canary();
}

const fuzz_target fuzz_journal = {"journal", run};
