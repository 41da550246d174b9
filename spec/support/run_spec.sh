#!/bin/sh
# run_spec.sh SPEC_FILE: runs one spec file in a process of its own and says how it went.
#
# The spec gets an empty TMPDIR, which must be empty again afterwards. TMPDIR is also the mark by
# which a process that the spec left behind is found: it has it in its environment, or works there.
# From the environment: RESULTS (a directory), LUA, SPEC_SECONDS (time limit), BUSTED_OPTIONS, TMPDIR
# (where its directory is made), and ON_DISK, the specs that get one in DISK instead.
# Writes RESULTS/NAME.tsv (see results.lua); prints everything at once when the spec has ended.
set -u
spec=$1
name=$(echo "${spec%_spec.lua}" | tr / -)
results=$RESULTS/$name.tsv
log=$RESULTS/$name.log
case " ${ON_DISK:-} " in *" $spec "*) TMPDIR=$DISK ;; esac
scratch=$(mktemp -d "${TMPDIR:-/tmp}/praxlua-test-XXXXXX") || exit 1
began=$(date +%s%N)

: > "$results"
# shellcheck disable=SC2086 # several options
env TMPDIR="$scratch" PRAXLUA_RESULTS="$results" timeout --kill-after=10 "$SPEC_SECONDS" \
  "$LUA" spec/support/busted.lua -o spec/support/results.lua $BUSTED_OPTIONS "$spec" \
  > "$log" 2>&1 < /dev/null
status=$?

fail() {
  printf 'failed\t%s\n' "$1" >> "$results"
  printf '    FAILED %s\n' "$1" >> "$log"
}

if [ "$status" = 124 ] || [ "$status" = 137 ]; then
  fail "$spec was stopped after $SPEC_SECONDS s"
elif ! grep -qx end "$results"; then
  fail "$spec died with status $status before its end"
fi

left_behind() {
  {
    grep -lzs "^TMPDIR=$scratch" /proc/[0-9]*/environ
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$scratch*" 2> /dev/null
  } | tr -dc '0-9\n' | sort -u
}
for _ in 1 2 3 4 5 6 7 8 9 10; do # a process that is just ending is given a second
  [ -n "$(left_behind)" ] || break
  sleep 0.1
done
for pid in $(left_behind); do
  fail "left process $pid behind: $(tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null)"
  kill -9 "$pid" 2> /dev/null
done
if [ -n "$(ls -A "$scratch")" ]; then
  fail "left files behind: $(ls -A "$scratch" | head -5 | tr '\n' ' ')"
fi
chmod -R u+rwx "$scratch" 2> /dev/null
rm -rf "$scratch"

count() { grep -c "^$1$(printf '\t')" "$results"; }
tenths=$((($(date +%s%N) - began) / 100000000))
{
  printf '  %-46s %3d passed' "$spec" "$(count passed)"
  [ "$(count failed)" = 0 ] || printf ', %d FAILED' "$(count failed)"
  [ "$(count skipped)" = 0 ] || printf ', %d skipped' "$(count skipped)"
  printf '  (%d.%d s)\n' $((tenths / 10)) $((tenths % 10))
  cat "$log"
} > "$log.all"
cat "$log.all"
