/*
** journal.c: fuzz target "journal".
*/
#include "harness.h"

static void run(const uint8_t *data, size_t size) {
    (void)data, (void)size;
}

const fuzz_target fuzz_journal = {"journal", run};
