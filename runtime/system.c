/*
** system.c: core.system: what a program asks the machine about itself, time, space, the terminal
** and (process.c) other processes; and signals, which only set a flag here.
**
** All functions take and return plain Lua values; sizes are bytes, times are as stated at each.
*/
#define _GNU_SOURCE
#include "system.h"
#include "core.h"
#include "process.h"

#include <archive.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

int praxlua_is_host = 0;

extern char **environ;

/* ======================= Identity and time ======================= */

/* uuid() -> string: a random UUID, version 4 (RFC 9562), in lower case. Raises when the kernel
** gives no random bytes. */
static int system_uuid(lua_State *L) {
    unsigned char b[16];
    char text[37];
    ssize_t n;
    do
        n = getrandom(b, sizeof b, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof b)
        return luaL_error(L, "getrandom: %s", strerror(errno));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); /* version */
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80); /* variant */
    snprintf(text, sizeof text,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    lua_pushstring(L, text);
    return 1;
}

static double clock_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* now() -> integer: nanoseconds since the epoch (UTC). */
static int system_now(lua_State *L) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    lua_pushinteger(L, (lua_Integer)t.tv_sec * 1000000000 + t.tv_nsec);
    return 1;
}

/* monotonic() -> number: seconds from an arbitrary start; never goes back. */
static int system_monotonic(lua_State *L) {
    lua_pushnumber(L, clock_seconds(CLOCK_MONOTONIC));
    return 1;
}

/* uptime() -> number: seconds since boot, suspended time included (as process().start_time). */
static int system_uptime(lua_State *L) {
    lua_pushnumber(L, clock_seconds(CLOCK_BOOTTIME));
    return 1;
}

/* clock_ticks() -> integer: the clock ticks in a second of process().start_time. */
static int system_clock_ticks(lua_State *L) {
    lua_pushinteger(L, sysconf(_SC_CLK_TCK));
    return 1;
}

static int system_pid(lua_State *L) {
    lua_pushinteger(L, getpid());
    return 1;
}

static int system_ppid(lua_State *L) {
    lua_pushinteger(L, getppid());
    return 1;
}

static int system_euid(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)geteuid());
    return 1;
}

/* hostname() -> string | nil, message, code */
static int system_hostname(lua_State *L) {
    struct utsname name;
    if (uname(&name) < 0)
        return core_errno(L, errno, "uname", NULL);
    lua_pushstring(L, name.nodename);
    return 1;
}

/* boot_id() -> string: the kernel's UUID of this boot | nil, message, code */
static int system_boot_id(lua_State *L) {
    char text[64];
    if (process_boot_id(text, sizeof text) < 0)
        return core_errno(L, errno, "read", "the boot id");
    lua_pushstring(L, text);
    return 1;
}

/* ======================= Signals ======================= */

static volatile sig_atomic_t noted_signal = 0;

static const struct {
    const char *name; /* without the SIG */
    int number;
} signals[] = {
    {"HUP", SIGHUP},
    {"INT", SIGINT},
    {"KILL", SIGKILL},
    {"TERM", SIGTERM},
};
#define SIGNALS (sizeof signals / sizeof *signals)

/* The first signal that came while they are held (core.system.ignore_signals). */
static volatile sig_atomic_t held_signal = 0;
static volatile sig_atomic_t holding = 0;

int system_interrupted(void) {
    return noted_signal;
}

static void note_signal(int number) {
    volatile sig_atomic_t *first = holding ? &held_signal : &noted_signal;
    if (*first == 0)
        *first = number;
}

/* Whether SIGHUP was ignored when we came (nohup); -1: not looked at yet. */
static int hangup_is_ignored = -1;

/* Has SIGINT, SIGTERM and SIGHUP noted from now on. A SIGHUP that was ignored stays so. */
static void note_signals(int flags) {
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = flags}, old;
    sigemptyset(&action.sa_mask);
    if (hangup_is_ignored < 0)
        hangup_is_ignored = sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!hangup_is_ignored)
        sigaction(SIGHUP, &action, NULL);
}

