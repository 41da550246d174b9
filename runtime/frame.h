/*
** frame.h: what host and worker say to each other over their channel.
**
** A frame is length (u32, little-endian, of the payload), kind (one byte), payload. The payload is
** a sequence of Lua values in flat binary: a tag byte, then
**   'n' 't' 'f'   nil, true, false
**   'i' 'd'       an integer or a finite float, 8 bytes little-endian
**   's'           u32 length and the bytes
**   'T'           u32 count and so many pairs of key (string or integer) and value
** Depth, number of values and size are limited on both sides; anything else is refused, as are
** functions, userdata, metatables that lie and cycles (a cycle runs into the depth limit).
*/
#ifndef PRAXLUA_FRAME_H
#define PRAXLUA_FRAME_H

#include <lua.h>
#include <stddef.h>

enum {
    FRAME_DEPTH = 32,
    FRAME_VALUES = 1000000,
    FRAME_TOP = 250,      /* values that are in no table: each is an argument of some function */
    FRAME_SPARSE = 10000, /* integer keys that are in no sequence: they can be chosen so that each
                          ** costs Lua as much as there are */
    FRAME_SIZE = 64 * 1024 * 1024 /* bytes of one payload */
};

typedef enum {
    FRAME_READY = 'Y',  /* worker: its layers, as errno values: seccomp, Landlock */
    FRAME_START = 'S',  /* host: what to run */
    FRAME_CALL = 'C',   /* worker: a verb and its arguments */
    FRAME_ANSWER = 'A', /* host: true and results, or false, message, code */
    FRAME_RESULT = 'R', /* worker: what the script returned */
    FRAME_ERROR = 'E',  /* worker: the script failed; message, traceback */
    FRAME_VERDICT = 'V' /* worker: a limit ended it; name, limit, used */
} frame_kind;

/* Bytes of a payload, grown with realloc; zero to begin with. */
typedef struct frame_buffer {
    unsigned char *data;
    size_t size, room;
} frame_buffer;

/* Appends the values at stack positions `first`..top. NULL, or what is wrong with them. */
const char *frame_encode(frame_buffer *b, lua_State *L, int first);

/* Pushes the values of a payload and sets *count. NULL, or what is wrong with it; then nothing
** stays pushed. Raises only a Lua memory error. */
const char *frame_decode(lua_State *L, const unsigned char *data, size_t size, int *count);

void frame_free(frame_buffer *b);

/* Writes one frame to the socket, all of it. `seconds` < 0 waits for ever where the other side does
** not read. 0, or -1 with errno: ETIMEDOUT or EINTR (a signal was noted) leave half a frame there.
** Safe in a handler of signals. */
int frame_send(int fd, double seconds, frame_kind kind, const void *data, size_t size);

/* Reads one frame. `seconds` < 0 waits for ever. 1 for a frame, 0 at the end of the stream between
** frames, -1 with errno: ETIMEDOUT, EINTR (a signal was noted), EMSGSIZE (too long), EBADMSG (cut
** off). */
int frame_receive(int fd, double seconds, frame_kind *kind, frame_buffer *b);

#endif
