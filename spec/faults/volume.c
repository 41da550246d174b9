/*
** volume.c: file systems in a file, for the tests that cut the power or fill the disk.
**
**   volume mount IMAGE POINT TYPE [OPTIONS]   over a loop device that vanishes with the mount
**   volume unmount POINT
**   volume tmpfs POINT OPTIONS
**   volume options POINT OPTIONS              changes the options of a mounted tmpfs
**   volume bind FILE OVER                     shows FILE in the place of OVER
**   volume shutdown POINT                     the file system stops as if the power went: nothing
**                                             more reaches the device, not even its own journal
**   volume sync POINT                         makes everything durable
**   volume copy FROM TO                       copies a file with its holes
**   volume cut FROM DIRECTORY NUMBER NAME     the same, to DIRECTORY/DIGEST unless that is there,
**                                             and adds "NUMBER NAME DIGEST" to DIRECTORY/cuts
**   volume fill POINT BYTES [INODES]          leaves BYTES free (and INODES), see fill()
**   volume free POINT                         prints the bytes and inodes that are left
**   volume replay POINT PLAN                  carries out a list of changes, see replay()
**   volume list POINT                         every path with what is there, see list()
**   volume digest POINT                       a digest of that list
**
** A digest is made to tell states of a test apart; it is not a cryptographic one.
**
** Everything happens in the mount namespace it was started in; `unshare -m` before the first call
** makes the kernel clean up, whatever happens.
*/
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* From linux/fs.h and xfs_fs.h: XFS_IOC_GOINGDOWN, which ext4 understands too. */
#define IOC_SHUTDOWN _IOR('X', 125, uint32_t)
enum { SHUTDOWN_NO_LOG_FLUSH = 2 };

static int failed(const char *what, const char *where) {
    fprintf(stderr, "volume: %s %s: %s\n", what, where, strerror(errno));
    return 1;
}

static void pause_ms(long ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* ======================= Mounting ======================= */

/* A loop device of the image, open; it goes away with its last user. Between asking for a free one
** and taking it somebody else may take it. */
static int attach(const char *image, char device[64]) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(image, O_RDWR | O_CLOEXEC);
    int loop = -1;
    for (int tries = 0; control >= 0 && file >= 0 && loop < 0 && tries < 200; tries++) {
        struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        snprintf(device, 64, "/dev/loop%d", number);
        if (access(device, F_OK) != 0)
            mknod(device, S_IFBLK | 0660, (dev_t)(7 << 8 | number));
        loop = open(device, O_RDWR | O_CLOEXEC);
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) != 0) {
            close(loop);
            loop = -1;
            if (errno != EBUSY)
                break;
            pause_ms(1);
        }
    }
    int saved = errno;
    if (control >= 0)
        close(control);
    if (file >= 0)
        close(file);
    errno = saved;
    return loop;
}

static int mount_image(const char *image, const char *point, const char *type,
                       const char *options) {
    char device[64] = "";
    int loop = attach(image, device);
    if (loop < 0)
        return failed("attach", image);
    int rc = mount(device, point, type, MS_NOATIME, options);
    int saved = errno;
    close(loop);
    errno = saved;
    return rc == 0 ? 0 : failed("mount", point);
}

/* A process that is just ending may still be in it. */
static int unmount(const char *point) {
    for (int tries = 0; umount2(point, 0) != 0; tries++) {
        if (errno != EBUSY || tries == 400)
            return failed("unmount", point);
        pause_ms(5);
    }
    return 0;
}

static int on_open(const char *point, int (*act)(int fd)) {
    int fd = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed("open", point);
    int rc = act(fd) == 0 ? 0 : failed("act on", point);
    close(fd);
    return rc;
}

static int shut_down(int fd) {
    uint32_t how = SHUTDOWN_NO_LOG_FLUSH;
    return ioctl(fd, IOC_SHUTDOWN, &how);
}

/* ======================= Copying ======================= */

/* A running digest: each word is mixed with its place, so that moved data differs. */
typedef struct mixer {
    uint64_t a, b;
} mixer;

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void mixer_add(mixer *m, const unsigned char *data, size_t size, uint64_t at) {
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        memcpy(&word, data + i, size - i < 8 ? size - i : 8);
        if (word == 0)
            continue; /* a hole and written zeros are the same content */
        uint64_t h = mix(word ^ mix(at + i));
        m->a += h;
        m->b ^= mix(h + 0x9e3779b97f4a7c15u);
    }
}

