/*
** tracer.c: counts what a program and its children do to the disk, and breaks in at the N-th call.
**
** usage: tracer --log FILE --root PREFIX [options] -- PROGRAM [ARG]...
**
** Every mutating system call (mutating.h) of every thread and child stops at the tracer, all
** others run at full speed. A call is counted when its path or descriptor lies beneath a root.
** tracer.lua is the face of this program and documents what it does.
**
** Two processes. The front waits for the outcome and runs the hooks; the tracer proper, its child,
** holds the traced processes. When something traced is left after the end of the program (a server
** it started), the front ends and the tracer stays until the last of them has ended: without it
** their mutating calls would fail.
**
** The log is lines of fields, NAME=VALUE, separated by tabs; each byte of a value that is no
** printable ASCII, and the percent sign, is written as %XX. Bytes that were written go to
** FILE.data, one after the other; data_at and data_size say where.
*/
#define _GNU_SOURCE
#include "mutating.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <elf.h>
#endif

enum {
    ROOTS = 8,
    HOOK_WORDS = 64,
    DENIALS = 8,
    LONGEST_VECTOR = 1024,
    RESTARTED = 512,
    RESTARTED_LAST = 516
};

typedef enum Mode { COUNT, BEFORE, TORN, AFTER, FAIL, SHORT, PAUSE } Mode;
typedef enum Who { HOST, TOOLS, ALL } Who;

/* A call that this system does not know, or this file system cannot do. */
typedef struct Denial {
    char name[32];
    int error;
    int64_t flags; /* only with these, or -1 */
} Denial;

static struct {
    const char *log, *executable, *directory, *hook_output;
    const char *roots[ROOTS + 1];
    char *hook[HOOK_WORDS + 4];
    int hooks;
    char **program;
    Mode mode;
    Who who;
    Denial denials[DENIALS];
    int denied;
    long at, sticky; /* the call, and how many from there on fail */
    int error;
    double timeout, linger; /* seconds */
    bool leader_only, data, list;
} options = {.timeout = 60, .linger = 600, .executable = ""};

/* One counted call, from its entry to its exit. */
typedef struct Seen {
    const Mutating *call;
    long n;
    uint64_t args[6];
    uint64_t wanted; /* value of the size argument before it was made smaller */
    int64_t size, flags, offset;
    int64_t mode, inode, inode2, from_offset;
    char *path, *path2, *fd_path, *from_path, *text;
    char *data;
    size_t data_size;
    struct iovec cut; /* the element of a vector that was made smaller, as it was */
    uint64_t cut_at;  /* where it is in the traced process, 0 for none */
    bool then_kill, made_smaller;
} Seen;

/* One thread of a traced process. */
typedef struct Tracee {
    pid_t tid, tgid;
    enum { UNKNOWN, IS_HOST, IS_TOOL } role;
    bool vforking;    /* it waits for its child in the kernel */
    bool has_pending; /* it reported this while everything was being stopped */
    int pending;
    long restarting; /* number of the call that the kernel begins anew, or -1 */
    Seen *seen;
} Tracee;

static struct {
    Tracee *all;
    int count, room;
    pid_t leader;
    enum { RUNNING, KILLING, LINGERING } state;
    long calls; /* counted so far */
    bool hit, timed_out, ended;
    int status; /* of the leader */
    char forbidden[256];
    FILE *log;
    int data; /* descriptor of the data file */
    off_t data_size;
    int front; /* socket */
    double deadline;
} now = {.data = -1};

static volatile sig_atomic_t asked_to_end;

/* ---- small things ---- */

_Noreturn static void die(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    fputs("tracer: ", stderr);
    vfprintf(stderr, format, ap);
    fputs("\n", stderr);
    va_end(ap);
    exit(2);
}

static double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static char *copy_of(const char *text) {
    char *copy = strdup(text);
    if (!copy)
        die("out of memory");
    return copy;
}

static void *block(void *old, size_t size) {
    void *fresh = realloc(old, size ? size : 1);
    if (!fresh)
        die("out of memory");
    return fresh;
}

/* The text of a link of /proc as a fresh string, or NULL. */
static char *link_of(const char *format, ...) {
    char name[PATH_MAX], target[PATH_MAX + 1];
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    ssize_t n = readlink(name, target, sizeof target - 1);
    if (n < 0)
        return NULL;
    target[n] = '\0';
    return copy_of(target);
}

/* A number that follows `name` in a small file, or `otherwise`. */
static long number_in(const char *path, const char *name, int base, long otherwise) {
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return otherwise;
    text[n] = '\0';
    const char *at = strstr(text, name);
    return at ? strtol(at + strlen(name), NULL, base) : otherwise;
}

/* ---- memory and registers of a tracee ---- */

