/*
** landlock.c: Landlock rulesets; see landlock.h.
**
** The constants are the kernel's (Documentation/userspace-api/landlock.rst); the headers of a
** distribution are often older than its kernels.
*/
#define _GNU_SOURCE
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The numbers are the same on every architecture. */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { CREATE_VERSION = 1, RULE_PATH_BENEATH = 1 };

#define BIT(n) (UINT64_C(1) << (n))

/* Rights on files, in the order of the kernel's bits. */
#define WRITE_FILE BIT(1)
#define MAKE_ALL (BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12))
#define REMOVE_ALL (BIT(4) | BIT(5))
#define REFER BIT(13)
#define TRUNCATE BIT(14)
#define WRITING (WRITE_FILE | REMOVE_ALL | MAKE_ALL | REFER | TRUNCATE)
#define OF_FILES (WRITE_FILE | TRUNCATE) /* those that a rule about a file may have */

/* All rights on files, TCP, and scopes, by the ABI that brought them. */
static const struct {
    uint64_t files, network, scopes;
} known[] = {
    {0, 0, 0},
    {BIT(13) - 1, 0, 0},                   /* 5.13: execute, read, write, list, remove, make */
    {BIT(14) - 1, 0, 0},                   /* 5.19: refer */
    {BIT(15) - 1, 0, 0},                   /* 6.2: truncate */
    {BIT(15) - 1, BIT(2) - 1, 0},          /* 6.7: bind and connect TCP */
    {BIT(16) - 1, BIT(2) - 1, 0},          /* 6.10: ioctl of devices */
    {BIT(16) - 1, BIT(2) - 1, BIT(2) - 1}, /* 6.12: abstract sockets, signals */
};

enum { NEWEST = sizeof known / sizeof *known - 1 };

#define ABSTRACT_SOCKETS BIT(0)
#define SIGNALS BIT(1)

/* A ruleset as the kernel takes it: what it handles, and so denies where no rule allows it. */
enum { FILES, NETWORK, SCOPES, PARTS };

struct path_rule {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

int landlock_version(void) {
    long version = syscall(CREATE_RULESET, NULL, (size_t)0, CREATE_VERSION);
    return version > 0 ? (int)version : 0;
}

/* What the running kernel knows of `known`. */
static int newest(void) {
    int version = landlock_version();
    return version < NEWEST ? version : NEWEST;
}

/* The kernel takes a structure that is longer than it knows, as long as the rest is zero. */
static int create(const uint64_t handled[PARTS]) {
    return (int)syscall(CREATE_RULESET, handled, PARTS * sizeof *handled, 0u);
}

int landlock_apply(int ruleset) {
    return (int)syscall(RESTRICT_SELF, ruleset, 0u);
}

int landlock_worker(void) {
    int abi = newest(), error = 0;
    if (abi == 0)
        return errno;
    const uint64_t all[PARTS] = {known[abi].files, known[abi].network, known[abi].scopes};
    int fd = create(all);
    if (fd < 0)
        return errno;
    if (landlock_apply(fd) != 0)
        error = errno;
    close(fd);
    if (error != 0)
        return error;
    fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EACCES ? 0 : ENOSYS;
}

/* Lets everything beneath a path be written; one that is not there is no matter, and neither is a
** link: where that leads was not meant. */
static int allow(int ruleset, const char *path, uint64_t rights) {
    struct stat st;
    struct path_rule rule = {.allowed = rights, .fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (rule.fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;
    int rc = fstat(rule.fd, &st);
    if (rc == 0 && !S_ISDIR(st.st_mode))
        rule.allowed &= OF_FILES;
    if (rc == 0 && !S_ISLNK(st.st_mode))
        rc = (int)syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0u);
    int saved = errno;
    close(rule.fd);
    errno = saved;
    return rc;
}

int landlock_writing(const char *const *write, bool network) {
    static const char *const devices[] = {"/dev/null",   "/dev/zero",    "/dev/full", "/dev/tty",
                                          "/dev/random", "/dev/urandom", NULL};
    int abi = newest(), rc = 0;
    if (abi == 0)
        return -1;
    if (abi < 2) {
        errno = ENOTSUP;
        return -1;
    }
    const uint64_t handled[PARTS] = {
        [FILES] = known[abi].files & WRITING,
        [NETWORK] = network ? 0 : known[abi].network,
        [SCOPES] = known[abi].scopes & (network ? SIGNALS : SIGNALS | ABSTRACT_SOCKETS),
    };
    int fd = create(handled);
    if (fd < 0)
        return -1;
    for (int i = 0; rc == 0 && devices[i]; i++)
        rc = allow(fd, devices[i], handled[FILES]);
    for (int i = 0; rc == 0 && write[i]; i++)
        rc = allow(fd, write[i], handled[FILES]);
    if (rc == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}
