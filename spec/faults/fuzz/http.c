/*
** http.c: fuzz target "http": the answer of a server, received by core.http over a socket. The
** first byte chooses how it comes; the rest is what the server sends before it closes the
** connection.
**   bits 0-2  into so many pieces it is cut, with a moment between them
**   bit 3     the request has a callback
**   bit 4     which ends it at the second piece
*/
#define _GNU_SOURCE
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <lauxlib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CAP = 64 * 1024 };

static int listener = -1;
static char url[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const uint8_t *answer; /* guarded by the lock, like the two below */
static size_t answer_size;
static int pieces;

int luaopen_praxlua_http(lua_State *L);

/* Sends the answer and closes; what the client asks is read as far as it is there. */
static void serve(int fd) {
    char asked[4096];
    int at_once = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    if (recv(fd, asked, sizeof asked, 0) <= 0)
        return;
    pthread_mutex_lock(&lock);
    const uint8_t *data = answer;
    size_t size = answer_size;
    int parts = pieces + 1;
    for (int i = 0; i < parts && size > 0; i++) {
        size_t part = i == parts - 1 ? size : size / (size_t)(parts - i);
        ssize_t n = send(fd, data, part, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        data += n;
        size -= (size_t)n;
        if (i < parts - 1)
            sched_yield();
    }
    pthread_mutex_unlock(&lock);
    shutdown(fd, SHUT_WR);
    while (recv(fd, asked, sizeof asked, 0) > 0)
        ;
}

static void *server(void *unused) {
    (void)unused;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        serve(fd);
        close(fd);
    }
    return NULL;
}

static void prepare(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    pthread_t thread;
    if (listener >= 0)
        return;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 16) != 0 || getsockname(listener, (struct sockaddr *)&at, &size) != 0 ||
        pthread_create(&thread, NULL, server, NULL) != 0) {
        perror("a server to talk to");
        exit(2);
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%d/mcp", ntohs(at.sin_port));
}

/* on_data(piece): the second call ends the transfer where upvalue 1 says so. */
static int on_data(lua_State *L) {
    luaL_checktype(L, 1, LUA_TSTRING);
    lua_pushinteger(L, lua_tointeger(L, lua_upvalueindex(2)) + 1);
    lua_copy(L, -1, lua_upvalueindex(2));
    lua_pushboolean(L, !(lua_toboolean(L, lua_upvalueindex(1)) && lua_tointeger(L, -1) >= 2));
    return 1;
}

static void check_error(lua_State *L, int at) {
    /* ENOMEM: what libcurl says to a line of more than 100 KiB among the headers. */
    static const char *const known[] = {"ECONNRESET", "EPROTO", "EFBIG",
                                        "ETIMEDOUT",  "ENOMEM", NULL};
    const char *code = lua_tostring(L, at + 2);
    if (lua_type(L, at + 1) != LUA_TSTRING || !code)
        fuzz_finding("request fails in another shape than nil, message, code");
    for (int i = 0; known[i]; i++)
        if (strcmp(code, known[i]) == 0)
            return;
    fuzz_finding("request fails with %s: %s", code, lua_tostring(L, at + 1));
}

static void check_answer(lua_State *L, int at) {
    lua_getfield(L, at, "status");
    lua_getfield(L, at, "headers");
    lua_getfield(L, at, "body");
    if (!lua_isinteger(L, -3) || lua_type(L, -2) != LUA_TTABLE || lua_type(L, -1) != LUA_TSTRING ||
        lua_rawlen(L, -1) > CAP)
        fuzz_finding("an answer of another shape than { status, headers, body }");
    int headers = lua_absindex(L, -2);
    for (lua_pushnil(L); lua_next(L, headers); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            fuzz_finding("a header that is no text");
        const char *value = lua_tostring(L, -1);
        if (strpbrk(value, "\r\n"))
            fuzz_finding("a header with a line break in it");
    }
}

static void run(const uint8_t *data, size_t size) {
    if (size < 1)
        return;
    prepare();
    pthread_mutex_lock(&lock);
    answer = data + 1;
    answer_size = size - 1;
    pieces = data[0] & 7;
    pthread_mutex_unlock(&lock);
    lua_State *L = luaL_newstate();
    luaopen_praxlua_http(L);
    lua_getfield(L, 1, "request");
    lua_createtable(L, 0, 4);
    lua_pushstring(L, url);
    lua_setfield(L, -2, "url");
    lua_pushinteger(L, CAP);
    lua_setfield(L, -2, "cap");
    lua_pushnumber(L, 5);
    lua_setfield(L, -2, "timeout");
    if (data[0] & 8) {
        lua_pushboolean(L, data[0] & 16);
        lua_pushinteger(L, 0);
        lua_pushcclosure(L, on_data, 2);
        lua_setfield(L, -2, "on_data");
    }
    fuzz_call(L, 1, 3);
    if (lua_istable(L, 2))
        check_answer(L, 2);
    else
        check_error(L, 2);
    lua_close(L);
    pthread_mutex_lock(&lock); /* the server has let go of the input */
    answer_size = 0;
    pthread_mutex_unlock(&lock);
}

const fuzz_target fuzz_http = {"http", run};