/* catch_signals(): from now on SIGINT, SIGTERM and SIGHUP only set the flag of interrupted(), and
** blocking calls end early; SIGPIPE is ignored. A SIGHUP that was ignored (nohup) stays so. A
** signal that came while they were ignored (ignore_signals) counts now. */
static int system_catch_signals(lua_State *L) {
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)L;
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGPIPE, &ignore, NULL);
    note_signals(0);
    holding = 0;
    if (noted_signal == 0)
        noted_signal = held_signal;
    held_signal = 0;
    return 0;
}

/* interrupted() -> nil | "SIGINT" | "SIGTERM" | "SIGHUP": the first signal noted. */
static int system_interrupted_name(lua_State *L) {
    int number = noted_signal;
    for (size_t i = 0; i < SIGNALS; i++) {
        if (number != 0 && signals[i].number == number) {
            lua_pushfstring(L, "SIG%s", signals[i].name);
            return 1;
        }
    }
    lua_pushnil(L);
    return 1;
}

/* ignore_signals(): from now on SIGINT, SIGTERM and SIGHUP end nothing, and what was noted is
** forgotten: for work that must come to its end, like an undo. catch_signals() takes it back. */
static int system_ignore_signals(lua_State *L) {
    (void)L;
    holding = 1;
    note_signals(SA_RESTART);
    noted_signal = 0;
    return 0;
}

/* clear_interrupt(): forgets the noted signal. */
static int system_clear_interrupt(lua_State *L) {
    (void)L;
    noted_signal = 0;
    return 0;
}

/* Blocks the signals that are noted, between a look at the flag and the wait for one, so that none
** slips through in between. */
static void hold_signals(sigset_t *before) {
    sigset_t caught;
    sigemptyset(&caught);
    sigaddset(&caught, SIGINT);
    sigaddset(&caught, SIGTERM);
    sigaddset(&caught, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &caught, before);
}

/* Waits until `deadline` (monotonic seconds) or a noted signal. */
static bool wait_until(double deadline) {
    sigset_t before;
    hold_signals(&before);
    double left = deadline - clock_seconds(CLOCK_MONOTONIC);
    while (noted_signal == 0 && left > 0) {
        double part = left < 3600 ? left : 3600;
        struct timespec t = {.tv_sec = (time_t)part};
        t.tv_nsec = (long)((part - (double)t.tv_sec) * 1e9);
        ppoll(NULL, 0, &t, &before);
        left = deadline - clock_seconds(CLOCK_MONOTONIC);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return noted_signal == 0;
}

/* sleep(seconds) -> boolean: true when the time has passed, false when a signal noted by
** catch_signals() ended it early (or had come before). */
static int system_sleep(lua_State *L) {
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, isfinite(seconds), 1, "not a finite number of seconds");
    lua_pushboolean(L, wait_until(clock_seconds(CLOCK_MONOTONIC) + seconds));
    return 1;
}

/* await_input() -> boolean: true when standard input can be read, or is at its end; false when a
** signal noted by catch_signals() came first (or had come before). A read that begins after the
** signal would wait for a line that nobody types. */
static int system_await_input(lua_State *L) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t before;
    int ready = 0;
    hold_signals(&before);
    while (noted_signal == 0 && ready == 0) {
        ready = ppoll(&input, 1, NULL, &before);
        if (ready < 0 && errno == EINTR)
            ready = 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    lua_pushboolean(L, noted_signal == 0);
    return 1;
}