static size_t read_memory(pid_t tid, uint64_t from, void *to, size_t size) {
    size_t done = 0;
    while (done < size) { /* page by page: the last one may be missing */
        size_t step = 4096 - (size_t)((from + done) % 4096);
        struct iovec local = {(char *)to + done, step < size - done ? step : size - done};
        struct iovec remote = {(void *)(uintptr_t)(from + done), local.iov_len};
        ssize_t n = process_vm_readv(tid, &local, 1, &remote, 1, 0);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static void write_memory(pid_t tid, uint64_t to, const void *from, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/mem", (int)tid);
    int fd = open(name, O_RDWR | O_CLOEXEC); /* writes to read-only pages too */
    if (fd < 0 || pwrite(fd, from, size, (off_t)to) != (ssize_t)size)
        die("cannot write to the memory of process %d: %s", (int)tid, strerror(errno));
    close(fd);
}

static char *read_string(pid_t tid, uint64_t from) {
    char text[PATH_MAX + 1];
    size_t done = 0;
    while (from && done < PATH_MAX) {
        size_t step = 4096 - (size_t)((from + done) % 4096);
        size_t n = read_memory(tid, from + done, text + done,
                               step < PATH_MAX - done ? step : PATH_MAX - done);
        char *end = memchr(text + done, 0, n);
        if (end)
            return copy_of(text);
        if (n == 0)
            break;
        done += n;
    }
    return NULL;
}

#if defined(__x86_64__)
static void set_argument(pid_t tid, int number, uint64_t value) {
    static const size_t place[] = {
        offsetof(struct user_regs_struct, rdi), offsetof(struct user_regs_struct, rsi),
        offsetof(struct user_regs_struct, rdx), offsetof(struct user_regs_struct, r10),
        offsetof(struct user_regs_struct, r8),  offsetof(struct user_regs_struct, r9)};
    ptrace(PTRACE_POKEUSER, tid, place[number - 1], value);
}

static void skip_call(pid_t tid, int error) {
    ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, orig_rax), -1L);
    ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rax), (long)-error);
}
#else
static void set_argument(pid_t tid, int number, uint64_t value) {
    struct user_regs_struct registers;
    struct iovec io = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) == 0) {
        registers.regs[number - 1] = value;
        ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &io);
    }
}

static void skip_call(pid_t tid, int error) {
    int none = -1;
    struct iovec io = {&none, sizeof none};
    ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &io);
    set_argument(tid, 1, (uint64_t)-error);
}
#endif

/* ---- paths ---- */

static bool beneath(const char *path) {
    for (const char *const *root = options.roots; path && *root; root++) {
        size_t length = strlen(*root);
        if (strncmp(path, *root, length) == 0 && (path[length] == '/' || path[length] == '\0'))
            return true;
    }
    return false;
}

/* What a descriptor is open on; a file without a name keeps the one it had. */
static char *path_of_fd(pid_t tid, int fd, int64_t *inode) {
    char name[64];
    struct stat st;
    char *path = link_of("/proc/%d/fd/%d", (int)tid, fd);
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)tid, fd);
    if (path && stat(name, &st) == 0) {
        static const char deleted[] = " (deleted)";
        size_t length = strlen(path), tail = sizeof deleted - 1;
        if (st.st_nlink == 0 && length > tail && strcmp(path + length - tail, deleted) == 0)
            path[length - tail] = '\0';
        if (inode)
            *inode = (int64_t)st.st_ino;
    }
    return path;
}

/* The path with its folder resolved, and its last name too where that is followed. */
static char *canonical(const char *path, bool follow) {
    char folder[2 * PATH_MAX], whole[2 * PATH_MAX + 2];
    struct stat st;
    const char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        char *real = realpath(path, NULL);
        return real ? real : copy_of(path);
    }
    snprintf(folder, sizeof folder, "%.*s/", (int)(last - path), path);
    char *real = realpath(folder, NULL);
    snprintf(whole, sizeof whole, "%s/%s", real && real[1] ? real : "", last);
    if (!real)
        snprintf(whole, sizeof whole, "%s", path);
    free(real);
    real = follow && lstat(whole, &st) == 0 && S_ISLNK(st.st_mode) ? realpath(whole, NULL) : NULL;
    return real ? real : copy_of(whole);
}

/* The path a call means: `text` from the directory descriptor `dir`. */
static char *resolve(const Tracee *t, int dir, const char *text, bool follow, int64_t *inode) {
    char whole[2 * PATH_MAX];
    static const char self[] = "/proc/self/";
    int fd, end = 0;
    if (follow && sscanf(text, "/proc/self/fd/%d%n", &fd, &end) == 1 && text[end] == '\0')
        return path_of_fd(t->tid, fd, inode);
    if (strncmp(text, self, sizeof self - 1) == 0) {
        snprintf(whole, sizeof whole, "/proc/%d/%s", (int)t->tgid, text + sizeof self - 1);
        return canonical(whole, follow);
    }
    if (text[0] == '/')
        return canonical(text, follow);
    char *base = dir == AT_FDCWD ? link_of("/proc/%d/cwd", (int)t->tid)
                                 : link_of("/proc/%d/fd/%d", (int)t->tid, dir);
    if (!base)
        return copy_of(text);
    snprintf(whole, sizeof whole, "%s%s%s", base, *text ? "/" : "", text);
    free(base);
    return *text ? canonical(whole, follow) : copy_of(whole);
}

/* ---- tracees ---- */

static Tracee *find(pid_t tid) {
    for (int i = 0; i < now.count; i++)
        if (now.all[i].tid == tid)
            return &now.all[i];
    return NULL;
}

static void forget_seen(Seen *s) {
    if (!s)
        return;
    free(s->path);
    free(s->path2);
    free(s->fd_path);
    free(s->from_path);
    free(s->text);
    free(s->data);
    free(s);
}

