/*
** archive.c: fuzz target "archive": a backup's archive, read and unpacked. The first byte of the
** input chooses what the rest is:
**   bit 0  a tar, to be wrapped into zstd (in raw blocks, which need no compressor); else the file
**   bit 1  in which the checksum of every header is made right, so that damage gets past it
**
** What read refuses extract must refuse before it makes anything, with the same code; and nothing
** beside the directory of the extraction may change, whatever happens.
*/
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 512,                  /* of tar */
    RAW = 128 * 1024,             /* the largest block of zstd */
    MOST_BYTES = 4 * 1024 * 1024, /* limits given to praxlua */
    MOST_ENTRIES = 2000
};

static char place[300], file[320], out[320], canary[320];
static const char canary_text[] = "untouched";
static ino_t canary_inode;

/* ---- the input made into a file ---- */

static size_t octal(const uint8_t *field, size_t size) {
    size_t value = 0;
    for (size_t i = 0; i < size && (field[i] == ' ' || (field[i] >= '0' && field[i] <= '7')); i++)
        value = field[i] == ' ' ? value : value * 8 + (field[i] - '0');
    return value;
}

/* Walks from header to header as a reader would and puts the right checksum into each. */
static void mend_checksums(uint8_t *tar, size_t size) {
    for (size_t at = 0; at + BLOCK <= size;) {
        uint8_t *header = tar + at;
        unsigned sum = 0;
        memset(header + 148, ' ', 8);
        for (int i = 0; i < BLOCK; i++)
            sum += header[i];
        if (sum == 8 * ' ') /* a block of zeros stays one */
            memset(header + 148, 0, 8);
        else
            snprintf((char *)header + 148, 8, "%06o", sum & 0777777);
        size_t content = octal(header + 124, 12);
        if (content > size)
            content = 0;
        at += BLOCK + (content + BLOCK - 1) / BLOCK * BLOCK;
    }
}

/* A zstd frame of raw blocks. The caller frees it. */
static uint8_t *wrapped(const uint8_t *data, size_t size, size_t *total) {
    static const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58}; /* a window of 2 MiB */
    uint8_t *to = malloc(sizeof head + size + 3 * (size / RAW + 1)), *at = to;
    memcpy(at, head, sizeof head);
    at += sizeof head;
    do {
        size_t part = size < RAW ? size : RAW;
        size_t word = part << 3 | (part == size);
        for (int i = 0; i < 3; i++)
            *at++ = (uint8_t)(word >> (8 * i));
        memcpy(at, data, part);
        at += part, data += part, size -= part;
    } while (size > 0);
    *total = (size_t)(at - to);
    return to;
}

static void write_input(const uint8_t *data, size_t size) {
    int mode = size > 0 ? data[0] & 3 : 0;
    size_t total = size > 0 ? size - 1 : 0;
    uint8_t *tar = malloc(total + 1), *whole = tar;
    if (total > 0)
        memcpy(tar, data + 1, total);
    if ((mode & 1) && (mode & 2))
        mend_checksums(tar, total);
    if (mode & 1)
        whole = wrapped(tar, total, &total);
    fuzz_write(file, whole, total);
    if (whole != tar)
        free(whole);
    free(tar);
}

/* ---- what must hold ---- */

static int count_entries(const char *path) {
    DIR *d = opendir(path);
    int count = 0;
    if (!d)
        return -1;
    while (readdir(d))
        count++;
    closedir(d);
    return count - 2;
}

/* The file beside the extraction is the same file with the same content, and still alone there. */
static void check_canary(void) {
    struct stat st;
    char text[sizeof canary_text + 1] = "";
    FILE *f = fopen(canary, "re");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f)
        fclose(f);
    if (lstat(canary, &st) != 0 || st.st_ino != canary_inode || (st.st_mode & 07777) != 0600 ||
        st.st_nlink != 1 || n != sizeof canary_text || memcmp(text, canary_text, n) != 0)
        fuzz_finding("the file beside the extraction was changed");
    if (count_entries(place) != 3)
        fuzz_finding("something was made beside the extraction");
}

