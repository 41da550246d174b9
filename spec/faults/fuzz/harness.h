/*
** harness.h: what the fuzz targets share. See harness.c.
**
** A target takes any bytes. What it must not do with them is a finding: a report of a sanitizer, an
** uncaught error, a result of another shape than documented, a write outside, too long, too much
** memory. A target that finds one of the last five says so with fuzz_finding.
*/
#ifndef PRAXLUA_FUZZ_HARNESS_H
#define PRAXLUA_FUZZ_HARNESS_H

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t size);
} fuzz_target;

/* One target each of frame.c, archive.c, journal.c, http.c. Every other name is a function of
** targets.lua, which lua.c calls. */
extern const fuzz_target fuzz_frame, fuzz_archive, fuzz_journal, fuzz_http;
extern const char *fuzz_name; /* of the target that runs */
void fuzz_lua(const uint8_t *data, size_t size);

/* Says what is wrong and aborts. */
_Noreturn void fuzz_finding(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An own directory that is empty at first and removed at the end. */
const char *fuzz_scratch(void);

/* Replaces a file by plain means. Raises nothing; a failure ends the program. */
void fuzz_write(const char *path, const void *data, size_t size);

/* Removes a tree beneath the scratch directory, as far as it exists. */
void fuzz_remove(const char *path);

/* A Lua state with all standard libraries and ours (praxlua.*, lfs, cjson), limits on memory and
** instructions, and its lines reported to libFuzzer as coverage. */
lua_State *fuzz_state(void);

/* Begins another input: the budget of instructions is full again. */
void fuzz_budget(size_t input_size);

/* Calls a function with `arguments` on the stack above it, of which `results` stay; an error is a
** finding. */
void fuzz_call(lua_State *L, int arguments, int results);

#endif
