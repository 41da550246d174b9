/*
** core.h: what every primitive shares: its opening function, and the one shape of an error.
**
** A primitive is one file NAME.c with one public function luaopen_praxlua_NAME, which leaves its
** table of functions on the stack. An operation that fails returns nil, message, code to Lua;
** misuse of a function (wrong argument types) raises.
*/
#ifndef PRAXLUA_CORE_H
#define PRAXLUA_CORE_H

#include <lauxlib.h>
#include <lua.h>

/* Pushes nil, "STEP PATH: reason", "ECODE" for errno value `error` and returns 3. `path` may be
** NULL. The message names the failing step ("open", "rename") and the path. */
int core_errno(lua_State *L, int error, const char *step, const char *path);

/* Pushes nil, a formatted message (lua_pushfstring's directives) and `code`, and returns 3. */
int core_fail(lua_State *L, const char *code, const char *format, ...);

/* Conditions the kernel has no errno for. A C function may leave one in errno, and core_errno
** turns it into its message and code ("ENOTREG", "ECHANGED", "ETIMEDOUT") like any other. */
#define CORE_ENOTREG 4096  /* not a regular file */
#define CORE_ECHANGED 4097 /* changed while it was read */
#define CORE_ETIMEOUT 4098 /* its time is over (cancel.h) */

/* The symbolic name of an errno value ("ENOENT"), "EUNKNOWN" when it has none here. */
const char *core_errno_name(int error);

/* Reads an optional field of the table at `index`. A field of another type raises. */
lua_Integer core_opt_integer(lua_State *L, int index, const char *field, lua_Integer otherwise);
lua_Number core_opt_number(lua_State *L, int index, const char *field, lua_Number otherwise);
int core_opt_boolean(lua_State *L, int index, const char *field, int otherwise);
/* The string stays valid as long as it stays in the table. */
const char *core_opt_string(lua_State *L, int index, const char *field, const char *otherwise);

/* The usual end of a luaopen_ function: makes the metatable `type` with `methods` (metamethods
** among them) that is its own __index, and pushes a new table with `functions`. Returns 1. */
int core_open(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *functions);

/* A string argument without an embedded NUL; raises otherwise. */
const char *core_check_path(lua_State *L, int arg);

/*
** A resource that a C function holds while it calls functions of Lua that may raise. core_guard
** pushes a to-be-closed value; `release` is called once, when the C function returns or an error
** passes through it. The guard begins empty (fd -1, pointer NULL): acquire after pushing it.
** Guards are marked slots of the stack: do not pop, remove or replace them, only return over them.
** (Popping one with lua_settop can corrupt the stack of Lua 5.4.4; returning is safe.)
*/
struct core_guard {
    void (*release)(struct core_guard *guard); /* called even when still empty; errno is kept */
    int fd;
    void *pointer;
};
struct core_guard *core_guard(lua_State *L, void (*release)(struct core_guard *guard));

/* A guard's release function that closes `fd` when it is not negative. */
void core_guard_close(struct core_guard *guard);

/* The module "praxlua.core": a table with one field per primitive. */
int luaopen_praxlua_core(lua_State *L);

#endif