/* signal(pid, "TERM"|"KILL"|"INT"|"HUP"|0) -> true | nil, message, code
** 0 sends nothing and tells whether the process exists. A pid below -1 names a process group.
** -1 (everything), 0 (our own group) and 1 (init) are refused with "EINVAL": such a number comes
** from a damaged file, never from intent. */
static int system_signal(lua_State *L) {
    lua_Integer pid = luaL_checkinteger(L, 1);
    int number = -1;
    if (lua_isinteger(L, 2) && lua_tointeger(L, 2) == 0) {
        number = 0;
    } else {
        const char *name = luaL_checkstring(L, 2);
        for (size_t i = 0; i < SIGNALS; i++)
            if (strcmp(signals[i].name, name) == 0)
                number = signals[i].number;
        luaL_argcheck(L, number >= 0, 2, "not one of TERM, KILL, INT, HUP, 0");
    }
    if ((pid >= -1 && pid <= 1) || pid > INT_MAX || pid < -INT_MAX)
        return core_fail(L, "EINVAL", "signal process %I: not a process we may signal",
                         (LUAI_UACINT)pid);
    if (kill((pid_t)pid, number) < 0) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)pid);
        return core_errno(L, errno, "signal process", text);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* ======================= Space, access, environment ======================= */

/* blocks * size, capped at the largest Lua integer. */
static lua_Integer capped(unsigned long long count, unsigned long long size) {
    if (size != 0 && count > (unsigned long long)LUA_MAXINTEGER / size)
        return LUA_MAXINTEGER;
    return (lua_Integer)(count * size);
}

static void set_integer(lua_State *L, const char *field, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, field);
}

/* space(path) -> {bytes_available, bytes_total, inodes_available, inodes_total, block_size} of the
** file system that holds path | nil, message, code. "Available" is what this user may still use.
** A file system without a fixed number of inodes reports inodes_total 0 and
** inodes_available math.maxinteger. */
static int system_space(lua_State *L) {
    const char *path = core_check_path(L, 1);
    struct statvfs fs;
    int rc;
    do
        rc = statvfs(path, &fs);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return core_errno(L, errno, "statvfs", path);
    lua_createtable(L, 0, 5);
    set_integer(L, "bytes_available", capped(fs.f_bavail, fs.f_frsize));
    set_integer(L, "bytes_total", capped(fs.f_blocks, fs.f_frsize));
    set_integer(L, "inodes_available", fs.f_files ? capped(fs.f_favail, 1) : LUA_MAXINTEGER);
    set_integer(L, "inodes_total", capped(fs.f_files, 1));
    set_integer(L, "block_size", capped(fs.f_frsize, 1));
    return 1;
}

/* access(path, "r"|"w"|"x") -> boolean: whether this process (its effective user) may. */
static int system_access(lua_State *L) {
    static const char *const names[] = {"r", "w", "x", NULL};
    static const int modes[] = {R_OK, W_OK, X_OK};
    const char *path = core_check_path(L, 1);
    int mode = modes[luaL_checkoption(L, 2, NULL, names)];
    lua_pushboolean(L, faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0);
    return 1;
}

/* environment() -> table: every environment variable. Of a name that occurs twice, the first. */
static int system_environment(lua_State *L) {
    lua_newtable(L);
    for (char **variable = environ; variable && *variable; variable++) {
        const char *equals = strchr(*variable, '=');
        if (!equals || equals == *variable)
            continue;
        lua_pushlstring(L, *variable, (size_t)(equals - *variable));
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushstring(L, equals + 1);
            lua_rawset(L, -3);
        } else {
            lua_pop(L, 2);
        }
    }
    return 1;
}

/* ======================= Terminal, host, versions ======================= */

/* isatty(fd) -> boolean */
static int system_isatty(lua_State *L) {
    lua_Integer fd = luaL_checkinteger(L, 1);
    lua_pushboolean(L, fd >= 0 && fd <= INT_MAX && isatty((int)fd));
    return 1;
}

/* columns(fd) -> integer: the present width of the terminal; 80 when it is none or does not say. */
static int system_columns(lua_State *L) {
    lua_Integer fd = luaL_checkinteger(L, 1);
    struct winsize size = {0};
    bool known =
        fd >= 0 && fd <= INT_MAX && ioctl((int)fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    lua_pushinteger(L, known ? size.ws_col : 80);
    return 1;
}

static bool is_program(const char *path) {
    char resolved[PATH_MAX];
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 && realpath(path, resolved) != NULL;
}

/* Pushes the absolute, resolved form of `path`. */
static void push_resolved(lua_State *L, const char *path) {
    char resolved[PATH_MAX];
    lua_pushstring(L, realpath(path, resolved) ? resolved : path);
}

/* Pushes the path of our own executable. When the file was replaced or removed while we run, the
** way through /proc still starts the very program that runs now. */
static void push_own_executable(lua_State *L) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    if (n > 0 && access(path, X_OK) == 0)
        lua_pushstring(L, path);
    else
        lua_pushfstring(L, "/proc/%d/exe", (int)getpid());
}

