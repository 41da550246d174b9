/*
** hash.c: core.hash: SHA-256 of strings, files and streams, and git's names for file contents.
** All results are lower-case hexadecimal strings.
*/
#define _GNU_SOURCE
#include "cancel.h"
#include "core.h"
#include "digest.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ======================= SHA-256 ======================= */

#define STREAM "praxlua.hash"

/* Raises what can only be want of memory. */
static int no_memory(lua_State *L) {
    return luaL_error(L, "hash: not enough memory");
}

/* Pushes a stream, whose digest lives as long as it does; used by all SHA-256 here, so that an
** error of Lua cannot leak one. */
static digest *push_stream(lua_State *L) {
    digest **stream = lua_newuserdatauv(L, sizeof *stream, 0);
    *stream = NULL;
    luaL_setmetatable(L, STREAM);
    *stream = digest_new();
    if (!*stream)
        no_memory(L);
    return *stream;
}

static void end_stream(lua_State *L, int arg) {
    digest **stream = luaL_checkudata(L, arg, STREAM);
    digest_free(*stream);
    *stream = NULL;
}

/* sha256(data) -> hex */
static int hash_sha256(lua_State *L) {
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    char hex[DIGEST_HEX];
    digest *sha = push_stream(L);
    if (digest_add(sha, data, size) < 0 || digest_hex(sha, hex) < 0)
        return no_memory(L);
    end_stream(L, -1);
    lua_pushstring(L, hex);
    return 1;
}

/* file(path) -> hex, size in bytes | nil, message, code
** Regular files only: anything else, a link too, is refused with "ENOTREG" and never opened. Can be
** cancelled (core.cancel). */
static int hash_file(lua_State *L) {
    const char *path = core_check_path(L, 1);
    char hex[DIGEST_HEX];
    off_t size = 0;
    digest *sha = push_stream(L);
    int fd = path_open_regular(AT_FDCWD, path, NULL);
    if (fd < 0)
        return core_errno(L, errno, "open", path);
    digest_cancellable(sha);
    int rc = digest_fd(sha, fd, hex, &size);
    int error = errno;
    close(fd);
    end_stream(L, -1);
    if (rc < 0)
        return core_errno(L, error, "read", path);
    lua_pushstring(L, hex);
    lua_pushinteger(L, size);
    return 2;
}

/* new() -> h: a SHA-256 that takes its input piece by piece. */
static int hash_new(lua_State *L) {
    push_stream(L);
    return 1;
}

static digest *check_stream(lua_State *L) {
    digest **stream = luaL_checkudata(L, 1, STREAM);
    luaL_argcheck(L, *stream, 1, "this hash has ended");
    return *stream;
}

/* h:update(data) -> h */
static int stream_update(lua_State *L) {
    digest *sha = check_stream(L);
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    if (digest_add(sha, data, size) < 0)
        return no_memory(L);
    lua_settop(L, 1);
    return 1;
}

/* h:hex() -> hex: the digest; ends the stream, which takes nothing more. */
static int stream_hex(lua_State *L) {
    digest *sha = check_stream(L);
    char hex[DIGEST_HEX];
    int rc = digest_hex(sha, hex);
    end_stream(L, 1);
    if (rc < 0)
        return no_memory(L);
    lua_pushstring(L, hex);
    return 1;
}

static int stream_close(lua_State *L) {
    end_stream(L, 1);
    return 0;
}

/* ======================= Git's blob names ======================= */

/*
** Git names a blob by the SHA-1 of "blob SIZE\0" and the bytes. Adds `data`, or when it is NULL the
** rest of `fd`, which must be `size` bytes: CORE_ECHANGED otherwise. Returns 0, or -1 with errno.
*/
static int blob_add(EVP_MD_CTX *sha, const char *data, int fd, size_t size) {
    char chunk[32 * 1024];
    size_t total = 0;
    ssize_t n = 1;
    errno = ENOMEM; /* the only way OpenSSL fails here */
    if (data)
        return EVP_DigestUpdate(sha, data, size) ? 0 : -1;
    while (n > 0) {
        n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0 || !EVP_DigestUpdate(sha, chunk, (size_t)n) || cancel_asked() != 0)
            return -1;
        total += (size_t)n;
    }
    errno = CORE_ECHANGED;
    return total == size ? 0 : -1;
}

/* Writes the blob's name; 0, or -1 with errno. */
static int blob_name(const char *data, int fd, size_t size, char hex[2 * EVP_MAX_MD_SIZE + 1]) {
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    char header[32];
    int rc = -1;
    int header_size = snprintf(header, sizeof header, "blob %zu", size) + 1;
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    errno = ENOMEM;
    if (sha && EVP_DigestInit_ex(sha, EVP_sha1(), NULL) &&
        EVP_DigestUpdate(sha, header, (size_t)header_size))
        rc = blob_add(sha, data, fd, size);
    if (rc == 0 && !EVP_DigestFinal_ex(sha, raw, &length))
        rc = -1;
    for (unsigned int i = 0; i < length; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", raw[i]);
    int saved = errno;
    EVP_MD_CTX_free(sha);
    errno = saved;
    return rc;
}

/* git_blob_data(data) -> hex: the name git gives to a blob of these bytes. */
static int hash_git_blob_data(lua_State *L) {
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    if (blob_name(data, -1, size, hex) < 0)
        return no_memory(L);
    lua_pushstring(L, hex);
    return 1;
}

/* git_blob(path) -> hex | nil, message, code: the name of the file's bytes as they are, without
** git's filters (line endings, LFS). Refuses and can be cancelled like file(); "ECHANGED" when the
** file grew or shrank meanwhile. */
static int hash_git_blob(lua_State *L) {
    const char *path = core_check_path(L, 1);
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    struct stat st;
    int fd = path_open_regular(AT_FDCWD, path, &st);
    if (fd < 0)
        return core_errno(L, errno, "open", path);
    int rc = blob_name(NULL, fd, (size_t)st.st_size, hex);
    int error = errno;
    close(fd);
    if (rc < 0)
        return core_errno(L, error, "read", path);
    lua_pushstring(L, hex);
    return 1;
}

static const luaL_Reg stream_methods[] = {
    {"update", stream_update}, {"hex", stream_hex}, {"__gc", stream_close},
    {"__close", stream_close}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"sha256", hash_sha256},
    {"file", hash_file},
    {"new", hash_new},
    {"git_blob", hash_git_blob},
    {"git_blob_data", hash_git_blob_data},
    {NULL, NULL},
};

int luaopen_praxlua_hash(lua_State *L) {
    return core_open(L, STREAM, stream_methods, functions);
}
