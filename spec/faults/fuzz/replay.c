/*
** replay.c: runs inputs without libFuzzer:
**   replay --target=NAME [--seed=N] [--mutations=N] [--long=N] PATH...
**
** Each PATH is an input or a directory of inputs. The empty input is run, then every input as it is
** and --mutations times with a few seeded mutations; at last --long times one of them with a piece
** of it a hundred thousand bytes long, which shows what takes time by the square of the length.
** Prints "NAME: I inputs, R runs". A finding aborts; before that the input that made it is written
** to the file named by REPLAY_FINDING, if that is set.
*/
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGEST = 1 << 20, LONG = 100000, SECONDS = 10 /* that one run may take */ };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void));

static uint8_t current[2 * LARGEST];
static size_t current_size;
static unsigned long inputs, runs, mutations, long_runs;
static uint64_t random_state = 1;

/* ---- findings ---- */

static void keep_input(void) {
    const char *path = getenv("REPLAY_FINDING");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && write(fd, current, current_size) >= 0)
        fprintf(stderr, "the input is in %s\n", path);
}

static void on_abort(int number) {
    static const char late[] = "finding: a run that does not end\n";
    if (number == SIGALRM && write(STDERR_FILENO, late, sizeof late - 1) < 0)
        _exit(1);
    keep_input();
    _exit(1);
}

/* ---- mutations ---- */

/* A number below `n`; the generator is xorshift64*. */
static size_t below(size_t n) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return n ? (size_t)((random_state * 2685821657736338717u) >> 33) % n : 0;
}

static void insert(size_t at, const void *bytes, size_t count) {
    if (current_size + count > LARGEST)
        return;
    memmove(current + at + count, current + at, current_size - at);
    memcpy(current + at, bytes, count);
    current_size += count;
}

static void mutate(void) {
    static const uint64_t numbers[] = {
        0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX};
    uint8_t bytes[64];
    size_t at = below(current_size + 1), count = 1 + below(sizeof bytes);
    if (count > current_size - at)
        count = current_size - at;
    switch (below(7)) {
    case 0:
        current_size = at;
        break;
    case 1:
        memmove(current + at, current + at + count, current_size - at - count);
        current_size -= count;
        break;
    case 2: /* a piece of the input once more, elsewhere */
        memcpy(bytes, current + at, count);
        insert(below(current_size + 1), bytes, count);
        break;
    case 3:
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)below(256);
        insert(at, bytes, count);
        break;
    case 4: {
        uint64_t number = numbers[below(sizeof numbers / sizeof *numbers)];
        size_t width = (size_t)1 << below(4);
        if (current_size - at >= width)
            memcpy(current + at, &number, width);
        break;
    }
    default:
        if (at < current_size)
            current[at] ^= (uint8_t)(1u << below(8));
    }
}

/* Puts a piece of 1 to 4 bytes, from a list or from the input itself, in as often as makes it long.
** The first byte of many targets is a mode and stays. */
static void lengthen(void) {
    static const char *const pieces[] = {" ",  "\t", "\n", "\r\n", "[",   "{",
                                         "\\", "\"", ",",  "/",    "a \n"};
    uint8_t piece[4];
    size_t count = 1 + below(sizeof piece), at = current_size ? 1 + below(current_size) : 0;
    if (below(2) && current_size >= count) {
        memcpy(piece, current + below(current_size - count + 1), count);
    } else {
        const char *chosen = pieces[below(sizeof pieces / sizeof *pieces)];
        count = strlen(chosen);
        memcpy(piece, chosen, count);
    }
    if (current_size + LONG + count > LARGEST)
        return;
    memmove(current + at + LONG / count * count, current + at, current_size - at);
    for (size_t i = 0; i < LONG / count; i++)
        memcpy(current + at + i * count, piece, count);
    current_size += LONG / count * count;
}

/* ---- inputs ---- */

static void run(void) {
    /* In a block of its own size: reading beyond it is seen. */
    uint8_t *exact = malloc(current_size ? current_size : 1);
    memcpy(exact, current, current_size);
    alarm(SECONDS);
    LLVMFuzzerTestOneInput(exact, current_size);
    alarm(0);
    free(exact);
    runs++;
}

static uint8_t original[LARGEST];

static ssize_t read_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, original, sizeof original);
    if (size < 0) {
        perror(path);
        exit(2);
    }
    close(fd);
    return size;
}

static void run_file(const char *path) {
    ssize_t size = read_file(path);
    inputs++;
    for (unsigned long i = 0; i <= mutations; i++) {
        memcpy(current, original, (size_t)size);
        current_size = (size_t)size;
        for (size_t n = i ? 1 + below(4) : 0; n > 0; n--)
            mutate();
        run();
    }
}

static int is_input(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void run_path(const char *path) {
    struct stat st;
    struct dirent **entries;
    char name[4096];
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    int count = scandir(path, &entries, is_input, by_name);
    if (count < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        run_file(name);
    }
    for (unsigned long i = 0; i < long_runs && count > 0; i++) {
        snprintf(name, sizeof name, "%s/%s", path, entries[below((size_t)count)]->d_name);
        current_size = (size_t)read_file(name);
        memcpy(current, original, current_size);
        lengthen();
        run();
    }
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
}

int main(int argc, char **argv) {
    LLVMFuzzerInitialize(&argc, &argv);
    signal(SIGABRT, on_abort);
    signal(SIGALRM, on_abort);
    __sanitizer_set_death_callback(keep_input);
    run();
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--mutations=", 12) == 0)
            mutations = strtoul(argv[i] + 12, NULL, 10);
        else if (strncmp(argv[i], "--long=", 7) == 0)
            long_runs = strtoul(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            random_state = strtoull(argv[i] + 7, NULL, 10) * 2 + 1;
        else if (strncmp(argv[i], "--", 2) != 0)
            run_path(argv[i]);
    }
    printf("%s: %lu inputs, %lu runs\n", fuzz_name, inputs, runs);
    return 0;
}
