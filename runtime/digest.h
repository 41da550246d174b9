/*
** digest.h: SHA-256 for the C side, over OpenSSL's EVP. The Lua side has hash.c.
*/
#ifndef PRAXLUA_DIGEST_H
#define PRAXLUA_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { DIGEST_SIZE = 32, DIGEST_HEX = 2 * DIGEST_SIZE + 1 /* with the ending NUL */ };

typedef struct digest digest;

/* A new SHA-256 in progress, or NULL with errno ENOMEM. */
digest *digest_new(void);
void digest_free(digest *d); /* NULL is allowed */

/* Starts over, so that one object serves many files. 0, or -1 with errno ENOMEM. */
int digest_reset(digest *d);
int digest_add(digest *d, const void *data, size_t size);

/* Ends the digest and writes its raw bytes, or lower-case hex. A reset must follow. */
int digest_raw(digest *d, unsigned char out[DIGEST_SIZE]);
int digest_hex(digest *d, char out[DIGEST_HEX]);

/* From now on digest_fd can be cancelled (cancel.h). */
void digest_cancellable(digest *d);

/* The digest of everything from the descriptor's position on. `size`, when not NULL, receives the
** number of bytes read. 0, or -1 with errno. */
int digest_fd(digest *d, int fd, char out[DIGEST_HEX], off_t *size);

#endif