static Tracee *add(pid_t tid) {
    char name[64];
    if (now.count == now.room) {
        now.room = now.room ? 2 * now.room : 64;
        now.all = block(now.all, (size_t)now.room * sizeof *now.all);
    }
    snprintf(name, sizeof name, "/proc/%d/status", (int)tid);
    Tracee fresh = {.tid = tid, .restarting = -1};
    fresh.tgid = (pid_t)number_in(name, "\nTgid:", 10, tid);
    now.all[now.count] = fresh;
    return &now.all[now.count++];
}

static void drop(Tracee *t) {
    forget_seen(t->seen);
    *t = now.all[--now.count];
}

/* Whether calls of this process are the ones that are asked for. */
static bool is_meant(Tracee *t) {
    if (t->role == UNKNOWN) {
        char *exe = link_of("/proc/%d/exe", (int)t->tid);
        t->role = exe && strcmp(exe, options.executable) == 0 ? IS_HOST : IS_TOOL;
        free(exe);
    }
    return options.who == ALL || (t->role == IS_HOST) == (options.who == HOST);
}

static void resume(const Tracee *t, int signal) {
    ptrace(t->seen ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, 0, signal);
}

static void kill_all(void) {
    now.state = KILLING;
    if (now.leader)
        kill(now.leader, SIGKILL);
    for (int i = 0; i < now.count; i++)
        kill(now.all[i].tgid, SIGKILL);
}

/* ---- the log ---- */

static void log_text(const char *name, const char *text) {
    if (!text)
        return;
    fprintf(now.log, "\t%s=", name);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        fprintf(now.log, *at > ' ' && *at < 0x7f && *at != '%' ? "%c" : "%%%02X", *at);
}

static void log_number(const char *name, int64_t value, int64_t none) {
    if (value != none)
        fprintf(now.log, "\t%s=%" PRId64, name, value);
}

static void log_data(const Seen *s, size_t size) {
    if (!s->data || now.data < 0)
        return;
    if (pwrite(now.data, s->data, size, now.data_size) != (ssize_t)size)
        die("cannot write the data file: %s", strerror(errno));
    log_number("data_at", now.data_size, -1);
    log_number("data_size", (int64_t)size, -1);
    now.data_size += (off_t)size;
}

/* Writes the line of a call; `result` is NULL where it was never executed to its end. */
static void log_call(const Tracee *t, const Seen *s, const int64_t *result, const char *acted) {
    if (!options.list)
        return;
    fprintf(now.log, "call\tn=%ld\tname=%s\tkind=%s\tpid=%d\ttid=%d\trole=%s", s->n, s->call->name,
            s->call->kind, (int)t->tgid, (int)t->tid, t->role == IS_HOST ? "host" : "tool");
    log_text("path", s->path);
    log_text("path2", s->path2);
    log_text("fd_path", s->fd_path);
    log_text("from_path", s->from_path);
    log_text("text", s->text);
    log_number("size", s->size, -1);
    log_number("offset", s->offset, -1);
    log_number("flags", s->flags, -1);
    log_number("mode", s->mode, -1);
    log_number("inode", s->inode, 0);
    log_number("inode2", s->inode2, 0);
    if (result)
        log_number("result", *result, INT64_MIN);
    if (!result || *result > 0)
        log_data(s, result && (size_t)*result < s->data_size ? (size_t)*result : s->data_size);
    log_text("acted", acted);
    fputs("\n", now.log);
}

static void log_end(void) {
    fprintf(now.log, "end\tcount=%ld\thit=%d\ttimed_out=%d\ttracer=%d", now.calls, now.hit,
            now.timed_out, (int)getpid());
    if (WIFEXITED(now.status))
        log_number("code", WEXITSTATUS(now.status), -1);
    else if (WIFSIGNALED(now.status))
        log_number("signal", WTERMSIG(now.status), -1);
    log_text("forbidden", now.forbidden[0] ? now.forbidden : NULL);
    for (int i = 0; i < now.count; i++)
        if (now.all[i].tid == now.all[i].tgid)
            log_number("left", now.all[i].tid, -1);
    fputs("\n", now.log);
    if (fflush(now.log) != 0 || ferror(now.log))
        die("cannot write the log: %s", strerror(errno));
}

/* ---- reading a call ---- */

static uint64_t argument(const Seen *s, int number) {
    return number ? s->args[number - 1] : 0;
}

/* The position a descriptor is at; an appending one is at the end. */
static int64_t position(pid_t tid, int fd) {
    char name[64];
    struct stat st;
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", (int)tid, fd);
    long at = number_in(name, "pos:", 10, -1);
    if (number_in(name, "\nflags:", 8, 0) & O_APPEND) {
        snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)tid, fd);
        if (stat(name, &st) == 0)
            return st.st_size;
    }
    return at;
}

static void read_vector(pid_t tid, Seen *s) {
    struct iovec parts[LONGEST_VECTOR];
    size_t count = (size_t)argument(s, s->call->vector + 1);
    count = count < LONGEST_VECTOR ? count : LONGEST_VECTOR;
    uint64_t from = argument(s, s->call->vector);
    count = read_memory(tid, from, parts, count * sizeof *parts) / sizeof *parts;
    s->size = 0;
    for (size_t i = 0; i < count; i++)
        s->size += (int64_t)parts[i].iov_len;
    if (!options.data)
        return;
    s->data = block(NULL, (size_t)s->size);
    for (size_t i = 0; i < count; i++)
        s->data_size += read_memory(tid, (uint64_t)(uintptr_t)parts[i].iov_base,
                                    s->data + s->data_size, parts[i].iov_len);
}

