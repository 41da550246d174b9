/*
** payload.h: what a journal record carries: strings and integers in a fixed order, without names.
*/
#ifndef PRAXLUA_PAYLOAD_H
#define PRAXLUA_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

/* A payload being built or read. Begins as zeros. */
typedef struct payload {
    unsigned char *data;
    size_t size, room;
    size_t at;  /* read position */
    int failed; /* out of memory while writing, out of data while reading */
} payload;

void payload_u32(payload *p, uint32_t value);
void payload_u64(payload *p, uint64_t value);
void payload_bytes(payload *p, const void *data, size_t size);
void payload_string(payload *p, const char *text); /* NULL is written as "" */
uint32_t payload_get_u32(payload *p);
uint64_t payload_get_u64(payload *p);
/* Returns a pointer into the payload, not ended by a NUL, and its size. */
const unsigned char *payload_get_bytes(payload *p, size_t *size);
/* Returns a new string that the caller frees, or NULL (and sets failed). */
char *payload_get_string(payload *p);
void payload_free(payload *p);

/* Little-endian integers of up to 8 bytes. */
void put_le(unsigned char *to, uint64_t value, int bytes);
uint64_t get_le(const unsigned char *from, int bytes);

#endif
