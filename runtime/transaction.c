/*
** transaction.c: transactions for Lua.
**
** local t = transaction.open(root, path, { create = true, disposable = "__pycache__" })
** transaction.RESERVE_BYTES, RESERVE_INODES: what the folder of a transaction takes beside the
** staged files, their second names and the journal; bytes grow by four times the journal.
** Methods return nil, message, code on failure. Paths are relative to the root. Codes of their
** own: "ECHANGED" somebody changed the path meanwhile, "EBADJOURNAL" a damaged journal,
** "EFORMAT" a journal of a newer praxlua, "ELOST" old content that an undo needs is gone.
*/
#define _GNU_SOURCE
#include "transaction.h"

#include "core.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TYPE "praxlua.transaction"

static int failure(lua_State *L, transaction *t) {
    int error = errno;
    const char *where = t->where ? t->where : "?";
    const char *step = t->step ? t->step : "use";
    switch (error) {
    case ESTALE:
        return core_fail(L, "ECHANGED", "%s %s: it was changed meanwhile", step, where);
    case EBADMSG:
        return core_fail(L, "EBADJOURNAL", "%s %s: the journal is damaged", step, where);
    case TRANSACTION_ELOST:
        return core_fail(L, "ELOST", "%s %s: its old content is lost", step, where);
    case EPROTONOSUPPORT:
        return core_fail(L, "EFORMAT", "%s %s: written by a newer praxlua", step, where);
    default:
        return core_errno(L, error, step, where);
    }
}

static transaction *check(lua_State *L) {
    transaction *t = luaL_checkudata(L, 1, TYPE);
    luaL_argcheck(L, t->root >= 0, 1, "the transaction is closed");
    return t;
}

/* open(root, path, options?) -> t. options: create, disposable (a folder name). */
static int l_open(lua_State *L) {
    const char *root = core_check_path(L, 1);
    const char *path = core_check_path(L, 2);
    bool create = core_opt_boolean(L, 3, "create", 0);
    const char *disposable = core_opt_string(L, 3, "disposable", NULL);
    transaction *t = lua_newuserdatauv(L, sizeof *t, 0);
    *t = (transaction){.root = -1, .dir = -1, .stage = -1, .undo = -1, .log = JOURNAL_CLOSED};
    luaL_setmetatable(L, TYPE);
    if (transaction_open(t, root, path, create, disposable) == 0)
        return 1;
    int results = failure(L, t);
    int saved = errno;
    transaction_close(t);
    errno = saved;
    return results;
}

/* Compares what the change queued last found with options.old and options.sha256: a hash,
** "link:TARGET", or false for absent. NULL when they agree. */
static const char *disagreement(lua_State *L, const change *c, int options) {
    const char *problem = NULL;
    if (lua_isnoneornil(L, options))
        return NULL;
    if (lua_getfield(L, options, "old") == LUA_TBOOLEAN) {
        if (c->before.type != STATE_ABSENT)
            problem = "something stands there meanwhile";
    } else if (!lua_isnil(L, -1)) {
        const char *old = lua_tostring(L, -1);
        bool link = strncmp(old, "link:", 5) == 0;
        if (c->before.type != (link ? STATE_LINK : STATE_FILE) ||
            strcmp(link ? old + 5 : old, c->before.content) != 0)
            problem = "it was changed meanwhile";
    }
    lua_pop(L, 1);
    if (!problem && lua_getfield(L, options, "sha256") == LUA_TSTRING) {
        if (c->after.type == STATE_FILE && strcmp(lua_tostring(L, -1), c->after.content) != 0)
            problem = "its new content is not the content that was planned";
        lua_pop(L, 1);
    }
    return problem;
}

/* Raises when options.old or options.sha256 is no expectation. */
static void check_expectations(lua_State *L, int options) {
    if (lua_isnoneornil(L, options))
        return;
    core_opt_string(L, options, "sha256", NULL);
    int type = lua_getfield(L, options, "old");
    if (type != LUA_TNIL && type != LUA_TSTRING && (type != LUA_TBOOLEAN || lua_toboolean(L, -1)))
        luaL_error(L, "option 'old' must be a string or false");
    lua_pop(L, 1);
}