static void read_numbers(pid_t tid, Seen *s) {
    const Mutating *c = s->call;
    int64_t at;
    s->size = c->size ? (int64_t)argument(s, c->size) : -1;
    s->flags = c->flags ? (int64_t)(uint32_t)argument(s, c->flags) : -1;
    s->mode = c->mode ? (int64_t)(argument(s, c->mode) & 07777) : -1;
    s->offset = c->offset ? (int64_t)argument(s, c->offset) : -1;
    if (c->offset_at && argument(s, c->offset_at) &&
        read_memory(tid, argument(s, c->offset_at), &at, sizeof at) == sizeof at)
        s->offset = at;
    if (c->how) {
        uint64_t how[2] = {0, 0};
        read_memory(tid, argument(s, c->how), how, sizeof how);
        s->flags = (int64_t)how[0];
        s->mode = (int64_t)(how[1] & 07777);
    }
    if (options.list && (c->mode || c->how) && strcmp(c->kind, "create") == 0) {
        /* as it will be for a new file */
        char name[64];
        snprintf(name, sizeof name, "/proc/%d/status", (int)tid);
        s->mode &= ~number_in(name, "\nUmask:", 8, 0);
    }
    if (strcmp(c->name, "creat") == 0)
        s->flags = O_CREAT | O_WRONLY | O_TRUNC;
    if (c->vector)
        read_vector(tid, s);
    if (c->data && options.data) {
        s->data = block(NULL, (size_t)s->size);
        s->data_size = read_memory(tid, argument(s, c->data), s->data, (size_t)s->size);
    }
}

static bool follows(const Seen *s) {
    switch (s->call->follow) {
    case FOLLOW_ALWAYS:
        return true;
    case FOLLOW_UNLESS_AT:
        return !(s->flags & AT_SYMLINK_NOFOLLOW);
    case FOLLOW_IF_AT:
        return s->flags & AT_SYMLINK_FOLLOW;
    case FOLLOW_UNLESS_OPEN:
        return !(s->flags & O_NOFOLLOW) && (s->flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
    default:
        return false;
    }
}

static char *read_path(const Tracee *t, const Seen *s, int dir, int path, bool follow,
                       int64_t *inode) {
    struct stat st;
    int from = dir ? (int)argument(s, dir) : AT_FDCWD;
    char *text = path ? read_string(t->tid, argument(s, path)) : NULL;
    char *whole = text ? resolve(t, from, text, follow, inode) : NULL;
    if (path && !text && from != AT_FDCWD) /* no path: the descriptor itself is meant */
        whole = path_of_fd(t->tid, from, inode);
    if (whole && !*inode && lstat(whole, &st) == 0)
        *inode = (int64_t)st.st_ino;
    free(text);
    return whole;
}

/* Everything about a call that is known before it runs. */
static Seen *read_call(const Tracee *t, const Mutating *call, const uint64_t args[6]) {
    Seen *s = block(NULL, sizeof *s);
    *s = (Seen){.call = call};
    memcpy(s->args, args, sizeof s->args);
    read_numbers(t->tid, s);
    if (call->fd) {
        int fd = (int)argument(s, call->fd);
        s->fd_path = path_of_fd(t->tid, fd, &s->inode);
        if (options.list && s->offset == -1 && strcmp(call->kind, "write") == 0 &&
            beneath(s->fd_path))
            s->offset = position(t->tid, fd);
    }
    if (call->from) {
        int fd = (int)argument(s, call->from);
        int64_t at;
        s->from_path = path_of_fd(t->tid, fd, NULL);
        s->from_offset = position(t->tid, fd);
        if (argument(s, call->from_offset) &&
            read_memory(t->tid, argument(s, call->from_offset), &at, sizeof at) == sizeof at)
            s->from_offset = at;
    }
    s->path = read_path(t, s, call->dir, call->path, follows(s), &s->inode);
    s->path2 = read_path(t, s, call->dir2, call->path2, false, &s->inode2);
    if (call->text)
        s->text = read_string(t->tid, argument(s, call->text));
    return s;
}

/* An openat2 that only reads is found out here, not by the filter. */
static bool counts(const Seen *s) {
    if (s->call->how && !(s->flags & (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))))
        return false;
    if (strcmp(s->call->name, "sync") == 0)
        return true;
    return beneath(s->path) || beneath(s->path2) || beneath(s->fd_path);
}

/* What the kernel copied, read back from where it went. */
static void read_copied(const Tracee *t, Seen *s, int64_t result) {
    char name[64];
    if (!options.data || s->data || result <= 0 || !s->call->from)
        return;
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)t->tid, (int)argument(s, s->call->fd));
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    s->data = block(NULL, (size_t)result);
    ssize_t n = pread(fd, s->data, (size_t)result, s->offset);
    s->data_size = n > 0 ? (size_t)n : 0;
    close(fd);
}

/* ---- making a write smaller ---- */

/* How many bytes a write would write. */
static int64_t bytes_of(const Tracee *t, const Seen *s) {
    char name[64];
    struct stat st;
    if (strcmp(s->call->kind, "write") != 0 || s->size < 0)
        return 0;
    if (!s->call->from)
        return s->size;
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)t->tid, (int)argument(s, s->call->from));
    if (stat(name, &st) != 0 || !S_ISREG(st.st_mode))
        return s->size;
    int64_t rest = st.st_size - s->from_offset;
    return rest < s->size ? rest : s->size;
}

