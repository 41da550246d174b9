/*
** embedded.h: the Lua files that the executable carries in itself.
**
** embed.lua makes the array (generated/embedded.c) at build time. It is sorted by name and ended
** by an entry whose name is NULL. Names are paths in the source tree: "lua/praxlua/cli/init.lua" is
*the
** module "praxlua.cli", "lua/argparse.lua" the module "argparse", and
** "phases/0-pre-flight-checks.lua" a phase. '@' before the name makes the chunk name, so that
*messages show
** the same paths as when the files are loaded from a work tree.
*/
#ifndef PRAXLUA_EMBEDDED_H
#define PRAXLUA_EMBEDDED_H

#include <stddef.h>

extern const struct embedded {
    const char *name;
    const char *source; /* `size` bytes of Lua text, then a NUL */
    size_t size;
    const char *code; /* a module compiled, `code_size` bytes; NULL for what is no module */
    size_t code_size;
} embedded_files[];

#endif