static int check_mode(lua_State *L, int arg, lua_Integer mode) {
    luaL_argcheck(L, mode >= 0 && mode <= 07777, arg, "a mode has permission bits only");
    return (int)mode;
}

/* options.mode, or -1 when there is none. */
static int opt_mode(lua_State *L, int options) {
    lua_Integer mode = core_opt_integer(L, options, "mode", LUA_MAXINTEGER);
    return mode == LUA_MAXINTEGER ? -1 : check_mode(L, options, mode);
}

/* The common end of every queueing call: true, changed. */
static int queued(lua_State *L, transaction *t, int result, const char *path, int options) {
    if (result < 0)
        return failure(L, t);
    if (result > 0) {
        const char *problem = disagreement(L, transaction_last(t), options);
        if (problem) {
            transaction_clear(t);
            return core_fail(L, "ECHANGED", "change %s: %s", path, problem);
        }
    }
    lua_pushboolean(L, 1);
    lua_pushboolean(L, result);
    return 2;
}

/* t:put(path, options) -> true, changed. options: data (a string) or from (a file's path), mode
** (permission bits; absent: the old file's, else 0644), old and sha256 (expectations). */
static int l_put(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    check_expectations(L, 3);
    int mode = opt_mode(L, 3);
    const char *from = core_opt_string(L, 3, "from", NULL);
    size_t size = 0;
    const char *data = NULL;
    int fd = -1;
    if (from) {
        fd = path_open_regular(AT_FDCWD, from, NULL);
        if (fd < 0)
            return core_errno(L, errno, "open", from);
    } else {
        lua_getfield(L, 3, "data");
        data = luaL_checklstring(L, -1, &size);
    }
    int result = transaction_put(t, path, fd, data, size, mode);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return queued(L, t, result, path, 3);
}

/* t:symlink(path, target, options?) -> true, changed */
static int l_symlink(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    const char *target = core_check_path(L, 3);
    check_expectations(L, 4);
    return queued(L, t, transaction_symlink(t, path, target), path, 4);
}

/* t:remove(path, options?) -> true, changed */
static int l_remove(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    check_expectations(L, 3);
    return queued(L, t, transaction_remove(t, path), path, 3);
}

/* t:mkdir(path, options?) -> true, changed. options: mode (absent: what the umask leaves) */
static int l_mkdir(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    int mode = opt_mode(L, 3);
    return queued(L, t, transaction_mkdir(t, path, mode), path, 4);
}

/* t:rmdir(path) -> true, changed. The folder goes only if it is empty when the batch is applied. */
static int l_rmdir(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    return queued(L, t, transaction_rmdir(t, path), path, 4);
}

/* t:mode(path, mode) -> true, changed: of a folder. */
static int l_mode(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    int mode = check_mode(L, 3, luaL_checkinteger(L, 3));
    return queued(L, t, transaction_mode(t, path, mode), path, 4);
}

/* t:stage() -> number, name: a free place "stage/NUMBER" in the transaction's folder, for a
** directory that the caller fills and hands to exchange. */
static int l_stage(lua_State *L) {
    transaction *t = check(L);
    lua_pushinteger(L, t->next);
    lua_pushfstring(L, "stage/%d", (int)t->next);
    t->next++;
    return 2;
}

/* t:exchange(path, number) -> true, changed. number: from stage */
static int l_exchange(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    lua_Integer number = luaL_checkinteger(L, 3);
    luaL_argcheck(L, number >= 0 && number <= UINT32_MAX, 3, "no number of a staged directory");
    return queued(L, t, transaction_exchange_with(t, path, (uint32_t)number), path, 4);
}

/* t:apply() -> number of changes */
static int l_apply(lua_State *L) {
    transaction *t = check(L);
    int count = transaction_apply(t);
    if (count < 0)
        return failure(L, t);
    lua_pushinteger(L, count);
    return 1;
}

/* t:clear(): forgets the queue */
static int l_clear(lua_State *L) {
    transaction_clear(check(L));
    return 0;
}

static int done(lua_State *L, transaction *t, int rc) {
    if (rc != 0)
        return failure(L, t);
    lua_pushboolean(L, 1);
    return 1;
}