static void halve_vector(const Tracee *t, Seen *s, uint64_t left) {
    struct iovec part;
    uint64_t at = argument(s, s->call->vector);
    uint64_t count = argument(s, s->call->vector + 1);
    for (uint64_t i = 0; i < count; i++, at += sizeof part) {
        read_memory(t->tid, at, &part, sizeof part);
        if (part.iov_len >= left) {
            s->cut = part;
            s->cut_at = at;
            part.iov_len = left;
            write_memory(t->tid, at, &part, sizeof part);
            set_argument(t->tid, s->call->vector + 1, i + 1);
            s->wanted = count;
            return;
        }
        left -= part.iov_len;
    }
}

/* Lets a write write half; false where there is no half. */
static bool halve(const Tracee *t, Seen *s) {
    int64_t bytes = bytes_of(t, s);
    if (bytes < 2)
        return false;
    s->made_smaller = true;
    if (s->call->vector) {
        halve_vector(t, s, (uint64_t)bytes / 2);
    } else {
        s->wanted = argument(s, s->call->size);
        set_argument(t->tid, s->call->size, (uint64_t)bytes / 2);
    }
    return true;
}

/* The compiler of the program believes that a call leaves its arguments as they were. */
static void unhalve(const Tracee *t, Seen *s) {
    if (!s->made_smaller)
        return;
    set_argument(t->tid, s->call->vector ? s->call->vector + 1 : s->call->size, s->wanted);
    if (s->cut_at)
        write_memory(t->tid, s->cut_at, &s->cut, sizeof s->cut);
}

/* ---- stopping everything, and the hook ---- */

static void note_status(Tracee *t, int status) {
    t->pending = status;
    t->has_pending = true;
}

/* Waits until a tracee that was interrupted has reported; one that cannot run is let be. */
static void await_stop(Tracee *t) {
    char name[64];
    char *end;
    char state[512];
    snprintf(name, sizeof name, "/proc/%d/stat", (int)t->tid);
    for (int tries = 0; tries < 3000; tries++) {
        int status;
        pid_t pid = waitpid(t->tid, &status, __WALL | WNOHANG);
        if (pid == t->tid)
            note_status(t, status);
        if (pid != 0)
            return;
        if (tries < 1000) {
            sched_yield();
            continue;
        }
        usleep(1000);
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, state, sizeof state - 1);
        if (fd >= 0)
            close(fd);
        state[n > 0 ? n : 0] = '\0';
        end = strrchr(state, ')');
        if (!end || strlen(end) < 3 || end[2] == 'Z' || end[2] == 'X')
            return;
    }
}

static void freeze(pid_t caller) {
    for (int i = 0; i < now.count; i++) {
        Tracee *t = &now.all[i];
        if (t->tid == caller || t->has_pending || t->vforking)
            continue;
        if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) == 0)
            await_stop(t);
    }
}

typedef struct Wish {
    long n;
    pid_t pid, leader;
    char name[32];
} Wish;

/* Lets the front run the hook, and waits for it. */
static void run_hook(const Tracee *t, const Seen *s) {
    int32_t code = -1;
    Wish wish = {.n = s->n, .pid = t->tgid, .leader = now.leader};
    snprintf(wish.name, sizeof wish.name, "%s", s->call->name);
    ssize_t n = send(now.front, &wish, sizeof wish, MSG_NOSIGNAL);
    while (n == sizeof wish && (n = recv(now.front, &code, sizeof code, 0)) < 0 && errno == EINTR)
        n = sizeof wish;
    fprintf(now.log, "hook\tn=%ld\tcode=%d\n", s->n, (int)code);
}

/* ---- acting on a call ---- */

static void finish_call(Tracee *t, const int64_t *result, const char *acted) {
    log_call(t, t->seen, result, acted);
    forget_seen(t->seen);
    t->seen = NULL;
}

/* The end of praxlua, as the mode wants it. */
static void end_it(void) {
    now.hit = true;
    if (options.leader_only) {
        now.ended = true;
        kill(now.leader, SIGKILL);
    } else {
        kill_all();
    }
}

static void fail_call(Tracee *t) {
    int64_t result = -options.error;
    now.hit = true;
    skip_call(t->tid, options.error);
    finish_call(t, &result, "failed");
    resume(t, 0);
}

/* Fails a call that is denied: true when it was. */
static bool deny(Tracee *t) {
    const Seen *s = t->seen;
    for (int i = 0; i < options.denied; i++) {
        const Denial *d = &options.denials[i];
        if (strcmp(d->name, s->call->name) != 0 || (d->flags >= 0 && d->flags != s->flags))
            continue;
        int64_t result = -d->error;
        skip_call(t->tid, d->error);
        finish_call(t, &result, "denied");
        resume(t, 0);
        return true;
    }
    return false;
}

static bool is_due(long n) {
    if (now.ended)
        return false;
    if (options.mode == PAUSE)
        return options.at == 0 || n == options.at;
    return n == options.at ||
           (options.mode == FAIL && n > options.at && n - options.at < options.sticky);
}

