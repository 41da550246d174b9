/*
** digest.c: SHA-256 over OpenSSL's EVP; see digest.h.
*/
#define _GNU_SOURCE
#include "digest.h"

#include "cancel.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct digest {
    EVP_MD_CTX *context;
    bool cancellable;
    unsigned char buffer[128 * 1024]; /* large reads keep the cost at the hash, not the call */
};

digest *digest_new(void) {
    digest *d = malloc(sizeof *d);
    if (!d)
        return NULL;
    d->cancellable = false;
    d->context = EVP_MD_CTX_new();
    if (!d->context || digest_reset(d) != 0) {
        digest_free(d);
        errno = ENOMEM;
        return NULL;
    }
    return d;
}

void digest_free(digest *d) {
    if (!d)
        return;
    EVP_MD_CTX_free(d->context);
    free(d);
}

/* OpenSSL reports no errno; the only way these calls fail is lack of memory. */
static int checked(int ok) {
    if (ok == 1)
        return 0;
    errno = ENOMEM;
    return -1;
}

int digest_reset(digest *d) {
    return checked(EVP_DigestInit_ex(d->context, EVP_sha256(), NULL));
}

int digest_add(digest *d, const void *data, size_t size) {
    return checked(EVP_DigestUpdate(d->context, data, size));
}

int digest_raw(digest *d, unsigned char out[DIGEST_SIZE]) {
    return checked(EVP_DigestFinal_ex(d->context, out, NULL));
}

int digest_hex(digest *d, char out[DIGEST_HEX]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[DIGEST_SIZE];
    if (digest_raw(d, raw) != 0)
        return -1;
    for (int i = 0; i < DIGEST_SIZE; i++) {
        out[2 * i] = digits[raw[i] >> 4];
        out[2 * i + 1] = digits[raw[i] & 15];
    }
    out[2 * DIGEST_SIZE] = '\0';
    return 0;
}

void digest_cancellable(digest *d) {
    d->cancellable = true;
}

int digest_fd(digest *d, int fd, char out[DIGEST_HEX], off_t *size) {
    off_t total = 0;
    if (digest_reset(d) != 0)
        return -1;
    for (;;) {
        ssize_t n = read(fd, d->buffer, sizeof d->buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        if (digest_add(d, d->buffer, (size_t)n) != 0 || (d->cancellable && cancel_asked() != 0))
            return -1;
        total += n;
    }
    if (size)
        *size = total;
    return digest_hex(d, out);
}
