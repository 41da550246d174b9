/*
** frame.c: fuzz target "frame": the channel between host and worker. The first byte of the input
** chooses what the rest is:
**   0  a payload: decoded, encoded and decoded again, it must be the same
**   1  a payload, decoded in a state that is short of memory, as a worker's is
**   2  a stream of bytes from a worker, received by worker.c as frames
**   3  a stream of bytes from the host, received as a worker does
*/
#define _GNU_SOURCE
#include "harness.h"

#include "worker.c" /* its receiving half is static */

enum { STREAM = 128 * 1024, SHORT = 256 * 1024 };

int luaopen_praxlua_worker(lua_State *L);

/* ---- a payload ---- */

/* Whether two decoded values are the same; tables by their contents. */
static int same(lua_State *L, int a, int b) {
    int count = 0;
    luaL_checkstack(L, 8, "compare");
    if (lua_type(L, a) != LUA_TTABLE || lua_type(L, b) != LUA_TTABLE)
        return lua_type(L, a) == lua_type(L, b) && lua_isinteger(L, a) == lua_isinteger(L, b) &&
               lua_rawequal(L, a, b);
    for (lua_pushnil(L); lua_next(L, a); lua_pop(L, 1), count++) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        int equal = same(L, lua_gettop(L) - 1, lua_gettop(L));
        lua_pop(L, 1);
        if (!equal)
            return 0;
    }
    for (lua_pushnil(L); lua_next(L, b); lua_pop(L, 1))
        count--;
    return count == 0;
}

static int round_trip(lua_State *L) {
    size_t size;
    int count, again;
    const unsigned char *data = (const unsigned char *)lua_tolstring(L, 1, &size);
    frame_buffer b = {0};
    if (frame_decode(L, data, size, &count)) {
        if (lua_gettop(L) != 1 || count != 0)
            fuzz_finding("a payload that is refused leaves something behind");
        return 0;
    }
    if (lua_gettop(L) != 1 + count)
        fuzz_finding("%d values are announced, %d are there", count, lua_gettop(L) - 1);
    const char *problem = frame_encode(&b, L, 2);
    /* A nil as a value of a table makes the table smaller: the only difference there can be. */
    if (problem)
        fuzz_finding("what was decoded cannot be encoded: it %s", problem);
    if (frame_decode(L, b.data, b.size, &again))
        fuzz_finding("what was encoded cannot be decoded");
    frame_free(&b);
    if (count != again)
        fuzz_finding("%d values became %d", count, again);
    for (int i = 0; i < count; i++)
        if (!same(L, 2 + i, 2 + count + i))
            fuzz_finding("value %d is another one after a round trip", i + 1);
    return 0;
}

static int decode_only(lua_State *L) {
    size_t size;
    int count;
    const unsigned char *data = lua_touserdata(L, 1);
    memcpy(&size, lua_touserdata(L, 2), sizeof size);
    frame_decode(L, data, size, &count);
    return 0;
}

static void *allocate_little(void *used, void *block, size_t old, size_t size) {
    size_t *bytes = used;
    old = block ? old : 0;
    if (size > old && *bytes - old + size > SHORT)
        return NULL;
    *bytes = *bytes - old + size;
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size);
}

static void short_of_memory(const uint8_t *data, size_t size) {
    size_t used = 0;
    lua_State *L = lua_newstate(allocate_little, &used);
    if (!L)
        return;
    lua_pushcfunction(L, decode_only);
    lua_pushlightuserdata(L, (void *)data);
    lua_pushlightuserdata(L, &size);
    int rc = lua_pcall(L, 2, 0, 0);
    if (rc != LUA_OK && rc != LUA_ERRMEM)
        fuzz_finding("decoding raises %s", lua_tostring(L, -1));
    lua_close(L);
}

/* ---- a stream ---- */

/* A socket from which `data` and then the end of the stream can be read. */
static int stream_of(const uint8_t *data, size_t size) {
    int pair[2], room = STREAM;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        exit(2);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    while (size > 0) {
        ssize_t n = send(pair[1], data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            break; /* the rest does not fit: then the stream is cut off here */
        data += n;
        size -= (size_t)n;
    }
    close(pair[1]);
    return pair[0];
}

/* (fd): receives until it fails, and looks at the shape of every answer. */
static int supervise(lua_State *L) {
    static const char *const kinds[] = {"call", "result", "error", "verdict"};
    worker *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (worker){.fd = (int)lua_tointeger(L, 1)};
    luaL_setmetatable(L, TYPE);
    lua_replace(L, 1);
    for (;;) {
        lua_settop(L, 1);
        lua_pushcfunction(L, l_receive);
        lua_pushvalue(L, 1);
        lua_pushinteger(L, 5);
        lua_call(L, 2, LUA_MULTRET);
        if (lua_isnil(L, 2))
            break;
        int known = 0;
        for (int i = 0; i < 4; i++)
            known |= lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), kinds[i]) == 0;
        if (!known)
            fuzz_finding("a frame of an unknown kind is taken");
    }
    const char *code = lua_tostring(L, 4);
    if (lua_gettop(L) != 4 || !lua_isstring(L, 3) || !code ||
        (strcmp(code, "EPIPE") != 0 && strcmp(code, "EPROTOCOL") != 0 &&
         strcmp(code, "EMSGSIZE") != 0))
        fuzz_finding("receiving fails with %s", code ? code : "no code");
    return 0;
}

/* (fd): receives as sandbox.c does. */
static int obey(lua_State *L) {
    int fd = (int)lua_tointeger(L, 1);
    frame_kind kind;
    frame_buffer b = {0};
    int count, rc;
    while ((rc = frame_receive(fd, -1, &kind, &b)) == 1) {
        lua_settop(L, 1);
        if (frame_decode(L, b.data, b.size, &count))
            break;
    }
    if (rc < 0 && errno != EBADMSG && errno != EMSGSIZE)
        fuzz_finding("receiving fails with %s", strerror(errno));
    frame_free(&b);
    close(fd);
    return 0;
}

/* ---- the target ---- */

static void run(const uint8_t *data, size_t size) {
    if (size < 1)
        return;
    int mode = data[0] & 3;
    data++, size--;
    if (mode == 1) {
        short_of_memory(data, size);
        return;
    }
    lua_State *L = luaL_newstate();
    luaopen_praxlua_worker(L);
    lua_settop(L, 0);
    lua_pushcfunction(L, mode == 0 ? round_trip : mode == 2 ? supervise : obey);
    if (mode == 0)
        lua_pushlstring(L, (const char *)data, size);
    else
        lua_pushinteger(L, stream_of(data, size));
    fuzz_call(L, 1, 0);
    lua_close(L);
}

const fuzz_target fuzz_frame = {"frame", run};