/* t:checkpoint(note) -> true. The note, any string, comes back from last_checkpoint. */
static int l_checkpoint(lua_State *L) {
    size_t size;
    transaction *t = check(L);
    const char *note = luaL_checklstring(L, 2, &size);
    return done(L, t, transaction_checkpoint(t, note, size));
}

/* t:last_checkpoint() -> note | nil */
static int l_last_checkpoint(lua_State *L) {
    transaction *t = check(L);
    if (t->checkpoint)
        lua_pushlstring(L, (const char *)t->note, t->note_size);
    else
        lua_pushnil(L);
    return 1;
}

/* t:last_note() -> note | nil: of the last checkpoint there was, also when it was undone */
static int l_last_note(lua_State *L) {
    transaction *t = check(L);
    if (t->note)
        lua_pushlstring(L, (const char *)t->note, t->note_size);
    else
        lua_pushnil(L);
    return 1;
}

/* What was kept since it was told last, and is still there. */
static int pushed_kept(lua_State *L, transaction *t) {
    struct stat st;
    lua_Integer n = 0;
    lua_newtable(L);
    for (; t->kept_told < t->kept_count; t->kept_told++) {
        const char *name, *path = t->kept[t->kept_told];
        int dir = path_parent(t->root, path, &name, false);
        if (dir < 0)
            continue;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            lua_pushstring(L, path);
            lua_rawseti(L, -2, ++n);
        }
        close(dir);
    }
    return 1;
}

/* t:rewind() -> kept: undoes what came after the last checkpoint. */
static int l_rewind(lua_State *L) {
    transaction *t = check(L);
    uint64_t to = t->undoing && t->undo_to < t->checkpoint ? t->undo_to : t->checkpoint;
    return transaction_undo(t, to) == 0 ? pushed_kept(L, t) : failure(L, t);
}

/* t:rollback() -> kept: undoes everything. kept: paths under which changes of others, found in the
** way, were kept; those of an undo that was cut short are among them. */
static int l_rollback(lua_State *L) {
    transaction *t = check(L);
    return transaction_undo(t, 0) == 0 ? pushed_kept(L, t) : failure(L, t);
}

/* t:kept() -> what was kept and not told yet, for when a rollback does not complete */
static int l_kept(lua_State *L) {
    return pushed_kept(L, check(L));
}