/* A call that is counted has just been entered. */
static void act(Tracee *t) {
    Seen *s = t->seen;
    pid_t tid = t->tid;
    bool due = is_due(s->n);
    if (due && options.mode == BEFORE) {
        finish_call(t, NULL, "killed before");
        end_it();
        if (options.leader_only && t->tgid != now.leader)
            resume(t, 0);
        return;
    }
    if (due && options.mode == FAIL) {
        fail_call(t);
        return;
    }
    if (due && options.mode == PAUSE) {
        now.hit = true;
        freeze(tid);
        run_hook(t, s);
    }
    if (deny(t))
        return;
    if (due && (options.mode == TORN || options.mode == SHORT))
        now.hit = halve(t, s);
    s->then_kill = due && (options.mode == AFTER || (options.mode == TORN && now.hit));
    if (!options.list && !s->then_kill && !s->made_smaller && strcmp(s->call->kind, "lock") != 0)
        finish_call(t, NULL, NULL);
    resume(t, 0);
}

/* The inode of what a call has made. */
static void note_inode(const Tracee *t, Seen *s, int64_t result) {
    char name[64];
    struct stat st;
    bool opens = s->call->how || s->call->follow == FOLLOW_UNLESS_OPEN;
    if (result < 0 || (!opens && s->inode))
        return;
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)t->tid, (int)result);
    if (opens ? stat(name, &st) == 0 : s->path && lstat(s->path, &st) == 0)
        s->inode = (int64_t)st.st_ino;
}

/* A counted call has returned. */
static void on_exit_of_call(Tracee *t) {
    struct __ptrace_syscall_info info;
    Seen *s = t->seen;
    if (!s || ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_EXIT) {
        resume(t, 0);
        return;
    }
    int64_t result = info.exit.rval;
    unhalve(t, s);
    read_copied(t, s, result);
    note_inode(t, s, result);
    t->restarting = -result >= RESTARTED && -result <= RESTARTED_LAST ? s->call->nr : -1;
    bool then_kill = s->then_kill;
    if (t->restarting >= 0)
        now.calls--; /* it will be entered once more, and counted then */
    else
        finish_call(t, &result,
                    !then_kill        ? NULL
                    : s->made_smaller ? "killed torn"
                                      : "killed after");
    if (t->restarting >= 0) {
        forget_seen(t->seen);
        t->seen = NULL;
    }
    if (then_kill)
        end_it();
    if (!then_kill || (options.leader_only && t->tgid != now.leader))
        resume(t, 0);
}

static void forbid(const Tracee *t, const char *what) {
    if (!now.forbidden[0])
        snprintf(now.forbidden, sizeof now.forbidden, "%s by process %d", what, (int)t->tgid);
    kill_all();
}

/* A shared mapping that can be written to hides what is written from the count. */
static bool is_writable_mapping(const Tracee *t, const uint64_t args[6]) {
    char name[64];
    int fd = (int)args[4];
    char *path = path_of_fd(t->tid, fd, NULL);
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", (int)t->tid, fd);
    long flags = number_in(name, "\nflags:", 8, O_RDONLY);
    bool found = beneath(path) && (flags & O_ACCMODE) == O_RDWR;
    free(path);
    return found;
}

static void on_call(Tracee *t) {
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof info, &info) <= 0)
        return;
    int at = (int)info.seccomp.ret_data;
    if (now.state == KILLING)
        return;
    if (now.state == LINGERING || !is_meant(t)) {
        resume(t, 0);
        return;
    }
    if (at == MUTATING_FOREIGN || at >= mutating_count) {
        forbid(t, "a system call of another architecture");
        return;
    }
    const Mutating *call = &mutating_calls[at];
    if (call->only == ONLY_FORBIDDEN) {
        forbid(t, call->name);
        return;
    }
    if (call->only == ONLY_MAPPING) {
        if (is_writable_mapping(t, info.seccomp.args))
            forbid(t, "mmap: a writable shared mapping of a file");
        else
            resume(t, 0);
        return;
    }
    Seen *s = read_call(t, call, info.seccomp.args);
    if (!counts(s)) {
        forget_seen(s);
        resume(t, 0);
        return;
    }
    s->n = ++now.calls;
    t->seen = s;
    act(t);
}

/* ---- the loop ---- */

static void on_event(Tracee *t, int status) {
    unsigned long message = 0;
    switch (status >> 16) {
    case PTRACE_EVENT_SECCOMP:
        on_call(t);
        return;
    case PTRACE_EVENT_STOP: {
        int sig = WSTOPSIG(status);
        if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
            ptrace(PTRACE_LISTEN, t->tid, 0, 0); /* it stays stopped, as its group does */
        else
            resume(t, 0);
        return;
    }
    case PTRACE_EVENT_VFORK:
        t->vforking = true;
        break;
    case PTRACE_EVENT_VFORK_DONE:
        t->vforking = false;
        break;
    case PTRACE_EVENT_EXEC: /* a thread that was not the leader has taken the leader's id */
        t->role = UNKNOWN;
        t->vforking = false;
        ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &message);
        if (message && (pid_t)message != t->tid && find((pid_t)message)) {
            pid_t tid = t->tid;
            drop(find((pid_t)message));
            t = find(tid);
        }
        break;
    }
    if (t)
        resume(t, 0);
}

static void on_end(Tracee *t, pid_t tid, int status) {
    if (t)
        drop(t);
    if (tid == now.leader) {
        now.leader = 0;
        now.status = status;
    }
}

