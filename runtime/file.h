/*
** file.h: what core.root shares with core.file.
*/
#ifndef PRAXLUA_FILE_H
#define PRAXLUA_FILE_H

#include <lua.h>
#include <sys/stat.h>

/* "file", "directory", "link" or "other". */
const char *file_type(mode_t mode);

/* Pushes {type, mode (07777), size, mtime (ns), inode, device, links, uid, gid}. */
void file_push_stat(lua_State *L, const struct stat *st);

/* Pushes the target of the link `name` beneath `dir` and returns 1; on failure pushes nothing and
** returns 0 with errno. */
int file_push_target(lua_State *L, int dir, const char *name);

/* Pushes the bytes of the open regular file `fd`, at most `limit` of them, and returns 1. When it
** cannot: pushes nil, message, code ("EFBIG" for a longer file) and returns 3. `path` is for the
** message. The caller guards `fd`: this raises when memory runs out. */
int file_push_content(lua_State *L, int fd, lua_Integer limit, const char *path);

/* The default for `limit`: 64 MiB. */
#define FILE_LIMIT ((lua_Integer)64 * 1024 * 1024)

/* The optional argument `limit` in bytes; raises when it is negative. */
lua_Integer file_opt_limit(lua_State *L, int arg);

#endif
