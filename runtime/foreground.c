/*
** foreground.c: core.foreground: a program that a person uses at the terminal meanwhile: an editor.
**
** It is no tool (spawn.c): it shares our terminal, our process group and our streams, has all of
** our environment, no limit, and may outlive us. Like a shell we leave Ctrl-C to it.
*/
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* The array of strings at index 1 as an argument vector, in memory that stays on the stack. Pushes
** nil, message, code and returns NULL for what no program can be given. */
static char **check_argv(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t count = (size_t)lua_rawlen(L, 1);
    luaL_argcheck(L, count > 0 && count < 64, 1, "not 1 to 63 arguments");
    luaL_checkstack(L, (int)count + 8, NULL);
    char **argv = lua_newuserdatauv(L, (count + 1) * sizeof *argv, 0);
    for (size_t i = 0; i < count; i++) {
        size_t length;
        if (lua_rawgeti(L, 1, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_error(L, "argv[%d] must be a string", (int)i + 1);
        argv[i] = (char *)(uintptr_t)lua_tolstring(L, -1, &length); /* exec's type lacks const */
        if (strlen(argv[i]) != length) {
            core_fail(L, "EINVAL", "start a program: argv[%d] holds a NUL", (int)i + 1);
            return NULL;
        }
    }
    argv[count] = NULL;
    luaL_argcheck(L, strchr(argv[0], '/') != NULL, 1, "the program is not a path");
    return argv;
}

/* What a shell starts its programs with: no signal blocked, and these three not ignored. */
static int start(pid_t *pid, char **argv) {
    sigset_t none, usual;
    posix_spawnattr_t attributes;
    int error = posix_spawnattr_init(&attributes);
    if (error != 0)
        return error;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGINT);
    sigaddset(&usual, SIGQUIT);
    sigaddset(&usual, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    error = posix_spawn(pid, argv[0], NULL, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    return error;
}

/* An editor that was killed leaves the terminal as it used it, in which no line can be typed. */
static void restore_terminal(const struct termios *before) {
    struct sigaction ignore = {.sa_handler = SIG_IGN}, background;
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGTTOU, &ignore, &background);
    tcsetattr(STDIN_FILENO, TCSADRAIN, before);
    sigaction(SIGTTOU, &background, NULL);
}

/*
** run(argv) -> { code, signal } | nil, message, code
**
** Runs argv[1], a path, and waits for its end, however long that takes: a signal that comes
** meanwhile is noted (core.system.interrupted) and ends nothing that a person writes. `code` is
** the exit status, `signal` the signal that ended it (0: none).
*/
static int foreground_run(lua_State *L) {
    struct sigaction ignore = {.sa_handler = SIG_IGN}, interrupt, quit;
    struct termios before;
    pid_t pid = 0, ended;
    int status = 0;
    char **argv = check_argv(L);
    if (!argv)
        return 3;
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGINT, &ignore, &interrupt);
    sigaction(SIGQUIT, &ignore, &quit);
    bool is_terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    int error = start(&pid, argv);
    if (error == 0) {
        do
            ended = waitpid(pid, &status, 0);
        while (ended < 0 && errno == EINTR);
        error = ended < 0 ? errno : 0;
        if (is_terminal)
            restore_terminal(&before);
    }
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGQUIT, &quit, NULL);
    if (error != 0)
        return core_errno(L, error, "run", argv[0]);
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    lua_setfield(L, -2, "signal");
    return 1;
}

static const luaL_Reg functions[] = {
    {"run", foreground_run},
    {NULL, NULL},
};

int luaopen_praxlua_foreground(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