static void handle(pid_t tid, int status) {
    Tracee *t = find(tid);
    if (!WIFSTOPPED(status)) {
        on_end(t, tid, status);
        return;
    }
    if (!t)
        t = add(tid);
    if (now.state == KILLING) {
        kill(t->tgid, SIGKILL);
        return;
    }
    if (status >> 16)
        on_event(t, status);
    else if (WSTOPSIG(status) == (SIGTRAP | 0x80))
        on_exit_of_call(t);
    else
        resume(t, WSTOPSIG(status));
}

/* Ends everything when it takes too long, or when somebody wants the tracer to end. */
static void check_time(void) {
    if (now.state == KILLING || (clock_now() <= now.deadline && !asked_to_end))
        return;
    now.timed_out = now.state == RUNNING;
    kill_all();
}

/* The next thing that happened: what was put aside first. False when nothing is left to wait for
** (*tid is -1), or with WNOHANG when there is nothing yet (0). */
static bool next(pid_t *tid, int *status, int flags) {
    for (int i = 0; i < now.count; i++) {
        if (now.all[i].has_pending) {
            *tid = now.all[i].tid;
            *status = now.all[i].pending;
            now.all[i].has_pending = false;
            return true;
        }
    }
    do
        check_time();
    while ((*tid = waitpid(-1, status, __WALL | flags)) < 0 && errno == EINTR);
    return *tid > 0;
}

/* Whether something traced is still there a moment after the program's end. */
static bool something_left(void) {
    double until = clock_now() + 0.1;
    int status;
    pid_t tid;
    do {
        while (next(&tid, &status, WNOHANG))
            handle(tid, status);
        if (tid < 0)
            return false;
        usleep(1000);
    } while (clock_now() < until);
    return true;
}

static void tell_front(void) {
    char done = 'k';
    prctl(PR_SET_PDEATHSIG, 0);
    if (send(now.front, &done, 1, MSG_NOSIGNAL) != 1)
        exit(2);
    close(now.front);
}

/* Until every process has ended: their calls are answered, and not counted any more. */
static void stay(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int status;
    pid_t tid;
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    setsid();
    now.deadline = clock_now() + options.linger;
    while (next(&tid, &status, 0))
        handle(tid, status);
}

static void start_program(void) {
    int go[2];
    char byte = 0;
    if (pipe2(go, O_CLOEXEC) != 0)
        die("pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
            _exit(2);
        if (options.directory && chdir(options.directory) != 0)
            die("cannot enter %s: %s", options.directory, strerror(errno));
        if (mutating_filter() != 0)
            die("cannot install the filter: %s", strerror(errno));
        execvp(options.program[0], options.program);
        fprintf(stderr, "tracer: cannot execute %s: %s\n", options.program[0], strerror(errno));
        _exit(127);
    }
    long wanted = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP |
                  PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE |
                  PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, pid, 0, wanted) != 0)
        die("cannot trace: %s", strerror(errno));
    now.leader = pid;
    add(pid);
    if (write(go[1], &byte, 1) != 1)
        die("cannot start the program: %s", strerror(errno));
    close(go[0]);
    close(go[1]);
}

static void on_signal(int signal) {
    if (signal == SIGTERM)
        asked_to_end = 1;
}

static void open_log(void) {
    char name[PATH_MAX];
    now.log = fopen(options.log, "we");
    snprintf(name, sizeof name, "%s.data", options.log);
    if (options.data)
        now.data = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!now.log || (options.data && now.data < 0))
        die("cannot write %s: %s", options.log, strerror(errno));
}

static void trace(void) {
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval tick = {{0, 50000}, {0, 50000}};
    int status;
    pid_t tid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what is orphaned is still waited for */
    open_log();
    start_program();
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    setitimer(ITIMER_REAL, &tick, NULL); /* so that no wait is longer than the time limit */
    now.deadline = clock_now() + options.timeout;
    while (now.leader && next(&tid, &status, 0))
        handle(tid, status);
    if (now.state == KILLING) {
        while (next(&tid, &status, 0))
            handle(tid, status);
    } else {
        now.state = LINGERING;
        if (something_left()) {
            log_end();
            tell_front();
            stay();
            exit(0);
        }
    }
    log_end();
    tell_front();
    exit(0);
}

/* ---- the front ---- */

static volatile pid_t hook_pid;

static void on_late(int signal) {
    (void)signal;
    if (hook_pid > 0)
        kill(-hook_pid, SIGKILL);
}

static int32_t hook(const Wish *wish) {
    char n[32], pid[32], leader[32];
    int status = 0;
    snprintf(n, sizeof n, "%ld", wish->n);
    snprintf(pid, sizeof pid, "%d", (int)wish->pid);
    snprintf(leader, sizeof leader, "%d", (int)wish->leader);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        int out = open(options.hook_output ? options.hook_output : "/dev/null",
                       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(out, 1);
        dup2(out, 2);
        setenv("TRACER_PID", pid, 1);
        setenv("TRACER_LEADER", leader, 1);
        options.hook[options.hooks] = n;
        options.hook[options.hooks + 1] = (char *)wish->name;
        execvp(options.hook[0], options.hook);
        _exit(127);
    }
    if (child < 0)
        return -1;
    setpgid(child, child);
    hook_pid = child;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    hook_pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Serves the tracer until it has said that the outcome is written. Returns the exit status. */
static int front(int tracer, pid_t pid) {
    struct sigaction action = {.sa_handler = on_late};
    double limit = options.timeout + 0.1; /* the tracer is to see first that it is late */
    struct itimerval late = {{0, 100000},
                             {(time_t)limit, (suseconds_t)((limit - (double)(time_t)limit) * 1e6)}};
    Wish wish;
    int status;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &late, NULL);
    for (;;) {
        ssize_t n = recv(tracer, &wish, sizeof wish, 0);
        if (n == 1)
            return 0;
        if (n == sizeof wish) {
            int32_t code = hook(&wish);
            if (send(tracer, &code, sizeof code, MSG_NOSIGNAL) < 0)
                return 2;
        } else if (n >= 0 || errno != EINTR) {
            break;
        }
    }
    if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
        fprintf(stderr, "tracer: ended by signal %d\n", WTERMSIG(status));
    return 2;
}

