/*
** archive_job.h: what the files behind core.archive share: archive.c (the functions of Lua),
** pack.c, members.c (an archive read member by member) and unpack.c.
**
** A function that can fail returns 0, or the number of values of an error that it has pushed
** (three: nil, message, code), which its caller returns in turn.
*/
#ifndef PRAXLUA_ARCHIVE_JOB_H
#define PRAXLUA_ARCHIVE_JOB_H

#include "core.h"
#include "digest.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { ARCHIVE_CHUNK = 256 * 1024 }; /* bytes per read of a file, and per call of libarchive */

/* What waits until every file is in place: links, which must not be written through, and the modes
** and times of directories, which are still being written in. */
typedef struct deferred {
    char *path;
    char *target; /* NULL for a directory */
    mode_t mode;
    struct timespec mtime;
} deferred;

typedef struct deferred_list {
    deferred *items;
    size_t count, room;
} deferred_list;

/* Everything one call holds. It is a userdata, to be closed by Lua, because a callback or a full
** memory may raise in the middle. */
typedef struct job {
    struct archive *archive;
    struct archive_entry *entry; /* of the writer */
    digest *whole, *content;     /* of the archive file, of the member at hand */
    locale_t locale;
    unsigned char *buffer; /* ARCHIVE_CHUNK bytes for file content */
    unsigned char *block;  /* ARCHIVE_CHUNK bytes for what libarchive reads */
    int file;              /* the archive */
    int root;              /* the directory packed from or unpacked into */
    int parent, member;    /* of the member at hand */
    int out_dir;           /* holds the archive being made, until that is finished */
    const char *out_name;  /* in it; points into the caller's string */
    int error;             /* errno of a failed callback, 0 for none */
    size_t have, given;    /* bytes in `block`, and of those handed to libarchive */
    int64_t most;          /* bytes that may come out of the archive, headers included */
    int64_t possible;      /* and that can at all, by the size of its file */
    bool packing;
    off_t archive_bytes;
    lua_Integer done; /* content bytes so far */
    int progress;     /* stack index of opts.progress, 0 for none */
    struct timespec told;
    deferred_list directories, links;
} job;

/* One member as its header tells it. The strings live until the next header. */
typedef struct member {
    const char *path, *target;
    size_t length; /* of path, without a final slash */
    mode_t type;   /* S_IFREG, S_IFDIR or S_IFLNK */
    mode_t mode;
    lua_Integer size;
    struct timespec mtime;
} member;

/* How much of an archive is read; counted down. */
typedef struct limits {
    lua_Integer bytes, entries;
} limits;

/* The parts every job needs. */
int job_equip(lua_State *L, job *j);

/* Counts `bytes` of content and tells opts.progress, at once and then ten times a second at most. A
** callback that returns false ends the job ("ECANCELED"), and so does cancel_asked(). */
int job_advance(lua_State *L, job *j, size_t bytes, const char *path);

/* 0, or the values pushed when the job is cancelled (cancel.h). For loops that job_advance does not
** end. */
int job_cancelled(lua_State *L, const char *path);

/* Pushes the reason of libarchive's last failure, or of the callback that made it fail. */
int job_failure(lua_State *L, job *j, const char *step, const char *path);

/* Pushes "ECHANGED" for a file that changed while it was read. */
int job_changed(lua_State *L, const char *path);

/* Frees what libarchive holds, without flushing anything. */
void job_free_archive(job *j);

/* Closes a descriptor that may be closed already (-1). */
void job_close(int *fd);

/* pack.c: packs the entries of the table at stack index 3 beneath `root` into the new file `out`
** and pushes the result of archive.create. Returns the number of values pushed, result or error. */
int pack(lua_State *L, job *j, const char *out, const char *root, lua_Integer level);

/* members.c: opens the archive; then, as often as wanted, begins at its start and takes the members
** in turn. members_next pushes nothing, and returns 1, 0 at the end, or -1 with an error pushed. It
** refuses what pack never writes, with the help of the table at stack index `seen`. */
int members_open(lua_State *L, job *j, const char *path);
int members_begin(lua_State *L, job *j, const char *path, const limits *most);
int members_next(lua_State *L, job *j, const char *path, int seen, limits *left, member *m);

/* Reads the content of the member at hand: hashes it into j->content when `hash`, and writes it to
** j->member when that is open. */
int members_content(lua_State *L, job *j, const char *path, const member *m, bool hash);

/* Ends the reading; `hex` receives the hash of the whole file. */
int members_end(lua_State *L, job *j, const char *path, char hex[DIGEST_HEX]);

/* unpack.c: pushes the result of archive.read, or makes the members beneath `directory` and pushes
** the result of archive.extract. Both return the number of values pushed, result or error. */
int unpack_list(lua_State *L, job *j, const char *path, limits left);
int unpack(lua_State *L, job *j, const char *path, const char *directory, limits most);

#endif
