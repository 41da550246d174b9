/*
** frame.c: values to bytes and back, and whole frames over a socket; see frame.h.
*/
#define _GNU_SOURCE
#include "frame.h"

#include "system.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* ---- values to bytes ---- */

typedef struct encoder {
    frame_buffer *out;
    lua_State *L;
    size_t values, sparse;
    const char *problem;
} encoder;

static unsigned char *grow(encoder *e, size_t size) {
    frame_buffer *b = e->out;
    if (e->problem)
        return NULL;
    if (size > FRAME_SIZE - b->size) {
        e->problem = "is too large";
        return NULL;
    }
    if (b->room - b->size < size) {
        size_t room = (b->room + size) * 2;
        unsigned char *data = realloc(b->data, room);
        if (!data) {
            e->problem = "does not fit into memory";
            return NULL;
        }
        b->data = data;
        b->room = room;
    }
    b->size += size;
    return b->data + b->size - size;
}

static void little(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static void put(encoder *e, char tag, uint64_t value, int bytes) {
    unsigned char *to = grow(e, 1 + (size_t)bytes);
    if (!to)
        return;
    *to = (unsigned char)tag;
    little(to + 1, value, bytes);
}

static void encode_number(encoder *e, int index) {
    if (lua_isinteger(e->L, index)) {
        put(e, 'i', (uint64_t)lua_tointeger(e->L, index), 8);
        return;
    }
    double number = lua_tonumber(e->L, index);
    uint64_t bits;
    if (!isfinite(number)) {
        e->problem = "holds a number that is not finite";
        return;
    }
    memcpy(&bits, &number, sizeof bits);
    put(e, 'd', bits, 8);
}

static void encode_string(encoder *e, int index) {
    size_t size;
    const char *text = lua_tolstring(e->L, index, &size);
    if (size > FRAME_SIZE) {
        e->problem = "is too large";
        return;
    }
    put(e, 's', size, 4);
    unsigned char *to = grow(e, size);
    if (to && size)
        memcpy(to, text, size);
}

/* Whether a key is an integer that is none of a sequence of that length. */
static int is_sparse(lua_State *L, int key, uint64_t length) {
    return lua_isinteger(L, key) && (uint64_t)lua_tointeger(L, key) - 1 >= length;
}

static void encode_value(encoder *e, int index, int depth);

static void encode_table(encoder *e, int index, int depth) {
    uint32_t count = 0;
    if (depth >= FRAME_DEPTH || !lua_checkstack(e->L, 4)) {
        e->problem = "is nested too deeply, or in a circle";
        return;
    }
    size_t at = e->out->size + 1; /* the count is filled in at the end */
    lua_Unsigned length = lua_rawlen(e->L, index);
    put(e, 'T', 0, 4);
    lua_pushnil(e->L);
    while (!e->problem && lua_next(e->L, index)) {
        int key = lua_absindex(e->L, -2);
        if (lua_type(e->L, key) != LUA_TSTRING && !lua_isinteger(e->L, key))
            e->problem = "has a key that is neither a string nor an integer";
        else if (is_sparse(e->L, key, length) && ++e->sparse > FRAME_SPARSE)
            e->problem = "has too many integer keys that are in no sequence";
        encode_value(e, key, depth + 1);
        encode_value(e, key + 1, depth + 1);
        lua_pop(e->L, 1);
        count++;
    }
    if (e->problem)
        return; /* the caller restores the stack */
    little(e->out->data + at, count, 4);
}

static void encode_value(encoder *e, int index, int depth) {
    if (!e->problem && ++e->values > FRAME_VALUES)
        e->problem = "has too many values";
    if (e->problem)
        return;
    switch (lua_type(e->L, index)) {
    case LUA_TNIL:
        put(e, 'n', 0, 0);
        break;
    case LUA_TBOOLEAN:
        put(e, lua_toboolean(e->L, index) ? 't' : 'f', 0, 0);
        break;
    case LUA_TNUMBER:
        encode_number(e, index);
        break;
    case LUA_TSTRING:
        encode_string(e, index);
        break;
    case LUA_TTABLE:
        encode_table(e, index, depth);
        break;
    default:
        e->problem = "holds a function, thread or userdata";
    }
}

const char *frame_encode(frame_buffer *b, lua_State *L, int first) {
    encoder e = {b, L, 0, 0, NULL};
    int top = lua_gettop(L);
    if (top - first >= FRAME_TOP)
        return "is one of too many";
    for (int i = first; i <= top && !e.problem; i++)
        encode_value(&e, i, 0);
    lua_settop(L, top);
    return e.problem;
}

void frame_free(frame_buffer *b) {
    free(b->data);
    *b = (frame_buffer){0};
}

/* ---- bytes to values ---- */

typedef struct decoder {
    lua_State *L;
    const unsigned char *at, *end;
    size_t values, sparse;
} decoder;

static int take(decoder *d, int bytes, uint64_t *value) {
    if (d->end - d->at < bytes)
        return 0;
    *value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *value = *value << 8 | d->at[i];
    d->at += bytes;
    return 1;
}

/* Pushes one value; 0 when the bytes are wrong, and then the stack is left as it happens to be. */
static int decode_value(decoder *d, int depth);

static int decode_table(decoder *d, int depth) {
    uint64_t count;
    if (depth >= FRAME_DEPTH || !take(d, 4, &count) || count > (uint64_t)(d->end - d->at))
        return 0;
    lua_createtable(d->L, 0, 0);
    for (uint64_t i = 0; i < count; i++) {
        if (!decode_value(d, depth + 1))
            return 0;
        if (lua_type(d->L, -1) != LUA_TSTRING && !lua_isinteger(d->L, -1))
            return 0;
        if (is_sparse(d->L, -1, count) && ++d->sparse > FRAME_SPARSE)
            return 0;
        if (!decode_value(d, depth + 1))
            return 0;
        lua_rawset(d->L, -3);
    }
    return 1;
}

static int decode_value(decoder *d, int depth) {
    uint64_t bits;
    double number;
    if (d->at == d->end || ++d->values > FRAME_VALUES || !lua_checkstack(d->L, 4))
        return 0;
    switch (*d->at++) {
    case 'n':
        lua_pushnil(d->L);
        return 1;
    case 't':
    case 'f':
        lua_pushboolean(d->L, d->at[-1] == 't');
        return 1;
    case 'i':
        if (!take(d, 8, &bits))
            return 0;
        lua_pushinteger(d->L, (lua_Integer)bits);
        return 1;
    case 'd':
        if (!take(d, 8, &bits))
            return 0;
        memcpy(&number, &bits, sizeof number);
        if (!isfinite(number))
            return 0;
        lua_pushnumber(d->L, number);
        return 1;
    case 's':
        if (!take(d, 4, &bits) || bits > (uint64_t)(d->end - d->at))
            return 0;
        lua_pushlstring(d->L, (const char *)d->at, (size_t)bits);
        d->at += bits;
        return 1;
    case 'T':
        return decode_table(d, depth);
    default:
        return 0;
    }
}

const char *frame_decode(lua_State *L, const unsigned char *data, size_t size, int *count) {
    int top = lua_gettop(L);
    *count = 0;
    if (size == 0) /* no values; `data` may be NULL, to which nothing can be added */
        return NULL;
    decoder d = {L, data, data + size, 0, 0};
    while (d.at < d.end) {
        if (*count == FRAME_TOP || !decode_value(&d, 0)) {
            lua_settop(L, top);
            *count = 0;
            return "is not a well-formed frame";
        }
        ++*count;
    }
    return NULL;
}

/* ---- the socket ---- */

#define SPIN_SECONDS 60e-6

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double deadline_in(double seconds) {
    return seconds < 0 ? -1 : now() + seconds;
}

/* Whether time or patience is over: -1 with ETIMEDOUT or EINTR. */
static int check_time(double deadline) {
    if (system_interrupted())
        errno = EINTR;
    else if (deadline >= 0 && now() >= deadline)
        errno = ETIMEDOUT;
    else
        return 0;
    return -1;
}

/* Looks again and again for at most SPIN_SECONDS: the answer to most calls is there sooner than a
** sleeping core is awake (some 40 microseconds on a virtual machine). Yields between two looks, for
** the other end may need this core. Whether it is there now. */
static int is_soon(int fd, short events) {
    double end = now() + SPIN_SECONDS;
    do {
        struct pollfd p = {fd, events, 0};
        if (poll(&p, 1, 0) > 0)
            return 1;
        sched_yield();
    } while (now() < end);
    return 0;
}

/* Waits until there is something to read, or room to write: 0, or -1 with ETIMEDOUT or EINTR. A
** signal that comes just before poll does not end it, so the wait goes on in pieces. */
static int wait_for(int fd, short events, double deadline) {
    if (is_soon(fd, events))
        return 0;
    for (;;) {
        struct pollfd p = {fd, events, 0};
        double left = deadline < 0 ? 1 : deadline - now();
        int n = poll(&p, 1, left <= 0 ? 0 : left > 0.2 ? 200 : (int)(left * 1000) + 1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        if (check_time(deadline) != 0)
            return -1;
    }
}

static int send_all(int fd, const unsigned char *data, size_t size, double deadline) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (wait_for(fd, POLLOUT, deadline) != 0)
                return -1;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

int frame_send(int fd, double seconds, frame_kind kind, const void *data, size_t size) {
    unsigned char header[5];
    double deadline = deadline_in(seconds);
    if (size > FRAME_SIZE) {
        errno = EMSGSIZE;
        return -1;
    }
    little(header, size, 4);
    header[4] = (unsigned char)kind;
    if (send_all(fd, header, sizeof header, deadline) != 0)
        return -1;
    return send_all(fd, data, size, deadline);
}

/* Reads exactly `size` bytes. The number read (less only at the end of the stream), or -1. Whoever
** sends them one by one has no more time than others. */
static ssize_t receive_all(int fd, unsigned char *data, size_t size, double deadline) {
    size_t have = 0;
    while (have < size) {
        if ((have > 0 && check_time(deadline) != 0) || wait_for(fd, POLLIN, deadline) != 0)
            return -1;
        ssize_t n = recv(fd, data + have, size - have, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0 && errno != ECONNRESET)
            return -1;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

int frame_receive(int fd, double seconds, frame_kind *kind, frame_buffer *b) {
    unsigned char header[5];
    double deadline = deadline_in(seconds);
    ssize_t n = receive_all(fd, header, sizeof header, deadline);
    if (n <= 0)
        return (int)n;
    size_t size =
        header[0] | (size_t)header[1] << 8 | (size_t)header[2] << 16 | (size_t)header[3] << 24;
    if (n < (ssize_t)sizeof header || size > FRAME_SIZE) {
        errno = n < (ssize_t)sizeof header ? EBADMSG : EMSGSIZE;
        return -1;
    }
    if (b->room < size) {
        unsigned char *data = realloc(b->data, size);
        if (!data)
            return -1;
        b->data = data;
        b->room = size;
    }
    b->size = size;
    *kind = (frame_kind)header[4];
    n = receive_all(fd, b->data, size, deadline);
    if (n >= 0 && (size_t)n < size) {
        errno = EBADMSG;
        return -1;
    }
    return n < 0 ? -1 : 1;
}
