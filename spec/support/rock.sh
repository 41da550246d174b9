#!/bin/sh
# rock.sh: builds and installs the rock from a copy of this work tree, as a fresh clone would, and
# tries what it installed. Prints "ok - ..." and "not ok - ..." lines.
set -u
scratch=$(mktemp -d "${TMPDIR:-/tmp}/praxlua-rock-XXXXXX") || exit 1
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
clone=$scratch/clone
tree=$scratch/tree
failed=0

check() { # check NAME COMMAND...
  name=$1
  shift
  if "$@" > "$scratch/output" 2>&1 < /dev/null; then
    echo "ok - $name"
  else
    echo "not ok - $name"
    sed 's/^/    /' "$scratch/output" | tail -20
    failed=1
  fi
}

mkdir -p "$clone"
LUA_PATH="./?.lua;;" lua5.4 -e 'print(table.concat(require("spec.support.sources").list(), "\n"))' |
  tar -c --no-recursion -T - | tar -x -C "$clone"

# LuaRocks must not see the build of the calling make, nor write to the user's home.
unset MAKEFLAGS MFLAGS MAKELEVEL B LUA_PATH LUA_CPATH PRAXLUA_PATH PRAXLUA_HOST
unset SANITIZE COVERAGE STRICT
export HOME="$scratch"

cd "$clone" || exit 1

rocks() { luarocks --lua-version 5.4 "$@"; }

in_tree() {
  env LUA_PATH="$tree/share/lua/5.4/?.lua;$tree/share/lua/5.4/?/init.lua;;" \
    LUA_CPATH="$tree/lib/lua/5.4/?.so;;" "$@"
}

check "luarocks make builds and installs the rock" \
  rocks make --deps-mode none rocks/praxlua-scm-1.rockspec --tree "$tree"
cd / || exit 1
check "the rock's praxlua command runs" "$tree/bin/praxlua" --version
check "require \"praxlua\" works with a stock Lua" \
  in_tree lua5.4 -e 'assert(type(require("praxlua")) == "table")'
check "require \"praxlua.core\" works with a stock Lua" in_tree lua5.4 -e \
  'assert(require("praxlua.core").hash.sha256("") :sub(1, 8) == "e3b0c442")'
cd "$tree" || exit 1
check "luarocks remove leaves no file of ours" sh -c "
  luarocks --lua-version 5.4 --tree '$tree' remove praxlua &&
    ! find . -path '*praxlua*' -type f | grep ."
exit "$failed"
