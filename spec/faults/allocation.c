/*
** allocation.c: lets the N-th allocation of memory fail. Built twice: as a library for LD_PRELOAD,
** where it stands before the allocator for Lua, our own code and every library alike; and into a
** praxlua with sanitizers, whose allocator has to stay theirs (ALLOCATION_WRAPPED, with the
** linker's --wrap): there it reaches our own code, Lua and what is linked with it.
**
** Environment:
**   ALLOCATION_FILE    of HEADER and LOGGED bytes; counts and hits are written into it as they
**                      happen, so that they survive any end. Without it nothing is done.
**   ALLOCATION_AT      number of the allocation that fails, from 1; 0 or absent: none
**   ALLOCATION_STICKY  1: it and all later ones
**   ALLOCATION_OVER    bytes: each allocation of more fails
**   ALLOCATION_WHO     "main", the process that praxlua begins as (default), or "worker", all of
**                      those that phases run in, taken as one (LD_PRELOAD only)
**   ALLOCATION_LOG     1: which object each allocation came from is written down, too
**
** A fork that does not exec is left alone. Allocations before the constructor below (of the dynamic
** linker, and of libraries when they are loaded) are not counted.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OBJECTS = 32, NAME = 48, HEADER = 4096, LOGGED = 4 * 1024 * 1024 };

/* The beginning of the file. The Lua side reads it with string.unpack: keep the order. At HEADER
** follows an object, by its number, for each of the first LOGGED allocations. */
typedef struct shared {
    _Atomic uint64_t count, hits;
    char where[NAME];            /* the object that the first hit came from */
    char objects[OBJECTS][NAME]; /* as numbered in the log, from 0 */
} shared;
_Static_assert(sizeof(shared) <= HEADER, "the log begins behind it");

static shared *state; /* NULL: nothing is done in this process */
static uint8_t *object_log;
static pid_t owner;
static uint64_t fail_at, over;
static bool sticky, logging;

/* ---- what is done to an allocation ---- */

static pid_t own_pid(void) {
    return (pid_t)syscall(SYS_getpid);
}

/* The last part of the path of the object that an address lies in. */
static const char *object_of(const void *address) {
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname)
        return "?";
    const char *slash = strrchr(info.dli_fname, '/');
    return slash ? slash + 1 : info.dli_fname;
}

static void copy_name(char to[NAME], const char *name) {
    size_t size = strlen(name) < NAME ? strlen(name) : NAME - 1;
    memcpy(to, name, size);
}

static void note(uint64_t nth, const void *caller) {
    const char *name = object_of(caller);
    uint8_t object = 0;
    if (nth > LOGGED)
        return;
    while (object < OBJECTS - 1 && *state->objects[object] &&
           strncmp(state->objects[object], name, NAME - 1) != 0)
        object++;
    if (!*state->objects[object])
        copy_name(state->objects[object], name);
    object_log[nth - 1] = object;
}

/* Whether this allocation fails. errno is set then. */
static bool fails(size_t size, const void *caller) {
    if (!state)
        return false;
    if (own_pid() != owner) { /* a fork: its memory is a copy, but the file is one */
        state = NULL;
        return false;
    }
    uint64_t nth = atomic_fetch_add(&state->count, 1) + 1;
    if (logging)
        note(nth, caller);
    bool hit = fail_at && (nth == fail_at || (sticky && nth > fail_at));
    hit = hit || (over && size > over);
    if (!hit)
        return false;
    if (atomic_fetch_add(&state->hits, 1) == 0)
        copy_name(state->where, object_of(caller));
    errno = ENOMEM;
    return true;
}

#define CALLER __builtin_return_address(0)

/* ---- the allocator's functions ---- */

#ifdef ALLOCATION_WRAPPED

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size) {
    return fails(size, CALLER) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails(count * size, CALLER) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size) {
    return size && fails(size, CALLER) ? NULL : __real_realloc(block, size);
}

char *__wrap_strdup(const char *text) {
    return fails(strlen(text) + 1, CALLER) ? NULL : __real_strdup(text);
}

#else

/* The C library's own, under the names it keeps for those who stand before it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
    return fails(size, CALLER) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return fails(count * size, CALLER) ? NULL : __libc_calloc(count, size);
}

/* A size of 0 frees, which cannot fail. */
void *realloc(void *block, size_t size) {
    return size && fails(size, CALLER) ? NULL : __libc_realloc(block, size);
}

void *reallocarray(void *block, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return total && fails(total, CALLER) ? NULL : __libc_realloc(block, total);
}

void *memalign(size_t alignment, size_t size) {
    return fails(size, CALLER) ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return fails(size, CALLER) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    void *fresh = fails(size, CALLER) ? NULL : __libc_memalign(alignment, size);
    if (!fresh)
        return ENOMEM;
    *block = fresh;
    return 0;
}

/* A worker's environment is fixed and does not have us in it: it is added here. */
static char **with_us(char *const from[], char *to[], size_t room) {
    static const char *const names[] = {"LD_PRELOAD",        "ALLOCATION_FILE", "ALLOCATION_AT",
                                        "ALLOCATION_STICKY", "ALLOCATION_OVER", "ALLOCATION_LOG"};
    static char text[sizeof names / sizeof *names][4096];
    size_t n = 0;
    while (from[n] && n + sizeof names / sizeof *names + 2 < room) {
        to[n] = from[n];
        n++;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && snprintf(text[i], sizeof text[i], "%s=%s", names[i], value) > 0)
            to[n++] = text[i];
    }
    to[n++] = (char *)"ALLOCATION_WHO=itself";
    to[n] = NULL;
    return to;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) {
    static int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                       const posix_spawnattr_t *, char *const[], char *const[]);
    const char *who = getenv("ALLOCATION_WHO");
    char *environment[32];
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
    if (who && strcmp(who, "worker") == 0 && argv[0] && argv[1] && strcmp(argv[1], "--worker") == 0)
        envp = with_us(envp, environment, sizeof environment / sizeof *environment);
    return real(pid, path, actions, attributes, argv, envp);
}

#endif

/* ---- the beginning ---- */

static uint64_t number(const char *name) {
    const char *value = getenv(name);
    return value ? strtoull(value, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ALLOCATION_FILE"), *who = getenv("ALLOCATION_WHO");
    if (!path || (who && strcmp(who, "worker") == 0))
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, HEADER + LOGGED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return;
    fail_at = number("ALLOCATION_AT");
    over = number("ALLOCATION_OVER");
    sticky = number("ALLOCATION_STICKY");
    logging = number("ALLOCATION_LOG");
    owner = own_pid();
    object_log = (uint8_t *)map + HEADER;
    state = map;
}