/* ---- the command line ---- */

static int one_of(const char *word, const char *what, const char *const names[]) {
    for (int i = 0; names[i]; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    die("no %s is called %s", what, word);
}

static int errno_of(const char *name) {
    for (int error = 1; error < 134; error++) {
        const char *known = strerrorname_np(error);
        if (known && strcmp(known, name) == 0)
            return error;
    }
    die("no error is called %s", name);
}

/* NAME:ERRNO or NAME:ERRNO:FLAGS */
static void read_denial(char *text) {
    char *error = strchr(text, ':');
    char *flags = error ? strchr(error + 1, ':') : NULL;
    if (!error || options.denied == DENIALS)
        die("--deny needs NAME:ERRNO[:FLAGS], at most %d times", DENIALS);
    *error++ = '\0';
    if (flags)
        *flags++ = '\0';
    Denial *d = &options.denials[options.denied++];
    snprintf(d->name, sizeof d->name, "%s", text);
    d->error = errno_of(error);
    d->flags = flags ? strtol(flags, NULL, 10) : -1;
}

static const char *real_name(const char *path) {
    char *real = realpath(path, NULL);
    if (!real)
        die("%s: %s", path, strerror(errno));
    return real;
}

static void read_option(int option) {
    static const char *const modes[] = {"count", "before", "torn",  "after",
                                        "error", "short",  "pause", NULL};
    static const char *const whose[] = {"host", "tools", "all", NULL};
    int roots = 0;
    switch (option) {
    case 'l':
        options.log = optarg;
        break;
    case 'r':
        while (options.roots[roots])
            roots++;
        if (roots == ROOTS)
            die("more than %d roots", ROOTS);
        options.roots[roots] = real_name(optarg);
        break;
    case 'x':
        options.executable = real_name(optarg);
        break;
    case 'C':
        options.directory = optarg;
        break;
    case 'm':
        options.mode = (Mode)one_of(optarg, "mode", modes);
        break;
    case 'w':
        options.who = (Who)one_of(optarg, "group of processes", whose);
        break;
    case 'n':
        options.at = strtol(optarg, NULL, 10);
        break;
    case 'e':
        options.error = errno_of(optarg);
        break;
    case 't':
        options.timeout = strtod(optarg, NULL);
        break;
    case 'L':
        options.linger = strtod(optarg, NULL);
        break;
    case 'D':
        read_denial(optarg);
        break;
    case 'H':
        if (options.hooks == HOOK_WORDS)
            die("the hook has more than %d words", HOOK_WORDS);
        options.hook[options.hooks++] = optarg;
        break;
    case 'o':
        options.hook_output = optarg;
        break;
    case 's':
        options.sticky = strtol(optarg, NULL, 10);
        break;
    case 'O':
        options.leader_only = true;
        break;
    case 'd':
        options.data = true;
        break;
    case 'v':
        options.list = true;
        break;
    default:
        exit(2);
    }
}

static void read_command_line(int argc, char **argv) {
    static const struct option known[] = {{"log", required_argument, NULL, 'l'},
                                          {"root", required_argument, NULL, 'r'},
                                          {"executable", required_argument, NULL, 'x'},
                                          {"directory", required_argument, NULL, 'C'},
                                          {"mode", required_argument, NULL, 'm'},
                                          {"who", required_argument, NULL, 'w'},
                                          {"at", required_argument, NULL, 'n'},
                                          {"errno", required_argument, NULL, 'e'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {"linger", required_argument, NULL, 'L'},
                                          {"deny", required_argument, NULL, 'D'},
                                          {"hook", required_argument, NULL, 'H'},
                                          {"hook-output", required_argument, NULL, 'o'},
                                          {"sticky", required_argument, NULL, 's'},
                                          {"leader-only", no_argument, NULL, 'O'},
                                          {"data", no_argument, NULL, 'd'},
                                          {"list", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "+", known, NULL)) >= 0)
        read_option(option);
    options.program = argv + optind;
    if (!options.log || !options.roots[0] || optind == argc)
        die("a log, a root and a program are needed");
    if (options.mode == FAIL && !options.error)
        die("--mode error needs --errno");
    if (options.mode == PAUSE && !options.hooks)
        die("--mode pause needs --hook");
    if (options.mode != COUNT && options.mode != PAUSE && options.at < 1)
        die("--at is needed, from 1");
}

int main(int argc, char **argv) {
    int ends[2];
    read_command_line(argc, argv);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        die("socketpair: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        close(ends[0]);
        now.front = ends[1];
        trace();
    }
    close(ends[1]);
    return front(ends[0], pid);
}
