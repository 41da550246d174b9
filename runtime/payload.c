/*
** payload.c: strings and integers as bytes; see payload.h.
*/
#include "payload.h"

#include <stdlib.h>
#include <string.h>

void put_le(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

uint64_t get_le(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | from[i];
    return value;
}

static unsigned char *reserve(payload *p, size_t size) {
    if (!p->failed && p->room - p->size < size) {
        size_t room = (p->room + size) * 2;
        unsigned char *data = realloc(p->data, room);
        if (data) {
            p->data = data;
            p->room = room;
        } else {
            p->failed = 1;
        }
    }
    if (p->failed)
        return NULL;
    p->size += size;
    return p->data + p->size - size;
}

static void put_integer(payload *p, uint64_t value, int bytes) {
    unsigned char *to = reserve(p, (size_t)bytes);
    if (to)
        put_le(to, value, bytes);
}

void payload_u32(payload *p, uint32_t value) {
    put_integer(p, value, 4);
}

void payload_u64(payload *p, uint64_t value) {
    put_integer(p, value, 8);
}

void payload_bytes(payload *p, const void *data, size_t size) {
    payload_u32(p, (uint32_t)size);
    unsigned char *to = reserve(p, size);
    if (to && size)
        memcpy(to, data, size);
}

void payload_string(payload *p, const char *text) {
    payload_bytes(p, text, text ? strlen(text) : 0);
}

static uint64_t get_integer(payload *p, int bytes) {
    if (p->failed || p->size - p->at < (size_t)bytes) {
        p->failed = 1;
        return 0;
    }
    p->at += (size_t)bytes;
    return get_le(p->data + p->at - bytes, bytes);
}

uint32_t payload_get_u32(payload *p) {
    return (uint32_t)get_integer(p, 4);
}

uint64_t payload_get_u64(payload *p) {
    return get_integer(p, 8);
}

const unsigned char *payload_get_bytes(payload *p, size_t *size) {
    *size = payload_get_u32(p);
    if (p->failed || p->size - p->at < *size) {
        p->failed = 1;
        *size = 0;
        return NULL;
    }
    p->at += *size;
    return p->data + p->at - *size;
}

char *payload_get_string(payload *p) {
    size_t size;
    const unsigned char *from = payload_get_bytes(p, &size);
    char *text = p->failed ? NULL : malloc(size + 1);
    if (!text) {
        p->failed = 1;
        return NULL;
    }
    memcpy(text, from, size);
    text[size] = '\0';
    return text;
}

void payload_free(payload *p) {
    free(p->data);
    *p = (payload){0};
}