static void check_code(const char *call, const char *code) {
    static const char *const known[] = {"EBADARCHIVE", "EFBIG",  "EEXIST", "ENAMETOOLONG",
                                        "ENOTREG",     "ENOSPC", NULL};
    for (int i = 0; known[i]; i++)
        if (strcmp(code, known[i]) == 0)
            return;
    fuzz_finding("%s fails with %s", call, code);
}

/* Calls core.archive.FUNCTION(...). Leaves the result, or the code of the error as a string. */
static bool call(lua_State *L, const char *function, int arguments) {
    lua_getfield(L, 1, function);
    lua_insert(L, -1 - arguments);
    int at = lua_gettop(L) - arguments;
    fuzz_call(L, arguments, 3);
    if (lua_istable(L, at)) {
        lua_settop(L, at);
        return true;
    }
    if (!lua_isnil(L, at) || lua_type(L, at + 1) != LUA_TSTRING ||
        lua_type(L, at + 2) != LUA_TSTRING)
        fuzz_finding("%s fails in another shape than nil, message, code", function);
    check_code(function, lua_tostring(L, at + 2));
    lua_replace(L, at);
    lua_settop(L, at);
    return false;
}

static void push_limits(lua_State *L) {
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, MOST_BYTES);
    lua_setfield(L, -2, "max_bytes");
    lua_pushinteger(L, MOST_ENTRIES);
    lua_setfield(L, -2, "max_entries");
}

/* Every entry has a path beneath the root, a kind and what belongs to that. */
static void check_entries(lua_State *L, int result) {
    lua_getfield(L, result, "entries");
    lua_Integer n = luaL_len(L, -1);
    if (n > MOST_ENTRIES)
        fuzz_finding("%d entries, more than allowed", (int)n);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, -1, i);
        lua_getfield(L, -1, "path");
        lua_getfield(L, -2, "type");
        const char *path = lua_tostring(L, -2), *type = lua_tostring(L, -1);
        if (!path || !type || *path == '/' || !*path || strcmp(path, "..") == 0 ||
            strncmp(path, "../", 3) == 0 || strstr(path, "/../") != NULL)
            fuzz_finding("an entry has the path %s", path ? path : "nil");
        lua_getfield(L, -3, *type == 'f' ? "sha256" : *type == 'l' ? "target" : "path");
        if (lua_type(L, -1) != LUA_TSTRING)
            fuzz_finding("an entry of type %s lacks something", type);
        lua_pop(L, 4);
    }
    lua_pop(L, 1);
}

static void prepare(void) {
    struct stat st;
    if (*place)
        return;
    snprintf(place, sizeof place, "%s/archive", fuzz_scratch());
    snprintf(file, sizeof file, "%s/backup.tar.zst", place);
    snprintf(out, sizeof out, "%s/out", place);
    snprintf(canary, sizeof canary, "%s/canary", place);
    mkdir(place, 0700);
    fuzz_write(canary, canary_text, sizeof canary_text);
    if (stat(canary, &st) != 0)
        exit(2);
    canary_inode = st.st_ino;
}

int luaopen_praxlua_archive(lua_State *L);

static void run(const uint8_t *data, size_t size) {
    prepare();
    write_input(data, size);
    fuzz_remove(out);
    mkdir(out, 0700);
    lua_State *L = luaL_newstate();
    luaopen_praxlua_archive(L);

    lua_pushstring(L, file);
    push_limits(L);
    bool readable = call(L, "read", 2);
    if (readable)
        check_entries(L, 2);

    lua_pushstring(L, file);
    lua_pushstring(L, out);
    push_limits(L);
    bool extracted = call(L, "extract", 3);
    if (!readable && (extracted || count_entries(out) != 0))
        fuzz_finding("what cannot be read is unpacked");
    if (!readable && strcmp(lua_tostring(L, 2), lua_tostring(L, 3)) != 0)
        fuzz_finding("read says %s, extract %s", lua_tostring(L, 2), lua_tostring(L, 3));
    if (readable && extracted) {
        lua_getfield(L, 2, "archive_sha256");
        lua_getfield(L, 3, "archive_sha256");
        if (!lua_rawequal(L, -1, -2))
            fuzz_finding("read and extract saw another archive");
    }
    lua_close(L);
    check_canary();
}

const fuzz_target fuzz_archive = {"archive", run};