/* Goes through the data of a file; copies it to `to` unless that is -1. */
static int go_through(int from, int to, mixer *m) {
    static unsigned char buffer[256 * 1024];
    off_t end = lseek(from, 0, SEEK_END), at = 0;
    while (at < end) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
        if (hole < 0)
            return -1;
        for (at = data; at < hole;) {
            size_t want = (size_t)(hole - at) < sizeof buffer ? (size_t)(hole - at) : sizeof buffer;
            ssize_t n = pread(from, buffer, want, at);
            if (n <= 0)
                return -1;
            mixer_add(m, buffer, (size_t)n, (uint64_t)at);
            if (to >= 0 && pwrite(to, buffer, (size_t)n, at) != n)
                return -1;
            at += n;
        }
    }
    return to >= 0 ? ftruncate(to, end) : 0;
}

static int copy(const char *from, const char *to) {
    mixer m = {0};
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return failed("open", from);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        return failed("make", to);
    return go_through(in, out, &m) == 0 && close(out) == 0 ? 0 : failed("copy", to);
}

/* See the head of this file. The work of one cut is the work of one read, where nothing was written
** since the last one. */
static int cut(const char *image, const char *directory, const char *number, const char *name) {
    char path[4096], digest[40];
    mixer m = {0};
    int in = open(image, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return failed("open", image);
    if (go_through(in, -1, &m) != 0)
        return failed("read", image);
    snprintf(digest, sizeof digest, "%016llx%016llx", (unsigned long long)m.a,
             (unsigned long long)m.b);
    snprintf(path, sizeof path, "%s/%s", directory, digest);
    int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0 && errno != EEXIST)
        return failed("make", path);
    if (out >= 0 && (go_through(in, out, &m) != 0 || close(out) != 0))
        return failed("copy", path);
    snprintf(path, sizeof path, "%s/cuts", directory);
    FILE *cuts = fopen(path, "ae");
    if (!cuts)
        return failed("open", path);
    fprintf(cuts, "%s %s %s\n", number, name, digest);
    return fclose(cuts) == 0 ? 0 : failed("write", path);
}

/* ======================= A full disk ======================= */

/* Makes files of `block` bytes, or empty ones, until no more fits; the number made. */
static unsigned ballast(int dir, char letter, size_t block, unsigned long most) {
    static unsigned char zeros[1 << 20];
    unsigned made = 0;
    for (; made < most; made++) {
        char name[24];
        snprintf(name, sizeof name, "%c%u", letter, made);
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        bool whole = block == 0 || write(fd, zeros, block) == (ssize_t)block;
        close(fd);
        if (!whole) {
            unlinkat(dir, name, 0);
            break;
        }
    }
    return made;
}

static unsigned long long free_bytes(int fd) {
    struct statvfs s;
    return fstatvfs(fd, &s) == 0 ? (unsigned long long)s.f_bavail * s.f_frsize : 0;
}