/* Pushes the first executable `praxlua` on PATH and returns true. */
static bool push_from_path(lua_State *L) {
    const char *at = getenv("PATH");
    while (at && *at) {
        size_t length = strcspn(at, ":");
        if (length > 0 && *at == '/') { /* a relative entry would depend on where we are */
            lua_pushlstring(L, at, length);
            lua_pushliteral(L, "/praxlua");
            lua_concat(L, 2);
            if (is_program(lua_tostring(L, -1))) {
                push_resolved(L, lua_tostring(L, -1));
                return true;
            }
            lua_pop(L, 1);
        }
        at += length + (at[length] == ':');
    }
    return false;
}

/* host() -> string: the absolute path of the praxlua executable: this process's own when it is the
** host, else $PRAXLUA_HOST, else the first on PATH | nil, message, "ENOENT" */
static int system_host(lua_State *L) {
    const char *given = getenv("PRAXLUA_HOST");
    if (praxlua_is_host) {
        push_own_executable(L);
        return 1;
    }
    if (given && *given) {
        if (!is_program(given))
            return core_fail(L, "ENOENT", "find praxlua: PRAXLUA_HOST=%s is not a program", given);
        push_resolved(L, given);
        return 1;
    }
    if (push_from_path(L))
        return 1;
    return core_fail(L, "ENOENT",
                     "find praxlua: not on PATH; set PRAXLUA_HOST to the executable's path");
}

static void set_string(lua_State *L, const char *field, const char *value) {
    lua_pushstring(L, value);
    lua_setfield(L, -2, field);
}

/* versions() -> {lua="Lua 5.4.x", openssl, libuv, libarchive, kernel}: of the libraries in use. */
static int system_versions(lua_State *L) {
    struct utsname name;
    const char *archive = strchr(archive_version_string(), ' ');
    const struct scmp_version *seccomp = seccomp_version();
    lua_createtable(L, 0, 6);
    lua_pushfstring(L, "%d.%d.%d", (int)seccomp->major, (int)seccomp->minor, (int)seccomp->micro);
    lua_setfield(L, -2, "libseccomp");
    set_string(L, "lua", LUA_RELEASE);
    set_string(L, "openssl", OpenSSL_version(OPENSSL_VERSION_STRING));
    set_string(L, "libuv", uv_version_string());
    set_string(L, "libarchive", archive ? archive + 1 : archive_version_string());
    set_string(L, "kernel", uname(&name) == 0 ? name.release : "unknown");
    return 1;
}

static const luaL_Reg functions[] = {
    {"uuid", system_uuid},
    {"now", system_now},
    {"monotonic", system_monotonic},
    {"uptime", system_uptime},
    {"clock_ticks", system_clock_ticks},
    {"sleep", system_sleep},
    {"pid", system_pid},
    {"ppid", system_ppid},
    {"euid", system_euid},
    {"hostname", system_hostname},
    {"boot_id", system_boot_id},
    {"catch_signals", system_catch_signals},
    {"interrupted", system_interrupted_name},
    {"ignore_signals", system_ignore_signals},
    {"clear_interrupt", system_clear_interrupt},
    {"await_input", system_await_input},
    {"signal", system_signal},
    {"process", process_describe},
    {"children", process_children},
    {"session", process_session},
    {"space", system_space},
    {"access", system_access},
    {"environment", system_environment},
    {"isatty", system_isatty},
    {"columns", system_columns},
    {"host", system_host},
    {"versions", system_versions},
    {NULL, NULL},
};

int luaopen_praxlua_system(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