/* t:lost() -> array of { path, sha256 = string | nil }: what the last rewind or rollback, which
** failed with "ELOST", could not bring back; sha256: of a file, which supply can help with. */
static int l_lost(lua_State *L) {
    const transaction *t = check(L);
    lua_createtable(L, (int)t->lost_count, 0);
    for (size_t i = 0; i < t->lost_count; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, t->lost[i]->path);
        lua_setfield(L, -2, "path");
        if (t->lost[i]->before.type == STATE_FILE) {
            lua_pushstring(L, t->lost[i]->before.content);
            lua_setfield(L, -2, "sha256");
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* t:supply(path, from) -> true: gives the undo a copy of a lost file, from a backup; then rollback
** (or rewind) once more. "ECHANGED" when it is not the very content. */
static int l_supply(lua_State *L) {
    transaction *t = check(L);
    const char *path = core_check_path(L, 2);
    const char *from = core_check_path(L, 3);
    int fd = path_open_regular(AT_FDCWD, from, NULL);
    if (fd < 0)
        return core_errno(L, errno, "open", from);
    int rc = transaction_supply(t, path, fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return done(L, t, rc);
}

/* t:mended() -> whether a damaged or missing copy of the journal was mended when it was opened */
static int l_mended(lua_State *L) {
    lua_pushboolean(L, check(L)->log.mended);
    return 1;
}

/* t:commit() -> true */
static int l_commit(lua_State *L) {
    transaction *t = check(L);
    return done(L, t, transaction_commit(t));
}

/* t:rescue() -> kept: what somebody wrote into files that are in the transaction's folder by now
** gets names of its own. For the time before the folder is deleted, which must not be when this
** fails. */
static int l_rescue(lua_State *L) {
    transaction *t = check(L);
    return transaction_rescue(t) == 0 ? pushed_kept(L, t) : failure(L, t);
}

/* t:sequence() -> number of records in the journal */
static int l_sequence(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)check(L)->log.sequence);
    return 1;
}

/* t:status() -> "open" | "undoing" (an undo of everything began and did not end) | "committed" */
static int l_status(lua_State *L) {
    const transaction *t = check(L);
    const char *status = "open";
    if (t->committed)
        status = "committed";
    else if (t->undoing && t->undo_to == 0)
        status = "undoing";
    lua_pushstring(L, status);
    return 1;
}

static const char *kind_name(change_kind kind) {
    static const char *const names[] = {
        [CHANGE_PUT] = "put",     [CHANGE_LINK] = "symlink", [CHANGE_REMOVE] = "remove",
        [CHANGE_MKDIR] = "mkdir", [CHANGE_RMDIR] = "rmdir",  [CHANGE_EXCHANGE] = "exchange",
        [CHANGE_MODE] = "mode"};
    return names[kind];
}

/* What a change left: a hash, "link:TARGET", or false for nothing and folders. */
static void push_after(lua_State *L, const state *s) {
    if (s->type == STATE_FILE)
        lua_pushstring(L, s->content);
    else if (s->type == STATE_LINK)
        lua_pushfstring(L, "link:%s", s->content);
    else
        lua_pushboolean(L, 0);
}

/* t:changes() -> array of { path, kind, after } of every change in force, and for an exchanged
** directory either `made` (true: there was none before) or `original`: where in the transaction's
** folder the old one lies, as long as it does */
static int l_changes(lua_State *L) {
    const transaction *t = check(L);
    lua_Integer n = 0;
    lua_newtable(L);
    for (size_t b = 0; b < t->batch_count; b++) {
        if (t->batches[b].undone)
            continue;
        for (size_t i = 0; i < t->batches[b].count; i++) {
            const change *c = &t->batches[b].changes[i];
            lua_createtable(L, 0, 3);
            lua_pushstring(L, c->path);
            lua_setfield(L, -2, "path");
            lua_pushstring(L, kind_name(c->kind));
            lua_setfield(L, -2, "kind");
            push_after(L, &c->after);
            lua_setfield(L, -2, "after");
            char original[16];
            if (c->kind == CHANGE_EXCHANGE && c->before.type == STATE_ABSENT) {
                lua_pushboolean(L, 1);
                lua_setfield(L, -2, "made");
            } else if (c->kind == CHANGE_EXCHANGE && transaction_original(t, c, original) == 0) {
                lua_pushfstring(L, "stage/%s", original);
                lua_setfield(L, -2, "original");
            }
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

/* t:close() */
static int l_close(lua_State *L) {
    transaction_close(luaL_checkudata(L, 1, TYPE));
    return 0;
}

static const luaL_Reg methods[] = {
    {"put", l_put},
    {"symlink", l_symlink},
    {"remove", l_remove},
    {"mkdir", l_mkdir},
    {"rmdir", l_rmdir},
    {"mode", l_mode},
    {"stage", l_stage},
    {"exchange", l_exchange},
    {"apply", l_apply},
    {"clear", l_clear},
    {"checkpoint", l_checkpoint},
    {"last_checkpoint", l_last_checkpoint},
    {"last_note", l_last_note},
    {"rewind", l_rewind},
    {"rollback", l_rollback},
    {"commit", l_commit},
    {"rescue", l_rescue},
    {"kept", l_kept},
    {"lost", l_lost},
    {"supply", l_supply},
    {"mended", l_mended},
    {"sequence", l_sequence},
    {"status", l_status},
    {"changes", l_changes},
    {"close", l_close},
    {"__gc", l_close},
    {"__close", l_close},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", l_open},
    {NULL, NULL},
};

int luaopen_praxlua_transaction(lua_State *L) {
    core_open(L, TYPE, methods, functions);
    lua_pushinteger(L, TRANSACTION_ROOM);
    lua_setfield(L, -2, "RESERVE_BYTES");
    lua_pushinteger(L, TRANSACTION_INODES);
    lua_setfield(L, -2, "RESERVE_INODES");
    return 1;
}
