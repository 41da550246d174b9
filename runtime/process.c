/*
** process.c: other processes, as /proc shows them. See process.h.
*/
#define _GNU_SOURCE
#include "process.h"
#include "core.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t process_read(int dir, const char *name, char *text, size_t size) {
    size_t length = 0;
    ssize_t n = -1;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    while (length < size - 1) {
        n = read(fd, text + length, size - 1 - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    text[length] = '\0';
    return n < 0 ? -1 : (ssize_t)length;
}

/* The fields of /proc/PID/stat that we use; see proc(5). */
struct process_stat {
    char state;
    int ppid, pgid, session;
    long long start_time; /* clock ticks since boot */
};

static bool read_stat(int process, struct process_stat *stat) {
    char text[2048]; /* fifty numbers and a name of 64 bytes at most */
    if (process_read(process, "stat", text, sizeof text) <= 0)
        return false;
    /* The name in parentheses may hold anything, parentheses too: count from the last one. */
    const char *at = strrchr(text, ')');
    return at &&
           sscanf(at,
                  ") %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                  "%*d %lld",
                  &stat->state, &stat->ppid, &stat->pgid, &stat->session, &stat->start_time) == 5;
}

/* Opens /proc/PID. What is read beneath the descriptor is about this one process, and fails once
** it is gone, even if its number is given to another. */
static int open_process(lua_Integer pid) {
    char path[32];
    if (pid < 1 || pid > INT_MAX) {
        errno = ENOENT;
        return -1;
    }
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

long long process_start_time(pid_t pid) {
    struct process_stat stat;
    int process = open_process(pid);
    bool found = process >= 0 && read_stat(process, &stat);
    if (process >= 0)
        close(process);
    return found ? stat.start_time : -1;
}

int process_boot_id(char *text, size_t size) {
    if (process_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, size) < 0)
        return -1;
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

/* Sets t[field] to the target of a link in /proc/PID; leaves it nil when that is not allowed. */
static void set_link(lua_State *L, int process, const char *name, const char *field) {
    char target[PATH_MAX];
    ssize_t n = readlinkat(process, name, target, sizeof target);
    if (n > 0) {
        lua_pushlstring(L, target, (size_t)n);
        lua_setfield(L, -2, field);
    }
}

/* Sets t.argv from /proc/PID/cmdline: strings that end in NUL, none for a kernel thread or zombie.
** `file` is a guard for the descriptor. */
static void set_argv(lua_State *L, int process, struct core_guard *file) {
    char chunk[4096];
    ssize_t n = 0;
    luaL_Buffer all;
    file->fd = openat(process, "cmdline", O_RDONLY | O_CLOEXEC);
    luaL_buffinit(L, &all);
    while (file->fd >= 0 && (n = read(file->fd, chunk, sizeof chunk)) != 0) {
        if (n > 0)
            luaL_addlstring(&all, chunk, (size_t)n);
        else if (errno != EINTR)
            break;
    }
    luaL_pushresult(&all);
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    lua_newtable(L);
    lua_Integer count = 0;
    for (size_t at = 0; at < size; count++) {
        size_t length = strnlen(text + at, size - at);
        lua_pushlstring(L, text + at, length);
        lua_rawseti(L, -2, count + 1);
        at += length + 1;
    }
    lua_setfield(L, -3, "argv"); /* above the text */
    lua_pop(L, 1);
}

/* process(pid) -> {pid, ppid, pgid, session, state="R"|"S"|"D"|"Z"|"T"|…,
** start_time=clock ticks since boot, executable=path?, directory=path?, argv={...}}
** | nil when there is no such process.
** executable and directory are nil where the kernel does not let us look; the kernel appends
** " (deleted)" to the path of a file that was removed since. */
int process_describe(lua_State *L) {
    lua_Integer pid = luaL_checkinteger(L, 1);
    struct process_stat stat;
    struct core_guard *process = core_guard(L, core_guard_close);
    struct core_guard *file = core_guard(L, core_guard_close);
    process->fd = open_process(pid);
    if (process->fd < 0 || !read_stat(process->fd, &stat)) {
        lua_pushnil(L);
        return 1;
    }
    lua_createtable(L, 0, 8);
    lua_pushinteger(L, pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, stat.ppid);
    lua_setfield(L, -2, "ppid");
    lua_pushinteger(L, stat.pgid);
    lua_setfield(L, -2, "pgid");
    lua_pushinteger(L, stat.session);
    lua_setfield(L, -2, "session");
    lua_pushlstring(L, &stat.state, 1);
    lua_setfield(L, -2, "state");
    lua_pushinteger(L, stat.start_time);
    lua_setfield(L, -2, "start_time");
    set_link(L, process->fd, "exe", "executable");
    set_link(L, process->fd, "cwd", "directory");
    set_argv(L, process->fd, file);
    return 1;
}

static void close_directory(struct core_guard *guard) {
    if (guard->pointer)
        closedir(guard->pointer);
    guard->pointer = NULL;
}

/* The next process of an open /proc: its number, its stat and a descriptor that the caller closes;
** -1 at the end. */
static int next_process(DIR *proc, lua_Integer *pid, struct process_stat *stat) {
    struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        *pid = isdigit((unsigned char)*entry->d_name) ? atoll(entry->d_name) : 0;
        int process = *pid > 0 ? open_process(*pid) : -1;
        if (process >= 0 && read_stat(process, stat))
            return process;
        if (process >= 0)
            close(process);
    }
    return -1;
}

/* An array of the processes whose parent, or whose session, has the number at index 1. */
static int push_related(lua_State *L, bool by_session) {
    lua_Integer wanted = luaL_checkinteger(L, 1), count = 0, pid;
    struct core_guard *proc = core_guard(L, close_directory);
    struct process_stat stat;
    int process;
    proc->pointer = opendir("/proc");
    if (!proc->pointer)
        return core_errno(L, errno, "open", "/proc");
    lua_newtable(L);
    while ((process = next_process(proc->pointer, &pid, &stat)) >= 0) {
        close(process);
        if ((by_session ? stat.session : stat.ppid) == wanted) {
            lua_pushinteger(L, pid);
            lua_rawseti(L, -2, ++count);
        }
    }
    return 1;
}

/* children(pid) -> array of pids, in no order | nil, message, code. A child that has ended but was
** not waited for is among them. */
int process_children(lua_State *L) {
    return push_related(L, false);
}

/* session(id) -> array of the pids in a session, in no order | nil, message, code */
int process_session(lua_State *L) {
    return push_related(L, true);
}

void process_kill_session(pid_t session, long long since) {
    struct process_stat stat;
    lua_Integer pid;
    int process;
    DIR *proc = opendir("/proc");
    while (proc && (process = next_process(proc, &pid, &stat)) >= 0) {
        /* Through the descriptor, so that it is the very process that was looked at. */
        if (stat.session == session && stat.start_time >= since)
            syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
        close(process);
    }
    if (proc)
        closedir(proc);
}
