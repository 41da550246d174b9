#!/bin/sh
# history.sh CONTENT SOURCE SERVER: makes SOURCE, a clone of CONTENT in which every commit ships a
# server, too (the files in SERVER). It is the same in all of them, so that it does not tell them
# apart. The content stays as it is.
set -eu
content=$1 source=$2 server=$3
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.invalid
export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.invalid
git clone -q --no-checkout "$content" "$source"
cd "$source"
export GIT_INDEX_FILE=.git/made
parent=
add() { git update-index --add --cacheinfo "100644,$1,mcp_server/$2"; }
empty=$(git hash-object -w /dev/null)
fault=$(git hash-object -w "$server/fault")
code=$(git hash-object -w "$server/server.lua")
for commit in $(git rev-list --reverse --first-parent origin/main); do
  GIT_AUTHOR_DATE=$(git show -s --format=%ad --date=raw "$commit")
  GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
  export GIT_AUTHOR_DATE GIT_COMMITTER_DATE
  git read-tree "$commit"
  add "$fault" fault
  add "$code" server.lua
  add "$empty" __init__.py
  parent=$(git commit-tree ${parent:+-p "$parent"} -m release "$(git write-tree)")
done
unset GIT_INDEX_FILE
git update-ref refs/heads/main "$parent"
git remote remove origin
git checkout -q main