/* Leaves about `bytes` free, and `inodes` where that is given, by one file of ballast a power of
** two and by empty ones. What was left by an earlier call is taken away first. */
static int fill(const char *point, unsigned long long bytes, long inodes) {
    char path[4096];
    snprintf(path, sizeof path, "%s/.ballast", point);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return failed("make", path);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return failed("open", path);
    int fd = openat(dir, "blocks", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed("make ballast in", path);
    syncfs(dir); /* delayed allocations count only now */
    unsigned long long have = free_bytes(dir), size = 0;
    while (have > bytes && have - bytes >= 4096) {
        unsigned long long more = (have - bytes) / 4096 * 4096;
        while (more >= 4096 && fallocate(fd, 0, (off_t)size, (off_t)more) != 0)
            more = more / 2 / 4096 * 4096;
        if (more < 4096)
            break;
        size += more;
        have = free_bytes(dir);
    }
    close(fd);
    if (inodes >= 0) {
        struct statvfs s;
        if (fstatvfs(dir, &s) != 0)
            return failed("look at", point);
        if (s.f_favail > (unsigned long)inodes)
            ballast(dir, 'i', 0, s.f_favail - (unsigned long)inodes);
    }
    syncfs(dir);
    printf("%llu\n", free_bytes(dir));
    close(dir);
    return 0;
}

static int print_free(int fd) {
    struct statvfs s;
    if (fstatvfs(fd, &s) != 0)
        return -1;
    printf("%llu %llu\n", (unsigned long long)s.f_bavail * s.f_frsize,
           (unsigned long long)s.f_favail);
    return 0;
}

/* ======================= Replaying ======================= */

/* Decodes %XX in place; the length, which counts NULs. */
static size_t decode(char *word) {
    char *to = word;
    for (const char *from = word; *from; to++) {
        unsigned byte;
        if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1) {
            *to = (char)byte;
            from += 3;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
    return (size_t)(to - word);
}

static int write_at(int dir, const char *path, long long at, const char *data, size_t size) {
    int fd = openat(dir, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = pwrite(fd, data, size, (off_t)at) == (ssize_t)size ? 0 : -1;
    close(fd);
    return rc;
}

static int cut_to(int dir, const char *path, long long size) {
    int fd = openat(dir, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = ftruncate(fd, (off_t)size);
    close(fd);
    return rc;
}

/* Makes a file, a directory (`target` is ".") or a link. An inode is used again when its file is
** gone, the lowest free number first: where a certain number is wanted (not 0), those below it are
** taken by probes, which stay until the end of the plan. */
static int create(int dir, const char *path, const char *target, unsigned long wanted) {
    static unsigned probes;
    for (int tries = 0;; tries++) {
        struct stat st;
        int fd = -1;
        int rc = !target ? (fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600))
                 : strcmp(target, ".") == 0 ? mkdirat(dir, path, 0700)
                                            : symlinkat(target, dir, path);
        if (fd >= 0)
            close(fd);
        if (rc < 0 || fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
            return -1;
        if (wanted == 0 || st.st_ino >= wanted || tries == 100)
            return 0;
        char probe[4096];
        snprintf(probe, sizeof probe, "%s-probe%u", path, probes++);
        if (renameat(dir, path, dir, probe) != 0)
            return -1;
    }
}

/* Removes a directory with all that is in it. */
static int clear(int dir, const char *path) {
    if (unlinkat(dir, path, 0) == 0)
        return 0;
    int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int rc = d ? 0 : -1;
    for (const struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = clear(fd, e->d_name);
    if (d)
        closedir(d);
    return rc == 0 ? unlinkat(dir, path, AT_REMOVEDIR) : -1;
}

/* One change: VERB and its words. */
static int change(int dir, char **word, const size_t *size) {
    const char *verb = word[0], *a = word[1], *b = word[2], *c = word[3];
    if (strcmp(verb, "create") == 0)
        return create(dir, a, NULL, strtoul(b, NULL, 10));
    if (strcmp(verb, "mkdir") == 0)
        return create(dir, a, ".", strtoul(b, NULL, 10));
    if (strcmp(verb, "symlink") == 0)
        return create(dir, a, b, strtoul(c, NULL, 10));
    if (strcmp(verb, "rename") == 0)
        return renameat(dir, a, dir, b);
    if (strcmp(verb, "link") == 0)
        return linkat(dir, a, dir, b, 0);
    if (strcmp(verb, "clear") == 0)
        return clear(dir, a);
    if (strcmp(verb, "chmod") == 0)
        return fchmodat(dir, a, (mode_t)strtoul(b, NULL, 8), 0);
    if (strcmp(verb, "truncate") == 0)
        return cut_to(dir, a, atoll(b));
    if (strcmp(verb, "write") == 0)
        return write_at(dir, a, atoll(b), c, size[3]);
    errno = EINVAL;
    return -1;
}

/* A plan has one change a line: a verb and its words, divided by blanks, bytes as %XX where they
** are no plain letter. Paths are relative to POINT, INODE is the number wanted, 0 for any:
**   create P INODE, mkdir P INODE, symlink P TARGET INODE, rename A B, link A B, clear P,
**   chmod P OCTAL, truncate P SIZE, write P OFFSET DATA */
static int replay(const char *point, const char *plan) {
    int dir = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FILE *lines = fopen(plan, "re");
    char *line = NULL;
    size_t room = 0;
    int number = 0, rc = 0;
    if (dir < 0 || !lines)
        return failed("open", dir < 0 ? point : plan);
    for (ssize_t n; rc == 0 && (n = getline(&line, &room, lines)) > 0;) {
        char *word[4] = {"", "", "", ""}, *state = NULL;
        size_t size[4] = {0};
        number++;
        line[strcspn(line, "\n")] = '\0';
        int count = 0;
        for (char *w = strtok_r(line, " ", &state); w && count < 4; w = strtok_r(NULL, " ", &state))
            word[count++] = w;
        for (int i = 0; i < count; i++)
            size[i] = decode(word[i]);
        if (count > 0 && change(dir, word, size) != 0) {
            fprintf(stderr, "volume: line %d: %s %s %s: %s\n", number, word[0], word[1],
                    strcmp(word[0], "write") == 0 ? "" : word[2], strerror(errno));
            rc = 1;
        }
    }
    free(line);
    fclose(lines);
    close(dir);
    return rc;
}

/* ======================= Listing ======================= */

/* The digest of a file's content. */
static void digest_of(int dir, const char *name, char hex[40]) {
    mixer m = {0};
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || go_through(fd, -1, &m) != 0)
        m.a = m.b = 0;
    if (fd >= 0)
        close(fd);
    snprintf(hex, 40, "%016llx%016llx", (unsigned long long)m.a, (unsigned long long)m.b);
}

static void put_coded(FILE *out, const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        fprintf(out, isalnum(*c) || strchr("./_-", *c) ? "%c" : "%%%02x", *c);
}

static void put_entry(FILE *out, int dir, const char *name, const char *path,
                      const struct stat *st) {
    char kind = S_ISDIR(st->st_mode)   ? 'd'
                : S_ISREG(st->st_mode) ? 'f'
                : S_ISLNK(st->st_mode) ? 'l'
                                       : 'o';
    long long size = kind == 'd' ? 0 : (long long)st->st_size;
    fprintf(out, "%c %o %lu %lld ", kind, st->st_mode & 07777, (unsigned long)st->st_ino, size);
    char text[4096] = "-";
    if (kind == 'f')
        digest_of(dir, name, text);
    ssize_t n = kind == 'l' ? readlinkat(dir, name, text, sizeof text - 1) : -1;
    if (n >= 0)
        text[n] = '\0';
    put_coded(out, text);
    fputs(" /", out);
    put_coded(out, path);
    fputc('\n', out);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int list_in(FILE *out, int dir, const char *name, const char *path) {
    struct stat st;
    struct dirent **entries;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    put_entry(out, dir, name, path, &st);
    if (!S_ISDIR(st.st_mode))
        return 0;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int count = fd < 0 ? -1 : scandirat(fd, ".", &entries, NULL, by_name), rc = count < 0 ? -1 : 0;
    for (int i = 0; i < count; i++) {
        const char *child = entries[i]->d_name;
        bool own = strcmp(child, ".") == 0 || strcmp(child, "..") == 0 ||
                   (!*path && strcmp(child, "lost+found") == 0);
        char below[4096];
        snprintf(below, sizeof below, "%s%s%s", path, *path ? "/" : "", child);
        if (rc == 0 && !own)
            rc = list_in(out, fd, child, below);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* One line for each path, parents first: type (d f l o), mode, inode, size, digest of the content
** or target or "-", "/" and the path; with %XX for bytes that are no plain letter. */
static int list(const char *point, bool digest) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = digest ? open_memstream(&text, &size) : stdout;
    int dir = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!out || dir < 0 || list_in(out, dir, ".", "") != 0)
        return failed("list", point);
    close(dir);
    if (fflush(out) != 0)
        return failed("list", point);
    if (digest) {
        mixer m = {0};
        mixer_add(&m, (unsigned char *)text, size, 0);
        printf("%016llx%016llx\n", (unsigned long long)m.a, (unsigned long long)m.b);
        fclose(out);
        free(text);
    }
    return 0;
}

/* ======================= Command line ======================= */

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "mount") == 0 && argc >= 5)
        return mount_image(argv[2], argv[3], argv[4], argc > 5 ? argv[5] : NULL);
    if (strcmp(verb, "unmount") == 0 && argc == 3)
        return unmount(argv[2]);
    if (strcmp(verb, "tmpfs") == 0 && argc == 4)
        return mount("praxlua", argv[2], "tmpfs", 0, argv[3]) == 0 ? 0 : failed("mount", argv[2]);
    if (strcmp(verb, "options") == 0 && argc == 4)
        return mount(NULL, argv[2], NULL, MS_REMOUNT, argv[3]) == 0 ? 0
                                                                    : failed("remount", argv[2]);
    if (strcmp(verb, "bind") == 0 && argc == 4)
        return mount(argv[2], argv[3], NULL, MS_BIND, NULL) == 0 ? 0 : failed("bind", argv[3]);
    if (strcmp(verb, "shutdown") == 0 && argc == 3)
        return on_open(argv[2], shut_down);
    if (strcmp(verb, "sync") == 0 && argc == 3)
        return on_open(argv[2], syncfs);
    if (strcmp(verb, "copy") == 0 && argc == 4)
        return copy(argv[2], argv[3]);
    if (strcmp(verb, "cut") == 0 && argc == 6)
        return cut(argv[2], argv[3], argv[4], argv[5]);
    if (strcmp(verb, "fill") == 0 && argc >= 4)
        return fill(argv[2], strtoull(argv[3], NULL, 10), argc > 4 ? atol(argv[4]) : -1);
    if (strcmp(verb, "free") == 0 && argc >= 3)
        return on_open(argv[2], print_free);
    if (strcmp(verb, "replay") == 0 && argc == 4)
        return replay(argv[2], argv[3]);
    if (strcmp(verb, "list") == 0 && argc == 3)
        return list(argv[2], false);
    if (strcmp(verb, "digest") == 0 && argc == 3)
        return list(argv[2], true);
    fprintf(stderr, "usage: see the head of volume.c\n");
    return 2;
}
