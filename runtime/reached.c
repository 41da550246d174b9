/*
** reached.c: up to which record of its journal a transaction has acted.
**
** The name of an empty file in the transaction's folder, "reached.N", tells it. It is given before
** the tree is changed because of record N, and after that record is durable: so a journal that ends
** before N has lost records, however whole what is left of it looks.
*/
#define _GNU_SOURCE
#include "durable.h"
#include "transaction.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "reached."

enum { NAME = sizeof PREFIX + 20 };

static void name_of(uint64_t sequence, char name[NAME]) {
    snprintf(name, NAME, PREFIX "%" PRIu64, sequence);
}

int transaction_find_reached(transaction *t) {
    DIR *d = transaction_list(t->dir, ".");
    if (!d)
        return -1;
    const struct dirent *e;
    while (errno = 0, (e = readdir(d)) != NULL) {
        uint64_t sequence;
        if (sscanf(e->d_name, PREFIX "%20" SCNu64, &sequence) == 1 && sequence > t->reached)
            t->reached = sequence;
    }
    int error = errno;
    closedir(d);
    if (error == 0 && t->reached > t->log.sequence)
        error = EBADMSG;
    errno = error;
    return error ? -1 : 0;
}

int transaction_reach(transaction *t) {
    char old[NAME], new[NAME];
    name_of(t->reached, old);
    name_of(t->log.sequence, new);
    if (durable_rename(t->dir, old, t->dir, new) != 0) {
        int fd = errno == ENOENT ? durable_create(t->dir, new, 0600) : -1;
        if (fd < 0 || durable_close(fd) != 0)
            return -1;
    }
    t->reached = t->log.sequence;
    return 0;
}
